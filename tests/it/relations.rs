//! Contacts that name each other: none waits for the other, and in the end each CRM holds what they are to each other,
//! whoever came first and whoever owns the other's partition.

use contact_replicator::config::CrmKind;
use serde_json::{Value, json};

use crate::{
    history::event,
    scene::{Scene, play},
    world::{Setup, Tenant, World},
};

pub(crate) const CRM_COM: &[Tenant] = &[Tenant { name: "crm-com", kind: CrmKind::CrmCom }];
pub(crate) const PREVISTO: &[Tenant] = &[Tenant { name: "previsto", kind: CrmKind::Previsto }];

/// A person, and whom it names as this; without a source, of the same one.
fn person(subject: &str, relation: Option<(&str, &str)>) -> Value {
    let mut person = json!({
        "name": { "givenName": "Ilka", "familyName": format!("F{subject}") },
        "emails": [{ "value": format!("{subject}@example.com"), "type": "work" }],
    });
    if let Some((of_type, other)) = relation {
        person["relations"] = json!([{ "type": of_type, "subject": other }]);
    }
    person
}

async fn say(scene: &Scene, subject: &str, sequence: u64, data: Value) {
    let id = format!("{subject}-{sequence}");
    scene.world.publish(vec![event("/shop", subject, &id, "contact.updated", sequence, Some(data))]).await;
}

/// What the CRM holds of a subject.
pub(crate) fn held(world: &World, subject: &str) -> Option<Value> {
    let contacts = world.sandbox.contacts().into_iter();
    let fields = |contact: Value| if contact["fields"].is_object() { contact["fields"].clone() } else { contact };
    let is_it = |contact: &Value| {
        let family = format!("F{subject}");
        contact["last_name"] == family.as_str() || contact["name"].as_str().is_some_and(|name| name.ends_with(&family))
    };
    contacts.map(fields).find(is_it)
}

/// Whom the CRM takes a subject to be related to: the other's ids.
pub(crate) fn others(world: &World, subject: &str) -> Vec<Value> {
    let Some(contact) = held(world, subject) else { return Vec::new() };
    match contact.get("relation_set").and_then(Value::as_array) {
        Some(relations) => relations.iter().map(|relation| relation["contact"]["id"].clone()).collect(),
        None => [contact["payingContactId"].clone()].into_iter().filter(|id| !id.is_null()).collect(),
    }
}

fn id(world: &World, subject: &str) -> Value {
    held(world, subject).map_or(Value::Null, |contact| contact["id"].clone())
}

pub(crate) fn is_related(world: &World, subject: &str, other: &str) -> bool {
    others(world, subject) == [id(world, other)] && !id(world, other).is_null()
}

/// Relations to whoever is there, comes later, goes, and is replaced.
fn relations_follow(crms: &'static [Tenant], of_type: &'static str, workers: usize) {
    play(async move {
        let mut world = World::of(Setup { crms, workers, ..Setup::default() }).await;
        for crm in &mut world.settings.crm {
            crm.delivery.parked_delay = std::time::Duration::from_secs(5);
        }
        let mut scene = Scene::begin(world).await;
        // The first names the second, which is not there; the third names the first, which may be.
        say(&scene, "one", 1, person("one", Some((of_type, "two")))).await;
        say(&scene, "three", 1, person("three", Some((of_type, "one")))).await;
        scene.settled().await;
        assert!(held(&scene.world, "one").is_some(), "nobody waits for anybody");
        assert!(others(&scene.world, "one").is_empty());
        scene.until("the third is related", |world| is_related(world, "three", "one")).await;
        let waiting = format!(r#"contacts_waiting_for_others{{crm="{}"}}"#, crms[0].name);
        scene.until("it is counted", |world| counted(world, &waiting, workers) == 1.0).await;

        say(&scene, "two", 1, person("two", None)).await;
        scene.until("the first is related", |world| is_related(world, "one", "two")).await;
        scene.until("nobody waits", |world| counted(world, &waiting, workers) == 0.0).await;

        say(&scene, "one", 2, person("one", Some((of_type, "three")))).await;
        scene.until("the first is related to another", |world| is_related(world, "one", "three")).await;
        say(&scene, "one", 3, person("one", None)).await;
        scene.until("the first is nothing to anybody", |world| others(world, "one").is_empty()).await;
        scene.settled().await;
        assert_eq!(scene.world.sandbox.contacts().len(), 3);
    });
}

fn counted(world: &World, series: &str, workers: usize) -> f64 {
    (0..workers).map(|worker| world.metric(worker, series)).sum()
}

#[test]
fn relations_in_crm_com_are_there_in_the_end() {
    relations_follow(CRM_COM, "employer", 1);
}

#[test]
fn relations_reach_over_the_partitions_of_two_workers() {
    relations_follow(CRM_COM, "friend", 2);
}

#[test]
fn whoever_pays_is_in_previsto_in_the_end() {
    relations_follow(PREVISTO, "pays", 2);
}
