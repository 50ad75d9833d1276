//! What the conversations of connectors have in common, whatever the CRM: how a step ends before its time, which answers
//! are at hand, and how a contact is told from another.
//!
//! A conversation is written down as if answers came at once: it runs from its beginning each time, takes the answers that
//! are there ([`Answers::to`]), and ends with the first request that has none yet. So nothing has to be remembered between
//! two requests.

use std::{collections::BTreeMap, slice};

use bytes::Bytes;
use http::{HeaderValue, Method, header};
use serde_json::Value;

use super::{
    Accepted, Answer, Delivery, Effect, Failure, FailureClass, Presence, REMOTE_CONTACT, Request, RequestKind, Step,
    TransportError, Verdict,
};
use crate::{
    contact::{ContactRecord, normalise::name, record::Status},
    event::{Operation, OutcomeKind, Reason, ReasonCode},
};

/// The result of a step of a conversation, or what is to be done before there is one.
pub(super) type Heard<T> = Result<T, Box<Step>>;

/// The answers to the requests of a delivery so far, oldest first.
#[derive(Debug)]
pub(super) struct Answers<'a>(slice::Iter<'a, Answer>);

impl<'a> Answers<'a> {
    pub(super) fn new(answers: &'a [Answer]) -> Self {
        Self(answers.iter())
    }

    /// The answer to a request; if there is none yet, the request is what comes next.
    pub(super) fn to(&mut self, request: Request) -> Heard<&'a Answer> {
        self.0.next().ok_or_else(|| Box::new(Step::Call(request)))
    }
}

pub(super) fn judged<T>(verdict: Verdict) -> Heard<T> {
    Err(Box::new(Step::Judged(verdict)))
}

pub(super) fn failed<T>(failure: Failure) -> Heard<T> {
    Err(Box::new(Step::Failed(failure)))
}

/// Several contacts may be the one: none is made, and none is touched.
pub(super) fn ambiguous<T>() -> Heard<T> {
    judged(Verdict::new(OutcomeKind::Rejected, ReasonCode::AmbiguousMatch))
}

/// There is nobody to retire.
pub(super) fn unknown_contact<T>() -> Heard<T> {
    judged(Verdict::never_sent())
}

/// An answer of success whose body cannot be used although it is needed.
pub(super) fn unreadable(answer: &Answer, effect: Effect) -> Failure {
    let http_status = match answer {
        Ok(response) => Some(response.status.as_u16()),
        Err(TransportError::UnusableBody { status, .. }) => Some(status.as_u16()),
        Err(_) => None,
    };
    let reason = Reason { http_status, ..ReasonCode::Refused.into() };
    Failure { class: FailureClass::Transient, effect, reason, retry_after: None }
}

pub(super) fn body_of(answer: &Answer) -> &[u8] {
    answer.as_ref().map(|response| response.body.as_ref()).unwrap_or_default()
}

/// The id of a contact as links keep it.
pub(super) fn remote_ids(id: impl Into<String>) -> BTreeMap<String, String> {
    BTreeMap::from([(REMOTE_CONTACT.to_owned(), id.into())])
}

/// The end of a delivery after which all is there that should be.
pub(super) fn done(delivery: &Delivery<'_>, remote_ids: BTreeMap<String, String>) -> Step {
    let operation = match (delivery.record.status, delivery.projection.presence) {
        (Status::Erased, Presence::Absent) => Operation::Erase,
        (Status::Erased, _) => Operation::Blank,
        _ => delivery.operation,
    };
    Step::Done(Accepted { operation, remote_ids })
}

/// What differs from what was last accepted.
pub(super) fn changed(delivery: &Delivery<'_>) -> BTreeMap<String, Value> {
    let said = &delivery.projection.fields;
    let changes = delivery.changes.iter();
    changes.filter_map(|path| Some((path.to_string(), said.get(&**path)?.clone()))).collect()
}

/// What a create carries: a new contact has nothing to clear.
pub(super) fn without_clears(fields: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let said = fields.iter().filter(|(_, value)| !value.is_null());
    said.map(|(path, value)| (path.clone(), value.clone())).collect()
}

/// A contact that is retired without a document keeps what the CRM has.
pub(super) fn stays_as_it_is(record: &ContactRecord) -> bool {
    matches!(record.status, Status::Deleted | Status::Merged) && record.contact.is_none()
}

/// Whether both are names, and may be of one contact. A wrong match writes one over another; a missed one only makes a second
/// contact.
pub(super) fn is_compatible(ours: &str, theirs: &str) -> bool {
    let is_name = |text: &str| !name::Words::of(text).is_empty();
    is_name(ours) && is_name(theirs) && name::compatible_full(ours, theirs)
}

/// A request whose body, if it has one, and whose answer are JSON.
pub(super) fn json_request(method: Method, path: String, body: Option<Bytes>, kind: RequestKind) -> Request {
    const JSON: HeaderValue = HeaderValue::from_static("application/json");
    let mut headers = vec![(header::ACCEPT, JSON)];
    headers.extend(body.is_some().then_some((header::CONTENT_TYPE, JSON)));
    Request { method, path, headers, body: body.unwrap_or_default(), kind }
}
