//! Decisions that are ahead of the view: those of the batch at hand, and those committed but not yet followed.
//!
//! A look-up asks here first and the view second. A batch is kept when its transaction was committed, and vanishes when
//! it was not. Kept decisions leave when the view has passed a [`Horizon`] that was taken after their commit; decoded
//! records stay with them, so that a busy contact is not read and parsed anew for each of its changes.
//!
//! Bounded: above [`Bounds::max`] the term waits for the follower before it decides more.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    contact::{ContactId, ContactRecord},
    identity::{
        Decision, Known,
        keys::{KeyEntry, KeyHash},
    },
    log::{Offset, TopicPartition},
    protection::{Protection, Protections},
    view::{
        View, ViewError,
        overlay::{Generation, Horizon, Overlay},
    },
};

/// How much may be ahead of the view, in bytes of encoded records and keys. Decoded they take about three times that.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// From here on a horizon is taken, to let go of what is behind it.
    pub(super) let_go: usize,
    /// Above it, the term waits for the view before it decides more.
    pub(super) max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { let_go: 8 << 20, max: 64 << 20 }
    }
}

/// What a decision costs beside its encoded record, roughly, in bytes.
const OVERHEAD_BYTES: usize = 512;

#[derive(Debug)]
pub(super) struct Ahead {
    keys: Overlay<KeyHash, Arc<KeyEntry>>,
    records: Overlay<ContactId, Arc<ContactRecord>>,
    /// Of the batch at hand.
    generation: Generation,
    /// Bytes of each generation that is kept, and of the batch. Values that were replaced count until theirs leaves.
    bytes: BTreeMap<Generation, usize>,
    horizon: Option<Horizon>,
    bounds: Bounds,
    /// Look-ups ask here at all.
    is_read: bool,
}

impl Ahead {
    pub(super) fn new(bounds: Bounds, protections: Protections) -> Self {
        Self {
            keys: Overlay::new(),
            records: Overlay::new(),
            generation: 1,
            bytes: BTreeMap::new(),
            horizon: None,
            bounds,
            is_read: protections.hold(Protection::Overlay),
        }
    }

    /// Adds a decision to the batch.
    pub(super) fn decided(&mut self, decision: &Decision) {
        let bytes = self.bytes.entry(self.generation).or_default();
        for new in &decision.keys {
            *bytes += OVERHEAD_BYTES;
            self.keys.insert(new.hash, Arc::clone(&new.entry), self.generation);
        }
        for new in &decision.records {
            *bytes += OVERHEAD_BYTES + new.encoded.len();
            self.records.insert(new.record.contact_id, Arc::clone(&new.record), self.generation);
        }
    }

    /// The batch was committed.
    pub(super) fn committed(&mut self) {
        self.keys.committed(self.generation);
        self.records.committed(self.generation);
        self.generation += 1;
    }

    /// The batch was not committed.
    pub(super) fn discard(&mut self) {
        self.keys.discard();
        self.records.discard();
        self.bytes.remove(&self.generation);
        self.generation += 1;
    }

    fn bytes(&self) -> usize {
        self.bytes.values().sum()
    }

    /// Whether nothing more may be decided before the view has come nearer.
    pub(super) fn is_full(&self) -> bool {
        self.bytes() > self.bounds.max
    }

    /// Whether it is time to take the ends of the partitions that decisions go to.
    pub(super) fn wants_horizon(&self) -> bool {
        self.horizon.is_none() && self.bytes() >= self.bounds.let_go
    }

    /// `ends` were taken after the last commit, of all partitions that decisions go to.
    pub(super) fn set_horizon(&mut self, ends: Vec<(TopicPartition, Offset)>) {
        self.horizon = Some(Horizon { generation: self.generation - 1, ends });
    }

    /// What the view must reach before anything leaves; `None` without a horizon.
    pub(super) fn horizon(&self) -> Option<&Horizon> {
        self.horizon.as_ref()
    }

    /// Lets go of what the view has by now.
    pub(super) fn retire(&mut self, view: &View) {
        let Some(horizon) = self.horizon.take_if(|horizon| horizon.is_passed(view)) else {
            return;
        };
        self.keys.retire_through(horizon.generation);
        self.records.retire_through(horizon.generation);
        self.bytes = self.bytes.split_off(&(horizon.generation + 1));
    }
}

/// The view, with what is ahead of it first.
#[derive(Debug)]
pub(super) struct Newest<'a> {
    pub(super) ahead: &'a Ahead,
    pub(super) view: &'a View,
}

impl Known for Newest<'_> {
    type Error = ViewError;

    fn key(&self, key: KeyHash) -> Result<Option<Arc<KeyEntry>>, ViewError> {
        match self.ahead.keys.get(&key).filter(|_| self.ahead.is_read) {
            Some(entry) => Ok(Some(Arc::clone(entry))),
            None => Ok(self.view.key(key)?.map(Arc::new)),
        }
    }

    fn record(&self, contact: ContactId) -> Result<Option<Arc<ContactRecord>>, ViewError> {
        match self.ahead.records.get(&contact).filter(|_| self.ahead.is_read) {
            Some(record) => Ok(Some(Arc::clone(record))),
            None => Ok(self.view.record(contact)?.map(Arc::new)),
        }
    }
}
