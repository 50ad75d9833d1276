//! What need not be kept, and a segment without it.
//!
//! A compaction raises the low ends of topics that delete with age, lets a new head begin, and writes what the older
//! segments hold and must be kept into one new segment, partition by partition: of a compacted topic the newest record
//! of each key, and tombstones for their time. Nothing of a partition that lay at or above its stable end when the head
//! began is judged: a record with an earlier number may still be committed.
//!
//! Memory: 40 bytes or so for each key of one partition. Space: what is kept stands there twice until the switch.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tracing::info;

use super::{
    Bell, DiskSettings, Survey,
    layout::{self, StoredRecord},
    segment::{Fault, Segment},
    storage::{CHUNK, Storage},
    tell,
};
use crate::log::{
    Cleanup, Offset,
    local::{
        memory::{Place, Wanted},
        shared::Core,
    },
};

/// What is put into the new segment at once.
const BATCH_BYTES: usize = 1024 * 1024;

/// How a compaction goes about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effort {
    /// At the configured pace, and only if there may be something to gain.
    Background,
    Full,
}

/// Why a merge did not come to its end.
enum Ended {
    Closing,
    Fault(Fault),
}

impl From<Fault> for Ended {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

pub(super) struct Compactor {
    core: Arc<Core>,
    storage: Arc<Storage>,
    interval: Duration,
    bytes_per_second: u64,
    bell: Bell,
    /// Held by whoever compacts: how things stood when that last ended.
    last: Mutex<Last>,
    full_speed: AtomicBool,
}

#[derive(Default)]
struct Last {
    /// Batches written by then.
    written: u64,
    /// Tombstones that were kept, and go one day.
    tombstones: u64,
}

impl Compactor {
    pub(super) fn new(core: Arc<Core>, storage: Arc<Storage>, settings: &DiskSettings) -> Self {
        Self {
            core,
            storage,
            interval: settings.compact_interval,
            bytes_per_second: settings.compact_bytes_per_second.max(1),
            bell: Bell::default(),
            // What an earlier process left is not known: the first look merges.
            last: Mutex::new(Last { written: 0, tombstones: 1 }),
            full_speed: AtomicBool::new(false),
        }
    }

    pub(super) fn ask(&self) {
        self.bell.ask();
    }

    pub(super) fn close(&self) {
        self.bell.close();
    }

    /// Compacts when asked and when the interval is over, until closed.
    pub(super) fn run(&self) {
        while self.bell.wait(self.interval) {
            if let Err(fault) = self.compact(Effort::Background) {
                tell(&fault);
            }
        }
    }

    pub(super) fn compact(&self, effort: Effort) -> Result<(), Fault> {
        if effort == Effort::Full {
            // Whoever is at it hurries up.
            self.full_speed.store(true, Ordering::Relaxed);
        }
        let mut last = self.last.lock();
        let result = match self.compact_alone(effort, &mut last) {
            Ok(()) | Err(Ended::Closing) => Ok(()),
            Err(Ended::Fault(fault)) => Err(fault),
        };
        if effort == Effort::Full {
            self.full_speed.store(false, Ordering::Relaxed);
        }
        result
    }

    fn compact_alone(&self, effort: Effort, last: &mut Last) -> Result<(), Ended> {
        let now = self.core.clock.now();
        self.expire(now)?;
        let written = {
            let state = self.core.state.lock();
            state.unwritten || state.disk.as_ref().is_some_and(|disk| disk.taken > last.written)
        };
        if effort == Effort::Background && !written && last.tombstones == 0 {
            return Ok(());
        }
        let (survey, written) = self.rotate()?;
        let segments = self.storage.segments();
        let (_head, old) = segments.split_last().expect("there is always a head");
        let merged = self.storage.new_segment()?;
        let ended = self.merge(old, &merged, &survey, now);
        let (kept, tombstones) = match ended {
            Ok(counts) => counts,
            Err(ended) => {
                merged.replace();
                return Err(ended);
            }
        };
        self.storage.replace(old, merged)?;
        *last = Last { written, tombstones };
        let bytes = self.storage.bytes_on_disk()?;
        if let Some(disk) = &mut self.core.state.lock().disk {
            disk.bytes = bytes;
        }
        info!(kept, bytes, "the log is compacted");
        Ok(())
    }

    /// Raises the low ends of topics that delete with age.
    fn expire(&self, now: Timestamp) -> Result<(), Fault> {
        let survey = self.core.state.lock().topics.survey();
        for (at, place, cleanup, ends) in survey {
            let Cleanup::Delete { after } = cleanup else {
                continue;
            };
            let after = SignedDuration::try_from(after).unwrap_or(SignedDuration::MAX);
            let Ok(oldest) = now.checked_sub(after) else {
                continue;
            };
            let wanted = Wanted { at: at.clone(), place, position: ends.low, end: ends.high };
            let end = self.storage.expired_end(wanted, oldest)?;
            if end > ends.low {
                let mut state = self.core.state.lock();
                if let Some(partition) = state.topics.partition(&at) {
                    partition.expire_before(end);
                    (state.changed, state.unwritten) = (true, true);
                }
            }
        }
        self.core.disk_moved.notify_all();
        Ok(())
    }

    /// Lets a new head begin; answers how the partitions were then, and how many batches were written by then.
    fn rotate(&self) -> Result<(Survey, u64), Ended> {
        let mut state = self.core.state.lock();
        let before = {
            let disk = state.disk.as_mut().expect("a log that is compacted is on disk");
            disk.rotate = true;
            disk.rotations
        };
        self.core.disk_moved.notify_all();
        loop {
            let disk = state.disk.as_mut().expect("a log that is compacted is on disk");
            if let Some(fault) = &disk.failure {
                return Err(Ended::Fault(fault.clone()));
            }
            if disk.rotations > before {
                return Ok((std::mem::take(&mut disk.survey), disk.written));
            }
            if disk.closing {
                return Err(Ended::Closing);
            }
            self.core.disk_moved.wait(&mut state);
        }
    }

    /// Writes what is to be kept of `old` into `new`: how many records, and how many of them are tombstones.
    fn merge(&self, old: &[Arc<Segment>], new: &Segment, survey: &Survey, now: Timestamp) -> Result<(u64, u64), Ended> {
        let mut output = Output { new, batch: sled::Batch::default(), bytes: 0 };
        let (mut kept, mut tombstones) = (0, 0);
        for (_, place, cleanup, ends) in survey {
            let tombstones_stay = match cleanup {
                Cleanup::Compact { tombstones } => {
                    Some(SignedDuration::try_from(*tombstones).unwrap_or(SignedDuration::MAX))
                }
                Cleanup::Delete { .. } | Cleanup::Foreign => None,
            };
            let mut newest: HashMap<u128, Offset> = HashMap::new();
            if tombstones_stay.is_some() {
                self.each(old, *place, ends.low, ends.high, |offset, record, _| {
                    if let Some(key) = &record.key {
                        let newest = newest.entry(digest(key)).or_insert(offset);
                        *newest = offset.max(*newest);
                    }
                    Ok(())
                })?;
            }
            self.each(old, *place, ends.low, Offset::MAX, |offset, mut record, bytes| {
                let mut changed = false;
                if let Some(stay) = tombstones_stay
                    && offset < ends.high
                {
                    let superseded = record.key.as_ref().is_some_and(|key| newest.get(&digest(key)) != Some(&offset));
                    if superseded || record.removable.is_some_and(|removable| removable <= now) {
                        return Ok(());
                    }
                    if record.value.is_none() && record.removable.is_none() {
                        record.removable = Some(now.checked_add(stay).unwrap_or(Timestamp::MAX));
                        changed = true;
                    }
                    tombstones += u64::from(record.value.is_none());
                }
                kept += 1;
                let bytes = if changed { record.to_bytes().into() } else { bytes };
                output.put(*place, offset, bytes)
            })?;
        }
        output.apply()?;
        Ok((kept, tombstones))
    }

    /// Gives each record of a partition in `segments` to `act`, at the pace that is set.
    fn each(
        &self,
        segments: &[Arc<Segment>],
        place: Place,
        from: Offset,
        end: Offset,
        mut act: impl FnMut(Offset, StoredRecord, sled::IVec) -> Result<(), Fault>,
    ) -> Result<(), Ended> {
        for segment in segments {
            let mut position = from;
            loop {
                let records = segment.records(place, position, end, CHUNK)?;
                let Some((last, _)) = records.last() else {
                    break;
                };
                position = last + 1;
                let bytes: usize = records.iter().map(|(_, value)| value.len()).sum();
                for (offset, bytes) in records {
                    let record =
                        StoredRecord::from_bytes(&bytes).ok_or_else(|| segment.damaged("a record is broken"))?;
                    act(offset, record, bytes)?;
                }
                // Asked again already: more comes in than this pace could ever take out.
                let pause = if self.full_speed.load(Ordering::Relaxed) || self.bell.is_asked() {
                    Duration::ZERO
                } else {
                    Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64)
                };
                if !self.bell.pause(pause) {
                    return Err(Ended::Closing);
                }
            }
        }
        Ok(())
    }
}

/// A segment that is being filled.
struct Output<'a> {
    new: &'a Segment,
    batch: sled::Batch,
    bytes: usize,
}

impl Output<'_> {
    fn put(&mut self, place: Place, offset: Offset, bytes: sled::IVec) -> Result<(), Fault> {
        self.new.widen(place, offset, offset);
        self.bytes += bytes.len();
        self.batch.insert(layout::record_key(place, offset), bytes);
        if self.bytes >= BATCH_BYTES { self.apply() } else { Ok(()) }
    }

    fn apply(&mut self) -> Result<(), Fault> {
        self.bytes = 0;
        self.new.apply(std::mem::take(&mut self.batch))
    }
}

/// Keys by what cannot be mistaken for another's, and short.
fn digest(key: &[u8]) -> u128 {
    let digest: [u8; 32] = Sha256::digest(key).into();
    let (first, _) = digest.split_first_chunk::<16>().expect("a digest has 32 bytes");
    u128::from_be_bytes(*first)
}
