//! The folder of a log: a list of segments, the last of which takes what is written.
//!
//! sled gives hardly any space back, so nothing is ever deleted from a segment. The *head* takes every commit, as one
//! batch. At times a new head takes its place, and begins with everything that is not a record (topics, ends, offsets,
//! epochs), so that the head alone says how things stand. What older segments hold that must be kept is then written
//! into one new segment, which replaces them, and their folders go.
//!
//! Which segments count is said by the *manifest*, a small file that is renamed into place. A folder that it does not
//! name is an unfinished or a replaced one and is removed at the next start; so a process may be killed anywhere.
//! A folder that it names and that is not there, or cannot be read, is damage: then nothing is touched.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use super::{
    layout::{self, StoredRecord},
    segment::{Fault, Segment},
};
use crate::log::{
    Offset, Watermarks,
    local::{
        group::GroupState,
        memory::{PartitionChange, Place, Read, TopicState, Wanted},
        transactions::Epoch,
    },
};

const LOCK: &str = "lock";
const MANIFEST: &str = "manifest.json";
const MANIFEST_NEXT: &str = "manifest.json.next";
/// Records looked at in one go.
pub(super) const CHUNK: usize = 256;

/// Which segments count.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    layout: u32,
    /// Older ones, then the head.
    segments: Vec<u64>,
    /// The folder was never used: whatever stands in it was left by a start that did not get far.
    new: bool,
}

/// Everything that one batch writes.
#[derive(Debug, Default)]
pub(in crate::log::local) struct Changes {
    pub(in crate::log::local) topics: Vec<TopicState>,
    pub(in crate::log::local) partitions: Vec<PartitionChange>,
    pub(in crate::log::local) groups: Vec<GroupState>,
    pub(in crate::log::local) epochs: Vec<(String, Epoch)>,
}

/// What a log was when it was last written.
#[derive(Default)]
pub(in crate::log::local) struct Found {
    pub(in crate::log::local) topics: Vec<(TopicState, Vec<Watermarks>)>,
    pub(in crate::log::local) groups: Vec<GroupState>,
    pub(in crate::log::local) epochs: Vec<(String, Epoch)>,
}

/// The segments at one moment, the head last.
pub(super) type Segments = Arc<Vec<Arc<Segment>>>;

pub(super) struct Storage {
    folder: PathBuf,
    cache_bytes: u64,
    segments: RwLock<Segments>,
    /// Held while the list is changed, on disk and here; the number is that of the next segment.
    next: Mutex<u64>,
    // Dropped last: whoever gets the lock finds sled closed.
    _lock: File,
}

impl Storage {
    pub(super) fn open(folder: &Path, cache_bytes: u64) -> Result<(Self, Found), Fault> {
        create_private(folder)?;
        let lock = acquire(folder)?;
        let manifest = match read_manifest(folder)? {
            Some(manifest) if !manifest.new => manifest,
            Some(_new) => begin(folder, cache_bytes)?,
            None if segment_folders(folder)?.is_empty() => begin(folder, cache_bytes)?,
            None => return Err(Fault::damaged(folder, "its manifest is missing")),
        };
        if manifest.layout != layout::LAYOUT {
            return Err(Fault::damaged(folder, "its layout is one of another version of this program"));
        }
        let mut segments = Vec::new();
        for &number in &manifest.segments {
            let at = segment_folder(folder, number);
            if !at.is_dir() {
                return Err(Fault::damaged(folder, format!("the part {number} is missing")));
            }
            let segment = Segment::open(at, number, cache_of(cache_bytes))?;
            segment.verify()?;
            segments.push(Arc::new(segment));
        }
        let Some(head) = segments.last().cloned() else {
            return Err(Fault::damaged(folder, "its manifest names nothing"));
        };
        let found = found(&head)?;
        let places = |(topic, ends): &(TopicState, Vec<Watermarks>)| {
            let topic = topic.number;
            (0..ends.len() as u32).map(move |partition| Place { topic, partition })
        };
        for segment in &segments {
            segment.find_spans(found.topics.iter().flat_map(places))?;
        }
        for (number, at) in segment_folders(folder)? {
            if !manifest.segments.contains(&number) {
                fs::remove_dir_all(&at).map_err(Fault::failed(&at, "removing what was left unfinished"))?;
            }
        }
        // A compacted segment is younger than the head, and stands before it.
        let last = manifest.segments.iter().copied().max().unwrap_or(head.number);
        let next = Mutex::new(last + 1);
        let segments = RwLock::new(Arc::new(segments));
        Ok((Self { folder: folder.to_owned(), cache_bytes, segments, next, _lock: lock }, found))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn segments(&self) -> Segments {
        Arc::clone(&self.segments.read())
    }

    fn head(&self) -> Arc<Segment> {
        Arc::clone(self.segments.read().last().expect("there is always a head"))
    }

    /// Writes `changes`, all or none, and answers once a killed process could not undo that. How many bytes they are.
    pub(super) fn write(&self, changes: Changes) -> Result<u64, Fault> {
        write_to(&self.head(), changes)
    }

    /// Puts a new head in the place of the old one; `changes` are all that is to be said besides records.
    pub(super) fn rotate(&self, changes: Changes) -> Result<u64, Fault> {
        let head = self.new_segment()?;
        let bytes = write_to(&head, changes)?;
        self.change_list(|segments| segments.push(Arc::new(head)))?;
        Ok(bytes)
    }

    /// A segment that does not count yet.
    pub(super) fn new_segment(&self) -> Result<Segment, Fault> {
        let number = {
            let mut next = self.next.lock();
            *next += 1;
            *next - 1
        };
        Segment::create(segment_folder(&self.folder, number), number, cache_of(self.cache_bytes))
    }

    /// Puts `merged` in the place of `old`, which are the oldest.
    pub(super) fn replace(&self, old: &[Arc<Segment>], merged: Segment) -> Result<(), Fault> {
        merged.flush()?;
        self.change_list(|segments| {
            segments.drain(..old.len());
            segments.insert(0, Arc::new(merged));
        })?;
        old.iter().for_each(|segment| segment.replace());
        Ok(())
    }

    fn change_list(&self, change: impl FnOnce(&mut Vec<Arc<Segment>>)) -> Result<(), Fault> {
        let _one_at_a_time = self.next.lock();
        let mut segments = self.segments().to_vec();
        change(&mut segments);
        let numbers = segments.iter().map(|segment| segment.number).collect();
        write_manifest(&self.folder, &Manifest { layout: layout::LAYOUT, segments: numbers, new: false })?;
        *self.segments.write() = Arc::new(segments);
        Ok(())
    }

    /// Reads at most `records_max` records of all of `wanted`, in its order.
    pub(super) fn read(&self, wanted: Vec<Wanted>, records_max: usize) -> Result<Vec<(Wanted, Read)>, Fault> {
        let segments = self.segments();
        let mut read = Vec::new();
        let mut room = records_max;
        for wanted in wanted {
            if room == 0 {
                break;
            }
            let mut found = Vec::new();
            for segment in segments.iter() {
                // One more than is asked for, to know where the next begins.
                let records = segment.records(wanted.place, wanted.position, wanted.end, room + 1)?;
                found.extend(records.into_iter().map(|(offset, value)| (offset, value, segment)));
            }
            // A transaction that was open for long may stand in a later segment with earlier numbers.
            found.sort_by_key(|(offset, ..)| *offset);
            let position = found.get(room).map_or(wanted.end, |(offset, ..)| *offset);
            found.truncate(room);
            room -= found.len();
            let record = |(offset, value, segment): (Offset, sled::IVec, &Arc<Segment>)| {
                let stored = StoredRecord::from_bytes(&value).ok_or_else(|| segment.damaged("a record is broken"))?;
                Ok(stored.at(&wanted.at, offset))
            };
            let records = found.into_iter().map(record).collect::<Result<_, Fault>>()?;
            read.push((wanted, Read { records, position }));
        }
        Ok(read)
    }

    /// The first record of `wanted` that bears `time` or a later one; its end if there is none.
    pub(super) fn offset_at(&self, mut wanted: Wanted, time: Timestamp) -> Result<Offset, Fault> {
        while wanted.position < wanted.end {
            let read = self.read(vec![wanted.clone()], CHUNK)?;
            for (_, Read { records, position }) in read {
                if let Some(record) = records.iter().find(|record| record.timestamp >= time) {
                    return Ok(record.offset);
                }
                wanted.position = position;
            }
        }
        Ok(wanted.end)
    }

    /// One past the last record of `wanted` before the first that bears `oldest` or a later time; its beginning if that
    /// is the first of all.
    pub(super) fn expired_end(&self, mut wanted: Wanted, oldest: Timestamp) -> Result<Offset, Fault> {
        let mut end = wanted.position;
        while wanted.position < wanted.end {
            for (_, Read { records, position }) in self.read(vec![wanted.clone()], CHUNK)? {
                for record in records {
                    if record.timestamp >= oldest {
                        return Ok(end);
                    }
                    end = record.offset + 1;
                }
                wanted.position = position;
            }
        }
        Ok(end)
    }

    pub(super) fn bytes_on_disk(&self) -> Result<u64, Fault> {
        self.segments().iter().map(|segment| segment.bytes_on_disk()).sum()
    }

    /// Bytes of the oldest segment, which holds what was last kept; 0 if nothing was.
    pub(super) fn base_bytes(&self) -> Result<u64, Fault> {
        let segments = self.segments();
        if segments.len() < 2 { Ok(0) } else { segments.first().map_or(Ok(0), |base| base.bytes_on_disk()) }
    }
}

/// sled's smallest cache, and a share for each of the two or three segments that are open.
fn cache_of(cache_bytes: u64) -> u64 {
    cache_bytes / 3
}

fn write_to(head: &Segment, changes: Changes) -> Result<u64, Fault> {
    let mut batch = sled::Batch::default();
    let mut bytes = 0;
    let mut put = |(key, value): layout::Entry| {
        bytes += (key.len() + value.len()) as u64;
        batch.insert(key, value);
    };
    changes.topics.iter().map(layout::topic).for_each(&mut put);
    changes.groups.iter().flat_map(layout::group).for_each(&mut put);
    changes.epochs.iter().map(|(id, epoch)| layout::epoch(id, *epoch)).for_each(&mut put);
    for PartitionChange { place, ends, records } in changes.partitions {
        put(layout::ends(place, ends));
        let offsets = || records.iter().map(|record| record.offset);
        if let (Some(first), Some(last)) = (offsets().min(), offsets().max()) {
            // Before they are there: nobody reads them before they are said to be written.
            head.widen(place, first, last);
        }
        for record in records {
            let key = layout::record_key(place, record.offset);
            put((key, StoredRecord::of(record).to_bytes()));
        }
    }
    head.apply(batch)?;
    head.flush()?;
    Ok(bytes)
}

fn found(head: &Segment) -> Result<Found, Fault> {
    let mut topics = Vec::new();
    for topic in head.all(layout::TOPIC, layout::read_topic)? {
        let mut ends = Vec::new();
        for partition in 0..topic.spec.partitions {
            let key = layout::ends_key(Place { topic: topic.number, partition });
            let value = head.get(&key)?;
            let read = value.and_then(|value| layout::read_ends(&value));
            ends.push(read.ok_or_else(|| head.damaged("a partition has no ends"))?);
        }
        topics.push((topic, ends));
    }
    let of_groups = head.all(layout::GROUP, layout::read_group)?;
    let mut groups: BTreeMap<_, _> = of_groups
        .into_iter()
        .map(|(name, topic)| (name.to_string(), GroupState { name, topic, offsets: Vec::new() }))
        .collect();
    for (group, at, committed) in head.all(layout::OFFSET, layout::read_offset)? {
        let group = groups.get_mut(&group).ok_or_else(|| head.damaged("an offset belongs to no group"))?;
        group.offsets.push((at, committed));
    }
    let epochs = head.all(layout::EPOCH, layout::read_epoch)?;
    Ok(Found { topics, groups: groups.into_values().collect(), epochs })
}

/// Makes the first head. A manifest that says so stands there first: what is found beside it is nobody's.
fn begin(folder: &Path, cache_bytes: u64) -> Result<Manifest, Fault> {
    let mut manifest = Manifest { layout: layout::LAYOUT, segments: vec![1], new: true };
    write_manifest(folder, &manifest)?;
    for (_, at) in segment_folders(folder)? {
        fs::remove_dir_all(&at).map_err(Fault::failed(&at, "removing what was left unfinished"))?;
    }
    let head = Segment::create(segment_folder(folder, 1), 1, cache_of(cache_bytes))?;
    head.flush()?;
    drop(head);
    manifest.new = false;
    write_manifest(folder, &manifest)?;
    Ok(manifest)
}

fn read_manifest(folder: &Path) -> Result<Option<Manifest>, Fault> {
    let text = match fs::read(folder.join(MANIFEST)) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Fault::failed(folder, "reading its manifest")(error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(|_content| Fault::damaged(folder, "its manifest cannot be read"))
}

fn write_manifest(folder: &Path, manifest: &Manifest) -> Result<(), Fault> {
    let write = || {
        let mut file = File::create(folder.join(MANIFEST_NEXT))?;
        file.write_all(&serde_json::to_vec(manifest)?)?;
        file.sync_all()?;
        fs::rename(folder.join(MANIFEST_NEXT), folder.join(MANIFEST))
    };
    write().map_err(Fault::failed(folder, "writing its manifest"))
}

fn segment_folder(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("segment-{number:06}"))
}

/// The folders that look like segments. Others are not ours to judge.
fn segment_folders(folder: &Path) -> Result<Vec<(u64, PathBuf)>, Fault> {
    let failed = || Fault::failed(folder, "looking into it");
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("segment-")).and_then(|name| name.parse().ok());
        found.extend(number.map(|number| (number, entry.path())));
    }
    Ok(found)
}

fn create_private(folder: &Path) -> Result<(), Fault> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(Fault::failed(folder, "creating it"))
}

/// Whether a folder can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// There is no log in it yet.
    Missing,
    /// A process has it.
    InUse,
    /// Opening it will say more.
    Free,
}

/// Looks at the folder of a log and changes nothing.
pub fn presence(folder: &Path) -> Presence {
    match File::open(folder.join(LOCK)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Presence::Missing,
        Ok(file) if matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)) => Presence::InUse,
        Ok(_) | Err(_) => Presence::Free,
    }
}

fn acquire(folder: &Path) -> Result<File, Fault> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(folder.join(LOCK))
        .map_err(Fault::failed(folder, "locking it"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Fault::InUse { folder: folder.to_owned() }),
        Err(TryLockError::Error(error)) => Err(Fault::failed(folder, "locking it")(error)),
    }
}
