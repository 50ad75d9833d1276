//! The rules as a table of small histories, and what must hold after any history.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::{Arc, LazyLock},
};

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Answer, Context, Decision, Ending, Known, Policy, keys::*, resolve};
use crate::{
    config::{Settings, SourceSettings},
    contact::{
        ContactId, ContactRecord, Document, Version,
        record::{EVENT_IDS_MAX, Status},
    },
    event::{
        EventRef, OutcomeKind, ReasonCode, SourceVersion,
        change::{Change, Verb},
    },
    privacy::{Hasher, Secret},
};

#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct World {
    pub(super) keys: HashMap<KeyHash, Arc<KeyEntry>>,
    pub(super) records: BTreeMap<ContactId, Arc<ContactRecord>>,
}

impl Known for World {
    type Error = Infallible;

    fn key(&self, key: KeyHash) -> Result<Option<Arc<KeyEntry>>, Infallible> {
        Ok(self.keys.get(&key).cloned())
    }

    fn record(&self, contact: ContactId) -> Result<Option<Arc<ContactRecord>>, Infallible> {
        Ok(self.records.get(&contact).cloned())
    }
}

impl World {
    pub(super) fn tell(&mut self, change: &Change) -> Decision {
        let Ok(decision) = resolve(change, self, &context());
        self.keys.extend(decision.keys.iter().map(|new| (new.hash, Arc::clone(&new.entry))));
        for new in &decision.records {
            assert_eq!(serde_json::from_slice::<ContactRecord>(&new.encoded).unwrap(), *new.record);
            self.records.insert(new.record.contact_id, Arc::clone(&new.record));
        }
        decision
    }

    fn only_record(&self) -> &ContactRecord {
        assert_eq!(self.records.len(), 1);
        self.records.values().next().unwrap()
    }

    pub(super) fn live(&self) -> Vec<&ContactRecord> {
        self.records.values().map(|record| &**record).filter(|record| record.status == Status::Live).collect()
    }
}

pub(super) fn context() -> Context {
    Context {
        epoch: 3,
        now: at("2026-05-01T12:00:00Z"),
        hasher: Hasher::new(&Secret::new("a secret of the tests")),
        source_priority: Arc::from([]),
        policy: Arc::clone(&POLICY),
    }
}

/// Made once: its patterns take a while to read.
static POLICY: LazyLock<Arc<Policy>> = LazyLock::new(|| Arc::new(policy()));

/// The rules of the reference, with a source `old` that holds the same person several times.
pub(super) fn policy() -> Policy {
    let Settings { mut identity, source, .. } = Settings::reference();
    identity.record_bytes_max = 20_000;
    let old =
        SourceSettings { uri: "old".into(), name: "old".into(), source_ids_per_source: Some(0), ..source[0].clone() };
    Policy::new(&identity, &[old])
}

/// A live contact with these source records: source, subject, whether it is live, and what it says.
pub(super) fn record_of(members: &[(&str, &str, bool, Value)]) -> ContactRecord {
    let mut world = World::default();
    world.tell(&placed("a", "1", None, 0, snapshot("x")));
    let mut record = world.only_record().clone();
    let member = record.members.remove(0);
    record.members = members
        .iter()
        .map(|(source, subject, live, view)| {
            let mut member = member.clone();
            (member.source, member.subject, member.state.live) = ((*source).into(), (*subject).into(), *live);
            member.state.view = document(view.clone());
            member
        })
        .collect();
    record
}

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

pub(super) fn document(value: Value) -> Document {
    Document::parse(value).unwrap().0
}

fn snapshot(notes: &str) -> Verb {
    Verb::Snapshot(document(json!({ "notes": notes })))
}

fn patch(value: Value) -> Verb {
    let Value::Object(members) = value else { panic!("a patch is an object") };
    Verb::Patch(members)
}

/// A change of shop:1, by sequence.
fn change(id: &str, sequence: u64, verb: Verb) -> Change {
    let sequence = (verb != Verb::Tombstone).then(|| Arc::from(sequence.to_string()));
    placed(id, "1", sequence, 0, verb)
}

pub(super) fn placed(id: &str, subject: &str, sequence: Option<Arc<str>>, offset: u64, verb: Verb) -> Change {
    let (source, subject, id): (Arc<str>, Arc<str>, Arc<str>) = ("shop".into(), subject.into(), id.into());
    Change {
        event: EventRef {
            source: Some(source.clone()),
            id: Some(id.clone()),
            subject: Some(subject.clone()),
            topic: "contact-changes".into(),
            partition: 0,
            offset,
        },
        source,
        subject,
        id,
        verb,
        version: SourceVersion { sequence, time: None, topic: "contact-changes".into(), partition: 0, offset },
        time: None,
        record_timestamp: at("2026-05-01T11:00:00Z"),
        traceparent: None,
        ignored_attributes: 0,
    }
}

#[track_caller]
fn ended(decision: &Decision) -> (OutcomeKind, ReasonCode) {
    match decision.answer {
        Answer::Resolver(Ending { outcome, code, .. }) => (outcome, code),
        ref other => panic!("answered elsewhere: {other:?}"),
    }
}

#[track_caller]
fn raised_to(decision: &Decision) -> Version {
    assert_eq!(decision.answer, Answer::Replicators);
    let [entry] = &decision.entries[..] else { panic!("one entry for one event") };
    let [new] = &decision.records[..] else { panic!("one record for one event") };
    assert_eq!((entry.contact_id, entry.version), (new.record.contact_id, new.record.version));
    assert!(entry.event.is_some());
    entry.version
}

const DUPLICATE_EVENT: (OutcomeKind, ReasonCode) = (OutcomeKind::Duplicate, ReasonCode::SameEvent);
const DUPLICATE_VERSION: (OutcomeKind, ReasonCode) = (OutcomeKind::Duplicate, ReasonCode::SameVersion);
const STALE: (OutcomeKind, ReasonCode) = (OutcomeKind::Stale, ReasonCode::OlderVersion);
const SAME_RECORD: (OutcomeKind, ReasonCode) = (OutcomeKind::Unchanged, ReasonCode::SameRecord);
const UNKNOWN_CONTACT: (OutcomeKind, ReasonCode) = (OutcomeKind::Unchanged, ReasonCode::UnknownContact);

#[test]
fn a_first_change_founds_a_contact_at_version_one() {
    let mut world = World::default();
    let decision = world.tell(&change("a", 1, snapshot("x")));
    assert_eq!(raised_to(&decision), 1);
    let record = world.only_record();
    assert_eq!((record.version, record.status, record.epoch), (1, Status::Live, 3));
    assert_eq!(record.contact, Some(document(json!({"notes": "x"}))));
    assert_eq!(record.contact_id.0.get_version_num(), 8);
    assert_eq!(decision.keys[0].entry.owner, Some(record.contact_id));
}

#[test]
fn the_same_event_again_is_a_duplicate_and_writes_nothing() {
    let mut world = World::default();
    let first = change("a", 1, snapshot("x"));
    world.tell(&first);
    let again = world.tell(&Change { version: change("", 2, Verb::Delete).version, ..first });
    assert_eq!(ended(&again), DUPLICATE_EVENT);
    assert!(again.keys.is_empty() && again.records.is_empty() && again.entries.is_empty());
}

#[test]
fn a_repeat_under_another_id_is_a_duplicate() {
    let mut world = World::default();
    world.tell(&change("a", 1, snapshot("x")));
    assert_eq!(ended(&world.tell(&change("b", 1, snapshot("x")))), DUPLICATE_VERSION);
}

#[test]
fn an_older_version_is_stale() {
    let mut world = World::default();
    world.tell(&change("a", 5, snapshot("x")));
    let late = world.tell(&change("b", 4, snapshot("y")));
    assert_eq!(ended(&late), STALE);
    let Answer::Resolver(ending) = late.answer else { unreachable!() };
    assert_eq!((ending.contact_id, ending.version), (Some(world.only_record().contact_id), Some(1)));
}

#[test]
fn of_two_contents_with_one_version_the_later_wins_and_is_counted() {
    let mut world = World::default();
    world.tell(&change("a", 5, snapshot("x")));
    let second = world.tell(&change("b", 5, snapshot("y")));
    assert!(second.tied);
    assert_eq!(raised_to(&second), 2);
    assert_eq!(world.only_record().contact, Some(document(json!({"notes": "y"}))));
}

#[test]
fn a_newer_change_that_says_the_same_is_unchanged_but_remembered() {
    let mut world = World::default();
    world.tell(&change("a", 1, snapshot("x")));
    let before = world.only_record().clone();
    assert_eq!(ended(&world.tell(&change("b", 7, snapshot("x")))), SAME_RECORD);
    let after = world.only_record().clone();
    assert_eq!((after.version, &after.event), (before.version, &before.event));
    assert_eq!(ended(&world.tell(&change("c", 6, snapshot("y")))), STALE);
    assert_eq!(ended(&world.tell(&change("b", 8, snapshot("z")))), DUPLICATE_EVENT);
}

#[test]
fn a_snapshot_replaces_and_a_patch_merges() {
    let mut world = World::default();
    world.tell(&change("a", 1, Verb::Snapshot(document(json!({"notes": "x", "gender": "f"})))));
    world.tell(&change("b", 2, patch(json!({"notes": "y", "owner": "o"}))));
    assert_eq!(world.only_record().contact, Some(document(json!({"notes": "y", "gender": "f", "owner": "o"}))));
    world.tell(&change("c", 3, patch(json!({"owner": null}))));
    assert_eq!(world.only_record().contact, Some(document(json!({"notes": "y", "gender": "f"}))));
    world.tell(&change("d", 4, Verb::Snapshot(document(json!({"gender": null})))));
    assert_eq!(world.only_record().contact, Some(document(json!({"gender": null}))));
    assert_eq!(world.only_record().version, 4);
}

#[test]
fn a_patch_of_an_unknown_subject_is_its_first_view() {
    let mut world = World::default();
    assert_eq!(raised_to(&world.tell(&change("a", 1, patch(json!({"notes": "x", "owner": null}))))), 1);
    assert_eq!(world.only_record().contact, Some(document(json!({"notes": "x"}))));
}

#[test]
fn a_delete_keeps_the_last_document_and_releases_the_source_id() {
    let mut world = World::default();
    world.tell(&change("a", 1, snapshot("x")));
    let decision = world.tell(&change("b", 9, Verb::Delete));
    assert_eq!(raised_to(&decision), 2);
    let record = world.only_record();
    assert_eq!(record.status, Status::Deleted);
    assert_eq!(record.contact, Some(document(json!({"notes": "x"}))));
    let member = &record.members[0];
    assert!(!member.state.live && member.state.view.is_empty());
    let entry = &decision.keys[0].entry;
    assert_eq!((entry.owner, entry.last_owner), (None, Some(record.contact_id)));
}

#[test]
fn nothing_older_revives_a_deleted_contact() {
    let mut world = World::default();
    let created = change("a", 8, snapshot("x"));
    world.tell(&created);
    world.tell(&change("b", 9, Verb::Delete));
    assert_eq!(ended(&world.tell(&change("c", 8, snapshot("y")))), STALE);
    assert_eq!(ended(&world.tell(&change("d", 9, snapshot("y")))), STALE);
    assert_eq!(ended(&world.tell(&change("e", 9, Verb::Delete))), DUPLICATE_VERSION);
    assert_eq!(
        ended(&world.tell(&Change { version: change("", 99, Verb::Delete).version, ..created })),
        DUPLICATE_EVENT
    );
    assert_eq!(world.only_record().status, Status::Deleted);
}

#[test]
fn a_deleted_subject_comes_back_as_a_new_contact() {
    let mut world = World::default();
    world.tell(&change("a", 8, snapshot("x")));
    let old = world.only_record().contact_id;
    world.tell(&change("b", 9, Verb::Delete));
    let decision = world.tell(&change("c", 10, snapshot("x")));
    assert_eq!(raised_to(&decision), 1);
    let new = decision.records[0].record.contact_id;
    assert_ne!(new, old);
    assert_eq!(world.records[&old].status, Status::Deleted);
    // Events of its earlier life are still known.
    assert_eq!(ended(&world.tell(&change("a", 11, snapshot("z")))), DUPLICATE_EVENT);
    assert_eq!(ended(&world.tell(&change("b", 12, Verb::Delete))), DUPLICATE_EVENT);
}

#[test]
fn a_delete_of_an_unknown_subject_is_remembered() {
    let mut world = World::default();
    let delete = change("a", 9, Verb::Delete);
    assert_eq!(ended(&world.tell(&delete)), UNKNOWN_CONTACT);
    assert_eq!(ended(&world.tell(&delete)), DUPLICATE_EVENT);
    assert_eq!(ended(&world.tell(&change("b", 8, snapshot("x")))), STALE);
    assert_eq!(ended(&world.tell(&change("c", 10, Verb::Delete))), UNKNOWN_CONTACT);
    assert!(world.records.is_empty());
    assert_eq!(raised_to(&world.tell(&change("d", 11, snapshot("x")))), 1);
    assert_eq!(ended(&world.tell(&change("a", 12, Verb::Delete))), DUPLICATE_EVENT);
}

#[test]
fn a_second_delete_changes_nothing_but_the_version_remembered() {
    let mut world = World::default();
    world.tell(&change("a", 1, snapshot("x")));
    world.tell(&change("b", 2, Verb::Delete));
    assert_eq!(ended(&world.tell(&change("c", 5, Verb::Delete))), SAME_RECORD);
    assert_eq!(ended(&world.tell(&change("d", 4, snapshot("y")))), STALE);
}

#[test]
fn a_tombstone_takes_the_highest_version_seen() {
    let mut world = World::default();
    world.tell(&change("a", 7, snapshot("x")));
    let decision = world.tell(&change("t", 0, Verb::Tombstone));
    assert_eq!(raised_to(&decision), 2);
    assert!(!decision.tied);
    assert_eq!(ended(&world.tell(&change("b", 7, snapshot("y")))), STALE);
    assert_eq!(raised_to(&world.tell(&change("c", 8, snapshot("y")))), 1);
}

#[test]
fn a_tombstone_of_an_unknown_subject_is_remembered() {
    let mut world = World::default();
    let mut tombstone = placed("t", "1", None, 5, Verb::Tombstone);
    assert_eq!(ended(&world.tell(&tombstone)), UNKNOWN_CONTACT);
    tombstone.id = "u".into();
    assert_eq!(ended(&world.tell(&tombstone)), DUPLICATE_VERSION);
    assert_eq!(ended(&world.tell(&placed("b", "1", None, 4, snapshot("x")))), STALE);
}

#[test]
fn a_record_that_would_be_too_large_is_quarantined_and_nothing_of_it_stays() {
    let mut world = World::default();
    world.tell(&change("a", 1, snapshot("x")));
    let before = world.clone();
    let decision = world.tell(&change("b", 2, snapshot(&"x".repeat(20_000))));
    let Answer::DeadLetters(fault) = &decision.answer else { panic!("answered elsewhere: {decision:?}") };
    assert_eq!((fault.code, fault.event.id.as_deref()), (ReasonCode::RecordTooLarge, Some("b")));
    assert_eq!(world, before);
    assert_eq!(raised_to(&world.tell(&change("c", 2, snapshot("y")))), 2);
}

#[test]
fn a_source_record_remembers_its_last_events_and_no_more() {
    let mut world = World::default();
    for sequence in 0..=EVENT_IDS_MAX as u64 {
        world.tell(&change(&format!("event {sequence}"), sequence, snapshot(&sequence.to_string())));
    }
    assert_eq!(world.only_record().members[0].state.event_ids.len(), EVENT_IDS_MAX);
    assert_eq!(ended(&world.tell(&change("event 1", 1000, snapshot("x")))), DUPLICATE_EVENT);
    raised_to(&world.tell(&change("event 0", 1000, snapshot("x"))));
}

#[test]
fn a_founding_event_that_was_forgotten_does_not_found_the_same_contact_again() {
    let mut world = World::default();
    let founding = placed("a", "1", None, 0, snapshot("x"));
    world.tell(&founding);
    let old = world.only_record().contact_id;
    for offset in 1..=EVENT_IDS_MAX as u64 {
        world.tell(&placed(&format!("event {offset}"), "1", None, offset, snapshot(&offset.to_string())));
    }
    world.tell(&placed("gone", "1", None, 100, Verb::Delete));
    let decision = world.tell(&placed("a", "1", None, 101, snapshot("x")));
    assert_eq!(raised_to(&decision), 1);
    assert_ne!(decision.records[0].record.contact_id, old);
    assert_eq!(world.records.len(), 2);
}

#[test]
fn a_change_is_as_old_as_the_oldest_of_its_times() {
    for (time, record_timestamp, expected) in [
        (None, "2026-05-01T11:00:00Z", "2026-05-01T11:00:00Z"),
        (Some("2026-05-01T10:00:00Z"), "2026-05-01T11:00:00Z", "2026-05-01T10:00:00Z"),
        (Some("2026-05-01T11:30:00Z"), "2026-05-01T11:00:00Z", "2026-05-01T11:00:00Z"),
        // Ahead of us: our own clock speaks.
        (Some("2026-05-01T13:00:00Z"), "2026-05-01T14:00:00Z", "2026-05-01T12:00:00Z"),
    ] {
        let mut world = World::default();
        let mut change = change("a", 1, snapshot("x"));
        change.time = time.map(at);
        change.record_timestamp = at(record_timestamp);
        world.tell(&change);
        assert_eq!(world.only_record().members[0].state.spoke_at, at(expected));
    }
}

#[test]
fn two_subjects_are_two_contacts() {
    let mut world = World::default();
    world.tell(&placed("a", "1", None, 0, snapshot("x")));
    world.tell(&placed("a", "2", None, 1, snapshot("x")));
    assert_eq!(world.live().len(), 2);
}

/// A change of one subject in a random history; its place in the history makes id and offset.
#[derive(Debug, Clone)]
struct Told {
    sequence: u64,
    verb: u8,
    content: u8,
    /// The event id of the change that many places before, in place of its own.
    repeats: Option<usize>,
}

fn histories() -> impl Strategy<Value = Vec<Vec<Told>>> {
    let told = (0..12_u64, 0..8_u8, 0..3_u8, proptest::option::weighted(0.15, 1..4_usize))
        .prop_map(|(sequence, verb, content, repeats)| Told { sequence, verb, content, repeats });
    proptest::collection::vec(proptest::collection::vec(told, 0..14), 1..4)
}

/// Random histories of a few subjects, each in its own partition of the log. `by_log`: no sequences.
fn changes(histories: &[Vec<Told>], by_log: bool) -> Vec<Vec<Change>> {
    let one = |subject: usize, place: usize, told: &Told| {
        let verb = match told.verb {
            0..4 => snapshot(&told.content.to_string()),
            4..6 => patch(json!({ "owner": told.content.to_string() })),
            6 => Verb::Delete,
            _ => Verb::Tombstone,
        };
        let id = match told.repeats {
            Some(back) => place.saturating_sub(back),
            None => place,
        };
        let sequence = (!by_log && verb != Verb::Tombstone).then(|| Arc::from(told.sequence.to_string()));
        placed(&format!("event {id}"), &subject.to_string(), sequence, place as u64, verb)
    };
    histories
        .iter()
        .enumerate()
        .map(|(subject, told)| told.iter().enumerate().map(|(place, told)| one(subject, place, told)).collect())
        .collect()
}

/// One log of all histories, each in its own order; `picks` chooses whose turn it is.
fn interleaved(histories: &[Vec<Change>], picks: &[usize]) -> Vec<Change> {
    let mut rest: Vec<_> = histories.iter().map(|history| history.iter()).collect();
    let mut log = Vec::new();
    for pick in picks.iter().copied().chain((0..histories.len()).cycle()) {
        if rest.iter().all(|history| history.len() == 0) {
            break;
        }
        let turn = pick % rest.len();
        log.extend(rest[turn].next().cloned());
    }
    log
}

fn invariant_live_source_records_are_in_one_contact_and_own_it(world: &World) {
    let mut owners: HashMap<KeyHash, ContactId> = HashMap::new();
    for record in world.records.values() {
        for member in record.members.iter().filter(|member| member.state.live) {
            let key = KeyHash::of_source_id(&context().hasher, &member.source, &member.subject);
            assert_eq!(owners.insert(key, record.contact_id), None, "a live source record is in one contact");
        }
    }
    let owned = world.keys.iter().filter_map(|(key, entry)| Some((*key, entry.owner?))).collect();
    assert_eq!(owners, owned, "a key has an owner exactly while a live source record asserts it");
}

fn invariant_a_contact_lives_as_long_as_its_source_records(world: &World) {
    for record in world.records.values() {
        let lives = record.members.iter().any(|member| member.state.live);
        assert_eq!(record.status, if lives { Status::Live } else { Status::Deleted });
    }
}

proptest! {
    #[test]
    fn any_history_keeps_the_invariants_and_answers_every_event_once(
        histories in histories(), picks in proptest::collection::vec(0..4_usize, 0..40), by_log: bool,
    ) {
        let mut world = World::default();
        for change in interleaved(&changes(&histories, by_log), &picks) {
            let before = world.clone();
            let decision = world.tell(&change);
            invariant_live_source_records_are_in_one_contact_and_own_it(&world);
            invariant_a_contact_lives_as_long_as_its_source_records(&world);
            let carried = decision.entries.iter().filter(|entry| entry.event.as_ref() == Some(&change.event)).count();
            prop_assert_eq!(carried, usize::from(decision.answer == Answer::Replicators));
            for new in &decision.records {
                let old = before.records.get(&new.record.contact_id);
                let raised = old.is_none_or(|old| (old.status, &old.contact) != (new.record.status, &new.record.contact));
                let version = old.map_or(0, |old| old.version) + Version::from(raised);
                prop_assert_eq!(new.record.version, version);
                prop_assert_eq!(decision.entries.len(), usize::from(raised));
            }
        }
    }

    #[test]
    fn events_that_were_accepted_are_duplicates_when_they_come_again(
        histories in histories(), picks in proptest::collection::vec(0..4_usize, 0..40), by_log: bool,
    ) {
        let mut world = World::default();
        let mut log = interleaved(&changes(&histories, by_log), &picks);
        log.retain(|change| {
            let decision = world.tell(change);
            !matches!(decision.answer, Answer::Resolver(ending)
                if matches!(ending.outcome, OutcomeKind::Stale | OutcomeKind::Duplicate))
        });
        let before = world.clone();
        for (place, change) in log.iter().enumerate() {
            let mut again = change.clone();
            again.version.offset = 1000 + place as u64;
            prop_assert_eq!(ended(&world.tell(&again)), DUPLICATE_EVENT);
        }
        prop_assert_eq!(world, before);
    }

    #[test]
    fn the_order_between_subjects_does_not_matter(
        histories in histories(),
        one in proptest::collection::vec(0..4_usize, 0..40),
        other in proptest::collection::vec(0..4_usize, 0..40),
        by_log: bool,
    ) {
        let changes = changes(&histories, by_log);
        let (mut first, mut second) = (World::default(), World::default());
        interleaved(&changes, &one).iter().for_each(|change| drop(first.tell(change)));
        interleaved(&changes, &other).iter().for_each(|change| drop(second.tell(change)));
        prop_assert_eq!(first, second);
    }
}
