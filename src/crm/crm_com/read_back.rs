//! What is asked to read a contact, a list or a photo, and what counts as a difference.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde_json::json;

use super::{
    read::to_server,
    tests::{KEY, company, connector, contact, link_with, record},
    *,
};
use crate::{
    config::OnErase,
    crm::{
        FailureClass, Presence, Response,
        reference::References,
        remote::{Compared, Held, One, ReadStep, Walk},
        session::placement::Placement,
    },
    privacy::Secret,
};

fn answer(status: u16, body: impl Into<Bytes>) -> Answer {
    Ok(Response { status: StatusCode::from_u16(status).unwrap(), headers: HeaderMap::new(), body: body.into() })
}

fn said(code: &str, data: Value) -> Answer {
    answer(200, json!({ "data": data, "status": { "code": code, "message": "", "description": "" } }).to_string())
}

/// Path and query of a request as it leaves, token and all.
#[track_caller]
fn called<T: std::fmt::Debug>(step: ReadStep<T>, accepts: &str) -> String {
    let ReadStep::Call(mut request) = step else { panic!("{step:?}") };
    assert_eq!((&request.method, request.kind, request.body.len()), (&Method::GET, RequestKind::Read, 0));
    let headers: Vec<_> =
        request.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(headers, [("accept", accepts)]);
    Placement::Argument { name: "token" }.prepare(&Secret::new("T1")).unwrap().put(&mut request);
    request.path
}

#[track_caller]
fn class<T: std::fmt::Debug>(step: ReadStep<T>) -> FailureClass {
    let ReadStep::Failed(failure) = step else { panic!("{step:?}") };
    failure.class
}

#[test]
fn a_contact_is_read_by_its_id() {
    let crm_com = connector(|_| ());
    let references = References::default();
    let one = One { id: "C/1", view: "contact", references: &references };
    assert_eq!(
        called(crm_com.one(&one, &[]), "application/json"),
        "/contact_information/show?token=T1&contact_information_identifier=id=C%2F1"
    );
    let document = json!({ "id": "C1", "first_name": "Ilka", "emails_set": [] });
    let ReadStep::Done(held) = crm_com.one(&one, &[said("OK", document.clone())]) else { panic!("it was read") };
    assert_eq!((held.id.as_deref(), &held.document), (Some("C1"), &document));
    for (answer, expected) in [
        (said("NOT_FOUND", Value::Null), FailureClass::Gone),
        (said("INVALID_TOKEN", Value::Null), FailureClass::Auth),
        (said("ACCESS_DENIED", Value::Null), FailureClass::Connection),
        (said("SYSTEM_ERROR", Value::Null), FailureClass::Transient),
        (said("LICENCE", Value::Null), FailureClass::Rejected),
        (said("OK", Value::Null), FailureClass::Transient),
        (said("OK", json!([])), FailureClass::Transient),
        (answer(200, "<html>"), FailureClass::Transient),
        (answer(404, ""), FailureClass::Connection),
        (answer(429, ""), FailureClass::Throttled),
    ] {
        assert_eq!(class(crm_com.one(&one, std::slice::from_ref(&answer))), expected, "{answer:?}");
    }
}

#[test]
fn a_list_takes_a_key_and_goes_on_until_a_page_is_empty() {
    let crm_com = connector(|settings| settings.page_size = 2);
    let references = References::default();
    let walk = |at, by| Walk { view: "contact", by, at, references: &references };
    assert!(crm_com.needs_key());
    for key in Reader::keys(&crm_com) {
        assert_eq!(
            called(crm_com.page(&walk(None, Some((key, "a+b@c"))), &[]), "application/json"),
            format!("/contact_information/list?token=T1&{key}=a%2Bb%40c&number_of_results=2&offset=0")
        );
    }
    let by = Some(("phone_number", "0035799"));
    assert!(
        called(crm_com.page(&walk(Some(4), by), &[]), "application/json").ends_with("number_of_results=2&offset=4")
    );
    // A page that is shorter than asked for may be all that CRM.COM gives at once.
    for (ids, next) in [(&["1", "2"][..], Some(6)), (&["1"], Some(5)), (&[], None)] {
        let items: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
        let ReadStep::Done(page) = crm_com.page(&walk(Some(4), by), &[said("OK", json!(items))]) else {
            panic!("it was read")
        };
        assert_eq!((page.items.len(), page.next, page.total), (ids.len(), next, None));
    }
    for nobody in [said("OK", Value::Null), said("NOT_FOUND", Value::Null)] {
        let ReadStep::Done(page) = crm_com.page(&walk(None, by), &[nobody]) else { panic!("nobody") };
        assert_eq!((page.items.len(), page.next), (0, None));
    }
    let old = connector(|settings| settings.send_paging = false);
    let ReadStep::Call(asked) = old.page(&walk(None, by), &[]) else { panic!("a request") };
    assert!(!asked.path.contains("offset") && !asked.path.ends_with('&'), "{}", asked.path);
    let ReadStep::Done(page) = old.page(&walk(None, by), &[said("OK", json!([{ "id": "C1" }]))]) else {
        panic!("read")
    };
    assert_eq!((page.items.len(), page.next), (1, None), "all that there are");
    for (answer, expected) in [
        (said("OK", json!({})), FailureClass::Transient),
        (said("OK", json!([1])), FailureClass::Transient),
        (said("INVALID_VALUE", Value::Null), FailureClass::Rejected),
    ] {
        assert_eq!(class(crm_com.page(&walk(None, by), std::slice::from_ref(&answer))), expected, "{answer:?}");
    }
}

#[test]
fn a_photo_is_told_of_and_its_file_is_fetched_from_the_server_itself() {
    let crm_com = connector(|_| ());
    let references = References::default();
    let one = |view| One { id: "C1", view, references: &references };
    let view = "/contact_information/profile_photo/view?token=T1&contact_information_identifier=id=C1";
    assert_eq!(called(crm_com.one(&one("photo"), &[]), "application/json"), view);
    assert_eq!(called(crm_com.one(&one("photo_file"), &[]), "application/json"), view);
    let facts =
        |address: &str| json!({ "file_name": "ilka.jpg", "file_content_url": address, "file_mime_type": "image/jpeg" });
    let told = |address: &str| said("OK", facts(address));
    // A token in it is not printed.
    let ReadStep::Done(held) = crm_com.one(&one("photo"), &[told("/crm/Image?token=T0&id=217F")]) else {
        panic!("read")
    };
    assert_eq!((held.id.as_deref(), held.document), (Some("C1"), facts("/crm/Image?id=217F")));
    let file = crm_com.one(&one("photo_file"), &[told("/crm/Image?id=217F&token=T0")]);
    assert_eq!(called(file, "*/*"), "/../../../crm/Image?token=T1&id=217F");
    let fetched = |file| crm_com.one(&one("photo_file"), &[told("/crm/Image?id=217F"), file]);
    let ReadStep::Done(held) = fetched(answer(200, &b"\xff\xd8\r\n"[..])) else { panic!("it was fetched") };
    assert_eq!(held.document["file_content"], "/9gNCg==");
    assert_eq!(held.document["file_name"], "ilka.jpg");
    assert_eq!(class(fetched(said("INVALID_TOKEN", Value::Null))), FailureClass::Auth);
    assert_eq!(class(fetched(said("OK", Value::Null))), FailureClass::Transient);
    assert_eq!(class(fetched(answer(503, ""))), FailureClass::Transient);
    for elsewhere in ["https://evil.example/x?id=1", "//evil.example/x?id=1", "x?id=1"] {
        assert_eq!(class(crm_com.one(&one("photo_file"), &[told(elsewhere)])), FailureClass::Connection, "{elsewhere}");
    }
    let ReadStep::Done(none) = crm_com.one(&one("photo_file"), &[said("OK", Value::Null)]) else {
        panic!("it has none")
    };
    assert_eq!(none.document, Value::Null);
    assert_eq!(class(crm_com.one(&one("photo"), &[said("NOT_FOUND", Value::Null)])), FailureClass::Gone);
    assert_eq!(class(crm_com.one(&one("photo"), &[said("OK", json!([]))])), FailureClass::Transient);
}

#[test]
fn the_server_is_above_the_path_that_all_calls_have_in_common() {
    for (base_url, expected) in [
        ("https://crm.example.com/crmapi/rest/v2", "/../../.."),
        ("https://crm.example.com/crmapi/rest/v2/", "/../../.."),
        ("http://127.0.0.1:8701/crm-com/crmapi/rest/v2", "/../../.."),
        ("https://crm.example.com/v2", "/.."),
        ("https://crm.example.com", ""),
    ] {
        assert_eq!(to_server(base_url), expected, "{base_url}");
    }
}

fn tabled(settings: &mut CrmComSettings) {
    let table = |rows: &[(&str, &str)]| {
        rows.iter().map(|(ours, theirs)| ((*ours).to_owned(), (*theirs).to_owned())).collect::<BTreeMap<_, _>>()
    };
    settings.categories = table(&[("household", "Residential")]);
    settings.groups = table(&[("hq", "Head office")]);
    settings.privacy_levels = table(&[("high", "3")]);
    settings.industries = table(&[("shops", "Retail")]);
    settings.user_defined = table(&[
        ("/consent/dataProcessing", "udf_string_1"),
        ("/attributes/shoe", "udf_float_1"),
        ("/attributes/since", "udf_date_1"),
    ]);
}

fn everything() -> Value {
    contact(json!({
        "preferredLanguage": "sv", "gender": "female", "birthDate": "1988-09-03", "notes": "Family\nof Anna", "owner": "hq",
        "organization": { "type": "household", "industry": "shops" },
        "consent": { "marketing": true, "dataProcessing": false },
        "attributes": { "shoe": 44, "since": "2020-02-29", "privacyLevel": "high", "sendAffiliateMarketingMaterial": false },
        "identifiers": { "id_number": "I7" },
        "emails": [{ "value": "Ilka@Example.com", "type": "work" }],
        "phoneNumbers": [{ "value": "+35799555012", "type": "mobile" }],
        "addresses": [{ "type": "work", "streetAddress": "Pine St", "floor": "2", "locality": "Nicosia", "country": "CY" }],
    }))
}

/// The same as CRM.COM shows it, in each of its ways that is not ours.
fn shown() -> Value {
    json!({
        "id": "C1", "type": "Person", "name": "Ilka Sundstrom", "first_name": "Ilka", "last_name": "Sundstrom ",
        "life_cycle_state": "MARKETING", "preferred_language": "swe", "udf_string_16": KEY, "udf_string_1": "false",
        "udf_float_1": 44.0, "udf_date_1": "2020-02-29T00:00:00", "udf_string_9": "theirs",
        "category": { "name": "RESIDENTIAL", "id": "1" }, "owned_by_group": { "name": "Head office", "id": "2" },
        // Named by its number, which is not shown here.
        "privacy_level": { "number": null, "name": "Level 3" },
        "notes": "Ann Lannister 28/4/2015 16:51:51 Family of Anna",
        "authorization_settings": { "send_direct_marketing_material": 1, "send_affiliate_marketing_material": false },
        "demographics": {
            "gender": "Female", "id_number": "I7", "date_of_birth": { "month": 9, "day": 3, "year": "1988" },
            "industry": { "name": "Retail" },
        },
        "company_profile": { "industry": { "name": "Retail" } },
        "emails_set": [{ "id": "E1", "type": "Business", "email": "ilka@example.com" }],
        "phones_set": [
            { "id": "P1", "type": "MOBILE", "number": "99555012", "area_code": "357", "full_number": "0035799555012" },
            { "id": "P2", "type": "FAX", "number": "1", "state": "Inactive" },
        ],
        "addresses_set": [
            {
                "id": "A1", "type": "Business", "street_name": "Pine St", "floor": "2", "town_city": "Nicosia",
                "country": { "name": "Cyprus", "two_character_code": null, "alternative_code": "CYP" }, "state": "Active",
            },
            { "id": "A2", "type": "CUSTOM5", "street_name": "Of somebody else" },
        ],
    })
}

#[track_caller]
fn differing(crm_com: &CrmCom, record: &ContactRecord, sent: &[&str], document: Value) -> Vec<String> {
    let link = link_with(sent, Some("C1"));
    let projection = crm_com.project(record, Some(&link)).unwrap();
    let held = Held { id: None, document };
    let references = References::default();
    let compared = Compared { record, link: &link, projection: &projection, held: &held, references: &references };
    let ReadStep::Done(fields) = crm_com.differences(&compared, &[]) else { panic!("nothing else is needed") };
    fields.into_iter().collect()
}

#[test]
fn what_comes_back_in_another_form_is_no_difference() {
    let crm_com = connector(tabled);
    assert_eq!(differing(&crm_com, &record(everything()), &[], shown()), [""; 0]);
    let mut bare = shown();
    bare["phones_set"] = json!([{ "type": "mobile", "number": "99 555012" }]);
    bare["notes"] = json!("Family\r\nof Anna");
    assert_eq!(differing(&crm_com, &record(everything()), &[], bare), [""; 0], "an older release shows less");
}

#[test]
fn each_field_that_is_otherwise_is_named_and_no_other() {
    let crm_com = connector(tabled);
    for (place, value, field) in [
        ("/type", json!("COMPANY"), "type"),
        ("/first_name", json!("Ilse"), "first_name"),
        ("/preferred_language", Value::Null, "preferred_language"),
        ("/udf_string_16", json!("another"), "udf_string_16"),
        ("/udf_string_1", json!("true"), "udf_string_1"),
        ("/udf_float_1", json!(45), "udf_float_1"),
        ("/udf_date_1", json!("2020-03-01T00:00:00"), "udf_date_1"),
        ("/category", json!({ "name": "Business" }), "category_identifier"),
        ("/owned_by_group", Value::Null, "owned_by_group_identifier"),
        ("/privacy_level/number", json!("4"), "privacy_level_identifier"),
        ("/notes", json!("Ann Lannister 28/4/2015 16:51:51 Nothing"), "notes"),
        ("/notes", Value::Null, "notes"),
        ("/authorization_settings/send_direct_marketing_material", json!(false), "send_direct_marketing_material"),
        ("/authorization_settings/send_affiliate_marketing_material", json!(true), "send_affiliate_marketing_material"),
        ("/demographics/gender", json!("MALE"), "demographics.gender"),
        ("/demographics/id_number", json!("I8"), "demographics.id_number"),
        ("/demographics/date_of_birth/day", json!(4), "demographics.date_of_birth"),
        ("/demographics/date_of_birth", Value::Null, "demographics.date_of_birth"),
        ("/demographics/industry/name", json!("Software"), "demographics.industry_identifier"),
        ("/emails_set/0/email", json!("other@example.com"), "email_set.BUSINESS"),
        ("/emails_set", json!([]), "email_set.BUSINESS"),
        ("/phones_set/0/full_number", json!("0035799555013"), "phone_set.MOBILE"),
        ("/phones_set/0/state", json!("Inactive"), "phone_set.MOBILE"),
        ("/addresses_set/0/town_city", json!("Larnaca"), "address_set.BUSINESS"),
        ("/addresses_set/0/postal_code", json!("2003"), "address_set.BUSINESS"),
        ("/addresses_set/0/country/alternative_code", json!("GRC"), "address_set.BUSINESS"),
    ] {
        let mut document = shown();
        match document.pointer_mut(place) {
            Some(there) => *there = value.clone(),
            None => {
                let (parent, name) = place.rsplit_once('/').unwrap();
                document.pointer_mut(parent).unwrap()[name] = value.clone();
            }
        }
        let found = differing(&crm_com, &record(everything()), &[], document);
        assert_eq!(found, [field], "{place} {value}");
    }
}

#[test]
fn what_was_sent_once_and_is_said_no_longer_must_be_empty() {
    let sent = ["title", "notes", "demographics.gender", "phone_set.FAX", "send_direct_marketing_material"];
    let least = || record(contact(json!({})));
    let document = |more: Value| {
        let mut document = json!({ "id": "C1", "type": "PERSON", "first_name": "Ilka", "last_name": "Sundstrom",
            "udf_string_16": KEY });
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        document
    };
    let empty = json!({
        "title": "", "demographics": { "gender": null }, "phones_set": [{ "type": "FAX", "number": "1", "state": "inactive" }],
        "authorization_settings": { "send_direct_marketing_material": false },
    });
    let filled = json!({
        "title": "Ms", "notes": "by hand", "demographics": { "gender": "MALE" }, "phones_set": [{ "type": "Fax", "number": "1" }],
        "authorization_settings": { "send_direct_marketing_material": true },
    });
    let crm_com = connector(|_| ());
    assert_eq!(differing(&crm_com, &least(), &sent, document(empty)), [""; 0]);
    let mut all: Vec<&str> = sent.to_vec();
    all.sort_unstable();
    assert_eq!(differing(&crm_com, &least(), &sent, document(filled.clone())), all);
    assert_eq!(differing(&crm_com, &least(), &[], document(filled.clone())), [""; 0], "what was never ours");
    // What no delivery would clear is no difference, or it would be found for ever.
    let kept = connector(|settings| settings.never_cleared = sent.iter().map(|field| (*field).to_owned()).collect());
    assert_eq!(differing(&kept, &least(), &sent, document(filled)), [""; 0]);
}

#[test]
fn a_contact_is_compared_as_what_it_is() {
    let crm_com = connector(|_| ());
    let held = json!({
        "id": "C1", "type": "COMPANY", "company_name": "Acme", "udf_string_16": KEY, "title": "Ms",
        "company_profile": { "vat_registration_number": "CY1" },
    });
    let acme = |vat: &str| record(company(json!({ "organization": { "name": "Acme", "vatNumber": vat } })));
    assert_eq!(differing(&crm_com, &acme("CY1"), &["title"], held.clone()), [""; 0], "a company has no title");
    assert_eq!(differing(&crm_com, &acme("CY2"), &[], held.clone()), ["company_profile.vat_registration_number"]);

    // Somebody to be forgotten: each type of contact has placeholders of its own.
    let blanking = super::tests::connector_with(|crm| crm.on_erase = OnErase::Blank);
    let erased = ContactRecord { status: Status::Erased, ..acme("CY1") };
    let blank = json!({ "id": "C1", "type": "COMPANY", "company_name": "Erased", "udf_string_16": KEY });
    assert_eq!(differing(&blanking, &erased, &["company_name"], blank.clone()), [""; 0]);
    let mut back = blank;
    back["emails_set"] = json!([{ "type": "BUSINESS", "email": "a@b.c" }]);
    assert_eq!(differing(&blanking, &erased, &["company_name"], back), ["email_set.BUSINESS"]);

    // Nothing of a contact that stays as it is must be empty.
    let retiring = connector(|settings| drop(settings.user_defined.insert("/active".into(), "udf_string_1".into())));
    let gone = ContactRecord { status: Status::Deleted, contact: None, ..record(Value::Null) };
    let document = |active: &str| json!({ "id": "C1", "type": "PERSON", "title": "Ms", "udf_string_16": KEY, "udf_string_1": active });
    assert_eq!(differing(&retiring, &gone, &["title"], document("false")), [""; 0]);
    assert_eq!(differing(&retiring, &gone, &["title"], document("true")), ["udf_string_1"]);
    let projection = retiring.project(&gone, Some(&link_with(&["title"], Some("C1")))).unwrap();
    assert_eq!(projection.presence, Presence::Inactive);
}
