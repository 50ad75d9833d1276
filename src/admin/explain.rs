//! `POST /explain`: where a contact is, who it is, and why.
//!
//! The question travels in a body, never in an address: what services call somebody, or how they write to them, has no
//! place in the logs of whatever stands between.
//!
//! There is no access control yet, so only this machine may ask. The address listened on must be loopback; the `Host`
//! must name this machine, so that no web page whose name was made to lead here can read the answer; and what a browser
//! sends on behalf of a page (an `Origin`, or a body that is not JSON) is refused.

use std::{net::Ipv4Addr, net::Ipv6Addr, time::Duration};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, StatusCode, Uri, header, uri::Authority},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::timeout;
use tracing::warn;

use crate::explain::{Answer, Asked, Desk, ExplainError};

/// Far more than a source, a subject and an address may have.
const QUESTION_BYTES_MAX: usize = 16 * 1024;
const FORM: &str = "a question is {\"about\": TEXT} or {\"member\": {\"source\": TEXT, \"subject\": TEXT}}";
/// How long a question may take to arrive.
const QUESTION_DEADLINE: Duration = Duration::from_secs(10);
/// When to ask again.
const RETRY_AFTER_SECONDS: &str = "5";

/// What the route needs to know.
#[derive(Debug, Clone)]
pub(super) struct Explaining {
    pub(super) desk: Desk,
    /// Only this machine can reach the address that is listened on.
    pub(super) loopback: bool,
}

pub(super) async fn explain(State(explaining): State<Explaining>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if let Err((status, why)) = permitted(explaining.loopback, &parts.uri, &parts.headers) {
        return refused(status, why);
    }
    let asked = match question::<Asked>(body, QUESTION_BYTES_MAX, FORM).await {
        Ok(asked) => asked,
        Err((status, why)) => return refused(status, why),
    };
    match explaining.desk.explain(&asked).await {
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

/// Whether whoever asks may be told: a question, which is JSON.
pub(super) fn permitted(loopback: bool, uri: &Uri, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
    admitted(loopback, uri, headers)?;
    let json = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(|kind| {
        let essence = kind.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case("application/json")
    });
    if json { Ok(()) } else { Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "a question is application/json")) }
}

/// Whether whoever asks may be told, whatever is asked.
pub(super) fn admitted(loopback: bool, uri: &Uri, headers: &HeaderMap) -> Result<(), (StatusCode, &'static str)> {
    let forbidden = |why| Err((StatusCode::FORBIDDEN, why));
    if !loopback {
        return forbidden(
            "contacts are explained and driven anew on a loopback address alone, since nobody is asked here who they are: set \
             admin.operator_listen (or admin.listen) to 127.0.0.1 with a port and ask on the worker's own machine",
        );
    }
    let host = headers.get(header::HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    if !host.is_some_and(|host| is_this_machine(&host)) || uri.authority().is_some_and(|host| !is_this_machine(host)) {
        return forbidden("the request is addressed to another host than this machine: use 127.0.0.1 or localhost");
    }
    if headers.contains_key(header::ORIGIN) {
        return forbidden("web pages are told nothing");
    }
    Ok(())
}

/// Whether a name can lead nowhere else, whoever is asked for its address.
fn is_this_machine(host: &Authority) -> bool {
    let name = host.host();
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || bare.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || bare.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback())
}

/// Reads what is asked, of at most `bytes_max`; `form` says what it should be.
pub(super) async fn question<T: DeserializeOwned>(
    body: Body,
    bytes_max: usize,
    form: &'static str,
) -> Result<T, (StatusCode, &'static str)> {
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
    use std::net::{IpAddr, SocketAddr};

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
    const QUESTION: &str = r#"{"about":"ann@example.com"}"#;

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
    async fn whoever_is_not_on_this_machine_or_is_a_web_page_is_refused() {
        let admin = started(Ipv4Addr::LOCALHOST.into()).await;
        // Nobody answers at this desk yet: 503 is as far as a question comes.
        for (headers, expected) in [
            (&["host: localhost", JSON][..], 503),
            (&["host: LOCALHOST:9464", JSON], 503),
            (&["host: 127.0.0.1:9464", JSON], 503),
            (&["host: 127.8.0.1", JSON], 503),
            (&["host: [::1]:9464", "content-type: application/json; charset=utf-8"], 503),
            (&["host: example.com", JSON], 403),
            (&["host: localhost.example.com", JSON], 403),
            (&["host: 127.0.0.1.example.com", JSON], 403),
            (&["host: 0.0.0.0:9464", JSON], 403),
            (&["host: 10.0.0.1", JSON], 403),
            (&["host: ", JSON], 403),
            (&["host: localhost", "origin: http://localhost:9464", JSON], 403),
            (&["host: localhost", "origin: null", JSON], 403),
            (&["host: localhost"], 415),
            (&["host: localhost", "content-type: text/plain"], 415),
        ] {
            let (status, body) = post(&admin, headers, QUESTION).await;
            assert_eq!(status, expected, "{headers:?}: {body}");
            assert!(!body.contains("ann"), "{body}");
        }
        admin.stop().await;
    }

    #[tokio::test]
    async fn an_address_that_others_can_reach_explains_nothing_and_says_why() {
        let admin = started(Ipv4Addr::UNSPECIFIED.into()).await;
        let (status, body) = post(&admin, &["host: localhost", JSON], QUESTION).await;
        assert_eq!(status, 403);
        assert!(body.contains("admin.listen"), "{body}");
        admin.stop().await;
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

    #[test]
    fn a_request_to_another_host_in_its_first_line_is_refused() {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, "localhost".parse().unwrap());
        headers.insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
        for (uri, expected) in
            [("/explain", true), ("http://localhost:1/explain", true), ("http://example.com/explain", false)]
        {
            assert_eq!(permitted(true, &uri.parse().unwrap(), &headers).is_ok(), expected, "{uri}");
        }
    }
}
