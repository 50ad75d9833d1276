//! Claims about the offsets of a group: who may commit them, and when they are answered.

use std::sync::Arc;

use contact_replicator::log::{CommittedOffset, Isolation, Log, LogError, Offset, TopicPartition, WriteError};

use super::{
    Attended, Harness, eventually, fresh, group_spec, kept_topic, numbered, offset_only, prepare, read_all,
    records_only, values, write,
};

/// The committed offset, once no transaction holds it.
async fn stable(log: &dyn Log, group: &str, at: &TopicPartition) -> Option<CommittedOffset> {
    eventually("the offset is stable", async || match log.committed(group, at, Isolation::ReadCommitted).await {
        Ok(offset) => Some(offset),
        Err(LogError::Unstable { at: said }) => {
            assert_eq!(said, *at);
            None
        }
        Err(error) => panic!("{error}"),
    })
    .await
}

/// What [`offset_only`] commits.
fn committed(offset: Offset) -> Option<CommittedOffset> {
    Some(CommittedOffset { offset, metadata: format!("at {offset}") })
}

pub(crate) async fn a_group_that_committed_nothing_has_no_offset(harness: &dyn Harness) {
    let at = TopicPartition::new(kept_topic(harness, 1).await, 0);
    let group = fresh("group");
    for isolation in [Isolation::ReadCommitted, Isolation::ReadUncommitted] {
        assert_eq!(harness.log().committed(&group, &at, isolation).await.unwrap(), None);
    }
}

pub(crate) async fn an_offset_and_its_metadata_survive(harness: &dyn Harness) {
    let log = harness.log();
    let (topic, other) = (kept_topic(harness, 2).await, kept_topic(harness, 1).await);
    let spec = group_spec(&topic);
    let member = Attended::join_and_own(log, &spec, 2).await;
    let mut writer = log.writer(&fresh("writer")).await.unwrap();
    let at = TopicPartition::new(topic.clone(), 0);
    // A group may hold offsets of a topic that it does not share out.
    let elsewhere = TopicPartition::new(other, 0);
    let mut transaction = offset_only(&member.handle, &at, 7, Vec::new());
    let offsets = transaction.offsets.as_mut().unwrap();
    offsets.relies_on = member.handle.owned().into_iter().collect();
    offsets.commits[0].metadata = "worker-1 released; ünïcode".to_owned();
    offsets.commits.extend(offset_only(&member.handle, &elsewhere, 4, Vec::new()).offsets.unwrap().commits);
    write(writer.as_mut(), transaction).await;
    let expected = CommittedOffset { offset: 7, metadata: "worker-1 released; ünïcode".to_owned() };
    assert_eq!(stable(log, &spec.group, &at).await, Some(expected.clone()));
    assert_eq!(stable(log, &spec.group, &elsewhere).await, committed(4));
    assert_eq!(stable(log, &spec.group, &TopicPartition::new(topic, 1)).await, None, "never committed");
    let uncommitted = log.committed(&spec.group, &at, Isolation::ReadUncommitted).await.unwrap();
    assert_eq!(uncommitted, Some(expected), "the metadata names the writer to whoever must fence it");
    member.leave().await;
}

pub(crate) async fn offsets_and_records_of_a_transaction_appear_together(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 1).await;
    let at = TopicPartition::new(topic.clone(), 0);
    let spec = group_spec(&topic);
    let member = Attended::join_and_own(log, &spec, 1).await;
    let mut writer = log.writer(&fresh("writer")).await.unwrap();
    let mut transaction = offset_only(&member.handle, &at, 1, Vec::new());
    transaction.records = numbered(&at, 0..1);
    write(writer.as_mut(), transaction).await;
    assert_eq!(stable(log, &spec.group, &at).await, committed(1));
    assert_eq!(values(&read_all(log, &at).await), ["0"]);
    member.leave().await;
}

pub(crate) async fn an_offset_is_unstable_while_a_transaction_holds_it(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 2).await;
    let (held, free) = (TopicPartition::new(topic.clone(), 0), TopicPartition::new(topic.clone(), 1));
    let spec = group_spec(&topic);
    let member = Attended::join_and_own(log, &spec, 2).await;
    let mut writer = log.writer(&fresh("writer")).await.unwrap();
    for at in [&held, &free] {
        write(writer.as_mut(), offset_only(&member.handle, at, 1, Vec::new())).await;
        assert_eq!(stable(log, &spec.group, at).await, committed(1));
    }
    prepare(writer.as_mut(), offset_only(&member.handle, &held, 2, Vec::new())).await;
    let answer = log.committed(&spec.group, &held, Isolation::ReadCommitted).await;
    assert!(matches!(&answer, Err(LogError::Unstable { at }) if *at == held), "{answer:?}");
    let before = log.committed(&spec.group, &held, Isolation::ReadUncommitted).await.unwrap();
    assert_eq!(before, committed(1), "what was committed last, not what is open");
    assert_eq!(stable(log, &spec.group, &free).await, committed(1), "one partition does not hold another");
    writer.commit().await.unwrap();
    assert_eq!(stable(log, &spec.group, &held).await, committed(2));
    member.leave().await;
}

pub(crate) async fn an_offset_of_a_fenced_transaction_never_appears(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 1).await;
    let at = TopicPartition::new(topic.clone(), 0);
    let spec = group_spec(&topic);
    let member = Attended::join_and_own(log, &spec, 1).await;
    let id = fresh("writer");
    let mut writer = log.writer(&id).await.unwrap();
    write(writer.as_mut(), offset_only(&member.handle, &at, 1, Vec::new())).await;
    prepare(writer.as_mut(), offset_only(&member.handle, &at, 2, Vec::new())).await;
    drop(log.writer(&id).await.unwrap());
    assert_eq!(stable(log, &spec.group, &at).await, committed(1));
    let answer = writer.commit().await;
    assert!(matches!(answer, Err(WriteError::Fenced)), "{answer:?}");
    assert_eq!(stable(log, &spec.group, &at).await, committed(1));
    member.leave().await;
}

/// Two members, and a partition that went from the first to the second.
struct Moved {
    group: Arc<str>,
    first: Attended,
    second: Attended,
    at: TopicPartition,
    /// The number under which the first owned it.
    number: u64,
}

impl Moved {
    async fn new(harness: &dyn Harness) -> Self {
        let topic = kept_topic(harness, 2).await;
        let spec = group_spec(&topic);
        let first = Attended::join_and_own(harness.log(), &spec, 2).await;
        let numbers = first.handle.owned();
        let second = Attended::join_and_own(harness.log(), &spec, 1).await;
        let partition = second.owns(1).await[0];
        Self {
            group: spec.group,
            first,
            second,
            at: TopicPartition::new(topic, partition),
            number: numbers[&partition],
        }
    }

    async fn leave(self) {
        self.first.leave().await;
        self.second.leave().await;
    }
}

pub(crate) async fn a_live_member_that_lost_a_partition_is_not_fenced_by_the_log(harness: &dyn Harness) {
    let log = harness.log();
    let moved = Moved::new(harness).await;
    let mut writer = log.writer(&fresh("writer")).await.unwrap();
    write(writer.as_mut(), offset_only(&moved.first.handle, &moved.at, 5, Vec::new())).await;
    assert_eq!(stable(log, &moved.group, &moved.at).await, committed(5));
    moved.leave().await;
}

pub(crate) async fn an_assignment_that_is_gone_is_refused_and_the_writer_goes_on(harness: &dyn Harness) {
    let log = harness.log();
    let moved = Moved::new(harness).await;
    let mut writer = log.writer(&fresh("writer")).await.unwrap();
    let mut relying = offset_only(&moved.first.handle, &moved.at, 5, vec![(moved.at.partition, moved.number)]);
    relying.records = numbered(&moved.at, 0..1);
    let answer = writer.write(relying).await;
    assert!(matches!(answer, Err(WriteError::Refused)), "{answer:?}");
    assert_eq!(stable(log, &moved.group, &moved.at).await, None);
    write(writer.as_mut(), records_only(numbered(&moved.at, 1..2))).await;
    assert_eq!(values(&read_all(log, &moved.at).await), ["1"], "nothing of what was refused appears");
    moved.leave().await;
}

pub(crate) async fn an_older_assignment_of_an_owned_partition_is_refused(harness: &dyn Harness) {
    let log = harness.log();
    let Moved { group, first, second, at, number } = Moved::new(harness).await;
    second.leave().await;
    first.owns(2).await;
    let mut writer = log.writer(&fresh("writer")).await.unwrap();
    let answer = writer.write(offset_only(&first.handle, &at, 5, vec![(at.partition, number)])).await;
    assert!(matches!(answer, Err(WriteError::Refused)), "{answer:?}");
    let current = first.handle.owned()[&at.partition];
    write(writer.as_mut(), offset_only(&first.handle, &at, 6, vec![(at.partition, current)])).await;
    assert_eq!(stable(log, &group, &at).await, committed(6));
    first.leave().await;
}

pub(crate) async fn offsets_sent_before_a_rebalance_can_be_committed_after_it(harness: &dyn Harness) {
    let log = harness.log();
    let topic = kept_topic(harness, 1).await;
    let at = TopicPartition::new(topic.clone(), 0);
    let spec = group_spec(&topic);
    let first = Attended::join_and_own(log, &spec, 1).await;
    let number = first.handle.owned()[&0];
    let mut writer = log.writer(&fresh("writer")).await.unwrap();
    prepare(writer.as_mut(), offset_only(&first.handle, &at, 1, vec![(0, number)])).await;
    first.leave().await;
    let second = Attended::join_and_own(log, &spec, 1).await;
    // This is what a new owner must wait for before it reads its position.
    let answer = log.committed(&spec.group, &at, Isolation::ReadCommitted).await;
    assert!(matches!(answer, Err(LogError::Unstable { .. })), "{answer:?}");
    writer.commit().await.unwrap();
    assert_eq!(stable(log, &spec.group, &at).await, committed(1));
    second.leave().await;
}
