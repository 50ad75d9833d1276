//! The contact: its document, and the record this program keeps of it.
//!
//! [`document`] is what a source may say about a contact, checked against the table in [`schema`]; [`record`] is what
//! became of all that the sources said, laid out as [`mod@format`] has it; [`survivorship`] decides whose word counts for
//! which part; [`normalise`] makes comparable what people write in many ways. Nothing here knows of logs, HTTP or time.

pub mod document;
pub mod format;
pub mod normalise;
pub mod record;
pub mod schema;
pub mod survivorship;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use document::Document;
pub use record::ContactRecord;

/// Names a contact for good: a UUIDv8 that reveals nothing, is never used twice, and is safe as a CRM's external id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct ContactId(pub Uuid);

impl ContactId {
    /// The id as record key: its hyphenated lower-case text, which is also what other programs see.
    pub fn key(&self) -> String {
        self.0.hyphenated().to_string()
    }

    /// Reads a record key back.
    pub fn from_key(key: &[u8]) -> Option<Self> {
        Uuid::try_parse_ascii(key).ok().map(Self)
    }
}

impl fmt::Display for ContactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl fmt::Debug for ContactId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Counts the changes of one contact, from 1.
pub type Version = u64;
