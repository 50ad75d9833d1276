//! What a CRM.COM should hold of a contact, and how its books are read.
//!
//! This is the table of fields a second time, written from CRM.COM's side (section 8 of its contract) and sharing nothing with
//! the connector. It knows a tenant without tables and user-defined fields but for our own references, and of all that a
//! contact can be only what those who are simulated say. A telephone number is told by what CRM.COM makes of its country and
//! its national part together, so that nobody here has to take one apart.
//!
//! An update carries what changed and no more, so a request is judged by the whole contact as it left it, which the books tell.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Expectation, Fields, flatten};
use crate::{
    config::CrmKind,
    contact::{ContactRecord, record::Status},
};

/// A tenant of CRM.COM.
#[derive(Debug, Clone)]
pub(super) struct Tenant {
    /// What is told as the source of every contact.
    pub(super) instance: String,
    /// The user-defined field that holds our id.
    pub(super) reference_slot: String,
    /// The one that holds the source; empty: none does.
    pub(super) source_slot: String,
}

/// Where each text of a person goes that is sent as it is; the two that follow are required.
const OF_PERSON: &[(&str, &str)] = &[
    ("/name/honorificPrefix", "title"),
    ("/name/middleName", "middle_name"),
    ("/identifiers/id_number", "demographics.id_number"),
    ("/identifiers/passport", "demographics.passport_number"),
    ("/identifiers/ssn", "demographics.social_security_number"),
];
const NAMES: &[(&str, &str)] = &[("/name/givenName", "first_name"), ("/name/familyName", "last_name")];
const OF_COMPANY: &[(&str, &str)] = &[
    ("/organization/registrationNumber", "company_profile.registration_number"),
    ("/organization/vatNumber", "company_profile.vat_registration_number"),
];
const OF_ADDRESS: &[(&str, &str)] = &[
    ("/streetNumber", "street_number"),
    ("/apartment", "apartment_number"),
    ("/locality", "town_city"),
    ("/district", "district"),
    ("/region", "municipality"),
    ("/postalCode", "postal_code"),
    ("/poBox", "po_box"),
    ("/country", "country"),
];
/// Types of entries by the types that they come from.
const EMAILS: &[(&str, &str)] = &[("work", "BUSINESS"), ("", "PERSONAL")];
const PHONES: &[(&str, &str)] = &[("mobile", "MOBILE"), ("work", "LANDLINE"), ("home", "LANDLINE"), ("fax", "FAX")];
const ADDRESSES: &[(&str, &str)] = &[("home", "HOME"), ("work", "BUSINESS"), ("postal", "POBOX")];
/// Types for what has none of its own, or finds it taken.
const CUSTOM: [&str; 5] = ["CUSTOM1", "CUSTOM2", "CUSTOM3", "CUSTOM4", "CUSTOM5"];
/// What CRM.COM makes of other members by itself.
const MADE: &[&str] = &["id", "name", "life_cycle_state", "organizational_unit"];
const MADE_OF_ENTRIES: &[&str] = &["id", "state", "type", "number", "area_code"];

impl Expectation for Tenant {
    fn kind(&self) -> CrmKind {
        CrmKind::CrmCom
    }

    fn of(&self, record: &ContactRecord, _stored: bool) -> Option<Fields> {
        if record.status != Status::Live {
            // It can neither be deleted nor deactivated there.
            return None;
        }
        let document = Value::Object(record.contact.as_ref()?.members().clone());
        let mut fields = Fields::new();
        let mut set = |name: &str, value: &str| {
            if !value.is_empty() {
                fields.insert(name.to_owned(), value.into());
            }
        };
        let is_company = text(&document, "/kind") == "organization";
        set("type", if is_company { "COMPANY" } else { "PERSON" });
        let required: &[(&str, &str)] = if is_company { &[("/organization/name", "company_name")] } else { NAMES };
        for (pointer, field) in required {
            let said = text(&document, pointer);
            if said.is_empty() {
                return None;
            }
            set(field, said);
        }
        for (pointer, field) in if is_company { OF_COMPANY } else { OF_PERSON } {
            set(field, text(&document, pointer));
        }
        set("notes", text(&document, "/notes"));
        set(&self.reference_slot, &record.contact_id.key());
        if !self.source_slot.is_empty() {
            set(&self.source_slot, &self.instance);
        }
        if let Some(consents) = document.pointer("/consent/marketing").and_then(Value::as_bool) {
            fields.insert("authorization_settings.send_direct_marketing_material".to_owned(), consents.into());
        }
        let email = |item: &Value| one("email", text(item, "/value"));
        fields.extend(entries(&document, "/emails", "emails_set", EMAILS, email));
        let phone = |item: &Value| {
            let digits: String = text(item, "/value").strip_prefix('+')?.chars().filter(char::is_ascii_digit).collect();
            one("full_number", &format!("00{digits}"))
        };
        fields.extend(entries(&document, "/phoneNumbers", "phones_set", PHONES, phone));
        fields.extend(entries(&document, "/addresses", "addresses_set", ADDRESSES, address));
        Some(fields)
    }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().trim()
}

type Members = BTreeMap<String, String>;

fn one(name: &str, value: &str) -> Option<Members> {
    (!value.is_empty()).then(|| Members::from([(name.to_owned(), value.to_owned())]))
}

/// An address without a street has its post-office box or its town for one.
fn address(item: &Value) -> Option<Members> {
    let po_box = match text(item, "/poBox") {
        "" => String::new(),
        number => format!("PO Box {number}"),
    };
    let streets = [text(item, "/streetAddress"), po_box.as_str(), text(item, "/locality")];
    let street = streets.into_iter().find(|street| !street.is_empty())?;
    let mut members = one("street_name", street)?;
    for (pointer, member) in OF_ADDRESS {
        members.extend(one(member, text(item, pointer)).unwrap_or_default());
    }
    Some(members)
}

/// One entry of each type: those that are first of their kind by it, and then the others by the types that are free.
fn entries(
    document: &Value,
    list: &str,
    set: &str,
    types: &[(&str, &'static str)],
    members: impl Fn(&Value) -> Option<Members>,
) -> Fields {
    let mut items: Vec<&Value> = document.pointer(list).and_then(Value::as_array).into_iter().flatten().collect();
    items.sort_by_key(|item| item["primary"] != Value::Bool(true));
    let mut placed: BTreeMap<&str, Members> = BTreeMap::new();
    let mut others = Vec::new();
    for item in items {
        let Some(members) = members(item) else { continue };
        let is_its = |label: &str| label.is_empty() || text(item, "/type").eq_ignore_ascii_case(label);
        match types.iter().find(|(label, _)| is_its(label)) {
            Some((_, of_type)) if !placed.contains_key(of_type) => drop(placed.insert(of_type, members)),
            _ => others.push(members),
        }
    }
    for members in others {
        let is_there = placed.values().any(|known| *known == members);
        if let Some(free) = CUSTOM.into_iter().find(|of_type| !is_there && !placed.contains_key(of_type)) {
            placed.insert(free, members);
        }
    }
    let named = placed.into_iter().flat_map(|(of_type, members)| {
        members.into_iter().map(move |(name, value)| (format!("{set}.{of_type}.{name}"), Value::from(value)))
    });
    named.collect()
}

/// The books in the words of the table: by the names that are read, entries by their types, and without what says nothing.
pub(super) fn normal(contact: &Map<String, Value>) -> Fields {
    let mut fields = Fields::new();
    for (name, value) in contact {
        match (name.as_str(), value) {
            (made, _) if MADE.contains(&made) => {}
            ("notes", Value::String(text)) => drop(fields.insert(name.clone(), without_stamp(text).into())),
            (set, Value::Array(entries)) => {
                for entry in entries.iter().filter(|entry| entry["state"] == "Active") {
                    flatten(format!("{set}.{}", text(entry, "/type")), shown(entry), &mut fields);
                }
            }
            (name, value) => flatten(name.to_owned(), value.clone(), &mut fields),
        }
    }
    fields.retain(|_, value| !value.is_null());
    fields
}

/// An entry by what it says; a country by its code, and not at all where the full number tells it.
fn shown(entry: &Value) -> Value {
    let mut members = entry.as_object().cloned().unwrap_or_default();
    members.retain(|name, _| !MADE_OF_ENTRIES.contains(&name.as_str()));
    let is_phone = members.contains_key("full_number");
    if let Some(country) = members.remove("country").filter(|_| !is_phone) {
        members.insert("country".to_owned(), country["two_character_code"].clone());
    }
    members.into()
}

/// Whether an answer says that nothing was done, which its HTTP status does not tell.
pub(super) fn refuses(answer: &str) -> bool {
    let envelope = serde_json::from_str::<Value>(answer);
    // A photo's removal is answered by nothing at all.
    envelope.is_ok_and(|envelope| envelope["status"]["code"] != "OK")
}

/// Notes are read as `<user> <date> <time> <text>`.
fn without_stamp(notes: &str) -> &str {
    notes.splitn(4, ' ').nth(3).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use serde_json::json;

    use super::*;
    use crate::contact::{ContactId, Document, record::FORMAT};

    fn expected(status: Status, said: Value) -> Option<Fields> {
        let record = ContactRecord {
            contact_id: ContactId(uuid::Uuid::nil()),
            version: 1,
            status,
            merged_into: None,
            contact: Some(Document::parse(said).unwrap().0),
            provenance: BTreeMap::new(),
            members: Vec::new(),
            event: None,
            received_at: Timestamp::UNIX_EPOCH,
            epoch: 1,
            format: FORMAT,
        };
        let slot = |number: u8| format!("udf_string_{number}");
        let tenant = Tenant { instance: "demo".to_owned(), reference_slot: slot(16), source_slot: slot(15) };
        tenant.of(&record, true)
    }

    #[test]
    fn a_person_is_what_the_documents_say_of_it() {
        let said = json!({
            "name": {"honorificPrefix": "Ms", "givenName": "Ilka", "familyName": "Sundstrom"},
            "emails": [{"value": "a@example.com", "type": "work"}, {"value": "b@example.com", "type": "work", "primary": true},
                {"value": "c@example.com"}],
            "phoneNumbers": [{"value": "+357 99 555012", "type": "mobile"}, {"value": "+447700900123", "type": "other"},
                {"value": "nothing"}],
            "addresses": [{"type": "work", "streetAddress": "Limassol Ave", "streetNumber": "14", "country": "CY"},
                {"type": "postal", "poBox": "77"}, {"type": "home", "region": "nowhere"}],
            "consent": {"marketing": false}, "notes": "Family", "active": false,
        });
        let id = ContactId(uuid::Uuid::nil()).key();
        let entry = |of_type: &str, name: &str, value: &str| json!({"id": "E1", "type": of_type, "state": "Active", name: value});
        let stored = json!({
            "id": "7C", "name": "Ilka Sundstrom", "life_cycle_state": "MARKETING", "type": "PERSON", "title": "Ms",
            "first_name": "Ilka", "last_name": "Sundstrom", "middle_name": null, "company_profile": null,
            "demographics": {"gender": null}, "notes": "who 1/1/2026 9:00:00 Family", "udf_string_16": id,
            "udf_string_15": "demo",
            "authorization_settings": {"send_direct_marketing_material": false, "send_affiliate_marketing_material": null},
            "emails_set": [entry("CUSTOM1", "email", "a@example.com"), entry("BUSINESS", "email", "b@example.com"),
                entry("PERSONAL", "email", "c@example.com"),
                {"type": "PERSONAL", "state": "Inactive", "email": "d@example.com"}],
            "phones_set": [
                {"type": "MOBILE", "state": "Active", "number": "99555012", "area_code": "357", "country": {"id": "181"},
                    "full_number": "0035799555012"},
                entry("CUSTOM1", "full_number", "00447700900123"),
            ],
            "addresses_set": [
                {"type": "BUSINESS", "state": "Active", "street_name": "Limassol Ave", "street_number": "14",
                    "country": {"id": "181", "two_character_code": "CY"}},
                {"type": "POBOX", "state": "Active", "street_name": "PO Box 77", "po_box": "77"},
            ],
        });
        let Value::Object(stored) = stored else { unreachable!("built as an object") };
        assert_eq!(expected(Status::Live, said), Some(normal(&stored)));
    }

    #[test]
    fn a_company_has_a_name_and_numbers_of_its_own() {
        let said = json!({"kind": "organization", "organization": {"name": "Acme", "vatNumber": "CY1"}});
        let stored = json!({
            "type": "COMPANY", "company_name": "Acme", "company_profile": {"vat_registration_number": "CY1"},
            "udf_string_15": "demo", "udf_string_16": ContactId(uuid::Uuid::nil()).key(),
        });
        let Value::Object(stored) = stored else { unreachable!("built as an object") };
        assert_eq!(expected(Status::Live, said), Some(normal(&stored)));
    }

    #[test]
    fn an_answer_refuses_by_its_code() {
        assert!(refuses(r#"{"status":{"code":"INVALID_TOKEN"},"data":null}"#));
        assert!(!refuses(r#"{"status":{"code":"OK"},"data":[]}"#) && !refuses(""));
    }

    #[test]
    fn who_lacks_a_name_or_is_gone_is_not_sent() {
        assert_eq!(expected(Status::Live, json!({"name": {"givenName": "Ilka"}})), None);
        assert_eq!(expected(Status::Live, json!({"kind": "organization"})), None);
        assert_eq!(expected(Status::Deleted, json!({"name": {"givenName": "A", "familyName": "B"}})), None);
    }
}
