//! Reads a topic of ours from somewhere up to where it ended when that began, a few records at a time.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;

use super::{Ended, Position};
use crate::{
    config::TopicNames,
    event::{audit, dead_letter::DeadLetter},
    log::{Follower, Log, Offset, Partition, Record, TopicPartition},
};

/// Records of one poll, and how long it waits for them. Each may be as large as a topic takes.
const RECORDS_AT_ONCE: usize = 64;
const POLL_WAIT: Duration = Duration::from_millis(200);
/// How long nothing may come where there is something to come: a transaction that stays open holds back what is behind it.
const STALL_MAX: Duration = Duration::from_secs(60);
/// Letters that are known to have been replayed, at most.
const MARKS_MAX: usize = 1_000_000;

/// From where letters are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Begun {
    Since(Option<Timestamp>),
    /// These alone.
    At(BTreeSet<Position>),
}

pub(super) struct Scan {
    follower: Box<dyn Follower>,
    /// What is still to be read, with its end.
    left: BTreeMap<TopicPartition, Offset>,
    read: VecDeque<Record>,
    moved_at: Instant,
    topic: Arc<str>,
    /// Which letters are meant, and not found yet; `None`: all.
    only: Option<BTreeSet<Position>>,
}

impl Scan {
    pub(super) async fn of_letters(log: &dyn Log, topic: &Arc<str>, begun: Begun) -> Result<Self, Ended> {
        let (since, only) = match begun {
            Begun::Since(since) => (since, None),
            Begun::At(positions) => (None, Some(positions)),
        };
        // Where letters are named by their own positions, it is known from where on they are.
        let firsts = only.as_ref().filter(|only| only.iter().all(|position| position.topic == *topic)).map(|only| {
            let mut firsts: BTreeMap<Partition, Offset> = BTreeMap::new();
            for Position { partition, offset, .. } in only {
                let first = firsts.entry(*partition).or_insert(*offset);
                *first = (*first).min(*offset);
            }
            firsts
        });
        Self::open(log, topic, since, firsts.as_ref(), only).await
    }

    async fn open(
        log: &dyn Log,
        topic: &Arc<str>,
        since: Option<Timestamp>,
        firsts: Option<&BTreeMap<Partition, Offset>>,
        only: Option<BTreeSet<Position>>,
    ) -> Result<Self, Ended> {
        let mut follower = log.follower().await?;
        let mut left = BTreeMap::new();
        for partition in 0..log.partitions(topic).await?.unwrap_or(0) {
            let at = TopicPartition::new(topic.clone(), partition);
            let bounds = log.watermarks(&at).await?;
            let first = match (firsts, since) {
                (Some(firsts), _) => firsts.get(&partition).copied().unwrap_or(bounds.high),
                (None, Some(since)) => log.offset_at(&at, since).await?,
                (None, None) => bounds.low,
            };
            let first = first.max(bounds.low);
            if first < bounds.high {
                follower.assign(at.clone(), first).await?;
                left.insert(at, bounds.high);
            }
        }
        let (read, moved_at) = (VecDeque::new(), Instant::now());
        Ok(Self { follower, left, read, moved_at, topic: topic.clone(), only })
    }

    /// The next record; `None`: that was all.
    pub(super) async fn next(&mut self) -> Result<Option<Record>, Ended> {
        loop {
            if let Some(record) = self.read.pop_front() {
                return Ok(Some(record));
            }
            if self.left.is_empty() || self.only.as_ref().is_some_and(BTreeSet::is_empty) {
                return Ok(None);
            }
            let progress = self.follower.poll(RECORDS_AT_ONCE, POLL_WAIT).await?;
            if !progress.records.is_empty() || !progress.positions.is_empty() {
                self.moved_at = Instant::now();
            } else if self.moved_at.elapsed() > STALL_MAX {
                return Err(Ended::Late(self.topic.clone()));
            }
            // What is written while it is read is not meant: a letter that died again would be found without end.
            let left = &self.left;
            let before_end = |record: &Record| left.get(&record.at).is_some_and(|end| record.offset < *end);
            self.read.extend(progress.records.into_iter().filter(before_end));
            for (at, position) in progress.positions {
                if self.left.get(&at).is_some_and(|end| position >= *end) {
                    self.left.remove(&at);
                    self.follower.unassign(&at).await?;
                }
            }
        }
    }

    /// Whether that is one of those that were named, if any were. Of events that died at one position twice, which no log
    /// has, the first is meant.
    pub(super) fn is_meant(&mut self, record: &Record, letter: &DeadLetter) -> bool {
        let Some(only) = &mut self.only else { return true };
        let (topic, partition, offset) = (letter.topic.clone(), letter.partition, letter.offset);
        only.remove(&Position::of(record)) | only.remove(&Position { topic, partition, offset })
    }
}

/// Which dead letters were replayed, as the audit trail tells.
#[derive(Debug, Default)]
pub(super) struct Marks(BTreeSet<(Partition, Offset)>);

/// What of an audit record tells which letters it concerns.
#[derive(Deserialize)]
struct Told {
    target: Letters,
}

#[derive(Deserialize)]
struct Letters {
    #[serde(default)]
    letters: Vec<Position>,
}

impl Marks {
    pub(super) async fn read(log: &dyn Log, topics: &TopicNames) -> Result<Self, Ended> {
        let mut lows = BTreeMap::new();
        for partition in 0..log.partitions(&topics.dead_letters).await?.unwrap_or(0) {
            let at = TopicPartition::new(topics.dead_letters.clone(), partition);
            lows.insert(partition, log.watermarks(&at).await?.low);
        }
        let replay = format!("{}{}", audit::TYPE_PREFIX, audit::Action::DeadLettersReplay);
        let mut marks = Self::default();
        let mut scan = Scan::open(log, &topics.audit, None, None, None).await?;
        while let Some(record) = scan.next().await? {
            if record.header("ce_type").map(|kind| &**kind) != Some(replay.as_bytes()) {
                continue;
            }
            let Some(Ok(told)) = record.value.as_deref().map(serde_json::from_slice::<Told>) else { continue };
            for Position { topic, partition, offset } in told.target.letters {
                // Those that aged out need no mark any more.
                if topic == topics.dead_letters && lows.get(&partition).is_some_and(|low| *low <= offset) {
                    marks.0.insert((partition, offset));
                }
            }
            if marks.0.len() > MARKS_MAX {
                return Err(Ended::TooManyMarks);
            }
        }
        Ok(marks)
    }

    pub(super) fn has(&self, letter: &Record) -> bool {
        self.0.contains(&(letter.at.partition, letter.offset))
    }
}
