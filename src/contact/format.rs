//! How the records of our own topics are laid out as bytes: JSON with a `format` that says which layout it is.
//!
//! During an upgrade old and new workers run side by side. An older one must not take a record whose newer parts it
//! would drop and then write back, so it refuses by number before it looks at anything else.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::record::FORMAT;

/// Why the bytes of a record are not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A newer version of this program wrote it; this one must be brought up to date.
    #[error("the record has layout {found}, and this program knows layouts up to {FORMAT}: update it")]
    Newer { found: u64 },
    /// It was not written by this program, or was damaged since.
    #[error("the record cannot be read: {reason}")]
    Malformed { reason: String },
}

impl FormatError {
    /// Says where and in which way the JSON is wrong. serde's own message may quote a value, which may be personal.
    pub(crate) fn malformed(error: &serde_json::Error) -> Self {
        use serde_json::error::Category;
        let what = match error.classify() {
            Category::Io => "reading failed",
            Category::Syntax => "not JSON",
            Category::Data => "a member is missing or has the wrong form",
            Category::Eof => "cut off",
        };
        Self::Malformed { reason: format!("{what}, line {} column {}", error.line(), error.column()) }
    }
}

/// Reads a record of our own topics, if its `format` is one that we know.
///
/// # Errors
/// [`FormatError::Newer`] whatever else is in it; [`FormatError::Malformed`] also if `format` is missing.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FormatError> {
    #[derive(Deserialize)]
    struct Layout {
        format: u64,
    }
    let layout: Layout = serde_json::from_slice(bytes).map_err(|error| FormatError::malformed(&error))?;
    if layout.format > u64::from(FORMAT) {
        return Err(FormatError::Newer { found: layout.format });
    }
    serde_json::from_slice(bytes).map_err(|error| FormatError::malformed(&error))
}

/// The bytes of a record of our own topics.
pub fn encode<T: Serialize>(record: &T) -> Bytes {
    serde_json::to_vec(record).expect("our records are made of what JSON can express").into()
}

/// Holds a type to the samples of it in `tests/formats`, one for each layout that was ever written: each is still read, and
/// the newest is what `today` is written as, byte for byte.
///
/// A sample that was released never changes. One that `today` no longer fits asks for a new layout ([`FORMAT`]) and a file
/// beside the old one, unless readers of the old layout take the new member for absent and lose nothing by it.
#[cfg(test)]
pub(crate) fn assert_sampled<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    samples: &[&str],
    today: &T,
) {
    assert_eq!(samples.len(), FORMAT as usize, "there is a sample of each layout, the oldest first");
    let samples: Vec<&str> = samples.iter().map(|sample| sample.trim_end()).collect();
    let read: Vec<T> = samples.iter().map(|sample| decode(sample.as_bytes()).expect("it was written once")).collect();
    assert_eq!(read.last(), Some(today), "the newest sample is not read as it was meant");
    let written = String::from_utf8(encode(today).to_vec()).expect("JSON is text");
    assert_eq!(Some(&written.as_str()), samples.last(), "the newest sample is not what is written today");
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::Arc};

    use uuid::Uuid;

    use super::*;
    use crate::{
        contact::{
            ContactId, ContactRecord, Document,
            record::{Member, MemberRef, MemberState, Status},
        },
        crm::{
            Presence,
            fingerprint::Fingerprint,
            link::{Intent, Link, Linked, Open, Sent, Settled},
        },
        event::{
            Entry, EventRef, Operation, OutcomeKind, Reason, ReasonCode, SourceVersion,
            entry::{Cause, CauseKind, LinkTo},
        },
        identity::{
            Membership,
            judgement::Refusal,
            keys::{AssertedKey, KeyEntry, KeyHash, KeyType},
            membership::{DropCode, Dropped, Refused},
        },
    };

    fn record() -> ContactRecord {
        let (source, subject): (Arc<str>, Arc<str>) = ("shop".into(), "1".into());
        let (view, _) = Document::parse(serde_json::json!({"name": {"givenName": "Ann"}, "notes": null})).unwrap();
        ContactRecord {
            contact_id: ContactId(Uuid::from_u128(1)),
            version: 3,
            status: Status::Live,
            merged_into: None,
            contact: Some(view.clone()),
            provenance: BTreeMap::from([(
                "/name".to_owned(),
                MemberRef { source: source.clone(), subject: subject.clone() },
            )]),
            members: vec![Member {
                source,
                subject,
                state: MemberState {
                    live: true,
                    version: SourceVersion {
                        sequence: Some("12".into()),
                        time: None,
                        topic: "contact-changes".into(),
                        partition: 0,
                        offset: 9,
                    },
                    view,
                    spoke_at: "2026-03-01T10:00:00Z".parse().unwrap(),
                    event_ids: vec!["aa".to_owned()],
                    content: "bb".to_owned(),
                    membership: Membership {
                        by: Some(KeyType::Email),
                        keys: vec![AssertedKey { key_type: KeyType::Email, hash: KeyHash([0xa5; 16]) }],
                        refusals: vec![Refused {
                            contact: ContactId(Uuid::from_u128(2)),
                            key_type: KeyType::Email,
                            code: Refusal::SameSource,
                        }],
                        dropped: vec![Dropped { key_type: KeyType::Email, code: DropCode::Role, count: 2 }],
                    },
                },
            }],
            event: None,
            received_at: "2026-03-01T10:00:01Z".parse().unwrap(),
            epoch: 2,
            format: FORMAT,
        }
    }

    #[test]
    fn a_record_and_a_link_come_back_as_written() {
        assert_eq!(decode::<ContactRecord>(&encode(&record())).unwrap(), record());
        let link = Link::new(ContactId(Uuid::from_u128(1)));
        assert_eq!(decode::<Link>(&encode(&link)).unwrap(), link);
    }

    fn contact(number: u128) -> ContactId {
        ContactId(Uuid::from_u128(number))
    }

    fn entry(cause: Option<Cause>) -> Entry {
        Entry {
            contact_id: contact(1),
            version: 4,
            event: Some(EventRef {
                source: Some("https://shop.example.com".into()),
                id: Some("e-1".into()),
                subject: Some("42".into()),
                topic: "contact-changes".into(),
                partition: 3,
                offset: 17,
            }),
            received_at: "2026-03-01T10:00:01Z".parse().unwrap(),
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
            cause,
            crm: None,
            link_to: None,
            epoch: 2,
            format: FORMAT,
        }
    }

    #[test]
    fn each_layout_that_was_ever_written_is_still_read_and_the_newest_is_written() {
        let event = entry(None).event;
        let merged = ContactRecord { status: Status::Merged, merged_into: Some(contact(2)), event, ..record() };
        assert_sampled(&[include_str!("../../tests/formats/record.1.json")], &merged);
        let key = KeyEntry {
            key_type: KeyType::SourceId,
            owner: Some(contact(1)),
            claimants: vec![contact(2)],
            generic: true,
            version: Some(record().members[0].state.version.clone()),
            event_ids: vec!["aa".to_owned()],
            last_owner: Some(contact(3)),
            epoch: 2,
            format: FORMAT,
        };
        assert_sampled(&[include_str!("../../tests/formats/key.1.json")], &key);
        assert_sampled(&[include_str!("../../tests/formats/entry.1.json")], &entry(None));
        let cause = Some(Cause { kind: CauseKind::Merge, id: "m-1".to_owned() });
        assert_sampled(
            &[include_str!("../../tests/formats/entry-with-cause.1.json")],
            &Entry { event: None, ..entry(cause) },
        );
        let reason = Reason {
            code: ReasonCode::Refused,
            http_status: Some(422),
            crm_code: Some("E17".to_owned()),
            field: Some("/emails".to_owned()),
        };
        let link = Link {
            contact_id: contact(1),
            remote_ids: BTreeMap::from([("contact".to_owned(), "r-1".to_owned())]),
            sent: BTreeMap::from([("email".into(), Sent::Hash(0x1f)), ("phone".into(), Sent::Void)]),
            presence: Some(Presence::Active),
            mapping: None,
            incomplete: false,
            intent: Some(Intent { keys: BTreeMap::from([("email".to_owned(), "ann@example.com".to_owned())]) }),
            doubted: false,
            linked: None,
            linked_until: 0,
            settled: Some(Settled {
                version: 3,
                outcome: OutcomeKind::Rejected,
                operation: Some(Operation::Create),
                reason: Some(reason),
                attempts: 2,
            }),
            open: Some(Open {
                entry: Some(entry(None)),
                asked: None,
                attempts: 3,
                next_attempt: "2026-03-01T10:05:00Z".parse().unwrap(),
            }),
            waiting: None,
            answered: 4,
            asked_until: 0,
            format: FORMAT,
        };
        assert_sampled(&[include_str!("../../tests/formats/link.1.json")], &link);
        let cause = Some(Cause { kind: CauseKind::Resync, id: "r-1".to_owned() });
        let asked = Entry { event: None, traceparent: None, crm: Some("venues".into()), ..entry(cause) };
        assert_sampled(&[include_str!("../../tests/formats/entry-asked.1.json")], &asked);
        let open = link.open.map(|open| Open { asked: Some(asked), ..open });
        let link = Link { open, asked_until: 18, ..link };
        assert_sampled(&[include_str!("../../tests/formats/link-asked.1.json")], &link);
        let link_to = LinkTo::Remote(BTreeMap::from([("contact".to_owned(), "r-2".to_owned())]));
        let cause = Some(Cause { kind: CauseKind::Link, id: "l-1".to_owned() });
        let linking = Entry { event: None, traceparent: None, crm: Some("venues".into()), ..entry(cause) };
        let linking = linking.linking(link_to);
        assert_sampled(&[include_str!("../../tests/formats/entry-linking.1.json")], &linking);
        let linking = linking.linking(LinkTo::New);
        assert_sampled(&[include_str!("../../tests/formats/entry-linking-new.1.json")], &linking);
        let (linked, mapping) = (Some(Linked::Existing), Some(Fingerprint(0x2a)));
        let link = Link { open: None, intent: None, mapping, linked, linked_until: 19, ..link };
        assert_sampled(&[include_str!("../../tests/formats/link-linked.1.json")], &link);
        let cause = Some(Cause { kind: CauseKind::Skip, id: "s-1".to_owned() });
        let skip = Entry { event: None, traceparent: None, crm: Some("venues".into()), ..entry(cause) };
        assert_sampled(&[include_str!("../../tests/formats/entry-skip.1.json")], &skip);
        let doubted = Link { linked: None, doubted: true, ..link };
        assert_sampled(&[include_str!("../../tests/formats/link-doubted.1.json")], &doubted);
    }

    #[test]
    fn a_newer_layout_is_refused_with_a_sentence_even_if_nothing_else_fits() {
        let error = decode::<ContactRecord>(br#"{"format": 2, "contact_id": ["of another kind"]}"#).unwrap_err();
        assert_eq!(error, FormatError::Newer { found: 2 });
        assert_eq!(error.to_string(), "the record has layout 2, and this program knows layouts up to 1: update it");
    }

    #[test]
    fn an_unreadable_record_is_an_error_that_quotes_nothing_of_it() {
        for bytes in [
            &b"{\"format\": 1, \"version\": \"ann@example.com\"}"[..],
            b"{\"contact\": \"ann@example.com\"}",
            b"ann@example.com",
            b"{\"format\": \"ann@example.com\"}",
            b"",
        ] {
            let error = decode::<ContactRecord>(bytes).unwrap_err();
            assert!(matches!(error, FormatError::Malformed { .. }));
            assert!(!error.to_string().contains("ann@"), "{error}");
        }
    }
}
