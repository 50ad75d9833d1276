//! Contact changes as services send them: mostly well, now and then twice, too late, or past reading.
//!
//! Three sources speak, each in its way: a shop in binary mode with times and sequence numbers, an accounting system in
//! structured mode with sequence numbers alone, and a directory in either mode with times alone, which deletes by null
//! values. Many people are known to two or three of them, under an id of each; what they have in common is a mailbox of
//! their own, which every source names from its first event on. So it is known who is who ([`People`]), and what was made
//! of it can be judged. The stream follows from the seed; only its times follow the clock, because an event from the
//! future is refused.
//!
//! Nobody real is in it: names are drawn from lists, mailboxes are at example.com, telephone numbers come from the range
//! that is kept free for fiction.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::log::{Header, NewRecord, TopicPartition, partition_of};

/// Input topics with their partition counts: the first is shared, the second is the directory's own.
pub const TOPICS: [(&str, u32); 2] = [("contact-changes", 6), ("directory-changes", 3)];

/// Names and `source` attributes of those who speak.
pub const SOURCES: [(&str, &str); 3] = [
    ("shop", "https://shop.example.com"),
    ("accounting", "https://accounting.example.com"),
    ("directory", "https://directory.example.com"),
];
const ACCOUNTING: usize = 1;
const DIRECTORY: usize = 2;

/// How much to send.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    pub seed: u64,
    pub events: usize,
    /// Contacts of sources. One person may be several of them.
    pub contacts: usize,
}

/// A contact as a source knows it: the source's `source` attribute, and its own id.
pub type Known = (String, String);

/// Who is who, once the whole stream was heard.
#[derive(Debug, Clone, Default)]
pub struct People {
    /// Whose record each is.
    pub known: BTreeMap<Known, Told>,
}

/// The truth about a contact of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// The person, by number.
    pub person: usize,
    /// Whether the source still has it.
    pub live: bool,
}

/// All that is sent, and what is true of it.
#[derive(Debug, Clone)]
pub struct Stream {
    pub sent: Vec<Generated>,
    pub people: People,
}

/// What a record was made to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Created,
    Updated,
    Patched,
    Deleted,
    DeletedByNull,
    CreatedAgain,
    /// The same event a second time.
    Repeated,
    /// The same content under a new event id.
    Restated,
    Late,
    Unreadable,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Patched => "patched",
            Self::Deleted => "deleted",
            Self::DeletedByNull => "deleted by a null value",
            Self::CreatedAgain => "created again",
            Self::Repeated => "sent twice",
            Self::Restated => "same content again",
            Self::Late => "late",
            Self::Unreadable => "unreadable",
        }
    }
}

/// A record to send.
#[derive(Debug, Clone)]
pub struct Generated {
    pub kind: Kind,
    pub record: NewRecord,
}

/// The whole stream, as if the last event happened at `now`.
pub fn generate(scale: Scale, now: Timestamp) -> Vec<Generated> {
    stream(scale, now).sent
}

/// The same, with the truth about the people in it.
pub fn stream(scale: Scale, now: Timestamp) -> Stream {
    Generator::new(scale, now).run()
}

const GIVEN_NAMES: &[&str] = &[
    "Ada", "Bela", "Chidi", "Dana", "Emre", "Fleur", "Goran", "Hana", "Ilka", "Jonas", "Kaya", "Lior", "Mira", "Noor",
    "Olga", "Pavel", "Quirin", "Rosa", "Sami", "Tove", "Ugo", "Vera", "Wanda", "Xenia", "Yara", "Zoë",
];
const FAMILY_NAMES: &[&str] = &[
    "Abel",
    "Brandt",
    "Costa",
    "Dubois",
    "Eriksen",
    "Fischer",
    "García",
    "Hofer",
    "Ivanova",
    "Jansen",
    "Keller",
    "Lindqvist",
    "Moreau",
    "Novak",
    "O'Neill",
    "Petrović",
    "Quist",
    "Roth",
    "Sundström",
    "Tanaka",
    "Urban",
    "Vale",
    "Weiss",
    "Yılmaz",
    "Zimmer",
];
const TITLES: &[&str] = &["Mr", "Ms", "Dr", "Prof", "Sir"];
const JOBS: &[&str] = &["Events Lead", "Buyer", "Accountant", "Producer", "Director", "Assistant"];
const DEPARTMENTS: &[&str] = &["Operations", "Sales", "Finance", "Programme"];
const ORGANISATIONS: &[&str] = &["Harbour Lane", "Lakeside Hall", "Nordlicht", "Old Mill", "Riviera Events"];
const STREETS: &[&str] = &["Mill Lane", "Bahnhofstrasse", "Rue du Lac", "Harbour Road", "Ringstrasse"];
const TOWNS: &[(&str, &str, &str)] =
    &[("Zürich", "8001", "CH"), ("Glebe", "2037", "AU"), ("Lyon", "69001", "FR"), ("Wien", "1010", "AT")];

/// One in so many events is past reading, as long as there are enough events.
const UNREADABLE_EVERY: usize = 50;

/// Of the contacts that a source has anew, this share is of people that another source may know.
const KNOWN_ELSEWHERE: f64 = 0.6;

/// Somebody who is talked of.
#[derive(Debug, Clone)]
struct Person {
    given: &'static str,
    family: &'static str,
    /// Nobody else's.
    mailbox: String,
    /// Which sources know them.
    known_to: [bool; SOURCES.len()],
}

/// A contact of one source, as that source knows it.
#[derive(Debug, Clone)]
struct Subject {
    person: usize,
    source: usize,
    id: String,
    view: Map<String, Value>,
    live: bool,
    sequence: u64,
    time: Timestamp,
    /// The last change that was sent, to be sent again.
    last: Option<Event>,
}

/// A CloudEvent before it is put into a record.
#[derive(Debug, Clone)]
struct Event {
    source: usize,
    subject: String,
    id: String,
    verb: &'static str,
    sequence: Option<u64>,
    time: Option<Timestamp>,
    data: Option<Value>,
    structured: bool,
}

struct Generator {
    scale: Scale,
    now: Timestamp,
    random: StdRng,
    persons: Vec<Person>,
    subjects: Vec<Subject>,
    /// Contacts of which too much is said: each is somebody that nobody else knows.
    large: Vec<String>,
    events: Vec<Generated>,
    /// Faults still to be made, the last first.
    faults: Vec<Unreadable>,
}

impl Generator {
    fn new(scale: Scale, now: Timestamp) -> Self {
        Self {
            random: StdRng::seed_from_u64(scale.seed),
            persons: Vec::new(),
            subjects: Vec::with_capacity(scale.contacts),
            large: Vec::new(),
            events: Vec::with_capacity(scale.events),
            faults: Vec::new(),
            scale,
            now,
        }
    }

    fn run(mut self) -> Stream {
        while self.events.len() < self.scale.events {
            let number = self.events.len();
            let new_ones = self.scale.contacts - self.subjects.len();
            // Contacts appear during the first two thirds, so that early ones have a history by then.
            let room = (self.scale.events * 2 / 3).saturating_sub(number).max(1);
            if number % UNREADABLE_EVERY == UNREADABLE_EVERY - 1 && !self.subjects.is_empty() {
                self.send_unreadable();
            } else if self.subjects.is_empty() || self.random.random_bool((new_ones as f64 / room as f64).min(1.0)) {
                self.create();
            } else {
                let index = self.somebody();
                if self.subject(index).live { self.change(index) } else { self.raise(index) }
            }
        }
        self.events.truncate(self.scale.events);
        let uri = |source: usize| SOURCES.map(|(_, uri)| uri)[source].to_owned();
        let subjects = self.subjects.into_iter();
        let subjects =
            subjects.map(|Subject { source, id, person, live, .. }| ((uri(source), id), Told { person, live }));
        let large = (self.persons.len()..).zip(self.large);
        let large = large.map(|(person, id)| ((uri(ACCOUNTING), id), Told { person, live: true }));
        Stream { people: People { known: subjects.chain(large).collect() }, sent: self.events }
    }

    /// Some are talked of much more than others.
    fn somebody(&mut self) -> usize {
        let share: f64 = self.random.random();
        (share * share * self.subjects.len() as f64) as usize
    }

    fn subject(&mut self, index: usize) -> &mut Subject {
        self.subjects.get_mut(index).expect("the index is that of a subject")
    }

    fn pick(&mut self, list: &'static [&'static str]) -> &'static str {
        list.choose(&mut self.random).expect("the list is not empty")
    }

    /// When the event that is generated now happens: one a second, the last one a minute ago.
    fn moment(&self) -> Timestamp {
        let ago = self.scale.events.saturating_sub(self.events.len()) + 60;
        self.now - SignedDuration::from_secs(ago as i64)
    }

    fn create(&mut self) {
        let source = self.random.random_range(0..SOURCES.len());
        let elsewhere = if self.random.random_bool(KNOWN_ELSEWHERE) { self.somebody_unknown_to(source) } else { None };
        let person = elsewhere.unwrap_or_else(|| self.somebody_new());
        if let Some(person) = self.persons.get_mut(person) {
            person.known_to[source] = true;
        }
        let view = self.view_of(person);
        let id = format!("{}-{}", SOURCES.map(|(name, _)| name)[source], self.subjects.len() + 1);
        let time = self.moment();
        self.subjects.push(Subject { person, source, id, view, live: false, sequence: 0, time, last: None });
        self.snapshot(self.subjects.len() - 1, "created", Kind::Created);
    }

    /// One who is talked of, unless this source knows them already: to one source, two contacts are two people.
    fn somebody_unknown_to(&mut self, source: usize) -> Option<usize> {
        let person = self.random.random_range(0..self.persons.len().max(1));
        self.persons.get(person).filter(|known| !known.known_to[source]).map(|_| person)
    }

    fn somebody_new(&mut self) -> usize {
        let (given, family) = (self.pick(GIVEN_NAMES), self.pick(FAMILY_NAMES));
        let number = self.persons.len() + 1;
        let mailbox = format!("{}.{number}@example.com", given.to_lowercase().replace('ë', "e"));
        self.persons.push(Person { given, family, mailbox, known_to: [false; SOURCES.len()] });
        number - 1
    }

    /// What a source knows of somebody at first.
    fn view_of(&mut self, person: usize) -> Map<String, Value> {
        let Person { given, family, mailbox, .. } =
            self.persons.get(person).expect("the index is that of a person").clone();
        let mut name = json!({"givenName": given, "familyName": family});
        if self.random.random_bool(0.4) {
            name["honorificPrefix"] = json!(self.pick(TITLES));
        }
        if self.random.random_bool(0.03) {
            // Priava will not take it.
            name = json!({"givenName": given});
        }
        let mut view = json!({"name": name, "emails": [{"value": mailbox, "type": "work", "primary": true}]});
        if self.random.random_bool(0.93) {
            view["phoneNumbers"] = self.telephones();
        }
        if self.random.random_bool(0.5) {
            view["addresses"] = self.addresses();
        }
        if self.random.random_bool(0.5) {
            view["organization"] = json!({"name": self.pick(ORGANISATIONS), "title": self.pick(JOBS),
                "department": self.pick(DEPARTMENTS)});
        }
        if self.random.random_bool(0.4) {
            view["consent"] = json!({"marketing": self.random.random_bool(0.5), "dataProcessing": true});
        }
        object(view)
    }

    fn telephones(&mut self) -> Value {
        let number = format!("+447700900{:03}", self.random.random_range(0..1000));
        let form = if self.random.random_bool(0.7) { "mobile" } else { "work" };
        json!([{"value": number, "type": form}])
    }

    fn addresses(&mut self) -> Value {
        let (locality, code, country) = TOWNS.choose(&mut self.random).expect("the list is not empty");
        let number = self.random.random_range(1..200).to_string();
        let form = if self.random.random_bool(0.5) { "work" } else { "postal" };
        json!([{"type": form, "streetAddress": self.pick(STREETS), "streetNumber": number,
            "locality": locality, "postalCode": code, "country": country}])
    }

    /// What a source says next of somebody it has.
    fn change(&mut self, index: usize) {
        match self.random.random_range(0..100) {
            0..43 => self.update(index),
            43..68 => self.patch(index),
            68..74 => self.delete(index),
            74..82 => self.repeat(index),
            82..90 => self.restate(index),
            _ => self.late(index),
        }
    }

    /// What a source says next of somebody it no longer has.
    fn raise(&mut self, index: usize) {
        match self.random.random_range(0..100) {
            0..60 => self.snapshot(index, "created", Kind::CreatedAgain),
            60..80 => self.repeat(index),
            _ => self.late(index),
        }
    }

    fn update(&mut self, index: usize) {
        for _ in 0..self.random.random_range(1..3) {
            let patch = self.something_new();
            merge(&mut self.subject(index).view, patch);
        }
        self.snapshot(index, "updated", Kind::Updated);
    }

    /// A merge patch that says something.
    fn something_new(&mut self) -> Value {
        match self.random.random_range(0..25) {
            0..5 => json!({"name": {"familyName": self.pick(FAMILY_NAMES)}}),
            // Priava will not take it without one, and keeps what it has.
            5 => json!({"name": {"familyName": null}}),
            6..10 => json!({"phoneNumbers": self.telephones()}),
            10..12 => json!({"addresses": self.addresses()}),
            12..15 => json!({"organization": {"title": self.pick(JOBS)}}),
            15 => json!({"organization": null}),
            16..19 => json!({"consent": {"marketing": self.random.random_bool(0.5)}}),
            19..21 => json!({"active": self.random.random_bool(0.7)}),
            // Priava has no field for these.
            21..23 => json!({"notes": format!("note {}", self.random.random_range(0..1000))}),
            _ => json!({"attributes": {"debtor_number": format!("D{}", self.random.random_range(0..1000))}}),
        }
    }

    fn snapshot(&mut self, index: usize, verb: &'static str, kind: Kind) {
        let data = Value::Object(self.subject(index).view.clone());
        self.subject(index).live = true;
        let event = self.next(index, verb, Some(data));
        self.send(kind, &event);
    }

    fn patch(&mut self, index: usize) {
        let patch = self.something_new();
        merge(&mut self.subject(index).view, patch.clone());
        let event = self.next(index, "patched", Some(patch));
        self.send(Kind::Patched, &event);
    }

    fn delete(&mut self, index: usize) {
        let subject = self.subject(index);
        subject.live = false;
        if subject.source == DIRECTORY {
            // A null value has neither an event id that could be seen again nor a version of its own.
            subject.last = None;
            let id = subject.id.clone();
            self.push(Kind::DeletedByNull, DIRECTORY, id, None, Vec::new());
        } else {
            let event = self.next(index, "deleted", None);
            self.send(Kind::Deleted, &event);
        }
    }

    /// The same record once more, as after a producer's time-out.
    fn repeat(&mut self, index: usize) {
        match self.subject(index).last.clone() {
            Some(event) => self.send(Kind::Repeated, &event),
            None => self.late(index),
        }
    }

    /// The same content under a new id: with the same version, or as news that are none.
    fn restate(&mut self, index: usize) {
        let Some(last) = self.subject(index).last.clone().filter(|last| last.verb != "patched") else {
            return self.update(index);
        };
        if self.random.random_bool(0.5) {
            let event = Event { id: self.event_id(), ..last };
            self.send(Kind::Restated, &event);
        } else {
            self.snapshot(index, "updated", Kind::Restated);
        }
    }

    /// A change that was overtaken: older than what was sent before.
    fn late(&mut self, index: usize) {
        let id = self.event_id();
        let text = format!("note {}", self.random.random_range(0..1000));
        let subject = self.subject(index);
        let mut view = subject.view.clone();
        view.insert("notes".to_owned(), text.into());
        let (sequence, time) = (subject.sequence - 5, subject.time - SignedDuration::from_millis(500));
        let structured = subject.source == ACCOUNTING;
        let event = Event {
            source: subject.source,
            subject: subject.id.clone(),
            id,
            verb: "updated",
            sequence: (subject.source != DIRECTORY).then_some(sequence),
            time: (subject.source != ACCOUNTING).then_some(time),
            data: Some(Value::Object(view)),
            structured,
        };
        self.send(Kind::Late, &event);
    }

    fn event_id(&self) -> String {
        format!("e-{}-{}", self.scale.seed, self.events.len() + 1)
    }

    /// The next change of a subject: newer than all before it.
    fn next(&mut self, index: usize, verb: &'static str, data: Option<Value>) -> Event {
        let (id, time) = (self.event_id(), self.moment());
        let either = self.random.random_bool(0.5);
        let subject = self.subject(index);
        // In tens, so that a late change finds a number in between.
        subject.sequence += 10;
        subject.time = time;
        let event = Event {
            source: subject.source,
            subject: subject.id.clone(),
            id,
            verb,
            sequence: (subject.source != DIRECTORY).then_some(subject.sequence),
            time: (subject.source != ACCOUNTING).then_some(time),
            data,
            structured: subject.source == ACCOUNTING || (subject.source == DIRECTORY && either),
        };
        subject.last = Some(event.clone());
        event
    }

    fn send(&mut self, kind: Kind, event: &Event) {
        let (headers, value) = event.encode();
        self.push(kind, event.source, event.subject.clone(), Some(value), headers);
    }

    fn push(&mut self, kind: Kind, source: usize, key: String, value: Option<Vec<u8>>, headers: Vec<Header>) {
        let (topic, partitions) = TOPICS[usize::from(source == DIRECTORY)];
        let to = TopicPartition::new(Arc::from(topic), partition_of(key.as_bytes(), partitions));
        let record = NewRecord { to, key: Some(key.into()), value: value.map(Into::into), headers };
        self.events.push(Generated { kind, record });
    }

    /// An event that has one fault, about somebody whose other events must not suffer from it.
    fn send_unreadable(&mut self) {
        if self.faults.is_empty() {
            self.faults = Unreadable::ALL.to_vec();
        }
        let fault = self.faults.pop().expect("just filled");
        let index = self.somebody();
        let subject = self.subject(index).id.clone();
        if fault == Unreadable::RecordTooLarge {
            return self.send_record_too_large();
        }
        let event = Event {
            source: 0,
            subject: subject.clone(),
            id: self.event_id(),
            verb: "updated",
            sequence: None,
            time: Some(self.moment()),
            data: Some(json!({"name": {"givenName": self.pick(GIVEN_NAMES)}})),
            structured: false,
        };
        let (headers, value) = fault.spoil(event, self.now);
        self.push(Kind::Unreadable, 0, subject, value, headers);
    }

    /// A view that one event may hold, and a patch that makes its record too large: two views of it do not fit.
    fn send_record_too_large(&mut self) {
        let subject = format!("accounting-large-{}", self.events.len());
        self.large.push(subject.clone());
        let event = Event {
            source: ACCOUNTING,
            subject,
            id: self.event_id(),
            verb: "created",
            sequence: Some(1),
            time: None,
            data: Some(json!({"notes": "x".repeat(14 * 1024)})),
            structured: false,
        };
        self.send(Kind::Created, &event);
        let data = json!({"attributes": {"remark": "y".repeat(14 * 1024)}});
        let patch = Event { id: self.event_id(), verb: "patched", sequence: Some(2), data: Some(data), ..event };
        self.send(Kind::Unreadable, &patch);
    }
}

impl Event {
    fn attributes(&self) -> Vec<(&'static str, String)> {
        let mut attributes = vec![
            ("specversion", "1.0".to_owned()),
            ("id", self.id.clone()),
            ("source", SOURCES.map(|(_, uri)| uri)[self.source].to_owned()),
            ("type", format!("com.example.contact.{}.v1", self.verb)),
            ("subject", self.subject.clone()),
        ];
        attributes.extend(self.time.map(|time| ("time", time.to_string())));
        attributes.extend(self.sequence.map(|sequence| ("sequence", sequence.to_string())));
        attributes
    }

    /// Headers and value of its record. An event without data has an empty value, since a null would be a tombstone.
    fn encode(&self) -> (Vec<Header>, Vec<u8>) {
        let bytes = |value: &Value| serde_json::to_vec(value).expect("a JSON value serialises");
        if self.structured {
            let attributes = self.attributes().into_iter().map(|(name, text)| (name.to_owned(), Value::from(text)));
            let mut event: Map<String, Value> = attributes.collect();
            if let Some(data) = &self.data {
                event.insert("data".to_owned(), data.clone());
            }
            let headers = vec![Header::new("content-type", &b"application/cloudevents+json; charset=UTF-8"[..])];
            return (headers, bytes(&Value::Object(event)));
        }
        let attributes = self.attributes().into_iter();
        let mut headers: Vec<Header> = attributes.map(|(name, text)| Header::new(format!("ce_{name}"), text)).collect();
        headers.push(Header::new("content-type", &b"application/json"[..]));
        (headers, self.data.as_ref().map(bytes).unwrap_or_default())
    }
}

/// Ways in which an event can be past reading or deciding: all but a fault of the program itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unreadable {
    NotCloudevents,
    MissingAttribute,
    BadAttribute,
    UnknownType,
    NotJson,
    TooDeep,
    TooLarge,
    WrongType,
    BadValue,
    NoSubject,
    TombstoneWithoutSource,
    UnknownSource,
    TimeInFuture,
    RecordTooLarge,
}

impl Unreadable {
    const ALL: [Self; 14] = [
        Self::NotCloudevents,
        Self::MissingAttribute,
        Self::BadAttribute,
        Self::UnknownType,
        Self::NotJson,
        Self::TooDeep,
        Self::TooLarge,
        Self::WrongType,
        Self::BadValue,
        Self::NoSubject,
        Self::TombstoneWithoutSource,
        Self::UnknownSource,
        Self::TimeInFuture,
        Self::RecordTooLarge,
    ];

    /// The record of `event` with this fault in it.
    fn spoil(self, mut event: Event, now: Timestamp) -> (Vec<Header>, Option<Vec<u8>>) {
        match self {
            Self::TooDeep => event.data = Some((0..100).fold(json!(0), |inner, _| json!({"attributes": inner}))),
            Self::TooLarge => event.data = Some(json!({"notes": "x".repeat(40 * 1024)})),
            Self::WrongType => event.data = Some(json!({"emails": "ada@example.com"})),
            Self::BadValue => event.data = Some(json!({"birthDate": "1990-02-30"})),
            Self::UnknownType => event.verb = "renamed",
            Self::TimeInFuture => event.time = Some(now + SignedDuration::from_hours(72)),
            _ => {}
        }
        let (mut headers, mut value) = event.encode();
        let set = |headers: &mut Vec<Header>, name: &str, text: &'static str| {
            headers.retain(|header| header.name != name);
            headers.push(Header::new(name, text));
        };
        match self {
            Self::NotCloudevents => headers.clear(),
            Self::MissingAttribute => headers.retain(|header| header.name != "ce_id"),
            Self::NoSubject => headers.retain(|header| header.name != "ce_subject"),
            Self::BadAttribute => set(&mut headers, "ce_time", "yesterday"),
            Self::UnknownSource => set(&mut headers, "ce_source", "https://stranger.example.com"),
            Self::NotJson => value.truncate(value.len() / 2),
            Self::TombstoneWithoutSource => return (Vec::new(), None),
            _ => {}
        }
        (headers, Some(value))
    }
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => unreachable!("built as an object"),
    }
}

/// Keeps a view as its source has it: an RFC 7396 merge.
fn merge(view: &mut Map<String, Value>, patch: Value) {
    for (name, value) in object(patch) {
        match (value, view.get_mut(&name)) {
            (Value::Null, _) => drop(view.remove(&name)),
            (Value::Object(members), Some(Value::Object(known))) => merge(known, Value::Object(members)),
            (value, _) => drop(view.insert(name, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::{
        config::Settings,
        event::{
            ReasonCode,
            change::{Rules, Verb, read},
        },
        log::Record,
    };

    const SCALE: Scale = Scale { seed: 7, events: 2_000, contacts: 500 };

    fn now() -> Timestamp {
        "2026-05-01T12:00:00Z".parse().unwrap()
    }

    fn records(scale: Scale) -> Vec<(Kind, Record)> {
        let as_read = |(offset, Generated { kind, record }): (usize, Generated)| {
            let NewRecord { to, key, value, headers } = record;
            (kind, Record { at: to, offset: offset as u64, timestamp: now(), key, value, headers })
        };
        generate(scale, now()).into_iter().enumerate().map(as_read).collect()
    }

    fn rules() -> Rules {
        let settings: Settings = crate::cli::demo::settings().unwrap();
        Rules::new(&settings.input, &settings.source)
    }

    #[test]
    fn a_seed_names_its_stream() {
        let bytes = |seed| {
            let stream = generate(Scale { seed, ..SCALE }, now());
            stream.into_iter().map(|sent| (sent.record.key, sent.record.value)).collect::<Vec<_>>()
        };
        assert_eq!(bytes(1), bytes(1));
        assert_ne!(bytes(1), bytes(2));
    }

    #[test]
    fn all_that_can_happen_to_a_contact_happens() {
        let mut counts: BTreeMap<Kind, usize> = BTreeMap::new();
        let mut contacts = BTreeSet::new();
        for sent in generate(SCALE, now()) {
            *counts.entry(sent.kind).or_default() += 1;
            contacts.insert(sent.record.key);
        }
        assert_eq!(counts.len(), 10, "{counts:?}");
        assert!(counts.values().all(|count| *count >= 10), "{counts:?}");
        assert!(counts[&Kind::Created] >= SCALE.contacts, "{counts:?}");
        assert!(contacts.len() >= SCALE.contacts);
    }

    #[test]
    fn a_person_is_known_to_several_sources_and_always_by_their_own_mailbox() {
        let Stream { sent, people } = stream(SCALE, now());
        let mut mailboxes: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
        for Generated { kind, record } in sent {
            let key = String::from_utf8(record.key.unwrap_or_default().to_vec()).unwrap();
            let value: Value = serde_json::from_slice(&record.value.unwrap_or_default()).unwrap_or_default();
            let told = people.known.iter().find(|((_, subject), _)| *subject == key).map(|(_, told)| told);
            let data = value.get("data").unwrap_or(&value);
            if matches!(kind, Kind::Created | Kind::Updated | Kind::CreatedAgain) && !key.contains("large") {
                let mailbox = data["emails"][0]["value"].as_str().unwrap_or_else(|| panic!("{key} without a mailbox"));
                mailboxes.entry(told.unwrap().person).or_default().insert(mailbox.to_owned());
            }
        }
        assert!(mailboxes.values().all(|of_one| of_one.len() == 1));
        let all: BTreeSet<&String> = mailboxes.values().flatten().collect();
        assert_eq!(all.len(), mailboxes.len(), "no two share one");
        let mut sources: BTreeMap<usize, BTreeSet<&str>> = BTreeMap::new();
        for ((source, _), told) in &people.known {
            assert!(sources.entry(told.person).or_default().insert(source), "one source knows a person once");
        }
        let known_to = |count| sources.values().filter(|of_one| of_one.len() == count).count();
        assert!(known_to(1) > 50 && known_to(2) > 50 && known_to(3) > 10, "{} {}", known_to(2), known_to(3));
    }

    #[test]
    fn what_is_meant_to_be_read_can_be_read_and_the_rest_has_each_fault() {
        let rules = rules();
        let mut codes = BTreeSet::new();
        let mut modes = BTreeSet::new();
        for (kind, record) in records(SCALE) {
            match (kind, read(&record, &rules, now())) {
                (Kind::Unreadable, Err(fault)) => drop(codes.insert(fault.code)),
                // It is the record that grows too large, not the event.
                (Kind::Unreadable, Ok(change)) => assert!(matches!(change.verb, Verb::Patch(_)), "{record:?}"),
                (_, Ok(_)) => drop(modes.insert(record.header("content-type").cloned())),
                (_, Err(fault)) => panic!("{record:?} cannot be read: {fault:?}"),
            }
        }
        assert_eq!(codes.len(), Unreadable::ALL.len() - 1, "{codes:?}");
        assert!(!codes.contains(&ReasonCode::InternalError));
        assert_eq!(modes.len(), 3, "binary, structured and neither: {modes:?}");
    }

    #[test]
    fn a_small_stream_is_as_long_as_asked_for_and_has_few_contacts() {
        let stream = generate(Scale { seed: 1, events: 30, contacts: 5 }, now());
        assert_eq!(stream.len(), 30);
        let created = stream.iter().filter(|sent| sent.kind == Kind::Created).count();
        assert_eq!(created, 5);
    }
}
