//! What a contact is to another one, as far as a CRM can hold it.
//!
//! A document names the other by source and subject; a CRM wants its own id of the other, which only the other's link
//! knows. So the parts are split: a connector says which relations of a record its CRM has a place for
//! ([`super::Connector::relations`]), whoever owns the view looks up who that is and under which id ([`Related`]), and the
//! delivery adds to the projection what is known ([`Related::lay_over`]).
//!
//! # The other may not be there yet
//!
//! Contacts are delivered in parallel and in any order, and the other may never come. No contact waits for another, and so
//! no partition does: a delivery leaves out the relation that it cannot say, ends as delivered, and notes in its own link
//! that something is left ([`super::link::Waiting`]). A link with that note stands in an index of the view, as a parked one
//! does; once it is due, whoever owns the partition drives the contact once more, with nothing but the view to ask unless
//! there is something to say by then. The time between two looks doubles up to that of parked contacts.
//!
//! The other's side does nothing. It would have to know who names it, and to write links that are not its own; one writer
//! for each link is worth more than the delay. A link of another partition is only ever read, from a view that follows
//! all partitions of a CRM that has relations. It may be old: then a relation comes later, or names an id that is no more and
//! is refused, and is looked at again like one that is not there.
//!
//! Until the other is found, what was said of it before stays as it is: a view that is being rebuilt takes nothing away.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value};

use super::Projection;
use crate::contact::ContactId;

/// A relation that a CRM has a place for.
#[derive(Clone, PartialEq, Eq)]
pub struct Relation {
    /// What the CRM calls its place; begins the path of the field.
    pub place: String,
    /// The source that knows the other contact; `None`: the one that says so.
    pub source: Option<String>,
    /// The other contact's id there.
    pub subject: String,
    pub notes: Option<String>,
}

impl std::fmt::Debug for Relation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A subject may be personal, and notes are.
        write!(f, "relation in {}", self.place)
    }
}

/// The path of the field that holds a relation: its place, and who the other is.
pub fn path(place: &str, other: ContactId) -> String {
    format!("{place}.{}", other.key())
}

/// Takes apart what [`path`] put together; `None` for the path of any other field.
pub fn parts(path: &str) -> Option<(&str, ContactId)> {
    let (place, other) = path.rsplit_once('.')?;
    Some((place, ContactId::from_key(other.as_bytes())?))
}

/// What is known of the contacts that a record names.
#[derive(Debug, Clone, Default)]
pub struct Related {
    relations: Vec<(Relation, Option<ContactId>)>,
    /// What the CRM calls each of them.
    ids: BTreeMap<ContactId, String>,
}

impl Related {
    /// Notes a relation and who the other is; `None`: nobody that we know.
    pub fn note(&mut self, relation: Relation, other: Option<ContactId>) {
        self.relations.push((relation, other));
    }

    /// Notes what the CRM calls a contact.
    pub fn note_id(&mut self, contact: ContactId, id: String) {
        self.ids.insert(contact, id);
    }

    /// What the CRM calls a contact.
    pub fn id(&self, contact: ContactId) -> Option<&str> {
        self.ids.get(&contact).map(String::as_str)
    }

    /// The relations of `contact` to others than itself.
    fn to_others(&self, contact: ContactId) -> impl Iterator<Item = (&Relation, Option<ContactId>)> {
        let others = self.relations.iter().filter(move |(_, other)| *other != Some(contact));
        others.map(|(relation, other)| (relation, *other))
    }

    /// Whether `contact` names somebody whom the CRM does not hold.
    pub fn is_waiting(&self, contact: ContactId) -> bool {
        self.to_others(contact).any(|(_, other)| other.is_none_or(|other| !self.ids.contains_key(&other)))
    }

    /// The fields of known contacts that cannot be said as long as the CRM does not hold them.
    pub fn unsaid(&self, contact: ContactId) -> impl Iterator<Item = Arc<str>> {
        let known = self.to_others(contact).filter_map(|(relation, other)| Some((relation, other?)));
        let missing = known.filter(|(_, other)| !self.ids.contains_key(other));
        missing.map(|(relation, other)| path(&relation.place, other).into())
    }

    /// Adds what can be said of `contact` to its projection.
    pub fn lay_over(&self, projection: &mut Projection, contact: ContactId) {
        for (relation, other) in self.to_others(contact) {
            let Some((other, id)) = other.and_then(|other| Some((other, self.id(other)?))) else { continue };
            let mut value = Map::from_iter([("id".to_owned(), Value::from(id))]);
            value.extend(relation.notes.as_ref().map(|notes| ("notes".to_owned(), Value::from(notes.as_str()))));
            // Who is named twice in the same place is named once; the first word stands.
            projection.fields.entry(path(&relation.place, other)).or_insert(value.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const WE: ContactId = ContactId(uuid::Uuid::from_u128(1));
    const OTHER: ContactId = ContactId(uuid::Uuid::from_u128(2));

    fn relation(notes: Option<&str>) -> Relation {
        let notes = notes.map(str::to_owned);
        Relation { place: "set.FRIEND".to_owned(), source: None, subject: "7".to_owned(), notes }
    }

    fn related(other: Option<ContactId>, id: Option<&str>) -> Related {
        let mut related = Related::default();
        related.note(relation(Some("n")), other);
        related.note(relation(Some("again")), other);
        if let (Some(other), Some(id)) = (other, id) {
            related.note_id(other, id.to_owned());
        }
        related
    }

    #[test]
    fn a_path_tells_place_and_contact() {
        let written = path("set.FRIEND", OTHER);
        assert_eq!(written, "set.FRIEND.00000000-0000-0000-0000-000000000002");
        assert_eq!(parts(&written), Some(("set.FRIEND", OTHER)));
        assert_eq!(parts("payingContactId"), None);
        assert_eq!(parts("address_set.HOME"), None);
    }

    #[test]
    fn what_is_known_is_said_once_and_the_rest_waits() {
        let said = |related: &Related| {
            let mut projection = Projection::default();
            related.lay_over(&mut projection, WE);
            let unsaid: Vec<_> = related.unsaid(WE).map(|path| path.to_string()).collect();
            (serde_json::to_value(projection.fields).unwrap(), related.is_waiting(WE), unsaid.len())
        };
        let there = json!({ path("set.FRIEND", OTHER): { "id": "C2", "notes": "n" } });
        assert_eq!(said(&related(Some(OTHER), Some("C2"))), (there, false, 0));
        assert_eq!(said(&related(Some(OTHER), None)), (json!({}), true, 2), "known, and not in the CRM");
        assert_eq!(said(&related(None, None)), (json!({}), true, 0), "nobody that we know");
        assert_eq!(said(&related(Some(WE), Some("C1"))), (json!({}), false, 0), "nobody is related to himself");
    }
}
