//! The lock around the state of a log, its deadlines, and waiting.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use parking_lot::{Condvar, Mutex};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{
    Settings,
    control::Faults,
    disk::{self, Changes, Disk, DiskSettings, DiskState, Fault},
    group::Group,
    memory::{Read, Topics, Wanted},
    transactions::Transactions,
};
use crate::{
    clock::Clock,
    log::{LogError, Offset, TopicPartition},
};

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
    /// Set by whoever changed what a disk must know.
    pub(super) unwritten: bool,
    /// `None`: the log lives in memory alone.
    pub(super) disk: Option<DiskState>,
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

    /// Why nothing can be done any more, if so.
    pub(super) fn failure(&self) -> Option<LogError> {
        self.disk.as_ref().and_then(|disk| disk.failure.clone()).map(LogError::from)
    }

    /// Takes what the disk does not know; with `all`, whatever is no record.
    pub(super) fn take_changes(&mut self, all: bool) -> Changes {
        self.unwritten = false;
        let (topics, partitions) = self.topics.take_changes(all);
        let groups = self.groups.values_mut().filter_map(|group| group.take_changes(all)).collect();
        let epochs = self.transactions.take_changes(all);
        if let Some(disk) = &mut self.disk {
            disk.taken += 1;
        }
        Changes { topics, partitions, groups, epochs }
    }

    /// Takes all for a new head, and notes how the partitions are at this moment.
    pub(super) fn take_and_survey(&mut self) -> Changes {
        let changes = self.take_changes(true);
        let survey = self.topics.survey();
        if let Some(disk) = &mut self.disk {
            disk.note_survey(survey);
        }
        changes
    }

    fn next_deadline(&self) -> Option<Instant> {
        let of_groups = self.groups.values().filter_map(Group::next_deadline).min();
        of_groups.into_iter().chain(self.transactions.next_deadline()).min()
    }
}

/// What the users of a log and the threads of its disk share.
pub(super) struct Core {
    pub(super) state: Mutex<State>,
    pub(super) changed: Notify,
    /// For the threads of the disk: there is something to write, or something was written.
    pub(super) disk_moved: Condvar,
    pub(super) clock: Clock,
}

pub(super) struct Shared {
    core: Arc<Core>,
    /// Its threads end with the last user of the log.
    disk: Option<Disk>,
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
            unwritten: false,
            disk: None,
        };
        let (state, changed, disk_moved) = (Mutex::new(state), Notify::new(), Condvar::new());
        Self { core: Arc::new(Core { state, changed, disk_moved, clock }), disk: None }
    }

    /// Goes on where the last process ended. Blocks.
    pub(super) fn open(settings: Settings, disk: DiskSettings, clock: Clock) -> Result<Self, Fault> {
        let (opened, found, state_of_disk) = disk::open(disk)?;
        let mut shared = Self::new(settings, clock);
        {
            let mut state = shared.core.state.lock();
            state.topics = Topics::on_disk(found.topics);
            state.transactions = Transactions::restored(found.epochs);
            let groups = found.groups.into_iter().map(|group| (group.name.clone(), Group::restored(group, settings)));
            state.groups = groups.collect();
            state.disk = Some(state_of_disk);
        }
        shared.disk = Some(opened.start(&shared.core)?);
        Ok(shared)
    }

    pub(super) fn disk(&self) -> Option<&Disk> {
        self.disk.as_ref()
    }

    /// Waits until all that was done so far would be found again by the next process.
    pub(super) async fn written(&self) -> Result<(), LogError> {
        if self.disk.is_none() {
            return Ok(());
        }
        let of_disk = |state: &State| {
            let disk = state.disk.as_ref().expect("a log with a disk knows of it");
            (disk.taken, disk.written)
        };
        let number = self.with(|state, _| of_disk(state).0 + u64::from(state.unwritten));
        let reached = |state: &mut State, _: Instant| match state.failure() {
            Some(error) => Ok(Err(error)),
            None if of_disk(state).1 >= number => Ok(Ok(())),
            None => Err(None),
        };
        self.wait(None, reached).await.expect("a wait without an end ends with something seen")
    }

    /// Reads at most `records_max` records of all of `wanted`, in its order.
    pub(super) async fn read(&self, wanted: Vec<Wanted>, records_max: usize) -> Result<Vec<(Wanted, Read)>, LogError> {
        match &self.disk {
            Some(disk) => disk.read(wanted, records_max).await,
            None => Ok(self.with(|state, _| state.topics.read(wanted, records_max))),
        }
    }

    /// The first offset of `at` whose record bears `time` or a later one; the stable end if there is none.
    pub(super) async fn offset_at(&self, at: &TopicPartition, time: Timestamp) -> Result<Option<Offset>, LogError> {
        let Some(disk) = &self.disk else {
            return Ok(self.with(|state, _| state.topics.partition(at).map(|partition| partition.offset_at(time))));
        };
        let wanted = self.with(|state, _| {
            let partition = state.topics.partition(at)?;
            let end = partition.stable_end();
            Some((end, partition.wanted(partition.watermarks().low, end)))
        });
        match wanted {
            None => Ok(None),
            Some((end, None)) => Ok(Some(end)),
            Some((_, Some(wanted))) => disk.offset_at(wanted, time).await.map(Some),
        }
    }

    /// The time that a record written now bears: whole milliseconds, as Kafka's.
    pub(super) fn timestamp(&self) -> Timestamp {
        let now = self.core.clock.now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    /// Brings the state to the current instant and acts on it; wakes who waits if something changed.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut State, Instant) -> R) -> R {
        let now = Instant::now();
        let mut state = self.core.state.lock();
        state.tick(now);
        let result = act(&mut state, now);
        // What was done may have begun or ended a rebalance.
        state.tick(now);
        let changed = std::mem::take(&mut state.changed);
        let to_write = state.unwritten && state.disk.is_some();
        drop(state);
        if to_write {
            self.core.disk_moved.notify_all();
        }
        if changed {
            self.core.changed.notify_waiters();
        }
        result
    }

    /// Wakes who waits: something changed that is not in the state.
    pub(super) fn wake(&self) {
        self.core.changed.notify_waiters();
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
            let changed = self.core.changed.notified();
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
