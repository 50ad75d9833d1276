//! The public contract as JSON Schemas (draft 2020-12): what services may write, and what they may read of us.
//!
//! What comes in is told by the tables that it is read by ([`change_event`]); what goes out by the types that it is written
//! from. So neither can differ from what the program does, and both are published as files, `config/schemas`, that a test
//! compares with what stands here. Readers are told what is there, not that there will never be more: objects stay open.

mod change;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Value, json};

use super::{Entry, OutcomeKind, ReasonCode, outcome};
use crate::contact::ContactRecord;

pub use change::change_event;

/// What the `$schema` of these schemas says.
pub const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The value of a record of `contact-outcomes`: the data of an outcome event.
pub fn outcome() -> Value {
    let mut schema = written::<outcome::Data<'static>>();
    schema["title"] = json!("Outcome of a contact change, version 1");
    schema["description"] = json!(
        "The value of a record of contact-outcomes: the data of a CloudEvent in binary mode. Of its headers, ce_type is \
         contact.replication. and the outcome, ce_id is the same whenever the same is answered, ce_source is the instance, \
         ce_subject and the record's key are the contact's id, and ce_eventsource is the source of the change."
    );
    schema["allOf"] = OutcomeKind::ALL.iter().map(|kind| with_its_codes(*kind)).collect();
    schema
}

/// Which codes an outcome comes with: one of its own, or none.
fn with_its_codes(kind: OutcomeKind) -> Value {
    let reason = match kind.codes() {
        [] => json!({"type": "null"}),
        codes => {
            let codes: Vec<&str> = codes.iter().copied().map(ReasonCode::as_str).collect();
            json!({"type": "object", "properties": {"code": {"enum": codes}}})
        }
    };
    json!({
        "if": {"properties": {"outcome": {"const": kind.as_str()}}},
        "then": {"properties": {"reason": reason}},
    })
}

/// The value of a record of `contact-records`.
pub fn contact_record() -> Value {
    let mut schema = written::<ContactRecord>();
    schema["title"] = json!("Record of a contact, version 1");
    schema
}

/// The value of a record of `contact-versions`.
pub fn contact_version() -> Value {
    let mut schema = written::<Entry>();
    schema["title"] = json!("Version of a contact, version 1");
    schema
}

/// The schema of what is written of a type.
pub(crate) fn written<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>().to_value()
}

#[cfg(test)]
mod tests;
