//! The arguments of a create or an update: which there are, and what of a body is one.
//!
//! A body is a form or JSON. Both come to the same [`Arguments`], with one documented difference: `meta` in a form names
//! single keys, and leaves the others; in JSON it is the whole dictionary. An empty value in a form clears, as `null`
//! does in JSON. What is not an argument is passed over, and told apart so that it can be counted; that includes the
//! fields which only the system writes. An argument of the wrong type is refused, and with it the whole request.

use std::collections::BTreeMap;

use http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::sandbox::form;

/// What a field holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// Text that may also be sent as an integer: the documents call it the one and the other.
    TextOrInteger,
    Phone,
    Email,
    Country,
    Choice(&'static [&'static str]),
    /// The id of another contact.
    Payer,
    Flag,
    /// Longitude and latitude.
    Place,
    Meta,
    /// Written by the system only: text or null.
    OwnText,
    /// Written by the system only: a list.
    OwnList,
}

/// A field of a contact.
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Whether it is shown even if it has no value.
    pub(super) always: bool,
}

const fn field(name: &'static str, kind: Kind) -> Field {
    Field { name, kind, always: true }
}

/// The fields besides `id`, in the order in which the documents show them.
pub(super) const FIELDS: &[Field] = &[
    field("name", Kind::Text),
    field("address", Kind::Text),
    field("appartment", Kind::Text),
    field("postalCode", Kind::Text),
    field("city", Kind::Text),
    field("countryCode", Kind::Country),
    field("location", Kind::Place),
    field("number", Kind::TextOrInteger),
    field("remoteId", Kind::OwnText),
    field("remoteOrderId", Kind::OwnText),
    field("phone", Kind::Phone),
    field("email", Kind::Email),
    field("registrationNo", Kind::Text),
    field("ean", Kind::Text),
    field("accountingMode", Kind::Choice(&["None", "AddToDraft", "AddToInvoice"])),
    field("accountingTime", Kind::Choice(&["BeforeWork", "AfterWork"])),
    field("invoiceDelivery", Kind::Choice(&["None", "Email"])),
    // In the tables of fields, but in none of the objects that the documents show.
    Field { name: "payingContactId", kind: Kind::Payer, always: false },
    Field { name: "note", kind: Kind::Text, always: false },
    field("notifyBeforeWork", Kind::Flag),
    field("archived", Kind::Flag),
    field("agentIds", Kind::OwnList),
    field("meta", Kind::Meta),
];

const INVALID: &str = "invalid_request";

/// Why a request is not carried out; serialised as the system tells it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Refused {
    #[serde(skip)]
    pub(super) status: StatusCode,
    #[serde(rename = "type")]
    kind: &'static str,
    message: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) param: Option<&'static str>,
}

impl Refused {
    /// For what is said of one parameter.
    pub(super) fn param(param: &'static str, message: &'static str) -> Self {
        Self { kind: INVALID, status: StatusCode::BAD_REQUEST, param: Some(param), message }
    }

    /// For the request as a whole.
    pub(super) fn whole(status: StatusCode, message: &'static str) -> Self {
        Self { kind: INVALID, status, param: None, message }
    }

    /// For a reason that lies neither in the parameters nor in the body.
    pub(super) fn otherwise(status: StatusCode, message: &'static str) -> Self {
        Self { kind: "api_error", status, param: None, message }
    }

    pub(super) fn no_such_contact() -> Self {
        Self { kind: INVALID, status: StatusCode::NOT_FOUND, param: Some("id"), message: "no such contact" }
    }
}

const WRONG_TYPE: &str = "the value has the wrong type";

/// What a request says of one field.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Said {
    /// It is to have no value.
    Nothing,
    Value(Value),
    /// Single keys of the dictionary; without a value: to be removed.
    Keys(BTreeMap<String, Option<String>>),
}

/// What a request says.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Arguments {
    pub(super) said: BTreeMap<&'static str, Said>,
    /// Names that are not arguments.
    pub(super) ignored: Vec<String>,
}

impl Arguments {
    pub(super) fn from_form(body: &[u8]) -> Result<Self, Refused> {
        let pairs = form::pairs(body)
            .map_err(|_broken| Refused::whole(StatusCode::BAD_REQUEST, "the form's encoding is broken"))?;
        let mut given: BTreeMap<&str, Vec<(Vec<&str>, &str)>> = BTreeMap::new();
        for (name, value) in &pairs {
            let (base, keys) = form::brackets(name);
            given.entry(base).or_default().push((keys, value));
        }
        Self::collect(given, |kind, entries| match (kind, entries.as_slice()) {
            (_, [(keys, "")]) if keys.is_empty() => Some(Said::Nothing),
            (Kind::Meta, entries) => meta_keys(entries),
            (Kind::Place, [(first, longitude), (second, latitude)]) => {
                let repeated = [first, second].iter().all(|keys| keys.as_slice() == [""]);
                let place: [f64; 2] = [longitude.parse().ok()?, latitude.parse().ok()?];
                repeated.then(|| Said::Value(json!(place)))
            }
            (Kind::Place, _) => None,
            (kind, [(keys, value)]) if keys.is_empty() => match (kind, *value) {
                (Kind::Flag, "true") => Some(Said::Value(true.into())),
                (Kind::Flag, "false") => Some(Said::Value(false.into())),
                (Kind::Flag, _) => None,
                (_, value) => Some(Said::Value(value.into())),
            },
            // Said twice, or with keys where there are none.
            _ => None,
        })
    }

    pub(super) fn from_json(body: &[u8]) -> Result<Self, Refused> {
        let Ok(Value::Object(given)) = serde_json::from_slice::<Value>(body) else {
            return Err(Refused::whole(StatusCode::BAD_REQUEST, "the body is not a JSON object"));
        };
        Self::collect(given, |kind, value| match (kind, value) {
            (_, Value::Null) => Some(Said::Nothing),
            (Kind::Flag, value @ Value::Bool(_)) => Some(Said::Value(value)),
            (Kind::Flag, _) => None,
            (Kind::Place, Value::Array(place)) => {
                let [longitude, latitude] = place.as_slice() else { return None };
                Some(Said::Value(json!([longitude.as_f64()?, latitude.as_f64()?])))
            }
            (Kind::Place, _) => None,
            (Kind::Meta, Value::Object(members)) => whole_meta(members),
            (Kind::Meta, _) => None,
            (Kind::TextOrInteger, Value::Number(number)) if !number.is_f64() => {
                Some(Said::Value(number.to_string().into()))
            }
            (_, Value::String(text)) if text.is_empty() => Some(Said::Nothing),
            (_, value @ Value::String(_)) => Some(Said::Value(value)),
            _ => None,
        })
    }

    /// Sorts what was given into arguments and others, each argument read by `read` and checked.
    fn collect<K: AsRef<str>, V>(
        given: impl IntoIterator<Item = (K, V)>,
        read: impl Fn(Kind, V) -> Option<Said>,
    ) -> Result<Self, Refused> {
        let mut arguments = Self::default();
        for (name, value) in given {
            let name = name.as_ref();
            let argument = FIELDS.iter().find(|field| field.name == name && field.kind.is_writable());
            let Some(Field { name, kind, .. }) = argument else {
                arguments.ignored.push(name.to_owned());
                continue;
            };
            let said = read(*kind, value).ok_or(Refused::param(name, WRONG_TYPE))?;
            if let Said::Value(value) = &said {
                check(*kind, value).map_err(|message| Refused::param(name, message))?;
            }
            arguments.said.insert(name, said);
        }
        Ok(arguments)
    }
}

impl Kind {
    fn is_writable(self) -> bool {
        !matches!(self, Self::OwnText | Self::OwnList)
    }
}

fn meta_keys(entries: &[(Vec<&str>, &str)]) -> Option<Said> {
    let mut keys = BTreeMap::new();
    for (path, value) in entries {
        let [key] = path.as_slice() else { return None };
        let value = (!value.is_empty()).then(|| (*value).to_owned());
        let repeated = keys.insert((*key).to_owned(), value).is_some();
        if repeated || key.is_empty() {
            return None;
        }
    }
    Some(Said::Keys(keys))
}

fn whole_meta(members: Map<String, Value>) -> Option<Said> {
    let members: Map<String, Value> = members.into_iter().filter(|(_, value)| !value.is_null()).collect();
    members.values().all(Value::is_string).then(|| Said::Value(members.into()))
}

/// Checks a value that has the right type.
fn check(kind: Kind, value: &Value) -> Result<(), &'static str> {
    let text = value.as_str().unwrap_or_default();
    let (holds, message) = match kind {
        Kind::Phone => (text.starts_with('+'), "a phone number begins with +"),
        Kind::Email => (text.contains('@'), "an email address has an @"),
        Kind::Country => {
            let two_letters = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase());
            (two_letters, "a country is a code of two letters")
        }
        Kind::Choice(choices) => (choices.contains(&text), "the value is not one of those that are known"),
        Kind::Place => {
            let within = |index: usize, bound: f64| {
                value[index].as_f64().is_some_and(|degrees| (-bound..=bound).contains(&degrees))
            };
            (within(0, 180.0) && within(1, 90.0), "a location is a longitude and a latitude")
        }
        _ => (true, ""),
    };
    if holds { Ok(()) } else { Err(message) }
}

/// The reference in a body, whatever else is wrong with it: the one planted in `meta`, else the number.
pub(super) fn reference(body: &[u8], is_json: bool) -> Option<String> {
    let (planted, number) = if is_json {
        let body: Value = serde_json::from_slice(body).ok()?;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        (text(&body["meta"][REFERENCE]), text(&body["number"]))
    } else {
        let pairs = form::pairs(body).ok()?;
        let value = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        (value(&format!("meta[{REFERENCE}]")), value("number"))
    };
    planted.into_iter().chain(number).find(|reference| !reference.is_empty())
}

/// The key of `meta` in which a sender's own reference is looked for.
pub(super) const REFERENCE: &str = "externalRef";
