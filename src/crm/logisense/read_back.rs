//! What is asked to read a contact or a list, and what counts as a difference.

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use serde_json::json;
use tokio::time::Instant;

use super::{
    tests::{CONTACT, contact, crm_with, record},
    *,
};
use crate::crm::{
    REMOTE_CONTACT, Response,
    link::Sent,
    reference::Library,
    remote::{Compared, Held, One, ReadStep, Walk},
};

fn connector(change: impl FnOnce(&mut LogisenseSettings)) -> Logisense {
    Logisense::new(&crm_with(|crm| change(crm.logisense.as_mut().unwrap()))).unwrap()
}

fn answer(status: u16, body: Value) -> Answer {
    let status = StatusCode::from_u16(status).unwrap();
    Ok(Response { status, headers: HeaderMap::new(), body: Bytes::from(body.to_string()) })
}

/// Method, path and query of a request; all else of it is checked.
#[track_caller]
fn called<T: std::fmt::Debug>(step: ReadStep<T>) -> String {
    let ReadStep::Call(request) = step else { panic!("{step:?}") };
    assert_eq!((request.kind, request.body.len()), (RequestKind::Read, 0));
    let headers: Vec<_> =
        request.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(headers, [("accept", "application/json")]);
    format!("{} {}", request.method, request.path.replace("/ResourceServer/api/v6/", ""))
}

#[track_caller]
fn class<T: std::fmt::Debug>(step: ReadStep<T>) -> FailureClass {
    let ReadStep::Failed(failure) = step else { panic!("{step:?}") };
    failure.class
}

#[test]
fn a_contact_is_read_by_its_id_bare_or_with_its_children() {
    let logisense = connector(|_| ());
    let references = References::default();
    for (view, id, path) in [
        ("detail", "318", "GET Contact/318/Detail"),
        ("contact", "318", "GET Contact/318"),
        ("contact", "a/b", "GET Contact/a%2Fb"),
    ] {
        let one = One { id, view, references: &references };
        assert_eq!(called(logisense.one(&one, &[])), path);
        let document = json!({ "identity": 318, "lastName": "Sundstrom", "updated": "2021-04-26T15:25:27.587Z" });
        let ReadStep::Done(held) = logisense.one(&one, &[answer(200, json!({ "instance": document }))]) else {
            panic!("it was read")
        };
        assert_eq!((held.id.as_deref(), &held.document), (Some("318"), &document));
        for (status, body, expected) in [
            (404, json!({ "errors": [{ "code": 9, "message": "x" }] }), FailureClass::Gone),
            (200, json!({ "instance": null }), FailureClass::Gone),
            (401, Value::Null, FailureClass::Auth),
            (403, Value::Null, FailureClass::Connection),
            (429, Value::Null, FailureClass::Throttled),
            (500, Value::Null, FailureClass::Transient),
            (200, json!({ "errors": [{ "code": 9, "message": "x" }] }), FailureClass::Rejected),
            (200, json!({}), FailureClass::Transient),
            (200, json!({ "instance": { "lastName": "x" } }), FailureClass::Transient),
        ] {
            assert_eq!(class(logisense.one(&one, &[answer(status, body.clone())])), expected, "{status} {body}");
        }
    }
}

#[test]
fn the_code_of_a_fault_is_told_and_its_message_is_not() {
    let logisense = connector(|_| ());
    let references = References::default();
    let one = One { id: "1", view: "contact", references: &references };
    let refused = answer(400, json!({ "trackingId": "5b", "errors": [{ "code": 11_900_000, "message": "Ilka" }] }));
    let ReadStep::Failed(failure) = logisense.one(&one, &[refused]) else { panic!("it failed") };
    assert_eq!((failure.class, failure.reason.crm_code.as_deref()), (FailureClass::Rejected, Some("11900000")));
}

#[test]
fn a_list_is_read_at_once_or_page_by_page() {
    let logisense = connector(|settings| settings.page_size = 2);
    let references = References::default();
    let walk = |view, at| Walk { view, by: None, at, references: &references };
    for (view, at, path) in [
        ("all", None, "GET Contact/"),
        ("contact", None, "GET Contact/Paged?pageNumber=1&pageSize=2&excludeTotalCount=false"),
        ("contact", Some(3), "GET Contact/Paged?pageNumber=3&pageSize=2&excludeTotalCount=false"),
        ("detail", Some(3), "GET Contact/Paged/Detail?pageNumber=3&pageSize=2&excludeTotalCount=false"),
    ] {
        assert_eq!(called(logisense.page(&walk(view, at), &[])), path);
    }
    let items = |count: u64| (1..=count).map(|id| json!({ "identity": id })).collect::<Vec<_>>();
    let page = |count: u64, total: Value, size: u64| {
        let results = json!({ "totalCount": total, "items": items(count) });
        answer(200, json!({ "pagination": { "pageNumber": 2, "pageSize": size }, "pagedResults": results }))
    };
    for (answer, count, next, total) in [
        (page(2, json!(5), 2), 2, Some(3), Some(5)),
        (page(2, json!(4), 2), 2, None, Some(4)),
        // Fewer than asked for, since the server gives no more at once.
        (page(1, json!(3), 1), 1, Some(3), Some(3)),
        // Without a total, only an empty page is surely the last.
        (page(1, Value::Null, 2), 1, Some(3), None),
        (page(0, Value::Null, 2), 0, None, None),
    ] {
        let ReadStep::Done(page) = logisense.page(&walk("detail", Some(2)), &[answer]) else { panic!("it was read") };
        assert_eq!((page.items.len(), page.next, page.total), (count, next, total));
    }
    let all = answer(200, json!({ "trackingId": "d2", "totalCount": 3, "items": items(3) }));
    let ReadStep::Done(page) = logisense.page(&walk("all", None), &[all]) else { panic!("it was read") };
    assert_eq!((page.items.len(), page.next, page.total), (3, None, Some(3)));
    assert_eq!(page.items[2].id.as_deref(), Some("3"));
    for (status, body, expected) in [
        (404, Value::Null, FailureClass::Connection),
        (200, json!({ "items": [1] }), FailureClass::Transient),
        (200, json!({ "items": [{}] }), FailureClass::Transient),
        (200, json!([]), FailureClass::Transient),
    ] {
        assert_eq!(class(logisense.page(&walk("all", None), &[answer(status, body)])), expected, "{status}");
    }
}

/// The lists of a tenant, as a comparison asks for them.
fn list(path: &str) -> Answer {
    let point = |id: u64, name: &str, multiple: bool| json!({ "identity": id, "name": name, "contactTypeId": 20, "allowMultiple": multiple });
    let items = match path {
        "GET ContactType/" => json!([{ "identity": 20, "name": "Billing" }, { "identity": 21, "name": "Shipping" }]),
        "GET ContactPointType/" => {
            json!([
                point(41, "email", true),
                point(42, "phone", true),
                point(43, "fax", false),
                point(45, "mobile", false)
            ])
        }
        "GET Country/" => json!([{ "identity": 2, "name": "Canada", "code": "CA" }]),
        "GET State/" => json!([{ "identity": 9, "name": "Ontario", "code": "ON", "countryId": 2 }]),
        path => panic!("{path} is not needed"),
    };
    answer(200, json!({ "items": items }))
}

struct Case {
    logisense: Logisense,
    record: ContactRecord,
    link: Link,
}

impl Case {
    /// A contact of this content after everything of it was accepted, and of it before that these fields.
    fn new(more: Value, ids: &[(&str, &str)], sent: &[&str]) -> Self {
        let logisense = connector(|_| ());
        let record = record(contact(more));
        let mut link = Link::new(CONTACT);
        link.remote_ids =
            [(REMOTE_CONTACT, "318")].iter().chain(ids).map(|(a, b)| ((*a).into(), (*b).into())).collect();
        link.presence = Some(super::super::Presence::Active);
        let projection = logisense.project(&record, Some(&link)).unwrap();
        let paths = projection.fields.keys().map(String::as_str).chain(sent.iter().copied());
        link.sent = paths.map(|path| (path.into(), Sent::Hash(1))).collect();
        Self { logisense, record, link }
    }

    /// The fields that differ, with lists read as they are asked for.
    #[track_caller]
    fn differing(&self, document: &Value) -> Vec<String> {
        let library = Library::new(Duration::from_secs(60), Duration::from_secs(60));
        let projection = self.logisense.project(&self.record, Some(&self.link)).unwrap();
        let held = Held { id: None, document: document.clone() };
        let mut answers = Vec::new();
        loop {
            let references = library.at(Instant::now());
            let Self { record, link, .. } = self;
            let compared = Compared { record, link, projection: &projection, held: &held, references: &references };
            match self.logisense.differences(&compared, &answers) {
                ReadStep::Done(fields) => return fields.into_iter().collect(),
                ReadStep::Learned(learned) => {
                    library.keep(learned, Instant::now());
                    answers.clear();
                }
                ReadStep::Failed(failure) => panic!("{failure:?}"),
                step @ ReadStep::Call(_) => answers.push(list(&called(step))),
            }
        }
    }
}

fn everything() -> Case {
    let more = json!({
        "emails": [{ "value": "ilka@example.com" }, { "value": "ilka@example.org" }],
        "phoneNumbers": [
            { "value": "+1 519 555 0111", "type": "mobile" }, { "value": "+1 519 555 0112", "type": "mobile" },
            { "value": "+1 519 555 0113", "type": "work" },
        ],
        "addresses": [{
            "streetAddress": "Kanal St", "locality": "Guelph", "region": "ON", "postalCode": "N1G", "country": "CA",
            "geo": { "longitude": -80, "latitude": 43.5 },
        }],
    });
    let ids = [
        ("contactPoint.email.1", "74"),
        ("contactPoint.email.2", "75"),
        ("contactPoint.mobile.1", "76"),
        ("contactPoint.work.1", "77"),
        ("address", "68"),
    ];
    Case::new(more, &ids, &["title"])
}

fn shown() -> Value {
    let point = |id: u64, point_type: u64, value: &str| json!({ "identity": id, "contactPointTypeId": point_type, "contactPointTypeName": "x", "value": value });
    json!({
        "identity": 318, "contactTypeId": 20, "contactTypeName": "BILLING", "title": "", "firstName": "Ilka",
        "lastName": "Sundstrom", "isUsedForTax": true, "updated": "2021-04-26T15:25:27.587Z",
        "details": {
            "contactPoints": [
                point(75, 41, "ilka@example.org"), point(74, 41, "ilka@example.com"), point(76, 45, "+1 519 555 0111"),
                point(77, 42, "+1 519 555 0113"),
                // Of a kind that was never sent, and of a type that is none of ours.
                point(78, 43, "by hand"), point(79, 99, "by hand"),
            ],
            "address": {
                "identity": 68, "address1": "Kanal St", "address2": null, "cityName": "Guelph", "stateId": 9,
                "stateName": "Ontario", "countryId": 2, "countryCode": "CA", "zipCode": "N1G", "latitude": 43.5,
                "longitude": -80.0, "isIncorporated": true,
            },
        },
    })
}

#[tokio::test]
async fn what_comes_back_in_another_form_is_no_difference() {
    let case = everything();
    assert_eq!(case.differing(&shown()), [""; 0], "names of types, the order of points, and what has no room");
    let mut shared = shown();
    shared["details"]["address"]["identity"] = json!(5);
    assert_eq!(case.differing(&shared), [""; 0], "the address of another contact, if it is the same");
    let mut retyped = shown();
    retyped["details"]["contactPoints"][0]["identity"] = json!(80);
    assert_eq!(case.differing(&retyped), [""; 0], "a point that somebody made anew with the same value");
}

#[tokio::test]
async fn each_field_that_is_otherwise_is_named_and_no_other() {
    let case = everything();
    let address = [
        "address.address1",
        "address.cityName",
        "address.countryId",
        "address.latitude",
        "address.longitude",
        "address.stateId",
        "address.zipCode",
    ];
    for (place, value, fields) in [
        ("/contactTypeId", json!(21), &["contactTypeId"][..]),
        ("/title", json!("Ms."), &["title"]),
        ("/title", json!(CONTACT.key()), &["title"]),
        ("/firstName", Value::Null, &["firstName"]),
        ("/lastName", json!("Vale"), &["lastName"]),
        ("/details/contactPoints/1/value", json!("x@example.com"), &["contactPoint.email.1"]),
        ("/details/contactPoints/0/contactPointTypeId", json!(99), &["contactPoint.email.2"]),
        ("/details/contactPoints/2/value", json!("1"), &["contactPoint.mobile.1"]),
        ("/details/contactPoints/3/value", Value::Null, &["contactPoint.work.1"]),
        // One too many, of a kind that is ours.
        ("/details/contactPoints/5/contactPointTypeId", json!(41), &["contactPoint.email.3"]),
        ("/details/address/cityName", json!("Elora"), &["address.cityName"]),
        ("/details/address/stateId", Value::Null, &["address.stateId"]),
        ("/details/address/countryId", json!(1), &["address.countryId"]),
        ("/details/address/latitude", json!(43.6), &["address.latitude"]),
        ("/details/address", Value::Null, &address),
    ] {
        let mut document = shown();
        *document.pointer_mut(place).unwrap() = value.clone();
        assert_eq!(case.differing(&document), fields, "{place} {value}");
    }
}

#[tokio::test]
async fn what_was_sent_once_and_is_said_no_longer_must_be_empty() {
    let document = json!({
        "identity": 318, "contactTypeId": 20, "title": "Ms.", "firstName": "Ilka", "lastName": "Sundstrom",
        "isUsedForTax": false,
        "details": {
            "contactPoints": [{ "identity": 80, "contactPointTypeId": 43, "value": "1" }],
            "address": { "identity": 5, "address1": "Theirs" },
        },
    });
    let sent = ["title", "contactPoint.fax.1", "address.address1"];
    let case = Case::new(json!({}), &[], &sent);
    assert_eq!(case.differing(&document), ["address.address1", "contactPoint.fax.1", "title"]);
    assert_eq!(Case::new(json!({}), &[], &[]).differing(&document), [""; 0], "what was never ours");
    let empty = json!({ "identity": 318, "contactTypeId": 20, "firstName": "Ilka", "lastName": "Sundstrom" });
    assert_eq!(case.differing(&empty), [""; 0]);
}

#[tokio::test]
async fn what_the_tenant_has_no_place_for_is_no_difference() {
    let place = json!({ "addresses": [{ "locality": "Guelph", "region": "Nowhere", "country": "CA" }] });
    let case = Case::new(place, &[("address", "68")], &[]);
    let document = json!({
        "identity": 318, "contactTypeId": 20, "firstName": "Ilka", "lastName": "Sundstrom",
        "details": { "address": { "identity": 68, "cityName": "Guelph", "countryId": 2, "stateId": null } },
    });
    assert_eq!(case.differing(&document), [""; 0]);
}
