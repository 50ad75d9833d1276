use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use jsonschema::Validator;

use super::*;
use crate::config::{Fault, Surroundings};

static VALIDATOR: LazyLock<Validator> = LazyLock::new(|| {
    let schema = json_schema();
    jsonschema::draft7::meta::validate(&schema).expect("a schema of its draft");
    jsonschema::draft7::new(&schema).expect("a schema")
});

fn json(settings: &toml::Table) -> Value {
    serde_json::to_value(settings).unwrap()
}

fn reference() -> toml::Table {
    REFERENCE.parse().unwrap()
}

fn faults(settings: &toml::Table) -> Vec<Fault> {
    let surroundings = Surroundings {
        variable: &|_| Some("0123456789abcdef0123456789abcdef".into()),
        file: &|_| Err(io::Error::from(io::ErrorKind::NotFound)),
        host_name: &|| "host-1".into(),
    };
    Settings::parse(&toml::to_string(settings).unwrap(), surroundings).err().unwrap_or_default()
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            found.push(path);
        }
    }
}

#[test]
fn every_file_of_settings_in_this_tree_is_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    files(&root.join("config"), &mut found);
    files(&root.join("deploy"), &mut found);
    assert!(found.len() >= 3, "{found:?}");
    for file in found {
        let settings: toml::Table = fs::read_to_string(&file).unwrap().parse().unwrap();
        let fault =
            VALIDATOR.validate(&json(&settings)).err().map(|fault| format!("{}: {fault}", fault.instance_path()));
        assert_eq!(fault, None, "{}", file.display());
    }
}

#[test]
fn what_is_required_may_not_be_missing() {
    let bare = "[[crm]]\nname = \"a\"\nkind = \"priava\"\nbase_url = \"https://a.example.com\"\n";
    let settings: toml::Table = bare.parse().unwrap();
    assert!(VALIDATOR.is_valid(&json(&settings)) && faults(&settings).is_empty());
    for lacking in [
        String::new(),
        "crm = []".to_owned(),
        bare.replace("name = \"a\"\n", ""),
        bare.replace("kind = \"priava\"\n", ""),
        format!("{bare}[[source]]\nuri = \"/shop\"\n"),
        format!("{bare}[[input.topics]]\n"),
        format!("{bare}[[identity.rule]]\nmerges = true\n"),
    ] {
        let settings: toml::Table = lacking.parse().unwrap();
        assert!(!VALIDATOR.is_valid(&json(&settings)) && !faults(&settings).is_empty(), "{lacking}");
    }
}

/// A place in the reference: names and indices.
type Place = Vec<String>;

/// The places of all tables, and of all other values, list by list.
fn places(at: &toml::Value, path: &mut Place, tables: &mut Vec<Place>, values: &mut Vec<Place>) {
    let inner: Vec<(String, &toml::Value)> = match at {
        toml::Value::Table(table) => {
            tables.push(path.clone());
            table.iter().map(|(name, value)| (name.clone(), value)).collect()
        }
        toml::Value::Array(list) if list.first().is_some_and(toml::Value::is_table) => {
            list.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect()
        }
        _ => {
            values.push(path.clone());
            return;
        }
    };
    for (step, value) in inner {
        path.push(step);
        places(value, path, tables, values);
        path.pop();
    }
}

fn place<'a>(settings: &'a mut toml::Value, path: &[String]) -> &'a mut toml::Value {
    path.iter().fold(settings, |at, step| match at {
        toml::Value::Array(list) => &mut list[step.parse::<usize>().unwrap()],
        at => at.get_mut(step).unwrap(),
    })
}

fn all_places() -> (Vec<Place>, Vec<Place>) {
    let (mut tables, mut values) = (Vec::new(), Vec::new());
    places(&toml::Value::Table(reference()), &mut Vec::new(), &mut tables, &mut values);
    assert!(tables.len() > 30 && values.len() > 200, "{} tables, {} values", tables.len(), values.len());
    (tables, values)
}

/// Tables whose keys are the operator's own.
fn is_free(path: &[String]) -> bool {
    let free = [
        "properties",
        "fields",
        "countries",
        "field_names",
        "organisation_field_names",
        "status_classes",
        "user_defined",
        "languages",
        "categories",
        "groups",
        "privacy_levels",
        "industries",
        "industry_sectors",
        "relation_types",
        "code_classes",
        "message_classes",
        "resource",
    ];
    path.last().is_some_and(|name| free.contains(&name.as_str()))
}

#[test]
fn a_key_that_there_is_not_is_refused_in_every_table() {
    let (tables, _) = all_places();
    for path in tables {
        let mut settings = toml::Value::Table(reference());
        let table = place(&mut settings, &path).as_table_mut().unwrap();
        table.insert("unheard_of".into(), toml::Value::String("/gender".into()));
        let settings = settings.as_table().unwrap();
        let is_valid = VALIDATOR.is_valid(&json(settings));
        if is_free(&path) {
            let values = [
                "countries",
                "field_names",
                "organisation_field_names",
                "languages",
                "properties",
                "fields",
                "resource",
            ];
            let takes_texts = values.contains(&path.last().unwrap().as_str());
            assert!(is_valid || !takes_texts, "{path:?}");
        } else {
            assert!(!is_valid && !faults(settings).is_empty(), "{path:?}");
        }
    }
}

#[test]
fn a_value_of_the_wrong_type_is_refused_at_every_key_as_the_program_refuses_it() {
    let (_, values) = all_places();
    for path in values {
        let right = place(&mut toml::Value::Table(reference()), &path).clone();
        for wrong in [
            toml::Value::Boolean(true),
            toml::Value::Integer(-7_000_000_000),
            toml::Value::String("?".into()),
            toml::Value::Array(vec![toml::Value::Array(vec![toml::Value::Boolean(true)])]),
            toml::Value::Table(toml::Table::new()),
        ] {
            if wrong.same_type(&right) && !right.is_integer() && !right.is_array() {
                continue;
            }
            let mut settings = toml::Value::Table(reference());
            *place(&mut settings, &path) = wrong.clone();
            let json = json(settings.as_table().unwrap());
            // A number may be written as an integer, and what is out of bounds is told by `check` alone.
            let is_read = settings.try_into::<Settings>().is_ok();
            assert_eq!(VALIDATOR.is_valid(&json), is_read, "{path:?} = {wrong}");
        }
    }
}

#[test]
fn a_choice_that_there_is_not_and_a_table_of_another_kind_are_refused() {
    for (change, is_valid) in [
        ("kind = \"priava\"\n[crm.priava]\nclear_with = \"empty\"", true),
        ("kind = \"priava\"\n[crm.priava]\nauth = \"magic\"", false),
        ("kind = \"salesforce\"", false),
        ("kind = \"priava\"\n[crm.previsto]\nsend_source = true", false),
        ("kind = \"priava\"\nwhere = [{ any = [{ at = \"/active\", is = true }] }]", true),
        ("kind = \"priava\"\nwhere = [{ any = [{ at = \"/active\", was = true }] }]", false),
        (
            "kind = \"priava\"\n[crm.fields]\ntitle = { from = \"/gender\", values = { f = \"Ms\" }, otherwise = \"omit\" }",
            true,
        ),
        ("kind = \"priava\"\n[crm.fields]\ntitle = { form = \"/gender\" }", false),
        ("kind = \"priava\"\n[crm.fields]\ntitle = 5", false),
        ("kind = \"priava\"\n[crm.priava.status_classes]\n418 = \"transient\"", true),
        ("kind = \"priava\"\n[crm.priava.status_classes]\n418 = \"teapot\"", false),
    ] {
        let text = format!("[[crm]]\nname = \"a\"\nbase_url = \"https://a.example.com\"\n{change}\n");
        let settings: toml::Table = text.parse().unwrap();
        assert_eq!(VALIDATOR.is_valid(&json(&settings)), is_valid, "{change}");
        assert_eq!(faults(&settings).is_empty(), is_valid, "{change}: {:?}", faults(&settings));
    }
}

#[test]
fn a_duration_is_taken_and_refused_as_humantime_does() {
    for text in [
        "250ms",
        "30s",
        "5m",
        "12h",
        "7d",
        "1h 30m",
        "1h30min",
        " 2 weeks ",
        "4.2s",
        "0",
        "0s",
        "1month 2M 3y",
        "1hrs 1wk",
        "",
        "30",
        "s",
        "-1s",
        "1 fortnight",
        "1.s",
        "1s1",
        "ten seconds",
        "1S",
    ] {
        let text = format!(
            "worker.shutdown_deadline = {text:?}\n[[crm]]\nname = \"a\"\nkind = \"priava\"\nbase_url = \"https://a.example.com\"\n"
        );
        let settings: toml::Table = text.parse().unwrap();
        let is_read = !faults(&settings).iter().any(|fault| fault.reason.starts_with("expected "));
        assert_eq!(VALIDATOR.is_valid(&json(&settings)), is_read, "{text}: {:?}", faults(&settings));
    }
}

/// Calls `look` with every property of the schema and its name.
fn properties(schema: &Value, path: &str, look: &mut impl FnMut(&str, &Value)) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        look(&path, property);
        properties(property, &path, look);
        properties(&property["items"], &path, look);
    }
}

#[test]
fn every_key_has_its_meaning_and_the_default_of_the_reference() {
    let schema = json_schema();
    let mut defaults = 0;
    properties(&schema, "", &mut |path, property| {
        // Members of a condition and of a rule are told where the list is.
        if !path.starts_with(".crm.where.") {
            let explained = property["description"].is_string() || property["type"] == "object";
            assert!(explained, "{path} has no meaning");
        }
        if let Some(default) = property.get("default") {
            defaults += 1;
            // What refers to another place cannot be judged without it, and is with the reference as a whole.
            let validator = (!property.to_string().contains("$ref")).then(|| jsonschema::draft7::new(property));
            assert!(
                validator.is_none_or(|validator| validator.expect("a schema").is_valid(default)),
                "{path}: {default}"
            );
        }
    });
    assert!(defaults > 150, "{defaults}");
    let at = |pointer: &str| schema.pointer(pointer).cloned().unwrap_or_default();
    assert_eq!(at("/properties/topics/properties/partitions/default"), json!(24));
    assert_eq!(
        at("/properties/topics/properties/partitions/description"),
        json!("Partitions of each topic keyed by contact. Fixed for good: a contact's partition follows from it.")
    );
    let crm = "/properties/crm/items/properties";
    assert_eq!(at(&format!("{crm}/delivery/properties/max_age/examples")), json!(["7d"]));
    assert_eq!(at(&format!("{crm}/base_url/default")), Value::Null, "it is required");
    // Those of the reference's entries differ.
    assert_eq!(at(&format!("{crm}/delivery/properties/in_flight_max/default")), Value::Null);
    assert_eq!(at(&format!("{crm}/where/items/properties/any/items/$ref")), json!(format!("#{crm}/where/items")));
}
