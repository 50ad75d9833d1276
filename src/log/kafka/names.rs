//! Static names (KIP-345) that the broker gave to another member.
//!
//! It does so when a second process joins under the name, and the first can never go on. But it also does so to a member whose
//! joining it did not finish before the line broke: the same process then joins again, is another member to the broker, and
//! its answer to the first attempt says that the name is taken. One loss of a name is therefore tried again; several within a
//! short time mean that two workers really are called alike, and take the name from each other for ever.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Losses of one name after which it is another worker's, if they come within [`WITHIN`].
const LOSSES_MAX: usize = 4;
const WITHIN: Duration = Duration::from_secs(60);

/// When each name was lost of late. Shared by all members of a process, one after the other under each name.
#[derive(Debug, Default)]
pub(super) struct LostNames(Mutex<HashMap<String, VecDeque<Instant>>>);

impl LostNames {
    /// Notes that `name` was lost. Returns whether another process must have it.
    pub(super) fn is_anothers(&self, name: &str, now: Instant) -> bool {
        let mut names = self.0.lock();
        let losses = names.entry(name.to_owned()).or_default();
        losses.push_back(now);
        losses.retain(|lost| now.saturating_duration_since(*lost) < WITHIN);
        losses.len() >= LOSSES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_lost_again_and_again_is_anothers_and_one_lost_now_and_then_is_not() {
        let (names, start) = (LostNames::default(), Instant::now());
        let lost = |name: &str, seconds: u64| names.is_anothers(name, start + Duration::from_secs(seconds));
        assert_eq!([0, 1, 2, 3].map(|seconds| lost("a", seconds)), [false, false, false, true]);
        assert!((0..10).all(|minute| !lost("b", minute * 20)));
        assert!(!lost("c", 3), "each name for itself");
    }
}
