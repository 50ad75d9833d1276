//! Each kind of bad input costs one dead letter and one outcome, and nothing behind it waits.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use contact_replicator::{
    config::{InputTopicSettings, Settings, SourceSettings},
    event::{OutcomeKind, ReasonCode},
    log::{Cleanup, Header, Log, NewRecord, TopicPartition, TopicSpec},
};
use serde_json::json;

use crate::{
    history::event,
    scene::{Scene, change, person, play},
    world::{INPUT, PARTITIONS, World},
};

/// An input topic on which a null value means nothing.
const PLAIN: &str = "plain-changes";
const RECORD_BYTES_MAX: usize = 40_000;

struct Case {
    code: ReasonCode,
    pointer: Option<&'static str>,
    record: NewRecord,
}

fn case(code: ReasonCode, pointer: impl Into<Option<&'static str>>, record: NewRecord) -> Case {
    Case { code, pointer: pointer.into(), record }
}

/// A sound event about `bad`, with these headers in place of those of the same name; `None` takes it out.
fn with(headers: &[(&str, Option<&str>)]) -> NewRecord {
    let mut record = event("/shop", "bad", "bad-1", "contact.updated", 1, Some(person("bad", "Ann")));
    for (name, value) in headers {
        record.headers.retain(|header| header.name != *name);
        if let Some(value) = value {
            record.headers.push(Header::new(*name, Bytes::copy_from_slice(value.as_bytes())));
        }
    }
    record
}

fn saying(data: impl Into<Bytes>) -> NewRecord {
    NewRecord { value: Some(data.into()), ..with(&[]) }
}

fn json(data: serde_json::Value) -> NewRecord {
    saying(data.to_string())
}

fn cases() -> Vec<Case> {
    use ReasonCode as Code;
    let nobody = |headers: Vec<Header>| NewRecord { headers, ..saying(&b"\xff\x00 no event"[..]) };
    let in_structure = |envelope: &str| NewRecord {
        headers: vec![Header::new("content-type", &b"application/cloudevents+json"[..])],
        ..saying(envelope.to_owned())
    };
    let levels = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
    let nested = |depth: usize| [&b"{\"x\":"[..], &levels(depth - 1), b"}"].concat();
    let large = |bytes: usize| json(json!({ "notes": "n".repeat(bytes) }));
    vec![
        case(Code::NotCloudevents, None, nobody(Vec::new())),
        case(Code::NotCloudevents, None, nobody(vec![Header::new("content-type", &b"application/json"[..])])),
        case(Code::NotCloudevents, None, NewRecord { key: None, value: None, ..nobody(Vec::new()) }),
        case(Code::MissingAttribute, "/headers/ce_id", with(&[("ce_id", None)])),
        case(Code::MissingAttribute, "/headers/ce_type", with(&[("ce_type", None)])),
        case(Code::MissingAttribute, "/headers/ce_source", in_structure(r#"{"specversion":"1.0","id":"x"}"#)),
        case(Code::BadAttribute, "/headers/ce_specversion", with(&[("ce_specversion", Some("0.3"))])),
        case(Code::BadAttribute, "/headers/ce_time", with(&[("ce_time", Some("yesterday"))])),
        case(Code::BadAttribute, "/headers/ce_source", with(&[("ce_source", Some("not a reference"))])),
        case(Code::UnknownType, "/headers/ce_type", with(&[("ce_type", Some("com.example.contact.updated.v2"))])),
        case(Code::UnknownType, "/headers/ce_type", with(&[("ce_type", Some("order.created"))])),
        case(Code::NotJson, None, saying(&b"{\"name\":"[..])),
        case(Code::NotJson, "/headers/content-type", with(&[("content-type", Some("text/plain"))])),
        case(Code::TooDeep, None, saying(nested(65))),
        case(Code::TooLarge, None, large(256 * 1024)),
        case(Code::WrongType, "", saying(&b"[]"[..])),
        case(Code::WrongType, "/emails", json(json!({ "emails": { "value": "a@example.com" } }))),
        case(Code::WrongType, "/emails/1/value", json(json!({ "emails": [{ "value": "a@b.ch" }, { "value": 5 }] }))),
        case(Code::WrongType, "/attributes/colour", json(json!({ "attributes": { "colour": ["red"] } }))),
        case(Code::BadValue, "/birthDate", json(json!({ "birthDate": "2026-02-30" }))),
        case(Code::BadValue, "/addresses/0/country", json(json!({ "addresses": [{ "country": "Germany" }] }))),
        case(Code::BadValue, "/preferredLanguage", json(json!({ "preferredLanguage": "German, please" }))),
        case(Code::NoSubject, "/headers/ce_subject", with(&[("ce_subject", None)])),
        case(
            Code::TombstoneWithoutSource,
            None,
            NewRecord { to: TopicPartition::new(PLAIN, 0), value: None, ..nobody(Vec::new()) },
        ),
        case(Code::UnknownSource, "/headers/ce_source", with(&[("ce_source", Some("/stranger"))])),
        case(Code::TimeInFuture, "/headers/ce_time", with(&[("ce_time", Some("2031-01-01T00:00:00Z"))])),
        case(Code::RecordTooLarge, None, large(RECORD_BYTES_MAX)),
    ]
}

/// Headers as some producers write them: foreign ones, empty ones, the same twice, none of them text.
fn strange(headers: &mut Vec<Header>) {
    headers.insert(0, Header::new("x-first", &b"\xff\xfe"[..]));
    headers.push(Header::new("x-twice", &b"1"[..]));
    headers.push(Header::new("x-twice", &b""[..]));
}

async fn world() -> World {
    let mut world = World::new(1, 1).await;
    let source = |uri: &str| SourceSettings {
        uri: uri.into(),
        name: uri.trim_start_matches('/').into(),
        ..Settings::reference().source.remove(0)
    };
    world.settings.source = vec![source("/shop"), source("/erp")];
    world.settings.input.known_sources_only = true;
    world.settings.identity.record_bytes_max = RECORD_BYTES_MAX;
    world.settings.input.topics.push(InputTopicSettings { name: PLAIN.into(), tombstone_source: None });
    let plain = TopicSpec {
        name: PLAIN.into(),
        partitions: 1,
        cleanup: Cleanup::Delete { after: Duration::from_secs(1_000_000) },
        message_bytes_max: 4 << 20,
    };
    world.log.ensure_topics(&[plain]).await.expect("the log takes a topic");
    world
}

#[test]
fn the_table_has_every_code_that_can_be_provoked_from_outside() {
    let tried: BTreeSet<_> = cases().iter().map(|case| case.code).collect();
    // A fault of this program has no input that is known to provoke it.
    let all: BTreeSet<_> = OutcomeKind::Quarantined.codes().iter().copied().collect();
    assert_eq!(all.difference(&tried).copied().collect::<Vec<_>>(), [ReasonCode::InternalError]);
}

#[test]
fn each_bad_input_is_one_dead_letter_and_one_outcome_and_the_event_behind_it_is_delivered() {
    play(async {
        let mut scene = Scene::begin(world().await).await;
        for (number, Case { code, pointer, mut record }) in cases().into_iter().enumerate() {
            let name = format!("case {number}, {code}");
            if record.to.topic.as_ref() != PLAIN {
                record.to = TopicPartition::new(INPUT, number as u32 % PARTITIONS);
            }
            // Without any header a null value is a tombstone; with foreign ones, too.
            strange(&mut record.headers);
            let at = record.to.clone();
            let offset = scene.world.log.watermarks(&at).await.expect("the topic exists").high;
            let behind = NewRecord { to: at.clone(), ..change(&format!("behind{number}"), 1, "Bob") };
            scene.world.publish(vec![record.clone(), behind]).await;
            let evidence = scene.settled_as_promised(0).await;

            let is_it = |topic: &Arc<str>, partition, at_offset| {
                (topic, partition, at_offset) == (&at.topic, at.partition, offset)
            };
            let letters = evidence.dead_letters.iter();
            let letters: Vec<_> =
                letters.filter(|letter| is_it(&letter.topic, letter.partition, letter.offset)).collect();
            let [letter] = letters.as_slice() else { panic!("{name}: {} dead letters", letters.len()) };
            assert_eq!((letter.code, letter.pointer.as_deref()), (code, pointer), "{name}");
            assert_eq!(
                (&letter.key, &letter.value),
                (&record.key, &record.value),
                "{name}: key and value as they were"
            );
            assert_eq!(letter.headers, record.headers, "{name}: headers as they were, in order");

            let outcomes = evidence.outcomes.iter().filter(|outcome| {
                outcome.event.as_ref().is_some_and(|event| is_it(&event.topic, event.partition, event.offset))
            });
            let outcomes: Vec<_> = outcomes.collect();
            let [outcome] = outcomes.as_slice() else { panic!("{name}: {} outcomes", outcomes.len()) };
            let reason = outcome.reason.as_ref().expect("a quarantined event has a reason");
            assert_eq!(
                (outcome.outcome, &*outcome.crm, outcome.contact_id, reason.code, reason.field.as_deref()),
                (OutcomeKind::Quarantined, "*", None, code, pointer),
                "{name}"
            );
            assert_eq!(evidence.dead_letters.len(), number + 1, "{name}");
            assert_eq!(evidence.crms[0].stored.len(), number + 1, "{name}: the event behind it is delivered");
        }
        let counted = OutcomeKind::Quarantined
            .codes()
            .iter()
            .map(|code| scene.world.metric(0, &format!("dead_letters_total{{code=\"{code}\"}}")));
        assert_eq!(counted.sum::<f64>(), cases().len() as f64);
    });
}
