//! A worker on the durable log that is killed again and again while changes come in, and started again at once.
//!
//! Everything is as in production: the built program, its log on the disk, changes by HTTP, both CRMs in a process of
//! their own behind TCP, SIGKILL. Only delays are short, so that each run between two kills gets far. Killed is at
//! moments that the seed draws: within the first milliseconds of a start, during the take-over, under load, and, in
//! every other run, while the log is compacted without pause.
//!
//! Nothing that a killed process said of itself is believed. At the end the last worker stops in good order, and the
//! judge opens the log's folder and the CRMs' books and holds them against what the senders were answered.
//!
//! Each run tells its seed. Times are the machine's, so a seed repeats the load and the intentions, not each moment.

#![expect(clippy::unwrap_used, reason = "a claim fails by panicking")]

mod installation;
mod judge;
mod load;
mod memory;
#[path = "../processes/mod.rs"]
mod processes;

use std::{sync::Arc, time::Duration};

use contact_replicator::cli::demo::checks::{self, Checked};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::time::Instant;

use self::{
    installation::{Installation, Worker},
    judge::Told,
    load::Load,
};

/// How long a worker may take until it is ready, on a machine that has other things to do.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a CRM takes for each request.
const LATENCY: Duration = Duration::from_millis(10);
/// How long all may take to settle after the last kill.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);

/// A little of everything that may happen to a request.
fn troubles() -> Value {
    json!({ "chances": [
        { "probability": 0.01, "fault": { "instead": { "kind": "status", "status": 503 } } },
        { "probability": 0.005, "fault": { "instead": { "kind": "status", "status": 500, "effect": true } } },
        { "probability": 0.01, "fault": { "instead": { "kind": "reset_after" } } },
        { "probability": 0.005, "fault": { "instead": { "kind": "reset_before" } } },
        { "probability": 0.01, "fault": { "delay_before": "80ms" } },
        // Longer than the worker waits: it took effect, and nobody hears of it.
        { "probability": 0.002, "fault": { "delay_after": "900ms" } },
    ] })
}

/// When the next worker is to die.
#[derive(Debug, Clone, Copy)]
enum Moment {
    SinceStart(Duration),
    SinceReady(Duration),
}

impl Moment {
    fn draw(random: &mut StdRng) -> Self {
        let millis = |random: &mut StdRng, range| Duration::from_millis(random.random_range(range));
        match random.random_range(0..100) {
            0..10 => Self::SinceStart(millis(random, 0..60)),
            10..25 => Self::SinceStart(millis(random, 60..500)),
            _ => Self::SinceReady(millis(random, 0..900)),
        }
    }
}

/// Waits for the moment, and says how long the worker took to be ready if it came to that.
async fn wait_for(moment: Moment, worker: &mut Worker) -> Option<Duration> {
    match moment {
        // Events go to it as soon as it takes them, ready or not.
        Moment::SinceStart(after) => tokio::time::timeout(after, worker.ready(READY_WITHIN)).await.ok(),
        Moment::SinceReady(after) => {
            let took = worker.ready(READY_WITHIN).await;
            // The claim is about a moment, not about a state.
            tokio::time::sleep(after).await;
            Some(took)
        }
    }
}

async fn run(seed: u64, kills: usize, by_itself: bool) {
    let mut random = StdRng::seed_from_u64(seed);
    let compacting = seed.is_multiple_of(2);
    let installation = Installation::new(compacting, LATENCY).await;
    installation.misbehave(&troubles()).await;
    let begun = Instant::now();

    let mut worker = installation.start();
    worker.ready(READY_WITHIN).await;
    let load = Load::start(seed, Arc::clone(&installation.ingest));
    let mut ready = Vec::new();
    for _ in 0..kills {
        ready.extend(wait_for(Moment::draw(&mut random), &mut worker).await);
        worker.kill();
        worker = installation.start();
    }
    ready.push(worker.ready(READY_WITHIN).await);
    let sent = load.stop().await;
    installation.misbehave(&json!({})).await;

    let (evidence, settling) = installation.settle(worker, SETTLED_WITHIN, kills, by_itself).await;
    installation.assert_discreet();
    ready.sort_unstable();
    let told = Told { seed, kills, compacting, took: begun.elapsed(), settling, ready };
    judge::assert_promises(&told, &evidence, &sent, !compacting);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_under_load_keeps_every_promise() {
    run(1, 10, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_while_it_compacts_keeps_every_promise() {
    run(2, 10, false).await;
}

/// A folder that is being made is in states that it is never in again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_is_killed_in_its_very_first_start_leaves_a_folder_that_can_be_used() {
    let mut random = StdRng::seed_from_u64(3);
    for _ in 0..asked("FOLDERS", 4) {
        let installation = Installation::new(false, LATENCY).await;
        for _ in 0..2 {
            let moment = Moment::SinceStart(Duration::from_millis(random.random_range(5..400)));
            let mut worker = installation.start();
            wait_for(moment, &mut worker).await;
            worker.kill();
        }
        let mut worker = installation.start();
        worker.ready(READY_WITHIN).await;
        let load = Load::start(3, Arc::clone(&installation.ingest));
        let sent = load.stop().await;
        let (evidence, _) = installation.settle(worker, SETTLED_WITHIN, 2, false).await;
        assert!(evidence.inputs.len() >= sent.len());
        let broken: Vec<Checked> = checks::all(&evidence).into_iter().filter(|checked| !checked.ok).collect();
        assert!(broken.is_empty(), "{broken:?}");
    }
}

/// `KILLS` in all, by default 1000, in runs of 100, with seeds from `SEED` on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes as long as one has patience for"]
async fn more_kills() {
    const IN_A_RUN: usize = 100;
    let (mut left, mut seed) = (asked("KILLS", 1_000), asked("SEED", 1_001) as u64);
    while left > 0 {
        let kills = left.min(IN_A_RUN);
        run(seed, kills, true).await;
        (left, seed) = (left - kills, seed + 1);
    }
}

/// `EVENTS` about `PEOPLE`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes, and is meant to be read"]
async fn memory_stays_flat_while_both_crms_are_down() {
    memory::outage(asked("EVENTS", 200_000), asked("PEOPLE", 20_000)).await;
}

fn asked(name: &str, otherwise: usize) -> usize {
    #[expect(clippy::disallowed_methods, reason = "the one way to ask a test for more or less")]
    let asked = std::env::var(name);
    asked.map_or(otherwise, |text| text.parse().unwrap())
}
