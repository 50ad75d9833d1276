//! How fast a backlog goes, what that costs, and how few calls it takes.

use std::time::Duration;

use contact_replicator::log::NewRecord;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::{
    bare,
    broker::Broker,
    installation::{Installation, Named, Terms, now},
    load::{Contacts, event, request_body},
    plain::{self, Pace},
    processes::Usage,
    table::{Figure, Line},
};

/// Events after which a broker is warm.
const WARM_UP: usize = 40_000;

/// What one load showed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) events: usize,
    /// Events a second, from the first that was done to the last.
    pub(crate) rate: f64,
    /// Processor time of the process, in seconds.
    pub(crate) cpu: f64,
    pub(crate) resident_max: u64,
    pub(crate) calls: usize,
    /// Processor time of the CRM, in seconds.
    pub(crate) cpu_of_crm: f64,
}

impl Measured {
    pub(crate) fn rate(&self) -> Figure {
        Figure::whole(self.rate)
    }

    /// Microseconds of processor time per event.
    pub(crate) fn cost(&self) -> Figure {
        Figure::whole(self.cpu * 1e6 / self.events as f64)
    }

    pub(crate) fn memory(&self) -> Figure {
        Figure::whole(self.resident_max as f64)
    }

    pub(crate) fn calls(&self) -> Figure {
        Figure::fine(self.calls as f64 / self.events as f64)
    }

    /// Microseconds of processor time of the CRM per call.
    pub(crate) fn cost_of_crm(&self) -> Figure {
        Figure::whole(self.cpu_of_crm * 1e6 / self.calls as f64)
    }
}

/// How much of a load each of the two is given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) ours: usize,
    pub(crate) bare: usize,
}

/// The lines about a backlog.
pub(crate) struct Wishes {
    pub(crate) rate: [&'static str; 2],
    pub(crate) cost: [&'static str; 2],
    pub(crate) memory: [&'static str; 2],
    pub(crate) calls: [&'static str; 2],
}

pub(crate) async fn backlog(
    broker: &Broker,
    row: &str,
    terms: Terms,
    contacts: Contacts,
    sizes: Sizes,
    wishes: &Wishes,
) {
    let bare = loop_alone(broker, terms, contacts.draw(sizes.bare)).await;
    let ours = worker(broker, terms, contacts.draw(sizes.ours)).await;
    let line = |measure, of: fn(&Measured) -> Figure, [others, wanted]: [&'static str; 2]| Line {
        row: row.to_owned(),
        measure,
        ours: of(&ours),
        bare: Some(of(&bare)),
        others,
        wanted,
    };
    line("events settled per second", Measured::rate, wishes.rate).tell();
    line("processor time per event, us", Measured::cost, wishes.cost).tell();
    line("highest resident memory, MiB", Measured::memory, wishes.memory).tell();
    line("calls per event", Measured::calls, wishes.calls).tell();
    line("processor time of the CRM per call, us", Measured::cost_of_crm, ["", ""]).tell();
}

/// Lets a broker that has just started compile what it runs often: it would do so at the expense of whoever comes first, for
/// as long as a whole row takes. One that serves an installation did that long ago.
pub(crate) async fn warm_up(broker: &Broker) {
    worker(broker, Terms::new("warm-up", 64), Contacts::Unique.draw(WARM_UP)).await;
}

fn events(contacts: Vec<usize>) -> impl Iterator<Item = NewRecord> + Send + 'static {
    contacts.into_iter().enumerate().map(|(number, contact)| event(number, contact))
}

async fn worker(broker: &Broker, terms: Terms, contacts: Vec<usize>) -> Measured {
    let count = contacts.len();
    let installation = Installation::new(broker, terms).await;
    installation.publish(events(contacts), Pace::AtOnce).await;
    let mut worker = installation.start(Named::Worker("worker-1")).await;
    let outcomes = installation.outcomes();
    let seen = installation.settled(&outcomes, count, &mut worker).await;
    let Usage { most, cpu, .. } = worker.usage();
    // Before it is asked for its log, which is long.
    let cpu_of_crm = installation.crm.process.usage().cpu;
    let (calls, dropped) = installation.calls().await;
    worker.stop().await;
    Measured {
        events: count,
        rate: count as f64 * 1e3 / (seen.last_ms - seen.first_ms).max(1) as f64,
        cpu,
        resident_max: most,
        calls: calls.len() + dropped,
        cpu_of_crm,
    }
}

/// The bare loop, in this process.
async fn loop_alone(broker: &Broker, terms: Terms, contacts: Vec<usize>) -> Measured {
    let count = contacts.len();
    let installation = Installation::new(broker, terms).await;
    let topic = format!("{}.bare", installation.input());
    installation.create(&topic).await;
    let in_its_words = |(number, contact): (usize, usize)| NewRecord {
        value: Some(request_body(number, contact)),
        headers: Vec::new(),
        ..event(number, contact)
    };
    let records = contacts.into_iter().enumerate().map(in_its_words);
    plain::publish(installation.servers().to_owned(), topic.clone(), records, Pace::AtOnce).await;
    let process = std::process::id();
    let before = Usage::of(process);
    let took = bare::run(installation.servers(), &topic, installation.url(), count, terms.in_flight_max).await;
    let after = Usage::of(process);
    Measured {
        events: count,
        rate: count as f64 / took.as_secs_f64(),
        cpu: after.cpu - before.cpu,
        resident_max: after.resident,
        calls: count,
        cpu_of_crm: installation.crm.process.usage().cpu,
    }
}

/// Events arrive while the CRM is down. The clock starts when it is back.
pub(crate) async fn outage(broker: &Broker, events_max: usize, lasts: Duration) {
    // What is measured is the work, not the wait for the next look.
    let terms = Terms { probe_delay_max: Duration::from_millis(250), ..Terms::new("outage", 64) };
    let installation = Installation::new(broker, terms).await;
    let mut worker = installation.start(Named::Worker("worker-1")).await;
    let down = json!({ "kind": "status", "status": 503 });
    installation
        .misbehave(&json!({ "windows": [{ "from": "0s", "lasts": "1h", "fault": { "instead": down } }] }))
        .await;
    let back = Instant::now() + lasts;
    let contacts = Contacts::Zipf { among: 5_000 }.draw(events_max);
    let pace = Pace::PerSecond((events_max as f64 / lasts.as_secs_f64()).ceil() as u32);
    installation.publish(events(contacts), pace).await;
    sleep(back.saturating_duration_since(Instant::now())).await;
    let returned = now();
    installation.misbehave(&json!({})).await;
    let outcomes = installation.outcomes();
    let seen = installation.settled(&outcomes, events_max, &mut worker).await;
    let (calls, dropped) = installation.calls().await;
    assert_eq!(dropped, 0, "the log of the CRM holds all calls");
    let since = calls.iter().filter(|call| call.arrived >= returned).count();
    let took_ms = (seen.last_ms - returned.as_millisecond()).max(1);
    let waited_ms = seen.first_ms - returned.as_millisecond();
    let line = |measure, ours, others, wanted| Line { row: "outage".into(), measure, ours, bare: None, others, wanted };
    let rate = Figure::whole(events_max as f64 * 1e3 / took_ms as f64);
    line("events settled per second since the return", rate, "1,624", ">= 16,000").tell();
    line("  until the first of them, ms", Figure::whole(waited_ms as f64), "", "").tell();
    line("calls per event since the return", Figure::fine(since as f64 / events_max as f64), "1.0 to 1.2", "<= 0.10")
        .tell();
    line("failed calls while it was away", Figure::count(calls.len() - since), "", "").tell();
}

/// Memory does not follow the length of a backlog.
pub(crate) async fn memory(broker: &Broker, events_max: usize) {
    let installation = Installation::new(broker, Terms::new("backlog", 64)).await;
    installation.publish(events(Contacts::Unique.draw(events_max)), Pace::AtOnce).await;
    let mut worker = installation.start(Named::Worker("worker-1")).await;
    let outcomes = installation.outcomes();
    for tenth in 1..=10 {
        let settled = events_max / 10 * tenth;
        installation.at_least(&outcomes, settled, &mut worker).await;
        let ours = Figure::whole(worker.usage().resident as f64);
        let wanted = if tenth == 1 { "flat" } else { "" };
        let row = format!("backlog {tenth}/10");
        Line { row, measure: "resident memory, MiB", ours, bare: None, others: "", wanted }.tell();
    }
}
