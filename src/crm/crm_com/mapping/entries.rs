//! Addresses, telephone numbers and e-mail addresses: sets in which each type has one entry.
//!
//! What a type of its own has no place for takes one of the custom types, in the configured order; what is left then is
//! lost. The primary entry comes first, so that it is the last to be left out.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Draft;
use crate::{
    config::{CrmComAddressFormat, CrmComStreet},
    contact::document::Said,
    crm::{
        crm_com::{
            countries, phone,
            wire::{Set, address},
        },
        draft::why::{NO_FIELD, NOT_IN_LIST, SWITCHED_OFF},
        reading::{
            Items, is_of_type, is_primary, member, member_text, post_office_box, says_something, value, with_number,
        },
    },
};

const NO_ROOM: &str = "no type left for it";
const NO_ADDRESS: &str = "not an e-mail address";
const NO_COUNTRY: &str = "not a number of a country that can be told";
const NO_STREET: &str = "an address without a street";

/// An entry that looks for a type.
struct Candidate {
    /// The type that has its meaning.
    own: Option<&'static str>,
    /// Whether the document gives it a label.
    is_labelled: bool,
    members: Map<String, Value>,
}

pub(super) fn emails(draft: &mut Draft<'_>) {
    let emails = Items::of(draft.document, "/emails", |item| member_text(item, "value").is_some());
    let mut candidates = Vec::new();
    for item in primary_first(&emails) {
        let Some(text) = member_text(item, "value").map(str::trim).filter(|text| is_address(text)) else {
            draft.lose("/emails/value", NO_ADDRESS);
            continue;
        };
        let own = if is_of_type(item, "work") { "BUSINESS" } else { "PERSONAL" };
        let members = Map::from_iter([("email_address".to_owned(), Value::from(text))]);
        candidates.push(candidate(draft, item, Some(own), members));
    }
    place(draft, Set::Emails, candidates, emails.are_empty, ["/emails/value", "/emails/type"]);
}

fn is_address(text: &str) -> bool {
    let parts = text.rsplit_once('@');
    parts.is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
        && !text.contains(|letter: char| letter.is_whitespace() || letter.is_control())
}

pub(super) fn phones(draft: &mut Draft<'_>) {
    let phones = Items::of(draft.document, "/phoneNumbers", |item| member_text(item, "value").is_some());
    let mut candidates = Vec::new();
    for item in primary_first(&phones) {
        let number = member_text(item, "value").and_then(|text| phone::number(text, &draft.rules.phone_country));
        let Some(number) = number else {
            draft.lose("/phoneNumbers/value", NO_COUNTRY);
            continue;
        };
        let own = [("mobile", "MOBILE"), ("work", "LANDLINE"), ("home", "LANDLINE"), ("fax", "FAX")];
        let own = own.into_iter().find(|(label, _)| is_of_type(item, label)).map(|(_, own)| own);
        let members = Map::from_iter([
            ("number".to_owned(), Value::from(number.national)),
            (address::COUNTRY.to_owned(), country(&number.country)),
        ]);
        candidates.push(candidate(draft, item, own, members));
    }
    place(draft, Set::Phones, candidates, phones.are_empty, ["/phoneNumbers/value", "/phoneNumbers/type"]);
}

pub(super) fn addresses(draft: &mut Draft<'_>) {
    let addresses = Items::of(draft.document, "/addresses", |item| says_something(Said::Value(item)));
    let mut candidates = Vec::new();
    for item in primary_first(&addresses) {
        let Some(members) = address_members(draft, item) else {
            draft.lose("/addresses", NO_STREET);
            continue;
        };
        let own = [("home", "HOME"), ("work", "BUSINESS"), ("postal", "POBOX")];
        let own = own.into_iter().find(|(label, _)| is_of_type(item, label)).map(|(_, own)| own);
        candidates.push(candidate(draft, item, own, members));
    }
    place(draft, Set::Addresses, candidates, addresses.are_empty, ["/addresses", "/addresses/type"]);
}

fn primary_first<'a>(items: &Items<'a>) -> Vec<&'a Value> {
    let mut items: Vec<&Value> = items.each().collect();
    items.sort_by_key(|item| !is_primary(item));
    items
}

fn candidate(draft: &Draft<'_>, item: &Value, own: Option<&'static str>, mut members: Map<String, Value>) -> Candidate {
    if draft.rules.send_primary && is_primary(item) {
        members.insert("is_primary".to_owned(), true.into());
    }
    Candidate { own, is_labelled: member_text(item, "type").is_some(), members }
}

/// Gives each candidate its type, or one that is free.
fn place(
    draft: &mut Draft<'_>,
    set: Set,
    candidates: Vec<Candidate>,
    are_empty: bool,
    [whole, label]: [&'static str; 2],
) {
    let mut placed: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut homeless = Vec::new();
    for candidate in candidates {
        match candidate.own {
            Some(own) if !placed.contains_key(own) => {
                placed.insert(own.to_owned(), candidate.members);
            }
            _ => homeless.push(candidate),
        }
    }
    for candidate in homeless {
        if placed.values().any(|known| *known == candidate.members) {
            continue;
        }
        let free = draft.rules.overflow_types.iter().find(|of_type| !placed.contains_key(*of_type)).cloned();
        match free {
            Some(of_type) => {
                placed.insert(of_type, candidate.members);
                if candidate.is_labelled {
                    draft.lose(label, NO_ROOM);
                }
            }
            None => draft.lose(whole, NO_ROOM),
        }
    }
    draft.set_entries(set, placed, are_empty);
}

/// A country as a projection has it. How it is written in the end is seen when it is sent.
fn country(alpha2: &str) -> Value {
    json!({ "two_character_code": alpha2 })
}

/// The members of an address; `None` if there is nothing that could be its street.
fn address_members(draft: &mut Draft<'_>, item: &Value) -> Option<Map<String, Value>> {
    let mut members = Map::new();
    let street = value(member(item, "streetAddress"))
        .map(|street| street.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(", "));
    let (number, floor, apartment) =
        (member_text(item, "streetNumber"), member_text(item, "floor"), member_text(item, "apartment"));
    let instead = draft.rules.without_street.iter().find_map(|instead| match instead {
        CrmComStreet::PoBox => member_text(item, "poBox").map(|number| post_office_box(number.trim())),
        CrmComStreet::Locality => member_text(item, "locality").map(|place| place.trim().to_owned()),
    });
    let mut street = street.or(instead)?;
    match draft.rules.address_format {
        CrmComAddressFormat::CrmCom => {
            match floor.map(|floor| (floor, floor.trim().parse::<i32>())) {
                Some((_, Ok(floor))) => drop(members.insert(address::FLOOR.to_owned(), floor.into())),
                // Only whole numbers are floors there.
                Some((text, Err(_not_a_number))) => street = format!("{street}, {}", text.trim()),
                None => {}
            }
            members.insert(address::STREET_NAME.to_owned(), street.into());
            for (name, text) in [(address::STREET_NUMBER, number), (address::APARTMENT_NUMBER, apartment)] {
                members.extend(text.map(|text| (name.to_owned(), Value::from(text.trim()))));
            }
        }
        CrmComAddressFormat::International => {
            if let Some(number) = number.map(str::trim) {
                street = with_number(&street, number, draft.rules.street_number);
            }
            let parts = [Some(street.as_str()), floor.map(str::trim), apartment.map(str::trim)];
            let line: Vec<&str> = parts.into_iter().flatten().collect();
            members.insert(address::LINE.to_owned(), line.join(", ").into());
        }
    }
    let parts = &draft.rules.address_parts;
    for (name, part, field) in [
        (&parts.locality, "locality", "/addresses/locality"),
        (&parts.district, "district", "/addresses/district"),
        (&parts.region, "region", "/addresses/region"),
        (&parts.postal_code, "postalCode", "/addresses/postalCode"),
        (&parts.po_box, "poBox", "/addresses/poBox"),
    ] {
        let Some(text) = member_text(item, part).map(str::trim) else { continue };
        if name.is_empty() {
            draft.lose(field, SWITCHED_OFF);
        } else {
            members.insert(name.clone(), text.into());
        }
    }
    if let Some(code) = member_text(item, "country").map(|code| code.trim().to_uppercase()) {
        if countries::alpha3(&code).is_some() {
            members.insert(address::COUNTRY.to_owned(), country(&code));
        } else {
            draft.lose("/addresses/country", NOT_IN_LIST);
        }
    }
    if item.get("geo").is_some_and(|geo| says_something(Said::Value(geo))) {
        draft.lose("/addresses/geo", NO_FIELD);
    }
    Some(members)
}
