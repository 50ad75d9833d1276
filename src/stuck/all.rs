//! All contacts of a CRM that are stuck in one way are retried: after a fault of the CRM that met many of them.
//!
//! All contacts are gone through, partition by partition, with their links from the view or, where another worker owns the
//! partition, from the log ([`Links`]). Whoever is stuck gets an entry, page by page, at the pace of a resync of that CRM; each
//! page is told in the audit trail under one cause. It goes on as long as somebody listens, holds no more than a page of it,
//! and can be begun again: whoever got well meanwhile is not stuck any more, and who is retried twice is tried twice.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::{Instant, sleep},
};
use uuid::Uuid;

use super::{StuckError, What, append, configured};
use crate::{
    audit::{AuditError, Operator},
    contact::{ContactId, Version},
    crm::link::Link,
    event::{OutcomeKind, ReasonCode},
    explain::{Desk, ExplainError},
    log::TopicPartition,
    resync::job::Pace,
    verify::{
        Whom,
        links::{Links, LinksError as LinksUnread},
        whom::Chosen,
    },
    view::ViewError,
};

/// Entries that are appended together, at most.
const APPENDED_AT_ONCE: usize = 500;
/// Lines that wait for whoever listens; at the bound it waits.
const LINES_WAITING_MAX: usize = 100;
/// How often it is told how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether the pace allows more.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    pub crm: String,
    pub whom: Stuck,
    /// It is only counted whom it would concern.
    pub dry_run: bool,
}

/// In which way a contact is stuck.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stuck {
    Parked,
    /// The last version that ended was rejected, with this code or with any.
    Rejected(Option<ReasonCode>),
}

impl Stuck {
    /// Whether a contact with this link is stuck so.
    pub fn is(self, link: &Link) -> bool {
        match (self, &link.open) {
            (Self::Parked, open) => open.is_some(),
            // It is tried by itself.
            (Self::Rejected(_), Some(_)) => false,
            (Self::Rejected(wanted), None) => {
                let rejected = link.settled.as_ref().filter(|settled| settled.outcome == OutcomeKind::Rejected);
                rejected.is_some_and(|settled| {
                    let code = settled.reason.as_ref().map(|reason| reason.code);
                    wanted.is_none() || code == wanted
                })
            }
        }
    }
}

/// What is told, in this order: how many contacts are looked at, how far it is, and how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    Begun {
        contacts: u64,
        /// The cause of the outcomes.
        id: String,
    },
    Progress {
        looked_at: u64,
        stuck: u64,
    },
    Ended {
        stuck: u64,
    },
    /// It could not go on; these have their entries.
    Failed {
        why: String,
        stuck: u64,
    },
}

/// Why it cannot go on.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("nobody listens any more")]
    Unheard,
    #[error("the worker stops: begin again at another, or when it runs again")]
    Closed(#[from] ExplainError),
    #[error("the view cannot be read: {0}")]
    View(#[from] ViewError),
    #[error("the links of a partition that another worker owns cannot be read: {0}")]
    Links(#[from] LinksUnread),
    #[error("what is asked for cannot be written: {0}")]
    Audit(#[from] AuditError),
}

/// Begins. It ends when all were looked at, or when nobody listens any more.
///
/// # Errors
/// If there is no such CRM, one is under way for it, or the worker starts or stops.
pub fn begin(desk: &Desk, order: &Order, operator: &Operator) -> Result<mpsc::Receiver<Line>, StuckError> {
    let shown = desk.shown()?;
    let crm = configured(shown.parts(), &order.crm)?;
    if !order.dry_run {
        shown.parts().trail.may_act(operator, What::Retry.action())?;
    }
    let turn = shown.parts().turns.retries.clone().try_acquire_owned().map_err(|_taken| StuckError::Running)?;
    let (told, lines) = mpsc::channel(LINES_WAITING_MAX);
    let mut run = Run {
        desk: desk.clone(),
        crm,
        whom: order.whom,
        dry_run: order.dry_run,
        operator: operator.clone(),
        id: Uuid::new_v4().to_string(),
        told,
        stuck: 0,
        _turn: turn,
    };
    tokio::spawn(async move {
        let line = match run.all().await {
            Ok(()) => Line::Ended { stuck: run.stuck },
            Err(error) => Line::Failed { why: error.to_string(), stuck: run.stuck },
        };
        // Whoever went away knows how it ended.
        let _unheard = run.told.send(line).await.is_err();
    });
    Ok(lines)
}

struct Run {
    desk: Desk,
    crm: Arc<str>,
    whom: Stuck,
    dry_run: bool,
    operator: Operator,
    id: String,
    told: mpsc::Sender<Line>,
    /// Those found so far; without `dry_run`, those that have their entries.
    stuck: u64,
    _turn: OwnedSemaphorePermit,
}

impl Run {
    async fn all(&mut self) -> Result<(), Ended> {
        let (view, log, topic, partitions, per_second) = {
            let shown = self.desk.shown()?;
            let parts = shown.parts();
            let per_second = parts.ways.get(&self.crm).map_or(0.0, |way| way.settings.resync_contacts_per_second);
            (parts.view.clone(), parts.log.clone(), parts.topics.links(&self.crm), parts.partitions, per_second)
        };
        let chosen = Chosen::of(Whom::All, &view).await?;
        self.tell(Line::Begun { contacts: chosen.count, id: self.id.clone() }).await?;
        let mut pace = Pace::new(per_second, Instant::now());
        let (mut looked_at, mut tell_at) = (0, Instant::now());
        for partition in 0..partitions {
            let at = TopicPartition::new(topic.clone(), partition);
            let mut after = None;
            loop {
                let contacts = chosen.next(partition, after, &view).await?;
                let Some(last) = contacts.last() else { break };
                after = Some(*last);
                let mut links = Links::of(&contacts, &at, &view, &*log).await?;
                let mut stuck = Vec::new();
                for contact in &contacts {
                    if !links.are_there(&at, &view) {
                        links = Links::of(&contacts, &at, &view, &*log).await?;
                    }
                    let link = links.get(&view, &self.crm, *contact)?;
                    if link.is_some_and(|link| self.whom.is(&link))
                        && let Some(version) = view.record_version(*contact)?
                    {
                        stuck.push((*contact, version));
                    }
                }
                looked_at += contacts.len() as u64;
                self.retry(&stuck, &mut pace).await?;
                if tell_at <= Instant::now() {
                    tell_at = Instant::now() + TELL_EVERY;
                    self.tell(Line::Progress { looked_at, stuck: self.stuck }).await?;
                }
            }
        }
        Ok(())
    }

    /// Appends entries for these as the pace allows.
    async fn retry(&mut self, mut stuck: &[(ContactId, Version)], pace: &mut Pace) -> Result<(), Ended> {
        if self.dry_run {
            self.stuck += stuck.len() as u64;
            return Ok(());
        }
        while !stuck.is_empty() {
            if self.told.is_closed() {
                return Err(Ended::Unheard);
            }
            let room = pace.room(Instant::now(), stuck.len().min(APPENDED_AT_ONCE));
            if room == 0 {
                sleep(LOOK_EVERY).await;
                continue;
            }
            let (now, later) = stuck.split_at(room);
            // A worker that has ended is not kept alive by what is written through it.
            let shown = self.desk.shown()?;
            append(&shown, &self.crm, What::Retry, &self.id, now, &self.operator).await?;
            pace.used(now.len());
            self.stuck += now.len() as u64;
            stuck = later;
        }
        Ok(())
    }

    async fn tell(&self, line: Line) -> Result<(), Ended> {
        self.told.send(line).await.map_err(|_unheard| Ended::Unheard)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        contact::ContactId,
        crm::link::{Open, Settled},
    };

    #[test]
    fn parked_and_rejected_are_two_ways_to_be_stuck_and_a_code_tells_rejected_ones_apart() {
        let well = Link::new(ContactId(Uuid::from_u128(7)));
        let ended = |outcome, code: ReasonCode| {
            let (operation, reason) = (None, Some(code.into()));
            Some(Settled { version: 1, outcome, operation, reason, attempts: 1 })
        };
        let rejected = Link { settled: ended(OutcomeKind::Rejected, ReasonCode::InvalidField), ..well.clone() };
        let skipped = Link { settled: ended(OutcomeKind::Filtered, ReasonCode::Skipped), ..well.clone() };
        let due = jiff::Timestamp::UNIX_EPOCH;
        let parked =
            Link { open: Some(Open { entry: None, asked: None, attempts: 3, next_attempt: due }), ..rejected.clone() };
        let any = Stuck::Rejected(None);
        let with = |code| Stuck::Rejected(Some(code));
        for (link, stuck) in [
            (&well, vec![]),
            (&skipped, vec![]),
            (&rejected, vec![any, with(ReasonCode::InvalidField)]),
            (&parked, vec![Stuck::Parked]),
        ] {
            for whom in [Stuck::Parked, any, with(ReasonCode::InvalidField), with(ReasonCode::MissingField)] {
                assert_eq!(whom.is(link), stuck.contains(&whom), "{whom:?} of {link:?}");
            }
        }
    }
}
