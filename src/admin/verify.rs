//! `POST /verify`: what a CRM holds is compared with the records, and told line by line as it is found.
//! It ends with the connection.

use axum::{body::Body, extract::State, http::StatusCode, response::Response};

use super::{
    explain::{later, question, refused},
    lines,
};
use crate::{
    explain::Desk,
    verify::{self, Order, VerifyError},
};

/// Far more than an order takes.
const ORDER_BYTES_MAX: usize = 16 * 1024;
const FORM: &str = "an order is {\"crm\": NAME, \"whom\": WHOM}, where WHOM is \"all\" or {\"sample\": NUMBER}";

pub(super) async fn verify(State(desk): State<Desk>, body: Body) -> Response {
    let order = match question::<Order>(body, ORDER_BYTES_MAX, FORM).await {
        Ok(order) => order,
        Err((status, why)) => return refused(status, why),
    };
    let found = match verify::begin(&desk, &order) {
        Ok(found) => found,
        Err(error @ (VerifyError::UnknownCrm { .. } | VerifyError::Unreadable { .. } | VerifyError::Sample)) => {
            return refused(StatusCode::BAD_REQUEST, &error.to_string());
        }
        Err(error @ (VerifyError::Running { .. } | VerifyError::NoShare { .. })) => {
            return refused(StatusCode::CONFLICT, &error.to_string());
        }
        Err(error @ VerifyError::Closed(_)) => return later(&error.to_string()),
    };
    lines::told(found)
}
