//! What an operator says of which contact of the CRM it is, in every state in which it may find one, and read as often as may
//! be.

use super::*;
use crate::{
    crm::link::Linked,
    event::entry::{Cause, CauseKind, LinkTo},
};

/// The operator's word, by the offset at which it stands.
fn said(offset: Offset, link_to: LinkTo) -> Entry {
    let cause = Cause { kind: CauseKind::Link, id: offset.to_string() };
    let contact = ContactId(uuid::Uuid::nil());
    Entry::asked(contact, 1, cause, "priava".into(), Timestamp::UNIX_EPOCH).linking(link_to)
}

fn remote(id: &str) -> LinkTo {
    LinkTo::Remote(BTreeMap::from([(REMOTE_CONTACT.to_owned(), id.to_owned())]))
}

/// A lane whose contact was delivered once.
fn held() -> Lane {
    let mut lane = lane();
    read(&mut lane, [1]);
    lane.begin();
    let accepted = AcceptedState {
        sent: BTreeMap::from([("name".into(), Sent::Hash(1))]),
        presence: Presence::Active,
        remote_ids: BTreeMap::from([(REMOTE_CONTACT.to_owned(), "old".to_owned())]),
    };
    let end = End::Delivered { version: 1, operation: Operation::Create, accepted };
    lane.end(end, at(Instant::now()));
    lane.committed();
    lane
}

fn ambiguous() -> End {
    let reason = Some(ReasonCode::AmbiguousMatch.into());
    End::Judged { version: 1, outcome: Rejected, reason, suspected: Vec::new() }
}

fn in_shadow(version: Version) -> End {
    let outcome = OutcomeKind::Filtered;
    End::Judged { version, outcome, reason: Some(ReasonCode::Shadow.into()), suspected: Vec::new() }
}

#[track_caller]
fn is_linked_to(lane: &Lane, id: &str, linked: Option<Linked>) {
    let known = lane.link.remote_ids.get(REMOTE_CONTACT).map(String::as_str);
    assert_eq!((known, lane.link.linked), (Some(id), linked));
}

fn is_ready(lane: &Lane) -> bool {
    lane.is_ready(Instant::now(), Timestamp::UNIX_EPOCH)
}

#[tokio::test(start_paused = true)]
async fn it_is_taken_in_at_once_and_all_is_to_be_sent_to_that_contact() {
    for mut lane in [lane(), held()] {
        let decided = lane.read(said(11, remote("new")), 11, false);
        assert_eq!(decided, Decided { link_changed: true, ..Decided::default() });
        is_linked_to(&lane, "new", Some(Linked::Existing));
        assert_eq!((lane.link.sent.len(), lane.link.presence, lane.link.linked_until), (0, None, 12));
        assert!(is_ready(&lane) && lane.task().anew);
        lane.begin();
        let decided = lane.end(delivered(1), at(Instant::now()));
        assert_eq!((answers(&decided), decided.offsets), (vec![(1, Delivered, None)], vec![11]));
        is_linked_to(&lane, "new", None);
        assert_eq!(lane.link.sent["name"], Sent::Hash(1));
    }
}

#[tokio::test(start_paused = true)]
async fn read_again_it_changes_nothing_whether_or_not_it_was_answered() {
    let mut lane = held();
    lane.read(said(11, remote("new")), 11, false);
    lane.begin();
    // It died with the write under way; the link was committed before.
    let fields = vec!["name".into()];
    lane.end(End::Announced { fields }, at(Instant::now()));
    let before = lane.link.clone();
    let mut lane = Lane::new(lane.link, Protections::default());
    assert_eq!(lane.read(said(11, remote("new")), 11, true), Decided::default());
    assert_eq!(lane.link, before, "what was announced stays known");
    assert!(is_ready(&lane), "it is driven all the same");
    lane.begin();
    lane.end(delivered(1), at(Instant::now()));
    let after = lane.link.clone();
    let mut lane = Lane::new(lane.link, Protections::default());
    let again = lane.read(said(11, remote("new")), 11, true);
    assert_eq!((again, &lane.link), (Decided { offsets: vec![11], ..Decided::default() }, &after));
}

#[tokio::test(start_paused = true)]
async fn what_is_said_already_is_left_as_it_is_and_driven() {
    let mut lane = held();
    let sent = lane.link.sent.clone();
    lane.read(said(11, remote("old")), 11, false);
    is_linked_to(&lane, "old", None);
    assert_eq!((&lane.link.sent, is_ready(&lane)), (&sent, true));
}

#[tokio::test(start_paused = true)]
async fn during_an_attempt_it_waits_for_its_end_which_it_outlives() {
    let mut lane = held();
    read(&mut lane, [2]);
    lane.begin();
    assert_eq!(lane.read(said(21, remote("new")), 21, false), Decided::default());
    is_linked_to(&lane, "old", None);
    let accepted = AcceptedState {
        sent: BTreeMap::from([("name".into(), Sent::Hash(2))]),
        presence: Presence::Active,
        remote_ids: BTreeMap::from([(REMOTE_CONTACT.to_owned(), "old".to_owned())]),
    };
    let end = End::Delivered { version: 2, operation: Operation::Update, accepted };
    let decided = lane.end(end, at(Instant::now()));
    assert_eq!((decided.offsets, decided.link_changed), (vec![20], true));
    is_linked_to(&lane, "new", Some(Linked::Existing));
    assert!(lane.link.sent.is_empty() && is_ready(&lane) && lane.task().anew);
}

#[tokio::test(start_paused = true)]
async fn the_last_word_counts() {
    let mut lane = held();
    read(&mut lane, [2]);
    lane.begin();
    lane.read(said(11, remote("a")), 11, false);
    lane.read(said(12, LinkTo::New), 12, false);
    lane.read(said(13, remote("b")), 13, false);
    lane.end(End::Withdrawn, at(Instant::now()));
    is_linked_to(&lane, "b", Some(Linked::Existing));
    assert_eq!(lane.link.linked_until, 14);
}

#[tokio::test(start_paused = true)]
async fn in_shadow_it_is_taken_in_and_nothing_counts_as_sent() {
    let mut lane = lane();
    read(&mut lane, [1]);
    lane.begin();
    lane.end(in_shadow(1), at(Instant::now()));
    lane.read(said(11, remote("new")), 11, false);
    lane.begin();
    let decided = lane.end(in_shadow(1), at(Instant::now()));
    assert_eq!(answers(&decided), [(1, OutcomeKind::Filtered, None)]);
    is_linked_to(&lane, "new", Some(Linked::Existing));
    assert!(lane.link.sent.is_empty() && !lane.link.was_ever_sent());
}

#[tokio::test(start_paused = true)]
async fn it_ends_an_ambiguous_match() {
    let mut lane = lane();
    read(&mut lane, [1]);
    lane.begin();
    lane.end(ambiguous(), at(Instant::now()));
    assert!(!is_ready(&lane));
    lane.read(said(11, remote("one")), 11, false);
    assert!(is_ready(&lane));
    lane.begin();
    lane.end(delivered(1), at(Instant::now()));
    assert_eq!(lane.link.settled.as_ref().map(|settled| settled.outcome), Some(Delivered));
}

#[tokio::test(start_paused = true)]
async fn a_create_without_a_search_is_asked_for_once_and_its_intent_takes_the_place_of_the_word() {
    let mut lane = held();
    lane.read(said(11, LinkTo::New), 11, false);
    assert_eq!((lane.link.remote_ids.len(), lane.link.linked), (0, Some(Linked::New)));
    lane.begin();
    let intent = Intent { keys: BTreeMap::from([("email".to_owned(), "ann@example.com".to_owned())]) };
    let decided = lane.end(End::Intended { intent: intent.clone() }, at(Instant::now()));
    assert!(decided.link_changed && decided.answers.is_empty() && lane.awaits_commit());
    assert_eq!((&lane.link.intent, lane.link.linked, lane.task().intended), (&Some(intent.clone()), None, true));
    // Whoever takes over once the create may have left reads the word again: it says nothing new.
    let mut heir = Lane::new(lane.link.clone(), Protections::default());
    assert_eq!(heir.read(said(11, LinkTo::New), 11, true), Decided::default());
    assert_eq!((&heir.link.intent, heir.link.linked, heir.task().intended), (&Some(intent), None, false));
}
