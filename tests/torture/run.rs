//! One run, from its seed to its verdict.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc, time::Duration};

use contact_replicator::{
    cli::demo::{
        checks::{self, Checked},
        evidence::Evidence,
        generator::{Scale, stream},
    },
    clock::Clock,
    sandbox,
};
use tokio::time::Instant;

use crate::{
    aftermath,
    broker::Broker,
    deeds,
    load::Load,
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
    /// What is kept of it.
    pub(crate) folder: PathBuf,
}

impl Run {
    /// Whether every promise was kept.
    pub(crate) async fn carry_out(self, broker: Arc<Broker>) -> bool {
        let scope = Scope {
            seed: self.seed,
            lasts: self.lasts,
            workers: self.workers,
            crms: sandbox::Kind::ALL.len(),
            kinds: self.kinds.clone(),
        };
        let script = Script::new(&scope);
        let named = script.named || !world::hosts_can_be_named();
        let shape = Shape { workers: self.workers, partitions: script.partitions, named };
        println!(
            "seed {}: {} workers {}, {} partitions, {} faults in {:?}",
            self.seed,
            self.workers,
            if named { "with names of their own" } else { "named after their hosts" },
            script.partitions,
            script.faults.len(),
            self.lasts
        );
        let name = format!("torture-{}-{}", self.seed, std::process::id());
        let world = World::new(name, self.folder.clone(), shape, broker).await;
        for seat in &world.seats[..self.workers] {
            world.start(seat, &mut *seat.running.lock().await);
        }
        for seat in &world.seats[..self.workers] {
            world.ready(seat).await;
        }

        let events = (self.lasts.as_secs_f64() * SPARE * f64::from(self.per_second)) as usize;
        let stream = stream(Scale { seed: self.seed, events, contacts: self.contacts }, Clock::System.now());
        let load = Load::start(&world.broker.servers(), &world.name, stream.sent, self.per_second);
        let watching = tokio::spawn(watch(Arc::clone(&world)));
        let begun = Instant::now();
        deeds::carry_out(&world, &script, begun).await;
        tokio::time::sleep_until(begun + self.lasts).await;
        watching.abort();
        let events = load.stop().await;
        aftermath::mend(&world).await;

        let (settled, _, reader) = aftermath::settle(&world, events).await;
        let stopped = aftermath::stop(&world).await;
        let views = aftermath::compare_views(&world).await;
        let evidence = aftermath::gather(&world, reader).await;
        let history = world.recorder.history();
        fs::write(self.folder.join("history.txt"), format!("{script:#?}\n{history:#?}\n")).unwrap();

        tell(&evidence, &history.acts.iter().map(|act| act.what.kind()).collect::<Vec<_>>());
        let mut checked = vec![settled, stopped, views];
        checked.extend(judge(&evidence));
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

/// What the checks of the demo say, but for those that do not know of faults: a frozen worker may send late, a cut line may
/// hold an answer back, and the patience that a CRM asked of one worker is not known to another.
fn judge(evidence: &Evidence) -> Vec<Checked> {
    const EXCEPT: &[&str] = &["order_per_contact", "one_request_in_flight_per_contact", "nothing_before_retry_after"];
    checks::all(evidence).into_iter().filter(|checked| !EXCEPT.contains(&checked.name)).collect()
}

fn tell(evidence: &Evidence, acts: &[&str]) {
    println!("  {:>8} events", evidence.inputs.len());
    let mut counted: BTreeMap<&str, usize> = BTreeMap::new();
    for act in acts {
        *counted.entry(act).or_default() += 1;
    }
    for (act, times) in counted {
        println!("  {times:>8} times {act}");
    }
    for crm in &evidence.crms {
        println!("  {:>8} calls to {}", crm.calls.len(), crm.name);
    }
}
