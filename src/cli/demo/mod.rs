//! `demo`: the whole program at work on a machine with nothing installed, and a judgement of what it did.
//!
//! [`generator`] makes a stream of changes, [`mod@run`] sends it through a worker to a CRM that misbehaves, [`evidence`] is
//! what that leaves behind, [`checks`] judges it, and [`report`] tells. Evidence and checks know nothing of the demo: the
//! tests that simulate failures, and those against a real broker, judge by the same ones, which is why they are public.

pub mod checks;
pub mod evidence;
pub mod generator;
pub mod progress;
pub mod report;
pub mod run;

use std::io::Write;

use clap::Args;

use self::generator::Scale;
pub use self::run::{DemoError, Options, settings};
use super::{CommandError, Exit};
use crate::{
    config::{LogFormat, Surroundings, TelemetrySettings},
    telemetry,
};

const EXAMPLES: &str = "\
Examples:
  contact-replicator demo
  contact-replicator demo --seed 7 --events 5000 --contacts 1000
  contact-replicator demo --json | jq .checks";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Decides what is sent, and which calls the CRM fails.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Changes to send.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    events: u64,
    /// Contacts of the sources that they are about; some people are known to several sources.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    contacts: u64,
    /// Let the CRM behave.
    #[arg(long)]
    no_faults: bool,
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
    let telemetry = TelemetrySettings { format: LogFormat::Text, level: arguments.log.clone() };
    telemetry::start(&telemetry, telemetry::coloured(surroundings))?;
    let count = |number: u64| usize::try_from(number).expect("the range of the argument is small");
    let (events, contacts) = (count(arguments.events), count(arguments.contacts));
    let scale = Scale { seed: arguments.seed, events, contacts };
    let options = Options { scale, faults: !arguments.no_faults };
    let mut progress = progress::on_standard_error();
    let report = run::run(options, &mut *progress).await?;
    let told = || CommandError::io("writing to standard output");
    if arguments.json {
        serde_json::to_writer(&mut *output, &report).map_err(|error| told()(error.into()))?;
        writeln!(output).map_err(told())?;
    } else {
        write!(output, "{report}").map_err(told())?;
    }
    Ok(if report.ok { Exit::Done } else { Exit::CheckFailed })
}
