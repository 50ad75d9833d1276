//! Claims about followers and the ends of partitions.

use std::time::Duration;

use contact_replicator::log::{Cleanup, LogError, TopicPartition};
use jiff::SignedDuration;
use tokio::time::Instant;

use super::{Harness, QUIET, eventually, kept_topic, numbered, numbers, poll, read_all, read_for_a_while, values};

pub(crate) async fn an_empty_partition_has_equal_ends_and_nothing_to_read(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 2).await;
    let (empty, other) = (TopicPartition::new(topic.clone(), 0), TopicPartition::new(topic, 1));
    log.append(numbered(&other, 0..1)).await.unwrap();
    let ends = log.watermarks(&empty).await.unwrap();
    assert_eq!((ends.low, ends.high), (0, 0));
    let mut follower = log.follower().await.unwrap();
    follower.assign(empty.clone(), 0).await.unwrap();
    assert_eq!(values(&read_for_a_while(follower.as_mut()).await), [""; 0]);
    // It is followed all the same.
    log.append(numbered(&empty, 0..1)).await.unwrap();
    eventually("the first record arrives", async || {
        let progress = poll(follower.as_mut(), QUIET).await.unwrap();
        progress.positions.contains(&(empty.clone(), 1)).then_some(())
    })
    .await;
}

pub(crate) async fn a_follower_assigned_anew_reads_anew(harness: &dyn Harness) {
    let log = harness.log();
    let at = TopicPartition::new(kept_topic(harness, 1).await, 0);
    log.append(numbered(&at, 0..5)).await.unwrap();
    let mut follower = log.follower().await.unwrap();
    for (from, expected) in [(0, numbers(0..5)), (2, numbers(2..5)), (0, numbers(0..5))] {
        follower.assign(at.clone(), from).await.unwrap();
        let mut seen = Vec::new();
        eventually("the records arrive", async || {
            seen.extend(poll(follower.as_mut(), QUIET).await.unwrap().records);
            (seen.len() >= expected.len()).then_some(())
        })
        .await;
        assert_eq!(values(&seen), expected, "from {from}");
    }
}

pub(crate) async fn an_unassigned_partition_delivers_nothing_more(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 2).await;
    let (gone, kept) = (TopicPartition::new(topic.clone(), 0), TopicPartition::new(topic, 1));
    let mut follower = log.follower().await.unwrap();
    follower.assign(gone.clone(), 0).await.unwrap();
    follower.assign(kept.clone(), 0).await.unwrap();
    log.append(numbered(&gone, 0..1).into_iter().chain(numbered(&kept, 0..1)).collect()).await.unwrap();
    let mut seen = Vec::new();
    eventually("both arrive", async || {
        seen.extend(poll(follower.as_mut(), QUIET).await.unwrap().records);
        (seen.len() == 2).then_some(())
    })
    .await;
    follower.unassign(&gone).await.unwrap();
    log.append(numbered(&gone, 1..2).into_iter().chain(numbered(&kept, 1..2)).collect()).await.unwrap();
    let rest = read_for_a_while(follower.as_mut()).await;
    assert!(rest.len() == 1 && rest[0].at == kept, "{rest:?}");
}

pub(crate) async fn small_polls_lose_and_repeat_nothing(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 2).await;
    let places = [TopicPartition::new(topic.clone(), 0), TopicPartition::new(topic, 1)];
    let mut follower = log.follower().await.unwrap();
    for at in &places {
        log.append(numbered(at, 0..50)).await.unwrap();
        follower.assign(at.clone(), 0).await.unwrap();
    }
    let mut seen = Vec::new();
    eventually("all arrive", async || {
        seen.extend(follower.poll(3, Duration::from_millis(100)).await.unwrap().records);
        (seen.len() >= 100).then_some(())
    })
    .await;
    for at in &places {
        let here: Vec<_> = seen.iter().filter(|record| record.at == *at).cloned().collect();
        assert_eq!(values(&here), numbers(0..50), "{at}");
    }
}

pub(crate) async fn an_offset_below_the_low_end_is_out_of_range_once_and_other_partitions_go_on(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 2).await;
    let (cut, whole) = (TopicPartition::new(topic.clone(), 0), TopicPartition::new(topic, 1));
    log.append(numbered(&cut, 0..5).into_iter().chain(numbered(&whole, 0..5)).collect()).await.unwrap();
    harness.expire_before(&cut, 3).await;
    eventually("the low end rises", async || (log.watermarks(&cut).await.unwrap().low == 3).then_some(())).await;

    let mut follower = log.follower().await.unwrap();
    follower.assign(cut.clone(), 1).await.unwrap();
    follower.assign(whole.clone(), 0).await.unwrap();
    let (mut complaints, mut seen) = (Vec::new(), Vec::new());
    eventually("it is said, and the other partition goes on", async || {
        match poll(follower.as_mut(), QUIET).await {
            Ok(progress) => seen.extend(progress.records),
            Err(LogError::OutOfRange { at, offset }) => complaints.push((at, offset)),
            Err(error) => panic!("{error}"),
        }
        (!complaints.is_empty() && seen.len() >= 5).then_some(())
    })
    .await;
    // `read_for_a_while` fails at a second complaint.
    seen.extend(read_for_a_while(follower.as_mut()).await);
    assert_eq!(complaints, [(cut.clone(), 1)]);
    assert!(seen.iter().all(|record| record.at == whole));
    assert_eq!(values(&seen), numbers(0..5));
    assert_eq!(values(&read_all(log, &cut).await), numbers(3..5), "what retention left is readable");
}

pub(crate) async fn an_offset_that_was_never_written_is_out_of_range(harness: &dyn Harness) {
    let log = harness.log();
    let at = TopicPartition::new(kept_topic(harness, 1).await, 0);
    log.append(numbered(&at, 0..1)).await.unwrap();
    let mut follower = log.follower().await.unwrap();
    follower.assign(at.clone(), 1_000).await.unwrap();
    let complaint = eventually("it is said", async || poll(follower.as_mut(), QUIET).await.err()).await;
    assert!(matches!(&complaint, LogError::OutOfRange { at: said, offset: 1_000 } if *said == at), "{complaint}");
}

pub(crate) async fn an_offset_is_found_by_its_time(harness: &dyn Harness) {
    let log = harness.log();
    let at = TopicPartition::new(kept_topic(harness, 1).await, 0);
    for number in 0..4 {
        log.append(numbered(&at, number..number + 1)).await.unwrap();
        // Not to wait for anything: the records must differ in time.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let records = read_all(log, &at).await;
    assert!(records.is_sorted_by(|one, next| one.timestamp < next.timestamp), "times count up");
    for record in &records {
        assert_eq!(log.offset_at(&at, record.timestamp).await.unwrap(), record.offset, "its own time");
        let before = record.timestamp - SignedDuration::from_millis(1);
        assert_eq!(log.offset_at(&at, before).await.unwrap(), record.offset, "a moment before");
    }
    let later = records[3].timestamp + SignedDuration::from_hours(1);
    assert_eq!(log.offset_at(&at, later).await.unwrap(), log.watermarks(&at).await.unwrap().high, "none: the end");
}

pub(crate) async fn retention_takes_the_old_and_leaves_the_young_and_their_numbers(harness: &dyn Harness) {
    /// Long enough for the young to be seen young, on a machine that has much to do.
    const KEPT: Duration = Duration::from_secs(6);
    let log = harness.log();
    let at = TopicPartition::new(harness.fresh_topic(1, Cleanup::Delete { after: KEPT }).await, 0);
    let first = Instant::now();
    log.append(numbered(&at, 0..3)).await.unwrap();
    // Not to wait for anything: the two must differ in age.
    tokio::time::sleep(KEPT / 2).await;
    let second = Instant::now();
    log.append(numbered(&at, 3..5)).await.unwrap();
    // Looks at the low end, which may be where it is only if what lies below is old enough.
    let low = async || {
        harness.expire().await;
        let low = log.watermarks(&at).await.unwrap().low;
        let oldest_young = if first.elapsed() < KEPT {
            0
        } else if second.elapsed() < KEPT {
            3
        } else {
            5
        };
        assert!(low <= oldest_young, "the low end is {low}, and {oldest_young} is young");
        low
    };
    eventually("the old go", async || (low().await >= 3).then_some(())).await;
    eventually("all go", async || (low().await == 5).then_some(())).await;
    log.append(numbered(&at, 5..6)).await.unwrap();
    let read = read_all(log, &at).await;
    assert_eq!((values(&read), read[0].offset), (numbers(5..6), 5), "numbers go on");
}
