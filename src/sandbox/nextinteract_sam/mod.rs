//! A company in NextInteract SAM: its users' tokens, its contacts, and what an upsert of many does to them.
//!
//! As strict as the documents allow: types, required members and the length of an array are checked, and one bad record
//! refuses the whole array. Where they are silent, the answer of this folder is the one that a connector should expect. A
//! write replaces the whole contact: what is `null`, or not there, is gone.
//!
//! Whoever knows a credential of the sandbox as a password may log in, under any e-mail address, and gets a token; older
//! tokens stay good until their time is over.

mod door;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use self::door::Door;
pub use self::door::SamDoorSettings;
use super::system::{Action, Asked, Call, Reply, System, media_type};

const LOGIN_PATH: &str = "/rest/user/login";
const UPSERT_PATH: &str = "/rest/company/contact/upsert";
/// What goes before the id of the company in the path of a user's own record.
const OWN_PATH: &str = "/rest/user/contact/";
const COMPANY_ID: &str = "17";
/// Tells how a user is to log in.
const SCHEME_PATH: &str = "/rest/user/scheme";
/// All that is known of a user's own record.
const OWN_ADDRESS: (&str, &str) = ("address1Name", "100 Test Street");

/// How a simulated SAM behaves. The defaults are what its connector assumes.
#[derive(Debug, Clone)]
pub struct NextinteractSamSettings {
    pub door: SamDoorSettings,
    /// Records that one call may have.
    pub records_max: usize,
    /// Whether the user may write contacts.
    pub permitted: bool,
    /// Contacts (by `externalId` or `lastname`) that are never stored, of which the answer says that no row was affected.
    pub unstored: BTreeSet<String>,
    /// Contacts (likewise) that make the whole array a bad one.
    pub refused: BTreeSet<String>,
    /// Contacts (likewise) that the answer does not mention, although they are stored.
    pub unmentioned: BTreeSet<String>,
    /// Contacts (likewise) that make the company service fail.
    pub crashing: BTreeSet<String>,
}

impl Default for NextinteractSamSettings {
    fn default() -> Self {
        Self {
            door: SamDoorSettings::default(),
            records_max: 500,
            permitted: true,
            unstored: BTreeSet::new(),
            refused: BTreeSet::new(),
            unmentioned: BTreeSet::new(),
            crashing: BTreeSet::new(),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    /// Two letters.
    Country,
    /// A type that the documents do not show.
    Unknown,
}

/// The members of a contact.
const MEMBERS: &[(&str, Kind)] = &[
    ("contactId", Kind::Number),
    ("countryCode", Kind::Country),
    ("otherCountryCode", Kind::Country),
    ("externalId", Kind::Text),
    ("contactType", Kind::Text),
    ("title", Kind::Text),
    ("firstname", Kind::Text),
    ("lastname", Kind::Text),
    ("mobile", Kind::Text),
    ("phone", Kind::Text),
    ("otherPhone", Kind::Text),
    ("department", Kind::Text),
    ("contactProfession", Kind::Text),
    ("contactSpecialty", Kind::Text),
    ("contactCategory", Kind::Text),
    ("email1", Kind::Text),
    ("email2", Kind::Text),
    ("company", Kind::Text),
    ("workAddress1", Kind::Text),
    ("workAddress2", Kind::Text),
    ("workAddress3", Kind::Text),
    ("city", Kind::Text),
    ("state", Kind::Text),
    ("postCode", Kind::Text),
    ("ownedBy", Kind::Unknown),
    ("notes", Kind::Text),
    ("facebookId", Kind::Text),
    ("dateOfBirth", Kind::Number),
    ("webPage", Kind::Text),
    ("otherAddress1", Kind::Text),
    ("otherAddress2", Kind::Text),
    ("otherAddress3", Kind::Text),
    ("otherCity", Kind::Text),
    ("otherState", Kind::Text),
    ("otherPostcode", Kind::Text),
    ("faxNumber", Kind::Text),
    ("twitterId", Kind::Text),
    ("contactCreated", Kind::Number),
    ("contactCreatedBy", Kind::Unknown),
    ("contactModified", Kind::Number),
    ("contactModifiedBy", Kind::Unknown),
];

const REQUIRED: &[&str] = &["externalId", "lastname"];

/// An exception as SAM tells it.
fn exception(status: StatusCode, name: &str, code: f64, message: &str) -> Reply {
    Reply::json(status, json!({ "errorName": name, "errorCode": code, "message": message }).to_string())
}

fn invalid_parameter(message: &str) -> Reply {
    exception(StatusCode::BAD_REQUEST, "WSInvalidParameterException", 1002.0, message)
}

struct Contact {
    fields: Map<String, Value>,
    /// How often it was written.
    writes: u64,
}

pub(super) struct Company {
    settings: NextinteractSamSettings,
    door: Door,
    contacts: BTreeMap<u64, Contact>,
    by_external_id: HashMap<String, u64>,
    next_id: u64,
    /// Members that no contact has, and how often they were sent.
    unknown_members: BTreeMap<String, u64>,
    /// Contacts in each array that was stored.
    records: Vec<usize>,
}

impl Company {
    pub(super) fn new(settings: NextinteractSamSettings, seed: u64) -> Self {
        Self {
            door: Door::new(settings.door.clone(), seed),
            settings,
            contacts: BTreeMap::new(),
            by_external_id: HashMap::new(),
            // Companies differ in their ids, so that a mix-up shows.
            next_id: 10_000 + (seed % 9_000) * 1_000,
            unknown_members: BTreeMap::new(),
            records: Vec::new(),
        }
    }

    /// Checks all, then writes all.
    fn upsert(&mut self, body: &[u8]) -> Reply {
        let Ok(Value::Array(records)) = serde_json::from_slice::<Value>(body) else {
            return invalid_parameter("the body is not an array");
        };
        if records.is_empty() || records.len() > self.settings.records_max {
            return invalid_parameter("the array is empty or too long");
        }
        let mut checked = Vec::with_capacity(records.len());
        for record in records {
            let Value::Object(record) = record else { return invalid_parameter("a record is not an object") };
            match self.check(record) {
                Ok(record) => checked.push(record),
                Err(why) => return invalid_parameter(&why),
            }
        }
        if checked.iter().any(|record| is_among(&self.settings.crashing, record)) {
            return exception(
                StatusCode::INTERNAL_SERVER_ERROR,
                "WSCompanyServiceException",
                2020.0,
                "the company service failed",
            );
        }
        self.records.push(checked.len());
        let mut effect = false;
        let mut rows = Vec::new();
        for record in checked {
            let external_id = text_of(&record, "externalId").expect("it is required").to_owned();
            let stored = !is_among(&self.settings.unstored, &record);
            let mentioned = !is_among(&self.settings.unmentioned, &record);
            if stored {
                self.store(external_id.clone(), record);
                effect = true;
            }
            if mentioned {
                rows.push(json!({ "recordId": external_id, "rowsAffected": u8::from(stored) }));
            }
        }
        let reply = Reply::json(StatusCode::OK, Value::Array(rows).to_string());
        if effect { reply.with_effect() } else { reply }
    }

    /// The known members of a record that are not null.
    fn check(&mut self, record: Map<String, Value>) -> Result<Map<String, Value>, String> {
        let mut known = Map::new();
        for (name, value) in record {
            let Some((_, kind)) = MEMBERS.iter().find(|(member, _)| *member == name) else {
                *self.unknown_members.entry(name).or_default() += 1;
                continue;
            };
            let fits = match (kind, &value) {
                (_, Value::Null) | (Kind::Text, Value::String(_)) | (Kind::Number, Value::Number(_)) => true,
                (Kind::Country, Value::String(code)) => {
                    code.len() == 2 && code.bytes().all(|letter| letter.is_ascii_alphabetic())
                }
                (Kind::Unknown, value) => !value.is_object() && !value.is_array(),
                _ => false,
            };
            if !fits {
                return Err(format!("{name} is not what it should be"));
            }
            if !value.is_null() {
                known.insert(name, value);
            }
        }
        if let Some(missing) = REQUIRED.iter().find(|name| text_of(&known, name).is_none()) {
            return Err(format!("{missing} is required"));
        }
        if is_among(&self.settings.refused, &known) {
            return Err("a record is not acceptable".to_owned());
        }
        Ok(known)
    }

    /// Puts a record in the place of the whole contact.
    fn store(&mut self, external_id: String, record: Map<String, Value>) {
        let named = record.get("contactId").and_then(Value::as_u64).filter(|id| self.contacts.contains_key(id));
        let known = named.or_else(|| self.by_external_id.get(&external_id).copied());
        let id = known.unwrap_or_else(|| {
            self.next_id += 1;
            self.next_id
        });
        let writes = self.contacts.get(&id).map_or(0, |contact| contact.writes) + 1;
        self.by_external_id.insert(external_id, id);
        self.contacts.insert(id, Contact { fields: record, writes });
    }
}

fn is_among(marked: &BTreeSet<String>, record: &Map<String, Value>) -> bool {
    ["externalId", "lastname"].into_iter().filter_map(|name| text_of(record, name)).any(|text| marked.contains(text))
}

/// Text that is there and not blank.
fn text_of<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    fields.get(name)?.as_str().filter(|text| !text.trim().is_empty())
}

/// The fields that the caller asks for of their own record.
fn own_record(request: &http::Request<Bytes>) -> Reply {
    let company = request.uri().path().strip_prefix(OWN_PATH);
    let fields = request.uri().query().and_then(|query| query.strip_prefix("fields="));
    let (field, value) = OWN_ADDRESS;
    if company != Some(COMPANY_ID) || fields != Some(field) {
        return invalid_parameter("the company is another, or there is no such field");
    }
    Reply::json(StatusCode::OK, json!({ "results": [{ "key": field, "value": value }] }).to_string())
}

/// How a user is to log in: as all do, unless an identity provider knows them.
fn scheme(request: &http::Request<Bytes>) -> Reply {
    let members: Map<String, Value> = serde_json::from_slice(request.body()).unwrap_or_default();
    let said = |name: &str| text_of(&members, name);
    let devices = ["iPad", "iPhone", "Desktop", "Android Tablet", "Android Phone"];
    let is_whole = said("uEmail").is_some()
        && said("deviceType").is_some_and(|device| devices.contains(&device))
        && said("appCode").is_some_and(|code| ["NI", "MY"].contains(&code));
    if media_type(request).as_deref() != Some("application/json") || !is_whole {
        return invalid_parameter("name a user, a device and an application, in JSON");
    }
    Reply::json(StatusCode::OK, json!({ "type": "S" }).to_string())
}

/// The references in the body of an upsert.
fn references(body: &[u8]) -> Vec<String> {
    let Ok(Value::Array(records)) = serde_json::from_slice(body) else { return Vec::new() };
    records.iter().filter_map(|record| record.get("externalId")?.as_str().map(str::to_owned)).collect()
}

impl System for Company {
    fn asked(&self, request: &http::Request<Bytes>) -> Asked {
        let is_upsert = request.uri().path() == UPSERT_PATH && request.method() == Method::POST;
        if !is_upsert {
            return Asked::other();
        }
        let contact = match references(request.body()).as_slice() {
            [one] => Some(one.clone()),
            _ => None,
        };
        Asked { action: Action::Upsert, contact, remote_id: None }
    }

    fn credential(&self, request: &http::Request<Bytes>) -> Option<String> {
        request.headers().get(door::TOKEN)?.to_str().ok().map(str::to_owned)
    }

    fn revoke(&mut self, credential: &str) {
        self.door.expire(credential);
    }

    fn answer(&mut self, call: Call<'_>) -> Reply {
        let request = call.request;
        match (request.method(), request.uri().path()) {
            (&Method::POST, LOGIN_PATH) => return self.door.log_in(&call),
            (&Method::POST, SCHEME_PATH) => return scheme(request),
            (&Method::POST, UPSERT_PATH) => {}
            (&Method::GET, path) if path.starts_with(OWN_PATH) => {}
            (_, LOGIN_PATH | SCHEME_PATH | UPSERT_PATH) => return Reply::empty(StatusCode::METHOD_NOT_ALLOWED),
            _ => return Reply::empty(StatusCode::NOT_FOUND),
        }
        let token = self.credential(request);
        if !token.as_deref().is_some_and(|token| self.door.takes(token, call.now)) {
            let name = "WSInvalidAuthTokenException";
            return exception(StatusCode::UNAUTHORIZED, name, 1006.0, "the token is missing, wrong or expired");
        }
        if request.method() == Method::GET {
            return own_record(request);
        }
        if !self.settings.permitted {
            let name = "WSInsufficientPermissionsException";
            return exception(StatusCode::UNAUTHORIZED, name, 1003.0, "the user may not do this");
        }
        if media_type(request).as_deref() != Some("application/json") {
            return invalid_parameter("send JSON");
        }
        let mut reply = self.upsert(request.body());
        if reply.status.is_success() {
            self.door.renew(token.as_deref().unwrap_or_default(), call.now, &mut reply.headers);
        }
        reply
    }

    fn count(&self) -> usize {
        self.contacts.len()
    }

    fn contacts(&self) -> Vec<Value> {
        let shown = self.contacts.iter().map(|(id, contact)| {
            json!({
                "id": id,
                "reference": text_of(&contact.fields, "externalId"),
                "writes": contact.writes,
                "fields": contact.fields,
            })
        });
        shown.collect()
    }

    fn contact(&self, reference: &str) -> Option<Value> {
        let contact = self.contacts.get(self.by_external_id.get(reference)?)?;
        Some(Value::Object(contact.fields.clone()))
    }

    fn remarks(&self) -> Map<String, Value> {
        Map::from_iter([
            ("unknownMembers".to_owned(), json!(self.unknown_members)),
            ("recordsPerCall".to_owned(), json!(self.records)),
            ("logins".to_owned(), json!(self.door.logins())),
            ("refusedLogins".to_owned(), json!(self.door.refused())),
        ])
    }
}

#[cfg(test)]
mod tests;
