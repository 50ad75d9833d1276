//! Ours to theirs: what Previsto should hold of a contact, and what of it Previsto has no place for.
//!
//! Previsto knows one name, one address, one telephone number and one e-mail address. What has no field but fits into a
//! text goes to the free dictionary `meta`, where people can see it though the product makes nothing of it. A value that
//! Previsto would refuse although the contact is fine without it (a number without its country, an unknown accounting
//! mode) is left out and reported as lost.
//!
//! Fields that steer the product (accounting, notification) belong to its users: they are written only where a record
//! names them among its free attributes.
//!
//! Every attribute of the document is either carried or reported; [`NOWHERE`] lists those without any counterpart.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{wire, wire::meta};
use crate::{
    config::{FormClear, MetaScalars, OnDelete, OnErase, PrevistoSettings},
    contact::{ContactId, ContactRecord, Document, document::Said, record::Status},
    crm::{
        Loss, Presence, Projection, REMOTE_CONTACT, Verdict,
        draft::{
            self, NAME_PARTS,
            why::{HALF_POSITION, NO_FIELD, NOT_IN_LIST, ONE_ONLY, SWITCHED_OFF},
        },
        link::Link,
        reading::{
            Items, Position, is_fax, is_of_type, member, member_text, post_office_box, says_something, street_lines,
            value,
        },
        relation::Relation,
        written,
    },
    event::ReasonCode,
};

/// The rules of one organisation in Previsto.
#[derive(Debug)]
pub(super) struct Mapping {
    settings: PrevistoSettings,
    on_delete: OnDelete,
    on_erase: OnErase,
    source: String,
}

/// Attributes that Previsto has no field for, and that make no sense as a text by themselves.
const NOWHERE: &[&str] = &["/organization/industry", "/identifiers", "/owner", "/photos"];
/// Where the document says what the contact is to others.
const RELATIONS: &str = "/relations";
const RELATION_NOTES: &str = "/relations/notes";
/// The type of a relation to the contact that pays for this one.
const PAYS: &str = "pays";

const NOT_INTERNATIONAL: &str = "not a full international number";
const NO_ADDRESS: &str = "not an e-mail address";

fn is_payer(item: &Value) -> bool {
    is_of_type(item, PAYS) && member_text(item, "subject").is_some()
}

fn payer(document: &Document) -> Option<Relation> {
    let item = Items::of(document, RELATIONS, is_payer).each().next()?;
    Some(Relation {
        place: wire::PAYING_CONTACT_ID.to_owned(),
        source: member_text(item, "source").map(str::to_owned),
        subject: member_text(item, "subject")?.to_owned(),
        notes: None,
    })
}

impl Mapping {
    pub(super) fn new(settings: &PrevistoSettings, on_delete: OnDelete, on_erase: OnErase, source: &str) -> Self {
        Self { settings: settings.clone(), on_delete, on_erase, source: source.to_owned() }
    }

    /// What no contact can bring to this organisation. Of arrays of which one item is carried, nothing is told.
    pub(super) fn cannot_carry(&self) -> Vec<Loss> {
        let parts =
            ["/emails/type", "/phoneNumbers/type", "/addresses/type", "/addresses/district", "/addresses/region"];
        NOWHERE.iter().copied().chain(parts).map(|field| Loss { field, why: NO_FIELD }).collect()
    }

    pub(super) fn project(&self, record: &ContactRecord, link: Option<&Link>) -> Result<Projection, Verdict> {
        match record.status {
            Status::Live => self.live(record, link),
            _ if !link.is_some_and(Link::may_be_held) => Err(Verdict::never_sent()),
            Status::Deleted | Status::Merged => match self.on_delete {
                OnDelete::Keep => Err(Verdict::kept()),
                OnDelete::Delete => Ok(Projection::absent()),
                OnDelete::Deactivate if !self.settings.archived_on_update => {
                    Err(Verdict::unsupported(ReasonCode::Deactivate))
                }
                OnDelete::Deactivate => Ok(self.archived(record)),
            },
            Status::Erased => match self.on_erase {
                OnErase::Keep => Err(Verdict::kept()),
                OnErase::Delete => Ok(Projection::absent()),
                OnErase::Blank if self.settings.clear_with == FormClear::Omit => {
                    Err(Verdict::unsupported(ReasonCode::Erase))
                }
                OnErase::Blank => Ok(self.blank(record.contact_id)),
            },
        }
    }

    fn live(&self, record: &ContactRecord, link: Option<&Link>) -> Result<Projection, Verdict> {
        let mut draft = self.draft(record);
        draft.all()?;
        let presence = draft.presence(link);
        Ok(draft.finish(presence))
    }

    /// The contact as it last was, archived. A record without a document archives the contact as it is.
    fn archived(&self, record: &ContactRecord) -> Projection {
        let mut draft = self.draft(record);
        // Previsto has a name already; that the record has none any more changes nothing.
        if let Err(_nameless) = draft.all() {
            draft.rest();
        }
        draft.set(wire::ARCHIVED, true);
        draft.finish(Presence::Inactive)
    }

    /// Nothing but our own reference, which tells nobody anything.
    fn blank(&self, contact: ContactId) -> Projection {
        let mut fields: BTreeMap<String, Value> = wire::clearable().map(|path| (path, Value::Null)).collect();
        fields.remove(wire::ARCHIVED);
        if self.settings.archived_on_update {
            fields.insert(wire::ARCHIVED.to_owned(), Value::Bool(true));
        }
        fields.insert(wire::NAME.to_owned(), self.settings.blank_name.as_str().into());
        fields.extend(self.references(contact));
        Projection { fields, presence: Presence::Inactive, losses: Vec::new() }
    }

    /// What marks a contact as ours.
    fn references(&self, contact: ContactId) -> BTreeMap<String, Value> {
        let mut fields = BTreeMap::from([(wire::meta_path(meta::EXTERNAL_REF), contact.key().into())]);
        if self.settings.plant_number {
            fields.insert(wire::NUMBER.to_owned(), contact.key().into());
        }
        if self.settings.send_source {
            fields.insert(wire::meta_path(meta::SOURCE), self.source.as_str().into());
        }
        fields
    }

    fn draft<'a>(&'a self, record: &'a ContactRecord) -> Draft<'a> {
        Draft::new(&self.settings, record, self.references(record.contact_id))
            .never_clearing(&self.settings.never_cleared)
    }

    /// The contact that pays for this one: the first that is named so.
    pub(super) fn relations(record: &ContactRecord) -> Vec<Relation> {
        let document = record.contact.as_ref().filter(|_| record.status != Status::Erased);
        document.and_then(payer).into_iter().collect()
    }

    /// The e-mail address and the telephone number that a document gives.
    pub(super) fn reachable(&self, record: &ContactRecord) -> BTreeMap<String, Value> {
        let mut draft = self.draft(record);
        draft.fields.clear();
        draft.email();
        draft.phone();
        draft.fields
    }
}

/// A projection in the making.
type Draft<'a> = draft::Draft<'a, PrevistoSettings>;

impl Draft<'_> {
    /// All but the presence. A contact without a name is none.
    fn all(&mut self) -> Result<(), Verdict> {
        self.name()?;
        self.rest();
        Ok(())
    }

    fn rest(&mut self) {
        self.email();
        self.phone();
        self.address();
        self.organization();
        self.dictionary();
        self.say(wire::NOTE, self.text("/notes"));
        self.free_attributes();
        self.relations();
        self.lose_each_said(NOWHERE, NO_FIELD);
    }

    /// Who pays is added once it is known who that is; of other relations nothing is carried.
    fn relations(&mut self) {
        let named = Items::of(self.document, RELATIONS, |item| item.as_object().is_some_and(|item| !item.is_empty()));
        let carried = usize::from(payer(self.document).is_some());
        let has_notes = named.each().any(|item| is_payer(item) && member_text(item, "notes").is_some());
        if named.count() > carried {
            self.lose(RELATIONS, NO_FIELD);
        }
        if has_notes {
            self.lose(RELATION_NOTES, NO_FIELD);
        }
    }

    fn name(&mut self) -> Result<(), Verdict> {
        let organization = self.words("/organization/name").filter(|_| self.is_organization());
        let person = self.persons_name();
        let Some(name) = organization.map(str::to_owned).or(person) else {
            let pointer = if self.is_organization() { "/organization/name" } else { "/name" };
            return Err(Verdict::missing(pointer));
        };
        for pointer in NAME_PARTS {
            // What stands in the name that is sent is carried, though nobody can tell the parts apart any more.
            if self.words(pointer).is_some_and(|part| !holds_words(&name, part)) {
                self.lose(pointer, NO_FIELD);
            }
        }
        self.set(wire::NAME, name);
        Ok(())
    }

    /// The full name, or else its parts without titles.
    fn persons_name(&self) -> Option<String> {
        if let Some(formatted) = self.words("/name/formatted") {
            return Some(formatted.trim().to_owned());
        }
        let parts = ["/name/givenName", "/name/middleName", "/name/familyName"];
        let parts: Vec<&str> = parts.into_iter().filter_map(|part| self.words(part)).map(str::trim).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    }

    fn email(&mut self) {
        let emails = Items::of(self.document, "/emails", |item| member_text(item, "value").is_some());
        let chosen = emails.first(|item| member_text(item, "value").is_some_and(|text| written::email(text).is_some()));
        if let Some((item, text)) = chosen.and_then(|item| Some((item, member_text(item, "value")?))) {
            self.set(wire::EMAIL, text.trim());
            self.lose_member(item, "type", "/emails/type");
        } else if emails.are_empty {
            self.clear(wire::EMAIL);
        }
        let unfit = emails.each().filter(|item| member_text(item, "value").and_then(written::email).is_none()).count();
        if unfit > 0 {
            self.lose("/emails/value", NO_ADDRESS);
        }
        if emails.count() - unfit > 1 {
            self.lose("/emails/value", ONE_ONLY);
        }
    }

    fn phone(&mut self) {
        let phones = Items::of(self.document, "/phoneNumbers", |item| member_text(item, "value").is_some());
        let written = |item: &Value| written::phone_in(self.rules.phone_form, item);
        let fits = |item: &Value| !is_fax(item) && written(item).is_some();
        let mobile = phones.first(|item| fits(item) && is_of_type(item, "mobile"));
        let chosen = mobile.or_else(|| phones.first(fits));
        let fitting = phones.each().filter(|item| fits(item)).count();
        let unfit = phones.each().filter(|item| !is_fax(item) && written(item).is_none()).count();
        if let Some((item, text)) = chosen.and_then(|item| Some((item, written(item)?))) {
            self.set(wire::PHONE, text);
            self.lose_member(item, "type", "/phoneNumbers/type");
        } else if phones.are_empty {
            self.clear(wire::PHONE);
        }
        if unfit > 0 {
            self.lose("/phoneNumbers/value", NOT_INTERNATIONAL);
        }
        if phones.each().any(is_fax) {
            self.lose("/phoneNumbers/value", NO_FIELD);
        }
        if fitting > 1 {
            self.lose("/phoneNumbers/value", ONE_ONLY);
        }
    }

    fn lose_member(&mut self, item: &Value, member: &str, pointer: &'static str) {
        if member_text(item, member).is_some() {
            self.lose(pointer, NO_FIELD);
        }
    }

    fn address(&mut self) {
        let addresses = Items::of(self.document, "/addresses", |item| says_something(Said::Value(item)));
        let of_type = |label: &'static str| addresses.first(move |item| is_of_type(item, label));
        let chosen = of_type("work").or_else(|| of_type("home")).or_else(|| addresses.first(|_| true));
        if addresses.count() > 1 {
            self.lose("/addresses", ONE_ONLY);
        }
        let Some(address) = chosen else {
            if addresses.are_empty {
                for field in
                    [wire::ADDRESS, wire::APARTMENT, wire::POSTAL_CODE, wire::CITY, wire::COUNTRY_CODE, wire::LOCATION]
                {
                    self.clear(field);
                }
            }
            return;
        };
        self.lose_member(address, "type", "/addresses/type");
        self.lose_member(address, "district", "/addresses/district");
        self.lose_member(address, "region", "/addresses/region");
        self.street(address);
        self.say(wire::APARTMENT, member(address, "apartment"));
        self.say(wire::POSTAL_CODE, member(address, "postalCode"));
        self.say(wire::CITY, member(address, "locality"));
        self.say(wire::COUNTRY_CODE, member(address, "country"));
        self.location(address);
    }

    /// Street with number, further lines, floor; where there is none of them, the box.
    fn street(&mut self, address: &Value) {
        let street = member(address, "streetAddress");
        let mut lines = street_lines(address, self.rules.street_number);
        lines.extend(member_text(address, "floor").map(str::to_owned));
        match member(address, "poBox") {
            Said::Value(number) if lines.is_empty() => lines.push(post_office_box(number)),
            Said::Value(_) => self.lose("/addresses/poBox", NO_FIELD),
            Said::Empty | Said::Absent => {}
        }
        if !lines.is_empty() {
            self.set(wire::ADDRESS, lines.join(", "));
        } else if street == Said::Empty {
            self.clear(wire::ADDRESS);
        }
    }

    /// Both degrees or neither: without a position, Previsto finds one by the address itself.
    fn location(&mut self, address: &Value) {
        match Position::of(address) {
            Position::Unsaid => {}
            Position::Empty => self.clear(wire::LOCATION),
            Position::Known { latitude, longitude } => self.set(wire::LOCATION, vec![longitude, latitude]),
            Position::Half => self.lose("/addresses/geo", HALF_POSITION),
        }
    }

    fn organization(&mut self) {
        if !self.is_organization() {
            self.say(wire::meta_path(meta::ORGANIZATION), self.text("/organization/name"));
        }
        let (tax, register) = (self.text("/organization/vatNumber"), self.text("/organization/registrationNumber"));
        match (tax, register) {
            (Said::Value(tax), register) => {
                self.set(wire::REGISTRATION_NO, tax);
                if value(register).is_some() {
                    self.lose("/organization/registrationNumber", ONE_ONLY);
                }
            }
            (_, Said::Value(register)) => self.set(wire::REGISTRATION_NO, register),
            (Said::Empty, _) | (_, Said::Empty) => self.clear(wire::REGISTRATION_NO),
            (Said::Absent, Said::Absent) => {}
        }
    }

    fn dictionary(&mut self) {
        for (key, pointer) in [
            (meta::KIND, "/kind"),
            (meta::DEPARTMENT, "/organization/department"),
            (meta::JOB_TITLE, "/organization/title"),
            (meta::ORGANIZATION_TYPE, "/organization/type"),
            (meta::MARKET_SECTOR, "/organization/marketSector"),
            (meta::BIRTH_DATE, "/birthDate"),
            (meta::GENDER, "/gender"),
            (meta::LANGUAGE, "/preferredLanguage"),
        ] {
            self.say(wire::meta_path(key), self.text(pointer));
        }
        for (key, pointer) in [
            (meta::CONSENT_MARKETING, "/consent/marketing"),
            (meta::CONSENT_DATA_PROCESSING, "/consent/dataProcessing"),
        ] {
            match self.document.at(pointer) {
                Said::Value(Value::Bool(consents)) => self.set(wire::meta_path(key), consents.to_string()),
                Said::Empty => self.clear(wire::meta_path(key)),
                Said::Value(_) | Said::Absent => {}
            }
        }
    }

    fn free_attributes(&mut self) {
        let Said::Value(Value::Object(attributes)) = self.document.at("/attributes") else { return };
        for (name, value) in attributes {
            if name == wire::NOTIFY_BEFORE_WORK {
                match value {
                    Value::Bool(notifies) => self.set(wire::NOTIFY_BEFORE_WORK, *notifies),
                    Value::Null => self.clear(wire::NOTIFY_BEFORE_WORK),
                    _ => self.lose("/attributes", NOT_IN_LIST),
                }
            } else if let Some((field, choices)) = wire::STEERING.iter().find(|(field, _)| field == name) {
                match plain(value) {
                    None => self.clear(*field),
                    Some(text) if choices.is_empty() || choices.contains(&text.as_str()) => self.set(*field, text),
                    Some(_) => self.lose("/attributes", NOT_IN_LIST),
                }
            } else {
                self.free_attribute(name, value);
            }
        }
    }

    fn free_attribute(&mut self, name: &str, value: &Value) {
        let path = wire::meta_path(&format!("{}{name}", self.rules.attribute_prefix));
        let is_text = matches!(value, Value::String(_) | Value::Null);
        if !wire::is_key(name) || (!is_text && self.rules.meta_scalars == MetaScalars::Omit) {
            if !value.is_null() {
                self.lose("/attributes", NO_FIELD);
            }
            return;
        }
        match plain(value) {
            Some(text) => self.set(path, text),
            None => self.clear(path),
        }
    }

    /// Where a document does not say whether it is active, it is: Previsto's own default, so Previsto is told only if it
    /// was told something before.
    fn presence(&mut self, link: Option<&Link>) -> Presence {
        let said = self.presence_said();
        let is_linked = link.is_some_and(|link| link.remote_ids.contains_key(REMOTE_CONTACT));
        if is_linked && !self.rules.archived_on_update {
            if said.is_some() {
                self.lose("/active", SWITCHED_OFF);
            }
            return link.and_then(|link| link.presence).unwrap_or_default();
        }
        let was_told = link.is_some_and(|link| link.sent.contains_key(wire::ARCHIVED));
        let told = said.or(was_told.then_some(Presence::Active));
        if let Some(presence) = told {
            self.set(wire::ARCHIVED, presence == Presence::Inactive);
        }
        told.unwrap_or_default()
    }
}

/// A scalar as text; `None` where it says nothing.
fn plain(value: &Value) -> Option<String> {
    wire::text_of(value).filter(|text| !text.trim().is_empty())
}

/// Whether all words of `part` stand in `text`.
fn holds_words(text: &str, part: &str) -> bool {
    let words: BTreeSet<&str> = text.split_whitespace().map(|word| word.trim_end_matches(',')).collect();
    part.split_whitespace().all(|word| words.contains(word.trim_end_matches(',')))
}
