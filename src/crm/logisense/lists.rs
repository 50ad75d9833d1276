//! The tenant's lists: types of contacts and of contact points, countries and states, each known by a number.
//!
//! A list is read whole, kept by whoever drives the deliveries, and looked into here. Names are compared without case; a
//! setting or an attribute may also name an entry by its number.

use std::collections::BTreeMap;

use serde_json::Value;

use super::wire::{self, PointKind, address};
use crate::{
    config::{ContactPointTypes, LogisenseSettings},
    crm::{
        Loss, Projection,
        reference::{Known, Learned, References},
    },
};

pub(super) const CONTACT_TYPES: &str = "contact_type";
const POINT_TYPES: &str = "contact_point_type";
const COUNTRIES: &str = "country";
const STATES: &str = "state";
/// Not of the tenant: whether its contacts can be searched.
pub(super) const ABILITIES: &str = "ability";
pub(super) const SEARCH: &str = "search";
pub(super) const UNAVAILABLE: &str = "unavailable";

/// What a list is called in a path.
pub(super) fn entity(list: &str) -> &'static str {
    match list {
        CONTACT_TYPES => "ContactType",
        POINT_TYPES => "ContactPointType",
        COUNTRIES => "Country",
        _ => "State",
    }
}

/// A list that must be read first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unread(pub(super) &'static str);

/// What is found, or not, once the list is read.
type Looked<T> = Result<Option<T>, Unread>;

/// A type of contact points, as one type of contacts has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PointType {
    pub(super) id: u64,
    pub(super) allows_multiple: bool,
}

const MULTIPLE: &str = "multiple";
const SINGLE: &str = "single";

/// Looks into the lists with the settings of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lists<'a> {
    pub(super) settings: &'a LogisenseSettings,
    pub(super) references: &'a References,
}

fn normal(text: &str) -> String {
    text.trim().to_lowercase()
}

fn find<'a>(references: &'a References, list: &'static str, item: &str) -> Looked<&'a str> {
    match references.find(list, item) {
        Known::As(id) => Ok(Some(id)),
        Known::Missing => Ok(None),
        Known::Unread => Err(Unread(list)),
    }
}

fn number(text: Option<&str>) -> Option<u64> {
    text.and_then(|text| text.parse().ok())
}

impl Lists<'_> {
    pub(super) fn contact_type(&self, name: &str) -> Looked<u64> {
        Ok(number(find(self.references, CONTACT_TYPES, &normal(name))?))
    }

    /// The type that points of this kind have on contacts of a type; nothing if they are not sent.
    pub(super) fn point_type(&self, kind: PointKind, contact_type: u64) -> Looked<PointType> {
        let name = type_name(&self.settings.contact_points, kind);
        if name.is_empty() {
            return Ok(None);
        }
        let found = find(self.references, POINT_TYPES, &format!("{contact_type}/{}", normal(name)))?;
        let Some(id) = number(found) else { return Ok(None) };
        let kept = find(self.references, POINT_TYPES, &id.to_string())?;
        let allows_multiple = kept.is_some_and(|kept| kept.starts_with(MULTIPLE));
        Ok(Some(PointType { id, allows_multiple }))
    }

    /// Whether points of this type are of a kind that is sent, whatever the type of their contact. Of a type that is not in
    /// the list nobody knows, so they are not.
    pub(super) fn is_of_kind(&self, point_type: u64, kind: PointKind) -> bool {
        let id = point_type.to_string();
        let name = normal(type_name(&self.settings.contact_points, kind));
        match self.references.find(POINT_TYPES, &id) {
            Known::As(kept) => {
                !name.is_empty() && (name == id || kept.split_once(' ').is_some_and(|kept| kept.1 == name))
            }
            Known::Missing | Known::Unread => false,
        }
    }

    pub(super) fn country(&self, code: &str) -> Looked<u64> {
        let theirs = self.settings.countries.get(code).map_or(code, String::as_str);
        Ok(number(find(self.references, COUNTRIES, &normal(theirs))?))
    }

    pub(super) fn state(&self, country: u64, region: &str) -> Looked<u64> {
        Ok(number(find(self.references, STATES, &format!("{country}/{}", normal(region)))?))
    }

    /// The numbers of the country and the state that a projection names.
    pub(super) fn places(&self, fields: &BTreeMap<String, Value>) -> Result<Places, Unread> {
        let text = |path: &str| fields.get(path).and_then(Value::as_str);
        let country = text(address::COUNTRY).map(|code| self.country(code)).transpose()?.flatten();
        let state = match (country, text(address::STATE)) {
            (Some(country), Some(region)) => self.state(country, region)?,
            _ => None,
        };
        Ok(Places { country, state })
    }

    /// What the tenant has no entry for, as far as its lists are known.
    pub(super) fn losses(&self, projection: &Projection) -> Vec<Loss> {
        const NOT_IN_LIST: &str = "not in the tenant's list";
        let mut losses = Vec::new();
        let mut lose = |field, why| losses.push(Loss { field, why });
        let fields = &projection.fields;
        let says = |path: &str| fields.get(path).is_some_and(|value| !value.is_null());
        if let Ok(places) = self.places(fields) {
            if says(address::COUNTRY) && places.country.is_none() {
                lose("/addresses/country", NOT_IN_LIST);
            }
            if says(address::STATE) && places.state.is_none() {
                lose("/addresses/region", NOT_IN_LIST);
            }
        }
        let contact_type = fields.get(wire::CONTACT_TYPE).and_then(Value::as_str);
        let contact_type = contact_type.and_then(|name| self.contact_type(name).ok().flatten());
        for (kind, field) in [
            (PointKind::Email, "/emails/value"),
            (PointKind::Mobile, "/phoneNumbers/value"),
            (PointKind::Work, "/phoneNumbers/value"),
            (PointKind::Home, "/phoneNumbers/value"),
            (PointKind::Fax, "/phoneNumbers/value"),
        ] {
            let Some(Ok(found)) = contact_type.map(|contact_type| self.point_type(kind, contact_type)) else {
                continue;
            };
            match found {
                None if says(&kind.path(1)) => lose(field, NOT_IN_LIST),
                // Kinds may share a type, which then has room for one of all of them.
                Some(single) if !single.allows_multiple => {
                    let shared = PointKind::ALL.into_iter().filter(|other| {
                        let found = contact_type.map(|contact_type| self.point_type(*other, contact_type));
                        matches!(found, Some(Ok(Some(other))) if other.id == single.id)
                    });
                    let before = shared.take_while(|other| *other != kind).any(|other| says(&other.path(1)));
                    if says(&kind.path(2)) || (before && says(&kind.path(1))) {
                        lose(field, "room for one only");
                    }
                }
                None | Some(_) => {}
            }
        }
        losses.sort();
        losses.dedup();
        losses
    }
}

/// Numbers of a country and a state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) country: Option<u64>,
    pub(super) state: Option<u64>,
}

pub(super) fn type_name(types: &ContactPointTypes, kind: PointKind) -> &str {
    match kind {
        PointKind::Email => &types.email,
        PointKind::Mobile => &types.mobile,
        PointKind::Work => &types.work,
        PointKind::Home => &types.home,
        PointKind::Fax => &types.fax,
        PointKind::Reference => &types.reference,
    }
}

/// What is kept of a list that was read.
pub(super) fn learned(list: &'static str, items: &[BTreeMap<String, Value>], code_member: &str) -> Learned {
    let mut rows = BTreeMap::new();
    for item in items {
        let Some(id) = item.get("identity").and_then(Value::as_u64) else { continue };
        let text = |member: &str| item.get(member).and_then(Value::as_str).map(normal).filter(|text| !text.is_empty());
        let of = |member: &str| item.get(member).and_then(Value::as_u64);
        let names = [text("name"), text(code_member), Some(id.to_string())];
        match list {
            POINT_TYPES => {
                let is_multiple = item.get("allowMultiple").and_then(Value::as_bool) == Some(true);
                let room = if is_multiple { MULTIPLE } else { SINGLE };
                rows.insert(id.to_string(), format!("{room} {}", text("name").unwrap_or_default()));
                if let Some(contact_type) = of("contactTypeId") {
                    let names = [text("name"), Some(id.to_string())].into_iter().flatten();
                    rows.extend(names.map(|name| (format!("{contact_type}/{name}"), id.to_string())));
                }
            }
            STATES => {
                if let Some(country) = of("countryId") {
                    let names = names.into_iter().flatten();
                    rows.extend(names.map(|name| (format!("{country}/{name}"), id.to_string())));
                }
            }
            _ => rows.extend(names.into_iter().flatten().map(|name| (name, id.to_string()))),
        }
    }
    Learned { list, rows }
}

/// That contacts cannot be searched here.
pub(super) fn without_search() -> Learned {
    Learned { list: ABILITIES, rows: BTreeMap::from([(SEARCH.to_owned(), UNAVAILABLE.to_owned())]) }
}
