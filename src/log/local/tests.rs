//! What the conformance suite cannot ask of any log: faults, lag, and what members believe while they are cut off.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::JoinHandle;

use super::*;
use crate::log::{
    AssignmentNumber, Cleanup, GroupEvent, GroupOffsets, MemberHandle, OffsetCommit, Partition, Record, Revocation,
    Transaction, WriteError,
};

const TOPIC: &str = "topic";
const GROUP: &str = "group";
const DAY: Duration = Duration::from_secs(24 * 3_600);

async fn log_of(partitions: u32, cleanup: Cleanup) -> LocalLog {
    let log = LocalLog::new(Settings::default(), Clock::simulated(Timestamp::UNIX_EPOCH));
    let spec = TopicSpec { name: TOPIC.into(), partitions, cleanup, message_bytes_max: 1_024 };
    log.ensure_topics(&[spec]).await.unwrap();
    log
}

async fn log(partitions: u32) -> LocalLog {
    log_of(partitions, Cleanup::Delete { after: DAY }).await
}

fn at(partition: Partition) -> TopicPartition {
    TopicPartition::new(TOPIC, partition)
}

fn record(partition: Partition, key: &'static str, value: Option<&'static str>) -> NewRecord {
    let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
    NewRecord { to: at(partition), key: Some(bytes(key)), value: value.map(bytes), headers: Vec::new() }
}

fn one_record(value: &'static str) -> Transaction {
    Transaction { records: vec![record(0, "key", Some(value))], offsets: None }
}

fn one_offset(member: &Arc<dyn MemberHandle>, relies_on: Vec<(Partition, AssignmentNumber)>) -> Transaction {
    let commits = vec![OffsetCommit { at: at(0), offset: 7, metadata: String::new() }];
    Transaction {
        records: vec![record(0, "key", Some("with an offset"))],
        offsets: Some(GroupOffsets { member: Arc::clone(member), commits, relies_on }),
    }
}

/// Values of what can be read of a partition now.
async fn visible(log: &LocalLog, partition: Partition) -> Vec<String> {
    let low = log.watermarks(&at(partition)).await.unwrap().low;
    let mut follower = log.follower().await.unwrap();
    follower.assign(at(partition), low).await.unwrap();
    values(follower.poll(1_000, Duration::ZERO).await.unwrap().records)
}

fn values(records: Vec<Record>) -> Vec<String> {
    let text =
        |record: Record| record.value.map(|value| String::from_utf8(value.to_vec()).unwrap()).unwrap_or_default();
    records.into_iter().map(text).collect()
}

fn spec() -> GroupSpec {
    GroupSpec { group: GROUP.into(), topic: TOPIC.into(), instance_id: None, queue_records_max: 100 }
}

/// A member that takes its events as they come.
struct Attended {
    handle: Arc<dyn MemberHandle>,
    id: MemberId,
    story: Arc<Mutex<Vec<String>>>,
    /// Whether revocations are kept.
    holds: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Attended {
    async fn join(log: &LocalLog, spec: GroupSpec) -> Self {
        let mut member = log.join(spec).await.unwrap();
        let handle = member.handle();
        let id = log.members(GROUP).last().unwrap().id;
        let story = Arc::new(Mutex::new(Vec::new()));
        let holds = Arc::new(AtomicBool::new(false));
        let (tells, keeps) = (Arc::clone(&story), Arc::clone(&holds));
        let task = tokio::spawn(async move {
            let mut held: Vec<Revocation> = Vec::new();
            loop {
                let told = match member.next().await {
                    Ok(GroupEvent::Assigned(assigned)) => format!("assigned {assigned:?}"),
                    Ok(GroupEvent::Revoked(revocation)) => {
                        let word = if revocation.lost { "lost" } else { "revoked" };
                        let told = format!("{word} {:?}", revocation.partitions);
                        if keeps.load(Ordering::Relaxed) {
                            held.push(revocation);
                        }
                        told
                    }
                    Ok(GroupEvent::Records(records)) => format!("records {:?}", values(records)),
                    Err(error) => {
                        tells.lock().push(error.to_string());
                        return;
                    }
                };
                tells.lock().push(told);
            }
        });
        settled().await;
        Self { handle, id, story, holds, task }
    }

    fn story(&self) -> Vec<String> {
        std::mem::take(&mut *self.story.lock())
    }

    fn owned(&self) -> Vec<Partition> {
        self.handle.owned().into_keys().collect()
    }

    /// Ends the process: everything it held is dropped where it stands.
    fn kill(&self) {
        self.task.abort();
    }
}

/// Lets all tasks run until each waits for time to pass; on a paused clock, time passes only then.
async fn settled() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

#[tokio::test(start_paused = true)]
async fn each_fault_does_what_it_says() {
    use Point::*;
    use Verdict::*;
    let (went, gone) = (vec!["disturbed".to_owned(), "after".to_owned()], vec!["after".to_owned()]);
    for (point, verdict, answer, expected) in [
        (BeforePrepare, FailAborted, "Aborted", &gone),
        (BeforePrepare, Refused, "Refused", &gone),
        (AfterPrepare, FailAborted, "Aborted", &gone),
        (AfterPrepare, UnknownButCommitted, "Aborted", &gone),
        (AfterPrepare, Hang(Duration::from_secs(1)), "Ok", &went),
        (BeforeCommit, FailAborted, "Aborted", &gone),
        (BeforeCommit, Refused, "Refused", &gone),
        (BeforeCommit, UnknownButCommitted, "Unknown", &went),
        (BeforeCommit, UnknownAndAborted, "Unknown", &gone),
        (BeforeCommit, Hang(Duration::from_secs(1)), "Ok", &went),
        (BeforeCommit, Hang(Duration::from_secs(11)), "Fenced", &gone),
        (AfterCommit, FailAborted, "Unknown", &went),
        (AfterCommit, Proceed, "Ok", &went),
    ] {
        let log = log(1).await;
        let mut writer = log.writer("writer").await.unwrap();
        let faults = move |now: Point, id: &str| {
            if now == point && id == "writer" { verdict } else { Proceed }
        };
        log.set_faults(Some(Arc::new(faults)));
        let said = match writer.write(one_record("disturbed")).await {
            Ok(()) => "Ok",
            Err(WriteError::Aborted { .. }) => "Aborted",
            Err(WriteError::Refused) => "Refused",
            Err(WriteError::Fenced) => "Fenced",
            Err(WriteError::Unknown { .. }) => "Unknown",
            Err(WriteError::TooLarge { .. }) => "TooLarge",
            Err(WriteError::Unauthorized { .. }) => "Unauthorized",
        };
        log.set_faults(None);
        if matches!(said, "Fenced" | "Unknown") {
            writer = log.writer("writer").await.unwrap();
        }
        writer.write(one_record("after")).await.unwrap();
        assert_eq!((said, &visible(&log, 0).await), (answer, expected), "{point:?}: {verdict:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_commit_of_unknown_result_that_never_appears_holds_back_readers_until_it_times_out() {
    let log = log(1).await;
    let mut writer = log.writer("writer").await.unwrap();
    let faults = |point: Point, _: &str| match point {
        Point::BeforeCommit => Verdict::UnknownAndAborted,
        _ => Verdict::Proceed,
    };
    log.set_faults(Some(Arc::new(faults)));
    assert!(matches!(writer.write(one_record("lost")).await, Err(WriteError::Unknown { .. })));
    log.append(vec![record(0, "key", Some("behind it"))]).await.unwrap();
    assert!(visible(&log, 0).await.is_empty());
    tokio::time::sleep(Settings::default().transaction_timeout).await;
    assert_eq!(visible(&log, 0).await, ["behind it"]);
}

#[tokio::test(start_paused = true)]
async fn a_rebalance_between_generation_and_offsets_refuses_them() {
    let log = log(2).await;
    let first = Attended::join(&log, spec()).await;
    let faults = |point: Point, _: &str| match point {
        Point::BeforeOffsets => Verdict::Hang(Duration::from_secs(1)),
        _ => Verdict::Proceed,
    };
    log.set_faults(Some(Arc::new(faults)));
    let mut writer = log.writer("writer").await.unwrap();
    let relies_on = first.handle.owned().into_iter().collect();
    let (answer, _second) =
        tokio::join!(writer.write(one_offset(&first.handle, relies_on)), Attended::join(&log, spec()));
    assert!(matches!(answer, Err(WriteError::Refused)), "{answer:?}");
    assert!(visible(&log, 0).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn late_markers_hold_back_records_but_not_offsets() {
    let log = log(1).await;
    let member = Attended::join(&log, spec()).await;
    let late = Duration::from_secs(1);
    let faults = move |point: Point, _: &str| match point {
        Point::BeforeCommit => Verdict::LateMarkers(late),
        _ => Verdict::Proceed,
    };
    log.set_faults(Some(Arc::new(faults)));
    let mut writer = log.writer("writer").await.unwrap();
    writer.write(one_offset(&member.handle, Vec::new())).await.unwrap();
    let committed = log.committed(GROUP, &at(0), Isolation::ReadCommitted).await.unwrap();
    assert_eq!(committed.map(|committed| committed.offset), Some(7));
    assert!(visible(&log, 0).await.is_empty());
    assert_eq!(log.watermarks(&at(0)).await.unwrap().high, 1, "the marker is not there yet");
    tokio::time::sleep(late).await;
    assert_eq!(visible(&log, 0).await, ["with an offset"]);
    assert_eq!(log.watermarks(&at(0)).await.unwrap().high, 2);
    // The next transaction of the same id waits for nothing: what is late arrives first.
    writer.write(one_record("second")).await.unwrap();
    writer.write(one_record("third")).await.unwrap();
    assert_eq!(visible(&log, 0).await, ["with an offset", "second"]);
    tokio::time::sleep(late).await;
    assert_eq!(visible(&log, 0).await, ["with an offset", "second", "third"]);
}

#[tokio::test(start_paused = true)]
async fn followers_lag_and_members_do_not() {
    let log = log(1).await;
    let lag = Duration::from_secs(3);
    log.set_follower_lag(lag);
    let member = Attended::join(&log, spec()).await;
    member.handle.start(0, 0);
    let mut follower = log.follower().await.unwrap();
    follower.assign(at(0), 0).await.unwrap();
    let before = Instant::now();
    let (progress, ()) = tokio::join!(follower.poll(10, DAY), async {
        log.append(vec![record(0, "key", Some("value"))]).await.unwrap();
        settled().await;
        assert!(member.story().contains(&r#"records ["value"]"#.to_owned()));
    });
    assert_eq!(values(progress.unwrap().records), ["value"]);
    assert!((lag..lag + Duration::from_millis(5)).contains(&before.elapsed()), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_moved_partition_is_revoked_and_then_assigned() {
    let log = log(2).await;
    let [first, second] = [Attended::join(&log, spec()).await, Attended::join(&log, spec()).await];
    assert_eq!((first.owned(), second.owned()), (vec![0], vec![1]));
    first.story();
    second.story();
    first.holds.store(true, Ordering::Relaxed);
    log.move_partition(GROUP, 0, second.id);
    settled().await;
    assert_eq!((first.story(), second.story()), (vec!["revoked [0]".to_owned()], Vec::new()));
    tokio::time::sleep(Settings::default().drain_deadline).await;
    assert_eq!((first.story(), second.story()), (Vec::new(), vec!["assigned [(0, 2)]".to_owned()]));
    assert_eq!((first.owned(), second.owned()), (vec![], vec![0, 1]));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_dies_while_it_drains_keeps_its_partitions_until_its_session_ends() {
    let log = log(2).await;
    let first = Attended::join(&log, spec()).await;
    first.holds.store(true, Ordering::Relaxed);
    let second = Attended::join(&log, spec()).await;
    assert_eq!(first.story().last().unwrap(), "revoked [1]");
    first.kill();
    tokio::time::sleep(Settings::default().drain_deadline + Duration::from_secs(1)).await;
    assert!(second.owned().is_empty(), "the drain deadline is kept by the process, which is dead");
    tokio::time::sleep(Settings::default().session_timeout).await;
    assert_eq!(second.owned(), [0, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_silenced_member_believes_on_until_it_is_heard_again() {
    let log = log(2).await;
    let [first, second] = [Attended::join(&log, spec()).await, Attended::join(&log, spec()).await];
    let mut writer = log.writer("writer").await.unwrap();
    log.silence(GROUP, first.id);
    assert!(matches!(first.handle.prove(0).await, Err(LogError::Unavailable { .. })));
    writer.write(one_offset(&first.handle, Vec::new())).await.unwrap();
    let session = first.handle.session_timeout();
    tokio::time::sleep(session + Duration::from_secs(1)).await;
    settled().await;
    assert_eq!((first.owned(), second.owned()), (vec![0], vec![0, 1]), "two believe it; the group knows one");
    assert!(first.handle.confirmed_age() > session, "which only its age can tell");
    let relies_on = first.handle.owned().into_iter().collect();
    let answer = writer.write(one_offset(&first.handle, relies_on)).await;
    assert!(matches!(answer, Err(WriteError::Refused)), "{answer:?}");

    first.story();
    log.unsilence(GROUP, first.id);
    settled().await;
    assert_eq!(first.story(), ["lost [0]", "assigned [(1, 3)]"]);
    assert_eq!(first.handle.confirmed_age(), Duration::ZERO);
    assert!(first.handle.prove(1).await.unwrap());
    assert_eq!(second.owned(), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_heard_again_within_its_session_lost_nothing() {
    let log = log(1).await;
    let member = Attended::join(&log, spec()).await;
    member.story();
    log.silence(GROUP, member.id);
    tokio::time::sleep(member.handle.session_timeout() / 2).await;
    assert!(member.handle.confirmed_age() >= member.handle.session_timeout() / 2);
    member.handle.confirmed();
    assert_eq!(member.handle.confirmed_age(), Duration::ZERO, "a transaction that was taken proves it alive");
    log.unsilence(GROUP, member.id);
    tokio::time::sleep(DAY).await;
    assert_eq!((member.story(), member.owned()), (Vec::new(), vec![0]));
}

#[tokio::test(start_paused = true)]
async fn an_expelled_member_is_told_and_joins_again_when_it_took_note() {
    let log = log(2).await;
    let [first, second] = [Attended::join(&log, spec()).await, Attended::join(&log, spec()).await];
    first.holds.store(true, Ordering::Relaxed);
    first.story();
    log.expel(GROUP, first.id);
    settled().await;
    assert_eq!(first.story(), ["lost [0]"]);
    assert_eq!((first.owned(), second.owned()), (vec![], vec![0, 1]));
    tokio::time::sleep(Settings::default().drain_deadline).await;
    settled().await;
    assert_eq!((first.owned(), second.owned()), (vec![1], vec![0]));
}

#[tokio::test(start_paused = true)]
async fn an_expelled_member_whose_process_dies_does_not_come_back() {
    let log = log(2).await;
    let [first, second] = [Attended::join(&log, spec()).await, Attended::join(&log, spec()).await];
    first.holds.store(true, Ordering::Relaxed);
    log.expel(GROUP, first.id);
    settled().await;
    first.kill();
    tokio::time::sleep(DAY).await;
    assert_eq!(second.owned(), [0, 1]);
    assert_eq!(log.members(GROUP).len(), 1);
    assert_eq!(second.story(), ["assigned [(1, 1)]", "assigned [(0, 2)]"], "once");
}

#[tokio::test(start_paused = true)]
async fn a_member_started_beyond_the_end_goes_on_at_the_low_end() {
    let log = log(1).await;
    log.append(vec![record(0, "key", Some("value"))]).await.unwrap();
    let member = Attended::join(&log, spec()).await;
    member.handle.start(0, 1_000);
    settled().await;
    assert_eq!(member.story().last().unwrap(), r#"records ["value"]"#);
}

/// Kafka checks no generation of a consumer that has none. Who was expelled, and knows, must look at what it owns.
#[tokio::test(start_paused = true)]
async fn a_member_that_knows_it_was_expelled_is_not_fenced_by_its_generation() {
    let log = log(1).await;
    let member = Attended::join(&log, spec()).await;
    let relies_on: Vec<_> = member.handle.owned().into_iter().collect();
    member.holds.store(true, Ordering::Relaxed);
    log.expel(GROUP, member.id);
    let mut writer = log.writer("writer").await.unwrap();
    let answer = writer.write(one_offset(&member.handle, relies_on)).await;
    assert!(matches!(answer, Err(WriteError::Refused)), "{answer:?}");
    writer.write(one_offset(&member.handle, Vec::new())).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_namesake_takes_over_and_the_older_member_ends() {
    let log = log(2).await;
    let named = || GroupSpec { instance_id: Some("worker-1".to_owned()), ..spec() };
    let first = Attended::join(&log, named()).await;
    let second = Attended::join(&log, named()).await;
    assert_eq!(second.owned(), [0, 1]);
    let story = first.story();
    assert_eq!(story[1], "lost [0, 1]");
    assert!(story[2].contains("another member of group took the name worker-1"), "{story:?}");
    let mut writer = log.writer("writer").await.unwrap();
    let answer = writer.write(one_offset(&first.handle, Vec::new())).await;
    assert!(matches!(answer, Err(WriteError::Refused)), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn new_partitions_are_shared_out() {
    let log = log(1).await;
    let [first, second] = [Attended::join(&log, spec()).await, Attended::join(&log, spec()).await];
    log.add_partitions(TOPIC, 3);
    settled().await;
    assert_eq!(log.partitions(TOPIC).await.unwrap(), Some(3));
    assert_eq!((first.owned(), second.owned()), (vec![0, 1], vec![2]));
}

#[tokio::test(start_paused = true)]
async fn a_marker_of_nobodys_moves_the_end_and_every_position() {
    let log = log(1).await;
    let mut follower = log.follower().await.unwrap();
    follower.assign(at(0), 0).await.unwrap();
    log.append_marker(&at(0));
    let progress = follower.poll(10, DAY).await.unwrap();
    assert!(progress.records.is_empty());
    assert_eq!(progress.positions, [(at(0), 1)]);
    assert_eq!(log.watermarks(&at(0)).await.unwrap(), Watermarks { low: 0, high: 1 });
}

#[tokio::test(start_paused = true)]
async fn tombstones_stay_for_their_time_after_the_compaction_that_met_them() {
    let log = log_of(1, Cleanup::Compact { tombstones: DAY }).await;
    let records = [("a", Some("1")), ("b", Some("1")), ("a", None), ("b", Some("2"))];
    log.append(records.map(|(key, value)| record(0, key, value)).to_vec()).await.unwrap();
    tokio::time::sleep(2 * DAY).await;
    log.compact(&at(0));
    assert_eq!(visible(&log, 0).await, ["", "2"], "the tombstone is met now");
    tokio::time::sleep(DAY - Duration::from_secs(1)).await;
    log.compact(&at(0));
    assert_eq!(visible(&log, 0).await, ["", "2"]);
    tokio::time::sleep(Duration::from_secs(1)).await;
    log.compact(&at(0));
    assert_eq!(visible(&log, 0).await, ["2"]);
}

#[tokio::test(start_paused = true)]
async fn compaction_takes_nothing_for_the_sake_of_what_is_not_committed() {
    let log = log_of(1, Cleanup::Compact { tombstones: DAY }).await;
    log.append(vec![record(0, "key", Some("old"))]).await.unwrap();
    let mut writer = log.writer("writer").await.unwrap();
    writer.prepare(one_record("new")).await.unwrap();
    log.compact(&at(0));
    assert_eq!(visible(&log, 0).await, ["old"]);
    writer.commit().await.unwrap();
    log.compact(&at(0));
    assert_eq!(visible(&log, 0).await, ["new"]);
}

#[tokio::test(start_paused = true)]
async fn retention_goes_by_time() {
    let log = log(1).await;
    log.append(vec![record(0, "key", Some("old"))]).await.unwrap();
    tokio::time::sleep(DAY / 2).await;
    log.append(vec![record(0, "key", Some("young"))]).await.unwrap();
    tokio::time::sleep(DAY / 2 + Duration::from_secs(1)).await;
    log.expire();
    assert_eq!(visible(&log, 0).await, ["young"]);
    assert_eq!(log.watermarks(&at(0)).await.unwrap(), Watermarks { low: 1, high: 2 });
}

#[tokio::test(start_paused = true)]
async fn a_compacted_topic_takes_no_record_without_a_key() {
    let log = log_of(1, Cleanup::Compact { tombstones: DAY }).await;
    let keyless = NewRecord { key: None, ..record(0, "", Some("value")) };
    assert!(matches!(log.append(vec![keyless.clone()]).await, Err(LogError::Unusable { .. })));
    let mut writer = log.writer("writer").await.unwrap();
    let answer = writer.write(Transaction { records: vec![keyless], offsets: None }).await;
    assert!(matches!(answer, Err(WriteError::Aborted { .. })), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_leaves_its_transaction_to_the_next_which_aborts_it() {
    let log = log(1).await;
    let hangs = Arc::new(AtomicBool::new(true));
    let hang = Arc::clone(&hangs);
    let faults = move |point: Point, _: &str| match point {
        Point::AfterPrepare if hang.load(Ordering::Relaxed) => Verdict::Hang(DAY),
        _ => Verdict::Proceed,
    };
    log.set_faults(Some(Arc::new(faults)));
    let mut writer = log.writer("writer").await.unwrap();
    let given_up = tokio::time::timeout(Duration::from_secs(1), writer.write(one_record("given up"))).await;
    assert!(given_up.is_err(), "it hangs");
    hangs.store(false, Ordering::Relaxed);
    writer.write(one_record("next")).await.unwrap();
    assert_eq!(visible(&log, 0).await, ["next"]);
}

/// A generator of small numbers: the tests of this module need chance that is the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % end
    }
}

/// Members come, go, die, are moved, cut off and expelled. Returns what each was told.
async fn storm(seed: u64, partitions: u32) -> Vec<Vec<String>> {
    let log = log(partitions).await;
    let mut chance = Chance(seed);
    let mut members = vec![Attended::join(&log, spec()).await];
    let mut stories = Vec::new();
    for _ in 0..60 {
        let known = log.members(GROUP);
        let one = chance.below(members.len());
        match chance.below(8) {
            0 | 1 if members.len() < 6 => members.push(Attended::join(&log, spec()).await),
            2 if members.len() > 1 => {
                let killed = members.swap_remove(one);
                killed.kill();
                stories.push(killed.story());
            }
            3 if !known.is_empty() => {
                let to = known[chance.below(known.len())].id;
                log.move_partition(GROUP, chance.below(partitions as usize) as Partition, to);
            }
            4 if known.iter().any(|member| member.id == members[one].id) => log.silence(GROUP, members[one].id),
            5 => log.unsilence(GROUP, members[one].id),
            6 if known.iter().any(|member| member.id == members[one].id) => log.expel(GROUP, members[one].id),
            _ => members[one].holds.store(chance.below(2) == 0, Ordering::Relaxed),
        }
        tokio::time::sleep(Duration::from_millis(chance.below(5_000) as u64)).await;
        // Who is heard of and believes to own a partition is the only one of those.
        let mut owners = BTreeMap::new();
        for member in log.members(GROUP).iter().filter(|member| !member.silent) {
            for partition in member.owned.keys() {
                assert_eq!(owners.insert(*partition, member.id), None, "partition {partition} has one owner");
            }
        }
    }
    for member in &members {
        log.unsilence(GROUP, member.id);
        member.holds.store(false, Ordering::Relaxed);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let owned: BTreeMap<_, _> = members
        .iter()
        .flat_map(|member| member.owned().into_iter().map(move |partition| (partition, member.id)))
        .collect();
    assert_eq!(owned.len(), partitions as usize, "every partition has an owner");
    assert_eq!(members.iter().map(|member| member.owned().len()).sum::<usize>(), owned.len(), "and only one");
    for member in &members {
        for partition in member.owned() {
            assert!(member.handle.prove(partition).await.unwrap(), "and the group agrees");
        }
    }
    stories.extend(members.iter().map(Attended::story));
    stories
}

#[tokio::test(start_paused = true)]
async fn a_group_in_a_storm_settles_with_one_owner_for_each_partition() {
    for seed in 0..40 {
        storm(seed, 5).await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_runs_of_one_simulation_are_the_same() {
    assert_eq!(storm(1, 5).await, storm(1, 5).await);
}

#[tokio::test(start_paused = true)]
async fn shares_are_even_and_who_joins_takes_only_its_own() {
    let log = log(7).await;
    let mut members: Vec<Attended> = Vec::new();
    for count in 1..=8 {
        let before: Vec<_> = members.iter().map(Attended::owned).collect();
        members.push(Attended::join(&log, spec()).await);
        let after: Vec<_> = members.iter().map(Attended::owned).collect();
        for (before, after) in before.iter().zip(&after) {
            assert!(
                after.iter().all(|partition| before.contains(partition)),
                "nothing moves between those who were there"
            );
        }
        let sizes: Vec<_> = after.iter().map(Vec::len).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 7);
        assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{count} members: {sizes:?}");
    }
}
