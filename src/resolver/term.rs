//! One term of the active resolver: the take-over, then batch after batch until it ends.
//!
//! The order of the take-over is the protocol; see [`Term::take_over`]. A term never outlives a doubt: whatever leaves
//! open what was committed ends it, and with it go the writer, the decisions not yet followed, and the input read
//! ahead. The next term reads all of that back from the log.
//!
//! Between two batches it carries on what operators asked for all contacts of a CRM ([`resyncs`]).

mod resyncs;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tracing::{error, warn};

use self::resyncs::Resyncs;
use super::{
    Parts, RESOLVER, ResolverError, Work,
    decide::{Decided, DecidedBatch, Decider, Prepared, PreparedBatch, Undecided, prepare},
    inputs::{InputError, Inputs},
    publish::{Body, Publisher},
    state::{self, EPOCH, KEY_CHECK, KeyCheck, LEASE, Position},
    stopped,
};
use crate::{
    contact::record::FORMAT,
    event::{Outcome, OutcomeKind, ReasonCode, change::Fault, outcome::Subjects},
    identity::{Answer, Notice},
    log::{
        AssignmentNumber, GroupOffsets, LogError, MemberHandle, NewRecord, Offset, OffsetCommit, TopicPartition,
        Transaction, WriteError, Writer,
    },
    protection::Protection,
    telemetry::traces::Resolved,
    view::ViewError,
};

/// Pause before a transaction that was aborted is tried again; doubled each time.
const RETRY_MIN: Duration = Duration::from_millis(20);
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How often the group offsets of all partitions are committed anew: those of a quiet partition would expire.
const MIRROR_EVERY: Duration = Duration::from_secs(3600);

/// How a term ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was asked to. What was not committed will be read again by whoever comes next.
    Stopped,
    /// The lease is no longer ours.
    LeaseLost,
    /// What was committed is in doubt, or the log failed in passing: begin anew.
    Anew { reason: String },
    /// The worker cannot go on.
    Failed(ResolverError),
}

impl From<LogError> for Ended {
    fn from(failure: LogError) -> Self {
        if failure.is_transient() { Self::Anew { reason: failure.to_string() } } else { Self::Failed(failure.into()) }
    }
}

impl From<ViewError> for Ended {
    fn from(failure: ViewError) -> Self {
        Self::Failed(failure.into())
    }
}

impl From<InputError> for Ended {
    fn from(failure: InputError) -> Self {
        match failure {
            InputError::Log(failure) => failure.into(),
            InputError::State(failure) => Self::Failed(failure),
        }
    }
}

impl From<ResolverError> for Ended {
    fn from(failure: ResolverError) -> Self {
        Self::Failed(failure)
    }
}

impl From<Undecided> for Ended {
    fn from(undecided: Undecided) -> Self {
        Self::Failed(match undecided {
            Undecided::View(failure) => failure.into(),
            Undecided::Panics { in_a_row, last } => ResolverError::Panics { in_a_row, last },
        })
    }
}

/// An assignment of the lease partition.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) member: Arc<dyn MemberHandle>,
    pub(super) assignment: AssignmentNumber,
}

impl Lease {
    /// Whether it is still ours: by our own map, under the same assignment, and by the broker's word.
    pub(super) async fn stands(&self) -> Result<bool, LogError> {
        if self.member.owned().get(&LEASE) != Some(&self.assignment) {
            return Ok(false);
        }
        self.member.prove(LEASE).await
    }
}

/// The active resolver.
pub(super) struct Term {
    work: Arc<Work>,
    lease: Lease,
    writer: Box<dyn Writer>,
    inputs: Inputs,
    publisher: Publisher,
    /// Away while it decides, on a thread where it may block.
    decider: Option<Decider>,
    /// How far the input is decided and committed, per partition.
    decided: BTreeMap<TopicPartition, Offset>,
    /// How far it is decided beyond that.
    unwritten: BTreeMap<TopicPartition, Offset>,
    mirror_at: Instant,
    epoch: u64,
    resyncs: Resyncs,
}

impl Term {
    /// Becomes the active resolver: after this, nobody else can commit, and the view holds all that anybody did.
    ///
    /// May be cancelled at any point: until its last step it changes nothing but who is fenced.
    pub(super) async fn take_over(work: Arc<Work>, lease: Lease) -> Result<Self, Ended> {
        let parts = &work.parts;
        // Opening the writer fences the one before, so it must not be done on the strength of an old assignment.
        if !lease.stands().await? {
            return Err(Ended::LeaseLost);
        }
        let mut writer = parts.log.writer(&parts.transactional_id()).await?;
        // Taken after the fence: nothing of a predecessor can be committed beyond these ends.
        if parts.protections.hold(Protection::RecordsCatchUp) {
            for (at, end) in parts.ends().await? {
                parts.view.reached(&at, end).await?;
            }
        }
        parts.check_secret()?;
        let epoch = 1 + parts.state::<state::Epoch>(EPOCH)?.map_or(0, |last| last.epoch);
        let inputs = Inputs::open(parts).await?;
        let decided: BTreeMap<_, _> = inputs.positions().map(|(at, offset)| (at.clone(), offset)).collect();
        let publisher = Publisher::open(parts).await?;

        let term = state::Epoch { epoch, worker: Some(parts.worker.clone()), format: FORMAT };
        let mut records = vec![state::record(&parts.topics.resolver, EPOCH.to_owned(), &term)];
        if parts.state::<KeyCheck>(KEY_CHECK)?.is_none() {
            records.push(state::record(&parts.topics.resolver, KEY_CHECK.to_owned(), &KeyCheck::of(&parts.hasher)));
        }
        // Also of partitions that nothing was read of: what their topic deletes from here on is missed, not unknown.
        records.extend(positions(parts, epoch, &decided));
        let first = Transaction { records, offsets: Some(mirror(parts, &lease, &decided)) };
        match writer.write(first).await {
            Ok(()) => lease.member.confirmed(),
            Err(failure) => return Err(ended_by(failure)),
        }

        let decider = Decider::new(parts, Arc::clone(&work.resolve), work.bounds, epoch);
        let mirror_at = Instant::now() + MIRROR_EVERY;
        let decider = Some(decider);
        let unwritten = BTreeMap::new();
        Ok(Self {
            work,
            lease,
            writer,
            inputs,
            publisher,
            decider,
            decided,
            unwritten,
            mirror_at,
            epoch,
            resyncs: Resyncs::default(),
        })
    }

    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Decides input until the term ends. A stop lets the batch at hand be committed.
    pub(super) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Ended {
        let worked = self.work(&mut stop).await;
        self.leave_resyncs();
        match worked {
            Ok(()) => Ended::Stopped,
            Err(ended) => ended,
        }
    }

    async fn work(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), Ended> {
        let mut read = read_ahead(&mut self.inputs, &self.work).await?;
        while !*stop.borrow() {
            self.carry_on_resyncs(stop).await?;
            // Positions also move without events, over markers; they are written with the next events.
            self.unwritten.extend(std::mem::take(&mut read.positions));
            if read.events.is_empty() {
                self.mirror_if_due(stop).await?;
                read = read_ahead(&mut self.inputs, &self.work).await?;
                continue;
            }
            self.keep_ahead_small(stop).await?;
            let batch = self.decide(read.events).await?;
            let publication = self.publisher.publication(&self.work.parts, &batch, Body::Whole);
            let transaction = self.transaction(publication.records, &self.unwritten);
            // The next batch is read while this one is committed; it is decided only after.
            let (written, next) = tokio::join!(
                write(&self.work.parts, &mut *self.writer, &self.lease, transaction, stop.clone()),
                read_ahead(&mut self.inputs, &self.work),
            );
            match written {
                Ok(()) => self.committed(&batch, &publication.outcomes),
                Err(NotWritten::TooLarge { to }) => {
                    warn!(topic = %to.topic, "a batch holds a record larger than max.message.bytes of the topic; its events go one by one");
                    self.one_by_one(batch, stop).await?;
                }
                Err(NotWritten::Ended(ended)) => return Err(ended),
            }
            // Everything decided is committed here; of what was read ahead, nothing is decided.
            self.mirror_if_due(stop).await?;
            read = next?;
        }
        Ok(())
    }

    async fn decide(&mut self, events: Vec<Prepared>) -> Result<DecidedBatch, Ended> {
        let now = self.work.parts.clock.now();
        let mut decider = self.decider.take().expect("the decider is back before it is needed again");
        let (decider, decided) = spawn_blocking(move || {
            let decided = decider.decide(events, now);
            (decider, decided)
        })
        .await
        .map_err(|_panicked| Ended::Failed(ResolverError::Thread))?;
        self.decider = Some(decider);
        Ok(decided?)
    }

    fn decider(&mut self) -> &mut Decider {
        self.decider.as_mut().expect("the decider is back before it is needed again")
    }

    /// Records together with the input positions that they were decided from.
    fn transaction(&self, mut records: Vec<NewRecord>, reached: &BTreeMap<TopicPartition, Offset>) -> Transaction {
        records.extend(positions(&self.work.parts, self.epoch, reached));
        Transaction { records, offsets: Some(mirror(&self.work.parts, &self.lease, reached)) }
    }

    /// A batch was committed: counts it, and keeps its decisions until the view has them.
    fn committed(&mut self, batch: &DecidedBatch, outcomes: &[Outcome]) {
        self.decider().ahead.committed();
        let positions = std::mem::take(&mut self.unwritten);
        self.decided.extend(positions);
        let Parts { metrics, traces, subjects, .. } = &self.work.parts;
        for event in &batch.events {
            traces.resolved(&event.place, &resolved(event, subjects, self.epoch));
            metrics.event_read();
            if event.ignored_attributes > 0 {
                metrics.attributes_ignored(event.ignored_attributes);
            }
            if event.decision.tied {
                metrics.version_tied();
            }
            for notice in &event.decision.notices {
                match notice {
                    Notice::Conflict { code, .. } => metrics.identity_conflict(*code),
                    Notice::Generic { .. } => metrics.key_became_generic(),
                }
            }
            for dropped in &event.decision.dropped {
                metrics.keys_dropped(dropped.code, dropped.count);
            }
            if let Answer::DeadLetters(fault) = &event.decision.answer {
                metrics.dead_letter(fault.code);
            }
        }
        for outcome in outcomes {
            metrics.outcome_settled(outcome);
        }
    }

    /// Publishes a batch that holds something too large, event by event, and quarantines what will not fit.
    async fn one_by_one(&mut self, batch: DecidedBatch, stop: &mut watch::Receiver<bool>) -> Result<(), Ended> {
        let decider = self.decider();
        decider.ahead.discard();
        decider.panics_in_a_row = 0;
        let reached = std::mem::take(&mut self.unwritten);
        for Decided { input, .. } in batch.events {
            let after = BTreeMap::from([(input.at.clone(), input.offset + 1)]);
            let event = prepare(vec![input], &*self.work.read).pop().expect("one record in, one event out");
            let again = Prepared { input: event.input.clone(), read: event.read.clone() };
            self.unwritten.extend(after);
            let decided = self.decide(vec![event]).await?;
            if self.write_alone(decided, Body::Whole, stop).await?.is_none() {
                continue;
            }
            let fault = match again.read {
                Err(fault) => fault,
                Ok(change) => Fault { code: ReasonCode::RecordTooLarge, pointer: None, event: change.event },
            };
            let quarantined = || vec![Prepared { input: again.input.clone(), read: Err(fault.clone()) }];
            let decided = self.decide(quarantined()).await?;
            if self.write_alone(decided, Body::Whole, stop).await?.is_none() {
                continue;
            }
            error!(topic = %again.input.at.topic, partition = again.input.at.partition, offset = again.input.offset,
                "an event is too large even for the dead letters; it is quarantined there without its body");
            let decided = self.decide(quarantined()).await?;
            if let Some(to) = self.write_alone(decided, Body::LeftOut, stop).await? {
                return Err(Ended::Failed(ResolverError::TooLarge { to }));
            }
        }
        // Beyond the last events there may be markers.
        self.unwritten = reached;
        Ok(())
    }

    /// Writes one batch. If it is too large, it is as if never decided, and the place it does not fit into comes back.
    async fn write_alone(
        &mut self,
        batch: DecidedBatch,
        body: Body,
        stop: &watch::Receiver<bool>,
    ) -> Result<Option<TopicPartition>, Ended> {
        let publication = self.publisher.publication(&self.work.parts, &batch, body);
        let transaction = self.transaction(publication.records, &self.unwritten);
        match write(&self.work.parts, &mut *self.writer, &self.lease, transaction, stop.clone()).await {
            Ok(()) => {
                self.committed(&batch, &publication.outcomes);
                Ok(None)
            }
            Err(NotWritten::TooLarge { to }) => {
                self.decider().ahead.discard();
                Ok(Some(to))
            }
            Err(NotWritten::Ended(ended)) => Err(ended),
        }
    }

    /// Lets go of decisions that the view has; waits for the view when there are too many that it has not.
    async fn keep_ahead_small(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), Ended> {
        let view = self.work.parts.view.clone();
        loop {
            self.decider().ahead.retire(&view);
            if self.decider().ahead.wants_horizon() {
                let ends = self.work.parts.ends().await?;
                self.decider().ahead.set_horizon(ends);
            }
            let ahead = &self.decider().ahead;
            let Some(horizon) = ahead.horizon().filter(|_| ahead.is_full()).cloned() else {
                return Ok(());
            };
            for (at, end) in horizon.ends {
                tokio::select! {
                    reached = view.reached(&at, end) => reached?,
                    () = stopped(stop) => return Err(Ended::Stopped),
                }
            }
        }
    }

    /// Commits the positions of all partitions anew, those of quiet ones too, if it is time.
    async fn mirror_if_due(&mut self, stop: &watch::Receiver<bool>) -> Result<(), Ended> {
        if Instant::now() < self.mirror_at {
            return Ok(());
        }
        self.decided.extend(std::mem::take(&mut self.unwritten));
        let transaction = self.transaction(Vec::new(), &self.decided);
        match write(&self.work.parts, &mut *self.writer, &self.lease, transaction, stop.clone()).await {
            Ok(()) => {
                self.mirror_at = Instant::now() + MIRROR_EVERY;
                Ok(())
            }
            Err(NotWritten::TooLarge { to }) => Err(Ended::Failed(ResolverError::TooLarge { to })),
            Err(NotWritten::Ended(ended)) => Err(ended),
        }
    }
}

/// How a term ends whose transaction failed.
fn ended_by(failure: WriteError) -> Ended {
    match failure {
        WriteError::Unauthorized { reason } => Ended::Failed(ResolverError::NotPermitted { reason }),
        failure => Ended::Anew { reason: failure.to_string() },
    }
}

/// Why a transaction was not committed.
enum NotWritten {
    TooLarge { to: TopicPartition },
    Ended(Ended),
}

/// Commits a transaction, trying again for as long as that may help and nobody wants to stop.
async fn write(
    parts: &Parts,
    writer: &mut dyn Writer,
    lease: &Lease,
    transaction: Transaction,
    mut stop: watch::Receiver<bool>,
) -> Result<(), NotWritten> {
    let mut pause = RETRY_MIN;
    loop {
        let begun = Instant::now();
        let failure = match writer.write(transaction.clone()).await {
            Ok(()) => {
                lease.member.confirmed();
                parts.metrics.transaction_committed(RESOLVER, begun.elapsed());
                return Ok(());
            }
            Err(failure) => failure,
        };
        parts.metrics.transaction_failed(RESOLVER);
        match failure {
            WriteError::TooLarge { to } => return Err(NotWritten::TooLarge { to }),
            WriteError::Unauthorized { .. } => return Err(NotWritten::Ended(ended_by(failure))),
            WriteError::Fenced | WriteError::Unknown { .. } => {
                return Err(NotWritten::Ended(Ended::Anew { reason: failure.to_string() }));
            }
            WriteError::Refused => {
                if !lease.stands().await.map_err(|failure| NotWritten::Ended(failure.into()))? {
                    return Err(NotWritten::Ended(Ended::LeaseLost));
                }
            }
            WriteError::Aborted { .. } => {}
        }
        warn!(error = %failure, "a transaction of the resolver will be tried again");
        tokio::select! {
            () = sleep(pause) => {}
            () = stopped(&mut stop) => return Err(NotWritten::Ended(Ended::Stopped)),
        }
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Reads the next batch and prepares it, on a thread where that may take its time.
async fn read_ahead(inputs: &mut Inputs, work: &Work) -> Result<PreparedBatch, Ended> {
    let progress = inputs.next(work.parts.settings.batch_events_max).await?;
    if progress.records.is_empty() {
        return Ok(PreparedBatch { events: Vec::new(), positions: progress.positions });
    }
    let read = Arc::clone(&work.read);
    let events = spawn_blocking(move || prepare(progress.records, &*read))
        .await
        .map_err(|_panicked| Ended::Failed(ResolverError::Thread))?;
    Ok(PreparedBatch { events, positions: progress.positions })
}

/// What is told of a decision.
fn resolved<'a>(event: &'a Decided, subjects: &'a Subjects, epoch: u64) -> Resolved<'a> {
    let decision = &event.decision;
    // The one that answers for the event; a merge has the other one's, too.
    let entry = decision.entries.iter().find(|entry| entry.cause.is_none());
    let (contact, version, outcome) = match &decision.answer {
        Answer::Replicators => (entry.map(|entry| entry.contact_id), entry.map(|entry| entry.version), None),
        Answer::Resolver(ending) => (ending.contact_id, ending.version, Some((ending.outcome, Some(ending.code)))),
        Answer::DeadLetters(fault) => (None, None, Some((OutcomeKind::Quarantined, Some(fault.code)))),
    };
    Resolved { event: &event.event, subjects, contact, version, outcome, epoch }
}

/// The input positions as state records, which are the truth.
fn positions(parts: &Parts, epoch: u64, reached: &BTreeMap<TopicPartition, Offset>) -> impl Iterator<Item = NewRecord> {
    reached.iter().map(move |(at, offset)| {
        let position = Position { offset: *offset, epoch, format: FORMAT };
        state::record(&parts.topics.resolver, Position::key(at), &position)
    })
}

/// The input positions as group offsets: only for tools that show lag, the truth is in the state records. They also tie
/// the transaction to the membership, so that an expelled member cannot commit.
fn mirror(parts: &Parts, lease: &Lease, positions: &BTreeMap<TopicPartition, Offset>) -> GroupOffsets {
    let commits = positions
        .iter()
        .map(|(at, offset)| OffsetCommit { at: at.clone(), offset: *offset, metadata: String::new() })
        .collect();
    let relies_on = [(LEASE, lease.assignment)].into_iter().filter(|_| parts.protections.hold(Protection::OwnMap));
    GroupOffsets { member: Arc::clone(&lease.member), commits, relies_on: relies_on.collect() }
}
