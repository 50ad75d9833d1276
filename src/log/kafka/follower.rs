//! Reads chosen partitions from chosen offsets.
//!
//! A thread owns the consumer and does what it is told through one bounded queue of commands, in order. A poll asks
//! the thread for one batch; the next batch is asked for as soon as one was taken, so that reading and applying overlap
//! by exactly one batch. librdkafka's own queue, bounded too, holds what lies ahead of that.
//!
//! What is hard here:
//! - *Positions.* A consumer's position passes transaction markers and aborted records, which no record does; it is
//!   asked once per batch, for all partitions together. It stays unset until something was passed.
//! - *Out of range.* librdkafka says once that some partition has lost its position, without saying which, and stops
//!   reading it. So the partitions are compared with their watermarks until the lost one is found.
//! - *A batch in flight* may hold records of a partition that was assigned anew since. Batches carry the number of the
//!   last command before them; what a later command concerns is dropped from them.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{Arc, mpsc},
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use rdkafka::{
    Message, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers},
    topic_partition_list::Offset as NativeOffset,
};
use tokio::{sync::oneshot, time::Instant};
use tracing::warn;

use super::{
    client::{
        Connection, Context, Offloaded, Task, code_of, creation_error, list_of, log_error, native_offset, partition_id,
        thread_error, unless_garbled,
    },
    inquiry::{self, Inquiry},
};
use crate::log::{Follower, Header, LogError, Offset, Progress, Record, TopicPartition};

const TASK: Task = Task::new("following", "READ");
/// Group of consumers that assign their partitions themselves: librdkafka asks for a name, no broker keeps anything
/// under it.
const NO_GROUP: &str = "contact-replicator-follower";
/// Longest wait inside the thread; a command waits for it at most this long.
const THREAD_WAIT: Duration = Duration::from_millis(50);
/// Bytes of one batch, beside the number of its records.
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Commands on their way to the thread. A caller that assigns more at once waits.
const COMMANDS_MAX: usize = 256;
/// Between two looks for a partition that was lost, and between two reports of a refusal that lasts.
const RECHECK_INTERVAL: Duration = Duration::from_secs(1);
const REPORT_INTERVAL: Duration = Duration::from_secs(30);
/// How long a topic may take to tell whether we may read it.
const PROBE_DEADLINE: Duration = Duration::from_secs(2);

enum Command {
    Assign { number: u64, at: TopicPartition, offset: Offset },
    Unassign { number: u64, at: TopicPartition },
    Read { records_max: usize, batch: oneshot::Sender<Batch> },
}

/// What the thread read for one command.
#[derive(Default)]
struct Batch {
    progress: Progress,
    errors: Vec<LogError>,
    /// The last assignment or withdrawal that it takes into account.
    number: u64,
}

pub(super) struct KafkaFollower {
    commands: mpsc::SyncSender<Command>,
    /// The batch that was asked for and not yet taken.
    awaited: Option<oneshot::Receiver<Batch>>,
    /// Told before anything else is read.
    errors: VecDeque<LogError>,
    number: u64,
    /// Partitions concerned by commands that the last batch did not know of.
    changes: VecDeque<(u64, TopicPartition)>,
}

impl KafkaFollower {
    pub(super) fn new(connection: &Connection, inquiry: &Inquiry) -> Result<Self, LogError> {
        let config = connection.consumer(NO_GROUP, "read_committed");
        let consumer =
            config.create_with_context(Context::groupless("follower")).map_err(|error| creation_error(&error))?;
        let (commands, received) = mpsc::sync_channel(COMMANDS_MAX);
        let reader = Reader {
            consumer,
            topics: inquiry.topics(),
            assigned: BTreeMap::new(),
            names: HashSet::new(),
            number: 0,
            unread: None,
            connection: connection.clone(),
            search: None,
            reported: None,
        };
        std::thread::Builder::new()
            .name("kafka-follower".to_owned())
            .spawn(move || reader.run(&received))
            .map_err(|error| thread_error(&error))?;
        Ok(Self { commands, awaited: None, errors: VecDeque::new(), number: 0, changes: VecDeque::new() })
    }

    /// Sends a command, waiting while the queue is full. A caller that goes away meanwhile has asked for nothing.
    async fn send(&self, mut command: Command) -> Result<(), LogError> {
        loop {
            match self.commands.try_send(command) {
                Ok(()) => return Ok(()),
                Err(mpsc::TrySendError::Full(returned)) => command = returned,
                Err(mpsc::TrySendError::Disconnected(_)) => return Err(ended()),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Sends a command that changes what is read, and remembers that the batch in flight does not know of it.
    async fn change(
        &mut self,
        at: &TopicPartition,
        command: impl FnOnce(u64) -> Command + Send,
    ) -> Result<(), LogError> {
        let number = self.number + 1;
        self.send(command(number)).await?;
        self.number = number;
        self.changes.push_back((number, at.clone()));
        Ok(())
    }

    /// Takes out of a batch what concerns partitions that were assigned anew or withdrawn after it was begun.
    fn sift(&mut self, batch: &mut Batch) {
        self.changes.retain(|(number, _)| *number > batch.number);
        if self.changes.is_empty() {
            return;
        }
        let changed: HashSet<&TopicPartition> = self.changes.iter().map(|(_, at)| at).collect();
        batch.progress.records.retain(|record| !changed.contains(&record.at));
        batch.progress.positions.retain(|(at, _)| !changed.contains(at));
        batch.errors.retain(|error| !matches!(error, LogError::OutOfRange { at, .. } if changed.contains(at)));
    }
}

fn ended() -> LogError {
    LogError::Unusable { reason: "the thread of a follower has ended".to_owned() }
}

#[async_trait]
impl Follower for KafkaFollower {
    async fn assign(&mut self, at: TopicPartition, offset: Offset) -> Result<(), LogError> {
        self.change(&at.clone(), |number| Command::Assign { number, at, offset }).await
    }

    async fn unassign(&mut self, at: &TopicPartition) -> Result<(), LogError> {
        self.change(at, |number| Command::Unassign { number, at: at.clone() }).await
    }

    async fn poll(&mut self, records_max: usize, wait: Duration) -> Result<Progress, LogError> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(error) = self.errors.pop_front() {
                return Err(error);
            }
            if self.awaited.is_none() {
                let (batch, awaited) = oneshot::channel();
                self.send(Command::Read { records_max, batch }).await?;
                self.awaited = Some(awaited);
            }
            // The receiver stays where it is while we wait, so that a caller who goes away loses nothing.
            let awaited = self.awaited.as_mut().expect("asked for just above");
            let Ok(batch) = tokio::time::timeout_at(deadline.max(Instant::now() + THREAD_WAIT * 4), awaited).await
            else {
                // The thread is busy, with a broker that does not answer; its batch is taken next time.
                return Ok(Progress::default());
            };
            self.awaited = None;
            let mut batch = batch.map_err(|_thread_is_gone| ended())?;
            self.sift(&mut batch);
            self.errors.extend(batch.errors);
            if !batch.progress.records.is_empty() || !batch.progress.positions.is_empty() {
                self.read_ahead(records_max);
                return Ok(batch.progress);
            }
            if self.errors.is_empty() && Instant::now() >= deadline {
                return Ok(Progress::default());
            }
        }
    }
}

impl KafkaFollower {
    /// Has the next batch read while the caller works on this one.
    fn read_ahead(&mut self, records_max: usize) {
        let (batch, awaited) = oneshot::channel();
        if self.commands.try_send(Command::Read { records_max, batch }).is_ok() {
            self.awaited = Some(awaited);
        }
    }
}

struct Assigned {
    /// The next offset to read: where it was told to start, then behind what was passed.
    position: Offset,
    /// Out of range; told, and dead until assigned anew.
    lost: bool,
}

struct Reader {
    consumer: BaseConsumer<Context>,
    /// Answers for watermarks; our own consumer would give the last stable offset.
    topics: Arc<Offloaded<BaseConsumer<Context>>>,
    assigned: BTreeMap<TopicPartition, Assigned>,
    /// Topic names, shared by the records of a topic.
    names: HashSet<Arc<str>>,
    number: u64,
    /// A batch whose asker went away.
    unread: Option<Batch>,
    /// For the rare question which topic it is that may not be read.
    connection: Connection,
    /// When to look (again) for the partition that is out of range, or for the topic that is missing.
    search: Option<Instant>,
    /// When a lasting refusal was last reported.
    reported: Option<Instant>,
}

impl Reader {
    fn run(mut self, commands: &mpsc::Receiver<Command>) {
        loop {
            match commands.recv_timeout(RECHECK_INTERVAL) {
                Ok(Command::Assign { number, at, offset }) => {
                    self.number = number;
                    self.withdraw(&at);
                    self.assign(at, offset);
                }
                Ok(Command::Unassign { number, at }) => {
                    self.number = number;
                    self.withdraw(&at);
                }
                Ok(Command::Read { records_max, batch }) => {
                    let read = self.unread.take().unwrap_or_else(|| self.read(records_max));
                    // An asker that was dropped with its follower wants nothing more; a follower keeps its receiver.
                    self.unread = batch.send(read).err();
                }
                // Nobody reads: a consumer without a group must not be polled to stay alive, and what it fetched
                // ahead is bounded.
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn assign(&mut self, at: TopicPartition, offset: Offset) {
        let mut list = TopicPartitionList::new();
        let added = list.add_partition_offset(&at.topic, partition_id(&at), native_offset(offset));
        if let Err(error) = added.and_then(|()| self.consumer.incremental_assign(&list)) {
            // Only a partition that is assigned already, or a number that is none, is refused: our own mistake.
            warn!(%at, offset, %error, "a partition could not be followed");
        }
        self.names.insert(Arc::clone(&at.topic));
        self.assigned.insert(at, Assigned { position: offset, lost: false });
    }

    fn withdraw(&mut self, at: &TopicPartition) {
        if self.assigned.remove(at).is_none() {
            return;
        }
        let list = list_of([(&*at.topic, partition_id(at))]);
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            warn!(%at, %error, "a partition could not be given up");
        }
    }

    fn read(&mut self, records_max: usize) -> Batch {
        let mut batch = Batch { number: self.number, ..Batch::default() };
        let mut bytes = 0;
        let mut wait = THREAD_WAIT;
        let deadline = Instant::now() + THREAD_WAIT;
        while batch.progress.records.len() < records_max.max(1) && bytes < BATCH_BYTES_MAX {
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    // Records come in runs of one partition, so the last one is a good guess.
                    let last = batch.progress.records.last().map(|record| &record.at);
                    let at = last.filter(|at| is_from(&message, at)).cloned().or_else(|| self.place_of(&message));
                    if let Some(at) = at {
                        bytes += message.payload_len() + message.key_len();
                        batch.progress.records.push(record_of(&message, at));
                    }
                }
                Some(Err(error)) => self.judge(&error, &mut batch.errors),
                None if wait.is_zero() || Instant::now() >= deadline => break,
                None => continue,
            }
            wait = Duration::ZERO;
        }
        self.find_lost(&mut batch.errors);
        self.note_positions(&mut batch.progress);
        batch
    }

    /// The partition of a message, if it is (still) followed.
    fn place_of(&self, message: &BorrowedMessage<'_>) -> Option<TopicPartition> {
        let topic = Arc::clone(self.names.get(message.topic())?);
        let at = TopicPartition { topic, partition: u32::try_from(message.partition()).ok()? };
        self.assigned.contains_key(&at).then_some(at)
    }

    fn judge(&mut self, error: &KafkaError, errors: &mut Vec<LogError>) {
        use RDKafkaErrorCode as Code;
        match code_of(error) {
            Some(
                Code::AutoOffsetReset
                | Code::OffsetOutOfRange
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::UnknownPartition,
            ) => {
                self.search = Some(Instant::now());
            }
            Some(Code::TopicAuthorizationFailed | Code::Authentication | Code::SaslAuthenticationFailed) => {
                let now = Instant::now();
                if self.reported.is_none_or(|reported| now.duration_since(reported) >= REPORT_INTERVAL) {
                    self.reported = Some(now);
                    errors.push(log_error(TASK, &self.refused_topic(), error));
                }
            }
            // A broker that is away comes back; the context has told it. So has our group that no broker keeps.
            _ => {}
        }
    }

    /// Names the topic that may not be read, which the error does not: each is asked by a reader of its own.
    fn refused_topic(&self) -> String {
        let one_of_each: BTreeMap<&str, &TopicPartition> = self.assigned.keys().map(|at| (&*at.topic, at)).collect();
        match one_of_each.iter().find(|(_, at)| self.may_not_read(at)) {
            Some((topic, _)) => format!("topic {topic}"),
            None => format!("one of the topics {}", one_of_each.into_keys().collect::<Vec<_>>().join(", ")),
        }
    }

    fn may_not_read(&self, at: &TopicPartition) -> bool {
        let mut config = self.connection.consumer(NO_GROUP, "read_uncommitted");
        // An empty partition answers as well.
        config.set("enable.partition.eof", "true");
        let Ok(consumer) = config.create_with_context::<_, BaseConsumer<Context>>(Context::groupless("follower"))
        else {
            return false;
        };
        let mut list = TopicPartitionList::new();
        let end = list.add_partition_offset(&at.topic, partition_id(at), NativeOffset::End);
        if end.and_then(|()| consumer.assign(&list)).is_err() {
            return false;
        }
        let deadline = Instant::now() + PROBE_DEADLINE;
        while Instant::now() < deadline {
            match consumer.poll(THREAD_WAIT) {
                Some(Ok(_) | Err(KafkaError::PartitionEOF(_))) => return false,
                Some(Err(error)) if code_of(&error) == Some(RDKafkaErrorCode::TopicAuthorizationFailed) => return true,
                Some(Err(_)) | None => {}
            }
        }
        false
    }

    /// Finds which partition lost its position, or its topic. Tried until every partition could be judged.
    fn find_lost(&mut self, errors: &mut Vec<LogError>) {
        let now = Instant::now();
        if self.search.is_none_or(|at| now < at) {
            return;
        }
        self.search = None;
        let mut missing: HashSet<Arc<str>> = HashSet::new();
        for (at, assigned) in self.assigned.iter_mut().filter(|(_, assigned)| !assigned.lost) {
            match inquiry::watermarks(&self.topics, at) {
                Ok(ends) if (ends.low..=ends.high).contains(&assigned.position) => {}
                Ok(_) => {
                    assigned.lost = true;
                    errors.push(LogError::OutOfRange { at: at.clone(), offset: assigned.position });
                }
                Err(LogError::UnknownTopic { .. }) => {
                    assigned.lost = true;
                    if missing.insert(Arc::clone(&at.topic)) {
                        errors.push(LogError::UnknownTopic { topic: Arc::clone(&at.topic) });
                    }
                }
                Err(_unavailable) => self.search = Some(now + RECHECK_INTERVAL),
            }
        }
        if errors.is_empty() && self.search.is_none() {
            self.begin_again();
        }
    }

    /// No partition is out of range, though librdkafka gave one up: it starts them all again where they are.
    fn begin_again(&self) {
        let mut list = TopicPartitionList::new();
        for (at, assigned) in self.assigned.iter().filter(|(_, assigned)| !assigned.lost) {
            if let Err(error) = list.add_partition_offset(&at.topic, partition_id(at), native_offset(assigned.position))
            {
                warn!(%at, %error, "a partition could not be followed");
            }
        }
        if let Err(error) =
            self.consumer.incremental_unassign(&list).and_then(|()| self.consumer.incremental_assign(&list))
        {
            warn!(%error, "the partitions of a follower could not be begun again");
        }
    }

    fn note_positions(&mut self, progress: &mut Progress) {
        let Ok(list) = self.consumer.position() else {
            return;
        };
        for element in list.elements() {
            let NativeOffset::Offset(offset) = element.offset() else {
                continue;
            };
            let (Ok(position), Ok(partition)) = (Offset::try_from(offset), u32::try_from(element.partition())) else {
                continue;
            };
            let Some(topic) = self.names.get(element.topic()) else {
                continue;
            };
            let at = TopicPartition { topic: Arc::clone(topic), partition };
            let Some(assigned) = self.assigned.get_mut(&at) else {
                continue;
            };
            if position > assigned.position {
                assigned.position = position;
                progress.positions.push((at, position));
            }
        }
    }
}

fn is_from(message: &BorrowedMessage<'_>, at: &TopicPartition) -> bool {
    message.partition() == partition_id(at) && message.topic() == &*at.topic
}

/// A record as the rest of the program knows it. Copies: a message of librdkafka blocks its queue while it lives.
pub(super) fn record_of(message: &BorrowedMessage<'_>, at: TopicPartition) -> Record {
    let timestamp = message.timestamp().to_millis().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        (0..headers.count())
            .map(|index| {
                // A foreign producer may name a header as it likes. One that cannot be read keeps its place.
                unless_garbled(|| {
                    let header = headers.get(index);
                    Header::new(header.key, header.value.unwrap_or_default().to_vec())
                })
                .unwrap_or_else(|| Header::new("\u{fffd}", Vec::new()))
            })
            .collect()
    });
    Record {
        at,
        offset: Offset::try_from(message.offset()).unwrap_or(0),
        timestamp: timestamp.unwrap_or(Timestamp::UNIX_EPOCH),
        key: message.key().map(|key| key.to_vec().into()),
        value: message.payload().map(|value| value.to_vec().into()),
        headers,
    }
}
