//! A person and a company all the way to CRM.COM: created, changed, emptied, deleted and back again, with every field that
//! the mapping table has, and each time CRM.COM holds what the table says.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use contact_replicator::{
    config::{CrmComSettings, CrmKind},
    explain::Asked,
    resync::{self, Order, What},
};
use serde_json::{Value, json};

use crate::{
    history::event,
    scene::{Scene, play},
    world::{Setup, Tenant, World, operator},
};

const ONE: &[Tenant] = &[Tenant { name: "crm-com", kind: CrmKind::CrmCom }];

pub(crate) fn table<const N: usize>(rows: [(&str, &str); N]) -> BTreeMap<String, String> {
    rows.into_iter().map(|(ours, theirs)| (ours.to_owned(), theirs.to_owned())).collect()
}

pub(crate) fn configured(settings: &mut CrmComSettings) {
    settings.source_slot = "udf_string_15".to_owned();
    settings.user_defined = table([
        ("/active", "udf_string_1"),
        ("/organization/department", "udf_string_2"),
        ("/organization/title", "udf_string_3"),
        ("/consent/dataProcessing", "udf_string_4"),
        ("/attributes/shoe", "udf_float_1"),
        ("/attributes/since", "udf_date_1"),
        ("/identifiers/customer_no", "udf_string_5"),
    ]);
    settings.categories = table([("household", "Residential"), ("firm", "Business")]);
    settings.groups = table([("hq", "Head office")]);
    settings.industries = table([("shops", "Retail")]);
    settings.industry_sectors = table([("state", "Public")]);
    settings.privacy_levels = table([("high", "3")]);
}

async fn scene() -> Scene {
    let mut world = World::of(Setup { crms: ONE, ..Setup::default() }).await;
    configured(world.settings.crm[0].crm_com.as_mut().expect("it is a CRM.COM"));
    Scene::begin_with(world, &[0]).await
}

/// Says `data` of the one subject, or that it is gone.
async fn say(scene: &Scene, data: Option<Value>) {
    static SEQUENCE: AtomicU64 = AtomicU64::new(1);
    let sequence = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    let verb = if data.is_some() { "contact.updated" } else { "contact.deleted" };
    scene.world.publish(vec![event("/shop", "1", &format!("e{sequence}"), verb, sequence, data)]).await;
}

fn held(world: &World) -> Vec<Value> {
    world.sandbox.contacts().into_iter().map(held_of).collect()
}

/// What CRM.COM holds that has a value: ids, removed entries, and what it makes itself apart.
pub(crate) fn held_of(contact: Value) -> Value {
    let mut fields = contact["fields"].clone();
    let members = fields.as_object_mut().expect("a contact is an object");
    for made in ["id", "name", "life_cycle_state"] {
        members.remove(made);
    }
    for set in ["addresses_set", "phones_set", "emails_set", "relation_set"] {
        let entries = members.get_mut(set).and_then(Value::as_array_mut).expect("a set is a list");
        entries.retain(|entry| entry["state"] == "Active");
        for entry in entries.iter_mut().filter_map(Value::as_object_mut) {
            ["id", "state", "area_code", "full_number"].iter().for_each(|made| drop(entry.remove(*made)));
        }
        entries.sort_by_key(|entry| entry["type"].to_string());
    }
    named(&mut fields);
    without_nothing(fields).unwrap_or_default()
}

/// What refers to a list, by its name alone.
fn named(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                let is_reference =
                    ["country", "category", "owned_by_group", "privacy_level", "industry", "industry_sector"]
                        .contains(&name.as_str());
                if is_reference && member.is_object() {
                    *member = member["name"].clone();
                } else {
                    named(member);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(named),
        _ => {}
    }
}

fn without_nothing(value: Value) -> Option<Value> {
    match value {
        Value::Null => None,
        Value::Object(members) => {
            let members: serde_json::Map<_, _> =
                members.into_iter().filter_map(|(name, value)| Some((name, without_nothing(value)?))).collect();
            (!members.is_empty()).then_some(Value::Object(members))
        }
        Value::Array(items) => (!items.is_empty()).then(|| items.into_iter().filter_map(without_nothing).collect()),
        value => Some(value),
    }
}

/// Waits until the newest contact in CRM.COM is this, beside our reference.
async fn has(scene: &Scene, what: &'static str, expected: &Value) {
    let reference = |held: &mut Value| {
        let members = held.as_object_mut().expect("a contact is an object");
        let reference = members.remove("udf_string_16").expect("it carries our reference");
        assert_eq!(members.remove("udf_string_15"), Some(json!("sim")));
        assert_eq!(reference.as_str().map(str::len), Some(36));
    };
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(120);
    loop {
        let mut held = held(&scene.world);
        // Who comes back after a deletion is somebody new, beside the one that CRM.COM cannot delete.
        if let Some(one) = held.last_mut() {
            reference(one);
            if one == expected {
                return;
            }
        }
        let late = tokio::time::Instant::now() > deadline;
        assert!(!late, "{what}: it has {held:#?}\nand should have {expected:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

fn with(mut value: Value, more: Value) -> Value {
    let (Value::Object(members), Value::Object(more)) = (&mut value, more) else { panic!("objects") };
    members.extend(more);
    value
}

#[test]
fn a_person_is_in_crm_com_what_the_table_says() {
    play(async {
        let scene = scene().await;
        let full = json!({
            "kind": "person",
            "name": { "honorificPrefix": "Ms", "givenName": "Ilka", "middleName": "Vera", "familyName": "Sundstrom" },
            "emails": [
                { "value": "work@example.com", "type": "work", "primary": true }, { "value": "home@example.com", "type": "home" },
                { "value": "more@example.com", "type": "work" },
            ],
            "phoneNumbers": [
                { "value": "+35799555012", "type": "mobile" }, { "value": "+39 02 3661 8300", "type": "work" },
                { "value": "+442079460018", "type": "fax" }, { "value": "+14165550123", "type": "other" },
            ],
            "addresses": [
                {
                    "type": "work", "streetAddress": "Limassol Ave", "streetNumber": "14", "apartment": "3", "floor": "2",
                    "poBox": "88", "locality": "Nicosia", "district": "Centre", "region": "Lefkosia", "postalCode": "2003",
                    "country": "CY",
                },
                { "type": "home", "streetAddress": "Pine St", "locality": "Larnaca" },
                { "type": "postal", "poBox": "77", "country": "GB" },
            ],
            "organization": {
                "department": "Sales", "title": "Lead", "type": "household", "marketSector": "state", "industry": "shops",
            },
            "birthDate": "1988-09-03", "gender": "female", "preferredLanguage": "sv", "notes": "Family", "owner": "hq",
            "consent": { "marketing": true, "dataProcessing": false }, "active": true,
            "identifiers": { "id_number": "I7", "passport": "P7", "ssn": "S7", "customer_no": "K7" },
            "attributes": {
                "shoe": 44, "since": "2020-02-29", "privacyLevel": "high", "sendAffiliateMarketingMaterial": false,
            },
        });
        let stored = json!({
            "type": "PERSON", "title": "Ms", "first_name": "Ilka", "middle_name": "Vera", "last_name": "Sundstrom",
            "preferred_language": "SWE", "category": "Residential", "owned_by_group": "Head office",
            "privacy_level": "Level 3", "notes": "contact-replicator 1/1/2026 9:00:00 Family",
            "authorization_settings":
                { "send_direct_marketing_material": true, "send_affiliate_marketing_material": false },
            "udf_string_1": "true", "udf_string_2": "Sales", "udf_string_3": "Lead", "udf_string_4": "false",
            "udf_string_5": "K7", "udf_float_1": 44, "udf_date_1": "2020-02-29T00:00:00",
            "demographics": {
                "gender": "FEMALE", "id_number": "I7", "passport_number": "P7", "social_security_number": "S7",
                "date_of_birth": { "day": 3, "month": 9, "year": 1988 }, "industry": "Retail", "industry_sector": "Public",
            },
            "emails_set": [
                { "type": "BUSINESS", "email": "work@example.com" }, { "type": "CUSTOM1", "email": "more@example.com" },
                { "type": "PERSONAL", "email": "home@example.com" },
            ],
            "phones_set": [
                { "type": "CUSTOM1", "number": "4165550123", "country": "Canada" },
                { "type": "FAX", "number": "2079460018", "country": "United Kingdom" },
                { "type": "LANDLINE", "number": "0236618300", "country": "Italy" },
                { "type": "MOBILE", "number": "99555012", "country": "Cyprus" },
            ],
            "addresses_set": [
                {
                    "type": "BUSINESS", "street_name": "Limassol Ave", "street_number": "14", "apartment_number": "3",
                    "floor": 2, "po_box": "88", "town_city": "Nicosia", "district": "Centre", "municipality": "Lefkosia",
                    "postal_code": "2003", "country": "Cyprus",
                },
                { "type": "HOME", "street_name": "Pine St", "town_city": "Larnaca" },
                { "type": "POBOX", "street_name": "PO Box 77", "po_box": "77", "country": "United Kingdom" },
            ],
        });
        say(&scene, Some(full.clone())).await;
        has(&scene, "created", &stored).await;

        let mut changed = full.clone();
        changed["name"]["givenName"] = json!("Ilse");
        changed["emails"] = json!([{ "value": "new@example.com", "type": "work" }]);
        changed["phoneNumbers"][0]["value"] = json!("+35799555077");
        changed["addresses"][0]["streetNumber"] = json!("15");
        changed["addresses"][0].as_object_mut().expect("an address").remove("floor");
        changed["attributes"]["shoe"] = json!(45.5);
        say(&scene, Some(changed)).await;
        let mut changed = stored.clone();
        changed["first_name"] = json!("Ilse");
        changed["emails_set"] = json!([{ "type": "BUSINESS", "email": "new@example.com" }]);
        changed["phones_set"][3]["number"] = json!("99555077");
        changed["addresses_set"][0]["street_number"] = json!("15");
        changed["addresses_set"][0].as_object_mut().expect("an address").remove("floor");
        changed["udf_float_1"] = json!(45.5);
        has(&scene, "changed", &changed).await;

        let name = json!({ "honorificPrefix": null, "givenName": "Ilse", "familyName": "Sundstrom" });
        let bare = json!({ "name": name, "emails": [], "phoneNumbers": null, "notes": null, "active": true });
        say(&scene, Some(bare)).await;
        let bare = json!({
            "type": "PERSON", "first_name": "Ilse", "last_name": "Sundstrom", "udf_string_1": "true",
        });
        has(&scene, "emptied", &bare).await;

        say(&scene, None).await;
        has(&scene, "deleted", &with(bare, json!({ "udf_string_1": "false" }))).await;

        say(&scene, Some(full)).await;
        has(&scene, "back again", &stored).await;
    });
}

#[test]
fn a_company_is_in_crm_com_what_the_table_says() {
    play(async {
        let scene = scene().await;
        let full = json!({
            "kind": "organization",
            "organization": {
                "name": "Acme", "registrationNumber": "HE1", "vatNumber": "CY1", "type": "firm", "marketSector": "state",
                "industry": "shops",
            },
            "preferredLanguage": "el",
        });
        let stored = json!({
            "type": "COMPANY", "company_name": "Acme", "category": "Business", "preferred_language": "ELL",
            "company_profile": {
                "registration_number": "HE1", "vat_registration_number": "CY1", "industry": "Retail",
                "industry_sector": "Public",
            },
        });
        say(&scene, Some(full.clone())).await;
        has(&scene, "created", &stored).await;
        let mut changed = full;
        changed["organization"] = json!({ "name": "Acme Ltd", "vatNumber": "CY2" });
        say(&scene, Some(changed)).await;
        let changed = json!({
            "type": "COMPANY", "company_name": "Acme Ltd", "preferred_language": "ELL",
            "company_profile": { "vat_registration_number": "CY2" },
        });
        has(&scene, "changed", &changed).await;
    });
}

#[test]
fn a_photo_is_set_changed_and_taken_away_and_a_resync_repeats_none() {
    play(async {
        let mut scene = scene().await;
        let with_photo = |picture: Option<&[u8]>, notes: &str| {
            let photos = picture.map(|picture| {
                let url = format!("data:image/gif;base64,{}", STANDARD.encode(picture));
                json!([{ "value": url, "type": "photo" }])
            });
            let mut contact = json!({ "name": { "givenName": "Ilka", "familyName": "Sundstrom" }, "notes": notes });
            contact.as_object_mut().expect("an object").extend(photos.map(|photos| ("photos".to_owned(), photos)));
            contact
        };
        let photo =
            |world: &World| world.sandbox.contacts().last().map(|contact| contact["photo"]["file_name"].clone());
        let is_there = |world: &World| photo(world).is_some_and(|name| name.is_string());
        let calls = |world: &World, end: &str| {
            world.sandbox.requests().iter().filter(|request| request.path.ends_with(end)).count()
        };
        let counts =
            |world: &World| ["/profile_photo/add", "/profile_photo/remove", "/create"].map(|end| calls(world, end));
        say(&scene, Some(with_photo(Some(b"GIF89a red"), "one"))).await;
        scene.until("a photo", is_there).await;
        scene.settled().await;
        let red = photo(&scene.world);
        say(&scene, Some(with_photo(Some(b"GIF89a red"), "two"))).await;
        scene.settled().await;
        assert_eq!(counts(&scene.world), [1, 0, 1], "the same photo is not sent again");
        let contact = scene.world.sandbox.contacts()[0]["reference"].as_str().expect("our reference").to_owned();
        let order = Order { crm: "crm-com".to_owned(), what: What::Contacts(vec![Asked::About(contact)]) };
        resync::obey(scene.world.desk(0), &order, &operator()).await.expect("the worker takes it");
        scene.until("a look at the photo", |world| calls(world, "/profile_photo/view") > 0).await;
        scene.settled().await;
        assert_eq!(
            (photo(&scene.world), counts(&scene.world)),
            (red.clone(), [1, 0, 1]),
            "a resync looks and sends none"
        );
        say(&scene, Some(with_photo(Some(b"GIF89a blue"), "two"))).await;
        scene.until("another photo", |world| photo(world) != red).await;
        say(&scene, Some(with_photo(None, "two"))).await;
        scene.until("no photo", |world| !is_there(world)).await;
        scene.settled().await;
        assert_eq!(counts(&scene.world), [2, 1, 1]);
    });
}
