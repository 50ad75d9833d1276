//! What holds, key by key, and where each value comes from: the operator's file, a variable, this machine, or the reference.
//!
//! It is made of the file as it was laid over the reference, before anything that cannot be read was put right, so that it
//! shows what stands there. A secret is told by where it was looked for and whether something is there. What no fault would
//! repeat is not shown here either: unknown keys and free properties may hold what nobody should see.

use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::{Table, Value};

use super::{Fault, Surroundings, fault::related, places::Places, secrets};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Origin {
    /// The file of settings says nothing of it.
    Default,
    /// The file of settings says it.
    File { line: usize },
    /// The environment variable of this name says it.
    Variable { name: String },
    /// The host name of this machine.
    HostName,
}

/// What a key holds, as far as it may be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Holds {
    /// As TOML writes it.
    Value { value: String },
    /// It may be something that nobody should see.
    Hidden,
    /// A secret, and whether anything is found where it is looked for.
    Secret {
        #[serde(flatten)]
        place: SecretPlace,
        is_set: bool,
    },
}

/// Where a secret is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretPlace {
    Variable(String),
    File(PathBuf),
}

/// One key, and what holds for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Effective {
    /// Of a secret without the ending `_env` or `_file`.
    pub key: String,
    #[serde(flatten)]
    pub holds: Holds,
    pub origin: Origin,
}

impl Effective {
    /// Whether it is what it would be without a file of settings. What depends on the surroundings never is.
    pub fn is_default(&self) -> bool {
        self.origin == Origin::Default && !matches!(self.holds, Holds::Secret { .. })
    }
}

/// Every key of `laid`: first those of the file in its order, then all others by name.
pub(super) fn effective(
    laid: &Table,
    places: &Places,
    faults: &[Fault],
    surroundings: Surroundings<'_>,
) -> Vec<Effective> {
    let mut told = Telling { places, faults, surroundings, told: Vec::new() };
    told.table("", laid);
    let mut told = told.told;
    told.retain(|each| each.key != "worker.id");
    told.push(worker_id(laid, places, surroundings));
    let order = |each: &Effective| match each.origin {
        Origin::File { line } => (line, String::new()),
        _ => (usize::MAX, each.key.clone()),
    };
    told.sort_by_key(order);
    told
}

struct Telling<'a> {
    places: &'a Places,
    faults: &'a [Fault],
    surroundings: Surroundings<'a>,
    told: Vec<Effective>,
}

impl Telling<'_> {
    fn table(&mut self, above: &str, table: &Table) {
        for (name, value) in table {
            let key = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
            self.value(key, name, value);
        }
    }

    fn value(&mut self, key: String, name: &str, value: &Value) {
        match value {
            Value::Table(table) => self.table(&key, table),
            Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_table) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(format!("{key}[{index}]"), name, item);
                }
            }
            value => {
                let origin = self.places.line(&key).map_or(Origin::Default, |line| Origin::File { line });
                let (key, holds) = self.holds(key, name, value);
                self.told.push(Effective { key, holds, origin });
            }
        }
    }

    fn holds(&self, key: String, name: &str, value: &Value) -> (String, Holds) {
        let is_kept_back = |fault: &Fault| {
            fault.value.is_none() && key.len() >= fault.key.len() && !fault.key.is_empty() && related(&fault.key, &key)
        };
        if let (Some(place), Some(stem)) = (secret_place(&key, value), stem(&key)) {
            let is_set = place.as_ref().map(|place| is_set(place, self.surroundings));
            let holds = place.zip(is_set).map_or(Holds::Hidden, |(place, is_set)| Holds::Secret { place, is_set });
            return (stem.to_owned(), holds);
        }
        if self.faults.iter().any(is_kept_back) || is_private(&key, name, value) {
            return (key, Holds::Hidden);
        }
        (key, Holds::Value { value: value.to_string() })
    }
}

fn stem(key: &str) -> Option<&str> {
    key.strip_suffix("_env").or_else(|| key.strip_suffix("_file"))
}

/// Where a key says that a secret is; within, nothing if what stands there may be the secret itself. `None`: it is no such
/// key.
fn secret_place(key: &str, value: &Value) -> Option<Option<SecretPlace>> {
    if key == "worker.id_env" {
        return None;
    }
    let text = value.as_str();
    if key.ends_with("_env") {
        let name = text.filter(|name| secrets::is_variable_name(name));
        return Some(name.map(|name| SecretPlace::Variable(name.to_owned())));
    }
    let is_path = |text: &&str| text.contains('/') || text.contains('.');
    key.ends_with("_file").then(|| text.filter(is_path).map(|path| SecretPlace::File(path.into())))
}

fn is_set(place: &SecretPlace, surroundings: Surroundings<'_>) -> bool {
    let found = match place {
        SecretPlace::Variable(name) => (surroundings.variable)(name),
        SecretPlace::File(path) => (surroundings.file)(Path::new(path)).ok(),
    };
    found.is_some_and(|text| !text.trim().is_empty())
}

/// Constants that go to a CRM, properties of librdkafka that sound like a secret, addresses with a user.
fn is_private(key: &str, name: &str, value: &Value) -> bool {
    const WORDS: [&str; 7] = ["password", "secret", "token", "jaas", "pem", "key", "config"];
    let is_secretive = |name: &str| WORDS.iter().any(|word| name.contains(word));
    let property = key.strip_prefix("log.kafka.properties.");
    let is_personal =
        |text: &str| url::Url::parse(text).is_ok_and(|url| !url.username().is_empty() || url.password().is_some());
    name == "constant"
        || property.is_some_and(is_secretive)
        || (name == "base_url" && value.as_str().is_none_or(is_personal))
}

fn worker_id(laid: &Table, places: &Places, surroundings: Surroundings<'_>) -> Effective {
    let worker = laid.get("worker");
    let text = |name: &str| worker.and_then(|worker| worker.get(name)?.as_str()).filter(|text| !text.is_empty());
    let (value, origin) = match (text("id"), text("id_env")) {
        (Some(id), _) => {
            let line = places.line("worker.id");
            (id.to_owned(), line.map_or(Origin::Default, |line| Origin::File { line }))
        }
        (None, Some(name)) => {
            let found = (surroundings.variable)(name).unwrap_or_default();
            (found.trim().to_owned(), Origin::Variable { name: name.to_owned() })
        }
        (None, None) => ((surroundings.host_name)(), Origin::HostName),
    };
    Effective { key: "worker.id".into(), holds: Holds::Value { value: Value::String(value).to_string() }, origin }
}
