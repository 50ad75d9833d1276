//! The resolver: the one active decider of who is who.
//!
//! Every worker runs a candidate. The owner of the single partition of `contact-resolver` is the active one; all others
//! are standbys, warm because their views follow the same topics. A candidate stands for the lease only when its view
//! is near the end of the log, or a cold worker would keep everybody waiting while it builds its view.
//!
//! Owning the lease proves nothing for longer than the moment in which it is asked, so a term begins in this order and
//! leaves out no step (`term`): prove the lease; open the writer with the one fixed transactional id, which makes every
//! predecessor unable to commit; wait until the view holds all that was committed; read the input positions from it;
//! and only then read input and decide. What was decided, and how far the input was read, are committed together.
//!
//! When a commit fails for good, or may have happened and cannot be told, nothing is undone and nothing guessed: the
//! decisions that were not seen back are dropped, and a new term begins by the same steps.
//!
//! It also appends what a resync of all contacts asks of a CRM ([`term`]).
//!
//! It refuses to work with another secret than the one its contacts were made with, and stops when its own decisions
//! keep failing.

mod ahead;
mod decide;
mod inputs;
mod publish;
pub mod rehearsal;
mod state;
mod term;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use futures::future::try_join_all;
use serde::de::DeserializeOwned;
use tokio::{pin, sync::watch, time::sleep};
use tracing::{info, warn};

use self::{
    ahead::Bounds,
    decide::{Read, Resolve},
    state::{KEY_CHECK, KeyCheck, LEASE},
    term::{Ended, Lease, Term},
};
use crate::{
    clock::Clock,
    config::{ResolverSettings, TopicNames},
    contact::format::{FormatError, decode},
    event::{change, outcome::Subjects},
    identity::{self, Policy},
    log::{GroupEvent, GroupSpec, Log, LogError, Member, Offset, Partition, Revocation, TopicPartition},
    metrics::Metrics,
    privacy::Hasher,
    protection::{Protection, Protections},
    telemetry::traces::Traces,
    view::{View, ViewError},
};

/// How often a candidate looks whether its view is near the end.
const NEARNESS_CHECK: Duration = Duration::from_millis(500);
/// Pause before a term, or a membership, begins anew; doubled each time in a row.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// The partition of `contact-resolver` that holds all that is written there.
pub(crate) const STATE: Partition = LEASE;
/// The name under which metrics know this writer and reader.
const RESOLVER: &str = "resolver";

/// What the resolver works with. Our topics exist before it runs.
#[derive(Debug, Clone)]
pub struct Parts {
    pub log: Arc<dyn Log>,
    /// Followed by this worker's own follower; the resolver only reads it.
    pub view: View,
    pub clock: Clock,
    pub metrics: Metrics,
    /// Keyed with the identity secret.
    pub hasher: Hasher,
    /// Names the installation: prefix of group and transactional id.
    pub instance: Arc<str>,
    pub worker: Arc<str>,
    /// Whether an operator named the worker: what is killed and started again under its name finds its lease at once,
    /// where others wait until the dead one's session ends.
    pub static_membership: bool,
    pub topics: TopicNames,
    pub inputs: Vec<Arc<str>>,
    /// How input is read.
    pub rules: Arc<change::Rules>,
    /// Sources by their URI, the most trusted first.
    pub source_priority: Arc<[Arc<str>]>,
    pub policy: Arc<Policy>,
    /// Whether conflicts and generic keys are told on `contact-identity-events`; they are counted in any case.
    pub tell_identity_events: bool,
    pub settings: ResolverSettings,
    /// The CRMs, and how many contacts per second a resync of all of them asks for; 0: no limit.
    pub resyncs: Arc<[(Arc<str>, f64)]>,
    /// Those of the CRMs that are in shadow.
    pub shadows: BTreeSet<Arc<str>>,
    /// How outcomes name subjects.
    pub subjects: Subjects,
    pub traces: Traces,
    pub protections: Protections,
}

/// What others may know of the resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// The view was near the end of the log when this worker stood for the lease.
    pub caught_up: bool,
    /// This worker is the active one.
    pub active: bool,
    /// The last term of this worker, counted over all workers.
    pub epoch: Option<u64>,
}

/// Why the resolver, and with it the worker, stops.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    #[error(
        "the identity secret is not the one that this installation's contacts were made with, and with another one \
         every event would become a new contact: configure the original secret"
    )]
    OtherSecret,
    #[error(
        "{in_a_row} decisions in a row failed by a fault of this program, the last at {last}; the events of its batch \
         were left as they are, for another release to decide"
    )]
    Panics { in_a_row: u32, last: String },
    #[error("the resolver cannot use the log")]
    Log(#[from] LogError),
    #[error("the resolver cannot read its view")]
    View(#[from] ViewError),
    #[error("the state record `{key}` of the resolver cannot be used")]
    State { key: String, source: FormatError },
    #[error("the resolver cannot commit: {reason}")]
    NotPermitted { reason: String },
    #[error(
        "a transaction without any event in it does not fit into {to}: raise max.message.bytes of {} to \
         topics.message_bytes_max", to.topic
    )]
    TooLarge { to: TopicPartition },
    /// Without its source: the text of a [`tokio::task::JoinError`] has the message of the panic, which may quote a
    /// contact.
    #[error("a thread of the resolver panicked outside of any decision")]
    Thread,
}

/// A candidate for the one active resolver.
pub struct Resolver {
    work: Arc<Work>,
    status: watch::Sender<Status>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("status", &*self.status.borrow()).finish_non_exhaustive()
    }
}

/// What a term works with: the parts, and what only tests replace.
struct Work {
    parts: Parts,
    read: Arc<Read>,
    resolve: Arc<Resolve>,
    bounds: Bounds,
}

/// How standing for the lease ended.
enum Stood {
    /// The membership ended, or is of no use any more.
    Again,
    /// Shutdown.
    Stopped,
}

impl Resolver {
    pub fn new(parts: Parts) -> Self {
        Self::with(parts, resolve(), Bounds::default())
    }

    fn with(parts: Parts, resolve: Arc<Resolve>, bounds: Bounds) -> Self {
        let read = read(&parts);
        Self { work: Arc::new(Work { parts, read, resolve, bounds }), status: watch::Sender::default() }
    }

    /// Tells whether this worker is caught up and active, and each change of that.
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Stands for the lease, decides while it has it, and stands again, until `shutdown` turns true; then the batch at
    /// hand is committed and the group left.
    ///
    /// # Errors
    /// [`ResolverError`]: the worker is to stop, with that sentence.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) -> Result<(), ResolverError> {
        let mut pause = Pause::new();
        loop {
            match self.stand(&mut shutdown, &mut pause).await {
                Ok(Stood::Stopped) => return Ok(()),
                Ok(Stood::Again) => {}
                Err(ResolverError::Log(failure)) if failure.is_transient() => {
                    warn!(error = %failure, "the resolver's candidate will try again");
                }
                Err(failure) => return Err(failure),
            }
            tokio::select! {
                () = pause.next() => {}
                () = stopped(&mut shutdown) => return Ok(()),
            }
        }
    }

    /// One membership of the lease group.
    async fn stand(&self, shutdown: &mut watch::Receiver<bool>, pause: &mut Pause) -> Result<Stood, ResolverError> {
        tokio::select! {
            near = self.near_the_end() => near?,
            () = stopped(shutdown) => return Ok(Stood::Stopped),
        }
        let parts = &self.work.parts;
        let spec = GroupSpec {
            group: parts.group(),
            topic: Arc::clone(&parts.topics.resolver),
            instance_id: parts.static_membership.then(|| format!("{}-{}", parts.group(), parts.worker)),
            // The lease partition is owned, never read.
            queue_records_max: 1,
        };
        let mut member = parts.log.join(spec).await?;
        let stood = self.campaign(&mut *member, shutdown, pause).await;
        // For good: the others need not wait for somebody who may not come back.
        member.resign().await;
        stood
    }

    /// Waits until the view is near the end of what was committed, and checks the secret as soon as it can be.
    async fn near_the_end(&self) -> Result<(), ResolverError> {
        let parts = &self.work.parts;
        loop {
            let behind = match parts.behind().await {
                Ok(behind) => Some(behind),
                Err(failure) if failure.is_transient() => None,
                Err(failure) => return Err(failure.into()),
            };
            let near = behind.is_some_and(|behind| behind <= parts.settings.standby_lag_max);
            self.status.send_if_modified(|status| std::mem::replace(&mut status.caught_up, near) != near);
            if near {
                return parts.check_secret();
            }
            sleep(NEARNESS_CHECK).await;
        }
    }

    async fn campaign(
        &self,
        member: &mut dyn Member,
        shutdown: &mut watch::Receiver<bool>,
        pause: &mut Pause,
    ) -> Result<Stood, ResolverError> {
        loop {
            let event = tokio::select! {
                event = member.next() => event?,
                () = stopped(shutdown) => return Ok(Stood::Stopped),
            };
            let GroupEvent::Assigned(partitions) = event else {
                // A revocation of what is not used is acknowledged by dropping it.
                continue;
            };
            let Some((_, assignment)) = partitions.into_iter().find(|(partition, _)| *partition == LEASE) else {
                continue;
            };
            let lease = Lease { member: member.handle(), assignment };
            match self.hold(member, lease, shutdown, pause).await? {
                // Dropping it lets the rebalance go on; the membership stays, as a standby's.
                Held::Revoked(revocation) => drop(revocation),
                Held::Lost => return Ok(Stood::Again),
                Held::Stopped => return Ok(Stood::Stopped),
            }
        }
    }

    /// Holds the lease, term after term, and listens for its end.
    async fn hold(
        &self,
        member: &mut dyn Member,
        lease: Lease,
        shutdown: &mut watch::Receiver<bool>,
        pause: &mut Pause,
    ) -> Result<Held, ResolverError> {
        let stop = watch::Sender::new(false);
        let reign = self.reign(lease, stop.subscribe(), pause);
        pin!(reign);
        let mut end = None;
        loop {
            tokio::select! {
                reigned = &mut reign => {
                    reigned?;
                    return Ok(end.unwrap_or(Held::Lost));
                }
                event = member.next(), if end.is_none() => match event {
                    Ok(GroupEvent::Revoked(revocation)) if revocation.partitions.contains(&LEASE) => {
                        info!(lost = revocation.lost, "the resolver's lease is taken away");
                        end = Some(Held::Revoked(revocation));
                        stop.send_replace(true);
                    }
                    Ok(_) => {}
                    Err(failure) => {
                        warn!(error = %failure, "the membership of the resolver's group ended");
                        end = Some(Held::Lost);
                        stop.send_replace(true);
                    }
                },
                () = stopped(shutdown), if end.is_none() => {
                    end = Some(Held::Stopped);
                    stop.send_replace(true);
                }
            }
        }
    }

    /// Term after term, until asked to stop or the lease is gone.
    async fn reign(
        &self,
        lease: Lease,
        mut stop: watch::Receiver<bool>,
        pause: &mut Pause,
    ) -> Result<(), ResolverError> {
        loop {
            let taken = tokio::select! {
                taken = Term::take_over(Arc::clone(&self.work), lease.clone()) => taken,
                () = stopped(&mut stop) => return Ok(()),
            };
            let ended = match taken {
                Ok(term) => {
                    pause.reset();
                    self.decide_in(term, stop.clone()).await
                }
                Err(ended) => ended,
            };
            match ended {
                Ended::Stopped | Ended::LeaseLost => return Ok(()),
                Ended::Failed(failure) => return Err(failure),
                Ended::Anew { reason } => warn!(reason, "the resolver begins a new term"),
            }
            tokio::select! {
                () = pause.next() => {}
                () = stopped(&mut stop) => return Ok(()),
            }
        }
    }

    async fn decide_in(&self, term: Term, stop: watch::Receiver<bool>) -> Ended {
        let (epoch, metrics) = (term.epoch(), &self.work.parts.metrics);
        info!(epoch, "this worker is the active resolver");
        metrics.resolver_active(true);
        metrics.resolver_epoch(epoch);
        self.status.send_modify(|status| (status.active, status.epoch) = (true, Some(epoch)));
        let ended = term.run(stop).await;
        metrics.resolver_active(false);
        // Whoever decides now tells of the input.
        metrics.lag(RESOLVER, 0);
        metrics.oldest_input_age(Duration::ZERO);
        self.status.send_modify(|status| status.active = false);
        info!(epoch, "this worker is no longer the active resolver");
        ended
    }
}

/// The group that holds the lease, and the one transactional id that all resolvers write with.
pub fn group(instance: &str) -> String {
    format!("{instance}-resolver")
}

/// How changes are decided, outside tests.
fn resolve() -> Arc<Resolve> {
    Arc::new(|change, known, context| identity::resolve(change, known, context))
}

/// How input is read.
fn read(parts: &Parts) -> Arc<Read> {
    let (rules, clock) = (Arc::clone(&parts.rules), parts.clock);
    Arc::new(move |record: &_| change::read(record, &rules, clock.now()))
}

/// How holding the lease ended.
enum Held {
    Revoked(Revocation),
    Lost,
    Stopped,
}

impl Parts {
    fn group(&self) -> Arc<str> {
        group(&self.instance).into()
    }

    /// The same for every worker: opening a writer with it is what fences the resolver before.
    fn transactional_id(&self) -> String {
        match self.protections.hold(Protection::Fence) {
            true => group(&self.instance),
            false => format!("{}-resolver-{}", self.instance, uuid::Uuid::new_v4()),
        }
    }

    /// The ends of everything that decisions rest on, open transactions included.
    async fn ends(&self) -> Result<Vec<(TopicPartition, Offset)>, LogError> {
        let mut partitions = Vec::new();
        for topic in [&self.topics.keys, &self.topics.records, &self.topics.resolver] {
            let count = self.partitions(topic).await?;
            partitions.extend((0..count).map(|partition| TopicPartition::new(Arc::clone(topic), partition)));
        }
        let ends = partitions.into_iter().map(async |at| {
            let end = self.log.watermarks(&at).await?.high;
            Ok((at, end))
        });
        try_join_all(ends).await
    }

    async fn partitions(&self, topic: &Arc<str>) -> Result<u32, LogError> {
        let partitions = self.log.partitions(topic).await?;
        partitions.ok_or_else(|| LogError::UnknownTopic { topic: Arc::clone(topic) })
    }

    /// Records that the view is behind.
    async fn behind(&self) -> Result<u64, LogError> {
        let behind = |(at, end): (TopicPartition, Offset)| end.saturating_sub(self.view.position(&at).unwrap_or(0));
        Ok(self.ends().await?.into_iter().map(behind).sum())
    }

    /// A state record, as far as the view has followed.
    fn state<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, ResolverError> {
        state_in(&self.view, key)
    }

    fn check_secret(&self) -> Result<(), ResolverError> {
        match self.state::<KeyCheck>(KEY_CHECK)? {
            Some(check) if check != KeyCheck::of(&self.hasher) => Err(ResolverError::OtherSecret),
            Some(_) | None => Ok(()),
        }
    }
}

pub(crate) fn state_in<T: DeserializeOwned>(view: &View, key: &str) -> Result<Option<T>, ResolverError> {
    let Some(bytes) = view.resolver_state(key)? else {
        return Ok(None);
    };
    match decode(&bytes) {
        Ok(state) => Ok(Some(state)),
        Err(source) => Err(ResolverError::State { key: key.to_owned(), source }),
    }
}

/// How far the input partition `at` was decided, as far as `view` has followed: the offset to read next. `None` if
/// nothing of it was. Any worker can tell, whoever decides.
///
/// # Errors
/// If the view cannot be read, or a newer program decided.
pub fn decided(view: &View, at: &TopicPartition) -> Result<Option<Offset>, ResolverError> {
    Ok(state_in::<state::Position>(view, &state::Position::key(at))?.map(|position| position.offset))
}

/// A term of the resolver, as the log tells it.
#[derive(Debug, Clone)]
pub struct LastTerm {
    pub epoch: u64,
    /// Who decides in it; absent where an older release does not say.
    pub worker: Option<Arc<str>>,
}

/// The last term that was begun, and the worker that began it where that is known, as far as `view` has followed.
///
/// # Errors
/// If the view cannot be read, or a newer program wrote it.
pub fn last_term(view: &View) -> Result<Option<LastTerm>, ResolverError> {
    let last = state_in::<state::Epoch>(view, state::EPOCH)?;
    Ok(last.map(|last| LastTerm { epoch: last.epoch, worker: last.worker }))
}

/// A pause that doubles.
struct Pause(Duration);

impl Pause {
    fn new() -> Self {
        Self(PAUSE_MIN)
    }

    fn reset(&mut self) {
        self.0 = PAUSE_MIN;
    }

    async fn next(&mut self) {
        let pause = self.0;
        self.0 = (pause * 2).min(PAUSE_MAX);
        sleep(pause).await;
    }
}

/// Returns once `stop` is true, or nobody is left who could say so.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone, and with it the reason to go on.
    let _gone = stop.wait_for(|stop| *stop).await.is_err();
}
