//! What it takes to make the sets of a contact equal to ours: for each type an action, or none.
//!
//! An update names what is to change and leaves the rest, so what is there has to be read first. Entries that were removed
//! stay as inactive ones and count as not there; types are compared without regard to case, telephone numbers by their
//! digits.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{
    countries, phone,
    wire::{self, Contact, Entry, Members, Set, address, read_name},
};
use crate::{
    config::{CrmComCountryBy, CrmComEntryBy, CrmComSettings},
    crm::written,
};

/// The actions that bring a set of `shown` to `wanted`: by type, what is to be there, or `null` for nothing.
pub(super) fn actions(
    settings: &CrmComSettings,
    set: Set,
    wanted: &BTreeMap<&str, &Value>,
    shown: &Contact,
    country_by: CrmComCountryBy,
) -> Vec<Members> {
    let mut actions = Vec::new();
    for of_type in set.types().iter().chain(&wire::CUSTOM_TYPES) {
        let Some(value) = wanted.get(*of_type) else { continue };
        let theirs = shown.entries(set).find(|entry| entry.of_type().as_deref() == Some(*of_type));
        let named = |word: &str, entry: Entry<'_>| {
            let by_id = entry.id().filter(|_| settings.entry_by == CrmComEntryBy::Id);
            let identifier = match by_id {
                Some(id) => Members::default().with("id", id),
                None => Members::default().with("type", *of_type),
            };
            wire::action(word).with_object(set.identifier(), identifier)
        };
        match (value, theirs) {
            (Value::Object(ours), None) => {
                let ours = written(settings, ours, country_by);
                actions.push(wire::and_members(wire::action("ADD").with(wire::TYPE, *of_type), set, &ours));
            }
            (Value::Object(ours), Some(entry)) if !is_same(settings, set, ours, entry) => {
                let mut ours = written(settings, ours, country_by);
                // What the entry has and ours has not would stay otherwise.
                let managed: Vec<&str> = managed(settings, set, &ours).collect();
                for name in managed {
                    if !ours.contains_key(name) && !is_blank(entry.value(read_name(name))) {
                        ours.insert(name.to_owned(), Value::Null);
                    }
                }
                actions.push(wire::and_members(named("UPDATE", entry), set, &ours));
            }
            (Value::Null, Some(entry)) => actions.push(named("REMOVE", entry)),
            (_, _) => {}
        }
    }
    actions
}

/// The entries of a set for a create.
pub(super) fn entries(
    settings: &CrmComSettings,
    set: Set,
    wanted: &BTreeMap<&str, &Value>,
    country_by: CrmComCountryBy,
) -> Vec<Members> {
    let types = set.types().iter().chain(&wire::CUSTOM_TYPES);
    let said = types.filter_map(|of_type| Some((*of_type, wanted.get(*of_type)?.as_object()?)));
    said.map(|(of_type, ours)| wire::entry(set, Some(of_type), &written(settings, ours, country_by))).collect()
}

/// The members that are ours to say, of an address in the format of `ours`.
fn managed(settings: &CrmComSettings, set: Set, ours: &Map<String, Value>) -> impl Iterator<Item = &'static str> {
    let in_one_line = ours.contains_key(address::LINE);
    let is_of_format =
        move |name: &str| if in_one_line { !address::APART.contains(&name) } else { name != address::LINE };
    // What no part of ours goes to is others' to fill.
    let is_filled = |name: &&str| {
        !address::PLACES.contains(name) || settings.address_parts.each().iter().any(|(_, filled)| filled == name)
    };
    let names: &[&str] = if set == Set::Addresses { set.members() } else { &[] };
    names.iter().copied().filter(is_filled).filter(move |name| *name != "is_primary" && is_of_format(name))
}

/// Whether a set that is read has another entry of a type than is wanted there: by what it means, so that neither the case of
/// an address nor the form of a number makes a difference.
pub(super) fn differs(settings: &CrmComSettings, set: Set, wanted: &Value, theirs: Option<Entry<'_>>) -> bool {
    match (wanted, theirs) {
        (Value::Object(ours), Some(entry)) => {
            let is_equal = is_same(settings, set, ours, entry);
            !(is_equal || marks_agree(ours, entry) && means_the_same(set, ours, entry))
        }
        (Value::Object(_), None) | (_, Some(_)) => true,
        (_, None) => false,
    }
}

fn means_the_same(set: Set, ours: &Map<String, Value>, theirs: Entry<'_>) -> bool {
    let ours = |name: &str| ours.get(name).and_then(Value::as_str);
    match set {
        Set::Addresses => false,
        Set::Emails => {
            let address = ours("email_address").and_then(written::email);
            address.is_some() && address == theirs.text("email").and_then(written::email)
        }
        // Shown without its calling code, a number is compared without it.
        Set::Phones => {
            let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
            shown_number(theirs).is_none() && ours("number").map(digits) == theirs.text("number").map(digits)
        }
    }
}

/// Whether an entry that is to be the primary one is.
fn marks_agree(ours: &Map<String, Value>, theirs: Entry<'_>) -> bool {
    let is_primary = |value: Option<&Value>| value.and_then(Value::as_bool) == Some(true);
    !is_primary(ours.get("is_primary")) || is_primary(Some(theirs.value("is_primary")))
}

fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.trim().is_empty(),
        Value::Object(members) => members.values().all(Value::is_null),
        _ => false,
    }
}

fn is_same(settings: &CrmComSettings, set: Set, ours: &Map<String, Value>, theirs: Entry<'_>) -> bool {
    if !marks_agree(ours, theirs) {
        return false;
    }
    match set {
        Set::Emails => ours.get("email_address").and_then(Value::as_str) == theirs.text("email"),
        Set::Phones => {
            let full = full_number(ours);
            full.is_some() && full == shown_number(theirs)
        }
        Set::Addresses => managed(settings, set, ours).all(|name| match (name, ours.get(name)) {
            (address::COUNTRY, None) => is_blank(theirs.value(read_name(name))),
            (address::COUNTRY, Some(country)) => is_same_country(settings, country, theirs.value(read_name(name))),
            (name, ours) => {
                let text = |value: &Value| wire::text_of(value).unwrap_or_default().trim().to_owned();
                text(ours.unwrap_or(&Value::Null)) == text(theirs.value(name))
            }
        }),
    }
}

/// The digits of a telephone number of a projection, calling code first.
pub(super) fn full_number(members: &Map<String, Value>) -> Option<String> {
    let national = members.get("number")?.as_str()?;
    phone::full(alpha2(members.get(address::COUNTRY)?)?, national)
}

/// The digits of a telephone number that CRM.COM shows.
pub(super) fn shown_number(entry: Entry<'_>) -> Option<String> {
    let full = entry.text("full_number").map(str::to_owned);
    let parts = || Some(format!("{}{}", entry.text("area_code")?, entry.text("number")?));
    full.or_else(parts).map(|full| phone::digits(&full))
}

fn alpha2(country: &Value) -> Option<&str> {
    country.get("two_character_code")?.as_str()
}

/// Whether a country that CRM.COM shows, some of whose codes may be missing, is ours.
fn is_same_country(settings: &CrmComSettings, ours: &Value, theirs: &Value) -> bool {
    let Some(alpha2) = alpha2(ours) else { return false };
    let is = |member: &str, code: &str| {
        theirs.get(member).and_then(wire::text_of).is_some_and(|text| text.eq_ignore_ascii_case(code))
    };
    let is_alpha3 = |code| is("three_character_code", code) || is("alternative_code", code);
    is("two_character_code", alpha2)
        || countries::alpha3(alpha2).is_some_and(is_alpha3)
        || configured(settings, alpha2).is_some_and(|(member, value)| is(member, value))
}

/// Which member of a country's identifier the settings give, and its value.
fn configured<'a>(settings: &'a CrmComSettings, alpha2: &str) -> Option<(&'static str, &'a str)> {
    let text = settings.countries.get(alpha2)?;
    Some(text.strip_prefix("id:").map_or(("name", text.as_str()), |id| ("id", id)))
}

/// `ours` with its country named in this way; where that is not known, as it stands.
fn written(settings: &CrmComSettings, ours: &Map<String, Value>, by: CrmComCountryBy) -> Map<String, Value> {
    let mut ours = ours.clone();
    if let Some(country) = ours.get_mut(address::COUNTRY)
        && let Some(alpha2) = alpha2(country)
        && let Some((member, value)) = named(settings, alpha2, by)
    {
        *country = Value::Object(Map::from_iter([(member.to_owned(), Value::from(value))]));
    }
    ours
}

fn named<'a>(settings: &'a CrmComSettings, alpha2: &'a str, by: CrmComCountryBy) -> Option<(&'static str, &'a str)> {
    let alpha3 = countries::alpha3(alpha2);
    match by {
        CrmComCountryBy::TwoCharacterCode => Some(("two_character_code", alpha2)),
        CrmComCountryBy::ThreeCharacterCode => alpha3.map(|code| ("three_character_code", code)),
        CrmComCountryBy::AlternativeCode => alpha3.map(|code| ("alternative_code", code)),
        CrmComCountryBy::Configured => configured(settings, alpha2),
    }
}

/// `fields` with those that are countries named in this way; where that is not known, as they stand.
pub(super) fn with_countries(
    settings: &CrmComSettings,
    fields: &BTreeMap<String, Value>,
    by: CrmComCountryBy,
) -> BTreeMap<String, Value> {
    let country = |value: &Value| {
        let (member, name) = named(settings, alpha2(value)?, by)?;
        Some(Value::Object(Map::from_iter([(member.to_owned(), Value::from(name))])))
    };
    let renamed = |value: &Value| country(value).unwrap_or_else(|| value.clone());
    fields.iter().map(|(path, value)| (path.clone(), renamed(value))).collect()
}

/// The ways to name a country that say something of one of `values`, each a country or an entry with one, in the configured
/// order; one at least.
pub(super) fn ways<'a>(settings: &CrmComSettings, values: impl Iterator<Item = &'a Value>) -> Vec<CrmComCountryBy> {
    let first = settings.country_by.first().copied().unwrap_or(CrmComCountryBy::TwoCharacterCode);
    let mut countries = values.filter_map(|value| alpha2(value.get(address::COUNTRY).unwrap_or(value))).peekable();
    if countries.peek().is_none() {
        return vec![first];
    }
    let countries: Vec<&str> = countries.collect();
    let says = |by: &CrmComCountryBy| countries.iter().any(|country| named(settings, country, *by).is_some());
    let ways: Vec<_> = settings.country_by.iter().copied().filter(says).collect();
    if ways.is_empty() { vec![first] } else { ways }
}
