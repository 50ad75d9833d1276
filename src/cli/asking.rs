//! How commands ask a worker for something: JSON there and back, whole or line by line, and what a refusal means.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::{Serialize, de::DeserializeOwned};
use url::Url;

use super::{
    CommandError, UsageError,
    client::{Client, Lines},
    explain::sentence,
};

/// Asks, and reads the answer.
pub(super) async fn ask<T: DeserializeOwned>(
    client: &Client,
    url: &Url,
    order: &impl Serialize,
) -> Result<T, CommandError> {
    let answer = client.post(url, headers(), body(order)).await?;
    understood(answer.status, &answer.body)
}

/// Asks for what is told line by line.
pub(super) async fn follow(client: &Client, url: &Url, order: &impl Serialize) -> Result<Told, CommandError> {
    match client.post_for_lines(url, headers(), body(order)).await? {
        Ok(lines) => Ok(Told(lines)),
        Err(refused) => Err(refusal(refused.status, &refused.body)),
    }
}

/// What a worker tells, line by line.
pub(super) struct Told(Lines);

impl Told {
    /// The next line. A worker says when it is done, so that its silence is an error.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<T, CommandError> {
        loop {
            let Some(text) = self.0.next().await? else {
                let why = "it broke off before it was done: see its log; asking again does no harm";
                return Err(CommandError::NotDone(why.into()));
            };
            // An empty one says that it is still there.
            if !text.is_empty() {
                return serde_json::from_slice(&text).map_err(|_unknown| another_release());
            }
        }
    }
}

fn headers() -> HeaderMap {
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))])
}

fn body(order: &impl Serialize) -> Bytes {
    serde_json::to_vec(order).expect("an order is made of what JSON can express").into()
}

fn understood<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, CommandError> {
    match status {
        StatusCode::OK => serde_json::from_slice(body).map_err(|_unknown| another_release()),
        _ => Err(refusal(status, body)),
    }
}

fn another_release() -> CommandError {
    CommandError::NotDone("it is no worker, or one of another release: ask with the program that it runs".into())
}

fn refusal(status: StatusCode, body: &[u8]) -> CommandError {
    match status {
        StatusCode::BAD_REQUEST => UsageError(sentence(status, body)).into(),
        StatusCode::NOT_FOUND => CommandError::NotDone("it is no worker, or one of an older release".into()),
        _ => CommandError::NotDone(sentence(status, body)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Exit;

    #[test]
    fn what_is_no_reply_is_an_error_that_repeats_what_the_worker_said() {
        for (status, body, exit, says) in [
            (409, "one is under way\n", Exit::Failed, "one is under way"),
            (503, "it is starting\n", Exit::Failed, "it is starting"),
            (400, "there is no CRM of that name\n", Exit::Usage, "no CRM of that name"),
            (404, "", Exit::Failed, "older release"),
            (200, "<html>", Exit::Failed, "another release"),
        ] {
            let error = understood::<Vec<u8>>(StatusCode::from_u16(status).unwrap(), body.as_bytes()).unwrap_err();
            assert_eq!(error.exit(), exit, "{status}");
            assert!(error.to_string().contains(says), "{error}");
        }
    }
}
