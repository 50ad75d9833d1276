//! A world in one process: a log, CRMs, and several workers that may die at any step.
//!
//! Workers are the real ones, wired as `run` wires them; only the log is in memory, requests do not cross a socket, and
//! the clock is paused, so that minutes pass in moments. A worker that is killed loses all that its process had: its
//! tasks are dropped where they stand. What it sent goes on its way.

use std::{
    fmt,
    net::Ipv4Addr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use contact_replicator::{
    admin::Readiness,
    audit::Operator,
    clock::Clock,
    config::{CrmKind, CrmSettings, InputTopicSettings, Settings},
    crm::{Answer, Request, Response, TransportError, transport::Transport},
    event::audit::Authentication,
    explain::Desk,
    log::{
        Cleanup, Log, NewRecord, TopicPartition, TopicSpec,
        local::{self, LocalLog, MemberId, Point, Verdict},
        partition_of,
    },
    metrics::{self, Metrics, Registry},
    privacy::Secret,
    protection::Protections,
    sandbox::{self, FaultPlan, Sandbox, SandboxSettings, in_process::InProcess},
    telemetry::traces::{self, Teller, Traces},
    worker,
};
use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle};

/// Partitions of the input topic and of the topics keyed by contact.
pub(crate) const PARTITIONS: u32 = 4;
pub(crate) const INPUT: &str = "contact-changes";
/// The first CRM of a world, and the only one unless the test asks for more.
pub(crate) const CRM: &str = "priava";
pub(crate) const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
/// Room between a dead worker's fault and its end; nothing else of it happens meanwhile.
const DYING: Duration = Duration::from_millis(50);

/// A CRM of a world.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tenant {
    pub(crate) name: &'static str,
    pub(crate) kind: CrmKind,
}

pub(crate) const ONE: &[Tenant] = &[Tenant { name: CRM, kind: CrmKind::Priava }];
/// One in which each create makes another contact.
pub(crate) const CREATING: &[Tenant] = &[Tenant { name: "previsto", kind: CrmKind::Previsto }];
/// One of each kind, and two of the kind that all know: their books must never mix.
pub(crate) const ALL: &[Tenant] = &[
    Tenant { name: CRM, kind: CrmKind::Priava },
    Tenant { name: "venues", kind: CrmKind::Priava },
    Tenant { name: "previsto", kind: CrmKind::Previsto },
    Tenant { name: "sam", kind: CrmKind::NextinteractSam },
    Tenant { name: "crm-com", kind: CrmKind::CrmCom },
    Tenant { name: "logisense", kind: CrmKind::Logisense },
];

/// What a world is made of.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) workers: usize,
    pub(crate) crms: &'static [Tenant],
    /// Deadlines of the log.
    pub(crate) log: local::Settings,
    /// What every worker holds to.
    pub(crate) protections: Protections,
    /// How long a search does not find what was just created; workers are told so.
    pub(crate) search_lag: Duration,
    /// How each simulated SAM behaves.
    pub(crate) sam: sandbox::NextinteractSamSettings,
    /// How each simulated Priava behaves.
    pub(crate) priava: sandbox::PriavaSettings,
    /// How each simulated CRM.COM behaves, but for the lag of its search.
    pub(crate) crm_com: sandbox::CrmComSettings,
    /// How each simulated LogiSense behaves, but for the lag of its search.
    pub(crate) logisense: sandbox::LogisenseSettings,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 1,
            workers: 1,
            crms: ONE,
            log: local::Settings::default(),
            protections: Protections::default(),
            search_lag: Duration::ZERO,
            sam: sandbox::NextinteractSamSettings::default(),
            priava: sandbox::PriavaSettings::default(),
            crm_com: sandbox::CrmComSettings::default(),
            logisense: sandbox::LogisenseSettings::default(),
        }
    }
}

/// A CRM that the workers of a world talk to.
pub(crate) struct Simulated {
    pub(crate) name: &'static str,
    pub(crate) sandbox: Sandbox,
}

/// How often what goes wrong, of a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rates {
    /// A worker dies at a step of a transaction.
    pub(crate) die_committing: u32,
    /// A worker dies before or after the effect of a request.
    pub(crate) die_sending: u32,
    /// A transaction fails, or is answered "unknown".
    pub(crate) commit: u32,
}

/// A moment in which something can be broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment<'a> {
    /// A transaction of this writer is at this point.
    Transaction { writer: &'a str, point: Point },
    /// A request to this CRM is about to leave.
    Leaving { crm: &'a str },
    /// It had its effect, and its answer is about to arrive.
    Answered { crm: &'a str },
}

/// What is done to a [`Moment`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    /// The worker dies.
    Die,
    /// Of transactions.
    Verdict(Verdict),
    /// Of requests: nobody hears the answer, and the caller knows at once. What is leaving goes on its way.
    Lose,
    /// Of requests: this status instead, of one that is leaving without having had its effect.
    Status(u16),
}

/// Decides what is broken, instead of chance.
pub(crate) type Script = Arc<dyn Fn(Moment<'_>) -> Option<Break> + Send + Sync>;

/// Decides by seed or by script what goes wrong; shared by all that can.
pub(crate) struct Fate {
    random: Mutex<StdRng>,
    rates: Mutex<Rates>,
    script: Mutex<Option<Script>>,
    deaths: mpsc::Sender<Death>,
    /// The `traceparent` of each request that left, by CRM.
    pub(crate) traceparents: Mutex<Vec<(&'static str, Option<String>)>>,
    /// The next request panics, with its body for a message.
    pub(crate) panics: AtomicBool,
}

/// Who is to die.
#[derive(Debug, Clone)]
pub(crate) enum Death {
    Worker(usize),
    /// Whoever commits under this transactional id.
    Writer(String),
}

impl Fate {
    pub(crate) fn set(&self, rates: Rates) {
        *self.rates.lock() = rates;
    }

    fn strikes(&self, of_thousand: u32) -> bool {
        of_thousand > 0 && self.random.lock().random_range(0..1_000) < of_thousand
    }

    /// From now on `script` is asked first.
    pub(crate) fn follow(&self, script: impl Fn(Moment<'_>) -> Option<Break> + Send + Sync + 'static) {
        *self.script.lock() = Some(Arc::new(script));
    }

    /// Nothing more is broken on purpose.
    pub(crate) fn follow_nothing(&self) {
        *self.script.lock() = None;
    }

    fn scripted(&self, moment: Moment<'_>) -> Option<Break> {
        let script = self.script.lock().clone();
        script.and_then(|script| script(moment))
    }

    fn judge(&self, point: Point, writer: &str) -> Verdict {
        match self.scripted(Moment::Transaction { writer, point }) {
            Some(Break::Die) => {
                self.deaths.try_send(Death::Writer(writer.to_owned())).expect("there is room for one more death");
                return Verdict::Hang(DYING);
            }
            Some(Break::Verdict(verdict)) => return verdict,
            Some(broken) => panic!("a transaction cannot be broken by {broken:?}"),
            None => {}
        }
        let rates = *self.rates.lock();
        if self.strikes(rates.die_committing) && self.deaths.try_send(Death::Writer(writer.to_owned())).is_ok() {
            return Verdict::Hang(DYING);
        }
        if self.strikes(rates.commit) {
            return match self.random.lock().random_range(0..6) {
                0 => Verdict::FailAborted,
                1 => Verdict::Refused,
                2 => Verdict::UnknownButCommitted,
                3 => Verdict::UnknownAndAborted,
                4 => Verdict::LateMarkers(Duration::from_millis(300)),
                _ => Verdict::Hang(Duration::from_millis(700)),
            };
        }
        Verdict::Proceed
    }
}

/// The way from one worker to a CRM, on which the worker may die.
struct MortalTransport {
    inner: InProcess,
    crm: &'static str,
    fate: Arc<Fate>,
    worker: usize,
    /// The process is gone: whatever still runs of it does nothing more.
    dead: Arc<AtomicBool>,
}

impl fmt::Debug for MortalTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the way of worker {} to {}", self.worker, self.crm)
    }
}

/// The answer that nobody heard.
fn unheard() -> Answer {
    Err(TransportError::Unanswered { reason: "a test lost it".to_owned() })
}

impl MortalTransport {
    async fn die(&self) -> ! {
        self.dead.store(true, Ordering::Relaxed);
        self.fate.deaths.try_send(Death::Worker(self.worker)).expect("there is room for one more death");
        std::future::pending().await
    }

    async fn broken_exchange(&self, request: Request) -> Answer {
        let answer_of = |status: u16| {
            let status = http::StatusCode::from_u16(status).expect("a script has possible statuses");
            Ok(Response { status, headers: http::HeaderMap::new(), body: Bytes::new() })
        };
        match self.fate.scripted(Moment::Leaving { crm: self.crm }) {
            None => {}
            Some(Break::Die) => self.die().await,
            Some(Break::Status(status)) => return answer_of(status),
            Some(Break::Lose) => {
                // What is on its way needs nobody who waits.
                let exchange = self.inner.clone();
                drop(tokio::spawn(async move { exchange.exchange(request).await }));
                return unheard();
            }
            Some(broken @ Break::Verdict(_)) => panic!("a request cannot be broken by {broken:?}"),
        }
        let answer = self.inner.exchange(request).await;
        match self.fate.scripted(Moment::Answered { crm: self.crm }) {
            None => answer,
            Some(Break::Die) => self.die().await,
            Some(Break::Status(status)) => answer_of(status),
            Some(Break::Lose) => unheard(),
            Some(broken @ Break::Verdict(_)) => panic!("a request cannot be broken by {broken:?}"),
        }
    }

    async fn may_die(&self) {
        let rate = self.fate.rates.lock().die_sending;
        if self.fate.strikes(rate) && self.fate.deaths.try_send(Death::Worker(self.worker)).is_ok() {
            self.dead.store(true, Ordering::Relaxed);
        }
        if self.dead.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Transport for MortalTransport {
    async fn exchange(&self, request: Request) -> Answer {
        if self.fate.panics.swap(false, Ordering::Relaxed) {
            panic!("{}", String::from_utf8_lossy(&request.body));
        }
        self.may_die().await;
        let traceparent = request.headers.iter().find(|(name, _)| name == "traceparent");
        let traceparent = traceparent.map(|(_, value)| value.to_str().expect("a text").to_owned());
        self.fate.traceparents.lock().push((self.crm, traceparent));
        let answer = self.broken_exchange(request).await;
        self.may_die().await;
        answer
    }
}

struct Slot {
    folder: TempDir,
    running: Option<Running>,
    /// Metrics of the last run.
    registry: Registry,
    /// Where the last run answers questions.
    desk: Desk,
}

struct Running {
    task: JoinHandle<Result<worker::Stopped, worker::WorkerError>>,
    stop: tokio::sync::oneshot::Sender<()>,
    readiness: Readiness,
    dead: Arc<AtomicBool>,
}

pub(crate) struct World {
    pub(crate) log: LocalLog,
    pub(crate) crms: Vec<Simulated>,
    /// That of the first CRM.
    pub(crate) sandbox: Sandbox,
    pub(crate) settings: Settings,
    pub(crate) fate: Arc<Fate>,
    pub(crate) clock: Clock,
    /// When the sandboxes began to count.
    pub(crate) born: Timestamp,
    /// Members that are cut off from their group.
    pub(crate) silenced: Vec<(String, MemberId)>,
    protections: Protections,
    deaths: mpsc::Receiver<Death>,
    slots: Vec<Slot>,
    /// Holds the credential as long as the world stands.
    tokens: TempDir,
    /// When a worker was started, in order.
    pub(crate) started: Vec<Timestamp>,
    seed: u64,
}

impl World {
    pub(crate) async fn new(seed: u64, workers: usize) -> Self {
        Self::of(Setup { seed, workers, ..Setup::default() }).await
    }

    pub(crate) async fn of(setup: Setup) -> Self {
        let Setup { seed, workers, crms, protections, search_lag, .. } = setup;
        let clock = Clock::simulated("2026-01-01T00:00:00Z".parse().expect("a timestamp"));
        let log = LocalLog::new(setup.log, clock);
        let tokens = tempfile::tempdir().expect("a temporary folder");
        let (sender, deaths) = mpsc::channel(64);
        let fate = Arc::new(Fate {
            random: Mutex::new(StdRng::seed_from_u64(seed ^ 0xfa7e)),
            rates: Mutex::default(),
            script: Mutex::default(),
            deaths: sender,
            traceparents: Mutex::default(),
            panics: AtomicBool::new(false),
        });
        let judge = fate.clone();
        log.set_faults(Some(Arc::new(move |point, writer: &str| judge.judge(point, writer))));
        let input = TopicSpec {
            name: INPUT.into(),
            partitions: PARTITIONS,
            cleanup: Cleanup::Delete { after: Duration::from_secs(1_000_000) },
            message_bytes_max: 4 << 20,
        };
        log.ensure_topics(&[input]).await.expect("the log takes a topic");
        let slots = (0..workers)
            .map(|_| Slot {
                folder: tempfile::tempdir().expect("a temporary folder"),
                running: None,
                registry: Registry::new(),
                desk: Desk::default(),
            })
            .collect();
        let mut settings = settings(tokens.path(), crms);
        settings.crm.iter_mut().for_each(|crm| crm.delivery.search_lag = search_lag);
        let sandbox_of = |(number, tenant): (u64, &Tenant)| sandbox(*tenant, seed ^ number << 32, &setup, clock);
        let simulated = (0..).zip(crms).map(|of| Simulated { name: of.1.name, sandbox: sandbox_of(of) });
        let crms: Vec<Simulated> = simulated.collect();
        Self {
            log,
            sandbox: crms[0].sandbox.clone(),
            crms,
            protections,
            born: clock.now(),
            settings,
            fate,
            clock,
            silenced: Vec::new(),
            deaths,
            slots,
            tokens,
            started: Vec::new(),
            seed,
        }
    }

    pub(crate) fn workers(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_running(&self, worker: usize) -> bool {
        self.slots[worker].running.is_some()
    }

    pub(crate) fn start(&mut self, worker: usize) {
        self.started.push(self.clock.now());
        let slot = &mut self.slots[worker];
        assert!(slot.running.is_none(), "worker {worker} runs already");
        let mut settings = self.settings.clone();
        settings.worker.id = format!("w{worker}").into();
        settings.worker.data = slot.folder.path().to_owned();
        let dead = Arc::new(AtomicBool::new(false));
        let transport_to = |crm: &Simulated| -> Arc<dyn Transport> {
            Arc::new(MortalTransport {
                inner: InProcess::new(crm.sandbox.clone(), REQUEST_DEADLINE, 1 << 20),
                crm: crm.name,
                fate: self.fate.clone(),
                worker,
                dead: dead.clone(),
            })
        };
        let readiness = Readiness::default();
        slot.registry = Registry::new();
        slot.desk = Desk::default();
        let desk = slot.desk.clone();
        let names: Vec<Arc<str>> = self.crms.iter().map(|crm| crm.name.into()).collect();
        let metrics = Metrics::new(&slot.registry, &names).expect("a new registry takes each metric once");
        let exported = &settings.telemetry.traces;
        let traces = if exported.is_on() {
            let teller = Teller { instance: &settings.instance, worker: &settings.worker.id };
            let collector = traces::collector(exported).expect("the collector has an address");
            Traces::start(exported, collector, &teller, self.clock, &metrics)
        } else {
            Traces::default()
        };
        let parts = worker::Parts {
            settings: Arc::new(settings),
            log: Arc::new(self.log.clone()),
            transports: self.crms.iter().map(|crm| (crm.name.into(), transport_to(crm))).collect(),
            clock: self.clock,
            metrics,
            traces,
            readiness: readiness.clone(),
            seed: self.seed ^ self.started.len() as u64,
            protections: self.protections,
            desk,
        };
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            worker::run(parts, async {
                if stopped.await.is_err() {
                    std::future::pending::<()>().await;
                }
            })
            .await
        });
        slot.running = Some(Running { task, stop, readiness, dead });
    }

    /// Ends a worker where it stands.
    pub(crate) async fn kill(&mut self, worker: usize) {
        if let Some(running) = self.slots[worker].running.take() {
            running.dead.store(true, Ordering::Relaxed);
            running.task.abort();
            match running.task.await {
                Err(error) if error.is_cancelled() => {}
                Err(error) => std::panic::resume_unwind(error.into_panic()),
                Ok(ended) => drop(ended.expect("a worker that ends by itself has drained")),
            }
            self.unlocked(worker).await;
        }
    }

    /// Asks a worker to stop, and waits until it has. Returns whether it left nothing undone.
    pub(crate) async fn stop(&mut self, worker: usize) -> bool {
        self.undone(worker).await.is_empty()
    }

    /// Asks a worker to stop, and waits until it has. Returns the parts that left something undone.
    pub(crate) async fn undone(&mut self, worker: usize) -> Vec<Arc<str>> {
        let undone = self.ask_to_stop(worker).await;
        self.unlocked(worker).await;
        undone
    }

    /// Asks a worker to stop. What is returned waits until it has, and tells the parts that left something undone.
    pub(crate) fn ask_to_stop(&mut self, worker: usize) -> BoxFuture<'static, Vec<Arc<str>>> {
        let running = self.slots[worker].running.take();
        async move {
            let Some(running) = running else { return Vec::new() };
            running.stop.send(()).expect("a running worker listens");
            let stopped = running.task.await.expect("a worker does not panic");
            stopped.expect("a worker stops without an error").undone
        }
        .boxed()
    }

    /// Waits for a worker that cannot go on, and returns why.
    pub(crate) async fn failed(&mut self, worker: usize) -> worker::WorkerError {
        let running = self.slots[worker].running.take().expect("the worker was started");
        let ended = running.task.await.expect("a worker does not panic");
        self.unlocked(worker).await;
        ended.expect_err("nobody asked it to stop")
    }

    /// What the worker counted in its last run, as its `/metrics` shows it.
    pub(crate) fn metrics(&self, worker: usize) -> String {
        metrics::render(&self.slots[worker].registry).expect("metrics can be shown")
    }

    /// What a worker's admin address would show.
    pub(crate) fn shown(&self, worker: usize) -> (Registry, Readiness, Desk) {
        let slot = &self.slots[worker];
        let readiness = slot.running.as_ref().map(|running| running.readiness.clone());
        (slot.registry.clone(), readiness.unwrap_or_default(), slot.desk.clone())
    }

    /// Where a worker is asked about contacts.
    pub(crate) fn desk(&self, worker: usize) -> &Desk {
        &self.slots[worker].desk
    }

    /// One series of [`World::metrics`], without the prefix.
    pub(crate) fn metric(&self, worker: usize, series: &str) -> f64 {
        let text = self.metrics(worker);
        let value = text.lines().find_map(|line| line.strip_prefix(&format!("contact_replicator_{series} ")));
        value.unwrap_or_else(|| panic!("there is no series {series}")).parse().expect("a number")
    }

    /// Parts of a running worker that are not ready, and why.
    pub(crate) fn missing(&self, worker: usize) -> Vec<(String, String)> {
        let running = self.slots[worker].running.as_ref().expect("the worker runs");
        running.readiness.missing().into_iter().map(|(part, reason)| (part.to_string(), reason.to_string())).collect()
    }

    /// The tasks of an ended worker let go of its folder when the runtime drops them, and what ran on other threads when
    /// it ends: that takes real time, for which the clock is held.
    async fn unlocked(&self, worker: usize) {
        let lock = self.slots[worker].folder.path().join("lock");
        for _ in 0..2_000 {
            let lock = lock.clone();
            let free = tokio::task::spawn_blocking(move || {
                let free = std::fs::File::open(&lock).map_or(true, |file| file.try_lock().is_ok());
                if !free {
                    #[expect(clippy::disallowed_methods, reason = "other threads are not moved by a paused clock")]
                    std::thread::sleep(Duration::from_millis(5));
                }
                free
            });
            if free.await.expect("looking at a lock does not panic") {
                return;
            }
        }
        panic!("the folder of worker {worker} stays locked");
    }

    pub(crate) fn data(&self, worker: usize) -> &Path {
        self.slots[worker].folder.path()
    }

    /// What the workers and the groups say of themselves, for whoever has to understand a failed run.
    pub(crate) fn state(&self) -> String {
        let mut lines = Vec::new();
        for (worker, slot) in self.slots.iter().enumerate() {
            let missing =
                slot.running.as_ref().map(|running| (running.task.is_finished(), running.readiness.missing()));
            lines.push(format!("worker {worker}: {missing:?}"));
        }
        for group in self.groups() {
            lines.push(format!("group {group}: {:?}", self.log.members(&group)));
        }
        lines.join("\n")
    }

    /// The groups of the workers: one for each CRM, and the resolver's.
    pub(crate) fn groups(&self) -> Vec<String> {
        let of_crms = self.crms.iter().map(|crm| group_of(crm.name));
        of_crms.chain([RESOLVER_GROUP.to_owned()]).collect()
    }

    /// Workers that ended although nobody asked them to, and nothing killed them.
    pub(crate) fn ended_unasked(&self) -> Vec<usize> {
        let ended = |slot: &Slot| slot.running.as_ref().is_some_and(|running| running.task.is_finished());
        (0..self.workers()).filter(|worker| ended(&self.slots[*worker])).collect()
    }

    /// Who writes under the resolver's id, which is the same everywhere: the active one; before anybody is, whoever runs.
    fn deciding_worker(&self) -> Option<usize> {
        let mut running = (0..self.workers()).filter(|worker| self.is_running(*worker));
        let first = running.clone().next();
        // A worker that has just started counts nothing yet.
        running.find(|worker| self.metrics(*worker).contains("_resolver_active 1")).or(first)
    }

    /// Carries out the deaths that fate has decided, and returns how many.
    pub(crate) async fn bury(&mut self) -> usize {
        let mut died = 0;
        while let Ok(death) = self.deaths.try_recv() {
            let worker = match death {
                Death::Worker(worker) => Some(worker),
                Death::Writer(id) => (0..self.workers())
                    .find(|worker| id.ends_with(&format!("-w{worker}")))
                    .or_else(|| self.deciding_worker()),
            };
            if let Some(worker) = worker
                && self.is_running(worker)
            {
                self.kill(worker).await;
                died += 1;
            }
        }
        died
    }

    /// Appends change events as another service's producer would.
    pub(crate) async fn publish(&self, changes: Vec<NewRecord>) {
        self.log.append(changes).await.expect("the log in memory is there");
    }

    /// From now on the workers find this credential where theirs is read from.
    pub(crate) fn replace_token(&self, token: &str) {
        std::fs::write(self.tokens.path().join("token"), token).expect("a file is written");
    }

    /// From now on there is nothing where the workers' credential is read from.
    pub(crate) fn take_token_away(&self) {
        std::fs::remove_file(self.tokens.path().join("token")).expect("a file is removed");
    }

    /// What every CRM does to its callers from now on.
    pub(crate) fn set_faults(&self, plan: FaultPlan) {
        for crm in &self.crms {
            crm.sandbox.set_faults(plan.clone()).expect("a possible plan");
        }
    }
}

/// The place of an input record.
pub(crate) fn input_of(key: &[u8]) -> TopicPartition {
    TopicPartition::new(INPUT, partition_of(key, PARTITIONS))
}

pub(crate) const RESOLVER_GROUP: &str = "sim-resolver";

/// The group of a CRM's replicators.
pub(crate) fn group_of(crm: &str) -> String {
    format!("sim-{crm}")
}

/// The other side of a CRM.
fn sandbox(tenant: Tenant, seed: u64, setup: &Setup, clock: Clock) -> Sandbox {
    let search_lag = setup.search_lag;
    let kind = match tenant.kind {
        CrmKind::Priava => sandbox::Kind::Priava,
        CrmKind::Previsto => sandbox::Kind::Previsto,
        CrmKind::CrmCom => sandbox::Kind::CrmCom,
        CrmKind::Logisense => sandbox::Kind::Logisense,
        CrmKind::NextinteractSam => sandbox::Kind::NextinteractSam,
    };
    let settings = SandboxSettings {
        kind,
        seed,
        log_bodies: true,
        log_max: 10_000_000,
        latency: Duration::from_millis(5),
        previsto: sandbox::PrevistoSettings { search_lag, ..sandbox::PrevistoSettings::default() },
        priava: setup.priava.clone(),
        crm_com: sandbox::CrmComSettings { search_lag, ..setup.crm_com.clone() },
        logisense: sandbox::LogisenseSettings { search_lag, ..setup.logisense.clone() },
        nextinteract_sam: setup.sam.clone(),
        ..SandboxSettings::default()
    };
    Sandbox::with_clock(settings, clock).expect("a plan without faults")
}

fn settings(tokens: &Path, crms: &[Tenant]) -> Settings {
    let token = tokens.join("token");
    std::fs::write(&token, "sandbox-token").expect("a file is written");
    let mut settings = Settings::reference();
    settings.instance = "sim".into();
    settings.topics.partitions = PARTITIONS;
    settings.worker.shutdown_deadline = Duration::from_secs(20);
    settings.log.kafka.drain_deadline = Duration::from_secs(3);
    settings.input.topics = vec![InputTopicSettings { name: INPUT.into(), tombstone_source: Some("/shop".into()) }];
    settings.source.clear();
    settings.identity.secret = Some(Secret::new("the secret of the simulated installation"));
    settings.view.cache_bytes = 8 << 20;
    let shown = std::mem::take(&mut settings.crm);
    let of_kind = |tenant: &Tenant| {
        let shown = shown.iter().find(|crm| crm.kind == tenant.kind).expect("the reference shows each kind").clone();
        crm_settings(CrmSettings { name: tenant.name.into(), ..shown }, &token)
    };
    settings.crm = crms.iter().map(of_kind).collect();
    settings
}

/// Short waits and low bounds, so that a run of two minutes meets them.
fn crm_settings(mut crm: CrmSettings, token: &Path) -> CrmSettings {
    let delivery = &mut crm.delivery;
    delivery.in_flight_max = 8;
    delivery.requests_per_second = 0.0;
    delivery.verify_contacts_per_second = 0.0;
    delivery.request_deadline = REQUEST_DEADLINE;
    delivery.connect_timeout = Duration::from_secs(1);
    delivery.retry_delay = Duration::from_millis(200);
    delivery.retry_delay_max = Duration::from_secs(2);
    delivery.tries_before_parking = 3;
    delivery.parked_delay = Duration::from_secs(4);
    delivery.parked_delay_max = Duration::from_secs(20);
    delivery.unanswered_max = 50;
    delivery.failures_before_pause = 6;
    delivery.probe_delay = Duration::from_millis(500);
    delivery.probe_delay_max = Duration::from_secs(4);
    if let Some(priava) = &mut crm.priava {
        priava.token_env = None;
        priava.token_file = Some(token.to_owned());
    }
    if let Some(previsto) = &mut crm.previsto {
        previsto.api_key_env = None;
        previsto.api_key_file = Some(token.to_owned());
    }
    if let Some(crm_com) = &mut crm.crm_com {
        crm_com.secret_env = None;
        crm_com.secret_file = Some(token.to_owned());
    }
    if let Some(logisense) = &mut crm.logisense {
        logisense.secret_env = None;
        logisense.secret_file = Some(token.to_owned());
    }
    if let Some(sam) = &mut crm.nextinteract_sam {
        // Some calls with a few contacts each, where the reference has some with a hundred.
        delivery.in_flight_max = 16;
        delivery.failures_before_pause = 24;
        sam.batch_rows_max = 4;
        (sam.email_env, sam.email_file) = (None, Some(token.to_owned()));
        (sam.password_env, sam.password_file) = (None, Some(token.to_owned()));
    }
    crm
}

/// Who asks workers for something in tests.
pub(crate) fn operator() -> Operator {
    Operator::new(Some("ann"), Some("a test"), Authentication::Loopback, Ipv4Addr::LOCALHOST.into())
        .expect("plain text")
}
