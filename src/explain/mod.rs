//! "Where is my contact, who is it, and why": what one worker can tell when somebody asks.
//!
//! The person who asks has a contact's id, or what their own system calls somebody, or an e-mail address. The answer
//! says which contact that is, which source records make it up and by which rule each came to it, and per CRM how it
//! last ended, what is parked and until when, what waits, and whether the CRM is paused.
//!
//! The hard part is to be right about how much is known. Keys and records are in every worker's view, but a view may be
//! behind; links are in the view of their partition's owner alone, and are read from the log for the others ([`links`]).
//! So every answer says from where each part of it was read and how far that was from the end.
//!
//! - [`question`]: what is asked, and how a word is read.
//! - [`answer`]: the answer, made of record, keys and links; pure.
//! - [`words`]: the answer as a person reads it; pure.
//! - [`links`]: reads links that the view does not have.
//!
//! It changes nothing. It tells no value of a contact, repeats no question, and holds nothing in memory between two of
//! them. At most [`QUESTIONS_MAX`] are answered at once, since one of them may read a whole partition.

mod answer;
mod links;
mod question;
pub mod words;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use futures::future::join_all;
use parking_lot::RwLock;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, timeout, timeout_at},
};
use tracing::info;

pub use self::{
    answer::{
        Absence, AbsentBecause, Answer, CrmState, LinkState, MemberState, OpenState, Owner, Paused, Person, Reading,
        RefusedContact, Waiting, Way,
    },
    question::{Asked, AskedMember, Kind, QuestionError},
};
use self::{links::Found, question::Question};
use crate::{
    audit::Trail,
    clock::Clock,
    config::{SourceSettings, TopicNames},
    contact::{ContactId, format},
    event::{change::Rules, outcome::Subjects},
    identity::{
        Policy,
        keys::{self, KeyHash},
    },
    links::Lately,
    log::{Isolation, Log, LogError, Offset, TopicPartition, partition_of},
    metrics::Metrics,
    pause::Ordered,
    privacy::Hasher,
    replicator, resolver,
    status::Board,
    verify,
    view::{View, ViewError},
};

/// Questions that are answered at once; more are asked to come back.
const QUESTIONS_MAX: usize = 2;
/// How long partitions of links may be read. A large one on a slow broker is told as far as it was read.
const LINKS_DEADLINE: Duration = Duration::from_secs(45);
/// How long the log may take to say where a partition ends or who committed for it. Without it the answer stands, and
/// says that this is not known.
const BOUNDS_DEADLINE: Duration = Duration::from_secs(5);

/// What answers are made from.
pub struct Parts {
    pub log: Arc<dyn Log>,
    pub view: View,
    pub clock: Clock,
    pub hasher: Hasher,
    pub policy: Arc<Policy>,
    pub topics: TopicNames,
    /// Partition count of the topics keyed by contact.
    pub partitions: u32,
    pub inputs: Vec<Arc<str>>,
    pub sources: Vec<SourceSettings>,
    pub crms: Vec<(Arc<str>, watch::Receiver<replicator::Status>)>,
    /// How each CRM is read, by its name.
    pub ways: BTreeMap<Arc<str>, verify::Way>,
    /// What operators said lately of which contact of a CRM is whose.
    pub lately: Lately,
    /// How subjects are named.
    pub subjects: Subjects,
    /// Where what operators ask for is written.
    pub trail: Trail,
    /// What events are held against.
    pub rules: Arc<Rules>,
    /// Dead letters that may be sent in again per second; 0: no limit.
    pub replays_per_second: f64,
    pub metrics: Metrics,
    pub turns: Turns,
    pub instance: Arc<str>,
    pub worker: Arc<str>,
}

/// What is done for one operator at a time, since it reads much.
#[derive(Debug, Clone)]
pub struct Turns {
    /// Retrying all contacts that are stuck.
    pub retries: Arc<Semaphore>,
    /// Reading dead letters.
    pub letters: Arc<Semaphore>,
}

impl Default for Turns {
    fn default() -> Self {
        let one = || Arc::new(Semaphore::new(1));
        Self { retries: one(), letters: one() }
    }
}

/// Why there is no answer, not even that nobody is known.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    #[error(transparent)]
    Question(#[from] QuestionError),
    #[error("{QUESTIONS_MAX} questions are being answered: ask again in a moment")]
    Busy,
    #[error("the worker is starting or stopping, and has no view to look into")]
    Closed,
    #[error("the view cannot be read")]
    View(#[from] ViewError),
}

/// Where a running worker is asked. Closed until the worker has a view, and again when it ends. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Desk {
    explainer: Arc<RwLock<Option<Arc<Explainer>>>>,
    board: Board,
}

/// Keeps a desk open.
#[derive(Debug)]
#[must_use = "dropping it closes the desk"]
pub struct Opened(Desk);

impl Drop for Opened {
    fn drop(&mut self) {
        *self.0.explainer.write() = None;
    }
}

impl Desk {
    /// Answers from now on, until what is returned is dropped.
    pub fn open(&self, parts: Parts) -> Opened {
        *self.explainer.write() = Some(Arc::new(Explainer { parts, turns: Semaphore::new(QUESTIONS_MAX) }));
        Opened(self.clone())
    }

    /// Where the worker shows how it stands, from its first moment on.
    pub fn board(&self) -> &Board {
        &self.board
    }

    /// What the worker shows of itself.
    ///
    /// # Errors
    /// [`ExplainError::Closed`] while it starts or stops.
    pub fn shown(&self) -> Result<Shown, ExplainError> {
        self.explainer.read().clone().map(Shown).ok_or(ExplainError::Closed)
    }

    /// Answers one question, within [`LINKS_DEADLINE`] and what the log takes beside it.
    ///
    /// # Errors
    /// [`ExplainError`]. That nobody was found is an answer.
    pub async fn explain(&self, asked: &Asked) -> Result<Answer, ExplainError> {
        // Not held while the answer is made: a worker that ends must not wait for whoever asks.
        self.shown()?.0.explain(asked).await
    }
}

/// What a worker shows of itself while it runs, for whoever else answers at its desk.
#[derive(Debug, Clone)]
pub struct Shown(Arc<Explainer>);

impl Shown {
    pub fn parts(&self) -> &Parts {
        &self.0.parts
    }

    /// Whom a question leads to, as far as the view knows.
    ///
    /// # Errors
    /// If it is no question, or the view cannot be read.
    pub fn find(&self, asked: &Asked) -> Result<Option<ContactId>, ExplainError> {
        let question = Question::read(asked, &self.0.parts.sources)?;
        Ok(self.0.lead(&question)?.contact)
    }
}

struct Explainer {
    parts: Parts,
    turns: Semaphore,
}

impl fmt::Debug for Explainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Explainer of {}", self.parts.worker)
    }
}

/// Whom a question leads to.
#[derive(Default)]
struct Lead {
    contact: Option<ContactId>,
    claimants: Vec<ContactId>,
    generic: bool,
    /// Why it leads to nobody, if that is known.
    because: Option<AbsentBecause>,
    /// Where the key is.
    key_at: Option<TopicPartition>,
    /// Short name of the source asked for.
    source: Option<Arc<str>>,
}

impl Explainer {
    async fn explain(&self, asked: &Asked) -> Result<Answer, ExplainError> {
        let Ok(_turn) = self.turns.try_acquire() else {
            return Err(ExplainError::Busy);
        };
        let question = Question::read(asked, &self.parts.sources)?;
        let lead = self.lead(&question)?;
        let view = &self.parts.view;
        let record = lead.contact.map(|contact| view.record(contact)).transpose()?.flatten();
        let topics = &self.parts.topics;
        let records_at =
            lead.contact.map(|contact| TopicPartition::new(topics.records.clone(), view.partition(contact)));
        let readings = join_all(lead.key_at.iter().chain(&records_at).map(|at| self.reading(at))).await;

        let mut answer = Answer {
            instance: self.parts.instance.clone(),
            worker: self.parts.worker.clone(),
            asked_at: self.parts.clock.now(),
            asked: question.kind(),
            contact: None,
            claimants: lead.claimants,
            generic: lead.generic,
            absence: None,
            crms: Vec::new(),
            readings,
        };
        match record {
            Some(record) => {
                let contact = record.contact_id;
                answer.contact = Some(Person::of(&record, view.partition(contact), &self.parts.subjects));
                answer.crms = self.crms(contact, record.version).await?;
                info!(%contact, asked = ?answer.asked, "a contact was explained");
            }
            None => {
                let missing = match (&question, lead.contact) {
                    (Question::Member { .. } | Question::Email(_), Some(_)) => AbsentBecause::RecordMissing,
                    (_, _) => AbsentBecause::Unknown,
                };
                let because = lead.because.unwrap_or(missing);
                answer.absence = Some(Absence { because, source: lead.source, undecided: self.undecided().await });
                info!(asked = ?answer.asked, "nobody was found to be explained");
            }
        }
        Ok(answer)
    }

    /// Looks the question up in the keys.
    fn lead(&self, question: &Question) -> Result<Lead, ViewError> {
        let hash = match question {
            Question::Contact(contact) => return Ok(Lead { contact: Some(*contact), ..Lead::default() }),
            Question::Member { source, subject } => KeyHash::of_source_id(&self.parts.hasher, source, subject),
            Question::Email(address) => {
                match keys::of_email(address.expose(), &self.parts.policy, &self.parts.hasher) {
                    Ok(hash) => hash,
                    Err(code) => return Ok(Lead { because: Some(AbsentBecause::NoKey(code)), ..Lead::default() }),
                }
            }
        };
        let partition = partition_of(hash.key().as_bytes(), self.parts.partitions);
        let mut lead = Lead {
            key_at: Some(TopicPartition::new(self.parts.topics.keys.clone(), partition)),
            source: match question {
                Question::Member { source, .. } => self.short_name(source),
                Question::Contact(_) | Question::Email(_) => None,
            },
            ..Lead::default()
        };
        if let Some(key) = self.parts.view.key(hash)? {
            lead.contact = answer::first_holder(&key);
            lead.because = (lead.contact.is_none() && key.generic).then_some(AbsentBecause::Generic);
            lead.claimants = key.claimants;
            lead.generic = key.generic;
        }
        Ok(lead)
    }

    fn short_name(&self, uri: &str) -> Option<Arc<str>> {
        self.parts.sources.iter().find(|source| *source.uri == *uri).map(|source| source.name.clone())
    }

    /// How far the view has come in a partition that it follows.
    async fn reading(&self, at: &TopicPartition) -> Reading {
        // The position first: what is written between the two was then not seen.
        let position = self.parts.view.position(at);
        let (end, problem) = match self.end(at).await {
            Ok(end) => (Some(end), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Reading { topic: at.topic.clone(), partition: at.partition, way: Way::View, position, end, problem }
    }

    async fn end(&self, at: &TopicPartition) -> Result<Offset, LogError> {
        let asking = self.parts.log.watermarks(at);
        let bounds = timeout(BOUNDS_DEADLINE, asking).await.unwrap_or_else(|_elapsed| {
            let reason = format!("no answer within {BOUNDS_DEADLINE:?}");
            Err(LogError::Unavailable { doing: "asking where a partition ends", reason })
        });
        Ok(bounds?.high)
    }

    async fn crms(&self, contact: ContactId, newest: u64) -> Result<Vec<CrmState>, ViewError> {
        let view = &self.parts.view;
        let partition = view.partition(contact);
        let place = |crm: &Arc<str>| TopicPartition::new(self.parts.topics.links(crm), partition);
        let elsewhere: Vec<_> =
            self.parts.crms.iter().map(|(crm, _)| place(crm)).filter(|at| view.position(at).is_none()).collect();
        let deadline = Instant::now() + LINKS_DEADLINE;
        let (mut found, owners) = tokio::join!(
            links::read(&*self.parts.log, &elsewhere, contact, deadline),
            join_all(self.parts.crms.iter().map(|(crm, _)| self.owner(crm, partition, deadline))),
        );
        let mut crms = Vec::new();
        for ((crm, status), owner) in self.parts.crms.iter().zip(owners) {
            let at = place(crm);
            let (link, reading) = match found.remove(&at) {
                Some(Found { link, position, end, problem }) => {
                    let (topic, partition) = (at.topic.clone(), at.partition);
                    (link, Reading { topic, partition, way: Way::Log, position, end, problem })
                }
                None => {
                    let reading = self.reading(&at).await;
                    (view.link(crm, contact)?, reading)
                }
            };
            // Of what could not be read to the end, nothing is told that may be otherwise there.
            let is_read = link.is_some() || reading.problem.is_none() || reading.way == Way::View;
            let ordered = self.ordered(crm)?;
            let answered = link.as_ref().map_or(0, |link| link.answered);
            crms.push(CrmState {
                crm: crm.clone(),
                reading,
                owner,
                paused: match ordered {
                    Some(_) => Some(Paused::Operator),
                    None => status.borrow().paused.map(Paused::from),
                },
                ordered,
                link: link.map(|link| LinkState::of(link, &self.parts.subjects)),
                waiting: is_read.then(|| Waiting::between(answered, newest)).flatten(),
            });
        }
        Ok(crms)
    }

    /// The word of an operator by which a CRM is paused.
    fn ordered(&self, crm: &str) -> Result<Option<Ordered>, ViewError> {
        let last = self.parts.view.resolver_state(&Ordered::key(crm))?;
        // One that cannot be read ends the replicators, which say so.
        Ok(last.and_then(|last| format::decode::<Ordered>(&last).ok()).filter(|ordered| ordered.paused))
    }

    /// Who last committed for a partition of the work list; `None` if that is not known.
    async fn owner(&self, crm: &str, partition: u32, deadline: Instant) -> Option<Owner> {
        let at = TopicPartition::new(self.parts.topics.versions.clone(), partition);
        let group = replicator::group(&self.parts.instance, crm);
        let deadline = deadline.min(Instant::now() + BOUNDS_DEADLINE);
        let asking = self.parts.log.committed(&group, &at, Isolation::ReadUncommitted);
        let committed = timeout_at(deadline, asking).await.ok()?.ok()??;
        let (worker, released) = replicator::committed_by(&self.parts.instance, crm, &committed.metadata)?;
        Some(Owner { worker, released })
    }

    /// Input records that wait for a decision; `None` if the log does not say.
    async fn undecided(&self) -> Option<u64> {
        timeout(BOUNDS_DEADLINE, async {
            let mut undecided = 0_u64;
            for topic in &self.parts.inputs {
                for partition in 0..self.parts.log.partitions(topic).await.ok()?.unwrap_or(0) {
                    let at = TopicPartition::new(topic.clone(), partition);
                    let bounds = self.parts.log.watermarks(&at).await.ok()?;
                    let decided = resolver::decided(&self.parts.view, &at).ok()?;
                    let next = decided.unwrap_or(bounds.low).max(bounds.low);
                    undecided = undecided.saturating_add(bounds.high.saturating_sub(next));
                }
            }
            Some(undecided)
        })
        .await
        .ok()?
    }
}
