//! Answers that are told line by line, as there is something to tell. They end with the connection.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::stream::unfold;
use serde::Serialize;
use tokio::{sync::mpsc, time::timeout};

/// An empty line is sent where nothing happens for so long: whoever listens knows that somebody is there.
const SILENCE_MAX: Duration = Duration::from_secs(10);

pub(super) fn told<T: Serialize + Send + 'static>(lines: mpsc::Receiver<T>) -> Response {
    let told = unfold(lines, async |mut lines| {
        let text = match timeout(SILENCE_MAX, lines.recv()).await {
            Err(_elapsed) => Vec::new(),
            Ok(None) => return None,
            Ok(Some(line)) => serde_json::to_vec(&line).expect("a line is made of what JSON can express"),
        };
        let line = Bytes::from([text, b"\n".to_vec()].concat());
        Some((Ok::<_, Infallible>(line), lines))
    });
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    (StatusCode::OK, headers, Body::from_stream(told)).into_response()
}
