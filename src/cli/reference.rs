//! `reference`: settings, metrics and outcomes as pages, made of the program itself.
//!
//! A page repeats nothing by hand: settings are told by their schema, which is made of the structs and of
//! `config/reference.toml`; metrics by what a worker exposes; outcomes and codes by the types that are written. The pages
//! stand where readers look for them, and a test compares them with what is printed here.

use std::{fmt::Write as _, io::Write};

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{CommandError, Exit};
use crate::{
    config,
    event::{OutcomeKind, ReasonCode, schemas},
    metrics,
};

const EXAMPLES: &str = "\
Examples:
  contact-replicator reference configuration
  contact-replicator reference metrics

The same pages are config/REFERENCE.md, deploy/METRICS.md and config/OUTCOMES.md.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Of what.
    #[arg(value_enum)]
    of: Subject,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// Every setting, with its default and its meaning.
    Configuration,
    /// Every metric, with its labels, its type and its meaning.
    Metrics,
    /// Every outcome and code, those of dead letters apart.
    Outcomes,
}

pub(super) fn run(arguments: &Arguments, output: &mut impl Write) -> Result<Exit, CommandError> {
    let text = page(arguments.of)?;
    output.write_all(text.as_bytes()).map_err(CommandError::io("writing to standard output"))?;
    Ok(Exit::Done)
}

fn page(of: Subject) -> Result<String, CommandError> {
    let name = of.to_possible_value().expect("none is hidden").get_name().to_owned();
    let body = match of {
        Subject::Configuration => configuration(&config::json_schema()),
        Subject::Metrics => of_metrics()?,
        Subject::Outcomes => outcomes(&schemas::outcome()),
    };
    Ok(format!("<!-- Printed by `contact-replicator reference {name}`. -->\n\n{body}"))
}

/// A table for each table of the settings.
fn configuration(schema: &Value) -> String {
    let mut page = String::from(
        "# Settings\n\nEach key with its default and its meaning; a key without a default is absent unless it is set, or required. \
         The same with examples, as TOML: [reference.toml](reference.toml).\n",
    );
    section(&mut page, "", "", schema);
    page
}

/// The keys of a table, and then the tables in it.
fn section(page: &mut String, path: &str, meaning: &str, table: &Value) {
    let Some(properties) = table["properties"].as_object() else { return };
    let (mut rows, mut inner) = (String::new(), Vec::new());
    for (key, schema) in properties {
        let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let described = schema["description"].as_str().unwrap_or_default();
        if schema["properties"].is_object() {
            inner.push((below, described, schema));
        } else if schema["items"]["properties"].is_object() {
            inner.push((below, described, &schema["items"]));
        } else {
            let default = schema.get("default").map(|default| format!("`{default}`")).unwrap_or_default();
            add(&mut rows, &[&format!("`{key}`"), &kind(schema), &default, described]);
        }
    }
    if !rows.is_empty() {
        let title = if path.is_empty() { "At the top".to_owned() } else { format!("`{path}`") };
        put(page, format_args!("\n## {title}\n\n"));
        if !meaning.is_empty() {
            put(page, format_args!("{meaning}\n\n"));
        }
        put(page, format_args!("| key | takes | default | |\n|---|---|---|---|\n{rows}"));
    }
    for (below, described, table) in inner {
        section(page, &below, described, table);
    }
}

/// What a key takes, in a word or two.
fn kind(schema: &Value) -> String {
    if let Some(choices) = schema["enum"].as_array() {
        return choices.iter().map(|choice| format!("`{choice}`")).collect::<Vec<_>>().join(", ");
    }
    let is_duration = schema["pattern"].as_str().is_some_and(|pattern| pattern.contains("nanos"));
    match schema["type"].as_str() {
        Some("string") if is_duration => "duration".to_owned(),
        Some("string") => "text".to_owned(),
        Some("array") => format!("list of {}", kind(&schema["items"])),
        Some("object") => "table".to_owned(),
        Some(name) => name.to_owned(),
        None => "see there".to_owned(),
    }
}

fn of_metrics() -> Result<String, CommandError> {
    let mut page = format!(
        "# Metrics\n\nAll names begin with `{}_`. No label ever holds a value of a contact.\n\n| metric | labels | type | |\n\
         |---|---|---|---|\n",
        metrics::PREFIX
    );
    for (name, metric) in metrics::listing()? {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        add(&mut page, &[&format!("`{name}`"), &labels.join(", "), &metric.kind, &metric.help]);
    }
    Ok(page)
}

fn outcomes(schema: &Value) -> String {
    let mut page = String::from(
        "# Outcomes and codes\n\nEach pair of an event and a CRM gets one outcome on `contact-outcomes`; what ends before any CRM gets one \
         with `crm: \"*\"`. Where an outcome has codes, one of them says why. The form: [outcome.json](schemas/outcome.json).\n\n\
         | outcome | | codes |\n|---|---|---|\n",
    );
    for kind in OutcomeKind::ALL {
        let codes = match kind {
            OutcomeKind::Quarantined => "those of [dead letters](#dead-letters)".to_owned(),
            _ => kind.codes().iter().map(|code| format!("`{code}`")).collect::<Vec<_>>().join(", "),
        };
        add(&mut page, &[&format!("`{kind}`"), &meaning(schema, "OutcomeKind", kind.as_str()), &codes]);
    }
    let dead = OutcomeKind::Quarantined.codes();
    let of = |page: &mut String, holds: &dyn Fn(&ReasonCode) -> bool| {
        page.push_str("| code | |\n|---|---|\n");
        for code in ReasonCode::ALL.iter().filter(|code| holds(code)) {
            add(page, &[&format!("`{code}`"), &meaning(schema, "ReasonCode", code.as_str())]);
        }
    };
    page.push_str("\n## Codes\n\n");
    of(&mut page, &|code| {
        OutcomeKind::ALL.iter().any(|kind| *kind != OutcomeKind::Quarantined && kind.codes().contains(code))
    });
    page.push_str(
        "\n## Dead letters\n\nAn event that cannot be read or decided is on `contact-dead-letters`, byte for byte, with the code in the header \
         `dead_letter_code` and, where one place is at fault, its JSON pointer in `dead_letter_pointer`. `check-event` tells the same \
         before an event is sent, and how to mend it.\n\n",
    );
    of(&mut page, &|code| dead.contains(code));
    page
}

/// What the schema says of one of several names; empty if nothing.
fn meaning(schema: &Value, of: &str, name: &str) -> String {
    let all = schema["$defs"][of]["oneOf"].as_array().into_iter().flatten();
    let found = all.filter(|one| one["const"] == name).find_map(|one| one["description"].as_str());
    found.unwrap_or_default().to_owned()
}

/// A row of a table. What would end a cell is escaped, and lines are one.
fn add(page: &mut String, cells: &[&str]) {
    let cells: Vec<_> = cells.iter().map(|cell| cell.replace('|', "\\|").replace('\n', " ")).collect();
    put(page, format_args!("| {} |\n", cells.join(" | ").replace("  ", " ")));
}

fn put(page: &mut String, text: std::fmt::Arguments<'_>) {
    page.write_fmt(text).expect("a string takes all");
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn the_published_pages_are_what_the_code_says() {
        for (subject, file, name) in [
            (Subject::Configuration, "config/REFERENCE.md", "configuration"),
            (Subject::Metrics, "deploy/METRICS.md", "metrics"),
            (Subject::Outcomes, "config/OUTCOMES.md", "outcomes"),
        ] {
            let published = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap_or_default();
            let is_so = published == page(subject).unwrap();
            assert!(is_so, "{file} is not what `contact-replicator reference {name}` prints: print it there");
        }
    }

    #[test]
    fn nothing_is_told_without_a_meaning() {
        let schema = schemas::outcome();
        for kind in OutcomeKind::ALL {
            assert!(!meaning(&schema, "OutcomeKind", kind.as_str()).is_empty(), "{kind}");
        }
        for code in ReasonCode::ALL {
            assert!(!meaning(&schema, "ReasonCode", code.as_str()).is_empty(), "{code}");
        }
        let settings = page(Subject::Configuration).unwrap();
        for says in ["## `log.kafka`", "| `session_timeout` | duration | `\"10s\"` |", "## `crm.delivery`"] {
            assert!(settings.contains(says), "{says}");
        }
        let rows = settings.lines().filter(|line| line.starts_with("| `")).count();
        assert!(rows > 150, "{rows}");
    }
}
