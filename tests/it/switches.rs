//! A promise that holds without one of its protections was never tested: here each protection is switched off in turn,
//! and a named invariant must break.
//!
//! One line of the table for each protection: a scenario that needs it, and the invariant that is red without it. The same
//! scenario is played with everything on, and all invariants are green. Scenarios are directed: they bring about the one
//! interleaving that the protection is there for, with faults by script and none by chance.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use contact_replicator::{
    cli::demo::checks::Checked,
    config::SearchKey,
    contact::ContactId,
    log::{
        Partition,
        local::{self, MemberId, Point, Verdict},
        partition_of,
    },
    protection::{Protection, Protections},
    sandbox::{Action, Fault, FaultPlan, Instead, Only, Scripted, Window},
};
use futures::future::LocalBoxFuture;
use tokio::time::Instant;

use crate::{
    history::event,
    invariants::{self, Offsets},
    scene::{Scene, change, person, play},
    world::{Break, CREATING, CRM, Moment, PARTITIONS, RESOLVER_GROUP, Setup, World, group_of},
};

/// Simulated time in which a scenario settles if nothing is wrong.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// After that: whatever was lost has landed.
const LANDED: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);
/// Longer than any test waits.
const FOREVER: Duration = Duration::from_secs(3_600);

/// Plays up to the moment after which nothing more goes wrong.
type Scenario = for<'a> fn(&'a mut Stage) -> LocalBoxFuture<'a, ()>;

struct Line {
    protection: Protection,
    scenario: Scenario,
    /// The invariant that does not hold without it.
    red: &'static str,
}

/// The table, and a test for each of its lines: what would happen without a protection, which one that is, a scenario in
/// which it would, and the invariant that tells.
macro_rules! needed {
    ($($name:ident: $protection:ident, $scenario:ident, $red:expr;)*) => {
        const TABLE: &[Line] = &[
            $(Line { protection: Protection::$protection, scenario: |stage| Box::pin(stage.$scenario()), red: $red },)*
        ];

        $(
            #[test]
            fn $name() {
                let scenario: Scenario = |stage| Box::pin(stage.$scenario());
                is_needed(&Line { protection: Protection::$protection, scenario, red: $red });
            }
        )*
    };
}

needed! {
    a_replay_would_be_answered_twice: Answered, replay_behind_a_stuck_entry, EVERY_ENTRY;
    a_parked_entry_would_supersede_itself: Open, replay_of_parked_entries, EVERY_ENTRY;
    a_delivered_version_would_be_called_unchanged: Settled, an_entry_read_after_its_version_was_sent, UNCHANGED;
    an_unknown_effect_would_be_taken_for_none: VoidSent, back_to_the_old_name_after_an_unknown_effect, EQUALS;
    a_lost_request_would_land_on_a_newer_one: LostWait, a_lost_request_that_lands_late, EQUALS;
    a_dead_worker_would_hold_its_partition: Fence, death_in_a_commit, EVERY_ENTRY;
    a_dead_resolver_would_hold_the_input: Fence, death_in_a_decision, EVERY_INPUT;
    an_offset_would_go_back: StableOffsets, a_claim_that_takes_long, invariants::OFFSETS;
    a_successor_would_answer_again: LinksCatchUp, a_successor_that_sees_links_late, EVERY_ENTRY;
    a_successor_would_send_an_older_record: RecordsCatchUp, a_successor_that_sees_records_late, ORDER;
    a_next_resolver_would_decide_again: RecordsCatchUp, a_resolver_that_sees_decisions_late, EVERY_INPUT;
    a_dead_workers_last_request_would_land_late: TakeoverWait, a_dead_workers_last_request, EQUALS;
    what_a_dead_worker_sent_would_stay: TakeoverResend, back_to_the_old_name_after_a_death, EQUALS;
    an_answer_would_meet_another_lane: AssignmentNumber, a_partition_that_goes_and_comes_back, NO_END;
    a_worker_would_commit_what_it_lost: OwnMap, a_commit_that_slept, EVERY_ENTRY;
    a_decision_would_not_know_the_one_before: Overlay, two_changes_before_the_view_has_one, VERSIONS;
    a_lost_create_would_be_made_again: LookUp, a_create_whose_answer_is_lost, NO_DUPLICATE;
    nobody_would_know_that_a_create_left: Intent, a_create_whose_sender_dies, NO_DUPLICATE;
    an_heir_would_search_for_what_was_never_sent: Intent, a_create_whose_sender_dies_before_an_heir_that_searches,
        NO_DUPLICATE;
}

const EVERY_INPUT: &str = "every_input_is_accounted_for";
const EVERY_ENTRY: &str = "every_entry_has_one_outcome_per_crm";
const VERSIONS: &str = "contact_ids_and_versions_rise_by_one";
const EQUALS: &str = "the_crm_equals_the_records";
const UNCHANGED: &str = "no_delivered_version_published_as_unchanged";
const ORDER: &str = "order_per_contact";
const NO_END: &str = "no_worker_ends_unasked";
const NO_DUPLICATE: &str = "no_duplicate_contact_in_the_crm";

/// The world of a scenario: two workers, of which one runs, and what lets the one thing happen that it is about.
async fn world_for(protection: Protection, protections: Protections) -> World {
    let mut setup = Setup { workers: 2, protections, ..Setup::default() };
    match protection {
        // What a dead worker has open ends by itself when its time is up, which takes longer than anybody waits.
        Protection::Fence | Protection::OwnMap => setup.log.transaction_timeout = FOREVER,
        // It is replaced before its last request must have landed.
        Protection::TakeoverWait => setup.log.session_timeout = Duration::from_secs(1),
        // A partition comes back before an answer does.
        Protection::AssignmentNumber => setup.log.drain_deadline = Duration::from_millis(500),
        Protection::LookUp | Protection::Intent => setup.crms = CREATING,
        _ => {}
    }
    let mut world = World::of(setup).await;
    if protection == Protection::Intent {
        // Nothing but the intent tells that there may be something to search for, and by what.
        let crm = &mut world.settings.crm[0];
        crm.find_before_create = false;
        let previsto = crm.previsto.as_mut().expect("it is a Previsto");
        previsto.plant_number = false;
        previsto.search_by = vec![SearchKey::Email];
    }
    if protection == Protection::AssignmentNumber {
        world.settings.log.kafka.drain_deadline = Duration::from_millis(300);
    }
    let delivery = &mut world.settings.crm[0].delivery;
    // It is about contacts, not about a CRM that fails.
    delivery.failures_before_pause = 1_000;
    if protection == Protection::Settled {
        delivery.unanswered_max = 1;
    }
    world
}

/// A scene whose workers start when the scenario wants it.
struct Stage {
    scene: Scene,
    offsets: Offsets,
}

impl Stage {
    fn world(&mut self) -> &mut World {
        &mut self.scene.world
    }

    async fn say(&self, subject: &str, sequence: u64, name: &str) {
        self.scene.world.publish(vec![change(subject, sequence, name)]).await;
    }

    /// Waits until so many outcomes are committed.
    async fn answered(&mut self, count: usize) {
        let deadline = Instant::now() + SETTLED_WITHIN;
        while self.scene.evidence().await.outcomes.len() < count {
            assert!(Instant::now() < deadline, "{count} outcomes did not come about\n{}", self.scene.world.state());
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until so many requests have arrived.
    async fn called(&self, count: u64) {
        self.scene.until_soon("that many calls", |world| world.sandbox.calls() >= count).await;
    }

    /// Waits until the CRM holds a contact of this name.
    async fn holds(&self, name: &str) {
        let held =
            |world: &World| world.sandbox.contacts().iter().any(|contact| contact["fields"]["firstName"] == name);
        self.scene.until_soon("the name in the CRM", held).await;
    }

    /// Waits until a scripted death has come, and carries it out.
    async fn buried(&mut self) {
        let deadline = Instant::now() + SETTLED_WITHIN;
        while self.scene.world.bury().await == 0 {
            assert!(Instant::now() < deadline, "nobody died");
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Ends what the scenario did to the world, waits, and returns what is broken.
    async fn verdict(&mut self) -> Vec<Checked> {
        let world = &mut self.scene.world;
        world.fate.follow_nothing();
        world.set_faults(FaultPlan::default());
        world.log.set_follower_lag(Duration::ZERO);
        let deadline = Instant::now() + SETTLED_WITHIN;
        while !invariants::is_settled(&self.scene.evidence_so_far().await) && Instant::now() < deadline {
            self.offsets.look(&self.scene.world).await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tokio::time::sleep(LANDED).await;
        let mut evidence = self.scene.evidence_so_far().await;
        self.offsets.look(&self.scene.world).await;
        evidence.repeats_allowed = usize::MAX / 2;
        let mut broken = invariants::broken(&self.scene.world, &evidence).await;
        broken.extend(Some(self.offsets.checked()).filter(|checked| !checked.ok));
        broken
    }

    /// One contact that cannot be delivered for a while, and, behind it in its partition, others that are.
    async fn one_stuck_before_twelve(&mut self, others: impl Into<Fault>) {
        self.world().set_faults(FaultPlan::at(1, Fault::retry_after(503, 20)));
        self.say("stuck", 1, "Ann").await;
        self.called(1).await;
        let others = Window { from: Duration::ZERO, lasts: FOREVER, only: Only::default(), fault: others.into() };
        self.world().set_faults(FaultPlan { windows: vec![others], ..FaultPlan::default() });
        for number in 0..12 {
            self.say(&format!("s{number}"), 1, "Bob").await;
        }
    }

    async fn replay_behind_a_stuck_entry(&mut self) {
        self.one_stuck_before_twelve(Instead::Nothing).await;
        self.answered(12).await;
        self.world().kill(0).await;
        self.world().start(0);
    }

    async fn replay_of_parked_entries(&mut self) {
        self.one_stuck_before_twelve(Fault::status(503)).await;
        let deadline = Instant::now() + SETTLED_WITHIN;
        let parked =
            async |world: &World| invariants::links(world).await.values().filter(|link| link.open.is_some()).count();
        while parked(&self.scene.world).await < 12 {
            assert!(Instant::now() < deadline, "they were not parked");
            tokio::time::sleep(PAUSE).await;
        }
        self.world().kill(0).await;
        self.world().set_faults(FaultPlan::default());
        self.world().start(0);
    }

    /// The partition is at its bound with the first entry when the second is written, so that the record of the second is
    /// sent for the first.
    async fn an_entry_read_after_its_version_was_sent(&mut self) {
        self.world().set_faults(FaultPlan::at(1, Fault::retry_after(503, 3)));
        self.say("s", 1, "Ann").await;
        self.called(1).await;
        self.say("s", 2, "Bob").await;
        self.holds("Bob").await;
    }

    async fn back_to_the_old_name_after_an_unknown_effect(&mut self) {
        self.say("s", 1, "Ann").await;
        self.answered(1).await;
        let headers = BTreeMap::from([("retry-after".to_owned(), "3".to_owned())]);
        let unknown = Instead::Status { status: 500, headers, body: String::new(), effect: true };
        self.world().set_faults(FaultPlan::at(1, unknown));
        self.say("s", 2, "Bob").await;
        self.holds("Bob").await;
        self.say("s", 3, "Ann").await;
        self.answered(3).await;
    }

    async fn a_lost_request_that_lands_late(&mut self) {
        self.say("s", 1, "Ann").await;
        self.answered(1).await;
        self.world().set_faults(FaultPlan::at(1, Fault::delay_before(Duration::from_secs(3))));
        self.once(|moment| matches!(moment, Moment::Leaving { .. }).then_some(Break::Lose));
        self.say("s", 2, "Bob").await;
        self.called(2).await;
        self.say("s", 3, "Cleo").await;
        self.answered(3).await;
    }

    async fn death_in_a_commit(&mut self) {
        self.say("s", 1, "Ann").await;
        self.answered(1).await;
        self.once(|moment| (moment == at(Point::BeforeCommit)).then_some(Break::Die));
        self.say("s", 2, "Bob").await;
        self.buried().await;
        self.world().start(1);
    }

    async fn death_in_a_decision(&mut self) {
        self.say("s", 1, "Ann").await;
        self.answered(1).await;
        self.once(|moment| {
            let decides = |writer: &str| writer.starts_with(RESOLVER_GROUP);
            matches!(moment, Moment::Transaction { writer, point: Point::BeforeCommit } if decides(writer))
                .then_some(Break::Die)
        });
        self.say("s", 2, "Bob").await;
        self.buried().await;
        self.world().start(1);
    }

    /// The other worker's view has the first decision only when it is its turn to decide.
    async fn a_resolver_that_sees_decisions_late(&mut self) {
        self.say("s", 1, "Ann").await;
        self.answered(1).await;
        self.world().start(1);
        self.scene.ready(1).await;
        self.world().stop(1).await;
        self.say("s", 2, "Bob").await;
        self.answered(2).await;
        self.world().kill(0).await;
        self.world().log.set_follower_lag(Duration::from_secs(30));
        self.world().start(1);
        tokio::time::sleep(Duration::from_secs(20)).await;
    }

    /// The other worker takes over while the first one's claim is on its way, and goes on.
    async fn a_claim_that_takes_long(&mut self) {
        self.scene.ready(0).await;
        // It comes back to all partitions, and claims one after the other, the first of them first.
        self.world().stop(0).await;
        let slow = Verdict::Hang(Duration::from_secs(8));
        self.once(move |moment| (moment == at(Point::BeforeCommit)).then_some(Break::Verdict(slow)));
        self.world().start(0);
        let joined = |count: usize| move |world: &World| world.log.members(&group_of(CRM)).len() == count;
        self.scene.until_soon("the first worker in its group", joined(1)).await;
        self.world().start(1);
        self.scene.until_soon("the second worker in the group", joined(2)).await;
        let second = self.world().log.members(&group_of(CRM))[1].id;
        self.moved(0, second).await;
        for number in 0..12 {
            self.say(&format!("s{number}"), 1, "Bob").await;
        }
        let until = Instant::now() + Duration::from_secs(15);
        while Instant::now() < until {
            self.offsets.look(&self.scene.world).await;
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The successor's view has all records, and reads the links from the beginning.
    async fn a_successor_that_sees_links_late(&mut self) {
        self.one_stuck_before_twelve(Instead::Nothing).await;
        self.answered(12).await;
        self.world().kill(0).await;
        self.world().start(1);
        // Before the dead worker's session ends.
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.world().log.set_follower_lag(Duration::from_secs(30));
        tokio::time::sleep(Duration::from_secs(40)).await;
    }

    /// The contact is parked with its first version when its worker sends the second, and dies before it could say so.
    async fn a_successor_that_sees_records_late(&mut self) {
        self.world().set_faults(FaultPlan {
            windows: vec![Window {
                from: Duration::ZERO,
                lasts: FOREVER,
                only: Only::default(),
                fault: Fault::status(503),
            }],
            ..FaultPlan::default()
        });
        self.say("s", 1, "Ann").await;
        while invariants::links(&self.scene.world).await.values().all(|link| link.open.is_none()) {
            tokio::time::sleep(PAUSE).await;
        }
        // The successor has seen this far.
        self.world().start(1);
        self.scene.ready(1).await;
        self.world().stop(1).await;
        self.scene.ready(0).await;

        let never = Verdict::Hang(FOREVER);
        self.world().fate.follow(move |moment| (moment == at(Point::BeforePrepare)).then_some(Break::Verdict(never)));
        self.say("s", 2, "Bob").await;
        self.world().set_faults(FaultPlan::default());
        self.holds("Bob").await;
        self.world().kill(0).await;
        // What is there now is seen a minute late, what comes later at once.
        self.world().log.set_follower_lag(Duration::from_secs(60));
        self.world().start(1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.world().log.set_follower_lag(Duration::from_millis(1));
        tokio::time::sleep(Duration::from_secs(70)).await;
    }

    async fn a_dead_workers_last_request(&mut self) {
        self.say("s", 1, "Ann").await;
        self.answered(1).await;
        self.world().set_faults(FaultPlan::at(1, Fault::delay_before(Duration::from_millis(4_500))));
        self.say("s", 2, "Bob").await;
        self.called(2).await;
        self.world().kill(0).await;
        self.world().start(1);
        self.say("s", 3, "Cleo").await;
        self.answered(3).await;
    }

    async fn back_to_the_old_name_after_a_death(&mut self) {
        self.say("s", 1, "Ann").await;
        self.answered(1).await;
        self.once(|moment| matches!(moment, Moment::Answered { .. }).then_some(Break::Die));
        self.say("s", 2, "Bob").await;
        self.buried().await;
        self.say("s", 3, "Ann").await;
        self.world().start(1);
    }

    /// The answer comes when its partition is owned again, under another assignment.
    async fn a_partition_that_goes_and_comes_back(&mut self) {
        let (partition, owner, other) = self.partition_of_a_contact_between_two().await;
        self.world().set_faults(FaultPlan::at(1, Fault::delay_after(Duration::from_millis(4_500))));
        self.say("s", 2, "Bob").await;
        self.holds("Bob").await;
        self.moved(partition, other).await;
        self.moved(partition, owner).await;
    }

    /// A transaction begins while its partition is owned, and goes on when another worker has answered.
    async fn a_commit_that_slept(&mut self) {
        let (partition, owner, other) = self.partition_of_a_contact_between_two().await;
        let workers = self.world().log.members(&group_of(CRM));
        let sleeper = workers.iter().position(|member| member.id == owner).expect("it is a member");
        let writer = format!("sim-{CRM}-w{sleeper}");
        let slept = AtomicBool::new(false);
        self.world().fate.follow(move |moment| {
            let begins = moment == Moment::Transaction { writer: &writer, point: Point::BeforePrepare };
            let first = begins && !slept.swap(true, Ordering::Relaxed);
            first.then_some(Break::Verdict(Verdict::Hang(Duration::from_secs(30))))
        });
        self.say("s", 2, "Bob").await;
        self.holds("Bob").await;
        self.moved(partition, other).await;
        tokio::time::sleep(Duration::from_secs(40)).await;
    }

    async fn two_changes_before_the_view_has_one(&mut self) {
        self.say("s", 1, "Ann").await;
        self.answered(1).await;
        self.world().log.set_follower_lag(Duration::from_secs(5));
        self.say("s", 2, "Bob").await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.say("s", 3, "Cleo").await;
        tokio::time::sleep(Duration::from_secs(10)).await;
    }

    async fn a_create_whose_answer_is_lost(&mut self) {
        let first = Scripted { only: Only::action(Action::Create), ..Scripted::at(1, Instead::ResetAfter) };
        self.world().set_faults(FaultPlan { script: vec![first], ..FaultPlan::default() });
        self.say("s", 1, "Ann").await;
        self.answered(1).await;
    }

    async fn a_create_whose_sender_dies(&mut self) {
        let sandbox = self.world().sandbox.clone();
        self.once(move |moment| {
            let is_there = matches!(moment, Moment::Answered { .. }) && !sandbox.contacts().is_empty();
            is_there.then_some(Break::Die)
        });
        self.reachable_at("ann@example.com", 1).await;
        self.buried().await;
        self.reachable_at("roth@example.com", 2).await;
        self.world().start(1);
        self.answered(2).await;
    }

    /// It finds nobody by the address that the record has by now.
    async fn a_create_whose_sender_dies_before_an_heir_that_searches(&mut self) {
        self.world().settings.crm[0].find_before_create = true;
        self.a_create_whose_sender_dies().await;
    }

    /// A person whose e-mail address is all that can be searched for.
    async fn reachable_at(&self, email: &str, sequence: u64) {
        let mut said = person("s", "Ann");
        said["emails"][0]["value"] = email.into();
        let id = format!("s-{sequence}");
        let said = event("/shop", "s", &id, "contact.updated", sequence, Some(said));
        self.scene.world.publish(vec![said]).await;
    }

    /// Two workers, and a contact that is known: its partition, who owns it, and who does not.
    async fn partition_of_a_contact_between_two(&mut self) -> (Partition, MemberId, MemberId) {
        self.world().start(1);
        self.scene.ready(1).await;
        self.scene.ready(0).await;
        self.say("s", 1, "Ann").await;
        self.answered(1).await;
        let contact: ContactId = self.scene.evidence().await.records[0].contact_id;
        let partition = partition_of(contact.key().as_bytes(), PARTITIONS);
        let members = self.world().log.members(&group_of(CRM));
        let owns = |member: &&local::MemberStatus| member.owned.contains_key(&partition);
        let owner = members.iter().find(owns).expect("somebody owns it").id;
        let other = members.iter().find(|member| !owns(member)).expect("somebody does not").id;
        (partition, owner, other)
    }

    async fn moved(&mut self, partition: Partition, to: MemberId) {
        let group = group_of(CRM);
        self.world().log.move_partition(&group, partition, to);
        let owned = |world: &World| {
            world.log.members(&group).iter().any(|member| member.id == to && member.owned.contains_key(&partition))
        };
        self.scene.until_soon("the partition at its new owner", owned).await;
    }

    /// Breaks the first moment for which `broken` says how.
    fn once(&self, broken: impl Fn(Moment<'_>) -> Option<Break> + Send + Sync + 'static) {
        let done = AtomicBool::new(false);
        self.scene.world.fate.follow(move |moment| {
            let how = if done.load(Ordering::Relaxed) { None } else { broken(moment) };
            done.fetch_or(how.is_some(), Ordering::Relaxed);
            how
        });
    }
}

/// A moment of the first worker's replicator.
fn at(point: Point) -> Moment<'static> {
    Moment::Transaction { writer: "sim-priava-w0", point }
}

async fn played(line: &Line, protections: Protections) -> Vec<Checked> {
    let world = world_for(line.protection, protections).await;
    let mut stage = Stage { scene: Scene::begin_with(world, &[0]).await, offsets: Offsets::default() };
    (line.scenario)(&mut stage).await;
    stage.verdict().await
}

fn is_needed(line: &Line) {
    let Line { protection, red, .. } = line;
    play(async {
        let broken = played(line, Protections::default()).await;
        assert!(broken.is_empty(), "with all protections on: {broken:#?}");
    });
    play(async {
        let broken = played(line, Protections::default().without(*protection)).await;
        let is_red = broken.iter().any(|checked| checked.name == *red);
        assert!(is_red, "without {protection:?}, {red} should be red, and red is: {broken:#?}");
    });
}

#[test]
fn every_protection_is_in_the_table() {
    for protection in Protection::ALL {
        assert!(TABLE.iter().any(|line| line.protection == *protection), "{protection:?}");
    }
}
