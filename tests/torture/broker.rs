//! The broker of the command: one Kafka node of its own, which can be stopped, killed and started again.
//!
//! It is started through `deploy/kafka/kafka.sh`, with a folder and ports of its own: four that the script takes, then one
//! for each line between a worker and a CRM. Ports lie below those that an operating system gives out by itself, so that a
//! port that is closed for a moment is not somebody else's by then.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use contact_replicator::{config::KafkaSettings, log::kafka::KafkaLog};
use rand::{RngExt, rng};

use crate::{proxy::Proxy, seconds, settings::SESSION_TIMEOUT};

/// Ports of the node: broker, controller, the listener for proxied lines, and the proxy.
const PORTS_OF_NODE: u16 = 4;
/// Ports of the command in all.
const PORTS: u16 = 64;
/// Among these a block is looked for.
const PORTS_FROM: u16 = 20_000;
const PORTS_TO: u16 = 29_000;

pub(crate) struct Broker {
    pub(crate) port: u16,
    /// The lines between workers and the broker.
    pub(crate) lines: Proxy,
    data: PathBuf,
}

impl Broker {
    /// A node with nothing in it.
    pub(crate) async fn start(port: Option<u16>, folder: &Path) -> Self {
        let port = port.unwrap_or_else(free_block);
        let data = folder.join("kafka");
        script(port, &data, "start").await;
        Self { port, lines: Proxy::start(port).await, data }
    }

    /// The first port of those that are free for the lines to the CRMs.
    pub(crate) fn ports_of_lines(&self) -> std::ops::Range<u16> {
        self.port + PORTS_OF_NODE..self.port + PORTS
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

    pub(crate) async fn stop(&self) {
        script(self.port, &self.data, "stop").await;
    }

    pub(crate) async fn start_again(&self) {
        script(self.port, &self.data, "start").await;
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(&self) {
        let Some(pid) = self.pid() else { panic!("the broker does not run") };
        let killed = Command::new("kill").args(["-KILL", &pid]).status().unwrap();
        assert!(killed.success(), "the broker ended by itself");
    }

    /// The script writes it, with the moment of its start behind it.
    fn pid(&self) -> Option<String> {
        let written = fs::read_to_string(self.data.join("pid")).ok()?;
        written.split_whitespace().next().map(str::to_owned)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(pid) = self.pid() {
            // An error means that it has ended already.
            let _ended = Command::new("kill").args(["-KILL", &pid]).stderr(Stdio::null()).status().is_err();
        }
    }
}

async fn script(port: u16, data: &Path, command: &'static str) {
    let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kafka/kafka.sh"));
    script.arg(command).env("KAFKA_PORT", port.to_string()).env("KAFKA_DATA", data).env("KAFKA_HEAP", "512m");
    // Files and no pipes: the node inherits them, and a pipe would be waited for as long as it lives.
    let said = data.with_extension("log");
    fs::create_dir_all(data).unwrap();
    let file = || fs::File::options().create(true).append(true).open(&said).unwrap();
    script.stdin(Stdio::null()).stdout(file()).stderr(file());
    let status = tokio::task::spawn_blocking(move || script.status().unwrap()).await.unwrap();
    assert!(status.success(), "kafka.sh {command}: {}", fs::read_to_string(data.with_extension("log")).unwrap());
}

/// The first of so many ports in a row that nobody listens on.
fn free_block() -> u16 {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    for _ in 0..100 {
        let first = rng().random_range(PORTS_FROM..PORTS_TO - PORTS);
        if (first..first + PORTS).all(free) {
            return first;
        }
    }
    panic!("no {PORTS} ports in a row are free between {PORTS_FROM} and {PORTS_TO}; give one with --port");
}
