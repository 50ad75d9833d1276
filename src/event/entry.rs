//! The work list: one entry of `contact-versions` for each accepted event that raised a version, and one for each thing
//! that an operator asked one CRM to do with a contact.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{EventRef, labels::labels};
use crate::contact::{
    ContactId, Version,
    format::{self, FormatError},
    record::FORMAT,
};

/// "Contact `contact_id` reached `version`, because of `event`": to be answered once by each CRM. Or, with `crm`, what an
/// operator asked of that one alone: then `version` is the one that the contact had by then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    pub contact_id: ContactId,
    pub version: Version,
    /// Absent where the program or an operator caused the version; then `cause` says who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventRef>,
    pub received_at: Timestamp,
    /// W3C trace context of the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The one CRM that is to answer; absent: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crm: Option<Arc<str>>,
    /// Of an operator who says which contact of the CRM it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_to: Option<LinkTo>,
    /// The resolver's term in which this was decided; 0 where an operator asked.
    pub epoch: u64,
    /// Version of this layout. A reader refuses one that is newer than it knows.
    pub format: u32,
}

/// Why there is work without an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cause {
    pub kind: CauseKind,
    pub id: String,
}

/// Which contact of a CRM one of ours is, as an operator says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinkTo {
    /// The one that has these ids, by role.
    Remote(BTreeMap<String, String>),
    /// None of those that are there: it is to be made, without being searched for.
    New,
}

labels! {
    pub enum CauseKind {
        Merge = "merge",
        Resync = "resync",
        Retry = "retry",
        Skip = "skip",
        Link = "link",
    }
}

impl CauseKind {
    /// Whether it is an action of an operator.
    pub fn is_asked(self) -> bool {
        match self {
            Self::Merge => false,
            Self::Resync | Self::Retry | Self::Skip | Self::Link => true,
        }
    }
}

impl Entry {
    /// What an operator asks of `crm` for a contact that has reached `version`, by the action `cause`.
    pub fn asked(contact_id: ContactId, version: Version, cause: Cause, crm: Arc<str>, asked_at: Timestamp) -> Self {
        Self {
            contact_id,
            version,
            event: None,
            received_at: asked_at,
            traceparent: None,
            cause: Some(cause),
            crm: Some(crm),
            link_to: None,
            // No resolver decided it.
            epoch: 0,
            format: FORMAT,
        }
    }

    /// The same, where the operator says which contact of the CRM it is.
    pub fn linking(self, link_to: LinkTo) -> Self {
        Self { link_to: Some(link_to), ..self }
    }

    /// Whether `crm` is to answer it.
    pub fn is_for(&self, crm: &str) -> bool {
        self.crm.as_deref().is_none_or(|named| named == crm)
    }

    /// Whether an operator asked for it, so that no version was raised.
    pub fn is_asked(&self) -> bool {
        self.cause.as_ref().is_some_and(|cause| cause.kind.is_asked())
    }

    /// Whether an operator gives up what waits: no attempt is made for it.
    pub fn is_skip(&self) -> bool {
        self.cause.as_ref().is_some_and(|cause| cause.kind == CauseKind::Skip)
    }

    /// The value of the entry's record; its key is the contact's.
    pub fn encode(&self) -> Bytes {
        format::encode(self)
    }

    /// Reads the value of a record of `contact-versions`.
    ///
    /// # Errors
    /// If a newer program wrote it, or none of ours.
    pub fn decode(value: &[u8]) -> Result<Self, FormatError> {
        format::decode(value)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn entry() -> Entry {
        Entry {
            contact_id: ContactId(Uuid::from_u128(7)),
            version: 3,
            event: Some(EventRef {
                source: Some("/shop".into()),
                id: Some("e-1".into()),
                subject: Some("42".into()),
                topic: "contact-changes".into(),
                partition: 3,
                offset: 17,
            }),
            received_at: "2026-03-02T12:00:00Z".parse().unwrap(),
            traceparent: None,
            cause: None,
            crm: None,
            link_to: None,
            epoch: 5,
            format: FORMAT,
        }
    }

    #[test]
    fn an_entry_comes_back_as_written() {
        assert_eq!(Entry::decode(&entry().encode()).unwrap(), entry());
        let cause = Some(Cause { kind: CauseKind::Merge, id: "m-1".to_owned() });
        let caused = Entry { event: None, cause, traceparent: Some("00-1-2-01".into()), ..entry() };
        assert_eq!(Entry::decode(&caused.encode()).unwrap(), caused);
    }

    #[test]
    fn what_an_operator_asks_of_one_crm_is_for_that_one_and_raises_nothing() {
        let cause = Cause { kind: CauseKind::Resync, id: "r-1".to_owned() };
        let asked = Entry::asked(ContactId(Uuid::from_u128(7)), 3, cause, "priava".into(), Timestamp::UNIX_EPOCH);
        assert_eq!(Entry::decode(&asked.encode()).unwrap(), asked);
        assert!(asked.is_asked() && asked.is_for("priava") && !asked.is_for("previsto"));
        assert!(!entry().is_asked() && entry().is_for("priava") && entry().is_for("previsto"));
        let merge = Entry { cause: Some(Cause { kind: CauseKind::Merge, id: "m-1".to_owned() }), ..entry() };
        assert!(!merge.is_asked(), "a merge raised a version");
    }

    #[test]
    fn who_says_which_contact_of_the_crm_it_is_asks_something_of_it() {
        let cause = Cause { kind: CauseKind::Link, id: "l-1".to_owned() };
        let asked = Entry::asked(ContactId(Uuid::from_u128(7)), 3, cause, "priava".into(), Timestamp::UNIX_EPOCH);
        let remote = LinkTo::Remote(BTreeMap::from([("contact".to_owned(), "8842".to_owned())]));
        for link_to in [remote, LinkTo::New] {
            let entry = asked.clone().linking(link_to);
            assert!(entry.is_asked());
            assert_eq!(Entry::decode(&entry.encode()).unwrap(), entry);
        }
    }

    #[test]
    fn an_entry_is_small_json_that_others_can_read() {
        let value: serde_json::Value = serde_json::from_slice(&entry().encode()).unwrap();
        let expected = serde_json::json!({
            "contact_id": "00000000-0000-0000-0000-000000000007",
            "version": 3,
            "event": {"source": "/shop", "id": "e-1", "subject": "42",
                "topic": "contact-changes", "partition": 3, "offset": 17},
            "received_at": "2026-03-02T12:00:00Z",
            "epoch": 5,
            "format": 1,
        });
        assert_eq!(value, expected);
    }

    #[test]
    fn an_entry_of_a_newer_program_is_refused() {
        let newer = Entry { format: FORMAT + 1, ..entry() };
        assert_eq!(Entry::decode(&newer.encode()), Err(FormatError::Newer { found: u64::from(FORMAT) + 1 }));
    }
}
