use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[track_caller]
fn fault(contact: Value, code: ReasonCode, pointer: &str) {
    let expected = DocumentFault { code, pointer: pointer.to_owned() };
    assert_eq!(check(contact).expect_err("a fault"), expected);
}

#[track_caller]
fn passes(contact: Value) {
    let (checked, ignored) = check(contact.clone()).expect("a sound contact");
    assert_eq!(Value::Object(checked), contact);
    assert_eq!(ignored, 0);
}

#[test]
fn every_attribute_of_the_contract_passes() {
    passes(json!({
        "kind": "person",
        "name": {"honorificPrefix": "Dr.", "givenName": "Ann", "middleName": "M.", "familyName": "Roth",
            "honorificSuffix": "PhD", "formatted": "Dr. Ann M. Roth, PhD"},
        "emails": [{"value": "ann@example.com", "type": "work", "primary": true}],
        "phoneNumbers": [{"value": "+41446681800", "type": "mobile", "primary": false}],
        "addresses": [{"type": "postal", "streetAddress": "Seestrasse\nc/o Roth", "streetNumber": "1a",
            "apartment": "3", "floor": "2", "poBox": "77", "locality": "Zürich", "district": "Enge",
            "region": "ZH", "postalCode": "8002", "country": "CH",
            "geo": {"longitude": 8.53, "latitude": -47}, "primary": true}],
        "organization": {"name": "Roth AG", "department": "Sales", "title": "Buyer", "registrationNumber": "1",
            "vatNumber": "CHE-1", "type": "AG", "marketSector": "Food", "industry": "Retail"},
        "birthDate": "1980-02-29",
        "gender": "female",
        "preferredLanguage": "de-CH",
        "notes": "-",
        "consent": {"marketing": false, "dataProcessing": true},
        "active": true,
        "identifiers": {"customer_no": "007", "passport": null},
        "owner": "sales-1",
        "photos": [{"value": "https://photos.example.com/ann.png", "type": "photo"}],
        "relations": [{"type": "spouse", "source": "shop", "subject": "2", "notes": "since 2001"}],
        "attributes": {"vip": true, "score": 1.5, "segment": "a", "since": null},
    }));
}

#[test]
fn null_is_taken_everywhere() {
    let nulls: Map<String, Value> = attributes().map(|name| (name.to_owned(), Value::Null)).collect();
    passes(Value::Object(nulls));
    passes(json!({
        "name": {"givenName": null}, "emails": [{"value": null, "type": null, "primary": null}],
        "addresses": [{"country": null, "geo": null}, {"geo": {"longitude": null}}],
        "photos": [{"value": null}], "consent": {"marketing": null},
    }));
}

#[test]
fn a_wrong_type_is_named_with_its_place() {
    for (contact, pointer) in [
        (json!([]), ""),
        (json!("Ann"), ""),
        (json!(null), ""),
        (json!({"kind": 1}), "/kind"),
        (json!({"name": "Ann"}), "/name"),
        (json!({"name": {"givenName": ["Ann"]}}), "/name/givenName"),
        (json!({"emails": {"value": "a@example.com"}}), "/emails"),
        (json!({"emails": [{"value": "a@example.com"}, "b@example.com"]}), "/emails/1"),
        (json!({"emails": [{"primary": "yes"}]}), "/emails/0/primary"),
        (json!({"phoneNumbers": [{"value": 41446681800_i64}]}), "/phoneNumbers/0/value"),
        (json!({"addresses": [{"geo": [8.5, 47.3]}]}), "/addresses/0/geo"),
        (json!({"addresses": [{"geo": {"latitude": "47"}}]}), "/addresses/0/geo/latitude"),
        (json!({"birthDate": 19800229}), "/birthDate"),
        (json!({"consent": {"marketing": "no"}}), "/consent/marketing"),
        (json!({"active": 1}), "/active"),
        (json!({"identifiers": {"customer_no": 7}}), "/identifiers/customer_no"),
        (json!({"identifiers": []}), "/identifiers"),
        (json!({"attributes": {"a/b~c": {}}}), "/attributes/a~1b~0c"),
        (json!({"attributes": {"list": [1]}}), "/attributes/list"),
    ] {
        fault(contact, ReasonCode::WrongType, pointer);
    }
}

#[test]
fn an_ill_formed_value_is_named_with_its_place() {
    for (contact, pointer) in [
        (json!({"kind": "robot"}), "/kind"),
        (json!({"birthDate": "1981-02-29"}), "/birthDate"),
        (json!({"birthDate": "1980-13-01"}), "/birthDate"),
        (json!({"birthDate": "1980-1-1"}), "/birthDate"),
        (json!({"birthDate": "1980-01-01T00:00:00Z"}), "/birthDate"),
        (json!({"birthDate": "19800101"}), "/birthDate"),
        (json!({"birthDate": ""}), "/birthDate"),
        (json!({"addresses": [{}, {"country": "Switzerland"}]}), "/addresses/1/country"),
        (json!({"addresses": [{"country": "CHE"}]}), "/addresses/0/country"),
        (json!({"addresses": [{"country": "ch"}]}), "/addresses/0/country"),
        (json!({"addresses": [{"country": "ZZ"}]}), "/addresses/0/country"),
        (json!({"addresses": [{"country": "UK"}]}), "/addresses/0/country"),
        (json!({"addresses": [{"geo": {"longitude": 180.1}}]}), "/addresses/0/geo/longitude"),
        (json!({"addresses": [{"geo": {"latitude": -91}}]}), "/addresses/0/geo/latitude"),
        (json!({"preferredLanguage": "de_CH"}), "/preferredLanguage"),
        (json!({"preferredLanguage": ""}), "/preferredLanguage"),
        (json!({"preferredLanguage": "Swiss German"}), "/preferredLanguage"),
        (json!({"photos": [{"value": "http://photos.example.com/1"}]}), "/photos/0/value"),
        (json!({"photos": [{"value": "https:"}]}), "/photos/0/value"),
        (json!({"photos": [{"value": "https:photos.example.com"}]}), "/photos/0/value"),
        (json!({"photos": [{"value": "https://"}]}), "/photos/0/value"),
        (json!({"photos": [{"value": "data:image/png;base64"}]}), "/photos/0/value"),
        (json!({"photos": [{"value": "data:image/png;base64,=A"}]}), "/photos/0/value"),
        (json!({"photos": [{"value": "ann.png"}]}), "/photos/0/value"),
    ] {
        fault(contact, ReasonCode::BadValue, pointer);
    }
}

#[test]
fn a_photo_in_a_data_url_may_have_128_kib_and_no_more() {
    let photo = |bytes: usize| {
        let head = "data:image/png,";
        json!({"photos": [{"value": format!("{head}{}", "A".repeat(bytes - head.len()))}]})
    };
    passes(photo(128 * 1024));
    fault(photo(128 * 1024 + 1), ReasonCode::BadValue, "/photos/0/value");
}

#[test]
fn all_249_countries_pass_and_no_other_two_letters() {
    let letters = || 'A'..='Z';
    let countries: Vec<String> = letters()
        .flat_map(|first| letters().map(move |second| format!("{first}{second}")))
        .filter(|pair| values::is_country(pair))
        .collect();
    assert_eq!(countries.len(), 249);
    for code in ["CH", "DE", "GB", "US", "NL", "AX", "ZW"] {
        assert!(countries.iter().any(|country| country == code), "{code}");
    }
}

#[test]
fn what_is_not_known_is_left_out_and_counted() {
    let (checked, ignored) = check(json!({
        "shoeSize": 43,
        "name": {"givenName": "Ann", "nickName": "An"},
        "emails": [{"value": "a@example.com", "display": "A"}, null],
        "phoneNumbers": [{"value": "1", "type": "pager"}],
    }))
    .unwrap();
    let expected = json!({
        "name": {"givenName": "Ann"},
        "emails": [{"value": "a@example.com"}],
        "phoneNumbers": [{"value": "1", "type": "other"}],
    });
    assert_eq!(Value::Object(checked), expected);
    assert_eq!(ignored, 5);
}

#[test]
fn a_pointer_does_not_repeat_a_name_of_any_length() {
    let name = "n".repeat(NAME_BYTES_MAX + 1);
    fault(json!({"attributes": {name: []}}), ReasonCode::WrongType, "/attributes");
}

#[test]
fn paths_name_every_attribute_once_without_indices() {
    let all: Vec<_> = paths().collect();
    let distinct: BTreeSet<_> = all.iter().copied().collect();
    assert_eq!(all.len(), distinct.len());
    for path in ["/kind", "/name", "/name/familyName", "/emails/value", "/addresses/geo/latitude", "/attributes"] {
        assert!(distinct.contains(path), "{path}");
    }
    assert!(leaves().all(|leaf| distinct.contains(leaf)));
    assert!(leaves().all(|leaf| leaf != "/name" && leaf != "/addresses/geo"));
}

#[test]
fn the_leaves_said_are_those_with_a_value() {
    let (document, _) = Document::parse(json!({
        "name": {"givenName": "Ann", "familyName": null},
        "emails": [{"type": "work"}, {"value": "a@example.com"}],
        "addresses": [{"geo": {"latitude": 47.0}}],
        "identifiers": {"customer_no": null},
        "attributes": {"vip": false},
        "phoneNumbers": [],
        "notes": null,
    }))
    .unwrap();
    let said: Vec<_> = leaves_said(&document).collect();
    assert_eq!(said, ["/name/givenName", "/emails/value", "/emails/type", "/addresses/geo/latitude", "/attributes"]);
}

proptest! {
    #[test]
    fn a_checked_document_passes_again_unchanged(contact in samples::contact()) {
        let (checked, _) = check(contact).unwrap();
        let (again, ignored) = check(Value::Object(checked.clone())).unwrap();
        prop_assert_eq!(again, checked);
        prop_assert_eq!(ignored, 0);
    }
}

#[test]
fn a_setting_names_a_place_with_or_without_the_index_of_an_array() {
    let each = |array: &str, member: &str| Some((array.to_owned(), member.to_owned()));
    for (pointer, path, holds, passed) in [
        ("/gender", "/gender", Holds::Text, None),
        ("/kind", "/kind", Holds::Choice(&["person", "organization"]), None),
        ("/active", "/active", Holds::Boolean, None),
        ("/name", "/name", Holds::Others, None),
        ("/name/givenName", "/name/givenName", Holds::Text, None),
        ("/emails", "/emails", Holds::Others, None),
        ("/emails/10/value", "/emails/value", Holds::Text, None),
        ("/emails/value", "/emails/value", Holds::Text, each("/emails", "/value")),
        ("/addresses/geo/latitude", "/addresses/geo/latitude", Holds::Number, each("/addresses", "/geo/latitude")),
        ("/attributes", "/attributes", Holds::Others, None),
        ("/attributes/a~1b", "/attributes", Holds::Scalar, None),
        ("/identifiers/vat", "/identifiers", Holds::Text, None),
    ] {
        assert_eq!(named(pointer), Some(Named { path, holds, each: passed }), "{pointer}");
    }
    for pointer in [
        "",
        "/",
        "gender",
        "/sex",
        "/name/givenName/x",
        "/emails/01/value",
        "/emails/",
        "/attributes/",
        "/attributes/a/b",
    ] {
        assert_eq!(named(pointer), None, "{pointer}");
    }
}
