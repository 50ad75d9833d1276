//! Who a change is about, and what becomes of them: pure rules over what is known.
//!
//! [`resolve()`] takes one change and answers with a [`Decision`]: the keys and records to write, the entries for the
//! replicators, or the outcome of a change that ends here. It reads through [`Known`] and touches nothing. Called
//! serially over one order of changes it gives one result, which is what makes "the same person twice" impossible.
//!
//! Three things are kept apart, because each grows with every rule that is added: which keys an event asserts
//! ([`keys`]); which contacts they bring up ([`candidates`]); and the judgement of one candidate ([`judgement`]), which
//! names its reasons. What joined a source record to its contact stays with it ([`membership`]), and the rules of the
//! installation are in [`policy`].
//!
//! Invariants:
//! - A live source record is in exactly one contact, the owner of its source id.
//! - A key that a live source record asserts has exactly one owner, unless it is generic; nobody holds a key that none of
//!   its live source records asserts.
//! - A contact is live exactly while one of its source records is.
//! - A contact's version rises by one when its document or status changes, and otherwise stays.
//! - A contact id is never given twice.
//!
//! Nothing here knows of logs, HTTP or the time of day.

pub mod candidates;
#[cfg(test)]
mod cases;
mod claims;
pub mod judgement;
pub mod keys;
pub mod membership;
pub mod policy;
mod resolve;
mod source_record;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;

pub use membership::Membership;
pub use policy::Policy;
pub use resolve::{Answer, Decision, Ending, NewKey, NewRecord, Notice, resolve};

use self::keys::{KeyEntry, KeyHash};
use crate::{
    contact::{ContactId, ContactRecord},
    privacy::Hasher,
};

/// What is known: the newest committed state, and the decisions on their way there.
pub trait Known {
    /// Why a look-up may fail. Never "there is none".
    type Error;

    /// What is known of a key.
    fn key(&self, key: KeyHash) -> Result<Option<Arc<KeyEntry>>, Self::Error>;

    /// The newest record of a contact.
    fn record(&self, contact: ContactId) -> Result<Option<Arc<ContactRecord>>, Self::Error>;
}

/// What a decision rests on besides the change and what is known.
#[derive(Debug, Clone)]
pub struct Context {
    /// The resolver's term, written into everything it decides.
    pub epoch: u64,
    /// The moment of the decision.
    pub now: Timestamp,
    pub hasher: Hasher,
    /// Sources by their URI, the most trusted first.
    pub source_priority: Arc<[Arc<str>]>,
    pub policy: Arc<Policy>,
}

/// The bounds of a contact.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Live records of one source in one contact, where the source has no limit of its own; 0: any number.
    pub source_ids_per_source: usize,
    /// Distinct e-mail addresses of one contact.
    pub emails: usize,
    /// Live source records of one contact.
    pub records: usize,
    /// Keys that one event may assert, its source id among them.
    pub keys_per_event: usize,
    /// Holders of a key from which on it leads to nobody new.
    pub generic_after: usize,
    /// Largest encoded record, in bytes.
    pub record_bytes_max: usize,
}
