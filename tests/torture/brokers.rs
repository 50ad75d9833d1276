//! The brokers of the command: two Kafka nodes of its own, of which the second can be stopped, killed and started again.
//!
//! The first has the controller and never goes away. One broker alone will not do: a transaction that ends while nobody
//! leads a partition leaves no marker there, and readers of committed records wait behind it for ever (Apache Kafka 4.3.1
//! logs `Couldn't find leader endpoint … can be skipped`). With everything on both, the first leads what the second led.
//!
//! They are started through `deploy/kafka/kafka.sh`, with folders and ports of their own: four that the script takes for
//! each, then one for the lines between each worker and the CRMs. Ports lie below those that an operating system gives out by
//! itself, so that a port that is closed for a moment is not somebody else's by then.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use contact_replicator::{
    config::KafkaSettings,
    log::{LogError, kafka::KafkaLog},
};
use rdkafka::{
    ClientConfig,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, Consumer},
    metadata::Metadata,
};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::Instant,
};

use crate::{ports::free_block, processes::Process, proxy::Proxy, seconds, settings::SESSION_TIMEOUT};

/// Of all topics: one on each.
pub(crate) const REPLICAS: i32 = 2;
/// Ports of a node: broker, controller, the listener for proxied lines, and the proxy.
const PORTS_OF_NODE: u16 = 4;
/// Both nodes, one after the other.
const PORTS_OF_NODES: u16 = 2 * PORTS_OF_NODE;
const STARTED_WITHIN: Duration = Duration::from_secs(120);
/// How long a broker may take to say what it knows.
const ANSWER: Duration = Duration::from_secs(2);
/// How often it is looked whether all is well.
const LOOK: Duration = Duration::from_millis(100);
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kafka/kafka.sh");
const PROPERTIES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/kafka/pair.properties");

pub(crate) struct Brokers {
    port: u16,
    /// How many there are, from `port` on.
    ports: u16,
    /// The lines between workers and brokers.
    pub(crate) lines: Proxy,
    folder: PathBuf,
    /// Only to be there, and to end with the value.
    _first: Process,
    /// `None` while it is down. Whoever does something to it holds it.
    second: Mutex<Option<Process>>,
}

/// Whoever does something to the second broker.
pub(crate) type Second<'a> = MutexGuard<'a, Option<Process>>;

impl Brokers {
    /// Nodes with nothing in them, beside free ports for the lines of so many workers to CRMs.
    pub(crate) async fn start(port: Option<u16>, lines: u16, folder: &Path) -> Self {
        let ports = PORTS_OF_NODES + lines;
        let port = port.unwrap_or_else(|| free_block(ports));
        let (folder, proxy) = (folder.to_owned(), Proxy::start(&[port, port + PORTS_OF_NODE]).await);
        let mut first = launch(&folder, port, None);
        until(&mut first, port, |_| true).await;
        let brokers = Self { port, ports, lines: proxy, folder, _first: first, second: Mutex::default() };
        brokers.launch_second(&mut *brokers.second.lock().await).await;
        brokers
    }

    /// Returns when all is as if it had never been away: it keeps what the first keeps, and leads what it is to lead.
    async fn launch_second(&self, second: &mut Option<Process>) {
        let port = self.port + PORTS_OF_NODE;
        // Kept before it is well: a run that gives it up leaves it to the next, which waits for it.
        let process = second.insert(launch(&self.folder, port, Some(self.port)));
        until(process, port, is_whole).await;
    }

    /// Those for the lines to the CRMs.
    pub(crate) fn ports_of_lines(&self) -> std::ops::Range<u16> {
        self.port + PORTS_OF_NODES..self.port + self.ports
    }

    /// Where clients that nothing is to happen to find them.
    pub(crate) fn servers(&self) -> String {
        format!("{},{}", address(self.port), address(self.port + PORTS_OF_NODE))
    }

    /// A log of a client that nothing is to happen to.
    pub(crate) fn log(&self, client_id: &str) -> KafkaLog {
        KafkaLog::new(KafkaSettings {
            bootstrap_servers: self.servers(),
            session_timeout: SESSION_TIMEOUT,
            heartbeat_interval: seconds(0.5),
            transaction_timeout: seconds(10.0),
            drain_deadline: seconds(5.0),
            replication_factor: REPLICAS,
            min_insync_replicas: 1,
            properties: [("client.id".to_owned(), client_id.to_owned())].into(),
        })
        .unwrap()
    }

    /// The second, once nobody does anything to it and both keep everything: with a partition that it alone keeps, it would
    /// take the leader away, and be the single broker that leaves transactions open.
    pub(crate) async fn second(&self) -> Second<'_> {
        let mut second = self.second.lock().await;
        let process = second.as_mut().expect("it runs whenever nobody holds it");
        until(process, self.port + PORTS_OF_NODE, is_whole).await;
        second
    }

    /// The second is down for this long after it was asked to stop.
    pub(crate) async fn restart(&self, mut second: Second<'_>, down: Duration) {
        let mut stopped = second.take().expect("it runs whenever nobody holds it");
        stopped.terminate().await;
        tokio::time::sleep(down).await;
        self.launch_second(&mut second).await;
    }

    /// The second is down for this long after a crash.
    pub(crate) async fn crash(&self, mut second: Second<'_>, down: Duration) {
        second.take().expect("it runs whenever nobody holds it").kill();
        tokio::time::sleep(down).await;
        self.launch_second(&mut second).await;
    }
}

/// Asks until there is an answer: who leads a partition may be changing.
pub(crate) async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T, LogError>) -> T {
    let deadline = Instant::now() + STARTED_WITHIN;
    loop {
        match ask().await {
            Err(error) if error.is_transient() && Instant::now() < deadline => tokio::time::sleep(LOOK).await,
            answer => return answer.unwrap(),
        }
    }
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// What the node at this port keeps.
fn data(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!("kafka-{port}"))
}

/// A node; the second one joins the first, at `joins`.
fn launch(folder: &Path, port: u16, joins: Option<u16>) -> Process {
    let said = data(folder, port).with_extension("log");
    let file = || fs::File::options().create(true).append(true).open(&said).unwrap();
    let mut script = Command::new(SCRIPT);
    script.arg("run").env("KAFKA_PORT", port.to_string()).env("KAFKA_DATA", data(folder, port));
    script.env("KAFKA_HEAP", "512m").env("KAFKA_MORE_PROPERTIES", PROPERTIES);
    if let Some(first) = joins {
        script.env("KAFKA_JOINS", data(folder, first));
    }
    // The script becomes the node itself.
    Process::start(&format!("the broker at {port}"), &mut script, file().into(), file().into())
}

/// Waits until the node at this port answers, and what it knows is as wanted.
async fn until(process: &mut Process, port: u16, wanted: fn(&Metadata) -> bool) {
    let deadline = Instant::now() + STARTED_WITHIN;
    loop {
        if let Some(status) = process.child.try_wait().unwrap() {
            panic!("{} ended with {status}; see what it said beside its data", process.name);
        }
        let looked = tokio::task::spawn_blocking(move || {
            let asks: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", address(port))
                .set_log_level(RDKafkaLogLevel::Emerg)
                .create()
                .unwrap();
            asks.fetch_metadata(None, ANSWER).is_ok_and(|known| wanted(&known))
        });
        if looked.await.unwrap() {
            return;
        }
        assert!(Instant::now() < deadline, "{} is not well again after {STARTED_WITHIN:?}", process.name);
        tokio::time::sleep(LOOK).await;
    }
}

/// Whether both are there, both keep all partitions, and each leads those that it is the first to lead.
fn is_whole(known: &Metadata) -> bool {
    let both = REPLICAS.unsigned_abs() as usize;
    let mut partitions = known.topics().iter().flat_map(|topic| topic.partitions());
    known.brokers().len() == both
        && partitions
            .all(|partition| partition.isr().len() == both && partition.replicas().first() == Some(&partition.leader()))
}
