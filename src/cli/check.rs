//! `check`: what holds and where it comes from; then whether it is right, wise, and what it points to is there.
//!
//! It changes nothing: topics that are missing are told, not created. All that is wrong is told before it ends. Settings that
//! are wrong are a reason to ask nobody outside: the answers would be those to other questions.
//!
//! Everything found is a finding: an error, a warning or a note, each with its key, what stands there, the reason and the
//! remedy. A tool gets the same as JSON; a script that only wants to know is told nothing but what matters (`--quiet`).

mod outside;

use std::{io::Write, path::Path};

use clap::Args;
use serde::Serialize;

use super::{CommandError, Configured, Exit};
use crate::{
    config::{Advice, Effective, Fault, Holds, Origin, Reading, SecretPlace, Severity, Surroundings, advice},
    telemetry,
};

const EXAMPLES: &str = "\
Examples:
  contact-replicator check --config config/kafka.toml
  contact-replicator check --config config/kafka.toml --all
  contact-replicator check --config config/kafka.toml --quiet
  contact-replicator check --config config/kafka.toml --json

It ends with 2 if the settings cannot be used, with 1 if what they point to is missing or wrong, else with 0: warnings and notes
change nothing of that.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    configured: Configured,
    /// Tell also the settings that are at their defaults.
    #[arg(long)]
    all: bool,
    /// Tell nothing but errors and warnings.
    #[arg(long, conflicts_with_all = ["json", "all"])]
    quiet: bool,
    /// Print JSON, with all settings.
    #[arg(long, conflicts_with = "all")]
    json: bool,
}

pub(super) async fn run(
    arguments: &Arguments,
    surroundings: Surroundings<'_>,
    output: &mut impl Write,
) -> Result<Exit, CommandError> {
    let reading = Reading::of_file(&arguments.configured.config, surroundings);
    if let Some(settings) = reading.settings() {
        telemetry::start(settings.telemetry.format, &settings.telemetry.level, telemetry::coloured(surroundings))?;
    }
    tell(arguments, &reading, output).await
}

async fn tell(arguments: &Arguments, reading: &Reading, output: &mut impl Write) -> Result<Exit, CommandError> {
    let report = report(&arguments.configured.config, reading).await;
    let text = match (arguments.json, arguments.quiet) {
        (true, _) => serde_json::to_string_pretty(&report).expect("texts and numbers are JSON") + "\n",
        (false, true) => report.findings_as_text(Severity::Warning),
        (false, false) => report.text(arguments.all),
    };
    output.write_all(text.as_bytes()).map_err(CommandError::io("writing to standard output"))?;
    Ok(report.exit())
}

async fn report<'a>(file: &'a Path, reading: &'a Reading) -> Report<'a> {
    let mut report = Report {
        file,
        settings_usable: reading.settings().is_some(),
        settings: &reading.effective,
        well: Vec::new(),
        findings: reading.faults.iter().cloned().map(error).collect(),
    };
    if let Some(settings) = reading.settings() {
        report.well.push("settings".to_owned());
        report.findings.extend(advice(settings));
        for found in outside::look(settings).await {
            match found {
                Ok(well) => report.well.push(well),
                Err(finding) => report.findings.push(finding),
            }
        }
    }
    report.findings.extend(outside::open_secrets(&reading.effective));
    for Advice { fault, .. } in &mut report.findings {
        fault.line = fault.line.or_else(|| reading.line(&fault.key));
    }
    // Of a kind, in the order in which they were found: that of the file.
    report.findings.sort_by_key(|finding| finding.severity);
    report
}

fn error(fault: Fault) -> Advice {
    Advice { severity: Severity::Error, fault }
}

/// All that `check` tells.
#[derive(Debug, Serialize)]
struct Report<'a> {
    file: &'a Path,
    /// Otherwise nobody outside was asked.
    settings_usable: bool,
    settings: &'a [Effective],
    /// What was asked and is as it should be.
    well: Vec<String>,
    /// The gravest first.
    findings: Vec<Advice>,
}

impl Report<'_> {
    fn exit(&self) -> Exit {
        match (self.settings_usable, self.count(Severity::Error)) {
            (false, _) => Exit::Usage,
            (true, 0) => Exit::Done,
            (true, _) => Exit::CheckFailed,
        }
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }

    fn text(&self, with_defaults: bool) -> String {
        let mut text = format!("{}\n", self.file.display());
        let mut folded = 0_usize;
        for setting in self.settings {
            match setting.is_default() && !with_defaults {
                true => folded += 1,
                false => text.push_str(&format!("  {}\n", told(setting))),
            }
        }
        if folded > 0 {
            text.push_str(&format!("  # {folded} more are at their defaults; --all tells them\n"));
        }
        text.push('\n');
        text.extend(self.well.iter().map(|well| format!("ok    {well}\n")));
        text.push_str(&self.findings_as_text(Severity::Note));
        if !self.settings_usable {
            text.push_str("nobody outside was asked, since the settings cannot be used\n");
        }
        let [errors, warnings, notes] =
            [Severity::Error, Severity::Warning, Severity::Note].map(|severity| self.count(severity));
        text.push_str(&format!("{errors} errors, {warnings} warnings, {notes} notes\n"));
        text
    }

    /// Those that matter at least so much, each on a line.
    fn findings_as_text(&self, least: Severity) -> String {
        let grave = self.findings.iter().filter(|finding| finding.severity <= least);
        let line = |Advice { severity, fault }: &Advice| {
            let word = match severity {
                Severity::Error => "ERROR",
                Severity::Warning => "WARN ",
                Severity::Note => "note ",
            };
            format!("{word} {fault}\n")
        };
        grave.map(line).collect()
    }
}

/// A setting, and where it comes from.
fn told(setting: &Effective) -> String {
    let Effective { key, holds, origin } = setting;
    let from = match origin {
        Origin::Default => "default".to_owned(),
        Origin::File { line } => format!("line {line}"),
        Origin::Variable { name } => format!("variable {name}"),
        Origin::HostName => "host name".to_owned(),
    };
    match holds {
        Holds::Value { value } => format!("{key} = {value}  # {from}"),
        Holds::Hidden => format!("{key} = (not shown)  # {from}"),
        Holds::Secret { place, is_set } => {
            let place = match place {
                SecretPlace::Variable(name) => format!("variable {name}"),
                SecretPlace::File(path) => format!("file {}", path.display()),
            };
            let state = if *is_set { "set" } else { "NOT SET" };
            format!("{key} = ({state}, from {place})  # {from}")
        }
    }
}

#[cfg(test)]
mod tests;
