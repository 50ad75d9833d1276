//! The spans by name, and what is said in them: OpenTelemetry's conventions for messaging, HTTP and CloudEvents as far as they
//! go, and `contact_replicator.…` beyond.
//!
//! | span | kind | below |
//! |---|---|---|
//! | `POST /events` | server | the `traceparent` of the request |
//! | `send <topic>` | producer | the request, or what the event itself says |
//! | `process <topic>` | consumer | what the event or its producer says |
//! | `deliver <crm>` | consumer | the `process` of the newest event that the attempt was begun for; one for each attempt |
//! | `<METHOD> <crm>` | client | the attempt; of a call that several share, the first of them, with a link to each |
//! | `answer <crm>` | internal | the `process` of an event that an attempt for another one answered, which it is linked to |
//!
//! Ids, codes and counts only. Nothing that a source or a CRM says of a contact is told, and of a URL the path alone.

use std::sync::Arc;

use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    resource::v1::Resource,
    trace::v1::{
        Span, Status,
        span::{Link, SpanKind},
        status::StatusCode,
    },
};

use super::{Begun, Call, Place, Teller, Traces};
use crate::{
    config::TracesSettings,
    contact::{ContactId, Version},
    crm::{Answer, TransportError},
    event::{EventRef, Operation, OutcomeKind, ReasonCode, outcome::Subjects, traceparent::TraceParent},
    log::TopicPartition,
};

/// The flag of a span that was recorded.
const SAMPLED: u32 = 1;

/// Events that were taken over HTTP, or why not.
#[derive(Debug)]
pub struct Taken<'a> {
    pub status: u16,
    pub path: &'a str,
    /// Of each event its place, and where it was written.
    pub events: &'a [(Place, TopicPartition)],
}

/// What the resolver made of an event.
#[derive(Debug)]
pub struct Resolved<'a> {
    pub event: &'a EventRef,
    pub subjects: &'a Subjects,
    pub contact: Option<ContactId>,
    pub version: Option<Version>,
    /// Of one that ends here.
    pub outcome: Option<(OutcomeKind, Option<ReasonCode>)>,
    pub epoch: u64,
}

/// How an attempt ended.
#[derive(Debug)]
pub struct Attempted<'a> {
    pub crm: &'a str,
    pub contact: ContactId,
    /// What the attempt was begun for.
    pub event: Option<&'a EventRef>,
    pub version: Option<Version>,
    /// Counted from 1.
    pub number: u32,
    pub outcome: &'static str,
    pub operation: Option<Operation>,
    pub reason: Option<ReasonCode>,
    pub is_error: bool,
    /// The work list, and the partition of the contact.
    pub topic: &'a str,
    pub partition: u32,
    /// Calls that it shared with other contacts.
    pub shared: &'a [TraceParent],
}

/// How a request to a CRM ended.
#[derive(Debug)]
pub struct Exchanged<'a> {
    pub crm: &'a str,
    pub method: &'a str,
    /// Without its query.
    pub path: &'a str,
    pub answer: &'a Answer,
}

/// Who tells the spans.
pub(super) fn resource(settings: &TracesSettings, teller: &Teller<'_>) -> Resource {
    let mut attributes = vec![
        text("service.name", &*settings.service_name),
        text("service.namespace", teller.instance),
        text("service.instance.id", teller.worker),
        text("service.version", env!("CARGO_PKG_VERSION")),
    ];
    for (name, value) in &settings.resource {
        attributes.retain(|own| own.key != *name);
        attributes.push(text(name, &**value));
    }
    Resource { attributes, ..Resource::default() }
}

/// What makes the spans.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: env!("CARGO_PKG_NAME").to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

impl Traces {
    /// A request of the HTTP ingest was answered.
    pub fn taken(&self, place: &Place, taken: &Taken<'_>) {
        for (event, at) in taken.events {
            self.tell(event, || {
                let mut span = named(format!("send {}", at.topic), SpanKind::Producer);
                span.attributes = messaging("send", &at.topic, at.partition);
                // Where the event belongs to another trace than the request that brought it.
                let own = event.span.and_then(|span| span.parent);
                span.links.extend(place.span().filter(|request| Some(*request) != own).map(link));
                span
            });
        }
        self.tell(place, || {
            let mut span = named("POST /events".to_owned(), SpanKind::Server);
            span.attributes = vec![
                text("http.request.method", "POST"),
                text("url.path", taken.path),
                number("http.response.status_code", taken.status),
                number("messaging.batch.message_count", taken.events.len() as u64),
            ];
            // Errors of the sender are not ours, say the conventions.
            if taken.status >= 500 {
                fail(&mut span, taken.status.to_string());
            }
            span
        });
    }

    /// The decision on an event is committed.
    pub fn resolved(&self, place: &Place, resolved: &Resolved<'_>) {
        self.tell(place, || {
            let event = resolved.event;
            let mut span = named(format!("process {}", event.topic), SpanKind::Consumer);
            span.attributes = messaging("process", &event.topic, event.partition);
            span.attributes.push(number("messaging.kafka.offset", event.offset));
            span.attributes.push(number("contact_replicator.epoch", resolved.epoch));
            if let Some(subject) = &event.subject {
                span.attributes.push(text("cloudevents.event_subject", &*resolved.subjects.name(subject)));
            }
            about(&mut span, Some(event), resolved.contact, resolved.version);
            if let Some((outcome, reason)) = resolved.outcome {
                span.attributes.push(text("contact_replicator.outcome", outcome.as_str()));
                ended(&mut span, None, reason);
                if outcome == OutcomeKind::Quarantined {
                    fail(&mut span, reason.map_or(outcome.as_str(), ReasonCode::as_str).to_owned());
                }
            }
            span
        });
    }

    /// An attempt to deliver a contact ended.
    pub fn attempted(&self, place: &Place, attempted: &Attempted<'_>) {
        self.tell(place, || {
            let mut span = named(format!("deliver {}", attempted.crm), SpanKind::Consumer);
            span.attributes = messaging("process", attempted.topic, attempted.partition);
            span.attributes.push(text("contact_replicator.crm", attempted.crm));
            span.attributes.push(number("contact_replicator.attempt", attempted.number));
            about(&mut span, attempted.event, Some(attempted.contact), attempted.version);
            span.attributes.push(text("contact_replicator.outcome", attempted.outcome));
            ended(&mut span, attempted.operation, attempted.reason);
            if attempted.is_error {
                let code = attempted.reason.map_or(attempted.outcome, ReasonCode::as_str);
                fail(&mut span, code.to_owned());
            }
            span.links.extend(attempted.shared.iter().copied().map(link));
            span
        });
    }

    /// A request to a CRM was answered, or not.
    pub fn exchanged(&self, call: &Call, exchanged: &Exchanged<'_>) {
        self.tell(&call.place, || {
            let Exchanged { crm, method, path, answer } = *exchanged;
            let mut span = named(format!("{method} {crm}"), SpanKind::Client);
            span.attributes = vec![
                text("http.request.method", method),
                text("url.path", path),
                text("peer.service", crm),
                text("contact_replicator.crm", crm),
            ];
            let status = match answer {
                Ok(response) => Some(response.status),
                Err(TransportError::UnusableBody { status, .. }) => Some(*status),
                Err(TransportError::NotSent { .. } | TransportError::Unanswered { .. }) => None,
            };
            span.attributes.extend(status.map(|status| number("http.response.status_code", status.as_u16())));
            match answer {
                Ok(response) if response.status.as_u16() >= 400 => fail(&mut span, response.status.as_str().to_owned()),
                Ok(_) => {}
                Err(TransportError::NotSent { .. }) => fail(&mut span, "not_sent".to_owned()),
                Err(TransportError::Unanswered { .. }) => fail(&mut span, "unanswered".to_owned()),
                Err(TransportError::UnusableBody { .. }) => fail(&mut span, "unusable_body".to_owned()),
            }
            if !call.origins.is_empty() {
                span.attributes.push(number("contact_replicator.contacts", call.origins.len() as u64));
                span.links = call.origins.iter().copied().map(link).collect();
            }
            span
        });
    }

    /// The attempt at `attempt` answered an entry that came with `traceparent`. Returns what its outcome is to carry: the
    /// attempt's, if that was begun for it; else that of a span of its own, which is linked to the attempt.
    pub fn answered(
        &self,
        attempt: &Place,
        traceparent: Option<&Arc<str>>,
        crm: &str,
        outcome: OutcomeKind,
    ) -> Option<Arc<str>> {
        if !self.is_on() || traceparent.is_none() {
            return traceparent.cloned();
        }
        if attempt.is_below(traceparent) {
            return attempt.traceparent().cloned();
        }
        let place = self.begin(traceparent);
        self.tell(&place, || {
            let mut span = named(format!("answer {crm}"), SpanKind::Internal);
            span.attributes.push(text("contact_replicator.crm", crm));
            span.attributes.push(text("contact_replicator.outcome", outcome.as_str()));
            span.links.extend(attempt.span().map(link));
            span
        });
        place.traceparent
    }

    /// Ends the span of `place`, if it is recorded, as `span` tells.
    fn tell(&self, place: &Place, span: impl FnOnce() -> Span) {
        let (Some(recorder), Some(begun)) = (&self.0, place.span) else { return };
        let Begun { context, parent, at } = begun;
        // The clock of the machine may have been set back meanwhile.
        let ended = recorder.clock.now().max(at);
        recorder.tell(Span {
            trace_id: context.trace.to_be_bytes().into(),
            span_id: context.span.to_be_bytes().into(),
            parent_span_id: parent.map(|parent| parent.span.to_be_bytes().into()).unwrap_or_default(),
            flags: SAMPLED,
            start_time_unix_nano: nanoseconds(at),
            end_time_unix_nano: nanoseconds(ended),
            ..span()
        });
    }
}

fn nanoseconds(at: Timestamp) -> u64 {
    u64::try_from(at.as_nanosecond()).unwrap_or(0)
}

fn named(name: String, kind: SpanKind) -> Span {
    Span { name, kind: kind.into(), ..Span::default() }
}

fn link(to: TraceParent) -> Link {
    Link {
        trace_id: to.trace.to_be_bytes().into(),
        span_id: to.span.to_be_bytes().into(),
        flags: SAMPLED,
        ..Link::default()
    }
}

fn messaging(operation: &str, topic: &str, partition: u32) -> Vec<KeyValue> {
    vec![
        text("messaging.system", "kafka"),
        text("messaging.operation.type", operation),
        text("messaging.destination.name", topic),
        // A text, say the conventions.
        text("messaging.destination.partition.id", partition.to_string()),
    ]
}

fn about(span: &mut Span, event: Option<&EventRef>, contact: Option<ContactId>, version: Option<Version>) {
    let id = event.and_then(|event| event.id.as_deref());
    let source = event.and_then(|event| event.source.as_deref());
    span.attributes.extend(id.map(|id| text("cloudevents.event_id", id)));
    span.attributes.extend(source.map(|source| text("cloudevents.event_source", source)));
    span.attributes.extend(contact.map(|contact| text("contact_replicator.contact.id", contact.to_string())));
    span.attributes.extend(version.map(|version| number("contact_replicator.contact.version", version)));
}

fn ended(span: &mut Span, operation: Option<Operation>, reason: Option<ReasonCode>) {
    span.attributes.extend(operation.map(|operation| text("contact_replicator.operation", operation.as_str())));
    span.attributes.extend(reason.map(|reason| text("contact_replicator.reason", reason.as_str())));
}

fn fail(span: &mut Span, kind: String) {
    span.attributes.push(text("error.type", kind));
    span.status = Some(Status { code: StatusCode::Error.into(), message: String::new() });
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn number(key: &str, value: impl Into<u64>) -> KeyValue {
    attribute(key, Value::IntValue(i64::try_from(value.into()).unwrap_or(i64::MAX)))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
