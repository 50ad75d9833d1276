//! Claims about the settings as a whole: the reference tells the truth, and every fault is found and named.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use super::{Fault, REFERENCE, Settings, Surroundings};

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

fn reference() -> Table {
    REFERENCE.parse().expect("the reference is TOML")
}

#[test]
fn every_file_of_settings_in_this_tree_is_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<PathBuf> = Vec::new();
    for folder in ["config", "deploy"] {
        collect(&root.join(folder), &mut files);
    }
    assert!(
        files.iter().any(|file| file.ends_with("reference.toml"))
            && files.iter().any(|file| file.ends_with("kafka.toml"))
            && files.iter().any(|file| file.ends_with("embedded.toml"))
    );
    for file in files {
        parse(&fs::read_to_string(&file).unwrap()).unwrap_or_else(|faults| panic!("{}: {faults:#?}", file.display()));
    }
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
}

/// Each table of the reference by its path, with the keys that serde knows there.
///
/// serde tells them: an unknown key is refused with the list of the known ones.
fn known_keys() -> BTreeMap<String, Vec<String>> {
    fn visit(whole: &Table, path: &mut Vec<String>, at: &Value, found: &mut BTreeMap<String, Vec<String>>) {
        match at {
            Value::Table(table) => {
                let mut probe = Value::Table(whole.clone());
                let mut place = &mut probe;
                for key in path.iter() {
                    place = match key.parse::<usize>() {
                        Ok(index) => &mut place.as_array_mut().unwrap()[index],
                        Err(_) => place.as_table_mut().unwrap().get_mut(key).unwrap(),
                    };
                }
                place.as_table_mut().unwrap().insert("?".into(), Value::Integer(0));
                let error =
                    probe.try_into::<Settings>().expect_err("a key named ? exists nowhere").message().to_owned();
                if let Some((_, known)) = error.split_once(", expected ") {
                    let known = known.split('`').skip(1).step_by(2).map(Into::into).collect();
                    found.insert(path.join("."), known);
                }
                for (key, value) in table {
                    path.push(key.clone());
                    visit(whole, path, value, found);
                    path.pop();
                }
            }
            Value::Array(list) => {
                for (index, value) in list.iter().enumerate() {
                    path.push(index.to_string());
                    visit(whole, path, value, found);
                    path.pop();
                }
            }
            _ => {}
        }
    }
    let whole = reference();
    let mut found = BTreeMap::new();
    visit(&whole, &mut Vec::new(), &Value::Table(whole.clone()), &mut found);
    found
}

#[test]
fn every_key_of_the_structs_stands_in_the_reference_with_its_meaning() {
    let known = known_keys();
    for table in [
        "",
        "worker",
        "log.kafka",
        "log.local",
        "topics",
        "input",
        "input.topics.0",
        "source.0",
        "crm.0.delivery",
        "crm.0.priava",
        "crm.1.delivery",
        "crm.1.previsto",
        "crm.2.delivery",
        "crm.2.crm_com",
        "crm.3.logisense",
        "crm.4.nextinteract_sam",
    ] {
        assert!(known.contains_key(table), "the walk missed [{table}]: {:?}", known.keys());
    }
    for (table, keys) in known {
        let header = table.split('.').filter(|key| key.parse::<usize>().is_err()).collect::<Vec<_>>().join(".");
        let section = section_of(&header);
        for key in keys {
            let below = if header.is_empty() { key.clone() } else { format!("{header}.{key}") };
            let (table, list) = (format!("[{below}]"), format!("[[{below}]]"));
            if REFERENCE.lines().any(|line| line == table || line == list) {
                continue;
            }
            let (set, absent) = (format!("{key} = "), format!("# {key} = "));
            let place = section.iter().position(|line| line.starts_with(&set) || line.starts_with(&absent));
            let place = place.unwrap_or_else(|| panic!("[{header}] in the reference lacks {key}"));
            // Some pairs share one comment: what stands above a key is a comment or a key that has one.
            assert!(
                place > 0 && !section[place - 1].is_empty(),
                "{key} of [{header}] in the reference has no meaning above it"
            );
        }
    }
}

/// The lines of one table of the reference, or of all entries of a list.
fn section_of(header: &str) -> Vec<&'static str> {
    let (table, list) = (format!("[{header}]"), format!("[[{header}]]"));
    let mut inside = header.is_empty();
    let mut lines = Vec::new();
    for line in REFERENCE.lines() {
        if line.starts_with('[') {
            inside = line == table || line == list;
        } else if inside {
            lines.push(line);
        }
    }
    lines
}

#[test]
fn no_key_has_a_default_outside_the_reference() {
    // Without any one key that the reference sets, its structs cannot be read: nothing in code stands in for it.
    let whole = reference();
    let mut paths = Vec::new();
    fn leaves(at: &Value, path: &mut Vec<String>, paths: &mut Vec<Vec<String>>) {
        if let Value::Table(table) = at {
            for (key, value) in table {
                path.push(key.clone());
                leaves(value, path, paths);
                path.pop();
            }
        } else if let Value::Array(list) = at
            && list.first().is_some_and(Value::is_table)
        {
            for (index, entry) in list.iter().enumerate() {
                path.push(index.to_string());
                leaves(entry, path, paths);
                path.pop();
            }
        } else {
            paths.push(path.clone());
        }
    }
    leaves(&Value::Table(whole.clone()), &mut Vec::new(), &mut paths);
    assert!(paths.len() > 60, "the walk found {} keys", paths.len());
    for path in paths {
        let mut without = Value::Table(whole.clone());
        let (last, above) = path.split_last().unwrap();
        let place = above.iter().fold(&mut without, |place, key| match key.parse::<usize>() {
            Ok(index) => &mut place.as_array_mut().unwrap()[index],
            Err(_) => place.as_table_mut().unwrap().get_mut(key).unwrap(),
        });
        place.as_table_mut().unwrap().remove(last);
        // What stands in a table of an operator's own names may be absent as any of those may.
        let of_table = ["properties", "languages"].iter().any(|table| path.iter().any(|key| key == table));
        let optional = last.ends_with("_env") || of_table;
        assert_eq!(without.try_into::<Settings>().is_ok(), optional, "{}", path.join("."));
    }
}

#[test]
fn what_does_not_fit_the_crm_or_the_contact_is_told_at_its_place_and_with_all_else() {
    let kind = "[{ at = \"/kind\", is = \"company\" }]";
    faulty(&[("crm[0].where", kind)], "crm[0].where[0].is", "person, organization");
    faulty(&[("crm[0].fields.nickname", "\"/gender\"")], "crm[0].fields.nickname", "no such field");
    faulty(&[("crm[0].fields.title", "5")], "crm[0].fields.title", "expected a pointer");
    faulty(&[("crm[0].fields.title", "{ from = \"/sex\" }")], "crm[0].fields.title.from", "no contact has");
    faulty(&[("crm[0].on_leave", "\"blank\"")], "crm[0].on_leave", "no such choice");
    let several =
        [("crm[0].fields.nickname", "\"/gender\""), ("crm[0].delivery.in_flight_max", "0"), ("crm[0].where", kind)];
    let faults = parse(&with(&several)).expect_err("three are wrong");
    assert_eq!(faults.len(), 3, "{faults:?}");
    let settings = fine(&[
        ("crm[0].fields.title", "\"/gender\""),
        ("crm[0].where", "[{ at = \"/emails/value\", present = true }]"),
    ]);
    assert_eq!((settings.crm[0].fields.len(), settings.crm[0].filter.len()), (1, 1));
}

#[test]
fn what_a_file_does_not_say_is_as_in_the_reference() {
    let settings = fine(&[]);
    assert_eq!(settings.topics.partitions, 24);
    assert_eq!(settings.crm[0].delivery.in_flight_max, 2);
    assert_eq!(settings.crm[0].base_url, "http://127.0.0.1:1/api");
    assert_eq!(&*settings.worker.id, "host-1.example");
    assert_eq!(settings.identity.secret.unwrap().expose(), SECRET);
    // The reference's entries are templates, not entries, but for the input topic.
    let settings = fine(&[("source", ""), ("input", "")]);
    assert!(settings.source.is_empty());
    assert_eq!(&*settings.input.topics[0].name, "contact-changes");
}

#[test]
fn a_log_on_disk_lies_below_the_worker_unless_it_is_told_otherwise() {
    assert_eq!(fine(&[("worker.data", "\"there\"")]).log_folder(), Path::new("there/log"));
    assert_eq!(fine(&[("log.local.folder", "\"elsewhere\"")]).log_folder(), Path::new("elsewhere"));
}

#[test]
fn each_entry_of_a_list_is_laid_over_the_references_own() {
    let settings = fine(&[
        ("crm[1].name", "\"second\""),
        ("crm[1].delivery.in_flight_max", "7"),
        ("source[1].name", "\"b\""),
        ("source[1].uri", "\"b\""),
        ("source[1].order", "\"log\""),
    ]);
    let limits: Vec<_> =
        settings.crm.iter().map(|crm| (&*crm.name, crm.delivery.in_flight_max, crm.delivery.unanswered_max)).collect();
    assert_eq!(limits, [("priava", 2, 1000), ("second", 7, 1000)]);
    assert_eq!(settings.source[0].order, None);
    assert_eq!(settings.source[1].order, Some(super::Order::Log));
}

#[test]
fn the_defaults_of_a_crm_are_those_of_its_kind() {
    let settings = fine(&[("crm[0].kind", "\"previsto\""), ("crm[0].previsto.page_size", "7")]);
    assert_eq!(settings.crm[0].on_erase, super::OnErase::Delete);
    assert!(settings.crm[0].priava.is_none());
    let previsto = settings.crm[0].previsto.as_ref().unwrap();
    assert_eq!((previsto.page_size, previsto.plant_number), (7, true));
    assert_eq!(fine(&[]).crm[0].on_erase, super::OnErase::Blank);
}

#[test]
fn a_previsto_that_cannot_be_meant_is_told() {
    for (changes, key, says) in [
        (&[("search_by", "[]")][..], "search_by", "one at least"),
        (&[("search_by", "[\"email\", \"email\"]")], "search_by", "once"),
        (&[("search_by", "[\"name\"]")], "search_by[0]", "`number`"),
        (&[("page_size", "0")], "page_size", "1 to 1000"),
        (&[("page_size", "1001")], "page_size", "1 to 1000"),
        (&[("page_size", "\"x\"")], "page_size", "page_size = \"x\": expected u32"),
        (&[("search_pages_max", "1")], "search_pages_max", "2 to 1000"),
        (&[("search_pages_max", "1001")], "search_pages_max", "2 to 1000"),
        (&[("attribute_prefix", "\"\"")], "attribute_prefix", "end with _"),
        (&[("attribute_prefix", "\"attr\"")], "attribute_prefix", "end with _"),
        (&[("attribute_prefix", "\"a[_\"")], "attribute_prefix", "end with _"),
        (&[("attribute_prefix", "\"a23456789012345678901234567890123_\"")], "attribute_prefix", "up to 32"),
        (&[("blank_name", "\" \"")], "blank_name", "has a name"),
        (&[("blank_name", "\"a\\nb\"")], "blank_name", "visible"),
        (&[("never_cleared", "[\"name\"]")], "never_cleared", "\"name\""),
        (&[("never_cleared", "[\"meta.shoe\"]")], "never_cleared", "\"meta.shoe\""),
        (&[("clear_with", "\"nothing\"")], "clear_with", "`omit`"),
        (&[("api_key_env", "\"MISSING_KEY\"")], "api_key_env", "MISSING_KEY is not set"),
        (&[("api_key_file", "\"/none\"")], "api_key_file", "/none"),
        (&[("status_classes.200", "\"transient\"")], "status_classes.200", "300 to 599"),
    ] {
        let paths: Vec<_> = changes.iter().map(|(path, value)| (format!("crm[0].previsto.{path}"), *value)).collect();
        let mut changes = vec![("crm[0].kind", "\"previsto\"")];
        changes.extend(paths.iter().map(|(path, value)| (path.as_str(), *value)));
        faulty(&changes, &format!("crm[0].previsto.{key}"), says);
    }
    for (key, value) in [
        ("search_by", "[\"phone\"]"),
        ("page_size", "1"),
        ("page_size", "1000"),
        ("search_pages_max", "2"),
        ("search_pages_max", "1000"),
        ("attribute_prefix", "\"_\""),
        ("attribute_prefix", "\"a234567890123456789012345678901_\""),
        ("never_cleared", "[\"note\", \"meta.gender\", \"meta.attr_shoe\"]"),
        ("status_classes.404", "\"gone\""),
    ] {
        fine(&[("crm[0].kind", "\"previsto\""), (&format!("crm[0].previsto.{key}"), value)]);
    }
    faulty(&[("crm[0].previsto.page_size", "7")], "crm[0].previsto", "cannot be read");
}

#[test]
fn a_crm_com_that_cannot_be_meant_is_told() {
    let paths = |changes: &[(&str, &str)]| -> Vec<(String, String)> {
        let paths = changes.iter().map(|(path, value)| (format!("crm[0].crm_com.{path}"), (*value).to_owned()));
        std::iter::once(("crm[0].kind".to_owned(), "\"crm_com\"".to_owned())).chain(paths).collect()
    };
    for (changes, key, says) in [
        (&[("login", "\"key\"")][..], "login", "`web_api_key`"),
        (&[("username", "\" \"")], "username", "login by user"),
        (&[("organisation", "\"\"")], "organisation", "login by user"),
        (&[("token_life", "\"59s\""), ("renew_before", "\"0s\"")], "token_life", "1m"),
        (&[("token_life", "\"25h\"")], "token_life", "1day"),
        (&[("renew_before", "\"61m\""), ("token_life", "\"2h\"")], "renew_before", "1h"),
        (&[("renew_before", "\"55m\"")], "renew_before", "less than token_life"),
        (&[("login_interval", "\"61m\"")], "login_interval", "1h"),
        (&[("external_ref_slot", "\"udf_string_17\"")], "external_ref_slot", "udf_string_1 to 16"),
        (&[("external_ref_slot", "\"udf_float_1\"")], "external_ref_slot", "udf_string_1 to 16"),
        (&[("source_slot", "\"udf_string_16\"")], "source_slot", "something else"),
        (&[("user_defined./active", "\"udf_string_16\"")], "user_defined./active", "something else"),
        (&[("user_defined./active", "\"udf_date_9\"")], "user_defined./active", "udf_date_1 to 8"),
        (&[("user_defined./emails", "\"udf_string_1\"")], "user_defined./emails", "one value"),
        (&[("search_by", "[]")], "search_by", "one at least"),
        (&[("search_by", "[\"id_number\", \"id_number\"]")], "search_by", "once"),
        (&[("page_size", "0")], "page_size", "1 to 500"),
        (&[("page_size", "501")], "page_size", "1 to 500"),
        (&[("search_pages_max", "0")], "search_pages_max", "1 to 1000"),
        (&[("search_pages_max", "1001")], "search_pages_max", "1 to 1000"),
        (&[("overflow_types", "[\"CUSTOM6\"]")], "overflow_types", "CUSTOM1 to CUSTOM5"),
        (&[("overflow_types", "[\"CUSTOM1\", \"CUSTOM1\"]")], "overflow_types", "once"),
        (&[("photo_bytes_max", "5242881")], "photo_bytes_max", "0 to 5242880"),
        (&[("relation_types.boss", "\"boss\"")], "relation_types.boss", "EMPLOYER"),
        (&[("phone_country", "\"cy\"")], "phone_country", "capital"),
        (&[("country_by", "[]")], "country_by", "two_character_code"),
        (&[("countries.CYP", "\"Cyprus\"")], "countries.CYP", "capital"),
        (&[("countries.CY", "\"id:\"")], "countries.CY", "capital"),
        (&[("category_by", "\"colour\"")], "category_by", "alternative_code"),
        (&[("never_cleared", "[\"first_name\"]")], "never_cleared", "first_name"),
        (&[("blank_first_name", "\"\"")], "blank_first_name", "visible"),
        (&[("status_classes.200", "\"transient\"")], "status_classes.200", "300 to 599"),
        (&[("code_classes.X", "\"often\"")], "code_classes.X", "`transient`"),
    ] {
        let paths = paths(changes);
        let changes: Vec<_> = paths.iter().map(|(path, value)| (path.as_str(), value.as_str())).collect();
        faulty(&changes, &format!("crm[0].crm_com.{key}"), says);
    }
    for (key, value) in [
        ("token_life", "\"1day\""),
        ("renew_before", "\"0s\""),
        ("login_interval", "\"1h\""),
        ("page_size", "1"),
        ("page_size", "500"),
        ("search_pages_max", "1"),
        ("search_pages_max", "1000"),
        ("source_slot", "\"udf_string_1\""),
        ("overflow_types", "[]"),
        ("photo_bytes_max", "0"),
        ("photo_bytes_max", "5242880"),
        ("relation_types.boss", "\"CUSTOM5\""),
        ("without_street", "[]"),
        ("phone_country", "\"CY\""),
        ("never_cleared", "[\"notes\", \"phone_set.CUSTOM1\", \"udf_date_8\"]"),
        ("code_classes.X", "\"gone\""),
    ] {
        let paths = paths(&[(key, value)]);
        fine(&paths.iter().map(|(path, value)| (path.as_str(), value.as_str())).collect::<Vec<_>>());
    }
}

#[test]
fn a_nextinteract_sam_that_cannot_be_meant_is_told() {
    for (key, value, at, says) in [
        ("login", "\"xml\"", "login", "`json`"),
        ("app_code", "\"ni\"", "app_code", "`NI`"),
        ("platform", "\"a\\nb\"", "platform", "up to 64"),
        ("token_life", "\"59s\"", "token_life", "1m to 1day"),
        ("token_life", "\"25h\"", "token_life", "1m to 1day"),
        ("renew_before", "\"61m\"", "renew_before", "0s to 1h"),
        ("login_interval_min", "\"999ms\"", "login_interval_min", "1s to 1h"),
        ("login_interval_min", "\"61m\"", "login_interval_min", "1s to 1h"),
        ("locked_retry_after", "\"59s\"", "locked_retry_after", "1m to 30days"),
        ("batch_rows_max", "0", "batch_rows_max", "1 to 500"),
        ("batch_rows_max", "501", "batch_rows_max", "1 to 500"),
        ("batch_bytes_max", "1023", "batch_bytes_max", "1024 to 67108864"),
        ("batch_bytes_max", "67108865", "batch_bytes_max", "1024 to 67108864"),
        ("batch_age_max", "\"10001ms\"", "batch_age_max", "0s to 10s"),
        ("unstored_retries_max", "6", "unstored_retries_max", "0 to 5"),
        ("company_service_tries_max", "0", "company_service_tries_max", "1 to 1000"),
        ("company_service_tries_max", "1001", "company_service_tries_max", "1 to 1000"),
        ("organization", "\"company\"", "organization", "`last_name`"),
        ("birth_date", "\"iso\"", "birth_date", "`epoch_ms`"),
        ("modified", "\"now\"", "modified", "`received_at`"),
        ("clear_with", "\"omit\"", "clear_with", "`empty`"),
        ("blank_last_name", "\" \"", "blank_last_name", "has a last name"),
        ("blank_last_name", "\"a\\nb\"", "blank_last_name", "visible"),
        ("error_code_key", "\"\"", "error_code_key", "has a name"),
        ("email_env", "\"MISSING_EMAIL\"", "email_env", "MISSING_EMAIL is not set"),
        ("password_env", "\"MISSING_PASSWORD\"", "password_env", "MISSING_PASSWORD is not set"),
        ("password_file", "\"/none\"", "password_file", "/none"),
        ("status_classes.200", "\"transient\"", "status_classes.200", "300 to 599"),
        ("code_classes.999", "\"transient\"", "code_classes.999", "1000 to 9999"),
        ("code_classes.10000", "\"transient\"", "code_classes.10000", "1000 to 9999"),
    ] {
        let key = format!("crm[0].nextinteract_sam.{key}");
        let changes = [("crm[0].kind", "\"nextinteract_sam\""), (&*key, value)];
        faulty(&changes, &format!("crm[0].nextinteract_sam.{at}"), says);
    }
    for (key, value) in [
        ("token_life", "\"1m\""),
        ("token_life", "\"1day\""),
        ("renew_before", "\"0s\""),
        ("renew_before", "\"1h\""),
        ("login_interval_min", "\"1s\""),
        ("locked_retry_after", "\"1m\""),
        ("batch_rows_max", "1"),
        ("batch_rows_max", "500"),
        ("batch_bytes_max", "1024"),
        ("batch_bytes_max", "67108864"),
        ("batch_age_max", "\"0s\""),
        ("batch_age_max", "\"10s\""),
        ("unstored_retries_max", "0"),
        ("unstored_retries_max", "5"),
        ("company_service_tries_max", "1000"),
        ("code_classes.2020", "\"rejected\""),
        ("status_classes.404", "\"gone\""),
    ] {
        let key = format!("crm[0].nextinteract_sam.{key}");
        fine(&[("crm[0].kind", "\"nextinteract_sam\""), (&*key, value)]);
    }
    let settings = fine(&[("crm[0].kind", "\"nextinteract_sam\"")]);
    let sam = settings.crm[0].nextinteract_sam.as_ref().unwrap();
    assert!(settings.crm[0].delivery.in_flight_max >= 2 * sam.batch_rows_max, "calls could never be full");
}

#[test]
fn the_credentials_of_a_nextinteract_sam_are_never_printed() {
    for (key, value) in [
        ("password_env", "\"hunter2-hunter2\""),
        ("password", "\"hunter2-hunter2\""),
        ("email_env", "\"hunter2-hunter2\""),
        ("email_env", "[\"hunter2-hunter2\"]"),
    ] {
        let changes = [("crm[0].kind", "\"nextinteract_sam\""), (&*format!("crm[0].nextinteract_sam.{key}"), value)];
        let faults = parse(&with(&changes)).expect_err("this is no place for a credential");
        assert!(!format!("{faults:?}").contains(PASSWORD), "{faults:?}");
        assert!(faults.iter().all(|fault| !fault.to_string().contains(PASSWORD)));
    }
}

#[test]
fn the_api_key_of_a_previsto_is_never_printed() {
    for (key, value) in [
        ("api_key_env", "\"hunter2-hunter2\""),
        ("api_key", "\"hunter2-hunter2\""),
        ("api_key_env", "[\"hunter2-hunter2\"]"),
    ] {
        let changes = [("crm[0].kind", "\"previsto\""), (&*format!("crm[0].previsto.{key}"), value)];
        let faults = parse(&with(&changes)).expect_err("this is no place for a key");
        assert!(!format!("{faults:?}").contains(PASSWORD), "{faults:?}");
        assert!(faults.iter().all(|fault| !fault.to_string().contains(PASSWORD)));
    }
}

#[test]
fn a_secret_may_come_from_a_file_instead_of_a_variable() {
    let settings = fine(&[("identity.secret_file", "\"/run/secret\"")]);
    assert_eq!(settings.identity.secret.unwrap().expose(), SECRET);
    assert_eq!(settings.identity.secret_env, None);
}

#[test]
fn properties_of_librdkafka_take_their_secrets_from_outside() {
    let settings = fine(&[
        ("log.kafka.properties.sasl.password_env", "KAFKA_PASSWORD"),
        ("log.kafka.properties.ssl.key.pem_file", "/run/secret"),
        ("log.kafka.properties.sasl.mechanism", "PLAIN"),
    ]);
    let properties = &settings.log.kafka.properties;
    assert_eq!(properties["sasl.password"], PASSWORD);
    assert_eq!(properties["ssl.key.pem"], SECRET);
    assert_eq!(properties["sasl.mechanism"], "PLAIN");
    assert_eq!(properties.len(), 3);
}

#[test]
fn no_secret_is_ever_printed() {
    let settings = fine(&[("log.kafka.properties.sasl.password_env", "KAFKA_PASSWORD")]);
    let printed = format!("{settings:?}");
    assert!(!printed.contains(SECRET) && !printed.contains(PASSWORD), "{printed}");
    for changes in [
        [("identity.secret_env", "\"hunter2-hunter2\"")],
        [("identity.secret", "\"hunter2-hunter2\"")],
        [("identity.token", "\"hunter2-hunter2\"")],
        [("log.kafka.properties.sasl.password", "hunter2-hunter2")],
        [("log.kafka.properties.sasl.password_env", "hunter2-hunter2")],
        [("crm[0].base_url", "\"https://user:hunter2-hunter2@host/\"")],
        [("crm[0].base_url", "\"hunter2-hunter2\"")],
        [("crm[0].api_token", "\"hunter2-hunter2\"")],
        [("crm[0].priava", "\"hunter2-hunter2\"")],
    ] {
        let faults = parse(&with(&changes)).expect_err("these settings are faulty");
        assert!(!format!("{faults:?}").contains("hunter2"), "{faults:?}");
    }
    let faults = parse("[identity]\nsecret = \"hunter2-hunter2").expect_err("this is not TOML");
    assert_eq!(faults[0].to_string(), "line 2 is not TOML; see config/reference.toml for how each key is written");
}

#[test]
fn oauth_needs_all_that_a_grant_consists_of() {
    let whole = [
        ("crm[0].priava.auth", "\"oauth2\""),
        ("crm[0].priava.token_env", "\"MISSING_TOKEN\""),
        ("crm[0].priava.client_id", "\"hub\""),
        ("crm[0].priava.client_secret_env", "\"CLIENT_SECRET\""),
        ("crm[0].priava.refresh_token_file", "\"/run/secret\""),
        ("crm[0].priava.redirect_uri", "\"https://hub.example.org/\""),
    ];
    assert_eq!(fine(&whole).crm[0].priava.as_ref().unwrap().auth, super::PriavaAuth::Oauth2);
    for (place, wrong, key, says) in [
        (2, "\"\"", "crm[0].priava.client_id", "does not work without it"),
        (3, "\"MISSING_SECRET\"", "crm[0].priava.client_secret_env", "MISSING_SECRET is not set"),
        (4, "\"/none\"", "crm[0].priava.refresh_token_file", "cannot be read"),
        (5, "\"\"", "crm[0].priava.redirect_uri", "does not work without it"),
    ] {
        let mut changes = whole;
        changes[place].1 = wrong;
        faulty(&changes, key, says);
    }
    let changes: Vec<_> = whole.into_iter().filter(|(key, _)| !key.ends_with("refresh_token_file")).collect();
    faulty(&changes, "crm[0].priava.refresh_token_file", "name a file that this program may write");
    faulty(
        &[&whole[..], &[("crm[0].priava.oauth_path", "\"oauth\"")]].concat(),
        "crm[0].priava.oauth_path",
        "begin with /",
    );
}

#[test]
fn all_faults_are_told_at_once() {
    let faults = parse(&with(&[
        ("instance", "\"Contacts\""),
        ("nonsense", "1"),
        ("worker.shutdown_deadline", "\"soon\""),
        ("topics.partitions", "\"many\""),
        ("input.topics[0].nme", "\"x\""),
        ("identity.secret_env", "\"MISSING\""),
        ("identity.source_priority", "[\"shop\", 5]"),
        ("crm[0].kind", "\"priva\""),
        ("crm[0].delivery.in_flight_max", "-1"),
        ("crm[0].delivery.retry_delay", "\"1h\""),
        ("crm[0].base_url", ""),
        ("telemetry", "5"),
    ]))
    .expect_err("these settings are faulty");
    let mut keys: Vec<_> = faults.iter().map(|fault| fault.key.as_str()).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "crm[0].base_url",
            "crm[0].delivery.in_flight_max",
            "crm[0].delivery.retry_delay",
            "crm[0].kind",
            "identity.secret_env",
            "identity.source_priority[1]",
            "input.topics[0].nme",
            "instance",
            "nonsense",
            "telemetry",
            "topics.partitions",
            "worker.shutdown_deadline",
        ],
        "{faults:#?}"
    );
}

#[test]
fn a_fault_says_what_stands_there_and_what_could_stand_there() {
    for (changes, key, says) in [
        (&[("nonsense", "1")][..], "nonsense", "there is no such key; known here: `instance`, `worker`"),
        (&[("worker.idd", "1")], "worker.idd", "known here: `id`, `data`, `shutdown_deadline`"),
        (&[("crm[0].delivery.tries", "1")], "crm[0].delivery.tries", "`tries_before_parking`"),
        (
            &[("crm[0].kind", "\"priva\"")],
            "crm[0].kind",
            "crm[0].kind = \"priva\": there is no such choice; choose from: `priava`",
        ),
        (&[("log.kind", "\"pulsar\"")], "log.kind", "choose from: `kafka` or `local`"),
        (&[("log.local.folder", "\"data/view\"")], "log.local.folder", "the folder of the worker or of its view"),
        (&[("log.local.folder", "\"data\"")], "log.local.folder", "name another, or leave it empty"),
        (&[("log.local.input_retention", "\"3600s 1us\"")], "log.local.input_retention", "milliseconds"),
        (&[("source[0].order", "\"name\"")], "source[0].order", "`sequence`"),
        (&[("topics.partitions", "\"x\"")], "topics.partitions", "topics.partitions = \"x\": expected u32"),
        (&[("topics.partitions", "-1")], "topics.partitions", "expected u32"),
        (&[("worker.shutdown_deadline", "25")], "worker.shutdown_deadline", "= 25: expected a duration"),
        (&[("worker.shutdown_deadline", "\"25 parsecs\"")], "worker.shutdown_deadline", "expected a duration"),
        (&[("crm", "5")], "crm", "write [[crm]] before each entry"),
        (&[("input", "5")], "input", "expected a table"),
        (&[("crm", "[5]")], "crm[0]", "this is not a table"),
        (&[("crm", "")], "crm", "there is no CRM to deliver to"),
        (&[("crm[0].name", "")], "crm[0].name", "this key is required"),
        (&[("crm[0].kind", "")], "crm[0].kind", "this key is required"),
        (&[("source[0].uri", "")], "source[0].uri", "this key is required"),
        (&[("input.topics[0].name", "")], "input.topics[0].name", "this key is required"),
        (
            &[("identity.secret_env", "\"MISSING_ONE\"")],
            "identity.secret_env",
            "the environment variable MISSING_ONE is not set",
        ),
        (&[("identity.secret_env", "\"EMPTY\"")], "identity.secret_env", "empty"),
        (&[("identity.secret_env", "\"SHORT\"")], "identity.secret_env", "at least 32 characters"),
        (&[("identity.secret_file", "\"/none\"")], "identity.secret_file", "/none"),
        (
            &[("identity.secret_env", "\"A\""), ("identity.secret_file", "\"/run/secret\"")],
            "identity.secret_env",
            "keep one of the two",
        ),
        (
            &[("log.kafka.properties.sasl.password", PASSWORD)],
            "log.kafka.properties.sasl.password",
            "sasl.password_env",
        ),
        (&[("log.kafka.properties.group.id", "x")], "log.kafka.properties.group.id", "remove it"),
        (&[("worker.id", "\"a b\"")], "worker.id", "this cannot name a worker"),
        (&[("worker.data", "\"\"")], "worker.data", "a worker needs a folder"),
        (&[("log.kafka.bootstrap_servers", "\"\"")], "log.kafka.bootstrap_servers", "host:port"),
        (&[("log.kafka.bootstrap_servers", "\"a:1,b\"")], "log.kafka.bootstrap_servers", "\"a:1,b\""),
        (&[("log.kafka.bootstrap_servers", "\"a:0\"")], "log.kafka.bootstrap_servers", "host:port"),
        (&[("log.kafka.heartbeat_interval", "\"3334ms\"")], "log.kafka.heartbeat_interval", "a third"),
        (
            &[("log.kafka.drain_deadline", "\"26s\"")],
            "log.kafka.drain_deadline",
            "longer than worker.shutdown_deadline (25s)",
        ),
        (
            &[("log.kafka.min_insync_replicas", "2")],
            "log.kafka.min_insync_replicas",
            "no broker could ever take a write",
        ),
        (&[("topics.prefix", "\"a/\"")], "topics.prefix", "\"a/\""),
        (&[("topics.versions_retention", "\"3600s 1us\"")], "topics.versions_retention", "milliseconds"),
        (&[("topics.message_bytes_max", "2097152")], "topics.message_bytes_max", "choose 2162688 or more"),
        (&[("input.topics", "[]")], "input.topics", "there is nothing to read"),
        (&[("input.topics[0].name", "\"contact-records\"")], "input.topics[0].name", "a topic of our own"),
        (&[("input.topics[0].name", "\"contact-links.priava\"")], "input.topics[0].name", "a topic of our own"),
        (&[("input.topics[0].name", "\"a b\"")], "input.topics[0].name", "this cannot name a topic"),
        (&[("input.topics[1].name", "\"contact-changes\"")], "input.topics[1].name", "listed twice"),
        (&[("input.topics[0].tombstone_source", "\"\"")], "input.topics[0].tombstone_source", "names no source"),
        (
            &[("input.known_sources_only", "true"), ("input.topics[0].tombstone_source", "\"other\"")],
            "input.topics[0].tombstone_source",
            "this source is not known",
        ),
        (
            &[("input.known_sources_only", "true"), ("source", "")],
            "input.known_sources_only",
            "every event would be refused",
        ),
        (&[("source[1].name", "\"b\"")], "source[1].uri", "listed twice"),
        (&[("source[1].uri", "\"b\"")], "source[1].name", "two sources have this name"),
        (&[("source[0].uri", "\"\"")], "source[0].uri", "a source has a uri"),
        (&[("source[0].region", "\"de\"")], "source[0].region", "two capital letters"),
        (
            &[("identity.source_priority", "[\"shop\", \"erp\"]")],
            "identity.source_priority[1]",
            "no [[source]] has this name",
        ),
        (&[("identity.source_priority", "[\"shop\", \"shop\"]")], "identity.source_priority[1]", "listed twice"),
        (&[("identity.record_bytes_max", "540671")], "identity.record_bytes_max", "choose 540672 or more"),
        (&[("crm[1].kind", "\"priava\"")], "crm[1].name", "two CRMs have this name"),
        (&[("crm[0].name", "\"resolver\"")], "crm[0].name", "the resolver's group"),
        (&[("crm[0].name", "\"Priava\"")], "crm[0].name", "lower-case"),
        (&[("crm[0].base_url", "\"ftp://a/\"")], "crm[0].base_url", "only http and https"),
        (&[("crm[0].base_url", "\"api.example.com\"")], "crm[0].base_url", "not an absolute address"),
        (&[("crm[0].base_url", "\"https://a/?x=1\"")], "crm[0].base_url", "query"),
        (&[("crm[0].base_url", "\"https://a/#x\"")], "crm[0].base_url", "fragment"),
        (&[("crm[0].base_url", "\"https://u@a/\"")], "crm[0].base_url", "before the @"),
        (
            &[("crm[0].delivery.connect_timeout", "\"31s\"")],
            "crm[0].delivery.connect_timeout",
            "request_deadline (30s)",
        ),
        (&[("crm[0].delivery.retry_delay", "\"61s\"")], "crm[0].delivery.retry_delay", "retry_delay_max (1m)"),
        (&[("crm[0].delivery.parked_delay", "\"2h\"")], "crm[0].delivery.parked_delay", "parked_delay_max (1h)"),
        (&[("crm[0].delivery.probe_delay", "\"2m\"")], "crm[0].delivery.probe_delay", "probe_delay_max (1m)"),
        (&[("crm[0].delivery.requests_per_second", "-1.0")], "crm[0].delivery.requests_per_second", "0 for no limit"),
        (&[("crm[0].delivery.requests_per_second", "nan")], "crm[0].delivery.requests_per_second", "0 for no limit"),
        (&[("crm[0].priava.token_env", "\"MISSING_TOKEN\"")], "crm[0].priava.token_env", "MISSING_TOKEN is not set"),
        (&[("crm[0].priava.token_file", "\"/none\"")], "crm[0].priava.token_file", "/none"),
        (&[("crm[0].priava.token_header", "\"a b\"")], "crm[0].priava.token_header", "cannot name a header"),
        (&[("crm[0].priava.token_prefix", "\"\\n\"")], "crm[0].priava.token_prefix", "a header cannot carry this"),
        (&[("crm[0].priava.path", "\"v1\"")], "crm[0].priava.path", "begin with /"),
        (&[("crm[0].priava.path", "\"/v1?x\"")], "crm[0].priava.path", "this is no path"),
        (&[("crm[0].priava.countries.de", "\"Germany\"")], "crm[0].priava.countries.de", "two capital letters"),
        (&[("crm[0].priava.field_names.title", "\"\"")], "crm[0].priava.field_names.title", "a field has a name"),
        (
            &[("crm[0].priava.field_names.a", "\"x\""), ("crm[0].priava.field_names.b", "\"x\"")],
            "crm[0].priava.field_names.b",
            "two fields have this name",
        ),
        (&[("crm[0].priava.status_classes.200", "\"transient\"")], "crm[0].priava.status_classes.200", "300 to 599"),
        (&[("crm[0].priava.status_classes.600", "\"transient\"")], "crm[0].priava.status_classes.600", "300 to 599"),
        (
            &[("crm[0].priava.status_classes.418", "\"tea\"")],
            "crm[0].priava.status_classes.418",
            "choose from: `transient`",
        ),
        (&[("crm[0].delivery.max_age", "\"30s\"")], "crm[0].delivery.max_age", "request_deadline (30s)"),
        (&[("crm[0].on_erase", "\"forget\"")], "crm[0].on_erase", "`blank`"),
        (&[("crm[0].on_gone", "\"delete\"")], "crm[0].on_gone", "`recreate`"),
        (&[("crm[0].adopt", "\"always\"")], "crm[0].adopt", "`by_key`"),
        (&[("crm[0].priava.placeholder_first_name", "\" \"")], "crm[0].priava.placeholder_first_name", "write a word"),
        (&[("crm[0].priava.placeholder_last_name", "\"\"")], "crm[0].priava.placeholder_last_name", "write a word"),
        (&[("crm[0].priava.placeholder_email", "\"erased\"")], "crm[0].priava.placeholder_email", "example.invalid"),
        (&[("ingest.listen", "\"localhost\"")], "ingest.listen", "ip:port"),
        (&[("ingest.listen", "\"0.0.0.0:8700\"")], "ingest.listen", "ask for a token"),
        (&[("ingest.listen", "\"[::]:8700\"")], "ingest.listen", "ask for a token"),
        (
            &[("ingest.listen", "\"127.0.0.1:8700\""), ("ingest.token_env", "\"MISSING_TOKEN\"")],
            "ingest.token_env",
            "MISSING_TOKEN is not set",
        ),
        (&[("ingest.listen", "\"0.0.0.0:8700\""), ("ingest.token_file", "\"/none\"")], "ingest.token_file", "/none"),
        (
            &[("ingest.listen", "\"0.0.0.0:8700\""), ("ingest.token_env", "\"TOKEN_15\"")],
            "ingest.token_env",
            "at least 16 letters",
        ),
        (
            &[("ingest.listen", "\"0.0.0.0:8700\""), ("ingest.token_env", "\"TOKEN_BLANK\"")],
            "ingest.token_env",
            "a header cannot carry",
        ),
        (&[("ingest.backlog_max", "99")], "ingest.backlog_max", "the largest batch could never be taken"),
        (&[("ingest.connections_max", "15")], "ingest.connections_max", "at least ingest.requests_max"),
        (
            &[("ingest.listen", "\"127.0.0.1:8700\""), ("ingest.requests_max", "41")],
            "ingest.requests_max",
            "over 1073741824",
        ),
        (&[("identity.merge", "\"safe\"")], "identity.merge", "not merged by rule yet"),
        (&[("identity.rule", "[]")], "identity.rule", "source_id"),
        (&[("identity.rule", "[{ key = \"email\" }]")], "identity.rule[0].key", "first rule"),
        (
            &[("identity.rule", "[{ key = \"source_id\" }, { key = \"source_id\" }]")],
            "identity.rule[1].key",
            "first rule",
        ),
        (
            &[("identity.rule", "[{ key = \"source_id\" }, { key = \"email\" }, { key = \"email\" }]")],
            "identity.rule[2].key",
            "two rules have this key",
        ),
        (
            &[("identity.rule", "[{ key = \"source_id\", require = [\"name_compatible\"] }]")],
            "identity.rule[0].require",
            "nothing speaks against",
        ),
        (&[("identity.rule", "[{ key = \"email_hash\" }]")], "identity.rule[0].key", "choose from"),
        (&[("identity.email_providers", "[[]]")], "identity.email_providers[0]", "a provider has a domain"),
        (&[("identity.email_providers", "[[\"X.ch\"]]")], "identity.email_providers[0]", "no domain"),
        (&[("identity.email_providers", "[[\"x.ch\"], [\"x.ch\"]]")], "identity.email_providers[1]", "listed twice"),
        (&[("identity.block.email_local", "[\"Info\"]")], "identity.block.email_local[0]", "lower case"),
        (&[("identity.block.email_domain", "[\".test\"]")], "identity.block.email_domain[0]", "without a dot"),
        (&[("identity.block.value_regex", "['(']")], "identity.block.value_regex[0]", "regular expression"),
        (&[("identity.guards.disagree", "[\"shoe_size\"]")], "identity.guards.disagree[0]", "choose from"),
        (&[("admin.listen", "\"localhost\"")], "admin.listen", "ip:port"),
        (&[("telemetry.level", "\"info,=\"")], "telemetry.level", "this is no filter"),
        (&[("telemetry.level", "\" \"")], "telemetry.level", "this is no filter"),
    ] {
        faulty(changes, key, says);
    }
}

#[test]
fn each_limit_takes_its_bounds_and_nothing_beyond() {
    let delivery = |name: &str| format!("crm[0].delivery.{name}");
    // Key, below, lowest, highest, above; empty where there is nothing beyond. What a limit is tied to is set wide.
    let wide: &[(&str, &str)] = &[
        ("worker.shutdown_deadline", "\"1h\""),
        ("log.kafka.session_timeout", "\"30m\""),
        ("log.kafka.drain_deadline", "\"100ms\""),
        ("log.kafka.heartbeat_interval", "\"100ms\""),
        ("log.kafka.replication_factor", "32"),
        ("topics.message_bytes_max", "4194304"),
        ("identity.record_bytes_max", "4128768"),
        ("ingest.backlog_max", "10000"),
        ("ingest.batch_events_max", "1"),
        ("ingest.connections_max", "1024"),
        ("ingest.requests_max", "1"),
        ("crm[0].delivery.reference_age_max", "\"30d\""),
        ("crm[0].delivery.reference_miss_age", "\"1ms\""),
        ("crm[0].delivery.request_deadline", "\"5m\""),
        ("crm[0].delivery.connect_timeout", "\"1ms\""),
        ("crm[0].delivery.retry_delay", "\"1ms\""),
        ("crm[0].delivery.retry_delay_max", "\"30d\""),
        ("crm[0].delivery.parked_delay", "\"1ms\""),
        ("crm[0].delivery.parked_delay_max", "\"30d\""),
        ("crm[0].delivery.probe_delay", "\"1ms\""),
        ("crm[0].delivery.probe_delay_max", "\"30d\""),
    ];
    let delays = [
        "retry_delay",
        "retry_delay_max",
        "parked_delay",
        "parked_delay_max",
        "probe_delay",
        "probe_delay_max",
        "retry_after_max",
        "reference_age_max",
        "reference_miss_age",
    ];
    let mut limits: Vec<(String, [&str; 4])> = vec![
        ("log.kafka.session_timeout".into(), ["5999ms", "6s", "30m", "1801s"]),
        ("log.kafka.heartbeat_interval".into(), ["99ms", "100ms", "10m", "601s"]),
        ("log.kafka.transaction_timeout".into(), ["999ms", "1s", "15m", "901s"]),
        ("log.kafka.drain_deadline".into(), ["99ms", "100ms", "1h", ""]),
        ("log.local.input_retention".into(), ["59m", "1h", "36500d", "36501d"]),
        ("log.local.compact_interval".into(), ["999ms", "1s", "7d", "8d"]),
        ("worker.shutdown_deadline".into(), ["", "100ms", "1h", "3601s"]),
        ("topics.versions_retention".into(), ["59m", "1h", "36500d", "36501d"]),
        ("topics.outcomes_retention".into(), ["59m", "1h", "36500d", "36501d"]),
        ("topics.dead_letters_retention".into(), ["59m", "1h", "36500d", "36501d"]),
        ("topics.identity_events_retention".into(), ["59m", "1h", "36500d", "36501d"]),
        ("topics.tombstones_retention".into(), ["59m", "1h", "36500d", "36501d"]),
        ("input.future_max".into(), ["", "0s", "365d", "366d"]),
        ("ingest.read_timeout".into(), ["99ms", "100ms", "5m", "301s"]),
        (delivery("request_deadline"), ["99ms", "100ms", "5m", "301s"]),
        (delivery("connect_timeout"), ["0s", "1ms", "5m", ""]),
        (delivery("search_lag"), ["", "0s", "1h", "3601s"]),
        (delivery("max_age"), ["", "301s", "36500d", "36501d"]),
    ];
    limits.extend(delays.iter().map(|name| (delivery(name), ["0s", "1ms", "30d", "31d"])));
    for (key, edges) in &limits {
        limit(wide, key, edges.map(|edge| if edge.is_empty() { String::new() } else { format!("\"{edge}\"") }));
    }
    let numbers: Vec<(String, [&str; 4])> = vec![
        ("topics.partitions".into(), ["0", "1", "10000", "10001"]),
        ("topics.message_bytes_max".into(), ["", "4194304", "4194304", "4194305"]),
        ("log.kafka.replication_factor".into(), ["0", "1", "32", "33"]),
        ("log.kafka.min_insync_replicas".into(), ["0", "1", "32", "33"]),
        ("input.event_bytes_max".into(), ["1023", "1024", "1048576", "1048577"]),
        ("input.event_depth_max".into(), ["0", "1", "100", "101"]),
        ("identity.limits.source_ids_per_source".into(), ["-1", "0", "1000", "1001"]),
        ("identity.limits.emails".into(), ["0", "1", "100", "101"]),
        ("identity.limits.records".into(), ["0", "1", "1000", "1001"]),
        ("identity.limits.keys_per_event".into(), ["1", "2", "100", "101"]),
        ("identity.limits.generic_after".into(), ["1", "2", "100", "101"]),
        ("source[0].source_ids_per_source".into(), ["-1", "0", "1000", "1001"]),
        ("resolver.batch_events_max".into(), ["0", "1", "10000", "10001"]),
        ("resolver.panics_in_a_row_max".into(), ["0", "1", "1000", "1001"]),
        ("resolver.standby_lag_max".into(), ["", "0", "9223372036854775807", ""]),
        ("log.local.bytes_max".into(), ["67108863", "67108864", "1125899906842624", "1125899906842625"]),
        ("log.local.compact_bytes_per_second".into(), ["1048575", "1048576", "1099511627776", "1099511627777"]),
        ("log.local.cache_bytes".into(), ["25165823", "25165824", "1099511627776", "1099511627777"]),
        ("view.cache_bytes".into(), ["8388607", "8388608", "1099511627776", "1099511627777"]),
        ("view.batch_records_max".into(), ["0", "1", "100000", "100001"]),
        ("ingest.backlog_max".into(), ["0", "1", "1000000000", "1000000001"]),
        ("ingest.batch_events_max".into(), ["0", "1", "10000", "10001"]),
        ("ingest.requests_max".into(), ["0", "1", "1024", "1025"]),
        ("ingest.connections_max".into(), ["0", "1", "65536", "65537"]),
        (delivery("in_flight_max"), ["0", "1", "4096", "4097"]),
        // Of at most 2 here.
        (delivery("in_flight_min"), ["0", "1", "2", "3"]),
        (delivery("requests_per_second"), ["0.0009", "0.001", "1000000", "1000001"]),
        (delivery("resync_contacts_per_second"), ["0.0009", "0.001", "1000000", "1000001"]),
        (delivery("verify_contacts_per_second"), ["0.0009", "0.001", "1000000", "1000001"]),
        (delivery("response_bytes_max"), ["1023", "1024", "67108864", "67108865"]),
        (delivery("tries_before_parking"), ["0", "1", "100", "101"]),
        (delivery("unanswered_max"), ["0", "1", "100000", "100001"]),
        (delivery("failures_before_pause"), ["0", "1", "100000", "100001"]),
    ];
    for (key, edges) in &numbers {
        limit(wide, key, edges.map(ToOwned::to_owned));
    }
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

#[test]
fn names_fit_their_bounds() {
    let long = |length: usize| format!("\"{}\"", "a".repeat(length));
    for (key, longest) in [("instance", 64), ("crm[0].name", 64), ("source[0].name", 64), ("worker.id", 128)] {
        fine(&[(key, &long(longest))]);
        faulty(&[(key, &long(longest + 1))], key, "letters");
    }
    for key in ["instance", "crm[0].name", "source[0].name"] {
        faulty(&[(key, "\"\"")], key, "letters");
    }
    // contact-identity-events, the longest of our names here, has 23 letters.
    fine(&[("topics.prefix", &long(249 - 23))]);
    faulty(&[("topics.prefix", &long(249 - 22))], "topics.prefix", "249");
    fine(&[("input.topics[0].name", &long(249))]);
    faulty(&[("input.topics[0].name", &long(250))], "input.topics[0].name", "249");
}

#[test]
fn pairs_may_be_equal_at_their_bound() {
    fine(&[("log.kafka.session_timeout", "\"9s\""), ("log.kafka.heartbeat_interval", "\"3s\"")]);
    fine(&[("log.kafka.drain_deadline", "\"25s\"")]);
    fine(&[("crm[0].delivery.connect_timeout", "\"30s\"")]);
    fine(&[("identity.record_bytes_max", "540672")]);
    fine(&[("topics.message_bytes_max", "2162688")]);
    fine(&[("crm[0].delivery.requests_per_second", "0")]);
    fine(&[("crm[0].delivery.resync_contacts_per_second", "0")]);
    fine(&[("crm[0].delivery.verify_contacts_per_second", "0")]);
    fine(&[("admin.listen", "\"\"")]);
    fine(&[("ingest.backlog_max", "100")]);
    fine(&[("ingest.connections_max", "16")]);
    // 40 batches of 100 events of 262144 bytes.
    fine(&[("ingest.listen", "\"127.0.0.1:8700\""), ("ingest.requests_max", "40")]);
    fine(&[("ingest.listen", "\"0.0.0.0:8700\""), ("ingest.token_env", "\"TOKEN_16\"")]);
}

#[test]
fn the_ingest_needs_no_token_where_only_this_machine_reaches_it_or_nobody_does() {
    for listen in ["", "127.0.0.1:8700", "[::1]:8700"] {
        let settings = fine(&[("ingest.listen", &format!("{listen:?}"))]);
        assert_eq!(settings.ingest.token, None);
        assert_eq!(settings.ingest.address().is_some(), !listen.is_empty());
    }
    // Off, its token is not looked for.
    fine(&[("ingest.token_env", "\"MISSING_TOKEN\"")]);
    let settings = fine(&[("ingest.listen", "\"127.0.0.1:8700\""), ("ingest.token_file", "\"/run/secret\"")]);
    assert_eq!(settings.ingest.token.as_ref().unwrap().expose(), SECRET);
    assert!(!format!("{settings:?}").contains(SECRET));
}

#[test]
fn an_event_is_not_given_up_before_its_first_request_could_end() {
    let brief: &[(&str, &str)] =
        &[("crm[0].delivery.request_deadline", "\"100ms\""), ("crm[0].delivery.connect_timeout", "\"1ms\"")];
    let edges = ["\"999ms\"", "\"1s\"", "\"36500d\"", "\"36501d\""];
    limit(brief, "crm[0].delivery.max_age", edges.map(ToOwned::to_owned));
    fine(&[("crm[0].delivery.max_age", "\"30001ms\"")]);
    assert_eq!(Settings::reference().crm[0].delivery.max_age, None);
}

#[test]
fn each_policy_has_its_words() {
    for (key, words) in [
        ("on_delete", &["delete", "deactivate", "keep"][..]),
        ("on_erase", &["delete", "blank", "keep"]),
        ("on_gone", &["recreate", "drop"]),
        ("adopt", &["by_key", "never"]),
    ] {
        for word in words {
            fine(&[(&format!("crm[0].{key}"), &format!("\"{word}\""))]);
        }
    }
}

#[test]
fn a_missing_file_is_a_fault_like_any_other() {
    let error =
        Settings::load(Path::new("/none/at/all.toml"), Surroundings::process()).expect_err("there is no such file");
    assert!(error.to_string().contains("/none/at/all.toml cannot be used:\n  the file cannot be read"), "{error}");
}

#[test]
fn a_logisense_that_cannot_be_meant_is_told() {
    for (path, value, says) in [
        ("login", "\"nobody\"", "`client`"),
        ("username", "\"\"", "login = "),
        ("client_id", "\" \"", "id of the client"),
        ("contact_type", "\"\"", "ContactType"),
        ("blank_name", "\"a\\nb\"", "visible"),
        ("code_member", "\"\"", "member"),
        ("login_path", "\"login\"", "begin with /"),
        ("resource_path", "\"/api/\"", "end without"),
        ("page_size", "1", "2 to 1000"),
        ("page_size", "1001", "2 to 1000"),
        ("walk_pages_max", "0", "1 to 10000"),
        ("walk_pages_max", "10001", "1 to 10000"),
        ("candidates_max", "0", "1 to 1000"),
        ("candidates_max", "1001", "1 to 1000"),
        ("points_max", "0", "1 to 20"),
        ("points_max", "21", "1 to 20"),
        ("renew_before", "\"999ms\"", "1s to 1day"),
        ("renew_before", "\"25h\"", "1s to 1day"),
        ("login_interval_min", "\"25h\"", "0s to 1day"),
        ("create_marker", "\"name\"", "`title`"),
        ("unknown_place", "\"keep\"", "`lose`"),
        ("never_cleared", "[\"lastName\"]", "\"lastName\""),
        ("never_cleared", "[\"contactPoint.email.6\"]", "contactPoint.email.6"),
        ("countries.gb", "\"UK\"", "two capital letters"),
        ("secret_env", "\"MISSING_KEY\"", "MISSING_KEY is not set"),
        ("status_classes.200", "\"transient\"", "300 to 599"),
    ] {
        let key = format!("crm[0].logisense.{path}");
        faulty(&[("crm[0].kind", "\"logisense\""), (&key, value)], &key, says);
    }
    for (path, value) in [
        ("page_size", "2"),
        ("page_size", "1000"),
        ("walk_pages_max", "1"),
        ("walk_pages_max", "10000"),
        ("candidates_max", "1"),
        ("candidates_max", "1000"),
        ("points_max", "1"),
        ("points_max", "20"),
        ("renew_before", "\"1s\""),
        ("renew_before", "\"24h\""),
        ("login_interval_min", "\"0s\""),
        ("login_interval_min", "\"24h\""),
        ("never_cleared", "[\"title\", \"address.zipCode\", \"contactPoint.email.5\"]"),
        ("countries.GB", "\"UK\""),
        ("is_used_for_tax", "false"),
    ] {
        fine(&[("crm[0].kind", "\"logisense\""), (&format!("crm[0].logisense.{path}"), value)]);
    }
}
