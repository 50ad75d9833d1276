//! `POST /explain`: where a contact is, who it is, and why.
//!
//! The question travels in a body, never in an address: what services call somebody, or how they write to them, has no
//! place in the logs of whatever stands between.

use std::time::Duration;

use axum::{
    body::{Body, HttpBody, to_bytes},
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;
use tracing::warn;

use crate::{
    audit::AuditError,
    explain::{Answer, Asked, Desk, ExplainError},
};

/// Far more than a source, a subject and an address may have.
const QUESTION_BYTES_MAX: usize = 16 * 1024;
const FORM: &str = "a question is {\"about\": TEXT} or {\"member\": {\"source\": TEXT, \"subject\": TEXT}}";
/// How long a question may take to arrive.
const QUESTION_DEADLINE: Duration = Duration::from_secs(10);
/// When to ask again.
const RETRY_AFTER_SECONDS: &str = "5";

pub(super) async fn explain(State(desk): State<Desk>, body: Body) -> Response {
    let asked = match question::<Asked>(body, QUESTION_BYTES_MAX, FORM).await {
        Ok(asked) => asked,
        Err((status, why)) => return refused(status, why),
    };
    match desk.explain(&asked).await {
        Ok(answer) => answered(&answer),
        Err(error @ ExplainError::Question(_)) => refused(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(error @ (ExplainError::Busy | ExplainError::Closed)) => later(&error.to_string()),
        Err(ExplainError::View(error)) => {
            warn!(error = &error as &dyn std::error::Error, "a contact could not be explained");
            refused(StatusCode::INTERNAL_SERVER_ERROR, &format!("the view cannot be read: {error}"))
        }
    }
}

/// It may be asked again.
pub(super) fn later(why: &str) -> Response {
    let mut response = refused(StatusCode::SERVICE_UNAVAILABLE, why);
    let later = header::HeaderValue::from_static(RETRY_AFTER_SECONDS);
    response.headers_mut().insert(header::RETRY_AFTER, later);
    response
}

/// Why an action was not done.
pub(super) fn not_acted(error: &AuditError) -> Response {
    match error {
        AuditError::Log(failure) if failure.is_transient() => later(&format!("{error}: {failure}")),
        AuditError::Log(_) => {
            warn!(error = error as &dyn std::error::Error, "an operator's action could not be written");
            refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
        }
        AuditError::Name | AuditError::Reason | AuditError::Nameless | AuditError::Reasonless { .. } => {
            refused(StatusCode::BAD_REQUEST, &error.to_string())
        }
    }
}

/// Found or not, the body is an answer.
fn answered(answer: &Answer) -> Response {
    let status = if answer.contact.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
    told(status, answer)
}

pub(super) fn told(status: StatusCode, answer: &impl Serialize) -> Response {
    let mut json = serde_json::to_vec(answer).expect("an answer is made of what JSON can express");
    json.push(b'\n');
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, json).into_response()
}

pub(super) fn refused(status: StatusCode, why: &str) -> Response {
    (status, [(header::CACHE_CONTROL, "no-store")], format!("{why}\n")).into_response()
}

/// Reads what is asked, of at most `bytes_max`; `form` says what it should be.
pub(super) async fn question<T: DeserializeOwned>(
    body: Body,
    bytes_max: usize,
    form: &'static str,
) -> Result<T, (StatusCode, &'static str)> {
    // What says that it is too long is not read at all.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err((StatusCode::PAYLOAD_TOO_LARGE, "the question is too long"));
    }
    let Ok(read) = timeout(QUESTION_DEADLINE, to_bytes(body, bytes_max)).await else {
        return Err((StatusCode::REQUEST_TIMEOUT, "the question did not come in time"));
    };
    // It broke off, or is longer; whoever is still there has sent the latter.
    let Ok(bytes) = read else {
        return Err((StatusCode::PAYLOAD_TOO_LARGE, "the question is too long"));
    };
    // Not serde's own message: it quotes what it found.
    serde_json::from_slice(&bytes).or(Err((StatusCode::BAD_REQUEST, form)))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::{
        admin::{Admin, Readiness},
        metrics::Registry,
    };

    const JSON: &str = "content-type: application/json";

    async fn started(address: IpAddr) -> Admin {
        let address = SocketAddr::new(address, 0);
        Admin::start(address, Registry::new(), Readiness::default(), Desk::default()).await.unwrap()
    }

    /// Status and body.
    async fn post(admin: &Admin, headers: &[&str], body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, admin.address().port())).await.unwrap();
        let headers: String = headers.iter().map(|header| format!("{header}\r\n")).collect();
        let length = body.len();
        let request =
            format!("POST /explain HTTP/1.1\r\n{headers}connection: close\r\ncontent-length: {length}\r\n\r\n{body}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    #[tokio::test]
    async fn what_is_no_question_is_refused_without_being_repeated() {
        let admin = started(Ipv4Addr::LOCALHOST.into()).await;
        let long = format!(r#"{{"about":"{}"}}"#, "ann".repeat(QUESTION_BYTES_MAX));
        for (body, expected) in
            [("ann", 400), (r#"{"email":"ann"}"#, 400), (r#"{"about":7}"#, 400), ("", 400), (long.as_str(), 413)]
        {
            let (status, told) = post(&admin, &["host: localhost", JSON], body).await;
            assert_eq!(status, expected, "{told}");
            assert!(!told.contains("ann"), "{told}");
        }
        admin.stop().await;
    }
}
