//! How a source record came to its contact, so that a record can explain itself.
//!
//! Private to this program, and free of values: keys are hashes, other contacts are ids.

use serde::{Deserialize, Serialize};

use super::{
    judgement::Refusal,
    keys::{AssertedKey, KeyType},
};
use crate::{contact::ContactId, event::labels::labels};

/// Refusals that a source record remembers.
pub const REFUSALS_MAX: usize = 8;

/// What joined a source record to its contact, and what it asserts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Membership {
    /// The key that led to the contact; absent for the one that it was founded with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<KeyType>,
    /// Keys that the contact owns or claims because of this source record, its source id apart.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<AssertedKey>,
    /// The contacts that it was not joined to when that was last asked, at most [`REFUSALS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refusals: Vec<Refused>,
    /// What its last event asserted in vain.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dropped: Vec<Dropped>,
}

/// A contact that a key led to, and why it was not the one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    pub contact: ContactId,
    pub key_type: KeyType,
    pub code: Refusal,
}

/// Values that were not used as keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    pub key_type: KeyType,
    pub code: DropCode,
    pub count: u32,
}

labels! {
    /// Why a value is not used as a key.
    pub enum DropCode {
        /// It is none: no address can look like it.
        Invalid = "invalid",
        /// A mailbox of a role, not of a person.
        Role = "blocked:role",
        Domain = "blocked:domain",
        /// A text that stands for nothing.
        Value = "blocked:value",
        /// Too many contacts assert it.
        Generic = "generic",
        /// The event asserts too many.
        KeyLimit = "key_limit",
    }
}

/// Counts one more.
pub(super) fn drop_key(dropped: &mut Vec<Dropped>, key_type: KeyType, code: DropCode) {
    match dropped.iter_mut().find(|known| known.code == code && known.key_type == key_type) {
        Some(known) => known.count = known.count.saturating_add(1),
        None => dropped.push(Dropped { key_type, code, count: 1 }),
    }
}
