//! What each end of an attempt makes of a lane, and that whatever happens each entry is answered once.

mod asked;
mod links;
mod skipped;

use proptest::prelude::*;

use super::*;
use crate::contact::{ContactId, record::FORMAT};
use crate::crm::{REMOTE_CONTACT, RequestKind};

const DEADLINE: Duration = Duration::from_secs(30);
const MAPPING: Fingerprint = Fingerprint(7);

fn entry(version: Version) -> Entry {
    Entry {
        contact_id: ContactId(uuid::Uuid::nil()),
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

fn lane() -> Lane {
    Lane::new(Link::new(ContactId(uuid::Uuid::nil())), Protections::default())
}

fn at(now: Instant) -> Circumstances {
    Circumstances {
        now,
        wall: Timestamp::UNIX_EPOCH,
        on_gone: OnGone::Recreate,
        max_age: None,
        paused: false,
        retry_delay: Duration::from_secs(1),
        parked_delay: Duration::from_secs(60),
        tries_before_parking: 2,
        landing_time: DEADLINE,
        mapping: MAPPING,
    }
}

fn request() -> Request {
    Request {
        method: http::Method::POST,
        path: "/contacts".into(),
        headers: Vec::new(),
        body: bytes::Bytes::new(),
        kind: RequestKind::Set,
    }
}

fn delivered(version: Version) -> End {
    let accepted = AcceptedState {
        sent: BTreeMap::from([("name".into(), Sent::Hash(version))]),
        presence: Presence::Active,
        remote_ids: BTreeMap::new(),
    };
    End::Delivered { version, operation: Operation::Update, accepted }
}

fn failed(version: Version, class: FailureClass, effect: Effect, sent_at: Instant) -> End {
    let failure = Failure { class, effect, reason: ReasonCode::Refused.into(), retry_after: None };
    let lost = (effect == Effect::Unknown).then(|| Lost { request: Arc::new(request()), sent_at });
    End::Failed { version, failure, carried: vec!["name".into()], lost }
}

/// Reads entries `versions` at offsets ten times as high.
fn read(lane: &mut Lane, versions: impl IntoIterator<Item = Version>) -> Vec<Decided> {
    versions.into_iter().map(|version| lane.read(entry(version), version * 10, false)).collect()
}

fn answers(decided: &Decided) -> Vec<(Version, OutcomeKind, Option<Version>)> {
    decided.answers.iter().map(|answer| (answer.entry.version, answer.outcome, answer.by_version)).collect()
}

use OutcomeKind::{Delivered, Expired, Rejected, Superseded};

#[tokio::test(start_paused = true)]
async fn a_delivery_answers_all_entries_up_to_its_version_and_leaves_those_above() {
    let mut lane = lane();
    read(&mut lane, [1, 2, 3, 4]);
    lane.begin();
    let decided = lane.end(delivered(3), at(Instant::now()));
    let expected = [(1, Superseded, Some(3)), (2, Superseded, Some(3)), (3, Delivered, None)];
    assert_eq!(answers(&decided), expected);
    assert_eq!(decided.offsets, [10, 20, 30]);
    assert_eq!(lane.link.answered, 3);
    assert!(lane.is_ready(Instant::now(), Timestamp::UNIX_EPOCH), "4 waits for the next attempt");
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_is_accepted_in_part_goes_on_once_that_is_committed() {
    let now = Instant::now();
    for linked in [false, true] {
        let mut lane = lane();
        if linked {
            lane.link.remote_ids.insert(REMOTE_CONTACT.to_owned(), "C1".to_owned());
            lane.link.presence = Some(Presence::Active);
        }
        read(&mut lane, [1]);
        lane.begin();
        let sent = BTreeMap::from([("name".into(), Sent::Hash(1)), ("photo".into(), Sent::Void)]);
        let remote_ids = BTreeMap::from([(REMOTE_CONTACT.to_owned(), "C1".to_owned())]);
        let decided = lane.end(End::Part { remote_ids, sent: sent.clone() }, at(now));
        assert_eq!((answers(&decided), decided.link_changed), (Vec::new(), true));
        assert_eq!((&lane.link.sent, lane.link.incomplete), (&sent, !linked));
        assert!(!lane.is_ready(now, Timestamp::UNIX_EPOCH), "not before that is committed");
        lane.committed();
        assert!(lane.is_ready(now, Timestamp::UNIX_EPOCH));
        lane.begin();
        assert_eq!(answers(&lane.end(delivered(1), at(now))), [(1, Delivered, None)]);
        assert!(!lane.link.incomplete);
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_for_other_contacts_is_for_no_entry_and_however_it_ends_the_next_one_follows() {
    let now = Instant::now();
    let wall = |seconds: i64| Timestamp::from_second(seconds).unwrap();
    let delay = |looks: u32| Duration::from_secs(u64::from(looks) * 60);
    let mut lane = lane();
    read(&mut lane, [1]);
    lane.begin();
    assert!(!lane.is_looking(), "it is for an entry");
    lane.end(delivered(1), at(now));
    assert!(lane.looked(false, Some(true), wall(0), delay));
    let settled = lane.link.settled.clone();
    assert!(!lane.is_ready(now, wall(59)) && lane.is_ready(now, wall(60)) && lane.is_idle(now, DEADLINE));

    // In vain: nothing is answered, and how the version ended stays.
    lane.begin();
    assert!(lane.is_looking());
    let reason = Some(ReasonCode::SameProjection.into());
    let unchanged = End::Judged { version: 1, outcome: OutcomeKind::Unchanged, reason, suspected: Vec::new() };
    let decided = lane.end(unchanged, at(now));
    assert!(lane.looked(true, Some(true), wall(60), delay));
    assert_eq!((answers(&decided), &lane.link.settled), (Vec::new(), &settled));
    assert!(!lane.is_ready(now, wall(179)) && lane.is_ready(now, wall(180)), "later each time");

    // A failure parks and rejects nobody, and leaves an entry that came meanwhile to the next attempt.
    for class in [FailureClass::Transient, FailureClass::Rejected, FailureClass::Gone] {
        let mut lane = lane.clone();
        lane.begin();
        read(&mut lane, [2]);
        let decided = lane.end(failed(2, class, Effect::None, now), at(now));
        assert!(lane.looked(true, None, wall(180), delay));
        assert_eq!((answers(&decided), &lane.link.open, &lane.link.settled), (Vec::new(), &None, &settled));
        lane.committed();
        assert!(lane.is_ready(now, wall(180)), "for the entry");
    }

    // Said at last.
    lane.begin();
    lane.end(delivered(1), at(now));
    assert!(lane.looked(true, Some(false), wall(180), delay));
    assert_eq!(lane.link.waiting, None);
    assert!(!lane.looked(false, Some(false), wall(180), delay), "nothing more to note");
}

#[tokio::test(start_paused = true)]
async fn entries_read_after_their_version_ended_are_answered_without_an_attempt() {
    let mut lane = lane();
    read(&mut lane, [1]);
    lane.begin();
    lane.end(delivered(3), at(Instant::now()));
    let decided = read(&mut lane, [2, 3, 3, 1]);
    assert_eq!(answers(&decided[0]), [(2, Superseded, Some(3))]);
    assert_eq!(answers(&decided[1]), [(3, Delivered, None)]);
    for replay in &decided[2..] {
        assert_eq!((replay.answers.len(), replay.offsets.len(), replay.link_changed), (0, 1, false));
    }
    assert!(!lane.is_ready(Instant::now(), Timestamp::UNIX_EPOCH));
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_keeps_failing_is_parked_with_its_newest_event() {
    let mut lane = lane();
    let now = Instant::now();
    read(&mut lane, [1, 2]);
    lane.begin();
    let first = lane.end(failed(2, FailureClass::Transient, Effect::None, now), at(now));
    assert_eq!(first, Decided::default());
    assert_eq!(lane.wakes_at(), Some(now + Duration::from_secs(1)));
    lane.begin();
    let parked = lane.end(failed(2, FailureClass::Transient, Effect::None, now), at(now));
    assert_eq!(answers(&parked), [(1, Superseded, Some(2))]);
    assert_eq!(parked.offsets, [10, 20], "the partition moves on");
    let open = lane.link.open.as_ref().expect("parked");
    assert_eq!((open.version(), open.attempts, lane.link.answered), (2, 2, 2));
    assert_eq!(open.next_attempt, Timestamp::from_second(60).unwrap());
}

/// A lane with version 1 parked.
fn parked(now: Instant) -> Lane {
    let mut lane = lane();
    read(&mut lane, [1]);
    for _ in 0..2 {
        lane.begin();
        lane.end(failed(1, FailureClass::Transient, Effect::None, now), at(now));
    }
    assert!(lane.link.open.is_some());
    lane
}

#[tokio::test(start_paused = true)]
async fn a_newer_entry_takes_the_place_of_the_parked_one_at_once() {
    let mut lane = parked(Instant::now());
    let decided = read(&mut lane, [2]);
    assert_eq!(answers(&decided[0]), [(1, Superseded, Some(2))]);
    assert_eq!(decided[0].offsets, [20]);
    assert_eq!(lane.link.open.as_ref().map(Open::version), Some(2));
}

#[tokio::test(start_paused = true)]
async fn a_woken_attempt_answers_the_parked_event_only_if_it_carried_that_version() {
    let now = Instant::now();
    let mut lane = parked(now);
    lane.begin();
    read(&mut lane, [2]);
    let decided = lane.end(delivered(1), at(now));
    assert_eq!(answers(&decided), []);
    assert_eq!(lane.link.open.as_ref().map(Open::version), Some(2));
    lane.begin();
    let decided = lane.end(delivered(2), at(now));
    assert_eq!(answers(&decided), [(2, Delivered, None)]);
    assert_eq!(lane.link.open, None);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_voids_what_it_carried_at_once() {
    let mut lane = lane();
    let now = Instant::now();
    read(&mut lane, [1]);
    lane.begin();
    let decided = lane.end(failed(1, FailureClass::Transient, Effect::Unknown, now), at(now));
    assert!(decided.link_changed);
    assert_eq!(lane.link.sent.get("name"), Some(&Sent::Void));
    assert!(lane.lost(now + DEADLINE - Duration::from_millis(1), DEADLINE).is_some());
    assert!(lane.lost(now + DEADLINE, DEADLINE).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_lost_request_is_remembered_beyond_a_repetition_that_succeeded() {
    let mut lane = lane();
    let now = Instant::now();
    read(&mut lane, [1]);
    lane.begin();
    lane.end(failed(1, FailureClass::Transient, Effect::Unknown, now), at(now));
    lane.begin();
    lane.end(delivered(1), at(now));
    assert!(lane.lost(now, DEADLINE).is_some(), "the first one may still land");
    assert!(!lane.is_idle(now, DEADLINE) && lane.is_idle(now + DEADLINE, DEADLINE));
}

#[tokio::test(start_paused = true)]
async fn a_parked_contact_is_not_due_while_a_lost_request_may_still_land() {
    let mut lane = lane();
    let now = Instant::now();
    read(&mut lane, [1]);
    let soon = Circumstances { parked_delay: Duration::from_secs(5), tries_before_parking: 1, ..at(now) };
    lane.begin();
    lane.end(failed(1, FailureClass::Transient, Effect::Unknown, now), soon);
    assert_eq!(lane.link.open.as_ref().map(|open| open.next_attempt.as_second()), Some(30));
}

#[tokio::test(start_paused = true)]
async fn while_the_crm_is_paused_nothing_is_parked() {
    let mut lane = lane();
    let now = Instant::now();
    read(&mut lane, [1]);
    for _ in 0..10 {
        lane.begin();
        let paused = Circumstances { paused: true, ..at(now) };
        assert_eq!(lane.end(failed(1, FailureClass::Transient, Effect::None, now), paused), Decided::default());
    }
    assert_eq!(lane.link.open, None);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_the_connection_uses_up_no_try() {
    let mut lane = lane();
    let now = Instant::now();
    read(&mut lane, [1]);
    for class in [FailureClass::Connection, FailureClass::Auth, FailureClass::Throttled] {
        lane.begin();
        assert_eq!(lane.end(failed(1, class, Effect::None, now), at(now)), Decided::default());
    }
    assert_eq!(lane.tries(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_conflict_is_tried_once_more_and_then_rejected() {
    let mut lane = lane();
    let now = Instant::now();
    read(&mut lane, [1]);
    lane.begin();
    lane.end(failed(1, FailureClass::Conflict, Effect::None, now), at(now));
    lane.begin();
    let decided = lane.end(failed(1, FailureClass::Conflict, Effect::None, now), at(now));
    assert_eq!(answers(&decided), [(1, Rejected, None)]);
    assert_eq!(decided.answers[0].reason.as_ref().map(|reason| reason.code), Some(ReasonCode::Conflict));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_before_the_result_of_a_create_is_committed() {
    let mut lane = lane();
    let now = Instant::now();
    read(&mut lane, [1, 2]);
    lane.begin();
    let End::Delivered { accepted, .. } = delivered(1) else { unreachable!() };
    lane.end(End::Delivered { version: 1, operation: Operation::Create, accepted }, at(now));
    assert!(!lane.is_ready(now, Timestamp::UNIX_EPOCH));
    lane.committed();
    assert!(lane.is_ready(now, Timestamp::UNIX_EPOCH));
}

fn intended() -> End {
    End::Intended { intent: Intent { keys: BTreeMap::from([("email".to_owned(), "a@x.org".to_owned())]) } }
}

fn judged(version: Version, outcome: OutcomeKind, code: ReasonCode) -> End {
    End::Judged { version, outcome, reason: Some(code.into()), suspected: Vec::new() }
}

fn found() -> End {
    End::Found { remote_ids: BTreeMap::from([(REMOTE_CONTACT.to_owned(), "9".to_owned())]), carried: Vec::new() }
}

fn interrupted(now: Instant) -> End {
    let lost = Lost { request: Arc::new(request()), sent_at: now };
    End::Interrupted { until: Some(now + DEADLINE), carried: vec!["name".into()], lost: Some(lost) }
}

fn deleted(version: Version) -> End {
    let accepted = AcceptedState { sent: BTreeMap::new(), presence: Presence::Absent, remote_ids: BTreeMap::new() };
    End::Delivered { version, operation: Operation::Delete, accepted }
}

/// A lane of a contact that the CRM holds under an id, with these entries to answer.
fn linked(versions: impl IntoIterator<Item = Version>) -> Lane {
    let mut lane = lane();
    lane.link.remote_ids.insert(REMOTE_CONTACT.to_owned(), "1".to_owned());
    lane.link.sent.insert("name".into(), Sent::Hash(0));
    lane.link.presence = Some(Presence::Active);
    read(&mut lane, versions);
    lane
}

#[tokio::test(start_paused = true)]
async fn an_intent_is_committed_before_anything_leaves_and_is_fresh_until_something_has() {
    let now = Instant::now();
    type Ends = fn(Instant) -> End;
    let stale: [Ends; 4] = [
        |now| failed(1, FailureClass::Throttled, Effect::None, now),
        |_| judged(1, Rejected, ReasonCode::MissingField),
        |_| found(),
        interrupted,
    ];
    for end in stale {
        let mut lane = lane();
        read(&mut lane, [1]);
        lane.begin();
        let decided = lane.end(intended(), at(now));
        assert!(decided.link_changed && decided.answers.is_empty() && lane.link.intent.is_some());
        assert!(!lane.is_ready(now, Timestamp::UNIX_EPOCH), "it waits for its commit");
        lane.committed();
        for not_sent in [End::Withdrawn, End::MustWait { until: now }] {
            assert!(lane.is_ready(now, Timestamp::UNIX_EPOCH) && lane.task().intended);
            lane.begin();
            assert_eq!(lane.end(not_sent, at(now)), Decided::default());
        }
        assert!(lane.task().intended);
        lane.begin();
        lane.end(end(now), at(now));
        assert!(!lane.task().intended);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_keeps_the_intent_and_a_delivery_ends_it() {
    let now = Instant::now();
    let mut lane = lane();
    read(&mut lane, [1, 2]);
    lane.begin();
    lane.end(intended(), at(now));
    lane.committed();
    lane.begin();
    lane.end(failed(1, FailureClass::Rejected, Effect::None, now), at(now));
    assert!(lane.link.intent.is_some(), "an older create may stand there");
    lane.begin();
    lane.end(delivered(2), at(now));
    assert_eq!(lane.link.intent, None);
}

#[tokio::test(start_paused = true)]
async fn what_a_search_found_is_committed_before_anything_more_is_sent() {
    let now = Instant::now();
    let mut lane = lane();
    lane.read(entry(1), 10, true);
    lane.link.intent = Some(Intent { keys: BTreeMap::new() });
    lane.begin();
    let decided = lane.end(found(), at(now));
    assert!(decided.link_changed && lane.awaits_commit());
    assert_eq!((lane.link.remote_ids[REMOTE_CONTACT].as_str(), &lane.link.intent), ("9", &None));
    assert!(lane.task().forced, "what a predecessor had sent is still unknown");
    assert_eq!(lane.tries(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_cut_off_voids_what_it_wrote_and_uses_up_no_try() {
    let now = Instant::now();
    let mut lane = linked([1]);
    lane.begin();
    let decided = lane.end(interrupted(now), at(now));
    assert!(decided.link_changed);
    assert_eq!((lane.link.sent["name"], lane.tries()), (Sent::Void, 0));
    assert_eq!(lane.wakes_at(), Some(now + DEADLINE));
    assert!(lane.lost(now, DEADLINE).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_is_gone_is_forgotten_and_made_again_once_that_is_committed() {
    let now = Instant::now();
    let mut lane = linked([1]);
    lane.begin();
    let decided = lane.end(failed(1, FailureClass::Gone, Effect::None, now), at(now));
    assert!(decided.link_changed && decided.answers.is_empty());
    assert!(lane.link.remote_ids.is_empty() && lane.link.sent.is_empty());
    assert_eq!((lane.link.presence, lane.tries()), (None, 1));
    assert!(lane.awaits_commit());
    lane.committed();
    lane.begin();
    let decided = lane.end(failed(1, FailureClass::Gone, Effect::None, now), at(now));
    assert_eq!(decided.offsets, [10], "it counts as a try, and tries end in parking");
    assert_eq!(lane.link.open.as_ref().map(|open| open.attempts), Some(2));
    assert!(lane.awaits_commit());
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_is_gone_is_rejected_where_it_is_to_be_dropped() {
    let now = Instant::now();
    let mut lane = linked([1, 2]);
    let drop = Circumstances { on_gone: OnGone::Drop, ..at(now) };
    for version in [1, 2] {
        lane.begin();
        let decided = lane.end(failed(version, FailureClass::Gone, Effect::None, now), drop);
        assert_eq!(answers(&decided), [(version, Rejected, None)]);
        assert_eq!(decided.answers[0].reason.as_ref().map(|reason| reason.code), Some(ReasonCode::Gone));
        assert!(!lane.link.remote_ids.is_empty(), "forgotten, it would be made again with its next change");
    }
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_is_gone_while_parked_stays_parked() {
    let now = Instant::now();
    let mut lane = parked(now);
    lane.link.remote_ids.insert(REMOTE_CONTACT.to_owned(), "1".to_owned());
    lane.begin();
    lane.end(failed(1, FailureClass::Gone, Effect::None, now), at(now));
    let open = lane.link.open.as_ref().expect("parked");
    assert_eq!((open.version(), open.attempts), (1, 3));
    assert!(lane.link.remote_ids.is_empty() && lane.link.sent.is_empty() && lane.awaits_commit());
}

#[tokio::test(start_paused = true)]
async fn what_the_same_delivery_wrote_is_not_forgotten_with_what_is_gone() {
    let now = Instant::now();
    let mut lane = linked([1]);
    lane.link.intent = Some(Intent { keys: BTreeMap::new() });
    lane.begin();
    lane.end(failed(1, FailureClass::Gone, Effect::Unknown, now), at(now));
    assert!(lane.link.remote_ids.is_empty() && lane.link.intent.is_some());
    assert_eq!(lane.link.sent["name"], Sent::Void);
}

#[tokio::test(start_paused = true)]
async fn an_event_expires_at_a_failed_try_exactly_at_its_maximum_age() {
    let now = Instant::now();
    let max_age = Some(Duration::from_secs(60));
    for (wall, expired) in [("1970-01-01T00:00:59.999999999Z", false), ("1970-01-01T00:01:00Z", true)] {
        let mut lane = lane();
        read(&mut lane, [1, 2]);
        lane.begin();
        let then = Circumstances { max_age, wall: wall.parse().unwrap(), ..at(now) };
        let decided = lane.end(failed(2, FailureClass::Transient, Effect::Unknown, now), then);
        assert!(decided.link_changed);
        assert_eq!(lane.link.sent["name"], Sent::Void, "what it sent may still stand there");
        if expired {
            assert_eq!(answers(&decided), [(1, Superseded, Some(2)), (2, Expired, None)]);
            let reason = decided.answers[1].reason.as_ref().map(|reason| reason.code);
            assert_eq!(reason, Some(ReasonCode::MaxAge));
        } else {
            assert_eq!(answers(&decided), []);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_that_is_not_read_yet_does_not_expire_with_the_one_before_it() {
    let now = Instant::now();
    let mut lane = lane();
    read(&mut lane, [1]);
    lane.begin();
    let old = Circumstances { max_age: Some(Duration::ZERO), ..at(now) };
    let decided = lane.end(failed(3, FailureClass::Transient, Effect::None, now), old);
    assert_eq!(answers(&decided), [(1, Expired, None)]);
    assert_eq!(read(&mut lane, [2, 3]), [Decided::default(), Decided::default()]);
    assert!(lane.is_ready(now, Timestamp::UNIX_EPOCH));
}

#[tokio::test(start_paused = true)]
async fn a_younger_event_that_took_the_place_of_a_parked_one_does_not_expire_with_it() {
    let now = Instant::now();
    let mut lane = parked(now);
    lane.begin();
    read(&mut lane, [2]);
    let old = Circumstances { max_age: Some(Duration::ZERO), ..at(now) };
    assert_eq!(answers(&lane.end(failed(1, FailureClass::Transient, Effect::None, now), old)), []);
    lane.begin();
    let decided = lane.end(failed(2, FailureClass::Transient, Effect::None, now), old);
    assert_eq!((answers(&decided), &lane.link.open), (vec![(2, Expired, None)], &None));
}

#[tokio::test(start_paused = true)]
async fn nothing_expires_while_the_whole_crm_waits() {
    let now = Instant::now();
    let mut lane = lane();
    read(&mut lane, [1]);
    for class in [FailureClass::Connection, FailureClass::Auth, FailureClass::Throttled] {
        lane.begin();
        let old = Circumstances { max_age: Some(Duration::ZERO), ..at(now) };
        assert_eq!(lane.end(failed(1, class, Effect::None, now), old), Decided::default());
    }
}

#[tokio::test(start_paused = true)]
async fn the_link_of_a_deleted_contact_shrinks_and_what_lives_again_waits_for_its_commit() {
    let now = Instant::now();
    let mut lane = linked([1, 2]);
    lane.link.intent = Some(Intent { keys: BTreeMap::new() });
    lane.begin();
    let decided = lane.end(deleted(1), at(now));
    assert_eq!(answers(&decided), [(1, Delivered, None)]);
    let link = &lane.link;
    assert!(link.remote_ids.is_empty() && link.sent.is_empty() && link.intent.is_none());
    assert_eq!(link.presence, Some(Presence::Absent));
    assert!(!lane.is_ready(now, Timestamp::UNIX_EPOCH));
    lane.committed();
    assert!(lane.is_ready(now, Timestamp::UNIX_EPOCH));
}

#[tokio::test(start_paused = true)]
async fn a_lost_deletion_is_waited_for_and_leaves_nothing_that_counts_as_sent() {
    let now = Instant::now();
    let mut lane = linked([1]);
    lane.begin();
    lane.end(failed(1, FailureClass::Transient, Effect::Unknown, now), at(now));
    read(&mut lane, [2]);
    assert!(lane.lost(now, DEADLINE).is_some());
    assert_eq!(lane.link.sent["name"], Sent::Void);
    assert!(!lane.link.remote_ids.is_empty(), "it may stand there");
}

#[tokio::test(start_paused = true)]
async fn a_contact_that_the_crm_never_had_leaves_no_trace_in_the_link() {
    let mut lane = linked([1]);
    lane.begin();
    lane.end(judged(1, OutcomeKind::Unchanged, ReasonCode::UnknownContact), at(Instant::now()));
    assert!(lane.link.remote_ids.is_empty() && lane.link.sent.is_empty() && lane.link.presence.is_none());
}

/// One step of the world around a lane.
#[derive(Debug, Clone)]
enum Step {
    Read,
    Record,
    Begin,
    End(u8),
    Commit,
    Replay,
}

proptest! {
    /// Whatever happens in whatever order, and from whatever offset entries are replayed: each entry gets exactly
    /// one outcome, and `answered` covers exactly those that have one or are parked.
    #[test]
    fn every_entry_is_answered_once(steps in prop::collection::vec(
        prop_oneof![
            4 => Just(Step::Read), 2 => Just(Step::Record), 4 => Just(Step::Begin),
            4 => (0_u8..16).prop_map(Step::End), 2 => Just(Step::Commit), 1 => Just(Step::Replay),
        ], 1..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _guard = runtime.enter();
        let now = Instant::now();
        let mut lane = lane();
        // Entries exist up to `record`, were read up to `next`.
        let (mut record, mut next, mut carried) = (0, 1, None);
        let mut outcomes: BTreeMap<Version, u32> = BTreeMap::new();
        let mut note = |decided: Decided| {
            for answer in decided.answers {
                *outcomes.entry(answer.entry.version).or_default() += 1;
            }
        };
        let finish = (0..4_000).map(|n| [Step::Read, Step::Begin, Step::End(0), Step::Commit][n % 4].clone());
        for step in steps.into_iter().chain(finish) {
            match step {
                Step::Record => record += 1,
                Step::Read if next <= record => {
                    note(lane.read(entry(next), next * 10, false));
                    next += 1;
                }
                // A successor: what was not committed is gone, reading starts at the lowest unanswered entry.
                Step::Replay => {
                    lane = Lane::new(lane.link.clone(), Protections::default());
                    carried = None;
                    next = 1;
                }
                Step::Begin if lane.is_ready(now + DEADLINE * 1_000, Timestamp::MAX) => {
                    lane.begin();
                    carried = Some(record);
                }
                Step::Commit => lane.committed(),
                Step::End(how) if carried.is_some() => {
                    let version = carried.take().unwrap();
                    note(lane.end(match how {
                        0 | 1 => delivered(version),
                        2 => failed(version, FailureClass::Transient, Effect::Unknown, now),
                        3 => failed(version, FailureClass::Rejected, Effect::None, now),
                        4 => End::Withdrawn,
                        5 => failed(version, FailureClass::Connection, Effect::None, now),
                        6 | 14 | 15 => failed(version, FailureClass::Gone, Effect::None, now),
                        7 => intended(),
                        8 => End::Announced { fields: vec!["name".into()] },
                        9 => found(),
                        10 => interrupted(now),
                        11 => deleted(version),
                        12 => judged(version, Rejected, ReasonCode::MissingField),
                        _ => failed(version, FailureClass::Transient, Effect::None, now),
                    }, Circumstances {
                        max_age: (how == 13 || how == 15).then_some(Duration::ZERO),
                        on_gone: if how == 14 { OnGone::Drop } else { OnGone::Recreate },
                        ..at(now)
                    }));
                }
                _ => {}
            }
            prop_assert!(lane.queue.is_empty() || lane.link.open.is_none());
            prop_assert!(lane.queue.iter().all(|waiting| waiting.entry.version > lane.link.answered));
        }
        let expected: BTreeMap<Version, u32> = (1..=record).map(|version| (version, 1)).collect();
        prop_assert_eq!(outcomes, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_says_under_which_mapping_it_was_written_or_known_to_hold_the_same() {
    let other = Circumstances { mapping: Fingerprint(8), ..at(Instant::now()) };
    let unchanged = |code: ReasonCode| End::Judged {
        version: 2,
        outcome: OutcomeKind::Unchanged,
        reason: Some(code.into()),
        suspected: Vec::new(),
    };
    let mut lane = lane();
    read(&mut lane, [1]);
    lane.begin();
    lane.end(delivered(1), at(Instant::now()));
    assert_eq!(lane.link.mapping, Some(MAPPING));
    for (end, expected) in [
        (failed(2, FailureClass::Rejected, Effect::None, Instant::now()), Some(MAPPING)),
        (unchanged(ReasonCode::SameProjection), Some(Fingerprint(8))),
        (deleted(2), None),
    ] {
        let mut lane = Lane::new(lane.link.clone(), Protections::default());
        read(&mut lane, [2]);
        lane.begin();
        lane.end(end, other);
        assert_eq!(lane.link.mapping, expected);
    }
}
