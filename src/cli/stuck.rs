//! `retry` and `skip`: contacts that are stuck in a CRM are tried now, or what waits of them is given up.
//!
//! How contacts were named is repeated on no output but where one is unknown, to whoever named it.

use std::io::{self, IsTerminal, Write};

use clap::{ArgGroup, Args};
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    CommandError, Exit,
    asking::{Told, ask, follow},
    client::Client,
    operator::Who,
    worker_address::WorkerAddress,
};
use crate::{
    config::Surroundings,
    event::{OutcomeKind, ReasonCode},
    explain::Asked,
    stuck::{
        Order, Reply,
        all::{self, Line, Stuck},
    },
};

const RETRY_EXAMPLES: &str = "\
Examples:
  contact-replicator retry shop/4711 --crm venues
  contact-replicator retry --all-parked --crm venues --reason \"their database is back\"
  contact-replicator retry --all-rejected --code invalid_field --crm venues --dry-run
  contact-replicator retry --all-rejected --code invalid_field --crm venues

Contacts are named as for explain. Each is sent its newest version as a whole, at once or, where the CRM is paused, once it takes
requests again. All of them go at resync_contacts_per_second of the CRM; to end that early, interrupt the command. The outcomes
carry the cause `retry` with the id that is printed here.

It ends with 1 if a contact is unknown.";

const SKIP_EXAMPLES: &str = "\
Examples:
  contact-replicator skip shop/4711 --crm venues --reason \"they merged it by hand\"

Contacts are named as for explain. What waits of each, parked or not, up to the version that it has now, is answered `filtered`,
`skipped`; its next version is tried as ever. A request that is under way is waited for: what it delivers is not skipped. The
outcome of the skip itself carries the cause `skip` with the id that is printed here, and says nothing_waiting where nothing
was left to give up.

It ends with 1 if a contact is unknown.";

#[derive(Debug, Args)]
#[command(after_help = RETRY_EXAMPLES)]
#[command(group(ArgGroup::new("whom").required(true).args(["contacts", "all_parked", "all_rejected"])))]
pub(super) struct RetryArguments {
    /// Contacts to try now, by id, or as SOURCE/SUBJECT.
    #[arg(value_name = "CONTACT")]
    contacts: Vec<Named>,
    /// Every contact that is parked.
    #[arg(long)]
    all_parked: bool,
    /// Every contact whose last version was rejected.
    #[arg(long)]
    all_rejected: bool,
    /// Of those, the ones that were rejected with this code.
    #[arg(long, value_name = "CODE", requires = "all_rejected",
        conflicts_with_all = ["contacts", "all_parked"], value_parser = rejection)]
    code: Option<ReasonCode>,
    /// Only count whom it would concern.
    #[arg(long, conflicts_with = "contacts")]
    dry_run: bool,
    /// Name of the CRM, as in the settings.
    #[arg(long, value_name = "NAME")]
    crm: String,
    /// Why, for the audit trail.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    worker: WorkerAddress,
}

#[derive(Debug, Args)]
#[command(after_help = SKIP_EXAMPLES)]
pub(super) struct SkipArguments {
    /// Contacts of which to give up what waits, by id, or as SOURCE/SUBJECT.
    #[arg(value_name = "CONTACT", required = true)]
    contacts: Vec<Named>,
    /// Name of the CRM, as in the settings.
    #[arg(long, value_name = "NAME")]
    crm: String,
    /// Why, for the audit trail.
    #[arg(long, value_name = "TEXT")]
    reason: String,
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

/// A code that a rejected version may have.
fn rejection(text: &str) -> Result<ReasonCode, String> {
    let codes = OutcomeKind::Rejected.codes();
    codes.iter().copied().find(|code| code.as_str() == text).ok_or_else(|| {
        let known: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
        format!("a rejected version has one of the codes {}", known.join(", "))
    })
}

impl RetryArguments {
    fn whom(&self) -> Option<Stuck> {
        match (self.all_parked, self.all_rejected) {
            (true, _) => Some(Stuck::Parked),
            (_, true) => Some(Stuck::Rejected(self.code)),
            (false, false) => None,
        }
    }
}

pub(super) async fn retry(arguments: RetryArguments, surroundings: Surroundings<'_>) -> Result<Exit, CommandError> {
    let said = arguments.who.headers(arguments.reason.as_deref(), surroundings);
    let shown = arguments.worker.headers(surroundings)?;
    let crm = arguments.crm.clone();
    let Some(whom) = arguments.whom() else {
        let url = arguments.worker.url("/retry", surroundings)?;
        let client = Client::new(&url)?.with(shown).with(said);
        let reply = ask(&client, &url, &order(&crm, &arguments.contacts)).await?;
        return tell(&reply, &arguments.contacts, &format!("are tried now in {crm}"), &mut io::stdout().lock());
    };
    let url = arguments.worker.url("/retry/all", surroundings)?;
    let client = Client::for_lines(&url)?.with(shown).with(said);
    let order = all::Order { crm, whom, dry_run: arguments.dry_run };
    watch(follow(&client, &url, &order).await?, &order).await
}

pub(super) async fn skip(arguments: SkipArguments, surroundings: Surroundings<'_>) -> Result<Exit, CommandError> {
    let url = arguments.worker.url("/skip", surroundings)?;
    let said = arguments.who.headers(Some(&arguments.reason), surroundings);
    let client = Client::new(&url)?.with(arguments.worker.headers(surroundings)?).with(said);
    let reply = ask(&client, &url, &order(&arguments.crm, &arguments.contacts)).await?;
    let done = format!("have what waits given up in {}", arguments.crm);
    tell(&reply, &arguments.contacts, &done, &mut io::stdout().lock())
}

fn order(crm: &str, contacts: &[Named]) -> Order {
    let contacts = contacts.iter().map(|Named(name)| Asked::About(name.clone())).collect();
    Order { crm: crm.to_owned(), contacts }
}

fn tell(reply: &Reply, named: &[Named], done: &str, output: &mut impl Write) -> Result<Exit, CommandError> {
    let Reply { id, appended, unknown } = reply;
    let mut text = format!("{} known contacts {done}, cause {id}\n", appended.len());
    for contact in appended {
        text.push_str(&format!("  {contact}\n"));
    }
    for place in unknown {
        let named = named.get(*place).map_or("", |Named(name)| name);
        text.push_str(&format!("  unknown: {named:?}\n"));
    }
    output.write_all(text.as_bytes()).map_err(CommandError::io("writing to standard output"))?;
    Ok(if unknown.is_empty() { Exit::Done } else { Exit::CheckFailed })
}

/// Shows how far it is until it ends.
async fn watch(mut told: Told, order: &all::Order) -> Result<Exit, CommandError> {
    let bar = bar_on_standard_error();
    let mut cause = String::new();
    loop {
        match told.next().await? {
            Line::Begun { contacts, id } => {
                bar.set_length(contacts);
                cause = id;
            }
            Line::Progress { looked_at, stuck } => {
                bar.set_position(looked_at);
                bar.set_message(format!("{stuck} of them"));
            }
            Line::Ended { stuck } => {
                bar.finish_and_clear();
                let text = words(order, stuck, &cause);
                writeln!(io::stdout().lock(), "{text}").map_err(CommandError::io("writing to standard output"))?;
                return Ok(Exit::Done);
            }
            Line::Failed { why, stuck } => {
                bar.finish_and_clear();
                return Err(CommandError::NotDone(format!("{why}; {stuck} contacts were asked for")));
            }
        }
    }
}

fn words(order: &all::Order, stuck: u64, cause: &str) -> String {
    let what = match order.whom {
        Stuck::Parked => "parked".to_owned(),
        Stuck::Rejected(None) => "rejected".to_owned(),
        Stuck::Rejected(Some(code)) => format!("rejected as {code}"),
    };
    let crm = &order.crm;
    match order.dry_run {
        true => format!("{stuck} contacts of {crm} are {what}, and would be tried now"),
        false => format!("{stuck} contacts of {crm} that were {what} are tried now, cause {cause}"),
    }
}

fn bar_on_standard_error() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} contacts looked at, {msg}, {eta} to go");
    ProgressBar::new(0).with_style(style.expect("the template is right"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::contact::ContactId;

    #[derive(Parser)]
    struct Retry {
        #[command(flatten)]
        arguments: RetryArguments,
    }

    #[derive(Parser)]
    struct Skip {
        #[command(flatten)]
        arguments: SkipArguments,
    }

    #[test]
    fn the_line_says_whom_to_retry_and_what_contradicts_itself_is_refused() {
        let whom = |line: &[&str]| Ok(Retry::try_parse_from([&["retry"], line].concat())?.arguments.whom());
        let rejected = Stuck::Rejected(Some(ReasonCode::InvalidField));
        for (line, expected) in [
            (&["--crm", "a", "shop/1", "shop/2"][..], None),
            (&["--crm", "a", "--all-parked", "--dry-run"], Some(Stuck::Parked)),
            (&["--crm", "a", "--all-rejected"], Some(Stuck::Rejected(None))),
            (&["--crm", "a", "--all-rejected", "--code", "invalid_field"], Some(rejected)),
        ] {
            let parsed: Result<_, clap::Error> = whom(line);
            assert_eq!(parsed.unwrap(), expected, "{line:?}");
        }
        for wrong in [
            &["--crm", "a"][..],
            &["shop/1"],
            &["--crm", "a", "shop/1", "--all-parked"],
            &["--crm", "a", "--all-parked", "--all-rejected"],
            &["--crm", "a", "--all-parked", "--code", "conflict"],
            &["--crm", "a", "--all-rejected", "--code", "not_json"],
            &["--crm", "a", "shop/1", "--dry-run"],
        ] {
            assert!(whom(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn nothing_is_skipped_without_a_contact_and_a_reason() {
        let parsed = |line: &[&str]| Skip::try_parse_from([&["skip"], line].concat());
        assert!(parsed(&["shop/1", "--crm", "a", "--reason", "gone there"]).is_ok());
        for wrong in [&["shop/1", "--crm", "a"][..], &["--crm", "a", "--reason", "x"], &["shop/1", "--reason", "x"]] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn who_is_unknown_is_named_as_asked_and_ends_with_another_code() {
        let named = ["shop/1", "shop/2"].map(Named::from);
        for (unknown, exit) in [(Vec::new(), Exit::Done), (vec![1], Exit::CheckFailed)] {
            let appended = vec![ContactId(uuid::Uuid::from_u128(7))];
            let reply = Reply { id: "r-1".to_owned(), appended, unknown: unknown.clone() };
            let mut output = Vec::new();
            assert_eq!(tell(&reply, &named, "are tried now in venues", &mut output).unwrap(), exit);
            let output = String::from_utf8(output).unwrap();
            assert!(output.contains("1 known contacts are tried now in venues, cause r-1"), "{output}");
            assert_eq!(output.contains("unknown: \"shop/2\""), !unknown.is_empty(), "{output}");
        }
    }
}
