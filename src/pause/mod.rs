//! A CRM is to be left alone until an operator says otherwise.
//!
//! For what only an operator can know: the CRM is being moved, its users ask for quiet, or what we send it is wrong. A fault
//! that a replicator finds by itself pauses a CRM, too, but is probed and passes by itself; this one is neither.
//!
//! The order is a record of `contact-resolver` ([`Ordered`]), written with its audit in one transaction. Every worker follows it:
//! what is under way ends, nothing more is begun, tried again, parked or given up, and entries wait at their bounds. It outlives
//! every worker. A worker that takes partitions over knows of it before it sends anything.
//!
//! An order that says what holds already changes nothing and is no action. So whoever is asked first looks until its view has all
//! that was said before.

mod ordered;

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::time::timeout;

pub use self::ordered::Ordered;
use crate::{
    audit::{AuditError, Operator},
    contact::{format::encode, record::FORMAT},
    event::audit::{Action, Target},
    explain::{self, Desk, ExplainError},
    log::{LogError, NewRecord, TopicPartition},
    resolver::{self, ResolverError},
};

/// How long the view may take to show what was said before.
const SEEN_DEADLINE: Duration = Duration::from_secs(5);

/// What is asked for.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    pub crm: String,
    pub what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Pause,
    Resume,
    /// What was said last.
    Status,
}

/// What holds now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    pub crm: Arc<str>,
    /// The order made a difference.
    pub changed: bool,
    /// Absent if the CRM was never paused.
    pub ordered: Option<Ordered>,
}

/// Why an order is not carried out.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    #[error("there is no CRM of that name in the worker's settings; there are: {known}")]
    UnknownCrm { known: String },
    #[error("the worker's view is behind the log, and does not know what was said last: ask again, or another worker")]
    Behind,
    #[error(transparent)]
    Audit(#[from] AuditError),
    #[error(transparent)]
    Explain(#[from] ExplainError),
    #[error("the log does not say how far it is")]
    Log(#[from] LogError),
    #[error("what was said last cannot be read")]
    State(#[from] ResolverError),
}

/// Carries out an order at a worker.
///
/// # Errors
/// [`PauseError`]; nothing was changed then, but where the log says that it cannot know.
pub async fn obey(desk: &Desk, order: &Order, operator: &Operator) -> Result<Reply, PauseError> {
    let shown = desk.shown()?;
    let parts = shown.parts();
    let crm = parts.crms.iter().map(|(crm, _)| crm).find(|crm| ***crm == *order.crm);
    let crm = crm.ok_or_else(|| {
        let known: Vec<&str> = parts.crms.iter().map(|(crm, _)| &**crm).collect();
        PauseError::UnknownCrm { known: known.join(", ") }
    })?;
    let at = TopicPartition::new(parts.topics.resolver.clone(), resolver::STATE);
    if !is_seen(parts, &at).await? {
        return Err(PauseError::Behind);
    }
    let last = resolver::state_in::<Ordered>(&parts.view, &Ordered::key(crm))?;
    let is_paused = last.as_ref().is_some_and(|last| last.paused);
    let (action, paused) = match order.what {
        What::Pause if !is_paused => (Action::Pause, true),
        What::Resume if is_paused => (Action::Resume, false),
        What::Pause | What::Resume | What::Status => {
            return Ok(Reply { crm: crm.clone(), changed: false, ordered: last });
        }
    };
    let by = operator.by().ok_or(AuditError::Nameless)?.to_owned();
    let reason = operator.reason().map(str::to_owned);
    let ordered = Ordered { paused, by, reason, at: parts.clock.now(), format: FORMAT };
    let record = NewRecord {
        to: at.clone(),
        key: Some(Ordered::key(crm).into()),
        value: Some(encode(&ordered)),
        headers: Vec::new(),
    };
    let target = Target { crm: Some(crm.clone()), ..Target::default() };
    parts.trail.act(operator, action, target, vec![record]).await?;
    // The order stands, whether it is seen here in time or not.
    let _seen = is_seen(parts, &at).await;
    Ok(Reply { crm: crm.clone(), changed: true, ordered: Some(ordered) })
}

/// Waits until the view has all that `at` holds now; whether it came so far in time.
async fn is_seen(parts: &explain::Parts, at: &TopicPartition) -> Result<bool, PauseError> {
    let seen = async {
        let end = parts.log.watermarks(at).await?.high;
        parts.view.reached(at, end).await.map_err(ExplainError::from)?;
        Ok(())
    };
    match timeout(SEEN_DEADLINE, seen).await {
        Ok(seen) => seen.map(|()| true),
        Err(_elapsed) => Ok(false),
    }
}
