//! Torture: workers on real Kafka under every fault that can be made, judged from outside.
//!
//! A command rather than a test: each run makes a script of faults from its seed, carries it out on an installation of real
//! processes under a steady load, mends everything, waits until all has settled, and holds what was left behind against the
//! promises. It says what happened when, and ends with 1 if a promise was broken.

#![expect(clippy::unwrap_used, reason = "a run fails by panicking")]
#![expect(clippy::print_stdout, reason = "it is a command, and this is what it says")]

mod aftermath;
mod brokers;
mod crm_line;
mod deeds;
mod history;
mod judge;
mod known;
mod large;
mod load;
#[path = "../../benches/pipeline/load.rs"]
#[allow(dead_code, reason = "a benchmark asks for more kinds of load")]
mod people;
#[path = "../processes/plain.rs"]
#[allow(dead_code, reason = "a benchmark looks closer at outcomes")]
mod plain;
#[path = "../processes/ports.rs"]
mod ports;
#[path = "../processes/mod.rs"]
#[allow(dead_code, reason = "other tests ask more of processes")]
mod processes;
#[path = "../processes/proxy.rs"]
mod proxy;
mod record;
mod recovery;
mod run;
mod scenario;
mod script;
#[path = "../processes/settings.rs"]
mod settings;
mod world;

use std::{
    fs,
    panic::AssertUnwindSafe,
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::Duration,
};

use clap::Parser;
use contact_replicator::sandbox;
use futures::FutureExt;

use self::{brokers::Brokers, large::Large, run::Run, scenario::Scenario, script::Kind};

static KINDS: OnceLock<Vec<sandbox::Kind>> = OnceLock::new();

/// Kinds of CRMs, each of which there is one of.
fn kinds() -> &'static [sandbox::Kind] {
    KINDS.get_or_init(|| sandbox::Kind::ALL.to_vec())
}

/// The seed of a run that nobody asked for, so that it is the same each time.
const SEED_OF_THE_RUNNER: u64 = 1;

/// Tortures an installation on real Kafka and judges what is left of its promises.
///
/// Each run has a seed that names its faults and its load; times are the machine's, so a seed repeats the intentions, not
/// each moment. Needs Java, and the jars that `deploy/kafka/kafka.sh install` fetches.
#[derive(Debug, Parser)]
#[command(name = "torture")]
struct Arguments {
    /// Names the first run; the next has the next number. Without it, any.
    #[arg(long)]
    seed: Option<u64>,
    #[arg(long, default_value_t = 1)]
    runs: u64,
    /// How long faults go on.
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u64).range(5..=86_400))]
    seconds: u64,
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=10))]
    workers: u64,
    /// Events a second.
    #[arg(long, default_value_t = 150)]
    rate: u32,
    /// Contacts of sources that are talked of.
    #[arg(long, default_value_t = 1_500)]
    contacts: usize,
    /// `faults`: all that can be made to fail, by a script. `second-worker`: one worker is joined by another.
    /// `rolling-restart`: each worker is stopped and started again in turn. Without faults, no call may be repeated.
    /// `recovery`: workers stop and die one at a time, 20 s apart, to measure how long others take to take over.
    #[arg(long, default_value = "faults")]
    scenario: Scenario,
    /// Instead of all that: one worker with so many contacts in its view, and one CRM, is stopped and killed several times, to
    /// measure how long it takes until it delivers again.
    #[arg(long, value_name = "CONTACTS")]
    restart_large: Option<usize>,
    /// Kinds of CRMs, each of which there is to be one of. Without it, all.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    crms: Vec<sandbox::Kind>,
    /// Nothing but these faults. Without it, all.
    #[arg(long, value_name = "FAULT", value_delimiter = ',')]
    only: Vec<Kind>,
    /// First of the ports in a row that are taken: eight, and one for each worker, with one worker more than usual, on as many
    /// addresses of the loopback as there are CRMs. Without it, any that are free.
    #[arg(long)]
    port: Option<u16>,
    /// Keeps settings, logs and histories of runs that went well, too.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if arguments.restart_large.is_some() {
        arguments.crms = vec![large::KIND];
    }
    // Whoever runs all tests gives no arguments, and wants the same each time.
    if std::env::args_os().len() == 1 {
        arguments.seed = Some(SEED_OF_THE_RUNNER);
    }
    if !arguments.crms.is_empty() {
        KINDS.set(arguments.crms.clone()).expect("nobody has asked for them yet");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(torture(arguments))
}

async fn torture(arguments: Arguments) -> ExitCode {
    let first = arguments.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    fs::create_dir_all(world::folder_of_runs()).unwrap();
    let folder = tempfile::Builder::new().prefix("run-").tempdir_in(world::folder_of_runs()).unwrap();
    let lines = u16::try_from(arguments.workers.max(2) + 1).unwrap();
    let brokers = Arc::new(Brokers::start(arguments.port, lines, folder.path()).await);
    let mut failed = Vec::new();
    if let Some(contacts) = arguments.restart_large {
        let large = Large { contacts, per_second: arguments.rate, folder: folder.path().join("large") };
        return if large.carry_out(brokers).await { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    for seed in first..first + arguments.runs {
        let run = Run {
            seed,
            lasts: Duration::from_secs(arguments.seconds),
            workers: usize::try_from(arguments.workers).unwrap(),
            per_second: arguments.rate,
            contacts: arguments.contacts,
            kinds: if arguments.only.is_empty() { Kind::ALL.to_vec() } else { arguments.only.clone() },
            scenario: arguments.scenario,
            folder: world::folder_of_runs().join(format!("seed-{seed}-{}", std::process::id())),
        };
        let kept = run.folder.clone();
        // A run that cannot go on panics; the next one has a world of its own.
        let carried_out = AssertUnwindSafe(run.carry_out(Arc::clone(&brokers))).catch_unwind().await;
        let went_well = carried_out.unwrap_or(false);
        if !went_well {
            println!("seed {seed} failed; settings, logs and history are kept in {}", kept.display());
            failed.push(seed);
        } else if arguments.keep {
            println!("settings, logs and history are kept in {}", kept.display());
        } else {
            fs::remove_dir_all(kept).unwrap();
        }
    }
    if arguments.runs > 1 {
        println!("{} runs, {} failed: {failed:?}", arguments.runs, failed.len());
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}
