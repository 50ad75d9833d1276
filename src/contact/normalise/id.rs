//! Ids that several sources share: a customer number, a VAT number.
//!
//! Taken as they are written. Case and leading zeros may tell two customers apart, so neither is touched.

use super::text::text;

/// The normal form of an id; `None` if nothing is left of it.
pub fn id(raw: &str) -> Option<String> {
    Some(text(raw)).filter(|id| !id.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_as_written_without_what_surrounds_it() {
        for (raw, expected) in [
            (" 007 ", Some("007")),
            ("7", Some("7")),
            ("Ab-1", Some("Ab-1")),
            ("e\u{301}", Some("é")),
            (" \u{200b}", None),
        ] {
            assert_eq!(id(raw).as_deref(), expected, "{raw:?}");
        }
    }
}
