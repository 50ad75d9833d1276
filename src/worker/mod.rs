//! A worker: everything that runs in one process, wired and supervised.
//!
//! A follower keeps the view; a candidate stands for the resolver's lease; one replicator per CRM drives it. They know
//! each other only through the log and the view. What they are made of comes from the settings, except what differs
//! between a real installation and a simulated one: the log, the transports to the CRMs, and the clock.

mod births;
mod permissions;
mod supervisor;
mod topics;

use std::{
    collections::BTreeMap, convert::Infallible, fmt, future::Future, io, net::SocketAddr, sync::Arc, time::Duration,
};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tracing::{error, info, warn};

use self::supervisor::Supervisor;
pub use self::{
    permissions::{Operation, Permission, Resource, permissions},
    supervisor::{PartError, Stopped},
    topics::{Created, PlannedTopic, create_topics, input_specs, planned_topics, topic_specs},
};
use crate::{
    admin::{Part, Readiness},
    audit::Trail,
    clock::Clock,
    config::{LogKind, Merge, Mode, Settings, TopicNames},
    crm::{self, fingerprint::Fingerprint, reference::Library, remote::Caller, transport::Transport},
    event::{change::Rules, outcome::Subjects},
    explain::{self, Desk},
    identity::Policy,
    ingest::{self, Ingest},
    links::Lately,
    log::{Log, LogError},
    metrics::Metrics,
    privacy::Hasher,
    protection::Protections,
    replicator::{self, Beside, Rate},
    resolver::{self, Resolver},
    status::{self, CrmFacts},
    telemetry::traces::Traces,
    verify::Way,
    view::{View, ViewError, follower::Follower},
};

/// What a worker is made of.
pub struct Parts {
    pub settings: Arc<Settings>,
    pub log: Arc<dyn Log>,
    /// How each CRM is reached, by its name.
    pub transports: BTreeMap<Arc<str>, Arc<dyn Transport>>,
    pub clock: Clock,
    pub metrics: Metrics,
    /// Where spans are told. What is left in it when the worker has ended gets the rest of the grace period.
    pub traces: Traces,
    pub readiness: Readiness,
    /// Seed of the jitter of retries.
    pub seed: u64,
    pub protections: Protections,
    /// Where the worker answers questions about contacts, once it can.
    pub desk: Desk,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "parts of worker {}", self.settings.worker.id)
    }
}

/// Why a worker could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    #[error("the topics of this installation cannot be used")]
    Topics(#[source] LogError),
    #[error("the view cannot be opened")]
    View(#[source] ViewError),
    #[error("the CRM {crm} is not usable")]
    Crm { crm: Arc<str>, source: crm::SetupError },
    #[error("ingest.listen = \"{address}\" cannot be listened on; end what listens there, or choose another address")]
    Ingest {
        address: SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Part(#[from] PartError),
}

/// Pause before the log is tried again at the start.
const LOG_PAUSE: Duration = Duration::from_secs(1);
/// How often a wait for the log is told.
const LOG_PATIENCE: u32 = 10;

/// Runs a worker until `asked` ends, then drains it within `worker.shutdown_deadline`. Dropping the future ends it as a
/// crash would.
///
/// # Errors
/// [`WorkerError`] when it cannot start or a part of it cannot go on; a log that is away is waited for.
pub async fn run(parts: Parts, asked: impl Future<Output = ()>) -> Result<Stopped, WorkerError> {
    let mut asked = std::pin::pin!(asked);
    let Parts { settings, log, transports, clock, metrics, traces, readiness, seed, protections, desk } = parts;
    let names = TopicNames::new(&settings.topics.prefix);
    readiness.report_to(metrics.clone());
    let showing = desk.board().show(status::Worker {
        worker: settings.worker.id.clone(),
        instance: settings.instance.clone(),
        log: settings.log.kind,
        clock,
        started_at: clock.now(),
        metrics: metrics.clone(),
    });

    let view = {
        let (settings, metrics) = (settings.clone(), metrics.clone());
        let opened = tokio::task::spawn_blocking(move || {
            View::open(&settings.worker.data, &settings.view, &settings.topics, clock, &metrics)
        });
        opened.await.expect("opening the view does not panic").map_err(WorkerError::View)?
    };
    let log_ready = readiness.part("log");
    tokio::select! {
        ready = topics_ready(&*log, &settings, &view, &log_ready) => ready.map_err(WorkerError::Topics)?,
        () = &mut asked => return Ok(Stopped::default()),
    }
    let accepted = settings.worker.accepted_topics.iter().cloned();
    let (follower, following) =
        Follower::new(view.clone(), log.clone(), &settings.view, &settings.topics, accepted, clock, metrics.clone());

    let mut supervisor = Supervisor::new();
    // The others read the view until their last step: the follower goes when all of them are gone.
    let (working, mut idle) = mpsc::channel::<Infallible>(1);
    supervisor.add("view", async move {
        follower.run(async move { while idle.recv().await.is_some() {} }).await?;
        Ok(true)
    });

    let hasher = Hasher::new(settings.identity.secret.as_ref().expect("checked settings hold the secret"));
    let subjects = Subjects::new(settings.outcomes.subject, &hasher);
    let policy = Arc::new(Policy::new(&settings.identity, &settings.source));
    let resolver = Resolver::new(resolver::Parts {
        log: log.clone(),
        view: view.clone(),
        clock,
        metrics: metrics.clone(),
        hasher: hasher.clone(),
        instance: settings.instance.clone(),
        worker: settings.worker.id.clone(),
        static_membership: settings.worker.named,
        topics: names.clone(),
        inputs: settings.input.topics.iter().map(|topic| topic.name.clone()).collect(),
        rules: Arc::new(Rules::new(&settings.input, &settings.source)),
        source_priority: source_priority(&settings),
        policy: policy.clone(),
        tell_identity_events: settings.identity.merge == Merge::Report,
        settings: settings.resolver.clone(),
        resyncs: settings.crm.iter().map(|crm| (crm.name.clone(), crm.delivery.resync_contacts_per_second)).collect(),
        shadows: settings.crm.iter().filter(|crm| crm.mode == Mode::Shadow).map(|crm| crm.name.clone()).collect(),
        subjects: subjects.clone(),
        traces: traces.clone(),
        protections,
    });
    let resolver_status = resolver.status();
    let (stop, guard) = (supervisor.stop(), working.clone());
    supervisor.add("resolver", async move {
        resolver.run(stop).await?;
        drop(guard);
        Ok(true)
    });
    let resolver_ready = readiness.part("resolver");
    let resolver_shown = resolver_status.clone();
    supervisor.watch(resolver_status, move |status| match status.caught_up {
        true => resolver_ready.ready(),
        false => resolver_ready.not_ready("its view is behind the log"),
    });

    metrics.versions_retention(settings.topics.versions_retention);
    let (mut statuses, mut ways, mut facts) = (Vec::new(), BTreeMap::new(), Vec::new());
    for settings_of_crm in &settings.crm {
        let name = settings_of_crm.name.clone();
        let crm = crm::build(settings_of_crm, &settings.instance)
            .map_err(|source| WorkerError::Crm { crm: name.clone(), source })?;
        let (status, watched) = watch::channel(replicator::Status::default());
        statuses.push((name.clone(), watched.clone()));
        let delivery = &settings_of_crm.delivery;
        facts.push(CrmFacts {
            name: name.clone(),
            kind: settings_of_crm.kind,
            shadow: settings_of_crm.mode == Mode::Shadow,
            requests_per_second: delivery.requests_per_second,
            in_flight_max: delivery.in_flight_max,
            status: watched.clone(),
        });
        let rate = Arc::new(Rate::new(delivery.requests_per_second));
        let transport = transports.get(&name).expect("every configured CRM has a transport").clone();
        let caller = Caller {
            session: crm.session.clone(),
            transport: transport.clone(),
            library: Arc::new(Library::new(delivery.reference_age_max, delivery.reference_miss_age)),
            turn: Arc::new(Beside { crm: name.clone(), rate: rate.clone(), metrics: metrics.clone() }),
        };
        ways.insert(name.clone(), Way::new(crm.connector.clone(), caller, delivery.clone()));
        let parts = replicator::Parts {
            name: name.clone(),
            crm,
            transport,
            settings: delivery.clone(),
            rate,
            find_before_create: settings_of_crm.find_before_create,
            shadow: settings_of_crm.mode == Mode::Shadow,
            on_gone: settings_of_crm.on_gone,
            mapping: Fingerprint::of(settings_of_crm, &settings.instance),
            log: log.clone(),
            view: view.clone(),
            following: following.clone(),
            hasher: hasher.clone(),
            clock,
            metrics: metrics.clone(),
            topics: names.clone(),
            versions_retention: settings.topics.versions_retention,
            partitions: settings.topics.partitions,
            instance: settings.instance.clone(),
            worker: settings.worker.id.clone(),
            static_membership: settings.worker.named,
            subjects: subjects.clone(),
            traces: traces.clone(),
            drain_deadline: settings.log.kafka.drain_deadline,
            // The follower and the last commit come after it.
            shutdown_deadline: settings.worker.shutdown_deadline.mul_f64(0.8),
            seed,
            protections,
        };
        let (stop, guard) = (supervisor.stop(), working.clone());
        supervisor.add(format!("replicator of {name}"), async move {
            let drained = replicator::run(parts, status, stop).await?;
            drop(guard);
            Ok(drained)
        });
        let ready = readiness.part(format!("replicator of {name}"));
        supervisor.watch(watched, move |status| {
            if !status.joined {
                ready.not_ready("waits for its group");
            } else if status.working < status.owned.len() {
                ready.not_ready("takes over partitions");
            } else {
                ready.ready();
            }
        });
    }
    if let Some(address) = settings.ingest.address() {
        let source = |source| WorkerError::Ingest { address, source };
        let ingest = Ingest::bind(address, ingest_parts(&settings, &log, &view, clock, &metrics, &traces)).await;
        let ingest = ingest.map_err(source)?;
        let mut stop = supervisor.stop();
        // What it needs of the others is only read, and may be old: it can end before or after them.
        let grace = settings.worker.shutdown_deadline.mul_f64(0.8);
        supervisor.add("ingest", async move {
            let asked = async move {
                // An error says that the supervisor is gone, and with it the reason to go on.
                let _gone = stop.wait_for(|stop| *stop).await.is_err();
            };
            Ok(ingest.run(asked, grace).await)
        });
    }
    let shown = showing.running(status::Parts {
        log: log.clone(),
        view: view.clone(),
        topics: names.clone(),
        partitions: settings.topics.partitions,
        inputs: settings.input.topics.iter().map(|topic| topic.name.clone()).collect(),
        resolver: resolver_shown,
        crms: facts,
    });
    supervisor.beside(shown);
    let (instance, worker) = (settings.instance.clone(), settings.worker.id.clone());
    let trail = Trail::new(log.clone(), names.audit.clone(), instance, worker, clock);
    let _opened = desk.open(explain::Parts {
        log: log.clone(),
        view: view.clone(),
        clock,
        hasher,
        policy,
        topics: names,
        partitions: settings.topics.partitions,
        inputs: settings.input.topics.iter().map(|topic| topic.name.clone()).collect(),
        sources: settings.source.clone(),
        crms: statuses,
        ways,
        lately: Lately::default(),
        subjects,
        trail,
        rules: Arc::new(Rules::new(&settings.input, &settings.source)),
        replays_per_second: settings.admin.replays_per_second,
        metrics: metrics.clone(),
        turns: explain::Turns::default(),
        instance: settings.instance.clone(),
        worker: settings.worker.id.clone(),
    });
    drop(working);
    // Last, when all other parts are known: or the worker would seem ready between two of them.
    log_ready.ready();
    info!(worker = %settings.worker.id, instance = %settings.instance, "the worker runs");
    let mut asked_at = None;
    let asked = async {
        asked.await;
        asked_at = Some(Instant::now());
    };
    let ended = supervisor.run(asked, settings.worker.shutdown_deadline).await;
    let spent = asked_at.map_or(Duration::ZERO, |at: Instant| at.elapsed());
    // Also after a failure, which is what somebody will want to see.
    let left = settings.worker.shutdown_deadline.saturating_sub(spent);
    traces.close(left.min(settings.telemetry.traces.timeout)).await;
    Ok(ended?)
}

fn ingest_parts(
    settings: &Settings,
    log: &Arc<dyn Log>,
    view: &View,
    clock: Clock,
    metrics: &Metrics,
    traces: &Traces,
) -> ingest::Parts {
    let view = view.clone();
    ingest::Parts {
        settings: settings.ingest.clone(),
        topics: settings.input.topics.iter().map(|topic| topic.name.clone()).collect(),
        event_bytes_max: settings.input.event_bytes_max,
        rules: Arc::new(Rules::new(&settings.input, &settings.source)),
        log: log.clone(),
        decided: Arc::new(move |at| resolver::decided(&view, at)),
        clock,
        metrics: metrics.clone(),
        traces: traces.clone(),
    }
}

/// Creates and checks our topics; waits for a log that is away.
async fn topics_ready(log: &dyn Log, settings: &Settings, view: &View, part: &Part) -> Result<(), LogError> {
    // A view that cannot be read is told of when it is followed.
    let is_born = |topic: &str| view.knows_birth(topic).unwrap_or(false);
    let mut tries = 0_u32;
    loop {
        match create_topics(log, settings, &is_born).await {
            Err(error) if error.is_transient() => {
                part.not_ready(error.to_string());
                if tries.is_multiple_of(LOG_PATIENCE) {
                    match (settings.log.kind, &error) {
                        // It says itself what to correct, and only a person can.
                        (_, LogError::Connection { .. }) => error!(%error, "the worker waits for the log"),
                        (LogKind::Kafka, _) => {
                            warn!(%error, "the worker waits for the log: start the broker, or correct log.kafka.bootstrap_servers")
                        }
                        (LogKind::Local, _) => warn!(%error, "the worker waits for the log"),
                    }
                }
                tries = tries.wrapping_add(1);
                tokio::time::sleep(LOG_PAUSE).await;
            }
            ended => return ended.map(drop),
        }
    }
}

/// The configured priority, as the `source` attributes of events say it.
fn source_priority(settings: &Settings) -> Arc<[Arc<str>]> {
    let uri =
        |name: &Arc<str>| settings.source.iter().find(|source| source.name == *name).map(|source| source.uri.clone());
    settings.identity.source_priority.iter().filter_map(uri).collect()
}
