//! Who owns which partition of a group's topic, and which offsets the group committed.
//!
//! Plays the coordinator of the classic protocol with the cooperative-sticky assignor. A rebalance waits until every
//! member takes part in it, that is, until nobody is silent and nobody drains; silent members are expelled when their
//! session ends. It then raises the generation, takes from owners what shall move and gives away what is free; what
//! was taken is given away by the next one, once it was drained.
//!
//! Invariant: a partition has at most one owner, and nobody else is given it before the owner's revocation was
//! acknowledged, or ran into the drain deadline, or its session ended.
//!
//! What the group judges of an offset commit is member and generation. Not ownership: a broker does not either.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use tokio::time::Instant;

use super::{Settings, control::MemberStatus, member::Client, transactions::TransactionNumber};
use crate::log::{CommittedOffset, OffsetCommit, Partition, TopicPartition};

/// Names a member within a log, in the order of joining.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub(super) u64);

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "member {}", self.0)
    }
}

/// What a generation of the seam holds here.
#[derive(Debug, Clone, Copy)]
pub(super) struct LocalGeneration {
    pub(super) member: MemberId,
    pub(super) number: u64,
}

/// The generation of a member that has no membership and knows it.
pub(super) const NO_GENERATION: u64 = 0;

/// Counts revocations, so that an acknowledgement that comes too late ends no later one.
pub(super) type Round = u64;

pub(super) struct Group {
    name: Arc<str>,
    topic: Arc<str>,
    settings: Settings,
    partitions: u32,
    members: BTreeMap<MemberId, Arc<Client>>,
    expelled: BTreeMap<MemberId, Expelled>,
    generation: u64,
    /// Partitions that are not free.
    places: BTreeMap<Partition, Place>,
    /// Who shall own what.
    target: BTreeMap<Partition, MemberId>,
    /// Whether `target` must be worked out anew, because members or partitions came or went.
    unbalanced: bool,
    /// Whether places may differ from `target`.
    unsettled: bool,
    rounds: Round,
    offsets: BTreeMap<TopicPartition, CommittedOffset>,
    /// Of `offsets`: what the disk does not know.
    unwritten: BTreeSet<TopicPartition>,
    /// Offsets of open transactions.
    held: BTreeMap<TransactionNumber, Vec<OffsetCommit>>,
}

/// A group as the disk knows it.
#[derive(Debug)]
pub(super) struct GroupState {
    pub(super) name: Arc<str>,
    pub(super) topic: Arc<str>,
    pub(super) offsets: Vec<(TopicPartition, CommittedOffset)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Owned(MemberId),
    Leaving { from: MemberId, round: Round, until: Instant },
}

/// A member that lives on without its membership.
struct Expelled {
    client: Arc<Client>,
    /// When it joins again even if it does not say that it took note; `None` while it is cut off and knows nothing.
    until: Option<Instant>,
}

impl Group {
    pub(super) fn new(name: Arc<str>, topic: Arc<str>, settings: Settings) -> Self {
        Self {
            name,
            topic,
            settings,
            partitions: 0,
            members: BTreeMap::new(),
            expelled: BTreeMap::new(),
            generation: NO_GENERATION,
            places: BTreeMap::new(),
            target: BTreeMap::new(),
            unbalanced: false,
            unsettled: false,
            rounds: 0,
            offsets: BTreeMap::new(),
            unwritten: BTreeSet::new(),
            held: BTreeMap::new(),
        }
    }

    pub(super) fn name(&self) -> Arc<str> {
        Arc::clone(&self.name)
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// As the disk knew it: its offsets, and no members.
    pub(super) fn restored(state: GroupState, settings: Settings) -> Self {
        let mut group = Self::new(state.name, state.topic, settings);
        group.offsets = state.offsets.into_iter().collect();
        group
    }

    /// Takes the offsets that are to be written, or all.
    pub(super) fn take_changes(&mut self, all: bool) -> Option<GroupState> {
        let unwritten = std::mem::take(&mut self.unwritten);
        let taken = self.offsets.iter().filter(|(at, _)| all || unwritten.contains(*at));
        let offsets: Vec<_> = taken.map(|(at, committed)| (at.clone(), committed.clone())).collect();
        let state = || GroupState { name: self.name.clone(), topic: self.topic.clone(), offsets };
        (all || !unwritten.is_empty()).then(state)
    }

    // Membership.

    /// Takes a member in. One that bears the name of a static member takes its place, and nobody else notices.
    pub(super) fn join(&mut self, client: Arc<Client>) {
        let name = client.spec.instance_id.as_ref();
        let namesake = self.members.values().find(|member| name.is_some() && member.spec.instance_id.as_ref() == name);
        if let Some(older) = namesake.map(|member| member.id) {
            self.replace(older, client);
        } else {
            self.members.insert(client.id, client);
            self.unbalance();
        }
    }

    fn replace(&mut self, older: MemberId, client: Arc<Client>) {
        let newer = client.id;
        if let Some(older) = self.members.remove(&older) {
            older.belief().fence();
        }
        client.belief().generation = self.generation;
        for owner in self.target.values_mut().filter(|owner| **owner == older) {
            *owner = newer;
        }
        // What the older one drained is free: its process is gone.
        self.places.retain(|_, place| !matches!(place, Place::Leaving { from, .. } if *from == older));
        for (partition, place) in &mut self.places {
            if *place == Place::Owned(older) {
                *place = Place::Owned(newer);
                client.belief().assign(*partition);
            }
        }
        self.members.insert(newer, client);
        self.unsettled = true;
    }

    /// Lets a member go; what it owned is free.
    pub(super) fn leave(&mut self, member: MemberId) {
        self.expelled.remove(&member);
        if let Some(client) = self.remove(member) {
            client.belief().retire();
        }
    }

    fn remove(&mut self, member: MemberId) -> Option<Arc<Client>> {
        let client = self.members.remove(&member)?;
        self.places.retain(
            |_, place| !matches!(place, Place::Owned(owner) | Place::Leaving { from: owner, .. } if *owner == member),
        );
        self.unbalance();
        Some(client)
    }

    pub(super) fn silence(&mut self, member: MemberId, now: Instant) {
        let client = self.members.get(&member).expect("it is a member");
        client.belief().silent_since.get_or_insert(now);
    }

    pub(super) fn unsilence(&mut self, member: MemberId, now: Instant) {
        if let Some(client) = self.members.get(&member) {
            let mut belief = client.belief();
            if !belief.dropped {
                belief.silent_since = None;
            }
        } else if let Some(Expelled { client, .. }) = self.expelled.remove(&member) {
            client.belief().silent_since = None;
            self.tell_lost(client, now);
        }
    }

    /// Ends a membership from the group's side. A member that can be told is, and joins again when it took note.
    pub(super) fn expel(&mut self, member: MemberId, now: Instant) {
        let client = self.remove(member).expect("it is a member");
        let (silent, dropped) = {
            let belief = client.belief();
            (belief.silent_since.is_some(), belief.dropped)
        };
        if dropped {
            // Nobody is there to be told.
        } else if silent {
            self.expelled.insert(member, Expelled { client, until: None });
        } else {
            self.tell_lost(client, now);
        }
    }

    fn tell_lost(&mut self, client: Arc<Client>, now: Instant) {
        if client.belief().lose() {
            let until = Some(now + self.settings.drain_deadline);
            self.expelled.insert(client.id, Expelled { client, until });
        } else {
            self.join(client);
        }
    }

    /// A member took note that it was expelled, or had its time to: it joins again, if it is there to.
    pub(super) fn rejoin(&mut self, member: MemberId) {
        let Some(Expelled { client, .. }) = self.expelled.remove(&member) else {
            return;
        };
        if client.belief().silent_since.is_some() {
            self.expelled.insert(member, Expelled { client, until: None });
        } else {
            self.join(client);
        }
    }

    /// A member's process is gone. If it was expelled, it never joins again; if not, its session ends by itself.
    pub(super) fn forget(&mut self, member: MemberId) {
        self.expelled.remove(&member);
    }

    /// A member drained partitions that leave it.
    pub(super) fn acknowledge(&mut self, member: MemberId, drained: &[(Partition, Round)]) {
        // A member that died drops its revocations too, and its group hears nothing of it.
        if self.members.get(&member).is_none_or(|client| client.belief().silent_since.is_some()) {
            return;
        }
        let done: Vec<Partition> = self
            .places
            .iter()
            .filter(|(partition, place)| match place {
                Place::Leaving { from, round, .. } => *from == member && drained.contains(&(**partition, *round)),
                Place::Owned(_) => false,
            })
            .map(|(partition, _)| *partition)
            .collect();
        self.release(&done);
    }

    /// Frees partitions that were leaving. The member's map goes first, then anybody may be given them.
    fn release(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            if let Some(Place::Leaving { from, .. }) = self.places.remove(partition)
                && let Some(client) = self.members.get(&from)
            {
                client.belief().release(*partition);
            }
        }
        self.unsettled |= !partitions.is_empty();
    }

    pub(super) fn status(&self) -> Vec<MemberStatus> {
        let status = |client: &Arc<Client>| {
            let belief = client.belief();
            MemberStatus { id: client.id, owned: belief.owned.clone(), silent: belief.silent_since.is_some() }
        };
        self.members.values().map(status).collect()
    }

    // Rebalances.

    fn unbalance(&mut self) {
        self.unbalanced = true;
        self.unsettled = true;
    }

    pub(super) fn redirect(&mut self, partition: Partition, to: MemberId) {
        assert!(self.members.contains_key(&to), "{to} is a member of {}", self.name);
        assert!(partition < self.partitions, "the topic has that partition");
        self.target.insert(partition, to);
        self.unsettled = true;
    }

    /// Lets happen what is due. Whether anything did.
    pub(super) fn tick(&mut self, partitions: u32, now: Instant) -> bool {
        let before = (self.generation, self.places.len(), self.members.len());
        if self.partitions != partitions {
            self.partitions = partitions;
            self.unbalance();
        }
        for member in self.ended_sessions(now) {
            self.expel(member, now);
        }
        for member in self.expelled_until(now) {
            self.rejoin(member);
        }
        let members = &self.members;
        let overdue = |place: &Place| match place {
            Place::Leaving { from, until, .. } => {
                // The client drops what it could not drain in time; a silent one does nothing.
                *until <= now && members.get(from).is_none_or(|client| client.belief().silent_since.is_none())
            }
            Place::Owned(_) => false,
        };
        let overdue: Vec<Partition> =
            self.places.iter().filter(|(_, place)| overdue(place)).map(|(partition, _)| *partition).collect();
        self.release(&overdue);
        self.settle(now);
        before != (self.generation, self.places.len(), self.members.len())
    }

    fn ended_sessions(&self, now: Instant) -> Vec<MemberId> {
        let ends =
            |client: &Arc<Client>| client.belief().silent_since.map(|since| since + self.settings.session_timeout);
        self.members
            .values()
            .filter(|client| ends(client).is_some_and(|end| end <= now))
            .map(|client| client.id)
            .collect()
    }

    fn expelled_until(&self, now: Instant) -> Vec<MemberId> {
        let due = self.expelled.iter().filter(|(_, expelled)| expelled.until.is_some_and(|until| until <= now));
        due.map(|(member, _)| *member).collect()
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let session_timeout = self.settings.session_timeout;
        let sessions = self.members.values().filter_map(|client| client.belief().silent_since);
        let drains = self.places.values().filter_map(|place| match place {
            Place::Leaving { from, until, .. } => {
                let silent = self.members.get(from).is_some_and(|client| client.belief().silent_since.is_some());
                (!silent).then_some(*until)
            }
            Place::Owned(_) => None,
        });
        let rejoins = self.expelled.values().filter_map(|expelled| expelled.until);
        sessions.map(|since| since + session_timeout).chain(drains).chain(rejoins).min()
    }

    /// A rebalance, if one is due and all members take part.
    fn settle(&mut self, now: Instant) {
        let drains = self.places.values().any(|place| matches!(place, Place::Leaving { .. }));
        let silent = self.members.values().any(|client| client.belief().silent_since.is_some());
        if !self.unsettled || drains || silent {
            return;
        }
        self.unsettled = false;
        self.generation += 1;
        for client in self.members.values() {
            client.belief().generation = self.generation;
        }
        if std::mem::take(&mut self.unbalanced) {
            self.target = self.balance();
        }
        self.rounds += 1;
        for (&partition, &target) in &self.target {
            if let Some(&Place::Owned(owner)) = self.places.get(&partition)
                && owner != target
            {
                let told =
                    self.members.get(&owner).is_some_and(|client| client.belief().revoke(partition, self.rounds));
                if told {
                    let until = now + self.settings.drain_deadline;
                    self.places.insert(partition, Place::Leaving { from: owner, round: self.rounds, until });
                } else {
                    // The owner never heard that it was: nothing is to be drained.
                    self.places.remove(&partition);
                }
            }
            if !self.places.contains_key(&partition)
                && let Some(client) = self.members.get(&target)
            {
                client.belief().assign(partition);
                self.places.insert(partition, Place::Owned(target));
            }
        }
    }

    /// Even shares; everybody keeps what they have, up to their share. Who has most keeps the larger share.
    fn balance(&self) -> BTreeMap<Partition, MemberId> {
        let mut owned: BTreeMap<MemberId, Vec<Partition>> =
            self.members.keys().map(|member| (*member, Vec::new())).collect();
        for (partition, place) in &self.places {
            if let Place::Owned(owner) = place
                && let Some(owned) = owned.get_mut(owner)
            {
                owned.push(*partition);
            }
        }
        let mut shares: Vec<_> = owned.into_iter().collect();
        shares.sort_by_key(|(member, owned)| (std::cmp::Reverse(owned.len()), *member));
        let members = shares.len().max(1);
        let share =
            |rank: usize| self.partitions as usize / members + usize::from(rank < self.partitions as usize % members);
        for (rank, (_, owned)) in shares.iter_mut().enumerate() {
            owned.truncate(share(rank));
        }
        let kept: BTreeSet<_> = shares.iter().flat_map(|(_, owned)| owned.iter().copied()).collect();
        let mut free = (0..self.partitions).filter(|partition| !kept.contains(partition));
        for (rank, (_, owned)) in shares.iter_mut().enumerate() {
            let room = share(rank) - owned.len();
            owned.extend(free.by_ref().take(room));
        }
        shares
            .into_iter()
            .flat_map(|(member, owned)| owned.into_iter().map(move |partition| (partition, member)))
            .collect()
    }

    // Offsets.

    /// Whether a commit under this generation is taken. One of no membership at all is, as by a broker: who has not
    /// joined yet, or was told that it is expelled, must look at what it owns.
    pub(super) fn accepts(&self, generation: &LocalGeneration) -> bool {
        let current = self.members.contains_key(&generation.member) && generation.number == self.generation;
        current || generation.number == NO_GENERATION
    }

    pub(super) fn hold(&mut self, transaction: TransactionNumber, commits: Vec<OffsetCommit>) {
        self.held.entry(transaction).or_default().extend(commits);
    }

    /// Ends a transaction that may hold offsets here.
    pub(super) fn end(&mut self, transaction: TransactionNumber, committed: bool) {
        let held = self.held.remove(&transaction).unwrap_or_default();
        if committed {
            for OffsetCommit { at, offset, metadata } in held {
                self.unwritten.insert(at.clone());
                self.offsets.insert(at, CommittedOffset { offset, metadata });
            }
        }
    }

    pub(super) fn holds(&self, at: &TopicPartition) -> bool {
        self.held.values().flatten().any(|commit| commit.at == *at)
    }

    pub(super) fn committed(&self, at: &TopicPartition) -> Option<CommittedOffset> {
        self.offsets.get(at).cloned()
    }
}
