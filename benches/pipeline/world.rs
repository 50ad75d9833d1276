//! What is measured: a simulated CRM in a second process, and a worker with the log in memory in this one.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use contact_replicator::{
    admin::Readiness,
    clock::Clock,
    config::{InputTopicSettings, Settings},
    crm::transport::{Http, Transport},
    explain::Desk,
    log::{
        Cleanup, Log, NewRecord, TopicSpec,
        local::{self, LocalLog},
    },
    metrics::{Metrics, Registry},
    privacy::Secret,
    protection::Protections,
    worker::{self, Stopped, WorkerError},
};
use tempfile::TempDir;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::load::{INPUT, PARTITIONS};

pub(crate) const CRM: &str = "priava";
/// How long the simulated CRM takes over each answer.
const LATENCY: &str = "5ms";
const TOKEN: &str = "sandbox-token";
/// After this a measurement has failed.
const PATIENCE: Duration = Duration::from_secs(180);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The simulated CRM; the process ends with this value.
#[derive(Debug)]
pub(crate) struct Sandbox {
    process: Child,
    pub(crate) base_url: String,
}

impl Sandbox {
    pub(crate) fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    pub(crate) fn start_at(listen: SocketAddr) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_contact-replicator"));
        command.args([
            "sandbox",
            "--kind",
            "priava",
            "--listen",
            &listen.to_string(),
            "--latency",
            LATENCY,
            "--token",
            TOKEN,
        ]);
        let output = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let mut process = output.expect("the program was built with the benchmark");
        let output = process.stdout.take().expect("it was piped");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("it says where it listens");
        let base_url = line.split_whitespace().last().expect("it says where it listens").to_owned();
        Self { process, base_url }
    }

    /// An address on which nobody listens: a CRM that is down.
    pub(crate) fn nowhere() -> SocketAddr {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        listener.local_addr().expect("a bound listener has an address")
    }

    pub(crate) fn process(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for ended in [self.process.kill(), self.process.wait().map(drop)] {
            if let Err(error) = ended {
                eprintln!("the simulated CRM could not be ended: {error}");
            }
        }
    }
}

/// Settings of a worker whose only bounds are those that are measured.
pub(crate) fn settings(base_url: &str, in_flight_max: usize, folder: &TempDir) -> Settings {
    let token = folder.path().join("token");
    std::fs::write(&token, TOKEN).expect("a file is written");
    let mut settings = Settings::reference();
    settings.instance = "bench".into();
    settings.worker.id = "bench".into();
    settings.worker.data = folder.path().join("data");
    settings.topics.partitions = PARTITIONS;
    settings.input.topics = vec![InputTopicSettings { name: INPUT.into(), tombstone_source: None }];
    settings.source.clear();
    settings.identity.secret = Some(Secret::new("the secret of the measured installation"));
    settings.crm.truncate(1);
    let crm = &mut settings.crm[0];
    crm.name = CRM.into();
    crm.base_url = base_url.to_owned();
    crm.delivery.in_flight_max = in_flight_max;
    crm.delivery.requests_per_second = 0.0;
    // A pause after an outage would be measured, not the work.
    crm.delivery.probe_delay = Duration::from_millis(250);
    crm.delivery.probe_delay_max = Duration::from_millis(250);
    let priava = crm.priava.as_mut().expect("the reference shows a Priava");
    priava.token_env = None;
    priava.token_file = Some(token);
    settings
}

/// The transport of the worker, for callers that do without the worker.
pub(crate) fn transport(settings: &Settings) -> Arc<dyn Transport> {
    let crm = &settings.crm[0];
    Arc::new(Http::new(&crm.base_url, &crm.delivery).expect("the simulated CRM has a plain address"))
}

pub(crate) async fn log() -> LocalLog {
    let log = LocalLog::new(local::Settings::default(), Clock::System);
    let input = TopicSpec {
        name: INPUT.into(),
        partitions: PARTITIONS,
        cleanup: Cleanup::Delete { after: Duration::from_secs(1_000_000) },
        message_bytes_max: 4 << 20,
    };
    log.ensure_topics(&[input]).await.expect("the log takes a topic");
    log
}

/// A worker at work.
#[derive(Debug)]
pub(crate) struct Worker {
    log: LocalLog,
    registry: Registry,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<Stopped, WorkerError>>,
}

impl Worker {
    /// Starts it and waits until each of its parts does its work.
    pub(crate) async fn start(settings: Settings, log: LocalLog) -> Self {
        let registry = Registry::new();
        let names: Vec<Arc<str>> = settings.crm.iter().map(|crm| crm.name.clone()).collect();
        let metrics = Metrics::new(&registry, &names).expect("the registry is empty");
        let transports: BTreeMap<_, _> = names.into_iter().map(|name| (name, transport(&settings))).collect();
        let readiness = Readiness::default();
        let parts = worker::Parts {
            settings: Arc::new(settings),
            log: Arc::new(log.clone()),
            transports,
            clock: Clock::System,
            metrics,
            traces: Default::default(),
            readiness: readiness.clone(),
            seed: 1,
            protections: Protections::default(),
            desk: Desk::default(),
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(worker::run(parts, async { stopped.await.unwrap_or(()) }));
        let worker = Self { log, registry, stop, task };
        worker.wait("it is ready", || readiness.is_ready() && worker.count("resolver_active") > 0.0).await;
        worker
    }

    pub(crate) async fn publish(&self, events: Vec<NewRecord>) {
        self.log.append(events).await.expect("the log in memory takes them");
    }

    /// Waits until a metric counts at least `expected`.
    pub(crate) async fn counts(&self, metric: &str, expected: usize) {
        self.wait(metric, || self.count(metric) >= expected as f64).await;
    }

    async fn wait(&self, what: &str, there: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !there() {
            assert!(!self.task.is_finished(), "the worker ended before {what}");
            assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
            sleep(LOOK_EVERY).await;
        }
    }

    /// The sum of all series of a metric; of a histogram, how much it counted.
    pub(crate) fn count(&self, metric: &str) -> f64 {
        let name = format!("{}_{metric}", contact_replicator::metrics::PREFIX);
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let series = family.map(|family| family.get_metric()).unwrap_or_default();
        let value = |series: &prometheus::proto::Metric| {
            series.get_counter().get_value()
                + series.get_gauge().get_value()
                + series.get_histogram().get_sample_count() as f64
        };
        series.iter().map(value).sum()
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).expect("a running worker listens");
        let stopped = self.task.await.expect("a worker does not panic").expect("a worker stops without an error");
        assert!(stopped.undone.is_empty(), "all was settled, so nothing is left undone: {stopped:?}");
    }
}
