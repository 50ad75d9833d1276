//! Which generation of a named member its transactions show.
//!
//! A member that is expelled just as it joins again, for a rebalance of others, is refused as unknown. The client library
//! then takes another member id and joins once more. Without a name it is sent back for an id first, and tells us that it
//! lost its partitions. With one (KIP-345) it is let in at once, and tells nothing: it keeps partitions that others had
//! meanwhile, under a generation that every broker accepts (`rd_kafka_cgrp_handle_JoinGroup` of librdkafka 2.12.1, which has
//! a case for `MEMBER_ID_REQUIRED` and `ILLEGAL_GENERATION`, and none for `UNKNOWN_MEMBER_ID`).
//!
//! So a new generation is not used before the broker has refused the old one for its number alone, which says that the
//! member is still the one that it was. The broker looks at the member first: `UNKNOWN_MEMBER_ID` or `FENCED_INSTANCE_ID` says
//! that it is not, and then the membership is over. It costs one refused transaction for each rebalance.

/// The generation that is shown, and the one to show when that is outdated.
#[derive(Debug)]
pub(super) struct Generations<T> {
    shown: Option<T>,
    newest: Option<T>,
}

impl<T> Default for Generations<T> {
    fn default() -> Self {
        Self { shown: None, newest: None }
    }
}

impl<T: Clone> Generations<T> {
    /// What to show, where the client's newest is this one; nothing while no membership stands.
    pub(super) fn show(&mut self, newest: Option<T>) -> Option<T> {
        self.newest = newest;
        let newest = self.newest.as_ref()?;
        Some(self.shown.get_or_insert_with(|| newest.clone()).clone())
    }

    /// What was shown is outdated, and the member known. What was the newest before the broker said so is the same member's.
    pub(super) fn outdated(&mut self) {
        self.shown = self.newest.take();
    }

    /// Nothing is owned any more that was owned under an older generation.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_shown_until_it_is_outdated_and_then_the_newest_from_before() {
        let mut generations = Generations::default();
        assert_eq!(generations.show(None), None);
        assert_eq!(generations.show(Some(1)), Some(1));
        assert_eq!(generations.show(Some(2)), Some(1));
        assert_eq!(generations.show(None), None, "no membership stands");
        assert_eq!(generations.show(Some(3)), Some(1));
        generations.outdated();
        assert_eq!(generations.show(Some(4)), Some(3), "the fourth came after the answer");
        generations.outdated();
        assert_eq!(generations.show(Some(4)), Some(4));
    }

    #[test]
    fn who_owns_nothing_begins_with_the_newest() {
        let mut generations = Generations::default();
        assert_eq!(generations.show(Some(1)), Some(1));
        generations.forget();
        assert_eq!(generations.show(Some(5)), Some(5));
    }
}
