//! The control addresses: what a simulated system holds and was asked, and switches for what it does.
//!
//! They are not part of the simulated system: no fault strikes them and no log has them.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Sandbox, system::Reply};

/// Answers a request to `address`, below `/_sandbox/`.
pub(super) fn answer(sandbox: &Sandbox, address: &str, request: &http::Request<Bytes>) -> http::Response<Bytes> {
    let reply = match (request.method(), address) {
        (&Method::GET, "contacts") => shown(contacts(sandbox)),
        (&Method::GET, "requests") => {
            let query = request.uri().query().unwrap_or_default();
            let after = query.strip_prefix("after=").and_then(|number| number.parse().ok()).unwrap_or(0);
            let state = sandbox.0.state.lock();
            shown(json!({ "dropped": state.log.dropped(), "requests": state.log.after(after) }))
        }
        (&Method::POST, "faults") => {
            let plan = parse(request.body());
            command(plan.and_then(|plan| sandbox.set_faults(plan).map_err(|error| error.to_string())))
        }
        (&Method::POST, "tokens") => {
            command(parse::<Vec<String>>(request.body()).map(|tokens| sandbox.set_tokens(tokens)))
        }
        _ => Reply::json(StatusCode::NOT_FOUND, json!({ "error": "no such control address" }).to_string()),
    };
    reply.into_response()
}

fn contacts(sandbox: &Sandbox) -> Value {
    let state = sandbox.0.state.lock();
    let mut page = state.system.remarks();
    page.insert("contacts".to_owned(), Value::Array(state.system.contacts()));
    Value::Object(page)
}

fn shown(body: Value) -> Reply {
    Reply::json(StatusCode::OK, body.to_string())
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn command(result: Result<(), String>) -> Reply {
    match result {
        Ok(()) => shown(json!({})),
        Err(why) => Reply::json(StatusCode::BAD_REQUEST, json!({ "error": why }).to_string()),
    }
}
