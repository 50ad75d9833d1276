//! From input records to decisions: read each (in any order, on any thread), then decide one after the other.
//!
//! A panic in either is our bug, but the event that shows it must not stop everybody else's: the event is quarantined
//! with `internal_error`, and nothing of its decision remains, because a decision is a value until it is taken over.
//! Several in a row are no longer about the events; then nothing of the batch is published and the worker stops, so
//! that a bad release cannot empty the input into the dead letters.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use jiff::Timestamp;
use tracing::error;

use super::{
    Parts,
    ahead::{Ahead, Bounds, Newest},
};
use crate::{
    event::{
        EventRef, ReasonCode,
        change::{Change, Fault},
        traceparent,
    },
    identity::{Answer, Context, Decision, Known, Policy},
    log::{Offset, Record, TopicPartition},
    privacy::Hasher,
    telemetry::{
        handled::Handled,
        traces::{Place, Traces},
    },
    view::{View, ViewError},
};

/// Turns an input record into a change.
pub(super) type Read = dyn Fn(&Record) -> Result<Change, Fault> + Send + Sync;

/// Decides one change; [`crate::identity::resolve`] outside tests.
pub(super) type Resolve =
    dyn Fn(&Change, &dyn Known<Error = ViewError>, &Context) -> Result<Decision, ViewError> + Send + Sync;

/// An input record that was read.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) input: Record,
    pub(super) read: Result<Change, Fault>,
}

/// Input records in the order in which they will be decided, and the positions that are reached with them.
#[derive(Debug, Default)]
pub(super) struct PreparedBatch {
    pub(super) events: Vec<Prepared>,
    pub(super) positions: Vec<(TopicPartition, Offset)>,
}

/// An input record with what became of it.
#[derive(Debug)]
pub(super) struct Decided {
    pub(super) input: Record,
    pub(super) event: EventRef,
    /// Where the decision stands in the trace of the event.
    pub(super) place: Place,
    pub(super) ignored_attributes: u32,
    pub(super) decision: Decision,
}

/// What was decided together and will be published together.
#[derive(Debug)]
pub(super) struct DecidedBatch {
    pub(super) events: Vec<Decided>,
    /// The moment of these decisions.
    pub(super) now: Timestamp,
}

/// Why a batch was not decided.
#[derive(Debug, thiserror::Error)]
pub(super) enum Undecided {
    #[error("a look-up failed")]
    View(#[from] ViewError),
    #[error("{in_a_row} decisions in a row failed by a fault of this program, the last at {last}")]
    Panics { in_a_row: u32, last: String },
}

/// Reads input records. Nothing here depends on what is known, so batches may be read ahead.
pub(super) fn prepare(records: Vec<Record>, read: &Read) -> Vec<Prepared> {
    records
        .into_iter()
        .map(|input| {
            let read = catch_unwind(AssertUnwindSafe(|| read(&input)))
                .unwrap_or_else(|_payload| Err(internal_error(&input, EventRef::at(&input))));
            Prepared { input, read }
        })
        .collect()
}

/// The serial decider of one term.
pub(super) struct Decider {
    pub(super) view: View,
    pub(super) ahead: Ahead,
    pub(super) resolve: Arc<Resolve>,
    pub(super) epoch: u64,
    pub(super) hasher: Hasher,
    pub(super) source_priority: Arc<[Arc<str>]>,
    pub(super) policy: Arc<Policy>,
    pub(super) traces: Traces,
    pub(super) panics_in_a_row_max: u32,
    pub(super) panics_in_a_row: u32,
}

impl Decider {
    /// The decider of the term `epoch`, to which nothing is ahead of the view yet.
    pub(super) fn new(parts: &Parts, resolve: Arc<Resolve>, bounds: Bounds, epoch: u64) -> Self {
        Self {
            view: parts.view.clone(),
            ahead: Ahead::new(bounds, parts.protections),
            resolve,
            epoch,
            hasher: parts.hasher.clone(),
            source_priority: Arc::clone(&parts.source_priority),
            policy: Arc::clone(&parts.policy),
            traces: parts.traces.clone(),
            panics_in_a_row_max: parts.settings.panics_in_a_row_max,
            panics_in_a_row: 0,
        }
    }

    /// Decides events in order; later ones see the decisions on earlier ones.
    ///
    /// # Errors
    /// [`Undecided`]; the batch of [`Ahead`] is then to be discarded.
    pub(super) fn decide(&mut self, prepared: Vec<Prepared>, now: Timestamp) -> Result<DecidedBatch, Undecided> {
        let context = Context {
            epoch: self.epoch,
            now,
            hasher: self.hasher.clone(),
            source_priority: Arc::clone(&self.source_priority),
            policy: Arc::clone(&self.policy),
        };
        let mut events = Vec::with_capacity(prepared.len());
        for prepared in prepared {
            events.push(self.decide_one(prepared, &context)?);
        }
        Ok(DecidedBatch { events, now })
    }

    fn decide_one(&mut self, Prepared { input, read }: Prepared, context: &Context) -> Result<Decided, Undecided> {
        let (event, place, ignored_attributes, decision) = match read {
            Err(fault) => {
                let place = self.traces.begin(traceparent::of_headers(&input).as_ref());
                (fault.event.clone(), place, 0, quarantined(fault))
            }
            Ok(change) => {
                let place = self.traces.begin(change.traceparent.as_ref());
                let known = Newest { ahead: &self.ahead, view: &self.view };
                let decide = || {
                    catch_unwind(AssertUnwindSafe(|| (self.resolve)(&change, &known, context)))
                        .unwrap_or_else(|_payload| Ok(quarantined(internal_error(&input, change.event.clone()))))
                };
                let handled = Handled { contact: None, event: Some(change.event.clone()), place: place.clone() };
                let mut decision = handled.within(decide)?;
                if self.traces.is_on() {
                    // What the replicators do comes after this decision.
                    for entry in &mut decision.entries {
                        entry.traceparent = place.traceparent().cloned();
                    }
                }
                (change.event, place, change.ignored_attributes, decision)
            }
        };
        let panicked =
            matches!(&decision.answer, Answer::DeadLetters(fault) if fault.code == ReasonCode::InternalError);
        self.panics_in_a_row = if panicked { self.panics_in_a_row + 1 } else { 0 };
        if self.panics_in_a_row >= self.panics_in_a_row_max {
            let last = format!("{}@{}", input.at, input.offset);
            return Err(Undecided::Panics { in_a_row: self.panics_in_a_row, last });
        }
        self.ahead.decided(&decision);
        Ok(Decided { input, event, place, ignored_attributes, decision })
    }
}

/// An event that goes to the dead letters.
pub(super) fn quarantined(fault: Fault) -> Decision {
    Decision::without_effect(Answer::DeadLetters(fault))
}

/// The payload of a panic may quote what it choked on, so only the place is told.
fn internal_error(input: &Record, event: EventRef) -> Fault {
    error!(topic = %input.at.topic, partition = input.at.partition, offset = input.offset, "a decision panicked; its event is quarantined");
    Fault { code: ReasonCode::InternalError, pointer: None, event }
}
