//! The CloudEvents HTTP protocol binding 1.0.2, as far as it differs from the Kafka one.
//!
//! Takes a request apart into the messages that a Kafka producer would have written: headers and value, without a key
//! yet. What an event says is not judged here; whoever reads the topic has the only say in that, and is asked next.
//!
//! Three things differ from Kafka. Attributes travel in headers `ce-…`, whose values are percent-encoded (section
//! 3.1.3.2) and, by older senders, quoted. The media type chooses among three modes, not two. And a batch holds many
//! events in one body, which are cut out of it byte by byte, so that each is published as its sender wrote it.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, header::CONTENT_TYPE};
use percent_encoding::percent_decode;

use crate::log::Header;

/// How a request carries events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// One, with its attributes in headers and its data in the body.
    Binary,
    /// One, whole in the body.
    Structured,
    /// A JSON array of such.
    Batch,
}

const ATTRIBUTE_PREFIX: &str = "ce-";
const RECORD_PREFIX: &str = "ce_";
const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
/// What begins the media type of each form of CloudEvents, also of those that are not spoken here.
const ANY_FORM: &str = "application/cloudevents";

/// What a sender may say in `content-type` where it is not the data's own.
pub(super) const ACCEPTED: &str = "application/cloudevents+json, application/cloudevents-batch+json";

/// One event on its way into a record.
pub(super) struct Message {
    pub(super) headers: Vec<Header>,
    pub(super) value: Bytes,
}

/// Why a batch cannot be taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoBatch {
    NotAnArray,
    TooMany,
}

impl Mode {
    /// The mode that the headers announce; `None` if it is none of CloudEvents, or not JSON.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let content_type = headers.get(CONTENT_TYPE).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let essence = content_type.as_deref().map(|text| essence(text).to_ascii_lowercase());
        match essence.as_deref() {
            Some(STRUCTURED) => Some(Self::Structured),
            Some(BATCH) => Some(Self::Batch),
            Some(other) if other.starts_with(ANY_FORM) => None,
            _ => headers.keys().any(|name| name.as_str().starts_with(ATTRIBUTE_PREFIX)).then_some(Self::Binary),
        }
    }
}

fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// The messages in a request of this mode, at most `events_max`.
pub(super) fn messages(
    mode: Mode,
    headers: &HeaderMap,
    body: Bytes,
    events_max: usize,
) -> Result<Vec<Message>, NoBatch> {
    let content_type = headers.get(CONTENT_TYPE).map(|value| Bytes::copy_from_slice(value.as_bytes()));
    let labelled = |content_type: Option<Bytes>| -> Vec<Header> {
        content_type.map(|value| Header::new("content-type", value)).into_iter().collect()
    };
    match mode {
        Mode::Structured => Ok(vec![Message { headers: labelled(content_type), value: body }]),
        Mode::Binary => {
            let mut found = labelled(content_type);
            found.extend(headers.iter().filter_map(|(name, value)| {
                let attribute = name.as_str().strip_prefix(ATTRIBUTE_PREFIX)?;
                Some(Header::new(format!("{RECORD_PREFIX}{attribute}"), attribute_value(value.as_bytes())))
            }));
            // Without data the value is empty, not absent: an absent one would be a tombstone.
            Ok(vec![Message { headers: found, value: body }])
        }
        Mode::Batch => {
            let headers = labelled(content_type.map(|batch| of_one(&batch)));
            let events = elements(&body, events_max)?;
            Ok(events.into_iter().map(|value| Message { headers: headers.clone(), value }).collect())
        }
    }
}

/// The media type of one event of a batch of this media type: the parameters, a charset above all, hold for it too.
fn of_one(batch: &[u8]) -> Bytes {
    let parameters = batch.iter().position(|byte| *byte == b';').and_then(|at| batch.get(at..)).unwrap_or_default();
    [STRUCTURED.as_bytes(), parameters].concat().into()
}

/// What a header says of an attribute: unquoted, then decoded once. Bytes that are no text are left for the reader of
/// events to refuse.
fn attribute_value(header: &[u8]) -> Bytes {
    let unquoted = unquoted(header);
    Bytes::from(percent_decode(&unquoted).collect::<Vec<u8>>())
}

fn unquoted(value: &[u8]) -> Cow<'_, [u8]> {
    let Some(inside) = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")) else {
        return Cow::Borrowed(value);
    };
    let mut plain = Vec::with_capacity(inside.len());
    let mut bytes = inside.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => plain.extend(bytes.next()),
            byte => plain.push(*byte),
        }
    }
    Cow::Owned(plain)
}

/// Cuts a JSON array into its elements, which share its bytes.
///
/// Only brackets and strings are looked at, without recursion and at most `count_max` elements far: each element is read
/// as JSON later, and what is cut from something that is no JSON is no JSON either.
fn elements(array: &Bytes, count_max: usize) -> Result<Vec<Bytes>, NoBatch> {
    let inside = array.trim_ascii().strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
    let inside = inside.ok_or(NoBatch::NotAnArray)?;
    if inside.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    let (mut depth, mut in_string, mut start) = (0_usize, false, 0);
    let mut bytes = inside.iter().enumerate();
    let mut take = |from: usize, to: usize| {
        let element = inside.get(from..to).unwrap_or_default().trim_ascii();
        found.push(array.slice_ref(element));
        if found.len() > count_max { Err(NoBatch::TooMany) } else { Ok(()) }
    };
    while let Some((at, byte)) = bytes.next() {
        match (in_string, byte) {
            (true, b'\\') => {
                bytes.next();
            }
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => depth = depth.checked_sub(1).ok_or(NoBatch::NotAnArray)?,
            (false, b',') if depth == 0 => {
                take(start, at)?;
                start = at + 1;
            }
            _ => {}
        }
    }
    take(start, inside.len())?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, count_max: usize) -> Result<Vec<String>, NoBatch> {
        let found = elements(&Bytes::copy_from_slice(text.as_bytes()), count_max)?;
        Ok(found.into_iter().map(|element| String::from_utf8(element.to_vec()).unwrap()).collect())
    }

    #[test]
    fn a_batch_is_cut_between_its_elements_and_nowhere_else() {
        for (text, expected) in [
            (" [ ] ", &[][..]),
            (r#"[{"a":[1,2]} , {"b":"],[\",{"}]"#, &[r#"{"a":[1,2]}"#, r#"{"b":"],[\",{"}"#]),
            ("[1]", &["1"]),
            // No JSON, and neither are the parts.
            ("[1,]", &["1", ""]),
            (r#"["open]"#, &["\"open"]),
            ("[{]", &["{"]),
        ] {
            assert_eq!(cut(text, 2).unwrap(), expected, "{text}");
        }
        for text in ["", "{}", "[", "]", "[]]", "[}{]", "null"] {
            assert_eq!(cut(text, 2), Err(NoBatch::NotAnArray), "{text}");
        }
        assert_eq!(cut("[1,2,3]", 2), Err(NoBatch::TooMany));
    }

    #[test]
    fn a_value_is_unquoted_then_decoded_once() {
        for (header, expected) in [
            ("plain", "plain"),
            ("J%C3%BCrgen%20M", "Jürgen M"),
            ("%2520", "%20"),
            ("100%", "100%"),
            ("%zz", "%zz"),
            (r#""quoted \"inside\" \\ %41""#, r#"quoted "inside" \ A"#),
            ("\"", "\""),
            ("\"\"", ""),
        ] {
            assert_eq!(attribute_value(header.as_bytes()), expected.as_bytes(), "{header}");
        }
    }

    #[test]
    fn the_media_type_chooses_the_mode() {
        for (content_type, with_attributes, expected) in [
            (Some("application/cloudevents+json"), false, Some(Mode::Structured)),
            (Some("Application/CloudEvents+JSON; charset=utf-8"), true, Some(Mode::Structured)),
            (Some("application/cloudevents-batch+json"), false, Some(Mode::Batch)),
            (Some("application/cloudevents+avro"), true, None),
            (Some("application/cloudevents-batch+xml"), true, None),
            (Some("application/json"), true, Some(Mode::Binary)),
            (None, true, Some(Mode::Binary)),
            (Some("application/json"), false, None),
            (None, false, None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(content_type) = content_type {
                headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
            }
            if with_attributes {
                headers.insert("ce-id", "1".parse().unwrap());
            }
            assert_eq!(Mode::of(&headers), expected, "{content_type:?}, {with_attributes}");
        }
    }

    #[test]
    fn an_event_of_a_batch_keeps_the_charset_that_the_batch_had() {
        assert_eq!(
            of_one(b"application/cloudevents-batch+json; charset=latin1"),
            "application/cloudevents+json; charset=latin1"
        );
        assert_eq!(of_one(BATCH.as_bytes()), STRUCTURED);
    }
}
