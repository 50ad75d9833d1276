//! What an operator changes about the mapping: fields that are filled otherwise, and who is kept away.

use contact_replicator::{
    cli::demo::evidence::{Evidence, Fields},
    config::{Condition, FieldRule, OnLeave, RuleTable},
    event::{Operation, OutcomeKind, ReasonCode},
};
use serde_json::{Value, json};

use crate::{
    history::event,
    scene::{Scene, effects, person, play},
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
    let is_of = |outcome: &&contact_replicator::event::Outcome| {
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
