//! What a test can do to a log that its users cannot.
//!
//! Everything here happens on a real broker too, at moments that nobody chooses; a simulation chooses them by seed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    LocalLog,
    group::{Group, MemberId},
};
use crate::log::{AssignmentNumber, Offset, Partition, TopicPartition};

/// Where a writer can be disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Point {
    /// Begun, and nothing sent.
    BeforePrepare,
    /// Records sent, generation taken and assignments checked; offsets not sent. Passed only with offsets.
    BeforeOffsets,
    /// Everything sent, and not yet answered.
    AfterPrepare,
    /// Asked to commit, which nobody has seen yet.
    BeforeCommit,
    /// Committed, and not yet answered.
    AfterCommit,
}

/// What happens at a [`Point`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Proceed,
    /// [`WriteError::Aborted`](crate::log::WriteError::Aborted), and so it is.
    FailAborted,
    /// [`WriteError::Refused`](crate::log::WriteError::Refused), and aborted.
    Refused,
    /// [`WriteError::Unknown`](crate::log::WriteError::Unknown), and it appears. Before the commit only; while it is
    /// prepared, it is an abort.
    UnknownButCommitted,
    /// [`WriteError::Unknown`](crate::log::WriteError::Unknown), and it never appears: it stays open until the id is
    /// opened again or the transaction times out. Before the commit only; while it is prepared, it is an abort.
    UnknownAndAborted,
    /// Goes on after this long. A writer that is dropped meanwhile died at this point.
    Hang(Duration),
    /// Before the commit: answered at once, offsets are final at once, but readers of the records are held back for
    /// this long. Elsewhere as `Proceed`.
    LateMarkers(Duration),
}

/// Decides what happens to writers. After a commit, any verdict that is not to go on only loses the answer.
pub trait Faults: Send + Sync {
    /// Called under no lock.
    fn judge(&self, point: Point, transactional_id: &str) -> Verdict;
}

impl<F: Fn(Point, &str) -> Verdict + Send + Sync> Faults for F {
    fn judge(&self, point: Point, transactional_id: &str) -> Verdict {
        self(point, transactional_id)
    }
}

/// A member as its group sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    pub id: MemberId,
    /// What the member itself believes to own.
    pub owned: BTreeMap<Partition, AssignmentNumber>,
    /// Died or silenced, and not yet expelled.
    pub silent: bool,
}

/// # Panics
/// All of these if there is no such topic, group or member: the test is wrong then.
impl LocalLog {
    /// Every writer asks `faults` from now on; `None` ends that.
    pub fn set_faults(&self, faults: Option<Arc<dyn Faults>>) {
        self.shared.with(|state, _| state.faults = faults);
    }

    /// Followers see everything this much later from now on. Members do not: what a replicator is given may be ahead
    /// of its view.
    pub fn set_follower_lag(&self, lag: Duration) {
        self.shared.with(|state, _| {
            state.follower_lag = lag;
            state.changed = true;
        });
    }

    /// Compacts `at` now, as far as nothing is open. Tombstones go when they were first met long enough ago.
    pub fn compact(&self, at: &TopicPartition) {
        self.shared.with(|state, now| state.topics.compact(at, now));
    }

    /// Deletes records below `offset`, as retention would.
    pub fn expire_before(&self, at: &TopicPartition, offset: Offset) {
        self.shared.with(|state, _| {
            state.topics.partition(at).expect("there is such a partition").expire_before(offset);
            (state.changed, state.unwritten) = (true, true);
        });
    }

    /// Deletes, in all topics, what is older than they keep.
    pub fn expire(&self) {
        let now = self.shared.timestamp();
        self.shared.with(|state, _| {
            state.topics.expire(now);
            state.changed = true;
        });
    }

    /// Adds a transaction marker to `at` that belongs to nothing: an end offset without a record.
    pub fn append_marker(&self, at: &TopicPartition) {
        self.shared.with(|state, _| {
            state.topics.partition(at).expect("there is such a partition").append_marker();
            (state.changed, state.unwritten) = (true, true);
        });
    }

    /// Gives `topic` more partitions, as its owner may; groups share them out at once.
    pub fn add_partitions(&self, topic: &str, partitions: u32) {
        self.shared.with(|state, _| {
            assert!(state.topics.grow(topic, partitions), "there is such a topic");
            (state.changed, state.unwritten) = (true, true);
        });
    }

    /// The members of `group`, in the order in which they joined.
    pub fn members(&self, group: &str) -> Vec<MemberStatus> {
        self.shared.with(|state, _| state.groups.get(group).map(Group::status).unwrap_or_default())
    }

    /// Moves a partition from its owner to another live member, with revoke and drain, as a rebalance would.
    pub fn move_partition(&self, group: &str, partition: Partition, to: MemberId) {
        self.of_group(group, |group, _| group.redirect(partition, to));
    }

    /// Expels a member as if it had missed its session. It is told that it lost everything, and joins again once it
    /// has taken note.
    pub fn expel(&self, group: &str, member: MemberId) {
        self.of_group(group, |group, now| group.expel(member, now));
    }

    /// Cuts a member off: its group hears nothing of it and expels it after the session time-out, and the member is
    /// told nothing of that before [`LocalLog::unsilence`]. A frozen process, or a broken network.
    pub fn silence(&self, group: &str, member: MemberId) {
        self.of_group(group, |group, now| group.silence(member, now));
    }

    /// Ends [`LocalLog::silence`]. A member that was expelled meanwhile is told now.
    pub fn unsilence(&self, group: &str, member: MemberId) {
        self.of_group(group, |group, now| group.unsilence(member, now));
    }

    fn of_group(&self, group: &str, act: impl FnOnce(&mut Group, Instant)) {
        self.shared.with(|state, now| {
            act(state.groups.get_mut(group).expect("there is such a group"), now);
            state.changed = true;
        });
    }
}
