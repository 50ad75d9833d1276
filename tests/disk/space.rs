//! Space that is no longer needed is given back.

use std::fs;

use contact_replicator::log::{Log, Transaction};
use tokio::time::Instant;

use super::*;

fn bytes_of(folder: &Path) -> u64 {
    let of_entry = |entry: fs::DirEntry| {
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() { bytes_of(&entry.path()) } else { metadata.len() }
    };
    fs::read_dir(folder).unwrap().map(|entry| of_entry(entry.unwrap())).sum()
}

/// Changes `keys` contacts `changes` times in all, as a resolver would; compacts; how often the folder is what it keeps.
async fn churn(changes: u32, keys: u32) -> f64 {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    log.ensure_topics(&specs(4)).await.unwrap();
    let mut writer = log.writer("writer").await.unwrap();
    let begun = Instant::now();
    let mut number = 0;
    while number < changes {
        let record = |number: u32| {
            let key = format!("contact-{:08}", number.wrapping_mul(2_654_435_761) % keys);
            record(NEWEST, number % 4, &key, Some(&format!("{number:0>900}")))
        };
        let records: Vec<_> = (number..(number + 500).min(changes)).map(record).collect();
        number += 500;
        writer.write(Transaction { records, offsets: None }).await.unwrap();
    }
    let (written, before) = (begun.elapsed(), bytes_of(folder.path()));
    log.compact_disk().await.unwrap();
    let (compacted, after) = (begun.elapsed() - written, bytes_of(folder.path()));
    let mut kept = 0;
    for partition in 0..4 {
        let records = read_all(&log, &TopicPartition::new(NEWEST, partition)).await;
        let length = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
        kept += records.iter().map(|record| (length(&record.key) + length(&record.value)) as u64).sum::<u64>();
    }
    eprintln!(
        "{changes} changes of {keys}: written in {written:?}, {before} bytes; compacted in {compacted:?} to {after} bytes, {kept} kept"
    );
    assert!(kept >= u64::from(keys) * 900, "each contact is there");
    after as f64 / kept as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compacted_log_is_under_four_times_what_it_keeps() {
    assert!(churn(60_000, 4_000).await < 4.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the full form: a million changes"]
async fn a_million_changes_compact_to_under_four_times_what_is_kept() {
    assert!(churn(1_000_000, 20_000).await < 4.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_its_retention_goes() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    let [_, mut all] = specs(1);
    all.cleanup = Cleanup::Delete { after: Duration::from_millis(200) };
    log.ensure_topics(&[all]).await.unwrap();
    let at = TopicPartition::new(ALL, 0);
    log.append(vec![record(ALL, 0, "old", None), record(ALL, 0, "old", None)]).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while log.watermarks(&at).await.unwrap().low < 2 {
        assert!(Instant::now() < deadline, "it never goes");
        log.compact_disk().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    log.append(vec![record(ALL, 0, "new", None)]).await.unwrap();
    drop(log);
    let log = open(folder.path());
    assert_eq!(log.watermarks(&at).await.unwrap().low, 2);
    let mut follower = log.follower().await.unwrap();
    follower.assign(at.clone(), 0).await.unwrap();
    let error = follower.poll(10, Duration::ZERO).await.unwrap_err();
    assert!(matches!(error, LogError::OutOfRange { offset: 0, .. }), "{error}");
}
