//! What the log on disk promises beyond the conformance suite: it is found again as it was answered, after a restart and
//! after a killed process; it gives its space back; and what is wrong with its folder is said, and nothing is wiped.

#![expect(clippy::unwrap_used, reason = "a claim fails by panicking")]

mod folder;
mod killed;
mod model;
mod restart;
mod space;

use std::{path::Path, sync::Arc, time::Duration};

use contact_replicator::{
    clock::Clock,
    log::{
        Cleanup, GroupEvent, GroupOffsets, GroupSpec, Log, LogError, Member, NewRecord, Offset, OffsetCommit, Record,
        TopicPartition, TopicSpec, Transaction,
        local::{DiskSettings, LocalLog, Settings},
    },
};

/// Names of the topics that all tests use.
const NEWEST: &str = "newest";
const ALL: &str = "all";
const GROUP: &str = "group";

fn settings(folder: &Path) -> DiskSettings {
    DiskSettings {
        folder: folder.join("log"),
        bytes_max: 1 << 40,
        compact_interval: Duration::from_secs(3_600),
        compact_bytes_per_second: 1 << 30,
        cache_bytes: 64 << 20,
    }
}

/// Opens the log. One that this process has just closed may still be locked for a moment: a child that another test starts
/// holds copies of all files until it runs its own program, and the lock with them.
fn open(folder: &Path) -> LocalLog {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    loop {
        match try_open(settings(folder)) {
            Err(error) if error.to_string().contains("used by another process") => {
                assert!(tokio::time::Instant::now() < deadline, "{error}");
                std::thread::park_timeout(Duration::from_millis(5));
            }
            opened => return opened.unwrap(),
        }
    }
}

fn try_open(settings: DiskSettings) -> Result<LocalLog, LogError> {
    LocalLog::open(Settings::default(), settings, Clock::System)
}

/// A compacted topic and one that keeps everything.
fn specs(partitions: u32) -> [TopicSpec; 2] {
    let spec = |name: &str, cleanup| TopicSpec { name: name.into(), partitions, cleanup, message_bytes_max: 65_536 };
    [
        spec(NEWEST, Cleanup::Compact { tombstones: Duration::ZERO }),
        spec(ALL, Cleanup::Delete { after: Duration::from_secs(86_400) }),
    ]
}

fn record(topic: &str, partition: u32, key: &str, value: Option<&str>) -> NewRecord {
    NewRecord {
        to: TopicPartition::new(topic, partition),
        key: Some(key.to_owned().into()),
        value: value.map(|value| value.to_owned().into()),
        headers: Vec::new(),
    }
}

/// The sole member of the group, with all partitions.
async fn join(log: &LocalLog) -> Box<dyn Member> {
    let spec = GroupSpec { group: GROUP.into(), topic: Arc::from(ALL), instance_id: None, queue_records_max: 100 };
    let mut member = log.join(spec).await.unwrap();
    assert!(matches!(member.next().await.unwrap(), GroupEvent::Assigned(_)));
    member
}

fn with_offset(records: Vec<NewRecord>, member: &dyn Member, offset: Offset) -> Transaction {
    let commit = OffsetCommit { at: TopicPartition::new(ALL, 0), offset, metadata: format!("at {offset}") };
    let offsets = GroupOffsets { member: member.handle(), commits: vec![commit], relies_on: Vec::new() };
    Transaction { records, offsets: Some(offsets) }
}

/// Everything that can be read of a partition, up to its high end.
async fn read_all(log: &LocalLog, at: &TopicPartition) -> Vec<Record> {
    let ends = log.watermarks(at).await.unwrap();
    let (records, position) = read_from(log, at, ends.low).await;
    assert_eq!(position, ends.high, "nothing is open in {at}");
    records
}

/// Everything that can be read of a partition now, and the position behind it.
async fn read_from(log: &LocalLog, at: &TopicPartition, offset: Offset) -> (Vec<Record>, Offset) {
    let mut follower = log.follower().await.unwrap();
    follower.assign(at.clone(), offset).await.unwrap();
    let (mut records, mut position) = (Vec::new(), offset);
    loop {
        let progress = follower.poll(100, Duration::ZERO).await.unwrap();
        let Some((_, moved)) = progress.positions.first() else {
            return (records, position);
        };
        position = *moved;
        records.extend(progress.records);
    }
}

fn text(bytes: &Option<bytes::Bytes>) -> Option<String> {
    bytes.as_ref().map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}
