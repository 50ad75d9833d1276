//! Previsto: section 7 of its contract.

use contact_replicator::{
    config::{CrmKind, OnDelete},
    event::{Operation, ReasonCode},
    explain::Paused,
    sandbox::{Action, Only},
};

use super::{At, Becomes, Table, action, by_status, row, with};
use crate::world::Tenant;

const TENANT: &[Tenant] = &[Tenant { name: "previsto", kind: CrmKind::Previsto }];

fn only(at: At) -> Only {
    match at {
        At::Create => action(Action::Create),
        At::Search => action(Action::Search),
        At::Delete => action(Action::Delete),
        // There is no login.
        At::Login => Only { method: Some("NONE".to_owned()), ..Only::default() },
        _ => action(Action::Update),
    }
}

fn error(kind: &str) -> String {
    format!(r#"{{"type":"{kind}","message":"N1 is wrong","param":"name"}}"#)
}

#[test]
fn each_error_of_previsto_becomes_what_its_contract_says() {
    use Becomes::{Done, MadeAnew, Paused as Stops, Rejected, TriedAgain};
    use Paused::{Connection, Credentials};
    use ReasonCode::{Conflict, InvalidField};
    let bad = || error("invalid_request");
    let mut rows = vec![
        row("7: 404 on DELETE", At::Delete, with(404, bad()), Done(Operation::Delete)),
        row("7: 404 on GET and POST of an id", At::Update, with(404, bad()), MadeAnew),
        row("standing rules: 404 of a fixed path", At::Create, with(404, bad()), Stops(Connection)),
    ];
    for at in [At::Search, At::Create, At::Update, At::Delete] {
        rows.push(row("7: 401", at, with(401, bad()), Stops(Credentials)).coded("invalid_request"));
        rows.push(row("7: 403", at, with(403, bad()), Stops(Connection)).coded("invalid_request"));
        rows.push(row("7: api_error under 400", at, with(400, error("api_error")), TriedAgain));
        rows.extend(by_status(at));
    }
    for at in [At::Create, At::Update] {
        rows.push(
            row("7: 400 invalid_request", at, with(400, bad()), Rejected(InvalidField, 1)).coded("invalid_request"),
        );
        rows.push(row("7: 409", at, with(409, bad()), Rejected(Conflict, 2)).coded("invalid_request"));
    }
    let prepare = |world: &mut crate::world::World| world.settings.crm[0].on_delete = OnDelete::Delete;
    Table { tenant: TENANT, prepare, only, rows }.holds();
}
