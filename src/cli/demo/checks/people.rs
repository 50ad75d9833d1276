//! Whether those whom sources speak of came out as the people they are.
//!
//! The generator knows who is who; the program knows mailboxes and ids of sources. A person may have several contacts one
//! after the other, when all sources delete them and one has them again, but never two that live at one time.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{Checked, Findings, newest};
use crate::{
    cli::demo::{
        evidence::Evidence,
        generator::{Known, People, Told},
    },
    contact::{ContactId, ContactRecord, record::Status},
};

/// How people came out, in figures.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Persons {
    /// Those that some source still has.
    pub live: usize,
    /// Of them, those that are one contact, whole and alone.
    pub found: usize,
    /// Of them, those that more than one source has.
    pub of_several_sources: usize,
    /// Contacts that live.
    pub contacts: usize,
    /// Contacts that are, or once were, more than one person.
    pub joined_wrongly: usize,
    /// People who are more than one contact.
    pub split: usize,
    /// Contacts of sources that are in no contact.
    pub missing: usize,
}

fn live_members(record: &ContactRecord) -> impl Iterator<Item = Known> {
    let live = record.members.iter().filter(|member| member.state.live);
    live.map(|member| (member.source.to_string(), member.subject.to_string()))
}

/// Each person that a source still has is one contact, made of all that the sources have of them and of nothing else.
pub fn every_person_is_one_contact(evidence: &Evidence, people: &People) -> (Checked, Persons) {
    let mut findings = Findings::of("every_person_is_one_contact");
    findings.ensure(!people.known.is_empty(), || "nobody to judge".to_owned());
    let mut persons = Persons::default();

    let mut mixed: BTreeSet<ContactId> = BTreeSet::new();
    for record in &evidence.records {
        let whose: BTreeSet<_> =
            live_members(record).map(|known| people.known.get(&known).map(|told| told.person)).collect();
        if whose.len() > 1 && mixed.insert(record.contact_id) {
            findings.fault(format!("{} joins {} people in version {}", record.contact_id, whose.len(), record.version));
        }
    }

    let mut contact_of: BTreeMap<Known, ContactId> = BTreeMap::new();
    for (contact, record) in newest(evidence) {
        if record.status != Status::Live {
            continue;
        }
        persons.contacts += 1;
        for known in live_members(record) {
            let is_live = people.known.get(&known).is_some_and(|told| told.live);
            findings.ensure(is_live, || format!("{contact} has a {} of {} that is no more", known.1, known.0));
            let before = contact_of.insert(known, contact);
            findings.ensure(before.is_none_or(|before| before == contact), || format!("{contact} shares a record"));
        }
    }

    let mut of_person: BTreeMap<usize, Vec<&Known>> = BTreeMap::new();
    for (known, Told { person, .. }) in people.known.iter().filter(|(_, told)| told.live) {
        of_person.entry(*person).or_default().push(known);
    }
    for (person, known) in &of_person {
        persons.live += 1;
        persons.of_several_sources += usize::from(known.len() > 1);
        let missing: Vec<_> = known.iter().filter(|known| !contact_of.contains_key(**known)).collect();
        persons.missing += missing.len();
        for known in &missing {
            findings.fault(format!("{} of {} is in no contact", known.1, known.0));
        }
        let contacts: BTreeSet<_> = known.iter().filter_map(|known| contact_of.get(*known)).collect();
        if contacts.len() > 1 {
            persons.split += 1;
            findings.fault(format!("person {person} is {} contacts", contacts.len()));
        }
        let is_alone = contacts.iter().all(|contact| !mixed.contains(contact));
        persons.found += usize::from(missing.is_empty() && contacts.len() == 1 && is_alone);
    }
    persons.joined_wrongly = mixed.len();
    let Persons { live, found, of_several_sources, .. } = persons;
    let checked =
        findings.verdict(format!("{found} of {live} people, {of_several_sources} of them known to several sources"));
    (checked, persons)
}
