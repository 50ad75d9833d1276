//! `explain`: where a contact is, who it is, and why, asked of a running worker.
//!
//! The worker knows, this command asks and tells: it opens neither the log nor the view, so that it harms nothing at any
//! moment and needs no credential. It asks any worker of the installation: each can explain every contact.
//!
//! What was asked is never repeated, on no output and in no error.

use std::io::{Read, Write};

use bytes::Bytes;
use clap::Args;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{CommandError, Exit, UsageError, client::Client, worker_address::WorkerAddress};
use crate::{
    config::Surroundings,
    explain::{Answer, Asked, AskedMember, words},
};

const EXAMPLES: &str = "\
Examples:
  contact-replicator explain shop/4711
  contact-replicator explain 3f0c6a52-9b1d-8e77-a1c4-0d5b2f60c9aa --config config/kafka.toml
  echo ada@example.com | contact-replicator explain -
  contact-replicator explain --source https://shop.example.com --subject a/b --json

How the argument is read, by the settings of the worker that is asked:
  a UUID                     the id of a contact
  anything with a slash      SOURCE/SUBJECT: the longest short name of a [[source]] that it begins with, else the longest
                             uri of one; of other sources, the last slash parts source and subject
  an @ and no slash          an e-mail address: the contact that owns it, and others who assert it

With - it is read from standard input, so that it is not in the list of processes.

It ends with 1 if nobody was found; then it says what to try.";

/// Longest question that is read from standard input.
const QUESTION_BYTES_MAX: u64 = 8 * 1024;
/// Longest sentence that is repeated from an answer.
const SENTENCE_LENGTH_MAX: usize = 500;

#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Whom to explain: the id of a contact, a source and its subject, or an e-mail address; - for standard input.
    #[arg(value_name = "CONTACT|SOURCE/SUBJECT|EMAIL|-", required_unless_present = "source")]
    about: Option<String>,
    /// Source by its short name or URI, where the argument would be read otherwise.
    #[arg(long, value_name = "URI", requires = "subject", conflicts_with = "about")]
    source: Option<String>,
    /// What that source calls the contact.
    #[arg(long, value_name = "ID", requires = "source")]
    subject: Option<String>,
    #[command(flatten)]
    worker: WorkerAddress,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

impl std::fmt::Debug for Arguments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arguments").field("worker", &self.worker).field("json", &self.json).finish_non_exhaustive()
    }
}

pub(super) async fn run(arguments: Arguments, surroundings: Surroundings<'_>) -> Result<Exit, CommandError> {
    let url = arguments.worker.url("/explain", surroundings)?;
    let asked = asked(arguments.about, arguments.source, arguments.subject, &mut std::io::stdin().lock())?;
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = serde_json::to_vec(&asked).expect("a question is made of what JSON can express");
    let answer =
        Client::new(&url)?.with(arguments.worker.headers(surroundings)?).post(&url, headers, Bytes::from(body)).await?;
    conclude(answer.status, &answer.body, arguments.json, &mut std::io::stdout().lock())
}

fn asked(
    about: Option<String>,
    source: Option<String>,
    subject: Option<String>,
    input: &mut impl Read,
) -> Result<Asked, CommandError> {
    match (about, source, subject) {
        (None, Some(source), Some(subject)) => Ok(Asked::Member(AskedMember { source, subject })),
        (Some(about), _, _) if about == "-" => {
            let mut text = String::new();
            let reading = input.take(QUESTION_BYTES_MAX).read_to_string(&mut text);
            reading.map_err(CommandError::io("reading the question"))?;
            Ok(Asked::About(text.trim().to_owned()))
        }
        (Some(about), _, _) => Ok(Asked::About(about)),
        (None, _, _) => Err(UsageError("nobody is named".into()).into()),
    }
}

/// Tells the answer, or why there is none.
fn conclude(status: StatusCode, body: &[u8], json: bool, output: &mut impl Write) -> Result<Exit, CommandError> {
    let exit = match status {
        StatusCode::OK => Exit::Done,
        StatusCode::NOT_FOUND => Exit::CheckFailed,
        StatusCode::BAD_REQUEST => return Err(UsageError(sentence(status, body)).into()),
        _ => return Err(CommandError::Unexplained(sentence(status, body))),
    };
    // Also before it is passed on as it is: an older worker, or another program, answers 404 to what it does not know.
    let answer: Answer = serde_json::from_slice(body).map_err(|_unknown| {
        CommandError::Unexplained(
            "it is no worker, or one of another release: ask with the program that it runs".into(),
        )
    })?;
    let told = if json { String::from_utf8_lossy(body).into_owned() } else { words::told(&answer) };
    output.write_all(told.as_bytes()).map_err(CommandError::io("writing to standard output"))?;
    Ok(exit)
}

/// What a worker said instead of an answer; of anybody else, the status alone.
pub(super) fn sentence(status: StatusCode, body: &[u8]) -> String {
    let said = std::str::from_utf8(body).unwrap_or_default().trim();
    let is_sentence = (1..=SENTENCE_LENGTH_MAX).contains(&said.len()) && !said.contains(char::is_control);
    if is_sentence { said.to_owned() } else { format!("it answered {status}") }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::explain::{Absence, AbsentBecause, Kind};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parsed(line: &[&str]) -> Result<Arguments, clap::Error> {
        Ok(Line::try_parse_from([&["explain"], line].concat())?.arguments)
    }

    fn asks(line: &[&str], input: &str) -> Asked {
        let Arguments { about, source, subject, .. } = parsed(line).unwrap();
        asked(about, source, subject, &mut input.as_bytes()).unwrap()
    }

    #[test]
    fn somebody_is_named_in_one_of_three_ways() {
        assert!(asks(&["shop/4711"], "") == Asked::About("shop/4711".into()));
        assert!(asks(&["-"], " ada@example.com\n") == Asked::About("ada@example.com".into()));
        let apart = AskedMember { source: "https://shop.example.com".into(), subject: "a/b".into() };
        let line = ["--source", "https://shop.example.com", "--subject", "a/b"];
        assert!(asks(&line, "") == Asked::Member(apart));
        for wrong in [
            &[][..],
            &["--source", "shop"],
            &["--subject", "4711"],
            &["shop/4711", "--source", "shop", "--subject", "1"],
            &["shop/4711", "--admin", "http://127.0.0.1:1", "--config", "x.toml"],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    fn nobody() -> Vec<u8> {
        let answer = Answer {
            instance: "sim".into(),
            worker: "w0".into(),
            asked_at: "2026-03-02T12:00:00Z".parse().unwrap(),
            asked: Kind::Email,
            contact: None,
            claimants: Vec::new(),
            generic: false,
            absence: Some(Absence { because: AbsentBecause::Unknown, source: None, undecided: Some(0) }),
            crms: Vec::new(),
            readings: Vec::new(),
        };
        serde_json::to_vec(&answer).unwrap()
    }

    #[test]
    fn nobody_found_is_told_and_ends_with_another_code() {
        for (json, begins) in [(false, "nobody was found"), (true, "{\"instance\":\"sim\"")] {
            let mut output = Vec::new();
            let ended = conclude(StatusCode::NOT_FOUND, &nobody(), json, &mut output);
            assert_eq!(ended.unwrap(), Exit::CheckFailed);
            let output = String::from_utf8(output).unwrap();
            assert!(output.starts_with(begins), "{output}");
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error_that_repeats_what_the_worker_said() {
        for (status, body, exit, says) in [
            (403, "only here\n", Exit::Failed, "only here"),
            (503, "ask again\n", Exit::Failed, "ask again"),
            (400, "this is neither\n", Exit::Usage, "this is neither"),
            (500, "", Exit::Failed, "it answered 500"),
            (502, "\u{1b}[2J", Exit::Failed, "it answered 502"),
            (404, "", Exit::Failed, "another release"),
            (200, "<html>", Exit::Failed, "another release"),
        ] {
            let mut output = Vec::new();
            let status = StatusCode::from_u16(status).unwrap();
            let error = conclude(status, body.as_bytes(), false, &mut output).unwrap_err();
            assert_eq!(error.exit(), exit, "{status}");
            assert!(error.to_string().contains(says), "{error}");
            assert!(output.is_empty());
        }
    }
}
