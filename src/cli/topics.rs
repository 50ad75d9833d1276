//! `topics`: which topics the settings need, what is there, how the two differ, and who must be allowed what.
//!
//! It asks the log itself, beside any worker. Only `--create` changes something, and it does what a worker's start does:
//! it makes what is missing, births included, and alters nothing that exists.

mod survey;
mod words;

use std::io::{self, Write};

use clap::Args;
use serde::Serialize;

pub(super) use self::survey::{Surveyed, survey};
use super::{CommandError, Configured, Exit, UsageError};
use crate::{
    config::{LogKind, Settings, Surroundings},
    log::local::{self, Presence},
    worker,
};

const EXAMPLES: &str = "\
Examples:
  contact-replicator topics --config config/kafka.toml
  contact-replicator topics --config config/kafka.toml --check
  contact-replicator topics --config config/kafka.toml --create
  contact-replicator topics --config config/kafka.toml --acls User:contact-replicator

A topic that exists is never altered: --check tells the arguments of Kafka's own tools that do it. With --check it ends with
1 if a topic is missing or not as needed.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    configured: Configured,
    /// Compare what is there with what is needed, and tell every difference with its remedy.
    #[arg(long, group = "what")]
    check: bool,
    /// Create what is missing, as the first worker would.
    #[arg(long, group = "what")]
    create: bool,
    /// Print what Kafka's own tool must be told so that a worker with this name may do its work.
    #[arg(long, value_name = "PRINCIPAL", group = "what")]
    acls: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: &Arguments, surroundings: Surroundings<'_>) -> Result<Exit, CommandError> {
    let settings = super::started(&arguments.configured, surroundings)?;
    let answered = answer(arguments, &settings, &mut io::stdout().lock()).await;
    answered.map_err(|error| error.of_brokers(&settings))
}

/// What is told of the topics, as JSON.
#[derive(Serialize)]
struct Told<'a> {
    topics: &'a [Surveyed],
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a str>,
}

async fn answer(arguments: &Arguments, settings: &Settings, output: &mut impl Write) -> Result<Exit, CommandError> {
    if let Some(principal) = &arguments.acls {
        return tell_permissions(principal, settings, arguments.json, output);
    }
    if arguments.create {
        return create(settings, arguments.json, output).await;
    }
    let (surveyed, note) = match unopened(settings) {
        Some(note) => (survey::unasked(settings), Some(note)),
        None => match super::open_log(settings).await {
            Ok(log) => (survey(settings, &*log).await?, None),
            Err(error) => return Err(error.into()),
        },
    };
    let exit = match arguments.check && note.is_none() && surveyed.iter().any(Surveyed::is_fault) {
        true => Exit::CheckFailed,
        false => Exit::Done,
    };
    let text = if arguments.json {
        json(&Told { topics: &surveyed, note: note.as_deref() })
    } else if arguments.check {
        words::findings(&surveyed, note.as_deref())
    } else {
        words::table(&surveyed, note.as_deref())
    };
    tell(output, &text)?;
    Ok(exit)
}

/// Why a log on disk is not opened to be looked at.
fn unopened(settings: &Settings) -> Option<String> {
    if settings.log.kind != LogKind::Local {
        return None;
    }
    let folder = settings.log_folder();
    match local::presence(&folder) {
        Presence::Missing => {
            Some(format!("there is no log in {} yet: the first worker makes it, topics included", folder.display()))
        }
        Presence::InUse => Some(format!(
            "the log in {} is open in a running process, which made its topics as its settings say",
            folder.display()
        )),
        Presence::Free => None,
    }
}

/// What was made, as JSON.
#[derive(Serialize)]
struct Made<'a> {
    topics: &'a [std::sync::Arc<str>],
    /// Partitions that got their birth record.
    births: Vec<String>,
}

async fn create(settings: &Settings, as_json: bool, output: &mut impl Write) -> Result<Exit, CommandError> {
    let log = super::open_log(settings).await?;
    let created = worker::create_topics(&*log, settings, &|_unknown| false).await?;
    let text = match as_json {
        true => {
            json(&Made { topics: &created.topics, births: created.births.iter().map(ToString::to_string).collect() })
        }
        false => words::created(&created),
    };
    tell(output, &text)?;
    Ok(Exit::Done)
}

fn tell_permissions(
    principal: &str,
    settings: &Settings,
    as_json: bool,
    output: &mut impl Write,
) -> Result<Exit, CommandError> {
    if settings.log.kind == LogKind::Local {
        let reason = "log.kind is \"local\": nobody but the worker itself reads or writes that log, so there is nothing to permit";
        return Err(UsageError(reason.to_owned()).into());
    }
    let is_typed = principal.split_once(':').is_some_and(|(kind, name)| !kind.is_empty() && !name.is_empty());
    if !is_typed {
        let reason = "a principal is a type and a name, as the cluster knows it, for example User:contact-replicator";
        return Err(UsageError(reason.to_owned()).into());
    }
    let commands = words::permission_commands(principal, settings);
    let text = if as_json { json(&commands) } else { commands.join("\n") + "\n" };
    tell(output, &text)?;
    Ok(Exit::Done)
}

fn json(told: &impl Serialize) -> String {
    serde_json::to_string_pretty(told).expect("names and numbers are JSON") + "\n"
}

fn tell(output: &mut impl Write, text: &str) -> Result<(), CommandError> {
    output.write_all(text.as_bytes()).map_err(CommandError::io("writing to standard output"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(check: bool, create: bool, acls: Option<&str>) -> Arguments {
        let configured = Configured { config: "unread.toml".into() };
        Arguments { configured, check, create, acls: acls.map(str::to_owned), json: true }
    }

    fn local_settings(folder: &std::path::Path) -> Settings {
        let mut settings = Settings::reference();
        settings.log.kind = LogKind::Local;
        settings.worker.data = folder.to_owned();
        settings.topics.partitions = 2;
        settings
    }

    async fn told(arguments: &Arguments, settings: &Settings) -> (Exit, serde_json::Value) {
        let mut output = Vec::new();
        let exit = answer(arguments, settings, &mut output).await.unwrap();
        (exit, serde_json::from_slice(&output).unwrap())
    }

    #[tokio::test]
    async fn what_is_missing_of_a_log_on_disk_is_made_once_and_found_as_needed() {
        let folder = tempfile::tempdir().unwrap();
        let settings = local_settings(folder.path());
        let (exit, before) = told(&arguments(true, false, None), &settings).await;
        assert_eq!(exit, Exit::Done, "the first worker makes it");
        assert!(before["note"].as_str().unwrap().contains("first worker"), "{before}");

        let (exit, made) = told(&arguments(false, true, None), &settings).await;
        let planned = worker::planned_topics(&settings);
        assert_eq!((exit, made["topics"].as_array().unwrap().len()), (Exit::Done, planned.len()));
        let compacted = (2 + settings.crm.len()) * 2 + 1;
        assert_eq!(made["births"].as_array().unwrap().len(), compacted);
        let (_, again) = told(&arguments(false, true, None), &settings).await;
        assert_eq!(again, serde_json::json!({ "topics": [], "births": [] }));

        let (exit, after) = told(&arguments(true, false, None), &settings).await;
        assert_eq!(exit, Exit::Done, "{after}");
        let topics = after["topics"].as_array().unwrap();
        assert!(topics.iter().all(|topic| topic["differences"] == serde_json::json!([])), "{after}");
    }

    #[tokio::test]
    async fn a_log_on_disk_with_other_partitions_fails_the_check() {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = local_settings(folder.path());
        told(&arguments(false, true, None), &settings).await;
        settings.topics.partitions = 3;
        settings.topics.versions_retention *= 2;
        let (exit, found) = told(&arguments(true, false, None), &settings).await;
        assert_eq!(exit, Exit::CheckFailed);
        let versions = found["topics"].as_array().unwrap().iter().find(|topic| topic["topic"] == "contact-versions");
        let differences = versions.unwrap()["differences"].as_array().unwrap();
        let told: Vec<_> = differences.iter().map(|told| (told["key"].as_str().unwrap(), &told["matters"])).collect();
        let (yes, no) = (serde_json::json!(true), serde_json::json!(false));
        assert_eq!(told, [("partitions", &yes), ("retention.ms", &no)]);
    }

    #[tokio::test]
    async fn permissions_are_told_as_commands_for_a_principal_of_a_cluster() {
        let mut settings = Settings::reference();
        settings.log.kind = LogKind::Kafka;
        settings.log.kafka.bootstrap_servers = "broker:9092".to_owned();
        let (exit, commands) = told(&arguments(false, false, Some("User:CN=it's,OU=x")), &settings).await;
        assert_eq!(exit, Exit::Done);
        let commands: Vec<String> = serde_json::from_value(commands).unwrap();
        assert_eq!(commands.len(), worker::permissions(&settings).len());
        let expected = "kafka-acls --bootstrap-server broker:9092 --add --allow-principal 'User:CN=it'\\''s,OU=x' \
                        --operation Read --topic contact-changes";
        assert!(commands.iter().any(|command| command == expected), "{commands:#?}");

        for (kind, principal) in [(LogKind::Kafka, "alice"), (LogKind::Kafka, "User:"), (LogKind::Local, "User:alice")]
        {
            settings.log.kind = kind;
            let refused = answer(&arguments(false, false, Some(principal)), &settings, &mut Vec::new()).await;
            assert_eq!(refused.unwrap_err().exit(), Exit::Usage, "{principal}");
        }
    }
}
