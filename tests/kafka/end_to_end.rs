//! The promises, kept by real processes on a real broker, judged from outside.
//!
//! Each test starts workers, feeds them, does to them what happens to processes, waits until all has settled, and then
//! gathers evidence with a plain reader of committed records and from the books of the CRMs. What it judges by are the
//! checks of the demo.

use std::time::Duration;

use contact_replicator::{
    cli::demo::generator::{Generated, Scale, generate},
    log::{Isolation, Log},
};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::installation::{
    CRMS, IN_FLIGHT_MAX, IN_HANDS_MAX, Installation, PARTITIONS, PATIENCE, Worker, assert_promises, eventually,
};

/// More lines than this in a run of a minute are a flood.
const LINES_MAX: usize = 400;

#[expect(clippy::disallowed_methods, reason = "processes live in real time")]
fn stream(seed: u64, events: usize, contacts: usize) -> Vec<Generated> {
    generate(Scale { seed, events, contacts }, Timestamp::now())
}

/// Lines are for people, and never about a contact's values.
#[track_caller]
pub(crate) fn assert_readable<'a>(workers: impl IntoIterator<Item = &'a Worker>) {
    for worker in workers {
        let lines = worker.lines();
        assert!(lines.len() <= LINES_MAX, "{} lines", lines.len());
        let telling = lines.iter().find(|line| line.contains("@example.com"));
        assert_eq!(telling, None, "a value of a contact is in a line");
    }
}

/// A little of everything.
fn troubles() -> Value {
    let refused = |call: u64| {
        let patience = json!({ "retry-after": "1" });
        let answer = json!({ "kind": "status", "status": 429, "headers": patience });
        json!({ "call": call, "times": 2, "fault": { "instead": answer } })
    };
    json!({
        "script": [refused(300), refused(800)],
        "chances": [
            { "probability": 0.02, "fault": { "instead": { "kind": "status", "status": 503 } } },
            { "probability": 0.002, "times": 20, "fault": { "instead": { "kind": "status", "status": 503 } } },
            { "probability": 0.005, "fault": { "instead": { "kind": "status", "status": 500, "effect": true } } },
            { "probability": 0.015, "fault": { "instead": { "kind": "reset_after" } } },
            { "probability": 0.01, "fault": { "instead": { "kind": "reset_before" } } },
            { "probability": 0.01, "fault": { "delay_before": "300ms" } },
            // Longer than the worker waits: it gives up on what took effect long ago, or just now.
            { "probability": 0.002, "fault": { "delay_after": "2500ms" } },
            { "probability": 0.002, "fault": { "delay_before": "1900ms", "delay_after": "1s" } },
        ],
    })
}

/// How many CRMs there are, as metrics count them.
fn crms() -> f64 {
    CRMS.len() as f64
}

/// Each request takes effect shortly before its sender would give it up.
fn slow() -> Value {
    json!({ "chances": [{ "probability": 1.0, "fault": { "delay_before": "1700ms" } }] })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_are_killed_and_stopped_under_a_failing_crm_keep_every_promise() {
    const EVENTS: usize = 5_000;
    let installation = Installation::new(Duration::from_secs(2)).await;
    installation.sandbox.misbehave(&troubles()).await;
    let stream = stream(11, EVENTS, 1_000);
    let mut parts = stream.chunks(EVENTS / 5);
    let mut next = || parts.next().unwrap();

    let first = installation.start("worker-1").await;
    eprintln!("  ready after {:?}", first.age());
    let second = installation.start("worker-2").await;
    let mut observer = installation.observe().await;
    let begun = Instant::now();
    installation.publish(next()).await;
    observer.outcomes(200).await;
    installation.publish(next()).await;
    observer.outcomes(500).await;
    first.report();
    first.kill();
    let killed = Instant::now();
    observer.settled(EVENTS / 5 * 2).await;
    eprintln!("  all settled {:?} after SIGKILL", killed.elapsed());

    // Killed again, with every write on its way to a CRM that takes its time: they land after their sender's death.
    let first = installation.start("worker-1").await;
    installation.sandbox.misbehave(&slow()).await;
    installation.publish(next()).await;
    eventually("all places are taken", PATIENCE, async || {
        (first.metric("requests_in_flight").await >= crms() * f64::from(IN_FLIGHT_MAX)).then_some(())
    })
    .await;
    first.kill();
    let killed = Instant::now();
    installation.sandbox.misbehave(&troubles()).await;
    let first = installation.start("worker-1").await;
    eprintln!("  ready {:?} after SIGKILL and an immediate start", killed.elapsed());

    installation.publish(next()).await;
    let so_far = observer.evidence().outcomes.len();
    observer.outcomes(so_far + 300).await;
    assert_readable([&second]);
    let took = second.stop().await;
    eprintln!("  stopped {took:?} after SIGTERM");
    let second = installation.start("worker-2").await;
    eprintln!("  ready again after {:?}", second.age());
    installation.publish(next()).await;
    observer.settled(EVENTS).await;
    eprintln!("  {EVENTS} events in {:?}", begun.elapsed());

    at_rest(&[&first, &second]).await;
    assert_readable([&first, &second]);
    tokio::join!(first.stop(), second.stop());
    let evidence = observer.conclude(2 * IN_HANDS_MAX).await;
    // Patience that a CRM asked of one worker is not known to the other.
    assert_promises(&evidence, &["nothing_before_retry_after"]);
}

/// The gauges of workers that have nothing to do say so.
async fn at_rest(workers: &[&Worker]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut at_work = Vec::new();
        let mut resolvers = 0.0;
        for worker in workers {
            if worker.is_ready().await.is_none() {
                at_work.push("not ready".to_owned());
            }
            resolvers += worker.metric("resolver_active").await;
            // The last thing in a partition of the work list is the marker of a transaction, which nobody commits.
            let markers = crms() * f64::from(PARTITIONS);
            for (gauge, at_most) in
                [("entries_pending", 0.0), ("requests_in_flight", 0.0), ("crm_paused", 0.0), ("lag_records", markers)]
            {
                let value = worker.metric(gauge).await;
                if value > at_most {
                    at_work.push(format!("{gauge} is {value}"));
                }
            }
        }
        if resolvers == 1.0 && at_work.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "never at rest: {at_work:?}, {resolvers} resolvers");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_each_contact_is_written_once_or_twice_however_much_has_changed() {
    const BEFORE: usize = 500;
    const DURING: usize = 10_000;
    const WRITES_MAX: usize = 200;
    const OUTAGE: Duration = Duration::from_secs(60);
    let installation = Installation::new(Duration::from_secs(2)).await;
    let stream = stream(12, BEFORE + DURING, 100);
    let (early, during) = stream.split_at(BEFORE);
    let worker = installation.start("worker-1").await;
    let mut observer = installation.observe().await;
    installation.publish(early).await;
    observer.settled(BEFORE).await;

    let before = installation.sandbox.calls().await;
    let outage = json!({ "windows": [{ "from": "0s", "lasts": "1h", "fault": { "instead": { "kind": "status", "status": 503 } } }] });
    installation.sandbox.misbehave(&outage).await;
    let begun = Instant::now();
    for (number, part) in during.chunks(DURING / 4).enumerate() {
        installation.publish(part).await;
        if number == 1 {
            eventually("the CRMs are paused", PATIENCE, async || {
                (worker.metric("crm_paused").await == crms()).then_some(())
            })
            .await;
        }
    }
    let took = worker.stop().await;
    eprintln!("  stopped {took:?} after SIGTERM, with the CRMs down");
    let worker = installation.start("worker-1").await;
    observer.decided(BEFORE + DURING).await;
    eprintln!("  decided {DURING} events in {:?}", begun.elapsed());
    tokio::time::sleep_until(begun + OUTAGE).await;
    let down = installation.sandbox.calls().await;

    installation.sandbox.misbehave(&json!({})).await;
    let back = Instant::now();
    observer.settled(BEFORE + DURING).await;
    let after = installation.sandbox.calls().await;
    eprintln!("  settled {:?} after the CRMs were back", back.elapsed());
    for (index, crm) in CRMS.iter().enumerate() {
        let ((calls_before, effects_before), (calls_down, effects_down)) = (before[index], down[index]);
        assert_eq!(effects_down, effects_before, "a CRM that is down takes nothing");
        let (calls, effects) = after[index];
        let (probes, calls, writes) = (calls_down - calls_before, calls - calls_down, effects - effects_down);
        eprintln!("  {}: {writes} writes, {calls} calls; {probes} while it was down", crm.name);
        assert!(writes <= WRITES_MAX, "{writes} writes");
        assert!(probes <= 150, "{probes} calls to a CRM that was down");
    }
    at_rest(&[&worker]).await;
    assert_readable([&worker]);
    worker.stop().await;
    assert_promises(&observer.conclude(0).await, &[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_view_that_was_deleted_is_rebuilt_alike_and_no_call_is_repeated() {
    const EVENTS: usize = 1_000;
    let installation = Installation::new(Duration::from_secs(2)).await;
    let stream = stream(13, EVENTS, 300);
    let worker = installation.start("worker-1").await;
    let mut observer = installation.observe().await;
    installation.publish(&stream).await;
    observer.settled(EVENTS).await;
    worker.stop().await;
    let calls = installation.sandbox.calls().await;

    installation.take_view("worker-1", "keeper");
    let worker = installation.start("worker-1").await;
    eprintln!("  ready {:?} after a start without a view", worker.age());
    at_rest(&[&worker]).await;
    worker.stop().await;
    assert_eq!(installation.digest("worker-1").await, installation.digest("keeper").await);
    assert_eq!(installation.sandbox.calls().await, calls);
    assert_promises(&observer.conclude(0).await, &[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_stopped_gives_back_all_it_had_and_its_successor_goes_on_at_once() {
    const EVENTS: usize = 1_000;
    /// Who finds a claim that was not released waits for this long.
    const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
    let installation = Installation::new(REQUEST_DEADLINE).await;
    let stream = stream(14, EVENTS, 300);
    let (early, late) = stream.split_at(EVENTS / 2);
    let worker = installation.start("worker-1").await;
    let mut observer = installation.observe().await;
    installation.publish(early).await;
    // Not all: it is stopped at work.
    observer.outcomes(EVENTS / 8).await;
    let took = worker.stop().await;
    eprintln!("  stopped {took:?} after SIGTERM");
    for group in CRMS.map(|crm| installation.group(crm)) {
        for partition in 0..PARTITIONS {
            let at = installation.versions(partition);
            let committed = installation.log.committed(&group, &at, Isolation::ReadCommitted).await.unwrap().unwrap();
            assert!(committed.metadata.contains(r#""released":true"#), "{group} of {at}: {}", committed.metadata);
        }
    }

    let worker = installation.start("worker-1").await;
    eprintln!("  ready again after {:?}", worker.age());
    observer.settled(EVENTS / 2).await;
    assert!(worker.age() < REQUEST_DEADLINE, "it waited for nobody: {:?}", worker.age());
    worker.stop().await;
    let calls = installation.sandbox.calls().await;

    // With nothing new, a start costs nothing.
    let worker = installation.start("worker-1").await;
    at_rest(&[&worker]).await;
    assert_eq!(installation.sandbox.calls().await, calls);
    installation.publish(late).await;
    observer.settled(EVENTS).await;
    assert!(worker.age() < REQUEST_DEADLINE, "a CRM was kept waiting: {:?}", worker.age());
    worker.stop().await;
    assert_promises(&observer.conclude(0).await, &[]);
}
