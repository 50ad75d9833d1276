//! What a SAM should hold of a contact, and how its books are read.
//!
//! As for a Priava, what to expect is taken from the connector, whose mapping is judged by tests of its own. A call is about
//! many contacts: its books are read as one call about each of them. Logins are about nobody.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Expectation, Fields, LoggedCall};
use crate::{
    config::CrmKind,
    contact::ContactRecord,
    crm::{
        Connector,
        link::{Link, Sent},
    },
    sandbox::Action,
};

/// Our id, as a contact carries it.
pub(super) const REFERENCE: &str = "externalId";
/// Says when, and not what.
const STAMP: &str = "contactModified";

/// What the connector of a company makes of a record.
#[derive(Debug)]
pub(super) struct Company(pub(super) Arc<dyn Connector>);

impl Expectation for Company {
    fn kind(&self) -> CrmKind {
        CrmKind::NextinteractSam
    }

    fn of(&self, record: &ContactRecord, stored: bool) -> Option<Fields> {
        let mut link = Link::new(record.contact_id);
        if stored {
            link.sent.insert(REFERENCE.into(), Sent::Void);
        }
        let projection = self.0.project(record, Some(&link)).ok()?;
        Some(normal(projection.fields))
    }
}

/// One call about each contact that it carried.
pub(super) fn by_contact(call: LoggedCall) -> Vec<LoggedCall> {
    if call.action != Action::Upsert {
        return vec![call];
    }
    let rows: Vec<Map<String, Value>> =
        call.body.as_deref().and_then(|body| serde_json::from_str(body).ok()).unwrap_or_default();
    let about = |row: Map<String, Value>| {
        let contact = row.get(REFERENCE).and_then(Value::as_str).map(str::to_owned);
        LoggedCall { contact, body: Some(Value::Object(row).to_string()), ..call.clone() }
    };
    rows.into_iter().map(about).collect()
}

/// What a call about one contact sent.
pub(super) fn content(call: &LoggedCall) -> Option<Fields> {
    let body = call.body.as_deref().filter(|_| call.action == Action::Upsert)?;
    let row: Map<String, Value> = serde_json::from_str(body).ok()?;
    Some(normal(row))
}

/// Fields in a form in which equal means that the CRM holds the same.
pub(super) fn normal(fields: impl IntoIterator<Item = (String, Value)>) -> Fields {
    fields.into_iter().filter(|(name, value)| !value.is_null() && name != STAMP).collect()
}
