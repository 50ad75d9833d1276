use std::collections::BTreeSet;

use serde_json::{Value, json};
use uuid::Uuid;

use super::*;
use crate::{event::entry::CauseKind, log::TopicPartition, privacy::Secret};

fn delivered() -> Outcome {
    Outcome {
        event: Some(EventRef {
            source: Some("/shop".into()),
            id: Some("e-1".into()),
            subject: Some("ann@example.com".into()),
            topic: "contact-changes".into(),
            partition: 3,
            offset: 17,
        }),
        cause: None,
        contact_id: Some(ContactId(Uuid::from_u128(7))),
        version: Some(2),
        crm: "priava".into(),
        outcome: OutcomeKind::Delivered,
        operation: Some(Operation::Create),
        remote_id: Some("r-9".to_owned()),
        reason: None,
        attempts: 1,
        received_at: "2026-03-02T12:00:00Z".parse().unwrap(),
        settled_at: "2026-03-02T12:00:01.5Z".parse().unwrap(),
        by_version: None,
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
    }
}

fn quarantined() -> Outcome {
    Outcome {
        event: Some(EventRef { source: None, id: None, subject: None, ..delivered().event.unwrap() }),
        contact_id: None,
        version: None,
        crm: ANY_CRM.into(),
        outcome: OutcomeKind::Quarantined,
        operation: None,
        remote_id: None,
        reason: Some(Reason { field: Some("/birthDate".to_owned()), ..ReasonCode::BadValue.into() }),
        attempts: 0,
        traceparent: None,
        ..delivered()
    }
}

fn resynced() -> Outcome {
    let cause = Cause { kind: CauseKind::Resync, id: "op-1".to_owned() };
    Outcome { event: None, cause: Some(cause), traceparent: None, ..delivered() }
}

fn hashed() -> Subjects {
    Subjects::new(SubjectForm::Hashed, &Hasher::new(&Secret::new("k")))
}

fn record(encoded: Encoded) -> Record {
    Record {
        at: TopicPartition::new("contact-outcomes", 0),
        offset: 0,
        timestamp: "2026-03-02T12:00:02Z".parse().unwrap(),
        key: encoded.key,
        value: Some(encoded.value),
        headers: encoded.headers,
    }
}

fn headers(encoded: &Encoded) -> Vec<(&str, &str)> {
    let text = |value| std::str::from_utf8(value).unwrap();
    encoded.headers.iter().map(|Header { name, value }| (name.as_str(), text(value))).collect()
}

#[test]
fn an_outcome_is_a_cloud_event_in_binary_mode() {
    let encoded = delivered().encode("acme", &Subjects::Plain, Some(b"42"));
    assert_eq!(encoded.key.as_deref(), Some(&b"00000000-0000-0000-0000-000000000007"[..]));
    let expected = [
        ("ce_specversion", "1.0"),
        ("ce_id", "event/contact-changes/3/17/priava"),
        ("ce_source", "acme"),
        ("ce_type", "contact.replication.delivered"),
        ("ce_time", "2026-03-02T12:00:01.5Z"),
        ("ce_subject", "00000000-0000-0000-0000-000000000007"),
        ("ce_eventsource", "/shop"),
        ("ce_traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("content-type", "application/json"),
    ];
    assert_eq!(headers(&encoded), expected);
}

#[test]
fn the_data_has_every_member_of_the_contract_and_no_other() {
    let data = |outcome: Outcome| -> Value {
        serde_json::from_slice(&outcome.encode("acme", &Subjects::Plain, None).value).unwrap()
    };
    let expected = json!({
        "event": {"source": "/shop", "id": "e-1", "subject": "ann@example.com",
            "topic": "contact-changes", "partition": 3, "offset": 17},
        "contact_id": "00000000-0000-0000-0000-000000000007",
        "version": 2,
        "crm": "priava",
        "outcome": "delivered",
        "operation": "create",
        "remote_id": "r-9",
        "reason": null,
        "attempts": 1,
        "received_at": "2026-03-02T12:00:00Z",
        "settled_at": "2026-03-02T12:00:01.5Z",
        "by_version": null,
    });
    assert_eq!(data(delivered()), expected);

    let quarantined = data(quarantined());
    let reason = json!({"code": "bad_value", "http_status": null, "crm_code": null, "field": "/birthDate"});
    assert_eq!(quarantined["reason"], reason);
    assert_eq!(quarantined["contact_id"], Value::Null);
    let event = json!({"source": null, "id": null, "subject": null,
        "topic": "contact-changes", "partition": 3, "offset": 17});
    assert_eq!(quarantined["event"], event);

    let resynced = data(resynced());
    assert_eq!(resynced["event"], Value::Null);
    assert_eq!(resynced["cause"], json!({"kind": "resync", "id": "op-1"}));
}

#[test]
fn a_quarantined_event_keeps_its_key_and_has_no_subject() {
    let encoded = quarantined().encode("acme", &Subjects::Plain, Some(b"\xff42"));
    assert_eq!(encoded.key.as_deref(), Some(&b"\xff42"[..]));
    let names: Vec<_> = headers(&encoded).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["ce_specversion", "ce_id", "ce_source", "ce_type", "ce_time", "content-type"]);
    assert_eq!(quarantined().encode("acme", &Subjects::Plain, None).key, None);
}

#[test]
fn the_id_depends_on_what_is_answered_and_nothing_else() {
    let later = Outcome {
        outcome: OutcomeKind::Superseded,
        attempts: 9,
        settled_at: "2027-01-01T00:00:00Z".parse().unwrap(),
        ..delivered()
    };
    assert_eq!(later.id(), delivered().id());
    assert_eq!(resynced().id(), "cause/resync/op-1/00000000-0000-0000-0000-000000000007/priava");
    let event = delivered().event.unwrap();
    let others = [
        Outcome { crm: "sam".into(), ..delivered() },
        Outcome { event: Some(EventRef { offset: 18, ..event.clone() }), ..delivered() },
        Outcome { event: Some(EventRef { partition: 4, ..event.clone() }), ..delivered() },
        Outcome { event: Some(EventRef { topic: "other".into(), ..event }), ..delivered() },
        quarantined(),
        resynced(),
        Outcome { contact_id: Some(ContactId(Uuid::from_u128(8))), ..resynced() },
        delivered(),
    ];
    let ids: BTreeSet<_> = others.iter().map(Outcome::id).collect();
    assert_eq!(ids.len(), others.len());
}

#[test]
fn an_outcome_comes_back_as_written() {
    for outcome in [delivered(), quarantined(), resynced()] {
        let encoded = outcome.encode("acme", &Subjects::Plain, Some(b"42"));
        assert_eq!(Outcome::decode(&record(encoded)).unwrap(), outcome);
    }
}

#[test]
fn a_hashed_subject_appears_nowhere_and_is_the_same_each_time() {
    let encoded = delivered().encode("acme", &hashed(), None);
    let text = format!("{:?} {}", headers(&encoded), std::str::from_utf8(&encoded.value).unwrap());
    assert!(!text.contains("ann@"));
    let read = Outcome::decode(&record(encoded)).unwrap();
    let subject = read.event.unwrap().subject.unwrap();
    assert_eq!(subject.len(), 32);
    assert_eq!(subject, hashed().name(&"ann@example.com".into()));
    assert_ne!(subject, hashed().name(&"bob@example.com".into()));

    // The key of an event is its subject: neither may a quarantined one give it away.
    let encoded = quarantined().encode("acme", &hashed(), Some(b"ann@example.com"));
    assert_eq!(encoded.key.as_deref(), Some(subject.as_bytes()));
}

#[test]
fn an_event_that_is_no_outcome_is_not_read_as_one() {
    let good = || record(delivered().encode("acme", &Subjects::Plain, None));
    assert!(Outcome::decode(&good()).is_ok());
    for name in ["ce_specversion", "ce_type", "ce_id", "ce_subject"] {
        let mut bad = good();
        bad.headers.retain(|header| header.name != name);
        assert!(Outcome::decode(&bad).is_err(), "{name}");
        bad.headers.push(Header::new(name, &b"contact.replication.stale"[..]));
        assert!(Outcome::decode(&bad).is_err(), "{name}");
    }
    assert!(Outcome::decode(&Record { value: None, ..good() }).is_err());
    assert!(Outcome::decode(&Record { value: Some(Bytes::from_static(b"{}")), ..good() }).is_err());
    let unanswering = record(resynced().encode("acme", &Subjects::Plain, None));
    let value = String::from_utf8(unanswering.value.clone().unwrap().to_vec()).unwrap();
    let value = value.replace("\"cause\"", "\"because\"");
    assert!(Outcome::decode(&Record { value: Some(value.into()), ..unanswering }).is_err());
}

#[test]
#[should_panic(expected = "answers an event or a cause")]
fn an_outcome_of_nothing_is_our_bug() {
    let outcome = Outcome { event: None, ..delivered() };
    outcome.encode("acme", &Subjects::Plain, None);
}

#[test]
fn every_code_belongs_to_an_outcome() {
    let used: BTreeSet<_> = OutcomeKind::ALL.iter().flat_map(|kind| kind.codes()).copied().collect();
    let all: BTreeSet<_> = ReasonCode::ALL.iter().copied().collect();
    assert_eq!(used, all);
}

#[test]
fn a_label_is_its_name_in_json() {
    assert_eq!(serde_json::to_value(ReasonCode::NotCloudevents).unwrap(), json!("not_cloudevents"));
    assert_eq!(serde_json::to_value(OutcomeKind::Superseded).unwrap(), json!(OutcomeKind::Superseded.as_str()));
    let labels: BTreeSet<_> = ReasonCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(labels.len(), ReasonCode::ALL.len());
}
