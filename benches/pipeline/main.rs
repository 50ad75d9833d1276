//! Measures the whole pipeline: input events in, settled outcomes out, with the log in memory and the CRM behind HTTP.
//!
//! ```text
//! cargo bench --bench pipeline [-- [--full] [NAME…]]
//! ```
//!
//! Absolute figures do not travel between machines: each load is also put through a bare loop (`bare`), and the ratio
//! is what counts. Events are all there before the clock starts, so what is measured is how fast a backlog goes. The
//! simulated CRM runs on the same machine in a process of its own and takes its share of the processor; `us/event` is
//! the processor time of this process alone. Lines over a view full of contacts (`scale`) have yardsticks of their own:
//! the same decisions from a map in memory, the same bytes put into sled alone. The memory of this process holds the whole log, and what earlier lines left
//! with the allocator: measure one line alone to know its peak. `--full` takes the loads at their full size, and a
//! million contacts beside the hundred thousand; NAME
//! measures only lines that hold one of the names.

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "a benchmark prints what it found")]

mod bare;
mod feed;
mod load;
mod scale;
mod stages;
mod usage;
mod world;

use std::time::Duration;

use contact_replicator::log::NewRecord;
use tokio::time::{Instant, sleep};

use self::{
    load::{Contacts, event},
    world::{Sandbox, Worker},
};

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What is to be measured.
#[derive(Debug)]
struct Wanted {
    full: bool,
    names: Vec<String>,
}

impl Wanted {
    fn from_arguments() -> Self {
        // cargo adds `--bench`.
        let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
        let full = arguments.iter().any(|argument| argument == "--full");
        let names = arguments.into_iter().filter(|argument| !argument.starts_with("--")).collect();
        Self { full, names }
    }

    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|wanted| name.contains(wanted.as_str()))
    }

    /// The size of a load, by default and in full.
    fn size(&self, default: usize, full: usize) -> usize {
        if self.full { full } else { default }
    }
}

/// One line of the table.
#[derive(Debug)]
struct Measured {
    name: String,
    events: usize,
    took: Duration,
    calls: Option<f64>,
    processor: Duration,
    crm_processor: Duration,
    peak_mebibytes: u64,
    /// What the view takes, where it is what is measured.
    disk_mebibytes: Option<u64>,
}

impl Measured {
    fn rate(&self) -> f64 {
        self.events as f64 / self.took.as_secs_f64()
    }

    fn tell(&self, bare: Option<f64>) {
        let per_event = self.processor.as_secs_f64() * 1e6 / self.events as f64;
        let of_crm = self.crm_processor.as_secs_f64() * 1e6 / self.events as f64;
        let calls = self.calls.map_or_else(|| "-".to_owned(), |calls| format!("{:.3}", calls / self.events as f64));
        let ratio = bare.map_or_else(|| "-".to_owned(), |bare| format!("{:.2}", self.rate() / bare));
        println!(
            "{:<34} {:>8} {:>9.0} {:>8} {:>11} {:>9.1} {:>9.1} {:>9} {:>9}",
            self.name,
            self.events,
            self.rate(),
            ratio,
            calls,
            per_event,
            of_crm,
            self.peak_mebibytes,
            self.disk_mebibytes.map_or_else(|| "-".to_owned(), |disk| disk.to_string())
        );
    }
}

/// Notes time and processor from its beginning on.
struct Watch {
    begun: Instant,
    processor: Duration,
    crm: Option<(u32, Duration)>,
}

impl Watch {
    fn start(sandbox: Option<&Sandbox>) -> Self {
        usage::reset_peak();
        Self {
            begun: Instant::now(),
            processor: usage::processor_time(std::process::id()),
            crm: sandbox.map(|sandbox| (sandbox.process(), usage::processor_time(sandbox.process()))),
        }
    }

    fn stop(self, name: impl Into<String>, events: usize, calls: Option<f64>) -> Measured {
        Measured {
            name: name.into(),
            events,
            took: self.begun.elapsed(),
            calls,
            processor: usage::processor_time(std::process::id()) - self.processor,
            crm_processor: self.crm.map_or(Duration::ZERO, |(process, before)| usage::processor_time(process) - before),
            peak_mebibytes: usage::peak_mebibytes(),
            disk_mebibytes: None,
        }
    }
}

fn main() {
    let wanted = Wanted::from_arguments();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        println!(
            "{:<34} {:>8} {:>9} {:>8} {:>11} {:>9} {:>9} {:>9} {:>9}",
            "", "events", "events/s", "to bare", "calls/event", "us/event", "CRM us", "peak MiB", "disk MiB"
        );
        for (name, contacts, default, full) in [
            ("unique", Contacts::Unique, 30_000, 100_000),
            ("zipf-20k", Contacts::Zipf { among: 20_000 }, 30_000, 100_000),
        ] {
            for in_flight_max in [64, 256] {
                // The loop waits for its busiest contact, so fewer events tell the same.
                let bare_events = wanted.size(if name == "unique" { default } else { 6_000 }, full);
                let bare = format!("bare {name} {in_flight_max}");
                let line = format!("{name} {in_flight_max}");
                let mut reached = None;
                if wanted.wants(&bare) {
                    let measured = bare_loop(bare, &contacts.draw(bare_events), in_flight_max).await;
                    measured.tell(None);
                    reached = Some(measured.rate());
                }
                if wanted.wants(&line) {
                    let contacts = contacts.draw(wanted.size(default, full));
                    pipeline(line, &contacts, in_flight_max).await.tell(reached);
                }
            }
        }
        let outage = Duration::from_secs(wanted.size(3, 10) as u64);
        for in_flight_max in [64, 256] {
            let line = format!("outage zipf-5k {in_flight_max}");
            if wanted.wants(&line) {
                let contacts = Contacts::Zipf { among: 5_000 }.draw(wanted.size(30_000, 100_000));
                after_outage(line, &contacts, in_flight_max, outage).await.tell(None);
            }
        }
        for measured in stages::measure(&wanted).await {
            measured.tell(None);
        }
        scale::measure(&wanted).await;
    });
}

async fn bare_loop(name: String, contacts: &[usize], in_flight_max: usize) -> Measured {
    let sandbox = Sandbox::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let transport = world::transport(&world::settings(&sandbox.base_url, in_flight_max, &folder));
    let watch = Watch::start(Some(&sandbox));
    bare::run(transport, contacts, in_flight_max).await;
    watch.stop(name, contacts.len(), Some(contacts.len() as f64))
}

/// Everything on.
async fn pipeline(name: String, contacts: &[usize], in_flight_max: usize) -> Measured {
    let sandbox = Sandbox::start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let settings = world::settings(&sandbox.base_url, in_flight_max, &folder);
    let worker = Worker::start(settings, world::log().await).await;
    let events = events(contacts);
    let watch = Watch::start(Some(&sandbox));
    worker.publish(events).await;
    worker.counts("outcomes_total", contacts.len()).await;
    let measured = watch.stop(name, contacts.len(), Some(worker.count("request_duration_seconds")));
    worker.stop().await;
    measured
}

/// Everything on, but the CRM is down while the events come. The clock starts when it is up again.
async fn after_outage(name: String, contacts: &[usize], in_flight_max: usize, outage: Duration) -> Measured {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let address = Sandbox::nowhere();
    let settings = world::settings(&format!("http://{address}/api/rest"), in_flight_max, &folder);
    let worker = Worker::start(settings, world::log().await).await;
    worker.publish(events(contacts)).await;
    sleep(outage).await;
    worker.counts("events_read_total", contacts.len()).await;
    let refused = worker.count("request_duration_seconds");
    assert_eq!(worker.count("outcomes_total"), 0.0, "nothing settles while the CRM is down");
    let mut watch = Watch::start(None);
    let sandbox = Sandbox::start_at(address);
    watch.crm = Some((sandbox.process(), Duration::ZERO));
    worker.counts("outcomes_total", contacts.len()).await;
    let calls = worker.count("request_duration_seconds") - refused;
    let measured = watch.stop(name, contacts.len(), Some(calls));
    worker.stop().await;
    measured
}

fn events(contacts: &[usize]) -> Vec<NewRecord> {
    contacts.iter().enumerate().map(|(number, contact)| event(number, *contact)).collect()
}
