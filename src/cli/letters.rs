//! `dead-letters`: which there are, what is in one, and sending them in again, asked of a running worker.
//!
//! What is listed names no contact. The body of a letter is personal: it goes to standard output alone, and only where it is
//! asked for by name.

use std::io::{self, Write};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};

use super::{
    CommandError, Exit,
    asking::{Told, follow},
    client::Client,
    operator::Who,
    worker_address::WorkerAddress,
};
use crate::{
    clock::Clock,
    config::Surroundings,
    event::{OutcomeKind, ReasonCode},
    letters::{Filter, Letter, Line, Now, Of, Order, Which},
};

const PATH: &str = "/dead-letters";
const WRITING: &str = "writing to standard output";

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List dead letters: where each is, where its event was, why it died, and whether it could be read now.
    List(ListArguments),
    /// Show one dead letter; with --body, all that it holds.
    Show(ShowArguments),
    /// Send dead letters in again, once what was wrong is mended.
    Replay(ReplayArguments),
}

const LIST_EXAMPLES: &str = "\
Examples:
  contact-replicator dead-letters list
  contact-replicator dead-letters list --code bad_value --since 24h
  contact-replicator dead-letters list --topic contact-changes --json

The newest are listed, the oldest of them first. What is listed names no contact.";

#[derive(Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
struct ListArguments {
    #[command(flatten)]
    chosen: Chosen,
    /// How many to list.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
    /// Print a JSON object for each.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    worker: WorkerAddress,
}

/// Which letters are meant.
#[derive(Debug, Args)]
struct Chosen {
    /// Those that died of this.
    #[arg(long, value_name = "CODE", value_parser = fault)]
    code: Option<ReasonCode>,
    /// Those of this input topic.
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// Those that died since, as a time (2026-03-02T12:00:00Z) or so long ago (24h).
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Since {
    At(Timestamp),
    Ago(SignedDuration),
}

fn since(text: &str) -> Result<Since, String> {
    let at = text.parse().map(Since::At).ok();
    let ago = || text.parse().ok().filter(|ago: &SignedDuration| !ago.is_negative()).map(Since::Ago);
    at.or_else(ago).ok_or_else(|| "write a time as 2026-03-02T12:00:00Z, or how long ago as 24h".to_owned())
}

/// A code that a dead letter may have.
fn fault(text: &str) -> Result<ReasonCode, String> {
    let codes = OutcomeKind::Quarantined.codes();
    codes.iter().copied().find(|code| code.as_str() == text).ok_or_else(|| {
        let known: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
        format!("a dead letter has one of the codes {}", known.join(", "))
    })
}

impl Chosen {
    fn filter(&self, now: Timestamp) -> Filter {
        let since = self.since.map(|since| match since {
            Since::At(at) => at,
            Since::Ago(ago) => now.saturating_sub(ago).unwrap_or(Timestamp::MIN),
        });
        Filter { code: self.code, topic: self.topic.clone(), since }
    }
}

const SHOW_EXAMPLES: &str = "\
Examples:
  contact-replicator dead-letters show 'contact-changes[3]@17'
  contact-replicator dead-letters show 'contact-dead-letters[1]@5' --body

A letter is named by the position of its event, or by its own. The body is personal data: it is told with --body alone, to
standard output, below a line that is empty, and the audit trail tells who asked.

It ends with 1 if there is no such letter.";

#[derive(Debug, Args)]
#[command(after_help = SHOW_EXAMPLES)]
struct ShowArguments {
    /// Position of the event, or of the letter itself, as `TOPIC[PARTITION]@OFFSET`.
    #[arg(value_name = "POSITION")]
    letter: String,
    /// Print key, headers and body, which are personal data.
    #[arg(long)]
    body: bool,
    /// Why, for the audit trail.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    worker: WorkerAddress,
}

const REPLAY_EXAMPLES: &str = "\
Examples:
  contact-replicator dead-letters replay --code bad_value --dry-run
  contact-replicator dead-letters replay --code bad_value --since 24h --reason \"addresses may name Kosovo now\"
  contact-replicator dead-letters replay 'contact-changes[3]@17' --reason \"sent in by hand\"

Each goes to the topic and the partition that it came from, as it was, with a header ce_replayof that names its old position, and
is a new event with outcomes of its own. Left out is what would fail again, what was replayed before (--again takes it: an event
that was taken is a duplicate, or stale), and what has neither sequence nor time and would count as the newest word of its source
(--undated takes it). Letters go at admin.replays_per_second; to end early, interrupt the command and run it again: what went is
left out.

It ends with 1 if no letter was meant, or one that was would fail again.";

#[derive(Debug, Args)]
#[command(after_help = REPLAY_EXAMPLES)]
struct ReplayArguments {
    /// Positions of events, or of the letters themselves, as `TOPIC[PARTITION]@OFFSET`.
    #[arg(value_name = "POSITION", conflicts_with_all = ["code", "topic", "since"],
        required_unless_present_any = ["code", "topic", "since"])]
    letters: Vec<String>,
    #[command(flatten)]
    chosen: Chosen,
    /// Only tell which would be sent in, and which would fail again and why.
    #[arg(long)]
    dry_run: bool,
    /// Also those with neither sequence nor time.
    #[arg(long)]
    undated: bool,
    /// Also those that were replayed before.
    #[arg(long)]
    again: bool,
    /// Why, for the audit trail.
    #[arg(long, value_name = "TEXT", required_unless_present = "dry_run")]
    reason: Option<String>,
    #[command(flatten)]
    who: Who,
    #[command(flatten)]
    worker: WorkerAddress,
}

pub(super) async fn run(arguments: Arguments, surroundings: Surroundings<'_>) -> Result<Exit, CommandError> {
    let now = Clock::System.now();
    let mut output = io::BufWriter::new(io::stdout());
    let exit = match arguments.command {
        Command::List(ListArguments { chosen, limit, json, worker }) => {
            let order = Order::List { filter: chosen.filter(now), limit };
            let client = Client::for_lines(&worker.url(PATH, surroundings)?)?.with(worker.headers(surroundings)?);
            let told = follow(&client, &worker.url(PATH, surroundings)?, &order).await?;
            list(told, json, &mut output).await
        }
        Command::Show(ShowArguments { letter, body, reason, who, worker }) => {
            let order = Order::Show { letter, body };
            let url = worker.url(PATH, surroundings)?;
            let said = who.headers(reason.as_deref(), surroundings);
            let client = Client::for_lines(&url)?.with(worker.headers(surroundings)?).with(said);
            show(follow(&client, &url, &order).await?, &mut output).await
        }
        Command::Replay(ReplayArguments { letters, chosen, dry_run, undated, again, reason, who, worker }) => {
            let which = match letters.is_empty() {
                true => Which::Filter(chosen.filter(now)),
                false => Which::Letters(letters),
            };
            let order = Order::Replay { which, dry_run, undated, again };
            let url = worker.url(PATH, surroundings)?;
            let said = who.headers(reason.as_deref(), surroundings);
            let client = Client::for_lines(&url)?.with(worker.headers(surroundings)?).with(said);
            replay(follow(&client, &url, &order).await?, (dry_run, undated, again), &mut output).await
        }
    };
    output.flush().map_err(CommandError::io(WRITING))?;
    exit
}

fn failed(why: &str, replayed: u64) -> CommandError {
    CommandError::NotDone(match replayed {
        0 => why.to_owned(),
        replayed => format!("{why}; {replayed} letters were sent in"),
    })
}

fn out_of_turn() -> CommandError {
    CommandError::NotDone("its reply belongs to another question".into())
}

async fn list(mut told: Told, json: bool, output: &mut impl Write) -> Result<Exit, CommandError> {
    let mut listed = 0;
    loop {
        match told.next().await? {
            Line::Letter(letter) => {
                listed += 1;
                match json {
                    true => {
                        let json = serde_json::to_string(&letter).expect("a letter is made of what JSON can express");
                        writeln!(output, "{json}")
                    }
                    false => writeln!(output, "{}", words(&letter)),
                }
                .map_err(CommandError::io(WRITING))?;
            }
            Line::Ended { .. } if json => return Ok(Exit::Done),
            Line::Ended { found, .. } => {
                let older = found.saturating_sub(listed);
                let text = if older > 0 { format!(", and {older} older ones") } else { String::new() };
                writeln!(output, "{listed} dead letters{text}").map_err(CommandError::io(WRITING))?;
                return Ok(Exit::Done);
            }
            Line::Failed { why, replayed } => return Err(failed(&why, replayed)),
            _ => return Err(out_of_turn()),
        }
    }
}

/// A letter in one line.
fn words(letter: &Letter) -> String {
    let Letter { at, of, died_at, code, pointer, source, id, replayed, now, .. } = letter;
    let place = pointer.as_ref().map(|pointer| format!(" at {pointer:?}")).unwrap_or_default();
    let mut event = format!("event {of}");
    event.extend(id.iter().map(|id| format!(", id {id:?}")));
    event.extend(source.iter().map(|source| format!(", of {source:?}")));
    let now = if *replayed { "replayed" } else { state(now) };
    format!("{}  {at}  {code}{place}  {event}  {now}", died_at.strftime("%Y-%m-%d %H:%M:%SZ"))
}

fn state(now: &Now) -> &'static str {
    match now {
        Now::Readable => "readable now",
        Now::Undated => "readable now, undated",
        Now::Fails { .. } => "would fail again",
        Now::LeftOut => "its bytes were too many to keep",
        Now::NoInput => "its topic is no input any more",
    }
}

async fn show(mut told: Told, output: &mut impl Write) -> Result<Exit, CommandError> {
    let mut last = None;
    loop {
        let writing = match told.next().await? {
            Line::Letter(letter) => facts(&letter, output),
            Line::Headers(names) => writeln!(output, "headers      {}", names.join(", ")),
            Line::Part { of, base64 } => {
                let bytes = STANDARD.decode(base64).map_err(|_unreadable| out_of_turn())?;
                let begins = last.as_ref() != Some(&of);
                let written = part(&of, begins, &bytes, output);
                last = Some(of);
                written
            }
            Line::Ended { found: 0, .. } => {
                writeln!(output, "there is no such dead letter, or not any more").map_err(CommandError::io(WRITING))?;
                return Ok(Exit::CheckFailed);
            }
            Line::Ended { .. } => {
                // Whatever the last part was, what follows is not on its line.
                return match last {
                    Some(_) => writeln!(output).map(|()| Exit::Done).map_err(CommandError::io(WRITING)),
                    None => Ok(Exit::Done),
                };
            }
            Line::Failed { why, replayed } => return Err(failed(&why, replayed)),
            Line::Replayed(_) => return Err(out_of_turn()),
        };
        writing.map_err(CommandError::io(WRITING))?;
    }
}

fn facts(letter: &Letter, output: &mut impl Write) -> io::Result<()> {
    let Letter { at, of, died_at, code, pointer, source, id, key_bytes, value_bytes, replayed, now } = letter;
    writeln!(output, "dead letter  {at}, since {}", died_at.strftime("%Y-%m-%d %H:%M:%SZ"))?;
    writeln!(output, "event        {of}")?;
    for (name, text) in [("id           ", id), ("source       ", source)] {
        if let Some(text) = text {
            writeln!(output, "{name}{text:?}")?;
        }
    }
    let place = pointer.as_ref().map(|pointer| format!(" at {pointer:?}")).unwrap_or_default();
    writeln!(output, "died of      {code}{place}")?;
    writeln!(output, "size         {key_bytes} bytes of key, {value_bytes} bytes of value")?;
    writeln!(output, "replayed     {}", if *replayed { "yes" } else { "no" })?;
    match now {
        Now::Fails { code, pointer, remedy } => {
            let place = pointer.as_ref().map(|pointer| format!(" at {pointer:?}")).unwrap_or_default();
            writeln!(output, "now          would fail again: {code}{place}: {remedy}")
        }
        now => writeln!(output, "now          {}", state(now)),
    }
}

/// A piece of the key, of a header or of the value; the value comes below an empty line, byte for byte.
fn part(of: &Of, begins: bool, bytes: &[u8], output: &mut impl Write) -> io::Result<()> {
    if begins {
        match of {
            Of::Key => write!(output, "key: ")?,
            Of::Header(name) => write!(output, "\n{name}: ")?,
            Of::Value => write!(output, "\n\n")?,
        }
    }
    match of {
        Of::Value => output.write_all(bytes),
        // A control character could forge the next line.
        Of::Key | Of::Header(_) => write!(output, "{}", bytes.escape_ascii()),
    }
}

async fn replay(
    mut told: Told,
    (dry_run, undated, again): (bool, bool, bool),
    output: &mut impl Write,
) -> Result<Exit, CommandError> {
    let mut fails = false;
    loop {
        let text = match told.next().await? {
            Line::Replayed(letter) => format!("sent in   {}  as {}", letter.at, letter.of),
            Line::Letter(letter) => {
                fails |= !matches!(letter.now, Now::Readable | Now::Undated);
                verdict(&letter, undated, again)
            }
            Line::Ended { found, replayed } => {
                let done = if dry_run { "would be sent in" } else { "are sent in" };
                writeln!(output, "{replayed} of {found} dead letters {done}").map_err(CommandError::io(WRITING))?;
                return Ok(if fails || found == 0 { Exit::CheckFailed } else { Exit::Done });
            }
            Line::Failed { why, replayed } => return Err(failed(&why, replayed)),
            Line::Headers(_) | Line::Part { .. } => return Err(out_of_turn()),
        };
        writeln!(output, "{text}").map_err(CommandError::io(WRITING))?;
    }
}

/// What a dry run says of a letter, and any run of one that is left out.
fn verdict(letter: &Letter, undated: bool, again: bool) -> String {
    let Letter { at, of, replayed, now, .. } = letter;
    match now {
        Now::Fails { code, pointer, remedy } => {
            let place = pointer.as_ref().map(|pointer| format!(" at {pointer:?}")).unwrap_or_default();
            format!("left out  {at}  of {of}: would fail again: {code}{place}: {remedy}")
        }
        Now::LeftOut | Now::NoInput => format!("left out  {at}  of {of}: {}", state(now)),
        _ if *replayed && !again => format!("left out  {at}  of {of}: replayed before"),
        Now::Undated if !undated => {
            format!("left out  {at}  of {of}: neither sequence nor time says that it is not the newest")
        }
        Now::Undated | Now::Readable => format!("readable  {at}  of {of}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn parsed(line: &[&str]) -> Result<Command, clap::Error> {
        Ok(Typed::try_parse_from([&["dead-letters"], line].concat())?.arguments.command)
    }

    #[test]
    fn what_is_listed_is_chosen_by_code_topic_and_time() {
        let now: Timestamp = "2026-03-02T12:00:00Z".parse().unwrap();
        for (line, since) in [
            (&["list", "--code", "bad_value"][..], None),
            (&["list", "--code", "bad_value", "--since", "24h"], Some("2026-03-01T12:00:00Z")),
            (&["list", "--code", "bad_value", "--since", "2026-01-01T00:00:00Z"], Some("2026-01-01T00:00:00Z")),
        ] {
            let Command::List(list) = parsed(line).unwrap() else { panic!("{line:?}") };
            let filter = list.chosen.filter(now);
            let since = since.map(|since| since.parse().unwrap());
            assert_eq!((filter.code, filter.since), (Some(ReasonCode::BadValue), since), "{line:?}");
        }
        for wrong in
            [&["list", "--code", "conflict"][..], &["list", "--since", "yesterday"], &["list", "--since", "-1h"]]
        {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_replay_needs_to_know_which_and_why() {
        for line in [
            &["replay", "contact-changes[3]@17", "--reason", "mended"][..],
            &["replay", "--code", "bad_value", "--dry-run"],
            &["replay", "--topic", "contact-changes", "--since", "1h", "--reason", "mended", "--undated", "--again"],
        ] {
            assert!(parsed(line).is_ok(), "{line:?}");
        }
        for wrong in [
            &["replay", "--reason", "mended"][..],
            &["replay", "--code", "bad_value"],
            &["replay", "contact-changes[3]@17", "--code", "bad_value", "--reason", "mended"],
        ] {
            assert!(parsed(wrong).is_err(), "{wrong:?}");
        }
    }

    fn letter(now: Now, replayed: bool) -> Letter {
        Letter {
            at: "contact-dead-letters[1]@5".parse().unwrap(),
            of: "contact-changes[3]@17".parse().unwrap(),
            died_at: "2026-03-02T12:00:00Z".parse().unwrap(),
            code: ReasonCode::BadValue,
            pointer: Some("/birthDate".to_owned()),
            source: Some("/shop".into()),
            id: Some("e\n1".into()),
            key_bytes: 2,
            value_bytes: 40,
            replayed,
            now,
        }
    }

    #[test]
    fn a_letter_is_one_line_that_nothing_in_it_can_break() {
        let expected = "2026-03-02 12:00:00Z  contact-dead-letters[1]@5  bad_value at \"/birthDate\"  event \
                        contact-changes[3]@17, id \"e\\n1\", of \"/shop\"  readable now";
        assert_eq!(words(&letter(Now::Readable, false)), expected);
        assert!(words(&letter(Now::Readable, true)).ends_with("  replayed"));
    }

    #[test]
    fn what_is_left_out_is_told_with_the_reason() {
        let fails = Now::Fails { code: ReasonCode::BadValue, pointer: None, remedy: "write a date".to_owned() };
        for (now, replayed, (undated, again), says) in [
            (fails, false, (true, true), "would fail again: bad_value: write a date"),
            (Now::LeftOut, false, (true, true), "too many to keep"),
            (Now::NoInput, false, (true, true), "no input any more"),
            (Now::Undated, false, (false, false), "neither sequence nor time"),
            (Now::Readable, true, (false, false), "replayed before"),
        ] {
            let told = verdict(&letter(now, replayed), undated, again);
            assert!(told.starts_with("left out") && told.contains(says), "{told}");
        }
        for (now, replayed, (undated, again)) in [
            (Now::Readable, false, (false, false)),
            (Now::Undated, false, (true, false)),
            (Now::Readable, true, (false, true)),
        ] {
            assert!(verdict(&letter(now, replayed), undated, again).starts_with("readable"));
        }
    }

    #[test]
    fn a_body_stands_below_an_empty_line_and_headers_forge_none() {
        let mut output = Vec::new();
        part(&Of::Key, true, b"42", &mut output).unwrap();
        part(&Of::Header("ce_id".to_owned()), true, b"e\n1", &mut output).unwrap();
        part(&Of::Value, true, b"{\"a\":", &mut output).unwrap();
        part(&Of::Value, false, b"1}\n", &mut output).unwrap();
        assert_eq!(String::from_utf8(output).unwrap(), "key: 42\nce_id: e\\n1\n\n{\"a\":1}\n");
    }
}
