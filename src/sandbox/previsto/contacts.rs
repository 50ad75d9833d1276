//! The contacts of an organisation: one by one, and as a list.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{
    arguments::{Arguments, FIELDS, Field, Kind, REFERENCE, Said},
    index::Index,
};

/// The fields that a free text is looked for in.
const SEARCHED: &[&str] = &["name", "number", "email", "phone", "address", "city"];
/// Between two searched fields, so that no text is found across them.
const SEPARATOR: char = '\u{1}';
/// The fields that say where a contact is.
const WHERE: &[&str] = &["address", "postalCode", "city", "countryCode"];
/// The places that the documents show: street, code, city and country with their location.
const DOCUMENTED_PLACES: &[([&str; 4], [f64; 2])] = &[
    (["Kanalgade 14", "8000", "Aarhus", "DK"], [10.2039, 56.1572]),
    (["Kundevej 2", "4321", "Kundeby", "DK"], [10.5286863, 56.8039035]),
];

/// A contact, serialised as the system shows it: every field, in the order of the documents.
pub(super) struct Contact {
    pub(super) id: String,
    /// Those that have a value; of `meta`, an object.
    fields: BTreeMap<&'static str, Value>,
    pub(super) created: Instant,
    /// How often it was written.
    pub(super) writes: u64,
    /// What is searched, in lower case.
    haystack: String,
}

impl Contact {
    pub(super) fn new(id: String, created: Instant) -> Self {
        Self { id, fields: BTreeMap::new(), created, writes: 0, haystack: String::new() }
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.as_str()
    }

    /// What a sender calls it: the reference planted in `meta`, else the number.
    pub(super) fn reference(&self) -> Option<&str> {
        let planted = self.fields.get("meta").and_then(|meta| meta.get(REFERENCE)).and_then(Value::as_str);
        planted.or_else(|| self.text("number"))
    }

    /// Sets what is said and leaves the rest, but for the location, which follows the address unless it is said.
    pub(super) fn write(&mut self, said: &BTreeMap<&'static str, Said>) {
        let was = self.whereabouts();
        for (name, said) in said {
            match said {
                Said::Nothing => {
                    self.fields.remove(name);
                }
                Said::Value(value) => {
                    self.fields.insert(name, value.clone());
                }
                Said::Keys(keys) => self.write_keys(name, keys),
            }
        }
        let is = self.whereabouts();
        if !said.contains_key("location")
            && is != was
            && let Some(location) = locate(&is)
        {
            self.fields.insert("location", json!(location));
        }
        self.writes += 1;
        let searched = SEARCHED.iter().filter_map(|name| self.text(name));
        self.haystack = searched.map(str::to_lowercase).collect::<Vec<_>>().join(SEPARATOR.encode_utf8(&mut [0; 4]));
    }

    fn write_keys(&mut self, name: &'static str, keys: &BTreeMap<String, Option<String>>) {
        let dictionary = self.fields.entry(name).or_insert_with(|| json!({}));
        let Value::Object(dictionary) = dictionary else { unreachable!("only a dictionary has keys") };
        for (key, value) in keys {
            match value {
                None => {
                    dictionary.remove(key);
                }
                Some(value) => {
                    dictionary.insert(key.clone(), value.as_str().into());
                }
            }
        }
    }

    fn whereabouts(&self) -> [String; 4] {
        let mut parts = WHERE.iter().map(|name| self.text(name).unwrap_or_default().to_owned());
        std::array::from_fn(|_| parts.next().unwrap_or_default())
    }

    /// Whether the text, in lower case, is in a searched field.
    fn has(&self, text: &str) -> bool {
        !text.contains(SEPARATOR) && self.haystack.contains(text)
    }

    /// A measure of how far it is from a place; none if it is not known where it is.
    pub(super) fn distance(&self, from: [f64; 2]) -> Option<f64> {
        let location = self.fields.get("location")?;
        let (longitude, latitude) = (location[0].as_f64()? - from[0], location[1].as_f64()? - from[1]);
        // Meridians come closer together towards the poles.
        Some(latitude.hypot(longitude * from[1].to_radians().cos()))
    }

    /// As a control address shows it.
    pub(super) fn shown(&self) -> Value {
        let fields = serde_json::to_value(self).expect("a contact can be written as JSON");
        json!({ "id": self.id, "reference": self.reference(), "writes": self.writes, "fields": fields })
    }
}

impl Serialize for Contact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut shown = serializer.serialize_map(None)?;
        shown.serialize_entry("id", &self.id)?;
        for Field { name, kind, always } in FIELDS {
            match (self.fields.get(name), kind) {
                (Some(value), _) => shown.serialize_entry(name, value)?,
                (None, Kind::Flag) => shown.serialize_entry(name, &false)?,
                (None, Kind::OwnList) => shown.serialize_entry(name, &[(); 0])?,
                (None, Kind::Meta) => shown.serialize_entry(name, &BTreeMap::<(), ()>::new())?,
                (None, _) if *always => shown.serialize_entry(name, &())?,
                (None, _) => {}
            }
        }
        shown.end()
    }
}

/// Where an address is. The documents tell of two; any other is somewhere, and always at the same place.
fn locate(whereabouts: &[String; 4]) -> Option<[f64; 2]> {
    let [address, postal_code, city, _] = whereabouts;
    // A country alone is no address.
    if [address, postal_code, city].iter().all(|part| part.is_empty()) {
        return None;
    }
    if let Some((_, location)) = DOCUMENTED_PLACES.iter().find(|(place, _)| place == whereabouts) {
        return Some(*location);
    }
    let digest = Sha256::digest(whereabouts.join("\n").to_lowercase());
    let number = |index: usize, bound: i32| {
        let four = [digest[index], digest[index + 1], digest[index + 2], digest[index + 3]];
        // As many decimals as a real answer has.
        let within = u32::from_be_bytes(four) % (20_000 * bound.unsigned_abs());
        f64::from(within) / 10_000.0 - f64::from(bound)
    };
    let rounded = |degrees: f64| (degrees * 10_000.0).round() / 10_000.0;
    Some([rounded(number(0, 180)), rounded(number(4, 85))])
}

/// All contacts in the order of their creation.
#[derive(Default)]
pub(super) struct Contacts {
    by_age: BTreeMap<u64, Contact>,
    by_id: HashMap<String, u64>,
    by_reference: HashMap<String, BTreeSet<u64>>,
    by_text: Index,
    created: u64,
}

impl Contacts {
    pub(super) fn count(&self) -> usize {
        self.by_age.len()
    }

    /// How many were ever created.
    pub(super) fn ever(&self) -> u64 {
        self.created
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Contact> {
        self.by_age.values()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Contact> {
        self.by_age.get(self.by_id.get(id)?)
    }

    /// The newest with this reference.
    pub(super) fn newest(&self, reference: &str) -> Option<&Contact> {
        self.by_age.get(self.by_reference.get(reference)?.last()?)
    }

    /// Those that have the text, in lower case, in a searched field.
    pub(super) fn search(&self, text: &str) -> Vec<&Contact> {
        match self.by_text.candidates(text) {
            Some(ages) => ages.filter_map(|age| self.by_age.get(&age)).filter(|contact| contact.has(text)).collect(),
            None => self.iter().filter(|contact| contact.has(text)).collect(),
        }
    }

    pub(super) fn create(&mut self, mut contact: Contact, arguments: &Arguments) -> &Contact {
        contact.write(&arguments.said);
        self.created += 1;
        let age = self.created;
        let before = self.by_id.insert(contact.id.clone(), age);
        assert!(before.is_none(), "ids are given out once");
        self.remember(age, contact.reference().map(str::to_owned));
        self.by_text.insert(age, &contact.haystack);
        self.by_age.entry(age).or_insert(contact)
    }

    pub(super) fn update(&mut self, id: &str, arguments: &Arguments) -> Option<&Contact> {
        let age = *self.by_id.get(id)?;
        let contact = self.by_age.get_mut(&age)?;
        let was = contact.reference().map(str::to_owned);
        let haystack = contact.haystack.clone();
        contact.write(&arguments.said);
        if contact.haystack != haystack {
            self.by_text.remove(age, &haystack);
            self.by_text.insert(age, &contact.haystack);
        }
        let is = contact.reference().map(str::to_owned);
        if was != is {
            self.forget(age, was.as_deref());
            self.remember(age, is);
        }
        self.by_age.get(&age)
    }

    pub(super) fn delete(&mut self, id: &str) -> Option<Contact> {
        let age = self.by_id.remove(id)?;
        let contact = self.by_age.remove(&age)?;
        self.forget(age, contact.reference());
        self.by_text.remove(age, &contact.haystack);
        Some(contact)
    }

    fn remember(&mut self, age: u64, reference: Option<String>) {
        if let Some(reference) = reference {
            self.by_reference.entry(reference).or_default().insert(age);
        }
    }

    fn forget(&mut self, age: u64, reference: Option<&str>) {
        let Some(reference) = reference else { return };
        if let Some(ages) = self.by_reference.get_mut(reference) {
            ages.remove(&age);
            if ages.is_empty() {
                self.by_reference.remove(reference);
            }
        }
    }
}
