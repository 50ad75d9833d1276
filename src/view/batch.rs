//! What records become in the view: one batch of changes, and the removal of a partition.
//!
//! A batch holds the last word about each key, however often a key came, and beside it the births and positions that
//! came with it. It is written whole or not at all. What is indexed or counted of links (who is parked, who has which name in
//! the CRM, how many were written under which mapping) is kept here and nowhere else: it moves in the same batch as the link
//! it belongs to. So all of it is there at a start, and nothing has to be gone through to know it.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound,
    sync::Arc,
};

use bytes::Bytes;
use jiff::Timestamp;
use serde::Deserialize;
use tracing::error;

use super::{
    ViewError, Wake,
    layout::{self, Birth, LinkHead, Position, Tag},
    store::Store,
};
use crate::{
    contact::ContactId,
    crm::{Presence, REMOTE_CONTACT, fingerprint::Fingerprint, naming::EXTERNAL},
    log::{Partition, Record, TopicPartition, partition_of},
};

/// Entries removed from the view in one batch.
const REMOVED_AT_ONCE: usize = 4096;

/// What a topic holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Records,
    Keys,
    State,
    Links { crm: Arc<str> },
}

/// What a batch changes.
#[derive(Default)]
pub(super) struct Changes {
    entries: HashMap<Vec<u8>, Option<Bytes>>,
    links: HashMap<(Arc<str>, Partition, ContactId), Option<Bytes>>,
    births: Vec<(TopicPartition, Birth)>,
    positions: Vec<(TopicPartition, Position)>,
}

impl Changes {
    /// Notes what a record says. A key that is none of ours is passed over: dropping it costs nothing, stopping would.
    pub(super) fn note(&mut self, kind: &Kind, record: Record) {
        let key = record.key.as_deref().unwrap_or_default();
        if key.first() == Some(&b'#') {
            return;
        }
        let known = match kind {
            Kind::State => Some(layout::state(key)),
            Kind::Keys => layout::hash_from_record_key(key).map(layout::key),
            Kind::Records => ContactId::from_key(key).map(layout::record),
            Kind::Links { crm } => {
                if let Some(contact) = ContactId::from_key(key) {
                    self.links.insert((crm.clone(), record.at.partition, contact), record.value);
                    return;
                }
                None
            }
        };
        match known {
            Some(key) => self.entries.extend([(key, record.value)]),
            None => {
                error!(at = %record.at, offset = record.offset, "a record with a key that is none of ours is passed over")
            }
        }
    }

    pub(super) fn note_birth(&mut self, at: TopicPartition, birth: Birth) {
        self.births.push((at, birth));
    }

    pub(super) fn note_position(&mut self, at: TopicPartition, position: Position) {
        self.positions.push((at, position));
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        // Records never come without a position; without one, they are not taken in.
        self.positions.is_empty() && self.births.is_empty()
    }

    /// Writes all of it at once, and returns the positions that are now true.
    pub(super) fn write(self, store: &Store) -> Result<Vec<(TopicPartition, Position)>, ViewError> {
        let mut batch = sled::Batch::default();
        for (key, value) in self.entries {
            match value {
                Some(value) => batch.insert(key, value.as_ref()),
                None => batch.remove(key),
            }
        }
        let mut counts: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
        for ((crm, partition, contact), json) in self.links {
            let key = layout::link(&crm, partition, contact);
            let held = store.get(&key)?;
            let before = held.as_deref().and_then(layout::split_link_value).map(|(head, _)| head).unwrap_or_default();
            let head = json.as_deref().map(head_of_link).unwrap_or_default();
            if let Some((wake, due)) = before.due.filter(|_| head.due != before.due) {
                batch.remove(layout::due(wake, &crm, partition, due, contact));
            }
            if let Some((wake, due)) = head.due {
                batch.insert(layout::due(wake, &crm, partition, due, contact), &[]);
            }
            if before.name != head.name {
                before.name.into_iter().for_each(|name| batch.remove(layout::name(&crm, partition, name, contact)));
                head.name.into_iter().for_each(|name| batch.insert(layout::name(&crm, partition, name, contact), &[]));
            }
            if before.mapping != head.mapping {
                for (mapping, change) in [(before.mapping, -1), (head.mapping, 1)] {
                    let count = mapping.map(|mapping| counts.entry(layout::mapping(&crm, partition, mapping)));
                    count.into_iter().for_each(|count| *count.or_default() += change);
                }
            }
            match json {
                Some(json) => batch.insert(key, layout::link_value(head, &json)),
                None => batch.remove(key),
            }
        }
        for (key, change) in counts.into_iter().filter(|(_, change)| *change != 0) {
            let before = store.get(&key)?.as_deref().map_or(0, count_of);
            match before.saturating_add_signed(change) {
                0 => batch.remove(key),
                count => batch.insert(key, &count.to_be_bytes()),
            }
        }
        for (at, birth) in self.births {
            batch.insert(layout::birth(&at), birth.to_value());
        }
        for (at, position) in &self.positions {
            batch.insert(layout::position(at), position.to_value());
        }
        store.apply(batch)?;
        Ok(self.positions)
    }
}

/// A count, as it is kept.
pub(super) fn count_of(value: &[u8]) -> u64 {
    value.try_into().map_or(0, u64::from_be_bytes)
}

/// What is indexed and counted of a link. Of one that cannot be read, nothing; whoever reads it is told why.
fn head_of_link(json: &[u8]) -> LinkHead {
    #[derive(Deserialize)]
    struct Link {
        #[serde(default)]
        open: Option<Open>,
        #[serde(default)]
        waiting: Option<Waiting>,
        #[serde(default)]
        remote_ids: BTreeMap<String, String>,
        #[serde(default)]
        presence: Option<Presence>,
        #[serde(default)]
        mapping: Option<Fingerprint>,
    }
    #[derive(Deserialize)]
    struct Waiting {
        next_look: Timestamp,
    }
    #[derive(Deserialize)]
    struct Open {
        next_attempt: Timestamp,
    }
    let Ok(Link { open, waiting, remote_ids, presence, mapping }) = serde_json::from_slice(json) else {
        error!("a link cannot be read, and would not be woken if it is parked");
        return LinkHead::default();
    };
    let name = remote_ids.get(EXTERNAL).or_else(|| remote_ids.get(REMOTE_CONTACT));
    let is_there = matches!(presence, Some(Presence::Active | Presence::Inactive));
    // What is parked comes before what waits for others.
    let parked = open.map(|open| (Wake::Parked, open.next_attempt));
    LinkHead {
        due: parked.or_else(|| waiting.map(|waiting| (Wake::Waiting, waiting.next_look))),
        mapping: is_there.then(|| mapping.unwrap_or_default()),
        name: name.map(|name| layout::name_hash(name)),
    }
}

/// Removes what the view holds of a partition. Its position goes last: until then, the next start finds the same
/// reason again and finishes the work.
pub(super) fn remove_partition(
    store: &Store,
    at: &TopicPartition,
    kind: &Kind,
    partitions: u32,
    birth_too: bool,
) -> Result<(), ViewError> {
    let belongs = |record_key: String| partition_of(record_key.as_bytes(), partitions) == at.partition;
    let meant = |key: &[u8]| match kind {
        Kind::Records => layout::contact_at_end(key).is_some_and(|contact| belongs(contact.key())),
        Kind::Keys => layout::hash_at_end(key).is_some_and(|hash| belongs(hash.key())),
        Kind::State | Kind::Links { .. } => true,
    };
    let prefixes = match kind {
        Kind::Records => vec![Tag::Record.prefix()],
        Kind::Keys => vec![Tag::Key.prefix()],
        Kind::State => vec![Tag::State.prefix()],
        Kind::Links { crm } => {
            let [parked, waiting] = Wake::ALL.map(|wake| layout::due_index(wake, crm, at.partition));
            let (names, mappings) = (layout::name_index(crm, at.partition), layout::mappings(crm, at.partition));
            vec![layout::links(crm, at.partition), parked, waiting, names, mappings]
        }
    };
    for prefix in prefixes {
        remove_all(store, &prefix, meant)?;
    }
    let mut batch = sled::Batch::default();
    batch.remove(layout::position(at));
    if birth_too {
        batch.remove(layout::birth(at));
    }
    store.apply(batch)
}

/// Removes every entry whose key begins with `prefix` and is `meant`.
fn remove_all(store: &Store, prefix: &[u8], meant: impl Fn(&[u8]) -> bool) -> Result<(), ViewError> {
    let mut from = Bound::Included(prefix.to_vec());
    loop {
        let keys: Vec<_> = store.guard("reading", |tree| {
            tree.range((from.clone(), Bound::Unbounded))
                .keys()
                .take_while(|key| key.as_ref().map_or(true, |key| key.starts_with(prefix)))
                .filter(|key| key.as_ref().map_or(true, |key| meant(key)))
                .take(REMOVED_AT_ONCE)
                .collect()
        })?;
        let Some(last) = keys.last() else {
            return Ok(());
        };
        from = Bound::Excluded(last.to_vec());
        let mut batch = sled::Batch::default();
        keys.into_iter().for_each(|key| batch.remove(key));
        store.apply(batch)?;
    }
}
