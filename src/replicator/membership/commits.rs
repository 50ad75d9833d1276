//! Commits: what was decided goes out in one transaction after the other, and what is committed takes effect.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Committed, Ended, Membership};
use crate::{
    log::WriteError,
    replicator::{
        Error,
        batch::Batch,
        partition::{Phase, Release},
        retry::Schedule,
    },
};

/// Distance between the beginnings of two commits, so that what ends at about the same time goes out together. Each
/// commit has its price, at the broker and in the view, however little is in it. The first after a quiet time waits for
/// nothing.
const COMMIT_INTERVAL: Duration = Duration::from_millis(5);
/// The same while more contacts are ready than may be sent to. They wait for the CRM, not for the commit, and the sooner
/// the less its price takes away from them. What ends within it is repeated if the worker is killed, as what is under way is.
const COMMIT_INTERVAL_BUSY: Duration = Duration::from_millis(50);
/// Pause before a refused or aborted transaction is tried again; doubled each time, since a rebalance may take as long as
/// its slowest member drains.
const COMMIT_PAUSES: Schedule = Schedule { first: Duration::from_millis(50), max: Duration::from_millis(800) };
/// Tries of one transaction before they are told.
const TOLD_FROM: u32 = 8;

impl Membership<'_> {
    pub(super) fn begin_commit(&mut self) {
        let now = Instant::now();
        let wall = self.parts.clock.now();
        self.commit_waits = self.writer.is_some() && now < self.commit_at;
        if self.writer.is_none() || self.commit_waits {
            return;
        }
        let mut batch = Batch::default();
        for (partition, owned) in &mut self.owned {
            let releasing = matches!(owned.phase, Phase::Draining { .. })
                && owned.release == Release::NotYet
                && owned.claimed
                && owned.has_drained(now, self.parts.settings.landing_time());
            if owned.pending.is_empty() && !releasing {
                continue;
            }
            let released = releasing && owned.may_release(now, self.parts.settings.landing_time());
            if releasing {
                owned.release = Release::Committing;
            }
            batch.parts.insert(*partition, self.encoding.take(*partition, owned, released, wall));
        }
        if !batch.parts.is_empty() {
            self.commit_at = now + if self.ready.is_empty() { COMMIT_INTERVAL } else { COMMIT_INTERVAL_BUSY };
            self.write(batch, Duration::ZERO);
        }
    }

    fn write(&mut self, batch: Batch, pause: Duration) {
        let mut writer = self.writer.take().expect("one commit at a time");
        let transaction = self.encoding.transaction(&batch, &self.handle);
        self.commit.push(Box::pin(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let begun = Instant::now();
            let written = writer.write(transaction).await;
            (writer, batch, written, begun.elapsed())
        }));
    }

    pub(super) fn committed(&mut self, (writer, mut batch, written, took): Committed) -> Result<Option<Ended>, Error> {
        let crm = self.parts.name.clone();
        match written {
            Ok(()) => {
                self.writer = Some(writer);
                self.handle.confirmed();
                self.parts.metrics.transaction_committed(&crm, took);
                self.take_effect(batch);
                self.finish_revocations();
                return Ok(None);
            }
            Err(WriteError::Unauthorized { reason }) => return Err(Error::NotPermitted { crm, reason }),
            Err(WriteError::TooLarge { to }) => return Err(Error::TooLarge { crm, to }),
            Err(error @ (WriteError::Fenced | WriteError::Unknown { .. })) => {
                self.parts.metrics.transaction_failed(&crm);
                warn!(%crm, %error, "a commit failed");
                return Ok(Some(Ended::Anew));
            }
            Err(error @ (WriteError::Refused | WriteError::Aborted { .. })) => {
                self.parts.metrics.transaction_failed(&crm);
                batch.failures += 1;
                // Now and then one is refused, during a rebalance; one that keeps being refused is somebody's concern.
                if batch.failures >= TOLD_FROM && batch.failures.is_power_of_two() {
                    warn!(%crm, %error, tries = batch.failures, "a commit is tried again and again");
                } else {
                    debug!(%crm, %error, "a commit will be tried again with what is still ours");
                }
            }
        }
        self.writer = Some(writer);
        batch.parts.retain(|partition, part| {
            self.owned.get(partition).is_some_and(|owned| owned.assignment == part.assignment)
                && self.handle.owns(*partition) == Some(part.assignment)
        });
        if !batch.parts.is_empty() {
            let pause = COMMIT_PAUSES.step(batch.failures);
            self.write(batch, pause);
        }
        Ok(None)
    }

    /// What a committed batch allows.
    fn take_effect(&mut self, batch: Batch) {
        for (partition, part) in batch.parts {
            for outcome in &part.outcomes {
                self.parts.metrics.outcome_settled(outcome);
            }
            let Some(owned) = self.owned.get_mut(&partition).filter(|owned| owned.assignment == part.assignment) else {
                continue;
            };
            for contact in part.awaited {
                // Where the link has changed again, that may have to be committed, too.
                if let Some(lane) = owned.lanes.get_mut(&contact).filter(|_| !owned.pending.links.contains(&contact)) {
                    lane.committed();
                    self.ready.push(partition, contact);
                }
            }
            self.resting.extend(part.touched.into_iter().map(|contact| (partition, contact)));
            if owned.release == Release::Committing {
                owned.release = Release::Done;
            }
            owned.claimed = true;
            if owned.phase == Phase::Claiming {
                self.claimed(partition);
            }
        }
    }

    /// Lets go of revoked partitions that are drained, or that have used up their time.
    pub(super) fn finish_revocations(&mut self) {
        let now = Instant::now();
        let mut still = Vec::new();
        for (mut partitions, revocation) in std::mem::take(&mut self.revocations) {
            partitions.retain(|partition| {
                self.owned.get(partition).is_some_and(|owned| match owned.phase {
                    Phase::Draining { deadline } => owned.claimed && owned.release != Release::Done && now < deadline,
                    _ => true,
                })
            });
            if partitions.is_empty() {
                for partition in &revocation.partitions {
                    self.forget(*partition);
                }
                // Dropping the revocation lets the rebalance go on.
                drop(revocation);
            } else {
                still.push((partitions, revocation));
            }
        }
        self.revocations = still;
    }
}
