//! The log: the only way to the outside stream of records.
//!
//! Two implementations, one meaning. [`kafka`] speaks to a real broker; [`local`] runs inside the process: on disk for an
//! installation of one worker, in memory for the demo and the simulated tests. `tests/` holds one conformance suite that
//! states what each sentence on this page means and runs against all three; `local` may be neither stricter nor vaguer than
//! Kafka.
//!
//! The vocabulary is Kafka's. A *topic* has *partitions*, each an ordered sequence of *records* numbered by *offset*.
//! A *follower* reads chosen partitions from chosen offsets. A *member* of a *group* is assigned partitions of one
//! topic, and told when they are revoked. A *writer* commits *transactions*: records and group offsets, all or none.
//!
//! What holds for both:
//! - Readers see committed records only; those of an aborted or still open transaction are invisible.
//! - Opening a writer fences every older writer with the same transactional id, and nothing of a transaction that the
//!   older one had open will ever appear.
//! - A member that left or died is fenced by its generation. *A live member that lost a partition is not*: its
//!   offsets for that partition would be taken. So a transaction names the assignments that it relies on, and a
//!   writer checks them against the member's own map after taking the generation and before sending the offsets.
//! - A committed offset is answered only while no open transaction holds it ([`LogError::Unstable`] otherwise).
//! - End offsets count transaction markers: a position reaches [`Watermarks::high`], not "the last record plus one".
//! - Compaction may remove all but the newest record of a key at any moment, and tombstones after their time.
//! - Retention may delete a prefix, of which every record is older than is kept; offsets go on where they were. Reading
//!   from below [`Watermarks::low`] is [`LogError::OutOfRange`], said once.
//! - A log may have a bound of its own. Above it what is appended from outside is refused ([`LogError::Full`]), whole; a
//!   transaction is taken all the same, since what was read has to be answered. Kafka has none and never says so.
//! - A commit may happen and yet be answered [`WriteError::Unknown`].

mod comparison;
pub mod kafka;
pub mod local;
mod partitioner;

use std::{any::Any, collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::oneshot;

pub use comparison::{Difference, Differences, TopicFound, differences};
pub use partitioner::partition_of;

/// Number of a record within its partition. Gaps are normal: markers and compaction leave them.
pub type Offset = u64;
/// Number of a partition within its topic, from 0.
pub type Partition = u32;

/// One partition of one topic.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    pub topic: Arc<str>,
    pub partition: Partition,
}

impl TopicPartition {
    pub fn new(topic: impl Into<Arc<str>>, partition: Partition) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A record header. Names may repeat; order is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    pub name: String,
    pub value: Bytes,
}

impl Header {
    pub fn new(name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        Self { name: name.into(), value: value.into() }
    }
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values of foreign headers may be personal; names are not.
        write!(f, "{}({} bytes)", self.name, self.value.len())
    }
}

/// A record as it was read.
#[derive(Clone)]
pub struct Record {
    pub at: TopicPartition,
    pub offset: Offset,
    pub timestamp: Timestamp,
    pub key: Option<Bytes>,
    /// `None` is a tombstone.
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

impl Record {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.headers.iter().find(|header| header.name == name).map(|header| &header.value)
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys and values may be personal: a record says where it is, never what it holds.
        write!(f, "{}@{}", self.at, self.offset)
    }
}

/// A record to write. The writer of a record chooses its partition, with [`partition_of`] wherever it has a key.
#[derive(Clone)]
pub struct NewRecord {
    pub to: TopicPartition,
    pub key: Option<Bytes>,
    /// `None` is a tombstone.
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

impl fmt::Debug for NewRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "new record for {}", self.to)
    }
}

/// Where a partition begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// Offset of the oldest record that still exists.
    pub low: Offset,
    /// One past the newest record or marker, open transactions included. A reader has caught up when its position
    /// reaches the value that was taken before.
    pub high: Offset,
}

/// What happens to old records of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cleanup {
    /// The newest record of each key stays for good. `tombstones` is how long a null value outlives compaction.
    Compact { tombstones: Duration },
    /// Records are deleted when older than this.
    Delete { after: Duration },
    /// Another team's topic: whatever it is, we neither create nor judge it.
    Foreign,
}

/// A topic as this program needs it.
#[derive(Debug, Clone)]
pub struct TopicSpec {
    pub name: Arc<str>,
    pub partitions: u32,
    pub cleanup: Cleanup,
    /// Largest record batch the topic takes, in bytes.
    pub message_bytes_max: u32,
}

/// How a member takes part in a group.
#[derive(Debug, Clone)]
pub struct GroupSpec {
    pub group: Arc<str>,
    /// The one topic whose partitions the group shares.
    pub topic: Arc<str>,
    /// Static membership (KIP-345): a restart within the session keeps its partitions.
    pub instance_id: Option<String>,
    /// Records fetched ahead of the reader, per member.
    pub queue_records_max: usize,
}

/// Counts the assignments of a member, so that work begun under one is never committed under another.
pub type AssignmentNumber = u64;

/// What a member is told, in order.
#[derive(Debug)]
pub enum GroupEvent {
    /// These partitions are ours from now on. They deliver nothing before [`MemberHandle::start`].
    Assigned(Vec<(Partition, AssignmentNumber)>),
    /// These partitions are being taken away.
    Revoked(Revocation),
    /// Records of started partitions, in order within each.
    Records(Vec<Record>),
}

/// Partitions that leave a member. The group waits (up to the drain deadline of the member) until this is dropped.
#[derive(Debug)]
pub struct Revocation {
    pub partitions: Vec<Partition>,
    /// The membership is gone already: nothing can be committed any more.
    pub lost: bool,
    /// Dropping it lets the rebalance go on.
    pub done: oneshot::Sender<()>,
}

/// A member of a group: receives its events.
#[async_trait]
pub trait Member: Send {
    /// The next event. Cancel-safe: an event is never lost between two calls.
    ///
    /// # Errors
    /// [`LogError`] when the membership cannot go on; a broker that is away is not an error but a wait.
    async fn next(&mut self) -> Result<GroupEvent, LogError>;

    /// The part of the membership that is shared with writers and lanes.
    fn handle(&self) -> Arc<dyn MemberHandle>;

    /// Leaves the group. Partitions still owned move on at once; nothing is committed on the way. A static member says
    /// no farewell: its namesake finds its partitions if it comes within the session.
    async fn leave(self: Box<Self>);

    /// Leaves the group for good, a static member too: partitions still owned move on at once.
    async fn resign(self: Box<Self>);
}

/// A generation of a membership, as the broker knows it; opaque outside its implementation.
#[derive(Clone)]
pub struct Generation(pub(in crate::log) Arc<dyn Any + Send + Sync>);

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Generation")
    }
}

/// What can be done with a membership from any task.
#[async_trait]
pub trait MemberHandle: Send + Sync + fmt::Debug {
    fn group(&self) -> &str;
    /// Lets an assigned partition deliver, from `offset` on; ignored when the partition is no longer owned.
    fn start(&self, partition: Partition, offset: Offset);
    /// Stops and resumes delivery of a started partition. Records already handed over may still arrive.
    fn pause(&self, partition: Partition);
    fn resume(&self, partition: Partition);
    /// Whether the group counts us in, with partitions or, where there are more members than those, without.
    fn is_member(&self) -> bool;
    /// The partitions owned now. A revoked one stays until its [`Revocation`] is done or its time is over, so that what
    /// drains can still be committed; it is out of this map before anybody else can be given it. One that is lost with
    /// the membership is out before its event.
    fn owned(&self) -> BTreeMap<Partition, AssignmentNumber>;
    /// The assignment under which `partition` is owned now, if it is.
    fn owns(&self, partition: Partition) -> Option<AssignmentNumber> {
        self.owned().get(&partition).copied()
    }
    /// How long ago the membership was last known to be alive. A process that was frozen longer than the session
    /// may have been expelled without knowing.
    fn confirmed_age(&self) -> Duration;
    /// The time after which a silent member is expelled.
    fn session_timeout(&self) -> Duration;
    /// Asks the broker whether we still hold `partition`: our own map says so, and a synchronous commit is taken.
    async fn prove(&self, partition: Partition) -> Result<bool, LogError>;
    /// The generation to hand to a transaction. Take it first, then check ownership.
    fn generation(&self) -> Generation;
    /// A transaction with this membership's offsets was taken by the broker, which proves it alive.
    fn confirmed(&self);
    /// The broker refused the generation of a transaction, and whether it did for no longer knowing the member. Of
    /// concern to a log whose members may be expelled without being told.
    fn refused(&self, _unknown: bool) {}
}

/// An offset that a group committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: Offset,
    pub metadata: String,
}

/// Whether an open transaction hides what it touches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    ReadCommitted,
    ReadUncommitted,
}

/// Offsets of a transaction.
#[derive(Debug, Clone)]
pub struct OffsetCommit {
    pub at: TopicPartition,
    pub offset: Offset,
    pub metadata: String,
}

/// The part of a transaction that a group fences.
#[derive(Debug, Clone)]
pub struct GroupOffsets {
    pub member: Arc<dyn MemberHandle>,
    pub commits: Vec<OffsetCommit>,
    /// Assignments that must still stand when the offsets are sent.
    pub relies_on: Vec<(Partition, AssignmentNumber)>,
}

/// Records and offsets that appear together or not at all.
#[derive(Debug, Clone, Default)]
pub struct Transaction {
    pub records: Vec<NewRecord>,
    pub offsets: Option<GroupOffsets>,
}

/// Commits transactions under one transactional id, one at a time.
#[async_trait]
pub trait Writer: Send {
    fn transactional_id(&self) -> &str;

    /// Sends the records and offsets of a transaction and leaves it open. [`Writer::commit`] ends it.
    ///
    /// # Errors
    /// See [`WriteError`]; never `Unknown`.
    async fn prepare(&mut self, transaction: Transaction) -> Result<(), WriteError>;

    /// Makes the prepared transaction visible.
    async fn commit(&mut self) -> Result<(), WriteError>;

    /// Prepares and commits.
    async fn write(&mut self, transaction: Transaction) -> Result<(), WriteError> {
        self.prepare(transaction).await?;
        self.commit().await
    }
}

/// Why a transaction did not (certainly) happen. The variants differ in what comes next.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The group no longer accepts this generation, or an assignment relied on is gone. Aborted; the writer goes on.
    #[error("the group refused the offsets of a transaction")]
    Refused,
    /// Nothing of it will appear, the writer goes on, and the same transaction may be tried again.
    #[error("a transaction was aborted: {reason}")]
    Aborted { reason: String },
    /// A record is larger than the topic takes. Aborted; the same transaction will never pass.
    #[error("a record for {to} is larger than the topic takes")]
    TooLarge { to: TopicPartition },
    /// The broker will not let us; the reason names the permission. Nothing of it will appear; an operator must act.
    #[error("a transaction is not permitted: {reason}")]
    Unauthorized { reason: String },
    /// Another writer took the id, the coordinator timed this transaction out, or the writer answers no more. Nothing of it
    /// will appear; drop the writer.
    #[error("the writer was fenced")]
    Fenced,
    /// It may have happened or not. Drop the writer, open it again, and read what was committed before acting.
    #[error("the result of a commit is unknown: {reason}")]
    Unknown { reason: String },
}

/// Reads chosen partitions, committed records only.
#[async_trait]
pub trait Follower: Send {
    /// Begins (or begins anew) to read `at` from `offset`.
    async fn assign(&mut self, at: TopicPartition, offset: Offset) -> Result<(), LogError>;
    /// Stops reading `at`; records of it never come again.
    async fn unassign(&mut self, at: &TopicPartition) -> Result<(), LogError>;
    /// Waits up to `wait` for progress, then returns what there is, at most about `records_max`. Cancel-safe.
    ///
    /// # Errors
    /// [`LogError::OutOfRange`] once for a partition whose position no longer exists; the others go on.
    async fn poll(&mut self, records_max: usize, wait: Duration) -> Result<Progress, LogError>;
}

/// What a follower read.
#[derive(Debug, Default)]
pub struct Progress {
    pub records: Vec<Record>,
    /// Positions that moved, markers included. Each covers all of `records` of its partition.
    pub positions: Vec<(TopicPartition, Offset)>,
}

/// A log: opens followers, members and writers.
#[async_trait]
pub trait Log: Send + Sync + fmt::Debug {
    /// Creates the topics that are missing, and compares those that exist with what is asked.
    /// Returns the names of those created.
    ///
    /// # Errors
    /// [`LogError::Topics`] with every difference that matters, of all topics at once.
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<Vec<Arc<str>>, LogError>;
    /// Each topic as it is found, in the order asked for; `None` for one that does not exist.
    async fn describe_topics(&self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicFound>>, LogError>;
    /// Number of partitions; `None` if there is no such topic.
    async fn partitions(&self, topic: &str) -> Result<Option<u32>, LogError>;
    async fn watermarks(&self, at: &TopicPartition) -> Result<Watermarks, LogError>;
    /// The first offset whose record is at `time` or later; the end if there is none.
    async fn offset_at(&self, at: &TopicPartition, time: Timestamp) -> Result<Offset, LogError>;
    /// Appends outside any transaction, as a foreign producer would.
    ///
    /// # Errors
    /// [`LogError::Full`] where the log has a bound of its own and has reached it.
    async fn append(&self, records: Vec<NewRecord>) -> Result<(), LogError>;
    async fn follower(&self) -> Result<Box<dyn Follower>, LogError>;
    async fn join(&self, spec: GroupSpec) -> Result<Box<dyn Member>, LogError>;
    /// Opens a writer and fences older ones with the same id.
    async fn writer(&self, transactional_id: &str) -> Result<Box<dyn Writer>, LogError>;
    /// What `group` last committed for `at`.
    ///
    /// # Errors
    /// [`LogError::Unstable`] with [`Isolation::ReadCommitted`] while an open transaction holds the offset; an
    /// implementation may wait up to a second for it to end.
    async fn committed(
        &self,
        group: &str,
        at: &TopicPartition,
        isolation: Isolation,
    ) -> Result<Option<CommittedOffset>, LogError>;
}

/// What a log can do to us.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// Try again later: a broker is away, a request timed out.
    #[error("the log is not available while {doing}: {reason}")]
    Unavailable { doing: &'static str, reason: String },
    /// Brokers are there, and no connection comes about: our credentials, our certificates, or the way we show them. The
    /// reason says what to correct. Somebody may, on either side, so it is waited for.
    #[error("the brokers accept no connection of ours: {reason}")]
    Connection { reason: String },
    /// An open transaction holds the offset.
    #[error("the committed offset of {at} is held by an open transaction")]
    Unstable { at: TopicPartition },
    /// The position asked for was deleted, or was never written.
    #[error("offset {offset} of {at} does not exist (any more)")]
    OutOfRange { at: TopicPartition, offset: Offset },
    #[error("there is no topic {topic}")]
    UnknownTopic { topic: Arc<str> },
    /// Topics are not as this program needs them; an operator must act.
    #[error("{0}")]
    Topics(Differences),
    /// The broker will not let us; the message names the permission.
    #[error("not permitted while {doing}: {reason}")]
    Unauthorized { doing: &'static str, reason: String },
    /// It takes no more until something of it is read or ages out; nothing of what was to be appended is in it.
    #[error("the log is full: {reason}")]
    Full { reason: String },
    /// Settings that the log cannot work with.
    #[error("the log cannot be used: {reason}")]
    Unusable { reason: String },
}

impl LogError {
    /// Whether waiting may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Connection { .. } | Self::Unstable { .. } | Self::Full { .. })
    }
}
