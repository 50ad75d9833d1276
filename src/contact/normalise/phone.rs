//! Telephone numbers as keys.
//!
//! A number is written in a hundred ways and means one line, if its country is known. So it is brought to E.164 by the
//! numbering plans. Two guards stand before that. The plans' library reads letters as the digits of a keypad, which
//! makes numbers of words; anything but digits and the usual signs is refused. And a number that shares its line with
//! others (an extension), or is a filler (all one digit, a run such as 1234567), identifies nobody.

use icu_properties::{
    CodePointMapData,
    props::{GeneralCategory, GeneralCategoryGroup},
};
use rlibphonenumber::{PHONE_NUMBER_UTIL, ParseError, PhoneNumberFormat, enums::Region};
use unicode_normalization::UnicodeNormalization;

use super::text::{is, text};

/// Fewer digits are an inside line, or half of a number.
const DIGITS_MIN: usize = 7;

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhoneFault {
    /// Letters or signs that no number has, a mark of an extension among them.
    Letters,
    /// Written without its country, and nothing says which that is.
    NoRegion,
    /// Too short, a filler, or in no numbering plan.
    Invalid,
}

/// Reads a number as E.164.
///
/// # Errors
/// Why it is not the number of one line.
pub fn parse(raw: &str, region: Option<&str>) -> Result<String, PhoneFault> {
    let plain = plain(raw).ok_or(PhoneFault::Letters)?;
    let digits: Vec<u8> = plain.bytes().filter(u8::is_ascii_digit).collect();
    if digits.len() < DIGITS_MIN || is_filler(&digits) {
        return Err(PhoneFault::Invalid);
    }
    let is_international = plain.starts_with('+');
    let region = region.and_then(|code| code.to_ascii_uppercase().parse::<Region>().ok());
    if !is_international && region.is_none() {
        return Err(PhoneFault::NoRegion);
    }
    let number = PHONE_NUMBER_UTIL.parse(&plain, region).map_err(|error| match error {
        ParseError::InvalidCountryCode if !is_international => PhoneFault::NoRegion,
        _ => PhoneFault::Invalid,
    })?;
    if number.extension.as_ref().is_some_and(|extension| !extension.is_empty()) {
        return Err(PhoneFault::Letters);
    }
    if !number.is_valid() {
        return Err(PhoneFault::Invalid);
    }
    Ok(number.format_as(PhoneNumberFormat::E164).into_owned())
}

/// ASCII digits and signs; `None` if there is anything else.
fn plain(raw: &str) -> Option<String> {
    let categories = CodePointMapData::<GeneralCategory>::new();
    text(raw)
        .nfkc()
        .map(|letter| match letter {
            '0'..='9' | '+' | '(' | ')' | '-' | '.' | '/' | ' ' => Some(letter),
            _ if categories.get(letter) == GeneralCategory::DecimalNumber => digit(letter),
            // The minus sign is a mathematical one.
            '\u{2212}' => Some('-'),
            _ if is(GeneralCategoryGroup::DashPunctuation, letter) => Some('-'),
            _ => None,
        })
        .collect()
}

/// The value of a digit in any script: each script has its ten in a row, from zero on.
fn digit(letter: char) -> Option<char> {
    let categories = CodePointMapData::<GeneralCategory>::new();
    let is_digit =
        |code: u32| char::from_u32(code).is_some_and(|letter| categories.get(letter) == GeneralCategory::DecimalNumber);
    let code = u32::from(letter);
    let before = (1..).take_while(|back| code.checked_sub(*back).is_some_and(is_digit)).count();
    // Where several rows follow each other without a gap, each still has ten.
    char::from_digit(u32::try_from(before % 10).ok()?, 10)
}

fn is_filler(digits: &[u8]) -> bool {
    let pairs = || digits.windows(2).map(|pair| (pair[0], pair[1]));
    pairs().all(|(one, next)| one == next) || pairs().all(|(one, next)| (one - b'0' + 1) % 10 == next - b'0')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(raw: &str, region: Option<&str>, expected: Result<&str, PhoneFault>) {
        assert_eq!(parse(raw, region), expected.map(str::to_owned), "{raw:?} in {region:?}");
    }

    #[test]
    fn one_line_is_one_key_however_it_is_written() {
        for raw in [
            "044 668 18 00",
            "+41 44 668 18 00",
            "0041446681800",
            "0041 44 668 18 00",
            "(044) 668-18-00",
            "044/668.18.00",
            "+41 (0)44 668 18 00",
            "+٤١٤٤٦٦٨١٨٠٠",
            "＋41446681800",
            "\u{202a}+41 44 668\u{2011}18\u{2013}00\u{202c}",
            "𝟎𝟒𝟒 𝟔𝟔𝟖 𝟏𝟖 𝟎𝟎",
        ] {
            check(raw, Some("CH"), Ok("+41446681800"));
        }
        check("+41 44 668 18 00", None, Ok("+41446681800"));
        check("+41 44 668 18 00", Some("no country"), Ok("+41446681800"));
        check("044 668 18 00", Some("ch"), Ok("+41446681800"));
    }

    #[test]
    fn a_zero_that_belongs_to_the_number_stays() {
        check("+39 06 698 12345", None, Ok("+390669812345"));
    }

    #[test]
    fn a_number_without_country_needs_a_region() {
        check("044 668 18 00", None, Err(PhoneFault::NoRegion));
        check("0041446681800", None, Err(PhoneFault::NoRegion));
        check("044 668 18 00", Some("XX"), Err(PhoneFault::NoRegion));
    }

    #[test]
    fn letters_and_extensions_make_no_key() {
        for raw in [
            "1-800-FLOWERS",
            "+1 800 FLOWERS",
            "044 668 18 00 ext. 5",
            "044 668 18 00 x5",
            "044 668 18 00#5",
            "n/a",
            "",
        ] {
            let fault = if raw.is_empty() { PhoneFault::Invalid } else { PhoneFault::Letters };
            check(raw, Some("US"), Err(fault));
        }
    }

    #[test]
    fn fillers_and_what_no_plan_knows_make_no_key() {
        for raw in [
            "0000000000",
            "1111111",
            "1234567",
            "1234567890",
            "123456",
            "+999 123 45 678",
            "+41 1",
            "+",
            "++41446681800 5",
        ] {
            check(raw, Some("CH"), Err(PhoneFault::Invalid));
        }
    }

    proptest! {
        #[test]
        fn its_own_result_stays_as_it_is(raw in "(\\+|00)?[1-9][0-9 ()/.-]{6,14}") {
            if let Ok(once) = parse(&raw, Some("CH")) {
                prop_assert_eq!(parse(&once, None), Ok(once.clone()));
            }
        }
    }
}
