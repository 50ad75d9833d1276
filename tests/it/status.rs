//! How workers stand: asked of workers at work, and held to the schema that readers are given.

use std::{net::Ipv4Addr, path::Path, sync::LazyLock, time::Duration};

use contact_replicator::{
    admin::Admin,
    config::{CrmKind, Mode},
    event::OutcomeKind,
    explain::Desk,
    sandbox::{Fault, FaultPlan, Only, Window},
    status::{
        CrmState, CrmStatus, Role, WorkerStatus, totals,
        words::{self, Asked},
    },
};
use jsonschema::Validator;
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::{
    scene::{Scene, change, play},
    world::{CRM, PARTITIONS, Setup, Tenant, World},
};

const DEADLINE: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(200);
/// What is known of the log's ends may be this old.
const LOOKED_ANEW: Duration = Duration::from_secs(6);

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/schemas/status.json");
    let schema: Value = serde_json::from_slice(&std::fs::read(file).expect("the schema is published")).expect("JSON");
    jsonschema::draft202012::new(&schema).expect("a published schema is one")
});

/// How a worker stands now; it always holds to the schema, and tells nothing of a contact.
async fn standing(world: &World, worker: usize) -> WorkerStatus {
    let (_, readiness, desk) = world.shown(worker);
    let status = desk.board().status(readiness.missing()).await.expect("the worker runs");
    let told = serde_json::to_value(&status).expect("JSON");
    if let Err(fault) = SCHEMA.validate(&told) {
        panic!("{fault} at {}", fault.instance_path());
    }
    assert_eq!(serde_json::from_value::<WorkerStatus>(told.clone()).expect("it is read back"), status);
    let page = page(vec![("http://w", Ok(status.clone()))]);
    for secret in ["Ann", "Bea", "example.com", "/shop", "s1"] {
        assert!(!told.to_string().contains(secret) && !page.contains(secret), "{secret}: {told}\n{page}");
    }
    status
}

fn page(asked: Vec<(&str, Result<WorkerStatus, String>)>) -> String {
    let asked: Vec<_> = asked.into_iter().map(|(admin, answer)| Asked { admin: admin.to_owned(), answer }).collect();
    words::told(&asked).iter().flat_map(|line| line.painted(None, false)).map(|line| line + "\n").collect()
}

/// Asks until the worker stands as it should come to stand.
#[track_caller]
fn until(
    world: &World,
    worker: usize,
    mut holds: impl FnMut(&WorkerStatus) -> bool,
) -> impl Future<Output = WorkerStatus> {
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let status = standing(world, worker).await;
            if holds(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{caller}: it did not come about: {status:#?}");
            sleep(LOOK).await;
        }
    }
}

fn of<'a>(status: &'a WorkerStatus, crm: &str) -> &'a CrmStatus {
    status.crms.iter().find(|of| &*of.crm == crm).expect("it is configured")
}

fn failing() -> FaultPlan {
    let away = Window {
        from: Duration::ZERO,
        lasts: Duration::from_secs(100_000),
        only: Only::default(),
        fault: Fault::status(503),
    };
    FaultPlan { windows: vec![away], ..FaultPlan::default() }
}

#[test]
fn a_paused_a_shadowed_and_a_live_crm_stand_as_they_are_driven() {
    play(async {
        const THREE: &[Tenant] = &[
            Tenant { name: CRM, kind: CrmKind::Priava },
            Tenant { name: "venues", kind: CrmKind::Priava },
            Tenant { name: "previsto", kind: CrmKind::Previsto },
        ];
        let mut world = World::of(Setup { crms: THREE, ..Setup::default() }).await;
        world.settings.crm[1].mode = Mode::Shadow;
        world.settings.crm[2].delivery.requests_per_second = 50.0;
        world.crms[0].sandbox.set_faults(failing()).expect("a possible plan");
        let scene = Scene::begin(world).await;
        scene.ready(0).await;
        let begun = standing(&scene.world, 0).await;
        assert_eq!((begun.ready, &*begun.worker, &*begun.instance, &*begun.log), (true, "w0", "sim", "kafka"));
        // One by itself is parked; it takes several in a row to pause a CRM, and then nobody is.
        scene.world.publish(vec![change("s1", 1, "Ann")]).await;
        let parked = |status: &WorkerStatus| of(status, CRM).next_parked_due.is_some();
        until(&scene.world, 0, parked).await;
        scene.world.publish((2..=8).map(|number| change(&format!("s{number}"), 1, "Ann")).collect()).await;

        let is_so = |status: &WorkerStatus| {
            let paused = of(status, CRM);
            // How many are parked is counted now and then.
            paused.state == CrmState::Paused
                && paused.parked > 0
                && paused.next_parked_due.is_some()
                && of(status, "previsto").outcomes.get(&OutcomeKind::Delivered) == Some(&8)
                && status.resolver.as_ref().is_some_and(|resolver| resolver.inputs[0].undecided == Some(0))
        };
        let status = until(&scene.world, 0, is_so).await;
        assert!(status.ready, "a CRM that is down makes nobody unready: {status:#?}");
        let resolver = status.resolver.as_ref().expect("it runs");
        assert_eq!((resolver.role, resolver.holder.as_deref()), (Role::Active, Some("w0")));
        assert_eq!((resolver.term, resolver.oldest_input_seconds.is_some()), (Some(1), true));
        assert!(status.rates_over_seconds.is_some_and(|span| (1..=60).contains(&span)));
        let view = status.view.as_ref().expect("it runs");
        assert!(view.bytes.is_some_and(|bytes| bytes > 0) && view.short_records == Some(0), "{view:?}");

        let paused = of(&status, CRM);
        let pause = paused.pause.as_ref().expect("it is paused");
        assert_eq!(&*pause.reason, "failing");
        assert!(pause.since > begun.told_at && pause.since <= status.told_at, "{pause:?}");
        assert!(pause.next_probe.is_none_or(|at| at >= status.told_at), "{pause:?}");
        let last = paused.last_error.as_ref().expect("it failed");
        assert_eq!((&*last.class, last.http_status), ("transient", Some(503)));
        assert_eq!(paused.partitions, (0..PARTITIONS).collect::<Vec<_>>());
        assert_eq!((paused.partitions_working, paused.partitions_all), (u64::from(PARTITIONS), PARTITIONS));
        assert_eq!(paused.pending + paused.parked, 8, "{paused:?}");
        assert_eq!((paused.outcomes.len(), paused.limits.requests_per_second), (0, None));

        let shadow = of(&status, "venues");
        assert_eq!((shadow.state, &shadow.pause, &shadow.last_error), (CrmState::Shadow, &None, &None));
        assert_eq!(shadow.outcomes.get(&OutcomeKind::Filtered), Some(&8));

        let live = of(&status, "previsto");
        assert_eq!((live.state, live.pending, live.oldest_pending_seconds, live.parked), (CrmState::Live, 0, 0, 0));
        let limits = &live.limits;
        assert_eq!((limits.requests_per_second, limits.requests_per_second_share), (Some(50.0), Some(50.0)));
        assert!(limits.in_flight_limit > 0 && limits.in_flight_max == 8, "{limits:?}");
        assert!(live.requests_per_second.is_some_and(|rate| rate > 0.0), "{live:?}");
        assert!(live.outcomes_per_second.get(&OutcomeKind::Delivered).is_some_and(|rate| *rate > 0.0), "{live:?}");

        let page = page(vec![("http://127.0.0.1:9464", Ok(status.clone()))]);
        for says in ["PAUSED", "shadow", "paused for", "it is probed, and goes on by itself", "transient, HTTP 503"] {
            assert!(page.contains(says), "{says}: {page}");
        }

        // A pause keeps its beginning, and ends.
        let since = pause.since;
        sleep(Duration::from_secs(30)).await;
        let later = standing(&scene.world, 0).await;
        assert_eq!(of(&later, CRM).pause.as_ref().map(|pause| pause.since), Some(since));
        scene.world.crms[0].sandbox.set_faults(FaultPlan::default()).expect("a possible plan");
        let mended = until(&scene.world, 0, |status| {
            let crm = of(status, CRM);
            crm.state == CrmState::Live && crm.outcomes.get(&OutcomeKind::Delivered) == Some(&8) && crm.parked == 0
        });
        let mended = mended.await;
        assert_eq!((&of(&mended, CRM).pause, of(&mended, CRM).next_parked_due), (&None, None));
        // What failed last is told on: whoever looks in the morning wants to know.
        assert_eq!(of(&mended, CRM).last_error.as_ref().map(|last| last.http_status), Some(Some(503)));
    });
}

#[test]
fn two_workers_add_up_and_of_one_alone_the_others_share_is_named() {
    play(async {
        let mut scene = Scene::with_workers(2).await;
        scene.ready(0).await;
        scene.ready(1).await;
        let share = |status: &WorkerStatus| of(status, CRM).partitions.len() == PARTITIONS as usize / 2;
        let stands = [until(&scene.world, 0, share).await, until(&scene.world, 1, share).await];
        let total = totals(&stands).remove(0);
        assert_eq!((total.partitions_owned(), total.partitions_unowned.len()), (PARTITIONS as usize, 0));
        assert!(total.partitions_owned_twice.is_empty(), "{total:?}");
        let of_one = totals(&stands[..1]).remove(0);
        assert_eq!(of_one.partitions_unowned, of(&stands[1], CRM).partitions);

        let role = |status: &WorkerStatus| status.resolver.as_ref().expect("it runs").role;
        let active = usize::from(role(&stands[1]) == Role::Active);
        assert_eq!((role(&stands[active]), role(&stands[1 - active])), (Role::Active, Role::Standby));
        let of_standby = stands[1 - active].resolver.as_ref().expect("it runs");
        assert_eq!(of_standby.holder.as_deref(), Some(&*stands[active].worker));
        assert_eq!(of_standby.oldest_input_seconds, None, "a standby reads no input");

        // Whoever is left tells what nobody decides, until it does so itself.
        scene.world.kill(active).await;
        scene.world.publish(vec![change("s1", 1, "Ann"), change("s2", 1, "Bea")]).await;
        let alone = until(&scene.world, 1 - active, |status| {
            let resolver = status.resolver.as_ref().expect("it runs");
            resolver.role == Role::Active && of(status, CRM).partitions.len() == PARTITIONS as usize
        });
        let resolver = alone.await.resolver.expect("it runs");
        assert_eq!(resolver.term, Some(2));
        sleep(LOOKED_ANEW).await;
        scene.settled().await;
    });
}

#[test]
fn a_worker_that_has_not_begun_or_has_ended_tells_nothing() {
    play(async {
        let mut scene = Scene::with_workers(1).await;
        scene.ready(0).await;
        assert!(scene.world.stop(0).await);
        let (_, readiness, desk) = scene.world.shown(0);
        assert_eq!(desk.board().status(readiness.missing()).await, None);
        assert_eq!(Desk::default().board().status(Vec::new()).await, None);
    });
}

async fn get(admin: &Admin, host: &str) -> (String, String) {
    let mut stream = TcpStream::connect(admin.address()).await.expect("it listens");
    let request = format!("GET /status HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a body");
    (head.to_owned(), body.to_owned())
}

/// In real time, since a paused clock would jump over every wait on a socket.
#[tokio::test]
async fn the_admin_address_tells_it_to_this_machine_alone() {
    let mut world = World::new(1, 1).await;
    let (registry, readiness, desk) = world.shown(0);
    let idle = Admin::start((Ipv4Addr::LOCALHOST, 0).into(), registry, readiness, desk).await.expect("a port");
    let (head, body) = get(&idle, "localhost").await;
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("retry-after"), "{head}");
    assert_eq!(body, "the worker has not begun, or has ended\n");
    idle.stop().await;

    world.start(0);
    let (registry, readiness, desk) = world.shown(0);
    let admin = Admin::start((Ipv4Addr::LOCALHOST, 0).into(), registry, readiness, desk).await.expect("a port");
    while world.desk(0).board().status(Vec::new()).await.is_none() {
        sleep(LOOK).await;
    }
    until(&world, 0, |status| status.ready).await;
    let (head, body) = get(&admin, "localhost").await;
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("content-type: application/json"), "{head}");
    let status: WorkerStatus = serde_json::from_str(&body).expect("the body is a status");
    assert!(status.ready && status.crms.len() == 1, "{status:?}");
    let (head, body) = get(&admin, "example.com").await;
    assert!(head.starts_with("HTTP/1.1 403") && !body.contains("sim"), "{head} {body}");
    admin.stop().await;
    world.kill(0).await;
}
