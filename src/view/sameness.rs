//! Whether a topic is still the one that was followed: what is asked, what counts as a sign, and when it is certain.
//!
//! A broker that has just started, or just become leader, may not know a topic, or know it shorter than it is. So what is said
//! about existence, partition count and end counts only when it was said several times in a row. That a topic is gone counts
//! only with time in between: the others that are to be followed make it be asked about again at once. Another birth record
//! needs no second look: it was read from the topic itself.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::warn;

use super::layout::{Birth, Position};
use crate::log::{Log, LogError, Offset, TopicPartition, Watermarks};

/// How often in a row a sign must be seen, and how soon is looked again.
const LOOKS: u32 = 3;
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// What the log said about the topics, asked at one time.
pub(super) struct Checked {
    pub(super) asked_at: Timestamp,
    topics: Vec<CheckedTopic>,
    pub(super) ends: Vec<CheckedEnd>,
}

struct CheckedTopic {
    topic: Arc<str>,
    needed: u32,
    found: Result<Option<u32>, LogError>,
}

pub(super) struct CheckedEnd {
    pub(super) at: TopicPartition,
    /// How far the partition had been read before it was asked about.
    pub(super) read_to: Offset,
    /// Where its birth record was met.
    birth: Option<Offset>,
    pub(super) watermarks: Result<Watermarks, LogError>,
}

/// Asks about all of `topics` (with the partition count that each had) and `partitions` (with how far each was read, and where its
/// birth record is).
pub(super) async fn check(
    log: Arc<dyn Log>,
    asked_at: Timestamp,
    topics: BTreeMap<Arc<str>, u32>,
    partitions: Vec<(TopicPartition, Offset, Option<Offset>)>,
) -> Checked {
    let log = &*log;
    let topics = join_all(topics.into_iter().map(async |(topic, needed)| {
        let found = log.partitions(&topic).await;
        CheckedTopic { topic, needed, found }
    }));
    let ends = join_all(partitions.into_iter().map(async |(at, read_to, birth)| {
        let watermarks = log.watermarks(&at).await;
        CheckedEnd { at, read_to, birth, watermarks }
    }));
    let (topics, ends) = futures::join!(topics, ends);
    Checked { asked_at, topics, ends }
}

impl Checked {
    /// The signs that something is another topic; the first partition stands for its topic.
    pub(super) fn findings(&self) -> BTreeMap<TopicPartition, String> {
        let mut findings = BTreeMap::new();
        for CheckedTopic { topic, needed, found } in &self.topics {
            let finding = match found {
                Ok(Some(found)) if found == needed => continue,
                Ok(Some(found)) => format!("it has {found} partitions, and had {needed}"),
                Ok(None) | Err(LogError::UnknownTopic { .. }) => "it is gone".to_owned(),
                Err(error) => {
                    warn!(topic = &**topic, %error, "a topic could not be checked");
                    continue;
                }
            };
            findings.insert(TopicPartition::new(topic.clone(), 0), finding);
        }
        for CheckedEnd { at, read_to, birth, watermarks } in &self.ends {
            match watermarks {
                Ok(Watermarks { low, .. }) if birth.is_some_and(|birth| birth < *low) => {
                    findings.entry(at.clone()).or_insert_with(|| beheaded(*low));
                }
                Ok(Watermarks { high, .. }) if read_to > high => {
                    findings.entry(at.clone()).or_insert_with(|| shorter(*high, *read_to));
                }
                Ok(_) => {}
                Err(error) => warn!(%at, %error, "the end of a partition could not be checked"),
            }
        }
        findings
    }
}

/// The sign, if there is one, that a partition is not the one that the view stands in.
pub(super) fn unlike(
    stored: Option<Position>,
    birth: Option<&Birth>,
    watermarks: Watermarks,
    out_of_range: bool,
) -> Option<String> {
    let Watermarks { low, high } = watermarks;
    let read_to = stored.map(|stored| stored.offset).max(birth.map(|birth| birth.offset + 1))?;
    if read_to > high {
        return Some(shorter(high, read_to));
    }
    // Compaction keeps a birth record, and what it takes away raises no beginning.
    if birth.is_some_and(|birth| birth.offset < low) {
        return Some(beheaded(low));
    }
    // Said only when reading failed there: an oldest record above the position is what compaction may leave.
    let position = stored?.offset;
    (out_of_range && position < low)
        .then(|| format!("it begins at {low}, and what lies between {position} and there was never read"))
}

fn shorter(high: Offset, read_to: Offset) -> String {
    format!("it ends at {high}, and was read to {read_to}")
}

fn beheaded(low: Offset) -> String {
    format!("it begins at {low}, and its birth record, which stood before, was deleted with what else was there")
}

/// How often in a row a partition seemed not to be the one that was followed.
#[derive(Debug, Default)]
pub(super) struct Suspicions(BTreeMap<TopicPartition, Suspicion>);

#[derive(Debug)]
struct Suspicion {
    looks: u32,
    counted_at: Instant,
}

impl Suspicions {
    /// Whether the last sign is long enough ago for another to count.
    pub(super) fn is_due(&self, at: &TopicPartition, now: Instant) -> bool {
        self.0.get(at).is_none_or(|suspicion| now.duration_since(suspicion.counted_at) >= LOOK_AGAIN)
    }

    /// Counts one more sign; says whether that is enough.
    pub(super) fn confirm(&mut self, at: &TopicPartition, finding: &str, now: Instant) -> bool {
        let looks = self.0.get(at).map_or(0, |suspicion| suspicion.looks) + 1;
        self.0.insert(at.clone(), Suspicion { looks, counted_at: now });
        if looks < LOOKS {
            warn!(%at, finding, "a topic seems not to be the one that was followed, and is looked at again");
        }
        looks >= LOOKS
    }

    /// Forgets all that were not found again.
    pub(super) fn keep(&mut self, findings: &BTreeMap<TopicPartition, String>) {
        self.0.retain(|at, _| findings.contains_key(at));
    }

    pub(super) fn clear(&mut self, at: &TopicPartition) {
        self.0.remove(at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sign_that_follows_at_once_is_not_due() {
        let at = TopicPartition::new(Arc::from("contact-links.priava"), 9);
        let began = Instant::now();
        let mut suspicions = Suspicions::default();
        assert!(suspicions.is_due(&at, began));
        assert!(!suspicions.confirm(&at, "it is gone", began));
        assert!(!suspicions.is_due(&at, began + LOOK_AGAIN - Duration::from_millis(1)));
        assert!(suspicions.is_due(&at, began + LOOK_AGAIN));
        assert!(!suspicions.confirm(&at, "it is gone", began + LOOK_AGAIN));
        assert!(!suspicions.is_due(&at, began + LOOK_AGAIN));
        assert!(suspicions.confirm(&at, "it is gone", began + LOOK_AGAIN * 2));
        suspicions.clear(&at);
        assert!(suspicions.is_due(&at, began + LOOK_AGAIN * 2));
    }
}
