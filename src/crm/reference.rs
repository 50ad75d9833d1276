//! Lists of a CRM that contacts refer to by id: countries, types, categories.
//!
//! A connector has no memory, and reading such a list for each contact would be one call too many. So what a connector
//! has learnt is kept beside it, for all deliveries of its CRM: it looks in [`References`] first, reads the list if it is
//! not there, and says what it has read ([`super::Step::Learned`]); the delivery then begins anew with the list at hand.
//!
//! Beside the lists, contacts refer to each other: see [`super::relation`].
//!
//! Lists change: one is read again once it is old, and sooner where it lacks what a contact names, but not for each such
//! contact.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::RwLock;
use tokio::time::Instant;

use super::relation::Related;

/// What is kept of the lists of one CRM.
#[derive(Debug)]
pub struct Library {
    shelves: RwLock<BTreeMap<&'static str, Shelf>>,
    age_max: Duration,
    miss_age: Duration,
}

#[derive(Debug)]
struct Shelf {
    rows: Arc<BTreeMap<String, String>>,
    read_at: Instant,
}

impl Library {
    /// A list older than `age_max` is read again; one that lacks something, if it is older than `miss_age`.
    pub fn new(age_max: Duration, miss_age: Duration) -> Self {
        Self { shelves: RwLock::default(), age_max, miss_age }
    }

    /// The lists as they are at `now`.
    pub fn at(&self, now: Instant) -> References {
        let shelves = self.shelves.read();
        let young = shelves.iter().filter(|(_, shelf)| now < shelf.read_at + self.age_max);
        let lists = young.map(|(name, shelf)| {
            let list = List { rows: shelf.rows.clone(), complete: now < shelf.read_at + self.miss_age };
            (*name, list)
        });
        References { lists: lists.collect(), related: Related::default() }
    }

    /// Keeps what was read by `now`.
    pub fn keep(&self, learned: Learned, now: Instant) {
        self.shelves.write().insert(learned.list, Shelf { rows: Arc::new(learned.rows), read_at: now });
    }
}

/// A list that was read, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    pub list: &'static str,
    /// By what contacts name an item, what the CRM calls it.
    pub rows: BTreeMap<String, String>,
}

/// The lists of one CRM, and the contacts that the one to be delivered names, as they are known when a delivery begins.
#[derive(Debug, Clone, Default)]
pub struct References {
    lists: BTreeMap<&'static str, List>,
    related: Related,
}

#[derive(Debug, Clone)]
struct List {
    rows: Arc<BTreeMap<String, String>>,
    /// Read so lately that what is not in it need not be looked for again.
    complete: bool,
}

/// What a list says of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known<'a> {
    As(&'a str),
    /// The CRM has no such item.
    Missing,
    /// The list must be read to tell.
    Unread,
}

impl References {
    #[must_use]
    pub fn with(self, related: Related) -> Self {
        Self { related, ..self }
    }

    pub fn related(&self) -> &Related {
        &self.related
    }

    pub fn find(&self, list: &str, item: &str) -> Known<'_> {
        let Some(list) = self.lists.get(list) else { return Known::Unread };
        match list.rows.get(item) {
            Some(id) => Known::As(id),
            None if list.complete => Known::Missing,
            None => Known::Unread,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_list_is_read_again_once_it_is_old_and_sooner_for_what_it_lacks() {
        let library = Library::new(Duration::from_secs(3600), Duration::from_secs(60));
        let read_at = Instant::now();
        assert_eq!(library.at(read_at).find("country", "DK"), Known::Unread);
        let rows = BTreeMap::from([("DK".to_owned(), "28".to_owned())]);
        library.keep(Learned { list: "country", rows }, read_at);
        let at = |seconds| library.at(read_at + Duration::from_secs(seconds));
        for (seconds, known, lacking) in [
            (59, Known::As("28"), Known::Missing),
            (60, Known::As("28"), Known::Unread),
            (3600, Known::Unread, Known::Unread),
        ] {
            assert_eq!((at(seconds).find("country", "DK"), at(seconds).find("country", "SE")), (known, lacking));
        }
    }
}
