//! Dead letters: which there are, what is in one, and sending them in again once what was wrong is mended.
//!
//! The topic of dead letters holds each event that could not be read or decided, byte for byte. A worker reads it on behalf of
//! whoever asks, since a log on disk can be opened by nobody else ([`scan`]): a few records at a time, one question at a
//! time, told line by line. It holds no more of it than a page, and of what is listed only where letters are and why.
//!
//! **A replay** ([`replay`]) writes a letter to the input topic it came from, into the partition it was in, with its key,
//! value and headers as they were, and one more: `ce_replayof` names its old position. It is a new event with outcomes of its
//! own. Each is read first as the resolver will read it, under the settings of this worker, and what would fail again is left
//! out: it would only die a second time. Left out as well, unless asked for, is
//! - what was replayed before, as the audit trail tells, which is written in one transaction with the events themselves: a
//!   letter is marked if and only if it was sent in. Sent in once more it is a `duplicate`, if the event is the last one of its
//!   subject, or `stale`;
//! - what has neither a `sequence` nor a `time` that counts. Position alone would order it, and its new one makes old news the
//!   newest.
//!
//! A list tells positions, codes and ids and nothing that a contact said. The body is personal; it is told to who asks for it
//! by name, and the trail tells who did.

mod position;
mod replay;
mod scan;

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

pub use self::position::{NoPosition, Position};
use self::{
    replay::Judge,
    scan::{Begun, Marks, Scan},
};
use crate::{
    audit::{AuditError, Operator},
    event::{
        ReasonCode,
        audit::{Action, Target},
        dead_letter::DeadLetter,
    },
    explain::{Desk, ExplainError},
    log::{LogError, Record},
};

/// Letters of one list, at most.
pub const LISTED_MAX: usize = 10_000;
/// Letters that may be named at once.
pub const NAMED_MAX: usize = 1_000;
/// Lines that wait for whoever listens; at the bound the reading waits.
const LINES_WAITING_MAX: usize = 100;
/// Of a body, in one line.
const PART_BYTES_MAX: usize = 24 * 1024;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// The newest of those that are meant, at most so many, the oldest of them first.
    List {
        filter: Filter,
        limit: usize,
    },
    /// One of them. `body`: with all that it holds.
    Show {
        letter: String,
        body: bool,
    },
    Replay {
        which: Which,
        dry_run: bool,
        undated: bool,
        again: bool,
    },
}

/// Which letters are meant: those that fit all that is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    #[serde(default)]
    pub code: Option<ReasonCode>,
    /// The input topic.
    #[serde(default)]
    pub topic: Option<String>,
    /// When they became dead letters.
    #[serde(default)]
    pub since: Option<Timestamp>,
}

impl Filter {
    fn fits(&self, letter: &DeadLetter) -> bool {
        self.code.is_none_or(|code| code == letter.code)
            && self.topic.as_deref().is_none_or(|topic| topic == &*letter.topic)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Which {
    /// By their positions: those of the events, or their own.
    Letters(Vec<String>),
    Filter(Filter),
}

/// What is told, in any number, and at last how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    Letter(Letter),
    /// It was written to its input topic again.
    Replayed(Letter),
    /// Names of the headers.
    Headers(Vec<String>),
    Part {
        of: Of,
        base64: String,
    },
    Ended {
        /// Letters that were meant.
        found: u64,
        /// Of those, sent in again; in a dry run, those that would be.
        replayed: u64,
    },
    /// It could not go on; so many were sent in again.
    Failed {
        why: String,
        replayed: u64,
    },
}

/// Of what a line brings a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    Key,
    Header(String),
    Value,
}

/// What may be told of a letter to anybody who may ask.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Letter {
    /// On the topic of dead letters.
    pub at: Position,
    /// Where the event was.
    pub of: Position,
    /// When it became a dead letter.
    pub died_at: Timestamp,
    pub code: ReasonCode,
    pub pointer: Option<String>,
    /// Of the event, as far as they can be read.
    pub source: Option<Arc<str>>,
    pub id: Option<Arc<str>>,
    pub key_bytes: usize,
    pub value_bytes: usize,
    pub replayed: bool,
    pub now: Now,
}

/// What would become of a letter if it were sent in now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Now {
    Readable,
    /// It can be read, and nothing but its position orders it.
    Undated,
    /// It would be a dead letter again.
    Fails {
        code: ReasonCode,
        pointer: Option<String>,
        remedy: String,
    },
    /// Its bytes were more than a topic takes, and are not kept.
    LeftOut,
    /// The topic that it came from is no input of this installation.
    NoInput,
}

/// Why an order is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum LettersError {
    #[error(transparent)]
    Position(#[from] NoPosition),
    #[error("a list is of 1 to {LISTED_MAX} letters")]
    Limit,
    #[error("name 1 to {NAMED_MAX} letters, or say which by code, topic or time")]
    Nothing,
    #[error("dead letters are being read for somebody else: ask again in a moment")]
    Busy,
    #[error(transparent)]
    Explain(#[from] ExplainError),
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Why it cannot go on.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("nobody listens any more")]
    Unheard,
    #[error("the worker stops: begin again at another, or when it runs again")]
    Closed(#[from] ExplainError),
    #[error("the topic cannot be read: {0}")]
    Log(#[from] LogError),
    #[error("{0} could not be read to its end in time")]
    Late(Arc<str>),
    #[error("more letters were replayed than can be told apart: name them, with --again")]
    TooManyMarks,
    #[error("nothing more is written: {0}")]
    Audit(#[from] AuditError),
}

/// Begins to tell. It ends when all is told and done, or when nobody listens any more.
///
/// # Errors
/// [`LettersError`]; nothing was done then.
pub fn begin(desk: &Desk, order: &Order, operator: &Operator) -> Result<mpsc::Receiver<Line>, LettersError> {
    let begun = check(order)?;
    let shown = desk.shown()?;
    let parts = shown.parts();
    match order {
        Order::Show { body: true, .. } => parts.trail.may_act(operator, Action::DeadLettersShow)?,
        Order::Replay { dry_run: false, .. } => parts.trail.may_act(operator, Action::DeadLettersReplay)?,
        _ => {}
    }
    let turn = parts.turns.letters.clone().try_acquire_owned().map_err(|_taken| LettersError::Busy)?;
    let (told, lines) = mpsc::channel(LINES_WAITING_MAX);
    let mut run = Run { desk: desk.clone(), operator: operator.clone(), told, found: 0, replayed: 0, _turn: turn };
    let order = order.clone();
    tokio::spawn(async move {
        let ended = run.carry_out(&order, begun).await;
        let (found, replayed) = (run.found, run.replayed);
        let line = match ended {
            Ok(()) => Line::Ended { found, replayed },
            Err(error) => Line::Failed { why: error.to_string(), replayed },
        };
        // Whoever went away knows how it ended.
        let _unheard = run.told.send(line).await.is_err();
    });
    Ok(lines)
}

/// From where an order is to be read.
fn check(order: &Order) -> Result<Begun, LettersError> {
    match order {
        Order::List { limit, .. } if *limit == 0 || *limit > LISTED_MAX => Err(LettersError::Limit),
        Order::List { filter, .. } | Order::Replay { which: Which::Filter(filter), .. } => {
            if matches!(order, Order::Replay { .. }) && *filter == Filter::default() {
                return Err(LettersError::Nothing);
            }
            Ok(Begun::Since(filter.since))
        }
        Order::Show { letter, .. } => Ok(Begun::At([letter.parse()?].into())),
        Order::Replay { which: Which::Letters(letters), .. } => {
            if letters.is_empty() || letters.len() > NAMED_MAX {
                return Err(LettersError::Nothing);
            }
            let positions: Result<_, NoPosition> = letters.iter().map(|letter| letter.parse()).collect();
            Ok(Begun::At(positions?))
        }
    }
}

/// An order that is being carried out.
struct Run {
    desk: Desk,
    operator: Operator,
    told: mpsc::Sender<Line>,
    found: u64,
    replayed: u64,
    _turn: OwnedSemaphorePermit,
}

impl Run {
    async fn carry_out(&mut self, order: &Order, begun: Begun) -> Result<(), Ended> {
        let (judge, marks, scan) = {
            let shown = self.desk.shown()?;
            let parts = shown.parts();
            let judge = Judge::of(parts).await?;
            let marks = Marks::read(&*parts.log, &parts.topics).await?;
            (judge, marks, Scan::of_letters(&*parts.log, &parts.topics.dead_letters, begun).await?)
        };
        match order {
            Order::List { filter, limit } => self.list(scan, &judge, &marks, filter, *limit).await,
            Order::Show { body, .. } => self.show(scan, &judge, &marks, *body).await,
            Order::Replay { which, dry_run, undated, again } => {
                let filter = if let Which::Filter(filter) = which { filter.clone() } else { Filter::default() };
                let choice = replay::Choice { filter, dry_run: *dry_run, undated: *undated, again: *again };
                self.replay(scan, &judge, &marks, &choice).await
            }
        }
    }

    async fn list(
        &mut self,
        mut scan: Scan,
        judge: &Judge,
        marks: &Marks,
        filter: &Filter,
        limit: usize,
    ) -> Result<(), Ended> {
        let mut newest = BTreeMap::new();
        while let Some((record, letter)) = self.next(&mut scan).await? {
            if filter.fits(&letter) {
                self.found += 1;
                let told = tell(&record, &letter, judge, marks);
                newest.insert((told.died_at, record.at.partition, record.offset), told);
                if newest.len() > limit {
                    newest.pop_first();
                }
            }
        }
        for letter in newest.into_values() {
            self.tell(Line::Letter(letter)).await?;
        }
        Ok(())
    }

    async fn show(&mut self, mut scan: Scan, judge: &Judge, marks: &Marks, body: bool) -> Result<(), Ended> {
        let Some((record, letter)) = self.next(&mut scan).await? else { return Ok(()) };
        self.found = 1;
        let told = tell(&record, &letter, judge, marks);
        if body {
            let shown = self.desk.shown()?;
            let target = Target { letters: vec![told.at.to_string()], ..Target::default() };
            shown.parts().trail.act(&self.operator, Action::DeadLettersShow, target, Vec::new()).await?;
        }
        self.tell(Line::Letter(told)).await?;
        self.tell(Line::Headers(
            letter.headers.iter().take(HEADERS_TOLD_MAX).map(|header| short(&header.name)).collect(),
        ))
        .await?;
        if !body {
            return Ok(());
        }
        self.tell_parts(Of::Key, letter.key.as_deref().unwrap_or_default()).await?;
        for header in &letter.headers {
            self.tell_parts(Of::Header(short(&header.name)), &header.value).await?;
        }
        self.tell_parts(Of::Value, letter.value.as_deref().unwrap_or_default()).await
    }

    async fn tell_parts(&self, of: Of, bytes: &[u8]) -> Result<(), Ended> {
        for part in bytes.chunks(PART_BYTES_MAX) {
            self.tell(Line::Part { of: of.clone(), base64: STANDARD.encode(part) }).await?;
        }
        Ok(())
    }

    /// The next letter that was asked for.
    async fn next(&self, scan: &mut Scan) -> Result<Option<(Record, DeadLetter)>, Ended> {
        loop {
            if self.told.is_closed() {
                return Err(Ended::Unheard);
            }
            // A worker that has ended is not kept alive by what is read through it.
            drop(self.desk.shown()?);
            let Some(record) = scan.next().await? else { return Ok(None) };
            // Something else, such as the record that every topic of ours begins with.
            let Ok(letter) = DeadLetter::read(&record) else { continue };
            if scan.is_meant(&record, &letter) {
                return Ok(Some((record, letter)));
            }
        }
    }

    async fn tell(&self, line: Line) -> Result<(), Ended> {
        self.told.send(line).await.map_err(|_unheard| Ended::Unheard)
    }
}

/// Longest name or pointer that is told, in letters: a line has a bound, and what an event says has none so small.
const NAME_LENGTH_MAX: usize = 1_000;
/// Headers whose names are told.
const HEADERS_TOLD_MAX: usize = 50;

fn short(text: &str) -> String {
    text.chars().take(NAME_LENGTH_MAX).collect()
}

fn tell(record: &Record, letter: &DeadLetter, judge: &Judge, marks: &Marks) -> Letter {
    let (now, event) = judge.judge(letter);
    Letter {
        at: Position::of(record),
        of: Position { topic: letter.topic.clone(), partition: letter.partition, offset: letter.offset },
        died_at: record.timestamp,
        code: letter.code,
        pointer: letter.pointer.as_deref().map(short),
        source: event.source,
        id: event.id,
        key_bytes: letter.key.as_ref().map_or(0, bytes::Bytes::len),
        value_bytes: letter.value.as_ref().map_or(0, bytes::Bytes::len),
        replayed: marks.has(record),
        now,
    }
}
