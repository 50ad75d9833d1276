//! A log of a few lines that does what a test tells it.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::timeout};

use super::{super::follower::BIRTH_KEY, PARTITIONS};
use crate::log::{
    CommittedOffset, Follower as Reader, GroupSpec, Isolation, Log, LogError, Member, NewRecord, Offset, Progress,
    Record, TopicFound, TopicPartition, TopicSpec, Watermarks, Writer, partition_of,
};

#[derive(Debug, Default)]
pub(super) struct ScriptedLog {
    pub(super) topics: Mutex<BTreeMap<TopicPartition, Vec<Record>>>,
    /// Offset of the oldest record, where something was deleted.
    pub(super) lows: Mutex<BTreeMap<TopicPartition, Offset>>,
    /// Every assignment made, in order.
    pub(super) assigned: Mutex<Vec<(TopicPartition, Offset)>>,
    /// What the next calls answer instead.
    pub(super) watermark_faults: Mutex<VecDeque<LogError>>,
    pub(super) poll_faults: Mutex<VecDeque<LogError>>,
    news: Notify,
}

impl ScriptedLog {
    pub(super) fn new() -> Arc<Self> {
        let log = Self::default();
        for topic in ["contact-keys", "contact-records", "contact-links.crm"] {
            for partition in 0..PARTITIONS {
                log.topics.lock().insert(TopicPartition::new(topic, partition), Vec::new());
            }
        }
        log.topics.lock().insert(TopicPartition::new("contact-resolver", 0), Vec::new());
        log.give_birth("first");
        Arc::new(log)
    }

    /// Puts a birth record into every partition.
    pub(super) fn give_birth(&self, id: &str) {
        let all: Vec<_> = self.topics.lock().keys().cloned().collect();
        for at in all {
            self.put_at(&at, BIRTH_KEY, Some(&format!("{id}-{at}")));
        }
    }

    pub(super) fn put(&self, topic: &str, key: &str, value: Option<&str>) -> TopicPartition {
        let partitions = if topic == "contact-resolver" { 1 } else { PARTITIONS };
        let at = TopicPartition::new(topic, partition_of(key.as_bytes(), partitions));
        self.put_at(&at, key, value);
        at
    }

    pub(super) fn put_at(&self, at: &TopicPartition, key: &str, value: Option<&str>) {
        let mut topics = self.topics.lock();
        let records = topics.get_mut(at).unwrap();
        // Every second offset: gaps are normal.
        let offset = records.last().map_or(0, |last| last.offset + 2);
        records.push(Record {
            at: at.clone(),
            offset,
            timestamp: Timestamp::UNIX_EPOCH,
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())),
            headers: Vec::new(),
        });
        drop(topics);
        self.news.notify_waiters();
    }

    /// Leaves the newest record of each key and no tombstone.
    pub(super) fn compact(&self) {
        for records in self.topics.lock().values_mut() {
            let newest: BTreeMap<_, _> = records.iter().map(|record| (record.key.clone(), record.offset)).collect();
            let last = records.last().map(|record| record.offset);
            records.retain(|record| {
                newest[&record.key] == record.offset && (record.value.is_some() || Some(record.offset) == last)
            });
        }
    }

    /// Deletes a topic and makes it again, empty.
    pub(super) fn recreate(&self, topic: &str) {
        let mut topics = self.topics.lock();
        topics.iter_mut().filter(|(at, _)| &*at.topic == topic).for_each(|(_, records)| records.clear());
    }

    pub(super) fn remove(&self, topic: &str) {
        self.topics.lock().retain(|at, _| &*at.topic != topic);
    }

    pub(super) fn delete_below(&self, at: &TopicPartition, low: Offset) {
        self.topics.lock().get_mut(at).unwrap().retain(|record| record.offset >= low);
        self.lows.lock().insert(at.clone(), low);
    }

    pub(super) fn high(&self, at: &TopicPartition) -> Option<Offset> {
        // One past the marker behind the last record.
        self.topics.lock().get(at).map(|records| records.last().map_or(0, |last| last.offset + 2))
    }

    pub(super) fn assigned_to(&self, at: &TopicPartition) -> Vec<Offset> {
        let assigned = self.assigned.lock();
        assigned.iter().filter(|(other, _)| other == at).map(|(_, offset)| *offset).collect()
    }
}

#[derive(Debug)]
struct ScriptedReader {
    log: Arc<ScriptedLog>,
    positions: BTreeMap<TopicPartition, Offset>,
}

#[async_trait]
impl Reader for ScriptedReader {
    async fn assign(&mut self, at: TopicPartition, offset: Offset) -> Result<(), LogError> {
        self.log.assigned.lock().push((at.clone(), offset));
        self.positions.insert(at, offset);
        Ok(())
    }

    async fn unassign(&mut self, at: &TopicPartition) -> Result<(), LogError> {
        self.positions.remove(at);
        Ok(())
    }

    async fn poll(&mut self, records_max: usize, wait: Duration) -> Result<Progress, LogError> {
        let log = self.log.clone();
        let news = log.news.notified();
        let mut progress = Progress::default();
        if let Some(fault) = log.poll_faults.lock().pop_front() {
            return Err(fault);
        }
        let mut lost = None;
        for (at, position) in &mut self.positions {
            let low = log.lows.lock().get(at).copied().unwrap_or(0);
            if *position < low {
                lost = Some((at.clone(), *position));
                break;
            }
            let topics = log.topics.lock();
            let Some(records) = topics.get(at) else {
                continue;
            };
            let room = records_max - progress.records.len();
            let ready: Vec<_> =
                records.iter().filter(|record| record.offset >= *position).take(room).cloned().collect();
            let end = match ready.last() {
                Some(last) => last.offset + 2,
                None => *position,
            };
            if end > *position {
                *position = end;
                progress.positions.push((at.clone(), end));
                progress.records.extend(ready);
            }
        }
        if let Some((at, offset)) = lost {
            self.positions.remove(&at);
            return Err(LogError::OutOfRange { at, offset });
        }
        if progress.positions.is_empty() {
            timeout(wait, news).await.ok();
        }
        Ok(progress)
    }
}

/// The log, as the follower holds it.
#[derive(Debug)]
pub(super) struct Handle(pub(super) Arc<ScriptedLog>);

#[async_trait]
impl Log for Handle {
    async fn ensure_topics(&self, _: &[TopicSpec]) -> Result<Vec<Arc<str>>, LogError> {
        unreachable!("the follower makes no topics")
    }
    async fn describe_topics(&self, _: &[Arc<str>]) -> Result<Vec<Option<TopicFound>>, LogError> {
        unreachable!("the follower compares no settings")
    }
    async fn partitions(&self, topic: &str) -> Result<Option<u32>, LogError> {
        let count = self.0.topics.lock().keys().filter(|at| &*at.topic == topic).count();
        Ok((count > 0).then_some(u32::try_from(count).unwrap()))
    }
    async fn watermarks(&self, at: &TopicPartition) -> Result<Watermarks, LogError> {
        if let Some(fault) = self.0.watermark_faults.lock().pop_front() {
            return Err(fault);
        }
        let high = self.0.high(at).ok_or_else(|| LogError::UnknownTopic { topic: at.topic.clone() })?;
        Ok(Watermarks { low: self.0.lows.lock().get(at).copied().unwrap_or(0), high })
    }
    async fn offset_at(&self, _: &TopicPartition, _: Timestamp) -> Result<Offset, LogError> {
        unreachable!("the follower asks for no times")
    }
    async fn append(&self, _: Vec<NewRecord>) -> Result<(), LogError> {
        unreachable!("the follower appends nothing")
    }
    async fn follower(&self) -> Result<Box<dyn Reader>, LogError> {
        Ok(Box::new(ScriptedReader { log: self.0.clone(), positions: BTreeMap::new() }))
    }
    async fn join(&self, _: GroupSpec) -> Result<Box<dyn Member>, LogError> {
        unreachable!("the follower joins nothing")
    }
    async fn writer(&self, _: &str) -> Result<Box<dyn Writer>, LogError> {
        unreachable!("the follower writes nothing")
    }
    async fn committed(&self, _: &str, _: &TopicPartition, _: Isolation) -> Result<Option<CommittedOffset>, LogError> {
        unreachable!("the follower commits nothing")
    }
}

pub(super) fn away() -> LogError {
    LogError::Unavailable { doing: "a test", reason: "so it was told".to_owned() }
}
