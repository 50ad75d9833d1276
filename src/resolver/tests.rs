//! The resolver on the log in memory, with real views and simulated time.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rand::{RngExt as _, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    Parts, Resolver, ResolverError, Status,
    ahead::Bounds,
    decide::Resolve,
    state::{Epoch, LEASE, Position},
};
use crate::{
    clock::Clock,
    config::{
        InputSettings, InputTopicSettings, ResolverSettings, SubjectForm, TopicNames, TopicSettings, ViewSettings,
    },
    contact::{self, ContactId, ContactRecord, Document},
    event::{Entry, change::Rules, outcome::Subjects},
    identity::{self, Policy},
    log::{
        Cleanup, Header, Isolation, Log, NewRecord, Record, TopicPartition, TopicSpec,
        local::{LocalLog, Point, Settings, Verdict},
        partition_of,
    },
    metrics::Metrics,
    privacy::{Hasher, Secret},
    protection::Protections,
    view::{View, follower::Follower},
};

const PARTITIONS: u32 = 4;
const INPUT: &str = "contact-changes";
const INPUT_PARTITIONS: u32 = 3;
const MESSAGE_BYTES_MAX: u32 = 64 << 10;
const ORIGIN: &str = "2026-05-01T12:00:00Z";

/// A log with our topics and an input, and the folder of the views.
struct Bench {
    log: LocalLog,
    clock: Clock,
    data: TempDir,
    topics: TopicNames,
}

/// A worker that runs a resolver, and the follower that it needs.
struct Worker {
    status: watch::Receiver<Status>,
    shutdown: watch::Sender<bool>,
    resolver: JoinHandle<Result<(), ResolverError>>,
    follower: JoinHandle<()>,
    stop_follower: oneshot::Sender<()>,
}

struct Options {
    secret: &'static str,
    resolve: Arc<Resolve>,
    inputs: Vec<Arc<str>>,
    tell_identity_events: bool,
    /// An operator gave the worker its name.
    named: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            secret: "a secret of the tests",
            resolve: Arc::new(|change, known, context| identity::resolve(change, known, context)),
            inputs: vec![INPUT.into()],
            tell_identity_events: true,
            named: false,
        }
    }
}

fn policy() -> Policy {
    let mut settings = crate::config::Settings::reference().identity;
    settings.record_bytes_max = 200 << 10;
    Policy::new(&settings, &[])
}

impl Bench {
    async fn new() -> Self {
        let clock = Clock::simulated(ORIGIN.parse().unwrap());
        let bench = Self {
            log: LocalLog::new(Settings::default(), clock),
            clock,
            data: tempfile::tempdir().unwrap(),
            topics: TopicNames::new(""),
        };
        let spec = |name: &Arc<str>, partitions, cleanup| TopicSpec {
            name: Arc::clone(name),
            partitions,
            cleanup,
            message_bytes_max: MESSAGE_BYTES_MAX,
        };
        let compact = Cleanup::Compact { tombstones: Duration::from_secs(7 * 86_400) };
        let delete = Cleanup::Delete { after: Duration::from_secs(14 * 86_400) };
        let topics = &bench.topics;
        let ours = [
            spec(&topics.records, PARTITIONS, compact),
            spec(&topics.keys, PARTITIONS, compact),
            spec(&topics.resolver, 1, compact),
            spec(&topics.versions, PARTITIONS, delete),
            spec(&topics.outcomes, PARTITIONS, delete),
            spec(&topics.dead_letters, PARTITIONS, delete),
            spec(&topics.identity_events, PARTITIONS, delete),
            TopicSpec { message_bytes_max: 1 << 20, ..spec(&INPUT.into(), INPUT_PARTITIONS, delete) },
        ];
        bench.log.ensure_topics(&ours).await.unwrap();
        bench
    }

    fn topic_settings() -> TopicSettings {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        TopicSettings {
            prefix: String::new(),
            partitions: PARTITIONS,
            versions_retention: days(14),
            outcomes_retention: days(14),
            dead_letters_retention: days(14),
            identity_events_retention: days(14),
            audit_retention: days(14),
            tombstones_retention: days(7),
            message_bytes_max: MESSAGE_BYTES_MAX,
        }
    }

    /// Starts a worker with its own view.
    async fn worker(&self, name: &str, options: Options) -> Worker {
        let view_settings = ViewSettings { cache_bytes: 8 << 20, batch_records_max: 500 };
        let topic_settings = Self::topic_settings();
        let data: &Path = &self.data.path().join(name);
        std::fs::create_dir_all(data).unwrap();
        let view = View::open(data, &view_settings, &topic_settings, self.clock, &Metrics::default()).unwrap();
        let log: Arc<dyn Log> = Arc::new(self.log.clone());
        let (follower, following) = Follower::new(
            view.clone(),
            Arc::clone(&log),
            &view_settings,
            &topic_settings,
            [],
            self.clock,
            Metrics::default(),
        );
        let (stop_follower, stopped) = oneshot::channel::<()>();
        let follower = tokio::spawn(async move {
            let _following = following;
            follower.run(async { drop(stopped.await) }).await.unwrap();
        });
        let input_settings = InputSettings {
            topics: vec![InputTopicSettings { name: INPUT.into(), tombstone_source: None }],
            event_bytes_max: 48 << 10,
            event_depth_max: 64,
            future_max: Duration::from_secs(86_400),
            known_sources_only: false,
        };
        let parts = Parts {
            worker: name.into(),
            static_membership: options.named,
            log,
            view,
            clock: self.clock,
            metrics: Metrics::default(),
            hasher: Hasher::new(&Secret::new(options.secret)),
            instance: "tests".into(),
            topics: self.topics.clone(),
            inputs: options.inputs,
            rules: Arc::new(Rules::new(&input_settings, &[])),
            source_priority: Arc::from([]),
            policy: Arc::new(policy()),
            tell_identity_events: options.tell_identity_events,
            resyncs: Arc::new([]),
            shadows: BTreeSet::new(),
            subjects: Subjects::new(SubjectForm::Plain, &Hasher::new(&Secret::new(options.secret))),
            traces: crate::telemetry::traces::Traces::default(),
            protections: Protections::default(),
            settings: ResolverSettings { batch_events_max: 50, panics_in_a_row_max: 3, standby_lag_max: 100 },
        };
        let resolver = Resolver::with(parts, options.resolve, Bounds { let_go: 4 << 10, max: 32 << 10 });
        let status = resolver.status();
        let (shutdown, shut_down) = watch::channel(false);
        let resolver = tokio::spawn(resolver.run(shut_down));
        Worker { status, shutdown, resolver, follower, stop_follower }
    }

    /// Appends events as their producers would, by subject.
    async fn publish(&self, events: impl IntoIterator<Item = NewRecord>) {
        self.log.append(events.into_iter().collect()).await.unwrap();
    }

    /// All committed records of a topic, those about the topic itself apart.
    async fn read(&self, topic: &str) -> Vec<Record> {
        let mut follower = self.log.follower().await.unwrap();
        let mut open = BTreeMap::new();
        for partition in 0..self.log.partitions(topic).await.unwrap().unwrap() {
            let at = TopicPartition::new(topic, partition);
            let marks = self.log.watermarks(&at).await.unwrap();
            if marks.low < marks.high {
                follower.assign(at.clone(), marks.low).await.unwrap();
                open.insert(at, marks.high);
            }
        }
        let mut records = Vec::new();
        while !open.is_empty() {
            let progress = follower.poll(1000, Duration::from_secs(1)).await.unwrap();
            records.extend(progress.records);
            for (at, position) in progress.positions {
                if open.get(&at).is_some_and(|end| position >= *end) {
                    open.remove(&at);
                }
            }
        }
        records.retain(|record| record.key.as_ref().is_none_or(|key| !key.starts_with(b"#")));
        records
    }

    async fn entries(&self) -> Vec<Entry> {
        values(&self.read(&self.topics.versions).await)
    }

    /// The newest record of each contact.
    async fn records(&self) -> BTreeMap<ContactId, ContactRecord> {
        let records: Vec<ContactRecord> = values(&self.read(&self.topics.records).await);
        records.into_iter().map(|record| (record.contact_id, record)).collect()
    }

    async fn outcomes(&self) -> Vec<Value> {
        values(&self.read(&self.topics.outcomes).await)
    }

    /// The ids of all events that have an answer, as often as they have one.
    async fn answered(&self) -> Vec<String> {
        let mut ids: Vec<String> = Vec::new();
        ids.extend(self.entries().await.into_iter().filter_map(|entry| Some(entry.event?.id?.to_string())));
        ids.extend(self.outcomes().await.iter().map(|outcome| {
            assert_eq!(outcome["crm"], "*");
            outcome["event"]["id"].as_str().unwrap_or("unreadable").to_owned()
        }));
        ids.sort();
        ids
    }

    async fn until_answered(&self, count: usize) -> Vec<String> {
        eventually(async || {
            let answered = self.answered().await;
            (answered.len() >= count).then_some(answered)
        })
        .await
    }

    async fn epoch(&self) -> u64 {
        let records = self.read(&self.topics.resolver).await;
        let epochs: Vec<Epoch> =
            values(&records.into_iter().filter(|record| record.key.as_deref() == Some(b"epoch")).collect::<Vec<_>>());
        epochs.last().map_or(0, |last| last.epoch)
    }
}

impl Worker {
    async fn until_active(&mut self) -> u64 {
        let active = self.status.wait_for(|status| status.active);
        let status = *timeout(Duration::from_secs(120), active).await.expect("becomes active in time").unwrap();
        assert!(status.caught_up);
        status.epoch.unwrap()
    }

    /// A shutdown in order.
    async fn shut_down(self) {
        self.shutdown.send_replace(true);
        timeout(Duration::from_secs(60), self.resolver).await.expect("stops in time").unwrap().unwrap();
        drop(self.stop_follower);
        self.follower.await.unwrap();
    }

    /// As a process that is killed: nothing is said to anybody.
    async fn kill(self) {
        self.resolver.abort();
        self.follower.abort();
        drop((self.resolver.await, self.follower.await));
    }

    async fn failure(self) -> ResolverError {
        let ended = timeout(Duration::from_secs(120), self.resolver).await.expect("stops in time").unwrap();
        ended.expect_err("stops with an error")
    }
}

/// Waits for a state, with a deadline.
async fn eventually<T>(mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(300), found).await.expect("comes true in time")
}

fn values<T: serde::de::DeserializeOwned>(records: &[Record]) -> Vec<T> {
    records.iter().map(|record| serde_json::from_slice(record.value.as_ref().unwrap()).unwrap()).collect()
}

fn event(id: &str, subject: &str, verb: &str, data: Option<Value>) -> NewRecord {
    let headers = [
        ("ce_specversion", "1.0"),
        ("ce_id", id),
        ("ce_source", "shop"),
        ("ce_type", &format!("contact.{verb}")),
        ("ce_subject", subject),
        ("content-type", "application/json"),
    ];
    NewRecord {
        to: TopicPartition::new(INPUT, partition_of(subject.as_bytes(), INPUT_PARTITIONS)),
        key: Some(Bytes::copy_from_slice(subject.as_bytes())),
        value: Some(Bytes::from(data.unwrap_or_else(|| json!({})).to_string())),
        headers: headers.map(|(name, value)| Header::new(name, value.to_owned())).to_vec(),
    }
}

fn updated(id: &str, subject: &str, notes: &str) -> NewRecord {
    event(id, subject, "updated", Some(json!({ "notes": notes })))
}

#[tokio::test(start_paused = true)]
async fn a_change_becomes_record_key_entry_and_position_in_one_transaction() {
    let bench = Bench::new().await;
    let mut worker = bench.worker("a", Options::default()).await;
    assert_eq!(worker.until_active().await, 1);
    let change = updated("e1", "1", "x");
    let at = change.to.clone();
    bench.publish([change]).await;
    bench.until_answered(1).await;

    let entries = bench.entries().await;
    let records = bench.records().await;
    let [entry] = &entries[..] else { panic!("one entry: {entries:?}") };
    let record = &records[&entry.contact_id];
    assert_eq!((entry.version, entry.epoch, record.version, record.epoch), (1, 1, 1, 1));
    let (document, _) = Document::parse(json!({"notes": "x"})).unwrap();
    assert_eq!(record.contact, Some(document));
    let by_contact = [bench.read(&bench.topics.versions).await, bench.read(&bench.topics.records).await].concat();
    for record in by_contact {
        let key = entry.contact_id.key();
        assert_eq!(record.key.as_deref(), Some(key.as_bytes()));
        assert_eq!(record.at.partition, partition_of(key.as_bytes(), PARTITIONS));
    }
    let keys = bench.read(&bench.topics.keys).await;
    assert_eq!(keys.len(), 1);
    assert_eq!(keys[0].at.partition, partition_of(keys[0].key.as_ref().unwrap(), PARTITIONS));

    let state = bench.read(&bench.topics.resolver).await;
    let key = Position::key(&at);
    let positions: Vec<Position> =
        values(&state.into_iter().filter(|record| record.key.as_deref() == Some(key.as_bytes())).collect::<Vec<_>>());
    assert_eq!(positions.last().map(|position| position.offset), Some(1));
    let mirrored = bench.log.committed("tests-resolver", &at, Isolation::ReadCommitted).await.unwrap();
    assert_eq!(mirrored.map(|committed| committed.offset), Some(1));
    worker.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn decisions_see_those_before_them_in_the_batch_and_in_batches_not_yet_followed() {
    let bench = Bench::new().await;
    let mut worker = bench.worker("a", Options::default()).await;
    worker.until_active().await;
    bench.log.set_follower_lag(Duration::from_secs(5));
    for round in 0..20 {
        bench.publish((0..3).map(|n| updated(&format!("{round}.{n}"), "1", &format!("{round}.{n}")))).await;
        // The lag holds for the input too: every round is decided while the one before is not yet in the view.
        sleep(Duration::from_millis(500)).await;
    }
    bench.until_answered(60).await;
    let versions: Vec<_> = bench.entries().await.iter().map(|entry| entry.version).collect();
    assert_eq!(versions, (1..=60).collect::<Vec<_>>());
    let records = bench.records().await;
    assert_eq!(records.values().map(|record| record.version).collect::<Vec<_>>(), [60]);
    worker.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn what_ends_here_is_answered_once_for_all_crms() {
    let bench = Bench::new().await;
    let mut worker = bench.worker("a", Options::default()).await;
    worker.until_active().await;
    bench
        .publish([
            updated("e1", "1", "x"),
            updated("e1", "1", "x"),
            updated("e2", "1", "x"),
            event("e3", "2", "deleted", None),
        ])
        .await;
    bench.until_answered(4).await;
    let mut answers: Vec<_> = bench
        .outcomes()
        .await
        .iter()
        .map(|outcome| {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            (text(&outcome["event"]["id"]), text(&outcome["outcome"]), text(&outcome["reason"]["code"]))
        })
        .collect();
    answers.sort();
    let expected =
        [("e1", "duplicate", "same_event"), ("e2", "unchanged", "same_record"), ("e3", "unchanged", "unknown_contact")];
    assert_eq!(answers, expected.map(|(id, outcome, code)| (id.to_owned(), outcome.to_owned(), code.to_owned())));
    worker.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn who_shares_a_key_and_is_two_is_told_by_id_and_a_key_of_nobody_leaves_the_log() {
    for told in [true, false] {
        let bench = Bench::new().await;
        let options = Options { tell_identity_events: told, ..Options::default() };
        let mut worker = bench.worker("a", options).await;
        worker.until_active().await;
        let shared = || Some(json!({"emails": [{"value": "fam@example.com"}]}));
        bench.publish([event("e1", "1", "updated", shared())]).await;
        bench.until_answered(1).await;
        bench.publish([event("e2", "2", "updated", shared())]).await;
        bench.until_answered(2).await;

        let contacts: Vec<ContactId> = bench.entries().await.iter().map(|entry| entry.contact_id).collect();
        let [first, second] = contacts[..] else { panic!("two contacts: {contacts:?}") };
        let events = bench.read(&bench.topics.identity_events).await;
        assert_eq!(events.len(), usize::from(told));
        for event in &events {
            assert_eq!(event.header("ce_type").map(|value| &**value), Some(&b"contact.identity.conflict"[..]));
            assert_eq!(event.key.as_deref(), Some(second.key().as_bytes()));
            let data: Value = serde_json::from_slice(event.value.as_ref().unwrap()).unwrap();
            assert_eq!((&data["contact_id"], &data["other_contact_id"]), (&json!(second), &json!(first)));
            assert_eq!((&data["key_type"], &data["reason"]), (&json!("email"), &json!("same_source")));
        }

        bench.publish([event("e3", "1", "erased", None), event("e4", "2", "deleted", None)]).await;
        bench.until_answered(4).await;
        let mut newest: BTreeMap<Bytes, Option<Bytes>> = BTreeMap::new();
        for record in bench.read(&bench.topics.keys).await {
            newest.insert(record.key.unwrap(), record.value);
        }
        // The two source ids are remembered for good; of the address nothing is.
        assert_eq!((newest.len(), newest.values().flatten().count()), (3, 2));
        let statuses: BTreeMap<_, _> =
            bench.records().await.into_iter().map(|(contact, record)| (contact, record.status)).collect();
        let expected = [(first, contact::record::Status::Erased), (second, contact::record::Status::Deleted)];
        assert_eq!(statuses, BTreeMap::from(expected));
        worker.shut_down().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_event_is_quarantined_byte_for_byte_and_nothing_behind_it_waits() {
    let bench = Bench::new().await;
    let mut worker = bench.worker("a", Options::default()).await;
    worker.until_active().await;
    let mut broken = updated("e1", "1", "x");
    broken.value = Some(Bytes::from_static(b"{ not json"));
    bench.publish([broken, updated("e2", "1", "x")]).await;
    assert_eq!(bench.until_answered(2).await, ["e1", "e2"]);
    let outcomes = bench.outcomes().await;
    assert_eq!(outcomes[0]["outcome"], "quarantined");
    assert_eq!(outcomes[0]["reason"]["code"], "not_json");
    assert_eq!(outcomes[0]["contact_id"], Value::Null);
    let dead = bench.read(&bench.topics.dead_letters).await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].value.as_deref(), Some(&b"{ not json"[..]));
    assert_eq!(bench.entries().await.len(), 1);
    worker.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_restart_goes_on_where_it_stopped_and_repeats_nothing() {
    let bench = Bench::new().await;
    let mut before = Vec::new();
    for round in 1..=3_u64 {
        let mut worker = bench.worker("a", Options::default()).await;
        assert_eq!(worker.until_active().await, round);
        bench.publish((0..20).map(|n| updated(&format!("{round} {n}"), &n.to_string(), &round.to_string()))).await;
        let answered = bench.until_answered(20 * round as usize).await;
        assert_eq!(answered.iter().collect::<BTreeSet<_>>().len(), 20 * round as usize);
        worker.shut_down().await;
        assert!(answered.len() > before.len());
        before = answered;
    }
    assert!(bench.records().await.values().all(|record| record.version == 3));
    assert_eq!(bench.outcomes().await.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_second_candidate_waits_and_takes_over_when_the_first_leaves_or_dies() {
    let bench = Bench::new().await;
    let mut first = bench.worker("a", Options::default()).await;
    assert_eq!(first.until_active().await, 1);
    let mut second = bench.worker("b", Options::default()).await;
    eventually(async || (bench.log.members("tests-resolver").len() == 2).then_some(())).await;
    bench.publish([updated("e1", "1", "x")]).await;
    bench.until_answered(1).await;
    assert!(!second.status.borrow().active);

    first.shut_down().await;
    assert_eq!(second.until_active().await, 2);
    bench.publish([updated("e2", "1", "y")]).await;
    assert_eq!(bench.until_answered(2).await, ["e1", "e2"]);

    let mut third = bench.worker("c", Options::default()).await;
    eventually(async || (bench.log.members("tests-resolver").len() == 2).then_some(())).await;
    second.kill().await;
    assert_eq!(third.until_active().await, 3);
    bench.publish([updated("e3", "1", "z")]).await;
    assert_eq!(bench.until_answered(3).await, ["e1", "e2", "e3"]);
    assert_eq!(bench.records().await.values().map(|record| record.version).collect::<Vec<_>>(), [3]);
    third.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_named_worker_finds_its_lease_after_a_kill_and_hands_it_on_when_it_stops() {
    let bench = Bench::new().await;
    let named = || Options { named: true, ..Options::default() };
    let mut first = bench.worker("a", named()).await;
    assert_eq!(first.until_active().await, 1);
    let mut second = bench.worker("b", named()).await;
    eventually(async || (bench.log.members("tests-resolver").len() == 2).then_some(())).await;

    let session = Settings::default().session_timeout;
    let killed = Instant::now();
    first.kill().await;
    let mut first = bench.worker("a", named()).await;
    assert_eq!(first.until_active().await, 2);
    assert!(killed.elapsed() < session, "nobody waits for the end of a session");
    assert!(!second.status.borrow().active);

    let stopped = Instant::now();
    first.shut_down().await;
    assert_eq!(second.until_active().await, 3);
    assert!(stopped.elapsed() < session, "nor for that of a worker that says farewell");
    second.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_fenced_resolver_publishes_nothing_and_begins_a_new_term() {
    let bench = Bench::new().await;
    let mut worker = bench.worker("a", Options::default()).await;
    assert_eq!(worker.until_active().await, 1);
    let _other = bench.log.writer("tests-resolver").await.unwrap();
    bench.publish([updated("e1", "1", "x")]).await;
    bench.until_answered(1).await;
    let entries = bench.entries().await;
    assert_eq!(entries.iter().map(|entry| (entry.version, entry.epoch)).collect::<Vec<_>>(), [(1, 2)]);
    assert!(bench.records().await.values().all(|record| record.epoch == 2));
    worker.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_resolver_that_froze_and_lost_its_lease_publishes_nothing() {
    let bench = Bench::new().await;
    let mut first = bench.worker("a", Options::default()).await;
    first.until_active().await;
    let mut second = bench.worker("b", Options::default()).await;
    let members = eventually(async || {
        let members = bench.log.members("tests-resolver");
        (members.len() == 2).then_some(members)
    })
    .await;
    let active = members.iter().find(|member| member.owned.contains_key(&LEASE)).unwrap().id;
    bench.log.silence("tests-resolver", active);
    assert_eq!(second.until_active().await, 2);
    // The first still believes in its lease, and both read the same input.
    bench.publish((0..20).map(|n| updated(&format!("e{n}"), &n.to_string(), "x"))).await;
    let answered = bench.until_answered(20).await;
    assert_eq!(answered.iter().collect::<BTreeSet<_>>().len(), answered.len());
    assert!(bench.entries().await.iter().all(|entry| entry.epoch == 2));
    // It was fenced, and must not fence back as long as it cannot prove its lease.
    eventually(async || (!first.status.borrow_and_update().active).then_some(())).await;
    sleep(Duration::from_secs(30)).await;
    bench.log.unsilence("tests-resolver", active);
    sleep(Duration::from_secs(30)).await;
    bench.publish([updated("after", "1", "y")]).await;
    assert_eq!(bench.until_answered(21).await.len(), 21);
    assert_eq!(bench.epoch().await, 2);
    second.shut_down().await;
    first.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_resolver_far_ahead_of_its_view_waits_for_it() {
    let bench = Bench::new().await;
    let mut worker = bench.worker("a", Options::default()).await;
    worker.until_active().await;
    bench.log.set_follower_lag(Duration::from_secs(60));
    sleep(Duration::from_secs(60)).await;
    bench.publish((0..300).map(|n| updated(&format!("e{n}"), &n.to_string(), "x"))).await;
    sleep(Duration::from_secs(100)).await;
    // Entries and the markers of their transactions.
    let mut written = 0;
    for partition in 0..PARTITIONS {
        let at = TopicPartition::new(Arc::clone(&bench.topics.versions), partition);
        written += bench.log.watermarks(&at).await.unwrap().high;
    }
    assert!((1..200).contains(&written), "some of 300 were decided, then no more: {written}");
    bench.log.set_follower_lag(Duration::ZERO);
    assert_eq!(bench.until_answered(300).await.len(), 300);
    assert_eq!(bench.records().await.len(), 300);
    worker.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_was_lost_is_neither_lost_nor_repeated() {
    for verdict in [Verdict::UnknownButCommitted, Verdict::UnknownAndAborted] {
        let bench = Bench::new().await;
        let mut worker = bench.worker("a", Options::default()).await;
        worker.until_active().await;
        let commits = AtomicU32::new(0);
        bench.log.set_faults(Some(Arc::new(move |point: Point, _: &str| {
            let first = point == Point::BeforeCommit && commits.fetch_add(1, Ordering::Relaxed) == 0;
            if first { verdict } else { Verdict::Proceed }
        })));
        bench.publish((0..10).map(|n| updated(&format!("e{n}"), "1", &n.to_string()))).await;
        eventually(async || (bench.epoch().await == 2).then_some(())).await;
        bench.publish([updated("last", "1", "last")]).await;
        let answered = bench.until_answered(11).await;
        assert_eq!(answered.iter().collect::<BTreeSet<_>>().len(), 11, "{verdict:?}");
        assert_eq!(bench.records().await.values().map(|record| record.version).collect::<Vec<_>>(), [11]);
        worker.shut_down().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_aborted_or_refused_transaction_is_tried_again_in_the_same_term() {
    for verdict in [Verdict::FailAborted, Verdict::Refused] {
        let bench = Bench::new().await;
        let mut worker = bench.worker("a", Options::default()).await;
        worker.until_active().await;
        let tries = AtomicU32::new(0);
        bench.log.set_faults(Some(Arc::new(move |point: Point, _: &str| {
            let early = point == Point::AfterPrepare && tries.fetch_add(1, Ordering::Relaxed) < 3;
            if early { verdict } else { Verdict::Proceed }
        })));
        bench.publish([updated("e1", "1", "x")]).await;
        assert_eq!(bench.until_answered(1).await, ["e1"]);
        assert_eq!(bench.epoch().await, 1, "{verdict:?}");
        worker.shut_down().await;
    }
}

fn panicking_on(marker: &'static str) -> Arc<Resolve> {
    Arc::new(move |change, known, context| {
        assert!(!change.id.starts_with(marker), "a fault of the decision");
        identity::resolve(change, known, context)
    })
}

#[tokio::test(start_paused = true)]
async fn a_decision_that_panics_costs_only_its_event() {
    let bench = Bench::new().await;
    let mut worker = bench.worker("a", Options { resolve: panicking_on("bad"), ..Options::default() }).await;
    worker.until_active().await;
    let ids = ["e1", "bad1", "bad2", "e2", "bad3", "bad4", "e3"];
    bench.publish(ids.map(|id| updated(id, "1", id))).await;
    bench.until_answered(7).await;
    let versions: Vec<_> = bench.entries().await.iter().map(|entry| entry.version).collect();
    assert_eq!(versions, [1, 2, 3]);
    let outcomes = bench.outcomes().await;
    assert_eq!(outcomes.len(), 4);
    assert!(outcomes.iter().all(|outcome| outcome["reason"]["code"] == "internal_error"));
    assert_eq!(bench.read(&bench.topics.dead_letters).await.len(), 4);
    worker.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn panics_in_a_row_stop_the_worker_and_leave_their_events_to_the_next() {
    let bench = Bench::new().await;
    let mut worker = bench.worker("a", Options { resolve: panicking_on("bad"), ..Options::default() }).await;
    worker.until_active().await;
    bench.publish(["bad1", "bad2", "bad3"].map(|id| updated(id, "1", id))).await;
    let failure = worker.failure().await;
    assert!(matches!(failure, ResolverError::Panics { in_a_row: 3, .. }), "{failure}");
    assert_eq!(bench.answered().await, Vec::<String>::new());

    let repaired = bench.worker("b", Options::default()).await;
    assert_eq!(bench.until_answered(3).await, ["bad1", "bad2", "bad3"]);
    assert_eq!(bench.outcomes().await.len(), 0);
    repaired.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn another_secret_refuses_to_start() {
    let bench = Bench::new().await;
    let mut worker = bench.worker("a", Options::default()).await;
    worker.until_active().await;
    let standby = bench.worker("b", Options { secret: "another", ..Options::default() }).await;
    assert!(matches!(standby.failure().await, ResolverError::OtherSecret));
    worker.shut_down().await;
    let successor = bench.worker("c", Options { secret: "another", ..Options::default() }).await;
    let failure = successor.failure().await;
    assert!(matches!(failure, ResolverError::OtherSecret));
    assert!(!failure.to_string().contains("another secret value"));
    assert_eq!(bench.epoch().await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_fits_into_no_topic_is_quarantined_and_its_neighbours_are_not() {
    let bench = Bench::new().await;
    let mut worker = bench.worker("a", Options::default()).await;
    worker.until_active().await;
    // An event within the limit; but a record keeps the view beside the merged document.
    let large = updated("large", "1", &"x".repeat(40 << 10));
    // An event that is too large for the dead letters themselves.
    let huge = updated("huge", "1", &"x".repeat(200 << 10));
    bench.publish([updated("e1", "1", "x"), large, updated("e2", "1", "y"), huge, updated("e3", "1", "z")]).await;
    assert_eq!(bench.until_answered(5).await, ["e1", "e2", "e3", "huge", "large"]);
    let versions: Vec<_> = bench.entries().await.iter().map(|entry| entry.version).collect();
    assert_eq!(versions, [1, 2, 3]);
    let mut codes: Vec<_> = bench.outcomes().await.iter().map(|outcome| outcome["reason"]["code"].clone()).collect();
    codes.sort_by_key(ToString::to_string);
    assert_eq!(codes, ["record_too_large", "too_large"]);
    let mut sizes: Vec<_> = bench
        .read(&bench.topics.dead_letters)
        .await
        .iter()
        .map(|dead| dead.value.as_ref().map_or(0, Bytes::len))
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes[0], 0);
    assert!(sizes[1] > 40 << 10);
    worker.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn input_that_was_deleted_unread_does_not_stop_the_rest() {
    let bench = Bench::new().await;
    let mut worker = bench.worker("a", Options::default()).await;
    worker.until_active().await;
    bench.publish([updated("e1", "1", "x")]).await;
    bench.until_answered(1).await;
    worker.shut_down().await;
    let lost: Vec<_> = (2..=5).map(|n| updated(&format!("e{n}"), "1", &n.to_string())).collect();
    let at = lost[0].to.clone();
    bench.publish(lost).await;
    bench.log.expire_before(&at, 4);
    let worker = bench.worker("a", Options::default()).await;
    assert_eq!(bench.until_answered(2).await, ["e1", "e5"]);
    worker.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn new_partitions_and_topics_of_the_input_are_found() {
    let bench = Bench::new().await;
    let inputs = vec![INPUT.into(), "later".into()];
    let mut worker = bench.worker("a", Options { inputs, ..Options::default() }).await;
    worker.until_active().await;
    bench.log.add_partitions(INPUT, INPUT_PARTITIONS + 1);
    let later = TopicSpec {
        name: "later".into(),
        partitions: 1,
        cleanup: Cleanup::Delete { after: Duration::from_secs(86_400) },
        message_bytes_max: MESSAGE_BYTES_MAX,
    };
    bench.log.ensure_topics(&[later]).await.unwrap();
    let mut in_new_partition = updated("e1", "1", "x");
    in_new_partition.to.partition = INPUT_PARTITIONS;
    let mut in_new_topic = updated("e2", "2", "x");
    in_new_topic.to = TopicPartition::new("later", 0);
    bench.publish([in_new_partition, in_new_topic]).await;
    assert_eq!(bench.until_answered(2).await, ["e1", "e2"]);
    worker.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn markers_in_the_input_are_passed() {
    let bench = Bench::new().await;
    let mut worker = bench.worker("a", Options::default()).await;
    worker.until_active().await;
    let at = updated("", "1", "").to;
    bench.log.append_marker(&at);
    bench.publish([updated("e1", "1", "x")]).await;
    bench.log.append_marker(&at);
    bench.until_answered(1).await;
    bench.publish([updated("e2", "1", "y")]).await;
    assert_eq!(bench.until_answered(2).await, ["e1", "e2"]);
    worker.shut_down().await;
    let mirrored = bench.log.committed("tests-resolver", &at, Isolation::ReadCommitted).await.unwrap();
    assert_eq!(mirrored.map(|committed| committed.offset), Some(4));
}

/// Whatever goes wrong with writers, by seed, while workers come and go: every event has one answer, versions have no
/// gaps, and the records are those of an undisturbed run.
#[tokio::test(start_paused = true)]
async fn faults_of_the_log_change_no_result() {
    let mut terms = 0;
    for seed in 0..20 {
        let bench = Bench::new().await;
        let mut random = StdRng::seed_from_u64(seed);
        let faults = parking_lot::Mutex::new(StdRng::seed_from_u64(seed + 1000));
        bench.log.set_faults(Some(Arc::new(move |_: Point, _: &str| match faults.lock().random_range(0..25) {
            0 => Verdict::FailAborted,
            1 => Verdict::Refused,
            2 => Verdict::UnknownButCommitted,
            3 => Verdict::UnknownAndAborted,
            4 => Verdict::Hang(Duration::from_secs(12)),
            5 => Verdict::LateMarkers(Duration::from_millis(300)),
            _ => Verdict::Proceed,
        })));
        bench.log.set_follower_lag(Duration::from_millis(random.random_range(0..400)));
        let mut workers =
            vec![bench.worker("0", Options::default()).await, bench.worker("1", Options::default()).await];
        let mut published = 0_usize;
        let mut last_words = BTreeMap::new();
        for round in 0..12 {
            let events: Vec<_> = (0..random.random_range(1..40))
                .map(|n| {
                    let subject = random.random_range(0..6).to_string();
                    let id = format!("{round}.{n}");
                    last_words.insert(subject.clone(), id.clone());
                    updated(&id, &subject, &id)
                })
                .collect();
            published += events.len();
            bench.publish(events).await;
            sleep(Duration::from_millis(random.random_range(0..3000))).await;
            if random.random_range(0..4) == 0 {
                let name = (round + 2).to_string();
                let gone = workers.remove(random.random_range(0..workers.len()));
                if random.random() {
                    gone.kill().await
                } else {
                    gone.shut_down().await
                }
                workers.push(bench.worker(&name, Options::default()).await);
            }
        }
        let answered = bench.until_answered(published).await;
        bench.log.set_faults(None);
        assert_eq!(answered.len(), published, "seed {seed}: each event is answered once");
        assert_eq!(answered.iter().collect::<BTreeSet<_>>().len(), published, "seed {seed}: by its own answer");
        let mut versions: BTreeMap<ContactId, Vec<u64>> = BTreeMap::new();
        for entry in bench.entries().await {
            versions.entry(entry.contact_id).or_default().push(entry.version);
        }
        let records = bench.records().await;
        assert_eq!(records.len(), versions.len(), "seed {seed}");
        for (contact, versions) in versions {
            let expected: Vec<u64> = (1..=versions.len() as u64).collect();
            assert_eq!(versions, expected, "seed {seed}: versions rise by one, in order");
            assert_eq!(records[&contact].version, *expected.last().unwrap(), "seed {seed}");
        }
        let said = records.values().map(|record| {
            let notes = record.contact.as_ref().and_then(|contact| contact.members()["notes"].as_str());
            (record.members[0].subject.to_string(), notes.unwrap().to_owned())
        });
        assert_eq!(said.collect::<BTreeMap<_, _>>(), last_words, "seed {seed}: the last word counts");
        terms += bench.epoch().await;
        for worker in workers {
            worker.shut_down().await;
        }
    }
    assert!(terms > 100, "the faults did something: {terms} terms");
}

#[tokio::test(start_paused = true)]
async fn the_offsets_of_quiet_partitions_are_committed_anew() {
    let bench = Bench::new().await;
    let mut worker = bench.worker("a", Options::default()).await;
    worker.until_active().await;
    let at = updated("", "1", "").to;
    bench.log.append_marker(&at);
    // A position that moved over a marker alone is written with the next events, or when all are.
    let mirrored = async || bench.log.committed("tests-resolver", &at, Isolation::ReadCommitted).await.unwrap();
    assert_eq!(mirrored().await.map(|committed| committed.offset), Some(0));
    sleep(Duration::from_secs(3700)).await;
    assert_eq!(mirrored().await.map(|committed| committed.offset), Some(1));
    worker.shut_down().await;
}
