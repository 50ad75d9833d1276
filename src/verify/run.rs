//! One comparison, from the first contact to the last.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tracing::info;

use super::{
    Counts, Finding, Found, Line, Way, Whom,
    links::{Links, LinksError},
    whom::Chosen,
};
use crate::{
    clock::Clock,
    contact::{ContactId, ContactRecord},
    crm::{
        Failure, FailureClass, Presence, Projection, REMOTE_CONTACT,
        link::{Link, Sent},
        reference::References,
        remote::{Compared, One, ReadError},
    },
    event::OutcomeKind,
    explain::Desk,
    log::TopicPartition,
    replicator::Status,
    view::{View, ViewError},
};

/// How often a contact is tried that the CRM does not give.
const TRIES: u32 = 3;
/// How often it is told how far the run is.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether a pause is over.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why a run cannot go on.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("nobody listens any more")]
    Unheard,
    #[error("the worker stops: begin again at another, or when it runs again")]
    Closed,
    #[error("the view cannot be read: {0}")]
    View(#[from] ViewError),
    #[error("the links of a partition that another worker owns cannot be read: {0}")]
    Links(#[from] LinksError),
    #[error("the CRM cannot be read: {0}")]
    Crm(ReadError),
    #[error("{contacts} contacts in a row could not be read, so it makes no sense to go on: {last}")]
    Mute { contacts: u32, last: String },
}

/// Whether this worker may send requests to the CRM.
pub(super) fn has_share(way: &Way, status: &Status) -> bool {
    way.settings.requests_per_second <= 0.0 || !status.owned.is_empty()
}

pub(super) struct Run {
    desk: Desk,
    crm: Arc<str>,
    way: Way,
    status: watch::Receiver<Status>,
    told: mpsc::Sender<Line>,
    _turn: OwnedSemaphorePermit,
    counts: Counts,
    /// Contacts that could not be read since the last that could.
    unread: u32,
    read_at: Instant,
    tell_at: Instant,
}

/// What there is to compare of a contact.
struct Comparable {
    record: ContactRecord,
    link: Link,
    projection: Projection,
    remote_id: String,
}

/// Where a contact stands before the CRM is asked.
enum Standing {
    Comparable(Box<Comparable>),
    Unlinked,
    Unsettled,
    Exempt,
}

impl Run {
    pub(super) fn new(
        desk: Desk,
        crm: Arc<str>,
        way: Way,
        status: watch::Receiver<Status>,
        told: mpsc::Sender<Line>,
        turn: OwnedSemaphorePermit,
    ) -> Self {
        let now = Instant::now();
        let counts = Counts::default();
        Self { desk, crm, way, status, told, _turn: turn, counts, unread: 0, read_at: now, tell_at: now }
    }

    pub(super) async fn run(mut self, whom: Whom) {
        let told = self.told.clone();
        let ended = tokio::select! {
            ended = self.all(whom) => ended,
            () = told.closed() => Err(Ended::Unheard),
        };
        let Counts { looked_at, drifted, gone, unreadable, .. } = self.counts;
        let line = match ended {
            Ok(()) => {
                info!(crm = %self.crm, looked_at, drifted, gone, unreadable, "the CRM was compared with the records");
                Line::Ended(self.counts)
            }
            Err(error) => {
                info!(crm = %self.crm, looked_at, %error, "the comparison with the CRM ended early");
                Line::Failed { why: error.to_string(), counts: self.counts }
            }
        };
        // Whoever went away knows how it ended.
        let _unheard = told.send(line).await.is_err();
    }

    async fn all(&mut self, whom: Whom) -> Result<(), Ended> {
        let (view, log, topic, partitions) = {
            let shown = self.desk.shown().map_err(|_closed| Ended::Closed)?;
            let parts = shown.parts();
            (parts.view.clone(), parts.log.clone(), parts.topics.links(&self.crm), parts.partitions)
        };
        let chosen = Chosen::of(whom, &view).await?;
        self.tell(Line::Begun { contacts: chosen.count }).await?;
        for partition in 0..partitions {
            let at = TopicPartition::new(topic.clone(), partition);
            let mut after = None;
            loop {
                let contacts = chosen.next(partition, after, &view).await?;
                let Some(last) = contacts.last() else { break };
                after = Some(*last);
                let mut links = Links::of(&contacts, &at, &view, &*log).await?;
                for contact in &contacts {
                    if !links.are_there(&at, &view) {
                        links = Links::of(&contacts, &at, &view, &*log).await?;
                    }
                    self.contact(*contact, &links, &view).await?;
                }
            }
        }
        Ok(())
    }

    async fn tell(&self, line: Line) -> Result<(), Ended> {
        self.told.send(line).await.map_err(|_unheard| Ended::Unheard)
    }

    async fn tell_progress(&mut self, waits: bool) -> Result<(), Ended> {
        let now = Instant::now();
        if now < self.tell_at {
            return Ok(());
        }
        self.tell_at = now + TELL_EVERY;
        self.tell(Line::Progress { counts: self.counts, waits }).await
    }

    async fn contact(&mut self, contact: ContactId, links: &Links, view: &View) -> Result<(), Ended> {
        // A worker that has ended is not kept alive by what is read through it.
        drop(self.desk.shown().map_err(|_closed| Ended::Closed)?);
        self.counts.looked_at += 1;
        match self.standing(contact, links, view)? {
            Standing::Unlinked => self.counts.unlinked += 1,
            Standing::Unsettled => self.counts.unsettled += 1,
            Standing::Exempt => self.counts.exempt += 1,
            Standing::Comparable(comparable) => self.compare(contact, *comparable, links, view).await?,
        }
        self.tell_progress(false).await
    }

    fn standing(&self, contact: ContactId, links: &Links, view: &View) -> Result<Standing, ViewError> {
        // The link first: a record that is newer than it shows as such.
        let link = links.get(view, &self.crm, contact)?;
        let (Some(link), Some(record)) = (link, view.record_to_deliver(contact)?) else {
            return Ok(Standing::Unlinked);
        };
        let Some(remote_id) = link.remote_ids.get(REMOTE_CONTACT).cloned() else {
            return Ok(Standing::Unlinked);
        };
        let taken = link.settled.as_ref().is_some_and(|settled| {
            settled.version >= record.version
                && matches!(settled.outcome, OutcomeKind::Delivered | OutcomeKind::Unchanged)
        });
        let is_certain = !link.incomplete && !link.sent.values().any(|sent| *sent == Sent::Void);
        if !taken || !is_certain || link.open.is_some() || link.answered < record.version {
            return Ok(Standing::Unsettled);
        }
        Ok(match self.way.connector.project(&record, Some(&link)) {
            Ok(projection) if projection.presence != Presence::Absent => {
                Standing::Comparable(Box::new(Comparable { record, link, projection, remote_id }))
            }
            Ok(_) | Err(_) => Standing::Exempt,
        })
    }

    async fn compare(
        &mut self,
        contact: ContactId,
        comparable: Comparable,
        links: &Links,
        view: &View,
    ) -> Result<(), Ended> {
        let found = match self.read(&comparable).await? {
            Ok(fields) => (!fields.is_empty()).then_some(Found::Drifted(fields)),
            Err(found) => Some(found),
        };
        // What was sent meanwhile was not there yet, or what was read is no longer so.
        let is_still_so = || {
            let link = links.get(view, &self.crm, contact)?;
            let version = view.record_version(contact)?;
            Ok::<_, ViewError>(link.as_ref() == Some(&comparable.link) && version == Some(comparable.record.version))
        };
        if matches!(found, Some(Found::Drifted(_) | Found::Gone)) && !is_still_so()? {
            self.counts.unsettled += 1;
            return Ok(());
        }
        match &found {
            None => self.counts.equal += 1,
            Some(Found::Drifted(_)) => self.counts.drifted += 1,
            Some(Found::Gone) => self.counts.gone += 1,
            Some(Found::Unreadable { .. }) => self.counts.unreadable += 1,
        }
        let Some(what) = found else { return Ok(()) };
        let mute = match &what {
            Found::Unreadable { why } => self.is_mute(why),
            Found::Drifted(_) | Found::Gone => None,
        };
        self.tell(Line::Found(Finding { contact, remote_id: comparable.remote_id, what })).await?;
        mute.map_or(Ok(()), Err)
    }

    /// The fields in which the CRM holds something else than it should.
    async fn differences(&self, comparable: &Comparable) -> Result<BTreeSet<String>, ReadError> {
        let Comparable { record, link, projection, remote_id } = comparable;
        let Way { connector, caller, .. } = &self.way;
        let reader = connector.reader().expect("what cannot be read is not compared");
        let view = reader.views().first().expect("what can be read is shown in some way").name;
        let one =
            |references: &References, answers: &[_]| reader.one(&One { id: remote_id, view, references }, answers);
        let held = caller.read(one).await?;
        let compare = |references: &References, answers: &[_]| {
            reader.differences(&Compared { record, link, projection, held: &held, references }, answers)
        };
        let mut fields = caller.read(compare).await?;
        // What is left to the CRM's users is no difference, whatever was sent of it once.
        fields.retain(|field| !connector.leaves_alone(record, field));
        Ok(fields)
    }

    /// Reads one contact when it is its turn, and compares it.
    async fn read(&mut self, comparable: &Comparable) -> Result<Result<BTreeSet<String>, Found>, Ended> {
        let mut tries = 0;
        loop {
            self.turn().await?;
            let error = match self.differences(comparable).await {
                Ok(fields) => {
                    self.unread = 0;
                    return Ok(Ok(fields));
                }
                Err(error) => error,
            };
            tries += 1;
            match error.failure().map(|failure| failure.class) {
                Some(FailureClass::Gone) => {
                    self.unread = 0;
                    return Ok(Err(Found::Gone));
                }
                Some(FailureClass::Transient | FailureClass::Throttled) if tries < TRIES => {
                    let delay = self.delay(error.failure(), tries);
                    self.rest(delay).await?;
                }
                Some(
                    FailureClass::Transient | FailureClass::Throttled | FailureClass::Rejected | FailureClass::Conflict,
                ) => {
                    return Ok(Err(Found::Unreadable { why: error.to_string() }));
                }
                Some(FailureClass::Auth | FailureClass::Connection) | None => return Err(Ended::Crm(error)),
            }
        }
    }

    fn is_mute(&mut self, why: &str) -> Option<Ended> {
        self.unread += 1;
        let is_mute = self.unread >= self.way.settings.failures_before_pause;
        is_mute.then(|| Ended::Mute { contacts: self.unread, last: why.to_owned() })
    }

    /// Waits for the pace, and while the CRM is paused or nothing may be sent from here.
    async fn turn(&mut self) -> Result<(), Ended> {
        loop {
            let may_send = {
                let status = self.status.borrow();
                status.paused.is_none() && has_share(&self.way, &status)
            };
            if may_send {
                break;
            }
            self.tell_progress(true).await?;
            self.rest(LOOK_EVERY).await?;
        }
        sleep_until(self.read_at).await;
        let rate = self.way.settings.verify_contacts_per_second;
        let apart = if rate > 0.0 { Duration::from_secs_f64(1.0 / rate) } else { Duration::ZERO };
        self.read_at = Instant::now() + apart;
        Ok(())
    }

    async fn rest(&self, delay: Duration) -> Result<(), Ended> {
        let until = Instant::now() + delay;
        while Instant::now() < until {
            drop(self.desk.shown().map_err(|_closed| Ended::Closed)?);
            sleep(LOOK_EVERY.min(until - Instant::now())).await;
        }
        Ok(())
    }

    /// How long the CRM asks us to wait, or else longer with each try.
    fn delay(&self, failure: Option<&Failure>, tries: u32) -> Duration {
        let settings = &self.way.settings;
        let asked = failure.and_then(|failure| failure.retry_after);
        match asked {
            Some(asked) => asked.delay(Clock::System.now()).min(settings.retry_after_max),
            None => (settings.retry_delay * 2_u32.saturating_pow(tries)).min(settings.retry_delay_max),
        }
    }
}
