//! The members of a create or an update: which there are, what each may hold, and what is required.
//!
//! One table per object. A member that is in none is passed over and counted; one that has the wrong type, an unknown word
//! or a reference to nothing refuses the whole request.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    CrmComSettings, FORMAT, INVALID, MISSING, Refused,
    lists::{self, List, Lists},
};

/// What a member holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    /// A name that a contact of this type cannot be without.
    Name,
    Integer,
    Number,
    /// `true`, `false`, 0 or 1.
    Flag,
    /// `YYYY-MM-DDTHH:MM:SS`.
    Moment,
    Word(&'static [&'static str]),
    Reference(List),
    /// A day, of which the year may be missing in some.
    Day {
        with_year: bool,
    },
}

/// Which contacts have a member.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    All,
    Persons,
    Companies,
}

type Member = (&'static str, Form, Whose);

const LANGUAGES: &[&str] = &[
    "ARA", "DAN", "ENG", "EST", "FIN", "FRA", "DEU", "ELL", "JPN", "VIE", "MAL", "IND", "TAI", "LAV", "LIT", "NNO",
    "POL", "POR", "RUS", "SPA", "SWE", "UKR", "CMN", "TGL", "HIN", "CUSTOM1", "CUSTOM2", "CUSTOM3", "CUSTOM4",
    "CUSTOM5", "CUSTOM6", "CUSTOM7", "CUSTOM8",
];

const TOP: &[Member] = &[
    ("title", Form::Text, Whose::Persons),
    ("first_name", Form::Name, Whose::Persons),
    ("middle_name", Form::Text, Whose::Persons),
    ("last_name", Form::Name, Whose::Persons),
    ("company_name", Form::Name, Whose::Companies),
    ("preferred_language", Form::Word(LANGUAGES), Whose::All),
    ("category_identifier", Form::Reference(List::Categories), Whose::All),
    ("owned_by_group_identifier", Form::Reference(List::Groups), Whose::All),
    ("privacy_level_identifier", Form::Reference(List::PrivacyLevels), Whose::All),
    ("notes", Form::Text, Whose::All),
    ("send_direct_marketing_material", Form::Flag, Whose::All),
    ("send_affiliate_marketing_material", Form::Flag, Whose::All),
];

const DEMOGRAPHICS: &[Member] = &[
    ("gender", Form::Word(&["MALE", "FEMALE"]), Whose::All),
    ("id_number", Form::Text, Whose::All),
    ("passport_number", Form::Text, Whose::All),
    ("social_security_number", Form::Text, Whose::All),
    ("country_of_residence_identifier", Form::Reference(List::Countries), Whose::All),
    ("id_issued_by_country_identifier", Form::Reference(List::Countries), Whose::All),
    ("passport_issued_by_country_identifier", Form::Reference(List::Countries), Whose::All),
    ("industry_identifier", Form::Reference(List::Industries), Whose::All),
    ("industry_sector_identifier", Form::Reference(List::IndustrySectors), Whose::All),
    ("date_of_birth", Form::Day { with_year: true }, Whose::All),
    ("name_day", Form::Day { with_year: false }, Whose::All),
    ("id_number_expiration_date", Form::Moment, Whose::All),
];

const COMPANY_PROFILE: &[Member] = &[
    ("profile_year", Form::Integer, Whose::All),
    ("annual_turnover", Form::Number, Whose::All),
    ("established_date", Form::Moment, Whose::All),
    ("number_of_employees", Form::Integer, Whose::All),
    ("registration_number", Form::Text, Whose::All),
    ("vat_registration_number", Form::Text, Whose::All),
    ("vat_registered_by", Form::Text, Whose::All),
    ("tax_reference_number", Form::Text, Whose::All),
    ("vat_registration_date", Form::Moment, Whose::All),
    ("registered_in_country_identifier", Form::Reference(List::Countries), Whose::All),
    ("industry_identifier", Form::Reference(List::Industries), Whose::All),
    ("industry_sector_identifier", Form::Reference(List::IndustrySectors), Whose::All),
];

const ADDRESS: &[Member] = &[
    ("is_primary", Form::Flag, Whose::All),
    ("street_name", Form::Text, Whose::All),
    ("street_number", Form::Text, Whose::All),
    ("apartment_number", Form::Text, Whose::All),
    ("area", Form::Text, Whose::All),
    ("town_city", Form::Text, Whose::All),
    ("district", Form::Text, Whose::All),
    ("municipality", Form::Text, Whose::All),
    ("postal_code", Form::Text, Whose::All),
    ("po_box", Form::Text, Whose::All),
    ("po_box_postal_code", Form::Text, Whose::All),
    ("care_of", Form::Text, Whose::All),
    ("floor", Form::Integer, Whose::All),
    ("country_identifier", Form::Reference(List::Countries), Whose::All),
    ("address_line_1", Form::Text, Whose::All),
    ("notes", Form::Text, Whose::All),
];
/// Those that do not apply where an address is in one line.
const NOT_INTERNATIONAL: &[&str] = &["street_name", "street_number", "floor", "apartment_number", "area"];

const PHONE: &[Member] = &[
    ("number", Form::Text, Whose::All),
    ("area_code", Form::Text, Whose::All),
    ("country_identifier", Form::Reference(List::Countries), Whose::All),
    ("is_primary", Form::Flag, Whose::All),
    ("notes", Form::Text, Whose::All),
];

const EMAIL: &[Member] = &[
    ("email_address", Form::Text, Whose::All),
    ("is_primary", Form::Flag, Whose::All),
    ("notes", Form::Text, Whose::All),
];

const RELATION: &[Member] = &[("notes", Form::Text, Whose::All)];

/// A set of a contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Set {
    Addresses,
    Phones,
    Emails,
    Relations,
}

impl Set {
    pub(super) const ALL: [Self; 4] = [Self::Addresses, Self::Phones, Self::Emails, Self::Relations];

    fn written(self) -> &'static str {
        match self {
            Self::Addresses => "address_set",
            Self::Phones => "phone_set",
            Self::Emails => "email_set",
            Self::Relations => "relation_set",
        }
    }

    pub(super) fn read(self) -> &'static str {
        match self {
            Self::Addresses => "addresses_set",
            Self::Phones => "phones_set",
            Self::Emails => "emails_set",
            Self::Relations => "relation_set",
        }
    }

    fn identifier(self) -> &'static str {
        match self {
            Self::Addresses => "address_identifier",
            Self::Phones => "phone_identifier",
            Self::Emails => "email_identifier",
            Self::Relations => "relation_identifier",
        }
    }

    fn types(self) -> &'static [&'static str] {
        match self {
            Self::Addresses => &["HOME", "BUSINESS", "POBOX", "CUSTOM1", "CUSTOM2", "CUSTOM3", "CUSTOM4", "CUSTOM5"],
            Self::Phones => &["LANDLINE", "MOBILE", "FAX", "CUSTOM1", "CUSTOM2", "CUSTOM3", "CUSTOM4", "CUSTOM5"],
            Self::Emails => &["PERSONAL", "BUSINESS", "CUSTOM1", "CUSTOM2", "CUSTOM3", "CUSTOM4", "CUSTOM5"],
            Self::Relations => &[
                "FAMILY_MEMBER",
                "EXTENDED_FAMILY",
                "PARTNER",
                "CLOSE_FRIEND",
                "FRIEND",
                "WORK_COLLEAGUE",
                "PARTNER_COMPANY",
                "CLIENT",
                "EMPLOYER",
                "EMPLOYEE",
                "BUSINESS",
                "CUSTOM1",
                "CUSTOM2",
                "CUSTOM3",
                "CUSTOM4",
                "CUSTOM5",
            ],
        }
    }

    fn members(self) -> &'static [Member] {
        match self {
            Self::Addresses => ADDRESS,
            Self::Phones => PHONE,
            Self::Emails => EMAIL,
            Self::Relations => RELATION,
        }
    }

    /// How many user-defined texts, numbers and dates an entry has.
    fn slots(self) -> [u32; 3] {
        match self {
            Self::Addresses => [16, 4, 4],
            Self::Phones | Self::Emails => [8, 4, 4],
            Self::Relations => [0, 0, 0],
        }
    }
}

/// Whether a contact has one entry of each type of this set.
pub(super) fn is_one_per_type(set: Set) -> bool {
    set != Set::Relations
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContactType {
    Person,
    Company,
}

impl ContactType {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Person => "PERSON",
            Self::Company => "COMPANY",
        }
    }
}

#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Create,
    Update(ContactType),
}

/// What is done to a set.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    Add { of_type: &'static str, members: BTreeMap<String, Value> },
    Update { entry: EntryName, of_type: Option<&'static str>, members: BTreeMap<String, Value> },
    Remove { entry: EntryName },
}

/// How an entry is named.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum EntryName {
    Id(String),
    Type(&'static str),
}

/// What a request says; a `null` clears.
pub(super) struct Arguments {
    pub(super) contact_type: ContactType,
    /// By the names that are read.
    pub(super) top: BTreeMap<String, Value>,
    /// `None` in place of the members: all of them are cleared.
    pub(super) objects: Vec<(&'static str, Option<BTreeMap<String, Value>>)>,
    pub(super) sets: Vec<(Set, Vec<Change>)>,
    pub(super) ignored: Vec<String>,
}

/// Takes an object with one member apart.
pub(super) fn one_member(value: &Value) -> Result<(&str, &Value), Refused> {
    let members = value.as_object().ok_or(Refused::of(FORMAT, "an identifier is an object"))?;
    let mut members = members.iter();
    match (members.next(), members.next()) {
        (Some((name, value)), None) => Ok((name, value)),
        _ => Err(Refused::of(FORMAT, "an identifier has one member")),
    }
}

impl Arguments {
    pub(super) fn read(
        body: &Map<String, Value>,
        purpose: Purpose,
        settings: &CrmComSettings,
        lists: &Lists,
    ) -> Result<Self, Refused> {
        let contact_type = match purpose {
            Purpose::Update(of_type) => of_type,
            Purpose::Create => match body.get("type").and_then(Value::as_str) {
                None => return Err(Refused::of(MISSING, "a contact has a type")),
                Some("PERSON") => ContactType::Person,
                Some("COMPANY") => ContactType::Company,
                Some(_) => return Err(Refused::of(INVALID, "PERSON or COMPANY")),
            },
        };
        let mut reader = Reader { lists, ignored: Vec::new() };
        let whose = if contact_type == ContactType::Person { Whose::Persons } else { Whose::Companies };
        let mut top = BTreeMap::new();
        let mut objects = Vec::new();
        let mut sets = Vec::new();
        for (name, value) in body {
            if let Some(set) = Set::ALL.into_iter().find(|set| set.written() == name) {
                sets.push((set, reader.changes(set, value, purpose, settings)?));
            } else if let Some((name, members, owner)) =
                [("demographics", DEMOGRAPHICS, Whose::Persons), ("company_profile", COMPANY_PROFILE, Whose::Companies)]
                    .into_iter()
                    .find(|(known, ..)| known == name)
            {
                if whose != owner {
                    return Err(Refused::of(INVALID, "not of a contact of this type"));
                }
                let inside = match value {
                    Value::Null => None,
                    Value::Object(inside) => Some(reader.members(members, [0; 3], inside, whose, &[])?),
                    _ => return Err(Refused::of(FORMAT, "an object is expected")),
                };
                objects.push((name, inside));
            } else if !matches!(name.as_str(), "token" | "type" | "contact_information_identifier" | "fields_set") {
                let one = Map::from_iter([(name.clone(), value.clone())]);
                top.extend(reader.members(TOP, [16, 8, 8], &one, whose, &[])?);
            }
        }
        if matches!(purpose, Purpose::Create) {
            let needed: &[&str] =
                if contact_type == ContactType::Person { &["first_name", "last_name"] } else { &["company_name"] };
            if needed.iter().any(|name| !top.contains_key(*name)) {
                return Err(Refused::of(MISSING, "a contact has a name"));
            }
        }
        Ok(Self { contact_type, top, objects, sets, ignored: reader.ignored })
    }
}

impl Arguments {
    /// Whom relations name.
    pub(super) fn related(&mut self) -> impl Iterator<Item = &mut Value> {
        let relations = self.sets.iter_mut().filter(|(set, _)| *set == Set::Relations).flat_map(|(_, changes)| changes);
        relations.filter_map(|change| match change {
            Change::Add { members, .. } | Change::Update { members, .. } => members.get_mut("contact"),
            Change::Remove { .. } => None,
        })
    }
}

struct Reader<'a> {
    lists: &'a Lists,
    ignored: Vec<String>,
}

impl Reader<'_> {
    /// The members that are known, by the names that are read.
    fn members(
        &mut self,
        known: &[Member],
        slots: [u32; 3],
        given: &Map<String, Value>,
        whose: Whose,
        passed_over: &[&str],
    ) -> Result<BTreeMap<String, Value>, Refused> {
        let mut said = BTreeMap::new();
        for (name, value) in given.iter().filter(|(name, _)| !passed_over.contains(&name.as_str())) {
            let member = known.iter().find(|(known, ..)| known == name);
            let Some((form, owner)) = member.map(|(_, form, owner)| (*form, *owner)).or_else(|| slot(name, slots))
            else {
                self.ignored.push(name.clone());
                continue;
            };
            if owner != Whose::All && owner != whose {
                return Err(Refused::of(INVALID, "not of a contact of this type"));
            }
            let read = name.strip_suffix("_identifier").unwrap_or(name);
            said.insert(read.to_owned(), self.value(form, value)?);
        }
        Ok(said)
    }

    fn value(&self, form: Form, value: &Value) -> Result<Value, Refused> {
        let wrong = Err(Refused::of(FORMAT, "the value has the wrong type"));
        match (form, value) {
            (Form::Name, Value::Null) => Err(Refused::of(MISSING, "a name cannot be cleared")),
            (Form::Name, Value::String(text)) if text.trim().is_empty() => {
                Err(Refused::of(MISSING, "a name cannot be blank"))
            }
            (_, Value::Null) => Ok(Value::Null),
            (Form::Text | Form::Name, Value::String(_)) => Ok(value.clone()),
            (Form::Integer, Value::Number(number)) if number.is_i64() => Ok(value.clone()),
            (Form::Number, Value::Number(_)) | (Form::Flag, Value::Bool(_)) => Ok(value.clone()),
            (Form::Flag, Value::Number(number)) => match number.as_u64() {
                Some(0) => Ok(false.into()),
                Some(1) => Ok(true.into()),
                _ => wrong,
            },
            (Form::Moment, Value::String(text)) => {
                let is_moment = text.len() == 19 && text.parse::<jiff::civil::DateTime>().is_ok();
                if is_moment { Ok(value.clone()) } else { wrong }
            }
            (Form::Word(words), Value::String(word)) => {
                let known = words.contains(&word.as_str());
                if known { Ok(value.clone()) } else { Err(Refused::of(INVALID, "no such word")) }
            }
            (Form::Reference(list), identifier) => self.lists.find(list, identifier).cloned(),
            (Form::Day { with_year }, Value::Object(day)) => {
                let part = |name: &str| day.get(name).and_then(Value::as_i64);
                let year = if with_year { part("year") } else { Some(2000) };
                let parts = (|| {
                    let (year, month, day) = (year?, part("month")?, part("day")?);
                    let parts = (i16::try_from(year).ok()?, i8::try_from(month).ok()?, i8::try_from(day).ok()?);
                    jiff::civil::Date::new(parts.0, parts.1, parts.2).ok()
                })();
                if parts.is_some() { Ok(value.clone()) } else { Err(Refused::of(INVALID, "there is no such day")) }
            }
            _ => wrong,
        }
    }

    fn changes(
        &mut self,
        set: Set,
        items: &Value,
        purpose: Purpose,
        settings: &CrmComSettings,
    ) -> Result<Vec<Change>, Refused> {
        let items = match items {
            Value::Null => return Ok(Vec::new()),
            Value::Array(items) => items,
            _ => return Err(Refused::of(FORMAT, "a set is an array")),
        };
        let mut changes = Vec::new();
        for item in items {
            let item = item.as_object().ok_or(Refused::of(FORMAT, "an entry is an object"))?;
            changes.push(self.change(set, item, purpose, settings)?);
        }
        Ok(changes)
    }

    fn change(
        &mut self,
        set: Set,
        item: &Map<String, Value>,
        purpose: Purpose,
        settings: &CrmComSettings,
    ) -> Result<Change, Refused> {
        let of_type = || match item.get("type") {
            None => Err(Refused::of(MISSING, "an entry has a type")),
            Some(word) => type_of(set, word),
        };
        let action = match (purpose, item.get("action")) {
            // A create adds whatever it has.
            (Purpose::Create, _) => "ADD".to_owned(),
            (Purpose::Update(_), Some(Value::String(word))) => word.to_uppercase(),
            (Purpose::Update(_), _) => return Err(Refused::of(MISSING, "say what to do with an entry")),
        };
        let other_party = ["contact_information_identifier", "contact_information"];
        let passed_over: Vec<&str> = ["action", "type", set.identifier()].into_iter().chain(other_party).collect();
        let mut members = self.members(set.members(), set.slots(), item, Whose::All, &passed_over)?;
        if set == Set::Relations
            && let Some(other) = other_party.iter().find_map(|name| item.get(*name))
        {
            members.insert("contact".to_owned(), other.clone());
        }
        let required = match set {
            Set::Addresses if settings.international_addresses => "address_line_1",
            Set::Addresses => "street_name",
            Set::Phones => "number",
            Set::Emails => "email_address",
            Set::Relations => "contact",
        };
        let says = |name: &str| members.get(name).is_some_and(|value| !is_blank(value));
        if set == Set::Addresses
            && settings.international_addresses
            && NOT_INTERNATIONAL.iter().any(|name| members.contains_key(*name))
        {
            return Err(Refused::of(INVALID, "not of an address of this format"));
        }
        if set == Set::Addresses && !settings.international_addresses && members.contains_key("address_line_1") {
            return Err(Refused::of(INVALID, "not of an address of this format"));
        }
        match action.as_str() {
            "ADD" => {
                let of_type = of_type()?;
                if !says(required) {
                    return Err(Refused::of(MISSING, "an entry lacks what it is about"));
                }
                Ok(Change::Add { of_type, members: self.complete(set, members, settings, true) })
            }
            "UPDATE" => {
                if members.get(required).is_some_and(is_blank) {
                    return Err(Refused::of(MISSING, "what an entry is about cannot be cleared"));
                }
                let of_type = if item.contains_key("type") { Some(of_type()?) } else { None };
                let entry = entry_name(set, item)?;
                Ok(Change::Update { entry, of_type, members: self.complete(set, members, settings, false) })
            }
            "REMOVE" => Ok(Change::Remove { entry: entry_name(set, item)? }),
            _ => Err(Refused::of(INVALID, "ADD, UPDATE or REMOVE")),
        }
    }

    /// What the system makes of members itself: the calling code, the name that an e-mail address is read by.
    fn complete(
        &self,
        set: Set,
        mut members: BTreeMap<String, Value>,
        settings: &CrmComSettings,
        is_new: bool,
    ) -> BTreeMap<String, Value> {
        if set == Set::Phones {
            if is_new && !members.contains_key("country") {
                members.extend(
                    self.lists.country(&settings.default_country).map(|row| ("country".to_owned(), row.clone())),
                );
            }
            if let Some(code) = members.get("country").and_then(lists::calling_code) {
                members.insert("area_code".to_owned(), code.into());
            }
        }
        if set == Set::Emails
            && let Some(address) = members.remove("email_address")
        {
            members.insert("email".to_owned(), address);
        }
        members
    }
}

fn is_blank(value: &Value) -> bool {
    value.is_null() || value.as_str().is_some_and(|text| text.trim().is_empty())
}

fn type_of(set: Set, word: &Value) -> Result<&'static str, Refused> {
    let word = word.as_str().ok_or(Refused::of(FORMAT, "a type is a word"))?;
    let same = |one: &str| one.eq_ignore_ascii_case(&word.replace(' ', "_"));
    set.types().iter().find(|known| same(known)).copied().ok_or(Refused::of(INVALID, "no such type"))
}

fn entry_name(set: Set, item: &Map<String, Value>) -> Result<EntryName, Refused> {
    let identifier = item.get(set.identifier()).ok_or(Refused::of(MISSING, "say which entry"))?;
    match one_member(identifier)? {
        ("id", Value::String(id)) => Ok(EntryName::Id(id.clone())),
        ("type", word) if set != Set::Relations => Ok(EntryName::Type(type_of(set, word)?)),
        _ => Err(Refused::of(INVALID, "an entry is named by id or type")),
    }
}

/// The form of a user-defined field, of which an object has so many texts, numbers and dates.
fn slot(name: &str, [texts, numbers, dates]: [u32; 3]) -> Option<(Form, Whose)> {
    let of = |start: &str, count: u32| {
        let number = name.strip_prefix(start)?;
        (1..=count).any(|known| known.to_string() == number).then_some(())
    };
    let form = if of("udf_string_", texts).is_some() {
        Form::Text
    } else if of("udf_float_", numbers).is_some() {
        Form::Number
    } else if of("udf_date_", dates).is_some() {
        Form::Moment
    } else {
        return None;
    };
    Some((form, Whose::All))
}

/// All that a contact has beside its names and objects, with nothing in it, as it is read.
pub(super) fn empty_contact() -> Map<String, Value> {
    let others = TOP
        .iter()
        .filter(|(_, form, _)| !matches!(form, Form::Flag))
        .map(|(name, ..)| name.strip_suffix("_identifier").unwrap_or(name).to_owned());
    let slots = [("udf_string", 16), ("udf_float", 8), ("udf_date", 8)]
        .into_iter()
        .flat_map(|(start, count)| (1..=count).map(move |number| format!("{start}_{number}")));
    others.chain(slots).map(|name| (name, Value::Null)).collect()
}

/// The members of both objects with nothing in them, as they are read.
pub(super) fn empty_object(name: &str) -> Map<String, Value> {
    let members = if name == "demographics" { DEMOGRAPHICS } else { COMPANY_PROFILE };
    let empty = |(name, form, _): &Member| {
        let value = match form {
            // A date that was never said reads as an object of nulls.
            Form::Day { with_year: true } => json!({ "day": null, "month": null, "year": null }),
            Form::Day { with_year: false } => json!({ "day": null, "month": null }),
            _ => Value::Null,
        };
        (name.strip_suffix("_identifier").unwrap_or(name).to_owned(), value)
    };
    members.iter().map(empty).collect()
}
