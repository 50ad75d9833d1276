//! What a CRM holds, compared with our records: contact after contact is read back, and what differs is told.
//!
//! For what no delivery can see: a contact that was changed or deleted in the CRM by hand, or a CRM that came back from a
//! backup. It tells ids and names of fields, never a value, and changes nothing; what differs can be driven anew
//! ([`resync`](crate::resync)).
//!
//! **Where it runs.** In a worker that is asked, for as long as whoever asked listens. Not in a process of its own: a log on
//! disk is locked by its worker; records are in every worker's view already, whereas a newcomer would first have to follow
//! all of them; and only beside the replicator do reads and deliveries share one budget of requests and one session. Not as
//! a job of all workers either: whoever asks wants the report in their hands, and one reader is enough, since the CRM's
//! pace is the bound and not ours. Links of partitions that another worker owns are read from the log, some at a time
//! ([`links`]).
//!
//! **What it takes from deliveries.** One contact is read at a time, at most `verify_contacts_per_second`, and each request
//! waits for its turn in this worker's share of `requests_per_second`. While the CRM is paused nothing is read, and a worker
//! that owns no partition of a limited CRM has no share to read with.
//!
//! **Who is compared.** Contacts whose newest version the CRM has taken, by their links. Who waits, is parked, or was
//! refused is not what it should be for a known reason, and is only counted; so is whoever changes while being looked at. A
//! contact that differs is so one that nobody is about to mend.

pub(crate) mod links;
mod run;
pub(crate) mod whom;

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::sync::{Semaphore, mpsc};
use tracing::info;

use self::run::Run;
use crate::{
    config::DeliverySettings,
    contact::ContactId,
    crm::{
        Connector,
        remote::{Caller, NoReader},
    },
    explain::{Desk, ExplainError},
};

/// Contacts of a sample.
pub const SAMPLE_MAX: u64 = 100_000;
/// Lines that wait for whoever listens; at the bound the run waits.
const LINES_WAITING_MAX: usize = 100;

/// How a CRM is read beside its deliveries.
#[derive(Debug, Clone)]
pub struct Way {
    pub connector: Arc<dyn Connector>,
    pub caller: Caller,
    pub settings: DeliverySettings,
    turns: Arc<Semaphore>,
}

impl Way {
    pub fn new(connector: Arc<dyn Connector>, caller: Caller, settings: DeliverySettings) -> Self {
        Self { connector, caller, settings, turns: Arc::new(Semaphore::new(1)) }
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    pub crm: String,
    pub whom: Whom,
}

/// Who is to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Whom {
    All,
    /// So many, by chance.
    Sample(u64),
}

/// What is told, in this order: how many are looked at, what is found and how far it is, and how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    Begun {
        contacts: u64,
    },
    Found(Finding),
    /// `waits`: for a CRM that is paused, or for a share of its requests.
    Progress {
        counts: Counts,
        waits: bool,
    },
    Ended(Counts),
    /// It could not go on.
    Failed {
        why: String,
        counts: Counts,
    },
}

/// A contact that is not as it should be, or of which that cannot be told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    pub contact: ContactId,
    pub remote_id: String,
    pub what: Found,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Found {
    /// These fields differ.
    Drifted(BTreeSet<String>),
    /// The CRM no longer has it.
    Gone,
    Unreadable {
        why: String,
    },
}

/// How many contacts were looked at, and what came of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub looked_at: u64,
    pub equal: u64,
    pub drifted: u64,
    pub gone: u64,
    pub unreadable: u64,
    /// Nothing of them is in the CRM, as far as is known.
    pub unlinked: u64,
    /// The CRM has not taken their newest version: they wait, are parked, or were refused.
    pub unsettled: u64,
    /// The settings keep them from the CRM, whatever it holds.
    pub exempt: u64,
}

impl Counts {
    /// Whether all that was compared is as it should be.
    pub fn is_clean(&self) -> bool {
        self.drifted + self.gone + self.unreadable == 0
    }
}

/// Why nothing is compared.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    #[error("there is no CRM of that name in the worker's settings; there are: {known}")]
    UnknownCrm { known: String },
    #[error("contacts of {crm} cannot be read back, so nothing can be compared: {why}")]
    Unreadable { crm: Arc<str>, why: NoReader },
    #[error("a sample is of 1 to {SAMPLE_MAX} contacts; for more, compare all")]
    Sample,
    #[error("{crm} is being compared here already: end that, or wait for it")]
    Running { crm: Arc<str> },
    #[error(
        "this worker owns no partition of {crm}, and so has no share of its requests_per_second: ask a worker that has one"
    )]
    NoShare { crm: Arc<str> },
    #[error(transparent)]
    Closed(#[from] ExplainError),
}

/// Begins to compare. It ends when all are compared, or when nobody listens any more.
///
/// # Errors
/// [`VerifyError`]; nothing is read then.
pub fn begin(desk: &Desk, order: &Order) -> Result<mpsc::Receiver<Line>, VerifyError> {
    let shown = desk.shown()?;
    let parts = shown.parts();
    let Some((crm, status)) = parts.crms.iter().find(|(crm, _)| **crm == *order.crm) else {
        let known: Vec<&str> = parts.crms.iter().map(|(crm, _)| &**crm).collect();
        return Err(VerifyError::UnknownCrm { known: known.join(", ") });
    };
    let way = parts.ways.get(crm).expect("every configured CRM has a way").clone();
    if let Err(why) = way.connector.reader() {
        return Err(VerifyError::Unreadable { crm: crm.clone(), why });
    }
    if matches!(order.whom, Whom::Sample(size) if !(1..=SAMPLE_MAX).contains(&size)) {
        return Err(VerifyError::Sample);
    }
    if !run::has_share(&way, &status.borrow()) {
        return Err(VerifyError::NoShare { crm: crm.clone() });
    }
    let Ok(turn) = way.turns.clone().try_acquire_owned() else {
        return Err(VerifyError::Running { crm: crm.clone() });
    };
    info!(%crm, whom = ?order.whom, "what the CRM holds is compared with the records");
    let (told, lines) = mpsc::channel(LINES_WAITING_MAX);
    let run = Run::new(desk.clone(), crm.clone(), way, status.clone(), told, turn);
    tokio::spawn(run.run(order.whom));
    Ok(lines)
}
