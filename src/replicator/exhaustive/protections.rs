//! Each protection in turn is switched off, and a named invariant breaks.
//!
//! A protection whose absence broke nothing would protect nothing, or this world would be too small to see what: then
//! the promise would rest on belief.

use std::collections::BTreeSet;

use super::{
    configurations::{BY_DATA, NOTHING, PLANTED, quiet},
    crm::{Fields, Kind},
    invariants::Invariant,
    search::explore,
    world::{Budget, Configuration, Model},
};
use crate::protection::Protection;

const ONE: &[Fields] = &[[1, 0]];
const TWO: &[Fields] = &[[1, 0], [2, 0]];
const GROWS: &[Fields] = &[[1, 0], [1, 2]];
const CHANGED_AND_CLEARED: &[Fields] = &[[1, 2], [3, 0]];
const THERE_AND_BACK: &[Fields] = &[[1, 0], [2, 0], [1, 0]];

/// Switches off `off`, and expects that `invariant` breaks; then on again, and expects that it does not.
fn breaks(off: Protection, invariant: Invariant, configuration: Configuration) {
    let model = Model::new(Configuration { off: Some(off), ..configuration.clone() });
    match explore(&model, Some(invariant)) {
        Ok(explored) => panic!("nothing broke {invariant:?} without {off:?}: {explored}"),
        Err(violation) => println!("without {off:?}, {violation}"),
    }
    if let Err(violation) = explore(&Model::new(configuration), None) {
        panic!("with {off:?}: {violation}");
    }
}

/// One test for each protection: what breaks without it, and in which world.
macro_rules! protections {
    ($($name:ident: $off:ident, $invariant:ident, $kind:expr, $contents:expr,
        { $($budget:ident: $times:expr),* }, { $($set:ident: $to:expr),* };)*) => {
        const SHOWN: &[Protection] = &[$(Protection::$off),*];
        $(
            #[test]
            fn $name() {
                let budget = Budget { $($budget: $times,)* ..NOTHING };
                let configuration = Configuration { budget, $($set: $to,)* ..quiet($kind, $contents) };
                breaks(Protection::$off, Invariant::$invariant, configuration);
            }
        )*
    };
}

protections! {
    without_answered_a_replay_is_answered_again: Answered, exactly_one_outcome, Kind::Upsert, ONE,
        { crashes: 1 }, { neighbour: true };
    without_answered_what_was_asked_is_answered_again: Answered, exactly_one_outcome, Kind::Upsert, ONE,
        { crashes: 1, asks: 1 }, { neighbour: true };
    without_open_a_parked_entry_read_again_is_superseded_by_itself: Open, exactly_one_outcome, Kind::Upsert, ONE,
        { crashes: 1, errors: 1 }, { neighbour: true, tries_before_parking: 1 };
    without_settled_a_delivered_version_is_gone_through_again: Settled, no_call_repeated_for_settled, Kind::Upsert, GROWS,
        {}, {};
    without_void_what_was_lost_passes_for_unchanged: VoidSent, unchanged_is_true, Kind::Upsert, THERE_AND_BACK,
        { lost: 1 }, {};
    without_the_wait_a_lost_request_lands_after_a_newer_one: LostWait, converged, Kind::Upsert, CHANGED_AND_CLEARED,
        { lost: 1 }, {};
    without_the_look_up_a_lost_create_is_made_again: LookUp, no_duplicate_contact, PLANTED, ONE, { lost: 1 }, {};
    without_the_intent_a_create_of_the_dead_is_made_again: Intent, no_duplicate_contact, PLANTED, ONE,
        { crashes: 1 }, { find_before_create: false };
    without_the_fence_an_open_transaction_of_the_dead_holds_all_up: Fence, every_state_can_finish, Kind::Upsert, ONE,
        { crashes: 1 }, {};
    without_stable_offsets_the_dead_commit_after_the_offset_was_read: StableOffsets, exactly_one_outcome, Kind::Upsert, ONE,
        { crashes: 1 }, {};
    without_the_links_a_new_owner_forgets_what_to_clear: LinksCatchUp, converged, Kind::Upsert, CHANGED_AND_CLEARED,
        { handovers: 1 }, {};
    without_the_records_a_new_owner_sends_an_older_version: RecordsCatchUp, order, Kind::Upsert, TWO,
        { handovers: 1, errors: 1 }, { idle_follows: true, tries_before_parking: 1 };
    without_the_wait_a_request_of_the_dead_lands_after_a_newer_one: TakeoverWait, converged, Kind::Upsert,
        CHANGED_AND_CLEARED, { crashes: 1 }, {};
    without_sending_again_what_the_dead_sent_passes_for_unchanged: TakeoverResend, unchanged_is_true, Kind::Upsert,
        THERE_AND_BACK, { crashes: 1 }, {};
    without_assignment_numbers_an_old_result_ends_a_new_attempt: AssignmentNumber, one_in_flight, Kind::Upsert,
        CHANGED_AND_CLEARED, { expulsions: 1 }, {};
    without_the_own_map_an_expelled_worker_sends_on: OwnMap, order, Kind::Upsert, CHANGED_AND_CLEARED,
        { expulsions: 1 }, {};
    without_the_overlay_a_lane_comes_back_with_an_older_link: Overlay, converged, Kind::Upsert, CHANGED_AND_CLEARED,
        {}, {};
}

#[test]
fn every_protection_is_shown_to_be_needed() {
    let shown: BTreeSet<_> = SHOWN.iter().copied().collect();
    assert_eq!(shown, Protection::ALL.iter().copied().collect());
}

/// A search that would find nothing proves nothing: here it looks for a duplicate where none can be.
#[test]
fn a_search_for_what_cannot_break_ends_without() {
    let configuration = Configuration { budget: Budget { lost: 1, ..NOTHING }, ..quiet(BY_DATA, ONE) };
    assert!(explore(&Model::new(configuration), Some(Invariant::no_duplicate_contact)).is_ok());
}
