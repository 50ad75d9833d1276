//! What an operator changes about the mapping: fields that are filled otherwise, and who is kept away.

use std::time::Duration;

use contact_replicator::{
    cli::demo::evidence::{Evidence, Fields},
    config::{Condition, FieldRule, Mode, OnLeave, RuleTable},
    event::{Operation, Outcome, OutcomeKind, ReasonCode},
};
use serde_json::{Value, json};

use crate::{
    history::event,
    scene::{Scene, change, effects, person, play},
    world::{CRM, Setup, World},
};

/// A person with these free attributes.
fn attributed(subject: &str, sequence: u64, attributes: Value) -> contact_replicator::log::NewRecord {
    let mut said = person(subject, "Ann");
    said["attributes"] = attributes;
    said["organization"] = json!({ "title": "Buyer" });
    event("/shop", subject, &format!("{subject}-{sequence}"), "contact.updated", sequence, Some(said))
}

/// How the event of this id ended in the CRM.
#[track_caller]
fn ended(evidence: &Evidence, id: &str) -> (OutcomeKind, Option<Operation>, Option<ReasonCode>) {
    let is_of = |outcome: &&Outcome| {
        outcome.event.as_ref().and_then(|event| event.id.as_deref()) == Some(id) && &*outcome.crm == CRM
    };
    let mut outcomes = evidence.outcomes.iter().filter(is_of);
    let outcome = outcomes.next().expect("it has its outcome");
    assert!(outcomes.next().is_none(), "it has one");
    (outcome.outcome, outcome.operation, outcome.reason.as_ref().map(|reason| reason.code))
}

fn stored(evidence: &Evidence) -> Vec<&Fields> {
    evidence.crms[0].stored.iter().map(|stored| &stored.fields).collect()
}

#[test]
fn a_field_is_filled_by_its_rule_and_cleared_once_the_contact_says_nothing() {
    play(async {
        let mut world = World::of(Setup::default()).await;
        let left = FieldRule::Table(RuleTable { omit: true, ..RuleTable::default() });
        let fields = [("department", FieldRule::Pointer("/attributes/team".to_owned())), ("jobTitle", left)];
        world.settings.crm[0].fields = fields.map(|(name, rule)| (name.to_owned(), rule)).into();
        let mut scene = Scene::begin(world).await;
        scene.world.publish(vec![attributed("s0", 1, json!({ "team": "East" }))]).await;
        let evidence = scene.settled_as_promised(0).await;
        let fields = stored(&evidence)[0];
        assert_eq!((fields.get("department"), fields.get("jobTitle")), (Some(&json!("East")), None));

        scene.world.publish(vec![attributed("s0", 2, json!({}))]).await;
        let evidence = scene.settled_as_promised(0).await;
        assert_eq!(stored(&evidence)[0].get("department"), None);
        assert_eq!(ended(&evidence, "s0-2").1, Some(Operation::Update));
    });
}

#[test]
fn a_changed_rule_reaches_a_contact_with_its_next_change_and_calls_nobody_before() {
    play(async {
        let world = World::of(Setup::default()).await;
        let mut scene = Scene::begin(world).await;
        scene.world.publish(vec![change("s0", 1, "Ann"), change("s1", 1, "Bob")]).await;
        scene.settled_as_promised(0).await;
        assert!(scene.world.stop(0).await);
        let rule = FieldRule::Table(RuleTable { constant: Some(json!("Hall")), ..RuleTable::default() });
        scene.world.settings.crm[0].fields = [("department".to_owned(), rule)].into();
        scene.world.start(0);
        scene.ready(0).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(effects(&scene.world).len(), 2);
        scene.world.publish(vec![change("s0", 2, "Cleo")]).await;
        let evidence = scene.settled().await;
        let halls = stored(&evidence).into_iter().filter(|fields| fields.get("department") == Some(&json!("Hall")));
        assert_eq!((halls.count(), effects(&scene.world).len()), (1, 3));
    });
}

#[test]
fn who_does_not_match_is_kept_away_and_who_leaves_is_retired_once() {
    play(async {
        let mut world = World::of(Setup::default()).await;
        let crm = &mut world.settings.crm[0];
        let at = Some("/attributes/tier".to_owned());
        crm.filter = vec![Condition { at, is: Some(json!("gold")), ..Condition::default() }];
        crm.on_leave = OnLeave::Deactivate;
        let mut scene = Scene::begin(world).await;
        let tier = |tier: &str| json!({ "tier": tier });
        scene.world.publish(vec![attributed("s0", 1, tier("gold")), attributed("s1", 1, tier("tin"))]).await;
        let evidence = scene.settled_as_promised(0).await;
        let kept_away = (OutcomeKind::Filtered, None, Some(ReasonCode::Where));
        assert_eq!(ended(&evidence, "s0-1"), (OutcomeKind::Delivered, Some(Operation::Create), None));
        assert_eq!(ended(&evidence, "s1-1"), kept_away);
        assert_eq!(stored(&evidence).len(), 1);

        scene.world.publish(vec![attributed("s0", 2, tier("tin"))]).await;
        let evidence = scene.settled_as_promised(0).await;
        assert_eq!(ended(&evidence, "s0-2"), (OutcomeKind::Delivered, Some(Operation::Deactivate), None));
        assert_eq!(stored(&evidence)[0].get("inactive"), Some(&json!(true)));

        // What happens to whoever has left is none of the CRM's business.
        let calls = effects(&scene.world).len();
        scene.world.publish(vec![attributed("s0", 3, tier("lead"))]).await;
        let evidence = scene.settled().await;
        assert_eq!(ended(&evidence, "s0-3"), kept_away);
        assert_eq!(effects(&scene.world).len(), calls);

        scene.world.publish(vec![attributed("s0", 4, tier("gold"))]).await;
        let evidence = scene.settled_as_promised(0).await;
        assert_eq!(ended(&evidence, "s0-4"), (OutcomeKind::Delivered, Some(Operation::Reactivate), None));
    });
}

#[test]
fn who_is_forgotten_is_so_whether_or_not_the_crm_may_have_them() {
    play(async {
        let mut world = World::of(Setup::default()).await;
        let at = Some("/attributes/tier".to_owned());
        world.settings.crm[0].filter = vec![Condition { at, is: Some(json!("gold")), ..Condition::default() }];
        let mut scene = Scene::begin(world).await;
        scene.world.publish(vec![attributed("s0", 1, json!({ "tier": "gold" }))]).await;
        scene.settled().await;
        scene.world.publish(vec![attributed("s0", 2, json!({ "tier": "tin" }))]).await;
        let evidence = scene.settled().await;
        assert_eq!(ended(&evidence, "s0-2"), (OutcomeKind::Filtered, None, Some(ReasonCode::Where)));
        assert_eq!(stored(&evidence)[0].get("inactive"), None, "who leaves is kept as they were");
        scene.world.publish(vec![event("/shop", "s0", "gone", "contact.erased", 3, None)]).await;
        let evidence = scene.settled_as_promised(0).await;
        assert_eq!(ended(&evidence, "gone").1, Some(Operation::Blank));
    });
}

#[test]
fn a_withdrawn_consent_that_the_crm_cannot_be_told_of_is_counted_even_if_nothing_else_has_changed() {
    play(async {
        let mut world = World::of(Setup::default()).await;
        let left = FieldRule::Table(RuleTable { omit: true, ..RuleTable::default() });
        world.settings.crm[0].fields = [("marketingOptOut".to_owned(), left)].into();
        let mut scene = Scene::begin(world).await;
        let consents = |sequence: u64, marketing: bool| {
            let mut said = person("s0", "Ann");
            said["consent"] = json!({ "marketing": marketing });
            event("/shop", "s0", &format!("s0-{sequence}"), "contact.updated", sequence, Some(said))
        };
        let counted = r#"consent_not_expressible_total{crm="priava"}"#;
        scene.world.publish(vec![consents(1, true)]).await;
        scene.settled().await;
        assert_eq!(scene.world.metric(0, counted), 0.0);
        scene.world.publish(vec![consents(2, false)]).await;
        let evidence = scene.settled_as_promised(0).await;
        assert_eq!(ended(&evidence, "s0-2"), (OutcomeKind::Unchanged, None, Some(ReasonCode::SameProjection)));
        assert_eq!(scene.world.metric(0, counted), 1.0);
    });
}

const PEOPLE: usize = 8;

fn people(sequence: u64) -> Vec<contact_replicator::log::NewRecord> {
    (0..PEOPLE).map(|number| change(&format!("s{number}"), sequence, &format!("Ann{sequence}"))).collect()
}

fn of_shadow(evidence: &Evidence) -> usize {
    let is_shadow =
        |outcome: &&Outcome| outcome.reason.as_ref().is_some_and(|reason| reason.code == ReasonCode::Shadow);
    evidence.outcomes.iter().filter(is_shadow).count()
}

#[test]
fn a_crm_in_shadow_is_never_called_and_gets_everybody_once_it_is_live() {
    play(async {
        let mut world = World::of(Setup::default()).await;
        world.settings.crm[0].mode = Mode::Shadow;
        let mut scene = Scene::begin(world).await;
        scene.world.publish(people(1)).await;
        let evidence = scene.settled().await;
        assert_eq!(of_shadow(&evidence), PEOPLE);
        assert!(scene.world.sandbox.requests().is_empty());
        let counted = r#"shadow_deliveries_total{crm="priava",operation="create"}"#;
        assert_eq!(scene.world.metric(0, counted), PEOPLE as f64);

        for _ in 0..2 {
            assert!(scene.world.stop(0).await);
            scene.world.settings.crm[0].mode = Mode::Live;
            scene.world.start(0);
            scene.ready(0).await;
            tokio::time::sleep(Duration::from_secs(30)).await;
            let evidence = scene.settled_as_promised(0).await;
            assert_eq!(stored(&evidence).len(), PEOPLE);
            let asked = evidence.entries.iter().filter(|entry| entry.is_asked()).count();
            assert_eq!(asked, PEOPLE, "another start asks for nothing");
        }
    });
}

#[test]
fn a_worker_that_is_still_in_shadow_answers_nothing_once_another_is_live() {
    play(async {
        let mut world = World::of(Setup { workers: 2, ..Setup::default() }).await;
        world.settings.crm[0].mode = Mode::Shadow;
        let mut scene = Scene::begin_with(world, &[0]).await;
        scene.world.publish(people(1)).await;
        scene.settled().await;
        assert!(scene.world.stop(0).await);
        scene.world.settings.crm[0].mode = Mode::Live;
        scene.world.start(1);
        scene.ready(1).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        scene.settled_as_promised(0).await;

        scene.world.settings.crm[0].mode = Mode::Shadow;
        scene.world.start(0);
        scene.ready(0).await;
        scene.world.publish(people(2)).await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        let evidence = scene.evidence().await;
        assert_eq!(of_shadow(&evidence), PEOPLE, "those of before");
        // Its partitions go to the one that is live.
        let undone = scene.world.undone(0).await;
        assert!(undone.iter().all(|part| &**part == "replicator of priava"), "{undone:?}");
        let evidence = scene.settled_as_promised(0).await;
        let delivered =
            (0..PEOPLE).filter(|number| ended(&evidence, &format!("s{number}-2")).0 == OutcomeKind::Delivered);
        assert_eq!(delivered.count(), PEOPLE);
    });
}
