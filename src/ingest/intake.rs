//! One request: what it takes until its events are in the log.
//!
//! The cheap questions come first: who asks, for which topic, in which form, how much. Only then does the request wait
//! for its turn, since from there on it takes memory. Then its body is read, every event in it is judged as the resolver
//! would judge it, and all are appended in one call. One bad event refuses the whole request before anything is written.

use std::{collections::BTreeSet, sync::Arc};

use axum::{
    body::{Body, HttpBody},
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header, request},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};
use tracing::error;

use super::{
    Parts,
    backlog::Backlog,
    binding::{self, Message, Mode, NoBatch},
    problem::Refusal,
};
use crate::{
    clock::Clock,
    config::IngestSettings,
    event::{
        EventRef, ReasonCode,
        change::{self, Change, Fault, Rules},
        traceparent::{TRACEPARENT, TraceParent},
    },
    log::{Header, Log, NewRecord, Record, TopicPartition, partition_of},
    metrics::{IngestResult, Metrics},
    telemetry::traces::{Place, Taken, Traces},
};

/// What is still read of a request that is refused, in bytes and time: a sender that is cut off while it writes seldom
/// gets to read why.
const HEAR_OUT_BYTES: usize = 1024 * 1024;
const HEAR_OUT_TIME: std::time::Duration = std::time::Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Intake {
    settings: IngestSettings,
    /// A hash of the token: of one length whatever was sent, so that comparing takes the same time.
    token: Option<[u8; 32]>,
    topics: BTreeSet<Arc<str>>,
    first_topic: Arc<str>,
    event_bytes_max: usize,
    rules: Arc<Rules>,
    log: Arc<dyn Log>,
    clock: Clock,
    metrics: Metrics,
    traces: Traces,
    backlog: Backlog,
    turns: Semaphore,
}

impl Intake {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { settings, topics, event_bytes_max, rules, log, decided, clock, metrics, traces } = parts;
        let first_topic = topics.first().expect("checked settings name an input topic").clone();
        Self {
            token: settings.token.as_ref().map(|token| Sha256::digest(token.expose().as_bytes()).into()),
            backlog: Backlog::new(log.clone(), decided, topics.clone(), settings.backlog_max, metrics.clone()),
            turns: Semaphore::new(settings.requests_max),
            topics: topics.into_iter().collect(),
            settings,
            first_topic,
            event_bytes_max,
            rules,
            log,
            clock,
            metrics,
            traces,
        }
    }

    async fn answer(&self, topic: Option<&str>, request: axum::extract::Request) -> Response {
        let (head, mut body) = request.into_parts();
        let arrived = self.clock.now();
        match self.take(topic, &head, &mut body, arrived).await {
            Ok(Taking { place, events }) => {
                let accepted = events.len();
                let status = StatusCode::ACCEPTED.as_u16();
                self.traces.taken(&place, &Taken { status, path: head.uri.path(), events: &events });
                self.metrics.ingest_request(IngestResult::Accepted);
                self.metrics.ingest_accepted(accepted);
                let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
                (StatusCode::ACCEPTED, json, format!("{{\"accepted\":{accepted}}}")).into_response()
            }
            Err(refusal) => {
                self.tell_refusal(&refusal, &head, arrived);
                // Whoever asks before sending has sent nothing, and is not encouraged to.
                if refusal.may_hear_out() && !head.headers.contains_key(header::EXPECT) {
                    hear_out(&mut body).await;
                }
                self.refuse(refusal)
            }
        }
    }

    /// Of what a sender did that may publish here; of others the counter tells.
    fn tell_refusal(&self, refusal: &Refusal, head: &request::Parts, arrived: Timestamp) {
        if self.traces.is_on() && !matches!(refusal.result, IngestResult::Unauthorized | IngestResult::Refused) {
            let place = self.traces.begin_at(traceparent_of(&head.headers).as_ref(), arrived);
            let status = refusal.status.as_u16();
            self.traces.taken(&place, &Taken { status, path: head.uri.path(), events: &[] });
        }
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        self.metrics.ingest_request(refusal.result);
        refusal.into_response()
    }

    /// Takes the events of a request.
    async fn take(
        &self,
        topic: Option<&str>,
        head: &request::Parts,
        body: &mut Body,
        arrived: Timestamp,
    ) -> Result<Taking, Refusal> {
        if !self.may_publish(&head.headers) {
            return Err(Refusal::unauthorized());
        }
        let topic = match topic {
            None => &self.first_topic,
            Some(name) => self.topics.get(name).ok_or_else(Refusal::not_found)?,
        };
        let mode = Mode::of(&head.headers).ok_or_else(Refusal::media_type)?;
        let bytes_max = match mode {
            Mode::Binary | Mode::Structured => self.event_bytes_max,
            Mode::Batch => self.event_bytes_max.saturating_mul(self.settings.batch_events_max),
        };
        if body.size_hint().lower() > bytes_max as u64 {
            return Err(Refusal::too_large());
        }
        let _turn = match timeout(self.settings.read_timeout, self.turns.acquire()).await {
            Ok(turn) => turn.expect("the semaphore is never closed"),
            Err(_elapsed) => return Err(Refusal::busy()),
        };
        let partitions = self.backlog.look(topic).await?;
        let body = self.read(body, bytes_max).await?;
        let judged = Judging {
            mode,
            headers: head.headers.clone(),
            body,
            events_max: self.settings.batch_events_max,
            topic: Arc::clone(topic),
            partitions,
            rules: Arc::clone(&self.rules),
            now: self.clock.now(),
            traces: self.traces.clone(),
            arrived,
        };
        // Parsing megabytes would hold up every other task of the thread.
        let (taking, records) = spawn_blocking(move || judged.records()).await.unwrap_or_else(|_panicked| {
            // Not the error itself: its text has the message of a panic, which may quote a contact.
            error!("reading an event that came over HTTP panicked");
            Err(Refusal::internal())
        })?;
        if !records.is_empty() {
            let room = self.backlog.reserve(records.len())?;
            self.log.append(records).await.map_err(|error| Refusal::log(&error))?;
            room.taken();
        }
        Ok(taking)
    }

    fn may_publish(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| {
            let (scheme, rest) = value.as_bytes().split_at_checked("bearer ".len())?;
            scheme.eq_ignore_ascii_case(b"bearer ").then(|| rest.trim_ascii())
        });
        shown.is_some_and(|shown| {
            let shown: [u8; 32] = Sha256::digest(shown).into();
            shown.ct_eq(token).into()
        })
    }

    async fn read(&self, body: &mut Body, bytes_max: usize) -> Result<Bytes, Refusal> {
        match timeout(self.settings.read_timeout, Limited::new(body, bytes_max).collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::too_large()),
            Ok(Err(_torn)) => Err(Refusal::torn()),
            Err(_elapsed) => Err(Refusal::timed_out()),
        }
    }
}

async fn hear_out(body: &mut Body) {
    let mut heard = 0;
    let reading = async {
        while heard <= HEAR_OUT_BYTES
            && let Some(Ok(frame)) = body.frame().await
        {
            heard += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    // Whatever is still to come by then is not waited for; the answer goes out all the same.
    let _cut_off = timeout(HEAR_OUT_TIME, reading).await.is_err();
}

/// All that it takes to tell what a body holds.
struct Judging {
    mode: Mode,
    headers: HeaderMap,
    body: Bytes,
    events_max: usize,
    topic: Arc<str>,
    partitions: u32,
    rules: Arc<Rules>,
    now: Timestamp,
    traces: Traces,
    arrived: Timestamp,
}

/// A request whose events are taken, in its trace, and the events, each in its own.
struct Taking {
    place: Place,
    events: Vec<(Place, TopicPartition)>,
}

impl Judging {
    /// The records to write, or the first thing at fault.
    fn records(self) -> Result<(Taking, Vec<NewRecord>), Refusal> {
        let Self { mode, headers, body, events_max, topic, partitions, rules, now, traces, arrived } = self;
        let messages = binding::messages(mode, &headers, body, events_max).map_err(|fault| match fault {
            NoBatch::NotAnArray => Refusal::not_an_array(),
            NoBatch::TooMany => Refusal::too_many(),
        })?;
        let judge = |(index, message)| {
            let index = (mode == Mode::Batch).then_some(index);
            judge(message, &topic, partitions, &rules, now).map_err(|fault| Refusal::event(fault, index))
        };
        let judged = messages.into_iter().enumerate().map(judge);
        let mut judged = judged.collect::<Result<Vec<Judged>, Refusal>>()?;
        let sent = traceparent_of(&headers);
        // A request that says nothing belongs to the trace of its one event.
        let alone = if let [one] = judged.as_slice() { one.traceparent.as_ref() } else { None };
        let place = traces.begin_at(sent.as_ref().or(alone), arrived);
        let events = judged.iter_mut().map(|judged| (judged.join(&place, &traces), judged.record.to.clone())).collect();
        Ok((Taking { place, events }, judged.into_iter().map(|judged| judged.record).collect()))
    }
}

/// An event that would not be a dead letter.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) record: NewRecord,
    /// What the event itself says of its trace.
    pub(super) traceparent: Option<Arc<str>>,
}

impl Judged {
    /// Says on the record where the event stands: below the request, or, where it says itself that it belongs to another
    /// trace, there. The event itself stays as its sender wrote it.
    fn join(&mut self, request: &Place, traces: &Traces) -> Place {
        let trace_of = |text: Option<&Arc<str>>| Some(TraceParent::parse(text?)?.trace);
        let own = self.traceparent.as_ref();
        let is_apart = own.is_some() && trace_of(own) != trace_of(request.traceparent());
        let parent = if is_apart { own } else { request.traceparent() };
        let place = match parent {
            Some(_) => traces.begin(parent),
            None => Place::default(),
        };
        if place.span().is_some() || own.is_none() {
            let header = place.traceparent().map(|text| Header::new(TRACEPARENT, text.as_bytes().to_vec()));
            self.record.headers.extend(header);
        }
        place
    }
}

/// The trace that a sender's request belongs to. One that says it twice says nothing.
fn traceparent_of(headers: &HeaderMap) -> Option<Arc<str>> {
    let mut all = headers.get_all(TRACEPARENT).iter();
    let (Some(only), None) = (all.next(), all.next()) else { return None };
    let text = only.to_str().ok()?;
    TraceParent::parse(text).map(|_wellformed| text.into())
}

/// Makes the record of a message, if it would not be a dead letter.
pub(super) fn judge(
    message: Message,
    topic: &Arc<str>,
    partitions: u32,
    rules: &Rules,
    now: Timestamp,
) -> Result<Judged, Fault> {
    let mut record = Record {
        at: TopicPartition::new(Arc::clone(topic), 0),
        offset: 0,
        timestamp: now,
        key: None,
        value: Some(message.value),
        headers: message.headers,
    };
    let Change { subject, traceparent, .. } = change::read(&record, rules, now)?;
    let key = Bytes::copy_from_slice(subject.as_bytes());
    // The key, which counts, is known only from the event.
    record.key = Some(key.clone());
    if change::is_too_large(&record, rules) {
        return Err(Fault { code: ReasonCode::TooLarge, pointer: None, event: EventRef::at(&record) });
    }
    let to = TopicPartition::new(Arc::clone(topic), partition_of(&key, partitions));
    let record = NewRecord { to, key: record.key, value: record.value, headers: record.headers };
    Ok(Judged { record, traceparent })
}

pub(super) async fn to_first_topic(State(intake): State<Arc<Intake>>, request: axum::extract::Request) -> Response {
    intake.answer(None, request).await
}

pub(super) async fn to_named_topic(
    State(intake): State<Arc<Intake>>,
    topic: Result<Path<String>, PathRejection>,
    request: axum::extract::Request,
) -> Response {
    // What is no text names no topic.
    let topic = topic.map_or_else(|_malformed| String::new(), |Path(topic)| topic);
    intake.answer(Some(&topic), request).await
}

pub(super) async fn wrong_method(State(intake): State<Arc<Intake>>) -> Response {
    intake.refuse(Refusal::method())
}

pub(super) async fn not_found(State(intake): State<Arc<Intake>>) -> Response {
    intake.refuse(Refusal::not_found())
}
