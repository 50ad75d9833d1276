use std::{collections::VecDeque, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::StatusCode;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use parking_lot::Mutex;
use prost::Message as _;

use super::*;
use crate::{
    config::Settings,
    crm::{Answer, Request, Response, TransportError, transport::Transport},
    event::OutcomeKind,
    metrics::{Registry, render},
};

const SENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const KEPT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// Answers as it is told, first to last, and with 200 from then on.
#[derive(Debug, Default)]
struct Told {
    answers: Mutex<VecDeque<Answered>>,
    requests: Mutex<Vec<Request>>,
}

#[derive(Debug, Clone, Copy)]
enum Answered {
    Status(u16),
    Rejecting(i64),
    Nothing,
    Never,
}

#[async_trait]
impl Transport for Told {
    async fn exchange(&self, request: Request) -> Answer {
        self.requests.lock().push(request);
        let answered = self.answers.lock().pop_front().unwrap_or(Answered::Status(200));
        let (status, body) = match answered {
            Answered::Status(status) => (status, Bytes::new()),
            Answered::Rejecting(rejected_spans) => {
                let partial = ExportTracePartialSuccess { rejected_spans, ..ExportTracePartialSuccess::default() };
                (200, ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec().into())
            }
            Answered::Nothing => return Err(TransportError::Unanswered { reason: "nobody there".to_owned() }),
            Answered::Never => std::future::pending().await,
        };
        Ok(Response { status: StatusCode::from_u16(status).unwrap(), headers: http::HeaderMap::new(), body })
    }
}

struct Setup {
    traces: Traces,
    told: Arc<Told>,
    registry: Registry,
}

fn setup(answers: &[Answered], change: impl FnOnce(&mut TracesSettings)) -> Setup {
    let mut settings = Settings::reference().telemetry.traces;
    settings.resource.insert("deployment.environment.name".to_owned(), "tests".to_owned());
    change(&mut settings);
    let told = Arc::new(Told { answers: Mutex::new(answers.iter().copied().collect()), ..Told::default() });
    let registry = Registry::new();
    let metrics = Metrics::new(&registry, &[]).unwrap();
    let collector = Collector { transport: told.clone(), path: "/v1/traces".to_owned() };
    let teller = Teller { instance: "sim", worker: "w1" };
    let clock = Clock::simulated("2026-01-01T00:00:00Z".parse().unwrap());
    Setup { traces: Traces::start(&settings, collector, &teller, clock, &metrics), told, registry }
}

impl Setup {
    /// Tells spans, as many as are recorded.
    fn tell(&self, count: usize) {
        for _ in 0..count {
            let sent: Arc<str> = SENT.into();
            self.traces.answered(&Place::default(), Some(&sent), "priava", OutcomeKind::Superseded);
        }
    }

    fn sent(&self) -> Vec<ExportTraceServiceRequest> {
        let requests = self.told.requests.lock();
        requests.iter().map(|request| ExportTraceServiceRequest::decode(request.body.clone()).unwrap()).collect()
    }

    fn spans(&self) -> Vec<usize> {
        self.sent().iter().map(|request| request.resource_spans[0].scope_spans[0].spans.len()).collect()
    }

    /// Exported, and lost by reason.
    fn counted(&self) -> (u64, [u64; 3]) {
        let text = render(&self.registry).unwrap();
        let value = |series: &str| -> u64 {
            let start = format!("contact_replicator_{series} ");
            text.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse().unwrap()
        };
        let lost = |reason: &str| value(&format!("spans_lost_total{{reason=\"{reason}\"}}"));
        (value("spans_exported_total"), ["queue_full", "refused", "shutdown"].map(lost))
    }
}

#[test]
fn without_export_a_place_is_what_was_handed_on_and_no_trace_begins() {
    let traces = Traces::default();
    let sent: Arc<str> = SENT.into();
    let place = traces.begin(Some(&sent));
    assert!(Arc::ptr_eq(place.traceparent().unwrap(), &sent), "nothing is copied");
    assert!(place.span().is_none() && traces.begin(None).traceparent().is_none());
    assert!(Arc::ptr_eq(traces.call([&place].into_iter()).place.traceparent().unwrap(), &sent));
    let answered = traces.answered(&place, Some(&sent), "priava", OutcomeKind::Delivered);
    assert!(Arc::ptr_eq(&answered.unwrap(), &sent));
}

#[test]
fn a_call_of_several_carries_a_traceparent_that_is_not_recorded_only_where_they_agree() {
    let traces = Traces::default();
    let at = |text: &str| traces.begin(Some(&Arc::from(text)));
    let (one, same, other) = (at(SENT), at(SENT), at(KEPT));
    assert_eq!(traces.call([&one, &same].into_iter()).place.traceparent().map(|text| &**text), Some(SENT));
    assert!(traces.call([&one, &other].into_iter()).place.traceparent().is_none());
}

#[tokio::test(start_paused = true)]
async fn the_senders_flag_decides_and_the_ratio_only_where_a_trace_begins() {
    for (ratio, sampled) in [(0.0, false), (1.0, true)] {
        let setup = setup(&[], |settings| settings.ratio = ratio);
        let kept: Arc<str> = KEPT.into();
        let place = setup.traces.begin(Some(&kept));
        assert!(Arc::ptr_eq(place.traceparent().unwrap(), &kept) && place.span().is_none());
        let child = setup.traces.begin(Some(&SENT.into()));
        let (child, parent) = (child.span().unwrap(), TraceParent::parse(SENT).unwrap());
        assert!(child.trace == parent.trace && child.span != parent.span && child.is_sampled());
        for begun in [setup.traces.begin(None), setup.traces.begin(Some(&"nonsense".into()))] {
            assert_eq!(begun.span().is_some(), sampled);
            assert_eq!(TraceParent::parse(begun.traceparent().unwrap()).unwrap().is_sampled(), sampled);
        }
    }
    let setup = setup(&[], |settings| settings.ratio = 0.25);
    let sampled = (0..4_000).filter(|_| setup.traces.begin(None).span().is_some()).count();
    assert!((800..1_200).contains(&sampled), "{sampled} of 4000");
}

#[tokio::test(start_paused = true)]
async fn spans_leave_in_batches_with_what_the_resource_and_the_headers_say() {
    let setup = setup(&[], |settings| {
        settings.batch_spans_max = 3;
        settings.headers = headers("Authorization=Bearer%20abc,x-tenant = t1\n").unwrap();
    });
    setup.tell(4);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(setup.spans(), [3, 1]);
    assert_eq!(setup.counted(), (4, [0; 3]));
    let request = setup.told.requests.lock()[0].clone();
    assert_eq!((request.method, &*request.path), (http::Method::POST, "/v1/traces"));
    let header = |name: &str| request.headers.iter().find(|(known, _)| known == name).unwrap().1.clone();
    assert_eq!((header("authorization"), header("x-tenant")), ("Bearer abc".parse().unwrap(), "t1".parse().unwrap()));
    assert_eq!(header("content-type"), "application/x-protobuf");
    assert!(!format!("{:?}", request.headers).contains("abc"), "a credential does not print");
    let resource = setup.sent().remove(0).resource_spans.remove(0).resource.unwrap();
    let resource: Vec<_> = resource.attributes.into_iter().map(|pair| pair.key).collect();
    for key in ["service.name", "service.namespace", "service.instance.id", "deployment.environment.name"] {
        assert!(resource.iter().any(|known| known == key), "{key}: {resource:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_may_be_taken_later_is_sent_again_and_what_is_refused_is_lost() {
    let answers = [
        Answered::Nothing,
        Answered::Status(503),
        Answered::Status(429),
        Answered::Status(400),
        Answered::Rejecting(1),
    ];
    let setup = setup(&answers, |settings| settings.batch_spans_max = 2);
    setup.tell(4);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(setup.spans(), [2, 2, 2, 2, 2], "the first batch four times");
    assert_eq!(setup.counted(), (1, [0, 3, 0]));
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_hangs_costs_spans_beyond_the_queue_and_is_not_waited_for_at_the_end() {
    let setup = setup(&[Answered::Never; 1000], |settings| {
        settings.batch_spans_max = 2;
        settings.queue_spans_max = 3;
    });
    setup.tell(2);
    tokio::time::sleep(Duration::from_secs(2)).await;
    let began = tokio::time::Instant::now();
    setup.tell(10);
    assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits");
    assert_eq!(setup.counted().1[0], 7);
    setup.traces.close(Duration::from_secs(5)).await;
    assert!(began.elapsed() <= Duration::from_secs(6), "{:?}", began.elapsed());
    assert_eq!(setup.counted(), (0, [7, 0, 5]));
}

#[tokio::test(start_paused = true)]
async fn what_waits_at_the_end_is_sent_at_once() {
    let setup = setup(&[], |settings| settings.batch_age_max = Duration::from_secs(60));
    setup.tell(5);
    let began = tokio::time::Instant::now();
    setup.traces.close(Duration::from_secs(5)).await;
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(setup.counted(), (5, [0; 3]));
}

#[tokio::test(start_paused = true)]
async fn an_answer_by_an_attempt_for_another_event_is_linked_to_it() {
    let setup = setup(&[], |_| ());
    let (first, second): (Arc<str>, Arc<str>) = (SENT.into(), SENT.replace("4bf9", "aaaa").into());
    let attempt = setup.traces.begin(Some(&second));
    let own = setup.traces.answered(&attempt, Some(&second), "priava", OutcomeKind::Delivered);
    assert_eq!(own.as_ref(), attempt.traceparent(), "an outcome carries the attempt that was begun for it");
    let other = setup.traces.answered(&attempt, Some(&first), "priava", OutcomeKind::Superseded).unwrap();
    let other = TraceParent::parse(&other).unwrap();
    assert_eq!(other.trace, TraceParent::parse(SENT).unwrap().trace, "each event stays in its own trace");
    setup.traces.close(Duration::from_secs(1)).await;
    let spans = setup.sent().remove(0).resource_spans.remove(0).scope_spans.remove(0).spans;
    assert_eq!((spans.len(), &*spans[0].name), (1, "answer priava"));
    assert_eq!(spans[0].span_id, other.span.to_be_bytes());
    assert_eq!(spans[0].links[0].span_id, attempt.span().unwrap().span.to_be_bytes());
}

#[test]
fn headers_are_read_as_opentelemetry_writes_them() {
    for bad in ["nothing", "na me=x", "name=\u{7f}", "a=b,=c"] {
        assert!(headers(bad).is_none(), "{bad}");
    }
    assert!(headers(" \n").unwrap().is_empty());
}
