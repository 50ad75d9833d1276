//! CloudEvents 1.0 over Kafka: tells what kind of event a record carries, and gets at its attributes and data.
//!
//! Binary mode has the attributes in headers that begin with `ce_` and the data in the value; structured mode has both
//! in a JSON object. Which one it is, the header `content-type` says alone. Above this module the two are one: a fault
//! has the same pointer in either mode, into the data, or `/headers/ce_<name>` for an attribute.
//!
//! As the Kafka binding has it, header names are exact, and values are plain UTF-8: it is the HTTP binding that
//! percent-encodes. Nothing here recurses into foreign input before its depth is known.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Map, Value};

use super::{ReasonCode, dead_letter::REPLAY_OF};
use crate::log::{Header, Record};

/// What is wrong with an event, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) code: ReasonCode,
    pub(super) pointer: Option<String>,
}

impl Problem {
    /// That the event as a whole is at fault.
    pub(super) fn whole(code: ReasonCode) -> Self {
        Self { code, pointer: None }
    }

    pub(super) fn at(code: ReasonCode, pointer: impl Into<String>) -> Self {
        Self { code, pointer: Some(pointer.into()) }
    }
}

/// The attributes that this program reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attribute {
    SpecVersion,
    Id,
    Source,
    Type,
    Subject,
    Time,
    Sequence,
    TraceParent,
    DataContentType,
}

impl Attribute {
    fn header(self) -> &'static str {
        match self {
            Self::SpecVersion => "ce_specversion",
            Self::Id => "ce_id",
            Self::Source => "ce_source",
            Self::Type => "ce_type",
            Self::Subject => "ce_subject",
            Self::Time => "ce_time",
            Self::Sequence => "ce_sequence",
            Self::TraceParent => "ce_traceparent",
            Self::DataContentType => CONTENT_TYPE,
        }
    }

    /// The member of a structured event.
    fn member(self) -> &'static str {
        match self {
            Self::DataContentType => "datacontenttype",
            attribute => attribute.header().trim_start_matches(PREFIX),
        }
    }

    pub(super) fn problem(self, code: ReasonCode) -> Problem {
        Problem::at(code, format!("/headers/{}", self.header()))
    }
}

const PREFIX: &str = "ce_";
const CONTENT_TYPE: &str = "content-type";

/// What a record carries.
#[derive(Debug)]
pub(super) enum Carried<'a> {
    Tombstone { key: &'a [u8] },
    Event(Envelope<'a>),
}

/// An event in either mode.
pub(super) enum Envelope<'a> {
    Binary(&'a Record),
    Structured(Map<String, Value>),
}

impl std::fmt::Debug for Envelope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Binary(_) => "Binary",
            Self::Structured(_) => "Structured",
        })
    }
}

/// Tells what `record` carries. Of a structured event, everything but the data may be `depth_max` levels deep less one.
pub(super) fn open(record: &Record, depth_max: usize) -> Result<Carried<'_>, Problem> {
    let is_attribute = |header: &Header| header.name.starts_with(PREFIX) && header.name != REPLAY_OF;
    let has_attributes = record.headers.iter().any(is_attribute);
    if record.value.is_none() && !has_attributes {
        return match &record.key {
            Some(key) => Ok(Carried::Tombstone { key }),
            None => Err(Problem::whole(ReasonCode::NotCloudevents)),
        };
    }
    let content_type = record.header(CONTENT_TYPE).and_then(|value| std::str::from_utf8(value).ok());
    if let Some(content_type) = content_type
        && starts_with_ignoring_case(content_type, "application/cloudevents")
    {
        let media_type = MediaType::parse(content_type);
        if media_type.essence != "application/cloudevents+json" {
            return Err(Attribute::DataContentType.problem(ReasonCode::NotCloudevents));
        }
        media_type.check_charset()?;
        // The object around the data is a level that a binary event does not have.
        let envelope = parse_json(record.value.as_deref().unwrap_or_default(), depth_max + 1)?;
        return match envelope {
            Value::Object(members) => Ok(Carried::Event(Envelope::Structured(members))),
            _ => Err(Problem::whole(ReasonCode::NotCloudevents)),
        };
    }
    if has_attributes {
        Ok(Carried::Event(Envelope::Binary(record)))
    } else {
        Err(Problem::whole(ReasonCode::NotCloudevents))
    }
}

impl Envelope<'_> {
    /// The text of an attribute; `None` if the event has none.
    ///
    /// # Errors
    /// [`ReasonCode::BadAttribute`] for what is no text, holds control characters, or is there twice and not the same.
    pub(super) fn text(&self, attribute: Attribute) -> Result<Option<Cow<'_, str>>, Problem> {
        let bad = || attribute.problem(ReasonCode::BadAttribute);
        let text = match self {
            Self::Binary(record) => {
                let mut headers = record.headers.iter().filter(|header| header.name == attribute.header());
                let Some(Header { value, .. }) = headers.next() else {
                    return Ok(None);
                };
                if headers.any(|other| other.value != value) {
                    return Err(bad());
                }
                Cow::Borrowed(std::str::from_utf8(value).ok().ok_or_else(bad)?)
            }
            Self::Structured(members) => match members.get(attribute.member()) {
                // The JSON format takes null for "not there".
                None | Some(Value::Null) => return Ok(None),
                Some(Value::String(text)) => Cow::Borrowed(text.as_str()),
                // Its text is the same in a header, where it could not be told from a string.
                Some(Value::Number(number)) if attribute == Attribute::Sequence && !number.is_f64() => {
                    Cow::Owned(number.to_string())
                }
                Some(_) => return Err(bad()),
            },
        };
        if text.chars().any(char::is_control) {
            return Err(bad());
        }
        Ok(Some(text))
    }

    /// The data, which must be JSON.
    ///
    /// # Errors
    /// [`ReasonCode::NotJson`], also if there is none; [`ReasonCode::TooDeep`].
    pub(super) fn into_data(mut self, depth_max: usize) -> Result<Value, Problem> {
        let missing = || Problem::whole(ReasonCode::NotJson);
        if let Some(content_type) = self.text(Attribute::DataContentType)? {
            let media_type = MediaType::parse(&content_type);
            if !media_type.is_json() {
                return Err(Attribute::DataContentType.problem(ReasonCode::NotJson));
            }
            media_type.check_charset()?;
        }
        match &mut self {
            Self::Binary(record) => parse_json(record.value.as_deref().ok_or_else(missing)?, depth_max),
            Self::Structured(members) => match (members.remove("data"), members.remove("data_base64")) {
                (Some(data), None | Some(Value::Null)) => Ok(data),
                (None | Some(Value::Null), Some(Value::String(data))) => {
                    let data = STANDARD.decode(data).ok().ok_or_else(missing)?;
                    parse_json(&data, depth_max)
                }
                (Some(_), Some(_)) => Err(Problem::whole(ReasonCode::NotCloudevents)),
                (None, _) => Err(missing()),
            },
        }
    }
}

/// Reads JSON that is at most `depth_max` levels deep.
fn parse_json(bytes: &[u8], depth_max: usize) -> Result<Value, Problem> {
    if is_deeper(bytes, depth_max) {
        return Err(Problem::whole(ReasonCode::TooDeep));
    }
    serde_json::from_slice(bytes).ok().ok_or_else(|| Problem::whole(ReasonCode::NotJson))
}

/// Whether more than `depth_max` objects and arrays lie within each other. Counts brackets outside of strings, so that
/// nothing has to be built, and works on anything.
fn is_deeper(bytes: &[u8], depth_max: usize) -> bool {
    let mut depth = 0_usize;
    let mut in_string = false;
    let mut bytes = bytes.iter();
    while let Some(byte) = bytes.next() {
        match (in_string, byte) {
            (true, b'\\') => {
                // Whatever is escaped, a quote above all, ends no string.
                bytes.next();
            }
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                depth += 1;
                if depth > depth_max {
                    return true;
                }
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

struct MediaType {
    /// `type/subtype` in lower case.
    essence: String,
    /// In lower case.
    charset: Option<String>,
}

impl MediaType {
    fn parse(text: &str) -> Self {
        let mut parts = text.split(';');
        let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
        let charset = parts.filter_map(|parameter| parameter.split_once('=')).find_map(|(name, value)| {
            let is_charset = name.trim().eq_ignore_ascii_case("charset");
            is_charset.then(|| value.trim().trim_matches('"').to_ascii_lowercase())
        });
        Self { essence, charset }
    }

    fn is_json(&self) -> bool {
        self.essence.split_once('/').is_some_and(|(_, subtype)| subtype == "json" || subtype.ends_with("+json"))
    }

    /// JSON is UTF-8, and so is the part of it that is ASCII.
    fn check_charset(&self) -> Result<(), Problem> {
        match self.charset.as_deref() {
            None | Some("utf-8" | "us-ascii") => Ok(()),
            Some(_) => Err(Attribute::DataContentType.problem(ReasonCode::BadAttribute)),
        }
    }
}

fn starts_with_ignoring_case(text: &str, start: &str) -> bool {
    text.trim_start().get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_counts_brackets_outside_of_strings() {
        for (json, depth) in [
            ("1", 0),
            ("{}", 1),
            (r#"{"a":[1,{"b":[]}]}"#, 4),
            ("[[],[[]],[]]", 3),
            (r#"["[[[[", "\"[[[", "\\"]"#, 1),
            (r#"["\\\"[[[["]"#, 1),
        ] {
            assert!(!is_deeper(json.as_bytes(), depth), "{json}");
            assert!(depth == 0 || is_deeper(json.as_bytes(), depth - 1), "{json}");
        }
    }

    #[test]
    fn a_media_type_is_read_with_its_charset() {
        for (text, is_json, charset) in [
            ("application/json", true, None),
            ("Application/JSON ; Charset=\"UTF-8\"", true, Some("utf-8")),
            ("application/scim+json;x=y;charset=latin1", true, Some("latin1")),
            ("text/plain", false, None),
            ("json", false, None),
            ("", false, None),
        ] {
            let media_type = MediaType::parse(text);
            assert_eq!((media_type.is_json(), media_type.charset.as_deref()), (is_json, charset), "{text}");
        }
    }
}
