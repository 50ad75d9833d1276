//! What goes on while a worker goes, and what the owners of the input do to it.

use std::{collections::BTreeMap, time::Duration};

use contact_replicator::{
    event::OutcomeKind,
    log::{Log, TopicPartition},
};
use serde_json::json;

use crate::{
    history::event,
    scene::{Scene, change, person, play},
    world::{INPUT, PARTITIONS, World, input_of},
};

fn active(world: &World) -> Vec<usize> {
    let is_active = |worker: &usize| world.is_running(*worker) && world.metric(*worker, "resolver_active") == 1.0;
    (0..world.workers()).filter(is_active).collect()
}

#[test]
fn a_killed_resolver_is_replaced_by_the_standby_and_nothing_is_said_or_sent_twice() {
    play(async {
        let mut scene = Scene::with_workers(2).await;
        scene.ready(0).await;
        scene.ready(1).await;
        scene.until("one active resolver", |world| active(world).len() == 1).await;
        let first = active(&scene.world)[0];
        let standby = 1 - first;
        for round in 1..=60 {
            let changes = (0..10).map(|number| change(&format!("s{number}"), round, &format!("N{round}"))).collect();
            scene.world.publish(changes).await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            if round == 20 {
                scene.world.kill(first).await;
            }
        }
        scene.until("the standby decides", |world| active(world) == [standby]).await;
        let in_flight_max = scene.world.settings.crm[0].delivery.in_flight_max;
        let evidence = scene.settled_as_promised(in_flight_max).await;
        assert_eq!(evidence.inputs.len(), 600);
        assert_eq!(evidence.crms[0].stored.len(), 10);
        assert!(scene.world.metric(standby, "resolver_epoch") >= 2.0);
    });
}

#[test]
fn partitions_that_an_input_topic_gets_later_are_read() {
    play(async {
        let mut scene = Scene::with_workers(2).await;
        scene.world.publish(vec![change("s0", 1, "Ann")]).await;
        scene.settled().await;
        scene.world.log.add_partitions(INPUT, PARTITIONS + 3);
        scene.look_anew().await;
        let records = (PARTITIONS..PARTITIONS + 3).map(|partition| {
            let mut record = change(&format!("late{partition}"), 1, "Bob");
            record.to = TopicPartition::new(INPUT, partition);
            record
        });
        scene.world.publish(records.collect()).await;
        let evidence = scene.settled_as_promised(0).await;
        assert_eq!((evidence.inputs.len(), evidence.crms[0].stored.len()), (4, 4));
    });
}

#[test]
fn input_that_is_deleted_before_it_was_read_is_counted_and_the_rest_is_read() {
    play(async {
        // With and without anything having been read of the partition before.
        for read_before in [0_u64, 3] {
            let mut scene = Scene::with_workers(1).await;
            let all_to_one = |number: u64| {
                let mut record = change(&format!("s{number}"), 1, "Ann");
                record.to = TopicPartition::new(INPUT, 2);
                record
            };
            scene.world.publish((0..read_before).map(all_to_one).collect()).await;
            scene.settled().await;
            scene.until("an active resolver", |world| active(world) == [0]).await;
            assert!(scene.world.stop(0).await);

            scene.world.publish((read_before..20).map(all_to_one).collect()).await;
            scene.world.log.expire_before(&TopicPartition::new(INPUT, 2), 12);
            scene.world.start(0);
            scene.until("what is left is read", |world| world.sandbox.contacts().len() as u64 == read_before + 8).await;
            let lost = scene.world.metric(0, r#"input_lost_total{topic="contact-changes"}"#);
            assert_eq!(lost, (12 - read_before) as f64, "{read_before} were read before");
        }
    });
}

#[test]
fn late_and_repeated_input_changes_nothing_and_is_told_apart() {
    play(async {
        let mut scene = Scene::with_workers(2).await;
        let updated = |id: &str, sequence: u64, name: &str| {
            event("/shop", "s1", id, "contact.updated", sequence, Some(person("s1", name)))
        };
        let other = event("/erp", "e1", "o-1", "contact.updated", 1, Some(json!({ "name": { "familyName": "E" } })));
        let said = vec![
            updated("a", 5, "Five"),
            updated("a", 5, "Five"),
            updated("b", 3, "Three"),
            updated("c", 9, "Nine"),
            updated("b", 3, "Three"),
            updated("d", 7, "Seven"),
            event("/shop", "s1", "e", "contact.deleted", 8, None),
            other.clone(),
            other,
        ];
        scene.world.publish(said.clone()).await;
        scene.settled().await;
        // A day's input again, from the beginning, into another partition of the topic.
        let again = said.into_iter().map(|mut record| {
            record.to.partition = (record.to.partition + 1) % PARTITIONS;
            record
        });
        scene.world.publish(again.collect()).await;
        let evidence = scene.settled_as_promised(0).await;
        let mut kinds: BTreeMap<OutcomeKind, usize> = BTreeMap::new();
        evidence.outcomes.iter().for_each(|outcome| *kinds.entry(outcome.outcome).or_default() += 1);
        let of = |kind| kinds.get(&kind).copied().unwrap_or(0);
        assert_eq!(of(OutcomeKind::Quarantined), 0);
        // Two changes of /shop and one of /erp are news.
        assert_eq!(of(OutcomeKind::Duplicate) + of(OutcomeKind::Stale), 18 - 3, "{kinds:?}");
        let bounds = scene.world.log.watermarks(&input_of(b"s1")).await.expect("the topic exists");
        assert!(bounds.high > 0);
        let names: Vec<_> = scene.world.sandbox.contacts().iter().map(|c| c["fields"]["firstName"].clone()).collect();
        assert!(names.contains(&"Nine".into()), "{names:?}");
    });
}
