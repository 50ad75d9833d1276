//! Dead letters: an event that could not be read or decided, byte for byte, with where it came from and why.
//!
//! Key, value and headers of the input stay as they are, and headers of ours come behind them, in a fixed order. So a
//! dead letter that was sent in again and failed again keeps the headers of its first fate: the last ones are ours.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use super::{ReasonCode, change::Fault};
use crate::{
    contact::format::FormatError,
    log::{Header, NewRecord, Offset, Partition, Record, TopicPartition},
};

const TOPIC: &str = "dead_letter_topic";
const PARTITION: &str = "dead_letter_partition";
const OFFSET: &str = "dead_letter_offset";
const TIMESTAMP: &str = "dead_letter_timestamp";
const CODE: &str = "dead_letter_code";
/// Last, because it alone may be missing.
const POINTER: &str = "dead_letter_pointer";

/// The record for `to` that keeps `input`, which has this fault.
pub fn letter(input: &Record, fault: &Fault, to: TopicPartition) -> NewRecord {
    let mut headers = input.headers.clone();
    let mut add = |name: &str, value: String| headers.push(Header::new(name, value));
    add(TOPIC, input.at.topic.to_string());
    add(PARTITION, input.at.partition.to_string());
    add(OFFSET, input.offset.to_string());
    add(TIMESTAMP, input.timestamp.to_string());
    add(CODE, fault.code.to_string());
    if let Some(pointer) = &fault.pointer {
        add(POINTER, pointer.clone());
    }
    NewRecord { to, key: input.key.clone(), value: input.value.clone(), headers }
}

/// The header of an event that was sent in again. It is an attribute by its name and stands for none: a record that has no
/// other is what it was without it, a tombstone above all.
pub const REPLAY_OF: &str = "ce_replayof";

/// The record for `to` that sends `letter` in again: the bytes that came in, and which position they had.
pub fn replay(letter: &DeadLetter, to: TopicPartition) -> NewRecord {
    // Of a letter that died a second time, the position of its second life is the one that leads to the first.
    let mut headers: Vec<Header> = letter.headers.iter().filter(|header| header.name != REPLAY_OF).cloned().collect();
    let DeadLetter { topic, partition, offset, .. } = letter;
    headers.push(Header::new(REPLAY_OF, format!("{topic}[{partition}]@{offset}")));
    NewRecord { to, key: letter.key.clone(), value: letter.value.clone(), headers }
}

/// A dead letter as it was read: the event as it came in, and what we said of it.
#[derive(Clone, PartialEq, Eq)]
pub struct DeadLetter {
    pub topic: Arc<str>,
    pub partition: Partition,
    pub offset: Offset,
    /// Of the input record.
    pub timestamp: Timestamp,
    pub code: ReasonCode,
    pub pointer: Option<String>,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// Those of the input, without ours.
    pub headers: Vec<Header>,
}

impl std::fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // What it holds could not even be read, and may be personal.
        write!(f, "{}[{}]@{}: {}", self.topic, self.partition, self.offset, self.code)
    }
}

impl DeadLetter {
    /// Reads a record of the dead-letter topic.
    ///
    /// # Errors
    /// If its last headers are not what [`letter`] writes.
    pub fn read(record: &Record) -> Result<Self, FormatError> {
        let malformed =
            |name: &str| FormatError::Malformed { reason: format!("header {name} is missing or ill-formed") };
        let mut headers = record.headers.clone();
        let mut take = |name: &str| {
            let header = headers.pop_if(|header| header.name == name)?;
            String::from_utf8(header.value.to_vec()).ok()
        };
        let pointer = take(POINTER);
        let label = take(CODE).ok_or_else(|| malformed(CODE))?;
        let code = ReasonCode::ALL.iter().copied().find(|code| code.as_str() == label);
        let timestamp = take(TIMESTAMP).and_then(|text| text.parse().ok());
        let offset = take(OFFSET).and_then(|text| text.parse().ok());
        let partition = take(PARTITION).and_then(|text| text.parse().ok());
        let topic = take(TOPIC);
        Ok(Self {
            topic: topic.ok_or_else(|| malformed(TOPIC))?.into(),
            partition: partition.ok_or_else(|| malformed(PARTITION))?,
            offset: offset.ok_or_else(|| malformed(OFFSET))?,
            timestamp: timestamp.ok_or_else(|| malformed(TIMESTAMP))?,
            code: code.ok_or_else(|| malformed(CODE))?,
            pointer,
            key: record.key.clone(),
            value: record.value.clone(),
            headers,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection, option, prelude::*};

    use super::*;
    use crate::event::EventRef;

    fn input(headers: Vec<Header>, key: Option<&[u8]>, value: Option<&[u8]>) -> Record {
        Record {
            at: TopicPartition::new("contact-changes", 3),
            offset: 17,
            timestamp: "2026-03-02T11:59:00.123Z".parse().unwrap(),
            key: key.map(Bytes::copy_from_slice),
            value: value.map(Bytes::copy_from_slice),
            headers,
        }
    }

    fn buried(input: &Record, code: ReasonCode, pointer: Option<&str>) -> Record {
        let fault = Fault { code, pointer: pointer.map(str::to_owned), event: EventRef::at(input) };
        let NewRecord { to, key, value, headers } =
            letter(input, &fault, TopicPartition::new("contact-dead-letters", 0));
        Record { at: to, offset: 5, timestamp: input.timestamp, key, value, headers }
    }

    #[test]
    fn a_dead_letter_says_where_it_came_from_and_why() {
        let record = buried(
            &input(vec![Header::new("ce_id", &b"e-1"[..])], Some(b"42"), Some(b"{")),
            ReasonCode::BadValue,
            Some("/birthDate"),
        );
        let headers: Vec<_> = record
            .headers
            .iter()
            .map(|header| (header.name.as_str(), std::str::from_utf8(&header.value).unwrap()))
            .collect();
        let expected = [
            ("ce_id", "e-1"),
            ("dead_letter_topic", "contact-changes"),
            ("dead_letter_partition", "3"),
            ("dead_letter_offset", "17"),
            ("dead_letter_timestamp", "2026-03-02T11:59:00.123Z"),
            ("dead_letter_code", "bad_value"),
            ("dead_letter_pointer", "/birthDate"),
        ];
        assert_eq!(headers, expected);
        assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(&b"42"[..]), Some(&b"{"[..])));
    }

    #[test]
    fn a_letter_that_died_twice_keeps_its_first_fate_among_its_headers() {
        let once = buried(&input(Vec::new(), None, None), ReasonCode::NotCloudevents, Some(""));
        let twice = DeadLetter::read(&buried(&once, ReasonCode::TooDeep, None)).unwrap();
        assert_eq!(
            (&*twice.topic, twice.offset, twice.code, twice.pointer.as_deref()),
            ("contact-dead-letters", 5, ReasonCode::TooDeep, None)
        );
        assert_eq!(twice.headers, once.headers);
        assert_eq!(DeadLetter::read(&once).unwrap().pointer.as_deref(), Some(""));
    }

    #[test]
    fn a_replay_is_the_event_byte_for_byte_and_says_where_it_was() {
        let to = || TopicPartition::new("contact-changes", 3);
        let came = vec![Header::new("ce_id", &b"e-1"[..]), Header::new("x", &b"\xff"[..])];
        let letter =
            DeadLetter::read(&buried(&input(came.clone(), Some(b"42"), Some(b"{")), ReasonCode::NotJson, None));
        let again = replay(&letter.unwrap(), to());
        let replayed = |position: &str| Header::new(REPLAY_OF, position.to_owned());
        assert_eq!((again.key.as_deref(), again.value.as_deref()), (Some(&b"42"[..]), Some(&b"{"[..])));
        assert_eq!(again.headers, [came.clone(), vec![replayed("contact-changes[3]@17")]].concat());
        // It died again, at another position.
        let second = Record { offset: 30, headers: again.headers, ..input(Vec::new(), again.key.as_deref(), None) };
        let letter = DeadLetter::read(&buried(&second, ReasonCode::NotJson, None)).unwrap();
        assert_eq!(replay(&letter, to()).headers, [came, vec![replayed("contact-changes[3]@30")]].concat());
    }

    #[test]
    fn a_record_without_our_headers_is_no_dead_letter() {
        let good = buried(&input(Vec::new(), None, Some(b"x")), ReasonCode::NotJson, Some("/x"));
        for name in [TOPIC, PARTITION, OFFSET, TIMESTAMP, CODE] {
            let mut record = good.clone();
            record.headers.retain(|header| header.name != name);
            assert!(DeadLetter::read(&record).is_err(), "{name}");
        }
        let mut record = good;
        record.headers.push(Header::new("x", &b""[..]));
        assert!(DeadLetter::read(&record).is_err());
    }

    #[test]
    fn debug_does_not_show_what_a_dead_letter_holds() {
        let letter =
            DeadLetter::read(&buried(&input(Vec::new(), Some(b"ann"), Some(b"ann")), ReasonCode::NotJson, None))
                .unwrap();
        assert_eq!(format!("{letter:?}"), "contact-changes[3]@17: not_json");
    }

    proptest! {
        #[test]
        fn any_record_is_kept_byte_for_byte(
            headers in collection::vec(
                (prop_oneof!["[a-z_]{0,8}", Just(CODE.to_owned()), Just(POINTER.to_owned()), Just(TOPIC.to_owned())],
                    collection::vec(any::<u8>(), 0..8)),
                0..6,
            ),
            key in option::of(collection::vec(any::<u8>(), 0..8)),
            value in option::of(collection::vec(any::<u8>(), 0..32)),
            pointer in option::of("(/[a-z0-9]{1,4}){0,3}"),
        ) {
            let headers = headers.into_iter().map(|(name, value)| Header::new(name, value)).collect();
            let input = input(headers, key.as_deref(), value.as_deref());
            let letter = DeadLetter::read(&buried(&input, ReasonCode::InternalError, pointer.as_deref())).unwrap();
            prop_assert_eq!(letter, DeadLetter {
                topic: "contact-changes".into(),
                partition: 3,
                offset: 17,
                timestamp: input.timestamp,
                code: ReasonCode::InternalError,
                pointer,
                key: input.key,
                value: input.value,
                headers: input.headers,
            });
        }
    }
}
