//! The log inside this process.
//!
//! In memory it is the log of the demo and of the simulated tests: several "processes" of a simulation are several users
//! of one [`LocalLog`]. On disk it is the log of an installation of one worker, which needs no broker then. Both mean
//! what the seam says they mean, no more and no less, because code that was only tried on a friendlier log than Kafka
//! has not been tried; and both are one code, except for where records are once they are committed.
//!
//! In memory it has no thread and no task that drives it. Everything that happens by itself (a session that ends, a transaction
//! that times out, a drain that takes too long) is a deadline in its state; whoever uses the log moves it to the
//! current instant first, and whoever waits wakes at the earliest deadline. So it obeys a paused clock, and two runs of
//! one simulation are the same.
//!
//! - `memory`: records of topics, and what of them is on its way to a disk. Knows offsets, keys and time; knows no writers and no groups.
//! - `transactions`: which transaction of which writer is open, and what its end does.
//! - `group`: who owns which partition, and which offsets were committed.
//! - `shared`: the lock around these three, the deadlines, and waiting.
//! - `writer`, `follower`, `member`: the seam's traits over it.
//! - `disk`: the folder of a log that outlives its process.
//! - `control`: what a test can do to a log that its users cannot: faults, lag, expulsions, compaction.
//!
//! What differs from a broker, and may: a commit is visible when it is answered (unless a fault delays its markers), a
//! rebalance takes no time but that of its drains, and in memory nothing is compacted or deleted until it is asked for. On
//! disk, what was answered survives a killed process, and not a machine that goes down.

mod control;
mod disk;
mod follower;
mod group;
mod member;
mod memory;
mod shared;
mod transactions;
mod writer;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::time::Instant;

pub use control::{Faults, MemberStatus, Point, Verdict};
pub use disk::{DiskSettings, Presence, presence};
pub use group::MemberId;

use super::{
    CommittedOffset, Follower, GroupSpec, Isolation, Log, LogError, Member, NewRecord, Offset, TopicFound,
    TopicPartition, TopicSpec, Watermarks, Writer,
};
use crate::clock::Clock;
use follower::LocalFollower;
use member::LocalMember;
use memory::Unfit;
use shared::Shared;
use writer::LocalWriter;

/// How long [`Log::committed`] waits for a transaction that holds the offset.
const STABLE_WAIT: Duration = Duration::from_secs(1);

/// Deadlines of the log, as a broker and its client would have them.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// A member that is silent for this long is expelled.
    pub session_timeout: Duration,
    /// How long a revoke waits for the drain of the partitions that leave.
    pub drain_deadline: Duration,
    /// A transaction that is open for this long is aborted, and its writer fenced.
    pub transaction_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            session_timeout: Duration::from_secs(6),
            drain_deadline: Duration::from_secs(4),
            transaction_timeout: Duration::from_secs(10),
        }
    }
}

/// A log in memory, or on disk. Clones are the same log.
#[derive(Clone)]
pub struct LocalLog {
    shared: Arc<Shared>,
}

impl fmt::Debug for LocalLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalLog")
    }
}

impl LocalLog {
    /// An empty log. Records are stamped by `clock`; deadlines follow tokio's.
    pub fn new(settings: Settings, clock: Clock) -> Self {
        Self { shared: Arc::new(Shared::new(settings, clock)) }
    }

    /// The log in a folder, as its last process left it. Blocks while it is opened.
    ///
    /// # Errors
    /// [`LogError::Unusable`] if another process has it, or if it cannot be read; then nothing in it was touched.
    pub fn open(settings: Settings, disk: DiskSettings, clock: Clock) -> Result<Self, LogError> {
        Ok(Self { shared: Arc::new(Shared::open(settings, disk, clock)?) })
    }

    /// Deletes and compacts, in all topics, what need not be kept, and gives its space back. In memory this is asked
    /// for partition by partition, and this does nothing.
    ///
    /// # Errors
    /// [`LogError::Unusable`] if the disk fails; the log goes on as it was if it can.
    pub async fn compact_disk(&self) -> Result<(), LogError> {
        match self.shared.disk() {
            Some(disk) => disk.compact().await,
            None => Ok(()),
        }
    }
}

fn no_such_topic(at: &TopicPartition) -> LogError {
    LogError::UnknownTopic { topic: Arc::clone(&at.topic) }
}

#[async_trait]
impl Log for LocalLog {
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<Vec<Arc<str>>, LogError> {
        let created = self.shared.with(|state, _| {
            let ensured = state.topics.ensure(topics)?;
            state.unwritten = true;
            Ok::<_, LogError>(ensured)
        })?;
        self.shared.written().await?;
        Ok(created)
    }

    async fn describe_topics(&self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicFound>>, LogError> {
        Ok(self.shared.with(|state, _| topics.iter().map(|topic| state.topics.described(topic)).collect()))
    }

    async fn partitions(&self, topic: &str) -> Result<Option<u32>, LogError> {
        Ok(self.shared.with(|state, _| state.topics.partitions(topic)))
    }

    async fn watermarks(&self, at: &TopicPartition) -> Result<Watermarks, LogError> {
        self.shared
            .with(|state, _| state.topics.partition(at).map(|partition| partition.watermarks()))
            .ok_or_else(|| no_such_topic(at))
    }

    async fn offset_at(&self, at: &TopicPartition, time: Timestamp) -> Result<Offset, LogError> {
        self.shared.offset_at(at, time).await?.ok_or_else(|| no_such_topic(at))
    }

    async fn append(&self, records: Vec<NewRecord>) -> Result<(), LogError> {
        let timestamp = self.shared.timestamp();
        self.shared.with(|state, _| {
            if let Some(disk) = &state.disk
                && disk.bytes > disk.bytes_max
            {
                let reason = format!(
                    "it has {} bytes, and log.local.bytes_max is {}; raise it, or wait until less is kept",
                    disk.bytes, disk.bytes_max
                );
                return Err(LogError::Full { reason });
            }
            for record in &records {
                state.topics.fits(record).map_err(|unfit| match unfit {
                    Unfit::Nowhere => no_such_topic(&record.to),
                    Unfit::TooLarge | Unfit::Keyless => LogError::Unusable { reason: unfit.reason(&record.to) },
                })?;
            }
            for record in records {
                state.topics.append(record, timestamp, None);
            }
            (state.changed, state.unwritten) = (true, true);
            Ok(())
        })?;
        self.shared.written().await
    }

    async fn follower(&self) -> Result<Box<dyn Follower>, LogError> {
        Ok(Box::new(LocalFollower::new(Arc::clone(&self.shared))))
    }

    async fn join(&self, spec: GroupSpec) -> Result<Box<dyn Member>, LogError> {
        Ok(Box::new(LocalMember::join(Arc::clone(&self.shared), spec)?))
    }

    async fn writer(&self, transactional_id: &str) -> Result<Box<dyn Writer>, LogError> {
        Ok(Box::new(LocalWriter::open(Arc::clone(&self.shared), transactional_id).await?))
    }

    async fn committed(
        &self,
        group: &str,
        at: &TopicPartition,
        isolation: Isolation,
    ) -> Result<Option<CommittedOffset>, LogError> {
        let until = Instant::now() + STABLE_WAIT;
        let committed = self
            .shared
            .wait(Some(until), |state, _| match state.groups.get(group) {
                None => Ok(None),
                Some(group) if isolation == Isolation::ReadCommitted && group.holds(at) => Err(None),
                Some(group) => Ok(group.committed(at)),
            })
            .await
            .ok_or_else(|| LogError::Unstable { at: at.clone() })?;
        // Nobody acts on an offset that a killed process would forget.
        self.shared.written().await?;
        Ok(committed)
    }
}

#[cfg(test)]
mod tests;
