//! The log on Apache Kafka.
//!
//! The only folder that names rdkafka. Nearly every call of it blocks, and its callbacks run inside a poll, so each
//! follower, member and writer has a thread of its own, which owns its client; they are spoken to through bounded
//! queues. Questions that are asked once run on blocking threads, with a deadline each. Nothing here blocks a thread of
//! the runtime, and nothing waits for a broker without an end, except a member for its next event.
//!
//! ```text
//! client      configuration, log lines, what an error means        inquiry   partitions, ends, times, committed offsets
//! topics      creates and compares our topics                      appender  records outside any transaction
//! follower    chosen partitions from chosen offsets                writer    transactions
//! member      a group's member: thread and callbacks               membership  what a member knows, without I/O
//! names       static names that others took            library   what librdkafka says of itself
//! gaps        partitions without an owner              generations  of a named member, and which of them is shown
//! ```

mod appender;
mod client;
mod follower;
mod gaps;
mod generations;
mod inquiry;
mod library;
mod member;
mod membership;
mod names;
mod topics;
mod writer;

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;

pub(crate) use self::client::OURS;
pub use self::library::{Library, library};
use self::{
    appender::Appender, client::Connection, follower::KafkaFollower, inquiry::Inquiry, member::KafkaMember,
    writer::KafkaWriter,
};
use super::{
    CommittedOffset, Follower, GroupSpec, Isolation, Log, LogError, Member, NewRecord, Offset, TopicFound,
    TopicPartition, TopicSpec, Watermarks, Writer,
};
use crate::config::KafkaSettings;

/// A log on a Kafka cluster.
pub struct KafkaLog {
    connection: Connection,
    inquiry: Inquiry,
    appender: Appender,
}

impl KafkaLog {
    /// Checks the settings and makes the clients that are shared. No broker is waited for.
    ///
    /// # Errors
    /// [`LogError::Unusable`] naming the property at fault, or the feature that this build lacks.
    pub fn new(settings: KafkaSettings) -> Result<Self, LogError> {
        let connection = Connection::new(settings)?;
        Ok(Self { inquiry: Inquiry::new(&connection)?, appender: Appender::new(&connection)?, connection })
    }
}

impl fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KafkaLog").field(&self.connection).finish()
    }
}

#[async_trait]
impl Log for KafkaLog {
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<Vec<Arc<str>>, LogError> {
        topics::ensure(&self.connection, &self.inquiry, topics).await
    }

    async fn describe_topics(&self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicFound>>, LogError> {
        topics::describe(&self.connection, &self.inquiry, topics).await
    }

    async fn partitions(&self, topic: &str) -> Result<Option<u32>, LogError> {
        self.inquiry.partitions(topic).await
    }

    async fn watermarks(&self, at: &TopicPartition) -> Result<Watermarks, LogError> {
        self.inquiry.watermarks(at).await
    }

    async fn offset_at(&self, at: &TopicPartition, time: Timestamp) -> Result<Offset, LogError> {
        self.inquiry.offset_at(at, time).await
    }

    async fn append(&self, records: Vec<NewRecord>) -> Result<(), LogError> {
        self.appender.append(&records).await
    }

    async fn follower(&self) -> Result<Box<dyn Follower>, LogError> {
        Ok(Box::new(KafkaFollower::new(&self.connection, &self.inquiry)?))
    }

    async fn join(&self, spec: GroupSpec) -> Result<Box<dyn Member>, LogError> {
        Ok(Box::new(KafkaMember::join(&self.connection, spec)?))
    }

    async fn writer(&self, transactional_id: &str) -> Result<Box<dyn Writer>, LogError> {
        Ok(Box::new(KafkaWriter::open(&self.connection, transactional_id).await?))
    }

    async fn committed(
        &self,
        group: &str,
        at: &TopicPartition,
        isolation: Isolation,
    ) -> Result<Option<CommittedOffset>, LogError> {
        self.inquiry.committed(group, at, isolation).await
    }
}
