//! SAM's side of the wire: the 41 keys of a contact, arrays of them, answers by row, and errors.
//!
//! A write is taken to replace the whole row, so every key is there each time, and what is not said is `null`. Keys go in
//! the order of SAM's own sample.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize, ser::SerializeMap};
use serde_json::{Map, Value};

use crate::{
    config::SamClear,
    crm::{Field, NotSettable, Takes},
};

pub(super) const COUNTRY_CODE: &str = "countryCode";
pub(super) const OTHER_COUNTRY_CODE: &str = "otherCountryCode";
pub(super) const EXTERNAL_ID: &str = "externalId";
pub(super) const CONTACT_TYPE: &str = "contactType";
pub(super) const TITLE: &str = "title";
pub(super) const FIRST_NAME: &str = "firstname";
pub(super) const LAST_NAME: &str = "lastname";
pub(super) const MOBILE: &str = "mobile";
pub(super) const PHONE: &str = "phone";
pub(super) const OTHER_PHONE: &str = "otherPhone";
pub(super) const DEPARTMENT: &str = "department";
pub(super) const PROFESSION: &str = "contactProfession";
pub(super) const SPECIALTY: &str = "contactSpecialty";
pub(super) const CATEGORY: &str = "contactCategory";
pub(super) const EMAIL_1: &str = "email1";
pub(super) const EMAIL_2: &str = "email2";
pub(super) const COMPANY: &str = "company";
pub(super) const OWNED_BY: &str = "ownedBy";
pub(super) const NOTES: &str = "notes";
pub(super) const FACEBOOK_ID: &str = "facebookId";
pub(super) const DATE_OF_BIRTH: &str = "dateOfBirth";
pub(super) const WEB_PAGE: &str = "webPage";
pub(super) const FAX_NUMBER: &str = "faxNumber";
pub(super) const TWITTER_ID: &str = "twitterId";
pub(super) const CREATED_BY: &str = "contactCreatedBy";
pub(super) const MODIFIED: &str = "contactModified";

/// The keys of one of the two addresses.
#[derive(Debug)]
pub(super) struct AddressKeys {
    pub(super) lines: [&'static str; 3],
    pub(super) city: &'static str,
    pub(super) state: &'static str,
    pub(super) postcode: &'static str,
    pub(super) country: &'static str,
}

pub(super) const WORK_ADDRESS: AddressKeys = AddressKeys {
    lines: ["workAddress1", "workAddress2", "workAddress3"],
    city: "city",
    state: "state",
    postcode: "postCode",
    country: COUNTRY_CODE,
};
pub(super) const OTHER_ADDRESS: AddressKeys = AddressKeys {
    lines: ["otherAddress1", "otherAddress2", "otherAddress3"],
    city: "otherCity",
    state: "otherState",
    postcode: "otherPostcode",
    country: OTHER_COUNTRY_CODE,
};

/// What a key holds, which decides what stands there while nothing is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Text,
    /// A number, or something whose type is not shown.
    Other,
}

/// All keys of a contact.
const KEYS: [(&str, Holds); 41] = [
    // SAM's own id would win over ours.
    ("contactId", Holds::Other),
    (COUNTRY_CODE, Holds::Text),
    (OTHER_COUNTRY_CODE, Holds::Text),
    (EXTERNAL_ID, Holds::Text),
    (CONTACT_TYPE, Holds::Text),
    (TITLE, Holds::Text),
    (FIRST_NAME, Holds::Text),
    (LAST_NAME, Holds::Text),
    (MOBILE, Holds::Text),
    (PHONE, Holds::Text),
    (OTHER_PHONE, Holds::Text),
    (DEPARTMENT, Holds::Text),
    (PROFESSION, Holds::Text),
    (SPECIALTY, Holds::Text),
    (CATEGORY, Holds::Text),
    (EMAIL_1, Holds::Text),
    (EMAIL_2, Holds::Text),
    (COMPANY, Holds::Text),
    ("workAddress1", Holds::Text),
    ("workAddress2", Holds::Text),
    ("workAddress3", Holds::Text),
    ("city", Holds::Text),
    ("state", Holds::Text),
    ("postCode", Holds::Text),
    (OWNED_BY, Holds::Other),
    (NOTES, Holds::Text),
    (FACEBOOK_ID, Holds::Text),
    (DATE_OF_BIRTH, Holds::Other),
    (WEB_PAGE, Holds::Text),
    ("otherAddress1", Holds::Text),
    ("otherAddress2", Holds::Text),
    ("otherAddress3", Holds::Text),
    ("otherCity", Holds::Text),
    ("otherState", Holds::Text),
    ("otherPostcode", Holds::Text),
    (FAX_NUMBER, Holds::Text),
    (TWITTER_ID, Holds::Text),
    ("contactCreated", Holds::Other),
    (CREATED_BY, Holds::Other),
    (MODIFIED, Holds::Other),
    ("contactModifiedBy", Holds::Other),
];

/// The keys that a contact may have or not.
pub(super) fn clearable() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|(key, _)| *key).filter(|key| ![EXTERNAL_ID, LAST_NAME, MODIFIED].contains(key))
}

/// What operators may do with a field of this name.
pub(super) fn settable(name: &str) -> Result<Field, NotSettable> {
    let (key, holds) = KEYS.into_iter().find(|(key, _)| *key == name).ok_or(NotSettable::Unknown)?;
    match (key, holds) {
        // SAM's own id would win over ours.
        (EXTERNAL_ID | "contactId", _) => Err(NotSettable::Reference),
        // Set from the record with every write.
        (MODIFIED, _) => Err(NotSettable::Unknown),
        (LAST_NAME, _) => Ok(Field::required(Takes::Text)),
        (_, Holds::Text) => Ok(Field::optional(Takes::Text)),
        (_, Holds::Other) => Ok(Field::optional(Takes::Scalar)),
    }
}

/// A whole contact: what `fields` say, and nothing for all other keys.
struct Row<'a> {
    fields: &'a BTreeMap<String, Value>,
    modified: Option<i64>,
    clear_with: SamClear,
}

impl Serialize for Row<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(KEYS.len()))?;
        for (key, holds) in KEYS {
            match (self.fields.get(key).filter(|value| !value.is_null()), holds, self.clear_with) {
                (Some(value), _, _) => map.serialize_entry(key, value)?,
                (None, Holds::Other, _) if key == MODIFIED => map.serialize_entry(key, &self.modified)?,
                // What names a country has two letters or is not there.
                (None, Holds::Text, SamClear::Empty) if ![COUNTRY_CODE, OTHER_COUNTRY_CODE].contains(&key) => {
                    map.serialize_entry(key, "")?;
                }
                (None, _, _) => map.serialize_entry(key, &Value::Null)?,
            }
        }
        map.end()
    }
}

/// The body of an upsert of one contact: an array of one.
pub(super) fn array_of_one(fields: &BTreeMap<String, Value>, modified: Option<i64>, clear_with: SamClear) -> Bytes {
    serde_json::to_vec(&[Row { fields, modified, clear_with }]).expect("texts and numbers serialise").into()
}

/// One array of what is in several.
pub(super) fn joined<'a>(arrays: impl IntoIterator<Item = &'a [u8]>) -> Bytes {
    let mut body = BytesMut::from(&b"["[..]);
    for array in arrays {
        let rows = array.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")).expect("each is an array");
        if body.len() > 1 {
            body.put_u8(b',');
        }
        body.put_slice(rows);
    }
    body.put_u8(b']');
    body.freeze()
}

/// Our reference in the array of one that [`array_of_one`] made.
pub(super) fn reference(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "externalId")]
        external_id: String,
    }
    let [named] = serde_json::from_slice::<[Named; 1]>(body).ok()?;
    Some(named.external_id)
}

/// What an answer says of one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stored {
    Yes,
    No,
    /// It is not mentioned, or in two ways.
    NotSaid,
}

/// A success, as far as it can be read: the rows that name a record.
pub(super) struct Rows(Vec<Value>);

impl Rows {
    /// `None`: the body is no array.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok().map(Self)
    }

    /// The rows of one record, as a body of its own.
    pub(super) fn of(&self, reference: &str) -> Bytes {
        let rows: Vec<&Value> = self.0.iter().filter(|row| is_about(row, reference)).collect();
        serde_json::to_vec(&rows).expect("what was JSON serialises").into()
    }

    pub(super) fn say_of(&self, reference: &str) -> Stored {
        let mut said = self.0.iter().filter(|row| is_about(row, reference)).map(|row| {
            // An update may count as two rows.
            row.get("rowsAffected").and_then(Value::as_f64).map(|count| count >= 1.0)
        });
        match said.next() {
            Some(Some(first)) if said.all(|other| other == Some(first)) => {
                if first {
                    Stored::Yes
                } else {
                    Stored::No
                }
            }
            _ => Stored::NotSaid,
        }
    }
}

fn is_about(row: &Value, reference: &str) -> bool {
    row.get("recordId").and_then(Value::as_str) == Some(reference)
}

/// The code of an error: a number with a fraction that means nothing.
pub(super) fn error_code(body: &[u8], key: &str) -> Option<u16> {
    let error: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let code = match error.get(key)? {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    // As it is cut, so that `1006.9` is 1006; out of bounds it is no code.
    (1.0..10_000.0).contains(&code).then_some(code as u16)
}

/// The name of an exception, wherever in the body it stands.
pub(super) fn exception(body: &[u8]) -> Option<&str> {
    const END: &str = "Exception";
    let text = std::str::from_utf8(body).ok()?;
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric());
    words.into_iter().find(|word| word.starts_with("WS") && word.ends_with(END))
}
