//! A resync of all contacts of a CRM: what was asked, how far it is, and how fast it may go on.
//!
//! Two records of `contact-resolver` per CRM, each with one writer. What was *asked* last is written by the worker that was
//! asked, or by the active resolver when a CRM leaves shadow ([`mode`](super::mode)); the *job*, which is how far that is, by the active resolver alone, in the transaction of the entries that it stands
//! for. So no entry is lost or made twice, whoever is active. A job whose id is not the one that was asked last is over.
//!
//! Pure: the clock is an argument.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::contact::{ContactId, record::FORMAT};

/// Record keys begin with these; the name of the CRM follows.
const ASKED: &str = "resync-asked:";
const JOB: &str = "resync:";

/// The last thing that was asked for a CRM.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// The cause of all its entries.
    pub id: String,
    pub asked_at: Timestamp,
    /// It is to end where it is.
    pub stop: bool,
    pub format: u32,
}

impl Asked {
    pub fn key(crm: &str) -> String {
        format!("{ASKED}{crm}")
    }
}

/// How far a resync is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    pub id: String,
    pub asked_at: Timestamp,
    /// Contacts that there were when it began. Some may come while it runs; their own changes drive those.
    pub total: u64,
    /// Contacts that have their entry.
    pub appended: u64,
    /// Every contact up to this one has its entry; contacts go by their ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<ContactId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
    pub format: u32,
}

/// How and when a resync ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    pub at: Timestamp,
    /// Each contact has its entry; else it was stopped before.
    pub finished: bool,
}

impl Job {
    pub fn key(crm: &str) -> String {
        format!("{JOB}{crm}")
    }

    /// The job that was asked for, with `total` contacts before it.
    pub fn begin(asked: &Asked, total: u64) -> Self {
        let Asked { id, asked_at, .. } = asked.clone();
        Self { id, asked_at, total, appended: 0, after: None, ended: None, format: FORMAT }
    }

    /// Notes that these contacts, the next ones, have their entries now. Fewer than were looked for are the last ones.
    pub fn append(&mut self, contacts: &[ContactId], looked_for: usize, now: Timestamp) {
        self.appended += contacts.len() as u64;
        self.after = contacts.last().copied().or(self.after);
        if contacts.len() < looked_for {
            self.ended = Some(Ended { at: now, finished: true });
        }
    }

    pub fn stop(&mut self, now: Timestamp) {
        self.ended = Some(Ended { at: now, finished: false });
    }

    /// Contacts that are still to be appended, as far as was counted when it began.
    pub fn remaining(&self) -> u64 {
        if self.ended.is_some() { 0 } else { self.total.saturating_sub(self.appended) }
    }
}

/// Where the last resync of a CRM stands, for whoever asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    pub id: String,
    pub crm: Arc<str>,
    pub asked_at: Timestamp,
    /// It was asked to end.
    pub stopping: bool,
    /// Absent before the active resolver has taken it up.
    pub progress: Option<Progress>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    pub total: u64,
    pub appended: u64,
    pub ended: Option<Ended>,
}

impl Standing {
    /// What the two records of `crm` say together; `None` if nothing was ever asked.
    pub fn of(crm: &Arc<str>, asked: Option<Asked>, job: Option<Job>) -> Option<Self> {
        let Asked { id, asked_at, stop, format: _ } = asked?;
        let job = job.filter(|job| job.id == id);
        let progress = job.map(|Job { total, appended, ended, .. }| Progress { total, appended, ended });
        Some(Self { id, crm: crm.clone(), asked_at, stopping: stop, progress })
    }

    pub fn ended(&self) -> Option<Ended> {
        self.progress.as_ref()?.ended
    }
}

/// How many contacts may be appended, at so many per second and no more than a second's worth at once.
#[derive(Debug, Clone)]
pub struct Pace {
    /// 0: no limit.
    per_second: f64,
    allowed: f64,
    since: Instant,
}

/// What is saved up in a quiet time.
const SAVED_UP: Duration = Duration::from_secs(1);

impl Pace {
    pub fn new(per_second: f64, now: Instant) -> Self {
        Self { per_second, allowed: 1.0, since: now }
    }

    /// How many may be appended at `now`, at most `max`.
    pub fn room(&mut self, now: Instant, max: usize) -> usize {
        if self.per_second == 0.0 {
            return max;
        }
        let saved = (self.per_second * SAVED_UP.as_secs_f64()).max(1.0);
        let passed = now.saturating_duration_since(self.since).as_secs_f64();
        self.since = now;
        self.allowed = (self.allowed + passed * self.per_second).min(saved);
        // Rounding down: what is left over counts the next time.
        (self.allowed as usize).min(max)
    }

    pub fn used(&mut self, contacts: usize) {
        self.allowed -= contacts as f64;
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn contact(number: u128) -> ContactId {
        ContactId(Uuid::from_u128(number))
    }

    fn asked() -> Asked {
        Asked { id: "r-1".to_owned(), asked_at: Timestamp::UNIX_EPOCH, stop: false, format: FORMAT }
    }

    #[test]
    fn a_job_goes_on_after_the_last_contact_and_ends_with_a_page_that_is_not_full() {
        let mut job = Job::begin(&asked(), 3);
        job.append(&[contact(1), contact(2)], 2, Timestamp::UNIX_EPOCH);
        assert_eq!((job.after, job.remaining(), job.ended), (Some(contact(2)), 1, None));
        job.append(&[contact(3), contact(4)], 2, Timestamp::UNIX_EPOCH);
        assert_eq!((job.remaining(), job.ended), (0, None), "somebody came meanwhile");
        job.append(&[], 2, Timestamp::UNIX_EPOCH);
        assert_eq!((job.appended, job.after), (4, Some(contact(4))));
        assert_eq!(job.ended, Some(Ended { at: Timestamp::UNIX_EPOCH, finished: true }));
    }

    #[test]
    fn a_job_that_is_not_the_one_asked_for_last_says_nothing_of_it() {
        let crm: Arc<str> = "priava".into();
        let job = Job { appended: 2, ..Job::begin(&asked(), 3) };
        let standing = Standing::of(&crm, Some(asked()), Some(job.clone())).unwrap();
        assert_eq!(standing.progress, Some(Progress { total: 3, appended: 2, ended: None }));
        let again = Asked { id: "r-2".to_owned(), ..asked() };
        assert_eq!(Standing::of(&crm, Some(again), Some(job.clone())).unwrap().progress, None);
        assert_eq!(Standing::of(&crm, None, Some(job)), None);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_appended_than_the_pace_allows_and_a_quiet_time_saves_up_a_second() {
        let begun = Instant::now();
        let mut pace = Pace::new(50.0, begun);
        let mut appended = 0;
        for tenth in 0..=100 {
            let room = pace.room(begun + Duration::from_millis(100) * tenth, 500);
            pace.used(room);
            appended += room;
        }
        assert_eq!(appended, 501, "ten seconds, and the first one at once");
        assert_eq!(pace.room(begun + Duration::from_secs(3600), 500), 50);
        assert_eq!(pace.room(begun + Duration::from_secs(3600), 7), 7);
        assert_eq!(Pace::new(0.0, begun).room(begun, 500), 500);
        let mut slow = Pace::new(0.001, begun);
        assert_eq!(slow.room(begun, 500), 1);
        slow.used(1);
        assert_eq!(slow.room(begun + Duration::from_secs(999), 500), 0);
        assert_eq!(slow.room(begun + Duration::from_secs(1001), 500), 1);
    }
}
