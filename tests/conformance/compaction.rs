//! Claims about compacted topics.

use std::{collections::BTreeMap, time::Duration};

use contact_replicator::log::{Cleanup, NewRecord, TopicPartition};

use super::{Harness, eventually, fresh, pair, read_all, record, records_only, write};

const COMPACTED: Cleanup = Cleanup::Compact { tombstones: Duration::from_secs(1) };

pub(crate) async fn compaction_keeps_the_newest_record_of_each_key_at_its_offset(harness: &dyn Harness) {
    let log = harness.log();
    let at = TopicPartition::new(harness.fresh_topic(1, COMPACTED).await, 0);
    let mut writer = log.writer(&fresh("writer")).await.unwrap();
    for round in 0..3 {
        let records = ["a", "b"].map(|key| record(&at, key, &format!("{key}{round}"))).to_vec();
        write(writer.as_mut(), records_only(records)).await;
    }
    let before = read_all(log, &at).await;
    // By key, so that of each key the last one counts.
    let newest: BTreeMap<_, _> = before.iter().map(|record| (pair(record).0, record.offset)).collect();
    let low = log.watermarks(&at).await.unwrap().low;
    eventually("only the newest are left", async || {
        harness.compact(&at.topic).await;
        let records = read_all(log, &at).await;
        let found: BTreeMap<_, _> = records.iter().map(|record| (pair(record).0, record.offset)).collect();
        assert_eq!(found, newest, "compaction never takes or moves the newest");
        let mut left: Vec<_> = records.iter().map(|record| pair(record).1.unwrap_or_default()).collect();
        left.sort_unstable();
        (left == ["a2", "b2"]).then_some(())
    })
    .await;
    assert_eq!(log.watermarks(&at).await.unwrap().low, low, "compaction leaves the low end");
}

pub(crate) async fn tombstones_vanish_with_what_they_covered(harness: &dyn Harness) {
    let log = harness.log();
    let at = TopicPartition::new(harness.fresh_topic(1, COMPACTED).await, 0);
    let tombstone = |key: &str| NewRecord { value: None, ..record(&at, key, "") };
    log.append(vec![record(&at, "gone", "1"), record(&at, "back", "1"), record(&at, "kept", "1")]).await.unwrap();
    log.append(vec![tombstone("gone"), tombstone("back"), record(&at, "back", "2")]).await.unwrap();
    eventually("tombstones and what they covered are gone", async || {
        harness.compact(&at.topic).await;
        let found: BTreeMap<_, _> = read_all(log, &at).await.iter().map(pair).collect();
        let gone = found.get("gone");
        assert!(gone != Some(&Some("1".to_owned())), "a tombstone never vanishes before what it covered");
        assert_eq!(found["back"].as_deref(), Some("2"));
        assert_eq!(found["kept"].as_deref(), Some("1"));
        gone.is_none().then_some(())
    })
    .await;
}
