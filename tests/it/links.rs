//! A CRM that is not empty on its first day: what an operator knows of its contacts is imported while it is in shadow, and
//! from the first delivery on each is updated, whoever else could have been found or made. And where a search found several,
//! an operator says which one it is.

use std::time::Duration;

use bytes::Bytes;
use contact_replicator::{
    cli::demo::evidence::Evidence,
    config::{CrmKind, FieldRule, Mode, RuleTable},
    contact::ContactId,
    event::{Operation, Outcome, OutcomeKind, ReasonCode},
    explain::Asked,
    links::{
        self, Imported, LinksError, Order, Reply, Row, To, What, Why,
        export::{self, Line, State},
    },
    sandbox::{Action, Kind, Sandbox},
};
use serde_json::{Value, json};

use crate::{
    scene::{Scene, change, play},
    world::{CRM, Setup, Tenant, World, operator},
};

const CONTACTS: usize = 4;
const PREVISTO: &[Tenant] = &[Tenant { name: "previsto", kind: CrmKind::Previsto }];
const LOGISENSE: &[Tenant] = &[Tenant { name: "billing", kind: CrmKind::Logisense }];
const PRIAVA: &[Tenant] = &[Tenant { name: CRM, kind: CrmKind::Priava }];

fn people(subject: &str, name: &str) -> Vec<contact_replicator::log::NewRecord> {
    (0..CONTACTS).map(|number| change(&format!("{subject}{number}"), 1, name)).collect()
}

fn row(subject: &str, remote_id: &str) -> Row {
    Row { source: "/shop".to_owned(), subject: subject.to_owned(), remote_id: remote_id.to_owned() }
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// What the CRM calls its contacts, the oldest first.
fn ids(sandbox: &Sandbox) -> Vec<String> {
    sandbox.contacts().iter().map(|contact| text_of(&contact["id"])).collect()
}

async fn obey(world: &World, what: What) -> Result<Reply, LinksError> {
    let crm = world.settings.crm[0].name.to_string();
    links::obey(world.desk(0), &Order { crm, what }, &operator()).await
}

async fn imported(world: &World, rows: &[Row], check: bool) -> Imported {
    match obey(world, What::Import { rows: rows.to_vec(), check }).await.expect("the worker takes it") {
        Reply::Imported(imported) => imported,
        reply => panic!("{reply:?}"),
    }
}

async fn set(world: &World, subject: &str, to: To) -> Result<ContactId, LinksError> {
    let contact = Asked::About(format!("/shop/{subject}"));
    match obey(world, What::Set { contact, to }).await? {
        Reply::Set { contact, .. } => Ok(contact),
        reply => panic!("{reply:?}"),
    }
}

/// All rows, by their subjects.
async fn exported(world: &World, worker: usize) -> Vec<(String, Option<String>, State)> {
    let order = export::Order { crm: world.settings.crm[0].name.to_string() };
    let mut lines = export::begin(world.desk(worker), &order).expect("the worker takes it");
    let mut rows = Vec::new();
    while let Some(line) = lines.recv().await {
        match line {
            Line::Row(row) => rows.push((row.subject, row.remote_id, row.state)),
            Line::Ended { rows: told } => assert_eq!(told as usize, rows.len()),
            Line::Failed { why } => panic!("{why}"),
            Line::Begun { .. } | Line::Progress { .. } => {}
        }
    }
    rows.sort_by(|one, other| one.0.cmp(&other.0));
    rows
}

/// The last outcome of the only contact that was set.
fn of_cause(evidence: &Evidence) -> &Outcome {
    let of_links = |outcome: &&Outcome| outcome.cause.as_ref().is_some_and(|cause| cause.kind.as_str() == "link");
    evidence.outcomes.iter().rfind(of_links).expect("it has its outcome")
}

/// A CRM that holds the same people, written there by another installation: nobody of ours is known to it.
async fn not_empty(crms: &'static [Tenant]) -> Sandbox {
    let mut scene = Scene::begin(World::of(Setup { crms, ..Setup::default() }).await).await;
    scene.world.publish(people("old", "Old")).await;
    scene.settled().await;
    assert!(scene.world.stop(0).await);
    scene.world.sandbox.clone()
}

/// A Priava with contacts that another program made under keys of its own.
async fn with_keys() -> Sandbox {
    let world = World::of(Setup { crms: PRIAVA, ..Setup::default() }).await;
    for number in 0..CONTACTS {
        let body = json!({
            "firstName": "Old", "lastName": format!("Fold{number}"), "email": format!("old{number}@example.com"),
            "mobile": "+41446681800", "externalIntegrationId": format!("K-{number}"), "integrationSrc": "sim",
            "department": "theirs",
        });
        let request = http::Request::post(format!("{}/v1/crm/contacts", Kind::Priava.base_path()))
            .header("content-type", "application/json")
            .header("authorization", "Bearer sandbox-token")
            .body(Bytes::from(body.to_string()))
            .expect("a request");
        let answer = world.sandbox.handle(request).await.expect("nothing is broken");
        assert!(answer.status().is_success(), "{answer:?}");
    }
    world.sandbox.clone()
}

/// A world whose CRM is in shadow and is this one, with all people known.
async fn in_shadow(crms: &'static [Tenant], sandbox: &Sandbox) -> Scene {
    let mut world = World::of(Setup { crms, seed: 2, ..Setup::default() }).await;
    world.sandbox = sandbox.clone();
    world.crms[0].sandbox = sandbox.clone();
    world.settings.crm[0].mode = Mode::Shadow;
    let mut scene = Scene::begin(world).await;
    scene.ready(0).await;
    scene.world.publish(people("s", "Ann")).await;
    scene.settled().await;
    scene
}

async fn goes_live(scene: &mut Scene) -> Evidence {
    assert!(scene.world.stop(0).await);
    scene.world.settings.crm[0].mode = Mode::Live;
    scene.world.start(0);
    scene.ready(0).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    scene.settled().await
}

/// Imports `names` in shadow, goes live, and sees to it that each contact was updated and nothing else was done.
async fn first_day(crms: &'static [Tenant], sandbox: Sandbox, names: Vec<String>) -> Scene {
    let mut scene = in_shadow(crms, &sandbox).await;
    let before = sandbox.requests().len();
    let rows: Vec<Row> = names.iter().enumerate().map(|(number, name)| row(&format!("s{number}"), name)).collect();
    let checked = imported(&scene.world, &rows, true).await;
    assert_eq!((checked.id, checked.linked, checked.refused.len()), (None, CONTACTS as u64, 0));
    let first = imported(&scene.world, &rows, false).await;
    assert_eq!((first.linked, first.known, first.refused.len()), (CONTACTS as u64, 0, 0));
    let again = imported(&scene.world, &rows, false).await;
    assert_eq!((again.id, again.linked, again.known), (None, 0, CONTACTS as u64), "it can be run again");
    let evidence = scene.settled().await;
    let code = of_cause(&evidence).reason.as_ref().map(|reason| reason.code);
    assert_eq!(code, Some(ReasonCode::Shadow), "what was said is answered, and nothing is sent");
    let of = |state: State| {
        let rows = names.iter().enumerate();
        rows.map(|(number, name)| (format!("s{number}"), Some(name.clone()), state)).collect::<Vec<_>>()
    };
    assert_eq!(exported(&scene.world, 0).await, of(State::Unsent));
    assert_eq!(sandbox.requests().len(), before);

    let evidence = goes_live(&mut scene).await;
    let requests = sandbox.requests().split_off(before);
    let bad = requests.iter().find(|request| matches!(request.action, Action::Create | Action::Search));
    assert!(bad.is_none(), "{bad:?}");
    let contacts = sandbox.contacts();
    assert_eq!(contacts.len(), CONTACTS, "nobody is there twice");
    for contact in &contacts {
        let fields = contact["fields"].to_string();
        assert!(fields.contains("Ann") && !fields.contains("Old"), "{fields}");
    }
    let adopted = evidence.outcomes.iter().filter(|outcome| outcome.operation == Some(Operation::Adopt)).count();
    assert_eq!(adopted, CONTACTS);
    assert_eq!(exported(&scene.world, 0).await, of(State::Active));
    // The same once more, now that the CRM is called.
    let refused = obey(&scene.world, What::Import { rows, check: true }).await;
    assert!(matches!(refused, Err(LinksError::NotInShadow { .. })), "{refused:?}");
    scene
}

#[test]
fn contacts_of_a_previsto_are_updated_from_the_first_day_on() {
    play(async {
        let sandbox = not_empty(PREVISTO).await;
        let names = ids(&sandbox);
        first_day(PREVISTO, sandbox, names).await;
    });
}

#[test]
fn contacts_of_a_logisense_are_updated_from_the_first_day_on() {
    play(async {
        let sandbox = not_empty(LOGISENSE).await;
        let names = ids(&sandbox);
        first_day(LOGISENSE, sandbox, names).await;
    });
}

#[test]
fn contacts_of_a_priava_are_written_under_the_keys_that_they_have_and_keep_what_is_not_ours() {
    play(async {
        let sandbox = with_keys().await;
        let keys = (0..CONTACTS).map(|number| format!("K-{number}")).collect();
        let mut scene = first_day(PRIAVA, sandbox.clone(), keys).await;
        scene.world.publish(vec![change("s0", 2, "Cleo")]).await;
        scene.settled().await;
        let changed = sandbox.contact("K-0").expect("it is there");
        assert_eq!((&changed["firstName"], &changed["department"]), (&json!("Cleo"), &json!("theirs")));
        assert_eq!(sandbox.contacts().len(), CONTACTS);
    });
}

#[test]
fn rows_that_cannot_be_followed_are_refused_by_their_places_and_the_others_imported() {
    play(async {
        let sandbox = not_empty(LOGISENSE).await;
        let scene = in_shadow(LOGISENSE, &sandbox).await;
        let rows = [
            row("s0", "17"),
            row("nobody", "18"),
            row("s1", "con_18"),
            row("s1", "17"),
            row("s0", "19"),
            row("s0", "17"),
            Row { source: String::new(), ..row("s1", "20") },
            row("s2", "21"),
        ];
        let said = imported(&scene.world, &rows, false).await;
        assert_eq!((said.linked, said.known), (2, 1));
        let refused: Vec<_> = said.refused.iter().map(|refused| (refused.place, &refused.why)).collect();
        let places: Vec<_> = refused.iter().map(|(place, _)| *place).collect();
        assert_eq!(places, [1, 2, 3, 4, 6]);
        assert!(matches!(refused[1].1, Why::Malformed(why) if why.contains("whole numbers")));
        let (Why::Taken(holder), Why::Contradicted(contact)) = (refused[2].1, refused[3].1) else {
            panic!("{refused:?}")
        };
        assert_eq!((refused[0].1, refused[4].1, holder), (&Why::Unknown, &Why::Unknown, contact));
        // Before and after the view shows it.
        for _ in 0..2 {
            let later = imported(&scene.world, &[row("s3", "17"), row("s3", "21")], true).await;
            let whys: Vec<_> = later.refused.into_iter().map(|refused| refused.why).collect();
            assert_eq!(whys[0], Why::Taken(*holder));
            assert!(matches!(whys[1], Why::Taken(other) if other != *holder));
            tokio::time::sleep(Duration::from_secs(10)).await;
        }
        let many = vec![row("s0", "17"); links::ROWS_MAX + 1];
        let too_many = obey(&scene.world, What::Import { rows: many, check: true }).await;
        assert!(matches!(too_many, Err(LinksError::TooMany)), "{too_many:?}");
    });
}

/// A contact as a user of the CRM would make it.
async fn by_hand(sandbox: &Sandbox, subject: &str) {
    let form = format!("name=Ann%20F{subject}&email={subject}%40example.com");
    let request = http::Request::post(format!("{}/contacts", Kind::Previsto.base_path()))
        .header("authorization", "Basic c2FuZGJveC10b2tlbjo=")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Bytes::from(form))
        .expect("a request");
    let answer = sandbox.handle(request).await.expect("nothing is broken");
    assert!(answer.status().is_success(), "{answer:?}");
}

#[test]
fn an_operator_says_which_of_several_it_is_or_that_it_is_none_of_them() {
    play(async {
        let mut scene = Scene::begin(World::of(Setup { crms: PREVISTO, ..Setup::default() }).await).await;
        scene.ready(0).await;
        let sandbox = scene.world.sandbox.clone();
        for subject in ["s0", "s0", "s1", "s1"] {
            by_hand(&sandbox, subject).await;
        }
        let known = ids(&sandbox);
        scene.world.publish(vec![change("s0", 1, "Ann"), change("s1", 1, "Ann")]).await;
        scene.settled().await;
        let ambiguous = |subject: &str| (subject.to_owned(), None, State::Ambiguous);
        assert_eq!(exported(&scene.world, 0).await, [ambiguous("s0"), ambiguous("s1")]);
        let before = sandbox.requests().len();

        let first = set(&scene.world, "s0", To::Remote(known[1].clone())).await.expect("the worker takes it");
        let evidence = scene.settled().await;
        let outcome = of_cause(&evidence);
        assert_eq!((outcome.outcome, outcome.operation), (OutcomeKind::Delivered, Some(Operation::Adopt)));
        assert_eq!((outcome.contact_id, &outcome.remote_id), (Some(first), &Some(known[1].clone())));
        let taken = set(&scene.world, "s1", To::Remote(known[1].clone())).await;
        assert!(matches!(taken, Err(LinksError::Refused(Why::Taken(holder))) if holder == first), "{taken:?}");
        let malformed = set(&scene.world, "s1", To::Remote("a/b".to_owned())).await;
        assert!(matches!(malformed, Err(LinksError::Refused(Why::Malformed(_)))), "{malformed:?}");
        let nobody = set(&scene.world, "s9", To::New).await;
        assert!(matches!(nobody, Err(LinksError::Nobody)), "{nobody:?}");

        set(&scene.world, "s1", To::New).await.expect("the worker takes it");
        let evidence = scene.settled().await;
        let outcome = of_cause(&evidence);
        assert_eq!((outcome.outcome, outcome.operation), (OutcomeKind::Delivered, Some(Operation::Create)));
        let actions: Vec<Action> =
            sandbox.requests().split_off(before).into_iter().map(|request| request.action).collect();
        assert_eq!(actions, [Action::Update, Action::Create], "nothing was searched for");
        let made = ids(&sandbox).pop().expect("it was made");
        assert_eq!(sandbox.contacts().len(), known.len() + 1);
        let active = |subject: &str, id: &str| (subject.to_owned(), Some(id.to_owned()), State::Active);
        assert_eq!(exported(&scene.world, 0).await, [active("s0", &known[1]), active("s1", &made)]);

        // Both go on as any other contact.
        scene.world.publish(vec![change("s0", 2, "Bea"), change("s1", 2, "Bea")]).await;
        scene.settled().await;
        let updates = sandbox.requests().split_off(before + 2);
        assert!(updates.len() == 2 && updates.iter().all(|request| request.action == Action::Update), "{updates:?}");
    });
}

#[test]
fn one_worker_exports_what_others_own_too() {
    play(async {
        let world = World::of(Setup { crms: PREVISTO, workers: 2, ..Setup::default() }).await;
        let mut scene = Scene::begin(world).await;
        scene.ready(0).await;
        scene.ready(1).await;
        scene.world.publish(people("s", "Ann")).await;
        scene.settled().await;
        let rows = exported(&scene.world, 0).await;
        let is_whole = |row: &(String, Option<String>, State)| row.1.is_some() && row.2 == State::Active;
        assert!(rows.len() == CONTACTS && rows.iter().all(is_whole), "{rows:?}");
        assert_eq!(exported(&scene.world, 1).await, rows);
    });
}

#[test]
fn a_changed_mapping_is_counted_and_rewrites_nobody_until_they_are_driven_anew() {
    play(async {
        let mut scene = Scene::begin(World::of(Setup { crms: PRIAVA, ..Setup::default() }).await).await;
        let counted = r#"links_of_other_mappings{crm="priava"}"#;
        scene.world.publish(people("s", "Ann")).await;
        scene.settled().await;
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(scene.world.metric(0, counted), 0.0);
        assert!(scene.world.stop(0).await);
        let rule = FieldRule::Table(RuleTable { constant: Some(json!("Hall")), ..RuleTable::default() });
        scene.world.settings.crm[0].fields = [("department".to_owned(), rule)].into();
        scene.world.start(0);
        scene.ready(0).await;
        let before = scene.world.sandbox.requests().len();
        scene.until("all counted", |world| world.metric(0, counted) == CONTACTS as f64).await;
        assert_eq!(scene.world.sandbox.requests().len(), before);

        scene.world.publish(vec![change("s0", 2, "Bea")]).await;
        scene.until("one fewer", |world| world.metric(0, counted) == CONTACTS as f64 - 1.0).await;
        let what = contact_replicator::resync::What::All { restart: false };
        let order = contact_replicator::resync::Order { crm: CRM.to_owned(), what };
        contact_replicator::resync::obey(scene.world.desk(0), &order, &operator()).await.expect("the worker takes it");
        scene.until("none", |world| world.metric(0, counted) == 0.0).await;
        assert_eq!(scene.world.sandbox.requests().len(), before + 1 + CONTACTS);
    });
}
