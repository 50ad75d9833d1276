//! `run`: a worker of the installation, until a signal asks it to stop.
//!
//! The first SIGTERM or SIGINT begins the shutdown, which ends within `worker.shutdown_deadline`; a second one ends it at
//! once. Either way nothing is lost: what was not finished is done by the next worker, and the exit code says that there
//! is something.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use clap::Args;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};
use tracing::{info, warn};

use super::{CommandError, Configured, Exit};
use crate::{
    admin::{Access, Admin, Readiness},
    clock::Clock,
    config::{Settings, Surroundings},
    crm::transport::{Http, Transport},
    explain::Desk,
    metrics::{Metrics, Registry},
    protection::Protections,
    telemetry::traces::{self, Teller, Traces},
    worker::{self, Stopped, WorkerError},
};

const EXAMPLES: &str = "\
Examples:
  contact-replicator run --config config/embedded.toml
  contact-replicator run --config config/kafka.toml
  contact-replicator run --config config/kafka.toml --accept-topic contact-links.priava

Stop it with SIGTERM or SIGINT: it finishes what is under way within worker.shutdown_deadline and ends with 0, or with 4 if
something was left undone, which the next worker does. A second signal ends it at once. While the broker is away it waits.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    configured: Configured,
    /// Accept that this topic of ours was deleted and made anew since this worker last ran; may be given several times.
    ///
    /// Without it the worker refuses to start, since contacts whose links are gone would be created again in their CRM.
    #[arg(long, value_name = "NAME")]
    accept_topic: Vec<String>,
}

pub(super) async fn run(arguments: &Arguments, surroundings: Surroundings<'_>) -> Result<Exit, CommandError> {
    let mut settings = super::started(&arguments.configured, surroundings)?;
    settings.worker.accepted_topics = arguments.accept_topic.iter().map(|topic| topic.as_str().into()).collect();
    let mut signals = Signals::new().map_err(CommandError::io("listening for signals"))?;
    info!(version = env!("CARGO_PKG_VERSION"), instance = %settings.instance, worker = %settings.worker.id, "the worker starts");

    let registry = Registry::new();
    let crms: Vec<_> = settings.crm.iter().map(|crm| crm.name.clone()).collect();
    let metrics = Metrics::new(&registry, &crms)?;
    let readiness = Readiness::default();
    let desk = Desk::default();
    let transports = transports(&settings)?;
    let traces = traces(&settings, &metrics)?;
    let log = super::open_log(&settings).await?;
    let mut admins = Vec::new();
    let access = Access::new(&settings.admin);
    for (listen, key) in
        [(&settings.admin.listen, "admin.listen"), (&settings.admin.operator_listen, "admin.operator_listen")]
    {
        // Checked settings hold an address or nothing.
        if let Ok(address) = listen.parse::<SocketAddr>() {
            let (registry, readiness, desk) = (registry.clone(), readiness.clone(), desk.clone());
            let started = Admin::start_for(&settings.admin, access.clone(), address, registry, readiness, desk).await;
            admins.push(started.map_err(|source| CommandError::Listen { key, address, source })?);
        }
    }
    let parts = worker::Parts {
        settings: Arc::new(settings),
        log,
        transports,
        clock: Clock::System,
        metrics,
        traces,
        readiness,
        seed: rand::random(),
        protections: Protections::default(),
        desk,
    };
    let (asked, stop) = oneshot::channel::<()>();
    let worker = worker::run(parts, async { stop.await.unwrap_or(()) });
    let ended = until_signalled(worker, asked, &mut signals).await;
    for admin in admins {
        admin.stop().await;
    }
    conclude(ended)
}

/// Drives `worker` until it ends by itself, by the first signal, or, cut off, by the second: then there is no result.
async fn until_signalled(
    worker: impl Future<Output = Result<Stopped, WorkerError>>,
    asked: oneshot::Sender<()>,
    signals: &mut Signals,
) -> Option<Result<Stopped, WorkerError>> {
    let mut worker = Box::pin(worker);
    tokio::select! {
        ended = &mut worker => return Some(ended),
        name = signals.next() => info!(signal = name, "asked to stop"),
    }
    // Dropping it is the question; a worker that ended meanwhile needs none.
    drop(asked);
    tokio::select! {
        ended = &mut worker => Some(ended),
        name = signals.next() => {
            warn!(signal = name, "asked to stop a second time");
            None
        }
    }
}

fn conclude(ended: Option<Result<Stopped, WorkerError>>) -> Result<Exit, CommandError> {
    match ended {
        None => {
            warn!("the worker was cut off; the next one does what was left");
            Ok(Exit::Undone)
        }
        Some(Ok(stopped)) if stopped.undone.is_empty() => {
            info!("the worker stopped and left nothing undone");
            Ok(Exit::Done)
        }
        Some(Ok(stopped)) => {
            warn!(parts = stopped.undone.join(", "), "the worker stopped and left work to the next one");
            Ok(Exit::Undone)
        }
        Some(Err(error)) => Err(error.into()),
    }
}

fn transports(settings: &Settings) -> Result<BTreeMap<Arc<str>, Arc<dyn Transport>>, CommandError> {
    let transport = |crm: &crate::config::CrmSettings| {
        let made = Http::new(&crm.base_url, &crm.delivery);
        let http = made.map_err(|source| CommandError::Transport { crm: crm.name.clone(), source })?;
        Ok((crm.name.clone(), Arc::new(http) as Arc<dyn Transport>))
    };
    settings.crm.iter().map(transport).collect()
}

fn traces(settings: &Settings, metrics: &Metrics) -> Result<Traces, CommandError> {
    let exported = &settings.telemetry.traces;
    if !exported.is_on() {
        return Ok(Traces::default());
    }
    let teller = Teller { instance: &settings.instance, worker: &settings.worker.id };
    Ok(Traces::start(exported, traces::collector(exported)?, &teller, Clock::System, metrics))
}

/// What asks a process to stop.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The name of the next one.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_left_undone_shows_in_the_exit_code() {
        assert_eq!(conclude(None).unwrap(), Exit::Undone);
        assert_eq!(conclude(Some(Ok(Stopped::default()))).unwrap(), Exit::Done);
        let undone = Stopped { undone: vec!["replicator of priava".into()] };
        assert_eq!(conclude(Some(Ok(undone))).unwrap(), Exit::Undone);
    }
}
