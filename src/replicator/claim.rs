//! The claim: what the metadata of a committed offset says about who works on a partition.
//!
//! It names the writer's transactional id, so that the next owner can fence it, and says `released` after a clean
//! release: no request under way, none whose answer was lost, nothing left that a predecessor may have been writing.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    /// Transactional id of the writer that committed the offset.
    pub(super) writer: String,
    #[serde(default)]
    pub(super) released: bool,
}

impl Claim {
    pub(super) fn encode(&self) -> String {
        serde_json::to_string(self).expect("a claim serialises")
    }

    /// Reads the metadata of a committed offset. What is not a claim (a tool reset the offset, say) is `None`: nobody
    /// is known to be writing, and nobody said that nobody is.
    pub(super) fn decode(metadata: &str) -> Option<Self> {
        serde_json::from_str(metadata).ok()
    }
}
