//! `resync`: contacts of a CRM are driven anew, asked of a running worker.
//!
//! With contacts named, the worker asks for these and the command is done. Without, it asks for all of them and watches; the
//! job is the installation's, not the command's, and goes on without it.
//!
//! How contacts were named is repeated on no output but where one is unknown, to whoever named it.

use std::{
    io::{self, IsTerminal, Write},
    time::Duration,
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::sleep;
use url::Url;

use super::{CommandError, Exit, asking::ask, client::Client, operator::Who, worker_address::WorkerAddress};
use crate::{
    config::Surroundings,
    explain::Asked,
    resync::{Order, Reply, What, job::Standing},
};

const EXAMPLES: &str = "\
Examples:
  contact-replicator resync --crm venues shop/4711 3f0c6a52-9b1d-8e77-a1c4-0d5b2f60c9aa
  contact-replicator resync --crm venues
  contact-replicator resync --crm venues --status
  contact-replicator resync --crm venues --stop

Contacts are named as for explain. Each is sent again as a whole, whatever it was last known to hold; what was never sent to
the CRM is left alone, and so is who was deleted before it was ever sent. The outcomes carry the cause `resync` with the id
that is printed here.

It ends with 1 if a contact is unknown, or if the resync that it watched was stopped or replaced.";

/// How often it is asked how the job stands.
const LOOK_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Name of the CRM, as in the settings.
    #[arg(long, value_name = "NAME")]
    crm: String,
    /// Contacts to drive anew, by id, or as SOURCE/SUBJECT; without any, all of them.
    #[arg(value_name = "CONTACT")]
    contacts: Vec<Named>,
    /// Tell how the last resync of all contacts stands.
    #[arg(long, conflicts_with_all = ["contacts", "restart", "stop"])]
    status: bool,
    /// Begin anew if one is under way.
    #[arg(long, conflicts_with_all = ["contacts", "stop"])]
    restart: bool,
    /// End the one under way where it is.
    #[arg(long, conflicts_with = "contacts")]
    stop: bool,
    /// Why, for the audit trail.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    worker: WorkerAddress,
}

/// How a person names a contact. It may be personal.
#[derive(Clone)]
struct Named(String);

impl std::fmt::Debug for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Named")
    }
}

impl From<&str> for Named {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Arguments {
    fn order(&self) -> Order {
        let what = match (self.status, self.stop, self.contacts.is_empty()) {
            (true, ..) => What::Status,
            (_, true, _) => What::Stop,
            (_, _, true) => What::All { restart: self.restart },
            (_, _, false) => {
                What::Contacts(self.contacts.iter().map(|Named(name)| Asked::About(name.clone())).collect())
            }
        };
        Order { crm: self.crm.clone(), what }
    }
}

pub(super) async fn run(arguments: Arguments, surroundings: Surroundings<'_>) -> Result<Exit, CommandError> {
    let url = arguments.worker.url("/resync", surroundings)?;
    let said = arguments.who.headers(arguments.reason.as_deref(), surroundings);
    let client = Client::new(&url)?.with(arguments.worker.headers(surroundings)?).with(said);
    let order = arguments.order();
    let reply = ask(&client, &url, &order).await?;
    let watched = match (&order.what, &reply) {
        (What::All { .. }, Reply::Job(Some(standing))) => Some(standing.clone()),
        (_, _) => None,
    };
    let exit = tell(&reply, &arguments, &mut io::stdout().lock())?;
    match watched {
        Some(standing) => watch(&client, &url, standing).await,
        None => Ok(exit),
    }
}

/// Says what came of the order.
fn tell(reply: &Reply, arguments: &Arguments, output: &mut impl Write) -> Result<Exit, CommandError> {
    let (text, exit) = match reply {
        Reply::Contacts { id, appended, unknown } => {
            let number = appended.len();
            let mut text = format!("{number} known contacts are driven anew in {}, cause {id}\n", arguments.crm);
            for contact in appended {
                text.push_str(&format!("  {contact}\n"));
            }
            for place in unknown {
                let named = arguments.contacts.get(*place).map_or("", |Named(name)| name);
                text.push_str(&format!("  unknown: {named:?}\n"));
            }
            (text, if unknown.is_empty() { Exit::Done } else { Exit::CheckFailed })
        }
        Reply::Job(None) => (format!("no resync of {} was ever asked for\n", arguments.crm), Exit::Done),
        Reply::Job(Some(standing)) => (format!("{}\n", words(standing)), Exit::Done),
    };
    output.write_all(text.as_bytes()).map_err(CommandError::io("writing to standard output"))?;
    Ok(exit)
}

/// How a resync stands, in one line.
fn words(standing: &Standing) -> String {
    let Standing { id, crm, asked_at, stopping, progress } = standing;
    let asked_at = asked_at.strftime("%Y-%m-%d %H:%M:%SZ");
    let state = match progress {
        None => "waits for the active resolver to take it up".to_owned(),
        Some(progress) => {
            let done = format!("{} of {} contacts", progress.appended, progress.total);
            match progress.ended {
                Some(ended) => {
                    let how = if ended.finished { "finished" } else { "stopped" };
                    format!("{how} at {}, {done}", ended.at.strftime("%Y-%m-%d %H:%M:%SZ"))
                }
                None if *stopping => format!("stops, {done}"),
                None => format!("is under way, {done}"),
            }
        }
    };
    format!("the resync of {crm} asked for at {asked_at} {state}; cause {id}")
}

/// Shows how the job stands until it ends, or nobody wants to see it any more.
async fn watch(client: &Client, url: &Url, begun: Standing) -> Result<Exit, CommandError> {
    let order = Order { crm: begun.crm.to_string(), what: What::Status };
    let mut shown = Shown::on_standard_error();
    let interrupted = tokio::signal::ctrl_c();
    tokio::pin!(interrupted);
    loop {
        tokio::select! {
            () = sleep(LOOK_EVERY) => {}
            interrupted = &mut interrupted => {
                interrupted.map_err(CommandError::io("listening for an interruption"))?;
                shown.done();
                let crm = &begun.crm;
                say(&format!("the resync goes on without this command: see --crm {crm} --status, end it with --stop"));
                return Ok(Exit::Done);
            }
        }
        let Reply::Job(Some(standing)) = ask(client, url, &order).await? else {
            return Err(CommandError::NotDone("it knows of no resync any more".into()));
        };
        if standing.id != begun.id {
            shown.done();
            say("another resync has taken the place of this one");
            return Ok(Exit::CheckFailed);
        }
        shown.show(&standing);
        if let Some(ended) = standing.ended() {
            shown.done();
            say(&words(&standing));
            return Ok(if ended.finished { Exit::Done } else { Exit::CheckFailed });
        }
    }
}

fn say(text: &str) {
    // The job does not end because nobody watches it.
    let _unwatched = writeln!(io::stderr().lock(), "{text}").is_err();
}

/// A bar on a terminal, else a line whenever something has changed.
enum Shown {
    Bar(ProgressBar),
    Lines { told: String },
}

impl Shown {
    fn on_standard_error() -> Self {
        if !io::stderr().is_terminal() {
            return Self::Lines { told: String::new() };
        }
        let style = ProgressStyle::with_template("{bar:40} {pos} of {len} contacts, {per_sec}, {eta} to go");
        Self::Bar(ProgressBar::new(0).with_style(style.expect("the template is right")))
    }

    fn show(&mut self, standing: &Standing) {
        match (self, &standing.progress) {
            (Self::Bar(bar), Some(progress)) => {
                bar.set_length(progress.total.max(progress.appended));
                bar.set_position(progress.appended);
            }
            (Self::Bar(_), None) => {}
            (Self::Lines { told }, _) => {
                let words = words(standing);
                if *told != words && standing.ended().is_none() {
                    say(&words);
                    *told = words;
                }
            }
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
    use clap::Parser;

    use super::*;
    use crate::{
        contact::ContactId,
        resync::job::{Ended, Progress},
    };

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parsed(line: &[&str]) -> Result<Arguments, clap::Error> {
        Ok(Line::try_parse_from([&["resync"], line].concat())?.arguments)
    }

    #[test]
    fn the_line_says_whom_or_all_and_what_contradicts_itself_is_refused() {
        for (line, expected) in [
            (&["--crm", "a", "shop/1", "shop/2"][..], "Contacts([Asked, Asked])"),
            (&["--crm", "a"], "All { restart: false }"),
            (&["--crm", "a", "--restart"], "All { restart: true }"),
            (&["--crm", "a", "--stop"], "Stop"),
            (&["--crm", "a", "--status", "--admin", "http://127.0.0.1:1"], "Status"),
        ] {
            assert_eq!(format!("{:?}", parsed(line).unwrap().order().what), expected, "{line:?}");
        }
        for wrong in [
            &["shop/1"][..],
            &["--crm", "a", "shop/1", "--stop"],
            &["--crm", "a", "shop/1", "--restart"],
            &["--crm", "a", "--status", "--stop"],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    fn standing(progress: Option<Progress>, stopping: bool) -> Standing {
        let asked_at = "2026-03-02T12:00:00Z".parse().unwrap();
        Standing { id: "r-1".to_owned(), crm: "venues".into(), asked_at, stopping, progress }
    }

    #[test]
    fn each_state_of_a_job_has_words() {
        let at = "2026-03-02T13:00:00Z".parse().unwrap();
        let progress = |ended| Some(Progress { total: 9, appended: 4, ended });
        for (standing, says) in [
            (standing(None, false), "waits for the active resolver"),
            (standing(progress(None), false), "is under way, 4 of 9 contacts; cause r-1"),
            (standing(progress(None), true), "stops, 4 of 9"),
            (standing(progress(Some(Ended { at, finished: false })), true), "stopped at 2026-03-02 13:00:00Z, 4 of 9"),
            (standing(progress(Some(Ended { at, finished: true })), false), "finished at"),
        ] {
            assert!(words(&standing).contains(says), "{}", words(&standing));
        }
    }

    #[test]
    fn who_is_unknown_is_named_as_asked_and_ends_with_another_code() {
        let arguments = parsed(&["--crm", "venues", "shop/1", "shop/2"]).unwrap();
        for (unknown, exit) in [(Vec::new(), Exit::Done), (vec![1], Exit::CheckFailed)] {
            let appended = vec![ContactId(uuid::Uuid::from_u128(7))];
            let reply = Reply::Contacts { id: "r-1".to_owned(), appended, unknown: unknown.clone() };
            let mut output = Vec::new();
            assert_eq!(tell(&reply, &arguments, &mut output).unwrap(), exit);
            let output = String::from_utf8(output).unwrap();
            assert!(output.contains("cause r-1"), "{output}");
            assert_eq!(output.contains("unknown: \"shop/2\""), !unknown.is_empty(), "{output}");
        }
    }
}
