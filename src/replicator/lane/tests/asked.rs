//! What an operator asks of a contact, in every state in which it may find one.

use super::*;
use crate::event::entry::{Cause, CauseKind};

const CRM: &str = "priava";

/// What an operator asked for, by a number.
fn asked(number: u64, version: Version) -> Entry {
    let cause = Cause { kind: CauseKind::Resync, id: number.to_string() };
    Entry::asked(ContactId(uuid::Uuid::nil()), version, cause, CRM.into(), Timestamp::UNIX_EPOCH)
}

/// A lane whose contact was delivered with these versions.
fn held(versions: impl IntoIterator<Item = Version>) -> Lane {
    let mut lane = lane();
    for version in versions {
        read(&mut lane, [version]);
        lane.begin();
        lane.end(delivered(version), at(Instant::now()));
        lane.committed();
    }
    lane
}

fn transient(version: Version) -> End {
    failed(version, FailureClass::Transient, Effect::None, Instant::now())
}

fn is_ready(lane: &Lane) -> bool {
    lane.is_ready(Instant::now(), Timestamp::UNIX_EPOCH)
}

/// What was answered of operators' entries, by their numbers.
fn told(decided: &Decided) -> Vec<(String, Version, OutcomeKind)> {
    let asked = decided.answers.iter().filter(|answer| answer.entry.is_asked());
    let told = asked.map(|answer| {
        let id = answer.entry.cause.as_ref().expect("it was asked").id.clone();
        (id, answer.entry.version, answer.outcome)
    });
    told.collect()
}

#[tokio::test(start_paused = true)]
async fn whatever_its_version_it_is_driven_and_answered_once_and_raises_nothing() {
    // Below, at and above what is answered; the record has version 3.
    for version in [1, 2, 3] {
        let mut lane = held([1, 2]);
        assert_eq!(lane.read(asked(7, version), 30, false), Decided::default());
        assert!(is_ready(&lane) && lane.task().anew, "{version}");
        lane.begin();
        let decided = lane.end(delivered(3), at(Instant::now()));
        assert_eq!(told(&decided), [("7".to_owned(), 3, Delivered)], "it tells the version that was driven");
        assert_eq!(decided.offsets, [30]);
        assert_eq!((lane.link.answered, lane.link.asked_until), (2, 31));
        assert!(!is_ready(&lane) && !lane.task().anew);
        let again = lane.read(asked(7, version), 30, true);
        assert_eq!(again, Decided { offsets: vec![30], ..Decided::default() }, "a replay");
        let event = lane.read(entry(3), 40, false);
        assert_eq!(answers(&event), [(3, Delivered, None)], "the event is answered by what was delivered");
    }
}

#[tokio::test(start_paused = true)]
async fn during_an_attempt_it_waits_for_the_next_one() {
    let mut lane = held([1]);
    read(&mut lane, [2]);
    lane.begin();
    lane.read(asked(7, 2), 21, false);
    let decided = lane.end(delivered(2), at(Instant::now()));
    assert_eq!((answers(&decided), decided.offsets), (vec![(2, Delivered, None)], vec![20]));
    assert!(is_ready(&lane) && lane.task().anew);
    lane.begin();
    assert_eq!(told(&lane.end(delivered(2), at(Instant::now()))), [("7".to_owned(), 2, Delivered)]);
}

#[tokio::test(start_paused = true)]
async fn one_attempt_carries_it_and_the_events_that_wait() {
    let mut lane = held([1]);
    lane.read(asked(7, 1), 11, false);
    read(&mut lane, [2]);
    lane.read(asked(8, 2), 21, false);
    lane.begin();
    let decided = lane.end(delivered(2), at(Instant::now()));
    let expected = [("7".to_owned(), 2, Delivered), ("8".to_owned(), 2, Delivered)];
    assert_eq!(told(&decided), expected);
    assert_eq!(decided.offsets, [20, 11, 21]);
    assert_eq!((lane.link.answered, lane.link.asked_until), (2, 22));
}

#[tokio::test(start_paused = true)]
async fn it_wakes_a_parked_contact_at_once_and_one_attempt_answers_both() {
    let mut lane = parked(Instant::now());
    assert!(!is_ready(&lane), "its next try is not due");
    lane.read(asked(7, 1), 11, false);
    assert!(is_ready(&lane));
    lane.begin();
    let decided = lane.end(delivered(1), at(Instant::now()));
    assert_eq!(answers(&decided), [(1, Delivered, None), (1, Delivered, None)]);
    assert_eq!((told(&decided).len(), &lane.link.open), (1, &None));
}

#[tokio::test(start_paused = true)]
async fn if_that_fails_it_is_parked_beside_the_event_and_gives_way_to_a_newer_one() {
    let now = Instant::now();
    let mut lane = parked(now);
    lane.read(asked(7, 1), 11, false);
    lane.begin();
    lane.read(asked(8, 1), 12, false);
    let decided = lane.end(transient(1), at(now));
    assert_eq!((told(&decided), decided.offsets), (vec![], vec![11]), "the partition moves on");
    assert!(is_ready(&lane), "the one that came meanwhile wakes it again");
    lane.begin();
    let decided = lane.end(transient(1), at(now));
    assert_eq!(told(&decided), [("7".to_owned(), 1, Superseded)]);
    assert_eq!((decided.offsets, lane.link.asked_until), (vec![12], 13));
    assert!(!is_ready(&lane) && lane.task().anew);
    assert_eq!(lane.link.sent["name"], Sent::Void);
    // Whoever takes over reads both again, and knows them.
    let mut lane = Lane::new(lane.link.clone(), Protections::default());
    for offset in [11, 12] {
        assert_eq!(lane.read(asked(offset, 1), offset, true).answers, []);
    }
    lane.begin();
    let decided = lane.end(delivered(1), at(now));
    assert_eq!(told(&decided), [("8".to_owned(), 1, Delivered)]);
    assert_eq!((answers(&decided).len(), &lane.link.open), (2, &None));
}

#[tokio::test(start_paused = true)]
async fn it_is_parked_alone_where_no_event_waits_and_an_event_waits_with_it() {
    let now = Instant::now();
    let mut lane = held([1]);
    lane.read(asked(7, 1), 11, false);
    lane.begin();
    lane.end(transient(1), at(now));
    lane.begin();
    let decided = lane.end(transient(1), at(now));
    assert_eq!((told(&decided), decided.offsets), (vec![], vec![11]));
    let open = lane.link.open.as_ref().expect("parked");
    assert_eq!((open.entry.is_none(), open.asked.is_some(), lane.link.answered), (true, true, 1));
    assert_eq!(answers(&lane.read(entry(2), 20, false)), []);
    assert_eq!(lane.link.answered, 2);
    lane.begin();
    let decided = lane.end(delivered(2), at(now));
    assert_eq!(answers(&decided), [(2, Delivered, None), (2, Delivered, None)]);
    assert_eq!(lane.link.open, None);
}

#[tokio::test(start_paused = true)]
async fn what_ends_it_badly_leaves_nothing_that_counts_as_sent() {
    let now = Instant::now();
    let rejected = failed(1, FailureClass::Rejected, Effect::None, now);
    let missing = End::Judged {
        version: 1,
        outcome: Rejected,
        reason: Some(ReasonCode::MissingField.into()),
        suspected: vec!["name".into()],
    };
    for end in [rejected, missing] {
        let mut lane = held([1]);
        lane.read(asked(7, 1), 11, false);
        lane.begin();
        assert_eq!(told(&lane.end(end, at(now))), [("7".to_owned(), 1, Rejected)]);
        assert_eq!((&lane.link.sent["name"], &lane.link.open), (&Sent::Void, &None));
    }
}

#[tokio::test(start_paused = true)]
async fn it_expires_by_its_own_age_and_says_nothing_of_an_event_that_is_not_read_yet() {
    let now = Instant::now();
    let old = Circumstances {
        max_age: Some(Duration::from_secs(60)),
        wall: "1970-01-01T00:01:00Z".parse().unwrap(),
        ..at(now)
    };
    let mut lane = held([1]);
    lane.read(asked(7, 1), 11, false);
    lane.begin();
    assert_eq!(told(&lane.end(transient(2), old)), [("7".to_owned(), 2, Expired)]);
    assert_eq!(lane.link.settled.as_ref().map(|settled| settled.version), Some(1));
    assert_eq!(lane.read(entry(2), 20, false), Decided::default(), "it is driven");

    let mut lane = held([1]);
    read(&mut lane, [2]);
    lane.read(Entry { received_at: old.wall, ..asked(7, 2) }, 21, false);
    lane.begin();
    assert_eq!(told(&lane.end(transient(2), old)), [], "the younger one keeps both going");
    assert!(!lane.is_idle(now, DEADLINE));
}

#[tokio::test(start_paused = true)]
async fn a_newer_event_of_a_contact_that_was_woken_need_not_wait_for_the_time_of_the_older() {
    let mut lane = parked(Instant::now());
    lane.read(asked(7, 1), 11, false);
    lane.begin();
    read(&mut lane, [2]);
    lane.end(delivered(1), at(Instant::now()));
    assert!(is_ready(&lane), "the contact can be driven again");
}

#[tokio::test(start_paused = true)]
async fn what_a_predecessor_was_asked_is_driven_as_if_it_had_been_writing() {
    let mut lane = held([1]);
    lane.read(asked(7, 1), 11, true);
    let task = lane.task();
    assert!(task.forced && task.anew);
}

/// One step of the world around a lane.
#[derive(Debug, Clone)]
enum Step {
    Publish,
    Ask,
    Skip,
    Read,
    Begin,
    End(u8),
    Commit,
    Replay,
}

proptest! {
    /// Whatever happens in whatever order, and from whatever offset entries are read again: each event and each thing that
    /// was asked has exactly one outcome.
    #[test]
    fn every_event_and_every_thing_asked_is_answered_once(steps in prop::collection::vec(
        prop_oneof![
            3 => Just(Step::Publish), 2 => Just(Step::Ask), 1 => Just(Step::Skip), 5 => Just(Step::Read), 4 => Just(Step::Begin),
            5 => (0_u8..10).prop_map(Step::End), 2 => Just(Step::Commit), 1 => Just(Step::Replay),
        ], 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _guard = runtime.enter();
        let now = Instant::now();
        let mut lane = lane();
        let mut log: Vec<Entry> = Vec::new();
        let (mut record, mut next, mut carried) = (0, 0, None);
        let mut outcomes: BTreeMap<(Option<String>, Version), u32> = BTreeMap::new();
        let mut note = |decided: Decided| {
            for answer in decided.answers {
                let id = answer.entry.cause.map(|cause| cause.id);
                let version = if id.is_some() { 0 } else { answer.entry.version };
                *outcomes.entry((id, version)).or_default() += 1;
            }
        };
        let finish = (0..4_000).map(|n| [Step::Read, Step::Begin, Step::End(0), Step::Commit][n % 4].clone());
        for step in steps.into_iter().chain(finish) {
            match step {
                Step::Publish => {
                    record += 1;
                    log.push(entry(record));
                }
                Step::Ask if record > 0 => log.push(asked(log.len() as u64, record)),
                Step::Skip if record > 0 => {
                    let cause = Cause { kind: CauseKind::Skip, id: log.len().to_string() };
                    log.push(Entry { cause: Some(cause), ..asked(0, record) });
                }
                Step::Read if next < log.len() => {
                    note(lane.read(log[next].clone(), next as Offset, false));
                    next += 1;
                }
                Step::Replay => {
                    lane = Lane::new(lane.link.clone(), Protections::default());
                    carried = None;
                    next = 0;
                }
                Step::Begin if lane.is_ready(now + DEADLINE * 1_000, Timestamp::MAX) => {
                    lane.begin();
                    carried = Some(record);
                }
                Step::Commit => lane.committed(),
                Step::End(how) if carried.is_some() => {
                    let version = carried.take().unwrap();
                    let end = match how {
                        0 | 1 => delivered(version),
                        2 => failed(version, FailureClass::Rejected, Effect::None, now),
                        3 => End::Withdrawn,
                        4 => found(),
                        5 => deleted(version),
                        _ => failed(version, FailureClass::Transient, Effect::Unknown, now),
                    };
                    note(lane.end(end, Circumstances { max_age: (how == 9).then_some(Duration::ZERO), ..at(now) }));
                }
                _ => {}
            }
            prop_assert!(lane.queue.is_empty() || lane.link.open.is_none());
            prop_assert!(lane.asked.iter().all(|waiting| waiting.offset >= lane.link.asked_until));
            prop_assert!(lane.link.open.as_ref().is_none_or(|open| open.entries().next().is_some()));
        }
        let id = |entry: &Entry| entry.cause.as_ref().map(|cause| cause.id.clone());
        let expected: BTreeMap<(Option<String>, Version), u32> =
            log.iter().map(|entry| ((id(entry), if entry.is_asked() { 0 } else { entry.version }), 1)).collect();
        prop_assert_eq!(outcomes, expected);
    }
}
