//! `GET /status`: how the worker stands. Behind the door of operators: names of CRMs and workers are nobody else's.

use axum::{extract::State, http::StatusCode, response::Response};

use super::{
    Readiness,
    explain::{later, told},
};
use crate::explain::Desk;

pub(super) async fn status(State((desk, readiness)): State<(Desk, Readiness)>) -> Response {
    match desk.board().status(readiness.missing()).await {
        Some(status) => told(StatusCode::OK, &status),
        None => later("the worker has not begun, or has ended"),
    }
}
