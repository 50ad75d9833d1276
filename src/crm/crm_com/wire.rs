//! CRM.COM's side of the wire: names of members, bodies in the order of the documents, contacts and statuses.
//!
//! A projection is flat: `title`, `demographics.gender`, `phone_set.MOBILE`. Here it becomes the nested body of a create or
//! an update, and what comes back is read by the other names that CRM.COM has for the same things.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};

pub(super) const TYPE: &str = "type";
pub(super) const TITLE: &str = "title";
pub(super) const FIRST_NAME: &str = "first_name";
pub(super) const MIDDLE_NAME: &str = "middle_name";
pub(super) const LAST_NAME: &str = "last_name";
pub(super) const COMPANY_NAME: &str = "company_name";
pub(super) const PREFERRED_LANGUAGE: &str = "preferred_language";
pub(super) const CATEGORY: &str = "category_identifier";
pub(super) const GROUP: &str = "owned_by_group_identifier";
pub(super) const PRIVACY_LEVEL: &str = "privacy_level_identifier";
pub(super) const NOTES: &str = "notes";
pub(super) const DIRECT_MARKETING: &str = "send_direct_marketing_material";
pub(super) const AFFILIATE_MARKETING: &str = "send_affiliate_marketing_material";

/// Where flags about what is sent to a contact are read.
const AUTHORIZATION_SETTINGS: &str = "authorization_settings";
pub(super) const DEMOGRAPHICS: &str = "demographics";
pub(super) const COMPANY_PROFILE: &str = "company_profile";

/// Members of either object.
pub(super) mod inner {
    pub(crate) const GENDER: &str = "gender";
    pub(crate) const ID_NUMBER: &str = "id_number";
    pub(crate) const PASSPORT_NUMBER: &str = "passport_number";
    pub(crate) const SOCIAL_SECURITY_NUMBER: &str = "social_security_number";
    pub(crate) const DATE_OF_BIRTH: &str = "date_of_birth";
    pub(crate) const NAME_DAY: &str = "name_day";
    pub(crate) const ID_NUMBER_EXPIRATION_DATE: &str = "id_number_expiration_date";
    pub(crate) const INDUSTRY: &str = "industry_identifier";
    pub(crate) const INDUSTRY_SECTOR: &str = "industry_sector_identifier";
    pub(crate) const REGISTRATION_NUMBER: &str = "registration_number";
    pub(crate) const VAT_REGISTRATION_NUMBER: &str = "vat_registration_number";
    pub(crate) const COUNTRY_OF_RESIDENCE: &str = "country_of_residence_identifier";
    pub(crate) const ID_ISSUED_BY_COUNTRY: &str = "id_issued_by_country_identifier";
    pub(crate) const PASSPORT_ISSUED_BY_COUNTRY: &str = "passport_issued_by_country_identifier";
    pub(crate) const PROFILE_YEAR: &str = "profile_year";
    pub(crate) const ANNUAL_TURNOVER: &str = "annual_turnover";
    pub(crate) const ESTABLISHED_DATE: &str = "established_date";
    pub(crate) const NUMBER_OF_EMPLOYEES: &str = "number_of_employees";
    pub(crate) const VAT_REGISTERED_BY: &str = "vat_registered_by";
    pub(crate) const TAX_REFERENCE_NUMBER: &str = "tax_reference_number";
    pub(crate) const VAT_REGISTRATION_DATE: &str = "vat_registration_date";
    pub(crate) const REGISTERED_IN_COUNTRY: &str = "registered_in_country_identifier";
}

/// Those of a person, in the order in which they are written.
const OF_DEMOGRAPHICS: [&str; 12] = [
    inner::GENDER,
    inner::ID_NUMBER,
    inner::PASSPORT_NUMBER,
    inner::SOCIAL_SECURITY_NUMBER,
    inner::DATE_OF_BIRTH,
    inner::NAME_DAY,
    inner::ID_NUMBER_EXPIRATION_DATE,
    inner::INDUSTRY,
    inner::INDUSTRY_SECTOR,
    inner::COUNTRY_OF_RESIDENCE,
    inner::ID_ISSUED_BY_COUNTRY,
    inner::PASSPORT_ISSUED_BY_COUNTRY,
];
/// Those of a company.
const OF_COMPANY_PROFILE: [&str; 12] = [
    inner::REGISTRATION_NUMBER,
    inner::VAT_REGISTRATION_NUMBER,
    inner::INDUSTRY,
    inner::INDUSTRY_SECTOR,
    inner::PROFILE_YEAR,
    inner::ANNUAL_TURNOVER,
    inner::ESTABLISHED_DATE,
    inner::NUMBER_OF_EMPLOYEES,
    inner::VAT_REGISTERED_BY,
    inner::TAX_REFERENCE_NUMBER,
    inner::VAT_REGISTRATION_DATE,
    inner::REGISTERED_IN_COUNTRY,
];
/// Members of either object that no attribute of the document fills: they are ours where operators fill them.
const BY_RULE_ALONE: [&str; 13] = [
    inner::NAME_DAY,
    inner::ID_NUMBER_EXPIRATION_DATE,
    inner::COUNTRY_OF_RESIDENCE,
    inner::ID_ISSUED_BY_COUNTRY,
    inner::PASSPORT_ISSUED_BY_COUNTRY,
    inner::PROFILE_YEAR,
    inner::ANNUAL_TURNOVER,
    inner::ESTABLISHED_DATE,
    inner::NUMBER_OF_EMPLOYEES,
    inner::VAT_REGISTERED_BY,
    inner::TAX_REFERENCE_NUMBER,
    inner::VAT_REGISTRATION_DATE,
    inner::REGISTERED_IN_COUNTRY,
];

/// Fields of text or flags before the user-defined ones, in the order in which they are written.
const BEFORE: [&str; 11] = [
    TYPE,
    TITLE,
    FIRST_NAME,
    MIDDLE_NAME,
    LAST_NAME,
    COMPANY_NAME,
    PREFERRED_LANGUAGE,
    CATEGORY,
    GROUP,
    PRIVACY_LEVEL,
    NOTES,
];
const AFTER: [&str; 2] = [DIRECT_MARKETING, AFFILIATE_MARKETING];

/// The profile photo, which no body of a contact has: it travels by itself.
pub(super) const PHOTO: &str = "profile_photo";

/// Fields that only a person, or only a company, has.
const OF_PERSONS: [&str; 4] = [TITLE, FIRST_NAME, MIDDLE_NAME, LAST_NAME];

pub(super) const PERSON: &str = "PERSON";
pub(super) const COMPANY: &str = "COMPANY";

/// A set of which a contact has one entry of each type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Set {
    Addresses,
    Phones,
    Emails,
}

impl Set {
    pub(super) const ALL: [Self; 3] = [Self::Addresses, Self::Phones, Self::Emails];

    /// As it is written.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Addresses => "address_set",
            Self::Phones => "phone_set",
            Self::Emails => "email_set",
        }
    }

    /// As it is read.
    pub(super) fn read_name(self) -> &'static str {
        match self {
            Self::Addresses => "addresses_set",
            Self::Phones => "phones_set",
            Self::Emails => "emails_set",
        }
    }

    /// What names one of its entries in an update.
    pub(super) fn identifier(self) -> &'static str {
        match self {
            Self::Addresses => "address_identifier",
            Self::Phones => "phone_identifier",
            Self::Emails => "email_identifier",
        }
    }

    /// The types that have a meaning of their own.
    pub(super) fn types(self) -> &'static [&'static str] {
        match self {
            Self::Addresses => &["HOME", "BUSINESS", "POBOX"],
            Self::Phones => &["LANDLINE", "MOBILE", "FAX"],
            Self::Emails => &["PERSONAL", "BUSINESS"],
        }
    }

    /// Members of an entry, in the order in which they are written.
    pub(super) fn members(self) -> &'static [&'static str] {
        match self {
            Self::Addresses => &address::ALL,
            Self::Phones => &["number", "country_identifier", "is_primary"],
            Self::Emails => &["email_address", "is_primary"],
        }
    }

    /// The path of the entry of a type, in a projection.
    pub(super) fn path(self, of_type: &str) -> String {
        format!("{}.{of_type}", self.name())
    }

    /// The set and the type that a path stands for.
    pub(super) fn of_path(path: &str) -> Option<(Self, &str)> {
        let (name, of_type) = path.split_once('.')?;
        Some((Self::ALL.into_iter().find(|set| set.name() == name)?, of_type))
    }
}

/// Members of an address.
pub(super) mod address {
    pub(crate) const LINE: &str = "address_line_1";
    pub(crate) const STREET_NAME: &str = "street_name";
    pub(crate) const STREET_NUMBER: &str = "street_number";
    pub(crate) const FLOOR: &str = "floor";
    pub(crate) const APARTMENT_NUMBER: &str = "apartment_number";
    const AREA: &str = "area";
    const TOWN_CITY: &str = "town_city";
    const DISTRICT: &str = "district";
    const MUNICIPALITY: &str = "municipality";
    const POSTAL_CODE: &str = "postal_code";
    const PO_BOX: &str = "po_box";
    const PO_BOX_POSTAL_CODE: &str = "po_box_postal_code";
    const CARE_OF: &str = "care_of";
    pub(crate) const COUNTRY: &str = "country_identifier";

    /// Those of text that a part of ours may go to.
    pub(crate) const PLACES: [&str; 8] =
        [AREA, TOWN_CITY, DISTRICT, MUNICIPALITY, POSTAL_CODE, PO_BOX, PO_BOX_POSTAL_CODE, CARE_OF];
    /// Those that an address in one line lacks (contract section 4.4).
    pub(crate) const APART: [&str; 5] = [STREET_NAME, STREET_NUMBER, FLOOR, APARTMENT_NUMBER, AREA];

    pub(super) const ALL: [&str; 15] = [
        LINE,
        STREET_NAME,
        STREET_NUMBER,
        FLOOR,
        APARTMENT_NUMBER,
        AREA,
        TOWN_CITY,
        DISTRICT,
        MUNICIPALITY,
        POSTAL_CODE,
        PO_BOX,
        PO_BOX_POSTAL_CODE,
        CARE_OF,
        COUNTRY,
        "is_primary",
    ];
}

/// What a contact is to others: a set of its own kind, of which each entry names another contact.
pub(super) mod relations {
    pub(crate) const SET: &str = "relation_set";

    /// What one can be to another, custom types apart.
    pub(crate) const TYPES: [&str; 11] = [
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
    ];

    /// The type that a text means, however it is written: the documents have both `FAMILY MEMBER` and `FAMILY_MEMBER`.
    pub(crate) fn of_text(text: &str) -> Option<&'static str> {
        let bare = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_uppercase();
        let meant = bare(text);
        TYPES.iter().chain(&super::CUSTOM_TYPES).find(|of_type| bare(of_type) == meant).copied()
    }

    /// The type, and the other contact, of a path in a projection.
    pub(crate) fn of_path(path: &str) -> Option<(&str, crate::contact::ContactId)> {
        let (place, other) = crate::crm::relation::parts(path)?;
        Some((place.strip_prefix(SET)?.strip_prefix('.')?, other))
    }
}

/// Types that have the meaning that whoever uses them gives them.
pub(super) const CUSTOM_TYPES: [&str; 5] = ["CUSTOM1", "CUSTOM2", "CUSTOM3", "CUSTOM4", "CUSTOM5"];

/// What kind of value a user-defined field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Text,
    Number,
    Date,
}

/// The user-defined fields, in the order in which they are written.
fn slots() -> impl Iterator<Item = (String, Slot)> {
    let of = |name: &'static str, count: u32, slot| (1..=count).map(move |number| (format!("{name}_{number}"), slot));
    of("udf_string", 16, Slot::Text).chain(of("udf_float", 8, Slot::Number)).chain(of("udf_date", 8, Slot::Date))
}

pub(super) fn slot(name: &str) -> Option<Slot> {
    slots().find(|(known, _)| known == name).map(|(_, slot)| slot)
}

/// Every path that a projection may have, in the order in which fields are written.
pub(super) fn paths() -> impl Iterator<Item = String> {
    let nested = |object: &'static str, members: &'static [&'static str]| {
        members.iter().map(move |member| format!("{object}.{member}"))
    };
    let entries = Set::ALL
        .into_iter()
        .flat_map(|set| set.types().iter().chain(&CUSTOM_TYPES).map(move |of_type| set.path(of_type)));
    BEFORE
        .into_iter()
        .map(str::to_owned)
        .chain(slots().map(|(name, _)| name))
        .chain(AFTER.into_iter().map(str::to_owned))
        .chain(nested(DEMOGRAPHICS, &OF_DEMOGRAPHICS))
        .chain(nested(COMPANY_PROFILE, &OF_COMPANY_PROFILE))
        .chain(entries)
        .chain([PHOTO.to_owned()])
}

/// Whether a field is nobody's but that of an operator's rule.
pub(super) fn is_by_rule_alone(path: &str) -> bool {
    slot(path).is_some() || path.split_once('.').is_some_and(|(_, member)| BY_RULE_ALONE.contains(&member))
}

/// Whether a contact of this type can have the field.
pub(super) fn belongs(path: &str, to_type: &str) -> bool {
    let is_persons =
        OF_PERSONS.contains(&path) || path.strip_prefix(DEMOGRAPHICS).is_some_and(|rest| rest.starts_with('.'));
    let is_companys =
        path == COMPANY_NAME || path.strip_prefix(COMPANY_PROFILE).is_some_and(|rest| rest.starts_with('.'));
    if to_type == COMPANY { !is_persons } else { !is_companys }
}

/// An object whose members keep the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct Members(Vec<(String, Node)>);

#[derive(Debug)]
enum Node {
    Value(Value),
    Object(Members),
    List(Vec<Members>),
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(Some(self.0.len()))?;
        for (name, node) in &self.0 {
            members.serialize_entry(name, node)?;
        }
        members.end()
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::Object(members) => members.serialize(serializer),
            Self::List(items) => items.serialize(serializer),
        }
    }
}

impl Members {
    pub(super) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.push((name.to_owned(), Node::Value(value.into())));
        self
    }

    pub(super) fn with_object(mut self, name: &str, object: Self) -> Self {
        self.0.push((name.to_owned(), Node::Object(object)));
        self
    }

    pub(super) fn with_list(mut self, name: &str, items: Vec<Self>) -> Self {
        self.0.push((name.to_owned(), Node::List(items)));
        self
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Adds those of `names` that `values` has, in the order of `names`.
    fn with_those(self, names: &[&str], values: &Map<String, Value>) -> Self {
        let known = names.iter().filter_map(|name| values.get_key_value(*name));
        known.fold(self, |members, (name, value)| members.with(name, value.clone()))
    }

    pub(super) fn body(&self) -> Bytes {
        serde_json::to_vec(self).expect("a body serialises").into()
    }
}

/// An entry as a create has it, and as it follows the action of an update.
pub(super) fn entry(set: Set, of_type: Option<&str>, members: &Map<String, Value>) -> Members {
    let start = Members::default();
    let start = if let Some(of_type) = of_type { start.with(TYPE, of_type) } else { start };
    start.with_those(set.members(), members)
}

/// What a set of an update does to one of its entries.
pub(super) fn action(word: &str) -> Members {
    Members::default().with("action", word)
}

pub(super) fn and_members(start: Members, set: Set, members: &Map<String, Value>) -> Members {
    start.with_those(set.members(), members)
}

/// `fields`, sets apart, added to `start` as they are nested.
pub(super) fn nested(start: Members, fields: &BTreeMap<String, Value>) -> Members {
    let mut whole = start;
    let plain = paths().filter(|path| !path.contains('.') && path != PHOTO);
    for (path, value) in plain.filter_map(|path| fields.get(&path).map(|value| (path, value))) {
        whole = whole.with(&path, value.clone());
    }
    for (object, members) in [(DEMOGRAPHICS, &OF_DEMOGRAPHICS[..]), (COMPANY_PROFILE, &OF_COMPANY_PROFILE[..])] {
        let mut inside = Members::default();
        for member in members {
            if let Some(value) = fields.get(&format!("{object}.{member}")) {
                inside = match value {
                    Value::Object(date) if is_day(member) => {
                        inside.with_object(member, Members::default().with_those(&["day", "month", "year"], date))
                    }
                    value => inside.with(member, value.clone()),
                };
            }
        }
        if inside.count() > 0 {
            whole = whole.with_object(object, inside);
        }
    }
    whole
}

/// Whether a member is a day, in parts.
pub(super) fn is_day(member: &str) -> bool {
    [inner::DATE_OF_BIRTH, inner::NAME_DAY].contains(&member)
}

pub(super) fn with_set(start: Members, set: Set, items: Vec<Members>) -> Members {
    if items.is_empty() { start } else { start.with_list(set.name(), items) }
}

/// What a member that is no set is read as.
pub(super) fn read_name(name: &str) -> &str {
    name.strip_suffix("_identifier").unwrap_or(name)
}

/// What to ask an update's answer to show: the contact's id, and by their read names the members of the body.
pub(super) fn fields_set(body: &Members) -> String {
    let mut names = vec!["id"];
    for (name, _) in &body.0 {
        let read = match name.as_str() {
            "contact_information_identifier" => continue,
            DIRECT_MARKETING | AFFILIATE_MARKETING => AUTHORIZATION_SETTINGS,
            name => match Set::ALL.into_iter().find(|set| set.name() == name) {
                Some(set) => set.read_name(),
                None if name == relations::SET => relations::SET,
                None => read_name(name),
            },
        };
        if !names.contains(&read) {
            names.push(read);
        }
    }
    names.join(",")
}

/// All but what RFC 3986 calls unreserved.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(super) fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// What an answer says of itself.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) code: String,
    /// Message and description, in lower case; for comparison only, since they may quote the contact.
    message: String,
}

impl Status {
    pub(super) fn is_ok(&self) -> bool {
        self.code == "OK"
    }

    pub(super) fn mentions(&self, part: &str) -> bool {
        self.message.contains(&part.to_lowercase())
    }
}

/// An answer in CRM.COM's envelope.
pub(super) struct Envelope {
    pub(super) status: Status,
    pub(super) data: Value,
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "envelope of {}", if self.status.is_ok() { "a success" } else { "a failure" })
    }
}

/// The envelope in a body; `None` if there is none.
pub(super) fn envelope(body: &[u8]) -> Option<Envelope> {
    let Value::Object(mut members) = serde_json::from_slice(body).ok()? else { return None };
    let status = members.get("status")?.as_object()?;
    let text = |name: &str| status.get(name).and_then(Value::as_str).unwrap_or_default();
    let code = status.get("code")?.as_str()?.to_owned();
    let message = format!("{} {}", text("message"), text("description")).to_lowercase();
    Some(Envelope { status: Status { code, message }, data: members.remove("data").unwrap_or(Value::Null) })
}

/// Longest remote id that is taken for one.
const REMOTE_ID_LENGTH_MAX: usize = 64;

/// A contact as CRM.COM shows it, in whole or in part.
#[derive(Clone)]
pub(super) struct Contact {
    pub(super) id: String,
    members: Map<String, Value>,
}

impl fmt::Debug for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Contact")
    }
}

impl Contact {
    pub(super) fn of(value: Value) -> Option<Self> {
        let Value::Object(members) = value else { return None };
        // An id is published with the outcome, so what might be anything else is not taken for one.
        let id = members.get("id").and_then(text_of).filter(|id| is_id(id) && id.len() <= REMOTE_ID_LENGTH_MAX)?;
        Some(Self { id, members })
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.members.get(name).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
    }

    /// PERSON or COMPANY.
    pub(super) fn contact_type(&self) -> Option<String> {
        self.text(TYPE).map(str::to_uppercase)
    }

    /// What stands below the name of an object, such as `demographics`.
    pub(super) fn inner(&self, object: &str, name: &str) -> Option<&str> {
        self.members.get(object)?.get(name)?.as_str().map(str::trim).filter(|text| !text.is_empty())
    }

    /// What is shown of a path that is no entry of a set; null if nothing.
    pub(super) fn value(&self, path: &str) -> &Value {
        let shown = match path.split_once('.') {
            Some((object, member)) => self.members.get(object).and_then(|object| object.get(read_name(member))),
            None if [DIRECT_MARKETING, AFFILIATE_MARKETING].contains(&path) => {
                self.members.get(AUTHORIZATION_SETTINGS).and_then(|settings| settings.get(path))
            }
            None => self.members.get(read_name(path)),
        };
        shown.unwrap_or(&Value::Null)
    }

    /// The entries of a set that are in use. Removed ones stay, marked as inactive.
    pub(super) fn entries(&self, set: Set) -> impl Iterator<Item = Entry<'_>> {
        let items = self.members.get(set.read_name()).and_then(Value::as_array);
        let entries = items.into_iter().flatten().filter_map(Value::as_object).map(|members| Entry { members });
        entries.filter(|entry| !entry.text("state").is_some_and(|state| state.eq_ignore_ascii_case("inactive")))
    }

    /// The relations that are in use, if the answer shows them.
    pub(super) fn relations(&self) -> Option<impl Iterator<Item = Entry<'_>>> {
        let items = self.members.get(relations::SET)?;
        let entries = items.as_array().into_iter().flatten().filter_map(Value::as_object);
        let entries = entries.map(|members| Entry { members });
        Some(entries.filter(|entry| !entry.text("state").is_some_and(|state| state.eq_ignore_ascii_case("inactive"))))
    }

    /// Whether the answer has the set at all.
    pub(super) fn shows(&self, set: Set) -> bool {
        self.members.get(set.read_name()).is_some_and(|items| items.is_array() || items.is_null())
    }
}

/// One entry of a set as CRM.COM shows it.
#[derive(Clone, Copy)]
pub(super) struct Entry<'a> {
    members: &'a Map<String, Value>,
}

impl<'a> Entry<'a> {
    pub(super) fn value(&self, name: &str) -> &'a Value {
        self.members.get(name).unwrap_or(&Value::Null)
    }

    pub(super) fn text(&self, name: &str) -> Option<&'a str> {
        self.value(name).as_str().map(str::trim).filter(|text| !text.is_empty())
    }

    /// Its type in capital letters: older releases show `Home`.
    pub(super) fn of_type(&self) -> Option<String> {
        self.text(TYPE).map(str::to_uppercase)
    }

    /// The contact that a relation names.
    pub(super) fn other(&self) -> Option<String> {
        self.value("contact").get("id").and_then(text_of)
    }

    pub(super) fn id(&self) -> Option<String> {
        self.members.get("id").and_then(text_of).filter(|id| !id.is_empty())
    }
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// A text, number or boolean as text.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
