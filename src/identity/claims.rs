//! What a decision about one contact does to the keys that its source records assert.
//!
//! Reads each key at most once, and collects those that change. Nothing is written where nothing changes: most events say
//! again what was known.

use std::sync::Arc;

use super::{
    Context, Known, NewKey, Notice,
    keys::{AssertedKey, Claim, KeyEntry, KeyHash},
    membership::{DropCode, Dropped, drop_key},
};
use crate::contact::{ContactId, record::Member};

pub(super) struct Claims<'a> {
    contact: ContactId,
    context: &'a Context,
    /// Keys that changed.
    pub(super) keys: Vec<NewKey>,
    /// Keys that somebody else owns and that the contact claims since now.
    pub(super) shadows: Vec<KeyHash>,
    pub(super) generic: Vec<Notice>,
}

impl<'a> Claims<'a> {
    pub(super) fn new(contact: ContactId, context: &'a Context) -> Self {
        Self { contact, context, keys: Vec::new(), shadows: Vec::new(), generic: Vec::new() }
    }

    /// Claims a key of which `entry` is known. Says whether the contact has it now, as owner or with a claim.
    pub(super) fn claim(&mut self, key: &AssertedKey, entry: Option<&KeyEntry>, dropped: &mut Vec<Dropped>) -> bool {
        if entry.is_some_and(|entry| entry.is_held_by(self.contact)) {
            return true;
        }
        let mut entry = entry.cloned().unwrap_or_else(|| KeyEntry::free(key.key_type.clone()));
        if entry.generic {
            drop_key(dropped, key.key_type.clone(), DropCode::Generic);
            return false;
        }
        let claim = entry.claim(self.contact, self.context.policy.limits.generic_after);
        if let Claim::Shadow { became_generic } = claim {
            self.shadows.push(key.hash);
            if became_generic {
                let (contact, key_type) = (self.contact, key.key_type.clone());
                self.generic.push(Notice::Generic { contact, key_type, holders: entry.holders().collect() });
            }
        }
        self.write(key.hash, entry);
        true
    }

    /// Lets go of a key, unless one of the contact's live source records still asserts it.
    pub(super) fn release_unless_asserted<K: Known + ?Sized>(
        &mut self,
        key: &AssertedKey,
        members: &[Member],
        known: &K,
    ) -> Result<(), K::Error> {
        let asserts = |member: &Member| member.state.live && member.state.membership.keys.contains(key);
        if members.iter().any(asserts) { Ok(()) } else { self.release(key, known) }
    }

    /// Lets go of a key; the oldest other claim is promoted.
    pub(super) fn release<K: Known + ?Sized>(&mut self, key: &AssertedKey, known: &K) -> Result<(), K::Error> {
        if self.keys.iter().any(|new| new.hash == key.hash) {
            return Ok(());
        }
        let entry = known.key(key.hash)?.expect("a key that a source record has is known");
        let mut entry = KeyEntry::clone(&entry);
        assert!(entry.is_held_by(self.contact), "a contact holds the keys of its source records");
        entry.release(self.contact);
        self.write(key.hash, entry);
        Ok(())
    }

    fn write(&mut self, hash: KeyHash, entry: KeyEntry) {
        let entry = Arc::new(KeyEntry { epoch: self.context.epoch, ..entry });
        self.keys.push(NewKey { hash, entry });
    }
}
