//! What services and editors are given, held to what the built program says: its JSON Schemas.

#![expect(clippy::unwrap_used, reason = "a claim fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use jsonschema::Validator;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_contact-replicator"))
}

fn ran(arguments: &[&str]) -> Output {
    program().args(arguments).current_dir(root()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn name(file: &Path) -> String {
    file.file_name().unwrap().to_string_lossy().into_owned()
}

fn json(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// What the program prints, which is what is published.
fn schema(of: &str) -> Validator {
    let printed = ran(&["schema", of]);
    assert!(printed.status.success(), "{}", text(&printed.stderr));
    let file = root().join(format!("config/schemas/{of}.json"));
    assert_eq!(text(&printed.stdout), fs::read_to_string(&file).unwrap(), "{}", file.display());
    jsonschema::validator_for(&serde_json::from_slice(&printed.stdout).unwrap()).unwrap()
}

#[test]
fn every_layout_that_others_may_read_is_as_its_schema_says() {
    let schemas = [("record", "contact-records"), ("entry", "contact-versions"), ("outcome", "outcome")]
        .map(|(layout, of)| (layout, schema(of)));
    // Of this program alone.
    let private = ["key", "link", "resolver"];
    let mut held = 0;
    for sample in files("tests/formats") {
        let name = name(&sample);
        let layout = name.split(['.', '-']).next().unwrap();
        match schemas.iter().find(|(known, _)| *known == layout) {
            Some((_, schema)) => {
                assert!(schema.is_valid(&json(&sample)), "{name}");
                held += 1;
            }
            None => assert!(private.contains(&layout), "{name} is a layout without a schema"),
        }
    }
    assert!(held >= 5, "only {held} samples were held to a schema");
    schema("config");
}
