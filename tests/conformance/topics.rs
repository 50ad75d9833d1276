//! Claims about topics.

use std::{sync::Arc, time::Duration};

use contact_replicator::log::{Cleanup, Difference, Log, LogError, TopicSpec};

use super::{Harness, eventually, fresh, topic_spec};

const DELETED: Cleanup = Cleanup::Delete { after: Duration::from_secs(24 * 3_600) };
const COMPACTED: Cleanup = Cleanup::Compact { tombstones: Duration::from_secs(24 * 3_600) };

pub(crate) async fn a_missing_topic_is_created_once(harness: &dyn Harness) {
    let log = harness.log();
    let first = topic_spec(3, DELETED);
    let second = topic_spec(1, COMPACTED);
    assert_eq!(log.ensure_topics(std::slice::from_ref(&first)).await.unwrap(), std::slice::from_ref(&first.name));
    eventually("it is known", async || (log.partitions(&first.name).await.unwrap() == Some(3)).then_some(())).await;
    let created = log.ensure_topics(&[first.clone(), second.clone()]).await.unwrap();
    assert_eq!(created, std::slice::from_ref(&second.name), "only what was missing");
    eventually("it is known", async || (log.partitions(&second.name).await.unwrap() == Some(1)).then_some(())).await;
    assert!(log.ensure_topics(&[first, second]).await.unwrap().is_empty(), "nothing is missing any more");
}

/// What `ensure_topics` finds wrong with `spec`: topic, key, found and needed of each difference.
async fn faults(log: &dyn Log, spec: TopicSpec) -> Vec<(Arc<str>, &'static str, String, String)> {
    match log.ensure_topics(&[spec]).await {
        Err(LogError::Topics(differences)) => {
            let told = |difference: Difference| {
                let Difference { topic, key, found, needed, matters, .. } = difference;
                assert!(matters, "{key}");
                (topic, key, found, needed)
            };
            differences.0.into_iter().map(told).collect()
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn all_differences_are_told_at_once_and_nothing_is_altered(harness: &dyn Harness) {
    let log = harness.log();
    let spec = topic_spec(2, DELETED);
    log.ensure_topics(std::slice::from_ref(&spec)).await.unwrap();
    eventually("it is known", async || log.partitions(&spec.name).await.unwrap()).await;
    let before = log.describe_topics(std::slice::from_ref(&spec.name)).await.unwrap();
    let other =
        TopicSpec { partitions: 3, cleanup: COMPACTED, message_bytes_max: spec.message_bytes_max + 1, ..spec.clone() };
    let faults = faults(log, other).await;
    assert!(faults.iter().all(|(topic, ..)| *topic == spec.name), "{faults:?}");
    let value =
        |key| faults.iter().find(|(_, found, ..)| *found == key).map(|(.., found, needed)| (&**found, &**needed));
    assert_eq!(value("partitions"), Some(("2", "3")));
    assert_eq!(value("cleanup.policy"), Some(("delete", "compact")));
    assert!(value("max.message.bytes").is_some(), "{faults:?}");
    assert_eq!(log.describe_topics(&[spec.name]).await.unwrap(), before, "it is left as it was");
}

pub(crate) async fn a_topic_is_described_as_it_was_created(harness: &dyn Harness) {
    let log = harness.log();
    let (deleted, compacted) = (topic_spec(2, DELETED), topic_spec(1, COMPACTED));
    log.ensure_topics(&[deleted.clone(), compacted.clone()]).await.unwrap();
    for spec in [&deleted, &compacted] {
        eventually("it is known", async || log.partitions(&spec.name).await.unwrap()).await;
    }
    let missing: Arc<str> = fresh("topic").into();
    let described = log.describe_topics(&[deleted.name, missing, compacted.name]).await.unwrap();
    let setting = |place: usize, key: &str| described[place].as_ref().unwrap().settings.get(key).cloned();
    assert_eq!(described[0].as_ref().unwrap().partitions, 2);
    assert_eq!(setting(0, "cleanup.policy").as_deref(), Some("delete"));
    assert_eq!(setting(0, "retention.ms").as_deref(), Some("86400000"));
    assert_eq!(described[1], None);
    assert_eq!(described[2].as_ref().unwrap().partitions, 1);
    assert_eq!(setting(2, "cleanup.policy").as_deref(), Some("compact"));
    assert_eq!(setting(2, "delete.retention.ms").as_deref(), Some("86400000"));
}

pub(crate) async fn a_foreign_topic_is_neither_created_nor_judged(harness: &dyn Harness) {
    let log = harness.log();
    let missing = topic_spec(2, Cleanup::Foreign);
    assert!(log.ensure_topics(std::slice::from_ref(&missing)).await.unwrap().is_empty());
    assert_eq!(log.partitions(&missing.name).await.unwrap(), None);
    let spec = topic_spec(2, COMPACTED);
    log.ensure_topics(std::slice::from_ref(&spec)).await.unwrap();
    eventually("it is known", async || log.partitions(&spec.name).await.unwrap()).await;
    let foreign = TopicSpec { cleanup: Cleanup::Foreign, partitions: 7, ..spec };
    assert!(log.ensure_topics(&[foreign]).await.unwrap().is_empty());
}

pub(crate) async fn an_unknown_topic_has_no_partitions(harness: &dyn Harness) {
    assert_eq!(harness.log().partitions(&fresh("topic")).await.unwrap(), None);
}
