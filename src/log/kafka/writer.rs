//! Commits transactions under one transactional id.
//!
//! A thread owns the producer: nearly every call to it blocks. Commands come one at a time through a bounded queue.
//!
//! What a failure means is decided in one order, fatal first, then abortable, then retriable: an error may be several
//! of these, and only the first that holds is safe. Three rules keep half a transaction from appearing:
//!
//! - Never commit unless the offsets of this very transaction were taken: after a time-out there, a commit would
//!   publish the records without them.
//! - The generation is taken first, then the assignments are compared with the member's own map, then the offsets are
//!   sent. The broker checks the generation and not who owns a partition; a partition that leaves after the comparison
//!   changes the generation before it goes to another.
//! - A commit that timed out is asked for again until our own deadline. Whatever ends it afterwards, short of a yes, is
//!   [`WriteError::Unknown`], for the first try may have been heard.
//!
//! A producer with records that no broker has answered for in time is of no more use, and is not asked to abort. librdkafka would purge
//! such a record, which may have been taken, and give its sequence number to the next one (`epoch_base_msgid` in
//! `rdkafka_partition.c`). The broker takes that for a repetition: it says yes, and keeps nothing, and a later transaction is
//! committed without it. Whoever opens the id next begins with numbers of its own.
//!
//! One call may never return: offsets that are on their way to a group coordinator whose broker has left the cluster (issues
//! 5456 and 5511 of librdkafka: it waits for a connection that nobody opens any more). The thread is then left behind with
//! its producer, as a dead one; it ends when the client library lets it go, and fenced as it is, it commits nothing.
//!
//! A dropped writer leaves its open transaction to whoever opens the id next, as a killed process would. One path for
//! both, and the next owner has to fence in any case.

use std::{
    collections::BTreeSet,
    future::pending,
    sync::{Arc, mpsc},
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::ConsumerGroupMetadata,
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    producer::{BaseProducer, DeliveryResult, Producer, ProducerContext},
};
use tokio::{
    sync::{oneshot, watch},
    time::{Instant, sleep_until},
};
use tracing::{debug, warn};

use super::{
    appender::native,
    client::{
        Connection, Context, Task, WRITE, code_of, creation_error, error_of_code, log_error, nap, native_offset,
        partition_id, thread_error,
    },
};
use crate::log::{GroupOffsets, LogError, TopicPartition, Transaction, WriteError, Writer};

const OPENING: Task = Task::new("opening a writer", WRITE);
const WRITING: Task = Task::new("writing", WRITE);
const COMMITTING: Task = Task::new("committing offsets", "READ");
/// How long opening may take: an open transaction of the predecessor is ended first.
const OPEN_DEADLINE: Duration = Duration::from_secs(30);
/// How long a commit is asked for before its result counts as unknown.
const COMMIT_DEADLINE: Duration = Duration::from_secs(30);
/// Longest single wait in a call that is repeated until its deadline.
const CALL: Duration = Duration::from_secs(5);
/// How long the call may take that has been seen not to return. It takes no notice of its own time-out; but each request is
/// given up after `socket.timeout.ms`, by when the coordinator has ended most transactions.
const HANGS_AFTER: Duration = Duration::from_secs(12);
const ABORT_DEADLINE: Duration = Duration::from_secs(15);
/// Between two looks at the records under way: this part of the time waited so far, within bounds. A look costs more than
/// what it sees, so a broker that takes its time is looked after less often.
const DRAIN_PAUSE_SHARE: u32 = 4;
const DRAIN_PAUSE: Duration = Duration::from_micros(200);
const DRAIN_PAUSE_MAX: Duration = Duration::from_millis(5);
/// Between two servings of an idle producer, whose log lines would pile up.
const IDLE: Duration = Duration::from_secs(1);
/// An answer that took longer says too little about the present to prove a membership.
const PROMPT: Duration = Duration::from_secs(1);

/// The generation of a membership; `None` for one that does not stand.
pub(super) struct NativeGeneration(pub(super) Option<Arc<ConsumerGroupMetadata>>);

enum Command {
    Prepare { transaction: Transaction, result: oneshot::Sender<Result<(), WriteError>> },
    Commit { result: oneshot::Sender<Result<(), WriteError>> },
}

pub(super) struct KafkaWriter {
    transactional_id: String,
    commands: mpsc::SyncSender<Command>,
    overdue: watch::Receiver<Option<Instant>>,
    /// The thread is in a call that does not return.
    hangs: bool,
}

impl KafkaWriter {
    /// Opens the id, which fences every older writer of it.
    pub(super) async fn open(connection: &Connection, transactional_id: &str) -> Result<Self, LogError> {
        let (opened, opening) = oneshot::channel();
        // One at work and one behind it: a call whose caller went away may still be under way.
        let (commands, received) = mpsc::sync_channel(2);
        let (calls, overdue) = watch::channel(None);
        let (connection, id) = (connection.clone(), transactional_id.to_owned());
        std::thread::Builder::new()
            .name("kafka-writer".to_owned())
            .spawn(move || match Transactions::open(&connection, &id, calls) {
                Ok(transactions) => {
                    if opened.send(Ok(())).is_ok() {
                        transactions.run(&received);
                    }
                }
                // Nobody hears it when the caller went away, and nothing was begun.
                Err(error) => drop(opened.send(Err(error))),
            })
            .map_err(|error| thread_error(&error))?;
        opening.await.unwrap_or_else(|_thread_is_gone| Err(thread_ended()))?;
        Ok(Self { transactional_id: transactional_id.to_owned(), commands, overdue, hangs: false })
    }

    async fn ask(
        &mut self,
        command: impl FnOnce(oneshot::Sender<Result<(), WriteError>>) -> Command + Send,
    ) -> Result<(), WriteError> {
        if self.hangs {
            return Err(WriteError::Fenced);
        }
        let (result, answer) = oneshot::channel();
        match self.commands.try_send(command(result)) {
            Ok(()) => {}
            Err(mpsc::TrySendError::Full(_)) => {
                return Err(WriteError::Aborted { reason: "calls that were given up are still under way".to_owned() });
            }
            Err(mpsc::TrySendError::Disconnected(_)) => return Err(WriteError::Fenced),
        }
        tokio::select! {
            biased;
            answer = answer => answer.unwrap_or_else(|_thread_is_gone| {
                Err(WriteError::Unknown { reason: "the writer's thread has ended".to_owned() })
            }),
            () = overdue(&mut self.overdue) => {
                self.hangs = true;
                warn!(writer = self.transactional_id, "the client library does not come back with an answer; a new writer is opened");
                Err(WriteError::Fenced)
            }
        }
    }
}

/// Ends when the thread is in a call that should have returned by now.
async fn overdue(calls: &mut watch::Receiver<Option<Instant>>) {
    loop {
        let until = *calls.borrow_and_update();
        let passed = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => pending().await,
            }
        };
        tokio::select! {
            () = passed => return,
            // A thread that has ended is in no call.
            changed = calls.changed() => if changed.is_err() { pending::<()>().await },
        }
    }
}

fn thread_ended() -> LogError {
    LogError::Unavailable { doing: OPENING.doing, reason: "the writer's thread has ended".to_owned() }
}

#[async_trait]
impl Writer for KafkaWriter {
    fn transactional_id(&self) -> &str {
        &self.transactional_id
    }

    async fn prepare(&mut self, transaction: Transaction) -> Result<(), WriteError> {
        self.ask(|result| Command::Prepare { transaction, result }).await
    }

    async fn commit(&mut self) -> Result<(), WriteError> {
        self.ask(|result| Command::Commit { result }).await
    }
}

/// A record of the transaction that the broker did not take.
type Failure = Arc<Mutex<Option<(TopicPartition, RDKafkaErrorCode)>>>;
/// The topics that this transaction may not write.
type Refused = Arc<Mutex<Vec<String>>>;

struct WriterContext {
    noise: Context,
    failure: Failure,
    refused: Refused,
}

impl ClientContext for WriterContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.refused.lock().extend(refused_topic(facility, message));
        self.noise.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.noise.error(error, reason);
    }
}

impl ProducerContext for WriterContext {
    type DeliveryOpaque = Box<TopicPartition>;

    fn delivery(&self, result: &DeliveryResult<'_>, to: Box<TopicPartition>) {
        let Err((error, _)) = result else { return };
        let code = code_of(error).unwrap_or(RDKafkaErrorCode::Fail);
        let mut failure = self.failure.lock();
        // Records behind the one at fault are purged. Lost all the same, but the first cause is the one to name.
        if failure.as_ref().is_none_or(|(_, known)| is_purge(*known)) {
            *failure = Some((*to, code));
        }
    }
}

fn is_purge(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::PurgeQueue | RDKafkaErrorCode::PurgeInflight)
}

/// What an error of the producer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// The producer is of no more use.
    Fatal,
    /// The transaction must be aborted; the producer goes on.
    Abort,
    /// The same call may be made again.
    Retry,
}

/// Judges in the one safe order. What is none of the three is ended by an abort, which is safe before a commit.
fn judge(error: &KafkaError) -> Verdict {
    match error {
        KafkaError::Transaction(native) if native.is_fatal() => Verdict::Fatal,
        KafkaError::Transaction(native) if native.txn_requires_abort() => Verdict::Abort,
        KafkaError::Transaction(native) if native.is_retriable() => Verdict::Retry,
        // rdkafka flushes before a commit, by itself; its time-out is one like any other.
        KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut) => Verdict::Retry,
        other if matches!(code_of(other), Some(RDKafkaErrorCode::Fatal | RDKafkaErrorCode::Fenced)) => Verdict::Fatal,
        _ => Verdict::Abort,
    }
}

/// Whether a group no longer accepts the generation that came with the offsets.
fn is_refusal(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code_of(error),
        Some(
            Code::UnknownMemberId
                | Code::IllegalGeneration
                | Code::FencedInstanceId
                | Code::FencedMemberEpoch
                | Code::StaleMemberEpoch
                | Code::RebalanceInProgress
        )
    )
}

/// Whether a group refused the generation for no longer knowing its member, or another under the same name.
fn is_of_a_stranger(error: &KafkaError) -> bool {
    matches!(code_of(error), Some(RDKafkaErrorCode::UnknownMemberId | RDKafkaErrorCode::FencedInstanceId))
}

/// Whether the broker will not let us, which no repetition changes.
fn is_unauthorized(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code_of(error), Some(Code::GroupAuthorizationFailed | Code::TopicAuthorizationFailed))
}

/// What the broker would have to permit for these offsets.
fn subject_of(offsets: &GroupOffsets, error: &KafkaError) -> String {
    if code_of(error) == Some(RDKafkaErrorCode::GroupAuthorizationFailed) {
        return format!("group {}", offsets.member.group());
    }
    let topics: BTreeSet<&str> = offsets.commits.iter().map(|commit| &*commit.at.topic).collect();
    let topics: Vec<&str> = topics.into_iter().collect();
    let which = if topics.len() > 1 { "one of the topics" } else { "topic" };
    format!("{which} {}", topics.join(", "))
}

fn unauthorized(task: Task, subject: &str, error: &KafkaError) -> WriteError {
    not_permitted(&log_error(task, subject, error))
}

fn not_permitted(error: &LogError) -> WriteError {
    WriteError::Unauthorized { reason: error.to_string() }
}

/// The topic that librdkafka says it may not write, in the only place where it does.
fn refused_topic(facility: &str, message: &str) -> Option<String> {
    let is_refusal = facility == "ADDPARTS" && message.contains("authorization failed");
    message.split('"').nth(1).filter(|_| is_refusal).map(str::to_owned)
}

/// Where the producer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    /// Begun, and not ready to be committed.
    Open,
    /// Records and offsets were taken by the brokers.
    Prepared,
    /// Fenced or in doubt: nothing more is done with it.
    Dead,
}

/// What is told of a writer that could not be opened: of which it is, and what ends a lasting refusal that nothing else does.
fn whose_opening(transactional_id: &str, error: &KafkaError) -> String {
    match code_of(error) {
        // Apache Kafka 4.3.1 may lose count of the markers that it sent for a transaction, and then holds it open until
        // its coordinator is loaded anew (seen as the other of two brokers was killed: an `IllegalStateException` in
        // `TransactionMetadata.removePartition` ended the handling of one response of WriteTxnMarkers).
        Some(RDKafkaErrorCode::ConcurrentTransactions) => format!(
            "transactional id {transactional_id}, whose last transaction is not ended yet (if that stays so for minutes, \
             restart the broker that `kafka-transactions.sh describe --transactional-id {transactional_id}` names as its coordinator)"
        ),
        _ => format!("transactional id {transactional_id}"),
    }
}

struct Transactions {
    producer: BaseProducer<WriterContext>,
    failure: Failure,
    refused: Refused,
    stage: Stage,
    /// How long the coordinator lets a transaction be open.
    timeout: Duration,
    /// Until when the call must have returned that is under way, of those that may not.
    calls: watch::Sender<Option<Instant>>,
}

impl Transactions {
    fn open(
        connection: &Connection,
        transactional_id: &str,
        calls: watch::Sender<Option<Instant>>,
    ) -> Result<Self, LogError> {
        let (failure, refused) = (Failure::default(), Refused::default());
        let context = WriterContext {
            noise: Context::new("writer"),
            failure: Arc::clone(&failure),
            refused: Arc::clone(&refused),
        };
        let producer: BaseProducer<WriterContext> = connection
            .transactional(transactional_id)
            .create_with_context(context)
            .map_err(|error| creation_error(&error))?;
        let deadline = Instant::now() + OPEN_DEADLINE;
        loop {
            let initialised = producer.init_transactions(CALL);
            producer.poll(Duration::ZERO);
            match initialised {
                Ok(()) => break,
                Err(error) if judge(&error) == Verdict::Retry && Instant::now() < deadline => {}
                Err(error) => return Err(log_error(OPENING, &whose_opening(transactional_id, &error), &error)),
            }
        }
        let timeout = connection.settings.transaction_timeout;
        Ok(Self { producer, failure, refused, stage: Stage::Idle, timeout, calls })
    }

    fn run(mut self, commands: &mpsc::Receiver<Command>) {
        loop {
            // A caller that went away learns nothing, and finds out with its next call.
            match commands.recv_timeout(IDLE) {
                Ok(Command::Prepare { transaction, result }) => drop(result.send(self.prepare(&transaction))),
                Ok(Command::Commit { result }) => drop(result.send(self.commit())),
                Err(mpsc::RecvTimeoutError::Timeout) => self.producer.poll(Duration::ZERO),
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn prepare(&mut self, transaction: &Transaction) -> Result<(), WriteError> {
        if matches!(self.stage, Stage::Open | Stage::Prepared) {
            // Prepared by a caller that never committed it.
            self.abort()?;
        }
        if self.stage == Stage::Dead {
            return Err(WriteError::Fenced);
        }
        self.failure.lock().take();
        self.refused.lock().clear();
        let deadline = Instant::now() + self.timeout;
        let begun = self.producer.begin_transaction();
        begun.map_err(|error| self.give_up(&error))?;
        self.stage = Stage::Open;
        for record in &transaction.records {
            self.send(record, deadline)?;
        }
        self.drain(deadline)?;
        if let Some(offsets) = &transaction.offsets {
            self.send_offsets(offsets, deadline)?;
        }
        // A fenced producer is told only by a broker's answer, and a transaction without anything asks none.
        if let Some((_, reason)) = self.producer.client().fatal_error() {
            debug!(%reason, "a writer was fenced");
            self.stage = Stage::Dead;
            return Err(WriteError::Fenced);
        }
        self.stage = Stage::Prepared;
        Ok(())
    }

    fn send(&mut self, record: &crate::log::NewRecord, deadline: Instant) -> Result<(), WriteError> {
        loop {
            let sent = self.producer.send(native(record, Box::new(record.to.clone()))).map_err(|(error, _)| error);
            match sent {
                Ok(()) => return Ok(()),
                Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) if Instant::now() < deadline => {
                    self.producer.poll(Duration::ZERO);
                    nap(DRAIN_PAUSE);
                }
                Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) => return Err(self.unanswered()),
                Err(KafkaError::MessageProduction(code)) => {
                    return Err(self.give_up_record(record.to.clone(), code));
                }
                Err(error) => return Err(self.give_up(&error)),
            }
        }
    }

    /// Waits until the brokers have answered for every record. rdkafka's own way takes a tenth of a second each time.
    fn drain(&mut self, deadline: Instant) -> Result<(), WriteError> {
        let begun = Instant::now();
        let mut under_way = self.producer.in_flight_count();
        while under_way > 0 {
            self.producer.poll(Duration::ZERO);
            let left = self.producer.in_flight_count();
            if left == under_way {
                let now = Instant::now();
                if now >= deadline {
                    return Err(self.unanswered());
                }
                nap((now.duration_since(begun) / DRAIN_PAUSE_SHARE).clamp(DRAIN_PAUSE, DRAIN_PAUSE_MAX));
            }
            under_way = left;
        }
        let failure = self.failure.lock().take();
        match failure {
            None => Ok(()),
            Some((to, code)) => Err(self.give_up_record(to, code)),
        }
    }

    fn send_offsets(&mut self, offsets: &GroupOffsets, deadline: Instant) -> Result<(), WriteError> {
        let list = match native_offsets(offsets) {
            Ok(list) => list,
            Err(error) => return Err(self.give_up(&error)),
        };
        loop {
            let generation = offsets.member.generation();
            let generation =
                generation.0.downcast_ref::<NativeGeneration>().and_then(|generation| generation.0.as_ref());
            let owned = offsets.member.owned();
            let stands = offsets.relies_on.iter().all(|(partition, number)| owned.get(partition) == Some(number));
            let (Some(generation), true) = (generation, stands) else {
                self.abort()?;
                return Err(WriteError::Refused);
            };
            let asked = Instant::now();
            self.calls.send_replace(Some(asked + HANGS_AFTER));
            let sent = self.producer.send_offsets_to_transaction(&list, generation, CALL);
            self.calls.send_replace(None);
            let Err(error) = sent else {
                if asked.elapsed() < PROMPT {
                    offsets.member.confirmed();
                }
                return Ok(());
            };
            self.producer.poll(Duration::ZERO);
            match judge(&error) {
                Verdict::Retry if Instant::now() < deadline => {}
                Verdict::Fatal => return Err(self.give_up(&error)),
                _ if is_unauthorized(&error) => {
                    if let Err(failure) = self.abort() {
                        debug!(%failure, "a transaction that is not permitted was not aborted either");
                    }
                    return Err(unauthorized(COMMITTING, &subject_of(offsets, &error), &error));
                }
                _ if is_refusal(&error) => {
                    offsets.member.refused(is_of_a_stranger(&error));
                    self.abort()?;
                    return Err(WriteError::Refused);
                }
                _ => return Err(self.abort_because(&error)),
            }
        }
    }

    fn commit(&mut self) -> Result<(), WriteError> {
        match self.stage {
            Stage::Prepared => {}
            Stage::Dead => return Err(WriteError::Fenced),
            Stage::Idle | Stage::Open => {
                return Err(WriteError::Aborted { reason: "nothing was prepared".to_owned() });
            }
        }
        let deadline = Instant::now() + COMMIT_DEADLINE;
        let failures = self.transport_failures();
        // Whether an earlier try may have been heard without our hearing the answer.
        let mut in_doubt = false;
        loop {
            let Err(error) = self.producer.commit_transaction(CALL) else {
                self.stage = Stage::Idle;
                return Ok(());
            };
            self.producer.poll(Duration::ZERO);
            in_doubt |= self.transport_failures() != failures;
            match judge(&error) {
                Verdict::Retry if Instant::now() < deadline => in_doubt = true,
                Verdict::Retry => return Err(self.unknown(&error)),
                Verdict::Fatal if in_doubt => return Err(self.unknown(&error)),
                Verdict::Fatal => return Err(self.give_up(&error)),
                Verdict::Abort if in_doubt => {
                    // An abort that succeeds proves that nothing was committed.
                    return Err(match self.abort() {
                        Ok(()) => WriteError::Aborted { reason: error.to_string() },
                        Err(_) => self.unknown(&error),
                    });
                }
                Verdict::Abort => return Err(self.abort_because(&error)),
            }
        }
    }

    fn transport_failures(&self) -> u64 {
        self.producer.client().context().noise.transport_failures()
    }

    fn unknown(&mut self, error: &KafkaError) -> WriteError {
        self.stage = Stage::Dead;
        WriteError::Unknown { reason: error.to_string() }
    }

    /// Leaves a transaction whose records may or may not have been taken to whoever opens the id next.
    fn unanswered(&mut self) -> WriteError {
        warn!("the brokers did not answer for the records in time; a new writer is opened");
        self.stage = Stage::Dead;
        WriteError::Fenced
    }

    /// Ends a transaction whose record was not taken.
    fn give_up_record(&mut self, to: TopicPartition, code: RDKafkaErrorCode) -> WriteError {
        use RDKafkaErrorCode as Code;
        let fenced = matches!(code, Code::Fenced | Code::Fatal | Code::ProducerFenced | Code::InvalidProducerEpoch);
        if fenced && self.producer.client().fatal_error().is_some() {
            self.stage = Stage::Dead;
            return WriteError::Fenced;
        }
        // A partition that may not be written is refused before its records are sent: they are purged, all of them, and
        // only a line tells of which topic it was. Where it was the first of all, the broker knows of no transaction, and
        // the abort fails.
        let aborted = self.abort();
        let refused = std::mem::take(&mut *self.refused.lock());
        let refused = refused.into_iter().next().filter(|_| is_purge(code));
        if let Some(topic) = refused.or_else(|| (code == Code::TopicAuthorizationFailed).then(|| to.topic.to_string()))
        {
            let error = error_of_code(WRITING, &format!("topic {topic}"), Code::TopicAuthorizationFailed);
            return not_permitted(&error);
        }
        if let Err(error) = aborted {
            return error;
        }
        match code {
            Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::MessageBatchTooLarge => {
                WriteError::TooLarge { to }
            }
            _ => WriteError::Aborted { reason: format!("a record for {to}: {code}") },
        }
    }

    /// Ends a transaction before its commit, as far as the producer still can.
    fn give_up(&mut self, error: &KafkaError) -> WriteError {
        if judge(error) == Verdict::Fatal {
            debug!(%error, "a writer was fenced");
            self.stage = Stage::Dead;
            return WriteError::Fenced;
        }
        self.abort_because(error)
    }

    fn abort_because(&mut self, reason: impl ToString) -> WriteError {
        match self.abort() {
            Ok(()) => WriteError::Aborted { reason: reason.to_string() },
            Err(error) => error,
        }
    }

    /// Ends the open transaction. With records under way one call would block for its whole time-out, so the calls are
    /// short and what they wait for is served in between.
    ///
    /// # Errors
    /// [`WriteError::Fenced`] if the producer cannot go on: without a commit, nothing of the transaction will appear.
    fn abort(&mut self) -> Result<(), WriteError> {
        if self.stage == Stage::Idle {
            return Ok(());
        }
        let deadline = Instant::now() + ABORT_DEADLINE;
        loop {
            let Err(error) = self.producer.abort_transaction(Duration::from_millis(50)) else {
                self.producer.poll(Duration::ZERO);
                self.failure.lock().take();
                self.stage = Stage::Idle;
                return Ok(());
            };
            self.producer.poll(Duration::from_millis(5));
            if judge(&error) != Verdict::Retry || Instant::now() >= deadline {
                warn!(%error, "a transaction could not be aborted; the coordinator will end it");
                self.stage = Stage::Dead;
                return Err(WriteError::Fenced);
            }
        }
    }
}

fn native_offsets(offsets: &GroupOffsets) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for commit in &offsets.commits {
        let mut element = list.add_partition(&commit.at.topic, partition_id(&commit.at));
        element.set_offset(native_offset(commit.offset))?;
        if !commit.metadata.is_empty() {
            element.set_metadata(&commit.metadata);
        }
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_judged_by_the_first_of_its_meanings() {
        use RDKafkaErrorCode as Code;
        for (error, expected) in [
            (KafkaError::Flush(Code::OperationTimedOut), Verdict::Retry),
            (KafkaError::Flush(Code::Fatal), Verdict::Fatal),
            (KafkaError::MessageProduction(Code::Fatal), Verdict::Fatal),
            (KafkaError::MessageProduction(Code::Fenced), Verdict::Fatal),
            (KafkaError::MessageProduction(Code::UnknownPartition), Verdict::Abort),
            (KafkaError::Canceled, Verdict::Abort),
        ] {
            assert_eq!(judge(&error), expected, "{error:?}");
        }
    }

    #[test]
    fn the_topic_that_may_not_be_written_is_read_from_the_line_about_it() {
        let line =
            "[thrd:main]: 127.0.0.1:9092/1: Failed to add partition \"contact-keys\" [0] to transaction: Broker: ";
        let refused = format!("{line}Topic authorization failed");
        assert_eq!(refused_topic("ADDPARTS", &refused).as_deref(), Some("contact-keys"));
        for (facility, message) in [("FAIL", refused), ("ADDPARTS", format!("{line}Operation not attempted"))] {
            assert_eq!(refused_topic(facility, &message), None, "{message}");
        }
    }

    /// A writer whose thread is this test.
    fn writer() -> (KafkaWriter, watch::Sender<Option<Instant>>, mpsc::Receiver<Command>) {
        let (commands, received) = mpsc::sync_channel(2);
        let (calls, overdue) = watch::channel(None);
        (KafkaWriter { transactional_id: "id".to_owned(), commands, overdue, hangs: false }, calls, received)
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_never_returns_costs_the_writer_and_nothing_else() {
        let (mut writer, calls, _received) = writer();
        let begun = Instant::now();
        calls.send_replace(Some(begun + HANGS_AFTER));
        assert!(matches!(writer.prepare(Transaction::default()).await, Err(WriteError::Fenced)));
        assert_eq!(begun.elapsed(), HANGS_AFTER);
        // Whatever it comes back with is of no use: a new writer may have the id by then.
        calls.send_replace(None);
        assert!(matches!(writer.commit().await, Err(WriteError::Fenced)));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_that_return_may_take_long_together() {
        let (mut writer, calls, received) = writer();
        let answering = async {
            for _ in 0..3 {
                calls.send_replace(Some(Instant::now() + HANGS_AFTER));
                tokio::time::sleep(HANGS_AFTER - Duration::from_millis(1)).await;
                calls.send_replace(None);
            }
            let Ok(Command::Prepare { result, .. }) = received.try_recv() else { panic!("nothing was asked") };
            result.send(Ok(())).unwrap();
        };
        let (prepared, ()) = tokio::join!(writer.prepare(Transaction::default()), answering);
        prepared.unwrap();
    }

    #[test]
    fn a_transaction_that_is_never_ended_is_told_with_what_ends_it() {
        let told = whose_opening("contacts-priava", &KafkaError::Flush(RDKafkaErrorCode::ConcurrentTransactions));
        assert!(told.contains("restart the broker") && told.contains("--transactional-id contacts-priava"), "{told}");
        assert_eq!(
            whose_opening("contacts-priava", &KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)),
            "transactional id contacts-priava"
        );
    }

    #[test]
    fn a_group_refuses_by_member_or_generation_and_by_nothing_else() {
        use RDKafkaErrorCode as Code;
        for (code, expected) in [
            (Code::UnknownMemberId, true),
            (Code::IllegalGeneration, true),
            (Code::FencedInstanceId, true),
            (Code::CoordinatorNotAvailable, false),
            (Code::OperationTimedOut, false),
        ] {
            assert_eq!(is_refusal(&KafkaError::Flush(code)), expected, "{code:?}");
        }
    }
}
