//! Priava, section 8 of its contract, under the settings' defaults.

use contact_replicator::{
    config::CrmKind,
    event::{Operation, Outcome, OutcomeKind, ReasonCode},
    explain::{Asked, words},
    sandbox::{FaultPlan, Instead, Scripted},
};
use serde_json::{Value, json};

use super::{Deleted, Life, of_a_person, of_an_organization, said, take_reference};
use crate::{
    history::event,
    scene::{Scene, play},
    world::{CRM, Setup, Tenant, World},
};

const TENANT: &[Tenant] = &[Tenant { name: CRM, kind: CrmKind::Priava }];

fn held(contact: &Value) -> Value {
    let mut fields = said(&contact["fields"]).expect("a contact has fields");
    take_reference(&mut fields, "externalIntegrationId");
    fields
}

/// Middle names and suffixes, further e-mail addresses and numbers, what an address has no line for, numbers of the
/// organisation, and what Priava knows nothing of.
const LOST: &[&str] = &[
    "/name/middleName",
    "/name/honorificSuffix",
    "/name/formatted",
    "/emails/value",
    "/phoneNumbers/value",
    "/addresses/poBox",
    "/addresses/district",
    "/addresses/geo",
    "/organization/registrationNumber",
    "/organization/vatNumber",
    "/organization/industry",
    "/birthDate",
    "/gender",
    "/preferredLanguage",
    "/notes",
    "/identifiers",
    "/owner",
    "/photos",
    "/relations",
    "/attributes",
];

#[test]
fn a_life_in_priava_is_what_the_table_says() {
    let full = json!({
        "integrationSrc": "sim", "firstName": "Ilka", "lastName": "Sundstrom", "title": "Ms",
        "email": "work@example.com", "mobile": "+35799555012", "phoneNumber": "+390236618300",
        "organisation": "Harbour Lane", "department": "Sales", "jobTitle": "Lead", "debtorNumber": "D7",
        "marketingOptOut": false, "personalInformationConsent": true, "inactive": false,
        "organisationAddress": {
            "addressLine1": "Kanal St 14", "addressLine2": "2", "addressLine3": "3", "suburb": "Guelph",
            "state": "ON", "postcode": "N1G 2W1", "country": "Canada",
        },
        "postalAddress": { "addressLine1": "PO Box 77", "country": "United Kingdom" },
        "otherAddress": { "addressLine1": "Pine St", "suburb": "London", "country": "United Kingdom" },
    });
    let changed = json!({
        "integrationSrc": "sim", "firstName": "Ilse", "lastName": "Vale", "title": "Dr",
        "email": "work.too@example.com", "mobile": "+35799555077", "phoneNumber": "+390236618311",
        "organisation": "Mill Lane", "department": "Stock", "jobTitle": "Clerk", "debtorNumber": "D8",
        "marketingOptOut": true, "personalInformationConsent": false, "inactive": false,
        "organisationAddress": {
            "addressLine1": "Quay Rd 15", "addressLine2": "4", "addressLine3": "5", "suburb": "Albany",
            "state": "NY", "postcode": "12207", "country": "United States",
        },
        "postalAddress": { "addressLine1": "PO Box 78", "country": "Switzerland" },
        "otherAddress": { "addressLine1": "Elm St", "suburb": "Bern", "country": "Switzerland" },
    });
    let least = json!({
        "integrationSrc": "sim", "firstName": "Ilse", "lastName": "Vale", "email": "work.too@example.com",
        "inactive": false,
    });
    let deleted = Deleted::Stays(json!({ "inactive": true }));
    let life = Life {
        tenant: TENANT,
        prepare: |_| (),
        held,
        said: of_a_person(),
        full,
        changed,
        least,
        deleted,
        lost: LOST.to_vec(),
    };
    life.comes_true();
}

/// What an organisation has no field for.
const LOST_OF_ORGANISATIONS: &[&str] = &[
    "/name/honorificPrefix",
    "/name/givenName",
    "/name/middleName",
    "/name/familyName",
    "/name/honorificSuffix",
    "/name/formatted",
    "/emails/value",
    "/phoneNumbers/value",
    "/addresses/poBox",
    "/addresses/district",
    "/addresses/geo",
    "/organization/department",
    "/organization/title",
    "/organization/registrationNumber",
    "/organization/vatNumber",
    "/organization/industry",
    "/consent/marketing",
    "/consent/dataProcessing",
    "/birthDate",
    "/gender",
    "/preferredLanguage",
    "/notes",
    "/identifiers",
    "/owner",
    "/photos",
    "/relations",
    "/attributes",
];

fn with_organisations(world: &mut World) {
    world.settings.crm[0].priava.as_mut().expect("it is a Priava").organisations = true;
}

#[test]
fn a_life_of_an_organisation_in_priava_is_what_the_table_says() {
    let full = json!({
        "integrationSrc": "sim", "name": "Harbour Lane", "type": "household", "marketSector": "state",
        "email": "work@example.com", "emailOther": "home@example.com", "businessPhone": "+390236618300",
        "otherPhone": "+35799555012", "fax": "+442079460018", "debtorNumber": "D7", "inactive": false,
        "organisationAddress": {
            "addressLine1": "Kanal St 14", "addressLine2": "2", "addressLine3": "3", "suburb": "Guelph",
            "state": "ON", "postcode": "N1G 2W1", "country": "Canada",
        },
        "postalAddress": { "addressLine1": "PO Box 77", "country": "United Kingdom" },
        "otherAddress": { "addressLine1": "Pine St", "suburb": "London", "country": "United Kingdom" },
    });
    let changed = json!({
        "integrationSrc": "sim", "name": "Mill Lane", "type": "firm", "marketSector": "private",
        "email": "work.too@example.com", "emailOther": "home.too@example.com", "businessPhone": "+390236618311",
        "otherPhone": "+35799555077", "fax": "+442079460019", "debtorNumber": "D8", "inactive": false,
        "organisationAddress": {
            "addressLine1": "Quay Rd 15", "addressLine2": "4", "addressLine3": "5", "suburb": "Albany",
            "state": "NY", "postcode": "12207", "country": "United States",
        },
        "postalAddress": { "addressLine1": "PO Box 78", "country": "Switzerland" },
        "otherAddress": { "addressLine1": "Elm St", "suburb": "Bern", "country": "Switzerland" },
    });
    let least =
        json!({ "integrationSrc": "sim", "name": "Mill Lane", "email": "work.too@example.com", "inactive": false });
    let life = Life {
        tenant: TENANT,
        prepare: with_organisations,
        held,
        said: of_an_organization(),
        full,
        changed,
        least,
        deleted: Deleted::Stays(json!({ "inactive": true })),
        lost: LOST_OF_ORGANISATIONS.to_vec(),
    };
    life.comes_true();
}

/// One contact, said again and again.
struct One {
    scene: Scene,
    said: u64,
}

impl One {
    async fn begin() -> Self {
        let mut world = World::of(Setup { crms: TENANT, ..Setup::default() }).await;
        with_organisations(&mut world);
        Self { scene: Scene::begin(world).await, said: 0 }
    }

    /// What became of it.
    async fn says(&mut self, verb: &str, data: Option<Value>) -> Outcome {
        self.said += 1;
        let id = format!("e{}", self.said);
        self.scene.world.publish(vec![event("/shop", "1", &id, verb, self.said, data)]).await;
        let evidence = self.scene.settled().await;
        let is_its = |outcome: &&Outcome| outcome.event.as_ref().is_some_and(|event| event.id.as_deref() == Some(&*id));
        evidence.outcomes.iter().find(is_its).cloned().expect("all has ended")
    }

    /// Name and flag of all that Priava holds by calls about it, oldest first.
    fn held(&self) -> Vec<(String, Value)> {
        let shown = |contact: &Value| {
            let fields = &contact["fields"];
            let name = fields.get("name").or(fields.get("lastName")).and_then(Value::as_str);
            (name.unwrap_or_default().to_owned(), fields["inactive"].clone())
        };
        self.scene.world.sandbox.contacts().iter().map(shown).collect()
    }

    fn unknown_members(&self) -> Value {
        self.scene.world.sandbox.remarks()["unknownMembers"].clone()
    }
}

/// A contact that both a person and an organisation could be made of.
fn either(kind: &str) -> Value {
    json!({
        "kind": kind,
        "name": { "givenName": "Ilka", "familyName": "Sundstrom" },
        "emails": [{ "value": "ilka@example.com" }],
        "phoneNumbers": [{ "value": "+35799555012", "type": "work" }],
        "organization": { "name": "Harbour Lane" },
        "active": true,
    })
}

#[test]
fn a_contact_whose_kind_changes_is_made_anew_and_what_it_was_is_made_inactive_and_both_are_erased() {
    play(async {
        let mut one = One::begin().await;
        let held = |name: &str, inactive: bool| (name.to_owned(), json!(inactive));
        let end = one.says("contact.updated", Some(either("person"))).await;
        assert_eq!((end.outcome, end.operation), (OutcomeKind::Delivered, Some(Operation::Create)));
        let person = end.remote_id;
        let end = one.says("contact.updated", Some(either("organization"))).await;
        assert_eq!((end.outcome, end.operation), (OutcomeKind::Delivered, Some(Operation::Create)));
        assert_ne!(end.remote_id, person);
        assert_eq!(one.held(), [held("Sundstrom", true), held("Harbour Lane", false)]);
        let answer = one.scene.world.desk(0).explain(&Asked::About("/shop/1".to_owned())).await.expect("it is known");
        assert!(words::told(&answer).contains("it is there as: organisation"), "{}", words::told(&answer));

        let calls = one.scene.world.sandbox.calls();
        let end = one.says("contact.updated", Some(either("organization"))).await;
        assert_eq!(end.outcome, OutcomeKind::Unchanged);
        assert_eq!(one.scene.world.sandbox.calls(), calls);

        let end = one.says("contact.updated", Some(either("person"))).await;
        assert_eq!((end.outcome, end.remote_id), (OutcomeKind::Delivered, person));
        assert_eq!(one.held(), [held("Sundstrom", false), held("Harbour Lane", true)]);

        let end = one.says("contact.erased", None).await;
        assert_eq!((end.outcome, end.operation), (OutcomeKind::Delivered, Some(Operation::Blank)));
        assert_eq!(one.held(), [held("Erased", true), held("Erased", true)]);
        let left = json!(one.scene.world.sandbox.contacts()).to_string();
        assert!(!["Ilka", "ilka@", "99555012", "Harbour"].iter().any(|word| left.contains(word)), "{left}");
        assert_eq!(one.unknown_members(), json!({}), "each field is one that Priava has");
    });
}

#[test]
fn a_change_of_kind_that_would_leave_two_active_ends_as_unsupported_and_sends_nothing() {
    play(async {
        let mut one = One::begin().await;
        let mut organisation = either("organization");
        organisation.as_object_mut().expect("an object").remove("name");
        one.says("contact.updated", Some(either("person"))).await;
        let calls = one.scene.world.sandbox.calls();
        let end = one.says("contact.updated", Some(organisation)).await;
        let reason = end.reason.map(|reason| reason.code);
        assert_eq!((end.outcome, reason), (OutcomeKind::Unsupported, Some(ReasonCode::Kind)));
        assert_eq!(one.scene.world.sandbox.calls(), calls);
        // It is no dead end.
        let end = one.says("contact.updated", Some(either("organization"))).await;
        assert_eq!(end.outcome, OutcomeKind::Delivered);
    });
}

/// Whatever is lost on the way between the two calls, both come to be as they should.
#[test]
fn a_change_of_kind_whose_calls_are_lost_is_made_again() {
    for lost in 1..=2 {
        for instead in [Instead::ResetBefore, Instead::ResetAfter] {
            play(async {
                let mut one = One::begin().await;
                one.says("contact.updated", Some(either("person"))).await;
                one.scene.world.set_faults(FaultPlan::at(lost, instead));
                let end = one.says("contact.updated", Some(either("organization"))).await;
                assert_eq!((end.outcome, end.attempts), (OutcomeKind::Delivered, 2));
                let held = [("Sundstrom".to_owned(), json!(true)), ("Harbour Lane".to_owned(), json!(false))];
                assert_eq!(one.held(), held);
            });
        }
    }
}

/// Two workers, and calls whose answers are lost: each contact is there once, as what it is.
#[test]
fn persons_and_organisations_come_through_side_by_side() {
    play(async {
        let mut world = World::of(Setup { crms: TENANT, workers: 2, ..Setup::default() }).await;
        with_organisations(&mut world);
        let mut scene = Scene::begin(world).await;
        scene.ready(0).await;
        scene.ready(1).await;
        let lost = [4, 9, 14].map(|call| Scripted::at(call, Instead::ResetAfter));
        scene.world.set_faults(FaultPlan { script: lost.into(), ..FaultPlan::default() });
        for round in 1..=2 {
            let say = |number: u64| {
                let mut said = either(if number.is_multiple_of(2) { "person" } else { "organization" });
                said["emails"][0]["value"] = json!(format!("s{number}@example.com"));
                said["phoneNumbers"][0]["value"] = json!(format!("+3579955{number:04}"));
                said["organization"]["name"] = json!(format!("Lane {number} of {round}"));
                let subject = format!("s{number}");
                event("/shop", &subject, &format!("{subject}-{round}"), "contact.updated", round, Some(said))
            };
            scene.world.publish((0..20).map(say).collect()).await;
            scene.settled().await;
        }
        scene.settled_as_promised(0).await;
        let contacts = scene.world.sandbox.contacts();
        let organisations = contacts.iter().filter(|contact| contact["fields"].get("businessPhone").is_some()).count();
        assert_eq!((contacts.len(), organisations), (20, 10));
    });
}

#[test]
fn an_organisation_that_priava_refuses_is_rejected_and_a_right_that_is_missing_pauses_it() {
    play(async {
        let mut one = One::begin().await;
        let refused = |status: u16| Instead::Status {
            status,
            headers: Default::default(),
            body: r#"{"error":"validation_error","error_description":"Harbour Lane"}"#.to_owned(),
            effect: false,
        };
        one.scene.world.set_faults(FaultPlan::at(1, refused(400)));
        let end = one.says("contact.updated", Some(either("organization"))).await;
        let reason = end.reason.expect("it says why");
        assert_eq!((end.outcome, reason.code), (OutcomeKind::Rejected, ReasonCode::InvalidField));
        assert_eq!(reason.crm_code.as_deref(), Some("validation_error"));
        one.scene.world.set_faults(FaultPlan::at(1, refused(403)));
        let mut other = either("organization");
        other["organization"]["name"] = json!("Mill Lane");
        let end = one.says("contact.updated", Some(other)).await;
        assert_eq!((end.outcome, end.attempts), (OutcomeKind::Delivered, 1), "a pause uses up no try");
        assert_eq!(one.held(), [("Mill Lane".to_owned(), json!(false))]);
        let calls = one.scene.world.sandbox.requests();
        assert_eq!(calls.iter().map(|call| call.status).collect::<Vec<_>>(), [400, 403, 200].map(Some));
        assert!(calls.iter().all(|call| call.path == "/api/rest/v1/crm/organisations"));
    });
}
