//! An installation of real processes: workers, the simulated CRMs, and `publish`, on the broker that all tests share.
//!
//! What a test learns of them it learns as an operator would: from their exit codes, their log lines, their ports, the
//! topics and the CRMs' books. Each installation has a name of its own, and with it topics, groups and transactional
//! ids, so that tests do not meet. Processes die with the test, however it ends.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::Arc,
    time::Duration,
};

use contact_replicator::{
    cli::demo::{
        checks::{self, Checked},
        evidence::{CrmEvidence, Evidence, Reader, expectation},
        generator::{self, Generated},
    },
    config::{KafkaSettings, Settings, TopicNames},
    log::{Cleanup, Log, NewRecord, TopicPartition, TopicSpec, kafka::KafkaLog},
    sandbox::Kind,
};
use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio::time::Instant;

pub(crate) use crate::processes::{Answer, eventually};
use crate::{
    bootstrap_servers,
    conformance::fresh,
    processes::{self, Lines, Process, Usage, exchange, program},
    proxy::Proxy,
    settings::{self, SHUTDOWN_DEADLINE, Written, WrittenCrm},
    shared_proxy,
};

/// The CRMs: one of each kind, which are called otherwise than their kinds.
pub(crate) const CRMS: [Crm; 2] = [VENUES, JOBS];
pub(crate) const VENUES: Crm = Crm { name: "venues", kind: Kind::Priava };
pub(crate) const JOBS: Crm = Crm { name: "jobs", kind: Kind::Previsto };
pub(crate) const PARTITIONS: u32 = 6;
/// Requests of one worker to one CRM.
pub(crate) const IN_FLIGHT_MAX: u32 = 16;
/// A worker that is killed may have this many answers of one CRM in its hands: those under way, and those not committed yet.
pub(crate) const IN_HANDS_MAX: usize = 64;
/// How long one thing may take to come about.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(20);
/// What is judged from all that was read so far is looked at less often.
const JUDGE: Duration = Duration::from_millis(300);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Crm {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
}

fn names_of_crms() -> [Arc<str>; 2] {
    CRMS.map(|crm| crm.name.into())
}

/// Only one installation is at work at a time: they would slow each other down on a small machine.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

pub(crate) struct Installation {
    pub(crate) log: KafkaLog,
    pub(crate) sandbox: Sandbox,
    name: String,
    request_deadline: Duration,
    /// Where workers look for the broker.
    servers: String,
    /// Further settings of the Previsto.
    settings_of_jobs: &'static str,
    folder: TempDir,
    _alone: tokio::sync::MutexGuard<'static, ()>,
}

impl Installation {
    /// The input topics and CRMs that behave; no worker yet.
    pub(crate) async fn new(request_deadline: Duration) -> Self {
        Self::of(request_deadline, bootstrap_servers()).await
    }

    /// The same, with further settings of the Previsto.
    pub(crate) async fn with_settings_of_jobs(request_deadline: Duration, settings_of_jobs: &'static str) -> Self {
        let mut installation = Self::new(request_deadline).await;
        installation.settings_of_jobs = settings_of_jobs;
        installation
    }

    /// The same, where the line between a worker and the broker can be cut: by the [`Installation::client_id`].
    pub(crate) async fn with_lines_to_cut(request_deadline: Duration) -> (Self, &'static Proxy) {
        let proxy = shared_proxy().await;
        (Self::of(request_deadline, proxy.servers()).await, proxy)
    }

    async fn of(request_deadline: Duration, servers: String) -> Self {
        let alone = ALONE.lock().await;
        let folder = tempfile::tempdir().unwrap();
        let name = fresh("e2e").replace("conformance-", "");
        let installation = Self {
            log: KafkaLog::new(settings_of_log("observer")).unwrap(),
            sandbox: Sandbox::start(folder.path()).await,
            name,
            request_deadline,
            servers,
            settings_of_jobs: "",
            folder,
            _alone: alone,
        };
        let inputs: Vec<TopicSpec> = generator::TOPICS
            .iter()
            .map(|(topic, partitions)| TopicSpec {
                name: installation.input(topic),
                partitions: *partitions,
                cleanup: Cleanup::Delete { after: Duration::from_secs(24 * 60 * 60) },
                message_bytes_max: 1024 * 1024,
            })
            .collect();
        installation.log.ensure_topics(&inputs).await.unwrap();
        installation
    }

    /// The input topic that the generator calls `topic`.
    pub(crate) fn input(&self, topic: &str) -> Arc<str> {
        Written::input(&self.name, topic)
    }

    pub(crate) fn topics(&self) -> TopicNames {
        TopicNames::new(&format!("{}.", self.name))
    }

    /// The consumer group of a CRM's replicators.
    pub(crate) fn group(&self, crm: Crm) -> String {
        format!("{}-{}", self.name, crm.name)
    }

    /// The group that holds the resolver's lease.
    pub(crate) fn group_of_resolver(&self) -> String {
        contact_replicator::resolver::group(&self.name)
    }

    /// How the broker is told which worker asks.
    pub(crate) fn client_id(&self, worker: &str) -> String {
        format!("{}-{worker}", self.name)
    }

    fn data(&self, worker: &str) -> PathBuf {
        self.folder.path().join(worker)
    }

    /// Takes the view from a worker that does not run, and gives it to one that never will.
    pub(crate) fn take_view(&self, worker: &str, heir: &str) {
        fs::create_dir(self.data(heir)).unwrap();
        fs::rename(self.data(worker).join("view"), self.data(heir).join("view")).unwrap();
    }

    /// What the view of a worker that does not run holds, as a hash, once it has followed the topics to their end.
    pub(crate) async fn digest(&self, worker: &str) -> String {
        let log = Arc::new(KafkaLog::new(settings_of_log("digest")).unwrap());
        settings::digest(&self.settings(worker), log, PATIENCE).await
    }

    fn settings(&self, worker: &str) -> Settings {
        self.written(worker).parsed(self.folder.path())
    }

    fn written(&self, worker: &str) -> Written {
        let crms = CRMS.map(|Crm { name, kind }| WrittenCrm {
            name: name.to_owned(),
            kind,
            address: self.sandbox.0.address,
            more: if kind == Kind::Previsto { self.settings_of_jobs.to_owned() } else { String::new() },
        });
        Written {
            instance: self.name.clone(),
            worker: Some(worker.to_owned()),
            data: self.data(worker),
            servers: self.servers.clone(),
            client_id: self.client_id(worker),
            replicas: 1,
            partitions: PARTITIONS,
            request_deadline: self.request_deadline,
            in_flight_max: IN_FLIGHT_MAX,
            crms: crms.to_vec(),
        }
    }

    fn settings_file(&self, worker: &str) -> PathBuf {
        let file = self.folder.path().join(format!("{worker}.toml"));
        fs::write(&file, self.written(worker).text()).unwrap();
        file
    }

    /// Starts a worker, and returns when it says that it is ready.
    pub(crate) async fn start(&self, worker: &str) -> Worker {
        let worker = self.launch(worker).await;
        eventually(&format!("{} is ready", worker.process.name), PATIENCE, async || worker.is_ready().await).await;
        worker
    }

    /// Starts a worker, and returns when its port can be asked.
    pub(crate) async fn launch(&self, worker: &str) -> Worker {
        self.launch_with(worker, &[]).await
    }

    /// The same, with further arguments.
    pub(crate) async fn launch_with(&self, worker: &str, arguments: &[&str]) -> Worker {
        let (lines, file) = Lines::of(self.folder.path().join(format!("{worker}.log")));
        let config = self.settings_file(worker);
        let begun = Instant::now();
        let mut process = Process::start(
            worker,
            program().arg("run").arg("--config").arg(config).args(arguments),
            Stdio::null(),
            file.into(),
        );
        let admin = eventually(&format!("{worker} serves health and metrics"), PATIENCE, async || {
            process.assert_runs(&lines);
            lines.admin()
        })
        .await;
        Worker { process, lines, admin, begun }
    }

    /// Publishes as services do: what is a CloudEvent in JSON by the command, in the mode for which a file of lines can
    /// be had; the rest (another topic, null values, what is no event at all) by a producer of its own.
    pub(crate) async fn publish(&self, events: &[Generated]) {
        let (mut lines, mut others) = (String::new(), Vec::new());
        for event in events {
            match line(&event.record) {
                Some(line) => {
                    lines.push_str(&line);
                    lines.push('\n');
                }
                None => others.push(event.record.clone()),
            }
        }
        let count = lines.lines().count();
        let file = self.folder.path().join("changes.ndjson");
        fs::write(&file, lines).unwrap();
        let mut publish = program();
        publish.arg("publish").arg("--config").arg(self.settings_file("publisher")).arg(file);
        let Output { status, stdout, stderr } =
            tokio::task::spawn_blocking(move || publish.output().unwrap()).await.unwrap();
        let (said, complained) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "publish ended with {status}: {said}{complained}");
        let topic = self.input(generator::TOPICS[0].0);
        assert!(said.contains(&format!("published {count} events to {topic};")), "{said}");
        for record in &mut others {
            record.to.topic = self.input(&record.to.topic);
        }
        self.log.append(others).await.unwrap();
    }

    /// Reads the topics from their beginning. They are there once a worker was ready.
    pub(crate) async fn observe(&self) -> Observer<'_> {
        let inputs = generator::TOPICS.map(|(topic, _)| self.input(topic));
        let reader = Reader::open(&self.log, &inputs, &self.topics()).await.unwrap();
        Observer { installation: self, reader }
    }

    /// The place of a partition of the replicators' work list.
    pub(crate) fn versions(&self, partition: u32) -> TopicPartition {
        TopicPartition::new(self.topics().versions, partition)
    }
}

impl Drop for Installation {
    /// What a failed test leaves behind is what explains it.
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.folder.disable_cleanup(true);
            eprintln!("settings and logs of {} are kept in {}", self.name, self.folder.path().display());
        }
    }
}

/// Of a client that is no worker.
pub(crate) fn settings_of_log(client_id: &str) -> KafkaSettings {
    crate::settings(bootstrap_servers(), client_id)
}

/// The line of `record` for `publish`; `None` where it has no such form.
fn line(record: &NewRecord) -> Option<String> {
    if *record.to.topic != *generator::TOPICS[0].0 {
        return None;
    }
    let value = record.value.as_ref()?;
    let header = |name: &str| record.headers.iter().find(|header| header.name == name).map(|header| &header.value);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    if header("content-type").is_some_and(|mode| mode.starts_with(b"application/cloudevents+json")) {
        return text(value);
    }
    for required in ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_subject"] {
        header(required)?;
    }
    let mut event = Map::new();
    for header in &record.headers {
        if let Some(attribute) = header.name.strip_prefix("ce_") {
            event.insert(attribute.to_owned(), text(&header.value)?.into());
        }
    }
    if !value.is_empty() {
        event.insert("data".to_owned(), serde_json::from_slice::<Value>(value).ok()?);
    }
    Some(Value::Object(event).to_string())
}

/// Sees what anybody may see of an installation.
pub(crate) struct Observer<'a> {
    installation: &'a Installation,
    reader: Reader,
}

impl Observer<'_> {
    pub(crate) fn evidence(&self) -> &Evidence {
        self.reader.evidence()
    }

    /// Waits until at least so many outcomes were published.
    pub(crate) async fn outcomes(&mut self, at_least: usize) {
        self.until(&format!("{at_least} outcomes"), |evidence| {
            let found = evidence.outcomes.len();
            if found >= at_least { Ok(()) } else { Err(format!("there are {found}")) }
        })
        .await;
    }

    /// Waits until each of `inputs` events has come to its end in every CRM.
    pub(crate) async fn settled(&mut self, inputs: usize) {
        let crms = names_of_crms();
        self.until(&format!("the end of {inputs} events"), |evidence| {
            let found = evidence.inputs.len();
            if found < inputs {
                return Err(format!("{found} were read"));
            }
            let missing = checks::unsettled(evidence, &crms);
            if missing.is_empty() {
                return Ok(());
            }
            let told: Vec<&str> = missing.iter().take(5).map(String::as_str).collect();
            Err(format!("{} are missing: {}", missing.len(), told.join("; ")))
        })
        .await;
    }

    /// Waits until each of `inputs` events was accepted or turned away, whatever the CRM does.
    pub(crate) async fn decided(&mut self, inputs: usize) {
        self.until(&format!("decisions on {inputs} events"), |evidence| {
            let found = evidence.inputs.len();
            let undecided = checks::unsettled(evidence, &[]).len();
            if found >= inputs && undecided == 0 { Ok(()) } else { Err(format!("{found} read, {undecided} undecided")) }
        })
        .await;
    }

    async fn until(&mut self, what: &str, mut holds: impl FnMut(&Evidence) -> Result<(), String>) {
        let deadline = Instant::now() + 2 * PATIENCE;
        loop {
            let looked = Instant::now();
            let missing = match holds(self.reader.evidence()) {
                Ok(()) => return,
                Err(missing) => missing,
            };
            assert!(looked < deadline, "waited in vain for {what}: {missing}");
            // The judgement may take longer than the pause between two of them.
            let next = (looked + JUDGE).max(Instant::now() + LOOK);
            while Instant::now() < next {
                self.reader.read_on(LOOK).await.unwrap();
            }
        }
    }

    /// All that there is to judge by.
    pub(crate) async fn conclude(mut self, repeats_allowed: usize) -> Evidence {
        self.reader.follow_links(&self.installation.log, &names_of_crms()).await.unwrap();
        self.reader.catch_up(&self.installation.log, PATIENCE).await.unwrap();
        let mut evidence = self.reader.into_evidence();
        let settings = self.installation.settings("observer");
        for (crm, settings_of_crm) in CRMS.into_iter().zip(&settings.crm) {
            let sandbox = &self.installation.sandbox;
            let (contacts, requests) = (sandbox.page(crm, "contacts").await, sandbox.page(crm, "requests").await);
            let expectation = expectation(settings_of_crm, &settings.instance).unwrap();
            evidence.crms.push(CrmEvidence::read(crm.name, &contacts, &requests, expectation).unwrap());
        }
        evidence.repeats_allowed = repeats_allowed;
        evidence
    }
}

/// Judges by all checks but those named.
#[track_caller]
pub(crate) fn assert_promises(evidence: &Evidence, except: &[&str]) {
    let checked: Vec<Checked> =
        checks::all(evidence).into_iter().filter(|checked| !except.contains(&checked.name)).collect();
    for Checked { name, ok, detail } in &checked {
        eprintln!("  {} {name}: {detail}", if *ok { "holds " } else { "BROKEN" });
    }
    let broken: Vec<&str> = checked.iter().filter(|checked| !checked.ok).map(|checked| checked.name).collect();
    assert!(broken.is_empty(), "broken: {broken:?}");
}

pub(crate) struct Worker {
    process: Process,
    lines: Lines,
    admin: SocketAddr,
    begun: Instant,
}

impl Worker {
    /// Since it was started.
    pub(crate) fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Waits until it ends by itself, and returns all that it said.
    pub(crate) async fn end(mut self) -> String {
        let ends = format!("{} ends by itself", self.process.name);
        let status = eventually(&ends, PATIENCE, async || self.process.child.try_wait().unwrap()).await;
        let said = self.lines().join("\n");
        assert_eq!(status.code(), Some(3), "{said}");
        said
    }

    /// Waits until a line of it has all of `words`.
    pub(crate) async fn says(&mut self, words: &[&str]) {
        eventually(&format!("{} says {words:?}", self.process.name), PATIENCE, async || {
            self.process.assert_runs(&self.lines);
            let says = |line: &String| words.iter().all(|word| line.contains(word));
            self.lines.all().iter().any(says).then_some(())
        })
        .await;
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(self) {
        self.process.kill();
    }

    /// Asks it to stop, which must leave nothing undone. Returns how long that took.
    pub(crate) async fn stop(mut self) -> Duration {
        self.report();
        let asked = Instant::now();
        let status = self.process.terminate().await;
        let took = asked.elapsed();
        assert_eq!(status.code(), Some(0), "{}:\n{}", self.process.name, self.lines.last(20));
        assert!(took < SHUTDOWN_DEADLINE, "{} took {took:?} to stop", self.process.name);
        took
    }

    pub(crate) fn name(&self) -> &str {
        &self.process.name
    }

    /// Where commands ask it.
    pub(crate) fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// Its log lines since it was started.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.all()
    }

    /// Sends it something over HTTP, at the address that is for events.
    pub(crate) async fn post(&self, path: &str, headers: &str, body: &[u8]) -> Answer {
        let takes = format!("{} takes events", self.process.name);
        let address = eventually(&takes, PATIENCE, async || self.lines.ingest()).await;
        exchange(address, "POST", path, headers, body).await.unwrap()
    }

    pub(crate) async fn is_ready(&self) -> Option<()> {
        processes::is_ready(self.admin).await.then_some(())
    }

    /// The sum of a metric over all its labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        processes::metric(self.admin, name).await
    }

    /// Tells what it cost so far.
    pub(crate) fn report(&self) {
        let (Usage { resident, most, cpu }, age) = (self.process.usage(), self.age().as_secs_f64());
        let lines = self.lines().len();
        eprintln!(
            "  {}: {resident} MiB, {most} at most, {cpu:.1} s of CPU in {age:.1} s, {lines} log lines",
            self.process.name
        );
    }
}

/// The simulated CRMs, by the names that they have here.
pub(crate) struct Sandbox(processes::Sandbox);

impl Sandbox {
    async fn start(folder: &Path) -> Self {
        Self(processes::Sandbox::start(folder, Duration::from_millis(5)).await)
    }

    /// What a control address of a CRM answers.
    pub(crate) async fn page(&self, crm: Crm, name: &str) -> Vec<u8> {
        self.0.page(crm.kind.name(), name).await
    }

    /// Replaces what goes wrong, in every CRM; `plan` is a plan of faults in JSON.
    pub(crate) async fn misbehave(&self, plan: &Value) {
        for crm in CRMS {
            self.misbehave_in(crm, plan).await;
        }
    }

    /// The same in one of them.
    pub(crate) async fn misbehave_in(&self, crm: Crm, plan: &Value) {
        self.0.misbehave(crm.kind.name(), plan).await;
    }

    /// The contacts that a CRM stores, in its words.
    pub(crate) async fn contacts(&self, crm: Crm) -> Vec<Value> {
        self.list(crm, "contacts", "contacts").await
    }

    /// The requests that a CRM got, from the one that has this number on.
    pub(crate) async fn requests_after(&self, crm: Crm, number: u64) -> Vec<Value> {
        self.list(crm, &format!("requests?after={number}"), "requests").await
    }

    async fn list(&self, crm: Crm, page: &str, member: &str) -> Vec<Value> {
        let mut page: Value = serde_json::from_slice(&self.page(crm, page).await).unwrap();
        match page[member].take() {
            Value::Array(list) => list,
            other => panic!("{other} is no list"),
        }
    }

    /// Per CRM, how many requests arrived so far, and how many of them took effect.
    pub(crate) async fn calls(&self) -> Vec<(usize, usize)> {
        let mut calls = Vec::new();
        for crm in CRMS {
            let requests = self.requests_after(crm, 0).await;
            let effects = requests.iter().filter(|request| !request["effect"].is_null());
            calls.push((requests.len(), effects.count()));
        }
        calls
    }
}
