//! Which transaction of which writer is open, and what its end does.
//!
//! A transactional id has an *epoch*: opening a writer raises it, and so does a time-out. A writer shows the epoch that
//! it was opened with, and is fenced when that is no longer the current one. An id has one transaction at a time; its
//! records are in the partitions already, where they hold back readers, and its offsets with their groups.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{group::LocalGeneration, memory::Unfit, shared::State};
use crate::log::{NewRecord, OffsetCommit, TopicPartition, WriteError};

/// Counts all transactions of a log.
pub(super) type TransactionNumber = u64;
pub(super) type Epoch = u64;

/// Longest metadata of a committed offset, as brokers have it by default.
const METADATA_BYTES_MAX: usize = 4_096;

#[derive(Default)]
pub(super) struct Transactions {
    ids: BTreeMap<String, TransactionalId>,
    last: TransactionNumber,
}

#[derive(Default)]
struct TransactionalId {
    epoch: Epoch,
    /// Whether the disk knows an older epoch.
    unwritten: bool,
    open: Option<OpenTransaction>,
    /// Committed, but its markers are still on their way to the partitions.
    unmarked: Option<(OpenTransaction, Instant)>,
}

struct OpenTransaction {
    number: TransactionNumber,
    times_out: Instant,
    partitions: BTreeSet<TopicPartition>,
    groups: BTreeSet<Arc<str>>,
}

/// Who writes: an id, and the epoch under which it was opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity<'a> {
    pub(super) id: &'a str,
    pub(super) epoch: Epoch,
}

/// How a transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Commit,
    /// As `Commit`, but readers are held back until the markers arrive.
    CommitMarkedAfter(Duration),
    Abort,
}

impl Transactions {
    /// As the disk knew them: nothing is open.
    pub(super) fn restored(epochs: Vec<(String, Epoch)>) -> Self {
        let id = |epoch| TransactionalId { epoch, ..TransactionalId::default() };
        Self { ids: epochs.into_iter().map(|(name, epoch)| (name, id(epoch))).collect(), last: 0 }
    }

    /// Takes the epochs that are to be written, or all.
    pub(super) fn take_changes(&mut self, all: bool) -> Vec<(String, Epoch)> {
        let unwritten = |id: &mut TransactionalId| std::mem::take(&mut id.unwritten) || all;
        let changed = self.ids.iter_mut().filter_map(|(name, id)| unwritten(id).then(|| (name.clone(), id.epoch)));
        changed.collect()
    }

    fn current(&mut self, who: Identity<'_>) -> Result<&mut TransactionalId, WriteError> {
        self.ids.get_mut(who.id).filter(|id| id.epoch == who.epoch).ok_or(WriteError::Fenced)
    }

    /// The earliest instant at which something happens by itself.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let of_id = |id: &TransactionalId| {
            let times_out = id.open.as_ref().map(|open| open.times_out);
            let marked = id.unmarked.as_ref().map(|(_, marked)| *marked);
            times_out.into_iter().chain(marked).min()
        };
        self.ids.values().filter_map(of_id).min()
    }
}

impl State {
    /// Fences whoever writes under `id`, ends its open transaction, and answers the epoch of its next writer.
    pub(super) fn open_id(&mut self, id: &str) -> Epoch {
        let entry = self.transactions.ids.entry(id.to_owned()).or_default();
        entry.epoch += 1;
        entry.unwritten = true;
        let epoch = entry.epoch;
        self.unwritten = true;
        self.settle_id(id);
        epoch
    }

    /// Lets nothing of earlier transactions of `id` be under way: markers arrive now, what is open is aborted.
    fn settle_id(&mut self, id: &str) {
        let Some(entry) = self.transactions.ids.get_mut(id) else {
            return;
        };
        let (unmarked, open) = (entry.unmarked.take(), entry.open.take());
        if let Some((transaction, _)) = unmarked {
            self.mark(&transaction, true);
        }
        if let Some(transaction) = open {
            self.finish(transaction, End::Abort);
        }
    }

    /// Begins a transaction; one that was left open by a call that was given up is aborted.
    pub(super) fn begin(&mut self, who: Identity<'_>, now: Instant) -> Result<(), WriteError> {
        if self.failure().is_some() {
            // Who opens another writer is told why.
            return Err(WriteError::Fenced);
        }
        self.transactions.current(who)?;
        self.settle_id(who.id);
        self.transactions.last += 1;
        let number = self.transactions.last;
        let times_out = now + self.settings.transaction_timeout;
        let open = OpenTransaction { number, times_out, partitions: BTreeSet::new(), groups: BTreeSet::new() };
        self.transactions.current(who)?.open = Some(open);
        Ok(())
    }

    /// Sends the records of an open transaction. One that does not fit is found before any is sent.
    pub(super) fn send(
        &mut self,
        who: Identity<'_>,
        records: Vec<NewRecord>,
        timestamp: Timestamp,
    ) -> Result<(), WriteError> {
        let Self { transactions, topics, .. } = self;
        let open = transactions.current(who)?.open.as_mut().ok_or_else(nothing_open)?;
        for record in &records {
            topics.fits(record).map_err(|unfit| match unfit {
                Unfit::TooLarge => WriteError::TooLarge { to: record.to.clone() },
                Unfit::Nowhere | Unfit::Keyless => WriteError::Aborted { reason: unfit.reason(&record.to) },
            })?;
        }
        for record in records {
            if !open.partitions.contains(&record.to) {
                open.partitions.insert(record.to.clone());
            }
            topics.append(record, timestamp, Some(open.number));
        }
        Ok(())
    }

    /// Sends the offsets of an open transaction. The group judges member and generation, and nothing else.
    pub(super) fn send_offsets(
        &mut self,
        who: Identity<'_>,
        group: &str,
        generation: &LocalGeneration,
        commits: Vec<OffsetCommit>,
    ) -> Result<(), WriteError> {
        let open = self.transactions.current(who)?.open.as_mut().ok_or_else(nothing_open)?;
        if commits.iter().any(|commit| commit.metadata.len() > METADATA_BYTES_MAX) {
            return Err(WriteError::Aborted { reason: "the metadata of an offset is too long".to_owned() });
        }
        let group = self.groups.get_mut(group).filter(|group| group.accepts(generation)).ok_or(WriteError::Refused)?;
        group.hold(open.number, commits);
        open.groups.insert(group.name());
        Ok(())
    }

    /// Ends the open transaction.
    pub(super) fn end(&mut self, who: Identity<'_>, end: End, now: Instant) -> Result<(), WriteError> {
        // Records and offsets reach the disk in one batch: there, markers are never late.
        let end = if end != End::Abort && self.disk.is_some() { End::Commit } else { end };
        let entry = self.transactions.current(who)?;
        let transaction = entry.open.take().ok_or_else(nothing_open)?;
        if let Some(mut transaction) = self.finish(transaction, end)
            && let End::CommitMarkedAfter(delay) = end
        {
            transaction.groups.clear();
            self.transactions.current(who)?.unmarked = Some((transaction, now + delay));
        }
        Ok(())
    }

    /// Decides a transaction for its groups, and for its partitions too unless its markers are late: then it is given
    /// back.
    fn finish(&mut self, transaction: OpenTransaction, end: End) -> Option<OpenTransaction> {
        let committed = end != End::Abort;
        for group in &transaction.groups {
            if let Some(group) = self.groups.get_mut(group) {
                group.end(transaction.number, committed);
            }
        }
        self.changed = true;
        self.unwritten = true;
        if matches!(end, End::CommitMarkedAfter(_)) {
            return Some(transaction);
        }
        self.mark(&transaction, committed);
        None
    }

    fn mark(&mut self, transaction: &OpenTransaction, committed: bool) {
        for at in &transaction.partitions {
            if let Some(partition) = self.topics.partition(at) {
                partition.end(transaction.number, committed);
            }
        }
        self.changed = true;
        self.unwritten = true;
    }

    /// Aborts what was open for too long and fences its writer; delivers markers that are due.
    pub(super) fn tick_transactions(&mut self, now: Instant) {
        if self.transactions.next_deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        let (mut timed_out, mut due) = (Vec::new(), Vec::new());
        for entry in self.transactions.ids.values_mut() {
            if let Some((transaction, _)) = entry.unmarked.take_if(|(_, marked)| *marked <= now) {
                due.push(transaction);
            }
            if let Some(transaction) = entry.open.take_if(|open| open.times_out <= now) {
                entry.epoch += 1;
                entry.unwritten = true;
                timed_out.push(transaction);
            }
        }
        for transaction in due {
            self.mark(&transaction, true);
        }
        for transaction in timed_out {
            self.finish(transaction, End::Abort);
        }
    }
}

fn nothing_open() -> WriteError {
    WriteError::Aborted { reason: "no transaction is open".to_owned() }
}
