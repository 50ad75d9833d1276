//! How many events wait for a decision, so that senders slow down before the log holds more than can be worked off.
//!
//! The ends of the input partitions less the positions that the resolver wrote; any worker knows both, whoever decides.
//! Measuring costs a request to the log for each partition, so it is done at most once a [`REFRESH`], and only when
//! somebody asks. What was accepted since, and what is being written now, counts on top: a burst between two
//! measurements does not pass the bound. What is counted twice for a moment errs to the side of asking senders to wait.
//!
//! The bound may be reached and is not passed, as far as this worker knows: others append as well.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, timeout};

use super::problem::Refusal;
use crate::{
    log::{Log, LogError, Offset, TopicPartition},
    metrics::Metrics,
    resolver::ResolverError,
};

/// How old a measurement may be.
const REFRESH: Duration = Duration::from_secs(1);
/// A log that is slower than this is not there.
const MEASURE_DEADLINE: Duration = Duration::from_secs(5);

/// How far an input partition was decided; `None` if nothing of it was.
pub type Decided = Arc<dyn Fn(&TopicPartition) -> Result<Option<Offset>, ResolverError> + Send + Sync>;

pub(super) struct Backlog {
    log: Arc<dyn Log>,
    decided: Decided,
    topics: Vec<Arc<str>>,
    events_max: u64,
    metrics: Metrics,
    /// When it was last measured. Held while it is measured, so that one measures and the others wait for it.
    measured: tokio::sync::Mutex<Option<Instant>>,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    waiting: u64,
    accepted_since: u64,
    under_way: u64,
    partitions: BTreeMap<Arc<str>, u32>,
}

impl Counts {
    fn total(&self) -> u64 {
        self.waiting.saturating_add(self.accepted_since).saturating_add(self.under_way)
    }
}

impl fmt::Debug for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backlog")
    }
}

/// Room for events that are being written.
#[derive(Debug)]
pub(super) struct Room<'a> {
    backlog: &'a Backlog,
    events: u64,
    taken: bool,
}

impl Room<'_> {
    /// The events are in the log.
    pub(super) fn taken(mut self) {
        self.taken = true;
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let mut counts = self.backlog.counts.lock();
        counts.under_way -= self.events;
        if self.taken {
            counts.accepted_since += self.events;
        }
    }
}

impl Backlog {
    pub(super) fn new(
        log: Arc<dyn Log>,
        decided: Decided,
        topics: Vec<Arc<str>>,
        events_max: u64,
        metrics: Metrics,
    ) -> Self {
        let counts = Mutex::new(Counts::default());
        Self { log, decided, topics, events_max, metrics, measured: tokio::sync::Mutex::new(None), counts }
    }

    /// Whether one more event could be taken; and the partitions of `topic`, if it exists.
    pub(super) async fn look(&self, topic: &str) -> Result<u32, Refusal> {
        self.refresh().await?;
        let counts = self.counts.lock();
        if counts.total() >= self.events_max {
            return Err(Refusal::backlog());
        }
        counts.partitions.get(topic).copied().ok_or_else(Refusal::topic_missing)
    }

    /// Keeps room for `events` until they are written.
    pub(super) fn reserve(&self, events: usize) -> Result<Room<'_>, Refusal> {
        let events = events as u64;
        let mut counts = self.counts.lock();
        if counts.total().saturating_add(events) > self.events_max {
            return Err(Refusal::backlog());
        }
        counts.under_way += events;
        Ok(Room { backlog: self, events, taken: false })
    }

    async fn refresh(&self) -> Result<(), Refusal> {
        let mut measured = self.measured.lock().await;
        if measured.is_some_and(|at| at.elapsed() < REFRESH) {
            return Ok(());
        }
        // What was accepted before this is in what is measured now; what is accepted meanwhile may be, and stays counted.
        let accepted_before = self.counts.lock().accepted_since;
        let (waiting, partitions) = match timeout(MEASURE_DEADLINE, self.measure()).await {
            Ok(found) => found?,
            Err(_elapsed) => {
                let reason = format!("no answer within {MEASURE_DEADLINE:?}");
                return Err(Refusal::log(&LogError::Unavailable { doing: "measuring the backlog", reason }));
            }
        };
        self.metrics.ingest_backlog(waiting);
        *measured = Some(Instant::now());
        let mut counts = self.counts.lock();
        counts.waiting = waiting;
        counts.accepted_since -= accepted_before;
        counts.partitions = partitions;
        Ok(())
    }

    async fn measure(&self) -> Result<(u64, BTreeMap<Arc<str>, u32>), Refusal> {
        let (mut waiting, mut partitions) = (0_u64, BTreeMap::new());
        for topic in &self.topics {
            let Some(count) = self.log.partitions(topic).await.map_err(|error| Refusal::log(&error))? else {
                continue;
            };
            partitions.insert(Arc::clone(topic), count);
            for partition in 0..count {
                let at = TopicPartition::new(Arc::clone(topic), partition);
                let ends = self.log.watermarks(&at).await.map_err(|error| Refusal::log(&error))?;
                let position = (self.decided)(&at).map_err(|error| Refusal::positions(&error))?;
                // What was deleted unread waits no more.
                let next = position.unwrap_or(ends.low).max(ends.low);
                waiting = waiting.saturating_add(ends.high.saturating_sub(next));
            }
        }
        Ok((waiting, partitions))
    }
}
