//! `POST /pause`: a CRM is left alone until it is resumed, or how that stands.

use axum::{Extension, body::Body, extract::State, http::StatusCode, response::Response};
use tracing::warn;

use super::explain::{later, not_acted, question, refused, told};
use crate::{
    audit::Operator,
    explain::{Desk, ExplainError},
    pause::{self, Order, PauseError},
};

/// Far more than an order takes.
const ORDER_BYTES_MAX: usize = 16 * 1024;
const FORM: &str = "an order is {\"crm\": NAME, \"what\": WHAT}, where WHAT is \"pause\", \"resume\" or \"status\"";

pub(super) async fn pause(State(desk): State<Desk>, Extension(operator): Extension<Operator>, body: Body) -> Response {
    let order = match question::<Order>(body, ORDER_BYTES_MAX, FORM).await {
        Ok(order) => order,
        Err((status, why)) => return refused(status, why),
    };
    let error = match pause::obey(&desk, &order, &operator).await {
        Ok(reply) => return told(StatusCode::OK, &reply),
        Err(error) => error,
    };
    match &error {
        PauseError::UnknownCrm { .. } | PauseError::Explain(ExplainError::Question(_)) => {
            refused(StatusCode::BAD_REQUEST, &error.to_string())
        }
        PauseError::Audit(error) => not_acted(error),
        PauseError::Behind | PauseError::Explain(ExplainError::Busy | ExplainError::Closed) => {
            later(&error.to_string())
        }
        PauseError::Log(failure) if failure.is_transient() => later(&format!("{error}: {failure}")),
        PauseError::Log(_) | PauseError::State(_) | PauseError::Explain(ExplainError::View(_)) => {
            warn!(error = &error as &dyn std::error::Error, "a CRM could not be paused or resumed");
            refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
        }
    }
}
