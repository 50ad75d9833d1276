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

use super::delivery::Task;
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
    /// Nothing was written, since the contact that a search found is not in the link yet: were it written to and the answer
    /// lost, nobody could find it by what it no longer holds.
    Found { remote_ids: BTreeMap<String, String> },
    /// A terminal result for the version carried, other than having been stored. `suspected` are the fields that somebody may
    /// have changed without being able to commit it.
    Judged { version: Version, outcome: OutcomeKind, reason: Option<Reason>, suspected: Vec<Arc<str>> },
    /// The CRM accepted it.
    Delivered { version: Version, operation: Operation, accepted: AcceptedState },
    /// The CRM did not accept it, or did not say.
    Failed { version: Version, failure: Failure, carried: Vec<Arc<str>>, lost: Option<Lost> },
}

/// What the CRM holds after a delivery.
#[derive(Debug, Clone, PartialEq)]
pub struct AcceptedState {
    pub sent: BTreeMap<Arc<str>, Sent>,
    pub presence: Presence,
    pub remote_ids: BTreeMap<String, String>,
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
            End::Found { remote_ids } => {
                self.intended = false;
                self.link.remote_ids.extend(remote_ids);
                self.awaits_commit = true;
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
                if accepted.presence == Presence::Absent {
                    self.link.forget_remote();
                } else {
                    self.link.sent = accepted.sent;
                    self.link.remote_ids.extend(accepted.remote_ids);
                    self.link.intent = None;
                }
                self.link.presence = Some(accepted.presence);
                self.forced = false;
                self.intended = false;
                self.awaits_commit = matches!(operation, Operation::Create | Operation::Adopt);
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
            _ if self.is_expired(version, at) => self.settle(Settled {
                version,
                outcome: OutcomeKind::Expired,
                operation: None,
                reason: Some(ReasonCode::MaxAge.into()),
                attempts: self.tries() + 1,
            }),
            FailureClass::Gone => {
                // Whatever it was is no more, and the next try makes another. A CRM that says so of each contact that it
                // just made is not driven to make them without end: it counts as a try.
                self.link.forget_remote();
                self.awaits_commit = true;
                let mut decided = self.retry(Duration::ZERO, flight, at);
                decided.link_changed = true;
                decided
            }
            FailureClass::Transient | FailureClass::Conflict => {
                let asked = failure.retry_after.map_or(Duration::ZERO, |asked| asked.delay(at.wall));
                self.retry(asked, flight, at)
            }
        }
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

    /// Whether the newest event that an attempt with `version` was for is too old to be tried again.
    fn is_expired(&self, version: Version, at: Circumstances) -> bool {
        let Some(max_age) = at.max_age else { return false };
        let open = self.link.open.iter().map(|open| &open.entry);
        let queued = self.queue.iter().map(|waiting| &waiting.entry);
        let carried = open.chain(queued).rfind(|entry| entry.version <= version);
        carried.is_some_and(|entry| entry.received_at.saturating_add(max_age).is_ok_and(|end| end <= at.wall))
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::contact::{ContactId, record::FORMAT};
    use crate::crm::RequestKind;

    const DEADLINE: Duration = Duration::from_secs(30);

    fn entry(version: Version) -> Entry {
        Entry {
            contact_id: ContactId(uuid::Uuid::nil()),
            version,
            event: None,
            received_at: Timestamp::UNIX_EPOCH,
            traceparent: None,
            cause: None,
            epoch: 1,
            format: FORMAT,
        }
    }

    fn lane() -> Lane {
        Lane::new(Link::new(ContactId(uuid::Uuid::nil())), Protections::default())
    }

    fn at(now: Instant) -> Circumstances {
        Circumstances {
            now,
            wall: Timestamp::UNIX_EPOCH,
            on_gone: OnGone::Recreate,
            max_age: None,
            paused: false,
            retry_delay: Duration::from_secs(1),
            parked_delay: Duration::from_secs(60),
            tries_before_parking: 2,
            landing_time: DEADLINE,
        }
    }

    fn request() -> Request {
        Request {
            method: http::Method::POST,
            path: "/contacts".into(),
            headers: Vec::new(),
            body: bytes::Bytes::new(),
            kind: RequestKind::Set,
        }
    }

    fn delivered(version: Version) -> End {
        let accepted = AcceptedState {
            sent: BTreeMap::from([("name".into(), Sent::Hash(version))]),
            presence: Presence::Active,
            remote_ids: BTreeMap::new(),
        };
        End::Delivered { version, operation: Operation::Update, accepted }
    }

    fn failed(version: Version, class: FailureClass, effect: Effect, sent_at: Instant) -> End {
        let failure = Failure { class, effect, reason: ReasonCode::Refused.into(), retry_after: None };
        let lost = (effect == Effect::Unknown).then(|| Lost { request: Arc::new(request()), sent_at });
        End::Failed { version, failure, carried: vec!["name".into()], lost }
    }

    /// Reads entries `versions` at offsets ten times as high.
    fn read(lane: &mut Lane, versions: impl IntoIterator<Item = Version>) -> Vec<Decided> {
        versions.into_iter().map(|version| lane.read(entry(version), version * 10, false)).collect()
    }

    fn answers(decided: &Decided) -> Vec<(Version, OutcomeKind, Option<Version>)> {
        decided.answers.iter().map(|answer| (answer.entry.version, answer.outcome, answer.by_version)).collect()
    }

    use OutcomeKind::{Delivered, Rejected, Superseded};

    #[tokio::test(start_paused = true)]
    async fn a_delivery_answers_all_entries_up_to_its_version_and_leaves_those_above() {
        let mut lane = lane();
        read(&mut lane, [1, 2, 3, 4]);
        lane.begin();
        let decided = lane.end(delivered(3), at(Instant::now()));
        let expected = [(1, Superseded, Some(3)), (2, Superseded, Some(3)), (3, Delivered, None)];
        assert_eq!(answers(&decided), expected);
        assert_eq!(decided.offsets, [10, 20, 30]);
        assert_eq!(lane.link.answered, 3);
        assert!(lane.is_ready(Instant::now(), Timestamp::UNIX_EPOCH), "4 waits for the next attempt");
    }

    #[tokio::test(start_paused = true)]
    async fn entries_read_after_their_version_ended_are_answered_without_an_attempt() {
        let mut lane = lane();
        read(&mut lane, [1]);
        lane.begin();
        lane.end(delivered(3), at(Instant::now()));
        let decided = read(&mut lane, [2, 3, 3, 1]);
        assert_eq!(answers(&decided[0]), [(2, Superseded, Some(3))]);
        assert_eq!(answers(&decided[1]), [(3, Delivered, None)]);
        for replay in &decided[2..] {
            assert_eq!((replay.answers.len(), replay.offsets.len(), replay.link_changed), (0, 1, false));
        }
        assert!(!lane.is_ready(Instant::now(), Timestamp::UNIX_EPOCH));
    }

    #[tokio::test(start_paused = true)]
    async fn a_contact_that_keeps_failing_is_parked_with_its_newest_event() {
        let mut lane = lane();
        let now = Instant::now();
        read(&mut lane, [1, 2]);
        lane.begin();
        let first = lane.end(failed(2, FailureClass::Transient, Effect::None, now), at(now));
        assert_eq!(first, Decided::default());
        assert_eq!(lane.wakes_at(), Some(now + Duration::from_secs(1)));
        lane.begin();
        let parked = lane.end(failed(2, FailureClass::Transient, Effect::None, now), at(now));
        assert_eq!(answers(&parked), [(1, Superseded, Some(2))]);
        assert_eq!(parked.offsets, [10, 20], "the partition moves on");
        let open = lane.link.open.as_ref().expect("parked");
        assert_eq!((open.entry.version, open.attempts, lane.link.answered), (2, 2, 2));
        assert_eq!(open.next_attempt, Timestamp::from_second(60).unwrap());
    }

    /// A lane with version 1 parked.
    fn parked(now: Instant) -> Lane {
        let mut lane = lane();
        read(&mut lane, [1]);
        for _ in 0..2 {
            lane.begin();
            lane.end(failed(1, FailureClass::Transient, Effect::None, now), at(now));
        }
        assert!(lane.link.open.is_some());
        lane
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_entry_takes_the_place_of_the_parked_one_at_once() {
        let mut lane = parked(Instant::now());
        let decided = read(&mut lane, [2]);
        assert_eq!(answers(&decided[0]), [(1, Superseded, Some(2))]);
        assert_eq!(decided[0].offsets, [20]);
        assert_eq!(lane.link.open.as_ref().map(|open| open.entry.version), Some(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_woken_attempt_answers_the_parked_event_only_if_it_carried_that_version() {
        let now = Instant::now();
        let mut lane = parked(now);
        lane.begin();
        read(&mut lane, [2]);
        let decided = lane.end(delivered(1), at(now));
        assert_eq!(answers(&decided), []);
        assert_eq!(lane.link.open.as_ref().map(|open| open.entry.version), Some(2));
        lane.begin();
        let decided = lane.end(delivered(2), at(now));
        assert_eq!(answers(&decided), [(2, Delivered, None)]);
        assert_eq!(lane.link.open, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_answer_voids_what_it_carried_at_once() {
        let mut lane = lane();
        let now = Instant::now();
        read(&mut lane, [1]);
        lane.begin();
        let decided = lane.end(failed(1, FailureClass::Transient, Effect::Unknown, now), at(now));
        assert!(decided.link_changed);
        assert_eq!(lane.link.sent.get("name"), Some(&Sent::Void));
        assert!(lane.lost(now + DEADLINE - Duration::from_millis(1), DEADLINE).is_some());
        assert!(lane.lost(now + DEADLINE, DEADLINE).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_request_is_remembered_beyond_a_repetition_that_succeeded() {
        let mut lane = lane();
        let now = Instant::now();
        read(&mut lane, [1]);
        lane.begin();
        lane.end(failed(1, FailureClass::Transient, Effect::Unknown, now), at(now));
        lane.begin();
        lane.end(delivered(1), at(now));
        assert!(lane.lost(now, DEADLINE).is_some(), "the first one may still land");
        assert!(!lane.is_idle(now, DEADLINE) && lane.is_idle(now + DEADLINE, DEADLINE));
    }

    #[tokio::test(start_paused = true)]
    async fn a_parked_contact_is_not_due_while_a_lost_request_may_still_land() {
        let mut lane = lane();
        let now = Instant::now();
        read(&mut lane, [1]);
        let soon = Circumstances { parked_delay: Duration::from_secs(5), tries_before_parking: 1, ..at(now) };
        lane.begin();
        lane.end(failed(1, FailureClass::Transient, Effect::Unknown, now), soon);
        assert_eq!(lane.link.open.as_ref().map(|open| open.next_attempt.as_second()), Some(30));
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_crm_is_paused_nothing_is_parked() {
        let mut lane = lane();
        let now = Instant::now();
        read(&mut lane, [1]);
        for _ in 0..10 {
            lane.begin();
            let paused = Circumstances { paused: true, ..at(now) };
            assert_eq!(lane.end(failed(1, FailureClass::Transient, Effect::None, now), paused), Decided::default());
        }
        assert_eq!(lane.link.open, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_of_the_connection_uses_up_no_try() {
        let mut lane = lane();
        let now = Instant::now();
        read(&mut lane, [1]);
        for class in [FailureClass::Connection, FailureClass::Auth, FailureClass::Throttled] {
            lane.begin();
            assert_eq!(lane.end(failed(1, class, Effect::None, now), at(now)), Decided::default());
        }
        assert_eq!(lane.tries(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_conflict_is_tried_once_more_and_then_rejected() {
        let mut lane = lane();
        let now = Instant::now();
        read(&mut lane, [1]);
        lane.begin();
        lane.end(failed(1, FailureClass::Conflict, Effect::None, now), at(now));
        lane.begin();
        let decided = lane.end(failed(1, FailureClass::Conflict, Effect::None, now), at(now));
        assert_eq!(answers(&decided), [(1, Rejected, None)]);
        assert_eq!(decided.answers[0].reason.as_ref().map(|reason| reason.code), Some(ReasonCode::Conflict));
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_sent_before_the_result_of_a_create_is_committed() {
        let mut lane = lane();
        let now = Instant::now();
        read(&mut lane, [1, 2]);
        lane.begin();
        let End::Delivered { accepted, .. } = delivered(1) else { unreachable!() };
        lane.end(End::Delivered { version: 1, operation: Operation::Create, accepted }, at(now));
        assert!(!lane.is_ready(now, Timestamp::UNIX_EPOCH));
        lane.committed();
        assert!(lane.is_ready(now, Timestamp::UNIX_EPOCH));
    }

    #[tokio::test(start_paused = true)]
    async fn a_contact_that_was_found_is_committed_before_it_is_written_to() {
        let mut lane = lane();
        read(&mut lane, [1]);
        lane.begin();
        let remote_ids = BTreeMap::from([("contact".to_owned(), "7".to_owned())]);
        let decided = lane.end(End::Found { remote_ids: remote_ids.clone() }, at(Instant::now()));
        assert!(decided.link_changed && decided.answers.is_empty() && lane.link.remote_ids == remote_ids);
        assert!(!lane.is_ready(Instant::now(), Timestamp::UNIX_EPOCH));
        lane.committed();
        assert!(lane.is_ready(Instant::now(), Timestamp::UNIX_EPOCH));
    }

    /// One step of the world around a lane.
    #[derive(Debug, Clone)]
    enum Step {
        Read,
        Record,
        Begin,
        End(u8),
        Replay,
    }

    proptest! {
        /// Whatever happens in whatever order, and from whatever offset entries are replayed: each entry gets exactly
        /// one outcome, and `answered` covers exactly those that have one or are parked.
        #[test]
        fn every_entry_is_answered_once(steps in prop::collection::vec(
            prop_oneof![
                4 => Just(Step::Read), 2 => Just(Step::Record), 4 => Just(Step::Begin),
                4 => (0_u8..6).prop_map(Step::End), 1 => Just(Step::Replay),
            ], 1..200)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let _guard = runtime.enter();
            let now = Instant::now();
            let mut lane = lane();
            // Entries exist up to `record`, were read up to `next`.
            let (mut record, mut next, mut carried) = (0, 1, None);
            let mut outcomes: BTreeMap<Version, u32> = BTreeMap::new();
            let mut note = |decided: Decided| {
                for answer in decided.answers {
                    *outcomes.entry(answer.entry.version).or_default() += 1;
                }
            };
            let finish = (0..3_000).map(|n| if n % 3 == 0 { Step::Read } else if n % 3 == 1 { Step::Begin } else { Step::End(0) });
            for step in steps.into_iter().chain(finish) {
                match step {
                    Step::Record => record += 1,
                    Step::Read if next <= record => {
                        note(lane.read(entry(next), next * 10, false));
                        next += 1;
                    }
                    // A successor: what was not committed is gone, reading starts at the lowest unanswered entry.
                    Step::Replay => {
                        lane = Lane::new(lane.link.clone(), Protections::default());
                        carried = None;
                        next = 1;
                    }
                    Step::Begin if lane.is_ready(now + DEADLINE * 1_000, Timestamp::MAX) => {
                        lane.begin();
                        carried = Some(record);
                    }
                    Step::End(how) if carried.is_some() => {
                        let version = carried.take().unwrap();
                        note(lane.end(match how {
                            0 | 1 => delivered(version),
                            2 => failed(version, FailureClass::Transient, Effect::Unknown, now),
                            3 => failed(version, FailureClass::Rejected, Effect::None, now),
                            4 => End::Withdrawn,
                            _ => failed(version, FailureClass::Connection, Effect::None, now),
                        }, at(now)));
                    }
                    _ => {}
                }
                prop_assert!(lane.queue.is_empty() || lane.link.open.is_none());
                prop_assert!(lane.queue.iter().all(|waiting| waiting.entry.version > lane.link.answered));
            }
            let expected: BTreeMap<Version, u32> = (1..=record).map(|version| (version, 1)).collect();
            prop_assert_eq!(outcomes, expected);
        }
    }
}
