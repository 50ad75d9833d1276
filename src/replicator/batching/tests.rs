use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use http::{HeaderMap, Method, StatusCode};

use super::*;
use crate::{
    crm::{
        Answer, FailureClass, RequestKind, Response, TransportError,
        session::{CredentialNumber, RenewalError, Session},
        transport::Transport,
    },
    log::{AssignmentNumber, Generation, LogError, MemberHandle, Offset, Partition},
    metrics::Metrics,
    protection::Protections,
    replicator::{
        concurrency::Concurrency, gate::Gate, lane::End, limits::Rate, retry::Schedule, way::OWNERSHIP_PAUSE,
    },
    telemetry::traces::{Place, Traces},
};

const AGE: Duration = Duration::from_millis(200);
const ROWS: usize = 100;
const BYTES: usize = 10_000;
/// How long the CRM takes for a call.
const TAKES: Duration = Duration::from_millis(50);

/// Rows are words, a call is words with blanks between, and so is an answer, in another order.
#[derive(Debug)]
struct Words;

impl Batching for Words {
    fn limits(&self) -> BatchLimits {
        BatchLimits { rows_max: ROWS, bytes_max: BYTES, age_max: AGE }
    }

    fn row_key(&self, request: &Request) -> Option<String> {
        let word = words(&request.body).remove(0);
        (!word.starts_with('!')).then_some(word)
    }

    fn join(&self, rows: &[&Request]) -> Request {
        let words: Vec<String> = rows.iter().flat_map(|row| words(&row.body)).collect();
        Request { body: words.join(" ").into(), ..rows[0].clone() }
    }

    fn split(&self, answer: &Answer, keys: &[&str]) -> Split {
        match answer {
            Ok(response) if response.status == StatusCode::BAD_REQUEST => Split::Halve,
            Ok(response) if response.status == StatusCode::OK => {
                let told: BTreeSet<String> = words(&response.body).into_iter().collect();
                let of = |key: &&str| if told.contains(*key) { Ok(said(200, key)) } else { Ok(said(200, "")) };
                Split::Rows(keys.iter().map(of).collect())
            }
            _ => Split::Rows(vec![answer.clone(); keys.len()]),
        }
    }
}

fn words(body: &[u8]) -> Vec<String> {
    std::str::from_utf8(body).unwrap().split(' ').map(str::to_owned).collect()
}

fn said(status: u16, body: &str) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    Response { status, headers: HeaderMap::new(), body: Bytes::from(body.to_owned()) }
}

/// Answers after [`TAKES`]; refuses a whole call with a `poison` in it, and does not tell of what is `unsaid`.
#[derive(Debug, Default)]
struct Crm {
    calls: Mutex<Vec<(Instant, Vec<String>)>>,
    is_lost: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl Transport for Crm {
    async fn exchange(&self, request: Request) -> Answer {
        let mut words = words(&request.body);
        self.calls.lock().push((Instant::now(), words.clone()));
        tokio::time::sleep(TAKES).await;
        if self.is_lost.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(TransportError::Unanswered { reason: "lost".to_owned() });
        }
        if words.iter().any(|word| word.starts_with("poison")) {
            return Ok(said(400, ""));
        }
        words.retain(|word| word != "unsaid");
        words.reverse();
        Ok(said(200, &words.join(" ")))
    }
}

#[derive(Debug)]
struct Anybody;

#[async_trait]
impl Session for Anybody {
    fn authorize(&self, _request: &mut Request) -> CredentialNumber {
        CredentialNumber(7)
    }

    async fn renew(&self, _refused: CredentialNumber, _transport: &dyn Transport) -> Result<bool, RenewalError> {
        Ok(false)
    }
}

/// A member that owns some partitions.
#[derive(Debug, Default)]
struct Owner(Mutex<BTreeMap<Partition, AssignmentNumber>>);

#[async_trait]
impl MemberHandle for Owner {
    fn group(&self) -> &str {
        "group"
    }
    fn start(&self, _partition: Partition, _offset: Offset) {}
    fn pause(&self, _partition: Partition) {}
    fn resume(&self, _partition: Partition) {}
    fn is_member(&self) -> bool {
        true
    }
    fn owned(&self) -> BTreeMap<Partition, AssignmentNumber> {
        self.0.lock().clone()
    }
    fn confirmed_age(&self) -> Duration {
        Duration::ZERO
    }
    fn session_timeout(&self) -> Duration {
        Duration::from_secs(1)
    }
    async fn prove(&self, _partition: Partition) -> Result<bool, LogError> {
        unreachable!("a call proves nothing")
    }
    fn generation(&self) -> Generation {
        unreachable!("a call commits nothing")
    }
    fn confirmed(&self) {}
}

struct Setup {
    collector: Arc<Collector>,
    crm: Arc<Crm>,
    way: Arc<Way>,
    owner: Arc<Owner>,
    began: Instant,
}

fn setup(per_second: f64) -> Setup {
    let crm: Arc<Crm> = Arc::default();
    let probes = Schedule { first: Duration::from_secs(1), max: Duration::from_secs(1) };
    let way = Arc::new(Way {
        crm: "words".into(),
        session: Arc::new(Anybody),
        transport: crm.clone(),
        metrics: Metrics::noop(),
        traces: Traces::default(),
        gate: Mutex::new(Gate::new(1, probes)),
        rate: Arc::new(Rate::new(per_second)),
        concurrency: Mutex::new(Concurrency::new(1, 4, Instant::now())),
        rows_per_call: ROWS,
        in_flight_max: 350,
        protections: Protections::default(),
    });
    way.rate.share(1, 1);
    let owner: Arc<Owner> = Arc::default();
    owner.0.lock().extend([(0, 1), (1, 1)]);
    let collector = Arc::new(Collector::new(Arc::new(Words), way.clone()));
    Setup { collector, crm, way, owner, began: Instant::now() }
}

fn request(word: &str) -> Request {
    Request {
        method: Method::POST,
        path: "/words".to_owned(),
        headers: Vec::new(),
        body: Bytes::from(word.to_owned()),
        kind: RequestKind::Set,
    }
}

impl Setup {
    fn passenger(&self, partition: Partition) -> Passenger {
        Passenger { member: self.owner.clone(), partition, assignment: 1, probe: false, place: Place::default() }
    }

    /// Sends a word, of a contact in this partition.
    fn send(&self, word: &str, partition: Partition) -> tokio::task::JoinHandle<Sent> {
        let (collector, passenger) = (self.collector.clone(), self.passenger(partition));
        let request = request(word);
        let key = collector.row_key(&request).unwrap();
        tokio::spawn(async move { collector.send(request, key, passenger).await })
    }

    async fn all(&self, words: impl IntoIterator<Item = String>) -> Vec<Sent> {
        let sent: Vec<_> = words.into_iter().map(|word| self.send(&word, 0)).collect();
        join_all(sent).await.into_iter().map(Result::unwrap).collect()
    }

    /// When each call arrived, and how many rows it had.
    fn calls(&self) -> Vec<(Duration, usize)> {
        self.crm.calls.lock().iter().map(|(at, words)| (*at - self.began, words.len())).collect()
    }
}

fn body(sent: &Sent) -> String {
    match sent {
        Sent::Left { answer: Ok(response), .. } => String::from_utf8(response.body.to_vec()).unwrap(),
        other => panic!("answered, not {other:?}"),
    }
}

fn status(sent: &Sent) -> u16 {
    match sent {
        Sent::Left { answer: Ok(response), .. } => response.status.as_u16(),
        other => panic!("answered, not {other:?}"),
    }
}

fn numbered(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("w{number}"))
}

#[tokio::test(start_paused = true)]
async fn a_full_call_leaves_at_once_and_what_is_left_over_in_its_time() {
    let setup = setup(0.0);
    let sent = setup.all(numbered(2 * ROWS + 7)).await;
    for (word, sent) in numbered(2 * ROWS + 7).zip(&sent) {
        assert_eq!(body(sent), word, "each has the answer that names it");
    }
    assert_eq!(setup.calls(), [(Duration::ZERO, ROWS), (Duration::ZERO, ROWS), (AGE, 7)]);
}

#[tokio::test(start_paused = true)]
async fn a_call_leaves_before_it_has_too_many_bytes() {
    let setup = setup(0.0);
    // Three of them are more than a call may have; and whoever is too large by itself travels so.
    let long = |number: usize| format!("{number}").repeat(BYTES / 2 - 1);
    setup.all((1..=5).map(long)).await;
    assert_eq!(setup.calls().iter().map(|(_, rows)| *rows).collect::<Vec<_>>(), [2, 2, 1]);
    assert_eq!(setup.collector.row_key(&request(&"x".repeat(BYTES))), Some("x".repeat(BYTES)));
    assert_eq!(setup.collector.row_key(&request(&"x".repeat(BYTES + 1))), None);
    assert_eq!(setup.collector.row_key(&request("!alone")), None);
}

#[tokio::test(start_paused = true)]
async fn only_requests_that_are_alike_share_a_call() {
    let setup = setup(0.0);
    let mut others = [request("b"), request("c")];
    others[0].path = "/others".to_owned();
    others[1].kind = RequestKind::Create;
    let first = setup.send("a", 0);
    let sent = others.map(|other| {
        let key = setup.collector.row_key(&other).unwrap();
        let (collector, passenger) = (setup.collector.clone(), setup.passenger(0));
        tokio::spawn(async move { collector.send(other, key, passenger).await })
    });
    first.await.unwrap();
    join_all(sent).await;
    assert_eq!(setup.calls(), [(AGE, 1); 3]);
}

#[tokio::test(start_paused = true)]
async fn what_the_answer_does_not_name_is_told_so() {
    let setup = setup(0.0);
    let sent = setup.all(["a", "unsaid", "b"].map(str::to_owned)).await;
    assert_eq!(sent.iter().map(body).collect::<Vec<_>>(), ["a", "", "b"]);
}

#[tokio::test(start_paused = true)]
async fn one_culprit_among_a_hundred_costs_fourteen_calls_wherever_it_stands() {
    for place in [0, 1, 37, 50, 99] {
        let setup = setup(0.0);
        let word = |(number, word): (usize, String)| if number == place { "poison".to_owned() } else { word };
        let sent = setup.all(numbered(ROWS).enumerate().map(word)).await;
        for (number, sent) in sent.iter().enumerate() {
            assert_eq!(status(sent), if number == place { 400 } else { 200 }, "row {number}");
        }
        let extra = setup.calls().len() - 1;
        assert!((12..=14).contains(&extra), "{extra} more calls for the culprit at {place}");
        let left = |sent: &Sent| matches!(sent, Sent::Left { sent_at, .. } if *sent_at > setup.began);
        assert!(left(&sent[place]), "it left when its last call did");
    }
}

#[tokio::test(start_paused = true)]
async fn several_culprits_are_each_found() {
    let setup = setup(0.0);
    let sent = setup.all(["a", "poison1", "b", "poison2", "poison3"].map(str::to_owned)).await;
    assert_eq!(sent.iter().map(status).collect::<Vec<_>>(), [200, 400, 200, 400, 400]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_lost_to_all_and_nothing_is_halved() {
    let setup = setup(0.0);
    setup.crm.is_lost.store(true, std::sync::atomic::Ordering::Relaxed);
    let sent = setup.all(numbered(ROWS)).await;
    for sent in sent {
        let Sent::Left { answer: Err(TransportError::Unanswered { .. }), sent_at, credential, .. } = sent else {
            panic!("unanswered, not {sent:?}")
        };
        assert_eq!((sent_at, credential), (setup.began, CredentialNumber(7)));
    }
    assert_eq!(setup.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_lost_the_partition_while_a_call_gathered_stays_behind() {
    let setup = setup(0.0);
    let (ours, lost) = (setup.send("a", 0), setup.send("b", 1));
    tokio::time::sleep(AGE / 2).await;
    setup.owner.0.lock().insert(1, 2);
    let Sent::Kept(End::MustWait { until }) = lost.await.unwrap() else { panic!("kept back") };
    assert_eq!(until, setup.began + AGE + OWNERSHIP_PAUSE);
    assert_eq!(body(&ours.await.unwrap()), "a");
    assert_eq!(setup.calls(), [(AGE, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_closes_while_a_call_gathers_keeps_all_back() {
    let setup = setup(0.0);
    let (first, second) = (setup.send("a", 0), setup.send("b", 0));
    tokio::time::sleep(AGE / 2).await;
    setup.way.gate.lock().failed(FailureClass::Transient, Duration::ZERO, false, Instant::now());
    for sent in [first, second] {
        assert!(matches!(sent.await.unwrap(), Sent::Kept(End::Withdrawn)));
    }
    assert_eq!(setup.calls(), []);
}

#[tokio::test(start_paused = true)]
async fn who_gave_up_does_not_leave() {
    let setup = setup(0.0);
    let (stays, goes) = (setup.send("a", 0), setup.send("b", 0));
    tokio::time::sleep(AGE / 2).await;
    goes.abort();
    assert!(goes.await.unwrap_err().is_cancelled());
    // The contact may come again before the call leaves.
    let again = setup.send("b", 0);
    assert_eq!((body(&stays.await.unwrap()), body(&again.await.unwrap())), ("a".to_owned(), "b".to_owned()));
    let setup = self::setup(0.0);
    let alone = setup.send("a", 0);
    tokio::time::sleep(AGE / 2).await;
    alone.abort();
    tokio::time::sleep(2 * AGE).await;
    assert_eq!(setup.calls(), [], "a call of nobody does not leave");
}

#[tokio::test(start_paused = true)]
async fn the_rate_counts_calls_and_who_may_come_is_settled_after_it() {
    let setup = setup(1.0);
    let full: Vec<_> = numbered(2 * ROWS).map(|word| setup.send(&word, 0)).collect();
    let late = setup.send("late", 1);
    tokio::time::sleep(AGE + Duration::from_millis(100)).await;
    assert_eq!(setup.calls(), [(Duration::ZERO, ROWS)], "one call a second, however many rows it has");
    setup.owner.0.lock().remove(&1);
    assert!(matches!(late.await.unwrap(), Sent::Kept(End::MustWait { .. })), "its turn came too late");
    join_all(full).await;
    let (at, rows) = setup.calls()[1];
    assert_eq!(rows, ROWS);
    assert!(at >= Duration::from_millis(999), "{at:?}");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_collector_gives_up_what_it_has_under_way() {
    let Setup { collector, crm, way, owner, .. } = setup(0.0);
    let passenger = Passenger { member: owner, partition: 0, assignment: 1, probe: false, place: Place::default() };
    let sent = collector.send(request("a"), "a".to_owned(), passenger);
    assert!(tokio::time::timeout(AGE / 2, sent).await.is_err());
    drop(collector);
    tokio::time::sleep(2 * AGE).await;
    assert!(crm.calls.lock().is_empty());
    assert_eq!(Arc::strong_count(&way), 1, "nothing holds on to the way");
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "at most one request of a contact is under way")]
async fn no_contact_is_twice_in_a_call() {
    let setup = setup(0.0);
    let _first = setup.send("a", 0);
    tokio::task::yield_now().await;
    let key = "a".to_owned();
    setup.collector.send(request("a"), key, setup.passenger(0)).await;
}

#[tokio::test(start_paused = true)]
async fn as_many_contacts_are_under_way_as_fill_the_calls_that_may_be() {
    let setup = setup(0.0);
    assert_eq!(setup.way.contacts_max(), 350, "four calls would have room for more than is allowed");
    setup.way.concurrency.lock().exchanged(TAKES, true, Instant::now());
    for _ in 0..8 {
        setup.way.concurrency.lock().exchanged(TAKES, true, Instant::now());
    }
    assert_eq!(setup.way.contacts_max(), ROWS, "never less than one full call");
}
