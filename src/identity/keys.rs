//! Keys: normalised identifiers, kept as keyed hashes, and who owns each.
//!
//! Which keys an event asserts is decided here and nowhere else ([`asserted`]), in the order in which the rules rank
//! them. Whom they bring up, and whether that is the same person, are other questions with modules of their own.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    contact::ContactId,
    event::{SourceVersion, change::Change},
    privacy::{Hasher, hex},
};

/// HMAC-SHA-256 of type and normalised value, truncated to 128 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyHash(pub [u8; 16]);

impl KeyHash {
    /// The key of one source's subject.
    pub fn of_source_id(hasher: &Hasher, source: &str, subject: &str) -> Self {
        Self(hasher.hash128("key:source_id", &[source.as_bytes(), subject.as_bytes()]))
    }

    /// As record key of `contact-keys`.
    pub fn key(&self) -> String {
        hex(&self.0)
    }
}

impl std::fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.key())
    }
}

/// What `contact-keys` holds of one key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyEntry {
    #[serde(rename = "type")]
    pub key_type: KeyType,
    /// The owner; `None` when nobody asserts the key now.
    pub owner: Option<ContactId>,
    /// Of a source id: the version last accepted when it was last written, kept after a delete, for good. While the
    /// source record is live, the newest stands with the member in the contact's record, so that an update that
    /// changes no owner writes no key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<SourceVersion>,
    /// Of a source id without a live source record: hashes of the last events it accepted, so that an event that comes
    /// again after the delete is still known. A live one keeps them with the member.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_ids: Vec<String>,
    /// Of a source id: the contact it last belonged to, also after a delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_owner: Option<ContactId>,
    pub epoch: u64,
    pub format: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyType {
    SourceId,
    SharedId(Arc<str>),
    Email,
    Phone,
}

/// A key that a change asserts.
#[derive(Debug, Clone, PartialEq)]
pub struct AssertedKey {
    pub key_type: KeyType,
    pub hash: KeyHash,
}

/// The keys that a change asserts, the strongest rule first. The source id is always there and always first.
pub fn asserted(change: &Change, hasher: &Hasher) -> Vec<AssertedKey> {
    let hash = KeyHash::of_source_id(hasher, &change.source, &change.subject);
    vec![AssertedKey { key_type: KeyType::SourceId, hash }]
}
