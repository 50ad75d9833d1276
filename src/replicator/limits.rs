//! How many requests may leave: a rate over all workers, of which each takes the share of the partitions it owns.

use std::{num::NonZeroU32, time::Duration};

use async_trait::async_trait;
use governor::{
    Quota, RateLimiter,
    clock::{Clock, Reference},
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::crm::remote::Turn;

/// tokio's clock for the limiter, so that simulated time reaches it.
#[derive(Debug, Clone, Copy, Default)]
struct TokioClock;

/// An instant of tokio's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Moment(Instant);

impl Clock for TokioClock {
    type Instant = Moment;

    fn now(&self) -> Moment {
        Moment(Instant::now())
    }
}

impl Reference for Moment {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_duration_since(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.checked_sub(duration.into()).unwrap_or(self.0))
    }
}

impl std::ops::Add<Nanos> for Moment {
    type Output = Self;

    fn add(self, duration: Nanos) -> Self {
        Self(self.0 + Duration::from(duration))
    }
}

type Limiter = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Moment>>;

/// Requests per second of one worker for one CRM.
#[derive(Debug)]
pub struct Rate {
    /// Over all workers; not positive: no limit.
    per_second: f64,
    limiter: Mutex<Option<std::sync::Arc<Limiter>>>,
}

impl Rate {
    pub fn new(per_second: f64) -> Self {
        Self { per_second, limiter: Mutex::new(None) }
    }

    /// The whole rate, for a process that shares it with nobody.
    pub fn whole(per_second: f64) -> Self {
        let rate = Self::new(per_second);
        rate.share(1, 1);
        rate
    }

    /// Takes the share of `owned` partitions among `all`.
    pub(super) fn share(&self, owned: usize, all: u32) {
        let share = share(self.per_second, owned, all);
        let limiter = (share > 0.0).then(|| {
            // One at a time, evenly spaced: a burst is what a limit of requests per second is meant to prevent.
            let quota = Quota::with_period(Duration::from_secs_f64(1.0 / share)).expect("a positive rate has a period");
            std::sync::Arc::new(RateLimiter::direct_with_clock(quota.allow_burst(NonZeroU32::MIN), TokioClock))
        });
        *self.limiter.lock() = limiter;
    }
}

/// What a worker that owns `owned` of `all` partitions takes of a rate over all workers.
pub fn share(per_second: f64, owned: usize, all: u32) -> f64 {
    per_second * owned as f64 / f64::from(all.max(1))
}

#[async_trait]
impl Turn for Rate {
    /// Cancel-safe: a wait given up takes nothing from the rate.
    async fn wait(&self) {
        loop {
            let Some(limiter) = self.limiter.lock().clone() else { return };
            match limiter.check() {
                Ok(()) => return,
                Err(not_until) => {
                    let wait = not_until.wait_time_from(Moment(Instant::now()));
                    tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn leave(rate: &Rate, requests: u32) -> Duration {
        let start = Instant::now();
        for _ in 0..requests {
            rate.wait().await;
        }
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_takes_the_share_of_its_partitions() {
        let rate = Rate::new(100.0);
        rate.share(6, 24);
        let took = leave(&rate, 51).await;
        assert!(took >= Duration::from_secs(2) && took < Duration::from_millis(2_200), "{took:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_alone_takes_all_of_it() {
        let took = leave(&Rate::whole(2.0), 3).await;
        assert!(took >= Duration::from_secs(1) && took < Duration::from_millis(1_100), "{took:?}");
        assert_eq!(leave(&Rate::whole(0.0), 1_000).await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_waits_for_nothing() {
        let rate = Rate::new(0.0);
        rate.share(1, 24);
        assert_eq!(leave(&rate, 1_000).await, Duration::ZERO);
    }
}
