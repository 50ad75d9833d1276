//! `schema`: the contract with other programs, as JSON Schemas.

use std::io::Write;

use clap::{Args, ValueEnum};
use serde_json::Value;

use super::{CommandError, Exit};
use crate::{config, event::schemas, status};

const EXAMPLES: &str = "\
Examples:
  contact-replicator schema change-event >change-event.json
  contact-replicator schema config >config.json

The same files are in config/schemas. Editors that know TOML find the one of the settings by a first line
  #:schema schemas/config.json";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Of what.
    #[arg(value_enum)]
    of: Subject,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Subject {
    /// What services publish: a CloudEvent in structured mode.
    ChangeEvent,
    /// What becomes of it: the data of an event on contact-outcomes.
    Outcome,
    /// Who our contacts are: a value of contact-records.
    ContactRecords,
    /// What changed: a value of contact-versions.
    ContactVersions,
    /// How a worker stands: what GET /status answers at its address of health and metrics.
    Status,
    /// A file of settings, for editors.
    Config,
}

impl Subject {
    fn schema(self) -> Value {
        match self {
            Self::ChangeEvent => schemas::change_event(),
            Self::Outcome => schemas::outcome(),
            Self::ContactRecords => schemas::contact_record(),
            Self::ContactVersions => schemas::contact_version(),
            Self::Status => status::schema(),
            Self::Config => config::json_schema(),
        }
    }
}

pub(super) fn run(arguments: &Arguments, output: &mut impl Write) -> Result<Exit, CommandError> {
    let text = text(arguments.of);
    output.write_all(text.as_bytes()).map_err(CommandError::io("writing to standard output"))?;
    Ok(Exit::Done)
}

fn text(of: Subject) -> String {
    let text = serde_json::to_string_pretty(&of.schema()).expect("what was made as JSON is JSON");
    format!("{text}\n")
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn the_published_schemas_are_what_the_code_says() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/schemas");
        let mut named = Vec::new();
        for subject in Subject::value_variants() {
            let name = subject.to_possible_value().expect("none is hidden").get_name().to_owned();
            let file = format!("{name}.json");
            let published = fs::read_to_string(folder.join(&file)).unwrap_or_default();
            assert!(
                published == text(*subject),
                "config/schemas/{file} is not what `contact-replicator schema {name}` prints: print it there"
            );
            named.push(file);
        }
        for entry in fs::read_dir(folder).unwrap() {
            let name = entry.unwrap().file_name().to_string_lossy().into_owned();
            assert!(named.contains(&name), "config/schemas/{name} is printed by no command");
        }
    }
}
