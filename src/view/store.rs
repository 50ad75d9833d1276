//! The folder of the view, and everything that can be wrong with it.
//!
//! sled is good at being fast and bad at being damaged: an open may fail or panic, and a page may turn out to be broken
//! long after. None of that may cost more than a rebuild, because the log has everything. So every call to sled goes
//! through [`Store::guard`], which turns panics into errors and remembers damage in a marker file, and
//! [`Store::open`] empties the view's own folder whenever it cannot be trusted.
//!
//! It is not trusted when sled cannot open it, when it was found damaged, when its layout or its partition count is
//! another, when it was away so long that it may have missed tombstones, and when the machine (not the process) went
//! down while it was open: sled writes in an order of its own, which a killed process cannot spoil but a lost page
//! cache can.
//!
//! The lock is a file beside the view's folder, so that emptying the folder cannot remove the lock. It is held until
//! the last [`Store`] is gone, and by nobody after the process has died, however it died.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tracing::{info, warn};

use super::{
    ViewError,
    layout::{self, Birth, LAYOUT, Position, Tag},
};
use crate::log::TopicPartition;

const LOCK: &str = "lock";
const FOLDER: &str = "view";
/// Stands in the view's folder once a page was found broken.
const DAMAGED: &str = "damaged";
/// Stands in the view's folder while it is open, and names the run of the machine.
const OPEN: &str = "open";

const META_LAYOUT: &str = "layout";
const META_PARTITIONS: &str = "partitions";

/// How often sled's own thread writes out what it buffers. Not for safety (what is lost is read again) but so that a
/// killed process has at most this much to read again.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

/// What a view must fit to be used as it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fit {
    pub(super) partitions: u32,
    pub(super) now: Timestamp,
    pub(super) away_max: Duration,
}

/// The open view on disk.
#[derive(Debug)]
pub(super) struct Store {
    // Declared before the lock, hence dropped before it: whoever gets the lock finds sled closed.
    database: sled::Db,
    folder: PathBuf,
    _lock: File,
}

impl Store {
    /// Opens the view under `data`, the folder of this worker; empty and rebuilt if it cannot be trusted, which the
    /// second part of the answer says.
    pub(super) fn open(data: &Path, cache_bytes: u64, fit: Fit) -> Result<(Self, bool), ViewError> {
        let folder = data.join(FOLDER);
        create_private(data)?;
        let lock = acquire(data)?;
        create_private(&folder)?;
        let (reason, births) = match open_sled(&folder, cache_bytes) {
            Ok(database) => {
                let store = Self {
                    database,
                    folder: folder.clone(),
                    _lock: lock.try_clone().map_err(|error| disk(data, &error))?,
                };
                match store.judge(fit) {
                    Ok(Verdict::Fits) => {
                        store.mark_open()?;
                        return Ok((store, false));
                    }
                    Ok(Verdict::Empty) => {
                        store.begin(fit, &[])?;
                        return Ok((store, false));
                    }
                    // What is known of the topics' births outlives the data: a topic that was replaced meanwhile
                    // must still be noticed.
                    Ok(Verdict::Unfit(reason)) => (reason, store.births().unwrap_or_default()),
                    Err(_) => ("it is damaged", Vec::new()),
                }
            }
            Err(Refusal::Damaged) => ("it is damaged", Vec::new()),
            Err(Refusal::Failed(error)) => return Err(error),
        };
        warn!(folder = %folder.display(), reason, "the view is removed and rebuilt from the log");
        empty(&folder)?;
        let database = open_sled(&folder, cache_bytes).map_err(|refusal| match refusal {
            Refusal::Damaged => {
                ViewError::Disk { reason: format!("a new view cannot be made in {}", folder.display()) }
            }
            Refusal::Failed(error) => error,
        })?;
        let store = Self { database, folder, _lock: lock };
        store.begin(fit, &births)?;
        Ok((store, true))
    }

    /// Runs `work` on sled. Panics and errors come back as errors that say nothing of what is stored; a sign of damage
    /// is remembered, so that the next start rebuilds.
    pub(super) fn guard<T>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&sled::Tree) -> Result<T, sled::Error>,
    ) -> Result<T, ViewError> {
        let result = catch_unwind(AssertUnwindSafe(|| work(&self.database)));
        let (damage, reason) = match result {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(sled::Error::Io(error))) => (false, error.to_string()),
            Ok(Err(sled::Error::Corruption { at, .. })) => (true, format!("a page is broken ({at:?})")),
            Ok(Err(_)) | Err(_) => (true, "sled cannot go on".to_owned()),
        };
        if damage {
            self.remember_damage();
        }
        Err(ViewError::Disk { reason: format!("{doing} in {}: {reason}", self.folder.display()) })
    }

    /// Bytes of the files.
    pub(super) fn bytes_on_disk(&self) -> Result<u64, ViewError> {
        self.guard("measuring", |_| self.database.size_on_disk())
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>, ViewError> {
        self.guard("reading", |tree| tree.get(key))
    }

    /// Applies all of `batch` or nothing, also to the eyes of concurrent readers.
    pub(super) fn apply(&self, batch: sled::Batch) -> Result<(), ViewError> {
        self.guard("writing", |tree| tree.apply_batch(batch))
    }

    /// Hands what `tree` buffers to the file.
    pub(super) fn flush(&self) -> Result<(), ViewError> {
        self.guard("flushing", |tree| tree.flush().map(drop))
    }

    /// How far `at` was followed when that was last written.
    pub(super) fn position(&self, at: &TopicPartition) -> Result<Option<Position>, ViewError> {
        Ok(self.get(&layout::position(at))?.and_then(|value| Position::from_value(&value)))
    }

    /// The birth record of `at`, if it was ever met.
    pub(super) fn birth(&self, at: &TopicPartition) -> Result<Option<Birth>, ViewError> {
        Ok(self.get(&layout::birth(at))?.and_then(|value| Birth::from_value(&value)))
    }

    /// Marks the view as damaged: the next start rebuilds it.
    pub(super) fn remember_damage(&self) {
        if let Err(error) = File::create(self.folder.join(DAMAGED)) {
            warn!(folder = %self.folder.display(), %error, "the view is damaged, and that cannot be written down: remove the folder before the next start");
        }
    }

    fn judge(&self, fit: Fit) -> Result<Verdict, ViewError> {
        let there = |name: &str| self.folder.join(name).exists();
        if there(DAMAGED) {
            return Ok(Verdict::Unfit("it is damaged"));
        }
        let opened_in = fs::read_to_string(self.folder.join(OPEN)).ok();
        if let (Some(then), Some(now)) = (opened_in, boot_id())
            && then != now
        {
            return Ok(Verdict::Unfit("the machine went down while it was open"));
        }
        let Some(found) = self.get(&layout::meta(META_LAYOUT))? else {
            let empty = self.guard("reading", |tree| tree.first())?.is_none();
            return Ok(if empty { Verdict::Empty } else { Verdict::Unfit("its layout is unknown") });
        };
        if *found != LAYOUT.to_be_bytes() {
            return Ok(Verdict::Unfit("its layout is another"));
        }
        if self.get(&layout::meta(META_PARTITIONS))?.is_none_or(|found| *found != fit.partitions.to_be_bytes()) {
            return Ok(Verdict::Unfit("the partition count of the topics is another"));
        }
        // The last time of any partition is the last time of the worker. Single partitions that were away for longer
        // are judged by the follower, when it is asked to follow them.
        let positions: Vec<_> =
            self.guard("reading", |tree| tree.scan_prefix(Tag::Position.prefix()).values().collect())?;
        let followed_at =
            positions.iter().filter_map(|value| Position::from_value(value)).map(|position| position.followed_at).max();
        if followed_at.is_some_and(|followed_at| away_too_long(followed_at, fit.now, fit.away_max)) {
            return Ok(Verdict::Unfit("it was away for so long that it may have missed deletions"));
        }
        Ok(Verdict::Fits)
    }

    /// Writes what a new view must say of itself.
    fn begin(&self, fit: Fit, births: &[(sled::IVec, sled::IVec)]) -> Result<(), ViewError> {
        let mut batch = sled::Batch::default();
        batch.insert(layout::meta(META_LAYOUT), &LAYOUT.to_be_bytes());
        batch.insert(layout::meta(META_PARTITIONS), &fit.partitions.to_be_bytes());
        for (key, value) in births {
            batch.insert(key, value);
        }
        self.apply(batch)?;
        self.mark_open()
    }

    fn births(&self) -> Result<Vec<(sled::IVec, sled::IVec)>, ViewError> {
        self.guard("reading", |tree| tree.scan_prefix(Tag::Birth.prefix()).collect())
    }

    fn mark_open(&self) -> Result<(), ViewError> {
        let Some(boot_id) = boot_id() else {
            return Ok(());
        };
        let write = || {
            let mut file = File::create(self.folder.join(OPEN))?;
            file.write_all(boot_id.as_bytes())?;
            file.sync_all()
        };
        write().map_err(|error| disk(&self.folder, &error))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Closed in order only if all of it reached the disk; else the marker stays, which costs a rebuild at most.
        let closed = self.flush().and_then(|()| {
            let close = || {
                File::open(self.folder.join("db"))?.sync_all()?;
                fs::remove_file(self.folder.join(OPEN))
                    .or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
            };
            close().map_err(|error| disk(&self.folder, &error))
        });
        match closed {
            Ok(()) => info!(folder = %self.folder.display(), "the view is closed"),
            Err(error) => {
                warn!(folder = %self.folder.display(), %error, "the view could not be closed in order")
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Fits,
    /// Never used.
    Empty,
    Unfit(&'static str),
}

/// Whether what was last followed at `followed_at` may have missed tombstones. A clock that went back says nothing.
pub(super) fn away_too_long(followed_at: Timestamp, now: Timestamp, away_max: Duration) -> bool {
    now.duration_since(followed_at) > SignedDuration::try_from(away_max).unwrap_or(SignedDuration::MAX)
}

#[derive(Debug)]
enum Refusal {
    /// Another view in this place would do.
    Damaged,
    /// Another view in this place would not fare better.
    Failed(ViewError),
}

fn open_sled(folder: &Path, cache_bytes: u64) -> Result<sled::Db, Refusal> {
    remove_unfinished_snapshots(folder).map_err(|error| Refusal::Failed(disk(folder, &error)))?;
    let config = sled::Config::new()
        .path(folder)
        .cache_capacity(cache_bytes)
        .mode(sled::Mode::HighThroughput)
        .flush_every_ms(Some(u64::try_from(FLUSH_EVERY.as_millis()).unwrap_or(u64::MAX)));
    // Threads of a view that this process has just closed may hold sled's own lock for some milliseconds more.
    let mut tries_left = 200;
    loop {
        match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(Ok(database)) => return Ok(database),
            Ok(Err(sled::Error::Io(error))) if error.to_string().contains("could not acquire lock") => {
                if tries_left == 0 {
                    return Err(Refusal::Failed(ViewError::InUse { folder: folder.to_owned() }));
                }
                tries_left -= 1;
                #[expect(
                    clippy::disallowed_methods,
                    reason = "a start waits for real threads, which a paused clock does not move"
                )]
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(Err(sled::Error::Io(error))) if !speaks_of_content(error.kind()) => {
                return Err(Refusal::Failed(disk(folder, &error)));
            }
            Ok(Err(_)) | Err(_) => return Err(Refusal::Damaged),
        }
    }
}

/// Removes what sled was writing when a process was killed while it opened the view. sled would take it for the newest
/// snapshot and find the view damaged, which would then be built anew and no longer know of the topics' births.
fn remove_unfinished_snapshots(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_str().is_some_and(|name| name.starts_with("snap.") && name.ends_with(".generating")) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Whether an error of the file system may be the fault of what the files hold.
fn speaks_of_content(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnexpectedEof
            | ErrorKind::InvalidData
            | ErrorKind::InvalidInput
            | ErrorKind::NotFound
            | ErrorKind::Other
    )
}

fn acquire(data: &Path) -> Result<File, ViewError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(data.join(LOCK))
        .map_err(|error| disk(data, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(ViewError::InUse { folder: data.to_owned() }),
        Err(TryLockError::Error(error)) => Err(disk(data, &error)),
    }
}

/// Creates a folder that only its owner may enter; one that exists is left as it is.
fn create_private(folder: &Path) -> Result<(), ViewError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| disk(folder, &error))
}

/// Removes what the view's folder holds, but not the folder, which may be a mount.
fn empty(folder: &Path) -> Result<(), ViewError> {
    let remove = || -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path()) } else { fs::remove_file(entry.path()) }?;
        }
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
    };
    remove().map_err(|error| disk(folder, &error))
}

/// Names the run of the machine; `None` where the system does not tell.
fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()
}

fn disk(at: &Path, error: &io::Error) -> ViewError {
    ViewError::Disk { reason: format!("{}: {error}", at.display()) }
}
