//! What to do about a fault, for whoever emits the event.

use super::Fault;
use crate::{contact::schema, event::ReasonCode};

impl Fault {
    /// What mends it, as a sentence that begins small. Names places and forms, never what stands there.
    pub fn remedy(&self) -> String {
        let pointer = self.pointer.as_deref();
        let attribute = pointer.and_then(|pointer| pointer.strip_prefix("/headers/"));
        match self.code {
            ReasonCode::NotCloudevents => match attribute {
                Some(_) => "structured mode is spoken as application/cloudevents+json".to_owned(),
                None => "send a CloudEvents 1.0 event: a JSON object with its attributes and either data or data_base64, or \
                         attributes in headers that begin with ce_"
                    .to_owned(),
            },
            ReasonCode::MissingAttribute => format!("give {}; it is required", name(attribute)),
            ReasonCode::BadAttribute => format!("give {} as {}", name(attribute), form(attribute)),
            ReasonCode::UnknownType => "end type in contact. and one of created, updated, patched, deleted and erased, after any \
                 reverse-DNS prefix and before .v1 or nothing"
                .to_owned(),
            ReasonCode::NotJson => match attribute {
                Some(_) => "send JSON, as application/json".to_owned(),
                None => "give well-formed JSON, and the contact under data (data_base64, or the value in binary mode)".to_owned(),
            },
            ReasonCode::TooDeep => "nest less deeply (input.event_depth_max)".to_owned(),
            ReasonCode::TooLarge => {
                "send less, with photos by their URL: key, headers and value count together (input.event_bytes_max)".to_owned()
            }
            ReasonCode::WrongType | ReasonCode::BadValue => {
                let expected = pointer.and_then(schema::expected).unwrap_or_else(|| "what the schema says".to_owned());
                // The contact as a whole is the one thing that may not be null.
                let or_null = if pointer == Some("") { "" } else { ", or null" };
                format!("give {expected}{or_null}")
            }
            ReasonCode::NoSubject => "give subject, the contact's id in the emitting system".to_owned(),
            ReasonCode::TombstoneWithoutSource => {
                "send an event that ends in contact.deleted, or have the topic configured with a source".to_owned()
            }
            ReasonCode::UnknownSource => "have the source added to the settings, under [[source]]".to_owned(),
            ReasonCode::TimeInFuture => "correct the clock that time is from (input.future_max)".to_owned(),
            _ => "ask who runs contact-replicator".to_owned(),
        }
    }
}

/// The attribute of a header.
fn name(header: Option<&str>) -> &str {
    match header {
        Some("content-type") => "datacontenttype (in binary mode, content-type)",
        Some(header) => header.trim_start_matches("ce_"),
        None => "the key",
    }
}

fn form(header: Option<&str>) -> &'static str {
    match header {
        Some("ce_specversion") => "1.0",
        Some("ce_source") => "a URI reference (RFC 3986), percent-encoded where it must be",
        Some("ce_time") => "a moment of RFC 3339 that exists, such as 2026-03-01T10:00:00Z",
        Some("ce_sequence") => "a text that is not empty, or an integer",
        Some("content-type") => "JSON in UTF-8, such as application/json",
        Some(_) => "a text that is not empty, without control characters, and only once",
        None => "text in UTF-8, without control characters",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::{EventRef, OutcomeKind},
        log::{Record, TopicPartition},
    };

    fn remedy(code: ReasonCode, pointer: Option<&str>) -> String {
        let record = Record {
            at: TopicPartition::new("contact-changes", 0),
            offset: 0,
            timestamp: jiff::Timestamp::UNIX_EPOCH,
            key: None,
            value: None,
            headers: Vec::new(),
        };
        Fault { code, pointer: pointer.map(str::to_owned), event: EventRef::at(&record) }.remedy()
    }

    #[test]
    fn a_remedy_fits_the_place() {
        for (code, pointer, says) in [
            (ReasonCode::MissingAttribute, Some("/headers/ce_id"), "give id; it is required"),
            (ReasonCode::BadAttribute, Some("/headers/ce_time"), "give time as a moment of RFC 3339 that exists"),
            (ReasonCode::BadAttribute, Some("/headers/content-type"), "give datacontenttype"),
            (ReasonCode::BadAttribute, Some("/key"), "give the key as text in UTF-8"),
            (ReasonCode::WrongType, Some("/emails/1/value"), "give a text, or null"),
            (ReasonCode::WrongType, Some(""), "give an object"),
            (ReasonCode::BadValue, Some("/birthDate"), "give a day that exists, as YYYY-MM-DD, or null"),
            (ReasonCode::BadValue, Some("/addresses/0/country"), "give a country as ISO 3166-1 alpha-2"),
            (ReasonCode::NotJson, None, "give well-formed JSON"),
            (ReasonCode::NotJson, Some("/headers/content-type"), "send JSON, as application/json"),
        ] {
            let remedy = remedy(code, pointer);
            assert!(remedy.starts_with(says), "{code} at {pointer:?}: {remedy}");
        }
    }

    #[test]
    fn every_code_that_a_reader_finds_has_a_remedy_of_its_own() {
        let decided_later = [ReasonCode::RecordTooLarge, ReasonCode::InternalError];
        let mut seen = std::collections::BTreeSet::new();
        for code in OutcomeKind::Quarantined.codes() {
            let remedy = remedy(*code, Some("/birthDate").filter(|_| *code == ReasonCode::BadValue));
            assert_eq!(remedy.starts_with("ask who runs"), decided_later.contains(code), "{code}");
            assert!(decided_later.contains(code) || seen.insert(remedy), "{code}");
        }
    }
}
