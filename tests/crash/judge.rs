//! The promises, held against the log's folder, the CRMs' books, and what the senders were answered.
//!
//! What the demo checks is checked by the same words; what only senders can know comes on top.

use std::{collections::BTreeMap, time::Duration};

use contact_replicator::{
    cli::demo::{
        checks::{self, Checked},
        evidence::Evidence,
    },
    event::{Outcome, OutcomeKind},
    log::Record,
};
use serde_json::Value;

use crate::load::Sent;

/// What is told of a run beside the verdict.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) seed: u64,
    pub(crate) kills: usize,
    pub(crate) compacting: bool,
    pub(crate) took: Duration,
    /// From the last kill until all had settled.
    pub(crate) settling: Duration,
    /// Times until workers were ready, in order of length.
    pub(crate) ready: Vec<Duration>,
}

/// Judges by all checks. `complete` says that no record was compacted away; without that, the content of requests cannot
/// be told for versions that nobody has any more.
#[track_caller]
pub(crate) fn assert_promises(told: &Told, evidence: &Evidence, sent: &Sent, complete: bool) {
    let mut checked = checks::all(evidence);
    checked.retain(|checked| complete || checked.name != "order_per_contact");
    checked.insert(0, everything_accepted_is_in_the_log(evidence, sent));
    checked.insert(1, what_was_sent_again_counts_once(evidence));

    let Told { seed, kills, compacting, took, settling, ready } = told;
    let events = sent.len();
    let resent = sent.values().filter(|sending| sending.times_sent > 1).count();
    let twice = evidence.inputs.len().saturating_sub(events);
    eprintln!(
        "seed {seed}: {kills} kills in {took:.1?}, settled {settling:.1?} after the last, compacting {compacting}"
    );
    eprintln!("  {events} events accepted, {resent} of them sent again, {twice} of these twice in the log");
    if let [least, .., most] = ready.as_slice() {
        let median = ready[ready.len() / 2];
        eprintln!("  {} times ready after {least:.2?} to {most:.2?}, median {median:.2?}", ready.len());
    }
    for crm in &evidence.crms {
        let writes = crm.calls.iter().filter(|call| call.effect.is_some()).count();
        let ended = |outcome: &&Outcome| outcome.crm == crm.name && outcome.outcome == OutcomeKind::Delivered;
        let delivered = evidence.outcomes.iter().filter(ended).count();
        let (calls, repeats) = (crm.calls.len(), writes.saturating_sub(delivered));
        eprintln!(
            "  {}: {calls} calls, {writes} writes for {delivered} delivered versions, {repeats} repeats",
            crm.name
        );
    }
    for Checked { name, ok, detail } in &checked {
        eprintln!("  {} {name}: {detail}", if *ok { "holds " } else { "BROKEN" });
    }
    let broken: Vec<&str> = checked.iter().filter(|checked| !checked.ok).map(|checked| checked.name).collect();
    assert!(broken.is_empty(), "seed {seed}: broken: {broken:?}");
}

/// Source and id of an event, which HTTP ingest writes as headers or as JSON, as it came.
fn identity(record: &Record) -> Option<(String, String)> {
    let header = |name: &str| Some(String::from_utf8_lossy(record.header(name)?).into_owned());
    if let (Some(source), Some(id)) = (header("ce_source"), header("ce_id")) {
        return Some((source, id));
    }
    let event: Value = serde_json::from_slice(record.value.as_deref()?).ok()?;
    let text = |name: &str| Some(event.get(name)?.as_str()?.to_owned());
    Some((text("source")?, text("id")?))
}

/// Each accepted event is in the input topic, at most as often as it was sent, and nothing else is there.
fn everything_accepted_is_in_the_log(evidence: &Evidence, sent: &Sent) -> Checked {
    let mut faults = Vec::new();
    let mut found: BTreeMap<(String, String), usize> = BTreeMap::new();
    for record in &evidence.inputs {
        match identity(record) {
            Some(identity) => *found.entry(identity).or_default() += 1,
            None => faults.push(format!("{record:?} is no event")),
        }
    }
    for ((source, id), sending) in sent {
        let times = found.remove(&(source.clone(), id.clone())).unwrap_or(0);
        let least = usize::from(sending.accepted);
        if !(least..=sending.times_sent).contains(&times) {
            faults.push(format!("{id} was sent {} times and is there {times} times", sending.times_sent));
        }
    }
    faults.extend(found.keys().map(|(_, id)| format!("{id} is there and was never sent")));
    verdict("everything_accepted_is_in_the_log", faults, format!("{} events", sent.len()))
}

/// Of several records of one event the first is decided, and all others are duplicates.
fn what_was_sent_again_counts_once(evidence: &Evidence) -> Checked {
    let mut faults = Vec::new();
    let mut ended = BTreeMap::new();
    for outcome in evidence.outcomes.iter().filter(|outcome| &*outcome.crm == "*") {
        if let Some(event) = &outcome.event {
            ended.insert((event.topic.clone(), event.partition, event.offset), outcome.outcome);
        }
    }
    let mut events: BTreeMap<(String, String), Vec<&Record>> = BTreeMap::new();
    for record in &evidence.inputs {
        events.entry(identity(record).unwrap_or_default()).or_default().push(record);
    }
    let mut repeats = 0_usize;
    for ((_, id), mut records) in events {
        records.sort_by_key(|record| record.offset);
        for (time, record) in records.into_iter().enumerate() {
            let end = ended.get(&(record.at.topic.clone(), record.at.partition, record.offset));
            let is_repeat = time > 0;
            repeats += usize::from(is_repeat);
            if is_repeat != (end == Some(&OutcomeKind::Duplicate)) {
                faults.push(format!("{id}, record {}, ended as {end:?}", time + 1));
            }
        }
    }
    verdict("what_was_sent_again_counts_once", faults, format!("{repeats} repeats are duplicates"))
}

fn verdict(name: &'static str, faults: Vec<String>, judged: String) -> Checked {
    const TOLD_MAX: usize = 5;
    let ok = faults.is_empty();
    let told: Vec<&str> = faults.iter().take(TOLD_MAX).map(String::as_str).collect();
    let detail = if ok { judged } else { format!("{} faults: {}", faults.len(), told.join("; ")) };
    Checked { name, ok, detail }
}
