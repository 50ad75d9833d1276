//! Each step of each delivery, broken once in each way: by a loop over all steps, and not by luck.
//!
//! A small script of changes is run once without faults, and its steps are counted: every point of every transaction of
//! every writer, and every request before it leaves and before its answer arrives. Then it is run again for each step and
//! each way to break it, exactly there, and all invariants must hold. After each death it is run twice: the worker is
//! started again, and another takes over from it.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use contact_replicator::{
    cli::demo::evidence::Evidence,
    config::{Adopt, OnDelete, OnErase},
    event::{Operation, Outcome, OutcomeKind},
    log::{
        NewRecord,
        local::{Point, Verdict},
    },
    privacy::hex,
    protection::{Protection, Protections},
    sandbox::FaultPlan,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::{
    history::event,
    invariants::{self, Offsets},
    relations,
    scene::{Scene, change, play},
    world::{Break, CREATING, Moment, ONE, Setup, Tenant, World, group_of},
};

/// Simulated time in which a script settles, whatever was broken.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
/// A death is carried out before its worker does anything more.
const LOOKED_AT: Duration = Duration::from_millis(10);

/// A step of the script, as its writer or request counts them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    kind: Kind,
    /// Counted from 0, of its kind.
    number: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Transaction { writer: String, point: Point },
    Leaving,
    Answered,
}

impl Kind {
    fn of(moment: Moment<'_>) -> Self {
        match moment {
            Moment::Transaction { writer, point } => Self::Transaction { writer: writer.to_owned(), point },
            Moment::Leaving { .. } => Self::Leaving,
            Moment::Answered { .. } => Self::Answered,
        }
    }

    /// Every way to break such a step.
    fn breaks(&self) -> &'static [Break] {
        const OF_PREPARE: &[Break] =
            &[Break::Die, Break::Verdict(Verdict::Refused), Break::Verdict(Verdict::FailAborted)];
        const OF_COMMIT: &[Break] = &[
            Break::Die,
            Break::Verdict(Verdict::Refused),
            Break::Verdict(Verdict::FailAborted),
            Break::Verdict(Verdict::UnknownButCommitted),
            Break::Verdict(Verdict::UnknownAndAborted),
            Break::Verdict(Verdict::LateMarkers(Duration::from_secs(1))),
        ];
        const AFTER_COMMIT: &[Break] = &[Break::Die, Break::Verdict(Verdict::UnknownButCommitted)];
        const OF_REQUEST: &[Break] = &[Break::Die, Break::Lose, Break::Status(503)];
        match self {
            Self::Transaction { point: Point::BeforeCommit, .. } => OF_COMMIT,
            Self::Transaction { point: Point::AfterCommit, .. } => AFTER_COMMIT,
            Self::Transaction { .. } => OF_PREPARE,
            Self::Leaving | Self::Answered => OF_REQUEST,
        }
    }
}

/// The steps that were passed, in order.
#[derive(Debug, Default)]
struct Passed(Mutex<Vec<Step>>);

impl Passed {
    fn count(&self, moment: Moment<'_>) -> Step {
        let mut passed = self.0.lock();
        let kind = Kind::of(moment);
        let number = passed.iter().filter(|step| step.kind == kind).count();
        let step = Step { kind, number };
        passed.push(step.clone());
        step
    }
}

/// What is played: what happens to whom, in a world with one CRM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Script {
    /// A CRM with an upsert: two people come, one changes twice, one goes.
    Upserted,
    /// A CRM in which each create makes another contact, and where contacts may go for good: two people come, and one who
    /// was there before us and is adopted; one is deleted, one is forgotten, and one has another address each time.
    Created,
    /// A CRM with relations and photos, which take calls of their own: one person names another who is not there yet, and then
    /// a third; with a photo, and then another one.
    Related,
    /// The same of a CRM in which a contact names who pays for it, and has no photo.
    Paid,
}

impl Script {
    fn crms(self) -> &'static [Tenant] {
        match self {
            Self::Upserted => ONE,
            Self::Created => CREATING,
            Self::Related => relations::CRM_COM,
            Self::Paid => relations::PREVISTO,
        }
    }

    /// Whether contacts name others, so that what is left of one may come after all has been answered.
    fn relates(self) -> bool {
        matches!(self, Self::Related | Self::Paid)
    }

    fn crm(self) -> &'static str {
        self.crms()[0].name
    }

    fn said(self) -> Vec<Vec<NewRecord>> {
        let title = |subject: &str, sequence| {
            let said = json!({ "organization": { "title": "Buyer" } });
            event("/shop", subject, "last", "contact.patched", sequence, Some(said))
        };
        let gone = |subject: &str, verb: &str| event("/shop", subject, "gone", verb, 2, None);
        match self {
            Self::Upserted => vec![
                vec![change("s0", 1, "Ann"), change("s1", 1, "Bob")],
                vec![change("s0", 2, "Cleo")],
                vec![gone("s1", "contact.deleted"), change("s0", 3, "Ann")],
                vec![title("s0", 4)],
            ],
            Self::Created => vec![
                vec![moved("s0", 1, "ann"), moved("s1", 1, "bob"), moved("s2", 1, "cleo")],
                vec![moved("s0", 2, "roth")],
                vec![gone("s1", "contact.deleted"), gone("s2", "contact.erased"), moved("s0", 3, "ann")],
                vec![title("s0", 4)],
            ],
            Self::Related | Self::Paid => {
                let names = |subject: &str, sequence, other: Option<&str>, picture: &[u8]| {
                    let said = naming(self, subject, other, picture);
                    event("/shop", subject, &format!("{subject}-{sequence}"), "contact.updated", sequence, Some(said))
                };
                vec![
                    vec![names("one", 1, Some("two"), RED), names("three", 1, None, RED)],
                    vec![names("two", 1, Some("one"), BLUE)],
                    vec![names("one", 2, Some("three"), BLUE), title("two", 2)],
                ]
            }
        }
    }

    /// Sets the CRM up, and puts whoever was there before us into it.
    async fn prepare(self, world: &mut World) {
        if self.relates() {
            let delivery = &mut world.settings.crm[0].delivery;
            (delivery.parked_delay, delivery.parked_delay_max) = (Duration::from_secs(5), Duration::from_secs(5));
        }
        if self != Self::Created {
            return;
        }
        let crm = &mut world.settings.crm[0];
        (crm.on_delete, crm.on_erase, crm.adopt) = (OnDelete::Delete, OnErase::Delete, Adopt::ByKey);
        let there = http::Request::post("/contacts")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("authorization", "Basic c2FuZGJveC10b2tlbjo=")
            .body("name=Fs2&email=cleo%40example.com&city=Aarhus".into())
            .expect("a request");
        let made = world.sandbox.handle(there).await.expect("nothing is broken yet");
        assert!(made.status().is_success(), "{made:?}");
    }
}

const ENDS_WELL: [OutcomeKind; 3] = [OutcomeKind::Delivered, OutcomeKind::Superseded, OutcomeKind::Unchanged];
const RED: &[u8] = b"GIF89a red";
const BLUE: &[u8] = b"GIF89a blue";

/// A person who names another one, if any, as what the CRM has a place for.
fn naming(script: Script, subject: &str, other: Option<&str>, picture: &[u8]) -> Value {
    let of_type = if script == Script::Paid { "pays" } else { "friend" };
    json!({
        "name": { "givenName": "Ilka", "familyName": format!("F{subject}") },
        "emails": [{ "value": format!("{subject}@example.com"), "type": "work" }],
        "photos": [{ "value": format!("data:image/gif;base64,{}", STANDARD.encode(picture)) }],
        "relations": other.map(|other| json!([{ "type": of_type, "subject": other }])),
    })
}

/// What is not yet as those say who name others; nothing once all of it is there.
async fn missing(script: Script, world: &World) -> Vec<String> {
    let mut missing = Vec::new();
    let contacts = world.sandbox.contacts();
    if contacts.len() != 3 {
        missing.push(format!("three contacts, not {}", contacts.len()));
    }
    for (subject, other, picture) in [("one", Some("three"), BLUE), ("two", Some("one"), BLUE), ("three", None, RED)] {
        let is_related = other.is_none_or(|other| relations::is_related(world, subject, other));
        let others = relations::others(world, subject).len();
        if !is_related || others != usize::from(other.is_some()) {
            missing.push(format!("of {subject}: {others} relations, one of them to {other:?}: {is_related}"));
        }
        let digest = hex(&Sha256::digest(picture));
        let family = format!("F{subject}");
        let whole = contacts.iter().find(|contact| contact["fields"]["last_name"] == family.as_str());
        if script == Script::Related && whole.is_none_or(|whole| whole["photo"]["sha256"] != digest.as_str()) {
            missing.push(format!("the photo of {subject}"));
        }
    }
    for (contact, link) in &invariants::all_links(world).await[script.crm()] {
        if link.incomplete || link.intent.is_some() || link.waiting.is_some() || link.open.is_some() {
            missing.push(format!("the link of {contact}: {link:#?}"));
        }
    }
    missing
}

/// Who goes does so in this part of [`Script::Created`].
const GOING: usize = 2;

/// A person who can be reached at another address each time.
fn moved(subject: &str, sequence: u64, mailbox: &str) -> NewRecord {
    let said = json!({
        "name": { "familyName": format!("F{subject}") },
        "emails": [{ "value": format!("{mailbox}@example.com") }],
        "addresses": [{ "locality": format!("Aarhus{sequence}") }],
    });
    event("/shop", subject, &format!("{subject}-{sequence}"), "contact.updated", sequence, Some(said))
}

async fn say(script: Script, scene: &mut Scene, graveyard: &mut Graveyard) {
    for (number, said) in script.said().into_iter().enumerate() {
        if script == Script::Created && number == GOING {
            // Or who is to be adopted would be forgotten before.
            graveyard.watch(scene).await;
        }
        scene.world.publish(said).await;
        let until = Instant::now() + Duration::from_millis(200);
        while Instant::now() < until {
            graveyard.look(&mut scene.world).await;
        }
    }
}

/// Carries out deaths, and raises somebody in the place of the dead.
struct Graveyard {
    /// Another worker takes over; else the same one is started again.
    by_another: bool,
    offsets: Offsets,
    deaths: usize,
}

impl Graveyard {
    async fn look(&mut self, world: &mut World) {
        tokio::time::sleep(LOOKED_AT).await;
        let dead = world.bury().await;
        self.deaths += dead;
        if dead > 0 {
            world.start(usize::from(self.by_another));
        }
        self.offsets.look(world).await;
    }

    /// Waits until all that was said has settled, for as long as that may take.
    async fn watch(&mut self, scene: &mut Scene) -> Evidence {
        let deadline = Instant::now() + SETTLED_WITHIN;
        loop {
            for _ in 0..20 {
                self.look(&mut scene.world).await;
            }
            let evidence = scene.evidence_so_far().await;
            if invariants::is_settled(&evidence) || Instant::now() > deadline {
                return evidence;
            }
        }
    }
}

/// A run of the script in which every promise was kept.
struct Played {
    steps: Vec<Step>,
    /// The step that was to be broken came, and was.
    struck: bool,
}

/// Plays the script, with one step broken if one is named, and judges it.
async fn play_script(
    script: Script,
    broken: Option<(&Step, Break)>,
    by_another: bool,
    protections: Protections,
) -> Result<Played, String> {
    let mut world = World::of(Setup { workers: 2, crms: script.crms(), protections, ..Setup::default() }).await;
    script.prepare(&mut world).await;
    let passed = Arc::new(Passed::default());
    let struck = Arc::new(AtomicBool::new(false));
    let (seen, struck_here) = (passed.clone(), struck.clone());
    let breaks = broken.map(|(step, how)| (step.clone(), how));
    world.fate.follow(move |moment| {
        let here = seen.count(moment);
        let (step, how) = breaks.as_ref()?;
        let strikes = here == *step && !struck_here.swap(true, Ordering::Relaxed);
        strikes.then_some(*how)
    });
    let mut graveyard = Graveyard { by_another, offsets: Offsets::default(), deaths: 0 };
    let mut scene = Scene::begin_with(world, &[0]).await;
    say(script, &mut scene, &mut graveyard).await;
    let mut evidence = graveyard.watch(&mut scene).await;
    if script.relates() {
        // Steps of what is looked for again are broken, too.
        let deadline = Instant::now() + SETTLED_WITHIN;
        while Instant::now() < deadline && !missing(script, &scene.world).await.is_empty() {
            graveyard.look(&mut scene.world).await;
        }
        evidence = graveyard.watch(&mut scene).await;
    }
    scene.world.set_faults(FaultPlan::default());
    // The call in whose step the worker died, and what an owner sends again to be sure.
    evidence.repeats_allowed = 4;
    let struck = struck.load(Ordering::Relaxed);
    let dies = struck && broken.is_some_and(|(_, how)| how == Break::Die);
    let mut faults = Vec::new();
    if graveyard.deaths != usize::from(dies) {
        faults.push(format!("{} died", graveyard.deaths));
    }
    let offsets = graveyard.offsets.checked();
    faults.extend((!offsets.ok).then(|| format!("{}: {}", offsets.name, offsets.detail)));
    if script.relates() {
        // What is expected of the books of a CRM knows no relations: what is to be there is written down here.
        faults.extend(missing(script, &scene.world).await);
        let ended = |outcome: &&Outcome| !ENDS_WELL.contains(&outcome.outcome);
        faults.extend(evidence.outcomes.iter().filter(ended).map(|outcome| format!("{outcome:?}")));
        faults.extend((!invariants::is_settled(&evidence)).then(|| "it did not settle".to_owned()));
    } else {
        faults.extend(invariants::all_hold(&scene.world, &evidence).await.err());
    }
    let steps = passed.0.lock().clone();
    if faults.is_empty() { Ok(Played { steps, struck }) } else { Err(faults.join("\n")) }
}

/// The script without faults.
fn steps(script: Script) -> Vec<Step> {
    let mut steps = Vec::new();
    play(async {
        let played = play_script(script, None, false, Protections::default()).await;
        steps = played.unwrap_or_else(|broken| panic!("{broken}")).steps;
    });
    steps
}

/// A way to break a step, and who comes after a death.
fn all_breaks(steps: &[Step]) -> Vec<(&Step, Break, bool)> {
    let heirs = |how: &Break| if *how == Break::Die { &[false, true][..] } else { &[false] };
    let of_step =
        |step: &'_ Step| step.kind.breaks().iter().flat_map(move |how| heirs(how).iter().map(|by| (*how, *by)));
    steps.iter().flat_map(|step| of_step(step).map(move |(how, by_another)| (step, how, by_another))).collect()
}

/// One in `shares` of all breaks, so that several tests share them.
fn broken_in_turn(script: Script, share: usize, shares: usize) {
    let steps = steps(script);
    let all = all_breaks(&steps);
    assert!(all.len() > 300, "{} breaks: a loop over little proves little", all.len());
    let (mut played, mut struck) = (0, 0);
    for (step, how, by_another) in all.into_iter().skip(share).step_by(shares) {
        play(async {
            let protections = Protections::default();
            match Box::pin(play_script(script, Some((step, how)), by_another, protections)).await {
                Ok(this) => struck += usize::from(this.struck),
                Err(broken) => panic!("{step:?} broken by {how:?}, by another {by_another}:\n{broken}"),
            }
        });
        played += 1;
    }
    // Threads decide what goes out together, so now and then a run has one transaction less than the first.
    assert!(struck * 20 >= played * 19, "only {struck} of {played} steps came");
}

#[test]
fn each_script_has_steps_of_every_kind() {
    for script in [Script::Upserted, Script::Created, Script::Related, Script::Paid] {
        let steps = steps(script);
        let writers = ["sim-resolver".to_owned(), format!("{}-w0", group_of(script.crm()))];
        let points =
            [Point::BeforePrepare, Point::BeforeOffsets, Point::AfterPrepare, Point::BeforeCommit, Point::AfterCommit];
        for writer in &writers {
            for point in points {
                let kind = Kind::Transaction { writer: writer.clone(), point };
                assert!(steps.iter().any(|step| step.kind == kind), "{script:?}: {kind:?}");
            }
        }
        for kind in [Kind::Leaving, Kind::Answered] {
            assert!(steps.iter().filter(|step| step.kind == kind).count() >= 5, "{script:?}: {kind:?}");
        }
    }
}

#[test]
fn the_script_of_creates_makes_every_kind_of_delivery() {
    play(async {
        let mut world = World::of(Setup { workers: 2, crms: CREATING, ..Setup::default() }).await;
        Script::Created.prepare(&mut world).await;
        let mut scene = Scene::begin_with(world, &[0]).await;
        let mut graveyard = Graveyard { by_another: false, offsets: Offsets::default(), deaths: 0 };
        say(Script::Created, &mut scene, &mut graveyard).await;
        let evidence = scene.settled_as_promised(0).await;
        let made: BTreeSet<_> = evidence.outcomes.iter().filter_map(|outcome| outcome.operation).collect();
        let wanted = [Operation::Create, Operation::Update, Operation::Delete, Operation::Erase, Operation::Adopt];
        assert_eq!(made, BTreeSet::from(wanted));
    });
}

/// Or the loop would prove nothing: a name that comes back after its successor was sent by a worker that died is taken for
/// unchanged, unless the heir sends it again.
#[test]
fn a_protection_that_is_off_is_found_by_breaking_each_answer() {
    let protections = Protections::default().without(Protection::TakeoverResend);
    let mut red = String::new();
    for step in steps(Script::Upserted).iter().filter(|step| step.kind == Kind::Answered) {
        play(async {
            let played = Box::pin(play_script(Script::Upserted, Some((step, Break::Die)), false, protections)).await;
            red.extend(played.err());
        });
    }
    assert!(red.contains("the_crm_equals_the_records"), "{red}");
}

// Several tests, so that a runner with several threads uses them.
macro_rules! shares {
    ($($name:ident: $script:ident, $share:expr, $shares:expr;)*) => {
        $(
            #[test]
            fn $name() {
                broken_in_turn(Script::$script, $share, $shares);
            }
        )*
    };
}

shares! {
    every_step_broken_once_leaves_every_promise_kept_1_of_4: Upserted, 0, 4;
    every_step_broken_once_leaves_every_promise_kept_2_of_4: Upserted, 1, 4;
    every_step_broken_once_leaves_every_promise_kept_3_of_4: Upserted, 2, 4;
    every_step_broken_once_leaves_every_promise_kept_4_of_4: Upserted, 3, 4;
    every_step_of_creates_broken_once_leaves_every_promise_kept_1_of_4: Created, 0, 4;
    every_step_of_creates_broken_once_leaves_every_promise_kept_2_of_4: Created, 1, 4;
    every_step_of_creates_broken_once_leaves_every_promise_kept_3_of_4: Created, 2, 4;
    every_step_of_creates_broken_once_leaves_every_promise_kept_4_of_4: Created, 3, 4;
    every_step_of_relations_and_photos_broken_once_leaves_one_contact_with_both_1_of_4: Related, 0, 4;
    every_step_of_relations_and_photos_broken_once_leaves_one_contact_with_both_2_of_4: Related, 1, 4;
    every_step_of_relations_and_photos_broken_once_leaves_one_contact_with_both_3_of_4: Related, 2, 4;
    every_step_of_relations_and_photos_broken_once_leaves_one_contact_with_both_4_of_4: Related, 3, 4;
    every_step_of_payers_broken_once_leaves_one_contact_with_its_payer_1_of_4: Paid, 0, 4;
    every_step_of_payers_broken_once_leaves_one_contact_with_its_payer_2_of_4: Paid, 1, 4;
    every_step_of_payers_broken_once_leaves_one_contact_with_its_payer_3_of_4: Paid, 2, 4;
    every_step_of_payers_broken_once_leaves_one_contact_with_its_payer_4_of_4: Paid, 3, 4;
}
