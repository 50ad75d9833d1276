//! Attempts: which lanes begin one now, and what their ends mean for the lane and for the whole CRM.

use std::collections::{HashSet, VecDeque};

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::Membership;
use crate::{
    contact::{ContactId, Version},
    crm::FailureClass,
    event::{Entry, Operation, OutcomeKind, ReasonCode},
    log::Partition,
    pause::Ordered,
    protection::Protection,
    replicator::{
        Error, LastFailure,
        attempt::{Attempt, Attempted},
        gate::{Admission, PauseReason, Showed},
        lane::{Circumstances, End},
        retry::Schedule,
    },
    resolver,
    telemetry::{
        handled::Handled,
        traces::{self, Traces},
    },
};

/// Contacts to look at, each once, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Ready {
    order: VecDeque<(Partition, ContactId)>,
    members: HashSet<(Partition, ContactId)>,
}

impl Ready {
    pub(super) fn push(&mut self, partition: Partition, contact: ContactId) {
        if self.members.insert((partition, contact)) {
            self.order.push_back((partition, contact));
        }
    }

    pub(super) fn pop(&mut self) -> Option<(Partition, ContactId)> {
        let next = self.order.pop_front()?;
        self.members.remove(&next);
        Some(next)
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

impl Membership<'_> {
    pub(super) fn begin_attempts(&mut self) {
        let now = Instant::now();
        let wall = self.parts.clock.now();
        let deadline = self.parts.settings.landing_time();
        loop {
            if self.attempts.len() >= self.shared.way.contacts_max() {
                self.shared.way.concurrency.lock().is_full();
                return;
            }
            let admission = self.shared.way.gate.lock().admission(now);
            let probe = match admission {
                Admission::Open => false,
                Admission::Probe => true,
                Admission::ClosedUntil(_) | Admission::Probing | Admission::Stopped => return,
            };
            let Some((partition, contact)) = self.ready.pop() else { return };
            let Some(owned) = self.owned.get_mut(&partition) else { continue };
            if !owned.is_working() {
                // Cooling partitions look at all their lanes once they work.
                continue;
            }
            let Some(lane) = owned.lanes.get_mut(&contact) else { continue };
            if !lane.is_ready(now, wall) {
                if let Some(at) = lane.wakes_at() {
                    self.timers.insert((at, partition, contact));
                } else if lane.is_idle(now, deadline) {
                    self.resting.push_back((partition, contact));
                }
                continue;
            }
            lane.begin();
            let handled = handled(contact, lane.newest(), &self.parts.traces);
            if probe {
                self.shared.way.gate.lock().probe_begins();
            }
            let attempt = Attempt {
                shared: self.shared.clone(),
                member: self.handle.clone(),
                partition,
                assignment: owned.assignment,
                contact,
                task: lane.task(),
                lost: lane.lost(now, deadline).cloned(),
                probe,
                number: lane.tries() + 1,
                handled,
            };
            self.attempts.spawn(attempt.run());
        }
    }

    pub(super) fn attempted(&mut self, attempted: Attempted) -> Result<(), Error> {
        self.tell_attempt(&attempted);
        let Attempted { partition, assignment, contact, probe, answered, waits, handled, end, .. } = attempted;
        let end = end.map_err(|source| self.view_error(source))?;
        let now = Instant::now();
        let wall = self.parts.clock.now();
        let place = handled.place.clone();
        let paused = handled.within(|| self.report_to_gate(&end, Showed { probe, answered }, now, wall));
        if let End::Failed { failure, .. } = &end {
            if failure.class == FailureClass::Gone {
                self.parts.metrics.remote_contact_gone(&self.parts.name);
            }
            let last = LastFailure {
                class: failure.class,
                http_status: failure.reason.http_status,
                crm_code: failure.reason.crm_code.clone(),
                at: wall,
            };
            // Nobody is woken by it.
            self.status.send_if_modified(|status| {
                status.last_failure = Some(last);
                false
            });
        }
        let settings = &self.parts.settings;
        // Results of a lost assignment are dropped: whoever owns the partition now answers for it.
        let takes_any = !self.parts.protections.hold(Protection::AssignmentNumber);
        let Some(owned) = self.owned.get_mut(&partition).filter(|owned| owned.assignment == assignment || takes_any)
        else {
            return Ok(());
        };
        let lane = owned.lanes.get_mut(&contact).expect("a lane outlives its attempt");
        let tries = lane.tries() + 1;
        let quick = Schedule { first: settings.retry_delay, max: settings.retry_delay_max };
        let parked = Schedule { first: settings.parked_delay, max: settings.parked_delay_max };
        let circumstances = Circumstances {
            now,
            wall,
            paused,
            on_gone: self.parts.on_gone,
            max_age: settings.max_age,
            retry_delay: quick.delay(tries, &mut self.random),
            parked_delay: parked.delay(tries.saturating_sub(settings.tries_before_parking) + 1, &mut self.random),
            tries_before_parking: settings.tries_before_parking,
            landing_time: settings.landing_time(),
            mapping: self.parts.mapping,
        };
        let looked = lane.is_looking();
        let waits = match &end {
            End::Delivered { .. } | End::Judged { .. } => Some(Some(waits)),
            End::Failed { .. } => Some(None),
            // It goes on.
            _ => None,
        };
        let mut decided = lane.end(end, circumstances);
        for answer in &mut decided.answers {
            let (traceparent, outcome) = (answer.entry.traceparent.take(), answer.outcome);
            answer.entry.traceparent =
                self.parts.traces.answered(&place, traceparent.as_ref(), &self.parts.name, outcome);
        }
        if let Some(waits) = waits {
            decided.link_changed |= lane.looked(looked, waits, wall, |looks| parked.delay(looks, &mut self.random));
        }
        if lane.is_ready(now, wall) {
            self.ready.push(partition, contact);
        } else if let Some(at) = lane.wakes_at() {
            self.timers.insert((at, partition, contact));
        }
        owned.note(contact, decided);
        Ok(())
    }

    /// Tells the trace how an attempt ended, whoever owns the partition by now. One that sent nothing and came to no end, since
    /// something of our own has to come first, is none.
    fn tell_attempt(&self, attempted: &Attempted) {
        let Ok(end) = &attempted.end else { return };
        let told = told(end);
        if attempted.requests == 0 && !told.is_end {
            return;
        }
        let Handled { event, place, .. } = &attempted.handled;
        let crm = &self.parts.name;
        attempted.handled.clone().within(|| {
            debug!(%crm, attempt = attempted.number, outcome = told.outcome, "an attempt ended");
        });
        self.parts.traces.attempted(
            place,
            &traces::Attempted {
                crm,
                contact: attempted.contact,
                event: event.as_ref(),
                version: told.version,
                number: attempted.number,
                outcome: told.outcome,
                operation: told.operation,
                reason: told.reason,
                is_error: told.is_error,
                topic: &self.parts.topics.versions,
                partition: attempted.partition,
                shared: &attempted.shared_calls,
            },
        );
    }

    /// Tells the gate how the CRM behaved. Returns whether it is paused now.
    fn report_to_gate(&self, end: &End, showed: Showed, now: Instant, wall: Timestamp) -> bool {
        let mut gate = self.shared.way.gate.lock();
        let before = gate.paused();
        match end {
            End::Delivered { .. } => gate.answered(showed.probe),
            End::Failed { failure, .. } => {
                let asked =
                    failure.retry_after.map(|asked| asked.delay(wall)).unwrap_or(self.parts.settings.retry_delay);
                let hold = asked.min(self.parts.settings.retry_after_max);
                if failure.class == FailureClass::Throttled && showed.probe && !showed.answered {
                    gate.probe_put_off(now + hold);
                } else {
                    gate.failed(failure.class, hold, showed.probe, now);
                }
            }
            End::Withdrawn
            | End::MustWait { .. }
            | End::Announced { .. }
            | End::Intended { .. }
            | End::Found { .. }
            | End::Created { .. }
            | End::Part { .. }
            | End::Interrupted { .. }
            | End::Judged { .. } => gate.ended(showed),
        }
        let after = gate.paused();
        if before != after {
            if after.is_none() {
                self.shared.way.concurrency.lock().start_anew();
            }
            self.tell_pause(after, end);
        }
        after.is_some()
    }

    fn count_pause(&self, paused: Option<PauseReason>) {
        let crm = &self.parts.name;
        self.parts.metrics.crm_paused(crm, paused.is_some());
        self.parts.metrics.crm_pause_reason(crm, paused.map(PauseReason::as_str));
    }

    /// Follows what an operator said last of the CRM.
    pub(super) fn follow_orders(&self) -> Result<(), Error> {
        let crm = &self.parts.name;
        let ordered = resolver::state_in::<Ordered>(&self.parts.view, &Ordered::key(crm));
        let ordered = ordered.map_err(|source| Error::Order { crm: crm.clone(), source: Box::new(source) })?;
        let paused = ordered.is_some_and(|ordered| ordered.paused);
        let mut gate = self.shared.way.gate.lock();
        let before = gate.paused();
        gate.order(paused);
        let after = gate.paused();
        if before == after {
            return Ok(());
        }
        self.count_pause(after);
        match after {
            Some(PauseReason::Operator) => {
                warn!(%crm, "the CRM is paused by an operator: nothing is sent until it is resumed; explain tells who and why")
            }
            None => info!(%crm, "an operator resumed the CRM"),
            Some(reason) => {
                info!(%crm, reason = reason.as_str(), "an operator resumed the CRM, which is probed, since it was at fault")
            }
        }
        Ok(())
    }

    fn tell_pause(&self, paused: Option<PauseReason>, end: &End) {
        let crm = &self.parts.name;
        self.count_pause(paused);
        let failure = if let End::Failed { failure, .. } = end { Some(failure) } else { None };
        let status = failure.and_then(|failure| failure.reason.http_status);
        // What one status stands for, only the CRM's code tells: a wrong password, a locked account, a missing right.
        let code = failure.and_then(|failure| failure.reason.crm_code.as_deref());
        match paused {
            None => info!(%crm, "the CRM takes requests again"),
            Some(PauseReason::Credentials) => {
                error!(%crm, status, code, "the CRM is paused: it refuses the credential; \
                replace it where the configuration says it is read from")
            }
            Some(PauseReason::Connection) => {
                error!(%crm, status, code, "the CRM is paused: base URL, path or rights are wrong; \
                run check, or ask who administers it")
            }
            // Told when it was said.
            Some(PauseReason::Operator) => {}
            Some(PauseReason::Failing) => warn!(%crm, status, code, "the CRM is paused: contact after contact fails"),
        }
    }
}

/// What an attempt is for, for its log lines and its trace.
fn handled(contact: ContactId, newest: Option<&Entry>, traces: &Traces) -> Handled {
    Handled {
        contact: Some(contact),
        event: newest.and_then(|entry| entry.event.clone()),
        place: traces.begin(newest.and_then(|entry| entry.traceparent.as_ref())),
    }
}

/// The end of an attempt in words that do not change.
struct Told {
    outcome: &'static str,
    version: Option<Version>,
    operation: Option<Operation>,
    reason: Option<ReasonCode>,
    is_error: bool,
    /// The CRM, or the record, has decided it.
    is_end: bool,
}

fn told(end: &End) -> Told {
    let on_the_way =
        |outcome| Told { outcome, version: None, operation: None, reason: None, is_error: false, is_end: false };
    match end {
        End::Withdrawn => on_the_way("withdrawn"),
        End::MustWait { .. } => on_the_way("must_wait"),
        End::Announced { .. } => on_the_way("announced"),
        End::Intended { .. } => on_the_way("intended"),
        End::Found { .. } => on_the_way("found"),
        End::Created { .. } => on_the_way("created"),
        End::Part { .. } => on_the_way("part"),
        End::Interrupted { .. } => on_the_way("interrupted"),
        End::Judged { version, outcome, reason, .. } => Told {
            outcome: outcome.as_str(),
            version: Some(*version),
            operation: None,
            reason: reason.as_ref().map(|reason| reason.code),
            is_error: *outcome == OutcomeKind::Rejected,
            is_end: true,
        },
        End::Delivered { version, operation, .. } => Told {
            outcome: OutcomeKind::Delivered.as_str(),
            version: Some(*version),
            operation: Some(*operation),
            reason: None,
            is_error: false,
            is_end: true,
        },
        End::Failed { version, failure, .. } => Told {
            outcome: match failure.class {
                FailureClass::Transient => "transient",
                FailureClass::Throttled => "throttled",
                FailureClass::Auth => "auth",
                FailureClass::Conflict => "conflict",
                FailureClass::Rejected => "rejected",
                FailureClass::Gone => "gone",
                FailureClass::Connection => "connection",
            },
            version: Some(*version),
            operation: None,
            reason: Some(failure.reason.code),
            is_error: true,
            is_end: true,
        },
    }
}
