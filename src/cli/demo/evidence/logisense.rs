//! What a LogiSense should hold of a contact, and how its books are read.
//!
//! This is the table of fields a second time, written from LogiSense's side and sharing nothing with the connector. It
//! knows the settings' defaults, and of all that a contact can be only what those who are simulated say. Of addresses it
//! knows what is sent as it is: lines are put together, and states and countries are numbers.

use serde_json::{Map, Value};

use super::{Expectation, Fields};
use crate::{
    config::CrmKind,
    contact::{ContactRecord, record::Status},
};

/// The defaults of a tenant of LogiSense.
#[derive(Debug, Clone)]
pub(super) struct Tenant;

const TEXTS: &[(&str, &str)] =
    &[("/name/honorificPrefix", "title"), ("/name/givenName", "firstName"), ("/name/familyName", "lastName")];
/// Names of points by the arrays and types that they come from.
const PHONES: &[(&str, &str)] = &[("mobile", "mobile"), ("home", "phone"), ("fax", "fax")];

impl Expectation for Tenant {
    fn kind(&self) -> CrmKind {
        CrmKind::Logisense
    }

    fn of(&self, record: &ContactRecord, _stored: bool) -> Option<Fields> {
        if record.status != Status::Live {
            return None;
        }
        let document = Value::Object(record.contact.as_ref()?.members().clone());
        let text = |value: &Value, pointer: &str| {
            value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().trim().to_owned()
        };
        let is_organization = text(&document, "/kind") == "organization";
        if is_organization || text(&document, "/name/familyName").is_empty() {
            return None;
        }
        let mut fields = Fields::new();
        for (pointer, field) in TEXTS {
            set(&mut fields, field, text(&document, pointer));
        }
        let items = |name: &str| document.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
        for email in items("emails") {
            set(&mut fields, &format!("email {}", text(&email, "/value")), "there".to_owned());
        }
        for phone in items("phoneNumbers") {
            let label = text(&phone, "/type");
            let point = PHONES.iter().find(|(known, _)| *known == label).map_or("phone", |(_, point)| point);
            set(&mut fields, &format!("{point} {}", text(&phone, "/value")), "there".to_owned());
        }
        let of_type = |label: &str| items("addresses").into_iter().find(|address| text(address, "/type") == label);
        let address = of_type("work").or_else(|| of_type("postal")).or_else(|| items("addresses").into_iter().next());
        if let Some(address) = address {
            set(&mut fields, "cityName", text(&address, "/locality"));
            set(&mut fields, "zipCode", text(&address, "/postalCode"));
        }
        Some(fields)
    }
}

fn set(fields: &mut Fields, name: &str, value: String) {
    if !value.is_empty() {
        fields.insert(name.to_owned(), value.into());
    }
}

/// The books in the words of the table. A contact of which only the create has been sent has our `reference` for a title.
pub(super) fn normal(contact: &Map<String, Value>, reference: Option<&str>) -> Fields {
    let mut fields = Fields::new();
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    for (_, field) in TEXTS {
        set(&mut fields, field, text(contact.get(*field)));
    }
    fields.retain(|name, value| name != "title" || value.as_str() != reference);
    let details = contact.get("details");
    let points = details.and_then(|details| details.get("contactPoints")).and_then(Value::as_array);
    for point in points.into_iter().flatten() {
        let name = format!("{} {}", text(point.get("contactPointTypeName")), text(point.get("value")));
        set(&mut fields, &name, "there".to_owned());
    }
    let address = details.and_then(|details| details.get("address"));
    for field in ["cityName", "zipCode"] {
        set(&mut fields, field, text(address.and_then(|address| address.get(field))));
    }
    fields
}
