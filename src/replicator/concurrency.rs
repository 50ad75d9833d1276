//! How many requests may be under way at once: as many as the CRM bears, and never more than the settings allow.
//!
//! A CRM that is at its limit says so in two ways. It refuses (429, 5xx, no answer in time), or it makes requests wait, which
//! shows in what they take. Both are looked at once per *round*: about as many exchanges as may be under way.
//!
//! - A round with a refusal halves the limit.
//! - Else the limit moves towards `gradient × limit + √limit`. The gradient compares what an exchange took with the least that a
//!   round took lately: up to [`TOLERANCE`] times that it is 1, and the limit grows; beyond, it falls with the ratio. This is
//!   the limiter that Netflix's concurrency-limits calls Gradient2, except that it compares with a recent minimum: an average
//!   would take a queue that has built up for what is usual, and let it grow.
//! - A round in which fewer were under way than allowed says nothing about more of them: the limit stays.
//!
//! The least is forgotten after some time, so that a CRM that has become slower for good is driven at full width again.
//!
//! No I/O and no clock: each method takes the instant.

use std::time::Duration;

use tokio::time::Instant;

/// An exchange may take this many times the least before the limit falls.
const TOLERANCE: f64 = 2.0;
/// However slow a round was, its gradient is at least this.
const GRADIENT_MIN: f64 = 0.5;
/// The part of the way to its target that the limit goes in one round.
const STEP: f64 = 0.5;
/// What a round with a refusal leaves of the limit.
const AFTER_REFUSAL: f64 = 0.5;
/// The limit of a CRM of which nothing is known yet, where the settings allow it.
const START: usize = 4;
/// The least that a round took is remembered for this long, and at most twice as long.
const LEAST_KEPT: Duration = Duration::from_secs(30);

/// The limit, and what it is judged by.
#[derive(Debug)]
pub(super) struct Concurrency {
    min: f64,
    max: f64,
    limit: f64,
    round: Round,
    least: Least,
}

/// What was seen since the limit was last judged.
#[derive(Debug, Default)]
struct Round {
    exchanges: u32,
    /// What those took that were not refused, in seconds, and how many these were.
    seconds: f64,
    served: u32,
    refused: bool,
    /// As many were under way as allowed.
    full: bool,
}

/// The least mean of a round, in seconds, of the present span of time and of the one before.
#[derive(Debug)]
struct Least {
    since: Instant,
    present: f64,
    before: f64,
}

impl Concurrency {
    /// Between `min` and `max` requests, `min` being at least 1 and at most `max`. If they are equal nothing adapts.
    pub(super) fn new(min: usize, max: usize, now: Instant) -> Self {
        let least = Least { since: now, present: f64::INFINITY, before: f64::INFINITY };
        let (min, max) = (min as f64, max as f64);
        let mut concurrency = Self { min, max, limit: max, round: Round::default(), least };
        concurrency.start_anew();
        concurrency
    }

    /// The CRM was away and is back: it is not to be met with all that has waited.
    pub(super) fn start_anew(&mut self) {
        self.limit = (START as f64).clamp(self.min, self.max);
        self.round = Round::default();
    }

    /// How many requests may be under way.
    pub(super) fn limit(&self) -> usize {
        // Between the bounds of the settings, both of them whole and small.
        self.limit as usize
    }

    /// As many are under way as allowed.
    pub(super) fn is_full(&mut self) {
        self.round.full = true;
    }

    /// An exchange ended at `now`. `refused`: in a way that says that the CRM has too much to do, whatever it took.
    pub(super) fn exchanged(&mut self, took: Duration, refused: bool, now: Instant) {
        let round = &mut self.round;
        round.exchanges += 1;
        round.refused |= refused;
        if !refused {
            round.served += 1;
            round.seconds += took.as_secs_f64();
        }
        if f64::from(self.round.exchanges) >= self.limit.floor() {
            let round = std::mem::take(&mut self.round);
            self.judge(&round, now);
        }
    }

    fn judge(&mut self, round: &Round, now: Instant) {
        if round.refused {
            self.limit = (self.limit * AFTER_REFUSAL).clamp(self.min, self.max);
            return;
        }
        let mean = round.seconds / f64::from(round.served);
        let least = self.least.with(mean, now);
        if round.full {
            let borne = TOLERANCE * least;
            let gradient = if mean <= borne { 1.0 } else { (borne / mean).max(GRADIENT_MIN) };
            let target = gradient * self.limit + self.limit.sqrt();
            self.limit = (self.limit + STEP * (target - self.limit)).clamp(self.min, self.max);
        }
    }
}

impl Least {
    /// The least of late, `mean` included.
    fn with(&mut self, mean: f64, now: Instant) -> f64 {
        if now.saturating_duration_since(self.since) >= LEAST_KEPT {
            self.before = self.present;
            self.present = f64::INFINITY;
            self.since = now;
        }
        self.present = self.present.min(mean);
        self.present.min(self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: Duration = Duration::from_millis(5);

    /// A CRM that serves `width` requests at a time, each in [`QUICK`], and lets the others wait.
    fn drive(concurrency: &mut Concurrency, width: usize, rounds: usize, now: &mut Instant) {
        for _ in 0..rounds {
            let under_way = concurrency.limit();
            concurrency.is_full();
            let took = QUICK.mul_f64((under_way as f64 / width as f64).max(1.0));
            *now += took;
            for _ in 0..under_way {
                concurrency.exchanged(took, false, *now);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_crm_that_bears_all_gets_all_within_a_few_rounds() {
        let mut now = Instant::now();
        let mut concurrency = Concurrency::new(1, 64, now);
        assert_eq!(concurrency.limit(), START);
        drive(&mut concurrency, 1_000, 40, &mut now);
        assert_eq!(concurrency.limit(), 64);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crm_that_makes_requests_wait_gets_little_more_than_it_serves_at_a_time() {
        let mut now = Instant::now();
        let mut concurrency = Concurrency::new(1, 256, now);
        for _ in 0..10 {
            drive(&mut concurrency, 16, 100, &mut now);
            assert!((16..=64).contains(&concurrency.limit()), "{}", concurrency.limit());
        }
        // Somebody else takes three quarters of it.
        drive(&mut concurrency, 4, 100, &mut now);
        assert!((4..=20).contains(&concurrency.limit()), "{}", concurrency.limit());
    }

    #[tokio::test(start_paused = true)]
    async fn a_crm_that_became_slower_for_good_is_driven_at_full_width_again() {
        let mut now = Instant::now();
        let mut concurrency = Concurrency::new(1, 32, now);
        drive(&mut concurrency, 1_000, 100, &mut now);
        let mut slow = |concurrency: &mut Concurrency, rounds: usize| {
            for _ in 0..rounds {
                concurrency.is_full();
                now += 10 * QUICK;
                for _ in 0..concurrency.limit() {
                    concurrency.exchanged(10 * QUICK, false, now);
                }
            }
        };
        slow(&mut concurrency, 100);
        assert!(concurrency.limit() <= 8, "{}", concurrency.limit());
        slow(&mut concurrency, 2_000);
        assert_eq!(concurrency.limit(), 32);
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_with_a_refusal_halves_the_limit_once() {
        let mut now = Instant::now();
        let mut concurrency = Concurrency::new(2, 64, now);
        drive(&mut concurrency, 1_000, 100, &mut now);
        for expected in [32, 16, 8, 4, 2, 2] {
            for _ in 0..concurrency.limit() {
                concurrency.exchanged(QUICK, true, now);
            }
            assert_eq!(concurrency.limit(), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_is_not_reached_does_not_grow() {
        let mut now = Instant::now();
        let mut concurrency = Concurrency::new(1, 64, now);
        for _ in 0..1_000 {
            now += QUICK;
            concurrency.exchanged(QUICK, false, now);
        }
        assert_eq!(concurrency.limit(), START);
    }

    #[tokio::test(start_paused = true)]
    async fn equal_bounds_leave_nothing_to_adapt() {
        let now = Instant::now();
        let mut concurrency = Concurrency::new(7, 7, now);
        for took in [1, 1_000, 1] {
            for refused in [false, true] {
                for _ in 0..20 {
                    concurrency.is_full();
                    concurrency.exchanged(Duration::from_millis(took), refused, now);
                }
            }
        }
        assert_eq!(concurrency.limit(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_back_is_not_met_with_all_at_once() {
        let mut now = Instant::now();
        let mut concurrency = Concurrency::new(1, 64, now);
        drive(&mut concurrency, 1_000, 100, &mut now);
        concurrency.start_anew();
        assert_eq!(concurrency.limit(), START);
        let mut narrow = Concurrency::new(1, 2, now);
        narrow.start_anew();
        assert_eq!(narrow.limit(), 2);
    }
}
