//! A CRM that is away costs time and nothing else: no event, no park, no storm of calls.

use std::time::Duration;

use contact_replicator::sandbox::{Fault, FaultPlan, Instead, Only, Window};

use crate::{
    invariants,
    scene::{Scene, change, effects, play},
    world::World,
};

const CONTACTS: u64 = 100;

fn window(from: u64, lasts: u64, fault: impl Into<Fault>) -> Window {
    Window {
        from: Duration::from_secs(from),
        lasts: Duration::from_secs(lasts),
        only: Only::default(),
        fault: fault.into(),
    }
}

fn subject(number: u64) -> String {
    format!("s{number}")
}

/// One change of each contact.
async fn one_round(scene: &Scene, round: u64) {
    let changes = (0..CONTACTS).map(|number| change(&subject(number), round, &format!("N{round}"))).collect();
    scene.world.publish(changes).await;
}

#[test]
fn a_crm_that_is_down_under_ten_thousand_changes_and_a_restart_gets_each_contact_once_or_twice() {
    play(async {
        let mut scene = Scene::with_workers(1).await;
        one_round(&scene, 1).await;
        scene.settled().await;
        let before = scene.world.sandbox.requests().len();
        assert_eq!(effects(&scene.world).len(), before, "each contact was created by one call");

        let unreachable = window(0, 60, Instead::Unreachable);
        scene.world.set_faults(FaultPlan { windows: vec![unreachable], ..FaultPlan::default() });
        let rounds = 100;
        for round in 2..=rounds + 1 {
            one_round(&scene, round).await;
            tokio::time::sleep(Duration::from_millis(550)).await;
            if round == 52 {
                assert_eq!(scene.world.metric(0, r#"crm_paused{crm="priava"}"#), 1.0);
                let links = invariants::links(&scene.world).await;
                assert!(links.values().all(|link| link.open.is_none()), "nothing is parked while the CRM is paused");
                scene.world.kill(0).await;
                scene.world.start(0);
            }
        }
        // The last moment of the outage.
        let over = scene.world.clock.now();
        let during = scene.world.sandbox.requests().len() - before;
        assert_eq!(effects(&scene.world).len(), before, "the CRM is still away");
        assert_eq!(scene.world.metric(0, r#"contacts_parked{crm="priava"}"#), 0.0);
        assert!(during <= 60, "{during} calls to a CRM that is away");

        let evidence = scene.settled_as_promised(0).await;
        assert_eq!(evidence.inputs.len() as u64, CONTACTS * (rounds + 1));
        let after = effects(&scene.world).len() - before;
        assert!((100..=200).contains(&after), "{after} effects after the outage");
        // One each; and one more each, for what the killed worker may have sent.
        let bounded = invariants::calls_after_an_outage_bounded(&scene.world, &evidence, over, 1);
        assert!(bounded.ok, "{}", bounded.detail);
        assert_eq!(scene.world.metric(0, r#"crm_paused{crm="priava"}"#), 0.0);
        let links = invariants::links(&scene.world).await;
        assert!(links.values().all(|link| link.open.is_none()), "nothing stayed parked");
    });
}

#[test]
fn a_crm_that_fails_and_then_asks_for_patience_is_called_seldom_and_never_within_its_patience() {
    play(async {
        let mut scene = Scene::with_workers(1).await;
        scene.world.set_faults(FaultPlan {
            windows: vec![window(0, 5, Fault::status(503)), window(5, 5, Fault::retry_after(429, 5))],
            ..FaultPlan::default()
        });
        one_round(&scene, 1).await;
        // Also holds `nothing_before_retry_after`.
        let evidence = scene.settled_as_promised(0).await;
        let calls = &evidence.crms[0].calls;
        let failed = calls.iter().filter(|call| !call.was_accepted()).count();
        assert!((3..=40).contains(&failed), "{failed} calls failed");
        let patience: Vec<_> = calls.iter().filter(|call| call.status == Some(429)).collect();
        let first = patience.first().expect("the CRM asked for patience").ended.expect("it was answered");
        let within = calls.iter().filter(|call| call.arrived > first && call.arrived < first + Duration::from_secs(5));
        assert_eq!(within.count(), 0);
        assert!(patience.len() <= 8, "asked {} times, by what was under way already", patience.len());
    });
}

#[test]
fn the_age_of_the_oldest_unanswered_entry_rises_while_a_crm_is_down_and_rests_at_zero() {
    const RETENTION: Duration = Duration::from_secs(3_600);
    const AGE: &str = r#"oldest_entry_age_seconds{crm="priava"}"#;
    play(async {
        let mut world = World::new(1, 1).await;
        world.settings.topics.versions_retention = RETENTION;
        let mut scene = Scene::begin(world).await;
        one_round(&scene, 1).await;
        scene.settled().await;
        scene.until("nothing waits", |world| world.metric(0, AGE) == 0.0).await;
        assert_eq!(scene.world.metric(0, "versions_retention_seconds"), RETENTION.as_secs_f64());

        let unreachable = window(0, 2_000, Instead::Unreachable);
        scene.world.set_faults(FaultPlan { windows: vec![unreachable], ..FaultPlan::default() });
        one_round(&scene, 2).await;
        let begun = scene.world.clock.now();
        tokio::time::sleep(RETENTION / 4).await;
        // Later changes of the same contacts make the oldest no younger.
        one_round(&scene, 3).await;
        tokio::time::sleep(RETENTION / 4 + Duration::from_secs(10)).await;
        let waits = |world: &World| world.clock.now().duration_since(begun).as_secs_f64();
        scene.until("the age is told", |world| (world.metric(0, AGE) - waits(world)).abs() <= 2.0).await;
        assert!(scene.world.metric(0, AGE) >= RETENTION.as_secs_f64() / 2.0, "the alarm would be given");
        scene.world.kill(0).await;
        scene.world.start(0);
        scene.until("a successor knows the age", |world| (world.metric(0, AGE) - waits(world)).abs() <= 2.0).await;

        scene.settled_as_promised(0).await;
        scene.until("nothing waits", |world| world.metric(0, AGE) == 0.0).await;
    });
}
