//! Texts with a form of their own: whether one is well formed, never whether it is true.

use std::borrow::Cow;

use base64::{Engine as _, alphabet, engine};

/// Longest photo that is a data URL, in bytes of the URL.
pub const PHOTO_BYTES_MAX: usize = 128 * 1024;

/// Whether it is a day that exists, as `YYYY-MM-DD`.
pub(super) fn is_date(text: &str) -> bool {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text.as_bytes() else {
        return false;
    };
    let number = |digits: &[&u8]| {
        digits
            .iter()
            .try_fold(0_i16, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i16::from(**digit - b'0')))
    };
    let (Some(year), Some(month), Some(day)) = (number(&[y1, y2, y3, y4]), number(&[m1, m2]), number(&[d1, d2])) else {
        return false;
    };
    // Two digits fit.
    jiff::civil::Date::new(year, month as i8, day as i8).is_ok()
}

/// Whether it is an https URL, or a data URL that is not too long and holds what it says.
pub(super) fn is_photo(text: &str) -> bool {
    let has_scheme = |scheme: &str| text.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    if has_scheme("https://") {
        return url::Url::parse(text).is_ok_and(|url| url.has_host());
    }
    text.len() <= PHOTO_BYTES_MAX && data_url(text).is_some()
}

/// What a data URL holds (RFC 2397): its media type in lower case, without parameters, and the bytes. `None` if it is none,
/// or does not hold what it says.
pub fn data_url(text: &str) -> Option<(String, Vec<u8>)> {
    const SCHEME: &str = "data:";
    let (head, data) = text.split_once(',')?;
    let (scheme, head) = head.split_at_checked(SCHEME.len())?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let bytes = Cow::from(percent_encoding::percent_decode_str(data));
    let media_type = head.split(';').next().unwrap_or_default().trim().to_lowercase();
    let is_base64 = head.rsplit_once(';').is_some_and(|(_, last)| last.eq_ignore_ascii_case("base64"));
    let content = if is_base64 { BASE64.decode(&*bytes).ok()? } else { bytes.into_owned() };
    Some((media_type, content))
}

/// With or without padding, as data URLs come.
const BASE64: engine::GeneralPurpose = engine::GeneralPurpose::new(
    &alphabet::STANDARD,
    engine::GeneralPurposeConfig::new().with_decode_padding_mode(engine::DecodePaddingMode::Indifferent),
);

/// Whether it is a well-formed BCP 47 tag.
pub(super) fn is_language(text: &str) -> bool {
    oxilangtag::LanguageTag::parse(text).is_ok()
}

/// Whether it is an ISO 3166-1 alpha-2 code, in capitals.
pub(super) fn is_country(text: &str) -> bool {
    let [first, second] = text.as_bytes() else {
        return false;
    };
    COUNTRIES.iter().any(|(start, ends)| start == first && ends.as_bytes().contains(second))
}

/// ISO 3166-1 alpha-2, officially assigned: first letter, and the letters that may follow it.
pub(super) const COUNTRIES: &[(u8, &str)] = &[
    (b'A', "DEFGILMOQRSTUWXZ"),
    (b'B', "ABDEFGHIJLMNOQRSTVWYZ"),
    (b'C', "ACDFGHIKLMNORUVWXYZ"),
    (b'D', "EJKMOZ"),
    (b'E', "CEGHRST"),
    (b'F', "IJKMOR"),
    (b'G', "ABDEFGHILMNPQRSTUWY"),
    (b'H', "KMNRTU"),
    (b'I', "DELMNOQRST"),
    (b'J', "EMOP"),
    (b'K', "EGHIMNPRWYZ"),
    (b'L', "ABCIKRSTUVY"),
    (b'M', "ACDEFGHKLMNOPQRSTUVWXYZ"),
    (b'N', "ACEFGILOPRUZ"),
    (b'O', "M"),
    (b'P', "AEFGHKLMNRSTWY"),
    (b'Q', "A"),
    (b'R', "EOSUW"),
    (b'S', "ABCDEGHIJKLMNORSTVXYZ"),
    (b'T', "CDFGHJKLMNORTVWZ"),
    (b'U', "AGMSYZ"),
    (b'V', "ACEGINU"),
    (b'W', "FS"),
    (b'Y', "ET"),
    (b'Z', "AMW"),
];
