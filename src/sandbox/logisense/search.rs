//! Pages, and a search by the own fields of contacts.

use std::cmp::Ordering;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{form, store::Contact, writing::Faults};

const SIZE: usize = 20;
const SIZE_MAX: usize = 1000;
const TOP: u64 = 100;
const TOP_MAX: u64 = 10_000;

/// Which page, from 1, of which size.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Paging {
    page_number: usize,
    page_size: usize,
    pub(super) exclude_total_count: bool,
}

impl Default for Paging {
    fn default() -> Self {
        Self { page_number: 1, page_size: SIZE, exclude_total_count: false }
    }
}

impl Paging {
    pub(super) fn read(query: &str) -> Result<Self, Faults> {
        let mut paging = Self::default();
        let mut faults = Faults::default();
        for (name, value) in form::pairs(query.as_bytes()).unwrap_or_default() {
            let is_understood = match name.as_str() {
                "pageNumber" => {
                    value.parse().ok().filter(|number| *number >= 1).map(|number| paging.page_number = number)
                }
                "pageSize" => {
                    let size = value.parse().ok().filter(|size| (1..=SIZE_MAX).contains(size));
                    size.map(|size| paging.page_size = size)
                }
                "excludeTotalCount" => value.parse().ok().map(|excludes| paging.exclude_total_count = excludes),
                _ => None,
            };
            if is_understood.is_none() {
                faults.add(6, format!("'{name}' is not an argument, or not valid"));
            }
        }
        if faults.0.is_empty() { Ok(paging) } else { Err(faults) }
    }

    pub(super) fn page<'a>(&self, all: &[&'a Contact]) -> Vec<&'a Contact> {
        let skipped = (self.page_number - 1).saturating_mul(self.page_size);
        all.iter().copied().skip(skipped).take(self.page_size).collect()
    }
}

/// What is searched for.
pub(super) struct Query {
    criteria: Vec<(String, String, Value)>,
    top: usize,
    pub(super) paging: Paging,
}

const OPERATORS: &[&str] = &["eq", "notEq", "lt", "ltEq", "gt", "gtEq", "contains"];

impl Query {
    pub(super) fn read(members: &Map<String, Value>) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let mut bad = |what: &str| faults.add(7, format!("'{what}' is not valid"));
        let query = members.get("query").and_then(Value::as_object).cloned().unwrap_or_default();
        let is_known = |name: &String| ["top", "search", "orderBy", "pagination"].contains(&name.as_str());
        if members.len() != 1 || query.is_empty() || !query.keys().all(is_known) {
            bad("query");
        }
        let top = query.get("top").map_or(Some(TOP), Value::as_u64).filter(|top| (1..=TOP_MAX).contains(top));
        if top.is_none() {
            bad("top");
        }
        let mut criteria = Vec::new();
        for criterion in query.get("search").and_then(Value::as_array).into_iter().flatten() {
            let text = |member: &str| criterion[member].as_str().map(str::to_owned);
            match (text("name"), text("operator"), criterion.get("value")) {
                (Some(name), Some(operator), Some(value))
                    if field_of(None, &name).is_some() && OPERATORS.contains(&operator.as_str()) =>
                {
                    criteria.push((name, operator, value.clone()));
                }
                _ => bad("search"),
            }
        }
        if query.get("orderBy").is_some_and(|order| order.as_array().is_none_or(|order| !order.is_empty())) {
            bad("orderBy");
        }
        let mut paging = Paging::default();
        if let Some(pagination) = query.get("pagination") {
            let number = |name: &str| pagination[name].as_u64().and_then(|number| usize::try_from(number).ok());
            match (number("pageNumber"), number("pageSize")) {
                (Some(page_number @ 1..), Some(page_size @ 1..=SIZE_MAX)) => {
                    paging = Paging { page_number, page_size, exclude_total_count: false };
                }
                _ => bad("pagination"),
            }
        }
        if !faults.0.is_empty() {
            return Err(faults);
        }
        let top = usize::try_from(top.unwrap_or(TOP)).unwrap_or(SIZE_MAX);
        Ok(Self { criteria, top, paging })
    }

    pub(super) fn pick<'a>(&self, all: impl Iterator<Item = &'a Contact>) -> Vec<&'a Contact> {
        let holds = |contact: &&Contact| {
            self.criteria.iter().all(|(name, operator, value)| {
                field_of(Some(contact), name).is_some_and(|field| is_so(&field, operator, value))
            })
        };
        all.filter(holds).take(self.top).collect()
    }
}

/// A field that can be searched, of a contact or of none.
fn field_of(contact: Option<&Contact>, name: &str) -> Option<Value> {
    Some(match name {
        "identity" => json!(contact.map(|contact| contact.identity)),
        "contactTypeId" => json!(contact.map(|contact| contact.contact_type)),
        "contactTypeName" => json!(contact.map(|contact| contact.bare().contact_type_name)),
        "title" => json!(contact.and_then(|contact| contact.title.as_ref())),
        "firstName" => json!(contact.and_then(|contact| contact.first_name.as_ref())),
        "lastName" => json!(contact.map(|contact| &contact.last_name)),
        "isUsedForTax" => json!(contact.map(|contact| contact.is_used_for_tax)),
        _ => return None,
    })
}

/// Texts are compared without case, as databases do.
fn is_so(field: &Value, operator: &str, value: &Value) -> bool {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_lowercase);
    let order = match (field.as_f64(), value.as_f64()) {
        (Some(field), Some(value)) => field.partial_cmp(&value).unwrap_or(Ordering::Equal),
        _ => text(field).cmp(&text(value)),
    };
    match operator {
        "eq" => order.is_eq(),
        "notEq" => order.is_ne(),
        "lt" => order.is_lt(),
        "ltEq" => order.is_le(),
        "gt" => order.is_gt(),
        "gtEq" => order.is_ge(),
        _ => text(field).contains(&text(value)),
    }
}
