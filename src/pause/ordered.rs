//! What was said last of a CRM: that it is to be left alone, or not any more.
//!
//! A record of `contact-resolver` per CRM that was ever paused, written by the worker that was asked, read by all. Only the last
//! one counts, so whoever reads it anew, from wherever, knows the same.
//!
//! Pure.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Record keys begin with this; the name of the CRM follows.
const PAUSE: &str = "pause:";

/// The last order for a CRM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    pub paused: bool,
    /// Who said so, in their own word.
    pub by: String,
    /// Why, in their own words; there is one of a pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub at: Timestamp,
    pub format: u32,
}

impl Ordered {
    pub fn key(crm: &str) -> String {
        format!("{PAUSE}{crm}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contact::{
        format::{FormatError, assert_sampled, decode},
        record::FORMAT,
    };

    #[test]
    fn each_layout_that_was_ever_written_is_still_read_and_a_newer_one_is_refused() {
        let paused = Ordered {
            paused: true,
            by: "ann".to_owned(),
            reason: Some("their migration".to_owned()),
            at: "2026-03-01T10:00:00Z".parse().unwrap(),
            format: FORMAT,
        };
        assert_sampled(&[include_str!("../../tests/formats/resolver-pause.1.json")], &paused);
        let resumed = Ordered { paused: false, reason: None, ..paused };
        assert_sampled(&[include_str!("../../tests/formats/resolver-resume.1.json")], &resumed);
        let newer = include_str!("../../tests/formats/resolver-pause.1.json").replace("\"format\":1", "\"format\":99");
        assert_eq!(decode::<Ordered>(newer.as_bytes()), Err(FormatError::Newer { found: 99 }));
    }
}
