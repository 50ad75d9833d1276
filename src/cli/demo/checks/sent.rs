//! What the senders of events know, against what the topics say: what was accepted is there, and what was sent again because
//! nobody said whether it was accepted counts once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Checked, Findings, Place, at, place, place_of};
use crate::{
    cli::demo::evidence::Evidence,
    event::{Outcome, OutcomeKind, ReasonCode, outcome::ANY_CRM},
    log::Record,
};

/// Names an event: its `source` and its `id`, as they are in it.
pub type EventName = (String, String);

/// What the senders know of an event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sending {
    /// How often it left, whatever became of it.
    pub times_sent: usize,
    /// How often somebody said that it is kept.
    pub times_accepted: usize,
}

/// The name of an event in binary or in structured form; `None` if it has none that can be read.
pub fn name_of(record: &Record) -> Option<EventName> {
    let header = |name: &str| Some(String::from_utf8_lossy(record.header(name)?).into_owned());
    if let (Some(source), Some(id)) = (header("ce_source"), header("ce_id")) {
        return Some((source, id));
    }
    let event: Value = serde_json::from_slice(record.value.as_deref()?).ok()?;
    let text = |name: &str| Some(event.get(name)?.as_str()?.to_owned());
    Some((text("source")?, text("id")?))
}

/// Each event is in the input topic at least as often as it was accepted, at most as often as it was sent, and nothing else
/// is there. Those whose name cannot be read count together, under an empty one.
pub fn everything_accepted_is_in_the_log(evidence: &Evidence, sent: &BTreeMap<EventName, Sending>) -> Checked {
    let mut findings = Findings::of("everything_accepted_is_in_the_log");
    let mut found: BTreeMap<EventName, usize> = BTreeMap::new();
    for record in &evidence.inputs {
        *found.entry(name_of(record).unwrap_or_default()).or_default() += 1;
    }
    for (name, sending) in sent {
        let times = found.remove(name).unwrap_or(0);
        let Sending { times_sent, times_accepted } = *sending;
        findings.ensure((times_accepted..=times_sent).contains(&times), || {
            format!(
                "{:?} was sent {times_sent} times, accepted {times_accepted} times, and is there {times} times",
                name.1
            )
        });
    }
    for (_, id) in found.keys() {
        findings.fault(format!("{id:?} is there and was never sent"));
    }
    findings.ensure(!sent.is_empty(), || "nothing was sent".to_owned());
    findings.verdict(format!("{} events", sent.len()))
}

/// Of several records of one event only the first is decided: all others are duplicates, or end as the first did, if that
/// was not accepted and so nothing was kept to know it by.
pub fn what_was_sent_again_counts_once(evidence: &Evidence) -> Checked {
    let mut findings = Findings::of("what_was_sent_again_counts_once");
    let early = evidence.outcomes.iter().filter(|outcome| &*outcome.crm == ANY_CRM);
    let ended: BTreeMap<Place, &Outcome> =
        early.filter_map(|outcome| Some((place(outcome.event.as_ref()?), outcome))).collect();
    let entries: BTreeSet<Place> =
        evidence.entries.iter().filter_map(|entry| entry.event.as_ref().map(place)).collect();
    let mut events: BTreeMap<EventName, Vec<Place>> = BTreeMap::new();
    for record in &evidence.inputs {
        if let Some(name) = name_of(record) {
            events.entry(name).or_default().push(place_of(record));
        }
    }
    let mut repeats = 0_usize;
    for ((_, id), mut places) in events {
        places.sort_unstable();
        let end = |place| ended.get(place).map(|outcome| outcome.outcome);
        let [first, rest @ ..] = places.as_slice() else { continue };
        let same_event = ended.get(first).and_then(|outcome| outcome.reason.as_ref());
        let taken_for_a_repeat = same_event.is_some_and(|reason| reason.code == ReasonCode::SameEvent);
        findings.ensure(!taken_for_a_repeat, || format!("{id} at {} is taken for a repeat", at(first)));
        for again in rest {
            repeats += 1;
            let fits = match end(again) {
                Some(OutcomeKind::Duplicate) => true,
                Some(kind) => end(first) == Some(kind) && !entries.contains(first),
                None => false,
            };
            findings.ensure(fits, || format!("{id} at {}, sent again, ended as {:?}", at(again), end(again)));
        }
    }
    findings.verdict(format!("{repeats} repeats count once"))
}
