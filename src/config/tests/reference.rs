//! The reference tells the truth: each key stands there with its meaning, and its default nowhere else.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use super::{SECRET, fine, parse};
use crate::config::{REFERENCE, Settings};

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
    assert_eq!(settings.source[1].order, Some(crate::config::Order::Log));
}

#[test]
fn the_defaults_of_a_crm_are_those_of_its_kind() {
    let settings = fine(&[("crm[0].kind", "\"previsto\""), ("crm[0].previsto.page_size", "7")]);
    assert_eq!(settings.crm[0].on_erase, crate::config::OnErase::Delete);
    assert!(settings.crm[0].priava.is_none());
    let previsto = settings.crm[0].previsto.as_ref().unwrap();
    assert_eq!((previsto.page_size, previsto.plant_number), (7, true));
    assert_eq!(fine(&[]).crm[0].on_erase, crate::config::OnErase::Blank);
}
