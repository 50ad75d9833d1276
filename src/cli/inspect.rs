//! `inspect`: what a CRM holds, straight from the CRM.
//!
//! It takes the configuration and the credential and asks; no worker, no log and no view has a part in it, so it also serves
//! to try whether a credential may read. It changes nothing in the CRM. What a CRM holds goes to standard output and
//! nowhere else, and how a list was narrowed is not repeated either.
//!
//! Its requests come on top of those of the workers: one at a time, and no more of them than the CRM's requests_per_second.

use std::{
    collections::HashSet,
    io::{self, Read, Write},
    num::NonZeroU64,
    sync::Arc,
};

use clap::Args;

use super::{CommandError, Configured, Exit, UsageError};
use crate::{
    config::{CrmSettings, Settings, Surroundings},
    crm::{
        self,
        reference::Library,
        remote::{Caller, One, Page, ReadError, Reader, RemoteView, Walk},
        transport::Http,
    },
    replicator::Rate,
};

const EXAMPLES: &str = "\
Examples:
  contact-replicator inspect --config config/embedded.toml --crm previsto con_90a1
  contact-replicator inspect --config config/embedded.toml --crm previsto --list --limit 20
  echo 'Aarhus' | contact-replicator inspect --config config/embedded.toml --crm previsto --list --by search=-
  contact-replicator inspect --config replicator.toml --crm crm-com --view photo 7C0E5A5B9F3E4E0C8B7A11D2A90F4451
  echo 'ilka@example.com' | contact-replicator inspect --config replicator.toml --crm crm-com --list --by email_address=-
  contact-replicator inspect --config replicator.toml --crm logisense --list --view detail --limit 50

One contact is printed as the CRM tells it, as JSON; of a list, one contact a line. Where a list is longer than --limit, or
breaks off, it is said on standard error where to go on (--from).

It ends with 1 if the CRM has no such contact. Contacts of Previsto, CRM.COM and LogiSense can be read back; those of Priava and
NextInteract SAM cannot. SAM shows whoever logs in their own address, by the id of their company: a way to try the login.";

/// Longest value of --by that is read from standard input.
const VALUE_BYTES_MAX: u64 = 8 * 1024;
/// Pages of one list that have nothing new on them, one after the other, before it is taken for endless.
const STALE_PAGES_MAX: u32 = 10;

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(flatten)]
    configured: Configured,
    /// Name of the CRM, as in the settings.
    #[arg(long, value_name = "NAME")]
    crm: String,
    /// What the CRM calls the contact; `explain` tells it.
    #[arg(value_name = "REMOTE_ID", required_unless_present = "list", conflicts_with = "list")]
    remote_id: Option<String>,
    /// List contacts instead of showing one.
    #[arg(long)]
    list: bool,
    /// How the CRM is to show them, where it has several ways; an unknown name tells them all.
    #[arg(long, value_name = "NAME")]
    view: Option<String>,
    /// Narrow the list by what the CRM can search; - for standard input. An unknown key tells them all.
    #[arg(long, value_name = "KEY=VALUE|KEY=-", conflicts_with = "remote_id")]
    by: Option<String>,
    /// Contacts listed at most.
    #[arg(long, value_name = "NUMBER", default_value = "1000", conflicts_with = "remote_id")]
    limit: NonZeroU64,
    /// Go on where an earlier list said that it ended.
    #[arg(long, value_name = "PLACE", conflicts_with = "remote_id")]
    from: Option<u64>,
}

impl std::fmt::Debug for Arguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arguments").field("crm", &self.crm).field("list", &self.list).finish_non_exhaustive()
    }
}

pub(super) async fn run(arguments: Arguments, surroundings: Surroundings<'_>) -> Result<Exit, CommandError> {
    let settings = super::started(&arguments.configured, surroundings)?;
    let crm = find(&settings, &arguments.crm)?;
    let (built, caller) = caller(crm, &settings.instance)?;
    let exit = told(&arguments, crm, &built, &caller).await;
    caller.session.end(&*caller.transport).await;
    exit
}

async fn told(
    arguments: &Arguments,
    crm: &CrmSettings,
    built: &crm::Crm,
    caller: &Caller,
) -> Result<Exit, CommandError> {
    let reader = reader(built, &crm.name)?;
    let view = view(reader, arguments.view.as_deref(), arguments.list)?.name;
    let output = &mut io::stdout().lock();
    let Some(id) = &arguments.remote_id else {
        let by = by(reader, arguments.by.as_deref(), &mut io::stdin().lock())?;
        let list = List { caller, reader, view, by, limit: arguments.limit.get(), from: arguments.from };
        return list.tell(&crm.name, output, &mut io::stderr().lock()).await;
    };
    match caller.read(|references, answers| reader.one(&One { id, view, references }, answers)).await {
        Ok(held) => {
            let text = serde_json::to_string_pretty(&held.document).expect("what was JSON is JSON");
            writeln!(output, "{text}").map_err(CommandError::io("writing to standard output"))?;
            Ok(Exit::Done)
        }
        Err(error) if error.is_gone() => {
            let told = writeln!(io::stderr().lock(), "{} has no such contact", crm.name);
            told.map_err(CommandError::io("writing to standard error"))?;
            Ok(Exit::CheckFailed)
        }
        Err(source) => Err(CommandError::Unread { crm: crm.name.clone(), source: Box::new(source) }),
    }
}

fn find<'a>(settings: &'a Settings, name: &str) -> Result<&'a CrmSettings, UsageError> {
    settings.crm.iter().find(|crm| *crm.name == *name).ok_or_else(|| {
        let known: Vec<&str> = settings.crm.iter().map(|crm| &*crm.name).collect();
        UsageError(format!("there is no CRM of that name in the settings; there are: {}", known.join(", ")))
    })
}

fn caller(crm: &CrmSettings, instance: &str) -> Result<(crm::Crm, Caller), CommandError> {
    let built = crm::build(crm, instance).map_err(|source| CommandError::Crm { crm: crm.name.clone(), source })?;
    let http = Http::new(&crm.base_url, &crm.delivery);
    let http = http.map_err(|source| CommandError::Transport { crm: crm.name.clone(), source })?;
    let caller = Caller {
        session: built.session.clone(),
        transport: Arc::new(http),
        library: Arc::new(Library::new(crm.delivery.reference_age_max, crm.delivery.reference_miss_age)),
        turn: Arc::new(Rate::whole(crm.delivery.requests_per_second)),
    };
    Ok((built, caller))
}

fn reader<'a>(built: &'a crm::Crm, name: &str) -> Result<&'a dyn Reader, UsageError> {
    let reader = built.connector.shows();
    reader.map_err(|why| UsageError(format!("contacts of {name} cannot be read back: {why}; look at its own pages")))
}

/// The way in which contacts are to be shown.
fn view(reader: &dyn Reader, asked: Option<&str>, list: bool) -> Result<RemoteView, UsageError> {
    let mut fitting = reader.views().iter().filter(|view| if list { view.lists } else { view.shows_one });
    let names: Vec<String> = fitting.clone().map(|view| format!("{} ({})", view.name, view.shows)).collect();
    let found = fitting.find(|view| asked.is_none_or(|asked| asked == view.name)).copied();
    found.ok_or_else(|| {
        let what = if list { "lists" } else { "single contacts" };
        if names.is_empty() {
            return UsageError(format!("this CRM shows no {what}"));
        }
        UsageError(format!("--view is none in which this CRM shows {what}; there are: {}", names.join(", ")))
    })
}

/// What the list is narrowed by.
fn by(
    reader: &dyn Reader,
    said: Option<&str>,
    input: &mut impl Read,
) -> Result<Option<(String, String)>, CommandError> {
    let keys = || reader.keys().join(", ");
    if said.is_some() && reader.keys().is_empty() {
        return Err(UsageError("this CRM lists all contacts or none: leave out --by".into()).into());
    }
    let Some(said) = said else {
        return match reader.needs_key() {
            false => Ok(None),
            true => {
                Err(UsageError(format!("this CRM lists only what --by KEY=VALUE selects; keys are: {}", keys())).into())
            }
        };
    };
    let pair = said.split_once('=').filter(|(key, _)| reader.keys().contains(key));
    let Some((key, value)) = pair else {
        return Err(
            UsageError(format!("--by is not KEY=VALUE with a key that this CRM knows; there are: {}", keys())).into()
        );
    };
    if value != "-" {
        return Ok(Some((key.to_owned(), value.to_owned())));
    }
    let mut text = String::new();
    let reading = input.take(VALUE_BYTES_MAX).read_to_string(&mut text);
    reading.map_err(CommandError::io("reading what the list is narrowed by"))?;
    Ok(Some((key.to_owned(), text.trim().to_owned())))
}

/// What is to be listed.
struct List<'a> {
    caller: &'a Caller,
    reader: &'a dyn Reader,
    view: &'static str,
    by: Option<(String, String)>,
    limit: u64,
    from: Option<u64>,
}

impl List<'_> {
    async fn page(&self, at: Option<u64>) -> Result<Page, ReadError> {
        let by = self.by.as_ref().map(|(key, value)| (key.as_str(), value.as_str()));
        let view = self.view;
        self.caller.read(|references, answers| self.reader.page(&Walk { view, by, at, references }, answers)).await
    }

    /// Prints a line for each contact, once, however often the CRM lists it.
    async fn tell(
        &self,
        crm: &Arc<str>,
        output: &mut impl Write,
        aside: &mut impl Write,
    ) -> Result<Exit, CommandError> {
        let (mut at, mut told, mut stale) = (self.from, 0, 0);
        let mut seen: HashSet<String> = HashSet::new();
        let mut say = |text: String| writeln!(aside, "{text}").map_err(CommandError::io("writing to standard error"));
        loop {
            let page = match self.page(at).await {
                Ok(page) => page,
                Err(source) => {
                    if let Some(at) = at.filter(|_| told > 0) {
                        say(format!("{told} contacts were listed; go on with --from {at}"))?;
                    }
                    return Err(CommandError::Unread { crm: crm.clone(), source: Box::new(source) });
                }
            };
            let before = told;
            for held in &page.items {
                if held.id.as_ref().is_some_and(|id| !seen.insert(id.clone())) {
                    continue;
                }
                if told == self.limit {
                    // Some of this page were not told, so it is the one to begin with.
                    let from = at.map(|at| format!(" --from {at}")).unwrap_or_default();
                    let of = page.total.map(|total| format!(" of {total}")).unwrap_or_default();
                    say(format!("{told}{of} contacts were listed: go on with{from} and a higher --limit"))?;
                    return Ok(Exit::Done);
                }
                let line = serde_json::to_string(&held.document).expect("what was JSON is JSON");
                writeln!(output, "{line}").map_err(CommandError::io("writing to standard output"))?;
                told += 1;
            }
            let Some(next) = page.next else { return Ok(Exit::Done) };
            at = Some(next);
            stale = if told == before { stale + 1 } else { 0 };
            if stale == STALE_PAGES_MAX {
                say(format!(
                    "{STALE_PAGES_MAX} pages had nothing new: {told} contacts were listed; go on with --from {next}"
                ))?;
                return Ok(Exit::CheckFailed);
            }
        }
    }
}

#[cfg(test)]
mod kinds;
#[cfg(test)]
mod tests;
