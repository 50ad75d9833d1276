//! An organisation of Previsto: its contacts, and what the documented requests do to them.
//!
//! There is nothing here that keeps a contact from being created twice, as there is nothing in the documents: every
//! create makes a new contact, and the way to find one again is a search whose fields do not include `meta`, and which may
//! lag behind. As strict as the documents allow; where they are silent, the answer of this file is the one that a
//! connector should expect.
//!
//! Requests are checked in this order: the credential, the address, the method, whether there is such a contact, and
//! then the arguments. Nothing is stored of a request that is refused.

mod arguments;
mod contacts;
mod index;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use self::{
    arguments::{Arguments, Refused, Said},
    contacts::{Contact, Contacts},
};
use super::{
    form,
    system::{Action, Asked, Call, Reply, System, media_type},
};

const CONTACTS_PATH: &str = "/contacts";
const TOTAL_COUNT: HeaderName = HeaderName::from_static("x-total-count");
const SIZE: i64 = 20;
const SIZE_MAX: i64 = 100;
/// Names of ignored arguments that are counted each by itself; those that come later are counted together.
const IGNORED_MAX: usize = 100;
const OTHERS: &str = "(others)";
/// Seed 0 begins with the id of the example in our reading of the documents.
const FIRST_ID: u32 = 0x90a1;

/// How a simulated Previsto behaves. The defaults are what its connector assumes.
#[derive(Debug, Clone)]
pub struct PrevistoSettings {
    /// How long a new contact is not found by a search. By its id, and in a list without a search, it is there at once.
    pub search_lag: Duration,
    /// Keys that are known, and not allowed to do anything here.
    pub public_keys: BTreeSet<String>,
    /// Whether `payingContactId` has to be the id of another contact.
    pub check_paying_contact: bool,
}

impl Default for PrevistoSettings {
    fn default() -> Self {
        Self {
            search_lag: Duration::ZERO,
            public_keys: BTreeSet::from(["pk_sandbox".to_owned()]),
            check_paying_contact: true,
        }
    }
}

/// What an address is the address of.
enum Place {
    Contacts,
    Contact(String),
}

impl Place {
    fn of(path: &str) -> Option<Self> {
        let rest = path.strip_prefix(CONTACTS_PATH)?;
        if rest.is_empty() {
            return Some(Self::Contacts);
        }
        let id = rest.strip_prefix('/').filter(|id| !id.is_empty() && !id.contains('/'))?;
        Some(Self::Contact(form::decode_percent(id).ok()?))
    }

    fn action(&self, method: &Method) -> Option<Action> {
        match (self, method) {
            (Self::Contacts, &Method::POST) => Some(Action::Create),
            (Self::Contacts, &Method::GET) => Some(Action::Search),
            (Self::Contact(_), &Method::GET) => Some(Action::Get),
            (Self::Contact(_), &Method::POST) => Some(Action::Update),
            (Self::Contact(_), &Method::DELETE) => Some(Action::Delete),
            _ => None,
        }
    }
}

/// What is remembered of a deleted contact.
#[derive(Serialize)]
struct Deleted {
    id: String,
    reference: Option<String>,
    writes: u64,
}

pub(super) struct Organisation {
    settings: PrevistoSettings,
    seed: u64,
    contacts: Contacts,
    /// In the order in which they went.
    deleted: Vec<Deleted>,
    deleted_by_id: HashMap<String, usize>,
    /// How often each name was given that is not an argument.
    ignored: BTreeMap<String, u64>,
}

impl Organisation {
    pub(super) fn new(settings: PrevistoSettings, seed: u64) -> Self {
        Self {
            settings,
            seed,
            contacts: Contacts::default(),
            deleted: Vec::new(),
            deleted_by_id: HashMap::new(),
            ignored: BTreeMap::new(),
        }
    }

    fn carry_out(&mut self, call: Call<'_>) -> Result<Reply, Refused> {
        self.check_key(call)?;
        let request = call.request;
        let nowhere = Refused::whole(StatusCode::NOT_FOUND, "there is nothing at this address");
        let place = Place::of(request.uri().path()).ok_or(nowhere)?;
        let not_so = Refused::whole(StatusCode::METHOD_NOT_ALLOWED, "not a method of this address");
        let action = place.action(request.method()).ok_or(not_so)?;
        match (place, action) {
            (Place::Contacts, Action::Search) => self.list(request.uri().query().unwrap_or_default(), call.now),
            (Place::Contacts, _) => self.create(call),
            (Place::Contact(id), Action::Update) => self.update(&id, call),
            (Place::Contact(id), Action::Delete) => self.delete(&id),
            (Place::Contact(id), _) => self.contacts.get(&id).map(shown).ok_or_else(Refused::no_such_contact),
        }
    }

    fn check_key(&self, call: Call<'_>) -> Result<(), Refused> {
        let unknown = || Refused::otherwise(StatusCode::UNAUTHORIZED, "the key is missing or not valid");
        let (key, password) = credentials(call.request).ok_or_else(unknown)?;
        if !password.is_empty() {
            return Err(unknown());
        }
        if call.tokens.contains(&key) {
            return Ok(());
        }
        if self.settings.public_keys.contains(&key) {
            return Err(Refused::otherwise(StatusCode::FORBIDDEN, "the key is not allowed to do this"));
        }
        Err(unknown())
    }

    fn create(&mut self, call: Call<'_>) -> Result<Reply, Refused> {
        let arguments = self.arguments(call)?;
        if !arguments.said.contains_key("name") {
            return Err(Refused::param("name", "a contact has a name"));
        }
        self.check(&arguments, None)?;
        let contact = Contact::new(self.next_id(), call.now);
        let contact = self.contacts.create(contact, &arguments);
        let reply = shown(contact).with_effect().about(contact.id.as_str());
        self.ignore(arguments.ignored);
        Ok(reply)
    }

    fn update(&mut self, id: &str, call: Call<'_>) -> Result<Reply, Refused> {
        if self.contacts.get(id).is_none() {
            return Err(Refused::no_such_contact());
        }
        let arguments = self.arguments(call)?;
        self.check(&arguments, Some(id))?;
        let contact = self.contacts.update(id, &arguments).ok_or_else(Refused::no_such_contact)?;
        let reply = shown(contact).with_effect();
        self.ignore(arguments.ignored);
        Ok(reply)
    }

    fn delete(&mut self, id: &str) -> Result<Reply, Refused> {
        let contact = self.contacts.delete(id).ok_or_else(Refused::no_such_contact)?;
        let reference = contact.reference().map(str::to_owned);
        self.deleted_by_id.insert(contact.id.clone(), self.deleted.len());
        self.deleted.push(Deleted { reference, writes: contact.writes, id: contact.id });
        Ok(Reply::empty(StatusCode::NO_CONTENT).with_effect())
    }

    fn list(&mut self, query: &str, now: Instant) -> Result<Reply, Refused> {
        let List { page, size, search, nearby, ignored } = List::read(query)?;
        let lag = self.settings.search_lag;
        let mut found: Vec<&Contact> = match &search {
            None => self.contacts.iter().collect(),
            Some(text) => self.contacts.search(text),
        };
        if search.is_some() {
            found.retain(|contact| now.duration_since(contact.created) >= lag);
        }
        if let Some(place) = nearby {
            let far = |contact: &Contact| contact.distance(place).unwrap_or(f64::INFINITY);
            found.sort_by(|one, other| far(one).total_cmp(&far(other)));
        }
        let page: Vec<&Contact> = found.iter().copied().skip(page.saturating_mul(size)).take(size).collect();
        let mut reply = shown(&page);
        reply.headers.insert(TOTAL_COUNT, HeaderValue::from(found.len()));
        self.ignore(ignored);
        Ok(reply)
    }

    fn arguments(&self, call: Call<'_>) -> Result<Arguments, Refused> {
        let body = call.request.body();
        match media_type(call.request).as_deref() {
            Some("application/json") => Arguments::from_json(body),
            Some("application/x-www-form-urlencoded") => Arguments::from_form(body),
            _ if body.is_empty() => Ok(Arguments::default()),
            _ => Err(Refused::whole(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send a form, or JSON")),
        }
    }

    /// Checks what depends on more than one argument or contact.
    fn check(&self, arguments: &Arguments, id: Option<&str>) -> Result<(), Refused> {
        let blank = match arguments.said.get("name") {
            Some(Said::Value(Value::String(name))) => name.trim().is_empty(),
            Some(_) => true,
            None => false,
        };
        if blank {
            return Err(Refused::param("name", "a contact has a name"));
        }
        if let Some(Said::Value(Value::String(payer))) = arguments.said.get("payingContactId")
            && self.settings.check_paying_contact
        {
            let is_so_already = || {
                let contact = id.and_then(|id| self.contacts.get(id));
                contact.and_then(|contact| contact.text("payingContactId")) == Some(payer)
            };
            let is_another = id != Some(payer) && self.contacts.get(payer).is_some();
            // The payer may have been deleted since; to say the same again is no mistake.
            if !is_another && !is_so_already() {
                return Err(Refused::param("payingContactId", "not the id of another contact"));
            }
        }
        Ok(())
    }

    fn next_id(&self) -> String {
        // Both factors are odd: no two of an organisation's contacts share an id, and organisations differ in theirs,
        // so that a mix-up shows.
        let [low, high] = [self.seed & u64::from(u32::MAX), self.seed >> 32].map(|half| half as u32);
        let tenant = (low ^ high.rotate_left(16)).wrapping_mul(0x9e37_79b1);
        let contact = (self.contacts.ever() as u32).wrapping_mul(0x85eb_ca6b);
        format!("con_{:x}", FIRST_ID.wrapping_add(tenant).wrapping_add(contact))
    }

    fn ignore(&mut self, names: Vec<String>) {
        for name in names {
            let known = self.ignored.contains_key(&name) || self.ignored.len() < IGNORED_MAX;
            let name = if known { name } else { OTHERS.to_owned() };
            *self.ignored.entry(name).or_default() += 1;
        }
    }

    /// The reference of a contact that is or was here.
    fn reference(&self, id: &str) -> Option<&str> {
        if let Some(contact) = self.contacts.get(id) {
            return contact.reference();
        }
        self.deleted.get(*self.deleted_by_id.get(id)?)?.reference.as_deref()
    }
}

impl System for Organisation {
    fn asked(&self, request: &http::Request<Bytes>) -> Asked {
        let Some(place) = Place::of(request.uri().path()) else { return Asked::other() };
        let Some(action) = place.action(request.method()) else { return Asked::other() };
        let said = || {
            let is_json = media_type(request).as_deref() == Some("application/json");
            arguments::reference(request.body(), is_json)
        };
        match place {
            Place::Contacts if action == Action::Create => Asked { action, contact: said(), remote_id: None },
            Place::Contacts => {
                let pairs = form::pairs(request.uri().query().unwrap_or_default().as_bytes()).unwrap_or_default();
                let text = pairs.into_iter().find(|(name, _)| name == "search").map(|(_, text)| text);
                // Whether a text is a reference can be told only if there is such a contact.
                let contact = text.filter(|text| self.contacts.newest(text).is_some());
                Asked { action, contact, remote_id: None }
            }
            Place::Contact(id) => {
                let contact = said().or_else(|| self.reference(&id).map(str::to_owned));
                Asked { action, contact, remote_id: Some(id) }
            }
        }
    }

    fn credential(&self, request: &http::Request<Bytes>) -> Option<String> {
        credentials(request).map(|(key, _)| key)
    }

    fn answer(&mut self, call: Call<'_>) -> Reply {
        self.carry_out(call).unwrap_or_else(|refused| {
            let body = serde_json::to_string(&refused).expect("texts can be written as JSON");
            Reply::json(refused.status, body)
        })
    }

    fn count(&self) -> usize {
        self.contacts.count()
    }

    fn contacts(&self) -> Vec<Value> {
        self.contacts.iter().map(Contact::shown).collect()
    }

    fn contact(&self, reference: &str) -> Option<Value> {
        serde_json::to_value(self.contacts.newest(reference)?).ok()
    }

    fn remarks(&self) -> Map<String, Value> {
        Map::from_iter([
            ("deleted".to_owned(), json!(self.deleted)),
            ("ignoredArguments".to_owned(), json!(self.ignored)),
        ])
    }
}

/// What a list is asked for.
struct List {
    page: usize,
    size: usize,
    /// In lower case.
    search: Option<String>,
    nearby: Option<[f64; 2]>,
    ignored: Vec<String>,
}

impl List {
    fn read(query: &str) -> Result<Self, Refused> {
        let pairs = form::pairs(query.as_bytes())
            .map_err(|_broken| Refused::whole(StatusCode::BAD_REQUEST, "the query's encoding is broken"))?;
        let mut list = Self { page: 0, size: SIZE as usize, search: None, nearby: None, ignored: Vec::new() };
        for (name, value) in pairs {
            match name.as_str() {
                "page" => list.page = value.parse().map_err(|_other| Refused::param("page", "pages count from 0"))?,
                "size" => {
                    let size: i64 = value.parse().map_err(|_other| Refused::param("size", "a size is a number"))?;
                    list.size = size.clamp(1, SIZE_MAX) as usize;
                }
                "search" => list.search = Some(value.to_lowercase()).filter(|text| !text.is_empty()),
                "nearby" => {
                    let place = value.split_once(',').and_then(|(longitude, latitude)| {
                        Some([longitude.trim().parse().ok()?, latitude.trim().parse().ok()?])
                    });
                    list.nearby = Some(place.ok_or(Refused::param("nearby", "a longitude, a comma, a latitude"))?);
                }
                _ => list.ignored.push(name),
            }
        }
        if list.search.is_some() && list.nearby.is_some() {
            return Err(Refused::param("nearby", "not in combination with search"));
        }
        Ok(list)
    }
}

/// Key and password.
fn credentials(request: &http::Request<Bytes>) -> Option<(String, String)> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded.trim()).ok()?).ok()?;
    let (key, password) = decoded.split_once(':')?;
    Some((key.to_owned(), password.to_owned()))
}

fn shown<T: Serialize>(shown: &T) -> Reply {
    Reply::json(StatusCode::OK, serde_json::to_string(shown).expect("contacts can be written as JSON"))
}

#[cfg(test)]
mod tests;
