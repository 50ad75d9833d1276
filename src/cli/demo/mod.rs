//! `demo`: the whole program at work on a machine with nothing installed, and a judgement of what it did.
//!
//! [`generator`] makes a stream of changes, [`mod@run`] sends it through a worker to CRMs that misbehave, [`evidence`] is what
//! that leaves behind, [`checks`] judges it, and [`report`] tells. With `--keep`, [`keep`] lets it go on. Evidence and checks know nothing of the demo: the
//! tests that simulate failures, and those against a real broker, judge by the same ones, which is why they are public.

pub mod checks;
pub mod evidence;
pub mod generator;
pub mod keep;
pub mod progress;
pub mod report;
pub mod run;
mod stage;

use std::{
    io::{self, Write},
    path::PathBuf,
};

use clap::Args;

use self::generator::Scale;
pub use self::run::{DemoError, Options, settings};
use super::{CommandError, Exit, run::Signals};
use crate::{
    config::{LogFormat, Surroundings},
    telemetry,
};

const EXAMPLES: &str = "\
Examples:
  contact-replicator demo
  contact-replicator demo --seed 7 --events 5000 --contacts 1000
  contact-replicator demo --keep
  contact-replicator demo --json | jq .checks";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Decides what is sent, and which calls the CRMs fail.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Changes to send.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    events: u64,
    /// Contacts of the sources that they are about; some people are known to several sources.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    contacts: u64,
    /// Let the CRMs behave.
    #[arg(long)]
    no_faults: bool,
    /// Go on after the report, until SIGINT or SIGTERM, with the log on disk, so that things can be tried.
    #[arg(long)]
    keep: bool,
    /// Where to keep the data, a folder without a log; without it, a new temporary folder.
    #[arg(long, value_name = "FOLDER", requires = "keep")]
    data: Option<PathBuf>,
    /// Print the report as one JSON object.
    #[arg(long)]
    json: bool,
    /// Log lines of the worker to show, as in RUST_LOG.
    #[arg(long, value_name = "LEVEL", default_value = "off")]
    log: String,
}

pub(super) async fn run(
    arguments: &Arguments,
    surroundings: Surroundings<'_>,
    output: &mut impl Write,
) -> Result<Exit, CommandError> {
    telemetry::start(LogFormat::Text, &arguments.log, telemetry::coloured(surroundings))?;
    let count = |number: u64| usize::try_from(number).expect("the range of the argument is small");
    let (events, contacts) = (count(arguments.events), count(arguments.contacts));
    let scale = Scale { seed: arguments.seed, events, contacts };
    let options = Options { scale, faults: !arguments.no_faults };
    let mut progress = progress::on_standard_error();
    if !arguments.keep {
        let report = run::run(options, &mut *progress).await?;
        tell(arguments, &report, output)?;
        return Ok(exit_of(&report));
    }
    let data = match &arguments.data {
        Some(data) => data.clone(),
        None => {
            let folder = tempfile::Builder::new().prefix("contact-replicator-").tempdir();
            folder.map_err(CommandError::io("making a temporary folder"))?.keep()
        }
    };
    let (report, kept) = run::run_on(options, &data, &mut *progress).await?;
    let mut signals = Signals::new().map_err(CommandError::io("listening for signals"))?;
    tell(arguments, &report, output)?;
    if arguments.json {
        // Standard output is one JSON object.
        write!(io::stderr(), "{kept}").map_err(CommandError::io("writing to standard error"))?;
    } else {
        write!(output, "{kept}")
            .and_then(|()| output.flush())
            .map_err(CommandError::io("writing to standard output"))?;
    }
    let undone = kept.serve(signals.next()).await?;
    Ok(if report.ok && !undone.is_empty() { Exit::Undone } else { exit_of(&report) })
}

fn exit_of(report: &report::Report) -> Exit {
    if report.ok { Exit::Done } else { Exit::CheckFailed }
}

fn tell(arguments: &Arguments, report: &report::Report, output: &mut impl Write) -> Result<(), CommandError> {
    let told = || CommandError::io("writing to standard output");
    if arguments.json {
        serde_json::to_writer(&mut *output, report).map_err(|error| told()(error.into()))?;
        writeln!(output).map_err(told())
    } else {
        write!(output, "{report}").map_err(told())
    }
}
