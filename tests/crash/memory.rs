//! Memory while both CRMs are down and changes keep coming in, and what happens when they return.
//!
//! Nothing can be delivered, so everything that was ever accepted waits. Where it waits is the claim: on the disk.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use contact_replicator::cli::demo::checks;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    READY_WITHIN,
    installation::{Installation, Worker},
    load::{HEADER, Ingest, SOURCES},
    processes::{Usage, exchange},
};

const BATCH: usize = 100;
const SENDERS: usize = 4;
/// How much more the worker may hold after the whole input than after half of it.
const GROWTH_MAX_MIB: u64 = 64;
const DRAINED_WITHIN: Duration = Duration::from_secs(1_800);

/// The event with this number: each person once, then each again.
fn event(number: usize, people: usize) -> Value {
    let (person, round) = (number % people, number / people);
    json!({
        "specversion": "1.0", "id": format!("e-{number}"), "source": SOURCES[0].1,
        "type": "com.example.contact.updated.v1", "subject": format!("shop-{person}"),
        "sequence": (round + 1).to_string(),
        "data": {
            "name": { "givenName": "Ada", "familyName": format!("Person{person}") },
            "emails": [{ "value": format!("person{person}@example.com"), "primary": true }],
            "phoneNumbers": [{ "value": format!("+49301{person:07}"), "type": "mobile" }],
            "notes": format!("said for the {round}. time: {}", "words ".repeat(50)),
        },
    })
}

/// Sends every event, whatever it takes, each person's in their order.
async fn send(ingest: Ingest, accepted: Arc<AtomicUsize>, events: usize, people: usize) {
    let senders = (0..SENDERS).map(|sender| {
        let (ingest, accepted) = (Arc::clone(&ingest), Arc::clone(&accepted));
        let numbers: Vec<usize> = (0..events).filter(|number| number % people % SENDERS == sender).collect();
        tokio::spawn(async move {
            for batch in numbers.chunks(BATCH) {
                let body = Value::Array(batch.iter().map(|number| event(*number, people)).collect()).to_string();
                loop {
                    let address = ingest.lock().expect("the worker runs");
                    let answer = exchange(address, "POST", "/events", HEADER, body.as_bytes()).await.unwrap();
                    match answer.status {
                        202 => break,
                        429 | 503 => tokio::time::sleep(Duration::from_millis(200)).await,
                        status => panic!("{status}: {}", answer.text()),
                    }
                }
                accepted.fetch_add(batch.len(), Ordering::Relaxed);
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
}

/// Memory at each quarter of the input, in MiB.
async fn sample(worker: &Worker, accepted: &AtomicUsize, events: usize, begun: Instant) -> Vec<u64> {
    let mut found = Vec::new();
    for quarter in 1..=4 {
        while accepted.load(Ordering::Relaxed) < events * quarter / 4 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let memory = worker.usage();
        let (now, most, took) = (memory.resident, memory.most, begun.elapsed());
        eprintln!("  {now} MiB, {most} at most, at {} % of the input, after {took:.0?}", quarter * 25);
        found.push(now);
    }
    found
}

/// Sends `events` changes of `people` people while both CRMs answer 503, lets the CRMs return, and waits until each has
/// everybody.
pub(crate) async fn outage(events: usize, people: usize) {
    let installation = Installation::new(false, Duration::ZERO).await;
    let down = json!({ "chances": [
        { "probability": 1.0, "fault": { "instead": { "kind": "status", "status": 503 } } },
    ] });
    installation.misbehave(&down).await;
    let mut worker = installation.start();
    worker.ready(READY_WITHIN).await;
    eprintln!("{events} events about {people} people while both CRMs answer 503");
    eprintln!("  {} MiB when ready", worker.usage().resident);

    let begun = Instant::now();
    let accepted = Arc::new(AtomicUsize::new(0));
    let sending = tokio::spawn(send(Arc::clone(&installation.ingest), Arc::clone(&accepted), events, people));
    let quarters = sample(&worker, &accepted, events, begun).await;
    sending.await.unwrap();
    while worker.metric("events_read_total").await < events as f64 {
        assert!(begun.elapsed() < DRAINED_WITHIN, "never read");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (memory, took) = (worker.usage(), begun.elapsed());
    eprintln!("  {} MiB, {} at most, when all was decided, after {took:.0?}", memory.resident, memory.most);

    installation.misbehave(&json!({})).await;
    let returned = Instant::now();
    let answered = (2 * events) as f64;
    while worker.metric("outcomes_total").await < answered {
        assert!(returned.elapsed() < DRAINED_WITHIN, "never answered");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let memory = worker.usage();
    let took = returned.elapsed();
    let Usage { resident, most, cpu } = memory;
    eprintln!("  {resident} MiB, {most} at most, when drained, {took:.1?} after the CRMs returned; {cpu:.0} s of CPU");

    let (evidence, _) = installation.settle(worker, DRAINED_WITHIN, 0, true).await;
    installation.assert_discreet();
    assert_eq!(evidence.inputs.len(), events);
    for check in [
        checks::every_input_is_accounted_for,
        checks::every_entry_has_one_outcome_per_crm,
        checks::the_crm_equals_the_records,
        checks::no_duplicate_contact_in_the_crm,
        checks::every_contact_in_the_crm_has_one_link,
    ] {
        let checked = check(&evidence);
        assert!(checked.ok, "{}: {}", checked.name, checked.detail);
    }
    assert!(evidence.crms.iter().all(|crm| crm.stored.len() == people));

    let mut worker = installation.start();
    worker.ready(READY_WITHIN).await;
    eprintln!("  {} MiB when started again on all that the log keeps", worker.usage().resident);
    worker.stop().await;
    let [_, half, _, whole] = quarters.as_slice() else { unreachable!("there are four quarters") };
    assert!(*whole <= half + GROWTH_MAX_MIB, "grew from {half} to {whole} MiB");
}
