//! After the faults: everything is mended and must settle; then the workers stop, and what they leave is gathered.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use contact_replicator::{
    cli::demo::{
        checks,
        evidence::{CrmEvidence, Evidence, Reader, expectation},
        generator,
    },
    log::{Log, Record, TopicPartition, Watermarks},
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    crm_line::Condition,
    settings::{self, Written},
    world::{PATIENCE, World, name_of},
};

/// How long all may take to settle after everything is mended: every delay that is set, several times over, on a machine
/// that has other things to do.
const SETTLED_WITHIN: Duration = Duration::from_secs(120);
/// How often it is judged whether all has settled.
const JUDGE: Duration = Duration::from_millis(500);
/// Who gets a view that is made anew.
const HEIR: &str = "heir";
/// Records read at a time.
const RECORDS_MAX: usize = 2_000;

/// Mends all that may still be broken: what was down runs, and nothing goes wrong any more.
pub(crate) async fn mend(world: &World) {
    for (crm, kind) in crate::KINDS.iter().enumerate() {
        world.set_lines_to(crm, Condition::Open);
        world.misbehave(*kind, &json!({})).await;
    }
    for seat in &world.seats {
        world.broker.lines.mend(&world.client_id(seat));
    }
    for seat in &world.seats[..world.shape.workers] {
        world.start(seat, &mut *seat.running.lock().await);
    }
    for seat in &world.seats[..world.shape.workers] {
        world.ready(seat).await;
    }
    world.recorder.healed();
}

/// Waits until each of `events` has come to its end in every CRM. Returns what was read, and what is missing after a long
/// time.
pub(crate) async fn settle(world: &World, events: usize) -> (Reader, Vec<String>) {
    let log = world.broker.log("judge");
    let inputs = generator::TOPICS.map(|(topic, _)| Written::input(&world.name, topic));
    let mut reader = Reader::open(&log, &inputs, &world.topics()).await.unwrap();
    let crms: Vec<Arc<str>> = crate::KINDS.iter().map(|kind| name_of(*kind)).collect();
    let begun = Instant::now();
    loop {
        let next = Instant::now() + JUDGE;
        while Instant::now() < next {
            reader.read_on(JUDGE / 10).await.unwrap();
        }
        let evidence = reader.evidence();
        let mut missing = checks::unsettled(evidence, &crms);
        let read = evidence.inputs.len();
        if read < events {
            missing.push(format!("{read} of {events} events were read"));
        }
        if missing.is_empty() {
            world.recorder.say("all has settled");
            return (reader, missing);
        }
        if begun.elapsed() > SETTLED_WITHIN {
            return (reader, missing);
        }
    }
}

/// Stops all workers.
pub(crate) async fn stop(world: &World) {
    for seat in &world.seats {
        world.stop(seat, &mut *seat.running.lock().await).await;
    }
}

/// What a view holds that went through all of it, and what one holds that is made anew.
pub(crate) async fn digests(world: &World) -> [String; 2] {
    let log: Arc<dyn Log> = Arc::new(world.broker.log("digest"));
    std::fs::create_dir_all(world.data(HEIR)).unwrap();
    let grown = settings::digest(&world.settings_of(&world.seats[0].worker), Arc::clone(&log), PATIENCE).await;
    let built = settings::digest(&world.settings_of(HEIR), log, PATIENCE).await;
    [grown, built]
}

/// Every committed record of a topic, partition by partition in order.
pub(crate) async fn records(world: &World, topic: &str) -> Vec<Record> {
    let log = world.broker.log("records");
    let mut follower = log.follower().await.unwrap();
    let mut ends = BTreeMap::new();
    for partition in 0..log.partitions(topic).await.unwrap().unwrap_or_default() {
        let at = TopicPartition::new(topic, partition);
        let Watermarks { low, high, .. } = log.watermarks(&at).await.unwrap();
        follower.assign(at.clone(), low).await.unwrap();
        if low < high {
            ends.insert(at, high);
        }
    }
    let (mut records, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while !ends.is_empty() {
        assert!(Instant::now() < deadline, "{topic} was not read to its end: {ends:?}");
        let progress = follower.poll(RECORDS_MAX, JUDGE).await.unwrap();
        records.extend(progress.records);
        for (at, position) in progress.positions {
            if ends.get(&at).is_some_and(|end| position >= *end) {
                ends.remove(&at);
            }
        }
    }
    records.sort_by(|one: &Record, other| (&one.at, one.offset).cmp(&(&other.at, other.offset)));
    records
}

/// All that there is to judge by.
pub(crate) async fn gather(world: &World, mut reader: Reader) -> Evidence {
    let log = world.broker.log("judge");
    let crms: Vec<Arc<str>> = crate::KINDS.iter().map(|kind| name_of(*kind)).collect();
    reader.follow_links(&log, &crms).await.unwrap();
    reader.catch_up(&log, PATIENCE).await.unwrap();
    let mut evidence = reader.into_evidence();
    let settings = world.settings_of("judge");
    for (crm, kind) in settings.crm.iter().zip(crate::KINDS) {
        let contacts = world.sandbox.page(kind.name(), "contacts").await;
        let requests = world.sandbox.page(kind.name(), "requests").await;
        let expectation = expectation(crm, &settings.instance).unwrap();
        evidence.crms.push(CrmEvidence::read(&crm.name, &contacts, &requests, expectation).unwrap());
    }
    evidence
}
