//! What an answer means, where a CRM's documentation says nothing else.
//!
//! Three things are read off an answer: the class (what comes next), the effect (whether the CRM may have stored what
//! was sent), and how long it asks us to wait. Statuses that speak about one contact reject it; statuses that speak
//! about the connection (a wrong path, a missing right, a redirect) pause the CRM, or a typing error in `base_url` would
//! reject every contact in turn.
//!
//! Only codes leave this file, never a CRM's message: messages quote the contact.

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderMap, StatusCode, header::RETRY_AFTER};

use super::{Answer, Effect, Failure, FailureClass, RetryAfter, TransportError};
use crate::event::{Reason, ReasonCode};

/// HTTP status to class, from configuration; looked at before the built-in reading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusClasses(BTreeMap<u16, FailureClass>);

/// An entry of the configured table that cannot be meant.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{status:?} is not an HTTP status from 300 to 599")]
pub struct UnknownStatus {
    pub status: String,
}

impl StatusClasses {
    pub fn parse(table: &BTreeMap<String, FailureClass>) -> Result<Self, UnknownStatus> {
        let parsed = table.iter().map(|(status, class)| {
            let number = status.parse().ok().filter(|number| (300..600).contains(number));
            number.map(|number| (number, *class)).ok_or_else(|| UnknownStatus { status: status.clone() })
        });
        parsed.collect::<Result<_, _>>().map(Self)
    }
}

/// Why an answer is not a success; `None` for any 2xx, with a usable body or without.
pub fn failure(answer: &Answer, overrides: &StatusClasses) -> Option<Failure> {
    let (status, headers) = match answer {
        Ok(response) => (response.status, Some(&response.headers)),
        Err(TransportError::UnusableBody { status, .. }) => (*status, None),
        Err(TransportError::NotSent { .. }) => return Some(unsent()),
        Err(TransportError::Unanswered { .. }) => return Some(unanswered()),
    };
    if status.is_success() {
        return None;
    }
    let class = overrides.0.get(&status.as_u16()).copied().unwrap_or_else(|| class_of(status));
    let waits = matches!(class, FailureClass::Transient | FailureClass::Throttled);
    Some(Failure {
        class,
        effect: effect_of(status),
        reason: Reason { http_status: Some(status.as_u16()), ..code_of(status, class).into() },
        retry_after: headers.filter(|_| waits).and_then(retry_after),
    })
}

fn unsent() -> Failure {
    Failure {
        class: FailureClass::Transient,
        effect: Effect::None,
        reason: ReasonCode::Refused.into(),
        retry_after: None,
    }
}

fn unanswered() -> Failure {
    Failure { effect: Effect::Unknown, ..unsent() }
}

fn class_of(status: StatusCode) -> FailureClass {
    match status.as_u16() {
        401 => FailureClass::Auth,
        403 | 404 | 405 | 300..=399 => FailureClass::Connection,
        409 => FailureClass::Conflict,
        429 => FailureClass::Throttled,
        408 | 425 | 500..=599 => FailureClass::Transient,
        400..=499 => FailureClass::Rejected,
        // An interim answer never reaches us, and 600 and above exist in no standard: an unknown thing answers there.
        _ => FailureClass::Connection,
    }
}

/// By status and not by class: overriding what comes next does not change what may have happened.
fn effect_of(status: StatusCode) -> Effect {
    match status.as_u16() {
        408 | 425 | 500.. => Effect::Unknown,
        _ => Effect::None,
    }
}

fn code_of(status: StatusCode, class: FailureClass) -> ReasonCode {
    match (status.as_u16(), class) {
        (_, FailureClass::Conflict) => ReasonCode::Conflict,
        (413, _) => ReasonCode::TooLarge,
        (400 | 422, FailureClass::Rejected) => ReasonCode::InvalidField,
        _ => ReasonCode::Refused,
    }
}

/// Reads `Retry-After` (RFC 9110, section 10.2.3): seconds or a date. Anything else counts as not said.
pub fn retry_after(headers: &HeaderMap) -> Option<RetryAfter> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().map(|seconds| RetryAfter::Delay(Duration::from_secs(seconds)));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    jiff::Timestamp::try_from(date).ok().map(RetryAfter::At)
}

/// Longest text that may pass for a code.
const CODE_LENGTH_MAX: usize = 64;

/// The words that error codes are made of. A closed list, because a CRM may quote what we did not send it this time: an
/// older value, or somebody else's.
const CODE_WORDS: &[&str] = &[
    "access",
    "account",
    "allowed",
    "already",
    "api",
    "authentication",
    "authorization",
    "bad",
    "client",
    "conflict",
    "constraint",
    "contact",
    "country",
    "credentials",
    "data",
    "denied",
    "disabled",
    "duplicate",
    "email",
    "empty",
    "entity",
    "error",
    "exceeded",
    "exception",
    "exists",
    "expired",
    "failed",
    "failure",
    "field",
    "forbidden",
    "format",
    "found",
    "gone",
    "grant",
    "internal",
    "invalid",
    "key",
    "large",
    "length",
    "limit",
    "limited",
    "locked",
    "long",
    "malformed",
    "mandatory",
    "media",
    "method",
    "missing",
    "name",
    "not",
    "null",
    "number",
    "parameter",
    "payload",
    "payment",
    "permission",
    "phone",
    "quota",
    "rate",
    "reference",
    "request",
    "requests",
    "required",
    "resource",
    "schema",
    "scope",
    "server",
    "service",
    "short",
    "state",
    "status",
    "syntax",
    "system",
    "temporarily",
    "tenant",
    "throttled",
    "timeout",
    "title",
    "token",
    "too",
    "many",
    "type",
    "unauthorised",
    "unauthorized",
    "unavailable",
    "unique",
    "unknown",
    "unprocessable",
    "unsupported",
    "user",
    "validation",
    "value",
    "version",
    "violation",
    "wrong",
];

/// `text`, if it can only be an error code: made of [`CODE_WORDS`] alone. A CRM might put a message, or the value at fault,
/// where its code belongs, so what is part of something that was sent is none either.
pub fn crm_code<'a>(text: &str, sent: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let shaped = (1..=CODE_LENGTH_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if !shaped || !words(text).all(|word| CODE_WORDS.contains(&word.as_str())) {
        return None;
    }
    let lower = text.to_lowercase();
    let quotes = |value: &str| {
        let value = value.to_lowercase();
        // Very short values (`a`, `1`) are part of almost any code.
        value.contains(&lower) || (value.len() > 2 && lower.contains(&value))
    };
    (!sent.into_iter().any(quotes)).then(|| text.to_owned())
}

/// The words of `snake_case`, `dotted.codes`, `CamelCase` and their like, in lower case.
fn words(code: &str) -> impl Iterator<Item = String> {
    let mut words = vec![String::new()];
    let mut after_lower = false;
    for letter in code.chars() {
        if matches!(letter, '_' | '.' | '-') || (letter.is_ascii_uppercase() && after_lower) {
            words.push(String::new());
        }
        if letter.is_ascii_alphanumeric() {
            words.last_mut().expect("there is one from the start").push(letter.to_ascii_lowercase());
        }
        after_lower = letter.is_ascii_lowercase();
    }
    words.into_iter().filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::crm::Response;

    fn answered(status: u16) -> Answer {
        let status = StatusCode::from_u16(status).unwrap();
        Ok(Response { status, headers: HeaderMap::new(), body: Bytes::new() })
    }

    #[test]
    fn each_answer_has_its_class_and_its_effect() {
        use FailureClass::{Auth, Conflict, Connection, Rejected, Throttled, Transient};
        let check = |answer: &Answer, class, effect, code| {
            let failure = failure(answer, &StatusClasses::default()).unwrap();
            assert_eq!((failure.class, failure.effect, failure.reason.code), (class, effect, code), "{answer:?}");
        };
        let statuses = [
            (301, Connection, Effect::None, ReasonCode::Refused),
            (302, Connection, Effect::None, ReasonCode::Refused),
            (304, Connection, Effect::None, ReasonCode::Refused),
            (400, Rejected, Effect::None, ReasonCode::InvalidField),
            (401, Auth, Effect::None, ReasonCode::Refused),
            (402, Rejected, Effect::None, ReasonCode::Refused),
            (403, Connection, Effect::None, ReasonCode::Refused),
            (404, Connection, Effect::None, ReasonCode::Refused),
            (405, Connection, Effect::None, ReasonCode::Refused),
            (408, Transient, Effect::Unknown, ReasonCode::Refused),
            (409, Conflict, Effect::None, ReasonCode::Conflict),
            (410, Rejected, Effect::None, ReasonCode::Refused),
            (413, Rejected, Effect::None, ReasonCode::TooLarge),
            (415, Rejected, Effect::None, ReasonCode::Refused),
            (422, Rejected, Effect::None, ReasonCode::InvalidField),
            (425, Transient, Effect::Unknown, ReasonCode::Refused),
            (429, Throttled, Effect::None, ReasonCode::Refused),
            (500, Transient, Effect::Unknown, ReasonCode::Refused),
            (501, Transient, Effect::Unknown, ReasonCode::Refused),
            (502, Transient, Effect::Unknown, ReasonCode::Refused),
            (503, Transient, Effect::Unknown, ReasonCode::Refused),
            (504, Transient, Effect::Unknown, ReasonCode::Refused),
            (599, Transient, Effect::Unknown, ReasonCode::Refused),
        ];
        for (status, class, effect, code) in statuses {
            check(&answered(status), class, effect, code);
        }
        let reason = String::new;
        check(&Err(TransportError::NotSent { reason: reason() }), Transient, Effect::None, ReasonCode::Refused);
        check(&Err(TransportError::Unanswered { reason: reason() }), Transient, Effect::Unknown, ReasonCode::Refused);
        let cut_off = Err(TransportError::UnusableBody { status: StatusCode::BAD_GATEWAY, reason: reason() });
        check(&cut_off, Transient, Effect::Unknown, ReasonCode::Refused);
    }

    #[test]
    fn any_2xx_is_success_even_without_a_usable_body() {
        let cut_off = Err(TransportError::UnusableBody { status: StatusCode::OK, reason: String::new() });
        for answer in [answered(200), answered(201), answered(202), answered(204), answered(299), cut_off] {
            assert_eq!(failure(&answer, &StatusClasses::default()), None, "{answer:?}");
        }
    }

    #[test]
    fn a_configured_class_comes_first_but_the_effect_stays() {
        let table =
            BTreeMap::from([("500".to_owned(), FailureClass::Rejected), ("404".to_owned(), FailureClass::Transient)]);
        let overrides = StatusClasses::parse(&table).unwrap();
        let failed = failure(&answered(500), &overrides).unwrap();
        assert_eq!((failed.class, failed.effect), (FailureClass::Rejected, Effect::Unknown));
        let failed = failure(&answered(404), &overrides).unwrap();
        assert_eq!((failed.class, failed.effect), (FailureClass::Transient, Effect::None));
    }

    #[test]
    fn only_statuses_that_are_failures_can_be_given_a_class() {
        for status in ["200", "99", "600", "4xx", "", "-400"] {
            let table = BTreeMap::from([(status.to_owned(), FailureClass::Transient)]);
            assert_eq!(StatusClasses::parse(&table), Err(UnknownStatus { status: status.to_owned() }));
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_anything_else_is_not_said() {
        let check = |text: &str, expected| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
            assert_eq!(retry_after(&headers), expected, "{text:?}");
        };
        let seconds = |seconds| Some(RetryAfter::Delay(Duration::from_secs(seconds)));
        check("0", seconds(0));
        check("120", seconds(120));
        check(" 7 ", seconds(7));
        let date = Some(RetryAfter::At("1994-11-06T08:49:37Z".parse().unwrap()));
        check("Sun, 06 Nov 1994 08:49:37 GMT", date);
        check("Sunday, 06-Nov-94 08:49:37 GMT", date);
        for garbage in
            ["", "-1", "+5", "1.5", "soon", "1e3", "99999999999999999999999", "Sun, 99 Nov 1994 08:49:37 GMT"]
        {
            check(garbage, None);
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn retry_after_is_kept_only_where_waiting_helps() {
        let check = |status, kept| {
            let mut answer = answered(status);
            answer.as_mut().unwrap().headers.insert(RETRY_AFTER, "5".parse().unwrap());
            assert_eq!(failure(&answer, &StatusClasses::default()).unwrap().retry_after.is_some(), kept, "{status}");
        };
        check(429, true);
        check(503, true);
        check(400, false);
        check(401, false);
    }

    #[test]
    fn a_code_is_kept_only_if_it_cannot_be_anything_else() {
        let sent = ["Sundstrom-Vale", "+61400555012", "a"];
        let check = |text: &str, kept: bool| assert_eq!(crm_code(text, sent).is_some(), kept, "{text:?}");
        check("validation_error", true);
        check("contact.email-already_exists", true);
        check("InvalidField", true);
        check("UNAUTHORIZED", true);
        check("E-1042.b", false);
        check("lindqvist", false);
        check("duplicate_lindqvist", false);
        check("7001", false);
        check("", false);
        check("email is required", false);
        check("ilka@example.com", false);
        check("Sundstrom", false);
        check("name_sundstrom-vale_taken", false);
        check("61400555012", false);
        check(&"bad_".repeat(16), true);
        check(&"bad_".repeat(17), false);
    }
}
