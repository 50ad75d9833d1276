//! What the sources of a simulated world say, by seed: snapshots, patches, deletes, repeats, late events, nonsense.

use bytes::Bytes;
use contact_replicator::log::{Header, NewRecord};
use rand::{RngExt, rngs::StdRng};
use serde_json::{Value, json};

use crate::world::input_of;

const SOURCES: [&str; 3] = ["/shop", "/erp", "/web"];
const FIRST_NAMES: [&str; 6] = ["Ann", "Bob", "Cleo", "Dan", "Eve", "Finn"];

/// Makes changes, and remembers them for repeats.
#[derive(Debug)]
pub(crate) struct Sources {
    subjects: u32,
    next: u64,
    told: Vec<NewRecord>,
}

impl Sources {
    pub(crate) fn new(subjects: u32) -> Self {
        Self { subjects, next: 0, told: Vec::new() }
    }

    pub(crate) fn told(&self) -> usize {
        self.told.len()
    }

    /// One more record for the input topic.
    pub(crate) fn say(&mut self, random: &mut StdRng) -> NewRecord {
        let record = match random.random_range(0..100) {
            0..=5 if !self.told.is_empty() => self.told[random.random_range(0..self.told.len())].clone(),
            6..=7 => nonsense(random),
            _ => self.change(random),
        };
        self.told.push(record.clone());
        record
    }

    fn change(&mut self, random: &mut StdRng) -> NewRecord {
        self.next += 1;
        let source = SOURCES[random.random_range(0..SOURCES.len())];
        let subject = format!("{}", random.random_range(0..self.subjects));
        let late = if random.random_range(0..20) == 0 { random.random_range(1..20) } else { 0 };
        let sequence = self.next.saturating_sub(late);
        let (verb, data) = match random.random_range(0..100) {
            0..=4 => ("contact.deleted", None),
            5..=6 if source == "/shop" => return tombstone(&subject),
            7..=24 => ("contact.patched", Some(json!({ "organization": { "title": format!("t{}", self.next) } }))),
            25..=29 => ("contact.updated", Some(json!({ "name": { "givenName": "Nemo" } }))),
            _ => ("contact.updated", Some(self.contact(&subject, random))),
        };
        event(source, &subject, &format!("e{}", self.next), verb, sequence, data)
    }

    fn contact(&self, subject: &str, random: &mut StdRng) -> Value {
        // Few values, so that some changes change nothing.
        let given = FIRST_NAMES[random.random_range(0..FIRST_NAMES.len())];
        let mut contact = json!({
            "name": { "givenName": given, "familyName": format!("F{subject}") },
            "emails": [{ "value": format!("{given}.{subject}@example.com"), "type": "work", "primary": true }],
            "phoneNumbers": [{ "value": "+41446681800", "type": "mobile" }],
        });
        if random.random_range(0..3) == 0 {
            contact["addresses"] = json!([{ "type": "postal", "locality": "Bern", "country": "CH" }]);
        }
        contact
    }
}

/// An event in binary mode.
pub(crate) fn event(
    source: &str,
    subject: &str,
    id: &str,
    verb: &str,
    sequence: u64,
    data: Option<Value>,
) -> NewRecord {
    let header = |name: &str, value: &str| Header::new(name, Bytes::copy_from_slice(value.as_bytes()));
    let mut headers = vec![
        header("ce_specversion", "1.0"),
        header("ce_id", id),
        header("ce_source", source),
        header("ce_subject", subject),
        header("ce_type", &format!("com.example.{verb}.v1")),
        header("ce_sequence", &sequence.to_string()),
    ];
    if data.is_some() {
        headers.push(header("content-type", "application/json"));
    }
    let key = subject.as_bytes();
    NewRecord {
        to: input_of(key),
        key: Some(Bytes::copy_from_slice(key)),
        value: Some(data.map_or_else(Bytes::new, |data| data.to_string().into())),
        headers,
    }
}

fn tombstone(subject: &str) -> NewRecord {
    let key = subject.as_bytes();
    NewRecord { to: input_of(key), key: Some(Bytes::copy_from_slice(key)), value: None, headers: Vec::new() }
}

fn nonsense(random: &mut StdRng) -> NewRecord {
    let bytes: Vec<u8> = (0..random.random_range(0..40)).map(|_| random.random::<u8>()).collect();
    NewRecord { to: input_of(b"nonsense"), key: None, value: Some(bytes.into()), headers: Vec::new() }
}
