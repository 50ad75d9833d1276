//! `POST /links` and `POST /links/export`: which contact of a CRM is which of ours, said and told.
//! Names of contacts come and go.

use axum::{Extension, body::Body, extract::State, http::StatusCode, response::Response};
use tracing::warn;

use super::{
    explain::{later, not_acted, question, refused, told},
    lines,
};
use crate::{
    audit::Operator,
    explain::{Desk, ExplainError},
    links::{self, LinksError, export},
};

/// Far more than [`links::ROWS_MAX`] rows of the usual length take; the command sends fewer longer ones at once.
const ORDER_BYTES_MAX: usize = 1024 * 1024;
const FORM: &str = "an order is {\"crm\": NAME, \"what\": WHAT}, where WHAT is {\"import\": {\"rows\": [{\"source\": TEXT, \
     \"subject\": TEXT, \"remote_id\": TEXT}, ...], \"check\": BOOL}} or {\"set\": {\"contact\": QUESTION, \"to\": TO}} with a \
     question as of /explain, and TO is {\"remote\": TEXT} or \"new\"";
const EXPORT_FORM: &str = "an order is {\"crm\": NAME}";

pub(super) async fn links(State(desk): State<Desk>, Extension(operator): Extension<Operator>, body: Body) -> Response {
    let order = match question(body, ORDER_BYTES_MAX, FORM).await {
        Ok(order) => order,
        Err((status, why)) => return refused(status, why),
    };
    match links::obey(&desk, &order, &operator).await {
        Ok(reply) => told(StatusCode::OK, &reply),
        Err(error) => not_obeyed(&error),
    }
}

pub(super) async fn export(State(desk): State<Desk>, body: Body) -> Response {
    let order = match question(body, ORDER_BYTES_MAX, EXPORT_FORM).await {
        Ok(order) => order,
        Err((status, why)) => return refused(status, why),
    };
    match export::begin(&desk, &order) {
        Ok(rows) => lines::told(rows),
        Err(error) => not_obeyed(&error),
    }
}

fn not_obeyed(error: &LinksError) -> Response {
    match error {
        LinksError::UnknownCrm { .. } | LinksError::NoRows | LinksError::TooMany => {
            refused(StatusCode::BAD_REQUEST, &error.to_string())
        }
        LinksError::Explain(ExplainError::Question(_)) => refused(StatusCode::BAD_REQUEST, &error.to_string()),
        LinksError::NotInShadow { .. } | LinksError::Refused(_) => refused(StatusCode::CONFLICT, &error.to_string()),
        // Not 404, which an older release says of the path.
        LinksError::Nobody => refused(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
        LinksError::Explain(ExplainError::Busy | ExplainError::Closed) => later(&error.to_string()),
        LinksError::Audit(error) => not_acted(error),
        LinksError::State(_) | LinksError::Explain(ExplainError::View(_)) => {
            warn!(error = error as &dyn std::error::Error, "links could not be asked for");
            refused(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use crate::{
        admin::{Admin, Readiness},
        explain::Desk,
        metrics::Registry,
    };

    /// Status and body of an answer at a desk where nobody answers yet.
    async fn post(path: &str, headers: &str, body: &str) -> (u16, String) {
        let desk = Desk::default();
        let address = (Ipv4Addr::LOCALHOST, 0).into();
        let admin = Admin::start(address, Registry::new(), Readiness::default(), desk).await.unwrap();
        let mut stream = TcpStream::connect(admin.address()).await.unwrap();
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\n{headers}content-type: application/json\r\nconnection: close\r\n\
             content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        admin.stop().await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    const HERE: &str = "host: localhost\r\n";

    #[tokio::test]
    async fn an_order_that_cannot_be_read_is_refused_with_its_form_and_not_repeated() {
        for (path, good) in [
            ("/links", r#"{"crm":"a","what":{"import":{"rows":[],"check":true}}}"#),
            ("/links", r#"{"crm":"a","what":{"set":{"contact":{"about":"shop/1"},"to":{"remote":"7"}}}}"#),
            ("/links", r#"{"crm":"a","what":{"set":{"contact":{"about":"shop/1"},"to":"new"}}}"#),
            ("/links/export", r#"{"crm":"a"}"#),
        ] {
            assert_eq!(post(path, HERE, good).await.0, 503, "{path}");
            let (status, told) = post(path, HERE, r#"{"crm":"a","what":{"set":{"ann":1}}}"#).await;
            assert_eq!(status, 400, "{path}");
            assert!(told.starts_with("an order is") && !told.contains("ann"), "{told}");
        }
    }

    #[tokio::test]
    async fn names_of_contacts_are_told_to_this_machine_alone() {
        for path in ["/links", "/links/export"] {
            for (headers, expected) in
                [("host: example.com\r\n", 403), ("host: localhost\r\norigin: http://localhost\r\n", 403)]
            {
                assert_eq!(post(path, headers, r#"{"crm":"a"}"#).await.0, expected, "{path} {headers}");
            }
        }
    }
}
