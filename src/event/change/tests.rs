use std::time::Duration;

use bytes::Bytes;
use proptest::{collection, option, prelude::*};
use serde_json::json;

use super::*;
use crate::{
    config::InputTopicSettings,
    contact::schema::samples,
    log::{Header, TopicPartition},
};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn now() -> Timestamp {
    "2026-03-02T12:00:00Z".parse().unwrap()
}

fn input() -> InputSettings {
    InputSettings {
        topics: vec![
            InputTopicSettings { name: "contact-changes".into(), tombstone_source: None },
            InputTopicSettings { name: "shop-contacts".into(), tombstone_source: Some("/shop".into()) },
        ],
        event_bytes_max: 256 * 1024,
        event_depth_max: 64,
        future_max: Duration::from_secs(24 * 3600),
        known_sources_only: false,
    }
}

fn source(uri: &str, order: Option<Order>) -> SourceSettings {
    SourceSettings {
        uri: uri.into(),
        name: uri.trim_matches('/').into(),
        region: None,
        order,
        source_ids_per_source: None,
    }
}

fn rules() -> Rules {
    Rules::new(&input(), &[])
}

fn record(topic: &str, headers: Vec<Header>, key: Option<&[u8]>, value: Option<&[u8]>) -> Record {
    Record {
        at: TopicPartition::new(topic, 3),
        offset: 17,
        timestamp: "2026-03-02T11:59:00Z".parse().unwrap(),
        key: key.map(Bytes::copy_from_slice),
        value: value.map(Bytes::copy_from_slice),
        headers,
    }
}

/// An event apart from the mode it travels in.
#[derive(Debug, Clone)]
struct Event {
    attributes: Map<String, Value>,
    data: Option<Value>,
}

impl Event {
    fn new(verb: &str, data: Value) -> Self {
        let attributes = json!({
            "specversion": "1.0",
            "id": "e-1",
            "source": "/shop",
            "type": format!("com.example.contact.{verb}.v1"),
            "subject": "42",
            "time": "2026-03-02T11:58:00Z",
        });
        let Value::Object(attributes) = attributes else { unreachable!("an object was written") };
        Self { attributes, data: Some(data) }
    }

    fn updated() -> Self {
        Self::new("updated", json!({"name": {"givenName": "Ann"}}))
    }

    fn with(mut self, attribute: &str, value: impl Into<Value>) -> Self {
        self.attributes.insert(attribute.to_owned(), value.into());
        self
    }

    fn without(mut self, attribute: &str) -> Self {
        self.attributes.remove(attribute);
        self
    }

    fn binary(&self) -> Record {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut headers: Vec<Header> = self
            .attributes
            .iter()
            .map(|(name, value)| Header::new(format!("ce_{name}"), text(value).into_bytes()))
            .collect();
        headers.push(Header::new("content-type", &b"application/json; charset=utf-8"[..]));
        let data = self.data.as_ref().map(|data| data.to_string().into_bytes());
        record("contact-changes", headers, Some(b"42"), data.as_deref())
    }

    fn structured(&self) -> Record {
        let mut envelope = self.attributes.clone();
        if let Some(data) = &self.data {
            envelope.insert("data".to_owned(), data.clone());
        }
        structured(&Value::Object(envelope).to_string().into_bytes())
    }
}

fn structured(value: &[u8]) -> Record {
    let content_type = Header::new("content-type", &b"application/cloudevents+json; charset=UTF-8"[..]);
    record("contact-changes", vec![content_type], Some(b"42"), Some(value))
}

fn binary(value: &[u8]) -> Record {
    Record { value: Some(Bytes::copy_from_slice(value)), ..Event::updated().binary() }
}

fn with_header(mut record: Record, name: &str, value: &[u8]) -> Record {
    record.headers.retain(|header| header.name != name);
    record.headers.push(Header::new(name, Bytes::copy_from_slice(value)));
    record
}

#[track_caller]
fn accepted(record: &Record) -> Change {
    read(record, &rules(), now()).expect("a readable change")
}

/// Checks code and pointer, `None` for a fault of the whole event.
#[track_caller]
fn refused(record: &Record, code: ReasonCode, pointer: Option<&str>) -> Fault {
    let fault = read(record, &rules(), now()).expect_err("a fault");
    assert_eq!((fault.code, fault.pointer.as_deref()), (code, pointer));
    assert_eq!((&*fault.event.topic, fault.event.partition, fault.event.offset), (&*record.at.topic, 3, 17));
    fault
}

/// The same, in both modes.
#[track_caller]
fn refused_in_both_modes(event: &Event, code: ReasonCode, pointer: &str) {
    refused(&event.binary(), code, Some(pointer));
    refused(&event.structured(), code, Some(pointer));
}

#[test]
fn an_event_is_read_alike_in_both_modes() {
    let event = Event::updated().with("sequence", "12").with("traceparent", TRACEPARENT).with("partitionkey", "x");
    let change = accepted(&event.binary());
    assert_eq!(accepted(&event.structured()), change);
    let (document, _) = Document::parse(json!({"name": {"givenName": "Ann"}})).unwrap();
    let expected = Change {
        event: EventRef {
            source: Some("/shop".into()),
            id: Some("e-1".into()),
            subject: Some("42".into()),
            topic: "contact-changes".into(),
            partition: 3,
            offset: 17,
        },
        source: "/shop".into(),
        subject: "42".into(),
        id: "e-1".into(),
        verb: Verb::Snapshot(document),
        version: SourceVersion {
            sequence: Some("12".into()),
            time: Some("2026-03-02T11:58:00Z".parse().unwrap()),
            topic: "contact-changes".into(),
            partition: 3,
            offset: 17,
        },
        time: Some("2026-03-02T11:58:00Z".parse().unwrap()),
        record_timestamp: "2026-03-02T11:59:00Z".parse().unwrap(),
        traceparent: Some(TRACEPARENT.into()),
        ignored_attributes: 0,
    };
    assert_eq!(change, expected);
}

#[test]
fn each_verb_is_known_by_the_end_of_the_type() {
    for (event_type, expected) in [
        ("contact.created", "Snapshot"),
        ("contact.updated.v1", "Snapshot"),
        ("com.example.contact.created.v1", "Snapshot"),
        ("com.my-shop.crm_2.contact.patched", "Patch"),
        ("contact.deleted.v1", "Delete"),
    ] {
        let event = Event::updated().with("type", event_type);
        assert_eq!(format!("{:?}", accepted(&event.binary()).verb), expected, "{event_type}");
        assert_eq!(format!("{:?}", accepted(&event.structured()).verb), expected, "{event_type}");
    }
}

#[test]
fn a_type_that_is_not_of_the_contract_is_refused() {
    for event_type in [
        "contact.updated.v2",
        "contact.updated.v1.v1",
        "contact.updated.v01",
        "contact.merged",
        "mycontact.updated",
        "Contact.updated",
        "contact.Updated",
        "contact",
        "contact.",
        ".contact.updated",
        "com..contact.updated",
        "com/example.contact.updated",
        "updated",
        "contact.updated ",
    ] {
        let event = Event::updated().with("type", event_type);
        refused_in_both_modes(&event, ReasonCode::UnknownType, "/headers/ce_type");
    }
}

#[test]
fn a_missing_attribute_is_named() {
    for attribute in ["specversion", "id", "source", "type"] {
        let pointer = format!("/headers/ce_{attribute}");
        refused_in_both_modes(&Event::updated().without(attribute), ReasonCode::MissingAttribute, &pointer);
        // The JSON format takes null for missing.
        let null = Event::updated().with(attribute, Value::Null).structured();
        refused(&null, ReasonCode::MissingAttribute, Some(&pointer));
    }
}

#[test]
fn an_event_without_subject_is_refused_by_that_name() {
    refused_in_both_modes(&Event::updated().without("subject"), ReasonCode::NoSubject, "/headers/ce_subject");
    refused_in_both_modes(&Event::updated().with("subject", ""), ReasonCode::NoSubject, "/headers/ce_subject");
}

#[test]
fn an_ill_formed_attribute_is_named() {
    for (attribute, value) in [
        ("specversion", "0.3"),
        ("specversion", ""),
        ("id", ""),
        ("id", "a\u{7}b"),
        ("source", ""),
        ("source", "the shop"),
        ("source", "/shöp"),
        ("source", "/shop%2"),
        ("type", ""),
        ("subject", "4\n2"),
        ("time", ""),
        ("time", "yesterday"),
        ("time", "2026-02-30T00:00:00Z"),
        ("sequence", ""),
    ] {
        let event = Event::updated().with(attribute, value);
        refused_in_both_modes(&event, ReasonCode::BadAttribute, &format!("/headers/ce_{attribute}"));
    }
}

#[test]
fn an_attribute_that_is_no_text_is_refused() {
    for attribute in ["id", "source", "subject", "time", "sequence"] {
        let pointer = format!("/headers/ce_{attribute}");
        let not_utf8 = with_header(Event::updated().binary(), &format!("ce_{attribute}"), b"\xff");
        refused(&not_utf8, ReasonCode::BadAttribute, Some(&pointer));
        let object = Event::updated().with(attribute, json!({}));
        refused(&object.structured(), ReasonCode::BadAttribute, Some(&pointer));
    }
}

#[test]
fn a_sequence_may_be_an_integer_in_json() {
    let change = accepted(&Event::updated().with("sequence", 12).structured());
    assert_eq!(change.version.sequence.as_deref(), Some("12"));
    let fraction = Event::updated().with("sequence", 1.5).structured();
    refused(&fraction, ReasonCode::BadAttribute, Some("/headers/ce_sequence"));
}

#[test]
fn headers_that_contradict_each_other_are_refused_and_repeats_are_not() {
    let mut record = Event::updated().binary();
    record.headers.push(Header::new("ce_id", &b"e-1"[..]));
    accepted(&record);
    record.headers.push(Header::new("ce_id", &b"e-2"[..]));
    refused(&record, ReasonCode::BadAttribute, Some("/headers/ce_id"));
}

#[test]
fn header_values_are_taken_as_they_are_not_percent_decoded() {
    let change = accepted(&Event::updated().with("subject", "a%40b ü").binary());
    assert_eq!(&*change.subject, "a%40b ü");
}

#[test]
fn what_is_no_cloud_event_is_refused() {
    let plain = record("contact-changes", Vec::new(), Some(b"42"), Some(b"{}"));
    refused(&plain, ReasonCode::NotCloudevents, None);
    let upper_case = Record {
        headers: vec![Header::new("CE_ID", &b"e-1"[..]), Header::new("Content-Type", &b"application/json"[..])],
        ..plain.clone()
    };
    refused(&upper_case, ReasonCode::NotCloudevents, None);
    let nothing = record("contact-changes", Vec::new(), None, None);
    refused(&nothing, ReasonCode::NotCloudevents, None);
    refused(&structured(b"[1]"), ReasonCode::NotCloudevents, None);
    for content_type in
        ["application/cloudevents+avro", "application/cloudevents-batch+json", "application/cloudevents"]
    {
        let record = with_header(plain.clone(), "content-type", content_type.as_bytes());
        refused(&record, ReasonCode::NotCloudevents, Some("/headers/content-type"));
    }
    let both = Event::updated().with("data_base64", "e30=").structured();
    refused(&both, ReasonCode::NotCloudevents, None);
}

#[test]
fn the_content_type_decides_how_data_is_read() {
    let typed = |content_type: &[u8]| with_header(Event::updated().binary(), "content-type", content_type);
    for content_type in ["application/json", "APPLICATION/JSON;charset=\"utf-8\"", "application/scim+json"] {
        accepted(&typed(content_type.as_bytes()));
    }
    let mut untyped = Event::updated().binary();
    untyped.headers.retain(|header| header.name != "content-type");
    accepted(&untyped);

    let pointer = Some("/headers/content-type");
    refused(&typed(b"text/plain"), ReasonCode::NotJson, pointer);
    refused(&typed(b"application/xml"), ReasonCode::NotJson, pointer);
    refused(&typed(b"application/json; charset=iso-8859-1"), ReasonCode::BadAttribute, pointer);
    refused(&typed(b"\xff"), ReasonCode::BadAttribute, pointer);
    let other = Event::updated().with("datacontenttype", "application/xml").structured();
    refused(&other, ReasonCode::NotJson, pointer);
    let other =
        with_header(Event::updated().structured(), "content-type", b"application/cloudevents+json;charset=utf-16");
    refused(&other, ReasonCode::BadAttribute, pointer);
    let spelled = with_header(Event::updated().structured(), "content-type", b"Application/CloudEvents+JSON");
    accepted(&spelled);
}

#[test]
fn data_may_come_as_base64() {
    let mut event = Event::updated().with("data_base64", "eyJub3RlcyI6ICJuIn0=");
    event.data = None;
    let (document, _) = Document::parse(json!({"notes": "n"})).unwrap();
    assert_eq!(accepted(&event.structured()).verb, Verb::Snapshot(document));
    for ill_formed in ["%%%", "bm90IGpzb24="] {
        let event = event.clone().with("data_base64", ill_formed);
        refused(&event.structured(), ReasonCode::NotJson, None);
    }
}

#[test]
fn what_is_not_json_is_refused() {
    for value in [
        &b""[..],
        b"{",
        b"{} {}",
        b"name: Ann",
        b"{\"notes\": \"\xff\"}",
        b"{\"notes\": \"\\ud800\"}",
        b"\xef\xbb\xbf{}",
    ] {
        refused(&binary(value), ReasonCode::NotJson, None);
        refused(&structured(value), ReasonCode::NotJson, None);
    }
    let no_data = Event { data: None, ..Event::updated() };
    refused(&no_data.binary(), ReasonCode::NotJson, None);
    refused(&no_data.structured(), ReasonCode::NotJson, None);
}

#[test]
fn repeated_members_are_harmless_the_last_counts() {
    let (document, _) = Document::parse(json!({"notes": "b"})).unwrap();
    assert_eq!(accepted(&binary(b"{\"notes\": 1, \"notes\": \"b\"}")).verb, Verb::Snapshot(document));
}

#[test]
fn a_fault_in_the_data_is_named_with_its_place() {
    for (data, code, pointer) in [
        (json!(null), ReasonCode::WrongType, ""),
        (json!("text"), ReasonCode::WrongType, ""),
        (json!({"name": []}), ReasonCode::WrongType, "/name"),
        (json!({"emails": [{}, {"value": 1}]}), ReasonCode::WrongType, "/emails/1/value"),
        (json!({"birthDate": "1980-02-30"}), ReasonCode::BadValue, "/birthDate"),
        (json!({"addresses": [{"country": "XX"}]}), ReasonCode::BadValue, "/addresses/0/country"),
        (json!({"preferredLanguage": "english please"}), ReasonCode::BadValue, "/preferredLanguage"),
    ] {
        for verb in ["created", "updated", "patched"] {
            refused_in_both_modes(&Event::new(verb, data.clone()), code, pointer);
        }
    }
}

#[test]
fn unknown_attributes_are_ignored_and_counted() {
    let event = Event::updated();
    assert_eq!(accepted(&event.binary()).ignored_attributes, 0);
    let event = Event::new("patched", json!({"shoeSize": 43, "emails": [{"type": "spam"}]}));
    assert_eq!(accepted(&event.binary()).ignored_attributes, 2);
    assert_eq!(accepted(&event.structured()).ignored_attributes, 2);
}

#[test]
fn a_patch_keeps_its_nulls() {
    let change = accepted(&Event::new("patched", json!({"name": {"givenName": null}, "notes": null})).binary());
    let Value::Object(patch) = json!({"name": {"givenName": null}, "notes": null}) else { unreachable!("an object") };
    assert_eq!(change.verb, Verb::Patch(patch));
}

#[test]
fn a_delete_or_erasure_needs_no_data_and_looks_at_none() {
    let delete = Event { data: None, ..Event::new("deleted", Value::Null) };
    assert_eq!(accepted(&delete.binary()).verb, Verb::Delete);
    assert_eq!(accepted(&delete.structured()).verb, Verb::Delete);
    let with_data = Record { value: Some(Bytes::from_static(b"gone")), ..delete.binary() };
    assert_eq!(accepted(&with_data).verb, Verb::Delete);
    let erase = Event { data: None, ..Event::new("erased", Value::Null) };
    assert_eq!(accepted(&erase.binary()).verb, Verb::Erase);
    assert_eq!(accepted(&erase.structured()).verb, Verb::Erase);
}

#[test]
fn data_of_64_levels_is_read_and_deeper_is_not_in_either_mode() {
    let nested = |levels: usize| {
        let inner = (1..levels).fold(json!(1), |inner, _| json!([inner]));
        Event::new("updated", json!({"unheardOf": inner}))
    };
    for record in [nested(64).binary(), nested(64).structured()] {
        assert_eq!(accepted(&record).ignored_attributes, 1);
    }
    for record in
        [nested(65).binary(), nested(65).structured(), binary(&b"[".repeat(200_000)), structured(&b"[".repeat(200_000))]
    {
        refused(&record, ReasonCode::TooDeep, None);
    }
}

#[test]
fn any_depth_that_settings_ask_for_is_read_or_too_deep() {
    let rules = Rules::new(&InputSettings { event_depth_max: usize::MAX, ..input() }, &[]);
    for depth in 100..140 {
        let data = format!("{{\"x\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        let envelope = Value::Object(Event::updated().attributes).to_string();
        let envelope = format!("{},\"data\":{data}}}", envelope.trim_end_matches('}'));
        for record in [binary(data.as_bytes()), structured(envelope.as_bytes())] {
            let code = read(&record, &rules, now()).err().map(|fault| fault.code);
            assert_eq!(code, (depth > DEPTH_LIMIT).then_some(ReasonCode::TooDeep), "{depth}");
        }
    }
}

#[test]
fn the_largest_event_is_read_and_one_byte_more_is_not() {
    let sized = |bytes: usize| {
        let event = Event::new("updated", json!({"notes": ""}));
        let rest = size(&event.binary());
        let event = Event::new("updated", json!({"notes": "n".repeat(bytes - rest)}));
        assert_eq!(size(&event.binary()), bytes);
        event.binary()
    };
    accepted(&sized(256 * 1024));
    let fault = refused(&sized(256 * 1024 + 1), ReasonCode::TooLarge, None);
    assert_eq!(fault.event.id.as_deref(), Some("e-1"));
}

#[test]
fn an_event_that_is_too_large_is_not_parsed() {
    refused(&binary(&b"[".repeat(300_000)), ReasonCode::TooLarge, None);
    refused(&structured(&b"[".repeat(300_000)), ReasonCode::TooLarge, None);
}

#[test]
fn a_time_more_than_a_day_ahead_is_refused() {
    accepted(&Event::updated().with("time", "2026-03-03T12:00:00Z").binary());
    for time in ["2026-03-03T12:00:00.000000001Z", "2026-03-03T12:00:01Z", "9999-12-31T23:59:59Z"] {
        let event = Event::updated().with("time", time);
        refused_in_both_modes(&event, ReasonCode::TimeInFuture, "/headers/ce_time");
    }
}

#[test]
fn a_fault_keeps_what_could_be_read_of_the_identity() {
    let event = Event::updated().without("type").without("subject");
    for record in [event.binary(), event.structured()] {
        let fault = refused(&record, ReasonCode::MissingAttribute, Some("/headers/ce_type"));
        assert_eq!(fault.event.source.as_deref(), Some("/shop"));
        assert_eq!(fault.event.id.as_deref(), Some("e-1"));
        assert_eq!(fault.event.subject, None);
    }
    let endless = Event::updated().with("subject", "s".repeat(IDENTITY_BYTES_MAX + 1)).with("time", "never");
    let fault = refused(&endless.binary(), ReasonCode::BadAttribute, Some("/headers/ce_time"));
    assert_eq!(fault.event.subject, None);
}

#[test]
fn a_closed_list_of_sources_is_closed() {
    let rules = Rules::new(&InputSettings { known_sources_only: true, ..input() }, &[source("/erp", None)]);
    let fault = read(&Event::updated().binary(), &rules, now()).unwrap_err();
    assert_eq!((fault.code, fault.pointer.as_deref()), (ReasonCode::UnknownSource, Some("/headers/ce_source")));
    assert!(read(&Event::updated().with("source", "/erp").binary(), &rules, now()).is_ok());
    let tombstone = record("shop-contacts", Vec::new(), Some(b"42"), None);
    assert_eq!(read(&tombstone, &rules, now()).unwrap_err().code, ReasonCode::UnknownSource);
}

#[test]
fn a_tombstone_deletes_its_key_where_the_topic_has_a_source() {
    let change = accepted(&record("shop-contacts", Vec::new(), Some(b"42"), None));
    assert_eq!(change.verb, Verb::Tombstone);
    assert_eq!((&*change.source, &*change.subject, &*change.id), ("/shop", "42", "shop-contacts[3]@17"));
    assert_eq!(change.event.id.as_deref(), Some("shop-contacts[3]@17"));
    assert_eq!((&change.version.sequence, change.version.time), (&None, None));
    // One that was sent in again is one still.
    let replayed = vec![Header::new("ce_replayof", &b"shop-contacts[3]@9"[..])];
    assert_eq!(accepted(&record("shop-contacts", replayed, Some(b"42"), None)).verb, Verb::Tombstone);

    let fault =
        refused(&record("contact-changes", Vec::new(), Some(b"42"), None), ReasonCode::TombstoneWithoutSource, None);
    assert_eq!(fault.event.subject.as_deref(), Some("42"));
    refused(&record("shop-contacts", Vec::new(), Some(b""), None), ReasonCode::NoSubject, Some("/key"));
    refused(&record("shop-contacts", Vec::new(), Some(b"\xff"), None), ReasonCode::BadAttribute, Some("/key"));
}

#[test]
fn a_null_value_with_attributes_is_an_event_and_no_tombstone() {
    let mut event = Event::new("deleted", Value::Null);
    event.data = None;
    let record = Record { at: TopicPartition::new("shop-contacts", 3), ..event.with("source", "/erp").binary() };
    let change = accepted(&record);
    assert_eq!((change.verb, &*change.source), (Verb::Delete, "/erp"));
}

#[test]
fn a_version_holds_only_what_the_sources_order_compares() {
    let event = Event::updated().with("sequence", "7").binary();
    for (order, sequence, time) in [
        (None, true, true),
        (Some(Order::Sequence), true, false),
        (Some(Order::Time), false, true),
        (Some(Order::Log), false, false),
    ] {
        let rules = Rules::new(&input(), &[source("/erp", Some(Order::Log)), source("/shop", order)]);
        let change = read(&event, &rules, now()).unwrap();
        assert_eq!((change.version.sequence.is_some(), change.version.time.is_some()), (sequence, time), "{order:?}");
        // Who spoke last is asked of every source, whatever orders its own changes.
        assert!(change.time.is_some());
    }
}

#[test]
fn the_moment_of_a_change_is_the_earliest_of_three() {
    let change = accepted(&Event::updated().binary());
    assert_eq!(change.spoke_at(now()), "2026-03-02T11:58:00Z".parse().unwrap());
    let ahead = accepted(&Event::updated().with("time", "2026-03-03T00:00:00Z").binary());
    assert_eq!(ahead.spoke_at(now()), ahead.record_timestamp);
    let early = "2026-03-02T11:00:00Z".parse().unwrap();
    assert_eq!(ahead.spoke_at(early), early);
}

#[test]
fn an_ill_formed_traceparent_is_left_out() {
    for traceparent in [
        "",
        "00",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "a\u{0}b",
    ] {
        assert_eq!(
            accepted(&Event::updated().with("traceparent", traceparent).binary()).traceparent,
            None,
            "{traceparent}"
        );
    }
    let not_utf8 = with_header(Event::updated().binary(), "ce_traceparent", b"\xff");
    assert_eq!(accepted(&not_utf8).traceparent, None);
    let later = format!("01{}-and-more", TRACEPARENT.trim_start_matches("00"));
    assert!(accepted(&Event::updated().with("traceparent", later).binary()).traceparent.is_some());
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        collection::vec(any::<u8>(), 0..64),
        "[\\[\\]{}\":,a1\\\\]{0,40}".prop_map(String::into_bytes),
        samples::contact().prop_map(|contact| contact.to_string().into_bytes()),
    ]
}

fn any_header() -> impl Strategy<Value = Header> {
    let name = prop_oneof![
        "ce_(id|source|type|subject|time|sequence|specversion|traceparent)",
        Just("content-type".to_owned()),
        "\\PC{0,8}",
    ];
    let value = prop_oneof![
        collection::vec(any::<u8>(), 0..16),
        "(1\\.0|application/(cloudevents\\+)?json(; ?charset=(utf-8|x))?|a\\.contact\\.(created|patched|deleted)(\\.v1)?)"
            .prop_map(String::into_bytes),
    ];
    (name, value).prop_map(|(name, value)| Header::new(name, value))
}

/// Codes that reading may answer with; the others of the list are decided later.
const CODES: &[ReasonCode] = &[
    ReasonCode::NotCloudevents,
    ReasonCode::MissingAttribute,
    ReasonCode::BadAttribute,
    ReasonCode::UnknownType,
    ReasonCode::NotJson,
    ReasonCode::TooDeep,
    ReasonCode::TooLarge,
    ReasonCode::WrongType,
    ReasonCode::BadValue,
    ReasonCode::NoSubject,
    ReasonCode::TombstoneWithoutSource,
    ReasonCode::UnknownSource,
    ReasonCode::TimeInFuture,
];

fn is_answered(record: &Record) -> Result<(), TestCaseError> {
    match read(record, &rules(), now()) {
        Ok(change) => prop_assert_eq!(change.event.subject, Some(change.subject)),
        Err(fault) => {
            prop_assert!(CODES.contains(&fault.code), "{:?}", fault.code);
            prop_assert!(fault.pointer.is_none_or(|pointer| pointer.is_empty() || pointer.starts_with('/')));
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_record_is_read_or_refused_with_a_code(
        headers in collection::vec(any_header(), 0..8),
        key in option::of(collection::vec(any::<u8>(), 0..4)),
        value in option::of(any_bytes()),
        topic in prop_oneof!["contact-changes", "shop-contacts"],
    ) {
        is_answered(&record(&topic, headers, key.as_deref(), value.as_deref()))?;
    }

    #[test]
    fn a_damaged_event_is_read_or_refused_with_a_code(
        contact in samples::contact(),
        in_structured_mode: bool,
        cut in option::of(any::<prop::sample::Index>()),
        flips in collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let event = Event::new("updated", contact);
        let mut record = if in_structured_mode { event.structured() } else { event.binary() };
        let mut value = record.value.take().expect("an event has a value").to_vec();
        for (place, byte) in flips {
            let place = place.index(value.len());
            value[place] = byte;
        }
        if let Some(cut) = cut {
            value.truncate(cut.index(value.len()));
        }
        record.value = Some(value.into());
        is_answered(&record)?;
    }

    #[test]
    fn both_modes_say_the_same_of_any_event(
        contact in samples::contact(),
        verb in prop_oneof!["created", "patched", "deleted", "erased"],
        subject in "\\PC{0,6}",
        sequence in option::of("[0-9a-z]{0,5}"),
    ) {
        let mut event = Event::new(&verb, contact).with("subject", subject);
        if let Some(sequence) = sequence {
            event = event.with("sequence", sequence);
        }
        prop_assert_eq!(read(&event.binary(), &rules(), now()), read(&event.structured(), &rules(), now()));
    }
}
