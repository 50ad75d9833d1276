//! Contacts that are stuck: an operator has them tried now, one or all of a kind, or gives up what waits of them. Each event has
//! one outcome all the same.

use std::time::Duration;

use contact_replicator::{
    audit::AuditError,
    event::{Outcome, OutcomeKind, ReasonCode},
    explain::Asked,
    sandbox::{Fault, FaultPlan, Only, Window},
    stuck::{
        self, Order, Reply, StuckError, What,
        all::{self, Line, Stuck},
    },
};

use crate::{
    scene::{Scene, change, play},
    world::{CRM, Setup, World, operator},
};

const CONTACTS: usize = 6;
const PARKED: &str = r#"contacts_parked{crm="priava"}"#;

/// A world whose CRM answers with `status`, and whose parked contacts wait for a day.
async fn broken(status: u16) -> Scene {
    let mut world = World::of(Setup::default()).await;
    let delivery = &mut world.settings.crm[0].delivery;
    delivery.parked_delay = Duration::from_secs(100_000);
    delivery.parked_delay_max = Duration::from_secs(100_000);
    // One that fails for everybody is not the contacts' fault; here it is to look as if it were.
    delivery.failures_before_pause = 10_000;
    let scene = Scene::begin(world).await;
    let fault = Fault::status(status);
    let away = Window { from: Duration::ZERO, lasts: Duration::from_secs(100_000), only: Only::default(), fault };
    scene.world.set_faults(FaultPlan { windows: vec![away], ..FaultPlan::default() });
    scene
}

async fn ask(world: &World, what: What, named: &[&str]) -> Result<Reply, StuckError> {
    let contacts = named.iter().map(|name| Asked::About((*name).to_owned())).collect();
    stuck::obey(world.desk(0), what, &Order { crm: CRM.to_owned(), contacts }, &operator()).await
}

async fn all(world: &World, whom: Stuck, dry_run: bool) -> u64 {
    let order = all::Order { crm: CRM.to_owned(), whom, dry_run };
    let mut lines = all::begin(world.desk(0), &order, &operator()).expect("the worker takes it");
    while let Some(line) = lines.recv().await {
        match line {
            Line::Ended { stuck } => return stuck,
            Line::Failed { why, .. } => panic!("{why}"),
            Line::Begun { .. } | Line::Progress { .. } => {}
        }
    }
    panic!("it broke off");
}

fn of_cause<'a>(outcomes: &'a [Outcome], id: &str) -> Vec<&'a Outcome> {
    outcomes.iter().filter(|outcome| outcome.cause.as_ref().is_some_and(|cause| cause.id == id)).collect()
}

fn people() -> Vec<contact_replicator::log::NewRecord> {
    (0..CONTACTS).map(|number| change(&format!("s{number}"), 1, "Ann")).collect()
}

#[test]
fn a_parked_contact_is_skipped_and_its_next_version_is_delivered() {
    play(async {
        let mut scene = broken(500).await;
        scene.world.publish(vec![change("s0", 1, "Ann")]).await;
        scene.until("a parked contact", |world| world.metric(0, PARKED) == 1.0).await;
        let Reply { id, unknown, .. } = ask(&scene.world, What::Skip, &["/shop/s0", "/shop/s9"]).await.expect("taken");
        assert_eq!(unknown, [1]);
        let evidence = scene.settled().await;
        let code = |outcome: &Outcome| outcome.reason.as_ref().map(|reason| reason.code);
        let [asked] = of_cause(&evidence.outcomes, &id)[..] else { panic!("one outcome for what was asked") };
        assert_eq!(
            (asked.outcome, code(asked), &asked.event),
            (OutcomeKind::Filtered, Some(ReasonCode::Skipped), &None)
        );
        let events = evidence.outcomes.iter().filter(|outcome| outcome.event.is_some()).collect::<Vec<_>>();
        let [event] = events[..] else { panic!("one outcome for the event") };
        assert_eq!((event.outcome, code(event)), (OutcomeKind::Filtered, Some(ReasonCode::Skipped)));

        // Once more, there is nothing left to give up.
        let Reply { id, .. } = ask(&scene.world, What::Skip, &["/shop/s0"]).await.expect("taken");
        let evidence = scene.settled().await;
        let [again] = of_cause(&evidence.outcomes, &id)[..] else { panic!("one outcome for what was asked") };
        assert_eq!((again.outcome, code(again)), (OutcomeKind::Unchanged, Some(ReasonCode::NothingWaiting)));

        scene.world.set_faults(FaultPlan::default());
        scene.world.publish(vec![change("s0", 2, "Cleo")]).await;
        let evidence = scene.settled_as_promised(0).await;
        let last = evidence.outcomes.iter().rfind(|outcome| outcome.event.is_some()).expect("the second event");
        assert_eq!((last.outcome, last.version), (OutcomeKind::Delivered, Some(2)));
    });
}

#[test]
fn all_parked_contacts_are_tried_once_the_crm_is_mended() {
    play(async {
        let mut scene = broken(500).await;
        scene.world.publish(people()).await;
        scene.until("parked contacts", |world| world.metric(0, PARKED) == CONTACTS as f64).await;
        assert_eq!(all(&scene.world, Stuck::Rejected(None), true).await, 0);
        assert_eq!(all(&scene.world, Stuck::Parked, true).await, CONTACTS as u64, "only counted");
        scene.world.set_faults(FaultPlan::default());
        assert_eq!(all(&scene.world, Stuck::Parked, false).await, CONTACTS as u64);
        let evidence = scene.settled_as_promised(0).await;
        let asked = evidence.outcomes.iter().filter(|outcome| outcome.is_asked());
        let asked: Vec<_> = asked.map(|outcome| outcome.outcome).collect();
        assert_eq!(asked, [OutcomeKind::Delivered; CONTACTS]);
        assert_eq!(all(&scene.world, Stuck::Parked, true).await, 0, "nobody is stuck any more");
    });
}

#[test]
fn rejected_contacts_are_driven_again_by_their_code_and_a_single_one_by_name() {
    play(async {
        let mut scene = broken(422).await;
        scene.world.publish(people()).await;
        let evidence = scene.settled().await;
        let code = evidence.outcomes.iter().find_map(|outcome| {
            let reason = outcome.reason.as_ref().filter(|_| outcome.outcome == OutcomeKind::Rejected)?;
            Some(reason.code)
        });
        let code = code.expect("the CRM takes nobody");
        scene.world.set_faults(FaultPlan::default());
        let Reply { id, .. } = ask(&scene.world, What::Retry, &["/shop/s0"]).await.expect("taken");
        let evidence = scene.settled().await;
        assert_eq!(of_cause(&evidence.outcomes, &id)[0].outcome, OutcomeKind::Delivered);
        assert_eq!(all(&scene.world, Stuck::Rejected(Some(ReasonCode::MissingField)), false).await, 0);
        assert_eq!(all(&scene.world, Stuck::Rejected(Some(code)), false).await, CONTACTS as u64 - 1);
        scene.settled().await;
        assert_eq!(all(&scene.world, Stuck::Rejected(None), true).await, 0);
    });
}

#[test]
fn nothing_is_given_up_without_a_reason() {
    play(async {
        let mut scene = Scene::with_workers(1).await;
        scene.world.publish(vec![change("s0", 1, "Ann")]).await;
        scene.settled().await;
        let loopback = std::net::Ipv4Addr::LOCALHOST.into();
        let authentication = contact_replicator::event::audit::Authentication::Loopback;
        let silent = contact_replicator::audit::Operator::new(Some("ann"), None, authentication, loopback).unwrap();
        let contacts = vec![Asked::About("/shop/s0".to_owned())];
        let order = Order { crm: CRM.to_owned(), contacts };
        let refused = stuck::obey(scene.world.desk(0), What::Skip, &order, &silent).await;
        assert!(matches!(refused, Err(StuckError::Audit(AuditError::Reasonless { .. }))), "{refused:?}");
        let evidence = scene.settled().await;
        assert!(evidence.entries.iter().all(|entry| !entry.is_asked()));
        let nobody = ask(&scene.world, What::Retry, &[]).await;
        assert!(matches!(nobody, Err(StuckError::Nobody)), "{nobody:?}");
    });
}
