//! A worker that is asked to stop: what it finishes, what it gives back, and what its successor finds.

use std::time::Duration;

use contact_replicator::{
    log::{Isolation, Log, TopicPartition},
    sandbox::{Chance, Fault, FaultPlan, Only},
};
use futures::future::join_all;
use tokio::time::Instant;

use crate::{
    scene::{Scene, change, effects, play},
    world::{PARTITIONS, REQUEST_DEADLINE, World},
};

const CONTACTS: usize = 60;

fn every_call(fault: Fault) -> FaultPlan {
    FaultPlan {
        chances: vec![Chance { probability: 1.0, times: 1, only: Only::default(), fault }],
        ..FaultPlan::default()
    }
}

async fn publish_all(scene: &Scene) {
    scene.world.publish((0..CONTACTS).map(|number| change(&format!("s{number}"), 1, "Ann")).collect()).await;
}

/// What the claims of the partitions of the work list say of a clean release.
async fn released(world: &World) -> Vec<bool> {
    let mut released = Vec::new();
    for partition in 0..PARTITIONS {
        let at = TopicPartition::new("contact-versions", partition);
        let committed = world.log.committed("sim-priava", &at, Isolation::ReadCommitted).await;
        let claim = committed.expect("no transaction is open").expect("the partition was claimed").metadata;
        let claim: serde_json::Value = serde_json::from_str(&claim).expect("a claim");
        released.push(claim["released"] == true);
    }
    released
}

async fn under_way(scene: &Scene) {
    scene.until("requests under way", |world| world.sandbox.requests().iter().any(|request| !request.ended)).await;
}

#[test]
fn a_stop_finishes_what_is_under_way_and_releases_so_that_the_next_begins_at_once() {
    play(async {
        let mut scene = Scene::with_workers(1).await;
        scene.ready(0).await;
        scene.world.set_faults(every_call(Fault::delay_before(Duration::from_secs(2))));
        publish_all(&scene).await;
        under_way(&scene).await;
        assert!(scene.world.stop(0).await, "nothing was left undone");
        let calls = scene.world.sandbox.requests();
        assert!(calls.len() < CONTACTS && calls.iter().all(|call| call.answered), "it finished what it began");
        assert_eq!(released(&scene.world).await, [true; PARTITIONS as usize]);
        assert_eq!(scene.world.log.members("sim-priava"), []);

        scene.world.set_faults(FaultPlan::default());
        let begun = Instant::now();
        scene.world.start(0);
        scene.until("a next call", |world| world.sandbox.requests().len() > calls.len()).await;
        assert!(begun.elapsed() < REQUEST_DEADLINE, "it waited {:?} for a clean predecessor", begun.elapsed());
        scene.settled_as_promised(0).await;
        assert_eq!(scene.world.sandbox.requests().len(), CONTACTS, "one call for each contact");

        // With nothing left to do, neither: and no call at all.
        assert!(scene.world.stop(0).await);
        scene.world.start(0);
        scene.ready(0).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(scene.world.sandbox.requests().len(), CONTACTS);
    });
}

#[test]
fn partitions_that_come_to_a_worker_while_it_stops_are_left_to_others() {
    play(async {
        let mut scene = Scene::with_workers(2).await;
        scene.ready(0).await;
        scene.ready(1).await;
        // One worker has this to wait for; the other has nothing, and leaves its partitions to the one that waits.
        scene.world.set_faults(every_call(Fault::delay_before(Duration::from_secs(3))));
        scene.world.publish(vec![change("s1", 1, "Ann")]).await;
        under_way(&scene).await;
        let asked = Instant::now();
        let stops = [0, 1].map(|worker| scene.world.ask_to_stop(worker));
        let undone = join_all(stops).await;
        assert_eq!(undone, [Vec::new(), Vec::new()], "after {:?}", asked.elapsed());
        assert!(asked.elapsed() < Duration::from_secs(4), "it took {:?}", asked.elapsed());

        scene.world.set_faults(FaultPlan::default());
        scene.world.start(0);
        scene.settled_as_promised(0).await;
        assert_eq!(scene.world.sandbox.requests().len(), 1);
    });
}

#[test]
fn a_stop_while_requests_hang_gives_up_at_its_deadline_names_what_is_undone_and_the_next_settles_it() {
    play(async {
        let mut world = World::new(1, 1).await;
        let deadline = Duration::from_secs(3);
        world.settings.worker.shutdown_deadline = deadline;
        let mut scene = Scene::begin(world).await;
        scene.ready(0).await;
        // Longer than the stop may last, and still within the deadline of the request itself.
        scene.world.set_faults(every_call(Fault::delay_before(Duration::from_millis(4_500))));
        publish_all(&scene).await;
        under_way(&scene).await;
        let asked = Instant::now();
        let undone = scene.world.undone(0).await;
        assert_eq!(undone, ["replicator of priava".into()]);
        assert!(asked.elapsed() <= deadline, "it took {:?}", asked.elapsed());
        assert_eq!(effects(&scene.world).len(), 0, "the requests still hang");
        assert!(released(&scene.world).await.contains(&false), "what may still land is not released");

        scene.world.set_faults(FaultPlan::default());
        scene.world.start(0);
        // The requests under way landed, and nobody heard of it.
        let in_flight_max = scene.world.settings.crm[0].delivery.in_flight_max;
        scene.settled_as_promised(in_flight_max).await;
        let landed = effects(&scene.world).len();
        assert!((CONTACTS..=CONTACTS + in_flight_max).contains(&landed), "{landed} effects");
    });
}
