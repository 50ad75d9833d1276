//! Whether a CRM is in shadow, as the whole installation knows it.
//!
//! A record of `contact-resolver` per CRM that was ever in shadow, written by the active resolver alone from its settings. When
//! it ends the shadow, a resync of all contacts is asked for in the same transaction, so that nobody who changed meanwhile is
//! forgotten. A worker whose own settings still say "shadow" then waits: what it answered would count as having been told.
//!
//! Pure.

use serde::{Deserialize, Serialize};

use crate::contact::{format, record::FORMAT};

/// Record keys begin with this; the name of the CRM follows.
const MODE: &str = "mode:";

/// The last thing that was decided for a CRM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    pub shadow: bool,
    pub format: u32,
}

impl Decided {
    pub fn new(shadow: bool) -> Self {
        Self { shadow, format: FORMAT }
    }

    pub fn key(crm: &str) -> String {
        format!("{MODE}{crm}")
    }

    /// Whether the value of such a record says that the shadow has ended. One that cannot be read says nothing.
    pub fn has_ended(value: &[u8]) -> bool {
        format::decode::<Self>(value).is_ok_and(|decided| !decided.shadow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_record_that_says_so_ends_a_shadow() {
        assert!(Decided::has_ended(&format::encode(&Decided::new(false))));
        assert!(!Decided::has_ended(&format::encode(&Decided::new(true))));
        assert!(!Decided::has_ended(b"{}"));
    }
}
