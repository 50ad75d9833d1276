//! Questions to the broker: partitions, watermarks, times, committed offsets.
//!
//! Each blocks until it is answered or its deadline is over, so each runs on a blocking thread, a bounded number at a
//! time. The clients are kept: a new connection costs more than any of the questions.
//!
//! Watermarks come from a consumer that reads uncommitted records. Under `read_committed` the upper one would be the
//! last stable offset, which hides what a catch-up must wait for.

use std::{collections::HashMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;
use rdkafka::{
    TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    topic_partition_list::Offset as NativeOffset,
};
use tokio::sync::Semaphore;

use super::client::{
    Connection, Context, DESCRIBE, Offloaded, QUERY_DEADLINE, Task, answered, code_of, creation_error, error_of_code,
    log_error, partition_id, serve, unless_garbled,
};
use crate::log::{CommittedOffset, Isolation, LogError, Offset, TopicPartition, Watermarks};

/// Questions under way at once; more wait for a place.
const QUESTIONS_MAX: usize = 16;
/// How long committed offsets may stay unstable before we say so.
const STABLE_WITHIN: Duration = Duration::from_secs(1);
/// Groups whose consumers are kept.
const GROUPS_MAX: usize = 32;

/// How a topic is spread over the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) partitions: u32,
    /// Replicas of the partition that has the fewest, those on brokers that are away included.
    pub(super) replicas_min: u32,
}

type Consumers = HashMap<(Arc<str>, bool), Arc<Offloaded<BaseConsumer<Context>>>>;

/// Asks, with a deadline on each question.
pub(super) struct Inquiry {
    connection: Connection,
    topics: Arc<Offloaded<BaseConsumer<Context>>>,
    /// By group, and by whether they wait for stable offsets.
    groups: Arc<Mutex<Consumers>>,
    places: Arc<Semaphore>,
}

impl Inquiry {
    pub(super) fn new(connection: &Connection) -> Result<Self, LogError> {
        let topics = connection
            .inquirer()
            .create_with_context(Context::new("inquiry"))
            .map_err(|error| creation_error(&error))?;
        Ok(Self {
            connection: connection.clone(),
            topics: Arc::new(Offloaded::new(topics)),
            groups: Arc::default(),
            places: Arc::new(Semaphore::new(QUESTIONS_MAX)),
        })
    }

    /// The consumer behind the questions about topics, for a thread that asks by itself.
    pub(super) fn topics(&self) -> Arc<Offloaded<BaseConsumer<Context>>> {
        Arc::clone(&self.topics)
    }

    async fn ask<T: Send + 'static>(
        &self,
        doing: &'static str,
        question: impl FnOnce() -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let unavailable = |reason: &str| LogError::Unavailable { doing, reason: reason.to_owned() };
        let place = Arc::clone(&self.places).acquire_owned();
        let Ok(place) = tokio::time::timeout(QUERY_DEADLINE, place).await else {
            return Err(unavailable("too many unanswered questions to the broker"));
        };
        let place = place.expect("the semaphore is never closed");
        let answer = tokio::task::spawn_blocking(move || {
            // The place is taken until the thread is free, even if the asker has gone.
            let _place = place;
            question()
        });
        answer.await.unwrap_or_else(|_panicked_or_ending| Err(unavailable("the runtime is shutting down")))
    }

    pub(super) async fn partitions(&self, topic: &str) -> Result<Option<u32>, LogError> {
        let (topics, topic) = (self.topics(), topic.to_owned());
        self.ask("asking for the partitions of a topic", move || answered(&topics, partitions(&topics, &topic))).await
    }

    pub(super) async fn shape(&self, topic: &str) -> Result<Option<Shape>, LogError> {
        let (topics, topic) = (self.topics(), topic.to_owned());
        self.ask("asking for the partitions of a topic", move || answered(&topics, shape(&topics, &topic))).await
    }

    pub(super) async fn watermarks(&self, at: &TopicPartition) -> Result<Watermarks, LogError> {
        let (topics, at) = (self.topics(), at.clone());
        self.ask("asking for the ends of a partition", move || answered(&topics, watermarks(&topics, &at))).await
    }

    pub(super) async fn offset_at(&self, at: &TopicPartition, time: Timestamp) -> Result<Offset, LogError> {
        const TASK: Task = Task::new("asking for the offset of a time", DESCRIBE);
        let (topics, at) = (self.topics(), at.clone());
        self.ask(TASK.doing, move || {
            // The end is taken first: a record that arrives between the two questions must not be skipped.
            let end = watermarks(&topics, &at)?.high;
            let mut list = TopicPartitionList::new();
            let subject = format!("topic {}", at.topic);
            // Times before the epoch mean "from the beginning", as negative offsets have other meanings here.
            let time = NativeOffset::Offset(time.as_millisecond().max(0));
            list.add_partition_offset(&at.topic, partition_id(&at), time)
                .map_err(|error| log_error(TASK, &subject, &error))?;
            let found = topics.offsets_for_times(list, QUERY_DEADLINE);
            serve(&topics);
            let found = found.map_err(|error| log_error(TASK, &subject, &error))?;
            let element = found.find_partition(&at.topic, partition_id(&at));
            let element = element.ok_or_else(|| error_of_code(TASK, &subject, RDKafkaErrorCode::Fail))?;
            element.error().map_err(|error| log_error(TASK, &subject, &error))?;
            Ok(match element.offset() {
                NativeOffset::Offset(offset) => u64::try_from(offset).unwrap_or(0),
                _ => end,
            })
        })
        .await
    }

    pub(super) async fn committed(
        &self,
        group: &str,
        at: &TopicPartition,
        isolation: Isolation,
    ) -> Result<Option<CommittedOffset>, LogError> {
        let (group, at): (Arc<str>, _) = (group.into(), at.clone());
        let (connection, groups) = (self.connection.clone(), Arc::clone(&self.groups));
        self.ask(COMMITTED.doing, move || {
            let plain = consumer_of(&connection, &groups, &group, false)?;
            // The plain consumer goes first. It tells a broker that is away from an offset that is unstable, which
            // look alike to the other one.
            let newest = committed(&plain, &group, &at, QUERY_DEADLINE)?;
            if isolation == Isolation::ReadUncommitted {
                return Ok(newest);
            }
            let stable = consumer_of(&connection, &groups, &group, true)?;
            match committed(&stable, &group, &at, STABLE_WITHIN) {
                Err(LogError::Unavailable { .. }) => Err(LogError::Unstable { at }),
                answer => answer,
            }
        })
        .await
    }
}

const COMMITTED: Task = Task::new("asking for a committed offset", DESCRIBE);

/// A consumer that is asked for the offsets of `group` and never joins it.
fn consumer_of(
    connection: &Connection,
    groups: &Mutex<Consumers>,
    group: &Arc<str>,
    stable: bool,
) -> Result<Arc<Offloaded<BaseConsumer<Context>>>, LogError> {
    let key = (Arc::clone(group), stable);
    if let Some(consumer) = groups.lock().get(&key) {
        return Ok(Arc::clone(consumer));
    }
    let isolation = if stable { "read_committed" } else { "read_uncommitted" };
    let consumer = connection.consumer(group, isolation).create_with_context(Context::new("committed offsets"));
    let consumer = Arc::new(Offloaded::new(consumer.map_err(|error| creation_error(&error))?));
    // The first question includes finding the coordinator, and `STABLE_WITHIN` is not meant for that. A partition that
    // no topic has is never unstable.
    let warm_up = TopicPartition::new("contact-replicator-no-such-topic", 0);
    if let Err(error @ LogError::Unavailable { .. }) = committed(&consumer, group, &warm_up, QUERY_DEADLINE) {
        return Err(error);
    }
    let mut groups = groups.lock();
    if groups.len() >= GROUPS_MAX {
        groups.clear();
    }
    groups.insert(key, Arc::clone(&consumer));
    Ok(consumer)
}

fn committed(
    consumer: &BaseConsumer<Context>,
    group: &str,
    at: &TopicPartition,
    within: Duration,
) -> Result<Option<CommittedOffset>, LogError> {
    let mut list = TopicPartitionList::new();
    list.add_partition(&at.topic, partition_id(at));
    let answer = consumer.committed_offsets(list, within);
    serve(consumer);
    // An offset is the group's and about the topic, and either may be what is not permitted.
    let refused = |error: &KafkaError| match code_of(error) {
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => log_error(COMMITTED, &format!("topic {}", at.topic), error),
        _ => log_error(COMMITTED, &format!("group {group}, topic {}", at.topic), error),
    };
    let answer = answer.map_err(|error| refused(&error))?;
    let Some(element) = answer.find_partition(&at.topic, partition_id(at)) else {
        return Ok(None);
    };
    element.error().map_err(|error| refused(&error))?;
    Ok(match element.offset() {
        NativeOffset::Offset(offset) => Some(CommittedOffset {
            offset: u64::try_from(offset).unwrap_or(0),
            // A foreign tool may have written anything there; whatever is not text names no writer of ours.
            metadata: unless_garbled(|| element.metadata().to_owned()).unwrap_or_default(),
        }),
        _ => None,
    })
}

/// The number of partitions of a topic, `None` if there is no such topic. Blocks.
pub(super) fn partitions(consumer: &BaseConsumer<Context>, topic: &str) -> Result<Option<u32>, LogError> {
    Ok(shape(consumer, topic)?.map(|shape| shape.partitions))
}

/// Partitions and replicas of a topic, `None` if there is no such topic. Blocks.
fn shape(consumer: &BaseConsumer<Context>, topic: &str) -> Result<Option<Shape>, LogError> {
    const TASK: Task = Task::new("asking for the partitions of a topic", DESCRIBE);
    let subject = format!("topic {topic}");
    let metadata = consumer.fetch_metadata(Some(topic), QUERY_DEADLINE);
    serve(consumer);
    let metadata = match metadata {
        Ok(metadata) => metadata,
        Err(error) if is_unknown_topic(&error) => return Ok(None),
        Err(error) => return Err(log_error(TASK, &subject, &error)),
    };
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Ok(None);
    };
    match found.error().map(RDKafkaErrorCode::from) {
        None => {
            let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
            let replicas = found.partitions().iter().map(|partition| count(partition.replicas().len())).min();
            Ok(replicas.map(|replicas_min| Shape { partitions: count(found.partitions().len()), replicas_min }))
        }
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
        Some(code) => Err(error_of_code(TASK, &subject, code)),
    }
}

fn is_unknown_topic(error: &KafkaError) -> bool {
    matches!(code_of(error), Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic))
}

/// Where a partition begins and ends, open transactions included. Blocks.
pub(super) fn watermarks(consumer: &BaseConsumer<Context>, at: &TopicPartition) -> Result<Watermarks, LogError> {
    const TASK: Task = Task::new("asking for the ends of a partition", DESCRIBE);
    let answer = consumer.fetch_watermarks(&at.topic, partition_id(at), QUERY_DEADLINE);
    serve(consumer);
    match answer {
        Ok((low, high)) => {
            Ok(Watermarks { low: u64::try_from(low).unwrap_or(0), high: u64::try_from(high).unwrap_or(0) })
        }
        Err(error) => Err(log_error(TASK, &format!("topic {}", at.topic), &error)),
    }
}
