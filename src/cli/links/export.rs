//! `links export`: what a CRM calls our contacts, as a worker tells it.
//!
//! A file is written beside its place and moved there when it is whole, so that nobody takes half an export for all of it.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tempfile::NamedTempFile;

use super::{rows::Format, say};
use crate::{
    cli::{
        CommandError, Exit,
        asking::{self, Told},
        client::Client,
        worker_address::WorkerAddress,
    },
    config::Surroundings,
    links::export::{Line, Order, Row},
};

const EXAMPLES: &str = "\
Examples:
  contact-replicator links export --crm previsto links.ndjson
  contact-replicator links export --crm previsto --format csv links.csv
  contact-replicator links export --crm previsto --format csv | grep ,ambiguous

A row for each source of each contact that was ever looked at for the CRM: source, subject, contact_id, remote_id and state.

States:
  active, inactive  the CRM holds it, with this remote id
  unsent            it is known which one it is, and nothing was sent to it yet
  ambiguous         several contacts of the CRM may be this one: say which with links set
  parked, rejected  the CRM did not take its newest version; see explain
  absent            it was deleted there
  unlinked          nothing of it is in the CRM";

const WRITING: &str = "writing the rows";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Name of the CRM, as in the settings.
    #[arg(long, value_name = "NAME")]
    crm: String,
    /// One JSON object a line, or CSV.
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    format: Format,
    /// File to write; without it, standard output.
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    worker: WorkerAddress,
}

pub(super) async fn run(arguments: &Arguments, surroundings: Surroundings<'_>) -> Result<Exit, CommandError> {
    let url = arguments.worker.url("/links/export", surroundings)?;
    let order = Order { crm: arguments.crm.clone() };
    let client = Client::for_lines(&url)?.with(arguments.worker.headers(surroundings)?);
    let lines = asking::follow(&client, &url, &order).await?;
    let rows = match &arguments.file {
        None => {
            let output = io::BufWriter::new(io::stdout());
            let (rows, mut output) = follow(lines, Written::new(output, arguments.format)?).await?;
            output.flush().map_err(CommandError::io(WRITING))?;
            rows
        }
        Some(file) => {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let beside = NamedTempFile::new_in(folder).map_err(CommandError::io("making the file of rows"))?;
            let output = io::BufWriter::new(beside);
            let (rows, output) = follow(lines, Written::new(output, arguments.format)?).await?;
            let beside = output.into_inner().map_err(|error| CommandError::io(WRITING)(error.into_error()))?;
            beside
                .persist(file)
                .map_err(|error| CommandError::io("putting the file of rows in its place")(error.error))?;
            rows
        }
    };
    say(&format!("{rows} rows of {} are told", arguments.crm));
    Ok(Exit::Done)
}

/// Takes line after line until the worker says that it is done.
async fn follow<W: Write>(mut lines: Told, mut written: Written<W>) -> Result<(u64, W), CommandError> {
    let bar = bar_on_standard_error();
    let ended = loop {
        match lines.next().await? {
            Line::Begun { contacts } => bar.set_length(contacts),
            Line::Progress { looked_at } => bar.set_position(looked_at),
            Line::Row(row) => written.row(&row)?,
            Line::Ended { rows } => break Ok(rows),
            Line::Failed { why } => break Err(CommandError::NotDone(why)),
        }
    };
    bar.finish_and_clear();
    ended.map(|rows| (rows, written.output))
}

fn bar_on_standard_error() -> ProgressBar {
    if !io::stderr().is_terminal() || io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} contacts, {per_sec}, {eta} to go");
    ProgressBar::new(0).with_style(style.expect("the template is right"))
}

/// Rows as they are written.
struct Written<W> {
    output: W,
    format: Format,
}

impl<W: Write> Written<W> {
    fn new(output: W, format: Format) -> Result<Self, CommandError> {
        let mut written = Self { output, format };
        if format == Format::Csv {
            written.record(["source", "subject", "contact_id", "remote_id", "state"])?;
        }
        Ok(written)
    }

    fn row(&mut self, row: &Row) -> Result<(), CommandError> {
        let Row { source, subject, contact_id, remote_id, state } = row;
        match self.format {
            Format::Csv => {
                let remote_id = remote_id.as_deref().unwrap_or_default();
                self.record([source, subject, &contact_id.key(), remote_id, state.as_str()])
            }
            Format::Ndjson => {
                let object = json!({
                    "source": source, "subject": subject, "contact_id": contact_id, "remote_id": remote_id, "state": state,
                });
                writeln!(self.output, "{object}").map_err(CommandError::io(WRITING))
            }
        }
    }

    fn record(&mut self, fields: [&str; 5]) -> Result<(), CommandError> {
        let mut writer = csv::Writer::from_writer(&mut self.output);
        let written = writer.write_record(fields).map_err(|error| match error.into_kind() {
            csv::ErrorKind::Io(source) => source,
            _ => io::Error::other("it is no row of CSV"),
        });
        written.and_then(|()| writer.flush()).map_err(CommandError::io(WRITING))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::{
        super::rows::{Numbered, Rows},
        *,
    };
    use crate::{contact::ContactId, links::export::State};

    fn row(subject: &str, remote_id: Option<&str>, state: State) -> Row {
        let remote_id = remote_id.map(str::to_owned);
        let contact_id = ContactId(Uuid::from_u128(7));
        Row { source: "https://shop.example.com".to_owned(), subject: subject.to_owned(), contact_id, remote_id, state }
    }

    #[test]
    fn what_is_exported_is_read_by_an_import_in_either_format() {
        let exported = [
            row("4\"7,1", Some("con_1"), State::Active),
            row("a\nb", None, State::Ambiguous),
            row("\u{e9}", Some("8"), State::Unsent),
        ];
        for (format, file) in
            [(Format::Ndjson, "a.ndjson"), (Format::Csv, "a.csv"), (Format::Ndjson, "-"), (Format::Csv, "-")]
        {
            let mut written = Written::new(Vec::new(), format).unwrap();
            exported.iter().for_each(|row| written.row(row).unwrap());
            let text = written.output;
            assert!(String::from_utf8_lossy(&text).contains("ambiguous"));
            let mut rows = Rows::new(Path::new(file), io::Cursor::new(text)).unwrap();
            for expected in &exported {
                let Some(Numbered { row: Ok(read), .. }) = rows.next().unwrap() else { panic!("{format:?}") };
                let read = read.map(|read| (read.source, read.subject, read.remote_id));
                let expected =
                    expected.remote_id.clone().map(|id| (expected.source.clone(), expected.subject.clone(), id));
                assert_eq!(read, expected, "{format:?}");
            }
            assert!(rows.next().unwrap().is_none());
        }
    }
}
