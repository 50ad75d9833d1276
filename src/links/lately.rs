//! What was asked of this worker a short while ago, and may not show in the view yet.
//!
//! Of names hashes are kept, and of asks the last [`ASKS_MAX`]: by then the view has long seen what there was before, as far
//! as it sees it at all.

use std::{
    collections::{HashMap, VecDeque, hash_map::DefaultHasher},
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use parking_lot::Mutex;

use crate::contact::ContactId;

/// Asks that are remembered; some 10 MB.
const ASKS_MAX: usize = 100_000;

/// Clones remember together.
#[derive(Clone, Default)]
pub struct Lately(Arc<Mutex<Asks>>);

#[derive(Default)]
struct Asks {
    /// By CRM and name: who was said to have it.
    holders: HashMap<u64, ContactId>,
    /// By CRM and contact: the key of the name that it was said to have, if any.
    names: HashMap<(u64, ContactId), Option<u64>>,
    /// The oldest first.
    order: VecDeque<(u64, ContactId)>,
}

impl fmt::Debug for Lately {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lately")
    }
}

impl Lately {
    /// `contact` was said to have this name in `crm`, or none of those that are there.
    pub(super) fn note(&self, crm: &str, contact: ContactId, name: Option<&str>) {
        let mut asks = self.0.lock();
        let key = (hash(crm), contact);
        let name = name.map(|name| hash((crm, name)));
        let before = asks.names.insert(key, name);
        if before.is_none() {
            asks.order.push_back(key);
        }
        asks.give_up(before.flatten(), contact);
        asks.holders.extend(name.map(|name| (name, contact)));
        if asks.order.len() > ASKS_MAX
            && let Some(oldest) = asks.order.pop_front()
        {
            let name = asks.names.remove(&oldest).flatten();
            asks.give_up(name, oldest.1);
        }
    }

    /// Who was last said to have this name.
    pub(super) fn holder(&self, crm: &str, name: &str) -> Option<ContactId> {
        self.0.lock().holders.get(&hash((crm, name))).copied()
    }

    /// Whether `contact` was said to have this name; `None` if nothing was said of it.
    pub(super) fn is_called(&self, crm: &str, contact: ContactId, name: &str) -> Option<bool> {
        let said = *self.0.lock().names.get(&(hash(crm), contact))?;
        Some(said == Some(hash((crm, name))))
    }
}

impl Asks {
    fn give_up(&mut self, name: Option<u64>, contact: ContactId) {
        if let Some(name) = name.filter(|name| self.holders.get(name) == Some(&contact)) {
            self.holders.remove(&name);
        }
    }
}

fn hash(what: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn contact(number: usize) -> ContactId {
        ContactId(Uuid::from_u128(number as u128))
    }

    #[test]
    fn the_last_word_counts_and_each_crm_has_names_of_its_own() {
        let lately = Lately::default();
        assert_eq!((lately.holder("a", "1"), lately.is_called("a", contact(7), "1")), (None, None));
        lately.note("a", contact(7), Some("1"));
        assert_eq!(lately.holder("a", "1"), Some(contact(7)));
        assert_eq!(lately.is_called("a", contact(7), "1"), Some(true));
        assert_eq!((lately.holder("b", "1"), lately.is_called("b", contact(7), "1")), (None, None));
        lately.note("a", contact(7), Some("2"));
        assert_eq!((lately.holder("a", "1"), lately.holder("a", "2")), (None, Some(contact(7))));
        lately.note("a", contact(7), None);
        assert_eq!((lately.holder("a", "2"), lately.is_called("a", contact(7), "2")), (None, Some(false)));
        lately.note("a", contact(7), Some("1"));
        lately.note("a", contact(8), Some("1"));
        lately.note("a", contact(7), Some("3"));
        assert_eq!(lately.holder("a", "1"), Some(contact(8)), "who has it now keeps it");
    }

    #[test]
    fn no_more_is_remembered_than_the_bound() {
        let lately = Lately::default();
        for number in 0..=ASKS_MAX {
            lately.note("a", contact(number), Some(&number.to_string()));
        }
        assert_eq!((lately.holder("a", "0"), lately.is_called("a", contact(0), "0")), (None, None));
        assert_eq!(lately.holder("a", "1"), Some(contact(1)));
        let asks = lately.0.lock();
        assert_eq!((asks.holders.len(), asks.names.len(), asks.order.len()), (ASKS_MAX, ASKS_MAX, ASKS_MAX));
    }
}
