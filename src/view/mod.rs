//! The view: a local, disposable copy of what the log says, in sled.
//!
//! Whoever decides needs to look up a record, a key or a link in microseconds, and the log can only be read in order.
//! So every worker keeps the newest value of each key of the compacted topics on its disk.
//!
//! The view is never the truth. Only the [`follower`] writes it; it applies committed records and the positions it
//! reached in one batch, so that a view is at any moment the exact state of some past moment of each partition.
//! Nothing is decided from it without asking how far it has come: [`View::reached`] waits for a point of the log, and
//! [`overlay`] bridges what is decided but not yet seen back. Its folder may be removed at any moment that no worker
//! runs; the `store` removes it by itself when it cannot be trusted.
//!
//! Values are kept as the log's bytes and decoded when they are read: a value in a newer format than this program
//! knows is an error of whoever reads it, not of the worker that only passes it by.
//!
//! This folder and `log::local` are the only places that name sled.

mod batch;
pub mod follower;
mod layout;
pub mod overlay;
mod sameness;
mod store;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use tokio::sync::{mpsc, oneshot, watch};

use self::{
    layout::Tag,
    store::{Fit, Store},
};
use crate::{
    clock::Clock,
    config::{TopicSettings, ViewSettings},
    contact::{
        ContactId, ContactRecord, Document, Version,
        format::encode,
        record::{FORMAT, Status},
    },
    crm::{fingerprint::Fingerprint, link::Link},
    event::EventRef,
    identity::keys::{KeyEntry, KeyHash},
    log::{LogError, Offset, Partition, TopicPartition, partition_of},
    metrics::Metrics,
    privacy::hex,
};

/// The layout of the view. A folder with another one is removed, and filled anew from the log.
pub const FORMAT_OF_VIEW: u32 = layout::LAYOUT;
/// Contacts of one name that are looked at: more than one are too many already.
const NAMESAKES_MAX: usize = 16;

/// Why a contact is looked at again without a word from the work list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// It is parked.
    Parked,
    /// It names another contact, which was not there.
    Waiting,
}

impl Wake {
    pub const ALL: [Self; 2] = [Self::Parked, Self::Waiting];
}

/// Reads the view. Cheap to clone; only the follower writes.
#[derive(Clone)]
pub struct View {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    /// Partition count of the topics keyed by contact.
    partitions: u32,
    progress: watch::Sender<Progress>,
}

/// What readers may wait for.
#[derive(Debug, Default)]
struct Progress {
    /// Of the partitions that are followed now.
    positions: BTreeMap<TopicPartition, Offset>,
    /// The follower has ended, for whatever reason.
    ended: bool,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("View")
    }
}

impl View {
    /// Opens the view in the folder `view` under `data`, the folder of this worker, which stays locked until the last
    /// clone is gone. A view that cannot be trusted is removed and begun anew. Blocks while sled recovers.
    ///
    /// # Errors
    /// [`ViewError::InUse`] when another process holds the folder; [`ViewError::Disk`] when the disk is at fault, not
    /// what it holds.
    pub fn open(
        data: &Path,
        settings: &ViewSettings,
        topics: &TopicSettings,
        clock: Clock,
        metrics: &Metrics,
    ) -> Result<Self, ViewError> {
        let fit = Fit { partitions: topics.partitions, now: clock.now(), away_max: topics.tombstones_retention / 2 };
        let (store, rebuilt) = Store::open(data, settings.cache_bytes, fit)?;
        if rebuilt {
            metrics.view_rebuilt();
        }
        let progress = watch::Sender::new(Progress::default());
        Ok(Self { shared: Arc::new(Shared { store, partitions: topics.partitions, progress }) })
    }

    pub fn record(&self, contact: ContactId) -> Result<Option<ContactRecord>, ViewError> {
        self.read(&layout::record(contact), "record")
    }

    /// The record of `contact` as a delivery needs it: without its members and what each is the source of, which are the
    /// larger part of it and the costlier one to read.
    pub fn record_to_deliver(&self, contact: ContactId) -> Result<Option<ContactRecord>, ViewError> {
        Ok(self.read::<RecordToDeliver>(&layout::record(contact), "record")?.map(ContactRecord::from))
    }

    /// The version of the record of `contact`, without the cost of the whole record.
    pub fn record_version(&self, contact: ContactId) -> Result<Option<Version>, ViewError> {
        let Some(value) = self.shared.store.get(&layout::record(contact))? else {
            return Ok(None);
        };
        match leading_version(&value) {
            Some(version) => Ok(Some(version)),
            None => decode::<RecordVersion>(&value, "record").map(|record| Some(record.version)),
        }
    }

    /// Whether the view holds exactly these bytes as the record of `contact`.
    pub fn holds_record(&self, contact: ContactId, value: &[u8]) -> Result<bool, ViewError> {
        self.holds(&layout::record(contact), value)
    }

    /// Ids of all contacts that have a record, in the order of their ids: those after `after`, at most `limit`.
    pub fn contacts(&self, after: Option<ContactId>, limit: usize) -> Result<Vec<ContactId>, ViewError> {
        let prefix = Tag::Record.prefix();
        let keys = self.keys(&prefix, after.map(layout::record), limit)?;
        keys.iter().map(|key| layout::contact_at_end(key).ok_or_else(|| self.broken("record"))).collect()
    }

    pub fn key(&self, key: KeyHash) -> Result<Option<KeyEntry>, ViewError> {
        self.read(&layout::key(key), "key")
    }

    /// Whether the view holds exactly these bytes as the entry of `key`.
    pub fn holds_key(&self, key: KeyHash, value: &[u8]) -> Result<bool, ViewError> {
        self.holds(&layout::key(key), value)
    }

    /// A value of `contact-resolver` by its record key.
    pub fn resolver_state(&self, key: &str) -> Result<Option<Bytes>, ViewError> {
        let value = self.shared.store.get(&layout::state(key.as_bytes()))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// All of `contact-resolver` whose record keys begin with `prefix`.
    pub fn resolver_states(&self, prefix: &str) -> Result<Vec<(String, Bytes)>, ViewError> {
        let prefix = layout::state(prefix.as_bytes());
        let found: Vec<_> = self.shared.store.guard("reading", |tree| tree.scan_prefix(&prefix).collect())?;
        let text = |key: sled::IVec| key.get(1..).and_then(|text| String::from_utf8(text.to_vec()).ok());
        found
            .into_iter()
            .map(|(key, value)| Ok((text(key).ok_or_else(|| self.broken("state"))?, Bytes::copy_from_slice(&value))))
            .collect()
    }

    /// The link of a contact, as far as the partition it belongs to has been followed. Of a partition that this worker
    /// does not follow (any more) it may be old or absent.
    pub fn link(&self, crm: &str, contact: ContactId) -> Result<Option<Link>, ViewError> {
        let Some(value) = self.shared.store.get(&layout::link(crm, self.partition(contact), contact))? else {
            return Ok(None);
        };
        let (_, json) = layout::split_link_value(&value).ok_or_else(|| self.broken("link"))?;
        decode(json, "link").map(Some)
    }

    /// Whether the view holds exactly this link.
    pub fn holds_link(&self, crm: &str, link: &Link) -> Result<bool, ViewError> {
        let contact = link.contact_id;
        let Some(value) = self.shared.store.get(&layout::link(crm, self.partition(contact), contact))? else {
            return Ok(false);
        };
        let (_, json) = layout::split_link_value(&value).ok_or_else(|| self.broken("link"))?;
        // Equal bytes are the rule, and cost no reading; another release may have written the same link otherwise.
        Ok(*json == *encode(link) || decode::<Link>(json, "link")? == *link)
    }

    /// Whether the view holds exactly these bytes as the link of `contact`.
    pub fn holds_link_as_written(&self, crm: &str, contact: ContactId, link: &[u8]) -> Result<bool, ViewError> {
        let Some(value) = self.shared.store.get(&layout::link(crm, self.partition(contact), contact))? else {
            return Ok(false);
        };
        let (_, held) = layout::split_link_value(&value).ok_or_else(|| self.broken("link"))?;
        Ok(held == link)
    }

    /// Contacts of a partition of a CRM that are to be looked at again, the next due first: due after `after` (exclusive; `None`: from the
    /// start), at most `limit`.
    pub fn due(
        &self,
        wake: Wake,
        crm: &str,
        partition: Partition,
        after: Option<(Timestamp, ContactId)>,
        limit: usize,
    ) -> Result<Vec<(Timestamp, ContactId)>, ViewError> {
        let after = after.map(|(due, contact)| layout::due(wake, crm, partition, due, contact));
        let keys = self.keys(&layout::due_index(wake, crm, partition), after, limit)?;
        keys.iter().map(|key| layout::due_entry(key).ok_or_else(|| self.broken("index"))).collect()
    }

    /// How many contacts of a partition of a CRM are to be looked at again. Blocks for as long as it takes to walk over them all.
    pub fn due_count(&self, wake: Wake, crm: &str, partition: Partition) -> Result<usize, ViewError> {
        let prefix = layout::due_index(wake, crm, partition);
        self.shared
            .store
            .guard("reading", |tree| tree.scan_prefix(&prefix).keys().try_fold(0, |count, key| key.map(|_| count + 1)))
    }

    /// How many links of a partition of a CRM say that the CRM holds the contact as another mapping than `mapping` made it.
    pub fn links_of_other_mappings(
        &self,
        crm: &str,
        partition: Partition,
        mapping: Fingerprint,
    ) -> Result<u64, ViewError> {
        let prefix = layout::mappings(crm, partition);
        self.shared.store.guard("reading", |tree| {
            tree.scan_prefix(&prefix).try_fold(0, |sum: u64, entry| {
                let (key, count) = entry?;
                let is_other = layout::mapping_at_end(&key) != Some(mapping);
                Ok(if is_other { sum.saturating_add(batch::count_of(&count)) } else { sum })
            })
        })
    }

    /// The contacts of a partition of a CRM that may be called `name` there, as far as the partition has been followed; their
    /// links tell.
    pub fn contacts_named(&self, crm: &str, partition: Partition, name: &str) -> Result<Vec<ContactId>, ViewError> {
        let prefix = layout::names(crm, partition, layout::name_hash(name));
        let keys = self.keys(&prefix, None, NAMESAKES_MAX)?;
        keys.iter().map(|key| layout::contact_at_end(key).ok_or_else(|| self.broken("index"))).collect()
    }

    /// Whether the birth record of a partition of `topic` has been seen.
    pub fn knows_birth(&self, topic: &str) -> Result<bool, ViewError> {
        let known = |partition| self.shared.store.birth(&TopicPartition::new(topic, partition));
        (0..self.shared.partitions).map(known).try_fold(false, |any, birth| Ok(any || birth?.is_some()))
    }

    /// The partition that `contact` belongs to, in every topic keyed by contact.
    pub fn partition(&self, contact: ContactId) -> Partition {
        partition_of(contact.key().as_bytes(), self.shared.partitions)
    }

    /// How far the view has followed a partition; `None` when it does not follow it.
    pub fn position(&self, at: &TopicPartition) -> Option<Offset> {
        self.shared.progress.borrow().positions.get(at).copied()
    }

    /// Waits until the view holds everything of `at` below `offset`. Cancel-safe.
    ///
    /// A partition that is not followed yet is waited for too.
    ///
    /// # Errors
    /// [`ViewError::Stopped`] when the follower ended before it came so far.
    pub async fn reached(&self, at: &TopicPartition, offset: Offset) -> Result<(), ViewError> {
        let there = |progress: &Progress| progress.positions.get(at).is_some_and(|position| *position >= offset);
        let mut progress = self.shared.progress.subscribe();
        let seen = progress.wait_for(|progress| progress.ended || there(progress)).await;
        match seen {
            Ok(progress) if there(&progress) => Ok(()),
            Ok(_) | Err(_) => Err(ViewError::Stopped),
        }
    }

    /// Tells of every batch that the follower applies from now on.
    pub fn changes(&self) -> Changes {
        Changes(self.shared.progress.subscribe())
    }

    /// Bytes of its files. Looks at each of them.
    pub fn bytes_on_disk(&self) -> Result<u64, ViewError> {
        self.shared.store.bytes_on_disk()
    }

    /// A hash over everything that the log said. Two views that followed the same partitions to the same point have
    /// the same one, whatever way they came: positions, times and what was deleted leave no trace in it.
    pub fn digest(&self) -> Result<String, ViewError> {
        self.shared.store.guard("reading", |tree| {
            let mut hash = Sha256::new();
            for entry in Tag::DATA.iter().flat_map(|tag| tree.scan_prefix(tag.prefix())) {
                let (key, value) = entry?;
                for part in [key, value] {
                    hash.update((part.len() as u64).to_be_bytes());
                    hash.update(part);
                }
            }
            Ok(hex(&hash.finalize()))
        })
    }

    fn read<T: DeserializeOwned + Formatted>(&self, key: &[u8], what: &'static str) -> Result<Option<T>, ViewError> {
        self.shared.store.get(key)?.map(|value| decode(&value, what)).transpose()
    }

    fn holds(&self, key: &[u8], value: &[u8]) -> Result<bool, ViewError> {
        Ok(self.shared.store.get(key)?.is_some_and(|held| *held == *value))
    }

    /// Keys that begin with `prefix`, in order: those after `after`, at most `limit`.
    fn keys(&self, prefix: &[u8], after: Option<Vec<u8>>, limit: usize) -> Result<Vec<sled::IVec>, ViewError> {
        let start = after.map_or_else(|| Bound::Included(prefix.to_vec()), Bound::Excluded);
        self.shared.store.guard("reading", |tree| {
            tree.range((start, Bound::Unbounded))
                .keys()
                .take_while(|key| key.as_ref().map_or(true, |key| key.starts_with(prefix)))
                .take(limit)
                .collect()
        })
    }

    /// An entry that this program cannot have written.
    fn broken(&self, what: &'static str) -> ViewError {
        self.shared.store.remember_damage();
        ViewError::Disk { reason: format!("an entry of the view ({what}) is broken; the next start rebuilds the view") }
    }
}

/// See [`View::changes`].
#[derive(Debug)]
pub struct Changes(watch::Receiver<Progress>);

impl Changes {
    /// Waits for the next batch; several may be told as one. Cancel-safe.
    ///
    /// # Errors
    /// [`ViewError::Stopped`] when there will be no more.
    pub async fn changed(&mut self) -> Result<(), ViewError> {
        self.0.changed().await.map_err(|_closed| ViewError::Stopped)?;
        if self.0.borrow_and_update().ended { Err(ViewError::Stopped) } else { Ok(()) }
    }
}

/// The part of a record that tells how new it is.
#[derive(Deserialize)]
struct RecordVersion {
    version: Version,
    format: u32,
}

impl Formatted for RecordVersion {
    fn format(&self) -> u32 {
        self.format
    }
}

/// The part of a record that a CRM is to hold.
#[derive(Deserialize)]
struct RecordToDeliver {
    contact_id: ContactId,
    version: Version,
    status: Status,
    #[serde(default)]
    merged_into: Option<ContactId>,
    #[serde(default)]
    contact: Option<Document>,
    #[serde(default)]
    event: Option<EventRef>,
    received_at: Timestamp,
    epoch: u64,
    format: u32,
}

impl From<RecordToDeliver> for ContactRecord {
    fn from(record: RecordToDeliver) -> Self {
        let RecordToDeliver { contact_id, version, status, merged_into, contact, event, received_at, epoch, format } =
            record;
        let (provenance, members) = (BTreeMap::new(), Vec::new());
        Self {
            contact_id,
            version,
            status,
            merged_into,
            contact,
            provenance,
            members,
            event,
            received_at,
            epoch,
            format,
        }
    }
}

impl Formatted for RecordToDeliver {
    fn format(&self) -> u32 {
        self.format
    }
}

/// The version of a record as this program writes it, which is with the id and the version in front. Whether a delivery
/// may begin is asked for every entry, and a whole record is long; one in another form is read the long way.
fn leading_version(json: &[u8]) -> Option<Version> {
    const ID_LENGTH: usize = uuid::fmt::Hyphenated::LENGTH;
    let after_id = json.strip_prefix(br#"{"contact_id":""#)?.get(ID_LENGTH..)?;
    let rest = after_id.strip_prefix(br#"","version":"#)?;
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = rest.split_at_checked(digits)?;
    if rest.first() != Some(&b',') {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Values that say which layout they have.
trait Formatted {
    fn format(&self) -> u32;
}

impl Formatted for ContactRecord {
    fn format(&self) -> u32 {
        self.format
    }
}

impl Formatted for KeyEntry {
    fn format(&self) -> u32 {
        self.format
    }
}

impl Formatted for Link {
    fn format(&self) -> u32 {
        self.format
    }
}

/// Reads a value of one of our own topics, or says that it is newer than this program.
fn decode<T: DeserializeOwned + Formatted>(json: &[u8], what: &'static str) -> Result<T, ViewError> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let known = |found: u32| {
        if found > FORMAT { Err(ViewError::Newer { what, found }) } else { Ok(()) }
    };
    match serde_json::from_slice::<T>(json) {
        Ok(value) => known(value.format()).map(|()| value),
        Err(error) => {
            if let Ok(Format { format }) = serde_json::from_slice(json) {
                known(format)?;
            }
            // The message of serde_json may quote the value: only the place is told.
            Err(ViewError::Unreadable { what, line: error.line(), column: error.column() })
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    #[error("the view's disk failed: {reason}")]
    Disk { reason: String },
    #[error("the follower has stopped")]
    Stopped,
    /// Two workers with one folder would be one worker to Kafka, and spoil each other's view.
    #[error("another worker uses {}; give each worker a folder of its own (worker.data)", folder.display())]
    InUse { folder: PathBuf },
    #[error("a {what} has format {found}, this program knows formats up to {FORMAT}: use the newer program")]
    Newer { what: &'static str, found: u32 },
    #[error("a {what} cannot be read (line {line}, column {column})")]
    Unreadable { what: &'static str, line: usize, column: usize },
    /// A topic of ours is no longer the one that was followed. Going on as if nothing had happened would mean to
    /// create every contact anew; only an operator can say that this is meant.
    #[error(
        "topic {topic} is not the one that this worker followed: {finding}; if that is intended, run it with --accept-topic {topic}"
    )]
    Replaced { topic: Arc<str>, finding: String },
    /// Cut off from the log while running, for so long that deletions may have come and gone unseen.
    #[error("{at} could not be followed for so long that deletions may have been missed; the next start reads it anew")]
    CutOff { at: TopicPartition },
    #[error("following the log")]
    Log(#[from] LogError),
}

/// Asks the follower to follow, or no longer to follow, the links of partitions that this worker owns.
#[derive(Debug, Clone)]
pub struct Following {
    commands: mpsc::Sender<Command>,
}

/// A request to the follower; `done` is told when it is so.
#[derive(Debug)]
enum Command {
    Start { crm: Arc<str>, partition: Partition, done: oneshot::Sender<()> },
    Stop { crm: Arc<str>, partition: Partition, done: oneshot::Sender<()> },
}

impl Following {
    /// Follows `contact-links.<crm>[partition]` until [`Following::stop`]. Returns when the follower has begun, which
    /// is also when the topic is known to be the one that was followed before. Starting twice is starting once.
    ///
    /// # Errors
    /// [`ViewError::Stopped`] when the follower has ended, or the partition was stopped meanwhile.
    pub async fn start(&self, crm: &str, partition: Partition) -> Result<(), ViewError> {
        self.ask(|done| Command::Start { crm: Arc::from(crm), partition, done }).await
    }

    /// Stops following; what the view holds of the partition stays, so that a later start need only read on.
    ///
    /// # Errors
    /// [`ViewError::Stopped`] when the follower has ended.
    pub async fn stop(&self, crm: &str, partition: Partition) -> Result<(), ViewError> {
        self.ask(|done| Command::Stop { crm: Arc::from(crm), partition, done }).await
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) -> Result<(), ViewError> {
        let (done, answer) = oneshot::channel();
        self.commands.send(command(done)).await.map_err(|_ended| ViewError::Stopped)?;
        answer.await.map_err(|_ended| ViewError::Stopped)
    }
}

#[cfg(test)]
mod leading_version_tests {
    use super::*;

    #[test]
    fn the_version_in_front_is_read_and_any_other_form_is_left_to_the_long_way() {
        let id = "00000000-0000-8000-8000-000000000001";
        let ours = format!(r#"{{"contact_id":"{id}","version":12,"status":"live"}}"#);
        assert_eq!(leading_version(ours.as_bytes()), Some(12));
        for other in [
            format!(r#"{{"version":12,"contact_id":"{id}"}}"#),
            format!(r#"{{"contact_id":"{id}","version":12.5,"status":"live"}}"#),
            format!(r#"{{"contact_id":"{id}","version":-1,"status":"live"}}"#),
            format!(r#"{{"contact_id":"{id}","version":12"#),
            r#"{"contact_id":"short","version":1,"#.to_owned(),
            r#"{"contact_id":""#.to_owned(),
            String::new(),
        ] {
            assert_eq!(leading_version(other.as_bytes()), None, "{other}");
        }
    }
}
