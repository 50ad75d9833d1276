use std::sync::LazyLock;

use jsonschema::Validator;
use proptest::{option, prelude::*};

use super::*;
use crate::{
    config::{Settings, SubjectForm},
    contact::schema::samples,
    event::{
        Outcome,
        change::{self, Rules},
        entry::{Cause, CauseKind},
        outcome::Subjects,
    },
    log::{Header, Record, TopicPartition},
    privacy::{Hasher, Secret},
};

static CHANGE: LazyLock<Validator> = LazyLock::new(|| validator(&change_event()));

fn validator(schema: &Value) -> Validator {
    jsonschema::draft202012::meta::validate(schema).expect("a schema of its dialect");
    jsonschema::draft202012::new(schema).expect("a schema")
}

fn event() -> Value {
    json!({
        "specversion": "1.0",
        "id": "e-1",
        "source": "/shop",
        "type": "com.example.contact.updated.v1",
        "subject": "42",
        "data": {"name": {"givenName": "Ann"}},
    })
}

/// The event with some members set.
fn with(changes: &[(&str, Value)]) -> Value {
    let mut event = event();
    for (name, value) in changes {
        event[name] = value.clone();
    }
    event
}

fn without(name: &str) -> Value {
    let mut event = event();
    event.as_object_mut().unwrap().remove(name);
    event
}

/// What the reader makes of it.
fn code(event: &Value) -> Option<ReasonCode> {
    let record = Record {
        at: TopicPartition::new("contact-changes", 0),
        offset: 0,
        timestamp: "2026-03-02T12:00:00Z".parse().unwrap(),
        key: None,
        value: Some(event.to_string().into()),
        headers: vec![Header::new("content-type", "application/cloudevents+json")],
    };
    let rules = Rules::new(&Settings::reference().input, &[]);
    change::read(&record, &rules, record.timestamp).err().map(|fault| fault.code)
}

#[track_caller]
fn taken_by_both(event: &Value) {
    assert_eq!((code(event), CHANGE.is_valid(event)), (None, true), "{event}");
}

#[track_caller]
fn refused_by_both(event: &Value, expected: ReasonCode) {
    assert_eq!((code(event), CHANGE.is_valid(event)), (Some(expected), false), "{event}");
}

#[test]
fn every_form_of_a_change_is_taken() {
    taken_by_both(&event());
    for verb in ["created", "updated", "patched"] {
        for event_type in [format!("contact.{verb}"), format!("com.my-shop.crm_2.contact.{verb}.v1")] {
            taken_by_both(&with(&[("type", json!(event_type))]));
        }
    }
    for verb in ["deleted", "erased"] {
        let mut event = with(&[("type", json!(format!("contact.{verb}")))]);
        taken_by_both(&event);
        // Data that comes along has nothing to say, whatever it is.
        for (name, value) in [("data", json!(7)), ("data_base64", json!("?")), ("datacontenttype", json!("text/plain"))]
        {
            event[name] = value;
            taken_by_both(&event);
        }
        event.as_object_mut().unwrap().remove("data");
        taken_by_both(&event);
    }
    for source in ["https://shop.example.com/a?b#c", "urn:x:1", "shop", "%41", "/a[b]@c!$&'()*+,;=~"] {
        taken_by_both(&with(&[("source", json!(source))]));
    }
    for time in ["2026-03-01T10:00:00Z", "2024-02-29t23:59:60.123456789123z", "0000-01-01T00:00:00-23:59"] {
        taken_by_both(&with(&[("time", json!(time))]));
    }
    for sequence in [json!("12"), json!("b-7"), json!(12), json!(-3), json!(u64::MAX), Value::Null] {
        taken_by_both(&with(&[("sequence", sequence)]));
    }
    for traceparent in [json!("00"), json!(5), Value::Null] {
        taken_by_both(&with(&[("traceparent", traceparent)]));
    }
    for content_type in [
        json!("application/json"),
        json!("APPLICATION/scim+JSON ; x=y; charset=\"UTF-8\"; charset=latin1"),
        json!(" text/json;charset=us-ascii"),
        Value::Null,
    ] {
        taken_by_both(&with(&[("datacontenttype", content_type)]));
    }
    taken_by_both(&with(&[("partitionkey", json!([1])), ("time", Value::Null), ("data_base64", Value::Null)]));
    let mut encoded = without("data");
    encoded["data_base64"] = json!("eyJub3RlcyI6ICJuIn0=");
    taken_by_both(&encoded);
    encoded["data"] = Value::Null;
    taken_by_both(&encoded);
}

#[test]
fn every_fault_of_form_is_refused_under_each_of_its_codes() {
    for whole in [json!([]), json!("event"), json!(null), json!(1)] {
        refused_by_both(&whole, ReasonCode::NotCloudevents);
    }
    for name in ["specversion", "id", "source", "type"] {
        refused_by_both(&without(name), ReasonCode::MissingAttribute);
        refused_by_both(&with(&[(name, Value::Null)]), ReasonCode::MissingAttribute);
        for value in [json!(""), json!(1), json!({}), json!("a\u{7}b"), json!("\u{85}")] {
            refused_by_both(&with(&[(name, value)]), ReasonCode::BadAttribute);
        }
    }
    for event in [without("subject"), with(&[("subject", Value::Null)]), with(&[("subject", json!(""))])] {
        refused_by_both(&event, ReasonCode::NoSubject);
    }
    for (name, value) in [
        ("specversion", json!("0.3")),
        ("source", json!("the shop")),
        ("source", json!("/shöp")),
        ("source", json!("/shop%2")),
        ("source", json!("%zz")),
        ("subject", json!("4\n2")),
        ("subject", json!(42)),
        ("time", json!("")),
        ("time", json!("yesterday")),
        ("time", json!("2026-02-29T00:00:00Z")),
        ("time", json!("2026-03-01T24:00:00Z")),
        ("time", json!("2026-03-01T10:00:61Z")),
        ("time", json!("2026-03-01 10:00:00Z")),
        ("time", json!("2026-03-01T10:00:00")),
        ("time", json!("2026-03-01T10:00:00.Z")),
        ("time", json!("2026-03-01T10:00:00+24:00")),
        ("time", json!(1_772_359_200)),
        ("sequence", json!("")),
        ("sequence", json!(1.5)),
        ("sequence", json!(1e30)),
        ("sequence", json!(true)),
        ("datacontenttype", json!("application/json; charset=iso-8859-1")),
        ("datacontenttype", json!(1)),
    ] {
        refused_by_both(&with(&[(name, value)]), ReasonCode::BadAttribute);
    }
    for event_type in [
        "contact.updated.v2",
        "contact.updated.v1.v1",
        "contact.merged",
        "mycontact.updated",
        "Contact.updated",
        "contact",
        ".contact.updated",
        "com..contact.updated",
        "com/example.contact.updated",
        "contact.updated ",
    ] {
        refused_by_both(&with(&[("type", json!(event_type))]), ReasonCode::UnknownType);
    }
    for content_type in ["text/plain", "application/xml", "json", "", "application/jsonx", "application/json+x"] {
        refused_by_both(&with(&[("datacontenttype", json!(content_type))]), ReasonCode::NotJson);
    }
    refused_by_both(&without("data"), ReasonCode::NotJson);
    for encoded in ["%%%", "e30", "e3==", ""] {
        refused_by_both(&with(&[("data", Value::Null), ("data_base64", json!(encoded))]), ReasonCode::NotJson);
    }
    for (name, value) in [("data_base64", json!("e30=")), ("data_base64", json!(1))] {
        refused_by_both(&with(&[(name, value)]), ReasonCode::NotCloudevents);
    }
    for data in [json!(null), json!("text"), json!([]), json!({"name": []}), json!({"emails": [{}, {"value": 1}]})] {
        refused_by_both(&with(&[("data", data)]), ReasonCode::WrongType);
    }
    for data in
        [json!({"kind": "robot"}), json!({"birthDate": "1980-02-30"}), json!({"addresses": [{"country": "XX"}]})]
    {
        refused_by_both(&with(&[("data", data)]), ReasonCode::BadValue);
    }
}

#[test]
fn what_only_the_reader_can_tell_is_taken_by_the_schema() {
    for (event, expected) in [
        (with(&[("time", json!("9999-12-31T23:59:59Z"))]), ReasonCode::TimeInFuture),
        (with(&[("data", json!({"notes": "n".repeat(300_000)}))]), ReasonCode::TooLarge),
        (with(&[("data", (0..70).fold(json!({}), |inner, _| json!({"x": inner})))]), ReasonCode::TooDeep),
        (with(&[("data", Value::Null), ("data_base64", json!("bm90IGpzb24="))]), ReasonCode::NotJson),
        (with(&[("sequence", json!(12.0))]), ReasonCode::BadAttribute),
    ] {
        assert_eq!((code(&event), CHANGE.is_valid(&event)), (Some(expected), true));
    }
}

fn anything() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!({})),
        Just(json!([{}])),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|number| json!(number)),
        "[a-z0-9./%: \u{7}-]{0,6}".prop_map(Value::String),
        "(application|text)/(scim\\+)?[jJ]son ?(; ?(charset|x)=\"?(utf-8|us-ascii|x)\"?){0,2}".prop_map(Value::String),
        "(com\\.)?(contact|person)\\.(created|updated|patched|deleted|erased|moved)(\\.v[12])?".prop_map(Value::String),
        "20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9](\\.[0-9]{1,10})?(Z|[+-][0-2][0-9]:[0-9]{2})"
            .prop_map(Value::String),
    ]
}

proptest! {
    #[test]
    fn reader_and_schema_agree_on_any_event(
        contact in samples::contact(),
        member in option::of((
            prop::sample::select(vec![
                "specversion", "id", "source", "type", "subject", "time", "sequence", "traceparent", "datacontenttype", "data",
                "data_base64", "dataschema",
            ]),
            anything(),
        )),
        left_out in option::weighted(0.2, prop::sample::select(vec!["id", "source", "type", "subject", "data"])),
    ) {
        let mut event = with(&[("data", contact)]);
        if let Some((name, value)) = member {
            event[name] = value;
        }
        if let Some(name) = left_out {
            event.as_object_mut().unwrap().remove(name);
        }
        let code = code(&event);
        // What a schema cannot tell.
        prop_assume!(code != Some(ReasonCode::TimeInFuture));
        let is_encoded = event["data_base64"].is_string() && event["data"].is_null();
        prop_assume!(!(is_encoded && code == Some(ReasonCode::NotJson)));
        prop_assert_eq!(code.is_none(), CHANGE.is_valid(&event), "{} {:?}", event, code);
    }
}

fn answered(outcome: OutcomeKind, code: Option<ReasonCode>) -> Outcome {
    let mut value: Value = serde_json::from_str(include_str!("../../../tests/formats/outcome.1.json")).unwrap();
    value["outcome"] = json!(outcome.as_str());
    value["reason"] = code.map_or(Value::Null, |code| json!({"code": code.as_str()}));
    serde_json::from_value(value).expect("a sample of an outcome")
}

#[test]
fn an_outcome_is_valid_with_the_codes_that_it_may_have_and_with_no_other() {
    let validator = validator(&outcome());
    let hashed = Subjects::new(SubjectForm::Hashed, &Hasher::new(&Secret::new("k")));
    for kind in OutcomeKind::ALL {
        for code in ReasonCode::ALL.iter().copied().map(Some).chain([None]) {
            let may_have = code.map_or(kind.codes().is_empty(), |code| kind.codes().contains(&code));
            let outcome = answered(*kind, code);
            for subjects in [&Subjects::Plain, &hashed] {
                let value = outcome.encode("contacts", subjects, None).value;
                let value: Value = serde_json::from_slice(&value).unwrap();
                assert_eq!(validator.is_valid(&value), may_have, "{kind} {code:?}");
            }
        }
    }
    let cause = Some(Cause { kind: CauseKind::Resync, id: "r-1".to_owned() });
    let asked = Outcome { event: None, cause, remote_id: None, ..answered(OutcomeKind::Delivered, None) };
    let value = asked.encode("contacts", &Subjects::Plain, None).value;
    assert!(validator.is_valid(&serde_json::from_slice(&value).unwrap()));
}

/// The schema, taking nothing that it does not name, except where it says that there is more.
fn closed(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            let is_open = members.contains_key("additionalProperties") || members.contains_key("if");
            if members.contains_key("properties") && !is_open {
                members.insert("additionalProperties".to_owned(), json!(false));
            }
            for (name, member) in members.iter_mut() {
                if !["allOf", "MemberRef"].contains(&name.as_str()) {
                    closed(member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(closed),
        _ => {}
    }
}

#[test]
fn each_member_that_is_written_is_described_and_each_that_must_be_there_is_written() {
    let record = include_str!("../../../tests/formats/record.1.json");
    let entries = [
        include_str!("../../../tests/formats/entry.1.json"),
        include_str!("../../../tests/formats/entry-with-cause.1.json"),
        include_str!("../../../tests/formats/entry-asked.1.json"),
    ];
    let outcome_sample = include_str!("../../../tests/formats/outcome.1.json");
    for (mut schema, samples) in
        [(contact_record(), &[record][..]), (contact_version(), &entries), (outcome(), &[outcome_sample])]
    {
        closed(&mut schema);
        let validator = validator(&schema);
        for sample in samples {
            let sample: Value = serde_json::from_str(sample).unwrap();
            let fault = validator.validate(&sample).err().map(|fault| fault.to_string());
            assert_eq!(fault, None, "{sample}");
            let Value::Object(members) = &sample else { panic!("a sample is an object") };
            for required in schema["required"].as_array().unwrap() {
                let mut lacking = members.clone();
                lacking.remove(required.as_str().unwrap()).expect("what is required is written");
                assert!(!validator.is_valid(&Value::Object(lacking)), "{required} may be missing");
            }
        }
    }
}
