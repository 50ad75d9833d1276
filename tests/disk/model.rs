//! Whatever is done to a log on disk, it is as the one in memory.

use contact_replicator::log::{Isolation, Log, Transaction, WriteError, Writer};
use proptest::prelude::*;

use super::*;

const PARTITIONS: u32 = 2;

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Change>),
    /// With an offset, if one is given.
    Write(Vec<Change>, Option<Offset>),
    /// Sent, and then refused.
    Abort(Vec<Change>),
    /// Left open under an id of its own; what was open under it is aborted.
    Open(Vec<Change>),
    /// Commits what was left open.
    Close,
    Compact,
    Reopen,
}

#[derive(Debug, Clone)]
struct Change {
    topic: &'static str,
    partition: u32,
    key: u8,
    value: Option<u8>,
}

impl Change {
    fn record(&self) -> NewRecord {
        let value = self.value.map(|value| value.to_string());
        record(self.topic, self.partition, &self.key.to_string(), value.as_deref())
    }
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = (prop_oneof![Just(NEWEST), Just(ALL)], 0..PARTITIONS, 0..4_u8, proptest::option::of(0..100_u8))
        .prop_map(|(topic, partition, key, value)| Change { topic, partition, key, value });
    proptest::collection::vec(change, 0..6)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => changes().prop_map(Step::Append),
        4 => (changes(), proptest::option::of(0..50_u64)).prop_map(|(changes, offset)| Step::Write(changes, offset)),
        1 => changes().prop_map(Step::Abort),
        2 => changes().prop_map(Step::Open),
        2 => Just(Step::Close),
        2 => Just(Step::Compact),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..30)
}

/// A log, and who uses it.
struct User {
    log: LocalLog,
    member: Box<dyn Member>,
    writer: Box<dyn Writer>,
    open: Box<dyn Writer>,
}

impl User {
    async fn of(log: LocalLog) -> Self {
        log.ensure_topics(&specs(PARTITIONS)).await.unwrap();
        let member = join(&log).await;
        let writer = log.writer("writer").await.unwrap();
        let open = log.writer("open").await.unwrap();
        Self { log, member, writer, open }
    }

    async fn take(&mut self, step: &Step) {
        let records = |changes: &[Change]| changes.iter().map(Change::record).collect::<Vec<_>>();
        let bare = |changes: &[Change]| Transaction { records: records(changes), offsets: None };
        match step {
            Step::Append(changes) => self.log.append(records(changes)).await.unwrap(),
            Step::Write(changes, None) => self.writer.write(bare(changes)).await.unwrap(),
            Step::Write(changes, Some(offset)) => {
                self.writer.write(with_offset(records(changes), &*self.member, *offset)).await.unwrap();
            }
            Step::Abort(changes) => {
                let mut transaction = with_offset(records(changes), &*self.member, 99);
                transaction.offsets.as_mut().unwrap().relies_on = vec![(0, u64::MAX)];
                assert!(matches!(self.writer.write(transaction).await, Err(WriteError::Refused)));
            }
            Step::Open(changes) => self.open.prepare(bare(changes)).await.unwrap(),
            Step::Close => match self.open.commit().await {
                Ok(()) | Err(WriteError::Aborted { .. }) => {}
                Err(error) => panic!("{error}"),
            },
            Step::Compact => {
                self.log.compact_disk().await.unwrap();
                for partition in 0..PARTITIONS {
                    self.log.compact(&TopicPartition::new(NEWEST, partition));
                }
            }
            // What is open would be gone on disk without a trace; so it is ended in both.
            Step::Reopen => self.open = self.log.writer("open").await.unwrap(),
        }
    }

    /// All that can be seen from outside.
    async fn sight(&self) -> String {
        let mut sight = String::new();
        for topic in [NEWEST, ALL] {
            for partition in 0..PARTITIONS {
                let at = TopicPartition::new(topic, partition);
                // It is answered once all before it is written, aborts too, which nobody waits for.
                let committed = self.log.committed(GROUP, &at, Isolation::ReadUncommitted).await.unwrap();
                let ends = self.log.watermarks(&at).await.unwrap();
                let (records, position) = read_from(&self.log, &at, ends.low).await;
                sight += &format!("{at} {ends:?} up to {position}, {committed:?}:");
                for record in records {
                    sight += &format!(" {}={:?}:{:?}", record.offset, text(&record.key), text(&record.value));
                }
                sight.push('\n');
            }
        }
        sight
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_on_disk_is_as_one_in_memory(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            let mut memory = User::of(LocalLog::new(Settings::default(), Clock::System)).await;
            let mut disk = User::of(open(folder.path())).await;
            for step in &steps {
                memory.take(step).await;
                disk.take(step).await;
                if matches!(step, Step::Reopen) {
                    drop(disk);
                    disk = User::of(open(folder.path())).await;
                }
                assert_eq!(memory.sight().await, disk.sight().await, "after {step:?}");
            }
        });
    }
}
