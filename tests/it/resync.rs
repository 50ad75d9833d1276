//! Contacts that an operator has driven anew: what nobody could know is mended, each is answered once, and a job that drives
//! all of them survives the worker that carries it on.

use std::{collections::BTreeMap, time::Duration};

use contact_replicator::{
    cli::demo::{checks, evidence::Evidence},
    contact::ContactId,
    event::{Operation, Outcome, OutcomeKind, ReasonCode},
    explain::{Asked, ExplainError},
    resync::{self, Order, Reply, ResyncError, What, job::Standing},
    sandbox::{Fault, FaultPlan, Only, Window},
};
use serde_json::json;

use crate::{
    history::event,
    invariants,
    scene::{Scene, change, person, play},
    world::{CRM, Setup, World, operator},
};

const CONTACTS: usize = 40;

async fn order(world: &World, worker: usize, what: What) -> Result<Reply, ResyncError> {
    resync::obey(world.desk(worker), &Order { crm: CRM.to_owned(), what }, &operator()).await
}

/// Has `named` driven anew, and returns the id of the cause.
async fn anew(world: &World, named: &[&str]) -> String {
    let contacts = named.iter().map(|name| Asked::About((*name).to_owned())).collect();
    match order(world, 0, What::Contacts(contacts)).await.expect("the worker takes it") {
        Reply::Contacts { id, unknown, .. } if unknown.is_empty() => id,
        reply => panic!("{reply:?}"),
    }
}

async fn standing(world: &World, worker: usize) -> Option<Standing> {
    match order(world, worker, What::Status).await {
        Ok(Reply::Job(standing)) => standing,
        Err(ResyncError::Explain(ExplainError::Closed)) => None,
        other => panic!("{other:?}"),
    }
}

/// The outcomes of a cause, by contact.
fn answers<'a>(evidence: &'a Evidence, id: &str) -> BTreeMap<ContactId, Vec<&'a Outcome>> {
    let mut answers: BTreeMap<ContactId, Vec<&Outcome>> = BTreeMap::new();
    for outcome in &evidence.outcomes {
        if outcome.cause.as_ref().is_some_and(|cause| cause.id == id) {
            answers.entry(outcome.contact_id.expect("somebody")).or_default().push(outcome);
        }
    }
    answers
}

#[track_caller]
fn the_one_answer<'a>(evidence: &'a Evidence, id: &str) -> &'a Outcome {
    let answers = answers(evidence, id);
    assert_eq!(answers.len(), 1);
    let outcomes = answers.into_values().next().expect("just counted");
    assert_eq!(outcomes.len(), 1);
    outcomes[0]
}

/// A request that was thought lost arrives again, long after.
async fn haunt(world: &World, number: usize) {
    let late = &world.sandbox.requests()[number];
    let request = http::Request::post(late.path.as_str())
        .header("content-type", "application/json")
        .header("authorization", "Bearer sandbox-token")
        .body(late.body.clone().expect("the books keep bodies"))
        .expect("a request");
    let answer = world.sandbox.handle(request).await.expect("nothing is broken");
    assert!(answer.status().is_success(), "{answer:?}");
}

#[test]
fn what_a_zombie_wrote_is_mended_by_a_resync() {
    play(async {
        let mut scene = Scene::with_workers(1).await;
        scene.world.publish(vec![change("s0", 1, "Ann")]).await;
        scene.settled().await;
        scene.world.publish(vec![change("s0", 2, "Cleo")]).await;
        scene.settled_as_promised(0).await;
        haunt(&scene.world, 0).await;
        let evidence = scene.evidence().await;
        assert!(!checks::the_crm_equals_the_records(&evidence).ok, "the zombie left what it had once sent");

        let id = anew(&scene.world, &["/shop/s0"]).await;
        let evidence = scene.settled().await;
        let answer = the_one_answer(&evidence, &id);
        assert_eq!((answer.outcome, answer.operation), (OutcomeKind::Delivered, Some(Operation::Update)));
        assert_eq!((&answer.event, answer.version), (&None, Some(2)));
        let broken = invariants::broken(&scene.world, &evidence).await;
        // The zombie's request went back, and none of ours accounts for it.
        let other = broken.iter().find(|checked| !["order_per_contact", "calls_per_event"].contains(&checked.name));
        assert!(other.is_none(), "{other:?}");
    });
}

#[test]
fn who_was_erased_is_erased_again_and_who_was_never_there_is_left_alone() {
    play(async {
        let mut scene = Scene::with_workers(1).await;
        let gone = |subject: &str, verb: &str| event("/shop", subject, "gone", verb, 2, None);
        scene.world.publish(vec![change("s0", 1, "Ann"), change("s1", 1, "Bob")]).await;
        scene.settled().await;
        // Of the third, nothing ever reaches the CRM.
        let nobody = json!({ "organization": { "title": "Buyer" } });
        scene.world.publish(vec![event("/shop", "s2", "s2-1", "contact.updated", 1, Some(nobody))]).await;
        scene.settled().await;
        let contacts = scene.evidence().await.records.iter().map(|record| record.contact_id.key()).collect::<Vec<_>>();
        let third = contacts.last().expect("three were made").clone();
        let verbs = [("s0", "contact.erased"), ("s1", "contact.deleted"), ("s2", "contact.erased")];
        scene.world.publish(verbs.iter().map(|(subject, verb)| gone(subject, verb)).collect()).await;
        let evidence = scene.settled().await;
        let blanked = evidence.outcomes.iter().find(|outcome| outcome.operation == Some(Operation::Blank));
        let first = blanked.expect("the CRM blanks").contact_id.expect("somebody").key();
        let before = scene.world.sandbox.requests().len();

        // The stub has no members any more: it is named by its id.
        for (named, operation) in [(first.as_str(), Operation::Blank), ("/shop/s1", Operation::Deactivate)] {
            let id = anew(&scene.world, &[named]).await;
            let evidence = scene.settled_as_promised(0).await;
            let answer = the_one_answer(&evidence, &id);
            let allowed = [Some(operation), Some(Operation::Update)];
            assert!(answer.outcome == OutcomeKind::Delivered && allowed.contains(&answer.operation), "{answer:?}");
        }
        assert_eq!(scene.world.sandbox.requests().len(), before + 2);
        let id = anew(&scene.world, &[third.as_str()]).await;
        let evidence = scene.settled_as_promised(0).await;
        let answer = the_one_answer(&evidence, &id);
        let code = answer.reason.as_ref().map(|reason| reason.code);
        assert_eq!((answer.outcome, code), (OutcomeKind::Unchanged, Some(ReasonCode::UnknownContact)));
        assert_eq!(scene.world.sandbox.requests().len(), before + 2, "nobody was called about it");
    });
}

#[test]
fn a_parked_contact_is_tried_at_once_when_an_operator_asks() {
    play(async {
        let mut world = World::of(Setup::default()).await;
        let delivery = &mut world.settings.crm[0].delivery;
        delivery.parked_delay = Duration::from_secs(100_000);
        delivery.parked_delay_max = Duration::from_secs(100_000);
        let mut scene = Scene::begin(world).await;
        let fault = Fault::status(500);
        let away = Window { from: Duration::ZERO, lasts: Duration::from_secs(100_000), only: Only::default(), fault };
        scene.world.set_faults(FaultPlan { windows: vec![away], ..FaultPlan::default() });
        scene.world.publish(vec![change("s0", 1, "Ann")]).await;
        let parked = r#"contacts_parked{crm="priava"}"#;
        scene.until("a parked contact", |world| world.metric(0, parked) == 1.0).await;
        scene.world.set_faults(FaultPlan::default());
        let id = anew(&scene.world, &["/shop/s0"]).await;
        let evidence = scene.settled_as_promised(0).await;
        assert_eq!(the_one_answer(&evidence, &id).outcome, OutcomeKind::Delivered);
    });
}

#[test]
fn a_resync_of_all_is_carried_on_when_its_worker_dies_and_ends_with_one_answer_for_each() {
    play(async {
        let mut world = World::of(Setup { workers: 2, ..Setup::default() }).await;
        world.settings.crm[0].delivery.resync_contacts_per_second = 2.0;
        let mut scene = Scene::begin(world).await;
        let people = (0..CONTACTS).map(|number| change(&format!("s{number}"), 1, "Ann"));
        scene.world.publish(people.collect()).await;
        scene.settled().await;

        let asked = order(&scene.world, 0, What::All { restart: false }).await.expect("the worker takes it");
        let Reply::Job(Some(Standing { id, .. })) = asked else { panic!("{asked:?}") };
        let again = order(&scene.world, 1, What::All { restart: false }).await;
        assert!(matches!(again, Err(ResyncError::Running { .. })), "{again:?}");

        let remaining = r#"resync_remaining_contacts{crm="priava"}"#;
        let half = CONTACTS as f64 / 2.0;
        let is_half_done = |world: &World, worker: usize| (1.0..half).contains(&world.metric(worker, remaining));
        scene.until("half of it", |world| is_half_done(world, 0) || is_half_done(world, 1)).await;
        let active = usize::from(is_half_done(&scene.world, 1));
        scene.world.kill(active).await;
        let heir = 1 - active;
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let standing = standing(&scene.world, heir).await.expect("it was asked for");
            assert_eq!(standing.id, id);
            if let Some(ended) = standing.ended() {
                assert!(ended.finished);
                break;
            }
        }
        // What the dead had sent last, and what was in its hands.
        let evidence = scene.settled_as_promised(CONTACTS).await;
        let answers = answers(&evidence, &id);
        assert_eq!(answers.len(), CONTACTS);
        for (contact, outcomes) in answers {
            let kinds: Vec<_> = outcomes.iter().map(|outcome| outcome.outcome).collect();
            assert_eq!(kinds, [OutcomeKind::Delivered], "{contact}");
        }
        assert_eq!(scene.world.metric(heir, remaining), 0.0);
        let asked = evidence.entries.iter().filter(|entry| entry.is_asked());
        assert_eq!(asked.count(), CONTACTS, "nobody was appended twice");
    });
}

#[test]
fn a_resync_is_stopped_where_it_is_and_another_begins_anew() {
    play(async {
        let mut world = World::of(Setup::default()).await;
        world.settings.crm[0].delivery.resync_contacts_per_second = 2.0;
        let mut scene = Scene::begin(world).await;
        let people = (0..CONTACTS).map(|number| change(&format!("s{number}"), 1, "Ann"));
        scene.world.publish(people.collect()).await;
        scene.settled().await;
        let nothing = order(&scene.world, 0, What::Stop).await;
        assert!(matches!(nothing, Err(ResyncError::NotRunning { .. })), "{nothing:?}");
        let other = Order { crm: "another".to_owned(), what: What::Status };
        let unknown = resync::obey(scene.world.desk(0), &other, &operator()).await;
        assert!(matches!(unknown, Err(ResyncError::UnknownCrm { .. })), "{unknown:?}");

        let mut ids = Vec::new();
        for restart in [false, true] {
            let asked = order(&scene.world, 0, What::All { restart }).await.expect("the worker takes it");
            let Reply::Job(Some(Standing { id, .. })) = asked else { panic!("{asked:?}") };
            ids.push(id);
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        order(&scene.world, 0, What::Stop).await.expect("one is under way");
        let ended = loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let standing = standing(&scene.world, 0).await.expect("it was asked for");
            assert_eq!(standing.id, ids[1]);
            if let Some(ended) = standing.ended() {
                break ended;
            }
        };
        assert!(!ended.finished);
        let evidence = scene.settled_as_promised(0).await;
        for id in &ids {
            let driven = answers(&evidence, id).len();
            assert!((1..CONTACTS).contains(&driven), "{driven} were driven");
        }
    });
}

#[test]
fn a_contact_that_nobody_knows_is_told_by_its_place() {
    play(async {
        let mut scene = Scene::with_workers(1).await;
        let person = person("s0", "Ann");
        scene.world.publish(vec![event("/shop", "s0", "s0-1", "contact.updated", 1, Some(person))]).await;
        scene.settled().await;
        let named = ["/shop/s9", "/shop/s0", "s0@example.com"].map(|name| Asked::About(name.to_owned()));
        let reply = order(&scene.world, 0, What::Contacts(named.to_vec())).await.expect("the worker takes it");
        let Reply::Contacts { id, appended, unknown } = reply else { panic!("{reply:?}") };
        assert_eq!((appended.len(), unknown), (1, vec![0]), "two names of one contact");
        let evidence = scene.settled_as_promised(0).await;
        assert_eq!(the_one_answer(&evidence, &id).outcome, OutcomeKind::Delivered);
        let nobody = order(&scene.world, 0, What::Contacts(Vec::new())).await;
        assert!(matches!(nobody, Err(ResyncError::Nobody)), "{nobody:?}");
    });
}
