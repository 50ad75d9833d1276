//! The record of a contact, as `contact-records` holds it: one value per contact, the newest wins, none ever vanishes.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ContactId, Document, Version};
use crate::{
    event::{EventRef, SourceVersion},
    identity::Membership,
};

/// Version of the layout of the records this program writes to its own topics. A reader refuses what is newer.
pub const FORMAT: u32 = 1;

/// Who a contact is, what is known about it, and whose word that is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ContactRecord {
    pub contact_id: ContactId,
    pub version: Version,
    pub status: Status,
    /// The contact that this one became, when `status` is `merged`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged_into: Option<ContactId>,
    /// The merged document. A deleted contact keeps its last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<Document>,
    /// Per unit of the document (a JSON pointer such as `/name` or `/organization/title`): the member that it is from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub provenance: BTreeMap<String, MemberRef>,
    /// The source records that it is made up of. Their other members are private to this program.
    #[schemars(with = "Vec<MemberRef>")]
    pub members: Vec<Member>,
    /// The event that caused this version; absent where the program or an operator did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EventRef>,
    pub received_at: Timestamp,
    /// The resolver's term in which this was decided.
    pub epoch: u64,
    /// Version of this layout. A reader refuses one that is newer than it knows.
    pub format: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Live,
    Deleted,
    Merged,
    Erased,
}

/// Names a source record: what one source says about one subject.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct MemberRef {
    pub source: Arc<str>,
    pub subject: Arc<str>,
}

/// A source record. `source` and `subject` are public; the rest is private to this program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "FlatMember")]
pub struct Member {
    pub source: Arc<str>,
    pub subject: Arc<str>,
    #[serde(flatten)]
    pub state: MemberState,
}

/// A source record as it is read: serde would take in every value twice to fill a flattened one.
#[derive(Deserialize)]
struct FlatMember {
    source: Arc<str>,
    subject: Arc<str>,
    live: bool,
    version: SourceVersion,
    view: Document,
    spoke_at: Timestamp,
    event_ids: Vec<String>,
    content: String,
    #[serde(default)]
    membership: Membership,
}

impl From<FlatMember> for Member {
    fn from(flat: FlatMember) -> Self {
        let FlatMember { source, subject, live, version, view, spoke_at, event_ids, content, membership } = flat;
        let state = MemberState { live, version, view, spoke_at, event_ids, content, membership };
        Self { source, subject, state }
    }
}

/// The private part of a source record.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MemberState {
    pub live: bool,
    /// Version of the last accepted change.
    pub version: SourceVersion,
    /// This source's view, as last accepted; empty once deleted.
    pub view: Document,
    /// When this source last spoke, for "which source spoke last": the earliest of the change's own time, the input
    /// record's timestamp, and the moment of the decision.
    pub spoke_at: Timestamp,
    /// Keyed hashes of the last [`EVENT_IDS_MAX`] event ids, oldest first.
    pub event_ids: Vec<String>,
    /// Hash of the last accepted content, so that a repeat under a new event id is known.
    pub content: String,
    /// How it came to this contact, and the keys that the contact has by it.
    #[serde(default)]
    pub membership: Membership,
}

/// How many event ids a source record remembers.
pub const EVENT_IDS_MAX: usize = 64;
