//! A CRM that takes many contacts in one call: each of them ends as if it had been alone, and the calls are few.

use std::time::Duration;

use contact_replicator::{
    cli::demo::evidence::Evidence,
    config::CrmKind,
    event::{Operation, Outcome, OutcomeKind, ReasonCode},
    log::NewRecord,
    sandbox::{
        Action, Fault, FaultPlan, Instead, LoggedRequest, NextinteractSamSettings, Only, SamDoorSettings, Scripted,
    },
};
use serde_json::{Value, json};

use crate::{
    history::event,
    scene::{Scene, change, person, play},
    world::{Setup, Tenant, World},
};

const SAM: &[Tenant] = &[Tenant { name: "sam", kind: CrmKind::NextinteractSam }];
const ROWS: usize = 100;

/// A world whose one CRM takes a hundred contacts in a call, as the reference has it.
async fn world(workers: usize, sam: NextinteractSamSettings) -> World {
    let mut world = World::of(Setup { workers, crms: SAM, sam, ..Setup::default() }).await;
    let crm = &mut world.settings.crm[0];
    crm.delivery.in_flight_max = 4 * ROWS;
    crm.delivery.unanswered_max = 1000;
    crm.delivery.failures_before_pause = 5 * ROWS as u32;
    crm.nextinteract_sam.as_mut().expect("it is a SAM").batch_rows_max = ROWS;
    world
}

fn changes(numbers: std::ops::Range<u64>, sequence: u64) -> Vec<NewRecord> {
    numbers.map(|number| change(&format!("s{number}"), sequence, &format!("N{sequence}"))).collect()
}

fn writes(world: &World) -> Vec<LoggedRequest> {
    world.sandbox.requests().into_iter().filter(|request| request.action == Action::Upsert).collect()
}

fn logins(world: &World) -> usize {
    world.sandbox.requests().iter().filter(|request| request.path == "/rest/user/login").count()
}

/// How the events ended, but for those that a newer one took the place of.
fn ends(evidence: &Evidence) -> Vec<&Outcome> {
    let ended = |outcome: &&Outcome| &*outcome.crm == "sam" && outcome.outcome != OutcomeKind::Superseded;
    evidence.outcomes.iter().filter(ended).collect()
}

/// How the event with this id ended.
fn end_of(evidence: &Evidence, id: &str) -> (OutcomeKind, Option<Operation>, Option<ReasonCode>) {
    let is_its = |outcome: &&&Outcome| outcome.event.as_ref().is_some_and(|event| event.id.as_deref() == Some(id));
    let ended = ends(evidence);
    let outcome = ended.iter().find(is_its).expect("it ended");
    (outcome.outcome, outcome.operation, outcome.reason.as_ref().map(|reason| reason.code))
}

#[test]
fn a_contact_is_created_changed_and_cleared_stays_when_it_is_deleted_and_comes_back_as_another() {
    play(async {
        let mut scene = Scene::begin(world(1, NextinteractSamSettings::default()).await).await;
        let say = |version: u64, verb: &str, data: Option<Value>| {
            event("/shop", "s1", &version.to_string(), verb, version, data)
        };
        let mut whole = person("s1", "Ilka");
        whole["notes"] = json!("n");
        scene.world.publish(vec![say(1, "contact.updated", Some(whole))]).await;
        let evidence = scene.settled_as_promised(0).await;
        assert_eq!(end_of(&evidence, "1"), (OutcomeKind::Delivered, Some(Operation::Create), None));
        let stored = |scene: &Scene| scene.world.sandbox.contacts().remove(0)["fields"].clone();
        assert_eq!((&stored(&scene)["notes"], &stored(&scene)["firstname"]), (&json!("n"), &json!("Ilka")));

        scene.world.publish(vec![say(2, "contact.updated", Some(person("s1", "Ilse")))]).await;
        let evidence = scene.settled_as_promised(0).await;
        assert_eq!(end_of(&evidence, "2"), (OutcomeKind::Delivered, Some(Operation::Update), None));
        assert_eq!((stored(&scene).get("notes"), &stored(&scene)["firstname"]), (None, &json!("Ilse")));

        scene.world.publish(vec![say(3, "contact.deleted", None)]).await;
        let evidence = scene.settled_as_promised(0).await;
        assert_eq!(end_of(&evidence, "3"), (OutcomeKind::Unsupported, None, Some(ReasonCode::Deactivate)));
        assert_eq!(writes(&scene.world).len(), 2, "nothing was sent");

        scene.world.publish(vec![say(4, "contact.updated", Some(person("s1", "Ilva")))]).await;
        let evidence = scene.settled_as_promised(0).await;
        assert_eq!(end_of(&evidence, "4").0, OutcomeKind::Delivered);
        let there = scene.world.sandbox.contacts();
        assert_eq!(there.last().expect("somebody is there")["fields"]["firstname"], json!("Ilva"));
        assert_eq!((there.len(), writes(&scene.world).len(), logins(&scene.world)), (2, 3, 1));
    });
}

#[test]
fn ten_thousand_contacts_take_a_hundred_calls_and_few_more() {
    play(async {
        let mut scene = Scene::begin(world(1, NextinteractSamSettings::default()).await).await;
        scene.world.publish(changes(0..10_000, 1)).await;
        let evidence = scene.settled().await;
        assert_eq!(ends(&evidence).len(), 10_000);
        assert!(ends(&evidence).iter().all(|outcome| outcome.outcome == OutcomeKind::Delivered));
        assert_eq!(scene.world.sandbox.contacts().len(), 10_000);
        let calls = writes(&scene.world).len();
        assert!((100..=110).contains(&calls), "{calls} calls");
        assert_eq!(logins(&scene.world), 1);
    });
}

#[test]
fn one_contact_that_the_crm_refuses_costs_fourteen_calls_and_nobody_else() {
    play(async {
        let sam = NextinteractSamSettings { refused: ["Fs37".to_owned()].into(), ..NextinteractSamSettings::default() };
        let mut scene = Scene::begin(world(1, sam).await).await;
        scene.ready(0).await;
        scene.world.publish(changes(0..100, 1)).await;
        let evidence = scene.settled_as_promised(0).await;
        let refused: Vec<_> =
            ends(&evidence).into_iter().filter(|outcome| outcome.outcome != OutcomeKind::Delivered).collect();
        let [refused] = refused.as_slice() else { panic!("one is refused, not {}", refused.len()) };
        assert_eq!((refused.outcome, refused.attempts), (OutcomeKind::Rejected, 1));
        let code = refused.reason.as_ref().and_then(|reason| reason.crm_code.as_deref());
        assert_eq!(code, Some("WSInvalidParameterException"));
        assert_eq!(scene.world.sandbox.contacts().len(), 99);
        let calls = writes(&scene.world).len();
        assert!((2..=15).contains(&calls), "{calls} calls");
    });
}

#[test]
fn a_contact_of_which_no_row_is_affected_is_sent_once_more_alone_and_rejected() {
    play(async {
        let sam = NextinteractSamSettings { unstored: ["Fs7".to_owned()].into(), ..NextinteractSamSettings::default() };
        let mut scene = Scene::begin(world(1, sam).await).await;
        scene.ready(0).await;
        scene.world.publish(changes(0..20, 1)).await;
        let evidence = scene.settled().await;
        let rejected = ends(&evidence).into_iter().filter(|outcome| outcome.outcome == OutcomeKind::Rejected).count();
        assert_eq!((rejected, scene.world.sandbox.contacts().len()), (1, 19));
        let about: Vec<_> = writes(&scene.world).into_iter().map(|write| write.contact).collect();
        assert_eq!(about.iter().filter(|contact| contact.is_some()).count(), 1, "alone it went once");
    });
}

#[test]
fn a_contact_that_breaks_the_company_service_is_rejected_and_the_others_come_through() {
    play(async {
        let sam = NextinteractSamSettings { crashing: ["Fs3".to_owned()].into(), ..NextinteractSamSettings::default() };
        let mut scene = Scene::begin(world(1, sam).await).await;
        scene.ready(0).await;
        scene.world.publish(changes(0..10, 1)).await;
        let evidence = scene.settled().await;
        let rejected: Vec<_> =
            ends(&evidence).into_iter().filter(|outcome| outcome.outcome == OutcomeKind::Rejected).collect();
        let [rejected] = rejected.as_slice() else { panic!("one is rejected, not {}", rejected.len()) };
        let code = rejected.reason.as_ref().and_then(|reason| reason.crm_code.as_deref());
        assert_eq!(code, Some("WSCompanyServiceException"));
        assert_eq!(scene.world.sandbox.contacts().len(), 9);
    });
}

#[test]
fn a_token_that_ends_before_its_time_costs_each_worker_one_login_and_no_delivery() {
    play(async {
        // Nobody is told that it ends so soon.
        let door =
            SamDoorSettings { token_life: Duration::from_secs(60), tells_life: false, ..SamDoorSettings::default() };
        let sam = NextinteractSamSettings { door, ..NextinteractSamSettings::default() };
        let mut scene = Scene::begin(world(2, sam).await).await;
        scene.ready(0).await;
        scene.ready(1).await;
        scene.world.publish(changes(0..300, 1)).await;
        scene.settled().await;
        assert_eq!(logins(&scene.world), 2, "one of each worker");
        tokio::time::sleep(Duration::from_secs(90)).await;
        scene.world.publish(changes(0..300, 2)).await;
        let evidence = scene.settled_as_promised(0).await;
        assert_eq!(logins(&scene.world), 4);
        let refused = writes(&scene.world).iter().filter(|write| write.status == Some(401)).count();
        assert!(refused > 0, "the tokens had ended");
        assert_eq!(ends(&evidence).len(), 600);
        let at_once = |outcome: &&Outcome| outcome.outcome == OutcomeKind::Delivered && outcome.attempts == 1;
        assert!(ends(&evidence).iter().all(at_once), "no try was used up");
    });
}

#[test]
fn a_token_that_is_taken_back_in_the_middle_of_a_run_costs_one_login_and_no_delivery() {
    play(async {
        let mut world = world(2, NextinteractSamSettings::default()).await;
        // Many calls, so that there is a middle.
        world.settings.crm[0].nextinteract_sam.as_mut().expect("it is a SAM").batch_rows_max = 5;
        let mut scene = Scene::begin(world).await;
        scene.ready(0).await;
        scene.ready(1).await;
        scene.world.publish(changes(0..100, 1)).await;
        scene.settled().await;
        assert_eq!(logins(&scene.world), 2, "one of each worker");
        tokio::time::sleep(Duration::from_secs(60)).await;
        let taken = Scripted { only: Only::action(Action::Upsert), ..Scripted::at(20, Instead::ExpireToken) };
        scene.world.set_faults(FaultPlan { script: vec![taken], ..FaultPlan::default() });
        scene.world.publish(changes(0..300, 2)).await;
        let evidence = scene.settled_as_promised(0).await;
        let refused = writes(&scene.world).iter().filter(|write| write.status == Some(401)).count();
        assert!(refused > 0, "a token was taken back");
        assert_eq!(logins(&scene.world), 3, "one more of the worker that it was taken from");
        let ended = ends(&evidence);
        assert_eq!(ended.len(), 400);
        let at_once = |outcome: &&Outcome| outcome.outcome == OutcomeKind::Delivered && outcome.attempts == 1;
        assert!(ended.into_iter().all(|outcome| at_once(&outcome)), "no try was used up");
    });
}

#[test]
fn a_wrong_password_pauses_the_crm_until_it_is_another() {
    const PAUSED: &str = r#"crm_paused{crm="sam"}"#;
    play(async {
        let door = SamDoorSettings { locks_after: Some(2), ..SamDoorSettings::default() };
        let sam = NextinteractSamSettings { door, ..NextinteractSamSettings::default() };
        let world = world(1, sam).await;
        world.sandbox.set_tokens(["the right one".to_owned()]);
        let mut scene = Scene::begin(world).await;
        scene.world.publish(changes(0..50, 1)).await;
        scene.until("the CRM is paused", |world| world.metric(0, PAUSED) == 1.0).await;
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!(scene.world.metric(0, PAUSED), 1.0);
        assert_eq!(logins(&scene.world), 1, "a wrong password is sent once, so nobody is locked out");
        assert_eq!(writes(&scene.world).len(), 0);
        assert!(ends(&scene.evidence_so_far().await).is_empty(), "nothing is given up");
        scene.world.replace_token("the right one");
        let evidence = scene.settled_as_promised(0).await;
        assert_eq!(ends(&evidence).len(), 50);
        assert_eq!((scene.world.sandbox.contacts().len(), logins(&scene.world)), (50, 2));
        scene.until("the CRM is not paused", |world| world.metric(0, PAUSED) == 0.0).await;
    });
}

#[test]
fn calls_that_are_lost_and_workers_that_die_leave_every_contact_as_it_should_be() {
    play(async {
        let mut scene = Scene::begin(world(2, NextinteractSamSettings::default()).await).await;
        let upserts = |fault: Fault| Scripted { only: Only::action(Action::Upsert), ..Scripted::at(1, fault) };
        scene.world.set_faults(FaultPlan {
            script: vec![
                Scripted { call: 2, every: Some(5), ..upserts(Instead::ResetAfter.into()) },
                Scripted { call: 3, every: Some(7), ..upserts(Fault::status_after_effect(503)) },
                Scripted { call: 4, every: Some(9), ..upserts(Fault::retry_after(429, 2)) },
            ],
            ..FaultPlan::default()
        });
        for round in 1..=10 {
            scene.world.publish(changes(0..200, round)).await;
            tokio::time::sleep(Duration::from_millis(700)).await;
            if round == 5 {
                scene.world.kill(0).await;
                scene.world.start(0);
            }
        }
        scene.settled_as_promised(4 * ROWS).await;
        assert_eq!(scene.world.sandbox.contacts().len(), 200);
    });
}
