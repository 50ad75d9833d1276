//! Ours to theirs: what SAM should hold of a contact, and what of it SAM has no place for.
//!
//! Only what is there is projected: a write replaces the whole row, so what is not said is cleared whatever it was. Every
//! attribute of the document is either carried or reported; [`NOWHERE`] lists those without any counterpart. Two of them
//! matter to whom they are about, and are delivered without: a withdrawn consent, and that a contact is not active.

use std::collections::BTreeMap;

use jiff::{civil::Date, tz::TimeZone};
use serde_json::Value;

use super::wire::{self, AddressKeys};
use crate::{
    config::{BirthDateForm, CrmSettings, NextinteractSamSettings, OnDelete, OnErase, OrganizationKind},
    contact::{ContactRecord, document::Said, record::Status},
    crm::{
        Loss, Presence, Projection, REMOTE_CONTACT, Verdict,
        draft::{
            self,
            why::{NO_FIELD, SWITCHED_OFF},
        },
        link::Link,
        reading::{
            Items, complete_name, is_fax, is_of_type, is_primary, member_text, post_office_box, says_something,
            street_lines,
        },
        written,
    },
    event::ReasonCode,
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

const TWO_ONLY: &str = "room for two only";
const ONE_OF_EACH: &str = "room for one of each kind only";
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
            _ if !ever_sent => return Err(Verdict::never_sent()),
            Status::Erased => return self.erase(record, link),
            Status::Deleted | Status::Merged => {
                return Err(match self.on_delete {
                    OnDelete::Keep => Verdict::kept(),
                    OnDelete::Delete => Verdict::unsupported(ReasonCode::Delete),
                    OnDelete::Deactivate => Verdict::unsupported(ReasonCode::Deactivate),
                });
            }
        }
        let key = (wire::EXTERNAL_ID.to_owned(), external_id(record, link).into());
        let mut draft = Draft::new(self, record, BTreeMap::from([key]));
        let is_organization = draft.is_organization();
        if is_organization && self.settings.organization == OrganizationKind::Unsupported {
            return Err(Verdict::unsupported(ReasonCode::Kind));
        }
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
        draft.lose_each_said(NOWHERE, NO_FIELD);
        Ok(draft.finish(Presence::Active))
    }

    /// What is left of a contact whose person asked to be forgotten: our key, so that the same row is meant, and a word in
    /// place of what SAM insists on. All else is overwritten with nothing, as it is with every write.
    fn erase(&self, record: &ContactRecord, link: Option<&Link>) -> Result<Projection, Verdict> {
        match self.on_erase {
            OnErase::Keep => return Err(Verdict::kept()),
            OnErase::Delete => return Err(Verdict::unsupported(ReasonCode::Erase)),
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

/// A projection in the making. What is known to be empty is left out, like what is not said.
type Draft<'a> = draft::Draft<'a, Mapping>;

impl Draft<'_> {
    fn has(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    fn copy_text(&mut self, key: &str, pointer: &str) {
        if let Some(text) = self.words(pointer) {
            self.set(key, text);
        }
    }

    fn name(&mut self) -> Result<(), Verdict> {
        self.copy_text(wire::TITLE, "/name/honorificPrefix");
        let mut given = self.words("/name/givenName").map(str::to_owned);
        let mut family = self.words("/name/familyName").map(str::to_owned);
        if let Some(formatted) = self.words("/name/formatted") {
            if given.is_some() && family.is_some() {
                self.lose("/name/formatted", NO_FIELD);
            } else {
                let around = [self.words("/name/honorificPrefix"), self.words("/name/honorificSuffix")];
                let middle = self.words("/name/middleName");
                (given, family) = complete_name(formatted, around, middle, given, family);
                if given.is_none() && family.is_none() {
                    // It cannot be told apart, and one name is all that SAM insists on.
                    family = Some(formatted.to_owned());
                }
            }
        }
        self.set(wire::LAST_NAME, family.ok_or_else(|| Verdict::missing("/name/familyName"))?);
        if let Some(given) = given {
            self.set(wire::FIRST_NAME, given);
        }
        Ok(())
    }

    /// SAM knows persons only: the name of an organization is the last name of one.
    fn organization_as_contact(&mut self) -> Result<(), Verdict> {
        let formatted = self.words("/name/formatted");
        let name = self.words("/organization/name").or(formatted);
        let name = name.ok_or_else(|| Verdict::missing("/organization/name"))?;
        if formatted.is_some_and(|formatted| formatted != name) {
            self.lose("/name/formatted", NO_FIELD);
        }
        self.set(wire::LAST_NAME, name);
        self.set(wire::COMPANY, name);
        self.lose("/kind", NO_FIELD);
        self.lose_each_said(&["/name/honorificPrefix", "/name/givenName", "/name/familyName"], NO_FIELD);
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

    fn phones(&mut self) {
        let phones = Items::of(self.document, "/phoneNumbers", |item| member_text(item, "value").is_some());
        let written = |item: &Value| written::phone_in(self.rules.settings.phone_form, item);
        let fits = |item: &Value| written(item).is_some();
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
            chosen.into_iter().filter_map(|(key, item)| Some((key, written(item?)?))).collect();
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
        let primary = |item: &&Value| is_primary(item);
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
        let mut lines = street_lines(address, self.rules.settings.street_number);
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
        let settings = &self.rules.settings;
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
        let Some(text) = self.words("/birthDate") else { return };
        match self.rules.settings.birth_date {
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
        if self.rules.settings.send_owner {
            self.copy_text(wire::OWNED_BY, "/owner");
        } else {
            self.lose_if_said("/owner", SWITCHED_OFF);
        }
        if self.rules.settings.send_source {
            self.set(wire::CREATED_BY, self.rules.instance.as_str());
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
                self.set(*key, text);
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
        if self.presence_said() == Some(Presence::Inactive) {
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
