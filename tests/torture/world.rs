//! The installation of one run: workers, each with lines of its own to the broker and to the CRMs, and the simulated CRMs.
//!
//! Whatever is done to it goes through here and is written down. Processes end with the value, however the run ends.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use contact_replicator::{
    cli::demo::generator,
    clock::Clock,
    config::{Settings, TopicNames},
    log::{Cleanup, Log, TopicSpec},
    sandbox::Kind,
};
use futures::future::try_join_all;
use jiff::Timestamp;
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    brokers::{self, Brokers, REPLICAS},
    crm_line::{Condition, CrmLine},
    history::What,
    judge::{self, Counted, Ended},
    known::LastQuestion,
    processes::{self, Lines, Process, Sandbox, exchange, program},
    record::{Doing, Recorder},
    seconds,
    settings::{Written, WrittenCrm},
};

/// How long a process may take to answer, on a machine that has other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const REQUEST_DEADLINE: Duration = Duration::from_secs(2);
/// How long a worker may take until it is ready when nothing goes wrong any more.
const READY_WITHIN: Duration = Duration::from_secs(120);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);
/// Requests of one worker to one CRM.
const IN_FLIGHT_MAX: u32 = 16;
/// How long a CRM takes for each answer.
const LATENCY: Duration = Duration::from_millis(5);

/// What is the same for all workers of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) workers: usize,
    pub(crate) partitions: u32,
    /// Whether workers have names of the operator's choice, and with them a place in their groups that outlives them.
    pub(crate) named: bool,
}

pub(crate) struct World {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    pub(crate) shape: Shape,
    pub(crate) recorder: Recorder,
    pub(crate) brokers: Arc<Brokers>,
    pub(crate) sandbox: Sandbox,
    /// One more than there are workers: for who joins now and then.
    pub(crate) seats: Vec<Seat>,
    /// Workers that went, in the order of their going.
    pub(crate) departures: parking_lot::Mutex<Vec<Departure>>,
    /// Processes of workers that ended, in the order of their ends.
    pub(crate) ended: parking_lot::Mutex<Vec<judge::Process>>,
    /// What the workers that were asked to stop say they committed; `None` if one did not say.
    pub(crate) counted: parking_lot::Mutex<Option<Counted>>,
    /// What was seen and must not be.
    pub(crate) findings: parking_lot::Mutex<Vec<String>>,
}

/// A worker goes: others have to take over.
#[derive(Debug, Clone)]
pub(crate) struct Departure {
    pub(crate) at: Timestamp,
    pub(crate) worker: Arc<str>,
    /// Whether it was the resolver.
    pub(crate) resolves: bool,
    /// Whether it could say farewell.
    pub(crate) crashes: bool,
}

/// A place where a worker runs, or does not.
pub(crate) struct Seat {
    pub(crate) worker: Arc<str>,
    /// One for each CRM.
    pub(crate) lines: Vec<CrmLine>,
    /// Whoever does something to the process holds it.
    pub(crate) running: Mutex<Option<Running>>,
}

pub(crate) struct Running {
    pub(crate) process: Process,
    pub(crate) lines: Lines,
    begun: Instant,
    starting: Option<Doing>,
}

impl Running {
    /// Whether the worker says that it is the resolver, if it answers soon.
    async fn resolves(&self) -> bool {
        let Some(admin) = self.lines.admin() else { return false };
        let asked = tokio::time::timeout(seconds(1.0), processes::metric_if_any(admin, "resolver_active")).await;
        asked.ok().flatten() == Some(1.0)
    }
}

pub(crate) fn name_of(kind: Kind) -> Arc<str> {
    kind.name().replace('_', "-").into()
}

impl World {
    /// The input topics and CRMs that behave; no worker yet.
    pub(crate) async fn new(name: String, folder: PathBuf, shape: Shape, brokers: Arc<Brokers>) -> Arc<Self> {
        fs::create_dir_all(&folder).unwrap();
        let recorder = Recorder::new(&folder);
        let sandbox = Sandbox::start(&folder, LATENCY).await;
        let mut ports = brokers.ports_of_lines();
        let mut seats = Vec::new();
        for number in 1..=shape.workers + 1 {
            let worker: Arc<str> = format!("worker-{number}").into();
            let lines = lines(&mut ports, sandbox.address, &worker, &recorder).await;
            seats.push(Seat { worker, lines, running: Mutex::default() });
        }
        let inputs: Vec<TopicSpec> = generator::TOPICS
            .iter()
            .map(|(topic, partitions)| TopicSpec {
                name: Written::input(&name, topic),
                partitions: *partitions,
                cleanup: Cleanup::Delete { after: Duration::from_secs(24 * 60 * 60) },
                message_bytes_max: 1024 * 1024,
            })
            .collect();
        let log = brokers.log("topics");
        brokers::patiently(async || log.ensure_topics(&inputs).await).await;
        let (departures, ended, findings) = Default::default();
        let counted = parking_lot::Mutex::new(Some(Counted::new()));
        Arc::new(Self { name, folder, shape, recorder, brokers, sandbox, seats, departures, ended, counted, findings })
    }

    /// How the broker is told which worker asks.
    pub(crate) fn client_id(&self, seat: &Seat) -> String {
        format!("{}-{}", self.name, seat.worker)
    }

    pub(crate) fn topics(&self) -> TopicNames {
        TopicNames::new(&format!("{}.", self.name))
    }

    pub(crate) fn data(&self, worker: &str) -> PathBuf {
        self.folder.join(worker)
    }

    /// The settings of who has this seat.
    pub(crate) fn written(&self, seat: &Seat) -> Written {
        let crms = crate::kinds().iter().zip(&seat.lines).map(|(kind, line)| WrittenCrm {
            name: name_of(*kind).to_string(),
            kind: *kind,
            address: line.address,
            more: String::new(),
        });
        Written {
            instance: self.name.clone(),
            worker: self.shape.named.then(|| seat.worker.to_string()),
            data: self.data(&seat.worker),
            servers: self.brokers.lines.servers(),
            client_id: self.client_id(seat),
            replicas: REPLICAS,
            partitions: self.shape.partitions,
            request_deadline: REQUEST_DEADLINE,
            in_flight_max: IN_FLIGHT_MAX,
            crms: crms.collect(),
        }
    }

    /// Those of somebody who is no worker, with a folder of its own.
    pub(crate) fn settings_of(&self, observer: &str) -> Settings {
        let written = Written {
            worker: Some(observer.to_owned()),
            data: self.data(observer),
            servers: self.brokers.servers(),
            client_id: observer.to_owned(),
            ..self.written(&self.seats[0])
        };
        written.parsed(&self.folder)
    }

    /// Starts a worker, if none has the seat. Whoever needs it ready waits for that.
    pub(crate) fn start(&self, seat: &Seat, running: &mut Option<Running>) {
        if running.is_some() {
            return;
        }
        let config = self.folder.join(format!("{}.toml", seat.worker));
        fs::write(&config, self.written(seat).text()).unwrap();
        let (lines, file) = Lines::of(self.folder.join(format!("{}.log", seat.worker)));
        let program = program();
        let mut command = if self.shape.named { program } else { on_a_host_of_its_own(&seat.worker, &program) };
        command.arg("run").arg("--config").arg(config);
        let starting = Some(self.recorder.begin(What::Started { worker: Arc::clone(&seat.worker) }));
        let process = Process::start(&seat.worker, &mut command, Stdio::null(), file.into());
        *running = Some(Running { process, lines, begun: Instant::now(), starting });
    }

    /// Waits until the worker says that it is ready, if one has the seat; one that never does is noted, with its reason.
    pub(crate) async fn ready(&self, seat: &Seat) {
        let deadline = Instant::now() + READY_WITHIN;
        while self.tend(seat, &mut *seat.running.lock().await).await.is_none() {
            if Instant::now() >= deadline {
                let why = self.why_not_ready(seat).await.unwrap_or_else(|| "it does not say why".to_owned());
                self.found(format!("{} is not ready after {READY_WITHIN:?}: {why}", seat.worker));
                return;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// The place of the worker that says that it is the resolver.
    pub(crate) async fn resolver(&self) -> Option<usize> {
        for (place, seat) in self.seats.iter().enumerate() {
            if let Some(running) = seat.running.lock().await.as_ref()
                && running.resolves().await
            {
                return Some(place);
            }
        }
        None
    }

    async fn why_not_ready(&self, seat: &Seat) -> Option<String> {
        let admin = seat.running.lock().await.as_ref()?.lines.admin()?;
        Some(exchange(admin, "GET", "/readyz", "", b"").await.ok()?.text())
    }

    /// Starts a worker again that ended by itself, as whoever manages processes would. Returns how old it is if it is ready.
    pub(crate) async fn tend(&self, seat: &Seat, running: &mut Option<Running>) -> Option<Duration> {
        let Some(present) = running.as_mut() else { return Some(Duration::ZERO) };
        if let Some(status) = present.process.child.try_wait().unwrap() {
            self.recorder.say(&format!("{} ended by itself with {status}: {}", seat.worker, present.lines.last(3)));
            self.ends(seat, &present.lines, Ended::Unasked { code: status.code() });
            // For whoever judges it is one who died.
            self.recorder.begin(What::Killed { worker: Arc::clone(&seat.worker) }).end();
            *running = None;
            self.start(seat, running);
            return None;
        }
        if !processes::is_ready(present.lines.admin()?).await {
            return None;
        }
        if let Some(starting) = present.starting.take() {
            starting.end();
        }
        Some(present.begun.elapsed())
    }

    /// Asks a worker to stop, and waits for its end.
    pub(crate) async fn stop(&self, seat: &Seat, running: &mut Option<Running>) {
        let Some(mut stopped) = running.take() else { return };
        let resolves = stopped.resolves().await;
        let doing = self.recorder.begin(What::Stopped { worker: Arc::clone(&seat.worker) });
        self.departs(seat, resolves, false);
        let question = async { LastQuestion::begin(stopped.lines.admin()?).await.ok() }.await;
        let last = async {
            match question {
                Some(question) => question.end().await,
                None => None,
            }
        };
        let (status, last) = tokio::join!(stopped.process.terminate(), last);
        doing.end();
        self.counts(last);
        self.ends(seat, &stopped.lines, Ended::Asked { code: status.code() });
        if !status.success() {
            self.recorder.say(&format!("{} ended with {status}", seat.worker));
        }
    }

    /// Ends a worker as a crash would.
    pub(crate) async fn kill(&self, seat: &Seat, running: &mut Option<Running>) {
        let Some(killed) = running.take() else { return };
        let resolves = killed.resolves().await;
        self.recorder.begin(What::Killed { worker: Arc::clone(&seat.worker) }).end();
        self.departs(seat, resolves, true);
        killed.process.kill();
        self.ends(seat, &killed.lines, Ended::Killed);
    }

    fn counts(&self, last: Option<Counted>) {
        let mut counted = self.counted.lock();
        *counted = counted.take().zip(last).map(|(mut all, last)| {
            for (kind, number) in last {
                *all.entry(kind).or_default() += number;
            }
            all
        });
    }

    fn ends(&self, seat: &Seat, lines: &Lines, ended: Ended) {
        let process = judge::Process { worker: Arc::clone(&seat.worker), ended, lines: lines.all() };
        self.ended.lock().push(process);
    }

    fn departs(&self, seat: &Seat, resolves: bool, crashes: bool) {
        let departure = Departure { at: Clock::System.now(), worker: Arc::clone(&seat.worker), resolves, crashes };
        self.departures.lock().push(departure);
    }

    /// Notes what must not happen.
    pub(crate) fn found(&self, fault: String) {
        self.recorder.say(&fault);
        self.findings.lock().push(fault);
    }

    /// The line of all workers to one CRM, by its place among them.
    pub(crate) fn set_lines_to(&self, crm: usize, condition: Condition) {
        for seat in &self.seats {
            seat.lines[crm].set(condition);
        }
    }

    /// Replaces what goes wrong in a CRM.
    pub(crate) async fn misbehave(&self, kind: Kind, plan: &Value) {
        self.sandbox.misbehave(kind.name(), plan).await;
    }
}

/// One to each CRM, on the first port that is free on an address for each: all of 127/8 is this machine.
async fn lines(
    ports: &mut std::ops::Range<u16>,
    upstream: SocketAddr,
    worker: &Arc<str>,
    recorder: &Recorder,
) -> Vec<CrmLine> {
    for port in ports {
        let addresses = (1..).zip(crate::kinds()).map(|(last, _)| (Ipv4Addr::new(127, 0, 0, last), port).into());
        let lines = addresses.map(|address| CrmLine::start(address, upstream, Arc::clone(worker), recorder.clone()));
        if let Ok(lines) = try_join_all(lines).await {
            return lines;
        }
    }
    panic!("there are not enough free ports for the lines of {worker}; give others with --port");
}

/// The same program where the host has this name: the only name that a worker has to whom the operator gave none.
fn on_a_host_of_its_own(host: &str, program: &Command) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--uts", "sh", "-c", r#"hostname "$0" && exec "$@""#, host]).arg(program.get_program());
    for (name, value) in program.get_envs() {
        command.env(name, value.expect("nothing is taken from the environment"));
    }
    command
}

/// Whether workers can have hosts of their own here.
pub(crate) fn hosts_can_be_named() -> bool {
    let tried = Command::new("unshare").args(["--uts", "true"]).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

/// A folder that is looked at after a failed run.
pub(crate) fn folder_of_runs() -> &'static Path {
    Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/torture"))
}
