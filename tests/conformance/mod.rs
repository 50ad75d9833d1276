//! What a log means, claim by claim, for any implementation of the seam.
//!
//! Each claim is one function; [`conformance_suite!`] expands all of them to tests for one harness, so that two logs
//! cannot be held to different lists. A claim that is written but not listed is dead code, and the compiler says so.
//!
//! A runner declares this module at its root with `#[macro_use]` and calls
//! `conformance_suite!(tokio::test, the expression that makes a harness)`; the expression may await.
//!
//! Rules for claims: names of topics, groups and writers are fresh for each call, because claims run side by side on
//! one broker; a state is waited for with a deadline, because a broker takes its time; a commit that was answered is
//! not assumed to be visible at once; the absence of something is watched for [`QUIET`]; and records whose key begins
//! with `#` are fillers that a harness may need for its compaction, never looked at.

#![expect(clippy::unwrap_used, reason = "a claim fails by panicking")]

pub(crate) mod compaction;
pub(crate) mod groups;
pub(crate) mod offsets;
pub(crate) mod reading;
pub(crate) mod topics;
pub(crate) mod writing;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use contact_replicator::log::{
    AssignmentNumber, Cleanup, GroupEvent, GroupOffsets, GroupSpec, Log, LogError, Member, MemberHandle, NewRecord,
    Offset, OffsetCommit, Partition, Progress, Record, Revocation, TopicPartition, TopicSpec, Transaction, WriteError,
    Writer,
};
use parking_lot::Mutex;
use tokio::{sync::oneshot, task::JoinHandle, time::Instant};

/// How long a state is waited for before a claim fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(45);
/// How long the absence of something is watched.
pub(crate) const QUIET: Duration = Duration::from_millis(1_000);
/// Largest message that the topics of this suite take.
pub(crate) const MESSAGE_BYTES_MAX: u32 = 64 * 1024;

/// A log under test, with the means that differ from log to log.
#[async_trait]
pub(crate) trait Harness: Send + Sync {
    fn log(&self) -> &dyn Log;

    /// Creates a topic with a name of its own, on which [`Harness::compact`] and [`Harness::expire_before`] work.
    async fn fresh_topic(&self, partitions: u32, cleanup: Cleanup) -> Arc<str> {
        let spec = topic_spec(partitions, cleanup);
        self.log().ensure_topics(std::slice::from_ref(&spec)).await.unwrap();
        spec.name
    }

    /// Gives compaction of every partition of `topic` a chance. Called again and again until what is claimed shows.
    async fn compact(&self, topic: &str);

    /// Makes retention delete what lies below `offset`.
    async fn expire_before(&self, at: &TopicPartition, offset: Offset);

    /// Gives retention by age a chance. Called again and again until what is claimed shows; where nothing is to be done, a
    /// broker looks by itself.
    async fn expire(&self) {}

    /// Ends a member as a killed process would: it neither leaves nor is heard of again. Its handle may live on.
    async fn kill(&self, member: Box<dyn Member>);
}

/// Expands to one test per claim. `$test` is the attribute of a test, `$harness` makes what the claim runs on.
macro_rules! conformance_suite {
    ($test:meta, $harness:expr) => {
        conformance_suite! { @each $test, $harness;
            writing: records_arrive_as_they_were_written;
            writing: a_transaction_appears_in_all_its_partitions;
            writing: an_empty_transaction_commits;
            writing: order_within_a_partition_is_the_order_of_writing;
            writing: records_of_an_aborted_transaction_are_invisible;
            writing: an_open_transaction_holds_back_readers_of_the_partitions_it_touched;
            writing: a_second_writer_fences_the_first_and_its_open_transaction_never_appears;
            writing: a_fenced_writer_can_begin_nothing_more;
            writing: a_dropped_writer_leaves_its_transaction_open_until_its_id_is_opened_again;
            writing: a_transaction_that_is_never_ended_times_out_and_fences_its_writer;
            writing: a_record_larger_than_the_topic_takes_is_too_large_and_the_writer_goes_on;
            writing: end_offsets_count_markers_and_a_position_reaches_them;
            reading: an_empty_partition_has_equal_ends_and_nothing_to_read;
            reading: a_follower_assigned_anew_reads_anew;
            reading: an_unassigned_partition_delivers_nothing_more;
            reading: small_polls_lose_and_repeat_nothing;
            reading: an_offset_below_the_low_end_is_out_of_range_once_and_other_partitions_go_on;
            reading: an_offset_that_was_never_written_is_out_of_range;
            reading: an_offset_is_found_by_its_time;
            reading: retention_takes_the_old_and_leaves_the_young_and_their_numbers;
            compaction: compaction_keeps_the_newest_record_of_each_key_at_its_offset;
            compaction: tombstones_vanish_with_what_they_covered;
            topics: a_missing_topic_is_created_once;
            topics: all_differences_are_told_at_once_and_nothing_is_altered;
            topics: a_topic_is_described_as_it_was_created;
            topics: a_foreign_topic_is_neither_created_nor_judged;
            topics: an_unknown_topic_has_no_partitions;
            groups: a_sole_member_is_assigned_every_partition;
            groups: two_members_share_the_partitions;
            groups: assigned_partitions_deliver_nothing_before_they_are_started;
            groups: a_started_partition_delivers_from_its_offset_on;
            groups: a_paused_partition_is_silent_and_resumes_without_loss;
            groups: a_member_reads_committed_records_only;
            groups: a_member_started_below_the_low_end_goes_on_at_it;
            groups: a_revoke_names_only_what_is_lost_and_holds_back_the_next_owner;
            groups: a_revoke_that_is_never_acknowledged_ends_at_the_drain_deadline;
            groups: a_leave_moves_partitions_at_once;
            groups: a_dead_member_is_fenced_and_its_partitions_move;
            groups: a_member_that_left_is_fenced;
            groups: a_static_member_that_returns_keeps_its_partitions;
            groups: a_static_member_that_resigns_leaves_at_once;
            groups: assignment_numbers_count_up;
            groups: an_owner_can_prove_what_it_owns;
            groups: a_live_member_is_confirmed_within_the_session;
            offsets: a_group_that_committed_nothing_has_no_offset;
            offsets: an_offset_and_its_metadata_survive;
            offsets: offsets_and_records_of_a_transaction_appear_together;
            offsets: an_offset_is_unstable_while_a_transaction_holds_it;
            offsets: an_offset_of_a_fenced_transaction_never_appears;
            offsets: a_live_member_that_lost_a_partition_is_not_fenced_by_the_log;
            offsets: an_assignment_that_is_gone_is_refused_and_the_writer_goes_on;
            offsets: an_older_assignment_of_an_owned_partition_is_refused;
            offsets: offsets_sent_before_a_rebalance_can_be_committed_after_it;
        }
    };
    (@each $test:meta, $harness:expr; $($part:ident: $claim:ident;)*) => {
        $(
            #[$test]
            async fn $claim() {
                let harness = $harness;
                Box::pin(crate::conformance::$part::$claim(&harness)).await;
            }
        )*
    };
}

/// A name that no other call was given, in this process or any other.
pub(crate) fn fresh(kind: &str) -> String {
    format!("conformance-{kind}-{}", uuid::Uuid::new_v4().simple())
}

/// A topic with a fresh name.
pub(crate) fn topic_spec(partitions: u32, cleanup: Cleanup) -> TopicSpec {
    TopicSpec { name: fresh("topic").into(), partitions, cleanup, message_bytes_max: MESSAGE_BYTES_MAX }
}

/// A topic whose records stay for the length of a test.
pub(crate) async fn kept_topic(harness: &dyn Harness, partitions: u32) -> Arc<str> {
    harness.fresh_topic(partitions, Cleanup::Delete { after: Duration::from_secs(24 * 3_600) }).await
}

pub(crate) fn record(at: &TopicPartition, key: &str, value: &str) -> NewRecord {
    NewRecord {
        to: at.clone(),
        key: Some(Bytes::copy_from_slice(key.as_bytes())),
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    }
}

/// Records `0`, `1`, … below `count`, each its own key.
pub(crate) fn numbered(at: &TopicPartition, numbers: std::ops::Range<u32>) -> Vec<NewRecord> {
    numbers.map(|number| record(at, &format!("key {number}"), &number.to_string())).collect()
}

/// A transaction of records alone.
pub(crate) fn records_only(records: Vec<NewRecord>) -> Transaction {
    Transaction { records, offsets: None }
}

/// A transaction of one offset alone.
pub(crate) fn offset_only(
    member: &Arc<dyn MemberHandle>,
    at: &TopicPartition,
    offset: Offset,
    relies_on: Vec<(Partition, AssignmentNumber)>,
) -> Transaction {
    let commits = vec![OffsetCommit { at: at.clone(), offset, metadata: format!("at {offset}") }];
    Transaction { records: Vec::new(), offsets: Some(GroupOffsets { member: Arc::clone(member), commits, relies_on }) }
}

/// A record that no compression brings below [`MESSAGE_BYTES_MAX`]: brokers measure the compressed batch.
pub(crate) fn too_large(at: &TopicPartition) -> NewRecord {
    let mut state = 1_u64;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    let value: Vec<u8> = noise.take(2 * MESSAGE_BYTES_MAX as usize).collect();
    NewRecord {
        to: at.clone(),
        key: Some(Bytes::from_static(b"large")),
        value: Some(value.into()),
        headers: Vec::new(),
    }
}

/// Key and value as text; a tombstone is `None`.
pub(crate) fn pair(record: &Record) -> (String, Option<String>) {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    (record.key.as_ref().map(text).unwrap_or_default(), record.value.as_ref().map(text))
}

/// The values alone, as text.
pub(crate) fn values(records: &[Record]) -> Vec<String> {
    records.iter().map(|record| pair(record).1.unwrap_or_default()).collect()
}

/// What [`values`] gives for [`numbered`].
pub(crate) fn numbers(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|number| number.to_string()).collect()
}

fn is_filler(record: &Record) -> bool {
    record.key.as_ref().is_some_and(|key| key.starts_with(b"#"))
}

/// Looks again and again until there is something to see.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One poll; a broker that is away for a moment is no progress.
pub(crate) async fn poll(
    follower: &mut dyn contact_replicator::log::Follower,
    wait: Duration,
) -> Result<Progress, LogError> {
    match follower.poll(1_000, wait).await {
        Ok(mut progress) => {
            for record in &progress.records {
                let position = progress.positions.iter().find(|(at, _)| *at == record.at);
                let (_, position) = position.unwrap_or_else(|| panic!("{record:?} came without a position"));
                assert!(record.offset < *position, "the position {position} does not cover {record:?}");
            }
            progress.records.retain(|record| !is_filler(record));
            Ok(progress)
        }
        Err(error) if error.is_transient() => Ok(Progress::default()),
        Err(error) => Err(error),
    }
}

/// Everything committed in `at`: from its low end until the position reaches what is its high end now.
pub(crate) async fn read_all(log: &dyn Log, at: &TopicPartition) -> Vec<Record> {
    let ends = log.watermarks(at).await.unwrap();
    let mut follower = log.follower().await.unwrap();
    follower.assign(at.clone(), ends.low).await.unwrap();
    let deadline = Instant::now() + DEADLINE;
    let (mut position, mut records) = (ends.low, Vec::new());
    while position < ends.high {
        assert!(Instant::now() < deadline, "position {position} of {at} never reached {}", ends.high);
        let progress = poll(follower.as_mut(), QUIET).await.unwrap();
        records.extend(progress.records);
        for (_, moved) in progress.positions {
            assert!(position <= moved, "positions go forward");
            position = moved;
        }
    }
    records
}

/// Everything that arrives while [`QUIET`] passes.
pub(crate) async fn read_for_a_while(follower: &mut dyn contact_replicator::log::Follower) -> Vec<Record> {
    let until = Instant::now() + QUIET;
    let mut records = Vec::new();
    while Instant::now() < until {
        let wait = until - Instant::now();
        records.extend(poll(follower, wait).await.unwrap().records);
    }
    records
}

/// Writes until it is taken: an abort may be tried again, and a generation may change under a transaction.
pub(crate) async fn write(writer: &mut dyn Writer, transaction: Transaction) {
    eventually("a transaction is taken", async || match writer.write(transaction.clone()).await {
        Ok(()) => Some(()),
        Err(WriteError::Aborted { .. } | WriteError::Refused) => None,
        Err(error) => panic!("a transaction failed: {error}"),
    })
    .await;
}

/// Prepares until it is taken.
pub(crate) async fn prepare(writer: &mut dyn Writer, transaction: Transaction) {
    eventually("a transaction is prepared", async || match writer.prepare(transaction.clone()).await {
        Ok(()) => Some(()),
        Err(WriteError::Aborted { .. } | WriteError::Refused) => None,
        Err(error) => panic!("a transaction failed: {error}"),
    })
    .await;
}

/// A group with a name of its own.
pub(crate) fn group_spec(topic: &Arc<str>) -> GroupSpec {
    GroupSpec { group: fresh("group").into(), topic: Arc::clone(topic), instance_id: None, queue_records_max: 1_000 }
}

/// A member whose events are taken as they come, by a task of its own, as a worker would.
pub(crate) struct Attended {
    pub(crate) handle: Arc<dyn MemberHandle>,
    diary: Arc<Mutex<Diary>>,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Box<dyn Member>>,
}

/// What a member was told.
#[derive(Default)]
struct Diary {
    assigned: Vec<(Partition, AssignmentNumber)>,
    revoked: Vec<Partition>,
    lost: Vec<Partition>,
    records: Vec<Record>,
    /// Whether revocations are kept instead of acknowledged.
    holds: bool,
    held: Vec<Revocation>,
}

impl Attended {
    pub(crate) async fn join(log: &dyn Log, spec: &GroupSpec) -> Self {
        let mut member = log.join(spec.clone()).await.unwrap();
        let handle = member.handle();
        let diary = Arc::new(Mutex::new(Diary::default()));
        let (stop, mut stopped) = oneshot::channel();
        let writes = Arc::clone(&diary);
        let task = tokio::spawn(async move {
            loop {
                let event = tokio::select! {
                    biased;
                    _ = &mut stopped => return member,
                    event = member.next() => event.unwrap(),
                };
                let mut diary = writes.lock();
                match event {
                    GroupEvent::Assigned(partitions) => diary.assigned.extend(partitions),
                    GroupEvent::Records(records) => {
                        diary.records.extend(records.into_iter().filter(|record| !is_filler(record)))
                    }
                    GroupEvent::Revoked(revocation) => {
                        let said = if revocation.lost { &mut diary.lost } else { &mut diary.revoked };
                        said.extend(&revocation.partitions);
                        if diary.holds {
                            diary.held.push(revocation);
                        }
                    }
                }
            }
        });
        Self { handle, diary, stop, task }
    }

    /// Joins, and waits until it was told of `count` partitions.
    pub(crate) async fn join_and_own(log: &dyn Log, spec: &GroupSpec, count: usize) -> Self {
        let member = Self::join(log, spec).await;
        member.owns(count).await;
        member
    }

    /// Waits until the member owns `count` partitions and was told so; answers which.
    pub(crate) async fn owns(&self, count: usize) -> Vec<Partition> {
        eventually(&format!("a member owns {count} partitions"), async || {
            let owned = self.handle.owned();
            let told = owned.iter().all(|(partition, number)| self.assigned().contains(&(*partition, *number)));
            (owned.len() == count && told).then(|| owned.into_keys().collect())
        })
        .await
    }

    /// Every assignment that the member was told of, in order.
    pub(crate) fn assigned(&self) -> Vec<(Partition, AssignmentNumber)> {
        self.diary.lock().assigned.clone()
    }

    pub(crate) fn revoked(&self) -> Vec<Partition> {
        self.diary.lock().revoked.clone()
    }

    pub(crate) fn lost(&self) -> Vec<Partition> {
        self.diary.lock().lost.clone()
    }

    pub(crate) fn records(&self) -> Vec<Record> {
        self.diary.lock().records.clone()
    }

    /// Waits for `count` records in all.
    pub(crate) async fn reads(&self, count: usize) -> Vec<Record> {
        eventually(&format!("a member reads {count} records"), async || {
            let records = self.records();
            (records.len() >= count).then_some(records)
        })
        .await
    }

    /// From now on revocations are kept until [`Attended::acknowledge`].
    pub(crate) fn hold_revocations(&self) {
        self.diary.lock().holds = true;
    }

    pub(crate) fn acknowledge(&self) {
        let mut diary = self.diary.lock();
        diary.holds = false;
        diary.held.clear();
    }

    /// The member itself, no longer attended.
    pub(crate) async fn take(self) -> Box<dyn Member> {
        self.stop.send(()).expect("the task ends when it is told to");
        self.task.await.unwrap()
    }

    pub(crate) async fn leave(self) {
        self.take().await.leave().await;
    }

    pub(crate) async fn resign(self) {
        self.take().await.resign().await;
    }
}
