//! After the faults: everything is mended and must settle; then the workers stop, and what they leave is gathered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use contact_replicator::{
    cli::demo::{
        checks::{self, Left, Leftover},
        evidence::{CrmEvidence, Evidence, ReadError, Reader, expectation},
        generator,
    },
    log::{Log, Record, TopicPartition, Watermarks},
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    brokers,
    crm_line::Condition,
    processes::program,
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
    for (crm, kind) in crate::kinds().iter().enumerate() {
        world.set_lines_to(crm, Condition::Open);
        world.misbehave(*kind, &json!({})).await;
    }
    for seat in &world.seats {
        world.brokers.lines.mend(&world.client_id(seat));
    }
    for seat in &world.seats[..world.shape.workers] {
        world.start(seat, &mut *seat.running.lock().await);
    }
    for seat in &world.seats[..world.shape.workers] {
        world.ready(seat).await;
    }
    world.recorder.healed();
}

fn names_of_crms() -> Vec<Arc<str>> {
    crate::kinds().iter().map(|kind| name_of(*kind)).collect()
}

/// Reads all that there is to judge by, from its beginning.
pub(crate) async fn reader(world: &World) -> Reader {
    let log = world.brokers.log("judge");
    let inputs = generator::TOPICS.map(|(topic, _)| Written::input(&world.name, topic));
    brokers::patiently(async || {
        let mut reader = Reader::open(&log, &inputs, &world.topics()).await?;
        reader.follow_links(&log, &names_of_crms()).await?;
        Ok(reader)
    })
    .await
}

/// Reads what there is by now.
async fn catch_up(world: &World, reader: &mut Reader) {
    let log = world.brokers.log("judge");
    brokers::patiently(async || match reader.catch_up(&log, PATIENCE).await {
        Err(ReadError::Log(error)) => Err(error),
        Err(error) => panic!("{error}"),
        Ok(()) => Ok(()),
    })
    .await;
}

/// Waits until each of `events` has come to its end in every CRM, and whatever else was asked for. Returns what is missing
/// after a long time.
pub(crate) async fn settle(world: &World, reader: &mut Reader, events: usize) -> Vec<String> {
    let crms = names_of_crms();
    // What was asked for just now is known to be asked for.
    catch_up(world, reader).await;
    let begun = Instant::now();
    loop {
        let next = Instant::now() + JUDGE;
        while Instant::now() < next {
            brokers::patiently(async || reader.read_on(JUDGE / 10).await).await;
        }
        let evidence = reader.evidence();
        let mut missing = checks::unsettled(evidence, &crms);
        let read = evidence.inputs.len();
        if read < events {
            missing.push(format!("{read} of {events} events were read"));
        }
        if missing.is_empty() {
            world.recorder.say("all has settled");
            return missing;
        }
        if begun.elapsed() > SETTLED_WITHIN {
            return missing;
        }
    }
}

/// Has contacts driven anew that are not as their records say, as an operator would who knows that a worker was frozen.
/// Returns what could not be asked for.
pub(crate) async fn resync(world: &World, left: &[Leftover]) -> Vec<String> {
    let mut refused = Vec::new();
    for crm in names_of_crms() {
        let differing = left.iter().filter(|left| left.crm == crm && left.what == Left::Differs);
        let contacts: BTreeSet<String> = differing.map(|left| left.contact.key()).collect();
        if contacts.is_empty() {
            continue;
        }
        let admin = world.seats[0].running.lock().await.as_ref().and_then(|running| running.lines.admin());
        let Some(admin) = admin else {
            refused.push(format!("{} cannot be asked for a resync", world.seats[0].worker));
            continue;
        };
        world.recorder.say(&format!("{} contacts of {crm} are to be driven anew", contacts.len()));
        let mut command = program();
        command.arg("resync").args(["--crm", &*crm]).args(contacts).arg("--admin").arg(format!("http://{admin}"));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        if !output.status.success() {
            refused.push(format!("the resync of {crm} ended with {}", output.status));
        }
    }
    refused
}

/// Stops all workers.
pub(crate) async fn stop(world: &World) {
    for seat in &world.seats {
        world.stop(seat, &mut *seat.running.lock().await).await;
    }
}

/// What a view holds that went through all of it, and what one holds that is made anew.
pub(crate) async fn digests(world: &World) -> [String; 2] {
    let log: Arc<dyn Log> = Arc::new(world.brokers.log("digest"));
    std::fs::create_dir_all(world.data(HEIR)).unwrap();
    let grown = settings::digest(&world.settings_of(&world.seats[0].worker), Arc::clone(&log), PATIENCE).await;
    let built = settings::digest(&world.settings_of(HEIR), log, PATIENCE).await;
    [grown, built]
}

/// Every committed record of a topic, partition by partition in order.
pub(crate) async fn records(world: &World, topic: &str) -> Vec<Record> {
    let log = world.brokers.log("records");
    let mut follower = log.follower().await.unwrap();
    let mut ends = BTreeMap::new();
    for partition in 0..log.partitions(topic).await.unwrap().unwrap_or_default() {
        let at = TopicPartition::new(topic, partition);
        let Watermarks { low, high, .. } = brokers::patiently(async || log.watermarks(&at).await).await;
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

/// All that there is to judge by so far.
pub(crate) async fn gather(world: &World, reader: &mut Reader) -> Evidence {
    catch_up(world, reader).await;
    let mut evidence = reader.evidence().clone();
    let settings = world.settings_of("judge");
    for (crm, kind) in settings.crm.iter().zip(crate::kinds()) {
        let contacts = world.sandbox.page(kind.name(), "contacts").await;
        let requests = world.sandbox.page(kind.name(), "requests").await;
        let expectation = expectation(crm, &settings.instance).unwrap();
        evidence.crms.push(CrmEvidence::read(&crm.name, &contacts, &requests, expectation).unwrap());
    }
    evidence
}
