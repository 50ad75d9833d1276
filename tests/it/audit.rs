//! The audit trail: each action of an operator is told of once, with who, what and why, and no action without it.

use std::time::Duration;

use contact_replicator::{
    audit::Operator,
    config::TopicNames,
    contact::ContactId,
    event::audit::Authentication,
    explain::Asked,
    links::{self, To},
    log::{Log, TopicPartition},
    resync::{self, Order, What},
};
use serde_json::Value;

use crate::{
    scene::{Scene, change, play},
    world::{CRM, World, operator},
};

/// What the trail tells, oldest first, as data.
pub(crate) async fn trail(world: &World) -> Vec<Value> {
    let topic = TopicNames::new(&world.settings.topics.prefix).audit;
    let at = TopicPartition::new(topic, 0);
    let mut follower = world.log.follower().await.expect("the log in memory is there");
    follower.assign(at.clone(), 0).await.expect("nothing was deleted yet");
    let end = world.log.watermarks(&at).await.expect("the worker created it").high;
    let (mut records, mut position) = (Vec::new(), 0);
    while position < end {
        let progress = follower.poll(1_000, Duration::from_secs(1)).await.expect("the follower reads on");
        records.extend(progress.records);
        position = progress.positions.last().map_or(position, |(_, position)| *position);
    }
    records.iter().map(|record| serde_json::from_slice(record.value.as_ref().expect("data")).expect("JSON")).collect()
}

async fn ask(world: &World, what: What) -> bool {
    resync::obey(world.desk(0), &Order { crm: CRM.to_owned(), what }, &operator()).await.is_ok()
}

#[test]
fn each_action_is_told_of_with_who_what_and_why() {
    play(async {
        let mut scene = Scene::with_workers(1).await;
        scene.ready(0).await;
        scene.world.publish(vec![change("s1", 1, "Secret-Canary")]).await;
        scene.settled().await;
        let about = || Asked::About("/shop/s1".to_owned());
        let world = &scene.world;
        assert!(ask(world, What::Contacts(vec![about()])).await);
        assert!(ask(world, What::Repair(vec![about()])).await);
        assert!(ask(world, What::All { restart: false }).await);
        assert!(ask(world, What::All { restart: true }).await);
        assert!(ask(world, What::Stop).await);
        let set = links::What::Set { contact: about(), to: To::New };
        let order = links::Order { crm: CRM.to_owned(), what: set };
        links::obey(world.desk(0), &order, &operator()).await.expect("the worker takes it");
        // Who only looks, or asks in vain, does nothing.
        assert!(ask(world, What::Status).await);
        assert!(ask(world, What::Contacts(vec![Asked::About("/shop/nobody".to_owned())])).await);
        let nameless = Operator::new(None, None, Authentication::Loopback, [127, 0, 0, 1].into()).expect("nothing");
        let order = Order { crm: CRM.to_owned(), what: What::Contacts(vec![about()]) };
        assert!(resync::obey(world.desk(0), &order, &nameless).await.is_err());

        let told = trail(world).await;
        let actions: Vec<&str> = told.iter().filter_map(|deed| deed["action"].as_str()).collect();
        assert_eq!(
            actions,
            ["resync_contacts", "repair", "resync_start", "resync_restart", "resync_stop", "links_set"]
        );
        for deed in &told {
            assert_eq!((&deed["by"], &deed["reason"]), (&"ann".into(), &"a test".into()));
            assert_eq!((&deed["authenticated"], &deed["peer"]), (&"loopback".into(), &"127.0.0.1".into()));
            assert_eq!((&deed["target"]["crm"], &deed["worker"]), (&CRM.into(), &"w0".into()));
            assert!(deed["target"]["cause"].is_string(), "{deed}");
            assert!(!deed.to_string().contains("Canary") && !deed.to_string().contains("/shop"), "{deed}");
        }
        let contact: Result<ContactId, _> = serde_json::from_value(told[0]["target"]["contact_ids"][0].clone());
        assert!(contact.is_ok(), "{}", told[0]);
        scene.world.kill(0).await;
    });
}
