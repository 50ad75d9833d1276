//! What operators may do with the fields of CRM.COM, and how it takes the values that they give.
//!
//! Any member of a create and an update that holds one value can be filled. What is an entry of a set, tells a person from
//! a company, or carries our reference, cannot: it is written by rules of its own.

use serde_json::{Value, json};

use super::{
    mapping::identifier,
    wire::{self, Set, Slot, inner},
};
use crate::{
    config::CrmComSettings,
    crm::{Field, NotSettable, Takes},
};

/// How an identifier names an item of one of the tenant's lists.
enum Names<'a> {
    /// By the member that the settings say.
    By(&'a str),
    /// A country by its code (ISO 3166-1 alpha-2), or else by its name.
    Country,
}

/// What is read of a contact, and not written.
const READ_ONLY: [&str; 4] = ["id", "name", "life_cycle_state", "contact_information_identifier"];

pub(super) fn settable(settings: &CrmComSettings, name: &str) -> Result<Field, NotSettable> {
    let is_entry =
        |set: Set| name == set.name() || name.strip_prefix(set.name()).is_some_and(|rest| rest.starts_with('.'));
    if READ_ONLY.contains(&name) {
        return Err(NotSettable::Id);
    }
    if name == wire::relations::SET || name == wire::PHOTO || Set::ALL.into_iter().any(is_entry) {
        return Err(NotSettable::Entry);
    }
    if name == wire::TYPE {
        return Err(NotSettable::Form);
    }
    if name == settings.external_ref_slot || name == settings.source_slot {
        return Err(NotSettable::Reference);
    }
    if settings.user_defined.get("/active").is_some_and(|slot| slot == name) {
        return Err(NotSettable::Presence);
    }
    if !wire::paths().any(|known| known == name) {
        return Err(NotSettable::Unknown);
    }
    if [wire::FIRST_NAME, wire::LAST_NAME, wire::COMPANY_NAME].contains(&name) {
        return Ok(Field::required(Takes::Text));
    }
    let takes = match (wire::slot(name), name) {
        (Some(Slot::Text), _) => Takes::Text,
        (Some(Slot::Number), _) => Takes::Number,
        (Some(Slot::Date), _) => Takes::Date,
        (None, wire::DIRECT_MARKETING | wire::AFFILIATE_MARKETING) => Takes::Boolean,
        (None, name) => match name.split_once('.').map_or(name, |(_, member)| member) {
            inner::GENDER => Takes::Choice(&["MALE", "FEMALE"]),
            member if wire::is_day(member) || MOMENTS.contains(&member) => Takes::Date,
            inner::PROFILE_YEAR | inner::ANNUAL_TURNOVER | inner::NUMBER_OF_EMPLOYEES => Takes::Number,
            _ => Takes::Text,
        },
    };
    Ok(Field::optional(takes))
}

/// A value of a rule as a projection has it.
pub(super) fn shaped(settings: &CrmComSettings, name: &str, value: Value) -> Value {
    let text = value.as_str().map(str::trim);
    let moment = || text.and_then(|text| text.parse::<jiff::civil::DateTime>().ok());
    let shaped = match (wire::slot(name), name.split_once('.').map_or(name, |(_, member)| member)) {
        _ if is_moment(name) => moment().map(|moment| moment.strftime("%Y-%m-%dT%H:%M:%S").to_string().into()),
        (None, inner::DATE_OF_BIRTH) => {
            moment().map(|day| json!({ "day": day.day(), "month": day.month(), "year": day.year() }))
        }
        // It comes every year.
        (None, inner::NAME_DAY) => moment().map(|day| json!({ "day": day.day(), "month": day.month() })),
        (None, member) => match (names(settings, member), text) {
            (Some(Names::By(by)), Some(text)) => Some(identifier(by, text)),
            (Some(Names::Country), Some(text)) => Some(country(text)),
            _ => None,
        },
        (Some(_), _) => None,
    };
    shaped.unwrap_or(value)
}

/// Members of either object that hold a moment, as user-defined dates do.
const MOMENTS: [&str; 3] = [inner::ESTABLISHED_DATE, inner::VAT_REGISTRATION_DATE, inner::ID_NUMBER_EXPIRATION_DATE];

/// Whether a field holds a date and a time of day.
pub(super) fn is_moment(name: &str) -> bool {
    wire::slot(name) == Some(Slot::Date) || name.split_once('.').is_some_and(|(_, member)| MOMENTS.contains(&member))
}

fn names<'a>(settings: &'a CrmComSettings, member: &str) -> Option<Names<'a>> {
    Some(match member {
        wire::CATEGORY => Names::By(&settings.category_by),
        wire::GROUP => Names::By(&settings.group_by),
        wire::PRIVACY_LEVEL => Names::By(&settings.privacy_level_by),
        inner::INDUSTRY => Names::By(&settings.industry_by),
        inner::INDUSTRY_SECTOR => Names::By(&settings.industry_sector_by),
        inner::COUNTRY_OF_RESIDENCE
        | inner::ID_ISSUED_BY_COUNTRY
        | inner::PASSPORT_ISSUED_BY_COUNTRY
        | inner::REGISTERED_IN_COUNTRY => Names::Country,
        _ => return None,
    })
}

fn country(text: &str) -> Value {
    let is_code = text.len() == 2 && text.bytes().all(|letter| letter.is_ascii_alphabetic());
    if is_code { json!({ "two_character_code": text.to_ascii_uppercase() }) } else { json!({ "name": text }) }
}
