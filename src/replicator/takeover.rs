//! Taking over a partition: fence, then catch up, then act.
//!
//! A predecessor may be dead, frozen, or alive and about to commit. Its transaction must not land after we have read
//! where it stopped, and our view must hold all that it committed, before the first request leaves.

use std::{sync::Arc, time::Duration};

use tracing::{debug, warn};

use super::claim::Claim;
use crate::{
    config::TopicNames,
    log::{AssignmentNumber, CommittedOffset, Isolation, Log, LogError, Offset, Partition, TopicPartition, Watermarks},
    protection::{Protection, Protections},
    resolver,
    view::{Following, View, ViewError},
};

/// Where to begin, and in what state the predecessor left the partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TakenOver {
    pub(super) partition: Partition,
    pub(super) assignment: AssignmentNumber,
    /// The first entry to read.
    pub(super) start: Offset,
    /// End of the partition when it was taken over.
    pub(super) end: Offset,
    /// The predecessor said `released`, or there was none.
    pub(super) released: bool,
    /// Entries that were deleted before anybody read them; of a list that was made anew, at least so many.
    pub(super) entries_lost: u64,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum TakeoverError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    View(#[from] ViewError),
}

/// What a takeover works with.
#[derive(Debug, Clone)]
pub(super) struct Takeover {
    pub(super) log: Arc<dyn Log>,
    pub(super) view: View,
    pub(super) following: Following,
    pub(super) topics: TopicNames,
    pub(super) crm: Arc<str>,
    pub(super) group: Arc<str>,
    /// Our own transactional id: opening our writer has fenced it already.
    pub(super) writer: Arc<str>,
    pub(super) protections: Protections,
}

/// Pause before a step that failed for want of a broker is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// A takeover that has waited this long for the view says so, and again after as long.
const TOLD_AFTER: Duration = Duration::from_secs(60);
/// How often an end that cannot be is looked at, and how soon again.
const LOOKS: u32 = 3;
const LOOK_AGAIN: Duration = Duration::from_secs(2);

impl Takeover {
    /// Takes over; ends only when it has succeeded or cannot. The caller then commits the offset under its own claim
    /// before anything is sent. Cancel-safe: dropping it leaves nothing behind but a followed partition.
    pub(super) async fn run(
        self,
        partition: Partition,
        assignment: AssignmentNumber,
    ) -> Result<TakenOver, TakeoverError> {
        self.following.start(&self.crm, partition).await?;
        debug!(crm = %self.crm, partition, "links are followed");
        loop {
            match self.attempt(partition, assignment).await {
                Err(TakeoverError::Log(error)) if error.is_transient() => {
                    warn!(crm = %self.crm, partition, %error, "takeover will be retried");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                ended => return ended,
            }
        }
    }

    async fn attempt(&self, partition: Partition, assignment: AssignmentNumber) -> Result<TakenOver, TakeoverError> {
        let versions = TopicPartition::new(self.topics.versions.clone(), partition);
        let committed = self.stable_offset(&versions).await?;
        debug!(crm = %self.crm, partition, "the predecessor can commit no more");
        // Only now is the predecessor unable to commit: what it did commit is below these watermarks.
        let holds = |protection| self.protections.hold(protection);
        let (records, links) = (holds(Protection::RecordsCatchUp), holds(Protection::LinksCatchUp));
        let caught_up = [
            (records, TopicPartition::new(self.topics.records.clone(), partition)),
            (links, TopicPartition::new(self.topics.links(&self.crm), partition)),
            // An operator may have paused the CRM while nobody here was looking. No protection of its own: a view that is behind
            // is so with all topics, and to wait for one of them would hide what becomes of a worker that did not.
            (records && links, TopicPartition::new(self.topics.resolver.clone(), resolver::STATE)),
        ];
        for (_, at) in caught_up.into_iter().filter(|(is_awaited, _)| *is_awaited) {
            let high = self.log.watermarks(&at).await?.high;
            self.reached(&at, high).await?;
        }
        let bounds = self.bounds(&versions, committed.as_ref()).await?;
        let (start, released) = match &committed {
            None => (bounds.low, true),
            Some(committed) => {
                (committed.offset, Claim::decode(&committed.metadata).is_some_and(|claim| claim.released))
            }
        };
        // A list that ends before that is another one, made anew; how much is missing cannot be told.
        let (start, entries_lost) = match start > bounds.high {
            true => (bounds.low, 1),
            false => (start.max(bounds.low), bounds.low.saturating_sub(start)),
        };
        Ok(TakenOver { partition, assignment, start, end: bounds.high, released, entries_lost })
    }

    /// Waits until the view holds all below `end`. Behind a transaction that nobody ends it would wait for ever, which only a
    /// person can change.
    async fn reached(&self, at: &TopicPartition, end: Offset) -> Result<(), ViewError> {
        let mut reached = std::pin::pin!(self.view.reached(at, end));
        loop {
            match tokio::time::timeout(TOLD_AFTER, &mut reached).await {
                Ok(reached) => return reached,
                Err(_elapsed) => warn!(%at, position = self.view.position(at), end,
                    "a takeover waits for the view to reach the end; if the position stands still, a transaction hangs there: \
                     find it with kafka-transactions find-hanging, and abort it"),
            }
        }
    }

    /// Where the work list begins and ends. A broker that has just become leader may know it shorter than it is, so an end
    /// before what was committed is looked at several times.
    async fn bounds(&self, at: &TopicPartition, committed: Option<&CommittedOffset>) -> Result<Watermarks, LogError> {
        let mut bounds = self.log.watermarks(at).await?;
        for _ in 1..LOOKS {
            if committed.is_none_or(|committed| committed.offset <= bounds.high) {
                break;
            }
            warn!(%at, end = bounds.high, "the work list seems to end before what was committed, and is looked at again");
            tokio::time::sleep(LOOK_AGAIN).await;
            bounds = self.log.watermarks(at).await?;
        }
        Ok(bounds)
    }

    /// The committed offset, once no transaction can change it any more but ours.
    async fn stable_offset(&self, at: &TopicPartition) -> Result<Option<CommittedOffset>, LogError> {
        if !self.protections.hold(Protection::StableOffsets) {
            return self.log.committed(&self.group, at, Isolation::ReadUncommitted).await;
        }
        match self.log.committed(&self.group, at, Isolation::ReadCommitted).await {
            Err(LogError::Unstable { .. }) => {}
            stable => return stable,
        }
        // The writer that holds it open may be gone: fence it, instead of waiting for the transaction's time-out.
        let held = self.log.committed(&self.group, at, Isolation::ReadUncommitted).await?;
        let holder = held.and_then(|committed| Claim::decode(&committed.metadata)).map(|claim| claim.writer);
        if let Some(holder) = holder.filter(|holder| **holder != *self.writer)
            && self.protections.hold(Protection::Fence)
        {
            warn!(crm = %self.crm, at = %at, %holder, "the predecessor's open transaction is fenced");
            drop(self.log.writer(&holder).await?);
        }
        self.log.committed(&self.group, at, Isolation::ReadCommitted).await
    }
}
