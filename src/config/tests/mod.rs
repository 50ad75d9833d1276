//! Claims about the settings as a whole: the reference tells the truth, and every fault is found and named. Here is how a
//! test writes settings; the claims are beside, by area.

mod advice;
mod crm;
mod faults;
mod limits;
mod reference;
mod secrets;

use std::{io, path::Path};

use toml::{Table, Value};

use super::{Fault, Settings, Surroundings};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const PASSWORD: &str = "hunter2-hunter2";

/// Surroundings in which every variable whose name begins with `MISSING` is missing.
fn parse(text: &str) -> Result<Settings, Vec<Fault>> {
    let variable = |name: &str| match name {
        "SHORT" => Some("a".repeat(31)),
        "TOKEN_15" => Some("a".repeat(15)),
        "TOKEN_16" => Some("a".repeat(16)),
        "TOKEN_BLANK" => Some("a token with blanks".into()),
        "EMPTY" => Some(" \n".into()),
        "KAFKA_PASSWORD" => Some(PASSWORD.into()),
        name if name.starts_with("MISSING") => None,
        _ => Some(format!(" {SECRET}\n")),
    };
    let file = |path: &Path| {
        if path == Path::new("/run/secret") {
            Ok(format!("{SECRET}\r\n"))
        } else {
            Err(io::Error::from(io::ErrorKind::NotFound))
        }
    };
    Settings::parse(text, Surroundings { variable: &variable, file: &file, host_name: &|| "host-1.example".into() })
}

const BASE: &str = r#"
[[input.topics]]
name = "contact-changes"
[[source]]
uri = "https://shop.example.com"
name = "shop"
[[crm]]
name = "priava"
kind = "priava"
base_url = "http://127.0.0.1:1/api"
"#;

/// The base with some values set: each a path (`crm[0].delivery.in_flight_max`) and a value in TOML, empty to remove.
fn with(changes: &[(&str, &str)]) -> String {
    let mut table: Table = BASE.parse().unwrap();
    for (path, value) in changes {
        set(&mut table, path, value);
    }
    toml::to_string(&table).unwrap()
}

fn set(table: &mut Table, path: &str, value: &str) {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    // Names of properties hold dots: all that follows `properties` is one key.
    let (first, rest) = path.strip_prefix("properties.").map_or((first, rest), |name| ("properties", name));
    let (name, index) = match first.split_once('[') {
        Some((name, index)) => (name, Some(index.trim_end_matches(']').parse::<usize>().unwrap())),
        None => (first, None),
    };
    if rest.is_empty() && index.is_none() {
        if value.is_empty() {
            table.remove(name);
        } else {
            table.insert(name.into(), format!("x = {value}").parse::<Table>().unwrap().remove("x").unwrap());
        }
        return;
    }
    let inner = table
        .entry(name)
        .or_insert_with(|| if index.is_some() { Value::Array(Vec::new()) } else { Value::Table(Table::new()) });
    let inner = match index {
        Some(index) => {
            let list = inner.as_array_mut().unwrap();
            while list.len() <= index {
                list.push(list.last().cloned().unwrap());
            }
            &mut list[index]
        }
        None => inner,
    };
    let inner = inner.as_table_mut().unwrap();
    if name == "properties" {
        inner.insert(rest.into(), Value::String(value.into()));
    } else {
        set(inner, rest, value);
    }
}

/// With `changes`, exactly the fault `key` is found, and its text holds `says`.
#[track_caller]
fn faulty(changes: &[(&str, &str)], key: &str, says: &str) {
    let faults = parse(&with(changes)).expect_err("these settings are faulty");
    let found: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(found, [key], "{faults:?}");
    let text = faults[0].to_string();
    assert!(text.contains(says), "{text:?} does not say {says:?}");
    assert!(!faults[0].reason.is_empty() && !faults[0].remedy.is_empty());
}

#[track_caller]
fn fine(changes: &[(&str, &str)]) -> Settings {
    parse(&with(changes)).unwrap_or_else(|faults| panic!("{changes:?}: {faults:?}"))
}

#[track_caller]
fn limit(wide: &[(&str, &str)], key: &str, [below, lowest, highest, above]: [String; 4]) {
    let at = |value: &str| parse(&with(&wide.iter().copied().chain([(key, value)]).collect::<Vec<_>>()));
    for value in [&lowest, &highest] {
        at(value).unwrap_or_else(|faults| panic!("{key} = {value}: {faults:?}"));
    }
    for value in [&below, &above].into_iter().filter(|value| !value.is_empty()) {
        let Err(faults) = at(value) else { panic!("{key} = {value} was taken") };
        assert!(faults.iter().any(|fault| fault.key == key), "{key} = {value}: {faults:?}");
    }
}
