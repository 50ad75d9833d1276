//! A tenant of LogiSense Billing: its authorization server, its contacts, and the lists that these refer to.
//!
//! Nothing here keeps a contact from being created twice, as nothing does in the documents: every create makes another
//! one, and it carries nothing but names and a title. As strict as the documents allow: a member that is not known, an id
//! that is in no list, a second point of a type that allows one, and the whole request is refused with all its faults.
//!
//! Requests are checked in this order: the token, the address, the method, whether there is such a contact, and then the
//! body. Nothing is stored of a request that is refused.

mod entrance;
mod lists;
mod search;
mod store;
mod writing;

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, header};
use serde::Serialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use self::{
    entrance::Entrance,
    search::{Paging, Query},
    store::{Contact, ContactView, Store},
    writing::{Faults, Ids, Patch, take},
};
use super::{
    form,
    system::{Action, Asked, Call, Reply, System, media_type},
};

const RESOURCES: &str = "/ResourceServer/api/v6/";
/// Seed 0 begins with the ids of the example in our reading of the documents.
const FIRST_IDS: Ids = Ids { contact: 318, point: 901, address: 77 };

/// How a simulated LogiSense behaves. The defaults are what its connector assumes.
#[derive(Debug, Clone)]
pub struct LogisenseSettings {
    pub username: String,
    pub client_id: String,
    pub token_life: Duration,
    /// Whether `expires_in` is a text.
    pub expires_in_as_text: bool,
    /// Whether contacts can be searched.
    pub search: bool,
    /// How long a new contact is not found by a search. Lists and its id show it at once.
    pub search_lag: Duration,
    /// Whether what is wrong with a request is told under status 200.
    pub faults_with_200: bool,
}

impl Default for LogisenseSettings {
    fn default() -> Self {
        Self {
            username: "contact-replicator".to_owned(),
            client_id: "contact-replicator".to_owned(),
            token_life: Duration::from_secs(1800),
            expires_in_as_text: false,
            search: true,
            search_lag: Duration::ZERO,
            faults_with_200: false,
        }
    }
}

/// What an address is the address of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Contacts,
    Paged,
    PagedDetail,
    Search,
    Contact(u64),
    Detail(u64),
    List(&'static str),
}

impl Place {
    fn of(path: &str) -> Option<Self> {
        let rest = path.strip_prefix(RESOURCES)?;
        let list = ["ContactType/", "ContactPointType/", "Country/", "State/"].into_iter().find(|list| *list == rest);
        if let Some(list) = list {
            return Some(Self::List(list));
        }
        let rest = rest.strip_prefix("Contact/")?;
        Some(match rest {
            "" => Self::Contacts,
            "Paged" => Self::Paged,
            "Paged/Detail" => Self::PagedDetail,
            "Search" => Self::Search,
            rest => match rest.strip_suffix("/Detail") {
                Some(id) => Self::Detail(id.parse().ok()?),
                None => Self::Contact(rest.parse().ok()?),
            },
        })
    }

    fn action(self, method: &Method) -> Option<Action> {
        match (self, method) {
            (Self::Contacts, &Method::POST) => Some(Action::Create),
            (Self::Contacts | Self::Paged | Self::PagedDetail, &Method::GET) | (Self::Search, &Method::POST) => {
                Some(Action::Search)
            }
            (Self::Contact(_) | Self::Detail(_), &Method::GET) => Some(Action::Get),
            (Self::Contact(_), &Method::PUT | &Method::PATCH) => Some(Action::Update),
            (Self::List(_), &Method::GET) => Some(Action::Other),
            _ => None,
        }
    }
}

/// A request that is not carried out.
struct Refused {
    status: StatusCode,
    kind: Option<&'static str>,
    faults: Faults,
}

impl Refused {
    fn plainly(status: StatusCode, message: &str) -> Self {
        let mut faults = Faults::default();
        faults.add(9, message);
        Self { status, kind: None, faults }
    }

    fn of(kind: &'static str, faults: Faults) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: Some(kind), faults }
    }

    fn no_such_contact() -> Self {
        Self::plainly(StatusCode::NOT_FOUND, "there is no such contact")
    }
}

pub(super) struct Billing {
    settings: LogisenseSettings,
    seed: u64,
    entrance: Entrance,
    store: Store,
    ids: Ids,
    answered: u64,
}

impl Billing {
    pub(super) fn new(settings: LogisenseSettings, seed: u64) -> Self {
        // Tenants differ in their ids, so that a mix-up shows.
        let apart = (seed ^ seed >> 32) % 1000 * 1_000_000;
        let Ids { contact, point, address } = FIRST_IDS;
        let ids = Ids { contact: contact + apart, point: point + apart, address: address + apart };
        let entrance = Entrance::new(seed);
        Self { settings, seed, entrance, store: Store::default(), ids, answered: 0 }
    }

    /// By which the support finds a call.
    fn tracking_id(&mut self) -> String {
        self.answered += 1;
        let digest = Sha256::digest(format!("{} {}", self.seed, self.answered));
        let bytes = digest.first_chunk::<16>().expect("SHA-256 has more than 16 bytes");
        uuid::Uuid::from_bytes(*bytes).to_string()
    }

    fn carry_out(&mut self, call: Call<'_>) -> Result<Reply, Refused> {
        let request = call.request;
        let nowhere = || Refused::plainly(StatusCode::NOT_FOUND, "there is nothing at this address");
        let place = Place::of(request.uri().path()).ok_or_else(nowhere)?;
        if place == Place::Search && !self.settings.search {
            return Err(nowhere());
        }
        let not_so = Refused::plainly(StatusCode::METHOD_NOT_ALLOWED, "not a method of this address");
        let action = place.action(request.method()).ok_or(not_so)?;
        let query = request.uri().query().unwrap_or_default();
        match (place, action) {
            (Place::Contacts, Action::Create) => self.create(call),
            (Place::Contacts, _) => {
                let items: Vec<ContactView> = self.store.contacts.values().map(Contact::bare).collect();
                Ok(self.listed(&items))
            }
            (Place::Paged, _) => self.paged(query, Contact::bare),
            (Place::PagedDetail, _) => {
                let paging = Paging::read(query).map_err(|faults| Refused::of("get", faults))?;
                let all: Vec<&Contact> = self.store.contacts.values().collect();
                let page = paging.page(&all).iter().map(|contact| self.store.whole(contact)).collect();
                Ok(self.page(paging, all.len(), page))
            }
            (Place::Search, _) => self.search(call),
            (Place::Contact(id), Action::Get) => {
                let contact = self.store.contacts.get(&id).ok_or_else(Refused::no_such_contact)?.bare();
                Ok(self.one(&contact))
            }
            (Place::Detail(id), _) => {
                let contact = self.store.contacts.get(&id).ok_or_else(Refused::no_such_contact)?;
                let contact = self.store.whole(contact);
                Ok(self.one(&contact))
            }
            (Place::Contact(id), _) if request.method() == Method::PUT => self.put(id, call),
            (Place::Contact(id), _) => self.patch(id, call),
            (Place::List("ContactType/"), _) => Ok(self.listed(lists::CONTACT_TYPES)),
            (Place::List("ContactPointType/"), _) => Ok(self.listed(lists::POINT_TYPES)),
            (Place::List("Country/"), _) => Ok(self.listed(lists::COUNTRIES)),
            (Place::List(_), _) => Ok(self.listed(lists::STATES)),
        }
    }

    fn create(&mut self, call: Call<'_>) -> Result<Reply, Refused> {
        let members = members(call, "create")?;
        let created = writing::create(&members, &["accountId"], self.ids.contact, call.now);
        let contact = created.map_err(|faults| Refused::of("create", faults))?;
        take(&mut self.ids.contact);
        let identity = contact.identity;
        let reply = self.written("create", &[contact.bare()]).about(identity.to_string());
        self.store.contacts.insert(identity, contact);
        Ok(self.leaving(identity, reply))
    }

    fn put(&mut self, id: u64, call: Call<'_>) -> Result<Reply, Refused> {
        let contact = self.store.contacts.get(&id).ok_or_else(Refused::no_such_contact)?;
        let changed = writing::update(contact, &members(call, "update")?);
        let changed = changed.map_err(|faults| Refused::of("update", faults))?;
        let reply = self.written("update", &[changed.bare()]);
        self.store.contacts.insert(id, changed);
        Ok(self.leaving(id, reply))
    }

    fn patch(&mut self, id: u64, call: Call<'_>) -> Result<Reply, Refused> {
        let contact = self.store.contacts.get(&id).ok_or_else(Refused::no_such_contact)?;
        let patched = Patch::of(&self.store, contact, &members(call, "patch")?, self.ids, call.now);
        let patched = patched.map_err(|faults| Refused::of("patch", faults))?;
        self.ids = patched.ids;
        let changes = patched.carry_out(&mut self.store);
        let reply = self.written("patch", &changes);
        Ok(self.leaving(id, reply))
    }

    /// With the contact as it is by then, if it is still there.
    fn leaving(&self, id: u64, reply: Reply) -> Reply {
        let contact = self.store.contacts.get(&id).map(|contact| self.store.whole(contact));
        match contact {
            Some(contact) => reply.leaving(serde_json::to_value(contact).expect("a contact can be written as JSON")),
            None => reply,
        }
    }

    fn search(&mut self, call: Call<'_>) -> Result<Reply, Refused> {
        let query = Query::read(&members(call, "search")?).map_err(|faults| Refused::of("search", faults))?;
        let lag = self.settings.search_lag;
        let all = self.store.contacts.values().filter(|contact| call.now.duration_since(contact.created) >= lag);
        let found: Vec<&Contact> = query.pick(all);
        let page = query.paging.page(&found).iter().map(|contact| contact.bare()).collect();
        let count = found.len();
        Ok(self.page(query.paging, count, page))
    }

    // Envelopes.

    fn listed<T: Serialize>(&mut self, items: &[T]) -> Reply {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Listed<'a, T> {
            tracking_id: String,
            total_count: usize,
            items: &'a [T],
        }
        shown(&Listed { tracking_id: self.tracking_id(), total_count: items.len(), items })
    }

    fn paged(&mut self, query: &str, view: fn(&Contact) -> ContactView) -> Result<Reply, Refused> {
        let paging = Paging::read(query).map_err(|faults| Refused::of("get", faults))?;
        let all: Vec<&Contact> = self.store.contacts.values().collect();
        let page = paging.page(&all).iter().map(|contact| view(contact)).collect();
        let count = all.len();
        Ok(self.page(paging, count, page))
    }

    fn page(&mut self, pagination: Paging, count: usize, items: Vec<ContactView>) -> Reply {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Results {
            #[serde(skip_serializing_if = "Option::is_none")]
            total_count: Option<usize>,
            items: Vec<ContactView>,
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Page {
            tracking_id: String,
            pagination: Paging,
            paged_results: Results,
        }
        let total_count = (!pagination.exclude_total_count).then_some(count);
        let paged_results = Results { total_count, items };
        shown(&Page { tracking_id: self.tracking_id(), pagination, paged_results })
    }

    fn one(&mut self, instance: &ContactView) -> Reply {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct One<'a> {
            tracking_id: String,
            instance: &'a ContactView,
        }
        shown(&One { tracking_id: self.tracking_id(), instance })
    }

    fn written<T: Serialize>(&mut self, kind: &'static str, items: &[T]) -> Reply {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Results<'a, T> {
            total_count: usize,
            items: &'a [T],
        }
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Written<'a, T> {
            tracking_id: String,
            r#type: &'static str,
            results: Results<'a, T>,
        }
        let results = Results { total_count: items.len(), items };
        shown(&Written { tracking_id: self.tracking_id(), r#type: kind, results }).with_effect()
    }

    fn refused(&mut self, refused: &Refused) -> Reply {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Envelope<'a> {
            tracking_id: String,
            #[serde(skip_serializing_if = "Option::is_none")]
            r#type: Option<&'static str>,
            errors: &'a [writing::Fault],
        }
        let envelope = Envelope { tracking_id: self.tracking_id(), r#type: refused.kind, errors: &refused.faults.0 };
        let mut reply = shown(&envelope);
        let is_hidden = self.settings.faults_with_200 && refused.status == StatusCode::BAD_REQUEST;
        reply.status = if is_hidden { StatusCode::OK } else { refused.status };
        reply
    }
}

/// The members of a body.
fn members(call: Call<'_>, kind: &'static str) -> Result<Map<String, Value>, Refused> {
    let parsed = || {
        let is_json = media_type(call.request).as_deref() == Some("application/json");
        is_json.then(|| serde_json::from_slice(call.request.body()).ok()).flatten()
    };
    parsed().ok_or_else(|| {
        let mut faults = Faults::default();
        faults.add(9, "the body is not a JSON object");
        Refused::of(kind, faults)
    })
}

fn bearer(request: &http::Request<Bytes>) -> Option<String> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    value.strip_prefix("Bearer ").map(str::to_owned)
}

fn shown<T: Serialize>(shown: &T) -> Reply {
    Reply::json(StatusCode::OK, serde_json::to_string(shown).expect("contacts can be written as JSON"))
}

/// The reference that a body may name: the title of a create, or what a title is searched for.
fn named(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let criteria = body["query"]["search"].as_array();
    let searched = criteria.and_then(|criteria| criteria.iter().find(|criterion| criterion["name"] == "title"));
    let said = searched.map_or(&body["title"], |criterion| &criterion["value"]);
    said.as_str().map(str::to_owned)
}

fn deletes(body: &[u8]) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    body["contacts"]["items"].as_array().is_some_and(|items| items.iter().any(|item| item["patchType"] == "delete"))
}

impl System for Billing {
    fn asked(&self, request: &http::Request<Bytes>) -> Asked {
        let Some(place) = Place::of(request.uri().path()) else { return Asked::other() };
        let Some(action) = place.action(request.method()) else { return Asked::other() };
        match place {
            Place::Contacts if action == Action::Create => {
                Asked { action, contact: named(request.body()), remote_id: None }
            }
            Place::Search => {
                let is_known = |name: &String| self.store.contacts.values().any(|one| one.reference() == Some(name));
                Asked { action, contact: named(request.body()).filter(is_known), remote_id: None }
            }
            Place::Contact(id) | Place::Detail(id) => {
                let action = if action == Action::Update && deletes(request.body()) { Action::Delete } else { action };
                Asked { action, contact: self.store.reference(id), remote_id: Some(id.to_string()) }
            }
            Place::Contacts | Place::Paged | Place::PagedDetail | Place::List(_) => {
                Asked { action, contact: None, remote_id: None }
            }
        }
    }

    fn credential(&self, request: &http::Request<Bytes>) -> Option<String> {
        bearer(request)
    }

    fn revoke(&mut self, credential: &str) {
        self.entrance.forget(credential);
    }

    fn answer(&mut self, call: Call<'_>) -> Reply {
        if call.request.uri().path() == entrance::PATH {
            return self.entrance.answer(&self.settings, call);
        }
        let is_in = bearer(call.request).is_some_and(|token| self.entrance.admits(&token, call));
        if !is_in {
            return Reply::empty(StatusCode::UNAUTHORIZED);
        }
        self.carry_out(call).unwrap_or_else(|refused| self.refused(&refused))
    }

    fn count(&self) -> usize {
        self.store.contacts.len()
    }

    fn contacts(&self) -> Vec<Value> {
        self.store.contacts.values().map(|contact| self.store.shown(contact)).collect()
    }

    fn contact(&self, reference: &str) -> Option<Value> {
        let newest = self.store.contacts.values().rev().find(|contact| contact.reference() == Some(reference))?;
        serde_json::to_value(self.store.whole(newest)).ok()
    }

    fn remarks(&self) -> Map<String, Value> {
        let deleted: Vec<Value> = self.store.deleted.iter().map(|(id, reference)| json!([id, reference])).collect();
        Map::from_iter([
            ("deleted".to_owned(), json!(deleted)),
            ("unattachedAddresses".to_owned(), json!(self.store.unattached())),
        ])
    }
}

#[cfg(test)]
mod tests;
