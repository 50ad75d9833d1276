//! Priava's JSON: its field names, the body of an upsert, and what can be read from an answer.
//!
//! Many names are guesses, since the public pages are cut off, and Priava is taken to ignore a key it does not know: a
//! wrong guess would lose data without a word. So every name can be replaced by configuration. Fields are keyed by the
//! name as sent, not by the guess, so that a corrected name counts as a field that was never sent, and goes out.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::crm::{NotSettable, Takes};

/// A field of the contact itself, by its documented or assumed name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Field {
    FirstName,
    LastName,
    Email,
    Title,
    JobTitle,
    Department,
    DebtorNumber,
    ExternalIntegrationId,
    IntegrationSrc,
    ExternalReferenceNo,
    MarketingOptOut,
    PersonalInformationConsent,
    PhoneNumber,
    Mobile,
    Organisation,
    OrganisationType,
    OrganisationMarketSector,
    Inactive,
}

impl Field {
    const ALL: [Self; 18] = [
        Self::FirstName,
        Self::LastName,
        Self::Email,
        Self::Title,
        Self::JobTitle,
        Self::Department,
        Self::DebtorNumber,
        Self::ExternalIntegrationId,
        Self::IntegrationSrc,
        Self::ExternalReferenceNo,
        Self::MarketingOptOut,
        Self::PersonalInformationConsent,
        Self::PhoneNumber,
        Self::Mobile,
        Self::Organisation,
        Self::OrganisationType,
        Self::OrganisationMarketSector,
        Self::Inactive,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::FirstName => "firstName",
            Self::LastName => "lastName",
            Self::Email => "email",
            Self::Title => "title",
            Self::JobTitle => "jobTitle",
            Self::Department => "department",
            Self::DebtorNumber => "debtorNumber",
            Self::ExternalIntegrationId => "externalIntegrationId",
            Self::IntegrationSrc => "integrationSrc",
            Self::ExternalReferenceNo => "externalReferenceNo",
            Self::MarketingOptOut => "marketingOptOut",
            Self::PersonalInformationConsent => "personalInformationConsent",
            Self::PhoneNumber => "phoneNumber",
            Self::Mobile => "mobile",
            Self::Organisation => "organisation",
            Self::OrganisationType => "organisationType",
            Self::OrganisationMarketSector => "organisationMarketSector",
            Self::Inactive => "inactive",
        }
    }

    /// Whether Priava refuses a call without it, or finds the contact by it.
    const fn is_required(self) -> bool {
        matches!(
            self,
            Self::FirstName | Self::LastName | Self::Email | Self::ExternalIntegrationId | Self::IntegrationSrc
        )
    }

    const fn is_text(self) -> bool {
        !matches!(
            self,
            Self::ExternalReferenceNo | Self::MarketingOptOut | Self::PersonalInformationConsent | Self::Inactive
        )
    }
}

/// One of the three addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AddressField {
    Organisation,
    Postal,
    Other,
}

impl AddressField {
    pub(super) const ALL: [Self; 3] = [Self::Organisation, Self::Postal, Self::Other];

    const fn name(self) -> &'static str {
        match self {
            Self::Organisation => "organisationAddress",
            Self::Postal => "postalAddress",
            Self::Other => "otherAddress",
        }
    }
}

/// A member of an address; the same seven in each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum AddressPart {
    Line1,
    Line2,
    Line3,
    Suburb,
    State,
    Postcode,
    Country,
}

impl AddressPart {
    pub(super) const ALL: [Self; 7] =
        [Self::Line1, Self::Line2, Self::Line3, Self::Suburb, Self::State, Self::Postcode, Self::Country];
    pub(super) const LINES: [Self; 3] = [Self::Line1, Self::Line2, Self::Line3];

    const fn name(self) -> &'static str {
        match self {
            Self::Line1 => "addressLine1",
            Self::Line2 => "addressLine2",
            Self::Line3 => "addressLine3",
            Self::Suburb => "suburb",
            Self::State => "state",
            Self::Postcode => "postcode",
            Self::Country => "country",
        }
    }
}

/// A configured name that cannot be meant.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum NameError {
    #[error("{name:?} is no field of Priava")]
    Unknown { name: String },
    #[error("{name:?} cannot be the name of a field: it is empty or holds a dot")]
    Malformed { name: String },
    #[error("two fields would be sent as {name:?}")]
    Twice { name: String },
}

/// The names in use: assumed ones, or the tenant's own.
#[derive(Debug, Clone)]
pub(super) struct Names {
    replaced: BTreeMap<String, String>,
}

impl Names {
    pub(super) fn new(replaced: &BTreeMap<String, String>) -> Result<Self, NameError> {
        let outer = Field::ALL.map(Field::name).into_iter().chain(AddressField::ALL.map(AddressField::name));
        let outer: Vec<&str> = outer.collect();
        let inner = AddressPart::ALL.map(AddressPart::name);
        for (assumed, actual) in replaced {
            if !outer.contains(&assumed.as_str()) && !inner.contains(&assumed.as_str()) {
                return Err(NameError::Unknown { name: assumed.clone() });
            }
            if actual.is_empty() || actual.contains('.') {
                return Err(NameError::Malformed { name: actual.clone() });
            }
        }
        let names = Self { replaced: replaced.clone() };
        for level in [outer.as_slice(), inner.as_slice()] {
            let mut seen = BTreeSet::new();
            if let Some(name) = level.iter().map(|assumed| names.actual(assumed)).find(|name| !seen.insert(*name)) {
                return Err(NameError::Twice { name: name.to_owned() });
            }
        }
        Ok(names)
    }

    fn actual<'a>(&'a self, assumed: &'a str) -> &'a str {
        self.replaced.get(assumed).map_or(assumed, String::as_str)
    }

    pub(super) fn field(&self, field: Field) -> &str {
        self.actual(field.name())
    }

    /// The dotted path of a member of an address.
    pub(super) fn part(&self, address: AddressField, part: AddressPart) -> String {
        format!("{}.{}", self.actual(address.name()), self.actual(part.name()))
    }

    /// What is sent of the organisation; its address is the contact's own.
    pub(super) fn organisation(&self) -> [&str; 3] {
        [Field::Organisation, Field::OrganisationType, Field::OrganisationMarketSector].map(|field| self.field(field))
    }

    /// What operators may do with a field of this name.
    pub(super) fn settable(&self, name: &str) -> Result<crate::crm::Field, NotSettable> {
        let own = Field::ALL.into_iter().find(|field| self.field(*field) == name);
        match own {
            Some(Field::ExternalIntegrationId | Field::IntegrationSrc) => Err(NotSettable::Reference),
            Some(Field::Inactive) => Err(NotSettable::Presence),
            Some(field) => {
                let takes = match field {
                    Field::ExternalReferenceNo => Takes::Number,
                    Field::MarketingOptOut | Field::PersonalInformationConsent => Takes::Boolean,
                    _ => Takes::Text,
                };
                Ok(crate::crm::Field { takes, required: field.is_required() })
            }
            None => {
                let addresses = AddressField::ALL.into_iter();
                let mut parts = addresses
                    .flat_map(|address| AddressPart::ALL.into_iter().map(move |part| self.part(address, part)));
                let is_part = parts.any(|part| part == name);
                if is_part { Ok(crate::crm::Field::optional(Takes::Text)) } else { Err(NotSettable::Unknown) }
            }
        }
    }

    /// All paths that may be cleared, and whether they hold text.
    pub(super) fn clearable(&self) -> BTreeMap<String, Holds> {
        let holds = |text: bool| if text { Holds::Text } else { Holds::Other };
        let fields = Field::ALL.into_iter().filter(|field| !field.is_required());
        let fields = fields.map(|field| (self.field(field).to_owned(), holds(field.is_text())));
        let parts = AddressField::ALL
            .into_iter()
            .flat_map(|address| AddressPart::ALL.into_iter().map(move |part| (self.part(address, part), Holds::Text)));
        fields.chain(parts).collect()
    }
}

/// What a field holds, which decides how it is emptied where `null` is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Text,
    Other,
}

/// The JSON object of an upsert, from dotted paths. An address of which nothing is left is `null` as a whole.
pub(super) fn body<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Bytes {
    let mut object = Map::new();
    for (path, value) in fields {
        match path.split_once('.') {
            None => {
                object.insert(path.to_owned(), value);
            }
            Some((outer, inner)) => {
                let address = object.entry(outer).or_insert_with(|| Value::Object(Map::new()));
                if let Value::Object(parts) = address {
                    parts.insert(inner.to_owned(), value);
                }
            }
        }
    }
    for value in object.values_mut() {
        if value.as_object().is_some_and(|parts| parts.values().all(Value::is_null)) {
            *value = Value::Null;
        }
    }
    Bytes::from(Value::Object(object).to_string())
}

/// Longest remote id that is kept.
const REMOTE_ID_LENGTH_MAX: usize = 64;

/// Priava's own id of the contact, if the undocumented answer to a write holds one.
pub(super) fn remote_id(body: &[u8]) -> Option<String> {
    let answer: Map<String, Value> = serde_json::from_slice(body).ok()?;
    ["id", "contactId", "ContactId"].into_iter().find_map(|name| match answer.get(name)? {
        Value::Number(number) => Some(number.to_string()),
        // An id is published with the outcome, so what might be anything else is not taken for one.
        Value::String(text)
            if (1..=REMOTE_ID_LENGTH_MAX).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) =>
        {
            Some(text.clone())
        }
        _ => None,
    })
}

/// The member `error` of an error body.
pub(super) fn error_code(body: &[u8]) -> Option<String> {
    let mut answer: Map<String, Value> = serde_json::from_slice(body).ok()?;
    match answer.remove("error")? {
        Value::String(code) => Some(code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(replaced: &[(&str, &str)]) -> Result<Names, NameError> {
        Names::new(&replaced.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect())
    }

    #[test]
    fn every_name_can_be_replaced() {
        let names =
            names(&[("organisation", "companyName"), ("postalAddress", "mailing"), ("suburb", "city")]).unwrap();
        assert_eq!(names.field(Field::Organisation), "companyName");
        assert_eq!(names.field(Field::Mobile), "mobile");
        assert_eq!(names.part(AddressField::Postal, AddressPart::Suburb), "mailing.city");
        assert_eq!(names.part(AddressField::Other, AddressPart::Country), "otherAddress.country");
    }

    #[test]
    fn a_name_that_cannot_be_meant_is_refused() {
        let unknown = NameError::Unknown { name: "organization".to_owned() };
        assert_eq!(names(&[("organization", "company")]).unwrap_err(), unknown);
        assert_eq!(names(&[("suburb", "")]).unwrap_err(), NameError::Malformed { name: String::new() });
        assert_eq!(names(&[("suburb", "a.b")]).unwrap_err(), NameError::Malformed { name: "a.b".to_owned() });
        assert_eq!(names(&[("mobile", "title")]).unwrap_err(), NameError::Twice { name: "title".to_owned() });
        assert!(names(&[("mobile", "phoneNumber"), ("phoneNumber", "mobile")]).is_ok(), "names may be swapped");
        assert!(names(&[("suburb", "title")]).is_ok(), "the two levels are apart");
    }

    #[test]
    fn what_priava_requires_is_never_clearable() {
        let clearable = names(&[]).unwrap().clearable();
        for required in ["firstName", "lastName", "email", "externalIntegrationId", "integrationSrc"] {
            assert!(!clearable.contains_key(required), "{required}");
        }
        assert_eq!(clearable.len(), 18 - 5 + 3 * 7);
        assert_eq!(clearable["otherAddress.suburb"], Holds::Text);
        assert_eq!(clearable["marketingOptOut"], Holds::Other);
    }

    #[test]
    fn dotted_paths_become_nested_objects_and_an_empty_address_null() {
        let fields = [
            ("title", Value::Null),
            ("a.x", json!("1")),
            ("a.y", Value::Null),
            ("b.x", Value::Null),
            ("b.y", Value::Null),
        ];
        let body: Value = serde_json::from_slice(&body(fields)).unwrap();
        assert_eq!(body, json!({ "title": null, "a": { "x": "1", "y": null }, "b": null }));
    }

    #[test]
    fn a_remote_id_is_found_under_any_of_three_names_and_nowhere_else() {
        let check = |body: &str, expected: Option<&str>| assert_eq!(remote_id(body.as_bytes()).as_deref(), expected);
        check(r#"{"id":40117,"created":true}"#, Some("40117"));
        check(r#"{"contactId":"c-9"}"#, Some("c-9"));
        check(r#"{"ContactId":7}"#, Some("7"));
        check(r#"{"id":null,"ContactId":7}"#, Some("7"));
        check(r#"{"id":"Ilka Sundstrom"}"#, None);
        check(r#"{"id":""}"#, None);
        check(r#"{"other":1}"#, None);
        check("[1]", None);
        check("OK", None);
        check("", None);
    }
}
