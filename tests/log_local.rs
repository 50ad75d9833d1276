//! The conformance suite on the log inside this process: in memory under a paused clock, in memory on threads, and on
//! disk. A log on disk answers to all claims; groups are the same code there.

#[macro_use]
mod conformance;

use async_trait::async_trait;
use contact_replicator::{
    clock::Clock,
    log::{
        Log, Member, Offset, TopicPartition,
        local::{LocalLog, Settings},
    },
};
use jiff::Timestamp;

struct LocalHarness {
    log: LocalLog,
}

impl LocalHarness {
    fn new(settings: Settings) -> Self {
        Self { log: LocalLog::new(settings, Clock::simulated(Timestamp::UNIX_EPOCH)) }
    }
}

#[async_trait]
impl conformance::Harness for LocalHarness {
    fn log(&self) -> &dyn Log {
        &self.log
    }

    async fn compact(&self, topic: &str) {
        let partitions = self.log.partitions(topic).await.expect("this log is always there").expect("the topic exists");
        (0..partitions).for_each(|partition| self.log.compact(&TopicPartition::new(topic, partition)));
    }

    async fn expire_before(&self, at: &TopicPartition, offset: Offset) {
        self.log.expire_before(at, offset);
    }

    async fn expire(&self) {
        self.log.expire();
    }

    async fn kill(&self, member: Box<dyn Member>) {
        drop(member);
    }
}

conformance_suite!(tokio::test(start_paused = true), LocalHarness::new(Settings::default()));

/// The same on threads and in real time, where locks and wake-ups are really contended.
mod in_real_time {
    use std::time::Duration;

    use super::{LocalHarness, Settings};

    /// As short as the claims allow, which watch for a second that nothing happens.
    pub(crate) const SETTINGS: Settings = Settings {
        session_timeout: Duration::from_secs(2),
        drain_deadline: Duration::from_secs(2),
        transaction_timeout: Duration::from_secs(4),
    };

    conformance_suite!(tokio::test(flavor = "multi_thread", worker_threads = 2), LocalHarness::new(SETTINGS));
}

/// The log on disk, whose threads know nothing of a paused clock.
mod on_disk {
    use std::time::Duration;

    use async_trait::async_trait;
    use contact_replicator::{
        clock::Clock,
        log::{
            Log, Member, Offset, TopicPartition,
            local::{DiskSettings, LocalLog},
        },
    };
    use tempfile::TempDir;

    use crate::conformance::Harness;

    struct DiskHarness {
        log: LocalLog,
        _folder: TempDir,
    }

    impl DiskHarness {
        fn new() -> Self {
            let folder = tempfile::tempdir().expect("there is room for a folder");
            let disk = DiskSettings {
                folder: folder.path().join("log"),
                bytes_max: 1 << 30,
                compact_interval: Duration::from_secs(3_600),
                compact_bytes_per_second: 1 << 30,
                cache_bytes: 16 << 20,
            };
            let log =
                LocalLog::open(super::in_real_time::SETTINGS, disk, Clock::System).expect("an empty folder opens");
            Self { log, _folder: folder }
        }
    }

    #[async_trait]
    impl Harness for DiskHarness {
        fn log(&self) -> &dyn Log {
            &self.log
        }

        async fn compact(&self, _topic: &str) {
            self.log.compact_disk().await.expect("the disk works");
        }

        async fn expire_before(&self, at: &TopicPartition, offset: Offset) {
            self.log.expire_before(at, offset);
        }

        async fn expire(&self) {
            self.log.compact_disk().await.expect("the disk works");
        }

        async fn kill(&self, member: Box<dyn Member>) {
            drop(member);
        }
    }

    conformance_suite!(tokio::test(flavor = "multi_thread", worker_threads = 2), DiskHarness::new());
}
