//! Claims about transactions and their records.

use bytes::Bytes;
use contact_replicator::log::{Header, NewRecord, TopicPartition, WriteError};

use super::{
    Harness, QUIET, eventually, fresh, kept_topic, numbered, numbers, poll, prepare, read_all, read_for_a_while,
    record, records_only, too_large, values, write,
};

pub(crate) async fn records_arrive_as_they_were_written(harness: &dyn Harness) {
    let log = harness.log();
    let at = TopicPartition::new(kept_topic(harness, 1).await, 0);
    let headers = vec![Header::new("a", &b"1"[..]), Header::new("b", &b"\xff"[..]), Header::new("a", &b""[..])];
    let written = vec![
        NewRecord {
            to: at.clone(),
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"v")),
            headers,
        },
        NewRecord { to: at.clone(), key: Some(Bytes::from_static(b"k")), value: None, headers: Vec::new() },
        NewRecord { to: at.clone(), key: None, value: Some(Bytes::new()), headers: Vec::new() },
    ];
    log.append(written.clone()).await.unwrap();
    write(log.writer(&fresh("writer")).await.unwrap().as_mut(), records_only(written.clone())).await;

    let read = read_all(log, &at).await;
    assert_eq!(read.len(), 6, "three appended, three in a transaction");
    for (read, written) in read.iter().zip(written.iter().chain(&written)) {
        assert!(read.at == at && read.key == written.key && read.value == written.value);
        assert!(read.headers == written.headers, "headers keep their order, also those of one name");
    }
}

pub(crate) async fn a_transaction_appears_in_all_its_partitions(harness: &dyn Harness) {
    let log = harness.log();
    let (one, other) = (kept_topic(harness, 2).await, kept_topic(harness, 1).await);
    let places = [TopicPartition::new(one.clone(), 0), TopicPartition::new(one, 1), TopicPartition::new(other, 0)];
    let records = places.iter().map(|at| record(at, "key", "value")).collect();
    write(log.writer(&fresh("writer")).await.unwrap().as_mut(), records_only(records)).await;
    for at in &places {
        assert_eq!(values(&read_all(log, at).await), ["value"], "{at}");
    }
}

pub(crate) async fn an_empty_transaction_commits(harness: &dyn Harness) {
    let at = TopicPartition::new(kept_topic(harness, 1).await, 0);
    let mut writer = harness.log().writer(&fresh("writer")).await.unwrap();
    write(writer.as_mut(), records_only(Vec::new())).await;
    write(writer.as_mut(), records_only(numbered(&at, 0..1))).await;
    assert_eq!(values(&read_all(harness.log(), &at).await), ["0"]);
}

pub(crate) async fn order_within_a_partition_is_the_order_of_writing(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 2).await;
    let places = [TopicPartition::new(topic.clone(), 0), TopicPartition::new(topic, 1)];
    let mut writer = log.writer(&fresh("writer")).await.unwrap();
    for batch in 0..5 {
        let [first, second] = places.each_ref().map(|at| numbered(at, batch * 20..(batch + 1) * 20));
        let records = first.into_iter().zip(second).flat_map(|(first, second)| [first, second]).collect();
        write(writer.as_mut(), records_only(records)).await;
    }
    for at in &places {
        let records = read_all(log, at).await;
        assert_eq!(values(&records), numbers(0..100), "{at}");
        assert!(records.is_sorted_by(|one, next| one.offset < next.offset), "offsets count up");
    }
}

pub(crate) async fn records_of_an_aborted_transaction_are_invisible(harness: &dyn Harness) {
    let log = harness.log();
    let at = TopicPartition::new(kept_topic(harness, 1).await, 0);
    let mut writer = log.writer(&fresh("writer")).await.unwrap();
    write(writer.as_mut(), records_only(vec![record(&at, "a", "before")])).await;
    // A record that cannot pass takes those that could with it.
    let doomed = vec![record(&at, "a", "aborted"), too_large(&at), record(&at, "b", "aborted")];
    let refused = writer.write(records_only(doomed)).await;
    assert!(matches!(refused, Err(WriteError::TooLarge { .. })), "{refused:?}");
    write(writer.as_mut(), records_only(vec![record(&at, "a", "after")])).await;
    assert_eq!(values(&read_all(log, &at).await), ["before", "after"]);
}

pub(crate) async fn an_open_transaction_holds_back_readers_of_the_partitions_it_touched(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 2).await;
    let (touched, free) = (TopicPartition::new(topic.clone(), 0), TopicPartition::new(topic, 1));
    let mut writer = log.writer(&fresh("writer")).await.unwrap();
    log.append(vec![record(&touched, "a", "before")]).await.unwrap();
    prepare(writer.as_mut(), records_only(vec![record(&touched, "b", "in it")])).await;
    log.append(vec![record(&touched, "c", "behind it"), record(&free, "d", "beside it")]).await.unwrap();

    let high = log.watermarks(&touched).await.unwrap().high;
    assert!(high >= 3, "the high end counts what is open and what lies behind it: {high}");
    let mut follower = log.follower().await.unwrap();
    follower.assign(touched.clone(), 0).await.unwrap();
    follower.assign(free.clone(), 0).await.unwrap();
    let mut seen = Vec::new();
    eventually("what is not held back arrives", async || {
        seen.extend(poll(follower.as_mut(), QUIET).await.unwrap().records);
        (seen.len() >= 2).then_some(())
    })
    .await;
    seen.extend(read_for_a_while(follower.as_mut()).await);
    seen.sort_by_key(|record| record.at.partition);
    assert_eq!(values(&seen), ["before", "beside it"]);

    writer.commit().await.unwrap();
    let mut rest = Vec::new();
    eventually("what was held back arrives", async || {
        rest.extend(poll(follower.as_mut(), QUIET).await.unwrap().records);
        (rest.len() >= 2).then_some(())
    })
    .await;
    assert_eq!(values(&rest), ["in it", "behind it"], "in the order of offsets");
}

pub(crate) async fn a_second_writer_fences_the_first_and_its_open_transaction_never_appears(harness: &dyn Harness) {
    let log = harness.log();
    let at = TopicPartition::new(kept_topic(harness, 1).await, 0);
    let id = fresh("writer");
    let mut first = log.writer(&id).await.unwrap();
    prepare(first.as_mut(), records_only(vec![record(&at, "a", "of the first")])).await;
    let mut second = log.writer(&id).await.unwrap();
    let answer = first.commit().await;
    assert!(matches!(answer, Err(WriteError::Fenced)), "{answer:?}");
    write(second.as_mut(), records_only(vec![record(&at, "a", "of the second")])).await;
    assert_eq!(values(&read_all(log, &at).await), ["of the second"]);
}

pub(crate) async fn a_fenced_writer_can_begin_nothing_more(harness: &dyn Harness) {
    let log = harness.log();
    let at = TopicPartition::new(kept_topic(harness, 1).await, 0);
    let id = fresh("writer");
    let mut first = log.writer(&id).await.unwrap();
    write(first.as_mut(), records_only(numbered(&at, 0..1))).await;
    let mut second = log.writer(&id).await.unwrap();
    assert_eq!(second.transactional_id(), id);
    let answer = first.prepare(records_only(numbered(&at, 1..2))).await;
    assert!(matches!(answer, Err(WriteError::Fenced)), "{answer:?}");
    drop(first);
    write(second.as_mut(), records_only(numbered(&at, 2..3))).await;
    assert_eq!(values(&read_all(log, &at).await), ["0", "2"]);
}

pub(crate) async fn a_dropped_writer_leaves_its_transaction_open_until_its_id_is_opened_again(harness: &dyn Harness) {
    let log = harness.log();
    let at = TopicPartition::new(kept_topic(harness, 1).await, 0);
    let id = fresh("writer");
    let mut writer = log.writer(&id).await.unwrap();
    prepare(writer.as_mut(), records_only(vec![record(&at, "a", "abandoned")])).await;
    drop(writer);
    log.append(vec![record(&at, "b", "behind it")]).await.unwrap();

    let mut follower = log.follower().await.unwrap();
    follower.assign(at.clone(), 0).await.unwrap();
    assert_eq!(values(&read_for_a_while(follower.as_mut()).await), [""; 0], "still open");
    drop(log.writer(&id).await.unwrap());
    assert_eq!(values(&read_all(log, &at).await), ["behind it"]);
}

pub(crate) async fn a_transaction_that_is_never_ended_times_out_and_fences_its_writer(harness: &dyn Harness) {
    let log = harness.log();
    let at = TopicPartition::new(kept_topic(harness, 1).await, 0);
    let mut writer = log.writer(&fresh("writer")).await.unwrap();
    prepare(writer.as_mut(), records_only(vec![record(&at, "a", "too late")])).await;
    log.append(vec![record(&at, "b", "behind it")]).await.unwrap();
    // Nobody opens the id again: only the coordinator's time-out lets readers go on.
    assert_eq!(values(&read_all(log, &at).await), ["behind it"]);
    let answer = writer.commit().await;
    assert!(matches!(answer, Err(WriteError::Fenced)), "{answer:?}");
}

pub(crate) async fn a_record_larger_than_the_topic_takes_is_too_large_and_the_writer_goes_on(harness: &dyn Harness) {
    let log = harness.log();
    let at = TopicPartition::new(kept_topic(harness, 1).await, 0);
    let mut writer = log.writer(&fresh("writer")).await.unwrap();
    match writer.prepare(records_only(vec![too_large(&at)])).await {
        Err(WriteError::TooLarge { to }) => assert_eq!(to, at),
        other => panic!("{other:?}"),
    }
    write(writer.as_mut(), records_only(numbered(&at, 0..1))).await;
    assert_eq!(values(&read_all(log, &at).await), ["0"]);
}

pub(crate) async fn end_offsets_count_markers_and_a_position_reaches_them(harness: &dyn Harness) {
    let log = harness.log();
    let at = TopicPartition::new(kept_topic(harness, 1).await, 0);
    let mut writer = log.writer(&fresh("writer")).await.unwrap();
    write(writer.as_mut(), records_only(numbered(&at, 0..2))).await;
    eventually("two records and their marker are counted", async || {
        (log.watermarks(&at).await.unwrap().high == 3).then_some(())
    })
    .await;
    // `read_all` returns only when the position has reached the high end, behind the marker.
    let records = read_all(log, &at).await;
    assert_eq!(values(&records), numbers(0..2));
    assert_eq!(records.last().unwrap().offset, 1);
}
