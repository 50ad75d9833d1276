//! `check-event`: whether events can be read, before they are sent; for the tests of those who emit them.
//!
//! The reader is the resolver's own ([`change::read`]), under the limits of the reference configuration: what passes here is
//! no dead letter there, unless an installation closes its list of sources or has narrower limits. Each event is read up to
//! its first fault, as the resolver does.
//!
//! A file holds one event, over as many lines as it likes, or one a line. In binary mode it holds the data of one event, and
//! the attributes are given as headers. Nothing of what an event says is repeated but its `id`.

use std::{
    fs::File,
    io::{self, Read, Write},
    path::PathBuf,
};

use bytes::Bytes;
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::{CommandError, Exit, UsageError};
use crate::{
    clock::Clock,
    config::Settings,
    event::{
        EventRef, ReasonCode,
        change::{self, Change, Fault, Rules},
    },
    log::{Header, Record, TopicPartition},
};

const EXAMPLES: &str = "\
Examples:
  contact-replicator check-event config/samples/person.json
  generate-changes | contact-replicator check-event --json -
  contact-replicator check-event --binary -H ce_specversion=1.0 -H ce_id=1 -H ce_source=https://shop.example.com \\
    -H ce_type=com.example.contact.deleted.v1 -H ce_subject=4711 /dev/null

A fault is told by the code and the place that its dead letter would have: a JSON pointer into the contact, or
/headers/ce_… for an attribute, which in a structured event is the member of that name without ce_.

It ends with 1 if an event is at fault, or none is found. `contact-replicator schema change-event` prints the JSON Schema.";

/// Longest input that is read, in bytes: it is held whole.
const INPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Where events are as if read from.
const TOPIC: &str = "contact-changes";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// File with one CloudEvent in JSON, or one a line; - for standard input.
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// The file is the value of one event whose attributes are headers.
    #[arg(long, requires = "headers")]
    binary: bool,
    /// A header of an event in binary mode.
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", requires = "binary", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Take attributes and labels that are not known for faults: they would be ignored.
    #[arg(long)]
    strict: bool,
    /// Print a JSON object for each event.
    #[arg(long)]
    json: bool,
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) fn run(arguments: &Arguments, output: &mut impl Write) -> Result<Exit, CommandError> {
    let input = read(arguments)?;
    let events = if arguments.binary { vec![(1, input.clone())] } else { events(&input) };
    let settings = Settings::reference();
    let rules = Rules::new(&settings.input, &settings.source);
    let now = Clock::System.now();
    let headers: Vec<Header> = match arguments.binary {
        true => arguments.headers.iter().map(|(name, value)| Header::new(name, value.clone())).collect(),
        false => vec![Header::new("content-type", "application/cloudevents+json; charset=UTF-8")],
    };
    let told = || CommandError::io("writing to standard output");
    let (mut checked, mut faulty) = (0_u64, 0_u64);
    for (line, event) in events {
        let verdict = Verdict::of(line, judge(event, headers.clone(), &rules, now), arguments.strict);
        checked += 1;
        faulty += u64::from(!verdict.ok);
        match arguments.json {
            true => {
                let json = serde_json::to_string(&verdict).expect("a verdict is made of what JSON can express");
                writeln!(output, "{json}")
            }
            false => verdict.tell(output),
        }
        .map_err(told())?;
    }
    if !arguments.json {
        writeln!(output, "{checked} events, {faulty} at fault").map_err(told())?;
    }
    Ok(if checked > 0 && faulty == 0 { Exit::Done } else { Exit::CheckFailed })
}

fn read(arguments: &Arguments) -> Result<Bytes, CommandError> {
    let source: Box<dyn Read> = match arguments.file.as_os_str() == "-" {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(&arguments.file).map_err(CommandError::io("opening the file of events"))?),
    };
    within(source, INPUT_BYTES_MAX)
}

/// All that a source holds, if that is no more than `bytes_max`.
fn within(source: impl Read, bytes_max: u64) -> Result<Bytes, CommandError> {
    let mut input = Vec::new();
    source.take(bytes_max + 1).read_to_end(&mut input).map_err(CommandError::io("reading the events"))?;
    match input.len() as u64 > bytes_max {
        true => Err(UsageError(format!("the input is larger than {bytes_max} bytes; check it in parts")).into()),
        false => Ok(input.into()),
    }
}

/// The events of an input, each with the number of the line that it begins on.
fn events(input: &Bytes) -> Vec<(usize, Bytes)> {
    let is_blank = |line: &[u8]| line.trim_ascii().is_empty();
    let lines = || input.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !is_blank(line));
    // One value that takes several lines is one event, and so is what is no JSON but only begun on its first line.
    let begun = lines().next().is_some_and(|(_, first)| {
        let first: Result<Value, _> = serde_json::from_slice(first);
        first.is_err_and(|error| error.is_eof())
    });
    let one: Result<serde::de::IgnoredAny, _> = serde_json::from_slice(input);
    match lines().next() {
        Some((number, _)) if begun && one.is_ok() => vec![(number + 1, input.slice_ref(input.trim_ascii()))],
        _ => lines().map(|(number, line)| (number + 1, input.slice_ref(line.trim_ascii()))).collect(),
    }
}

/// Reads an event as the resolver would read the record that it is published in.
fn judge(value: Bytes, headers: Vec<Header>, rules: &Rules, now: Timestamp) -> Result<Change, Fault> {
    let mut record =
        Record { at: TopicPartition::new(TOPIC, 0), offset: 0, timestamp: now, key: None, value: Some(value), headers };
    let change = change::read(&record, rules, now)?;
    // The key, which counts, should be the subject.
    record.key = Some(Bytes::copy_from_slice(change.subject.as_bytes()));
    match change::is_too_large(&record, rules) {
        true => Err(Fault { code: ReasonCode::TooLarge, pointer: None, event: EventRef::at(&record) }),
        false => Ok(change),
    }
}

/// What is said of one event.
#[derive(Debug, Serialize)]
struct Verdict {
    /// The line that it begins on, from 1.
    line: usize,
    id: Option<String>,
    ok: bool,
    /// Attributes and labels that are not known.
    ignored: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<ReasonCode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Verdict {
    fn of(line: usize, read: Result<Change, Fault>, strict: bool) -> Self {
        match read {
            Ok(change) => {
                let ignored = change.ignored_attributes;
                let is_lacking = strict && ignored > 0;
                let remedy = is_lacking.then(|| "remove or correct what is not known".to_owned());
                Self {
                    line,
                    id: Some(change.id.to_string()),
                    ok: !is_lacking,
                    ignored,
                    code: None,
                    pointer: None,
                    remedy,
                }
            }
            Err(fault) => Self {
                line,
                id: fault.event.id.as_deref().map(str::to_owned),
                ok: false,
                ignored: 0,
                code: Some(fault.code),
                remedy: Some(fault.remedy()),
                pointer: fault.pointer,
            },
        }
    }

    fn tell(&self, output: &mut impl Write) -> io::Result<()> {
        let line = self.line;
        if let Some(code) = self.code {
            let place = self.pointer.as_ref().map(|pointer| format!(" at {pointer:?}")).unwrap_or_default();
            let remedy = self.remedy.as_deref().unwrap_or_default();
            return writeln!(output, "FAIL  line {line}: {code}{place}: {remedy}");
        }
        let word = if self.ok { "ok  " } else { "FAIL" };
        match self.ignored {
            0 => writeln!(output, "{word}  line {line}"),
            ignored => {
                writeln!(output, "{word}  line {line}: {ignored} attributes or labels are not known and ignored")
            }
        }
    }
}

#[cfg(test)]
mod tests;
