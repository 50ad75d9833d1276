//! Records of topics, in memory.
//!
//! A partition numbers what is appended and forgets what compaction, retention and aborts take; it never renumbers. An
//! open transaction is the offset of its first record: nothing from there on is readable (the *stable end*), so an
//! abort can simply remove its records, which nobody can have read. Its marker, like that of a commit, takes a number
//! and holds nothing.
//!
//! No lock and no clock: `shared` owns both.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::time::Instant;

use super::transactions::TransactionNumber;
use crate::log::{Cleanup, LogError, NewRecord, Offset, Record, TopicPartition, TopicSpec, Watermarks};

/// What a record batch adds to the bytes of its one record, about as on a broker.
const BATCH_OVERHEAD: usize = 70;

/// Why a topic does not take a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unfit {
    Nowhere,
    TooLarge,
    /// A compacted topic could never compact it.
    Keyless,
}

impl Unfit {
    pub(super) fn reason(self, to: &TopicPartition) -> String {
        match self {
            Self::Nowhere => format!("there is no {to}"),
            Self::TooLarge => format!("a record for {to} is larger than the topic takes"),
            Self::Keyless => format!("a record for {to} has no key, and the topic is compacted"),
        }
    }
}

struct Topic {
    spec: TopicSpec,
    partitions: Vec<PartitionLog>,
}

/// All topics.
#[derive(Default)]
pub(super) struct Topics {
    topics: BTreeMap<Arc<str>, Topic>,
}

impl Topics {
    /// Creates what is missing, unless something that exists is not as it is needed.
    pub(super) fn ensure(&mut self, specs: &[TopicSpec]) -> Result<Vec<Arc<str>>, LogError> {
        let ours = || specs.iter().filter(|spec| spec.cleanup != Cleanup::Foreign);
        for spec in ours() {
            if let Some(topic) = self.topics.get(&spec.name) {
                compare(&topic.spec, spec)?;
            }
        }
        let missing: Vec<_> = ours().filter(|spec| !self.topics.contains_key(&spec.name)).collect();
        for &spec in &missing {
            let mut topic = Topic { spec: spec.clone(), partitions: Vec::new() };
            topic.grow(spec.partitions);
            self.topics.insert(Arc::clone(&spec.name), topic);
        }
        Ok(missing.into_iter().map(|spec| Arc::clone(&spec.name)).collect())
    }

    pub(super) fn partitions(&self, topic: &str) -> Option<u32> {
        self.topics.get(topic).map(|topic| topic.spec.partitions)
    }

    /// Adds partitions until there are `partitions`. Whether there is such a topic.
    pub(super) fn grow(&mut self, topic: &str, partitions: u32) -> bool {
        self.topics.get_mut(topic).map(|topic| topic.grow(partitions)).is_some()
    }

    pub(super) fn partition(&mut self, at: &TopicPartition) -> Option<&mut PartitionLog> {
        self.topics.get_mut(&at.topic)?.partitions.get_mut(at.partition as usize)
    }

    pub(super) fn fits(&self, record: &NewRecord) -> Result<(), Unfit> {
        let topic = self.topics.get(&record.to.topic).ok_or(Unfit::Nowhere)?;
        if record.to.partition >= topic.spec.partitions {
            return Err(Unfit::Nowhere);
        }
        if record.key.is_none() && matches!(topic.spec.cleanup, Cleanup::Compact { .. }) {
            return Err(Unfit::Keyless);
        }
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = record.headers.iter().map(|header| header.name.len() + header.value.len()).sum();
        if BATCH_OVERHEAD + length(&record.key) + length(&record.value) + headers
            > topic.spec.message_bytes_max as usize
        {
            return Err(Unfit::TooLarge);
        }
        Ok(())
    }

    /// Appends a record that [`Topics::fits`].
    pub(super) fn append(&mut self, record: NewRecord, timestamp: Timestamp, transaction: Option<TransactionNumber>) {
        let partition = self.partition(&record.to).expect("a record that fits has a partition");
        partition.append(record, timestamp, transaction);
    }

    /// Compacts one partition of a compacted topic; does nothing to others, as a broker.
    pub(super) fn compact(&mut self, at: &TopicPartition, now: Instant) {
        if let Some(topic) = self.topics.get_mut(&at.topic)
            && let Cleanup::Compact { tombstones } = topic.spec.cleanup
            && let Some(partition) = topic.partitions.get_mut(at.partition as usize)
        {
            partition.compact(tombstones, now);
        }
    }

    /// Deletes what is older than its topic keeps.
    pub(super) fn expire(&mut self, now: Timestamp) {
        for topic in self.topics.values_mut() {
            if let Cleanup::Delete { after } = topic.spec.cleanup
                && let Ok(oldest) = now.checked_sub(after)
            {
                topic.partitions.iter_mut().for_each(|partition| partition.expire_older(oldest));
            }
        }
    }
}

impl Topic {
    fn grow(&mut self, partitions: u32) {
        self.spec.partitions = self.spec.partitions.max(partitions);
        for partition in self.partitions.len() as u32..partitions {
            self.partitions.push(PartitionLog::new(TopicPartition::new(Arc::clone(&self.spec.name), partition)));
        }
    }
}

/// Whether a topic that exists does for what is needed. More time or room than needed does.
fn compare(found: &TopicSpec, needed: &TopicSpec) -> Result<(), LogError> {
    let fault = |setting, found: String, needed_value: String, remedy| {
        Err(LogError::Topic { topic: Arc::clone(&needed.name), setting, found, needed: needed_value, remedy })
    };
    if found.partitions != needed.partitions {
        let remedy = "the partition count is fixed for good; configure the one that was found";
        return fault("partitions", found.partitions.to_string(), needed.partitions.to_string(), remedy);
    }
    let (setting, found_time, needed_time) = match (found.cleanup, needed.cleanup) {
        (Cleanup::Compact { tombstones: found }, Cleanup::Compact { tombstones: needed }) => {
            ("delete.retention.ms", found, needed)
        }
        (Cleanup::Delete { after: found }, Cleanup::Delete { after: needed }) => ("retention.ms", found, needed),
        (found, needed) => {
            return fault("cleanup.policy", policy(found).into(), policy(needed).into(), "alter the topic");
        }
    };
    if found_time < needed_time {
        let milliseconds = |time: Duration| time.as_millis().to_string();
        return fault(setting, milliseconds(found_time), milliseconds(needed_time), "alter the topic");
    }
    if found.message_bytes_max < needed.message_bytes_max {
        let [found, needed] = [found, needed].map(|spec| spec.message_bytes_max.to_string());
        return fault("max.message.bytes", found, needed, "alter the topic");
    }
    Ok(())
}

fn policy(cleanup: Cleanup) -> &'static str {
    match cleanup {
        Cleanup::Compact { .. } => "compact",
        Cleanup::Delete { .. } => "delete",
        Cleanup::Foreign => "foreign",
    }
}

struct Stored {
    record: Record,
    transaction: Option<TransactionNumber>,
    /// When compaction may take this tombstone; set the first time compaction meets it.
    removable: Option<Instant>,
}

/// One partition.
pub(super) struct PartitionLog {
    at: TopicPartition,
    /// In order of offset, with gaps.
    stored: VecDeque<Stored>,
    low: Offset,
    next: Offset,
    /// Open transactions, by the offset of their first record here.
    open: BTreeMap<TransactionNumber, Offset>,
}

impl PartitionLog {
    fn new(at: TopicPartition) -> Self {
        Self { at, stored: VecDeque::new(), low: 0, next: 0, open: BTreeMap::new() }
    }

    pub(super) fn watermarks(&self) -> Watermarks {
        Watermarks { low: self.low, high: self.next }
    }

    /// One past what can be read now: nothing of an open transaction, nothing behind its first record.
    pub(super) fn stable_end(&self) -> Offset {
        self.open.values().copied().min().unwrap_or(self.next)
    }

    fn append(&mut self, new: NewRecord, timestamp: Timestamp, transaction: Option<TransactionNumber>) {
        let offset = self.next;
        self.next += 1;
        if let Some(transaction) = transaction {
            self.open.entry(transaction).or_insert(offset);
        }
        let NewRecord { to, key, value, headers } = new;
        let record = Record { at: to, offset, timestamp, key, value, headers };
        self.stored.push_back(Stored { record, transaction, removable: None });
    }

    /// Appends a marker that ends nothing: a transaction of somebody else's that left nothing else.
    pub(super) fn append_marker(&mut self) {
        self.next += 1;
    }

    /// Ends a transaction that has records here, and marks the end.
    pub(super) fn end(&mut self, transaction: TransactionNumber, committed: bool) {
        let Some(first) = self.open.remove(&transaction) else {
            return;
        };
        self.next += 1;
        if !committed {
            let mut tail = self.stored.split_off(self.index_of(first));
            tail.retain(|stored| stored.transaction != Some(transaction));
            self.stored.append(&mut tail);
        }
    }

    fn index_of(&self, offset: Offset) -> usize {
        self.stored.partition_point(|stored| stored.record.offset < offset)
    }

    /// Whether a reader can stand at `position`.
    pub(super) fn contains(&self, position: Offset) -> bool {
        (self.low..=self.next).contains(&position)
    }

    /// Reads at most `records_max` records from `position` up to `end`, and answers the position behind them.
    pub(super) fn read(&self, position: Offset, end: Offset, records_max: usize, into: &mut Vec<Record>) -> Offset {
        if position >= end {
            return position;
        }
        let mut readable = self
            .stored
            .range(self.index_of(position)..)
            .map(|stored| &stored.record)
            .take_while(|record| record.offset < end);
        into.extend(readable.by_ref().take(records_max).cloned());
        // With nothing left, what remains before `end` are markers and gaps.
        readable.next().map_or(end, |next| next.offset)
    }

    pub(super) fn offset_at(&self, time: Timestamp) -> Offset {
        let end = self.stable_end();
        let readable = self.stored.iter().map(|stored| &stored.record).take_while(|record| record.offset < end);
        readable.into_iter().find(|record| record.timestamp >= time).map_or(end, |record| record.offset)
    }

    /// Deletes what lies below `offset`, as far as it is stable.
    pub(super) fn expire_before(&mut self, offset: Offset) {
        self.low = self.low.max(offset.min(self.stable_end()));
        let expired = self.index_of(self.low);
        self.stored.drain(..expired);
    }

    fn expire_older(&mut self, oldest: Timestamp) {
        let first_kept = self.stored.iter().find(|stored| stored.record.timestamp >= oldest);
        let offset = first_kept.map_or(self.next, |stored| stored.record.offset);
        self.expire_before(offset);
    }

    /// Removes, below the stable end, all but the newest record of each key, and tombstones that were met by an
    /// earlier compaction at least `tombstones` ago. Neither end moves.
    fn compact(&mut self, tombstones: Duration, now: Instant) {
        let end = self.stable_end();
        let mut met = BTreeSet::new();
        // From the newest to the oldest: the first of a key to be met is the one that stays.
        let mut kept: VecDeque<Stored> = VecDeque::with_capacity(self.stored.len());
        for mut stored in std::mem::take(&mut self.stored).into_iter().rev() {
            if stored.record.offset < end {
                let newest = stored.record.key.clone().is_none_or(|key| met.insert(key));
                let removable = stored.removable.is_some_and(|removable| removable <= now);
                if !newest || removable {
                    continue;
                }
                if stored.record.value.is_none() && stored.removable.is_none() {
                    stored.removable = Some(now + tombstones);
                }
            }
            kept.push_front(stored);
        }
        self.stored = kept;
        debug_assert!(self.stored.iter().all(|stored| stored.record.at == self.at), "records stay in their partition");
    }
}
