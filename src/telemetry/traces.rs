//! Traces: what happened to one change, from its sender to the last CRM, as one tree of spans.
//!
//! Each hop makes a child of the span that it was handed and hands its own on: the `traceparent` of an entry names the
//! resolver's span, that of a request to a CRM names the request's, that of an outcome the attempt's. A hop is a [`Place`]. It
//! is begun where the work begins and told where it ends, in one call that says what it was ([`spans`]); between the two it is a
//! value that travels with the work. So nothing is entered and nothing left, which batches and state machines could not do, and
//! the parts that decide know nothing of it.
//!
//! Whether a trace is recorded is decided once, where it begins: by its sender, whose flag is respected, or here by
//! `telemetry.traces.ratio`. What is not recorded is handed on as it came.
//!
//! Without `telemetry.traces.endpoint` nothing is recorded and no trace begun. A place is then no more than the `traceparent`
//! that came, shared and not copied. With it, spans wait in a queue of bounded length for [`export`]. Whoever tells a span never
//! waits: one that finds the queue full is lost, and counted.

mod export;
mod spans;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc, time::Duration};

use jiff::Timestamp;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, timeout_at},
};

pub use self::{
    export::{Collector, TracesError, collector},
    spans::{Attempted, Exchanged, Resolved, Taken},
};
use crate::{
    clock::Clock,
    config::TracesSettings,
    event::traceparent::TraceParent,
    metrics::{Metrics, SpanLoss},
};

/// Room for the last request to the collector to be given up after the deadline of [`Traces::close`].
const CLOSING_SLACK: Duration = Duration::from_millis(100);

/// Where spans are told; cheap to clone. [`Default`]: nowhere.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Recorder>>);

struct Recorder {
    clock: Clock,
    metrics: Metrics,
    /// A trace that begins here is recorded if the lower half of its id is below this.
    threshold: u64,
    queue: mpsc::Sender<Span>,
    /// When the export is to end.
    closing: watch::Sender<Option<Instant>>,
    exporting: Mutex<Option<JoinHandle<()>>>,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "traces, {}", if self.0.is_some() { "exported" } else { "off" })
    }
}

/// A hop in a trace: what is handed on to those that come after it.
#[derive(Debug, Clone, Default)]
pub struct Place {
    traceparent: Option<Arc<str>>,
    /// Of a span that is recorded.
    span: Option<Begun>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Begun {
    context: TraceParent,
    parent: Option<TraceParent>,
    at: Timestamp,
}

impl Place {
    /// What is handed on; `None`: there is no trace.
    pub fn traceparent(&self) -> Option<&Arc<str>> {
        self.traceparent.as_ref()
    }

    /// The span, if it is recorded: for links.
    pub fn span(&self) -> Option<TraceParent> {
        self.span.map(|span| span.context)
    }

    /// Whether it is the next hop of whoever handed on this.
    fn is_below(&self, traceparent: Option<&Arc<str>>) -> bool {
        let parent = traceparent.and_then(|text| TraceParent::parse(text));
        self.span.is_some_and(|span| span.parent == parent)
    }
}

/// A call on behalf of one contact, or of several.
#[derive(Debug, Default)]
pub struct Call {
    pub place: Place,
    /// Whose call it is, where it is that of several.
    origins: Vec<TraceParent>,
}

impl Call {
    /// The span of a call that is shared: those on whose behalf it left point to it.
    pub fn shared(&self) -> Option<TraceParent> {
        self.place.span().filter(|_| !self.origins.is_empty())
    }
}

/// Who tells the spans, as the collector is told with each of them.
#[derive(Debug)]
pub struct Teller<'a> {
    pub instance: &'a str,
    pub worker: &'a str,
}

impl Traces {
    /// Records spans from now on and sends them to `collector`, on a task of its own. Whoever is to see the last of them calls
    /// [`Traces::close`].
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn start(
        settings: &TracesSettings,
        collector: Collector,
        teller: &Teller<'_>,
        clock: Clock,
        metrics: &Metrics,
    ) -> Self {
        let (queue, spans) = mpsc::channel(settings.queue_spans_max);
        let closing = watch::Sender::new(None);
        let resource = spans::resource(settings, teller);
        let export = export::Export::new(settings, collector, resource, metrics.clone(), spans, closing.subscribe());
        Self(Some(Arc::new(Recorder {
            clock,
            metrics: metrics.clone(),
            threshold: threshold(settings.ratio),
            queue,
            closing,
            exporting: Mutex::new(Some(tokio::spawn(export.run()))),
        })))
    }

    /// Whether spans are recorded at all.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// The next hop of what was handed on as `parent`, or, without one, the first of a trace.
    pub fn begin(&self, parent: Option<&Arc<str>>) -> Place {
        let Some(recorder) = &self.0 else { return Place { traceparent: parent.cloned(), span: None } };
        self.begin_at(parent, recorder.clock.now())
    }

    /// The same, of work that began `at` a moment in the past.
    pub fn begin_at(&self, parent: Option<&Arc<str>>, at: Timestamp) -> Place {
        let Some(recorder) = &self.0 else { return Place { traceparent: parent.cloned(), span: None } };
        let context = match parent.and_then(|text| TraceParent::parse(text)) {
            Some(above) if above.is_sampled() => above.child(id()),
            Some(_) => return Place { traceparent: parent.cloned(), span: None },
            None => recorder.root(),
        };
        let begun = Begun { context, parent: parent.and_then(|text| TraceParent::parse(text)), at };
        Place { traceparent: Some(context.to_string().into()), span: context.is_sampled().then_some(begun) }
    }

    /// A call on behalf of `origins`. It is a child of the first of them that is recorded, and where there are several, it is
    /// linked to each. What is not recorded is handed on where all agree on it.
    pub fn call<'a>(&self, origins: impl Iterator<Item = &'a Place> + Clone) -> Call {
        let mut all = origins.clone();
        let first = all.next();
        let recorded = origins.clone().find(|place| place.span.is_some());
        let Some(above) = recorded.filter(|_| self.is_on()) else {
            let traceparent = first.and_then(Place::traceparent);
            let agreed = traceparent.filter(|_| all.all(|other| other.traceparent() == traceparent));
            return Call { place: Place { traceparent: agreed.cloned(), span: None }, origins: Vec::new() };
        };
        let place = self.begin(above.traceparent());
        let is_shared = all.next().is_some();
        let origins = if is_shared { origins.filter_map(Place::span).collect() } else { Vec::new() };
        Call { place, origins }
    }

    /// Takes no more spans, and gives those that wait until then to be sent. What is left is lost, and counted.
    pub async fn close(&self, within: Duration) {
        let Some(recorder) = &self.0 else { return };
        let deadline = Instant::now() + within;
        recorder.closing.send_replace(Some(deadline));
        let exporting = recorder.exporting.lock().take();
        if let Some(exporting) = exporting
            && !matches!(timeout_at(deadline + CLOSING_SLACK, exporting).await, Ok(Ok(())))
        {
            tracing::warn!("the export of spans did not end in time");
        }
    }
}

impl Recorder {
    fn root(&self) -> TraceParent {
        let trace = loop {
            let trace = rand::random::<u128>();
            if trace != 0 {
                break trace;
            }
        };
        TraceParent::root(trace, id(), self.is_sampled(trace))
    }

    /// As OpenTelemetry's sampler by ratio has it, so that others who look at the same trace come to the same end.
    fn is_sampled(&self, trace: u128) -> bool {
        let lower = u64::try_from(trace & u128::from(u64::MAX)).expect("it is the lower half");
        lower >> 1 < self.threshold
    }

    fn tell(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.metrics.spans_lost(SpanLoss::Queue, 1);
        }
    }
}

/// A share of all ids, of which there are 2^63 that are told apart.
fn threshold(ratio: f64) -> u64 {
    const ALL: u64 = 1 << 63;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a share of 0 to 1 of 2^63 is an integer of 64 bits, and nobody counts on the last of them"
    )]
    if ratio >= 1.0 { ALL } else { (ratio.max(0.0) * ALL as f64) as u64 }
}

/// Of a span.
fn id() -> u64 {
    loop {
        let id = rand::random();
        if id != 0 {
            return id;
        }
    }
}

/// Headers for the collector, as OpenTelemetry writes them in `OTEL_EXPORTER_OTLP_HEADERS`: `name=value`, separated by commas
/// or line ends, values percent-encoded where they must be. `None` if that is not what it is.
pub fn headers(text: &str) -> Option<Vec<(http::HeaderName, http::HeaderValue)>> {
    let pairs = text.split([',', '\n']).map(str::trim).filter(|pair| !pair.is_empty());
    let header = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8().ok()?;
        let mut value = http::HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        Some((name.trim().to_ascii_lowercase().parse().ok()?, value))
    };
    pairs.map(header).collect()
}
