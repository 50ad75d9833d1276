//! A CRM that is away costs time and nothing else: no event, no park, no storm of calls.

use std::time::Duration;

use contact_replicator::sandbox::{Fault, FaultPlan, Instead, Only, Window};

use crate::{
    invariants,
    scene::{Scene, change, effects, play},
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
