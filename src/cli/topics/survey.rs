//! What is found of each topic that the settings need, beside what is needed.

use std::{future::Future, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::time::timeout;

use crate::{
    config::{LogKind, Settings},
    log::{Cleanup, Difference, Log, LogError, TopicFound, TopicSpec, differences},
    worker::{self, PlannedTopic},
};

/// How long the log may take to answer one question.
const PATIENCE: Duration = Duration::from_secs(20);

/// A topic that the settings need, and what was found of it.
#[derive(Debug, Clone, Serialize)]
pub(in crate::cli) struct Surveyed {
    pub(in crate::cli) topic: Arc<str>,
    pub(in crate::cli) purpose: String,
    /// Another team's: it is neither created nor held to anything but to be there.
    pub(in crate::cli) is_input: bool,
    pub(in crate::cli) needed: Needed,
    /// Nothing if it is missing, or was not asked for.
    pub(in crate::cli) found: Option<TopicFound>,
    pub(in crate::cli) differences: Vec<Difference>,
}

/// What a topic has to be; nothing where any value does.
#[derive(Debug, Clone, Default, Serialize)]
pub(in crate::cli) struct Needed {
    pub(in crate::cli) partitions: Option<u32>,
    pub(in crate::cli) cleanup_policy: Option<&'static str>,
    /// Of records; nothing for those of state topics, which stay for good.
    pub(in crate::cli) retention_ms: Option<u64>,
    /// Of tombstones, in state topics.
    pub(in crate::cli) delete_retention_ms: Option<u64>,
    pub(in crate::cli) max_message_bytes: Option<u32>,
    pub(in crate::cli) replicas: Option<i32>,
    pub(in crate::cli) min_insync_replicas: Option<i32>,
}

impl Surveyed {
    pub(in crate::cli) fn is_fault(&self) -> bool {
        self.found.is_none() || self.differences.iter().any(|difference| difference.matters)
    }
}

/// Asks `log` for each topic.
///
/// # Errors
/// [`LogError`] if it cannot be asked.
pub(in crate::cli) async fn survey(settings: &Settings, log: &dyn Log) -> Result<Vec<Surveyed>, LogError> {
    let planned = worker::planned_topics(settings);
    let is_ours = |topic: &&PlannedTopic| topic.spec.cleanup != Cleanup::Foreign;
    let names: Vec<_> = planned.iter().filter(is_ours).map(|topic| Arc::clone(&topic.spec.name)).collect();
    let mut ours = in_time(log.describe_topics(&names)).await?.into_iter();
    let mut surveyed = Vec::with_capacity(planned.len());
    for PlannedTopic { spec, purpose } in planned {
        let (found, differences) = if spec.cleanup == Cleanup::Foreign {
            foreign(settings, log, &spec).await?
        } else {
            let found = ours.next().flatten();
            let differences = found.as_ref().map(|found| compare(settings, &spec, found)).unwrap_or_default();
            (found, differences)
        };
        surveyed.push(beside(settings, &spec, purpose, found, differences));
    }
    Ok(surveyed)
}

/// What is needed, with nothing found beside it.
pub(in crate::cli) fn unasked(settings: &Settings) -> Vec<Surveyed> {
    let planned = worker::planned_topics(settings).into_iter();
    planned.map(|topic| beside(settings, &topic.spec, topic.purpose, None, Vec::new())).collect()
}

async fn in_time<T>(question: impl Future<Output = Result<T, LogError>>) -> Result<T, LogError> {
    timeout(PATIENCE, question).await.unwrap_or_else(|_elapsed| {
        Err(LogError::Unavailable { doing: "asking for topics", reason: format!("no answer within {PATIENCE:?}") })
    })
}

/// A worker may read an input topic without being allowed to see its settings, and needs no more.
async fn foreign(
    settings: &Settings,
    log: &dyn Log,
    spec: &TopicSpec,
) -> Result<(Option<TopicFound>, Vec<Difference>), LogError> {
    match in_time(log.describe_topics(std::slice::from_ref(&spec.name))).await {
        Ok(found) => {
            let found = found.into_iter().next().flatten();
            let differences = found.as_ref().map(|found| compare(settings, spec, found)).unwrap_or_default();
            Ok((found, differences))
        }
        Err(LogError::Unauthorized { .. }) => {
            let partitions = in_time(log.partitions(&spec.name)).await?;
            let of = |partitions| TopicFound { partitions, replicas: None, settings: Default::default() };
            Ok((partitions.map(of), Vec::new()))
        }
        Err(error) => Err(error),
    }
}

fn compare(settings: &Settings, spec: &TopicSpec, found: &TopicFound) -> Vec<Difference> {
    match settings.log.kind {
        LogKind::Kafka => differences(spec, Some(&settings.log.kafka), found),
        LogKind::Local => differences(spec, None, found).into_iter().map(adopted).collect(),
    }
}

/// A log on disk takes over what may change without a topic losing its meaning.
fn adopted(difference: Difference) -> Difference {
    match difference.key {
        "partitions" | "cleanup.policy" => difference,
        _ => Difference { matters: false, remedy: "the next worker makes it so".to_owned(), ..difference },
    }
}

fn beside(
    settings: &Settings,
    spec: &TopicSpec,
    purpose: String,
    found: Option<TopicFound>,
    differences: Vec<Difference>,
) -> Surveyed {
    let is_input = spec.cleanup == Cleanup::Foreign;
    let kafka = (settings.log.kind == LogKind::Kafka).then_some(&settings.log.kafka);
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let ours = Needed {
        partitions: Some(spec.partitions),
        max_message_bytes: Some(spec.message_bytes_max),
        replicas: kafka.map(|kafka| kafka.replication_factor),
        min_insync_replicas: kafka.map(|kafka| kafka.min_insync_replicas),
        ..Needed::default()
    };
    let needed = match spec.cleanup {
        Cleanup::Compact { tombstones } => {
            Needed { cleanup_policy: Some("compact"), delete_retention_ms: Some(milliseconds(tombstones)), ..ours }
        }
        Cleanup::Delete { after } => {
            Needed { cleanup_policy: Some("delete"), retention_ms: Some(milliseconds(after)), ..ours }
        }
        Cleanup::Foreign => Needed { cleanup_policy: Some("delete"), ..Needed::default() },
    };
    Surveyed { topic: Arc::clone(&spec.name), purpose, is_input, needed, found, differences }
}
