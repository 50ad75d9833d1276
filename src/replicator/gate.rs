//! Whether a CRM is taking requests: open, held for a while, or paused and probed.
//!
//! A refusal that concerns the whole connection says nothing about the contact it met, so it must not use up the
//! contact's tries: the gate closes, the queue stays, and single probes find out when the CRM is itself again. So does one
//! after the patience that a CRM asked for is over: it may ask for more, and need not say so to each of those who wait.
//!
//! An operator may close it, too, whatever it is otherwise; then nothing passes, not even a probe, before they open it again.
//!
//! Only a probe opens the gate that a fault closed. What was sent before it closed may still be answered well, and proves nothing.
//!
//! No I/O and no clock: each method takes the instant.

use std::time::Duration;

use tokio::time::Instant;

use super::retry::Schedule;
use crate::crm::FailureClass;

/// Why a CRM is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PauseReason {
    /// Too many contacts in a row failed, with no success between them.
    Failing,
    /// The credential is refused.
    Credentials,
    /// The connection itself is at fault: a missing right, a wrong base URL, a redirect.
    Connection,
    /// An operator said so, and only they can say otherwise. There may be a fault besides.
    Operator,
}

impl PauseReason {
    /// As in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failing => "failing",
            Self::Credentials => "credentials",
            Self::Connection => "connection",
            Self::Operator => "operator",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The CRM asked for patience.
    Held {
        until: Instant,
        probing: bool,
    },
    Paused {
        reason: PauseReason,
        probe_at: Instant,
        probes: u32,
        probing: bool,
    },
}

/// What may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    Open,
    /// One delivery, all of its requests, to see whether the CRM is itself again.
    Probe,
    /// Nothing before this instant.
    ClosedUntil(Instant),
    /// Nothing while a probe is under way.
    Probing,
    /// Nothing before an operator says so.
    Stopped,
}

/// What an attempt showed of the CRM, whatever became of the contact.
#[derive(Debug, Clone, Copy)]
pub struct Showed {
    /// It was admitted as a probe.
    pub probe: bool,
    /// The CRM answered on the way.
    pub answered: bool,
}

#[derive(Debug, Clone)]
pub struct Gate {
    state: State,
    /// An operator keeps it closed.
    ordered: bool,
    /// Failures of contacts since the last success.
    failures: u32,
    failures_before_pause: u32,
    probes: Schedule,
}

impl Gate {
    pub fn new(failures_before_pause: u32, probes: Schedule) -> Self {
        Self { state: State::Open, ordered: false, failures: 0, failures_before_pause, probes }
    }

    pub fn admission(&self, now: Instant) -> Admission {
        match self.state {
            _ if self.ordered => Admission::Stopped,
            State::Open => Admission::Open,
            State::Held { probing: true, .. } | State::Paused { probing: true, .. } => Admission::Probing,
            State::Held { until, .. } if until <= now => Admission::Probe,
            State::Held { until, .. } => Admission::ClosedUntil(until),
            State::Paused { probe_at, .. } if probe_at <= now => Admission::Probe,
            State::Paused { probe_at, .. } => Admission::ClosedUntil(probe_at),
        }
    }

    pub fn paused(&self) -> Option<PauseReason> {
        match self.state {
            _ if self.ordered => Some(PauseReason::Operator),
            State::Paused { reason, .. } => Some(reason),
            State::Open | State::Held { .. } => None,
        }
    }

    /// An operator's word: whether nothing may pass. What is under way may end, and shows what it shows.
    pub fn order(&mut self, paused: bool) {
        self.ordered = paused;
    }

    /// Whether a request may leave that was admitted when its delivery began, as a probe or not.
    pub fn still_admits(&self, probe: bool, now: Instant) -> bool {
        !self.ordered && (probe || self.admission(now) == Admission::Open)
    }

    /// The admitted probe begins.
    pub fn probe_begins(&mut self) {
        let (State::Held { probing, .. } | State::Paused { probing, .. }) = &mut self.state else {
            unreachable!("an open gate needs no probe")
        };
        *probing = true;
    }

    /// The probe ended without having been sent.
    pub fn probe_withdrawn(&mut self) {
        if let State::Held { probing, .. } | State::Paused { probing, .. } = &mut self.state {
            *probing = false;
        }
    }

    /// The probe ended without having asked anything of the CRM, because it must wait for its credential: what the gate is
    /// closed for is not disproved.
    pub fn probe_put_off(&mut self, until: Instant) {
        match &mut self.state {
            State::Open => {}
            State::Held { until: at, probing } | State::Paused { probe_at: at, probing, .. } => {
                (*at, *probing) = (until.max(*at), false);
            }
        }
    }

    /// An attempt ended that neither failed nor delivered. With an answer on the way, if only to a search, the CRM is at
    /// work; a probe without one has not probed.
    pub fn ended(&mut self, showed: Showed) {
        match showed {
            Showed { answered: true, probe } => self.answered(probe),
            Showed { probe: true, answered: false } => self.probe_withdrawn(),
            Showed { probe: false, answered: false } => {}
        }
    }

    /// A request was answered in a way that shows the CRM at work: accepted, or refused for the contact's own sake.
    pub fn answered(&mut self, probe: bool) {
        self.failures = 0;
        if probe {
            self.state = State::Open;
        }
    }

    /// A request failed, the probe or another. `hold` is how long the whole CRM asked us to wait (429).
    pub fn failed(&mut self, class: FailureClass, hold: Duration, probe: bool, now: Instant) {
        match class {
            FailureClass::Rejected | FailureClass::Conflict | FailureClass::Gone => self.answered(probe),
            FailureClass::Throttled => self.hold(now + hold, probe),
            FailureClass::Auth => self.pause(PauseReason::Credentials, probe, now),
            FailureClass::Connection => self.pause(PauseReason::Connection, probe, now),
            FailureClass::Transient => {
                self.failures = self.failures.saturating_add(1);
                if probe || self.failures >= self.failures_before_pause {
                    self.pause(PauseReason::Failing, probe, now);
                }
            }
        }
    }

    fn hold(&mut self, until: Instant, probe: bool) {
        self.state = match self.state {
            // The CRM is there, but asks for patience, whatever it was closed for.
            _ if probe => State::Held { until, probing: false },
            State::Open => State::Held { until, probing: false },
            State::Held { until: before, probing } => State::Held { until: before.max(until), probing },
            // An older request: what paused the CRM is not disproved, and the probe must be as patient as all others.
            State::Paused { reason, probe_at, probes, probing } => {
                State::Paused { reason, probe_at: probe_at.max(until), probes, probing }
            }
        };
    }

    fn pause(&mut self, reason: PauseReason, probe: bool, now: Instant) {
        let first_probe = now + self.probes.step(1);
        self.state = match self.state {
            State::Open => State::Paused { reason, probe_at: first_probe, probes: 1, probing: false },
            // The CRM asked for patience before, and a probe is a request too.
            State::Held { until, probing } => {
                State::Paused { reason, probe_at: first_probe.max(until), probes: 1, probing: probing && !probe }
            }
            State::Paused { probes, .. } if probe => {
                let probes = probes.saturating_add(1);
                State::Paused { reason, probe_at: now + self.probes.step(probes), probes, probing: false }
            }
            // Failures of requests that were sent before the pause say nothing new.
            paused @ State::Paused { .. } => paused,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate() -> Gate {
        Gate::new(3, Schedule { first: Duration::from_secs(1), max: Duration::from_secs(4) })
    }

    #[tokio::test(start_paused = true)]
    async fn failures_in_a_row_pause_and_a_good_probe_opens() {
        let (mut gate, now) = (gate(), Instant::now());
        gate.failed(FailureClass::Transient, Duration::ZERO, false, now);
        gate.failed(FailureClass::Transient, Duration::ZERO, false, now);
        gate.answered(false);
        for _ in 0..3 {
            assert_eq!(gate.admission(now), Admission::Open);
            gate.failed(FailureClass::Transient, Duration::ZERO, false, now);
        }
        assert_eq!(gate.paused(), Some(PauseReason::Failing));
        let probe_at = now + Duration::from_secs(1);
        assert_eq!(gate.admission(now), Admission::ClosedUntil(probe_at));
        assert_eq!(gate.admission(probe_at), Admission::Probe);
        gate.probe_begins();
        assert_eq!(gate.admission(probe_at), Admission::Probing);
        gate.answered(false);
        assert_eq!(gate.admission(probe_at), Admission::Probing, "it was sent before the pause");
        gate.answered(true);
        assert_eq!(gate.admission(probe_at), Admission::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn failed_probes_come_at_growing_distance_up_to_the_cap() {
        let (mut gate, mut now) = (gate(), Instant::now());
        gate.failed(FailureClass::Connection, Duration::ZERO, false, now);
        for seconds in [1, 2, 4, 4] {
            let Admission::ClosedUntil(probe_at) = gate.admission(now) else { panic!("the gate is closed") };
            assert_eq!(probe_at - now, Duration::from_secs(seconds));
            now = probe_at;
            gate.probe_begins();
            gate.failed(FailureClass::Transient, Duration::ZERO, true, now);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_opens_with_any_answer_and_without_one_is_still_to_be_made() {
        let (mut gate, now) = (gate(), Instant::now());
        gate.failed(FailureClass::Connection, Duration::ZERO, false, now);
        let Admission::ClosedUntil(probe_at) = gate.admission(now) else { panic!("the gate is closed") };
        gate.probe_begins();
        gate.ended(Showed { probe: false, answered: false });
        assert_eq!(gate.admission(probe_at), Admission::Probing);
        gate.ended(Showed { probe: true, answered: false });
        assert_eq!(gate.admission(probe_at), Admission::Probe);
        gate.probe_begins();
        gate.ended(Showed { probe: true, answered: true });
        assert_eq!((gate.admission(probe_at), gate.paused()), (Admission::Open, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_must_wait_for_its_credential_proves_nothing() {
        let (mut gate, now) = (gate(), Instant::now());
        let until = now + Duration::from_secs(9);
        for close in [
            |gate: &mut Gate, now| gate.failed(FailureClass::Connection, Duration::ZERO, false, now),
            |gate: &mut Gate, now| gate.failed(FailureClass::Throttled, Duration::ZERO, true, now),
        ] {
            close(&mut gate, now);
            let paused = gate.paused();
            gate.probe_begins();
            gate.probe_put_off(until);
            assert_eq!((gate.paused(), gate.admission(now)), (paused, Admission::ClosedUntil(until)));
            assert_eq!(gate.admission(until), Admission::Probe);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_lasts_until_the_latest_moment_asked_for() {
        let (mut gate, now) = (gate(), Instant::now());
        gate.failed(FailureClass::Throttled, Duration::from_secs(9), false, now);
        gate.failed(FailureClass::Throttled, Duration::from_secs(2), false, now);
        gate.answered(false);
        assert_eq!(gate.admission(now), Admission::ClosedUntil(now + Duration::from_secs(9)));
        assert_eq!(gate.admission(now + Duration::from_secs(9)), Admission::Probe);
        assert_eq!(gate.paused(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_hold_one_request_finds_out_whether_it_is_over() {
        let (mut gate, mut now) = (gate(), Instant::now());
        gate.failed(FailureClass::Throttled, Duration::from_secs(2), false, now);
        now += Duration::from_secs(2);
        gate.probe_begins();
        assert_eq!(gate.admission(now), Admission::Probing);
        // An older request was refused, too, and its answer came late.
        gate.failed(FailureClass::Throttled, Duration::from_secs(1), false, now);
        assert_eq!(gate.admission(now), Admission::Probing);
        gate.failed(FailureClass::Throttled, Duration::from_secs(3), true, now);
        assert_eq!(gate.admission(now), Admission::ClosedUntil(now + Duration::from_secs(3)));
        now += Duration::from_secs(3);
        gate.probe_begins();
        gate.answered(true);
        assert_eq!(gate.admission(now), Admission::Open);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_fails_after_a_hold_pauses() {
        let (mut gate, mut now) = (gate(), Instant::now());
        gate.failed(FailureClass::Throttled, Duration::from_secs(2), false, now);
        now += Duration::from_secs(2);
        gate.probe_begins();
        gate.failed(FailureClass::Transient, Duration::ZERO, true, now);
        assert_eq!(gate.paused(), Some(PauseReason::Failing));
        assert_eq!(gate.admission(now), Admission::ClosedUntil(now + Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_during_a_hold_is_not_probed_before_the_hold_ends() {
        let (mut gate, now) = (gate(), Instant::now());
        let until = now + Duration::from_secs(9);
        gate.failed(FailureClass::Throttled, Duration::from_secs(9), false, now);
        for _ in 0..3 {
            gate.failed(FailureClass::Transient, Duration::ZERO, false, now);
        }
        assert_eq!(gate.paused(), Some(PauseReason::Failing));
        assert_eq!(gate.admission(now), Admission::ClosedUntil(until));
        assert_eq!(gate.admission(until), Admission::Probe);
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_operator_closed_nothing_opens_but_an_operator() {
        let (mut gate, now) = (gate(), Instant::now());
        assert!(gate.still_admits(false, now));
        gate.order(true);
        assert_eq!((gate.admission(now), gate.paused()), (Admission::Stopped, Some(PauseReason::Operator)));
        // What was under way ends well.
        gate.answered(false);
        gate.order(true);
        let later = now + Duration::from_secs(3600);
        assert_eq!((gate.admission(later), gate.still_admits(false, later)), (Admission::Stopped, false));
        gate.order(false);
        assert_eq!((gate.admission(later), gate.paused()), (Admission::Open, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_fault_stays_one_under_an_operators_pause_and_is_probed_afterwards() {
        let (mut gate, now) = (gate(), Instant::now());
        gate.failed(FailureClass::Connection, Duration::ZERO, false, now);
        let probe_at = now + Duration::from_secs(1);
        gate.probe_begins();
        assert!(gate.still_admits(true, probe_at));
        gate.order(true);
        assert!(!gate.still_admits(true, probe_at), "the rest of a probe stays here, too");
        gate.ended(Showed { probe: true, answered: false });
        assert_eq!((gate.admission(probe_at), gate.paused()), (Admission::Stopped, Some(PauseReason::Operator)));
        gate.order(false);
        assert_eq!((gate.admission(probe_at), gate.paused()), (Admission::Probe, Some(PauseReason::Connection)));
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_of_single_contacts_never_pause() {
        let (mut gate, now) = (gate(), Instant::now());
        for _ in 0..100 {
            gate.failed(FailureClass::Rejected, Duration::ZERO, false, now);
        }
        assert_eq!(gate.admission(now), Admission::Open);
    }
}
