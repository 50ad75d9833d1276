//! Form bodies and query strings: `a=b&c=d`, with plus for a space and percent for all else.
//!
//! Stricter than browsers and most servers: a percent sign that begins no byte, or bytes that are not UTF-8, are refused,
//! because a sender that gets its encoding wrong should be told.

use percent_encoding::percent_decode_str;

/// Text that is not a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the encoding is broken")]
pub(super) struct BrokenEncoding;

/// The pairs of a form, in their order; a name without `=` has the empty value.
pub(super) fn pairs(text: &[u8]) -> Result<Vec<(String, String)>, BrokenEncoding> {
    let text = std::str::from_utf8(text).map_err(|_not_text| BrokenEncoding)?;
    let pieces = text.split('&').filter(|piece| !piece.is_empty());
    pieces
        .map(|piece| {
            let (name, value) = piece.split_once('=').unwrap_or((piece, ""));
            Ok((decode(name)?, decode(value)?))
        })
        .collect()
}

/// One name or value.
fn decode(text: &str) -> Result<String, BrokenEncoding> {
    // In a form, plus stands for a space; a plus sign itself is escaped.
    decode_percent(&text.replace('+', " "))
}

/// Text in which only percent escapes, such as a segment of a path.
pub(super) fn decode_percent(text: &str) -> Result<String, BrokenEncoding> {
    let is_byte = |after: &str| {
        let digits = after.as_bytes().first_chunk::<2>();
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !text.split('%').skip(1).all(is_byte) {
        return Err(BrokenEncoding);
    }
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_not_text| BrokenEncoding)?;
    Ok(decoded.into_owned())
}

/// A name in brackets' form: `meta[key]` is `("meta", ["key"])`, `location[]` is `("location", [""])`.
///
/// A name whose brackets do not pair is taken as it stands.
pub(super) fn brackets(name: &str) -> (&str, Vec<&str>) {
    let whole = (name, Vec::new());
    let Some((base, mut rest)) = name.split_once('[') else { return whole };
    let mut keys = Vec::new();
    loop {
        let Some((key, after)) = rest.split_once(']') else { return whole };
        keys.push(key);
        if after.is_empty() {
            return (base, keys);
        }
        let Some(next) = after.strip_prefix('[') else { return whole };
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plus_and_percent_are_decoded_and_order_and_repetition_are_kept() {
        let form = pairs(b"name=Ilka%20Sundstrom&name=A+B&phone=%2B45&=x&empty=&bare&&meta%5Ba%5D=%C3%98=1").unwrap();
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let expected = [
            ("name", "Ilka Sundstrom"),
            ("name", "A B"),
            ("phone", "+45"),
            ("", "x"),
            ("empty", ""),
            ("bare", ""),
            ("meta[a]", "Ø=1"),
        ];
        assert_eq!(form, expected);
        assert_eq!(pairs(b""), Ok(Vec::new()));
    }

    #[test]
    fn a_broken_encoding_is_refused() {
        for broken in [&b"a=%"[..], b"a=%4", b"a=%zz", b"%g0=a", b"a=%ff", b"a=\xff", b"a=%C3%8"] {
            assert_eq!(pairs(broken), Err(BrokenEncoding), "{broken:?}");
        }
        assert_eq!(decode_percent("a+b%20"), Ok("a+b ".to_owned()), "a path knows no plus");
    }

    #[test]
    fn brackets_are_taken_apart_where_they_pair() {
        for (name, expected) in [
            ("name", ("name", vec![])),
            ("meta[key]", ("meta", vec!["key"])),
            ("location[]", ("location", vec![""])),
            ("meta[a][b]", ("meta", vec!["a", "b"])),
            ("meta[key", ("meta[key", vec![])),
            ("meta[a]b", ("meta[a]b", vec![])),
            ("meta[a][", ("meta[a][", vec![])),
            ("meta]", ("meta]", vec![])),
        ] {
            assert_eq!(brackets(name), expected, "{name}");
        }
    }
}
