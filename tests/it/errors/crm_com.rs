//! CRM.COM: section 7 of its contract. The code of the envelope decides, under whatever HTTP status.

use contact_replicator::{
    config::CrmKind,
    event::ReasonCode,
    explain::Paused,
    sandbox::{Action, Only},
};

use super::{At, Becomes, Row, Table, action, by_status, path, row, with};
use crate::world::Tenant;

const TENANT: &[Tenant] = &[Tenant { name: "crm-com", kind: CrmKind::CrmCom }];

fn only(at: At) -> Only {
    match at {
        At::Login => path("/crmapi/rest/v2/authentication"),
        At::Create => action(Action::Create),
        At::Search => action(Action::Search),
        At::ReadParts => action(Action::Get),
        _ => action(Action::Update),
    }
}

fn coded(code: &'static str, at: At, becomes: Becomes) -> Row {
    let body = format!(r#"{{"status":{{"code":"{code}","message":"N1 is wrong","description":""}},"data":null}}"#);
    row(code, at, with(200, body), becomes).coded(code)
}

#[test]
fn each_code_of_crm_com_becomes_what_its_contract_says() {
    use Becomes::{MadeAnew, Paused as Stops, Rejected, Renewed, TriedAgain};
    use Paused::{Connection, Credentials};
    use ReasonCode::{Conflict, InvalidField, MissingField};
    let mut rows = Vec::new();
    for code in ["INVALID_TOKEN", "TOKEN_EXPIRED", "AUTHENTICATION_FAILED"] {
        rows.push(coded(code, At::Search, Renewed));
        rows.push(coded(code, At::Create, Renewed));
        rows.push(coded(code, At::Update, Renewed));
    }
    rows.extend([
        row("401", At::Create, with(401, ""), Renewed),
        coded("AUTHENTICATION_FAILED", At::Login, Stops(Credentials)),
        coded("ACCESS_DENIED", At::Login, Stops(Connection)),
        coded("ACCESS_DENIED", At::Create, Stops(Connection)),
        coded("ACCESS_DENIED", At::Update, Stops(Connection)),
        coded("ACCESS_DENIED", At::Search, Stops(Connection)),
        row("standing rules: 403", At::Create, with(403, ""), Stops(Connection)),
        row("standing rules: 404", At::Search, with(404, "<html>"), Stops(Connection)),
        coded("MANDATORY_FIELD_MISSING", At::Create, Rejected(MissingField, 1)),
        coded("MANDATORY_FIELD_MISSING", At::Update, Rejected(MissingField, 1)),
        coded("NOT_FOUND", At::Update, MadeAnew),
        coded("DUPLICATE", At::Create, Rejected(Conflict, 2)),
        coded("TYPE_ALREADY_EXISTS", At::Parts, Rejected(Conflict, 2)),
        coded("SYSTEM_ERROR", At::Search, TriedAgain),
        coded("SYSTEM_ERROR", At::Create, TriedAgain),
        coded("SYSTEM_ERROR", At::Update, TriedAgain),
        coded("SYSTEM_ERROR", At::Parts, TriedAgain),
        coded("SYSTEM_ERROR", At::ReadParts, TriedAgain),
        row("a body that is not JSON", At::Create, with(200, "<html>"), TriedAgain),
        row("a body that is not JSON", At::Search, with(200, "<html>"), TriedAgain),
        coded("CONTACT_LOCKED", At::Create, Rejected(InvalidField, 1)),
    ]);
    for code in ["INVALID_VALUE", "INVALID_FORMAT", "REFERENCE_NOT_FOUND"] {
        rows.push(coded(code, At::Create, Rejected(InvalidField, 1)));
        rows.push(coded(code, At::Update, Rejected(InvalidField, 1)));
    }
    rows.extend(by_status(At::Create));
    rows.extend(by_status(At::Update));
    rows.extend(by_status(At::Parts));
    rows.extend(by_status(At::Search));
    Table { tenant: TENANT, prepare: |_| (), only, rows }.holds();
}
