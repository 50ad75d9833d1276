//! E-mail addresses and telephone numbers in full form, as a CRM is told them.
//!
//! As keys of persons these would be far from enough, and `contact::normalise` knows better. Here it is about what can be
//! sent, and telephone numbers as people write them, a leading 00 among them, which a key may not have.

use std::iter::Peekable;

use serde_json::Value;

use super::reading::member_text;
use crate::config::PhoneForm;

/// An e-mail address in lower case; `None` if it is none.
pub(super) fn email(text: &str) -> Option<String> {
    let (local, domain) = text.trim().rsplit_once('@')?;
    let sound =
        !local.is_empty() && !domain.is_empty() && !text.trim().contains(|c: char| c.is_whitespace() || c.is_control());
    // No provider of note tells two people apart by the case of the local part.
    sound.then(|| format!("{}@{}", local.to_lowercase(), domain.to_lowercase()))
}

/// Fewest and most digits of an international number (E.164), country code included.
const DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// A telephone number in full international form, `+` and digits; `None` if it cannot be told.
pub(super) fn phone(text: &str) -> Option<String> {
    let mut letters = text.trim().chars().peekable();
    let mut number = String::from("+");
    if !takes(&mut letters, "+") && !takes(&mut letters, "00") {
        return None;
    }
    while let Some(letter) = letters.next() {
        match letter {
            '0'..='9' => number.push(letter),
            // The zero of national use, as in +44 (0)20 …, is no part of the number.
            '(' if takes_national_zero(&mut letters) => {}
            ' ' | '\u{a0}' | '-' | '.' | '/' | '(' | ')' => {}
            _ => return None,
        }
    }
    let digits = number.len() - 1;
    (DIGITS.contains(&digits) && !number.starts_with("+0")).then_some(number)
}

/// The number of an item of `/phoneNumbers` as a CRM is told it; `None` if it cannot be written so.
pub(super) fn phone_in(form: PhoneForm, item: &Value) -> Option<String> {
    let text = member_text(item, "value")?;
    match form {
        PhoneForm::AsWritten => Some(text.trim().to_owned()),
        PhoneForm::International => phone(text),
    }
}

fn takes<I: Iterator<Item = char> + Clone>(letters: &mut Peekable<I>, start: &str) -> bool {
    let mut ahead = letters.clone();
    let fits = start.chars().all(|letter| ahead.next() == Some(letter));
    if fits {
        *letters = ahead;
    }
    fits
}

fn takes_national_zero<I: Iterator<Item = char> + Clone>(letters: &mut Peekable<I>) -> bool {
    takes(letters, "0)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_without_case_and_blanks_around() {
        assert_eq!(email(" Ilka@Example.COM ").as_deref(), Some("ilka@example.com"));
        assert_eq!(email("a@b@example.com").as_deref(), Some("a@b@example.com"));
        for none in ["", "ilka", "@example.com", "ilka@", "il ka@example.com"] {
            assert_eq!(email(none), None, "{none:?}");
        }
    }

    #[test]
    fn only_a_number_with_its_country_is_international() {
        for written in ["+4520555012", "+45 20 55 50 12", "0045 20-55.50/12", "+45 (20) 555012", "+45 (0)20555012"] {
            assert_eq!(phone(written).as_deref(), Some("+4520555012"), "{written:?}");
        }
        for none in [
            "20555012",
            "020 555012",
            "+",
            "+45",
            "+45 20 55 ext 7",
            "+0045205550",
            "++4520555012",
            "",
            "+1234567890123456",
        ] {
            assert_eq!(phone(none), None, "{none:?}");
        }
    }
}
