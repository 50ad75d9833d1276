//! `publish`: contact changes from a file to the input topic, or to a worker that takes them over HTTP.
//!
//! One CloudEvent in structured JSON a line. Each becomes a record keyed by its subject, in the partition that Kafka's
//! own producers would choose, so that one contact's changes stay in order. A line that cannot be an event is named by
//! its number and left out, the others are published; what is wrong *inside* an event is not judged here, since the
//! program that reads it says so where everybody sees it.
//!
//! With an address instead of settings, a worker's ingest takes the events ([`over_http`]) and judges them at its door.
//!
//! Lines are read into bounded batches: a file may be larger than memory, and standard input may never end.

mod over_http;

use std::{
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use self::over_http::OverHttp;
use super::{CommandError, Configured, Exit, UsageError, client};
use crate::{
    config::{Settings, Surroundings},
    log::{Header, Log, NewRecord, TopicPartition, partition_of},
    privacy::Secret,
    worker,
};

const EXAMPLES: &str = "\
Examples:
  contact-replicator publish --config config/kafka.toml changes.ndjson
  generate-changes | contact-replicator publish --config config/kafka.toml --mode binary -
  contact-replicator publish --url http://127.0.0.1:8700/events changes.ndjson

A log of kind \"local\" belongs to one process: publish to it while no worker runs.

A line:
  {\"specversion\":\"1.0\",\"id\":\"1\",\"source\":\"https://shop.example.com\",\"type\":\"com.example.contact.created.v1\",\
\"subject\":\"4711\",\"data\":{\"name\":{\"givenName\":\"Ada\"}}}";

/// Longest line that is read: far more than an event may have.
const LINE_BYTES_MAX: usize = 1024 * 1024;
const BATCH_RECORDS_MAX: usize = 500;
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Lines at fault that are told; more are only counted.
const FAULTS_TOLD_MAX: usize = 20;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// File of settings; config/reference.toml shows every key.
    #[arg(long, value_name = "FILE", required_unless_present = "url")]
    config: Option<PathBuf>,
    /// Address of a worker that takes events over HTTP (ingest.listen), instead of the log itself.
    #[arg(long, conflicts_with_all = ["config", "mode", "topic"])]
    url: Option<String>,
    /// Environment variable that holds the token of that worker.
    #[arg(long, value_name = "VARIABLE", requires = "url")]
    token_env: Option<String>,
    /// How an event is put into a record.
    #[arg(long, value_enum, default_value_t = Mode::Structured)]
    mode: Mode,
    /// Topic to publish to; without it, the first of [[input.topics]].
    #[arg(long)]
    topic: Option<String>,
    /// File with one CloudEvent in JSON a line; - for standard input.
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// The whole event in the value.
    Structured,
    /// Its attributes in headers, its data in the value.
    Binary,
}

/// Where events go.
trait Target {
    /// An event on its way there.
    type Item;

    fn name(&self) -> &str;

    /// The event of a line, or why it is none.
    fn item(&self, line: &[u8]) -> Result<Self::Item, String>;

    async fn send(&mut self, batch: Batch<Self::Item>) -> Result<Sent, CommandError>;
}

/// Events, each with the number of its line.
type Batch<T> = Vec<(u64, T)>;

#[derive(Debug, Default)]
struct Sent {
    published: u64,
    /// Lines that were not taken, and why.
    refused: Vec<(u64, String)>,
}

pub(super) async fn run(arguments: &Arguments, surroundings: Surroundings<'_>) -> Result<Exit, CommandError> {
    let output = &mut std::io::stdout().lock();
    let Some(url) = &arguments.url else {
        let file = arguments.config.clone().ok_or_else(|| UsageError("no file of settings is given".into()))?;
        let settings = super::started(&Configured { config: file }, surroundings)?;
        let configured = settings.input.topics.first().map(|topic| topic.name.clone());
        let topic: Arc<str> = match (&arguments.topic, configured) {
            (Some(topic), _) => topic.as_str().into(),
            (None, Some(topic)) => topic,
            (None, None) => return Err(UsageError("no topic to publish to".into()).into()),
        };
        let published = to_log(arguments, &settings, topic, output).await;
        return published.map_err(|error| error.of_brokers(&settings));
    };
    let token = match &arguments.token_env {
        None => None,
        Some(name) => {
            let found = (surroundings.variable)(name).filter(|token| !token.trim().is_empty());
            let token = found.ok_or_else(|| UsageError("the variable that --token-env names is not set".into()))?;
            Some(Secret::new(token.trim()))
        }
    };
    let target = OverHttp::new(client::address(url)?, token.as_ref())?;
    publish(open(&arguments.file).await?, target, output).await
}

async fn to_log(
    arguments: &Arguments,
    settings: &Settings,
    topic: Arc<str>,
    output: &mut impl Write,
) -> Result<Exit, CommandError> {
    let log = super::open_log(settings).await?;
    // A log on this machine's disk may never have been used, and nobody else creates its topics.
    log.ensure_topics(&worker::input_specs(settings)).await?;
    let target = ToLog::new(&*log, topic, arguments.mode).await?;
    publish(open(&arguments.file).await?, target, output).await
}

async fn open(file: &Path) -> Result<Box<dyn AsyncBufRead + Unpin>, CommandError> {
    if file.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(tokio::io::stdin())));
    }
    let file = tokio::fs::File::open(file).await.map_err(CommandError::io("opening the file of changes"))?;
    Ok(Box::new(BufReader::new(file)))
}

async fn publish(
    mut input: impl AsyncBufRead + Unpin,
    mut target: impl Target,
    output: &mut impl Write,
) -> Result<Exit, CommandError> {
    let mut told = Told { output, published: 0, faulty: 0 };
    let (mut batch, mut batch_bytes) = (Vec::new(), 0);
    let mut line = Vec::new();
    let mut number = 0_u64;
    loop {
        let read = next_line(&mut input, &mut line).await.map_err(CommandError::io("reading the changes"))?;
        number += 1;
        let item = match read {
            Line::End => break,
            Line::Read if line.trim_ascii().is_empty() => continue,
            Line::Read => target.item(&line),
            Line::TooLong => Err(format!("it is longer than {LINE_BYTES_MAX} bytes")),
        };
        match item {
            Ok(item) => {
                batch_bytes += line.len();
                batch.push((number, item));
            }
            Err(reason) => told.left_out(number, &reason)?,
        }
        if batch.len() >= BATCH_RECORDS_MAX || batch_bytes >= BATCH_BYTES_MAX {
            told.sent(target.send(std::mem::take(&mut batch)).await?)?;
            batch_bytes = 0;
        }
    }
    told.sent(target.send(batch).await?)?;
    let Told { output, published, faulty } = told;
    writeln!(output, "published {published} events to {}; lines left out: {faulty}", target.name())
        .map_err(CommandError::io("writing to standard output"))?;
    Ok(if faulty == 0 { Exit::Done } else { Exit::CheckFailed })
}

/// What the command has said so far.
struct Told<'a, W> {
    output: &'a mut W,
    published: u64,
    faulty: usize,
}

impl<W: Write> Told<'_, W> {
    fn sent(&mut self, sent: Sent) -> Result<(), CommandError> {
        self.published += sent.published;
        sent.refused.iter().try_for_each(|(number, reason)| self.left_out(*number, reason))
    }

    fn left_out(&mut self, number: u64, reason: &str) -> Result<(), CommandError> {
        self.faulty += 1;
        if self.faulty > FAULTS_TOLD_MAX {
            return Ok(());
        }
        writeln!(self.output, "line {number} was left out: {reason}")
            .map_err(CommandError::io("writing to standard output"))
    }
}

/// Straight into a topic of the log.
struct ToLog<'a> {
    log: &'a dyn Log,
    topic: Arc<str>,
    partitions: u32,
    mode: Mode,
}

impl<'a> ToLog<'a> {
    async fn new(log: &'a dyn Log, topic: Arc<str>, mode: Mode) -> Result<Self, CommandError> {
        let Some(partitions) = log.partitions(&topic).await? else {
            return Err(UsageError(format!(
                "there is no topic {topic}; create it first, it belongs to those who publish to it"
            ))
            .into());
        };
        Ok(Self { log, topic, partitions, mode })
    }
}

impl Target for ToLog<'_> {
    type Item = NewRecord;

    fn name(&self) -> &str {
        &self.topic
    }

    fn item(&self, line: &[u8]) -> Result<NewRecord, String> {
        record(line, self.mode, &self.topic, self.partitions)
    }

    async fn send(&mut self, batch: Batch<NewRecord>) -> Result<Sent, CommandError> {
        let published = batch.len() as u64;
        if published > 0 {
            self.log.append(batch.into_iter().map(|(_, record)| record).collect()).await?;
        }
        Ok(Sent { published, refused: Vec::new() })
    }
}

enum Line {
    Read,
    /// It was skipped to its end.
    TooLong,
    End,
}

/// Reads the next line into `line`, at most [`LINE_BYTES_MAX`] of it.
async fn next_line(input: &mut (impl AsyncBufRead + Unpin), line: &mut Vec<u8>) -> std::io::Result<Line> {
    line.clear();
    let mut too_long = false;
    let mut begun = false;
    loop {
        let available = input.fill_buf().await?;
        if available.is_empty() {
            return Ok(match (begun, too_long) {
                (false, _) => Line::End,
                (true, false) => Line::Read,
                (true, true) => Line::TooLong,
            });
        }
        begun = true;
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = available.get(..end.unwrap_or(available.len())).unwrap_or_default();
        if line.len() + part.len() > LINE_BYTES_MAX {
            too_long = true;
        } else {
            line.extend_from_slice(part);
        }
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            return Ok(if too_long { Line::TooLong } else { Line::Read });
        }
    }
}

/// The members of an event, or why the line is none. Reasons name attributes, never values.
fn checked(line: &[u8]) -> Result<Map<String, Value>, String> {
    // A parser's message may quote the line; its position is enough to find the place.
    let event: Value =
        serde_json::from_slice(line).map_err(|error| format!("it is not JSON at column {}", error.column()))?;
    let Value::Object(event) = event else {
        return Err("it is not a JSON object".into());
    };
    for name in ["specversion", "id", "source", "type", "subject"] {
        match event.get(name) {
            Some(Value::String(text)) if !text.is_empty() => {}
            Some(_) => return Err(format!("its {name} is not a text, or is empty")),
            None => return Err(format!("it has no {name}")),
        }
    }
    Ok(event)
}

/// The record of an event, or why the line is none.
fn record(line: &[u8], mode: Mode, topic: &Arc<str>, partitions: u32) -> Result<NewRecord, String> {
    let event = checked(line)?;
    let subject = event.get("subject").and_then(Value::as_str).unwrap_or_default().to_owned();
    let to = TopicPartition::new(topic.clone(), partition_of(subject.as_bytes(), partitions));
    let (headers, value) = match mode {
        Mode::Structured => {
            let headers = vec![Header::new("content-type", "application/cloudevents+json; charset=UTF-8")];
            (headers, Bytes::copy_from_slice(line.trim_ascii()))
        }
        Mode::Binary => binary(event)?,
    };
    Ok(NewRecord { to, key: Some(subject.into()), value: Some(value), headers })
}

/// Attributes as `ce_` headers, data as value (CloudEvents, Kafka protocol binding, section 3.2).
fn binary(mut event: Map<String, Value>) -> Result<(Vec<Header>, Bytes), String> {
    let content_type = match event.remove("datacontenttype") {
        None => "application/json".to_owned(),
        Some(Value::String(text)) => text,
        Some(_) => return Err("its datacontenttype is not a text".into()),
    };
    // Without data the value is empty, not absent: an absent one would be a tombstone.
    let value = match (event.remove("data"), event.remove("data_base64")) {
        (Some(_), Some(_)) => return Err("it has both data and data_base64".into()),
        (None, None) => Bytes::new(),
        (Some(data), None) => Bytes::from(data.to_string()),
        (None, Some(Value::String(text))) => {
            STANDARD.decode(text).map_err(|_malformed| "its data_base64 is not base64".to_owned())?.into()
        }
        (None, Some(_)) => return Err("its data_base64 is not a text".into()),
    };
    let mut headers = vec![Header::new("content-type", content_type)];
    for (name, attribute) in event {
        let text = match attribute {
            Value::String(text) => text,
            Value::Number(_) | Value::Bool(_) => attribute.to_string(),
            Value::Null => continue,
            Value::Array(_) | Value::Object(_) => {
                return Err(format!("its attribute {name} is neither text, number nor boolean"));
            }
        };
        headers.push(Header::new(format!("ce_{name}"), text));
    }
    Ok((headers, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"specversion":"1.0","id":"1","source":"s","type":"contact.created","subject":"foobar","sequence":7,"data":{"a":1}}"#;

    fn made(line: &str, mode: Mode) -> Result<NewRecord, String> {
        record(line.as_bytes(), mode, &"changes".into(), 12)
    }

    fn headers(record: &NewRecord) -> Vec<(String, String)> {
        record
            .headers
            .iter()
            .map(|header| (header.name.clone(), String::from_utf8(header.value.to_vec()).unwrap()))
            .collect()
    }

    #[test]
    fn a_structured_record_holds_the_line_as_it_is() {
        let record = made(&format!("  {EVENT}\r"), Mode::Structured).unwrap();
        assert_eq!(record.value.as_deref(), Some(EVENT.as_bytes()));
        assert_eq!(record.key.as_deref(), Some(&b"foobar"[..]));
        // As the Java client would: (-790332482 & 0x7fffffff) % 12.
        assert_eq!(record.to.partition, (-790_332_482_i32 & 0x7fff_ffff) as u32 % 12);
        assert_eq!(headers(&record), [("content-type".into(), "application/cloudevents+json; charset=UTF-8".into())]);
    }

    #[test]
    fn a_binary_record_holds_attributes_in_headers_and_data_in_the_value() {
        let record = made(EVENT, Mode::Binary).unwrap();
        assert_eq!(record.value.as_deref(), Some(&br#"{"a":1}"#[..]));
        let mut found = headers(&record);
        found.sort();
        let expected = [
            ("ce_id", "1"),
            ("ce_sequence", "7"),
            ("ce_source", "s"),
            ("ce_specversion", "1.0"),
            ("ce_subject", "foobar"),
            ("ce_type", "contact.created"),
            ("content-type", "application/json"),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn an_event_without_data_is_not_a_tombstone() {
        let line = r#"{"specversion":"1.0","id":"1","source":"s","type":"contact.deleted","subject":"x"}"#;
        assert_eq!(made(line, Mode::Binary).unwrap().value.as_deref(), Some(&b""[..]));
        let line = line.replace('}', r#","data_base64":"e30="}"#);
        assert_eq!(made(&line, Mode::Binary).unwrap().value.as_deref(), Some(&b"{}"[..]));
    }

    #[test]
    fn a_line_that_is_no_event_is_refused_without_quoting_it() {
        for (line, mode, says) in [
            ("{\"subject\": \"Ada\"", Mode::Structured, "not JSON at column 17"),
            ("[\"Ada\"]", Mode::Structured, "not a JSON object"),
            (r#"{"specversion":"1.0","id":"Ada","source":"s","type":"t"}"#, Mode::Structured, "it has no subject"),
            (
                r#"{"specversion":"1.0","id":5,"source":"s","type":"t","subject":"Ada"}"#,
                Mode::Structured,
                "its id is not a text",
            ),
            (
                r#"{"specversion":"1.0","id":"","source":"s","type":"t","subject":"Ada"}"#,
                Mode::Structured,
                "its id is not a text",
            ),
            (
                r#"{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"Ada","x":[]}"#,
                Mode::Binary,
                "its attribute x is neither",
            ),
            (
                r#"{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"Ada","data_base64":"?"}"#,
                Mode::Binary,
                "not base64",
            ),
            (
                r#"{"specversion":"1.0","id":"1","source":"s","type":"t","subject":"Ada","data":1,"data_base64":""}"#,
                Mode::Binary,
                "both data and data_base64",
            ),
        ] {
            let reason = made(line, mode).unwrap_err();
            assert!(reason.contains(says) && !reason.contains("Ada"), "{line}: {reason}");
        }
    }

    #[tokio::test]
    async fn lines_are_read_within_their_bound() {
        let long = "x".repeat(LINE_BYTES_MAX);
        let text = format!("a\n\n{long}\n{long}y\nlast");
        let mut input = BufReader::with_capacity(1000, text.as_bytes());
        let mut line = Vec::new();
        let mut found = Vec::new();
        loop {
            match next_line(&mut input, &mut line).await.unwrap() {
                Line::End => break,
                Line::Read => found.push(Some(line.len())),
                Line::TooLong => found.push(None),
            }
        }
        assert_eq!(found, [Some(1), Some(0), Some(LINE_BYTES_MAX), None, Some(4)]);
    }
}
