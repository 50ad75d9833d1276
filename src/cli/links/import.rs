//! `links import`: rows of a file become links, a page at a time.
//!
//! A worker takes some rows at once and says which of them it refuses. What was taken is taken, so a run that broke off is
//! made good by another: rows that were imported are then known already.

use std::{
    fs::File,
    io::{self, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::{
    rows::{Numbered, Rows},
    say,
};
use crate::{
    cli::{CommandError, Exit, asking::ask, client::Client, operator::Who, worker_address::WorkerAddress},
    config::Surroundings,
    links::{Imported, Order, ROWS_MAX, Refused, Reply, Row, What},
};

const EXAMPLES: &str = "\
Examples:
  contact-replicator links import --crm previsto links.csv --dry-run
  contact-replicator links import --crm previsto links.csv
  crm-dump | contact-replicator links import --crm billing -

links.csv:
  source,subject,remote_id
  shop,4711,con_90a1

The same as JSON, one object a line:
  {\"source\":\"shop\",\"subject\":\"4711\",\"remote_id\":\"con_90a1\"}

The CRM has to be in shadow (mode = \"shadow\"), and the sources have to have published their contacts: a row of somebody who is
not known is refused, as is one whose remote id cannot be one, or is another contact's. The others are imported. A row without a
remote id is passed over. The same file can be imported again at any time.

It ends with 1 if a row was refused.";

/// What the rows of one order may take; the worker takes no more than a few times that.
const ORDER_BYTES_MAX: usize = 256 * 1024;
/// How often it is told how far it is, where there is no terminal.
const TELL_EVERY: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Name of the CRM, as in the settings.
    #[arg(long, value_name = "NAME")]
    crm: String,
    /// Only look whether each row could be imported.
    #[arg(long)]
    dry_run: bool,
    /// File of rows, as CSV or as JSON, one object a line; - for standard input.
    #[arg(value_name = "FILE|-")]
    file: PathBuf,
    /// Why, for the audit trail.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    worker: WorkerAddress,
}

pub(super) async fn run(arguments: &Arguments, surroundings: Surroundings<'_>) -> Result<Exit, CommandError> {
    let url = arguments.worker.url("/links", surroundings)?;
    let said = arguments.who.headers(arguments.reason.as_deref(), surroundings);
    let client = Client::new(&url)?.with(arguments.worker.headers(surroundings)?).with(said);
    let (input, bytes) = open(&arguments.file)?;
    let mut rows = Rows::new(&arguments.file, input)?;
    let mut report = Report::new(io::stdout(), Shown::on_standard_error(bytes));
    loop {
        let page = Page::next(&mut rows)?;
        let is_last = page.is_last;
        report.left_out(&page)?;
        if !page.rows.is_empty() {
            let what = What::Import { rows: page.rows.clone(), check: arguments.dry_run };
            let order = Order { crm: arguments.crm.clone(), what };
            let Reply::Imported(imported) = ask(&client, &url, &order).await? else {
                return Err(CommandError::NotDone("its reply belongs to another question".into()));
            };
            report.took(&page, &imported)?;
        }
        report.shown.show(rows.progress(), &report.counts);
        if is_last {
            return report.conclude(&arguments.crm, arguments.dry_run);
        }
    }
}

/// A file or standard input, and how long it is if that is known.
fn open(file: &Path) -> Result<(Box<dyn Read>, Option<u64>), CommandError> {
    if file.as_os_str() == "-" {
        return Ok((Box::new(io::stdin()), None));
    }
    let opened = File::open(file).map_err(CommandError::io("opening the file of rows"))?;
    let bytes = opened.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
    Ok((Box::new(opened), bytes))
}

/// Rows that are asked for at once.
#[derive(Default)]
struct Page {
    rows: Vec<Row>,
    /// The line of each of them.
    lines: Vec<u64>,
    /// Lines that are no rows, and why.
    faulty: Vec<(u64, String)>,
    without: u64,
    is_last: bool,
}

impl Page {
    fn next(rows: &mut Rows) -> Result<Self, CommandError> {
        let mut page = Self::default();
        let mut bytes = 0;
        while page.rows.len() + page.faulty.len() < ROWS_MAX && bytes < ORDER_BYTES_MAX {
            let Some(Numbered { line, row }) = rows.next()? else {
                page.is_last = true;
                break;
            };
            match row {
                Ok(None) => page.without += 1,
                Err(why) => page.faulty.push((line, why)),
                Ok(Some(row)) => {
                    bytes += row.source.len() + row.subject.len() + row.remote_id.len();
                    page.rows.push(row);
                    page.lines.push(line);
                }
            }
        }
        Ok(page)
    }
}

/// How many rows there were, and what came of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    linked: u64,
    known: u64,
    refused: u64,
    /// Rows without a remote id.
    without: u64,
}

impl Counts {
    fn all(&self) -> u64 {
        self.linked + self.known + self.refused + self.without
    }
}

struct Report<W> {
    output: W,
    shown: Shown,
    counts: Counts,
}

impl<W: Write> Report<W> {
    fn new(output: W, shown: Shown) -> Self {
        Self { output, shown, counts: Counts::default() }
    }

    fn left_out(&mut self, page: &Page) -> Result<(), CommandError> {
        self.counts.without += page.without;
        page.faulty.iter().try_for_each(|(line, why)| self.refused(&format!("line {line}: {why}")))
    }

    fn took(&mut self, page: &Page, imported: &Imported) -> Result<(), CommandError> {
        self.counts.linked += imported.linked;
        self.counts.known += imported.known;
        imported.refused.iter().try_for_each(|Refused { place, why }| {
            let (Some(row), Some(line)) = (page.rows.get(*place), page.lines.get(*place)) else {
                return Err(CommandError::NotDone("its reply belongs to another question".into()));
            };
            self.refused(&format!("line {line}: {:?} {:?}: {why}", row.source, row.subject))
        })
    }

    fn refused(&mut self, text: &str) -> Result<(), CommandError> {
        self.counts.refused += 1;
        let output = &mut self.output;
        let mut write = move || writeln!(output, "{text}");
        match &self.shown {
            Shown::Bar(bar) => bar.suspend(write),
            Shown::Lines { .. } => write(),
        }
        .map_err(CommandError::io("writing to standard output"))
    }

    fn conclude(mut self, crm: &str, dry_run: bool) -> Result<Exit, CommandError> {
        self.shown.done();
        let Counts { linked, known, refused, without } = self.counts;
        let would = if dry_run { "would be imported" } else { "imported" };
        let text = format!(
            "{crm}: {linked} rows {would}, {known} known already, {refused} refused, {without} without a remote id"
        );
        writeln!(self.output, "{text}").map_err(CommandError::io("writing to standard output"))?;
        Ok(if refused == 0 { Exit::Done } else { Exit::CheckFailed })
    }
}

/// A bar on a terminal, else a line now and then.
enum Shown {
    Bar(ProgressBar),
    Lines { told_at: Instant },
}

impl Shown {
    fn on_standard_error(bytes: Option<u64>) -> Self {
        if !io::stderr().is_terminal() {
            return Self::Lines { told_at: Instant::now() };
        }
        let (bar, template) = match bytes {
            Some(bytes) => (ProgressBar::new(bytes), "{bar:40} {percent}%, {msg}, {eta} to go"),
            None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
        };
        Self::Bar(bar.with_style(ProgressStyle::with_template(template).expect("the template is right")))
    }

    fn show(&mut self, bytes: u64, counts: &Counts) {
        let rows = counts.all();
        match self {
            Self::Bar(bar) => {
                bar.set_position(bytes);
                bar.set_message(format!("{rows} rows"));
            }
            Self::Lines { told_at } if told_at.elapsed() >= TELL_EVERY => {
                say(&format!("{rows} rows so far, {} refused", counts.refused));
                *told_at = Instant::now();
            }
            Self::Lines { .. } => {}
        }
    }

    fn done(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{contact::ContactId, links::Why};

    fn rows(text: impl Into<Vec<u8>>) -> Rows {
        Rows::new(Path::new("-"), io::Cursor::new(text.into())).unwrap()
    }

    #[test]
    fn what_is_refused_is_told_by_its_line_and_shows_in_the_exit_code() {
        let text = "source,subject,remote_id\nshop,1,r1\nshop,2,r2\nshop,3,\nshop,4,r1\n";
        let page = Page::next(&mut rows(text)).unwrap();
        assert!(page.is_last);
        let contact = ContactId(Uuid::from_u128(7));
        let refused = vec![Refused { place: 1, why: Why::Unknown }, Refused { place: 2, why: Why::Taken(contact) }];
        for (refused, known, exit) in [(refused, 0, Exit::CheckFailed), (Vec::new(), 2, Exit::Done)] {
            let mut output = Vec::new();
            let mut report = Report::new(&mut output, Shown::Lines { told_at: Instant::now() });
            report.left_out(&page).unwrap();
            let count = refused.len();
            let imported = Imported { id: Some("l-1".to_owned()), linked: 1, known, refused };
            report.took(&page, &imported).unwrap();
            assert_eq!(report.conclude("previsto", false).unwrap(), exit);
            let output = String::from_utf8(output).unwrap();
            let told: Vec<&str> = output.lines().collect();
            assert_eq!(told.len(), count + 1, "{output}");
            if exit == Exit::CheckFailed {
                assert!(told[0].starts_with("line 3: \"shop\" \"2\": nobody is known"), "{output}");
                assert!(told[1].starts_with("line 5: ") && told[1].contains(&contact.key()), "{output}");
            }
            let summary = format!("1 rows imported, {known} known already, {count} refused, 1 without");
            assert!(told[count].contains(&summary), "{output}");
        }
    }

    #[test]
    fn a_line_that_is_no_row_is_refused_without_the_worker() {
        let page = Page::next(&mut rows("{\"source\":\"shop\",\"subject\":\"1\",\"remote_id\":\"r\"}\nann\n")).unwrap();
        let mut output = Vec::new();
        let mut report = Report::new(&mut output, Shown::Lines { told_at: Instant::now() });
        report.left_out(&page).unwrap();
        assert_eq!((page.rows.len(), report.counts.refused), (1, 1));
        assert_eq!(report.conclude("previsto", true).unwrap(), Exit::CheckFailed);
        assert!(String::from_utf8(output).unwrap().starts_with("line 2: "));
    }

    #[test]
    fn a_page_is_bounded_by_its_rows_and_their_bytes() {
        let many = "{\"source\":\"s\",\"subject\":\"1\",\"remote_id\":\"r\"}\n".repeat(ROWS_MAX + 1);
        let mut many = rows(many);
        let sizes: Vec<_> =
            (0..2).map(|_| Page::next(&mut many).unwrap()).map(|page| (page.rows.len(), page.is_last)).collect();
        assert_eq!(sizes, [(ROWS_MAX, false), (1, true)]);
        let subject = "x".repeat(60_000);
        let long = format!("{{\"source\":\"s\",\"subject\":\"{subject}\",\"remote_id\":\"r\"}}\n").repeat(6);
        assert_eq!(Page::next(&mut rows(long)).unwrap().rows.len(), ORDER_BYTES_MAX.div_ceil(60_002));
    }
}
