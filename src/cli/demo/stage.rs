//! The stage of a run: the log, the simulated CRMs on their port, the settings that name both, and the worker.
//!
//! The demo talks to the worker through the log alone, as any source and any reader would.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinSet, time::Instant};

use super::{
    checks,
    evidence::{self, CrmEvidence, Evidence, Reader},
    generator::{self, Generated},
    progress::{Progress, Seen},
    run::{DemoError, Options, faults, settings},
};
use crate::{
    admin::Readiness,
    cli::open_log,
    clock::Clock,
    config::{CrmKind, CrmSettings, LogKind, Settings, TopicNames},
    crm::transport::{Http, Transport},
    explain::Desk,
    log::{
        Cleanup, Log, LogError, NewRecord, TopicSpec,
        local::{self, LocalLog, Presence},
        partition_of,
    },
    metrics::{Metrics, Registry},
    protection::Protections,
    sandbox::{self, BadPlan, FaultPlan, Reset, Sandbox, SandboxSettings, server::Server},
    telemetry::traces::Traces,
    worker::{self, WorkerError},
};

const TOKEN: &str = "sandbox-token";

/// How often it is looked whether all has settled.
const LOOK: Duration = Duration::from_millis(100);
/// Records that are sent at once, and the pause after them: a few hundred a second, as fast as the worker follows.
const BATCH: usize = 20;
const BATCH_PAUSE: Duration = Duration::from_millis(40);
/// How long all may take to settle once everything was sent.
const SETTLING_MAX: Duration = Duration::from_secs(60);
/// Everything but the worker.
pub(super) struct Stage {
    pub(super) settings: Arc<Settings>,
    pub(super) log: Arc<dyn Log>,
    /// Of each CRM, in the order of the settings.
    sandboxes: Vec<Sandbox>,
    pub(super) server: Server,
    pub(super) registry: Registry,
    pub(super) readiness: Readiness,
    pub(super) desk: Desk,
    faults: FaultPlan,
    seed: u64,
    /// Holds the token, and what is not to be kept; goes when dropped.
    folder: TempDir,
}

impl Stage {
    /// With a folder in which to keep it, the log is on disk there, and the worker takes events over HTTP.
    pub(super) async fn set(options: Options, keep: Option<&Path>, clock: Clock) -> Result<Self, DemoError> {
        let folder = tempfile::tempdir().map_err(DemoError::io("making a temporary folder"))?;
        let mut settings = settings().map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            DemoError::Settings(faults.join("; "))
        })?;
        let hosted = (0..)
            .zip(&settings.crm)
            .map(|(number, crm)| Ok((crm.name.to_string(), simulated(crm, options.scale.seed ^ number << 32)?)));
        let hosted: Vec<(String, Sandbox)> = hosted.collect::<Result<_, BadPlan>>()?;
        let sandboxes: Vec<Sandbox> = hosted.iter().map(|(_, sandbox)| sandbox.clone()).collect();
        let server = Server::host((Ipv4Addr::LOCALHOST, 0).into(), hosted).await;
        let server = server.map_err(DemoError::io("listening for the sandboxes"))?;

        let token_file = folder.path().join("token");
        std::fs::write(&token_file, TOKEN).map_err(DemoError::io("writing the sandboxes' token"))?;
        settings.worker.data = folder.path().join("data");
        for (crm, sandbox) in settings.crm.iter_mut().zip(&sandboxes) {
            crm.base_url = server.base_url(sandbox);
            if let Some(priava) = &mut crm.priava {
                (priava.token_env, priava.token_file) = (None, Some(token_file.clone()));
            }
            if let Some(previsto) = &mut crm.previsto {
                (previsto.api_key_env, previsto.api_key_file) = (None, Some(token_file.clone()));
            }
            if let Some(crm_com) = &mut crm.crm_com {
                (crm_com.secret_env, crm_com.secret_file) = (None, Some(token_file.clone()));
            }
            if let Some(logisense) = &mut crm.logisense {
                (logisense.secret_env, logisense.secret_file) = (None, Some(token_file.clone()));
            }
            if let Some(sam) = &mut crm.nextinteract_sam {
                // A simulated SAM takes its token for a password, of whomever.
                (sam.email_env, sam.email_file) = (None, Some(token_file.clone()));
                (sam.password_env, sam.password_file) = (None, Some(token_file.clone()));
            }
        }

        let log: Arc<dyn Log> = match keep {
            Some(data) => {
                settings.log.kind = LogKind::Local;
                settings.worker.data = data.to_owned();
                settings.ingest.listen = free_address().map_err(DemoError::io("looking for a free port"))?.to_string();
                std::fs::create_dir_all(data).map_err(DemoError::io("making the folder of the data"))?;
                if local::presence(&settings.log_folder()) != Presence::Missing {
                    return Err(DemoError::Used { folder: data.to_owned() });
                }
                open_log(&settings).await?
            }
            None => Arc::new(LocalLog::new(local::Settings::default(), clock)),
        };
        let mut inputs = worker::input_specs(&settings);
        if inputs.is_empty() {
            inputs.extend(generator::TOPICS.map(|(topic, partitions)| TopicSpec {
                name: topic.into(),
                partitions,
                cleanup: Cleanup::Delete { after: settings.topics.versions_retention },
                message_bytes_max: settings.topics.message_bytes_max,
            }));
        }
        log.ensure_topics(&inputs).await?;
        let faults = if options.faults { faults() } else { FaultPlan::default() };
        let settings = Arc::new(settings);
        let (registry, readiness) = (Registry::new(), Readiness::default());
        let (desk, seed) = (Desk::default(), options.scale.seed);
        Ok(Self { settings, log, sandboxes, server, registry, readiness, desk, faults, seed, folder })
    }

    pub(super) fn start_worker(&self, clock: Clock) -> Result<Worker, DemoError> {
        let mut transports: BTreeMap<Arc<str>, Arc<dyn Transport>> = BTreeMap::new();
        for crm in &self.settings.crm {
            transports.insert(crm.name.clone(), Arc::new(Http::new(&crm.base_url, &crm.delivery)?));
        }
        let crms: Vec<Arc<str>> = self.settings.crm.iter().map(|crm| crm.name.clone()).collect();
        let parts = worker::Parts {
            settings: self.settings.clone(),
            log: self.log.clone(),
            transports,
            clock,
            metrics: Metrics::new(&self.registry, &crms)?,
            traces: Traces::default(),
            readiness: self.readiness.clone(),
            seed: self.seed,
            protections: Protections::default(),
            desk: self.desk.clone(),
        };
        let (stop, asked) = oneshot::channel::<()>();
        let mut running = JoinSet::new();
        running.spawn(worker::run(parts, async {
            // Dropping the other end is the question.
            asked.await.unwrap_or(());
        }));
        Ok(Worker { running, stop })
    }

    /// A reader of all topics, once the worker has made its own.
    pub(super) async fn reader(
        &self,
        inputs: &[Arc<str>],
        names: &TopicNames,
        crms: &[Arc<str>],
        worker: &mut Worker,
    ) -> Result<Reader, DemoError> {
        loop {
            worker.check()?;
            let opened = async {
                let mut reader = Reader::open(&*self.log, inputs, names).await?;
                reader.follow_links(&*self.log, crms).await?;
                Ok(reader)
            };
            match opened.await {
                Err(LogError::UnknownTopic { .. }) => tokio::time::sleep(LOOK).await,
                opened => return Ok(opened?),
            }
        }
    }

    /// Sends the stream, and waits until all of it has settled. Returns what has not.
    pub(super) async fn feed(
        &self,
        stream: Vec<Generated>,
        worker: &mut Worker,
        reader: &mut Reader,
        crms: &[Arc<str>],
        began: Instant,
        progress: &mut dyn Progress,
    ) -> Result<Vec<String>, DemoError> {
        let mut places = BTreeMap::new();
        for (topic, partitions) in generator::TOPICS {
            places.insert(topic, self.log.partitions(topic).await?.unwrap_or(partitions));
        }
        self.set_faults(&self.faults)?;
        let (total, mut stream) = (stream.len(), stream.into_iter().peekable());
        let mut sent = 0;
        let (mut next_batch, mut next_look) = (Instant::now(), Instant::now());
        let mut deadline = None;
        loop {
            if stream.peek().is_some() && Instant::now() >= next_batch {
                let batch: Vec<_> =
                    stream.by_ref().take(BATCH).map(|generated| placed(generated.record, &places)).collect();
                sent += batch.len();
                self.log.append(batch).await?;
                next_batch += BATCH_PAUSE;
            }
            reader.read_on(BATCH_PAUSE / 2).await?;
            if Instant::now() < next_look {
                continue;
            }
            next_look = Instant::now() + LOOK;
            worker.check()?;
            let missing = checks::unsettled(reader.evidence(), crms);
            progress.show(&seen(reader.evidence(), began, total, sent, missing.len(), self.calls()));
            if sent < total {
                continue;
            }
            let deadline = *deadline.get_or_insert(Instant::now() + SETTLING_MAX);
            let all_read = reader.evidence().inputs.len() == total;
            if (all_read && missing.is_empty()) || Instant::now() >= deadline {
                return Ok(missing);
            }
        }
    }

    pub(super) fn set_faults(&self, plan: &FaultPlan) -> Result<(), BadPlan> {
        self.sandboxes.iter().try_for_each(|sandbox| sandbox.set_faults(plan.clone()))
    }

    fn calls(&self) -> u64 {
        self.sandboxes.iter().map(Sandbox::calls).sum()
    }

    /// What the sandboxes stored and were asked, as their control addresses tell it.
    pub(super) async fn books(&self) -> Result<Vec<CrmEvidence>, DemoError> {
        let mut books = Vec::new();
        for (settings, sandbox) in self.settings.crm.iter().zip(&self.sandboxes) {
            let expectation = evidence::expectation(settings, &self.settings.instance)?;
            let contacts = page(sandbox, "contacts").await?;
            let requests = page(sandbox, "requests").await?;
            books.push(CrmEvidence::read(&settings.name, &contacts, &requests, expectation)?);
        }
        Ok(books)
    }

    /// Closes the port and removes the folder.
    pub(super) async fn strike(self) {
        self.server.stop().await;
        if let Err(error) = self.folder.close() {
            tracing::warn!(%error, "the demo's temporary folder could not be removed");
        }
    }
}

/// The record where this log has its key: on a disk, all topics have as many partitions.
fn placed(mut record: NewRecord, places: &BTreeMap<&str, u32>) -> NewRecord {
    if let (Some(key), Some(partitions)) = (&record.key, places.get(&*record.to.topic)) {
        record.to.partition = partition_of(key, *partitions);
    }
    record
}

/// One that nobody listens on at the moment.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

/// The other side of a CRM.
fn simulated(crm: &CrmSettings, seed: u64) -> Result<Sandbox, BadPlan> {
    let kind = match crm.kind {
        CrmKind::Priava => sandbox::Kind::Priava,
        CrmKind::Previsto => sandbox::Kind::Previsto,
        CrmKind::CrmCom => sandbox::Kind::CrmCom,
        CrmKind::Logisense => sandbox::Kind::Logisense,
        CrmKind::NextinteractSam => sandbox::Kind::NextinteractSam,
    };
    Sandbox::new(SandboxSettings {
        seed,
        latency: Duration::from_millis(5),
        log_bodies: true,
        log_max: usize::MAX,
        ..SandboxSettings::of(kind)
    })
}

async fn page(sandbox: &Sandbox, name: &str) -> Result<Bytes, Reset> {
    let address = format!("/_sandbox/{name}").try_into().expect("the name is a path");
    let mut request = http::Request::new(Bytes::new());
    *request.uri_mut() = address;
    Ok(sandbox.handle(request).await?.into_body())
}

fn seen(evidence: &Evidence, began: Instant, total: usize, sent: usize, open: usize, calls: u64) -> Seen {
    Seen { elapsed: began.elapsed(), total, sent, outcomes: evidence.outcomes.len(), open, calls }
}

/// The worker under judgement. Dropping it ends it as a crash would.
pub(super) struct Worker {
    running: JoinSet<Result<worker::Stopped, WorkerError>>,
    stop: oneshot::Sender<()>,
}

impl Worker {
    /// # Errors
    /// If it does not run any more, for the reason it has.
    fn check(&mut self) -> Result<(), DemoError> {
        match self.running.try_join_next() {
            None => Ok(()),
            Some(ended) => {
                ended.map_err(DemoError::WorkerPanicked)??;
                Err(DemoError::WorkerEnded)
            }
        }
    }

    /// Waits for what does not happen to a worker that does well: that it ends by itself.
    pub(super) async fn ended(&mut self) -> DemoError {
        match self.running.join_next().await {
            Some(Ok(Err(error))) => error.into(),
            Some(Err(panic)) => DemoError::WorkerPanicked(panic),
            Some(Ok(Ok(_))) | None => DemoError::WorkerEnded,
        }
    }

    /// Asks it to stop, and returns what it left undone.
    pub(super) async fn stop(mut self) -> Result<Vec<Arc<str>>, DemoError> {
        drop(self.stop);
        let ended = self.running.join_next().await.ok_or(DemoError::WorkerEnded)?;
        Ok(ended.map_err(DemoError::WorkerPanicked)??.undone)
    }
}
