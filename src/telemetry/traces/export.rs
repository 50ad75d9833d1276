//! OTLP over HTTP: spans are gathered into batches and sent as protobuf
//! (<https://opentelemetry.io/docs/specs/otlp/#otlphttp>).
//!
//! One batch is under way at a time. While the collector cannot take it (no connection, no answer, 429, 502, 503, 504) it is
//! sent again, with growing pauses; what it refuses is dropped. Meanwhile spans wait in the queue, and beyond its bound they are
//! lost where they are told. Nothing else waits: not a delivery, not a decision.
//!
//! The collector's trouble is told once when it begins, then once a minute, and when it is over.

use std::{pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};
use url::Url;

use super::spans;
use crate::{
    config::TracesSettings,
    crm::{
        Request, RequestKind, TransportError,
        transport::{Http, HttpSetupError, Transport},
    },
    metrics::{Metrics, SpanLoss},
};

/// Pause before a batch is sent again; doubled each time.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How often trouble that lasts is told.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// The longest answer of a collector that is read. It has a sentence at most.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    #[error("telemetry.traces.endpoint is no address")]
    Endpoint(#[from] url::ParseError),
    #[error("telemetry.traces.endpoint cannot be used")]
    Client(#[from] HttpSetupError),
}

/// Where spans are sent.
#[derive(Debug)]
pub struct Collector {
    pub transport: Arc<dyn Transport>,
    /// Below the transport's base URL.
    pub path: String,
}

/// The collector at `telemetry.traces.endpoint`.
///
/// # Errors
/// If it cannot be an address, or no client can be made for it.
pub fn collector(settings: &TracesSettings) -> Result<Collector, TracesError> {
    let endpoint = Url::parse(&settings.endpoint)?;
    let mut base = endpoint.clone();
    base.set_path("");
    base.set_query(None);
    let http = Http::to(base.as_str(), settings.timeout, ANSWER_BYTES_MAX)?;
    Ok(Collector { transport: Arc::new(http), path: endpoint.path().to_owned() })
}

pub(super) struct Export {
    collector: Collector,
    headers: Vec<(HeaderName, HeaderValue)>,
    resource: Resource,
    timeout: Duration,
    batch_max: usize,
    batch_age_max: Duration,
    metrics: Metrics,
    spans: mpsc::Receiver<Span>,
    closing: watch::Receiver<Option<Instant>>,
    trouble: Option<Trouble>,
}

/// The collector takes nothing.
struct Trouble {
    told_at: Instant,
}

/// How the sending of a batch ended.
enum Ended {
    Taken {
        refused: u64,
    },
    Refused {
        status: StatusCode,
    },
    /// It may be taken later.
    Failed {
        why: String,
    },
}

impl Export {
    pub(super) fn new(
        settings: &TracesSettings,
        collector: Collector,
        resource: Resource,
        metrics: Metrics,
        spans: mpsc::Receiver<Span>,
        closing: watch::Receiver<Option<Instant>>,
    ) -> Self {
        let mut headers = vec![(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))];
        headers.extend(settings.headers.clone());
        Self {
            collector,
            headers,
            resource,
            timeout: settings.timeout,
            batch_max: settings.batch_spans_max,
            batch_age_max: settings.batch_age_max,
            metrics,
            spans,
            closing,
            trouble: None,
        }
    }

    /// Until it is closed and empty, or closed and out of time, or nobody is left who could tell a span.
    pub(super) async fn run(mut self) {
        let mut batch = Vec::with_capacity(self.batch_max);
        while self.gather(&mut batch).await {
            let count = batch.len() as u64;
            let body = self.encode(std::mem::take(&mut batch));
            if !self.deliver(body, count).await {
                break;
            }
        }
        self.spans.close();
        let mut left = 0;
        while self.spans.try_recv().is_ok() {
            left += 1;
        }
        if left > 0 {
            self.metrics.spans_lost(SpanLoss::Shutdown, left);
            warn!(spans = left, "spans were not exported in time before the end");
        }
    }

    /// Fills a batch. `false`: there will be no more.
    async fn gather(&mut self, batch: &mut Vec<Span>) -> bool {
        let first = tokio::select! {
            first = self.spans.recv() => first,
            () = closed(&mut self.closing) => {
                self.spans.close();
                self.spans.recv().await
            }
        };
        let Some(first) = first else { return false };
        batch.push(first);
        let leaves_at = Instant::now() + self.batch_age_max;
        while batch.len() < self.batch_max {
            let room = self.batch_max - batch.len();
            let gathered = tokio::select! {
                gathered = self.spans.recv_many(batch, room) => gathered,
                () = sleep_until(leaves_at) => 0,
                () = closed(&mut self.closing), if !self.spans.is_closed() => {
                    self.spans.close();
                    continue;
                }
            };
            if gathered == 0 {
                break;
            }
        }
        true
    }

    fn encode(&self, spans: Vec<Span>) -> Bytes {
        let scoped = ScopeSpans { scope: Some(spans::scope()), spans, ..ScopeSpans::default() };
        let of_us = ResourceSpans {
            resource: Some(self.resource.clone()),
            scope_spans: vec![scoped],
            ..ResourceSpans::default()
        };
        ExportTraceServiceRequest { resource_spans: vec![of_us] }.encode_to_vec().into()
    }

    /// Sends a batch until it is taken or refused. `false`: there is no time left for it.
    async fn deliver(&mut self, body: Bytes, spans: u64) -> bool {
        let mut pause = PAUSE_MIN;
        loop {
            match self.send_in_time(body.clone()).await {
                Ended::Taken { refused } => {
                    self.metrics.spans_exported(spans.saturating_sub(refused));
                    self.metrics.spans_lost(SpanLoss::Refused, refused);
                    if self.trouble.take().is_some() {
                        info!("the collector takes spans again");
                    }
                    return true;
                }
                Ended::Refused { status } => {
                    self.metrics.spans_lost(SpanLoss::Refused, spans);
                    self.tell_trouble(&format!(
                        "HTTP {status}: see that telemetry.traces.endpoint and its headers are right"
                    ));
                    return true;
                }
                Ended::Failed { why } => self.tell_trouble(&why),
            }
            let again_at = Instant::now() + pause;
            pause = (pause * 2).min(PAUSE_MAX);
            let deadline = *self.closing.borrow();
            let is_last = self.spans.is_closed() && deadline.is_none();
            if is_last || deadline.is_some_and(|deadline| deadline <= again_at) {
                self.metrics.spans_lost(SpanLoss::Shutdown, spans);
                return false;
            }
            tokio::select! {
                () = sleep_until(again_at) => {}
                () = closed(&mut self.closing), if deadline.is_none() => {}
            }
        }
    }

    /// What is under way when the export is to end gets the time that is left.
    async fn send_in_time(&self, body: Bytes) -> Ended {
        let mut closing = self.closing.clone();
        let mut until = Instant::now() + self.timeout;
        let mut is_closing = false;
        let mut sending = pin!(self.send(body));
        loop {
            tokio::select! {
                ended = &mut sending => return ended,
                () = sleep_until(until) => return Ended::Failed { why: "no answer in time".to_owned() },
                () = closed(&mut closing), if !is_closing => {
                    is_closing = true;
                    until = closing.borrow().map_or(until, |deadline| deadline.min(until));
                }
            }
        }
    }

    async fn send(&self, body: Bytes) -> Ended {
        let request = Request {
            method: http::Method::POST,
            path: self.collector.path.clone(),
            headers: self.headers.clone(),
            body,
            kind: RequestKind::Set,
        };
        match self.collector.transport.exchange(request).await {
            Ok(response) if response.status.is_success() => {
                // What cannot be read refuses nothing.
                let answer = ExportTraceServiceResponse::decode(response.body).unwrap_or_default();
                let refused = answer.partial_success.map_or(0, |partial| partial.rejected_spans);
                Ended::Taken { refused: u64::try_from(refused).unwrap_or(0) }
            }
            Ok(response) => of_status(response.status),
            Err(TransportError::UnusableBody { status, .. }) if status.is_success() => Ended::Taken { refused: 0 },
            Err(TransportError::UnusableBody { status, .. }) => of_status(status),
            Err(error) => Ended::Failed { why: error.to_string() },
        }
    }

    fn tell_trouble(&mut self, why: &str) {
        let now = Instant::now();
        if self.trouble.as_ref().is_some_and(|trouble| now < trouble.told_at + TOLD_EVERY) {
            return;
        }
        self.trouble = Some(Trouble { told_at: now });
        warn!(
            why,
            "spans cannot be exported; deliveries go on, and spans beyond telemetry.traces.queue_spans_max are lost"
        );
    }
}

/// Which answers ask to be tried again, says OTLP.
fn of_status(status: StatusCode) -> Ended {
    match status.as_u16() {
        429 | 502..=504 => Ended::Failed { why: format!("HTTP {status}") },
        _ => Ended::Refused { status },
    }
}

/// Ends when the export is to end.
async fn closed(closing: &mut watch::Receiver<Option<Instant>>) {
    if closing.wait_for(Option::is_some).await.is_err() {
        // Nobody is left to say so; that there will be no more spans, their queue tells.
        std::future::pending::<()>().await;
    }
}
