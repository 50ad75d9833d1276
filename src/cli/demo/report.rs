//! What is said at the end of a run: what went in, what became of it, what it cost, and whether the promises held.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use serde::Serialize;

use super::{
    checks::{Checked, Persons},
    evidence::{CrmEvidence, Evidence},
    generator::{Kind, SOURCES},
    run::Options,
};
use crate::{
    config::CrmKind,
    contact::{ContactId, Version},
    event::{OutcomeKind, outcome::ANY_CRM},
    sandbox::Action,
};

/// Sections of README.md for whoever wants to go on.
const NEXT: [&str; 3] = ["Beside a real Kafka", "What is promised", "Read the code"];

/// The report, in the form of `--json`.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub ok: bool,
    pub seed: u64,
    pub elapsed_ms: u128,
    pub checks: BTreeMap<&'static str, Checked>,
    /// Events sent.
    pub events: usize,
    pub events_by_kind: BTreeMap<Kind, usize>,
    /// Contacts that the program ever made of them.
    pub contacts: usize,
    /// Who is who, against the truth.
    pub people: Persons,
    /// By CRM.
    pub calls: BTreeMap<String, Calls>,
    /// By CRM (`*`: before the fan-out) and outcome.
    pub outcomes: BTreeMap<String, BTreeMap<OutcomeKind, usize>>,
    #[serde(skip)]
    order: Vec<&'static str>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Calls {
    pub total: usize,
    pub accepted: usize,
    /// By status; those without an answer under `lost`.
    pub failed: BTreeMap<String, usize>,
    /// Calls for each entry of the work list.
    pub per_event: f64,
    /// Calls that only ask; in `total`, too.
    pub look_ups: usize,
    /// Calls that are about no contact: logins, and lists that contacts refer to; in `total`, too.
    pub others: usize,
    /// Creates that a second call completes, of a CRM where they can say no more than a name.
    pub begun: usize,
    /// Delivered outcomes that a look at the contact may have been enough for, of a CRM that is read before it is changed: a
    /// version was made known and overtaken, before anything of it was sent, by one that takes it back.
    pub taken_back: usize,
    /// Calls that took effect, though whoever called was not told: of all kinds, and creates alone.
    pub lost_answers: usize,
    pub lost_creates: usize,
    /// Contacts that it holds, and how many of them are there already under the same id of ours.
    pub stored: usize,
    pub duplicates: usize,
}

impl Calls {
    fn of(crm: &CrmEvidence, evidence: &Evidence) -> Self {
        let entries = evidence.entries.len();
        let mut failed: BTreeMap<String, usize> = BTreeMap::new();
        for call in crm.calls.iter().filter(|call| !call.was_accepted()) {
            let status = call.status.filter(|_| call.answered);
            *failed.entry(status.map_or_else(|| "lost".to_owned(), |status| status.to_string())).or_default() += 1;
        }
        let total = crm.calls.len();
        let accepted = total - failed.values().sum::<usize>();
        // Rounded: nobody wants to read the rest.
        let per_event = (total as f64 / entries.max(1) as f64 * 1_000.0).round() / 1_000.0;
        let unheard = || crm.calls.iter().filter(|call| call.effect.is_some() && !call.was_accepted());
        let ids: BTreeSet<_> = crm.stored.iter().map(|stored| &stored.external_id).collect();
        Self {
            total,
            accepted,
            failed,
            per_event,
            look_ups: crm.calls.iter().filter(|call| call.is_read()).count(),
            others: crm.calls.iter().filter(|call| call.action == Action::Other).count(),
            begun: crm.calls.iter().filter(|call| call.begins).count(),
            taken_back: taken_back(crm, evidence),
            lost_answers: unheard().count(),
            lost_creates: unheard().filter(|call| call.action == Action::Create).count(),
            stored: crm.stored.len(),
            duplicates: crm.stored.len() - ids.len(),
        }
    }
}

/// Deliveries of what was there already, by versions that overtook others.
fn taken_back(crm: &CrmEvidence, evidence: &Evidence) -> usize {
    if !matches!(crm.expectation.kind(), CrmKind::CrmCom | CrmKind::Logisense) {
        return 0;
    }
    let content: BTreeMap<_, _> = evidence
        .records
        .iter()
        .map(|record| ((record.contact_id, record.version), crm.expectation.of(record, true)))
        .collect();
    let of_crm = || evidence.outcomes.iter().filter(|outcome| outcome.crm == crm.name);
    let overtakers: BTreeSet<_> =
        of_crm().filter_map(|outcome| Some((outcome.contact_id?, outcome.by_version?))).collect();
    let delivered = of_crm().filter(|outcome| outcome.outcome == OutcomeKind::Delivered);
    let delivered: BTreeSet<_> =
        delivered.filter_map(|outcome| Some((outcome.contact_id?, outcome.version?))).collect();
    let in_turn = delivered.iter().zip(delivered.iter().skip(1));
    let is_there_already = |(before, now): &(&(ContactId, Version), &(ContactId, Version))| {
        let [before_it, of_it] = [before, now].map(|version| content.get(version).and_then(Option::as_ref));
        before.0 == now.0 && overtakers.contains(now) && of_it.is_some() && of_it == before_it
    };
    in_turn.filter(is_there_already).count()
}

impl Report {
    pub(super) fn new(
        options: Options,
        sent: &[Kind],
        evidence: &Evidence,
        people: Persons,
        checked: Vec<Checked>,
        elapsed: Duration,
    ) -> Self {
        let mut events_by_kind: BTreeMap<Kind, usize> = BTreeMap::new();
        for kind in sent {
            *events_by_kind.entry(*kind).or_default() += 1;
        }
        let mut outcomes: BTreeMap<String, BTreeMap<OutcomeKind, usize>> = BTreeMap::new();
        for outcome in &evidence.outcomes {
            *outcomes.entry(outcome.crm.to_string()).or_default().entry(outcome.outcome).or_default() += 1;
        }
        let contacts: BTreeSet<_> = evidence.records.iter().map(|record| record.contact_id).collect();
        let calls = |crm: &CrmEvidence| (crm.name.to_string(), Calls::of(crm, evidence));
        Self {
            ok: checked.iter().all(|checked| checked.ok),
            seed: options.scale.seed,
            elapsed_ms: elapsed.as_millis(),
            events: sent.len(),
            events_by_kind,
            contacts: contacts.len(),
            people,
            calls: evidence.crms.iter().map(calls).collect(),
            outcomes,
            order: checked.iter().map(|checked| checked.name).collect(),
            checks: checked.into_iter().map(|checked| (checked.name, checked)).collect(),
        }
    }
}

fn listed<K: fmt::Display>(counts: impl IntoIterator<Item = (K, usize)>) -> String {
    let counts: Vec<String> = counts.into_iter().map(|(what, count)| format!("{count} {what}")).collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { events: sent, events_by_kind, people, .. } = self;
        writeln!(f, "Sent in: {sent} events of {} sources (seed {})", SOURCES.len(), self.seed)?;
        writeln!(f, "  {}", listed(events_by_kind.iter().map(|(kind, count)| (kind.as_str(), *count))))?;
        let Persons { live, found, of_several_sources, contacts, joined_wrongly, split, missing } = people;
        writeln!(
            f,
            "\nWho is who: {live} people, {of_several_sources} of them known to several sources; {contacts} contacts made"
        )?;
        writeln!(
            f,
            "  {found} found, {joined_wrongly} joined wrongly, {split} split, {missing} source records missing"
        )?;
        writeln!(f, "\nWhat became of them")?;
        for (crm, kinds) in &self.outcomes {
            let whose = if crm == ANY_CRM { "before any CRM" } else { crm };
            writeln!(f, "  {whose}: {}", listed(kinds.iter().map(|(kind, count)| (kind, *count))))?;
        }
        writeln!(f, "\nWhat it took")?;
        for (crm, calls) in &self.calls {
            let Calls { total, per_event, look_ups, others, lost_answers, lost_creates, stored, .. } = calls;
            let Calls { duplicates, failed, .. } = calls;
            let failed = listed(failed.iter().map(|(status, count)| (format!("× {status}"), *count)));
            writeln!(
                f,
                "  {crm}: {total} calls, {per_event:.2} for each change, {look_ups} look-ups, {others} logins and lists; \
                 failed: {failed}"
            )?;
            writeln!(
                f,
                "    {lost_answers} effects whose answer was lost, {lost_creates} of them creates; {stored} contacts \
                 stored, {duplicates} twice"
            )?;
        }
        writeln!(f, "\nWhat was promised, checked against the topics and the CRMs' own books")?;
        for checked in self.order.iter().filter_map(|name| self.checks.get(name)) {
            let tick = if checked.ok { '✓' } else { '✗' };
            writeln!(f, "  {tick} {}: {}", checked.name.replace('_', " "), checked.detail)?;
        }
        let seconds = self.elapsed_ms as f64 / 1_000.0;
        if self.ok {
            writeln!(f, "\nEvery promise held, in {seconds:.1} s. Where to go next in README.md: {}.", NEXT.join(", "))
        } else {
            let broken = self.checks.values().filter(|checked| !checked.ok).count();
            let seed = self.seed;
            writeln!(
                f,
                "\nPromises that did NOT hold: {broken}, in {seconds:.1} s. Run it with --seed {seed} --log info."
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::generator::Scale;

    fn report(ok: bool) -> Report {
        let options = Options { scale: Scale { seed: 7, events: 2, contacts: 1 }, faults: true };
        let people = Persons { live: 3, found: 2, split: 1, ..Persons::default() };
        let checked = |name, ok| Checked { name, ok, detail: format!("detail of {name}") };
        let checked = vec![checked("second_by_name", true), checked("first_by_name", ok)];
        let sent = [Kind::Created, Kind::DeletedByNull];
        Report::new(options, &sent, &Evidence::default(), people, checked, Duration::from_millis(1_250))
    }

    #[test]
    fn a_check_that_failed_fails_the_report_and_is_seen_in_it() {
        let (good, bad) = (report(true), report(false));
        assert!(good.ok && !bad.ok);
        assert!(good.to_string().contains("Every promise held, in 1.2 s"), "{good}");
        let text = bad.to_string();
        for says in ["✓ second by name: detail", "✗ first by name: detail", "did NOT hold: 1", "--seed 7"] {
            assert!(text.contains(says), "{text}");
        }
        assert!(text.find("second by name") < text.find("first by name"), "in the order of the checks");
    }

    #[test]
    fn the_sections_it_names_are_there() {
        let readme = include_str!("../../../README.md");
        for section in NEXT {
            assert!(readme.lines().any(|line| line == format!("## {section}")), "{section}");
        }
    }

    #[test]
    fn the_json_has_the_members_that_scripts_rely_on() {
        let json = serde_json::to_value(report(true)).unwrap();
        assert_eq!(json["ok"], true);
        assert_eq!(json["seed"], 7);
        assert_eq!(json["elapsed_ms"], 1_250);
        assert_eq!(json["events_by_kind"], serde_json::json!({"created": 1, "deleted_by_null": 1}));
        let check = serde_json::json!({"ok": true, "detail": "detail of first_by_name"});
        assert_eq!(json["checks"]["first_by_name"], check);
        assert_eq!((&json["people"]["found"], &json["people"]["split"]), (&2.into(), &1.into()));
        assert!(json["calls"].is_object() && json["outcomes"].is_object());
    }
}
