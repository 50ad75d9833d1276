//! `status`: how workers stand, asked of the workers themselves.
//!
//! One page on a terminal, asked anew as long as somebody looks; printed once for a script, which reads the exit code. Whatever a
//! worker is asked for changes nothing, and a worker that does not answer is part of the answer: the others are told all the same.

mod terminal;

use std::{
    io::{self, IsTerminal, Write},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use futures::future::join_all;
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use url::Url;

use super::{
    CommandError, Exit,
    client::{Answer, Client},
    explain::sentence,
    worker_address::WorkerAddress,
};
use crate::{
    config::Surroundings,
    status::{
        CrmState, FORMAT, Total, WorkerStatus, totals,
        words::{self, Asked},
    },
    telemetry,
};

const EXAMPLES: &str = "\
Examples:
  contact-replicator status
  contact-replicator status --config config/kafka.toml --once
  contact-replicator status --admin http://127.0.0.1:9464 --admin http://127.0.0.1:9465
  contact-replicator status --json | jq '.workers[].status.crms[] | select(.state == \"paused\")'

On a terminal the page is kept up to date until q or Ctrl-C; elsewhere it is printed once. Several workers are also added up,
and what none of them owns is named.

It ends with 1 if a worker that was asked did not answer, or has a part that is not ready; with --strict also if a CRM is paused
by one of them. A CRM that is down is no fault of a worker, and restarting it would not help. A page that was watched ends with 0.";

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// A worker that takes longer does not answer.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Address of a worker's health and metrics, may be given several times; without it, admin.listen of the settings.
    #[arg(long, value_name = "URL")]
    admin: Vec<String>,
    /// File of settings, for admin.listen; without it, the default of that key.
    #[arg(long, value_name = "FILE", conflicts_with = "admin")]
    config: Option<PathBuf>,
    /// File with the workers' admin token; without it, the variable CONTACT_REPLICATOR_ADMIN_TOKEN, or that of --config.
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// Print it once, on a terminal too.
    #[arg(long, conflicts_with = "watch")]
    once: bool,
    /// Go on where there is no terminal, too: print it again every 2 seconds.
    #[arg(long)]
    watch: bool,
    /// Print JSON, one line for each look: what each worker said, and the sums.
    #[arg(long)]
    json: bool,
    /// End with 1 while a CRM is paused, too.
    #[arg(long)]
    strict: bool,
}

/// A worker, and how to ask it.
struct Worker {
    admin: String,
    url: Url,
    client: Client,
}

/// What a worker said: as it is read, and as it came.
struct Found {
    asked: Asked,
    raw: Option<Value>,
}

pub(super) async fn run(arguments: Arguments, surroundings: Surroundings<'_>) -> Result<Exit, CommandError> {
    let workers = workers(&arguments, surroundings)?;
    let interactive = io::stdout().is_terminal() && io::stdin().is_terminal();
    if interactive && !arguments.once && !arguments.json {
        return terminal::watch(&workers, telemetry::colour_is_welcome(surroundings)).await;
    }
    let coloured = io::stdout().is_terminal() && telemetry::colour_is_welcome(surroundings);
    loop {
        let found = look(&workers).await;
        print(&found, &arguments, coloured, &mut io::stdout().lock())?;
        if !arguments.watch {
            return Ok(verdict(&found, arguments.strict));
        }
        tokio::select! {
            () = sleep(EVERY) => {}
            interrupted = tokio::signal::ctrl_c() => {
                interrupted.map_err(CommandError::io("listening for an interruption"))?;
                return Ok(Exit::Done);
            }
        }
    }
}

fn workers(arguments: &Arguments, surroundings: Surroundings<'_>) -> Result<Vec<Worker>, CommandError> {
    let token = &arguments.admin_token_file;
    let addresses = match arguments.admin.as_slice() {
        [] => vec![WorkerAddress::of(None, arguments.config.clone(), token.clone())],
        named => named.iter().map(|admin| WorkerAddress::of(Some(admin.clone()), None, token.clone())).collect(),
    };
    let worker = |address: WorkerAddress| {
        let url = address.url("/status", surroundings)?;
        Ok(Worker {
            admin: url.origin().ascii_serialization(),
            client: Client::new(&url)?.with(address.headers(surroundings)?),
            url,
        })
    };
    addresses.into_iter().map(worker).collect()
}

/// Asks all of them at once.
async fn look(workers: &[Worker]) -> Vec<Found> {
    join_all(workers.iter().map(Worker::ask)).await
}

impl Worker {
    async fn ask(&self) -> Found {
        let answer = match timeout(ANSWER_DEADLINE, self.client.get(&self.url)).await {
            Ok(Ok(answer)) => understood(&answer),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_elapsed) => Err(format!("it did not answer within {} s", ANSWER_DEADLINE.as_secs())),
        };
        let (raw, answer) = match answer {
            Ok((raw, status)) => (Some(raw), Ok(status)),
            Err(why) => (None, Err(why)),
        };
        Found { asked: Asked { admin: self.admin.clone(), answer }, raw }
    }
}

fn understood(answer: &Answer) -> Result<(Value, WorkerStatus), String> {
    let another = || "it is no worker, or one of another release: ask with the program that it runs".to_owned();
    match answer.status {
        StatusCode::OK => {
            let raw: Value = serde_json::from_slice(&answer.body).map_err(|_unknown| another())?;
            if raw.get("format").and_then(Value::as_u64).is_none_or(|format| format > FORMAT.into()) {
                return Err(another());
            }
            let status = serde_json::from_value(raw.clone()).map_err(|_unknown| another())?;
            Ok((raw, status))
        }
        StatusCode::NOT_FOUND => Err(another()),
        status => Err(sentence(status, &answer.body)),
    }
}

/// What is printed with `--json`.
#[derive(Serialize)]
struct Told<'a> {
    workers: Vec<ToldWorker<'a>>,
    /// Each CRM, over all workers that answered.
    crms: Vec<Total>,
}

#[derive(Serialize)]
struct ToldWorker<'a> {
    admin: &'a str,
    /// As the worker told it.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a Value>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
}

fn print(found: &[Found], arguments: &Arguments, coloured: bool, output: &mut impl Write) -> Result<(), CommandError> {
    let mut text = if arguments.json { json(found) } else { page(found, coloured) };
    if arguments.watch && !arguments.json {
        text.push('\n');
    }
    output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
        .map_err(CommandError::io("writing to standard output"))
}

fn told_worker(found: &Found) -> ToldWorker<'_> {
    let Found { asked, raw } = found;
    let problem = asked.answer.as_ref().err().map(String::as_str);
    ToldWorker { admin: &asked.admin, status: raw.as_ref(), problem }
}

fn json(found: &[Found]) -> String {
    let told = Told {
        workers: found.iter().map(told_worker).collect(),
        crms: totals(found.iter().filter_map(|found| found.asked.answer.as_ref().ok())),
    };
    let text = serde_json::to_string(&told).expect("a status is made of what JSON can express");
    format!("{text}\n")
}

fn page(found: &[Found], coloured: bool) -> String {
    let asked: Vec<Asked> = found.iter().map(|found| found.asked.clone()).collect();
    words::told(&asked).iter().flat_map(|line| line.painted(None, coloured)).map(|line| line + "\n").collect()
}

fn verdict(found: &[Found], strict: bool) -> Exit {
    let is_well = |found: &Found| match &found.asked.answer {
        Ok(status) => {
            let is_paused = status.crms.iter().any(|crm| crm.state == CrmState::Paused);
            status.ready && !(strict && is_paused)
        }
        Err(_) => false,
    };
    if found.iter().all(is_well) { Exit::Done } else { Exit::CheckFailed }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use clap::Parser;
    use http::HeaderMap;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parsed(line: &[&str]) -> Result<Arguments, clap::Error> {
        Ok(Line::try_parse_from([&["status"], line].concat())?.arguments)
    }

    fn status(ready: bool, crms: Value) -> Value {
        json!({
            "format": 1, "worker": "w0", "instance": "trial", "build": {"version": "0.1.0", "commit": null},
            "started_at": "2026-03-02T11:00:00Z", "told_at": "2026-03-02T12:00:00Z", "log": "local", "log_problem": null,
            "ready": ready, "not_ready": [], "rates_over_seconds": null, "resolver": null, "view": null, "crms": crms,
            "of_a_later_release": 7,
        })
    }

    fn paused() -> Value {
        json!([{
            "crm": "venues", "kind": "priava", "state": "paused",
            "pause": {"reason": "failing", "since": "2026-03-02T11:00:00Z", "next_probe": null, "remedy": "see"},
            "partitions": [0, 2], "partitions_working": 2, "partitions_all": 4, "pending": 1, "oldest_pending_seconds": 1,
            "lag_records": 0, "in_flight": 0, "requests_per_second": null, "outcomes_per_second": {}, "outcomes": {"delivered": 1},
            "parked": 0, "next_parked_due": null, "waiting_for_others": 0, "links_of_other_mappings": 0, "entries_lost": 0,
            "limits": {"requests_per_second": null, "requests_per_second_share": null, "in_flight_limit": 1, "in_flight_max": 1},
            "last_error": null,
        }])
    }

    fn found(status: u16, body: &str) -> Found {
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
        };
        let (raw, answer) = match understood(&answer) {
            Ok((raw, status)) => (Some(raw), Ok(status)),
            Err(why) => (None, Err(why)),
        };
        Found { asked: Asked { admin: "http://h".into(), answer }, raw }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let several = parsed(&["--admin", "http://a", "--admin", "http://b", "--json", "--watch"]).unwrap();
        assert_eq!(several.admin, ["http://a", "http://b"]);
        for wrong in [&["--once", "--watch"][..], &["--admin", "http://a", "--config", "x.toml"], &["w0"]] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_code_tells_whether_each_answered_and_is_ready_and_on_request_whether_none_has_paused_a_crm() {
        let well = || found(200, &status(true, json!([])).to_string());
        let with_paused = || found(200, &status(true, paused()).to_string());
        for (found, lenient, strict) in [
            (vec![well(), well()], Exit::Done, Exit::Done),
            (vec![well(), with_paused()], Exit::Done, Exit::CheckFailed),
            (vec![found(200, &status(false, json!([])).to_string())], Exit::CheckFailed, Exit::CheckFailed),
            (vec![well(), found(503, "it has not begun")], Exit::CheckFailed, Exit::CheckFailed),
        ] {
            assert_eq!((verdict(&found, false), verdict(&found, true)), (lenient, strict));
        }
    }

    #[test]
    fn what_is_no_status_is_told_by_what_the_worker_said() {
        let newer = status(true, json!([])).to_string().replace("\"format\":1", "\"format\":2");
        for (status, body, says) in [
            (403, "only here\n", "only here"),
            (503, "it has not begun\n", "it has not begun"),
            (404, "", "another release"),
            (200, "<html>", "another release"),
            (200, "{}", "another release"),
            (200, &newer, "another release"),
            (500, "\u{1b}[2J", "it answered 500"),
        ] {
            let told = found(status, body).asked.answer.unwrap_err();
            assert!(told.contains(says), "{told}");
        }
    }

    #[test]
    fn json_passes_on_what_the_worker_said_and_adds_it_up() {
        let said = status(true, paused());
        let text = json(&[found(200, &said.to_string()), found(503, "not yet")]);
        assert!(text.ends_with('\n') && text.lines().count() == 1);
        let told: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(told["workers"][0], json!({"admin": "http://h", "status": said}));
        assert_eq!(told["workers"][1], json!({"admin": "http://h", "problem": "not yet"}));
        assert_eq!(told["crms"][0]["partitions_unowned"], json!([1, 3]));
    }
}
