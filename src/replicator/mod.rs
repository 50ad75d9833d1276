//! Drives one CRM to the newest record of each contact, and answers every entry of the work list exactly once.
//!
//! A replicator is a member of its CRM's group. For each partition it owns it reads entries into [`lane`]s, begins
//! [`attempt`]s as far as [`gate`], [`limits`] and [`concurrency`] allow, sends what they ask for ([`way`], and [`batching`] where
//! contacts share a call), and commits what was decided in batches ([`batch`]): links, outcomes and offsets together. [`takeover`] comes before the first request, the release after the last.
//!
//! The decisions are pure and live in [`lane`], [`ledger`], [`partition`], [`delivery`], [`plan`], [`gate`] and [`concurrency`]; [`membership`] is the loop
//! that owns the timers, the tasks and the one writer. Whatever is decided is committed in the order in which it was
//! decided. A commit that is refused for good, or whose result stays unknown, ends the membership: all that was in
//! memory is dropped, and the partitions are taken over anew, as if another worker had died.

mod attempt;
mod batch;
mod batching;
mod claim;
mod concurrency;
pub mod delivery;
#[cfg(test)]
mod exhaustive;
pub mod gate;
pub mod lane;
pub mod ledger;
mod limits;
mod membership;
mod partition;
pub mod plan;
pub mod retry;
mod takeover;
mod way;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::{sync::watch, time::Instant};
use tracing::{debug, warn};

use self::{
    attempt::Shared,
    batching::Collector,
    claim::Claim,
    concurrency::Concurrency,
    delivery::Terms,
    gate::{Gate, PauseReason},
    membership::{Ended, Membership},
    retry::Schedule,
    way::Way,
};
pub use self::{
    limits::{Rate, share},
    way::Beside,
};
use crate::{
    clock::Clock,
    config::{DeliverySettings, OnGone, TopicNames},
    crm::{Crm, FailureClass, fingerprint::Fingerprint, reference::Library, transport::Transport},
    event::outcome::Subjects,
    log::{GroupSpec, Log, LogError, Member, Partition, TopicPartition, Writer},
    metrics::Metrics,
    privacy::Hasher,
    protection::Protections,
    resolver::ResolverError,
    telemetry::traces::Traces,
    view::{Following, View, ViewError},
};

/// What a replicator is made of.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Name of the CRM.
    pub name: Arc<str>,
    pub crm: Crm,
    pub transport: Arc<dyn Transport>,
    pub settings: DeliverySettings,
    /// How fast requests may leave: what else is sent to the CRM from this worker waits there, too.
    pub rate: Arc<Rate>,
    /// A contact that is not linked is searched for before it is created.
    pub find_before_create: bool,
    /// The CRM is not called; what would be sent is only counted.
    pub shadow: bool,
    /// What becomes of a contact that the CRM no longer has.
    pub on_gone: OnGone,
    /// What links are written under.
    pub mapping: Fingerprint,
    pub log: Arc<dyn Log>,
    pub view: View,
    pub following: Following,
    pub hasher: Hasher,
    pub clock: Clock,
    pub metrics: Metrics,
    pub topics: TopicNames,
    /// How long entries of the work list are kept.
    pub versions_retention: Duration,
    /// Partition count of the topics keyed by contact.
    pub partitions: u32,
    pub instance: Arc<str>,
    pub worker: Arc<str>,
    /// Whether an operator named the worker, so that the broker may keep its partitions over a restart.
    pub static_membership: bool,
    /// How outcomes name subjects.
    pub subjects: Subjects,
    /// How long partitions that leave may drain.
    pub drain_deadline: Duration,
    /// How long a shutdown may drain.
    pub shutdown_deadline: Duration,
    pub traces: Traces,
    /// Seed of the jitter.
    pub seed: u64,
    pub protections: Protections,
}

/// What the rest of the worker sees of a replicator.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    /// Partitions that are owned, and how many of them are worked on.
    pub owned: Vec<Partition>,
    pub working: usize,
    /// The group counts us in, even if it has no partition for us.
    pub joined: bool,
    pub paused: Option<PauseReason>,
    /// When it was first seen paused, with no request let through since.
    pub paused_since: Option<Instant>,
    /// When the next probe of a paused CRM may leave; absent while one is due or under way.
    pub probe_at: Option<Instant>,
    pub unanswered: usize,
    /// How an attempt last failed, since the worker started.
    pub last_failure: Option<LastFailure>,
}

impl Status {
    /// What is known when a membership has ended: what was seen of the CRM outlives it.
    fn between_memberships(&self) -> Self {
        let Self { paused, paused_since, probe_at, last_failure, .. } = self.clone();
        Self { paused, paused_since, probe_at, last_failure, ..Self::default() }
    }
}

/// A failure, without whom it met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFailure {
    pub class: FailureClass,
    pub http_status: Option<u16>,
    /// The CRM's own code, of a closed vocabulary.
    pub crm_code: Option<String>,
    pub at: Timestamp,
}

/// Why a replicator cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the log failed the replicator of {crm}")]
    Log {
        crm: Arc<str>,
        #[source]
        source: LogError,
    },
    #[error("the view failed the replicator of {crm}")]
    View {
        crm: Arc<str>,
        #[source]
        source: ViewError,
    },
    #[error("what was said of pausing {crm} cannot be read")]
    Order {
        crm: Arc<str>,
        #[source]
        source: Box<ResolverError>,
    },
    #[error("entry at {at}@{offset} of the work list: {reason}")]
    Entry { at: TopicPartition, offset: u64, reason: String },
    #[error("the replicator of {crm} cannot commit: {reason}")]
    NotPermitted { crm: Arc<str>, reason: String },
    #[error("a record of {crm} for {to} is larger than the topic takes: raise max.message.bytes of {} to topics.message_bytes_max", to.topic)]
    TooLarge { crm: Arc<str>, to: TopicPartition },
}

/// Pause before the log is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Patience with a CRM whose session ends: nothing is lost if it does not.
const ENDED_WITHIN: Duration = Duration::from_secs(2);

/// Runs the replicator of one CRM until `shutdown` turns true, and returns whether all was drained and released.
///
/// # Errors
/// Only what waiting cannot cure.
pub async fn run(
    parts: Parts,
    status: watch::Sender<Status>,
    mut shutdown: watch::Receiver<bool>,
) -> Result<bool, Error> {
    let name = parts.name.clone();
    let group: Arc<str> = group(&parts.instance, &parts.name).into();
    let writer_id: Arc<str> = format!("{group}-{}", parts.worker).into();
    let settings = parts.settings.clone();
    let probes = Schedule { first: settings.probe_delay, max: settings.probe_delay_max };
    let batching = parts.crm.connector.batching();
    let rows_per_call = batching.as_ref().map_or(1, |batching| batching.limits().rows_max);
    let calls = |contacts: usize| contacts.div_ceil(rows_per_call);
    let (calls_min, calls_max) = (calls(settings.in_flight_min), calls(settings.in_flight_max));
    let way = Arc::new(Way {
        crm: name.clone(),
        session: parts.crm.session.clone(),
        transport: parts.transport.clone(),
        metrics: parts.metrics.clone(),
        traces: parts.traces.clone(),
        gate: Mutex::new(Gate::new(settings.failures_before_pause, probes)),
        rate: parts.rate.clone(),
        concurrency: Mutex::new(Concurrency::new(calls_min, calls_max, Instant::now())),
        rows_per_call,
        in_flight_max: settings.in_flight_max,
        protections: parts.protections,
    });
    let shared = Arc::new(Shared {
        terms: Terms {
            crm: name.clone(),
            connector: parts.crm.connector.clone(),
            hasher: parts.hasher.clone(),
            find_before_create: parts.find_before_create,
            shadow: parts.shadow,
            protections: parts.protections,
        },
        library: Library::new(settings.reference_age_max, settings.reference_miss_age),
        view: parts.view.clone(),
        collector: batching.map(|batching| Collector::new(batching, way.clone())),
        way,
        settings,
    });
    loop {
        let opened = tokio::select! {
            biased;
            () = asked_to_stop(&mut shutdown) => return Ok(true),
            opened = open(&parts, &writer_id, &group) => opened,
        };
        let (writer, member) = match opened {
            Ok(opened) => opened,
            Err(error) if error.is_transient() => {
                warn!(crm = %name, %error, "the replicator waits for the log");
                tokio::time::sleep(RETRY_PAUSE).await;
                continue;
            }
            Err(source) => return Err(Error::Log { crm: name, source }),
        };
        let mut membership = Membership::new(&parts, shared.clone(), writer, member, &writer_id, &group, &status);
        let ended = membership.work(&mut shutdown).await;
        membership.leave().await;
        status.send_modify(|status| *status = status.between_memberships());
        match ended? {
            Ended::Shutdown { drained } => {
                let ending = shared.way.session.end(&*shared.way.transport);
                if tokio::time::timeout(ENDED_WITHIN, ending).await.is_err() {
                    debug!(crm = %name, "the session of the CRM did not end in time");
                }
                return Ok(drained);
            }
            Ended::Anew => warn!(crm = %name, "partitions will be taken over anew"),
        }
    }
}

/// The group that shares the work of a CRM.
pub fn group(instance: &str, crm: &str) -> String {
    format!("{instance}-{crm}")
}

/// The worker that committed an offset of the work list, by what it left as metadata, and whether it gave the partition
/// back in good order. `None` for what no worker of the installation wrote.
pub fn committed_by(instance: &str, crm: &str, metadata: &str) -> Option<(String, bool)> {
    let Claim { writer, released } = Claim::decode(metadata)?;
    let worker = writer.strip_prefix(&group(instance, crm))?.strip_prefix('-')?;
    Some((worker.to_owned(), released))
}

/// Opens the writer, which fences our own past, and joins the group.
async fn open(parts: &Parts, writer: &str, group: &Arc<str>) -> Result<(Box<dyn Writer>, Box<dyn Member>), LogError> {
    let writer = parts.log.writer(writer).await?;
    let spec = GroupSpec {
        group: group.clone(),
        topic: parts.topics.versions.clone(),
        instance_id: parts.static_membership.then(|| format!("{group}-{}", parts.worker)),
        queue_records_max: parts.settings.unanswered_max,
    };
    Ok((writer, parts.log.join(spec).await?))
}

/// Ends when the worker is to stop; also when nobody is left who could say so.
async fn asked_to_stop(shutdown: &mut watch::Receiver<bool>) {
    if shutdown.wait_for(|stop| *stop).await.is_err() {
        debug!("the supervisor is gone");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_tells_the_worker_that_committed_it() {
        for (writer, expected) in [
            ("sim-priava-w1", Some("w1")),
            ("sim-priava-host-1", Some("host-1")),
            ("sim-venues-w1", None),
            ("w1", None),
        ] {
            for released in [false, true] {
                let metadata = Claim { writer: writer.to_owned(), released }.encode();
                let expected = expected.map(|worker| (worker.to_owned(), released));
                assert_eq!(committed_by("sim", "priava", &metadata), expected, "{writer}");
            }
        }
        assert_eq!(committed_by("sim", "priava", "reset by hand"), None);
    }
}
