//! Ours to theirs: what LogiSense should hold of a contact, and what of it LogiSense has no place for.
//!
//! A contact there is a type, a title, two names, contact points by type and one address. Types, countries and states are
//! numbers of the tenant's lists; a projection names them by what the record or the settings say, since it must be the
//! same whatever list is at hand, and the numbers are looked up when a request is made.
//!
//! Every attribute of the document is either carried or reported; [`NOWHERE`] lists those without any counterpart.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{
    lists::type_name,
    wire::{self, PointKind, address},
};
use crate::{
    config::{LogisenseSettings, MiddleName, OnDelete, OnErase},
    contact::{ContactId, ContactRecord, document::Said, record::Status},
    crm::{
        CONSENTS, Loss, Presence, Projection, Verdict,
        draft::{
            self, NAME_PARTS,
            why::{HALF_POSITION, NO_FIELD, ONE_ONLY},
        },
        link::Link,
        reading::{
            Items, Position, is_fax, is_of_type, is_primary, member, member_text, post_office_box, says_something,
            street_lines,
        },
    },
    event::{OutcomeKind, ReasonCode},
};

/// The rules of one tenant.
#[derive(Debug)]
pub(super) struct Mapping {
    settings: LogisenseSettings,
    on_delete: OnDelete,
    on_erase: OnErase,
}

/// Attributes that a contact in LogiSense has no place for.
const NOWHERE: &[&str] = &[
    "/organization/department",
    "/organization/title",
    "/organization/registrationNumber",
    "/organization/vatNumber",
    "/organization/type",
    "/organization/marketSector",
    "/organization/industry",
    "/birthDate",
    "/gender",
    "/preferredLanguage",
    "/notes",
    "/consent/marketing",
    "/consent/dataProcessing",
    "/identifiers",
    "/owner",
    "/photos",
    "/relations",
];

const TOO_MANY: &str = "more than points_max";
const NO_TYPE: &str = "no type of contact points for it in the settings";

impl Mapping {
    /// What LogiSense has no place for, whatever the contact.
    pub(super) fn cannot_carry() -> Vec<Loss> {
        let parts = ["/emails/type", "/addresses/type", "/active"];
        // What becomes of consents is told by the fields that hold them: there are none.
        let nowhere = NOWHERE.iter().copied().chain(parts).filter(|field| !CONSENTS.contains(field));
        nowhere.map(|field| Loss { field, why: NO_FIELD }).collect()
    }

    pub(super) fn new(settings: &LogisenseSettings, on_delete: OnDelete, on_erase: OnErase) -> Self {
        Self { settings: settings.clone(), on_delete, on_erase }
    }

    pub(super) fn project(&self, record: &ContactRecord, link: Option<&Link>) -> Result<Projection, Verdict> {
        match record.status {
            Status::Live => self.live(record),
            _ if !link.is_some_and(Link::may_be_held) => Err(Verdict::never_sent()),
            Status::Deleted | Status::Merged => match self.on_delete {
                OnDelete::Keep => Err(Verdict::kept()),
                OnDelete::Delete => Ok(Projection::absent()),
                OnDelete::Deactivate => Err(Verdict::unsupported(ReasonCode::Deactivate)),
            },
            Status::Erased => match self.on_erase {
                OnErase::Keep => Err(Verdict::kept()),
                OnErase::Delete => Ok(Projection::absent()),
                OnErase::Blank => Ok(self.blank(record.contact_id)),
            },
        }
    }

    fn live(&self, record: &ContactRecord) -> Result<Projection, Verdict> {
        let mut draft = self.draft(record);
        draft.names()?;
        draft.rest();
        draft.reference(record.contact_id);
        Ok(draft.finish(Presence::Active))
    }

    fn draft<'a>(&'a self, record: &'a ContactRecord) -> Draft<'a> {
        Draft::new(&self.settings, record, BTreeMap::new()).never_clearing(&self.settings.never_cleared)
    }

    /// Nothing but our own reference, which tells nobody anything.
    fn blank(&self, contact: ContactId) -> Projection {
        let clearable = wire::clearable(self.settings.points_max);
        let mut fields: BTreeMap<String, Value> = clearable.map(|path| (path, Value::Null)).collect();
        fields.insert(wire::LAST_NAME.to_owned(), self.settings.blank_name.as_str().into());
        if !self.settings.contact_points.reference.is_empty() {
            fields.insert(PointKind::Reference.path(1), contact.key().into());
        }
        Projection { fields, presence: Presence::Inactive, losses: Vec::new() }
    }

    /// The names, and the first e-mail address and telephone number, that a document gives.
    pub(super) fn recognisable(&self, record: &ContactRecord) -> BTreeMap<String, Value> {
        let mut draft = self.draft(record);
        if let Err(_nameless) = draft.names() {
            return BTreeMap::new();
        }
        draft.points();
        draft.fields
    }
}

/// A projection in the making.
type Draft<'a> = draft::Draft<'a, LogisenseSettings>;

impl<'a> Draft<'a> {
    /// All but the names.
    fn rest(&mut self) {
        self.points();
        self.address();
        self.free_attributes();
        if self.presence_said() == Some(Presence::Inactive) {
            self.lose("/active", NO_FIELD);
        }
        self.lose_each_said(NOWHERE, NO_FIELD);
    }

    fn names(&mut self) -> Result<(), Verdict> {
        let settings = self.rules;
        let contact_type = if self.is_organization() {
            if settings.organization_contact_type.is_empty() {
                return Err(Verdict::field(OutcomeKind::Unsupported, ReasonCode::Kind, "/kind"));
            }
            self.organization_name()?;
            &settings.organization_contact_type
        } else {
            self.persons_name()?;
            &settings.contact_type
        };
        self.set(wire::CONTACT_TYPE, contact_type.trim());
        if let Some(is_used) = settings.is_used_for_tax {
            self.set(wire::USED_FOR_TAX, is_used);
        }
        Ok(())
    }

    fn organization_name(&mut self) -> Result<(), Verdict> {
        let name = self.required("/organization/name")?;
        self.set(wire::LAST_NAME, name.trim());
        self.lose_each_said(&NAME_PARTS, "an organisation goes by its own name");
        Ok(())
    }

    fn persons_name(&mut self) -> Result<(), Verdict> {
        let family = self.required("/name/familyName")?;
        self.set(wire::LAST_NAME, family.trim());
        self.say_trimmed(wire::TITLE, self.text("/name/honorificPrefix"));
        match (self.text("/name/givenName"), self.words("/name/middleName")) {
            (Said::Value(given), Some(middle)) if self.rules.middle_name == MiddleName::Append => {
                self.set(wire::FIRST_NAME, format!("{} {}", given.trim(), middle.trim()));
            }
            (given, middle) => {
                self.say_trimmed(wire::FIRST_NAME, given);
                if middle.is_some() {
                    self.lose("/name/middleName", NO_FIELD);
                }
            }
        }
        self.lose_each_said(&["/name/honorificSuffix", "/name/formatted", "/organization/name"], NO_FIELD);
        Ok(())
    }

    fn points(&mut self) {
        let emails = Items::of(self.document, "/emails", |item| member_text(item, "value").is_some());
        self.kind(&emails, PointKind::Email, "/emails/value", &|_| true);
        if emails.each().any(|item| member_text(item, "type").is_some()) {
            self.lose("/emails/type", NO_FIELD);
        }
        let phones = Items::of(self.document, "/phoneNumbers", |item| member_text(item, "value").is_some());
        let is = |label: &'static str| move |item: &Value| is_of_type(item, label);
        let is_other = |item: &Value| !is_fax(item) && !is_of_type(item, "mobile") && !is_of_type(item, "home");
        self.kind(&phones, PointKind::Mobile, "/phoneNumbers/value", &is("mobile"));
        self.kind(&phones, PointKind::Work, "/phoneNumbers/value", &is_other);
        self.kind(&phones, PointKind::Home, "/phoneNumbers/value", &is("home"));
        self.kind(&phones, PointKind::Fax, "/phoneNumbers/value", &is_fax);
        if phones.each().any(|item| self.is_mistakable(item)) {
            self.lose("/phoneNumbers/type", "its type of contact points is that of others too");
        }
        for (items, pointer) in [(&emails, "/emails/primary"), (&phones, "/phoneNumbers/primary")] {
            if items.each().any(is_primary) {
                self.lose(pointer, NO_FIELD);
            }
        }
    }

    /// Whether what a telephone is for cannot be told from the point that it becomes.
    fn is_mistakable(&self, phone: &Value) -> bool {
        let kind = match member_text(phone, "type") {
            None => return false,
            Some("mobile") => PointKind::Mobile,
            Some("home") => PointKind::Home,
            Some("fax") => PointKind::Fax,
            Some("work") => PointKind::Work,
            Some(_) => return true,
        };
        let types = &self.rules.contact_points;
        let name = type_name(types, kind);
        let same = |other: &PointKind| *other != kind && type_name(types, *other).eq_ignore_ascii_case(name);
        [PointKind::Mobile, PointKind::Work, PointKind::Home, PointKind::Fax].iter().any(same)
    }

    /// The points of one kind, the primary one first.
    fn kind(&mut self, items: &Items<'a>, kind: PointKind, field: &'static str, fits: &dyn Fn(&Value) -> bool) {
        let first = items.first(fits);
        let others = items.each().filter(|item| fits(item) && first.is_none_or(|first| !std::ptr::eq(first, *item)));
        let mut values: Vec<&str> = Vec::new();
        for value in first.into_iter().chain(others).filter_map(|item| member_text(item, "value")).map(str::trim) {
            // Said twice is said once.
            if !values.contains(&value) {
                values.push(value);
            }
        }
        if type_name(&self.rules.contact_points, kind).is_empty() {
            if !values.is_empty() {
                self.lose(field, NO_TYPE);
            }
            return;
        }
        let most = self.rules.points_max;
        if values.len() > most {
            self.lose(field, TOO_MANY);
        }
        for (number, value) in (1..=most).zip(&values) {
            self.set(kind.path(number), *value);
        }
    }

    fn reference(&mut self, contact: ContactId) {
        if !self.rules.contact_points.reference.is_empty() {
            self.set(PointKind::Reference.path(1), contact.key());
        }
    }

    fn address(&mut self) {
        let addresses = Items::of(self.document, "/addresses", |item| says_something(Said::Value(item)));
        let of_type = |label: &'static str| addresses.first(move |item| is_of_type(item, label));
        let chosen = of_type("work").or_else(|| of_type("postal")).or_else(|| addresses.first(|_| true));
        if addresses.count() > 1 {
            self.lose("/addresses", ONE_ONLY);
        }
        let Some(chosen) = chosen else {
            if addresses.are_empty {
                address::ALL.into_iter().for_each(|path| self.clear(path));
            }
            return;
        };
        if member_text(chosen, "type").is_some() {
            self.lose("/addresses/type", NO_FIELD);
        }
        if is_primary(chosen) {
            self.lose("/addresses/primary", NO_FIELD);
        }
        self.lines(chosen);
        self.say_trimmed(address::CITY, member(chosen, "locality"));
        self.say_trimmed(address::ZIP_CODE, member(chosen, "postalCode"));
        self.say_trimmed(address::COUNTRY, member(chosen, "country"));
        match (member(chosen, "region"), member(chosen, "country")) {
            // States are known by their countries.
            (Said::Value(_), Said::Empty | Said::Absent) => self.lose("/addresses/region", "no country with it"),
            (region, _) => self.say_trimmed(address::STATE, region),
        }
        self.position(chosen);
    }

    /// The first line of the street with its number, and all that follows it on the second.
    fn lines(&mut self, chosen: &Value) {
        let mut lines = street_lines(chosen, self.rules.street_number);
        let inside = ["apartment", "floor"].into_iter().filter_map(|part| member_text(chosen, part));
        lines.extend(inside.map(|part| part.trim().to_owned()));
        lines.extend(member_text(chosen, "poBox").map(post_office_box));
        lines.extend(member_text(chosen, "district").map(|district| district.trim().to_owned()));
        let says_lines = ["streetAddress", "streetNumber", "apartment", "floor", "poBox", "district"];
        let speaks = says_lines.iter().any(|part| member(chosen, part) != Said::Absent);
        let mut lines = lines.into_iter();
        match lines.next() {
            Some(first) => self.set(address::LINE_1, first),
            None if speaks => self.clear(address::LINE_1),
            None => {}
        }
        let rest: Vec<String> = lines.collect();
        match rest.as_slice() {
            [] if speaks => self.clear(address::LINE_2),
            [] => {}
            [..] => self.set(address::LINE_2, rest.join(", ")),
        }
    }

    /// Both degrees or neither.
    fn position(&mut self, chosen: &Value) {
        match Position::of(chosen) {
            Position::Unsaid => {}
            Position::Empty => [address::LATITUDE, address::LONGITUDE].into_iter().for_each(|path| self.clear(path)),
            Position::Known { latitude, longitude } => {
                self.set(address::LATITUDE, latitude);
                self.set(address::LONGITUDE, longitude);
            }
            Position::Half => self.lose("/addresses/geo", HALF_POSITION),
        }
    }

    fn free_attributes(&mut self) {
        let Said::Value(Value::Object(attributes)) = self.document.at("/attributes") else { return };
        let name = self.rules.contact_type_attribute.as_str();
        for (attribute, value) in attributes {
            let text = match value {
                Value::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
                Value::Number(number) => Some(number.to_string()),
                _ => None,
            };
            match text {
                Some(contact_type) if !name.is_empty() && attribute == name => {
                    self.set(wire::CONTACT_TYPE, contact_type);
                }
                _ if !value.is_null() => self.lose("/attributes", NO_FIELD),
                _ => {}
            }
        }
    }
}
