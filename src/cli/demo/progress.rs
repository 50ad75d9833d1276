//! What is seen of a run while it goes on: bars on a terminal, else a line now and then. On standard error, since the
//! report goes to standard output.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub elapsed: Duration,
    /// Events to send, and how many were sent.
    pub total: usize,
    pub sent: usize,
    pub outcomes: usize,
    /// Answers that are known to be missing.
    pub open: usize,
    /// Requests that reached the CRM.
    pub calls: u64,
}

/// Shows how a run stands.
pub trait Progress: Send {
    fn show(&mut self, seen: &Seen);
    /// There is nothing more to show.
    fn done(&mut self);
}

/// Shows nothing.
#[derive(Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn show(&mut self, _: &Seen) {}
    fn done(&mut self) {}
}

/// What suits standard error.
pub(super) fn on_standard_error() -> Box<dyn Progress> {
    if io::stderr().is_terminal() { Box::new(Bars::new()) } else { Box::new(Lines { told: None }) }
}

/// A line, every [`LINE_EVERY`].
struct Lines {
    told: Option<Duration>,
}

const LINE_EVERY: Duration = Duration::from_secs(2);

impl Progress for Lines {
    fn show(&mut self, seen: &Seen) {
        if self.told.is_some_and(|told| seen.elapsed < told + LINE_EVERY) {
            return;
        }
        self.told = Some(seen.elapsed);
        let Seen { elapsed, total, sent, outcomes, open, calls } = seen;
        let elapsed = elapsed.as_secs();
        // A run does not end because nobody watches it.
        let _unwatched = writeln!(
            io::stderr().lock(),
            "{elapsed:>4} s  {sent} of {total} events sent, {outcomes} outcomes, {open} answers missing, {calls} calls"
        )
        .is_err();
    }

    fn done(&mut self) {}
}

struct Bars {
    sent: ProgressBar,
    settled: ProgressBar,
    calls: ProgressBar,
}

impl Bars {
    fn new() -> Self {
        let bars = MultiProgress::new();
        let style = |template: &str| ProgressStyle::with_template(template).expect("the template is well formed");
        let measured = style("{prefix:>12} {bar:40} {pos:>6} of {len}");
        let bar = |prefix: &'static str| {
            let bar = bars.add(ProgressBar::new(0).with_style(measured.clone()));
            bar.set_prefix(prefix);
            bar
        };
        let (sent, settled) = (bar("events sent"), bar("settled"));
        let calls = bars.add(ProgressBar::new_spinner().with_style(style("{prefix:>12} {msg}")));
        calls.set_prefix("CRM");
        Self { sent, settled, calls }
    }
}

impl Progress for Bars {
    fn show(&mut self, seen: &Seen) {
        self.sent.set_length(seen.total as u64);
        self.sent.set_position(seen.sent as u64);
        self.settled.set_length(seen.sent as u64);
        self.settled.set_position(seen.sent.saturating_sub(seen.open) as u64);
        let elapsed = seen.elapsed.as_secs();
        self.calls.set_message(format!("{} calls, {} outcomes published, {elapsed} s", seen.calls, seen.outcomes));
    }

    fn done(&mut self) {
        for bar in [&self.sent, &self.settled, &self.calls] {
            bar.finish_and_clear();
        }
    }
}
