//! A worker with very many contacts goes and comes back: how long it takes until it delivers again.
//!
//! All contacts are made by way of the worker itself, as fast as it can. Then some of them change at a steady pace, while
//! the worker is asked to stop, dies, and dies and loses its view, several times over. It keeps its name, so that nobody
//! waits for a session to end: what is measured is its own part, from the moment at which it is given partitions.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use contact_replicator::{
    cli::demo::generator,
    clock::Clock,
    log::{NewRecord, TopicPartition, partition_of},
    sandbox,
};
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    brokers::Brokers,
    history::What,
    people::{Told, told},
    plain::{self, Outcomes, Pace, Seen},
    processes::eventually,
    recovery::{Measure, Recoveries, between},
    settings::Written,
    world::{PATIENCE, Seat, Shape, World},
};

/// The one CRM that there is.
pub(crate) const KIND: sandbox::Kind = sandbox::Kind::Priava;
const PARTITIONS: u32 = 6;
/// How often each way of going comes.
const ROUNDS: usize = 3;
/// How long the worker is left alone in between.
const CALM: Duration = Duration::from_secs(6);
/// How long nothing may be settled while something waits to be.
const STANDSTILL_MAX: Duration = Duration::from_secs(180);
/// How long a worker may take to build its view anew.
const BUILT_WITHIN: Duration = Duration::from_secs(600);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(500);
/// A number without a factor in common with those of contacts that anybody asks for, so that changes go all over them.
const STRIDE: usize = 7_919;

/// How the worker goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Going {
    Stops,
    Dies,
    DiesAndLosesItsView,
}

pub(crate) struct Large {
    pub(crate) contacts: usize,
    /// Changes while the worker comes and goes.
    pub(crate) per_second: u32,
    pub(crate) folder: PathBuf,
}

impl Large {
    /// Whether every change was settled once, and no bound passed.
    pub(crate) async fn carry_out(self, brokers: Arc<Brokers>) -> bool {
        let shape = Shape { workers: 1, partitions: PARTITIONS, named: true };
        let world = World::new("torture-large".to_owned(), self.folder.clone(), shape, brokers).await;
        let seat = &world.seats[0];
        world.start(seat, &mut *seat.running.lock().await);
        world.ready(seat).await;
        let outcomes = Outcomes::follow(&world.brokers.servers(), &world.topics().outcomes, PARTITIONS);

        let (filling, contacts) = (Instant::now(), self.contacts);
        publish(&world, (0..contacts).map(|number| change(number, number)), Pace::AtOnce).await;
        settled(&outcomes, contacts).await;
        let memory = seat.running.lock().await.as_ref().map(|running| running.process.usage().resident);
        println!(
            "  {contacts} contacts made in {:?}; the worker has {} MiB of memory and its folder {} MiB",
            filling.elapsed(),
            memory.unwrap_or_default(),
            size(&world.data(&seat.worker)) / (1 << 20)
        );

        let sent = Arc::new(AtomicUsize::new(contacts));
        let changing = {
            let sent = Arc::clone(&sent);
            let changes = (contacts..).map_while(move |number| {
                // Whoever wants the changes to end puts it beyond all numbers.
                sent.compare_exchange(number, number + 1, Ordering::AcqRel, Ordering::Acquire).ok()?;
                Some(change(number, number.wrapping_mul(STRIDE) % contacts))
            });
            let (servers, topic) = (world.brokers.servers(), input(&world).to_string());
            tokio::spawn(plain::publish(servers, topic, changes, Pace::PerSecond(self.per_second)))
        };
        let mut recoveries = Recoveries::default();
        for going in [Going::Stops, Going::Dies].repeat(ROUNDS).into_iter().chain([Going::DiesAndLosesItsView]) {
            tokio::time::sleep(CALM).await;
            restart(&world, seat, going, &mut recoveries).await;
        }
        let sent = sent.swap(usize::MAX, Ordering::AcqRel);
        changing.await.unwrap();
        let seen = settled(&outcomes, sent).await;
        print!("{recoveries}");
        println!("  {sent} changes, each with one outcome: {:?}", seen.types);
        world.stop(seat, &mut *seat.running.lock().await).await;
        seen.settled == sent && !recoveries.pass()
    }
}

fn input(world: &World) -> Arc<str> {
    Written::input(&world.name, generator::TOPICS[0].0)
}

/// Change number `number`, of this contact.
fn change(number: usize, contact: usize) -> NewRecord {
    let change = told(Told { source: generator::SOURCES[0].1, contact, number, moved: false });
    let key = change.key.clone().expect("a change has a key");
    NewRecord { to: TopicPartition::new(change.to.topic.clone(), partition_of(&key, generator::TOPICS[0].1)), ..change }
}

async fn publish(world: &World, changes: impl Iterator<Item = NewRecord> + Send + 'static, pace: Pace) {
    plain::publish(world.brokers.servers(), input(world).to_string(), changes, pace).await;
}

/// Waits until so many changes have their outcome.
async fn settled(outcomes: &Outcomes, changes: usize) -> Seen {
    let (mut settled, mut moved) = (0, Instant::now());
    while settled < changes {
        tokio::time::sleep(LOOK).await;
        let now = outcomes.settled();
        if now > settled {
            (settled, moved) = (now, Instant::now());
        }
        assert!(
            moved.elapsed() < STANDSTILL_MAX,
            "{settled} of {changes} changes have their outcome, and no more come"
        );
    }
    outcomes.seen()
}

async fn restart(world: &World, seat: &Seat, going: Going, recoveries: &mut Recoveries) {
    let mut running = seat.running.lock().await;
    match going {
        Going::Stops => world.stop(seat, &mut running).await,
        Going::Dies => world.kill(seat, &mut running).await,
        Going::DiesAndLosesItsView => {
            world.kill(seat, &mut running).await;
            let worker = Arc::clone(&seat.worker);
            world.recorder.begin(What::ViewDeleted { worker }).end();
            fs::remove_dir_all(world.data(&seat.worker).join("view")).unwrap();
        }
    }
    let started = Clock::System.now();
    world.start(seat, &mut running);
    let patience = if going == Going::DiesAndLosesItsView { BUILT_WITHIN } else { PATIENCE };
    let first = eventually("the worker asks the CRM again", patience, async || {
        let asked = world.recorder.history().lines.into_iter().filter(|line| line.from >= started);
        asked.map(|line| line.from).min()
    })
    .await;
    let assigned = running.as_ref().and_then(|running| running.lines.all().iter().find_map(|line| assigned_at(line)));
    let assigned = assigned.expect("a worker says when it is given partitions");
    drop(running);
    world.ready(seat).await;
    let took = between(assigned, first);
    world.recorder.say(&format!(
        "{going:?}: assigned {:?} after the start, asks the CRM {took:?} later",
        between(started, assigned)
    ));
    match going {
        Going::Stops | Going::Dies => {
            recoveries.note(Measure::AssignedToFirstRequest, took);
            recoveries.note(Measure::StartToFirstRequest, between(started, first));
        }
        Going::DiesAndLosesItsView => recoveries.note(Measure::AssignedWithoutView, took),
    }
}

/// When a line says that partitions were assigned, if it says so.
fn assigned_at(line: &str) -> Option<Timestamp> {
    line.contains("partitions are assigned").then(|| line.split(' ').next()?.parse().ok())?
}

/// Bytes of all files in a folder.
fn size(folder: &std::path::Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries.map(|entry| if entry.path().is_dir() { size(&entry.path()) } else { entry.metadata().unwrap().len() }).sum()
}
