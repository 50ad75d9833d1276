//! One run, from its seed to its verdict.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc, time::Duration};

use contact_replicator::{
    cli::demo::{
        checks::Checked,
        evidence::Evidence,
        generator::{Generated, Scale, stream},
    },
    clock::Clock,
};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    aftermath,
    brokers::Brokers,
    history::History,
    judge::{
        self, Known, Terms, Verdict,
        figures::{self, Figures},
    },
    known,
    load::Load,
    recovery::Recoveries,
    scenario::Scenario,
    script::{Kind, Scope, Script},
    settings::SESSION_TIMEOUT,
    world::{self, REQUEST_DEADLINE, Shape, World},
};

/// How often it is looked whether workers run that should.
const LOOK: Duration = Duration::from_millis(500);
const TERMS: Terms = Terms {
    request_deadline: REQUEST_DEADLINE,
    session_timeout: SESSION_TIMEOUT,
    aftermath: Duration::from_secs(15),
    silence_max: Duration::from_secs(5),
    lines_max: 1_000,
};
/// Events beyond those that the faults take, so that the load never ends before them.
const SPARE: f64 = 4.0;

pub(crate) struct Run {
    pub(crate) seed: u64,
    pub(crate) lasts: Duration,
    pub(crate) workers: usize,
    pub(crate) per_second: u32,
    pub(crate) contacts: usize,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) scenario: Scenario,
    /// What is kept of it.
    pub(crate) folder: PathBuf,
}

impl Run {
    /// Whether every promise was kept.
    pub(crate) async fn carry_out(self, brokers: Arc<Brokers>) -> bool {
        let workers = self.scenario.workers(self.workers);
        let scope = Scope {
            seed: self.seed,
            lasts: self.lasts,
            workers,
            crms: crate::kinds().len(),
            kinds: self.kinds.clone(),
        };
        let script = Script::new(&scope);
        let named = script.named || !world::hosts_can_be_named();
        let shape = Shape { workers, partitions: script.partitions, named };
        println!(
            "seed {}: {workers} workers {}, {} partitions, {} in {:?}",
            self.seed,
            if named { "with names of their own" } else { "named after their hosts" },
            script.partitions,
            match self.scenario {
                Scenario::Faults => format!("{} faults", script.faults.len()),
                scenario => format!("{scenario:?}"),
            },
            self.lasts
        );
        let name = format!("torture-{}-{}", self.seed, std::process::id());
        let world = World::new(name, self.folder.clone(), shape, brokers).await;
        fs::write(self.folder.join("script.txt"), format!("{script:#?}\n")).unwrap();
        let at_first = &world.seats[..self.scenario.workers_at_first(workers)];
        for seat in at_first {
            world.start(seat, &mut *seat.running.lock().await);
        }
        for seat in at_first {
            world.ready(seat).await;
        }

        let events = (self.lasts.as_secs_f64() * SPARE * f64::from(self.per_second)) as usize;
        let stream = stream(Scale { seed: self.seed, events, contacts: self.contacts }, Clock::System.now());
        let sent: Arc<[Generated]> = stream.sent.into();
        let load = Load::start(&world.brokers.servers(), &world.name, Arc::clone(&sent), self.per_second);
        // Ends with its value, also if the run panics, so that nobody holds the world's ports.
        let mut watching = JoinSet::new();
        watching.spawn(watch(Arc::clone(&world)));
        let begun = Instant::now();
        self.scenario.carry_out(&world, &script, begun, self.lasts).await;
        tokio::time::sleep_until(begun + self.lasts).await;
        drop(watching);
        let events = load.stop().await;
        aftermath::mend(&world).await;

        let mut reader = aftermath::reader(&world).await;
        let mut missing = aftermath::settle(&world, &mut reader, events).await;
        let left = judge::left(&aftermath::gather(&world, &mut reader).await, &world.recorder.history(), &TERMS);
        let mended = !left.is_empty();
        if mended {
            println!("  left by workers that had been replaced while they were frozen: {left:?}");
            missing.extend(aftermath::resync(&world, &left).await);
            missing.extend(aftermath::settle(&world, &mut reader, events).await);
        }
        missing.extend(world.findings.lock().clone());
        aftermath::stop(&world).await;
        let digests = aftermath::digests(&world).await;
        let evidence = aftermath::gather(&world, &mut reader).await;
        let history = world.recorder.history();
        fs::write(self.folder.join("history.txt"), format!("{history:#?}\n")).unwrap();
        let known = Known { mended, unsettled: missing, ..known::gather(&world, &sent[..events], digests).await };
        let departures = world.departures.lock().clone();
        let recoveries = Recoveries::of(&departures, &known.decided, &evidence.crms, &history, script.partitions);
        tell(&figures::figures(&evidence, &history, &known, &TERMS), &evidence, &history);
        print!("{recoveries}");
        let Verdict { mut checked, left } = judge::all(&evidence, &history, &known, &TERMS);
        if !left.is_empty() {
            println!("  still so in the end: {left:?}");
        }
        checked.extend(self.scenario.checks(&evidence, &history, script.partitions));
        for Checked { name, ok, detail } in &checked {
            println!("  {} {name}: {detail}", if *ok { "holds " } else { "BROKEN" });
        }
        checked.iter().all(|checked| checked.ok)
    }
}

/// Starts whoever ended by itself, as whoever manages processes would.
async fn watch(world: Arc<World>) {
    loop {
        tokio::time::sleep(LOOK).await;
        for seat in &world.seats {
            // Whoever holds it is about to do something to it.
            if let Ok(mut running) = seat.running.try_lock() {
                world.tend(seat, &mut running).await;
            }
        }
    }
}

/// What there was, in figures.
fn tell(figures: &Figures, evidence: &Evidence, history: &History) {
    let Figures { events, entries, contacts, outcomes, outcomes_repeated, outcomes_repeated_uncommitted, crms } =
        figures;
    println!("  {events:>8} events, {entries} of them raised a version; {contacts} contacts");
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    for act in &history.acts {
        *counted.entry(act.what.kind()).or_default() += 1;
    }
    for (kind, times) in counted {
        println!("  {times:>8} times {kind}");
    }
    println!(
        "  {outcomes:>8} outcomes, {outcomes_repeated} of them repeated, {outcomes_repeated_uncommitted} for readers of \
         uncommitted data"
    );
    for (crm, books) in crms.iter().zip(&evidence.crms) {
        println!(
            "  {:>8} calls to {}, {:.2} for each event: {} look-ups, {} repeated, {} unheard, {} of the deposed, {} forgotten",
            crm.calls,
            crm.name,
            crm.calls_per_event,
            crm.look_ups,
            crm.calls_repeated,
            crm.calls_unheard,
            crm.calls_deposed,
            books.calls_dropped,
        );
    }
}
