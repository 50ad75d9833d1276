//! `links`: which contact of a CRM is which of ours, said to a running worker and told by one.
//!
//! Files hold what sources and CRMs call people. They are read and written on the machine of whoever has them, and go to a
//! worker of that machine. Of a row that is refused, the line is told, and the row to whoever gave it.

mod export;
mod import;
mod rows;

use std::io::{self, Write};

use clap::{Args, Subcommand};

use super::{CommandError, Exit, asking::ask, client::Client, operator::Who, worker_address::WorkerAddress};
use crate::{
    config::Surroundings,
    explain::Asked,
    links::{Order, Reply, To, What},
};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Import what a CRM calls the contacts of sources, while it is in shadow.
    Import(import::Arguments),
    /// Write what a CRM calls our contacts, in a form that import takes.
    Export(export::Arguments),
    /// Say which contact of a CRM one of ours is, and drive it anew.
    ///
    /// For a contact whose outcome was ambiguous_match: a search found several, or there was nothing to search by.
    Set(SetArguments),
}

const SET_EXAMPLES: &str = "\
Examples:
  contact-replicator links set shop/4711 --crm previsto --remote con_90a1
  contact-replicator links set 3f0c6a52-9b1d-8e77-a1c4-0d5b2f60c9aa --crm previsto --create

The contact is named as for explain. The outcome carries the cause `link` with the id that is printed here. It ends with 3 if
another contact has the remote id: that one is named, and has to get another first.";

#[derive(Debug, Args)]
#[command(after_help = SET_EXAMPLES)]
struct SetArguments {
    /// The contact, by id, or as SOURCE/SUBJECT.
    #[arg(value_name = "CONTACT")]
    contact: String,
    /// Name of the CRM, as in the settings.
    #[arg(long, value_name = "NAME")]
    crm: String,
    /// What the CRM calls it: its id there, or the external id that it has.
    #[arg(long, value_name = "ID", required_unless_present = "create", conflicts_with = "create")]
    remote: Option<String>,
    /// None of those in the CRM is this contact: create it, without another search.
    #[arg(long)]
    create: bool,
    /// Why, for the audit trail.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    worker: WorkerAddress,
}

pub(super) async fn run(arguments: Arguments, surroundings: Surroundings<'_>) -> Result<Exit, CommandError> {
    match arguments.command {
        Command::Import(arguments) => import::run(&arguments, surroundings).await,
        Command::Export(arguments) => export::run(&arguments, surroundings).await,
        Command::Set(arguments) => set(arguments, surroundings).await,
    }
}

async fn set(arguments: SetArguments, surroundings: Surroundings<'_>) -> Result<Exit, CommandError> {
    let url = arguments.worker.url("/links", surroundings)?;
    let order = order_to_set(&arguments);
    let said = arguments.who.headers(arguments.reason.as_deref(), surroundings);
    let client = Client::new(&url)?.with(arguments.worker.headers(surroundings)?).with(said);
    let Reply::Set { id, contact } = ask(&client, &url, &order).await? else {
        return Err(CommandError::NotDone("its reply belongs to another question".into()));
    };
    writeln!(io::stdout().lock(), "contact {contact} is driven anew in {}, cause {id}", order.crm)
        .map_err(CommandError::io("writing to standard output"))?;
    Ok(Exit::Done)
}

fn order_to_set(SetArguments { contact, crm, remote, .. }: &SetArguments) -> Order {
    let to = remote.clone().map_or(To::New, To::Remote);
    Order { crm: crm.clone(), what: What::Set { contact: Asked::About(contact.clone()), to } }
}

fn say(text: &str) {
    // What was asked for is done although nobody reads of it.
    let _unread = writeln!(io::stderr().lock(), "{text}").is_err();
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parsed(line: &[&str]) -> Result<Command, clap::Error> {
        Ok(Line::try_parse_from([&["links"], line].concat())?.arguments.command)
    }

    #[test]
    fn a_contact_is_set_to_one_of_the_crm_or_to_a_new_one() {
        for (line, expected) in [
            (&["set", "shop/1", "--crm", "a", "--remote", "7"][..], To::Remote("7".to_owned())),
            (&["set", "shop/1", "--crm", "a", "--create", "--admin", "http://127.0.0.1:1"], To::New),
        ] {
            let Command::Set(arguments) = parsed(line).unwrap() else { panic!("{line:?}") };
            let What::Set { to, .. } = order_to_set(&arguments).what else { panic!("{line:?}") };
            assert_eq!(to, expected);
        }
        for wrong in [
            &["set", "shop/1", "--crm", "a"][..],
            &["set", "--crm", "a", "--create"],
            &["set", "shop/1", "--create"],
            &["set", "shop/1", "--crm", "a", "--create", "--remote", "7"],
            &["import", "--crm", "a"],
            &["export", "a.csv"],
            &["export", "--crm", "a", "--format", "xml"],
            &[],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }
}
