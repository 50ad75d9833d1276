//! Ours to theirs: what CRM.COM should hold of a contact, and what of it CRM.COM has no place for.
//!
//! A contact is a PERSON or a COMPANY, and much is for one of them alone. Addresses, telephone numbers and e-mail addresses
//! are sets with one entry of each type ([`entries`]). What a tenant decides by itself (categories, groups, languages, the
//! meaning of its user-defined fields) comes from tables in the settings; what is in none of them is reported as lost,
//! as is all that the documents have no field for ([`NOWHERE`]).

mod entries;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{
    photo::Photo,
    wire::{self, Set, Slot, inner},
};
use crate::{
    config::{CrmComSettings, OnDelete, OnErase},
    contact::{ContactId, ContactRecord, document::Said, record::Status, schema},
    crm::{
        CONSENTS, Loss, Presence, Projection, Verdict,
        draft::{
            self,
            why::{NO_FIELD, NOT_IN_LIST, SWITCHED_OFF},
        },
        link::Link,
        reading::{blank_is_empty, member_text, says_something},
        relation::Relation,
    },
    event::ReasonCode,
};

/// The rules of one tenant of CRM.COM.
#[derive(Debug)]
pub(super) struct Mapping {
    settings: CrmComSettings,
    on_delete: OnDelete,
    on_erase: OnErase,
    source: String,
}

/// Attributes that CRM.COM has no field for.
const NOWHERE: &[&str] =
    &["/name/honorificSuffix", "/organization/department", "/organization/title", "/consent/dataProcessing", "/active"];

const NOT_OF_PERSONS: &str = "a person has no such field";
const NOT_OF_COMPANIES: &str = "a company has no such field";
const NOT_IN_TABLE: &str = "not in the configured table";
const DOES_NOT_FIT: &str = "does not fit into the configured field";
const ONE_PHOTO: &str = "there is one photo only";

/// Where the document says whether a contact is active.
const ACTIVE: &str = "/active";
/// Where the document has photos.
const PHOTOS: &str = "/photos";
/// Where it says what the contact is to others.
const RELATIONS: &str = "/relations";
/// Free attributes that have fields of their own.
const PRIVACY_LEVEL: &str = "privacyLevel";
const AFFILIATE_MARKETING: &str = "sendAffiliateMarketingMaterial";
/// Identifiers that a person has fields for.
const IDENTIFIERS: [(&str, &str); 3] =
    [("id_number", inner::ID_NUMBER), ("passport", inner::PASSPORT_NUMBER), ("ssn", inner::SOCIAL_SECURITY_NUMBER)];

/// Whether a document has one value at a pointer, so that one field can hold it.
pub(super) fn is_single(pointer: &str) -> bool {
    let of_map = ["/attributes/", "/identifiers/"]
        .iter()
        .any(|map| pointer.strip_prefix(map).is_some_and(|name| !name.is_empty() && !name.contains('/')));
    let lists = ["/emails", "/phoneNumbers", "/addresses", "/photos", "/relations", "/attributes", "/identifiers"];
    of_map || (schema::leaves().any(|leaf| leaf == pointer) && !lists.iter().any(|list| pointer.starts_with(list)))
}

fn path_in(object: &str, member: &str) -> String {
    format!("{object}.{member}")
}

impl Mapping {
    pub(super) fn new(settings: &CrmComSettings, on_delete: OnDelete, on_erase: OnErase, source: &str) -> Self {
        Self { settings: settings.clone(), on_delete, on_erase, source: source.to_owned() }
    }

    pub(super) fn project(&self, record: &ContactRecord, link: Option<&Link>) -> Result<Projection, Verdict> {
        match record.status {
            Status::Live => {
                let mut draft = self.draft(record);
                draft.all()?;
                let presence = draft.presence();
                Ok(draft.finish(presence))
            }
            _ if !link.is_some_and(Link::may_be_held) => Err(Verdict::never_sent()),
            Status::Deleted | Status::Merged => match (self.on_delete, self.active_slot()) {
                (OnDelete::Keep, _) => Err(Verdict::kept()),
                (OnDelete::Delete, _) => Err(Verdict::unsupported(ReasonCode::Delete)),
                (OnDelete::Deactivate, None) => Err(Verdict::unsupported(ReasonCode::Deactivate)),
                (OnDelete::Deactivate, Some(slot)) => Ok(self.retired(record, slot)),
            },
            Status::Erased => match self.on_erase {
                OnErase::Keep => Err(Verdict::kept()),
                OnErase::Delete => Err(Verdict::unsupported(ReasonCode::Erase)),
                OnErase::Blank => Ok(self.blank(record.contact_id)),
            },
        }
    }

    /// What a contact is to others. A type is one of CRM.COM's own, or stands for one in a table.
    pub(super) fn relations(&self, record: &ContactRecord) -> Vec<Relation> {
        let document = record.contact.as_ref().filter(|_| record.status != Status::Erased);
        match document.map(|document| document.at(RELATIONS)) {
            Some(Said::Value(Value::Array(items))) => {
                items.iter().filter_map(|item| relation(&self.settings, item)).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The user-defined field that says whether a contact is active.
    fn active_slot(&self) -> Option<&str> {
        self.settings.user_defined.get(ACTIVE).map(String::as_str)
    }

    /// What CRM.COM has no place for under these settings, whatever the contact.
    pub(super) fn cannot_carry(&self) -> Vec<Loss> {
        let nowhere = NOWHERE.iter().copied().chain(["/addresses/geo"]);
        // What becomes of consents is told by the fields that hold them.
        let told =
            nowhere.filter(|field| !CONSENTS.contains(field) && !self.settings.user_defined.contains_key(*field));
        told.map(|field| Loss { field, why: NO_FIELD }).collect()
    }

    /// The field that says whether a person agrees.
    pub(super) fn consent_field(&self, pointer: &str) -> Option<&str> {
        let own = (pointer == "/consent/marketing").then_some(wire::DIRECT_MARKETING);
        own.or_else(|| self.settings.user_defined.get(pointer).map(String::as_str))
    }

    /// The contact as it last was, marked as not active. A record without a document leaves the contact as it is.
    fn retired(&self, record: &ContactRecord, slot: &str) -> Projection {
        let mut draft = self.draft(record);
        if record.contact.is_some()
            && let Err(_nameless) = draft.all()
        {
            // CRM.COM has a name already; that the record has none any more changes nothing.
            draft.rest();
        }
        draft.fields.extend(slot_value(slot, &Value::Bool(false)).map(|value| (slot.to_owned(), value)));
        draft.finish(Presence::Inactive)
    }

    /// Nothing but our own reference, which tells nobody anything. Of the names, the contact takes those of its type.
    fn blank(&self, contact: ContactId) -> Projection {
        let mut fields: BTreeMap<String, Value> =
            wire::paths().filter(|path| path != wire::TYPE).map(|path| (path, Value::Null)).collect();
        for (name, placeholder) in [
            (wire::FIRST_NAME, &self.settings.blank_first_name),
            (wire::LAST_NAME, &self.settings.blank_last_name),
            (wire::COMPANY_NAME, &self.settings.blank_company_name),
        ] {
            fields.insert(name.to_owned(), placeholder.as_str().into());
        }
        fields.extend(self.references(contact));
        Projection { fields, presence: Presence::Inactive, losses: Vec::new() }
    }

    /// What marks a contact as ours.
    pub(super) fn references(&self, contact: ContactId) -> BTreeMap<String, Value> {
        let mut fields = BTreeMap::from([(self.settings.external_ref_slot.clone(), contact.key().into())]);
        if !self.settings.source_slot.is_empty() {
            fields.insert(self.settings.source_slot.clone(), self.source.as_str().into());
        }
        fields
    }

    fn draft<'a>(&'a self, record: &'a ContactRecord) -> Draft<'a> {
        Draft::new(&self.settings, record, self.references(record.contact_id))
            .never_clearing(&self.settings.never_cleared)
    }

    /// The fields by which a contact can be searched for, as its document gives them.
    pub(super) fn reachable(&self, record: &ContactRecord) -> BTreeMap<String, Value> {
        let mut draft = self.draft(record);
        draft.rest();
        draft.fields
    }
}

/// A projection in the making.
type Draft<'a> = draft::Draft<'a, CrmComSettings>;

impl<'a> Draft<'a> {
    fn contact_type(&self) -> &'static str {
        if self.is_organization() { wire::COMPANY } else { wire::PERSON }
    }

    fn is_company(&self) -> bool {
        self.contact_type() == wire::COMPANY
    }

    /// All but the presence. A contact without the names that its type needs is none.
    fn all(&mut self) -> Result<(), Verdict> {
        self.set(wire::TYPE, self.contact_type());
        self.name()?;
        self.rest();
        Ok(())
    }

    fn rest(&mut self) {
        self.language();
        self.tables();
        self.notes();
        self.say_consent(wire::DIRECT_MARKETING, "/consent/marketing");
        if self.is_company() {
            self.company();
        } else {
            self.person();
        }
        self.identifiers();
        entries::addresses(self);
        entries::phones(self);
        entries::emails(self);
        self.free_attributes();
        self.photo();
        self.relations();
        self.lose_each_said(NOWHERE, NO_FIELD);
        self.user_defined();
    }

    fn name(&mut self) -> Result<(), Verdict> {
        let parts = ["/name/honorificPrefix", "/name/givenName", "/name/middleName", "/name/familyName"];
        if self.is_company() {
            let name = self.required("/organization/name")?;
            self.set(wire::COMPANY_NAME, name.trim());
            self.lose_each_said(&parts, NOT_OF_COMPANIES);
            self.lose_if_said("/name/formatted", NOT_OF_COMPANIES);
            return Ok(());
        }
        let (given, family) = (self.required("/name/givenName")?, self.required("/name/familyName")?);
        self.say_trimmed(wire::TITLE, self.text("/name/honorificPrefix"));
        self.set(wire::FIRST_NAME, given.trim());
        self.say_trimmed(wire::MIDDLE_NAME, self.text("/name/middleName"));
        self.set(wire::LAST_NAME, family.trim());
        // CRM.COM composes the full name of its parts.
        let words: BTreeSet<&str> =
            parts.iter().filter_map(|part| self.words(part)).flat_map(str::split_whitespace).collect();
        let is_composed = |full: &str| full.split_whitespace().all(|word| words.contains(word));
        if self.words("/name/formatted").is_some_and(|full| !is_composed(full)) {
            self.lose("/name/formatted", NO_FIELD);
        }
        self.lose_if_said("/organization/name", NOT_OF_PERSONS);
        Ok(())
    }

    fn language(&mut self) {
        match self.text("/preferredLanguage") {
            Said::Value(tag) => {
                let primary = tag.split(['-', '_']).next().unwrap_or_default().to_lowercase();
                match self.rules.languages.get(&primary).filter(|word| !word.is_empty()) {
                    Some(word) => self.set(wire::PREFERRED_LANGUAGE, word.as_str()),
                    None => self.lose("/preferredLanguage", NOT_IN_TABLE),
                }
            }
            said => self.say_trimmed(wire::PREFERRED_LANGUAGE, said),
        }
    }

    /// What refers to lists of the tenant.
    fn tables(&mut self) {
        let settings = self.rules;
        let object = if self.is_company() { wire::COMPANY_PROFILE } else { wire::DEMOGRAPHICS };
        for (path, pointer, table, by) in [
            (wire::CATEGORY.to_owned(), "/organization/type", &settings.categories, &settings.category_by),
            (wire::GROUP.to_owned(), "/owner", &settings.groups, &settings.group_by),
            (path_in(object, inner::INDUSTRY), "/organization/industry", &settings.industries, &settings.industry_by),
            (
                path_in(object, inner::INDUSTRY_SECTOR),
                "/organization/marketSector",
                &settings.industry_sectors,
                &settings.industry_sector_by,
            ),
        ] {
            match self.text(pointer) {
                Said::Value(text) => match table.get(text.trim()) {
                    Some(theirs) => self.set(path, identifier(by, theirs)),
                    None => self.lose(pointer, NOT_IN_TABLE),
                },
                said => self.say_trimmed(path, said),
            }
        }
    }

    fn notes(&mut self) {
        if self.rules.send_notes {
            self.say_trimmed(wire::NOTES, self.text("/notes"));
        } else {
            self.lose_if_said("/notes", SWITCHED_OFF);
        }
    }

    fn person(&mut self) {
        let path = |member| path_in(wire::DEMOGRAPHICS, member);
        match self.text("/birthDate") {
            Said::Value(text) => match text.trim().parse::<jiff::civil::Date>() {
                Ok(date) => {
                    let date = json!({ "day": date.day(), "month": date.month(), "year": date.year() });
                    self.set(path(inner::DATE_OF_BIRTH), date);
                }
                Err(_not_a_day) => self.lose("/birthDate", NOT_IN_LIST),
            },
            said => self.say_trimmed(path(inner::DATE_OF_BIRTH), said),
        }
        match self.text("/gender") {
            Said::Value(text) => match text.trim().to_uppercase().as_str() {
                gender @ ("MALE" | "FEMALE") => self.set(path(inner::GENDER), gender),
                _ => self.lose("/gender", NOT_IN_LIST),
            },
            said => self.say_trimmed(path(inner::GENDER), said),
        }
        self.lose_each_said(&["/organization/registrationNumber", "/organization/vatNumber"], NOT_OF_PERSONS);
    }

    fn company(&mut self) {
        for (member, pointer) in [
            (inner::REGISTRATION_NUMBER, "/organization/registrationNumber"),
            (inner::VAT_REGISTRATION_NUMBER, "/organization/vatNumber"),
        ] {
            self.say_trimmed(path_in(wire::COMPANY_PROFILE, member), self.text(pointer));
        }
        self.lose_each_said(&["/birthDate", "/gender"], NOT_OF_COMPANIES);
    }

    fn identifiers(&mut self) {
        let Said::Value(Value::Object(identifiers)) = self.document.at("/identifiers") else { return };
        for (name, number) in identifiers {
            let member = IDENTIFIERS.iter().find(|(known, _)| known == name).map(|(_, member)| *member);
            let said = match number {
                Value::String(text) => blank_is_empty(Said::Value(text)),
                _ => Said::Empty,
            };
            match member.filter(|_| !self.is_company()) {
                Some(member) => self.say_trimmed(path_in(wire::DEMOGRAPHICS, member), said),
                None => self.lose_of_map("/identifiers", name, said != Said::Empty),
            }
        }
    }

    fn free_attributes(&mut self) {
        let Said::Value(Value::Object(attributes)) = self.document.at("/attributes") else { return };
        for (name, value) in attributes {
            let said = wire::text_of(value).filter(|text| !text.trim().is_empty());
            match (name.as_str(), value, said) {
                (AFFILIATE_MARKETING, Value::Bool(consents), _) => self.set(wire::AFFILIATE_MARKETING, *consents),
                (AFFILIATE_MARKETING, _, None) => self.clear(wire::AFFILIATE_MARKETING),
                (PRIVACY_LEVEL, _, None) => self.clear(wire::PRIVACY_LEVEL),
                (PRIVACY_LEVEL, _, Some(level)) => match self.rules.privacy_levels.get(level.trim()) {
                    Some(theirs) => self.set(wire::PRIVACY_LEVEL, identifier(&self.rules.privacy_level_by, theirs)),
                    None => self.lose_of_map("/attributes", name, true),
                },
                (_, _, said) => self.lose_of_map("/attributes", name, said.is_some()),
            }
        }
    }

    /// What is added once it is known who the others are is not lost.
    fn relations(&mut self) {
        let Said::Value(Value::Array(items)) = self.document.at(RELATIONS) else { return };
        let is_lost = |item: &Value| says_something(Said::Value(item)) && relation(self.rules, item).is_none();
        if items.iter().any(is_lost) {
            self.lose(RELATIONS, NOT_IN_TABLE);
        }
    }

    /// The first photo that CRM.COM takes.
    fn photo(&mut self) {
        let items = match self.document.at(PHOTOS) {
            Said::Value(Value::Array(items)) => items.as_slice(),
            said => {
                if said == Said::Empty {
                    self.clear(wire::PHOTO);
                }
                return;
            }
        };
        if items.is_empty() {
            self.clear(wire::PHOTO);
        }
        let mut taken = false;
        for url in items.iter().filter_map(|item| member_text(item, "value")) {
            match Photo::of_url(url, self.rules.photo_bytes_max) {
                _ if self.rules.photo_bytes_max == 0 => self.lose(PHOTOS, SWITCHED_OFF),
                Ok(photo) if !self.rules.photo_types.iter().any(|known| known == photo.media_type()) => {
                    self.lose(PHOTOS, SWITCHED_OFF);
                }
                Ok(_) if taken => self.lose(PHOTOS, ONE_PHOTO),
                Ok(photo) => {
                    taken = true;
                    self.set(wire::PHOTO, photo.value());
                }
                Err(why) => self.lose(PHOTOS, why),
            }
        }
    }

    fn lose_of_map(&mut self, map: &'static str, name: &str, is_said: bool) {
        let is_carried = self.rules.user_defined.contains_key(&format!("{map}/{}", schema::escape(name)));
        if is_said && !is_carried {
            self.lose(map, NO_FIELD);
        }
    }

    /// What a user-defined field carries is not lost, whatever else has no place for it. Last, so that all losses are known.
    fn user_defined(&mut self) {
        let settings = self.rules;
        self.find_again(|field| settings.user_defined.contains_key(field));
        for (pointer, slot) in &settings.user_defined {
            match self.document.at(pointer) {
                Said::Value(Value::String(blank)) if blank.trim().is_empty() => self.clear(slot),
                Said::Value(value) => match slot_value(slot, value) {
                    Some(value) => self.set(slot, value),
                    None => {
                        let field = schema::paths()
                            .filter(|path| pointer == path || pointer.starts_with(&format!("{path}/")))
                            .max_by_key(|path| path.len());
                        if let Some(field) = field {
                            self.lose(field, DOES_NOT_FIT);
                        }
                    }
                },
                Said::Empty => self.clear(slot),
                Said::Absent => {}
            }
        }
    }

    /// CRM.COM itself knows no contacts that are not active: without a field of the tenant's, all are.
    fn presence(&self) -> Presence {
        let is_told = self.rules.user_defined.contains_key(ACTIVE);
        self.presence_said().filter(|_| is_told).unwrap_or_default()
    }

    /// The entries of a set by type, or that there are none.
    fn set_entries(&mut self, set: Set, entries: BTreeMap<String, Map<String, Value>>, are_empty: bool) {
        for (of_type, members) in entries {
            self.set(set.path(&of_type), members);
        }
        if are_empty {
            for of_type in set.types().iter().chain(&wire::CUSTOM_TYPES) {
                self.clear(set.path(of_type));
            }
        }
    }
}

fn relation(settings: &CrmComSettings, item: &Value) -> Option<Relation> {
    let word = member_text(item, "type")?.trim();
    let of_type = settings.relation_types.get(word).map_or(word, String::as_str);
    Some(Relation {
        place: format!("{}.{}", wire::relations::SET, wire::relations::of_text(of_type)?),
        source: member_text(item, "source").map(str::to_owned),
        subject: member_text(item, "subject")?.to_owned(),
        notes: member_text(item, "notes").map(|notes| notes.trim().to_owned()),
    })
}

/// How an item of a list is named. Even a level's number is a text, in what the documents send and in what they show.
pub(super) fn identifier(by: &str, theirs: &str) -> Value {
    json!({ by: theirs })
}

/// A value as a user-defined field holds it; `None` if it cannot.
fn slot_value(slot: &str, value: &Value) -> Option<Value> {
    match (wire::slot(slot)?, value) {
        (Slot::Text, value) => wire::text_of(value).map(|text| text.trim().into()),
        (Slot::Number, Value::Number(number)) => Some(number.clone().into()),
        (Slot::Number, Value::Bool(flag)) => Some(u8::from(*flag).into()),
        (Slot::Number, Value::String(text)) => {
            text.trim().parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from)
        }
        (Slot::Date, Value::String(text)) => {
            // A date alone is one as well: its midnight.
            let moment: jiff::civil::DateTime = text.trim().parse().ok()?;
            Some(moment.strftime("%Y-%m-%dT%H:%M:%S").to_string().into())
        }
        (Slot::Number | Slot::Date, _) => None,
    }
}
