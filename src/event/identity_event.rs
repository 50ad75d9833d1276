//! Identity events: what was found out about who is who, for those who keep the sources in order.
//!
//! CloudEvents in binary mode on `contact-identity-events`, keyed by contact. Ids and types of keys only: what two
//! contacts share is nobody's business, that they share something is. The `id` is made of the input's place and of what
//! the event says, so that a reader can drop a repeat.

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    EventRef,
    outcome::{Encoded, EventData, Subjects},
};
use crate::{contact::ContactId, identity::Notice, log::Header};

/// What the `type` of an identity event begins with; its kind follows.
pub const TYPE_PREFIX: &str = "contact.identity.";

/// The data of an identity event.
#[derive(Serialize)]
struct Data<'a> {
    event: EventData<'a>,
    contact_id: ContactId,
    key_type: &'static str,
    /// Of a conflict: the contact that has the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    other_contact_id: Option<ContactId>,
    /// Of a conflict: what keeps the two from being one.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Of a generic key: who holds it, the owner first.
    #[serde(skip_serializing_if = "Option::is_none")]
    contact_ids: Option<&'a [ContactId]>,
}

/// The `number`th notice of an event, as an event of `instance`.
pub fn encode(
    notice: &Notice,
    number: usize,
    event: &EventRef,
    instance: &str,
    subjects: &Subjects,
    now: Timestamp,
) -> Encoded {
    let about = EventData::of(event, subjects);
    let (kind, data) = match notice {
        Notice::Conflict { contact, other, key_type, code } => {
            let data = Data {
                event: about,
                contact_id: *contact,
                key_type: key_type.as_str(),
                other_contact_id: Some(*other),
                reason: Some(code.as_str()),
                contact_ids: None,
            };
            ("conflict", data)
        }
        Notice::Generic { contact, key_type, holders } => {
            let data = Data {
                event: about,
                contact_id: *contact,
                key_type: key_type.as_str(),
                other_contact_id: None,
                reason: None,
                contact_ids: Some(holders),
            };
            ("generic", data)
        }
    };
    let contact = data.contact_id.key();
    let EventRef { topic, partition, offset, .. } = event;
    let header = |name: &str, value: String| Header::new(name, Bytes::from(value));
    let mut headers = vec![
        header("ce_specversion", "1.0".to_owned()),
        header("ce_id", format!("{kind}/{topic}/{partition}/{offset}/{number}")),
        header("ce_source", instance.to_owned()),
        header("ce_type", format!("{TYPE_PREFIX}{kind}")),
        header("ce_time", now.to_string()),
        header("ce_subject", contact.clone()),
    ];
    headers.extend(event.source.as_ref().map(|source| header("ce_eventsource", source.to_string())));
    headers.push(header("content-type", "application/json".to_owned()));
    Encoded {
        key: Some(contact.into()),
        headers,
        value: serde_json::to_vec(&data).expect("a notice is made of what JSON can express").into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use uuid::Uuid;

    use super::*;
    use crate::{
        identity::{judgement::Refusal, keys::KeyType},
        privacy::{Hasher, Secret},
    };

    fn contact(id: u128) -> ContactId {
        ContactId(Uuid::from_u128(id))
    }

    #[track_caller]
    fn check(notice: &Notice, subjects: &Subjects, kind: &str, expected: Value) {
        let event = EventRef {
            source: Some("shop".into()),
            id: Some("e1".into()),
            subject: Some("ann@example.com".into()),
            topic: "in".into(),
            partition: 3,
            offset: 9,
        };
        let encoded = encode(notice, 1, &event, "ours", subjects, "2026-03-01T10:00:00Z".parse().unwrap());
        let headers: Vec<_> = encoded.headers.iter().map(|header| (&*header.name, &*header.value)).collect();
        let (id, event_type, key) = (format!("{kind}/in/3/9/1"), format!("contact.identity.{kind}"), contact(1).key());
        let said: [(&str, &str); 8] = [
            ("ce_specversion", "1.0"),
            ("ce_id", &id),
            ("ce_source", "ours"),
            ("ce_type", &event_type),
            ("ce_time", "2026-03-01T10:00:00Z"),
            ("ce_subject", &key),
            ("ce_eventsource", "shop"),
            ("content-type", "application/json"),
        ];
        assert_eq!(headers, said.map(|(name, value)| (name, value.as_bytes())));
        assert_eq!(encoded.key.as_deref(), Some(key.as_bytes()));
        let mut data: Value = serde_json::from_slice(&encoded.value).unwrap();
        assert_eq!(data["event"]["offset"], 9);
        let subject = data["event"]["subject"].take();
        assert_eq!(subject == "ann@example.com", matches!(subjects, Subjects::Plain));
        data.as_object_mut().unwrap().remove("event");
        assert_eq!(data, expected);
    }

    #[test]
    fn a_conflict_names_both_contacts_the_type_of_the_key_and_the_reason() {
        let notice = Notice::Conflict {
            contact: contact(1),
            other: contact(2),
            key_type: KeyType::Email,
            code: Refusal::SameSource,
        };
        let data = json!({
            "contact_id": contact(1), "other_contact_id": contact(2), "key_type": "email", "reason": "same_source",
        });
        check(&notice, &Subjects::Plain, "conflict", data.clone());
        check(&notice, &Subjects::Hashed(Hasher::new(&Secret::new("secret"))), "conflict", data);
    }

    #[test]
    fn a_generic_key_names_all_who_hold_it() {
        let holders = vec![contact(2), contact(1)];
        let notice = Notice::Generic { contact: contact(1), key_type: KeyType::Email, holders: holders.clone() };
        let data = json!({"contact_id": contact(1), "key_type": "email", "contact_ids": holders});
        check(&notice, &Subjects::Plain, "generic", data);
    }
}
