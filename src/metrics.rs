//! Every metric of this program, named in one place.
//!
//! Business code says what happened; names, labels and buckets live here. They register on a registry that is passed
//! in, so that each test reads its own. Label values come from enums, from the names of the configured CRMs and
//! topics, and from the schema's field names: never from a contact, a message or an answer. What is reported of a CRM that was not
//! configured is dropped, so that no caller can grow the number of series.
//!
//! Each series whose labels are known starts at zero, so that a first failure is a rise and not a new line. The help of
//! each metric says what it means to whoever is on call: `deploy/METRICS.md` is made of it.

mod listing;
mod readings;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, TextEncoder,
    core::Collector,
};

pub use self::{
    listing::{Listed, listing},
    readings::OfCrm,
};
pub use prometheus::Registry;

use crate::{
    event::{Operation, Outcome, OutcomeKind, ReasonCode, outcome::ANY_CRM},
    identity::{judgement::Refusal, membership::DropCode},
};

/// Begins the name of every metric.
pub const PREFIX: &str = "contact_replicator";

/// The resolver, where metrics name CRMs: as consumer and as writer.
pub const RESOLVER: &str = "resolver";

/// One exchange with a CRM: from a local answer to the longest deadline that may be set.
const REQUEST_BUCKETS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// From reading an event to its committed outcome: a batch at best, a CRM that was down for days at worst.
const LATENCY_BUCKETS: [f64; 16] =
    [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0, 3600.0, 21_600.0, 86_400.0];
const TRANSACTION_BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Why a CRM is paused, as a label.
const PAUSE_REASONS: [&str; 4] = ["connection", "credentials", "failing", "operator"];

/// How an exchange with a CRM ended, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatusClass {
    Success,
    Redirect,
    ClientError,
    Throttled,
    ServerError,
    Unanswered,
    NotSent,
}

impl StatusClass {
    const ALL: [Self; 7] = [
        Self::Success,
        Self::Redirect,
        Self::ClientError,
        Self::Throttled,
        Self::ServerError,
        Self::Unanswered,
        Self::NotSent,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Redirect => "redirect",
            Self::ClientError => "client_error",
            Self::Throttled => "throttled",
            Self::ServerError => "server_error",
            Self::Unanswered => "unanswered",
            Self::NotSent => "not_sent",
        }
    }
}

/// Why a span was not exported, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanLoss {
    /// The queue was full: the collector is away, or too slow.
    Queue,
    /// The collector did not take it.
    Refused,
    /// The worker ended before.
    Shutdown,
}

impl SpanLoss {
    const ALL: [Self; 3] = [Self::Queue, Self::Refused, Self::Shutdown];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Queue => "queue_full",
            Self::Refused => "refused",
            Self::Shutdown => "shutdown",
        }
    }
}

/// How a request to the HTTP ingest ended, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IngestResult {
    Accepted,
    /// What was sent is no request for us: its path, method, form or an event in it is wrong.
    Refused,
    Unauthorized,
    TooLarge,
    /// The sender was too slow, or went away.
    TimedOut,
    /// No turn came in time.
    Busy,
    /// Too many events wait for a decision, or the log is full.
    Backlog,
    /// The log could not be reached, or could not be used.
    LogFailed,
    InternalError,
}

impl IngestResult {
    const ALL: [Self; 9] = [
        Self::Accepted,
        Self::Refused,
        Self::Unauthorized,
        Self::TooLarge,
        Self::TimedOut,
        Self::Busy,
        Self::Backlog,
        Self::LogFailed,
        Self::InternalError,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Refused => "refused",
            Self::Unauthorized => "unauthorized",
            Self::TooLarge => "too_large",
            Self::TimedOut => "timed_out",
            Self::Busy => "busy",
            Self::Backlog => "backlog",
            Self::LogFailed => "log_failed",
            Self::InternalError => "internal_error",
        }
    }
}

/// Why metrics could not be set up: two of one name on one registry.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be registered: {reason}")]
pub struct MetricsError {
    reason: String,
}

impl From<prometheus::Error> for MetricsError {
    fn from(error: prometheus::Error) -> Self {
        Self { reason: error.to_string() }
    }
}

/// What business code reports to. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
}

struct Shared {
    events_read: IntCounter,
    attributes_ignored: IntCounter,
    versions_tied: IntCounter,
    identity_conflicts: HashMap<Refusal, IntCounter>,
    keys_dropped: HashMap<DropCode, IntCounter>,
    keys_generic: IntCounter,
    dead_letters: HashMap<ReasonCode, IntCounter>,
    dead_letters_replayed: HashMap<ReasonCode, IntCounter>,
    fields_lost: IntCounterVec,
    input_lost: IntCounterVec,
    resolver_active: IntGauge,
    resolver_epoch: IntGauge,
    oldest_input_age: IntGauge,
    versions_retention: IntGauge,
    worker_ready: IntGauge,
    view_applied: IntCounter,
    view_rebuilt: IntCounter,
    ingest_requests: HashMap<IngestResult, IntCounter>,
    spans_exported: IntCounter,
    /// By [`SpanLoss::ALL`].
    spans_lost: [IntCounter; 3],
    ingest_events: IntCounter,
    ingest_backlog: IntGauge,
    /// Outcomes reached before the fan-out, under [`ANY_CRM`].
    before_fan_out: Outcomes,
    crms: HashMap<Arc<str>, PerCrm>,
    /// By name: each CRM, and [`RESOLVER`].
    loops: HashMap<Arc<str>, PerLoop>,
}

struct PerCrm {
    outcomes: Outcomes,
    exchanges: HashMap<StatusClass, Histogram>,
    pending: IntGauge,
    oldest_entry_age: IntGauge,
    parked: IntGauge,
    other_mapping: IntGauge,
    waiting_for_others: IntGauge,
    resync_remaining: IntGauge,
    in_flight: IntGauge,
    in_flight_limit: IntGauge,
    paused: IntGauge,
    /// In the order of [`PAUSE_REASONS`].
    pause_reasons: [IntGauge; PAUSE_REASONS.len()],
    entries_lost: IntCounter,
    gone: IntCounter,
    adopted: IntCounter,
    consent_not_expressible: IntCounter,
    shadowed: HashMap<Operation, IntCounter>,
}

struct Outcomes {
    counted: HashMap<(OutcomeKind, Option<ReasonCode>), IntCounter>,
    latency: Histogram,
}

/// What the resolver and each replicator have in common: they read a topic and write transactions.
struct PerLoop {
    lag: IntGauge,
    committed: Histogram,
    failed: IntCounter,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("crms", &self.shared.crms.keys().collect::<Vec<_>>()).finish_non_exhaustive()
    }
}

impl Default for Metrics {
    /// Metrics that nobody reads, for tests of something else.
    fn default() -> Self {
        Self::noop()
    }
}

impl Metrics {
    /// Registers all metrics on `registry`, with series for each of `crms`.
    ///
    /// # Errors
    /// If the registry holds one of them already.
    pub fn new(registry: &Registry, crms: &[Arc<str>]) -> Result<Self, MetricsError> {
        let make = Maker { registry };
        let outcomes = make.counters(
            "outcomes_total",
            "Outcomes committed; `crm` is `*` for those reached before any CRM.",
            &["crm", "outcome", "code"],
        )?;
        let latency = make.histograms(
            "outcome_latency_seconds",
            "From reading an event to its committed outcome.",
            &LATENCY_BUCKETS,
            &["crm"],
        )?;
        let exchanges =
            make.histograms("request_duration_seconds", "Exchanges with a CRM.", &REQUEST_BUCKETS, &["crm", "result"])?;
        let pending = make.gauges("entries_pending", "Entries read and not yet answered, parked ones apart.", "crm")?;
        let oldest_entry_age =
            make.gauges("oldest_entry_age_seconds", "Age of the oldest entry that this worker has read and the CRM has not answered, parked ones apart; 0 when none waits.", "crm")?;
        let resync_remaining = make.gauges(
            "resync_remaining_contacts",
            "On the worker that decides: contacts that a resync is still to ask for.",
            "crm",
        )?;
        let parked =
            make.gauges("contacts_parked", "Contacts that wait for a later try, after several failed.", "crm")?;
        let other_mapping = make.gauges(
            "links_of_other_mappings",
            "Contacts, of the partitions that this worker owns, that the CRM holds as other settings of its mapping made them than the configured ones; those written by a release that did not tell count, too. A changed setting rewrites nobody: `resync` does, and brings it down to those whom the CRM no longer gets.",
            "crm",
        )?;
        let waiting_for_others = make.gauges(
            "contacts_waiting_for_others",
            "Contacts in a relation to another that this CRM does not hold. They are delivered; the relation follows.",
            "crm",
        )?;
        let in_flight = make.gauges(
            "requests_in_flight",
            "Requests under way; where contacts share a call (NextInteract SAM), each contact counts.",
            "crm",
        )?;
        let in_flight_limit = make.gauges("requests_in_flight_limit", "How many may be, as the worker now judges; at most `in_flight_max`. Falling: the CRM refuses or has become slow.", "crm")?;
        let paused = make.gauges(
            "crm_paused",
            "1 while nothing is sent: its circuit is open or its connection at fault. Look at the log.",
            "crm",
        )?;
        let pause_reason = options(
            "crm_pause_reason",
            "1 while nothing is sent for this reason: `credentials` (refused: replace them where they are read from), `connection` (base URL, path or rights: run `check`), `failing` (contact after contact failed: it is probed).",
        );
        let pause_reason = make.register(IntGaugeVec::new(pause_reason, &["crm", "reason"])?)?;
        let lost = make.counters(
            "entries_lost_total",
            "Entries of the work list that were deleted before they were read. Above 0: resync that CRM.",
            &["crm"],
        )?;
        let gone = make.counters(
            "remote_contacts_gone_total",
            "Linked contacts that the CRM no longer had; see `on_gone`. Rising: somebody deletes what we keep.",
            &["crm"],
        )?;
        let adopted = make.counters(
            "contacts_adopted_total",
            "Contacts that were in the CRM before us, found there by a search or named by an operator.",
            &["crm"],
        )?;
        let shadowed = make.counters(
            "shadow_deliveries_total",
            "What would have been sent to a CRM in shadow.",
            &["crm", "operation"],
        )?;
        let consent = make.counters(
            "consent_not_expressible_total",
            "Deliveries of a contact who withdrew a consent, to a CRM that has no field for it. Above 0: tell its users.",
            &["crm"],
        )?;
        let lag =
            make.gauges("lag_records", "Records between the committed position and the end, of the `resolver` or a CRM. Of a CRM it rests at up to one per partition: the marker of the last transaction.", "consumer")?;
        let committed = make.histograms(
            "transaction_duration_seconds",
            "Transactions committed, of the `resolver` or a CRM.",
            &TRANSACTION_BUCKETS,
            &["writer"],
        )?;
        let failed = make.counters(
            "transactions_failed_total",
            "Transactions that were not, or not certainly, committed. Tried again.",
            &["writer"],
        )?;
        let dead_letters = make.counters("dead_letters_total", "Events put on the dead-letter topic.", &["code"])?;
        let ingest_requests = make.counters(
            "ingest_requests_total",
            "Requests to the HTTP ingest. `backlog` rising: the resolver cannot keep up, or the log is full.",
            &["result"],
        )?;
        let spans_lost = make.counters("spans_lost_total", "Spans that were not exported: `queue_full` (the collector is away or too slow; deliveries go on), `refused` (its address or headers are wrong, or a span is), `shutdown`.", &["reason"])?;
        let replayed_help = "Dead letters sent in again by operators, by the code that they had.";
        let replayed = make.counters("dead_letters_replayed_total", replayed_help, &["code"])?;
        let ingest_request = |result: IngestResult| (result, ingest_requests.with_label_values(&[result.as_str()]));
        let conflicts = make.counters(
            "identity_conflicts_total",
            "Pairs of contacts that share a key and were not made one, by what keeps them apart.",
            &["reason"],
        )?;
        let dropped = make.counters(
            "keys_dropped_total",
            "Values of events that were not used as keys: none, a role's, too many.",
            &["reason"],
        )?;
        let build = make.gauges("build_info", "1; the version is in the label.", "version")?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);

        let outcomes_of = |crm: &str| Outcomes {
            counted: answers()
                .map(|(kind, code)| {
                    let reason = code.map_or("none", ReasonCode::as_str);
                    ((kind, code), outcomes.with_label_values(&[crm, kind.as_str(), reason]))
                })
                .collect(),
            latency: latency.with_label_values(&[crm]),
        };
        let per_crm = |name: &Arc<str>| {
            let one = [&**name];
            let exchange = |class: StatusClass| (class, exchanges.with_label_values(&[&**name, class.as_str()]));
            let series = PerCrm {
                outcomes: outcomes_of(name),
                exchanges: StatusClass::ALL.into_iter().map(exchange).collect(),
                pending: pending.with_label_values(&one),
                oldest_entry_age: oldest_entry_age.with_label_values(&one),
                parked: parked.with_label_values(&one),
                other_mapping: other_mapping.with_label_values(&one),
                waiting_for_others: waiting_for_others.with_label_values(&one),
                resync_remaining: resync_remaining.with_label_values(&one),
                in_flight: in_flight.with_label_values(&one),
                in_flight_limit: in_flight_limit.with_label_values(&one),
                paused: paused.with_label_values(&one),
                pause_reasons: PAUSE_REASONS.map(|reason| pause_reason.with_label_values(&[&**name, reason])),
                entries_lost: lost.with_label_values(&one),
                gone: gone.with_label_values(&one),
                adopted: adopted.with_label_values(&one),
                consent_not_expressible: consent.with_label_values(&one),
                shadowed: Operation::ALL
                    .iter()
                    .map(|operation| (*operation, shadowed.with_label_values(&[&**name, operation.as_str()])))
                    .collect(),
            };
            (name.clone(), series)
        };
        let per_loop = |name: Arc<str>| {
            let one = [&*name];
            let series = PerLoop {
                lag: lag.with_label_values(&one),
                committed: committed.with_label_values(&one),
                failed: failed.with_label_values(&one),
            };
            (name, series)
        };
        let shared = Shared {
            events_read: make.counter("events_read_total", "Input events read, whatever became of them.")?,
            attributes_ignored: make.counter("attributes_ignored_total", "Attributes of events that are not known.")?,
            versions_tied: make
                .counter("versions_tied_total", "Changes with an equal version and other content than the one before: a source that orders its changes badly.")?,
            identity_conflicts: Refusal::ALL
                .iter()
                .map(|code| (*code, conflicts.with_label_values(&[code.as_str()])))
                .collect(),
            keys_dropped: DropCode::ALL
                .iter()
                .map(|code| (*code, dropped.with_label_values(&[code.as_str()])))
                .collect(),
            keys_generic: make
                .counter("keys_generic_total", "Keys that so many contacts assert that they lead nobody new to any of them.")?,
            dead_letters_replayed: OutcomeKind::Quarantined
                .codes()
                .iter()
                .map(|code| (*code, replayed.with_label_values(&[code.as_str()])))
                .collect(),
            dead_letters: OutcomeKind::Quarantined
                .codes()
                .iter()
                .map(|code| (*code, dead_letters.with_label_values(&[code.as_str()])))
                .collect(),
            input_lost: make.counters(
                "input_lost_total",
                "Input records that their topic deleted before they were read; a partition made anew or gone counts as one.",
                &["topic"],
            )?,
            fields_lost: make.counters(
                "fields_lost_total",
                "Parts of records that a CRM cannot carry, by JSON pointer.",
                &["crm", "field"],
            )?,
            resolver_active: make.gauge("resolver_active", "1 on the worker that decides who is who. Their sum should be 1.")?,
            resolver_epoch: make.gauge("resolver_epoch", "Term of the resolver; rises with each take-over.")?,
            oldest_input_age: make
                .gauge("oldest_input_age_seconds", "Age of the oldest input record among those last read; 0 when all is read, and on workers that do not decide.")?,
            versions_retention: make
                .gauge("versions_retention_seconds", "How long entries of the work list are kept: `topics.versions_retention`.")?,
            worker_ready: make
                .gauge("worker_ready", "1 while every part of the worker does its work, as `/readyz` says; which does not, that says.")?,
            view_applied: make.counter("view_applied_records_total", "Records written to the view.")?,
            view_rebuilt: make.counter("view_rebuilds_total", "Times that the view was built anew.")?,
            ingest_requests: IngestResult::ALL.into_iter().map(ingest_request).collect(),
            spans_exported: make.counter("spans_exported_total", "Spans that the collector took.")?,
            spans_lost: SpanLoss::ALL.map(|reason| spans_lost.with_label_values(&[reason.as_str()])),
            ingest_events: make.counter("ingest_events_total", "Events taken over HTTP.")?,
            ingest_backlog: make.gauge("ingest_backlog_events", "Events that wait for a decision, as the HTTP ingest last measured: when it last had a request.")?,
            before_fan_out: outcomes_of(ANY_CRM),
            crms: crms.iter().map(per_crm).collect(),
            loops: crms.iter().cloned().chain([RESOLVER.into()]).map(per_loop).collect(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Metrics that nobody reads.
    pub fn noop() -> Self {
        Self::new(&Registry::new(), &[]).expect("an empty registry takes each metric once")
    }

    /// An input event was read, whatever becomes of it.
    pub fn event_read(&self) {
        self.shared.events_read.inc();
    }

    /// Attributes of an event that this program does not know.
    pub fn attributes_ignored(&self, count: u32) {
        self.shared.attributes_ignored.inc_by(count.into());
    }

    /// A change with an equal version but other content took the place of the older one.
    pub fn version_tied(&self) {
        self.shared.versions_tied.inc();
    }

    /// Two contacts share a key and stay two.
    pub fn identity_conflict(&self, code: Refusal) {
        if let Some(counted) = self.shared.identity_conflicts.get(&code) {
            counted.inc();
        }
    }

    /// Values that an event asserts and that were not used as keys.
    pub fn keys_dropped(&self, code: DropCode, count: u32) {
        if let Some(counted) = self.shared.keys_dropped.get(&code) {
            counted.inc_by(count.into());
        }
    }

    /// So many contacts assert a key that it leads to nobody new.
    pub fn key_became_generic(&self) {
        self.shared.keys_generic.inc();
    }

    /// An outcome was committed. Counts it by CRM, kind and code, and its latency from `received_at`.
    pub fn outcome_settled(&self, outcome: &Outcome) {
        let outcomes = match self.shared.crms.get(&outcome.crm) {
            Some(crm) => &crm.outcomes,
            None if &*outcome.crm == ANY_CRM => &self.shared.before_fan_out,
            None => return,
        };
        let code = outcome.reason.as_ref().map(|reason| reason.code);
        if outcome.operation == Some(Operation::Adopt)
            && let Some(crm) = self.shared.crms.get(&outcome.crm)
        {
            crm.adopted.inc();
        }
        // A reason that this kind of outcome should not have does not hide the outcome itself.
        let counted =
            outcomes.counted.get(&(outcome.outcome, code)).or_else(|| outcomes.counted.get(&(outcome.outcome, None)));
        if let Some(counted) = counted {
            counted.inc();
        }
        let latency = outcome.settled_at.duration_since(outcome.received_at).as_secs_f64();
        outcomes.latency.observe(latency.max(0.0));
    }

    /// An event went to the dead letters.
    pub fn dead_letter(&self, code: ReasonCode) {
        if let Some(counted) = self.shared.dead_letters.get(&code) {
            counted.inc();
        }
    }

    /// An operator sent a dead letter in again.
    pub fn dead_letter_replayed(&self, code: ReasonCode) {
        if let Some(counted) = self.shared.dead_letters_replayed.get(&code) {
            counted.inc();
        }
    }

    /// One exchange with a CRM ended.
    pub fn exchange_ended(&self, crm: &str, class: StatusClass, took: Duration) {
        self.of(crm, |crm| {
            if let Some(exchanges) = crm.exchanges.get(&class) {
                exchanges.observe(took.as_secs_f64());
            }
        });
    }

    /// A part of a record that a CRM cannot carry was left out of a delivery.
    pub fn field_lost(&self, crm: &str, field: &'static str) {
        self.of(crm, |_| self.shared.fields_lost.with_label_values(&[crm, field]).inc());
    }

    /// In shadow: what would have been sent to a CRM.
    pub fn shadowed(&self, crm: &str, operation: Operation) {
        self.of(crm, |crm| {
            if let Some(shadowed) = crm.shadowed.get(&operation) {
                shadowed.inc();
            }
        });
    }

    /// A person withdrew a consent, and the CRM has no field to be told so.
    pub fn consent_not_expressible(&self, crm: &str) {
        self.of(crm, |crm| crm.consent_not_expressible.inc());
    }

    /// Entries read and not yet answered, parked ones apart.
    pub fn pending(&self, crm: &str, entries: usize) {
        self.of(crm, |crm| crm.pending.set(whole(entries)));
    }

    /// Age of the oldest entry that was read and not answered; zero if there is none.
    pub fn oldest_entry_age(&self, crm: &str, age: Duration) {
        self.of(crm, |crm| crm.oldest_entry_age.set(seconds(age)));
    }

    /// How long entries of the work list are kept.
    pub fn versions_retention(&self, retention: Duration) {
        self.shared.versions_retention.set(seconds(retention));
    }

    /// Age of the oldest input record among those last read; zero when all is read.
    pub fn oldest_input_age(&self, age: Duration) {
        self.shared.oldest_input_age.set(seconds(age));
    }

    pub fn parked(&self, crm: &str, contacts: usize) {
        self.of(crm, |crm| crm.parked.set(whole(contacts)));
    }

    /// Contacts that the CRM holds as another mapping than the configured one made them.
    pub fn links_of_other_mappings(&self, crm: &str, links: u64) {
        self.of(crm, |crm| crm.other_mapping.set(i64::try_from(links).unwrap_or(i64::MAX)));
    }

    /// Contacts that name another one, which the CRM does not hold.
    pub fn waiting_for_others(&self, crm: &str, contacts: usize) {
        self.of(crm, |crm| crm.waiting_for_others.set(whole(contacts)));
    }

    /// Contacts that a resync is still to ask for.
    pub fn resync_remaining(&self, crm: &str, contacts: u64) {
        self.of(crm, |crm| crm.resync_remaining.set(i64::try_from(contacts).unwrap_or(i64::MAX)));
    }

    /// Requests under way, and how many may be.
    pub fn in_flight(&self, crm: &str, requests: usize, limit: usize) {
        self.of(crm, |crm| {
            crm.in_flight.set(whole(requests));
            crm.in_flight_limit.set(whole(limit));
        });
    }

    pub fn crm_paused(&self, crm: &str, paused: bool) {
        self.of(crm, |crm| crm.paused.set(paused.into()));
    }

    /// Why a CRM is paused: one of a closed list; `None` if it is not.
    pub fn crm_pause_reason(&self, crm: &str, reason: Option<&'static str>) {
        self.of(crm, |crm| {
            for (name, gauge) in PAUSE_REASONS.into_iter().zip(&crm.pause_reasons) {
                gauge.set((reason == Some(name)).into());
            }
        });
    }

    /// Records between the committed position and the end of the log, by consumer (a CRM's name, or [`RESOLVER`]).
    pub fn lag(&self, consumer: &str, records: u64) {
        self.of_loop(consumer, |consumer| consumer.lag.set(i64::try_from(records).unwrap_or(i64::MAX)));
    }

    /// Entries that retention deleted before a CRM's replicator read them.
    pub fn entries_lost(&self, crm: &str, entries: u64) {
        self.of(crm, |crm| crm.entries_lost.inc_by(entries));
    }

    /// A CRM no longer had a contact that was linked, whatever was made of that.
    pub fn remote_contact_gone(&self, crm: &str) {
        self.of(crm, |crm| crm.gone.inc());
    }

    /// Input records that their topic deleted before the resolver read them.
    pub fn input_lost(&self, topic: &str, records: u64) {
        self.shared.input_lost.with_label_values(&[topic]).inc_by(records);
    }

    pub fn resolver_active(&self, active: bool) {
        self.shared.resolver_active.set(active.into());
    }

    pub fn resolver_epoch(&self, epoch: u64) {
        self.shared.resolver_epoch.set(i64::try_from(epoch).unwrap_or(i64::MAX));
    }

    /// A transaction was committed, by writer ([`RESOLVER`] or a CRM's name).
    pub fn transaction_committed(&self, writer: &str, took: Duration) {
        self.of_loop(writer, |writer| writer.committed.observe(took.as_secs_f64()));
    }

    pub fn transaction_failed(&self, writer: &str) {
        self.of_loop(writer, |writer| writer.failed.inc());
    }

    pub fn worker_ready(&self, ready: bool) {
        self.shared.worker_ready.set(ready.into());
    }

    pub fn view_applied(&self, records: usize) {
        self.shared.view_applied.inc_by(records as u64);
    }

    pub fn view_rebuilt(&self) {
        self.shared.view_rebuilt.inc();
    }

    /// Spans were taken by the collector.
    pub fn spans_exported(&self, spans: u64) {
        self.shared.spans_exported.inc_by(spans);
    }

    /// Spans will not be exported.
    pub fn spans_lost(&self, reason: SpanLoss, spans: u64) {
        self.shared.spans_lost[reason as usize].inc_by(spans);
    }

    /// A request to the HTTP ingest was answered.
    pub fn ingest_request(&self, result: IngestResult) {
        if let Some(counted) = self.shared.ingest_requests.get(&result) {
            counted.inc();
        }
    }

    /// Events of an HTTP request are in the log.
    pub fn ingest_accepted(&self, events: usize) {
        self.shared.ingest_events.inc_by(events as u64);
    }

    /// Events that wait for a decision, as the HTTP ingest last measured.
    pub fn ingest_backlog(&self, events: u64) {
        self.shared.ingest_backlog.set(i64::try_from(events).unwrap_or(i64::MAX));
    }

    fn of(&self, crm: &str, then: impl FnOnce(&PerCrm)) {
        if let Some(crm) = self.shared.crms.get(crm) {
            then(crm);
        }
    }

    fn of_loop(&self, name: &str, then: impl FnOnce(&PerLoop)) {
        if let Some(series) = self.shared.loops.get(name) {
            then(series);
        }
    }
}

/// All metrics of `registry` in Prometheus' text format.
///
/// # Errors
/// If a metric cannot be written down, which would be our fault.
pub fn render(registry: &Registry) -> Result<String, MetricsError> {
    Ok(TextEncoder::new().encode_to_string(&registry.gather())?)
}

/// The content type of what [`render`] returns.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Each outcome with each code that it may carry, and with none: what was delivered has no code, and what should have
/// one and lacks it is counted all the same.
fn answers() -> impl Iterator<Item = (OutcomeKind, Option<ReasonCode>)> {
    let with_codes =
        |kind: OutcomeKind| kind.codes().iter().copied().map(Some).chain([None]).map(move |code| (kind, code));
    OutcomeKind::ALL.iter().copied().flat_map(with_codes)
}

/// Whole seconds of what is measured in hours and days.
fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

struct Maker<'a> {
    registry: &'a Registry,
}

impl Maker<'_> {
    fn register<M: Collector + Clone + 'static>(&self, metric: M) -> Result<M, MetricsError> {
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricsError> {
        self.register(IntCounter::with_opts(options(name, help))?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricsError> {
        self.register(IntGauge::with_opts(options(name, help))?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, MetricsError> {
        self.register(IntCounterVec::new(options(name, help), labels)?)
    }

    fn gauges(&self, name: &str, help: &str, by: &str) -> Result<IntGaugeVec, MetricsError> {
        self.register(IntGaugeVec::new(options(name, help), &[by])?)
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
        labels: &[&str],
    ) -> Result<HistogramVec, MetricsError> {
        let options = HistogramOpts { common_opts: options(name, help), buckets: buckets.to_vec() };
        self.register(HistogramVec::new(options, labels)?)
    }
}

fn options(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace(PREFIX)
}

#[cfg(test)]
mod tests {
    use jiff::{SignedDuration, Timestamp};

    use super::*;
    use crate::event::Reason;

    fn outcome(crm: &str, kind: OutcomeKind, code: Option<ReasonCode>, seconds: i64) -> Outcome {
        Outcome {
            event: None,
            cause: None,
            contact_id: None,
            version: None,
            crm: crm.into(),
            outcome: kind,
            operation: None,
            remote_id: None,
            reason: code.map(Reason::from),
            attempts: 1,
            traceparent: None,
            received_at: Timestamp::UNIX_EPOCH,
            settled_at: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds),
            by_version: None,
        }
    }

    /// What one series stands at; `None` if there is none.
    fn value(registry: &Registry, series: &str) -> Option<f64> {
        let text = render(registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{PREFIX}_{series} ")))?;
        Some(line.parse().unwrap())
    }

    fn with_crm() -> (Registry, Metrics) {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry, &["priava".into()]).unwrap();
        (registry, metrics)
    }

    #[test]
    fn every_known_series_starts_at_zero() {
        let (registry, _metrics) = with_crm();
        for series in [
            "events_read_total",
            r#"outcomes_total{code="none",crm="priava",outcome="delivered"}"#,
            r#"outcomes_total{code="missing_field",crm="priava",outcome="rejected"}"#,
            r#"outcomes_total{code="not_json",crm="*",outcome="quarantined"}"#,
            r#"dead_letters_total{code="too_deep"}"#,
            r#"outcome_latency_seconds_count{crm="*"}"#,
            r#"request_duration_seconds_count{crm="priava",result="unanswered"}"#,
            r#"crm_paused{crm="priava"}"#,
            r#"crm_pause_reason{crm="priava",reason="connection"}"#,
            r#"remote_contacts_gone_total{crm="priava"}"#,
            r#"contacts_adopted_total{crm="priava"}"#,
            r#"consent_not_expressible_total{crm="priava"}"#,
            r#"lag_records{consumer="resolver"}"#,
            r#"transactions_failed_total{writer="priava"}"#,
        ] {
            assert_eq!(value(&registry, series), Some(0.0), "{series}");
        }
        let version = format!("build_info{{version=\"{}\"}}", env!("CARGO_PKG_VERSION"));
        assert_eq!(value(&registry, &version), Some(1.0));
    }

    #[test]
    fn an_outcome_counts_once_and_with_its_latency() {
        let (registry, metrics) = with_crm();
        metrics.outcome_settled(&outcome("priava", OutcomeKind::Delivered, None, 3));
        metrics.outcome_settled(&outcome("priava", OutcomeKind::Rejected, Some(ReasonCode::Gone), 3));
        metrics.outcome_settled(&outcome("*", OutcomeKind::Quarantined, Some(ReasonCode::NotJson), 0));
        for (series, expected) in [
            (r#"outcomes_total{code="none",crm="priava",outcome="delivered"}"#, 1.0),
            (r#"outcomes_total{code="gone",crm="priava",outcome="rejected"}"#, 1.0),
            (r#"outcomes_total{code="not_json",crm="*",outcome="quarantined"}"#, 1.0),
            (r#"outcome_latency_seconds_sum{crm="priava"}"#, 6.0),
            (r#"outcome_latency_seconds_bucket{crm="priava",le="2.5"}"#, 0.0),
            (r#"outcome_latency_seconds_bucket{crm="priava",le="5"}"#, 2.0),
        ] {
            assert_eq!(value(&registry, series), Some(expected), "{series}");
        }
    }

    #[test]
    fn a_clock_that_went_back_counts_as_no_latency() {
        let (registry, metrics) = with_crm();
        metrics.outcome_settled(&outcome("priava", OutcomeKind::Delivered, None, -5));
        assert_eq!(value(&registry, r#"outcome_latency_seconds_sum{crm="priava"}"#), Some(0.0));
    }

    #[test]
    fn nobody_can_add_series_for_a_crm_that_is_not_configured() {
        let (registry, metrics) = with_crm();
        let count = |registry: &Registry| render(registry).unwrap().lines().count();
        let before = count(&registry);
        metrics.outcome_settled(&outcome("other", OutcomeKind::Delivered, None, 1));
        metrics.exchange_ended("other", StatusClass::Success, Duration::from_secs(1));
        metrics.field_lost("other", "/notes");
        metrics.lag("other", 1);
        metrics.transaction_failed("other");
        assert_eq!(count(&registry), before);
    }

    #[test]
    fn each_report_reaches_its_metric() {
        let (registry, metrics) = with_crm();
        metrics.event_read();
        metrics.attributes_ignored(2);
        metrics.version_tied();
        metrics.dead_letter(ReasonCode::TooDeep);
        metrics.exchange_ended("priava", StatusClass::Throttled, Duration::from_secs(2));
        metrics.field_lost("priava", "/notes");
        metrics.consent_not_expressible("priava");
        metrics.shadowed("priava", Operation::Create);
        metrics.pending("priava", 3);
        metrics.parked("priava", 4);
        metrics.waiting_for_others("priava", 14);
        metrics.oldest_entry_age("priava", Duration::from_secs(11));
        metrics.oldest_input_age(Duration::from_secs(12));
        metrics.versions_retention(Duration::from_secs(13));
        metrics.resync_remaining("priava", 6);
        metrics.in_flight("priava", 5, 8);
        metrics.crm_paused("priava", true);
        metrics.crm_pause_reason("priava", Some("credentials"));
        metrics.lag("priava", 6);
        metrics.lag(RESOLVER, u64::MAX);
        metrics.entries_lost("priava", 7);
        metrics.remote_contact_gone("priava");
        let adopted = outcome("priava", OutcomeKind::Delivered, None, 1);
        metrics.outcome_settled(&Outcome { operation: Some(Operation::Adopt), ..adopted });
        metrics.input_lost("contact-changes", 10);
        metrics.resolver_active(true);
        metrics.resolver_epoch(8);
        metrics.transaction_committed(RESOLVER, Duration::from_millis(3));
        metrics.transaction_failed("priava");
        metrics.view_applied(9);
        metrics.view_rebuilt();
        metrics.worker_ready(true);
        for (series, expected) in [
            ("events_read_total", 1.0),
            ("attributes_ignored_total", 2.0),
            ("versions_tied_total", 1.0),
            (r#"dead_letters_total{code="too_deep"}"#, 1.0),
            (r#"request_duration_seconds_sum{crm="priava",result="throttled"}"#, 2.0),
            (r#"fields_lost_total{crm="priava",field="/notes"}"#, 1.0),
            (r#"entries_pending{crm="priava"}"#, 3.0),
            (r#"contacts_parked{crm="priava"}"#, 4.0),
            (r#"contacts_waiting_for_others{crm="priava"}"#, 14.0),
            (r#"oldest_entry_age_seconds{crm="priava"}"#, 11.0),
            ("oldest_input_age_seconds", 12.0),
            ("versions_retention_seconds", 13.0),
            (r#"resync_remaining_contacts{crm="priava"}"#, 6.0),
            (r#"requests_in_flight{crm="priava"}"#, 5.0),
            (r#"requests_in_flight_limit{crm="priava"}"#, 8.0),
            (r#"crm_paused{crm="priava"}"#, 1.0),
            (r#"crm_pause_reason{crm="priava",reason="credentials"}"#, 1.0),
            (r#"crm_pause_reason{crm="priava",reason="failing"}"#, 0.0),
            (r#"lag_records{consumer="priava"}"#, 6.0),
            (r#"lag_records{consumer="resolver"}"#, i64::MAX as f64),
            (r#"entries_lost_total{crm="priava"}"#, 7.0),
            (r#"remote_contacts_gone_total{crm="priava"}"#, 1.0),
            (r#"contacts_adopted_total{crm="priava"}"#, 1.0),
            (r#"consent_not_expressible_total{crm="priava"}"#, 1.0),
            (r#"shadow_deliveries_total{crm="priava",operation="create"}"#, 1.0),
            (r#"input_lost_total{topic="contact-changes"}"#, 10.0),
            ("resolver_active", 1.0),
            ("resolver_epoch", 8.0),
            (r#"transaction_duration_seconds_bucket{writer="resolver",le="0.005"}"#, 1.0),
            (r#"transactions_failed_total{writer="priava"}"#, 1.0),
            ("view_applied_records_total", 9.0),
            ("view_rebuilds_total", 1.0),
            ("worker_ready", 1.0),
        ] {
            assert_eq!(value(&registry, series), Some(expected), "{series}");
        }
    }

    #[test]
    fn one_registry_takes_the_metrics_once() {
        let (registry, _metrics) = with_crm();
        assert!(Metrics::new(&registry, &[]).is_err());
    }
}
