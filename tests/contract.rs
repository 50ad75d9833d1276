//! What services and editors are given, held to what the built program says: schemas, samples, and the command line itself.

#![expect(clippy::unwrap_used, reason = "a claim fails by panicking")]

use std::{
    collections::BTreeSet,
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
fn every_sample_of_an_event_passes_the_check_and_the_schema() {
    let schema = schema("change-event");
    let samples = files("config/samples");
    let mut verbs = BTreeSet::new();
    for sample in &samples {
        let event = json(sample);
        assert!(schema.is_valid(&event), "{}", sample.display());
        verbs.insert(event["type"].as_str().unwrap().rsplit('.').nth(1).unwrap().to_owned());
        // A sample that names what nobody knows would teach it.
        let checked = ran(&["check-event", "--strict", &sample.to_string_lossy()]);
        let output = text(&checked.stdout);
        assert_eq!((checked.status.code(), output.contains("\n1 events, 0 at fault\n")), (Some(0), true), "{output}");
    }
    let names: BTreeSet<String> = samples.iter().map(|sample| name(sample)).collect();
    let expected = ["clear", "delete", "erase", "organization", "patch", "person", "person-minimal"];
    assert_eq!(names, expected.map(|name| format!("{name}.json")).into());
    assert_eq!(verbs, ["created", "deleted", "erased", "patched", "updated"].map(str::to_owned).into());
}

#[test]
fn the_full_samples_show_every_attribute_of_the_contact() {
    let schema: Value = json(&root().join("config/schemas/change-event.json"));
    let known = schema["$defs"]["Contact"]["properties"].as_object().unwrap();
    let mut shown = BTreeSet::new();
    for sample in ["person.json", "organization.json"] {
        let data = json(&root().join("config/samples").join(sample))["data"].clone();
        shown.extend(data.as_object().unwrap().keys().cloned());
    }
    assert_eq!(shown, known.keys().cloned().collect());
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

#[test]
fn an_event_at_fault_ends_the_check_with_1_and_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("event.json");
    let mut event = json(&root().join("config/samples/person.json"));
    event["data"]["birthDate"] = "10.12.1985".into();
    fs::write(&file, event.to_string()).unwrap();
    let checked = ran(&["check-event", "--json", &file.to_string_lossy()]);
    assert_eq!(checked.status.code(), Some(1));
    let verdict: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!((&verdict["code"], &verdict["pointer"]), (&"bad_value".into(), &"/birthDate".into()));
    assert!(!text(&checked.stdout).contains("1985"));
    assert_eq!(ran(&["check-event", "no-such-file"]).status.code(), Some(3));
    assert_eq!(ran(&["check-event", "--binary", "-"]).status.code(), Some(2));
}

#[test]
fn colours_are_declined_by_no_color() {
    let help = |no_color: bool| {
        let mut program = program();
        program.arg("--help").env("CLICOLOR_FORCE", "1").env_remove("NO_COLOR");
        if no_color {
            program.env("NO_COLOR", "1");
        }
        text(&program.output().unwrap().stdout)
    };
    assert!(help(false).contains('\u{1b}'), "forced, the help has colours or weights");
    assert!(!help(true).contains('\u{1b}'));
}

#[test]
fn a_package_finds_completions_a_manual_and_the_build() {
    for shell in ["bash", "zsh", "fish"] {
        let script = ran(&["completions", shell]);
        assert!(script.status.success() && text(&script.stdout).contains("check-event"), "{shell}");
    }
    let bash = Command::new("bash").args(["-n", "/dev/stdin"]).stdin(piped(&["completions", "bash"])).status().unwrap();
    assert!(bash.success(), "bash cannot read its completions");
    for arguments in [&["man"][..], &["man", "run"]] {
        let page = ran(arguments);
        assert!(page.status.success() && text(&page.stdout).contains(".SH NAME"), "{arguments:?}");
    }
    let short = text(&ran(&["-V"]).stdout);
    assert_eq!(short, format!("contact-replicator {}\n", env!("CARGO_PKG_VERSION")));
    let long = text(&ran(&["--version"]).stdout);
    assert!(long.starts_with(short.trim_end()) && long.contains("\nlibrdkafka: "), "{long}");
}

/// What a command prints, as another's input.
fn piped(arguments: &[&str]) -> fs::File {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &ran(arguments).stdout).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    file
}
