//! What a fault costs in calls and in time: a killed worker, a CRM that refuses, members that come and go.

use std::time::Duration;

use contact_replicator::log::NewRecord;
use jiff::{SignedDuration, Timestamp};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    broker::Broker,
    calls::{self, Call},
    installation::{Installation, Named, Terms, Worker, now},
    load::event,
    plain::Pace,
    table::{Figure, Line},
};

const CONTACTS: usize = 5_000;
const SEED: u64 = 18;
/// What a refusal asks for.
const RETRY_AFTER: SignedDuration = SignedDuration::from_secs(2);
/// In which a refusal is on its way to whoever sends, and a request to the CRM.
const GRACE: SignedDuration = SignedDuration::from_millis(50);
/// How often a member joins or leaves.
const STEP: Duration = Duration::from_secs(3);

fn events(count: usize) -> impl Iterator<Item = NewRecord> + Send + 'static {
    let mut random = StdRng::seed_from_u64(SEED);
    (0..count).map(move |number| event(number, random.random_range(0..CONTACTS)))
}

fn milliseconds(duration: SignedDuration) -> Figure {
    Figure::whole(duration.as_millis() as f64)
}

async fn all_calls(installation: &Installation) -> Vec<Call> {
    let (calls, dropped) = installation.calls().await;
    assert_eq!(dropped, 0, "the log of the CRM holds all calls");
    calls
}

fn tell_repeats(
    line: impl Fn(&'static str, Figure, &'static str, &'static str) -> Line,
    calls: &[Call],
    wishes: [&'static str; 2],
) {
    let repeats = calls::repeats(calls);
    line("calls that told what the CRM held", Figure::count(repeats.same), wishes[0], wishes[1]).tell();
    line("calls that told something older", Figure::count(repeats.older), "many", "0").tell();
}

/// Kills the worker under load and starts it again at once.
pub(crate) async fn kill(broker: &Broker, events_max: usize, per_second: u32) {
    let installation = Installation::new(broker, Terms::watched("kill")).await;
    let worker = installation.start(Named::Worker("worker-1")).await;
    let outcomes = installation.outcomes();
    let half = Duration::from_secs_f64(events_max as f64 / f64::from(per_second) / 2.0);
    let killing = async {
        sleep(half).await;
        worker.kill();
        let killed = now();
        (killed, installation.launch(Named::Worker("worker-1")))
    };
    let begun = now();
    let ((killed, mut worker), ()) =
        tokio::join!(killing, installation.publish(events(events_max), Pace::PerSecond(per_second)));
    installation.settled(&outcomes, events_max, &mut worker).await;
    let calls = all_calls(&installation).await;
    let line = |measure, ours, others, wanted| Line { row: "kill".into(), measure, ours, bare: None, others, wanted };
    tell_repeats(line, &calls, ["1,390 to 5,184", "<= 64"]);
    // What the dead worker had sent may arrive a moment after its end.
    let mut next = calls.iter().filter(|call| call.arrived > killed + GRACE);
    let away = next.clone().next().expect("work went on").arrived.duration_since(killed);
    line("time until the next call, ms", milliseconds(away), "9,500", "<= 3,000").tell();
    let made = (killed.duration_since(begun).as_secs_f64() * f64::from(per_second)).ceil() as u64;
    let newer = next.find(|call| call.change > Some(made)).expect("changes were made after the kill");
    let away = newer.arrived.duration_since(killed);
    line("time until a change made since arrives, ms", milliseconds(away), "", "").tell();
    line("calls per event", Figure::fine(calls.len() as f64 / events_max as f64), "", "").tell();
}

/// The CRM is in trouble first, and then asks for patience.
pub(crate) async fn refusals(broker: &Broker, events_max: usize, per_second: u32) {
    let installation = Installation::new(broker, Terms::watched("refusals")).await;
    let mut worker = installation.start(Named::Worker("worker-1")).await;
    let outcomes = installation.outcomes();
    let refusal =
        json!({ "kind": "status", "status": 429, "headers": { "retry-after": RETRY_AFTER.as_secs().to_string() } });
    let plan = json!({ "windows": [
        { "from": "0s", "lasts": "5s", "fault": { "instead": { "kind": "status", "status": 503 } } },
        { "from": "5s", "lasts": "5s", "fault": { "instead": refusal } },
    ] });
    let misbehaving = async {
        sleep(STEP).await;
        installation.misbehave(&plan).await;
    };
    tokio::join!(misbehaving, installation.publish(events(events_max), Pace::PerSecond(per_second)));
    installation.settled(&outcomes, events_max, &mut worker).await;
    let calls = all_calls(&installation).await;
    let line =
        |measure, ours, others, wanted| Line { row: "refusals".into(), measure, ours, bare: None, others, wanted };
    let [by_503, by_429] = [503, 429].map(|status| calls::needless_failures(&calls, status));
    line("failed calls after the first refusals", Figure::count(by_503 + by_429), "92 (with those in flight)", "<= 30")
        .tell();
    line("  of them 503", Figure::count(by_503), "", "").tell();
    line("  of them 429", Figure::count(by_429), "", "").tell();
    let inside = calls::inside_retry_after(&calls, RETRY_AFTER, GRACE);
    line("calls inside a Retry-After", Figure::count(inside), "17", "0").tell();
    tell_repeats(line, &calls, ["", "0"]);
}

/// Workers that nobody named join and leave, one every few seconds; at the end, so does the one that resolved.
pub(crate) async fn joins(broker: &Broker, events_max: usize, per_second: u32) {
    let installation = Installation::new(broker, Terms::watched("joins")).await;
    let first = installation.start(Named::Host("host-0")).await;
    let outcomes = installation.outcomes();
    let lasts = Duration::from_secs_f64(events_max as f64 / f64::from(per_second));
    let begun = (now(), Instant::now());
    let ((steps, mut worker), ()) = tokio::join!(
        come_and_go(&installation, first, begun.1, lasts),
        installation.publish(events(events_max), Pace::PerSecond(per_second))
    );
    let published = now();
    installation.settled(&outcomes, events_max, &mut worker).await;
    let calls = all_calls(&installation).await;
    let line = |measure, ours, others, wanted| Line { row: "joins".into(), measure, ours, bare: None, others, wanted };
    tell_repeats(line, &calls, ["157", "0"]);
    let (last, others) = steps.split_last().expect("members came and went");
    // The first second is that of a quiet start.
    let steady = begun.0 + SignedDuration::from_secs(1);
    let (silence, _) = calls::longest_silence(&calls, steady, last.0);
    line("longest silence, ms", milliseconds(silence), "288", "<= 250").tell();
    let (silence, _) = calls::longest_silence(&calls, last.0, published);
    line("  when the one that resolves leaves, ms", milliseconds(silence), "", "").tell();
    for (at, what) in others {
        let (silence, _) = calls::longest_silence(&calls, *at, *at + SignedDuration::try_from(STEP).unwrap());
        line(what, milliseconds(silence), "", "").tell();
    }
}

/// Lets others join and leave until `lasts` is nearly over, and the first leave then. Returns what was done when, and who
/// is left.
async fn come_and_go(
    installation: &Installation,
    first: Worker,
    begun: Instant,
    lasts: Duration,
) -> (Vec<(Timestamp, &'static str)>, Worker) {
    const HOSTS: [&str; 6] = ["host-1", "host-2", "host-3", "host-4", "host-5", "host-6"];
    let mut steps = Vec::new();
    let mut second: Option<Worker> = None;
    let (mut next, mut hosts) = (begun + STEP, HOSTS.iter().copied());
    // The last to come needs a step to settle in, and what follows the leave of the first is to be seen as well.
    while next + 2 * STEP <= begun + lasts || second.is_none() {
        sleep_until(next).await;
        next += STEP;
        match second.take() {
            Some(leaving) => {
                steps.push((now(), "  after a member was asked to leave, ms"));
                leaving.stop().await;
            }
            None => {
                let Some(host) = hosts.next() else { break };
                steps.push((now(), "  after a member was started, ms"));
                second = Some(installation.launch(Named::Host(host)));
            }
        }
    }
    let mut second = second.expect("the loop ends with one that came");
    second.ready().await;
    sleep_until(next).await;
    steps.push((now(), "  after the first was asked to leave, ms"));
    first.stop().await;
    (steps, second)
}
