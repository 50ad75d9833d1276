//! `POST /verify`: what a CRM holds is compared with the records, and told line by line as it is found. For this machine
//! alone, as `POST /explain`. It ends with the connection.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::stream::unfold;
use tokio::time::timeout;

use super::explain::{Explaining, later, permitted, question, refused};
use crate::verify::{self, Order, VerifyError};

/// Far more than an order takes.
const ORDER_BYTES_MAX: usize = 16 * 1024;
const FORM: &str = "an order is {\"crm\": NAME, \"whom\": WHOM}, where WHOM is \"all\" or {\"sample\": NUMBER}";
/// An empty line is sent where nothing happens for so long: whoever listens knows that somebody is there.
const SILENCE_MAX: Duration = Duration::from_secs(10);

pub(super) async fn verify(State(asking): State<Explaining>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if let Err((status, why)) = permitted(asking.loopback, &parts.uri, &parts.headers) {
        return refused(status, why);
    }
    let order = match question::<Order>(body, ORDER_BYTES_MAX, FORM).await {
        Ok(order) => order,
        Err((status, why)) => return refused(status, why),
    };
    let lines = match verify::begin(&asking.desk, &order) {
        Ok(lines) => lines,
        Err(error @ (VerifyError::UnknownCrm { .. } | VerifyError::Unreadable { .. } | VerifyError::Sample)) => {
            return refused(StatusCode::BAD_REQUEST, &error.to_string());
        }
        Err(error @ (VerifyError::Running { .. } | VerifyError::NoShare { .. })) => {
            return refused(StatusCode::CONFLICT, &error.to_string());
        }
        Err(error @ VerifyError::Closed(_)) => return later(&error.to_string()),
    };
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
