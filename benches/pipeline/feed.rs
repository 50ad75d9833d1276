//! A log that holds nothing but what was not read yet: a view of a million contacts is filled from it, and the memory of
//! this process shows the view's needs, not the log's.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use contact_replicator::log::{
    CommittedOffset, Follower, GroupSpec, Isolation, Log, LogError, Member, NewRecord, Offset, Progress, Record,
    TopicFound, TopicPartition, TopicSpec, Watermarks, Writer,
};
use jiff::Timestamp;
use tokio::sync::Notify;

use crate::load::PARTITIONS;

/// A handle; all clones are one log, for one follower.
#[derive(Debug, Clone, Default)]
pub(crate) struct Feed {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    come: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<Record>,
    ends: BTreeMap<TopicPartition, Offset>,
}

impl Feed {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.shared.waiting.lock().expect("nobody panics with the lock")
    }

    /// Appends records, and says where their partitions end with them.
    pub(crate) fn publish(&self, records: Vec<NewRecord>) -> BTreeMap<TopicPartition, Offset> {
        let mut reached = BTreeMap::new();
        let mut waiting = self.waiting();
        for NewRecord { to, key, value, headers } in records {
            let end = waiting.ends.entry(to.clone()).or_default();
            let offset = *end;
            *end += 1;
            reached.insert(to.clone(), offset + 1);
            waiting.records.push_back(Record { at: to, offset, timestamp: Timestamp::UNIX_EPOCH, key, value, headers });
        }
        drop(waiting);
        self.shared.come.notify_one();
        reached
    }

    fn take(&self, records_max: usize) -> Progress {
        let mut waiting = self.waiting();
        let count = waiting.records.len().min(records_max);
        let records: Vec<Record> = waiting.records.drain(..count).collect();
        let positions: BTreeMap<_, _> = records.iter().map(|record| (record.at.clone(), record.offset + 1)).collect();
        Progress { records, positions: positions.into_iter().collect() }
    }
}

#[async_trait]
impl Follower for Feed {
    async fn assign(&mut self, _at: TopicPartition, _offset: Offset) -> Result<(), LogError> {
        Ok(())
    }

    async fn unassign(&mut self, _at: &TopicPartition) -> Result<(), LogError> {
        Ok(())
    }

    async fn poll(&mut self, records_max: usize, wait: Duration) -> Result<Progress, LogError> {
        let progress = self.take(records_max);
        if !progress.records.is_empty() || tokio::time::timeout(wait, self.shared.come.notified()).await.is_err() {
            return Ok(progress);
        }
        Ok(self.take(records_max))
    }
}

fn not_here<T>() -> Result<T, LogError> {
    Err(LogError::Unusable { reason: "the benchmark's log is only followed".to_owned() })
}

#[async_trait]
impl Log for Feed {
    async fn ensure_topics(&self, _topics: &[TopicSpec]) -> Result<Vec<Arc<str>>, LogError> {
        not_here()
    }

    async fn describe_topics(&self, _topics: &[Arc<str>]) -> Result<Vec<Option<TopicFound>>, LogError> {
        not_here()
    }

    async fn partitions(&self, topic: &str) -> Result<Option<u32>, LogError> {
        Ok(Some(if topic.ends_with("resolver") { 1 } else { PARTITIONS }))
    }

    async fn watermarks(&self, at: &TopicPartition) -> Result<Watermarks, LogError> {
        Ok(Watermarks { low: 0, high: self.waiting().ends.get(at).copied().unwrap_or(0) })
    }

    async fn offset_at(&self, _at: &TopicPartition, _time: Timestamp) -> Result<Offset, LogError> {
        not_here()
    }

    async fn append(&self, _records: Vec<NewRecord>) -> Result<(), LogError> {
        not_here()
    }

    async fn follower(&self) -> Result<Box<dyn Follower>, LogError> {
        Ok(Box::new(self.clone()))
    }

    async fn join(&self, _spec: GroupSpec) -> Result<Box<dyn Member>, LogError> {
        not_here()
    }

    async fn writer(&self, _transactional_id: &str) -> Result<Box<dyn Writer>, LogError> {
        not_here()
    }

    async fn committed(
        &self,
        _group: &str,
        _at: &TopicPartition,
        _isolation: Isolation,
    ) -> Result<Option<CommittedOffset>, LogError> {
        not_here()
    }
}
