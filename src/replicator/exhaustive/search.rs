//! Breadth-first search through every state that a world can come to.
//!
//! Breadth first, so that the first violation met is one of the shortest there are. A state is kept as a fingerprint of
//! 128 bits and the step that led to it; the trace of a violation is made by walking those steps once more. What two
//! different states with one fingerprint would cost is one of them; with a million states that is not going to happen.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::{BuildHasherDefault, Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::invariants::Invariant;

/// What can be searched.
pub(super) trait Model {
    type State: Clone + Hash;
    type Step: Copy;

    fn initial(&self) -> Self::State;
    /// What may happen next.
    fn steps(&self, state: &Self::State) -> Vec<Self::Step>;
    /// What it leads to, or which invariant breaks on the way.
    fn apply(&self, state: &Self::State, step: Self::Step) -> Result<Self::State, Invariant>;
    /// Whether a step happens sooner or later if nothing else goes wrong.
    fn is_sure(&self, state: &Self::State, step: Self::Step) -> bool;
    /// Whether nothing is left to be done; then what must hold at rest is looked at.
    fn is_quiescent(&self, state: &Self::State) -> bool;
    fn check_quiescent(&self, state: &Self::State) -> Result<(), Invariant>;
    /// A step as a line to read.
    fn describe(&self, state: &Self::State, step: Self::Step) -> String;
}

/// What a search without violation saw.
#[derive(Debug, Clone, Copy)]
pub(super) struct Explored {
    pub(super) states: usize,
    pub(super) transitions: usize,
    pub(super) quiescent: usize,
}

/// An invariant that breaks, and the shortest way there.
#[derive(Debug)]
pub(super) struct Violation {
    pub(super) invariant: Invariant,
    pub(super) trace: Vec<String>,
    pub(super) states: usize,
}

impl fmt::Display for Explored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, transitions, quiescent } = self;
        write!(f, "{states} states, {quiescent} of them at rest, {transitions} transitions")
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} breaks, after {} states:", self.invariant, self.states)?;
        self.trace.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// More states than this mean that a configuration is too large for a test.
const STATES_MAX: usize = 6_000_000;

/// Explores every state. With `wanted`, ways on which another invariant breaks are left, and the search goes on.
pub(super) fn explore<M: Model>(model: &M, wanted: Option<Invariant>) -> Result<Explored, Violation> {
    let mut search =
        Search { model, seen: HashMap::default(), origins: Vec::new(), sure: Vec::new(), ends: Vec::new() };
    let mut frontier = VecDeque::new();
    let initial = model.initial();
    search.seen.insert(fingerprint(&initial), 0);
    search.origins.push(None);
    frontier.push_back((0_u32, initial));
    let mut transitions = 0;
    while let Some((number, state)) = frontier.pop_front() {
        let steps = model.steps(&state);
        if model.is_quiescent(&state) {
            search.ends.push(number);
            if let Err(invariant) = model.check_quiescent(&state)
                && wanted.is_none_or(|wanted| wanted == invariant)
            {
                return Err(search.violation(invariant, number, None));
            }
        }
        for step in steps {
            transitions += 1;
            // A mechanism that was switched off may fail an assertion of the real code.
            let applied = catch_unwind(AssertUnwindSafe(|| model.apply(&state, step)));
            let next = match applied.unwrap_or(Err(Invariant::assertions_of_the_code)) {
                Ok(next) => next,
                Err(invariant) if wanted.is_none_or(|wanted| wanted == invariant) => {
                    return Err(search.violation(invariant, number, Some(step)));
                }
                Err(_) => continue,
            };
            let new = u32::try_from(search.origins.len()).expect("far fewer");
            let known = *search.seen.entry(fingerprint(&next)).or_insert(new);
            if known == new {
                assert!(search.origins.len() < STATES_MAX, "the configuration is too large");
                search.origins.push(Some((number, step)));
                frontier.push_back((new, next));
            }
            if model.is_sure(&state, step) {
                search.sure.push((number, known));
            }
        }
    }
    let wants_liveness = wanted.is_none_or(|wanted| wanted == Invariant::every_state_can_finish);
    if wants_liveness && let Some(stuck) = search.stuck() {
        return Err(search.violation(Invariant::every_state_can_finish, stuck, None));
    }
    Ok(Explored { states: search.origins.len(), transitions, quiescent: search.ends.len() })
}

struct Search<'a, M: Model> {
    model: &'a M,
    seen: HashMap<u128, u32, BuildHasherDefault<Folded>>,
    /// Per state, the one that it was first met from, and by which step.
    origins: Vec<Option<(u32, M::Step)>>,
    /// Steps that happen sooner or later.
    sure: Vec<(u32, u32)>,
    /// States in which nothing is left to be done.
    ends: Vec<u32>,
}

impl<M: Model> Search<'_, M> {
    /// The first state from which no end can be reached by sure steps.
    fn stuck(&self) -> Option<u32> {
        let mut before: Vec<(u32, u32)> = self.sure.iter().map(|(from, to)| (*to, *from)).collect();
        before.sort_unstable();
        let mut finishes = vec![false; self.origins.len()];
        let mut open = self.ends.clone();
        while let Some(state) = open.pop() {
            if std::mem::replace(&mut finishes[state as usize], true) {
                continue;
            }
            let first = before.partition_point(|(to, _)| *to < state);
            open.extend(before[first..].iter().take_while(|(to, _)| *to == state).map(|(_, from)| *from));
        }
        let stuck = finishes.iter().position(|finishes| !finishes)?;
        Some(u32::try_from(stuck).expect("far fewer"))
    }

    fn violation(&self, invariant: Invariant, mut last: u32, step: Option<M::Step>) -> Violation {
        let mut steps: Vec<M::Step> = step.into_iter().collect();
        while let Some((from, step)) = self.origins[last as usize] {
            steps.push(step);
            last = from;
        }
        steps.reverse();
        let mut state = self.model.initial();
        let mut trace = Vec::with_capacity(steps.len());
        for (number, step) in steps.into_iter().enumerate() {
            trace.push(format!("{:2}. {}", number + 1, self.model.describe(&state, step)));
            match catch_unwind(AssertUnwindSafe(|| self.model.apply(&state, step))) {
                Ok(Ok(next)) => state = next,
                Ok(Err(_)) | Err(_) => break,
            }
        }
        Violation { invariant, trace, states: self.origins.len() }
    }
}

fn fingerprint(state: &impl Hash) -> u128 {
    let mut hasher = Mixed([0x243f_6a88_85a3_08d3, 0x1319_8a2e_0370_7344]);
    state.hash(&mut hasher);
    let [first, second] = hasher.0;
    u128::from(first ^ first >> 29) << 64 | u128::from(second ^ second >> 31)
}

/// Two running products: quick even without optimisation.
struct Mixed([u64; 2]);

impl Mixed {
    fn mix(&mut self, word: u64) {
        self.0[0] = (self.0[0].rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0[1] = (self.0[1].rotate_left(23) ^ word).wrapping_mul(0xd6e8_feb8_6659_fd93) ^ self.0[0] >> 32;
    }
}

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.0[0]
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.mix(u64::from(*byte)));
    }

    fn write_u8(&mut self, word: u8) {
        self.mix(u64::from(word));
    }

    fn write_u32(&mut self, word: u32) {
        self.mix(u64::from(word));
    }

    fn write_u64(&mut self, word: u64) {
        self.mix(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }

    fn write_isize(&mut self, word: isize) {
        self.mix(word as u64);
    }
}

/// The fingerprint is a hash already.
#[derive(Default)]
struct Folded(u64);

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("fingerprints are numbers");
    }

    fn write_u128(&mut self, fingerprint: u128) {
        self.0 = (fingerprint >> 64) as u64;
    }
}
