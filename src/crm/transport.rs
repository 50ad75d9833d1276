//! One HTTP exchange with a CRM: time-outs on everything, a body limit, no redirects, no proxy from the environment.
//!
//! What went wrong matters less than what may have happened all the same. A failure to connect is `NotSent`: the CRM
//! cannot have stored anything. From the first byte that may have left, a failure is `Unanswered`. Once a status line
//! is here, trouble with the body is `UnusableBody`, because the status alone is often enough. In doubt, the answer
//! that promises less is given. For the same reason nothing is repeated here: whether a request may be sent twice is
//! known to the delivery, not to the client.
//!
//! Texts of errors come from the socket, the TLS layer and the HTTP parser. They never hold the URL, a header or a body.

use std::{error::Error as _, fmt, sync::Once, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use url::Url;

use super::{Answer, Request, Response, TransportError};
use crate::config::DeliverySettings;

/// Sends one request and waits for its whole answer.
///
/// Two implementations: [`Http`] over TCP, and the simulated one of the tests, which hands requests to a sandbox in the
/// same process so that a paused clock can be used.
#[async_trait]
pub trait Transport: Send + Sync + fmt::Debug {
    /// Always ends within the CRM's `request_deadline`, connect included. At the deadline the answer is `Unanswered`,
    /// or `UnusableBody` if the status line had come by then.
    async fn exchange(&self, request: Request) -> Answer;
}

/// How long a connection without a request is kept. Shorter than what servers and middleboxes usually grant, so that a
/// request seldom meets a connection that is just being closed and ends as unanswered.
const IDLE_CONNECTION_MAX: Duration = Duration::from_secs(20);

const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// HTTP/1.1 over TCP, with TLS where the base URL says `https`. Connections are kept and shared; cheap to clone.
#[derive(Clone)]
pub struct Http {
    client: reqwest::Client,
    /// Without a slash at its end: every request's path begins with one.
    base_url: String,
    request_deadline: Duration,
    response_bytes_max: usize,
}

impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").field("base_url", &self.base_url).finish_non_exhaustive()
    }
}

/// Why no client can be made from the settings.
#[derive(Debug, thiserror::Error)]
pub enum HttpSetupError {
    #[error("the base URL is not usable: {why}")]
    BaseUrl { why: &'static str },
    /// On Linux this is mostly a machine without root certificates.
    #[error("the HTTP client could not be set up: {reason}")]
    Client { reason: String },
}

/// A client for addresses like `url` that does nothing behind the caller's back: no redirects, since a credential would
/// travel with them; no proxy from the environment; no second try.
pub(crate) fn client_builder(url: &Url) -> reqwest::ClientBuilder {
    install_crypto_provider();
    let builder = reqwest::Client::builder()
        .user_agent(USER_AGENT)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .retry(reqwest::retry::never())
        .http1_only();
    // Without TLS there is nothing to verify, and a machine without root certificates can run all the same.
    if url.scheme() == "https" { builder.https_only(true) } else { builder.tls_certs_only(std::iter::empty()) }
}

impl Http {
    pub fn new(base_url: &str, delivery: &DeliverySettings) -> Result<Self, HttpSetupError> {
        let url = Url::parse(base_url).map_err(|_malformed| HttpSetupError::BaseUrl { why: "it is not a URL" })?;
        let builder = client_builder(&url)
            .connect_timeout(delivery.connect_timeout.min(delivery.request_deadline))
            .pool_max_idle_per_host(delivery.in_flight_max);
        Self::build(&url, builder, delivery.request_deadline, delivery.response_bytes_max)
    }

    /// To what is no CRM, and is asked one thing at a time.
    pub(crate) fn to(base_url: &str, deadline: Duration, response_bytes_max: usize) -> Result<Self, HttpSetupError> {
        let url = Url::parse(base_url).map_err(|_malformed| HttpSetupError::BaseUrl { why: "it is not a URL" })?;
        let builder = client_builder(&url).connect_timeout(deadline).pool_max_idle_per_host(1);
        Self::build(&url, builder, deadline, response_bytes_max)
    }

    fn build(
        url: &Url,
        builder: reqwest::ClientBuilder,
        request_deadline: Duration,
        response_bytes_max: usize,
    ) -> Result<Self, HttpSetupError> {
        check_base_url(url)?;
        let client = builder.pool_idle_timeout(IDLE_CONNECTION_MAX).build();
        let client = client.map_err(|error| HttpSetupError::Client { reason: describe(error) })?;
        let base_url = url.as_str().trim_end_matches('/').to_owned();
        Ok(Self { client, base_url, request_deadline, response_bytes_max })
    }

    async fn send(&self, request: Request) -> Result<reqwest::Response, TransportError> {
        assert!(request.path.starts_with('/'), "a connector's path begins with a slash");
        let url = Url::parse(&format!("{}{}", self.base_url, request.path))
            .map_err(|_malformed| TransportError::NotSent { reason: "the request's path is malformed".to_owned() })?;
        let mut headers = http::HeaderMap::with_capacity(request.headers.len());
        headers.extend(request.headers);
        let sending = self.client.request(request.method, url).headers(headers).body(request.body).send();
        sending.await.map_err(|error| {
            if error.is_connect() || error.is_builder() {
                TransportError::NotSent { reason: describe(error) }
            } else {
                TransportError::Unanswered { reason: describe(error) }
            }
        })
    }

    async fn read_body(&self, response: &mut reqwest::Response) -> Result<Bytes, String> {
        let limit = self.response_bytes_max;
        let too_large = || format!("longer than {limit} bytes");
        if response.content_length().is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(describe)? {
            if body.len() + chunk.len() > limit {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }
}

#[async_trait]
impl Transport for Http {
    async fn exchange(&self, request: Request) -> Answer {
        let deadline = tokio::time::Instant::now() + self.request_deadline;
        let mut response = match tokio::time::timeout_at(deadline, self.send(request)).await {
            Ok(sent) => sent?,
            Err(_elapsed) => {
                return Err(TransportError::Unanswered { reason: "the deadline passed".to_owned() });
            }
        };
        let status = response.status();
        let body = match tokio::time::timeout_at(deadline, self.read_body(&mut response)).await {
            Ok(read) => read.map_err(|reason| TransportError::UnusableBody { status, reason })?,
            Err(_elapsed) => {
                return Err(TransportError::UnusableBody { status, reason: "the deadline passed".to_owned() });
            }
        };
        Ok(Response { status, headers: std::mem::take(response.headers_mut()), body })
    }
}

fn check_base_url(url: &Url) -> Result<(), HttpSetupError> {
    let why = if !matches!(url.scheme(), "http" | "https") {
        "its scheme is neither http nor https"
    } else if url.host_str().is_none_or(str::is_empty) {
        "it names no host"
    } else if !url.username().is_empty() || url.password().is_some() {
        "it holds a user or password; credentials have settings of their own"
    } else if url.query().is_some() || url.fragment().is_some() {
        "it holds a query or fragment"
    } else {
        return Ok(());
    };
    Err(HttpSetupError::BaseUrl { why })
}

/// TLS needs one cryptography provider per process; whoever comes first installs it.
fn install_crypto_provider() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if rustls::crypto::ring::default_provider().install_default().is_err() {
            tracing::debug!("a TLS cryptography provider was installed before");
        }
    });
}

/// What went wrong, without the URL, which an error of the client would otherwise quote in full.
pub(crate) fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some layers repeat their source; saying it once is enough.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::crm::testing::delivery_settings;

    fn request(path: &str) -> Request {
        Request {
            method: http::Method::POST,
            path: path.to_owned(),
            headers: vec![(http::HeaderName::from_static("apitoken"), http::HeaderValue::from_static("token-canary"))],
            body: Bytes::from_static(b"body-canary"),
            kind: crate::crm::RequestKind::Set,
        }
    }

    /// A server that answers every connection with `answer` after it has read something, and then does as told.
    async fn server(answer: &'static [u8], hold: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut socket, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut buffer = [0; 4096];
                    let read = socket.read(&mut buffer).await.unwrap();
                    assert!(read > 0);
                    socket.write_all(answer).await.unwrap();
                    if hold {
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        format!("http://{address}/base/")
    }

    fn http_with(base_url: &str, change: impl FnOnce(&mut DeliverySettings)) -> Http {
        let mut settings = delivery_settings();
        change(&mut settings);
        Http::new(base_url, &settings).unwrap()
    }

    #[tokio::test]
    async fn a_whole_answer_comes_back_as_it_is() {
        let url = server(b"HTTP/1.1 201 Created\r\ncontent-length: 2\r\nx-trace: 7\r\n\r\nok", false).await;
        let response = http_with(&url, |_| ()).exchange(request("/x")).await.unwrap();
        assert_eq!(response.status, 201);
        assert_eq!(response.headers["x-trace"], "7");
        assert_eq!(response.body, "ok");
    }

    #[tokio::test]
    async fn segments_of_two_dots_lead_above_the_base_url() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = http_with(&format!("http://{}/api/v2", listener.local_addr().unwrap()), |_| ());
        let served = async {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            let read = socket.read(&mut buffer).await.unwrap();
            socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            String::from_utf8_lossy(&buffer[..read]).lines().next().unwrap().to_owned()
        };
        let (answer, line) = tokio::join!(http.exchange(request("/../../files/x?id=../1")), served);
        assert_eq!((answer.unwrap().status.as_u16(), line.as_str()), (204, "POST /files/x?id=../1 HTTP/1.1"));
    }

    #[tokio::test]
    async fn a_redirect_is_an_answer_and_is_not_followed() {
        let url = server(b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n", false).await;
        let response = http_with(&url, |_| ()).exchange(request("/x")).await.unwrap();
        assert_eq!(response.status, 302);
    }

    #[tokio::test]
    async fn a_refused_connection_and_an_unknown_host_mean_that_nothing_was_sent() {
        let closed = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            format!("http://{}", listener.local_addr().unwrap())
        };
        for base_url in [closed.as_str(), "http://nowhere.invalid"] {
            let error = http_with(base_url, |_| ()).exchange(request("/x?q=query-canary")).await.unwrap_err();
            assert!(matches!(error, TransportError::NotSent { .. }), "{error}");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_server_without_tls_behind_https_means_that_nothing_was_sent() {
        let url = server(b"HTTP/1.1 400 Bad Request\r\n\r\n", false).await.replace("http:", "https:");
        // A machine without root certificates cannot make the client at all, which is said at start.
        match Http::new(&url, &delivery_settings()) {
            Ok(http) => {
                let error = http.exchange(request("/x")).await.unwrap_err();
                assert!(matches!(error, TransportError::NotSent { .. }), "{error}");
            }
            Err(error) => assert!(error.to_string().contains("certificates"), "{error}"),
        }
    }

    #[tokio::test]
    async fn a_connection_closed_without_an_answer_is_unanswered_and_says_no_more_than_that() {
        let url = server(b"", false).await;
        let error = http_with(&url, |_| ()).exchange(request("/x?q=query-canary")).await.unwrap_err();
        assert!(matches!(error, TransportError::Unanswered { .. }), "{error}");
        assert!(!error.to_string().contains("canary"), "{error}");
    }

    #[tokio::test]
    async fn silence_is_unanswered_at_the_deadline() {
        let url = server(b"", true).await;
        let http = http_with(&url, |settings| settings.request_deadline = Duration::from_millis(50));
        let error = http.exchange(request("/x")).await.unwrap_err();
        assert!(matches!(error, TransportError::Unanswered { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_body_that_does_not_end_or_is_cut_off_keeps_its_status() {
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfive5";
        for hold in [true, false] {
            let url = server(head, hold).await;
            let http = http_with(&url, |settings| settings.request_deadline = Duration::from_millis(300));
            let error = http.exchange(request("/x")).await.unwrap_err();
            assert!(matches!(error, TransportError::UnusableBody { status, .. } if status == 200), "{error}");
        }
    }

    #[tokio::test]
    async fn a_body_over_the_limit_is_unusable_whether_announced_or_not() {
        let announced = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 1000\r\n\r\n";
        let chunked = b"HTTP/1.1 503 Service Unavailable\r\ntransfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n";
        for answer in [&announced[..], &chunked[..]] {
            let url = server(answer, true).await;
            let http = http_with(&url, |settings| settings.response_bytes_max = 9);
            let error = http.exchange(request("/x")).await.unwrap_err();
            let TransportError::UnusableBody { status, reason } = error else { panic!("{error}") };
            assert_eq!(status, 503);
            assert_eq!(reason, "longer than 9 bytes");
        }
    }

    #[test]
    fn a_base_url_that_cannot_be_meant_is_refused() {
        for bad in ["ftp://host", "no url", "https://user:pass@host/", "https://host/?q=1", "https://host/#part"] {
            let error = Http::new(bad, &delivery_settings()).unwrap_err();
            assert!(matches!(error, HttpSetupError::BaseUrl { .. }), "{bad}: {error}");
        }
    }
}
