//! Deciding without consequences: the decider of a term, without lease, writer or input.
//!
//! For measurements of what one decider can do, apart from the log: what is decided goes back to the caller and nowhere
//! else. Reading, deciding, and what is ahead of the view are those of a term; [`Rehearsal::followed`] stands for the
//! horizon that a term takes from the log.

use std::{fmt, sync::Arc};

use jiff::Timestamp;

use super::{
    Parts, ResolverError,
    ahead::Bounds,
    decide::{Decider, Prepared, Read, Undecided, prepare},
    read, resolve,
};
use crate::{identity::Decision, log::Record};

/// Decides batches of input records, one after the other.
pub struct Rehearsal {
    decider: Decider,
    read: Arc<Read>,
}

/// Input records that were read.
#[derive(Debug)]
pub struct Batch(Vec<Prepared>);

impl fmt::Debug for Rehearsal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rehearsal").field("epoch", &self.decider.epoch).finish_non_exhaustive()
    }
}

impl Rehearsal {
    /// As the active resolver of term `epoch` would, from the view and by the rules of `parts`.
    pub fn new(parts: &Parts, epoch: u64) -> Self {
        Self { decider: Decider::new(parts, resolve(), Bounds::default(), epoch), read: read(parts) }
    }

    /// Reads a batch.
    pub fn read(&self, records: Vec<Record>) -> Batch {
        Batch(prepare(records, &*self.read))
    }

    /// Decides a batch as if it were committed at once.
    ///
    /// # Errors
    /// If the view cannot be read, or decisions keep panicking.
    pub fn decide(&mut self, Batch(events): Batch, now: Timestamp) -> Result<Vec<Decision>, ResolverError> {
        match self.decider.decide(events, now) {
            Ok(batch) => {
                self.decider.ahead.committed();
                Ok(batch.events.into_iter().map(|decided| decided.decision).collect())
            }
            Err(undecided) => {
                self.decider.ahead.discard();
                Err(match undecided {
                    Undecided::View(failure) => failure.into(),
                    Undecided::Panics { in_a_row, last } => ResolverError::Panics { in_a_row, last },
                })
            }
        }
    }

    /// The view has followed everything that was decided.
    pub fn followed(&mut self) {
        self.decider.ahead.set_horizon(Vec::new());
        self.decider.ahead.retire(&self.decider.view);
    }
}
