//! One run: a whole installation in this process, fed, disturbed, and judged.
//!
//! Nothing is installed, and unless it is asked for nothing is left behind: the log is in memory, the view in a temporary
//! folder, and the CRMs are sandboxes behind real HTTP on a loopback port, one of each kind. The worker is wired by
//! [`worker::run`](crate::worker::run) like any other. What differs from production is short delays, so that retries, a
//! park and an outage fit into seconds.
//!
//! The run ends when everything has settled, as far as readers of the topics can tell; a deadline keeps it from waiting
//! for what never comes, and says what that is. Then the worker is asked to stop like any other, and only then judged.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{task::JoinError, time::Instant};

use super::{
    checks::{self, Checked},
    evidence::{Evidence, ReadError, Reader, Unexpected},
    generator::{self, Kind, People, Scale, Stream},
    keep::Kept,
    progress::Progress,
    report::Report,
    stage::{Stage, Worker},
};
use crate::{
    clock::Clock,
    config::{self, Settings, Surroundings, TopicNames},
    crm::{self, transport::HttpSetupError},
    log::LogError,
    metrics::MetricsError,
    sandbox::{Action, BadPlan, Chance, Fault, FaultPlan, Instead, Only, Reset, Scripted, Window},
    worker::WorkerError,
};

/// What to run.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    pub scale: Scale,
    /// Whether the CRMs misbehave.
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
    #[error("{} has a log already: name another folder with --data, since a demo begins with nothing", .folder.display())]
    Used { folder: PathBuf },
    #[error("metrics cannot be counted")]
    Metrics(#[from] MetricsError),
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
    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }
}

/// How long the ends of the topics may be away after that.
const READING_MAX: Duration = Duration::from_secs(10);

/// The settings of the demo, with places to be filled in: the CRMs' addresses, the token's file and the worker's folder.
pub fn settings() -> Result<Settings, Vec<config::Fault>> {
    let text = include_str!("settings.toml");
    let surroundings = Surroundings {
        variable: &|name| {
            let known = ["CONTACT_REPLICATOR_SECRET", "PRIAVA_API_TOKEN", "PREVISTO_API_KEY", "CRM_COM_SECRET"];
            let others = ["LOGISENSE_SECRET", "NEXTINTERACT_SAM_EMAIL", "NEXTINTERACT_SAM_PASSWORD"];
            (known.contains(&name) || others.contains(&name)).then(|| SECRET.to_owned())
        },
        file: &|_| Err(io::ErrorKind::NotFound.into()),
        host_name: &|| "demo".to_owned(),
    };
    Settings::parse(text, surroundings)
}

/// Nobody real is in what the demo makes, so there is nothing to keep secret.
const SECRET: &str = "every run of the demo begins anew";

/// What goes wrong on purpose: a little of everything by chance, refusals that ask for patience, and an outage.
pub(super) fn faults() -> FaultPlan {
    let chance = |probability, fault: Fault| Chance { probability, times: 1, only: Only::default(), fault };
    let throttled = |call| Scripted { times: 2, ..Scripted::at(call, Fault::retry_after(429, 1)) };
    FaultPlan {
        script: vec![throttled(40), throttled(400)],
        chances: vec![
            chance(0.02, Fault::status(503)),
            chance(0.003, Fault::retry_after(503, 1)),
            chance(0.005, Fault::status_after_effect(500)),
            chance(0.015, Instead::ResetAfter.into()),
            chance(0.01, Instead::ResetBefore.into()),
            // What a CRM without an upsert makes a duplicate of, if it is not looked for.
            Chance { only: Only::action(Action::Create), ..chance(0.05, Instead::ResetAfter.into()) },
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
    let stage = Stage::set(options, None, Clock::System).await?;
    let mut played = play(options, &stage, progress).await?;
    let undone = played.worker.stop().await?;
    let report = played.run.judged(&stage, &undone).await?;
    stage.strike().await;
    Ok(report)
}

/// The same on a log below the folder `data`, and without an end: the worker and the CRMs, which behave from now on, go on
/// until they are told to stop. What the worker leaves undone at a shutdown is then not in the report.
///
/// # Errors
/// As [`run`]; also if there is a log in the folder already.
pub async fn run_on(options: Options, data: &Path, progress: &mut dyn Progress) -> Result<(Report, Kept), DemoError> {
    let stage = Stage::set(options, Some(data), Clock::System).await?;
    let mut played = play(options, &stage, progress).await?;
    let report = played.run.judged(&stage, &[]).await?;
    stage.set_faults(&FaultPlan::default())?;
    Ok((report, Kept::new(stage, played.worker).await?))
}

/// A run that has come to its end, but for the worker, which does not know.
struct Played {
    worker: Worker,
    run: Run,
}

struct Run {
    options: Options,
    began: Instant,
    sent: Vec<Kind>,
    people: People,
    reader: Reader,
    missing: Vec<String>,
}

async fn play(options: Options, stage: &Stage, progress: &mut dyn Progress) -> Result<Played, DemoError> {
    let began = Instant::now();
    let clock = Clock::System;
    let Stream { sent: stream, people } = generator::stream(options.scale, clock.now());
    let sent: Vec<Kind> = stream.iter().map(|sent| sent.kind).collect();
    let names = TopicNames::new(&stage.settings.topics.prefix);

    let mut worker = stage.start_worker(clock)?;
    let inputs: Vec<Arc<str>> = generator::TOPICS.map(|(topic, _)| topic.into()).into();
    let crms: Vec<Arc<str>> = stage.settings.crm.iter().map(|crm| crm.name.clone()).collect();
    let mut reader = stage.reader(&inputs, &names, &crms, &mut worker).await?;
    let missing = stage.feed(stream, &mut worker, &mut reader, &crms, began, progress).await?;
    progress.done();
    Ok(Played { worker, run: Run { options, began, sent, people, reader, missing } })
}

impl Run {
    async fn judged(&mut self, stage: &Stage, undone: &[Arc<str>]) -> Result<Report, DemoError> {
        self.reader.catch_up(&*stage.log, READING_MAX).await?;
        let mut evidence = self.reader.evidence().clone();
        evidence.crms = stage.books().await?;
        let settled = everything_settled(&self.missing, undone);
        Ok(judge(self.options, &self.sent, &self.people, &evidence, settled, self.began.elapsed()))
    }
}

fn judge(
    options: Options,
    sent: &[Kind],
    people: &People,
    evidence: &Evidence,
    settled: Checked,
    elapsed: Duration,
) -> Report {
    let (found, persons) = checks::every_person_is_one_contact(evidence, people);
    let mut checked = vec![settled];
    checked.extend(checks::all(evidence));
    checked.push(found);
    Report::new(options, sent, evidence, persons, checked, elapsed)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::{self, Sandbox, SandboxSettings};

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
        assert_eq!(settings().unwrap().crm.len(), sandbox::Kind::ALL.len(), "one of each kind");
        let sandbox = Sandbox::new(SandboxSettings::default()).unwrap();
        sandbox.set_faults(faults()).unwrap();
    }
}
