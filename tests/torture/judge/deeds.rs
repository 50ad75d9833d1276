//! Who sent a call, and what was being done to them then.
//!
//! A CRM calls an answer answered once its bytes have left. Whether the worker ever saw it is known only by what was done
//! to the worker: one that was killed, frozen or cut off meanwhile may not have. The benefit of the doubt goes no further
//! than that: without such a deed at that time, an answer counts as heard.
//!
//! A worker that was frozen for longer than its session lasts has been replaced. Its successor waits for one request
//! deadline before it writes, so only what lands later than that may undo what the successor did: such a call is that of
//! one deposed.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use contact_replicator::cli::demo::{
    checks::Sender,
    evidence::{Call, CrmEvidence},
};
use jiff::Timestamp;

use super::Terms;
use crate::history::{Act, History, What};

/// What processes on one machine may differ by when they say what time it is: they round, and look a moment later.
const CLOCKS: Duration = Duration::from_millis(50);
/// A worker that runs again may take this long until it knows what it missed.
const AWAKENING: Duration = Duration::from_secs(1);
/// The broker may have heard of a worker this long before it was frozen.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A worker's deadline begins when it takes a request in hand, which is this long before the CRM has it, at most.
const ON_ITS_WAY: Duration = Duration::from_millis(500);

/// What a deed does, as far as the judge cares.
struct Kind<'a> {
    /// To whom alone, if not to all.
    worker: Option<&'a Arc<str>>,
    /// Answers may not be heard, or be of no use any more.
    deafens: bool,
    /// What was done may be done again.
    repeats: bool,
}

fn kind(what: &What) -> Kind<'_> {
    let kind = |worker, deafens, repeats| Kind { worker, deafens, repeats };
    match what {
        What::Killed { worker } | What::Frozen { worker } => kind(Some(worker), true, true),
        What::BrokerCut { worker } | What::CommitCut { worker } | What::CrmCut { worker } => {
            kind(Some(worker), true, true)
        }
        What::Started { worker }
        | What::Stopped { worker }
        | What::ViewDeleted { worker }
        | What::ViewTorn { worker }
        | What::BrokerDelayed { worker, .. } => kind(Some(worker), false, false),
        // A commit whose end is not known may have failed.
        What::BrokerRestarted | What::BrokerKilled => kind(None, false, true),
        // The CRM's books tell whose answers were lost.
        What::AnswersLost { .. } => kind(None, false, true),
        What::CrmDown { .. } | What::CrmThrottled { .. } => kind(None, false, false),
    }
}

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    pub(crate) from: Timestamp,
    pub(crate) until: Timestamp,
}

impl Stretch {
    fn meets(self, from: Timestamp, until: Timestamp) -> bool {
        self.from <= until && from <= self.until
    }
}

/// The history, in a form in which it can be asked.
pub(crate) struct Deeds<'a> {
    terms: &'a Terms,
    acts: &'a [Act],
    by_worker: HashMap<&'a str, Vec<&'a Act>>,
    /// By peer, in the order of their beginning.
    lines: HashMap<SocketAddr, Vec<(Timestamp, &'a str)>>,
}

impl<'a> Deeds<'a> {
    pub(crate) fn of(history: &'a History, terms: &'a Terms) -> Self {
        let mut by_worker: HashMap<&str, Vec<&Act>> = HashMap::new();
        for act in &history.acts {
            if let Some(worker) = kind(&act.what).worker {
                by_worker.entry(worker).or_default().push(act);
            }
        }
        let mut lines: HashMap<SocketAddr, Vec<(Timestamp, &str)>> = HashMap::new();
        for line in &history.lines {
            lines.entry(line.peer).or_default().push((line.from, &line.worker));
        }
        lines.values_mut().for_each(|lines| lines.sort_by_key(|(from, _)| *from));
        Self { terms, acts: &history.acts, by_worker, lines }
    }

    /// The worker that sent the call. A port may be used again, by another.
    pub(crate) fn sender(&self, call: &Call) -> Option<&'a str> {
        let lines = self.lines.get(&call.peer?)?;
        let begun = lines.partition_point(|(from, _)| *from <= call.arrived_at + CLOCKS);
        Some(lines.get(begun.checked_sub(1)?)?.1)
    }

    fn done_to(&self, worker: Option<&str>) -> &[&'a Act] {
        worker.and_then(|worker| self.by_worker.get(worker)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn standing(&self, _: &CrmEvidence, call: &Call) -> Sender {
        let deadline = self.terms.request_deadline;
        let took = call.ended.map_or(deadline, |ended| ended.saturating_sub(call.arrived));
        let (arrived, ended) = (call.arrived_at, call.arrived_at + took);
        let done = self.done_to(self.sender(call));
        let deposed = done.iter().filter(|act| matches!(act.what, What::Frozen { .. })).any(|act| {
            let replaced = act.until >= act.from + self.terms.session_timeout.saturating_sub(HEARTBEAT);
            let while_frozen = act.from <= arrived + CLOCKS && arrived <= act.until + AWAKENING;
            replaced && while_frozen && ended >= act.from + deadline
        });
        if deposed {
            return Sender::Deposed;
        }
        let deaf = done
            .iter()
            .filter(|act| kind(&act.what).deafens)
            .any(|act| stretch(act).meets(arrived - CLOCKS, ended + CLOCKS));
        if deaf || !call.answered || took + ON_ITS_WAY >= deadline { Sender::Unheard } else { Sender::Heard }
    }

    /// Whether the process that sent `call` had been given the answer `refusal`.
    pub(crate) fn knew(&self, crm: &CrmEvidence, refusal: &Call, call: &Call) -> bool {
        let (refused, sender) = (self.sender(refusal), self.sender(call));
        let between = Stretch { from: refusal.arrived_at, until: call.arrived_at };
        let same_process = !self
            .done_to(sender)
            .iter()
            .any(|act| matches!(act.what, What::Started { .. }) && between.meets(act.from, act.from));
        let heard = self.standing(crm, refusal) == Sender::Heard;
        refused == sender && same_process && heard && self.standing(crm, call) != Sender::Deposed
    }

    /// Whether something was done between these two that may have what was done before done again.
    pub(crate) fn may_repeat(&self, from: Timestamp, until: Timestamp) -> bool {
        let mut repeating = self.acts.iter().filter(|act| kind(&act.what).repeats);
        repeating.any(|act| self.with_aftermath(act).meets(from, until))
    }

    /// Whether somebody who began something at that time may not have come to say so.
    pub(crate) fn may_silence(&self, at: Timestamp) -> bool {
        let mut silencing =
            self.acts.iter().filter(|act| kind(&act.what).repeats || matches!(act.what, What::Stopped { .. }));
        silencing.any(|act| stretch(act).meets(at - AWAKENING, at + AWAKENING))
    }

    /// Whether anything was done at all that may have something done again.
    pub(crate) fn may_repeat_at_all(&self) -> bool {
        self.acts.iter().any(|act| kind(&act.what).repeats)
    }

    /// Whether outcomes may have been written again, the first time without a commit. Also while workers come and go without any
    /// fault: the group refuses what was sent under the generation before, and the same results are committed under the next.
    pub(crate) fn may_write_again(&self) -> bool {
        let starts = || self.acts.iter().filter(|act| matches!(act.what, What::Started { .. }));
        let ready = starts().map(|act| act.until).min();
        let comes = starts().any(|act| ready.is_some_and(|ready| act.from > ready));
        let goes = self.acts.iter().any(|act| matches!(act.what, What::Stopped { .. }));
        comes || goes || self.may_repeat_at_all()
    }

    fn with_aftermath(&self, act: &Act) -> Stretch {
        Stretch { from: act.from, until: act.until + self.terms.aftermath }
    }

    /// When a CRM was down, which one, and nothing else was done or could still show.
    pub(crate) fn down_alone(&self) -> Vec<(&'a Arc<str>, Stretch)> {
        let mut alone = Vec::new();
        for (index, act) in self.acts.iter().enumerate() {
            let What::CrmDown { crm } = &act.what else { continue };
            let mut calm = vec![stretch(act)];
            for (other, disturbance) in self.acts.iter().enumerate() {
                let same = matches!(&disturbance.what, What::CrmDown { crm: also } if also == crm);
                if other != index && !same {
                    let disturbed = self.with_aftermath(disturbance);
                    calm = calm.into_iter().flat_map(|calm| without(calm, disturbed)).collect();
                }
            }
            alone.extend(calm.into_iter().map(|calm| (crm, calm)));
        }
        alone
    }
}

fn stretch(act: &Act) -> Stretch {
    Stretch { from: act.from, until: act.until }
}

/// What of `calm` is before and after `disturbed`.
fn without(calm: Stretch, disturbed: Stretch) -> impl Iterator<Item = Stretch> {
    let parts = if disturbed.meets(calm.from, calm.until) {
        let before = Stretch { until: disturbed.from.min(calm.until), ..calm };
        let after = Stretch { from: disturbed.until.max(calm.from), ..calm };
        [Some(before), Some(after)]
    } else {
        [Some(calm), None]
    };
    parts.into_iter().flatten().filter(|part| part.from < part.until)
}
