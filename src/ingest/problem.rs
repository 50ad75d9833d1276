//! Why a request is refused, in the form of RFC 9457.
//!
//! `code` is for programs: the codes of dead letters where the event is at fault, and some of our own where it is not.
//! `detail` is a fixed sentence: no answer ever repeats what was sent.

use std::time::Duration;

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tracing::{error, warn};

use super::binding;
use crate::{
    event::{ReasonCode, change::Fault},
    log::LogError,
    metrics::IngestResult,
    resolver::ResolverError,
};

/// When to come back: some measurements of the backlog later.
const RETRY_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    code: &'static str,
    detail: &'static str,
    pub(super) result: IngestResult,
    pointer: Option<String>,
    /// Of the event in its batch.
    index: Option<usize>,
}

#[derive(Serialize)]
struct Document<'a> {
    title: &'static str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, result: IngestResult, detail: &'static str) -> Self {
        Self { status, code, detail, result, pointer: None, index: None }
    }

    /// The event would be a dead letter.
    pub(super) fn event(fault: Fault, index: Option<usize>) -> Self {
        let Fault { code, pointer, .. } = fault;
        let refusal = match code {
            ReasonCode::TooLarge => Self::too_large(),
            code => Self::new(
                StatusCode::BAD_REQUEST,
                code.as_str(),
                IngestResult::Refused,
                "this event cannot be read; nothing of the request was taken",
            ),
        };
        Self { pointer, index, ..refusal }
    }

    pub(super) fn too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            ReasonCode::TooLarge.as_str(),
            IngestResult::TooLarge,
            "this is larger than an event, or the body of a batch, may be",
        )
    }

    pub(super) fn too_many() -> Self {
        let detail = "the batch holds more events than are taken at once; send it in parts";
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_many_events", IngestResult::TooLarge, detail)
    }

    pub(super) fn not_an_array() -> Self {
        let detail = "the body of a batch is a JSON array of events";
        Self::new(StatusCode::BAD_REQUEST, ReasonCode::NotJson.as_str(), IngestResult::Refused, detail)
    }

    pub(super) fn unauthorized() -> Self {
        let detail = "show the token as: Authorization: Bearer …";
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", IngestResult::Unauthorized, detail)
    }

    pub(super) fn not_found() -> Self {
        let detail = "events are taken at /events, and at /events/<topic> for a configured input topic";
        Self::new(StatusCode::NOT_FOUND, "not_found", IngestResult::Refused, detail)
    }

    pub(super) fn method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", IngestResult::Refused, "use POST")
    }

    pub(super) fn media_type() -> Self {
        let detail = "send a CloudEvent: headers ce-…, or one of the media types in the header accept";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", IngestResult::Refused, detail)
    }

    pub(super) fn timed_out() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "timed_out", IngestResult::TimedOut, "the body did not come in time")
    }

    pub(super) fn torn() -> Self {
        Self::new(StatusCode::BAD_REQUEST, "torn_body", IngestResult::TimedOut, "the body ended early")
    }

    pub(super) fn busy() -> Self {
        let detail = "too many requests are under way; come back later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", IngestResult::Busy, detail)
    }

    pub(super) fn backlog() -> Self {
        let detail = "too many events wait for a decision; come back later";
        Self::new(StatusCode::TOO_MANY_REQUESTS, "backlog", IngestResult::Backlog, detail)
    }

    pub(super) fn topic_missing() -> Self {
        let detail = "the input topic does not exist yet; come back later";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "topic_missing", IngestResult::LogFailed, detail)
    }

    /// What the log did to a request. It may be that some of the events are in it all the same: whoever sends them again
    /// does no harm, since an event is known by its source and id.
    pub(super) fn log(error: &LogError) -> Self {
        match error {
            LogError::Full { .. } => {
                warn!(%error, "events over HTTP are refused");
                let detail = "the log is full; come back later";
                Self::new(StatusCode::TOO_MANY_REQUESTS, "log_full", IngestResult::Backlog, detail)
            }
            LogError::UnknownTopic { .. } => Self::topic_missing(),
            LogError::Unavailable { .. } | LogError::Connection { .. } | LogError::Unstable { .. } => {
                warn!(%error, "events over HTTP cannot be taken");
                let detail = "the log cannot be reached; send this again later";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "log_unavailable", IngestResult::LogFailed, detail)
            }
            LogError::OutOfRange { .. }
            | LogError::Topics(_)
            | LogError::Unauthorized { .. }
            | LogError::Unusable { .. } => {
                error!(%error, "events over HTTP cannot be taken until an operator acts");
                let detail = "the log does not take this; an operator must act";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "log_failed", IngestResult::LogFailed, detail)
            }
        }
    }

    pub(super) fn positions(error: &ResolverError) -> Self {
        error!(%error, "events over HTTP cannot be taken, since it is not known how many wait");
        Self::internal()
    }

    pub(super) fn internal() -> Self {
        let code = ReasonCode::InternalError.as_str();
        let detail = "this is a fault of the program; nothing of the request was taken";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, code, IngestResult::InternalError, detail)
    }

    /// Whether the sender can still be heard out: one that is too slow already has had its time.
    pub(super) fn may_hear_out(&self) -> bool {
        self.result != IngestResult::TimedOut
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let document = Document {
            title: self.status.canonical_reason().unwrap_or_default(),
            status: self.status.as_u16(),
            code: self.code,
            detail: self.detail,
            pointer: self.pointer.as_deref(),
            index: self.index,
        };
        let body = serde_json::to_vec(&document).expect("texts and numbers become JSON");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE => {
                headers.insert(header::ACCEPT, HeaderValue::from_static(binding::ACCEPTED));
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(RETRY_AFTER.as_secs()));
            }
            _ => {}
        }
        response
    }
}
