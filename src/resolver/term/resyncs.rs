//! Carries on the resyncs that operators asked for: entry after entry, and how far that is, in one transaction.
//!
//! The active resolver is the right one for it. It is the only writer that a successor fences before it reads how far its
//! predecessor came, so entries and progress are committed together or not at all, and nobody appends a contact twice. The
//! work is small: the CRM's pace bounds it, not what a resolver can do.
//!
//! Entries wait for the CRM's replicators: they are never [`AHEAD_MAX`] ahead of what these have committed. That is asked in
//! the background, since a broker may take its time, and without an answer nothing more is appended.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinHandle, spawn_blocking},
    time::Instant,
};
use tracing::{info, warn};
use uuid::Uuid;

use super::{Ended, NotWritten, Term, mirror, write};
use crate::{
    contact::{ContactId, Version, record::FORMAT},
    event::{
        Entry,
        entry::{Cause, CauseKind},
    },
    log::{Isolation, LogError, NewRecord, TopicPartition, Transaction},
    replicator,
    resolver::{Parts, ResolverError, publish::Publisher, state},
    resync::{
        job::{Asked, Job, Pace},
        mode::Decided,
    },
    view::{View, ViewError},
};

/// How often it is looked whether there is something to append.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Entries of one transaction.
const BATCH_CONTACTS_MAX: usize = 500;
/// Entries that may wait for the replicators of a CRM, events among them.
const AHEAD_MAX: u64 = 10_000;
/// How old an answer may be to how many wait.
const AHEAD_EVERY: Duration = Duration::from_secs(2);
/// Contacts counted at once.
const COUNTED_AT_ONCE: usize = 10_000;

/// The resyncs of one term.
#[derive(Debug, Default)]
pub(super) struct Resyncs {
    running: BTreeMap<Arc<str>, Running>,
    /// Whether a CRM is in shadow, as was last committed.
    shadows: BTreeMap<Arc<str>, bool>,
    look_at: Option<Instant>,
}

#[derive(Debug)]
struct Running {
    job: Job,
    pace: Pace,
    ahead: Ahead,
}

/// How many entries wait for the replicators of a CRM.
#[derive(Debug, Default)]
struct Ahead {
    asking: Option<JoinHandle<Result<u64, LogError>>>,
    asked_at: Option<Instant>,
    /// What waited when it was last asked, with what was appended since.
    waiting: Option<u64>,
    /// Appended since the question under way was begun.
    since: u64,
}

impl Drop for Ahead {
    fn drop(&mut self) {
        if let Some(asking) = &self.asking {
            asking.abort();
        }
    }
}

impl Ahead {
    fn room(&self) -> usize {
        let room = self.waiting.map_or(0, |waiting| AHEAD_MAX.saturating_sub(waiting));
        usize::try_from(room).unwrap_or(usize::MAX)
    }

    fn appended(&mut self, contacts: usize) {
        self.since += contacts as u64;
        self.waiting = self.waiting.map(|waiting| waiting + contacts as u64);
    }

    /// Takes an answer that came, and asks again if it is time.
    async fn look(&mut self, parts: &Parts, crm: &Arc<str>, now: Instant) {
        if let Some(asking) = self.asking.take_if(|asking| asking.is_finished()) {
            match asking.await {
                Ok(Ok(waiting)) => self.waiting = Some(waiting + self.since),
                Ok(Err(error)) => warn!(%crm, %error, "how much waits for the CRM is not known: its resync waits, too"),
                Err(_ended) => warn!(%crm, "how much waits for the CRM could not be asked"),
            }
        }
        if self.asking.is_none() && self.asked_at.is_none_or(|asked_at| asked_at + AHEAD_EVERY <= now) {
            self.asked_at = Some(now);
            self.since = 0;
            let (parts, crm) = (parts.clone(), crm.clone());
            self.asking = Some(tokio::spawn(async move { parts.waiting_for(&crm).await }));
        }
    }
}

impl Parts {
    /// Records of the work list that the replicators of `crm` have not committed.
    async fn waiting_for(&self, crm: &str) -> Result<u64, LogError> {
        let group = replicator::group(&self.instance, crm);
        let mut waiting = 0_u64;
        for partition in 0..self.partitions(&self.topics.versions).await? {
            let at = TopicPartition::new(Arc::clone(&self.topics.versions), partition);
            let bounds = self.log.watermarks(&at).await?;
            let committed = self.log.committed(&group, &at, Isolation::ReadUncommitted).await?;
            let next = committed.map_or(bounds.low, |committed| committed.offset.max(bounds.low));
            waiting += bounds.high.saturating_sub(next);
        }
        Ok(waiting)
    }
}

/// What is to be done for one CRM now.
enum Turn {
    Rest,
    Commit { job: Job, contacts: Vec<(ContactId, Version)> },
}

impl Term {
    /// Appends what the paces allow, if it is time to look.
    pub(super) async fn carry_on_resyncs(&mut self, stop: &watch::Receiver<bool>) -> Result<(), Ended> {
        let now = Instant::now();
        if self.resyncs.look_at.is_some_and(|look_at| now < look_at) {
            return Ok(());
        }
        self.resyncs.look_at = Some(now + LOOK_EVERY);
        let crms = Arc::clone(&self.work.parts.resyncs);
        for (crm, per_second) in &*crms {
            self.follow_mode(crm, stop).await?;
            match self.turn(crm, *per_second, now).await? {
                Turn::Rest => {}
                Turn::Commit { job, contacts } => self.commit_resync(crm, job, &contacts, stop).await?,
            }
        }
        Ok(())
    }

    /// Writes down that a CRM is in shadow, and when it is so no longer, asks for a resync in the same transaction.
    async fn follow_mode(&mut self, crm: &Arc<str>, stop: &watch::Receiver<bool>) -> Result<(), Ended> {
        let parts = &self.work.parts;
        let shadow = parts.shadows.contains(crm);
        let before = match self.resyncs.shadows.get(crm) {
            Some(before) => *before,
            None => parts.state::<Decided>(&Decided::key(crm))?.is_some_and(|decided| decided.shadow),
        };
        if shadow != before {
            let topic = &parts.topics.resolver;
            let mut records = vec![state::record(topic, Decided::key(crm), &Decided::new(shadow))];
            if !shadow {
                let id = Uuid::new_v4().to_string();
                info!(%crm, id, "the CRM has left shadow: a resync of all contacts begins");
                let asked = Asked { id, asked_at: parts.clock.now(), stop: false, format: FORMAT };
                records.push(state::record(topic, Asked::key(crm), &asked));
            }
            let transaction = Transaction { records, offsets: Some(mirror(parts, &self.lease, &self.decided)) };
            match write(parts, &mut *self.writer, &self.lease, transaction, stop.clone()).await {
                Ok(()) => {}
                Err(NotWritten::TooLarge { to }) => return Err(Ended::Failed(ResolverError::TooLarge { to })),
                Err(NotWritten::Ended(ended)) => return Err(ended),
            }
        }
        self.resyncs.shadows.insert(crm.clone(), shadow);
        Ok(())
    }

    async fn turn(&mut self, crm: &Arc<str>, per_second: f64, now: Instant) -> Result<Turn, Ended> {
        let parts = &self.work.parts;
        let wall = parts.clock.now();
        let Some(asked) = parts.state::<Asked>(&Asked::key(crm))? else { return Ok(Turn::Rest) };
        let known = self.resyncs.running.get(crm).is_some_and(|running| running.job.id == asked.id);
        if !known {
            // Of this term or another: the view holds what every term before this one committed.
            let stored = parts.state::<Job>(&Job::key(crm))?.filter(|job| job.id == asked.id);
            let is_new = stored.is_none();
            let job = match stored {
                Some(job) => job,
                None => Job::begin(&asked, count(&parts.view).await?),
            };
            info!(%crm, id = job.id, contacts = job.total, appended = job.appended, "a resync goes on here");
            let running = Running { job: job.clone(), pace: Pace::new(per_second, now), ahead: Ahead::default() };
            self.resyncs.running.insert(crm.clone(), running);
            if is_new {
                return Ok(Turn::Commit { job, contacts: Vec::new() });
            }
        }
        let Running { job, pace, ahead } = self.resyncs.running.get_mut(crm).expect("just seen to");
        parts.metrics.resync_remaining(crm, job.remaining());
        if job.ended.is_some() {
            return Ok(Turn::Rest);
        }
        if asked.stop {
            let mut job = job.clone();
            job.stop(wall);
            return Ok(Turn::Commit { job, contacts: Vec::new() });
        }
        ahead.look(parts, crm, now).await;
        let room = pace.room(now, ahead.room().min(BATCH_CONTACTS_MAX));
        if room == 0 {
            return Ok(Turn::Rest);
        }
        let mut job = job.clone();
        let Page { ids, contacts } = next(&parts.view, job.after, room).await?;
        job.append(&ids, room, wall);
        Ok(Turn::Commit { job, contacts })
    }

    /// Commits entries and progress together.
    async fn commit_resync(
        &mut self,
        crm: &Arc<str>,
        job: Job,
        contacts: &[(ContactId, Version)],
        stop: &watch::Receiver<bool>,
    ) -> Result<(), Ended> {
        let parts = &self.work.parts;
        let mut records = entries(&self.publisher, crm, &job, contacts);
        records.push(state::record(&parts.topics.resolver, Job::key(crm), &job));
        let transaction = Transaction { records, offsets: Some(mirror(parts, &self.lease, &self.decided)) };
        match write(parts, &mut *self.writer, &self.lease, transaction, stop.clone()).await {
            Ok(()) => {}
            Err(NotWritten::TooLarge { to }) => return Err(Ended::Failed(ResolverError::TooLarge { to })),
            Err(NotWritten::Ended(ended)) => return Err(ended),
        }
        parts.metrics.resync_remaining(crm, job.remaining());
        if let Some(ended) = job.ended {
            info!(%crm, id = job.id, appended = job.appended, finished = ended.finished, "a resync has ended");
        }
        let running = self.resyncs.running.get_mut(crm).expect("it is carried on here");
        running.pace.used(contacts.len());
        running.ahead.appended(contacts.len());
        running.job = job;
        Ok(())
    }

    /// Nothing remains to be done here, whatever remains to be done.
    pub(super) fn leave_resyncs(&self) {
        for crm in self.resyncs.running.keys() {
            self.work.parts.metrics.resync_remaining(crm, 0);
        }
    }
}

fn entries(publisher: &Publisher, crm: &Arc<str>, job: &Job, contacts: &[(ContactId, Version)]) -> Vec<NewRecord> {
    let entries = contacts.iter().map(|(contact, version)| {
        let cause = Cause { kind: CauseKind::Resync, id: job.id.clone() };
        publisher.entry(&Entry::asked(*contact, *version, cause, crm.clone(), job.asked_at))
    });
    entries.collect()
}

/// Some contacts, in the order of their ids.
struct Page {
    ids: Vec<ContactId>,
    /// Each with the version that the view has of it.
    contacts: Vec<(ContactId, Version)>,
}

/// The contacts behind `after`, at most `limit`.
async fn next(view: &View, after: Option<ContactId>, limit: usize) -> Result<Page, Ended> {
    on_a_thread(view, move |view| {
        let ids = view.contacts(after, limit)?;
        let version = |contact: &ContactId| Ok(view.record_version(*contact)?.map(|version| (*contact, version)));
        let contacts =
            ids.iter().filter_map(|contact| version(contact).transpose()).collect::<Result<_, ViewError>>()?;
        Ok(Page { ids, contacts })
    })
    .await
}

/// How many contacts there are.
async fn count(view: &View) -> Result<u64, Ended> {
    on_a_thread(view, |view| {
        let (mut count, mut after) = (0, None);
        loop {
            let contacts = view.contacts(after, COUNTED_AT_ONCE)?;
            count += contacts.len() as u64;
            if contacts.len() < COUNTED_AT_ONCE {
                return Ok(count);
            }
            after = contacts.last().copied();
        }
    })
    .await
}

async fn on_a_thread<T: Send + 'static>(
    view: &View,
    read: impl FnOnce(&View) -> Result<T, ViewError> + Send + 'static,
) -> Result<T, Ended> {
    let view = view.clone();
    let read = spawn_blocking(move || read(&view)).await;
    Ok(read.map_err(|_panicked| Ended::Failed(ResolverError::Thread))??)
}
