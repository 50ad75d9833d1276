//! Seeded runs: everything goes wrong for two minutes, then nothing more does, and all must settle as promised.

use std::{sync::Arc, time::Duration};

use contact_replicator::{
    cli::demo::evidence::Reader,
    config::TopicNames,
    explain::Asked,
    log::TopicPartition,
    resync::{self, Order, What},
    sandbox::FaultPlan,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    history::Sources,
    invariants::{self, Offsets},
    world::{ALL, INPUT, PARTITIONS, RESOLVER_GROUP, Rates, Setup, World, operator},
};

/// After the faults: simulated time in which everything must settle.
const SETTLED_WITHIN: Duration = Duration::from_secs(15 * 60);
const PATIENCE: Duration = Duration::from_secs(300);
/// Calls about one contact after the faults, beyond the one that it takes: what was under way then, and what an owner
/// sends again whose predecessor died.
const EXTRA_CALLS_MAX: usize = 2;

/// Runs one seed and checks every invariant.
pub(crate) fn run(seed: u64) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().expect("a runtime");
    runtime.block_on(async move {
        if let Err(broken) = Box::pin(simulate(seed)).await {
            panic!("seed {seed}:\n{broken}");
        }
    });
}

async fn simulate(seed: u64) -> Result<(), String> {
    let mut random = StdRng::seed_from_u64(seed);
    let workers = 1 + (seed % 3) as usize;
    let mut world = World::of(Setup { seed, workers, crms: ALL, ..Setup::default() }).await;
    for worker in 0..workers {
        world.start(worker);
    }
    let topics = TopicNames::new("");
    let inputs: [Arc<str>; 1] = [INPUT.into()];
    let mut reader = loop {
        // Topics are there once a worker has begun.
        tokio::time::sleep(Duration::from_millis(100)).await;
        if let Ok(reader) = Reader::open(&world.log, &inputs, &topics).await {
            break reader;
        }
    };
    world.fate.set(Rates {
        die_committing: random.random_range(0..12),
        die_sending: random.random_range(0..12),
        commit: random.random_range(0..40),
    });
    world.set_faults(faults(&mut random));

    let mut offsets = Offsets::default();
    let mut sources = Sources::new(random.random_range(3..25));
    let mut deaths = 0;
    let end = Instant::now() + Duration::from_secs(120);
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(random.random_range(5..600))).await;
        let changes = (0..random.random_range(0..6)).map(|_| sources.say(&mut random)).collect();
        world.publish(changes).await;
        deaths += world.bury().await;
        trouble(&mut world, &mut reader, &mut random).await;
        ask_for_a_resync(&world, &mut random).await;
        offsets.look(&world).await;
    }

    // From here on nothing goes wrong any more.
    let healed = world.clock.now();
    world.fate.set(Rates::default());
    world.set_faults(FaultPlan::default());
    world.log.set_follower_lag(Duration::ZERO);
    heal_members(&mut world);
    deaths += world.bury().await;
    for worker in 0..workers {
        if !world.is_running(worker) {
            world.start(worker);
        }
    }
    let deadline = Instant::now() + SETTLED_WITHIN;
    loop {
        tokio::time::sleep(Duration::from_secs(3)).await;
        reader.catch_up(&world.log, PATIENCE).await.map_err(|error| error.to_string())?;
        let mut evidence = invariants::with_crms(&world, reader.evidence().clone()).await;
        evidence.repeats_allowed = usize::MAX / 2;
        if invariants::is_settled(&evidence) || Instant::now() > deadline {
            tracing::info!(seed, deaths, inputs = sources.told(), "simulated");
            let bounded = invariants::calls_after_an_outage_bounded(&world, &evidence, healed, EXTRA_CALLS_MAX);
            offsets.look(&world).await;
            let mut verdict = invariants::all_hold(&world, &evidence).await;
            for checked in [bounded, offsets.checked()].into_iter().filter(|checked| !checked.ok) {
                let before = verdict.err().unwrap_or_default();
                verdict = Err(format!("{}: {}\n{before}", checked.name, checked.detail));
            }
            return verdict.map_err(|broken| format!("{deaths} deaths, {} inputs\n{broken}", sources.told()));
        }
    }
}

/// What the CRM does to its callers.
fn faults(random: &mut StdRng) -> FaultPlan {
    let mut chance = |fault: serde_json::Value| json!({ "probability": f64::from(random.random_range(0..40)) / 1_000.0, "fault": fault });
    let chances = [
        chance(json!({ "instead": { "kind": "status", "status": 503 } })),
        chance(json!({ "instead": { "kind": "status", "status": 500, "effect": true } })),
        chance(json!({ "instead": { "kind": "reset_before" } })),
        chance(json!({ "instead": { "kind": "reset_after" } })),
        chance(json!({ "instead": { "kind": "status", "status": 429, "headers": { "retry-after": "2" } } })),
        chance(json!({ "delay_before": "4s" })),
        chance(json!({ "delay_after": "7s" })),
    ];
    let down = json!({ "from": format!("{}s", random.random_range(5..90)), "lasts": format!("{}s", random.random_range(1..25)),
        "fault": { "instead": { "kind": "unreachable" } } });
    serde_json::from_value(json!({ "chances": chances, "windows": [down] })).expect("a fault plan")
}

/// One more thing that may go wrong in the log or with a worker.
async fn trouble(world: &mut World, reader: &mut Reader, random: &mut StdRng) {
    let worker = random.random_range(0..world.workers());
    match random.random_range(0..100) {
        0..=19 if !world.is_running(worker) => {
            if random.random_range(0..4) == 0 {
                // The view is disposable.
                let view = world.data(worker).join("view");
                if view.exists() {
                    std::fs::remove_dir_all(view).expect("the view of a stopped worker is removed");
                }
            }
            world.start(worker);
        }
        20..=21 if world.is_running(worker) => world.kill(worker).await,
        22..=23 if world.is_running(worker) => {
            world.stop(worker).await;
        }
        24..=27 => move_something(world, random),
        28..=29 => disturb_member(world, random),
        30..=33 => heal_members(world),
        34..=36 => world.log.set_follower_lag(Duration::from_millis(random.random_range(0..1_500))),
        37..=39 => {
            // Whoever judges must have seen what compaction takes away.
            reader.catch_up(&world.log, PATIENCE).await.expect("the log can be read");
            compact(world);
        }
        _ => {}
    }
}

/// Now and then an operator asks that somebody be driven anew, or everybody. What comes of the order does not matter: the
/// worker may be starting, or the contact unknown.
async fn ask_for_a_resync(world: &World, random: &mut StdRng) {
    let worker = random.random_range(0..world.workers());
    let crm = ALL[random.random_range(0..ALL.len())].name.to_owned();
    let what = match random.random_range(0..40) {
        0 => What::All { restart: true },
        1 => What::Stop,
        2..=5 => {
            let subject = format!("/shop/{}", random.random_range(0..5));
            What::Contacts(vec![Asked::About(subject)])
        }
        _ => return,
    };
    let asked = tokio::time::timeout(
        Duration::from_secs(1),
        resync::obey(world.desk(worker), &Order { crm, what }, &operator()),
    )
    .await;
    tracing::debug!(?asked, "an operator asked");
}

fn any_group(world: &World, random: &mut StdRng) -> String {
    let mut groups = world.groups();
    groups.swap_remove(random.random_range(0..groups.len()))
}

fn move_something(world: &World, random: &mut StdRng) {
    let group = any_group(world, random);
    let members = world.log.members(&group);
    let partitions = if group == RESOLVER_GROUP { 1 } else { PARTITIONS };
    if !members.is_empty() {
        let to = &members[random.random_range(0..members.len())];
        world.log.move_partition(&group, random.random_range(0..partitions), to.id);
    }
}

fn disturb_member(world: &mut World, random: &mut StdRng) {
    let group = any_group(world, random);
    let members = world.log.members(&group);
    if let Some(member) = members.get(random.random_range(0..members.len().max(1))).filter(|member| !member.silent) {
        if random.random_range(0..2) == 0 {
            world.log.expel(&group, member.id);
        } else {
            world.log.silence(&group, member.id);
            world.silenced.push((group, member.id));
        }
    }
}

fn heal_members(world: &mut World) {
    for (group, member) in world.silenced.drain(..) {
        world.log.unsilence(&group, member);
    }
}

fn compact(world: &World) {
    let names = TopicNames::new("");
    let links = world.crms.iter().map(|crm| names.links(crm.name));
    for topic in links.chain([names.keys.clone(), names.records.clone()]) {
        for partition in 0..PARTITIONS {
            world.log.compact(&TopicPartition::new(topic.clone(), partition));
        }
    }
    world.log.compact(&TopicPartition::new(names.resolver.clone(), 0));
}

macro_rules! seeds {
    ($($name:ident: $seeds:expr;)*) => {
        $(
            #[test]
            fn $name() {
                $seeds.for_each(run);
            }
        )*
    };
}

// Several tests, so that a runner with several threads uses them.
seeds! {
    seeds_0_to_14_settle_as_promised: 0..15;
    seeds_15_to_29_settle_as_promised: 15..30;
    seeds_30_to_44_settle_as_promised: 30..45;
    seeds_45_to_59_settle_as_promised: 45..60;
}

/// What the person who runs the tests asks for.
fn asked(variable: &str) -> Option<u64> {
    #[expect(clippy::disallowed_methods, reason = "a test takes its seeds from the person who runs it")]
    let asked = std::env::var(variable);
    asked.ok().map(|number| number.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// So many seeds beyond those of every run: `SEEDS=1000 cargo test --test it more_seeds -- --ignored`. All that fail are
/// named at the end; `SEED` begins elsewhere.
#[test]
#[ignore = "takes some seconds for each seed"]
fn more_seeds() {
    let first = asked("SEED").unwrap_or(60);
    let all = first..first + asked("SEEDS").unwrap_or(1_000);
    let threads = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let failed: Vec<u64> = std::thread::scope(|scope| {
        let share = |thread: u64| {
            let seeds = all.clone().skip(thread as usize).step_by(threads as usize);
            scope.spawn(move || {
                seeds.filter(|seed| std::panic::catch_unwind(|| run(*seed)).is_err()).collect::<Vec<_>>()
            })
        };
        let shares: Vec<_> = (0..threads).map(share).collect();
        shares.into_iter().flat_map(|share| share.join().expect("panics of seeds are caught")).collect()
    });
    assert!(failed.is_empty(), "seeds {failed:?} failed");
}

/// One seed, with its log lines: `SEED=17 cargo test --test it one_seed -- --nocapture`.
#[test]
fn one_seed() {
    let seed = asked("SEED").unwrap_or(0);
    let lines =
        tracing_subscriber::fmt().with_env_filter("debug,sled=warn").without_time().with_ansi(false).with_test_writer();
    // Where something else took the lines already, the run is the same.
    let _taken = lines.try_init().is_err();
    run(seed);
}
