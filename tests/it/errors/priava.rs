//! Priava: sections 2 and 7 of its contract. It documents no code of a contact call, so the status decides.

use contact_replicator::{
    config::CrmKind,
    event::ReasonCode,
    explain::Paused,
    sandbox::{Action, Only},
};

use super::{At, Becomes, Row, Table, action, by_status, path, row, with};
use crate::{
    credentials::with_oauth,
    world::{CRM, Tenant},
};

const TENANT: &[Tenant] = &[Tenant { name: CRM, kind: CrmKind::Priava }];

fn only(at: At) -> Only {
    match at {
        At::Login => path("/api/rest/oauth/token"),
        _ => action(Action::Upsert),
    }
}

fn error(code: &str) -> String {
    format!(r#"{{"error":"{code}","error_description":"N1 is wrong"}}"#)
}

/// What a contact call may be answered, whoever the caller is.
fn of_contact_calls() -> Vec<Row> {
    use Becomes::{Paused as Stops, Rejected};
    use ReasonCode::{Conflict, InvalidField, MissingField};
    let mut rows = vec![
        row("7: 403", At::Create, with(403, error("forbidden")), Stops(Paused::Connection)).coded("forbidden"),
        row("7: 404", At::Create, with(404, ""), Stops(Paused::Connection)),
        row("7: 404 is no missing contact", At::Update, with(404, ""), Stops(Paused::Connection)),
        row("7: 405", At::Create, with(405, ""), Stops(Paused::Connection)),
        row("standing rules: 3xx", At::Create, with(302, ""), Stops(Paused::Connection)),
        row("7: 400 not in a list", At::Create, with(400, error("validation_error")), Rejected(InvalidField, 1))
            .coded("validation_error"),
        row("7: 400 missing field", At::Create, with(400, error("missing_field")), Rejected(MissingField, 1))
            .coded("missing_field"),
        row("7: 422", At::Update, with(422, error("validation_error")), Rejected(InvalidField, 1))
            .coded("validation_error"),
        row("7: 409", At::Create, with(409, error("conflict")), Rejected(Conflict, 2)).coded("conflict"),
    ];
    rows.extend(by_status(At::Create));
    rows.extend(by_status(At::Update));
    rows
}

#[test]
fn each_error_of_priava_becomes_what_its_contract_says() {
    let mut rows = vec![
        row(
            "7: 401 with a static token",
            At::Create,
            with(401, error("unauthorized")),
            Becomes::Paused(Paused::Credentials),
        )
        .coded("unauthorized"),
    ];
    rows.extend(of_contact_calls());
    Table { tenant: TENANT, prepare: |_| (), only, rows }.holds();
}

#[test]
fn each_error_of_priavas_oauth_becomes_what_its_contract_says() {
    let refused = Becomes::Paused(Paused::Credentials);
    let rows = vec![
        row("7: 401 with an access token", At::Create, with(401, error("unauthorized")), Becomes::Renewed),
        row("7: token call 400 invalid_grant", At::Login, with(400, error("invalid_grant")), refused)
            .coded("invalid_grant"),
        row("7: token call 400, another code", At::Login, with(400, error("invalid_client")), refused)
            .coded("invalid_client"),
        row("7: token call 400, another code", At::Login, with(400, error("invalid_request")), refused)
            .coded("invalid_request"),
        row("standing rules: 404 of the token call", At::Login, with(404, ""), Becomes::Paused(Paused::Connection)),
        row("7: 403", At::Create, with(403, error("forbidden")), Becomes::Paused(Paused::Connection))
            .coded("forbidden"),
    ];
    Table { tenant: TENANT, prepare: with_oauth, only, rows }.holds();
}
