//! What stands in a segment: keys and values, as bytes.
//!
//! Records come first and in order, so that a partition is a range: `r`, topic, partition, offset. What belongs to no
//! record begins with another letter. Topics are numbers in keys, because names are long and there are many records.
//!
//! Everything that is read may be damaged: reading answers `None` then, and never panics.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;

use crate::log::{
    Cleanup, CommittedOffset, Header, Offset, Record, TopicPartition, TopicSpec, Watermarks,
    local::{
        group::GroupState,
        memory::{Place, TopicState},
        transactions::Epoch,
    },
};

/// Of the values below; another one is not read.
pub(super) const LAYOUT: u32 = 1;
pub(super) const LAYOUT_KEY: &[u8] = b"l";

const RECORD: u8 = b'r';
pub(super) const TOPIC: u8 = b't';
pub(super) const ENDS: u8 = b'p';
pub(super) const GROUP: u8 = b'g';
pub(super) const OFFSET: u8 = b'o';
pub(super) const EPOCH: u8 = b'e';

const HAS_KEY: u8 = 1;
const HAS_VALUE: u8 = 2;
const HAS_REMOVABLE: u8 = 4;

fn place_key(letter: u8, place: Place) -> Vec<u8> {
    let mut key = Vec::with_capacity(17);
    key.push(letter);
    key.extend(place.topic.to_be_bytes());
    key.extend(place.partition.to_be_bytes());
    key
}

pub(super) fn record_key(place: Place, offset: Offset) -> Vec<u8> {
    let mut key = place_key(RECORD, place);
    key.extend(offset.to_be_bytes());
    key
}

/// The offset in the key of a record.
pub(super) fn offset_of(key: &[u8]) -> Option<Offset> {
    key.get(9..).and_then(|offset| offset.try_into().ok()).map(Offset::from_be_bytes)
}

/// What a segment holds for one record.
#[derive(Debug, Clone)]
pub(super) struct StoredRecord {
    pub(super) timestamp: Timestamp,
    /// When compaction may take this tombstone; set the first time compaction meets it.
    pub(super) removable: Option<Timestamp>,
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<Header>,
}

impl StoredRecord {
    pub(super) fn of(record: Record) -> Self {
        let Record { timestamp, key, value, headers, .. } = record;
        Self { timestamp, removable: None, key, value, headers }
    }

    pub(super) fn at(self, at: &TopicPartition, offset: Offset) -> Record {
        let Self { timestamp, key, value, headers, .. } = self;
        Record { at: at.clone(), offset, timestamp, key, value, headers }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let flag = |there: bool, flag: u8| if there { flag } else { 0 };
        let mut bytes = Vec::with_capacity(
            32 + self.key.as_ref().map_or(0, Bytes::len) + self.value.as_ref().map_or(0, Bytes::len),
        );
        bytes.push(
            flag(self.key.is_some(), HAS_KEY)
                | flag(self.value.is_some(), HAS_VALUE)
                | flag(self.removable.is_some(), HAS_REMOVABLE),
        );
        bytes.extend(self.timestamp.as_millisecond().to_be_bytes());
        if let Some(removable) = self.removable {
            bytes.extend(removable.as_millisecond().to_be_bytes());
        }
        for part in [&self.key, &self.value].into_iter().flatten() {
            push(&mut bytes, part);
        }
        for Header { name, value } in &self.headers {
            push(&mut bytes, name.as_bytes());
            push(&mut bytes, value);
        }
        bytes
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let whole = Bytes::copy_from_slice(bytes);
        let mut rest = Rest(bytes);
        // A part of the one copy that all of them share.
        let at = |rest: &mut Rest<'_>| {
            let length = rest.part()?.len();
            let end = bytes.len() - rest.0.len();
            Some(whole.slice(end - length..end))
        };
        let flags = rest.take::<1>()?[0];
        let timestamp = rest.timestamp()?;
        let removable = if flags & HAS_REMOVABLE != 0 { Some(rest.timestamp()?) } else { None };
        let key = if flags & HAS_KEY != 0 { Some(at(&mut rest)?) } else { None };
        let value = if flags & HAS_VALUE != 0 { Some(at(&mut rest)?) } else { None };
        let mut headers = Vec::new();
        while !rest.0.is_empty() {
            let name = rest.text()?;
            headers.push(Header { name, value: at(&mut rest)? });
        }
        Some(Self { timestamp, removable, key, value, headers })
    }
}

fn push(bytes: &mut Vec<u8>, part: &[u8]) {
    bytes.extend(u32::try_from(part.len()).expect("a part of a record is below 4 GiB").to_be_bytes());
    bytes.extend(part);
}

/// What is left to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u32> {
        self.take().map(u32::from_be_bytes)
    }

    fn long(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn timestamp(&mut self) -> Option<Timestamp> {
        Timestamp::from_millisecond(self.take().map(i64::from_be_bytes)?).ok()
    }

    fn part(&mut self) -> Option<&'a [u8]> {
        let length = self.number()? as usize;
        let (part, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(part)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.part()?.to_vec()).ok()
    }
}

/// A key and a value.
pub(super) type Entry = (Vec<u8>, Vec<u8>);

pub(super) fn topic(state: &TopicState) -> Entry {
    let mut key = vec![TOPIC];
    key.extend(state.number.to_be_bytes());
    let (policy, time) = match state.spec.cleanup {
        Cleanup::Compact { tombstones } => (0_u32, tombstones),
        Cleanup::Delete { after } => (1, after),
        Cleanup::Foreign => (2, Duration::ZERO),
    };
    let mut value = Vec::new();
    value.extend(state.spec.partitions.to_be_bytes());
    value.extend(state.spec.message_bytes_max.to_be_bytes());
    value.extend(policy.to_be_bytes());
    value.extend(u64::try_from(time.as_millis()).unwrap_or(u64::MAX).to_be_bytes());
    push(&mut value, state.spec.name.as_bytes());
    (key, value)
}

pub(super) fn read_topic(key: &[u8], value: &[u8]) -> Option<TopicState> {
    let number = Rest(key.get(1..)?).number()?;
    let mut rest = Rest(value);
    let (partitions, message_bytes_max, policy) = (rest.number()?, rest.number()?, rest.number()?);
    let time = Duration::from_millis(rest.long()?);
    let cleanup = match policy {
        0 => Cleanup::Compact { tombstones: time },
        1 => Cleanup::Delete { after: time },
        2 => Cleanup::Foreign,
        _ => return None,
    };
    let name = rest.text()?.into();
    Some(TopicState { number, spec: TopicSpec { name, partitions, cleanup, message_bytes_max } })
}

pub(super) fn ends(place: Place, ends: Watermarks) -> Entry {
    let value = [ends.low.to_be_bytes(), ends.high.to_be_bytes()].concat();
    (place_key(ENDS, place), value)
}

pub(super) fn ends_key(place: Place) -> Vec<u8> {
    place_key(ENDS, place)
}

pub(super) fn read_ends(value: &[u8]) -> Option<Watermarks> {
    let mut rest = Rest(value);
    let (low, high) = (rest.long()?, rest.long()?);
    (low <= high).then_some(Watermarks { low, high })
}

pub(super) fn group(state: &GroupState) -> impl Iterator<Item = Entry> {
    let mut key = vec![GROUP];
    key.extend(state.name.as_bytes());
    let offset = |(at, committed): &(TopicPartition, CommittedOffset)| {
        let mut key = vec![OFFSET];
        push(&mut key, state.name.as_bytes());
        push(&mut key, at.topic.as_bytes());
        key.extend(at.partition.to_be_bytes());
        let mut value = committed.offset.to_be_bytes().to_vec();
        value.extend(committed.metadata.as_bytes());
        (key, value)
    };
    std::iter::once((key, state.topic.as_bytes().to_vec())).chain(state.offsets.iter().map(offset))
}

/// Name and topic of a group.
pub(super) fn read_group(key: &[u8], value: &[u8]) -> Option<(Arc<str>, Arc<str>)> {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(Arc::from);
    Some((text(key.get(1..)?)?, text(value)?))
}

/// An offset and the group that committed it.
pub(super) fn read_offset(key: &[u8], value: &[u8]) -> Option<(String, TopicPartition, CommittedOffset)> {
    let mut rest = Rest(key.get(1..)?);
    let (group, topic, partition) = (rest.text()?, rest.text()?, rest.number()?);
    let mut rest = Rest(value);
    let offset = rest.long()?;
    let metadata = String::from_utf8(rest.0.to_vec()).ok()?;
    Some((group, TopicPartition::new(topic, partition), CommittedOffset { offset, metadata }))
}

pub(super) fn epoch(id: &str, epoch: Epoch) -> Entry {
    let mut key = vec![EPOCH];
    key.extend(id.as_bytes());
    (key, epoch.to_be_bytes().to_vec())
}

pub(super) fn read_epoch(key: &[u8], value: &[u8]) -> Option<(String, Epoch)> {
    Some((String::from_utf8(key.get(1..)?.to_vec()).ok()?, Rest(value).long()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_it_was_written_and_a_torn_one_reads_as_nothing() {
        let record = StoredRecord {
            timestamp: Timestamp::from_millisecond(1_700_000_000_123).unwrap(),
            removable: Some(Timestamp::from_millisecond(5).unwrap()),
            key: Some(Bytes::from_static(b"key")),
            value: None,
            headers: vec![Header::new("ce_id", "1"), Header::new("", "")],
        };
        let bytes = record.to_bytes();
        let read = StoredRecord::from_bytes(&bytes).unwrap();
        assert_eq!(read.to_bytes(), bytes);
        assert_eq!((read.key, read.value, read.headers), (record.key, None, record.headers));
        assert_eq!((read.timestamp, read.removable), (record.timestamp, record.removable));
        // Between two headers it cannot be told; anywhere else it must be.
        let torn = (0..bytes.len()).filter(|length| StoredRecord::from_bytes(&bytes[..*length]).is_some());
        assert_eq!(torn.count(), 2, "behind the key, and behind the first header");
    }

    #[test]
    fn keys_of_a_partition_are_in_order_of_offset() {
        let key = |partition, offset| record_key(Place { topic: 1, partition }, offset);
        assert!(key(0, u64::MAX) < key(1, 0) && key(1, 255) < key(1, 256));
        assert_eq!(offset_of(&key(3, 77)), Some(77));
        assert_eq!(offset_of(b"r"), None);
    }
}
