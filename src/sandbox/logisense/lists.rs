//! The lists of the simulated tenant.

use serde::Serialize;

#[derive(Serialize)]
pub(super) struct ContactType {
    identity: u64,
    pub(super) name: &'static str,
}

pub(super) const CONTACT_TYPES: &[ContactType] = &[
    ContactType { identity: 20, name: "Billing" },
    ContactType { identity: 21, name: "Shipping" },
    ContactType { identity: 22, name: "Company" },
];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PointType {
    pub(super) identity: u64,
    pub(super) name: &'static str,
    pub(super) contact_type_id: u64,
    is_required: bool,
    pub(super) allow_multiple: bool,
    pub(super) data_type_id: u64,
    is_core: bool,
}

pub(super) const EMAIL: u64 = 2;
const TEXT: u64 = 1;
pub(super) const REFERENCE: &str = "reference";

const fn point(
    identity: u64,
    name: &'static str,
    contact_type_id: u64,
    allow_multiple: bool,
    data_type_id: u64,
) -> PointType {
    PointType { identity, name, contact_type_id, is_required: false, allow_multiple, data_type_id, is_core: false }
}

pub(super) const POINT_TYPES: &[PointType] = &[
    point(41, "email", 20, true, EMAIL),
    point(42, "phone", 20, true, TEXT),
    point(43, "fax", 20, false, TEXT),
    point(44, REFERENCE, 20, false, TEXT),
    point(45, "mobile", 20, false, TEXT),
    point(51, "email", 21, false, EMAIL),
    point(52, "phone", 21, false, TEXT),
    point(53, REFERENCE, 21, false, TEXT),
    point(61, "email", 22, true, EMAIL),
    point(62, "phone", 22, true, TEXT),
    point(63, "fax", 22, true, TEXT),
    point(64, REFERENCE, 22, false, TEXT),
];

#[derive(Serialize)]
pub(super) struct Country {
    identity: u64,
    pub(super) name: &'static str,
    pub(super) code: &'static str,
}

pub(super) const COUNTRIES: &[Country] = &[
    Country { identity: 1, name: "United States", code: "US" },
    Country { identity: 2, name: "Canada", code: "CA" },
    Country { identity: 28, name: "Denmark", code: "DK" },
    Country { identity: 29, name: "Switzerland", code: "CH" },
    Country { identity: 30, name: "Australia", code: "AU" },
    Country { identity: 31, name: "Germany", code: "DE" },
    Country { identity: 32, name: "United Kingdom", code: "GB" },
];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    identity: u64,
    pub(super) name: &'static str,
    pub(super) code: &'static str,
    pub(super) country_id: u64,
}

pub(super) const STATES: &[State] = &[
    State { identity: 5, name: "California", code: "CA", country_id: 1 },
    State { identity: 6, name: "New York", code: "NY", country_id: 1 },
    State { identity: 9, name: "Ontario", code: "ON", country_id: 2 },
    State { identity: 10, name: "Quebec", code: "QC", country_id: 2 },
    State { identity: 14, name: "New South Wales", code: "NSW", country_id: 30 },
];

pub(super) fn contact_type(identity: u64) -> Option<&'static ContactType> {
    CONTACT_TYPES.iter().find(|entry| entry.identity == identity)
}

pub(super) fn point_type(identity: u64) -> Option<&'static PointType> {
    POINT_TYPES.iter().find(|entry| entry.identity == identity)
}

pub(super) fn country(identity: u64) -> Option<&'static Country> {
    COUNTRIES.iter().find(|entry| entry.identity == identity)
}

pub(super) fn state(identity: u64) -> Option<&'static State> {
    STATES.iter().find(|entry| entry.identity == identity)
}
