//! The log on a real broker: the conformance suite, and what only a real broker can show.
//!
//! Needs the broker of `deploy/kafka/kafka.sh start`, at `KAFKA_BOOTSTRAP_SERVERS` (default `127.0.0.1:9092`). Without
//! one every test fails; none is skipped.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[macro_use]
#[path = "../conformance/mod.rs"]
mod conformance;
mod alone;
mod conditions;
mod end_to_end;
mod first_steps;
mod identity;
mod ingest;
mod installation;
mod lost_creates;
#[cfg(feature = "ssl")]
mod permits;
mod plain;
#[path = "../processes/ports.rs"]
mod ports;
#[path = "../processes/mod.rs"]
mod processes;
#[path = "../processes/proxy.rs"]
#[allow(dead_code, reason = "torture does more to lines")]
mod proxy;
mod resync;
#[cfg(feature = "ssl")]
mod secured;
#[path = "../processes/settings.rs"]
mod settings;
mod topics;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use contact_replicator::{
    config::KafkaSettings,
    log::{
        Cleanup, CommittedOffset, Follower, GroupSpec, Isolation, Log, LogError, Member, NewRecord, Offset, TopicFound,
        TopicPartition, TopicSpec, Watermarks, Writer, kafka::KafkaLog,
    },
};
use jiff::Timestamp;
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use tokio::{sync::OnceCell, time::Instant};

use self::{
    conformance::{Harness, fresh, topic_spec},
    proxy::Proxy,
};

conformance_suite!(tokio::test(flavor = "multi_thread", worker_threads = 2), KafkaHarness::new().await);

pub(crate) const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Where the broker is.
pub(crate) fn bootstrap_servers() -> String {
    #[expect(clippy::disallowed_methods, reason = "tests have no settings file")]
    std::env::var("KAFKA_BOOTSTRAP_SERVERS").unwrap_or_else(|_unset| "127.0.0.1:9092".to_owned())
}

/// The port of the broker; the proxy's are counted from it.
pub(crate) fn port() -> u16 {
    let servers = bootstrap_servers();
    let port = servers.rsplit(':').next().and_then(|port| port.parse().ok());
    port.unwrap_or_else(|| panic!("KAFKA_BOOTSTRAP_SERVERS has no port: {servers}"))
}

pub(crate) fn settings(bootstrap_servers: String, client_id: &str) -> KafkaSettings {
    KafkaSettings {
        bootstrap_servers,
        session_timeout: Duration::from_secs(6),
        heartbeat_interval: Duration::from_millis(500),
        transaction_timeout: TRANSACTION_TIMEOUT,
        drain_deadline: Duration::from_secs(5),
        replication_factor: 1,
        min_insync_replicas: 1,
        properties: [("client.id".to_owned(), client_id.to_owned())].into(),
    }
}

/// The proxy of this process: its port is one, so all tests share it.
pub(crate) async fn shared_proxy() -> &'static Proxy {
    static PROXY: OnceCell<Proxy> = OnceCell::const_new();
    PROXY.get_or_init(async || Proxy::start(&[port()]).await).await
}

/// A log whose line to the broker can be cut.
pub(crate) async fn proxied(client_id: &str) -> (KafkaLog, &'static Proxy) {
    let proxy = shared_proxy().await;
    (KafkaLog::new(settings(proxy.servers(), client_id)).unwrap(), proxy)
}

pub(crate) struct KafkaHarness {
    log: MortalLog,
    admin: AdminClient<DefaultClientContext>,
}

impl KafkaHarness {
    pub(crate) async fn new() -> Self {
        let servers = bootstrap_servers();
        let direct = KafkaLog::new(settings(servers.clone(), "conformance")).unwrap();
        let admin = ClientConfig::new().set("bootstrap.servers", servers).create().unwrap();
        Self { log: MortalLog { direct, proxy: shared_proxy().await, members: Mutex::default() }, admin }
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)))
}

#[async_trait]
impl Harness for KafkaHarness {
    fn log(&self) -> &dyn Log {
        &self.log
    }

    /// With segments so short that compaction happens within the test.
    async fn fresh_topic(&self, partitions: u32, cleanup: Cleanup) -> Arc<str> {
        let spec = topic_spec(partitions, cleanup);
        let bytes = spec.message_bytes_max.to_string();
        let topic = NewTopic::new(&spec.name, spec.partitions.try_into().unwrap(), TopicReplication::Fixed(1))
            .set("max.message.bytes", &bytes);
        let retention = match cleanup {
            Cleanup::Compact { tombstones } => tombstones.as_millis().to_string(),
            Cleanup::Delete { after } => after.as_millis().to_string(),
            Cleanup::Foreign => panic!("the suite makes no foreign topics"),
        };
        let topic = match cleanup {
            Cleanup::Compact { .. } => topic
                .set("cleanup.policy", "compact")
                .set("segment.ms", "1000")
                .set("min.cleanable.dirty.ratio", "0.01")
                .set("max.compaction.lag.ms", "2000")
                .set("delete.retention.ms", &retention),
            // A broker deletes whole segments.
            _ => topic.set("cleanup.policy", "delete").set("retention.ms", &retention).set("segment.ms", "1000"),
        };
        let created = self.admin.create_topics([&topic], &options()).await.unwrap();
        created.into_iter().next().unwrap().unwrap();
        let deadline = Instant::now() + conformance::DEADLINE;
        while self.log.partitions(&spec.name).await.unwrap().is_none() {
            assert!(Instant::now() < deadline, "the created topic is never known");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        spec.name
    }

    /// One more record in each partition closes the segment before it, which is what a cleaner takes up.
    async fn compact(&self, topic: &str) {
        let partitions = self.log.partitions(topic).await.unwrap().unwrap();
        let filler = |partition| {
            conformance::record(
                &TopicPartition::new(topic, partition),
                &fresh("#filler").replace("conformance-", ""),
                "",
            )
        };
        self.log.append((0..partitions).map(filler).collect()).await.unwrap();
        // Not to wait for anything: more fillers a second would close no more segments.
        tokio::time::sleep(Duration::from_millis(500)).await;
    }

    async fn expire_before(&self, at: &TopicPartition, offset: Offset) {
        let mut list = TopicPartitionList::new();
        let offset = rdkafka::Offset::Offset(offset.try_into().unwrap());
        list.add_partition_offset(&at.topic, at.partition.try_into().unwrap(), offset).unwrap();
        let deleted = self.admin.delete_records(&list, &options()).await.unwrap();
        deleted.elements()[0].error().unwrap();
    }

    /// Cuts its line. The member lives on without knowing better, as its handle may be asked what it believes.
    async fn kill(&self, member: Box<dyn Member>) {
        let client_id = self.log.members.lock().remove(&identity(member.as_ref())).unwrap();
        self.log.proxy.cut(&client_id);
        std::mem::forget(member);
    }
}

/// Tells members apart, by where their handles are.
fn identity(member: &dyn Member) -> usize {
    Arc::as_ptr(&member.handle()).cast::<()>() as usize
}

/// A log whose members can be killed: each has a line of its own.
struct MortalLog {
    direct: KafkaLog,
    proxy: &'static Proxy,
    members: Mutex<HashMap<usize, String>>,
}

impl std::fmt::Debug for MortalLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.direct.fmt(f)
    }
}

#[async_trait]
impl Log for MortalLog {
    async fn join(&self, spec: GroupSpec) -> Result<Box<dyn Member>, LogError> {
        let client_id = fresh("member");
        let member = proxied(&client_id).await.0.join(spec).await?;
        self.members.lock().insert(identity(member.as_ref()), client_id);
        Ok(member)
    }

    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<Vec<Arc<str>>, LogError> {
        self.direct.ensure_topics(topics).await
    }

    async fn describe_topics(&self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicFound>>, LogError> {
        self.direct.describe_topics(topics).await
    }

    async fn partitions(&self, topic: &str) -> Result<Option<u32>, LogError> {
        self.direct.partitions(topic).await
    }

    async fn watermarks(&self, at: &TopicPartition) -> Result<Watermarks, LogError> {
        self.direct.watermarks(at).await
    }

    async fn offset_at(&self, at: &TopicPartition, time: Timestamp) -> Result<Offset, LogError> {
        self.direct.offset_at(at, time).await
    }

    async fn append(&self, records: Vec<NewRecord>) -> Result<(), LogError> {
        self.direct.append(records).await
    }

    async fn follower(&self) -> Result<Box<dyn Follower>, LogError> {
        self.direct.follower().await
    }

    async fn writer(&self, transactional_id: &str) -> Result<Box<dyn Writer>, LogError> {
        self.direct.writer(transactional_id).await
    }

    async fn committed(
        &self,
        group: &str,
        at: &TopicPartition,
        isolation: Isolation,
    ) -> Result<Option<CommittedOffset>, LogError> {
        self.direct.committed(group, at, isolation).await
    }
}
