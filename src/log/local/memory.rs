//! Records of topics: numbered, held back while they are uncommitted, and in memory.
//!
//! Where a log is on disk, this holds records until they are committed and taken to be written ([`Topics::take_changes`]);
//! everything else here (numbers, ends, what may be read) is the same. What is taken stays unreadable until it is said
//! to be written, so that nobody acts on what a killed process would forget.
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
use crate::log::{
    Cleanup, LogError, NewRecord, Offset, Partition, Record, TopicFound, TopicPartition, TopicSpec, Watermarks,
    comparison::{differences, judge, settings_of},
};

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
    /// In the order of creation; names the topic on disk, where names are long.
    number: u32,
    partitions: Vec<PartitionLog>,
    /// Whether the disk does not know it as it is.
    unwritten: bool,
}

/// All topics.
#[derive(Default)]
pub(super) struct Topics {
    topics: BTreeMap<Arc<str>, Topic>,
    /// Whether committed records live on disk, and here only until they are written.
    on_disk: bool,
}

/// A topic as the disk knows it.
#[derive(Debug, Clone)]
pub(super) struct TopicState {
    pub(super) number: u32,
    pub(super) spec: TopicSpec,
}

/// Names a partition on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) topic: u32,
    pub(super) partition: Partition,
}

/// What became of a partition since it was last written.
#[derive(Debug)]
pub(super) struct PartitionChange {
    pub(super) place: Place,
    pub(super) ends: Watermarks,
    pub(super) records: Vec<Record>,
}

/// A partition, and from where up to where somebody wants to read it.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) at: TopicPartition,
    pub(super) place: Place,
    pub(super) position: Offset,
    pub(super) end: Offset,
}

/// What was read of a partition, and the position behind it.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) records: Vec<Record>,
    pub(super) position: Offset,
}

impl Topics {
    /// Topics whose committed records live on disk, as they were found there.
    pub(super) fn on_disk(found: Vec<(TopicState, Vec<Watermarks>)>) -> Self {
        let mut topics = BTreeMap::new();
        for (TopicState { number, mut spec }, ends) in found {
            spec.partitions = ends.len() as u32;
            let name = Arc::clone(&spec.name);
            let mut topic = Topic { spec, number, partitions: Vec::new(), unwritten: false };
            topic.grow(ends.len() as u32, true);
            for (partition, ends) in topic.partitions.iter_mut().zip(ends) {
                (partition.low, partition.next) = (ends.low, ends.high);
                partition.disk = Some(Unwritten::default());
            }
            topics.insert(name, topic);
        }
        Self { topics, on_disk: true }
    }

    /// Takes what is to be written; with `all`, the ends and settings of everything else too.
    pub(super) fn take_changes(&mut self, all: bool) -> (Vec<TopicState>, Vec<PartitionChange>) {
        let (mut topics, mut partitions) = (Vec::new(), Vec::new());
        for topic in self.topics.values_mut() {
            if std::mem::take(&mut topic.unwritten) || all {
                topics.push(TopicState { number: topic.number, spec: topic.spec.clone() });
            }
            partitions.extend(topic.partitions.iter_mut().filter_map(|partition| partition.take_change(all)));
        }
        (topics, partitions)
    }

    /// What was taken last is written: readers may have it.
    pub(super) fn written(&mut self) {
        for partition in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            if let Some(disk) = &mut partition.disk {
                disk.taken = None;
            }
        }
    }

    /// Reads at most `records_max` records of all of `wanted`, in its order.
    pub(super) fn read(&mut self, wanted: Vec<Wanted>, records_max: usize) -> Vec<(Wanted, Read)> {
        let mut read = Vec::new();
        let mut room = records_max;
        for wanted in wanted {
            if room == 0 {
                break;
            }
            let Some(partition) = self.partition(&wanted.at) else {
                continue;
            };
            let mut records = Vec::new();
            let position = partition.read(wanted.position, wanted.end, room, &mut records);
            room -= records.len();
            read.push((wanted, Read { records, position }));
        }
        read
    }

    /// Each partition with what its topic keeps and where its stable end is.
    pub(super) fn survey(&self) -> Vec<(TopicPartition, Place, Cleanup, Watermarks)> {
        let of = |topic: &Topic, partition: &PartitionLog| {
            let ends = Watermarks { low: partition.low, high: partition.stable_end() };
            (partition.at.clone(), partition.place, topic.spec.cleanup, ends)
        };
        self.topics
            .values()
            .flat_map(|topic| topic.partitions.iter().map(move |partition| of(topic, partition)))
            .collect()
    }

    /// Creates what is missing, unless something that exists is not as it is needed.
    pub(super) fn ensure(&mut self, specs: &[TopicSpec]) -> Result<Vec<Arc<str>>, LogError> {
        let ours = || specs.iter().filter(|spec| spec.cleanup != Cleanup::Foreign);
        for spec in ours() {
            let Some(topic) = self.topics.get_mut(&spec.name) else {
                continue;
            };
            if self.on_disk && alterable(&topic.spec, spec) {
                // Nobody else can alter a topic of this log: it becomes what the settings say.
                topic.unwritten |=
                    topic.spec.cleanup != spec.cleanup || topic.spec.message_bytes_max != spec.message_bytes_max;
                (topic.spec.cleanup, topic.spec.message_bytes_max) = (spec.cleanup, spec.message_bytes_max);
            }
            judge(differences(spec, None, &found(&topic.spec))).map_err(LogError::Topics)?;
        }
        let missing: Vec<_> = ours().filter(|spec| !self.topics.contains_key(&spec.name)).collect();
        for &spec in &missing {
            let number = self.topics.len() as u32;
            let mut topic = Topic { spec: spec.clone(), number, partitions: Vec::new(), unwritten: true };
            topic.grow(spec.partitions, self.on_disk);
            self.topics.insert(Arc::clone(&spec.name), topic);
        }
        Ok(missing.into_iter().map(|spec| Arc::clone(&spec.name)).collect())
    }

    /// A topic as it stands.
    pub(super) fn described(&self, topic: &str) -> Option<TopicFound> {
        self.topics.get(topic).map(|topic| found(&topic.spec))
    }

    pub(super) fn partitions(&self, topic: &str) -> Option<u32> {
        self.topics.get(topic).map(|topic| topic.spec.partitions)
    }

    /// Adds partitions until there are `partitions`. Whether there is such a topic.
    pub(super) fn grow(&mut self, topic: &str, partitions: u32) -> bool {
        let on_disk = self.on_disk;
        self.topics.get_mut(topic).map(|topic| topic.grow(partitions, on_disk)).is_some()
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
    fn grow(&mut self, partitions: u32, on_disk: bool) {
        self.spec.partitions = self.spec.partitions.max(partitions);
        self.unwritten = true;
        for partition in self.partitions.len() as u32..partitions {
            let at = TopicPartition::new(Arc::clone(&self.spec.name), partition);
            let mut log = PartitionLog::new(at, Place { topic: self.number, partition });
            log.disk = on_disk.then(|| Unwritten { dirty: true, ..Unwritten::default() });
            self.partitions.push(log);
        }
    }
}

fn found(spec: &TopicSpec) -> TopicFound {
    let settings = settings_of(spec, None).into_iter().map(|(key, value)| (key.to_owned(), value));
    TopicFound { partitions: spec.partitions, replicas: None, settings: settings.collect() }
}

/// Whether a topic can become what is needed without losing its meaning.
fn alterable(found: &TopicSpec, needed: &TopicSpec) -> bool {
    let same_policy = std::mem::discriminant(&found.cleanup) == std::mem::discriminant(&needed.cleanup);
    found.partitions == needed.partitions && same_policy
}

struct Stored {
    record: Record,
    transaction: Option<TransactionNumber>,
    /// When compaction may take this tombstone; set the first time compaction meets it.
    removable: Option<Instant>,
}

/// What a partition must give to the disk.
#[derive(Default)]
struct Unwritten {
    records: Vec<Record>,
    /// Whether its ends are not as the disk knows them.
    dirty: bool,
    /// Nothing from here on may be read before what is unwritten was taken and written.
    held: Option<Offset>,
    /// As `held`, for what was taken and is being written.
    taken: Option<Offset>,
}

impl Unwritten {
    fn hold(&mut self, offset: Offset) {
        self.dirty = true;
        self.held = Some(self.held.map_or(offset, |held| held.min(offset)));
    }
}

/// One partition.
pub(super) struct PartitionLog {
    at: TopicPartition,
    place: Place,
    /// On disk if there: then `stored` holds records of open transactions only.
    disk: Option<Unwritten>,
    /// In order of offset, with gaps.
    stored: VecDeque<Stored>,
    low: Offset,
    next: Offset,
    /// Open transactions, by the offset of their first record here.
    open: BTreeMap<TransactionNumber, Offset>,
}

impl PartitionLog {
    fn new(at: TopicPartition, place: Place) -> Self {
        Self { at, place, disk: None, stored: VecDeque::new(), low: 0, next: 0, open: BTreeMap::new() }
    }

    fn take_change(&mut self, all: bool) -> Option<PartitionChange> {
        let ends = self.watermarks();
        let disk = self.disk.as_mut()?;
        let dirty = std::mem::take(&mut disk.dirty);
        debug_assert!(disk.taken.is_none(), "what was taken is written before more is taken");
        disk.taken = disk.held.take();
        let records = std::mem::take(&mut disk.records);
        (dirty || all).then_some(PartitionChange { place: self.place, ends, records })
    }

    /// What there is to read from `position` up to `end`, if anything.
    pub(super) fn wanted(&self, position: Offset, end: Offset) -> Option<Wanted> {
        (position < end).then(|| Wanted { at: self.at.clone(), place: self.place, position, end })
    }

    pub(super) fn watermarks(&self) -> Watermarks {
        Watermarks { low: self.low, high: self.next }
    }

    /// One past what can be read now: nothing of an open transaction, nothing behind its first record.
    pub(super) fn stable_end(&self) -> Offset {
        let unwritten = self.disk.iter().flat_map(|disk| disk.held.into_iter().chain(disk.taken));
        self.open.values().copied().chain(unwritten).min().unwrap_or(self.next)
    }

    fn append(&mut self, new: NewRecord, timestamp: Timestamp, transaction: Option<TransactionNumber>) {
        let offset = self.next;
        self.next += 1;
        if let Some(transaction) = transaction {
            self.open.entry(transaction).or_insert(offset);
        }
        let NewRecord { to, key, value, headers } = new;
        let record = Record { at: to, offset, timestamp, key, value, headers };
        if let (Some(disk), None) = (&mut self.disk, transaction) {
            disk.hold(offset);
            disk.records.push(record);
            return;
        }
        self.stored.push_back(Stored { record, transaction, removable: None });
    }

    /// Appends a marker that ends nothing: a transaction of somebody else's that left nothing else.
    pub(super) fn append_marker(&mut self) {
        if let Some(disk) = &mut self.disk {
            disk.hold(self.next);
        }
        self.next += 1;
    }

    /// Ends a transaction that has records here, and marks the end.
    pub(super) fn end(&mut self, transaction: TransactionNumber, committed: bool) {
        let Some(first) = self.open.remove(&transaction) else {
            return;
        };
        self.next += 1;
        if committed && self.disk.is_none() {
            return;
        }
        let tail = self.stored.split_off(self.index_of(first));
        let (ended, others): (VecDeque<_>, VecDeque<_>) =
            tail.into_iter().partition(|stored| stored.transaction == Some(transaction));
        self.stored.extend(others);
        if let Some(disk) = &mut self.disk {
            // Of an abort too: a position that passed its marker must find it again after a restart.
            disk.hold(first);
            if committed {
                disk.records.extend(ended.into_iter().map(|stored| stored.record));
            }
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
    fn read(&self, position: Offset, end: Offset, records_max: usize, into: &mut Vec<Record>) -> Offset {
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
        if let Some(disk) = &mut self.disk {
            disk.dirty = true;
            return;
        }
        let expired = self.index_of(self.low);
        self.stored.drain(..expired);
    }

    /// Up to the first record that is young enough. Where none is old, no end moves: markers alone cost no reader its
    /// position.
    fn expire_older(&mut self, oldest: Timestamp) {
        let old = self.stored.iter().take_while(|stored| stored.record.timestamp < oldest);
        if let Some(last) = old.last().map(|stored| stored.record.offset) {
            self.expire_before(last + 1);
        }
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
