//! One owned partition of the work list: what was read of it, the lanes of its contacts, and what is to be committed.
//!
//! Invariant: whatever is decided here is committed in the order in which it was decided, links and outcomes together
//! with the offset up to which all is answered. So the state in memory is always what the log will say.
//!
//! No I/O and no clock.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use futures::future::AbortHandle;
use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    lane::{Answer, Decided, Lane},
    ledger::Ledger,
    takeover::TakenOver,
};
use crate::{
    contact::ContactId,
    crm::link::Link,
    event::Entry,
    log::{AssignmentNumber, Offset},
    protection::Protections,
};

/// What the partition is waiting for, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The predecessor is being fenced, and the view catches up.
    TakingOver,
    /// The offset is being committed under our claim.
    Claiming,
    /// A predecessor that did not release may still have a request under way.
    Cooling {
        until: Instant,
    },
    Working,
    /// The partition leaves, or the worker stops: nothing new is begun.
    Draining {
        deadline: Instant,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Owned {
    pub(super) assignment: AssignmentNumber,
    /// Ends the takeover, if it is still under way.
    pub(super) takeover: AbortHandle,
    pub(super) phase: Phase,
    pub(super) ledger: Ledger,
    pub(super) lanes: HashMap<ContactId, Lane>,
    /// The links of lanes as they were last handed to a commit, so that the view need not be compared with links that are
    /// written down for that alone. Of a lane whose link has changed since, [`Pending::links`] tells.
    pub(super) written: HashMap<ContactId, Bytes>,
    /// Entries that were read before the view held their record; in order, so one holds back those behind it.
    pub(super) incoming: VecDeque<(Entry, Offset)>,
    /// Entries below may have been in a predecessor's hands when it stopped.
    forced_until: Offset,
    /// A request of a predecessor may still land, also one for a contact with no entry left: a parked one, or one whose
    /// answer was lost before another was heard.
    may_land: bool,
    /// Delivery of further records is paused: the bound is reached.
    pub(super) paused: bool,
    pub(super) pending: Pending,
    /// Our claim is committed.
    pub(super) claimed: bool,
    /// The final commit of a partition that leaves is under way or done.
    pub(super) release: Release,
    protections: Protections,
}

/// How far the release of a leaving partition has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Release {
    NotYet,
    Committing,
    Done,
}

/// Decided, to be committed.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Pending {
    /// Contacts whose link changed.
    pub(super) links: BTreeSet<ContactId>,
    pub(super) answers: Vec<(ContactId, Answer)>,
    /// The offset is to be committed even if nothing else is.
    pub(super) offset: bool,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty() && self.answers.is_empty() && !self.offset
    }
}

impl Owned {
    /// Whether both stand alike, the takeover under way apart.
    #[cfg(test)]
    pub(super) fn is_as(&self, other: &Self) -> bool {
        let small = |owned: &Self| {
            (owned.assignment, owned.phase, owned.forced_until, owned.may_land, owned.claimed, owned.release)
        };
        small(self) == small(other)
            && self.ledger == other.ledger
            && self.lanes == other.lanes
            && self.incoming == other.incoming
            && self.pending == other.pending
    }

    /// A partition just assigned.
    pub(super) fn new(assignment: AssignmentNumber, takeover: AbortHandle, protections: Protections) -> Self {
        Self {
            assignment,
            takeover,
            phase: Phase::TakingOver,
            ledger: Ledger::new(0),
            lanes: HashMap::new(),
            written: HashMap::new(),
            incoming: VecDeque::new(),
            forced_until: 0,
            may_land: false,
            paused: false,
            pending: Pending::default(),
            claimed: false,
            release: Release::NotYet,
            protections,
        }
    }

    /// The predecessor is fenced and the view has caught up: claim it.
    pub(super) fn taken_over(&mut self, taken: &TakenOver) {
        self.ledger = Ledger::new(taken.start);
        self.forced_until = if taken.released { 0 } else { taken.end };
        self.may_land = !taken.released;
        self.pending.offset = true;
        self.phase = Phase::Claiming;
    }

    /// Whether a predecessor that did not release worked here, and what it left may still land, or is not sent again yet.
    pub(super) fn is_tainted(&self) -> bool {
        self.may_land || self.ledger.commit_point() < self.forced_until
    }

    /// Whatever a predecessor had sent has landed: work may begin.
    pub(super) fn cooled(&mut self) {
        self.may_land = false;
        self.phase = Phase::Working;
    }

    pub(super) fn forces(&self, offset: Offset) -> bool {
        offset < self.forced_until
    }

    /// Notes an entry as read; [`Owned::handle`] takes it once the view holds its record.
    pub(super) fn read(&mut self, entry: Entry, offset: Offset) {
        self.ledger.read(offset, entry.received_at);
        self.incoming.push_back((entry, offset));
    }

    /// Notes an offset that holds nothing to do.
    pub(super) fn skip(&mut self, offset: Offset) {
        // It waits for nothing: the time is never asked for.
        self.ledger.read(offset, Timestamp::MAX);
        self.ledger.answer(offset);
        self.pending.offset = true;
    }

    /// Hands an entry that the view covers to its lane.
    pub(super) fn handle(&mut self, entry: Entry, offset: Offset, link: impl FnOnce() -> Link) {
        let contact = entry.contact_id;
        let forced = self.forces(offset);
        let lane = self.lanes.entry(contact).or_insert_with(|| Lane::new(link(), self.protections));
        let decided = lane.read(entry, offset, forced);
        self.note(contact, decided);
    }

    /// Takes over what a lane decided.
    pub(super) fn note(&mut self, contact: ContactId, decided: Decided) {
        for offset in decided.offsets {
            self.ledger.answer(offset);
            self.pending.offset = true;
        }
        if decided.link_changed {
            self.pending.links.insert(contact);
        }
        self.pending.answers.extend(decided.answers.into_iter().map(|answer| (contact, answer)));
    }

    /// Forgets a lane that has nothing left to do.
    pub(super) fn forget(&mut self, contact: ContactId) {
        self.lanes.remove(&contact);
        self.written.remove(&contact);
    }

    /// Entries and contacts held in memory, for the bound.
    pub(super) fn held(&self) -> usize {
        self.ledger.unanswered().max(self.lanes.len())
    }

    /// Whether new attempts may begin.
    pub(super) fn is_working(&self) -> bool {
        self.phase == Phase::Working
    }

    /// Whether entries are taken in.
    pub(super) fn reads(&self) -> bool {
        matches!(self.phase, Phase::Cooling { .. } | Phase::Working)
    }

    /// Whether a leaving partition has nothing more to wait for: no attempt is under way, and no lost request, the
    /// end of which would come before the deadline, keeps it from being released.
    pub(super) fn has_drained(&self, now: Instant, landing_time: Duration) -> bool {
        let Phase::Draining { deadline } = self.phase else { return false };
        self.lanes.values().all(|lane| {
            let lost = lane.lost(now, landing_time);
            !lane.is_in_flight() && lost.is_none_or(|lost| lost.sent_at + landing_time > deadline)
        })
    }

    /// Whether the successor need not wait: nothing of ours, nor of a predecessor, may still reach the CRM.
    pub(super) fn may_release(&self, now: Instant, landing_time: Duration) -> bool {
        !self.is_tainted()
            && self.lanes.values().all(|lane| !lane.is_in_flight() && lane.lost(now, landing_time).is_none())
    }

    /// Lanes that could begin an attempt now.
    pub(super) fn ready(&self, now: Instant, wall: Timestamp) -> impl Iterator<Item = ContactId> + '_ {
        self.lanes.iter().filter(move |(_, lane)| lane.is_ready(now, wall)).map(|(contact, _)| *contact)
    }
}
