//! The conformance suite on the log inside this process, under a paused clock.

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
    const SETTINGS: Settings = Settings {
        session_timeout: Duration::from_secs(2),
        drain_deadline: Duration::from_secs(2),
        transaction_timeout: Duration::from_secs(4),
    };

    conformance_suite!(tokio::test(flavor = "multi_thread", worker_threads = 2), LocalHarness::new(SETTINGS));
}
