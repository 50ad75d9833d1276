//! `verify`: what a CRM holds, compared with the records by a running worker.
//!
//! The worker reads and compares as long as this command listens; where and why is told in [`verify`](crate::verify). What
//! differs is printed as it is found: ids and names of fields, never a value. With --repair, contacts that differ are then
//! driven anew, by the machinery of `resync`.

use std::io::{self, IsTerminal, Write};

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    CommandError, Exit, UsageError, asking,
    client::{Client, Lines},
    explain::sentence,
    operator::Who,
    worker_address::WorkerAddress,
};
use crate::{
    config::Surroundings,
    contact::ContactId,
    explain::Asked,
    resync::{CONTACTS_MAX, Order as Resync, Reply, What},
    verify::{Counts, Finding, Found, Line, Order, Whom},
};

const EXAMPLES: &str = "\
Examples:
  contact-replicator verify --crm previsto
  contact-replicator verify --crm previsto --sample 2000 --repair
  contact-replicator verify --crm previsto --all > drift.txt

Each contact whose newest version the CRM has taken is read back and compared. A line is printed for each that differs (its id,
its id in the CRM, the names of the fields), that is gone, or that could not be read. It goes at verify_contacts_per_second of
the CRM, within requests_per_second of the worker that is asked, and rests while the CRM is paused. Ctrl-C ends it.

With --repair, what differs or is gone is driven anew, as by resync; verify again when the outcomes are there.

It ends with 1 if anything differs, is gone, or could not be read, repaired or not. Contacts of Previsto, CRM.COM and LogiSense
are compared; those of Priava and NextInteract SAM cannot be read back.";

/// Who is compared if nobody says.
const SAMPLE: u64 = 100;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Name of the CRM, as in the settings.
    #[arg(long, value_name = "NAME")]
    crm: String,
    /// Compare so many contacts, by chance, up to 100000; without --all, 100.
    #[arg(long, value_name = "NUMBER", conflicts_with = "all")]
    sample: Option<u64>,
    /// Compare all contacts.
    #[arg(long)]
    all: bool,
    /// Drive anew what differs or is gone.
    #[arg(long)]
    repair: bool,
    /// Why, for the audit trail of --repair.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    worker: WorkerAddress,
}

impl Arguments {
    fn order(&self) -> Order {
        let whom = if self.all { Whom::All } else { Whom::Sample(self.sample.unwrap_or(SAMPLE)) };
        Order { crm: self.crm.clone(), whom }
    }
}

pub(super) async fn run(arguments: Arguments, surroundings: Surroundings<'_>) -> Result<Exit, CommandError> {
    let url = arguments.worker.url("/verify", surroundings)?;
    let repairs = arguments.worker.url("/resync", surroundings)?;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = serde_json::to_vec(&arguments.order()).expect("an order is made of what JSON can express");
    let token = arguments.worker.headers(surroundings)?;
    let answer = Client::for_lines(&url)?.with(token.clone()).post_for_lines(&url, headers, Bytes::from(body)).await?;
    let lines = match answer {
        Ok(lines) => lines,
        Err(refused) => return Err(refusal(refused.status, &refused.body)),
    };
    let interrupted = tokio::signal::ctrl_c();
    let mut report = Report::new(io::stdout(), Bar::on_standard_error());
    let ended = tokio::select! {
        ended = follow(lines, &mut report) => ended,
        interrupted = interrupted => {
            let heard = interrupted.map_err(CommandError::io("listening for an interruption"));
            heard.and(Err(CommandError::NotVerified("it was interrupted before all were compared".into())))
        }
    };
    // What was found is mended also if the rest could not be seen.
    let to_mend = report.conclude()?;
    if arguments.repair {
        let said = arguments.who.headers(arguments.reason.as_deref(), surroundings);
        let client = Client::new(&repairs)?.with(token).with(said);
        mend(&client, &repairs, &arguments.crm, &to_mend).await?;
    }
    ended?;
    Ok(report.exit())
}

fn refusal(status: StatusCode, body: &[u8]) -> CommandError {
    match status {
        StatusCode::BAD_REQUEST => UsageError(sentence(status, body)).into(),
        StatusCode::NOT_FOUND => CommandError::NotVerified("it is no worker, or one of an older release".into()),
        _ => CommandError::NotVerified(sentence(status, body)),
    }
}

/// Takes line after line until the worker says that it is done.
async fn follow<W: Write>(mut lines: Lines, report: &mut Report<W>) -> Result<(), CommandError> {
    while let Some(text) = lines.next().await? {
        if text.is_empty() {
            continue;
        }
        let line = serde_json::from_slice(&text).map_err(|_unknown| {
            CommandError::NotVerified("it is one of another release: ask with the program that it runs".into())
        })?;
        if report.take(line)? {
            return Ok(());
        }
    }
    Err(CommandError::NotVerified("it broke off before it was done: see its log, and verify again".into()))
}

async fn mend(client: &Client, url: &url::Url, crm: &str, contacts: &[ContactId]) -> Result<(), CommandError> {
    for some in contacts.chunks(CONTACTS_MAX) {
        let named = some.iter().map(|contact| Asked::About(contact.to_string())).collect();
        let order = Resync { crm: crm.to_owned(), what: What::Repair(named) };
        let Reply::Contacts { id, appended, .. } = asking::ask(client, url, &order).await? else {
            return Err(CommandError::NotDone("its reply belongs to another question".into()));
        };
        say(&format!("{} contacts are driven anew in {crm}, cause {id}", appended.len()));
    }
    Ok(())
}

fn say(text: &str) {
    // What was asked for is done although nobody reads of it.
    let _unread = writeln!(io::stderr().lock(), "{text}").is_err();
}

/// What was found, and how far it is.
struct Report<W> {
    output: W,
    bar: Option<Bar>,
    counts: Counts,
    to_mend: Vec<ContactId>,
}

impl<W: Write> Report<W> {
    fn new(output: W, bar: Option<Bar>) -> Self {
        Self { output, bar, counts: Counts::default(), to_mend: Vec::new() }
    }

    /// Returns whether that was the last line.
    fn take(&mut self, line: Line) -> Result<bool, CommandError> {
        match line {
            Line::Begun { contacts } => {
                if let Some(Bar(bar)) = &self.bar {
                    bar.set_length(contacts);
                }
            }
            Line::Found(finding) => self.found(&finding)?,
            Line::Progress { counts, waits } => {
                self.counts = counts;
                if let Some(Bar(bar)) = &self.bar {
                    bar.set_position(counts.looked_at);
                    bar.set_message(if waits { "waits for the CRM" } else { "" });
                }
            }
            Line::Ended(counts) => {
                self.counts = counts;
                return Ok(true);
            }
            Line::Failed { why, counts } => {
                self.counts = counts;
                return Err(CommandError::NotVerified(why));
            }
        }
        Ok(false)
    }

    fn found(&mut self, Finding { contact, remote_id, what }: &Finding) -> Result<(), CommandError> {
        let text = match what {
            Found::Drifted(fields) => {
                let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
                format!("differs     {contact}  {remote_id}  {}", fields.join(", "))
            }
            Found::Gone => format!("gone        {contact}  {remote_id}"),
            Found::Unreadable { why } => format!("unreadable  {contact}  {remote_id}  {why}"),
        };
        if matches!(what, Found::Drifted(_) | Found::Gone) {
            self.to_mend.push(*contact);
        }
        let output = &mut self.output;
        let mut write = move || writeln!(output, "{text}");
        match &self.bar {
            Some(Bar(bar)) => bar.suspend(write),
            None => write(),
        }
        .map_err(CommandError::io("writing to standard output"))
    }

    /// Says what came of it all; returns who is to be driven anew.
    fn conclude(&mut self) -> Result<Vec<ContactId>, CommandError> {
        if let Some(Bar(bar)) = self.bar.take() {
            bar.finish_and_clear();
        }
        writeln!(self.output, "{}", words(&self.counts)).map_err(CommandError::io("writing to standard output"))?;
        Ok(std::mem::take(&mut self.to_mend))
    }

    fn exit(&self) -> Exit {
        if self.counts.is_clean() { Exit::Done } else { Exit::CheckFailed }
    }
}

fn words(counts: &Counts) -> String {
    let Counts { looked_at, equal, drifted, gone, unreadable, unlinked, unsettled, exempt } = counts;
    format!(
        "{looked_at} contacts: {equal} equal, {drifted} differ, {gone} gone, {unreadable} unreadable; not compared: \
         {unsettled} whose newest version the CRM has not taken, {unlinked} not in the CRM, {exempt} kept from it"
    )
}

/// How far it is, on a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn on_standard_error() -> Option<Self> {
        if !io::stderr().is_terminal() {
            return None;
        }
        let style = ProgressStyle::with_template("{bar:40} {pos} of {len} contacts, {per_sec}, {eta} to go {msg}");
        Some(Self(ProgressBar::new(0).with_style(style.expect("the template is right"))))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use uuid::Uuid;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parsed(line: &[&str]) -> Result<Arguments, clap::Error> {
        Ok(CommandLine::try_parse_from([&["verify"], line].concat())?.arguments)
    }

    #[test]
    fn the_line_says_how_many_and_what_contradicts_itself_is_refused() {
        for (line, whom) in [
            (&["--crm", "a"][..], Whom::Sample(SAMPLE)),
            (&["--crm", "a", "--sample", "7", "--repair"], Whom::Sample(7)),
            (&["--crm", "a", "--all", "--admin", "http://127.0.0.1:1"], Whom::All),
        ] {
            assert_eq!(parsed(line).unwrap().order().whom, whom, "{line:?}");
        }
        for wrong in [&["--all"][..], &["--crm", "a", "--all", "--sample", "7"], &["--crm", "a", "--sample", "some"]] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    fn contact(number: u128) -> ContactId {
        ContactId(Uuid::from_u128(number))
    }

    fn finding(number: u128, what: Found) -> Line {
        Line::Found(Finding { contact: contact(number), remote_id: format!("con_{number}"), what })
    }

    #[test]
    fn what_is_found_is_printed_and_what_can_be_mended_is_remembered() {
        let mut report = Report::new(Vec::new(), None);
        assert!(!report.take(Line::Begun { contacts: 4 }).unwrap());
        let fields = ["email", "phone"].map(str::to_owned).into();
        report.take(finding(1, Found::Drifted(fields))).unwrap();
        report.take(finding(2, Found::Gone)).unwrap();
        report.take(finding(3, Found::Unreadable { why: "HTTP 500".to_owned() })).unwrap();
        let counts = Counts { looked_at: 4, equal: 1, drifted: 1, gone: 1, unreadable: 1, ..Counts::default() };
        assert!(report.take(Line::Ended(counts)).unwrap());
        assert_eq!(report.conclude().unwrap(), [contact(1), contact(2)]);
        assert_eq!(report.exit(), Exit::CheckFailed);
        let output = String::from_utf8(report.output).unwrap();
        let ends: Vec<&str> = output.lines().collect();
        assert!(ends[0].starts_with("differs") && ends[0].ends_with("con_1  email, phone"), "{output}");
        assert!(ends[1].starts_with("gone") && ends[2].starts_with("unreadable"), "{output}");
        assert!(ends[3].starts_with("4 contacts: 1 equal, 1 differ, 1 gone, 1 unreadable"), "{output}");
    }

    #[test]
    fn anything_amiss_shows_in_the_exit_code() {
        let clean = Counts { looked_at: 3, equal: 1, unlinked: 1, unsettled: 1, ..Counts::default() };
        for (counts, exit) in [
            (clean, Exit::Done),
            (Counts { drifted: 1, ..clean }, Exit::CheckFailed),
            (Counts { gone: 1, ..clean }, Exit::CheckFailed),
            (Counts { unreadable: 1, ..clean }, Exit::CheckFailed),
        ] {
            let mut report = Report::new(Vec::new(), None);
            report.take(Line::Ended(counts)).unwrap();
            assert_eq!(report.exit(), exit, "{counts:?}");
        }
    }

    #[test]
    fn what_is_no_report_is_an_error_that_repeats_what_the_worker_said() {
        for (status, body, exit, says) in [
            (409, "it is being compared\n", Exit::Failed, "being compared"),
            (400, "it cannot be read\n", Exit::Usage, "cannot be read"),
            (404, "", Exit::Failed, "older release"),
        ] {
            let error = refusal(StatusCode::from_u16(status).unwrap(), body.as_bytes());
            assert_eq!(error.exit(), exit, "{status}");
            assert!(error.to_string().contains(says), "{error}");
        }
        let mut report = Report::new(Vec::new(), None);
        let failed = Line::Failed { why: "the worker stops".to_owned(), counts: Counts::default() };
        assert_eq!(report.take(failed).unwrap_err().exit(), Exit::Failed);
    }
}
