//! What the processes say, count and leave behind: held against the topics, or simply as it should be.

use std::{collections::BTreeMap, sync::Arc};

use contact_replicator::cli::demo::{
    checks::{Checked, Findings},
    evidence::Evidence,
};
use regex::Regex;
use serde_json::Value;

use super::{Known, Terms};
use crate::history::{Act, History, What};

/// A process of a worker.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) worker: Arc<str>,
    pub(crate) ended: Ended,
    /// All that it wrote to standard error.
    pub(crate) lines: Vec<String>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was asked to, and ended with this code; `None` if a signal ended it all the same.
    Asked {
        code: Option<i32>,
    },
    Killed,
    /// By itself.
    Unasked {
        code: Option<i32>,
    },
}

/// How many outcomes there are, by CRM, outcome and code, as the metrics name them.
pub(crate) type Counted = BTreeMap<(String, String, String), u64>;

/// The code of an outcome that has no reason, as the metrics name it.
const NO_CODE: &str = "none";
/// What the runtime says of a panic.
const PANICKED: &str = "panicked at";

/// All was well again before the deadline, and all that was still to come has come.
pub(super) fn everything_settled(history: &History, known: &Known) -> Checked {
    let mut findings = Findings::of("everything_settled");
    findings.ensure(history.healed.is_some(), || "the faults were never over".to_owned());
    for missing in &known.unsettled {
        findings.fault(missing);
    }
    findings.verdict("nothing was missing at the deadline")
}

/// What the workers say that they committed is what is on the topic. A process that was killed takes its figures along, so
/// where one was, nothing can be said; and where a worker could not know whether a commit came about, it may count less.
pub(super) fn metrics_equal_the_outcomes(evidence: &Evidence, history: &History, known: &Known) -> Checked {
    let mut findings = Findings::of("metrics_equal_the_outcomes");
    let killed = history.acts.iter().any(|act| matches!(act.what, What::Killed { .. }));
    let lost = known.processes.iter().any(|process| !matches!(process.ended, Ended::Asked { .. }));
    if killed || lost {
        return findings.verdict("a process was lost, and its figures with it");
    }
    let Some(counted) = &known.counted else {
        findings.fault("no process was lost, and yet the workers' figures are not known");
        return findings.verdict("");
    };
    let may_be_unknown = history.acts.iter().any(|act| {
        matches!(
            act.what,
            What::BrokerRestarted
                | What::BrokerKilled
                | What::BrokerCut { .. }
                | What::CommitCut { .. }
                | What::Frozen { .. }
        )
    });
    let mut published = Counted::new();
    for outcome in &evidence.outcomes {
        let code = outcome.reason.as_ref().map_or_else(|| NO_CODE.to_owned(), |reason| reason.code.to_string());
        *published.entry((outcome.crm.to_string(), outcome.outcome.to_string(), code)).or_default() += 1;
    }
    let mut uncounted = 0;
    for (kind, number) in &published {
        let told = counted.get(kind).copied().unwrap_or(0);
        let short = number.saturating_sub(told);
        uncounted += short;
        let (crm, outcome, code) = kind;
        findings.ensure(told == *number || (told < *number && may_be_unknown), || {
            format!("{told} outcomes of {crm}, {outcome}, {code} were counted, and {number} published")
        });
    }
    for ((crm, outcome, code), told) in
        counted.iter().filter(|(kind, told)| **told > 0 && !published.contains_key(kind))
    {
        findings.fault(format!("{told} outcomes of {crm}, {outcome}, {code} were counted, and none published"));
    }
    findings.ensure(!published.is_empty(), || "no outcomes to judge".to_owned());
    let outcomes = evidence.outcomes.len();
    findings.verdict(format!("{outcomes} outcomes, {uncounted} of them of commits whose end no worker knew"))
}

/// A view that was built anew says what the one says that grew with the run.
pub(super) fn a_view_built_anew_is_the_same(known: &Known) -> Checked {
    let mut findings = Findings::of("a_view_built_anew_is_the_same");
    let Some([grown, built]) = &known.digests else {
        return findings.verdict("no view was built anew to compare");
    };
    findings.ensure(!grown.is_empty(), || "a view has no digest".to_owned());
    findings.ensure(grown == built, || format!("the view that grew is {grown}, the one built anew {built}"));
    findings.verdict(format!("both are {grown}"))
}

/// How a worker ends that had to leave work to the next one.
const LEFT_WORK: i32 = 4;

/// Whether a worker that was asked to stop could not reach its brokers all the time.
fn was_cut_off(worker: &Arc<str>, history: &History) -> bool {
    let stop = |act: &&Act| matches!(&act.what, What::Stopped { worker: stopped } if stopped == worker);
    let cuts_off = |act: &Act| match &act.what {
        What::BrokerRestarted | What::BrokerKilled => true,
        What::BrokerCut { worker: whose }
        | What::CommitCut { worker: whose }
        | What::BrokerDelayed { worker: whose, .. }
        | What::Frozen { worker: whose } => whose == worker,
        _ => false,
    };
    history.acts.iter().filter(stop).any(|stop| {
        let meanwhile = |act: &&Act| act.from <= stop.until && stop.from <= act.until;
        history.acts.iter().filter(meanwhile).any(cuts_off)
    })
}

/// Each process ended when it was asked to, with 0, or was killed; none by itself, and none panicked. One that was cut off
/// from its brokers meanwhile may have said that it leaves work to the next one.
pub(super) fn workers_end_when_asked(known: &Known, history: &History) -> Checked {
    let mut findings = Findings::of("workers_end_when_asked");
    findings.ensure(!known.processes.is_empty(), || "no processes to judge".to_owned());
    let mut asked = 0_usize;
    for Process { worker, ended, lines } in &known.processes {
        match ended {
            Ended::Asked { code: Some(0) } => asked += 1,
            Ended::Asked { code: Some(LEFT_WORK) } if was_cut_off(worker, history) => asked += 1,
            Ended::Killed => {}
            Ended::Asked { code } => findings.fault(format!("{worker} was asked to stop, and ended with {code:?}")),
            Ended::Unasked { code } => findings.fault(format!("{worker} ended by itself, with {code:?}")),
        }
        let panics = lines.iter().filter(|line| line.contains(PANICKED)).count();
        findings.ensure(panics == 0, || format!("{worker} panicked {panics} times"));
    }
    findings.verdict(format!("{} processes, {asked} of them asked to stop", known.processes.len()))
}

/// Digits that a telephone number has at least; shorter values may be anything.
const DIGITS_MIN: usize = 7;

/// Whether a text can only be somebody's: a mailbox or a telephone number.
fn is_telling(text: &str) -> bool {
    text.contains('@') || text.chars().filter(char::is_ascii_digit).count() >= DIGITS_MIN
}

fn telling_texts<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) if is_telling(text) => found.push(text),
        Value::Array(items) => items.iter().for_each(|item| telling_texts(item, found)),
        Value::Object(members) => members.values().for_each(|member| telling_texts(member, found)),
        _ => {}
    }
}

/// The mailboxes, their domains, and the telephone numbers of all contacts that ever were. Of dates, pictures and the like
/// nothing is asked: a line may well hold the same by chance.
fn values(evidence: &Evidence) -> Vec<&str> {
    let mut found = Vec::new();
    for document in evidence.records.iter().filter_map(|record| record.contact.as_ref()) {
        for attribute in ["emails", "phoneNumbers"] {
            if let Some(value) = document.members().get(attribute) {
                telling_texts(value, &mut found);
            }
        }
    }
    let domains: Vec<&str> = found.iter().filter_map(|text| text.find('@').and_then(|at| text.get(at..))).collect();
    found.extend(domains);
    found.sort_unstable();
    found.dedup();
    found
}

/// Lines are for people: few, and never about a contact's values.
pub(super) fn lines_are_few_and_tell_nothing(evidence: &Evidence, known: &Known, terms: &Terms) -> Checked {
    let mut findings = Findings::of("lines_are_few_and_tell_nothing");
    let values = values(evidence);
    findings.ensure(!values.is_empty(), || "no contact has a value that could be found".to_owned());
    let lines: usize = known.processes.iter().map(|process| process.lines.len()).sum();
    findings.ensure(lines > 0, || "no lines to judge".to_owned());
    let any = values.iter().map(|value| regex::escape(value)).collect::<Vec<_>>().join("|");
    match Regex::new(&any) {
        Err(error) => findings.fault(format!("the values of the contacts cannot be searched for: {error}")),
        Ok(telling) => {
            for Process { worker, lines, .. } in &known.processes {
                let found = lines.iter().filter(|line| telling.is_match(line)).count();
                findings.ensure(found == 0, || format!("{worker} has {found} lines with a value of a contact"));
            }
        }
    }
    for Process { worker, lines, .. } in &known.processes {
        findings.ensure(lines.len() <= terms.lines_max, || format!("{worker} has {} lines", lines.len()));
    }
    findings.verdict(format!("{lines} lines, and none of {} values in them", values.len()))
}
