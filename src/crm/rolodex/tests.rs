//! What the connector sends, byte for byte, and what it makes of each answer. That nobody is made twice whatever is lost is
//! shown with the other ways to write contacts, in `replicator::delivery`.

use std::{path::Path, sync::Arc};

use super::*;
use crate::crm::{
    Response, TransportError,
    overrides::{Overridden, Overrides},
    reference::References,
    session::Session,
    testing::{KEY, crm_settings, link_with, live},
};

fn settings() -> CrmSettings {
    CrmSettings { on_delete: OnDelete::Delete, ..crm_settings("/nowhere".into()) }
}

fn rolodex() -> Rolodex {
    Rolodex::new(&settings(), &BTreeMap::new()).unwrap()
}

fn ilka() -> ContactRecord {
    live(&json!({
        "name": { "givenName": "Ilka", "familyName": "Sundstrom" }, "emails": [{ "value": "ilka@example.com" }],
        "consent": { "marketing": false }, "gender": "female",
    }))
}

fn linked(sent: &[&str]) -> Link {
    link_with(sent, Some("7"))
}

fn answer(status: u16, body: Value) -> Answer {
    let status = StatusCode::from_u16(status).unwrap();
    Ok(Response { status, headers: http::HeaderMap::new(), body: body.to_string().into() })
}

/// What comes after `answers` to a delivery in which all that is projected differs, and `clears` are gone.
fn next(record: &ContactRecord, link: Option<&Link>, clears: &[&str], answers: &[Answer]) -> Step {
    let rolodex = rolodex();
    let projection = rolodex.project(record, link).unwrap();
    let changes: Vec<Arc<str>> = projection.fields.keys().map(|path| path.as_str().into()).collect();
    let clears: Vec<String> = clears.iter().map(|path| (*path).to_owned()).collect();
    let look_up = rolodex.look_up_keys(record, &projection).filter(|_| link.is_none());
    let delivery = Delivery {
        record,
        link,
        projection: &projection,
        changes: &changes,
        clears: &clears,
        operation: Operation::Update,
        look_up: look_up.as_ref(),
        references: &References::default(),
        tries: 0,
    };
    rolodex.next(&delivery, answers)
}

/// A request as text.
fn said(step: Step) -> String {
    let Step::Call(request) = step else { panic!("a request, not {step:?}") };
    let body = std::str::from_utf8(&request.body).unwrap();
    format!("{} {} {body}", request.method, request.path).trim_end().to_owned()
}

#[test]
fn a_contact_is_searched_for_created_updated_cleared_and_deleted() {
    let search = said(next(&ilka(), None, &[], &[]));
    assert_eq!(search, format!("GET /people?number={KEY}"));
    let nobody = || answer(200, json!([]));
    let create = said(next(&ilka(), None, &[], &[nobody()]));
    let body = format!(r#"{{"email":"ilka@example.com","name":"Ilka Sundstrom","newsletter":false,"number":"{KEY}"}}"#);
    assert_eq!(create, format!("POST /people {body}"));
    let made = next(&ilka(), None, &[], &[nobody(), answer(201, json!({ "id": 7 }))]);
    assert!(matches!(made, Step::Done(accepted) if accepted.remote_ids == remote_ids("7")));
    let found = next(&ilka(), None, &[], &[answer(200, json!([{ "id": 7 }]))]);
    assert!(matches!(found, Step::Found(ids) if ids == remote_ids("7")));
    let two = next(&ilka(), None, &[], &[answer(200, json!([{ "id": 7 }, { "id": 8 }]))]);
    assert!(matches!(two, Step::Judged(verdict) if verdict.reason.code == ReasonCode::AmbiguousMatch));
    let short = live(&json!({ "emails": [] }));
    let update = said(next(&short, Some(&linked(&["notes", "number"])), &["notes"], &[]));
    assert_eq!(update, format!(r#"PATCH /people/7 {{"email":null,"notes":null,"number":"{KEY}"}}"#));
    let gone = ContactRecord { status: Status::Deleted, ..ilka() };
    assert_eq!(said(next(&gone, Some(&linked(&["number"])), &[], &[])), "DELETE /people/7");
    for status in [204, 404] {
        let step = next(&gone, Some(&linked(&["number"])), &[], &[answer(status, Value::Null)]);
        assert!(matches!(step, Step::Done(_)), "{status}");
    }
}

#[test]
fn an_erasure_leaves_our_number() {
    let erased = ContactRecord { status: Status::Erased, contact: None, ..ilka() };
    let blank = said(next(&erased, Some(&linked(&["number"])), &[], &[]));
    let body = format!(r#"{{"email":null,"name":null,"newsletter":null,"notes":null,"number":"{KEY}"}}"#);
    assert_eq!(blank, format!("PATCH /people/7 {body}"));
}

#[test]
fn each_answer_has_its_class() {
    let link = linked(&["number"]);
    let failure = |answer: Answer| match next(&ilka(), Some(&link), &[], &[answer]) {
        Step::Failed(failure) => (failure.class, failure.effect),
        other => panic!("{other:?}"),
    };
    let lost = Err(TransportError::Unanswered { reason: String::new() });
    assert_eq!(failure(lost), (FailureClass::Transient, Effect::Unknown));
    for (status, class) in [
        (401, FailureClass::Auth),
        (403, FailureClass::Connection),
        (404, FailureClass::Gone),
        (422, FailureClass::Rejected),
        (429, FailureClass::Throttled),
    ] {
        assert_eq!(failure(answer(status, Value::Null)), (class, Effect::None), "{status}");
    }
}

#[test]
fn what_it_cannot_carry_is_told_and_rules_fill_what_they_may() {
    let losses = rolodex().project(&ilka(), None).unwrap().losses;
    assert_eq!(losses, [Loss { field: "/gender", why: NO_FIELD }]);
    let ruled = |name: &str| {
        let mut settings = settings();
        settings.fields = serde_json::from_value(json!({ name: "/gender" })).unwrap();
        let overrides = Overrides::new(&settings, &rolodex()).map_err(|misfits| misfits[0].to_string())?;
        let connector = Overridden::new(Arc::new(rolodex()), overrides, settings.on_leave, |_| Err("retires nobody"));
        Ok::<_, String>(connector.unwrap().project(&ilka(), None).unwrap())
    };
    let projection = ruled("notes").unwrap();
    assert_eq!((projection.fields["notes"].as_str(), projection.losses.len()), (Some("female"), 0));
    assert!(ruled("number").unwrap_err().contains("marks a contact as ours"));
}

#[test]
fn its_token_goes_as_a_bearer() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "abc").unwrap();
    let session = session(SecretSource::new(None, Some(Path::new(&file))).unwrap()).unwrap();
    let mut request = json_request(Method::GET, "/people".into(), None, RequestKind::Read);
    session.authorize(&mut request);
    assert!(request.headers.iter().any(|(name, value)| name == "authorization" && value == "Bearer abc"));
}
