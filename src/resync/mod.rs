//! Contacts of a CRM are to be driven anew, as if nothing were known of what it holds.
//!
//! For what only an operator can know: a CRM was restored from a backup, somebody wrote to it by hand, a frozen worker's
//! last request landed late, or the CRM was added to the settings after its contacts had changed. What that means for a
//! contact is the replicator's ([`lane`](crate::replicator::lane)); here it is asked for, at any worker.
//!
//! *Contacts that are named* get their entry of the work list at once, by the worker that was asked.
//!
//! *All contacts* are a job, which is only written down here ([`job`]). The active resolver carries it on, at the CRM's own
//! pace; see `resolver::term::resyncs` for why. At most one runs per CRM. Of two that are begun at the same moment, at two
//! workers, the one that is written last is carried on; whoever waits for the other is told so by its id.
//!
//! A CRM that leaves shadow is resynced without being asked ([`mode`]).
//!
//! It changes no record and no version. It tells no value of a contact, and repeats nothing of how contacts were named.

pub mod job;
pub mod mode;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tracing::info;
use uuid::Uuid;

use self::job::{Asked, Job, Standing};
use crate::{
    audit::{AuditError, Operator},
    contact::{ContactId, format::encode, record::FORMAT},
    event::{
        Entry,
        audit::{Action, Target},
        entry::{Cause, CauseKind},
    },
    explain::{self, Desk, ExplainError, Shown},
    log::{LogError, NewRecord, TopicPartition, partition_of},
    resolver::{self, ResolverError},
};

/// Contacts of one order; the rest is for the next one.
pub const CONTACTS_MAX: usize = 1_000;
/// How long the view may take to show what was just asked. Without it the order stands all the same.
const SEEN_DEADLINE: Duration = Duration::from_secs(5);

/// What is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    pub crm: String,
    pub what: What,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum What {
    /// These contacts.
    Contacts(Vec<explain::Asked>),
    /// These contacts, since what the CRM holds of them was found to differ.
    Repair(Vec<explain::Asked>),
    /// Every contact that has a record. `restart`: also if a resync is under way, which ends.
    All { restart: bool },
    /// The one under way is to end where it is.
    Stop,
    /// How the last one stands.
    Status,
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Contacts were asked for under this cause.
    Contacts {
        id: String,
        appended: Vec<ContactId>,
        /// Places of those whom nobody knows, in the order of the question, from 0.
        unknown: Vec<usize>,
    },
    /// How the last resync of all contacts stands; absent if there was none.
    Job(Option<Standing>),
}

/// Why an order is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ResyncError {
    #[error("there is no CRM of that name in the worker's settings; there are: {known}")]
    UnknownCrm { known: String },
    #[error("nobody is named")]
    Nobody,
    #[error("at most {CONTACTS_MAX} contacts can be named at once")]
    TooMany,
    #[error(
        "a resync of {crm} is under way ({id}): watch it with --status, end it with --stop, or begin anew with --restart"
    )]
    Running { crm: Arc<str>, id: String },
    #[error("no resync of {crm} is under way")]
    NotRunning { crm: Arc<str> },
    #[error(transparent)]
    Explain(#[from] ExplainError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error("the log does not say how far it is")]
    Log(#[from] LogError),
    #[error("the state of resyncs cannot be read")]
    State(#[from] ResolverError),
}

/// Carries out an order at a worker.
///
/// # Errors
/// [`ResyncError`]; nothing was asked for then.
pub async fn obey(desk: &Desk, order: &Order, operator: &Operator) -> Result<Reply, ResyncError> {
    let shown = desk.shown()?;
    let parts = shown.parts();
    let crm = parts.crms.iter().map(|(crm, _)| crm).find(|crm| ***crm == *order.crm);
    let crm = crm.ok_or_else(|| {
        let known: Vec<&str> = parts.crms.iter().map(|(crm, _)| &**crm).collect();
        ResyncError::UnknownCrm { known: known.join(", ") }
    })?;
    match &order.what {
        What::Contacts(contacts) => these(&shown, crm, contacts, (operator, Action::ResyncContacts)).await,
        What::Repair(contacts) => these(&shown, crm, contacts, (operator, Action::Repair)).await,
        What::All { restart } => {
            if let Some(running) = standing(parts, crm)?.filter(|last| last.ended().is_none() && !restart) {
                return Err(ResyncError::Running { crm: crm.clone(), id: running.id });
            }
            let id = Uuid::new_v4().to_string();
            let action = if *restart { Action::ResyncRestart } else { Action::ResyncStart };
            let asked = Asked { id, asked_at: parts.clock.now(), stop: false, format: FORMAT };
            ask(parts, crm, asked, (operator, action)).await
        }
        What::Stop => {
            let running = standing(parts, crm)?.filter(|last| last.ended().is_none());
            let running = running.ok_or_else(|| ResyncError::NotRunning { crm: crm.clone() })?;
            let asked = Asked { id: running.id, asked_at: running.asked_at, stop: true, format: FORMAT };
            ask(parts, crm, asked, (operator, Action::ResyncStop)).await
        }
        What::Status => Ok(Reply::Job(standing(parts, crm)?)),
    }
}

/// Appends an entry for each of `contacts` that is known.
async fn these(
    shown: &Shown,
    crm: &Arc<str>,
    contacts: &[explain::Asked],
    (operator, action): (&Operator, Action),
) -> Result<Reply, ResyncError> {
    if contacts.is_empty() {
        return Err(ResyncError::Nobody);
    }
    if contacts.len() > CONTACTS_MAX {
        return Err(ResyncError::TooMany);
    }
    let parts = shown.parts();
    let (id, now) = (Uuid::new_v4().to_string(), parts.clock.now());
    let (mut appended, mut unknown, mut records) = (Vec::new(), Vec::new(), Vec::new());
    for (place, contact) in contacts.iter().enumerate() {
        let contact = shown.find(contact)?;
        let version = contact.map(|contact| parts.view.record_version(contact)).transpose();
        let (Some(contact), Some(version)) = (contact, version.map_err(ExplainError::from)?.flatten()) else {
            unknown.push(place);
            continue;
        };
        // Named twice, or under two names, it is one contact.
        if !appended.contains(&contact) {
            let cause = Cause { kind: CauseKind::Resync, id: id.clone() };
            let entry = Entry::asked(contact, version, cause, crm.clone(), now);
            let partition = partition_of(contact.key().as_bytes(), parts.partitions);
            let to = TopicPartition::new(parts.topics.versions.clone(), partition);
            records.push(record(to, contact.key(), encode(&entry)));
            appended.push(contact);
        }
    }
    if !records.is_empty() {
        let target = Target {
            crm: Some(crm.clone()),
            cause: Some(id.clone()),
            contact_ids: appended.clone(),
            letters: Vec::new(),
        };
        parts.trail.act(operator, action, target, records).await?;
    }
    Ok(Reply::Contacts { id, appended, unknown })
}

/// Writes down what was asked, and waits until it is seen.
async fn ask(
    parts: &explain::Parts,
    crm: &Arc<str>,
    asked: Asked,
    (operator, action): (&Operator, Action),
) -> Result<Reply, ResyncError> {
    let at = TopicPartition::new(parts.topics.resolver.clone(), resolver::STATE);
    let target =
        Target { crm: Some(crm.clone()), cause: Some(asked.id.clone()), contact_ids: Vec::new(), letters: Vec::new() };
    let order = record(at.clone(), Asked::key(crm), encode(&asked));
    parts.trail.act(operator, action, target, vec![order]).await?;
    let seen = async {
        let end = parts.log.watermarks(&at).await?.high;
        parts.view.reached(&at, end).await.map_err(ExplainError::from)?;
        Ok::<_, ResyncError>(())
    };
    if let Ok(Err(error)) = timeout(SEEN_DEADLINE, seen).await {
        info!(%crm, %error, "the resync is asked for; how it stands is not seen yet");
    }
    let seen = standing(parts, crm)?.filter(|last| last.id == asked.id && last.stopping == asked.stop);
    let standing = seen.or_else(|| Standing::of(crm, Some(asked), None));
    Ok(Reply::Job(standing))
}

fn standing(parts: &explain::Parts, crm: &Arc<str>) -> Result<Option<Standing>, ResyncError> {
    let asked = resolver::state_in::<Asked>(&parts.view, &Asked::key(crm))?;
    let job = resolver::state_in::<Job>(&parts.view, &Job::key(crm))?;
    Ok(Standing::of(crm, asked, job))
}

fn record(to: TopicPartition, key: String, value: Bytes) -> NewRecord {
    NewRecord { to, key: Some(key.into()), value: Some(value), headers: Vec::new() }
}
