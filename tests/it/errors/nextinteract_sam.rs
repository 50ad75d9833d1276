//! NextInteract SAM: section 7 of its contract, and the exceptions that the document of the upsert lists.

use contact_replicator::{
    config::CrmKind,
    event::ReasonCode,
    explain::Paused,
    sandbox::{Action, Only},
};

use super::{At, Becomes, Row, Table, action, by_status, path, row, with};
use crate::world::Tenant;

const TENANT: &[Tenant] = &[Tenant { name: "sam", kind: CrmKind::NextinteractSam }];

fn only(at: At) -> Only {
    match at {
        At::Login => path("/rest/user/login"),
        _ => action(Action::Upsert),
    }
}

fn exception(name: &'static str, at: At, status: u16, code: u32, becomes: Becomes) -> Row {
    let body = format!(r#"{{"errorName":"{name}","errorCode":{code}.0,"message":"N1 is wrong"}}"#);
    row(name, at, with(status, body), becomes).coded(name)
}

#[test]
fn each_exception_of_sam_becomes_what_its_contract_says() {
    use Becomes::{MadeAnew, Paused as Stops, Rejected, Renewed, TriedAgain};
    use Paused::{Connection, Credentials};
    use ReasonCode::{Conflict, InvalidField, Refused};
    let mut rows = vec![
        exception("WSInvalidAuthTokenException", At::Create, 401, 1006, Renewed),
        exception("WSInvalidAuthTokenException", At::Update, 401, 1006, Renewed),
        row("401 without a code, once", At::Create, with(401, ""), Renewed),
        exception("WSInsufficientPermissionsException", At::Create, 401, 1003, Stops(Connection)),
        exception("WSInsufficientPermissionsException", At::Login, 401, 1003, Stops(Credentials)),
        exception("WSAccountLockedException", At::Login, 401, 1004, Stops(Credentials)),
        exception("WSAuthenticationFailedException", At::Login, 401, 1005, Stops(Credentials)),
        exception("WSNoUsernameOrPasswordException", At::Login, 400, 1001, Stops(Credentials)),
        exception("WSUserNotFoundException", At::Login, 400, 1009, Stops(Credentials)),
        exception("WSInvalidParameterException", At::Login, 400, 1002, Stops(Connection)),
        row("404 of the login", At::Login, with(404, ""), Stops(Connection)),
        row("401 without a code, again and again", At::Create, with(401, ""), Stops(Credentials)),
        row("standing rules: 403", At::Create, with(403, ""), Stops(Connection)),
        row("standing rules: 404", At::Create, with(404, ""), Stops(Connection)),
        exception("WSInvalidParameterException", At::Create, 400, 1002, Rejected(InvalidField, 1)),
        exception("WSInvalidParameterException", At::Update, 400, 1002, Rejected(InvalidField, 1)),
        exception("WSEmailAlreadyExistsException", At::Create, 400, 1010, Rejected(Conflict, 2)),
        // The call of both contacts, and then that of each: one might be at fault.
        exception("WSUserNotFoundException", At::Update, 400, 1009, MadeAnew).times(3),
        exception("WSCompanyServiceException", At::Create, 500, 2020, Rejected(Refused, 3)),
    ];
    for (name, code) in [
        ("WSUserServiceUnavailableException", 2002),
        ("WSCompanyServiceUnavailableException", 2021),
        ("WSCompanyServiceException", 2020),
        ("WSUserServiceException", 2001),
        ("WSCacheServiceException", 2027),
        ("WSInternalException", 2000),
    ] {
        rows.push(exception(name, At::Create, 500, code, TriedAgain));
        rows.push(exception(name, At::Update, 500, code, TriedAgain));
    }
    let unavailable = "WSCacheServiceUnavailableException";
    rows.push(row(unavailable, At::Create, with(503, unavailable), TriedAgain));
    rows.push(row("200 without rows: the outcome is unknown", At::Create, with(200, "[]"), TriedAgain));
    rows.extend(by_status(At::Create));
    rows.extend(by_status(At::Update));
    Table { tenant: TENANT, prepare: |_| (), only, rows }.holds();
}
