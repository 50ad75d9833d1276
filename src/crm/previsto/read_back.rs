//! What is asked to read a contact or a list, and what counts as a difference.

use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::{
    tests::{CONTACT, connector, contact, link_with, record},
    *,
};
use crate::{
    config::FormClear,
    contact::ContactId,
    crm::{
        Response,
        link::Sent,
        reference::References,
        remote::{Compared, Held, One, ReadStep, Reader, Walk},
    },
};

fn answer(status: u16, body: Value) -> Answer {
    let status = StatusCode::from_u16(status).unwrap();
    Ok(Response { status, headers: HeaderMap::new(), body: Bytes::from(body.to_string()) })
}

#[track_caller]
fn called<T: std::fmt::Debug>(step: ReadStep<T>) -> String {
    let ReadStep::Call(request) = step else { panic!("{step:?}") };
    assert_eq!((&request.method, request.kind, request.body.len()), (&Method::GET, RequestKind::Read, 0));
    request.path
}

#[track_caller]
fn class<T: std::fmt::Debug>(step: ReadStep<T>) -> FailureClass {
    let ReadStep::Failed(failure) = step else { panic!("{step:?}") };
    failure.class
}

#[test]
fn a_contact_is_read_by_its_id() {
    let previsto = connector(|_| ());
    let references = References::default();
    let one = One { id: "con/1", view: "contact", references: &references };
    assert_eq!(called(previsto.one(&one, &[])), "/contacts/con%2F1");
    let document = json!({ "id": "con/1", "name": "Ann", "remoteId": null });
    let ReadStep::Done(held) = previsto.one(&one, &[answer(200, document.clone())]) else { panic!("it was read") };
    assert_eq!((held.id.as_deref(), &held.document), (Some("con/1"), &document));
    for (status, body, expected) in [
        (404, json!({ "type": "invalid_request", "param": "id" }), FailureClass::Gone),
        (401, json!({ "type": "api_error" }), FailureClass::Auth),
        (403, json!({ "type": "api_error" }), FailureClass::Connection),
        (429, json!({}), FailureClass::Throttled),
        (400, json!({ "type": "api_error" }), FailureClass::Transient),
        (200, json!([]), FailureClass::Transient),
        (200, json!("no contact"), FailureClass::Transient),
    ] {
        assert_eq!(class(previsto.one(&one, &[answer(status, body)])), expected, "{status}");
    }
}

#[test]
fn a_list_goes_on_until_a_page_is_empty() {
    let previsto = connector(|settings| settings.page_size = 2);
    let references = References::default();
    let walk = |at, by| Walk { view: "contact", by, at, references: &references };
    assert_eq!(called(previsto.page(&walk(None, None), &[])), "/contacts?size=2&page=0");
    let by = Some(("search", "a b&c"));
    assert_eq!(called(previsto.page(&walk(Some(3), by), &[])), "/contacts?size=2&page=3&search=a%20b%26c");
    for (ids, next) in [(&["1", "2"][..], Some(4)), (&["1"], Some(4)), (&[], None)] {
        let items: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
        let ReadStep::Done(page) = previsto.page(&walk(Some(3), None), &[answer(200, json!(items))]) else {
            panic!("it was read")
        };
        assert_eq!((page.items.len(), page.next, page.total), (ids.len(), next, None));
    }
    let mut counted = answer(200, json!([]));
    counted.as_mut().unwrap().headers.insert("x-total-count", http::HeaderValue::from_static("7"));
    let ReadStep::Done(page) = previsto.page(&walk(None, None), &[counted]) else { panic!("it was read") };
    assert_eq!(page.total, Some(7));
    // A wrong base_url, not a missing contact.
    assert_eq!(class(previsto.page(&walk(None, None), &[answer(404, json!({}))])), FailureClass::Connection);
}

/// The fields in which `document` differs from a contact of this content, after these fields were sent.
fn differing(previsto: &Previsto, more: Value, sent: &[&str], document: Value) -> Vec<String> {
    let record = record(contact(more));
    let link = link_with(sent, Some("con_1"));
    let projection = previsto.project(&record, Some(&link)).unwrap();
    let mut whole = json!({
        "id": "con_1", "name": "Ilka Sundstrom", "number": CONTACT.key(), "archived": false, "notifyBeforeWork": false,
        "phone": null, "meta": { "externalRef": CONTACT.key(), "source": "contact-hub" },
    });
    merge(&mut whole, document);
    let held = Held { id: None, document: whole };
    let references = References::default();
    let compared =
        Compared { record: &record, link: &link, projection: &projection, held: &held, references: &references };
    told(previsto, &compared)
}

#[track_caller]
fn told(previsto: &Previsto, compared: &Compared<'_>) -> Vec<String> {
    let ReadStep::Done(fields) = previsto.differences(compared, &[]) else { panic!("nothing else is needed") };
    fields.into_iter().collect()
}

fn merge(whole: &mut Value, more: Value) {
    for (name, value) in serde_json::from_value::<BTreeMap<String, Value>>(more).unwrap() {
        match (name.as_str(), whole.get_mut(&name)) {
            ("meta", Some(meta)) => merge(meta, value),
            (_, _) => drop(whole.as_object_mut().unwrap().insert(name, value)),
        }
    }
}

#[test]
fn each_field_that_is_otherwise_is_named_and_no_other() {
    let previsto = connector(|_| ());
    let more = || {
        json!({
            "emails": [{ "value": "Ilka@Example.com" }],
            "phoneNumbers": [{ "value": "+45 20 55 50 12", "type": "mobile" }],
            "addresses": [{ "locality": "Aarhus", "geo": { "longitude": 10.2, "latitude": 56.1 } }],
            "notes": "one\r\ntwo", "gender": "female", "attributes": { "tier": 5 },
        })
    };
    let held = json!({
        "email": "ilka@example.com", "phone": "004520555012", "city": "Aarhus", "location": [1.0, 2.0], "note": "one\ntwo ",
        "meta": { "gender": "female", "attr_tier": "5", "adopted": "true", "theirs": "x" },
        "agentIds": ["a"], "payingContactId": "con_9",
    });
    assert_eq!(differing(&previsto, more(), &[], held.clone()), [""; 0], "neither form nor foreign fields matter");
    for (change, field) in [
        (json!({ "name": "Ilka Vale" }), "name"),
        (json!({ "email": "other@example.com" }), "email"),
        (json!({ "phone": "+4520555013" }), "phone"),
        (json!({ "phone": null }), "phone"),
        (json!({ "note": "one" }), "note"),
        (json!({ "number": "17" }), "number"),
        (json!({ "meta": { "gender": "male" } }), "meta.gender"),
        (json!({ "meta": { "externalRef": null } }), "meta.externalRef"),
        (json!({ "meta": { "attr_tier": "6" } }), "meta.attr_tier"),
    ] {
        let mut held = held.clone();
        merge(&mut held, change.clone());
        assert_eq!(differing(&previsto, more(), &[], held), [field], "{change}");
    }
}

#[test]
fn what_was_sent_once_and_is_said_no_longer_must_be_empty() {
    let cleared = ["note", "notifyBeforeWork", "meta.gender"];
    let previsto = connector(|_| ());
    assert_eq!(differing(&previsto, json!({}), &cleared, json!({ "note": "" })), [""; 0]);
    let filled = json!({ "note": "by hand", "notifyBeforeWork": true, "meta": { "gender": "male" } });
    assert_eq!(differing(&previsto, json!({}), &cleared, filled.clone()), ["meta.gender", "note", "notifyBeforeWork"]);
    assert_eq!(differing(&previsto, json!({}), &[], filled.clone()), [""; 0], "what was never ours");
    // What no delivery would clear is no difference, or it would be found for ever.
    let omits = connector(|settings| settings.clear_with = FormClear::Omit);
    assert_eq!(differing(&omits, json!({}), &cleared, filled.clone()), [""; 0]);
    let kept = connector(|settings| settings.never_cleared = cleared.iter().map(|field| (*field).to_owned()).collect());
    assert_eq!(differing(&kept, json!({}), &cleared, filled), [""; 0]);
}

#[test]
fn being_archived_is_a_difference_where_it_can_be_mended() {
    for (on_update, expected) in [(true, &["archived"][..]), (false, &[])] {
        let previsto = connector(|settings| settings.archived_on_update = on_update);
        let found = differing(&previsto, json!({ "active": true }), &[wire::ARCHIVED], json!({ "archived": true }));
        assert_eq!(found, expected);
    }
}

#[test]
fn nothing_of_a_contact_that_stays_as_it_is_must_be_empty() {
    let previsto = connector(|_| ());
    let record = ContactRecord { status: Status::Deleted, ..record(Value::Null) };
    let link = link_with(&["note", wire::ARCHIVED], Some("con_1"));
    let projection = previsto.project(&record, Some(&link)).unwrap();
    let references = References::default();
    let document = |archived| {
        json!({ "archived": archived, "note": "kept", "number": CONTACT.key(),
        "meta": { "externalRef": CONTACT.key(), "source": "contact-hub" } })
    };
    for (archived, expected) in [(true, &[][..]), (false, &["archived"])] {
        let held = Held { id: None, document: document(archived) };
        let compared =
            Compared { record: &record, link: &link, projection: &projection, held: &held, references: &references };
        assert_eq!(told(&previsto, &compared), expected);
    }
}

#[test]
fn what_was_sent_with_unknown_effect_is_not_expected_to_be_empty() {
    let previsto = connector(|_| ());
    let record = record(contact(json!({})));
    let mut link = Link::new(ContactId(uuid::Uuid::from_u128(451)));
    link.sent = BTreeMap::from([("note".into(), Sent::Void)]);
    let projection = previsto.project(&record, Some(&link)).unwrap();
    let references = References::default();
    let held = Held { id: None, document: json!({}) };
    let compared =
        Compared { record: &record, link: &link, projection: &projection, held: &held, references: &references };
    assert!(!compared.expected().contains_key("note"));
}
