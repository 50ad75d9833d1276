//! Previsto: create, partial update and delete by Previsto's own id, and a free-text search.
//!
//! Each create makes another contact, whatever it holds, so a contact that may be there is searched for first. What we
//! plant makes it findable: `meta[externalRef]` says whose it is, and `number` holds the same because the search is not
//! known to cover `meta`. A search is a hint and no more; a hit counts only if it carries our reference, or, to be
//! adopted, nobody's, and an e-mail address or telephone number of the contact under a name that may be theirs.
//!
//! A delivery is a conversation of a few requests. It is written down as if answers came at once: the function that
//! decides runs from its beginning each time, takes the answers that are there, and ends with the first request that
//! has none yet. So nothing has to be remembered between two requests.
//!
//! What Previsto does not document is a setting; see [`PrevistoSettings`].

mod mapping;
mod read;
mod wire;

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method,
    header::{ACCEPT, CONTENT_TYPE},
};
use serde_json::Value;

use self::{
    mapping::Mapping,
    wire::{Contact, ErrorBody, Forms},
};
use super::{
    Accepted, Answer, Connector, Delivery, Effect, Failure, FailureClass, Field, LookUpKeys, Loss, NotSettable,
    Presence, Projection, REMOTE_CONTACT, Request, RequestKind, SetupError, Step, Verdict, classify,
    classify::StatusClasses,
    dialogue::{
        self, Answers, Heard, ambiguous, body_of, failed, is_compatible, judged, remote_ids, stays_as_it_is,
        unknown_contact, unreadable, without_clears,
    },
    relation::Relation,
    remote::{NoReader, Reader},
    session::{SecretSource, placement::Placement, static_token::StaticToken},
    written,
};
use crate::{
    config::{Adopt, CrmSettings, PrevistoSettings, SearchKey},
    contact::{ContactRecord, normalise, record::Status},
    crm::link::Link,
    event::{Operation, OutcomeKind, ReasonCode},
};

/// Where all contacts are.
const CONTACTS: &str = "/contacts";

/// The connector of one organisation.
#[derive(Debug)]
pub struct Previsto {
    settings: PrevistoSettings,
    adopt: Adopt,
    mapping: Mapping,
    forms: Forms,
    status_classes: StatusClasses,
}

impl Previsto {
    /// `instance` is what `meta[source]` says.
    pub fn new(crm: &CrmSettings, instance: &str) -> Result<Self, SetupError> {
        let mut settings = section(crm)?.clone();
        // What is found and was ours is brought to the projection as a whole, but for these.
        let left = crm.fields.iter().filter(|(_, rule)| rule.is_omitted()).map(|(name, _)| name.clone());
        settings.never_cleared.extend(left);
        Ok(Self {
            adopt: crm.adopt,
            mapping: Mapping::new(&settings, crm.on_delete, crm.on_erase, instance),
            forms: Forms { location: settings.location_form, clear: settings.clear_with },
            status_classes: StatusClasses::parse(&settings.status_classes)?,
            settings,
        })
    }

    /// What a contact of `record` can be found by, with `fields` as a create carries them.
    fn keys(&self, record: &ContactRecord, fields: &BTreeMap<String, Value>) -> LookUpKeys {
        let planted = self.settings.plant_number && self.settings.search_by.contains(&SearchKey::Number);
        let mut values = BTreeMap::new();
        for key in &self.settings.search_by {
            let value = match key {
                SearchKey::Number if planted => Some(record.contact_id.key()),
                SearchKey::Number => None,
                // The reference alone tells which is ours; the rest is for what may be adopted.
                SearchKey::Email | SearchKey::Phone if planted && self.adopt == Adopt::Never => None,
                SearchKey::Email | SearchKey::Phone => fields.get(field_of(*key)).and_then(wire::text_of),
            };
            values.extend(value.map(|value| (field_of(*key).to_owned(), value)));
        }
        LookUpKeys { values, planted }
    }

    fn may_clear(&self, path: &str, record: &ContactRecord) -> bool {
        let kept = self.settings.never_cleared.contains(path) && record.status != Status::Erased;
        let fixed = match wire::meta_key(path) {
            Some(key) => matches!(key, wire::meta::EXTERNAL_REF | wire::meta::SOURCE),
            None if path == wire::ARCHIVED => !self.settings.archived_on_update,
            None => !wire::is_payer(path) && !wire::clearable().any(|clearable| clearable == path),
        };
        !kept && !fixed
    }

    fn request(&self, method: Method, path: String, body: Option<Bytes>, kind: RequestKind) -> Request {
        const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        let mut headers: Vec<(HeaderName, HeaderValue)> = vec![(ACCEPT, JSON)];
        headers.extend(body.is_some().then_some((CONTENT_TYPE, FORM)));
        Request { method, path, headers, body: body.unwrap_or_default(), kind }
    }

    /// Why an answer is not a success, and what its body says of that.
    fn classified(&self, answer: &Answer, about: About) -> Option<(Failure, ErrorBody)> {
        let mut failure = classify::failure(answer, &self.status_classes)?;
        let said = wire::error(body_of(answer));
        let status = failure.reason.http_status.unwrap_or_default();
        if !self.settings.status_classes.contains_key(&status.to_string()) {
            match about {
                About::Linked if status == 404 => failure.class = FailureClass::Gone,
                // It was there a moment ago: the next search tells.
                About::Found if status == 404 => failure.class = FailureClass::Transient,
                About::Contacts | About::Linked | About::Found => {}
            }
            if failure.class == FailureClass::Rejected && said.kind.as_deref() == Some("api_error") {
                // Trouble of theirs, whatever the status.
                (failure.class, failure.effect) = (FailureClass::Transient, Effect::Unknown);
                failure.reason.code = ReasonCode::Refused;
            }
        }
        failure.reason.field = said.param.map(str::to_owned);
        Some((failure, said))
    }

    /// Why an answer to a request of a delivery is not a success.
    fn failure(&self, answer: &Answer, about: About, delivery: &Delivery<'_>) -> Option<Failure> {
        let (mut failure, said) = self.classified(answer, about)?;
        let keys = delivery.look_up.into_iter().flat_map(|keys| keys.values.values().map(String::as_str));
        let sent = delivery.projection.fields.values().filter_map(Value::as_str).chain(keys);
        failure.reason.crm_code = said.kind.and_then(|kind| classify::crm_code(&kind, sent));
        Some(failure)
    }
}

impl Connector for Previsto {
    fn project(&self, record: &ContactRecord, link: Option<&Link>) -> Result<Projection, Verdict> {
        self.mapping.project(record, link)
    }

    fn fields(&self) -> Vec<String> {
        wire::clearable().collect()
    }

    fn field(&self, name: &str) -> Result<Field, NotSettable> {
        wire::settable(name)
    }

    fn leaves_alone(&self, record: &ContactRecord, field: &str) -> bool {
        record.status != Status::Erased && self.settings.never_cleared.contains(field)
    }

    fn cannot_carry(&self) -> Vec<Loss> {
        self.mapping.cannot_carry()
    }

    fn consent_field(&self, pointer: &str) -> Option<String> {
        let key = match pointer {
            "/consent/marketing" => wire::meta::CONSENT_MARKETING,
            "/consent/dataProcessing" => wire::meta::CONSENT_DATA_PROCESSING,
            _ => return None,
        };
        Some(wire::meta_path(key))
    }

    fn look_up_keys(&self, record: &ContactRecord, projection: &Projection) -> Option<LookUpKeys> {
        Some(match record.status {
            Status::Live => self.keys(record, &projection.fields),
            // What is to go is found by what it was.
            Status::Deleted | Status::Merged | Status::Erased => self.keys(record, &self.mapping.reachable(record)),
        })
    }

    fn relations(&self, record: &ContactRecord) -> Vec<Relation> {
        Mapping::relations(record)
    }

    fn relates(&self) -> bool {
        true
    }

    fn next(&self, delivery: &Delivery<'_>, answers: &[Answer]) -> Step {
        let mut conversation =
            Conversation { previsto: self, delivery, answers: Answers::new(answers), without_payer: false };
        match conversation.run().unwrap_or_else(|step| *step) {
            Step::Done(accepted) if conversation.without_payer => {
                let fields = delivery.projection.fields.keys().filter(|path| wire::is_payer(path));
                Step::DoneBut { accepted, refused: fields.map(|path| path.as_str().into()).collect() }
            }
            step => step,
        }
    }

    fn reader(&self) -> Result<&dyn Reader, NoReader> {
        Ok(self)
    }
}

/// Whether a field of this name can be told never to be cleared, where free attributes begin with `prefix`.
pub(crate) fn is_clearable(field: &str, prefix: &str) -> bool {
    wire::clearable().any(|clearable| clearable == field)
        || wire::meta_key(field).is_some_and(|key| key.strip_prefix(prefix).is_some_and(|name| !name.is_empty()))
}

fn field_of(key: SearchKey) -> &'static str {
    match key {
        SearchKey::Number => wire::NUMBER,
        SearchKey::Email => wire::EMAIL,
        SearchKey::Phone => wire::PHONE,
    }
}

/// What the path of a request names, and so what a 404 says.
#[derive(Debug, Clone, Copy)]
enum About {
    Contacts,
    /// The contact that the link names.
    Linked,
    /// A contact that a search found.
    Found,
}

/// The requests of one delivery, in order.
struct Conversation<'a> {
    previsto: &'a Previsto,
    delivery: &'a Delivery<'a>,
    answers: Answers<'a>,
    /// Previsto does not take whoever pays for the contact.
    without_payer: bool,
}

impl<'a> Conversation<'a> {
    fn run(&mut self) -> Heard<Step> {
        let delivery = self.delivery;
        let id = delivery.link.and_then(|link| link.remote_ids.get(REMOTE_CONTACT));
        match (delivery.projection.presence, id) {
            (Presence::Absent, Some(id)) => {
                self.delete(id)?;
                Ok(self.done(id))
            }
            (Presence::Absent, None) => self.find_to_delete(),
            (Presence::Active | Presence::Inactive, Some(id)) => self.update(id),
            (Presence::Active | Presence::Inactive, None) if self.is_live() => self.find_or_create(),
            (Presence::Active | Presence::Inactive, None) => self.find_to_retire(),
        }
    }

    fn is_live(&self) -> bool {
        self.delivery.record.status == Status::Live
    }

    fn done(&self, id: &str) -> Step {
        dialogue::done(self.delivery, remote_ids(id))
    }

    fn done_as(operation: Operation, id: &str) -> Step {
        Step::Done(Accepted { operation, remote_ids: remote_ids(id) })
    }

    // What is said to Previsto, one request each.

    fn ask(&mut self, request: Request) -> Heard<&'a Answer> {
        self.answers.to(request)
    }

    fn succeed(&self, answer: &Answer, about: About) -> Heard<()> {
        self.previsto.failure(answer, about, self.delivery).map_or(Ok(()), failed)
    }

    fn path(id: &str) -> String {
        format!("{CONTACTS}/{}", wire::escape(id))
    }

    fn create(&mut self) -> Heard<Step> {
        let fields = without_clears(&self.delivery.projection.fields);
        let answer = self.write(CONTACTS.to_owned(), &fields, RequestKind::Create)?;
        self.succeed(answer, About::Contacts)?;
        let Some(contact) = wire::contact(body_of(answer)) else { return failed(unreadable(answer, Effect::Unknown)) };
        Self::is_archived_as_asked(&fields, contact.archived)?;
        Ok(Self::done_as(Operation::Create, &contact.id))
    }

    /// Writes `fields`; once more without who pays, if it is that contact which Previsto does not take. It may have gone
    /// there without our knowing, and is no reason to hold back this one.
    fn write(&mut self, path: String, fields: &BTreeMap<String, Value>, kind: RequestKind) -> Heard<&'a Answer> {
        let request = |fields: &BTreeMap<String, Value>| {
            let body = self.previsto.forms.body(fields).unwrap_or_default();
            self.previsto.request(Method::POST, path.clone(), Some(body), kind)
        };
        let whole = request(fields);
        let rest = fields.iter().filter(|(path, _)| !wire::is_payer(path));
        let rest = request(&rest.map(|(path, value)| (path.clone(), value.clone())).collect());
        let answer = self.ask(whole)?;
        let says_who_pays = fields.iter().any(|(path, value)| wire::is_payer(path) && !value.is_null());
        if !says_who_pays || !self.is_payer_refused(answer) {
            return Ok(answer);
        }
        self.without_payer = true;
        self.ask(rest)
    }

    fn is_payer_refused(&self, answer: &Answer) -> bool {
        self.previsto.failure(answer, About::Contacts, self.delivery).is_some_and(|failure| {
            failure.class == FailureClass::Rejected && failure.reason.field.as_deref() == Some(wire::PAYING_CONTACT_ID)
        })
    }

    /// Sets `fields`, and sees to it that the contact is archived or not, as they say.
    fn set(&mut self, id: &str, fields: &BTreeMap<String, Value>, about: About) -> Heard<()> {
        let answer = self.write(Self::path(id), fields, RequestKind::Set)?;
        self.succeed(answer, about)?;
        if !fields.contains_key(wire::ARCHIVED) {
            return Ok(());
        }
        let archived = match wire::contact(body_of(answer)).and_then(|contact| contact.archived) {
            None => self.read(id, about)?.archived,
            archived => archived,
        };
        Self::is_archived_as_asked(fields, archived)
    }

    /// An update is not documented to take `archived`: what comes back shows whether it did.
    fn is_archived_as_asked(fields: &BTreeMap<String, Value>, archived: Option<bool>) -> Heard<()> {
        match (fields.get(wire::ARCHIVED).and_then(Value::as_bool), archived) {
            (Some(asked), Some(archived)) if asked != archived => {
                judged(Verdict::new(OutcomeKind::Unsupported, ReasonCode::Deactivate))
            }
            _ => Ok(()),
        }
    }

    fn read(&mut self, id: &str, about: About) -> Heard<Contact> {
        let answer = self.ask(self.previsto.request(Method::GET, Self::path(id), None, RequestKind::Read))?;
        self.succeed(answer, about)?;
        wire::contact(body_of(answer)).map_or_else(|| failed(unreadable(answer, Effect::None)), Ok)
    }

    fn delete(&mut self, id: &str) -> Heard<()> {
        let answer = self.ask(self.previsto.request(Method::DELETE, Self::path(id), None, RequestKind::Set))?;
        let is_gone = answer.as_ref().is_ok_and(|response| response.status == http::StatusCode::NOT_FOUND);
        if is_gone && !self.previsto.settings.status_classes.contains_key("404") {
            return Ok(());
        }
        self.succeed(answer, About::Linked)
    }

    fn page(&mut self, text: &str, page: u32) -> Heard<Vec<Contact>> {
        let size = self.previsto.settings.page_size;
        let path = format!("{CONTACTS}?search={}&size={size}&page={page}", wire::escape(text));
        let answer = self.ask(self.previsto.request(Method::GET, path, None, RequestKind::Read))?;
        self.succeed(answer, About::Contacts)?;
        wire::page(body_of(answer)).map_or_else(|| failed(unreadable(answer, Effect::None)), Ok)
    }

    // What a delivery does with them.

    fn update(&mut self, id: &str) -> Heard<Step> {
        let fields = self.changed();
        if self.previsto.forms.body(&fields).is_none() {
            return judged(Verdict::new(OutcomeKind::Unchanged, ReasonCode::SameProjection));
        }
        self.set(id, &fields, About::Linked)?;
        Ok(self.done(id))
    }

    fn find_or_create(&mut self) -> Heard<Step> {
        let Some(keys) = self.delivery.look_up else { return self.create() };
        if keys.values.is_empty() {
            // Without an intent, and without our reference sent, no create can have left.
            return if self.may_be_there() { ambiguous() } else { self.create() };
        }
        let found = self.search(keys)?;
        match found.ours.as_slice() {
            [] => {}
            [one] => {
                self.set_found(one)?;
                return Ok(Self::done_as(Operation::Create, &one.id));
            }
            [..] => return ambiguous(),
        }
        let candidates: Vec<&Contact> = found.others.iter().filter(|hit| self.may_be_adopted(hit, keys)).collect();
        match candidates.as_slice() {
            [] => self.create(),
            [one] => self.adopt(one),
            [..] => ambiguous(),
        }
    }

    /// Archives or blanks a contact whose create may have landed. If it did not, there is nothing to archive.
    fn find_to_retire(&mut self) -> Heard<Step> {
        let ours = self.find_ours()?;
        for hit in &ours {
            self.set_found(hit)?;
        }
        match ours.first() {
            Some(first) => Ok(self.done(&first.id)),
            None => unknown_contact(),
        }
    }

    /// Deletes whatever carries our reference.
    fn find_to_delete(&mut self) -> Heard<Step> {
        let ours = self.find_ours()?;
        for hit in &ours {
            self.delete(&hit.id)?;
        }
        match ours.first() {
            Some(first) => Ok(self.done(&first.id)),
            None => unknown_contact(),
        }
    }

    /// By the keys of the create, and, where an update may have followed it, by those of the record as it last was.
    fn find_ours(&mut self) -> Heard<Vec<Contact>> {
        let record = self.delivery.record;
        let own = self.previsto.keys(record, &self.previsto.mapping.reachable(record));
        let as_sent = self.delivery.look_up.unwrap_or(&own);
        if as_sent.values.is_empty() && self.may_be_there() {
            return ambiguous();
        }
        let mut ours = self.search(as_sent)?.ours;
        if ours.is_empty() && own != *as_sent {
            ours = self.search(&own)?.ours;
        }
        Ok(ours)
    }

    /// Whether a create may have left for this contact. A predecessor that died without a trace cannot have sent one: it
    /// commits either our reference as planted, or an intent, before it does.
    fn may_be_there(&self) -> bool {
        self.was_sent() || self.delivery.link.is_some_and(|link| link.intent.is_some())
    }

    /// Whether the link knows what was sent, instead of suspecting anything: our reference goes with each first write.
    fn was_sent(&self) -> bool {
        let reference = wire::meta_path(wire::meta::EXTERNAL_REF);
        self.delivery.link.is_some_and(|link| link.sent.contains_key(&*reference))
    }

    /// Searches by one key after the other until one finds what is ours.
    fn search(&mut self, keys: &LookUpKeys) -> Heard<Found> {
        let settings = &self.previsto.settings;
        let mut order = settings.search_by.clone();
        // An intent of other settings may name more.
        for key in [SearchKey::Number, SearchKey::Email, SearchKey::Phone] {
            if !order.contains(&key) {
                order.push(key);
            }
        }
        // By id, since a page may show again what the one before it showed.
        let mut hits: BTreeMap<String, Contact> = BTreeMap::new();
        for text in order.into_iter().filter_map(|key| keys.values.get(field_of(key))) {
            let mut is_whole = false;
            for page in 0..settings.search_pages_max {
                let contacts = self.page(text, page)?;
                if contacts.is_empty() {
                    is_whole = true;
                    break;
                }
                hits.extend(contacts.into_iter().map(|contact| (contact.id.clone(), contact)));
            }
            if !is_whole {
                return ambiguous();
            }
            if hits.values().any(|hit| self.is_ours(hit)) {
                break;
            }
        }
        let (ours, others) = hits.into_values().partition(|hit| self.is_ours(hit));
        Ok(Found { ours, others })
    }

    fn is_ours(&self, hit: &Contact) -> bool {
        let key = self.delivery.record.contact_id.key();
        match hit.reference() {
            Some(reference) => reference == key,
            None => hit.number.as_deref() == Some(key.as_str()),
        }
    }

    /// Whether a hit is nobody's, and likely the contact.
    fn may_be_adopted(&self, hit: &Contact, keys: &LookUpKeys) -> bool {
        let is_marked = hit.reference().is_some()
            // The number that we plant, on a contact that lost its reference.
            || hit.number.as_ref().is_some_and(|number| crate::contact::ContactId::from_key(number.as_bytes()).is_some());
        let same = |field: &str, theirs: &Option<String>, normalised: fn(&str) -> Option<String>| {
            let ours = keys.values.get(field).and_then(|text| normalised(text));
            ours.is_some() && ours == theirs.as_deref().and_then(normalised)
        };
        let name = self.delivery.projection.fields.get(wire::NAME).and_then(Value::as_str).unwrap_or_default();
        self.previsto.adopt == Adopt::ByKey
            && !is_marked
            && (same(wire::EMAIL, &hit.email, normalise::email) || same(wire::PHONE, &hit.phone, written::phone))
            && hit.name.as_deref().is_some_and(|theirs| is_compatible(name, theirs))
    }

    /// Stamps a contact of nobody with our reference, and reads it back: somebody else may have stamped it just then.
    fn adopt(&mut self, hit: &Contact) -> Heard<Step> {
        let mut fields = self.delivery.projection.fields.clone();
        fields.insert(wire::meta_path(wire::meta::ADOPTED), Value::from("true"));
        self.wake(hit, &mut fields);
        self.set(&hit.id, &fields, About::Found)?;
        let stamped = self.read(&hit.id, About::Found)?;
        if self.is_ours(&stamped) { Ok(Self::done_as(Operation::Adopt, &hit.id)) } else { ambiguous() }
    }

    /// Brings a contact of ours to the projection, whatever it holds: a predecessor may have written anything.
    fn set_found(&mut self, hit: &Contact) -> Heard<()> {
        let mut fields = self.delivery.projection.fields.clone();
        // Of a contact that was adopted and then lost sight of, nobody knows what is from us: the rest is its owner's.
        if !hit.meta.contains_key(wire::meta::ADOPTED) || self.was_sent() {
            fields.extend(self.cleared());
        }
        if !stays_as_it_is(self.delivery.record) {
            let prefix = self.previsto.settings.attribute_prefix.as_str();
            let own = |key: &str| key.starts_with(prefix) || wire::meta::OF_RECORD.contains(&key);
            let paths = hit.meta.keys().filter(|key| own(key)).map(|key| wire::meta_path(key));
            for path in paths.filter(|path| self.previsto.may_clear(path, self.delivery.record)) {
                fields.entry(path).or_insert(Value::Null);
            }
        }
        self.wake(hit, &mut fields);
        self.set(&hit.id, &fields, About::Found)
    }

    /// An active contact is not archived, even if nothing was ever said about that.
    fn wake(&self, hit: &Contact, fields: &mut BTreeMap<String, Value>) {
        let is_active = self.delivery.projection.presence == Presence::Active;
        if is_active && hit.archived == Some(true) && self.previsto.settings.archived_on_update {
            fields.entry(wire::ARCHIVED.to_owned()).or_insert(Value::Bool(false));
        }
    }

    /// What an update carries.
    fn changed(&self) -> BTreeMap<String, Value> {
        let said = &self.delivery.projection.fields;
        let mut fields = dialogue::changed(self.delivery);
        fields.extend(self.cleared());
        if fields.keys().any(|path| wire::is_payer(path)) {
            self.say_who_pays(&mut fields);
        }
        if fields.keys().any(|path| wire::meta_key(path).is_some()) {
            // Whether `meta` is merged or replaced is not documented, so all that is ours goes with any part of it.
            let all = said.iter().filter(|(path, value)| wire::meta_key(path).is_some() && !value.is_null());
            fields.extend(all.map(|(path, value)| (path.clone(), value.clone())));
        }
        fields
    }

    /// Whoever no longer pays is taken away by whoever does. If that is somebody whom we cannot see now, and who was told to
    /// pay before, all stays as it is.
    fn say_who_pays(&self, fields: &mut BTreeMap<String, Value>) {
        let Delivery { projection, references, record, link, .. } = self.delivery;
        let said = projection.fields.iter().filter(|(path, _)| wire::is_payer(path));
        fields.extend(said.map(|(path, value)| (path.clone(), value.clone())));
        let mut unsaid = references.related().unsaid(record.contact_id);
        if unsaid.any(|path| link.is_some_and(|link| link.sent.contains_key(&path))) {
            fields.retain(|path, _| !wire::is_payer(path));
        }
    }

    /// What is to be cleared because the projection has it no longer.
    fn cleared(&self) -> BTreeMap<String, Value> {
        let Delivery { clears, projection, record, .. } = self.delivery;
        if stays_as_it_is(record) {
            return BTreeMap::new();
        }
        let gone = clears.iter().filter(|path| !projection.fields.contains_key(*path));
        gone.filter(|path| self.previsto.may_clear(path, record)).map(|path| (path.clone(), Value::Null)).collect()
    }
}

/// What a search found: with our reference, and without.
struct Found {
    ours: Vec<Contact>,
    others: Vec<Contact>,
}

fn section(crm: &CrmSettings) -> Result<&PrevistoSettings, SetupError> {
    crm.previsto.as_ref().ok_or(SetupError::Section { kind: "previsto" })
}

/// The session of one organisation: a static key.
pub(super) fn session(crm: &CrmSettings) -> Result<StaticToken, SetupError> {
    let settings = section(crm)?;
    let source = SecretSource::new(settings.api_key_env.as_deref(), settings.api_key_file.as_deref())?;
    Ok(StaticToken::new(source, Placement::BasicUser)?)
}

#[cfg(test)]
mod conversation;
#[cfg(test)]
mod driven;
#[cfg(test)]
mod read_back;
#[cfg(test)]
mod tests;
