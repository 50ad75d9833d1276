//! Traces, as a collector gets them: what happened to one change is one tree, from the request that brought it to each request
//! to a CRM and each outcome. A real collector over HTTP and so real time; where nothing is exported, simulated time.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Bytes, routing::post};
use contact_replicator::{
    cli::demo::evidence::Reader,
    config::{CrmKind, TopicNames},
    event::{OutcomeKind, traceparent::TraceParent},
    log::Header,
};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind},
};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use crate::{
    scene::{Scene, change, play},
    world::{Break, INPUT, Moment, Setup, Tenant, World},
};

const DEADLINE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
const SENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const THREE: &[Tenant] = &[
    Tenant { name: "priava", kind: CrmKind::Priava },
    Tenant { name: "previsto", kind: CrmKind::Previsto },
    Tenant { name: "sam", kind: CrmKind::NextinteractSam },
];

/// A collector, and what it took.
struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    async fn start() -> Self {
        let spans: Arc<Mutex<Vec<Span>>> = Arc::default();
        let taken = Arc::clone(&spans);
        let take = move |body: Bytes| async move {
            let request = ExportTraceServiceRequest::decode(body).expect("OTLP");
            let scopes = request.resource_spans.into_iter().flat_map(|of| of.scope_spans);
            taken.lock().extend(scopes.flat_map(|of| of.spans));
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let router = Router::new().route("/v1/traces", post(take));
        drop(tokio::spawn(async move { axum::serve(listener, router).await }));
        Self { address, spans }
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().clone()
    }
}

fn text(span: &Span, key: &str) -> Option<String> {
    let found = span.attributes.iter().find(|pair| pair.key == key)?;
    match found.value.clone()?.value? {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    let mut found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    found.sort_by_key(|span| span.start_time_unix_nano);
    found
}

fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found = named(spans, name);
    assert_eq!(found.len(), 1, "{name} among {:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>());
    found[0]
}

/// Free a moment ago; nobody else is asked for it meanwhile.
async fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    listener.local_addr().expect("it is bound")
}

/// A world whose worker takes events over HTTP, and the address.
async fn world(crms: &'static [Tenant], collector: SocketAddr) -> (World, SocketAddr) {
    let mut world = World::of(Setup { crms, ..Setup::default() }).await;
    let address = free_address().await;
    world.settings.ingest.listen = address.to_string();
    let traces = &mut world.settings.telemetry.traces;
    traces.endpoint = format!("http://{collector}/v1/traces");
    traces.batch_age_max = Duration::from_millis(10);
    traces.timeout = Duration::from_secs(1);
    (world, address)
}

fn event(subject: &str) -> String {
    format!(
        "{{\"specversion\":\"1.0\",\"id\":\"id-{subject}\",\"source\":\"/shop\",\"type\":\"contact.created\",\"subject\":\"{subject}\",\
         \"data\":{{\"name\":{{\"givenName\":\"Canary\",\"familyName\":\"F{subject}\"}},\
         \"emails\":[{{\"value\":\"canary.{subject}@example.com\",\"type\":\"work\",\"primary\":true}}],\
         \"phoneNumbers\":[{{\"value\":\"+41446681800\",\"type\":\"mobile\"}}]}}}}"
    )
}

/// Posts until it is taken: the worker has yet to look at its log and listen.
async fn publish(address: SocketAddr, kind: &str, headers: &str, body: &str) {
    let request = format!(
        "POST /events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: {kind}\r\n{headers}\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    until("the events are taken", async || {
        let Ok(mut stream) = TcpStream::connect(address).await else { return false };
        stream.write_all(request.as_bytes()).await.expect("it listens");
        let mut answer = String::new();
        // A worker that is not there yet resets.
        let read = stream.read_to_string(&mut answer).await;
        read.is_ok() && answer.starts_with("HTTP/1.1 202 ")
    })
    .await;
}

const EVENT: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            sleep(LOOK).await;
        }
    };
    assert!(timeout(DEADLINE, waiting).await.is_ok(), "{what}");
}

async fn until_held(world: &World, contacts: usize) {
    until("the contacts are in each CRM", async || {
        world.crms.iter().all(|crm| crm.sandbox.contacts().len() == contacts)
    })
    .await;
}

async fn reader(world: &World) -> Reader {
    let reader = Reader::open(&world.log, &[INPUT.into()], &TopicNames::new("")).await;
    let mut reader = reader.expect("the topics are there");
    reader.catch_up(&world.log, DEADLINE).await.expect("the log can be read");
    reader
}

#[tokio::test]
async fn one_change_is_one_tree_from_the_request_that_brought_it_to_each_crm_and_outcome() {
    let collector = Collector::start().await;
    let (mut world, address) = world(THREE, collector.address).await;
    for crm in &mut world.settings.crm {
        crm.delivery.retry_delay = Duration::from_millis(10);
    }
    let failed = Mutex::new(false);
    world.fate.follow(move |moment| {
        let fails =
            matches!(moment, Moment::Leaving { crm: "priava" }) && !std::mem::replace(&mut *failed.lock(), true);
        fails.then_some(Break::Status(503))
    });
    world.start(0);
    publish(address, EVENT, &format!("traceparent: {SENT}\r\n"), &event("s1")).await;
    until_held(&world, 1).await;
    assert!(world.stop(0).await, "nothing is left undone");
    let (spans, evidence) = (collector.spans(), reader(&world).await.evidence().clone());

    let sender = TraceParent::parse(SENT).unwrap();
    assert!(spans.iter().all(|span| span.trace_id == sender.trace.to_be_bytes()), "one tree");
    let ids: BTreeSet<_> = spans.iter().map(|span| span.span_id.clone()).collect();
    assert_eq!(ids.len(), spans.len());
    let request = one(&spans, "POST /events");
    assert_eq!((request.parent_span_id.as_slice(), request.kind()), (&sender.span.to_be_bytes()[..], SpanKind::Server));
    assert_eq!(text(request, "http.response.status_code").as_deref(), Some("202"));
    let sent = one(&spans, "send contact-changes");
    assert_eq!((&sent.parent_span_id, sent.kind()), (&request.span_id, SpanKind::Producer));
    let processed = one(&spans, "process contact-changes");
    assert_eq!((&processed.parent_span_id, processed.kind()), (&sent.span_id, SpanKind::Consumer));
    assert_eq!(text(processed, "cloudevents.event_id").as_deref(), Some("id-s1"));
    let contact = evidence.entries[0].contact_id.to_string();
    assert_eq!(text(processed, "contact_replicator.contact.id"), Some(contact.clone()));
    let handed_on = TraceParent::parse(evidence.entries[0].traceparent.as_ref().unwrap()).unwrap();
    assert_eq!(handed_on.span.to_be_bytes(), processed.span_id.as_slice(), "the entry names the resolver's span");

    for crm in ["priava", "previsto", "sam"] {
        let attempts = named(&spans, &format!("deliver {crm}"));
        for attempt in &attempts {
            assert_eq!((&attempt.parent_span_id, attempt.kind()), (&processed.span_id, SpanKind::Consumer));
            assert_eq!(text(attempt, "contact_replicator.contact.id"), Some(contact.clone()));
            assert_eq!(text(attempt, "messaging.destination.name").as_deref(), Some("contact-versions"));
            assert!(attempt.start_time_unix_nano >= processed.start_time_unix_nano);
        }
        let last = attempts.last().unwrap();
        assert_eq!(text(last, "contact_replicator.outcome").as_deref(), Some("delivered"), "{crm}");
        assert_eq!(text(last, "contact_replicator.operation").as_deref(), Some("create"), "{crm}");
        let outcome = evidence.outcomes.iter().find(|outcome| &*outcome.crm == crm).unwrap();
        let outcome = TraceParent::parse(outcome.traceparent.as_ref().unwrap()).unwrap();
        assert_eq!(outcome.span.to_be_bytes(), last.span_id.as_slice(), "the outcome names the attempt");

        let is_its =
            |span: &&Span| span.kind() == SpanKind::Client && text(span, "peer.service").as_deref() == Some(crm);
        let calls: Vec<_> = spans.iter().filter(is_its).collect();
        assert!(calls.iter().any(|call| call.parent_span_id == last.span_id), "{crm}");
        for call in &calls {
            assert!(attempts.iter().any(|attempt| attempt.span_id == call.parent_span_id), "{crm}: {call:?}");
            assert!(text(call, "url.path").is_some_and(|path| path.starts_with('/') && !path.contains('?')));
            assert!(call.name == format!("{} {crm}", text(call, "http.request.method").unwrap()));
        }
        // What each request told the CRM is the span of that request.
        let told = world.fate.traceparents.lock().clone();
        let told = told.into_iter().filter(|(of, _)| *of == crm);
        let told: BTreeSet<_> = told.map(|(_, text)| TraceParent::parse(&text.unwrap()).unwrap().span).collect();
        let called: BTreeSet<_> =
            calls.iter().map(|call| u64::from_be_bytes(call.span_id.clone().try_into().unwrap())).collect();
        assert_eq!(told, called, "{crm}");
    }

    let attempts = named(&spans, "deliver priava");
    let told: Vec<_> = attempts
        .iter()
        .map(|attempt| {
            let of = |key: &str| text(attempt, &format!("contact_replicator.{key}")).unwrap();
            (of("attempt"), of("outcome"), attempt.status.is_some())
        })
        .collect();
    let expected = [("1", "transient", true), ("2", "delivered", false)];
    assert_eq!(told, expected.map(|(number, outcome, failed)| (number.to_owned(), outcome.to_owned(), failed)));
    let failed = spans.iter().find(|span| span.parent_span_id == attempts[0].span_id).unwrap();
    assert_eq!(text(failed, "http.response.status_code").as_deref(), Some("503"));
    assert_eq!(text(failed, "error.type").as_deref(), Some("503"));

    let all = format!("{spans:?}");
    for value in ["Canary", "canary", "Fs1", "example.com", "446681800", "sandbox-token"] {
        assert!(!all.contains(value), "{value} is in {all}");
    }
    assert_eq!(world.metric(0, "spans_exported_total"), spans.len() as f64);
}

#[tokio::test]
async fn a_call_that_contacts_share_is_linked_to_the_attempt_of_each() {
    let collector = Collector::start().await;
    let (mut world, address) = world(&THREE[2..], collector.address).await;
    world.start(0);
    let events = format!("[{},{},{}]", event("s1"), event("s2"), event("s3"));
    // What is no traceparent is ignored.
    publish(address, BATCH, "traceparent: 00-nonsense-01\r\n", &events).await;
    until_held(&world, 3).await;
    assert!(world.stop(0).await, "nothing is left undone");
    let spans = collector.spans();
    let request = one(&spans, "POST /events");
    assert!(request.parent_span_id.is_empty(), "a trace begins here");
    assert!(spans.iter().all(|span| span.trace_id == request.trace_id));
    assert_eq!(named(&spans, "send contact-changes").len(), 3);
    let attempts = named(&spans, "deliver sam");
    assert_eq!(attempts.len(), 3);
    let shared = spans.iter().find(|span| span.kind() == SpanKind::Client && span.links.len() == 3).expect("one call");
    assert_eq!(text(shared, "contact_replicator.contacts").as_deref(), Some("3"));
    let linked: BTreeSet<_> = shared.links.iter().map(|link| link.span_id.clone()).collect();
    assert_eq!(linked, attempts.iter().map(|attempt| attempt.span_id.clone()).collect());
    assert!(linked.contains(&shared.parent_span_id));
    for attempt in attempts {
        assert_eq!(attempt.links[0].span_id, shared.span_id, "each attempt leads to the call");
    }
}

#[tokio::test]
async fn a_collector_that_hangs_keeps_no_delivery_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (mut world, address) = world(&THREE[..1], listener.local_addr().unwrap()).await;
    world.settings.telemetry.traces.batch_spans_max = 1;
    world.settings.telemetry.traces.queue_spans_max = 1;
    world.start(0);
    for number in 1..=5 {
        publish(address, EVENT, "", &event(&format!("s{number}"))).await;
    }
    until_held(&world, 5).await;
    let stopping = Duration::from_secs(10);
    assert!(timeout(stopping, world.stop(0)).await.expect("the end is not kept waiting either"));
    assert!(world.metric(0, "spans_lost_total{reason=\"queue_full\"}") > 0.0);
    assert!(world.metric(0, "spans_lost_total{reason=\"shutdown\"}") > 0.0);
    assert_eq!(world.metric(0, "spans_exported_total"), 0.0);
}

#[test]
fn without_export_what_an_event_says_of_its_trace_reaches_the_crm_and_the_outcome_as_it_is() {
    play(async {
        let mut scene = Scene::with_workers(1).await;
        let mut said = change("s1", 1, "Ann");
        said.headers.push(Header::new("ce_traceparent", SENT));
        // As an instrumented producer does; an event of its own trace is not moved by it.
        let mut carried = change("s2", 1, "Ben");
        carried.headers.push(Header::new("traceparent", SENT));
        let mut bad = change("s3", 1, "Cleo");
        bad.headers.push(Header::new("ce_traceparent", SENT.to_uppercase()));
        scene.world.publish(vec![said, carried, bad]).await;
        let evidence = scene.settled_as_promised(0).await;
        let told = |subject: &str| {
            let is_its = |outcome: &&contact_replicator::event::Outcome| {
                let event = outcome.event.as_ref().expect("all are of events");
                event.subject.as_deref() == Some(subject) && outcome.outcome == OutcomeKind::Delivered
            };
            evidence.outcomes.iter().find(is_its).expect("it was delivered").traceparent.clone()
        };
        assert_eq!((told("s1").as_deref(), told("s2").as_deref(), told("s3")), (Some(SENT), Some(SENT), None));
        let left: Vec<_> = scene.world.fate.traceparents.lock().iter().map(|(_, text)| text.clone()).collect();
        assert_eq!(left.iter().filter(|text| text.as_deref() == Some(SENT)).count(), 2);
        assert_eq!(left.iter().filter(|text| text.is_none()).count(), left.len() - 2);
        scene.world.stop(0).await;
    });
}
