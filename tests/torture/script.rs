//! What is to happen to an installation, made from the seed before the run begins.
//!
//! A pure function: the same seed, length and number of workers give the same script, so that a run that failed can be
//! tried again. Faults overlap as they like, but no two are about the same thing at the same time, and each thing has a
//! moment to itself between two faults, so that what is seen to fail was whole before. Kinds are dealt like cards: each
//! comes once before any comes again.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

/// All that is to happen, in the order of its beginning.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Script {
    /// Whether workers have names of the operator's choice.
    pub(crate) named: bool,
    pub(crate) partitions: u32,
    pub(crate) faults: Vec<Fault>,
}

/// What the script is made for.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) seed: u64,
    pub(crate) lasts: Duration,
    pub(crate) workers: usize,
    pub(crate) crms: usize,
    /// Faults to choose from.
    pub(crate) kinds: Vec<Kind>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fault {
    /// Since the beginning of the load.
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
    pub(crate) kind: Kind,
    /// The worker or the CRM that it strikes, by its place; meaningless for the brokers.
    pub(crate) whom: usize,
    /// Draws what the kind leaves open.
    pub(crate) draw: u64,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal,)*) => {
        /// What can happen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            pub(crate) const ALL: &[Self] = &[$(Self::$kind,)*];

            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

kinds! {
    /// SIGKILL, and a start after a while.
    Kill = "kill",
    /// SIGSTOP for longer than the session, then SIGCONT.
    Freeze = "freeze",
    /// Workers join and leave, one every few seconds.
    Storm = "storm",
    /// SIGKILL, and the folder of the view is removed before the next start.
    ViewDeleted = "view-deleted",
    /// SIGKILL, and a file of the view is cut short before the next start.
    ViewTorn = "view-torn",
    /// SIGTERM to one of two brokers, and a start after a while.
    BrokerStop = "broker-stop",
    /// SIGKILL to it.
    BrokerKill = "broker-kill",
    /// A slow line between a worker and the broker.
    BrokerDelay = "broker-delay",
    /// No line between a worker and the broker.
    BrokerCut = "broker-cut",
    /// The line breaks in the middle of a commit.
    CommitCut = "commit-cut",
    /// A CRM answers 503.
    CrmDown = "crm-down",
    /// A CRM cannot be connected to.
    CrmRefused = "crm-refused",
    /// A CRM takes connections and never answers.
    CrmSilent = "crm-silent",
    /// 429 with Retry-After.
    Throttled = "throttled",
    /// Requests take effect, and their answers are lost.
    AnswersLost = "answers-lost",
    /// Answers come after their deadline.
    AnswersLate = "answers-late",
    /// No line between a worker and any CRM.
    CrmCut = "crm-cut",
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|kind| kind.name() == name).copied();
        let all = || Self::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(", ");
        found.ok_or_else(|| format!("there is no such fault; there are {}", all()))
    }
}

/// What a fault is about: it must be whole when the fault begins, and nothing else may happen to it meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Process(usize),
    BrokerLine(usize),
    CrmLine(usize),
    Crm(usize),
    Broker,
    /// The place of who joins now and then.
    Newcomer,
}

impl Kind {
    /// How long it lasts, in milliseconds: at least, and less than. Freezes outlast a session of six seconds.
    fn lasts(self) -> (u64, u64) {
        match self {
            Self::Kill => (200, 9_000),
            Self::Freeze => (7_000, 10_000),
            Self::Storm => (8_000, 14_000),
            Self::ViewDeleted | Self::ViewTorn => (200, 3_000),
            Self::BrokerStop | Self::BrokerKill => (100, 4_000),
            Self::BrokerDelay => (3_000, 9_000),
            Self::BrokerCut => (500, 9_000),
            Self::CommitCut => (50, 3_000),
            Self::CrmDown | Self::CrmRefused | Self::CrmSilent | Self::CrmCut => (1_000, 6_000),
            Self::Throttled | Self::AnswersLost | Self::AnswersLate => (2_000, 8_000),
        }
    }

    fn strikes_a_crm(self) -> bool {
        matches!(
            self,
            Self::CrmDown
                | Self::CrmRefused
                | Self::CrmSilent
                | Self::Throttled
                | Self::AnswersLost
                | Self::AnswersLate
        )
    }

    fn things(self, whom: usize) -> Vec<Thing> {
        match self {
            Self::Kill | Self::Freeze | Self::ViewDeleted | Self::ViewTorn => vec![Thing::Process(whom)],
            Self::Storm => vec![Thing::Process(whom), Thing::Newcomer],
            Self::BrokerStop | Self::BrokerKill => vec![Thing::Broker],
            Self::BrokerDelay | Self::BrokerCut | Self::CommitCut => vec![Thing::BrokerLine(whom)],
            Self::CrmCut => vec![Thing::CrmLine(whom)],
            _ => vec![Thing::Crm(whom)],
        }
    }
}

/// Before the first fault, so that there is something to break.
const BEGINS: Duration = Duration::from_secs(2);
/// Between two faults of one thing, so that it heals.
const WHOLE: Duration = Duration::from_secs(3);
/// Between the beginnings of two faults, in milliseconds.
const APART: std::ops::Range<u64> = 300..2_500;
/// How often another fault or thing is tried where one is taken.
const TRIES_MAX: usize = 20;

impl Script {
    pub(crate) fn new(scope: &Scope) -> Self {
        let mut random = StdRng::seed_from_u64(scope.seed);
        let named = random.random();
        let partitions = if random.random() { 6 } else { 12 };
        let mut cards = Cards { kinds: &scope.kinds, left: Vec::new() };
        let mut free: BTreeMap<Thing, Duration> = BTreeMap::new();
        let mut faults = Vec::new();
        let mut at = BEGINS;
        while at < scope.lasts && !scope.kinds.is_empty() {
            for _ in 0..TRIES_MAX {
                let kind = cards.draw(&mut random);
                let whom = random.random_range(0..if kind.strikes_a_crm() { scope.crms } else { scope.workers });
                let (least, most) = kind.lasts();
                let lasts = Duration::from_millis(random.random_range(least..most));
                let things = kind.things(whom);
                let is_free = things.iter().all(|thing| free.get(thing).is_none_or(|free| *free <= at));
                if !is_free || at + lasts > scope.lasts {
                    cards.put_back(kind);
                    continue;
                }
                for thing in things {
                    free.insert(thing, at + lasts + WHOLE);
                }
                faults.push(Fault { at, lasts, kind, whom, draw: random.random() });
                break;
            }
            at += Duration::from_millis(random.random_range(APART));
        }
        Self { named, partitions, faults }
    }
}

/// Kinds in the order of chance, each once before any comes again.
struct Cards<'a> {
    kinds: &'a [Kind],
    left: Vec<Kind>,
}

impl Cards<'_> {
    fn draw(&mut self, random: &mut StdRng) -> Kind {
        if self.left.is_empty() {
            self.left = self.kinds.to_vec();
            self.left.shuffle(random);
        }
        self.left.pop().expect("there is a kind to choose from")
    }

    /// To be drawn again after the others.
    fn put_back(&mut self, kind: Kind) {
        self.left.insert(0, kind);
    }
}
