//! Which contacts may hold a text: an index of every three bytes in a row.
//!
//! Connectors search before each create. Looking through all contacts each time would make the simulated system the
//! slowest part of a run, and its time grow with the square of the contacts.
//!
//! It may name contacts that do not hold the text, never leave one out that does.

use std::collections::{BTreeSet, HashMap};

const LENGTH: usize = 3;

#[derive(Default)]
pub(super) struct Index(HashMap<[u8; LENGTH], BTreeSet<u64>>);

impl Index {
    pub(super) fn insert(&mut self, number: u64, text: &str) {
        for gram in grams(text) {
            self.0.entry(gram).or_default().insert(number);
        }
    }

    /// Takes back an [`Index::insert`] of the same text.
    pub(super) fn remove(&mut self, number: u64, text: &str) {
        for gram in grams(text) {
            if let Some(numbers) = self.0.get_mut(&gram) {
                numbers.remove(&number);
                if numbers.is_empty() {
                    self.0.remove(&gram);
                }
            }
        }
    }

    /// The numbers of all texts that may hold this one, in order. `None` if it is too short to tell.
    pub(super) fn candidates(&self, text: &str) -> Option<impl Iterator<Item = u64>> {
        let mut fewest: Option<&BTreeSet<u64>> = None;
        for gram in grams(text) {
            // Any three bytes that are nowhere decide it.
            let Some(numbers) = self.0.get(&gram) else { return Some(None.into_iter().flatten().copied()) };
            if fewest.is_none_or(|fewest| numbers.len() < fewest.len()) {
                fewest = Some(numbers);
            }
        }
        fewest.map(|numbers| Some(numbers).into_iter().flatten().copied())
    }
}

fn grams(text: &str) -> impl Iterator<Item = [u8; LENGTH]> {
    text.as_bytes().windows(LENGTH).filter_map(|window| window.first_chunk().copied())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_that_holds_it_is_left_out(
            texts in prop::collection::vec("[abø]{0,8}", 1..20),
            gone in prop::collection::vec(any::<bool>(), 20),
            sought in "[abø]{0,5}",
        ) {
            let mut index = Index::default();
            for (number, text) in (0..).zip(&texts) {
                index.insert(number, text);
            }
            let mut kept = Vec::new();
            for ((number, text), gone) in (0..).zip(&texts).zip(&gone) {
                if *gone {
                    index.remove(number, text);
                } else {
                    kept.push((number, text));
                }
            }
            let candidates = index.candidates(&sought).map(Iterator::collect::<Vec<u64>>);
            prop_assert_eq!(candidates.is_none(), sought.len() < LENGTH);
            let Some(candidates) = candidates else { return Ok(()) };
            prop_assert!(candidates.is_sorted());
            prop_assert!(candidates.iter().all(|candidate| kept.iter().any(|(number, _)| number == candidate)));
            for (number, text) in kept {
                prop_assert!(!text.contains(&sought) || candidates.contains(&number));
            }
        }
    }

    #[test]
    fn what_was_taken_back_leaves_nothing_behind() {
        let mut index = Index::default();
        index.insert(1, "abcabc");
        index.insert(2, "abc");
        index.remove(1, "abcabc");
        assert_eq!(index.candidates("abc").unwrap().collect::<Vec<_>>(), [2]);
        assert_eq!(index.candidates("bca").unwrap().count(), 0);
        index.remove(2, "abc");
        assert!(index.0.is_empty());
    }
}
