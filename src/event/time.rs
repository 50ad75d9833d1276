//! Reads RFC 3339 as it is written: no other form of ISO 8601 that a library may also take.

use jiff::{Timestamp, civil::DateTime, tz::Offset};

/// The moment a text names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    At(Timestamp),
    /// A real date after all that can be counted, as some write for "never" (`9999-12-31T23:59:59Z`).
    AfterAll,
}

/// `None` if it is not RFC 3339, or names a day or an hour that does not exist.
pub(super) fn parse(text: &str) -> Option<Moment> {
    let bytes = text.as_bytes();
    let field = |from: usize, to: usize| number(bytes.get(from..to)?);
    let sign = |at: usize, signs: &[u8]| bytes.get(at).is_some_and(|byte| signs.contains(byte)).then_some(());

    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    let (hour, minute, second) = (field(11, 13)?, field(14, 16)?, field(17, 19)?);
    for (at, signs) in [(4, "-"), (7, "-"), (10, "Tt"), (13, ":"), (16, ":")] {
        sign(at, signs.as_bytes())?;
    }
    if second > 60 {
        return None;
    }

    let mut rest = bytes.get(19..)?;
    let mut nanosecond = 0;
    if let Some(fraction) = rest.strip_prefix(b".") {
        let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        // Finer than a nanosecond is cut off.
        let counted = digits.min(9);
        nanosecond = number(fraction.get(..counted)?)? * 10_i32.pow(9 - u32::try_from(counted).ok()?);
        rest = fraction.get(digits..)?;
    }

    let offset = match rest {
        b"Z" | b"z" => 0,
        [direction @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            if *direction == b'-' { -seconds } else { seconds }
        }
        _ => return None,
    };

    let small = |number: i32| i8::try_from(number).ok();
    // A leap second is the end of its minute: clocks that count no leap seconds have no better place for it.
    let second = small(second.min(59))?;
    let year = i16::try_from(year).ok()?;
    let local =
        DateTime::new(year, small(month)?, small(day)?, small(hour)?, small(minute)?, second, nanosecond).ok()?;
    match Offset::from_seconds(offset).ok()?.to_timestamp(local) {
        Ok(timestamp) => Some(Moment::At(timestamp)),
        // Years have four digits here, so that only the end of what can be counted is near.
        Err(_) => Some(Moment::AfterAll),
    }
}

/// A number of up to nine digits.
fn number(digits: &[u8]) -> Option<i32> {
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i32::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_rfc_3339_allows_is_read() {
        for (text, expected) in [
            ("2026-03-01T10:00:00Z", "2026-03-01T10:00:00Z"),
            ("2026-03-01t10:00:00z", "2026-03-01T10:00:00Z"),
            ("2026-03-01T10:00:00.5+01:30", "2026-03-01T08:30:00.5Z"),
            ("2026-03-01T10:00:00-00:00", "2026-03-01T10:00:00Z"),
            ("2026-03-01T10:00:00.123456789123Z", "2026-03-01T10:00:00.123456789Z"),
            ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00Z"),
        ] {
            assert_eq!(parse(text), Some(Moment::At(expected.parse().unwrap())), "{text}");
        }
    }

    #[test]
    fn what_rfc_3339_does_not_allow_is_not() {
        for text in [
            "",
            "2026-03-01",
            "2026-03-01T10:00:00",
            "2026-03-01 10:00:00Z",
            "2026-03-01T10:00Z",
            "20260301T100000Z",
            "2026-02-30T10:00:00Z",
            "2026-03-01T24:00:00Z",
            "2026-03-01T10:00:61Z",
            "2026-03-01T10:00:00.Z",
            "2026-03-01T10:00:00+1:00",
            "2026-03-01T10:00:00+01",
            "2026-03-01T10:00:00+24:00",
            "2026-03-01T10:00:00Z[Europe/Zurich]",
            "2026-03-01T10:00:00Z ",
            "+002026-03-01T10:00:00Z",
            "1772359200",
            "２026-03-01T10:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_end_of_all_days_is_a_moment_after_all() {
        assert_eq!(parse("9999-12-31T23:59:59Z"), Some(Moment::AfterAll));
    }

    proptest! {
        #[test]
        fn what_we_write_is_what_we_read(second in 0..253_000_000_000_i64, nanosecond in 0..1_000_000_000) {
            let timestamp = Timestamp::new(second, nanosecond).unwrap();
            prop_assert_eq!(parse(&timestamp.to_string()), Some(Moment::At(timestamp)));
        }

        #[test]
        fn any_text_is_read_or_not(text in "\\PC*") {
            let _ = parse(&text);
        }

        #[test]
        fn nearly_right_texts_are_read_or_not(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]{1,12})?(Z|[+-][0-9]{2}:[0-9]{2})") {
            let _ = parse(&text);
        }
    }
}
