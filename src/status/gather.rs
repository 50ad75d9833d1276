//! Makes the answer of what the parts say, what was counted, and what the log tells.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use tokio::time::{Instant, timeout};

use super::{
    Build, CrmFacts, CrmState, CrmStatus, FORMAT, InputStatus, LOOK_AGE_MAX, LastError, Limits, NotReady, Parts, Pause,
    ResolverStatus, Role, Shown, ViewStatus, WorkerStatus,
    rates::{Base, Counts, CrmCounts},
};
use crate::{
    config::{CrmKind, LogKind},
    log::{LogError, Partition, TopicPartition},
    metrics::OfCrm,
    replicator::{self, gate::PauseReason},
    resolver,
    view::{FORMAT_OF_VIEW, Wake},
};

/// How long the log may take to say how far it goes. Somebody waits for the page.
const LOOK_DEADLINE: std::time::Duration = std::time::Duration::from_secs(2);

/// What the log said of its ends.
#[derive(Debug, Clone, Default)]
pub(super) struct Look {
    at: Option<Instant>,
    /// By input topic; of one that does not exist there is nothing.
    undecided: BTreeMap<Arc<str>, u64>,
    /// Records that the view has not seen.
    short: Option<u64>,
    problem: Option<String>,
}

impl Shown {
    /// What is counted now.
    pub(super) fn counts(&self) -> Counts {
        let metrics = &self.worker.metrics;
        let crms = self.parts.get().into_iter().flat_map(|parts| &parts.crms);
        let of = |crm: &CrmFacts| {
            let OfCrm { requests, outcomes, .. } = metrics.of_crm(&crm.name).unwrap_or_default();
            (crm.name.clone(), CrmCounts { requests, outcomes })
        };
        Counts { decisions: metrics.decisions(), crms: crms.map(of).collect() }
    }

    pub(super) async fn status(&self, missing: Vec<(Arc<str>, String)>) -> WorkerStatus {
        let worker = &self.worker;
        let look = match self.parts.get() {
            Some(parts) => self.look(parts).await,
            None => Look::default(),
        };
        let now = Moment { instant: Instant::now(), wall: worker.clock.now() };
        let samples = self.samples.lock();
        let base = samples.base(now.instant);
        let parts = self.parts.get();
        WorkerStatus {
            format: FORMAT,
            worker: worker.worker.clone(),
            instance: worker.instance.clone(),
            build: Build {
                version: env!("CARGO_PKG_VERSION").into(),
                commit: option_env!("CONTACT_REPLICATOR_COMMIT").map(Arc::from),
            },
            started_at: worker.started_at,
            told_at: now.wall,
            log: match worker.log {
                LogKind::Kafka => "kafka".into(),
                LogKind::Local => "local".into(),
            },
            ready: missing.is_empty(),
            not_ready: missing.into_iter().map(|(part, why)| NotReady { part, why }).collect(),
            rates_over_seconds: base.map(|base| base.span.as_secs()),
            resolver: parts.map(|parts| self.resolver(parts, &look, base)),
            view: parts.map(|parts| ViewStatus {
                short_records: look.short,
                bytes: parts.view.bytes_on_disk().ok(),
                format: FORMAT_OF_VIEW,
            }),
            crms: parts
                .into_iter()
                .flat_map(|parts| parts.crms.iter().map(|crm| self.crm(crm, parts, now, base)))
                .collect(),
            log_problem: look.problem,
        }
    }

    fn resolver(&self, parts: &Parts, look: &Look, base: Option<Base<'_>>) -> ResolverStatus {
        let status = *parts.resolver.borrow();
        // A view that cannot be read is told of by the part that needs it.
        let last = resolver::last_term(&parts.view).ok().flatten();
        let (term, holder) = match (status.active, last) {
            (true, _) => (status.epoch, Some(self.worker.worker.clone())),
            (false, last) => (last.as_ref().map(|last| last.epoch), last.and_then(|last| last.worker)),
        };
        let input =
            |topic: &Arc<str>| InputStatus { topic: topic.clone(), undecided: look.undecided.get(topic).copied() };
        ResolverStatus {
            role: if status.active { Role::Active } else { Role::Standby },
            holder,
            term,
            inputs: parts.inputs.iter().map(input).collect(),
            oldest_input_seconds: status.active.then(|| self.worker.metrics.oldest_input_age_seconds()),
            decisions_per_second: base.map(|base| base.decisions(self.worker.metrics.decisions())),
        }
    }

    fn crm(&self, facts: &CrmFacts, parts: &Parts, now: Moment, base: Option<Base<'_>>) -> CrmStatus {
        let CrmFacts { name, kind, shadow, requests_per_second, in_flight_max, status } = facts;
        let status = status.borrow().clone();
        let counted = self.worker.metrics.of_crm(name).unwrap_or_default();
        let pause = status.paused.map(|reason| Pause {
            reason: reason.as_str().into(),
            since: status.paused_since.map_or(now.wall, |since| now.wall_of(since)),
            next_probe: status.probe_at.map(|at| now.wall_of(at)),
            remedy: remedy(reason).to_owned(),
        });
        let limited = (*requests_per_second > 0.0).then_some(*requests_per_second);
        CrmStatus {
            crm: name.clone(),
            kind: kind_name(*kind).into(),
            state: match (&pause, shadow) {
                (Some(_), _) => CrmState::Paused,
                (None, true) => CrmState::Shadow,
                (None, false) => CrmState::Live,
            },
            pause,
            partitions_working: status.working as u64,
            partitions_all: parts.partitions,
            pending: counted.pending,
            oldest_pending_seconds: counted.oldest_entry_age_seconds,
            lag_records: counted.lag,
            in_flight: counted.in_flight,
            requests_per_second: base.map(|base| base.requests(name, counted.requests)),
            outcomes_per_second: base.map(|base| base.outcomes(name, &counted.outcomes)).unwrap_or_default(),
            outcomes: counted.outcomes,
            parked: counted.parked,
            next_parked_due: next_due(parts, name, &status.owned),
            waiting_for_others: counted.waiting_for_others,
            links_of_other_mappings: counted.links_of_other_mappings,
            entries_lost: counted.entries_lost,
            limits: Limits {
                requests_per_second: limited,
                requests_per_second_share: limited
                    .map(|rate| replicator::share(rate, status.owned.len(), parts.partitions)),
                in_flight_limit: counted.in_flight_limit,
                in_flight_max: *in_flight_max as u64,
            },
            last_error: status.last_failure.map(|last| LastError {
                class: last.class.as_str().into(),
                http_status: last.http_status,
                crm_code: last.crm_code,
                at: last.at,
            }),
            partitions: status.owned,
        }
    }

    /// What the log says, as of lately.
    async fn look(&self, parts: &Parts) -> Look {
        let mut look = self.look.lock().await;
        if let Some(look) = &*look
            && look.at.is_some_and(|at| at.elapsed() < LOOK_AGE_MAX)
        {
            return look.clone();
        }
        let looked = timeout(LOOK_DEADLINE, ends(parts)).await;
        let (undecided, short, problem) = match looked {
            Ok(Ok((undecided, short))) => (undecided, Some(short), None),
            Ok(Err(error)) => (BTreeMap::new(), None, Some(error.to_string())),
            Err(_elapsed) => {
                (BTreeMap::new(), None, Some(format!("the log did not answer within {} s", LOOK_DEADLINE.as_secs())))
            }
        };
        look.insert(Look { at: Some(Instant::now()), undecided, short, problem }).clone()
    }
}

/// Undecided input by topic, and what the view has not seen of who the contacts are. One question after the other: what is left
/// unanswered by a log that is away stays one.
async fn ends(parts: &Parts) -> Result<(BTreeMap<Arc<str>, u64>, u64), LogError> {
    let Parts { log, view, topics, partitions, inputs, .. } = parts;
    let mut undecided = BTreeMap::new();
    for topic in inputs {
        let Some(partitions) = log.partitions(topic).await? else { continue };
        let mut sum = 0_u64;
        for at in (0..partitions).map(|partition| TopicPartition::new(topic.clone(), partition)) {
            let bounds = log.watermarks(&at).await?;
            let decided = resolver::decided(view, &at).ok().flatten();
            let next = decided.unwrap_or(bounds.low).max(bounds.low);
            sum = sum.saturating_add(bounds.high.saturating_sub(next));
        }
        undecided.insert(topic.clone(), sum);
    }
    let mut short = 0_u64;
    for (topic, partitions) in [(&topics.keys, *partitions), (&topics.records, *partitions), (&topics.resolver, 1)] {
        for at in (0..partitions).map(|partition| TopicPartition::new(topic.clone(), partition)) {
            let end = log.watermarks(&at).await?.high;
            short = short.saturating_add(end.saturating_sub(view.position(&at).unwrap_or(0)));
        }
    }
    Ok((undecided, short))
}

/// When the first of the parked contacts of these partitions is tried again.
fn next_due(parts: &Parts, crm: &str, owned: &[Partition]) -> Option<Timestamp> {
    let first = |partition: &Partition| {
        let due = parts.view.due(Wake::Parked, crm, *partition, None, 1).ok()?;
        due.first().map(|(due, _)| *due)
    };
    owned.iter().filter_map(first).min()
}

/// One moment, by both clocks.
#[derive(Debug, Clone, Copy)]
struct Moment {
    instant: Instant,
    wall: Timestamp,
}

impl Moment {
    /// The time of day of an instant, to the millisecond.
    fn wall_of(&self, at: Instant) -> Timestamp {
        let ahead = SignedDuration::try_from(at.saturating_duration_since(self.instant)).unwrap_or(SignedDuration::MAX);
        let ago = SignedDuration::try_from(self.instant.saturating_duration_since(at)).unwrap_or(SignedDuration::MAX);
        let wall = self.wall.saturating_add(ahead).and_then(|wall| wall.saturating_sub(ago)).unwrap_or(self.wall);
        Timestamp::from_millisecond(wall.as_millisecond()).unwrap_or(wall)
    }
}

fn remedy(reason: PauseReason) -> &'static str {
    match reason {
        PauseReason::Failing => {
            "see what is wrong with the CRM, or on the way to it; it is probed, and goes on by itself once it answers"
        }
        PauseReason::Credentials => {
            "replace the credential where the settings say it is read from; a file is read again at the next probe, a variable at \
             the next start"
        }
        PauseReason::Connection => {
            "correct base URL, path or rights, or ask who administers the CRM; `check` tells what can be reached. It is probed, \
             and goes on by itself once it is let in"
        }
        PauseReason::Operator => {
            "`pause --status` tells who wanted it so, and why; `resume` ends it, and nothing else does"
        }
    }
}

fn kind_name(kind: CrmKind) -> &'static str {
    match kind {
        CrmKind::Priava => "priava",
        CrmKind::Previsto => "previsto",
        CrmKind::CrmCom => "crm_com",
        CrmKind::Logisense => "logisense",
        CrmKind::NextinteractSam => "nextinteract_sam",
    }
}
