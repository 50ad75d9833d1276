//! The settings of a worker under test, and what only they tell: what its view holds, as a hash.
//!
//! Delays are short, so that seconds show what takes minutes in production. Sizes are those that the generator's faults are
//! made for.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use contact_replicator::{
    cli::demo::generator,
    clock::Clock,
    config::{Settings, Surroundings, TopicNames},
    log::{Log, TopicPartition},
    metrics::Metrics,
    sandbox::Kind,
    view::{View, follower::Follower},
};
use tokio::sync::oneshot;

use crate::processes::{CREDENTIALS, SECRET, TOKEN};

/// As in the settings below.
pub(crate) const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);
/// Calls in a row, of a CRM that takes one contact in each.
const FAILURES_BEFORE_PAUSE: u32 = 10;
/// As in the settings below.
pub(crate) const SESSION_TIMEOUT: Duration = Duration::from_secs(6);

/// What differs between workers and installations.
#[derive(Debug, Clone)]
pub(crate) struct Written {
    pub(crate) instance: String,
    /// `None`: the host name, which is nobody's choice.
    pub(crate) worker: Option<String>,
    pub(crate) data: PathBuf,
    /// Where the broker is looked for, and how it is told who asks.
    pub(crate) servers: String,
    pub(crate) client_id: String,
    /// Of each of our topics: as many as there are brokers.
    pub(crate) replicas: i32,
    pub(crate) partitions: u32,
    pub(crate) request_deadline: Duration,
    /// Requests to one CRM at once.
    pub(crate) in_flight_max: u32,
    pub(crate) crms: Vec<WrittenCrm>,
}

#[derive(Debug, Clone)]
pub(crate) struct WrittenCrm {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// Of the sandbox, or of what stands before it.
    pub(crate) address: SocketAddr,
    /// Further settings.
    pub(crate) more: String,
}

impl Written {
    /// The input topic that the generator calls `topic`.
    pub(crate) fn input(instance: &str, topic: &str) -> Arc<str> {
        format!("{instance}.{topic}").into()
    }

    /// As it stands in the file.
    pub(crate) fn text(&self) -> String {
        let Self { instance, worker, data, servers, client_id, replicas, partitions, .. } = self;
        let id = worker.as_ref().map(|worker| format!("id = {worker:?}")).unwrap_or_default();
        let [changes, directory] = generator::TOPICS.map(|(topic, _)| Self::input(instance, topic));
        let sources: String = generator::SOURCES
            .iter()
            .map(|(source, uri)| format!("[[source]]\nuri = {uri:?}\nname = {source:?}\n"))
            .collect();
        let directory_uri = generator::SOURCES[2].1;
        let crms: String = self.crms.iter().map(|crm| self.text_of(crm)).collect();
        format!(
            r#"
            instance = {instance:?}
            [worker]
            {id}
            data = {data:?}
            shutdown_deadline = "{shutdown}s"
            [log.kafka]
            bootstrap_servers = {servers:?}
            session_timeout = "{session}s"
            heartbeat_interval = "500ms"
            drain_deadline = "4s"
            replication_factor = {replicas}
            [log.kafka.properties]
            "client.id" = {client_id:?}
            [topics]
            prefix = "{instance}."
            partitions = {partitions}
            [input]
            known_sources_only = true
            event_bytes_max = 16384
            [[input.topics]]
            name = {changes:?}
            [[input.topics]]
            name = {directory:?}
            tombstone_source = {directory_uri:?}
            {sources}
            [identity]
            source_priority = ["accounting", "shop"]
            record_bytes_max = 49152
            [view]
            cache_bytes = 33554432
            {crms}
            [ingest]
            listen = "127.0.0.1:0"
            [admin]
            listen = "127.0.0.1:0"
            "#,
            shutdown = SHUTDOWN_DEADLINE.as_secs(),
            session = SESSION_TIMEOUT.as_secs(),
        )
    }

    fn text_of(&self, crm: &WrittenCrm) -> String {
        let WrittenCrm { name, kind, address, more } = crm;
        let OfKind { first, contacts_in_a_call, last } = OfKind::of(*kind);
        format!(
            r#"
            [[crm]]
            name = {name:?}
            kind = "{kind}"
            base_url = "http://{address}/{kind}{path}"
            {first}
            [crm.delivery]
            in_flight_max = {in_flight_max}
            failures_before_pause = {failures}
            requests_per_second = 0.0
            request_deadline = "{deadline}ms"
            connect_timeout = "1s"
            retry_delay = "50ms"
            retry_delay_max = "500ms"
            tries_before_parking = 2
            parked_delay = "300ms"
            parked_delay_max = "2s"
            probe_delay = "200ms"
            probe_delay_max = "1s"
            {more}
            {last}
            "#,
            kind = kind.name(),
            path = kind.base_path(),
            in_flight_max = self.in_flight_max * contacts_in_a_call,
            failures = FAILURES_BEFORE_PAUSE * contacts_in_a_call,
            deadline = self.request_deadline.as_millis(),
        )
    }

    /// As a worker reads it. A connector reads its credential itself, and the process of a test has none in its environment:
    /// it is put into `folder`.
    pub(crate) fn parsed(&self, folder: &Path) -> Settings {
        let variable = |name: &str| match name {
            "CONTACT_REPLICATOR_SECRET" => Some(SECRET.to_owned()),
            name => CREDENTIALS.contains(&name).then(|| TOKEN.to_owned()),
        };
        let surroundings = Surroundings { variable: &variable, ..Surroundings::process() };
        let mut settings = Settings::parse(&self.text(), surroundings).unwrap();
        let token = folder.join("token");
        fs::write(&token, TOKEN).unwrap();
        for crm in &mut settings.crm {
            if let Some(priava) = &mut crm.priava {
                (priava.token_env, priava.token_file) = (None, Some(token.clone()));
            }
            if let Some(previsto) = &mut crm.previsto {
                (previsto.api_key_env, previsto.api_key_file) = (None, Some(token.clone()));
            }
            if let Some(sam) = &mut crm.nextinteract_sam {
                (sam.email_env, sam.email_file) = (None, Some(token.clone()));
                (sam.password_env, sam.password_file) = (None, Some(token.clone()));
            }
            if let Some(crm_com) = &mut crm.crm_com {
                (crm_com.secret_env, crm_com.secret_file) = (None, Some(token.clone()));
            }
            if let Some(logisense) = &mut crm.logisense {
                (logisense.secret_env, logisense.secret_file) = (None, Some(token.clone()));
            }
        }
        settings
    }
}

/// What differs between kinds.
struct OfKind {
    /// Settings of the CRM itself.
    first: &'static str,
    /// Bounds of deliveries count contacts, and several may share a call.
    contacts_in_a_call: u32,
    /// Tables of the kind.
    last: &'static str,
}

impl OfKind {
    fn of(kind: Kind) -> Self {
        let (first, contacts_in_a_call, last) = match kind {
            Kind::Priava | Kind::Previsto => ("", 1, ""),
            Kind::NextinteractSam => (
                "",
                4,
                "[crm.nextinteract_sam]\nbatch_rows_max = 4\nbatch_age_max = \"20ms\"\nlogin_interval_min = \"1s\"",
            ),
            Kind::CrmCom => ("", 1, "[crm.crm_com]\nlogin_interval = \"1s\""),
            // Its contacts carry no reference: one that stays there after its deletion, and one of another who has the same
            // telephone number and a name like theirs, would be taken for somebody new.
            Kind::Logisense => {
                ("on_delete = \"delete\"\nadopt = \"never\"", 1, "[crm.logisense]\nlogin_interval_min = \"1s\"")
            }
        };
        Self { first, contacts_in_a_call, last }
    }
}

/// What the view of a worker that does not run holds, as a hash, once it has followed the topics to their end: each
/// term of a resolver leaves its mark there.
pub(crate) async fn digest(settings: &Settings, log: Arc<dyn Log>, patience: Duration) -> String {
    let (data, of_view, of_topics) = (settings.worker.data.clone(), settings.view.clone(), settings.topics.clone());
    let metrics = Metrics::default();
    let opened = {
        let metrics = metrics.clone();
        move || View::open(&data, &of_view, &of_topics, Clock::System, &metrics)
    };
    let view = tokio::task::spawn_blocking(opened).await.unwrap().unwrap();
    let (follower, following) =
        Follower::new(view.clone(), Arc::clone(&log), &settings.view, &settings.topics, [], Clock::System, metrics);
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(follower.run(async { stopped.await.unwrap_or(()) }));
    let (names, partitions) = (TopicNames::new(&settings.topics.prefix), settings.topics.partitions);
    let mut followed =
        vec![(names.records.clone(), partitions), (names.keys.clone(), partitions), (names.resolver.clone(), 1)];
    for crm in &settings.crm {
        for partition in 0..partitions {
            following.start(&crm.name, partition).await.unwrap();
        }
        followed.push((names.links(&crm.name), partitions));
    }
    for (topic, partitions) in followed {
        for at in (0..partitions).map(|partition| TopicPartition::new(topic.clone(), partition)) {
            let end = log.watermarks(&at).await.unwrap().high;
            tokio::time::timeout(patience, view.reached(&at, end)).await.unwrap().unwrap();
        }
    }
    drop(stop);
    running.await.unwrap().unwrap();
    tokio::task::spawn_blocking(move || view.digest().unwrap()).await.unwrap()
}
