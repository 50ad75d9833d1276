//! What a tenant's contacts refer to: countries, categories, groups, privacy levels, industries and sectors.

use std::sync::LazyLock;

use rlibphonenumber::{PHONE_NUMBER_UTIL, enums::Region};
use serde_json::{Map, Value, json};

use super::{CrmComSettings, Refused, arguments::one_member};

/// Codes of two and three letters, and a name.
static COUNTRIES: LazyLock<Vec<[&str; 3]>> = LazyLock::new(|| {
    let rows = include_str!("countries.txt").lines().map(|line| line.split('|').collect::<Vec<_>>());
    rows.map(|row| row.try_into().expect("each line has three parts")).collect()
});

const NOT_FOUND: Refused = Refused::of("REFERENCE_NOT_FOUND", "what is referred to does not exist");

/// A list that members refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Countries,
    Categories,
    Groups,
    PrivacyLevels,
    Industries,
    IndustrySectors,
}

impl List {
    /// What an item may be named by.
    fn members(self) -> &'static [&'static str] {
        match self {
            Self::Countries => &["id", "name", "alternative_code", "two_character_code", "three_character_code"],
            Self::Categories | Self::Industries => &["id", "name", "code"],
            Self::Groups | Self::IndustrySectors => &["id", "name", "alternative_code"],
            Self::PrivacyLevels => &["id", "name", "number"],
        }
    }
}

/// The items of each list, as they are shown.
pub(super) struct Lists {
    countries: Vec<Value>,
    categories: Vec<Value>,
    groups: Vec<Value>,
    privacy_levels: Vec<Value>,
    industries: Vec<Value>,
    industry_sectors: Vec<Value>,
}

impl Lists {
    pub(super) fn new(settings: &CrmComSettings) -> Self {
        let country = |(number, [two, three, name]): (usize, &[&str; 3])| {
            let is_bare = settings.countries_without_codes.contains(*two);
            json!({
                "id": (number + 1).to_string(), "name": name, "alternative_code": three,
                "two_character_code": (!is_bare).then_some(two), "three_character_code": (!is_bare).then_some(three),
            })
        };
        let named = |names: &[String], code: &str| -> Vec<Value> {
            let item = |(number, name): (usize, &String)| {
                Value::Object(Map::from_iter([
                    ("id".to_owned(), json!(format!("{code}{number}"))),
                    ("name".to_owned(), json!(name)),
                    (code.to_owned(), json!(name.to_uppercase())),
                ]))
            };
            names.iter().enumerate().map(item).collect()
        };
        let level = |number: &u64| json!({ "id": format!("L{number}"), "name": format!("Level {number}"), "number": number.to_string() });
        Self {
            countries: COUNTRIES.iter().enumerate().map(country).collect(),
            categories: named(&settings.categories, "code"),
            groups: named(&settings.groups, "alternative_code"),
            privacy_levels: settings.privacy_levels.iter().map(level).collect(),
            industries: named(&settings.industries, "code"),
            industry_sectors: named(&settings.industry_sectors, "alternative_code"),
        }
    }

    fn items(&self, list: List) -> &[Value] {
        match list {
            List::Countries => &self.countries,
            List::Categories => &self.categories,
            List::Groups => &self.groups,
            List::PrivacyLevels => &self.privacy_levels,
            List::Industries => &self.industries,
            List::IndustrySectors => &self.industry_sectors,
        }
    }

    /// The item that an identifier names.
    pub(super) fn find(&self, list: List, identifier: &Value) -> Result<&Value, Refused> {
        let (member, value) = one_member(identifier)?;
        if !list.members().contains(&member) {
            return Err(Refused::of(super::INVALID, "nothing is named by this"));
        }
        self.items(list).iter().find(|item| &item[member] == value && !value.is_null()).ok_or(NOT_FOUND)
    }

    /// The country of these two letters, whatever codes the tenant's table has.
    pub(super) fn country(&self, two: &str) -> Option<&Value> {
        let place = COUNTRIES.iter().position(|row| row[0] == two)?;
        self.countries.get(place)
    }
}

/// The calling code of a country as it is shown.
pub(super) fn calling_code(country: &Value) -> Option<String> {
    let place = country["id"].as_str()?.parse::<usize>().ok()?.checked_sub(1)?;
    let region = COUNTRIES.get(place)?[0].parse::<Region>().ok()?;
    PHONE_NUMBER_UTIL.get_country_code_for_region(region).map(|code| code.to_string())
}
