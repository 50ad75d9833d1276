//! One sled folder, and everything that sled can do to us.
//!
//! sled may answer an error, or panic, long after a page went bad. Every call goes through [`Segment::guard`], which
//! turns both into a [`Fault`] that says where and what to do, and nothing of what is stored.
//!
//! A segment that was replaced is removed from the disk when its last reader is done with it: sled opens some of its
//! files by name when they are read.

use std::{
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tracing::warn;

use super::layout;
use crate::log::{LogError, Offset, local::memory::Place};

/// Tries for sled's own lock, which threads of a segment that this process has just closed may hold for a moment.
const LOCK_TRIES: u32 = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// What the disk did to us.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Fault {
    #[error(
        "the log in {} is damaged ({reason}); it was left as it is: bring the folder back from a copy, or move it away \
         to begin with an empty log, which no longer knows who is linked to what",
        folder.display()
    )]
    Damaged { folder: PathBuf, reason: String },
    #[error(
        "the log in {} failed while {doing}: {reason}; make sure that its disk works and has room, then start again",
        folder.display()
    )]
    Failed { folder: PathBuf, doing: &'static str, reason: String },
    #[error(
        "the log in {} is used by another process; stop that one, or publish through it with publish --url; \
         several workers need log.kind = \"kafka\"",
        folder.display()
    )]
    InUse { folder: PathBuf },
}

impl From<Fault> for LogError {
    fn from(fault: Fault) -> Self {
        Self::Unusable { reason: fault.to_string() }
    }
}

impl Fault {
    pub(super) fn damaged(folder: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { folder: folder.to_owned(), reason: reason.into() }
    }

    pub(super) fn failed(folder: &Path, doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let folder = folder.to_owned();
        move |error| Self::Failed { folder, doing, reason: error.to_string() }
    }
}

/// First and last offset of a partition in a segment.
type Span = (Offset, Offset);

pub(super) struct Segment {
    pub(super) number: u64,
    folder: PathBuf,
    /// Gone only while it is dropped.
    database: Option<sled::Db>,
    spans: Mutex<BTreeMap<Place, Span>>,
    replaced: AtomicBool,
}

impl Segment {
    /// Opens or creates the segment in `folder`.
    pub(super) fn open(folder: PathBuf, number: u64, cache_bytes: u64) -> Result<Self, Fault> {
        remove_unfinished_snapshots(&folder)?;
        let config = sled::Config::new()
            .path(&folder)
            .cache_capacity(cache_bytes)
            .mode(sled::Mode::HighThroughput)
            .flush_every_ms(None);
        let mut tries = 0;
        let database = loop {
            match catch_unwind(AssertUnwindSafe(|| config.open())) {
                Ok(Ok(database)) => break database,
                Ok(Err(sled::Error::Io(error)))
                    if error.to_string().contains("could not acquire lock") && tries < LOCK_TRIES =>
                {
                    tries += 1;
                    #[expect(clippy::disallowed_methods, reason = "an open waits for real threads, on a blocking one")]
                    std::thread::sleep(LOCK_PAUSE);
                }
                Ok(Err(error)) => return Err(fault(&folder, "opening", &error)),
                Err(_panic) => return Err(Fault::damaged(&folder, "sled cannot open it")),
            }
        };
        let spans = Mutex::default();
        Ok(Self { number, folder, database: Some(database), spans, replaced: AtomicBool::new(false) })
    }

    /// Makes an empty segment.
    pub(super) fn create(folder: PathBuf, number: u64, cache_bytes: u64) -> Result<Self, Fault> {
        if folder.exists() {
            // Numbers are never given twice: writing into what is there would be the end of it.
            return Err(Fault::damaged(&folder, "it is there before it was made"));
        }
        let segment = Self::open(folder, number, cache_bytes)?;
        let mut batch = sled::Batch::default();
        batch.insert(layout::LAYOUT_KEY, &layout::LAYOUT.to_be_bytes());
        segment.apply(batch)?;
        Ok(segment)
    }

    /// Whether what was opened is a segment that was finished once.
    pub(super) fn verify(&self) -> Result<(), Fault> {
        match self.guard("reading", |tree| tree.get(layout::LAYOUT_KEY))? {
            Some(found) if *found == layout::LAYOUT.to_be_bytes() => Ok(()),
            Some(_) => Err(self.damaged("its layout is one of another version of this program")),
            None => Err(self.damaged("a part of it is empty")),
        }
    }

    pub(super) fn damaged(&self, reason: &str) -> Fault {
        Fault::damaged(&self.folder, reason)
    }

    fn guard<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&sled::Tree) -> Result<T, sled::Error>,
    ) -> Result<T, Fault> {
        let database = self.database.as_ref().expect("it is there until it is dropped");
        match catch_unwind(AssertUnwindSafe(|| work(database))) {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(fault(&self.folder, doing, &error)),
            Err(_panic) => Err(self.damaged("sled cannot go on")),
        }
    }

    /// Applies all of `batch` or nothing, also to the eyes of a process that comes after a killed one.
    pub(super) fn apply(&self, batch: sled::Batch) -> Result<(), Fault> {
        self.guard("writing", |tree| tree.apply_batch(batch))
    }

    /// Hands to the operating system what was applied.
    pub(super) fn flush(&self) -> Result<(), Fault> {
        self.guard("flushing", |tree| tree.flush().map(drop))
    }

    /// Notes that records of `place` were put here.
    pub(super) fn widen(&self, place: Place, first: Offset, last: Offset) {
        let mut spans = self.spans.lock();
        let span = spans.entry(place).or_insert((first, last));
        *span = (span.0.min(first), span.1.max(last));
    }

    /// Looks up where each of `places` begins and ends here.
    pub(super) fn find_spans(&self, places: impl IntoIterator<Item = Place>) -> Result<(), Fault> {
        for place in places {
            let range = layout::record_key(place, 0)..=layout::record_key(place, Offset::MAX);
            let found = self.guard("reading", |tree| {
                let mut records = tree.range(range);
                let first = records.next().transpose()?;
                let last = records.next_back().transpose()?.or_else(|| first.clone());
                Ok(first.zip(last))
            })?;
            if let Some(((first, _), (last, _))) = found {
                let offset = |key: &[u8]| layout::offset_of(key).ok_or_else(|| self.damaged("a key is no key"));
                self.widen(place, offset(&first)?, offset(&last)?);
            }
        }
        Ok(())
    }

    /// At most `count` records of `place` from `from` on and below `end`.
    pub(super) fn records(
        &self,
        place: Place,
        from: Offset,
        end: Offset,
        count: usize,
    ) -> Result<Vec<(Offset, sled::IVec)>, Fault> {
        let span = self.spans.lock().get(&place).copied();
        if from >= end || span.is_none_or(|(first, last)| last < from || end <= first) {
            return Ok(Vec::new());
        }
        let range = layout::record_key(place, from)..layout::record_key(place, end);
        let found: Vec<_> = self.guard("reading", |tree| tree.range(range).take(count).collect())?;
        let offset = |(key, value): (sled::IVec, sled::IVec)| layout::offset_of(&key).map(|offset| (offset, value));
        found.into_iter().map(|entry| offset(entry).ok_or_else(|| self.damaged("a key is no key"))).collect()
    }

    /// Everything whose key begins with `letter`, read by `read`.
    pub(super) fn all<T>(&self, letter: u8, read: impl Fn(&[u8], &[u8]) -> Option<T>) -> Result<Vec<T>, Fault> {
        let found: Vec<_> = self.guard("reading", |tree| tree.scan_prefix([letter]).collect())?;
        let read = |(key, value): &(sled::IVec, sled::IVec)| {
            read(key, value).ok_or_else(|| self.damaged("an entry cannot be read"))
        };
        found.iter().map(read).collect()
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>, Fault> {
        self.guard("reading", |tree| tree.get(key))
    }

    pub(super) fn bytes_on_disk(&self) -> Result<u64, Fault> {
        let database = self.database.as_ref().expect("it is there until it is dropped");
        self.guard("measuring", |_| database.size_on_disk())
    }

    /// Its folder goes when its last reader is done.
    pub(super) fn replace(&self) {
        self.replaced.store(true, Ordering::Relaxed);
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let database = self.database.take();
        if catch_unwind(AssertUnwindSafe(|| drop(database))).is_err() {
            warn!(folder = %self.folder.display(), "a part of the log could not be closed in order");
        }
        if self.replaced.load(Ordering::Relaxed)
            && let Err(error) = fs::remove_dir_all(&self.folder)
        {
            warn!(folder = %self.folder.display(), %error, "a replaced part of the log could not be removed; the next start does");
        }
    }
}

/// Removes what a process left that was killed while sled wrote a snapshot, which it does whenever it opens a folder.
///
/// A snapshot that is being written has a name of its own until it is whole, and the one before it stays until then. But
/// sled takes the newest of both kinds of names for its snapshot, finds it broken, and never opens the folder again.
fn remove_unfinished_snapshots(folder: &Path) -> Result<(), Fault> {
    let failed = || Fault::failed(folder, "removing a snapshot that was left unfinished");
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed()(error)),
    };
    for entry in entries {
        let entry = entry.map_err(failed())?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("snap.") && name.ends_with(".generating")) {
            fs::remove_file(entry.path()).map_err(failed())?;
            warn!(folder = %folder.display(), "a snapshot that was left unfinished is removed");
        }
    }
    Ok(())
}

fn fault(folder: &Path, doing: &'static str, error: &sled::Error) -> Fault {
    match error {
        sled::Error::Io(error) => Fault::Failed { folder: folder.to_owned(), doing, reason: error.to_string() },
        sled::Error::Corruption { .. } => Fault::damaged(folder, "a page is broken"),
        _ => Fault::damaged(folder, "sled cannot go on"),
    }
}
