//! `POST /resync`: contacts of a CRM are to be driven anew, or how far that is. For this machine alone, as `POST /explain`.

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use tracing::warn;

use super::explain::{Explaining, later, permitted, question, refused, told};
use crate::{
    explain::ExplainError,
    resync::{self, Order, ResyncError},
};

/// Far more than [`resync::CONTACTS_MAX`] contacts take.
const ORDER_BYTES_MAX: usize = 1024 * 1024;
const FORM: &str = "an order is {\"crm\": NAME, \"what\": WHAT}, where WHAT is \"status\", \"stop\", {\"all\": {\"restart\": BOOL}} \
     or {\"contacts\": [QUESTION, ...]} with questions as of /explain";

pub(super) async fn resync(State(asking): State<Explaining>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    if let Err((status, why)) = permitted(asking.loopback, &parts.uri, &parts.headers) {
        return refused(status, why);
    }
    let order = match question::<Order>(body, ORDER_BYTES_MAX, FORM).await {
        Ok(order) => order,
        Err((status, why)) => return refused(status, why),
    };
    let error = match resync::obey(&asking.desk, &order).await {
        Ok(reply) => return told(StatusCode::OK, &reply),
        Err(error) => error,
    };
    match &error {
        ResyncError::UnknownCrm { .. } | ResyncError::TooMany | ResyncError::Nobody => {
            refused(StatusCode::BAD_REQUEST, &error.to_string())
        }
        ResyncError::Running { .. } | ResyncError::NotRunning { .. } => {
            refused(StatusCode::CONFLICT, &error.to_string())
        }
        ResyncError::Explain(ExplainError::Question(_)) => refused(StatusCode::BAD_REQUEST, &error.to_string()),
        ResyncError::Explain(ExplainError::Busy | ExplainError::Closed) => later(&error.to_string()),
        ResyncError::Log(failure) if failure.is_transient() => later(&format!("{error}: {failure}")),
        ResyncError::Log(_) | ResyncError::State(_) | ResyncError::Explain(ExplainError::View(_)) => {
            warn!(error = &error as &dyn std::error::Error, "a resync could not be asked for");
            refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
        }
    }
}
