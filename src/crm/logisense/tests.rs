//! The mapping table row by row, the children's changes, and the wire.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;
use tokio::time::Instant;

use super::*;
pub(super) use crate::crm::testing::{CONTACT, record};
use crate::{
    config::{BeyondWalk, LoginAs, MiddleName, OnDelete, PatchItems, PatchShape, UnknownPlace},
    contact::schema,
    crm::{Presence, Response, link::Sent, reference::Library, session::login::Login as _, testing::logisense_crm},
    event::{Operation, OutcomeKind},
    privacy::Secret,
};

/// A name, which is the least that LogiSense takes, and on top of it what a test is about.
pub(super) fn contact(more: Value) -> Value {
    let mut contact = json!({ "name": { "givenName": "Ilka", "familyName": "Sundstrom" } });
    let Value::Object(more) = more else { panic!("an object") };
    contact.as_object_mut().unwrap().extend(more);
    contact
}

pub(super) fn crm_with(change: impl FnOnce(&mut CrmSettings)) -> CrmSettings {
    let mut crm = logisense_crm();
    change(&mut crm);
    crm
}

fn connector(change: impl FnOnce(&mut LogisenseSettings)) -> Logisense {
    Logisense::new(&crm_with(|crm| change(crm.logisense.as_mut().unwrap()))).unwrap()
}

fn fields(object: Value) -> BTreeMap<String, Value> {
    serde_json::from_value(object).unwrap()
}

/// `more` on top of the least becomes `expected` on top of the least, with these losses.
fn check(more: Value, expected: Value, losses: &[&str]) {
    check_with(|_| (), more, expected, losses);
}

fn check_with(change: impl FnOnce(&mut LogisenseSettings), more: Value, expected: Value, losses: &[&str]) {
    let projection = connector(change).project(&record(contact(more.clone())), None).unwrap();
    let mut all = fields(json!({ "contactTypeId": "Billing", "firstName": "Ilka", "lastName": "Sundstrom" }));
    all.extend(fields(expected));
    assert_eq!(projection.fields, all, "{more}");
    let lost: Vec<&str> = projection.losses.iter().map(|loss| loss.field).collect();
    assert_eq!(lost, losses, "{more}");
    let paths: BTreeSet<&str> = schema::paths().collect();
    assert!(lost.iter().all(|field| paths.contains(field)), "{lost:?}");
}

#[test]
fn a_name_is_a_title_and_two_names() {
    let name = |more: Value| {
        let mut name = json!({ "givenName": "Ilka", "familyName": "Sundstrom" });
        name.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "name": name })
    };
    check(name(json!({ "honorificPrefix": "Ms." })), json!({ "title": "Ms." }), &[]);
    check(name(json!({ "honorificPrefix": null, "givenName": " " })), json!({ "title": null, "firstName": null }), &[]);
    check(name(json!({ "middleName": "Maj" })), json!({}), &["/name/middleName"]);
    let append = |settings: &mut LogisenseSettings| settings.middle_name = MiddleName::Append;
    check_with(append, name(json!({ "middleName": "Maj" })), json!({ "firstName": "Ilka Maj" }), &[]);
    let rest = json!({ "formatted": "Ilka", "honorificSuffix": "PhD" });
    check(name(rest), json!({}), &["/name/formatted", "/name/honorificSuffix"]);
    let missing = Verdict::field(OutcomeKind::Rejected, ReasonCode::MissingField, "/name/familyName");
    let nameless = record(json!({ "name": { "givenName": "Ilka" } }));
    assert_eq!(connector(|_| ()).project(&nameless, None), Err(missing));
}

#[test]
fn an_organization_is_sent_where_it_has_a_type() {
    let document = || record(contact(json!({ "kind": "organization", "organization": { "name": "Harbour" } })));
    let unsupported = Verdict::field(OutcomeKind::Unsupported, ReasonCode::Kind, "/kind");
    assert_eq!(connector(|_| ()).project(&document(), None), Err(unsupported));
    let company = connector(|settings| settings.organization_contact_type = "Company".to_owned());
    let projection = company.project(&document(), None).unwrap();
    assert_eq!(projection.fields, fields(json!({ "contactTypeId": "Company", "lastName": "Harbour" })));
    let lost: Vec<_> = projection.losses.iter().map(|loss| loss.field).collect();
    assert_eq!(lost, ["/name/familyName", "/name/givenName"]);
    let nameless = record(contact(json!({ "kind": "organization" })));
    let missing = Verdict::field(OutcomeKind::Rejected, ReasonCode::MissingField, "/organization/name");
    assert_eq!(company.project(&nameless, None), Err(missing));
}

#[test]
fn points_go_by_their_kinds_the_primary_one_first() {
    let emails = json!({ "emails": [{ "value": "a@b.c", "type": "work" }, { "value": "d@e.f", "primary": true }] });
    let expected = json!({ "contactPoint.email.1": "d@e.f", "contactPoint.email.2": "a@b.c" });
    check(emails.clone(), expected, &["/emails/primary", "/emails/type"]);
    let one = |settings: &mut LogisenseSettings| settings.points_max = 1;
    let losses = ["/emails/primary", "/emails/type", "/emails/value"];
    check_with(one, emails, json!({ "contactPoint.email.1": "d@e.f" }), &losses);
    let phone = |kind: &str, value: &str| json!({ "value": value, "type": kind });
    check(
        json!({ "phoneNumbers": [phone("mobile", "1"), phone("fax", "2"), { "value": "3" }] }),
        json!({ "contactPoint.mobile.1": "1", "contactPoint.fax.1": "2", "contactPoint.work.1": "3" }),
        &[],
    );
    let shared = json!({ "phoneNumbers": [phone("work", "1"), phone("home", "2")] });
    let expected = json!({ "contactPoint.work.1": "1", "contactPoint.home.1": "2" });
    check(shared, expected, &["/phoneNumbers/type"]);
    let without = |settings: &mut LogisenseSettings| settings.contact_points.fax.clear();
    check_with(without, json!({ "phoneNumbers": [phone("fax", "2")] }), json!({}), &["/phoneNumbers/value"]);
    let planting = |settings: &mut LogisenseSettings| settings.contact_points.reference = "reference".to_owned();
    check_with(planting, json!({}), json!({ "contactPoint.reference.1": CONTACT.key() }), &[]);
}

#[test]
fn one_address_is_sent_work_before_postal_before_the_first() {
    let address = |kind: &str, city: &str| json!({ "type": kind, "locality": city });
    let several = json!({ "addresses": [address("home", "A"), address("postal", "B"), address("work", "C")] });
    check(several, json!({ "address.cityName": "C" }), &["/addresses", "/addresses/type"]);
    let postal = json!({ "addresses": [{ "locality": "A" }, address("postal", "B")] });
    check(postal, json!({ "address.cityName": "B" }), &["/addresses", "/addresses/type"]);
    let whole = json!({ "addresses": [{
        "streetAddress": "Mill House\nKanal St", "streetNumber": "14", "apartment": "2", "floor": "3", "poBox": "88",
        "district": "Glebe", "locality": "Guelph", "region": "ON", "country": "CA", "postalCode": "N1G 2W1",
        "geo": { "longitude": -80.2, "latitude": 43.5 },
    }] });
    let expected = json!({
        "address.address1": "14 Mill House", "address.address2": "Kanal St, 2, 3, PO Box 88, Glebe",
        "address.cityName": "Guelph", "address.stateId": "ON", "address.countryId": "CA", "address.zipCode": "N1G 2W1",
        "address.latitude": 43.5, "address.longitude": -80.2,
    });
    check(whole, expected, &[]);
    let half = json!({ "addresses": [{ "locality": "A", "region": "ON", "geo": { "latitude": 1 } }] });
    check(half, json!({ "address.cityName": "A" }), &["/addresses/geo", "/addresses/region"]);
    let nothing: BTreeMap<&str, Value> = wire::address::ALL.into_iter().map(|path| (path, Value::Null)).collect();
    check(json!({ "addresses": [] }), json!(nothing), &[]);
}

#[test]
fn what_has_no_place_is_lost_and_an_inactive_contact_is_told_of() {
    check(
        json!({
            "organization": { "name": "x", "vatNumber": "1" }, "birthDate": "1990-01-01", "gender": "f", "notes": "n",
            "preferredLanguage": "en", "consent": { "marketing": false }, "active": false, "owner": "o",
            "identifiers": { "a": "b" }, "attributes": { "shoe": 44, "none": null },
        }),
        json!({}),
        &[
            "/active",
            "/attributes",
            "/birthDate",
            "/consent/marketing",
            "/gender",
            "/identifiers",
            "/notes",
            "/organization/name",
            "/organization/vatNumber",
            "/owner",
            "/preferredLanguage",
        ],
    );
    check(json!({ "active": true, "attributes": { "contact_type": 21 } }), json!({ "contactTypeId": "21" }), &[]);
}

#[test]
fn what_is_to_go_is_deleted_blanked_or_not_supported() {
    let link =
        Link { incomplete: true, remote_ids: BTreeMap::from([("contact".into(), "1".into())]), ..Link::new(CONTACT) };
    let deleted = ContactRecord { status: Status::Deleted, ..record(contact(json!({}))) };
    let unsupported = Verdict::new(OutcomeKind::Unsupported, ReasonCode::Deactivate);
    assert_eq!(connector(|_| ()).project(&deleted, Some(&link)), Err(unsupported));
    let deleting = Logisense::new(&crm_with(|crm| crm.on_delete = OnDelete::Delete)).unwrap();
    assert_eq!(deleting.project(&deleted, Some(&link)).unwrap().presence, Presence::Absent);
    let unknown = Verdict::new(OutcomeKind::Unchanged, ReasonCode::UnknownContact);
    assert_eq!(deleting.project(&deleted, None), Err(unknown));
    let erased = ContactRecord { status: Status::Erased, ..record(Value::Null) };
    let blank = connector(|_| ()).project(&erased, Some(&link)).unwrap().fields;
    assert_eq!(blank["lastName"], "(erased)");
    assert!(blank.iter().all(|(field, value)| field == "lastName" || value.is_null()));
}

// The wire.

/// The tenant's lists, as far as the tests need them.
fn library() -> References {
    let library = Library::new(Duration::from_secs(60), Duration::from_secs(60));
    let keep = |list, items: Value| {
        let items: Vec<BTreeMap<String, Value>> = serde_json::from_value(items).unwrap();
        library.keep(lists::learned(list, &items, "code"), Instant::now());
    };
    keep("contact_type", json!([{ "identity": 20, "name": "Billing" }]));
    let point = |id: u64, name: &str, multiple: bool| json!({ "identity": id, "name": name, "contactTypeId": 20, "allowMultiple": multiple });
    keep(
        "contact_point_type",
        json!([point(41, "email", false), point(42, "Phone", true), point(44, "reference", false)]),
    );
    keep("country", json!([{ "identity": 2, "name": "Canada", "code": "CA" }]));
    keep("state", json!([{ "identity": 9, "name": "Ontario", "code": "ON", "countryId": 2 }]));
    library.at(Instant::now())
}

fn ok(body: Value) -> Answer {
    answer(200, body)
}

fn answer(status: u16, body: Value) -> Answer {
    let status = http::StatusCode::from_u16(status).unwrap();
    Ok(Response { status, headers: http::HeaderMap::new(), body: body.to_string().into() })
}

/// A delivery in the making.
struct Case {
    logisense: Logisense,
    record: ContactRecord,
    link: Option<Link>,
    changes: Option<Vec<&'static str>>,
    look_up: bool,
    operation: Operation,
}

impl Case {
    fn new(document: Value, change: impl FnOnce(&mut LogisenseSettings)) -> Self {
        let record = record(contact(document));
        let operation = Operation::Create;
        Self { logisense: connector(change), record, link: None, changes: None, look_up: false, operation }
    }

    /// Known by 318, with these ids of children, and changed in these fields.
    fn linked(mut self, ids: &[(&str, &str)], changes: &[&'static str]) -> Self {
        let mut link = Link::new(CONTACT);
        let projection = self.logisense.project(&self.record, None).unwrap();
        link.sent = projection.fields.keys().map(|path| (path.as_str().into(), Sent::Hash(1))).collect();
        link.presence = Some(Presence::Active);
        link.remote_ids = BTreeMap::from([("contact".to_owned(), "318".to_owned())]);
        link.remote_ids.extend(ids.iter().map(|(role, id)| ((*role).to_owned(), (*id).to_owned())));
        (self.link, self.changes, self.operation) = (Some(link), Some(changes.to_vec()), Operation::Update);
        self
    }

    fn step(&self, answers: &[Answer]) -> Step {
        let projection = self.logisense.project(&self.record, self.link.as_ref()).unwrap();
        let changes: Vec<Arc<str>> = match &self.changes {
            Some(changes) => changes.iter().map(|path| Arc::from(*path)).collect(),
            None => projection.fields.keys().map(|path| Arc::from(path.as_str())).collect(),
        };
        let keys = self.logisense.look_up_keys(&self.record, &projection);
        let references = library();
        let delivery = Delivery {
            record: &self.record,
            link: self.link.as_ref(),
            projection: &projection,
            changes: &changes,
            clears: &[],
            operation: self.operation,
            look_up: keys.as_ref().filter(|_| self.look_up),
            references: &references,
            tries: 0,
        };
        self.logisense.next(&delivery, answers)
    }

    /// The next request, as method, path and body.
    fn request(&self, answers: &[Answer]) -> String {
        let Step::Call(request) = self.step(answers) else { panic!("{:?}", self.step(answers)) };
        let path = request.path.strip_prefix("/ResourceServer/api/v6/").unwrap();
        format!("{} {path} {}", request.method, std::str::from_utf8(&request.body).unwrap())
    }

    fn failure(&self, answer: Answer) -> Failure {
        let Step::Failed(failure) = self.step(&[answer]) else { panic!("a failure") };
        failure
    }
}

/// The contact of the worked example.
fn example() -> Case {
    let document = json!({
        "name": { "honorificPrefix": "Ms.", "givenName": "Ilka", "familyName": "Sundstrom" },
        "emails": [{ "value": "ilka.sundstrom@example.com" }],
        "addresses": [{
            "streetAddress": "14 Kanal St", "locality": "Guelph", "region": "ON", "country": "CA", "postalCode": "N1G 2W1",
        }],
    });
    Case::new(document, |settings| {
        settings.is_used_for_tax = Some(false);
        settings.contact_points.reference = "reference".to_owned();
        settings.contact_points.mobile = "phone".to_owned();
    })
}

fn bare(title: &str) -> Value {
    json!({
        "identity": 318, "contactTypeId": 20, "contactTypeName": "Billing", "title": title, "firstName": "Ilka",
        "lastName": "Sundstrom", "isUsedForTax": false,
    })
}

#[tokio::test]
async fn the_worked_example_is_spoken_byte_for_byte() {
    let key = CONTACT.key();
    let mut case = example();
    let create = format!(
        r#"POST Contact/ {{"contactTypeId":20,"title":"{key}","firstName":"Ilka","lastName":"Sundstrom","isUsedForTax":false}}"#
    );
    assert_eq!(case.request(&[]), create);
    let made =
        ok(json!({ "trackingId": "5b0e", "type": "create", "results": { "totalCount": 1, "items": [bare(&key)] } }));
    let Step::Created(ids) = case.step(&[made]) else { panic!("it is created") };
    assert_eq!(ids, BTreeMap::from([("contact".to_owned(), "318".to_owned())]));

    case.link = Some(Link { remote_ids: ids, incomplete: true, ..Link::new(CONTACT) });
    assert_eq!(case.request(&[]), "GET Contact/318/Detail ");
    let detail = || ok(json!({ "trackingId": "5b0f", "instance": bare(&key) }));
    let patch = format!(
        r#"PATCH Contact/318 {{"title":"Ms.","details":{{"contactPoints":{{"items":[{{"patchType":"create","patchClientId":1,"contactPointTypeId":41,"value":"ilka.sundstrom@example.com"}},{{"patchType":"create","patchClientId":2,"contactPointTypeId":44,"value":"{key}"}}]}},"address":{{"items":[{{"patchType":"create","patchClientId":3,"address1":"14 Kanal St","cityName":"Guelph","stateId":9,"countryId":2,"zipCode":"N1G 2W1"}}]}}}}}}"#
    );
    assert_eq!(case.request(&[detail()]), patch);
    let change =
        |id: u64, kind: &str| json!({ "identity": id, "action": "created", "dtoTypeKey": kind, "instance": {} });
    let items = [change(901, "contactPoint"), change(902, "contactPoint"), change(77, "address")];
    let done = ok(json!({ "trackingId": "5b10", "type": "patch", "results": { "totalCount": 3, "items": items } }));
    let Step::Done(accepted) = case.step(&[detail(), done]) else { panic!("it is done") };
    let ids = json!({
        "contact": "318", "contactPoint.email.1": "901", "contactPoint.reference.1": "902", "address": "77",
    });
    assert_eq!((accepted.operation, json!(accepted.remote_ids)), (Operation::Create, ids));
}

#[tokio::test]
async fn an_update_carries_what_changed_and_reads_nothing_where_all_is_known() {
    let ids = [("contactPoint.email.1", "901"), ("address", "77")];
    let linked = |changes: &[&'static str]| example().linked(&ids, changes);
    assert_eq!(linked(&["lastName"]).request(&[]), r#"PUT Contact/318 {"identity":318,"lastName":"Sundstrom"}"#);
    assert_eq!(
        linked(&["contactPoint.email.1", "firstName"]).request(&[]),
        r#"PATCH Contact/318 {"firstName":"Ilka","details":{"contactPoints":{"items":[{"patchType":"update","identity":901,"value":"ilka.sundstrom@example.com"}]}}}"#
    );
    assert_eq!(
        linked(&["address.zipCode"]).request(&[]),
        r#"PATCH Contact/318 {"details":{"address":{"items":[{"patchType":"update","identity":77,"zipCode":"N1G 2W1"}]}}}"#
    );
    let mut doubtful = linked(&["contactPoint.email.1"]);
    doubtful.link.as_mut().unwrap().sent.insert("contactPoint.email.1".into(), Sent::Void);
    assert_eq!(doubtful.request(&[]), "GET Contact/318/Detail ");
    // A child that is named and not there any more is refused, and then looked for.
    let refused = || answer(400, json!({ "errors": [{ "code": 1, "message": "x" }] }));
    assert_eq!(linked(&["contactPoint.email.1"]).request(&[refused()]), "GET Contact/318/Detail ");
    // An address that we did not make is not touched: another takes its place.
    let shared = json!({ "identity": 5, "address1": "Shared", "zipCode": "X" });
    let mut there = bare("Ms.");
    there["details"] = json!({ "contactPoints": [], "address": shared });
    let request = linked(&["address.zipCode"]).request(&[refused(), ok(json!({ "instance": there }))]);
    assert!(
        request.contains(r#""address":{"items":[{"patchType":"create","patchClientId":1,"address1":"14 Kanal St""#),
        "{request}"
    );
}

#[tokio::test]
async fn what_is_looked_for_is_marked_searched_or_walked_to() {
    let key = CONTACT.key();
    let mut case = Case::new(json!({ "emails": [{ "value": "ilka@example.com" }] }), |_| ());
    case.look_up = true;
    let search = |criteria: &str| {
        format!(
            r#"POST Contact/Search {{"query":{{"top":100,"search":[{criteria}],"pagination":{{"pageNumber":1,"pageSize":100}}}}}}"#
        )
    };
    let by = |name: &str, value: &str| format!(r#"{{"name":"{name}","operator":"eq","value":"{value}"}}"#);
    let page = |items: &[Value]| ok(json!({ "pagedResults": { "totalCount": items.len(), "items": items } }));
    assert_eq!(case.request(&[]), search(&by("title", &key)));
    assert!(matches!(case.step(&[page(&[bare(&key)])]), Step::Created(_)));
    let two = page(&[bare(&key), json!({ "identity": 319, "title": key })]);
    let Step::Judged(verdict) = case.step(&[two]) else { panic!("a verdict") };
    assert_eq!(verdict, Verdict::new(OutcomeKind::Rejected, ReasonCode::AmbiguousMatch));
    assert!(case.request(&[page(&[])]).starts_with("POST Contact/ "), "without our reference nobody is adopted");
    let names = format!("{},{}", by("lastName", "Sundstrom"), by("firstName", "Ilka"));
    let mut unmarked = Case::new(json!({ "emails": [{ "value": "ilka@example.com" }] }), |settings| {
        settings.create_marker = CreateMarker::Off;
    });
    unmarked.look_up = true;
    assert_eq!(unmarked.request(&[]), search(&names));
    assert_eq!(unmarked.request(&[page(&[bare("Ms.")])]), "GET Contact/318/Detail ");
    for status in [404, 405] {
        let Step::Learned(learned) = case.step(&[answer(status, Value::Null)]) else { panic!("it is learned") };
        assert_eq!(learned, lists::without_search());
    }
    let mut walking = Case::new(json!({}), |settings| {
        settings.search = false;
        (settings.page_size, settings.walk_pages_max) = (2, 2);
    });
    walking.look_up = true;
    let walk =
        |number: u32| format!("GET Contact/Paged/Detail?pageNumber={number}&pageSize=2&excludeTotalCount=false ");
    assert_eq!(walking.request(&[]), walk(1));
    let full = |first: u64, total: Value| {
        let items = [json!({ "identity": first }), json!({ "identity": first + 1 })];
        ok(json!({ "pagedResults": { "totalCount": total, "items": items } }))
    };
    assert_eq!(walking.request(&[full(1, json!(4))]), walk(2));
    assert!(walking.request(&[full(1, json!(4)), full(3, json!(4))]).starts_with("POST Contact/ "));
    for more in [&[full(1, json!(5))][..], &[full(1, Value::Null), full(3, Value::Null)]] {
        let Step::Judged(verdict) = walking.step(more) else { panic!("a verdict") };
        assert_eq!(verdict.reason.code, ReasonCode::AmbiguousMatch, "there is more than may be read");
    }
    assert!(walking.request(&[full(1, json!(4)), page(&[])]).starts_with("POST Contact/ "));
}

#[tokio::test]
async fn a_page_that_is_smaller_than_asked_for_is_not_the_last() {
    let mut walking = Case::new(json!({}), |settings| settings.search = false);
    walking.look_up = true;
    let clamped = |total: Value| {
        let items = [json!({ "identity": 1 }), json!({ "identity": 2 })];
        let pagination = json!({ "pageNumber": 1, "pageSize": 2, "excludeTotalCount": false });
        ok(json!({ "pagination": pagination, "pagedResults": { "totalCount": total, "items": items } }))
    };
    for total in [json!(3), Value::Null] {
        let next = walking.request(&[clamped(total)]);
        assert!(next.starts_with("GET Contact/Paged/Detail?pageNumber=2&"), "{next}");
    }
    // What a search gives may be cut in the same way.
    let mut searching = Case::new(json!({}), |_| ());
    searching.look_up = true;
    let found = |total: u64| ok(json!({ "totalCount": total, "items": [bare(&CONTACT.key())] }));
    assert!(matches!(searching.step(&[found(1)]), Step::Created(_)), "a bare list is understood too");
    let Step::Judged(verdict) = searching.step(&[found(2)]) else { panic!("a verdict") };
    assert_eq!(verdict.reason.code, ReasonCode::AmbiguousMatch);
}

#[tokio::test]
async fn pages_are_asked_for_by_the_arguments_of_the_settings() {
    let mut walking = Case::new(json!({}), |settings| {
        (settings.search, settings.first_page) = (false, 0);
        settings.page_number_argument = "page".to_owned();
        settings.page_size_argument = "size".to_owned();
        settings.exclude_total_argument.clear();
    });
    walking.look_up = true;
    assert_eq!(walking.request(&[]), "GET Contact/Paged/Detail?page=0&size=100 ");
    let first = ok(json!({ "pagedResults": { "totalCount": 101, "items": [{ "identity": 1 }] } }));
    assert_eq!(walking.request(&[first]), "GET Contact/Paged/Detail?page=1&size=100 ");
}

#[tokio::test]
async fn where_there_are_too_many_to_go_through_namesakes_are_searched() {
    let case = |change: &dyn Fn(&mut LogisenseSettings)| {
        let mut case = Case::new(json!({}), |settings| {
            settings.contact_points.reference = "reference".to_owned();
            (settings.page_size, settings.walk_pages_max) = (2, 2);
            change(settings);
        });
        case.look_up = true;
        case
    };
    let many = || ok(json!({ "pagedResults": { "totalCount": 10_001, "items": [{ "identity": 1 }] } }));
    let page = |items: &[Value]| ok(json!({ "pagedResults": { "totalCount": items.len(), "items": items } }));
    let searching = case(&|_| ());
    assert!(searching.request(&[]).starts_with("GET Contact/Paged/Detail?pageNumber=1"));
    let marked = searching.request(&[many()]);
    assert!(marked.starts_with("POST Contact/Search ") && marked.contains(r#""name":"title""#), "{marked}");
    let named = searching.request(&[many(), page(&[])]);
    assert!(named.contains(r#""name":"lastName""#) && named.contains(r#""name":"firstName""#), "{named}");
    let namesake = || page(&[bare("Ms.")]);
    assert_eq!(searching.request(&[many(), page(&[]), namesake()]), "GET Contact/318/Detail ");
    let mut ours = bare("Ms.");
    let reference = json!({ "identity": 75, "contactPointTypeId": 44, "value": CONTACT.key() });
    ours["details"] = json!({ "contactPoints": [reference] });
    let whole = |contact: &Value| ok(json!({ "instance": contact }));
    let Step::Found(ids) = searching.step(&[many(), page(&[]), namesake(), whole(&ours)]) else { panic!("found") };
    assert_eq!(ids["contact"], "318");
    let created = searching.request(&[many(), page(&[]), namesake(), whole(&bare("Ms."))]);
    assert!(created.starts_with("POST Contact/ "), "{created}");

    for stopping in
        [case(&|settings| settings.beyond_walk = BeyondWalk::Stop), case(&|settings| settings.search = false)]
    {
        let Step::Judged(verdict) = stopping.step(&[many()]) else { panic!("a verdict") };
        assert_eq!(verdict.reason.code, ReasonCode::AmbiguousMatch);
    }
}

#[test]
fn a_patch_has_its_changes_where_the_settings_say() {
    let mut own = wire::Own::default();
    own.set(wire::TITLE, json!("Ms."));
    let patch_type = wire::DELETE;
    let point = wire::PointPatch { patch_type, identity: Some(7), ..wire::PointPatch::default() };
    let address = wire::AddressPatch::setting(wire::DETACH, &BTreeMap::new()).of(9);
    let children = wire::Children { points: vec![point], address: Some(address) };
    let written = |change: &dyn Fn(&mut PatchShape)| {
        let mut shape = logisense_crm().logisense.unwrap().patch;
        change(&mut shape);
        String::from_utf8(wire::patch_body(&own, &children, &shape).to_vec()).unwrap()
    };
    let (point, address) = (r#"{"patchType":"delete","identity":7}"#, r#"{"patchType":"detach","identity":9}"#);
    assert_eq!(
        written(&|_| ()),
        format!(
            r#"{{"title":"Ms.","details":{{"contactPoints":{{"items":[{point}]}},"address":{{"items":[{address}]}}}}}}"#
        )
    );
    let beside = written(&|shape| {
        shape.details.clear();
        shape.contact_points_as = PatchItems::List;
        (shape.address, shape.address_as) = ("contactAddress".to_owned(), PatchItems::Single);
    });
    assert_eq!(beside, format!(r#"{{"title":"Ms.","contactPoints":[{point}],"contactAddress":{address}}}"#));
}

#[tokio::test]
async fn only_who_can_be_marked_as_ours_is_adopted() {
    let theirs = |points: Value| {
        let mut theirs = bare("Ms.");
        theirs["details"] = json!({ "contactPoints": points });
        ok(json!({ "pagedResults": { "totalCount": 1, "items": [theirs] } }))
    };
    let email = |value: &str| json!({ "identity": 74, "contactPointTypeId": 41, "value": value });
    let reference = |value: &str| json!({ "identity": 75, "contactPointTypeId": 44, "value": value });
    let case = |planting: bool| {
        let mut case = Case::new(json!({ "emails": [{ "value": "ilka@example.com" }] }), |settings| {
            settings.search = false;
            settings.contact_points.reference = if planting { "reference" } else { "" }.to_owned();
        });
        case.look_up = true;
        case
    };
    let Step::Found(ids) = case(true).step(&[theirs(json!([email("ILKA@example.com")]))]) else { panic!("adopted") };
    assert_eq!((ids["contact"].as_str(), ids["kept"].as_str()), ("318", "74"));
    let ours = json!([email("other@example.com"), reference(&CONTACT.key())]);
    assert!(matches!(case(true).step(&[theirs(ours)]), Step::Found(ids) if !ids.contains_key("kept")));
    for (planting, points, why) in [
        (true, json!([email("other@example.com")]), "a namesake is somebody else"),
        (true, json!([email("ilka@example.com"), reference("another's")]), "another's is not taken"),
        (false, json!([email("ilka@example.com")]), "whose it is could not be told afterwards"),
    ] {
        assert!(case(planting).request(&[theirs(points)]).starts_with("POST Contact/ "), "{why}");
    }
}

#[tokio::test]
async fn each_refusal_has_its_class_and_shows_nothing_of_the_contact() {
    use FailureClass::{Auth, Conflict, Connection, Gone, Rejected, Throttled, Transient};
    let body =
        || json!({ "trackingId": "5b0e", "type": "x", "errors": [{ "code": 11900000, "message": "Sundstrom" }] });
    for (status, on_create, on_update, effect) in [
        (400, Rejected, Rejected, Effect::None),
        (200, Rejected, Rejected, Effect::None),
        (401, Auth, Auth, Effect::None),
        (403, Connection, Connection, Effect::None),
        (404, Connection, Gone, Effect::None),
        (409, Conflict, Conflict, Effect::None),
        (429, Throttled, Throttled, Effect::None),
        (500, Transient, Transient, Effect::Unknown),
        (503, Transient, Transient, Effect::Unknown),
    ] {
        let creating = example().failure(answer(status, body()));
        let updating = example().linked(&[], &["lastName"]).failure(answer(status, body()));
        for (failure, class) in [(creating, on_create), (updating, on_update)] {
            assert_eq!((failure.class, failure.effect), (class, effect), "{status}");
            assert_eq!(failure.reason.crm_code.as_deref(), Some("11900000"));
            assert!(!format!("{failure:?}").contains("Sundstrom"));
        }
    }
    let partial = json!({ "results": { "items": [{ "identity": 1, "instance": { "Successful": false } }] } });
    let ids = [("contactPoint.email.1", "901")];
    let patched = example().linked(&ids, &["lastName"]).failure(ok(partial));
    assert_eq!((patched.class, patched.effect), (Rejected, Effect::Unknown));
    let unreadable = example().failure(answer(200, json!({})));
    assert_eq!((unreadable.class, unreadable.effect), (Transient, Effect::Unknown), "a create may have been made");
    let gone = example().linked(&[], &["contactPoint.email.1"]).failure(ok(json!({ "instance": null })));
    assert_eq!((gone.class, gone.effect), (Gone, Effect::None));
}

#[tokio::test]
async fn what_the_lists_have_no_place_for_is_lost_or_rejected() {
    let abroad = || json!({ "addresses": [{ "locality": "X", "country": "DK", "region": "J" }] });
    let two = || json!({ "emails": [{ "value": "a@b.c" }, { "value": "d@e.f" }] });
    let lost = |document: Value| {
        let logisense = connector(|_| ());
        let projection = logisense.project(&record(contact(document)), None).unwrap();
        logisense.losses(&projection, &library()).iter().map(|loss| loss.field).collect::<Vec<_>>()
    };
    assert_eq!(lost(abroad()), ["/addresses/country", "/addresses/region"]);
    assert_eq!(lost(two()), ["/emails/value"], "the type allows one");
    assert_eq!(lost(json!({ "phoneNumbers": [{ "value": "1", "type": "fax" }] })), ["/phoneNumbers/value"]);
    assert!(Case::new(abroad(), |_| ()).request(&[]).starts_with("POST Contact/ "));
    let strict = Case::new(abroad(), |settings| settings.unknown_place = UnknownPlace::Reject);
    let Step::Judged(verdict) = strict.step(&[]) else { panic!("a verdict") };
    assert_eq!(verdict, Verdict::field(OutcomeKind::Rejected, ReasonCode::InvalidField, "/addresses/country"));
    let Step::Failed(failure) = Case::new(json!({}), |settings| settings.contact_type = "None".to_owned()).step(&[])
    else {
        panic!("a fault of the settings")
    };
    assert_eq!(failure.class, FailureClass::Connection);
    let typed = Case::new(json!({ "attributes": { "contact_type": "Odd" } }), |_| ());
    let Step::Judged(verdict) = typed.step(&[]) else { panic!("a verdict") };
    assert_eq!(verdict, Verdict::field(OutcomeKind::Rejected, ReasonCode::InvalidField, "/attributes"));
}

#[test]
fn a_login_is_a_form_and_its_answer_a_token() {
    let door = |change: fn(&mut LogisenseSettings)| {
        let crm = crm_with(|crm| change(crm.logisense.as_mut().unwrap()));
        login::Door::new(crm.logisense.as_ref().unwrap(), StatusClasses::default())
    };
    let secrets = [Secret::new("pass word")];
    let user = door(|_| ());
    let request = user.log_in(&secrets);
    assert_eq!(request.path, "/AuthorizationServer/api/v6/Access/Login");
    let form = "username=contact-replicator&password=pass+word&grant_type=password&client_id=contact-replicator";
    assert_eq!(request.body, form);
    let client = door(|settings| settings.login = LoginAs::Client).log_in(&secrets);
    assert_eq!(client.body, "client_id=contact-replicator&client_secret=pass+word&grant_type=password");
    let refresh = user.refresh(&secrets, &Secret::new("r")).unwrap();
    assert_eq!(refresh.body, "grant_type=refresh_token&refresh_token=r&client_id=contact-replicator");
    assert!(door(|settings| settings.refresh = false).refresh(&secrets, &Secret::new("r")).is_none());
    for life in [json!(1800), json!("1800")] {
        let body = json!({ "access_token": "eyJ", "refresh_token": "r", "expires_in": life });
        let token = user.read(&ok(body)).unwrap();
        assert_eq!((token.secret.expose(), token.life), ("eyJ", Duration::from_secs(1800)));
        assert_eq!(token.refresh_token.unwrap().expose(), "r");
    }
    let class = |status: u16, body: Value| user.read(&answer(status, body)).unwrap_err().failure.class;
    assert_eq!(class(400, json!({ "error": "invalid_grant" })), FailureClass::Auth);
    assert_eq!(class(400, json!({ "error": "odd" })), FailureClass::Connection);
    assert_eq!(class(404, Value::Null), FailureClass::Connection);
    assert_eq!(class(503, Value::Null), FailureClass::Transient);
    assert_eq!(class(200, json!({ "access_token": "eyJ" })), FailureClass::Transient);
}
