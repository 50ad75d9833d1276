//! The lock around the state of a log, its deadlines, and waiting.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{Settings, control::Faults, group::Group, memory::Topics, transactions::Transactions};
use crate::clock::Clock;

/// Everything a log knows.
pub(super) struct State {
    pub(super) settings: Settings,
    pub(super) topics: Topics,
    pub(super) transactions: Transactions,
    pub(super) groups: BTreeMap<Arc<str>, Group>,
    pub(super) members_joined: u64,
    /// How much later than members followers see what is committed.
    pub(super) follower_lag: Duration,
    pub(super) faults: Option<Arc<dyn Faults>>,
    /// Set by whoever changed what somebody may wait for.
    pub(super) changed: bool,
}

impl State {
    /// Lets everything happen that is due at `now`.
    fn tick(&mut self, now: Instant) {
        self.tick_transactions(now);
        let Self { groups, topics, changed, .. } = self;
        for group in groups.values_mut() {
            let partitions = topics.partitions(group.topic()).unwrap_or(0);
            *changed |= group.tick(partitions, now);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let of_groups = self.groups.values().filter_map(Group::next_deadline).min();
        of_groups.into_iter().chain(self.transactions.next_deadline()).min()
    }
}

pub(super) struct Shared {
    state: Mutex<State>,
    changed: Notify,
    clock: Clock,
}

impl Shared {
    pub(super) fn new(settings: Settings, clock: Clock) -> Self {
        let state = State {
            settings,
            topics: Topics::default(),
            transactions: Transactions::default(),
            groups: BTreeMap::new(),
            members_joined: 0,
            follower_lag: Duration::ZERO,
            faults: None,
            changed: false,
        };
        Self { state: Mutex::new(state), changed: Notify::new(), clock }
    }

    /// The time that a record written now bears: whole milliseconds, as Kafka's.
    pub(super) fn timestamp(&self) -> Timestamp {
        let now = self.clock.now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    /// Brings the state to the current instant and acts on it; wakes who waits if something changed.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut State, Instant) -> R) -> R {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.tick(now);
        let result = act(&mut state, now);
        // What was done may have begun or ended a rebalance.
        state.tick(now);
        let changed = std::mem::take(&mut state.changed);
        drop(state);
        if changed {
            self.changed.notify_waiters();
        }
        result
    }

    /// Wakes who waits: something changed that is not in the state.
    pub(super) fn wake(&self) {
        self.changed.notify_waiters();
    }

    /// Looks at the state until there is something to see, and gives up (`None`) at `until`. A look that sees nothing
    /// may say when to look again, whatever happens until then. Cancel-safe: nothing follows a successful look.
    pub(super) async fn wait<R>(
        &self,
        until: Option<Instant>,
        mut look: impl FnMut(&mut State, Instant) -> Result<R, Option<Instant>>,
    ) -> Option<R> {
        loop {
            // Registered before the look, so that no change falls between look and sleep.
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (again, deadline) = match self.with(|state, now| (look(state, now), state.next_deadline())) {
                (Ok(seen), _) => return Some(seen),
                (Err(again), deadline) => (again, deadline),
            };
            if until.is_some_and(|until| until <= Instant::now()) {
                return None;
            }
            match again.into_iter().chain(deadline).chain(until).min() {
                Some(wake) => tokio::select! {
                    biased;
                    () = &mut changed => {}
                    () = sleep_until(wake) => {}
                },
                None => changed.await,
            }
        }
    }
}
