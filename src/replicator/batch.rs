//! What a replicator commits in one transaction: links, outcomes, and the offsets up to which all is answered.
//!
//! Every transaction that writes a link commits its partition's offset, moved or not: else it would be neither fenced
//! by the group nor waited for by a successor.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use super::{claim::Claim, partition::Owned};
use crate::{
    config::TopicNames,
    contact::{ContactId, format},
    crm::{REMOTE_CONTACT, link::Link},
    event::{Outcome, OutcomeKind, outcome::Subjects},
    log::{
        AssignmentNumber, GroupOffsets, MemberHandle, NewRecord, Offset, OffsetCommit, Partition, TopicPartition,
        Transaction, partition_of,
    },
    protection::{Protection, Protections},
};

/// The part of one partition.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) assignment: AssignmentNumber,
    pub(super) offset: Offset,
    pub(super) released: bool,
    pub(super) records: Vec<NewRecord>,
    pub(super) outcomes: Vec<Outcome>,
    /// Contacts that may be sent to again once this is committed.
    pub(super) awaited: Vec<ContactId>,
    /// Contacts whose lanes may have nothing left to do.
    pub(super) touched: Vec<ContactId>,
}

#[derive(Debug, Default)]
pub(super) struct Batch {
    /// How often it was tried in vain.
    pub(super) failures: u32,
    pub(super) parts: BTreeMap<Partition, Part>,
}

/// What a batch is built with.
#[derive(Debug, Clone)]
pub(super) struct Encoding {
    pub(super) crm: Arc<str>,
    pub(super) topics: TopicNames,
    pub(super) partitions: u32,
    pub(super) writer: Arc<str>,
    pub(super) instance: Arc<str>,
    pub(super) subjects: Subjects,
    pub(super) protections: Protections,
}

impl Encoding {
    /// Takes what `owned` has decided since the last batch.
    pub(super) fn take(&self, partition: Partition, owned: &mut Owned, released: bool, settled_at: Timestamp) -> Part {
        let pending = std::mem::take(&mut owned.pending);
        let link_of = |contact: &ContactId| &owned.lanes.get(contact).expect("a lane outlives its commit").link;
        let mut records = Vec::with_capacity(pending.links.len() + pending.answers.len());
        let mut awaited = Vec::new();
        let mut written = Vec::with_capacity(pending.links.len());
        for contact in &pending.links {
            let record = self.link(partition, link_of(contact));
            written.extend(record.value.clone().map(|link| (*contact, link)));
            records.push(record);
            if owned.lanes.get(contact).is_some_and(super::lane::Lane::awaits_commit) {
                awaited.push(*contact);
            }
        }
        let mut outcomes = Vec::with_capacity(pending.answers.len());
        for (contact, answer) in pending.answers {
            let link = link_of(&contact);
            let remote_id = matches!(answer.outcome, OutcomeKind::Delivered | OutcomeKind::Unchanged)
                .then(|| link.remote_ids.get(REMOTE_CONTACT).cloned())
                .flatten();
            let outcome = Outcome {
                event: answer.entry.event,
                cause: answer.entry.cause,
                traceparent: answer.entry.traceparent,
                contact_id: Some(contact),
                version: Some(answer.entry.version),
                crm: self.crm.clone(),
                outcome: answer.outcome,
                operation: answer.operation,
                remote_id,
                reason: answer.reason,
                attempts: answer.attempts,
                received_at: answer.entry.received_at,
                settled_at,
                by_version: answer.by_version,
            };
            records.push(self.outcome(partition, &outcome));
            outcomes.push(outcome);
        }
        owned.written.extend(written);
        Part {
            assignment: owned.assignment,
            offset: owned.ledger.commit_point(),
            released,
            records,
            outcomes,
            awaited,
            touched: pending.links.into_iter().collect(),
        }
    }

    fn link(&self, partition: Partition, link: &Link) -> NewRecord {
        let key = link.contact_id.key();
        debug_assert_eq!(partition_of(key.as_bytes(), self.partitions), partition, "links lie beside their entries");
        NewRecord {
            to: TopicPartition::new(self.topics.links(&self.crm), partition),
            key: Some(key.into()),
            value: Some(format::encode(link)),
            headers: Vec::new(),
        }
    }

    fn outcome(&self, partition: Partition, outcome: &Outcome) -> NewRecord {
        let encoded = outcome.encode(&self.instance, &self.subjects, None);
        NewRecord {
            to: TopicPartition::new(self.topics.outcomes.clone(), partition),
            key: encoded.key,
            value: Some(encoded.value),
            headers: encoded.headers,
        }
    }

    /// The transaction of `batch`, relying on the assignments that it was decided under.
    pub(super) fn transaction(&self, batch: &Batch, member: &Arc<dyn MemberHandle>) -> Transaction {
        let records = batch.parts.values().flat_map(|part| part.records.iter().cloned()).collect();
        let commits = batch.parts.iter().map(|(partition, part)| OffsetCommit {
            at: TopicPartition::new(self.topics.versions.clone(), *partition),
            offset: part.offset,
            metadata: Claim { writer: self.writer.to_string(), released: part.released }.encode(),
        });
        let relies_on = batch.parts.iter().filter(|_| self.protections.hold(Protection::OwnMap));
        let offsets = GroupOffsets {
            member: member.clone(),
            commits: commits.collect(),
            relies_on: relies_on.map(|(partition, part)| (*partition, part.assignment)).collect(),
        };
        Transaction { records, offsets: Some(offsets) }
    }
}
