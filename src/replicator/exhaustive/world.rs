//! The world: its state, what may happen next, and what it leads to.

use std::{cell::RefCell, collections::HashMap, fmt, rc::Rc, sync::Arc, time::Duration};

use futures::future::AbortHandle;
use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    crm::{self, Code, Fields, Kind, Remote, Remotes, SmallConnector},
    interned::Interned,
    invariants::{self, Invariant},
    print, search,
};
use crate::{
    config::OnGone,
    contact::{ContactId, ContactRecord, record::FORMAT, record::Status},
    crm::{Request, RequestKind, link::Link},
    event::{Entry, OutcomeKind},
    privacy::{Hasher, Secret},
    protection::{Protection, Protections},
    replicator::{
        delivery::{Action, Machine, Task, Terms},
        lane::{Circumstances, Decided, End, Lane, Lost},
        partition::{Owned, Pending, Phase, Release},
        takeover::TakenOver,
    },
};

pub(super) const CONTACT: ContactId = ContactId(uuid::Uuid::nil());
/// Versions of the contact, at most.
const VERSIONS: usize = 3;
/// How long a request may take to land; also the step of the clock.
const LANDING: Duration = Duration::from_secs(30);
/// Requests whose answer nobody waits for, at most.
const ADRIFT: usize = 3;

/// What may go wrong, or be asked for, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Budget {
    /// A worker dies, its memory with it.
    pub(super) crashes: u8,
    /// The answer to a request is lost, whether it lands or not.
    pub(super) lost: u8,
    /// A request is refused with 400.
    pub(super) refusals: u8,
    /// A request is answered with 500, whether it takes effect or not, now or later; or there is no connection.
    pub(super) errors: u8,
    /// The answer to a commit is lost.
    pub(super) unknown: u8,
    /// The partition is taken from its owner, which may drain.
    pub(super) handovers: u8,
    /// The owner is expelled from the group without knowing it.
    pub(super) expulsions: u8,
    /// Somebody deletes the contact in the CRM.
    pub(super) deletions: u8,
}

/// One small world.
#[derive(Debug, Clone)]
pub(super) struct Configuration {
    pub(super) kind: Kind,
    pub(super) find_before_create: bool,
    /// What each version says.
    pub(super) contents: Vec<Fields>,
    pub(super) budget: Budget,
    pub(super) tries_before_parking: u32,
    /// The first entry of the partition is another contact's, and holds the committed offset back for as long as it likes.
    pub(super) neighbour: bool,
    /// The view of a worker that owns nothing follows the records, too; else it does so once it is assigned.
    pub(super) idle_follows: bool,
    pub(super) off: Option<Protection>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct World {
    /// Versions so far: records and entries appear together.
    pub(super) published: u8,
    pub(super) log: Log,
    /// Transactions that are prepared and not ended, by writer.
    open: [Option<u32>; 2],
    /// Who has the partition, as the group sees it.
    holder: Option<u8>,
    pub(super) processes: [Process; 2],
    pub(super) remotes: Remotes,
    /// The newest version that changed the CRM.
    pub(super) newest_landed: u8,
    /// Somebody deleted the contact, and nothing was written since.
    pub(super) deleted_since: bool,
    /// Requests that nobody waits for and that may still land, with their versions.
    adrift: [Option<(u32, u8)>; ADRIFT],
    budget: Budget,
}

/// What is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Log {
    /// Committed offset; see [`Model::versions_below`].
    pub(super) offset: Option<u8>,
    released: bool,
    pub(super) link: u32,
    pub(super) outcomes: [Option<OutcomeKind>; VERSIONS],
}

/// A worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Process {
    pub(super) up: bool,
    owned: Option<u32>,
    takeover: Takeover,
    /// Assignments so far.
    assignment: u8,
    /// It is no member any more and does not know.
    pub(super) expelled: bool,
    attempts: [Option<Attempt>; 2],
    /// The newest record in its view.
    sees_record: u8,
    /// The link in its view.
    sees_link: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Takeover {
    #[default]
    Fencing,
    CatchingUp {
        start: u8,
        released: bool,
        records: u8,
    },
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Attempt {
    assignment: u8,
    task: u32,
    record: u8,
    answers: Codes,
    lost: Option<u32>,
    request: u32,
    exchange: Exchange,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Exchange {
    ToSend,
    Sent,
    Landed(Code),
}

/// What is committed together.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Transaction {
    assignment: u8,
    link: Option<u32>,
    pub(super) outcomes: Vec<Outcome>,
    offset: u8,
    released: bool,
    awaited: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    pub(super) version: u8,
    pub(super) kind: OutcomeKind,
    pub(super) by: Option<u8>,
}

/// What may happen. The first number says which worker, the second which of its attempts; where nobody waits for a request any more, its
/// place among those.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
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
    NotSent(usize, usize),
    Fail(usize, usize, Effect),
    LandAdrift(usize),
    VanishAdrift(usize),
    Delete,
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
pub(super) enum Effect {
    None,
    Now,
    Later,
}

/// The answers to the requests of an attempt so far.
type Codes = [Option<Code>; 3];

/// What comes next in an attempt.
#[derive(Debug)]
enum Next {
    Send(u32),
    End(End),
}

/// The world's rules, and all large values of its states.
pub(super) struct Model {
    configuration: Configuration,
    terms: Terms,
    records: Vec<ContactRecord>,
    now: Instant,
    wall: Timestamp,
    links: Interned<Link>,
    owned: Interned<Owned>,
    tasks: Interned<Task>,
    requests: Interned<Request>,
    transactions: Interned<Transaction>,
    /// What the machine wanted before, by task, record and answers.
    nexts: RefCell<HashMap<(u32, u8, Codes), Rc<Next>>>,
}

impl Process {
    pub(super) fn awaited(&self) -> usize {
        self.attempts.iter().flatten().filter(|attempt| attempt.exchange != Exchange::ToSend).count()
    }
}

impl Model {
    pub(super) fn new(configuration: Configuration) -> Self {
        let protections = configuration.off.map_or(Protections::default(), |off| Protections::default().without(off));
        let connector = SmallConnector { kind: configuration.kind, contents: configuration.contents.clone() };
        let model = Self {
            terms: Terms {
                crm: "crm".into(),
                connector: Arc::new(connector),
                hasher: Hasher::new(&Secret::new("a secret of the tests")),
                find_before_create: configuration.find_before_create,
                protections,
            },
            records: (1..=VERSIONS as u64).map(record).collect(),
            now: Instant::now() + LANDING * 100,
            wall: Timestamp::from_second(1_000_000).expect("a moment"),
            links: Interned::new(Link::eq),
            owned: Interned::new(print::same_owned),
            tasks: Interned::new(print::same_task),
            requests: Interned::new(Request::eq),
            transactions: Interned::new(Transaction::eq),
            nexts: RefCell::default(),
            configuration,
        };
        assert_eq!(model.link_number(Link::new(CONTACT)), 0, "the first link is that of nobody");
        model
    }

    fn holds(&self, protection: Protection) -> bool {
        self.terms.protections.hold(protection)
    }

    pub(super) fn link(&self, number: u32) -> Rc<Link> {
        self.links.get(number)
    }

    fn link_number(&self, link: Link) -> u32 {
        let print = print::link(&link);
        self.links.number(link, print)
    }

    fn owned_number(&self, owned: Owned) -> u32 {
        let print = print::owned(&owned, self.now);
        self.owned.number(owned, print)
    }

    fn task_number(&self, task: Task) -> u32 {
        let print = print::task(&task);
        self.tasks.number(task, print)
    }

    fn request_number(&self, request: Request) -> u32 {
        let print = print::request(&request);
        self.requests.number(request, print)
    }

    /// Entries before those of our contact.
    fn before(&self) -> u8 {
        u8::from(self.configuration.neighbour)
    }

    /// Versions with an offset below `offset`.
    pub(super) fn versions_below(&self, offset: u8) -> u8 {
        offset.saturating_sub(self.before())
    }

    /// One past the newest entry.
    fn end(&self, world: &World) -> u8 {
        world.published + self.before()
    }

    pub(super) fn contents(&self, version: u8) -> Fields {
        self.configuration.contents[usize::from(version) - 1]
    }

    fn circumstances(&self) -> Circumstances {
        Circumstances {
            now: self.now,
            wall: self.wall,
            paused: false,
            on_gone: OnGone::Recreate,
            max_age: None,
            retry_delay: Duration::ZERO,
            parked_delay: Duration::ZERO,
            tries_before_parking: self.configuration.tries_before_parking,
            landing_time: LANDING,
        }
    }

    /// The delivery machine after `answers`, and what it wants.
    #[expect(clippy::result_large_err, reason = "as the machine's own end")]
    fn drive<'a>(&'a self, task: &'a Task, record: u8, answers: &Codes) -> Result<(Machine<'a>, Action), End> {
        let mut machine = Machine::new(&self.terms, task, &self.records[usize::from(record) - 1])?;
        let mut action = machine.begin();
        for answer in answers.iter().flatten() {
            action = machine.answered(answer.answer(), self.now);
        }
        Ok((machine, action))
    }

    fn next(&self, task: u32, record: u8, answers: Codes) -> Rc<Next> {
        let key = (task, record, answers);
        if let Some(next) = self.nexts.borrow().get(&key) {
            return next.clone();
        }
        let next = match self.drive(&self.tasks.get(task), record, &answers) {
            Err(end) | Ok((_, Action::End(end))) => Next::End(end),
            Ok((_, Action::Send(request))) => Next::Send(self.request_number(request)),
            Ok((_, Action::Renew)) => unreachable!("no credential is refused here"),
        };
        let next = Rc::new(next);
        self.nexts.borrow_mut().insert(key, next.clone());
        next
    }

    fn owned_of(&self, process: &Process) -> Option<Rc<Owned>> {
        process.owned.map(|owned| self.owned.get(owned))
    }

    /// Lets `change` work on what `worker` owns.
    fn change<T>(&self, world: &mut World, worker: usize, change: impl FnOnce(&mut Owned) -> T) -> T {
        let process = &mut world.processes[worker];
        let mut owned = Owned::clone(&*self.owned_of(process).expect("it owns the partition"));
        let result = change(&mut owned);
        process.owned = Some(self.owned_number(owned));
        result
    }

    fn is_final(&self, worker: usize, world: &World) -> bool {
        let process = &world.processes[worker];
        self.owned_of(process).is_none_or(|owned| match owned.phase {
            Phase::Draining { deadline } => !owned.claimed || owned.release == Release::Done || self.now >= deadline,
            _ => false,
        })
    }

    /// Whether a commit may begin, and whether it releases.
    fn commits(&self, owned: &Owned) -> Option<bool> {
        let releasing = matches!(owned.phase, Phase::Draining { .. })
            && owned.release == Release::NotYet
            && owned.claimed
            && owned.has_drained(self.now, LANDING);
        (!owned.pending.is_empty() || releasing).then_some(releasing)
    }

    fn steps_of(&self, world: &World, worker: usize, steps: &mut Vec<Step>) {
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
    fn may_find_offset(&self, world: &World, worker: usize) -> bool {
        let fences = self.holds(Protection::Fence) || world.open[1 - worker].is_none();
        !self.holds(Protection::StableOffsets) || (fences && world.open[worker].is_none())
    }

    fn act(&self, world: &mut World, step: Step) -> Result<(), Invariant> {
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
                self.change(world, worker, |owned| {
                    let offset = owned.ledger.next();
                    if offset < self.before().into() {
                        owned.ledger.read(offset);
                        return;
                    }
                    owned.read(entry(offset + 1 - u64::from(self.before())), offset);
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
    fn forget_everything(&self, world: &mut World, worker: usize) {
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
    fn set_adrift(&self, world: &mut World, worker: usize, slot: usize) {
        let attempt = attempt(world, worker, slot);
        let writes = self.requests.get(attempt.request).kind != RequestKind::Read;
        if attempt.exchange == Exchange::Sent && writes {
            let free = world.adrift.iter_mut().find(|adrift| adrift.is_none()).expect("few are lost");
            *free = Some((attempt.request, attempt.record));
            world.adrift.sort_unstable();
        }
    }

    fn land(&self, world: &mut World, request: u32, version: u8, given_up: bool) -> Result<Code, Invariant> {
        let request = self.requests.get(request);
        let code = crm::apply(&mut world.remotes, &request);
        if request.kind != RequestKind::Read && code != Code::Gone {
            invariants::order(world, version, given_up)?;
            world.newest_landed = version;
            world.deleted_since = false;
        }
        Ok(code)
    }

    /// Hands entries to the lane as far as the view covers them.
    fn handle_incoming(&self, owned: &mut Owned, process: &Process) {
        while let Some((entry, offset)) = owned.incoming.front().filter(|_| owned.reads()).cloned() {
            if u64::from(process.sees_record) < entry.version {
                break;
            }
            owned.incoming.pop_front();
            owned.handle(entry, offset, || Link::clone(&*self.link(process.sees_link)));
        }
    }

    /// Lets go of a lane with nothing left to do, once the view holds its link.
    fn rest(&self, world: &mut World, worker: usize) {
        let process = &world.processes[worker];
        let Some(owned) = self.owned_of(process) else { return };
        let Some(lane) = owned.lanes.get(&CONTACT) else { return };
        let seen = lane.link == *self.link(process.sees_link) || !self.holds(Protection::Overlay);
        if lane.is_idle(self.now, LANDING) && owned.pending.links.is_empty() && seen {
            self.change(world, worker, |owned| owned.lanes.remove(&CONTACT));
        }
    }

    fn begin(&self, world: &mut World, worker: usize) -> Result<(), Invariant> {
        let (task, lost, needed) = self.change(world, worker, |owned| {
            let lane = owned.lanes.get_mut(&CONTACT).expect("a lane is ready");
            lane.begin();
            let needed = lane.link.open.as_ref().map_or(1, |open| open.entry.version);
            (lane.task(), lane.lost(self.now, LANDING).cloned(), needed)
        });
        let process = &mut world.processes[worker];
        let attempt = Attempt {
            assignment: process.assignment,
            task: self.task_number(task),
            record: process.sees_record,
            answers: [None; 3],
            lost: lost.map(|Lost { request, .. }| self.request_number(Request::clone(&request))),
            request: 0,
            exchange: Exchange::ToSend,
        };
        let slot = process.attempts.iter().position(Option::is_none).expect("one is free");
        process.attempts[slot] = Some(attempt);
        if u64::from(attempt.record) < needed {
            return self.ended(world, worker, slot, End::MustWait { until: self.now });
        }
        self.go_on(world, worker, slot)
    }

    /// Lets the machine of an attempt say what comes next.
    fn go_on(&self, world: &mut World, worker: usize, slot: usize) -> Result<(), Invariant> {
        let mut attempt = attempt(world, worker, slot);
        match &*self.next(attempt.task, attempt.record, attempt.answers) {
            Next::Send(request) => {
                (attempt.request, attempt.exchange) = (*request, Exchange::ToSend);
                world.processes[worker].attempts[slot] = Some(attempt);
                Ok(())
            }
            Next::End(end) => self.ended(world, worker, slot, end.clone()),
        }
    }

    /// Asks for leave as an attempt does, and sends.
    fn send(&self, world: &mut World, worker: usize, slot: usize) -> Result<(), Invariant> {
        let mut sending = attempt(world, worker, slot);
        let process = &world.processes[worker];
        let request = self.requests.get(sending.request);
        let repeats = |lost: u32| request.kind == RequestKind::Set && lost == sending.request;
        let ours = self.owned_of(process).is_some_and(|owned| owned.assignment == u64::from(sending.assignment));
        let kept_back = if sending.lost.is_some_and(|lost| !repeats(lost)) && self.holds(Protection::LostWait) {
            Some(End::MustWait { until: self.now + LANDING })
        } else if (!ours || process.expelled) && self.holds(Protection::OwnMap) {
            Some(End::MustWait { until: self.now })
        } else {
            None
        };
        if let Some(end) = kept_back {
            let task = self.tasks.get(sending.task);
            let Ok((machine, _)) = self.drive(&task, sending.record, &sending.answers) else {
                unreachable!("it wanted to send")
            };
            return self.ended(world, worker, slot, machine.kept_back(end));
        }
        sending.exchange = Exchange::Sent;
        world.processes[worker].attempts[slot] = Some(sending);
        invariants::one_in_flight(world)
    }

    fn answer(&self, world: &mut World, worker: usize, slot: usize, code: Code) -> Result<(), Invariant> {
        let mut answered = attempt(world, worker, slot);
        let place = answered.answers.iter_mut().find(|answer| answer.is_none()).expect("few requests");
        *place = Some(code);
        world.processes[worker].attempts[slot] = Some(answered);
        self.go_on(world, worker, slot)
    }

    fn ended(&self, world: &mut World, worker: usize, slot: usize, end: End) -> Result<(), Invariant> {
        let ended = attempt(world, worker, slot);
        let process = &mut world.processes[worker];
        process.attempts[slot] = None;
        process.attempts.sort_unstable_by_key(Option::is_none);
        let Some(owned) = self.owned_of(process) else { return Ok(()) };
        if owned.assignment != u64::from(ended.assignment) && self.holds(Protection::AssignmentNumber) {
            return Ok(());
        }
        if owned.lanes.get(&CONTACT).is_none_or(|lane| !lane.is_in_flight()) {
            assert!(!self.holds(Protection::AssignmentNumber), "a lane outlives its attempt");
            return Ok(());
        }
        if let End::Judged { outcome: OutcomeKind::Unchanged, .. } = &end {
            invariants::unchanged_is_true(self, world, ended.record)?;
        }
        self.change(world, worker, |owned| {
            let lane = owned.lanes.get_mut(&CONTACT).expect("just seen");
            let decided: Decided = lane.end(end, self.circumstances());
            owned.note(CONTACT, decided);
        });
        Ok(())
    }

    /// Takes what was decided, as a batch does, and prepares its transaction.
    fn prepare(&self, world: &mut World, worker: usize) {
        let assignment = world.processes[worker].assignment;
        let transaction = self.change(world, worker, |owned| {
            let releasing = self.commits(owned).expect("there is something to commit");
            let released = releasing && owned.may_release(self.now, LANDING);
            if releasing {
                owned.release = Release::Committing;
            }
            let Pending { links, answers, .. } = std::mem::take(&mut owned.pending);
            let lane = owned.lanes.get(&CONTACT);
            let link = links.first().map(|_| &lane.expect("a lane outlives its commit").link);
            let outcomes = answers.into_iter().map(|(_, answer)| Outcome {
                version: u8::try_from(answer.entry.version).expect("few"),
                kind: answer.outcome,
                by: answer.by_version.map(|by| u8::try_from(by).expect("few")),
            });
            Transaction {
                assignment,
                link: link.map(|link| self.link_number(link.clone())),
                outcomes: outcomes.collect(),
                offset: u8::try_from(owned.ledger.commit_point()).expect("few"),
                released,
                awaited: link.is_some() && lane.is_some_and(Lane::awaits_commit),
            }
        });
        let print = print::transaction(&transaction, transaction.assignment, transaction.link);
        world.open[worker] = Some(self.transactions.number(transaction, print));
    }

    /// What becomes visible of a transaction, all at once.
    fn commit(&self, world: &mut World, transaction: &Transaction) -> Result<(), Invariant> {
        invariants::exactly_one_outcome(world, transaction)?;
        invariants::no_call_repeated_for_settled(self, world, transaction)?;
        for outcome in &transaction.outcomes {
            world.log.outcomes[usize::from(outcome.version) - 1] = Some(outcome.kind);
        }
        if let Some(link) = transaction.link {
            world.log.link = link;
        }
        world.log.offset = Some(transaction.offset);
        world.log.released = transaction.released;
        invariants::commit_never_passes_unanswered(self, world)
    }

    fn take_effect(&self, world: &mut World, worker: usize, transaction: &Transaction) {
        let Some(owned) = self.owned_of(&world.processes[worker]) else { return };
        if owned.assignment != u64::from(transaction.assignment) {
            return;
        }
        self.change(world, worker, |owned| {
            if transaction.awaited
                && let Some(lane) = owned.lanes.get_mut(&CONTACT)
            {
                lane.committed();
            }
            if owned.release == Release::Committing {
                owned.release = Release::Done;
            }
            owned.claimed = true;
            if owned.phase == Phase::Claiming {
                let cools = owned.is_tainted() && self.holds(Protection::TakeoverWait);
                if cools {
                    owned.phase = Phase::Cooling { until: self.now + LANDING };
                } else {
                    owned.cooled();
                }
            }
        });
    }

    /// A landing time passes: whatever is under way has landed or vanished before. Instants move into the past, so that
    /// now stays now.
    fn pass_time(&self, world: &mut World) {
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

fn attempt(world: &World, worker: usize, slot: usize) -> Attempt {
    world.processes[worker].attempts[slot].expect("an attempt is under way")
}

fn entry(version: u64) -> Entry {
    Entry {
        contact_id: CONTACT,
        version,
        event: None,
        received_at: Timestamp::UNIX_EPOCH,
        traceparent: None,
        cause: None,
        epoch: 1,
        format: FORMAT,
    }
}

fn record(version: u64) -> ContactRecord {
    ContactRecord {
        contact_id: CONTACT,
        version,
        status: Status::Live,
        merged_into: None,
        contact: None,
        provenance: std::collections::BTreeMap::new(),
        members: Vec::new(),
        event: None,
        received_at: Timestamp::UNIX_EPOCH,
        epoch: 1,
        format: FORMAT,
    }
}

impl search::Model for Model {
    type State = World;
    type Step = Step;

    fn initial(&self) -> World {
        let process = Process { up: true, ..Process::default() };
        World {
            published: 0,
            log: Log { offset: None, released: false, link: 0, outcomes: [None; VERSIONS] },
            open: [None; 2],
            holder: None,
            processes: [process; 2],
            remotes: Remotes::default(),
            newest_landed: 0,
            deleted_since: false,
            adrift: [None; ADRIFT],
            budget: self.configuration.budget,
        }
    }

    fn steps(&self, world: &World) -> Vec<Step> {
        let mut steps = Vec::with_capacity(12);
        if usize::from(world.published) < self.configuration.contents.len() {
            steps.push(Step::Publish);
        }
        for worker in 0..world.processes.len() {
            self.steps_of(world, worker, &mut steps);
        }
        for (at, adrift) in world.adrift.iter().enumerate() {
            if adrift.is_some() {
                steps.extend([Step::LandAdrift(at), Step::VanishAdrift(at)]);
            }
        }
        if world.budget.deletions > 0 && world.remotes.iter().any(|remote| matches!(remote, Remote::Held(_))) {
            steps.push(Step::Delete);
        }
        let settled = world.adrift.iter().all(Option::is_none);
        if settled && world.processes.iter().all(|process| process.awaited() == 0) {
            steps.push(Step::TimePasses);
        }
        steps
    }

    fn apply(&self, world: &World, step: Step) -> Result<World, Invariant> {
        let mut next = *world;
        self.act(&mut next, step)?;
        Ok(next)
    }

    fn is_sure(&self, world: &World, step: Step) -> bool {
        match step {
            // Whoever lives must manage without the dead.
            Step::Start(worker) => !world.processes[1 - worker].up,
            Step::Publish
            | Step::LoseAnswer(..)
            | Step::Refuse(..)
            | Step::NotSent(..)
            | Step::Fail(..)
            | Step::Delete
            | Step::CommitUnknown(_)
            | Step::CommitOfTheDead(_)
            | Step::Revoke(_)
            | Step::Expel(_)
            | Step::Crash(_) => false,
            _ => true,
        }
    }

    fn is_quiescent(&self, world: &World) -> bool {
        let answered = &world.log.outcomes[..usize::from(world.published)];
        answered.iter().all(Option::is_some)
            && world.adrift.iter().all(Option::is_none)
            && world.open.iter().all(Option::is_none)
            && world.processes.iter().all(|process| process.attempts.iter().all(Option::is_none))
            && self.link(world.log.link).open.is_none()
    }

    fn check_quiescent(&self, world: &World) -> Result<(), Invariant> {
        invariants::converged(self, world)
    }

    fn describe(&self, world: &World, step: Step) -> String {
        let request = |worker: usize, slot: usize| {
            let attempt = attempt(world, worker, slot);
            format!("{} for version {}", crm::describe(&self.requests.get(attempt.request)), attempt.record)
        };
        let adrift = |at: usize| {
            let (request, version) = world.adrift[at].expect("it is there");
            format!("{} for version {version}", crm::describe(&self.requests.get(request)))
        };
        let transaction = |worker: usize| {
            let number = world.open[worker].expect("it is open");
            self.transactions.get(number).to_string()
        };
        let name = |worker: usize| ["A", "B"][worker];
        match step {
            Step::Publish => {
                let said = self.contents(world.published + 1);
                let said: Vec<_> = crm::FIELDS.iter().zip(said).filter(|(_, value)| *value != 0).collect();
                format!("version {} is published: {said:?}", world.published + 1)
            }
            Step::Send(worker, slot) => format!("{} wants to send: {}", name(worker), request(worker, slot)),
            Step::Land(worker, slot) => format!("lands, of {}: {}", name(worker), request(worker, slot)),
            Step::Answer(worker, slot) => format!("{} hears the answer to: {}", name(worker), request(worker, slot)),
            Step::LoseAnswer(worker, slot) => {
                format!("{} loses the answer to: {}", name(worker), request(worker, slot))
            }
            Step::Refuse(worker, slot) => format!("{} is refused (400): {}", name(worker), request(worker, slot)),
            Step::NotSent(worker, slot) => {
                format!("{} gets no connection for: {}", name(worker), request(worker, slot))
            }
            Step::Fail(worker, slot, effect) => {
                format!("{} is answered 500 (effect: {effect:?}): {}", name(worker), request(worker, slot))
            }
            Step::LandAdrift(at) => format!("lands, given up before: {}", adrift(at)),
            Step::VanishAdrift(at) => format!("never lands: {}", adrift(at)),
            Step::Commit(worker) => format!("{} commits {}", name(worker), transaction(worker)),
            Step::CommitUnknown(worker) => {
                format!("{} does not hear whether it committed {}", name(worker), transaction(worker))
            }
            Step::CommitOfTheDead(worker) => {
                format!("the transaction that {} left is committed: {}", name(worker), transaction(worker))
            }
            Step::Delete => "somebody deletes the contact in the CRM".to_owned(),
            Step::TimePasses => "the landing time passes".to_owned(),
            Step::SeeRecords(worker) => format!("{} sees the newest record", name(worker)),
            Step::SeeLinks(worker) => format!("{} sees the newest link", name(worker)),
            Step::Assign(worker) => format!("{} is assigned the partition", name(worker)),
            Step::FindOffset(worker) => format!("{} reads the committed offset", name(worker)),
            Step::TakeOver(worker) => format!("{} has taken over", name(worker)),
            Step::Read(worker) => format!("{} reads an entry", name(worker)),
            Step::NeighbourEnds(worker) => format!("{} has the answer of another contact", name(worker)),
            Step::Wake(worker) => format!("{} wakes the parked contact", name(worker)),
            Step::Begin(worker) => format!("{} begins an attempt", name(worker)),
            Step::Prepare(worker) => format!("{} begins a commit", name(worker)),
            Step::Revoke(worker) => format!("{} is to hand the partition over", name(worker)),
            Step::LetGo(worker) => format!("{} lets the partition go", name(worker)),
            Step::Expel(worker) => format!("{} is expelled without knowing", name(worker)),
            Step::LearnOfExpulsion(worker) => format!("{} learns that it was expelled", name(worker)),
            Step::Crash(worker) => format!("{} dies", name(worker)),
            Step::Start(worker) => format!("{} starts again", name(worker)),
        }
    }
}

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (owned, links, requests) = (self.owned.len(), self.links.len(), self.requests.len());
        write!(f, "{owned} states of the partition, {links} links, {requests} requests")
    }
}

impl fmt::Display for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {}", self.offset)?;
        if self.link.is_some() {
            f.write_str(", the link")?;
        }
        for Outcome { version, kind, .. } in &self.outcomes {
            write!(f, ", version {version} {kind:?}")?;
        }
        f.write_str(if self.released { ", released" } else { "" })
    }
}
