//! HTTP from the commands: one request, one answer, nothing behind the caller's back.
//!
//! The client is the one that CRMs are spoken to with, and a time-out and a bound are on whatever comes back. Whether something may be sent again is known to the command.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use url::Url;

use crate::crm::transport;

/// From connecting to the end of the answer. Longer than a server may keep a request waiting for its turn and its log.
const DEADLINE: Duration = Duration::from_secs(90);
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// Answers to commands are short; the rest of a longer one is not worth having.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Between two pieces of an answer that comes line by line.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// A line of such an answer is short.
const LINE_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    /// Of every request, beside its own.
    headers: HeaderMap,
}

/// A whole answer, whatever its status.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// Why there is no answer. No text holds the address, a header or a body.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("the address cannot be used: {why}")]
    Address { why: &'static str },
    #[error("the HTTP client could not be set up: {reason}")]
    Setup { reason: String },
    #[error("there was no usable answer: {reason}; see that a worker runs there, and that it listens on that address")]
    Unanswered { reason: String },
}

/// Reads an address that a person gave.
///
/// # Errors
/// [`ClientError::Address`] for what is no `http` or `https` address, or holds more than one.
pub(super) fn address(text: &str) -> Result<Url, ClientError> {
    let fault = |why| Err(ClientError::Address { why });
    let Ok(url) = Url::parse(text) else {
        return fault("it is not a URL");
    };
    if !matches!(url.scheme(), "http" | "https") {
        fault("its scheme is neither http nor https")
    } else if !url.username().is_empty() || url.password().is_some() {
        fault("it holds a user or password")
    } else if url.fragment().is_some() {
        fault("it holds a fragment")
    } else {
        Ok(url)
    }
}

impl Client {
    /// A client for addresses like `url`.
    pub(super) fn new(url: &Url) -> Result<Self, ClientError> {
        let builder = transport::client_builder(url).connect_timeout(CONNECT_DEADLINE).timeout(DEADLINE);
        let client = builder.build().map_err(|error| ClientError::Setup { reason: transport::describe(error) })?;
        Ok(Self { http: client, headers: HeaderMap::new() })
    }

    /// A client for answers that go on as long as there is something to tell.
    pub(super) fn for_lines(url: &Url) -> Result<Self, ClientError> {
        let builder = transport::client_builder(url).connect_timeout(CONNECT_DEADLINE).read_timeout(SILENCE_MAX);
        let client = builder.build().map_err(|error| ClientError::Setup { reason: transport::describe(error) })?;
        Ok(Self { http: client, headers: HeaderMap::new() })
    }

    /// The same client, which sends these headers with every request.
    pub(super) fn with(mut self, headers: HeaderMap) -> Self {
        self.headers.extend(headers);
        self
    }

    /// Sends `body` to `url` with POST; an answer that is no success is read whole.
    pub(super) async fn post_for_lines(
        &self,
        url: &Url,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Result<Lines, Answer>, ClientError> {
        let response = self.send(url, headers, body).await?;
        match response.status().is_success() {
            true => Ok(Ok(Lines { response, read: BytesMut::new() })),
            false => whole(response).await.map(Err),
        }
    }

    /// Asks `url` with GET.
    pub(super) async fn get(&self, url: &Url) -> Result<Answer, ClientError> {
        whole(self.http.get(url.clone()).headers(self.headers.clone()).send().await.map_err(unanswered)?).await
    }

    /// Sends `body` to `url` with POST.
    pub(super) async fn post(&self, url: &Url, headers: HeaderMap, body: Bytes) -> Result<Answer, ClientError> {
        whole(self.send(url, headers, body).await?).await
    }

    async fn send(&self, url: &Url, headers: HeaderMap, body: Bytes) -> Result<reqwest::Response, ClientError> {
        let request = self.http.post(url.clone()).headers(self.headers.clone()).headers(headers).body(body);
        request.send().await.map_err(unanswered)
    }
}

fn unanswered(error: reqwest::Error) -> ClientError {
    ClientError::Unanswered { reason: transport::describe(error) }
}

async fn whole(mut response: reqwest::Response) -> Result<Answer, ClientError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(unanswered)? {
        if body.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(ClientError::Unanswered { reason: format!("longer than {ANSWER_BYTES_MAX} bytes") });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status: response.status(), headers: std::mem::take(response.headers_mut()), body: body.freeze() })
}

/// An answer that comes line by line.
#[derive(Debug)]
pub(super) struct Lines {
    response: reqwest::Response,
    /// What has come of lines that were not given yet.
    read: BytesMut,
}

impl Lines {
    /// The next line, without its end; `None`: that was all. A last line without an end is none.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        loop {
            let end = self.read.iter().position(|byte| *byte == b'\n');
            // However the pieces come: one of them may hold all of a line that is too long.
            if end.unwrap_or(self.read.len()) > LINE_BYTES_MAX {
                return Err(ClientError::Unanswered {
                    reason: format!("a line is longer than {LINE_BYTES_MAX} bytes"),
                });
            }
            if let Some(end) = end {
                let line = self.read.split_to(end).freeze();
                self.read.advance(1);
                return Ok(Some(line));
            }
            match self.response.chunk().await.map_err(unanswered)? {
                Some(chunk) => self.read.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[test]
    fn an_address_is_http_and_holds_no_password() {
        for (text, why) in [
            ("127.0.0.1:8700", "it is not a URL"),
            ("ftp://host/events", "its scheme is neither http nor https"),
            ("http://ann@host/events", "it holds a user or password"),
            ("http://:secret@host/events", "it holds a user or password"),
            ("http://host/events#x", "it holds a fragment"),
        ] {
            let Err(ClientError::Address { why: said }) = address(text) else { panic!("{text} was taken") };
            assert_eq!(said, why, "{text}");
        }
        for text in ["http://127.0.0.1:8700/events", "https://host/a/events?x=1"] {
            assert_eq!(address(text).unwrap().as_str(), text);
        }
    }
    /// The lines of an answer whose body is `body`, and how it ended.
    async fn lines(body: Vec<u8>) -> (Vec<usize>, Result<(), String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let server = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            assert!(socket.read(&mut [0; 4096]).await.unwrap() > 0);
            socket.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n").await.unwrap();
            // Whoever has read enough goes away.
            let _enough = socket.write_all(&body).await.is_err();
        });
        let client = Client::for_lines(&url).unwrap();
        let answer = client.post_for_lines(&url, HeaderMap::new(), Bytes::new()).await.unwrap();
        let Ok(mut lines) = answer else { panic!("the status was 200") };
        let mut lengths = Vec::new();
        let ended = loop {
            match lines.next().await {
                Ok(Some(line)) => lengths.push(line.len()),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.to_string()),
            }
        };
        drop(lines);
        server.await.unwrap();
        (lengths, ended)
    }

    #[tokio::test]
    async fn an_answer_comes_line_by_line_and_a_line_has_a_bound() {
        let of = |length: usize| [vec![b'x'; length], vec![b'\n']].concat();
        assert_eq!(lines(b"ab\n\nc\nleft".to_vec()).await, (vec![2, 0, 1], Ok(())));
        assert_eq!(lines(of(LINE_BYTES_MAX)).await, (vec![LINE_BYTES_MAX], Ok(())));
        let (lengths, ended) = lines(of(LINE_BYTES_MAX + 1)).await;
        assert!(lengths.is_empty() && ended.is_err_and(|error| error.contains("a line is longer than 65536 bytes")));
    }
}
