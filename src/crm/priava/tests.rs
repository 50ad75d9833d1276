//! The mapping table row by row, the documented examples, and the connector's part of the conversation.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::crm::testing::{CONTACT, record};
use crate::{
    config::{CountryForm, MiddleName, OnDelete, OnErase, StreetNumber},
    contact::record::Status,
    crm::{Effect, Presence, Response, TransportError, link::Sent, reference::References, testing::priava_settings},
    event::{Operation, OutcomeKind, Reason},
};

/// The least that Priava takes, and on top of it what a test is about.
pub(super) fn contact(more: Value) -> Value {
    let mut contact = json!({
        "name": { "givenName": "Ilka", "familyName": "Sundstrom" },
        "emails": [{ "value": "ilka@example.com" }],
        "phoneNumbers": [{ "value": "+61400555012", "type": "mobile" }],
    });
    let Value::Object(more) = more else { panic!("an object") };
    contact.as_object_mut().unwrap().extend(more);
    contact
}

/// What [`contact`] alone becomes.
fn least() -> BTreeMap<String, Value> {
    fields(json!({
        "firstName": "Ilka", "lastName": "Sundstrom", "email": "ilka@example.com", "mobile": "+61400555012",
        "externalIntegrationId": CONTACT.key(), "integrationSrc": "contact-hub",
    }))
}

pub(super) fn fields(object: Value) -> BTreeMap<String, Value> {
    serde_json::from_value(object).unwrap()
}

pub(super) fn connector(change: impl FnOnce(&mut PriavaSettings)) -> Priava {
    connector_on_delete(OnDelete::Deactivate, change)
}

fn connector_on_delete(on_delete: OnDelete, change: impl FnOnce(&mut PriavaSettings)) -> Priava {
    connector_with(Policies { on_delete, on_erase: OnErase::Blank }, change)
}

pub(super) fn connector_with(policies: Policies, change: impl FnOnce(&mut PriavaSettings)) -> Priava {
    let mut settings = priava_settings();
    change(&mut settings);
    Priava::with(&settings, policies, "contact-hub").unwrap()
}

/// What is left of an erased contact, beside what is cleared.
fn placeholders() -> Value {
    json!({
        "firstName": "Erased", "lastName": "Erased", "email": "erased@example.invalid", "inactive": true,
        "externalIntegrationId": CONTACT.key(), "integrationSrc": "contact-hub",
    })
}

pub(super) fn erased() -> ContactRecord {
    ContactRecord { status: Status::Erased, ..record(Value::Null) }
}

/// A link that says that these fields were accepted.
pub(super) fn link_with(sent: &[&str]) -> Link {
    crate::crm::testing::link_with(sent, None)
}

/// `more` on top of the least becomes `expected` on top of the least, with these losses.
fn check(more: Value, expected: Value, losses: &[&str]) {
    check_with(|_| (), more, expected, losses);
}

fn check_with(change: impl FnOnce(&mut PriavaSettings), more: Value, expected: Value, losses: &[&str]) {
    let projection = connector(change).project(&record(contact(more.clone())), None).unwrap();
    let mut all = least();
    all.extend(fields(expected));
    assert_eq!(projection.fields, all, "{more}");
    let lost: Vec<&str> = projection.losses.iter().map(|loss| loss.field).collect();
    assert_eq!(lost, losses, "{more}");
}

#[test]
fn a_title_is_sent_as_the_list_has_it_and_lost_where_it_is_not_listed() {
    check(json!({}), json!({}), &[]);
    let name =
        |prefix| json!({ "name": { "givenName": "Ilka", "familyName": "Sundstrom", "honorificPrefix": prefix } });
    check(name(json!("Ms")), json!({ "title": "Ms" }), &[]);
    check(name(json!("DR.")), json!({ "title": "Dr" }), &[]);
    check(name(json!("Freifrau")), json!({}), &["/name/honorificPrefix"]);
    check(name(json!(null)), json!({ "title": null }), &[]);
    check(name(json!("  ")), json!({ "title": null }), &[]);
}

#[test]
fn a_middle_name_is_lost_or_appended() {
    let name = json!({ "name": { "givenName": "Ilka", "middleName": "Maj", "familyName": "Sundstrom" } });
    check(name.clone(), json!({}), &["/name/middleName"]);
    let append = |settings: &mut PriavaSettings| settings.middle_name = MiddleName::Append;
    check_with(append, name, json!({ "firstName": "Ilka Maj" }), &[]);
}

#[test]
fn a_full_name_is_split_only_where_a_part_is_missing() {
    let whole = json!({ "givenName": "Ilka", "familyName": "Sundstrom", "formatted": "Someone Else" });
    check(json!({ "name": whole }), json!({}), &["/name/formatted"]);
    let split = |name: Value, given: &str, family: &str| {
        check(json!({ "name": name }), json!({ "firstName": given, "lastName": family }), &[]);
    };
    split(json!({ "formatted": "Ilka Sundstrom" }), "Ilka", "Sundstrom");
    split(json!({ "formatted": " Anna  Maria Vale " }), "Anna  Maria", "Vale");
    split(json!({ "formatted": "Sundstrom, Ilka Maj" }), "Ilka Maj", "Sundstrom");
    split(json!({ "formatted": "Jan van der Berg", "familyName": "van der Berg" }), "Jan", "van der Berg");
    split(json!({ "formatted": "Jan van der Berg", "givenName": "Jan" }), "Jan", "van der Berg");
    let missing = |name: Value, field: &str| {
        let verdict = connector(|_| ()).project(&record(contact(json!({ "name": name }))), None).unwrap_err();
        assert_eq!(verdict, Verdict::field(OutcomeKind::Rejected, ReasonCode::MissingField, field));
    };
    missing(json!({ "formatted": "Ilka" }), "/name/givenName");
    missing(json!({ "formatted": "Ilka Sundstrom, PhD" }), "/name/givenName");
    missing(json!({ "formatted": "Ilkax Sundstrom", "givenName": "Ilka" }), "/name/familyName");
    missing(json!({ "formatted": "Ilka", "givenName": "Ilka" }), "/name/familyName");
}

#[test]
fn titles_and_suffixes_are_no_part_of_a_split_name() {
    let name = json!({ "formatted": "Dr Ilka Sundstrom, PhD", "honorificPrefix": "Dr", "honorificSuffix": "PhD" });
    check(json!({ "name": name }), json!({ "title": "Dr" }), &["/name/honorificSuffix"]);
    let name = json!({ "formatted": "Ilka Maj Sundstrom", "middleName": "Maj" });
    check(json!({ "name": name }), json!({}), &["/name/middleName"]);
}

#[test]
fn an_organization_is_not_supported() {
    let verdict = connector(|_| ()).project(&record(contact(json!({ "kind": "organization" }))), None).unwrap_err();
    assert_eq!(verdict, Verdict::new(OutcomeKind::Unsupported, ReasonCode::Kind));
    check(json!({ "kind": "person" }), json!({}), &[]);
}

#[test]
fn the_primary_email_is_sent_and_the_others_are_lost() {
    let emails = json!([{ "value": "first@example.com" }, { "value": "main@example.com", "primary": true }]);
    check(json!({ "emails": emails }), json!({ "email": "main@example.com" }), &["/emails/value"]);
    let emails = json!([{ "value": " ", "primary": true }, { "value": "first@example.com", "primary": false }]);
    check(json!({ "emails": emails }), json!({ "email": "first@example.com" }), &[]);
}

#[test]
fn one_mobile_and_one_other_number_are_sent_as_written() {
    let check = |phones: Value, expected: Value, losses: &[&str]| {
        let document = contact(json!({ "phoneNumbers": phones }));
        let projection = connector(|_| ()).project(&record(document), None).unwrap();
        let mut all = least();
        all.remove("mobile");
        all.extend(fields(expected));
        assert_eq!(projection.fields, all);
        assert_eq!(projection.losses.iter().map(|loss| loss.field).collect::<Vec<_>>(), losses);
    };
    let work = json!({ "value": "+61 2 5550 1234", "type": "work" });
    let home = json!({ "value": "+61255509999", "type": "home", "primary": true });
    let mobile = json!({ "value": "+61400555012", "type": "mobile" });
    let fax = json!({ "value": "+61255500000", "type": "fax", "primary": true });
    let plain = json!({ "value": "0255501234" });
    check(json!([work, mobile]), json!({ "phoneNumber": "+61 2 5550 1234", "mobile": "+61400555012" }), &[]);
    check(json!([work, home]), json!({ "phoneNumber": "+61255509999" }), &["/phoneNumbers/value"]);
    check(json!([mobile, fax]), json!({ "mobile": "+61400555012" }), &["/phoneNumbers/value"]);
    check(json!([mobile, mobile]), json!({ "mobile": "+61400555012" }), &["/phoneNumbers/value"]);
    check(json!([plain]), json!({ "phoneNumber": "0255501234" }), &[]);
}

#[test]
fn each_kind_of_address_has_its_place_and_further_ones_are_lost() {
    let address = |label: &str, suburb: &str| json!({ "type": label, "locality": suburb });
    check(
        json!({ "addresses": [address("work", "A"), address("postal", "B"), address("home", "C")] }),
        json!({ "organisationAddress.suburb": "A", "postalAddress.suburb": "B", "otherAddress.suburb": "C" }),
        &[],
    );
    let other = json!({ "type": "other", "locality": "D", "primary": true });
    check(
        json!({ "addresses": [address("home", "C"), other] }),
        json!({ "otherAddress.suburb": "D" }),
        &["/addresses"],
    );
    check(json!({ "addresses": [{ "locality": "E" }] }), json!({ "otherAddress.suburb": "E" }), &[]);
}

#[test]
fn street_number_apartment_and_floor_fill_three_lines_and_overflow_onto_the_third() {
    let check = |change: fn(&mut PriavaSettings), address: Value, lines: [&str; 3]| {
        let names = ["otherAddress.addressLine1", "otherAddress.addressLine2", "otherAddress.addressLine3"];
        let lines = names.into_iter().zip(lines).filter(|(_, line)| !line.is_empty());
        let expected = lines.map(|(name, line)| (name.to_owned(), json!(line))).collect();
        check_with(change, json!({ "addresses": [address] }), Value::Object(expected), &[]);
    };
    let as_is = |_: &mut PriavaSettings| ();
    check(as_is, json!({ "streetAddress": "Quay 1" }), ["Quay 1", "", ""]);
    check(as_is, json!({ "streetAddress": "Quay", "streetNumber": "12" }), ["Quay 12", "", ""]);
    let before = |settings: &mut PriavaSettings| settings.street_number = StreetNumber::Before;
    check(before, json!({ "streetAddress": "Quay", "streetNumber": "12" }), ["12 Quay", "", ""]);
    check(as_is, json!({ "streetNumber": "12" }), ["12", "", ""]);
    check(
        as_is,
        json!({ "streetAddress": "Quay", "streetNumber": "12", "apartment": "5B", "floor": "3" }),
        ["Quay 12", "5B", "3"],
    );
    check(
        as_is,
        json!({ "streetAddress": "Mill House\n\n Quay \nEast", "apartment": "5B", "floor": "3" }),
        ["Mill House", "Quay", "East, 5B, 3"],
    );
}

#[test]
fn a_post_office_box_is_the_first_line_of_a_postal_address_only() {
    let address = |label: &str, number: &str| json!({ "addresses": [{ "type": label, "poBox": number, "streetAddress": "Quay" }] });
    let lines = json!({ "postalAddress.addressLine1": "PO Box 88", "postalAddress.addressLine2": "Quay" });
    check(address("postal", "88"), lines.clone(), &[]);
    check(address("postal", "PO Box 88"), lines, &[]);
    check(address("work", "88"), json!({ "organisationAddress.addressLine1": "Quay" }), &["/addresses/poBox"]);
}

#[test]
fn locality_or_district_region_code_and_country_have_their_fields() {
    let address = |address: Value| json!({ "addresses": [address] });
    check(
        address(json!({ "locality": "Glebe", "region": "NSW", "postalCode": "2037", "country": "AU" })),
        json!({
            "otherAddress.suburb": "Glebe", "otherAddress.state": "NSW", "otherAddress.postcode": "2037",
            "otherAddress.country": "Australia",
        }),
        &[],
    );
    check(address(json!({ "district": "Glebe" })), json!({ "otherAddress.suburb": "Glebe" }), &[]);
    check(
        address(json!({ "locality": "Sydney", "district": "Glebe" })),
        json!({ "otherAddress.suburb": "Sydney" }),
        &["/addresses/district"],
    );
    let geo = json!({ "locality": "Glebe", "geo": { "longitude": 151.1, "latitude": -33.8 } });
    check(address(geo), json!({ "otherAddress.suburb": "Glebe" }), &["/addresses/geo"]);
}

#[test]
fn a_country_is_written_as_configured_and_lost_where_unknown() {
    let address = |country: &str| json!({ "addresses": [{ "country": country }] });
    check(address("GB"), json!({ "otherAddress.country": "United Kingdom" }), &[]);
    check(address("XX"), json!({}), &["/addresses/country"]);
    let alpha2 = |settings: &mut PriavaSettings| settings.country_form = CountryForm::Alpha2;
    check_with(alpha2, address("GB"), json!({ "otherAddress.country": "GB" }), &[]);
    let listed = |settings: &mut PriavaSettings| {
        settings.countries.insert("GB".to_owned(), "UK".to_owned());
    };
    check_with(listed, address("GB"), json!({ "otherAddress.country": "UK" }), &[]);
}

#[test]
fn the_organization_is_sent_unless_switched_off() {
    let organization = json!({ "organization": {
        "name": "Harbour Lane Pty Ltd", "department": "Operations", "title": "Events Lead", "type": "Agency",
        "marketSector": "Arts", "registrationNumber": "1", "vatNumber": "2", "industry": "3",
    } });
    let lost = ["/organization/industry", "/organization/registrationNumber", "/organization/vatNumber"];
    check(
        organization.clone(),
        json!({
            "organisation": "Harbour Lane Pty Ltd", "organisationType": "Agency", "organisationMarketSector": "Arts",
            "department": "Operations", "jobTitle": "Events Lead",
        }),
        &lost,
    );
    check_with(
        |settings| settings.send_organisation = false,
        organization,
        json!({ "department": "Operations", "jobTitle": "Events Lead" }),
        &[
            "/organization/industry",
            "/organization/marketSector",
            "/organization/name",
            "/organization/registrationNumber",
            "/organization/type",
            "/organization/vatNumber",
        ],
    );
    check(json!({ "organization": { "type": "Agency" } }), json!({}), &["/organization/type"]);
}

#[test]
fn a_type_and_a_sector_are_sent_as_the_lists_have_them_and_lost_where_they_are_not_listed() {
    let listed = |settings: &mut PriavaSettings| {
        settings.organisation_types = vec!["Agency".to_owned()];
        settings.market_sectors = vec!["The Arts".to_owned()];
    };
    let of =
        |kind: &str, sector: &str| json!({ "organization": { "name": "Lane", "type": kind, "marketSector": sector } });
    check_with(
        listed,
        of("AGENCY", " the arts "),
        json!({ "organisation": "Lane", "organisationType": "Agency", "organisationMarketSector": "The Arts" }),
        &[],
    );
    check_with(
        listed,
        of("Circus", "Machines"),
        json!({ "organisation": "Lane" }),
        &["/organization/marketSector", "/organization/type"],
    );
}

#[test]
fn marketing_consent_is_inverted_and_unknown_consent_is_left_out() {
    let consent = |consent: Value| json!({ "consent": consent });
    check(consent(json!({ "marketing": true })), json!({ "marketingOptOut": false }), &[]);
    check(consent(json!({ "marketing": false })), json!({ "marketingOptOut": true }), &[]);
    check(consent(json!({ "dataProcessing": true })), json!({ "personalInformationConsent": true }), &[]);
    check(consent(json!({ "dataProcessing": false })), json!({ "personalInformationConsent": false }), &[]);
    check(consent(json!({ "marketing": null, "dataProcessing": null })), json!({}), &[]);
    check(consent(json!(null)), json!({}), &[]);
}

#[test]
fn active_is_inverted_in_the_configured_polarity() {
    check(json!({ "active": true }), json!({ "inactive": false }), &[]);
    check(json!({ "active": false }), json!({ "inactive": true }), &[]);
    check(json!({ "active": null }), json!({}), &[]);
    let swapped = |settings: &mut PriavaSettings| settings.inactive_value = false;
    check_with(swapped, json!({ "active": true }), json!({ "inactive": true }), &[]);
    check_with(swapped, json!({ "active": false }), json!({ "inactive": false }), &[]);
    let projection = connector(|_| ()).project(&record(contact(json!({ "active": false }))), None).unwrap();
    assert_eq!(projection.presence, Presence::Inactive);
}

#[test]
fn a_contact_that_was_deactivated_and_says_nothing_more_is_active_again() {
    let link = link_with(&["firstName", "inactive"]);
    let projection = connector(|_| ()).project(&record(contact(json!({}))), Some(&link)).unwrap();
    assert_eq!(projection.fields["inactive"], json!(false));
    assert_eq!(projection.presence, Presence::Active);
}

#[test]
fn a_debtor_number_is_carried_and_other_attributes_are_lost() {
    let attributes = |attributes: Value| json!({ "attributes": attributes });
    check(attributes(json!({ "debtor_number": "D-7" })), json!({ "debtorNumber": "D-7" }), &[]);
    check(attributes(json!({ "debtor_number": 7 })), json!({ "debtorNumber": "7" }), &[]);
    check(attributes(json!({ "debtor_number": null })), json!({ "debtorNumber": null }), &[]);
    check(attributes(json!({ "debtor_number": true })), json!({}), &["/attributes"]);
    check(attributes(json!({ "shoe_size": 44 })), json!({}), &["/attributes"]);
    check(attributes(json!({ "shoe_size": null })), json!({}), &[]);
}

#[test]
fn an_identifier_becomes_the_visible_reference_only_if_configured_and_a_whole_number() {
    let identifiers = |number: &str| json!({ "identifiers": { "customer_no": number } });
    check(identifiers("4711"), json!({}), &["/identifiers"]);
    let visible = |settings: &mut PriavaSettings| settings.external_reference_no = "customer_no".to_owned();
    check_with(visible, identifiers("4711"), json!({ "externalReferenceNo": 4711 }), &[]);
    for unfit in ["A-1", "007", "1234567890123456", "-1", ""] {
        check_with(visible, identifiers(unfit), json!({}), &["/identifiers"]);
    }
}

#[test]
fn the_source_is_constant_and_configurable() {
    let named = |settings: &mut PriavaSettings| settings.integration_src = "other-hub".to_owned();
    check_with(named, json!({}), json!({ "integrationSrc": "other-hub" }), &[]);
}

#[test]
fn what_has_no_field_is_lost_and_said_so() {
    for (attribute, value) in [
        ("birthDate", json!("1980-02-29")),
        ("gender", json!("female")),
        ("preferredLanguage", json!("en-AU")),
        ("notes", json!("likes boats")),
        ("owner", json!("sales-7")),
        ("photos", json!([{ "value": "data:image/png;base64,AA==" }])),
        ("relations", json!([{ "type": "spouse", "source": "crm", "subject": "9" }])),
    ] {
        let pointer = format!("/{attribute}");
        check(json!({ attribute: value }), json!({}), &[&pointer]);
        check(json!({ attribute: null }), json!({}), &[]);
    }
    check(json!({ "photos": [] }), json!({}), &[]);
}

#[test]
fn what_is_known_to_be_empty_is_cleared() {
    check(
        json!({ "organization": { "name": null, "department": null, "title": "" } }),
        json!({ "organisation": null, "department": null, "jobTitle": null }),
        &[],
    );
    check(
        json!({ "addresses": [{ "streetAddress": null, "locality": null, "country": null, "region": "NSW" }] }),
        json!({
            "otherAddress.addressLine1": null, "otherAddress.addressLine2": null, "otherAddress.addressLine3": null,
            "otherAddress.suburb": null, "otherAddress.country": null, "otherAddress.state": "NSW",
        }),
        &[],
    );
    let keep = |settings: &mut PriavaSettings| {
        settings.never_cleared.insert("department".to_owned());
    };
    check_with(keep, json!({ "organization": { "department": null } }), json!({}), &[]);
    for nothing in [json!(null), json!([])] {
        let projection = connector(|_| ()).project(&record(contact(json!({ "addresses": nothing }))), None).unwrap();
        let cleared = projection.fields.values().filter(|value| value.is_null()).count();
        assert_eq!(cleared, 21, "seven members of three addresses");
    }
}

#[test]
fn a_contact_without_a_required_field_is_rejected_with_its_place() {
    let check = |without: Value, field: &str| {
        let verdict = connector(|_| ()).project(&record(contact(without)), None).unwrap_err();
        assert_eq!(verdict, Verdict::field(OutcomeKind::Rejected, ReasonCode::MissingField, field));
    };
    check(json!({ "name": { "familyName": "Sundstrom" } }), "/name/givenName");
    check(json!({ "name": { "givenName": "Ilka", "familyName": " " } }), "/name/familyName");
    check(json!({ "name": null }), "/name/givenName");
    check(json!({ "emails": [] }), "/emails");
    check(json!({ "emails": [{ "type": "work" }] }), "/emails");
    check(json!({ "phoneNumbers": null }), "/phoneNumbers");
    check(json!({ "phoneNumbers": [{ "value": "+61255500000", "type": "fax" }] }), "/phoneNumbers");
    let verdict = connector(|_| ()).project(&record(Value::Null), None).unwrap_err();
    assert_eq!(verdict.reason.field.as_deref(), Some("/name/givenName"));
}

#[test]
fn a_known_contact_may_lose_its_last_number_but_never_its_name() {
    let link = link_with(&["mobile"]);
    let record_without = record(contact(json!({ "phoneNumbers": null })));
    let projection = connector(|_| ()).project(&record_without, Some(&link)).unwrap();
    assert_eq!((&projection.fields["mobile"], &projection.fields["phoneNumber"]), (&Value::Null, &Value::Null));
    let nameless = record(contact(json!({ "name": null })));
    assert!(connector(|_| ()).project(&nameless, Some(&link)).is_err());
}

#[test]
fn a_deleted_contact_is_treated_by_policy() {
    let verdict = |outcome, code| Err(Verdict::new(outcome, code));
    let project = |status, on_delete, link: Option<&Link>| {
        let mut record = record(contact(json!({ "active": true })));
        record.status = status;
        connector_on_delete(on_delete, |_| ()).project(&record, link)
    };
    let link = link_with(&["mobile"]);
    for status in [Status::Deleted, Status::Merged] {
        for policy in [OnDelete::Delete, OnDelete::Deactivate, OnDelete::Keep] {
            let unknown = verdict(OutcomeKind::Unchanged, ReasonCode::UnknownContact);
            assert_eq!(project(status, policy, None), unknown);
            assert_eq!(project(status, policy, Some(&Link::new(CONTACT))), unknown);
        }
        let kept = verdict(OutcomeKind::Filtered, ReasonCode::KeptByPolicy);
        assert_eq!(project(status, OnDelete::Keep, Some(&link)), kept);
        let unsupported = verdict(OutcomeKind::Unsupported, ReasonCode::Delete);
        assert_eq!(project(status, OnDelete::Delete, Some(&link)), unsupported);
        let deactivated = project(status, OnDelete::Deactivate, Some(&link)).unwrap();
        assert_eq!(deactivated.presence, Presence::Inactive);
        let mut all = least();
        all.insert("inactive".to_owned(), json!(true));
        assert_eq!(deactivated.fields, all, "the same document, but inactive");
    }
}

#[test]
fn an_erased_contact_is_treated_by_policy_and_unknown_where_nothing_was_sent() {
    let project = |on_erase, link: Option<&Link>| {
        let policies = Policies { on_delete: OnDelete::Keep, on_erase };
        connector_with(policies, |_| ()).project(&erased(), link)
    };
    let link = link_with(&["mobile"]);
    for (policy, outcome, code) in [
        (OnErase::Keep, OutcomeKind::Filtered, ReasonCode::KeptByPolicy),
        (OnErase::Delete, OutcomeKind::Unsupported, ReasonCode::Erase),
    ] {
        assert_eq!(project(policy, Some(&link)), Err(Verdict::new(outcome, code)));
    }
    for policy in [OnErase::Keep, OnErase::Delete, OnErase::Blank] {
        for never_sent in [None, Some(&Link::new(CONTACT))] {
            let unknown = Verdict::new(OutcomeKind::Unchanged, ReasonCode::UnknownContact);
            assert_eq!(project(policy, never_sent), Err(unknown));
        }
    }
}

#[test]
fn an_erased_contact_keeps_its_key_and_loses_all_that_was_ever_sent() {
    let sent = ["firstName", "email", "mobile", "marketingOptOut", "organisation", "postalAddress.suburb", "oldName"];
    // What may have been sent without an answer counts as sent.
    let mut link = link_with(&sent);
    link.sent.values_mut().for_each(|sent| *sent = Sent::Void);
    let keep_much = |settings: &mut PriavaSettings| {
        settings.never_cleared.extend(["mobile".to_owned(), "marketingOptOut".to_owned()]);
        settings.send_organisation = false;
    };
    for (clear_with, cleared) in [
        (
            ClearWith::Null,
            json!({ "mobile": null, "marketingOptOut": null, "organisation": null, "postalAddress": null, "oldName": null }),
        ),
        (
            ClearWith::Empty,
            json!({
                "mobile": "", "marketingOptOut": null, "organisation": "", "postalAddress": { "suburb": "" },
                "oldName": null,
            }),
        ),
        (ClearWith::Omit, json!({})),
    ] {
        let connector = connector(|settings| {
            keep_much(settings);
            settings.clear_with = clear_with;
        });
        let mut expected = placeholders();
        expected.as_object_mut().unwrap().extend(cleared.as_object().unwrap().clone());
        assert_eq!(body_sent(&connector, &erased(), Some(&link), &[]), expected, "{clear_with:?}");
    }
}

#[test]
fn an_erasure_is_called_a_blanking_whatever_the_plan_called_it() {
    let connector = connector(|_| ());
    deliver(&connector, &erased(), Some(&link_with(&["mobile"])), &[], |delivery| {
        let Step::Done(accepted) = connector.next(delivery, &[answer(200, "")]) else { panic!("accepted") };
        assert_eq!(accepted.operation, Operation::Blank);
        assert_eq!(delivery.projection.presence, Presence::Inactive);
    });
}

#[test]
fn what_a_dead_worker_may_have_sent_includes_what_is_never_cleared() {
    let connector = connector(|settings| settings.never_cleared.extend(["mobile".to_owned()]));
    assert!(connector.fields().contains(&"mobile".to_owned()));
    let untouched =
        body_sent(&connector, &record(contact(json!({ "phoneNumbers": [{ "value": "1" }] }))), None, &["mobile"]);
    assert_eq!(untouched.get("mobile"), None, "but a living contact keeps it");
}

#[test]
fn a_merged_contact_without_a_document_cannot_be_deactivated() {
    let mut record = record(Value::Null);
    record.status = Status::Merged;
    let verdict = connector(|_| ()).project(&record, Some(&link_with(&["mobile"]))).unwrap_err();
    assert_eq!(verdict, Verdict::new(OutcomeKind::Unsupported, ReasonCode::Deactivate));
}

/// Projects, and hands the delivery to `then`.
pub(super) fn deliver<T>(
    connector: &Priava,
    record: &ContactRecord,
    link: Option<&Link>,
    clears: &[&str],
    then: impl FnOnce(&Delivery<'_>) -> T,
) -> T {
    let projection = connector.project(record, link).unwrap();
    let clears: Vec<String> = clears.iter().map(|path| (*path).to_owned()).collect();
    then(&Delivery {
        record,
        link,
        projection: &projection,
        changes: &[],
        clears: &clears,
        operation: Operation::Update,
        look_up: None,
        references: &References::default(),
        tries: 0,
    })
}

pub(super) fn body_sent(connector: &Priava, record: &ContactRecord, link: Option<&Link>, clears: &[&str]) -> Value {
    deliver(connector, record, link, clears, |delivery| {
        let Step::Call(request) = connector.next(delivery, &[]) else { panic!("a call") };
        serde_json::from_slice(&request.body).unwrap()
    })
}

#[test]
fn the_documented_create_comes_out_as_documented() {
    let document = json!({
        "name": { "honorificPrefix": "Ms", "givenName": "Ilka", "familyName": "Sundstrom" },
        "emails": [{ "value": "ilka.sundstrom@example.com", "primary": true }],
        "phoneNumbers": [{ "value": "+61400555012", "type": "mobile" }],
        "addresses": [{
            "type": "postal", "poBox": "88", "locality": "Glebe", "region": "NSW", "postalCode": "2037", "country": "AU",
        }],
        "organization": { "name": "Harbour Lane Pty Ltd", "title": "Events Lead", "department": "Operations" },
        "consent": { "marketing": false, "dataProcessing": true },
        "active": true,
    });
    let connector = connector(|_| ());
    let record = record(document);
    let expected = json!({
        "firstName": "Ilka", "lastName": "Sundstrom", "email": "ilka.sundstrom@example.com",
        "title": "Ms", "jobTitle": "Events Lead", "department": "Operations",
        "externalIntegrationId": CONTACT.key(), "integrationSrc": "contact-hub",
        "marketingOptOut": true, "personalInformationConsent": true,
        "mobile": "+61400555012", "organisation": "Harbour Lane Pty Ltd",
        "postalAddress": {
            "addressLine1": "PO Box 88", "suburb": "Glebe", "state": "NSW", "postcode": "2037", "country": "Australia",
        },
        "inactive": false,
    });
    assert_eq!(body_sent(&connector, &record, None, &[]), expected);
    deliver(&connector, &record, None, &[], |delivery| {
        let Step::Call(request) = connector.next(delivery, &[]) else { panic!("a call") };
        assert_eq!((request.method, request.path.as_str()), (http::Method::POST, "/v1/crm/contacts"));
        assert_eq!(request.kind, RequestKind::Set);
        assert!(request.headers.contains(&(CONTENT_TYPE, HeaderValue::from_static("application/json"))));
    });
}

#[test]
fn the_documented_update_comes_out_as_documented() {
    let document = json!({
        "name": { "givenName": "Ilka", "familyName": "Sundstrom-Vale" },
        "emails": [{ "value": "ilka.vale@example.com" }],
        "phoneNumbers": [{ "value": "+61400555012", "type": "mobile" }],
    });
    let expected = json!({
        "firstName": "Ilka", "lastName": "Sundstrom-Vale", "email": "ilka.vale@example.com",
        "externalIntegrationId": CONTACT.key(), "integrationSrc": "contact-hub", "mobile": "+61400555012",
    });
    let link = link_with(&["firstName", "lastName", "email", "mobile"]);
    assert_eq!(body_sent(&connector(|_| ()), &record(document), Some(&link), &[]), expected);
}

#[test]
fn the_documented_deactivation_is_the_same_call_with_the_flag() {
    let mut record = record(contact(json!({})));
    record.status = Status::Deleted;
    let body = body_sent(&connector(|_| ()), &record, Some(&link_with(&["mobile"])), &[]);
    let mut expected = least();
    expected.insert("inactive".to_owned(), json!(true));
    assert_eq!(body, json!(expected));
}

#[test]
fn what_was_sent_once_and_is_gone_is_cleared_unless_priava_needs_it() {
    let record = record(contact(json!({})));
    let clears = ["title", "postalAddress.suburb", "postalAddress.state", "marketingOptOut", "email", "oldName", "a.b"];
    let check = |change: &dyn Fn(&mut PriavaSettings), cleared: Value| {
        let body = body_sent(&connector(|settings| change(settings)), &record, None, &clears);
        let mut expected = least();
        expected.extend(fields(cleared));
        assert_eq!(body, json!(expected));
    };
    check(&|_| (), json!({ "title": null, "postalAddress": null, "marketingOptOut": null }));
    check(
        &|settings| settings.clear_with = ClearWith::Empty,
        json!({ "title": "", "postalAddress": { "suburb": "", "state": "" }, "marketingOptOut": null }),
    );
    check(&|settings| settings.clear_with = ClearWith::Omit, json!({}));
    check(
        &|settings| settings.never_cleared.extend(["title".to_owned(), "marketingOptOut".to_owned()]),
        json!({ "postalAddress": null }),
    );
}

#[test]
fn switching_the_organisation_off_does_not_wipe_it() {
    let record = record(contact(json!({ "organization": { "name": "Harbour Lane" } })));
    let connector = connector(|settings| settings.send_organisation = false);
    assert_eq!(body_sent(&connector, &record, None, &["organisation", "organisationType"]), json!(least()));
}

#[test]
fn a_replaced_name_is_the_one_on_the_wire() {
    let rename = |settings: &mut PriavaSettings| {
        settings.field_names = [("organisation", "company"), ("otherAddress", "third"), ("suburb", "city")]
            .map(|(from, to)| (from.to_owned(), to.to_owned()))
            .into();
    };
    let record = record(contact(json!({ "organization": { "name": "Lane" }, "addresses": [{ "locality": "Glebe" }] })));
    let mut expected = least();
    expected.extend(fields(json!({ "company": "Lane", "third": { "city": "Glebe" } })));
    assert_eq!(body_sent(&connector(rename), &record, None, &[]), json!(expected));
}

pub(super) fn answer(status: u16, body: &str) -> Answer {
    Ok(Response {
        status: http::StatusCode::from_u16(status).unwrap(),
        headers: http::HeaderMap::new(),
        body: Bytes::copy_from_slice(body.as_bytes()),
    })
}

#[test]
fn any_2xx_is_success_and_the_best_known_id_is_kept() {
    let connector = connector(|_| ());
    let record = record(contact(json!({})));
    let mut known = link_with(&["mobile"]);
    known.remote_ids.insert(REMOTE_CONTACT.to_owned(), "40117".to_owned());
    let check = |answer: Answer, link: Option<&Link>, id: &str| {
        deliver(&connector, &record, link, &[], |delivery| {
            let Step::Done(accepted) = connector.next(delivery, &[answer]) else { panic!("done") };
            assert_eq!(accepted.operation, Operation::Update);
            assert_eq!(accepted.remote_ids, BTreeMap::from([(REMOTE_CONTACT.to_owned(), id.to_owned())]));
        });
    };
    check(answer(200, r#"{"id":40118,"created":true}"#), None, "40118");
    check(answer(201, ""), None, &CONTACT.key());
    check(answer(204, "OK"), Some(&known), "40117");
    check(answer(200, r#"{"unknown":1}"#), None, &CONTACT.key());
    let cut_off = TransportError::UnusableBody { status: http::StatusCode::OK, reason: String::new() };
    check(Err(cut_off), None, &CONTACT.key());
}

#[test]
fn a_refusal_carries_priavas_code_but_nothing_of_the_contact() {
    let connector = connector(|_| ());
    let record = record(contact(json!({})));
    let check = |status, body: &str, class, code, crm_code: Option<&str>| {
        deliver(&connector, &record, None, &[], |delivery| {
            let Step::Failed(failure) = connector.next(delivery, &[answer(status, body)]) else { panic!("failed") };
            let reason =
                Reason { http_status: Some(status), crm_code: crm_code.map(str::to_owned), ..Reason::from(code) };
            assert_eq!((failure.class, failure.reason), (class, reason), "{status} {body}");
        });
    };
    use FailureClass::{Auth, Connection, Rejected};
    let validation = r#"{"error":"validation_error","error_description":"phoneNumber or mobile is required"}"#;
    check(400, validation, Rejected, ReasonCode::InvalidField, Some("validation_error"));
    check(422, r#"{"error":"missing_parameter"}"#, Rejected, ReasonCode::MissingField, Some("missing_parameter"));
    check(400, r#"{"error":"Sundstrom"}"#, Rejected, ReasonCode::InvalidField, None);
    check(409, r#"{"error":"Lindqvist"}"#, FailureClass::Conflict, ReasonCode::Conflict, None);
    check(400, r#"{"error":"ilka@example.com is taken"}"#, Rejected, ReasonCode::InvalidField, None);
    check(400, "<html>", Rejected, ReasonCode::InvalidField, None);
    check(402, r#"{"error":"payment_required"}"#, Rejected, ReasonCode::Refused, Some("payment_required"));
    check(413, "", Rejected, ReasonCode::TooLarge, None);
    check(401, r#"{"error":"unauthorized"}"#, Auth, ReasonCode::Refused, Some("unauthorized"));
    check(404, "", Connection, ReasonCode::Refused, None);
}

/// Rows as section 7 of the contract has them; none of them depends on what was sent before.
#[test]
fn each_status_that_a_write_meets_has_its_class() {
    use FailureClass::{Auth, Conflict, Connection, Rejected, Throttled, Transient};
    let connector = connector(|_| ());
    let record = record(contact(json!({})));
    let link = link_with(&["firstName", "lastName", "email", "mobile"]);
    for (status, class, effect) in [
        (302, Connection, Effect::None),
        (400, Rejected, Effect::None),
        (401, Auth, Effect::None),
        (403, Connection, Effect::None),
        (404, Connection, Effect::None),
        (405, Connection, Effect::None),
        (408, Transient, Effect::Unknown),
        (409, Conflict, Effect::None),
        (422, Rejected, Effect::None),
        (429, Throttled, Effect::None),
        (500, Transient, Effect::Unknown),
        (502, Transient, Effect::Unknown),
        (503, Transient, Effect::Unknown),
        (504, Transient, Effect::Unknown),
    ] {
        for link in [None, Some(&link)] {
            deliver(&connector, &record, link, &[], |delivery| {
                let body = r#"{"error":"validation_error","error_description":"Sundstrom"}"#;
                let Step::Failed(failure) = connector.next(delivery, &[answer(status, body)]) else { panic!("failed") };
                assert_eq!((failure.class, failure.effect), (class, effect), "{status}");
                assert_eq!(failure.reason.http_status, Some(status));
                assert!(!format!("{failure:?}").contains("Sundstrom"));
            });
        }
    }
    for (lost, effect) in [
        (TransportError::Unanswered { reason: String::new() }, Effect::Unknown),
        (TransportError::NotSent { reason: String::new() }, Effect::None),
    ] {
        deliver(&connector, &record, None, &[], |delivery| {
            let Step::Failed(failure) = connector.next(delivery, &[Err(lost.clone())]) else { panic!("failed") };
            assert_eq!((failure.class, failure.effect), (Transient, effect));
        });
    }
}

#[test]
fn a_configured_class_replaces_the_built_in_one() {
    let connector = connector(|settings| {
        settings.status_classes.insert("404".to_owned(), FailureClass::Rejected);
    });
    deliver(&connector, &record(contact(json!({}))), None, &[], |delivery| {
        let Step::Failed(failure) = connector.next(delivery, &[answer(404, "")]) else { panic!("failed") };
        assert_eq!((failure.class, failure.effect), (FailureClass::Rejected, Effect::None));
    });
}

#[test]
fn settings_that_cannot_be_meant_are_refused() {
    let check = |change: &dyn Fn(&mut PriavaSettings), expected: &str| {
        let mut settings = priava_settings();
        change(&mut settings);
        let policies = Policies { on_delete: OnDelete::Keep, on_erase: OnErase::Keep };
        let error = Priava::with(&settings, policies, "hub").unwrap_err();
        assert!(format!("{error} {error:?}").contains(expected), "{error:?}");
    };
    check(&|settings: &mut PriavaSettings| settings.path = "v1".to_owned(), "path");
    check(&|settings| settings.organisations_path = "v1".to_owned(), "organisations_path");
    check(&|settings| settings.tenant_region = "A\nB".to_owned(), "tenant_region");
    let pair = |key: &str, value: &str| [(key.to_owned(), value.to_owned())];
    check(&|settings| settings.countries.extend(pair("gb", "UK")), "countries");
    check(&|settings| settings.never_cleared.extend(["email".to_owned()]), "email");
    check(&|settings| settings.field_names.extend(pair("phone", "x")), "phone");
    check(&|settings| settings.organisation_field_names.extend(pair("mobile", "x")), "mobile");
    check(&|settings| settings.never_cleared.extend(["organisation:name".to_owned()]), "organisation:name");
    check(
        &|settings| {
            let class = [("200".to_owned(), FailureClass::Auth)];
            settings.status_classes.extend(class);
        },
        "200",
    );
}

#[test]
fn no_debug_output_shows_a_value_of_a_contact() {
    let document = json!({
        "name": { "givenName": "canary", "familyName": "canary", "honorificPrefix": "canary" },
        "emails": [{ "value": "canary@example.com" }],
        "phoneNumbers": [{ "value": "canary", "type": "mobile" }, { "value": "canary" }],
        "addresses": [{ "streetAddress": "canary", "country": "AU", "locality": "canary" }],
        "organization": { "name": "canary", "title": "canary" },
        "attributes": { "debtor_number": "canary", "canary": "canary" },
        "identifiers": { "customer_no": "canary" },
        "notes": "canary",
    });
    let connector = connector(|_| ());
    let record = record(document);
    deliver(&connector, &record, None, &["title"], |delivery| {
        let call = connector.next(delivery, &[]);
        let quoting = r#"{"error":"canary","error_description":"canary","id":"canary"}"#;
        let refusal = answer(400, quoting);
        let failed = connector.next(delivery, &[answer(400, quoting)]);
        for debug in [
            format!("{connector:?}"),
            format!("{record:?}"),
            format!("{delivery:?}"),
            format!("{:?}", delivery.projection),
            format!("{call:?}"),
            format!("{refusal:?}"),
            format!("{failed:?}"),
        ] {
            assert!(!debug.contains("canary"), "{debug}");
        }
    });
    let verdict = connector.project(&self::record(json!({ "name": { "givenName": "canary" } })), None);
    assert!(!format!("{verdict:?}").contains("canary"));
}

#[test]
fn the_key_that_an_operator_gave_goes_with_each_write_in_the_place_of_ours() {
    let priava = connector(|_| ());
    let mut link = Link::new(CONTACT);
    link.remote_ids = priava.naming().read("K-17").unwrap();
    let known =
        |record: &ContactRecord| priava.project(record, Some(&link)).unwrap().fields["externalIntegrationId"].clone();
    assert_eq!(known(&record(contact(json!({})))), "K-17");
    // It is there, although nothing was sent to it yet.
    let deleted = ContactRecord { status: Status::Deleted, ..record(contact(json!({}))) };
    let projection = priava.project(&deleted, Some(&link)).unwrap();
    assert_eq!(
        (projection.presence, &projection.fields["externalIntegrationId"]),
        (Presence::Inactive, &json!("K-17"))
    );
    assert_eq!(known(&erased()), "K-17");
    assert_eq!(priava.naming().of(&link).as_deref(), Some("K-17"));
}
