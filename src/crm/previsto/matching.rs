//! When two values that two systems hold mean the same. For matching only: what is sent is the mapping's business.
//!
//! Cautious, because a wrong match writes one person over another, while a missed one only makes a second contact.

use std::iter::Peekable;

/// An e-mail address as it is compared; `None` if it is none.
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

/// Whether two full names may be those of one person or organisation. One may leave out names that the other has, or
/// write initials, but at least one name agrees in full.
pub(super) fn compatible_full(a: &str, b: &str) -> bool {
    let (a, b) = (names(a), names(b));
    let (short, mut long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut agree = 0;
    // Names that agree in full come first, or an initial might take the place of one.
    let mut rest = Vec::new();
    for name in short {
        match long.iter().position(|other| *other == name) {
            Some(at) => {
                long.swap_remove(at);
                agree += usize::from(name.chars().nth(1).is_some());
            }
            None => rest.push(name),
        }
    }
    let initials = rest.iter().all(|name| match long.iter().position(|other| is_initial(name, other)) {
        Some(at) => {
            long.swap_remove(at);
            true
        }
        None => false,
    });
    agree > 0 && initials
}

fn names(text: &str) -> Vec<String> {
    let words = text.split(|letter: char| !letter.is_alphanumeric());
    words.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

fn is_initial(a: &str, b: &str) -> bool {
    let one_letter = |text: &str| text.chars().nth(1).is_none();
    (one_letter(a) || one_letter(b)) && a.chars().next() == b.chars().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_compared_without_case_and_blanks_around() {
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

    #[test]
    fn names_agree_where_one_leaves_out_or_shortens() {
        let check = |a: &str, b: &str, expected: bool| {
            assert_eq!(compatible_full(a, b), expected, "{a:?} {b:?}");
            assert_eq!(compatible_full(b, a), expected, "{b:?} {a:?}");
        };
        check("Ilka Sundstrom", "ILKA SUNDSTROM", true);
        check("Ilka Sundstrom", "Sundstrom, Ilka", true);
        check("Ilka Sundstrom", "Ilka Maj Sundstrom", true);
        check("Ilka Sundstrom", "I. Sundstrom", true);
        check("Ilka Sundstrom", "Sundstrom", true);
        check("Ilka Sundstrom", "Jonas Sundstrom", false);
        check("Ilka Sundstrom", "J. Sundstrom", false);
        check("Ilka Sundstrom", "I. S.", false);
        check("Ilka Sundstrom", "", false);
        check("", "", false);
    }
}
