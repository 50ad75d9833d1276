//! The one table of what a contact document may hold, and the check against it.
//!
//! A snapshot and a merge patch are checked by the same walk, because they differ only in what a null means once
//! applied. What the table does not know is left out and counted, so that a source may say more than we understand;
//! what it knows must have its form, because a wrong type that slipped in would be found by a CRM, a day later.
//!
//! Nothing is normalised: what passes is what the source wrote. The exceptions are the two that keep readers simple: a
//! label that is not listed becomes `other`, and an empty item of an array, which says nothing, is left out.
//!
//! The walk goes as deep as the table, never as deep as the value.

mod expected;
mod json_schema;
mod values;

use std::{borrow::Cow, sync::LazyLock};

use serde_json::{Map, Value};

pub use expected::expected;
pub(crate) use json_schema::{DATE, any_case, base64, json_schema};
pub use values::{PHOTO_BYTES_MAX, data_url};

use super::Document;
use crate::event::ReasonCode;

/// Why a document is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentFault {
    /// [`ReasonCode::WrongType`] or [`ReasonCode::BadValue`].
    pub code: ReasonCode,
    /// JSON pointer into the document. Names only, never values.
    pub pointer: String,
}

/// Longest name of a member of a map that a pointer repeats, in bytes. A fault at a longer one points to its map.
const NAME_BYTES_MAX: usize = 256;

/// What stands for a label that is not listed.
const OTHER: &str = "other";

struct Attribute {
    name: &'static str,
    form: Form,
}

enum Form {
    Text,
    Boolean,
    /// A number from −bound to bound.
    Degrees(f64),
    /// One of these, or a fault.
    Choice(&'static [&'static str]),
    /// One of these, or `other`.
    Label(&'static [&'static str]),
    /// A day that exists, as `YYYY-MM-DD`.
    Date,
    /// ISO 3166-1 alpha-2.
    Country,
    /// A well-formed BCP 47 tag.
    Language,
    /// A data URL or an https URL.
    Photo,
    Object(&'static [Attribute]),
    /// Of objects.
    Array(&'static [Attribute]),
    /// Free names, text values.
    TextMap,
    /// Free names; text, numbers and booleans.
    ScalarMap,
}

impl Form {
    const fn holds(&self) -> Holds {
        match self {
            Self::Text | Self::Date | Self::Country | Self::Language | Self::Photo => Holds::Text,
            Self::Choice(choices) | Self::Label(choices) => Holds::Choice(choices),
            Self::Boolean => Holds::Boolean,
            Self::Degrees(_) => Holds::Number,
            Self::Object(_) | Self::Array(_) | Self::TextMap | Self::ScalarMap => Holds::Others,
        }
    }
}

const fn attribute(name: &'static str, form: Form) -> Attribute {
    Attribute { name, form }
}

const CONTACT: &[Attribute] = &[
    attribute("kind", Form::Choice(&["person", "organization"])),
    attribute("name", Form::Object(NAME)),
    attribute("emails", Form::Array(EMAIL)),
    attribute("phoneNumbers", Form::Array(PHONE_NUMBER)),
    attribute("addresses", Form::Array(ADDRESS)),
    attribute("organization", Form::Object(ORGANIZATION)),
    attribute("birthDate", Form::Date),
    attribute("gender", Form::Text),
    attribute("preferredLanguage", Form::Language),
    attribute("notes", Form::Text),
    attribute("consent", Form::Object(CONSENT)),
    attribute("active", Form::Boolean),
    attribute("identifiers", Form::TextMap),
    attribute("owner", Form::Text),
    attribute("photos", Form::Array(PHOTO)),
    attribute("relations", Form::Array(RELATION)),
    attribute("attributes", Form::ScalarMap),
];

const NAME: &[Attribute] = &[
    attribute("honorificPrefix", Form::Text),
    attribute("givenName", Form::Text),
    attribute("middleName", Form::Text),
    attribute("familyName", Form::Text),
    attribute("honorificSuffix", Form::Text),
    attribute("formatted", Form::Text),
];

const EMAIL: &[Attribute] = &[
    attribute("value", Form::Text),
    attribute("type", Form::Label(&["work", "home", OTHER])),
    attribute("primary", Form::Boolean),
];

const PHONE_NUMBER: &[Attribute] = &[
    attribute("value", Form::Text),
    attribute("type", Form::Label(&["mobile", "work", "home", "fax", OTHER])),
    attribute("primary", Form::Boolean),
];

const ADDRESS: &[Attribute] = &[
    attribute("type", Form::Label(&["work", "home", "postal", OTHER])),
    attribute("streetAddress", Form::Text),
    attribute("streetNumber", Form::Text),
    attribute("apartment", Form::Text),
    attribute("floor", Form::Text),
    attribute("poBox", Form::Text),
    attribute("locality", Form::Text),
    attribute("district", Form::Text),
    attribute("region", Form::Text),
    attribute("postalCode", Form::Text),
    attribute("country", Form::Country),
    attribute("geo", Form::Object(GEO)),
    attribute("primary", Form::Boolean),
];

const GEO: &[Attribute] = &[attribute("longitude", Form::Degrees(180.0)), attribute("latitude", Form::Degrees(90.0))];

/// Each member is a unit of its own when several sources speak.
const ORGANIZATION: &[Attribute] = &[
    attribute("name", Form::Text),
    attribute("department", Form::Text),
    attribute("title", Form::Text),
    attribute("registrationNumber", Form::Text),
    attribute("vatNumber", Form::Text),
    attribute("type", Form::Text),
    attribute("marketSector", Form::Text),
    attribute("industry", Form::Text),
];

const CONSENT: &[Attribute] = &[attribute("marketing", Form::Boolean), attribute("dataProcessing", Form::Boolean)];

const PHOTO: &[Attribute] = &[attribute("value", Form::Photo), attribute("type", Form::Text)];

const RELATION: &[Attribute] = &[
    attribute("type", Form::Text),
    attribute("source", Form::Text),
    attribute("subject", Form::Text),
    attribute("notes", Form::Text),
];

/// Checks a contact, whole or as a merge patch. With it comes how many attributes and labels were not known.
///
/// # Errors
/// The first place whose type or value is wrong.
pub fn check(value: Value) -> Result<(Map<String, Value>, u32), DocumentFault> {
    let mut walk = Walk { ignored: 0 };
    match value {
        Value::Object(members) => {
            let members = walk.object(members, CONTACT, &Place::Root)?;
            Ok((members, walk.ignored))
        }
        _ => Err(Place::Root.wrong_type()),
    }
}

struct Walk {
    ignored: u32,
}

impl Walk {
    fn object(
        &mut self,
        members: Map<String, Value>,
        attributes: &[Attribute],
        place: &Place<'_>,
    ) -> Result<Map<String, Value>, DocumentFault> {
        let mut checked = Map::new();
        for (name, value) in members {
            match attributes.iter().find(|attribute| attribute.name == name) {
                None => self.ignored += 1,
                Some(attribute) => {
                    let value = self.value(value, &attribute.form, &place.member(attribute.name))?;
                    checked.insert(name, value);
                }
            }
        }
        Ok(checked)
    }

    fn value(&mut self, value: Value, form: &Form, place: &Place<'_>) -> Result<Value, DocumentFault> {
        let sound = |is_sound: bool, text: String| {
            if is_sound { Ok(Value::String(text)) } else { Err(place.bad_value()) }
        };
        match (form, value) {
            (_, Value::Null) => Ok(Value::Null),
            (Form::Text, value @ Value::String(_)) | (Form::Boolean, value @ Value::Bool(_)) => Ok(value),
            (Form::Choice(choices), Value::String(text)) => sound(choices.contains(&text.as_str()), text),
            (Form::Date, Value::String(text)) => sound(values::is_date(&text), text),
            (Form::Country, Value::String(text)) => sound(values::is_country(&text), text),
            (Form::Language, Value::String(text)) => sound(values::is_language(&text), text),
            (Form::Photo, Value::String(text)) => sound(values::is_photo(&text), text),
            (Form::Label(labels), Value::String(text)) => {
                if labels.contains(&text.as_str()) {
                    return Ok(Value::String(text));
                }
                self.ignored += 1;
                Ok(Value::String(OTHER.to_owned()))
            }
            (Form::Degrees(bound), Value::Number(number)) => match number.as_f64() {
                Some(degrees) if degrees.abs() <= *bound => Ok(Value::Number(number)),
                _ => Err(place.bad_value()),
            },
            (Form::Object(attributes), Value::Object(members)) => {
                Ok(Value::Object(self.object(members, attributes, place)?))
            }
            (Form::Array(attributes), Value::Array(items)) => {
                let mut checked = Vec::with_capacity(items.len());
                for (index, item) in items.into_iter().enumerate() {
                    let place = place.item(index);
                    match item {
                        Value::Object(members) => {
                            checked.push(Value::Object(self.object(members, attributes, &place)?));
                        }
                        Value::Null => self.ignored += 1,
                        _ => return Err(place.wrong_type()),
                    }
                }
                Ok(Value::Array(checked))
            }
            (Form::TextMap, Value::Object(members)) => {
                map(members, place, |value| matches!(value, Value::Null | Value::String(_)))
            }
            (Form::ScalarMap, Value::Object(members)) => {
                map(members, place, |value| !matches!(value, Value::Array(_) | Value::Object(_)))
            }
            _ => Err(place.wrong_type()),
        }
    }
}

fn map(members: Map<String, Value>, place: &Place<'_>, fits: impl Fn(&Value) -> bool) -> Result<Value, DocumentFault> {
    match members.iter().find(|(_, value)| !fits(value)) {
        None => Ok(Value::Object(members)),
        Some((name, _)) if name.len() <= NAME_BYTES_MAX => Err(place.member(name).wrong_type()),
        Some(_) => Err(place.wrong_type()),
    }
}

/// Where the walk is. Linked along the stack, so that a pointer is only built once something is wrong.
enum Place<'a> {
    Root,
    Member(&'a Place<'a>, &'a str),
    Item(&'a Place<'a>, usize),
}

impl<'a> Place<'a> {
    fn member(&'a self, name: &'a str) -> Self {
        Self::Member(self, name)
    }

    fn item(&'a self, index: usize) -> Self {
        Self::Item(self, index)
    }

    fn wrong_type(&self) -> DocumentFault {
        DocumentFault { code: ReasonCode::WrongType, pointer: self.pointer() }
    }

    fn bad_value(&self) -> DocumentFault {
        DocumentFault { code: ReasonCode::BadValue, pointer: self.pointer() }
    }

    fn pointer(&self) -> String {
        match self {
            Self::Root => String::new(),
            Self::Member(parent, name) => format!("{}/{}", parent.pointer(), escape(name)),
            Self::Item(parent, index) => format!("{}/{index}", parent.pointer()),
        }
    }
}

/// A name as a step of a JSON pointer.
pub fn escape(name: &str) -> Cow<'_, str> {
    if name.contains(['~', '/']) { Cow::Owned(name.replace('~', "~0").replace('/', "~1")) } else { Cow::Borrowed(name) }
}

/// The name that a step of a JSON pointer stands for.
pub fn unescape(step: &str) -> Cow<'_, str> {
    if step.contains('~') { Cow::Owned(step.replace("~1", "/").replace("~0", "~")) } else { Cow::Borrowed(step) }
}

/// Every attribute of the table, as a JSON pointer without array indices (`/emails/value`); what holds others stands
/// before what it holds. A map is one path, whatever its names.
///
/// Loss reports take their names from here.
pub fn paths() -> impl Iterator<Item = &'static str> {
    PATHS.iter().map(|path| path.pointer.as_str())
}

/// Those of [`paths`] that hold no others.
pub fn leaves() -> impl Iterator<Item = &'static str> {
    PATHS.iter().filter(|path| path.is_leaf).map(|path| path.pointer.as_str())
}

/// Those of [`leaves`] at which a document has a value, in the order of the table.
pub fn leaves_said(document: &Document) -> impl Iterator<Item = &'static str> {
    PATHS.iter().filter(|path| path.is_leaf && says(document.members(), &path.steps)).map(|path| path.pointer.as_str())
}

fn says(members: &Map<String, Value>, steps: &[&str]) -> bool {
    match steps {
        [] => members.values().any(|member| !member.is_null()),
        [step, rest @ ..] => members.get(*step).is_some_and(|member| match member {
            Value::Null => false,
            Value::Object(inner) => says(inner, rest),
            Value::Array(items) => items.iter().filter_map(Value::as_object).any(|item| says(item, rest)),
            _ => true,
        }),
    }
}

/// What an attribute holds, as far as a setting that names it must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    Text,
    /// One of these texts.
    Choice(&'static [&'static str]),
    Number,
    Boolean,
    /// Text, a number or a boolean, as its source likes.
    Scalar,
    /// Other attributes.
    Others,
}

/// A place in a contact document that a setting names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// As in [`paths`].
    pub path: &'static str,
    pub holds: Holds,
    /// Where the pointer passes through an array without saying which item: the array and, within each item, the rest.
    pub each: Option<(String, String)>,
}

/// The place that a JSON pointer names; `None` if no document has it. The index of an array may be left out
/// (`/emails/value`): then all its items are meant.
pub fn named(pointer: &str) -> Option<Named> {
    let mut steps = pointer.strip_prefix('/')?.split('/').peekable();
    let (mut path, mut passed, mut each) = (String::new(), String::new(), None);
    let mut attributes = CONTACT;
    loop {
        let step = steps.next()?;
        let attribute = attributes.iter().find(|attribute| attribute.name == step)?;
        path = format!("{path}/{step}");
        passed = format!("{passed}/{step}");
        let mut holds = attribute.form.holds();
        match &attribute.form {
            Form::Object(members) if steps.peek().is_some() => {
                attributes = members;
                continue;
            }
            Form::Array(members) if steps.peek().is_some() => {
                let index = steps.next_if(|step| is_index(step));
                match index {
                    Some(index) => passed = format!("{passed}/{index}"),
                    None => each = Some(std::mem::take(&mut passed)),
                }
                if steps.peek().is_some() {
                    attributes = members;
                    continue;
                }
            }
            Form::TextMap | Form::ScalarMap if steps.peek().is_some() => {
                let is_text = matches!(attribute.form, Form::TextMap);
                holds = if is_text { Holds::Text } else { Holds::Scalar };
                steps.next().filter(|name| !name.is_empty())?;
            }
            _ => {}
        }
        let is_end = steps.next().is_none();
        let path = PATHS.iter().find(|known| known.pointer == path)?.pointer.as_str();
        return is_end.then(|| Named { path, holds, each: each.map(|array| (array, passed)) });
    }
}

/// Whether a step of a pointer is the index of an item, as RFC 6901 writes it.
fn is_index(step: &str) -> bool {
    step == "0" || !step.starts_with('0') && !step.is_empty() && step.bytes().all(|byte| byte.is_ascii_digit())
}

/// Names of the members of a closed object of the contact, such as `organization`.
pub(super) fn members_of(name: &str) -> impl Iterator<Item = &'static str> + use<> {
    let attributes = CONTACT.iter().find(|attribute| attribute.name == name).map(|attribute| &attribute.form);
    let members: &[Attribute] = match attributes {
        Some(Form::Object(members)) => members,
        _ => &[],
    };
    members.iter().map(|member| member.name)
}

/// Names of the attributes of a contact, in the order of the table.
pub(super) fn attributes() -> impl Iterator<Item = &'static str> {
    CONTACT.iter().map(|attribute| attribute.name)
}

struct Path {
    pointer: String,
    steps: Vec<&'static str>,
    is_leaf: bool,
}

static PATHS: LazyLock<Vec<Path>> = LazyLock::new(|| {
    fn list(attributes: &'static [Attribute], parent: &[&'static str], paths: &mut Vec<Path>) {
        for attribute in attributes {
            let steps = [parent, &[attribute.name]].concat();
            let pointer = format!("/{}", steps.join("/"));
            let members = match attribute.form {
                Form::Object(members) | Form::Array(members) => members,
                _ => &[],
            };
            paths.push(Path { pointer, steps: steps.clone(), is_leaf: members.is_empty() });
            list(members, &steps, paths);
        }
    }
    let mut paths = Vec::new();
    list(CONTACT, &[], &mut paths);
    paths
});

#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;
