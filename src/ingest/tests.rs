//! Over a real socket, in real time: a paused clock would let every time-out fire at once.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use jiff::Timestamp;
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{oneshot, watch},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

use super::{
    binding::{self, Mode},
    *,
};
use crate::{
    config::{InputTopicSettings, Settings},
    event::change::{self, Change},
    log::{
        Cleanup, CommittedOffset, Follower, GroupSpec, Header, Isolation, LogError, Member, NewRecord, Offset, Record,
        TopicFound, TopicPartition, TopicSpec, Watermarks, Writer,
        local::{self, LocalLog},
        partition_of,
    },
    metrics::{self, Registry},
    privacy::Secret,
};

const DEADLINE: Duration = Duration::from_secs(30);
const TOPIC: &str = "contact-changes";
const OTHER: &str = "crm-changes";
const PARTITIONS: u32 = 3;
const EVENT_BYTES_MAX: usize = 2048;
const STRUCTURED: &str = "content-type: application/cloudevents+json\r\n";
const BATCH: &str = "content-type: application/cloudevents-batch+json\r\n";

/// A log that can be made to wait or fail, and counts.
#[derive(Debug)]
struct Gate {
    log: LocalLog,
    open: watch::Sender<bool>,
    failure: Mutex<Option<LogError>>,
    appending: AtomicUsize,
    appending_most: AtomicUsize,
    measured: AtomicUsize,
}

impl Gate {
    fn fail(&self, error: Option<LogError>) {
        *self.failure.lock() = error;
    }
}

#[async_trait]
impl Log for Gate {
    async fn ensure_topics(&self, topics: &[TopicSpec]) -> Result<Vec<Arc<str>>, LogError> {
        self.log.ensure_topics(topics).await
    }

    async fn describe_topics(&self, topics: &[Arc<str>]) -> Result<Vec<Option<TopicFound>>, LogError> {
        self.log.describe_topics(topics).await
    }

    async fn partitions(&self, topic: &str) -> Result<Option<u32>, LogError> {
        self.measured.fetch_add(1, SeqCst);
        self.log.partitions(topic).await
    }

    async fn watermarks(&self, at: &TopicPartition) -> Result<Watermarks, LogError> {
        self.log.watermarks(at).await
    }

    async fn offset_at(&self, at: &TopicPartition, time: Timestamp) -> Result<Offset, LogError> {
        self.log.offset_at(at, time).await
    }

    async fn append(&self, records: Vec<NewRecord>) -> Result<(), LogError> {
        let now = self.appending.fetch_add(1, SeqCst) + 1;
        self.appending_most.fetch_max(now, SeqCst);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
        // Lets others in, if anything lets them.
        tokio::task::yield_now().await;
        self.appending.fetch_sub(1, SeqCst);
        let failure = self.failure.lock().take();
        match failure {
            Some(failure) => Err(failure),
            None => self.log.append(records).await,
        }
    }

    async fn follower(&self) -> Result<Box<dyn Follower>, LogError> {
        self.log.follower().await
    }

    async fn join(&self, spec: GroupSpec) -> Result<Box<dyn Member>, LogError> {
        self.log.join(spec).await
    }

    async fn writer(&self, transactional_id: &str) -> Result<Box<dyn Writer>, LogError> {
        self.log.writer(transactional_id).await
    }

    async fn committed(
        &self,
        group: &str,
        at: &TopicPartition,
        isolation: Isolation,
    ) -> Result<Option<CommittedOffset>, LogError> {
        self.log.committed(group, at, isolation).await
    }
}

struct World {
    address: SocketAddr,
    log: Arc<Gate>,
    /// Positions of the resolver.
    decided: Arc<Mutex<BTreeMap<TopicPartition, Offset>>>,
    registry: Registry,
    stop: oneshot::Sender<()>,
    running: JoinHandle<bool>,
}

fn settings() -> IngestSettings {
    let reference = Settings::reference();
    IngestSettings { backlog_max: 1000, batch_events_max: 4, requests_max: 4, ..reference.ingest }
}

fn rules() -> Rules {
    let mut input = Settings::reference().input;
    input.event_bytes_max = EVENT_BYTES_MAX;
    input.topics = [TOPIC, OTHER].map(|name| InputTopicSettings { name: name.into(), tombstone_source: None }).to_vec();
    Rules::new(&input, &[])
}

async fn world(settings: IngestSettings) -> World {
    let log = Arc::new(Gate {
        log: LocalLog::new(local::Settings::default(), Clock::System),
        open: watch::Sender::new(true),
        failure: Mutex::new(None),
        appending: AtomicUsize::new(0),
        appending_most: AtomicUsize::new(0),
        measured: AtomicUsize::new(0),
    });
    let spec = |name: &str| TopicSpec {
        name: name.into(),
        partitions: PARTITIONS,
        cleanup: Cleanup::Delete { after: Duration::from_secs(3600) },
        message_bytes_max: 1 << 20,
    };
    log.ensure_topics(&[spec(TOPIC), spec(OTHER)]).await.unwrap();
    let registry = Registry::new();
    let decided: Arc<Mutex<BTreeMap<TopicPartition, Offset>>> = Arc::default();
    let positions = Arc::clone(&decided);
    let parts = Parts {
        settings,
        topics: vec![TOPIC.into(), OTHER.into()],
        event_bytes_max: EVENT_BYTES_MAX,
        rules: Arc::new(rules()),
        log: log.clone(),
        decided: Arc::new(move |at| Ok(positions.lock().get(at).copied())),
        clock: Clock::System,
        metrics: Metrics::new(&registry, &[]).unwrap(),
        traces: Traces::default(),
    };
    let ingest = Ingest::bind((std::net::Ipv4Addr::LOCALHOST, 0).into(), parts).await.unwrap();
    let address = ingest.address();
    let (stop, stopped) = oneshot::channel::<()>();
    let running = tokio::spawn(ingest.run(async { stopped.await.unwrap_or(()) }, Duration::from_secs(10)));
    World { address, log, decided, registry, stop, running }
}

struct Answer {
    status: u16,
    head: String,
    body: Value,
}

impl Answer {
    fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

impl World {
    async fn connect(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(body).await.unwrap();
        stream
    }

    async fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        answer(self.connect(method, path, headers, body).await).await
    }

    async fn post(&self, headers: &str, body: &[u8]) -> Answer {
        self.send("POST", "/events", headers, body).await
    }

    /// Every record of a topic.
    async fn records(&self, topic: &str) -> Vec<Record> {
        let mut follower = self.log.follower().await.unwrap();
        let mut open = BTreeMap::new();
        for partition in 0..PARTITIONS {
            let at = TopicPartition::new(topic, partition);
            follower.assign(at.clone(), 0).await.unwrap();
            open.insert(at.clone(), self.log.watermarks(&at).await.unwrap().high);
        }
        open.retain(|_, end| *end > 0);
        let mut found = Vec::new();
        while !open.is_empty() {
            let progress = timeout(DEADLINE, follower.poll(1000, Duration::from_secs(1))).await.unwrap().unwrap();
            found.extend(progress.records);
            for (at, position) in progress.positions {
                if open.get(&at).is_some_and(|end| *end <= position) {
                    open.remove(&at);
                }
            }
        }
        found
    }

    fn metric(&self, series: &str) -> String {
        let text = metrics::render(&self.registry).unwrap();
        let prefix = format!("contact_replicator_{series} ");
        text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or_default().to_owned()
    }

    async fn stop(self) -> bool {
        drop(self.stop);
        timeout(DEADLINE, self.running).await.unwrap().unwrap()
    }
}

async fn answer(mut stream: TcpStream) -> Answer {
    let mut text = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut text)).await.unwrap().unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?} is no answer"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_ascii_lowercase(), body: serde_json::from_str(body).unwrap() }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

fn event(id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "/shop", "type": "com.example.contact.updated.v1",
        "subject": format!("customer-{id}"), "data": {"name": {"givenName": "Ann"}},
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut event = event("1");
    event[name] = value;
    event
}

fn text(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

const BINARY: &str =
    "ce-specversion: 1.0\r\nce-id: 1\r\nce-source: /shop\r\nce-type: contact.updated\r\nce-subject: 42\r\n";

#[tokio::test]
async fn each_fault_has_its_status_and_code() {
    let world = world(settings()).await;
    let long = vec![b'x'; EVENT_BYTES_MAX + 1];
    let many = text(&json!([1, 2, 3, 4, 5]));
    let future = text(&with("time", json!("2999-01-01T00:00:00Z")));
    let avro = "content-type: application/cloudevents+avro\r\n";
    let json = "content-type: application/json\r\n";
    let binary = |more: &str| format!("{BINARY}{more}");
    let missing = BINARY.replace("ce-id: 1\r\n", "");
    for (method, path, headers, body, status, code, pointer) in [
        ("GET", "/events", "", &b""[..], 405, "method_not_allowed", None),
        ("PUT", "/events/contact-changes", STRUCTURED, b"", 405, "method_not_allowed", None),
        ("POST", "/", STRUCTURED, b"", 404, "not_found", None),
        ("POST", "/events/", STRUCTURED, b"", 404, "not_found", None),
        ("POST", "/events/contact-records", STRUCTURED, b"", 404, "not_found", None),
        ("POST", "/events/%ff", STRUCTURED, b"", 404, "not_found", None),
        ("POST", "/events", "", b"{}", 415, "unsupported_media_type", None),
        ("POST", "/events", json, b"{}", 415, "unsupported_media_type", None),
        ("POST", "/events", avro, b"{}", 415, "unsupported_media_type", None),
        ("POST", "/events", STRUCTURED, &long, 413, "too_large", None),
        ("POST", "/events", BATCH, &many, 413, "too_many_events", None),
        ("POST", "/events", BATCH, b"{}", 400, "not_json", None),
        ("POST", "/events", STRUCTURED, b"{", 400, "not_json", None),
        ("POST", "/events", STRUCTURED, b"", 400, "not_json", None),
        ("POST", "/events", STRUCTURED, b"[]", 400, "not_cloudevents", None),
        ("POST", "/events", STRUCTURED, b"{}", 400, "missing_attribute", Some("/headers/ce_specversion")),
        ("POST", "/events", STRUCTURED, &future, 400, "time_in_future", Some("/headers/ce_time")),
        (
            "POST",
            "/events",
            "content-type: application/cloudevents+json; charset=latin1\r\n",
            b"{}",
            400,
            "bad_attribute",
            Some("/headers/content-type"),
        ),
        (
            "POST",
            "/events",
            STRUCTURED,
            &text(&with("type", json!("contact.updated.v2"))),
            400,
            "unknown_type",
            Some("/headers/ce_type"),
        ),
        (
            "POST",
            "/events",
            STRUCTURED,
            &text(&with("subject", json!(""))),
            400,
            "no_subject",
            Some("/headers/ce_subject"),
        ),
        ("POST", "/events", STRUCTURED, &text(&with("data", json!({"name": "Ann"}))), 400, "wrong_type", Some("/name")),
        ("POST", "/events", &missing, b"{}", 400, "missing_attribute", Some("/headers/ce_id")),
        ("POST", "/events", BINARY, b"", 400, "not_json", None),
        (
            "POST",
            "/events",
            &binary("content-type: text/plain\r\n"),
            b"{}",
            400,
            "not_json",
            Some("/headers/content-type"),
        ),
        // Decoded, it is no text.
        ("POST", "/events", &binary("ce-sequence: %ff\r\n"), b"{}", 400, "bad_attribute", Some("/headers/ce_sequence")),
        ("POST", "/events", &binary("ce-subject: 43\r\n"), b"{}", 400, "bad_attribute", Some("/headers/ce_subject")),
    ] {
        let answer = world.send(method, path, headers, body).await;
        let what = format!("{method} {path} {headers:?} {:?}: {}", String::from_utf8_lossy(body), answer.body);
        assert_eq!((answer.status, answer.code()), (status, code), "{what}");
        assert_eq!(answer.body["pointer"].as_str(), pointer, "{what}");
        assert_eq!(answer.body["status"], json!(status), "{what}");
        assert!(answer.head.contains("content-type: application/problem+json"), "{what}");
        assert!(!answer.body.to_string().contains("Ann"), "{what}");
        assert_eq!(answer.head.contains("\nallow: post"), status == 405, "{what}");
        assert_eq!(answer.head.contains("\naccept: application/cloudevents+json"), status == 415, "{what}");
    }
    assert!(world.records(TOPIC).await.is_empty() && world.records(OTHER).await.is_empty());
    assert_eq!(world.metric("ingest_events_total"), "0");
    assert_eq!(world.metric("ingest_requests_total{result=\"too_large\"}"), "2");
    assert!(world.stop().await);
}

#[tokio::test]
async fn each_mode_is_written_as_a_kafka_producer_would() {
    let world = world(settings()).await;
    let one = event("1").to_string().replace(',', " ,\n");
    let headers = "Content-Type: application/cloudevents+json; charset=UTF-8\r\nCE-ID: not-looked-at\r\n";
    assert_eq!(world.post(headers, one.as_bytes()).await.status, 202);
    let record = world.records(TOPIC).await.remove(0);
    assert_eq!(record.value.as_deref(), Some(one.as_bytes()));
    assert_eq!(record.key.as_deref(), Some(&b"customer-1"[..]));
    assert_eq!(record.at.partition, partition_of(b"customer-1", PARTITIONS));
    assert!(record.headers == [Header::new("content-type", "application/cloudevents+json; charset=UTF-8")]);

    let headers =
        format!("{BINARY}ce-comexampleextension: J%C3%BCrgen%20%22M%22\r\ncontent-type: application/json\r\n");
    let answer = world.send("POST", "/events/crm-changes", &headers, b"{\"notes\": null}").await;
    assert_eq!((answer.status, answer.body), (202, json!({"accepted": 1})));
    let record = world.records(OTHER).await.remove(0);
    assert_eq!(record.value.as_deref(), Some(&b"{\"notes\": null}"[..]));
    assert_eq!(record.key.as_deref(), Some(&b"42"[..]));
    let found: BTreeMap<_, _> = record.headers.iter().map(|header| (&*header.name, &*header.value)).collect();
    let expected = BTreeMap::from([
        ("ce_comexampleextension", "Jürgen \"M\"".as_bytes()),
        ("ce_id", b"1"),
        ("ce_source", b"/shop"),
        ("ce_specversion", b"1.0"),
        ("ce_subject", b"42"),
        ("ce_type", b"contact.updated"),
        ("content-type", b"application/json"),
    ]);
    assert_eq!((record.headers.len(), found), (expected.len(), expected));

    let batch = format!("[{} ,\n {}]", event("2"), event("3"));
    let answer = world.post(BATCH, batch.as_bytes()).await;
    assert_eq!((answer.status, answer.body), (202, json!({"accepted": 2})));
    for id in ["2", "3"] {
        let subject = format!("customer-{id}");
        let records = world.records(TOPIC).await;
        let record = records.iter().find(|record| record.key.as_deref() == Some(subject.as_bytes())).unwrap();
        assert_eq!(record.value.as_deref(), Some(&*text(&event(id))));
        assert!(record.headers == [Header::new("content-type", "application/cloudevents+json")]);
        assert_eq!(record.at.partition, partition_of(subject.as_bytes(), PARTITIONS));
    }
    assert_eq!(world.post(BATCH, b" [ ] ").await.body, json!({"accepted": 0}));
    assert_eq!(world.metric("ingest_events_total"), "4");
    assert_eq!(world.metric("ingest_requests_total{result=\"accepted\"}"), "4");
    assert!(world.stop().await);
}

#[tokio::test]
async fn a_deletion_without_a_body_is_an_event_and_no_tombstone() {
    let world = world(settings()).await;
    let headers = BINARY.replace("updated", "deleted");
    assert_eq!(world.post(&headers, b"").await.status, 202);
    assert_eq!(world.records(TOPIC).await.remove(0).value.as_deref(), Some(&b""[..]));
    assert!(world.stop().await);
}

#[tokio::test]
async fn nothing_of_a_batch_is_written_if_one_event_is_bad() {
    let world = world(settings()).await;
    let batch = json!([event("1"), event("2"), with("id", json!("")), event("4")]);
    let answer = world.post(BATCH, &text(&batch)).await;
    assert_eq!((answer.status, answer.code()), (400, "bad_attribute"));
    assert_eq!((&answer.body["index"], &answer.body["pointer"]), (&json!(2), &json!("/headers/ce_id")));
    let large = with("x", json!("x".repeat(EVENT_BYTES_MAX)));
    let answer = world.post(BATCH, &text(&json!([event("1"), large]))).await;
    assert_eq!((answer.status, answer.code(), &answer.body["index"]), (413, "too_large", &json!(1)));
    assert!(world.records(TOPIC).await.is_empty());
    assert!(world.stop().await);
}

#[tokio::test]
async fn an_event_may_have_its_bytes_and_not_one_more() {
    let world = world(settings()).await;
    // What counts besides the body: the key and the one header.
    let beside = "customer-1".len() + "content-type".len() + "application/cloudevents+json".len();
    let of_size = |bytes: usize| {
        let bare = text(&with("x", json!(""))).len();
        text(&with("x", json!("x".repeat(bytes - bare))))
    };
    assert_eq!(world.post(STRUCTURED, &of_size(EVENT_BYTES_MAX - beside)).await.status, 202);
    for bytes in [EVENT_BYTES_MAX - beside + 1, EVENT_BYTES_MAX, EVENT_BYTES_MAX + 1] {
        let answer = world.post(STRUCTURED, &of_size(bytes)).await;
        assert_eq!((answer.status, answer.code()), (413, "too_large"), "{bytes}");
    }
    // Without a length said before, too.
    let body = of_size(EVENT_BYTES_MAX + 1);
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = format!(
        "POST /events HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n{STRUCTURED}\r\n{:x}\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat()).await.unwrap();
    assert_eq!(answer(stream).await.status, 413);
    // A batch may have that for each of its events.
    let pad = |bytes: usize| [text(&json!([event("1")])), vec![b' '; bytes]].concat();
    let bare = pad(0).len();
    assert_eq!(world.post(BATCH, &pad(4 * EVENT_BYTES_MAX - bare)).await.status, 202);
    assert_eq!(world.post(BATCH, &pad(4 * EVENT_BYTES_MAX - bare + 1)).await.status, 413);
    assert!(world.stop().await);
}

#[tokio::test]
async fn only_who_shows_the_token_may_publish() {
    let token = "0123456789abcdef";
    let world = world(IngestSettings { token: Some(Secret::new(token)), ..settings() }).await;
    let event = text(&event("1"));
    for header in [
        "",
        "authorization: 0123456789abcdef\r\n",
        "authorization: Basic 0123456789abcdef\r\n",
        "authorization: Bearer 0123456789abcde\r\n",
        "authorization: Bearer 0123456789abcdef0\r\n",
        "authorization: Bearer 1123456789abcdef\r\n",
        "authorization: Bearer\r\n",
    ] {
        let answer = world.post(&format!("{header}{STRUCTURED}"), &event).await;
        assert_eq!((answer.status, answer.code()), (401, "unauthorized"), "{header}");
        assert!(answer.head.contains("\nwww-authenticate: bearer"), "{}", answer.head);
    }
    // Without the token not even the names of topics are told.
    assert_eq!(world.send("POST", "/events/nowhere", STRUCTURED, &event).await.status, 401);
    assert!(world.records(TOPIC).await.is_empty());
    for scheme in ["Bearer", "bearer"] {
        let header = format!("authorization: {scheme} {token}\r\n{STRUCTURED}");
        assert_eq!(world.post(&header, &event).await.status, 202);
    }
    assert!(world.stop().await);
}

#[tokio::test]
async fn the_backlog_may_reach_its_bound_and_not_pass_it() {
    let world = world(IngestSettings { backlog_max: 5, ..settings() }).await;
    let batch = |first: usize, count: usize| {
        text(&Value::Array((first..first + count).map(|id| event(&id.to_string())).collect()))
    };
    assert_eq!(world.post(BATCH, &batch(0, 3)).await.status, 202);
    let answer = world.post(BATCH, &batch(3, 3)).await;
    assert_eq!((answer.status, answer.code()), (429, "backlog"), "three and three are over five");
    assert!(answer.head.contains("\nretry-after: "), "{}", answer.head);
    assert_eq!(world.post(BATCH, &batch(3, 2)).await.status, 202, "three and two are five");
    assert_eq!(world.post(STRUCTURED, &text(&event("9"))).await.status, 429);
    assert_eq!(world.records(TOPIC).await.len(), 5);

    // What is decided makes room, once it is measured again.
    for partition in 0..PARTITIONS {
        let at = TopicPartition::new(TOPIC, partition);
        let end = world.log.watermarks(&at).await.unwrap().high;
        world.decided.lock().insert(at, end);
    }
    let retried = async {
        while world.post(BATCH, &batch(10, 4)).await.status != 202 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, retried).await.unwrap();
    assert_eq!(world.records(TOPIC).await.len(), 9);
    assert_eq!(world.metric("ingest_backlog_events"), "0", "as measured before the last request");
    assert!(world.stop().await);
}

#[tokio::test]
async fn a_burst_measures_the_backlog_once() {
    let world = world(settings()).await;
    let begun = tokio::time::Instant::now();
    for id in 0..20 {
        assert_eq!(world.post(STRUCTURED, &text(&event(&id.to_string()))).await.status, 202);
    }
    let rounds = 1 + begun.elapsed().as_secs() as usize;
    let measured = world.log.measured.load(SeqCst);
    assert!(measured >= 2 && measured <= 2 * rounds, "{measured} look-ups of two topics in {rounds} s");
    assert!(world.stop().await);
}

#[tokio::test]
async fn what_the_log_does_is_told_by_status() {
    let world = world(settings()).await;
    let reason = || "so it was told".to_owned();
    for (failure, status, code) in [
        (LogError::Unavailable { doing: "appending", reason: reason() }, 503, "log_unavailable"),
        (LogError::UnknownTopic { topic: TOPIC.into() }, 503, "topic_missing"),
        (LogError::Full { reason: reason() }, 429, "log_full"),
        (LogError::Unauthorized { doing: "appending", reason: reason() }, 500, "log_failed"),
        (LogError::Unusable { reason: reason() }, 500, "log_failed"),
    ] {
        world.log.fail(Some(failure));
        let answer = world.post(STRUCTURED, &text(&event("1"))).await;
        assert_eq!((answer.status, answer.code()), (status, code));
        assert_eq!(answer.head.contains("\nretry-after: "), status != 500, "{}", answer.head);
        assert!(!answer.body.to_string().contains("so it was told"), "{}", answer.body);
    }
    assert!(world.records(TOPIC).await.is_empty());
    // Room that was kept for what failed is free again.
    assert_eq!(world.post(STRUCTURED, &text(&event("1"))).await.status, 202);
    assert!(world.stop().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_do_not_pass_the_bound_of_requests() {
    let world = world(settings()).await;
    world.log.open.send_replace(false);
    let mut senders = JoinSet::new();
    for id in 0..1000 {
        let stream = world.connect("POST", "/events", STRUCTURED, &text(&event(&id.to_string()))).await;
        senders.spawn(async move { answer(stream).await.status });
    }
    until("as many append as may", || world.log.appending.load(SeqCst) == 4).await;
    world.log.open.send_replace(true);
    let answers = timeout(DEADLINE, senders.join_all()).await.unwrap();
    assert!(answers.iter().all(|status| *status == 202));
    assert_eq!(world.log.appending_most.load(SeqCst), 4);
    assert_eq!(world.records(TOPIC).await.len(), 1000);
    assert!(world.stop().await);
}

#[tokio::test]
async fn who_gets_no_turn_in_time_is_told_to_come_back() {
    let slow = IngestSettings { requests_max: 1, read_timeout: Duration::from_millis(300), ..settings() };
    let world = world(slow).await;
    world.log.open.send_replace(false);
    let first = world.connect("POST", "/events", STRUCTURED, &text(&event("1"))).await;
    until("the first appends", || world.log.appending.load(SeqCst) == 1).await;
    let second = world.post(STRUCTURED, &text(&event("2"))).await;
    assert_eq!((second.status, second.code()), (503, "busy"));
    assert!(second.head.contains("\nretry-after: "), "{}", second.head);
    world.log.open.send_replace(true);
    assert_eq!(answer(first).await.status, 202);
    assert!(world.stop().await);
}

#[tokio::test]
async fn a_sender_that_is_too_slow_is_let_go() {
    let world = world(IngestSettings { read_timeout: Duration::from_millis(200), ..settings() }).await;
    // In the middle of its headers: closed without an answer, or with 408.
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    stream.write_all(b"POST /events HTTP/1.1\r\nhost: ").await.unwrap();
    let mut rest = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert!(rest.is_empty() || rest.contains(" 408 "), "{rest}");
    // In the middle of its body.
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let head = format!("POST /events HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n{STRUCTURED}\r\n{{");
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = answer(stream).await;
    assert_eq!((answer.status, answer.code()), (408, "timed_out"));
    assert!(world.stop().await);
}

#[tokio::test]
async fn a_shutdown_answers_the_request_under_way_and_takes_no_other() {
    let world = world(settings()).await;
    world.log.open.send_replace(false);
    let under_way = world.connect("POST", "/events", STRUCTURED, &text(&event("1"))).await;
    let idle = TcpStream::connect(world.address).await.unwrap();
    until("it appends", || world.log.appending.load(SeqCst) == 1).await;
    let World { stop, running, log, address, .. } = world;
    drop(stop);
    // Refused from the moment that the listener is gone.
    let refused = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(DEADLINE, refused).await.unwrap();
    assert!(!running.is_finished(), "a request is under way");
    log.open.send_replace(true);
    assert_eq!(answer(under_way).await.status, 202);
    assert!(timeout(DEADLINE, running).await.unwrap().unwrap(), "nothing was cut off");
    drop(idle);
}

/// What the HTTP binding tells senders to encode (section 3.1.3.2).
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

fn now() -> Timestamp {
    "2026-03-02T12:00:00Z".parse().unwrap()
}

fn read(record: NewRecord) -> Result<Change, change::Fault> {
    let NewRecord { to, key, value, headers } = record;
    change::read(&Record { at: to, offset: 7, timestamp: now(), key, value, headers }, &rules(), now())
}

/// Through the binding and the judge, as the one event of a request.
fn through(mode: Mode, headers: &HeaderMap, body: Vec<u8>) -> Change {
    let mut messages = binding::messages(mode, headers, body.into(), 4).unwrap();
    let record = intake::judge(messages.remove(0), &TOPIC.into(), PARTITIONS, &rules(), now()).unwrap().record;
    read(record).unwrap()
}

proptest! {
    #[test]
    fn an_event_over_http_is_the_change_that_it_is_over_kafka(
        id in "\\PC{1,40}",
        subject in "\\PC{1,40}",
        sequence in "\\PC{1,20}",
        given in "\\PC{0,20}",
        source in "/[a-z]{1,5}%20[a-z]{0,5}",
    ) {
        let attributes = [
            ("specversion", "1.0"), ("id", &id), ("source", &source), ("type", "contact.updated"), ("subject", &subject),
            ("sequence", &sequence), ("time", "2026-03-02T11:00:00Z"),
        ];
        let data = text(&json!({"name": {"givenName": given}}));
        let mut kafka: Vec<Header> = attributes
            .iter()
            .map(|(name, value)| Header::new(format!("ce_{name}"), Bytes::copy_from_slice(value.as_bytes())))
            .collect();
        kafka.push(Header::new("content-type", "application/json"));
        let key = Bytes::copy_from_slice(subject.as_bytes());
        let to = TopicPartition::new(TOPIC, partition_of(&key, PARTITIONS));
        let direct = read(NewRecord { to, key: Some(key), value: Some(data.clone().into()), headers: kafka });
        prop_assume!(direct.is_ok());
        let direct = direct.unwrap();

        let mut http = HeaderMap::new();
        for (name, value) in attributes {
            let name: http::HeaderName = format!("ce-{name}").parse().unwrap();
            http.insert(name, utf8_percent_encode(value, ENCODED).to_string().parse().unwrap());
        }
        http.insert("content-type", "application/json".parse().unwrap());
        prop_assert_eq!(&through(Mode::Binary, &http, data.clone()), &direct);

        let mut whole = serde_json::Map::from_iter(attributes.map(|(name, value)| (name.to_owned(), json!(value))));
        whole.insert("data".to_owned(), serde_json::from_slice(&data).unwrap());
        let mut http = HeaderMap::new();
        http.insert("content-type", "application/cloudevents+json".parse().unwrap());
        prop_assert_eq!(&through(Mode::Structured, &http, text(&json!(whole))), &direct);
        http.insert("content-type", "application/cloudevents-batch+json".parse().unwrap());
        prop_assert_eq!(&through(Mode::Batch, &http, text(&json!([whole]))), &direct);
    }
}
