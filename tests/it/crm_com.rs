//! Photos all the way to CRM.COM, and what the other tests of it share. A life with every field that the mapping table has
//! is in `lifecycle`.

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

/// What CRM.COM holds that has a value: ids, removed entries, and what it makes itself apart.
pub(crate) fn held_of(contact: Value) -> Value {
    let mut fields = contact["fields"].clone();
    let members = fields.as_object_mut().expect("a contact is an object");
    for made in ["id", "name", "life_cycle_state", "organizational_unit"] {
        members.remove(made);
    }
    if members.get("type") == Some(&json!("PERSON")) {
        // There it repeats what the demographics say.
        members.remove("company_profile");
    }
    for set in ["addresses_set", "phones_set", "emails_set", "relation_set"] {
        let entries = members.get_mut(set).and_then(Value::as_array_mut).expect("a set is a list");
        entries.retain(|entry| entry["state"] != "Inactive");
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
