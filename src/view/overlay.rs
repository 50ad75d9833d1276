//! The overlay: decisions that are committed, or about to be, but not yet seen back by the follower.
//!
//! A decision must see the one before it, although that one is still on its way through the log. So whoever decides
//! reads here first and in the view second. Each value belongs to a *generation*: one transaction, counted upwards.
//!
//! ```text
//! insert(generation) ──► committed(generation) ──► retire (the view holds it)
//!                   └──► discard()               the transaction failed: as if never decided
//! ```
//!
//! Invariant: a read through overlay and view never goes back in time. That is why retiring is careful. Passing the
//! end of the log as it was after the commit proves that the view holds a generation and all before it; that the view
//! holds *equal* bytes proves it only for a value that replaced nothing: with A, then B, then A again on their way, a
//! view that holds A may be at the first.
//!
//! No I/O, no clock, no lock: the decider owns it.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

use super::View;
use crate::log::{Offset, TopicPartition};

/// Counts transactions of one decider, upwards.
pub type Generation = u64;

/// Values that are newer than the view's. `V` is cheap to clone where it matters ([`std::sync::Arc`]).
#[derive(Debug)]
pub struct Overlay<K, V> {
    slots: HashMap<K, Slot<V>>,
    /// The keys of each committed generation, oldest first; a key may have moved on to a later one.
    committed: BTreeMap<Generation, Vec<K>>,
    /// The keys of each generation that is not committed.
    pending: BTreeMap<Generation, Vec<K>>,
    values: usize,
}

#[derive(Debug)]
struct Slot<V> {
    committed: Option<Committed<V>>,
    /// Oldest first.
    pending: Vec<(Generation, V)>,
}

#[derive(Debug)]
struct Committed<V> {
    generation: Generation,
    value: V,
    /// It replaced a value that was still on its way: equal bytes in the view prove nothing.
    replaced: bool,
}

impl<K, V> Default for Overlay<K, V> {
    fn default() -> Self {
        Self { slots: HashMap::new(), committed: BTreeMap::new(), pending: BTreeMap::new(), values: 0 }
    }
}

impl<K: Hash + Eq + Clone, V> Overlay<K, V> {
    pub fn new() -> Self {
        Self::default()
    }

    /// The newest decision about `key`, if the view may not hold it yet.
    pub fn get(&self, key: &K) -> Option<&V> {
        let slot = self.slots.get(key)?;
        slot.pending.last().map(|(_, value)| value).or(slot.committed.as_ref().map(|committed| &committed.value))
    }

    /// Adds a decision of `generation`. A second one about the same key takes the place of the first.
    ///
    /// # Panics
    /// If `generation` is older than one already here: decisions are made one after the other.
    pub fn insert(&mut self, key: K, value: V, generation: Generation) {
        let newest = self.pending.keys().next_back().max(self.committed.keys().next_back());
        assert!(newest.is_none_or(|newest| *newest <= generation), "generations are counted upwards");
        assert!(!self.committed.contains_key(&generation), "a committed generation is closed");
        let slot = self.slots.entry(key.clone()).or_insert(Slot { committed: None, pending: Vec::new() });
        match slot.pending.last_mut() {
            Some((same, held)) if *same == generation => *held = value,
            _ => {
                slot.pending.push((generation, value));
                self.values += 1;
                self.pending.entry(generation).or_default().push(key);
            }
        }
    }

    /// The transactions up to and including `generation` are committed.
    pub fn committed(&mut self, generation: Generation) {
        while let Some(entry) = self.pending.first_entry().filter(|entry| *entry.key() <= generation) {
            let (generation, keys) = entry.remove_entry();
            for key in &keys {
                let slot = self.slots.get_mut(key).expect("a pending key has a slot");
                assert_eq!(slot.pending[0].0, generation, "the oldest decision about a key is committed first");
                let (generation, value) = slot.pending.remove(0);
                let replaced = slot.committed.replace(Committed { generation, value, replaced: false }).is_some();
                if replaced {
                    self.values -= 1;
                    slot.committed.as_mut().expect("just put there").replaced = true;
                }
            }
            self.committed.insert(generation, keys);
        }
    }

    /// Takes back every decision that is not committed: a transaction failed, and what was decided after it may rest
    /// on it.
    pub fn discard(&mut self) {
        for key in std::mem::take(&mut self.pending).into_values().flatten() {
            // A key that two generations touched is met twice, and has no slot the second time.
            let Some(slot) = self.slots.get_mut(&key) else {
                continue;
            };
            self.values -= slot.pending.len();
            slot.pending.clear();
            if slot.committed.is_none() {
                self.slots.remove(&key);
            }
        }
    }

    /// Forgets the committed values of every generation up to and including `generation`: the view's positions have
    /// passed the ends of the log that were taken after its commit. See [`Horizon`].
    pub fn retire_through(&mut self, generation: Generation) {
        while let Some(entry) = self.committed.first_entry().filter(|entry| *entry.key() <= generation) {
            let (generation, keys) = entry.remove_entry();
            for key in keys {
                self.retire(&key, generation);
            }
        }
    }

    /// Forgets committed values that the view holds, as `held` says, oldest generation first; stops at the first
    /// generation that is not wholly in the view, so that the cost follows what there is to retire. Values that
    /// replaced another one here are left to [`Overlay::retire_through`].
    ///
    /// # Errors
    /// Those of `held`; what was retired before stays retired.
    pub fn retire_held<E>(&mut self, mut held: impl FnMut(&K, &V) -> Result<bool, E>) -> Result<(), E> {
        while let Some(mut entry) = self.committed.first_entry() {
            let generation = *entry.key();
            while let Some(key) = entry.get().last() {
                let moved_on = match self.slots.get(key).and_then(|slot| slot.committed.as_ref()) {
                    Some(committed) if committed.generation == generation => {
                        if committed.replaced || !held(key, &committed.value)? {
                            return Ok(());
                        }
                        false
                    }
                    _ => true,
                };
                let key = entry.get_mut().pop().expect("just looked at");
                if !moved_on {
                    forget(&mut self.slots, &mut self.values, &key);
                }
            }
            entry.remove();
        }
        Ok(())
    }

    /// Forgets everything: somebody else decides now.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Values held, for the bound.
    pub fn len(&self) -> usize {
        self.values
    }

    pub fn is_empty(&self) -> bool {
        self.values == 0
    }

    /// The newest generation that is committed and not yet retired.
    pub fn newest_committed(&self) -> Option<Generation> {
        self.committed.keys().next_back().copied()
    }

    fn retire(&mut self, key: &K, generation: Generation) {
        let of_this = self.slots.get(key).and_then(|slot| slot.committed.as_ref());
        if of_this.is_some_and(|committed| committed.generation == generation) {
            forget(&mut self.slots, &mut self.values, key);
        }
    }
}

/// Drops the committed value of `key`, and its slot when nothing else is in it.
fn forget<K: Hash + Eq, V>(slots: &mut HashMap<K, Slot<V>>, values: &mut usize, key: &K) {
    let slot = slots.get_mut(key).expect("a key with a committed value has a slot");
    slot.committed = None;
    *values -= 1;
    if slot.pending.is_empty() {
        slots.remove(key);
    }
}

/// A point of the log behind which a generation lies for certain: the ends of the partitions it wrote to (high
/// watermarks, which count open transactions), taken *after* its commit was answered.
#[derive(Debug, Clone)]
pub struct Horizon {
    pub generation: Generation,
    pub ends: Vec<(TopicPartition, Offset)>,
}

impl Horizon {
    /// Whether the view has passed it, so that [`Overlay::retire_through`] may be called with its generation.
    pub fn is_passed(&self, view: &View) -> bool {
        self.ends.iter().all(|(at, end)| view.position(at).is_some_and(|position| position >= *end))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn holding(view: &HashMap<u8, u32>) -> impl FnMut(&u8, &u32) -> Result<bool, Infallible> {
        |key, value| Ok(view.get(key) == Some(value))
    }

    #[test]
    fn the_newest_decision_is_read() {
        let mut overlay = Overlay::new();
        overlay.insert("ann", 1, 1);
        overlay.committed(1);
        overlay.insert("ann", 2, 2);
        overlay.insert("ann", 3, 2);
        assert_eq!(overlay.get(&"ann"), Some(&3));
        assert_eq!(overlay.get(&"bob"), None);
        assert_eq!(overlay.len(), 2);
    }

    #[test]
    fn a_failed_transaction_takes_all_uncommitted_decisions_with_it() {
        let mut overlay = Overlay::new();
        overlay.insert("ann", 1, 1);
        overlay.committed(1);
        overlay.insert("ann", 2, 2);
        overlay.insert("ann", 3, 3);
        overlay.insert("bob", 3, 3);
        overlay.discard();
        assert_eq!(overlay.get(&"ann"), Some(&1));
        assert_eq!(overlay.get(&"bob"), None);
        assert_eq!(overlay.len(), 1);
    }

    #[test]
    fn a_value_that_the_view_holds_is_forgotten_and_a_pending_one_never_is() {
        let mut overlay = Overlay::new();
        overlay.insert(1_u8, 10_u32, 1);
        overlay.insert(2, 20, 2);
        overlay.committed(1);
        overlay.retire_held(holding(&HashMap::from([(1, 10), (2, 20)]))).unwrap();
        assert_eq!(overlay.get(&1), None);
        assert_eq!(overlay.get(&2), Some(&20));
        overlay.retire_through(2);
        assert_eq!(overlay.get(&2), Some(&20));
        overlay.committed(2);
        overlay.retire_through(2);
        assert!(overlay.is_empty());
    }

    #[test]
    fn a_value_that_came_back_is_not_mistaken_for_its_first_appearance() {
        let mut overlay = Overlay::new();
        for (generation, value) in [(5, 1), (6, 2), (7, 1)] {
            overlay.insert(1_u8, value, generation);
            overlay.committed(generation);
        }
        // The view is at generation 5; the next thing it learns is the value of generation 6.
        overlay.retire_held(holding(&HashMap::from([(1, 1)]))).unwrap();
        assert_eq!(overlay.get(&1), Some(&1));
        overlay.retire_through(6);
        assert_eq!(overlay.get(&1), Some(&1));
        overlay.retire_through(7);
        assert!(overlay.is_empty());
    }

    #[test]
    #[should_panic(expected = "generations are counted upwards")]
    fn decisions_out_of_order_are_refused() {
        let mut overlay = Overlay::new();
        overlay.insert(1, 1, 2);
        overlay.insert(1, 1, 1);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Decide(Vec<(u8, u32)>),
        Commit,
        Fail,
        /// The view follows so many transactions, then the overlay retires in either way.
        Follow(usize, bool),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => proptest::collection::vec((0..4_u8, 0..3_u32), 1..4).prop_map(Step::Decide),
            3 => Just(Step::Commit),
            1 => Just(Step::Fail),
            3 => (0..3_usize, any::<bool>()).prop_map(|(count, by_value)| Step::Follow(count, by_value)),
        ];
        proptest::collection::vec(step, 0..60)
    }

    proptest! {
        /// With an eager model of all decisions that did not fail beside it.
        #[test]
        fn overlay_then_view_is_always_the_newest_decision(steps in steps()) {
            let mut overlay = Overlay::new();
            let (mut view, mut followed) = (HashMap::new(), 0);
            let mut log: Vec<HashMap<u8, u32>> = Vec::new();
            let mut generations_of_log = Vec::new();
            let mut pending: BTreeMap<Generation, HashMap<u8, u32>> = BTreeMap::new();
            for (generation, step) in (1..).zip(steps) {
                match step {
                    Step::Decide(decisions) => for (key, value) in decisions {
                        overlay.insert(key, value, generation);
                        pending.entry(generation).or_default().insert(key, value);
                    },
                    Step::Commit => if let Some((oldest, decisions)) = pending.pop_first() {
                        overlay.committed(oldest);
                        log.push(decisions);
                        generations_of_log.push(oldest);
                    },
                    Step::Fail => { overlay.discard(); pending.clear(); }
                    Step::Follow(count, by_value) => {
                        for decisions in log.iter().skip(followed).take(count) {
                            view.extend(decisions.clone());
                        }
                        followed = (followed + count).min(log.len());
                        if by_value {
                            overlay.retire_held(holding(&view)).unwrap();
                        } else if let Some(last) = followed.checked_sub(1) {
                            overlay.retire_through(generations_of_log[last]);
                        }
                    }
                }
                let mut truth = HashMap::new();
                log.iter().chain(pending.values()).for_each(|decisions| truth.extend(decisions.clone()));
                for key in 0..4 {
                    prop_assert_eq!(overlay.get(&key).or(view.get(&key)), truth.get(&key));
                }
            }
            while let Some((oldest, _)) = pending.pop_first() {
                overlay.committed(oldest);
                generations_of_log.push(oldest);
            }
            overlay.retire_through(generations_of_log.last().copied().unwrap_or(0));
            prop_assert!(overlay.is_empty());
        }
    }
}
