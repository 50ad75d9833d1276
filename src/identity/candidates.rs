//! Which contacts the keys of a change bring up.
//!
//! Every contact that owns one of the keys, once, named with the strongest key that led to it and in the order in
//! which the rules rank the keys. Whether a candidate is the person meant is for [`super::judgement`] to say.

use std::sync::Arc;

use super::{
    Known,
    keys::{AssertedKey, KeyEntry, KeyType},
};
use crate::contact::ContactId;

/// A key that a change asserts, with what is known of it.
#[derive(Debug, Clone)]
pub struct Held {
    pub key: AssertedKey,
    pub entry: Option<Arc<KeyEntry>>,
}

/// A contact that may be the one a change is about.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    pub contact: ContactId,
    /// The strongest key that leads to it.
    pub by: KeyType,
}

/// Looks each key up once.
///
/// # Errors
/// Those of `known`.
pub fn look_up<K: Known + ?Sized>(asserted: Vec<AssertedKey>, known: &K) -> Result<Vec<Held>, K::Error> {
    asserted.into_iter().map(|key| Ok(Held { entry: known.key(key.hash)?, key })).collect()
}

/// The distinct owners of the keys, in the order of the keys.
pub fn collect(held: &[Held]) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::new();
    for Held { key, entry } in held {
        let Some(owner) = entry.as_ref().and_then(|entry| entry.owner) else {
            continue;
        };
        // A change asserts at most a few dozen keys: looking through them beats a set.
        if candidates.iter().all(|candidate| candidate.contact != owner) {
            candidates.push(Candidate { contact: owner, by: key.key_type.clone() });
        }
    }
    candidates
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::identity::keys::KeyHash;

    fn held(key_type: KeyType, hash: u8, owner: Option<u128>) -> Held {
        let entry = KeyEntry {
            key_type: key_type.clone(),
            owner: owner.map(|id| ContactId(Uuid::from_u128(id))),
            version: None,
            event_ids: Vec::new(),
            last_owner: None,
            epoch: 1,
            format: 1,
        };
        Held { key: AssertedKey { key_type, hash: KeyHash([hash; 16]) }, entry: Some(Arc::new(entry)) }
    }

    #[test]
    fn an_owner_is_brought_up_once_by_its_strongest_key() {
        let candidates = collect(&[
            held(KeyType::SourceId, 1, Some(7)),
            held(KeyType::Email, 2, Some(8)),
            held(KeyType::Phone, 3, Some(7)),
        ]);
        let found: Vec<_> = candidates.iter().map(|candidate| (candidate.contact.0.as_u128(), &candidate.by)).collect();
        assert_eq!(found, [(7, &KeyType::SourceId), (8, &KeyType::Email)]);
    }

    #[test]
    fn a_key_without_owner_brings_up_nobody() {
        assert_eq!(collect(&[held(KeyType::SourceId, 1, None)]), []);
    }
}
