//! One resolver at a time: terms follow each other in every topic, and none has two writers.
//!
//! Each term of a resolver has a number, its epoch, which it writes with all that it decides. A term begins with a record
//! in the state topic, written by one that has fenced whoever was before. So in the order of each partition no epoch comes
//! after a higher one, and nothing of an older epoch was sent after a newer began. Instants are those that the writers
//! gave their records: all processes of a run share the clock.

use std::collections::BTreeMap;

use contact_replicator::{
    cli::demo::checks::{Checked, Findings},
    log::{Partition, Record},
};
use jiff::Timestamp;
use serde::Deserialize;

use super::{Known, deeds::Deeds};

/// The key of the record that begins a term.
const BEGINS: &[u8] = b"epoch";
/// What a resolver says when its term has begun, and what it then names.
const SAYS: &str = "this worker is the active resolver";
const NAMES: &str = "epoch=";

/// Of all that a resolver writes, what says whose it is.
#[derive(Deserialize)]
struct Signed {
    epoch: Option<u64>,
    #[serde(default)]
    cause: Option<Cause>,
}

#[derive(Deserialize)]
struct Cause {
    kind: String,
}

/// The epoch of a record; `None` if no resolver wrote it, but a worker that was asked to by an operator.
///
/// # Errors
/// If it cannot be read.
fn epoch_of(record: &Record) -> Result<Option<u64>, serde_json::Error> {
    let signed: Signed = serde_json::from_slice(record.value.as_deref().unwrap_or_default())?;
    let of_an_operator = signed.cause.is_some_and(|cause| cause.kind != "merge");
    Ok(signed.epoch.filter(|_| !of_an_operator))
}

/// Whether the record says something about its topic, or takes a key away.
fn says_nothing(record: &Record) -> bool {
    record.value.is_none() || record.key.as_deref().is_some_and(|key| key.starts_with(b"#"))
}

/// Epochs never fall within a partition, terms are counted without a gap, and nothing of an older one was sent after a newer
/// one began.
pub(super) fn one_resolver_at_a_time(known: &Known) -> Checked {
    let mut findings = Findings::of("one_resolver_at_a_time");
    let mut begun: BTreeMap<u64, Timestamp> = BTreeMap::new();
    for record in known.state.iter().filter(|record| record.key.as_deref() == Some(BEGINS)) {
        let Ok(Some(epoch)) = epoch_of(record) else {
            findings.fault(format!("{record:?} begins a term without an epoch"));
            continue;
        };
        match begun.last_key_value() {
            Some((last, _)) if epoch != last + 1 => findings.fault(format!("term {epoch} begins after term {last}")),
            _ => {}
        }
        begun.entry(epoch).or_insert(record.timestamp);
    }
    findings.ensure(!begun.is_empty(), || "no term ever began".to_owned());
    findings.ensure(!known.decided.is_empty(), || "nothing was decided".to_owned());
    let mut reached: BTreeMap<(&str, Partition), u64> = BTreeMap::new();
    let mut judged = 0_usize;
    for record in known.state.iter().chain(&known.decided).filter(|record| !says_nothing(record)) {
        let epoch = match epoch_of(record) {
            Ok(Some(epoch)) => epoch,
            Ok(None) => continue,
            Err(error) => {
                findings.fault(format!("{record:?} cannot be read: {error}"));
                continue;
            }
        };
        judged += 1;
        let reached = reached.entry((&record.at.topic, record.at.partition)).or_insert(epoch);
        findings.ensure(epoch >= *reached, || format!("{record:?} of term {epoch} comes after one of {reached}"));
        *reached = epoch.max(*reached);
        findings.ensure(begun.contains_key(&epoch) || begun.keys().next().is_some_and(|first| epoch < *first), || {
            format!("{record:?} is of term {epoch}, which never began")
        });
        if let Some((newer, since)) = begun.range(epoch + 1..).next() {
            findings.ensure(record.timestamp <= *since, || {
                format!("{record:?} of term {epoch} was sent at {}, after term {newer} began", record.timestamp)
            });
        }
    }
    findings.verdict(format!("{} terms and {judged} records, one after the other", begun.len()))
}

/// The epoch that a line announces.
fn announced(line: &str) -> Option<u64> {
    let rest = line.contains(SAYS).then(|| line.split_once(NAMES))??.1;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// No two processes say that they resolve in the same term, and each term is some process's: only one that was killed,
/// stopped or cut off as it began may not have come to say so.
pub(super) fn each_term_has_one_worker(known: &Known, deeds: &Deeds<'_>) -> Checked {
    let mut findings = Findings::of("each_term_has_one_worker");
    let mut held: BTreeMap<u64, usize> = BTreeMap::new();
    for (number, process) in known.processes.iter().enumerate() {
        for epoch in process.lines.iter().filter_map(|line| announced(line)) {
            if let Some(other) = held.insert(epoch, number) {
                let other = &known.processes[other].worker;
                findings.fault(format!("{other} and {} both resolve in term {epoch}", process.worker));
            }
        }
    }
    let begun = known.state.iter().filter(|record| record.key.as_deref() == Some(BEGINS));
    let begun: BTreeMap<u64, Timestamp> =
        begun.filter_map(|record| Some((epoch_of(record).ok()??, record.timestamp))).collect();
    for (epoch, at) in begun.iter().filter(|(epoch, _)| !held.contains_key(epoch)) {
        findings.ensure(deeds.may_silence(*at), || format!("nobody says to have resolved in term {epoch}"));
    }
    for (epoch, number) in held.iter().filter(|(epoch, _)| !begun.contains_key(epoch)) {
        findings.fault(format!("{} resolves in term {epoch}, which never began", known.processes[*number].worker));
    }
    findings.ensure(!held.is_empty(), || "nobody says to have resolved".to_owned());
    findings.verdict(format!("{} terms, each of one process", held.len()))
}
