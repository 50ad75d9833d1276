//! From decisions to the records of one transaction.
//!
//! Of a contact or key that was decided on several times in a batch only the newest state is written: a reader could
//! not have seen the others anyway. Entries and outcomes are one per event.

use std::{collections::HashSet, hash::Hash, sync::Arc};

use super::{
    Parts,
    decide::{Decided, DecidedBatch},
};
use crate::{
    contact::format::encode,
    event::{
        Entry, Outcome, OutcomeKind, Reason,
        dead_letter::letter,
        identity_event,
        outcome::{ANY_CRM, Encoded},
    },
    identity::Answer,
    log::{LogError, NewRecord, Record, TopicPartition, partition_of},
};

/// Whether a dead letter holds the event, byte for byte, or only says where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    Whole,
    LeftOut,
}

/// What a batch publishes.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) records: Vec<NewRecord>,
    /// Those of the outcome topic among them.
    pub(super) outcomes: Vec<Outcome>,
}

/// Knows how many partitions each topic has.
#[derive(Debug)]
pub(super) struct Publisher {
    keys: Destination,
    records: Destination,
    versions: Destination,
    outcomes: Destination,
    dead_letters: Destination,
    identity_events: Destination,
}

/// A topic with its partition count.
#[derive(Debug)]
struct Destination {
    topic: Arc<str>,
    partitions: u32,
}

impl Destination {
    async fn open(parts: &Parts, topic: &Arc<str>) -> Result<Self, LogError> {
        Ok(Self { topic: Arc::clone(topic), partitions: parts.partitions(topic).await? })
    }

    fn of(&self, key: &[u8]) -> TopicPartition {
        TopicPartition::new(Arc::clone(&self.topic), partition_of(key, self.partitions))
    }

    /// A partition for what is about an input record: that of its key, if it has one.
    fn beside(&self, input: &Record) -> TopicPartition {
        match &input.key {
            Some(key) => self.of(key),
            None => TopicPartition::new(Arc::clone(&self.topic), input.at.partition % self.partitions),
        }
    }

    /// A record for the partition of its key.
    fn record(&self, key: String, value: bytes::Bytes) -> NewRecord {
        NewRecord { to: self.of(key.as_bytes()), key: Some(key.into()), value: Some(value), headers: Vec::new() }
    }
}

impl Publisher {
    pub(super) async fn open(parts: &Parts) -> Result<Self, LogError> {
        let topics = &parts.topics;
        Ok(Self {
            keys: Destination::open(parts, &topics.keys).await?,
            records: Destination::open(parts, &topics.records).await?,
            versions: Destination::open(parts, &topics.versions).await?,
            outcomes: Destination::open(parts, &topics.outcomes).await?,
            dead_letters: Destination::open(parts, &topics.dead_letters).await?,
            identity_events: Destination::open(parts, &topics.identity_events).await?,
        })
    }

    pub(super) fn publication(&self, parts: &Parts, batch: &DecidedBatch, body: Body) -> Publication {
        let mut records = Vec::with_capacity(4 * batch.events.len());
        let mut outcomes = Vec::new();
        let decisions = || batch.events.iter().map(|event| &event.decision);
        for (hash, new) in newest(decisions().flat_map(|decision| &decision.keys).map(|new| (new.hash, new))) {
            // What says nothing leaves the log: a null value, and in time not even that.
            let value = (!new.entry.is_void()).then(|| encode(&*new.entry));
            records.push(NewRecord { value, ..self.keys.record(hash.key(), bytes::Bytes::new()) });
        }
        let all = decisions().flat_map(|decision| &decision.records);
        for (contact, new) in newest(all.map(|new| (new.record.contact_id, new))) {
            records.push(self.records.record(contact.key(), new.encoded.clone()));
        }
        for entry in decisions().flat_map(|decision| &decision.entries) {
            records.push(self.entry(entry));
        }
        for event in batch.events.iter().filter(|_| parts.tell_identity_events) {
            for (number, notice) in event.decision.notices.iter().enumerate() {
                let Encoded { key, headers, value } =
                    identity_event::encode(notice, number, &event.event, &parts.instance, &parts.subjects, batch.now);
                let to = self.identity_events.of(key.as_deref().unwrap_or_default());
                records.push(NewRecord { to, key, value: Some(value), headers });
            }
        }
        for event in &batch.events {
            let Some(outcome) = outcome(event, batch.now) else {
                continue;
            };
            // An event of which the body is too much may have too much of everything.
            let bare = Record { key: None, value: None, headers: Vec::new(), ..event.input.clone() };
            let input = if body == Body::Whole { &event.input } else { &bare };
            if let Answer::DeadLetters(fault) = &event.decision.answer {
                records.push(letter(input, fault, self.dead_letters.beside(input)));
            }
            records.push(self.outcome(parts, input, &outcome));
            outcomes.push(outcome);
        }
        Publication { records, outcomes }
    }

    pub(super) fn entry(&self, entry: &Entry) -> NewRecord {
        self.versions.record(entry.contact_id.key(), entry.encode())
    }

    fn outcome(&self, parts: &Parts, input: &Record, outcome: &Outcome) -> NewRecord {
        let Encoded { key, headers, value } = outcome.encode(&parts.instance, &parts.subjects, input.key.as_deref());
        let to = match &key {
            Some(key) => self.outcomes.of(key),
            None => self.outcomes.beside(input),
        };
        NewRecord { to, key, value: Some(value), headers }
    }
}

/// The last value of each key, in the order in which the last values came.
fn newest<K: Hash + Eq + Copy, V>(values: impl DoubleEndedIterator<Item = (K, V)>) -> Vec<(K, V)> {
    let mut seen = HashSet::new();
    let mut newest: Vec<_> = values.rev().filter(|(key, _)| seen.insert(*key)).collect();
    newest.reverse();
    newest
}

/// The outcome of an event that ends here; `None` if the replicators answer it.
fn outcome(event: &Decided, now: jiff::Timestamp) -> Option<Outcome> {
    let (outcome, reason, contact_id, version) = match &event.decision.answer {
        Answer::Replicators => return None,
        Answer::Resolver(ending) => (ending.outcome, ending.code.into(), ending.contact_id, ending.version),
        Answer::DeadLetters(fault) => {
            let reason = Reason { field: fault.pointer.clone(), ..fault.code.into() };
            (OutcomeKind::Quarantined, reason, None, None)
        }
    };
    Some(Outcome {
        event: Some(event.event.clone()),
        cause: None,
        contact_id,
        version,
        crm: ANY_CRM.into(),
        outcome,
        operation: None,
        remote_id: None,
        reason: Some(reason),
        attempts: 0,
        received_at: now,
        settled_at: now,
        by_version: None,
        traceparent: event.place.traceparent().cloned(),
    })
}
