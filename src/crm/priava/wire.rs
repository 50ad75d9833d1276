//! Priava's JSON: its field names, the body of an upsert, and what can be read from an answer.
//!
//! Contacts and organisations go to endpoints of their own and are remembered apart ([`Entity`]).
//!
//! Many names are guesses, since the public pages are cut off, and Priava is taken to ignore a key it does not know: a
//! wrong guess would lose data without a word. So every name can be replaced by configuration. Fields are keyed by the
//! name as sent, not by the guess, so that a corrected name counts as a field that was never sent, and goes out.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use serde_json::{Map, Value};

use crate::crm::{NotSettable, Takes};

/// What Priava keeps of a contact of ours: a contact of its own, or an organisation, which are two stores with the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entity {
    Person,
    Organisation,
}

impl Entity {
    pub(super) const ALL: [Self; 2] = [Self::Person, Self::Organisation];

    /// As links have it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Person => "person",
            Self::Organisation => "organisation",
        }
    }

    pub(super) const fn other(self) -> Self {
        match self {
            Self::Person => Self::Organisation,
            Self::Organisation => Self::Person,
        }
    }

    /// Goes before the names of its fields, everywhere but on the wire: what was sent to the one endpoint says nothing of
    /// what the other holds.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Person => "",
            Self::Organisation => "organisation:",
        }
    }

    /// What a field of this path is of.
    pub(super) fn of(path: &str) -> Self {
        if path.starts_with(Self::Organisation.prefix()) { Self::Organisation } else { Self::Person }
    }

    const fn fields(self) -> &'static [Field] {
        match self {
            Self::Person => &Field::OF_PERSONS,
            Self::Organisation => &Field::OF_ORGANISATIONS,
        }
    }

    /// Whether Priava refuses a call without it, or finds what is meant by it.
    const fn requires(self, field: Field) -> bool {
        match field {
            Field::ExternalIntegrationId | Field::IntegrationSrc => true,
            Field::Email => matches!(self, Self::Person),
            _ => matches!(field, Field::FirstName | Field::LastName | Field::Name),
        }
    }

    /// The visible reference is a number of contacts and a text of organisations, say the public pages.
    const fn takes(self, field: Field) -> Takes {
        match (self, field) {
            (Self::Person, Field::ExternalReferenceNo) => Takes::Number,
            (_, Field::MarketingOptOut | Field::PersonalInformationConsent | Field::Inactive) => Takes::Boolean,
            _ => Takes::Text,
        }
    }
}

/// A field, by its documented or assumed name.
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
    Name,
    Parent,
    Type,
    MarketSector,
    Website,
    EmailOther,
    BusinessPhone,
    OtherPhone,
    Fax,
}

impl Field {
    const OF_PERSONS: [Self; 18] = [
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

    /// `parent` and `website` are filled by rules of an operator alone: the contact document has no place for them.
    const OF_ORGANISATIONS: [Self; 15] = [
        Self::Name,
        Self::ExternalIntegrationId,
        Self::IntegrationSrc,
        Self::ExternalReferenceNo,
        Self::Parent,
        Self::Type,
        Self::MarketSector,
        Self::Website,
        Self::Email,
        Self::EmailOther,
        Self::DebtorNumber,
        Self::BusinessPhone,
        Self::OtherPhone,
        Self::Fax,
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
            Self::Name => "name",
            Self::Parent => "parent",
            Self::Type => "type",
            Self::MarketSector => "marketSector",
            Self::Website => "website",
            Self::EmailOther => "emailOther",
            Self::BusinessPhone => "businessPhone",
            Self::OtherPhone => "otherPhone",
            Self::Fax => "fax",
        }
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
    #[error("{name:?} cannot be the name of a field: it is empty, holds a dot or begins with `organisation:`")]
    Malformed { name: String },
    #[error("two fields would be sent as {name:?}")]
    Twice { name: String },
}

/// The names in use of one of the two: documented or assumed ones, or the tenant's own.
#[derive(Debug, Clone)]
pub(super) struct Names {
    entity: Entity,
    replaced: BTreeMap<String, String>,
}

impl Names {
    pub(super) fn new(entity: Entity, replaced: &BTreeMap<String, String>) -> Result<Self, NameError> {
        let own = entity.fields().iter().map(|field| field.name());
        let outer: Vec<&str> = own.chain(AddressField::ALL.map(AddressField::name)).collect();
        let inner = AddressPart::ALL.map(AddressPart::name);
        for (assumed, actual) in replaced {
            if !outer.contains(&assumed.as_str()) && !inner.contains(&assumed.as_str()) {
                return Err(NameError::Unknown { name: assumed.clone() });
            }
            if actual.is_empty() || actual.contains('.') {
                return Err(NameError::Malformed { name: actual.clone() });
            }
            // A person's field of such a name would be taken for one of the organisation.
            if Entity::of(actual) == Entity::Organisation {
                return Err(NameError::Malformed { name: actual.clone() });
            }
        }
        let names = Self { entity, replaced: replaced.clone() };
        for level in [outer.as_slice(), inner.as_slice()] {
            let mut seen = BTreeSet::new();
            if let Some(name) = level.iter().map(|assumed| names.actual(assumed)).find(|name| !seen.insert(*name)) {
                return Err(NameError::Twice { name: name.to_owned() });
            }
        }
        Ok(names)
    }

    pub(super) fn entity(&self) -> Entity {
        self.entity
    }

    fn actual<'a>(&'a self, assumed: &'a str) -> &'a str {
        self.replaced.get(assumed).map_or(assumed, String::as_str)
    }

    /// The path of a field.
    pub(super) fn field(&self, field: Field) -> String {
        format!("{}{}", self.entity.prefix(), self.actual(field.name()))
    }

    /// The dotted path of a member of an address.
    pub(super) fn part(&self, address: AddressField, part: AddressPart) -> String {
        format!("{}{}.{}", self.entity.prefix(), self.actual(address.name()), self.actual(part.name()))
    }

    /// What is sent of the organisation of a person; its address is the contact's own.
    pub(super) fn organisation(&self) -> [String; 3] {
        [Field::Organisation, Field::OrganisationType, Field::OrganisationMarketSector].map(|field| self.field(field))
    }

    /// What operators may do with a field of this path.
    pub(super) fn settable(&self, path: &str) -> Result<crate::crm::Field, NotSettable> {
        let own = self.entity.fields().iter().copied().find(|field| self.field(*field) == path);
        match own {
            Some(Field::ExternalIntegrationId | Field::IntegrationSrc) => Err(NotSettable::Reference),
            Some(Field::Inactive) => Err(NotSettable::Presence),
            Some(field) => {
                Ok(crate::crm::Field { takes: self.entity.takes(field), required: self.entity.requires(field) })
            }
            None if self.parts().any(|part| part == path) => Ok(crate::crm::Field::optional(Takes::Text)),
            None => Err(NotSettable::Unknown),
        }
    }

    fn parts(&self) -> impl Iterator<Item = String> {
        let addresses = AddressField::ALL.into_iter();
        addresses.flat_map(move |address| AddressPart::ALL.into_iter().map(move |part| self.part(address, part)))
    }

    /// All paths that may be cleared, and whether they hold text.
    pub(super) fn clearable(&self) -> BTreeMap<String, Holds> {
        let entity = self.entity;
        let fields = entity.fields().iter().copied().filter(|field| !entity.requires(*field));
        let holds = |field| if entity.takes(field) == Takes::Text { Holds::Text } else { Holds::Other };
        let fields = fields.map(|field| (self.field(field), holds(field)));
        fields.chain(self.parts().map(|part| (part, Holds::Text))).collect()
    }
}

/// What a field holds, which decides how it is emptied where `null` is not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Text,
    Other,
}

/// The JSON object of an upsert, from paths. An address of which nothing is left is `null` as a whole.
pub(super) fn body<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Bytes {
    let mut object = Map::new();
    for (path, value) in fields {
        let path = path.strip_prefix(Entity::of(path).prefix()).unwrap_or(path);
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

/// Priava's own id of what was written, if the undocumented answer holds one.
pub(super) fn remote_id(body: &[u8]) -> Option<String> {
    let answer: Map<String, Value> = serde_json::from_slice(body).ok()?;
    ["id", "contactId", "ContactId", "organisationId", "OrganisationId"].into_iter().find_map(|name| {
        match answer.get(name)? {
            Value::Number(number) => Some(number.to_string()),
            // An id is published with the outcome, so what might be anything else is not taken for one.
            Value::String(text)
                if (1..=REMOTE_ID_LENGTH_MAX).contains(&text.len())
                    && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')) =>
            {
                Some(text.clone())
            }
            _ => None,
        }
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
        Names::new(Entity::Person, &replaced.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect())
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
        let of_the_other = "organisation:fax".to_owned();
        assert_eq!(names(&[("title", &of_the_other)]).unwrap_err(), NameError::Malformed { name: of_the_other });
        assert_eq!(names(&[("mobile", "title")]).unwrap_err(), NameError::Twice { name: "title".to_owned() });
        assert!(names(&[("mobile", "phoneNumber"), ("phoneNumber", "mobile")]).is_ok(), "names may be swapped");
        assert!(names(&[("suburb", "title")]).is_ok(), "the two levels are apart");
    }

    #[test]
    fn an_organisation_has_names_of_its_own_apart_from_those_of_a_contact() {
        let replaced = BTreeMap::from([("website".to_owned(), "webSite".to_owned())]);
        let names = Names::new(Entity::Organisation, &replaced).unwrap();
        assert_eq!(names.field(Field::Website), "organisation:webSite");
        assert_eq!(
            names.part(AddressField::Organisation, AddressPart::Suburb),
            "organisation:organisationAddress.suburb"
        );
        assert_eq!((Entity::of(&names.field(Field::Fax)), Entity::of("fax")), (Entity::Organisation, Entity::Person));
        for of_the_other in ["firstName", "mobile", "marketingOptOut"] {
            let replaced = BTreeMap::from([(of_the_other.to_owned(), "x".to_owned())]);
            assert!(Names::new(Entity::Organisation, &replaced).is_err(), "{of_the_other}");
        }
        let clearable = names.clearable();
        assert_eq!(clearable.len(), 15 - 3 + 3 * 7);
        assert_eq!(clearable["organisation:externalReferenceNo"], Holds::Text);
        assert!(clearable.contains_key("organisation:email") && !clearable.contains_key("organisation:name"));
        let body = body([("organisation:name", json!("Lane")), ("organisation:postalAddress.suburb", json!("Glebe"))]);
        assert_eq!(body, r#"{"name":"Lane","postalAddress":{"suburb":"Glebe"}}"#);
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
    fn a_remote_id_is_found_under_any_of_its_names_and_nowhere_else() {
        let check = |body: &str, expected: Option<&str>| assert_eq!(remote_id(body.as_bytes()).as_deref(), expected);
        check(r#"{"id":40117,"created":true}"#, Some("40117"));
        check(r#"{"contactId":"c-9"}"#, Some("c-9"));
        check(r#"{"ContactId":7}"#, Some("7"));
        check(r#"{"organisationId":8}"#, Some("8"));
        check(r#"{"OrganisationId":9}"#, Some("9"));
        check(r#"{"id":null,"ContactId":7}"#, Some("7"));
        check(r#"{"id":"Ilka Sundstrom"}"#, None);
        check(r#"{"id":""}"#, None);
        check(r#"{"other":1}"#, None);
        check("[1]", None);
        check("OK", None);
        check("", None);
    }
}
