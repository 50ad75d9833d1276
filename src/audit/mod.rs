//! The audit trail: no action of an operator without a record of it.
//!
//! An action that consists of records is written in one transaction with the record on `contact-audit` that tells of it: there
//! is never one without the other. An action that consists of none is told of first, so that the trail may name what then
//! did not come about, and never keeps quiet about what did.
//!
//! Each worker writes under a transactional id of its own, opened with the first action. A transaction whose end is unknown is
//! settled by opening the writer anew; whether it was done, whoever asked is told to look for.
//!
//! Who asks and why comes from the edge ([`Operator`]) in the operator's own words, of bounded length and without control
//! characters, so that no line of a reader can be forged by it.

use std::{fmt, net::IpAddr, sync::Arc, time::Duration};

use tokio::sync::Mutex;
use tracing::{debug, info};
use uuid::Uuid;

use crate::{
    clock::Clock,
    event::audit::{Action, Authentication, Deed, Target},
    log::{Log, LogError, NewRecord, Partition, TopicPartition, Transaction, WriteError, Writer},
};

/// Letters of the name of who asks.
pub const NAME_LENGTH_MAX: usize = 100;
/// Letters of a reason.
pub const REASON_LENGTH_MAX: usize = 500;
/// Of the trail: what operators did is little, and is read in its order.
pub const PARTITIONS: u32 = 1;
const PARTITION: Partition = 0;

/// How often a transaction that was certainly not committed is tried.
const TRIES_MAX: u32 = 5;
const RETRY_PAUSE: Duration = Duration::from_millis(200);
const DOING: &str = "writing what an operator asked for";

/// Who asks for an action, and why.
#[derive(Clone, PartialEq, Eq)]
pub struct Operator {
    by: Option<String>,
    reason: Option<String>,
    authenticated: Authentication,
    peer: IpAddr,
}

impl fmt::Debug for Operator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What they write is their own affair.
        write!(f, "Operator at {} by {}", self.peer, self.authenticated)
    }
}

impl Operator {
    /// Somebody at `peer` who gave a name and a reason, or did not.
    ///
    /// # Errors
    /// [`AuditError::Name`] and [`AuditError::Reason`] for what is empty, too long or no plain text.
    pub fn new(
        by: Option<&str>,
        reason: Option<&str>,
        authenticated: Authentication,
        peer: IpAddr,
    ) -> Result<Self, AuditError> {
        let by = by.map(|by| plain(by, NAME_LENGTH_MAX).ok_or(AuditError::Name)).transpose()?;
        let reason = reason.map(|reason| plain(reason, REASON_LENGTH_MAX).ok_or(AuditError::Reason)).transpose()?;
        Ok(Self { by, reason, authenticated, peer })
    }

    /// Their name; absent if they only look.
    pub fn by(&self) -> Option<&str> {
        self.by.as_deref()
    }

    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Text of one to so many letters, without white space around it.
fn plain(text: &str, length_max: usize) -> Option<String> {
    let text = text.trim();
    let fits = !text.is_empty() && text.chars().count() <= length_max && !text.chars().any(char::is_control);
    fits.then(|| text.to_owned())
}

/// Why an action was not done.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("a name of who asks is 1 to {NAME_LENGTH_MAX} letters of plain text: give it with --by")]
    Name,
    #[error("a reason is 1 to {REASON_LENGTH_MAX} letters of plain text in one line: give it with --reason")]
    Reason,
    #[error("nobody says who asks, which the audit trail must tell: give a name with --by")]
    Nameless,
    #[error("{action} needs a reason, which the audit trail must tell: give it with --reason")]
    Reasonless { action: Action },
    #[error("the log does not take it")]
    Log(#[from] LogError),
}

/// Where actions are written. Cheap to clone.
#[derive(Clone)]
pub struct Trail(Arc<Inner>);

struct Inner {
    log: Arc<dyn Log>,
    topic: Arc<str>,
    instance: Arc<str>,
    worker: Arc<str>,
    clock: Clock,
    /// Opened with the first action.
    writer: Mutex<Option<Box<dyn Writer>>>,
}

impl fmt::Debug for Trail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trail of {}", self.0.worker)
    }
}

/// What the transactional ids of all workers' trails begin with.
pub fn writer_prefix(instance: &str) -> String {
    format!("{instance}-operator-")
}

impl Trail {
    /// The trail of one worker, on the topic `topic`.
    pub fn new(log: Arc<dyn Log>, topic: Arc<str>, instance: Arc<str>, worker: Arc<str>, clock: Clock) -> Self {
        Self(Arc::new(Inner { log, topic, instance, worker, clock, writer: Mutex::new(None) }))
    }

    /// Whether enough is said for `action`: what is begun now and done later can be refused at once.
    ///
    /// # Errors
    /// [`AuditError::Nameless`] and [`AuditError::Reasonless`].
    pub fn may_act(&self, operator: &Operator, action: Action) -> Result<(), AuditError> {
        if operator.by.is_none() {
            return Err(AuditError::Nameless);
        }
        if action.needs_reason() && operator.reason.is_none() {
            return Err(AuditError::Reasonless { action });
        }
        Ok(())
    }

    /// Does what `records` do, and tells of it, in one transaction. Without records it is only told, before it is done.
    /// Goes on to its end although nobody waits for it any more.
    ///
    /// # Errors
    /// [`AuditError`]; nothing was done then, but where the log says that it cannot know.
    pub async fn act(
        &self,
        operator: &Operator,
        action: Action,
        target: Target,
        mut records: Vec<NewRecord>,
    ) -> Result<(), AuditError> {
        self.may_act(operator, action)?;
        let Operator { by, reason, authenticated, peer } = operator.clone();
        let by = by.ok_or(AuditError::Nameless)?;
        let inner = &self.0;
        let (id, now) = (Uuid::new_v4(), inner.clock.now());
        info!(%action, crm = target.crm.as_deref(), cause = target.cause, contacts = target.contact_ids.len(),
            letters = target.letters.len(), %authenticated,
            %peer, audit = %id, "an operator acts");
        let peer = peer.to_string();
        let deed = Deed { by, authenticated, peer, action, target, reason, worker: inner.worker.clone() };
        let told = deed.encode(id, &inner.instance, now);
        let to = TopicPartition::new(inner.topic.clone(), PARTITION);
        records.push(NewRecord { to, key: told.key, value: Some(told.value), headers: told.headers });
        let inner = self.0.clone();
        let written = tokio::spawn(async move { inner.write(records).await }).await;
        Ok(written.expect("writing neither panics nor is cancelled")?)
    }
}

impl Inner {
    async fn write(&self, records: Vec<NewRecord>) -> Result<(), LogError> {
        let id = format!("{}{}", writer_prefix(&self.instance), self.worker);
        let mut place = self.writer.lock().await;
        let mut reason = String::new();
        for attempt in 1..=TRIES_MAX {
            if attempt > 1 {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            // Taken out: only a writer that is known to be well is put back.
            let mut writer = match place.take() {
                Some(writer) => writer,
                None => self.log.writer(&id).await?,
            };
            match writer.write(Transaction { records: records.clone(), offsets: None }).await {
                Ok(()) => {
                    *place = Some(writer);
                    return Ok(());
                }
                Err(error @ (WriteError::Aborted { .. } | WriteError::Refused)) => {
                    debug!(%error, "what an operator asked for is written again");
                    *place = Some(writer);
                    reason = error.to_string();
                }
                // Nothing of it will appear. A writer that rested for long is forgotten by its broker, too.
                Err(error @ WriteError::Fenced) => {
                    debug!(%error, "what an operator asked for is written again, by another writer");
                    reason = error.to_string();
                }
                Err(error @ WriteError::TooLarge { .. }) => {
                    *place = Some(writer);
                    return Err(LogError::Unusable { reason: error.to_string() });
                }
                Err(WriteError::Unauthorized { reason }) => {
                    return Err(LogError::Unauthorized { doing: DOING, reason });
                }
                Err(WriteError::Unknown { reason }) => {
                    drop(writer);
                    // Ends what may still be open, so that no reader waits for it.
                    *place = self.log.writer(&id).await.ok();
                    let reason = format!("it may have been done or not, look before you ask again: {reason}");
                    return Err(LogError::Unavailable { doing: DOING, reason });
                }
            }
        }
        Err(LogError::Unavailable { doing: DOING, reason })
    }
}

#[cfg(test)]
mod tests;
