//! The answer: who a contact is, why, and where each CRM stands with it.
//!
//! Made of the record, the keys and the links, and of nothing in them that is the contact's own: of the document not one
//! field, of what was sent only how many fields, of a create under way only what kind of thing it can be found by. What
//! is told is either ours (ids, versions, outcomes, codes) or names an event (source, subject, id, place in the log);
//! subjects in the form that outcomes have them in.
//!
//! Pure: what was looked up goes in, the answer comes out. It is also what travels, so that whoever asked can read the
//! words or the parts.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::question::Kind;
use crate::{
    contact::{
        ContactId, ContactRecord, Version,
        record::{Member, Status},
    },
    crm::{
        Presence,
        link::{self, Link, Open, Sent, Settled},
    },
    event::{EventRef, entry::Cause, outcome::Subjects},
    identity::{
        judgement::Refusal,
        keys::{KeyEntry, KeyType},
        membership::{DropCode, Dropped},
    },
    log::{Offset, Partition},
    pause::Ordered,
    replicator::gate::PauseReason,
};

/// What one worker can tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    pub instance: Arc<str>,
    /// Who answers; each worker knows only of its own whether it has paused a CRM.
    pub worker: Arc<str>,
    pub asked_at: Timestamp,
    pub asked: Kind,
    /// Who was found.
    pub contact: Option<Person>,
    /// Of a key: the others who assert it, in the order of their claims.
    pub claimants: Vec<ContactId>,
    /// So many asserted the key that it leads nobody new to anybody.
    pub generic: bool,
    /// Why nobody was found.
    pub absence: Option<Absence>,
    /// Each CRM that is configured, if somebody was found.
    pub crms: Vec<CrmState>,
    /// How keys and records were read.
    pub readings: Vec<Reading>,
}

/// A contact, without anything that is known of the person.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Person {
    pub contact_id: ContactId,
    pub version: Version,
    pub status: Status,
    pub merged_into: Option<ContactId>,
    /// When the event was read that made this version.
    pub since: Timestamp,
    /// Absent where the program or an operator made it.
    pub event: Option<EventRef>,
    pub epoch: u64,
    pub partition: Partition,
    pub members: Vec<MemberState>,
}

/// A source record: one source's word on one subject.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberState {
    pub source: Arc<str>,
    pub subject: Arc<str>,
    pub live: bool,
    pub spoke_at: Timestamp,
    /// The kind of key that led it to the contact; absent for the one that the contact was founded with.
    pub by: Option<KeyType>,
    pub refusals: Vec<RefusedContact>,
    /// What its last event asserted in vain.
    pub dropped: Vec<Dropped>,
}

/// A contact that it was not joined to when that was last asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RefusedContact {
    pub contact: ContactId,
    pub key_type: KeyType,
    pub code: Refusal,
}

/// Where one CRM stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CrmState {
    pub crm: Arc<str>,
    pub reading: Reading,
    /// The worker that last committed for the partition.
    pub owner: Option<Owner>,
    /// Why nothing is sent to it, if that is so, as far as the answering worker has seen.
    pub paused: Option<Paused>,
    /// Who paused it and why, if an operator did; all workers know of that.
    #[serde(default)]
    pub ordered: Option<Ordered>,
    /// Absent before anything ended, and where it could not be read.
    pub link: Option<LinkState>,
    /// Versions without an outcome, the parked one apart.
    pub waiting: Option<Waiting>,
}

/// Who works on a partition, by the last offset that was committed for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Owner {
    pub worker: String,
    /// It gave the partition back in good order: nobody works on it, or somebody who has not begun.
    pub released: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Paused {
    Failing,
    Credentials,
    Connection,
    Operator,
}

impl From<PauseReason> for Paused {
    fn from(reason: PauseReason) -> Self {
        match reason {
            PauseReason::Failing => Self::Failing,
            PauseReason::Credentials => Self::Credentials,
            PauseReason::Connection => Self::Connection,
            PauseReason::Operator => Self::Operator,
        }
    }
}

/// What a link says, without what was sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkState {
    pub remote_ids: BTreeMap<String, String>,
    pub presence: Option<Presence>,
    /// It was created, and not all of it is there yet.
    #[serde(default)]
    pub incomplete: bool,
    /// It names another contact, which the CRM does not hold.
    #[serde(default)]
    pub waiting: Option<link::Waiting>,
    pub answered: Version,
    pub settled: Option<Settled>,
    pub open: Option<OpenState>,
    /// A create may have been sent: what kinds of thing it can be found by.
    pub intent: Option<Vec<String>>,
    /// Fields that the CRM accepted a value of.
    pub fields_sent: usize,
    /// Fields that were sent and of which it is not known whether they arrived.
    pub fields_uncertain: usize,
}

/// What is parked: an event, or what an operator asked, or both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OpenState {
    pub version: Version,
    pub event: Option<EventRef>,
    pub cause: Option<Cause>,
    /// What an operator asked for.
    #[serde(default)]
    pub asked: Option<Cause>,
    pub received_at: Timestamp,
    pub attempts: u32,
    pub next_attempt: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    pub from: Version,
    pub to: Version,
}

/// From where something was read, and how old it may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    pub topic: Arc<str>,
    pub partition: Partition,
    pub way: Way,
    /// Everything below was seen.
    pub position: Option<Offset>,
    /// Where the log ended.
    pub end: Option<Offset>,
    /// Why it could not be read, or not to the end.
    pub problem: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// The worker follows the partition.
    View,
    /// Somebody else works on the partition, so it was read from the log for this answer.
    Log,
}

impl Reading {
    /// How many records of the partition were not seen; `None` if that is not known.
    pub fn unseen(&self) -> Option<u64> {
        Some(self.end?.saturating_sub(self.position?))
    }
}

/// Nobody was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    pub because: AbsentBecause,
    /// Short name of the source that was looked for, if the settings have it.
    pub source: Option<Arc<str>>,
    /// Events that wait for a decision; `None` if they could not be counted.
    pub undecided: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AbsentBecause {
    Unknown,
    /// So many asserted it that nobody owns it.
    Generic,
    /// The key leads to a contact whose record the view does not have yet.
    RecordMissing,
    /// It is no key, whatever anybody asserts.
    NoKey(DropCode),
}

/// Whom a key leads to first: its owner, and for a source record that was deleted, the contact it belonged to.
pub(super) fn first_holder(key: &KeyEntry) -> Option<ContactId> {
    key.owner.or(key.last_owner)
}

impl Person {
    pub(super) fn of(record: &ContactRecord, partition: Partition, subjects: &Subjects) -> Self {
        Self {
            contact_id: record.contact_id,
            version: record.version,
            status: record.status,
            merged_into: record.merged_into,
            since: record.received_at,
            event: record.event.as_ref().map(|event| named(event, subjects)),
            epoch: record.epoch,
            partition,
            members: record.members.iter().map(|member| MemberState::of(member, subjects)).collect(),
        }
    }
}

impl MemberState {
    fn of(member: &Member, subjects: &Subjects) -> Self {
        let membership = &member.state.membership;
        let refusal = |refused: &crate::identity::membership::Refused| RefusedContact {
            contact: refused.contact,
            key_type: refused.key_type.clone(),
            code: refused.code,
        };
        Self {
            source: member.source.clone(),
            subject: subjects.name(&member.subject),
            live: member.state.live,
            spoke_at: member.state.spoke_at,
            by: membership.by.clone(),
            refusals: membership.refusals.iter().map(refusal).collect(),
            dropped: membership.dropped.clone(),
        }
    }
}

impl LinkState {
    pub(super) fn of(link: Link, subjects: &Subjects) -> Self {
        let Link {
            contact_id: _,
            remote_ids,
            sent,
            presence,
            mapping: _,
            incomplete,
            intent,
            linked: _,
            linked_until: _,
            settled,
            open,
            waiting,
            answered,
            asked_until: _,
            doubted: _,
            format: _,
        } = link;
        let uncertain = sent.values().filter(|sent| **sent == Sent::Void).count();
        Self {
            remote_ids,
            presence,
            incomplete,
            waiting,
            answered,
            settled,
            open: open.map(|open| OpenState::of(open, subjects)),
            intent: intent.map(|intent| intent.keys.into_keys().collect()),
            fields_sent: sent.len() - uncertain,
            fields_uncertain: uncertain,
        }
    }
}

impl OpenState {
    fn of(open: Open, subjects: &Subjects) -> Self {
        let version = open.version();
        let Open { entry, asked, attempts, next_attempt } = open;
        let event = entry.as_ref().and_then(|entry| entry.event.as_ref());
        Self {
            version: entry.as_ref().map_or(version, |entry| entry.version),
            event: event.map(|event| named(event, subjects)),
            received_at: entry.as_ref().or(asked.as_ref()).map_or(next_attempt, |entry| entry.received_at),
            cause: entry.and_then(|entry| entry.cause),
            asked: asked.and_then(|asked| asked.cause),
            attempts,
            next_attempt,
        }
    }
}

impl Waiting {
    /// What lies between the last answer and the record.
    pub(super) fn between(answered: Version, newest: Version) -> Option<Self> {
        (newest > answered).then(|| Self { from: answered + 1, to: newest })
    }
}

/// The event as outcomes name it.
fn named(event: &EventRef, subjects: &Subjects) -> EventRef {
    EventRef { subject: event.subject.as_ref().map(|subject| subjects.name(subject)), ..event.clone() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        config::SubjectForm,
        contact::record::FORMAT,
        privacy::{Hasher, Secret},
    };

    const CONTACT: &str = "00000000-0000-8000-8000-000000000007";

    fn record() -> ContactRecord {
        serde_json::from_value(json!({
            "contact_id": CONTACT,
            "version": 3,
            "status": "live",
            "contact": {"name": {"givenName": "Ann"}, "emails": [{"value": "ann@example.com"}]},
            "provenance": {"/name": {"source": "/shop", "subject": "42"}},
            "members": [{
                "source": "/shop", "subject": "42", "live": true,
                "version": {"topic": "contact-changes", "partition": 0, "offset": 4},
                "view": {"name": {"givenName": "Ann"}, "emails": [{"value": "ann@example.com"}]},
                "spoke_at": "2026-03-02T11:00:00Z", "event_ids": ["abc"], "content": "def",
                "membership": {
                    "by": "email",
                    "keys": [{"type": "email", "hash": "000102030405060708090a0b0c0d0e0f"}],
                    "refusals": [{"contact": "00000000-0000-8000-8000-000000000008", "key_type": "email", "code": "same_source"}],
                    "dropped": [{"key_type": "email", "code": "blocked:role", "count": 2}],
                },
            }],
            "event": {"source": "/shop", "id": "e-1", "subject": "42", "topic": "contact-changes", "partition": 0, "offset": 4},
            "received_at": "2026-03-02T12:00:00Z",
            "epoch": 5,
            "format": FORMAT,
        }))
        .unwrap()
    }

    fn link() -> Link {
        serde_json::from_value(json!({
            "contact_id": CONTACT,
            "remote_ids": {"contact": "R-1"},
            "sent": {"firstName": {"hash": "00000000000000ff"}, "lastName": "void"},
            "intent": {"keys": {"email": "ann@example.com"}},
            "open": {
                "entry": {
                    "contact_id": CONTACT, "version": 3,
                    "event": {"source": "/shop", "id": "e-1", "subject": "42", "topic": "contact-changes", "partition": 0, "offset": 4},
                    "received_at": "2026-03-02T12:00:00Z", "epoch": 5, "format": FORMAT,
                },
                "attempts": 4,
                "next_attempt": "2026-03-02T12:30:00Z",
            },
            "answered": 3,
            "format": FORMAT,
        }))
        .unwrap()
    }

    #[test]
    fn why_is_told_and_no_value_of_the_contact() {
        let person = Person::of(&record(), 2, &Subjects::Plain);
        let link = LinkState::of(link(), &Subjects::Plain);
        assert_eq!(person.members[0].by, Some(KeyType::Email));
        assert_eq!(person.members[0].refusals[0].code, Refusal::SameSource);
        assert_eq!(person.members[0].dropped[0].count, 2);
        assert_eq!((link.fields_sent, link.fields_uncertain), (1, 1));
        assert_eq!(link.intent.as_deref(), Some(&["email".to_owned()][..]));
        assert_eq!(link.open.as_ref().map(|open| open.attempts), Some(4));
        let told = serde_json::to_string(&(&person, &link)).unwrap();
        for secret in ["Ann", "ann@example.com", "abc", "def", "0102030405", "00ff"] {
            assert!(!told.contains(secret), "{secret} in {told}");
        }
    }

    #[test]
    fn subjects_are_told_in_the_form_that_outcomes_have() {
        let subjects = Subjects::new(SubjectForm::Hashed, &Hasher::new(&Secret::new("a secret of some length")));
        let person = Person::of(&record(), 2, &subjects);
        let link = LinkState::of(link(), &subjects);
        let hashed = subjects.name(&"42".into());
        assert_eq!(person.members[0].subject, hashed);
        assert_eq!(person.event.unwrap().subject, Some(hashed.clone()));
        assert_eq!(link.open.unwrap().event.unwrap().subject, Some(hashed));
    }

    #[test]
    fn what_waits_lies_between_the_last_answer_and_the_record() {
        for (answered, newest, expected) in [(0, 1, Some((1, 1))), (2, 5, Some((3, 5))), (5, 5, None), (6, 5, None)] {
            let waiting = Waiting::between(answered, newest);
            assert_eq!(waiting.map(|waiting| (waiting.from, waiting.to)), expected, "{answered} of {newest}");
        }
    }

    #[test]
    fn a_deleted_source_record_leads_to_the_contact_it_belonged_to() {
        let key = |owner: Option<&str>, last: Option<&str>| -> KeyEntry {
            let entry = json!({"type": "source_id", "owner": owner, "last_owner": last, "epoch": 1, "format": FORMAT});
            serde_json::from_value(entry).unwrap()
        };
        let other = "00000000-0000-8000-8000-000000000009";
        for (owner, last, expected) in
            [(Some(CONTACT), Some(other), Some(CONTACT)), (None, Some(other), Some(other)), (None, None, None)]
        {
            let found = first_holder(&key(owner, last)).map(|contact| contact.key());
            assert_eq!(found.as_deref(), expected);
        }
    }

    #[test]
    fn how_much_was_not_seen_is_known_only_with_both_ends() {
        let reading =
            |position, end| Reading { topic: "t".into(), partition: 0, way: Way::View, position, end, problem: None };
        assert_eq!(reading(Some(3), Some(7)).unseen(), Some(4));
        assert_eq!(reading(Some(9), Some(7)).unseen(), Some(0));
        assert_eq!(reading(None, Some(7)).unseen(), None);
        assert_eq!(reading(Some(3), None).unseen(), None);
    }
}
