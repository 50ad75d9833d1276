//! Text without what cannot be seen.
//!
//! Copied text brings characters along that show nothing: zero-width spaces, soft hyphens, marks of direction, byte order
//! marks. They would make two keys of what everybody reads as one.

use icu_properties::{
    CodePointMapData,
    props::{GeneralCategory, GeneralCategoryGroup},
};
use unicode_normalization::UnicodeNormalization;

/// Whether the letter belongs to a group of general categories.
pub(super) fn is(group: GeneralCategoryGroup, letter: char) -> bool {
    group.contains(CodePointMapData::<GeneralCategory>::new().get(letter))
}

/// One space for each run of white space, nothing invisible, nothing around it, and composed (NFC).
pub fn text(raw: &str) -> String {
    let mut seen = String::with_capacity(raw.len());
    let mut space_before = false;
    for letter in raw.chars() {
        // Line ends and tabs are controls too; they part words all the same.
        if letter.is_whitespace() {
            space_before = !seen.is_empty();
        } else if !is_invisible(letter) {
            if std::mem::take(&mut space_before) {
                seen.push(' ');
            }
            seen.push(letter);
        }
    }
    if seen.is_ascii() {
        return seen;
    }
    // After what is invisible has gone: it may have stood between a letter and its accent.
    seen.nfc().collect()
}

/// Whether the letter is a control or formats others. Most letters are ASCII, and need no table.
fn is_invisible(letter: char) -> bool {
    if letter.is_ascii() {
        letter.is_ascii_control()
    } else {
        is(GeneralCategoryGroup::Control.union(GeneralCategoryGroup::Format), letter)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(raw: &str, expected: &str) {
        assert_eq!(text(raw), expected, "{raw:?}");
    }

    #[test]
    fn what_cannot_be_seen_is_gone() {
        check("a\u{ad}nn", "ann");
        check("\u{feff}a\u{200b}n\u{200d}n\u{202e}\u{2060}", "ann");
        check("an\u{0}n\u{7f}", "ann");
    }

    #[test]
    fn white_space_of_any_kind_is_one_space_and_none_at_the_ends() {
        check(" \t ann\u{a0}\u{2003}\r\nroth\u{3000} ", "ann roth");
        check("\u{200b} ann", "ann");
        check(" ", "");
    }

    #[test]
    fn a_letter_and_its_accent_are_one_also_when_something_invisible_was_between() {
        check("e\u{301}", "é");
        check("e\u{200d}\u{301}", "é");
    }

    #[test]
    fn ascii_letters_are_judged_as_the_table_judges_them() {
        let group = GeneralCategoryGroup::Control.union(GeneralCategoryGroup::Format);
        for letter in '\0'..='\u{7f}' {
            assert_eq!(is_invisible(letter), is(group, letter), "{letter:?}");
            assert!(letter.nfc().eq([letter]), "{letter:?}");
        }
    }

    proptest! {
        #[test]
        fn its_own_result_stays_as_it_is(raw in "\\PC*|[a\u{ad}\u{301}\t \u{200d}]*") {
            let once = text(&raw);
            prop_assert_eq!(text(&once), once);
        }
    }
}
