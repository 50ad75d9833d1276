//! `POST /dead-letters`: dead letters are listed, shown and sent in again, told line by line. It ends with the connection.

use axum::{Extension, body::Body, extract::State, http::StatusCode, response::Response};
use tracing::warn;

use super::{
    explain::{later, not_acted, question, refused},
    lines,
};
use crate::{
    audit::Operator,
    explain::{Desk, ExplainError},
    letters::{self, LettersError, Order},
};

/// More than [`letters::NAMED_MAX`] positions take.
const ORDER_BYTES_MAX: usize = 512 * 1024;
const FORM: &str = "an order is {\"list\": {\"filter\": FILTER, \"limit\": NUMBER}}, {\"show\": {\"letter\": POSITION, \
     \"body\": BOOL}} or {\"replay\": {\"which\": WHICH, \"dry_run\": BOOL, \"undated\": BOOL, \"again\": BOOL}}, where FILTER is \
     {\"code\": CODE, \"topic\": NAME, \"since\": TIME}, all optional, WHICH is {\"letters\": [POSITION, ...]} or {\"filter\": \
     FILTER}, and POSITION is \"TOPIC[PARTITION]@OFFSET\"";

pub(super) async fn letters(
    State(desk): State<Desk>,
    Extension(operator): Extension<Operator>,
    body: Body,
) -> Response {
    let order = match question::<Order>(body, ORDER_BYTES_MAX, FORM).await {
        Ok(order) => order,
        Err((status, why)) => return refused(status, why),
    };
    let error = match letters::begin(&desk, &order, &operator) {
        Ok(told) => return lines::told(told),
        Err(error) => error,
    };
    match &error {
        LettersError::Position(_)
        | LettersError::Limit
        | LettersError::Nothing
        | LettersError::Explain(ExplainError::Question(_)) => refused(StatusCode::BAD_REQUEST, &error.to_string()),
        LettersError::Busy | LettersError::Explain(ExplainError::Busy | ExplainError::Closed) => {
            later(&error.to_string())
        }
        LettersError::Audit(error) => not_acted(error),
        LettersError::Explain(ExplainError::View(_)) => {
            warn!(error = &error as &dyn std::error::Error, "dead letters could not be read");
            refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
        }
    }
}
