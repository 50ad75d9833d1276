//! Partitions that a group has given to nobody.
//!
//! Cooperative assignment takes a partition away in one generation and gives it to its new owner in the next one, which begins
//! when the old owner has let go and joins again (KIP-429). An old owner with a static name may die in between and come back
//! in time: the broker then hands it what that generation left it, and begins no other (KIP-345). It has nothing to
//! let go of, so nobody joins again, and the partition stays without an owner until something else makes the group assign anew,
//! which may be days. Seen on Apache Kafka 4.3.1 with librdkafka 2.12.1.
//!
//! So each static member looks at its group now and then. A gap may be the middle of an assignment, for as long as a member
//! drains; one that stays longer is cured by one member, the first by its id, which leaves and joins again.

use std::{
    collections::BTreeSet,
    sync::{Arc, mpsc},
    time::Duration,
};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use tokio::time::Instant;
use tracing::debug;

use crate::log::Partition;

/// How long the broker may take to say how a group stands.
const QUESTION: Duration = Duration::from_secs(1);
/// The state of a group in which nobody joins.
const STABLE: &str = "Stable";

/// How the group stands, as the broker tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    unowned: BTreeSet<Partition>,
    /// Whether the one who asks is to cure it.
    is_ours: bool,
}

/// Looks at the group of one static member.
pub(super) struct Gaps {
    group: Arc<str>,
    topic: Arc<str>,
    instance_id: String,
    interval: Duration,
    patience: Duration,
    asked: Instant,
    /// Answered by a thread of its own: a broker that is away must not hold up the one who polls.
    answer: Option<mpsc::Receiver<Option<Found>>>,
    since: Option<(Instant, BTreeSet<Partition>)>,
}

impl Gaps {
    /// Looks every half of `session_timeout`. A gap that is there for longer than a session and `drain_deadline` together is none
    /// that closes by itself.
    pub(super) fn new(
        group: Arc<str>,
        topic: Arc<str>,
        instance_id: String,
        session_timeout: Duration,
        drain_deadline: Duration,
        now: Instant,
    ) -> Self {
        let (interval, patience) = (session_timeout / 2, session_timeout + drain_deadline);
        Self { group, topic, instance_id, interval, patience, asked: now, answer: None, since: None }
    }

    /// Asks when it is time, and says which partitions the caller is to cure, if any.
    pub(super) fn look<C: ConsumerContext + 'static>(
        &mut self,
        consumer: &Arc<BaseConsumer<C>>,
        now: Instant,
    ) -> Option<BTreeSet<Partition>> {
        if let Some(answer) = &self.answer {
            match answer.try_recv() {
                Ok(found) => {
                    self.answer = None;
                    return self.judge(found, now);
                }
                Err(mpsc::TryRecvError::Empty) => return None,
                Err(mpsc::TryRecvError::Disconnected) => self.answer = None,
            }
        }
        if now.duration_since(self.asked) >= self.interval {
            self.asked = now;
            self.ask(consumer);
        }
        None
    }

    fn ask<C: ConsumerContext + 'static>(&mut self, consumer: &Arc<BaseConsumer<C>>) {
        let (answered, answer) = mpsc::channel();
        // Weakly: the consumer ends in the thread that polls it.
        let consumer = Arc::downgrade(consumer);
        let (group, topic, instance_id) = (Arc::clone(&self.group), Arc::clone(&self.topic), self.instance_id.clone());
        let asking = std::thread::Builder::new().name("kafka-gaps".to_owned()).spawn(move || {
            let found = consumer.upgrade().and_then(|consumer| find(&consumer, &group, &topic, &instance_id));
            // Whoever asked may have gone.
            let _gone = answered.send(found).is_err();
        });
        match asking {
            Ok(_thread) => self.answer = Some(answer),
            Err(error) => debug!(group = %self.group, %error, "the group cannot be looked at"),
        }
    }

    fn judge(&mut self, found: Option<Found>, now: Instant) -> Option<BTreeSet<Partition>> {
        let Some(Found { unowned, is_ours }) = found.filter(|found| !found.unowned.is_empty()) else {
            self.since = None;
            return None;
        };
        match &self.since {
            Some((since, same)) if *same == unowned => {
                (is_ours && now.duration_since(*since) > self.patience).then_some(unowned)
            }
            _ => {
                self.since = Some((now, unowned));
                None
            }
        }
    }
}

/// `None` when the broker does not say, or the group is not at rest.
fn find<C: ConsumerContext>(consumer: &BaseConsumer<C>, group: &str, topic: &str, instance_id: &str) -> Option<Found> {
    let metadata = consumer.fetch_metadata(Some(topic), QUESTION).ok()?;
    let partitions = metadata.topics().iter().find(|found| found.name() == topic)?.partitions().len();
    let groups = consumer.fetch_group_list(Some(group), QUESTION).ok()?;
    let group = groups.groups().iter().find(|found| found.name() == group && found.state() == STABLE)?;
    let mut unowned: BTreeSet<Partition> = (0..u32::try_from(partitions).ok()?).collect();
    for member in group.members() {
        for partition in assigned(member.assignment()?, topic)? {
            unowned.remove(&partition);
        }
    }
    let first = group.members().iter().map(|member| member.id()).min()?;
    // The broker makes the ids of static members from their names.
    let is_ours = first.strip_prefix(instance_id).is_some_and(|rest| rest.starts_with('-'));
    Some(Found { unowned, is_ours })
}

/// The partitions of a topic in an assignment of the consumer protocol: a version (2 bytes), then for each topic its name and
/// its partitions, each with a count before it (all big-endian; `ConsumerProtocolAssignment.json` of Kafka). `None` for
/// what is not one.
fn assigned(mut assignment: &[u8], topic: &str) -> Option<Vec<Partition>> {
    fn take<'a>(from: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = from.split_at_checked(length)?;
        *from = rest;
        Some(taken)
    }
    fn number(from: &mut &[u8]) -> Option<u32> {
        Some(u32::from_be_bytes(take(from, 4)?.try_into().ok()?))
    }
    let mut partitions = Vec::new();
    // A member that has just joined was assigned nothing yet.
    if assignment.is_empty() {
        return Some(partitions);
    }
    let _version = take(&mut assignment, 2)?;
    for _topic in 0..number(&mut assignment)? {
        let length = u16::from_be_bytes(take(&mut assignment, 2)?.try_into().ok()?);
        let is_asked = take(&mut assignment, usize::from(length))? == topic.as_bytes();
        for _partition in 0..number(&mut assignment)? {
            let partition = number(&mut assignment)?;
            if is_asked {
                partitions.push(partition);
            }
        }
    }
    Some(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(now: Instant) -> Gaps {
        let (session, drain) = (Duration::from_secs(6), Duration::from_secs(4));
        Gaps::new("group".into(), "topic".into(), "name".to_owned(), session, drain, now)
    }

    fn found(unowned: &[Partition], is_ours: bool) -> Option<Found> {
        Some(Found { unowned: unowned.iter().copied().collect(), is_ours })
    }

    #[test]
    fn a_gap_is_cured_once_it_stays_longer_than_a_member_may_drain_and_by_one_member() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let (mut first, mut other) = (gaps(begun), gaps(begun));
        for seconds in 0..=10 {
            assert_eq!(first.judge(found(&[1, 3], true), at(seconds)), None, "after {seconds} s");
            assert_eq!(other.judge(found(&[1, 3], false), at(seconds)), None);
        }
        assert_eq!(first.judge(found(&[1, 3], true), at(11)), Some([1, 3].into()));
        assert_eq!(other.judge(found(&[1, 3], false), at(11)), None);
    }

    #[test]
    fn a_gap_that_closes_or_moves_is_another_one() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        for between in [found(&[], true), found(&[1], true), None] {
            let mut gaps = gaps(begun);
            assert_eq!(gaps.judge(found(&[1, 3], true), at(0)), None);
            assert_eq!(gaps.judge(between, at(9)), None);
            assert_eq!(gaps.judge(found(&[1, 3], true), at(12)), None);
            assert_eq!(gaps.judge(found(&[1, 3], true), at(22)), None);
            assert_eq!(gaps.judge(found(&[1, 3], true), at(23)), Some([1, 3].into()));
        }
    }

    #[test]
    fn an_assignment_is_read_topic_by_topic_and_nothing_is_read_beyond_it() {
        let mut bytes = vec![0, 1, 0, 0, 0, 2];
        for (topic, partitions) in [("a", [7, 8]), ("topic", [0, 5])] {
            bytes.extend(u16::try_from(topic.len()).unwrap().to_be_bytes());
            bytes.extend(topic.as_bytes());
            bytes.extend(2_u32.to_be_bytes());
            bytes.extend(partitions.iter().flat_map(|partition: &u32| partition.to_be_bytes()));
        }
        let whole = bytes.len();
        bytes.extend([255; 4]);
        assert_eq!(assigned(&bytes, "topic"), Some(vec![0, 5]), "user data follows");
        for length in 1..whole {
            assert_eq!(assigned(&bytes[..length], "topic"), None, "cut after {length}");
        }
        assert_eq!(assigned(&[], "topic"), Some(Vec::new()));
    }
}
