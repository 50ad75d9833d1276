//! What a member of a group knows: what it owns, what may flow, and what it has yet to be told.
//!
//! Three parties meet here: the poll thread, whose callbacks assign and revoke; the member's reader, who takes events;
//! and its handles, which start and pause partitions from any task. They share this state under one lock, so that a
//! partition that was revoked or started anew cannot deliver a record that was polled before.
//!
//! Invariants:
//! - Records are taken in only for partitions that flow: started, and sought to where they were started.
//! - A partition is in the map from the moment of its assignment until its revocation was acknowledged or given up, so
//!   that what drains can still be committed, and never longer. A membership that is lost empties the map at once.
//! - Records not yet taken are bounded: at the bound the thread hardly polls, at twice the bound partitions stop.
//!
//! No I/O and no clock: instants are arguments.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use crate::log::{AssignmentNumber, GroupEvent, LogError, Offset, Partition, Record, Revocation};

/// A partition that is ours.
#[derive(Debug)]
struct Lane {
    number: AssignmentNumber,
    /// Counts the starts, so that a seek for an older one is not taken for the newest.
    start: u64,
    /// The next offset to deliver; `None` before the first start.
    next: Option<Offset>,
    paused: bool,
    /// Sought to `next` and resumed for the newest start: what is polled is what is meant.
    flows: bool,
    /// The client would deliver it, meant or not.
    resumed: bool,
}

/// What the poll thread has to do to make the client deliver what is wanted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Seek { partition: Partition, offset: Offset, start: u64 },
    Stop { partition: Partition },
}

/// Whether more records can be taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    Ample,
    /// Poll just enough for rebalances, which librdkafka puts before records.
    Full,
}

/// Why a membership ended.
#[derive(Debug, Clone)]
pub(super) enum Ended {
    /// Joining again may help.
    ForNow(String),
    ForGood(String),
}

impl Ended {
    fn error(&self) -> LogError {
        match self {
            Self::ForNow(reason) => LogError::Unavailable { doing: "belonging to a group", reason: reason.clone() },
            Self::ForGood(reason) => LogError::Unusable { reason: reason.clone() },
        }
    }
}

pub(super) struct Membership {
    lanes: BTreeMap<Partition, Lane>,
    numbers: AssignmentNumber,
    starts: u64,
    events: VecDeque<GroupEvent>,
    /// Records among `events`.
    records: usize,
    records_max: usize,
    /// The reader is so far behind that partitions are stopped.
    brimming: bool,
    /// An assignment stands, be it empty. Without one the generation means nothing, and a broker would take any offset.
    joined: bool,
    errors: VecDeque<LogError>,
    /// Why the membership ended; told for ever after.
    ended: Option<Ended>,
    pulse: Pulse,
}

impl Membership {
    pub(super) fn new(records_max: usize, session_timeout: Duration, now: Instant) -> Self {
        Self {
            lanes: BTreeMap::new(),
            numbers: 0,
            starts: 0,
            events: VecDeque::new(),
            records: 0,
            records_max: records_max.max(1),
            brimming: false,
            joined: false,
            errors: VecDeque::new(),
            ended: None,
            pulse: Pulse::new(session_timeout, now),
        }
    }

    /// Takes in an assignment of more partitions, perhaps of none.
    pub(super) fn assigned(&mut self, partitions: &[Partition], now: Instant) {
        self.joined = true;
        self.pulse.assigned(now);
        self.go_on();
        let assigned: Vec<_> = partitions
            .iter()
            .map(|partition| {
                self.numbers += 1;
                let lane =
                    Lane { number: self.numbers, start: 0, next: None, paused: false, flows: false, resumed: false };
                self.lanes.insert(*partition, lane);
                (*partition, self.numbers)
            })
            .collect();
        if !assigned.is_empty() {
            self.events.push_back(GroupEvent::Assigned(assigned));
        }
    }

    /// Tells the reader that partitions leave. The answer comes when it let go of them.
    pub(super) fn revoking(&mut self, partitions: &[Partition], lost: bool) -> oneshot::Receiver<()> {
        let (done, acknowledged) = oneshot::channel();
        let leaving: BTreeSet<Partition> = partitions.iter().copied().collect();
        self.forget_records(&leaving);
        for partition in partitions {
            if let Some(lane) = self.lanes.get_mut(partition) {
                lane.flows = false;
            }
        }
        if lost {
            self.joined = false;
            self.released(partitions);
        }
        let event = GroupEvent::Revoked(Revocation { partitions: partitions.to_vec(), lost, done });
        // Before the records that wait, which are of other partitions, but behind what was told of these.
        let place =
            self.events.iter().rposition(|event| !matches!(event, GroupEvent::Records(_))).map_or(0, |last| last + 1);
        self.events.insert(place, event);
        acknowledged
    }

    /// The partitions are gone.
    pub(super) fn released(&mut self, partitions: &[Partition]) {
        self.lanes.retain(|partition, _| !partitions.contains(partition));
        self.go_on();
    }

    /// Has what stays ours sought to where it is. For each change of the assignment the client pauses all partitions and
    /// resumes them behind it, without waking the thread that fetches: left to itself that may sleep for a second more.
    /// A seek wakes it.
    fn go_on(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.flows = false;
        }
    }

    /// The membership is over by our own will.
    pub(super) fn left(&mut self) {
        self.joined = false;
        self.lanes.clear();
        self.ended.get_or_insert_with(|| Ended::ForGood("the member has left its group".to_owned()));
    }

    /// The membership cannot go on.
    pub(super) fn end(&mut self, ended: Ended) {
        self.joined = false;
        self.lanes.clear();
        self.ended.get_or_insert(ended);
    }

    /// Something the reader should know; the membership goes on.
    pub(super) fn report(&mut self, error: LogError) {
        /// A reader that takes nothing is told the newest few.
        const ERRORS_MAX: usize = 16;
        if self.errors.len() < ERRORS_MAX {
            self.errors.push_back(error);
        }
    }

    pub(super) fn is_joined(&self) -> bool {
        self.joined
    }

    pub(super) fn owned(&self) -> BTreeMap<Partition, AssignmentNumber> {
        self.lanes.iter().map(|(partition, lane)| (*partition, lane.number)).collect()
    }

    pub(super) fn owns(&self, partition: Partition) -> bool {
        self.lanes.contains_key(&partition)
    }

    pub(super) fn start(&mut self, partition: Partition, offset: Offset) {
        if !self.lanes.contains_key(&partition) {
            return;
        }
        self.forget_records(&BTreeSet::from([partition]));
        self.starts += 1;
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.start = self.starts;
            lane.next = Some(offset);
            lane.paused = false;
            lane.flows = false;
        }
    }

    pub(super) fn pause(&mut self, partition: Partition, paused: bool) {
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.paused = paused;
        }
    }

    /// What differs between what is wanted and what the client does.
    pub(super) fn steps(&self) -> Vec<Step> {
        self.lanes
            .iter()
            .filter_map(|(partition, lane)| {
                let partition = *partition;
                match lane.next.filter(|_| !lane.paused && !self.brimming) {
                    Some(offset) if !lane.flows => Some(Step::Seek { partition, offset, start: lane.start }),
                    None if lane.resumed => Some(Step::Stop { partition }),
                    _ => None,
                }
            })
            .collect()
    }

    /// The client delivers from where the given start asked for.
    pub(super) fn sought(&mut self, partition: Partition, start: u64) {
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.resumed = true;
            lane.flows = lane.start == start;
        }
    }

    /// The client no longer delivers. Going on begins with a seek: what it had fetched is gone.
    pub(super) fn stopped(&mut self, partition: Partition) {
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.resumed = false;
            lane.flows = false;
        }
    }

    /// Takes in what was polled, but for partitions that no longer flow.
    pub(super) fn deliver(&mut self, mut records: Vec<Record>) {
        records.retain(|record| {
            let Some(lane) = self.lanes.get_mut(&record.at.partition).filter(|lane| lane.flows) else {
                return false;
            };
            // Where retention passed the place it was started at, the client looks up the new beginning, and may do so
            // once more after it was sought further: what comes again is known already.
            if lane.next.is_some_and(|next| record.offset < next) {
                return false;
            }
            lane.next = Some(record.offset + 1);
            true
        });
        if records.is_empty() {
            return;
        }
        self.records += records.len();
        self.brimming |= self.records >= 2 * self.records_max;
        self.events.push_back(GroupEvent::Records(records));
    }

    pub(super) fn room(&self) -> Room {
        if self.records >= self.records_max { Room::Full } else { Room::Ample }
    }

    /// The next thing to tell the reader.
    pub(super) fn take(&mut self) -> Option<Result<GroupEvent, LogError>> {
        if let Some(error) = self.errors.pop_front() {
            return Some(Err(error));
        }
        if let Some(event) = self.events.pop_front() {
            if let GroupEvent::Records(records) = &event {
                self.uncount(records.len());
            }
            return Some(Ok(event));
        }
        self.ended.as_ref().map(|ended| Err(ended.error()))
    }

    pub(super) fn pulse(&mut self) -> &mut Pulse {
        &mut self.pulse
    }

    fn uncount(&mut self, records: usize) {
        self.records -= records;
        if self.records <= self.records_max / 2 {
            self.brimming = false;
        }
    }

    fn forget_records(&mut self, partitions: &BTreeSet<Partition>) {
        let mut forgotten = 0;
        self.events.retain_mut(|event| {
            let GroupEvent::Records(records) = event else {
                return true;
            };
            let before = records.len();
            records.retain(|record| !partitions.contains(&record.at.partition));
            forgotten += before - records.len();
            !records.is_empty()
        });
        self.uncount(forgotten);
    }
}

/// When the membership was last known to be alive.
///
/// The client sends its heartbeats from a thread of its own, so while this process runs, the membership lives or the
/// poll thread is told that it does not. After a pause of the whole process nothing is known: the broker may have
/// expelled us, and the news is still on its way. Then only what the broker said after the pause counts.
#[derive(Debug)]
pub(super) struct Pulse {
    gap_max: Duration,
    ticked: Instant,
    confirmed: Instant,
    /// When the last pause was noticed, until the broker has spoken.
    frozen: Option<Instant>,
}

impl Pulse {
    fn new(session_timeout: Duration, now: Instant) -> Self {
        Self { gap_max: session_timeout / 2, ticked: now, confirmed: now, frozen: None }
    }

    /// The poll thread is alive.
    pub(super) fn tick(&mut self, now: Instant) {
        if now.duration_since(self.ticked) > self.gap_max {
            self.frozen = Some(now);
        }
        self.ticked = now;
        if self.frozen.is_none() {
            self.confirmed = now;
        }
    }

    /// The broker answered, and we heard it at `now`, that it knew us at `since` or later.
    pub(super) fn confirm(&mut self, since: Instant, now: Instant) {
        self.tick(now);
        self.confirmed = self.confirmed.max(since);
        if self.frozen.is_some_and(|noticed| noticed <= since) {
            self.frozen = None;
        }
    }

    /// An assignment arrived. One that comes soon after a pause may have been on its way before it.
    fn assigned(&mut self, now: Instant) {
        self.tick(now);
        let soon = |noticed| now.duration_since(noticed) <= self.gap_max;
        if !self.frozen.is_some_and(soon) {
            self.frozen = None;
            self.confirmed = now;
        }
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.duration_since(self.confirmed)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::log::TopicPartition;

    const SESSION: Duration = Duration::from_secs(6);

    fn record(partition: Partition, offset: Offset) -> Record {
        let at = TopicPartition::new("t", partition);
        Record { at, offset, timestamp: Timestamp::UNIX_EPOCH, key: None, value: None, headers: Vec::new() }
    }

    fn member(partitions: &[Partition], records_max: usize) -> Membership {
        let mut membership = Membership::new(records_max, SESSION, Instant::now());
        membership.assigned(partitions, Instant::now());
        if !partitions.is_empty() {
            assert!(matches!(membership.take(), Some(Ok(GroupEvent::Assigned(_)))));
        }
        membership
    }

    /// Does what the poll thread would.
    fn follow(membership: &mut Membership) {
        for step in membership.steps() {
            match step {
                Step::Seek { partition, start, .. } => membership.sought(partition, start),
                Step::Stop { partition } => membership.stopped(partition),
            }
        }
    }

    fn offsets(membership: &mut Membership) -> Vec<(Partition, Offset)> {
        std::iter::from_fn(|| membership.take())
            .filter_map(|event| match event {
                Ok(GroupEvent::Records(records)) => Some(records),
                _ => None,
            })
            .flatten()
            .map(|record| (record.at.partition, record.offset))
            .collect()
    }

    #[test]
    fn what_the_client_brings_once_more_is_delivered_once() {
        let mut membership = member(&[0], 100);
        membership.start(0, 5);
        follow(&mut membership);
        membership.deliver(vec![record(0, 5), record(0, 6)]);
        membership.deliver(vec![record(0, 4), record(0, 6), record(0, 8)]);
        assert_eq!(offsets(&mut membership), [(0, 5), (0, 6), (0, 8)]);
    }

    #[test]
    fn nothing_flows_before_it_is_started_and_sought() {
        let mut membership = member(&[0], 10);
        membership.deliver(vec![record(0, 0)]);
        membership.start(0, 5);
        membership.deliver(vec![record(0, 1)]);
        assert_eq!(membership.steps(), [Step::Seek { partition: 0, offset: 5, start: 1 }]);
        follow(&mut membership);
        membership.deliver(vec![record(0, 5)]);
        assert_eq!(offsets(&mut membership), [(0, 5)]);
        assert_eq!(membership.steps(), []);
    }

    #[test]
    fn a_start_anew_voids_what_was_polled_before_it() {
        let mut membership = member(&[0, 1], 10);
        membership.start(0, 5);
        membership.start(1, 0);
        follow(&mut membership);
        membership.deliver(vec![record(0, 5), record(1, 0)]);
        membership.start(0, 2);
        membership.deliver(vec![record(0, 6), record(1, 1)]);
        // A seek for the first start that completes only now is not the one that is meant.
        membership.sought(0, 1);
        membership.deliver(vec![record(0, 7)]);
        follow(&mut membership);
        membership.deliver(vec![record(0, 2)]);
        assert_eq!(offsets(&mut membership), [(1, 0), (1, 1), (0, 2)]);
    }

    #[test]
    fn a_paused_partition_goes_on_behind_what_it_delivered() {
        let mut membership = member(&[0], 10);
        membership.start(0, 0);
        follow(&mut membership);
        membership.deliver(vec![record(0, 0), record(0, 3)]);
        membership.pause(0, true);
        assert_eq!(membership.steps(), [Step::Stop { partition: 0 }]);
        follow(&mut membership);
        membership.pause(0, false);
        assert_eq!(membership.steps(), [Step::Seek { partition: 0, offset: 4, start: 1 }]);
    }

    #[test]
    fn a_partition_that_drains_is_still_owned_and_delivers_nothing_more() {
        let mut membership = member(&[0, 1], 10);
        for partition in [0, 1] {
            membership.start(partition, 0);
        }
        follow(&mut membership);
        membership.deliver(vec![record(0, 0), record(1, 0)]);
        let mut acknowledged = membership.revoking(&[0], false);
        membership.deliver(vec![record(0, 1)]);
        assert!(membership.owns(0));
        let Some(Ok(GroupEvent::Revoked(revocation))) = membership.take() else {
            panic!("the revocation comes before records of others")
        };
        assert!(acknowledged.try_recv() == Err(oneshot::error::TryRecvError::Empty));
        drop(revocation);
        assert!(acknowledged.try_recv() == Err(oneshot::error::TryRecvError::Closed));
        membership.released(&[0]);
        assert_eq!(membership.owned().into_keys().collect::<Vec<_>>(), [1]);
        assert_eq!(offsets(&mut membership), [(1, 0)]);
    }

    #[test]
    fn what_stays_is_sought_to_where_it_is_after_each_change_of_the_assignment() {
        let mut membership = member(&[0, 1, 2], 10);
        for partition in [0, 1] {
            membership.start(partition, 0);
        }
        follow(&mut membership);
        membership.deliver(vec![record(1, 0)]);
        let _acknowledged = membership.revoking(&[0], false);
        membership.released(&[0]);
        let seek = Step::Seek { partition: 1, offset: 1, start: 2 };
        assert_eq!(membership.steps(), [seek]);
        follow(&mut membership);
        membership.deliver(vec![record(1, 1)]);
        membership.assigned(&[], Instant::now());
        membership.deliver(vec![record(1, 2)]);
        follow(&mut membership);
        membership.deliver(vec![record(1, 2)]);
        assert_eq!(offsets(&mut membership), [(1, 0), (1, 1), (1, 2)], "what was polled before the seek comes again");
    }

    #[test]
    fn an_assignment_is_told_before_its_revocation() {
        let mut membership = Membership::new(10, SESSION, Instant::now());
        membership.assigned(&[0], Instant::now());
        let _acknowledged = membership.revoking(&[0], false);
        assert!(matches!(membership.take(), Some(Ok(GroupEvent::Assigned(_)))));
        assert!(matches!(membership.take(), Some(Ok(GroupEvent::Revoked(_)))));
    }

    #[test]
    fn a_lost_membership_owns_nothing_at_once_and_has_no_generation() {
        let mut membership = member(&[0, 1], 10);
        assert!(membership.is_joined());
        let _acknowledged = membership.revoking(&[0, 1], true);
        assert!(membership.owned().is_empty() && !membership.is_joined());
        membership.assigned(&[], Instant::now());
        assert!(membership.is_joined(), "an empty assignment is one");
    }

    #[test]
    fn an_assignment_has_a_number_of_its_own() {
        let mut membership = member(&[0], 10);
        let before = membership.owned()[&0];
        let _acknowledged = membership.revoking(&[0], false);
        membership.released(&[0]);
        membership.assigned(&[0], Instant::now());
        assert!(membership.owned()[&0] > before);
    }

    #[test]
    fn a_reader_that_falls_behind_stops_the_flow_and_starts_it_again() {
        let mut membership = member(&[0], 4);
        membership.start(0, 0);
        follow(&mut membership);
        for offset in 0..4 {
            assert_eq!(membership.room(), Room::Ample);
            membership.deliver(vec![record(0, offset)]);
        }
        assert_eq!(membership.room(), Room::Full);
        assert_eq!(membership.steps(), [], "what comes with a rebalance is still taken in");
        membership.deliver((4..8).map(|offset| record(0, offset)).collect());
        follow(&mut membership);
        membership.deliver(vec![record(0, 8)]);
        assert_eq!(offsets(&mut membership).len(), 8);
        assert_eq!(membership.steps(), [Step::Seek { partition: 0, offset: 8, start: 1 }]);
    }

    #[test]
    fn an_end_is_told_for_ever_after_the_rest() {
        let mut membership = member(&[], 4);
        membership.report(LogError::UnknownTopic { topic: "t".into() });
        membership.end(Ended::ForGood("fenced".to_owned()));
        assert!(matches!(membership.take(), Some(Err(LogError::UnknownTopic { .. }))));
        for _ in 0..2 {
            assert!(matches!(membership.take(), Some(Err(LogError::Unusable { .. }))));
        }
    }

    /// A member of a session of 6 s that was frozen from 2 s to 6 s.
    fn frozen(start: Instant) -> Pulse {
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pulse = Pulse::new(SESSION, start);
        pulse.tick(at(2));
        assert_eq!(pulse.age(at(3)), Duration::from_secs(1));
        pulse.tick(at(6));
        pulse.tick(at(7));
        assert_eq!(pulse.age(at(8)), Duration::from_secs(6), "ticks no longer count");
        pulse
    }

    #[test]
    fn a_process_that_was_frozen_is_confirmed_by_the_broker_alone() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pulse = frozen(start);
        pulse.confirm(at(8), at(9));
        assert_eq!(pulse.age(at(9)), Duration::from_secs(1), "since the question was asked");
        pulse.tick(at(10));
        assert_eq!(pulse.age(at(10)), Duration::ZERO);
    }

    #[test]
    fn an_answer_from_before_the_freeze_does_not_end_it() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pulse = frozen(start);
        pulse.confirm(at(3), at(8));
        pulse.tick(at(9));
        assert_eq!(pulse.age(at(9)), Duration::from_secs(6));
        // The freeze may also lie between the question and the hearing of its answer, unnoticed by any tick.
        let mut pulse = Pulse::new(SESSION, start);
        pulse.confirm(at(0), at(9));
        pulse.tick(at(10));
        assert_eq!(pulse.age(at(10)), Duration::from_secs(10));
    }

    #[test]
    fn an_assignment_ends_a_freeze_unless_it_may_be_older() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut pulse = frozen(start);
        pulse.assigned(at(8));
        assert_eq!(pulse.age(at(8)), Duration::from_secs(6));
        (9..=10).for_each(|second| pulse.tick(at(second)));
        pulse.assigned(at(10));
        assert_eq!(pulse.age(at(10)), Duration::ZERO);
    }
}
