//! What other teams read, held to the JSON Schemas that they are given: every record of every run.

use std::{path::Path, sync::LazyLock};

use contact_replicator::{
    cli::demo::{checks::Checked, evidence::Evidence},
    contact::format,
    event::outcome::Subjects,
};
use jsonschema::Validator;
use serde_json::Value;

struct Schemas {
    outcome: Validator,
    record: Validator,
    version: Validator,
}

static SCHEMAS: LazyLock<Schemas> = LazyLock::new(|| {
    let published = |name: &str| {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/schemas").join(name);
        let text = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let schema: Value = serde_json::from_slice(&text).expect("a published schema is JSON");
        jsonschema::draft202012::new(&schema).expect("a published schema is one")
    };
    Schemas {
        outcome: published("outcome.json"),
        record: published("contact-records.json"),
        version: published("contact-versions.json"),
    }
});

/// Whoever reads by the schema can read everything that was written.
pub(crate) fn all_is_as_the_schemas_say(evidence: &Evidence) -> Checked {
    let Schemas { outcome, record, version } = &*SCHEMAS;
    let mut faults = Vec::new();
    let mut look = |schema: &Validator, what: String, value: &[u8]| {
        let value: Value = serde_json::from_slice(value).expect("what we write is JSON");
        if let Err(fault) = schema.validate(&value) {
            faults.push(format!("{what}: {} at {:?}", fault.schema_path(), fault.instance_path().to_string()));
        }
    };
    for written in &evidence.outcomes {
        look(outcome, written.id(), &written.encode("contacts", &Subjects::Plain, None).value);
    }
    for written in &evidence.records {
        look(record, format!("version {} of {}", written.version, written.contact_id), &format::encode(written));
    }
    for written in &evidence.entries {
        look(version, format!("entry {} of {}", written.version, written.contact_id), &written.encode());
    }
    let detail = faults.iter().take(5).cloned().collect::<Vec<_>>().join("; ");
    Checked { name: "all_is_as_the_schemas_say", ok: faults.is_empty(), detail }
}
