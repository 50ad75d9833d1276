//! Contacts with their points, and addresses, which stand by themselves: a contact is attached to one at most, and an
//! address that no contact is attached to any more stays.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::lists;

#[derive(Clone)]
pub(super) struct Contact {
    pub(super) identity: u64,
    pub(super) contact_type: u64,
    pub(super) title: Option<String>,
    pub(super) first_name: Option<String>,
    pub(super) last_name: String,
    pub(super) is_used_for_tax: bool,
    pub(super) points: Vec<Point>,
    pub(super) address: Option<u64>,
    /// The title with which it was created: what a sender may have called it by.
    pub(super) made_as: Option<String>,
    pub(super) created: Instant,
    pub(super) writes: u64,
}

#[derive(Clone)]
pub(super) struct Point {
    pub(super) identity: u64,
    pub(super) type_id: u64,
    pub(super) value: String,
}

/// By the names of its members; only those that have a value.
#[derive(Clone, Default)]
pub(super) struct Address(pub(super) BTreeMap<&'static str, Value>);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ContactView {
    pub(super) identity: u64,
    pub(super) contact_type_id: u64,
    pub(super) contact_type_name: &'static str,
    pub(super) title: Option<String>,
    pub(super) first_name: Option<String>,
    pub(super) last_name: String,
    pub(super) is_used_for_tax: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) details: Option<Details>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Details {
    contact_points: Vec<PointView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<AddressView>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PointView {
    identity: u64,
    contact_point_type_id: u64,
    contact_point_type_name: &'static str,
    value: String,
    contact_id: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AddressView {
    identity: u64,
    address1: Value,
    address2: Value,
    state_id: Value,
    state_name: Option<&'static str>,
    country_id: Value,
    country_name: Option<&'static str>,
    zip_code: Value,
    latitude: Value,
    longitude: Value,
    city_name: Value,
    is_incorporated: bool,
    state_code: Option<&'static str>,
    country_code: Option<&'static str>,
}

impl Contact {
    /// What a sender calls it: the reference among its points, else the title that it was created with.
    pub(super) fn reference(&self) -> Option<&str> {
        let is_reference = |point: &&Point| {
            lists::point_type(point.type_id).is_some_and(|point_type| point_type.name == lists::REFERENCE)
        };
        let point = self.points.iter().find(is_reference).map(|point| point.value.as_str());
        point.or(self.made_as.as_deref())
    }

    pub(super) fn bare(&self) -> ContactView {
        ContactView {
            identity: self.identity,
            contact_type_id: self.contact_type,
            contact_type_name: lists::contact_type(self.contact_type).map_or("", |contact_type| contact_type.name),
            title: self.title.clone(),
            first_name: self.first_name.clone(),
            last_name: self.last_name.clone(),
            is_used_for_tax: self.is_used_for_tax,
            details: None,
        }
    }

    pub(super) fn point(&self, point: &Point) -> PointView {
        PointView {
            identity: point.identity,
            contact_point_type_id: point.type_id,
            contact_point_type_name: lists::point_type(point.type_id).map_or("", |point_type| point_type.name),
            value: point.value.clone(),
            contact_id: self.identity,
        }
    }
}

impl Address {
    pub(super) fn shown(&self, identity: u64) -> AddressView {
        let member = |name: &str| self.0.get(name).cloned().unwrap_or_default();
        let number = |name: &str| self.0.get(name).and_then(Value::as_u64);
        let (state, country) = (number("stateId").and_then(lists::state), number("countryId").and_then(lists::country));
        AddressView {
            identity,
            address1: member("address1"),
            address2: member("address2"),
            state_id: member("stateId"),
            state_name: state.map(|state| state.name),
            country_id: member("countryId"),
            country_name: country.map(|country| country.name),
            zip_code: member("zipCode"),
            latitude: member("latitude"),
            longitude: member("longitude"),
            city_name: member("cityName"),
            is_incorporated: self.0.get("isIncorporated") == Some(&Value::Bool(true)),
            state_code: state.map(|state| state.code),
            country_code: country.map(|country| country.code),
        }
    }
}

/// What the tenant has.
#[derive(Default)]
pub(super) struct Store {
    pub(super) contacts: BTreeMap<u64, Contact>,
    pub(super) addresses: BTreeMap<u64, Address>,
    /// References of deleted contacts, by their ids.
    pub(super) deleted: BTreeMap<u64, Option<String>>,
}

impl Store {
    pub(super) fn whole(&self, contact: &Contact) -> ContactView {
        let address = contact.address.and_then(|id| Some(self.addresses.get(&id)?.shown(id)));
        let contact_points = contact.points.iter().map(|point| contact.point(point)).collect();
        ContactView { details: Some(Details { contact_points, address }), ..contact.bare() }
    }

    /// As a control address shows it.
    pub(super) fn shown(&self, contact: &Contact) -> Value {
        let fields = serde_json::to_value(self.whole(contact)).expect("a contact can be written as JSON");
        let id = contact.identity.to_string();
        json!({ "id": id, "reference": contact.reference(), "writes": contact.writes, "fields": fields })
    }

    pub(super) fn delete(&mut self, id: u64) {
        if let Some(contact) = self.contacts.remove(&id) {
            self.deleted.insert(id, contact.reference().map(str::to_owned));
        }
    }

    /// Addresses that no contact is attached to.
    pub(super) fn unattached(&self) -> Vec<u64> {
        let attached: Vec<u64> = self.contacts.values().filter_map(|contact| contact.address).collect();
        self.addresses.keys().copied().filter(|id| !attached.contains(id)).collect()
    }

    pub(super) fn reference(&self, id: u64) -> Option<String> {
        match self.contacts.get(&id) {
            Some(contact) => contact.reference().map(str::to_owned),
            None => self.deleted.get(&id)?.clone(),
        }
    }
}
