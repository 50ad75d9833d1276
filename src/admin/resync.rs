//! `POST /resync`: contacts of a CRM are to be driven anew, or how far that is.

use axum::{Extension, body::Body, extract::State, http::StatusCode, response::Response};
use tracing::warn;

use super::explain::{later, not_acted, question, refused, told};
use crate::{
    audit::Operator,
    explain::{Desk, ExplainError},
    resync::{self, Order, ResyncError},
};

/// Far more than [`resync::CONTACTS_MAX`] contacts take.
const ORDER_BYTES_MAX: usize = 1024 * 1024;
const FORM: &str = "an order is {\"crm\": NAME, \"what\": WHAT}, where WHAT is \"status\", \"stop\", {\"all\": {\"restart\": BOOL}} \
     or {\"contacts\": [QUESTION, ...]} with questions as of /explain";

pub(super) async fn resync(State(desk): State<Desk>, Extension(operator): Extension<Operator>, body: Body) -> Response {
    let order = match question::<Order>(body, ORDER_BYTES_MAX, FORM).await {
        Ok(order) => order,
        Err((status, why)) => return refused(status, why),
    };
    let error = match resync::obey(&desk, &order, &operator).await {
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
        ResyncError::Audit(error) => not_acted(error),
        ResyncError::Log(failure) if failure.is_transient() => later(&format!("{error}: {failure}")),
        ResyncError::Log(_) | ResyncError::State(_) | ResyncError::Explain(ExplainError::View(_)) => {
            warn!(error = &error as &dyn std::error::Error, "a resync could not be asked for");
            refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
        }
    }
}
