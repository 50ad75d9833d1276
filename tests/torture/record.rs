//! Writes down each deed as it happens, and tells it.

use std::{fs::File, io::Write, path::Path, sync::Arc};

use contact_replicator::clock::Clock;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::history::{Act, History, Line, What};

/// Clones write into the same history.
#[derive(Clone)]
pub(crate) struct Recorder {
    begun: Instant,
    history: Arc<Mutex<History>>,
    /// What was told, for whoever looks at a run that could not be judged.
    told: Arc<File>,
}

impl Recorder {
    /// Writes what it tells into `folder`, too.
    pub(crate) fn new(folder: &Path) -> Self {
        let told = Arc::new(File::create(folder.join("told.txt")).unwrap());
        Self { begun: Instant::now(), history: Arc::default(), told }
    }

    pub(crate) fn line(&self, line: Line) {
        self.history.lock().lines.push(line);
    }

    /// Something begins, and ends with the value that is returned. Until then it ends at its beginning, as does what takes
    /// no time.
    pub(crate) fn begin(&self, what: What) -> Doing {
        self.say(&what.to_string());
        let now = Clock::System.now();
        let mut history = self.history.lock();
        history.acts.push(Act { from: now, until: now, what });
        Doing { recorder: self.clone(), index: history.acts.len() - 1 }
    }

    /// All is as it should be again.
    pub(crate) fn healed(&self) {
        self.say("everything is mended");
        self.history.lock().healed = Some(Clock::System.now());
    }

    pub(crate) fn history(&self) -> History {
        self.history.lock().clone()
    }

    pub(crate) fn say(&self, what: &str) {
        let line = format!("  {:6.2} s  {what}", self.begun.elapsed().as_secs_f64());
        println!("{line}");
        writeln!(&*self.told, "{line}").unwrap();
    }
}

/// Something that is being done.
#[must_use]
pub(crate) struct Doing {
    recorder: Recorder,
    index: usize,
}

impl Doing {
    pub(crate) fn end(self) {
        self.recorder.history.lock().acts[self.index].until = Clock::System.now();
    }
}
