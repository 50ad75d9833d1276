//! That an operator gives up what waits, in every state in which that may find a contact.

use super::*;
use crate::event::entry::{Cause, CauseKind};

use OutcomeKind::{Filtered, Unchanged};

/// That what waits up to `version` be skipped, or be driven anew; under the offset at which it stands.
fn asked(kind: CauseKind, offset: Offset, version: Version) -> Entry {
    let cause = Cause { kind, id: offset.to_string() };
    Entry::asked(ContactId(uuid::Uuid::nil()), version, cause, "priava".into(), Timestamp::UNIX_EPOCH)
}

fn skip(lane: &mut Lane, offset: Offset, version: Version) -> Decided {
    lane.read(asked(CauseKind::Skip, offset, version), offset, false)
}

fn is_ready(lane: &Lane) -> bool {
    lane.is_ready(Instant::now(), Timestamp::UNIX_EPOCH)
}

/// Versions and outcomes of events, then of what was asked by its offset.
type Told = (Vec<(Version, OutcomeKind, Option<Version>)>, Vec<(String, Version, OutcomeKind)>);

fn told(decided: &Decided) -> Told {
    let (asked, events): (Vec<_>, Vec<_>) = decided.answers.iter().partition(|answer| answer.entry.is_asked());
    let events = events.iter().map(|answer| (answer.entry.version, answer.outcome, answer.by_version));
    let asked = asked.iter().map(|answer| {
        let id = answer.entry.cause.as_ref().expect("it was asked").id.clone();
        (id, answer.entry.version, answer.outcome)
    });
    (events.collect(), asked.collect())
}

fn code_of(decided: &Decided) -> Vec<ReasonCode> {
    decided.answers.iter().filter_map(|answer| Some(answer.reason.as_ref()?.code)).collect()
}

/// A lane whose contact was delivered with version 1.
fn held() -> Lane {
    let mut lane = lane();
    read(&mut lane, [1]);
    lane.begin();
    lane.end(delivered(1), at(Instant::now()));
    lane.committed();
    lane
}

#[tokio::test(start_paused = true)]
async fn a_parked_event_is_given_up_and_the_next_version_is_tried_as_ever() {
    let mut lane = parked(Instant::now());
    let decided = skip(&mut lane, 11, 1);
    assert_eq!(told(&decided), (vec![(1, Filtered, None)], vec![("11".to_owned(), 1, Filtered)]));
    assert_eq!(code_of(&decided), [ReasonCode::Skipped; 2]);
    assert_eq!((decided.offsets, decided.link_changed), (vec![11], true), "the event's offset went when it was parked");
    assert_eq!((&lane.link.open, lane.link.answered, lane.link.asked_until), (&None, 1, 12));
    assert_eq!(lane.link.settled.as_ref().map(|settled| (settled.version, settled.outcome)), Some((1, Filtered)));
    read(&mut lane, [2]);
    assert!(!is_ready(&lane), "while the log says that it is parked, a successor reckons with a parked contact");
    lane.committed();
    assert!(is_ready(&lane) && lane.task().forced, "a worker that died may have had a try of it under way");
    lane.begin();
    assert_eq!(told(&lane.end(delivered(2), at(Instant::now()))).0, [(2, Delivered, None)]);
    assert!(!lane.link.doubted && !lane.task().forced, "the CRM was sent all");
}

#[tokio::test(start_paused = true)]
async fn of_events_that_wait_the_newest_is_skipped_and_the_others_are_superseded_by_it() {
    let mut lane = held();
    read(&mut lane, [2, 3]);
    let decided = skip(&mut lane, 31, 3);
    let events = vec![(2, Superseded, Some(3)), (3, Filtered, None)];
    assert_eq!(told(&decided), (events, vec![("31".to_owned(), 3, Filtered)]));
    assert_eq!(decided.offsets, [20, 30, 31]);
    assert_eq!(
        (lane.link.answered, lane.link.doubted, is_ready(&lane)),
        (3, false, false),
        "nobody else can have sent it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_version_that_came_after_the_operator_looked_goes_on() {
    let mut lane = held();
    read(&mut lane, [2, 3]);
    let decided = skip(&mut lane, 31, 2);
    assert_eq!(told(&decided), (vec![(2, Filtered, None)], vec![("31".to_owned(), 2, Filtered)]));
    assert!(is_ready(&lane));
    let mut lane = parked(Instant::now());
    read(&mut lane, [2]);
    let decided = skip(&mut lane, 21, 1);
    assert_eq!(told(&decided), (vec![], vec![("21".to_owned(), 1, Unchanged)]));
    assert_eq!(code_of(&decided), [ReasonCode::NothingWaiting]);
    assert!(lane.link.open.is_some());
}

#[tokio::test(start_paused = true)]
async fn during_an_attempt_it_waits_for_its_end_and_what_was_delivered_stays_so() {
    let now = Instant::now();
    for (end, events, outcome) in [
        (delivered(2), vec![(2, Delivered, None)], Unchanged),
        (failed(2, FailureClass::Rejected, Effect::None, now), vec![(2, Rejected, None)], Unchanged),
        (failed(2, FailureClass::Transient, Effect::Unknown, now), vec![(2, Filtered, None)], Filtered),
        (End::Withdrawn, vec![(2, Filtered, None)], Filtered),
        (End::MustWait { until: now + DEADLINE }, vec![(2, Filtered, None)], Filtered),
        (End::Announced { fields: vec!["phone".into()] }, vec![(2, Filtered, None)], Filtered),
    ] {
        let mut lane = held();
        read(&mut lane, [2]);
        lane.begin();
        assert_eq!(skip(&mut lane, 21, 2), Decided::default());
        let decided = lane.end(end.clone(), at(now));
        assert_eq!(told(&decided), (events, vec![("21".to_owned(), 2, outcome)]), "{end:?}");
        assert_eq!(decided.offsets, [20, 21], "{end:?}");
        assert!(!is_ready(&lane), "{end:?}");
        let again = skip(&mut lane, 21, 2);
        assert_eq!(again, Decided { offsets: vec![21], ..Decided::default() }, "a replay");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_parks_the_contact_is_given_up_with_it() {
    let now = Instant::now();
    let transient = || failed(1, FailureClass::Transient, Effect::None, now);
    let mut lane = lane();
    read(&mut lane, [1]);
    lane.begin();
    lane.end(transient(), at(now));
    lane.begin();
    skip(&mut lane, 11, 1);
    let decided = lane.end(transient(), at(now));
    assert_eq!(told(&decided), (vec![(1, Filtered, None)], vec![("11".to_owned(), 1, Filtered)]));
    assert_eq!((decided.offsets, &lane.link.open), (vec![10, 11], &None));
}

#[tokio::test(start_paused = true)]
async fn what_operators_asked_before_is_given_up_too_and_their_word_of_who_it_is_stands() {
    let now = Instant::now();
    let mut lane = held();
    let remote = BTreeMap::from([(REMOTE_CONTACT.to_owned(), "new".to_owned())]);
    read(&mut lane, [2]);
    lane.begin();
    lane.read(asked(CauseKind::Resync, 21, 2), 21, false);
    lane.read(asked(CauseKind::Link, 22, 2).linking(crate::event::entry::LinkTo::Remote(remote)), 22, false);
    skip(&mut lane, 23, 2);
    lane.read(asked(CauseKind::Retry, 24, 2), 24, false);
    let decided = lane.end(End::Withdrawn, at(now));
    let given_up = ["21", "22", "23"].map(|id| (id.to_owned(), 2, Filtered));
    assert_eq!(told(&decided), (vec![(2, Filtered, None)], given_up.to_vec()));
    assert_eq!(lane.link.remote_ids[REMOTE_CONTACT], "new");
    assert!(is_ready(&lane) && lane.task().anew, "what was asked behind it is driven");

    // Parked alone, without an event.
    let mut lane = held();
    lane.read(asked(CauseKind::Resync, 11, 1), 11, false);
    for _ in 0..2 {
        lane.begin();
        lane.end(failed(1, FailureClass::Transient, Effect::None, now), at(now));
    }
    let settled = lane.link.settled.clone();
    let decided = skip(&mut lane, 12, 1);
    assert_eq!(told(&decided).1, [("11".to_owned(), 1, Filtered), ("12".to_owned(), 1, Filtered)]);
    assert_eq!((&lane.link.open, &lane.link.settled), (&None, &settled), "no event was given up");
}

#[tokio::test(start_paused = true)]
async fn where_nothing_waits_it_says_so_and_changes_nothing() {
    let mut lane = held();
    let before = lane.link.clone();
    let decided = skip(&mut lane, 11, 1);
    assert_eq!(told(&decided), (vec![], vec![("11".to_owned(), 1, Unchanged)]));
    assert_eq!(lane.link, Link { asked_until: 12, ..before });
}

#[tokio::test(start_paused = true)]
async fn what_a_predecessor_may_have_sent_is_doubted_until_all_is_sent_even_by_a_lane_that_comes_back() {
    let mut lane = held();
    lane.read(entry(2), 20, true);
    skip(&mut lane, 21, 2);
    assert!(lane.link.doubted);
    // The lane was forgotten, and comes back for the next version.
    let mut lane = Lane::new(lane.link, Protections::default());
    read(&mut lane, [3]);
    assert!(lane.task().forced);
    lane.begin();
    lane.end(failed(3, FailureClass::Transient, Effect::None, Instant::now()), at(Instant::now()));
    assert_eq!((lane.link.doubted, lane.link.sent["name"]), (false, Sent::Void), "the link itself says it now");
}
