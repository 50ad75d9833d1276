//! One run, from its seed to its verdict.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use contact_replicator::{
    cli::demo::{
        checks::{self, Checked},
        evidence::{CrmEvidence, Evidence},
        generator::{Scale, stream},
    },
    clock::Clock,
    event::OutcomeKind,
    sandbox,
};
use tokio::time::Instant;

use crate::{
    aftermath,
    broker::Broker,
    history::History,
    load::Load,
    recovery::Recoveries,
    scenario::Scenario,
    script::{Kind, Scope, Script},
    world::{self, Shape, World},
};

/// How often it is looked whether workers run that should.
const LOOK: Duration = Duration::from_millis(500);
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
    pub(crate) async fn carry_out(self, broker: Arc<Broker>) -> bool {
        let workers = self.scenario.workers(self.workers);
        let scope = Scope {
            seed: self.seed,
            lasts: self.lasts,
            workers,
            crms: sandbox::Kind::ALL.len(),
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
            if self.scenario == Scenario::Faults {
                format!("{} faults", script.faults.len())
            } else {
                "no faults".into()
            },
            self.lasts
        );
        let name = format!("torture-{}-{}", self.seed, std::process::id());
        let world = World::new(name, self.folder.clone(), shape, broker).await;
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
        let load = Load::start(&world.broker.servers(), &world.name, stream.sent, self.per_second);
        let watching = tokio::spawn(watch(Arc::clone(&world)));
        let begun = Instant::now();
        self.scenario.carry_out(&world, &script, begun, self.lasts).await;
        tokio::time::sleep_until(begun + self.lasts).await;
        watching.abort();
        let events = load.stop().await;
        aftermath::mend(&world).await;

        let (settled, _, reader) = aftermath::settle(&world, events).await;
        let stopped = aftermath::stop(&world).await;
        let views = aftermath::compare_views(&world).await;
        let evidence = aftermath::gather(&world, reader).await;
        let history = world.recorder.history();
        fs::write(self.folder.join("history.txt"), format!("{history:#?}\n")).unwrap();

        let versions = aftermath::records(&world, &world.topics().versions).await;
        let departures = world.departures.lock().clone();
        let recoveries = Recoveries::of(&departures, &versions, &evidence.crms, &history, script.partitions);
        tell(&evidence, &history);
        print!("{recoveries}");
        let mut checked = vec![settled, stopped, views];
        checked.extend(self.judge(&evidence));
        checked.extend(self.scenario.checks(&evidence, &history, script.partitions));
        for Checked { name, ok, detail } in &checked {
            println!("  {} {name}: {detail}", if *ok { "holds " } else { "BROKEN" });
        }
        checked.iter().all(|checked| checked.ok)
    }

    fn judge(&self, evidence: &Evidence) -> Vec<Checked> {
        let excused = self.scenario.excuses();
        checks::all(evidence).into_iter().filter(|checked| !excused.contains(&checked.name)).collect()
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
fn tell(evidence: &Evidence, history: &History) {
    println!("  {:>8} events", evidence.inputs.len());
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    for act in &history.acts {
        *counted.entry(act.what.kind()).or_default() += 1;
    }
    for (kind, times) in counted {
        println!("  {times:>8} times {kind}");
    }
    let mut ids = BTreeSet::new();
    let repeated = evidence.outcomes.iter().filter(|outcome| !ids.insert(outcome.id())).count();
    println!("  {:>8} outcomes, {repeated} of them repeated", evidence.outcomes.len());
    for crm in &evidence.crms {
        let dropped = if crm.calls_dropped > 0 { format!(", {} forgotten", crm.calls_dropped) } else { String::new() };
        println!(
            "  {:>8} calls to {}, {} of them repeated{dropped}",
            crm.calls.len(),
            crm.name,
            repeated_calls(evidence, crm)
        );
    }
}

/// Accepted writes beyond those that delivered versions account for.
fn repeated_calls(evidence: &Evidence, crm: &CrmEvidence) -> usize {
    let mut accepted: BTreeMap<String, usize> = BTreeMap::new();
    for call in crm.calls.iter().filter(|call| call.effect.is_some() && !call.is_read()) {
        *accepted.entry(call.external_id.clone().unwrap_or_default()).or_default() += 1;
    }
    for outcome in &evidence.outcomes {
        let delivered = outcome.crm == crm.name && outcome.outcome == OutcomeKind::Delivered;
        if let (true, Some(contact)) = (delivered, outcome.contact_id)
            && let Some(accepted) = accepted.get_mut(&contact.key())
        {
            *accepted = accepted.saturating_sub(1);
        }
    }
    accepted.values().sum()
}
