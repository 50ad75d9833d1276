//! What SAM's errors mean.
//!
//! A 401 stands for four things, of which only one is cured by another token; logging in again for the others loops, or
//! locks the account. So the code decides, and the status only where there is none.

use std::collections::BTreeMap;

use http::StatusCode;

use super::wire;
use crate::{
    config::NextinteractSamSettings,
    crm::{
        Answer, Effect, Failure, FailureClass, SetupError, TransportError,
        classify::{self, StatusClasses},
    },
    event::ReasonCode,
};

/// SAM's exceptions, each with its code, where that is known, and its class when a write meets it.
const EXCEPTIONS: &[(&str, Option<u16>, FailureClass)] = &[
    ("WSInvalidAuthTokenException", Some(1006), FailureClass::Auth),
    ("WSInsufficientPermissionsException", Some(1003), FailureClass::Connection),
    ("WSAccountLockedException", Some(LOCKED), FailureClass::Connection),
    ("WSAuthenticationFailedException", Some(1005), FailureClass::Connection),
    ("WSNoUsernameOrPasswordException", Some(1001), FailureClass::Connection),
    ("WSInvalidParameterException", Some(1002), FailureClass::Rejected),
    ("WSUserServiceUnavailableException", Some(2002), FailureClass::Transient),
    ("WSCompanyServiceUnavailableException", Some(2021), FailureClass::Transient),
    ("WSCompanyServiceException", Some(COMPANY_SERVICE), FailureClass::Transient),
    ("WSUserServiceException", Some(2001), FailureClass::Transient),
    ("WSCacheServiceException", Some(2027), FailureClass::Transient),
    ("WSCacheServiceUnavailableException", None, FailureClass::Transient),
    ("WSInternalException", Some(2000), FailureClass::Transient),
    ("WSEmailAlreadyExistsException", Some(1010), FailureClass::Conflict),
    ("WSUserNotFoundException", Some(1009), FailureClass::Gone),
];

pub(super) const LOCKED: u16 = 1004;
/// May be the fault of a contact.
pub(super) const COMPANY_SERVICE: u16 = 2020;
/// Answers to a login that say that it will fail again with the same credentials.
const REFUSED_LOGINS: &[u16] = &[1001, 1003, LOCKED, 1005, 1006, 1009];

/// How answers are read.
#[derive(Debug, Clone)]
pub(super) struct Reading {
    error_code_key: String,
    codes: BTreeMap<u16, FailureClass>,
    statuses: StatusClasses,
}

/// A failure, and the code that SAM gave it.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) failure: Failure,
    pub(super) code: Option<u16>,
}

impl Reading {
    pub(super) fn new(settings: &NextinteractSamSettings) -> Result<Self, SetupError> {
        let code = |(code, class): (&String, &FailureClass)| {
            let why = "a key of code_classes is not a number";
            let number = code.parse().map_err(|_no_number| SetupError::Setting { key: "code_classes", why })?;
            Ok((number, *class))
        };
        Ok(Self {
            error_code_key: settings.error_code_key.clone(),
            codes: settings.code_classes.iter().map(code).collect::<Result<_, SetupError>>()?,
            statuses: StatusClasses::parse(&settings.status_classes)?,
        })
    }

    /// Why a write is no success; `None` for any 2xx.
    pub(super) fn write(&self, answer: &Answer) -> Option<Read> {
        let mut failure = classify::failure(answer, &self.statuses)?;
        let Some((name, code, class)) = self.known(answer) else { return Some(Read { failure, code: None }) };
        failure.class = code.and_then(|code| self.codes.get(&code)).copied().unwrap_or(class);
        failure.reason.code = match (failure.class, failure.reason.code) {
            (FailureClass::Conflict, _) => ReasonCode::Conflict,
            (FailureClass::Rejected, _) => ReasonCode::InvalidField,
            (_, ReasonCode::InvalidField | ReasonCode::Conflict) => ReasonCode::Refused,
            (_, code) => code,
        };
        failure.reason.crm_code = name.map(str::to_owned);
        let waits = matches!(failure.class, FailureClass::Transient | FailureClass::Throttled);
        let headers = answer.as_ref().ok().map(|response| &response.headers);
        failure.retry_after = headers.filter(|_| waits).and_then(classify::retry_after);
        Some(Read { failure, code })
    }

    /// Why a login is no success; `None` for any 2xx.
    pub(super) fn login(&self, answer: &Answer) -> Option<Read> {
        let Read { mut failure, code } = self.write(answer)?;
        let overridden = code.is_some_and(|code| self.codes.contains_key(&code));
        failure.class = match (failure.class, code) {
            (class, _) if overridden => class,
            (_, Some(code)) if REFUSED_LOGINS.contains(&code) => FailureClass::Auth,
            // What is wrong with the request is wrong with the settings, and not with a contact.
            (FailureClass::Rejected | FailureClass::Conflict | FailureClass::Gone, _) => FailureClass::Connection,
            (class, _) => class,
        };
        // A login stores nothing.
        failure.effect = Effect::None;
        failure.reason.code = ReasonCode::Refused;
        Some(Read { failure, code })
    }

    /// The exception that an answer names, by its code or else by its name. Names are from the list above, never the body's.
    fn known(&self, answer: &Answer) -> Option<(Option<&'static str>, Option<u16>, FailureClass)> {
        let response = answer.as_ref().ok()?;
        if let Some(code) = wire::error_code(&response.body, &self.error_code_key) {
            let listed = EXCEPTIONS.iter().find(|(_, listed, _)| *listed == Some(code));
            if let Some((name, _, class)) = listed {
                return Some((Some(name), Some(code), *class));
            }
            if let Some(class) = self.codes.get(&code) {
                return Some((None, Some(code), *class));
            }
        }
        let name = wire::exception(&response.body)?;
        let (name, code, class) = EXCEPTIONS.iter().find(|(listed, _, _)| *listed == name)?;
        Some((Some(name), *code, *class))
    }
}

/// A success whose body cannot be used: what became of the contact is not known.
pub(super) fn unreadable(answer: &Answer) -> Failure {
    let status = match answer {
        Ok(response) => response.status,
        Err(TransportError::UnusableBody { status, .. }) => *status,
        Err(TransportError::NotSent { .. } | TransportError::Unanswered { .. }) => StatusCode::OK,
    };
    Failure {
        class: FailureClass::Transient,
        effect: Effect::Unknown,
        reason: crate::event::Reason { http_status: Some(status.as_u16()), ..ReasonCode::Refused.into() },
        retry_after: None,
    }
}
