//! How one worker stands: what `/status` answers and the command `status` shows.
//!
//! One page for whoever was woken: which parts do their work, who decides and how far behind, and for each CRM whether it
//! takes requests, what waits and for how long. Alerts say that something is wrong, metrics since when; this says what is so
//! now, and what to do about it.
//!
//! Nothing is counted for it. What was counted is read back from the metrics, what the parts say of themselves comes over
//! their channels, what is parked is in the view, and how far the log goes is asked of the log: at most once a
//! [`LOOK_AGE_MAX`], and only when somebody wants to know. So it costs a worker that nobody asks no more than a sample of its
//! counts now and then ([`rates`]).
//!
//! It always answers. A log that is away, or a view that cannot be read, leaves members null; whether the worker is ready is
//! said in it, and is not its HTTP status.
//!
//! - this page: the types, which are the contract, and where a worker shows them ([`Board`]).
//! - `gather`: makes the answer.
//! - [`words`]: answers as a person reads them, with what several workers make of a CRM together ([`totals()`]); pure.
//!
//! It carries ids, names of settings and counts, never anything of a contact.

mod gather;
mod page;
mod rates;
mod totals;
pub mod words;

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    sync::{Arc, OnceLock},
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, interval},
};

use self::{gather::Look, rates::Samples};
pub use self::{
    page::Line,
    totals::{Total, totals},
};
use crate::{
    clock::Clock,
    config::{CrmKind, LogKind, TopicNames},
    event::{OutcomeKind, schemas},
    log::{Log, Partition},
    metrics::Metrics,
    replicator, resolver,
    view::View,
};

/// The layout of [`WorkerStatus`]. Members may be added to one; what a reader knows of it stays.
pub const FORMAT: u32 = 1;

/// How old what is known of the log's ends may be.
const LOOK_AGE_MAX: Duration = Duration::from_secs(5);
/// Between two samples of what is counted.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);

/// How one worker stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkerStatus {
    /// The layout of this document. Above the one you know, it is another; otherwise ignore members that you do not know.
    pub format: u32,
    /// The worker: `worker.id` of its settings.
    pub worker: Arc<str>,
    /// The installation: `instance` of its settings.
    pub instance: Arc<str>,
    pub build: Build,
    pub started_at: Timestamp,
    /// When this was told; ages count from here.
    pub told_at: Timestamp,
    /// The kind of its log: `kafka` or `local`.
    pub log: Arc<str>,
    /// Why the log could not be asked how far it goes; null if it answered. What it would have told is null, too.
    pub log_problem: Option<String>,
    /// Every part does its work, as `/readyz` says.
    pub ready: bool,
    /// The parts that do not, and why.
    pub not_ready: Vec<NotReady>,
    /// How far back the rates reach, at most a minute; null before there are any.
    pub rates_over_seconds: Option<u64>,
    /// Null while the worker starts or stops.
    pub resolver: Option<ResolverStatus>,
    /// Null while the worker starts or stops.
    pub view: Option<ViewStatus>,
    /// Each configured CRM, in the order of the settings; empty while the worker starts or stops.
    pub crms: Vec<CrmStatus>,
}

/// The program that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Build {
    pub version: Arc<str>,
    /// Null where the build was not told.
    pub commit: Option<Arc<str>>,
}

/// A part that does not do its work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NotReady {
    pub part: Arc<str>,
    /// A sentence.
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// This worker decides who is who.
    Active,
    /// Another one does, or nobody yet.
    Standby,
}

/// The resolver, and the input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResolverStatus {
    pub role: Role,
    /// The worker that began the last term, which is the active one unless it is gone; null where that is not known.
    pub holder: Option<Arc<str>>,
    /// The last term that was begun by any worker; null before the first.
    pub term: Option<u64>,
    /// Each input topic, in the order of the settings. Any worker can tell, whoever decides.
    pub inputs: Vec<InputStatus>,
    /// Age of the oldest input record among those last read; null on a standby, which reads none.
    pub oldest_input_seconds: Option<u64>,
    /// Events decided per second by this worker.
    pub decisions_per_second: Option<f64>,
}

/// One input topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InputStatus {
    pub topic: Arc<str>,
    /// Records that wait for a decision; null where the log did not say, and for a topic that does not exist.
    pub undecided: Option<u64>,
}

/// The view: the worker's own copy of what the compacted topics say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ViewStatus {
    /// Records of who the contacts are that it has not seen yet; about 0 when it has caught up. Markers of transactions count, and
    /// what was written since the log was last asked does not. Null where the log did not say.
    pub short_records: Option<u64>,
    /// Bytes on disk.
    pub bytes: Option<u64>,
    /// Its layout. A release with another one fills it anew.
    pub format: u32,
}

/// Whether a CRM is driven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CrmState {
    Live,
    /// It is not called; what would be sent is only counted.
    Shadow,
    /// Nothing is sent to it by this worker for now; the others may see that otherwise.
    Paused,
}

/// Why nothing is sent to a CRM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pause {
    /// `failing` (contact after contact failed), `credentials` (refused), `connection` (base URL, path or rights are wrong) or
    /// `operator` (somebody wants it so).
    pub reason: Arc<str>,
    pub since: Timestamp,
    /// When it is tried next; null while that is due or under way.
    pub next_probe: Option<Timestamp>,
    /// What to do, as a sentence.
    pub remedy: String,
}

/// One CRM, as this worker drives it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CrmStatus {
    /// Its name in the settings.
    pub crm: Arc<str>,
    pub kind: Arc<str>,
    pub state: CrmState,
    /// Null unless it is paused.
    pub pause: Option<Pause>,
    /// The partitions of the work list that this worker owns.
    pub partitions: Vec<Partition>,
    /// How many of these are worked on; the others are being taken over or given back.
    pub partitions_working: u64,
    /// How many there are, over all workers.
    pub partitions_all: u32,
    /// Entries read and not yet answered, parked ones apart.
    pub pending: u64,
    /// Age of the oldest of these; 0 when none waits.
    pub oldest_pending_seconds: u64,
    /// Records of the owned partitions beyond the committed position. It rests at up to one for each: a transaction's marker.
    pub lag_records: u64,
    /// Contacts with a request under way.
    pub in_flight: u64,
    /// Requests ended per second.
    pub requests_per_second: Option<f64>,
    /// Outcomes committed per second, by kind; one that is not there did not come.
    pub outcomes_per_second: BTreeMap<OutcomeKind, f64>,
    /// Outcomes committed since this worker started, by kind; one that is not there did not come.
    pub outcomes: BTreeMap<OutcomeKind, u64>,
    /// Contacts of the owned partitions that wait for a later try, after several failed; counted every 10 seconds.
    pub parked: u64,
    /// When the next of these is tried.
    pub next_parked_due: Option<Timestamp>,
    /// Contacts in a relation to another that this CRM does not hold.
    pub waiting_for_others: u64,
    /// Contacts that it holds as other settings of its mapping made them.
    pub links_of_other_mappings: u64,
    /// Entries that were deleted before they were read, since this worker started. Above 0: resync the CRM.
    pub entries_lost: u64,
    pub limits: Limits,
    /// How an attempt last failed since this worker started.
    pub last_error: Option<LastError>,
}

/// What a CRM may be sent at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Requests per second of all workers together, as configured; null: no limit.
    pub requests_per_second: Option<f64>,
    /// This worker's share of that, by the partitions that it owns.
    pub requests_per_second_share: Option<f64>,
    /// Contacts that may be under way at once, as the worker now judges.
    pub in_flight_limit: u64,
    /// The ceiling of that, as configured.
    pub in_flight_max: u64,
}

/// A failed attempt, without whom it met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastError {
    /// `transient`, `throttled`, `auth`, `conflict`, `rejected`, `gone` or `connection`.
    pub class: Arc<str>,
    /// Null where there was no answer.
    pub http_status: Option<u16>,
    /// The CRM's own code, where it has a closed vocabulary.
    pub crm_code: Option<String>,
    pub at: Timestamp,
}

/// The JSON Schema of what `/status` answers.
pub fn schema() -> Value {
    let mut schema = schemas::written::<WorkerStatus>();
    schema["title"] = json!("How one worker stands, version 1");
    schema["description"] = json!("The answer of GET /status at a worker's address of health and metrics.");
    schema
}

/// What is known of a worker from its first moment on.
#[derive(Debug, Clone)]
pub struct Worker {
    pub worker: Arc<str>,
    pub instance: Arc<str>,
    pub log: LogKind,
    pub clock: Clock,
    pub started_at: Timestamp,
    pub metrics: Metrics,
}

/// What there is to tell of once a worker runs.
pub struct Parts {
    pub log: Arc<dyn Log>,
    pub view: View,
    pub topics: TopicNames,
    /// Partition count of the topics keyed by contact.
    pub partitions: u32,
    pub inputs: Vec<Arc<str>>,
    pub resolver: watch::Receiver<resolver::Status>,
    pub crms: Vec<CrmFacts>,
}

/// What is configured for a CRM, and where its replicator tells how it stands.
#[derive(Debug, Clone)]
pub struct CrmFacts {
    pub name: Arc<str>,
    pub kind: CrmKind,
    pub shadow: bool,
    /// Over all workers; 0: no limit.
    pub requests_per_second: f64,
    pub in_flight_max: usize,
    pub status: watch::Receiver<replicator::Status>,
}

/// Where a worker shows how it stands; empty before it begins and after it ended. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Board(Arc<RwLock<Option<Arc<Shown>>>>);

/// Keeps a board filled.
#[derive(Debug)]
#[must_use = "dropping it empties the board"]
pub struct Showing {
    board: Board,
    shown: Arc<Shown>,
}

impl Drop for Showing {
    fn drop(&mut self) {
        *self.board.0.write() = None;
    }
}

struct Shown {
    worker: Worker,
    /// Once it runs.
    parts: OnceLock<Parts>,
    samples: Mutex<Samples>,
    /// Held while the log is asked, so that one asks and the others wait for it.
    look: tokio::sync::Mutex<Option<Look>>,
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shown of {}", self.worker.worker)
    }
}

impl Board {
    /// Shows a worker that begins, until what is returned is dropped.
    pub fn show(&self, worker: Worker) -> Showing {
        let shown = Arc::new(Shown {
            worker,
            parts: OnceLock::new(),
            samples: Mutex::default(),
            look: tokio::sync::Mutex::default(),
        });
        *self.0.write() = Some(shown.clone());
        Showing { board: self.clone(), shown }
    }

    /// How the worker stands; `None` before it begins and after it ended. `missing` are the parts that are not ready.
    pub async fn status(&self, missing: Vec<(Arc<str>, String)>) -> Option<WorkerStatus> {
        // Not held while the answer is made: a worker that ends must not wait for whoever asks.
        let shown = self.0.read().clone()?;
        Some(shown.status(missing).await)
    }
}

impl Showing {
    /// The worker runs: shows all of it from now on, as long as what is returned is polled.
    ///
    /// # Panics
    /// If that was said before.
    pub fn running(&self, parts: Parts) -> impl Future<Output = ()> + Send + 'static {
        let shown = self.shown.clone();
        assert!(shown.parts.set(parts).is_ok(), "a worker begins to run once");
        async move {
            let mut turn = interval(SAMPLE_EVERY);
            loop {
                turn.tick().await;
                shown.samples.lock().note(Instant::now(), shown.counts());
            }
        }
    }
}
