//! The commands: arguments in, exit code out.
//!
//! A command's own output goes to standard output, everything else to standard error. Each ends in an [`Exit`], whose
//! numbers are part of the contract with scripts and process managers and stand in the long help.

mod asking;
mod check;
mod check_event;
mod client;
pub mod demo;
mod explain;
mod inspect;
mod letters;
mod links;
mod operator;
mod packaging;
mod pause;
mod publish;
mod reach;
mod reference;
mod resync;
mod run;
mod sandbox;
mod schema;
mod status;
mod stuck;
mod topics;
mod verify;
mod worker_address;

use std::{
    error::Error,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use tokio::task::spawn_blocking;

use crate::{
    clock::Clock,
    config::{ConfigError, LogKind, Settings, Surroundings},
    crm::{SetupError, remote::ReadError, transport::HttpSetupError},
    log::{
        Log, LogError,
        kafka::KafkaLog,
        local::{self, DiskSettings, LocalLog},
    },
    metrics::MetricsError,
    telemetry,
    worker::WorkerError,
};

const EXAMPLES: &str = "\
Examples:
  contact-replicator demo
  contact-replicator check --config config/kafka.toml
  contact-replicator run --config config/embedded.toml
  contact-replicator run --config config/kafka.toml
  contact-replicator check-event config/samples/person.json
  contact-replicator publish --config config/kafka.toml changes.ndjson
  contact-replicator explain shop/4711
  contact-replicator status --admin http://127.0.0.1:9464
  contact-replicator topics --config config/kafka.toml --check
  contact-replicator resync --crm venues shop/4711
  contact-replicator pause --crm previsto --reason \"their migration\"
  contact-replicator retry --crm venues --all-parked
  contact-replicator dead-letters list --since 24h
  contact-replicator links import --crm previsto links.csv
  contact-replicator inspect --config config/embedded.toml --crm previsto con_90a1
  contact-replicator verify --crm previsto --sample 500

Exit codes:
  0  done
  1  a check failed: something is missing or wrong outside, events are at fault, lines were not published or
     imported, nobody was found to be explained, driven anew, retried or shown, a worker does not answer or is not
     ready, a CRM holds something else than it should, or a promise did not hold
  2  the command line or the settings are wrong
  3  it could not go on: the log, the disk or an address failed for good
  4  stopped with work left undone at the shutdown deadline; the next worker does it";

/// Keeps CRMs equal to the contacts that services announce on Kafka.
///
/// Services say on Kafka that a contact changed. Workers read the changes, work out which person each is about, keep one
/// record per person, drive every configured CRM to that record, and say what became of each change. Start as many workers
/// as you like: they share the work and take over from each other.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES, subcommand_required = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show the whole program at work on this machine, with nothing installed.
    ///
    /// Sends changes through a worker, with a log in memory, to a simulated CRM that fails now and then, and checks what
    /// was promised. If a promise did not hold, it ends with 1.
    Demo(demo::Arguments),
    /// Run a worker until it is asked to stop.
    Run(run::Arguments),
    /// Tell what holds and where it comes from; then check it, and what it points to.
    ///
    /// Tells each setting with its origin, all that is wrong or unwise, each topic and each CRM, and changes nothing. Of a CRM
    /// it tries the name, the port and the certificate only: some have no call that would be harmless.
    Check(check::Arguments),
    /// Publish contact changes from a file to the input topic.
    ///
    /// Lines that are no events are named by their number and left out; then it ends with 1.
    Publish(publish::Arguments),
    /// Tell where a contact is, who it is, and why.
    ///
    /// Asks a running worker of this machine: which contact it is, which source records make it up and by which rule, and per
    /// CRM its last outcome, what is parked until when, what waits, and whether the CRM is paused. Never a value of the contact.
    Explain(explain::Arguments),
    /// Show how workers stand: which parts do their work, who decides, and for each CRM what waits and why.
    ///
    /// Asks running workers of this machine; several are added up, and what none of them owns is named. On a terminal it is
    /// kept up to date. If one does not answer, or is not ready, it ends with 1.
    Status(status::Arguments),
    /// Tell the topics that the settings need, and what is found of them.
    ///
    /// Compares both (--check), creates what is missing (--create), or tells what a worker must be permitted (--acls).
    Topics(topics::Arguments),
    /// Drive contacts of a CRM anew, as if nothing were known of what it holds.
    ///
    /// For a CRM that was restored, written to by others, or added to the settings later. Asks a running worker of this
    /// machine; of all contacts, shows how far it is, and goes on without the command.
    Resync(resync::Arguments),
    /// Leave a CRM alone: send it nothing until it is resumed.
    ///
    /// Asks a running worker; all workers follow. Changes wait meanwhile, and other CRMs are not concerned.
    Pause(pause::PauseArguments),
    /// Go on with a CRM that an operator paused.
    Resume(pause::ResumeArguments),
    /// Try contacts of a CRM now that are parked or were rejected, once what was wrong is mended.
    ///
    /// Asks a running worker of this machine: for contacts by name, or for all that are stuck in one way.
    Retry(stuck::RetryArguments),
    /// Give up what waits of a contact for a CRM; its next version is tried as ever.
    ///
    /// Asks a running worker of this machine. The event is answered `filtered`, `skipped`.
    Skip(stuck::SkipArguments),
    /// List dead letters, show one, or send them in again.
    ///
    /// Asks a running worker of this machine. What is listed names no contact; a body is shown only where it is asked for.
    DeadLetters(letters::Arguments),
    /// Say which contacts of a CRM are which of ours, or list them: for a CRM that is not empty.
    ///
    /// Asks a running worker of this machine. What is imported while the CRM is in shadow is updated from the first delivery on,
    /// and not created again; of a contact of which a search found several, it is set which one it is.
    Links(links::Arguments),
    /// Show what a CRM holds of a contact, or list its contacts.
    ///
    /// Asks the CRM itself with the credential of the settings, without a worker, and changes nothing.
    Inspect(inspect::Arguments),
    /// Compare what a CRM holds with the records, and have mended what differs.
    ///
    /// Has a running worker of this machine read contacts back, and prints ids and names of fields, never a value.
    Verify(verify::Arguments),
    /// Simulate CRMs, one of each kind or one alone, on a port of this machine.
    Sandbox(sandbox::Arguments),
    /// Check events before they are sent: whether each can be read, and what is wrong with it.
    ///
    /// For the tests of services that emit them. Needs no settings, no worker and no network.
    CheckEvent(check_event::Arguments),
    /// Print the JSON Schema of events, records or settings.
    Schema(schema::Arguments),
    /// Print a reference of the settings, the metrics or the outcomes, as Markdown.
    Reference(reference::Arguments),
    /// Print the completions of a shell.
    Completions(packaging::CompletionsArguments),
    /// Print the manual page of the program, or of one command.
    Man(packaging::ManArguments),
}

#[derive(Debug, Args)]
struct Configured {
    /// File of settings; config/reference.toml shows every key.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    Done,
    CheckFailed,
    /// Also what clap ends with.
    Usage,
    Failed,
    Undone,
}

impl Exit {
    const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::CheckFailed => 1,
            Self::Usage => 2,
            Self::Failed => 3,
            Self::Undone => 4,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command could not do what it was asked.
#[derive(Debug, thiserror::Error)]
enum CommandError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Usage(#[from] UsageError),
    #[error("the log failed")]
    Log(#[from] LogError),
    #[error(
        "log.kafka.bootstrap_servers = \"{servers}\": nobody answered in time; start a broker there, or correct the address"
    )]
    NoBroker {
        servers: String,
        #[source]
        source: LogError,
    },
    #[error("{doing} failed")]
    Io {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    #[error(
        "{key} = \"{address}\" cannot be listened on; end what listens there (`ss -ltnp` tells), or choose another address"
    )]
    Listen {
        key: &'static str,
        address: std::net::SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("log lines cannot be written")]
    Telemetry(#[from] telemetry::TelemetryError),
    #[error("spans cannot be exported")]
    Traces(#[from] telemetry::traces::TracesError),
    #[error("the CRM {crm} cannot be spoken to")]
    Transport {
        crm: Arc<str>,
        #[source]
        source: HttpSetupError,
    },
    #[error("the CRM {crm} is not usable")]
    Crm {
        crm: Arc<str>,
        #[source]
        source: SetupError,
    },
    #[error("{crm} could not be read")]
    Unread {
        crm: Arc<str>,
        #[source]
        source: Box<ReadError>,
    },
    #[error("metrics cannot be counted")]
    Metrics(#[from] MetricsError),
    #[error("the worker ended")]
    Worker(#[from] WorkerError),
    #[error("the server could not be spoken to")]
    Http(#[from] client::ClientError),
    #[error("the server does not take the events: {0}")]
    Refused(String),
    #[error("the worker did not explain: {0}")]
    Unexplained(String),
    #[error("the worker did not compare: {0}")]
    NotVerified(String),
    #[error("the worker did not do it: {0}")]
    NotDone(String),
    #[error("the demo could not be shown")]
    Demo(#[from] demo::DemoError),
}

/// What only the person at the keyboard can mend.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

impl CommandError {
    fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    /// The same, with the place to look at where the brokers of these settings do not answer.
    fn of_brokers(self, settings: &Settings) -> Self {
        match self {
            Self::Log(source @ LogError::Unavailable { .. }) if settings.log.kind == LogKind::Kafka => {
                Self::NoBroker { servers: settings.log.kafka.bootstrap_servers.clone(), source }
            }
            other => other,
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::Usage(_) | Self::Http(client::ClientError::Address { .. }) => Exit::Usage,
            Self::Log(_)
            | Self::NoBroker { .. }
            | Self::Io { .. }
            | Self::Listen { .. }
            | Self::Telemetry(_)
            | Self::Traces(_)
            | Self::Transport { .. }
            | Self::Metrics(_)
            | Self::Worker(_)
            | Self::Http(_)
            | Self::Refused(_)
            | Self::Unexplained(_)
            | Self::NotVerified(_)
            | Self::NotDone(_)
            | Self::Crm { .. }
            | Self::Unread { .. }
            | Self::Demo(_) => Exit::Failed,
        }
    }
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    telemetry::hide_panic_messages();
    let matches = command().long_version(packaging::version()).get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let surroundings = Surroundings::process();
    let exit = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(CommandError::io("starting the runtime"))
        .and_then(|runtime| runtime.block_on(execute(arguments.command, surroundings)));
    match exit {
        Ok(exit) => exit.into(),
        Err(error) => {
            complain(&error);
            error.exit().into()
        }
    }
}

/// The command line.
fn command() -> clap::Command {
    Arguments::command()
}

async fn execute(command: Command, surroundings: Surroundings<'static>) -> Result<Exit, CommandError> {
    match command {
        Command::Demo(arguments) => demo::run(&arguments, surroundings, &mut io::stdout().lock()).await,
        Command::Check(arguments) => check::run(&arguments, surroundings, &mut io::stdout().lock()).await,
        Command::Run(arguments) => run::run(&arguments, surroundings).await,
        Command::Publish(arguments) => publish::run(&arguments, surroundings).await,
        Command::Explain(arguments) => explain::run(arguments, surroundings).await,
        Command::Status(arguments) => status::run(arguments, surroundings).await,
        Command::Topics(arguments) => topics::run(&arguments, surroundings).await,
        Command::Resync(arguments) => resync::run(arguments, surroundings).await,
        Command::Retry(arguments) => stuck::retry(arguments, surroundings).await,
        Command::Skip(arguments) => stuck::skip(arguments, surroundings).await,
        Command::DeadLetters(arguments) => letters::run(arguments, surroundings).await,
        Command::Pause(arguments) => pause::pause(arguments, surroundings).await,
        Command::Resume(arguments) => pause::resume(arguments, surroundings).await,
        Command::Links(arguments) => links::run(arguments, surroundings).await,
        Command::Inspect(arguments) => inspect::run(arguments, surroundings).await,
        Command::Verify(arguments) => verify::run(arguments, surroundings).await,
        Command::Sandbox(arguments) => sandbox::run(arguments, surroundings).await,
        Command::CheckEvent(arguments) => check_event::run(&arguments, &mut io::stdout().lock()),
        Command::Schema(arguments) => schema::run(&arguments, &mut io::stdout().lock()),
        Command::Reference(arguments) => reference::run(&arguments, &mut io::stdout().lock()),
        Command::Completions(arguments) => {
            packaging::completions(&arguments, self::command(), &mut io::stdout().lock())
        }
        Command::Man(arguments) => packaging::man(&arguments, self::command(), &mut io::stdout().lock()),
    }
}

/// The log that the settings name. One on disk is opened, and locked, on a thread that may block.
async fn open_log(settings: &Settings) -> Result<Arc<dyn Log>, LogError> {
    match settings.log.kind {
        LogKind::Kafka => Ok(Arc::new(KafkaLog::new(settings.log.kafka.clone())?)),
        LogKind::Local => {
            let local = &settings.log.local;
            let deadlines =
                local::Settings { drain_deadline: settings.log.kafka.drain_deadline, ..local::Settings::default() };
            let disk = DiskSettings {
                folder: settings.log_folder(),
                bytes_max: local.bytes_max,
                compact_interval: local.compact_interval,
                compact_bytes_per_second: local.compact_bytes_per_second,
                cache_bytes: local.cache_bytes,
            };
            let opened = spawn_blocking(move || LocalLog::open(deadlines, disk, Clock::System)).await;
            match opened {
                Ok(log) => Ok(Arc::new(log?)),
                Err(panic) => std::panic::resume_unwind(panic.into_panic()),
            }
        }
    }
}

/// Reads the settings and sends log lines where they say.
fn started(configured: &Configured, surroundings: Surroundings<'_>) -> Result<Settings, CommandError> {
    let settings = Settings::load(&configured.config, surroundings)?;
    telemetry::start(settings.telemetry.format, &settings.telemetry.level, telemetry::coloured(surroundings))?;
    Ok(settings)
}

/// Tells the error and what it came from on standard error.
fn complain(error: &dyn Error) {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    // There is nobody left to tell if standard error is closed.
    let _closed = writeln!(io::stderr().lock(), "contact-replicator: {text}").is_err();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    /// Every way to end, in the order of its code.
    fn exits() -> Vec<Exit> {
        let after = |exit: &Exit| match exit {
            Exit::Done => Some(Exit::CheckFailed),
            Exit::CheckFailed => Some(Exit::Usage),
            Exit::Usage => Some(Exit::Failed),
            Exit::Failed => Some(Exit::Undone),
            Exit::Undone => None,
        };
        std::iter::successors(Some(Exit::Done), after).collect()
    }

    #[test]
    fn the_help_and_the_readme_tell_every_exit_code_alike() {
        let (_, told) = EXAMPLES.split_once("Exit codes:\n").expect("the help tells exit codes");
        let mut help: Vec<(String, String)> = Vec::new();
        for line in told.lines() {
            match (line.trim_start().split_once("  "), help.last_mut()) {
                (Some((code, text)), _) if !line.starts_with("   ") => help.push((code.to_owned(), text.to_owned())),
                (_, Some((_, text))) => text.push_str(&format!(" {}", line.trim())),
                (_, None) => panic!("{line:?} is of no code"),
            }
        }
        let readme = include_str!("../../README.md");
        let table = readme.split("\n## Exit codes\n").nth(1).expect("README tells exit codes");
        let table = table.split("\n## ").next().expect("a split has a first part");
        let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "));
        let rows: Vec<_> = rows.map(|(code, text)| (code.to_owned(), text.to_owned())).collect();
        assert_eq!(help, rows, "left: the long help; right: README.md");
        let codes: Vec<String> = exits().iter().map(|exit| exit.code().to_string()).collect();
        assert_eq!(rows.iter().map(|(code, _)| code.clone()).collect::<Vec<_>>(), codes);
    }

    #[test]
    fn an_error_of_the_settings_ends_otherwise_than_one_of_the_log() {
        let log = CommandError::Log(LogError::Unusable { reason: "no TLS".into() });
        assert_eq!(log.exit(), Exit::Failed);
        let config = CommandError::Config(ConfigError { file: "a.toml".into(), faults: Vec::new() });
        assert_eq!(config.exit(), Exit::Usage);
    }
}
