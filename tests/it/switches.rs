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
    contact::ContactId,
    log::{
        Partition,
        local::{self, MemberId, Point, Verdict},
        partition_of,
    },
    protection::{Protection, Protections},
    sandbox::{self, Fault, FaultPlan, Instead},
};
use futures::future::LocalBoxFuture;
use tokio::time::Instant;

use crate::{
    invariants::{self, Offsets},
    scene::{Scene, change, play},
    world::{Break, CRM, Moment, PARTITIONS, Setup, World, group_of},
};

/// Simulated time in which a scenario settles if nothing is wrong.
const SETTLED_WITHIN: Duration = Duration::from_secs(180);
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
    /// Before the first worker starts.
    prepare: fn(&mut Setup),
    red: &'static str,
}

const TABLE: &[Line] = &[
    line(Protection::Answered, |stage| Box::pin(stage.replay_behind_a_stuck_entry()), EVERY_ENTRY),
    line(Protection::Open, |stage| Box::pin(stage.replay_of_parked_entries()), "superseded_points_forward"),
    line(Protection::Settled, |stage| Box::pin(stage.an_entry_read_after_its_version_was_sent()), UNCHANGED),
    line(Protection::VoidSent, |stage| Box::pin(stage.back_to_the_old_name_after_an_unknown_effect()), EQUALS),
    line(Protection::LostWait, |stage| Box::pin(stage.a_lost_request_that_lands_late()), EQUALS),
    // An open transaction of a dead worker ends when its time is up: an hour here, as long as no operator waits.
    Line { prepare: patient, ..line(Protection::Fence, |stage| Box::pin(stage.death_in_a_commit()), EVERY_ENTRY) },
    line(Protection::StableOffsets, |stage| Box::pin(stage.a_claim_that_takes_long()), invariants::OFFSETS),
    line(Protection::LinksCatchUp, |stage| Box::pin(stage.a_successor_that_sees_links_late()), EVERY_ENTRY),
    line(Protection::RecordsCatchUp, |stage| Box::pin(stage.a_successor_that_sees_records_late()), "order_per_contact"),
    Line {
        prepare: hasty,
        ..line(Protection::TakeoverWait, |stage| Box::pin(stage.a_dead_workers_last_request()), EQUALS)
    },
    line(Protection::TakeoverResend, |stage| Box::pin(stage.back_to_the_old_name_after_a_death()), EQUALS),
    Line {
        prepare: quick_to_move,
        ..line(
            Protection::AssignmentNumber,
            |stage| Box::pin(stage.a_partition_that_goes_and_comes_back()),
            "no_worker_ends_unasked",
        )
    },
    Line {
        prepare: patient_pair,
        ..line(Protection::OwnMap, |stage| Box::pin(stage.a_commit_that_slept()), EVERY_ENTRY)
    },
    line(
        Protection::Overlay,
        |stage| Box::pin(stage.two_changes_before_the_view_has_one()),
        "contact_ids_and_versions_rise_by_one",
    ),
];

/// Those that only a CRM without an upsert needs. Its creates are judged where it is.
const OF_CREATING_CRMS: &[Protection] = &[Protection::LookUp, Protection::Intent];

const EVERY_ENTRY: &str = "every_entry_has_one_outcome_per_crm";
const EQUALS: &str = "the_crm_equals_the_records";
const UNCHANGED: &str = "no_delivered_version_published_as_unchanged";

const fn line(protection: Protection, scenario: Scenario, red: &'static str) -> Line {
    Line { protection, scenario, prepare: |_| {}, red }
}

fn patient(setup: &mut Setup) {
    setup.log.transaction_timeout = FOREVER;
}

fn patient_pair(setup: &mut Setup) {
    patient(setup);
}

fn hasty(setup: &mut Setup) {
    setup.log.session_timeout = Duration::from_secs(1);
}

fn quick_to_move(setup: &mut Setup) {
    setup.log.drain_deadline = Duration::from_millis(500);
}

/// A scene whose workers start when the scenario wants it.
struct Stage {
    scene: Scene,
    offsets: Offsets,
}

impl Stage {
    async fn of(line: &Line, protections: Protections) -> Self {
        let mut setup = Setup { workers: 2, protections, ..Setup::default() };
        setup.log = local::Settings::default();
        (line.prepare)(&mut setup);
        let mut world = World::of(setup).await;
        let delivery = &mut world.settings.crm[0].delivery;
        // A scenario is about one contact, not about a CRM that fails.
        delivery.failures_before_pause = 1_000;
        if line.protection == Protection::Settled {
            delivery.unanswered_max = 1;
        }
        Self { scene: Scene::begin_with(world, &[0]).await, offsets: Offsets::default() }
    }

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
        while self.scene.world.bury().await == 0 {
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
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        tokio::time::sleep(LANDED).await;
        let mut evidence = self.scene.evidence_so_far().await;
        self.offsets.look(&self.scene.world).await;
        evidence.repeats_allowed = usize::MAX / 2;
        let mut broken = invariants::broken(&self.scene.world, &evidence).await;
        broken.extend(Some(self.offsets.checked()).filter(|checked| !checked.ok));
        broken
    }

    /// One contact that cannot be delivered for a minute, and, behind it in its partition, others that are.
    async fn one_stuck_before_twelve(&mut self, others: impl Into<Fault>) {
        self.world().set_faults(FaultPlan::at(1, Fault::retry_after(503, 60)));
        self.say("stuck", 1, "Ann").await;
        self.called(1).await;
        let others = sandbox::Window {
            from: Duration::ZERO,
            lasts: FOREVER,
            only: sandbox::Only::default(),
            fault: others.into(),
        };
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

    /// The other worker takes over while the first one's claim is on its way, and goes on.
    async fn a_claim_that_takes_long(&mut self) {
        self.scene.ready(0).await;
        // It comes back to all partitions, and claims them.
        self.world().stop(0).await;
        let slow = Verdict::Hang(Duration::from_secs(8));
        self.once(move |moment| (moment == at(Point::BeforeCommit)).then_some(Break::Verdict(slow)));
        self.world().start(0);
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.world().start(1);
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
            windows: vec![sandbox::Window {
                from: Duration::ZERO,
                lasts: FOREVER,
                only: sandbox::Only::default(),
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

    /// Two workers, and a contact that is known: its partition, who owns it, and who does not.
    async fn partition_of_a_contact_between_two(&mut self) -> (Partition, MemberId, MemberId) {
        self.scene.world.settings.log.kafka.drain_deadline = Duration::from_millis(300);
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
    let mut stage = Stage::of(line, protections).await;
    (line.scenario)(&mut stage).await;
    stage.verdict().await
}

fn needed(protection: Protection) {
    let line = TABLE.iter().find(|line| line.protection == protection).expect("it is in the table");
    play(async {
        let broken = played(line, Protections::default()).await;
        assert!(broken.is_empty(), "with all protections on: {broken:#?}");
    });
    play(async {
        let broken = played(line, Protections::default().without(protection)).await;
        let names: Vec<_> = broken.iter().map(|checked| checked.name).collect();
        assert!(
            names.contains(&line.red),
            "without {protection:?}, {} should be red, and red is: {broken:#?}",
            line.red
        );
    });
}

#[test]
fn every_protection_is_in_the_table_once() {
    for protection in Protection::ALL {
        let lines = TABLE.iter().filter(|line| line.protection == *protection).count();
        let elsewhere = usize::from(OF_CREATING_CRMS.contains(protection));
        assert_eq!(lines + elsewhere, 1, "{protection:?}");
    }
}

macro_rules! needed {
    ($($name:ident: $protection:ident;)*) => {
        $(
            #[test]
            fn $name() {
                needed(Protection::$protection);
            }
        )*
    };
}

needed! {
    a_replay_would_be_answered_twice: Answered;
    a_parked_entry_would_supersede_itself: Open;
    a_delivered_version_would_be_called_unchanged: Settled;
    an_unknown_effect_would_be_taken_for_none: VoidSent;
    a_lost_request_would_land_on_a_newer_one: LostWait;
    a_dead_workers_transaction_would_hold_its_partition: Fence;
    an_offset_would_go_back: StableOffsets;
    an_answer_would_be_given_again_by_the_successor: LinksCatchUp;
    an_older_record_would_be_sent_by_the_successor: RecordsCatchUp;
    a_dead_workers_last_request_would_land_on_its_successors: TakeoverWait;
    what_a_dead_worker_sent_would_stay: TakeoverResend;
    an_answer_would_meet_a_lane_that_never_asked: AssignmentNumber;
    a_worker_would_commit_what_is_no_longer_its_own: OwnMap;
    a_decision_would_not_know_the_one_before: Overlay;
}
