//! The view and its follower together, against a scripted log, in a real folder, in paused time.

mod scripted;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::{sync::oneshot, task::JoinHandle, time::timeout};
use uuid::Uuid;

use self::scripted::{Handle, ScriptedLog, away};
use super::{
    Following, View, ViewError, Wake,
    follower::{BIRTH_KEY, Follower},
};
use crate::{
    clock::Clock,
    config::{TopicSettings, ViewSettings},
    contact::{ContactId, ContactRecord},
    crm::{fingerprint::Fingerprint, link::Link},
    identity::keys::KeyHash,
    log::{
        Cleanup, Log, LogError, NewRecord, TopicPartition, TopicSpec, Transaction, local, local::LocalLog, partition_of,
    },
    metrics::Metrics,
};

const PARTITIONS: u32 = 2;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Longer than anything here takes, in paused time as in real time.
const DEADLINE: Duration = Duration::from_secs(20);

// ---------------------------------------------------------------- a worker with nothing but a view

struct Worker {
    view: View,
    following: Following,
    stop: oneshot::Sender<()>,
    run: JoinHandle<Result<(), ViewError>>,
}

fn topic_settings() -> TopicSettings {
    TopicSettings {
        prefix: String::new(),
        partitions: PARTITIONS,
        versions_retention: 14 * DAY,
        outcomes_retention: 14 * DAY,
        dead_letters_retention: 14 * DAY,
        identity_events_retention: 14 * DAY,
        audit_retention: 14 * DAY,
        tombstones_retention: 7 * DAY,
        message_bytes_max: 4 << 20,
    }
}

fn view_settings() -> ViewSettings {
    ViewSettings { cache_bytes: 4 << 20, batch_records_max: 3 }
}

fn noon() -> Timestamp {
    Timestamp::from_second(1_750_000_000).unwrap()
}

fn open(data: &Path, now: Timestamp) -> Result<View, ViewError> {
    let clock = Clock::simulated(now);
    View::open(data, &view_settings(), &topic_settings(), clock, &Metrics::default())
}

impl Worker {
    fn start(data: &Path, log: &Arc<ScriptedLog>) -> Self {
        Self::start_at(data, log, noon(), &[])
    }

    fn start_at(data: &Path, log: &Arc<ScriptedLog>, now: Timestamp, accepted: &[&str]) -> Self {
        Self::follow(data, Arc::new(Handle(log.clone())), now, accepted)
    }

    fn follow(data: &Path, log: Arc<dyn Log>, now: Timestamp, accepted: &[&str]) -> Self {
        let view = open(data, now).unwrap();
        let (follower, following) = Follower::new(
            view.clone(),
            log,
            &view_settings(),
            &topic_settings(),
            accepted.iter().map(|topic| Arc::from(*topic)),
            Clock::simulated(now),
            Metrics::default(),
        );
        let (stop, stopped) = oneshot::channel::<()>();
        let run = tokio::spawn(follower.run(async { drop(stopped.await) }));
        Self { view, following, stop, run }
    }

    /// Waits until the view holds all there is of the topics that are always followed.
    async fn catch_up(&self, log: &ScriptedLog) {
        let all: Vec<_> = log.topics.lock().keys().cloned().collect();
        for at in all.into_iter().filter(|at| !at.topic.starts_with("contact-links")) {
            self.reach_end(log, &at).await;
        }
    }

    async fn reach_end(&self, log: &ScriptedLog, at: &TopicPartition) {
        let end = log.high(at).unwrap();
        timeout(DEADLINE, self.view.reached(at, end)).await.expect("in time").unwrap();
    }

    async fn stop(self) {
        self.stop.send(()).expect("the follower runs");
        self.run.await.unwrap().unwrap();
    }

    /// What the follower ended with, unasked.
    async fn failure(self) -> ViewError {
        timeout(2 * DEADLINE * 60, self.run).await.expect("in time").unwrap().unwrap_err()
    }
}

fn contact(number: u128) -> ContactId {
    ContactId(Uuid::from_u128(number))
}

fn record_json(contact: ContactId, version: u64) -> String {
    json!({
        "contact_id": contact, "version": version, "status": "live", "members": [],
        "received_at": noon(), "epoch": 1, "format": 1,
    })
    .to_string()
}

fn key_json(owner: ContactId) -> String {
    json!({ "type": "email", "owner": owner, "epoch": 1, "format": 1 }).to_string()
}

fn link_json(contact: ContactId, due: Option<Timestamp>) -> String {
    let open = due.map(|due| {
        json!({
            "entry": { "contact_id": contact, "version": 1, "received_at": noon(), "epoch": 1, "format": 1 },
            "attempts": 3, "next_attempt": due,
        })
    });
    let mut link = json!({ "contact_id": contact, "answered": 1, "format": 1 });
    if let Some(open) = open {
        link["open"] = open;
    }
    link.to_string()
}

fn put_record(log: &ScriptedLog, number: u128, version: u64) -> TopicPartition {
    let contact = contact(number);
    log.put("contact-records", &contact.key(), Some(&record_json(contact, version)))
}

fn put_link(log: &ScriptedLog, number: u128, due: Option<Timestamp>) -> TopicPartition {
    let contact = contact(number);
    log.put("contact-links.crm", &contact.key(), Some(&link_json(contact, due)))
}

fn version(view: &View, number: u128) -> Option<u64> {
    view.record(contact(number)).unwrap().map(|record: ContactRecord| record.version)
}

fn after(seconds: i64) -> Timestamp {
    noon() + SignedDuration::from_secs(seconds)
}

// ---------------------------------------------------------------- following

#[tokio::test(start_paused = true)]
async fn what_the_log_says_is_read_from_the_view() {
    let (data, log) = (tempfile::tempdir().unwrap(), ScriptedLog::new());
    let worker = Worker::start(data.path(), &log);
    let hash = KeyHash([7; 16]);
    put_record(&log, 1, 1);
    put_record(&log, 1, 2);
    put_record(&log, 2, 1);
    log.put("contact-keys", &hash.key(), Some(&key_json(contact(1))));
    log.put("contact-resolver", "position/a", Some("1"));
    log.put("contact-resolver", "position/b", Some("2"));
    log.put("contact-resolver", "lease", Some("3"));
    log.put("contact-resolver", "position/b", None);
    worker.catch_up(&log).await;

    let view = &worker.view;
    assert_eq!((version(view, 1), version(view, 2), version(view, 3)), (Some(2), Some(1), None));
    assert_eq!(view.key(hash).unwrap().unwrap().owner, Some(contact(1)));
    assert_eq!(view.key(KeyHash([8; 16])).unwrap(), None);
    assert_eq!(view.resolver_state("lease").unwrap().as_deref(), Some(&b"3"[..]));
    let positions = view.resolver_states("position/").unwrap();
    assert_eq!(positions, [("position/a".to_owned(), Bytes::from_static(b"1"))]);
    assert_eq!(view.resolver_states("").unwrap().len(), 2, "a birth record is not a state");
    assert_eq!(view.contacts(None, 9).unwrap(), [contact(1), contact(2)]);
    assert_eq!(view.contacts(Some(contact(1)), 9).unwrap(), [contact(2)]);
    assert_eq!(view.contacts(None, 1).unwrap(), [contact(1)]);
    let to_deliver = [1, 2, 3].map(|number| view.record_to_deliver(contact(number)).unwrap());
    assert_eq!(to_deliver, [1, 2, 3].map(|number| view.record(contact(number)).unwrap()), "these have no members");
    let versions = [1, 2, 3].map(|number| view.record_version(contact(number)).unwrap());
    assert_eq!(versions, [Some(2), Some(1), None]);
    assert!(view.holds_record(contact(1), record_json(contact(1), 2).as_bytes()).unwrap());
    assert!(!view.holds_record(contact(1), record_json(contact(1), 1).as_bytes()).unwrap());
    assert!(view.holds_key(hash, key_json(contact(1)).as_bytes()).unwrap());
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_wakes_when_the_data_is_there() {
    let (data, log) = (tempfile::tempdir().unwrap(), ScriptedLog::new());
    let worker = Worker::start(data.path(), &log);
    worker.catch_up(&log).await;
    let at = TopicPartition::new("contact-records", worker.view.partition(contact(5)));
    let end = log.high(&at).unwrap() + 2;
    let waiting = tokio::spawn({
        let view = worker.view.clone();
        async move {
            view.reached(&at, end).await.unwrap();
            version(&view, 5)
        }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    put_record(&log, 5, 9);
    assert_eq!(timeout(DEADLINE, waiting).await.unwrap().unwrap(), Some(9));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn waiting_ends_with_the_follower() {
    let (data, log) = (tempfile::tempdir().unwrap(), ScriptedLog::new());
    let worker = Worker::start(data.path(), &log);
    worker.catch_up(&log).await;
    let at = TopicPartition::new("contact-records", 0);
    let (view, following) = (worker.view.clone(), worker.following.clone());
    let waiting = tokio::spawn({
        let (view, at) = (view.clone(), at.clone());
        async move { view.reached(&at, 1_000).await }
    });
    // Killed, not stopped.
    worker.run.abort();
    assert!(matches!(timeout(DEADLINE, waiting).await.unwrap().unwrap(), Err(ViewError::Stopped)));
    assert!(view.reached(&at, 2).await.is_ok(), "what was reached stays reached");
    assert!(matches!(following.start("crm", 0).await, Err(ViewError::Stopped)));
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_where_the_view_stands() {
    let (data, log) = (tempfile::tempdir().unwrap(), ScriptedLog::new());
    let worker = Worker::start(data.path(), &log);
    let at = put_record(&log, 1, 1);
    worker.catch_up(&log).await;
    let left_at = worker.view.position(&at).unwrap();
    worker.stop().await;
    put_record(&log, 1, 2);
    log.assigned.lock().clear();

    let worker = Worker::start(data.path(), &log);
    assert_eq!(version(&worker.view, 1), Some(1));
    worker.catch_up(&log).await;
    assert_eq!(version(&worker.view, 1), Some(2));
    assert_eq!(log.assigned_to(&at), [0, left_at], "the birth record first, then what is new");
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_view_built_anew_equals_the_one_that_followed_along() {
    let (data, other, log) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), ScriptedLog::new());
    let worker = Worker::start(data.path(), &log);
    worker.following.start("crm", 0).await.unwrap();
    worker.following.start("crm", 1).await.unwrap();
    for round in 1..=5 {
        for number in 0..20 {
            put_record(&log, number, round);
            put_link(&log, number, (round < 5).then(|| after(round as i64)));
            let key = KeyHash([u8::try_from(number).unwrap(); 16]).key();
            let value = (round + number as u64).is_multiple_of(3);
            log.put("contact-keys", &key, value.then(|| key_json(contact(number))).as_deref());
            log.put("contact-resolver", &format!("position/{number}"), Some("1").filter(|_| value));
        }
    }
    let all: Vec<_> = log.topics.lock().keys().cloned().collect();
    for at in &all {
        worker.reach_end(&log, at).await;
    }
    let followed_along = worker.view.digest().unwrap();
    worker.stop().await;
    log.compact();

    for data in [other.path(), data.path()] {
        fs::remove_dir_all(data.join("view")).ok();
        let worker = Worker::start(data, &log);
        assert_ne!(worker.view.digest().unwrap(), followed_along, "it begins empty");
        worker.following.start("crm", 0).await.unwrap();
        worker.following.start("crm", 1).await.unwrap();
        for at in &all {
            worker.reach_end(&log, at).await;
        }
        assert_eq!(worker.view.digest().unwrap(), followed_along);
        worker.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn links_are_followed_only_while_asked_for() {
    let (data, log) = (tempfile::tempdir().unwrap(), ScriptedLog::new());
    let worker = Worker::start(data.path(), &log);
    let at = put_link(&log, 1, None);
    worker.catch_up(&log).await;
    assert_eq!(worker.view.position(&at), None);
    assert_eq!(worker.view.link("crm", contact(1)).unwrap(), None);

    worker.following.start("crm", at.partition).await.unwrap();
    worker.following.start("crm", at.partition).await.unwrap();
    worker.reach_end(&log, &at).await;
    let link = worker.view.link("crm", contact(1)).unwrap().unwrap();
    assert_eq!(link.answered, 1);
    assert!(worker.view.holds_link("crm", &link).unwrap(), "in whatever form it was written");
    assert!(!worker.view.holds_link("crm", &Link { answered: 2, ..link.clone() }).unwrap());
    assert!(!worker.view.holds_link("other", &link).unwrap());
    assert_eq!(worker.view.link("other", contact(1)).unwrap(), None);
    let left_at = worker.view.position(&at).unwrap();

    worker.following.stop("crm", at.partition).await.unwrap();
    assert_eq!(worker.view.position(&at), None);
    put_link(&log, 1, Some(after(1)));
    put_record(&log, 1, 1);
    worker.catch_up(&log).await;
    assert_eq!(worker.view.link("crm", contact(1)).unwrap().unwrap().open, None);

    log.assigned.lock().clear();
    worker.following.start("crm", at.partition).await.unwrap();
    worker.reach_end(&log, &at).await;
    assert!(worker.view.link("crm", contact(1)).unwrap().unwrap().open.is_some());
    assert_eq!(log.assigned_to(&at), [0, left_at]);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn parked_contacts_come_in_the_order_of_their_due_times() {
    let (data, log) = (tempfile::tempdir().unwrap(), ScriptedLog::new());
    let worker = Worker::start(data.path(), &log);
    let numbers: Vec<u128> = (0..).filter(|number| worker.view.partition(contact(*number)) == 0).take(4).collect();
    let [a, b, c, d] = numbers[..] else { unreachable!("four were taken") };
    let parked = |after, limit| worker.view.due(Wake::Parked, "crm", 0, after, limit).unwrap();
    let at = put_link(&log, a, Some(after(30)));
    put_link(&log, b, Some(after(10)));
    put_link(&log, c, Some(after(20)));
    put_link(&log, d, None);
    worker.following.start("crm", 0).await.unwrap();
    worker.reach_end(&log, &at).await;
    let (first, second, third) = ((after(10), contact(b)), (after(20), contact(c)), (after(30), contact(a)));
    assert_eq!(parked(None, 9), [first, second, third]);
    assert_eq!(parked(None, 2), [first, second]);
    assert_eq!(parked(Some(first), 9), [second, third]);
    assert_eq!(worker.view.due(Wake::Parked, "crm", 1, None, 9).unwrap(), []);

    // Within one batch and over several: only the last word is in the index.
    put_link(&log, a, Some(after(5)));
    put_link(&log, a, Some(after(6)));
    put_link(&log, b, None);
    put_link(&log, c, Some(after(20)));
    put_link(&log, d, Some(after(40)));
    worker.reach_end(&log, &at).await;
    assert_eq!(parked(None, 9), [(after(6), contact(a)), second, (after(40), contact(d))]);
    log.put_at(&at, &contact(a).key(), None);
    worker.reach_end(&log, &at).await;
    assert_eq!(parked(None, 9), [second, (after(40), contact(d))]);
    assert_eq!(worker.view.link("crm", contact(a)).unwrap(), None);

    // Who waits for another contact is in an index of its own, unless something is parked as well.
    let waiting = || worker.view.due(Wake::Waiting, "crm", 0, None, 9).unwrap();
    let wait = |number, parked: Option<Timestamp>| {
        let contact = contact(number);
        let mut link: serde_json::Value = serde_json::from_str(&link_json(contact, parked)).unwrap();
        link["waiting"] = json!({ "looks": 1, "next_look": after(7) });
        log.put("contact-links.crm", &contact.key(), Some(&link.to_string()))
    };
    wait(b, None);
    wait(c, Some(after(20)));
    worker.reach_end(&log, &at).await;
    assert_eq!((parked(None, 9), waiting()), (vec![second, (after(40), contact(d))], vec![(after(7), contact(b))]));
    let counts = Wake::ALL.map(|wake| worker.view.due_count(wake, "crm", 0).unwrap());
    assert_eq!(counts, [2, 1]);
    wait(c, None);
    put_link(&log, b, Some(after(10)));
    worker.reach_end(&log, &at).await;
    let parked_now = parked(None, 9);
    assert_eq!((parked_now, waiting()), (vec![first, (after(40), contact(d))], vec![(after(7), contact(c))]));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn links_are_found_by_what_the_crm_calls_their_contacts_and_counted_by_their_mapping() {
    let (data, log) = (tempfile::tempdir().unwrap(), ScriptedLog::new());
    let mut worker = Worker::start(data.path(), &log);
    let numbers: Vec<u128> = (0..).filter(|number| worker.view.partition(contact(*number)) == 0).take(4).collect();
    let [a, b, c, d] = numbers[..] else { unreachable!("four were taken") };
    let put = |number: u128, name: Option<&str>, mapping: Option<&str>, presence: Option<&str>| {
        let contact = contact(number);
        let mut link = json!({ "contact_id": contact, "answered": 1, "presence": presence, "format": 1 });
        link["remote_ids"] = name.map_or(json!({}), |name| json!({ "contact": name }));
        mapping.into_iter().for_each(|mapping| link["mapping"] = json!(mapping));
        log.put("contact-links.crm", &contact.key(), Some(&link.to_string()))
    };
    let (ours, other) = ("000000000000002a", "000000000000002b");
    let at = put(a, Some("r-1"), Some(ours), Some("active"));
    put(b, Some("r-2"), Some(other), Some("inactive"));
    // Of a release that did not tell, and one that the CRM does not hold.
    put(c, Some("r-1"), None, Some("active"));
    put(d, None, None, None);
    worker.following.start("crm", 0).await.unwrap();
    worker.reach_end(&log, &at).await;
    let named = |view: &View, name| view.contacts_named("crm", 0, name).unwrap();
    let others = |view: &View| view.links_of_other_mappings("crm", 0, Fingerprint(0x2a)).unwrap();
    let both = if contact(a) < contact(c) { [contact(a), contact(c)] } else { [contact(c), contact(a)] };
    assert_eq!((named(&worker.view, "r-1"), named(&worker.view, "r-2")), (both.to_vec(), vec![contact(b)]));
    assert_eq!((named(&worker.view, "r"), others(&worker.view)), (vec![], 2));
    assert_eq!(worker.view.contacts_named("crm", 1, "r-1").unwrap(), []);
    assert_eq!(worker.view.links_of_other_mappings("other", 0, Fingerprint(0x2a)).unwrap(), 0);

    // Within one batch and over several, and over a restart: only the last word counts.
    put(a, Some("r-3"), Some(other), Some("active"));
    put(a, Some("r-4"), Some(ours), Some("active"));
    put(b, Some("r-2"), Some(ours), Some("inactive"));
    put(c, None, None, Some("absent"));
    put(d, Some("r-1"), Some(other), Some("active"));
    worker.reach_end(&log, &at).await;
    worker.stop().await;
    worker = Worker::start(data.path(), &log);
    worker.following.start("crm", 0).await.unwrap();
    assert_eq!((named(&worker.view, "r-1"), named(&worker.view, "r-3")), (vec![contact(d)], vec![]));
    assert_eq!((named(&worker.view, "r-4"), others(&worker.view)), (vec![contact(a)], 1));
    log.put_at(&at, &contact(d).key(), None);
    worker.reach_end(&log, &at).await;
    assert_eq!((named(&worker.view, "r-1"), others(&worker.view)), (vec![], 0));
    assert_eq!(worker.view.links_of_other_mappings("crm", 0, Fingerprint(1)).unwrap(), 2);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_away_is_waited_for() {
    let (data, log) = (tempfile::tempdir().unwrap(), ScriptedLog::new());
    log.watermark_faults.lock().extend((0..7).map(|_| away()));
    log.poll_faults.lock().extend((0..3).map(|_| away()));
    let worker = Worker::start(data.path(), &log);
    put_record(&log, 1, 1);
    worker.catch_up(&log).await;
    assert_eq!(version(&worker.view, 1), Some(1));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_newer_or_broken_is_refused_by_who_reads_it_and_never_quoted() {
    let (data, log) = (tempfile::tempdir().unwrap(), ScriptedLog::new());
    let worker = Worker::start(data.path(), &log);
    let keyed = |number| contact(number).key();
    log.put("contact-records", &keyed(1), Some(r#"{"format":2,"wholly":"other"}"#));
    log.put("contact-records", &keyed(2), Some(&record_json(contact(2), 1).replace(r#""format":1"#, r#""format":2"#)));
    log.put("contact-records", &keyed(3), Some(r#"{"format":1,"contact_id":"ann@example.com"}"#));
    let at = log.put("contact-links.crm", &keyed(4), Some("ann@example.com"));
    log.put("contact-records", "ann@example.com", Some("{}"));
    put_record(&log, 5, 1);
    worker.following.start("crm", at.partition).await.unwrap();
    worker.catch_up(&log).await;
    worker.reach_end(&log, &at).await;
    for number in [1, 2] {
        assert!(matches!(worker.view.record(contact(number)), Err(ViewError::Newer { found: 2, .. })));
    }
    let unreadable = worker.view.record(contact(3)).unwrap_err();
    assert!(matches!(unreadable, ViewError::Unreadable { .. }));
    assert!(!format!("{unreadable} {unreadable:?}").contains("ann@"));
    assert!(matches!(worker.view.link("crm", contact(4)), Err(ViewError::Unreadable { .. })));
    assert_eq!(version(&worker.view, 5), Some(1));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn transactions_of_the_log_in_memory_appear_whole_or_not_at_all() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = LocalLog::new(local::Settings::default(), Clock::simulated(noon()));
    let spec = |name: &str, partitions| TopicSpec {
        name: Arc::from(name),
        partitions,
        cleanup: Cleanup::Compact { tombstones: 7 * DAY },
        message_bytes_max: 4 << 20,
    };
    log.ensure_topics(&[
        spec("contact-keys", PARTITIONS),
        spec("contact-records", PARTITIONS),
        spec("contact-resolver", 1),
    ])
    .await
    .unwrap();
    let to =
        |number| TopicPartition::new("contact-records", partition_of(contact(number).key().as_bytes(), PARTITIONS));
    let of_version = |version| {
        let record = move |number| NewRecord {
            to: to(number),
            key: Some(contact(number).key().into()),
            value: Some(record_json(contact(number), version).into()),
            headers: Vec::new(),
        };
        Transaction { records: (0..9).map(record).collect(), offsets: None }
    };
    let mut writer = log.writer("resolver").await.unwrap();
    writer.write(of_version(1)).await.unwrap();
    writer.write(of_version(2)).await.unwrap();
    writer.prepare(of_version(3)).await.unwrap();

    let worker = Worker::follow(data.path(), Arc::new(log.clone()), noon(), &[]);
    let (open_in, end) = (to(0), log.watermarks(&to(0)).await.unwrap().high);
    let reached = timeout(Duration::from_secs(1), worker.view.reached(&open_in, end));
    assert!(reached.await.is_err(), "an open transaction is not read");
    assert_eq!(version(&worker.view, 0), Some(2));
    // Opening it again fences the old one, whose transaction is aborted.
    let mut writer = log.writer("resolver").await.unwrap();
    writer.write(of_version(4)).await.unwrap();
    let catch_up = async |worker: &Worker| {
        for number in 0..9 {
            let end = log.watermarks(&to(number)).await.unwrap().high;
            timeout(DEADLINE, worker.view.reached(&to(number), end)).await.unwrap().unwrap();
        }
    };
    catch_up(&worker).await;
    assert!((0..9).all(|number| version(&worker.view, number) == Some(4)));
    let followed_along = worker.view.digest().unwrap();
    worker.stop().await;

    (0..PARTITIONS).for_each(|partition| log.compact(&TopicPartition::new("contact-records", partition)));
    let worker = Worker::follow(other.path(), Arc::new(log.clone()), noon(), &[]);
    catch_up(&worker).await;
    assert_eq!(worker.view.digest().unwrap(), followed_along);
    worker.stop().await;
    let worker = Worker::follow(data.path(), Arc::new(log.clone()), noon(), &[]);
    catch_up(&worker).await;
    assert_eq!(worker.view.digest().unwrap(), followed_along);
    worker.stop().await;
}

// ---------------------------------------------------------------- topics that are not the ones they were

/// Follows `setup`, stops, changes the log, starts again, and returns what the second start ends with.
async fn restart_after(change: impl FnOnce(&ScriptedLog)) -> ViewError {
    let (data, log) = (tempfile::tempdir().unwrap(), ScriptedLog::new());
    let worker = Worker::start(data.path(), &log);
    (0..10).for_each(|number| drop(put_record(&log, number, 1)));
    worker.catch_up(&log).await;
    worker.stop().await;
    change(&log);
    Worker::start(data.path(), &log).failure().await
}

#[track_caller]
fn assert_replaced(failure: &ViewError, topic: &str) {
    assert!(matches!(failure, ViewError::Replaced { topic: found, .. } if &**found == topic), "{failure}");
    assert!(failure.to_string().contains(topic));
}

#[tokio::test(start_paused = true)]
async fn a_recreated_topic_that_was_filled_again_is_refused_by_its_birth_record() {
    let failure = restart_after(|log| {
        log.recreate("contact-records");
        for partition in 0..PARTITIONS {
            log.put_at(&TopicPartition::new("contact-records", partition), BIRTH_KEY, Some("second"));
        }
        (0..50).for_each(|number| drop(put_record(log, number, 1)));
    });
    assert_replaced(&failure.await, "contact-records");
}

#[tokio::test(start_paused = true)]
async fn a_recreated_topic_without_a_birth_record_is_refused() {
    let failure = restart_after(|log| {
        log.recreate("contact-records");
        (0..50).for_each(|number| drop(put_record(log, number, 1)));
    });
    assert_replaced(&failure.await, "contact-records");
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_ends_before_what_was_read_is_refused() {
    assert_replaced(&restart_after(|log| log.recreate("contact-records")).await, "contact-records");
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_is_gone_is_refused() {
    assert_replaced(&restart_after(|log| log.remove("contact-keys")).await, "contact-keys");
}

#[tokio::test(start_paused = true)]
async fn a_second_birth_record_under_a_running_follower_ends_it() {
    let (data, log) = (tempfile::tempdir().unwrap(), ScriptedLog::new());
    let worker = Worker::start(data.path(), &log);
    worker.catch_up(&log).await;
    log.put_at(&TopicPartition::new("contact-records", 1), BIRTH_KEY, Some("second"));
    assert_replaced(&worker.failure().await, "contact-records");
}

#[tokio::test(start_paused = true)]
async fn the_same_birth_record_written_again_is_no_news() {
    let (data, log) = (tempfile::tempdir().unwrap(), ScriptedLog::new());
    let worker = Worker::start(data.path(), &log);
    put_record(&log, 1, 1);
    worker.catch_up(&log).await;
    log.give_birth("first");
    worker.catch_up(&log).await;
    worker.stop().await;
    log.compact();
    let worker = Worker::start(data.path(), &log);
    worker.catch_up(&log).await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_vanishes_or_shrinks_under_a_running_follower_ends_it() {
    for change in [ScriptedLog::remove, ScriptedLog::recreate] {
        let (data, log) = (tempfile::tempdir().unwrap(), ScriptedLog::new());
        let worker = Worker::start(data.path(), &log);
        worker.catch_up(&log).await;
        change(&log, "contact-keys");
        assert_replaced(&worker.failure().await, "contact-keys");
    }
}

#[tokio::test(start_paused = true)]
async fn an_accepted_topic_is_read_anew_and_nothing_else() {
    let (data, log) = (tempfile::tempdir().unwrap(), ScriptedLog::new());
    let worker = Worker::start(data.path(), &log);
    (0..10).for_each(|number| drop(put_record(&log, number, 1)));
    let key = log.put("contact-keys", &KeyHash([1; 16]).key(), Some(&key_json(contact(1))));
    worker.catch_up(&log).await;
    let left_at = worker.view.position(&key).unwrap();
    worker.stop().await;

    log.recreate("contact-records");
    for partition in 0..PARTITIONS {
        log.put_at(&TopicPartition::new("contact-records", partition), BIRTH_KEY, Some("second"));
    }
    (5..40).for_each(|number| drop(put_record(&log, number, 7)));
    log.assigned.lock().clear();
    let worker = Worker::start_at(data.path(), &log, noon(), &["contact-records"]);
    worker.catch_up(&log).await;
    assert_eq!((version(&worker.view, 4), version(&worker.view, 5)), (None, Some(7)));
    assert_eq!(worker.view.contacts(None, 99).unwrap().len(), 35);
    assert_eq!(log.assigned_to(&key), [0, left_at]);
    worker.stop().await;

    // The new birth record is the one that counts from now on.
    let worker = Worker::start(data.path(), &log);
    worker.catch_up(&log).await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn records_deleted_before_they_were_read_are_refused() {
    let at = TopicPartition::new("contact-records", 0);
    let failure = restart_after(|log| {
        (0..50).for_each(|number| drop(put_record(log, number, 2)));
        log.delete_below(&at, log.high(&at).unwrap() - 2);
    });
    assert_replaced(&failure.await, "contact-records");
}

#[tokio::test(start_paused = true)]
async fn records_deleted_after_they_were_read_are_refused_under_a_running_follower_and_at_the_next_start() {
    let at = TopicPartition::new("contact-records", 0);
    let cut = |log: &ScriptedLog| log.delete_below(&at, log.high(&at).unwrap());
    let (data, log) = (tempfile::tempdir().unwrap(), ScriptedLog::new());
    let worker = Worker::start(data.path(), &log);
    worker.catch_up(&log).await;
    cut(&log);
    assert_replaced(&worker.failure().await, "contact-records");

    let failure = restart_after(cut);
    assert_replaced(&failure.await, "contact-records");
}

#[tokio::test(start_paused = true)]
async fn a_position_wrongly_called_out_of_range_is_assigned_again() {
    let (data, log) = (tempfile::tempdir().unwrap(), ScriptedLog::new());
    let worker = Worker::start(data.path(), &log);
    let at = put_record(&log, 1, 1);
    worker.catch_up(&log).await;
    let offset = worker.view.position(&at).unwrap();
    log.poll_faults.lock().push_back(LogError::OutOfRange { at, offset });
    put_record(&log, 1, 2);
    worker.catch_up(&log).await;
    assert_eq!(version(&worker.view, 1), Some(2));
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_knows_no_better_for_a_moment_ends_nothing() {
    let (data, log) = (tempfile::tempdir().unwrap(), ScriptedLog::new());
    let gone = || LogError::UnknownTopic { topic: Arc::from("contact-records") };
    log.watermark_faults.lock().extend((0..5).map(|_| gone()));
    let worker = Worker::start(data.path(), &log);
    put_record(&log, 1, 1);
    worker.catch_up(&log).await;
    // Three seconds without the topic, and three with it, over several checks.
    for _ in 0..50 {
        let topics = log.topics.lock().clone();
        log.remove("contact-records");
        tokio::time::sleep(Duration::from_secs(3)).await;
        *log.topics.lock() = topics;
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    put_record(&log, 1, 2);
    worker.catch_up(&log).await;
    assert_eq!(version(&worker.view, 1), Some(2));
    worker.stop().await;
}

// ---------------------------------------------------------------- the folder

#[tokio::test(start_paused = true)]
async fn a_view_that_was_away_too_long_is_read_anew_but_still_knows_its_topics() {
    let (data, log) = (tempfile::tempdir().unwrap(), ScriptedLog::new());
    let worker = Worker::start(data.path(), &log);
    let at = put_record(&log, 1, 1);
    put_record(&log, 2, 1);
    worker.catch_up(&log).await;
    worker.stop().await;
    // Deleted while it was away, and the tombstone is gone too.
    log.put_at(&at, &contact(1).key(), None);
    log.put_at(&at, "#filler", Some(""));
    log.compact();

    let worker = Worker::start_at(data.path(), &log, noon() + SignedDuration::from_hours(80), &[]);
    worker.catch_up(&log).await;
    assert_eq!(version(&worker.view, 1), Some(1), "three days and a half are not over");
    worker.stop().await;

    let later = noon() + SignedDuration::from_hours(90);
    let worker = Worker::start_at(data.path(), &log, later, &[]);
    assert_eq!(version(&worker.view, 2), None);
    worker.catch_up(&log).await;
    assert_eq!((version(&worker.view, 1), version(&worker.view, 2)), (None, Some(1)));
    worker.stop().await;

    log.recreate("contact-records");
    for partition in 0..PARTITIONS {
        log.put_at(&TopicPartition::new("contact-records", partition), BIRTH_KEY, Some("second"));
    }
    let worker = Worker::start_at(data.path(), &log, later + SignedDuration::from_hours(90), &[]);
    assert_replaced(&worker.failure().await, "contact-records");
}

#[tokio::test(start_paused = true)]
async fn a_partition_of_links_that_was_away_too_long_is_read_anew() {
    let (data, log) = (tempfile::tempdir().unwrap(), ScriptedLog::new());
    let worker = Worker::start(data.path(), &log);
    let at = put_link(&log, 1, Some(after(1)));
    worker.following.start("crm", at.partition).await.unwrap();
    worker.reach_end(&log, &at).await;
    worker.following.stop("crm", at.partition).await.unwrap();
    log.put_at(&at, &contact(1).key(), None);
    log.put_at(&at, "#filler", Some(""));
    log.compact();
    // The worker goes on for four days without this partition.
    tokio::time::sleep(4 * DAY).await;
    worker.following.start("crm", at.partition).await.unwrap();
    worker.reach_end(&log, &at).await;
    assert_eq!(worker.view.link("crm", contact(1)).unwrap(), None);
    assert_eq!(worker.view.due(Wake::Parked, "crm", at.partition, None, 9).unwrap(), []);
    put_record(&log, 1, 1);
    worker.catch_up(&log).await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_second_worker_in_the_folder_is_told_so() {
    let data = tempfile::tempdir().unwrap();
    let first = open(data.path(), noon()).unwrap();
    let refused = open(data.path(), noon()).unwrap_err();
    assert!(refused.to_string().starts_with(&format!("another worker uses {}", data.path().display())));
    drop(first);
    open(data.path(), noon()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_damaged_folder_is_rebuilt_and_nothing_beside_it_is_touched() {
    type Harm = fn(&Path);
    let harms: [Harm; 5] = [
        |view| fs::write(view.join("db"), vec![0xa5; 3 << 20]).unwrap(),
        |view| fs::write(view.join("conf"), "no configuration").unwrap(),
        |view| fs::write(view.join("damaged"), "").unwrap(),
        |view| fs::write(view.join("open"), "another run of the machine").unwrap(),
        |view| {
            let database = sled::open(view).unwrap();
            database.insert(super::layout::meta("layout"), &99_u32.to_be_bytes()).unwrap();
        },
    ];
    for (number, harm) in harms.into_iter().enumerate() {
        let (data, log) = (tempfile::tempdir().unwrap(), ScriptedLog::new());
        fs::create_dir(data.path().join("log")).unwrap();
        fs::write(data.path().join("log/precious"), "kept").unwrap();
        let worker = Worker::start(data.path(), &log);
        (0..50).for_each(|number| drop(put_record(&log, number, 1)));
        worker.catch_up(&log).await;
        let before = worker.view.digest().unwrap();
        worker.stop().await;
        harm(&data.path().join("view"));

        let worker = Worker::start(data.path(), &log);
        assert_eq!(version(&worker.view, 1), None, "harm {number}: nothing of the old view is left");
        worker.catch_up(&log).await;
        assert_eq!(worker.view.digest().unwrap(), before, "harm {number}");
        worker.stop().await;
        assert_eq!(fs::read_to_string(data.path().join("log/precious")).unwrap(), "kept");
    }
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_a_killed_process_left_unfinished_is_no_damage() {
    let (data, log) = (tempfile::tempdir().unwrap(), ScriptedLog::new());
    let worker = Worker::start(data.path(), &log);
    (0..50).for_each(|number| drop(put_record(&log, number, 1)));
    worker.catch_up(&log).await;
    worker.stop().await;
    let unfinished = data.path().join("view/snap.FFFFFFFFFFFFFFFF.generating");
    fs::write(&unfinished, "").unwrap();

    let worker = Worker::start(data.path(), &log);
    assert_eq!(version(&worker.view, 1), Some(1), "the view is as it was");
    assert!(!unfinished.exists());
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn another_partition_count_is_another_view() {
    let data = tempfile::tempdir().unwrap();
    let metrics = Metrics::default();
    let mut topics = topic_settings();
    let open = |topics: &TopicSettings| {
        View::open(data.path(), &view_settings(), topics, Clock::simulated(noon()), &metrics).unwrap()
    };
    open(&topics).shared.store.guard("writing", |tree| tree.insert("rest", "")).unwrap();
    topics.partitions = 3;
    assert_eq!(open(&topics).shared.store.get(b"rest").unwrap(), None);
}

#[test]
fn a_panic_inside_the_database_is_an_error_and_rebuilds_at_the_next_start() {
    let data = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _entered = runtime.enter();
    let view = open(data.path(), noon()).unwrap();
    let broken = view.shared.store.guard::<()>("reading", |_| panic!("ann@example.com"));
    let message = broken.unwrap_err().to_string();
    assert!(message.contains("reading") && !message.contains("ann@"), "{message}");
    assert!(data.path().join("view/damaged").exists());
    drop(view);
    open(data.path(), noon()).unwrap();
    assert!(!data.path().join("view/damaged").exists());
}

#[tokio::test(start_paused = true)]
async fn only_the_owner_may_enter_the_folders() {
    let parent = tempfile::tempdir().unwrap();
    let data = parent.path().join("worker");
    let view = open(&data, noon()).unwrap();
    for folder in [data.clone(), data.join("view")] {
        let mode = fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", folder.display());
    }
    assert_eq!(fs::metadata(data.join("lock")).unwrap().permissions().mode() & 0o777, 0o600);
    drop(view);
}

#[tokio::test(start_paused = true)]
async fn a_view_closed_in_order_says_so() {
    let data = tempfile::tempdir().unwrap();
    let marker = data.path().join("view/open");
    let view = open(data.path(), noon()).unwrap();
    // Where the system names its runs.
    let named = Path::new("/proc/sys/kernel/random/boot_id").exists();
    assert_eq!(marker.exists(), named);
    drop(view);
    assert!(!marker.exists());
}
