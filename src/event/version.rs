//! The version of a change: what orders the changes of one source's subject.
//!
//! Sources differ in what they can say of order: some number their changes, some only know when, some nothing at all.
//! So two versions are compared by the best that *both* have. A [`SourceVersion`] holds only what its source's changes
//! may be compared by: `order` in the settings leaves the rest out before it is ever stored.
//!
//! This orders changes of one subject of one source. Between sources it means nothing.

use std::{cmp::Ordering, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::log::{Offset, Partition};

/// By `sequence` where both sides have one, else by `time`, else by position in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceVersion {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Timestamp>,
    pub topic: Arc<str>,
    pub partition: Partition,
    pub offset: Offset,
}

/// How a change stands to what is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Precedence {
    Newer,
    Equal,
    Older,
}

impl From<Ordering> for Precedence {
    fn from(ordering: Ordering) -> Self {
        match ordering {
            Ordering::Greater => Self::Newer,
            Ordering::Equal => Self::Equal,
            Ordering::Less => Self::Older,
        }
    }
}

impl SourceVersion {
    /// How this version, of a change that is being decided, stands to `known`, that of one decided before.
    ///
    /// Positions in different partitions have no order of their own; there, what is decided later is newer.
    pub fn compare(&self, known: &Self) -> Precedence {
        if let (Some(own), Some(known)) = (&self.sequence, &known.sequence) {
            return compare_sequences(own, known).into();
        }
        if let (Some(own), Some(known)) = (self.time, known.time) {
            return own.cmp(&known).into();
        }
        if self.topic == known.topic && self.partition == known.partition {
            self.offset.cmp(&known.offset).into()
        } else {
            Precedence::Newer
        }
    }
}

/// Two numbers of any length as numbers, anything else as bytes.
fn compare_sequences(own: &str, known: &str) -> Ordering {
    match (digits(own), digits(known)) {
        // Without leading zeros the longer number is the larger one.
        (Some(own), Some(known)) => own.len().cmp(&known.len()).then_with(|| own.cmp(known)),
        _ => own.cmp(known),
    }
}

/// The digits of a number, leading zeros left out.
fn digits(text: &str) -> Option<&str> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(sequence: Option<&str>, second: Option<i64>, partition: Partition, offset: Offset) -> SourceVersion {
        SourceVersion {
            sequence: sequence.map(Arc::from),
            time: second.map(|second| Timestamp::from_second(second).unwrap()),
            topic: "contact-changes".into(),
            partition,
            offset,
        }
    }

    #[test]
    fn versions_compare_by_the_best_that_both_have() {
        use Precedence::{Equal, Newer, Older};
        for (own, known, expected) in [
            (version(Some("2"), Some(1), 0, 1), version(Some("1"), Some(2), 0, 2), Newer),
            (version(Some("1"), Some(2), 0, 2), version(Some("2"), Some(1), 0, 1), Older),
            // An equal sequence is equal, whatever the time says.
            (version(Some("7"), Some(2), 0, 2), version(Some("007"), Some(1), 0, 1), Equal),
            (version(Some("9"), Some(1), 0, 1), version(None, Some(2), 0, 0), Older),
            (version(None, Some(2), 0, 1), version(None, Some(2), 0, 0), Equal),
            (version(None, Some(2), 0, 1), version(Some("9"), None, 0, 0), Newer),
            (version(None, None, 0, 3), version(None, Some(5), 0, 4), Older),
            (version(None, None, 0, 4), version(None, None, 0, 4), Equal),
            // Another partition: what is decided later is newer, from either side.
            (version(None, None, 0, 1), version(None, None, 1, 9), Newer),
            (version(None, None, 1, 9), version(None, None, 0, 1), Newer),
        ] {
            assert_eq!(own.compare(&known), expected, "{own:?} to {known:?}");
        }
    }

    #[test]
    fn another_topic_is_another_partition() {
        let own = version(None, None, 0, 1);
        let known = SourceVersion { topic: "other".into(), ..version(None, None, 0, 9) };
        assert_eq!(own.compare(&known), Precedence::Newer);
    }

    #[test]
    fn sequences_that_are_not_both_numbers_compare_as_bytes() {
        assert_eq!(compare_sequences("10", "9"), Ordering::Greater);
        assert_eq!(compare_sequences("10a", "9a"), Ordering::Less);
        assert_eq!(compare_sequences("10", "9a"), Ordering::Less);
        assert_eq!(compare_sequences("b", "B"), Ordering::Greater);
        assert_eq!(compare_sequences("٣", "4"), Ordering::Greater);
        assert_eq!(compare_sequences("000", "0"), Ordering::Equal);
    }

    proptest! {
        #[test]
        fn numbers_compare_as_numbers(own: u128, known: u128, zeros in 0..4_usize) {
            let padded = format!("{}{own}", "0".repeat(zeros));
            prop_assert_eq!(compare_sequences(&padded, &known.to_string()), own.cmp(&known));
        }

        #[test]
        fn numbers_of_any_length_are_in_one_order(numbers in proptest::collection::vec("[0-9]{1,60}", 3)) {
            in_one_order(&numbers)?;
        }

        #[test]
        fn other_sequences_are_in_one_order(texts in proptest::collection::vec("[a-z][a-z0-9]{0,5}", 3)) {
            in_one_order(&texts)?;
        }

        #[test]
        fn two_sides_of_one_sequence_agree(own in "[0-9a]{1,4}", known in "[0-9a]{1,4}") {
            prop_assert_eq!(compare_sequences(&own, &known), compare_sequences(&known, &own).reverse());
        }
    }

    fn in_one_order(three: &[String]) -> Result<(), TestCaseError> {
        let [first, second, third] = three else { unreachable!("three were asked for") };
        prop_assert_eq!(compare_sequences(first, second), compare_sequences(second, first).reverse());
        if compare_sequences(first, second).is_le() && compare_sequences(second, third).is_le() {
            prop_assert!(compare_sequences(first, third).is_le());
        }
        Ok(())
    }
}
