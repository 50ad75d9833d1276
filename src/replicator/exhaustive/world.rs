//! The world: its state, and the large values of all states, each under a number.

mod acts;
mod steps;
mod trace;
mod worker;

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use self::steps::Step;
use super::{
    crm::{self, Code, Fields, Kind, Remote, Remotes, SmallConnector},
    interned::Interned,
    invariants::{self, Invariant},
    print, search,
};
use crate::{
    config::OnGone,
    contact::{ContactId, ContactRecord, record::FORMAT, record::Status},
    crm::{Request, fingerprint::Fingerprint, link::Link},
    event::{
        Entry, OutcomeKind,
        entry::{Cause, CauseKind},
    },
    privacy::{Hasher, Secret},
    protection::{Protection, Protections},
    replicator::{
        delivery::Terms,
        lane::{Circumstances, End, Task},
        partition::Owned,
    },
};

pub(super) const CONTACT: ContactId = ContactId(uuid::Uuid::nil());
/// Versions of the contact, at most.
const VERSIONS: usize = 3;
/// How long a request may take to land; also the step of the clock.
const LANDING: Duration = Duration::from_secs(30);
/// Requests of one attempt, at most.
const REQUESTS: usize = 5;
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
    /// The credential is refused, and renewed or not.
    pub(super) unauthorized: u8,
    /// The answer to a commit is lost.
    pub(super) unknown: u8,
    /// The partition is taken from its owner, which may drain.
    pub(super) handovers: u8,
    /// The owner is expelled from the group without knowing it.
    pub(super) expulsions: u8,
    /// Somebody deletes the contact in the CRM.
    pub(super) deletions: u8,
    /// A worker that was thought dead writes what no version says, before anything is asked.
    pub(super) zombies: u8,
    /// An operator asks something of the contact: [`Configuration::asks`].
    pub(super) asks: u8,
}

/// One small world.
#[derive(Debug, Clone)]
pub(super) struct Configuration {
    pub(super) kind: Kind,
    pub(super) find_before_create: bool,
    /// What each version says.
    pub(super) contents: Vec<Fields>,
    pub(super) budget: Budget,
    /// What an operator asks, if one does: that the contact be driven anew, or that what waits be skipped.
    pub(super) asks: CauseKind,
    pub(super) tries_before_parking: u32,
    /// The first entry of the partition is another contact's, and holds the committed offset back for as long as it likes.
    pub(super) neighbour: bool,
    /// The view of a worker that owns nothing follows the records, too; else it does so once it is assigned.
    pub(super) idle_follows: bool,
    /// Each event is too old to be tried again.
    pub(super) expires: bool,
    pub(super) on_gone: OnGone,
    pub(super) off: Option<Protection>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct World {
    /// Versions so far: records and entries appear together.
    pub(super) published: u8,
    /// How many versions there were when an operator asked, if one did.
    pub(super) asked: Option<u8>,
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
    /// A zombie wrote, and nothing that was asked since has ended.
    pub(super) haunted: bool,
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
    /// Of what an operator asked.
    pub(super) asked: Option<OutcomeKind>,
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
    /// It answers what an operator asked.
    pub(super) asked: bool,
}

/// The answers to the requests of an attempt so far.
type Codes = [Option<Code>; REQUESTS];

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
                shadow: false,
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
    pub(super) fn versions_below(&self, world: &World, offset: u8) -> u8 {
        let ours = offset.saturating_sub(self.before());
        ours - u8::from(world.asked.is_some_and(|before| before < ours))
    }

    /// Whether the offset of what an operator asked is below `offset`.
    pub(super) fn is_asked_below(&self, world: &World, offset: u8) -> bool {
        world.asked.is_some_and(|before| before < offset.saturating_sub(self.before()))
    }

    /// The entry of our contact at `offset`.
    fn entry_at(&self, world: &World, offset: u64) -> Entry {
        let place = offset - u64::from(self.before());
        match world.asked.map(u64::from) {
            Some(before) if place == before => {
                let cause = Cause { kind: self.configuration.asks, id: String::new() };
                Entry::asked(CONTACT, before, cause, self.terms.crm.clone(), Timestamp::UNIX_EPOCH)
            }
            Some(before) if place > before => entry(place),
            _ => entry(place + 1),
        }
    }

    /// One past the newest entry.
    fn end(&self, world: &World) -> u8 {
        world.published + self.before() + u8::from(world.asked.is_some())
    }

    fn haunted(&self, world: &World) -> Option<Remotes> {
        crm::haunted(self.configuration.kind, &world.remotes, &self.link(world.log.link))
    }

    pub(super) fn contents(&self, version: u8) -> Fields {
        self.configuration.contents[usize::from(version) - 1]
    }

    fn circumstances(&self) -> Circumstances {
        Circumstances {
            now: self.now,
            wall: self.wall,
            paused: false,
            on_gone: self.configuration.on_gone,
            max_age: self.configuration.expires.then_some(LANDING),
            retry_delay: Duration::ZERO,
            parked_delay: Duration::ZERO,
            tries_before_parking: self.configuration.tries_before_parking,
            landing_time: LANDING,
            mapping: Fingerprint::default(),
        }
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
        crm: None,
        link_to: None,
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
            asked: None,
            log: Log { offset: None, released: false, link: 0, outcomes: [None; VERSIONS], asked: None },
            open: [None; 2],
            holder: None,
            processes: [process; 2],
            remotes: Remotes::default(),
            newest_landed: 0,
            deleted_since: false,
            haunted: false,
            adrift: [None; ADRIFT],
            budget: self.configuration.budget,
        }
    }

    fn steps(&self, world: &World) -> Vec<Step> {
        let mut steps = Vec::with_capacity(12);
        if usize::from(world.published) < self.configuration.contents.len() {
            steps.push(Step::Publish);
        }
        if world.budget.asks > 0 && world.published > 0 {
            steps.push(Step::Ask);
        }
        if world.budget.zombies > 0 && world.asked.is_none() && self.haunted(world).is_some() {
            steps.push(Step::Haunt);
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
        steps::is_sure(world, step)
    }

    fn is_quiescent(&self, world: &World) -> bool {
        let answered = &world.log.outcomes[..usize::from(world.published)];
        answered.iter().all(Option::is_some)
            && (world.asked.is_none() || world.log.asked.is_some())
            && world.adrift.iter().all(Option::is_none)
            && world.open.iter().all(Option::is_none)
            && world.processes.iter().all(|process| process.attempts.iter().all(Option::is_none))
            && self.link(world.log.link).open.is_none()
    }

    fn check_quiescent(&self, world: &World) -> Result<(), Invariant> {
        invariants::converged(self, world)
    }

    fn describe(&self, world: &World, step: Step) -> String {
        self.told(world, step)
    }
}
