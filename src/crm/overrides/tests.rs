//! Rules and filters by the connectors that they are laid over, and every way in which they can be wrong.

use std::collections::BTreeSet;

use serde_json::json;

use super::*;
use crate::{
    config::{Condition, FieldRule, OnErase},
    contact::{ContactId, schema},
    crm::{
        self, CONSENTS, Connector, REMOTE_CONTACT,
        link::Sent,
        testing::{crm_com_crm, crm_settings, logisense_crm, previsto_crm, sam_crm},
        withdraws_in_vain,
    },
};

const CONTACT: ContactId = ContactId(uuid::Uuid::from_u128(451));

fn priava() -> CrmSettings {
    crm_settings("/nowhere".into())
}

fn rule(written: Value) -> FieldRule {
    serde_json::from_value(written).unwrap()
}

pub(super) fn with_fields(mut settings: CrmSettings, fields: Value) -> CrmSettings {
    let Value::Object(fields) = fields else { panic!("an object") };
    settings.fields = fields.into_iter().map(|(name, written)| (name, rule(written))).collect();
    settings
}

fn with_filter(mut settings: CrmSettings, filter: Value) -> CrmSettings {
    settings.filter = serde_json::from_value::<Vec<Condition>>(filter).unwrap();
    settings
}

pub(super) fn connector(settings: &CrmSettings) -> Arc<dyn Connector> {
    crm::connector(settings, "contact-hub").unwrap()
}

/// A contact that both CRMs take, and on top of it what a test is about.
pub(super) fn record(more: Value) -> ContactRecord {
    let mut contact = json!({
        "name": { "givenName": "Ilka", "familyName": "Sundstrom" },
        "emails": [{ "value": "ilka@example.com" }],
        "phoneNumbers": [{ "value": "+61400555012", "type": "mobile" }],
    });
    let Value::Object(more) = more else { panic!("an object") };
    contact.as_object_mut().unwrap().extend(more);
    ContactRecord {
        contact_id: CONTACT,
        version: 1,
        status: Status::Live,
        merged_into: None,
        contact: Some(Document::parse(contact).unwrap().0),
        provenance: BTreeMap::new(),
        members: Vec::new(),
        event: None,
        received_at: jiff::Timestamp::UNIX_EPOCH,
        epoch: 1,
        format: 1,
    }
}

pub(super) fn link(sent: &[&str]) -> Link {
    let mut link = Link::new(CONTACT);
    link.sent = sent.iter().map(|path| ((*path).into(), Sent::Hash(1))).collect();
    link.presence = Some(Presence::Active);
    link.remote_ids.insert(REMOTE_CONTACT.to_owned(), "7".to_owned());
    link
}

/// Under the one rule, a contact with `more` has `expected` in the field `name`; `None`: nothing is said.
#[track_caller]
fn makes(name: &str, written: Value, more: Value, expected: Option<Value>) {
    let connector = connector(&with_fields(priava(), json!({ name: written })));
    let projection = connector.project(&record(more), None).unwrap();
    assert_eq!(projection.fields.get(name), expected.as_ref());
}

#[track_caller]
fn rejects(name: &str, written: Value, more: Value, code: ReasonCode, field: &str) {
    let connector = connector(&with_fields(priava(), json!({ name: written })));
    let verdict = connector.project(&record(more), None).unwrap_err();
    assert_eq!(verdict, Verdict::field(OutcomeKind::Rejected, code, field));
}

fn misfits(settings: &CrmSettings) -> Vec<(String, String)> {
    crm::misfits(settings, "contact-hub").into_iter().map(|misfit| (misfit.key, misfit.reason)).collect()
}

#[track_caller]
fn misfit(settings: &CrmSettings, key: &str, reason: &str) {
    let found = misfits(settings);
    assert!(found.len() == 1 && found[0].0 == key && found[0].1.contains(reason), "{found:?}");
    assert!(crm::connector(settings, "contact-hub").is_err());
}

#[test]
fn a_field_is_filled_from_its_place_in_the_contact() {
    let title = || json!("/attributes/salutation");
    makes("title", title(), json!({ "attributes": { "salutation": "Herr" } }), Some(json!("Herr")));
    makes("title", title(), json!({ "attributes": { "salutation": null } }), Some(Value::Null));
    makes("title", title(), json!({ "attributes": { "salutation": " " } }), Some(Value::Null));
    makes("title", title(), json!({ "name": { "givenName": "I", "familyName": "S", "honorificPrefix": "Ms" } }), None);
    makes("department", json!("/attributes/floor"), json!({ "attributes": { "floor": 3 } }), Some(json!("3")));
    makes("postalAddress.suburb", json!("/attributes/a~1b"), json!({ "attributes": { "a/b": "x" } }), Some(json!("x")));
    let emails = json!({ "emails": [{ "value": "a@example.com", "type": "home" }, { "value": "b@example.com",
        "primary": true, "type": "work" }, { "value": "c@example.com" }] });
    makes("department", json!("/emails/value"), emails.clone(), Some(json!("b@example.com")));
    makes("department", json!("/emails/2/value"), emails.clone(), Some(json!("c@example.com")));
    makes("department", json!("/emails/9/value"), emails, None);
    makes("department", json!("/photos/type"), json!({ "photos": [] }), Some(Value::Null));
}

#[test]
fn a_constant_a_table_and_a_contrary_fill_a_field() {
    makes("department", json!({ "constant": "Events" }), json!({}), Some(json!("Events")));
    let tier = |value: Value| json!({ "attributes": { "tier": value } });
    let table = |otherwise: Value| json!({ "from": "/attributes/tier", "values": { "gold": "1", "true": "2" }, "otherwise": otherwise });
    makes("jobTitle", table(json!("omit")), tier(json!("gold")), Some(json!("1")));
    makes("jobTitle", table(json!("omit")), tier(json!(true)), Some(json!("2")));
    makes("jobTitle", table(json!("omit")), tier(json!("tin")), None);
    makes("jobTitle", table(json!("0")), tier(json!("tin")), Some(json!("0")));
    makes("jobTitle", table(json!("0")), json!({}), None);
    rejects("jobTitle", table(json!("reject")), tier(json!("tin")), ReasonCode::InvalidField, "/attributes/tier");
    let news = |value: Value| json!({ "attributes": { "news": value } });
    let contrary = || json!({ "from": "/attributes/news", "invert": true });
    makes("marketingOptOut", contrary(), news(json!(true)), Some(json!(false)));
    makes("marketingOptOut", contrary(), news(json!("yes")), None);
    let number = || json!("/identifiers/customer_no");
    makes("externalReferenceNo", number(), json!({ "identifiers": { "customer_no": "42" } }), Some(json!(42)));
    makes("externalReferenceNo", number(), json!({ "identifiers": { "customer_no": "042" } }), None);
}

#[test]
fn what_is_no_value_for_the_field_is_lost_and_what_a_rule_carries_is_not() {
    let losses = |fields: Value, more: Value| {
        let connector = connector(&with_fields(priava(), fields));
        let losses = connector.project(&record(more), None).unwrap().losses;
        losses.into_iter().map(|loss| (loss.field, loss.why)).collect::<Vec<_>>()
    };
    let both = || json!({ "gender": "female", "attributes": { "tier": "gold", "debtor_number": "7" } });
    assert_eq!(losses(json!({}), both()), [("/attributes", "no field for it"), ("/gender", "no field for it")]);
    assert_eq!(losses(json!({ "title": "/gender" }), both()), [("/attributes", "no field for it")]);
    assert_eq!(losses(json!({ "title": "/gender", "department": "/attributes/tier" }), both()), []);
    let unfit = json!({ "marketingOptOut": "/attributes/tier" });
    assert_eq!(
        losses(unfit, json!({ "attributes": { "tier": "gold" } })),
        [("/attributes", "no field for it"), ("/attributes", UNFIT)]
    );
    let emails = json!({ "emails": [{ "value": "a@example.com" }, { "value": "b@example.com" }] });
    assert_eq!(losses(json!({ "department": "/emails/1/value" }), emails.clone()), []);
    assert_eq!(losses(json!({}), emails), [("/emails/value", "room for one only")]);
}

#[test]
fn a_field_that_the_crm_insists_on_is_never_empty() {
    let surname = || json!("/attributes/surname");
    makes("lastName", surname(), json!({ "attributes": { "surname": "Vale" } }), Some(json!("Vale")));
    rejects("lastName", surname(), json!({}), ReasonCode::MissingField, "/attributes/surname");
    rejects(
        "lastName",
        surname(),
        json!({ "attributes": { "surname": null } }),
        ReasonCode::MissingField,
        "/attributes/surname",
    );
}

#[test]
fn a_field_that_is_left_to_users_is_neither_sent_nor_cleared_until_the_person_is_to_be_forgotten() {
    for (settings, name) in [(priava(), "mobile"), (previsto_crm(), "phone")] {
        let connector = connector(&with_fields(settings, json!({ name: { "omit": true } })));
        let mut record = record(json!({}));
        assert!(!connector.project(&record, None).unwrap().fields.contains_key(name));
        assert!(connector.leaves_alone(&record, name) && !connector.leaves_alone(&record, "department"));
        record.status = Status::Erased;
        record.contact = None;
        assert!(!connector.leaves_alone(&record, name));
    }
}

#[test]
fn an_erasure_clears_what_rules_had_sent() {
    let settings =
        with_fields(priava(), json!({ "title": "/attributes/salutation", "department": { "constant": "E" } }));
    let connector = connector(&settings);
    let erased = ContactRecord { status: Status::Erased, contact: None, ..record(json!({})) };
    let projection = connector.project(&erased, Some(&link(&["title", "department", "email"]))).unwrap();
    assert_eq!((&projection.fields["title"], &projection.fields["department"]), (&Value::Null, &Value::Null));
    assert_eq!(projection.fields["firstName"], json!("Erased"));
    let mut settings = with_fields(previsto_crm(), json!({ "meta.tier": "/attributes/tier" }));
    settings.on_erase = OnErase::Blank;
    assert!(crm::connector(&settings, "hub").unwrap().fields().contains(&"meta.tier".to_owned()));
}

#[test]
fn what_is_gone_keeps_its_rules_and_is_held_up_by_none() {
    let fields = json!({ "department": "/attributes/team",
        "jobTitle": { "from": "/attributes/tier", "values": { "gold": "1" }, "otherwise": "reject" } });
    let connector = connector(&with_fields(priava(), fields));
    let mut record = record(json!({
        "organization": { "department": "Sales", "title": "Buyer" }, "attributes": { "team": "East", "tier": "tin" },
    }));
    record.status = Status::Deleted;
    let projection = connector.project(&record, Some(&link(&["email"]))).unwrap();
    assert_eq!(projection.presence, Presence::Inactive);
    assert_eq!((&projection.fields["department"], &projection.fields["jobTitle"]), (&json!("East"), &json!("Buyer")));
}

#[test]
fn keys_of_the_free_dictionary_can_be_filled() {
    let fields = json!({ "meta.tier": "/attributes/tier", "accountingMode": { "constant": "AddToDraft" },
        "notifyBeforeWork": "/consent/marketing", "name": "/organization/name" });
    let connector = connector(&with_fields(previsto_crm(), fields));
    let more =
        json!({ "attributes": { "tier": 2 }, "consent": { "marketing": false }, "organization": { "name": "Vale" } });
    let fields = connector.project(&record(more), None).unwrap().fields;
    assert_eq!((&fields["meta.tier"], &fields["accountingMode"]), (&json!("2"), &json!("AddToDraft")));
    assert_eq!((&fields["notifyBeforeWork"], &fields["name"]), (&json!(false), &json!("Vale")));
}

#[test]
fn conditions_say_which_contacts_a_crm_has() {
    let check = |condition: Value, more: Value, expected: bool| {
        let connector = connector(&with_filter(priava(), json!([condition])));
        let projected = connector.project(&record(more.clone()), None);
        match expected {
            true => assert!(projected.is_ok(), "{condition} {more}"),
            false => assert_eq!(
                projected.unwrap_err(),
                Verdict::new(OutcomeKind::Filtered, ReasonCode::Where),
                "{condition} {more}"
            ),
        }
    };
    let tier = |value: Value| json!({ "attributes": { "tier": value } });
    let is = || json!({ "at": "/attributes/tier", "is": "gold" });
    check(is(), tier(json!("gold")), true);
    check(is(), tier(json!("tin")), false);
    check(is(), json!({}), false);
    check(json!({ "at": "/attributes/tier", "is": 1 }), tier(json!(1.0)), true);
    let is_not = || json!({ "at": "/attributes/tier", "is_not": "gold" });
    check(is_not(), tier(json!("gold")), false);
    check(is_not(), json!({}), true);
    let one_of = || json!({ "at": "/attributes/tier", "one_of": ["gold", true] });
    check(one_of(), tier(json!(true)), true);
    check(one_of(), tier(json!("true")), false);
    for (written, expected) in [("present", true), ("absent", false)] {
        let condition = |holds: bool| json!({ "at": "/organization", written: holds });
        check(condition(true), json!({ "organization": { "name": "Vale" } }), expected);
        check(condition(true), json!({ "organization": { "name": null } }), !expected);
        check(condition(false), json!({}), expected);
    }
    let two = json!({ "emails": [{ "value": "a@example.com", "type": "home" }, { "value": "b@example.com", "type": "work" }] });
    check(json!({ "at": "/emails/type", "is": "work" }), two.clone(), true);
    check(json!({ "at": "/emails/type", "is_not": "work" }), two.clone(), false);
    check(json!({ "at": "/emails/0/type", "is": "work" }), two, false);
    let any = || json!({ "any": [is(), { "at": "/consent/marketing", "is": true }] });
    check(any(), tier(json!("gold")), true);
    check(any(), json!({ "consent": { "marketing": true } }), true);
    check(any(), json!({ "consent": { "marketing": false } }), false);
}

#[test]
fn who_leaves_is_treated_by_policy_and_whoever_has_left_is_left_alone() {
    let filter = json!([{ "at": "/attributes/tier", "is": "gold" }]);
    let kept_away = Verdict::new(OutcomeKind::Filtered, ReasonCode::Where);
    let outside = record(json!({ "attributes": { "tier": "tin" } }));
    let sent = link(&["email", "name"]);
    for (policy, presence) in [(OnLeave::Deactivate, Presence::Inactive), (OnLeave::Delete, Presence::Absent)] {
        let connector = connector(&CrmSettings { on_leave: policy, ..with_filter(previsto_crm(), filter.clone()) });
        let project = |link: Option<&Link>| connector.project(&outside, link).map(|projection| projection.presence);
        assert_eq!(project(None).unwrap_err(), kept_away);
        assert_eq!(project(Some(&sent)), Ok(presence));
        let left = Link { presence: Some(presence), ..sent.clone() };
        assert_eq!(project(Some(&left)).unwrap_err(), kept_away);
        // Who comes back is active again.
        let inside = record(json!({ "attributes": { "tier": "gold" } }));
        assert_eq!(connector.project(&inside, Some(&left)).unwrap().presence, Presence::Active);
    }
    let kept = connector(&with_filter(previsto_crm(), filter.clone()));
    assert_eq!(kept.project(&outside, Some(&sent)).unwrap_err(), kept_away);
    let unable = connector(&CrmSettings { on_leave: OnLeave::Delete, ..with_filter(priava(), filter) });
    let unsupported = Verdict::new(OutcomeKind::Unsupported, ReasonCode::Delete);
    assert_eq!(unable.project(&outside, Some(&sent)).unwrap_err(), unsupported);
    // A filter never stands between a person and being forgotten.
    let erased = ContactRecord { status: Status::Erased, contact: None, ..outside };
    assert_eq!(kept.project(&erased, Some(&sent)).unwrap().presence, Presence::Absent);
}

#[test]
fn who_was_perhaps_never_there_is_searched_for_and_never_made_in_order_to_be_retired() {
    let filter = json!([{ "at": "/attributes/tier", "is": "gold" }]);
    let outside = record(json!({ "attributes": { "tier": "tin" } }));
    for (settings, is_searched) in [(priava(), false), (previsto_crm(), true)] {
        let settings = CrmSettings { on_leave: OnLeave::Deactivate, ..with_filter(settings, filter.clone()) };
        let connector = connector(&settings);
        // What a predecessor may have sent is only known to be among these.
        let mut suspected = Link::new(CONTACT);
        suspected.sent = connector.fields().into_iter().map(|field| (field.into(), Sent::Void)).collect();
        assert_eq!(connector.project(&outside, Some(&suspected)).is_ok(), is_searched, "{:?}", settings.kind);
        // A create whose answer was lost carried our reference.
        for reference in ["externalIntegrationId", "meta.externalRef"] {
            suspected.sent.insert(reference.into(), Sent::Void);
        }
        assert!(connector.project(&outside, Some(&suspected)).is_ok());
    }
}

#[test]
fn who_was_inactive_anyway_is_deleted_all_the_same() {
    let filter = json!([{ "at": "/attributes/tier", "is": "gold" }]);
    let settings = CrmSettings { on_leave: OnLeave::Delete, ..with_filter(previsto_crm(), filter) };
    let inactive = Link { presence: Some(Presence::Inactive), ..link(&["name"]) };
    let projection = connector(&settings).project(&record(json!({})), Some(&inactive)).unwrap();
    assert_eq!(projection.presence, Presence::Absent);
}

#[test]
fn every_way_in_which_a_rule_can_be_wrong_is_told_with_its_place() {
    let check = |name: &str, written: Value, key: &str, reason: &str| {
        misfit(&with_fields(priava(), json!({ name: written })), key, reason);
    };
    check("nickname", json!("/gender"), "fields.nickname", "no such field");
    check("externalIntegrationId", json!("/gender"), "fields.externalIntegrationId", "marks a contact as ours");
    check("integrationSrc", json!({ "omit": true }), "fields.integrationSrc", "marks a contact as ours");
    check("inactive", json!("/active"), "fields.inactive", "whether the contact is active");
    check("title", json!("gender"), "fields.title", "no JSON pointer");
    check("title", json!("/sex"), "fields.title", "no contact has");
    check("title", json!({ "from": "/name" }), "fields.title.from", "several values");
    check("title", json!({}), "fields.title", "not clear where");
    check("title", json!({ "from": "/gender", "omit": true }), "fields.title", "not clear where");
    check("title", json!({ "constant": "x", "otherwise": "y" }), "fields.title", "only a value of the contact");
    check("title", json!({ "constant": [1] }), "fields.title.constant", "does not take");
    check("lastName", json!({ "omit": true }), "fields.lastName.omit", "takes no contact without");
    check("marketingOptOut", json!("/gender"), "fields.marketingOptOut", "does not take what is there");
    check("marketingOptOut", json!({ "constant": "yes" }), "fields.marketingOptOut.constant", "does not take");
    check("title", json!({ "from": "/gender", "invert": true }), "fields.title.invert", "only a boolean");
    let table = json!({ "from": "/gender", "values": { "f": true, "m": "no" } });
    check("marketingOptOut", table, "fields.marketingOptOut.values.m", "does not take");
    let otherwise = json!({ "from": "/gender", "values": { "f": true }, "otherwise": "no" });
    check("marketingOptOut", otherwise, "fields.marketingOptOut.otherwise", "does not take");
    let previsto = |name: &str, written: Value, key: &str, reason: &str| {
        misfit(&with_fields(previsto_crm(), json!({ name: written })), key, reason);
    };
    previsto("meta.externalRef", json!("/gender"), "fields.meta.externalRef", "marks a contact as ours");
    previsto("number", json!("/gender"), "fields.number", "marks a contact as ours");
    previsto("payingContactId", json!("/owner"), "fields.payingContactId", "an entry among others");
    previsto("meta.a]b", json!("/gender"), "fields.meta.a]b", "no such field");
    previsto("location", json!("/addresses/geo/latitude"), "fields.location", "no single value");
    previsto("accountingMode", json!({ "constant": "Never" }), "fields.accountingMode.constant", "does not take");
}

#[test]
fn every_way_in_which_a_condition_can_be_wrong_is_told_with_its_place() {
    let check = |written: Value, key: &str, reason: &str| {
        misfit(&with_filter(priava(), json!([{ "at": "/gender", "present": true }, written])), key, reason);
    };
    check(json!({}), "where[1]", "not clear what must hold");
    check(json!({ "at": "/gender" }), "where[1]", "not clear what must hold");
    check(json!({ "at": "/gender", "is": "x", "present": true }), "where[1]", "not clear what must hold");
    check(json!({ "at": "/sex", "is": "x" }), "where[1].at", "no contact has");
    check(json!({ "at": "/emails", "is": "x" }), "where[1].at", "several values");
    check(json!({ "at": "/kind", "is": "company" }), "where[1].is", "no contact has such a value");
    check(json!({ "at": "/active", "is_not": "no" }), "where[1].is_not", "no contact has such a value");
    check(json!({ "at": "/gender", "one_of": [] }), "where[1].one_of", "no contact has such a value");
    check(json!({ "any": [] }), "where[1]", "a group has conditions");
    check(json!({ "any": [{ "at": "/sex", "is": "x" }] }), "where[1].any[0].at", "no contact has");
}

#[test]
fn all_that_does_not_fit_is_told_at_once() {
    let settings = with_filter(
        with_fields(priava(), json!({ "nickname": "/gender", "title": "/sex" })),
        json!([{ "at": "/kind", "is": "company" }]),
    );
    let found = misfits(&settings);
    let keys: Vec<&str> = found.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys, ["where[0].is", "fields.nickname", "fields.title"]);
}

#[test]
fn a_withdrawn_consent_that_nobody_carries_is_noticed() {
    let withdrawn = record(json!({ "consent": { "marketing": false, "dataProcessing": true } }));
    let none = record(json!({ "consent": { "marketing": true } }));
    let by_itself = connector(&priava());
    assert!(CONSENTS.iter().all(|consent| by_itself.consent_field(consent).is_some()));
    assert!(!withdraws_in_vain(&*by_itself, &withdrawn));
    let left = connector(&with_fields(priava(), json!({ "marketingOptOut": { "omit": true } })));
    assert!(withdraws_in_vain(&*left, &withdrawn) && !withdraws_in_vain(&*left, &none));
    let elsewhere =
        with_fields(priava(), json!({ "marketingOptOut": { "omit": true }, "department": "/consent/marketing" }));
    assert!(!withdraws_in_vain(&*connector(&elsewhere), &withdrawn));
}

#[test]
fn what_a_crm_cannot_carry_is_told_before_any_contact_loses_it() {
    let full = json!({
        "kind": "person",
        "name": { "honorificPrefix": "Ms", "givenName": "Ilka", "middleName": "M", "familyName": "S", "honorificSuffix": "x",
            "formatted": "Ilka S" },
        "addresses": [{ "type": "work", "streetAddress": "x8", "streetNumber": "9", "apartment": "1", "floor": "2",
            "locality": "y4", "district": "y5", "region": "y6", "postalCode": "y7", "country": "DK",
            "geo": { "longitude": 1.5, "latitude": 2.5 } }],
        "organization": { "name": "z1", "department": "z2", "title": "z3", "registrationNumber": "z4", "vatNumber": "z5",
            "type": "z6", "marketSector": "z7", "industry": "z8" },
        "birthDate": "1980-02-29", "gender": "female", "preferredLanguage": "da", "notes": "n", "owner": "o",
        "consent": { "marketing": true, "dataProcessing": true }, "active": true, "identifiers": { "a": "1" },
        "photos": [{ "value": "https://photos.example.com/1" }], "relations": [{ "type": "t" }], "attributes": { "a": "1" },
    });
    for settings in [priava(), previsto_crm()] {
        let connector = connector(&settings);
        let told: BTreeSet<&str> = connector.cannot_carry().iter().map(|loss| loss.field).collect();
        assert!(told.iter().all(|field| schema::paths().any(|path| path == *field)), "{told:?}");
        let found: BTreeSet<&str> =
            connector.project(&record(full.clone()), None).unwrap().losses.iter().map(|loss| loss.field).collect();
        // What depends on what a contact says there, or elsewhere, is told of that contact only.
        let depends = [
            "/name/honorificPrefix",
            "/name/honorificSuffix",
            "/name/middleName",
            "/name/formatted",
            "/addresses/district",
            "/organization/registrationNumber",
            "/relations",
        ];
        let untold: Vec<_> = found.difference(&told).filter(|field| !depends.contains(field)).collect();
        assert_eq!(untold, Vec::<&&str>::new(), "{settings:?}");
        let unlost: Vec<_> = told.difference(&found).filter(|field| !field.ends_with("/type")).collect();
        assert_eq!(unlost, Vec::<&&str>::new());
    }
    // Of these a contact may lose more, by what else it says; but all that is told.
    let mut whole = full;
    whole["active"] = json!(false);
    whole["emails"] = json!([{ "value": "ilka@example.com", "type": "work" }]);
    let sam = sam_crm("/nowhere".into(), "/nowhere".into());
    for settings in [sam, crm_com_crm(), logisense_crm()] {
        let connector = connector(&settings);
        let told: BTreeSet<&str> = connector.cannot_carry().iter().map(|loss| loss.field).collect();
        assert!(told.len() > 3 && told.iter().all(|field| schema::paths().any(|path| path == *field)), "{told:?}");
        let projection = connector.project(&record(whole.clone()), None).unwrap();
        let found: BTreeSet<&str> = projection.losses.iter().map(|loss| loss.field).collect();
        assert_eq!(told.difference(&found).collect::<Vec<_>>(), Vec::<&&str>::new(), "{}", settings.name);
    }
}

fn crm_com(fields: Value) -> CrmSettings {
    with_fields(crm_com_crm(), fields)
}

fn company() -> Value {
    json!({ "kind": "organization", "organization": { "name": "Acme" }, "attributes": { "tier": "gold", "since": "2001-04-01" } })
}

#[test]
fn members_and_slots_of_crm_com_are_filled_in_its_own_shapes() {
    let settings = crm_com(json!({
        "category_identifier": "/attributes/tier",
        "privacy_level_identifier": { "constant": "3" },
        "udf_string_3": "/attributes/tier",
        "udf_float_2": { "from": "/attributes/tier", "values": { "gold": 1.5 } },
        "udf_date_1": "/attributes/since",
        "send_affiliate_marketing_material": { "constant": false },
        "company_profile.established_date": "/attributes/since",
        "company_profile.registered_in_country_identifier": { "constant": "CY" },
        "company_profile.number_of_employees": { "constant": 12 },
        "demographics.date_of_birth": "/attributes/since",
        "demographics.industry_identifier": { "constant": "Tourism" },
    }));
    let connector = connector(&settings);
    let fields = connector.project(&record(company()), None).unwrap().fields;
    for (name, expected) in [
        ("category_identifier", json!({ "name": "gold" })),
        ("privacy_level_identifier", json!({ "number": "3" })),
        ("udf_string_3", json!("gold")),
        ("udf_float_2", json!(1.5)),
        ("udf_date_1", json!("2001-04-01T00:00:00")),
        ("send_affiliate_marketing_material", json!(false)),
        ("company_profile.established_date", json!("2001-04-01T00:00:00")),
        ("company_profile.registered_in_country_identifier", json!({ "two_character_code": "CY" })),
        ("company_profile.number_of_employees", json!(12)),
    ] {
        assert_eq!(fields.get(name), Some(&expected), "{name}");
    }
    assert!(fields.keys().all(|name| !name.starts_with("demographics")), "a company has none: {:?}", fields.keys());
    let person = record(json!({ "attributes": { "since": "2001-04-01" } }));
    let fields = connector.project(&person, None).unwrap().fields;
    assert_eq!(fields["demographics.date_of_birth"], json!({ "day": 1, "month": 4, "year": 2001 }));
    assert_eq!(fields["demographics.industry_identifier"], json!({ "name": "Tourism" }));
    assert!(fields.keys().all(|name| !name.starts_with("company_profile")), "a person has none");
    let losses = connector.project(&record(json!({ "attributes": { "since": "in spring" } })), None).unwrap().losses;
    assert!(losses.contains(&Loss { field: "/attributes", why: UNFIT }), "{losses:?}");
}

#[test]
fn a_name_of_a_company_that_a_rule_asks_for_is_not_missed_by_persons() {
    let settings = crm_com(json!({ "company_name": "/attributes/trade_name" }));
    assert!(connector(&settings).project(&record(json!({})), None).is_ok());
    let missing = Verdict::field(OutcomeKind::Rejected, ReasonCode::MissingField, "/attributes/trade_name");
    assert_eq!(connector(&settings).project(&record(company()), None).unwrap_err(), missing);
}

#[test]
fn an_erasure_empties_the_slots_of_crm_com_that_rules_fill_or_once_filled_and_no_others() {
    let erased = ContactRecord { status: Status::Erased, contact: None, ..record(json!({})) };
    let ruled = connector(&crm_com(json!({ "udf_string_3": "/attributes/tier", "udf_string_4": { "omit": true } })));
    let fields = ruled.project(&erased, Some(&link(&["first_name", "udf_date_2"]))).unwrap().fields;
    assert_eq!((fields.get("udf_string_3"), fields.get("udf_date_2")), (Some(&Value::Null), Some(&Value::Null)));
    for others in ["udf_string_4", "udf_string_5", "company_profile.profile_year"] {
        assert!(!fields.contains_key(others), "{others}");
    }
    assert_eq!(fields["udf_string_16"], json!(CONTACT.key()));
}

#[test]
fn what_a_rule_may_not_touch_of_crm_com_and_logisense_is_told_with_its_reason() {
    for (name, reason) in [
        ("phone_set.MOBILE", "an entry among others"),
        ("email_set", "an entry among others"),
        ("relation_set", "an entry among others"),
        ("profile_photo", "an entry among others"),
        ("type", "decides which others"),
        ("udf_string_16", "marks a contact as ours"),
        ("id", "gives this field by itself"),
        ("contact_information_identifier", "gives this field by itself"),
        ("udf_string_17", "no such field"),
        ("demographics.shoe", "no such field"),
    ] {
        misfit(&crm_com(json!({ name: "/attributes/tier" })), &format!("fields.{name}"), reason);
    }
    let mut active = crm_com(json!({ "udf_string_1": "/attributes/tier" }));
    active.crm_com.as_mut().unwrap().user_defined.insert("/active".into(), "udf_string_1".into());
    misfit(&active, "fields.udf_string_1", "whether the contact is active");
    misfit(&crm_com(json!({ "udf_date_1": { "constant": "soon" } })), "fields.udf_date_1.constant", "does not take");
    misfit(&crm_com(json!({ "first_name": { "omit": true } })), "fields.first_name.omit", "no contact without");
    for (name, reason) in [
        ("contactPoint.email.1", "an entry among others"),
        ("contactPoint.reference.1", "marks a contact as ours"),
        ("address.latitude", "an entry among others"),
        ("identity", "gives this field by itself"),
        ("nickname", "no such field"),
    ] {
        misfit(&with_fields(logisense_crm(), json!({ name: "/attributes/tier" })), &format!("fields.{name}"), reason);
    }
}

#[test]
fn a_contact_of_logisense_is_filled_and_its_flag_cleared_by_what_it_says() {
    let connector = connector(&with_fields(
        logisense_crm(),
        json!({
            "contactTypeId": { "from": "/attributes/tier", "values": { "gold": "Key account" }, "otherwise": "Billing" },
            "title": "/attributes/salutation", "isUsedForTax": "/attributes/taxed", "address.address2": { "constant": "c/o" },
        }),
    ));
    let attributes = json!({ "attributes": { "tier": "gold", "salutation": "Frau", "taxed": true } });
    let projection = connector.project(&record(attributes), None).unwrap();
    for (name, expected) in [
        ("contactTypeId", json!("Key account")),
        ("title", json!("Frau")),
        ("isUsedForTax", json!(true)),
        ("address.address2", json!("c/o")),
    ] {
        assert_eq!(projection.fields.get(name), Some(&expected), "{name}");
    }
    assert_eq!(projection.losses, []);
    let empty = record(json!({ "attributes": { "tier": "tin", "taxed": null, "salutation": null } }));
    let fields = connector.project(&empty, None).unwrap().fields;
    assert_eq!((&fields["isUsedForTax"], &fields["title"]), (&Value::Null, &Value::Null));
    // What rules fill is emptied with the rest.
    let erased = ContactRecord { status: Status::Erased, contact: None, ..record(json!({})) };
    let fields = connector.project(&erased, Some(&link(&["title", "address.address2"]))).unwrap().fields;
    assert_eq!((&fields["title"], &fields["address.address2"]), (&Value::Null, &Value::Null));
}

#[test]
fn what_rules_carry_to_crm_com_and_logisense_is_not_told_as_lost() {
    for (settings, name) in [(crm_com_crm(), "udf_string_3"), (logisense_crm(), "title")] {
        let told = |settings: &CrmSettings| connector(settings).cannot_carry();
        let lost = |losses: &[Loss]| losses.iter().any(|loss| loss.field == "/organization/department");
        assert!(lost(&told(&settings)));
        let document = || record(json!({ "organization": { "department": "Sales" } }));
        let projected = |settings: &CrmSettings| connector(settings).project(&document(), None).unwrap().losses;
        assert!(lost(&projected(&settings)));
        let ruled = with_fields(settings, json!({ name: "/organization/department" }));
        assert!(!lost(&told(&ruled)) && !lost(&projected(&ruled)), "{}", ruled.name);
    }
}

#[test]
fn any_key_of_sam_but_those_of_our_reference_can_be_filled() {
    let mut settings = with_fields(
        sam_crm("/nowhere".into(), "/nowhere".into()),
        json!({
            "contactCategory": "/attributes/tier", "webPage": { "constant": "https://example.com" },
            "ownedBy": "/attributes/seats", "notes": { "omit": true },
        }),
    );
    let document = json!({
        "name": { "givenName": "Ilka", "familyName": "S" }, "notes": "n", "attributes": { "tier": "gold", "seats": 4 },
    });
    let fields = connector(&settings).project(&record(document), None).unwrap().fields;
    assert_eq!(fields["contactCategory"], "gold");
    assert_eq!(fields["webPage"], "https://example.com");
    assert_eq!(fields["ownedBy"], 4);
    assert!(!fields.contains_key("notes"));
    for (name, says) in [
        ("externalId", "marks a contact as ours"),
        ("contactId", "marks a contact as ours"),
        ("contactModified", "no such field"),
        ("firstName", "no such field"),
    ] {
        settings = with_fields(settings, json!({ name: "/attributes/tier" }));
        let misfits = crm::misfits(&settings, "contact-hub");
        assert!(misfits.iter().any(|misfit| misfit.to_string().contains(says)), "{name}: {misfits:?}");
    }
}
