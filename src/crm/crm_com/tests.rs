//! The mapping table row by row.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;
pub(super) use crate::crm::testing::{CONTACT, KEY, link_with, record};
use crate::{
    config::{CrmComAddressFormat, CrmComStreet, OnDelete, OnErase, StreetNumber},
    contact::{Document, schema},
    crm::{Presence, link::Intent, testing::crm_com_crm},
    event::{OutcomeKind, ReasonCode},
};

/// The least that CRM.COM takes, and on top of it what a test is about.
pub(super) fn contact(more: Value) -> Value {
    let mut contact = json!({ "name": { "givenName": "Ilka", "familyName": "Sundstrom" } });
    contact.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    contact
}

pub(super) fn company(more: Value) -> Value {
    let mut contact = json!({ "kind": "organization", "organization": { "name": "Acme" } });
    contact.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    contact
}

pub(super) fn connector_with(change: impl FnOnce(&mut CrmSettings)) -> CrmCom {
    let mut crm = crm_com_crm();
    change(&mut crm);
    CrmCom::new(&crm, "contact-hub").unwrap()
}

pub(super) fn connector(change: impl FnOnce(&mut CrmComSettings)) -> CrmCom {
    connector_with(|crm| change(crm.crm_com.as_mut().unwrap()))
}

fn least(contact: &Value) -> Map<String, Value> {
    let is_company = contact["kind"] == "organization";
    let fields = if is_company {
        json!({ "type": "COMPANY", "company_name": "Acme", "udf_string_16": KEY })
    } else {
        json!({ "type": "PERSON", "first_name": "Ilka", "last_name": "Sundstrom", "udf_string_16": KEY })
    };
    fields.as_object().unwrap().clone()
}

/// What `contact` becomes beside the least, and what of it is lost.
#[track_caller]
fn check_with(connector: &CrmCom, contact: &Value, expected: Value, lost: &[&str]) {
    let (document, _) = Document::parse(contact.clone()).unwrap();
    let record = ContactRecord { contact: Some(document), ..record(Value::Null) };
    let projection = connector.project(&record, None).unwrap();
    let mut all = least(contact);
    all.extend(expected.as_object().unwrap().clone());
    assert_eq!(serde_json::to_value(&projection.fields).unwrap(), Value::Object(all), "{contact}");
    let losses: Vec<_> = projection.losses.iter().map(|loss| loss.field).collect();
    assert_eq!(losses, lost, "{contact}");
}

#[track_caller]
fn check(more: Value, expected: Value, lost: &[&str]) {
    check_with(&connector(|_| ()), &contact(more), expected, lost);
}

#[track_caller]
fn check_company(more: Value, expected: Value, lost: &[&str]) {
    check_with(&connector(|_| ()), &company(more), expected, lost);
}

#[test]
fn a_person_has_two_names_and_a_company_one() {
    check(json!({}), json!({}), &[]);
    let full = json!({
        "honorificPrefix": "Ms", "givenName": "Ilka", "middleName": "Vera", "familyName": "Sundstrom",
        "honorificSuffix": "PhD", "formatted": "Ms Ilka Vera Sundstrom",
    });
    check(json!({ "name": full }), json!({ "title": "Ms", "middle_name": "Vera" }), &["/name/honorificSuffix"]);
    let other = json!({ "givenName": "Ilka", "familyName": "Sundstrom", "middleName": null, "formatted": "Iggy" });
    check(json!({ "name": other }), json!({ "middle_name": null }), &["/name/formatted"]);
    check_company(
        json!({ "name": { "givenName": "I", "formatted": "I" } }),
        json!({}),
        &["/name/formatted", "/name/givenName"],
    );
    check(json!({ "organization": { "name": "Acme" } }), json!({}), &["/organization/name"]);

    let connector = connector(|_| ());
    for (bad, field) in [
        (json!({ "name": { "familyName": "Sundstrom" } }), "/name/givenName"),
        (json!({ "name": { "givenName": "Ilka", "familyName": " " } }), "/name/familyName"),
        (json!({ "kind": "organization" }), "/organization/name"),
    ] {
        let missing = Verdict::field(OutcomeKind::Rejected, ReasonCode::MissingField, field);
        assert_eq!(connector.project(&record(bad), None), Err(missing));
    }
}

#[test]
fn what_a_person_is_stands_in_the_demographics() {
    let date = |value: Value| json!({ "demographics.date_of_birth": value });
    check(json!({ "birthDate": "1988-09-03" }), date(json!({ "day": 3, "month": 9, "year": 1988 })), &[]);
    check(json!({ "birthDate": null }), date(Value::Null), &[]);
    check(json!({ "gender": "female" }), json!({ "demographics.gender": "FEMALE" }), &[]);
    check(json!({ "gender": "other" }), json!({}), &["/gender"]);
    check(json!({ "gender": null }), json!({ "demographics.gender": null }), &[]);
    let numbers = json!({ "id_number": "1", "passport": "2", "ssn": "3", "customer_no": "4" });
    let expected = json!({
        "demographics.id_number": "1", "demographics.passport_number": "2", "demographics.social_security_number": "3",
    });
    check(json!({ "identifiers": numbers }), expected, &["/identifiers"]);
    check(json!({ "identifiers": { "ssn": null } }), json!({ "demographics.social_security_number": null }), &[]);
    check_company(json!({ "identifiers": { "ssn": "3" } }), json!({}), &["/identifiers"]);
    check_company(json!({ "birthDate": "1988-09-03", "gender": "male" }), json!({}), &["/birthDate", "/gender"]);
}

#[test]
fn what_a_company_is_stands_in_its_profile() {
    let organization = json!({ "name": "Acme", "registrationNumber": "HE1", "vatNumber": "CY1" });
    let expected =
        json!({ "company_profile.registration_number": "HE1", "company_profile.vat_registration_number": "CY1" });
    check_company(json!({ "organization": organization }), expected, &[]);
    let of_a_person = json!({ "organization": { "registrationNumber": "HE1", "vatNumber": "CY1" } });
    check(of_a_person, json!({}), &["/organization/registrationNumber", "/organization/vatNumber"]);
}

#[test]
fn the_tenants_lists_are_named_by_configured_tables() {
    let table = |theirs: &str| BTreeMap::from([("ours".to_owned(), theirs.to_owned())]);
    let configured = connector(|settings| {
        settings.categories = table("Residential");
        settings.groups = table("Branch");
        settings.industries = table("Retail");
        settings.industry_sectors = table("Public");
        settings.industry_sector_by = "id".to_owned();
        settings.privacy_levels = table("2");
    });
    let ours = json!({ "type": "ours", "industry": "ours", "marketSector": "ours", "name": "Acme" });
    let expected = |object: &str| {
        json!({
            "category_identifier": { "name": "Residential" }, "owned_by_group_identifier": { "name": "Branch" },
            format!("{object}.industry_identifier"): { "name": "Retail" },
            format!("{object}.industry_sector_identifier"): { "id": "Public" },
            "privacy_level_identifier": { "number": "2" },
        })
    };
    let more = json!({ "organization": ours, "owner": "ours", "attributes": { "privacyLevel": "ours" } });
    check_with(&configured, &contact(more.clone()), expected("demographics"), &["/organization/name"]);
    check_with(&configured, &company(more.clone()), expected("company_profile"), &[]);
    let lost = ["/attributes", "/organization/industry", "/organization/marketSector", "/organization/type", "/owner"];
    check_company(more, json!({}), &lost);
    let nulls = json!({ "organization": { "name": "Acme", "type": null }, "owner": null });
    check_company(nulls, json!({ "category_identifier": null, "owned_by_group_identifier": null }), &[]);
}

#[test]
fn languages_are_words_of_a_table() {
    check(json!({ "preferredLanguage": "sv" }), json!({ "preferred_language": "SWE" }), &[]);
    check(json!({ "preferredLanguage": "en-GB" }), json!({ "preferred_language": "ENG" }), &[]);
    check(json!({ "preferredLanguage": "it" }), json!({}), &["/preferredLanguage"]);
    check(json!({ "preferredLanguage": null }), json!({ "preferred_language": null }), &[]);
}

#[test]
fn consent_and_notes_are_sent_and_what_has_no_field_is_lost() {
    let consent = json!({ "consent": { "marketing": false, "dataProcessing": true } });
    check(consent, json!({ "send_direct_marketing_material": false }), &["/consent/dataProcessing"]);
    check(json!({ "consent": { "marketing": null } }), json!({ "send_direct_marketing_material": null }), &[]);
    let attributes = json!({ "sendAffiliateMarketingMaterial": true, "shoe": 44 });
    check(json!({ "attributes": attributes }), json!({ "send_affiliate_marketing_material": true }), &["/attributes"]);
    check(json!({ "notes": " n " }), json!({ "notes": "n" }), &[]);
    let silent = connector(|settings| settings.send_notes = false);
    check_with(&silent, &contact(json!({ "notes": "n" })), json!({}), &["/notes"]);
    for (attribute, value) in [
        ("active", json!(false)),
        ("photos", json!([{ "value": "https://photos.example.com/1" }])),
        ("relations", json!([{ "type": "nemesis", "subject": "9" }])),
    ] {
        check(json!({ attribute: value }), json!({}), &[&format!("/{attribute}")]);
    }
}

#[test]
fn the_first_photo_that_can_be_sent_is() {
    let photos = |urls: &[&str]| {
        let items: Vec<Value> = urls.iter().map(|url| json!({ "value": url })).collect();
        json!({ "photos": items })
    };
    let stored = || json!({ "profile_photo": { "type": "image/gif", "content": "R0lGODlh" } });
    let gif = "data:image/gif;base64,R0lGODlh";
    let elsewhere = "https://photos.example.com/1";
    check(photos(&[gif]), stored(), &[]);
    check(photos(&[elsewhere, gif]), stored(), &["/photos"]);
    check(photos(&[gif, gif]), stored(), &["/photos"]);
    check(photos(&["data:image/png;base64,R0lGODlh"]), json!({}), &["/photos"]);
    check(photos(&[]), json!({ "profile_photo": null }), &[]);
    check(json!({ "photos": null }), json!({ "profile_photo": null }), &[]);
    check_company(photos(&[gif]), stored(), &[]);
    for (bytes_max, expected, lost) in
        [(6, stored(), &[][..]), (5, json!({}), &["/photos"]), (0, json!({}), &["/photos"])]
    {
        let connector = connector(|settings| settings.photo_bytes_max = bytes_max);
        check_with(&connector, &contact(photos(&[gif])), expected, lost);
    }
}

#[test]
fn consents_have_a_field_of_their_own_or_one_that_is_configured() {
    let consents = |crm: &CrmCom| crate::crm::CONSENTS.map(|pointer| crm.consent_field(pointer));
    let marketing = Some("send_direct_marketing_material".to_owned());
    assert_eq!(consents(&connector(|_| ())), [marketing.clone(), None]);
    let with_slot = connector(|settings| {
        settings.user_defined.insert("/consent/dataProcessing".into(), "udf_string_1".into());
    });
    assert_eq!(consents(&with_slot), [marketing, Some("udf_string_1".to_owned())]);
}

#[test]
fn user_defined_fields_hold_what_the_settings_say() {
    let slots = [
        ("/organization/department", "udf_string_1"),
        ("/consent/dataProcessing", "udf_string_2"),
        ("/attributes/shoe", "udf_float_1"),
        ("/attributes/since", "udf_date_8"),
        ("/identifiers/customer_no", "udf_string_3"),
        ("/active", "udf_float_2"),
    ];
    let slotted = connector(|settings| {
        settings.user_defined =
            slots.into_iter().map(|(pointer, slot)| (pointer.to_owned(), slot.to_owned())).collect();
        settings.source_slot = "udf_string_15".to_owned();
    });
    let said = json!({
        "organization": { "department": "Sales" }, "consent": { "dataProcessing": true }, "active": true,
        "attributes": { "shoe": "44.5", "since": "2020-02-29" }, "identifiers": { "customer_no": "K7" },
    });
    let expected = json!({
        "udf_string_1": "Sales", "udf_string_2": "true", "udf_float_1": 44.5, "udf_date_8": "2020-02-29T00:00:00",
        "udf_string_3": "K7", "udf_float_2": 1, "udf_string_15": "contact-hub",
    });
    check_with(&slotted, &contact(said), expected, &[]);
    let unfit = json!({ "attributes": { "shoe": "large", "since": 5 }, "organization": { "department": null } });
    let expected = json!({ "udf_string_1": null, "udf_string_15": "contact-hub" });
    check_with(&slotted, &contact(unfit), expected, &["/attributes"]);
}

#[test]
fn each_type_takes_one_address_and_the_rest_takes_what_is_left() {
    let street = |name: &str, label: &str| json!({ "streetAddress": name, "type": label });
    let entry = |name: &str| json!({ "street_name": name });
    let all = json!([
        street("a", "home"),
        street("b", "work"),
        street("c", "postal"),
        street("d", "other"),
        street("e", "work"),
    ]);
    let expected = json!({
        "address_set.HOME": entry("a"), "address_set.BUSINESS": entry("b"), "address_set.POBOX": entry("c"),
        "address_set.CUSTOM1": entry("d"), "address_set.CUSTOM2": entry("e"),
    });
    check(json!({ "addresses": all }), expected, &["/addresses/type"]);
    let few = connector(|settings| settings.overflow_types.clear());
    let twice =
        json!({ "addresses": [street("a", "home"), { "streetAddress": "b", "type": "home", "primary": true }] });
    check_with(&few, &contact(twice), json!({ "address_set.HOME": entry("b") }), &["/addresses"]);
    let nothing = |path: &str| (path.to_owned(), Value::Null);
    let types = ["HOME", "BUSINESS", "POBOX", "CUSTOM1", "CUSTOM2", "CUSTOM3", "CUSTOM4", "CUSTOM5"];
    let empty: Map<_, _> = types.iter().map(|of_type| nothing(&format!("address_set.{of_type}"))).collect();
    check(json!({ "addresses": [] }), empty.into(), &[]);
}

#[test]
fn an_address_is_taken_apart_as_the_tenants_format_wants() {
    let address = json!({
        "type": "work", "streetAddress": "Limassol Ave\nBlock B", "streetNumber": "14", "apartment": "3", "floor": "2",
        "poBox": "88", "locality": "Nicosia", "district": "Centre", "region": "Lefkosia", "postalCode": "2003",
        "country": "CY", "geo": { "longitude": 1, "latitude": 2 },
    });
    let common = json!({
        "town_city": "Nicosia", "district": "Centre", "municipality": "Lefkosia", "postal_code": "2003", "po_box": "88",
        "country_identifier": { "two_character_code": "CY" },
    });
    let with = |more: Value| {
        let mut entry = common.clone();
        entry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "address_set.BUSINESS": entry })
    };
    let apart =
        json!({ "street_name": "Limassol Ave, Block B", "street_number": "14", "apartment_number": "3", "floor": 2 });
    check(json!({ "addresses": [address] }), with(apart), &["/addresses/geo"]);
    let joined = connector(|settings| settings.address_format = CrmComAddressFormat::International);
    let one_line = with(json!({ "address_line_1": "Limassol Ave, Block B 14, 2, 3" }));
    check_with(&joined, &contact(json!({ "addresses": [address] })), one_line, &["/addresses/geo"]);
    let before = connector(|settings| {
        settings.address_format = CrmComAddressFormat::International;
        settings.street_number = StreetNumber::Before;
    });
    let short = json!({ "addresses": [{ "streetAddress": "Elm", "streetNumber": "1" }] });
    let expected = json!({ "address_set.CUSTOM1": { "address_line_1": "1 Elm" } });
    check_with(&before, &contact(short), expected, &[]);
    let floor = json!({ "addresses": [{ "streetAddress": "Elm", "floor": "attic" }] });
    check(floor, json!({ "address_set.CUSTOM1": { "street_name": "Elm, attic" } }), &[]);
    let nowhere = json!({ "addresses": [{ "streetAddress": "Elm", "country": "XX" }] });
    if Document::parse(contact(nowhere.clone())).is_ok() {
        check(nowhere, json!({ "address_set.CUSTOM1": { "street_name": "Elm" } }), &["/addresses/country"]);
    }
}

#[test]
fn parts_of_an_address_go_where_the_settings_say_and_nowhere_else() {
    let moved = connector(|settings| {
        settings.address_parts.district = "area".to_owned();
        settings.address_parts.region.clear();
        settings.address_parts.po_box = "po_box_postal_code".to_owned();
    });
    let address = json!({
        "streetAddress": "Elm", "locality": "Nicosia", "district": "Centre", "region": "Lefkosia", "poBox": "88",
        "postalCode": "2003",
    });
    let expected = json!({ "address_set.CUSTOM1": {
        "street_name": "Elm", "town_city": "Nicosia", "area": "Centre", "po_box_postal_code": "88", "postal_code": "2003",
    } });
    check_with(&moved, &contact(json!({ "addresses": [address] })), expected, &["/addresses/region"]);
}

#[test]
fn only_photos_of_the_configured_types_are_sent() {
    let photos = contact(json!({ "photos": [{ "value": "data:image/gif;base64,R0lGODlh" }] }));
    let some = connector(|settings| settings.photo_types.retain(|media_type| media_type != "image/gif"));
    check_with(&some, &photos, json!({}), &["/photos"]);
}

#[test]
fn days_of_a_person_are_filled_by_rules_alone() {
    let crm_com = connector(|_| ());
    let shaped = |name: &str, value: &str| crm_com.shaped(name, json!(value));
    assert_eq!(shaped("demographics.name_day", "2000-08-18"), json!({ "day": 18, "month": 8 }));
    assert_eq!(shaped("demographics.id_number_expiration_date", "2030-01-31"), "2030-01-31T00:00:00");
    for name in ["demographics.name_day", "demographics.id_number_expiration_date"] {
        assert_eq!(crm_com.field(name), Ok(Field::optional(crate::crm::Takes::Date)), "{name}");
        assert!(!crm_com.fields().contains(&name.to_owned()), "{name} is others' until a rule fills it");
    }
    let day = BTreeMap::from([("demographics.name_day".to_owned(), json!({ "month": 8, "day": 18 }))]);
    let body = wire::nested(Members::default(), &day).body();
    assert_eq!(body, r#"{"demographics":{"name_day":{"day":18,"month":8}}}"#);
}

#[test]
fn a_company_is_searched_for_by_the_number_that_the_tenant_means() {
    let organization = json!({ "name": "Acme", "registrationNumber": "HE1", "vatNumber": "CY1" });
    let document = company(json!({ "organization": organization }));
    let keys = |crm_com: &CrmCom| {
        let record = record(document.clone());
        let projection = crm_com.project(&record, None).unwrap();
        crm_com.look_up_keys(&record, &projection).unwrap().values
    };
    let by = |number: &str| BTreeMap::from([("vat_registration_number".to_owned(), number.to_owned())]);
    assert_eq!(keys(&connector(|_| ())), by("CY1"));
    let registered = connector(|settings| settings.vat_search = crate::config::CrmComVatSearch::RegistrationNumber);
    assert_eq!(keys(&registered), by("HE1"));
}

#[test]
fn an_address_without_a_street_takes_what_the_settings_allow_or_is_left_out() {
    let with = |ways: &[CrmComStreet]| connector(|settings| settings.without_street = ways.to_vec());
    let boxed = contact(json!({ "addresses": [{ "poBox": "88", "locality": "Nicosia" }] }));
    let entry = |street: &str| json!({ "address_set.CUSTOM1": { "street_name": street, "po_box": "88", "town_city": "Nicosia" } });
    check_with(&with(&[CrmComStreet::PoBox, CrmComStreet::Locality]), &boxed, entry("PO Box 88"), &[]);
    check_with(&with(&[CrmComStreet::Locality]), &boxed, entry("Nicosia"), &[]);
    check_with(&with(&[]), &boxed, json!({}), &["/addresses"]);
    let bare = contact(json!({ "addresses": [{ "postalCode": "2003" }] }));
    check_with(&with(&[CrmComStreet::PoBox]), &bare, json!({}), &["/addresses"]);
}

#[test]
fn a_telephone_number_has_its_country_and_the_rest() {
    let number = |national: &str, country: &str| json!({ "number": national, "country_identifier": { "two_character_code": country } });
    let phone = |value: &str, label: &str| json!({ "value": value, "type": label });
    let all = json!([
        phone("+35799555012", "mobile"),
        phone("+39 02 3661 8300", "work"),
        phone("+1 416 555 0123", "home"),
        phone("0044 20 7946 0018", "fax"),
        phone("+35799555013", "other"),
    ]);
    let expected = json!({
        "phone_set.MOBILE": number("99555012", "CY"), "phone_set.LANDLINE": number("0236618300", "IT"),
        "phone_set.CUSTOM1": number("4165550123", "CA"), "phone_set.FAX": number("2079460018", "GB"),
        "phone_set.CUSTOM2": number("99555013", "CY"),
    });
    check(json!({ "phoneNumbers": all }), expected, &["/phoneNumbers/type"]);
    let local = json!({ "phoneNumbers": [phone("99555012", "mobile")] });
    check(local.clone(), json!({}), &["/phoneNumbers/value"]);
    let at_home = connector(|settings| settings.phone_country = "CY".to_owned());
    check_with(&at_home, &contact(local), json!({ "phone_set.MOBILE": number("99555012", "CY") }), &[]);
}

#[test]
fn the_primary_one_of_a_set_comes_first_and_is_marked_if_wanted() {
    let marking = connector(|settings| settings.send_primary = true);
    let two = json!({ "emails": [
        { "value": "a@example.com", "type": "work" }, { "value": "b@example.com", "type": "work", "primary": true },
        { "value": "c@example.com" }, { "value": "no address" },
    ] });
    let expected = json!({
        "email_set.BUSINESS": { "email_address": "b@example.com", "is_primary": true },
        "email_set.CUSTOM1": { "email_address": "a@example.com" },
        "email_set.PERSONAL": { "email_address": "c@example.com" },
    });
    check_with(&marking, &contact(two), expected, &["/emails/type", "/emails/value"]);
}

#[test]
fn seven_addresses_fit_and_an_eighth_is_lost() {
    let emails = |count: u32| {
        let email = |number| json!({ "value": format!("{number}@example.com"), "type": "work" });
        contact(json!({ "emails": (0..count).map(email).collect::<Vec<_>>() }))
    };
    let projection = |count| connector(|_| ()).project(&record(emails(count)), None).unwrap();
    let entries = |count| projection(count).fields.keys().filter(|path| path.starts_with("email_set.")).count();
    assert_eq!((entries(6), entries(7)), (6, 6), "one BUSINESS and five of CUSTOM");
    assert!(!projection(6).losses.iter().any(|loss| loss.field == "/emails/value"));
    assert!(projection(7).losses.iter().any(|loss| loss.field == "/emails/value"));
}

#[test]
fn every_attribute_of_the_schema_is_carried_or_reported() {
    let full = json!({
        "kind": "person",
        "name": {
            "honorificPrefix": "x1", "givenName": "x2", "middleName": "x3", "familyName": "x4", "honorificSuffix": "x5",
            "formatted": "x6",
        },
        "emails": [{ "value": "x7@example.com", "type": "work" }],
        "phoneNumbers": [{ "value": "+4520555012", "type": "work" }],
        "addresses": [{
            "type": "work", "streetAddress": "x8", "streetNumber": "x9", "apartment": "y1", "floor": "y2", "poBox": "y3",
            "locality": "y4", "district": "y5", "region": "y6", "postalCode": "y7", "country": "DK",
            "geo": { "longitude": 1.5, "latitude": 2.5 },
        }],
        "organization": {
            "name": "z1", "department": "z2", "title": "z3", "registrationNumber": "z4", "vatNumber": "z5", "type": "z6",
            "marketSector": "z7", "industry": "z8",
        },
        "birthDate": "1980-02-29", "gender": "female", "preferredLanguage": "da", "notes": "n", "owner": "o",
        "consent": { "marketing": true, "dataProcessing": true }, "active": true, "identifiers": { "a": "1" },
        "photos": [{ "value": "https://photos.example.com/1", "type": "t" }],
        "relations": [{ "type": "t", "source": "s", "subject": "u", "notes": "n" }], "attributes": { "a": "1" },
    });
    for kind in ["person", "organization"] {
        let mut full = full.clone();
        full["kind"] = json!(kind);
        let connector = connector(|_| ());
        let whole = connector.project(&record(full.clone()), None).unwrap();
        for leaf in schema::leaves().filter(|leaf| !leaf.ends_with("/primary") && *leaf != "/kind") {
            let mut without = full.clone();
            let steps: Vec<&str> = leaf.split('/').skip(1).collect();
            let (last, above) = steps.split_last().unwrap();
            let place = above.iter().fold(&mut without, |place, step| {
                let inner = &mut place[*step];
                if inner.is_array() { &mut inner[0] } else { inner }
            });
            place.as_object_mut().unwrap().remove(*last);
            let is_reported = whole.losses.iter().any(|loss| leaf.starts_with(loss.field));
            match connector.project(&record(without), None) {
                Ok(less) => assert!(less.fields != whole.fields || is_reported, "{leaf} vanishes without a word"),
                Err(verdict) => assert_eq!(verdict.reason.field.as_deref(), Some(leaf)),
            }
        }
    }
}

#[test]
fn a_contact_that_is_gone_is_treated_by_policy() {
    let project = |status, contact: Value, change: &dyn Fn(&mut CrmSettings), link: Option<&Link>| {
        let mut record = record(contact);
        record.status = status;
        connector_with(|crm| change(crm)).project(&record, link)
    };
    let verdict = |outcome, code| Err(Verdict::new(outcome, code));
    let unknown = verdict(OutcomeKind::Unchanged, ReasonCode::UnknownContact);
    let mut intended = Link::new(CONTACT);
    intended.intent = Some(Intent { keys: BTreeMap::new() });
    let document = contact(json!({ "notes": "n" }));
    let slotted = |crm: &mut CrmSettings| {
        crm.crm_com.as_mut().unwrap().user_defined.insert("/active".to_owned(), "udf_string_1".to_owned());
    };
    for status in [Status::Deleted, Status::Merged] {
        assert_eq!(project(status, document.clone(), &|_| (), None), unknown);
        for link in [&link_with(&["title"], None), &link_with(&[], Some("C1")), &intended] {
            let with = |policy| project(status, document.clone(), &|crm| crm.on_delete = policy, Some(link));
            assert_eq!(with(OnDelete::Delete), verdict(OutcomeKind::Unsupported, ReasonCode::Delete));
            assert_eq!(with(OnDelete::Deactivate), verdict(OutcomeKind::Unsupported, ReasonCode::Deactivate));
            assert_eq!(with(OnDelete::Keep), verdict(OutcomeKind::Filtered, ReasonCode::KeptByPolicy));
            let retired = project(status, document.clone(), &slotted, Some(link)).unwrap();
            assert_eq!((retired.presence, &retired.fields["udf_string_1"]), (Presence::Inactive, &json!("false")));
            assert_eq!(retired.fields["notes"], "n");
            let bare = project(status, Value::Null, &slotted, Some(link)).unwrap();
            assert_eq!(bare.fields.keys().collect::<Vec<_>>(), ["udf_string_1", "udf_string_16"]);
        }
    }
    let inactive = project(Status::Live, contact(json!({ "active": false })), &slotted, None).unwrap();
    assert_eq!(inactive.presence, Presence::Inactive);

    let link = link_with(&["title"], Some("C1"));
    let erased = |change: &dyn Fn(&mut CrmSettings)| project(Status::Erased, Value::Null, change, Some(&link));
    assert_eq!(erased(&|crm| crm.on_erase = OnErase::Delete), verdict(OutcomeKind::Unsupported, ReasonCode::Erase));
    assert_eq!(erased(&|crm| crm.on_erase = OnErase::Keep), verdict(OutcomeKind::Filtered, ReasonCode::KeptByPolicy));
    let blank = erased(&slotted).unwrap();
    assert_eq!(blank.fields["first_name"], "Erased");
    assert_eq!(blank.fields["company_name"], "Erased");
    assert_eq!(blank.fields["udf_string_16"], KEY, "our reference tells nobody anything");
    assert!(!blank.fields.contains_key("type"), "of which type it is, only CRM.COM knows by now");
    let cleared: BTreeSet<_> = blank.fields.iter().filter(|(_, value)| value.is_null()).map(|(path, _)| path).collect();
    let clearable = connector_with(slotted).fields();
    assert_eq!(cleared, clearable.iter().collect::<BTreeSet<_>>());
}

#[test]
fn what_can_be_cleared_is_listed_and_what_is_needed_is_not() {
    let plain = connector(|_| ()).fields();
    for field in ["type", "first_name", "last_name", "company_name", "udf_string_16", "udf_string_1"] {
        assert!(!plain.iter().any(|listed| listed == field), "{field} is not ours to clear");
    }
    assert_eq!(plain.len(), (11 - 4) + 2 + 7 + 4 + (8 + 8 + 7) + 1);
    let slotted = connector(|settings| {
        settings.user_defined.insert("/organization/title".to_owned(), "udf_string_1".to_owned());
    });
    assert!(slotted.fields().iter().any(|listed| listed == "udf_string_1"));
}

#[test]
fn a_contact_is_searched_for_by_its_own_data_and_never_by_our_reference() {
    let document = contact(json!({
        "emails": [{ "value": "home@example.com" }, { "value": "work@example.com", "type": "work" }],
        "phoneNumbers": [{ "value": "+35799555012", "type": "mobile" }], "identifiers": { "id_number": "7", "ssn": "9" },
    }));
    let keys = |connector: &CrmCom, document: &Value| {
        let record = record(document.clone());
        let keys = connector.look_up_keys(&record, &connector.project(&record, None).unwrap()).unwrap();
        assert!(!keys.planted);
        serde_json::to_value(keys.values).unwrap()
    };
    let expected = json!({ "email_address": "work@example.com", "phone_number": "35799555012", "id_number": "7" });
    assert_eq!(keys(&connector(|_| ()), &document), expected);
    let national = connector(|settings| {
        settings.phone_search = CrmComPhoneSearch::National;
        settings.search_by = vec![CrmComKey::PhoneNumber, CrmComKey::SocialSecurityNumber];
    });
    assert_eq!(keys(&national, &document), json!({ "phone_number": "99555012", "social_security_number": "9" }));
    let acme = company(json!({ "organization": { "name": "Acme", "vatNumber": "CY1" } }));
    assert_eq!(keys(&connector(|_| ()), &acme), json!({ "vat_registration_number": "CY1" }));
    let mut deleted = record(document);
    deleted.status = Status::Deleted;
    let keys = connector(|_| ()).look_up_keys(&deleted, &Projection::default()).unwrap();
    assert_eq!(serde_json::to_value(keys.values).unwrap(), expected, "it is found by what it was");
}

#[test]
fn one_field_can_hold_what_a_document_has_once() {
    for single in ["/organization/department", "/active", "/attributes/shoe", "/identifiers/vat", "/name/formatted"] {
        assert!(is_single(single), "{single}");
    }
    for not in ["", "/", "/emails", "/emails/0/value", "/organization", "/attributes", "/attributes/", "/x", "/photos"]
    {
        assert!(!is_single(not), "{not}");
    }
}

proptest! {
    #[test]
    fn whatever_a_record_says_is_a_field_that_is_known(document in schema::samples::contact()) {
        let connector = connector(|_| ());
        let (document, _) = Document::parse(document).unwrap();
        let record = ContactRecord { contact: Some(document), ..record(Value::Null) };
        if let Ok(projection) = connector.project(&record, None) {
            let known: BTreeSet<String> = wire::paths().collect();
            prop_assert!(projection.fields.keys().all(|path| known.contains(path)));
            prop_assert!(projection.losses.iter().all(|loss| schema::paths().any(|path| path == loss.field)));
        }
    }
}
