//! Requests to the sandbox without a socket, for simulated tests with a paused clock.
//!
//! A socket and a paused clock do not go together: while the kernel moves bytes, nothing seems to happen, and the clock
//! jumps to the next time-out. This adaptor keeps the deadline and the body limit as HTTP over TCP would.
//!
//! The one file of the sandbox that names the seam to the CRMs, and of it only [`Transport`] with its request and answer:
//! what a connector believes of a CRM does not pass through here.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use tokio::time::Instant;

use super::{Reset, Sandbox, SlowBody};
use crate::crm::{Answer, Request, Response, TransportError, transport::Transport};

/// Hands requests to a sandbox in the same process.
#[derive(Clone)]
pub struct InProcess {
    sandbox: Sandbox,
    request_deadline: Duration,
    response_bytes_max: usize,
}

impl fmt::Debug for InProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InProcess")
    }
}

impl InProcess {
    pub fn new(sandbox: Sandbox, request_deadline: Duration, response_bytes_max: usize) -> Self {
        Self { sandbox, request_deadline, response_bytes_max }
    }
}

/// A path without its segments `..` and those that these take back (RFC 3986, section 5.2.4).
fn resolved(address: &str) -> String {
    let (path, query) = address.split_once('?').map_or((address, None), |(path, query)| (path, Some(query)));
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        if segment == ".." {
            segments.pop();
        } else {
            segments.push(segment);
        }
    }
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("/{}{query}", segments.join("/"))
}

#[async_trait]
impl Transport for InProcess {
    async fn exchange(&self, request: Request) -> Answer {
        let deadline = Instant::now() + self.request_deadline;
        let mut sent = http::Request::new(request.body);
        *sent.method_mut() = request.method;
        let address = resolved(&format!("{}{}", self.sandbox.kind().base_path(), request.path));
        *sent.uri_mut() = address
            .try_into()
            .map_err(|_invalid| TransportError::NotSent { reason: "the request's path is malformed".to_owned() })?;
        sent.headers_mut().extend(request.headers);

        let response = match tokio::time::timeout_at(deadline, self.sandbox.handle(sent)).await {
            Ok(Ok(response)) => response,
            Ok(Err(reset @ Reset::Closed)) => {
                return Err(TransportError::Unanswered { reason: reset.to_string() });
            }
            Ok(Err(reset @ Reset::Unreachable)) => {
                return Err(TransportError::NotSent { reason: reset.to_string() });
            }
            Err(_elapsed) => {
                return Err(TransportError::Unanswered { reason: "the deadline passed".to_owned() });
            }
        };
        let status = response.status();
        let unusable = |reason: String| Err(TransportError::UnusableBody { status, reason });
        if let Some(SlowBody(pause)) = response.extensions().get() {
            let here = Instant::now() + *pause;
            tokio::time::sleep_until(here.min(deadline)).await;
            if here > deadline {
                return unusable("the deadline passed".to_owned());
            }
        }
        if response.body().len() > self.response_bytes_max {
            return unusable(format!("longer than {} bytes", self.response_bytes_max));
        }
        let (head, body) = response.into_parts();
        Ok(Response { status, headers: head.headers, body })
    }
}

#[cfg(test)]
mod tests {
    use super::resolved;

    #[test]
    fn a_path_is_resolved_as_over_http() {
        for (address, expected) in [
            ("/api/v2/contacts/1?q=../2", "/api/v2/contacts/1?q=../2"),
            ("/api/v2/../../files/x?id=1", "/files/x?id=1"),
            ("/api/../../../files", "/files"),
            ("/api/v2/Contact/", "/api/v2/Contact/"),
        ] {
            assert_eq!(resolved(address), expected);
        }
    }
}
