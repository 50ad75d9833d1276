//! One run: a whole installation in this process, fed, disturbed, and judged.
//!
//! Nothing is installed and nothing is left behind: the log is in memory, the view in a temporary folder, and the CRM is
//! the sandbox behind real HTTP on a loopback port. The worker is wired by [`worker::run`] like any other. What differs
//! from production is short delays, so that retries, a park and an outage fit into seconds.
//!
//! The run ends when everything has settled, as far as readers of the topics can tell; a deadline keeps it from waiting
//! for what never comes, and says what that is. Then the worker is asked to stop like any other, and only then judged.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use bytes::Bytes;
use tempfile::TempDir;
use tokio::{
    sync::oneshot,
    task::{JoinError, JoinSet},
    time::Instant,
};

use super::{
    checks::{self, Checked},
    evidence::{CrmEvidence, Evidence, Projected, ReadError, Reader, Unexpected},
    generator::{self, Generated, Kind, Scale},
    progress::{Progress, Seen},
    report::Report,
};
use crate::{
    admin::Readiness,
    clock::Clock,
    config::{self, Settings, Surroundings, TopicNames},
    crm::{
        self,
        transport::{Http, HttpSetupError, Transport},
    },
    explain::Desk,
    log::{
        Cleanup, Log, LogError, TopicSpec,
        local::{self, LocalLog},
    },
    metrics::Metrics,
    protection::Protections,
    sandbox::{
        BadPlan, Chance, Fault, FaultPlan, Instead, Only, Reset, Sandbox, SandboxSettings, Scripted, Window,
        server::Server,
    },
    worker::{self, WorkerError},
};

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub scale: Scale,
    /// Whether the CRM misbehaves.
    pub faults: bool,
}

/// Why there is nothing to report.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    #[error("the settings of the demo are wrong: {0}")]
    Settings(String),
    #[error("the faults of the demo are wrong")]
    Faults(#[from] BadPlan),
    #[error("{doing} failed")]
    Io {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("the log failed")]
    Log(#[from] LogError),
    #[error("the HTTP client could not be made")]
    Http(#[from] HttpSetupError),
    #[error("the CRM could not be set up")]
    Crm(#[from] crm::SetupError),
    #[error("the worker ended")]
    Worker(#[from] WorkerError),
    #[error("the worker ended before it was asked to")]
    WorkerEnded,
    #[error("the worker panicked")]
    WorkerPanicked(#[source] JoinError),
    #[error("what the run left behind could not be read")]
    Evidence(#[from] ReadError),
    #[error("the CRM's books could not be read")]
    Books(#[from] Unexpected),
    #[error("the CRM's books could not be had")]
    NoBooks(#[from] Reset),
}

impl DemoError {
    fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

/// Records that are sent at once, and the pause after them: a few hundred a second, as fast as the worker follows.
const BATCH: usize = 20;
const BATCH_PAUSE: Duration = Duration::from_millis(40);
/// How long all may take to settle once everything was sent.
const SETTLING_MAX: Duration = Duration::from_secs(60);
/// How long the ends of the topics may be away after that.
const READING_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether all has settled.
const LOOK: Duration = Duration::from_millis(100);

/// The settings of the demo, with places to be filled in: the CRM's address, the token's file and the worker's folder.
pub fn settings() -> Result<Settings, Vec<config::Fault>> {
    let text = include_str!("settings.toml");
    let surroundings = Surroundings {
        variable: &|name| {
            (name == "CONTACT_REPLICATOR_SECRET" || name == "PRIAVA_API_TOKEN").then(|| SECRET.to_owned())
        },
        file: &|_| Err(io::ErrorKind::NotFound.into()),
        host_name: &|| "demo".to_owned(),
    };
    Settings::parse(text, surroundings)
}

/// Nothing that the demo makes outlives it, so there is nothing to keep secret.
const SECRET: &str = "every run of the demo begins anew";
const TOKEN: &str = "sandbox-token";

/// What goes wrong on purpose: a little of everything by chance, refusals that ask for patience, and an outage.
fn faults() -> FaultPlan {
    let chance = |probability, fault: Fault| Chance { probability, times: 1, only: Only::default(), fault };
    let throttled = |call| Scripted { times: 2, ..Scripted::at(call, Fault::retry_after(429, 1)) };
    FaultPlan {
        script: vec![throttled(100), throttled(400)],
        chances: vec![
            chance(0.02, Fault::status(503)),
            chance(0.003, Fault::retry_after(503, 1)),
            chance(0.005, Fault::status_after_effect(500)),
            chance(0.015, Instead::ResetAfter.into()),
            chance(0.01, Instead::ResetBefore.into()),
            // Longer than the worker waits: the answer is lost, the effect is not.
            chance(0.002, Fault::delay_after(Duration::from_millis(2_500))),
        ],
        windows: vec![Window {
            from: Duration::from_secs(2),
            lasts: Duration::from_secs(3),
            only: Only::default(),
            fault: Instead::ResetBefore.into(),
        }],
        ..FaultPlan::default()
    }
}

/// Runs the demo and judges it.
///
/// # Errors
/// [`DemoError`] if it could not be set up or judged. What the worker did wrong is in the report.
pub async fn run(options: Options, progress: &mut dyn Progress) -> Result<Report, DemoError> {
    let began = Instant::now();
    let clock = Clock::System;
    let stage = Stage::set(options, clock).await?;
    let stream = generator::generate(options.scale, clock.now());
    let sent: Vec<Kind> = stream.iter().map(|sent| sent.kind).collect();
    let names = TopicNames::new(&stage.settings.topics.prefix);

    let mut worker = stage.start_worker(clock)?;
    let inputs: Vec<Arc<str>> = generator::TOPICS.map(|(topic, _)| topic.into()).into();
    let mut reader = stage.reader(&inputs, &names, &mut worker).await?;
    let crms: Vec<Arc<str>> = stage.settings.crm.iter().map(|crm| crm.name.clone()).collect();
    let missing = stage.feed(stream, &mut worker, &mut reader, &crms, began, progress).await?;
    progress.done();

    let undone = worker.stop().await?;
    reader.catch_up(&*stage.log, READING_MAX).await?;
    let mut evidence = reader.into_evidence();
    evidence.crms.push(stage.books().await?);
    let mut checked = vec![everything_settled(&missing, &undone)];
    checked.extend(checks::all(&evidence));
    stage.strike().await;
    Ok(Report::new(options, &sent, &evidence, checked, began.elapsed()))
}

fn everything_settled(missing: &[String], undone: &[Arc<str>]) -> Checked {
    const TOLD_MAX: usize = 5;
    let mut told: Vec<String> = undone.iter().map(|part| format!("the {part} left work undone")).collect();
    told.extend(missing.iter().take(TOLD_MAX).cloned());
    if missing.len() > TOLD_MAX {
        told.push(format!("and {} more", missing.len() - TOLD_MAX));
    }
    let ok = told.is_empty();
    let detail = if ok { "all was answered, and the worker left nothing undone".to_owned() } else { told.join("; ") };
    Checked { name: "everything_settled", ok, detail }
}

/// Everything but the worker.
struct Stage {
    settings: Arc<Settings>,
    log: Arc<dyn Log>,
    sandbox: Sandbox,
    server: Server,
    faults: FaultPlan,
    seed: u64,
    /// Holds the view and the token; goes when dropped.
    folder: TempDir,
}

impl Stage {
    async fn set(options: Options, clock: Clock) -> Result<Self, DemoError> {
        let folder = tempfile::tempdir().map_err(DemoError::io("making a temporary folder"))?;
        let sandbox = Sandbox::new(SandboxSettings {
            seed: options.scale.seed,
            latency: Duration::from_millis(5),
            log_bodies: true,
            log_max: usize::MAX,
            ..SandboxSettings::default()
        })?;
        let server = Server::start(sandbox.clone()).await.map_err(DemoError::io("listening for the sandbox"))?;

        let token_file = folder.path().join("token");
        std::fs::write(&token_file, TOKEN).map_err(DemoError::io("writing the sandbox's token"))?;
        let mut settings = settings().map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            DemoError::Settings(faults.join("; "))
        })?;
        settings.worker.data = folder.path().join("data");
        for crm in &mut settings.crm {
            crm.base_url = server.base_url(&sandbox);
            let priava = crm.priava.as_mut().expect("the demo's CRM is a Priava");
            (priava.token_env, priava.token_file) = (None, Some(token_file.clone()));
        }

        let log: Arc<dyn Log> = Arc::new(LocalLog::new(local::Settings::default(), clock));
        let inputs = generator::TOPICS.map(|(topic, partitions)| TopicSpec {
            name: topic.into(),
            partitions,
            cleanup: Cleanup::Delete { after: settings.topics.versions_retention },
            message_bytes_max: settings.topics.message_bytes_max,
        });
        log.ensure_topics(&inputs).await?;
        let faults = if options.faults { faults() } else { FaultPlan::default() };
        Ok(Self { settings: Arc::new(settings), log, sandbox, server, faults, seed: options.scale.seed, folder })
    }

    fn start_worker(&self, clock: Clock) -> Result<Worker, DemoError> {
        let mut transports: BTreeMap<Arc<str>, Arc<dyn Transport>> = BTreeMap::new();
        for crm in &self.settings.crm {
            transports.insert(crm.name.clone(), Arc::new(Http::new(&crm.base_url, &crm.delivery)?));
        }
        let parts = worker::Parts {
            settings: self.settings.clone(),
            log: self.log.clone(),
            transports,
            clock,
            metrics: Metrics::default(),
            readiness: Readiness::default(),
            seed: self.seed,
            protections: Protections::default(),
            desk: Desk::default(),
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
    async fn reader(&self, inputs: &[Arc<str>], names: &TopicNames, worker: &mut Worker) -> Result<Reader, DemoError> {
        loop {
            worker.check()?;
            match Reader::open(&*self.log, inputs, names).await {
                Err(LogError::UnknownTopic { .. }) => tokio::time::sleep(LOOK).await,
                opened => return Ok(opened?),
            }
        }
    }

    /// Sends the stream, and waits until all of it has settled. Returns what has not.
    async fn feed(
        &self,
        stream: Vec<Generated>,
        worker: &mut Worker,
        reader: &mut Reader,
        crms: &[Arc<str>],
        began: Instant,
        progress: &mut dyn Progress,
    ) -> Result<Vec<String>, DemoError> {
        self.sandbox.set_faults(self.faults.clone())?;
        let (total, mut stream) = (stream.len(), stream.into_iter().peekable());
        let mut sent = 0;
        let (mut next_batch, mut next_look) = (Instant::now(), Instant::now());
        let mut deadline = None;
        loop {
            if stream.peek().is_some() && Instant::now() >= next_batch {
                let batch: Vec<_> = stream.by_ref().take(BATCH).map(|generated| generated.record).collect();
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
            progress.show(&seen(reader.evidence(), began, total, sent, missing.len(), self.sandbox.calls()));
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

    /// What the sandbox stored and was asked, as its control addresses tell it.
    async fn books(&self) -> Result<CrmEvidence, DemoError> {
        let settings = self.settings.crm.first().expect("the demo has a CRM");
        let connector = crm::build(settings, &self.settings.instance)?.connector;
        let contacts = self.page("contacts").await?;
        let requests = self.page("requests").await?;
        Ok(CrmEvidence::read(&settings.name, &contacts, &requests, Arc::new(Projected(connector)))?)
    }

    async fn page(&self, name: &str) -> Result<Bytes, Reset> {
        let address = format!("/_sandbox/{name}").try_into().expect("the name is a path");
        let mut request = http::Request::new(Bytes::new());
        *request.uri_mut() = address;
        Ok(self.sandbox.handle(request).await?.into_body())
    }

    /// Closes the port and removes the folder.
    async fn strike(self) {
        self.server.stop().await;
        if let Err(error) = self.folder.close() {
            tracing::warn!(%error, "the demo's temporary folder could not be removed");
        }
    }
}

fn seen(evidence: &Evidence, began: Instant, total: usize, sent: usize, open: usize, calls: u64) -> Seen {
    Seen { elapsed: began.elapsed(), total, sent, outcomes: evidence.outcomes.len(), open, calls }
}

/// The worker under judgement. Dropping it ends it as a crash would.
struct Worker {
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

    /// Asks it to stop, and returns what it left undone.
    async fn stop(mut self) -> Result<Vec<Arc<str>>, DemoError> {
        drop(self.stop);
        let ended = self.running.join_next().await.ok_or(DemoError::WorkerEnded)?;
        Ok(ended.map_err(DemoError::WorkerPanicked)??.undone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_or_undone_fails_the_run() {
        assert!(everything_settled(&[], &[]).ok);
        let missing: Vec<String> = (1..=7).map(|number| format!("answer {number}")).collect();
        let checked = everything_settled(&missing, &["replicator of venues".into()]);
        assert!(!checked.ok);
        assert!(checked.detail.starts_with("the replicator of venues left work undone; answer 1; "));
        assert!(checked.detail.ends_with("answer 5; and 2 more"), "{}", checked.detail);
    }

    #[test]
    fn the_settings_and_the_faults_are_sound() {
        assert_eq!(settings().unwrap().crm.len(), 1);
        let sandbox = Sandbox::new(SandboxSettings::default()).unwrap();
        sandbox.set_faults(faults()).unwrap();
    }
}
