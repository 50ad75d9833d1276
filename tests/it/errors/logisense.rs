//! LogiSense: section 7 of its contract.

use contact_replicator::{
    config::CrmKind,
    event::ReasonCode,
    explain::Paused,
    sandbox::{Action, Only},
};

use super::{At, Becomes, Table, action, by_status, path, row, with};
use crate::world::Tenant;

const TENANT: &[Tenant] = &[Tenant { name: "billing", kind: CrmKind::Logisense }];

fn only(at: At) -> Only {
    let by_method = |action_of: Action, method: &str| Only { method: Some(method.to_owned()), ..action(action_of) };
    match at {
        At::Login => path("/AuthorizationServer"),
        At::Create => action(Action::Create),
        At::Search => action(Action::Search),
        At::Parts => by_method(Action::Update, "PATCH"),
        At::ReadParts => action(Action::Get),
        At::Update | At::Delete => by_method(Action::Update, "PUT"),
    }
}

const ERRORS: &str = r#"{"trackingId":"5b0e","type":"x","errors":[{"code":11900000,"message":"N1 is wrong"}]}"#;
const UNSUCCESSFUL: &str = r#"{"trackingId":"5b0e","type":"patch","results":{"totalCount":1,"items":[
    {"identity":1,"action":"created","dtoTypeKey":"contactPoint","instance":{"Successful":false}}]}}"#;

#[test]
fn each_error_of_logisense_becomes_what_its_contract_says() {
    use Becomes::{MadeAnew, Paused as Stops, Rejected, Renewed};
    use Paused::{Connection, Credentials};
    use ReasonCode::{Conflict, InvalidField};
    const CODE: &str = "11900000";
    let mut rows = vec![
        row("2: login 400 invalid_grant", At::Login, with(400, r#"{"error":"invalid_grant"}"#), Stops(Credentials)),
        row("2: login 400, another code", At::Login, with(400, r#"{"error":"invalid_request"}"#), Stops(Connection)),
        row("standing rules: 404 of the login", At::Login, with(404, ""), Stops(Connection)),
        row("7: 200, an item that is not Successful", At::Parts, with(200, UNSUCCESSFUL), Rejected(InvalidField, 1)),
        row("7: 404 on an id", At::Update, with(404, ""), MadeAnew),
        row("7: 404 on an id", At::Parts, with(404, ""), MadeAnew),
        row("7: 200 with instance: null", At::ReadParts, with(200, r#"{"trackingId":"5","instance":null}"#), MadeAnew),
        row("standing rules: 404 of a fixed path", At::Create, with(404, ""), Stops(Connection)),
    ];
    for at in [At::Create, At::Update, At::Parts] {
        rows.push(row("7: 400 with errors[]", at, with(400, ERRORS), Rejected(InvalidField, 1)).coded(CODE));
        rows.push(row("7: 200 with errors[]", at, with(200, ERRORS), Rejected(InvalidField, 1)).coded(CODE));
        rows.push(row("7: 401", at, with(401, ""), Renewed));
        rows.push(row("7: 403", at, with(403, ERRORS), Stops(Connection)).coded(CODE));
        rows.push(row("7: 409", at, with(409, ERRORS), Rejected(Conflict, 2)).coded(CODE));
        rows.extend(by_status(at));
    }
    rows.push(row("7: 401", At::Search, with(401, ""), Renewed));
    rows.extend(by_status(At::Search));
    rows.extend(by_status(At::ReadParts));
    Table { tenant: TENANT, prepare: |_| (), only, rows }.holds();
}
