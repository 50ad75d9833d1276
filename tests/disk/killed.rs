//! A process is killed while it commits and compacts: nothing that it answered is lost, nothing appears in part.
//!
//! The child is this test binary, run again for one test that is ignored otherwise. It commits numbered transactions,
//! each with a record in every partition of both topics and the number as its group's offset, and prints the number once
//! the commit is answered; beside that it compacts without pause, and holds a transaction open that is never committed.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write as _},
    process::{Command, Stdio},
};

use contact_replicator::log::{Isolation, Log, Transaction};
use tokio::time::Instant;

use super::*;

const FOLDER: &str = "CONTACT_REPLICATOR_TEST_LOG";
const CHILD: &str = "killed::child_that_is_killed";
const ROUNDS: u64 = 20;
const PARTITIONS: u32 = 3;
const KEYS: u64 = 7;

async fn committed(log: &LocalLog) -> u64 {
    let found = log.committed(GROUP, &TopicPartition::new(ALL, 0), Isolation::ReadCommitted).await.unwrap();
    found.map_or(0, |committed| committed.offset)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is the child of the other test"]
async fn child_that_is_killed() {
    #[expect(clippy::disallowed_methods, reason = "the one way in for a test binary that is run again")]
    let folder = std::env::var(FOLDER).unwrap();
    let log = open(Path::new(&folder));
    log.ensure_topics(&specs(PARTITIONS)).await.unwrap();
    let mut spare = specs(1);
    spare[0].name = "spare".into();
    log.ensure_topics(&spare[..1]).await.unwrap();
    let mut never = log.writer("never").await.unwrap();
    never
        .prepare(Transaction { records: vec![record("spare", 0, "never", Some("never"))], offsets: None })
        .await
        .unwrap();
    let compacted = log.clone();
    tokio::spawn(async move {
        loop {
            compacted.compact_disk().await.unwrap();
        }
    });
    let member = join(&log).await;
    let mut writer = log.writer("writer").await.unwrap();
    let mut number = committed(&log).await;
    loop {
        number += 1;
        let (key, value) = ((number % KEYS).to_string(), number.to_string());
        let records = (0..PARTITIONS)
            .flat_map(|partition| [NEWEST, ALL].map(|topic| record(topic, partition, &key, Some(&value))))
            .collect();
        writer.write(with_offset(records, &*member, number)).await.unwrap();
        // Nobody reads any more once the parent is gone.
        if writeln!(std::io::stderr(), "answered {number}").is_err() {
            return;
        }
    }
}

#[test]
fn a_killed_process_loses_nothing_that_it_answered_and_shows_no_half() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut total = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([CHILD, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let answer = |line: String| line.strip_prefix("answered ").and_then(|number| number.parse::<u64>().ok());
        let mut answered = lines.by_ref().find_map(answer).expect("the child gets to work");
        // A different moment each round, within several compactions.
        let until = Instant::now() + Duration::from_millis(20 + round * round * 7 % 230);
        while Instant::now() < until {
            answered = lines.by_ref().find_map(answer).expect("the child works on");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        answered = lines.filter_map(answer).last().unwrap_or(answered);
        assert!(answered > total, "each round gets further");
        total = runtime.block_on(examine(folder.path(), answered));
    }
}

/// Looks at what the killed process left; the number of its last transaction.
async fn examine(folder: &Path, answered: u64) -> u64 {
    let log = open(folder);
    let last = committed(&log).await;
    assert!(last >= answered, "{answered} was answered, and {last} is the last");
    for partition in 0..PARTITIONS {
        let all = read_all(&log, &TopicPartition::new(ALL, partition)).await;
        let numbers: Vec<u64> = all.iter().map(|record| text(&record.value).unwrap().parse().unwrap()).collect();
        assert!(numbers.iter().copied().eq(1..=last), "each transaction is there once, in order, up to {last}");
        let newest: BTreeMap<_, u64> = read_all(&log, &TopicPartition::new(NEWEST, partition))
            .await
            .iter()
            .map(|record| (text(&record.key).unwrap(), text(&record.value).unwrap().parse().unwrap()))
            .collect();
        let expected: BTreeMap<_, u64> =
            (last.saturating_sub(KEYS - 1).max(1)..=last).map(|number| ((number % KEYS).to_string(), number)).collect();
        assert_eq!(newest, expected, "compaction kept the newest of each key");
    }
    assert!(read_all(&log, &TopicPartition::new("spare", 0)).await.is_empty(), "what was open never appears");
    last
}
