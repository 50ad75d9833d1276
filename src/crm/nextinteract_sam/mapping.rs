//! Ours to theirs: what SAM should hold of a contact, and what of it SAM has no place for.
//!
//! Only what is there is projected: a write replaces the whole row, so what is not said is cleared whatever it was. Every
//! attribute of the document is either carried or reported; [`NOWHERE`] lists those without any counterpart. Two of them
//! matter to whom they are about, and are delivered without: a withdrawn consent, and that a contact is not active.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{civil::Date, tz::TimeZone};
use serde_json::Value;

use super::wire::{self, AddressKeys};
use crate::{
    config::{
        BirthDateForm, CrmSettings, NextinteractSamSettings, OnDelete, OnErase, OrganizationKind, PhoneForm,
        StreetNumber,
    },
    contact::{ContactRecord, Document, document::Said, record::Status},
    crm::{
        Loss, Presence, Projection, REMOTE_CONTACT, Verdict,
        link::Link,
        reading::{
            Items, blank_is_empty, complete_name, is_fax, is_of_type, member_text, post_office_box, says_something,
            value,
        },
        written,
    },
    event::{OutcomeKind, ReasonCode},
};

/// The rules of one company.
#[derive(Debug)]
pub(super) struct Mapping {
    settings: NextinteractSamSettings,
    on_delete: OnDelete,
    on_erase: OnErase,
    instance: String,
}

/// Attributes that SAM has no field for.
const NOWHERE: &[&str] = &[
    "/name/middleName",
    "/name/honorificSuffix",
    "/organization/registrationNumber",
    "/organization/vatNumber",
    "/organization/type",
    "/organization/industry",
    "/gender",
    "/preferredLanguage",
    "/identifiers",
    "/photos",
    "/relations",
];

const NO_FIELD: &str = "no field for it";
const TWO_ONLY: &str = "room for two only";
const ONE_OF_EACH: &str = "room for one of each kind only";
const SWITCHED_OFF: &str = "switched off by configuration";
const NOT_INTERNATIONAL: &str = "not an international number";
const NOT_EXPRESSIBLE: &str = "consent_not_expressible";
const NOT_ACTIVE: &str = "always active there";

/// Free attributes that have a field.
const ATTRIBUTES: &[(&str, &str)] = &[
    (PROFESSION, wire::PROFESSION),
    ("contactType", wire::CONTACT_TYPE),
    ("contactCategory", wire::CATEGORY),
    (SPECIALTY, wire::SPECIALTY),
    ("webPage", wire::WEB_PAGE),
    ("facebookId", wire::FACEBOOK_ID),
    ("twitterId", wire::TWITTER_ID),
];
const PROFESSION: &str = "profession";
const SPECIALTY: &str = "contactSpecialty";

/// The key that goes with each write: our contact id, unless somebody said otherwise.
pub(super) fn external_id(record: &ContactRecord, link: Option<&Link>) -> String {
    link.and_then(|link| link.remote_ids.get(REMOTE_CONTACT)).cloned().unwrap_or_else(|| record.contact_id.key())
}

impl Mapping {
    pub(super) fn new(crm: &CrmSettings, settings: &NextinteractSamSettings, instance: &str) -> Self {
        let (on_delete, on_erase) = (crm.on_delete, crm.on_erase);
        Self { settings: settings.clone(), on_delete, on_erase, instance: instance.to_owned() }
    }

    /// What SAM has no place for, whatever the contact.
    pub(super) fn cannot_carry(&self) -> Vec<Loss> {
        let parts = ["/emails/type", "/addresses/type", "/addresses/geo"];
        let nowhere = NOWHERE.iter().copied().chain(parts).map(|field| Loss { field, why: NO_FIELD });
        nowhere.chain([Loss { field: "/active", why: NOT_ACTIVE }]).collect()
    }

    pub(super) fn project(&self, record: &ContactRecord, link: Option<&Link>) -> Result<Projection, Verdict> {
        let ever_sent = link.is_some_and(Link::may_be_there);
        match record.status {
            Status::Live => {}
            _ if !ever_sent => return Err(Verdict::new(OutcomeKind::Unchanged, ReasonCode::UnknownContact)),
            Status::Erased => return self.erase(record, link),
            Status::Deleted | Status::Merged => {
                return Err(match self.on_delete {
                    OnDelete::Keep => Verdict::new(OutcomeKind::Filtered, ReasonCode::KeptByPolicy),
                    OnDelete::Delete => Verdict::new(OutcomeKind::Unsupported, ReasonCode::Delete),
                    OnDelete::Deactivate => Verdict::new(OutcomeKind::Unsupported, ReasonCode::Deactivate),
                });
            }
        }
        let nothing = Document::default();
        let document = record.contact.as_ref().unwrap_or(&nothing);
        let is_organization = document.text("/kind") == Said::Value("organization");
        if is_organization && self.settings.organization == OrganizationKind::Unsupported {
            return Err(Verdict::new(OutcomeKind::Unsupported, ReasonCode::Kind));
        }

        let mut draft = Draft { mapping: self, document, fields: BTreeMap::new(), losses: BTreeSet::new() };
        draft.set(wire::EXTERNAL_ID, external_id(record, link));
        if is_organization {
            draft.organization_as_contact()?;
        } else {
            draft.name()?;
        }
        draft.emails();
        draft.phones();
        draft.addresses();
        draft.work();
        draft.birth_date();
        draft.people();
        draft.free_attributes();
        draft.consent();
        for pointer in NOWHERE {
            draft.lose_if_said(pointer, NO_FIELD);
        }
        let Draft { fields, losses, .. } = draft;
        Ok(Projection { fields, presence: Presence::Active, losses: losses.into_iter().collect() })
    }

    /// What is left of a contact whose person asked to be forgotten: our key, so that the same row is meant, and a word in
    /// place of what SAM insists on. All else is overwritten with nothing, as it is with every write.
    fn erase(&self, record: &ContactRecord, link: Option<&Link>) -> Result<Projection, Verdict> {
        match self.on_erase {
            OnErase::Keep => return Err(Verdict::new(OutcomeKind::Filtered, ReasonCode::KeptByPolicy)),
            OnErase::Delete => return Err(Verdict::new(OutcomeKind::Unsupported, ReasonCode::Erase)),
            OnErase::Blank => {}
        }
        let fields = BTreeMap::from([
            (wire::EXTERNAL_ID.to_owned(), Value::from(external_id(record, link))),
            (wire::LAST_NAME.to_owned(), Value::from(self.settings.blank_last_name.as_str())),
        ]);
        Ok(Projection { fields, presence: Presence::Active, losses: Vec::new() })
    }
}

/// Whether there is anything to carry in a part of the document.
fn says(part: &Value) -> bool {
    !part.is_null() && says_something(Said::Value(part))
}

fn missing(pointer: &str) -> Verdict {
    Verdict::field(OutcomeKind::Rejected, ReasonCode::MissingField, pointer)
}

/// A projection in the making.
struct Draft<'a> {
    mapping: &'a Mapping,
    document: &'a Document,
    fields: BTreeMap<String, Value>,
    losses: BTreeSet<Loss>,
}

impl<'a> Draft<'a> {
    fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.fields.insert(key.to_owned(), value.into());
    }

    fn has(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    fn lose(&mut self, field: &'static str, why: &'static str) {
        self.losses.insert(Loss { field, why });
    }

    fn lose_if_said(&mut self, field: &'static str, why: &'static str) {
        if says_something(self.document.at(field)) {
            self.lose(field, why);
        }
    }

    /// The text at a pointer; blank text says nothing.
    fn text(&self, pointer: &str) -> Option<&'a str> {
        value(blank_is_empty(self.document.text(pointer)))
    }

    fn copy_text(&mut self, key: &str, pointer: &str) {
        if let Some(text) = self.text(pointer) {
            self.set(key, text);
        }
    }

    fn name(&mut self) -> Result<(), Verdict> {
        self.copy_text(wire::TITLE, "/name/honorificPrefix");
        let mut given = self.text("/name/givenName").map(str::to_owned);
        let mut family = self.text("/name/familyName").map(str::to_owned);
        if let Some(formatted) = self.text("/name/formatted") {
            if given.is_some() && family.is_some() {
                self.lose("/name/formatted", NO_FIELD);
            } else {
                let around = [self.text("/name/honorificPrefix"), self.text("/name/honorificSuffix")];
                let middle = self.text("/name/middleName");
                (given, family) = complete_name(formatted, around, middle, given, family);
                if given.is_none() && family.is_none() {
                    // It cannot be told apart, and one name is all that SAM insists on.
                    family = Some(formatted.to_owned());
                }
            }
        }
        self.set(wire::LAST_NAME, family.ok_or_else(|| missing("/name/familyName"))?);
        if let Some(given) = given {
            self.set(wire::FIRST_NAME, given);
        }
        Ok(())
    }

    /// SAM knows persons only: the name of an organization is the last name of one.
    fn organization_as_contact(&mut self) -> Result<(), Verdict> {
        let name = self.text("/organization/name").or_else(|| self.text("/name/formatted"));
        let name = name.ok_or_else(|| missing("/organization/name"))?;
        self.set(wire::LAST_NAME, name);
        self.set(wire::COMPANY, name);
        self.lose("/kind", NO_FIELD);
        for pointer in ["/name/honorificPrefix", "/name/givenName", "/name/familyName"] {
            self.lose_if_said(pointer, NO_FIELD);
        }
        Ok(())
    }

    fn emails(&mut self) {
        let emails = Items::of(self.document, "/emails", |item| member_text(item, "value").is_some());
        let first = emails.first(|_| true);
        let next = emails.each().find(|item| first.is_none_or(|first| !std::ptr::eq(first, *item)));
        for (key, item) in [(wire::EMAIL_1, first), (wire::EMAIL_2, next)] {
            if let Some(address) = item.and_then(|item| member_text(item, "value")) {
                self.set(key, address);
            }
        }
        if emails.count() > 2 {
            self.lose("/emails/value", TWO_ONLY);
        }
        if emails.each().any(|item| member_text(item, "type").is_some()) {
            self.lose("/emails/type", NO_FIELD);
        }
    }

    /// A number as SAM is told it; `None` if it cannot be written so.
    fn written(&self, phone: &Value) -> Option<String> {
        let text = member_text(phone, "value")?;
        match self.mapping.settings.phone_form {
            PhoneForm::AsWritten => Some(text.trim().to_owned()),
            PhoneForm::International => written::phone(text),
        }
    }

    fn phones(&mut self) {
        let phones = Items::of(self.document, "/phoneNumbers", |item| member_text(item, "value").is_some());
        let fits = |item: &Value| self.written(item).is_some();
        let is_mobile = |item: &Value| is_of_type(item, "mobile");
        let is_other = |item: &Value| is_of_type(item, "other");
        let is_line = |item: &Value| !is_mobile(item) && !is_fax(item) && !is_other(item);
        let mobile = phones.first(|item| fits(item) && is_mobile(item));
        let phone = phones.first(|item| fits(item) && is_line(item));
        let second = || {
            let another = |item: &&Value| phone.is_some_and(|phone| !std::ptr::eq(phone, *item));
            phones.each().find(|item| fits(item) && is_line(item) && another(item))
        };
        let other = phones.first(|item| fits(item) && is_other(item)).or_else(second);
        let fax = phones.first(|item| fits(item) && is_fax(item));
        let chosen =
            [(wire::MOBILE, mobile), (wire::PHONE, phone), (wire::OTHER_PHONE, other), (wire::FAX_NUMBER, fax)];
        let numbers: Vec<(&str, String)> =
            chosen.into_iter().filter_map(|(key, item)| Some((key, self.written(item?)?))).collect();
        let fitting = phones.each().filter(|item| fits(item)).count();
        let unfit = phones.count() - fitting;
        if fitting > numbers.len() {
            self.lose("/phoneNumbers/value", ONE_OF_EACH);
        }
        if unfit > 0 {
            self.lose("/phoneNumbers/value", NOT_INTERNATIONAL);
        }
        for (key, number) in numbers {
            self.set(key, number);
        }
    }

    fn addresses(&mut self) {
        let addresses = Items::of(self.document, "/addresses", |item| {
            item.as_object().is_some_and(|members| {
                let says =
                    |(name, member): (&String, &Value)| !["type", "primary"].contains(&name.as_str()) && says(member);
                members.iter().any(says)
            })
        });
        let work = addresses.first(|item| is_of_type(item, "work")).or_else(|| addresses.first(|_| true));
        let another = |item: &&Value| work.is_some_and(|work| !std::ptr::eq(work, *item));
        let primary = |item: &&Value| item.get("primary").and_then(Value::as_bool) == Some(true);
        let next = addresses.each().filter(another).find(primary).or_else(|| addresses.each().find(another));
        for (keys, address) in [(&wire::WORK_ADDRESS, work), (&wire::OTHER_ADDRESS, next)] {
            if let Some(address) = address {
                self.address(keys, address);
            }
        }
        if addresses.count() > 2 {
            self.lose("/addresses", TWO_ONLY);
        }
        if addresses.each().any(|item| member_text(item, "type").is_some()) {
            self.lose("/addresses/type", NO_FIELD);
        }
        if addresses.each().any(|item| item.get("geo").is_some_and(says)) {
            self.lose("/addresses/geo", NO_FIELD);
        }
    }

    fn address(&mut self, keys: &AddressKeys, address: &Value) {
        for (key, line) in keys.lines.into_iter().zip(self.lines(address)) {
            self.set(key, line);
        }
        let parts =
            [(keys.city, "locality"), (keys.state, "region"), (keys.postcode, "postalCode"), (keys.country, "country")];
        for (key, name) in parts {
            if let Some(text) = member_text(address, name) {
                self.set(key, text);
            }
        }
    }

    /// Street with number, apartment, floor, box, district: one line each, three at most; the third holds all that is left.
    fn lines(&self, address: &Value) -> Vec<String> {
        let street = member_text(address, "streetAddress").into_iter().flat_map(str::lines).map(str::trim);
        let mut lines: Vec<String> = street.filter(|line| !line.is_empty()).map(str::to_owned).collect();
        if let Some(number) = member_text(address, "streetNumber") {
            match (lines.first_mut(), self.mapping.settings.street_number) {
                (None, _) => lines.push(number.to_owned()),
                (Some(street), StreetNumber::Before) => *street = format!("{number} {street}"),
                (Some(street), StreetNumber::After) => *street = format!("{street} {number}"),
            }
        }
        lines.extend(
            ["apartment", "floor"].into_iter().filter_map(|name| member_text(address, name)).map(str::to_owned),
        );
        lines.extend(member_text(address, "poBox").map(post_office_box));
        lines.extend(member_text(address, "district").map(str::to_owned));
        if lines.len() > 3 {
            let rest = lines.split_off(2).join(", ");
            lines.push(rest);
        }
        lines
    }

    fn work(&mut self) {
        if !self.has(wire::COMPANY) {
            self.copy_text(wire::COMPANY, "/organization/name");
        }
        self.copy_text(wire::DEPARTMENT, "/organization/department");
        let settings = &self.mapping.settings;
        let by_default = [
            (wire::PROFESSION, PROFESSION, "/organization/title", settings.profession_from_job_title),
            (wire::SPECIALTY, SPECIALTY, "/organization/marketSector", settings.specialty_from_market_sector),
        ];
        for (key, attribute, pointer, is_on) in by_default {
            if !is_on {
                self.lose_if_said(pointer, SWITCHED_OFF);
            } else if self.attribute(attribute).is_some() {
                self.lose_if_said(pointer, "a free attribute says it");
            } else {
                self.copy_text(key, pointer);
            }
        }
    }

    fn birth_date(&mut self) {
        let Some(text) = self.text("/birthDate") else { return };
        match self.mapping.settings.birth_date {
            BirthDateForm::Omit => self.lose("/birthDate", SWITCHED_OFF),
            BirthDateForm::Date => self.set(wire::DATE_OF_BIRTH, text),
            BirthDateForm::EpochMs => match text.parse::<Date>().and_then(|day| day.to_zoned(TimeZone::UTC)) {
                Ok(begins) => self.set(wire::DATE_OF_BIRTH, begins.timestamp().as_millisecond()),
                Err(_out_of_range) => self.lose("/birthDate", "no instant of it can be written"),
            },
        }
    }

    /// What stands beside the contact itself: notes, and who looks after it.
    fn people(&mut self) {
        self.copy_text(wire::NOTES, "/notes");
        if self.mapping.settings.send_owner {
            self.copy_text(wire::OWNED_BY, "/owner");
        } else {
            self.lose_if_said("/owner", SWITCHED_OFF);
        }
        if self.mapping.settings.send_source {
            self.set(wire::CREATED_BY, self.mapping.instance.as_str());
        }
    }

    /// A free attribute as text.
    fn attribute(&self, name: &str) -> Option<String> {
        let Said::Value(Value::Object(attributes)) = self.document.at("/attributes") else { return None };
        match attributes.get(name)? {
            Value::String(text) if !text.trim().is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            _ => None,
        }
    }

    fn free_attributes(&mut self) {
        for (name, key) in ATTRIBUTES {
            if let Some(text) = self.attribute(name) {
                self.set(key, text);
            }
        }
        if let Said::Value(Value::Object(attributes)) = self.document.at("/attributes") {
            let has_field = |name: &str| ATTRIBUTES.iter().any(|(known, _)| *known == name);
            if attributes.iter().any(|(name, value)| !has_field(name) && says(value)) {
                self.lose("/attributes", NO_FIELD);
            }
        }
    }

    /// Nobody there will know of it.
    fn consent(&mut self) {
        for pointer in ["/consent/marketing", "/consent/dataProcessing"] {
            match self.document.at(pointer) {
                Said::Value(Value::Bool(false)) => self.lose(pointer, NOT_EXPRESSIBLE),
                _ => self.lose_if_said(pointer, NO_FIELD),
            }
        }
        // So they all are there.
        if self.document.at("/active") == Said::Value(&Value::Bool(false)) {
            self.lose("/active", NOT_ACTIVE);
        }
    }
}

/// Every place that can be told as lost.
#[cfg(test)]
pub(super) fn places_lost() -> impl Iterator<Item = &'static str> {
    let others = [
        "/name/formatted",
        "/kind",
        "/name/honorificPrefix",
        "/name/givenName",
        "/name/familyName",
        "/emails/value",
        "/emails/type",
        "/phoneNumbers/value",
        "/addresses",
        "/addresses/type",
        "/addresses/geo",
        "/organization/title",
        "/organization/marketSector",
        "/birthDate",
        "/owner",
        "/attributes",
        "/consent/marketing",
        "/consent/dataProcessing",
        "/active",
    ];
    NOWHERE.iter().copied().chain(others)
}
