//! What may happen next in a world, and what of it happens sooner or later.

use super::{CONTACT, Exchange, LANDING, Model, Takeover, World};
use crate::{
    protection::Protection,
    replicator::partition::{Owned, Phase, Release},
};

/// What may happen. The first number says which worker, the second which of its attempts; where nobody waits for a request any more, its
/// place among those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::replicator::exhaustive) enum Step {
    Publish,
    SeeRecords(usize),
    SeeLinks(usize),
    Assign(usize),
    FindOffset(usize),
    TakeOver(usize),
    Read(usize),
    NeighbourEnds(usize),
    Wake(usize),
    Begin(usize),
    Send(usize, usize),
    Land(usize, usize),
    Answer(usize, usize),
    LoseAnswer(usize, usize),
    Refuse(usize, usize),
    /// Whether a renewal brings another credential.
    Unauthorized(usize, usize, bool),
    NotSent(usize, usize),
    Fail(usize, usize, Effect),
    LandAdrift(usize),
    VanishAdrift(usize),
    Delete,
    Haunt,
    Ask,
    Prepare(usize),
    Commit(usize),
    CommitUnknown(usize),
    CommitOfTheDead(usize),
    Revoke(usize),
    LetGo(usize),
    Expel(usize),
    LearnOfExpulsion(usize),
    Crash(usize),
    Start(usize),
    TimePasses,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::replicator::exhaustive) enum Effect {
    None,
    Now,
    Later,
}

/// Whether a step happens sooner or later if nothing else goes wrong.
pub(super) fn is_sure(world: &World, step: Step) -> bool {
    match step {
        // Whoever lives must manage without the dead.
        Step::Start(worker) => !world.processes[1 - worker].up,
        Step::Publish
        | Step::LoseAnswer(..)
        | Step::Refuse(..)
        | Step::Unauthorized(..)
        | Step::NotSent(..)
        | Step::Fail(..)
        | Step::Delete
        | Step::Haunt
        | Step::Ask
        | Step::CommitUnknown(_)
        | Step::CommitOfTheDead(_)
        | Step::Revoke(_)
        | Step::Expel(_)
        | Step::Crash(_) => false,
        _ => true,
    }
}

impl Model {
    pub(super) fn is_final(&self, worker: usize, world: &World) -> bool {
        let process = &world.processes[worker];
        self.owned_of(process).is_none_or(|owned| match owned.phase {
            Phase::Draining { deadline } => !owned.claimed || owned.release == Release::Done || self.now >= deadline,
            _ => false,
        })
    }

    /// Whether a commit may begin, and whether it releases.
    pub(super) fn commits(&self, owned: &Owned) -> Option<bool> {
        let releasing = matches!(owned.phase, Phase::Draining { .. })
            && owned.release == Release::NotYet
            && owned.claimed
            && owned.has_drained(self.now, LANDING);
        (!owned.pending.is_empty() || releasing).then_some(releasing)
    }

    pub(super) fn steps_of(&self, world: &World, worker: usize, steps: &mut Vec<Step>) {
        let process = &world.processes[worker];
        let other = &world.processes[1 - worker];
        let left = &world.budget;
        if !process.up {
            steps.push(Step::Start(worker));
            if world.open[worker].is_some() {
                steps.push(Step::CommitOfTheDead(worker));
            }
            return;
        }
        if left.crashes > 0 && (process.owned.is_some() || process.awaited() > 0 || world.open[worker].is_some()) {
            steps.push(Step::Crash(worker));
        }
        for (slot, attempt) in process.attempts.iter().enumerate() {
            let Some(attempt) = attempt else { continue };
            match attempt.exchange {
                Exchange::ToSend => steps.push(Step::Send(worker, slot)),
                Exchange::Sent => {
                    steps.push(Step::Land(worker, slot));
                    if left.refusals > 0 {
                        steps.push(Step::Refuse(worker, slot));
                    }
                    if left.unauthorized > 0 {
                        steps.extend([true, false].map(|renewed| Step::Unauthorized(worker, slot, renewed)));
                    }
                    if left.errors > 0 {
                        let effects = [Effect::None, Effect::Now, Effect::Later];
                        steps.push(Step::NotSent(worker, slot));
                        steps.extend(effects.map(|effect| Step::Fail(worker, slot, effect)));
                    }
                }
                Exchange::Landed(_) => steps.push(Step::Answer(worker, slot)),
            }
            if left.lost > 0 && attempt.exchange != Exchange::ToSend {
                steps.push(Step::LoseAnswer(worker, slot));
            }
        }
        if world.open[worker].is_some() {
            steps.push(Step::Commit(worker));
            if left.unknown > 0 {
                steps.push(Step::CommitUnknown(worker));
            }
        }
        if process.sees_record < world.published && (process.owned.is_some() || self.configuration.idle_follows) {
            steps.push(Step::SeeRecords(worker));
        }
        let Some(owned) = self.owned_of(process) else {
            let free = world.holder.is_none();
            // Symmetry: the first of two that are the same.
            if free && !(worker == 1 && process == other && world.open[0] == world.open[1]) {
                steps.push(Step::Assign(worker));
            }
            return;
        };
        if process.sees_link != world.log.link {
            steps.push(Step::SeeLinks(worker));
        }
        if process.expelled {
            steps.push(Step::LearnOfExpulsion(worker));
        } else {
            if left.expulsions > 0 {
                steps.push(Step::Expel(worker));
            }
            if left.handovers > 0 && !matches!(owned.phase, Phase::Draining { .. }) {
                steps.push(Step::Revoke(worker));
            }
        }
        if matches!(owned.phase, Phase::Draining { .. }) && self.is_final(worker, world) {
            steps.push(Step::LetGo(worker));
        }
        if owned.phase == Phase::TakingOver {
            match process.takeover {
                Takeover::Fencing => {
                    if self.may_find_offset(world, worker) {
                        steps.push(Step::FindOffset(worker));
                    }
                }
                Takeover::CatchingUp { records, .. } => {
                    let records = !self.holds(Protection::RecordsCatchUp) || process.sees_record >= records;
                    let links = !self.holds(Protection::LinksCatchUp) || process.sees_link == world.log.link;
                    if records && links {
                        steps.push(Step::TakeOver(worker));
                    }
                }
                Takeover::Done => unreachable!("the phase has changed with it"),
            }
        }
        if owned.reads() && owned.ledger.next() < self.end(world).into() && !process.expelled {
            steps.push(Step::Read(worker));
        }
        let neighbour_waits = owned.ledger.commit_point() < owned.ledger.next() && owned.ledger.commit_point() == 0;
        if self.configuration.neighbour && owned.is_working() && neighbour_waits {
            steps.push(Step::NeighbourEnds(worker));
        }
        if owned.is_working() {
            match owned.lanes.get(&CONTACT) {
                Some(lane) => {
                    if lane.is_ready(self.now, self.wall) && process.attempts.contains(&None) {
                        steps.push(Step::Begin(worker));
                    }
                }
                None => {
                    if self.link(process.sees_link).open.is_some() {
                        steps.push(Step::Wake(worker));
                    }
                }
            }
        }
        // The broker refuses a member that it has expelled.
        if world.open[worker].is_none() && !process.expelled && self.commits(&owned).is_some() {
            steps.push(Step::Prepare(worker));
        }
    }

    /// Whether the committed offset is stable, or can be made so. A transaction of our own is waited for.
    pub(super) fn may_find_offset(&self, world: &World, worker: usize) -> bool {
        let fences = self.holds(Protection::Fence) || world.open[1 - worker].is_none();
        !self.holds(Protection::StableOffsets) || (fences && world.open[worker].is_none())
    }
}
