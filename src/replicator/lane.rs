//! The lane of one contact in one CRM: which of its entries still want an answer, and what may be done about it now.
//!
//! Entries of a contact arrive in order, deliveries of a partition finish out of order, and any worker may die between
//! two steps. The lane keeps three things straight:
//!
//! - An entry that is read is judged by the link alone, so that a replay from any offset is harmless ([`Lane::read`]).
//! - An attempt carries the newest record, and its end answers every entry up to that version ([`Lane::end`]).
//! - A contact that keeps failing is *parked*: one event stays `open` in the link, and the partition moves on.
//!
//! # What operators ask
//!
//! An entry of an operator says that the contact is to be driven *anew*, as if nothing were known of what the CRM holds. It
//! stands beside the events and changes nothing of what is said of them: it never raises `answered`, whatever its version,
//! and waits in a queue of its own.
//!
//! - An attempt that begins after it was read carries it, with the newest record; whatever else the attempt is for. Read
//!   during an attempt, it waits for the next one. The end of the attempt is its outcome, with the version that was driven.
//! - Until it is answered its offset holds the partition, so a successor reads it again. Answered ones are known by
//!   `link.asked_until`: entries of a contact come in order, and are answered in order.
//! - It wakes a parked contact at once. If that fails, it is parked beside the event, in `open.asked`; a contact without a
//!   parked event is parked with it alone. What was sent is void from then on, whoever tries next.
//! - An event that comes to a contact parked by an operator's entry waits with it, in `open.entry`; one attempt answers
//!   both. A parked entry of an operator gives way to a newer one: it is `superseded`, and the outcome of the newer one tells
//!   the end.
//!
//! An operator may also say which contact of the CRM it is ([`Link::take_in`]). That goes into the link as soon as no attempt
//! is under way, once, and whatever comes first is then committed before it is sent: the fields that the contact is to have,
//! or what its create can be found by. So a worker that dies repeats neither the operator's word nor the create.
//!
//! Or that what waits be *skipped*. Such an entry is for no attempt. It takes effect as soon as none is under way: the newest
//! event up to the version that the contact had when it was asked is answered `filtered`, `skipped`, those before it are
//! `superseded` by it, and what operators asked before ends in the same way. What an attempt has ended meanwhile stays ended
//! as it did, and a newer event, which the operator cannot have meant, goes on. Where somebody else's request may have
//! carried what is given up, the link says so ([`Link::doubted`]), since no entry does any longer: the next attempt sends
//! all, as after a takeover.
//!
//! # What names other contacts
//!
//! A link may say that something of its contact is to be said once another is there ([`Link::waiting`]). An attempt for that
//! alone begins when no entry waits and nothing is parked; it answers nothing, and however it fails, the next look is all
//! that follows. An entry that comes meanwhile is answered by it, as by any attempt, if it carries that version.
//!
//! Invariants: a contact has a parked event or a queue of events, never both. At most one attempt is under way. Every version
//! up to `link.answered` has its outcome, except the parked one; every queued event is above it.
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
        Effect, Failure, FailureClass, Presence, REMOTE_CONTACT, Request,
        fingerprint::Fingerprint,
        link::{Intent, Link, Linked, Open, Sent, Settled, Waiting as WaitingForOthers},
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
    /// The contact was parked, and this is its next try.
    woken: bool,
    /// How many of the entries of operators it carries: the first ones.
    asked: usize,
    /// It is for no entry: it was time to look whether other contacts are there.
    looks: bool,
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
    /// The contact was created under these ids, which are committed before the rest of it is sent.
    Created { remote_ids: BTreeMap<String, String>, carried: Vec<Arc<str>> },
    /// The CRM holds the contact under these ids and accepted this much, which is committed before the rest is sent.
    Part { remote_ids: BTreeMap<String, String>, sent: BTreeMap<Arc<str>, Sent> },
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
    /// An operator asked: whatever was sent counts for nothing.
    pub anew: bool,
    /// The link's intent was committed for this delivery: nothing was sent under it yet.
    pub intended: bool,
    /// Failures so far.
    pub tries: u32,
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
    /// The mapping that the attempt was made under.
    pub mapping: Fingerprint,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Lane {
    pub link: Link,
    /// Events.
    queue: VecDeque<Waiting>,
    /// What operators asked.
    asked: VecDeque<Waiting>,
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
    /// could make a second contact, or the fields that the next request carries for the first time, or that a parked contact
    /// is parked no more.
    awaits_commit: bool,
    protections: Protections,
}

impl Lane {
    /// A lane for a contact whose link is `link`.
    pub fn new(link: Link, protections: Protections) -> Self {
        Self {
            link,
            queue: VecDeque::new(),
            asked: VecDeque::new(),
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
        if entry.is_asked() {
            return self.read_asked(entry, offset, forced);
        }
        let version = entry.version;
        let parked = self.link.open.as_ref().and_then(|open| open.entry.as_ref());
        let is_open = parked.is_some_and(|parked| parked.version == version);
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
            let older = open.entry.replace(entry);
            self.link.answered = version;
            let answers = older.into_iter().map(|older| Answer::superseded(older, version)).collect();
            return Decided { answers, offsets: vec![offset], link_changed: true };
        }
        self.queue.push_back(Waiting { entry, offset });
        Decided::default()
    }

    /// Takes what an operator asked.
    fn read_asked(&mut self, entry: Entry, offset: Offset, forced: bool) -> Decided {
        if offset < self.link.asked_until && self.protections.hold(Protection::Answered) {
            return Decided { offsets: vec![offset], ..Decided::default() };
        }
        self.forced |= forced;
        self.asked.push_back(Waiting { entry, offset });
        let mut decided = Decided::default();
        if self.flight.is_none() {
            self.obey_at_rest(&mut decided);
        }
        decided
    }

    /// Carries out what is for no attempt, once none is under way.
    fn obey_at_rest(&mut self, decided: &mut Decided) {
        // An operator's word of which contact it is stands, even if what was to be sent to it is given up.
        decided.link_changed |= self.take_in_links();
        while let Some(place) = self.asked.iter().position(|waiting| waiting.entry.is_skip()) {
            self.skip(place, decided);
        }
    }

    /// Gives up what waits, as the operator's entry at `place` of the queue says, and with it what was asked before that.
    fn skip(&mut self, place: usize, decided: &mut Decided) {
        let until = self.asked[place].entry.version;
        let newest = self.newest_event(until).map(|entry| entry.version);
        let parked = self.link.open.as_ref();
        let asked = place > 0 || parked.is_some_and(|open| open.asked.is_some());
        // A worker that died may have had a try of it under way. Of the entries that it began with we have `forced`; a
        // parked contact has none.
        let is_parked = parked.is_some();
        let doubted = self.forced || is_parked;
        let mut settled = Settled {
            version: newest.unwrap_or(until),
            outcome: OutcomeKind::Filtered,
            operation: None,
            reason: Some(ReasonCode::Skipped.into()),
            attempts: self.tries(),
        };
        if newest.is_some() || asked {
            self.link.doubted |= doubted;
            // While the log says that it is parked, a successor reckons with what the link has announced and nothing else.
            self.awaits_commit |= is_parked;
            self.tries = 0;
            self.not_before = None;
        } else {
            settled.outcome = OutcomeKind::Unchanged;
            settled.reason = Some(ReasonCode::NothingWaiting.into());
            settled.attempts = 0;
        }
        if newest.is_some() {
            self.settle_events(&settled, decided);
        }
        self.settle_asked(&settled, place, decided);
        let Waiting { entry, offset } = self.asked.pop_front().expect("those before it are gone");
        self.link.asked_until = offset + 1;
        decided.offsets.push(offset);
        decided.answers.push(Answer::settled(Entry { version: settled.version, ..entry }, &settled));
        decided.link_changed = true;
        if newest.is_some() {
            self.link.settled = Some(settled);
        }
    }

    /// Takes in what operators said of which contact of the CRM it is. Returns whether that is new.
    fn take_in_links(&mut self) -> bool {
        let mut is_new = false;
        for Waiting { entry, offset } in &self.asked {
            if let Some(link_to) = entry.link_to.as_ref().filter(|_| *offset >= self.link.linked_until) {
                self.link.take_in(link_to, *offset);
                is_new = true;
            }
        }
        // An intent that was made for the next attempt is gone with what it was made for.
        self.intended &= !is_new;
        is_new
    }

    /// Whether an attempt should begin now; `wall` decides for a parked event.
    pub fn is_ready(&self, now: Instant, wall: Timestamp) -> bool {
        self.flight.is_none()
            && !self.awaits_commit
            && self.not_before.is_none_or(|instant| instant <= now)
            && (self.is_waited_for()
                || match (&self.link.open, &self.link.waiting) {
                    (Some(open), _) => open.next_attempt <= wall,
                    (None, Some(waiting)) => waiting.next_look <= wall,
                    (None, None) => false,
                })
    }

    /// When a lane that is not ready becomes so by the passing of time alone. Parked events are woken through the
    /// view's index instead.
    pub fn wakes_at(&self) -> Option<Instant> {
        if !self.is_quiet() || !self.is_waited_for() { None } else { self.not_before }
    }

    /// Begins an attempt. The caller hands the end to [`Lane::end`].
    pub fn begin(&mut self) {
        assert!(self.flight.is_none(), "one request of a contact is in flight at most");
        assert!(!self.awaits_commit, "nothing is sent before what it rests on is committed");
        let woken = self.link.open.is_some();
        self.flight = Some(Flight { woken, asked: self.asked.len(), looks: !woken && !self.is_waited_for() });
        self.not_before = None;
    }

    /// What the next attempt is to do.
    pub fn task(&self) -> Task {
        let parked = self.link.open.as_ref().is_some_and(|open| open.asked.is_some());
        let anew = !self.asked.is_empty() || parked;
        let forced = self.is_forced();
        Task { link: self.link.clone(), forced, anew, intended: self.intended, tries: self.tries() }
    }

    /// Whether somebody whose results nobody has may have written.
    fn is_forced(&self) -> bool {
        self.forced || self.link.doubted
    }

    /// From here on the link itself says of each field what is certain.
    fn is_known(&mut self) {
        self.forced = false;
        self.link.doubted = false;
    }

    /// The newest entry that an attempt beginning now is for; `None`: it is for no entry.
    pub fn newest(&self) -> Option<&Entry> {
        let waiting = self.queue.back().or_else(|| self.asked.back()).map(|waiting| &waiting.entry);
        waiting.or_else(|| self.link.open.as_ref().and_then(|open| open.entries().next()))
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
        self.is_quiet() && !self.is_waited_for() && self.lost(now, landing_time).is_none()
    }

    /// Whether an attempt is under way.
    pub fn is_in_flight(&self) -> bool {
        self.flight.is_some()
    }

    /// Whether entries wait here, parked ones apart.
    fn is_waited_for(&self) -> bool {
        !self.queue.is_empty() || !self.asked.is_empty()
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

    /// Whether the attempt under way is for no entry, but to see whether other contacts are there.
    pub fn is_looking(&self) -> bool {
        self.flight.is_some_and(|flight| flight.looks)
    }

    /// Notes, after an attempt has ended, whether something is left to be said of other contacts (`None`: it did not come so
    /// far). `looked`: that is what the attempt was for. Returns whether the link has changed.
    pub fn looked(
        &mut self,
        looked: bool,
        waits: Option<bool>,
        wall: Timestamp,
        delay: impl FnOnce(u32) -> Duration,
    ) -> bool {
        if waits.unwrap_or(looked) {
            let looks = self.link.waiting.filter(|_| looked).map_or(0, |waiting| waiting.looks) + 1;
            let next_look = wall.saturating_add(delay(looks)).unwrap_or(Timestamp::MAX);
            self.link.waiting = Some(WaitingForOthers { looks, next_look });
            return true;
        }
        waits == Some(false) && self.link.waiting.take().is_some()
    }

    /// Takes the end of the attempt that [`Lane::begin`] began.
    pub fn end(&mut self, end: End, at: Circumstances) -> Decided {
        let mut decided = self.take_end(end, at);
        self.obey_at_rest(&mut decided);
        decided
    }

    fn take_end(&mut self, end: End, at: Circumstances) -> Decided {
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
                self.link.linked.take_if(|linked| *linked == Linked::New);
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
            End::Created { remote_ids, carried } => {
                self.intended = false;
                self.void(carried);
                self.link.remote_ids.extend(remote_ids);
                self.link.intent = None;
                self.link.incomplete = true;
                self.awaits_commit = true;
                Decided { link_changed: true, ..Decided::default() }
            }
            End::Part { remote_ids, sent } => {
                // As after a delivery: of each field the link says what is certain.
                self.intended = false;
                self.is_known();
                let is_new = !self.link.remote_ids.contains_key(REMOTE_CONTACT);
                self.link.incomplete |= is_new;
                self.link.sent = sent;
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
                let is_same = reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::SameProjection);
                if is_same && self.link.presence.is_some() {
                    self.link.mapping = Some(at.mapping);
                }
                if flight.looks && outcome == OutcomeKind::Unchanged && self.is_settled(version) {
                    // How that version ended stays as it was told.
                    return Decided { link_changed: true, ..Decided::default() };
                }
                let settled = Settled { version, outcome, operation: None, reason, attempts: self.tries() };
                self.settle(settled, flight, at)
            }
            End::Delivered { version, operation, accepted } => {
                // `lost` stays: a request that this one repeated may still land.
                let absent = accepted.presence == Presence::Absent;
                if absent {
                    self.link.forget_remote();
                } else {
                    self.link.sent = accepted.sent;
                    self.link.remote_ids.extend(accepted.remote_ids);
                    self.link.incomplete = false;
                    self.link.intent = None;
                    self.link.linked = None;
                    self.link.mapping = Some(at.mapping);
                }
                self.link.presence = Some(accepted.presence);
                self.is_known();
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
                self.settle(settled, flight, at)
            }
            End::Failed { version, failure, carried, lost } => {
                // A refusal says nothing about what a predecessor had sent.
                self.intended = false;
                let unknown = failure.effect == Effect::Unknown || self.is_forced() || flight.woken || flight.asked > 0;
                if unknown {
                    self.void(carried);
                }
                self.lost = lost.or(self.lost.take());
                if flight.looks {
                    // No entry waits for it, so it is neither answered nor parked; the next look tries again.
                    if failure.class == FailureClass::Gone {
                        self.forget(failure.effect);
                    }
                    return Decided { link_changed: true, ..Decided::default() };
                }
                let mut decided = self.fail(version, failure, flight, at);
                decided.link_changed |= unknown;
                decided
            }
        }
    }

    fn is_settled(&self, version: Version) -> bool {
        self.link.settled.as_ref().is_some_and(|settled| settled.version == version)
    }

    /// What may or may not have reached the CRM equals nothing any more. From here on the link says so, and not only this
    /// lane.
    fn void(&mut self, fields: Vec<Arc<str>>) {
        if self.protections.hold(Protection::VoidSent) {
            self.link.sent.extend(fields.into_iter().map(|field| (field, Sent::Void)));
        }
        self.is_known();
    }

    fn fail(&mut self, version: Version, failure: Failure, flight: Flight, at: Circumstances) -> Decided {
        match failure.class {
            FailureClass::Rejected => self.reject(version, failure.reason, flight, at),
            // One more try: whoever wrote at the same time has finished by then.
            FailureClass::Conflict if self.tries() >= 1 => {
                self.reject(version, Reason { code: ReasonCode::Conflict, ..failure.reason }, flight, at)
            }
            // The whole CRM waits, and no try is used up: the loop decides when.
            FailureClass::Throttled | FailureClass::Connection | FailureClass::Auth => Decided::default(),
            FailureClass::Gone if at.on_gone == OnGone::Drop => {
                self.reject(version, Reason { code: ReasonCode::Gone, ..failure.reason }, flight, at)
            }
            FailureClass::Gone | FailureClass::Transient | FailureClass::Conflict => {
                let gone = failure.class == FailureClass::Gone;
                if gone {
                    self.forget(failure.effect);
                }
                let mut decided = if self.is_expired(version, flight, at) {
                    self.expire(version, flight, at)
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
                self.link.incomplete = false;
                self.link.presence = None;
            }
        }
        self.awaits_commit = true;
    }

    /// Tries again: soon, or, after a few tries, later, with the contact parked.
    fn retry(&mut self, asked: Duration, flight: Flight, at: Circumstances) -> Decided {
        if flight.woken {
            return self.park_again(asked, flight, at);
        }
        self.tries += 1;
        if self.tries < at.tries_before_parking || at.paused {
            self.not_before = Some(at.now + at.retry_delay.max(asked));
            return Decided::default();
        }
        self.park(asked, flight, at)
    }

    /// The newest event that an attempt with `version` was for. The record may be newer than every entry that was read, and
    /// what is not read yet need not be old.
    fn newest_event(&self, version: Version) -> Option<&Entry> {
        let open = self.link.open.iter().filter_map(|open| open.entry.as_ref());
        let queued = self.queue.iter().map(|waiting| &waiting.entry);
        open.chain(queued).rfind(|entry| entry.version <= version)
    }

    /// Whether all that an attempt with `version` was for is too old to be tried again.
    fn is_expired(&self, version: Version, flight: Flight, at: Circumstances) -> bool {
        let Some(max_age) = at.max_age else { return false };
        let is_old = |entry: &Entry| entry.received_at.saturating_add(max_age).is_ok_and(|end| end <= at.wall);
        let parked = self.link.open.as_ref().and_then(|open| open.asked.as_ref());
        let asked = self.asked.iter().take(flight.asked).map(|waiting| &waiting.entry);
        let mut all = self.newest_event(version).into_iter().chain(parked).chain(asked).peekable();
        all.peek().is_some() && all.all(is_old)
    }

    fn expire(&mut self, version: Version, flight: Flight, at: Circumstances) -> Decided {
        let newest = self.newest_event(version).map(|entry| entry.version);
        let settled = Settled {
            version: newest.unwrap_or(version),
            outcome: OutcomeKind::Expired,
            operation: None,
            reason: Some(ReasonCode::MaxAge.into()),
            attempts: self.tries() + 1,
        };
        if newest.is_some() {
            return self.settle(settled, flight, at);
        }
        // No event was given up, so none that is still to be read may be told so.
        let mut decided = Decided { link_changed: true, ..Decided::default() };
        self.settle_asked(&settled, flight.asked, &mut decided);
        self.tries = 0;
        decided
    }

    fn reject(&mut self, version: Version, reason: Reason, flight: Flight, at: Circumstances) -> Decided {
        let attempts = self.tries() + 1;
        let outcome = OutcomeKind::Rejected;
        self.settle(Settled { version, outcome, operation: None, reason: Some(reason), attempts }, flight, at)
    }

    /// Answers every event up to the version that ended, and all that operators asked before the attempt began.
    fn settle(&mut self, settled: Settled, flight: Flight, at: Circumstances) -> Decided {
        let mut decided = Decided { link_changed: true, ..Decided::default() };
        self.settle_events(&settled, &mut decided);
        self.settle_asked(&settled, flight.asked, &mut decided);
        if let Some(open) = &mut self.link.open {
            // A newer event came meanwhile. What the contact was parked for has ended, so it need not wait.
            open.next_attempt = open.next_attempt.min(at.wall);
        }
        self.link.settled = Some(settled);
        self.tries = 0;
        decided
    }

    /// Answers every event up to the version that ended.
    fn settle_events(&mut self, settled: &Settled, decided: &mut Decided) {
        let version = settled.version;
        assert!(self.link.settled.as_ref().is_none_or(|before| before.version <= version), "versions settle in order");
        let answer = |entry: Entry| {
            if entry.version < version { Answer::superseded(entry, version) } else { Answer::settled(entry, settled) }
        };
        if let Some(open) = &mut self.link.open {
            decided.answers.extend(open.entry.take_if(|entry| entry.version <= version).map(answer));
        }
        while self.queue.front().is_some_and(|waiting| waiting.entry.version <= version) {
            let waiting = self.queue.pop_front().expect("just seen");
            self.link.answered = waiting.entry.version;
            decided.offsets.push(waiting.offset);
            decided.answers.push(answer(waiting.entry));
        }
    }

    /// Answers what operators asked: what is parked, and the first `count` that wait.
    fn settle_asked(&mut self, settled: &Settled, count: usize, decided: &mut Decided) {
        let answer = |entry: Entry| {
            // It tells the version that was driven.
            let version = entry.version.max(settled.version);
            Answer::settled(Entry { version, ..entry }, settled)
        };
        if let Some(open) = &mut self.link.open {
            decided.answers.extend(open.asked.take().map(answer));
        }
        self.link.open.take_if(|open| open.entries().next().is_none());
        for waiting in self.asked.drain(..count) {
            self.link.asked_until = waiting.offset + 1;
            decided.offsets.push(waiting.offset);
            decided.answers.push(answer(waiting.entry));
        }
    }

    /// Leaves the newest event, and what operators asked, to a later try and lets the partition go.
    fn park(&mut self, asked: Duration, flight: Flight, at: Circumstances) -> Decided {
        assert!(self.link.open.is_none(), "a contact has a parked event or a queue, never both");
        let mut decided = Decided { link_changed: true, ..Decided::default() };
        let newest = self.queue.pop_back();
        if let Some(newest) = &newest {
            let version = newest.entry.version;
            for waiting in self.queue.drain(..) {
                decided.offsets.push(waiting.offset);
                decided.answers.push(Answer::superseded(waiting.entry, version));
            }
            decided.offsets.push(newest.offset);
            self.link.answered = version;
        }
        self.link.open = Some(Open {
            entry: newest.map(|newest| newest.entry),
            asked: None,
            attempts: self.tries,
            next_attempt: self.due(at.parked_delay.max(asked), at),
        });
        self.park_asked(flight, &mut decided);
        self.tries = 0;
        self.not_before = None;
        decided
    }

    /// Leaves what operators asked before the attempt began to the next try of the parked contact.
    fn park_asked(&mut self, flight: Flight, decided: &mut Decided) {
        let open = self.link.open.as_mut().expect("the contact is parked");
        for waiting in self.asked.drain(..flight.asked) {
            self.link.asked_until = waiting.offset + 1;
            decided.offsets.push(waiting.offset);
            let version = waiting.entry.version;
            let older = open.asked.replace(waiting.entry);
            decided.answers.extend(older.map(|older| Answer::superseded(older, version)));
        }
    }

    fn park_again(&mut self, asked: Duration, flight: Flight, at: Circumstances) -> Decided {
        let next_attempt = self.due(at.parked_delay.max(asked), at);
        let open = self.link.open.as_mut().expect("a woken attempt is for a parked contact");
        open.attempts += 1;
        open.next_attempt = next_attempt;
        let mut decided = Decided { link_changed: true, ..Decided::default() };
        self.park_asked(flight, &mut decided);
        decided
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
