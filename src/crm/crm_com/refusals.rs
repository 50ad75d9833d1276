//! What an answer of CRM.COM means: by `status.code` first, by HTTP status where that says nothing.
//!
//! HTTP 200 is no success here, and CRM.COM documents no code but `OK`. The codes below are the ones to expect; a tenant
//! that answers with others has tables in its settings for them.

use std::collections::{BTreeMap, BTreeSet};

use super::wire::{self, Envelope, Status};
use crate::{
    config::CrmComSettings,
    crm::{
        Answer, Effect, Failure, FailureClass, SetupError, TransportError,
        classify::{self, StatusClasses},
    },
    event::{Reason, ReasonCode},
};

const MANDATORY_FIELD_MISSING: &str = "MANDATORY_FIELD_MISSING";

/// Tells successes from failures, and failures apart.
#[derive(Debug)]
pub(super) struct Refusals {
    codes: BTreeMap<String, FailureClass>,
    messages: BTreeMap<String, FailureClass>,
    statuses: StatusClasses,
    no_hits: BTreeSet<String>,
    unknown_references: BTreeSet<String>,
}

impl Refusals {
    pub(super) fn new(settings: &CrmComSettings) -> Result<Self, SetupError> {
        Ok(Self {
            codes: settings.code_classes.clone(),
            messages: settings.message_classes.clone(),
            statuses: StatusClasses::parse(&settings.status_classes)?,
            no_hits: settings.no_hits_codes.clone(),
            unknown_references: settings.unknown_reference_codes.clone(),
        })
    }

    /// The envelope of a success, or `None` if it has no usable one.
    ///
    /// # Errors
    /// Why the answer is no success.
    pub(super) fn read(&self, answer: &Answer) -> Result<Option<Envelope>, Failure> {
        let by_http = classify::failure(answer, &self.statuses);
        let envelope = answer.as_ref().ok().and_then(|response| wire::envelope(&response.body));
        let Some(envelope) = envelope else { return by_http.map_or(Ok(None), Err) };
        if envelope.status.is_ok() {
            return by_http.map_or(Ok(Some(envelope)), Err);
        }
        let Some(class) = self.class_of(&envelope.status) else {
            // An unknown code decides nothing against a status that does.
            return Err(by_http.unwrap_or_else(|| Failure { effect: Effect::None, ..failure(FailureClass::Rejected) }));
        };
        let unknown = class == FailureClass::Transient || by_http.as_ref().is_some_and(|f| f.effect == Effect::Unknown);
        let waits = matches!(class, FailureClass::Transient | FailureClass::Throttled);
        let mut failure = failure(class);
        if class == FailureClass::Rejected && envelope.status.code == MANDATORY_FIELD_MISSING {
            failure.reason = ReasonCode::MissingField.into();
        }
        let headers = answer.as_ref().ok().map(|response| &response.headers);
        Err(Failure {
            effect: if unknown { Effect::Unknown } else { Effect::None },
            retry_after: headers.filter(|_| waits).and_then(classify::retry_after),
            ..failure
        })
    }

    /// Whether a search that succeeded says by its code that it found nothing.
    pub(super) fn found_nothing(&self, answer: &Answer) -> bool {
        let is_success = answer.as_ref().is_ok_and(|response| response.status.is_success());
        is_success && code(answer).is_some_and(|code| self.no_hits.contains(&code) && !self.codes.contains_key(&code))
    }

    /// Whether a write was refused because the tenant does not have a country, category, group or the like that it names.
    pub(super) fn lacks_reference(&self, answer: &Answer) -> bool {
        code(answer).is_some_and(|code| self.unknown_references.contains(&code))
    }

    fn class_of(&self, status: &Status) -> Option<FailureClass> {
        let configured = self.codes.get(&status.code).copied();
        configured.or_else(|| class_of(&status.code)).or_else(|| {
            let mentioned = self.messages.iter().find(|(part, _)| status.mentions(part));
            mentioned.map(|(_, class)| *class)
        })
    }
}

fn failure(class: FailureClass) -> Failure {
    let code = match class {
        FailureClass::Conflict => ReasonCode::Conflict,
        FailureClass::Rejected => ReasonCode::InvalidField,
        _ => ReasonCode::Refused,
    };
    Failure { class, effect: Effect::None, reason: code.into(), retry_after: None }
}

fn class_of(code: &str) -> Option<FailureClass> {
    Some(match code {
        "INVALID_TOKEN" | "TOKEN_EXPIRED" | "AUTHENTICATION_FAILED" => FailureClass::Auth,
        "ACCESS_DENIED" => FailureClass::Connection,
        MANDATORY_FIELD_MISSING | "INVALID_VALUE" | "INVALID_FORMAT" | "REFERENCE_NOT_FOUND" => FailureClass::Rejected,
        "NOT_FOUND" => FailureClass::Gone,
        "DUPLICATE" | "TYPE_ALREADY_EXISTS" => FailureClass::Conflict,
        "SYSTEM_ERROR" => FailureClass::Transient,
        _ => return None,
    })
}

/// The `status.code` of an answer, if it has one.
pub(super) fn code(answer: &Answer) -> Option<String> {
    let response = answer.as_ref().ok()?;
    wire::envelope(&response.body).map(|envelope| envelope.status.code)
}

/// Adds what a failure may tell of its answer: the HTTP status, and the code if it cannot be anything else. `sent` is what
/// it might quote.
pub(super) fn told<'a>(failure: Failure, answer: &Answer, sent: impl IntoIterator<Item = &'a str>) -> Failure {
    let http_status = match answer {
        Ok(response) => Some(response.status.as_u16()),
        Err(TransportError::UnusableBody { status, .. }) => Some(status.as_u16()),
        Err(_) => None,
    };
    let crm_code = code(answer).and_then(|code| classify::crm_code(&code, sent));
    let reason = Reason { http_status, crm_code, ..failure.reason };
    Failure { reason, ..failure }
}
