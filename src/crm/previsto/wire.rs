//! Previsto's side of the wire: names of fields, bodies as forms, contacts and errors as JSON.
//!
//! A form knows texts and nothing else, so a `null` has to be written as something else, and which is a setting.

use std::collections::BTreeMap;

use bytes::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value};

use crate::{
    config::{FormClear, LocationForm},
    crm::{Field, NotSettable, Takes, relation},
};

pub(super) const NAME: &str = "name";
pub(super) const ADDRESS: &str = "address";
pub(super) const APARTMENT: &str = "appartment";
pub(super) const POSTAL_CODE: &str = "postalCode";
pub(super) const CITY: &str = "city";
pub(super) const COUNTRY_CODE: &str = "countryCode";
pub(super) const LOCATION: &str = "location";
pub(super) const PHONE: &str = "phone";
pub(super) const EMAIL: &str = "email";
pub(super) const REGISTRATION_NO: &str = "registrationNo";
pub(super) const EAN: &str = "ean";
pub(super) const ACCOUNTING_MODE: &str = "accountingMode";
pub(super) const ACCOUNTING_TIME: &str = "accountingTime";
pub(super) const INVOICE_DELIVERY: &str = "invoiceDelivery";
pub(super) const PAYING_CONTACT_ID: &str = "payingContactId";
pub(super) const NOTE: &str = "note";
pub(super) const NOTIFY_BEFORE_WORK: &str = "notifyBeforeWork";
pub(super) const ARCHIVED: &str = "archived";
pub(super) const NUMBER: &str = "number";

/// The fields of a contact that can be written, in the order in which they are.
const FIELDS: [&str; 19] = [
    NAME,
    ADDRESS,
    APARTMENT,
    POSTAL_CODE,
    CITY,
    COUNTRY_CODE,
    LOCATION,
    PHONE,
    EMAIL,
    REGISTRATION_NO,
    EAN,
    ACCOUNTING_MODE,
    ACCOUNTING_TIME,
    INVOICE_DELIVERY,
    PAYING_CONTACT_ID,
    NOTE,
    NOTIFY_BEFORE_WORK,
    ARCHIVED,
    NUMBER,
];

/// What stands before the keys of the free dictionary, in a projection.
const META: &str = "meta.";

/// Keys of ours in the free dictionary. Of letters alone, so that no free attribute can take the place of one.
pub(super) mod meta {
    pub(crate) const EXTERNAL_REF: &str = "externalRef";
    pub(crate) const SOURCE: &str = "source";
    /// Says that we did not make the contact, and so that not all it holds is from us.
    pub(crate) const ADOPTED: &str = "adopted";
    pub(crate) const KIND: &str = "kind";
    pub(crate) const ORGANIZATION: &str = "organization";
    pub(crate) const DEPARTMENT: &str = "department";
    pub(crate) const JOB_TITLE: &str = "jobTitle";
    pub(crate) const ORGANIZATION_TYPE: &str = "organizationType";
    pub(crate) const MARKET_SECTOR: &str = "marketSector";
    pub(crate) const BIRTH_DATE: &str = "birthDate";
    pub(crate) const GENDER: &str = "gender";
    pub(crate) const LANGUAGE: &str = "language";
    pub(crate) const CONSENT_MARKETING: &str = "consentMarketing";
    pub(crate) const CONSENT_DATA_PROCESSING: &str = "consentDataProcessing";

    /// Those that come and go with the record.
    pub(crate) const OF_RECORD: [&str; 11] = [
        KIND,
        ORGANIZATION,
        DEPARTMENT,
        JOB_TITLE,
        ORGANIZATION_TYPE,
        MARKET_SECTOR,
        BIRTH_DATE,
        GENDER,
        LANGUAGE,
        CONSENT_MARKETING,
        CONSENT_DATA_PROCESSING,
    ];
}

/// The path of a key of the free dictionary, in a projection.
pub(super) fn meta_path(key: &str) -> String {
    format!("{META}{key}")
}

/// The key of the free dictionary that a path stands for.
pub(super) fn meta_key(path: &str) -> Option<&str> {
    path.strip_prefix(META)
}

/// What operators may do with a field of this name.
pub(super) fn settable(name: &str) -> Result<Field, NotSettable> {
    if let Some(key) = meta_key(name) {
        return match key {
            meta::EXTERNAL_REF | meta::SOURCE | meta::ADOPTED => Err(NotSettable::Reference),
            key if is_key(key) => Ok(Field::optional(Takes::Text)),
            _ => Err(NotSettable::Unknown),
        };
    }
    match FIELDS.into_iter().find(|field| *field == name).ok_or(NotSettable::Unknown)? {
        NUMBER => Err(NotSettable::Reference),
        PAYING_CONTACT_ID => Err(NotSettable::Entry),
        ARCHIVED => Err(NotSettable::Presence),
        NAME => Ok(Field::required(Takes::Text)),
        LOCATION => Ok(Field::optional(Takes::Parts)),
        NOTIFY_BEFORE_WORK => Ok(Field::optional(Takes::Boolean)),
        field => {
            let choices = STEERING.iter().find(|(steering, choices)| *steering == field && !choices.is_empty());
            Ok(Field::optional(choices.map_or(Takes::Text, |(_, choices)| Takes::Choice(choices))))
        }
    }
}

/// Whether a name can be a key of the free dictionary: brackets would end it in the form.
pub(super) fn is_key(name: &str) -> bool {
    !name.is_empty() && !name.contains(|letter: char| matches!(letter, '[' | ']') || letter.is_control())
}

/// Fields that steer the product, with the values that they may have; none listed: any text.
pub(super) const STEERING: [(&str, &[&str]); 4] = [
    (EAN, &[]),
    (ACCOUNTING_MODE, &["None", "AddToDraft", "AddToInvoice"]),
    (ACCOUNTING_TIME, &["BeforeWork", "AfterWork"]),
    (INVOICE_DELIVERY, &["None", "Email"]),
];

/// Fields that can be cleared and are the same for every contact.
pub(super) fn clearable() -> impl Iterator<Item = String> {
    let fields =
        FIELDS.into_iter().filter(|field| !matches!(*field, NAME | NUMBER | PAYING_CONTACT_ID)).map(str::to_owned);
    fields.chain(meta::OF_RECORD.into_iter().map(meta_path))
}

/// Whether a field is a flag, which is never without a value.
pub(super) fn is_flag(field: &str) -> bool {
    matches!(field, ARCHIVED | NOTIFY_BEFORE_WORK)
}

/// A name from outside, if it is one of Previsto's fields.
pub(super) fn known_field(name: &str) -> Option<&'static str> {
    FIELDS.into_iter().chain(["meta", "id", "search", "size", "page"]).find(|field| *field == name)
}

/// All but what RFC 3986 calls unreserved. A blank is `%20`, as in Previsto's own examples, and never `+`.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

pub(super) fn escape(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

/// How a form says what it has no words for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forms {
    pub(super) location: LocationForm,
    pub(super) clear: FormClear,
}

impl Forms {
    /// The body that sets `fields`, `null` among them for those to be cleared; `None` if there is nothing to say.
    pub(super) fn body(self, fields: &BTreeMap<String, Value>) -> Option<Bytes> {
        let fields = &with_payer_in_place(fields);
        let known = FIELDS.into_iter().filter_map(|field| fields.get_key_value(field));
        let meta = fields.iter().filter(|(path, _)| meta_key(path).is_some());
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (path, value) in known.chain(meta) {
            let name = meta_key(path).map_or_else(|| path.clone(), |key| format!("meta[{key}]"));
            match value {
                // Neither flag has an empty state; a new contact has both unset.
                Value::Null if matches!(path.as_str(), ARCHIVED | NOTIFY_BEFORE_WORK) => {
                    pairs.extend((self.clear != FormClear::Omit).then(|| (name, "false".to_owned())));
                }
                Value::Null => match self.clear {
                    FormClear::Empty => pairs.push((name, String::new())),
                    FormClear::Null => pairs.push((name, "null".to_owned())),
                    FormClear::Omit => {}
                },
                Value::Array(position) => self.position(&name, position, &mut pairs),
                value => pairs.extend(text_of(value).map(|text| (name, text))),
            }
        }
        let pairs: Vec<String> =
            pairs.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
        (!pairs.is_empty()).then(|| Bytes::from(pairs.join("&")))
    }

    fn position(self, name: &str, position: &[Value], pairs: &mut Vec<(String, String)>) {
        let degrees: Vec<String> = position.iter().filter_map(text_of).collect();
        // Half a position is somewhere else.
        let [longitude, latitude] = degrees.as_slice() else { return };
        match self.location {
            LocationForm::Repeated => {
                pairs.extend(degrees.iter().map(|degrees| (format!("{name}[]"), degrees.clone())));
            }
            LocationForm::Indexed => {
                pairs.extend((0..).zip(&degrees).map(|(index, degrees)| (format!("{name}[{index}]"), degrees.clone())));
            }
            LocationForm::Joined => pairs.push((name.to_owned(), format!("{longitude},{latitude}"))),
        }
    }
}

/// Whether a field of a projection says who pays, or that some contact no longer does.
pub(super) fn is_payer(path: &str) -> bool {
    relation::parts(path).is_some_and(|(place, _)| place == PAYING_CONTACT_ID)
}

/// `fields` as a form has them: one contact pays at most, and whoever pays, nobody else does.
fn with_payer_in_place(fields: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let (payers, mut rest): (BTreeMap<_, _>, BTreeMap<_, _>) =
        fields.clone().into_iter().partition(|(path, _)| is_payer(path));
    let id = payers.values().find_map(|payer| payer.get("id")).cloned();
    if let Some(said) = id.or((!payers.is_empty()).then_some(Value::Null)) {
        rest.insert(PAYING_CONTACT_ID.to_owned(), said);
    }
    rest
}

/// A text, number or boolean as a form writes it.
pub(super) fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        // Without an exponent, which not every reader of a form understands.
        Value::Number(number) if number.is_f64() => number.as_f64().map(|number| number.to_string()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// What is read of a contact in Previsto.
#[derive(Clone, PartialEq)]
pub(super) struct Contact {
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) email: Option<String>,
    pub(super) phone: Option<String>,
    pub(super) number: Option<String>,
    pub(super) archived: Option<bool>,
    pub(super) meta: BTreeMap<String, String>,
}

impl std::fmt::Debug for Contact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Contact")
    }
}

/// Longest remote id that is taken for one.
const REMOTE_ID_LENGTH_MAX: usize = 64;

impl Contact {
    /// From a JSON object; `None` if it is no contact with an id.
    fn of(value: &Value) -> Option<Self> {
        let members = value.as_object()?;
        let text = |name: &str| members.get(name).and_then(text_of).filter(|text| !text.is_empty());
        // An id is published with the outcome, so what might be anything else is not taken for one.
        let id = text("id").filter(|id| {
            id.len() <= REMOTE_ID_LENGTH_MAX
                && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        })?;
        let meta = members.get("meta").and_then(Value::as_object);
        let meta = meta.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), text_of(value)?)));
        Some(Self {
            id,
            name: text(NAME),
            email: text(EMAIL),
            phone: text(PHONE),
            number: text(NUMBER),
            archived: members.get(ARCHIVED).and_then(Value::as_bool),
            meta: meta.collect(),
        })
    }

    /// The contact id that somebody planted here.
    pub(super) fn reference(&self) -> Option<&str> {
        self.meta.get(meta::EXTERNAL_REF).map(|text| text.trim()).filter(|text| !text.is_empty())
    }
}

/// The contact in the body of an answer.
pub(super) fn contact(body: &[u8]) -> Option<Contact> {
    Contact::of(&serde_json::from_slice(body).ok()?)
}

/// One page of a list. A page with anything but contacts in it is none: what is passed over might be the one looked for.
pub(super) fn page(body: &[u8]) -> Option<Vec<Contact>> {
    let items: Vec<Value> = serde_json::from_slice(body).ok()?;
    items.iter().map(Contact::of).collect()
}

/// What an error body says, its message apart, which may quote the contact.
#[derive(Debug, Default)]
pub(super) struct ErrorBody {
    pub(super) kind: Option<String>,
    pub(super) param: Option<&'static str>,
}

pub(super) fn error(body: &[u8]) -> ErrorBody {
    let Ok(members) = serde_json::from_slice::<Map<String, Value>>(body) else { return ErrorBody::default() };
    let text = |name: &str| members.get(name).and_then(Value::as_str);
    let param = text("param").map(|param| param.split('[').next().unwrap_or_default());
    ErrorBody { kind: text("type").map(str::to_owned), param: param.and_then(known_field) }
}
