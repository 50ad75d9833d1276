//! An installation of real processes: one worker with its log on the disk, and both CRMs in a process of their own.
//!
//! A worker is known by its exit code, its lines and its ports; the log's folder is opened only while no worker runs.
//! Processes die with the test, however it ends.

use std::{fs, path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use contact_replicator::{
    cli::demo::{
        checks,
        evidence::{CrmEvidence, Evidence, Reader, expectation},
    },
    clock::Clock,
    config::{Settings, Surroundings, TopicNames},
    log::local::{self, DiskSettings, LocalLog},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::{
    load::{Ingest, SOURCES},
    processes::{self, Lines, Process, SECRET, Sandbox, TOKEN, Usage, program},
};

const INPUT: &str = "contact-changes";
pub(crate) const CRMS: [&str; 2] = ["priava", "previsto"];
/// How long a process may take to answer anything at all.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the judge may take to read the whole log.
const READ_WITHIN: Duration = Duration::from_secs(600);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(20);
/// Requests to one CRM that a killed worker may have had in its hands: what it was answered and could not write down.
const IN_HANDS_MAX: usize = 16;

/// Only one installation is at work at a time: they would slow each other down on a small machine.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

pub(crate) struct Installation {
    /// Where the worker takes events at present.
    pub(crate) ingest: Ingest,
    sandbox: Sandbox,
    compacting: bool,
    folder: TempDir,
    _alone: tokio::sync::MutexGuard<'static, ()>,
}

impl Installation {
    pub(crate) async fn new(compacting: bool, latency: Duration) -> Self {
        let alone = ALONE.lock().await;
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token"), TOKEN).unwrap();
        let sandbox = Sandbox::start(folder.path(), latency).await;
        let installation = Self { ingest: Ingest::default(), sandbox, compacting, folder, _alone: alone };
        fs::write(installation.config(), installation.settings_text()).unwrap();
        installation
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("worker.toml")
    }

    fn lines(&self) -> PathBuf {
        self.folder.path().join("worker.log")
    }

    fn settings_text(&self) -> String {
        let folder = self.folder.path();
        let sources: String =
            SOURCES.iter().map(|(name, uri)| format!("[[source]]\nuri = {uri:?}\nname = {name:?}\n")).collect();
        let crms: String = CRMS
            .iter()
            .zip([("/api/rest", "token_file"), ("", "api_key_file")])
            .map(|(kind, (path, secret))| {
                format!(
                    r#"
                    [[crm]]
                    name = "{kind}"
                    kind = "{kind}"
                    base_url = "http://{address}/{kind}{path}"
                    [crm.{kind}]
                    {secret} = {token:?}
                    [crm.delivery]
                    in_flight_max = {IN_HANDS_MAX}
                    requests_per_second = 0.0
                    request_deadline = "300ms"
                    connect_timeout = "300ms"
                    retry_delay = "20ms"
                    retry_delay_max = "200ms"
                    tries_before_parking = 3
                    parked_delay = "100ms"
                    parked_delay_max = "1s"
                    probe_delay = "50ms"
                    probe_delay_max = "500ms"
                    "#,
                    address = self.sandbox.address,
                    token = folder.join("token"),
                )
            })
            .collect();
        format!(
            r#"
            instance = "crash"
            [worker]
            id = "worker"
            data = {data:?}
            shutdown_deadline = "20s"
            [log]
            kind = "local"
            [log.local]
            compact_interval = "{interval}"
            compact_bytes_per_second = 1073741824
            cache_bytes = 33554432
            [topics]
            partitions = 4
            [[input.topics]]
            name = "{INPUT}"
            {sources}
            [identity]
            source_priority = ["billing", "shop"]
            [view]
            cache_bytes = 16777216
            {crms}
            [ingest]
            listen = "127.0.0.1:0"
            [admin]
            listen = "127.0.0.1:0"
            "#,
            data = folder.join("data"),
            interval = if self.compacting { "1s" } else { "1h" },
        )
    }

    fn settings(&self) -> Settings {
        let variable = |name: &str| (name == "CONTACT_REPLICATOR_SECRET").then(|| SECRET.to_owned());
        let surroundings = Surroundings { variable: &variable, ..Surroundings::process() };
        Settings::parse(&self.settings_text(), surroundings).unwrap()
    }

    /// Replaces what goes wrong in both CRMs; `plan` is a plan of faults in JSON.
    pub(crate) async fn misbehave(&self, plan: &Value) {
        for crm in CRMS {
            self.sandbox.misbehave(crm, plan).await;
        }
    }

    /// Starts a worker, and waits for nothing.
    pub(crate) fn start(&self) -> Worker {
        let (lines, file) = Lines::of(self.lines());
        let begun = Instant::now();
        // The port of the one before may be anybody's by now.
        *self.ingest.lock() = None;
        let mut command = program();
        command.arg("run").arg("--config").arg(self.config());
        let process = Process::start("the worker", &mut command, Stdio::null(), file.into());
        Worker { process, lines, begun, ingest: Arc::clone(&self.ingest) }
    }

    /// Lets all that was accepted come to its end, stops the worker, and returns all there is to judge by, and how long
    /// it took until all was quiet.
    ///
    /// Whether a worker has anything left to do is only guessed from its gauges; the log knows. If the guess was wrong, the
    /// worker is started once more; unless `by_itself`: then the guess waits for the lag as well, which is measured every
    /// quarter of a minute, and a worker that has come to rest by that must have done all.
    pub(crate) async fn settle(
        &self,
        mut worker: Worker,
        within: Duration,
        kills: usize,
        by_itself: bool,
    ) -> (Evidence, Duration) {
        let deadline = Instant::now() + within;
        let begun = Instant::now();
        loop {
            worker.quiet(deadline, by_itself).await;
            let quiet = begun.elapsed();
            worker.stop().await;
            let (evidence, missing) = self.read(kills).await;
            if missing.is_empty() {
                return (evidence, quiet);
            }
            let told: Vec<&str> = missing.iter().take(5).map(String::as_str).collect();
            let told = format!("{} are missing: {}", missing.len(), told.join("; "));
            assert!(!by_itself && Instant::now() < deadline, "not settled: {told}");
            eprintln!("  not settled yet: {told}");
            worker = self.start();
            worker.ready(PATIENCE).await;
        }
    }

    /// All there is to judge by, and what is not settled. No worker runs.
    async fn read(&self, kills: usize) -> (Evidence, Vec<String>) {
        let settings = self.settings();
        let disk = DiskSettings {
            folder: settings.log_folder(),
            bytes_max: settings.log.local.bytes_max,
            compact_interval: Duration::from_secs(3_600),
            compact_bytes_per_second: settings.log.local.compact_bytes_per_second,
            cache_bytes: settings.log.local.cache_bytes,
        };
        let opened =
            tokio::task::spawn_blocking(move || LocalLog::open(local::Settings::default(), disk, Clock::System));
        let log = opened.await.unwrap().unwrap();
        let names = TopicNames::new(&settings.topics.prefix);
        let crms = CRMS.map(Arc::<str>::from);
        let mut reader = Reader::open(&log, &[INPUT.into()], &names).await.unwrap();
        reader.follow_links(&log, &crms).await.unwrap();
        reader.catch_up(&log, READ_WITHIN).await.unwrap();
        let mut evidence = reader.into_evidence();
        let missing = checks::unsettled(&evidence, &crms);
        for crm in &settings.crm {
            let expectation = expectation(crm, &settings.instance).unwrap();
            let (contacts, requests) =
                (self.sandbox.page(&crm.name, "contacts").await, self.sandbox.page(&crm.name, "requests").await);
            evidence.crms.push(CrmEvidence::read(&crm.name, &contacts, &requests, expectation).unwrap());
        }
        evidence.repeats_allowed = kills * IN_HANDS_MAX;
        tokio::task::spawn_blocking(move || drop(log)).await.unwrap();
        (evidence, missing)
    }

    /// Lines are for people, and never about a contact's values.
    #[track_caller]
    pub(crate) fn assert_discreet(&self) {
        let text = fs::read_to_string(self.lines()).unwrap();
        let telling = text.lines().find(|line| line.contains("@example.com") || line.contains("+447700"));
        assert_eq!(telling, None, "a value of a contact is in a line");
    }
}

impl Drop for Installation {
    /// What a failed test leaves behind is what explains it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            eprintln!("settings, lines and data are kept in {}", self.folder.path().display());
        }
    }
}

pub(crate) struct Worker {
    process: Process,
    lines: Lines,
    begun: Instant,
    ingest: Ingest,
}

impl Worker {
    /// Waits until it says that it is ready, tells the senders where it is, and returns how long it took.
    pub(crate) async fn ready(&mut self, within: Duration) -> Duration {
        let deadline = Instant::now() + within;
        loop {
            self.assert_runs();
            let ingest = self.lines.ingest();
            if ingest.is_some() {
                *self.ingest.lock() = ingest;
            }
            if let Some(admin) = self.lines.admin()
                && processes::is_ready(admin).await
            {
                return self.begun.elapsed();
            }
            assert!(Instant::now() < deadline, "never ready:\n{}", self.lines.last(20));
            tokio::time::sleep(LOOK).await;
        }
    }

    #[track_caller]
    fn assert_runs(&mut self) {
        self.process.assert_runs(&self.lines);
    }

    pub(crate) fn usage(&self) -> Usage {
        self.process.usage()
    }

    /// Ends it as a crash would. That it lived until then is part of the claim.
    #[track_caller]
    pub(crate) fn kill(mut self) {
        self.assert_runs();
        self.process.kill();
    }

    /// Waits until its gauges have nothing left to tell, twice in a row.
    async fn quiet(&mut self, deadline: Instant, with_lag: bool) {
        // What lies behind the last thing that a CRM answers in a partition is the marker of a transaction.
        const MARKERS_MAX: f64 = 8.0;
        let gauges = ["entries_pending", "contacts_parked", "requests_in_flight", "crm_paused", "lag_records"];
        let mut quiet = 0;
        while quiet < 2 {
            self.assert_runs();
            let mut busy = Vec::new();
            for gauge in gauges {
                let at_most = match gauge {
                    "lag_records" if with_lag => MARKERS_MAX,
                    "lag_records" => f64::MAX,
                    _ => 0.0,
                };
                let value = self.metric(gauge).await;
                if value > at_most {
                    busy.push(format!("{gauge} is {value}"));
                }
            }
            quiet = if busy.is_empty() { quiet + 1 } else { 0 };
            assert!(Instant::now() < deadline, "never quiet: {busy:?}\n{}", self.lines.last(20));
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The sum of a metric over all its labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        processes::metric(self.lines.admin().unwrap(), name).await
    }

    /// Asks it to stop, which must leave nothing undone.
    pub(crate) async fn stop(mut self) {
        let status = self.process.terminate().await;
        assert_eq!(status.code(), Some(0), "{}", self.lines.last(20));
    }
}
