//! Claims about topics.

use std::time::Duration;

use contact_replicator::log::{Cleanup, LogError, TopicSpec};

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

pub(crate) async fn another_partition_count_is_a_fault_that_names_both(harness: &dyn Harness) {
    let log = harness.log();
    let spec = topic_spec(2, DELETED);
    log.ensure_topics(std::slice::from_ref(&spec)).await.unwrap();
    eventually("it is known", async || log.partitions(&spec.name).await.unwrap()).await;
    match log.ensure_topics(&[TopicSpec { partitions: 3, ..spec.clone() }]).await {
        Err(LogError::Topic { topic, found, needed, .. }) => {
            assert_eq!((topic, found.as_str(), needed.as_str()), (spec.name.clone(), "2", "3"));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(log.partitions(&spec.name).await.unwrap(), Some(2), "and it is left as it was");
}

pub(crate) async fn another_cleanup_is_a_fault_that_names_the_topic(harness: &dyn Harness) {
    let log = harness.log();
    let spec = topic_spec(1, DELETED);
    log.ensure_topics(std::slice::from_ref(&spec)).await.unwrap();
    eventually("it is known", async || log.partitions(&spec.name).await.unwrap()).await;
    match log.ensure_topics(&[TopicSpec { cleanup: COMPACTED, ..spec.clone() }]).await {
        Err(LogError::Topic { topic, .. }) => assert_eq!(topic, spec.name),
        other => panic!("{other:?}"),
    }
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
