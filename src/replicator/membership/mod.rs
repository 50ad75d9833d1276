//! One membership of a CRM's group: the loop that owns its timers, its tasks and its writer.
//!
//! What it hears is handed to the pure parts, and what these decide is carried out: entries go to their lanes
//! ([`entries`]), ready lanes begin attempts ([`attempts`]), decisions are committed in batches ([`commits`]), and what time
//! drives is looked at now and then ([`time`]).
//!
//! Nothing here outlives the membership. When it ends, attempts under way are given up, decisions that are not committed
//! are dropped, and the next membership takes its partitions over as from a stranger.

mod attempts;
mod commits;
mod entries;
mod time;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures::{
    StreamExt,
    future::{Abortable, BoxFuture, abortable},
    stream::FuturesUnordered,
};
use rand::{SeedableRng, rngs::StdRng};
use tokio::{sync::watch, task::JoinSet, time::Instant};
use tracing::{debug, info, warn};

use self::attempts::Ready;
use super::{
    Error, Parts, Status, asked_to_stop,
    attempt::{Attempted, Shared},
    batch::{Batch, Encoding},
    partition::{Owned, Phase, Release},
    takeover::{TakenOver, Takeover, TakeoverError},
};
use crate::{
    contact::ContactId,
    log::{
        AssignmentNumber, GroupEvent, LogError, Member, MemberHandle, Partition, Revocation, Watermarks, WriteError,
        Writer,
    },
    protection::Protection,
    view::ViewError,
};

/// How a membership ended.
pub(super) enum Ended {
    /// The worker stops.
    Shutdown { drained: bool },
    /// The partitions must be taken over anew.
    Anew,
}

/// How often time-driven work (parked contacts, bounds, gauges) is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Where a partition of the work list begins and ends, beside what we committed of it.
type Bounds = (Partition, AssignmentNumber, Watermarks);

/// The end of a commit: the writer again, what was to be committed, whether it was, and how long that took.
type Committed = (Box<dyn Writer>, Batch, Result<(), WriteError>, Duration);

/// One membership, from joining to leaving.
pub(super) struct Membership<'a> {
    parts: &'a Parts,
    shared: Arc<Shared>,
    member: Box<dyn Member>,
    handle: Arc<dyn MemberHandle>,
    encoding: Encoding,
    takeover: Takeover,
    status: &'a watch::Sender<Status>,
    random: StdRng,
    owned: BTreeMap<Partition, Owned>,
    revocations: Vec<(BTreeSet<Partition>, Revocation)>,
    takeovers: FuturesUnordered<Abortable<BoxFuture<'static, Result<TakenOver, TakeoverError>>>>,
    attempts: JoinSet<Attempted>,
    /// Lanes that may be ready; looked at again before they begin.
    ready: Ready,
    timers: BTreeSet<(Instant, Partition, ContactId)>,
    /// Lanes with nothing left to do once the view holds their link.
    resting: VecDeque<(Partition, ContactId)>,
    /// Partitions whose links need not be followed any more.
    unfollow: BTreeSet<Partition>,
    /// The writer, unless a commit is under way.
    writer: Option<Box<dyn Writer>>,
    commit: FuturesUnordered<BoxFuture<'static, Committed>>,
    /// When the next commit may begin.
    commit_at: Instant,
    /// A commit waits for that.
    commit_waits: bool,
    /// The links of all partitions, where contacts name each other, on their way to being followed.
    following: FuturesUnordered<BoxFuture<'static, Result<(), ViewError>>>,
    /// A look at the bounds of the owned partitions, now and then.
    bounds: FuturesUnordered<BoxFuture<'static, Vec<Bounds>>>,
    bounds_due: Instant,
    /// When it was last told that entries come near the end of their time.
    age_told_at: Option<Instant>,
    stopping: Option<Instant>,
}

impl<'a> Membership<'a> {
    pub(super) fn new(
        parts: &'a Parts,
        shared: Arc<Shared>,
        writer: Box<dyn Writer>,
        member: Box<dyn Member>,
        writer_id: &Arc<str>,
        group: &Arc<str>,
        status: &'a watch::Sender<Status>,
    ) -> Self {
        // A probe of an earlier membership was given up with it.
        shared.way.gate.lock().probe_withdrawn();
        Self {
            shared,
            handle: member.handle(),
            member,
            encoding: Encoding {
                crm: parts.name.clone(),
                topics: parts.topics.clone(),
                partitions: parts.partitions,
                writer: writer_id.clone(),
                instance: parts.instance.clone(),
                subjects: parts.subjects.clone(),
                protections: parts.protections,
            },
            takeover: Takeover {
                log: parts.log.clone(),
                view: parts.view.clone(),
                following: parts.following.clone(),
                topics: parts.topics.clone(),
                crm: parts.name.clone(),
                group: group.clone(),
                writer: writer_id.clone(),
                protections: parts.protections,
            },
            status,
            random: StdRng::seed_from_u64(parts.seed),
            owned: BTreeMap::new(),
            revocations: Vec::new(),
            takeovers: FuturesUnordered::new(),
            attempts: JoinSet::new(),
            ready: Ready::default(),
            timers: BTreeSet::new(),
            resting: VecDeque::new(),
            unfollow: BTreeSet::new(),
            writer: Some(writer),
            commit: FuturesUnordered::new(),
            commit_at: Instant::now(),
            commit_waits: false,
            following: FuturesUnordered::new(),
            bounds: FuturesUnordered::new(),
            bounds_due: Instant::now(),
            age_told_at: None,
            stopping: None,
            parts,
        }
    }

    /// Works until the membership ends.
    pub(super) async fn work(&mut self, shutdown: &mut watch::Receiver<bool>) -> Result<Ended, Error> {
        self.follow_all();
        self.follow_orders()?;
        let mut changes = self.parts.view.changes();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            self.begin_attempts();
            self.begin_commit();
            if let Some(drained) = self.has_stopped() {
                return Ok(Ended::Shutdown { drained });
            }
            let wake = self.wakes_at();
            // What time drives comes first: it is ready at most now and then, while the rest may always be.
            tokio::select! {
                biased;
                () = asked_to_stop(shutdown), if self.stopping.is_none() => self.stop(),
                _ = tick.tick() => {
                    self.tick()?;
                    self.unfollow().await?;
                }
                () = sleep_until(wake) => self.fire_timers(),
                Some(committed) = self.commit.next() => {
                    if let Some(ended) = self.committed(committed)? {
                        return Ok(ended);
                    }
                }
                Some(attempted) = self.attempts.join_next() => {
                    self.attempted(attempted.expect("an attempt neither panics nor is cancelled"))?;
                    while let Some(attempted) = self.attempts.try_join_next() {
                        self.attempted(attempted.expect("an attempt neither panics nor is cancelled"))?;
                    }
                }
                Some(taken) = self.takeovers.next() => {
                    // Aborted, when the partition left before it was taken over.
                    if let Ok(taken) = taken {
                        self.taken_over(taken)?;
                    }
                }
                Some(followed) = self.following.next() => followed.map_err(|source| self.view_error(source))?,
                Some(bounds) = self.bounds.next() => self.compare(&bounds),
                changed = changes.changed() => {
                    if changed.is_err() {
                        return Err(self.view_error(ViewError::Stopped));
                    }
                    self.view_changed()?;
                }
                event = self.member.next() => match event {
                    Ok(event) => self.group_event(event)?,
                    Err(error) if error.is_transient() => {
                        warn!(crm = %self.parts.name, %error, "the membership failed");
                        return Ok(Ended::Anew);
                    }
                    Err(error) => return Err(self.log_error(error)),
                },
            }
        }
    }

    fn log_error(&self, source: LogError) -> Error {
        Error::Log { crm: self.parts.name.clone(), source }
    }

    fn view_error(&self, source: ViewError) -> Error {
        Error::View { crm: self.parts.name.clone(), source }
    }

    fn group_event(&mut self, event: GroupEvent) -> Result<(), Error> {
        match event {
            // They go to others when this worker leaves. Taken over now, they would have to be drained and released, too.
            GroupEvent::Assigned(partitions) if self.stopping.is_some() => {
                debug!(crm = %self.parts.name, partitions = partitions.len(), "partitions are assigned, and left to others");
            }
            GroupEvent::Assigned(partitions) => {
                info!(crm = %self.parts.name, partitions = partitions.len(), "partitions are assigned");
                for (partition, assignment) in partitions {
                    let takeover: BoxFuture<'static, _> = Box::pin(self.takeover.clone().run(partition, assignment));
                    let (takeover, abort) = abortable(takeover);
                    self.owned.insert(partition, Owned::new(assignment, abort, self.parts.protections));
                    self.takeovers.push(takeover);
                }
                self.share_rate();
            }
            GroupEvent::Revoked(revocation) => {
                let deadline = Instant::now() + self.parts.drain_deadline;
                for partition in &revocation.partitions {
                    if revocation.lost {
                        self.forget(*partition);
                    } else if let Some(owned) = self.owned.get_mut(partition) {
                        owned.phase = Phase::Draining { deadline };
                    }
                }
                let partitions = revocation.partitions.iter().copied().collect();
                self.revocations.push((partitions, revocation));
                self.finish_revocations();
            }
            GroupEvent::Records(records) => {
                for record in records {
                    self.read(&record)?;
                }
                self.handle_incoming()?;
            }
        }
        Ok(())
    }

    /// Drops all that is known of a partition that is no longer ours.
    fn forget(&mut self, partition: Partition) {
        if let Some(owned) = self.owned.remove(&partition) {
            owned.takeover.abort();
            self.share_rate();
            self.unfollow.insert(partition);
        }
    }

    /// Where contacts name each other, the other's link may be in any partition, whoever owns it.
    fn follow_all(&mut self) {
        if self.shared.terms.connector.relates() {
            let (following, crm) = (self.parts.following.clone(), self.parts.name.clone());
            let partitions = 0..self.parts.partitions;
            self.following.push(Box::pin(async move {
                for partition in partitions {
                    following.start(&crm, partition).await?;
                }
                Ok(())
            }));
        }
    }

    /// Stops following the links of partitions that are gone and did not come back. In this loop and awaited, so that
    /// it can never overtake the start that a new assignment asks for.
    async fn unfollow(&mut self) -> Result<(), Error> {
        while let Some(partition) = self.unfollow.pop_first() {
            if !self.owned.contains_key(&partition) && !self.shared.terms.connector.relates() {
                self.parts
                    .following
                    .stop(&self.parts.name, partition)
                    .await
                    .map_err(|source| self.view_error(source))?;
            }
        }
        Ok(())
    }

    fn share_rate(&self) {
        self.shared.way.rate.share(self.owned.len(), self.parts.partitions);
    }

    fn taken_over(&mut self, taken: Result<TakenOver, TakeoverError>) -> Result<(), Error> {
        let taken = taken.map_err(|error| match error {
            TakeoverError::Log(error) => self.log_error(error),
            TakeoverError::View(error) => self.view_error(error),
        })?;
        // The view holds by now what was said before.
        self.follow_orders()?;
        let crm = &self.parts.name;
        if taken.entries_lost > 0 {
            self.tell_lost(taken.partition, taken.entries_lost);
        }
        if let Some(owned) = self.owned.get_mut(&taken.partition)
            && owned.assignment == taken.assignment
            && owned.phase == Phase::TakingOver
        {
            debug!(%crm, partition = taken.partition, start = taken.start, released = taken.released, "partition taken over");
            owned.taken_over(&taken);
        }
        Ok(())
    }

    /// The claim of a partition is committed: nobody else can commit for it any more.
    fn claimed(&mut self, partition: Partition) {
        let owned = self.owned.get_mut(&partition).expect("the caller has seen it");
        if owned.is_tainted() && self.parts.protections.hold(Protection::TakeoverWait) {
            let until = Instant::now() + self.parts.settings.landing_time();
            owned.phase = Phase::Cooling { until };
        } else {
            owned.phase = Phase::Working;
        }
        // Entries may be read while a predecessor's last request cools down; nothing is sent before.
        self.handle.start(partition, owned.ledger.commit_point());
    }

    fn stop(&mut self) {
        let deadline = Instant::now() + self.parts.shutdown_deadline;
        self.stopping = Some(deadline);
        for owned in self.owned.values_mut() {
            owned.phase = Phase::Draining { deadline };
        }
    }

    /// Whether a stop has come to its end, and if so, whether everything was drained and released.
    fn has_stopped(&self) -> Option<bool> {
        let deadline = self.stopping?;
        let drained = self.owned.values().all(|owned| !owned.claimed || owned.release == Release::Done);
        (drained || Instant::now() >= deadline).then_some(drained)
    }

    /// Leaves the group. Attempts under way and decisions that are not committed end here.
    pub(super) async fn leave(self) {
        let Self { member, attempts, commit, .. } = self;
        drop((attempts, commit));
        member.leave().await;
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
