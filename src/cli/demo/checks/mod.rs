//! The promises of this program, as checks over what a run left behind.
//!
//! Each check is one function from [`Evidence`] to [`Checked`] and pure, so that the demo, the simulated tests and the
//! tests against a real broker judge by the same words. [`answers`] judges what the topics say, [`crm`] what the CRMs
//! say, against the topics. Some need to be told more: [`senders`], whether those who called heard the answers, [`sent`],
//! what was sent to the input topics, and [`people`], who the people are. A check that has nothing to judge by (a CRM's log
//! that dropped requests, bodies that were not kept) fails: silence is no proof.
//!
//! What a check says names ids, versions and positions, never a value of a contact.

mod answers;
mod crm;
mod people;
mod senders;
mod sent;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::Serialize;

pub use self::{
    answers::{
        contact_ids_and_versions_rise_by_one, every_entry_has_one_outcome_per_crm, every_input_is_accounted_for,
        every_quarantined_event_is_a_dead_letter_byte_for_byte, everything_published_can_be_read,
        superseded_points_forward, unsettled,
    },
    crm::{
        calls_per_event, calls_per_event_but, every_contact_in_the_crm_has_one_link,
        every_contact_in_the_crm_has_one_link_but, no_delivered_version_published_as_unchanged,
        no_duplicate_contact_in_the_crm, no_duplicate_contact_in_the_crm_by, nothing_before_retry_after,
        nothing_before_retry_after_by, one_request_in_flight_per_contact, one_request_in_flight_per_contact_by,
        order_per_contact, order_per_contact_by, repeated_calls, the_crm_equals_the_records,
        the_crm_equals_the_records_by,
    },
    people::{Persons, every_person_is_one_contact},
    senders::{Left, Leftover, Sender, Senders, as_the_crm_says},
    sent::{EventName, Sending, everything_accepted_is_in_the_log, name_of, what_was_sent_again_counts_once},
};
use super::evidence::Evidence;
use crate::{
    contact::{ContactId, ContactRecord, Version},
    event::{EventRef, Outcome},
    log::{Offset, Partition, Record},
};

/// The verdict of one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    #[serde(skip)]
    pub name: &'static str,
    pub ok: bool,
    /// What was judged, or the first faults.
    pub detail: String,
}

/// All checks, in the order in which a reader would ask.
pub const ALL: &[fn(&Evidence) -> Checked] = &[
    every_input_is_accounted_for,
    every_entry_has_one_outcome_per_crm,
    superseded_points_forward,
    contact_ids_and_versions_rise_by_one,
    every_quarantined_event_is_a_dead_letter_byte_for_byte,
    everything_published_can_be_read,
    the_crm_equals_the_records,
    no_duplicate_contact_in_the_crm,
    every_contact_in_the_crm_has_one_link,
    no_delivered_version_published_as_unchanged,
    order_per_contact,
    one_request_in_flight_per_contact,
    nothing_before_retry_after,
    calls_per_event,
];

/// Runs every check that needs nothing but the evidence.
pub fn all(evidence: &Evidence) -> Vec<Checked> {
    ALL.iter().map(|check| check(evidence)).collect()
}

/// Faults that a check names; more are only counted.
const FAULTS_TOLD_MAX: usize = 5;

/// Collects what is wrong.
#[derive(Debug)]
pub struct Findings {
    name: &'static str,
    faults: usize,
    told: Vec<String>,
}

impl Findings {
    /// Nothing so far, of the check `name`.
    pub fn of(name: &'static str) -> Self {
        Self { name, faults: 0, told: Vec::new() }
    }

    /// Something is wrong.
    pub fn fault(&mut self, fault: impl fmt::Display) {
        self.faults += 1;
        if self.told.len() < FAULTS_TOLD_MAX {
            self.told.push(fault.to_string());
        }
    }

    /// `fault` is wrong unless `holds`.
    pub fn ensure(&mut self, holds: bool, fault: impl FnOnce() -> String) {
        if !holds {
            self.fault(fault());
        }
    }

    /// The verdict; `judged` is what to say if all is well.
    pub fn verdict(self, judged: impl fmt::Display) -> Checked {
        let detail = if self.faults == 0 {
            judged.to_string()
        } else {
            let more = self.faults - self.told.len();
            let more = if more > 0 { format!("; and {more} more") } else { String::new() };
            format!("{}{more}", self.told.join("; "))
        };
        Checked { name: self.name, ok: self.faults == 0, detail }
    }
}

/// The place of an event.
type Place = (Arc<str>, Partition, Offset);

fn place(event: &EventRef) -> Place {
    (Arc::clone(&event.topic), event.partition, event.offset)
}

fn place_of(record: &Record) -> Place {
    (record.at.topic.clone(), record.at.partition, record.offset)
}

fn at((topic, partition, offset): &Place) -> String {
    format!("{topic}[{partition}]@{offset}")
}

/// The outcomes of versions of contacts in one CRM, those of what operators asked apart; of several for one version, the last one read.
fn by_version<'a>(evidence: &'a Evidence, crm: &str) -> BTreeMap<(ContactId, Version), &'a Outcome> {
    let of_crm = evidence.outcomes.iter().filter(|outcome| &*outcome.crm == crm && !outcome.is_asked());
    of_crm.filter_map(|outcome| Some(((outcome.contact_id?, outcome.version?), outcome))).collect()
}

/// The newest record of each contact.
fn newest(evidence: &Evidence) -> BTreeMap<ContactId, &ContactRecord> {
    let mut newest: BTreeMap<ContactId, &ContactRecord> = BTreeMap::new();
    for record in &evidence.records {
        let known = newest.entry(record.contact_id).or_insert(record);
        if record.version >= known.version {
            *known = record;
        }
    }
    newest
}
