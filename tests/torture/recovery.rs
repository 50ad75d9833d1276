//! How long it took until others had taken over, beside the bound of each.
//!
//! All of it is told from outside: decisions by the time at which the work list has them and the term that they carry, calls
//! by the CRMs' books and the lines that they came over. A bound that was passed is told and breaks nothing: a run has other
//! faults at the same time, and what else went on stands beside each.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use contact_replicator::{
    cli::demo::evidence::{Call, CrmEvidence},
    event::Entry,
    log::{Partition, Record, partition_of},
};
use jiff::Timestamp;

use crate::{
    history::{Act, History, Line, What},
    settings::SESSION_TIMEOUT,
    world::{Departure, REQUEST_DEADLINE},
};

/// A worker that has not asked a CRM anything about a partition for this long may have lost it.
const OWNED_WITHIN: Duration = Duration::from_secs(5);

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Measure {
    /// From the farewell of the resolver to the first decision of another.
    FailoverAfterStop,
    /// The same after its death.
    FailoverAfterCrash,
    /// From the death of a worker to the first request of another about a contact of one of its partitions.
    TakeoverAfterCrash,
    /// The same after its farewell.
    TakeoverAfterStop,
    /// From the start of a worker to its first request.
    StartToFirstRequest,
    /// From the moment at which a worker with very many contacts was given partitions to its first request.
    AssignedToFirstRequest,
    /// The same where it has to build its view first.
    AssignedWithoutView,
}

impl Measure {
    fn bound(self) -> Option<Duration> {
        let seconds = Duration::from_secs;
        match self {
            Self::FailoverAfterStop => Some(seconds(2)),
            Self::FailoverAfterCrash => Some(SESSION_TIMEOUT + seconds(3)),
            Self::TakeoverAfterCrash => Some(SESSION_TIMEOUT + REQUEST_DEADLINE + seconds(5)),
            Self::AssignedToFirstRequest => Some(seconds(5)),
            Self::TakeoverAfterStop | Self::StartToFirstRequest | Self::AssignedWithoutView => None,
        }
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FailoverAfterStop => "resolver, after a stop",
            Self::FailoverAfterCrash => "resolver, after a crash",
            Self::TakeoverAfterCrash => "partitions, after a crash",
            Self::TakeoverAfterStop => "partitions, after a stop",
            Self::StartToFirstRequest => "start to first request",
            Self::AssignedToFirstRequest => "assigned to first request",
            Self::AssignedWithoutView => "the same, view lost",
        })
    }
}

/// One time that something was taken over.
#[derive(Debug, Clone)]
struct Recovery {
    measure: Measure,
    took: Duration,
    /// Whether anything else was done to the installation meanwhile.
    disturbed: bool,
}

/// All that was measured in a run.
#[derive(Default)]
pub(crate) struct Recoveries(Vec<Recovery>);

impl Recoveries {
    /// Adds what nothing else disturbed.
    pub(crate) fn note(&mut self, measure: Measure, took: Duration) {
        self.0.push(Recovery { measure, took, disturbed: false });
    }

    /// Whether a bound was passed though nothing else was done.
    pub(crate) fn pass(&self) -> bool {
        let passed = |one: &Recovery| !one.disturbed && one.measure.bound().is_some_and(|bound| one.took > bound);
        self.0.iter().any(passed)
    }

    /// `decided`: every committed record of what resolvers decide.
    pub(crate) fn of(
        departures: &[Departure],
        decided: &[Record],
        crms: &[CrmEvidence],
        history: &History,
        partitions: u32,
    ) -> Self {
        let senders = Senders::new(&history.lines);
        let mut found = Vec::new();
        let mut note = |measure: Measure, from: Timestamp, until: Timestamp, of: &str| {
            let took = between(from, until);
            let disturbed = history.acts.iter().any(|act| disturbs(act, from, until, of));
            found.push(Recovery { measure, took, disturbed });
        };
        let terms = terms(decided);
        for departure in departures {
            let (crashes, at, worker) = (departure.crashes, departure.at, &departure.worker);
            let measure = if crashes { Measure::FailoverAfterCrash } else { Measure::FailoverAfterStop };
            let next = terms.iter().find(|(_, begun)| *begun > at);
            if let (true, Some((_, begun))) = (departure.resolves, next) {
                note(measure, at, *begun, worker);
            }
            let measure = if crashes { Measure::TakeoverAfterCrash } else { Measure::TakeoverAfterStop };
            for crm in crms {
                for until in takeovers(crm, departure, &senders, partitions) {
                    note(measure, at, until, worker);
                }
            }
        }
        for act in &history.acts {
            let What::Started { worker } = &act.what else { continue };
            let calls = crms.iter().flat_map(|crm| &crm.calls);
            let own = calls
                .filter(|call| senders.of(call).is_some_and(|line| line.worker == *worker && line.from >= act.from));
            if let Some(first) = own.map(|call| call.arrived_at).min() {
                note(Measure::StartToFirstRequest, act.from, first, worker);
            }
        }
        Self(found)
    }
}

/// The first decision of each term, by the time at which its topic has it.
fn terms(decided: &[Record]) -> Vec<(u64, Timestamp)> {
    let mut begun: BTreeMap<u64, Timestamp> = BTreeMap::new();
    for record in decided {
        let Ok(entry) = Entry::decode(record.value.as_deref().unwrap_or_default()) else { continue };
        let first = begun.entry(entry.epoch).or_insert(record.timestamp);
        *first = (*first).min(record.timestamp);
    }
    begun.into_iter().collect()
}

/// When somebody else first asked something about a contact of each partition that the departed owned.
fn takeovers(crm: &CrmEvidence, departed: &Departure, senders: &Senders<'_>, partitions: u32) -> Vec<Timestamp> {
    let mut owned: BTreeMap<Partition, bool> = BTreeMap::new();
    let mut taken: BTreeMap<Partition, Timestamp> = BTreeMap::new();
    for call in &crm.calls {
        let (Some(contact), Some(line)) = (&call.external_id, senders.of(call)) else { continue };
        let partition = partition_of(contact.as_bytes(), partitions);
        let own = line.worker == departed.worker && line.from <= departed.at;
        if call.arrived_at <= departed.at {
            if between(call.arrived_at, departed.at) <= OWNED_WITHIN {
                owned.insert(partition, own);
            }
        } else if !own && owned.get(&partition) == Some(&true) {
            taken.entry(partition).or_insert(call.arrived_at);
        }
    }
    taken.into_values().collect()
}

/// How many partitions of the CRM each worker asked last about, of those that anybody asked about since `from`.
pub(crate) fn shares(
    crm: &CrmEvidence,
    history: &History,
    from: Timestamp,
    partitions: u32,
) -> BTreeMap<Arc<str>, usize> {
    let senders = Senders::new(&history.lines);
    let mut last: BTreeMap<Partition, Arc<str>> = BTreeMap::new();
    for call in crm.calls.iter().filter(|call| call.arrived_at >= from) {
        if let (Some(contact), Some(line)) = (&call.external_id, senders.of(call)) {
            last.insert(partition_of(contact.as_bytes(), partitions), Arc::clone(&line.worker));
        }
    }
    let mut shares = BTreeMap::new();
    for worker in last.into_values() {
        *shares.entry(worker).or_default() += 1;
    }
    shares
}

/// Whose a call was, by the line that it came over.
struct Senders<'a>(HashMap<SocketAddr, Vec<&'a Line>>);

impl<'a> Senders<'a> {
    fn new(lines: &'a [Line]) -> Self {
        let mut by_peer: HashMap<SocketAddr, Vec<&Line>> = HashMap::new();
        for line in lines {
            by_peer.entry(line.peer).or_default().push(line);
        }
        Self(by_peer)
    }

    /// A port may have been used several times: the last line that was there by then.
    fn of(&self, call: &Call) -> Option<&'a Line> {
        self.0.get(&call.peer?)?.iter().rfind(|line| line.from <= call.arrived_at).copied()
    }
}

pub(crate) fn between(from: Timestamp, until: Timestamp) -> Duration {
    until.duration_since(from).try_into().unwrap_or_default()
}

/// Whether an act has to do with how long others take, given who went.
fn disturbs(act: &Act, from: Timestamp, until: Timestamp, departed: &str) -> bool {
    let (worker, matters) = match &act.what {
        What::Started { worker } | What::Stopped { worker } | What::Killed { worker } => (Some(worker), true),
        What::Frozen { worker }
        | What::BrokerCut { worker }
        | What::CommitCut { worker }
        | What::BrokerDelayed { worker, .. }
        | What::CrmCut { worker } => (Some(worker), true),
        What::BrokerRestarted | What::BrokerKilled | What::CrmDown { .. } | What::CrmThrottled { .. } => (None, true),
        What::AnswersLost { .. } => (None, true),
        What::ViewDeleted { .. } | What::ViewTorn { .. } => (None, false),
    };
    let overlaps = act.from <= until && from <= act.until;
    matters && overlaps && worker.is_none_or(|worker| **worker != *departed)
}

impl fmt::Display for Recoveries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  {:<28}{:>6}{:>10}{:>10}{:>14}{:>10}",
            "taken over", "times", "median", "longest", "undisturbed", "bound"
        )?;
        let mut by_measure: BTreeMap<Measure, Vec<&Recovery>> = BTreeMap::new();
        for recovery in &self.0 {
            by_measure.entry(recovery.measure).or_default().push(recovery);
        }
        for (measure, mut recoveries) in by_measure {
            recoveries.sort_by_key(|recovery| recovery.took);
            let told =
                |took: Option<Duration>| took.map_or("-".to_owned(), |took| format!("{:.2} s", took.as_secs_f64()));
            let longest = recoveries.last().map(|recovery| recovery.took);
            let median = recoveries.get(recoveries.len() / 2).map(|recovery| recovery.took);
            let undisturbed =
                recoveries.iter().rev().find(|recovery| !recovery.disturbed).map(|recovery| recovery.took);
            let passed = |took: Option<Duration>| measure.bound().zip(took).is_some_and(|(bound, took)| took > bound);
            let remark = match (passed(undisturbed), passed(longest)) {
                (true, _) => "  passed",
                (false, true) => "  passed, where something else went on",
                (false, false) => "",
            };
            writeln!(
                f,
                "  {:<28}{:>6}{:>10}{:>10}{:>14}{:>10}{remark}",
                measure.to_string(),
                recoveries.len(),
                told(median),
                told(longest),
                told(undisturbed),
                told(measure.bound()),
            )?;
        }
        Ok(())
    }
}
