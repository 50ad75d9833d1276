//! The wall clock, as something that is passed in.
//!
//! Deadlines and delays are measured with `tokio::time`, which a test can pause. Instants that are written down
//! (`received_at`, `settled_at`, due times of parked contacts) come from here, so that simulated time reaches them too.

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Tells the time of day.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The clock of the machine.
    System,
    /// Simulated: `origin` at the instant `started`, and from there as tokio's clock advances.
    Simulated { origin: Timestamp, started: Instant },
}

impl Clock {
    /// A clock that starts at `origin` now and follows tokio's clock, paused or not.
    pub fn simulated(origin: Timestamp) -> Self {
        Self::Simulated { origin, started: Instant::now() }
    }

    /// The current time of day, UTC.
    pub fn now(&self) -> Timestamp {
        match self {
            #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
            Self::System => Timestamp::now(),
            Self::Simulated { origin, started } => {
                let elapsed =
                    SignedDuration::try_from(started.elapsed()).expect("a simulation is shorter than 292 years");
                *origin + elapsed
            }
        }
    }
}
