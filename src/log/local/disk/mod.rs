//! Where a log that outlives its process keeps what was committed.
//!
//! `memory`, `transactions` and `group` decide as they do without a disk; what they changed is taken by the one thread
//! here that writes, as often as there is something, in one batch: so a batch holds whole transactions, and all that
//! were waiting at that moment share one flush. What was taken is neither readable nor answered before it was written.
//!
//! - `layout`: what keys and values say.
//! - `segment`: one sled folder; the only file that names sled besides its users' batches.
//! - `storage`: the list of segments, and the manifest that makes a change of it atomic.
//! - `compact`: what need not be kept, and a segment without it.
//!
//! A disk that fails once is not trusted again: everything is refused from then on, with the reason, and the next start
//! finds what was answered. No call here runs on a thread of the runtime.

mod compact;
mod layout;
mod segment;
mod storage;

use std::{path::PathBuf, sync::Arc, thread::JoinHandle, time::Duration};

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};
use tracing::{error, info, warn};

pub use self::storage::{Presence, presence};
use self::{
    compact::{Compactor, Effort},
    storage::Storage,
};
pub(super) use self::{
    segment::Fault,
    storage::{Changes, Found},
};
use super::{
    memory::{Place, Read, Wanted},
    shared::Core,
};
use crate::log::{Cleanup, LogError, Offset, TopicPartition, Watermarks};

/// What a head may take before it is compacted, however little there is to keep.
const HEAD_BYTES_MIN: u64 = 16 * 1024 * 1024;
/// How much is written before the folder is measured again.
const MEASURE_BYTES: u64 = 256 * 1024;

/// How a log lives on disk.
#[derive(Debug, Clone)]
pub struct DiskSettings {
    /// Folder of the log, locked while it is open.
    pub folder: PathBuf,
    /// The folder's size above which [`Log::append`](crate::log::Log::append) is refused.
    pub bytes_max: u64,
    /// What is expired or superseded is looked for at least this often.
    pub compact_interval: Duration,
    /// How fast compaction reads, as long as that is fast enough.
    pub compact_bytes_per_second: u64,
    /// sled's page caches together.
    pub cache_bytes: u64,
}

/// A partition as compaction must know it; `high` is the stable end.
pub(super) type Survey = Vec<(TopicPartition, Place, Cleanup, Watermarks)>;

/// What the state of a log knows of its disk.
#[derive(Default)]
pub(super) struct DiskState {
    /// Batches taken so far.
    pub(super) taken: u64,
    pub(super) written: u64,
    pub(super) failure: Option<Fault>,
    closing: bool,
    /// Somebody waits for a new head.
    rotate: bool,
    rotations: u64,
    /// The partitions when the last new head began.
    survey: Survey,
    pub(super) bytes: u64,
    pub(super) bytes_max: u64,
}

/// An open disk and its threads; dropping it writes what is unwritten and ends them.
pub(super) struct Disk {
    core: Arc<Core>,
    storage: Arc<Storage>,
    compactor: Arc<Compactor>,
    threads: Vec<JoinHandle<()>>,
}

/// A folder that was opened, and its log is not running yet.
pub(super) struct Opened {
    storage: Storage,
    settings: DiskSettings,
}

/// Opens the folder and reads how things stand.
pub(super) fn open(settings: DiskSettings) -> Result<(Opened, Found, DiskState), Fault> {
    let (storage, found) = Storage::open(&settings.folder, settings.cache_bytes)?;
    let bytes = storage.bytes_on_disk()?;
    info!(folder = %storage.folder().display(), bytes, "the log is open");
    let state = DiskState { bytes, bytes_max: settings.bytes_max, ..DiskState::default() };
    Ok((Opened { storage, settings }, found, state))
}

impl Opened {
    pub(super) fn start(self, core: &Arc<Core>) -> Result<Disk, Fault> {
        let Self { storage, settings } = self;
        let storage = Arc::new(storage);
        let compactor = Arc::new(Compactor::new(Arc::clone(core), Arc::clone(&storage), &settings));
        let mut disk = Disk { core: Arc::clone(core), storage, compactor, threads: Vec::new() };
        let (core, storage, compactor) =
            (Arc::clone(&disk.core), Arc::clone(&disk.storage), Arc::clone(&disk.compactor));
        disk.spawn("log-writer", move || write(&core, &storage, &compactor))?;
        let compactor = Arc::clone(&disk.compactor);
        disk.spawn("log-compactor", move || compactor.run())?;
        Ok(disk)
    }
}

impl Disk {
    fn spawn(&mut self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
        let failed = Fault::failed(self.storage.folder(), "starting a thread");
        self.threads.push(std::thread::Builder::new().name(name.to_owned()).spawn(body).map_err(failed)?);
        Ok(())
    }

    pub(super) async fn read(&self, wanted: Vec<Wanted>, records_max: usize) -> Result<Vec<(Wanted, Read)>, LogError> {
        let storage = Arc::clone(&self.storage);
        off_the_runtime(move || storage.read(wanted, records_max)).await
    }

    pub(super) async fn offset_at(&self, wanted: Wanted, time: Timestamp) -> Result<Offset, LogError> {
        let storage = Arc::clone(&self.storage);
        off_the_runtime(move || storage.offset_at(wanted, time)).await
    }

    /// Deletes and compacts all there is to, at once and at full speed.
    pub(super) async fn compact(&self) -> Result<(), LogError> {
        let compactor = Arc::clone(&self.compactor);
        off_the_runtime(move || compactor.compact(Effort::Full)).await
    }
}

async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, LogError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_shutdown) => {
            Err(LogError::Unavailable { doing: "using the disk", reason: "the process is ending".to_owned() })
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Some(disk) = &mut self.core.state.lock().disk {
            disk.closing = true;
        }
        self.core.disk_moved.notify_all();
        self.compactor.close();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                error!("a thread of the log ended with a panic");
            }
        }
    }
}

/// Writes what there is to write, until the disk is closed or failed.
fn write(core: &Core, storage: &Storage, compactor: &Compactor) {
    let (mut unmeasured, mut in_head) = (0, 0);
    let mut base = storage.base_bytes().unwrap_or(0);
    while let Some((changes, rotate)) = take(core) {
        let written = if rotate { storage.rotate(changes) } else { storage.write(changes) };
        let bytes = written.and_then(|written| {
            unmeasured += written;
            in_head = if rotate { 0 } else { in_head + written };
            if !rotate && unmeasured < MEASURE_BYTES {
                return Ok(None);
            }
            unmeasured = 0;
            base = storage.base_bytes()?;
            storage.bytes_on_disk().map(Some)
        });
        let failed = bytes.is_err();
        {
            let mut state = core.state.lock();
            let state = &mut *state;
            let disk = state.disk.as_mut().expect("a log with a writing thread is on disk");
            match bytes {
                Ok(bytes) => {
                    disk.bytes = bytes.unwrap_or(disk.bytes);
                    disk.written = disk.taken;
                    disk.rotations += u64::from(rotate);
                    state.topics.written();
                }
                Err(fault) => {
                    error!(error = %fault, "the log cannot go on");
                    disk.failure = Some(fault);
                }
            }
        }
        core.disk_moved.notify_all();
        core.changed.notify_waiters();
        if failed {
            return;
        }
        if in_head >= HEAD_BYTES_MIN.max(base / 2) {
            compactor.ask();
        }
    }
}

/// Waits for something to write; the second part says whether it begins a new head. `None` when closed.
fn take(core: &Core) -> Option<(Changes, bool)> {
    let mut state = core.state.lock();
    loop {
        let unwritten = state.unwritten;
        let disk = state.disk.as_mut().expect("a log with a writing thread is on disk");
        if unwritten || disk.rotate {
            let rotate = std::mem::take(&mut disk.rotate);
            if rotate {
                let survey = state.take_and_survey();
                return Some((survey, true));
            }
            return Some((state.take_changes(false), false));
        }
        if disk.closing {
            return None;
        }
        core.disk_moved.wait(&mut state);
    }
}

/// Lets a thread be woken, and told to end.
#[derive(Default)]
struct Bell {
    state: Mutex<BellState>,
    rung: Condvar,
}

#[derive(Default)]
struct BellState {
    asked: bool,
    closing: bool,
}

impl Bell {
    fn ask(&self) {
        self.state.lock().asked = true;
        self.rung.notify_all();
    }

    fn is_asked(&self) -> bool {
        self.state.lock().asked
    }

    fn close(&self) {
        self.state.lock().closing = true;
        self.rung.notify_all();
    }

    /// Waits until asked, or for `patience`; whether to go on.
    fn wait(&self, patience: Duration) -> bool {
        let mut state = self.state.lock();
        let quiet = |state: &mut BellState| !state.asked && !state.closing;
        let _elapsed = self.rung.wait_while_for(&mut state, quiet, patience).timed_out();
        state.asked = false;
        !state.closing
    }

    /// Waits for `pause`, or for the end; whether to go on.
    fn pause(&self, pause: Duration) -> bool {
        let mut state = self.state.lock();
        let _elapsed = self.rung.wait_while_for(&mut state, |state| !state.closing, pause).timed_out();
        !state.closing
    }
}

/// Tells of a fault that costs space, not truth.
fn tell(fault: &Fault) {
    warn!(error = %fault, "the log could not be compacted and goes on as it is");
}

impl DiskState {
    pub(super) fn note_survey(&mut self, survey: Survey) {
        self.survey = survey;
    }
}
