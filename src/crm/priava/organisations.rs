//! Organisations: what becomes of them on the wire, and of a contact whose kind changes.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    tests::{answer, body_sent, connector_with, contact, deliver, erased, fields},
    *,
};
use crate::{
    config::{FieldRule, OnDelete, OnErase},
    contact::{ContactRecord, record::Status},
    crm::{
        Effect, Presence,
        link::Sent,
        testing::{CONTACT, KEY, record},
        withdraws_in_vain,
    },
    event::{Operation, OutcomeKind},
};

const SWITCHED_ON: fn(&mut PriavaSettings) = |settings| settings.organisations = true;
const POLICIES: Policies = Policies { on_delete: OnDelete::Deactivate, on_erase: OnErase::Blank };

fn connector(change: impl FnOnce(&mut PriavaSettings)) -> Priava {
    connector_with(POLICIES, |settings| {
        SWITCHED_ON(settings);
        change(settings);
    })
}

/// The least that Priava takes of an organisation, and on top of it what a test is about.
fn organisation(more: Value) -> Value {
    let mut said = json!({
        "kind": "organization",
        "organization": { "name": "Harbour Lane" },
        "phoneNumbers": [{ "value": "+61255501234", "type": "work" }],
    });
    let Value::Object(more) = more else { panic!("an object") };
    said.as_object_mut().unwrap().extend(more);
    said
}

/// Both: a person and an organisation could be made of it.
fn either(kind: &str) -> Value {
    contact(json!({ "kind": kind, "organization": { "name": "Harbour Lane" } }))
}

fn prefixed(object: Value) -> BTreeMap<String, Value> {
    fields(object).into_iter().map(|(name, value)| (format!("organisation:{name}"), value)).collect()
}

fn least() -> BTreeMap<String, Value> {
    prefixed(json!({
        "name": "Harbour Lane", "businessPhone": "+61255501234", "externalIntegrationId": KEY,
        "integrationSrc": "contact-hub",
    }))
}

fn check_with(change: impl FnOnce(&mut PriavaSettings), more: Value, expected: Value, losses: &[&str]) {
    let projection = connector(change).project(&record(organisation(more.clone())), None).unwrap();
    let mut all = least();
    all.extend(prefixed(expected));
    all.retain(|name, value| !(value.is_null() && name == "organisation:businessPhone"));
    assert_eq!(projection.fields, all, "{more}");
    let lost: Vec<&str> = projection.losses.iter().map(|loss| loss.field).collect();
    assert_eq!(lost, losses, "{more}");
}

fn check(more: Value, expected: Value, losses: &[&str]) {
    check_with(|_| (), more, expected, losses);
}

/// The link after all calls for `record` were accepted.
fn link_after(connector: &Priava, record: &ContactRecord, before: Option<&Link>) -> Link {
    let mut link = before.cloned().unwrap_or_else(|| Link::new(CONTACT));
    deliver(connector, record, before, &[], |delivery| {
        let answers = [answer(200, r#"{"id":7}"#), answer(200, "")];
        let calls = 1 + usize::from(matches!(connector.next(delivery, &answers[..1]), Step::Call(_)));
        let Step::Done(accepted) = connector.next(delivery, &answers[..calls]) else { panic!("accepted") };
        link.remote_ids.extend(accepted.remote_ids);
        let gone = link.sent.keys().cloned().map(|path| (path, Sent::Hash(0))).collect::<Vec<_>>();
        let said = delivery.projection.fields.keys().map(|path| (path.as_str().into(), Sent::Hash(1)));
        link.sent = gone.into_iter().chain(said).collect();
        link.presence = Some(delivery.projection.presence);
    });
    link
}

/// The calls of a delivery, each answered with success: path and body.
fn calls(connector: &Priava, record: &ContactRecord, link: Option<&Link>, clears: &[&str]) -> Vec<(String, Value)> {
    deliver(connector, record, link, clears, |delivery| {
        let (mut calls, mut answers) = (Vec::new(), Vec::new());
        while let Step::Call(request) = connector.next(delivery, &answers) {
            calls.push((request.path, serde_json::from_slice(&request.body).unwrap()));
            answers.push(answer(200, ""));
        }
        calls
    })
}

const CONTACTS: &str = "/v1/crm/contacts";
const ORGANISATIONS: &str = "/v1/crm/organisations";

#[test]
fn an_organisation_comes_out_byte_for_byte_and_its_answer_is_read() {
    let document = organisation(json!({
        "organization": { "name": "Harbour Lane", "type": "Agency", "marketSector": "Arts" },
        "emails": [{ "value": "office@example.com", "primary": true }, { "value": "desk@example.com" }],
        "addresses": [{ "type": "work", "streetAddress": "Quay", "streetNumber": "1", "locality": "Glebe", "country": "AU" }],
        "active": true,
    }));
    let connector = connector(|settings| settings.tenant_region = "APAC".to_owned());
    deliver(&connector, &record(document), None, &[], |delivery| {
        let Step::Call(request) = connector.next(delivery, &[]) else { panic!("a call") };
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", ORGANISATIONS));
        let headers: Vec<_> =
            request.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(
            headers,
            [("content-type", "application/json"), ("accept", "application/json"), ("tenantregion", "APAC")]
        );
        let body = concat!(
            r#"{"businessPhone":"+61255501234","email":"office@example.com","emailOther":"desk@example.com","#,
            r#""externalIntegrationId":"00000000-0000-0000-0000-0000000001c3","inactive":false,"#,
            r#""integrationSrc":"contact-hub","marketSector":"Arts","name":"Harbour Lane","#,
            r#""organisationAddress":{"addressLine1":"Quay 1","country":"Australia","suburb":"Glebe"},"type":"Agency"}"#,
        );
        assert_eq!(request.body, body);
        assert_eq!(request.kind, RequestKind::Set);
        for (said, id) in
            [(r#"{"id":40117,"created":true}"#, "40117"), (r#"{"OrganisationId":"o-1"}"#, "o-1"), ("", KEY)]
        {
            let Step::Done(accepted) = connector.next(delivery, &[answer(200, said)]) else { panic!("accepted") };
            let expected = [(REMOTE_CONTACT, id), ("entity", "organisation")];
            let expected = expected.map(|(role, id)| (role.to_owned(), id.to_owned()));
            assert_eq!((accepted.operation, accepted.remote_ids), (Operation::Update, BTreeMap::from(expected)));
        }
    });
}

#[test]
fn it_goes_by_its_own_name_else_by_the_full_name() {
    check(json!({}), json!({}), &[]);
    let named = json!({ "name": { "formatted": "Lane & Co", "givenName": "Ilka" } });
    check(named.clone(), json!({}), &["/name/formatted", "/name/givenName"]);
    let mut formatted = named;
    formatted["organization"] = json!({ "type": "Agency" });
    check(formatted, json!({ "name": "Lane & Co", "type": "Agency" }), &["/name/givenName"]);
    let nameless = connector(|_| ()).project(&record(organisation(json!({ "organization": null }))), None);
    assert_eq!(nameless, Err(Verdict::missing("/organization/name")));
}

#[test]
fn two_addresses_of_mail_have_room_and_a_third_is_lost() {
    let emails = |emails: Value| json!({ "emails": emails });
    let [one, two, three] = ["a@example.com", "b@example.com", "c@example.com"].map(|value| json!({ "value": value }));
    let main = json!({ "value": "m@example.com", "primary": true });
    check(emails(json!([one])), json!({ "email": "a@example.com" }), &[]);
    check(emails(json!([one, main])), json!({ "email": "m@example.com", "emailOther": "a@example.com" }), &[]);
    check(
        emails(json!([one, two, three])),
        json!({ "email": "a@example.com", "emailOther": "b@example.com" }),
        &["/emails/value"],
    );
    check(emails(json!([])), json!({ "email": null, "emailOther": null }), &[]);
}

#[test]
fn an_office_number_another_one_and_a_fax_have_room_and_one_of_the_first_two_is_needed() {
    let phones = |phones: Value| json!({ "phoneNumbers": phones });
    let [work, home, mobile, fax] = [("1", "work"), ("2", "home"), ("3", "mobile"), ("4", "fax")]
        .map(|(value, kind)| json!({ "value": value, "type": kind }));
    check(phones(json!([mobile, work, fax])), json!({ "businessPhone": "1", "otherPhone": "3", "fax": "4" }), &[]);
    check(
        phones(json!([mobile, work, home])),
        json!({ "businessPhone": "1", "otherPhone": "3" }),
        &["/phoneNumbers/value"],
    );
    check(phones(json!([mobile])), json!({ "businessPhone": null, "otherPhone": "3" }), &[]);
    for without in [json!([fax]), json!(null)] {
        let verdict = connector(|_| ()).project(&record(organisation(phones(without))), None);
        assert_eq!(verdict, Err(Verdict::missing("/phoneNumbers")));
    }
    // One that Priava has may lose its last.
    let connector = connector(|_| ());
    let link = link_after(&connector, &record(organisation(json!({}))), None);
    let projection = connector.project(&record(organisation(phones(json!([])))), Some(&link)).unwrap();
    assert_eq!(projection.fields["organisation:businessPhone"], Value::Null);
}

#[test]
fn the_visible_reference_of_an_organisation_is_a_text() {
    let visible = |settings: &mut PriavaSettings| settings.external_reference_no = "customer_no".to_owned();
    let identifiers = |number: &str| json!({ "identifiers": { "customer_no": number } });
    check_with(visible, identifiers("K-007"), json!({ "externalReferenceNo": "K-007" }), &[]);
    check(identifiers("K-007"), json!({}), &["/identifiers"]);
}

#[test]
fn what_an_organisation_has_no_field_for_is_lost_and_a_withdrawn_consent_is_told() {
    let department = json!({ "name": "Harbour Lane", "department": "Sales", "title": "Lead", "vatNumber": "V" });
    check(
        json!({ "organization": department, "consent": { "marketing": false, "dataProcessing": true }, "notes": "n" }),
        json!({}),
        &[
            "/consent/dataProcessing",
            "/consent/marketing",
            "/notes",
            "/organization/department",
            "/organization/title",
            "/organization/vatNumber",
        ],
    );
    let consent = json!({ "consent": { "marketing": false } });
    let connector = connector(|_| ());
    assert!(withdraws_in_vain(&connector, &record(organisation(consent.clone()))));
    assert!(!withdraws_in_vain(&connector, &record(contact(consent))));
}

#[test]
fn a_tenants_own_names_lists_and_words_are_used() {
    let own = |settings: &mut PriavaSettings| {
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        settings.organisation_field_names = BTreeMap::from([pair("businessPhone", "phone"), pair("suburb", "city")]);
        settings.organisation_types = vec!["Agency".to_owned()];
        settings.integration_src = "other-hub".to_owned();
        settings.inactive_value = false;
        settings.organisations_path = "/v1/organisations".to_owned();
    };
    let document = organisation(json!({
        "organization": { "name": "Lane", "type": "AGENCY", "marketSector": "Arts" }, "active": false,
        "addresses": [{ "type": "postal", "locality": "Glebe" }],
    }));
    let calls = calls(&connector(own), &record(document), None, &[]);
    let body = json!({
        "name": "Lane", "phone": "+61255501234", "type": "Agency", "marketSector": "Arts", "inactive": false,
        "postalAddress": { "city": "Glebe" }, "externalIntegrationId": KEY, "integrationSrc": "other-hub",
    });
    assert_eq!(calls, [("/v1/organisations".to_owned(), body)]);
    let unlisted = organisation(json!({ "organization": { "name": "Lane", "type": "Circus" } }));
    let projection = connector(own).project(&record(unlisted), None).unwrap();
    assert_eq!(projection.losses.iter().map(|loss| loss.field).collect::<Vec<_>>(), ["/organization/type"]);
}

#[test]
fn operators_fill_fields_of_organisations_by_a_name_of_their_own() {
    let connector = connector(|_| ());
    let text = crate::crm::Takes::Text;
    assert_eq!(connector.field("organisation:website"), Ok(Field::optional(text)));
    assert_eq!(connector.field("organisation:parent"), Ok(Field::optional(text)));
    assert_eq!(connector.field("organisation:name"), Ok(Field::required(text)));
    assert_eq!(connector.field("organisation:externalIntegrationId"), Err(NotSettable::Reference));
    assert_eq!(connector.field("organisation:inactive"), Err(NotSettable::Presence));
    assert_eq!(connector.field("organisation:firstName"), Err(NotSettable::Unknown));
    let off = connector_with(POLICIES, |_| ());
    assert_eq!(off.field("organisation:website"), Err(NotSettable::Unknown));
    assert!(off.fields().iter().all(|path| !path.starts_with("organisation:")));
    let of_both =
        [organisation(json!({})), contact(json!({}))].map(|said| connector.project(&record(said), None).unwrap());
    assert_eq!(of_both.map(|projection| connector.has_field("organisation:website", &projection)), [true, false]);
}

#[test]
fn a_rule_fills_a_field_of_an_organisation_and_says_nothing_of_a_person() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = crate::crm::testing::crm_settings(folder.path().join("token"));
    SWITCHED_ON(settings.priava.as_mut().unwrap());
    let rule = FieldRule::Pointer("/attributes/webPage".to_owned());
    settings.fields.insert("organisation:website".to_owned(), rule);
    let connector = crate::crm::connector(&settings, "contact-hub").unwrap();
    let page = json!({ "attributes": { "webPage": "https://example.com" } });
    let of_both = [organisation(page.clone()), contact(page)].map(|said| {
        let projection = connector.project(&record(said), None).unwrap();
        (projection.fields.get("organisation:website").cloned(), projection.losses.len())
    });
    assert_eq!(of_both, [(Some(json!("https://example.com")), 0), (None, 1)]);
}

#[test]
fn what_was_sent_once_and_is_gone_is_cleared_by_null() {
    let connector = connector(|settings| settings.never_cleared.extend(["organisation:fax".to_owned()]));
    let record = record(organisation(json!({})));
    let link = link_after(&connector, &record, None);
    let clears = ["organisation:email", "organisation:postalAddress.suburb", "organisation:fax", "organisation:name"];
    let body = body_sent(&connector, &record, Some(&link), &clears);
    let expected = json!({
        "name": "Harbour Lane", "businessPhone": "+61255501234", "externalIntegrationId": KEY,
        "integrationSrc": "contact-hub", "email": null, "postalAddress": null,
    });
    assert_eq!(body, expected);
    assert!(connector.leaves_alone(&record, "organisation:fax"));
}

#[test]
fn a_deleted_organisation_is_made_inactive_and_an_erased_one_is_emptied() {
    let connector = connector(|_| ());
    let live = record(organisation(json!({ "emails": [{ "value": "office@example.com" }] })));
    let link = link_after(&connector, &live, None);
    let deleted = ContactRecord { status: Status::Deleted, ..live };
    let projection = connector.project(&deleted, Some(&link)).unwrap();
    assert_eq!(projection.presence, Presence::Inactive);
    let [(path, body)] = calls(&connector, &deleted, Some(&link), &[]).try_into().unwrap();
    assert_eq!(
        (path.as_str(), &body["name"], &body["inactive"]),
        (ORGANISATIONS, &json!("Harbour Lane"), &json!(true))
    );
    let placeholders = json!({
        "name": "Erased", "inactive": true, "externalIntegrationId": KEY, "integrationSrc": "contact-hub",
        "businessPhone": null, "email": null,
    });
    assert_eq!(calls(&connector, &erased(), Some(&link), &[]), [(ORGANISATIONS.to_owned(), placeholders)]);
    // It is reached also once no more of its kind are sent.
    let off = connector_with(POLICIES, |_| ());
    assert_eq!(calls(&off, &deleted, Some(&link), &[]).len(), 1);
    assert_eq!(calls(&off, &erased(), Some(&link), &[]).len(), 1);
    for policies in
        [Policies { on_delete: OnDelete::Delete, ..POLICIES }, Policies { on_delete: OnDelete::Keep, ..POLICIES }]
    {
        let verdict = connector_with(policies, SWITCHED_ON).project(&deleted, Some(&link)).unwrap_err();
        let expected = match policies.on_delete {
            OnDelete::Keep => Verdict::kept(),
            _ => Verdict::unsupported(ReasonCode::Delete),
        };
        assert_eq!(verdict, expected);
    }
}

#[test]
fn where_it_is_switched_off_nothing_is_sent_whatever_is_there() {
    let on = connector(|_| ());
    let off = connector_with(POLICIES, |_| ());
    let record = record(organisation(json!({})));
    let link = link_after(&on, &record, None);
    for link in [None, Some(&link)] {
        let unsupported = Err(Verdict::new(OutcomeKind::Unsupported, ReasonCode::Kind));
        assert_eq!(off.project(&record, link), unsupported);
    }
}

#[test]
fn each_failure_of_the_other_endpoint_has_the_same_class() {
    use FailureClass::{Auth, Conflict, Connection, Rejected, Throttled, Transient};
    let connector = connector(|_| ());
    deliver(&connector, &record(organisation(json!({}))), None, &[], |delivery| {
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
            (503, Transient, Effect::Unknown),
        ] {
            let body = r#"{"error":"validation_error","error_description":"Harbour Lane"}"#;
            let Step::Failed(failure) = connector.next(delivery, &[answer(status, body)]) else { panic!("failed") };
            assert_eq!((failure.class, failure.effect), (class, effect), "{status}");
            assert_eq!(failure.reason.crm_code.as_deref(), Some("validation_error"));
        }
    });
}

#[test]
fn a_contact_that_changes_its_kind_is_made_anew_and_what_it_was_is_made_inactive() {
    let connector = connector(|_| ());
    let person = link_after(&connector, &record(either("person")), None);
    assert_eq!(person.remote_ids.get("entity"), None, "as it always was");
    let now = record(either("organization"));
    let as_person = json!({
        "firstName": "Ilka", "lastName": "Sundstrom", "email": "ilka@example.com", "inactive": true,
        "externalIntegrationId": KEY, "integrationSrc": "contact-hub",
    });
    // It says that it is active: whoever changes to and fro may have been made inactive there.
    let as_organisation = json!({
        "name": "Harbour Lane", "email": "ilka@example.com", "otherPhone": "+61400555012", "inactive": false,
        "externalIntegrationId": KEY, "integrationSrc": "contact-hub",
    });
    // What is to be cleared of the person is nobody's business there.
    let made = calls(&connector, &now, Some(&person), &["title", "mobile", "organisation"]);
    assert_eq!(made, [(ORGANISATIONS.to_owned(), as_organisation.clone()), (CONTACTS.to_owned(), as_person.clone())]);
    deliver(&connector, &now, Some(&person), &[], |delivery| {
        let first = answer(200, r#"{"id":8}"#);
        let refused = connector.next(delivery, &[first.clone(), answer(503, "")]);
        assert!(matches!(refused, Step::Failed(failure) if failure.class == FailureClass::Transient));
        let Step::Done(accepted) = connector.next(delivery, &[first, answer(200, r#"{"id":7}"#)]) else {
            panic!("accepted")
        };
        assert_eq!((accepted.operation, accepted.remote_ids[REMOTE_CONTACT].as_str()), (Operation::Create, "8"));
    });

    // From then on the person is left alone; a takeover, which doubts everything, says it again.
    let mut changed = link_after(&connector, &now, Some(&person));
    assert_eq!(changed.remote_ids["entity"], "organisation");
    assert_eq!(calls(&connector, &now, Some(&changed), &[]).len(), 1);
    changed.sent.values_mut().for_each(|sent| *sent = Sent::Void);
    assert_eq!(calls(&connector, &now, Some(&changed), &[]).len(), 2);
    let nameless = record(organisation(json!({})));
    assert_eq!(calls(&connector, &nameless, Some(&changed), &[]).len(), 1, "which cannot be said, and was said");

    // And back.
    let back = record(either("person"));
    let calls_back = calls(&connector, &back, Some(&changed), &[]);
    assert_eq!((calls_back[0].0.as_str(), calls_back[1].0.as_str()), (CONTACTS, ORGANISATIONS));
    assert_eq!((&calls_back[0].1["inactive"], &calls_back[1].1["inactive"]), (&json!(false), &json!(true)));
    assert_eq!(link_after(&connector, &back, Some(&changed)).remote_ids["entity"], "person");
}

#[test]
fn a_change_of_kind_that_would_leave_two_active_is_not_sent() {
    let connector = connector(|_| ());
    let unsupported = Err(Verdict::new(OutcomeKind::Unsupported, ReasonCode::Kind));
    let person = link_after(&connector, &record(either("person")), None);
    assert_eq!(connector.project(&record(organisation(json!({}))), Some(&person)), unsupported);
    let organisation = link_after(&connector, &record(either("organization")), None);
    assert_eq!(connector.project(&record(contact(json!({}))), Some(&organisation)), unsupported);
    // What a lost first call may have made counts as made.
    let mut lost = organisation.clone();
    lost.remote_ids.clear();
    lost.sent.values_mut().for_each(|sent| *sent = Sent::Void);
    assert_eq!(connector.project(&record(contact(json!({}))), Some(&lost)), unsupported);

    let now = record(either("organization"));
    let with = |on_delete| connector_with(Policies { on_delete, ..POLICIES }, SWITCHED_ON);
    assert_eq!(with(OnDelete::Delete).project(&now, Some(&person)), unsupported);
    let kept = calls(&with(OnDelete::Keep), &now, Some(&person), &[]);
    assert_eq!(kept.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), [ORGANISATIONS]);
}

#[test]
fn who_is_deleted_or_erased_with_another_kind_is_so_as_what_priava_has() {
    let connector = connector(|_| ());
    let person = link_after(&connector, &record(either("person")), None);
    let deleted = |said| ContactRecord { status: Status::Deleted, ..record(said) };
    let [(path, body)] = calls(&connector, &deleted(either("organization")), Some(&person), &[]).try_into().unwrap();
    assert_eq!((path.as_str(), &body["inactive"]), (CONTACTS, &json!(true)));
    let verdict = connector.project(&deleted(organisation(json!({}))), Some(&person)).unwrap_err();
    assert_eq!(verdict, Verdict::unsupported(ReasonCode::Deactivate));

    // Of whom both were made, both are emptied.
    let both = link_after(&connector, &record(either("organization")), Some(&person));
    let emptied = calls(&connector, &erased(), Some(&both), &[]);
    assert_eq!(emptied.iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>(), [ORGANISATIONS, CONTACTS]);
    assert_eq!((&emptied[0].1["name"], &emptied[1].1["firstName"]), (&json!("Erased"), &json!("Erased")));
    assert_eq!((&emptied[0].1["otherPhone"], &emptied[1].1["mobile"]), (&Value::Null, &Value::Null));
    assert!(emptied.iter().all(|(_, body)| body["inactive"] == json!(true) && !body.to_string().contains("Ilka")));
}

#[test]
fn a_suspicion_makes_no_organisation_of_a_person() {
    let connector = connector(|_| ());
    // All that a dead worker may have sent: whatever can be cleared.
    let mut suspected = Link::new(CONTACT);
    suspected.sent = connector.fields().into_iter().map(|path| (path.into(), Sent::Void)).collect();
    assert!(suspected.sent.contains_key("organisation:fax"));
    for kind in ["person", "organization"] {
        assert_eq!(calls(&connector, &record(either(kind)), Some(&suspected), &[]).len(), 1, "{kind}");
    }
    assert_eq!(calls(&connector, &erased(), Some(&suspected), &[]).len(), 1);
}
