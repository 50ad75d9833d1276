//! What the CRMs' books say of many workers, beyond what the checks of the demo ask.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use contact_replicator::{
    cli::demo::{
        checks::{self, Checked, Findings, Left, Leftover, Sender},
        evidence::Evidence,
    },
    config::CrmKind,
    event::{Entry, Outcome, ReasonCode, entry::CauseKind},
    log::{Offset, Partition},
    sandbox::Action,
};
use jiff::{SignedDuration, Timestamp};

use super::{Known, Terms, deeds::Deeds};

/// Each call came over a line of a worker: without that, nobody can be held to anything.
pub(super) fn every_call_has_a_sender(evidence: &Evidence, deeds: &Deeds<'_>) -> Checked {
    let mut findings = Findings::of("every_call_has_a_sender");
    let mut senders = BTreeSet::new();
    let mut judged = 0_usize;
    for crm in &evidence.crms {
        for call in &crm.calls {
            judged += 1;
            match deeds.sender(call) {
                Some(sender) => drop(senders.insert(sender)),
                None => findings.fault(format!("nobody knows who sent {call:?} to {}", crm.name)),
            }
        }
    }
    findings.ensure(judged > 0, || "no calls to judge".to_owned());
    findings.verdict(format!("{judged} calls of {} workers", senders.len()))
}

/// What was left by a worker that had been replaced, and has been sent again since, is as it should be.
pub(super) fn what_was_left_is_mended(left: &[Leftover], known: &Known) -> Checked {
    let mut findings = Findings::of("what_was_left_is_mended");
    if known.mended {
        for Leftover { contact, crm, call, .. } in left.iter().filter(|left| left.what == Left::Differs) {
            findings.fault(format!("{contact} in {crm} is still as call {call} left it"));
        }
    }
    findings.verdict(match (left.len(), known.mended) {
        (0, _) => "nothing was left behind".to_owned(),
        (left, false) => format!("{left} contacts are to be mended"),
        (left, true) => format!("all are mended but {left} that are there twice"),
    })
}

/// How often the most repeated of the CRMs was called again.
pub(super) fn repeats_max(evidence: &Evidence) -> usize {
    let of_crm = |crm| checks::repeated_calls(evidence, crm).values().sum();
    evidence.crms.iter().map(of_crm).max().unwrap_or(0)
}

/// Outcomes that are there more than once.
pub(super) fn repeated_outcomes(ids: &[String]) -> usize {
    ids.len() - ids.iter().collect::<HashSet<_>>().len()
}

/// A contact is sent again what a CRM has taken only if a worker was killed, frozen or cut off before that was settled, or
/// an answer did not come in time; and only then, or while workers come and go, is an outcome written twice, for those who also read what was never
/// committed.
pub(super) fn repeats_only_where_disturbed(evidence: &Evidence, deeds: &Deeds<'_>, known: &Known) -> Checked {
    let mut findings = Findings::of("repeats_only_where_disturbed");
    findings.ensure(!evidence.crms.is_empty(), || "no CRM to judge".to_owned());
    let mut repeats = 0_usize;
    for crm in &evidence.crms {
        let repeated = checks::repeated_calls(evidence, crm);
        let mut lasted: BTreeMap<&str, (Timestamp, Timestamp)> = BTreeMap::new();
        let mut unheard: BTreeMap<&str, usize> = BTreeMap::new();
        for call in crm.calls.iter().filter(|call| call.was_accepted() && !call.is_read()) {
            if let Some(contact) = &call.external_id {
                lasted.entry(contact).or_insert((call.arrived_at, call.arrived_at)).1 = call.arrived_at;
                *unheard.entry(contact).or_default() += usize::from(deeds.standing(crm, call) != Sender::Heard);
            }
        }
        // What was sent and not committed may be superseded by a version of which nothing is sent.
        let of_crm = evidence.outcomes.iter().filter(|outcome| outcome.crm == crm.name);
        for (contact, settled) in of_crm.filter_map(|outcome| Some((outcome.contact_id?.key(), outcome.settled_at))) {
            if let Some((_, until)) = lasted.get_mut(contact.as_str()) {
                *until = settled.max(*until);
            }
        }
        for (contact, times) in repeated {
            repeats += times;
            let disturbed = lasted.get(contact).is_some_and(|(from, until)| deeds.may_repeat(*from, *until));
            let unheard = unheard.get(contact).copied().unwrap_or(0);
            findings.ensure(disturbed || times <= unheard, || {
                let name = &crm.name;
                format!("{contact} was sent to {name} {times} times more than needed, undisturbed, {unheard} unheard")
            });
        }
    }
    let outcomes = repeated_outcomes(&known.uncommitted);
    let told = known.uncommitted.len();
    findings.ensure(told >= evidence.outcomes.len(), || {
        format!("{told} outcomes were read with those uncommitted, and {} without", evidence.outcomes.len())
    });
    findings.ensure(outcomes == 0 || deeds.may_write_again(), || {
        format!("{outcomes} outcomes were written again, undisturbed")
    });
    findings.verdict(format!("{repeats} calls and {outcomes} uncommitted outcomes repeated"))
}

/// Where our reference can be planted and found, a contact whose create may have landed is found again, so none stops because
/// it cannot be told which it is. CRM.COM cannot be searched by our reference: there, and there only, a contact may stop so
/// instead of being there twice, and only if nobody heard the answer to a create of it.
pub(super) fn ambiguous_only_where_no_reference_is_found(evidence: &Evidence, deeds: &Deeds<'_>) -> Checked {
    let mut findings = Findings::of("ambiguous_only_where_no_reference_is_found");
    findings.ensure(!evidence.crms.is_empty(), || "no CRM to judge".to_owned());
    let mut stopped = BTreeSet::new();
    for crm in &evidence.crms {
        let is_ambiguous = |outcome: &&Outcome| {
            outcome.reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::AmbiguousMatch)
        };
        let of_crm = evidence.outcomes.iter().filter(|outcome| outcome.crm == crm.name).filter(is_ambiguous);
        for contact in of_crm.filter_map(|outcome| outcome.contact_id).collect::<BTreeSet<_>>() {
            let key = contact.key();
            let mut creates = crm
                .calls
                .iter()
                .filter(|call| call.action == Action::Create && call.external_id.as_ref() == Some(&key));
            let searchable = crm.expectation.kind() != CrmKind::CrmCom;
            findings.ensure(!searchable, || format!("{contact} is ambiguous in {}", crm.name));
            let unheard = creates.any(|call| !call.was_accepted() || deeds.standing(crm, call) != Sender::Heard);
            findings.ensure(searchable || unheard, || {
                format!("{contact} is ambiguous in {}, though no create of it went unheard", crm.name)
            });
            stopped.insert(contact);
        }
    }
    findings.verdict(format!("{} contacts stopped", stopped.len()))
}

type Place<'a> = (&'a str, Partition, Offset);

/// Whether every CRM has to answer it.
fn is_for_all(entry: &Entry) -> bool {
    entry.cause.as_ref().is_none_or(|cause| cause.kind == CauseKind::Merge)
}

/// While one CRM is down, and nothing else was done to anybody for some time, outcomes of the others go on: there is no
/// stretch of silence in which something that came in waited longer than allowed.
pub(super) fn a_crm_that_is_down_delays_only_itself(evidence: &Evidence, deeds: &Deeds<'_>, terms: &Terms) -> Checked {
    let mut findings = Findings::of("a_crm_that_is_down_delays_only_itself");
    let decided: HashSet<Place<'_>> = evidence
        .entries
        .iter()
        .filter(|entry| is_for_all(entry))
        .filter_map(|entry| entry.event.as_ref())
        .map(|event| (&*event.topic, event.partition, event.offset))
        .collect();
    // By the clock of who wrote them, so that a resolver that stands still is seen, too.
    let inputs = evidence.inputs.iter();
    let inputs = inputs.filter(|record| decided.contains(&(&*record.at.topic, record.at.partition, record.offset)));
    let mut came: Vec<Timestamp> = inputs.map(|record| record.timestamp).collect();
    came.sort_unstable();
    let (mut judged, mut seconds, mut longest) = (0_usize, 0.0, SignedDuration::ZERO);
    for (down, calm) in deeds.down_alone() {
        for crm in evidence.crms.iter().filter(|crm| crm.name != *down) {
            let outcomes = evidence.outcomes.iter().filter(|outcome| outcome.crm == crm.name);
            let mut settled: Vec<Timestamp> = outcomes
                .map(|outcome| outcome.settled_at)
                .filter(|at| calm.from <= *at && *at <= calm.until)
                .chain([calm.from, calm.until])
                .collect();
            settled.sort_unstable();
            seconds += calm.until.duration_since(calm.from).as_secs_f64();
            for (from, until) in settled.iter().copied().zip(settled.iter().copied().skip(1)) {
                let first = came.get(came.partition_point(|at| *at < from)).filter(|at| **at < until);
                let Some(waited) = first.map(|first| until.duration_since(*first)) else { continue };
                judged += 1;
                longest = longest.max(waited);
                findings.ensure(waited.unsigned_abs() <= terms.silence_max, || {
                    format!("{} was silent for {waited:#} from {from} on, while {down} was down", crm.name)
                });
            }
        }
    }
    findings.ensure(seconds == 0.0 || judged > 0, || "nothing came in while a CRM was down".to_owned());
    findings.verdict(if seconds == 0.0 {
        "no CRM was down while nothing else was wrong".to_owned()
    } else {
        format!("{seconds:.0} s with a CRM down and nothing else wrong, at most {longest:#} of silence")
    })
}
