//! What must hold, each by name.

use super::{
    crm::{ABSENT, Fields, Remote},
    world::{Model, Outcome, Transaction, World},
};
use crate::event::{OutcomeKind, entry::CauseKind};

/// An invariant that breaks. The names are those of the functions that look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "a red test shows the name of the function to read")]
pub(super) enum Invariant {
    exactly_one_outcome,
    what_was_asked_is_done,
    only_what_was_asked_is_given_up,
    converged,
    no_duplicate_contact,
    unchanged_is_true,
    no_call_repeated_for_settled,
    order,
    one_in_flight,
    commit_never_passes_unanswered,
    every_state_can_finish,
    assertions_of_the_code,
}

type Held = Result<(), Invariant>;

fn holds(condition: bool, otherwise: Invariant) -> Held {
    if condition { Ok(()) } else { Err(otherwise) }
}

/// No entry gets a second outcome, and one that is superseded is so by a version above it that exists.
pub(super) fn exactly_one_outcome(before: &World, transaction: &Transaction) -> Held {
    let fits = transaction.outcomes.iter().all(|outcome| {
        let fresh = match outcome.asked {
            true => before.log.asked.is_none(),
            false => before.log.outcomes[usize::from(outcome.version) - 1].is_none(),
        };
        let follows = outcome.by.is_none_or(|by| outcome.version < by && by <= before.published);
        fresh && follows && outcome.by.is_some() == (outcome.kind == OutcomeKind::Superseded)
    });
    holds(fits, Invariant::exactly_one_outcome)
}

/// What an operator asked to be driven never ends as if there were nothing to do; what was to be given up is not driven.
pub(super) fn what_was_asked_is_done(transaction: &Transaction, asks: CauseKind) -> Held {
    let is_done = |outcome: &Outcome| match asks {
        CauseKind::Skip => matches!(outcome.kind, OutcomeKind::Filtered | OutcomeKind::Unchanged),
        _ => outcome.kind != OutcomeKind::Unchanged,
    };
    let done = transaction.outcomes.iter().filter(|outcome| outcome.asked).all(is_done);
    holds(done, Invariant::what_was_asked_is_done)
}

/// No event is given up but by an operator, together with what that one asked.
pub(super) fn only_what_was_asked_is_given_up(transaction: &Transaction) -> Held {
    let given_up = |outcome: &&Outcome| outcome.kind == OutcomeKind::Filtered;
    let events = transaction.outcomes.iter().filter(given_up).filter(|outcome| !outcome.asked).count();
    let asked = transaction.outcomes.iter().filter(given_up).filter(|outcome| outcome.asked).count();
    holds(events <= asked, Invariant::only_what_was_asked_is_given_up)
}

/// The committed offset leaves behind only entries that have their outcome, or the one that is parked.
pub(super) fn commit_never_passes_unanswered(model: &Model, after: &World) -> Held {
    let link = model.link(after.log.link);
    let open = link.open.as_ref().and_then(|open| open.entry.as_ref()).map(|entry| entry.version);
    let offset = after.log.offset.unwrap_or(0);
    let passed = 1..=model.versions_below(after, offset);
    let kept = link.open.as_ref().is_some_and(|open| open.asked.is_some());
    let asked = !model.is_asked_below(after, offset) || after.log.asked.is_some() || kept;
    let answered = |version: u8| after.log.outcomes[usize::from(version) - 1].is_some();
    holds(
        asked && passed.into_iter().all(|version| answered(version) || open == Some(version.into())),
        Invariant::commit_never_passes_unanswered,
    )
}

/// What was delivered is not called unchanged afterwards: it would have been gone through twice.
pub(super) fn no_call_repeated_for_settled(model: &Model, before: &World, transaction: &Transaction) -> Held {
    let link = model.link(before.log.link);
    let delivered = link.settled.as_ref().filter(|settled| settled.outcome == OutcomeKind::Delivered);
    let repeated = transaction.outcomes.iter().any(|outcome| {
        outcome.kind == OutcomeKind::Unchanged
            && !outcome.asked
            && delivered.is_some_and(|settled| settled.version == u64::from(outcome.version))
    });
    holds(!repeated, Invariant::no_call_repeated_for_settled)
}

/// A contact that a delivery called unchanged is held as its record says, unless somebody wrote who was thought dead.
pub(super) fn unchanged_is_true(model: &Model, world: &World, version: u8) -> Held {
    holds(world.haunted || equals(world, model.contents(version)), Invariant::unchanged_is_true)
}

/// The CRM equals the newest record once there is nothing left to do, unless it refused that record, the record was given up,
/// as too old or by an operator, or the CRM lost its contact by itself since. A zombie's late write stands only until what an operator asked for
/// after it has been delivered.
pub(super) fn converged(model: &Model, world: &World) -> Held {
    let newest = world.published;
    let Some(outcome) = newest.checked_sub(1).and_then(|newest| world.log.outcomes[usize::from(newest)]) else {
        return Ok(());
    };
    let excused = matches!(outcome, OutcomeKind::Rejected | OutcomeKind::Expired | OutcomeKind::Filtered)
        || world.deleted_since
        || world.haunted;
    holds(excused || equals(world, model.contents(newest)), Invariant::converged)
}

fn equals(world: &World, contents: Fields) -> bool {
    if contents == ABSENT {
        return !world.remotes.iter().any(|remote| matches!(remote, Remote::Held(_)));
    }
    world.remotes.contains(&Remote::Held(contents))
}

/// The CRM holds one contact of ours at most.
pub(super) fn no_duplicate_contact(world: &World) -> Held {
    let held = world.remotes.iter().filter(|remote| matches!(remote, Remote::Held(_))).count();
    holds(held <= 1, Invariant::no_duplicate_contact)
}

/// What changes the CRM lands in the order of versions, but for what was given up.
pub(super) fn order(world: &World, version: u8, given_up: bool) -> Held {
    holds(given_up || world.newest_landed <= version, Invariant::order)
}

/// No live worker sends while another request that somebody waits for may still take effect.
pub(super) fn one_in_flight(world: &World) -> Held {
    let awaited = world.processes.iter().filter(|process| process.up && !process.expelled);
    let awaited: usize = awaited.map(|process| process.awaited()).sum();
    holds(awaited <= 1, Invariant::one_in_flight)
}
