//! Lays the operator's file over the reference and reads the result, or says everything that is wrong with it.
//!
//! serde stops at its first error. So that an operator sees all of them, the place of each error is given back its
//! default and the whole is read again, until it reads; what was noted on the way is the list of faults. The settings
//! that come out in the end are then judged by [`rules`], except for keys that are at fault already.

use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
};

use serde_path_to_error::Segment;
use toml::{Table, Value};

use super::{ConfigError, Fault, PriavaAuth, Reading, Settings, Surroundings, fault::Faults, rules, secrets};
use crate::telemetry::traces;

/// Every key with its default, unit and meaning.
pub const REFERENCE: &str = include_str!("../../config/reference.toml");

pub(super) static DEFAULTS: LazyLock<Table> =
    LazyLock::new(|| REFERENCE.parse().expect("config/reference.toml is TOML, a test reads it"));

/// Lists of tables. The one entry of the reference is what each entry of a file is laid over.
pub(super) struct List {
    pub(super) path: &'static [&'static str],
    /// Keys that each entry must give itself: defaults would name somebody else's source or CRM.
    pub(super) required: &'static [&'static str],
    /// The key that chooses among the reference's entries.
    variant: Option<&'static str>,
    /// Whether the reference's entry holds where a file has none.
    stands_by_itself: bool,
}

pub(super) const LISTS: [List; 4] = [
    List { path: &["input", "topics"], required: &["name"], variant: None, stands_by_itself: true },
    List { path: &["source"], required: &["uri", "name"], variant: None, stands_by_itself: false },
    List { path: &["identity", "rule"], required: &["key"], variant: Some("key"), stands_by_itself: true },
    List { path: &["crm"], required: &["name", "kind", "base_url"], variant: Some("kind"), stands_by_itself: false },
];

impl Settings {
    /// Reads and checks the settings of `file`.
    ///
    /// # Errors
    /// [`ConfigError`] with all faults that were found.
    pub fn load(file: &Path, surroundings: Surroundings<'_>) -> Result<Self, ConfigError> {
        Reading::of_file(file, surroundings)
            .into_settings()
            .map_err(|faults| ConfigError { file: file.to_owned(), faults })
    }

    /// What the reference says, its example entries included. Nothing is fetched or checked: the start for tests, and
    /// for a run whose settings are made by the program.
    pub fn reference() -> Self {
        Value::Table(DEFAULTS.clone()).try_into().expect("config/reference.toml has every key, a test reads it")
    }

    /// As [`Settings::load`], for a text that was read already.
    ///
    /// # Errors
    /// All faults that were found.
    pub fn parse(text: &str, surroundings: Surroundings<'_>) -> Result<Self, Vec<Fault>> {
        Reading::of(text, surroundings).into_settings()
    }
}

/// What a [`Reading`] is made of: settings as far as they can be read, the file as it was laid over the reference, and all
/// faults.
pub(super) fn load(file: Table, surroundings: Surroundings<'_>) -> (Settings, Table, Vec<Fault>) {
    let mut faults = Faults::default();
    let (mut laid, defaults) = overlay(file, &mut faults);
    let as_written = laid.clone();
    let mut settings = read(&mut laid, &defaults, &mut faults);
    complete(&mut settings, surroundings, &mut faults);
    rules::check(&settings, &mut faults);
    (settings, as_written, faults.into_vec())
}

/// The file laid over the reference; and, of the same shape, what the reference alone says.
fn overlay(mut file: Table, faults: &mut Faults) -> (Table, Table) {
    let mut laid = DEFAULTS.clone();
    let mut defaults = DEFAULTS.clone();
    for list in &LISTS {
        let templates = match take(&mut laid, list.path) {
            Some(Value::Array(templates)) => templates,
            _ => unreachable!("the reference has an entry of {:?}", list.path),
        };
        let (entries, originals) = match take(&mut file, list.path) {
            None if list.stands_by_itself => (templates.clone(), templates),
            None => (Vec::new(), Vec::new()),
            Some(Value::Array(entries)) => entries
                .into_iter()
                .enumerate()
                .map(|(index, entry)| overlay_entry(list, index, entry, &templates, faults))
                .unzip(),
            Some(_) => {
                let path = list.path.join(".");
                faults.add(&path, None, "this is a list of tables", format!("write [[{path}]] before each entry"));
                (templates.clone(), templates)
            }
        };
        put(&mut laid, list.path, Value::Array(entries));
        put(&mut defaults, list.path, Value::Array(originals));
    }
    merge(&mut laid, file);
    (laid, defaults)
}

fn overlay_entry(list: &List, index: usize, entry: Value, templates: &[Value], faults: &mut Faults) -> (Value, Value) {
    let path = format!("{}[{index}]", list.path.join("."));
    let first = || templates.first().expect("the reference has an entry of each list").clone();
    let Value::Table(entry) = entry else {
        faults.add(&path, None, "this is not a table", format!("write [[{}]] and its keys below", list.path.join(".")));
        return (first(), first());
    };
    for key in list.required.iter().filter(|key| !entry.contains_key(**key)) {
        faults.add(&format!("{path}.{key}"), None, "this key is required", "give it; it has no default");
    }
    // An entry of an unknown variant keeps its word for it, so that reading it says which ones exist.
    let original = list
        .variant
        .and_then(|variant| {
            let wanted = entry.get(variant)?;
            templates.iter().find(|template| template.get(variant) == Some(wanted)).cloned()
        })
        .unwrap_or_else(first);
    let mut laid = original.clone();
    match &mut laid {
        Value::Table(laid) => merge(laid, entry),
        _ => unreachable!("an entry of the reference is a table"),
    }
    (laid, original)
}

/// Lays `upper` over `lower`: tables key by key, anything else as a whole.
fn merge(lower: &mut Table, upper: Table) {
    // `x_env` and `x_file` are two ways to say one thing: the file's way takes the place of the default's.
    for key in upper.keys() {
        for (ending, other) in [("_env", "_file"), ("_file", "_env")] {
            if let Some(stem) = key.strip_suffix(ending) {
                lower.remove(&format!("{stem}{other}"));
            }
        }
    }
    for (key, value) in upper {
        match (lower.get_mut(&key), value) {
            (Some(Value::Table(lower)), Value::Table(upper)) => merge(lower, upper),
            (_, value) => {
                lower.insert(key, value);
            }
        }
    }
}

fn take(table: &mut Table, path: &[&str]) -> Option<Value> {
    match path {
        [] => None,
        [key] => table.remove(*key),
        [key, rest @ ..] => take(table.get_mut(*key)?.as_table_mut()?, rest),
    }
}

fn put(table: &mut Table, path: &[&str], value: Value) {
    match path {
        [] => {}
        [key] => {
            table.insert((*key).to_owned(), value);
        }
        [key, rest @ ..] => {
            if let Some(Value::Table(inner)) = table.get_mut(*key) {
                put(inner, rest, value);
            }
        }
    }
}

/// Reads what can be read; each place that cannot is noted and read with its default.
fn read(laid: &mut Table, defaults: &Table, faults: &mut Faults) -> Settings {
    loop {
        let error = match serde_path_to_error::deserialize::<_, Settings>(Value::Table(laid.clone())) {
            Ok(settings) => return settings,
            Err(error) => error,
        };
        let path: Vec<Segment> = error.path().iter().cloned().collect();
        let (reason, remedy) = in_words(&path, error.inner().message());
        let value = lookup(laid, &path).filter(|_| may_be_shown(&path)).and_then(shown);
        faults.add(&name_of(&path), value, reason, remedy);
        // Each round gives one more place its default, and the defaults can be read: this ends.
        if !mend(laid, defaults, &path) {
            laid.clone_from(defaults);
        }
    }
}

/// serde's message as reason and remedy.
fn in_words(path: &[Segment], message: &str) -> (String, String) {
    let message = message.trim_end();
    if let Some((unknown, expected)) =
        message.strip_prefix("unknown field ").and_then(|rest| rest.split_once(", expected "))
    {
        return ("there is no such key".into(), instead("known here", unknown, expected));
    }
    if message.starts_with("unknown field ") {
        return ("there is no such key".into(), "remove it".into());
    }
    if let Some((unknown, expected)) =
        message.strip_prefix("unknown variant ").and_then(|rest| rest.split_once(", expected "))
    {
        return ("there is no such choice".into(), instead("choose from", unknown, expected));
    }
    let remedy = "see config/reference.toml for how it is written";
    // What serde expected may be told, in words that an operator knows; what it found may be what must not be shown.
    match message.rsplit_once(", expected ") {
        Some((_, expected)) if expected.starts_with("struct ") => ("expected a table".into(), remedy.into()),
        Some((_, expected)) if expected == DURATION => (format!("expected {DURATION}"), DURATION_REMEDY.into()),
        Some((_, expected)) => (format!("expected {}", in_toml(expected)), remedy.into()),
        None if may_be_shown(path) => (message.to_owned(), remedy.into()),
        None => ("this cannot be read".into(), remedy.into()),
    }
}

/// As the crate that reads durations calls one.
const DURATION: &str = "a duration";
const DURATION_REMEDY: &str =
    "write a number and its unit in quotes, as in \"250ms\", \"30s\", \"5m\", \"12h\" or \"7d\"";

/// A type of Rust in words of TOML.
fn in_toml(expected: &str) -> &str {
    match expected {
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number from 0 on, without quotes",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number, without quotes",
        "f32" | "f64" => "a number, without quotes",
        "a boolean" => "true or false, without quotes",
        "a string" | "string" | "path string" => "a text in quotes",
        "a sequence" => "a list in brackets",
        "a map" => "a table",
        other => other,
    }
}

/// What may be written in place of `unknown`: what was probably meant, and all there is. Both are as serde quotes them.
fn instead(lead: &str, unknown: &str, expected: &str) -> String {
    let all = format!("{lead}: {}", expected.trim_start_matches("one of "));
    let unknown = unknown.trim_matches('`').to_lowercase();
    let known = expected.split('`').skip(1).step_by(2).map(|known| (known, strsim::jaro_winkler(&unknown, known)));
    // Whatever is less alike would mislead more often than it helps.
    let near = known.filter(|(_, likeness)| *likeness >= 0.85).max_by(|one, other| one.1.total_cmp(&other.1));
    near.map_or(all.clone(), |(near, _)| format!("was `{near}` meant? {all}"))
}

/// Whether the value at a path may be printed: unknown keys and properties of librdkafka may hold passwords, base
/// addresses too (`https://user:password@…`).
fn may_be_shown(path: &[Segment]) -> bool {
    let keys: Vec<&str> = path
        .iter()
        .filter_map(|segment| if let Segment::Map { key } = segment { Some(key.as_str()) } else { None })
        .collect();
    let secretive = |key: &&str| {
        ["secret", "token", "password", "api_key", "email_env", "email_file", "properties", "base_url"]
            .iter()
            .any(|word| key.contains(word))
    };
    is_scalar_of_reference(path) && !keys.iter().any(secretive)
}

fn is_scalar_of_reference(path: &[Segment]) -> bool {
    // Whichever entry of a list it is: one of the reference's entries knows the key.
    let in_entry = |entry: usize| {
        let path: Vec<Segment> = path
            .iter()
            .map(|segment| match segment {
                Segment::Seq { .. } => Segment::Seq { index: entry },
                segment => segment.clone(),
            })
            .collect();
        lookup(&DEFAULTS, &path).is_some_and(|value| !value.is_table() && !value.is_array())
    };
    let entries = DEFAULTS.get("crm").and_then(Value::as_array).map_or(1, Vec::len);
    (0..entries).any(in_entry)
}

fn shown(value: &Value) -> Option<String> {
    match value {
        Value::Table(_) | Value::Array(_) => None,
        scalar => Some(scalar.to_string()),
    }
}

fn name_of(path: &[Segment]) -> String {
    path.iter().fold(String::new(), |mut name, segment| {
        match segment {
            Segment::Seq { index } => name.push_str(&format!("[{index}]")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                if !name.is_empty() {
                    name.push('.');
                }
                name.push_str(key);
            }
            Segment::Unknown => {}
        }
        name
    })
}

fn lookup<'a>(table: &'a Table, path: &[Segment]) -> Option<&'a Value> {
    let (first, rest) = path.split_first()?;
    let Segment::Map { key } = first else {
        return None;
    };
    rest.iter().try_fold(table.get(key)?, |value, segment| match segment {
        Segment::Map { key } => value.get(key),
        Segment::Seq { index } => value.get(*index),
        Segment::Enum { .. } | Segment::Unknown => None,
    })
}

/// Gives the place its default; a place without one goes. False if there was nothing left to change.
fn mend(laid: &mut Table, defaults: &Table, path: &[Segment]) -> bool {
    let Some((Segment::Map { key }, rest)) = path.split_first() else {
        return false;
    };
    let default = defaults.get(key);
    if let (Some(laid), Some(default)) = (laid.get_mut(key), default)
        && mend_within(laid, default, rest)
    {
        return true;
    }
    replace(laid, key, default)
}

fn mend_within(laid: &mut Value, default: &Value, path: &[Segment]) -> bool {
    match (path.split_first(), laid) {
        (Some((Segment::Map { key }, rest)), Value::Table(laid)) => {
            if let (Some(inner), Some(default)) = (laid.get_mut(key), default.get(key))
                && mend_within(inner, default, rest)
            {
                return true;
            }
            replace(laid, key, default.get(key))
        }
        (Some((Segment::Seq { index }, rest)), Value::Array(laid)) => {
            match (laid.get_mut(*index), default.get(*index)) {
                (Some(inner), Some(default)) => {
                    mend_within(inner, default, rest) || {
                        let changed = inner != default;
                        *inner = default.clone();
                        changed
                    }
                }
                // A list of plain values has no defaults by index: the list as a whole goes back to its own.
                _ => false,
            }
        }
        _ => false,
    }
}

fn replace(laid: &mut Table, key: &str, default: Option<&Value>) -> bool {
    match default {
        Some(default) => laid.insert(key.to_owned(), default.clone()).as_ref() != Some(default),
        None => laid.remove(key).is_some(),
    }
}

/// Fills in what does not stand in the file: the host name and the secrets.
fn complete(settings: &mut Settings, surroundings: Surroundings<'_>, faults: &mut Faults) {
    if let Some(name) = &settings.worker.id_env {
        match (surroundings.variable)(name).as_deref().map(str::trim) {
            _ if !settings.worker.id.is_empty() => {
                faults.add("worker.id_env", None, "worker.id is given too", "keep one of the two");
            }
            Some(id) if !id.is_empty() => settings.worker.id = id.into(),
            _ => {
                let reason = "the environment variable is not set, or empty";
                faults.add("worker.id_env", Some(name.clone()), reason, format!("set {name}, or write worker.id"));
            }
        }
    }
    settings.worker.named = !settings.worker.id.is_empty();
    if !settings.worker.named {
        settings.worker.id = (surroundings.host_name)().into();
    }
    let identity = &mut settings.identity;
    identity.secret = secrets::fetch(
        "identity.secret",
        identity.secret_env.as_deref(),
        identity.secret_file.as_ref(),
        surroundings,
        faults,
    );
    complete_properties(settings, surroundings, faults);
    let ingest = &mut settings.ingest;
    if !ingest.listen.is_empty() && (ingest.token_env.is_some() || ingest.token_file.is_some()) {
        let (variable, file) = (ingest.token_env.as_deref(), ingest.token_file.as_ref());
        ingest.token = secrets::fetch("ingest.token", variable, file, surroundings, faults);
    }
    let exported = &mut settings.telemetry.traces;
    if exported.is_on() && (exported.headers_env.is_some() || exported.headers_file.is_some()) {
        let (variable, file) = (exported.headers_env.as_deref(), exported.headers_file.as_ref());
        if let Some(found) = secrets::fetch("telemetry.traces.headers", variable, file, surroundings, faults) {
            match traces::headers(found.expose()) {
                Some(headers) => exported.headers = headers,
                None => {
                    let key = if variable.is_some() { "headers_env" } else { "headers_file" };
                    let remedy = "write name=value, separated by commas or line ends, values percent-encoded";
                    faults.add(
                        &format!("telemetry.traces.{key}"),
                        None,
                        "what was found there is no list of headers",
                        remedy,
                    );
                }
            }
        }
    }
    let admin = &mut settings.admin;
    if admin.token_env.is_some() || admin.token_file.is_some() {
        let (variable, file) = (admin.token_env.as_deref(), admin.token_file.as_ref());
        admin.token = secrets::fetch("admin.token", variable, file, surroundings, faults);
    }
    for (index, crm) in settings.crm.iter().enumerate() {
        if let Some(priava) = &crm.priava {
            // Whoever sends a credential reads it (again, when it is refused): here it is only known to be there.
            let at = format!("crm[{index}].priava");
            let (stem, variable, file) = match priava.auth {
                PriavaAuth::ApiToken => ("token", &priava.token_env, &priava.token_file),
                PriavaAuth::Oauth2 => ("client_secret", &priava.client_secret_env, &priava.client_secret_file),
            };
            secrets::fetch(&format!("{at}.{stem}"), variable.as_deref(), file.as_ref(), surroundings, faults);
            if priava.auth == PriavaAuth::Oauth2 {
                let (stem, file) = (format!("{at}.refresh_token"), priava.refresh_token_file.as_ref());
                let code = (priava.authorization_code_env.as_deref(), priava.authorization_code_file.as_ref());
                if code == (None, None) {
                    secrets::fetch_kept(&stem, file, surroundings, faults);
                } else {
                    let code_stem = format!("{at}.authorization_code");
                    secrets::fetch_granted(&stem, file, (&code_stem, code.0, code.1), surroundings, faults);
                }
            }
        }
        if let Some(previsto) = &crm.previsto {
            let stem = format!("crm[{index}].previsto.api_key");
            let (variable, file) = (previsto.api_key_env.as_deref(), previsto.api_key_file.as_ref());
            secrets::fetch(&stem, variable, file, surroundings, faults);
        }
        if let Some(crm_com) = &crm.crm_com {
            let stem = format!("crm[{index}].crm_com.secret");
            let (variable, file) = (crm_com.secret_env.as_deref(), crm_com.secret_file.as_ref());
            secrets::fetch(&stem, variable, file, surroundings, faults);
        }
        if let Some(logisense) = &crm.logisense {
            let stem = format!("crm[{index}].logisense.secret");
            let (variable, file) = (logisense.secret_env.as_deref(), logisense.secret_file.as_ref());
            secrets::fetch(&stem, variable, file, surroundings, faults);
        }
        if let Some(sam) = &crm.nextinteract_sam {
            for (name, variable, file) in [
                ("email", sam.email_env.as_deref(), sam.email_file.as_ref()),
                ("password", sam.password_env.as_deref(), sam.password_file.as_ref()),
            ] {
                let stem = format!("crm[{index}].nextinteract_sam.{name}");
                secrets::fetch(&stem, variable, file, surroundings, faults);
            }
        }
    }
}

/// Properties of librdkafka whose names end in `_env` or `_file` get the value found there, under the name without it.
fn complete_properties(settings: &mut Settings, surroundings: Surroundings<'_>, faults: &mut Faults) {
    let written = std::mem::take(&mut settings.log.kafka.properties);
    for (name, value) in &written {
        let stem = name.strip_suffix("_env").or_else(|| name.strip_suffix("_file"));
        let Some(stem) = stem else {
            if rules::is_secret_property(name) {
                let remedy = format!("write \"{name}_env\" or \"{name}_file\" and where to find it");
                faults.add(
                    &format!("log.kafka.properties.{name}"),
                    None,
                    "a secret does not belong into this file",
                    remedy,
                );
            }
            settings.log.kafka.properties.insert(name.clone(), value.clone());
            continue;
        };
        let key = format!("log.kafka.properties.{stem}");
        let variable = written.get(&format!("{stem}_env"));
        let file = written.get(&format!("{stem}_file")).map(PathBuf::from);
        if let Some(secret) = secrets::fetch(&key, variable.map(String::as_str), file.as_ref(), surroundings, faults) {
            settings.log.kafka.properties.insert(stem.to_owned(), secret.expose().to_owned());
        }
    }
}
