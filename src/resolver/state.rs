//! What the resolver keeps of itself in `contact-resolver`: its term, its input positions, and a trace of the secret.
//!
//! These records, not the group's offsets, are the truth about how far the input was decided: they are compacted, so
//! they never expire, and they are written in the transaction of the decisions that they stand for.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    contact::format::encode,
    log::{NewRecord, Offset, Partition, TopicPartition},
    privacy::{Hasher, hex},
};

/// Record key of [`Epoch`].
pub(super) const EPOCH: &str = "epoch";
/// Record key of [`KeyCheck`].
pub(super) const KEY_CHECK: &str = "key_check";
/// The only partition of `contact-resolver`: whoever owns it may decide.
pub(super) const LEASE: Partition = 0;

/// The resolver's terms, counted; each take-over begins the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Epoch {
    pub(super) epoch: u64,
    /// The worker that took over. Only told, never relied upon; absent where an older release did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) worker: Option<Arc<str>>,
    pub(super) format: u32,
}

/// A hash that only the installation's secret makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeyCheck {
    pub(super) check: String,
    pub(super) format: u32,
}

impl KeyCheck {
    pub(super) fn of(hasher: &Hasher) -> Self {
        Self { check: hex(&hasher.hash128("key_check", &[])), format: crate::contact::record::FORMAT }
    }
}

/// How far an input partition was decided: the offset to read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    pub(super) offset: Offset,
    pub(super) epoch: u64,
    pub(super) format: u32,
}

impl Position {
    /// Record key of an input partition's position.
    pub(super) fn key(at: &TopicPartition) -> String {
        format!("position/{}/{}", at.topic, at.partition)
    }
}

/// A state record for `topic`.
pub(super) fn record<T: Serialize>(topic: &Arc<str>, key: String, state: &T) -> NewRecord {
    NewRecord {
        to: TopicPartition::new(Arc::clone(topic), LEASE),
        key: Some(Bytes::from(key)),
        value: Some(encode(state)),
        headers: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contact::{format::assert_sampled, record::FORMAT};

    #[test]
    fn each_layout_that_was_ever_written_is_still_read_and_the_newest_is_written() {
        assert_sampled(
            &[include_str!("../../tests/formats/resolver-epoch.1.json")],
            &Epoch { epoch: 7, worker: None, format: FORMAT },
        );
        assert_sampled(
            &[include_str!("../../tests/formats/resolver-epoch-of-worker.1.json")],
            &Epoch { epoch: 7, worker: Some("w1".into()), format: FORMAT },
        );
        assert_sampled(
            &[include_str!("../../tests/formats/resolver-key-check.1.json")],
            &KeyCheck { check: "00ff".to_owned(), format: FORMAT },
        );
        assert_sampled(
            &[include_str!("../../tests/formats/resolver-position.1.json")],
            &Position { offset: 17, epoch: 7, format: FORMAT },
        );
    }
}
