//! A contact with everything that can be said goes through the whole pipeline to a LogiSense: it is made, changed, emptied,
//! deleted and made again, and what is there is what the table of fields says.

use contact_replicator::{
    config::{CrmKind, OnDelete},
    sandbox::Action,
};
use serde_json::{Value, json};

use crate::{
    history::event,
    scene::{Scene, play},
    world::{Setup, Tenant, World},
};

const BILLING: &[Tenant] = &[Tenant { name: "billing", kind: CrmKind::Logisense }];

fn everything() -> Value {
    json!({
        "kind": "person",
        "name": {
            "honorificPrefix": "Ms.", "givenName": "Ilka", "middleName": "Maj", "familyName": "Sundstrom",
            "honorificSuffix": "PhD", "formatted": "Ilka Maj Sundstrom",
        },
        "emails": [
            { "value": "ilka@example.com", "type": "work", "primary": true },
            { "value": "ilka@example.org", "type": "home" },
        ],
        "phoneNumbers": [
            { "value": "+1 519 555 0111", "type": "mobile", "primary": true },
            { "value": "+1 519 555 0112", "type": "work" },
            { "value": "+1 519 555 0113", "type": "home" },
            { "value": "+1 519 555 0114", "type": "fax" },
        ],
        "addresses": [{
            "type": "work", "streetAddress": "Kanal St", "streetNumber": "14", "apartment": "2", "floor": "3",
            "poBox": "88", "locality": "Guelph", "district": "Ward", "region": "ON", "postalCode": "N1G 2W1",
            "country": "CA", "geo": { "longitude": -80.25, "latitude": 43.5 }, "primary": true,
        }],
        "organization": {
            "name": "Harbour", "department": "d", "title": "t", "registrationNumber": "1", "vatNumber": "2",
            "type": "x", "marketSector": "y", "industry": "z",
        },
        "birthDate": "1990-01-31", "gender": "female", "preferredLanguage": "en-CA", "notes": "n",
        "consent": { "marketing": false, "dataProcessing": true }, "active": false, "owner": "o",
        "identifiers": { "crm": "7" }, "attributes": { "shoe": 44 },
        "relations": [{ "type": "spouse", "source": "/shop", "subject": "2", "notes": "n" }],
    })
}

fn held(world: &World) -> Option<Value> {
    let contacts = world.sandbox.contacts();
    assert!(contacts.len() <= 1, "nobody is there twice");
    held_of(contacts.first()?)
}

/// What is held of a contact, by the names of the table: fields, points by type, and the address.
pub(crate) fn held_of(contact: &Value) -> Option<Value> {
    let fields = &contact["fields"];
    let points = fields["details"]["contactPoints"].as_array()?.iter();
    let mut points: Vec<String> = points
        .map(|point| {
            let text = |name: &str| point[name].as_str().expect("a contact point has a type and a value");
            format!("{} {}", text("contactPointTypeName"), text("value"))
        })
        .collect();
    points.sort_unstable();
    let address = &fields["details"]["address"];
    let address: Vec<&Value> =
        ["address1", "address2", "cityName", "stateId", "countryId", "zipCode", "latitude", "longitude"]
            .iter()
            .map(|member| &address[*member])
            .collect();
    let own = [&fields["contactTypeId"], &fields["title"], &fields["firstName"], &fields["lastName"]];
    Some(json!({ "own": own, "points": points, "address": address, "tax": fields["isUsedForTax"] }))
}

#[test]
fn a_contact_is_made_changed_emptied_deleted_and_made_again() {
    play(async {
        let mut world = World::of(Setup { crms: BILLING, ..Setup::default() }).await;
        world.settings.crm[0].on_delete = OnDelete::Delete;
        let scene = Scene::begin(world).await;
        let say = async |version: u64, verb: &str, said: Option<Value>| {
            let id = format!("p-{version}");
            scene.world.publish(vec![event("/shop", "p", &id, verb, version, said)]).await;
        };
        let full = json!({
            "own": [20, "Ms.", "Ilka", "Sundstrom"],
            "points": [
                "email ilka@example.com", "email ilka@example.org", "fax +1 519 555 0114", "mobile +1 519 555 0111",
                "phone +1 519 555 0112", "phone +1 519 555 0113",
            ],
            "address": ["14 Kanal St", "2, 3, PO Box 88, Ward", "Guelph", 9, 2, "N1G 2W1", 43.5, -80.25],
            "tax": false,
        });
        say(1, "contact.updated", Some(everything())).await;
        scene.until("the whole contact", |world| held(world).as_ref() == Some(&full)).await;
        let creates =
            |world: &World| world.sandbox.requests().iter().filter(|request| request.action == Action::Create).count();
        assert_eq!(creates(&scene.world), 1);

        let mut other = everything();
        other["name"]["familyName"] = json!("Vale");
        other["emails"] = json!([{ "value": "vale@example.com" }]);
        other["phoneNumbers"] = json!([{ "value": "+1 519 555 0199", "type": "mobile" }]);
        other["addresses"][0]["postalCode"] = json!("X");
        let changed = json!({
            "own": [20, "Ms.", "Ilka", "Vale"], "points": ["email vale@example.com", "mobile +1 519 555 0199"],
            "address": ["14 Kanal St", "2, 3, PO Box 88, Ward", "Guelph", 9, 2, "X", 43.5, -80.25], "tax": false,
        });
        say(2, "contact.updated", Some(other)).await;
        scene.until("the changed contact", |world| held(world).as_ref() == Some(&changed)).await;

        say(3, "contact.updated", Some(json!({ "name": { "familyName": "Vale" } }))).await;
        let nothing = json!([null, null, null, null, null, null, null, null]);
        let empty = json!({ "own": [20, null, null, "Vale"], "points": [], "address": nothing, "tax": false });
        scene.until("the emptied contact", |world| held(world).as_ref() == Some(&empty)).await;

        say(4, "contact.deleted", None).await;
        scene.until("nobody", |world| world.sandbox.contacts().is_empty()).await;

        say(5, "contact.updated", Some(everything())).await;
        scene.until("the contact once more", |world| held(world).as_ref() == Some(&full)).await;
        assert_eq!(creates(&scene.world), 2);
        let lost = scene.world.metrics(0);
        let lost = |field: &str| lost.contains(&format!("field=\"{field}\""));
        assert!(lost("/active") && lost("/consent/marketing") && lost("/name/middleName") && lost("/notes"));
    });
}
