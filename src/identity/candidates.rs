//! Which contacts the keys of a change bring up.
//!
//! Every contact that owns or claims one of the keys, once, named with the strongest key that led to it: key by key in
//! the order in which the rules rank them, of each the owner first and then the claimants in the order of their claims.
//! Whether a candidate is the person meant is for [`super::judgement`] to say.

use std::sync::Arc;

use super::{
    Known,
    keys::{AssertedKey, KeyEntry},
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
    pub by: AssertedKey,
}

/// Looks a key up.
///
/// # Errors
/// Those of `known`.
pub fn look_up<K: Known + ?Sized>(key: AssertedKey, known: &K) -> Result<Held, K::Error> {
    Ok(Held { entry: known.key(key.hash)?, key })
}

/// The distinct holders of the keys, in the order of the keys. A generic key brings up nobody.
pub fn collect(held: &[Held]) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::new();
    for Held { key, entry } in held {
        let Some(entry) = entry.as_ref().filter(|entry| !entry.generic) else {
            continue;
        };
        for holder in entry.holders() {
            // A change asserts at most a few dozen keys of a few holders: looking through them beats a set.
            if candidates.iter().all(|candidate| candidate.contact != holder) {
                candidates.push(Candidate { contact: holder, by: key.clone() });
            }
        }
    }
    candidates
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::identity::keys::{KeyHash, KeyType};

    fn held(hash: u8, owner: Option<u128>, claimants: &[u128]) -> Held {
        let contact = |id: u128| ContactId(Uuid::from_u128(id));
        let entry = KeyEntry {
            owner: owner.map(contact),
            claimants: claimants.iter().copied().map(contact).collect(),
            ..KeyEntry::free(KeyType::Email)
        };
        let key = AssertedKey { key_type: KeyType::Email, hash: KeyHash([hash; 16]) };
        Held { key, entry: Some(Arc::new(entry)) }
    }

    #[track_caller]
    fn check(held: &[Held], expected: &[(u128, u8)]) {
        let found: Vec<_> = collect(held).iter().map(|found| (found.contact.0.as_u128(), found.by.hash.0[0])).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_holder_is_brought_up_once_by_its_strongest_key() {
        check(&[held(1, Some(7), &[]), held(2, Some(8), &[]), held(3, Some(7), &[])], &[(7, 1), (8, 2)]);
    }

    #[test]
    fn claimants_come_after_the_owner_of_their_key_in_the_order_of_their_claims() {
        check(&[held(1, Some(7), &[9, 5]), held(2, Some(5), &[3])], &[(7, 1), (9, 1), (5, 1), (3, 2)]);
    }

    #[test]
    fn a_key_that_is_free_generic_or_unknown_brings_up_nobody() {
        check(&[held(1, None, &[])], &[]);
        let mut generic = held(1, Some(7), &[8]);
        Arc::make_mut(generic.entry.as_mut().unwrap()).generic = true;
        check(&[generic, Held { entry: None, ..held(2, None, &[]) }], &[]);
    }
}
