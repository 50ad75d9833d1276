//! What a run comes to in figures, for the table: counted, and not judged.

use std::{collections::BTreeSet, sync::Arc};

use contact_replicator::{
    cli::demo::{
        checks::{self, Sender},
        evidence::{CrmEvidence, Evidence},
    },
    event::{Outcome, OutcomeKind},
};

use super::{Known, Terms, crms::repeated_outcomes, deeds::Deeds};
use crate::history::History;

/// A run in figures.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figures {
    /// Records of the input topics.
    pub(crate) events: usize,
    /// Of them, those that raised a version.
    pub(crate) entries: usize,
    pub(crate) contacts: usize,
    pub(crate) outcomes: usize,
    /// Outcomes whose id was there before: for readers of what is committed, which never happens, and for all others.
    pub(crate) outcomes_repeated: usize,
    pub(crate) outcomes_repeated_uncommitted: usize,
    pub(crate) crms: Vec<OfCrm>,
}

/// What one CRM had of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct OfCrm {
    pub(crate) name: Arc<str>,
    pub(crate) calls: usize,
    pub(crate) calls_per_event: f64,
    /// Calls that only ask; in `calls`, too.
    pub(crate) look_ups: usize,
    /// Calls beyond those that delivered versions and failures account for.
    pub(crate) calls_repeated: usize,
    /// Calls whose answer their sender may not have heard, and those of a sender that had been replaced.
    pub(crate) calls_unheard: usize,
    pub(crate) calls_deposed: usize,
    /// Shares of the outcomes.
    pub(crate) superseded: f64,
    pub(crate) unchanged: f64,
}

/// The share of `part`, none of nothing.
fn share(part: usize, of: usize) -> f64 {
    part as f64 / of.max(1) as f64
}

pub(crate) fn figures(evidence: &Evidence, history: &History, known: &Known, terms: &Terms) -> Figures {
    let deeds = Deeds::of(history, terms);
    let ids: Vec<String> = evidence.outcomes.iter().map(Outcome::id).collect();
    let contacts: BTreeSet<_> = evidence.records.iter().map(|record| record.contact_id).collect();
    Figures {
        events: evidence.inputs.len(),
        entries: evidence.entries.len(),
        contacts: contacts.len(),
        outcomes: evidence.outcomes.len(),
        outcomes_repeated: repeated_outcomes(&ids),
        outcomes_repeated_uncommitted: repeated_outcomes(&known.uncommitted),
        crms: evidence.crms.iter().map(|crm| of_crm(evidence, crm, &deeds)).collect(),
    }
}

fn of_crm(evidence: &Evidence, crm: &CrmEvidence, deeds: &Deeds<'_>) -> OfCrm {
    let outcomes: Vec<&Outcome> = evidence.outcomes.iter().filter(|outcome| outcome.crm == crm.name).collect();
    let ended_as = |kind| outcomes.iter().filter(|outcome| outcome.outcome == kind).count();
    let standing = |wanted| crm.calls.iter().filter(|call| deeds.standing(crm, call) == wanted).count();
    OfCrm {
        name: Arc::clone(&crm.name),
        calls: crm.calls.len(),
        calls_per_event: share(crm.calls.len(), evidence.inputs.len()),
        look_ups: crm.calls.iter().filter(|call| call.is_read()).count(),
        calls_repeated: checks::repeated_calls(evidence, crm).values().sum(),
        calls_unheard: standing(Sender::Unheard),
        calls_deposed: standing(Sender::Deposed),
        superseded: share(ended_as(OutcomeKind::Superseded), outcomes.len()),
        unchanged: share(ended_as(OutcomeKind::Unchanged), outcomes.len()),
    }
}
