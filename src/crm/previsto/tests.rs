//! The mapping table row by row, and the form that comes of it.

use std::collections::BTreeSet;

use proptest::{collection, prelude::*};
use serde_json::json;

use super::*;
pub(super) use crate::crm::testing::{CONTACT, KEY, link_with, record};
use crate::{
    config::{FormClear, LocationForm, MetaScalars, OnDelete, OnErase, PhoneForm, StreetNumber},
    contact::{Document, schema},
    crm::{link::Intent, testing::previsto_crm},
};

/// A name, which is the least that Previsto takes, and on top of it what a test is about.
pub(super) fn contact(more: Value) -> Value {
    let mut contact = json!({ "name": { "givenName": "Ilka", "familyName": "Sundstrom" } });
    let Value::Object(more) = more else { panic!("an object") };
    contact.as_object_mut().unwrap().extend(more);
    contact
}

pub(super) fn fields(object: Value) -> BTreeMap<String, Value> {
    serde_json::from_value(object).unwrap()
}

/// What [`contact`] alone becomes.
fn least() -> BTreeMap<String, Value> {
    fields(json!({ "name": "Ilka Sundstrom", "number": KEY, "meta.externalRef": KEY, "meta.source": "contact-hub" }))
}

pub(super) fn connector(change: impl FnOnce(&mut PrevistoSettings)) -> Previsto {
    connector_with(|crm| change(crm.previsto.as_mut().unwrap()))
}

pub(super) fn connector_with(change: impl FnOnce(&mut CrmSettings)) -> Previsto {
    let mut crm = previsto_crm();
    change(&mut crm);
    Previsto::new(&crm, "contact-hub").unwrap()
}

/// `more` on top of the least becomes `expected` on top of the least, with these losses.
fn check(more: Value, expected: Value, losses: &[&str]) {
    check_with(|_| (), more, expected, losses);
}

fn check_with(change: impl FnOnce(&mut PrevistoSettings), more: Value, expected: Value, losses: &[&str]) {
    let projection = connector(change).project(&record(contact(more.clone())), None).unwrap();
    let mut all = least();
    all.extend(fields(expected));
    assert_eq!(projection.fields, all, "{more}");
    let lost: Vec<&str> = projection.losses.iter().map(|loss| loss.field).collect();
    assert_eq!(lost, losses, "{more}");
    let paths: BTreeSet<&str> = schema::paths().collect();
    assert!(lost.iter().all(|field| paths.contains(field)), "{lost:?}");
}

#[test]
fn a_name_is_the_full_one_or_its_parts_without_titles() {
    let name = |name: Value, sent: &str, losses: &[&str]| {
        check(json!({ "name": name }), json!({ "name": sent }), losses);
    };
    name(json!({ "givenName": "Ilka", "middleName": "Maj", "familyName": "Sundstrom" }), "Ilka Maj Sundstrom", &[]);
    name(json!({ "familyName": "Sundstrom" }), "Sundstrom", &[]);
    name(
        json!({ "honorificPrefix": "Ms", "givenName": "Ilka", "familyName": "Vale", "honorificSuffix": "PhD" }),
        "Ilka Vale",
        &["/name/honorificPrefix", "/name/honorificSuffix"],
    );
    name(
        json!({ "formatted": "Dr Ilka Vale, PhD", "honorificPrefix": "Dr", "givenName": "Ilka", "familyName": "Vale" }),
        "Dr Ilka Vale, PhD",
        &[],
    );
    name(json!({ "formatted": " Anna Vale ", "givenName": "Ilka" }), "Anna Vale", &["/name/givenName"]);
}

#[test]
fn an_organization_goes_by_its_own_name() {
    let organization = |more: Value| {
        let mut document = contact(json!({ "kind": "organization" }));
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        connector(|_| ()).project(&record(document), None)
    };
    let projection = organization(json!({ "organization": { "name": "Harbour Lane" } })).unwrap();
    assert_eq!(projection.fields["name"], "Harbour Lane");
    assert_eq!(projection.fields["meta.kind"], "organization");
    assert!(!projection.fields.contains_key("meta.organization"));
    let lost: Vec<_> = projection.losses.iter().map(|loss| loss.field).collect();
    assert_eq!(lost, ["/name/familyName", "/name/givenName"]);
    assert_eq!(organization(json!({})).unwrap().fields["name"], "Ilka Sundstrom", "what it is called otherwise");
    let verdict = organization(json!({ "name": null })).unwrap_err();
    assert_eq!(verdict, Verdict::field(OutcomeKind::Rejected, ReasonCode::MissingField, "/organization/name"));
}

#[test]
fn a_contact_without_a_name_is_rejected() {
    let missing = Verdict::field(OutcomeKind::Rejected, ReasonCode::MissingField, "/name");
    for name in [json!(null), json!({}), json!({ "givenName": " " }), json!({ "honorificPrefix": "Ms" })] {
        let nameless = record(contact(json!({ "name": name })));
        assert_eq!(connector(|_| ()).project(&nameless, None).unwrap_err(), missing, "{name}");
        let link = link_with(&["name"], Some("con_1"));
        assert_eq!(connector(|_| ()).project(&nameless, Some(&link)).unwrap_err(), missing, "{name}");
    }
    assert_eq!(connector(|_| ()).project(&record(Value::Null), None).unwrap_err(), missing);
}

#[test]
fn one_email_address_is_sent_and_what_is_none_is_lost() {
    let emails = |emails: Value| json!({ "emails": emails });
    check(emails(json!([{ "value": "a@example.com" }])), json!({ "email": "a@example.com" }), &[]);
    check(
        emails(json!([{ "value": "a@example.com" }, { "value": "b@example.com", "primary": true, "type": "work" }])),
        json!({ "email": "b@example.com" }),
        &["/emails/type", "/emails/value"],
    );
    check(emails(json!([{ "value": "nobody", "primary": true }])), json!({}), &["/emails/value"]);
    check(
        emails(json!([{ "value": "nobody", "primary": true }, { "value": "a@example.com" }])),
        json!({ "email": "a@example.com" }),
        &["/emails/value"],
    );
    for nothing in [json!([]), json!(null)] {
        check(emails(nothing), json!({ "email": null }), &[]);
    }
}

#[test]
fn one_telephone_number_is_sent_in_international_form_mobiles_first() {
    let phones = |phones: Value| json!({ "phoneNumbers": phones });
    let work = json!({ "value": "+45 20 55 50 11", "type": "work", "primary": true });
    let mobile = json!({ "value": "0045 20 55 50 12", "type": "mobile" });
    let national = json!({ "value": "20 55 50 13", "type": "mobile", "primary": true });
    let fax = json!({ "value": "+4520555014", "type": "fax" });
    check(
        phones(json!([work, mobile])),
        json!({ "phone": "+4520555012" }),
        &["/phoneNumbers/type", "/phoneNumbers/value"],
    );
    check(phones(json!([work])), json!({ "phone": "+4520555011" }), &["/phoneNumbers/type"]);
    check(phones(json!([{ "value": "+4520555011" }])), json!({ "phone": "+4520555011" }), &[]);
    check(phones(json!([national])), json!({}), &["/phoneNumbers/value"]);
    check(
        phones(json!([national, work])),
        json!({ "phone": "+4520555011" }),
        &["/phoneNumbers/type", "/phoneNumbers/value"],
    );
    check(phones(json!([fax])), json!({}), &["/phoneNumbers/value"]);
    check(phones(json!([])), json!({ "phone": null }), &[]);
    let as_written = |settings: &mut PrevistoSettings| settings.phone_form = PhoneForm::AsWritten;
    check_with(as_written, phones(json!([{ "value": " 20 55 50 13" }])), json!({ "phone": "20 55 50 13" }), &[]);
}

#[test]
fn one_address_is_sent_work_before_home_before_the_first() {
    let address = |label: &str, city: &str| json!({ "type": label, "locality": city });
    let addresses = |addresses: Value| json!({ "addresses": addresses });
    let (typed, one_only) = ("/addresses/type", "/addresses");
    check(
        addresses(json!([address("postal", "A"), address("home", "B"), address("work", "C")])),
        json!({ "city": "C" }),
        &[one_only, typed],
    );
    check(addresses(json!([address("postal", "A"), address("home", "B")])), json!({ "city": "B" }), &[one_only, typed]);
    let other = json!({ "locality": "B", "primary": true });
    check(addresses(json!([{ "locality": "A" }, other])), json!({ "city": "B" }), &[one_only]);
    check(addresses(json!([{ "locality": "A" }])), json!({ "city": "A" }), &[]);
    for nothing in [json!([]), json!(null)] {
        let cleared = json!({
            "address": null, "appartment": null, "postalCode": null, "city": null, "countryCode": null, "location": null,
        });
        check(addresses(nothing), cleared, &[]);
    }
}

#[test]
fn the_parts_of_an_address_have_their_fields() {
    let address = |address: Value| json!({ "addresses": [address] });
    check(
        address(json!({
            "streetAddress": "Mill House\n\n Kanalgade ", "streetNumber": "14", "floor": "3", "apartment": "2. tv",
            "postalCode": "8000", "locality": "Aarhus", "country": "DK",
        })),
        json!({
            "address": "Mill House 14, Kanalgade, 3", "appartment": "2. tv", "postalCode": "8000", "city": "Aarhus",
            "countryCode": "DK",
        }),
        &[],
    );
    let before = |settings: &mut PrevistoSettings| settings.street_number = StreetNumber::Before;
    let numbered = address(json!({ "streetAddress": "Kanalgade", "streetNumber": "14" }));
    check_with(before, numbered, json!({ "address": "14 Kanalgade" }), &[]);
    check(address(json!({ "streetNumber": "14" })), json!({ "address": "14" }), &[]);
    check(address(json!({ "poBox": "88" })), json!({ "address": "PO Box 88" }), &[]);
    check(
        address(json!({ "poBox": "88", "streetAddress": "Quay", "district": "Glebe", "region": "NSW" })),
        json!({ "address": "Quay" }),
        &["/addresses/district", "/addresses/poBox", "/addresses/region"],
    );
    check(
        address(json!({ "streetAddress": null, "apartment": null, "postalCode": " ", "locality": "Aarhus" })),
        json!({ "address": null, "appartment": null, "postalCode": null, "city": "Aarhus" }),
        &[],
    );
}

#[test]
fn a_position_is_sent_whole_and_longitude_first() {
    let geo = |geo: Value| json!({ "addresses": [{ "locality": "Aarhus", "geo": geo }] });
    let position = json!({ "city": "Aarhus", "location": [10.5, 56.8] });
    check(geo(json!({ "latitude": 56.8, "longitude": 10.5 })), position, &[]);
    check(geo(json!({ "latitude": 56.8 })), json!({ "city": "Aarhus" }), &["/addresses/geo"]);
    check(geo(json!({ "latitude": null, "longitude": 10.5 })), json!({ "city": "Aarhus" }), &["/addresses/geo"]);
    check(geo(json!({})), json!({ "city": "Aarhus" }), &[]);
    check(geo(json!(null)), json!({ "city": "Aarhus", "location": null }), &[]);
}

#[test]
fn the_tax_number_comes_before_that_of_the_register() {
    let organization = |organization: Value| json!({ "organization": organization });
    check(
        organization(json!({ "vatNumber": "DK1", "registrationNumber": "2" })),
        json!({ "registrationNo": "DK1" }),
        &["/organization/registrationNumber"],
    );
    check(organization(json!({ "registrationNumber": "2" })), json!({ "registrationNo": "2" }), &[]);
    check(organization(json!({ "vatNumber": null, "registrationNumber": "2" })), json!({ "registrationNo": "2" }), &[]);
    check(organization(json!({ "vatNumber": null })), json!({ "registrationNo": null }), &[]);
}

#[test]
fn what_has_no_field_but_fits_into_a_text_goes_to_meta() {
    check(
        json!({
            "kind": "person", "birthDate": "1980-02-29", "gender": "female", "preferredLanguage": "da-DK",
            "consent": { "marketing": false, "dataProcessing": true }, "notes": "likes boats",
            "organization": {
                "name": "Harbour Lane", "department": "Operations", "title": "Lead", "type": "Agency",
                "marketSector": "Arts", "industry": "Events",
            },
        }),
        json!({
            "meta.kind": "person", "meta.birthDate": "1980-02-29", "meta.gender": "female", "meta.language": "da-DK",
            "meta.consentMarketing": "false", "meta.consentDataProcessing": "true", "note": "likes boats",
            "meta.organization": "Harbour Lane", "meta.department": "Operations", "meta.jobTitle": "Lead",
            "meta.organizationType": "Agency", "meta.marketSector": "Arts",
        }),
        &["/organization/industry"],
    );
    check(
        json!({ "notes": null, "gender": "", "consent": { "marketing": null } }),
        json!({ "note": null, "meta.gender": null, "meta.consentMarketing": null }),
        &[],
    );
    let keep = |settings: &mut PrevistoSettings| settings.never_cleared.extend(["note".into(), "meta.gender".into()]);
    check_with(keep, json!({ "notes": null, "gender": null }), json!({}), &[]);
}

#[test]
fn active_is_inverted_and_said_only_if_it_is_known() {
    check(json!({ "active": true }), json!({ "archived": false }), &[]);
    check(json!({ "active": false }), json!({ "archived": true }), &[]);
    check(json!({ "active": null }), json!({}), &[]);
    let project = |active: Value, link: &Link| {
        connector(|_| ()).project(&record(contact(json!({ "active": active }))), Some(link)).unwrap()
    };
    let projection = project(json!(null), &link_with(&["name", "archived"], Some("con_1")));
    assert_eq!((&projection.fields["archived"], projection.presence), (&json!(false), Presence::Active));
    assert_eq!(project(json!(false), &Link::new(CONTACT)).presence, Presence::Inactive);
}

#[test]
fn an_update_that_must_not_archive_leaves_the_flag_out() {
    let only_create = |settings: &mut PrevistoSettings| settings.archived_on_update = false;
    check_with(only_create, json!({ "active": false }), json!({ "archived": true }), &[]);
    let link = link_with(&["name", "archived"], Some("con_1"));
    let inactive = record(contact(json!({ "active": false })));
    let projection = connector(only_create).project(&inactive, Some(&link)).unwrap();
    assert!(!projection.fields.contains_key("archived"));
    assert_eq!(projection.losses.iter().map(|loss| loss.field).collect::<Vec<_>>(), ["/active"]);
    assert_eq!(projection.presence, Presence::Active, "as it last was");
    let mut deleted = record(contact(json!({})));
    deleted.status = Status::Deleted;
    let verdict = connector(only_create).project(&deleted, Some(&link)).unwrap_err();
    assert_eq!(verdict, Verdict::new(OutcomeKind::Unsupported, ReasonCode::Deactivate));
}

#[test]
fn free_attributes_are_prefixed_texts_and_steering_ones_have_fields() {
    let attributes = |attributes: Value| json!({ "attributes": attributes });
    check(
        attributes(json!({ "shoe_size": 44, "vip": true, "pet.name": "Rex", "gone": null, "blank": " " })),
        json!({
            "meta.attr_shoe_size": "44", "meta.attr_vip": "true", "meta.attr_pet.name": "Rex", "meta.attr_gone": null,
            "meta.attr_blank": null,
        }),
        &[],
    );
    check(
        attributes(json!({ "externalRef": "x", "kind": "y" })),
        json!({ "meta.attr_externalRef": "x", "meta.attr_kind": "y" }),
        &[],
    );
    check(attributes(json!({ "a]b": "x" })), json!({}), &["/attributes"]);
    check(attributes(json!({ "": "x" })), json!({}), &["/attributes"]);
    let omit = |settings: &mut PrevistoSettings| settings.meta_scalars = MetaScalars::Omit;
    check_with(
        omit,
        attributes(json!({ "size": 44, "pet": "Rex" })),
        json!({ "meta.attr_pet": "Rex" }),
        &["/attributes"],
    );
    let prefix = |settings: &mut PrevistoSettings| settings.attribute_prefix = "hub.".to_owned();
    check_with(prefix, attributes(json!({ "pet": "Rex" })), json!({ "meta.hub.pet": "Rex" }), &[]);
    check(
        attributes(json!({
            "accountingMode": "AddToDraft", "accountingTime": "BeforeWork", "invoiceDelivery": "Email", "ean": 5790,
            "notifyBeforeWork": true,
        })),
        json!({
            "accountingMode": "AddToDraft", "accountingTime": "BeforeWork", "invoiceDelivery": "Email", "ean": "5790",
            "notifyBeforeWork": true,
        }),
        &[],
    );
    for wrong in [
        json!({ "accountingMode": "addtodraft" }),
        json!({ "accountingTime": true }),
        json!({ "invoiceDelivery": "Fax" }),
        json!({ "notifyBeforeWork": "true" }),
    ] {
        check(attributes(wrong), json!({}), &["/attributes"]);
    }
    check(
        attributes(json!({ "ean": null, "notifyBeforeWork": null })),
        json!({ "ean": null, "notifyBeforeWork": null }),
        &[],
    );
}

#[test]
fn what_has_no_place_is_lost_and_said_so() {
    for (attribute, value) in [
        ("identifiers", json!({ "customer_no": "1" })),
        ("owner", json!("sales-7")),
        ("photos", json!([{ "value": "data:image/png;base64,AA==" }])),
        ("relations", json!([{ "type": "spouse", "source": "crm", "subject": "9" }])),
    ] {
        let pointer = format!("/{attribute}");
        check(json!({ attribute: value }), json!({}), &[&pointer]);
        check(json!({ attribute: null }), json!({}), &[]);
    }
}

#[test]
fn what_is_planted_is_a_setting() {
    let projection = |change: fn(&mut PrevistoSettings)| {
        connector(change).project(&record(contact(json!({}))), None).unwrap().fields.into_keys().collect::<Vec<_>>()
    };
    assert_eq!(projection(|_| ()), ["meta.externalRef", "meta.source", "name", "number"]);
    assert_eq!(projection(|settings| settings.plant_number = false), ["meta.externalRef", "meta.source", "name"]);
    assert_eq!(projection(|settings| settings.send_source = false), ["meta.externalRef", "name", "number"]);
}

#[test]
fn every_attribute_of_the_schema_is_carried_or_reported() {
    let full = json!({
        "kind": "person",
        "name": {
            "honorificPrefix": "x1", "givenName": "x2", "middleName": "x3", "familyName": "x4", "honorificSuffix": "x5",
            "formatted": "x6",
        },
        "emails": [{ "value": "x7@example.com", "type": "work", "primary": true }],
        "phoneNumbers": [{ "value": "+4520555012", "type": "work", "primary": true }],
        "addresses": [{
            "type": "work", "streetAddress": "x8", "streetNumber": "x9", "apartment": "y1", "floor": "y2", "poBox": "y3",
            "locality": "y4", "district": "y5", "region": "y6", "postalCode": "y7", "country": "DK",
            "geo": { "longitude": 1.5, "latitude": 2.5 }, "primary": true,
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
    let (checked, ignored) = Document::parse(full.clone()).unwrap();
    assert_eq!((serde_json::to_value(checked).unwrap(), ignored), (full.clone(), 0));
    let connector = connector(|_| ());
    let whole = connector.project(&record(full.clone()), None).unwrap();
    for leaf in schema::leaves().filter(|leaf| !leaf.ends_with("/primary")) {
        // Without the one attribute, either a field or a loss is another.
        let mut without = full.clone();
        let steps: Vec<&str> = leaf.split('/').skip(1).collect();
        let (last, above) = steps.split_last().unwrap();
        let place = above.iter().fold(&mut without, |place, step| {
            let inner = &mut place[*step];
            if inner.is_array() { &mut inner[0] } else { inner }
        });
        place.as_object_mut().unwrap().remove(*last);
        let less = connector.project(&record(without), None).unwrap();
        let is_reported = whole.losses.iter().any(|loss| leaf.starts_with(loss.field));
        assert!(less.fields != whole.fields || is_reported, "{leaf} vanishes without a word");
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
    let known = [link_with(&["name"], None), link_with(&[], Some("con_1")), intended];
    let document = contact(json!({ "notes": "n" }));
    for status in [Status::Deleted, Status::Merged] {
        for policy in [OnDelete::Delete, OnDelete::Deactivate, OnDelete::Keep] {
            let policy = |crm: &mut CrmSettings| crm.on_delete = policy;
            assert_eq!(project(status, document.clone(), &policy, None), unknown);
            assert_eq!(project(status, document.clone(), &policy, Some(&Link::new(CONTACT))), unknown);
        }
        for link in &known {
            let delete =
                project(status, document.clone(), &|crm| crm.on_delete = OnDelete::Delete, Some(link)).unwrap();
            assert_eq!((delete.presence, delete.fields.len()), (Presence::Absent, 0));
            let kept = project(status, document.clone(), &|crm| crm.on_delete = OnDelete::Keep, Some(link));
            assert_eq!(kept, verdict(OutcomeKind::Filtered, ReasonCode::KeptByPolicy));
            let archived = project(status, document.clone(), &|_| (), Some(link)).unwrap();
            let mut all = least();
            all.extend(fields(json!({ "note": "n", "archived": true })));
            assert_eq!((archived.presence, archived.fields), (Presence::Inactive, all));
            let bare = project(status, json!(null), &|_| (), Some(link)).unwrap();
            let mut all = least();
            all.remove("name");
            all.insert("archived".to_owned(), json!(true));
            assert_eq!((bare.presence, bare.fields), (Presence::Inactive, all), "no name is needed to archive");
        }
    }
    assert_eq!(project(Status::Erased, json!(null), &|_| (), None), unknown);
    for link in &known {
        let erased = |change: &dyn Fn(&mut CrmSettings)| project(Status::Erased, json!(null), change, Some(link));
        assert_eq!(erased(&|_| ()).unwrap().presence, Presence::Absent, "deletion is the default of this kind");
        let kept = erased(&|crm| crm.on_erase = OnErase::Keep);
        assert_eq!(kept, verdict(OutcomeKind::Filtered, ReasonCode::KeptByPolicy));
        let blank = erased(&|crm| crm.on_erase = OnErase::Blank).unwrap();
        let mut all: BTreeMap<_, _> =
            connector(|_| ()).fields().into_iter().map(|field| (field, Value::Null)).collect();
        all.extend(least());
        all.extend(fields(json!({ "name": "(erased)", "archived": true })));
        assert_eq!((blank.presence, blank.fields), (Presence::Inactive, all));
        let unclearable = erased(&|crm| {
            crm.on_erase = OnErase::Blank;
            crm.previsto.as_mut().unwrap().clear_with = FormClear::Omit;
        });
        assert_eq!(unclearable, verdict(OutcomeKind::Unsupported, ReasonCode::Erase));
    }
}

#[test]
fn what_can_be_cleared_is_listed_and_what_is_needed_is_not() {
    let listed = connector(|_| ()).fields();
    for field in ["name", "number", "meta.externalRef", "meta.source"] {
        assert!(!listed.iter().any(|listed| listed == field), "{field}");
    }
    assert_eq!(listed.len(), 16 + 11);
    for field in ["location", "archived", "note", "meta.consentMarketing"] {
        assert!(listed.iter().any(|listed| listed == field), "{field}");
    }
}

#[test]
fn a_contact_is_searched_for_by_what_is_planted_and_by_what_may_be_adopted() {
    let keys = |change: &dyn Fn(&mut CrmSettings)| {
        let connector = connector_with(|crm| change(crm));
        let document = contact(json!({
            "emails": [{ "value": "Ilka@example.com" }], "phoneNumbers": [{ "value": "+45 20555012" }],
        }));
        let record = record(document);
        let keys = connector.look_up_keys(&record, &connector.project(&record, None).unwrap()).unwrap();
        (serde_json::to_value(keys.values).unwrap(), keys.planted)
    };
    let (number, email, phone) = (KEY, "Ilka@example.com", "+4520555012");
    assert_eq!(keys(&|_| ()), (json!({ "number": number, "email": email, "phone": phone }), true));
    assert_eq!(keys(&|crm| crm.adopt = Adopt::Never), (json!({ "number": number }), true));
    let kept = |crm: &mut CrmSettings| crm.previsto.as_mut().unwrap().plant_number = false;
    assert_eq!(keys(&kept), (json!({ "email": email, "phone": phone }), false));
    let kept_and_never = |crm: &mut CrmSettings| {
        kept(crm);
        crm.adopt = Adopt::Never;
    };
    assert_eq!(keys(&kept_and_never), (json!({ "email": email, "phone": phone }), false));
    let by_phone = |crm: &mut CrmSettings| crm.previsto.as_mut().unwrap().search_by = vec![SearchKey::Phone];
    assert_eq!(keys(&by_phone), (json!({ "phone": phone }), false), "what the search does not cover is not planted");
}

#[test]
fn what_is_to_go_is_searched_for_by_what_it_was() {
    let connector = connector(|settings| settings.plant_number = false);
    let mut deleted = record(contact(json!({ "emails": [{ "value": "ilka@example.com" }] })));
    deleted.status = Status::Deleted;
    let keys = connector.look_up_keys(&deleted, &Projection::default()).unwrap();
    assert_eq!(keys.values, BTreeMap::from([("email".to_owned(), "ilka@example.com".to_owned())]));
    deleted.contact = None;
    deleted.status = Status::Erased;
    assert!(connector.look_up_keys(&deleted, &Projection::default()).unwrap().values.is_empty());
}

fn body(forms: Forms, object: Value) -> Option<String> {
    forms.body(&fields(object)).map(|body| String::from_utf8(body.to_vec()).unwrap())
}

const FORMS: Forms = Forms { location: LocationForm::Repeated, clear: FormClear::Empty };

#[test]
fn a_form_is_percent_encoded_in_the_order_of_the_fields() {
    let check = |object: Value, expected: &str| assert_eq!(body(FORMS, object).as_deref(), Some(expected));
    check(
        json!({ "meta.externalRef": "ct-000451", "email": "a+b@example.com", "name": "Æ & Sons=1", "phone": "+45" }),
        "name=%C3%86%20%26%20Sons%3D1&phone=%2B45&email=a%2Bb%40example.com&meta%5BexternalRef%5D=ct-000451",
    );
    check(json!({ "location": [10.5, 56.8] }), "location%5B%5D=10.5&location%5B%5D=56.8");
    check(json!({ "location": [-7, 0.0000001] }), "location%5B%5D=-7&location%5B%5D=0.0000001");
    check(json!({ "archived": true, "notifyBeforeWork": false }), "notifyBeforeWork=false&archived=true");
    check(json!({ "meta.a.b c": "~._-" }), "meta%5Ba.b%20c%5D=~._-");
    check(json!({ "note": "a\r\nb" }), "note=a%0D%0Ab");
}

#[test]
fn what_is_cleared_is_empty_a_word_or_left_out() {
    let cleared = json!({ "phone": null, "location": null, "archived": null, "meta.gender": null });
    let check = |clear, expected: Option<&str>| {
        assert_eq!(body(Forms { clear, ..FORMS }, cleared.clone()).as_deref(), expected, "{clear:?}");
    };
    check(FormClear::Empty, Some("location=&phone=&archived=false&meta%5Bgender%5D="));
    check(FormClear::Null, Some("location=null&phone=null&archived=false&meta%5Bgender%5D=null"));
    check(FormClear::Omit, None);
}

#[test]
fn half_a_position_is_never_written() {
    let check = |location, object: Value, expected: Option<&str>| {
        assert_eq!(body(Forms { location, ..FORMS }, object).as_deref(), expected, "{location:?}");
    };
    let whole = json!({ "location": [10.5, 56.8] });
    check(LocationForm::Indexed, whole.clone(), Some("location%5B0%5D=10.5&location%5B1%5D=56.8"));
    check(LocationForm::Joined, whole, Some("location=10.5%2C56.8"));
    for form in [LocationForm::Repeated, LocationForm::Indexed, LocationForm::Joined] {
        check(form, json!({ "location": [10.5] }), None);
        check(form, json!({ "location": [10.5, null] }), None);
    }
}

#[test]
fn a_contact_is_read_if_it_has_an_id() {
    let read = |text: &str| wire::contact(text.as_bytes());
    let contact = read(
        r#"{"id":"con_90a1","name":"Ilka","number":451,"archived":true,"meta":{"externalRef":" x ","n":1,"o":{}}}"#,
    );
    let contact = contact.unwrap();
    assert_eq!(
        (contact.id.as_str(), contact.number.as_deref(), contact.archived),
        ("con_90a1", Some("451"), Some(true))
    );
    assert_eq!((contact.reference(), contact.meta.len()), (Some("x"), 2));
    assert_eq!(read(r#"{"id":"cont-1","meta":null}"#).unwrap().reference(), None);
    assert_eq!(read(r#"{"id":"a","meta":{"externalRef":""}}"#).unwrap().reference(), None);
    for none in
        ["", "[]", "{}", "OK", r#"{"id":null}"#, r#"{"id":""}"#, r#"{"id":"Ilka Sundstrom"}"#, r#"{"id":"a/../b"}"#]
    {
        assert!(read(none).is_none(), "{none}");
    }
    assert_eq!(wire::page(b"[]").unwrap().len(), 0);
    assert_eq!(wire::page(br#"[{"id":"a"},{"id":"b"}]"#).unwrap().len(), 2);
    assert!(wire::page(br#"[{"id":"a"},{}]"#).is_none(), "what cannot be read might be the one that is looked for");
    assert!(wire::page(br#"{"id":"a"}"#).is_none());
}

#[test]
fn an_error_says_its_type_and_a_field_that_exists() {
    let check = |text: &str, kind: Option<&str>, param: Option<&str>| {
        let error = wire::error(text.as_bytes());
        assert_eq!((error.kind.as_deref(), error.param), (kind, param), "{text}");
    };
    let phone = r#"{"type":"invalid_request","message":"no","param":"phone"}"#;
    check(phone, Some("invalid_request"), Some("phone"));
    check(r#"{"type":"invalid_request","param":"meta[externalRef]"}"#, Some("invalid_request"), Some("meta"));
    check(r#"{"type":"invalid_request","param":"+4520555012"}"#, Some("invalid_request"), None);
    check(r#"{"type":"api_error"}"#, Some("api_error"), None);
    check("<html>", None, None);
    check("", None, None);
}

proptest! {
    #[test]
    fn whatever_a_record_says_is_a_field_that_is_known(document in schema::samples::contact()) {
        let connector = connector(|_| ());
        let (document, _) = Document::parse(document).unwrap();
        let record = ContactRecord { contact: Some(document), ..record(Value::Null) };
        if let Ok(projection) = connector.project(&record, None) {
            let listed = connector.fields();
            let constant = ["name", "number", "meta.externalRef", "meta.source"];
            for path in projection.fields.keys() {
                let is_known = listed.contains(path)
                    || constant.contains(&path.as_str())
                    || path.strip_prefix("meta.attr_").is_some_and(|name| !name.is_empty());
                prop_assert!(is_known, "{}", path);
            }
            prop_assert!(projection.losses.iter().all(|loss| schema::paths().any(|path| path == loss.field)));
        }
    }

    #[test]
    fn a_form_reads_back_as_it_was_written(values in collection::btree_map("[^\\[\\]]{1,8}", "\\PC{0,20}", 1..5)) {
        let fields = values.iter().map(|(key, value)| (wire::meta_path(key), Value::from(value.as_str()))).collect();
        let body = FORMS.body(&fields).unwrap();
        prop_assert!(body.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'+'));
        let read: BTreeMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
        let expected: BTreeMap<_, _> = values.into_iter().map(|(key, value)| (format!("meta[{key}]"), value)).collect();
        prop_assert_eq!(read, expected);
    }
}
