//! Claims about groups: who owns what, when, and what is delivered.

use std::collections::{BTreeMap, BTreeSet};

use contact_replicator::log::{GroupSpec, TopicPartition, WriteError};
use tokio::time::Instant;

use super::{
    Attended, Harness, QUIET, eventually, fresh, group_spec, kept_topic, numbered, numbers, offset_only, prepare,
    record, records_only, too_large, values, write,
};

pub(crate) async fn a_sole_member_is_assigned_every_partition(harness: &dyn Harness) {
    let topic = kept_topic(harness, 3).await;
    let spec = group_spec(&topic);
    let member = Attended::join_and_own(harness.log(), &spec, 3).await;
    assert_eq!(member.handle.owned().into_keys().collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(member.handle.group(), &*spec.group);
    assert!(member.revoked().is_empty() && member.lost().is_empty());
    member.leave().await;
}

pub(crate) async fn two_members_share_the_partitions(harness: &dyn Harness) {
    let topic = kept_topic(harness, 4).await;
    let spec = group_spec(&topic);
    let first = Attended::join(harness.log(), &spec).await;
    let second = Attended::join(harness.log(), &spec).await;
    let (of_first, of_second) = eventually("each owns half", async || {
        let [first, second] =
            [&first, &second].map(|member| member.handle.owned().into_keys().collect::<BTreeSet<_>>());
        (first.len() == 2 && second.len() == 2).then_some((first, second))
    })
    .await;
    assert!(of_first.is_disjoint(&of_second));
    first.leave().await;
    second.leave().await;
}

pub(crate) async fn assigned_partitions_deliver_nothing_before_they_are_started(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 2).await;
    let places = [TopicPartition::new(topic.clone(), 0), TopicPartition::new(topic.clone(), 1)];
    for at in &places {
        log.append(numbered(at, 0..2)).await.unwrap();
    }
    let member = Attended::join_and_own(log, &group_spec(&topic), 2).await;
    tokio::time::sleep(QUIET).await;
    assert!(member.records().is_empty(), "nothing was started");
    member.handle.start(1, 0);
    let records = member.reads(2).await;
    assert!(records.iter().all(|record| record.at == places[1]), "the other was not");
    member.leave().await;
}

pub(crate) async fn a_started_partition_delivers_from_its_offset_on(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 1).await;
    let at = TopicPartition::new(topic.clone(), 0);
    log.append(numbered(&at, 0..5)).await.unwrap();
    let member = Attended::join_and_own(log, &group_spec(&topic), 1).await;
    member.handle.start(0, 3);
    assert_eq!(values(&member.reads(2).await), numbers(3..5));
    log.append(numbered(&at, 5..8)).await.unwrap();
    assert_eq!(values(&member.reads(5).await), numbers(3..8));
    member.leave().await;
}

pub(crate) async fn a_paused_partition_is_silent_and_resumes_without_loss(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 2).await;
    let (paused, other) = (TopicPartition::new(topic.clone(), 0), TopicPartition::new(topic.clone(), 1));
    let member = Attended::join_and_own(log, &group_spec(&topic), 2).await;
    member.handle.start(0, 0);
    member.handle.start(1, 0);
    log.append(numbered(&paused, 0..3)).await.unwrap();
    member.reads(3).await;
    member.handle.pause(0);
    // What was on its way when the pause was asked for may still arrive.
    tokio::time::sleep(QUIET).await;
    let before = member.records().len();
    log.append(numbered(&paused, 3..6)).await.unwrap();
    log.append(numbered(&other, 0..1)).await.unwrap();
    member.reads(before + 1).await;
    tokio::time::sleep(QUIET).await;
    let meanwhile = member.records().split_off(before);
    assert!(meanwhile.len() == 1 && meanwhile[0].at == other, "{meanwhile:?}");
    member.handle.resume(0);
    let mut records = member.reads(7).await;
    records.retain(|record| record.at == paused);
    assert_eq!(values(&records), numbers(0..6), "in order, none lost, none twice");
    member.leave().await;
}

pub(crate) async fn a_member_reads_committed_records_only(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 1).await;
    let at = TopicPartition::new(topic.clone(), 0);
    let mut writer = log.writer(&fresh("writer")).await.unwrap();
    let member = Attended::join_and_own(log, &group_spec(&topic), 1).await;
    member.handle.start(0, 0);
    let aborted = writer.write(records_only(vec![record(&at, "a", "aborted"), too_large(&at)])).await;
    assert!(matches!(aborted, Err(WriteError::TooLarge { .. })), "{aborted:?}");
    prepare(writer.as_mut(), records_only(vec![record(&at, "b", "in it")])).await;
    log.append(vec![record(&at, "c", "behind it")]).await.unwrap();
    tokio::time::sleep(QUIET).await;
    assert!(member.records().is_empty(), "held back by the open transaction");
    writer.commit().await.unwrap();
    assert_eq!(values(&member.reads(2).await), ["in it", "behind it"]);
    member.leave().await;
}

pub(crate) async fn a_member_started_below_the_low_end_goes_on_at_it(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 1).await;
    let at = TopicPartition::new(topic.clone(), 0);
    log.append(numbered(&at, 0..5)).await.unwrap();
    harness.expire_before(&at, 3).await;
    eventually("the low end rises", async || (log.watermarks(&at).await.unwrap().low == 3).then_some(())).await;
    let member = Attended::join_and_own(log, &group_spec(&topic), 1).await;
    member.handle.start(0, 1);
    assert_eq!(values(&member.reads(2).await), numbers(3..5));
    member.leave().await;
}

pub(crate) async fn a_revoke_names_only_what_is_lost_and_holds_back_the_next_owner(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 4).await;
    let spec = group_spec(&topic);
    let first = Attended::join_and_own(log, &spec, 4).await;
    let owned = first.handle.owned();
    first.hold_revocations();
    let second = Attended::join(log, &spec).await;
    let leaving = eventually("the first is asked to give up a half", async || {
        let revoked = first.revoked();
        (!revoked.is_empty()).then_some(revoked)
    })
    .await;
    assert_eq!(leaving.len(), 2, "only what moves: {leaving:?}");
    assert_eq!(first.handle.owned(), owned, "still in the map, so that what drains can be committed");
    let at = TopicPartition::new(topic.clone(), leaving[0]);
    let number = owned[&leaving[0]];
    let mut writer = log.writer(&fresh("writer")).await.unwrap();
    write(writer.as_mut(), offset_only(&first.handle, &at, 1, vec![(at.partition, number)])).await;
    tokio::time::sleep(QUIET).await;
    assert!(second.handle.owned().is_empty() && second.assigned().is_empty(), "not before it is acknowledged");
    first.acknowledge();
    let mut arrived = second.owns(2).await;
    let mut leaving = leaving;
    arrived.sort_unstable();
    leaving.sort_unstable();
    assert_eq!(arrived, leaving);
    let stayed: BTreeMap<_, _> = owned.into_iter().filter(|(partition, _)| !leaving.contains(partition)).collect();
    assert_eq!(first.handle.owned(), stayed, "what left is out of the map, and what stayed was not assigned anew");
    let answer = writer.write(offset_only(&first.handle, &at, 2, vec![(at.partition, number)])).await;
    assert!(matches!(answer, Err(WriteError::Refused)), "{answer:?}");
    assert!(first.lost().is_empty());
    first.leave().await;
    second.leave().await;
}

pub(crate) async fn a_revoke_that_is_never_acknowledged_ends_at_the_drain_deadline(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 2).await;
    let spec = group_spec(&topic);
    let first = Attended::join_and_own(log, &spec, 2).await;
    first.hold_revocations();
    let second = Attended::join_and_own(log, &spec, 1).await;
    assert_eq!(first.revoked(), second.owns(1).await);
    first.leave().await;
    second.leave().await;
}

pub(crate) async fn a_leave_moves_partitions_at_once(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 2).await;
    let spec = group_spec(&topic);
    let first = Attended::join_and_own(log, &spec, 2).await;
    let second = Attended::join_and_own(log, &spec, 1).await;
    let begun = Instant::now();
    first.leave().await;
    second.owns(2).await;
    let (took, session) = (begun.elapsed(), second.handle.session_timeout());
    assert!(took < session, "{took:?} is no better than the session time-out of {session:?}");
    assert!(second.revoked().is_empty() && second.lost().is_empty(), "what it had, it kept");
    second.leave().await;
}

pub(crate) async fn a_dead_member_is_fenced_and_its_partitions_move(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 2).await;
    let at = TopicPartition::new(topic.clone(), 0);
    let spec = group_spec(&topic);
    let first = Attended::join_and_own(log, &spec, 2).await;
    let of_the_dead = first.handle.clone();
    let mut writer = log.writer(&fresh("writer")).await.unwrap();
    write(writer.as_mut(), offset_only(&of_the_dead, &at, 1, Vec::new())).await;
    harness.kill(first.take().await).await;

    let second = Attended::join_and_own(log, &spec, 2).await;
    // It relies on nothing, so that the generation alone is judged.
    let mut refused = offset_only(&of_the_dead, &at, 2, Vec::new());
    refused.records = numbered(&at, 0..1);
    let answer = writer.write(refused).await;
    assert!(matches!(answer, Err(WriteError::Refused)), "{answer:?}");
    // The same writer goes on, and nothing of what was refused appears.
    write(writer.as_mut(), records_only(numbered(&at, 1..2))).await;
    assert_eq!(values(&super::read_all(log, &at).await), ["1"]);
    write(writer.as_mut(), offset_only(&second.handle, &at, 3, Vec::new())).await;
    second.leave().await;
}

pub(crate) async fn a_member_that_left_is_fenced(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 1).await;
    let at = TopicPartition::new(topic.clone(), 0);
    let spec = group_spec(&topic);
    let first = Attended::join_and_own(log, &spec, 1).await;
    let of_who_left = first.handle.clone();
    first.leave().await;
    let second = Attended::join_and_own(log, &spec, 1).await;
    let mut writer = log.writer(&fresh("writer")).await.unwrap();
    let answer = writer.write(offset_only(&of_who_left, &at, 1, Vec::new())).await;
    assert!(matches!(answer, Err(WriteError::Refused)), "{answer:?}");
    assert!(of_who_left.owned().is_empty());
    second.leave().await;
}

pub(crate) async fn a_static_member_that_returns_keeps_its_partitions(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 4).await;
    let spec = group_spec(&topic);
    let named = GroupSpec { instance_id: Some(fresh("instance")), ..spec.clone() };
    let first = Attended::join_and_own(log, &named, 4).await;
    let other = Attended::join_and_own(log, &spec, 2).await;
    let before = first.owns(2).await;
    harness.kill(first.take().await).await;
    let returned = Attended::join_and_own(log, &named, 2).await;
    assert_eq!(returned.owns(2).await, before);
    assert!(other.revoked().is_empty() && other.lost().is_empty(), "nobody else noticed");
    assert_eq!(other.assigned().len(), 2);
    other.leave().await;
    returned.leave().await;
}

pub(crate) async fn a_static_member_that_resigns_leaves_at_once(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 4).await;
    let spec = group_spec(&topic);
    let named = GroupSpec { instance_id: Some(fresh("instance")), ..spec.clone() };
    let first = Attended::join_and_own(log, &named, 4).await;
    let other = Attended::join_and_own(log, &spec, 2).await;
    let session = other.handle.session_timeout();
    let begun = Instant::now();
    first.resign().await;
    other.owns(4).await;
    assert!(begun.elapsed() < session, "nobody waits for the end of its session");
    let returned = Attended::join_and_own(log, &named, 2).await;
    returned.resign().await;
    other.owns(4).await;
    other.leave().await;
}

pub(crate) async fn assignment_numbers_count_up(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 2).await;
    let spec = group_spec(&topic);
    let first = Attended::join_and_own(log, &spec, 2).await;
    let before = first.handle.owned();
    let second = Attended::join_and_own(log, &spec, 1).await;
    let moved = second.owns(1).await[0];
    second.leave().await;
    first.owns(2).await;
    let after = first.handle.owned();
    assert!(after[&moved] > *before.values().max().unwrap(), "what went and came back has a new number");
    let stayed = 1 - moved;
    assert_eq!(after[&stayed], before[&stayed], "what stayed has the old one");
    first.leave().await;
}

pub(crate) async fn an_owner_can_prove_what_it_owns(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 1).await;
    let spec = group_spec(&topic);
    let first = Attended::join_and_own(log, &spec, 1).await;
    let second = Attended::join(log, &spec).await;
    eventually("the owner proves it", async || first.handle.prove(0).await.unwrap().then_some(())).await;
    assert!(!second.handle.prove(0).await.unwrap(), "the other does not own it");
    assert_eq!(first.owns(1).await, [0], "a newcomer does not move a single partition");
    let of_the_first = first.handle.clone();
    first.leave().await;
    second.owns(1).await;
    eventually("the new owner proves it", async || second.handle.prove(0).await.unwrap().then_some(())).await;
    assert!(!of_the_first.prove(0).await.is_ok_and(|proved| proved), "who left proves nothing");
    second.leave().await;
}

pub(crate) async fn a_live_member_is_confirmed_within_the_session(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 1).await;
    let member = Attended::join_and_own(log, &group_spec(&topic), 1).await;
    let session = member.handle.session_timeout();
    let until = Instant::now() + session + QUIET;
    while Instant::now() < until {
        let age = member.handle.confirmed_age();
        assert!(age < session, "{age:?} of {session:?}");
        tokio::time::sleep(QUIET / 4).await;
    }
    assert!(member.lost().is_empty());
    member.leave().await;
}
