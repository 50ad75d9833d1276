//! The broker of the command: one Kafka node of its own, which can be stopped, killed and started again.
//!
//! It is started through `deploy/kafka/kafka.sh`, with a folder and ports of its own: four that the script takes, then one
//! for each line between a worker and a CRM. Ports lie below those that an operating system gives out by itself, so that a
//! port that is closed for a moment is not somebody else's by then.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use contact_replicator::{
    config::KafkaSettings,
    log::{Log, kafka::KafkaLog},
};
use rand::{RngExt, rng};
use tokio::{net::TcpStream, sync::Mutex, time::Instant};

use crate::{processes::Process, proxy::Proxy, script::Kind, seconds, settings::SESSION_TIMEOUT};

/// Ports of the node: broker, controller, the listener for proxied lines, and the proxy.
const PORTS_OF_NODE: u16 = 4;
/// Among these a block is looked for.
const PORTS_FROM: u16 = 20_000;
const PORTS_TO: u16 = 29_000;
const STARTED_WITHIN: Duration = Duration::from_secs(120);
/// How often it is looked whether it answers.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) struct Broker {
    port: u16,
    /// How many there are, from `port` on.
    ports: u16,
    /// The lines between workers and the broker.
    pub(crate) lines: Proxy,
    data: PathBuf,
    /// `None` while it is down. Whoever does something to it holds it.
    node: Mutex<Option<Process>>,
}

/// The faults that a single broker bears.
///
/// To go down is none of them, whether it is killed or asked to stop: the controller takes the leadership of every partition
/// from it, and its transaction coordinator, which still ends transactions then or goes on with them when the node comes back,
/// takes partitions without a leader for deleted and leaves their markers out (Apache Kafka 4.3.1 logs `Couldn't find leader
/// endpoint … can be skipped`). Readers of committed records wait behind such a transaction for ever. With a second replica
/// the leader is another broker by then, and nothing is left out.
pub(crate) fn bears() -> Vec<Kind> {
    Kind::ALL.iter().copied().filter(|kind| !matches!(kind, Kind::BrokerStop | Kind::BrokerKill)).collect()
}

impl Broker {
    /// A node with nothing in it, beside free ports for so many lines to CRMs.
    pub(crate) async fn start(port: Option<u16>, lines: u16, folder: &Path) -> Self {
        let ports = PORTS_OF_NODE + lines;
        let port = port.unwrap_or_else(|| free_block(ports));
        let data = folder.join("kafka");
        fs::create_dir_all(&data).unwrap();
        let broker = Self { port, ports, lines: Proxy::start(port).await, data, node: Mutex::default() };
        broker.launch(&mut *broker.node.lock().await).await;
        broker
    }

    /// Returns when it answers.
    async fn launch(&self, node: &mut Option<Process>) {
        let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kafka/kafka.sh"));
        script.arg("run").env("KAFKA_PORT", self.port.to_string()).env("KAFKA_DATA", &self.data);
        script.env("KAFKA_HEAP", "512m");
        let said = self.data.with_extension("log");
        let file = || fs::File::options().create(true).append(true).open(&said).unwrap();
        // The script becomes the node itself.
        let mut process = Process::start("the broker", &mut script, file().into(), file().into());
        let log = self.log("is-it-there");
        let deadline = Instant::now() + STARTED_WITHIN;
        loop {
            if let Some(status) = process.child.try_wait().unwrap() {
                panic!("the broker ended with {status}, see {}", said.display());
            }
            // Asking for a topic that nobody has is asking for all that the broker knows.
            if TcpStream::connect(self.servers()).await.is_ok() && log.partitions("none").await.is_ok() {
                *node = Some(process);
                return;
            }
            assert!(Instant::now() < deadline, "the broker does not answer, see {}", said.display());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Those for the lines to the CRMs.
    pub(crate) fn ports_of_lines(&self) -> std::ops::Range<u16> {
        self.port + PORTS_OF_NODE..self.port + self.ports
    }

    /// Where clients that nothing is to happen to find it.
    pub(crate) fn servers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A log of a client that nothing is to happen to.
    pub(crate) fn log(&self, client_id: &str) -> KafkaLog {
        KafkaLog::new(KafkaSettings {
            bootstrap_servers: self.servers(),
            session_timeout: SESSION_TIMEOUT,
            heartbeat_interval: seconds(0.5),
            transaction_timeout: seconds(10.0),
            drain_deadline: seconds(5.0),
            replication_factor: 1,
            min_insync_replicas: 1,
            properties: [("client.id".to_owned(), client_id.to_owned())].into(),
        })
        .unwrap()
    }

    /// Down for this long after it was asked to stop.
    pub(crate) async fn restart(&self, down: Duration) {
        let mut node = self.node.lock().await;
        let mut stopped = node.take().expect("it runs whenever nobody holds it");
        stopped.terminate().await;
        tokio::time::sleep(down).await;
        self.launch(&mut node).await;
    }

    /// Down for this long after a crash.
    pub(crate) async fn crash(&self, down: Duration) {
        let mut node = self.node.lock().await;
        node.take().expect("it runs whenever nobody holds it").kill();
        tokio::time::sleep(down).await;
        self.launch(&mut node).await;
    }
}

/// The first of so many ports in a row that nobody listens on.
fn free_block(ports: u16) -> u16 {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    for _ in 0..100 {
        let first = rng().random_range(PORTS_FROM..PORTS_TO);
        if (first..first + ports).all(free) {
            return first;
        }
    }
    panic!("no {ports} ports in a row are free between {PORTS_FROM} and {PORTS_TO}; give the first with --port");
}
