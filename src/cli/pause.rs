//! `pause` and `resume`: a CRM is left alone until an operator says otherwise, asked of a running worker.

use std::io::{self, Write};

use clap::Args;

use super::{CommandError, Exit, asking, client::Client, operator::Who, worker_address::WorkerAddress};
use crate::{
    config::Surroundings,
    pause::{Order, Ordered, Reply, What},
};

const PAUSE_EXAMPLES: &str = "\
Examples:
  contact-replicator pause --crm venues --reason \"moved to another server, CHG-1207\"
  contact-replicator pause --crm venues --status

Every worker follows within a moment: requests under way end, and no other is sent. Changes wait, and nothing is given up; other
CRMs are not concerned. It stays so over restarts until `resume`. What waits for longer than topics.versions_retention is lost
and needs a resync. Name and reason are told on contact-audit, and by explain: write nothing of a contact there.";

const RESUME_EXAMPLES: &str = "\
Examples:
  contact-replicator resume --crm venues
  contact-replicator resume --crm venues --reason \"the move is done\"

What waited is sent, as fast as requests_per_second of the CRM allows. A CRM that is paused for a fault resumes by itself.";

#[derive(Debug, Args)]
#[command(after_help = PAUSE_EXAMPLES)]
pub(super) struct PauseArguments {
    /// Name of the CRM, as in the settings.
    #[arg(long, value_name = "NAME")]
    crm: String,
    /// Why, for colleagues and the audit trail.
    #[arg(long, value_name = "TEXT", required_unless_present = "status")]
    reason: Option<String>,
    /// Tell whether it is paused by an operator, by whom, and why.
    #[arg(long, conflicts_with = "reason")]
    status: bool,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    worker: WorkerAddress,
}

#[derive(Debug, Args)]
#[command(after_help = RESUME_EXAMPLES)]
pub(super) struct ResumeArguments {
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

pub(super) async fn pause(arguments: PauseArguments, surroundings: Surroundings<'_>) -> Result<Exit, CommandError> {
    let PauseArguments { crm, reason, status, who, worker } = arguments;
    let what = if status { What::Status } else { What::Pause };
    ask(&Order { crm, what }, reason.as_deref(), &who, &worker, surroundings).await
}

pub(super) async fn resume(arguments: ResumeArguments, surroundings: Surroundings<'_>) -> Result<Exit, CommandError> {
    let ResumeArguments { crm, reason, who, worker } = arguments;
    ask(&Order { crm, what: What::Resume }, reason.as_deref(), &who, &worker, surroundings).await
}

async fn ask(
    order: &Order,
    reason: Option<&str>,
    who: &Who,
    worker: &WorkerAddress,
    surroundings: Surroundings<'_>,
) -> Result<Exit, CommandError> {
    let url = worker.url("/pause", surroundings)?;
    let client = Client::new(&url)?.with(worker.headers(surroundings)?).with(who.headers(reason, surroundings));
    let reply = asking::ask(&client, &url, order).await?;
    writeln!(io::stdout().lock(), "{}", words(&reply, order.what))
        .map_err(CommandError::io("writing to standard output"))?;
    Ok(Exit::Done)
}

/// What holds now, in one line.
fn words(Reply { crm, changed, ordered }: &Reply, what: What) -> String {
    let Some(Ordered { paused, by, reason, at, format: _ }) = ordered else {
        return format!("{crm} was never paused by an operator");
    };
    let already = if *paused && !changed && what == What::Pause { " already" } else { "" };
    let state = if *paused { "paused" } else { "not paused by an operator; it was resumed" };
    let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{crm} is{already} {state} at {} by {by}{reason}", at.strftime("%Y-%m-%d %H:%M:%SZ"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    enum Line {
        Pause(PauseArguments),
        Resume(ResumeArguments),
    }

    #[test]
    fn a_pause_has_a_reason_and_a_resume_may_have_one() {
        for (line, fits) in [
            (&["pause", "--crm", "a", "--reason", "r"][..], true),
            (&["pause", "--crm", "a", "--reason", "r", "--by", "ann", "--admin", "http://127.0.0.1:1"], true),
            (&["pause", "--crm", "a", "--status"], true),
            (&["resume", "--crm", "a"], true),
            (&["resume", "--crm", "a", "--reason", "r", "--admin-token-file", "f"], true),
            (&["pause", "--crm", "a"], false),
            (&["pause", "--reason", "r"], false),
            (&["pause", "--crm", "a", "--reason", "r", "--status"], false),
            (&["resume"], false),
            (&["resume", "--crm", "a", "--admin-token", "t"], false),
        ] {
            let parsed = Line::try_parse_from([&["x"], line].concat());
            assert_eq!(parsed.is_ok(), fits, "{line:?}");
        }
    }

    #[test]
    fn each_state_has_words() {
        let at = "2026-03-02T12:00:00Z".parse().unwrap();
        let ordered = |paused, reason: Option<&str>| {
            Some(Ordered { paused, by: "ann".to_owned(), reason: reason.map(str::to_owned), at, format: 1 })
        };
        for (what, changed, ordered, says) in [
            (What::Pause, true, ordered(true, Some("why")), "a is paused at 2026-03-02 12:00:00Z by ann: why"),
            (What::Pause, false, ordered(true, Some("why")), "a is already paused at 2026-03-02 12:00:00Z by ann: why"),
            (What::Status, false, ordered(true, Some("why")), "a is paused at 2026-03-02 12:00:00Z by ann: why"),
            (
                What::Resume,
                true,
                ordered(false, None),
                "a is not paused by an operator; it was resumed at 2026-03-02 12:00:00Z by ann",
            ),
            (
                What::Resume,
                false,
                ordered(false, Some("done")),
                "a is not paused by an operator; it was resumed at 2026-03-02 12:00:00Z by ann: done",
            ),
            (What::Resume, false, None, "a was never paused by an operator"),
        ] {
            assert_eq!(words(&Reply { crm: "a".into(), changed, ordered }, what), says);
        }
    }
}
