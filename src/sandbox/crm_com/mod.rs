//! A simulated tenant of CRM.COM, Web API v2: logins, contacts, their sets, and their photos.
//!
//! What the documents say, it does to the letter: the envelope, the other names on reading than on writing, the short answer
//! to a create, the id that `fields_set` can drop, the stamp on notes. Where they are silent it does what our reading of
//! them assumes, and a switch does the other thing. Nothing is stored of a request that is refused; what is no member at all
//! is passed over and counted, since the documents themselves send such.
//!
//! Requests are judged in this order: the address and the method, the token, the form of the body, the contact, and then
//! each member.

mod arguments;
mod contacts;
mod lists;
mod multipart;
mod sessions;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::{Map, Value, json};

use self::{
    arguments::{Arguments, Purpose},
    contacts::{Contact, Contacts, Photo},
    lists::Lists,
    sessions::Sessions,
};
use super::{
    form,
    system::{Action, Asked, Call, Reply, System, media_type},
};

/// Goes before the documented paths.
pub(super) const BASE_PATH: &str = "/crmapi/rest/v2";
const DOWNLOAD_PATH: &str = "/crm/ImageDownloadServlet";
/// Names of ignored members that are counted each by itself; those that come later are counted together.
const IGNORED_MAX: usize = 100;
const OTHERS: &str = "(others)";
/// The parts of a form that adds a photo.
const PHOTO_PARTS: [&str; 4] = ["token", "contact_information_identifier", "file", "fields_set"];
const PHOTO_BYTES_MAX: usize = 5 * 1024 * 1024;

/// How a simulated CRM.COM behaves. The defaults are what its connector assumes.
#[derive(Debug, Clone)]
pub struct CrmComSettings {
    /// Who may log in, with any accepted token for a password.
    pub username: String,
    pub organisation: String,
    /// Whether tokens are JWTs, as from R12 on, or 32 hexadecimal digits.
    pub json_web_tokens: bool,
    /// A JWT ends this long after its issue.
    pub token_life: Duration,
    /// A token of digits that a user got ends this long after its last use.
    pub token_idle: Duration,
    /// Whether a refused token or login is told by HTTP 401, and not by a code under HTTP 200 alone.
    pub http_statuses: bool,
    /// Whether addresses are written in one line.
    pub international_addresses: bool,
    /// Country of telephone numbers that come without one.
    pub default_country: String,
    /// Countries whose codes of two and three letters the tenant's table lacks.
    pub countries_without_codes: BTreeSet<String>,
    /// Whether persons are unique by name and id number, and companies by VAT number.
    pub unique: bool,
    /// Whether a removed entry of a set vanishes, instead of staying as inactive.
    pub removes: bool,
    /// How long a new contact is not found in a list.
    pub search_lag: Duration,
    /// The user-defined field in which a sender's own reference is looked for.
    pub reference_slot: String,
    pub categories: Vec<String>,
    pub groups: Vec<String>,
    pub privacy_levels: Vec<u64>,
    pub industries: Vec<String>,
    pub industry_sectors: Vec<String>,
}

impl Default for CrmComSettings {
    fn default() -> Self {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            username: "contact-replicator".to_owned(),
            organisation: "example".to_owned(),
            json_web_tokens: true,
            token_life: Duration::from_secs(2 * 60 * 60),
            token_idle: Duration::from_secs(60 * 60),
            http_statuses: false,
            international_addresses: false,
            default_country: "CY".to_owned(),
            countries_without_codes: BTreeSet::new(),
            unique: false,
            removes: false,
            search_lag: Duration::ZERO,
            reference_slot: "udf_string_16".to_owned(),
            categories: names(&["Residential", "Business"]),
            groups: names(&["Head office", "Branch"]),
            privacy_levels: vec![1, 2, 3],
            industries: names(&["Retail", "Software"]),
            industry_sectors: names(&["Private", "Public"]),
        }
    }
}

/// Why a request is not carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refused {
    status: StatusCode,
    code: &'static str,
    message: &'static str,
}

impl Refused {
    const fn of(code: &'static str, message: &'static str) -> Self {
        Self { status: StatusCode::OK, code, message }
    }
}

const MISSING: &str = "MANDATORY_FIELD_MISSING";
const INVALID: &str = "INVALID_VALUE";
const FORMAT: &str = "INVALID_FORMAT";
const NO_CONTACT: Refused = Refused::of("NOT_FOUND", "no such contact information");

/// What an address is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    Login,
    LoginByKey,
    Release,
    Show,
    List,
    Create,
    Update,
    ViewPhoto,
    AddPhoto,
    RemovePhoto,
    Download,
}

impl Endpoint {
    fn of(method: &Method, path: &str) -> Option<Self> {
        if path == DOWNLOAD_PATH && method == Method::GET {
            return Some(Self::Download);
        }
        let path = path.strip_prefix(BASE_PATH).unwrap_or(path);
        Some(match (method.as_str(), path) {
            ("POST", "/authentication/token") => Self::Login,
            ("POST", "/authentication/web_api_key/token") => Self::LoginByKey,
            ("POST", "/authentication/token/release") => Self::Release,
            ("GET", "/contact_information/show") => Self::Show,
            ("GET", "/contact_information/list") => Self::List,
            ("POST", "/contact_information/create") => Self::Create,
            ("POST", "/contact_information/update") => Self::Update,
            ("GET", "/contact_information/profile_photo/view") => Self::ViewPhoto,
            ("POST", "/contact_information/profile_photo/add") => Self::AddPhoto,
            ("POST", "/contact_information/profile_photo/remove") => Self::RemovePhoto,
            _ => return None,
        })
    }

    fn action(self) -> Action {
        match self {
            Self::Show | Self::ViewPhoto => Action::Get,
            Self::List => Action::Search,
            Self::Create => Action::Create,
            Self::Update | Self::AddPhoto | Self::RemovePhoto => Action::Update,
            Self::Login | Self::LoginByKey | Self::Release | Self::Download => Action::Other,
        }
    }
}

pub(super) struct Tenant {
    settings: CrmComSettings,
    lists: Lists,
    sessions: Sessions,
    contacts: Contacts,
    /// How often each name was given that is no member.
    ignored: BTreeMap<String, u64>,
}

impl Tenant {
    pub(super) fn new(settings: CrmComSettings, seed: u64) -> Self {
        Self {
            lists: Lists::new(&settings),
            sessions: Sessions::new(&settings, seed),
            contacts: Contacts::new(seed),
            ignored: BTreeMap::new(),
            settings,
        }
    }

    fn carry_out(&mut self, call: Call<'_>) -> Result<Reply, Refused> {
        let request = call.request;
        let nowhere = Refused { status: StatusCode::NOT_FOUND, code: "NOT_FOUND", message: "nothing at this address" };
        let what = Endpoint::of(request.method(), request.uri().path()).ok_or(nowhere)?;
        match what {
            Endpoint::Login | Endpoint::LoginByKey => {
                let body = object(request)?;
                let token = if what == Endpoint::Login {
                    self.sessions.log_in(&body, call)?
                } else {
                    self.sessions.log_in_by_key(&body, call)?
                };
                return Ok(shown(json!({ "token": token })));
            }
            Endpoint::Release => {
                let body = object(request)?;
                self.sessions.check(body.get("token").and_then(Value::as_str), call)?;
                self.revoke(body["token"].as_str().unwrap_or_default());
                return Ok(shown(Value::Null));
            }
            _ => {}
        }
        self.sessions.check(token(request).as_deref(), call)?;
        match what {
            Endpoint::Show => self.show(request),
            Endpoint::List => self.list(call),
            Endpoint::Create => self.create(call),
            Endpoint::Update => self.update(request),
            Endpoint::ViewPhoto => {
                let query = Query::read(request)?;
                let contact = self.contacts.get(self.id_of(query.identifier()?)?).ok_or(NO_CONTACT)?;
                Ok(shown(contact.photo().map_or(Value::Null, Photo::facts)))
            }
            Endpoint::AddPhoto => self.add_photo(request),
            Endpoint::RemovePhoto => {
                let body = object(request)?;
                let id = self.identified(&body)?.to_owned();
                let contact = self.contacts.get_mut(&id).ok_or(NO_CONTACT)?;
                contact.set_photo(None);
                // "not applicable", say the documents of what comes back.
                Ok(Reply::empty(StatusCode::OK).with_effect())
            }
            Endpoint::Download => self.download(request),
            Endpoint::Login | Endpoint::LoginByKey | Endpoint::Release => unreachable!("answered above"),
        }
    }

    fn show(&self, request: &http::Request<Bytes>) -> Result<Reply, Refused> {
        let query = Query::read(request)?;
        let contact = self.contacts.get(self.id_of(query.identifier()?)?).ok_or(NO_CONTACT)?;
        Ok(shown(chosen(contact.whole(), query.get("fields_set"))))
    }

    fn list(&self, call: Call<'_>) -> Result<Reply, Refused> {
        let query = Query::read(call.request)?;
        let keys: Vec<(&str, &str)> = contacts::KEYS.iter().filter_map(|key| Some((*key, query.get(key)?))).collect();
        if keys.is_empty() {
            return Err(Refused::of(MISSING, "name something to search for"));
        }
        let number = |name: &str, default: usize, max: usize| match query.get(name) {
            None => Ok(default),
            Some(text) => text
                .parse::<usize>()
                .map(|number| number.min(max))
                .map_err(|_other| Refused::of(FORMAT, "not a number")),
        };
        let (count, offset) = (number("number_of_results", 50, 500)?, number("offset", 0, usize::MAX)?);
        let lag = self.settings.search_lag;
        let is_known = |contact: &&Contact| call.now.duration_since(contact.created) >= lag;
        let mut hits: Vec<&Contact> =
            self.contacts.iter().filter(is_known).filter(|contact| contact.has_all(&keys)).collect();
        hits.sort_by(|one, other| one.id.cmp(&other.id));
        let page = hits.into_iter().skip(offset).take(count);
        let fields = query.get("fields_set");
        Ok(shown(page.map(|contact| chosen(contact.whole(), fields)).collect()))
    }

    fn create(&mut self, call: Call<'_>) -> Result<Reply, Refused> {
        let body = object(call.request)?;
        let mut arguments = Arguments::read(&body, Purpose::Create, &self.settings, &self.lists)?;
        self.check_unique(&arguments, None)?;
        self.find_related(&mut arguments, None)?;
        let mut contact = Contact::new(self.contacts.next_id(), arguments.contact_type, call.now);
        contact.write(&arguments, &self.settings, &mut self.contacts.entries)?;
        let id = contact.id.clone();
        let answer = chosen_or(body.get("fields_set"), &contact, Contact::short);
        let left = contact.whole();
        self.contacts.insert(contact);
        self.ignore(arguments.ignored);
        Ok(shown(answer).with_effect().about(id).leaving(left))
    }

    fn update(&mut self, request: &http::Request<Bytes>) -> Result<Reply, Refused> {
        let body = object(request)?;
        let id = self.identified(&body)?.to_owned();
        let of_type = self.contacts.get(&id).ok_or(NO_CONTACT)?.contact_type;
        let mut arguments = Arguments::read(&body, Purpose::Update(of_type), &self.settings, &self.lists)?;
        self.check_unique(&arguments, Some(&id))?;
        self.find_related(&mut arguments, Some(&id))?;
        // One call applies as a whole or not at all.
        let mut contact = self.contacts.get(&id).ok_or(NO_CONTACT)?.clone();
        contact.write(&arguments, &self.settings, &mut self.contacts.entries)?;
        let answer = chosen_or(body.get("fields_set"), &contact, Contact::whole);
        let left = contact.whole();
        self.contacts.insert(contact);
        self.ignore(arguments.ignored);
        Ok(shown(answer).with_effect().leaving(left))
    }

    fn check_unique(&self, arguments: &Arguments, id: Option<&str>) -> Result<(), Refused> {
        let others = || self.contacts.iter().filter(|contact| Some(contact.id.as_str()) != id);
        if self.settings.unique && others().any(|other| other.is_like(arguments)) {
            return Err(Refused::of("DUPLICATE", "the uniqueness rule is violated"));
        }
        Ok(())
    }

    /// Puts in place of what names somebody in a relation what is shown of whom: another contact, and one that is there.
    fn find_related(&self, arguments: &mut Arguments, id: Option<&str>) -> Result<(), Refused> {
        for related in arguments.related() {
            let (field, value) = arguments::one_member(related)?;
            let value = value.as_str().ok_or(Refused::of(FORMAT, "an identifier is a text"))?;
            let nobody = Refused::of("REFERENCE_NOT_FOUND", "a relation is to another contact");
            let other = self.contacts.identified(field, value).map_err(|_nobody| nobody)?;
            let other = self.contacts.get(other).filter(|other| Some(other.id.as_str()) != id).ok_or(nobody)?;
            *related = other.short();
        }
        Ok(())
    }

    fn add_photo(&mut self, request: &http::Request<Bytes>) -> Result<Reply, Refused> {
        let parts = multipart::parts(request).ok_or(Refused::of(FORMAT, "not a multipart form"))?;
        let text = |name: &str| {
            let part = parts.iter().find(|part| part.name == name);
            part.and_then(|part| std::str::from_utf8(part.content).ok())
        };
        let identifier = text("contact_information_identifier").ok_or(Refused::of(MISSING, "name a contact"))?;
        let id = self.id_of(identifier)?.to_owned();
        let file = parts.iter().find(|part| part.name == "file").ok_or(Refused::of(MISSING, "there is no file"))?;
        let kinds = [("image/jpeg", &b"\xff\xd8"[..]), ("image/png", b"\x89PNG"), ("image/gif", b"GIF8")];
        let kind = kinds.iter().find(|(_, start)| file.content.starts_with(start)).map(|(kind, _)| *kind);
        let kind = kind.ok_or(Refused::of(FORMAT, "a photo is a jpeg, png or gif"))?;
        if file.content_type.as_deref().is_some_and(|said| said != kind) {
            return Err(Refused::of(FORMAT, "the file is not what it says it is"));
        }
        let others = parts.iter().map(|part| &part.name);
        let others = others.filter(|name| !PHOTO_PARTS.contains(&name.as_str()));
        self.ignore(others.cloned().collect());
        if file.content.len() > PHOTO_BYTES_MAX {
            return Err(Refused::of(INVALID, "a photo has 5 MiB at most"));
        }
        let name = file.file_name.clone().ok_or(Refused::of(MISSING, "a file has a name"))?;
        let contact = self.contacts.get_mut(&id).ok_or(NO_CONTACT)?;
        let photo = Photo::new(&id, name, kind, Bytes::copy_from_slice(file.content));
        let facts = photo.facts();
        contact.set_photo(Some(photo));
        Ok(shown(facts).with_effect())
    }

    fn download(&self, request: &http::Request<Bytes>) -> Result<Reply, Refused> {
        let query = Query::read(request)?;
        let contact = query.get("id").and_then(|id| self.contacts.get(id)).ok_or(NO_CONTACT)?;
        let photo = contact.photo().ok_or(NO_CONTACT)?;
        let mut reply = Reply::empty(StatusCode::OK);
        reply.body = photo.content.clone();
        reply.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(photo.kind));
        Ok(reply)
    }

    /// The id of the contact that `field=value` names.
    fn id_of<'a>(&'a self, identifier: &'a str) -> Result<&'a str, Refused> {
        let (field, value) = identifier.split_once('=').ok_or(Refused::of(FORMAT, "write it as field=value"))?;
        self.contacts.identified(field, value)
    }

    fn identified<'a>(&'a self, body: &'a Map<String, Value>) -> Result<&'a str, Refused> {
        let identifier = body.get("contact_information_identifier").ok_or(Refused::of(MISSING, "name a contact"))?;
        let (field, value) = arguments::one_member(identifier)?;
        let value = value.as_str().ok_or(Refused::of(FORMAT, "an identifier is a text"))?;
        self.contacts.identified(field, value)
    }

    fn ignore(&mut self, names: Vec<String>) {
        for name in names {
            let known = self.ignored.contains_key(&name) || self.ignored.len() < IGNORED_MAX;
            let name = if known { name } else { OTHERS.to_owned() };
            *self.ignored.entry(name).or_default() += 1;
        }
    }

    fn refusal(&self, refused: Refused) -> Reply {
        let is_about_token = matches!(refused.code, "INVALID_TOKEN" | "TOKEN_EXPIRED" | "AUTHENTICATION_FAILED");
        let status =
            if self.settings.http_statuses && is_about_token { StatusCode::UNAUTHORIZED } else { refused.status };
        let status_of = json!({ "code": refused.code, "message": refused.message, "description": "" });
        Reply::json(status, json!({ "status": status_of, "data": null }).to_string())
    }
}

impl System for Tenant {
    fn asked(&self, request: &http::Request<Bytes>) -> Asked {
        let Some(what) = Endpoint::of(request.method(), request.uri().path()) else { return Asked::other() };
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let planted = || body[&self.settings.reference_slot].as_str().map(str::to_owned);
        let by_query = || Query::read(request).ok()?.get("contact_information_identifier").map(str::to_owned);
        let remote_id = match what {
            Endpoint::Show | Endpoint::ViewPhoto => {
                by_query().and_then(|text| self.id_of(&text).ok().map(str::to_owned))
            }
            Endpoint::AddPhoto => multipart::parts(request).and_then(|parts| {
                let part = parts.iter().find(|part| part.name == "contact_information_identifier")?;
                self.id_of(std::str::from_utf8(part.content).ok()?).ok().map(str::to_owned)
            }),
            Endpoint::Update | Endpoint::RemovePhoto => {
                body.as_object().and_then(|body| self.identified(body).ok().map(str::to_owned))
            }
            _ => None,
        };
        let known = || {
            let contact = self.contacts.get(remote_id.as_deref()?)?;
            contact.reference(&self.settings.reference_slot).map(str::to_owned)
        };
        Asked { action: what.action(), contact: planted().or_else(known), remote_id }
    }

    fn credential(&self, request: &http::Request<Bytes>) -> Option<String> {
        token(request)
    }

    fn revoke(&mut self, credential: &str) {
        self.sessions.end(credential);
    }

    fn answer(&mut self, call: Call<'_>) -> Reply {
        self.carry_out(call).unwrap_or_else(|refused| self.refusal(refused))
    }

    fn count(&self) -> usize {
        self.contacts.iter().count()
    }

    fn contacts(&self) -> Vec<Value> {
        let shown = |contact: &Contact| {
            json!({
                "id": contact.id, "reference": contact.reference(&self.settings.reference_slot),
                "writes": contact.writes, "fields": contact.whole(),
                "photo": contact.photo().map(Photo::known),
            })
        };
        self.contacts.iter().map(shown).collect()
    }

    fn contact(&self, reference: &str) -> Option<Value> {
        let is_it = |contact: &&Contact| contact.reference(&self.settings.reference_slot) == Some(reference);
        self.contacts.iter().filter(is_it).last().map(Contact::whole)
    }

    fn remarks(&self) -> Map<String, Value> {
        Map::from_iter([
            ("ignoredMembers".to_owned(), json!(self.ignored)),
            ("sessions".to_owned(), json!(self.sessions.count())),
        ])
    }
}

/// The token that a request carries: in its query, its JSON or its form.
fn token(request: &http::Request<Bytes>) -> Option<String> {
    if let Some(token) = Query::read(request).ok().and_then(|query| query.get("token").map(str::to_owned)) {
        return Some(token);
    }
    if media_type(request).as_deref() == Some("multipart/form-data") {
        let parts = multipart::parts(request)?;
        let part = parts.iter().find(|part| part.name == "token")?;
        return std::str::from_utf8(part.content).ok().map(str::to_owned);
    }
    let body: Value = serde_json::from_slice(request.body()).ok()?;
    body.get("token")?.as_str().map(str::to_owned)
}

/// The members of a body; of those that come twice, the last.
fn object(request: &http::Request<Bytes>) -> Result<Map<String, Value>, Refused> {
    if media_type(request).as_deref() != Some("application/json") {
        return Err(Refused::of(FORMAT, "send JSON, and say so"));
    }
    serde_json::from_slice(request.body()).map_err(|_other| Refused::of(FORMAT, "the body is not a JSON object"))
}

/// The arguments of a GET.
struct Query(Vec<(String, String)>);

impl Query {
    fn read(request: &http::Request<Bytes>) -> Result<Self, Refused> {
        let pairs = form::pairs(request.uri().query().unwrap_or_default().as_bytes());
        pairs.map(Self).map_err(|_broken| Refused::of(FORMAT, "the query's encoding is broken"))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn identifier(&self) -> Result<&str, Refused> {
        self.get("contact_information_identifier").ok_or(Refused::of(MISSING, "name a contact"))
    }
}

/// Those of the members of `whole` that are asked for; all, if nobody says which. Unknown names are passed over.
fn chosen(whole: Value, fields_set: Option<&str>) -> Value {
    let Some(names) = fields_set.filter(|names| !names.trim().is_empty()) else { return whole };
    let names: BTreeSet<&str> = names.split(',').map(str::trim).collect();
    let Value::Object(members) = whole else { return whole };
    members.into_iter().filter(|(name, _)| names.contains(name.as_str())).collect()
}

/// What a body asks to be shown, or what is shown by default.
fn chosen_or(fields_set: Option<&Value>, contact: &Contact, default: fn(&Contact) -> Value) -> Value {
    match fields_set.and_then(Value::as_str).filter(|names| !names.trim().is_empty()) {
        Some(names) => chosen(contact.whole(), Some(names)),
        None => default(contact),
    }
}

fn shown(data: Value) -> Reply {
    let status = json!({ "code": "OK", "message": null, "description": null });
    Reply::json(StatusCode::OK, json!({ "status": status, "data": data }).to_string())
}

#[cfg(test)]
mod tests;
