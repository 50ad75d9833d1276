//! What every CRM calls our contacts, row by row, in the form that an import takes.
//!
//! All contacts are gone through, partition by partition, with their links from the view or, where another worker owns the
//! partition, from the log ([`Links`]). It goes on as long as somebody listens, and holds no more than a page of it.
//!
//! Of a contact of several sources there is a row for each, so that whoever has a source's table can join it.

use serde::{Deserialize, Serialize};
use tokio::{
    sync::mpsc,
    time::{Duration, Instant},
};
use tracing::info;

use super::{LinksError, Named, configured};
use crate::{
    contact::{ContactId, ContactRecord},
    crm::{Presence, link::Link},
    event::{OutcomeKind, ReasonCode},
    explain::{Desk, ExplainError},
    log::TopicPartition,
    verify::{
        Whom,
        links::{Links, LinksError as LinksUnread},
        whom::Chosen,
    },
    view::ViewError,
};

/// Lines that wait for whoever listens; at the bound the export waits.
const LINES_WAITING_MAX: usize = 1_000;
/// How often it is told how far it is.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    pub crm: String,
}

/// What is told, in this order: how many contacts are looked at, rows and how far it is, and how it ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    Begun {
        contacts: u64,
    },
    Row(Row),
    Progress {
        looked_at: u64,
    },
    Ended {
        rows: u64,
    },
    /// It could not go on.
    Failed {
        why: String,
    },
}

/// A contact as one of its sources calls it, and what the CRM calls it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub source: String,
    pub subject: String,
    pub contact_id: ContactId,
    /// Absent where the CRM does not have the contact, as far as is known.
    #[serde(default)]
    pub remote_id: Option<String>,
    pub state: State,
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "row of {}", self.contact_id)
    }
}

/// Where a contact stands in the CRM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Several contacts of the CRM may be this one, and an operator is to say which.
    Ambiguous,
    /// It waits for a later try.
    Parked,
    /// The CRM did not take its newest version that was tried.
    Rejected,
    Active,
    Inactive,
    /// It was deleted.
    Absent,
    /// It is known what the CRM calls it, and nothing was sent to it yet.
    Unsent,
    /// Nothing of it is in the CRM, as far as is known.
    Unlinked,
}

impl State {
    pub fn of(link: &Link) -> Self {
        let settled = link.settled.as_ref().filter(|settled| settled.outcome == OutcomeKind::Rejected);
        let code = settled.and_then(|settled| settled.reason.as_ref()).map(|reason| reason.code);
        match link.presence {
            _ if link.open.is_some() => Self::Parked,
            // An operator's word ends it, although what ended before stays known.
            _ if link.linked.is_some() => Self::Unsent,
            _ if code == Some(ReasonCode::AmbiguousMatch) => Self::Ambiguous,
            _ if settled.is_some() => Self::Rejected,
            Some(Presence::Active) => Self::Active,
            Some(Presence::Inactive) => Self::Inactive,
            Some(Presence::Absent) => Self::Absent,
            None if link.may_be_there() => Self::Unsent,
            None => Self::Unlinked,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ambiguous => "ambiguous",
            Self::Parked => "parked",
            Self::Rejected => "rejected",
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Absent => "absent",
            Self::Unsent => "unsent",
            Self::Unlinked => "unlinked",
        }
    }
}

/// Why an export cannot go on.
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
}

/// Begins to tell. It ends when all is told, or when nobody listens any more.
///
/// # Errors
/// If there is no such CRM, or the worker starts or stops.
pub fn begin(desk: &Desk, order: &Order) -> Result<mpsc::Receiver<Line>, LinksError> {
    let named = configured(desk.shown()?.parts(), &order.crm)?;
    info!(crm = %named.crm, "links are exported");
    let (told, lines) = mpsc::channel(LINES_WAITING_MAX);
    let desk = desk.clone();
    tokio::spawn(async move {
        let line = match tell_all(&desk, &named, &told).await {
            Ok(rows) => Line::Ended { rows },
            Err(error) => Line::Failed { why: error.to_string() },
        };
        // Whoever went away knows how it ended.
        let _unheard = told.send(line).await.is_err();
    });
    Ok(lines)
}

async fn tell_all(desk: &Desk, named: &Named, told: &mpsc::Sender<Line>) -> Result<u64, Ended> {
    let (view, log, topic, partitions) = {
        let shown = desk.shown()?;
        let parts = shown.parts();
        (parts.view.clone(), parts.log.clone(), parts.topics.links(&named.crm), parts.partitions)
    };
    let tell = async |line: Line| told.send(line).await.map_err(|_unheard| Ended::Unheard);
    let chosen = Chosen::of(Whom::All, &view).await?;
    tell(Line::Begun { contacts: chosen.count }).await?;
    let (mut rows, mut looked_at, mut tell_at) = (0, 0, Instant::now());
    for partition in 0..partitions {
        let at = TopicPartition::new(topic.clone(), partition);
        let mut after = None;
        loop {
            let contacts = chosen.next(partition, after, &view).await?;
            let Some(last) = contacts.last() else { break };
            after = Some(*last);
            let mut links = Links::of(&contacts, &at, &view, &*log).await?;
            for contact in &contacts {
                // A worker that has ended is not kept alive by what is read through it.
                drop(desk.shown()?);
                if !links.are_there(&at, &view) {
                    links = Links::of(&contacts, &at, &view, &*log).await?;
                }
                looked_at += 1;
                if let (Some(link), Some(record)) = (links.get(&view, &named.crm, *contact)?, view.record(*contact)?) {
                    for row in rows_of(&record, &link, named) {
                        rows += 1;
                        tell(Line::Row(row)).await?;
                    }
                }
                if tell_at <= Instant::now() {
                    tell_at = Instant::now() + TELL_EVERY;
                    tell(Line::Progress { looked_at }).await?;
                }
            }
        }
    }
    Ok(rows)
}

fn rows_of(record: &ContactRecord, link: &Link, named: &Named) -> Vec<Row> {
    let (remote_id, state) = (named.naming.of(link), State::of(link));
    let row = |member: &crate::contact::record::Member| Row {
        source: member.source.to_string(),
        subject: member.subject.to_string(),
        contact_id: record.contact_id,
        remote_id: remote_id.clone(),
        state,
    };
    record.members.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        crm::{
            REMOTE_CONTACT,
            link::{Linked, Settled},
        },
        event::{Reason, entry::LinkTo},
    };

    #[test]
    fn the_state_is_what_an_operator_has_to_know() {
        let nobody = Link::new(ContactId(Uuid::from_u128(7)));
        let settled = |outcome, code: Option<ReasonCode>| Settled {
            version: 1,
            outcome,
            operation: None,
            reason: code.map(Reason::from),
            attempts: 1,
        };
        let mut ambiguous = nobody.clone();
        ambiguous.settled = Some(settled(OutcomeKind::Rejected, Some(ReasonCode::AmbiguousMatch)));
        let mut said = ambiguous.clone();
        said.take_in(&LinkTo::Remote([(REMOTE_CONTACT.to_owned(), "1".to_owned())].into()), 3);
        assert_eq!(said.linked, Some(Linked::Existing));
        let rejected = settled(OutcomeKind::Rejected, Some(ReasonCode::MissingField));
        let held = |presence| Link { presence: Some(presence), ..nobody.clone() };
        for (link, state) in [
            (nobody.clone(), State::Unlinked),
            (ambiguous, State::Ambiguous),
            (said, State::Unsent),
            (Link { settled: Some(rejected), ..held(Presence::Active) }, State::Rejected),
            (Link { settled: Some(settled(OutcomeKind::Delivered, None)), ..held(Presence::Active) }, State::Active),
            (held(Presence::Inactive), State::Inactive),
            (held(Presence::Absent), State::Absent),
        ] {
            assert_eq!(State::of(&link), state);
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
    }
}
