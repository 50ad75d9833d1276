//! The requests of one delivery to CRM.COM, in order.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use super::{
    CrmCom, get, name_of,
    photo::{self, Photo},
    place_of, post, refusals, sets,
    wire::{self, Contact, Entry, Envelope, Members, Set, relations},
};
use crate::{
    config::{Adopt, CrmComCountryBy, CrmComKey, CrmComObjectUpdates},
    contact::{normalise, record::Status},
    crm::{
        Accepted, Answer, Delivery, Effect, Failure, FailureClass, LookUpKeys, REMOTE_CONTACT, Request, RequestKind,
        Step, Verdict,
        dialogue::{
            self, Answers, Heard, ambiguous, failed, is_compatible, judged, remote_ids, stays_as_it_is,
            unknown_contact, without_clears,
        },
        link::{Link, Sent},
    },
    event::{Operation, OutcomeKind, Reason, ReasonCode},
};

const CREATE: &str = "/contact_information/create";
const UPDATE: &str = "/contact_information/update";

/// Stands behind our reference in a contact that was there before us, until all of the record was brought to it.
const BEFORE_US: &str = " adopted";
/// The role of a remote id that says the same of a link; [`ALL_BROUGHT`] once it is over.
const ADOPTED: &str = "adopted";
const ALL_BROUGHT: &str = "all";
const NOT_YET: &str = "part";

/// What the path of a request names, and so what it means that there is no such contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    /// None, or a new one.
    Contacts,
    /// The contact that the link names.
    Linked,
    /// A contact that a search found.
    Found,
    /// The photo of the contact that the link names, which may have none.
    Photo,
}

/// What became of what the contact itself is to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// Nothing differs from what we remember.
    Nothing,
    /// What differs from what we remember does not differ from what is there.
    Seen,
    Sent,
}

/// A hit of a search.
struct Hit {
    contact: Contact,
    /// The keys that it has in common with what was searched for.
    agrees: bool,
}

pub(super) struct Conversation<'a> {
    crm_com: &'a CrmCom,
    delivery: &'a Delivery<'a>,
    answers: Answers<'a>,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(crm_com: &'a CrmCom, delivery: &'a Delivery<'a>, answers: &'a [Answer]) -> Self {
        Self { crm_com, delivery, answers: Answers::new(answers) }
    }

    pub(super) fn run(&mut self) -> Heard<Step> {
        let id = self.delivery.link.and_then(|link| link.remote_ids.get(REMOTE_CONTACT));
        match id {
            Some(id) => self.update(id),
            None if self.delivery.record.status == Status::Live => self.find_or_create(),
            None => self.find_to_retire(),
        }
    }

    fn done(&self, id: &str) -> Step {
        let mut remote_ids = remote_ids(id);
        if self.is_adopted() {
            remote_ids.insert(ADOPTED.to_owned(), ALL_BROUGHT.to_owned());
        }
        dialogue::done(self.delivery, remote_ids)
    }

    /// Whether the contact was there before us, and has never held all of the record.
    fn is_adopted(&self) -> bool {
        self.delivery.link.and_then(|link| link.remote_ids.get(ADOPTED)).is_some_and(|how_much| how_much == NOT_YET)
    }

    // What is said to CRM.COM.

    fn ask(&mut self, request: Request) -> Heard<&'a Answer> {
        self.answers.to(request)
    }

    /// What a success holds.
    fn read(&self, answer: &'a Answer, about: About, effect: Effect) -> Heard<Envelope> {
        let failure = match self.crm_com.refusals.read(answer) {
            Ok(Some(envelope)) => return Ok(envelope),
            Ok(None) => {
                let reason = ReasonCode::Refused.into();
                Failure { class: FailureClass::Transient, effect, reason, retry_after: None }
            }
            Err(failure) => failure,
        };
        let is_built_in = !self.crm_com.settings.code_classes.contains_key("NOT_FOUND");
        let class = match (failure.class, about) {
            (FailureClass::Gone, About::Contacts) if is_built_in => FailureClass::Rejected,
            // It was there a moment ago: the next search tells.
            (FailureClass::Gone, About::Found) if is_built_in => FailureClass::Transient,
            (class, _) => class,
        };
        let keys = self.delivery.look_up.into_iter().flat_map(|keys| keys.values.values().map(String::as_str));
        let sent = self.delivery.projection.fields.values().flat_map(texts).chain(keys);
        let failure = refusals::told(Failure { class, ..failure }, answer, sent);
        failed(failure)
    }

    fn show(&mut self, id: &str, names: &[&str], about: About) -> Heard<Contact> {
        let settings = &self.crm_com.settings;
        let mut path = super::identified("show", id);
        if settings.send_fields_set {
            let names: Vec<&str> =
                ["id", wire::TYPE, &settings.external_ref_slot].iter().chain(names).copied().collect();
            path = format!("{path}&fields_set={}", names.join(","));
        }
        let answer = self.ask(get(path))?;
        let envelope = self.read(answer, about, Effect::None)?;
        Contact::of(envelope.data).map_or_else(|| self.unreadable(answer, Effect::None), Ok)
    }

    /// An answer of success that lacks what is needed of it.
    fn unreadable<T>(&self, answer: &Answer, effect: Effect) -> Heard<T> {
        let reason = ReasonCode::Refused.into();
        let failure = Failure { class: FailureClass::Transient, effect, reason, retry_after: None };
        failed(refusals::told(failure, answer, []))
    }

    /// Writes, with one way after the other to name the countries, until the tenant knows them. Nothing is stored of a
    /// write that is refused.
    fn write(&mut self, ways: &[CrmComCountryBy], request: impl Fn(CrmComCountryBy) -> Request) -> Heard<&'a Answer> {
        let mut ways = ways.iter().peekable();
        loop {
            let way = ways.next().expect("there is one way at least");
            let answer = self.ask(request(*way))?;
            if !self.crm_com.refusals.lacks_reference(answer) || ways.peek().is_none() {
                return Ok(answer);
            }
        }
    }

    fn create(&mut self) -> Heard<Step> {
        let settings = &self.crm_com.settings;
        let fields = without_clears(&self.delivery.projection.fields);
        let answer = self.write(&sets::ways(settings, fields.values()), |country_by| {
            let mut body = wire::nested(Members::default(), &sets::with_countries(settings, &fields, country_by));
            for set in Set::ALL {
                let items = sets::entries(settings, set, &of_set(&fields, set), country_by);
                body = wire::with_set(body, set, items);
            }
            post(CREATE, &body, RequestKind::Create)
        })?;
        let envelope = self.read(answer, About::Contacts, Effect::Unknown)?;
        let Some(contact) = Contact::of(envelope.data) else { return self.unreadable(answer, Effect::Unknown) };
        let (operation, remote_ids) = (Operation::Create, remote_ids(&contact.id));
        let left: Vec<Arc<str>> =
            fields.keys().filter(|path| is_apart(path)).map(|path| path.as_str().into()).collect();
        if !left.is_empty() {
            return Ok(Step::Part { remote_ids, left });
        }
        Ok(Step::Done(Accepted { operation, remote_ids }))
    }

    /// Brings what differs: first the contact itself, then what it is to others, then its photo.
    fn update(&mut self, id: &str) -> Heard<Step> {
        let (mut apart, fields): (BTreeMap<_, _>, BTreeMap<_, _>) =
            self.changed().into_iter().partition(|(path, _)| is_apart(path));
        let written = self.write_contact(id, fields)?;
        if apart.is_empty() {
            return match written {
                Written::Nothing => judged(Verdict::new(OutcomeKind::Unchanged, ReasonCode::SameProjection)),
                Written::Seen | Written::Sent => Ok(self.done(id)),
            };
        }
        if written == Written::Sent && self.goes_in_parts() {
            let left = apart.into_keys().map(Arc::from).collect();
            return Ok(Step::Part { remote_ids: remote_ids(id), left });
        }
        let photo = apart.remove(wire::PHOTO);
        let refused = self.relate(id, &apart)?;
        if let Some(photo) = photo {
            self.bring_photo(id, &photo)?;
        }
        match self.done(id) {
            Step::Done(accepted) if !refused.is_empty() => Ok(Step::DoneBut { accepted, refused }),
            step => Ok(step),
        }
    }

    /// Makes the contact to others what `wanted` says, by path; `null` for nothing. Returns what CRM.COM did not take.
    fn relate(&mut self, id: &str, wanted: &BTreeMap<String, Value>) -> Heard<Vec<Arc<str>>> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let shown = self.show(id, &[relations::SET], About::Linked)?;
        if self.owner(&shown) == Owner::Another {
            return ambiguous();
        }
        let Some(entries) = shown.relations() else {
            // Nothing is added to what was not seen.
            let reason = ReasonCode::Refused.into();
            let failure = Failure { class: FailureClass::Transient, effect: Effect::None, reason, retry_after: None };
            return failed(failure);
        };
        let entries: Vec<Entry<'_>> = entries.collect();
        let mut refused = Vec::new();
        for (path, value) in wanted {
            let Some(action) = self.relation_action(path, value, &entries) else { continue };
            let identifier = Members::default().with("id", id);
            let body = Members::default().with_object("contact_information_identifier", identifier);
            let body = body.with_list(relations::SET, vec![action]);
            let answer = self.ask(self.crm_com.update_request(body))?;
            let by_other = |failure: &Failure| {
                use FailureClass::{Conflict, Gone, Rejected};
                matches!(failure.class, Rejected | Gone | Conflict) && failure.effect == Effect::None
            };
            match self.crm_com.refusals.read(answer) {
                // The contact itself was there a moment ago.
                Err(failure) if by_other(&failure) => refused.push(path.as_str().into()),
                _ => drop(self.read(answer, About::Linked, Effect::Unknown)?),
            }
        }
        Ok(refused)
    }

    /// What it takes to make one relation what it is to be; `None` if it is that.
    fn relation_action(&self, path: &str, value: &Value, entries: &[Entry<'_>]) -> Option<Members> {
        let (of_type, other) = relations::of_path(path)?;
        let said = value.get("id").and_then(Value::as_str);
        let other = said.or_else(|| self.delivery.references.related().id(other))?;
        let is_it = |entry: &&Entry<'_>| {
            entry.other().as_deref() == Some(other)
                && entry.of_type().as_deref().and_then(relations::of_text) == Some(of_type)
        };
        let named = |word: &str, entry: &Entry<'_>| {
            let identifier = Members::default().with("id", entry.id().unwrap_or_default());
            wire::action(word).with_object("relation_identifier", identifier)
        };
        let notes = value.get("notes").and_then(Value::as_str);
        match (said, entries.iter().find(is_it)) {
            (Some(_), Some(entry)) if entry.text("notes") == notes => None,
            (Some(_), Some(entry)) => {
                Some(named("UPDATE", entry).with("notes", notes.map_or(Value::Null, Value::from)))
            }
            (Some(id), None) => {
                let other = Members::default().with("id", id);
                let party = &self.crm_com.settings.relation_party;
                let action = wire::action("ADD").with(wire::TYPE, of_type).with_object(party, other);
                Some(if let Some(notes) = notes { action.with("notes", notes) } else { action })
            }
            (None, entry) => entry.map(|entry| named("REMOVE", entry)),
        }
    }

    /// Whether what a first request brought is committed before the next. It is not where the next delivery would bring it
    /// anew: an adopted contact's mark is set until all is there, and where all is in doubt, it stays so until the end.
    fn goes_in_parts(&self) -> bool {
        let is_known = |link: &Link| link.sent.values().any(|sent| matches!(sent, Sent::Hash(_)));
        self.delivery.record.status == Status::Live && !self.is_adopted() && self.delivery.link.is_some_and(is_known)
    }

    /// Makes `photo` the contact's, or none if it is `null`.
    fn bring_photo(&mut self, id: &str, photo: &Value) -> Heard<()> {
        let known = self.delivery.link.and_then(|link| link.sent.get(wire::PHOTO));
        let replaces = photo.is_null() || self.crm_com.settings.photo_replaces;
        let is_known = replaces && matches!(known, Some(Sent::Hash(_)));
        let shown = if is_known { None } else { Some(self.view_photo(id)?) };
        let identifier = Members::default().with("id", id);
        let body = Members::default().with_object("contact_information_identifier", identifier);
        let remove = post(photo::REMOVE, &body, RequestKind::Set);
        let (request, about) = match Photo::of_value(photo) {
            Some(photo) if shown.as_ref().is_some_and(|facts| photo.is_shown(facts)) => return Ok(()),
            Some(photo) => {
                if !replaces && shown.as_ref().is_some_and(photo::is_there) {
                    let answer = self.ask(remove)?;
                    self.photo_facts(answer, About::Photo, Effect::Unknown)?;
                }
                (photo.add(id), About::Linked)
            }
            None if shown.as_ref().is_some_and(|facts| !photo::is_there(facts)) => return Ok(()),
            None => (remove, About::Photo),
        };
        let answer = self.ask(request)?;
        match self.photo_facts(answer, about, Effect::Unknown) {
            Err(step) => match *step {
                Step::Failed(Failure { class: FailureClass::Rejected, effect, reason, retry_after }) => {
                    let reason = Reason { field: Some("/photos".to_owned()), ..reason };
                    let failure = Failure { class: FailureClass::Rejected, effect, reason, retry_after };
                    failed(failure)
                }
                step => Err(Box::new(step)),
            },
            Ok(_) => Ok(()),
        }
    }

    fn view_photo(&mut self, id: &str) -> Heard<Value> {
        let answer = self.ask(get(super::identified(photo::VIEW, id)))?;
        self.photo_facts(answer, About::Photo, Effect::None)
    }

    /// What an answer says of a photo. The documents show none to a removal, and do not say how one looks of a contact that
    /// has no photo: a body without a word is a success, and a photo that is not found is not there.
    fn photo_facts(&self, answer: &'a Answer, about: About, effect: Effect) -> Heard<Value> {
        match self.crm_com.refusals.read(answer) {
            Ok(None) if answer.as_ref().is_ok_and(|response| response.body.is_empty()) => Ok(Value::Null),
            Err(failure) if failure.class == FailureClass::Gone && about == About::Photo => Ok(Value::Null),
            _ => self.read(answer, about, effect).map(|envelope| envelope.data),
        }
    }

    /// Brings what the contact itself is to hold.
    fn write_contact(&mut self, id: &str, mut fields: BTreeMap<String, Value>) -> Heard<Written> {
        let settings = &self.crm_com.settings;
        let is_erased = self.delivery.record.status == Status::Erased;
        let sets: Vec<Set> = Set::ALL.into_iter().filter(|set| !of_set(&fields, *set).is_empty()).collect();
        let wanted_type = fields.remove(wire::TYPE);
        if settings.object_updates == CrmComObjectUpdates::Whole {
            self.complete_objects(&mut fields);
        }
        let mut shown = None;
        if !sets.is_empty() || wanted_type.is_some() || is_erased {
            let names: Vec<&str> = sets.iter().map(|set| set.read_name()).collect();
            let contact = self.show(id, &names, About::Linked)?;
            if self.owner(&contact) == Owner::Another {
                return ambiguous();
            }
            let theirs = contact.contact_type();
            if let (Some(wanted), Some(theirs)) = (wanted_type.as_ref().and_then(Value::as_str), theirs.as_deref())
                && wanted != theirs
            {
                // A person never becomes a company, nor the other way round.
                return judged(Verdict::field(OutcomeKind::Rejected, ReasonCode::Conflict, "/kind"));
            }
            if let Some(theirs) = theirs.filter(|_| is_erased) {
                fields.retain(|path, _| wire::belongs(path, &theirs));
            }
            shown = Some(contact);
        }
        if let Some(contact) = &shown
            && sets.iter().any(|set| settings.send_fields_set && !contact.shows(*set))
        {
            // Nothing is added to what was not seen.
            let reason = ReasonCode::Refused.into();
            let failure = Failure { class: FailureClass::Transient, effect: Effect::None, reason, retry_after: None };
            return failed(failure);
        }
        let body = |country_by| {
            let identifier = Members::default().with("id", id);
            let start = Members::default().with_object("contact_information_identifier", identifier);
            let mut body = wire::nested(start, &sets::with_countries(settings, &fields, country_by));
            let written =
                shown.iter().flat_map(|contact| [Set::Phones, Set::Addresses, Set::Emails].map(|set| (set, contact)));
            for (set, contact) in written {
                let actions = sets::actions(settings, set, &of_set(&fields, set), contact, country_by);
                body = wire::with_set(body, set, actions);
            }
            body
        };
        let ways = sets::ways(settings, fields.values());
        if body(ways[0]).count() == 1 {
            return Ok(if shown.is_some() { Written::Seen } else { Written::Nothing });
        }
        let answer = self.write(&ways, |country_by| self.crm_com.update_request(body(country_by)))?;
        self.read(answer, About::Linked, Effect::Unknown)?;
        Ok(Written::Sent)
    }

    /// Adds all of an object of which `fields` has something.
    fn complete_objects(&self, fields: &mut BTreeMap<String, Value>) {
        for object in [wire::DEMOGRAPHICS, wire::COMPANY_PROFILE] {
            let is_inside = |path: &String| path.split_once('.').is_some_and(|(of, _)| of == object);
            if fields.keys().any(is_inside) {
                let said = self.delivery.projection.fields.iter().filter(|(path, _)| is_inside(path));
                for (path, value) in said {
                    fields.entry(path.clone()).or_insert_with(|| value.clone());
                }
            }
        }
    }

    // What a delivery does with them.

    fn find_or_create(&mut self) -> Heard<Step> {
        let Some(keys) = self.delivery.look_up else { return self.create() };
        if keys.values.is_empty() {
            // Without an intent, no create can have left.
            return if self.may_be_there() { ambiguous() } else { self.create() };
        }
        let hits = self.search(keys)?;
        if let Some(found) = self.ours_among(&hits)? {
            return Ok(found);
        }
        let mut candidates = hits.iter().filter(|hit| self.may_be_adopted(hit));
        match (candidates.next(), candidates.next()) {
            (None, _) => self.create(),
            (Some(one), None) => self.adopt(&one.contact),
            (Some(_), Some(_)) => ambiguous(),
        }
    }

    /// Finds a contact whose create may have landed. If it did not, there is nothing to retire.
    fn find_to_retire(&mut self) -> Heard<Step> {
        let own = self.crm_com.keys(&self.crm_com.mapping.reachable(self.delivery.record));
        let as_sent = self.delivery.look_up.unwrap_or(&own);
        if as_sent.values.is_empty() && self.may_be_there() {
            return ambiguous();
        }
        for keys in [as_sent, &own] {
            let hits = self.search(keys)?;
            if let Some(found) = self.ours_among(&hits)? {
                return Ok(found);
            }
            if own == *as_sent {
                break;
            }
        }
        unknown_contact()
    }

    /// Whether a create may have left for this contact. A predecessor that died without a trace cannot have sent one: it
    /// commits an intent before it does. Where one was once accepted, our reference is known to have been sent.
    fn may_be_there(&self) -> bool {
        let slot = self.crm_com.settings.external_ref_slot.as_str();
        self.delivery.link.is_some_and(|link| link.intent.is_some() || link.sent.contains_key(slot))
    }

    /// What is to be committed of the one hit that is ours, if there is one.
    fn ours_among(&self, hits: &[Hit]) -> Heard<Option<Step>> {
        let owned = hits.iter().map(|hit| (&hit.contact, self.owner(&hit.contact)));
        let mut ours = owned.filter(|(_, owner)| owner.is_we());
        match (ours.next(), ours.next()) {
            (None, _) => Ok(None),
            (Some((contact, owner)), None) => Ok(Some(found(&contact.id, owner))),
            (Some(_), Some(_)) => ambiguous(),
        }
    }

    /// Searches by one key after the other until one finds what is ours.
    fn search(&mut self, keys: &LookUpKeys) -> Heard<Vec<Hit>> {
        // By id, since a page may show again what the one before it showed.
        let mut hits: BTreeMap<String, Hit> = BTreeMap::new();
        for key in self.order() {
            let Some(value) = keys.values.get(name_of(key)) else { continue };
            for hit in self.list(key, value)? {
                let agrees = self.has(&hit, key, value);
                let known = hits.entry(hit.id.clone()).or_insert(Hit { contact: hit, agrees });
                known.agrees |= agrees;
            }
            if hits.values().any(|hit| self.owner(&hit.contact).is_we()) {
                break;
            }
        }
        Ok(hits.into_values().collect())
    }

    /// The keys as configured, and behind them those that an intent of other settings may name.
    fn order(&self) -> Vec<CrmComKey> {
        use CrmComKey::{
            EmailAddress, IdNumber, PassportNumber, PhoneNumber, SocialSecurityNumber, VatRegistrationNumber,
        };
        let mut order = self.crm_com.settings.search_by.clone();
        let all = [EmailAddress, PhoneNumber, VatRegistrationNumber, IdNumber, PassportNumber, SocialSecurityNumber];
        order.extend(all.into_iter().filter(|key| !self.crm_com.settings.search_by.contains(key)));
        order
    }

    fn list(&mut self, key: CrmComKey, value: &str) -> Heard<Vec<Contact>> {
        let settings = &self.crm_com.settings;
        let size = settings.page_size;
        let shown = match key {
            CrmComKey::EmailAddress => Set::Emails.read_name(),
            CrmComKey::PhoneNumber => Set::Phones.read_name(),
            key => place_of(settings, key).map_or(wire::DEMOGRAPHICS, |(object, _)| object),
        };
        let mut names = vec!["id", settings.external_ref_slot.as_str(), shown];
        if self.crm_com.adopt == Adopt::ByKey {
            names.extend([wire::TYPE, wire::FIRST_NAME, wire::LAST_NAME, wire::COMPANY_NAME]);
        }
        let fields = if settings.send_fields_set { format!("&fields_set={}", names.join(",")) } else { String::new() };
        let mut hits = Vec::new();
        for page in 0..settings.search_pages_max {
            let asked = format!("{}={}", name_of(key), wire::escape(value));
            let offset = u64::from(page) * u64::from(size);
            let paging =
                if settings.send_paging { format!("&number_of_results={size}&offset={offset}") } else { String::new() };
            let answer = self.ask(get(format!("/contact_information/list?{asked}{paging}{fields}")))?;
            if self.crm_com.refusals.found_nothing(answer) {
                return Ok(hits);
            }
            let envelope = self.read(answer, About::Contacts, Effect::None)?;
            let items = match envelope.data {
                Value::Array(items) => items,
                Value::Null => Vec::new(),
                _ => return self.unreadable(answer, Effect::None),
            };
            let is_last = !settings.send_paging || items.len() < size as usize;
            for item in items {
                // What cannot be read might be the one that is looked for.
                let Some(contact) = Contact::of(item) else { return self.unreadable(answer, Effect::None) };
                hits.push(contact);
            }
            if is_last {
                return Ok(hits);
            }
        }
        ambiguous()
    }

    /// Whether a hit has what was searched for, and not only something like it.
    fn has(&self, hit: &Contact, key: CrmComKey, value: &str) -> bool {
        match key {
            CrmComKey::EmailAddress => {
                let ours = normalise::email(value);
                ours.is_some()
                    && hit.entries(Set::Emails).any(|entry| entry.text("email").and_then(normalise::email) == ours)
            }
            CrmComKey::PhoneNumber => hit.entries(Set::Phones).any(|entry| {
                sets::shown_number(entry).is_some_and(|full| full == value) || entry.text("number") == Some(value)
            }),
            key => place_of(&self.crm_com.settings, key)
                .is_some_and(|(object, member)| hit.inner(object, member) == Some(value.trim())),
        }
    }

    /// Whether a hit is nobody's, and likely the contact.
    fn may_be_adopted(&self, hit: &Hit) -> bool {
        let said = |path: &str| self.delivery.projection.fields.get(path).and_then(Value::as_str).unwrap_or_default();
        let (ours, theirs) = if said(wire::TYPE) == wire::COMPANY {
            (said(wire::COMPANY_NAME).to_owned(), hit.contact.text(wire::COMPANY_NAME).unwrap_or_default().to_owned())
        } else {
            let theirs = [wire::FIRST_NAME, wire::LAST_NAME].map(|part| hit.contact.text(part).unwrap_or_default());
            (format!("{} {}", said(wire::FIRST_NAME), said(wire::LAST_NAME)), theirs.join(" "))
        };
        self.crm_com.adopt == Adopt::ByKey
            && hit.agrees
            && self.owner(&hit.contact) == Owner::Nobody
            && hit.contact.contact_type().as_deref() == Some(said(wire::TYPE))
            && is_compatible(&ours, &theirs)
    }

    /// Stamps a contact of nobody with our reference, and reads it back: somebody else may have stamped it just then.
    fn adopt(&mut self, hit: &Contact) -> Heard<Step> {
        let slot = self.crm_com.settings.external_ref_slot.as_str();
        let stamp = format!("{}{BEFORE_US}", self.delivery.record.contact_id.key());
        let identifier = Members::default().with("id", hit.id.as_str());
        let body = Members::default().with_object("contact_information_identifier", identifier).with(slot, stamp);
        let answer = self.ask(self.crm_com.update_request(body))?;
        self.read(answer, About::Found, Effect::Unknown)?;
        let stamped = self.show(&hit.id, &[], About::Found)?;
        let owner = self.owner(&stamped);
        if owner.is_we() { Ok(found(&hit.id, owner)) } else { ambiguous() }
    }

    fn owner(&self, contact: &Contact) -> Owner {
        let key = self.delivery.record.contact_id.key();
        match contact.text(&self.crm_com.settings.external_ref_slot) {
            None => Owner::Nobody,
            Some(text) => match text.strip_suffix(BEFORE_US) {
                Some(text) if text == key => Owner::WeAndOthers,
                None if text == key => Owner::We,
                _ => Owner::Another,
            },
        }
    }

    /// What an update carries.
    fn changed(&self) -> BTreeMap<String, Value> {
        let Delivery { clears, projection, record, link, .. } = self.delivery;
        let said = &projection.fields;
        let mut fields = dialogue::changed(self.delivery);
        if stays_as_it_is(record) {
            return fields;
        }
        // Of a contact that was there before us, only what it is known to have from us is cleared.
        let is_from_us = |path: &str| {
            let sent = link.and_then(|link| link.sent.get(path));
            !self.is_adopted() || matches!(sent, Some(Sent::Hash(_)))
        };
        let gone = clears.iter().filter(|path| !said.contains_key(*path) && is_from_us(path));
        let gone = gone.filter(|path| self.crm_com.may_clear(path, record, *link));
        let of_type = said.get(wire::TYPE).and_then(Value::as_str);
        // A company has nothing that only persons have.
        let gone = gone.filter(|path| of_type.is_none_or(|of_type| wire::belongs(path, of_type)));
        fields.extend(gone.map(|path| (path.clone(), Value::Null)));
        if self.is_adopted() {
            // The mark that it was there before us goes with the rest.
            fields.extend(self.crm_com.mapping.references(record.contact_id));
        }
        fields
    }
}

impl CrmCom {
    fn update_request(&self, body: Members) -> Request {
        let body = if self.settings.send_fields_set {
            let shown = wire::fields_set(&body);
            body.with("fields_set", shown)
        } else {
            body
        };
        post(UPDATE, &body, RequestKind::Set)
    }
}

/// Whether a field travels in a request of its own, after those for the contact itself.
pub(super) fn is_apart(path: &str) -> bool {
    path == wire::PHOTO || relations::of_path(path).is_some()
}

/// Whose a contact in CRM.COM is, by the reference that it carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Nobody,
    We,
    /// We, who took it as it was.
    WeAndOthers,
    Another,
}

impl Owner {
    fn is_we(self) -> bool {
        matches!(self, Self::We | Self::WeAndOthers)
    }
}

fn found(id: &str, owner: Owner) -> Step {
    let mut remote_ids = remote_ids(id);
    if owner == Owner::WeAndOthers {
        remote_ids.insert(ADOPTED.to_owned(), NOT_YET.to_owned());
    }
    Step::Found(remote_ids)
}

/// What is said of the entries of a set, by type.
fn of_set(fields: &BTreeMap<String, Value>, set: Set) -> BTreeMap<&str, &Value> {
    let of_set = |path: &'_ str| Set::of_path(path).filter(|(of, _)| *of == set).is_some();
    let entries = fields.iter().filter(|(path, _)| of_set(path));
    entries.filter_map(|(path, value)| Some((Set::of_path(path)?.1, value))).collect()
}

/// The texts in a value, which an answer might quote.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Object(members) => members.values().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}
