//! Births: the record that each partition of a compacted topic begins with.
//!
//! A birth record names its partition for good, so that followers know a topic that was deleted and made anew from the
//! one they followed. Two of them in one partition would look just like that, and stop every worker.
//!
//! What is hard is that whoever creates a topic may die before it has written them, and that several workers start at
//! once. So nobody relies on having created a topic: a partition without any committed record that never lost one gets
//! its birth from whoever finds it, before it does anything else. That it gets only one rests on the writer: all of an
//! installation share one transactional id here. Opening it fences the others, and whatever an older one had begun is
//! over by then, committed or never to be seen. Only then is looked again, and the births go out in one transaction: it
//! is either the only one or refused.
//!
//! A partition that has records and no birth is left as it is: it was written to before, and no birth could tell which
//! of two topics it is.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use tokio::time::Instant;
use tracing::{debug, info};
use uuid::Uuid;

use crate::{
    log::{Cleanup, Log, LogError, NewRecord, Offset, TopicPartition, TopicSpec, Transaction, WriteError},
    view::follower::BIRTH_KEY,
};

const DOING: &str = "writing the birth records of our topics";
/// A partition with more offsets than this has had more than births that were begun in vain.
const LOOKED_AT_MAX: Offset = 1_000;
/// How long the partitions that are looked at may take to be read to their ends.
const LOOK_DEADLINE: Duration = Duration::from_secs(20);
const POLL_RECORDS_MAX: usize = 1_000;
const POLL_WAIT: Duration = Duration::from_millis(100);
/// Tries against other starters. The last of them to open the writer succeeds, so one try of each is nearly always enough.
const TRIES_MAX: u32 = 20;
/// Longer than a transaction takes, so that who was fenced does not fence who fenced him.
const CONFLICT_PAUSE: Duration = Duration::from_millis(500);

/// The transactional id under which all workers of an installation write births.
pub(super) fn writer_id(instance: &str) -> String {
    format!("{instance}-topics")
}

/// Gives each partition of a compacted topic that has none its birth; returns those that we gave one. The topics exist.
///
/// The births of a topic are one transaction, so where `is_born` tells that a partition of it has one, those that hold anything
/// are not read.
///
/// # Errors
/// [`LogError`] of the log; transient ones may be tried again from the start.
pub(super) async fn ensure(
    log: &dyn Log,
    instance: &str,
    specs: &[TopicSpec],
    is_born: &(dyn Fn(&str) -> bool + Sync),
) -> Result<Vec<TopicPartition>, LogError> {
    let compacted = specs.iter().filter(|spec| matches!(spec.cleanup, Cleanup::Compact { .. }));
    let partitions: Vec<_> = compacted
        .flat_map(|spec| (0..spec.partitions).map(|partition| TopicPartition::new(Arc::clone(&spec.name), partition)))
        .collect();
    for _ in 0..TRIES_MAX {
        let suspected = unborn(log, &partitions, is_born).await?;
        if suspected.is_empty() {
            return Ok(Vec::new());
        }
        let mut writer = log.writer(&writer_id(instance)).await?;
        // Those who looked before us can write no more; what they wrote is here to be seen.
        let unborn = unborn(log, &suspected, is_born).await?;
        if unborn.is_empty() {
            return Ok(Vec::new());
        }
        let births = Transaction { records: unborn.iter().cloned().map(birth).collect(), offsets: None };
        match writer.write(births).await {
            Ok(()) => {
                info!(partitions = unborn.len(), "birth records are written");
                return Ok(unborn);
            }
            Err(WriteError::Unauthorized { reason }) => return Err(LogError::Unauthorized { doing: DOING, reason }),
            Err(error @ WriteError::TooLarge { .. }) => return Err(LogError::Unusable { reason: error.to_string() }),
            Err(
                error @ (WriteError::Fenced
                | WriteError::Unknown { .. }
                | WriteError::Aborted { .. }
                | WriteError::Refused),
            ) => {
                debug!(%error, "birth records were not, or not certainly, written; they are looked for again");
                drop(writer);
                tokio::time::sleep(CONFLICT_PAUSE).await;
            }
        }
    }
    Err(LogError::Unavailable { doing: DOING, reason: format!("no transaction succeeded in {TRIES_MAX} tries") })
}

/// The topics exist; but of several brokers, the one that was asked may not have heard of a new one yet.
fn unheard(error: LogError) -> LogError {
    match error {
        LogError::UnknownTopic { topic } => {
            LogError::Unavailable { doing: DOING, reason: format!("a broker has not heard of topic {topic} yet") }
        }
        other => other,
    }
}

fn birth(to: TopicPartition) -> NewRecord {
    NewRecord { to, key: Some(BIRTH_KEY.into()), value: Some(Uuid::new_v4().to_string().into()), headers: Vec::new() }
}

/// Those without any committed record that never lost one.
async fn unborn(
    log: &dyn Log,
    partitions: &[TopicPartition],
    is_born: &(dyn Fn(&str) -> bool + Sync),
) -> Result<Vec<TopicPartition>, LogError> {
    let ends = join_all(partitions.iter().map(|at| log.watermarks(at))).await;
    let mut unborn = Vec::new();
    // What was begun and not committed takes offsets, too: only reading tells whether there is a record.
    let mut unread = BTreeMap::new();
    for (at, ends) in partitions.iter().zip(ends) {
        let ends = ends.map_err(unheard)?;
        match (ends.low, ends.high) {
            (0, 0) => unborn.push(at.clone()),
            (0, high) if high <= LOOKED_AT_MAX && !is_born(&at.topic) => drop(unread.insert(at.clone(), high)),
            _ => {}
        }
    }
    if unread.is_empty() {
        return Ok(unborn);
    }
    let mut follower = log.follower().await?;
    for at in unread.keys() {
        follower.assign(at.clone(), 0).await?;
    }
    let deadline = Instant::now() + LOOK_DEADLINE;
    while !unread.is_empty() {
        if Instant::now() >= deadline {
            let reason = format!("{} partitions could not be read to their end", unread.len());
            return Err(LogError::Unavailable { doing: DOING, reason });
        }
        let progress = follower.poll(POLL_RECORDS_MAX, POLL_WAIT).await?;
        for record in progress.records {
            unread.remove(&record.at);
        }
        for (at, position) in progress.positions {
            if unread.get(&at).is_some_and(|high| position >= *high) {
                unread.remove(&at);
                unborn.push(at);
            }
        }
    }
    Ok(unborn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Clock,
        log::local::{LocalLog, Settings},
    };

    #[tokio::test]
    async fn a_topic_that_a_broker_has_not_heard_of_is_waited_for() {
        let log = LocalLog::new(Settings::default(), Clock::System);
        let spec = TopicSpec {
            name: "contact-keys".into(),
            partitions: 2,
            cleanup: Cleanup::Compact { tombstones: Duration::from_secs(60) },
            message_bytes_max: 1024,
        };
        let specs = [spec];
        let unheard = ensure(&log, "instance", &specs, &|_| false).await.unwrap_err();
        assert!(unheard.is_transient() && unheard.to_string().contains("topic contact-keys"), "{unheard}");
        log.ensure_topics(&specs).await.unwrap();
        assert_eq!(ensure(&log, "instance", &specs, &|_| false).await.unwrap().len(), 2);
    }
}
