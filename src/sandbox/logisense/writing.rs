//! What a body asks for: read strictly, with every fault named, and carried out whole or not at all.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{
    lists,
    store::{Address, Contact, Point, Store},
};

/// One thing wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Fault {
    code: u64,
    message: String,
}

const FIRST_CODE: u64 = 11_900_000;
const VALUE_MAX: usize = 250;

/// All that is wrong with a request.
#[derive(Debug, Default)]
pub(super) struct Faults(pub(super) Vec<Fault>);

impl Faults {
    pub(super) fn add(&mut self, kind: u64, message: impl Into<String>) {
        self.0.push(Fault { code: FIRST_CODE + kind, message: message.into() });
    }

    fn missing(&mut self, name: &str) {
        self.add(0, format!("'{name}' must be supplied"));
    }

    fn unfit(&mut self, name: &str) {
        self.add(1, format!("'{name}' is not valid"));
    }

    fn unknown_members(&mut self, members: &Map<String, Value>, known: &[&str]) {
        for name in members.keys().filter(|name| !known.contains(&name.as_str())) {
            self.add(2, format!("'{name}' is not a member"));
        }
    }

    fn text(&mut self, members: &Map<String, Value>, name: &str) -> Option<Option<String>> {
        match members.get(name)? {
            Value::Null => Some(None),
            Value::String(text) if text.chars().count() <= VALUE_MAX => {
                Some(Some(text.clone()).filter(|text| !text.is_empty()))
            }
            _ => {
                self.unfit(name);
                None
            }
        }
    }

    fn number(&mut self, members: &Map<String, Value>, name: &str) -> Option<u64> {
        let number = members.get(name)?.as_u64();
        if number.is_none() {
            self.unfit(name);
        }
        number
    }
}

/// The members of a contact itself.
const OWN: &[&str] = &["contactTypeId", "contactTypeName", "title", "firstName", "lastName", "isUsedForTax"];
const ADDRESS_TEXTS: &[&str] = &["address1", "address2", "cityName", "zipCode"];

/// Next ids.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ids {
    pub(super) contact: u64,
    pub(super) point: u64,
    pub(super) address: u64,
}

pub(super) fn take(id: &mut u64) -> u64 {
    *id += 1;
    *id - 1
}

/// One entry of the results of a patch.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Change {
    identity: u64,
    action: &'static str,
    dto_type_key: &'static str,
    instance: Value,
}

fn change(identity: u64, action: &'static str, dto_type_key: &'static str, instance: impl Serialize) -> Change {
    let instance = serde_json::to_value(instance).expect("what is shown can be written as JSON");
    Change { identity, action, dto_type_key, instance }
}

fn own_fields(contact: &mut Contact, members: &Map<String, Value>, faults: &mut Faults) {
    if let Some(id) = faults.number(members, "contactTypeId") {
        if lists::contact_type(id).is_none() {
            faults.unfit("contactTypeId");
        }
        contact.contact_type = id;
    }
    if let Some(title) = faults.text(members, "title") {
        contact.title = title;
    }
    if let Some(name) = faults.text(members, "firstName") {
        contact.first_name = name;
    }
    match faults.text(members, "lastName") {
        Some(Some(name)) if !name.trim().is_empty() => contact.last_name = name,
        Some(_) => faults.missing("LastName"),
        None => {}
    }
    match members.get("isUsedForTax") {
        Some(Value::Bool(is_used)) => contact.is_used_for_tax = *is_used,
        Some(_) => faults.unfit("isUsedForTax"),
        None => {}
    }
}

/// A new contact of these members.
pub(super) fn create(members: &Map<String, Value>, known: &[&str], id: u64, now: Instant) -> Result<Contact, Faults> {
    let mut faults = Faults::default();
    faults.unknown_members(members, &[OWN, known].concat());
    for name in ["contactTypeId", "lastName"] {
        if !members.contains_key(name) {
            faults.missing(if name == "lastName" { "LastName" } else { "ContactTypeId" });
        }
    }
    let mut contact = Contact {
        identity: id,
        contact_type: 0,
        title: None,
        first_name: None,
        last_name: String::new(),
        is_used_for_tax: false,
        points: Vec::new(),
        address: None,
        made_as: None,
        created: now,
        writes: 1,
    };
    own_fields(&mut contact, members, &mut faults);
    contact.made_as = contact.title.clone();
    if faults.0.is_empty() { Ok(contact) } else { Err(faults) }
}

pub(super) fn update(contact: &Contact, members: &Map<String, Value>) -> Result<Contact, Faults> {
    let mut faults = Faults::default();
    faults.unknown_members(members, &[OWN, &["identity"]].concat());
    if members.get("identity").is_some_and(|id| id.as_u64() != Some(contact.identity)) {
        faults.unfit("identity");
    }
    let mut changed = contact.clone();
    own_fields(&mut changed, members, &mut faults);
    check_points(&changed, &mut faults);
    changed.writes += 1;
    if faults.0.is_empty() { Ok(changed) } else { Err(faults) }
}

/// A patch under way: a copy of what it changes.
pub(super) struct Patch<'a> {
    store: &'a Store,
    contact: Contact,
    ids: Ids,
    now: Instant,
    addresses: Vec<(u64, Option<Address>)>,
    made: Vec<Contact>,
    others: Vec<Contact>,
    deleted: Vec<u64>,
    changes: Vec<Change>,
    faults: Faults,
}

/// A patch that can be carried out.
pub(super) struct Patched {
    contact: Contact,
    pub(super) ids: Ids,
    addresses: Vec<(u64, Option<Address>)>,
    contacts: Vec<Contact>,
    deleted: Vec<u64>,
    pub(super) changes: Vec<Change>,
}

impl Patched {
    pub(super) fn carry_out(self, store: &mut Store) -> Vec<Change> {
        for (id, address) in self.addresses {
            match address {
                Some(address) => drop(store.addresses.insert(id, address)),
                None => {
                    store.addresses.remove(&id);
                    for contact in store.contacts.values_mut().filter(|contact| contact.address == Some(id)) {
                        contact.address = None;
                    }
                }
            }
        }
        store.contacts.insert(self.contact.identity, self.contact);
        store.contacts.extend(self.contacts.into_iter().map(|contact| (contact.identity, contact)));
        self.deleted.into_iter().for_each(|id| store.delete(id));
        self.changes
    }
}

impl<'a> Patch<'a> {
    pub(super) fn of(
        store: &'a Store,
        contact: &Contact,
        members: &Map<String, Value>,
        ids: Ids,
        now: Instant,
    ) -> Result<Patched, Faults> {
        let mut patch = Self {
            store,
            contact: contact.clone(),
            ids,
            now,
            addresses: Vec::new(),
            made: Vec::new(),
            others: Vec::new(),
            deleted: Vec::new(),
            changes: Vec::new(),
            faults: Faults::default(),
        };
        patch.run(members);
        if !patch.faults.0.is_empty() {
            return Err(patch.faults);
        }
        patch.contact.writes += 1;
        let mut contacts = patch.made;
        contacts.extend(patch.others);
        let Self { contact, ids, addresses, deleted, changes, .. } = patch;
        Ok(Patched { contact, ids, addresses, contacts, deleted, changes })
    }

    fn run(&mut self, members: &Map<String, Value>) {
        self.faults.unknown_members(members, &[OWN, &["details", "contacts"]].concat());
        let says_own = OWN.iter().any(|name| members.contains_key(*name));
        own_fields(&mut self.contact, members, &mut self.faults);
        let details = self.object(members, "details");
        self.faults.unknown_members(&details, &["contactPoints", "address"]);
        let mut touched = BTreeSet::new();
        for item in self.items(&details, "contactPoints") {
            self.point(&item, &mut touched);
        }
        for item in self.items(&details, "address") {
            self.address(&item);
        }
        for item in self.items(members, "contacts") {
            self.contact(&item);
        }
        check_points(&self.contact, &mut self.faults);
        if says_own {
            let own = change(self.contact.identity, "updated", "contact", self.contact.bare());
            self.changes.insert(0, own);
        }
    }

    fn object(&mut self, members: &Map<String, Value>, name: &str) -> Map<String, Value> {
        match members.get(name) {
            None => Map::new(),
            Some(Value::Object(object)) => object.clone(),
            Some(_) => {
                self.faults.unfit(name);
                Map::new()
            }
        }
    }

    fn items(&mut self, members: &Map<String, Value>, name: &str) -> Vec<Map<String, Value>> {
        let list = self.object(members, name);
        self.faults.unknown_members(&list, &["items"]);
        let items = match list.get("items") {
            None if members.contains_key(name) => {
                self.faults.missing("items");
                return Vec::new();
            }
            None => return Vec::new(),
            Some(Value::Array(items)) => items.clone(),
            Some(_) => {
                self.faults.unfit("items");
                return Vec::new();
            }
        };
        let objects = items.into_iter().map(|item| match item {
            Value::Object(item) => Some(item),
            _ => None,
        });
        match objects.collect::<Option<Vec<_>>>() {
            Some(objects) => objects,
            None => {
                self.faults.unfit("items");
                Vec::new()
            }
        }
    }

    fn patch_type(&mut self, item: &Map<String, Value>, allowed: &[&'static str]) -> Option<&'static str> {
        if item.get("patchClientId").is_some_and(|id| id.as_u64().is_none()) {
            self.faults.unfit("patchClientId");
        }
        let said = item.get("patchType").and_then(Value::as_str);
        let known = said.and_then(|said| allowed.iter().copied().find(|known| *known == said));
        if known.is_none() {
            self.faults.unfit("patchType");
        }
        known
    }

    fn point(&mut self, item: &Map<String, Value>, touched: &mut BTreeSet<u64>) {
        let Some(patch_type) = self.patch_type(item, &["create", "update", "delete"]) else { return };
        let known: &[&str] = match patch_type {
            "create" => &["patchType", "patchClientId", "contactPointTypeId", "value"],
            "update" => &["patchType", "patchClientId", "identity", "contactPointTypeId", "value"],
            _ => &["patchType", "patchClientId", "identity"],
        };
        self.faults.unknown_members(item, known);
        let type_id = self.faults.number(item, "contactPointTypeId");
        let value = self.faults.text(item, "value").flatten();
        if patch_type == "create" {
            let (Some(type_id), Some(value)) = (type_id, value) else {
                self.faults.missing("contactPointTypeId, value");
                return;
            };
            let point = Point { identity: take(&mut self.ids.point), type_id, value };
            self.changes.push(change(point.identity, "created", "contactPoint", self.contact.point(&point)));
            self.contact.points.push(point);
            return;
        }
        let id = self.faults.number(item, "identity");
        let place = self.contact.points.iter().position(|point| Some(point.identity) == id);
        let (Some(id), Some(place)) = (id, place) else {
            self.faults.add(3, "there is no such contactPoint");
            return;
        };
        if !touched.insert(id) {
            self.faults.add(4, "one contactPoint is changed twice");
        }
        if patch_type == "delete" {
            self.contact.points.remove(place);
            self.changes.push(change(id, "deleted", "contactPoint", ()));
            return;
        }
        if item.contains_key("value") && value.is_none() {
            self.faults.missing("value");
        }
        let point = &mut self.contact.points[place];
        point.type_id = type_id.unwrap_or(point.type_id);
        point.value = value.unwrap_or_else(|| point.value.clone());
        let point = self.contact.points[place].clone();
        self.changes.push(change(id, "updated", "contactPoint", self.contact.point(&point)));
    }

    fn address(&mut self, item: &Map<String, Value>) {
        let allowed = ["create", "update", "delete", "attach", "detach"];
        let Some(patch_type) = self.patch_type(item, &allowed) else { return };
        let names = ["patchType", "patchClientId"];
        let fields: &[&str] =
            &[ADDRESS_TEXTS, &["stateId", "countryId", "latitude", "longitude", "isIncorporated"]].concat();
        match patch_type {
            "create" => self.faults.unknown_members(item, &[&names[..], fields].concat()),
            "update" => self.faults.unknown_members(item, &[&names[..], &["identity"], fields].concat()),
            _ => self.faults.unknown_members(item, &[&names[..], &["identity"]].concat()),
        }
        if patch_type == "create" {
            let address = self.address_fields(Address::default(), item);
            if address.0.is_empty() {
                self.faults.missing("address1");
            }
            let id = take(&mut self.ids.address);
            self.changes.push(change(id, "created", "address", address.shown(id)));
            self.addresses.push((id, Some(address)));
            self.contact.address = Some(id);
            return;
        }
        let id = self.faults.number(item, "identity").filter(|id| self.store.addresses.contains_key(id));
        let is_own = id.is_some() && id == self.contact.address;
        let Some(id) = id.filter(|_| is_own || patch_type == "attach") else {
            self.faults.add(3, "there is no such address");
            return;
        };
        let there = self.store.addresses.get(&id).cloned().unwrap_or_default();
        match patch_type {
            "update" => {
                let address = self.address_fields(there, item);
                self.changes.push(change(id, "updated", "address", address.shown(id)));
                self.addresses.push((id, Some(address)));
            }
            "delete" => {
                self.contact.address = None;
                self.addresses.push((id, None));
                self.changes.push(change(id, "deleted", "address", ()));
            }
            "attach" => {
                self.contact.address = Some(id);
                self.changes.push(change(id, "attached", "address", there.shown(id)));
            }
            _ => {
                self.contact.address = None;
                self.changes.push(change(id, "detached", "address", there.shown(id)));
            }
        }
    }

    fn address_fields(&mut self, mut address: Address, item: &Map<String, Value>) -> Address {
        let mut said: Vec<(&'static str, Value)> = Vec::new();
        for name in ADDRESS_TEXTS {
            if let Some(text) = self.faults.text(item, name) {
                said.push((name, text.map_or(Value::Null, Value::from)));
            }
        }
        for (name, bound) in [("latitude", 90.0), ("longitude", 180.0)] {
            match item.get(name) {
                None => {}
                Some(Value::Null) => said.push((name, Value::Null)),
                Some(degrees) if degrees.as_f64().is_some_and(|degrees| degrees.abs() <= bound) => {
                    said.push((name, degrees.clone()));
                }
                Some(_) => self.faults.unfit(name),
            }
        }
        for (name, is_known) in [
            ("stateId", (|id| lists::state(id).is_some()) as fn(u64) -> bool),
            ("countryId", |id| lists::country(id).is_some()),
        ] {
            match item.get(name) {
                None => {}
                Some(Value::Null) => said.push((name, Value::Null)),
                Some(id) if id.as_u64().is_some_and(is_known) => said.push((name, id.clone())),
                Some(_) => self.faults.unfit(name),
            }
        }
        match item.get("isIncorporated") {
            None => {}
            Some(flag @ Value::Bool(_)) => said.push(("isIncorporated", flag.clone())),
            Some(_) => self.faults.unfit("isIncorporated"),
        }
        for (name, value) in said {
            if value.is_null() {
                address.0.remove(name);
            } else {
                address.0.insert(name, value);
            }
        }
        let number = |name: &str| address.0.get(name).and_then(Value::as_u64);
        let state = number("stateId").and_then(lists::state);
        if state.is_some_and(|state| Some(state.country_id) != number("countryId")) {
            self.faults.unfit("stateId");
        }
        address
    }

    fn contact(&mut self, item: &Map<String, Value>) {
        let Some(patch_type) = self.patch_type(item, &["create", "update", "delete"]) else { return };
        let mut own = item.clone();
        own.remove("patchType");
        own.remove("patchClientId");
        if patch_type == "create" {
            match create(&own, &[], take(&mut self.ids.contact), self.now) {
                Ok(contact) => {
                    self.changes.push(change(contact.identity, "created", "contact", contact.bare()));
                    self.made.push(contact);
                }
                Err(faults) => self.faults.0.extend(faults.0),
            }
            return;
        }
        let id = self.faults.number(item, "identity");
        let Some(contact) = id.and_then(|id| self.store.contacts.get(&id)) else {
            self.faults.add(3, "there is no such contact");
            return;
        };
        if patch_type == "delete" {
            self.faults.unknown_members(item, &["patchType", "patchClientId", "identity"]);
            self.deleted.push(contact.identity);
            self.changes.push(change(contact.identity, "deleted", "contact", json!(null)));
            return;
        }
        let is_this = contact.identity == self.contact.identity;
        let contact = if is_this { self.contact.clone() } else { contact.clone() };
        match update(&contact, &own) {
            Ok(contact) => {
                self.changes.push(change(contact.identity, "updated", "contact", contact.bare()));
                if is_this {
                    self.contact = contact;
                } else {
                    self.others.push(contact);
                }
            }
            Err(faults) => self.faults.0.extend(faults.0),
        }
    }
}

/// Points belong to the type of their contact, and of some types there is one only.
fn check_points(contact: &Contact, faults: &mut Faults) {
    let mut seen = BTreeSet::new();
    for point in &contact.points {
        match lists::point_type(point.type_id).filter(|found| found.contact_type_id == contact.contact_type) {
            None => faults.unfit("contactPointTypeId"),
            Some(found) => {
                if !seen.insert(found.identity) && !found.allow_multiple {
                    faults.add(5, format!("'{}' does not allow multiple", found.name));
                }
                let is_address = point.value.split_once('@').is_some_and(|(local, host)| {
                    !local.is_empty() && !host.is_empty() && !point.value.contains(char::is_whitespace)
                });
                if found.data_type_id == lists::EMAIL && !is_address {
                    faults.unfit("value");
                }
            }
        }
    }
}
