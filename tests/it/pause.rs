//! A CRM that an operator paused is sent nothing by any worker, whatever becomes of the workers, until an operator resumes it.

use std::time::Duration;

use contact_replicator::{
    audit::{AuditError, Operator},
    config::TopicNames,
    contact::format::encode,
    event::audit::Authentication,
    explain::{Asked, Paused, words},
    log::{Log, NewRecord, TopicPartition},
    pause::{self, Order, Ordered, PauseError, Reply, What},
    sandbox::{FaultPlan, Instead, Only, Window},
};
use serde_json::json;

use crate::{
    audit::trail,
    invariants,
    lines::Lines,
    scene::{Scene, change, play},
    world::{CRM, World, operator},
};

const CONTACTS: u64 = 40;
/// Longer than any worker takes to hear of it and to end what is under way.
const HEARD: Duration = Duration::from_secs(5);
/// Far longer than probes and retries are apart.
const LONG: Duration = Duration::from_secs(600);

async fn ask(world: &World, worker: usize, what: What) -> Reply {
    pause::obey(world.desk(worker), &Order { crm: CRM.to_owned(), what }, &operator())
        .await
        .expect("the worker takes it")
}

async fn one_round(world: &World, round: u64) {
    let changes = (0..CONTACTS).map(|number| change(&format!("s{number}"), round, &format!("N{round}"))).collect();
    world.publish(changes).await;
}

fn requests(world: &World) -> usize {
    world.sandbox.requests().len()
}

fn is_paused(world: &World, worker: usize) -> bool {
    let metric = |series: &str| world.metric(worker, series) == 1.0;
    metric(r#"crm_paused{crm="priava"}"#) && metric(r#"crm_pause_reason{crm="priava",reason="operator"}"#)
}

fn record(world: &World, ordered: &serde_json::Value) -> NewRecord {
    let topic = TopicNames::new(&world.settings.topics.prefix).resolver;
    NewRecord {
        to: TopicPartition::new(topic, 0),
        key: Some(Ordered::key(CRM).into()),
        value: Some(encode(ordered)),
        headers: Vec::new(),
    }
}

#[test]
fn no_worker_sends_anything_before_it_is_resumed_whatever_becomes_of_the_workers() {
    play(async {
        let (lines, _listening) = Lines::begin();
        let mut scene = Scene::with_workers(2).await;
        scene.ready(0).await;
        scene.ready(1).await;
        one_round(&scene.world, 1).await;
        scene.settled().await;
        // In the middle of the work.
        one_round(&scene.world, 2).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let reply = ask(&scene.world, 0, What::Pause).await;
        assert!(reply.changed && reply.ordered.is_some_and(|ordered| ordered.paused && ordered.by == "ann"));
        tokio::time::sleep(HEARD).await;
        let sent = requests(&scene.world);
        one_round(&scene.world, 3).await;
        tokio::time::sleep(LONG).await;
        assert_eq!(requests(&scene.world), sent, "nothing is sent, not even a probe");
        for worker in [0, 1] {
            assert!(is_paused(&scene.world, worker), "worker {worker}");
            assert_eq!(scene.world.missing(worker), [], "a pause makes nobody unready");
            let answer = scene.world.desk(worker).explain(&Asked::About("/shop/s1".to_owned())).await;
            let answer = answer.expect("the worker answers");
            assert_eq!(answer.crms[0].paused, Some(Paused::Operator));
            let page = words::told(&answer);
            assert!(page.contains("by an operator, ann: \"a test\"; resume ends it"), "{page}");
        }
        let links = invariants::links(&scene.world).await;
        assert!(links.values().all(|link| link.open.is_none()), "nothing is parked while the CRM is paused");

        // Killed, stopped, and come back with nothing in their view.
        scene.world.kill(0).await;
        scene.world.start(0);
        assert!(scene.world.stop(1).await);
        std::fs::remove_dir_all(scene.world.data(1).join("view")).expect("there is a view");
        scene.world.start(1);
        scene.ready(0).await;
        scene.ready(1).await;
        tokio::time::sleep(LONG).await;
        assert_eq!(requests(&scene.world), sent, "a worker that starts knows of it before it sends anything");
        assert!(is_paused(&scene.world, 0) && is_paused(&scene.world, 1));

        let again = ask(&scene.world, 1, What::Pause).await;
        assert!(!again.changed && again.ordered.is_some_and(|ordered| ordered.paused));
        assert!(ask(&scene.world, 1, What::Resume).await.changed);
        assert!(!ask(&scene.world, 0, What::Resume).await.changed);
        let in_flight_max = scene.world.settings.crm[0].delivery.in_flight_max;
        scene.settled_as_promised(in_flight_max).await;
        for worker in [0, 1] {
            assert!(!is_paused(&scene.world, worker), "worker {worker}");
        }
        let told = trail(&scene.world).await;
        let actions: Vec<&str> = told.iter().filter_map(|deed| deed["action"].as_str()).collect();
        assert_eq!(actions, ["pause", "resume"], "what changes nothing is no action");
        let lines = lines.take();
        for says in ["the CRM is paused by an operator", "an operator resumed the CRM"] {
            let paused: Vec<_> = lines.iter().filter(|line| line.contains("paus") || line.contains("resume")).collect();
            assert!(lines.iter().any(|line| line.contains(says)), "{says}: {paused:#?}");
        }
        assert!(!lines.iter().any(|line| line.contains("a test")), "reasons are for the trail");
    });
}

#[test]
fn who_gives_no_reason_pauses_nothing_and_an_unknown_crm_is_named_with_those_there_are() {
    play(async {
        let scene = Scene::with_workers(1).await;
        scene.ready(0).await;
        let silent = Operator::new(Some("ann"), None, Authentication::Loopback, [127, 0, 0, 1].into()).expect("a name");
        let order = |crm: &str| Order { crm: crm.to_owned(), what: What::Pause };
        let refused = pause::obey(scene.world.desk(0), &order(CRM), &silent).await;
        assert!(matches!(refused, Err(PauseError::Audit(AuditError::Reasonless { .. }))), "{refused:?}");
        let refused = pause::obey(scene.world.desk(0), &order("nobody"), &operator()).await.expect_err("nobody");
        assert!(refused.to_string().contains(CRM), "{refused}");
        assert!(ask(&scene.world, 0, What::Status).await.ordered.is_none());
        assert!(trail(&scene.world).await.is_empty());
    });
}

#[test]
fn a_fault_under_a_pause_is_an_operators_until_they_resume_and_then_probed() {
    play(async {
        let mut scene = Scene::with_workers(1).await;
        scene.ready(0).await;
        let only = Only::default();
        let away =
            Window { from: Duration::ZERO, lasts: Duration::from_secs(60), only, fault: Instead::Unreachable.into() };
        scene.world.set_faults(FaultPlan { windows: vec![away], ..FaultPlan::default() });
        one_round(&scene.world, 1).await;
        let failing = r#"crm_pause_reason{crm="priava",reason="failing"}"#;
        scene.until("a pause for the fault", |world| world.metric(0, failing) == 1.0).await;
        ask(&scene.world, 0, What::Pause).await;
        scene.until("the operator's pause", |world| is_paused(world, 0)).await;
        assert_eq!(scene.world.metric(0, failing), 0.0, "one reason at a time");
        ask(&scene.world, 0, What::Resume).await;
        scene.until("the fault again", |world| world.metric(0, failing) == 1.0).await;
        scene.settled_as_promised(0).await;
        assert_eq!(scene.world.metric(0, r#"crm_paused{crm="priava"}"#), 0.0);
    });
}

#[test]
fn the_last_word_counts_after_a_replay_and_a_newer_layout_ends_the_worker() {
    play(async {
        let mut scene = Scene::with_workers(1).await;
        scene.ready(0).await;
        for what in [What::Pause, What::Resume, What::Pause] {
            ask(&scene.world, 0, what).await;
        }
        let resolver = TopicPartition::new(TopicNames::new("").resolver, 0);
        scene.world.log.compact(&resolver);
        assert!(scene.world.stop(0).await);
        // All of it is read from its beginning.
        std::fs::remove_dir_all(scene.world.data(0).join("view")).expect("there is a view");
        one_round(&scene.world, 1).await;
        scene.world.start(0);
        scene.ready(0).await;
        tokio::time::sleep(LONG).await;
        assert_eq!((requests(&scene.world), is_paused(&scene.world, 0)), (0, true));
        ask(&scene.world, 0, What::Resume).await;
        scene.settled().await;

        let newer = json!({"paused": false, "by": "ann", "at": "2026-03-01T10:00:00Z", "format": 99});
        scene.world.log.append(vec![record(&scene.world, &newer)]).await.expect("the log takes it");
        let failed = scene.world.failed(0).await;
        let mut source: &dyn std::error::Error = &failed;
        let mut text = source.to_string();
        while let Some(next) = source.source() {
            text.push_str(&format!(": {next}"));
            source = next;
        }
        assert!(text.contains("pausing priava") && text.contains("update it"), "{text}");
    });
}
