//! What time drives: waits that end, parked contacts that are due, the bounds of the log, and what is reported.

use std::{collections::hash_map, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::{Bounds, Membership};
use crate::{
    log::{Partition, TopicPartition},
    replicator::{Error, Status, gate::Admission, lane::Lane, partition::Phase},
    view::{ViewError, Wake},
};

/// How often the committed offsets are compared with the bounds of the log.
const BOUNDS_INTERVAL: Duration = Duration::from_secs(10);
/// Between two lines about entries that come near the end of their time.
const AGE_TOLD_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Parked contacts looked at and woken per partition and tick.
const WOKEN_MAX: usize = 64;
const WOKEN_SCAN_MAX: usize = 1_024;

impl Membership<'_> {
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|(at, ..)| *at);
        let gate = match self.shared.way.gate.lock().admission(Instant::now()) {
            Admission::ClosedUntil(at) if !self.ready.is_empty() => Some(at),
            _ => None,
        };
        let commit = self.commit_waits.then_some(self.commit_at);
        [timer, gate, commit].into_iter().flatten().min()
    }

    pub(super) fn fire_timers(&mut self) {
        let now = Instant::now();
        while self.timers.first().is_some_and(|(at, ..)| *at <= now) {
            let (_, partition, contact) = self.timers.pop_first().expect("just seen");
            self.ready.push(partition, contact);
        }
    }

    pub(super) fn tick(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        let wall = self.parts.clock.now();
        for (partition, owned) in &mut self.owned {
            if let Phase::Cooling { until } = owned.phase
                && until <= now
            {
                owned.cooled();
                for contact in owned.ready(now, wall) {
                    self.ready.push(*partition, contact);
                }
            }
            // A membership that was not confirmed for a while may have been lost without a word: a commit tells.
            if owned.is_working() && self.handle.confirmed_age() > self.handle.session_timeout() / 2 {
                owned.pending.offset = true;
            }
        }
        self.look_at_bounds(now);
        self.wake_parked(now, wall)?;
        self.view_changed()?;
        self.finish_revocations();
        self.report_age(now, wall);
        self.report(now);
        Ok(())
    }

    /// Resumes contacts that are due, parked or waiting for others, from the view's indices.
    fn wake_parked(&mut self, now: Instant, wall: Timestamp) -> Result<(), Error> {
        if self.shared.way.gate.lock().admission(now) != Admission::Open && self.ready.len() > WOKEN_MAX {
            return Ok(());
        }
        let crm = self.parts.name.clone();
        let max = self.parts.settings.unanswered_max;
        let latest = wall.saturating_add(self.parts.settings.parked_delay_max).unwrap_or(Timestamp::MAX);
        for (partition, owned) in &mut self.owned {
            for wake in Wake::ALL {
                let mut after = None;
                let (mut scanned, mut woken) = (0, 0);
                while owned.is_working() && scanned < WOKEN_SCAN_MAX && woken < WOKEN_MAX && owned.lanes.len() < max {
                    let resting = self.parts.view.due(wake, &crm, *partition, after, WOKEN_MAX);
                    let resting = resting.map_err(|source| Error::View { crm: crm.clone(), source })?;
                    let Some(last) = resting.last().copied() else { break };
                    for (due, contact) in resting {
                        scanned += 1;
                        // A stored time beyond any delay we would choose comes from a clock that was wrong.
                        if due > wall && due <= latest {
                            scanned = WOKEN_SCAN_MAX;
                            break;
                        }
                        let lane = match owned.lanes.entry(contact) {
                            hash_map::Entry::Occupied(lane) => lane.into_mut(),
                            hash_map::Entry::Vacant(place) => {
                                let link = self.parts.view.link(&crm, contact);
                                let link = link.map_err(|source| Error::View { crm: crm.clone(), source })?;
                                let Some(mut link) = link else { continue };
                                if let Some(open) = &mut link.open {
                                    open.next_attempt = open.next_attempt.min(latest);
                                }
                                if let Some(waiting) = &mut link.waiting {
                                    waiting.next_look = waiting.next_look.min(latest);
                                }
                                place.insert(Lane::new(link, self.parts.protections))
                            }
                        };
                        if lane.is_ready(now, wall) {
                            self.ready.push(*partition, contact);
                            woken += 1;
                        }
                    }
                    after = Some(last);
                }
            }
        }
        Ok(())
    }

    /// Begins a look at the bounds of the partitions worked on. A reset of `earliest` skips in silence, so what
    /// retention takes from under us is only seen by comparing.
    fn look_at_bounds(&mut self, now: Instant) {
        if now < self.bounds_due || !self.bounds.is_empty() {
            return;
        }
        self.bounds_due = now + BOUNDS_INTERVAL;
        let (log, view) = (self.parts.log.clone(), self.parts.view.clone());
        let (metrics, crm) = (self.parts.metrics.clone(), self.parts.name.clone());
        let (topic, mapping) = (self.parts.topics.versions.clone(), self.parts.mapping);
        let owned: Vec<_> = self
            .owned
            .iter()
            .filter(|(_, owned)| owned.reads())
            .map(|(partition, owned)| (*partition, owned.assignment))
            .collect();
        self.bounds.push(Box::pin(async move {
            let partitions: Vec<_> = owned.iter().map(|(partition, _)| *partition).collect();
            // On a thread where it may take its time: after an outage nearly everybody may be parked.
            let counted = tokio::task::spawn_blocking(move || {
                let count = |wake| {
                    let counts = partitions.iter().map(|partition| view.due_count(wake, &crm, *partition));
                    counts.sum::<Result<usize, ViewError>>()
                };
                metrics.parked(&crm, count(Wake::Parked)?);
                metrics.waiting_for_others(&crm, count(Wake::Waiting)?);
                // Of these the view keeps the counts.
                let counts = partitions.iter().map(|partition| view.links_of_other_mappings(&crm, *partition, mapping));
                metrics.links_of_other_mappings(&crm, counts.sum::<Result<u64, ViewError>>()?);
                Ok::<_, ViewError>(())
            });
            if let Ok(Err(error)) = counted.await {
                warn!(%error, "contacts could not be counted");
            }
            let mut bounds = Vec::with_capacity(owned.len());
            for (partition, assignment) in owned {
                // A broker that is away is told of elsewhere; the next look comes soon.
                if let Ok(watermarks) = log.watermarks(&TopicPartition::new(topic.clone(), partition)).await {
                    bounds.push((partition, assignment, watermarks));
                }
            }
            bounds
        }));
    }

    pub(super) fn compare(&mut self, bounds: &[Bounds]) {
        let mut lag = 0;
        for (partition, assignment, watermarks) in bounds {
            let Some(owned) = self.owned.get(partition).filter(|owned| owned.assignment == *assignment) else {
                continue;
            };
            let next = owned.ledger.next();
            lag += watermarks.high.saturating_sub(owned.ledger.commit_point());
            // Entries held in memory are safe; those between the last one read and the low end are gone.
            if watermarks.low > next {
                self.tell_lost(*partition, watermarks.low - next);
            }
        }
        self.parts.metrics.lag(&self.parts.name, lag);
    }

    pub(super) fn tell_lost(&self, partition: Partition, entries: u64) {
        let crm = &self.parts.name;
        error!(%crm, partition, entries,
            "entries of the work list were deleted before they were read: their events have no outcome; resync the CRM");
        self.parts.metrics.entries_lost(crm, entries);
    }

    /// Tells how long the oldest entry waits, and warns when half of the time that entries are kept is over. What waits
    /// in a link, as a parked contact does, is not concerned: links stay.
    fn report_age(&mut self, now: Instant, wall: Timestamp) {
        let oldest = self.owned.iter().filter_map(|(partition, owned)| Some((owned.ledger.waits_since()?, *partition)));
        let oldest = oldest.min();
        // A clock that went back makes nothing older.
        let age = oldest.and_then(|(since, _)| Duration::try_from(wall.duration_since(since)).ok()).unwrap_or_default();
        let crm = &self.parts.name;
        self.parts.metrics.oldest_entry_age(crm, age);
        let retention = self.parts.versions_retention;
        let Some((_, partition)) = oldest.filter(|_| age > retention / 2) else {
            self.age_told_at = None;
            return;
        };
        if self.age_told_at.is_none_or(|told_at| now.duration_since(told_at) >= AGE_TOLD_INTERVAL) {
            self.age_told_at = Some(now);
            warn!(%crm, partition, age_seconds = age.as_secs(), retention_seconds = retention.as_secs(),
                "an entry waits for more than half of the time that it is kept: see why the CRM does not answer, or raise \
                 retention.ms of the work list and topics.versions_retention; what is deleted unanswered needs a resync");
        }
    }

    fn report(&self, now: Instant) {
        let crm = &self.parts.name;
        let unanswered = self.owned.values().map(|owned| owned.ledger.unanswered()).sum();
        let metrics = &self.parts.metrics;
        metrics.pending(crm, unanswered);
        metrics.in_flight(crm, self.attempts.len(), self.shared.way.contacts_max());
        let (paused, probe_at) = {
            let gate = self.shared.way.gate.lock();
            let probe_at = match gate.admission(now) {
                Admission::ClosedUntil(at) => Some(at),
                Admission::Open | Admission::Probe | Admission::Probing | Admission::Stopped => None,
            };
            (gate.paused(), probe_at.filter(|_| gate.paused().is_some()))
        };
        let mut status = Status {
            owned: self.owned.keys().copied().collect(),
            working: self.owned.values().filter(|owned| owned.is_working()).count(),
            joined: self.handle.is_member(),
            paused,
            paused_since: paused.map(|_| now),
            probe_at,
            unanswered,
            last_failure: None,
        };
        // One line for all partitions that came or went, not one for each.
        let settled = |status: &Status| (status.working == status.owned.len()).then_some(status.working);
        self.status.send_if_modified(|current| {
            status.last_failure.clone_from(&current.last_failure);
            if paused.is_some() {
                status.paused_since = current.paused_since.or(Some(now));
            }
            if let Some(partitions) = settled(&status).filter(|_| settled(current) != settled(&status)) {
                info!(%crm, partitions, "owned partitions are worked on");
            }
            let changed = *current != status;
            *current = status;
            changed
        });
    }
}
