//! Which contact of a CRM is which of ours, said by an operator and told to one: a CRM that is not empty on its first day.
//!
//! Somebody has a table of what their shop calls a person and what the CRM does. While the CRM is in shadow the people of
//! the shop become contacts here and nothing is sent, so the table can be *imported* ([`import`]): row by row it becomes
//! entries of the work list, and the owners of the partitions take them into the links ([`Link::take_in`]). With the first
//! live delivery each contact is then an update of the one that is there. What is known can be *exported* in the same form
//! ([`export`]), and single contacts are *set*, in shadow or not, where a search found several.
//!
//! Only entries are written here: of a link there is one writer. So what was asked shows in the view a moment later, and
//! asking again is harmless: a link that says so already is left as it is.
//!
//! **Who has a name already** is looked up in the view, which has the links of the partitions that this worker owns, and
//! among what was asked of this worker shortly before ([`Lately`]). What it cannot see: links of partitions that others own,
//! and what was asked of others. A name that two contacts have nevertheless brings both to the one contact of the CRM, where
//! the later one stands; an export shows it.
//!
//! Names of contacts, ours and those of the CRM, are told to whoever asks and never logged.

pub mod export;
mod import;
mod lately;

use std::{fmt, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use self::{import::ROWS_MAX, lately::Lately};
use crate::{
    audit::{AuditError, Operator},
    contact::{ContactId, Version, format::encode},
    crm::naming::{Naming, NamingError},
    event::{
        Entry,
        audit::{Action, Target},
        entry::{Cause, CauseKind, LinkTo},
    },
    explain::{self, Asked, Desk, ExplainError, Shown},
    log::{NewRecord, TopicPartition, partition_of},
    resolver::{self, ResolverError},
    resync::mode::Decided,
};

#[cfg(doc)]
use crate::crm::link::Link;

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
    /// These contacts are called so in the CRM. `check`: it is only looked whether that could be asked for.
    Import { rows: Vec<Row>, check: bool },
    /// This contact is that one of the CRM.
    Set { contact: Asked, to: To },
}

/// What a source calls somebody, and what the CRM does.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Short name or URI.
    pub source: String,
    pub subject: String,
    pub remote_id: String,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Row")
    }
}

/// Which contact of the CRM it is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum To {
    Remote(String),
    /// None of those that are there: it is created.
    New,
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Imported(Imported),
    Set { id: String, contact: ContactId },
}

/// What came of some rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Imported {
    /// The cause of the entries, if any were written.
    pub id: Option<String>,
    /// Rows whose contacts are to be linked so.
    pub linked: u64,
    /// Rows that say what links say already, as far as the worker can see.
    pub known: u64,
    pub refused: Vec<Refused>,
}

/// A row that is not followed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refused {
    /// Place among the rows of the order, from 0.
    pub place: usize,
    pub why: Why,
}

/// Why a contact is not linked so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    #[error("nobody is known by this source and subject")]
    Unknown,
    #[error("the remote id cannot be one: {0}")]
    Malformed(String),
    #[error("the contact {0} has this remote id already")]
    Taken(ContactId),
    #[error("another row says that the same contact, {0}, has another remote id")]
    Contradicted(ContactId),
}

impl From<NamingError> for Why {
    fn from(error: NamingError) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Why an order is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum LinksError {
    #[error("there is no CRM of that name in the worker's settings; there are: {known}")]
    UnknownCrm { known: String },
    #[error("no row is given")]
    NoRows,
    #[error("at most {ROWS_MAX} rows can be imported at once")]
    TooMany,
    #[error(
        "{crm} is not in shadow, and what is imported now would come too late for who was created already: set mode = \"shadow\" \
         for it, restart the workers, import, and take it out of shadow again; single contacts are linked by links set"
    )]
    NotInShadow { crm: Arc<str> },
    #[error("{0}")]
    Refused(Why),
    #[error("nobody is known by that name")]
    Nobody,
    #[error(transparent)]
    Explain(#[from] ExplainError),
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error("the state of the CRM cannot be read")]
    State(#[from] ResolverError),
}

/// Carries out an order at a worker.
///
/// # Errors
/// [`LinksError`]; nothing was asked for then.
pub async fn obey(desk: &Desk, order: &Order, operator: &Operator) -> Result<Reply, LinksError> {
    let shown = desk.shown()?;
    let crm = configured(shown.parts(), &order.crm)?;
    match &order.what {
        What::Import { rows, check } => import::import(&shown, &crm, rows, *check, operator).await.map(Reply::Imported),
        What::Set { contact, to } => set(&shown, &crm, contact, to, operator).await,
    }
}

/// A CRM by its name, with what its contacts are named by.
struct Named {
    crm: Arc<str>,
    naming: Naming,
}

fn configured(parts: &explain::Parts, name: &str) -> Result<Named, LinksError> {
    let known = parts.ways.get_key_value(name);
    let (crm, way) = known.ok_or_else(|| {
        let known: Vec<&str> = parts.crms.iter().map(|(crm, _)| &**crm).collect();
        LinksError::UnknownCrm { known: known.join(", ") }
    })?;
    Ok(Named { crm: crm.clone(), naming: way.connector.naming() })
}

/// Whether the installation knows the CRM to be in shadow.
fn is_in_shadow(parts: &explain::Parts, crm: &str) -> Result<bool, LinksError> {
    let decided = resolver::state_in::<Decided>(&parts.view, &Decided::key(crm))?;
    Ok(decided.is_some_and(|decided| decided.shadow))
}

async fn set(shown: &Shown, named: &Named, contact: &Asked, to: &To, operator: &Operator) -> Result<Reply, LinksError> {
    let parts = shown.parts();
    let contact = shown.find(contact)?.ok_or(LinksError::Nobody)?;
    let version = parts.view.record_version(contact).map_err(ExplainError::from)?.ok_or(LinksError::Nobody)?;
    let link_to = match to {
        To::New => LinkTo::New,
        To::Remote(name) => {
            let ids = named.naming.read(name).map_err(|error| LinksError::Refused(error.into()))?;
            if let Some(holder) = holder(parts, named, name, contact)? {
                return Err(LinksError::Refused(Why::Taken(holder)));
            }
            LinkTo::Remote(ids)
        }
    };
    let (id, now) = (Uuid::new_v4().to_string(), parts.clock.now());
    let target = Target {
        crm: Some(named.crm.clone()),
        cause: Some(id.clone()),
        contact_ids: vec![contact],
        letters: Vec::new(),
    };
    let entry = entry(parts, named, (contact, version), link_to, &id, now);
    parts.trail.act(operator, Action::LinksSet, target, vec![entry]).await?;
    let name = if let To::Remote(name) = to { Some(name.as_str()) } else { None };
    parts.lately.note(&named.crm, contact, name);
    Ok(Reply::Set { id, contact })
}

/// Another contact than `contact` that has this name, as far as can be seen here.
fn holder(
    parts: &explain::Parts,
    Named { crm, naming }: &Named,
    name: &str,
    contact: ContactId,
) -> Result<Option<ContactId>, LinksError> {
    let view = &parts.view;
    if let Some(owner) = naming.owner(name).filter(|owner| *owner != contact)
        && view.record_version(owner).map_err(ExplainError::from)?.is_some()
    {
        return Ok(Some(owner));
    }
    for partition in 0..parts.partitions {
        if view.position(&TopicPartition::new(parts.topics.links(crm), partition)).is_none() {
            continue;
        }
        for other in view.contacts_named(crm, partition, name).map_err(ExplainError::from)? {
            let link = view.link(crm, other).map_err(ExplainError::from)?;
            let has_it = link.is_some_and(|link| naming.of(&link).as_deref() == Some(name));
            if other != contact && has_it && parts.lately.is_called(crm, other, name) != Some(false) {
                return Ok(Some(other));
            }
        }
    }
    Ok(parts.lately.holder(crm, name).filter(|other| *other != contact))
}

/// The entry that asks for it, as a record.
fn entry(
    parts: &explain::Parts,
    named: &Named,
    (contact, version): (ContactId, Version),
    link_to: LinkTo,
    id: &str,
    asked_at: Timestamp,
) -> NewRecord {
    let cause = Cause { kind: CauseKind::Link, id: id.to_owned() };
    let entry = Entry::asked(contact, version, cause, named.crm.clone(), asked_at).linking(link_to);
    let partition = partition_of(contact.key().as_bytes(), parts.partitions);
    let to = TopicPartition::new(parts.topics.versions.clone(), partition);
    NewRecord { to, key: Some(contact.key().into()), value: Some(encode(&entry)), headers: Vec::new() }
}
