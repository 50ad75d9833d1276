//! Telephone numbers as CRM.COM wants them: the country, and the number within it.

use rlibphonenumber::{PHONE_NUMBER_UTIL, enums::Region};

/// Fewest and most digits of an international number (E.164), country code included.
const DIGITS: std::ops::RangeInclusive<usize> = 7..=15;

/// A number, taken apart.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Number {
    /// ISO 3166-1 alpha-2.
    pub(super) country: String,
    /// As it is dialled from abroad behind the calling code, with the zeros that belong to it.
    pub(super) national: String,
    /// Calling code and national part: digits alone.
    pub(super) full: String,
}

/// Takes a number apart; `None` if it cannot be told which country's it is. `country` is that of a number that does not
/// say it.
pub(super) fn number(text: &str, country: &str) -> Option<Number> {
    let plain = plain(text)?;
    let region = country.parse::<Region>().ok();
    let parsed = PHONE_NUMBER_UTIL.parse(&plain, region).ok()?;
    let is_extended = parsed.extension.as_ref().is_some_and(|extension| !extension.is_empty());
    // A number that no plan knows still has the country that owns its calling code, or the first of those that share it.
    let region = parsed
        .get_region_code()
        .or_else(|| PHONE_NUMBER_UTIL.get_region_for_country_code(parsed.country_code))
        .filter(|region| *region != Region::World && !is_extended)?;
    let national = parsed.get_national_significant_number();
    let full = format!("{}{national}", parsed.country_code);
    DIGITS.contains(&full.len()).then(|| Number { country: region.to_string(), national, full })
}

/// `+` and digits, or digits alone; `None` if there are letters, which the plans would read as the keys of a telephone.
fn plain(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text.strip_prefix("00").map_or_else(|| text.to_owned(), |rest| format!("+{rest}"));
    // The zero of national use, as in +44 (0)20 …, is no part of the number.
    let text = if text.starts_with('+') { text.replacen("(0)", "", 1) } else { text };
    let signs = [' ', '\u{a0}', '-', '.', '/', '(', ')'];
    let plain: String = text.chars().filter(|letter| !signs.contains(letter)).collect();
    let digits = plain.strip_prefix('+').unwrap_or(&plain);
    (!digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some(plain)
}

/// Calling code and national part; `None` if nobody calls that country.
pub(super) fn full(country: &str, national: &str) -> Option<String> {
    let region = country.parse::<Region>().ok()?;
    PHONE_NUMBER_UTIL.get_country_code_for_region(region).map(|code| format!("{code}{national}"))
}

/// The digits of a full number, however it is written: with `+`, with `00`, or bare.
pub(super) fn digits(full: &str) -> String {
    let digits: String = full.chars().filter(char::is_ascii_digit).collect();
    digits.trim_start_matches("00").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, country: &str, expected: Option<(&str, &str, &str)>) {
        let number = number(text, country);
        let parts = number.as_ref().map(|number| (&*number.country, &*number.national, &*number.full));
        assert_eq!(parts, expected, "{text:?} in {country:?}");
    }

    #[test]
    fn a_number_is_taken_apart_where_several_countries_share_a_code() {
        check("+35799555012", "", Some(("CY", "99555012", "35799555012")));
        check("0035799555012", "", Some(("CY", "99555012", "35799555012")));
        check("+1 416 555 0123", "", Some(("CA", "4165550123", "14165550123")));
        check("+1 212 555 0123", "", Some(("US", "2125550123", "12125550123")));
        check("+7 701 511 3344", "", Some(("KZ", "7015113344", "77015113344")));
        check("+44 (0)20 7946 0018", "", Some(("GB", "2079460018", "442079460018")));
    }

    #[test]
    fn a_zero_that_belongs_to_the_number_stays() {
        check("+39 02 3661 8300", "", Some(("IT", "0236618300", "390236618300")));
        check("+39 06 698 12345", "", Some(("VA", "0669812345", "390669812345")));
    }

    #[test]
    fn a_number_without_its_country_needs_one() {
        check("99555012", "", None);
        check("99555012", "CY", Some(("CY", "99555012", "35799555012")));
    }

    #[test]
    fn what_is_no_number_of_a_country_is_none() {
        for none in ["", "+", "n/a", "+1 800 FLOWERS", "+35799555012 ext 4", "+999123456", "+80012345678", "+357"] {
            check(none, "", None);
        }
    }

    #[test]
    fn full_numbers_are_compared_by_their_digits() {
        for written in ["0035799555012", "+35799555012", "35799555012", "+357 99 555012"] {
            assert_eq!(digits(written), "35799555012");
        }
    }
}
