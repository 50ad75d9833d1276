//! The contacts of a tenant: how each is written, read and found.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::{
    CrmComSettings, INVALID, Refused,
    arguments::{self, Arguments, Change, ContactType, EntryName, Set},
};
use crate::privacy::hex;

/// What a list searches by.
pub(super) const KEYS: [&str; 6] = [
    "id_number",
    "passport_number",
    "social_security_number",
    "vat_registration_number",
    "email_address",
    "phone_number",
];

/// Stands before notes: who wrote them, and when.
const STAMP: &str = "contact-replicator 1/1/2026 9:00:00";

/// An entry of a set.
#[derive(Clone)]
struct Entry {
    id: String,
    of_type: &'static str,
    is_active: bool,
    members: BTreeMap<String, Value>,
}

impl Entry {
    fn shown(&self, set: Set) -> Value {
        let mut shown: Map<String, Value> = self.members.clone().into_iter().collect();
        if set == Set::Addresses {
            // Sent in the documents' examples, never seen again.
            shown.remove("notes");
        } else {
            shown.entry("notes").or_insert(Value::Null);
        }
        shown.insert("id".to_owned(), json!(self.id));
        shown.insert("type".to_owned(), json!(self.of_type));
        if set != Set::Relations {
            shown.insert("state".to_owned(), json!(if self.is_active { "Active" } else { "Inactive" }));
        }
        if let Some(full) = self.full_number() {
            shown.insert("full_number".to_owned(), json!(format!("00{full}")));
        }
        shown.into()
    }

    fn full_number(&self) -> Option<String> {
        let part = |name: &str| self.members.get(name).and_then(Value::as_str);
        Some(format!("{}{}", part("area_code")?, part("number")?))
    }
}

/// A photo of a contact.
#[derive(Clone)]
pub(super) struct Photo {
    id: String,
    name: String,
    pub(super) kind: &'static str,
    pub(super) content: Bytes,
}

impl Photo {
    pub(super) fn new(id: &str, name: String, kind: &'static str, content: Bytes) -> Self {
        Self { id: id.to_owned(), name, kind, content }
    }

    pub(super) fn facts(&self) -> Value {
        let address = format!("{}?id={}", super::DOWNLOAD_PATH, self.id);
        // As the documents show it: the name under which it came stands behind one of the system's own.
        let name = format!("{}_{}", self.id, self.name);
        json!({ "file_name": name, "file_content_url": address, "file_mime_type": self.kind })
    }

    /// What it tells, and the digest of its file, which it tells nobody.
    pub(super) fn known(&self) -> Value {
        let mut known = self.facts();
        known["sha256"] = hex(&Sha256::digest(&self.content)).into();
        known
    }
}

#[derive(Clone)]
pub(super) struct Contact {
    pub(super) id: String,
    pub(super) contact_type: ContactType,
    pub(super) created: Instant,
    /// How often it was written.
    pub(super) writes: u64,
    /// By the names that are read; those that have no value are left out.
    top: BTreeMap<String, Value>,
    objects: BTreeMap<&'static str, BTreeMap<String, Value>>,
    sets: BTreeMap<Set, Vec<Entry>>,
    photo: Option<Photo>,
}

impl Contact {
    pub(super) fn new(id: String, contact_type: ContactType, created: Instant) -> Self {
        Self {
            id,
            contact_type,
            created,
            writes: 0,
            top: BTreeMap::new(),
            objects: BTreeMap::new(),
            sets: BTreeMap::new(),
            photo: None,
        }
    }

    /// Carries out what a request says. `entries` counts those that were ever made.
    pub(super) fn write(
        &mut self,
        arguments: &Arguments,
        settings: &CrmComSettings,
        entries: &mut u64,
    ) -> Result<(), Refused> {
        for (name, value) in &arguments.top {
            let value = match value {
                Value::String(text) if name == "notes" => json!(format!("{STAMP} {text}")),
                value => value.clone(),
            };
            put(&mut self.top, name, value);
        }
        for (object, members) in &arguments.objects {
            let inside = self.objects.entry(object).or_default();
            match members {
                None => inside.clear(),
                Some(members) => members.iter().for_each(|(name, value)| put(inside, name, value.clone())),
            }
        }
        for (set, changes) in &arguments.sets {
            let held = self.sets.entry(*set).or_default();
            for change in changes {
                carry_out(held, *set, change, settings, entries)?;
            }
        }
        self.writes += 1;
        Ok(())
    }

    pub(super) fn photo(&self) -> Option<&Photo> {
        self.photo.as_ref()
    }

    pub(super) fn set_photo(&mut self, photo: Option<Photo>) {
        self.photo = photo;
        self.writes += 1;
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.top.get(name).and_then(Value::as_str)
    }

    pub(super) fn reference(&self, slot: &str) -> Option<&str> {
        self.text(slot)
    }

    fn name(&self) -> String {
        let parts: &[&str] = match self.contact_type {
            // "Louis Aloz Kozior" is shown as "Louis Kozior".
            ContactType::Person => &["first_name", "last_name"],
            ContactType::Company => &["company_name"],
        };
        parts.iter().filter_map(|part| self.text(part)).collect::<Vec<_>>().join(" ")
    }

    fn inner(&self, object: &str, name: &str) -> Option<&str> {
        self.objects.get(object)?.get(name)?.as_str()
    }

    fn object(&self, name: &'static str, owner: ContactType) -> Value {
        if self.contact_type != owner {
            return Value::Null;
        }
        let mut shown = arguments::empty_object(name);
        shown.extend(self.objects.get(name).cloned().unwrap_or_default());
        shown.into()
    }

    /// What a create answers unless it is asked for something else: no sets, no notes, nothing user-defined.
    pub(super) fn short(&self) -> Value {
        let mut shown = Map::new();
        for name in ["title", "first_name", "middle_name", "last_name", "company_name"] {
            shown.insert(name.to_owned(), self.top.get(name).cloned().unwrap_or_default());
        }
        for (name, value) in [
            ("id", json!(self.id)),
            ("type", json!(self.contact_type.word())),
            ("life_cycle_state", json!("MARKETING")),
            ("name", json!(self.name())),
            ("demographics", self.object("demographics", ContactType::Person)),
            ("company_profile", self.object("company_profile", ContactType::Company)),
        ] {
            shown.insert(name.to_owned(), value);
        }
        shown.into()
    }

    /// All that is read of a contact.
    pub(super) fn whole(&self) -> Value {
        let Value::Object(short) = self.short() else { unreachable!("a contact is an object") };
        let mut shown = arguments::empty_contact();
        shown.extend(short);
        shown.insert("organizational_unit".to_owned(), json!(0));
        let flags = ["send_direct_marketing_material", "send_affiliate_marketing_material"];
        let others = self.top.iter().filter(|(name, _)| !flags.contains(&name.as_str()));
        shown.extend(others.map(|(name, value)| (name.clone(), value.clone())));
        let consents: Map<String, Value> =
            flags.iter().map(|name| ((*name).to_owned(), self.top.get(*name).cloned().unwrap_or_default())).collect();
        shown.insert("authorization_settings".to_owned(), consents.into());
        if self.contact_type == ContactType::Person {
            // A person has no company profile but for what it has of its demographics there.
            let mut profile = arguments::empty_object("company_profile");
            for name in ["industry", "industry_sector"] {
                profile.insert(name.to_owned(), shown["demographics"][name].clone());
            }
            shown.insert("company_profile".to_owned(), profile.into());
        }
        for set in Set::ALL {
            let entries = self.sets.get(&set).into_iter().flatten().map(|entry| entry.shown(set));
            shown.insert(set.read().to_owned(), entries.collect());
        }
        shown.into()
    }

    /// Whether the contact has all that is searched for.
    pub(super) fn has_all(&self, keys: &[(&str, &str)]) -> bool {
        let active = |set| self.sets.get(&set).into_iter().flatten().filter(|entry: &&Entry| entry.is_active);
        keys.iter().all(|(key, value)| match *key {
            "email_address" => active(Set::Emails).any(|entry| {
                let address = entry.members.get("email").and_then(Value::as_str);
                address.is_some_and(|address| address.to_lowercase() == value.to_lowercase())
            }),
            "phone_number" => active(Set::Phones).any(|entry| {
                let number = entry.members.get("number").and_then(Value::as_str);
                let wanted = value.strip_prefix("00").unwrap_or(value);
                number == Some(*value) || entry.full_number().as_deref() == Some(wanted)
            }),
            "vat_registration_number" => self.inner("company_profile", key) == Some(*value),
            key => self.inner("demographics", key) == Some(*value),
        })
    }

    /// Whether the tenant's rule takes the contact for the one that `arguments` describe.
    pub(super) fn is_like(&self, arguments: &Arguments) -> bool {
        let said = |object: &str, name: &str| {
            let members = arguments.objects.iter().find(|(known, _)| *known == object)?.1.as_ref()?;
            members.get(name)?.as_str()
        };
        let top = |name: &str| arguments.top.get(name).and_then(Value::as_str);
        let same = |ours: Option<&str>, theirs: Option<&str>| theirs.is_some() && ours == theirs;
        self.contact_type == arguments.contact_type
            && match self.contact_type {
                ContactType::Person => {
                    same(self.inner("demographics", "id_number"), said("demographics", "id_number"))
                        && same(self.text("first_name"), top("first_name"))
                        && same(self.text("last_name"), top("last_name"))
                }
                ContactType::Company => {
                    let vat = "vat_registration_number";
                    same(self.inner("company_profile", vat), said("company_profile", vat))
                }
            }
    }
}

fn put(members: &mut BTreeMap<String, Value>, name: &str, value: Value) {
    if value.is_null() {
        members.remove(name);
    } else {
        members.insert(name.to_owned(), value);
    }
}

fn carry_out(
    held: &mut Vec<Entry>,
    set: Set,
    change: &Change,
    settings: &CrmComSettings,
    entries: &mut u64,
) -> Result<(), Refused> {
    let is_taken = |held: &[Entry], of_type: &str, but: Option<usize>| {
        let others = held.iter().enumerate().filter(|(place, _)| Some(*place) != but);
        let mut same = others.filter(|(_, entry)| entry.is_active && entry.of_type == of_type);
        arguments::is_one_per_type(set) && same.next().is_some()
    };
    let taken = Err(Refused::of("TYPE_ALREADY_EXISTS", "there is an entry of this type"));
    match change {
        Change::Add { of_type, members } => {
            if is_taken(held, of_type, None) {
                return taken;
            }
            *entries += 1;
            let mut entry = Entry { id: format!("E{entries}"), of_type, is_active: true, members: BTreeMap::new() };
            members.iter().for_each(|(name, value)| put(&mut entry.members, name, value.clone()));
            held.push(entry);
        }
        Change::Update { entry, of_type, members } => {
            let place = place_of(held, entry)?;
            if of_type.is_some_and(|of_type| is_taken(held, of_type, Some(place))) {
                return taken;
            }
            let entry = &mut held[place];
            entry.of_type = of_type.unwrap_or(entry.of_type);
            members.iter().for_each(|(name, value)| put(&mut entry.members, name, value.clone()));
        }
        Change::Remove { entry } => {
            let place = place_of(held, entry)?;
            // The documents show a state of entries, and none of relations.
            if settings.removes || set == Set::Relations {
                held.remove(place);
            } else {
                held[place].is_active = false;
            }
        }
    }
    Ok(())
}

fn place_of(held: &[Entry], name: &EntryName) -> Result<usize, Refused> {
    let is_it = |entry: &Entry| {
        entry.is_active
            && match name {
                EntryName::Id(id) => entry.id == *id,
                EntryName::Type(of_type) => entry.of_type == *of_type,
            }
    };
    held.iter().position(is_it).ok_or(Refused::of(INVALID, "there is no such entry"))
}

/// All contacts in the order of their creation.
pub(super) struct Contacts {
    seed: u64,
    by_age: Vec<Contact>,
    /// How many entries of sets were ever made.
    pub(super) entries: u64,
}

impl Contacts {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, by_age: Vec::new(), entries: 0 }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Contact> {
        self.by_age.iter()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Contact> {
        self.by_age.iter().find(|contact| contact.id == id)
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Contact> {
        self.by_age.iter_mut().find(|contact| contact.id == id)
    }

    /// 32 hexadecimal digits, as the documents show.
    pub(super) fn next_id(&self) -> String {
        let digest = Sha256::digest(format!("contact {} {}", self.seed, self.by_age.len()));
        hex(&digest[..16]).to_uppercase()
    }

    /// In place of the one with its id, or as a new one.
    pub(super) fn insert(&mut self, contact: Contact) {
        match self.get_mut(&contact.id) {
            Some(known) => *known = contact,
            None => self.by_age.push(contact),
        }
    }

    /// The id of the one contact that a member and its value name.
    pub(super) fn identified<'a>(&'a self, field: &str, value: &'a str) -> Result<&'a str, Refused> {
        if field == "id" {
            return Ok(value);
        }
        let object = match field {
            "id_number" | "passport_number" | "social_security_number" => "demographics",
            "vat_registration_number" | "registration_number" => "company_profile",
            _ => return Err(Refused::of(INVALID, "no contact is named by this")),
        };
        let found = self.by_age.iter().find(|contact| contact.inner(object, field) == Some(value));
        found.map(|contact| contact.id.as_str()).ok_or(super::NO_CONTACT)
    }
}
