//! How the view is laid out in sled: one ordered map, whose keys begin with one byte that says what follows.
//!
//! One map, because a batch of sled is atomic within one map only, and data must never be apart from the position it
//! belongs to. Keys are binary and ordered as they are read: the links of a partition lie together, and so do its
//! parked contacts, the next due first.
//!
//! Values are the bytes of the log, as they came. The one exception is a link, which has in front what is indexed or counted
//! of it ([`LinkHead`]): replacing a link must find the old entries without reading JSON.

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    contact::ContactId,
    crm::fingerprint::Fingerprint,
    identity::keys::KeyHash,
    log::{Offset, Partition, TopicPartition},
    view::Wake,
};

/// Counts changes of this layout. A view with another number is rebuilt, never converted: the log has it all.
pub(super) const LAYOUT: u32 = 3;

/// What a key of sled begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Tag {
    Meta = b'!',
    Birth = b'"',
    Position = b'#',
    Key = b'k',
    Link = b'l',
    /// How many links of a partition were written under a mapping.
    Mapping = b'm',
    /// Contacts by what the CRM calls them.
    Name = b'n',
    Parked = b'p',
    Record = b'r',
    State = b's',
    Waiting = b'w',
}

impl Tag {
    /// What the log says, as opposed to what we know about having read it.
    pub(super) const DATA: [Self; 8] =
        [Self::Key, Self::Link, Self::Mapping, Self::Name, Self::Parked, Self::Record, Self::State, Self::Waiting];

    pub(super) fn prefix(self) -> Vec<u8> {
        vec![self as u8]
    }
}

pub(super) fn meta(name: &str) -> Vec<u8> {
    join(Tag::Meta, &[name.as_bytes()])
}

pub(super) fn record(contact: ContactId) -> Vec<u8> {
    join(Tag::Record, &[contact.0.as_bytes()])
}

/// The contact of a key made by [`record`], or of any key that ends with one.
pub(super) fn contact_at_end(key: &[u8]) -> Option<ContactId> {
    key.last_chunk::<16>().map(|bytes| ContactId(Uuid::from_bytes(*bytes)))
}

pub(super) fn key(hash: KeyHash) -> Vec<u8> {
    join(Tag::Key, &[&hash.0])
}

/// The hash of a key made by [`key`].
pub(super) fn hash_at_end(key: &[u8]) -> Option<KeyHash> {
    key.last_chunk::<16>().map(|bytes| KeyHash(*bytes))
}

/// Reads the record key of `contact-keys`: 32 lower-case hexadecimal digits.
pub(super) fn hash_from_record_key(text: &[u8]) -> Option<KeyHash> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != 16 || !rest.is_empty() {
        return None;
    }
    let mut hash = [0; 16];
    for (byte, [high, low]) in hash.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(KeyHash(hash))
}

pub(super) fn state(key: &[u8]) -> Vec<u8> {
    join(Tag::State, &[key])
}

/// What all links of one partition of one CRM begin with.
pub(super) fn links(crm: &str, partition: Partition) -> Vec<u8> {
    within(Tag::Link, crm, partition)
}

pub(super) fn link(crm: &str, partition: Partition, contact: ContactId) -> Vec<u8> {
    let mut key = links(crm, partition);
    key.extend_from_slice(contact.0.as_bytes());
    key
}

/// What the whole index of contacts of one partition of one CRM that are looked at again begins with.
pub(super) fn due_index(wake: Wake, crm: &str, partition: Partition) -> Vec<u8> {
    let tag = match wake {
        Wake::Parked => Tag::Parked,
        Wake::Waiting => Tag::Waiting,
    };
    within(tag, crm, partition)
}

pub(super) fn due(wake: Wake, crm: &str, partition: Partition, due: Timestamp, contact: ContactId) -> Vec<u8> {
    let mut key = due_index(wake, crm, partition);
    key.extend_from_slice(&ordered(due));
    key.extend_from_slice(contact.0.as_bytes());
    key
}

/// Due time and contact of a key made by [`due`].
pub(super) fn due_entry(key: &[u8]) -> Option<(Timestamp, ContactId)> {
    let (rest, contact) = key.split_last_chunk::<16>()?;
    let due = rest.last_chunk::<DUE_LENGTH>()?;
    Some((from_ordered(due)?, ContactId(Uuid::from_bytes(*contact))))
}

/// What the counts of links by mapping of one partition of one CRM begin with.
pub(super) fn mappings(crm: &str, partition: Partition) -> Vec<u8> {
    within(Tag::Mapping, crm, partition)
}

pub(super) fn mapping(crm: &str, partition: Partition, mapping: Fingerprint) -> Vec<u8> {
    let mut key = mappings(crm, partition);
    key.extend_from_slice(&mapping.0.to_be_bytes());
    key
}

/// The mapping of a key made by [`mapping`].
pub(super) fn mapping_at_end(key: &[u8]) -> Option<Fingerprint> {
    key.last_chunk::<8>().map(|bytes| Fingerprint(u64::from_be_bytes(*bytes)))
}

/// What the index of names of one partition of one CRM begins with.
pub(super) fn name_index(crm: &str, partition: Partition) -> Vec<u8> {
    within(Tag::Name, crm, partition)
}

/// What the contacts of one name begin with, and perhaps those of another.
pub(super) fn names(crm: &str, partition: Partition, name: NameHash) -> Vec<u8> {
    let mut key = name_index(crm, partition);
    key.extend_from_slice(&name);
    key
}

pub(super) fn name(crm: &str, partition: Partition, name: NameHash, contact: ContactId) -> Vec<u8> {
    let mut key = names(crm, partition, name);
    key.extend_from_slice(contact.0.as_bytes());
    key
}

/// What a name is indexed by: two names have the same one as good as never, and are then told apart by the links.
pub(super) type NameHash = [u8; 8];

pub(super) fn name_hash(name: &str) -> NameHash {
    *Sha256::digest(name.as_bytes()).first_chunk().expect("a digest has 32 bytes")
}

/// What is indexed or counted of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LinkHead {
    /// When the contact is to be looked at again, if it is, and why.
    pub(super) due: Option<(Wake, Timestamp)>,
    /// Under which mapping the CRM was given what it holds, if it holds anything; zero: that was not told.
    pub(super) mapping: Option<Fingerprint>,
    /// What the CRM calls the contact.
    pub(super) name: Option<NameHash>,
}

const IS_PARKED: u8 = 1;
const HAS_MAPPING: u8 = 2;
const HAS_NAME: u8 = 4;
const IS_WAITING: u8 = 8;

/// The value of a link: its head, and what the log holds.
pub(super) fn link_value(head: LinkHead, json: &[u8]) -> Vec<u8> {
    let LinkHead { due, mapping, name } = head;
    let flag = |is_there: bool, flag: u8| if is_there { flag } else { 0 };
    let mut value = Vec::with_capacity(1 + DUE_LENGTH + 16 + json.len());
    let woken = due.map_or(0, |(wake, _)| match wake {
        Wake::Parked => IS_PARKED,
        Wake::Waiting => IS_WAITING,
    });
    value.push(woken | flag(mapping.is_some(), HAS_MAPPING) | flag(name.is_some(), HAS_NAME));
    value.extend(due.map(|(_, due)| ordered(due)).into_iter().flatten());
    value.extend(mapping.map(|mapping| mapping.0.to_be_bytes()).into_iter().flatten());
    value.extend(name.into_iter().flatten());
    value.extend_from_slice(json);
    value
}

/// Takes apart what [`link_value`] put together.
pub(super) fn split_link_value(value: &[u8]) -> Option<(LinkHead, &[u8])> {
    let (flags, mut rest) = value.split_first()?;
    if flags & !(IS_PARKED | IS_WAITING | HAS_MAPPING | HAS_NAME) != 0 {
        return None;
    }
    let wake = match flags & (IS_PARKED | IS_WAITING) {
        0 => None,
        IS_PARKED => Some(Wake::Parked),
        IS_WAITING => Some(Wake::Waiting),
        _ => return None,
    };
    let mut head = LinkHead::default();
    if let Some(wake) = wake {
        let (due, after) = rest.split_first_chunk::<DUE_LENGTH>()?;
        (head.due, rest) = (Some((wake, from_ordered(due)?)), after);
    }
    if flags & HAS_MAPPING != 0 {
        let (mapping, after) = rest.split_first_chunk::<8>()?;
        (head.mapping, rest) = (Some(Fingerprint(u64::from_be_bytes(*mapping))), after);
    }
    if flags & HAS_NAME != 0 {
        let (name, after) = rest.split_first_chunk::<8>()?;
        (head.name, rest) = (Some(*name), after);
    }
    Some((head, rest))
}

pub(super) fn position(at: &TopicPartition) -> Vec<u8> {
    join(Tag::Position, &[&at.partition.to_be_bytes(), at.topic.as_bytes()])
}

/// How far a partition was followed, and when that was last true of a follower at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) offset: Offset,
    pub(super) followed_at: Timestamp,
}

impl Position {
    pub(super) fn to_value(self) -> Vec<u8> {
        [self.offset.to_be_bytes(), self.followed_at.as_second().to_be_bytes()].concat()
    }

    pub(super) fn from_value(value: &[u8]) -> Option<Self> {
        let (offset, seconds) = value.split_first_chunk::<8>()?;
        let seconds = i64::from_be_bytes(seconds.try_into().ok()?);
        Some(Self { offset: u64::from_be_bytes(*offset), followed_at: Timestamp::from_second(seconds).ok()? })
    }
}

pub(super) fn birth(at: &TopicPartition) -> Vec<u8> {
    join(Tag::Birth, &[&at.partition.to_be_bytes(), at.topic.as_bytes()])
}

/// The birth record of a partition: where it is, and the random id that it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Birth {
    pub(super) offset: Offset,
    pub(super) id: Vec<u8>,
}

impl Birth {
    pub(super) fn to_value(&self) -> Vec<u8> {
        [&self.offset.to_be_bytes()[..], &self.id].concat()
    }

    pub(super) fn from_value(value: &[u8]) -> Option<Self> {
        let (offset, id) = value.split_first_chunk::<8>()?;
        Some(Self { offset: u64::from_be_bytes(*offset), id: id.to_vec() })
    }
}

fn join(tag: Tag, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = tag.prefix();
    for part in parts {
        key.extend_from_slice(part);
    }
    key
}

/// The length of the name goes first, so that no CRM's prefix is the beginning of another's.
fn within(tag: Tag, crm: &str, partition: Partition) -> Vec<u8> {
    let length = u32::try_from(crm.len()).expect("a CRM's name is shorter than 4 GiB");
    join(tag, &[&length.to_be_bytes(), crm.as_bytes(), &partition.to_be_bytes()])
}

const DUE_LENGTH: usize = 12;
/// Above the distance of every timestamp from 1970, in nanoseconds (4e20), and below what 12 bytes hold.
const DUE_ORIGIN: i128 = 1 << 94;

/// A time whose bytes compare as the times do, before 1970 too.
fn ordered(due: Timestamp) -> [u8; DUE_LENGTH] {
    let shifted = (due.as_nanosecond() + DUE_ORIGIN).to_be_bytes();
    shifted.last_chunk().copied().expect("16 bytes hold 12")
}

fn from_ordered(bytes: &[u8; DUE_LENGTH]) -> Option<Timestamp> {
    let mut shifted = [0; 16];
    shifted[16 - DUE_LENGTH..].copy_from_slice(bytes);
    Timestamp::from_nanosecond(i128::from_be_bytes(shifted) - DUE_ORIGIN).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_times_order_as_their_bytes_and_read_back() {
        let times = [
            Timestamp::MIN,
            Timestamp::from_nanosecond(-1).unwrap(),
            Timestamp::UNIX_EPOCH,
            Timestamp::from_nanosecond(1).unwrap(),
            Timestamp::from_nanosecond(1_700_000_000_123_456_789).unwrap(),
            Timestamp::MAX,
        ];
        for pair in times.windows(2) {
            assert!(ordered(pair[0]) < ordered(pair[1]), "{} before {}", pair[0], pair[1]);
        }
        for time in times {
            assert_eq!(from_ordered(&ordered(time)), Some(time));
        }
    }

    #[test]
    fn no_prefix_of_a_crm_begins_another_ones_keys() {
        assert!(!links("ab", 0).starts_with(&links("a", 0)));
        assert!(!links("a", 1).starts_with(&links("a", 0)));
    }

    #[test]
    fn a_key_hash_reads_back_from_its_record_key_and_nothing_else_does() {
        let hash = KeyHash([0x0f, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 0xff]);
        assert_eq!(hash_from_record_key(hash.key().as_bytes()), Some(hash));
        for wrong in ["", "0f", "0ff00102030405060708090a0b0c0dfg", "0ff00102030405060708090a0b0c0dff0", "#birth"] {
            assert_eq!(hash_from_record_key(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn positions_births_and_links_read_back() {
        let held = Position { offset: 9, followed_at: Timestamp::from_second(1_700_000_000).unwrap() };
        assert_eq!(Position::from_value(&held.to_value()), Some(held));
        let born = Birth { offset: 3, id: b"id".to_vec() };
        assert_eq!(Birth::from_value(&born.to_value()), Some(born));
        let at = Timestamp::from_second(5).unwrap();
        let (mapping, name) = (Some(Fingerprint(7)), Some(name_hash("con_1")));
        for due in Wake::ALL.map(|wake| Some((wake, at))) {
            for head in [
                LinkHead::default(),
                LinkHead { due, ..LinkHead::default() },
                LinkHead { mapping, ..LinkHead::default() },
                LinkHead { name, ..LinkHead::default() },
                LinkHead { due, mapping, name },
            ] {
                assert_eq!(split_link_value(&link_value(head, b"{}")), Some((head, &b"{}"[..])));
            }
        }
        for unknown in [IS_PARKED | IS_WAITING, 16] {
            assert_eq!(split_link_value(&[&[unknown][..], &[0; 64]].concat()), None, "{unknown}");
        }
        assert_eq!(mapping_at_end(&super::mapping("a", 1, Fingerprint(7))), Some(Fingerprint(7)));
        assert_eq!(split_link_value(b""), None);
    }
}
