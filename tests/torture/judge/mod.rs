//! The judge: whether what a run left behind is what was promised, given what was done to the installation.
//!
//! It is told what was done ([`History`]), what was found (the evidence that all other tests judge by, and what is [`Known`]
//! beside it), and from when on something counts ([`Terms`]). It looks at nothing itself, so the same run may be judged again.
//! What the demo promises is judged by the same checks, with what [`deeds`] knows of who could hear an answer; what only
//! shows with several workers on a real broker is here: [`crms`] from the CRMs' books, [`terms_of_office`] from the
//! resolver's topics, [`workers`] from the processes. [`figures`] are what is counted and not judged.
//!
//! Whatever cannot be judged because there is nothing to judge by is a failure. What does not apply to a run at all says so.
//!
//! The judge is tested in a target of its own, `tests/torture_judge.rs`: the torture command has no test harness, and is
//! built for a broker alone; those tests need none, and run wherever the others do.

mod crms;
pub(crate) mod deeds;
pub(crate) mod figures;
mod terms_of_office;
mod workers;

use std::{collections::BTreeMap, time::Duration};

use contact_replicator::{
    cli::demo::{
        checks::{self, Checked, EventName, Leftover, Sending},
        evidence::Evidence,
    },
    log::Record,
};

use self::deeds::Deeds;
pub(crate) use self::workers::{Counted, Ended, Process};
use crate::history::History;

/// From when on something counts, as the workers were set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// After this long a worker gives up on a request.
    pub(crate) request_deadline: Duration,
    /// A worker that the broker does not hear of for this long is replaced.
    pub(crate) session_timeout: Duration,
    /// For this long after something was done, its consequences may show.
    pub(crate) aftermath: Duration,
    /// The longest time without outcomes of a CRM that is well, while another is down and there is input.
    pub(crate) silence_max: Duration,
    /// More lines than this of one process are a flood.
    pub(crate) lines_max: usize,
}

/// What is known of a run beside its evidence and its history.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// What was sent to the input topics.
    pub(crate) sent: BTreeMap<EventName, Sending>,
    /// Every committed record of `contact-records`, `contact-versions` and `contact-keys`, in the order of its partition.
    pub(crate) decided: Vec<Record>,
    /// The same of `contact-resolver`.
    pub(crate) state: Vec<Record>,
    /// Ids of all outcomes that readers of uncommitted data see.
    pub(crate) uncommitted: Vec<String>,
    /// Every process of a worker that ever was, in the order of their starts.
    pub(crate) processes: Vec<Process>,
    /// What the workers say they committed, each as it ended when it was asked to; `None` if one did not say.
    pub(crate) counted: Option<Counted>,
    /// Of a view that grew with the run, and of one that was built anew; `None` if none was.
    pub(crate) digests: Option<[String; 2]>,
    /// What had not settled at the deadline.
    pub(crate) unsettled: Vec<String>,
    /// Whether the contacts in [`Verdict::left`] have been sent again since: from then on nothing may differ.
    pub(crate) mended: bool,
}

/// What the judge says.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) checked: Vec<Checked>,
    /// What workers that had been replaced while they were frozen left in the CRMs: no fault, but to be mended.
    pub(crate) left: Vec<Leftover>,
}

/// What workers that had been replaced left in the CRMs.
pub(crate) fn left(evidence: &Evidence, history: &History, terms: &Terms) -> Vec<Leftover> {
    of_the_crms(evidence, &Deeds::of(history, terms)).2
}

/// Whether the CRMs hold what the records say, and each contact once, but for what is returned beside.
fn of_the_crms(evidence: &Evidence, deeds: &Deeds<'_>) -> (Checked, Checked, Vec<Leftover>) {
    let standing = |crm: &_, call: &_| deeds.standing(crm, call);
    let (equal, differing) = checks::the_crm_equals_the_records_by(evidence, &standing);
    let (single, duplicates) = checks::no_duplicate_contact_in_the_crm_by(evidence, &standing);
    let mut left = [differing, duplicates].concat();
    left.sort_unstable();
    left.dedup();
    (equal, single, left)
}

/// Judges a run by every invariant, in the order in which a reader would ask.
pub(crate) fn all(evidence: &Evidence, history: &History, known: &Known, terms: &Terms) -> Verdict {
    let deeds = Deeds::of(history, terms);
    let standing = |crm: &_, call: &_| deeds.standing(crm, call);
    let (equal, single, left) = of_the_crms(evidence, &deeds);
    let checked = vec![
        // No change is lost, and each counts once.
        checks::everything_accepted_is_in_the_log(evidence, &known.sent),
        checks::every_input_is_accounted_for(evidence),
        checks::what_was_sent_again_counts_once(evidence),
        checks::every_entry_has_one_outcome_per_crm(evidence),
        checks::superseded_points_forward(evidence),
        checks::contact_ids_and_versions_rise_by_one(evidence),
        checks::every_quarantined_event_is_a_dead_letter_byte_for_byte(evidence),
        checks::everything_published_can_be_read(evidence),
        workers::everything_settled(history, known),
        // The CRMs are what the records say.
        equal,
        crms::what_was_left_is_mended(&left, known),
        single,
        crms::ambiguous_only_where_no_reference_is_found(evidence, &deeds),
        checks::every_contact_in_the_crm_has_one_link_but(evidence, &left),
        checks::no_delivered_version_published_as_unchanged(evidence),
        // They were asked in order, by one at a time, and with patience.
        crms::every_call_has_a_sender(evidence, &deeds),
        checks::order_per_contact_by(evidence, &standing),
        checks::one_request_in_flight_per_contact_by(evidence, &standing),
        checks::nothing_before_retry_after_by(evidence, |crm, refusal, call| deeds.knew(crm, refusal, call)),
        crms::repeats_only_where_disturbed(evidence, &deeds, known),
        checks::calls_per_event_but(evidence, crms::repeats_max(evidence)),
        crms::a_crm_that_is_down_delays_only_itself(evidence, &deeds, terms),
        // One decides at a time.
        terms_of_office::one_resolver_at_a_time(known),
        terms_of_office::each_term_has_one_worker(known, &deeds),
        // The processes are in order.
        workers::metrics_equal_the_outcomes(evidence, history, known),
        workers::a_view_built_anew_is_the_same(known),
        workers::workers_end_when_asked(known, history),
        workers::lines_are_few_and_tell_nothing(evidence, known, terms),
    ];
    Verdict { checked, left }
}
