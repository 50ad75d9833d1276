//! Contacts that are stuck in a CRM: to be tried now, or to be given up.
//!
//! *Parked* contacts try by themselves, with pauses that grow; *rejected* ones wait for their next version. An operator who
//! mended what was wrong need not wait: they are **retried**, by name or, where a fault of the CRM met many, all at once
//! ([`all`]). And what cannot be mended is **skipped**: what waits is answered `filtered`, `skipped`, and the contact's next
//! version is tried as ever.
//!
//! Only entries of the work list are written, as for a resync; what they do to a contact is the replicator's
//! ([`lane`](crate::replicator::lane)). A skip says up to which version: the one that this worker's view had when it was asked.
//! So what came after the operator looked is not given up by mistake, and where nothing is left to give up, its outcome says so.
//!
//! It changes no record and no version, and tells no value of a contact.

pub mod all;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    audit::{AuditError, Operator},
    contact::{ContactId, Version},
    event::{
        Entry,
        audit::{Action, Target},
        entry::{Cause, CauseKind},
    },
    explain::{self, Asked, Desk, ExplainError, Shown},
    log::{NewRecord, TopicPartition, partition_of},
};

/// Contacts of one order; the rest is for the next one.
pub const CONTACTS_MAX: usize = 1_000;

/// What is to become of contacts that are stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// They are tried now.
    Retry,
    /// What waits of them is given up.
    Skip,
}

impl What {
    fn cause(self) -> CauseKind {
        match self {
            Self::Retry => CauseKind::Retry,
            Self::Skip => CauseKind::Skip,
        }
    }

    fn action(self) -> Action {
        match self {
            Self::Retry => Action::Retry,
            Self::Skip => Action::Skip,
        }
    }
}

/// Whom it concerns.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    pub crm: String,
    pub contacts: Vec<Asked>,
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The cause of the outcomes.
    pub id: String,
    pub appended: Vec<ContactId>,
    /// Places of those whom nobody knows, in the order of the question, from 0.
    pub unknown: Vec<usize>,
}

/// Why an order is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum StuckError {
    #[error("there is no CRM of that name in the worker's settings; there are: {known}")]
    UnknownCrm { known: String },
    #[error("nobody is named")]
    Nobody,
    #[error("at most {CONTACTS_MAX} contacts can be named at once")]
    TooMany,
    #[error("contacts are being retried at this worker: wait until that ends")]
    Running,
    #[error(transparent)]
    Explain(#[from] ExplainError),
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// Carries out an order at a worker.
///
/// # Errors
/// [`StuckError`]; nothing was asked for then.
pub async fn obey(desk: &Desk, what: What, order: &Order, operator: &Operator) -> Result<Reply, StuckError> {
    let shown = desk.shown()?;
    let crm = configured(shown.parts(), &order.crm)?;
    if order.contacts.is_empty() {
        return Err(StuckError::Nobody);
    }
    if order.contacts.len() > CONTACTS_MAX {
        return Err(StuckError::TooMany);
    }
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for (place, asked) in order.contacts.iter().enumerate() {
        match find(&shown, asked)? {
            // Named twice, or under two names, it is one contact.
            Some((contact, version)) if !known.contains(&(contact, version)) => known.push((contact, version)),
            Some(_) => {}
            None => unknown.push(place),
        }
    }
    let id = Uuid::new_v4().to_string();
    let appended = known.iter().map(|(contact, _)| *contact).collect();
    if !known.is_empty() {
        append(&shown, &crm, what, &id, &known, operator).await?;
    }
    Ok(Reply { id, appended, unknown })
}

fn find(shown: &Shown, asked: &Asked) -> Result<Option<(ContactId, Version)>, ExplainError> {
    let Some(contact) = shown.find(asked)? else { return Ok(None) };
    Ok(shown.parts().view.record_version(contact)?.map(|version| (contact, version)))
}

fn configured(parts: &explain::Parts, name: &str) -> Result<Arc<str>, StuckError> {
    let crm = parts.crms.iter().map(|(crm, _)| crm).find(|crm| ***crm == *name);
    crm.cloned().ok_or_else(|| {
        let known: Vec<&str> = parts.crms.iter().map(|(crm, _)| &**crm).collect();
        StuckError::UnknownCrm { known: known.join(", ") }
    })
}

/// Appends an entry for each of these contacts, which have reached these versions.
async fn append(
    shown: &Shown,
    crm: &Arc<str>,
    what: What,
    id: &str,
    contacts: &[(ContactId, Version)],
    operator: &Operator,
) -> Result<(), AuditError> {
    let parts = shown.parts();
    let now = parts.clock.now();
    let record = |(contact, version): &(ContactId, Version)| {
        let cause = Cause { kind: what.cause(), id: id.to_owned() };
        let entry = Entry::asked(*contact, *version, cause, crm.clone(), now);
        let partition = partition_of(contact.key().as_bytes(), parts.partitions);
        let to = TopicPartition::new(parts.topics.versions.clone(), partition);
        NewRecord { to, key: Some(contact.key().into()), value: Some(entry.encode()), headers: Vec::new() }
    };
    let contact_ids = contacts.iter().map(|(contact, _)| *contact).collect();
    let target = Target { crm: Some(crm.clone()), cause: Some(id.to_owned()), contact_ids, ..Target::default() };
    parts.trail.act(operator, what.action(), target, contacts.iter().map(record).collect()).await
}
