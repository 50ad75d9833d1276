//! Claims that only a real broker, or its absence, can show.

use std::{sync::Arc, time::Duration};

use contact_replicator::log::{
    GroupEvent, GroupSpec, Isolation, Log, LogError, MemberHandle, Partition, TopicPartition, WriteError,
    kafka::KafkaLog,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    KafkaHarness, TRANSACTION_TIMEOUT, bootstrap_servers,
    conformance::{
        Attended, Harness, eventually, fresh, group_spec, kept_topic, numbered, offset_only, read_all, records_only,
        values, write,
    },
    proxied,
    proxy::Moment,
    settings,
};

/// Longer than every deadline of the log, shorter than a reader's patience.
const ENDS_WITHIN: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_broker_everything_ends_as_unavailable() {
    // Nothing listens on port 1.
    let log = KafkaLog::new(settings("127.0.0.1:1".to_owned(), "nobody")).unwrap();
    let at = TopicPartition::new("topic", 0);
    let id = fresh("writer");
    let begun = Instant::now();
    let (partitions, ends, time, appended, committed, writer) = tokio::join!(
        log.partitions("topic"),
        log.watermarks(&at),
        log.offset_at(&at, jiff::Timestamp::UNIX_EPOCH),
        log.append(numbered(&at, 0..1)),
        log.committed("group", &at, Isolation::ReadCommitted),
        log.writer(&id),
    );
    for error in [partitions.map(drop), ends.map(drop), time.map(drop), appended, committed.map(drop), writer.map(drop)]
    {
        assert!(matches!(error, Err(LogError::Unavailable { .. })), "{error:?}");
    }
    assert!(begun.elapsed() < ENDS_WITHIN, "{:?}", begun.elapsed());
    // Members and followers wait; they do not fail.
    let mut member = log.join(group_spec(&at.topic)).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(2), member.next()).await.is_err());
    let mut follower = log.follower().await.unwrap();
    follower.assign(at, 0).await.unwrap();
    let progress = follower.poll(10, Duration::from_millis(500)).await.unwrap();
    assert!(progress.records.is_empty() && progress.positions.is_empty());
    member.leave().await;
    assert!(begun.elapsed() < ENDS_WITHIN * 2, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_line_is_cut_for_good_is_unknown() {
    let harness = KafkaHarness::new().await;
    let at = TopicPartition::new(kept_topic(&harness, 1).await, 0);
    let client_id = fresh("writer");
    let (log, proxy) = proxied(&client_id).await;
    let id = fresh("writer");
    let mut writer = log.writer(&id).await.unwrap();
    writer.prepare(records_only(numbered(&at, 0..1))).await.unwrap();
    proxy.cut(&client_id);
    let answer = writer.commit().await;
    assert!(matches!(answer, Err(WriteError::Unknown { .. })), "{answer:?}");
    let answer = writer.prepare(records_only(numbered(&at, 1..2))).await;
    assert!(matches!(answer, Err(WriteError::Fenced)), "of no more use: {answer:?}");
    // Opened again, the id goes on, and what the commit came to is settled before anything else is written.
    let mut again = harness.log().writer(&id).await.unwrap();
    write(again.as_mut(), records_only(numbered(&at, 2..3))).await;
    let read = values(&read_all(harness.log(), &at).await);
    assert!(read == ["2"] || read == ["0", "2"], "{read:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_line_is_mended_in_time_happens_once() {
    let harness = KafkaHarness::new().await;
    let at = TopicPartition::new(kept_topic(&harness, 1).await, 0);
    let client_id = fresh("writer");
    let (log, proxy) = proxied(&client_id).await;
    let mut writer = log.writer(&fresh("writer")).await.unwrap();
    writer.prepare(records_only(numbered(&at, 0..1))).await.unwrap();
    proxy.cut(&client_id);
    let (answer, ()) = tokio::join!(writer.commit(), async {
        // A time in which it is tried in vain, not one in which something must have happened.
        tokio::time::sleep(Duration::from_secs(2)).await;
        proxy.mend(&client_id);
    });
    answer.unwrap();
    assert_eq!(values(&read_all(harness.log(), &at).await), ["0"]);
}

/// librdkafka gives the number of a record that it gave up to the next one, which the broker then takes for a repetition, and
/// keeps nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_follows_records_that_were_taken_unheard_is_there_if_it_is_committed() {
    let harness = KafkaHarness::new().await;
    let at = TopicPartition::new(kept_topic(&harness, 1).await, 0);
    let client_id = fresh("writer");
    let (log, proxy) = proxied(&client_id).await;
    let id = fresh("writer");
    let mut writer = log.writer(&id).await.unwrap();
    write(writer.as_mut(), records_only(numbered(&at, 0..1))).await;
    let taken_unheard = proxy.cut_at(&client_id, Moment::AfterTheRecords);
    let (answer, ()) = tokio::join!(writer.prepare(records_only(numbered(&at, 1..2))), async {
        taken_unheard.await.unwrap();
        // By then it has been given up, and the broker has not yet ended the transaction by itself.
        tokio::time::sleep(TRANSACTION_TIMEOUT + Duration::from_millis(1_500)).await;
        proxy.mend(&client_id);
    });
    answer.unwrap_err();
    // Whoever has the writer may try, and whoever opens it anew goes on.
    let mut written = vec!["0"];
    if writer.write(records_only(numbered(&at, 2..3))).await.is_ok() {
        written.push("2");
    }
    let mut again = log.writer(&id).await.unwrap();
    write(again.as_mut(), records_only(numbered(&at, 3..4))).await;
    written.push("3");
    assert_eq!(values(&read_all(harness.log(), &at).await), written);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_whose_line_is_cut_loses_everything_and_comes_back() {
    let harness = KafkaHarness::new().await;
    let topic = kept_topic(&harness, 2).await;
    let client_id = fresh("member");
    let (log, proxy) = proxied(&client_id).await;
    let spec = group_spec(&topic);
    let member = Attended::join_and_own(&log, &spec, 2).await;
    let before = member.handle.owned();
    proxy.cut(&client_id);
    eventually("the loss is told", async || (member.lost().len() == 2).then_some(())).await;
    assert!(member.handle.owned().is_empty());
    let at = TopicPartition::new(topic, 0);
    let mut writer = harness.log().writer(&fresh("writer")).await.unwrap();
    let answer = writer.write(offset_only(&member.handle, &at, 1, Vec::new())).await;
    assert!(matches!(answer, Err(WriteError::Refused)), "{answer:?}");
    proxy.mend(&client_id);
    member.owns(2).await;
    assert!(member.handle.owned().values().min() > before.values().max(), "assigned anew, under new numbers");
    write(writer.as_mut(), offset_only(&member.handle, &at, 2, member.handle.owned().into_iter().collect())).await;
    member.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_stands_still_is_waited_for_and_loses_nothing() {
    const RECORDS: u32 = 3_000;
    let harness = KafkaHarness::new().await;
    let topic = kept_topic(&harness, 1).await;
    let at = TopicPartition::new(topic.clone(), 0);
    harness.log().append(numbered(&at, 0..RECORDS)).await.unwrap();
    let mut spec = group_spec(&topic);
    spec.queue_records_max = 100;
    let mut member = harness.log().join(spec).await.unwrap();
    let handle = member.handle();
    let mut read = Vec::new();
    while read.len() < RECORDS as usize {
        match member.next().await.unwrap() {
            GroupEvent::Assigned(_) => handle.start(0, 0),
            GroupEvent::Records(records) => read.extend(records),
            GroupEvent::Revoked(_) => {
                panic!("a sole member loses nothing")
            }
        }
        if read.len() == 500 || read.len() == 1_000 {
            // The reader's standstill, not a wait for a state.
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    }
    assert_eq!(values(&read), crate::conformance::numbers(0..RECORDS));
    member.leave().await;
}

/// A client that looks up where a topic ends forgets the place it was told meanwhile, and goes on at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_starts_at_once_skips_nothing_that_is_written_meanwhile() {
    const BEFORE: u32 = 10;
    const RECORDS: u32 = 60;
    let harness = KafkaHarness::new().await;
    for _ in 0..5 {
        let topic = kept_topic(&harness, 1).await;
        let at = TopicPartition::new(topic.clone(), 0);
        harness.log().append(numbered(&at, 0..BEFORE)).await.unwrap();
        let mut member = harness.log().join(group_spec(&topic)).await.unwrap();
        let handle = member.handle();
        let writing = async {
            for number in BEFORE..RECORDS {
                harness.log().append(numbered(&at, number..number + 1)).await.unwrap();
                // Spread over more than the client takes to ask again.
                tokio::time::sleep(Duration::from_millis(15)).await;
            }
        };
        let reading = async {
            let mut read = Vec::new();
            while values(&read).last() != Some(&(RECORDS - 1).to_string()) {
                match member.next().await.unwrap() {
                    GroupEvent::Assigned(_) => handle.start(0, 0),
                    GroupEvent::Records(records) => read.extend(records),
                    GroupEvent::Revoked(_) => panic!("a sole member loses nothing"),
                }
            }
            read
        };
        let ((), read) = tokio::time::timeout(ENDS_WITHIN, async { tokio::join!(writing, reading) }).await.unwrap();
        assert_eq!(values(&read), crate::conformance::numbers(0..RECORDS));
        member.leave().await;
    }
}

/// A member that joins again whenever its membership has ended for now, as its owners do, and what it owns at the moment.
fn keep_joined(log: KafkaLog, spec: GroupSpec) -> impl Fn() -> Vec<Partition> {
    let now = Arc::<Mutex<Option<Arc<dyn MemberHandle>>>>::default();
    let tell = Arc::clone(&now);
    tokio::spawn(async move {
        loop {
            let mut member = log.join(spec.clone()).await.unwrap();
            *tell.lock() = Some(member.handle());
            let error = loop {
                // A revocation is dropped at once: there is nothing to drain.
                match member.next().await {
                    Ok(_event) => {}
                    Err(error) => break error,
                }
            };
            assert!(error.is_transient(), "{error}");
            member.leave().await;
        }
    });
    move || now.lock().as_ref().map_or_else(Vec::new, |handle| handle.owned().into_keys().collect())
}

/// The old owner dies between letting go of a partition and joining again, and comes back under its name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_a_group_gave_to_nobody_gets_an_owner() {
    let harness = KafkaHarness::new().await;
    let topic = kept_topic(&harness, 2).await;
    let spec = group_spec(&topic);
    let named = |name: &str| GroupSpec { instance_id: Some(format!("{}-{name}", spec.group)), ..spec.clone() };
    let direct = |name: &str| KafkaLog::new(settings(bootstrap_servers(), name)).unwrap();
    let client_id = fresh("member");
    let (log, proxy) = proxied(&client_id).await;
    let first = Attended::join_and_own(&log, &named("first"), 2).await;
    first.hold_revocations();
    let second = keep_joined(direct("second"), named("second"));
    eventually("a partition is to leave", async || (first.revoked().len() == 1).then_some(())).await;
    proxy.cut(&client_id);
    std::mem::forget(first);
    let again = keep_joined(direct("first"), named("first"));
    eventually("its place is taken again", async || (again().len() == 1).then_some(())).await;
    eventually("the other partition has an owner, too", async || (second().len() == 1).then_some(())).await;
    assert_ne!(again(), second());
}
