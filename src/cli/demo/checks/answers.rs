//! What the topics say: every input ended, every entry was answered, and the records agree with them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Checked, Findings, Place, at, by_version, place, place_of};
use crate::{
    cli::demo::evidence::Evidence,
    contact::{ContactId, ContactRecord, Version},
    event::{
        Entry, Outcome, OutcomeKind,
        entry::{Cause, CauseKind},
        outcome::ANY_CRM,
    },
    log::Record,
};

/// How often each event ended before the fan-out, or went on to it.
fn ends_of_events(evidence: &Evidence) -> BTreeMap<Place, usize> {
    let early = evidence.outcomes.iter().filter(|outcome| &*outcome.crm == ANY_CRM);
    let early = early.filter_map(|outcome| outcome.event.as_ref());
    let entries = evidence.entries.iter().filter_map(|entry| entry.event.as_ref());
    let mut ends = BTreeMap::new();
    for event in early.chain(entries) {
        *ends.entry(place(event)).or_default() += 1;
    }
    ends
}

/// Each record of the input topics has exactly one outcome before the fan-out, or exactly one entry of the work list.
pub fn every_input_is_accounted_for(evidence: &Evidence) -> Checked {
    let mut findings = Findings::of("every_input_is_accounted_for");
    let mut ends = ends_of_events(evidence);
    for record in &evidence.inputs {
        let times = ends.remove(&place_of(record)).unwrap_or(0);
        findings.ensure(times == 1, || format!("{record:?} has {times} ends"));
    }
    for place in ends.keys() {
        findings.fault(format!("{} has an end, but there is no such input", at(place)));
    }
    findings.verdict(format!("{} inputs, each with one end", evidence.inputs.len()))
}

/// Whether every CRM is to answer for the entry. What an operator asks of one CRM stands outside the accounting.
fn is_for_all(entry: &Entry) -> bool {
    entry.cause.as_ref().is_none_or(|cause| cause.kind == CauseKind::Merge)
}

/// Says what is still to come in these CRMs, as far as it can be known from what came; empty when all has settled.
pub fn unsettled(evidence: &Evidence, crms: &[Arc<str>]) -> Vec<String> {
    let ends = ends_of_events(evidence);
    let inputs = evidence.inputs.iter().filter(|record| !ends.contains_key(&place_of(record)));
    let inputs = inputs.map(|record| format!("{record:?} is not decided"));
    let answered: BTreeSet<String> = evidence.outcomes.iter().map(Outcome::id).collect();
    let unanswered = evidence.entries.iter().filter(|entry| is_for_all(entry)).flat_map(|entry| {
        let missing = crms.iter().filter(|crm| !answered.contains(&id_of_answer(entry, crm)));
        missing.map(|crm| format!("{} version {} has no outcome in {crm}", entry.contact_id, entry.version))
    });
    inputs.chain(unanswered).collect()
}

/// The id that the answer to `entry` has in `crm`.
fn id_of_answer(entry: &Entry, crm: &str) -> String {
    match (&entry.cause, &entry.event) {
        (Some(Cause { kind, id }), _) => format!("cause/{kind}/{id}/{}/{crm}", entry.contact_id),
        (None, Some(event)) => format!("event/{}/{}/{}/{crm}", event.topic, event.partition, event.offset),
        (None, None) => format!("nothing/{}/{}/{crm}", entry.contact_id, entry.version),
    }
}

/// Each entry has exactly one outcome in each CRM, about the same contact and version; there is none without an entry,
/// and no id twice.
pub fn every_entry_has_one_outcome_per_crm(evidence: &Evidence) -> Checked {
    let mut findings = Findings::of("every_entry_has_one_outcome_per_crm");
    let mut by_id: BTreeMap<String, Vec<&Outcome>> = BTreeMap::new();
    for outcome in &evidence.outcomes {
        by_id.entry(outcome.id()).or_default().push(outcome);
    }
    for (id, outcomes) in &by_id {
        findings.ensure(outcomes.len() == 1, || format!("the outcome {id} is there {} times", outcomes.len()));
    }
    let mut answered = 0_usize;
    for entry in &evidence.entries {
        for crm in &evidence.crms {
            let id = id_of_answer(entry, &crm.name);
            let name = || format!("{} version {} in {}", entry.contact_id, entry.version, crm.name);
            match by_id.remove(&id).as_deref() {
                Some([outcome, ..]) => {
                    answered += 1;
                    let same = (outcome.contact_id, outcome.version) == (Some(entry.contact_id), Some(entry.version));
                    findings.ensure(same, || format!("the outcome {id} is about another contact or version"));
                }
                Some([]) | None if !is_for_all(entry) => {}
                Some([]) | None => findings.fault(format!("{} has no outcome", name())),
            }
        }
    }
    by_id.retain(|_, outcomes| outcomes.iter().any(|outcome| &*outcome.crm != ANY_CRM));
    for id in by_id.keys() {
        findings.fault(format!("the outcome {id} answers no entry"));
    }
    findings.ensure(!evidence.crms.is_empty(), || "no CRM to judge".to_owned());
    let (entries, crms) = (evidence.entries.len(), evidence.crms.len());
    findings.verdict(format!("{answered} outcomes for {entries} entries and {crms} CRMs"))
}

/// What superseded a version is newer and has an outcome itself, so that whoever follows it comes to an end.
pub fn superseded_points_forward(evidence: &Evidence) -> Checked {
    let mut findings = Findings::of("superseded_points_forward");
    let mut judged = 0_usize;
    for crm in &evidence.crms {
        let outcomes = by_version(evidence, &crm.name);
        for ((contact, version), outcome) in &outcomes {
            let name = || format!("{contact} version {version} in {}", crm.name);
            if outcome.outcome != OutcomeKind::Superseded {
                findings.ensure(outcome.by_version.is_none(), || format!("{} names a successor", name()));
                continue;
            }
            judged += 1;
            match outcome.by_version {
                None => findings.fault(format!("{} was superseded by nothing", name())),
                Some(by) if by <= *version => findings.fault(format!("{} was superseded by {by}", name())),
                // Each step rises, so a chain of steps that are all there ends.
                Some(by) if outcomes.contains_key(&(*contact, by)) => {}
                Some(by) => findings.fault(format!("{} was superseded by {by}, which has no outcome", name())),
            }
        }
    }
    findings.verdict(format!("{judged} superseded versions lead to an end"))
}

/// The versions of each contact rise by one, from 1, each with its entry, and the newest record has the last of them.
///
/// A record may be written again under its version, since it also keeps what was accepted without changing anything; what
/// it says of the contact is then the same.
pub fn contact_ids_and_versions_rise_by_one(evidence: &Evidence) -> Checked {
    let mut findings = Findings::of("contact_ids_and_versions_rise_by_one");
    let mut reached: BTreeMap<ContactId, Version> = BTreeMap::new();
    for entry in evidence.entries.iter().filter(|entry| is_for_all(entry)) {
        let version = reached.entry(entry.contact_id).or_insert(0);
        let (before, after) = (*version, entry.version);
        findings.ensure(after == before + 1, || format!("{} goes from {before} to {after}", entry.contact_id));
        *version = after;
    }
    let mut recorded: BTreeMap<ContactId, &ContactRecord> = BTreeMap::new();
    for record in &evidence.records {
        let (contact, after) = (record.contact_id, record.version);
        let Some(before) = recorded.insert(contact, record) else { continue };
        if before.version == after {
            let same = (before.status, &before.contact) == (record.status, &record.contact);
            findings.ensure(same, || format!("{contact} has two records of version {after} that differ"));
        } else {
            let before = before.version;
            findings.ensure(after > before, || format!("a record of {contact} goes from {before} to {after}"));
        }
    }
    for contact in reached.keys().chain(recorded.keys()).collect::<BTreeSet<_>>() {
        let (entries, record) = (reached.get(contact), recorded.get(contact).map(|record| &record.version));
        findings.ensure(entries == record, || {
            format!("{contact}: the last entry has version {entries:?}, the newest record {record:?}")
        });
    }
    findings.verdict(format!("{} contacts, {} versions", recorded.len(), evidence.entries.len()))
}

/// What could not be read is kept as it came in: key, value and headers, with the same reason as its outcome.
pub fn every_quarantined_event_is_a_dead_letter_byte_for_byte(evidence: &Evidence) -> Checked {
    let mut findings = Findings::of("every_quarantined_event_is_a_dead_letter_byte_for_byte");
    let inputs: BTreeMap<Place, &Record> = evidence.inputs.iter().map(|record| (place_of(record), record)).collect();
    let mut letters: BTreeMap<Place, Vec<_>> = BTreeMap::new();
    for letter in &evidence.dead_letters {
        letters.entry((letter.topic.clone(), letter.partition, letter.offset)).or_default().push(letter);
    }
    let quarantined = evidence.outcomes.iter().filter(|outcome| outcome.outcome == OutcomeKind::Quarantined);
    let mut judged = 0_usize;
    for outcome in quarantined {
        judged += 1;
        let Some(place) = outcome.event.as_ref().map(place) else {
            findings.fault(format!("{} is quarantined without a place", outcome.id()));
            continue;
        };
        let found = letters.remove(&place).unwrap_or_default();
        let [letter] = found.as_slice() else {
            findings.fault(format!("{} has {} dead letters", at(&place), found.len()));
            continue;
        };
        let Some(input) = inputs.get(&place) else {
            findings.fault(format!("{} is quarantined, but there is no such input", at(&place)));
            continue;
        };
        let same = (&letter.key, &letter.value, &letter.headers) == (&input.key, &input.value, &input.headers);
        findings.ensure(same, || format!("the dead letter of {} is not what came in", at(&place)));
        let code = outcome.reason.as_ref().map(|reason| reason.code);
        findings.ensure(code == Some(letter.code), || {
            format!("{} is said to be {code:?} and kept as {}", at(&place), letter.code)
        });
    }
    for place in letters.keys() {
        findings.fault(format!("{} is a dead letter, but not quarantined", at(place)));
    }
    findings.verdict(format!("{judged} dead letters"))
}

/// Whatever this program wrote to its topics can be read as what it is.
pub fn everything_published_can_be_read(evidence: &Evidence) -> Checked {
    let mut findings = Findings::of("everything_published_can_be_read");
    for unreadable in &evidence.unreadable {
        findings.fault(unreadable);
    }
    let read = evidence.entries.len() + evidence.records.len() + evidence.outcomes.len() + evidence.dead_letters.len();
    findings.verdict(format!("{read} records"))
}
