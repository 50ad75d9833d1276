//! `GET /status`: how the worker stands. To this machine alone, as `POST /explain`: names of CRMs and workers are nobody else's.

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};

use super::{
    Readiness,
    explain::{Explaining, admitted, later, refused, told},
};

/// What the route needs to know.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) asking: Explaining,
    pub(super) readiness: Readiness,
}

pub(super) async fn status(State(standing): State<Standing>, request: Request) -> Response {
    let Standing { asking, readiness } = standing;
    if let Err((status, why)) = admitted(asking.loopback, request.uri(), request.headers()) {
        return refused(status, why);
    }
    match asking.desk.board().status(readiness.missing()).await {
        Some(status) => told(StatusCode::OK, &status),
        None => later("the worker has not begun, or has ended"),
    }
}
