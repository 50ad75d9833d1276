//! A member of a group, and what it believes.
//!
//! The group decides; the member believes what it was told last. Both agree as long as the member is heard of. A member
//! that is silent (dropped, or cut off by a test) goes on believing while its group expels it: that difference is what
//! sessions, generations and assignment numbers are for, so it is kept here and not derived.
//!
//! What the reader is told follows from the belief when it asks: what it was told it owns and no longer does is
//! revoked, what it owns and was not told is assigned. So there is no queue of events that could grow.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use tokio::{sync::oneshot, time::Instant};

use super::{
    group::{Group, LocalGeneration, MemberId, NO_GENERATION, Round},
    memory::{Read, Wanted},
    shared::{Shared, State},
};
use crate::log::{
    AssignmentNumber, Generation, GroupEvent, GroupSpec, LogError, Member, MemberHandle, Offset, Partition, Record,
    Revocation, TopicPartition,
};

/// Most records in one event.
const EVENT_RECORDS_MAX: usize = 500;

/// A member's side of its membership.
pub(super) struct Client {
    pub(super) id: MemberId,
    pub(super) spec: GroupSpec,
    /// Locked for moments, under the lock of the log or alone.
    belief: Mutex<Belief>,
}

impl Client {
    pub(super) fn belief(&self) -> MutexGuard<'_, Belief> {
        self.belief.lock()
    }
}

/// What a member believes.
#[derive(Default)]
pub(super) struct Belief {
    pub(super) generation: u64,
    pub(super) owned: BTreeMap<Partition, AssignmentNumber>,
    /// Partitions that the reader was told it owns, and not yet told that it does not.
    told: BTreeSet<Partition>,
    /// Of `told`: revoked, in which round.
    leaving: BTreeMap<Partition, Round>,
    /// Of `owned`: revoked and not yet drained. What drains can still be committed, so it stays in the map.
    draining: BTreeSet<Partition>,
    /// Of `told`: gone with the membership.
    lost: BTreeSet<Partition>,
    assignments: AssignmentNumber,
    started: BTreeMap<Partition, Started>,
    /// Where the next records are looked for, so that one busy partition does not starve the rest.
    turn: Partition,
    /// When the group last heard of it, if it no longer does.
    pub(super) silent_since: Option<Instant>,
    /// Nobody reads it any more.
    pub(super) dropped: bool,
    confirmed: Option<Instant>,
    /// Another member took its name.
    fenced: bool,
}

#[derive(Debug, Clone, Copy)]
struct Started {
    position: Offset,
    paused: bool,
}

impl Belief {
    pub(super) fn assign(&mut self, partition: Partition) {
        self.assignments += 1;
        self.owned.insert(partition, self.assignments);
    }

    /// Takes a partition away. Whether the reader knew of it, and so must be asked to drain.
    pub(super) fn revoke(&mut self, partition: Partition, round: Round) -> bool {
        self.started.remove(&partition);
        let told = self.told.contains(&partition) && !self.lost.contains(&partition);
        if told {
            self.leaving.insert(partition, round);
            self.draining.insert(partition);
        } else {
            self.owned.remove(&partition);
        }
        told
    }

    /// A revoked partition has drained, or had its time.
    pub(super) fn release(&mut self, partition: Partition) {
        self.draining.remove(&partition);
        self.owned.remove(&partition);
    }

    /// Takes everything away, without a chance to drain. Whether the reader has anything to take note of.
    pub(super) fn lose(&mut self) -> bool {
        self.retire();
        self.generation = NO_GENERATION;
        self.leaving.clear();
        self.lost = self.told.clone();
        !self.lost.is_empty()
    }

    /// Owns nothing any more.
    pub(super) fn retire(&mut self) {
        self.owned.clear();
        self.draining.clear();
        self.started.clear();
    }

    /// Loses everything to a namesake. Its generation stays, for the group to refuse.
    pub(super) fn fence(&mut self) {
        let generation = self.generation;
        self.lose();
        self.generation = generation;
        self.fenced = true;
    }

    /// Partitions that were lost, if the reader has not been told.
    fn take_lost(&mut self) -> Option<Vec<Partition>> {
        let lost: Vec<_> = std::mem::take(&mut self.lost).into_iter().collect();
        self.told.retain(|partition| !lost.contains(partition));
        (!lost.is_empty()).then_some(lost)
    }

    fn take_leaving(&mut self) -> Option<Vec<(Partition, Round)>> {
        let leaving: Vec<_> = std::mem::take(&mut self.leaving).into_iter().collect();
        self.told.retain(|partition| !leaving.iter().any(|(left, _)| left == partition));
        (!leaving.is_empty()).then_some(leaving)
    }

    fn take_assigned(&mut self) -> Option<Vec<(Partition, AssignmentNumber)>> {
        let news = self
            .owned
            .iter()
            .filter(|(partition, _)| !self.told.contains(*partition))
            .filter(|(partition, _)| !self.draining.contains(*partition));
        let assigned: Vec<_> = news.map(|(partition, number)| (*partition, *number)).collect();
        self.told.extend(assigned.iter().map(|(partition, _)| *partition));
        (!assigned.is_empty()).then_some(assigned)
    }

    /// What started partitions have to read, beginning with the one whose turn it is.
    fn wanted(&mut self, state: &mut State, spec: &GroupSpec) -> Vec<Wanted> {
        let turn = self.turn;
        let from_turn = self.started.range(turn..).chain(self.started.range(..turn));
        let order: Vec<_> = from_turn.filter(|(_, started)| !started.paused).map(|(partition, _)| *partition).collect();
        let mut wanted = Vec::new();
        for partition in order {
            let Some(started) = self.started.get_mut(&partition) else {
                continue;
            };
            let at = TopicPartition::new(Arc::clone(&spec.topic), partition);
            let Some(log) = state.topics.partition(&at) else {
                continue;
            };
            if !log.contains(started.position) {
                // A group's reader is set to go on at the low end; who must know compares offsets itself.
                started.position = log.watermarks().low;
            }
            wanted.extend(log.wanted(started.position, log.stable_end()));
        }
        wanted
    }

    /// Takes what was read, unless the partition was paused, revoked or started elsewhere meanwhile.
    fn accept(&mut self, read: Vec<(Wanted, Read)>, records_max: usize) -> Option<Vec<Record>> {
        let mut accepted = Vec::new();
        for (wanted, Read { records, position }) in read {
            let partition = wanted.at.partition;
            let as_wanted = |started: &&mut Started| started.position == wanted.position && !started.paused;
            if let Some(started) = self.started.get_mut(&partition).filter(as_wanted) {
                started.position = position;
                accepted.extend(records);
                if accepted.len() >= records_max {
                    self.turn = partition + 1;
                }
            }
        }
        (!accepted.is_empty()).then_some(accepted)
    }
}

/// What a look at the state gave: an event, but for what is made of it outside the lock.
enum Seen {
    Lost(Vec<Partition>),
    Leaving(Vec<(Partition, Round)>),
    Assigned(Vec<(Partition, AssignmentNumber)>),
    Wanted(Vec<Wanted>),
    Fenced,
    Failed(LogError),
}

pub(super) struct LocalMember {
    shared: Arc<Shared>,
    client: Arc<Client>,
}

impl LocalMember {
    pub(super) fn join(shared: Arc<Shared>, spec: GroupSpec) -> Result<Self, LogError> {
        let client = shared.with(|state, _| {
            if state.topics.partitions(&spec.topic).is_none() {
                return Err(LogError::UnknownTopic { topic: Arc::clone(&spec.topic) });
            }
            let settings = state.settings;
            let group = state
                .groups
                .entry(Arc::clone(&spec.group))
                .or_insert_with(|| Group::new(Arc::clone(&spec.group), Arc::clone(&spec.topic), settings));
            if group.topic() != &*spec.topic {
                return Err(LogError::Unusable {
                    reason: format!("group {} shares out {}, not {}", spec.group, group.topic(), spec.topic),
                });
            }
            state.members_joined += 1;
            let id = MemberId(state.members_joined);
            let client = Arc::new(Client { id, spec, belief: Mutex::default() });
            group.join(Arc::clone(&client));
            state.changed = true;
            Ok(client)
        })?;
        Ok(Self { shared, client })
    }

    fn look(&self, state: &mut State) -> Option<Seen> {
        if let Some(error) = state.failure() {
            return Some(Seen::Failed(error));
        }
        let mut belief = self.client.belief();
        if let Some(lost) = belief.take_lost() {
            return Some(Seen::Lost(lost));
        }
        if belief.fenced {
            return Some(Seen::Fenced);
        }
        if let Some(leaving) = belief.take_leaving() {
            return Some(Seen::Leaving(leaving));
        }
        if let Some(assigned) = belief.take_assigned() {
            return Some(Seen::Assigned(assigned));
        }
        if belief.silent_since.is_some() {
            // Cut off: nothing is fetched either.
            return None;
        }
        let wanted = belief.wanted(state, &self.client.spec);
        (!wanted.is_empty()).then_some(Seen::Wanted(wanted))
    }

    /// A revocation, and a task that waits for its end.
    fn revocation(&self, partitions: Vec<Partition>, lost: bool, drained: Vec<(Partition, Round)>) -> Revocation {
        let (done, dropped) = oneshot::channel();
        let (shared, client) = (Arc::clone(&self.shared), Arc::clone(&self.client));
        tokio::spawn(async move {
            // Sent or dropped: both mean that it is done.
            match dropped.await {
                Ok(()) | Err(_) => {}
            }
            shared.with(|state, _| {
                let Some(group) = state.groups.get_mut(&client.spec.group) else {
                    return;
                };
                if lost {
                    group.rejoin(client.id);
                } else {
                    group.acknowledge(client.id, &drained);
                }
                state.changed = true;
            });
        });
        Revocation { partitions, lost, done }
    }
}

#[async_trait]
impl Member for LocalMember {
    async fn next(&mut self) -> Result<GroupEvent, LogError> {
        loop {
            let seen = self.shared.wait(None, |state, _| self.look(state).ok_or(None)).await;
            return match seen.expect("a wait without an end ends with something seen") {
                Seen::Lost(partitions) => Ok(GroupEvent::Revoked(self.revocation(partitions, true, Vec::new()))),
                Seen::Leaving(leaving) => {
                    let partitions = leaving.iter().map(|(partition, _)| *partition).collect();
                    Ok(GroupEvent::Revoked(self.revocation(partitions, false, leaving)))
                }
                Seen::Assigned(assigned) => Ok(GroupEvent::Assigned(assigned)),
                Seen::Wanted(wanted) => {
                    let records_max = self.client.spec.queue_records_max.clamp(1, EVENT_RECORDS_MAX);
                    let read = self.shared.read(wanted, records_max).await?;
                    match self.client.belief().accept(read, records_max) {
                        Some(records) => Ok(GroupEvent::Records(records)),
                        None => continue,
                    }
                }
                Seen::Fenced => {
                    let GroupSpec { group, instance_id, .. } = &self.client.spec;
                    let name = instance_id.as_deref().unwrap_or_default();
                    Err(LogError::Unusable { reason: format!("another member of {group} took the name {name}") })
                }
                Seen::Failed(error) => Err(error),
            };
        }
    }

    fn handle(&self) -> Arc<dyn MemberHandle> {
        let session_timeout = self.shared.with(|state, _| state.settings.session_timeout);
        Arc::new(LocalHandle { shared: Arc::clone(&self.shared), client: Arc::clone(&self.client), session_timeout })
    }

    async fn leave(self: Box<Self>) {
        // A static member says no farewell: whoever bears its name next shall find its partitions.
        if self.client.spec.instance_id.is_none() {
            self.resign().await;
        }
    }

    async fn resign(self: Box<Self>) {
        self.shared.with(|state, _| {
            if let Some(group) = state.groups.get_mut(&self.client.spec.group) {
                group.leave(self.client.id);
                state.changed = true;
            }
        });
    }
}

impl Drop for LocalMember {
    /// A member that was not said to leave is as one whose process died: silent from now on.
    fn drop(&mut self) {
        self.shared.with(|state, now| {
            let mut belief = self.client.belief();
            belief.dropped = true;
            belief.silent_since.get_or_insert(now);
            drop(belief);
            if let Some(group) = state.groups.get_mut(&self.client.spec.group) {
                group.forget(self.client.id);
            }
            // Who waits for a rebalance must know of the new deadline.
            state.changed = true;
        });
    }
}

struct LocalHandle {
    shared: Arc<Shared>,
    client: Arc<Client>,
    session_timeout: Duration,
}

impl fmt::Debug for LocalHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.client.id, self.client.spec.group)
    }
}

impl LocalHandle {
    fn set_paused(&self, partition: Partition, paused: bool) {
        if let Some(started) = self.client.belief().started.get_mut(&partition) {
            started.paused = paused;
        }
        self.shared.wake();
    }
}

#[async_trait]
impl MemberHandle for LocalHandle {
    fn group(&self) -> &str {
        &self.client.spec.group
    }

    fn start(&self, partition: Partition, offset: Offset) {
        let mut belief = self.client.belief();
        if belief.owned.contains_key(&partition) && !belief.draining.contains(&partition) {
            belief.started.insert(partition, Started { position: offset, paused: false });
        }
        drop(belief);
        self.shared.wake();
    }

    fn pause(&self, partition: Partition) {
        self.set_paused(partition, true);
    }

    fn resume(&self, partition: Partition) {
        self.set_paused(partition, false);
    }

    fn is_member(&self) -> bool {
        self.client.belief().generation != NO_GENERATION
    }

    fn owned(&self) -> BTreeMap<Partition, AssignmentNumber> {
        self.client.belief().owned.clone()
    }

    fn owns(&self, partition: Partition) -> Option<AssignmentNumber> {
        self.client.belief().owned.get(&partition).copied()
    }

    fn confirmed_age(&self) -> Duration {
        let belief = self.client.belief();
        // While it is heard of, every moment confirms it.
        belief
            .silent_since
            .max(belief.confirmed.filter(|_| belief.silent_since.is_some()))
            .map_or(Duration::ZERO, |last| last.elapsed())
    }

    fn session_timeout(&self) -> Duration {
        self.session_timeout
    }

    async fn prove(&self, partition: Partition) -> Result<bool, LogError> {
        let Client { id, spec, .. } = &*self.client;
        self.shared.with(|state, _| {
            let belief = self.client.belief();
            if belief.silent_since.is_some() {
                let reason = "the member is cut off".to_owned();
                return Err(LogError::Unavailable { doing: "proving an assignment", reason });
            }
            let generation = LocalGeneration { member: *id, number: belief.generation };
            let owned = belief.owned.contains_key(&partition);
            let group = state.groups.get(&spec.group);
            // Without a membership it owns nothing, so that the generation judged here is one.
            Ok(owned && group.is_some_and(|group| group.accepts(&generation)))
        })
    }

    fn generation(&self) -> Generation {
        let number = self.client.belief().generation;
        Generation(Arc::new(LocalGeneration { member: self.client.id, number }))
    }

    fn confirmed(&self) {
        self.client.belief().confirmed = Some(Instant::now());
    }
}
