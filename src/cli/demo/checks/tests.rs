//! A small run that went well, and for each check the ways in which it could have gone wrong.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::{
    cli::demo::{
        evidence::{Call, CrmEvidence, Expectation, Fields},
        generator::{People, Told},
    },
    config::CrmKind,
    contact::{
        Document,
        record::{FORMAT, Member, MemberState, Status},
    },
    crm::{REMOTE_CONTACT, link::Link},
    event::{
        Entry, Operation, OutcomeKind, Reason, ReasonCode, SourceVersion, dead_letter::DeadLetter, outcome::ANY_CRM,
    },
    identity::Membership,
    log::{Header, Record, TopicPartition},
    sandbox::Action,
};

const CRM: &str = "venues";
const TOPIC: &str = "contact-changes";

fn contact(number: u128) -> ContactId {
    ContactId(Uuid::from_u128(number))
}

/// Holds the id and the family name; wants a family name, and cannot hold deleted contacts that it never had.
#[derive(Debug)]
struct FamilyNames(CrmKind);

impl Expectation for FamilyNames {
    fn kind(&self) -> CrmKind {
        self.0
    }

    fn of(&self, record: &ContactRecord, stored: bool) -> Option<Fields> {
        if record.status != Status::Live && !stored {
            return None;
        }
        let name = record.contact.as_ref()?.members().get("name")?.get("familyName")?.clone();
        Some(fields(record.contact_id, name))
    }
}

fn fields(contact: ContactId, name: impl Into<Value>) -> Fields {
    Fields::from([("externalIntegrationId".to_owned(), contact.key().into()), ("lastName".to_owned(), name.into())])
}

fn input(offset: Offset) -> Record {
    Record {
        at: TopicPartition::new(TOPIC, 0),
        offset,
        timestamp: Timestamp::UNIX_EPOCH,
        key: Some(Bytes::from_static(b"42")),
        value: Some(Bytes::from(format!("event {offset}"))),
        headers: vec![Header::new("ce_id", &b"e"[..])],
    }
}

fn event(offset: Offset) -> EventRef {
    EventRef::at(&input(offset))
}

fn entry(number: u128, version: Version, offset: Offset) -> Entry {
    Entry {
        contact_id: contact(number),
        version,
        event: Some(event(offset)),
        received_at: Timestamp::UNIX_EPOCH,
        traceparent: None,
        cause: None,
        crm: None,
        link_to: None,
        epoch: 1,
        format: FORMAT,
    }
}

fn record(number: u128, version: Version, name: Option<&str>) -> ContactRecord {
    let said = name.map_or_else(|| json!({}), |name| json!({"name": {"familyName": name}}));
    ContactRecord {
        contact_id: contact(number),
        version,
        status: Status::Live,
        merged_into: None,
        contact: Some(Document::parse(said).unwrap().0),
        provenance: BTreeMap::new(),
        members: Vec::new(),
        event: None,
        received_at: Timestamp::UNIX_EPOCH,
        epoch: 1,
        format: FORMAT,
    }
}

fn outcome(entry: &Entry, kind: OutcomeKind) -> Outcome {
    Outcome {
        event: entry.event.clone(),
        cause: None,
        contact_id: Some(entry.contact_id),
        version: Some(entry.version),
        crm: CRM.into(),
        outcome: kind,
        operation: (kind == OutcomeKind::Delivered).then_some(Operation::Update),
        remote_id: None,
        reason: None,
        attempts: 1,
        received_at: Timestamp::UNIX_EPOCH,
        settled_at: Timestamp::UNIX_EPOCH,
        by_version: None,
        traceparent: None,
    }
}

fn early(offset: Offset, kind: OutcomeKind, code: ReasonCode) -> Outcome {
    Outcome {
        crm: ANY_CRM.into(),
        contact_id: None,
        version: None,
        reason: Some(Reason::from(code)),
        ..outcome(&entry(0, 0, offset), kind)
    }
}

/// A request of the CRM's log as it comes over HTTP.
fn logged(sequence: u64, from: u64, to: u64, contact: u128, name: &str) -> Value {
    let id = ContactId(Uuid::from_u128(contact)).key();
    let body = json!({"externalIntegrationId": id, "lastName": name, "title": null, "inactive": false});
    json!({
        "sequence": sequence, "action": "upsert", "since_start_ms": from, "ended_since_start_ms": to, "contact": id,
        "arrived_at": Timestamp::UNIX_EPOCH + Duration::from_millis(from),
        "body": body.to_string(), "effect": null, "status": 200, "answered": true, "retry_after": null,
    })
}

fn link(number: u128, remote_id: &str) -> Link {
    let mut link = Link::new(contact(number));
    link.remote_ids.insert(REMOTE_CONTACT.to_owned(), remote_id.to_owned());
    link
}

/// Contact 1 has four versions: 1 was superseded, 2 was delivered after a 429, 3 was parked and superseded, 4 delivered
/// after a lost answer. Contact 2 lacks what the CRM wants. One event is a duplicate, one could not be read.
fn good() -> Evidence {
    let entries = vec![entry(1, 1, 0), entry(1, 2, 1), entry(2, 1, 4), entry(1, 3, 5), entry(1, 4, 6)];
    let superseded =
        |entry: &Entry, by| Outcome { by_version: Some(by), attempts: 0, ..outcome(entry, OutcomeKind::Superseded) };
    let outcomes = vec![
        early(2, OutcomeKind::Duplicate, ReasonCode::SameEvent),
        early(3, OutcomeKind::Quarantined, ReasonCode::NotJson),
        superseded(&entries[0], 2),
        outcome(&entries[1], OutcomeKind::Delivered),
        outcome(&entries[2], OutcomeKind::Rejected),
        superseded(&entries[3], 4),
        outcome(&entries[4], OutcomeKind::Delivered),
    ];
    let mut calls = [
        logged(1, 100, 110, 1, "Roth"),
        logged(2, 2_200, 2_210, 1, "Roth"),
        logged(3, 2_300, 2_310, 1, "Kern"),
        logged(4, 2_400, 2_410, 1, "Kern"),
    ];
    (calls[0]["status"], calls[0]["retry_after"]) = (json!(429), json!(2));
    calls[1]["effect"] = json!(1);
    (calls[2]["effect"], calls[2]["status"], calls[2]["answered"]) = (json!(2), json!(null), json!(false));
    calls[3]["effect"] = json!(3);
    let requests = json!({"dropped": 0, "requests": calls}).to_string();
    let stored = json!({"contacts": [
        {"id": 7, "writes": 3, "fields": {"externalIntegrationId": contact(1).key(), "lastName": "Kern"}},
    ]});
    let input = |offset| input(offset);
    let letter = DeadLetter {
        topic: TOPIC.into(),
        partition: 0,
        offset: 3,
        timestamp: Timestamp::UNIX_EPOCH,
        code: ReasonCode::NotJson,
        pointer: None,
        key: input(3).key,
        value: input(3).value,
        headers: input(3).headers,
    };
    let crm = CrmEvidence::read(
        CRM,
        stored.to_string().as_bytes(),
        requests.as_bytes(),
        Arc::new(FamilyNames(CrmKind::Priava)),
    );
    Evidence {
        inputs: (0..7).map(input).collect(),
        entries,
        // Version 3 of contact 1 was decided in one batch with version 4, so nobody ever saw its record.
        records: vec![
            record(1, 1, Some("Rot")),
            record(1, 2, Some("Roth")),
            record(2, 1, None),
            record(1, 4, Some("Kern")),
        ],
        outcomes,
        dead_letters: vec![letter],
        unreadable: Vec::new(),
        crms: vec![crm.unwrap()],
        links: BTreeMap::from([(CRM.into(), BTreeMap::from([(contact(1), link(1, "7"))]))]),
        repeats_allowed: 0,
    }
}

/// Asserts that `check` passes the good run, and fails it once `spoilt`, saying `says`.
#[track_caller]
fn fails(check: fn(&Evidence) -> Checked, says: &str, spoil: impl FnOnce(&mut Evidence)) {
    let mut evidence = good();
    let before = check(&evidence);
    assert!(before.ok, "{}: {}", before.name, before.detail);
    spoil(&mut evidence);
    let after = check(&evidence);
    assert!(!after.ok, "{}: {}", after.name, after.detail);
    assert!(after.detail.contains(says), "{}: {}", after.name, after.detail);
}

fn call(evidence: &mut Evidence, index: usize) -> &mut Call {
    &mut evidence.crms[0].calls[index]
}

#[test]
fn a_run_that_went_well_passes_every_check() {
    for checked in all(&good()) {
        assert!(checked.ok, "{}: {}", checked.name, checked.detail);
    }
    assert_eq!(unsettled(&good(), &[CRM.into()]), Vec::<String>::new());
}

#[test]
fn nothing_at_all_does_not_pass_for_a_run_that_went_well() {
    let checked = all(&Evidence::default());
    let failed: Vec<_> = checked.iter().filter(|checked| !checked.ok).map(|checked| checked.name).collect();
    assert_eq!(failed.len(), 9, "{failed:?}");
}

#[test]
fn every_check_says_its_own_name() {
    let names: std::collections::BTreeSet<_> = all(&good()).into_iter().map(|checked| checked.name).collect();
    assert_eq!(names.len(), ALL.len());
}

#[test]
fn an_input_without_an_end_is_found() {
    let check = every_input_is_accounted_for;
    fails(check, "@2 has 0 ends", |evidence| drop(evidence.outcomes.remove(0)));
    fails(check, "@6 has 0 ends", |evidence| drop(evidence.entries.pop()));
    fails(check, "@7 has 0 ends", |evidence| evidence.inputs.push(input(7)));
}

#[test]
fn an_input_with_two_ends_is_found() {
    let check = every_input_is_accounted_for;
    fails(check, "@2 has 2 ends", |evidence| evidence.outcomes.push(evidence.outcomes[0].clone()));
    fails(check, "@2 has 2 ends", |evidence| evidence.entries.push(entry(3, 1, 2)));
    fails(check, "@4 has 2 ends", |evidence| evidence.entries.push(entry(3, 1, 4)));
}

#[test]
fn an_end_of_nothing_is_found() {
    fails(every_input_is_accounted_for, "no such input", |evidence| evidence.entries.push(entry(3, 1, 9)));
}

#[test]
fn an_entry_without_an_outcome_is_found() {
    let check = every_entry_has_one_outcome_per_crm;
    fails(check, "version 4 in venues has no outcome", |evidence| drop(evidence.outcomes.pop()));
    fails(check, "in other has no outcome", |evidence| {
        let other = CrmEvidence { name: "other".into(), ..evidence.crms[0].clone() };
        evidence.crms.push(other);
    });
    let mut evidence = good();
    evidence.outcomes.pop();
    assert_eq!(unsettled(&evidence, &[CRM.into()]), [format!("{} version 4 has no outcome in venues", contact(1))]);
}

#[test]
fn an_outcome_that_is_there_twice_is_found() {
    for index in [0, 3] {
        fails(every_entry_has_one_outcome_per_crm, "2 times", |evidence| {
            evidence.outcomes.push(evidence.outcomes[index].clone());
        });
    }
}

#[test]
fn an_outcome_of_no_entry_is_found() {
    let stranger = outcome(&entry(1, 5, 8), OutcomeKind::Delivered);
    fails(every_entry_has_one_outcome_per_crm, "answers no entry", |evidence| evidence.outcomes.push(stranger));
}

#[test]
fn an_outcome_about_another_contact_or_version_is_found() {
    let check = every_entry_has_one_outcome_per_crm;
    fails(check, "another contact or version", |evidence| evidence.outcomes[3].version = Some(1));
    fails(check, "another contact or version", |evidence| evidence.outcomes[3].contact_id = Some(contact(2)));
}

#[test]
fn a_version_superseded_by_none_or_an_older_or_an_unanswered_one_is_found() {
    let check = superseded_points_forward;
    fails(check, "superseded by nothing", |evidence| evidence.outcomes[2].by_version = None);
    fails(check, "superseded by 1", |evidence| evidence.outcomes[2].by_version = Some(1));
    fails(check, "which has no outcome", |evidence| evidence.outcomes[2].by_version = Some(9));
    fails(check, "names a successor", |evidence| evidence.outcomes[3].by_version = Some(4));
}

#[test]
fn versions_that_leap_repeat_or_part_from_the_records_are_found() {
    let check = contact_ids_and_versions_rise_by_one;
    fails(check, "goes from 2 to 4", |evidence| drop(evidence.entries.remove(3)));
    fails(check, "goes from 4 to 4", |evidence| evidence.entries.push(entry(1, 4, 8)));
    fails(check, "goes from 0 to 2", |evidence| evidence.entries[2].version = 2);
    fails(check, "a record of", |evidence| evidence.records.swap(0, 1));
    fails(check, "two records of version 4 that differ", |evidence| {
        evidence.records.push(record(1, 4, Some("Vale")));
    });
    let mut evidence = good();
    evidence.records.push(record(1, 4, Some("Kern")));
    assert!(check(&evidence).ok, "a record may be written again");
    fails(check, "newest record Some(2)", |evidence| drop(evidence.records.pop()));
    fails(check, "newest record None", |evidence| drop(evidence.records.remove(2)));
    fails(check, "last entry has version None", |evidence| evidence.records.push(record(3, 1, None)));
}

#[test]
fn a_dead_letter_that_is_missing_doubled_or_unasked_for_is_found() {
    let check = every_quarantined_event_is_a_dead_letter_byte_for_byte;
    fails(check, "has 0 dead letters", |evidence| evidence.dead_letters.clear());
    fails(check, "has 2 dead letters", |evidence| evidence.dead_letters.push(evidence.dead_letters[0].clone()));
    fails(check, "but not quarantined", |evidence| drop(evidence.outcomes.remove(1)));
}

#[test]
fn a_dead_letter_that_differs_by_a_byte_or_in_its_reason_is_found() {
    let check = every_quarantined_event_is_a_dead_letter_byte_for_byte;
    fails(check, "not what came in", |evidence| evidence.dead_letters[0].value = Some(Bytes::from_static(b"event  3")));
    fails(check, "not what came in", |evidence| evidence.dead_letters[0].key = None);
    fails(check, "not what came in", |evidence| evidence.dead_letters[0].headers.clear());
    fails(check, "kept as too_deep", |evidence| evidence.dead_letters[0].code = ReasonCode::TooDeep);
}

#[test]
fn a_record_that_cannot_be_read_is_found() {
    fails(everything_published_can_be_read, "not JSON", |evidence| evidence.unreadable.push("not JSON".to_owned()));
}

#[test]
fn a_contact_that_differs_from_its_newest_record_is_found() {
    let check = the_crm_equals_the_records;
    fails(check, "differs from version 4 in lastName", |evidence| {
        evidence.crms[0].stored[0].fields = fields(contact(1), "Roth");
    });
    fails(check, "differs from version 4 in title", |evidence| {
        evidence.crms[0].stored[0].fields.insert("title".to_owned(), "Dr".into());
    });
    fails(check, "is not in venues", |evidence| evidence.crms[0].stored.clear());
    fails(check, "version 4 has no outcome", |evidence| drop(evidence.outcomes.pop()));
}

#[test]
fn a_contact_that_was_removed_is_not_there_and_one_that_is_there_was_not_removed() {
    let check = the_crm_equals_the_records;
    let erase = |evidence: &mut Evidence| {
        let newest = evidence.records.iter_mut().rfind(|record| record.contact_id == contact(1)).unwrap();
        (newest.status, newest.contact) = (Status::Erased, None);
        evidence.outcomes[6].operation = Some(Operation::Erase);
    };
    fails(check, "is still in venues", erase);
    let mut evidence = good();
    erase(&mut evidence);
    evidence.crms[0].stored.clear();
    let checked = check(&evidence);
    assert!(checked.ok, "{}", checked.detail);
    fails(check, "is not in venues", |evidence| {
        erase(evidence);
        evidence.crms[0].stored.clear();
        evidence.outcomes[6].operation = Some(Operation::Update);
    });
}

#[test]
fn a_contact_whose_newest_version_was_refused_may_be_an_older_one_and_nothing_else() {
    let refused = |name: &'static str| {
        move |evidence: &mut Evidence| {
            evidence.outcomes[6].outcome = OutcomeKind::Rejected;
            evidence.crms[0].stored[0].fields = fields(contact(1), name);
        }
    };
    fails(the_crm_equals_the_records, "is no earlier version", refused("Kern"));
    fails(the_crm_equals_the_records, "is no earlier version", refused("Smith"));
    let mut evidence = good();
    refused("Roth")(&mut evidence);
    assert!(the_crm_equals_the_records(&evidence).ok);
}

#[test]
fn a_contact_stored_twice_or_by_nobody_is_found() {
    let check = no_duplicate_contact_in_the_crm;
    fails(check, "twice", |evidence| {
        let again = evidence.crms[0].stored[0].clone();
        evidence.crms[0].stored.push(again);
    });
    fails(check, "which is no contact", |evidence| evidence.crms[0].stored[0].external_id = Some(contact(9).key()));
    fails(check, "without our id", |evidence| evidence.crms[0].stored[0].external_id = None);
}

#[test]
fn a_contact_that_no_link_or_more_than_one_names_is_found() {
    let check = every_contact_in_the_crm_has_one_link;
    fn links(evidence: &mut Evidence) -> &mut BTreeMap<ContactId, Link> {
        evidence.links.get_mut(CRM).unwrap()
    }
    fails(check, "stores 7, which no link names", |evidence| links(evidence).clear());
    fails(check, "names 8, which is not there", |evidence| drop(links(evidence).insert(contact(1), link(1, "8"))));
    fails(check, "7 is named by 2 links", |evidence| drop(links(evidence).insert(contact(2), link(2, "7"))));
    fails(check, "is named by the link of another", |evidence| {
        *links(evidence) = BTreeMap::from([(contact(2), link(2, "7"))]);
    });
    fails(check, "links of venues were not read", |evidence| evidence.links.clear());
    let mut evidence = good();
    links(&mut evidence).clear();
    evidence.outcomes.retain(|outcome| outcome.outcome != OutcomeKind::Delivered);
    assert!(check(&evidence).ok, "what landed of a write that was given up is found by the next one");
}

#[test]
fn look_ups_beyond_what_creates_need_are_found() {
    let ask = |evidence: &mut Evidence| {
        for _ in 0..20 {
            let read = Call { action: Action::Search, external_id: None, ..call(evidence, 3).clone() };
            evidence.crms[0].calls.push(read);
        }
    };
    fails(calls_per_event, "look-ups", ask);
    let mut evidence = good();
    ask(&mut evidence);
    evidence.outcomes[3].operation = Some(Operation::Create);
    evidence.outcomes[6].operation = Some(Operation::Create);
    assert!(calls_per_event(&evidence).ok, "{}", calls_per_event(&evidence).detail);
}

#[test]
fn where_a_contact_is_read_before_it_is_changed_a_look_up_for_each_change_is_none_too_many() {
    let ask = |evidence: &mut Evidence, times: usize| {
        for _ in 0..times {
            let read = Call { action: Action::Get, ..call(evidence, 3).clone() };
            evidence.crms[0].calls.push(read);
        }
    };
    // One contact is refused and two calls failed, with six look-ups for each.
    fails(calls_per_event, "19 look-ups, and 18 would do", |evidence| ask(evidence, 19));
    let of_kind = |kind, times| {
        let mut evidence = good();
        evidence.crms[0].expectation = Arc::new(FamilyNames(kind));
        ask(&mut evidence, times);
        calls_per_event(&evidence).ok
    };
    for kind in [CrmKind::CrmCom, CrmKind::Logisense] {
        assert!(of_kind(kind, 20) && !of_kind(kind, 21), "two versions were delivered");
    }
    assert!(!of_kind(CrmKind::NextinteractSam, 20));
}

#[test]
fn a_create_that_another_call_completes_is_no_call_too_many_and_carries_what_it_says() {
    let mut evidence = good();
    let begun = Call { sequence: 5, effect: Some(0), begins: true, ..call(&mut evidence, 1).clone() };
    let whole = Call { begins: false, ..begun.clone() };
    for (added, calls_fit) in [(begun.clone(), true), (whole, false)] {
        let mut evidence = good();
        // All that failed was in vain, so that nothing makes up for one call more.
        evidence.crms[0].calls.retain(Call::was_accepted);
        evidence.crms[0].calls.insert(0, added);
        assert_eq!(calls_per_event(&evidence).ok, calls_fit, "{}", calls_per_event(&evidence).detail);
    }
    let id = ("externalIntegrationId".to_owned(), contact(1).key().into());
    let name = |name: &str| ("lastName".to_owned(), Value::from(name));
    let says = |fields: Fields, begins| {
        let mut evidence = good();
        evidence.crms[0].calls.insert(0, Call { fields: Some(fields), begins, ..begun.clone() });
        order_per_contact(&evidence).ok
    };
    assert!(says([id.clone()].into(), true) && says([id.clone(), name("Roth")].into(), true));
    assert!(!says([id.clone()].into(), false) && !says([id, name("Nobody")].into(), true));
}

#[test]
fn a_contact_that_was_begun_may_stay_so_when_its_newest_version_was_refused() {
    let holds = |begins: bool| {
        let mut evidence = good();
        evidence.outcomes[6].outcome = OutcomeKind::Rejected;
        let id = ("externalIntegrationId".to_owned(), contact(1).key().into());
        evidence.crms[0].stored[0].fields = [id].into();
        let last = Call { sequence: 50, effect: Some(50), begins, ..call(&mut evidence, 1).clone() };
        evidence.crms[0].calls.push(last);
        the_crm_equals_the_records(&evidence).ok
    };
    assert!(holds(true) && !holds(false));
}

#[test]
fn an_answer_that_refuses_under_a_status_of_success_takes_nothing() {
    let mut evidence = good();
    assert!(call(&mut evidence, 1).was_accepted());
    call(&mut evidence, 1).refused = true;
    assert!(!call(&mut evidence, 1).was_accepted());
}

#[test]
fn a_version_that_was_stored_and_is_called_unchanged_is_found() {
    let check = no_delivered_version_published_as_unchanged;
    let call_it_unchanged = |evidence: &mut Evidence| evidence.outcomes[6].outcome = OutcomeKind::Unchanged;
    fails(check, "version 4 is unchanged in venues", call_it_unchanged);
    let mut evidence = good();
    call_it_unchanged(&mut evidence);
    evidence.records[1] = record(1, 2, Some("Kern"));
    let checked = check(&evidence);
    assert!(checked.ok && checked.detail.contains("1 versions"), "{}", checked.detail);
}

#[test]
fn a_step_back_to_older_content_is_found() {
    let check = order_per_contact;
    fails(check, "went back to [2, 2] after 4", |evidence| {
        call(evidence, 3).fields = Some(fields(contact(1), "Roth"));
    });
    fails(check, "carried no version", |evidence| call(evidence, 3).fields = Some(fields(contact(1), "Smith")));
    fails(check, "did not keep the content", |evidence| call(evidence, 3).fields = None);
}

#[test]
fn a_lost_request_may_land_late_and_an_answered_one_may_not() {
    let swap = |evidence: &mut Evidence| {
        (call(evidence, 1).effect, call(evidence, 2).effect, call(evidence, 3).effect) = (Some(3), Some(1), Some(2));
    };
    fails(order_per_contact, "went back", swap);
    let mut evidence = good();
    swap(&mut evidence);
    call(&mut evidence, 1).answered = false;
    let checked = order_per_contact(&evidence);
    assert!(checked.ok && checked.detail.contains("1 late"), "{}", checked.detail);
}

#[test]
fn content_that_comes_back_is_no_step_back() {
    let mut evidence = good();
    evidence.records.push(record(1, 5, Some("Roth")));
    let again = Call { sequence: 5, effect: Some(4), ..call(&mut evidence, 1).clone() };
    evidence.crms[0].calls.push(again);
    let checked = order_per_contact(&evidence);
    assert!(checked.ok, "{}", checked.detail);
}

#[test]
fn two_requests_about_one_contact_at_once_are_found() {
    let check = one_request_in_flight_per_contact;
    fails(check, "before call 2", |evidence| call(evidence, 2).arrived = Duration::from_millis(2_209));
    fails(check, "did not end", |evidence| call(evidence, 1).ended = None);
    fails(check, "before call 2", |evidence| call(evidence, 1).ended = Some(Duration::from_millis(2_350)));
    // The caller had given up on it.
    let mut evidence = good();
    call(&mut evidence, 2).ended = Some(Duration::from_millis(2_500));
    assert!(check(&evidence).ok);
}

#[test]
fn requests_of_other_contacts_may_overlap() {
    let mut evidence = good();
    let other = Call { external_id: Some(contact(2).key()), ..call(&mut evidence, 1).clone() };
    evidence.crms[0].calls.push(other);
    assert!(one_request_in_flight_per_contact(&evidence).ok);
}

#[test]
fn impatience_is_found() {
    let check = nothing_before_retry_after;
    fails(check, "call 2 about", |evidence| call(evidence, 1).arrived = Duration::from_millis(2_109));
    // A refusal of the whole CRM concerns all contacts, another one its own.
    let other = |status| {
        move |evidence: &mut Evidence| {
            call(evidence, 0).status = Some(status);
            let hasty = call(evidence, 1);
            (hasty.arrived, hasty.external_id) = (Duration::from_millis(1_000), Some(contact(2).key()));
        }
    };
    fails(check, "call 2 about", other(429));
    let mut evidence = good();
    other(503)(&mut evidence);
    assert!(check(&evidence).ok);
    fails(check, "call 2 about", |evidence| {
        (call(evidence, 0).status, call(evidence, 1).arrived) = (Some(503), Duration::from_millis(1_000));
    });
}

#[test]
fn a_request_that_was_on_its_way_is_not_impatient() {
    let mut evidence = good();
    call(&mut evidence, 1).arrived = Duration::from_millis(115);
    let checked = nothing_before_retry_after(&evidence);
    assert!(checked.ok && checked.detail.contains("1 requests were on their way"), "{}", checked.detail);
}

#[test]
fn a_call_for_nothing_is_found_unless_a_worker_was_killed() {
    let repeat = |evidence: &mut Evidence| {
        // As often as the contact's failures allow, and once more.
        for _ in 0..3 {
            let again = call(evidence, 3).clone();
            evidence.crms[0].calls.push(again);
        }
    };
    fails(calls_per_event, "1 calls that no delivered version accounts for", repeat);
    let mut evidence = good();
    repeat(&mut evidence);
    evidence.repeats_allowed = 1;
    assert!(calls_per_event(&evidence).ok);
    assert!(calls_per_event(&good()).detail.contains("4 calls for 5 events, 0.80 each; 2 accepted, 2 refused or lost"));
}

#[test]
fn a_log_that_dropped_calls_proves_nothing() {
    for check in [order_per_contact, one_request_in_flight_per_contact, nothing_before_retry_after, calls_per_event] {
        fails(check, "dropped 3 calls", |evidence| evidence.crms[0].calls_dropped = 3);
    }
}

#[test]
fn what_an_operator_asks_raises_no_version_and_is_answered_once_by_its_crm() {
    use crate::event::entry::{Cause, CauseKind};
    let mut evidence = good();
    let cause = Cause { kind: CauseKind::Resync, id: "r-1".to_owned() };
    let asked = Entry::asked(contact(1), 1, cause.clone(), CRM.into(), Timestamp::UNIX_EPOCH);
    let of_another = Entry { crm: Some("another".into()), ..asked.clone() };
    evidence.entries.extend([asked, of_another]);
    assert_eq!(unsettled(&evidence, &[CRM.into()]).len(), 1);
    assert!(!every_entry_has_one_outcome_per_crm(&evidence).ok);
    let mut answer = evidence.outcomes.iter().find(|outcome| outcome.contact_id == Some(contact(1))).unwrap().clone();
    (answer.event, answer.cause, answer.crm) = (None, Some(cause), CRM.into());
    (answer.outcome, answer.operation, answer.reason) = (OutcomeKind::Delivered, Some(Operation::Update), None);
    (answer.version, answer.by_version) = (Some(2), None);
    evidence.outcomes.push(answer.clone());
    for checked in all(&evidence) {
        assert!(checked.ok, "{}: {}", checked.name, checked.detail);
    }
    assert_eq!(unsettled(&evidence, &[CRM.into()]), Vec::<String>::new());
    evidence.outcomes.push(answer);
    assert!(!every_entry_has_one_outcome_per_crm(&evidence).ok);
}

fn member(source: &str, live: bool) -> Member {
    let version = SourceVersion { sequence: None, time: None, topic: TOPIC.into(), partition: 0, offset: 0 };
    let state = MemberState {
        live,
        version,
        view: Document::default(),
        spoke_at: Timestamp::UNIX_EPOCH,
        event_ids: Vec::new(),
        content: String::new(),
        membership: Membership::default(),
    };
    Member { source: source.into(), subject: "42".into(), state }
}

/// Person 1 is known to the shop and the directory, person 2 to the billing; the directory had person 3.
fn people() -> (Evidence, People) {
    let told = |source: &str, person, live| ((source.to_owned(), "42".to_owned()), Told { person, live });
    let known = [told("shop", 1, true), told("web", 1, true), told("billing", 2, true), told("directory", 3, false)];
    let mut evidence = good();
    for record in &mut evidence.records {
        record.members = match record.contact_id == contact(1) {
            true => vec![member("shop", true), member("web", true)],
            false => vec![member("billing", true), member("directory", false)],
        };
    }
    (evidence, People { known: known.into() })
}

#[track_caller]
fn people_fail(says: &str, figures: Persons, spoil: impl FnOnce(&mut Evidence, &mut People)) {
    let (mut evidence, mut truth) = people();
    spoil(&mut evidence, &mut truth);
    let (checked, found) = every_person_is_one_contact(&evidence, &truth);
    assert!(!checked.ok && checked.detail.contains(says), "{}", checked.detail);
    assert_eq!(found, figures);
}

#[test]
fn people_who_are_joined_split_or_missing_are_found() {
    let (evidence, truth) = people();
    let well = Persons { live: 2, found: 2, of_several_sources: 1, contacts: 2, ..Persons::default() };
    let (checked, found) = every_person_is_one_contact(&evidence, &truth);
    assert!(checked.ok, "{}", checked.detail);
    assert_eq!(found, well);

    let figures = Persons { found: 0, joined_wrongly: 1, ..well.clone() };
    people_fail("joins 2 people", figures, |evidence, _| {
        let last = evidence.records.last_mut().unwrap();
        last.members = vec![member("shop", true), member("web", true), member("billing", true)];
        evidence.records.remove(2);
        evidence.records.push(record(2, 1, None));
    });
    // It was so for one version, and mended by the next.
    let figures = Persons { found: 1, joined_wrongly: 1, ..well.clone() };
    people_fail("joins 2 people in version 2", figures, |evidence, _| {
        evidence.records[1].members.push(member("billing", true));
    });
    let figures = Persons { found: 1, split: 1, contacts: 3, ..well.clone() };
    people_fail("person 1 is 2 contacts", figures, |evidence, truth| {
        evidence.records[3].members.pop();
        evidence.records[2].members = vec![member("web", true)];
        truth.known.remove(&("billing".to_owned(), "42".to_owned()));
        truth.known.insert(("old".to_owned(), "42".to_owned()), Told { person: 2, live: true });
        let mut other = record(3, 1, None);
        other.members = vec![member("old", true)];
        evidence.records.push(other);
    });
    let figures = Persons { found: 1, missing: 1, ..well.clone() };
    people_fail("42 of web is in no contact", figures, |evidence, _| drop(evidence.records[3].members.pop()));
    let figures = Persons { contacts: 3, ..well };
    people_fail("that is no more", figures, |evidence, _| {
        let mut ghost = record(2, 2, None);
        ghost.members = vec![member("billing", true)];
        evidence.records.push(ghost);
        let mut undead = record(3, 1, None);
        undead.status = Status::Live;
        undead.members = vec![member("directory", true)];
        evidence.records.push(undead);
    });
}
