//! What is said of a folder that cannot be opened, or takes no more.

use std::fs;

use contact_replicator::log::{
    Log, Transaction,
    local::{Presence, presence},
};

use super::*;

#[tokio::test]
async fn a_folder_belongs_to_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let place = settings(folder.path()).folder;
    assert_eq!(presence(&place), Presence::Missing);
    let log = open(folder.path());
    assert_eq!(presence(&place), Presence::InUse);
    let error = try_open(settings(folder.path())).unwrap_err().to_string();
    assert!(error.contains("is used by another process") && error.contains("log.kind"), "{error}");
    drop(log);
    assert_eq!(presence(&place), Presence::Free);
    open(folder.path());
}

#[tokio::test]
async fn a_damaged_folder_is_refused_with_a_remedy_and_left_as_it_is() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 4] = [
        ("its manifest is missing", |log| fs::remove_file(log.join("manifest.json")).unwrap()),
        ("its manifest cannot be read", |log| fs::write(log.join("manifest.json"), "{").unwrap()),
        ("the part 1 is missing", |log| fs::remove_dir_all(log.join("segment-000001")).unwrap()),
        ("is damaged", |log| {
            fs::remove_dir_all(log.join("segment-000001")).unwrap();
            fs::create_dir(log.join("segment-000001")).unwrap();
        }),
    ];
    for (says, damage) in damages {
        let folder = tempfile::tempdir().unwrap();
        let log = open(folder.path());
        log.ensure_topics(&specs(1)).await.unwrap();
        log.append(vec![record(ALL, 0, "a", None)]).await.unwrap();
        drop(log);
        let place = settings(folder.path()).folder;
        damage(&place);
        let before = names(&place);
        let error = try_open(settings(folder.path())).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("from a copy"), "{error}");
        assert!(error.contains(&place.display().to_string()), "{error}");
        assert_eq!(names(&place), before, "nothing is removed");
    }
}

/// sled would take it for the newest snapshot and give the folder up.
#[tokio::test]
async fn a_snapshot_that_a_killed_process_left_unfinished_is_no_damage() {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path());
    log.ensure_topics(&specs(1)).await.unwrap();
    log.append(vec![record(ALL, 0, "a", Some("kept"))]).await.unwrap();
    drop(log);
    let segment = settings(folder.path()).folder.join("segment-000001");
    for (name, begun) in [("snap.FFFFFFFFFFFFFFFE.generating", ""), ("snap.FFFFFFFFFFFFFFFF.generating", "half of it")]
    {
        fs::write(segment.join(name), begun).unwrap();
    }
    let log = open(folder.path());
    let found = read_all(&log, &TopicPartition::new(ALL, 0)).await;
    assert_eq!(found.iter().map(|record| text(&record.value)).collect::<Vec<_>>(), [Some("kept".to_owned())]);
    assert!(names(&segment).iter().all(|name| !name.ends_with(".generating")));
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_an_interrupted_compaction_left_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let left = settings(folder.path()).folder.join("segment-000009");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("db"), "half").unwrap();
    let log = open(folder.path());
    assert!(!left.exists());
    log.ensure_topics(&specs(1)).await.unwrap();
    log.compact_disk().await.unwrap();
}

#[tokio::test]
async fn a_full_log_refuses_what_comes_from_outside_and_takes_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let log = try_open(DiskSettings { bytes_max: 4 << 20, ..settings(folder.path()) }).unwrap();
    log.ensure_topics(&specs(1)).await.unwrap();
    let value = "x".repeat(50_000);
    let batch = || (0..20).map(|_| record(NEWEST, 0, "same", Some(&value))).collect::<Vec<_>>();
    let mut refused = None;
    for _ in 0..50 {
        if let Err(error) = log.append(batch()).await {
            refused = Some(error);
            break;
        }
    }
    let error = refused.expect("fifty megabytes do not fit in four");
    assert!(
        matches!(&error, LogError::Full { reason } if reason.contains("4194304")) && error.is_transient(),
        "{error}"
    );
    let mut writer = log.writer("writer").await.unwrap();
    writer.write(Transaction { records: batch(), offsets: None }).await.unwrap();
    log.compact_disk().await.unwrap();
    log.append(batch()).await.unwrap();
}
