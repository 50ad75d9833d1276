//! Reads a contact-change event, or says what is wrong with it and where.
//!
//! The first thing at fault ends the reading, in this order: size, form, attributes, data. Whatever bytes come, the
//! answer is a [`Change`] or a [`Fault`] that names one code of the closed list and, where there is one, the place.
//! Nothing is guessed: what could be meant in two ways is a fault.
//!
//! The clock comes in as an argument, and decides only whether an event is from the future.

mod remedy;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};

use super::{
    EventRef, ReasonCode, SourceVersion,
    envelope::{self, Attribute, Carried, Envelope, Problem},
    time::{self, Moment},
    traceparent,
};
use crate::{
    config::{InputSettings, Order, SourceSettings},
    contact::{
        Document,
        schema::{self, DocumentFault},
    },
    log::Record,
};

/// A readable change of one source's subject.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    pub event: EventRef,
    /// The emitting system, as in the event.
    pub source: Arc<str>,
    /// The contact's id in that source.
    pub subject: Arc<str>,
    /// Unique per source. A tombstone, which has none, gets one from its position.
    pub id: Arc<str>,
    pub verb: Verb,
    pub version: SourceVersion,
    /// When it happened, says the event. Not always in `version`, where the source's order may not go by time.
    pub time: Option<Timestamp>,
    /// The input record's own timestamp.
    pub record_timestamp: Timestamp,
    pub traceparent: Option<Arc<str>>,
    /// Attributes that this program does not know: ignored, counted.
    pub ignored_attributes: u32,
}

impl Change {
    /// The moment that counts for "which source spoke last", if the change is decided at `now`: no clock of a source
    /// that runs ahead can make it speak last for ever.
    pub fn spoke_at(&self, now: Timestamp) -> Timestamp {
        let earliest = self.record_timestamp.min(now);
        self.time.map_or(earliest, |time| time.min(earliest))
    }
}

/// What a change does to the source's view.
#[derive(Clone, PartialEq)]
pub enum Verb {
    /// Replaces it.
    Snapshot(Document),
    /// An RFC 7396 merge patch of it, checked against the schema.
    Patch(Map<String, Value>),
    /// The source no longer has the contact.
    Delete,
    /// As `Delete`, by a null value: it takes the highest version seen of that subject.
    Tombstone,
    /// The person asked to be forgotten.
    Erase,
}

impl std::fmt::Debug for Verb {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Snapshot(_) => "Snapshot",
            Self::Patch(_) => "Patch",
            Self::Delete => "Delete",
            Self::Tombstone => "Tombstone",
            Self::Erase => "Erase",
        })
    }
}

/// Why an event goes to the dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub code: ReasonCode,
    /// JSON pointer to the place: into the data, or `/headers/<name>` for an attribute. Names only, never values.
    pub pointer: Option<String>,
    /// What could still be read of the event's identity.
    pub event: EventRef,
}

/// What events are held against.
#[derive(Debug, Clone)]
pub struct Rules {
    bytes_max: usize,
    depth_max: usize,
    future_max: SignedDuration,
    /// The source that a tombstone speaks for, by topic.
    tombstone_sources: BTreeMap<Arc<str>, Arc<str>>,
    /// What orders a source's changes, by its URI.
    orders: BTreeMap<Arc<str>, Order>,
    /// If the list is closed: the sources on it.
    known_sources: Option<BTreeSet<Arc<str>>>,
}

/// The JSON reader gives up at 128 levels by itself, and one is the envelope's.
const DEPTH_LIMIT: usize = 126;

/// Longest source, id or subject that a fault repeats, in bytes.
const IDENTITY_BYTES_MAX: usize = 1024;

impl Rules {
    pub fn new(input: &InputSettings, sources: &[SourceSettings]) -> Self {
        let tombstone_source = |topic: &crate::config::InputTopicSettings| {
            topic.tombstone_source.clone().map(|source| (topic.name.clone(), source))
        };
        Self {
            bytes_max: input.event_bytes_max,
            depth_max: input.event_depth_max.min(DEPTH_LIMIT),
            future_max: SignedDuration::try_from(input.future_max).unwrap_or(SignedDuration::MAX),
            tombstone_sources: input.topics.iter().filter_map(tombstone_source).collect(),
            orders: sources.iter().filter_map(|source| Some((source.uri.clone(), source.order?))).collect(),
            known_sources: input.known_sources_only.then(|| sources.iter().map(|source| source.uri.clone()).collect()),
        }
    }

    fn check_source(&self, source: &str, problem: impl FnOnce() -> Problem) -> Result<(), Problem> {
        match &self.known_sources {
            Some(known) if !known.contains(source) => Err(problem()),
            _ => Ok(()),
        }
    }
}

/// Reads the change in an input record, at the moment `now`.
///
/// # Errors
/// What is wrong, with all that could be read of the event's identity.
pub fn read(record: &Record, rules: &Rules, now: Timestamp) -> Result<Change, Fault> {
    let mut event = EventRef::at(record);
    match read_record(record, rules, now, &mut event) {
        Ok(change) => Ok(change),
        Err(Problem { code, pointer }) => Err(Fault { code, pointer, event }),
    }
}

/// Notes in `event` what it learns of the event's identity, also if it then fails.
fn read_record(record: &Record, rules: &Rules, now: Timestamp, event: &mut EventRef) -> Result<Change, Problem> {
    if is_too_large(record, rules) {
        identify(event, &Envelope::Binary(record));
        return Err(Problem::whole(ReasonCode::TooLarge));
    }
    match envelope::open(record, rules.depth_max)? {
        Carried::Tombstone { key } => read_tombstone(record, key, rules, event),
        Carried::Event(envelope) => {
            identify(event, &envelope);
            read_event(record, envelope, rules, now, event)
        }
    }
}

/// Whether `record` is larger than an event may be, key and headers included.
pub fn is_too_large(record: &Record, rules: &Rules) -> bool {
    size(record) > rules.bytes_max
}

/// Key, value and headers together: an event is as large as what must fit into a dead letter.
fn size(record: &Record) -> usize {
    let optional = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map_or(0, bytes::Bytes::len);
    let headers: usize = record.headers.iter().map(|header| header.name.len() + header.value.len()).sum();
    optional(&record.key) + optional(&record.value) + headers
}

fn identify(event: &mut EventRef, envelope: &Envelope<'_>) {
    let name = |attribute| {
        let text = envelope.text(attribute).ok().flatten()?;
        (!text.is_empty() && text.len() <= IDENTITY_BYTES_MAX).then(|| Arc::from(text))
    };
    event.source = name(Attribute::Source);
    event.id = name(Attribute::Id);
    event.subject = name(Attribute::Subject);
}

fn read_tombstone(record: &Record, key: &[u8], rules: &Rules, event: &mut EventRef) -> Result<Change, Problem> {
    const KEY: &str = "/key";
    let subject = std::str::from_utf8(key).ok().filter(|subject| !subject.chars().any(char::is_control));
    event.subject = subject.filter(|subject| !subject.is_empty() && subject.len() <= IDENTITY_BYTES_MAX).map(Arc::from);
    let Some(source) = rules.tombstone_sources.get(&record.at.topic) else {
        return Err(Problem::whole(ReasonCode::TombstoneWithoutSource));
    };
    event.source = Some(source.clone());
    rules.check_source(source, || Problem::whole(ReasonCode::UnknownSource))?;
    let subject: Arc<str> = match subject {
        None => return Err(Problem::at(ReasonCode::BadAttribute, KEY)),
        Some("") => return Err(Problem::at(ReasonCode::NoSubject, KEY)),
        Some(subject) => Arc::from(subject),
    };
    let id: Arc<str> = format!("{}@{}", record.at, record.offset).into();
    Ok(Change {
        event: EventRef {
            source: Some(source.clone()),
            id: Some(id.clone()),
            subject: Some(subject.clone()),
            ..EventRef::at(record)
        },
        source: source.clone(),
        subject,
        id,
        verb: Verb::Tombstone,
        version: version(record, None, None, None),
        time: None,
        record_timestamp: record.timestamp,
        traceparent: traceparent::of_headers(record),
        ignored_attributes: 0,
    })
}

fn read_event(
    record: &Record,
    envelope: Envelope<'_>,
    rules: &Rules,
    now: Timestamp,
    event: &EventRef,
) -> Result<Change, Problem> {
    if required(&envelope, Attribute::SpecVersion)? != "1.0" {
        return Err(Attribute::SpecVersion.problem(ReasonCode::BadAttribute));
    }
    let id: Arc<str> = required(&envelope, Attribute::Id)?.into();
    let source: Arc<str> = required(&envelope, Attribute::Source)?.into();
    if !is_uri_reference(&source) {
        return Err(Attribute::Source.problem(ReasonCode::BadAttribute));
    }
    rules.check_source(&source, || Attribute::Source.problem(ReasonCode::UnknownSource))?;
    let kind = Kind::of(&required(&envelope, Attribute::Type)?)
        .ok_or_else(|| Attribute::Type.problem(ReasonCode::UnknownType))?;
    let subject: Arc<str> = match envelope.text(Attribute::Subject)? {
        Some(subject) if !subject.is_empty() => subject.into(),
        _ => return Err(Attribute::Subject.problem(ReasonCode::NoSubject)),
    };
    let time = read_time(&envelope, rules, now)?;
    let sequence: Option<Arc<str>> = match envelope.text(Attribute::Sequence)? {
        Some(sequence) if sequence.is_empty() => return Err(Attribute::Sequence.problem(ReasonCode::BadAttribute)),
        sequence => sequence.map(Arc::from),
    };
    // Tracing is a courtesy: whatever is wrong with it, the change counts.
    let traceparent = traceparent::of_event(envelope.text(Attribute::TraceParent).ok().flatten().as_deref(), record);

    let (verb, ignored_attributes) = kind.read(envelope, rules.depth_max)?;
    Ok(Change {
        event: EventRef {
            source: Some(source.clone()),
            id: Some(id.clone()),
            subject: Some(subject.clone()),
            ..event.clone()
        },
        version: version(record, rules.orders.get(&source).copied(), sequence, time),
        source,
        subject,
        id,
        verb,
        time,
        record_timestamp: record.timestamp,
        traceparent,
        ignored_attributes,
    })
}

fn required<'a>(envelope: &'a Envelope<'_>, attribute: Attribute) -> Result<Cow<'a, str>, Problem> {
    match envelope.text(attribute)? {
        None => Err(attribute.problem(ReasonCode::MissingAttribute)),
        Some(text) if text.is_empty() => Err(attribute.problem(ReasonCode::BadAttribute)),
        Some(text) => Ok(text),
    }
}

fn read_time(envelope: &Envelope<'_>, rules: &Rules, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = envelope.text(Attribute::Time)? else {
        return Ok(None);
    };
    match time::parse(&text) {
        None => Err(Attribute::Time.problem(ReasonCode::BadAttribute)),
        Some(Moment::At(time)) if time.duration_since(now) <= rules.future_max => Ok(Some(time)),
        Some(_) => Err(Attribute::Time.problem(ReasonCode::TimeInFuture)),
    }
}

/// Leaves in the version only what changes of this source may be compared by.
fn version(
    record: &Record,
    order: Option<Order>,
    sequence: Option<Arc<str>>,
    time: Option<Timestamp>,
) -> SourceVersion {
    SourceVersion {
        sequence: sequence.filter(|_| matches!(order, None | Some(Order::Sequence))),
        time: time.filter(|_| matches!(order, None | Some(Order::Time))),
        topic: record.at.topic.clone(),
        partition: record.at.partition,
        offset: record.offset,
    }
}

/// What the `type` of an event announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Snapshot,
    Patch,
    Delete,
    Erase,
}

impl Kind {
    /// By the end of the type: any reverse-DNS prefix, `contact`, the verb, and `v1` or nothing.
    fn of(event_type: &str) -> Option<Self> {
        let unversioned = event_type.strip_suffix(".v1").unwrap_or(event_type);
        let (noun, verb) = unversioned.rsplit_once('.')?;
        let mut labels = noun.rsplit('.');
        let is_label = |label: &str| {
            !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if labels.next() != Some("contact") || !labels.all(is_label) {
            return None;
        }
        match verb {
            "created" | "updated" => Some(Self::Snapshot),
            "patched" => Some(Self::Patch),
            "deleted" => Some(Self::Delete),
            "erased" => Some(Self::Erase),
            _ => None,
        }
    }

    fn read(self, envelope: Envelope<'_>, depth_max: usize) -> Result<(Verb, u32), Problem> {
        let fault = |DocumentFault { code, pointer }| Problem::at(code, pointer);
        match self {
            Self::Snapshot => {
                let (document, ignored) = Document::parse(envelope.into_data(depth_max)?).map_err(fault)?;
                Ok((Verb::Snapshot(document), ignored))
            }
            Self::Patch => {
                let (patch, ignored) = schema::check(envelope.into_data(depth_max)?).map_err(fault)?;
                Ok((Verb::Patch(patch), ignored))
            }
            // Data that comes along has nothing to say.
            Self::Delete => Ok((Verb::Delete, 0)),
            Self::Erase => Ok((Verb::Erase, 0)),
        }
    }
}

/// Whether it is made of what a URI reference (RFC 3986) may be made of.
fn is_uri_reference(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let is_sound = match byte {
            b'%' => {
                let mut is_digit = || bytes.next().is_some_and(|byte| byte.is_ascii_hexdigit());
                is_digit() && is_digit()
            }
            b'-' | b'.' | b'_' | b'~' | b':' | b'/' | b'?' | b'#' | b'[' | b']' | b'@' | b'!' | b'$' | b'&' | b'\''
            | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=' => true,
            byte => byte.is_ascii_alphanumeric(),
        };
        if !is_sound {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests;
