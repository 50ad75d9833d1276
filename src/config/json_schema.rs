//! The settings as a JSON Schema, for editors: they complete keys, show what one means, and mark what is none.
//!
//! Keys, types and choices are what the structs ask serde for ([`shape`](super::shape)); what a key means, and its default,
//! is what `config/reference.toml` says. Neither is written down a second time. What keys must hold of each other, and most
//! bounds, stay with [`rules`](super::rules): `check` tells them.
//!
//! Draft 7, which is what tools for TOML read.

use serde_json::{Map, Value, json};

use super::{
    REFERENCE, RuleTable, Settings,
    load::{DEFAULTS, LISTS},
    shape::{Shape, Step, shape},
};

/// A duration as humantime reads it, such as `1h 30m`.
const DURATION: &str = "^(?:0|\\s*(?:[0-9][0-9\\s]*(?:\\.[0-9\\s]+)?(?:nanos|nsec|ns|usec|us|µs|millis|msec|ms|seconds?|secs?|s\
|minutes?|mins?|m|hours?|hrs?|h|days?|d|weeks?|wks?|w|months?|M|years?|yrs?|y)\\s*)+)$";

/// The schema of a file of settings.
pub fn json_schema() -> Value {
    let mut schema = Walk::default().at(&[], &shape::<Settings>);
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("Settings of contact-replicator");
    schema["required"] = json!(["crm"]);
    schema
}

#[derive(Default)]
struct Walk {
    /// Names on the way to the place, entries of lists and of tables with free names left out.
    keys: Vec<&'static str>,
    /// The types of the tables on the way, each with a pointer to its schema: one may hold its like.
    types: Vec<(&'static str, String)>,
}

impl Walk {
    /// The schema of a place, `of` which the shape is asked.
    fn at(&mut self, path: &[Step<'_>], of: &dyn Fn(&[Step<'_>]) -> Shape) -> Value {
        let entry = [path, &[Step::Entry]].concat();
        match of(path) {
            Shape::Boolean => json!({"type": "boolean"}),
            Shape::Number => json!({"type": "number"}),
            Shape::Integer { minimum, maximum } => json!({"type": "integer", "minimum": minimum, "maximum": maximum}),
            Shape::Text(expected) if expected == "a duration" => json!({"type": "string", "pattern": DURATION}),
            Shape::Text(_) => json!({"type": "string"}),
            Shape::Choice(choices) => json!({"enum": choices}),
            Shape::List => {
                let mut schema = json!({"type": "array", "items": self.at(&entry, of)});
                if self.keys == ["crm"] {
                    schema["minItems"] = json!(1);
                }
                schema
            }
            Shape::Map if self.keys == ["crm", "fields"] => json!({"type": "object", "additionalProperties": rule()}),
            Shape::Map => json!({"type": "object", "additionalProperties": self.at(&entry, of)}),
            // A value of the contact or of a CRM.
            Shape::Anything => json!({"type": ["string", "number", "boolean"]}),
            Shape::Table(name, members) => match self.types.iter().find(|(known, _)| *known == name) {
                Some((_, pointer)) => json!({"$ref": pointer}),
                None => self.table(path, of, name, members),
            },
        }
    }

    fn table(
        &mut self,
        path: &[Step<'_>],
        of: &dyn Fn(&[Step<'_>]) -> Shape,
        name: &'static str,
        members: &'static [&'static str],
    ) -> Value {
        self.types.push((name, pointer(path)));
        let mut properties = Map::new();
        for member in members {
            self.keys.push(member);
            let mut schema = self.at(&[path, &[Step::Member(member)]].concat(), of);
            self.annotate(&mut schema);
            self.keys.pop();
            properties.insert((*member).to_owned(), schema);
        }
        self.types.pop();
        let mut schema = json!({"type": "object", "additionalProperties": false, "properties": properties});
        if let Some(list) = LISTS.iter().find(|list| list.path == self.keys) {
            schema["required"] = json!(list.required);
        }
        if self.keys == ["crm"] {
            schema["allOf"] = only_tables_of_its_kind(&schema["properties"]);
        }
        schema
    }

    /// Adds what the reference says of the key.
    fn annotate(&self, schema: &mut Value) {
        let Some((key, above)) = self.keys.split_last() else { return };
        if schema.get("$ref").is_some() {
            return;
        }
        let told = told(&above.join("."), key);
        if let Some(meaning) = told.meaning {
            schema["description"] = json!(meaning);
        }
        let is_required = LISTS.iter().any(|list| list.path == above && list.required.contains(key));
        match default_of(&self.keys) {
            Some(example) if is_required => schema["examples"] = json!([example]),
            Some(default) => schema["default"] = default,
            None => {}
        }
        if let Some(example) = told.absent {
            schema["examples"] = json!([example]);
        }
    }
}

/// Where the schema of a path stands.
fn pointer(path: &[Step<'_>]) -> String {
    path.iter().fold("#".to_owned(), |pointer, step| match step {
        Step::Member(name) => format!("{pointer}/properties/{name}"),
        // No table with free names holds its like.
        Step::Entry => format!("{pointer}/items"),
    })
}

/// A rule of `[crm.fields]`, which looks for itself whether it is a pointer or a table.
fn rule() -> Value {
    let table = Walk::default().at(&[], &shape::<RuleTable>);
    json!({"anyOf": [{"type": "string", "pattern": "^/"}, table]})
}

/// The table of another kind of CRM does not belong there.
fn only_tables_of_its_kind(properties: &Value) -> Value {
    let kinds = properties["kind"]["enum"].as_array().cloned().unwrap_or_default();
    let names: Vec<&str> = kinds.iter().filter_map(Value::as_str).collect();
    let rule = |kind: &&str| {
        let others = names.iter().filter(|other| *other != kind).map(|other| ((*other).to_owned(), json!(false)));
        json!({
            "if": {"required": ["kind"], "properties": {"kind": {"const": kind}}},
            "then": {"properties": others.collect::<Map<String, Value>>()},
        })
    };
    names.iter().map(rule).collect()
}

/// The default of a key; `None` where it has none, or differs among the entries of a list.
fn default_of(keys: &[&str]) -> Option<Value> {
    fn found<'a>(at: &'a toml::Value, keys: &[&str], into: &mut Vec<&'a toml::Value>) {
        match (at, keys) {
            (toml::Value::Array(entries), _) if entries.first().is_some_and(toml::Value::is_table) => {
                entries.iter().for_each(|entry| found(entry, keys, into));
            }
            (toml::Value::Table(_), []) => {}
            (_, []) => into.push(at),
            (_, [key, rest @ ..]) => {
                if let Some(inner) = at.get(key) {
                    found(inner, rest, into);
                }
            }
        }
    }
    let (key, rest) = keys.split_first()?;
    let mut values = Vec::new();
    found(DEFAULTS.get(*key)?, rest, &mut values);
    let (first, others) = values.split_first()?;
    let is_common = others.iter().all(|other| other == first);
    is_common.then(|| serde_json::to_value(first).expect("TOML without dates is JSON"))
}

/// What the reference says of a key besides its value.
#[derive(Default)]
struct Told {
    meaning: Option<String>,
    /// The value that is shown of a key that is absent by default.
    absent: Option<Value>,
}

/// Looks up a key of the table `header`, or a table of that name below it.
fn told(header: &str, key: &str) -> Told {
    let below = if header.is_empty() { key.to_owned() } else { format!("{header}.{key}") };
    let (set, shown) = (format!("{key} = "), format!("# {key} = "));
    let lines: Vec<&str> = REFERENCE.lines().collect();
    let mut section = String::new();
    let mut told = Told::default();
    for (number, line) in lines.iter().enumerate() {
        let mut is_it = false;
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_matches(['[', ']']).to_owned();
            is_it = section == below;
        } else if section == header {
            is_it = line.starts_with(&set) || line.starts_with(&shown);
            if let Some(value) = line.strip_prefix(&shown).filter(|_| told.absent.is_none()) {
                let value: Option<toml::Table> = format!("x = {value}").parse().ok();
                told.absent = value.and_then(|mut table| serde_json::to_value(table.remove("x")?).ok());
            }
        }
        if is_it && told.meaning.is_none() {
            told.meaning = comment_above(&lines, number);
        }
    }
    told
}

/// The comment over a line; over several keys in a row it is that of all.
fn comment_above(lines: &[&str], number: usize) -> Option<String> {
    let is_key = |line: &str| {
        let name = line.trim_start_matches("# ").split(" = ").next().unwrap_or_default();
        line.contains(" = ")
            && !name.is_empty()
            && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
    };
    let above = lines.get(..number)?.iter().rev().skip_while(|line| is_key(line));
    let comment: Vec<&str> = above
        .take_while(|line| line.starts_with('#') && !is_key(line))
        .map(|line| line.trim_start_matches('#'))
        .collect();
    let text = comment.iter().rev().fold(String::new(), |text, line| match line.strip_prefix("   ") {
        // An example on a line of its own.
        Some(example) => format!("{text}\n{example}"),
        None => format!("{text} {}", line.trim()),
    });
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests;
