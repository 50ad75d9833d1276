//! `POST /retry`, `POST /retry/all` and `POST /skip`: contacts that are stuck are tried now, or what waits of them is given up.

use axum::{Extension, body::Body, extract::State, http::StatusCode, response::Response};
use tracing::warn;

use super::{
    explain::{later, not_acted, question, refused, told},
    lines,
};
use crate::{
    audit::Operator,
    explain::{Desk, ExplainError},
    stuck::{self, Order, StuckError, What, all},
};

/// Far more than [`stuck::CONTACTS_MAX`] contacts take.
const ORDER_BYTES_MAX: usize = 1024 * 1024;
const FORM: &str = "an order is {\"crm\": NAME, \"contacts\": [QUESTION, ...]} with questions as of /explain";
const ALL_FORM: &str = "an order is {\"crm\": NAME, \"whom\": WHOM, \"dry_run\": BOOL}, where WHOM is \"parked\" or \
     {\"rejected\": CODE}; a code of null means any";

pub(super) async fn retry(state: State<Desk>, operator: Extension<Operator>, body: Body) -> Response {
    these(state, operator, body, What::Retry).await
}

pub(super) async fn skip(state: State<Desk>, operator: Extension<Operator>, body: Body) -> Response {
    these(state, operator, body, What::Skip).await
}

async fn these(State(desk): State<Desk>, Extension(operator): Extension<Operator>, body: Body, what: What) -> Response {
    let order = match question::<Order>(body, ORDER_BYTES_MAX, FORM).await {
        Ok(order) => order,
        Err((status, why)) => return refused(status, why),
    };
    match stuck::obey(&desk, what, &order, &operator).await {
        Ok(reply) => told(StatusCode::OK, &reply),
        Err(error) => not_obeyed(&error),
    }
}

pub(super) async fn retry_all(
    State(desk): State<Desk>,
    Extension(operator): Extension<Operator>,
    body: Body,
) -> Response {
    let order = match question::<all::Order>(body, ORDER_BYTES_MAX, ALL_FORM).await {
        Ok(order) => order,
        Err((status, why)) => return refused(status, why),
    };
    match all::begin(&desk, &order, &operator) {
        Ok(told) => lines::told(told),
        Err(error) => not_obeyed(&error),
    }
}

fn not_obeyed(error: &StuckError) -> Response {
    match error {
        StuckError::UnknownCrm { .. }
        | StuckError::Nobody
        | StuckError::TooMany
        | StuckError::Explain(ExplainError::Question(_)) => refused(StatusCode::BAD_REQUEST, &error.to_string()),
        StuckError::Running => refused(StatusCode::CONFLICT, &error.to_string()),
        StuckError::Explain(ExplainError::Busy | ExplainError::Closed) => later(&error.to_string()),
        StuckError::Audit(error) => not_acted(error),
        StuckError::Explain(ExplainError::View(_)) => {
            warn!(error = error as &dyn std::error::Error, "contacts that are stuck could not be looked up");
            refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
        }
    }
}
