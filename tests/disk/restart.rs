//! What the next process finds.

use contact_replicator::log::{Isolation, Log, Transaction, WriteError};

use super::*;

#[tokio::test]
async fn a_restart_finds_everything_that_was_answered() {
    let folder = tempfile::tempdir().unwrap();
    let at = TopicPartition::new(ALL, 0);
    let (ends, records, offset) = {
        let log = open(folder.path());
        assert_eq!(log.ensure_topics(&specs(2)).await.unwrap().len(), 2);
        log.append(vec![record(ALL, 0, "a", Some("1"))]).await.unwrap();
        let mut writer = log.writer("writer").await.unwrap();
        let member = join(&log).await;
        let records = vec![record(ALL, 0, "b", None), record(NEWEST, 1, "b", Some("2"))];
        writer.write(with_offset(records, &*member, 7)).await.unwrap();
        (
            log.watermarks(&at).await.unwrap(),
            read_all(&log, &at).await,
            log.committed(GROUP, &at, Isolation::ReadCommitted).await.unwrap(),
        )
    };
    let log = open(folder.path());
    assert!(log.ensure_topics(&specs(2)).await.unwrap().is_empty(), "the topics are there");
    assert_eq!(log.partitions(ALL).await.unwrap(), Some(2));
    assert_eq!(log.watermarks(&at).await.unwrap(), ends);
    assert_eq!(offset.as_ref().map(|committed| committed.offset), Some(7));
    assert_eq!(log.committed(GROUP, &at, Isolation::ReadCommitted).await.unwrap(), offset);
    let found = read_all(&log, &at).await;
    let shape = |records: &[Record]| -> Vec<_> {
        records.iter().map(|record| (record.offset, record.timestamp, text(&record.key), text(&record.value))).collect()
    };
    assert_eq!(shape(&found), shape(&records));
    log.append(vec![record(ALL, 0, "c", None)]).await.unwrap();
    assert_eq!(read_all(&log, &at).await.last().unwrap().offset, ends.high, "numbers go on where they were");
}

#[tokio::test]
async fn nothing_of_an_open_transaction_is_found_and_nobody_waits_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let at = TopicPartition::new(ALL, 0);
    let behind = {
        let log = open(folder.path());
        log.ensure_topics(&specs(1)).await.unwrap();
        let member = join(&log).await;
        let mut open = log.writer("open").await.unwrap();
        open.prepare(with_offset(vec![record(ALL, 0, "open", Some("never"))], &*member, 9)).await.unwrap();
        // Behind an open transaction, and answered all the same.
        log.append(vec![record(ALL, 0, "appended", Some("kept"))]).await.unwrap();
        assert!(read_from(&log, &at, 0).await.0.is_empty(), "it holds back readers");
        // In a segment of its own, so that the two are found in different ones.
        log.compact_disk().await.unwrap();
        log.watermarks(&at).await.unwrap().high
    };
    let log = open(folder.path());
    let keys: Vec<_> = read_all(&log, &at).await.iter().map(|record| text(&record.key).unwrap()).collect();
    assert_eq!(keys, ["appended"]);
    assert_eq!(log.watermarks(&at).await.unwrap().high, behind);
    assert_eq!(log.committed(GROUP, &at, Isolation::ReadCommitted).await.unwrap(), None);
}

#[tokio::test]
async fn a_position_behind_an_abort_exists_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let at = TopicPartition::new(ALL, 0);
    let position = {
        let log = open(folder.path());
        log.ensure_topics(&specs(1)).await.unwrap();
        let mut writer = log.writer("writer").await.unwrap();
        let transaction = Transaction { records: vec![record(ALL, 0, "a", Some("never"))], offsets: None };
        writer.prepare(transaction).await.unwrap();
        let _fences = log.writer("writer").await.unwrap();
        read_from(&log, &at, 0).await.1
    };
    assert_eq!(position, 2, "a record and a marker");
    let log = open(folder.path());
    let (records, found) = read_from(&log, &at, position).await;
    assert!(records.is_empty() && found == position);
}

#[tokio::test]
async fn a_transaction_that_ends_behind_a_later_one_is_read_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let at = TopicPartition::new(NEWEST, 0);
    let keys = async |log: &LocalLog| -> Vec<_> {
        read_all(log, &at).await.iter().map(|record| text(&record.value).unwrap()).collect()
    };
    {
        let log = open(folder.path());
        log.ensure_topics(&specs(1)).await.unwrap();
        log.append(vec![record(NEWEST, 0, "a", Some("0"))]).await.unwrap();
        let mut early = log.writer("early").await.unwrap();
        let records = vec![record(NEWEST, 0, "a", Some("1"))];
        early.prepare(Transaction { records, offsets: None }).await.unwrap();
        log.append(vec![record(NEWEST, 0, "a", Some("2")), record(NEWEST, 0, "b", Some("3"))]).await.unwrap();
        log.compact_disk().await.unwrap();
        let (stable, _) = read_from(&log, &at, 0).await;
        assert_eq!(stable.len(), 1, "what is not yet superseded for readers is there for them");
        early.commit().await.unwrap();
        assert_eq!(keys(&log).await, ["0", "1", "2", "3"]);
    }
    let log = open(folder.path());
    assert_eq!(keys(&log).await, ["0", "1", "2", "3"]);
    log.compact_disk().await.unwrap();
    assert_eq!(keys(&log).await, ["2", "3"]);
}

#[tokio::test]
async fn epochs_go_on_so_that_a_writer_of_before_stays_fenced() {
    let folder = tempfile::tempdir().unwrap();
    {
        let log = open(folder.path());
        log.ensure_topics(&specs(1)).await.unwrap();
        let mut older = log.writer("writer").await.unwrap();
        let mut newer = log.writer("writer").await.unwrap();
        let transaction = || Transaction { records: vec![record(ALL, 0, "a", None)], offsets: None };
        assert!(matches!(older.write(transaction()).await, Err(WriteError::Fenced)));
        newer.write(transaction()).await.unwrap();
    }
    let log = open(folder.path());
    let mut writer = log.writer("writer").await.unwrap();
    writer.write(Transaction { records: vec![record(ALL, 0, "b", None)], offsets: None }).await.unwrap();
    assert_eq!(read_all(&log, &TopicPartition::new(ALL, 0)).await.len(), 2);
}

#[tokio::test]
async fn a_topic_becomes_what_the_settings_say_since_nobody_else_can_alter_it() {
    let folder = tempfile::tempdir().unwrap();
    let [_, mut all] = specs(1);
    open(folder.path()).ensure_topics(&[all.clone()]).await.unwrap();
    all.cleanup = Cleanup::Delete { after: Duration::from_secs(30 * 86_400) };
    open(folder.path()).ensure_topics(&[all.clone()]).await.unwrap();
    all.partitions = 2;
    let error = open(folder.path()).ensure_topics(&[all]).await.unwrap_err();
    let LogError::Topics(differences) = &error else { panic!("{error}") };
    assert_eq!(differences.0.iter().map(|difference| difference.key).collect::<Vec<_>>(), ["partitions"]);
}
