//! Which offset of one partition is safe to commit.
//!
//! Contacts are delivered in parallel, so entries are answered out of order, while a committed offset covers everything
//! below it. The ledger releases an offset only once every earlier one is answered.
//!
//! Invariant: the commit point never passes an unanswered entry. A crash may repeat answered work, which the links
//! then recognise; it never skips unanswered work.

use std::collections::BTreeMap;

use jiff::Timestamp;

use crate::log::Offset;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ledger {
    /// With the time since which each waits.
    unanswered: BTreeMap<Offset, Timestamp>,
    /// One past the highest offset read.
    next: Offset,
}

impl Ledger {
    /// A partition that is read from `start` on.
    pub fn new(start: Offset) -> Self {
        Self { unanswered: BTreeMap::new(), next: start }
    }

    /// Records that the entry at `offset`, which waits since `received_at`, was read.
    ///
    /// # Panics
    /// If offsets do not rise: a partition arrives in order.
    pub fn read(&mut self, offset: Offset, received_at: Timestamp) {
        assert!(self.next <= offset, "a partition arrives in order");
        self.unanswered.insert(offset, received_at);
        self.next = offset + 1;
    }

    /// Records that the answer of the entry at `offset` is part of the next commit, or was committed before.
    pub fn answer(&mut self, offset: Offset) {
        let was_unanswered = self.unanswered.remove(&offset);
        assert!(was_unanswered.is_some(), "an offset is answered exactly once");
    }

    /// The first offset that a successor must read again.
    pub fn commit_point(&self) -> Offset {
        self.unanswered.first_key_value().map_or(self.next, |(offset, _)| *offset)
    }

    /// Since when the entry at the commit point waits, if one does.
    pub fn waits_since(&self) -> Option<Timestamp> {
        self.unanswered.first_key_value().map(|(_, received_at)| *received_at)
    }

    /// One past the highest offset read.
    pub fn next(&self) -> Offset {
        self.next
    }

    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COUNT: u64 = 40;

    proptest! {
        #[test]
        fn the_commit_point_never_passes_an_unanswered_entry(
            order in Just((0..COUNT).collect::<Vec<_>>()).prop_shuffle(),
            gap in 1_u64..4,
        ) {
            let mut ledger = Ledger::new(7);
            let at = |number: u64| Timestamp::from_second(number.try_into().unwrap()).unwrap();
            (0..COUNT).for_each(|number| ledger.read(7 + number * gap, at(number)));
            for (done, number) in order.iter().enumerate() {
                ledger.answer(7 + number * gap);
                let lowest = order[done + 1..].iter().min();
                let end = 7 + (COUNT - 1) * gap + 1;
                prop_assert_eq!(ledger.commit_point(), lowest.map_or(end, |number| 7 + number * gap));
                prop_assert_eq!(ledger.waits_since(), lowest.map(|number| at(*number)));
            }
        }
    }
}
