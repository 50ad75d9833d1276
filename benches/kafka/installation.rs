//! One installation on the broker: an input topic, workers as processes, and one simulated Priava in a process of its own.
//!
//! Each has a name of its own, and with it topics, groups and transactional ids. All settings that are not told here are
//! those of the reference.

use std::{
    fs,
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    time::Duration,
};

use contact_replicator::{
    clock::Clock,
    config::{Settings, TopicNames},
    log::{Cleanup, Log, NewRecord, TopicSpec, kafka::KafkaLog},
};
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    broker::Broker,
    calls::Call,
    load::{INPUT, PARTITIONS},
    plain::{self, Outcomes, Pace, Seen},
    processes::{Lines, Process, Sandbox, Usage, eventually, is_ready, program},
};

const KIND: &str = "priava";
const BASE_PATH: &str = "/priava/api/rest";
/// As in the reference.
const PROBE_DELAY: Duration = Duration::from_secs(1);
/// How long a process may take to be ready.
const START: Duration = Duration::from_secs(60);
/// How long one load may take, however slow the machine.
const PATIENCE: Duration = Duration::from_secs(1_800);
/// What may become of an event here.
const EXPECTED: [&str; 3] = ["delivered", "superseded", "unchanged"];

/// What differs between installations.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) name: &'static str,
    pub(crate) in_flight_max: usize,
    /// Of each answer of the CRM.
    pub(crate) latency: Duration,
    pub(crate) request_deadline: Duration,
    /// Between two looks whether a CRM that was down is back.
    pub(crate) probe_delay_max: Duration,
    /// The CRM keeps what it was sent, so that each call can be judged by what it says.
    pub(crate) keep_bodies: bool,
}

impl Terms {
    pub(crate) fn new(name: &'static str, in_flight_max: usize) -> Self {
        Self {
            name,
            in_flight_max,
            latency: Duration::from_millis(5),
            request_deadline: Duration::from_secs(10),
            probe_delay_max: Duration::from_secs(60),
            keep_bodies: false,
        }
    }

    /// To be judged call by call.
    pub(crate) fn watched(name: &'static str) -> Self {
        Self {
            latency: Duration::from_millis(10),
            request_deadline: Duration::from_secs(1),
            keep_bodies: true,
            ..Self::new(name, 64)
        }
    }
}

/// How a worker is told from the others.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Named {
    /// By an operator, for good: the broker keeps its partitions over a restart.
    Worker(&'static str),
    /// By nothing but the name of its host, as where hosts come and go.
    Host(&'static str),
}

pub(crate) struct Installation {
    terms: Terms,
    servers: String,
    folder: TempDir,
    pub(crate) crm: Sandbox,
}

impl Installation {
    /// The input topic and the CRM; no worker yet.
    pub(crate) async fn new(broker: &Broker, terms: Terms) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let flags: &[&str] = if terms.keep_bodies { &["--keep-bodies"] } else { &[] };
        let kind = [&["--kind", KIND], flags].concat();
        let crm = Sandbox::start_with(folder.path(), terms.latency, &kind).await;
        let installation = Self { terms, servers: broker.servers(), folder, crm };
        installation.create(&installation.input()).await;
        installation
    }

    pub(crate) fn input(&self) -> String {
        format!("{}.{INPUT}", self.terms.name)
    }

    pub(crate) fn servers(&self) -> &str {
        &self.servers
    }

    /// Where the CRM takes contacts.
    pub(crate) fn url(&self) -> String {
        format!("http://{}{BASE_PATH}/v1/crm/contacts", self.crm.address)
    }

    /// Creates a topic of the input's form.
    pub(crate) async fn create(&self, topic: &str) {
        let mut settings = Settings::reference().log.kafka;
        settings.bootstrap_servers = self.servers.clone();
        let spec = TopicSpec {
            name: topic.into(),
            partitions: PARTITIONS,
            cleanup: Cleanup::Delete { after: Duration::from_secs(24 * 60 * 60) },
            message_bytes_max: 1024 * 1024,
        };
        KafkaLog::new(settings).unwrap().ensure_topics(&[spec]).await.unwrap();
    }

    pub(crate) async fn publish(&self, records: impl Iterator<Item = NewRecord> + Send + 'static, pace: Pace) {
        plain::publish(self.servers.clone(), self.input(), records, pace).await;
    }

    fn settings(&self, named: Named) -> String {
        let Terms { name, in_flight_max, request_deadline, probe_delay_max, .. } = self.terms;
        let (worker, data) = match named {
            Named::Worker(worker) => (worker, self.folder.path().join(worker)),
            Named::Host(host) => ("", self.folder.path().join(host)),
        };
        format!(
            r#"
            instance = "bench-{name}"
            [worker]
            id = {worker:?}
            data = {data:?}
            [log.kafka]
            bootstrap_servers = {servers:?}
            [topics]
            prefix = "{name}."
            partitions = {PARTITIONS}
            [[input.topics]]
            name = {input:?}
            [[crm]]
            name = "priava"
            kind = "priava"
            base_url = "http://{address}{BASE_PATH}"
            [crm.delivery]
            in_flight_max = {in_flight_max}
            requests_per_second = 0.0
            request_deadline = "{deadline}ms"
            connect_timeout = "1s"
            probe_delay = "{probe_delay}ms"
            probe_delay_max = "{probe_delay_max}ms"
            [admin]
            listen = "127.0.0.1:0"
            "#,
            servers = self.servers,
            input = self.input(),
            address = self.crm.address,
            deadline = request_deadline.as_millis(),
            probe_delay = probe_delay_max.min(PROBE_DELAY).as_millis(),
            probe_delay_max = probe_delay_max.as_millis(),
        )
    }

    fn command(&self, named: Named) -> Command {
        let (name, mut command) = match named {
            Named::Worker(worker) => (worker, program()),
            Named::Host(host) => (host, on_host(host)),
        };
        let file = self.folder.path().join(format!("{name}.toml"));
        fs::write(&file, self.settings(named)).unwrap();
        command.arg("run").arg("--config").arg(file);
        command
    }

    /// Starts a worker and does not wait for it.
    pub(crate) fn launch(&self, named: Named) -> Worker {
        let (Named::Worker(name) | Named::Host(name)) = named;
        let (lines, file) = Lines::of(self.folder.path().join(format!("{name}.log")));
        let process = Process::start(name, &mut self.command(named), Stdio::null(), file.into());
        Worker { process, lines }
    }

    /// Starts a worker and waits until it is ready.
    pub(crate) async fn start(&self, named: Named) -> Worker {
        let mut worker = self.launch(named);
        worker.ready().await;
        worker
    }

    /// The outcomes of this installation, of which a worker was ready.
    pub(crate) fn outcomes(&self) -> Outcomes {
        let topics = TopicNames::new(&format!("{}.", self.terms.name));
        Outcomes::follow(&self.servers, &topics.outcomes, PARTITIONS)
    }

    /// Waits until at least `events` events have their outcome.
    pub(crate) async fn at_least(&self, outcomes: &Outcomes, events: usize, worker: &mut Worker) {
        let what = format!("{events} events of {} are settled", self.terms.name);
        eventually(&what, PATIENCE, async || {
            worker.assert_runs();
            (outcomes.settled() >= events).then_some(())
        })
        .await;
    }

    /// Waits until `events` events have their outcome, which are all, and ends with what became of them.
    pub(crate) async fn settled(&self, outcomes: &Outcomes, events: usize, worker: &mut Worker) -> Seen {
        self.at_least(outcomes, events, worker).await;
        let seen = outcomes.seen();
        for kind in seen.types.keys() {
            assert!(EXPECTED.iter().any(|expected| kind.ends_with(expected)), "some events ended as {kind}");
        }
        assert_eq!(seen.settled, events, "each event has one outcome");
        seen
    }

    /// Replaces what goes wrong in the CRM.
    pub(crate) async fn misbehave(&self, plan: &Value) {
        self.crm.misbehave(KIND, plan).await;
    }

    /// What the CRM was asked so far, and how many calls its log has dropped.
    pub(crate) async fn calls(&self) -> (Vec<Call>, usize) {
        Call::read(&self.crm.page(KIND, "requests").await)
    }
}

/// The program as on a host of this name, of which it alone knows.
fn on_host(host: &str) -> Command {
    let program = program();
    let mut command = Command::new("unshare");
    command.args(["--uts", "--map-root-user", "sh", "-c", r#"hostname "$0" && exec "$@""#, host]);
    command.arg(program.get_program());
    for (name, value) in program.get_envs() {
        command.env(name, value.expect("the program is given variables, and none is taken"));
    }
    command
}

pub(crate) struct Worker {
    process: Process,
    lines: Lines,
}

impl Worker {
    pub(crate) async fn ready(&mut self) {
        let what = format!("{} is ready", self.process.name);
        eventually(&what, START, async || {
            self.assert_runs();
            match self.lines.admin() {
                Some(admin) => is_ready(admin).await.then_some(()),
                None => None,
            }
        })
        .await;
    }

    #[track_caller]
    fn assert_runs(&mut self) {
        self.process.assert_runs(&self.lines);
    }

    pub(crate) fn usage(&self) -> Usage {
        self.process.usage()
    }

    pub(crate) fn kill(self) {
        self.process.kill();
    }

    /// Asks it to stop and waits for its end.
    pub(crate) async fn stop(mut self) {
        let status: ExitStatus = self.process.terminate().await;
        assert!(status.success(), "{} ended with {status}:\n{}", self.process.name, self.lines.last(20));
    }
}

/// Now, on the clock that all processes share.
pub(crate) fn now() -> Timestamp {
    Clock::System.now()
}

impl Installation {
    /// Keeps settings and logs of this run, and says where.
    pub(crate) fn keep(&mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }
}

impl Drop for Installation {
    /// What a failed run leaves behind is what explains it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("settings and logs are kept in {}", self.keep().display());
        }
    }
}
