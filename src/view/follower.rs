//! The follower: the only writer of the view.
//!
//! It reads the compacted topics from where the view stands, and applies what each poll brings in one batch: the
//! newest value of each key, and the positions reached. Only then are those positions told to readers, so whoever
//! waited for one finds the data there. Losing a batch, or the whole view, costs reading it again.
//!
//! Keys, records and the resolver's state are followed always; links only of partitions that this worker owns. A
//! partition that is no longer owned keeps its data and its position, so that owning it again is cheap.
//!
//! The hard part is to notice that a topic is not the one that was followed. A topic that was deleted and made again
//! can be read on from the old position without any error, and its links would be missing: every contact would be
//! created a second time. So each partition begins with a *birth record*, whose id is remembered. Before a partition
//! is followed from where it was left, the follower reads its birth record again and compares; every minute it
//! compares existence, partition count, beginning and end (`sameness` judges the signs). (A topic that is replaced *and* refilled within one minute, under a
//! running worker, is noticed at the next start.) What it finds stops the worker with a sentence, unless the operator
//! accepted the topic by name; then its data is removed from the view and read anew.
//!
//! A position can also fall out of range. Compaction never does that: it leaves gaps, which reading passes over.
//! Below the oldest record it means that somebody deleted a part of the topic, which took links and keys with it:
//! treated as a replaced topic, for the same reason. Within the range it is a passing confusion of the broker: the
//! partition is assigned again where it stood.
//!
//! A partition that was away for longer than half of the time that tombstones live may have missed some, and is read
//! anew. `followed_at` of a position is a time before which everything is known to be read: it rises only when the
//! position has passed an end that was asked for at that time, and not because the worker was merely running.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tracing::{info, warn};

use super::{
    Command, Following, Progress as Told, View, ViewError,
    batch::{Changes, Kind, remove_partition},
    layout::{Birth, Position},
    sameness::{self, Checked, CheckedEnd, LOOK_AGAIN, Suspicions, unlike},
    store::away_too_long,
};
use crate::{
    clock::Clock,
    config::{TopicNames, TopicSettings, ViewSettings},
    log::{Follower as Reader, Log, LogError, Offset, Progress, Record, TopicPartition, Watermarks},
    metrics::Metrics,
};

/// Key of the record with which a partition begins, and which names it for good. All keys that begin with `#` are
/// about a topic, not in it.
pub const BIRTH_KEY: &str = "#birth";

/// How long a poll waits for news, and how soon is tried again what the log refused for the moment.
const POLL_WAIT: Duration = Duration::from_millis(500);
/// How often topics are looked at.
const CHECK_EVERY: Duration = Duration::from_secs(60);
/// Requests waiting for the follower. Each is one partition that comes or goes.
const COMMANDS_MAX: usize = 64;
/// Follows the log into the view. Made once per view; [`Follower::run`] is its life.
pub struct Follower {
    view: View,
    log: Arc<dyn Log>,
    topics: TopicNames,
    /// Partition count of the topics keyed by contact.
    partitions: u32,
    batch_records_max: usize,
    away_max: Duration,
    /// Topics that may have been replaced, by the operator's word.
    accepted: BTreeSet<Arc<str>>,
    clock: Clock,
    metrics: Metrics,
    commands: mpsc::Receiver<Command>,
    followed: BTreeMap<TopicPartition, Followed>,
    /// When partitions that could not be begun are tried again.
    begin_at: Option<Instant>,
    suspicions: Suspicions,
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Follower")
    }
}

/// A partition that is to be followed.
struct Followed {
    kind: Kind,
    phase: Phase,
    /// Everything below is in the view.
    position: Offset,
    /// Everything written before is below `position`.
    followed_at: Timestamp,
    birth: Option<Birth>,
    /// Whoever waits for the partition to be followed.
    waiting: Vec<oneshot::Sender<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not assigned; `out_of_range` when the log could not read on from the position.
    Waiting {
        out_of_range: bool,
    },
    /// Reads the birth record again before it goes on from where it was left.
    Proving,
    Following,
}

/// Tells readers that nothing more will come, however the follower ends.
struct Ended(View);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.shared.progress.send_modify(|progress| progress.ended = true);
    }
}

impl Follower {
    /// The follower of `view`, and what asks it to follow links. `accepted` are topics of ours that the operator says
    /// may have been replaced since this view was last open.
    pub fn new(
        view: View,
        log: Arc<dyn Log>,
        settings: &ViewSettings,
        topics: &TopicSettings,
        accepted: impl IntoIterator<Item = Arc<str>>,
        clock: Clock,
        metrics: Metrics,
    ) -> (Self, Following) {
        let (sender, commands) = mpsc::channel(COMMANDS_MAX);
        let follower = Self {
            view,
            log,
            topics: TopicNames::new(&topics.prefix),
            partitions: topics.partitions,
            batch_records_max: settings.batch_records_max,
            away_max: topics.tombstones_retention / 2,
            accepted: accepted.into_iter().collect(),
            clock,
            metrics,
            commands,
            followed: BTreeMap::new(),
            begin_at: None,
            suspicions: Suspicions::default(),
        };
        (follower, Following { commands: sender })
    }

    /// Follows until `stop`, then hands to the disk what is not there yet. A log that is away is waited for.
    ///
    /// # Errors
    /// [`ViewError::Replaced`] when a topic is not the one that was followed, [`ViewError::Disk`] when the view cannot
    /// be written, [`ViewError::Log`] when the log refuses for good. After any of them the worker cannot go on.
    pub async fn run(mut self, stop: impl Future<Output = ()> + Send) -> Result<(), ViewError> {
        let _ended = Ended(self.view.clone());
        let result = self.follow(stop).await;
        let view = self.view.clone();
        // On a thread for blocking work, which holds a paused clock still.
        let flushed = tokio::task::spawn_blocking(move || view.shared.store.flush()).await;
        result
            .and(flushed.unwrap_or_else(|_panicked| Err(ViewError::Disk { reason: "flushing ended early".to_owned() })))
    }

    async fn follow(&mut self, stop: impl Future<Output = ()> + Send) -> Result<(), ViewError> {
        let mut stop = pin!(stop);
        let mut reader = tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            reader = open_reader(&*self.log) => reader?,
        };
        self.expect_topics();
        let mut check_every = interval_at(Instant::now() + CHECK_EVERY, CHECK_EVERY);
        check_every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut checks = JoinSet::new();
        loop {
            if self.begin_at.is_some_and(|begin_at| begin_at <= Instant::now()) {
                tokio::select! {
                    biased;
                    () = &mut stop => return Ok(()),
                    begun = self.begin_waiting(&mut *reader) => begun?,
                }
            }
            // Polling comes last: under load it is always ready.
            tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                Some(command) = self.commands.recv() => self.obey(&mut *reader, command).await?,
                Some(checked) = checks.join_next() => match checked {
                    Ok(checked) => if !self.judge(checked)? {
                        check_every.reset_after(LOOK_AGAIN);
                    },
                    Err(error) => warn!(%error, "a check of the topics ended early"),
                },
                _ = check_every.tick(), if checks.is_empty() => { checks.spawn(self.check()); }
                polled = reader.poll(self.batch_records_max, POLL_WAIT) => match polled {
                    Ok(progress) => {
                        self.absorb(&mut *reader, progress).await?;
                        tokio::task::yield_now().await;
                    }
                    Err(LogError::OutOfRange { at, offset }) => {
                        warn!(%at, offset, "the log cannot read on from where the view stands");
                        self.await_begin(&at, true);
                    }
                    // Beginning anew finds out whether it is gone for good.
                    Err(LogError::UnknownTopic { topic }) => {
                        let of_topic = |at: &&TopicPartition| at.topic == topic;
                        let gone: Vec<_> = self.followed.keys().filter(of_topic).cloned().collect();
                        gone.iter().for_each(|at| self.await_begin(at, false));
                    }
                    Err(error) if error.is_transient() => {
                        warn!(error = &error as &dyn std::error::Error, "following the log is interrupted");
                        tokio::select! {
                            () = &mut stop => return Ok(()),
                            () = sleep(POLL_WAIT) => {}
                        }
                    }
                    Err(error) => return Err(error.into()),
                },
            }
        }
    }

    /// The partitions that every worker follows.
    fn expect_topics(&mut self) {
        let shared = [(self.topics.keys.clone(), Kind::Keys), (self.topics.records.clone(), Kind::Records)];
        for (topic, kind) in shared {
            for partition in 0..self.partitions {
                self.followed.insert(TopicPartition::new(topic.clone(), partition), Followed::new(kind.clone()));
            }
        }
        self.followed.insert(TopicPartition::new(self.topics.resolver.clone(), 0), Followed::new(Kind::State));
        self.begin_at = Some(Instant::now());
    }

    async fn obey(&mut self, reader: &mut dyn Reader, command: Command) -> Result<(), ViewError> {
        match command {
            Command::Start { crm, partition, done } => {
                let at = TopicPartition::new(self.topics.links(&crm), partition);
                let followed = self.followed.entry(at).or_insert_with(|| Followed::new(Kind::Links { crm }));
                if followed.phase == Phase::Following {
                    answer(done);
                } else {
                    followed.waiting.push(done);
                    self.begin_at = Some(Instant::now());
                }
            }
            Command::Stop { crm, partition, done } => {
                let at = TopicPartition::new(self.topics.links(&crm), partition);
                if self.followed.remove(&at).is_some_and(|followed| !matches!(followed.phase, Phase::Waiting { .. })) {
                    self.withdraw(&at);
                    match reader.unassign(&at).await {
                        Ok(()) => {}
                        // Records of it that still come are passed over.
                        Err(error) if error.is_transient() => {
                            warn!(%at, %error, "a partition could not be given back yet")
                        }
                        Err(error) => return Err(error.into()),
                    }
                }
                answer(done);
            }
        }
        Ok(())
    }

    /// Begins what is waiting to be followed. What the log refuses for the moment is tried again later.
    async fn begin_waiting(&mut self, reader: &mut dyn Reader) -> Result<(), ViewError> {
        let is_waiting = |followed: &Followed| matches!(followed.phase, Phase::Waiting { .. });
        let waiting: Vec<_> =
            self.followed.iter().filter(|(_, followed)| is_waiting(followed)).map(|(at, _)| at.clone()).collect();
        // All at once: one partition without a leader must not hold up the others for its time-out.
        let watermarks = join_all(waiting.iter().map(|at| self.log.watermarks(at))).await;
        self.begin_at = None;
        for (at, watermarks) in waiting.into_iter().zip(watermarks) {
            let begun = match watermarks {
                Ok(watermarks) => self.begin(reader, &at, watermarks).await,
                Err(LogError::UnknownTopic { topic }) => {
                    let finding = "it is gone".to_owned();
                    let now = Instant::now();
                    if self.suspicions.is_due(&at, now) && self.suspicions.confirm(&at, &finding, now) {
                        Err(ViewError::Replaced { topic, finding })
                    } else {
                        self.begin_at = Some(Instant::now() + LOOK_AGAIN);
                        Ok(())
                    }
                }
                Err(error) => Err(error.into()),
            };
            match begun {
                Ok(()) => {}
                Err(ViewError::Log(error)) if error.is_transient() => {
                    warn!(%at, %error, "a partition cannot be followed yet");
                    self.begin_at = Some(Instant::now() + POLL_WAIT);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Begins one partition, from where the view stands if that is still a place in the same topic.
    async fn begin(
        &mut self,
        reader: &mut dyn Reader,
        at: &TopicPartition,
        watermarks: Watermarks,
    ) -> Result<(), ViewError> {
        let Some(Followed { kind, phase: Phase::Waiting { out_of_range }, .. }) = self.followed.get(at) else {
            return Ok(());
        };
        let (kind, out_of_range) = (kind.clone(), *out_of_range);
        let store = &self.view.shared.store;
        let (mut stored, mut birth) = (store.position(at)?, store.birth(at)?);
        let now = self.clock.now();
        if let Some(finding) = unlike(stored, birth.as_ref(), watermarks, out_of_range) {
            if !self.suspicions.confirm(at, &finding, Instant::now()) {
                self.begin_at = Some(Instant::now() + LOOK_AGAIN);
                return Ok(());
            }
            self.replaced(at, &kind, finding)?;
            (stored, birth) = (None, None);
        } else if stored.is_some_and(|stored| away_too_long(stored.followed_at, now, self.away_max)) {
            warn!(%at, "a partition was away for so long that it may have missed deletions, and is read anew");
            remove_partition(store, at, &kind, self.partitions, false)?;
            stored = None;
        }
        let (phase, from) = match (stored, &birth) {
            (Some(_), Some(birth)) => (Phase::Proving, birth.offset),
            (Some(stored), None) => (Phase::Following, stored.offset),
            (None, _) => (Phase::Following, watermarks.low),
        };
        self.suspicions.clear(at);
        reader.assign(at.clone(), from).await?;
        let followed = self.followed.get_mut(at).expect("looked up above");
        followed.phase = phase;
        followed.position = stored.map_or(watermarks.low, |stored| stored.offset);
        followed.followed_at = stored.map_or(now, |stored| stored.followed_at);
        followed.birth = birth;
        if phase == Phase::Following {
            self.announce(at);
        }
        Ok(())
    }

    /// Takes in what a poll brought: all of it in one batch, then the news of it.
    async fn absorb(&mut self, reader: &mut dyn Reader, progress: Progress) -> Result<(), ViewError> {
        let mut changes = Changes::default();
        let mut proven = BTreeSet::new();
        let mut replaced: BTreeMap<TopicPartition, String> = BTreeMap::new();
        let records = progress.records.len();
        for record in progress.records {
            let Some(followed) = self.followed.get_mut(&record.at) else {
                continue;
            };
            if proven.contains(&record.at) || replaced.contains_key(&record.at) {
                continue;
            }
            match followed.phase {
                Phase::Waiting { .. } => {}
                Phase::Proving => match followed.compare_birth(&record) {
                    Ok(()) => proven.extend([record.at]),
                    Err(finding) => replaced.extend([(record.at, finding)]),
                },
                // An assignment that is begun anew may bring what is known already.
                Phase::Following if record.offset < followed.position => {}
                Phase::Following if record.key.as_deref() == Some(BIRTH_KEY.as_bytes()) => {
                    match followed.meet_birth(&record) {
                        Ok(birth) => changes.note_birth(record.at, birth),
                        Err(finding) => replaced.extend([(record.at, finding)]),
                    }
                }
                Phase::Following => changes.note(&followed.kind, record),
            }
        }
        for (at, position) in progress.positions {
            let Some(followed) = self.followed.get_mut(&at) else {
                continue;
            };
            if replaced.contains_key(&at) || proven.contains(&at) {
                continue;
            }
            match followed.phase {
                Phase::Waiting { .. } => {}
                Phase::Proving => {
                    if followed.birth.as_ref().is_some_and(|birth| position > birth.offset) {
                        replaced.insert(at, "its birth record is gone".to_owned());
                    }
                }
                Phase::Following => {
                    if position > followed.position {
                        followed.position = position;
                        changes.note_position(at, followed.reached());
                    }
                }
            }
        }
        if let Some((at, finding)) = replaced.iter().find(|(at, _)| !self.accepted.contains(&at.topic)) {
            return Err(ViewError::Replaced { topic: at.topic.clone(), finding: finding.clone() });
        }
        if !changes.is_empty() {
            let positions = changes.write(&self.view.shared.store)?;
            self.metrics.view_applied(records);
            let positions = positions.into_iter().map(|(at, position)| (at, position.offset));
            self.tell(|told| told.positions.extend(positions));
        }
        for at in proven {
            self.resume(reader, &at).await?;
        }
        for (at, finding) in replaced {
            if let Some(kind) = self.followed.get(&at).map(|followed| followed.kind.clone()) {
                self.replaced(&at, &kind, finding)?;
                self.await_begin(&at, false);
            }
        }
        Ok(())
    }

    /// Goes on where a partition was left, now that it has proved to be the same.
    async fn resume(&mut self, reader: &mut dyn Reader, at: &TopicPartition) -> Result<(), ViewError> {
        let Some(followed) = self.followed.get_mut(at) else {
            return Ok(());
        };
        match reader.assign(at.clone(), followed.position).await {
            Ok(()) => {
                followed.phase = Phase::Following;
                self.announce(at);
                Ok(())
            }
            Err(error) if error.is_transient() => {
                warn!(%at, %error, "a partition cannot be followed yet");
                self.await_begin(at, false);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Tells readers, and whoever asked for it, that a partition is followed.
    fn announce(&mut self, at: &TopicPartition) {
        let Some(followed) = self.followed.get_mut(at) else {
            return;
        };
        let position = followed.position;
        let waiting = std::mem::take(&mut followed.waiting);
        self.tell(|told| told.positions.extend([(at.clone(), position)]));
        waiting.into_iter().for_each(answer);
    }

    /// Sets a partition back to be begun, soon but not at once: a log that is confused gets time to recover.
    fn await_begin(&mut self, at: &TopicPartition, out_of_range: bool) {
        let Some(followed) = self.followed.get_mut(at) else {
            return;
        };
        followed.phase = Phase::Waiting { out_of_range };
        self.withdraw(at);
        self.begin_at = Some(Instant::now() + POLL_WAIT);
    }

    /// A topic is not the one that was followed: an end, or, where the operator accepted it, a new beginning.
    fn replaced(&self, at: &TopicPartition, kind: &Kind, finding: String) -> Result<(), ViewError> {
        if !self.accepted.contains(&at.topic) {
            return Err(ViewError::Replaced { topic: at.topic.clone(), finding });
        }
        warn!(%at, finding, "a partition was replaced, as the operator accepted, and is read anew");
        remove_partition(&self.view.shared.store, at, kind, self.partitions, true)
    }

    /// Asks the log about everything that is followed; runs beside the follower, because a broker may take its time.
    fn check(&self) -> impl Future<Output = Checked> + Send + 'static {
        let following = self.followed.iter().filter(|(_, followed)| followed.phase == Phase::Following);
        let partitions = following
            .map(|(at, followed)| (at.clone(), followed.position, followed.birth.as_ref().map(|birth| birth.offset)))
            .collect();
        let count = |kind: &Kind| {
            if *kind == Kind::State { 1 } else { self.partitions }
        };
        let topics = self.followed.iter().map(|(at, followed)| (at.topic.clone(), count(&followed.kind))).collect();
        sameness::check(self.log.clone(), self.clock.now(), topics, partitions)
    }

    /// Compares what a check found with what is followed, and notes how fresh the view is. Says whether there was
    /// nothing to look at again.
    fn judge(&mut self, checked: Checked) -> Result<bool, ViewError> {
        let findings = checked.findings();
        self.suspicions.keep(&findings);
        for (at, finding) in &findings {
            if self.suspicions.confirm(at, finding, Instant::now()) {
                return Err(ViewError::Replaced { topic: at.topic.clone(), finding: finding.clone() });
            }
        }
        let now = self.clock.now();
        let mut changes = Changes::default();
        for CheckedEnd { at, watermarks, .. } in checked.ends {
            let followed = self.followed.get_mut(&at);
            let Some(followed) = followed.filter(|followed| followed.phase == Phase::Following) else {
                continue;
            };
            if watermarks.is_ok_and(|watermarks| followed.position >= watermarks.high) {
                followed.followed_at = checked.asked_at;
                changes.note_position(at.clone(), followed.reached());
            }
            if away_too_long(followed.followed_at, now, self.away_max) {
                return Err(ViewError::CutOff { at });
            }
        }
        changes.write(&self.view.shared.store)?;
        Ok(findings.is_empty())
    }

    /// Tells readers that a partition is not followed now.
    fn withdraw(&self, at: &TopicPartition) {
        self.tell(|told| told.positions.retain(|followed, _| followed != at));
    }

    fn tell(&self, what: impl FnOnce(&mut Told)) {
        self.view.shared.progress.send_modify(what);
    }
}

impl Followed {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            phase: Phase::Waiting { out_of_range: false },
            position: 0,
            followed_at: Timestamp::MIN,
            birth: None,
            waiting: Vec::new(),
        }
    }

    fn reached(&self) -> Position {
        Position { offset: self.position, followed_at: self.followed_at }
    }

    /// Whether the record at the place of the birth record is that birth record.
    fn compare_birth(&self, record: &Record) -> Result<(), String> {
        let is_birth = record.key.as_deref() == Some(BIRTH_KEY.as_bytes());
        match &self.birth {
            Some(birth) if is_birth && record.value.as_deref() == Some(&birth.id) => Ok(()),
            _ => Err(format!("partition {} has another birth record", record.at.partition)),
        }
    }

    /// Remembers a birth record, unless another one is remembered.
    fn meet_birth(&mut self, record: &Record) -> Result<Birth, String> {
        if self.birth.is_some() {
            self.compare_birth(record)?;
        }
        let id = record.value.as_deref().unwrap_or_default().to_vec();
        Ok(self.birth.insert(Birth { offset: record.offset, id }).clone())
    }
}

/// Opens a reader; a log that is away is waited for.
async fn open_reader(log: &dyn Log) -> Result<Box<dyn Reader>, ViewError> {
    loop {
        match log.follower().await {
            Ok(reader) => return Ok(reader),
            Err(error) if error.is_transient() => {
                info!(%error, "the log cannot be followed yet");
                sleep(POLL_WAIT).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Tells whoever waits. One that no longer waits needs no telling.
fn answer(done: oneshot::Sender<()>) {
    done.send(()).ok();
}
