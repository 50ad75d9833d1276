//! How long to wait before the next try: exponential, capped, with full jitter.
//!
//! The only file that names the crate `backoff`, which is no longer maintained: it computes the schedule, and nothing
//! else of it is used.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};
use rand::Rng;

/// A schedule of growing delays.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    pub first: Duration,
    pub max: Duration,
}

impl Schedule {
    /// The delay before try number `tries + 1`, after `tries` that failed: uniformly between nothing and the
    /// exponential step, so that contacts that failed together do not return together.
    pub fn delay(&self, tries: u32, random: &mut impl Rng) -> Duration {
        self.step(tries).mul_f64(rand::RngExt::random::<f64>(random))
    }

    /// The step that jitter is taken from: `first`, doubled for every try after the first, at most `max`.
    pub fn step(&self, tries: u32) -> Duration {
        let mut backoff: ExponentialBackoff = ExponentialBackoffBuilder::new()
            .with_initial_interval(self.first)
            .with_multiplier(2.0)
            .with_max_interval(self.max)
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        let mut step = self.first.min(self.max);
        // Past some thirty doublings every sensible schedule has reached its cap.
        for _ in 0..tries.clamp(1, 32) {
            step = backoff.next_backoff().expect("a schedule without an end").min(self.max);
        }
        step
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    const SCHEDULE: Schedule = Schedule { first: Duration::from_secs(1), max: Duration::from_secs(60) };

    #[test]
    fn steps_double_up_to_the_cap() {
        let steps: Vec<u64> = [0, 1, 2, 3, 6, 7, 8, 1000].iter().map(|&tries| SCHEDULE.step(tries).as_secs()).collect();
        assert_eq!(steps, [1, 1, 2, 4, 32, 60, 60, 60]);
    }

    #[test]
    fn jitter_spreads_over_the_whole_step_and_never_passes_it() {
        let mut random = StdRng::seed_from_u64(1);
        let delays: Vec<Duration> = (0..200).map(|_| SCHEDULE.delay(4, &mut random)).collect();
        assert!(delays.iter().all(|delay| *delay <= Duration::from_secs(8)));
        assert!(delays.iter().any(|delay| *delay < Duration::from_secs(2)));
        assert!(delays.iter().any(|delay| *delay > Duration::from_secs(6)));
    }
}
