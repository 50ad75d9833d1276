//! The lane of one contact in one CRM: which of its entries still want an answer, and what may be done about it now.
//!
//! Entries of a contact arrive in order, deliveries of a partition finish out of order, and any worker may die between
//! two steps. The lane keeps three things straight:
//!
//! - An entry that is read is judged by the link alone, so that a replay from any offset is harmless ([`Lane::read`]).
//! - An attempt carries the newest record, and its end answers every entry up to that version ([`Lane::end`]).
//! - A contact that keeps failing is *parked*: one event stays `open` in the link, and the partition moves on.
//!
//! Invariants: a contact has a parked event or a queue, never both. At most one attempt is under way. Every version up
//! to `link.answered` has its outcome, except the parked one; every queued entry is above it.
//!
//! No I/O and no clock. Each method returns what must be committed ([`Decided`]); the lane's own link is already as
//! it will be after that commit. A commit that fails for good takes the lane with it, so the two never part.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use super::plan::AcceptedState;
use crate::{
    config::OnGone,
    contact::Version,
    crm::{
        Effect, Failure, FailureClass, Presence, Request,
        link::{Intent, Link, Open, Sent, Settled},
    },
    event::{Entry, Operation, OutcomeKind, Reason, ReasonCode},
    log::Offset,
    protection::{Protection, Protections},
};

/// An entry read from the work list, not answered yet.
#[derive(Debug, Clone, PartialEq)]
struct Waiting {
    entry: Entry,
    offset: Offset,
}

/// What must be committed together: outcomes, and the link where it changed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Decided {
    pub answers: Vec<Answer>,
    /// Offsets that no longer hold back the partition.
    pub offsets: Vec<Offset>,
    pub link_changed: bool,
}

/// The end of one entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub entry: Entry,
    pub outcome: OutcomeKind,
    pub operation: Option<Operation>,
    pub reason: Option<Reason>,
    pub attempts: u32,
    pub by_version: Option<Version>,
}

/// An attempt under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flight {
    /// The parked event was due, and this is its next try.
    woken: bool,
}

/// A request whose answer never came. Until one request deadline after it was sent it may still take effect, so
/// only the very same request may follow it.
#[derive(Debug, Clone, PartialEq)]
pub struct Lost {
    pub request: Arc<Request>,
    pub sent_at: Instant,
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum End {
    /// Nothing was sent, for a reason that is not the contact's (the CRM is paused, the partition is leaving): the
    /// lane stands where it stood.
    Withdrawn,
    /// Nothing was sent, since newer content must not follow a lost request yet.
    MustWait { until: Instant },
    /// Nothing was sent, since these fields are not in the link yet: were the worker to die with them sent, nobody would
    /// know that they must be cleared once the record no longer has them.
    Announced { fields: Vec<Arc<str>> },
    /// Nothing that creates was sent, since this is not in the link yet: were the worker to die with the create sent,
    /// nobody would know what to search for.
    Intended { intent: Intent },
    /// A search found the contact in the CRM under these ids, which are committed before anything more is sent. `carried`
    /// are the fields that were written before.
    Found { remote_ids: BTreeMap<String, String>, carried: Vec<Arc<str>> },
    /// The first requests of a delivery were stored, the next was not sent, for a reason that is not the contact's.
    /// `until`: newer content must not follow a lost request before. `lost`: a create among those first ones.
    Interrupted { until: Option<Instant>, carried: Vec<Arc<str>>, lost: Option<Lost> },
    /// A terminal result for the version carried, other than having been stored. `suspected` are the fields that somebody may
    /// have changed without being able to commit it.
    Judged { version: Version, outcome: OutcomeKind, reason: Option<Reason>, suspected: Vec<Arc<str>> },
    /// The CRM accepted it.
    Delivered { version: Version, operation: Operation, accepted: AcceptedState },
    /// The CRM did not accept it, or did not say.
    Failed { version: Version, failure: Failure, carried: Vec<Arc<str>>, lost: Option<Lost> },
}

/// What the lane knows when a delivery begins.
#[derive(Debug, Clone)]
pub struct Task {
    pub link: Link,
    /// A predecessor may have been writing when it died.
    pub forced: bool,
    /// The link's intent was committed for this delivery: nothing was sent under it yet.
    pub intended: bool,
}

/// The circumstances of an attempt's end, decided by the loop.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances {
    pub now: Instant,
    pub wall: Timestamp,
    /// While the CRM is paused nothing is parked: the fault is not the contact's.
    pub paused: bool,
    /// What becomes of a contact that the CRM no longer has.
    pub on_gone: OnGone,
    /// An event this old at a failed try is given up.
    pub max_age: Option<Duration>,
    /// Delay before the next quick try, jitter applied.
    pub retry_delay: Duration,
    /// Delay before the next try of a parked contact, jitter applied.
    pub parked_delay: Duration,
    pub tries_before_parking: u32,
    /// How long a [`Lost`] request may still take effect; see [`DeliverySettings::landing_time`].
    ///
    /// [`DeliverySettings::landing_time`]: crate::config::DeliverySettings::landing_time
    pub landing_time: Duration,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Lane {
    pub link: Link,
    queue: VecDeque<Waiting>,
    flight: Option<Flight>,
    lost: Option<Lost>,
    /// Tries of the entries now in the queue.
    tries: u32,
    /// Nothing is attempted before; `None`: at once.
    not_before: Option<Instant>,
    /// A predecessor may have a write under way that nobody knows of: send even what looks unchanged.
    forced: bool,
    /// The link's intent was made for the next attempt, and nothing was sent under it yet.
    intended: bool,
    /// What must be committed before anything more is sent is not yet: the result of a create, since a second request
    /// could make a second contact, or the fields that the next request carries for the first time.
    awaits_commit: bool,
    protections: Protections,
}

impl Lane {
    /// A lane for a contact whose link is `link`.
    pub fn new(link: Link, protections: Protections) -> Self {
        Self {
            link,
            queue: VecDeque::new(),
            flight: None,
            lost: None,
            tries: 0,
            not_before: None,
            forced: false,
            intended: false,
            awaits_commit: false,
            protections,
        }
    }

    /// Takes an entry that the view covers. `forced`: a predecessor may have been writing when this entry was open.
    pub fn read(&mut self, entry: Entry, offset: Offset, forced: bool) -> Decided {
        let version = entry.version;
        let is_open = self.link.open.as_ref().is_some_and(|open| open.entry.version == version);
        let replay = if is_open { Protection::Open } else { Protection::Answered };
        if version <= self.link.answered && self.protections.hold(replay) {
            return Decided { offsets: vec![offset], ..Decided::default() };
        }
        if let Some(settled) = &self.link.settled
            && version <= settled.version
            && self.protections.hold(Protection::Settled)
        {
            assert!(self.queue.is_empty(), "settling a version answers every queued entry below it");
            let answer = if version < settled.version {
                Answer::superseded(entry, settled.version)
            } else {
                Answer::settled(entry, settled)
            };
            self.link.answered = version;
            return Decided { answers: vec![answer], offsets: vec![offset], link_changed: true };
        }
        self.forced |= forced;
        if let Some(open) = &mut self.link.open {
            // The newest event waits in the place of the older one; the partition need not hold it.
            let older = std::mem::replace(&mut open.entry, entry);
            self.link.answered = version;
            let answers = vec![Answer::superseded(older, version)];
            return Decided { answers, offsets: vec![offset], link_changed: true };
        }
        self.queue.push_back(Waiting { entry, offset });
        Decided::default()
    }

    /// Whether an attempt should begin now; `wall` decides for a parked event.
    pub fn is_ready(&self, now: Instant, wall: Timestamp) -> bool {
        self.flight.is_none()
            && !self.awaits_commit
            && self.not_before.is_none_or(|instant| instant <= now)
            && (!self.queue.is_empty() || self.link.open.as_ref().is_some_and(|open| open.next_attempt <= wall))
    }

    /// When a lane that is not ready becomes so by the passing of time alone. Parked events are woken through the
    /// view's index instead.
    pub fn wakes_at(&self) -> Option<Instant> {
        if !self.is_quiet() || self.queue.is_empty() { None } else { self.not_before }
    }

    /// Begins an attempt. The caller hands the end to [`Lane::end`].
    pub fn begin(&mut self) {
        assert!(self.flight.is_none(), "one request of a contact is in flight at most");
        assert!(!self.awaits_commit, "nothing is sent before what it rests on is committed");
        self.flight = Some(Flight { woken: self.link.open.is_some() });
        self.not_before = None;
    }

    /// What the next attempt is to do.
    pub fn task(&self) -> Task {
        Task { link: self.link.clone(), forced: self.forced, intended: self.intended }
    }

    /// The request that may still take effect, if it may at `now`.
    pub fn lost(&self, now: Instant, landing_time: Duration) -> Option<&Lost> {
        self.lost.as_ref().filter(|lost| lost.sent_at + landing_time > now)
    }

    /// Tries so far of what the next attempt is for.
    pub fn tries(&self) -> u32 {
        self.link.open.as_ref().map_or(self.tries, |open| open.attempts)
    }

    /// Whether nothing is under way or waiting here, parked events apart.
    pub fn is_idle(&self, now: Instant, landing_time: Duration) -> bool {
        self.is_quiet() && self.queue.is_empty() && self.lost(now, landing_time).is_none()
    }

    /// Whether an attempt is under way.
    pub fn is_in_flight(&self) -> bool {
        self.flight.is_some()
    }

    /// Whether no attempt is under way and none is kept back by a commit.
    fn is_quiet(&self) -> bool {
        self.flight.is_none() && !self.awaits_commit
    }

    /// Whether nothing is sent before what was decided is committed.
    pub fn awaits_commit(&self) -> bool {
        self.awaits_commit
    }

    /// What was decided is committed: the contact may be sent to again.
    pub fn committed(&mut self) {
        self.awaits_commit = false;
    }

    /// Whatever the lane waits for has passed, a commit apart.
    #[cfg(test)]
    pub(super) fn forget_waits(&mut self) {
        self.lost = None;
        self.not_before = None;
    }

    /// Takes the end of the attempt that [`Lane::begin`] began.
    pub fn end(&mut self, end: End, at: Circumstances) -> Decided {
        let flight = self.flight.take().expect("an attempt ends once");
        match end {
            End::Withdrawn => Decided::default(),
            End::MustWait { until } => {
                self.not_before = Some(until);
                Decided::default()
            }
            End::Announced { fields } => {
                // Not `void`: what is forced stays so.
                self.link.sent.extend(fields.into_iter().map(|field| (field, Sent::Void)));
                self.awaits_commit = true;
                Decided { link_changed: true, ..Decided::default() }
            }
            End::Intended { intent } => {
                self.link.intent = Some(intent);
                self.intended = true;
                self.awaits_commit = true;
                Decided { link_changed: true, ..Decided::default() }
            }
            End::Found { remote_ids, carried } => {
                // A search waits for what was lost to have landed, so this is what the intent was made for, if any was.
                self.intended = false;
                if !carried.is_empty() {
                    self.void(carried);
                }
                self.link.remote_ids.extend(remote_ids);
                self.link.intent = None;
                self.awaits_commit = true;
                Decided { link_changed: true, ..Decided::default() }
            }
            End::Interrupted { until, carried, lost } => {
                self.intended = false;
                self.void(carried);
                self.lost = lost.or(self.lost.take());
                self.not_before = until;
                Decided { link_changed: true, ..Decided::default() }
            }
            End::Judged { version, outcome, reason, suspected } => {
                self.intended = false;
                self.void(suspected);
                if reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::UnknownContact) {
                    self.link.forget_remote();
                }
                let settled = Settled { version, outcome, operation: None, reason, attempts: self.tries() };
                self.settle(settled)
            }
            End::Delivered { version, operation, accepted } => {
                // `lost` stays: a request that this one repeated may still land.
                let absent = accepted.presence == Presence::Absent;
                if absent {
                    self.link.forget_remote();
                } else {
                    self.link.sent = accepted.sent;
                    self.link.remote_ids.extend(accepted.remote_ids);
                    self.link.intent = None;
                }
                self.link.presence = Some(accepted.presence);
                self.forced = false;
                self.intended = false;
                // After a deletion, what comes next is a create.
                self.awaits_commit = absent || matches!(operation, Operation::Create | Operation::Adopt);
                let settled = Settled {
                    version,
                    outcome: OutcomeKind::Delivered,
                    operation: Some(operation),
                    reason: None,
                    attempts: self.tries() + 1,
                };
                self.settle(settled)
            }
            End::Failed { version, failure, carried, lost } => {
                // A refusal says nothing about what a predecessor had sent.
                self.intended = false;
                let unknown = failure.effect == Effect::Unknown || self.forced || flight.woken;
                if unknown {
                    self.void(carried);
                }
                self.lost = lost.or(self.lost.take());
                let mut decided = self.fail(version, failure, flight, at);
                decided.link_changed |= unknown;
                decided
            }
        }
    }

    /// What may or may not have reached the CRM equals nothing any more. From here on the link says so, and not only this
    /// lane.
    fn void(&mut self, fields: Vec<Arc<str>>) {
        if self.protections.hold(Protection::VoidSent) {
            self.link.sent.extend(fields.into_iter().map(|field| (field, Sent::Void)));
        }
        self.forced = false;
    }

    fn fail(&mut self, version: Version, failure: Failure, flight: Flight, at: Circumstances) -> Decided {
        match failure.class {
            FailureClass::Rejected => self.reject(version, failure.reason),
            // One more try: whoever wrote at the same time has finished by then.
            FailureClass::Conflict if self.tries() >= 1 => {
                self.reject(version, Reason { code: ReasonCode::Conflict, ..failure.reason })
            }
            // The whole CRM waits, and no try is used up: the loop decides when.
            FailureClass::Throttled | FailureClass::Connection | FailureClass::Auth => Decided::default(),
            FailureClass::Gone if at.on_gone == OnGone::Drop => {
                self.reject(version, Reason { code: ReasonCode::Gone, ..failure.reason })
            }
            FailureClass::Gone | FailureClass::Transient | FailureClass::Conflict => {
                let gone = failure.class == FailureClass::Gone;
                if gone {
                    self.forget(failure.effect);
                }
                let mut decided = if let Some(version) = self.expired(version, at) {
                    self.settle(Settled {
                        version,
                        outcome: OutcomeKind::Expired,
                        operation: None,
                        reason: Some(ReasonCode::MaxAge.into()),
                        attempts: self.tries() + 1,
                    })
                } else {
                    // A CRM that has lost each contact that it just made is not driven to make them without end: that, too,
                    // counts as a try.
                    let asked = failure.retry_after.map_or(Duration::ZERO, |asked| asked.delay(at.wall));
                    self.retry(asked, flight, at)
                };
                decided.link_changed |= gone;
                decided
            }
        }
    }

    /// What the link named is no more; the next try makes another, once that is committed.
    fn forget(&mut self, effect: Effect) {
        match effect {
            Effect::None => self.link.forget_remote(),
            // The same delivery had written something that stands there under an id we do not have: what it is to be found
            // by, and which fields it may hold, stays known.
            Effect::Unknown => {
                self.link.remote_ids.clear();
                self.link.presence = None;
            }
        }
        self.awaits_commit = true;
    }

    /// Tries again: soon, or, after a few tries, later, with the contact parked.
    fn retry(&mut self, asked: Duration, flight: Flight, at: Circumstances) -> Decided {
        if flight.woken {
            return self.park_again(asked, at);
        }
        self.tries += 1;
        if self.tries < at.tries_before_parking || at.paused {
            self.not_before = Some(at.now + at.retry_delay.max(asked));
            return Decided::default();
        }
        self.park(asked, at)
    }

    /// The version of the newest event that an attempt with `version` was for, if it is too old to be tried again. The
    /// record may be newer than every entry that was read, and what is not read yet need not be old.
    fn expired(&self, version: Version, at: Circumstances) -> Option<Version> {
        let max_age = at.max_age?;
        let open = self.link.open.iter().map(|open| &open.entry);
        let queued = self.queue.iter().map(|waiting| &waiting.entry);
        let newest = open.chain(queued).rfind(|entry| entry.version <= version)?;
        let is_old = newest.received_at.saturating_add(max_age).is_ok_and(|end| end <= at.wall);
        is_old.then_some(newest.version)
    }

    fn reject(&mut self, version: Version, reason: Reason) -> Decided {
        let attempts = self.tries() + 1;
        self.settle(Settled {
            version,
            outcome: OutcomeKind::Rejected,
            operation: None,
            reason: Some(reason),
            attempts,
        })
    }

    /// Answers everything up to the version that ended.
    fn settle(&mut self, settled: Settled) -> Decided {
        let version = settled.version;
        assert!(self.link.settled.as_ref().is_none_or(|before| before.version <= version), "versions settle in order");
        let mut decided = Decided { link_changed: true, ..Decided::default() };
        let answer = |entry: Entry| {
            if entry.version < version { Answer::superseded(entry, version) } else { Answer::settled(entry, &settled) }
        };
        if self.link.open.as_ref().is_some_and(|open| open.entry.version <= version) {
            let open = self.link.open.take().expect("just seen");
            decided.answers.push(answer(open.entry));
        }
        while self.queue.front().is_some_and(|waiting| waiting.entry.version <= version) {
            let waiting = self.queue.pop_front().expect("just seen");
            self.link.answered = waiting.entry.version;
            decided.offsets.push(waiting.offset);
            decided.answers.push(answer(waiting.entry));
        }
        self.link.settled = Some(settled);
        self.tries = 0;
        decided
    }

    /// Leaves the newest entry to a later try and lets the partition go.
    fn park(&mut self, asked: Duration, at: Circumstances) -> Decided {
        assert!(self.link.open.is_none(), "a contact has a parked event or a queue, never both");
        let newest = self.queue.pop_back().expect("an attempt that was not woken is for a queued entry");
        let version = newest.entry.version;
        let mut decided = Decided { link_changed: true, ..Decided::default() };
        for waiting in self.queue.drain(..) {
            decided.offsets.push(waiting.offset);
            decided.answers.push(Answer::superseded(waiting.entry, version));
        }
        decided.offsets.push(newest.offset);
        self.link.answered = version;
        self.link.open = Some(Open {
            entry: newest.entry,
            attempts: self.tries,
            next_attempt: self.due(at.parked_delay.max(asked), at),
        });
        self.tries = 0;
        self.not_before = None;
        decided
    }

    fn park_again(&mut self, asked: Duration, at: Circumstances) -> Decided {
        let next_attempt = self.due(at.parked_delay.max(asked), at);
        let open = self.link.open.as_mut().expect("a woken attempt is for the parked event");
        open.attempts += 1;
        open.next_attempt = next_attempt;
        Decided { link_changed: true, ..Decided::default() }
    }

    /// A parked contact's next try never falls into the time in which a lost request may still take effect, so that
    /// the wait need not be remembered beside the link.
    fn due(&self, delay: Duration, at: Circumstances) -> Timestamp {
        let lost = self.lost(at.now, at.landing_time).map(|lost| lost.sent_at + at.landing_time - at.now);
        at.wall.saturating_add(delay.max(lost.unwrap_or_default())).unwrap_or(Timestamp::MAX)
    }
}

impl Answer {
    fn superseded(entry: Entry, by_version: Version) -> Self {
        let outcome = OutcomeKind::Superseded;
        Self { entry, outcome, operation: None, reason: None, attempts: 0, by_version: Some(by_version) }
    }

    fn settled(entry: Entry, settled: &Settled) -> Self {
        Self {
            entry,
            outcome: settled.outcome,
            operation: settled.operation,
            reason: settled.reason.clone(),
            attempts: settled.attempts,
            by_version: None,
        }
    }
}

#[cfg(test)]
mod tests;
