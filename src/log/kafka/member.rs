//! A member of a group, by the classic protocol with cooperative assignment.
//!
//! A thread owns the consumer and polls it. Callbacks run inside that poll, so while one waits for its partitions to
//! drain, the thread stands still; librdkafka goes on with heartbeats meanwhile. What the member knows lives in
//! [`Membership`]; this file connects it to the client and does nothing that it did not ask for.
//!
//! - A partition is assigned at its end and paused, so that no committed offset is asked for behind our back: that
//!   question waits for open transactions, and the position is somebody else's decision.
//! - Every start and every way back from a pause is a seek, then a resume; so is what follows a rebalance, for which the
//!   client pauses everything. A seek is refused until the client has begun with the partition; it is tried again with the
//!   next turn.
//! - Handles outlive the member. They hold the consumer weakly, and the thread waits for those who use it just now.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::{Condvar, Mutex};
use rdkafka::{
    ClientContext, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, ConsumerGroupMetadata, RebalanceProtocol},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode},
    message::Message,
    topic_partition_list::Offset as NativeOffset,
    types::RDKafkaRespErr,
};
use tokio::{
    sync::{Notify, Semaphore, oneshot},
    time::Instant,
};
use tracing::{debug, warn};

use super::{
    client::{
        Connection, Context, Task, code_of, creation_error, list_of, log_error, nap, native_offset, thread_error,
        unless_garbled,
    },
    follower::record_of,
    gaps::Gaps,
    generations::Generations,
    membership::{Ended, Membership, Room, Step},
    names::LostNames,
    writer::NativeGeneration,
};
use crate::log::{
    AssignmentNumber, Generation, GroupEvent, GroupSpec, LogError, Member, MemberHandle, Offset, Partition,
    TopicPartition,
};

const TASK: Task = Task::new("being a member of a group", "READ");
/// Longest wait of the thread in one poll; what a handle asks for waits for it.
const THREAD_WAIT: Duration = Duration::from_millis(20);
/// Records taken from the client in one turn.
const TURN_RECORDS_MAX: usize = 500;
/// How long a proof may take.
const PROOF_DEADLINE: Duration = Duration::from_secs(10);
/// How long leaving may take.
const LEAVE_DEADLINE: Duration = Duration::from_secs(15);
/// How long the broker may take to strike a static member off, and one question whether it has.
const RESIGN_DEADLINE: Duration = Duration::from_secs(3);
const RESIGN_QUESTION: Duration = Duration::from_secs(1);
/// Between two reports of a refusal that lasts.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

type MemberConsumer = BaseConsumer<MemberContext>;

/// What the thread, the member and its handles share.
struct Shared {
    spec: GroupSpec,
    session_timeout: Duration,
    drain_deadline: Duration,
    membership: Mutex<Membership>,
    /// Something to take.
    told: Notify,
    /// Room for records.
    room: Condvar,
    stopping: AtomicBool,
    /// The membership is to end with the member, though it is static.
    resigning: AtomicBool,
    consumer: OnceLock<Weak<MemberConsumer>>,
    /// Of a static member.
    generations: Mutex<Generations<Arc<ConsumerGroupMetadata>>>,
    /// One proof at a time: the thread of one that a broker leaves without an answer stands still for long.
    proof: Arc<Semaphore>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member of group {}", self.spec.group)
    }
}

impl Shared {
    fn consumer(&self) -> Option<Arc<MemberConsumer>> {
        self.consumer.get().and_then(Weak::upgrade)
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Changes the membership and wakes the reader.
    fn tell<T>(&self, change: impl FnOnce(&mut Membership) -> T) -> T {
        let result = change(&mut self.membership.lock());
        self.told.notify_one();
        result
    }

    fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.room.notify_all();
    }

    fn is_ours(&self, partition: Partition) -> bool {
        self.membership.lock().owns(partition)
    }
}

pub(super) struct KafkaMember {
    shared: Arc<Shared>,
    handle: Arc<KafkaHandle>,
    ended: Option<oneshot::Receiver<()>>,
}

impl KafkaMember {
    pub(super) fn join(connection: &Connection, spec: GroupSpec) -> Result<Self, LogError> {
        let settings = &connection.settings;
        let mut config = connection.consumer(&spec.group, "read_committed");
        let millis = |duration: Duration| duration.as_millis().to_string();
        config.set("group.protocol", "classic");
        // Eager assignors would stop every member for each newcomer, and `range` moves a single partition to one.
        config.set("partition.assignment.strategy", "cooperative-sticky");
        config.set("session.timeout.ms", millis(settings.session_timeout));
        config.set("heartbeat.interval.ms", millis(settings.heartbeat_interval));
        // How long a revoke may hold up the group. Death is told by the session, not by this.
        config.set("max.poll.interval.ms", millis(settings.session_timeout.max(settings.drain_deadline * 2)));
        // Retention may have passed the offset that a partition is started at. With `error` it would stay silent for
        // good; the owner sees the gap in the offsets.
        config.set("auto.offset.reset", "earliest");
        config.set("queued.min.messages", spec.queue_records_max.clamp(1, 100_000).to_string());
        if let Some(instance_id) = &spec.instance_id {
            config.set("group.instance.id", instance_id);
        }
        let membership = Membership::new(spec.queue_records_max, settings.session_timeout, Instant::now());
        let shared = Arc::new(Shared {
            session_timeout: settings.session_timeout,
            drain_deadline: settings.drain_deadline,
            membership: Mutex::new(membership),
            told: Notify::new(),
            room: Condvar::new(),
            stopping: AtomicBool::new(false),
            resigning: AtomicBool::new(false),
            consumer: OnceLock::new(),
            generations: Mutex::default(),
            proof: Arc::new(Semaphore::new(1)),
            spec,
        });
        let context = MemberContext { noise: Context::new("member"), shared: Arc::clone(&shared) };
        let consumer: MemberConsumer = config.create_with_context(context).map_err(|error| creation_error(&error))?;
        let consumer = Arc::new(consumer);
        shared.consumer.set(Arc::downgrade(&consumer)).expect("a member has one consumer");
        let subject = format!("topic {}", shared.spec.topic);
        consumer.subscribe(&[&*shared.spec.topic]).map_err(|error| log_error(TASK, &subject, &error))?;
        let (finished, ended) = oneshot::channel();
        let lost_names = Arc::clone(&connection.lost_names);
        let gaps = shared.spec.instance_id.clone().map(|instance_id| {
            let GroupSpec { group, topic, .. } = shared.spec.clone();
            Gaps::new(group, topic, instance_id, shared.session_timeout, shared.drain_deadline, Instant::now())
        });
        let poller = Poller { consumer, shared: Arc::clone(&shared), lost_names, gaps, reported: None, refused: None };
        std::thread::Builder::new()
            .name("kafka-member".to_owned())
            .spawn(move || {
                poller.run();
                // Nobody waits when the member was dropped instead of leaving.
                let _nobody = finished.send(());
            })
            .map_err(|error| thread_error(&error))?;
        Ok(Self { handle: Arc::new(KafkaHandle(Arc::clone(&shared))), shared, ended: Some(ended) })
    }
}

impl Drop for KafkaMember {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

#[async_trait]
impl Member for KafkaMember {
    async fn next(&mut self) -> Result<GroupEvent, LogError> {
        loop {
            let taken = {
                let mut membership = self.shared.membership.lock();
                let taken = membership.take();
                if membership.room() == Room::Ample {
                    self.shared.room.notify_all();
                }
                taken
            };
            match taken {
                Some(event) => return event,
                None => self.shared.told.notified().await,
            }
        }
    }

    fn handle(&self) -> Arc<dyn MemberHandle> {
        Arc::clone(&self.handle) as Arc<dyn MemberHandle>
    }

    async fn leave(mut self: Box<Self>) {
        self.shared.stop();
        if let Some(ended) = self.ended.take()
            && tokio::time::timeout(LEAVE_DEADLINE, ended).await.is_err()
        {
            warn!(group = %self.shared.spec.group, "leaving the group takes long; the broker will notice by itself");
        }
    }

    async fn resign(self: Box<Self>) {
        self.shared.resigning.store(true, Ordering::Release);
        self.leave().await;
    }
}

#[derive(Debug)]
struct KafkaHandle(Arc<Shared>);

#[async_trait]
impl MemberHandle for KafkaHandle {
    fn group(&self) -> &str {
        &self.0.spec.group
    }

    fn start(&self, partition: Partition, offset: Offset) {
        self.0.membership.lock().start(partition, offset);
    }

    fn pause(&self, partition: Partition) {
        self.0.membership.lock().pause(partition, true);
    }

    fn resume(&self, partition: Partition) {
        self.0.membership.lock().pause(partition, false);
    }

    fn is_member(&self) -> bool {
        self.0.membership.lock().is_joined()
    }

    fn owned(&self) -> BTreeMap<Partition, AssignmentNumber> {
        self.0.membership.lock().owned()
    }

    fn confirmed_age(&self) -> Duration {
        self.0.membership.lock().pulse().age(Instant::now())
    }

    fn session_timeout(&self) -> Duration {
        self.0.session_timeout
    }

    /// The offset committed is the one that stands already, so that a proof changes nothing. It would undo an offset
    /// that a transaction commits at the same moment: prove partitions whose offsets nobody commits, as the lease is.
    async fn prove(&self, partition: Partition) -> Result<bool, LogError> {
        let deadline = Instant::now() + PROOF_DEADLINE;
        loop {
            if !self.0.is_ours(partition) {
                return Ok(false);
            }
            let asked = Instant::now();
            let proof = tokio::time::timeout_at(deadline, commit_again(&self.0, partition)).await;
            let unavailable = |reason: &str| LogError::Unavailable { doing: PROOF.doing, reason: reason.to_owned() };
            match proof {
                Err(_too_late) => return Err(unavailable("no answer of the broker in time")),
                Ok(Ok(Proof::Taken)) => {
                    let lost = self.0.consumer().is_none_or(|consumer| consumer.assignment_lost());
                    let mut membership = self.0.membership.lock();
                    if lost || !membership.owns(partition) {
                        return Ok(false);
                    }
                    membership.pulse().confirm(asked, Instant::now());
                    return Ok(true);
                }
                Ok(Ok(Proof::Refused)) => return Ok(false),
                Ok(Ok(Proof::Rebalancing)) => {}
                Ok(Err(error)) => return Err(error),
            }
            if Instant::now() >= deadline {
                return Err(unavailable("the group is rebalancing"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Asks the client's own main thread, which answers at once. A membership that does not stand gives a generation
    /// that every writer refuses: with the one of a consumer outside its group, a broker would take any offset.
    fn generation(&self) -> Generation {
        let metadata = self.0.consumer().and_then(|consumer| {
            let metadata = consumer.group_metadata();
            // In this order. Whatever resets the generation marks the assignment as lost before it answers again, and
            // the mark stays until our callback has emptied the map.
            metadata.filter(|_| !consumer.assignment_lost())
        });
        let newest = metadata.filter(|_| self.0.membership.lock().is_joined()).map(Arc::new);
        let shown = match self.0.spec.instance_id {
            Some(_) => self.0.generations.lock().show(newest),
            None => newest,
        };
        Generation(Arc::new(NativeGeneration(shown)))
    }

    fn confirmed(&self) {
        let now = Instant::now();
        self.0.membership.lock().pulse().confirm(now, now);
    }

    fn refused(&self, unknown: bool) {
        let Some(name) = self.0.spec.instance_id.as_ref().filter(|_| unknown) else {
            self.0.generations.lock().outdated();
            return;
        };
        // What was lost and told is owned no more; what still is, the client holds on to without a right.
        if !self.0.membership.lock().owned().is_empty() {
            let group = &self.0.spec.group;
            warn!(%group, "the group expelled this member and let it in again, and the client library did not say so; it joins anew");
            let reason = format!("the member {name} of the group {group} had been expelled; it is joined again");
            self.0.tell(|membership| membership.end(Ended::ForNow(reason)));
        }
    }
}

const PROOF: Task = Task::new("proving a membership", "READ");

enum Proof {
    Taken,
    Refused,
    Rebalancing,
}

/// Commits the offset of `partition` once more, on a thread of its own. A synchronous commit has no deadline, and an
/// asynchronous one is answered only if it fails.
async fn commit_again(shared: &Arc<Shared>, partition: Partition) -> Result<Proof, LogError> {
    let place = Arc::clone(&shared.proof).acquire_owned().await;
    let (answered, answer) = oneshot::channel();
    let of_thread = Arc::clone(shared);
    std::thread::Builder::new()
        .name("kafka-proof".to_owned())
        .spawn(move || {
            let _place = place;
            // Who gave up waiting has dropped its end.
            let _gone = answered.send(commit_now(&of_thread, partition));
        })
        .map_err(|error| thread_error(&error))?;
    use RDKafkaErrorCode as Code;
    match answer.await {
        Ok(Some(Ok(()))) => Ok(Proof::Taken),
        Ok(Some(Err(error))) => match code_of(&error) {
            Some(
                Code::UnknownMemberId
                | Code::IllegalGeneration
                | Code::FencedInstanceId
                | Code::Fatal
                | Code::AssignmentLost,
            ) => Ok(Proof::Refused),
            Some(Code::RebalanceInProgress) => Ok(Proof::Rebalancing),
            // An offset is the group's and about the topic, and either may be what is not permitted.
            Some(Code::TopicAuthorizationFailed) => {
                Err(log_error(PROOF, &format!("topic {}", shared.spec.topic), &error))
            }
            _ => Err(log_error(PROOF, &format!("group {}", shared.spec.group), &error)),
        },
        Ok(None) | Err(_) => Ok(Proof::Refused),
    }
}

/// `None` when the consumer is gone.
fn commit_now(shared: &Shared, partition: Partition) -> Option<KafkaResult<()>> {
    let consumer = shared.consumer()?;
    let id = i32::try_from(partition).ok()?;
    Some(standing_offset(&consumer, &shared.spec.topic, id).and_then(|list| consumer.commit(&list, CommitMode::Sync)))
}

/// The committed offset of a partition as it stands, or its beginning.
fn standing_offset(consumer: &MemberConsumer, topic: &str, partition: i32) -> KafkaResult<TopicPartitionList> {
    let committed = consumer.committed_offsets(list_of([(topic, partition)]), PROOF_DEADLINE / 2)?;
    let found = committed.find_partition(topic, partition);
    let offset = found.as_ref().map(|found| found.offset());
    let metadata = found.as_ref().and_then(|found| unless_garbled(|| found.metadata().to_owned()));
    let mut list = TopicPartitionList::new();
    let mut element = list.add_partition(topic, partition);
    element.set_offset(match offset {
        Some(NativeOffset::Offset(offset)) => NativeOffset::Offset(offset),
        _ => native_offset(0),
    })?;
    if let Some(metadata) = metadata.filter(|metadata| !metadata.is_empty()) {
        element.set_metadata(metadata);
    }
    Ok(list)
}

/// The callbacks of the consumer. All but the log lines run on the poll thread.
struct MemberContext {
    noise: Context,
    shared: Arc<Shared>,
}

impl ClientContext for MemberContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.noise.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.noise.error(error, reason);
    }
}

impl ConsumerContext for MemberContext {
    fn rebalance(&self, consumer: &MemberConsumer, event: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.assign(consumer, list);
        } else {
            self.revoke(consumer, list);
        }
    }
}

impl MemberContext {
    fn partitions(&self, list: &TopicPartitionList) -> Vec<Partition> {
        list.elements_for_topic(&self.shared.spec.topic)
            .iter()
            .filter_map(|element| element.partition().try_into().ok())
            .collect()
    }

    fn assign(&self, consumer: &MemberConsumer, list: &mut TopicPartitionList) {
        let partitions = self.partitions(list);
        // Some place, so that a seek finds a partition to move; it is paused before it is read. Never a name for one
        // (its end, its beginning, what was committed), which the client would look up: when it then finds that a pause
        // or a seek has overtaken the answer, it asks again half a second later, and goes on there instead of where it
        // was told. With the end, what lies between would never be read.
        let assigned = list.set_all_offsets(NativeOffset::Offset(0)).and_then(|()| consumer.incremental_assign(list));
        let paused = assigned.and_then(|()| consumer.pause(&self.list(&partitions)));
        if let Err(error) = paused {
            self.shared.tell(|membership| {
                membership.end(Ended::ForGood(format!("an assignment could not be taken in: {error}")))
            });
            return;
        }
        debug!(group = %self.shared.spec.group, ?partitions, "partitions assigned");
        self.shared.tell(|membership| membership.assigned(&partitions, Instant::now()));
    }

    fn revoke(&self, consumer: &MemberConsumer, list: &TopicPartitionList) {
        let partitions = self.partitions(list);
        let lost = consumer.assignment_lost();
        debug!(group = %self.shared.spec.group, ?partitions, lost, "partitions revoked");
        if lost {
            self.shared.generations.lock().forget();
        }
        if !partitions.is_empty() && !self.shared.is_stopping() {
            let acknowledged = self.shared.tell(|membership| membership.revoking(&partitions, lost));
            self.await_drain(acknowledged);
        }
        // Out of the map before the group is told, hence before anybody else can own them.
        self.shared.membership.lock().released(&partitions);
        let unassigned = match consumer.rebalance_protocol() {
            RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
            RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
        };
        if let Err(error) = unassigned {
            self.shared.tell(|membership| {
                membership.end(Ended::ForGood(format!("partitions could not be given up: {error}")))
            });
        }
    }

    /// Stands still until the reader let go, up to the drain deadline.
    fn await_drain(&self, mut acknowledged: oneshot::Receiver<()>) {
        let deadline = Instant::now() + self.shared.drain_deadline;
        while acknowledged.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
            let now = Instant::now();
            if now >= deadline {
                warn!(group = %self.shared.spec.group, "partitions were taken away before they had drained");
                return;
            }
            if self.shared.is_stopping() {
                return;
            }
            self.shared.membership.lock().pulse().tick(now);
            nap(Duration::from_millis(1));
        }
    }

    fn list(&self, partitions: &[Partition]) -> TopicPartitionList {
        list_of(
            partitions.iter().filter_map(|partition| Some((&*self.shared.spec.topic, i32::try_from(*partition).ok()?))),
        )
    }
}

/// The poll thread.
struct Poller {
    consumer: Arc<MemberConsumer>,
    shared: Arc<Shared>,
    lost_names: Arc<LostNames>,
    /// Of a static member, until it has cured one.
    gaps: Option<Gaps>,
    /// When a lasting refusal was last reported.
    reported: Option<Instant>,
    /// Since when a seek is refused.
    refused: Option<Instant>,
}

impl Poller {
    fn run(mut self) {
        while !self.shared.is_stopping() {
            self.take_steps();
            self.cure_gap();
            let room = {
                let mut membership = self.shared.membership.lock();
                membership.pulse().tick(Instant::now());
                if membership.room() == Room::Full {
                    self.shared.room.wait_for(&mut membership, THREAD_WAIT);
                }
                membership.room()
            };
            match room {
                Room::Ample => self.turn(TURN_RECORDS_MAX, THREAD_WAIT),
                Room::Full => self.turn(1, Duration::ZERO),
            }
        }
        self.shared.tell(Membership::left);
        if self.shared.resigning.load(Ordering::Acquire)
            && let Some(instance_id) = self.shared.spec.instance_id.clone()
        {
            self.resign(&instance_id);
        }
        self.close();
    }

    /// Leaves a group that has given partitions to nobody and does not notice, so that it assigns anew; whoever reads joins again.
    fn cure_gap(&mut self) {
        let (Some(gaps), Some(instance_id)) = (&mut self.gaps, &self.shared.spec.instance_id) else { return };
        let Some(unowned) = gaps.look(&self.consumer, Instant::now()) else { return };
        let (group, instance_id) = (&self.shared.spec.group, instance_id.clone());
        warn!(%group, ?unowned, "partitions have no owner and would get none; this member leaves and joins again, for all to be assigned anew");
        self.resign(&instance_id);
        let reason = format!("partitions of the group {group} had no owner; it is joined again");
        self.shared.tell(|membership| membership.end(Ended::ForNow(reason)));
        self.gaps = None;
    }

    /// Has the broker strike a static member off. A client that is closed sends no farewell for it (KIP-345), one that
    /// ends its subscription does, and says to nobody when: the broker is asked.
    fn resign(&self, instance_id: &str) {
        self.consumer.unsubscribe();
        let deadline = Instant::now() + RESIGN_DEADLINE;
        while self.is_listed(instance_id) {
            if Instant::now() >= deadline {
                warn!(group = %self.shared.spec.group, "the broker keeps the place of this member until its session ends");
                return;
            }
            // Runs the callback that gives the partitions up, which comes before the farewell.
            if let Some(Err(error)) = self.consumer.poll(THREAD_WAIT) {
                debug!(group = %self.shared.spec.group, %error, "leaving the group");
            }
        }
    }

    /// Whether the broker counts a member of this static name in, or does not say. It makes the ids of such members from
    /// their names.
    fn is_listed(&self, instance_id: &str) -> bool {
        let groups = self.consumer.fetch_group_list(Some(&self.shared.spec.group), RESIGN_QUESTION);
        groups.map_or(true, |groups| {
            let mut members = groups.groups().iter().flat_map(|group| group.members());
            members.any(|member| member.id().strip_prefix(instance_id).is_some_and(|rest| rest.starts_with('-')))
        })
    }

    /// Leaves the group. Closing runs the callbacks once more, in whichever thread holds the consumer last: this one.
    fn close(self) {
        let mut consumer = self.consumer;
        loop {
            match Arc::try_unwrap(consumer) {
                Ok(last) => return drop(last),
                Err(shared) => consumer = shared,
            }
            nap(Duration::from_millis(1));
        }
    }

    /// Polls for at most so many records.
    fn turn(&mut self, records_max: usize, mut wait: Duration) {
        let mut records = Vec::new();
        let mut errors = Vec::new();
        while records.len() < records_max {
            match self.consumer.poll(wait) {
                Some(Ok(message)) => {
                    if let Ok(partition) = message.partition().try_into() {
                        let at = TopicPartition { topic: Arc::clone(&self.shared.spec.topic), partition };
                        records.push(record_of(&message, at));
                    }
                }
                Some(Err(error)) => errors.push(error),
                None => break,
            }
            wait = Duration::ZERO;
        }
        for error in errors {
            self.judge(&error);
        }
        if !records.is_empty() {
            self.shared.tell(|membership| membership.deliver(records));
        }
    }

    fn ended_by(&self, code: RDKafkaErrorCode) -> Ended {
        let group = &self.shared.spec.group;
        match &self.shared.spec.instance_id {
            Some(name) if code == RDKafkaErrorCode::FencedInstanceId => {
                if self.lost_names.is_anothers(name, Instant::now()) {
                    return Ended::ForGood(format!(
                        "another worker takes the name {name} in the group {group} again and again: \
                         give each worker a worker.id of its own"
                    ));
                }
                Ended::ForNow(format!("the name {name} in the group {group} was taken; it is joined again"))
            }
            _ => Ended::ForGood(format!("the membership of the group {group} was ended by the broker: {code}")),
        }
    }

    fn judge(&mut self, error: &KafkaError) {
        use RDKafkaErrorCode as Code;
        if let KafkaError::MessageConsumptionFatal(code) = error {
            let ended = self.ended_by(*code);
            self.shared.tell(|membership| membership.end(ended));
            return;
        }
        let topic = format!("topic {}", self.shared.spec.topic);
        let subject = match code_of(error) {
            Some(Code::GroupAuthorizationFailed) => format!("group {}", self.shared.spec.group),
            Some(
                Code::TopicAuthorizationFailed
                | Code::Authentication
                | Code::SaslAuthenticationFailed
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::InvalidSessionTimeout
                | Code::InconsistentGroupProtocol,
            ) => topic,
            // A broker that is away comes back, and a rebalance ends. The context has told it.
            _ => return,
        };
        let now = Instant::now();
        if self.reported.is_none_or(|reported| now.duration_since(reported) >= REPORT_INTERVAL) {
            self.reported = Some(now);
            self.shared.tell(|membership| membership.report(log_error(TASK, &subject, error)));
        }
    }

    /// Makes the client deliver what is wanted.
    fn take_steps(&mut self) {
        let steps = self.shared.membership.lock().steps();
        let topic = Arc::clone(&self.shared.spec.topic);
        for step in steps {
            match step {
                Step::Seek { partition, offset, start } => {
                    let Ok(id) = i32::try_from(partition) else {
                        continue;
                    };
                    let sought = self.consumer.seek(&topic, id, native_offset(offset), THREAD_WAIT * 10);
                    match sought.and_then(|()| self.consumer.resume(&list_of([(&*topic, id)]))) {
                        Ok(()) => {
                            self.refused = None;
                            self.shared.membership.lock().sought(partition, start);
                        }
                        Err(error) => self.note_refusal(partition, &error),
                    }
                }
                Step::Stop { partition } => {
                    let Ok(id) = i32::try_from(partition) else {
                        continue;
                    };
                    match self.consumer.pause(&list_of([(&*topic, id)])) {
                        Ok(()) => self.shared.membership.lock().stopped(partition),
                        Err(error) => self.note_refusal(partition, &error),
                    }
                }
            }
        }
    }

    /// A client that has not begun with a partition yet refuses; it is tried again with the next turn.
    fn note_refusal(&mut self, partition: Partition, error: &KafkaError) {
        let now = Instant::now();
        let since = *self.refused.get_or_insert(now);
        if now.duration_since(since) >= REPORT_INTERVAL {
            self.refused = Some(now);
            warn!(topic = %self.shared.spec.topic, partition, %error, "a partition could not be started for long");
        }
    }
}
