//! LogiSense, section 8 of its contract, under the settings' defaults: who is deleted is gone.

use contact_replicator::config::{CrmKind, OnDelete};
use serde_json::json;

use super::{Deleted, Life, lost_of_organization, of_a_person, of_an_organization};
use crate::{
    logisense::held_of,
    world::{Tenant, World},
};

const TENANT: &[Tenant] = &[Tenant { name: "billing", kind: CrmKind::Logisense }];

/// What stands beside the names of a person, labels that share a type of contact points, further addresses, and all
/// that belongs to the account.
const LOST: &[&str] = &[
    "/name/middleName",
    "/name/honorificSuffix",
    "/name/formatted",
    "/emails/type",
    "/emails/primary",
    "/phoneNumbers/type",
    "/phoneNumbers/primary",
    "/addresses",
    "/addresses/type",
    "/addresses/primary",
    "/organization/name",
    "/organization/department",
    "/organization/title",
    "/organization/registrationNumber",
    "/organization/vatNumber",
    "/organization/type",
    "/organization/marketSector",
    "/organization/industry",
    "/birthDate",
    "/gender",
    "/preferredLanguage",
    "/notes",
    "/consent/marketing",
    "/consent/dataProcessing",
    "/identifiers",
    "/owner",
    "/photos",
    "/relations",
    "/attributes",
];

fn life() -> Life {
    let full = json!({
        "own": [20, "Ms", "Ilka", "Sundstrom"],
        "points": [
            "email home@example.com", "email other@example.com", "email work@example.com", "fax +442079460018",
            "mobile +35799555012", "phone +14165550123", "phone +390236618300",
        ],
        "address": ["14 Kanal St", "2, 3, PO Box 88, Ward", "Guelph", 9, 2, "N1G 2W1", 43.5, -80.25],
        "tax": false,
    });
    let changed = json!({
        "own": [20, "Dr", "Ilse", "Vale"],
        "points": [
            "email home.too@example.com", "email other.too@example.com", "email work.too@example.com",
            "fax +442079460019", "mobile +35799555077", "phone +14165550124", "phone +390236618311",
        ],
        "address": ["15 Quay Rd", "4, 5, PO Box 89, North", "Albany", 6, 1, "12207", 42.625, -73.75],
        "tax": false,
    });
    let nothing = json!([null, null, null, null, null, null, null, null]);
    let least = json!({
        "own": [20, null, "Ilse", "Vale"], "points": ["email work.too@example.com"], "address": nothing, "tax": false,
    });
    Life {
        tenant: TENANT,
        prepare: |world| world.settings.crm[0].on_delete = OnDelete::Delete,
        held: |contact| held_of(contact).expect("a contact is whole"),
        said: of_a_person(),
        full,
        changed,
        least,
        deleted: Deleted::Gone,
        lost: LOST.to_vec(),
    }
}

#[test]
fn a_life_in_logisense_is_what_the_table_says() {
    life().comes_true();
}

#[test]
fn an_organization_in_logisense_is_what_the_table_says_where_it_has_a_type() {
    let mut life = life();
    for (held, name) in
        [(&mut life.full, "Harbour Lane"), (&mut life.changed, "Mill Lane"), (&mut life.least, "Mill Lane")]
    {
        held["own"] = json!([22, null, null, name]);
        held["points"]
            .as_array_mut()
            .expect("it is a list")
            .retain(|point| point.as_str().is_some_and(|point| !point.starts_with("mobile")));
    }
    let mut said = of_an_organization();
    // It would name the type of a person.
    for said in &mut said {
        said.pointer_mut("/attributes").and_then(|attributes| attributes.as_object_mut()?.remove("contact_type"));
    }
    let prepare = |world: &mut World| {
        let crm = &mut world.settings.crm[0];
        crm.on_delete = OnDelete::Delete;
        crm.logisense.as_mut().expect("it is a LogiSense").organization_contact_type = "Company".to_owned();
    };
    // As of a person, with the name of the organization in place of a person's. The tenant's companies have no mobile
    // telephones.
    let lost = lost_of_organization(LOST, &["/phoneNumbers/value"], &["/organization/name"]);
    Life { said, prepare, lost, ..life }.comes_true();
}
