//! Measures the program as it is run: worker processes, a real Kafka, a simulated CRM behind HTTP, everything on.
//!
//! ```text
//! cargo bench --features kafka-tests --bench kafka [-- [ROW…] [--full]]
//! ```
//!
//! The job is the one that other tools were measured at: from Kafka to an HTTP API that answers in 5 ms, 6 partitions,
//! events of 900 bytes; broker, CRM and worker share the machine. Absolute figures do not travel between machines, so a
//! bare loop without guarantees (`bare`) does the same beside it, and the ratio is what counts. What is counted, calls and
//! silences, is read from the CRM's own log (`calls`), what is settled from the outcomes that were committed (`plain`).
//!
//! It starts a broker of its own with `deploy/kafka/kafka.sh`, in `target/bench-kafka` and on four ports from
//! `KAFKA_PORT` (default 19292), and stops it. Rows: `unique-64`, `unique-256`, `zipf`, `outage`, `kill`, `refusals`,
//! `joins`, and, by name or with `--full`, `backlog`. `--full` takes the loads at the size of the comparison.

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a benchmark prints what it found")]
#![expect(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

mod bare;
mod broker;
mod calls;
mod faults;
mod installation;
#[path = "../pipeline/load.rs"]
mod load;
#[path = "../../tests/processes/plain.rs"]
mod plain;
#[path = "../../tests/processes/mod.rs"]
#[expect(dead_code, reason = "tests ask processes for more")]
mod processes;
mod speed;
mod table;

use std::{fs, time::Duration};

use self::{
    broker::Broker,
    installation::Terms,
    load::Contacts,
    speed::{Sizes, Wishes},
};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROWS: [&str; 8] = ["unique-64", "unique-256", "zipf", "outage", "kill", "refusals", "joins", "backlog"];
/// Those that ask how fast a load goes.
const RATES: [&str; 3] = ["unique-64", "unique-256", "zipf"];
/// Takes long, so it is not measured without being asked for.
const LONG: &str = "backlog";

/// What is to be measured.
#[derive(Debug)]
struct Wanted {
    full: bool,
    rows: Vec<String>,
}

impl Wanted {
    fn from_arguments() -> Result<Self, String> {
        // cargo adds `--bench`.
        let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
        let (flags, rows): (Vec<_>, Vec<_>) = arguments.into_iter().partition(|argument| argument.starts_with("--"));
        if let Some(unknown) = flags.iter().find(|flag| *flag != "--full") {
            return Err(format!("there is no {unknown}; the one flag is --full"));
        }
        if let Some(unknown) = rows.iter().find(|row| !ROWS.contains(&row.as_str())) {
            return Err(format!("there is no row {unknown}; the rows are {}", ROWS.join(", ")));
        }
        Ok(Self { full: !flags.is_empty(), rows })
    }

    fn wants(&self, row: &str) -> bool {
        if self.rows.is_empty() { self.full || row != LONG } else { self.rows.iter().any(|wanted| wanted == row) }
    }

    /// The size of a load, by default and in full.
    fn size(&self, default: usize, full: usize) -> usize {
        if self.full { full } else { default }
    }
}

fn main() {
    let wanted = match Wanted::from_arguments() {
        Ok(wanted) => wanted,
        Err(wrong) => {
            eprintln!("{wrong}");
            std::process::exit(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        tell_machine();
        let broker = Broker::start();
        tokio::select! {
            () = measure(&wanted, &broker) => {}
            interrupted = tokio::signal::ctrl_c() => eprintln!("interrupted ({interrupted:?}): the broker is stopped"),
        }
    });
}

fn tell_machine() {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let of_kernel = |file: &str| fs::read_to_string(file).unwrap_or_default().trim().to_owned();
    let (kernel, load) = (of_kernel("/proc/sys/kernel/osrelease"), of_kernel("/proc/loadavg"));
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    println!("{cores} cores, Linux {kernel}, load before the run {load}");
    println!("cargo bench --features kafka-tests --bench kafka -- {}", arguments.join(" "));
}

async fn measure(wanted: &Wanted, broker: &Broker) {
    if RATES.iter().any(|row| wanted.wants(row)) {
        speed::warm_up(broker).await;
    }
    table::head();
    if wanted.wants("unique-64") {
        let wishes = Wishes {
            rate: ["7,764 (0.72)", "ratio 0.5, then 9,700"],
            cost: ["116", "<= 150"],
            memory: ["320", ""],
            calls: ["", "1"],
        };
        let sizes = Sizes { ours: wanted.size(40_000, 100_000), bare: wanted.size(40_000, 100_000) };
        speed::backlog(broker, "unique-64", Terms::new("unique-64", 64), Contacts::Unique, sizes, &wishes).await;
    }
    if wanted.wants("unique-256") {
        let wishes =
            Wishes { rate: ["15,053 (0.50)", "18,800 one day"], cost: ["", ""], memory: ["730", ""], calls: ["", "1"] };
        let sizes = Sizes { ours: wanted.size(40_000, 100_000), bare: wanted.size(40_000, 100_000) };
        speed::backlog(broker, "unique-256", Terms::new("unique-256", 256), Contacts::Unique, sizes, &wishes).await;
    }
    if wanted.wants("zipf") {
        let wishes = Wishes {
            rate: ["3,477 (1.74)", "ratio >= 1.74, 10,000"],
            cost: ["", ""],
            memory: ["", ""],
            calls: ["1", "<= 0.5"],
        };
        // The loop waits for its busiest contact, so fewer events tell the same.
        let sizes = Sizes { ours: wanted.size(40_000, 100_000), bare: wanted.size(10_000, 100_000) };
        let contacts = Contacts::Zipf { among: 20_000 };
        speed::backlog(broker, "zipf", Terms::new("zipf", 64), contacts, sizes, &wishes).await;
    }
    if wanted.wants("outage") {
        speed::outage(broker, wanted.size(40_000, 100_000), Duration::from_secs(10)).await;
    }
    if wanted.wants("kill") {
        faults::kill(broker, wanted.size(20_000, 40_000), 2_000).await;
    }
    if wanted.wants("refusals") {
        faults::refusals(broker, wanted.size(15_000, 30_000), 1_500).await;
    }
    if wanted.wants("joins") {
        faults::joins(broker, wanted.size(18_000, 36_000), 1_000).await;
    }
    if wanted.wants("backlog") {
        speed::memory(broker, 1_000_000).await;
    }
}
