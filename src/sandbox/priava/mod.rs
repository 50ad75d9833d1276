//! A tenant of Priava: its contacts and organisations, and what an upsert does to them.
//!
//! As strict as the documents allow: types, required fields and lists are checked, and nothing is stored of a contact
//! that is refused. Where they are silent, the answer of this file is the one that a connector should expect.
//!
//! A contact is found by (`integrationSrc`, `externalIntegrationId`), exactly, if it has an id; otherwise by first name,
//! last name and e-mail address without regard to case, the oldest first. There is no way from the one to the other: a
//! contact that exists without the id is duplicated by a call with it.
//!
//! Organisations are found likewise, by the name where a call has no id. One that a contact's call made has no id.

mod oauth;
mod organisations;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

pub use self::oauth::OAuthSettings;
use self::{oauth::Grants, organisations::Organisations};
use super::system::{Action, Asked, Call, Reply, System, media_type};

/// Goes before the documented paths.
pub(super) const BASE_PATH: &str = "/api/rest";
/// Paths of the upserts.
const CONTACTS_PATH: &str = "/api/rest/v1/crm/contacts";
const ORGANISATIONS_PATH: &str = "/api/rest/v1/crm/organisations";

/// How a simulated Priava behaves. The defaults are what its connector assumes.
#[derive(Debug, Clone)]
pub struct PriavaSettings {
    /// The tenant's list of titles.
    pub titles: Vec<String>,
    /// Whether a title outside the list is dropped; otherwise the contact is refused.
    pub ignore_unknown_titles: bool,
    /// The tenant's lists of organisation types and market sectors; an empty list takes anything.
    pub organisation_types: Vec<String>,
    pub market_sectors: Vec<String>,
    /// Whether a body with an unknown key is refused; otherwise the key is ignored, and counted.
    pub refuse_unknown_keys: bool,
    /// Whether an organisation whose id is new is looked for by its name also; otherwise it is another one.
    pub organisations_fall_back_to_name: bool,
    /// Whether an update removes what it does not mention; otherwise that stays.
    pub absent_clears: bool,
    pub oauth: OAuthSettings,
}

impl Default for PriavaSettings {
    fn default() -> Self {
        Self {
            titles: ["Mr", "Mrs", "Ms", "Miss", "Dr", "Prof"].map(str::to_owned).into(),
            ignore_unknown_titles: false,
            organisation_types: Vec::new(),
            market_sectors: Vec::new(),
            refuse_unknown_keys: false,
            organisations_fall_back_to_name: false,
            absent_clears: false,
            oauth: OAuthSettings::default(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Boolean,
    Number,
    Address,
}

/// The documented fields, and those whose names are assumed.
const FIELDS: &[(&str, Kind)] = &[
    ("firstName", Kind::Text),
    ("lastName", Kind::Text),
    ("email", Kind::Text),
    ("title", Kind::Text),
    ("jobTitle", Kind::Text),
    ("department", Kind::Text),
    ("debtorNumber", Kind::Text),
    ("externalIntegrationId", Kind::Text),
    ("integrationSrc", Kind::Text),
    ("externalReferenceNo", Kind::Number),
    ("marketingOptOut", Kind::Boolean),
    ("personalInformationConsent", Kind::Boolean),
    ("phoneNumber", Kind::Text),
    ("mobile", Kind::Text),
    ("organisation", Kind::Text),
    ("organisationType", Kind::Text),
    ("organisationMarketSector", Kind::Text),
    ("organisationAddress", Kind::Address),
    ("postalAddress", Kind::Address),
    ("otherAddress", Kind::Address),
    ("inactive", Kind::Boolean),
];

const ADDRESS_MEMBERS: &[&str] =
    &["addressLine1", "addressLine2", "addressLine3", "suburb", "state", "postcode", "country"];

const REQUIRED: &[&str] = &["firstName", "lastName", "email"];

/// Fields that describe an organisation to be created and are not kept with the contact.
const OF_ORGANISATION: [&str; 2] = ["organisationType", "organisationMarketSector"];

/// Alpha-2 codes and English short names, in lower case.
static COUNTRIES: LazyLock<HashSet<String>> = LazyLock::new(|| {
    include_str!("../countries.txt").lines().flat_map(|line| line.split('|')).map(str::to_lowercase).collect()
});

fn refusal(status: StatusCode, code: &str, description: &str) -> Reply {
    Reply::json(status, json!({ "error": code, "error_description": description }).to_string())
}

/// Why a contact is not taken.
struct Invalid(String);

fn invalid<T>(description: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid(description.into()))
}

/// The `externalIntegrationId` of a body, whatever else is wrong with it.
fn contact_key(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    body.get("externalIntegrationId")?.as_str().map(str::to_owned)
}

struct Contact {
    fields: Map<String, Value>,
    organisation: Option<u64>,
    /// How often it was written.
    writes: u64,
}

type ForeignKey = (String, String);
type NameKey = [String; 3];

pub(super) struct Tenant {
    settings: PriavaSettings,
    grants: Grants,
    contacts: BTreeMap<u64, Contact>,
    by_foreign_key: HashMap<ForeignKey, u64>,
    /// The newest contact with an id, whatever its source; for looking in from outside.
    by_external_id: HashMap<String, u64>,
    by_name: HashMap<NameKey, BTreeSet<u64>>,
    organisations: Organisations,
    next_id: u64,
    /// Keys of bodies that nobody knows, and how often each came.
    unknown_members: BTreeMap<String, u64>,
}

impl Tenant {
    pub(super) fn new(settings: PriavaSettings, seed: u64) -> Self {
        Self {
            grants: Grants::new(settings.oauth.clone()),
            settings,
            contacts: BTreeMap::new(),
            by_foreign_key: HashMap::new(),
            by_external_id: HashMap::new(),
            by_name: HashMap::new(),
            organisations: Organisations::default(),
            // Tenants differ in their ids, so that a mix-up shows.
            next_id: 10_000 + (seed % 9_000) * 1_000,
            unknown_members: BTreeMap::new(),
        }
    }

    fn upsert(&mut self, path: &str, body: &[u8]) -> Reply {
        let Ok(Value::Object(body)) = serde_json::from_slice::<Value>(body) else {
            return refusal(StatusCode::BAD_REQUEST, "invalid_request", "the body is not a JSON object");
        };
        let written = if path == CONTACTS_PATH { self.write(body) } else { self.write_organisation(body) };
        match written {
            Ok((id, created)) => {
                let body = json!({ "id": id, "created": created }).to_string();
                Reply::json(StatusCode::OK, body).with_effect().about(id.to_string())
            }
            Err(Invalid(description)) => refusal(StatusCode::BAD_REQUEST, "validation_error", &description),
        }
    }

    fn write_organisation(&mut self, body: Map<String, Value>) -> Result<(u64, bool), Invalid> {
        let (said, unknown) = known_fields(&self.settings, organisations::FIELDS, &["name"], body)?;
        self.count_unknown(unknown);
        let next_id = self.next_id + 1;
        let written = self.organisations.upsert(&self.settings, said, next_id)?;
        if written.1 {
            self.next_id = next_id;
        }
        Ok(written)
    }

    fn count_unknown(&mut self, unknown: Vec<String>) {
        for member in unknown {
            *self.unknown_members.entry(member).or_default() += 1;
        }
    }

    /// Checks everything, then writes everything.
    fn write(&mut self, body: Map<String, Value>) -> Result<(u64, bool), Invalid> {
        let (mut said, unknown) = known_fields(&self.settings, FIELDS, REQUIRED, body)?;
        self.count_unknown(unknown);
        check_lists(&self.settings, &mut said)?;
        let known = self.find(&said);
        let has_phone = ["phoneNumber", "mobile"].iter().any(|name| text_of(&said, name).is_some());
        if known.is_none() && !has_phone {
            return invalid("phoneNumber or mobile is required");
        }
        let organisation = self.named_organisation(&said)?;

        let id = known.unwrap_or_else(|| self.take_id());
        let mut contact = match known.and_then(|id| self.contacts.remove(&id)) {
            Some(contact) => contact,
            None => Contact { fields: Map::new(), organisation: None, writes: 0 },
        };
        self.forget_keys(id, &contact.fields);
        if self.settings.absent_clears {
            contact.fields.clear();
            contact.organisation = None;
        }
        match organisation {
            Named::Nothing => {}
            Named::Null => contact.organisation = None,
            Named::Known(organisation) => contact.organisation = Some(organisation),
            Named::Unknown(name) => contact.organisation = Some(self.create_organisation(name, &said)),
        }
        for (name, value) in said {
            if !OF_ORGANISATION.contains(&name.as_str()) {
                merge(&mut contact.fields, name, value);
            }
        }
        // The contact shows the name of its organisation as the organisation has it.
        if let Some(name) = contact.organisation.and_then(|id| self.organisations.name(id)) {
            contact.fields.insert("organisation".to_owned(), Value::from(name));
        }
        contact.writes += 1;
        self.remember_keys(id, &contact.fields);
        self.contacts.insert(id, contact);
        Ok((id, known.is_none()))
    }

    fn find(&self, said: &Map<String, Value>) -> Option<u64> {
        match foreign_key(said) {
            Some(key) => self.by_foreign_key.get(&key).copied(),
            None => self.by_name.get(&name_key(said))?.first().copied(),
        }
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn remember_keys(&mut self, id: u64, fields: &Map<String, Value>) {
        if let Some(key) = foreign_key(fields) {
            let newest = self.by_external_id.entry(key.1.clone()).or_insert(id);
            *newest = id.max(*newest);
            self.by_foreign_key.insert(key, id);
        }
        self.by_name.entry(name_key(fields)).or_default().insert(id);
    }

    fn forget_keys(&mut self, id: u64, fields: &Map<String, Value>) {
        if let Some(key) = foreign_key(fields) {
            self.by_foreign_key.remove(&key);
        }
        let key = name_key(fields);
        if let Some(ids) = self.by_name.get_mut(&key) {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_name.remove(&key);
            }
        }
    }

    fn named_organisation(&self, said: &Map<String, Value>) -> Result<Named, Invalid> {
        let name = match said.get("organisation") {
            None => return Ok(Named::Nothing),
            Some(Value::String(name)) if !name.trim().is_empty() => name.trim(),
            Some(_) => return Ok(Named::Null),
        };
        if let Some(id) = self.organisations.named(name) {
            return Ok(Named::Known(id));
        }
        // The lists matter only where an organisation is created.
        check_organisation_lists(&self.settings, said, OF_ORGANISATION)?;
        Ok(Named::Unknown(name.to_owned()))
    }

    /// With the telephone numbers and the e-mail address of the contact that named it.
    fn create_organisation(&mut self, name: String, said: &Map<String, Value>) -> u64 {
        let id = self.take_id();
        let taken = ["phoneNumber", "mobile", "email", "organisationType", "organisationMarketSector"];
        let taken = taken.iter().filter_map(|field| Some(((*field).to_owned(), said.get(*field)?.clone())));
        let fields = taken.filter(|(_, value)| !value.is_null()).collect();
        self.organisations.create(id, name, fields);
        id
    }
}

impl System for Tenant {
    fn asked(&self, request: &http::Request<Bytes>) -> Asked {
        let upsert = is_upsert(request.uri().path()) && request.method() == Method::POST;
        let action = if upsert { Action::Upsert } else { Action::Other };
        Asked { action, contact: contact_key(request.body()), remote_id: None }
    }

    fn credential(&self, request: &http::Request<Bytes>) -> Option<String> {
        let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let token = header("apitoken").or_else(|| header("authorization")?.strip_prefix("Bearer "));
        token.map(str::to_owned)
    }

    fn revoke(&mut self, credential: &str) {
        self.grants.revoke(credential);
    }

    fn answer(&mut self, call: Call<'_>) -> Reply {
        if call.request.uri().path() == oauth::PATH && call.request.method() == Method::POST {
            return self.grants.answer(call);
        }
        let path = call.request.uri().path();
        if !is_upsert(path) {
            return refusal(StatusCode::NOT_FOUND, "not_found", "there is nothing at this address");
        }
        if call.request.method() != Method::POST {
            return refusal(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "use POST");
        }
        let is_accepted = |token: String| call.tokens.contains(&token) || self.grants.is_valid(&token, call.now);
        if !self.credential(call.request).is_some_and(is_accepted) {
            return refusal(StatusCode::UNAUTHORIZED, "unauthorized", "the token is missing or not valid");
        }
        if media_type(call.request).as_deref() != Some("application/json") {
            return refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", "send JSON");
        }
        self.upsert(path, call.request.body())
    }

    fn count(&self) -> usize {
        self.contacts.len() + self.organisations.written().count()
    }

    fn contacts(&self) -> Vec<Value> {
        let shown = self.contacts.iter().map(|(id, contact)| {
            json!({
                "id": id,
                "reference": text_of(&contact.fields, "externalIntegrationId"),
                "writes": contact.writes,
                "organisationId": contact.organisation,
                "fields": contact.fields,
            })
        });
        let mut all: Vec<Value> = shown.chain(self.organisations.written()).collect();
        all.sort_by_key(|contact| contact["id"].as_u64());
        all
    }

    fn contact(&self, reference: &str) -> Option<Value> {
        let person = || Some(self.contacts.get(self.by_external_id.get(reference)?)?.fields.clone());
        person().or_else(|| self.organisations.referred_to(reference).cloned()).map(Value::Object)
    }

    fn remarks(&self) -> Map<String, Value> {
        Map::from_iter([
            ("organisations".to_owned(), Value::Array(self.organisations.shown())),
            ("unknownMembers".to_owned(), json!(self.unknown_members)),
        ])
    }
}

/// What a call says about the organisation.
enum Named {
    Nothing,
    Null,
    Known(u64),
    Unknown(String),
}

fn is_upsert(path: &str) -> bool {
    path == CONTACTS_PATH || path == ORGANISATIONS_PATH
}

/// The known fields of a body, each of its right type, and the keys that are unknown.
fn known_fields(
    settings: &PriavaSettings,
    fields: &[(&str, Kind)],
    required: &[&str],
    body: Map<String, Value>,
) -> Result<(Map<String, Value>, Vec<String>), Invalid> {
    let mut said = Map::new();
    let mut unknown = Vec::new();
    for (name, value) in body {
        let Some((_, kind)) = fields.iter().find(|(known, _)| *known == name) else {
            if settings.refuse_unknown_keys {
                return invalid(format!("{name} is not a field"));
            }
            unknown.push(name);
            continue;
        };
        let fits = match (kind, &value) {
            (_, Value::Null)
            | (Kind::Text, Value::String(_))
            | (Kind::Boolean, Value::Bool(_))
            | (Kind::Number, Value::Number(_)) => true,
            (Kind::Address, Value::Object(members)) => {
                unknown.extend(check_address(settings, &name, members)?);
                true
            }
            _ => false,
        };
        if !fits {
            return invalid(format!("{name} has the wrong type"));
        }
        said.insert(name, value);
    }
    for required in required {
        if text_of(&said, required).is_none() {
            return invalid(format!("{required} is required"));
        }
    }
    Ok((said, unknown))
}

/// The members that are unknown.
fn check_address(settings: &PriavaSettings, name: &str, members: &Map<String, Value>) -> Result<Vec<String>, Invalid> {
    let mut unknown = Vec::new();
    for (member, value) in members {
        if !ADDRESS_MEMBERS.contains(&member.as_str()) {
            if settings.refuse_unknown_keys {
                return invalid(format!("{name}.{member} is not a field"));
            }
            unknown.push(format!("{name}.{member}"));
            continue;
        }
        match value {
            Value::Null => {}
            Value::String(country) if member == "country" => {
                if !country.is_empty() && !COUNTRIES.contains(&country.to_lowercase()) {
                    return invalid(format!("{name}.country is not in the list"));
                }
            }
            Value::String(_) => {}
            _ => return invalid(format!("{name}.{member} has the wrong type")),
        }
    }
    Ok(unknown)
}

/// `fields` are the type and the market sector.
fn check_organisation_lists(
    settings: &PriavaSettings,
    said: &Map<String, Value>,
    fields: [&str; 2],
) -> Result<(), Invalid> {
    for (field, list) in fields.into_iter().zip([&settings.organisation_types, &settings.market_sectors]) {
        if let Some(value) = text_of(said, field)
            && !list.is_empty()
            && !list.iter().any(|entry| entry == value)
        {
            return invalid(format!("{field} is not in the list"));
        }
    }
    Ok(())
}

fn check_lists(settings: &PriavaSettings, said: &mut Map<String, Value>) -> Result<(), Invalid> {
    let listed = text_of(said, "title").is_none_or(|title| settings.titles.iter().any(|entry| entry == title));
    if !listed {
        if !settings.ignore_unknown_titles {
            return invalid("title is not in the list");
        }
        said.remove("title");
    }
    Ok(())
}

/// Text that is there and not blank.
fn text_of<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    fields.get(name)?.as_str().filter(|text| !text.trim().is_empty())
}

fn foreign_key(fields: &Map<String, Value>) -> Option<ForeignKey> {
    let id = text_of(fields, "externalIntegrationId")?;
    let source = fields.get("integrationSrc").and_then(Value::as_str).unwrap_or_default();
    Some((source.to_owned(), id.to_owned()))
}

fn name_key(fields: &Map<String, Value>) -> NameKey {
    ["firstName", "lastName", "email"].map(|name| text_of(fields, name).unwrap_or_default().to_lowercase())
}

/// Absent keeps, `null` removes, and an address is merged member by member.
fn merge(fields: &mut Map<String, Value>, name: String, value: Value) {
    match value {
        Value::Null => {
            fields.remove(&name);
        }
        Value::Object(members) => {
            let address = fields.entry(&name).or_insert_with(|| json!({}));
            let Value::Object(address) = address else { unreachable!("only an address is stored under {name}") };
            for (member, value) in members {
                if ADDRESS_MEMBERS.contains(&member.as_str()) {
                    merge(address, member, value);
                }
            }
            if address.is_empty() {
                fields.remove(&name);
            }
        }
        value => {
            fields.insert(name, value);
        }
    }
}
