//! The promises, held against the log's folder, the CRMs' books, and what the senders were answered.
//!
//! What the demo checks is checked by the same words; what the senders know comes on top.

use std::time::Duration;

use contact_replicator::{
    cli::demo::{
        checks::{self, Checked},
        evidence::Evidence,
    },
    event::{Outcome, OutcomeKind},
};

use crate::load::Sent;

/// What is told of a run beside the verdict.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) seed: u64,
    pub(crate) kills: usize,
    pub(crate) compacting: bool,
    pub(crate) took: Duration,
    /// From the last kill until all had settled.
    pub(crate) settling: Duration,
    /// Times until workers were ready, in order of length.
    pub(crate) ready: Vec<Duration>,
}

/// Judges by all checks. `complete` says that no record was compacted away; without that, the content of requests cannot
/// be told for versions that nobody has any more.
#[track_caller]
pub(crate) fn assert_promises(told: &Told, evidence: &Evidence, sent: &Sent, complete: bool) {
    let mut checked = checks::all(evidence);
    checked.retain(|checked| complete || checked.name != "order_per_contact");
    checked.insert(0, checks::everything_accepted_is_in_the_log(evidence, sent));
    checked.insert(1, checks::what_was_sent_again_counts_once(evidence));

    let Told { seed, kills, compacting, took, settling, ready } = told;
    let events = sent.len();
    let resent = sent.values().filter(|sending| sending.times_sent > 1).count();
    let twice = evidence.inputs.len().saturating_sub(events);
    eprintln!(
        "seed {seed}: {kills} kills in {took:.1?}, settled {settling:.1?} after the last, compacting {compacting}"
    );
    eprintln!("  {events} events accepted, {resent} of them sent again, {twice} of these twice in the log");
    if let [least, .., most] = ready.as_slice() {
        let median = ready[ready.len() / 2];
        eprintln!("  {} times ready after {least:.2?} to {most:.2?}, median {median:.2?}", ready.len());
    }
    for crm in &evidence.crms {
        let writes = crm.calls.iter().filter(|call| call.effect.is_some()).count();
        let ended = |outcome: &&Outcome| outcome.crm == crm.name && outcome.outcome == OutcomeKind::Delivered;
        let delivered = evidence.outcomes.iter().filter(ended).count();
        let (calls, repeats) = (crm.calls.len(), writes.saturating_sub(delivered));
        eprintln!(
            "  {}: {calls} calls, {writes} writes for {delivered} delivered versions, {repeats} repeats",
            crm.name
        );
    }
    for Checked { name, ok, detail } in &checked {
        eprintln!("  {} {name}: {detail}", if *ok { "holds " } else { "BROKEN" });
    }
    let broken: Vec<&str> = checked.iter().filter(|checked| !checked.ok).map(|checked| checked.name).collect();
    assert!(broken.is_empty(), "seed {seed}: broken: {broken:?}");
}
