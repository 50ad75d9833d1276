//! What each step leads to: what the log, the group, the CRM and time do, and what they ask of a worker.

use futures::future::AbortHandle;

use super::{
    CONTACT, Exchange, LANDING, Model, Process, Takeover, Transaction, World, attempt,
    steps::{Effect, Step},
};
use crate::{
    crm::{RequestKind, link::Link},
    event::OutcomeKind,
    protection::Protection,
    replicator::{
        exhaustive::{
            crm::{self, Code, Remote},
            invariants::{self, Invariant},
            print,
        },
        lane::Lane,
        partition::{Owned, Phase},
        takeover::TakenOver,
    },
};

impl Model {
    pub(super) fn act(&self, world: &mut World, step: Step) -> Result<(), Invariant> {
        match step {
            Step::Publish => world.published += 1,
            Step::SeeRecords(worker) => {
                world.processes[worker].sees_record = world.published;
                let process = world.processes[worker];
                if process.owned.is_some() {
                    self.change(world, worker, |owned| self.handle_incoming(owned, &process));
                }
            }
            Step::SeeLinks(worker) => {
                world.processes[worker].sees_link = world.log.link;
                self.rest(world, worker);
            }
            Step::Assign(worker) => {
                world.holder = Some(u8::try_from(worker).expect("two"));
                let process = &mut world.processes[worker];
                process.assignment += 1;
                process.takeover = Takeover::Fencing;
                let abort = AbortHandle::new_pair().0;
                let owned = Owned::new(process.assignment.into(), abort, self.terms.protections);
                process.owned = Some(self.owned_number(owned));
            }
            Step::FindOffset(worker) => {
                if self.holds(Protection::StableOffsets) && world.open[1 - worker].take().is_some() {
                    // It is fenced, whether it lives or not.
                    self.forget_everything(world, 1 - worker);
                }
                let log = world.log;
                world.processes[worker].takeover = Takeover::CatchingUp {
                    start: log.offset.unwrap_or(0),
                    released: log.offset.is_none() || log.released,
                    records: world.published,
                };
            }
            Step::TakeOver(worker) => {
                let process = &mut world.processes[worker];
                let Takeover::CatchingUp { start, released, .. } = process.takeover else {
                    unreachable!("it catches up first")
                };
                process.takeover = Takeover::Done;
                let taken = TakenOver {
                    partition: 0,
                    assignment: process.assignment.into(),
                    start: start.into(),
                    end: self.end(world).into(),
                    released,
                    entries_lost: 0,
                };
                self.change(world, worker, |owned| owned.taken_over(&taken));
            }
            Step::Read(worker) => {
                let process = world.processes[worker];
                let offset = self.owned_of(&process).expect("it reads").ledger.next();
                let entry = (offset >= self.before().into()).then(|| self.entry_at(world, offset));
                self.change(world, worker, |owned| {
                    let Some(entry) = entry else {
                        owned.ledger.read(offset, jiff::Timestamp::UNIX_EPOCH);
                        return;
                    };
                    owned.read(entry, offset);
                    self.handle_incoming(owned, &process);
                });
            }
            Step::NeighbourEnds(worker) => self.change(world, worker, |owned| {
                owned.ledger.answer(0);
                owned.pending.offset = true;
            }),
            Step::Wake(worker) => {
                let link = Link::clone(&*self.link(world.processes[worker].sees_link));
                let protections = self.terms.protections;
                self.change(world, worker, |owned| owned.lanes.insert(CONTACT, Lane::new(link, protections)));
            }
            Step::Begin(worker) => self.begin(world, worker)?,
            Step::Send(worker, slot) => self.send(world, worker, slot)?,
            Step::Land(worker, slot) => {
                let mut attempt = attempt(world, worker, slot);
                let given_up = world.processes[worker].expelled;
                let code = self.land(world, attempt.request, attempt.record, given_up)?;
                attempt.exchange = Exchange::Landed(code);
                world.processes[worker].attempts[slot] = Some(attempt);
            }
            Step::Answer(worker, slot) => {
                let Exchange::Landed(code) = attempt(world, worker, slot).exchange else { unreachable!("it landed") };
                self.answer(world, worker, slot, code)?;
            }
            Step::LoseAnswer(worker, slot) => {
                world.budget.lost -= 1;
                self.set_adrift(world, worker, slot);
                self.answer(world, worker, slot, Code::Lost)?;
            }
            Step::Refuse(worker, slot) => {
                world.budget.refusals -= 1;
                self.answer(world, worker, slot, Code::Refused)?;
            }
            Step::Unauthorized(worker, slot, renewed) => {
                world.budget.unauthorized -= 1;
                self.answer(world, worker, slot, Code::Unauthorized { renewed })?;
            }
            Step::NotSent(worker, slot) => {
                world.budget.errors -= 1;
                self.answer(world, worker, slot, Code::NotSent)?;
            }
            Step::Fail(worker, slot, effect) => {
                world.budget.errors -= 1;
                match effect {
                    Effect::None => {}
                    Effect::Now => {
                        let attempt = attempt(world, worker, slot);
                        self.land(world, attempt.request, attempt.record, false)?;
                    }
                    Effect::Later => self.set_adrift(world, worker, slot),
                }
                self.answer(world, worker, slot, Code::ServerError)?;
            }
            Step::LandAdrift(at) => {
                let (request, version) = world.adrift[at].take().expect("it is there");
                world.adrift.sort_unstable();
                self.land(world, request, version, true)?;
            }
            Step::VanishAdrift(at) => {
                world.adrift[at] = None;
                world.adrift.sort_unstable();
            }
            Step::Delete => {
                world.budget.deletions -= 1;
                world.deleted_since = true;
                let held = world.remotes.iter_mut().find(|remote| matches!(remote, Remote::Held(_)));
                *held.expect("somebody to delete") = Remote::Deleted;
            }
            Step::Haunt => {
                world.budget.zombies -= 1;
                world.haunted = true;
                world.remotes = self.haunted(world).expect("there is somebody");
            }
            Step::Ask => {
                world.budget.asks -= 1;
                world.asked = Some(world.published);
            }
            Step::Prepare(worker) => self.prepare(world, worker),
            Step::Commit(worker) => {
                let number = world.open[worker].take().expect("prepared");
                let transaction = self.transactions.get(number);
                self.commit(world, &transaction)?;
                self.take_effect(world, worker, &transaction);
            }
            Step::CommitUnknown(worker) => {
                world.budget.unknown -= 1;
                self.forget_everything(world, worker);
            }
            Step::CommitOfTheDead(worker) => {
                let number = world.open[worker].take().expect("prepared");
                self.commit(world, &self.transactions.get(number))?;
            }
            Step::Revoke(worker) => {
                world.budget.handovers -= 1;
                // Drains for as long as a request may take to land.
                let deadline = self.now + LANDING;
                self.change(world, worker, |owned| owned.phase = Phase::Draining { deadline });
            }
            Step::LetGo(worker) => {
                if !world.processes[worker].expelled {
                    world.holder = None;
                }
                forget(&mut world.processes[worker]);
            }
            Step::Expel(worker) => {
                world.budget.expulsions -= 1;
                world.holder = None;
                world.processes[worker].expelled = true;
            }
            Step::LearnOfExpulsion(worker) => forget(&mut world.processes[worker]),
            Step::Crash(worker) => {
                world.budget.crashes -= 1;
                self.forget_everything(world, worker);
            }
            Step::Start(worker) => {
                world.processes[worker].up = true;
                // Opening its writer fences its own past.
                world.open[worker] = None;
            }
            Step::TimePasses => self.pass_time(world),
        }
        invariants::no_duplicate_contact(world)
    }

    /// The memory of a process is gone. What it had sent may still land.
    pub(super) fn forget_everything(&self, world: &mut World, worker: usize) {
        for slot in 0..world.processes[worker].attempts.len() {
            if world.processes[worker].attempts[slot].is_some() {
                self.set_adrift(world, worker, slot);
            }
        }
        if world.holder == Some(u8::try_from(worker).expect("two")) {
            world.holder = None;
        }
        let Process { sees_record, sees_link, .. } = world.processes[worker];
        world.processes[worker] = Process { sees_record, sees_link, ..Process::default() };
    }

    /// Nobody waits for the request of an attempt any more.
    pub(super) fn set_adrift(&self, world: &mut World, worker: usize, slot: usize) {
        let attempt = attempt(world, worker, slot);
        let writes = self.requests.get(attempt.request).kind != RequestKind::Read;
        if attempt.exchange == Exchange::Sent && writes {
            let free = world.adrift.iter_mut().find(|adrift| adrift.is_none()).expect("few are lost");
            *free = Some((attempt.request, attempt.record));
            world.adrift.sort_unstable();
        }
    }

    pub(super) fn land(&self, world: &mut World, request: u32, version: u8, given_up: bool) -> Result<Code, Invariant> {
        let request = self.requests.get(request);
        let code = crm::apply(&mut world.remotes, &request);
        if request.kind != RequestKind::Read && code != Code::Gone {
            invariants::order(world, version, given_up)?;
            world.newest_landed = version;
            world.deleted_since = false;
        }
        Ok(code)
    }

    /// What becomes visible of a transaction, all at once.
    pub(super) fn commit(&self, world: &mut World, transaction: &Transaction) -> Result<(), Invariant> {
        invariants::exactly_one_outcome(world, transaction)?;
        invariants::what_was_asked_is_done(transaction, self.configuration.asks)?;
        invariants::only_what_was_asked_is_given_up(transaction)?;
        invariants::no_call_repeated_for_settled(self, world, transaction)?;
        for outcome in &transaction.outcomes {
            if outcome.asked {
                world.log.asked = Some(outcome.kind);
                world.haunted &= !matches!(outcome.kind, OutcomeKind::Delivered);
                continue;
            }
            world.log.outcomes[usize::from(outcome.version) - 1] = Some(outcome.kind);
        }
        if let Some(link) = transaction.link {
            world.log.link = link;
        }
        world.log.offset = Some(transaction.offset);
        world.log.released = transaction.released;
        invariants::commit_never_passes_unanswered(self, world)
    }

    /// A landing time passes: whatever is under way has landed or vanished before. Instants move into the past, so that
    /// now stays now.
    pub(super) fn pass_time(&self, world: &mut World) {
        let due = |number: u32| {
            let mut link = Link::clone(&*self.link(number));
            let Some(open) = &mut link.open else { return number };
            open.next_attempt = open.next_attempt.min(self.wall);
            self.link_number(link)
        };
        world.log.link = due(world.log.link);
        for worker in 0..world.processes.len() {
            let process = &mut world.processes[worker];
            process.sees_link = due(process.sees_link);
            for attempt in process.attempts.iter_mut().flatten() {
                attempt.lost = None;
            }
            if let Some(transaction) = world.open[worker] {
                let mut transaction = Transaction::clone(&*self.transactions.get(transaction));
                transaction.link = transaction.link.map(due);
                let print = print::transaction(&transaction, transaction.assignment, transaction.link);
                world.open[worker] = Some(self.transactions.number(transaction, print));
            }
            if world.processes[worker].owned.is_none() {
                continue;
            }
            self.change(world, worker, |owned| {
                match owned.phase {
                    Phase::Cooling { .. } => owned.cooled(),
                    Phase::Draining { .. } => owned.phase = Phase::Draining { deadline: self.now },
                    _ => {}
                }
                if let Some(lane) = owned.lanes.get_mut(&CONTACT) {
                    lane.forget_waits();
                    if let Some(open) = &mut lane.link.open {
                        open.next_attempt = open.next_attempt.min(self.wall);
                    }
                }
            });
            self.rest(world, worker);
        }
    }
}

/// The partition is no longer ours; what was begun under its assignment goes on.
fn forget(process: &mut Process) {
    process.owned = None;
    process.expelled = false;
    process.takeover = Takeover::Fencing;
}
