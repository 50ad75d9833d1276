//! What a simulated system is to the sandbox around it.
//!
//! The sandbox owns what all simulated systems have in common: accepted tokens, faults, latency, the log of requests. A
//! [`System`] owns one CRM's store and rules, and answers one request at a time, at once and without I/O. It is asked
//! twice about each request: before anything happens, what the request is about ([`System::asked`]), because faults
//! and the log want to know that even of a request without effect; and then, unless a fault stands in the way, for its
//! effect and its answer ([`System::answer`]).

use std::collections::BTreeSet;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::time::Instant;

/// What a request would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Create,
    Update,
    /// Creates or updates, as the system finds.
    Upsert,
    Delete,
    /// Lists contacts, whether or not by a text.
    Search,
    /// Reads one contact by its id.
    Get,
    /// Nothing that the system knows.
    Other,
}

/// What a request is about, as far as it can be told without carrying it out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) action: Action,
    /// The reference by which its sender knows the contact.
    pub(super) contact: Option<String>,
    /// The id by which the system knows the contact.
    pub(super) remote_id: Option<String>,
}

impl Asked {
    pub(super) fn other() -> Self {
        Self { action: Action::Other, contact: None, remote_id: None }
    }
}

/// A request that has come to its effect.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub(super) request: &'a http::Request<Bytes>,
    /// The credentials that are accepted now.
    pub(super) tokens: &'a BTreeSet<String>,
    pub(super) now: Instant,
}

/// What the body is said to be, in lower case and without parameters.
pub(super) fn media_type(request: &http::Request<Bytes>) -> Option<String> {
    let content_type = request.headers().get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(content_type.split(';').next()?.trim().to_ascii_lowercase())
}

/// The system's own answer.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Whether the store was changed.
    pub(super) effect: bool,
    /// The id of the contact, where only the answer can tell it.
    pub(super) remote_id: Option<String>,
    /// The fields of the contact as the request left it, where the request does not say them all.
    pub(super) left: Option<Value>,
}

impl Reply {
    /// An answer in JSON that leaves the store as it is.
    pub(super) fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        Self { status, headers, body: body.into(), effect: false, remote_id: None, left: None }
    }

    /// An answer without a body that leaves the store as it is.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self { status, headers: HeaderMap::new(), body: Bytes::new(), effect: false, remote_id: None, left: None }
    }

    pub(super) fn with_effect(self) -> Self {
        Self { effect: true, ..self }
    }

    pub(super) fn about(self, remote_id: impl Into<String>) -> Self {
        Self { remote_id: Some(remote_id.into()), ..self }
    }

    pub(super) fn leaving(self, fields: Value) -> Self {
        Self { left: Some(fields), ..self }
    }

    pub(super) fn into_response(self) -> http::Response<Bytes> {
        let mut response = http::Response::new(self.body);
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

pub(super) trait System: Send {
    /// What the request is about, whatever else may be wrong with it.
    fn asked(&self, request: &http::Request<Bytes>) -> Asked;

    /// The credential that the request carries, whether or not it is accepted.
    fn credential(&self, request: &http::Request<Bytes>) -> Option<String>;

    /// Ends a credential that the system gave out itself.
    fn revoke(&mut self, _credential: &str) {}

    /// Carries out the request.
    fn answer(&mut self, call: Call<'_>) -> Reply;

    /// How many contacts are stored.
    fn count(&self) -> usize;

    /// All contacts, oldest first, each with `id`, `reference`, `writes` and `fields`.
    fn contacts(&self) -> Vec<Value>;

    /// The fields of the newest contact with this reference.
    fn contact(&self, reference: &str) -> Option<Value>;

    /// What the control page of contacts shows beside the contacts.
    fn remarks(&self) -> Map<String, Value>;
}
