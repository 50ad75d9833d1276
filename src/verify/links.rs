//! The links of some contacts of one partition.
//!
//! Where the view follows the partition, each link is looked up when it is needed. Otherwise they are read from the log: one
//! pass over the partition for at most [`LINKS_AT_ONCE`] contacts. That is a bound on memory, and on how old a link is by
//! the time its contact is compared; the passes cost little beside the reads of the CRM that lie between them.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, timeout_at};

use crate::{
    contact::{ContactId, format},
    crm::link::Link,
    log::{Log, LogError, TopicPartition},
    view::{View, ViewError},
};

/// Links that are held at once.
pub(crate) const LINKS_AT_ONCE: usize = 2_000;
/// How long one pass may take.
const DEADLINE: Duration = Duration::from_secs(10 * 60);
/// Records of one poll, and how long it waits for them.
const RECORDS_MAX: usize = 1_000;
const POLL_WAIT: Duration = Duration::from_millis(200);

/// Why links are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinksError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("a link in {at} cannot be read: {reason}")]
    Broken { at: TopicPartition, reason: String },
    #[error("{at} could not be read within {DEADLINE:?}")]
    Late { at: TopicPartition },
}

#[derive(Debug)]
pub(crate) enum Links {
    InView,
    Read(BTreeMap<ContactId, Link>),
}

impl Links {
    /// Of `contacts`, which are of the partition `at`, in the order of their ids.
    pub(crate) async fn of(
        contacts: &[ContactId],
        at: &TopicPartition,
        view: &View,
        log: &dyn Log,
    ) -> Result<Self, LinksError> {
        if view.position(at).is_some() {
            return Ok(Self::InView);
        }
        assert!(contacts.len() <= LINKS_AT_ONCE, "links are held up to a bound");
        let reading = read(contacts, at, log);
        let read = timeout_at(Instant::now() + DEADLINE, reading).await;
        read.unwrap_or_else(|_elapsed| Err(LinksError::Late { at: at.clone() })).map(Self::Read)
    }

    /// Whether they are still to be had from where they were: a partition may leave this worker at any moment.
    pub(crate) fn are_there(&self, at: &TopicPartition, view: &View) -> bool {
        matches!(self, Self::Read(_)) || view.position(at).is_some()
    }

    pub(crate) fn get(&self, view: &View, crm: &str, contact: ContactId) -> Result<Option<Link>, ViewError> {
        match self {
            Self::InView => view.link(crm, contact),
            Self::Read(links) => Ok(links.get(&contact).cloned()),
        }
    }
}

async fn read(
    contacts: &[ContactId],
    at: &TopicPartition,
    log: &dyn Log,
) -> Result<BTreeMap<ContactId, Link>, LinksError> {
    let mut follower = log.follower().await?;
    let bounds = log.watermarks(at).await?;
    follower.assign(at.clone(), bounds.low).await?;
    let mut links = BTreeMap::new();
    let mut position = bounds.low;
    while position < bounds.high {
        let progress = follower.poll(RECORDS_MAX, POLL_WAIT).await?;
        for record in progress.records {
            let contact = record.key.as_deref().and_then(ContactId::from_key);
            let Some(contact) = contact.filter(|contact| contacts.binary_search(contact).is_ok()) else { continue };
            match record.value.map(|value| format::decode::<Link>(&value)).transpose() {
                Ok(Some(link)) => drop(links.insert(contact, link)),
                Ok(None) => drop(links.remove(&contact)),
                Err(error) => return Err(LinksError::Broken { at: at.clone(), reason: error.to_string() }),
            }
        }
        for (place, seen) in progress.positions {
            if place == *at {
                position = position.max(seen);
            }
        }
    }
    Ok(links)
}
