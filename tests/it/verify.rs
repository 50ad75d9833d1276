//! What a CRM holds, compared with the records: whatever somebody did there by hand is found, mended, and then gone; what
//! only looks otherwise is not; and nobody is compared whom a delivery is about to change.

use std::{collections::BTreeMap, net::Ipv4Addr, time::Duration};

use bytes::Bytes;
use contact_replicator::{
    admin::Admin,
    config::CrmKind,
    explain::Asked,
    resync::{self, Reply, What},
    sandbox::{Fault, FaultPlan, Kind, Only, Sandbox, Window},
    verify::{self, Counts, Found, Line, Order, SAMPLE_MAX, VerifyError, Whom},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use crate::{
    history::event,
    scene::{Scene, change, person, play},
    world::{CRM, Setup, Tenant, World, operator},
};

const PREVISTO: &[Tenant] = &[Tenant { name: "previsto", kind: CrmKind::Previsto }];
const CONTACTS: usize = 8;

async fn world(workers: usize) -> World {
    World::of(Setup { crms: PREVISTO, workers, ..Setup::default() }).await
}

fn order(whom: Whom) -> Order {
    Order { crm: "previsto".to_owned(), whom }
}

/// Everything that is told, to its end.
async fn told(world: &World, worker: usize, whom: Whom) -> Vec<Line> {
    let mut lines = verify::begin(world.desk(worker), &order(whom)).expect("the worker takes it");
    let mut all = Vec::new();
    while let Some(line) = lines.recv().await {
        all.push(line);
    }
    all
}

/// What was found, by remote id, and how many of what.
async fn verified(world: &World, worker: usize, whom: Whom) -> (BTreeMap<String, Found>, Counts) {
    let lines = told(world, worker, whom).await;
    let found = lines.iter().filter_map(|line| match line {
        Line::Found(finding) => Some((finding.remote_id.clone(), finding.what.clone())),
        _ => None,
    });
    let Some(Line::Ended(counts)) = lines.last() else { panic!("{lines:?}") };
    (found.collect(), *counts)
}

/// A request as a user of the CRM would cause it.
async fn by_hand(sandbox: &Sandbox, method: &str, id: &str, form: &str) {
    let request = http::Request::builder()
        .method(method)
        .uri(format!("{}/contacts/{id}", Kind::Previsto.base_path()))
        .header("authorization", "Basic c2FuZGJveC10b2tlbjo=")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Bytes::copy_from_slice(form.as_bytes()))
        .expect("a request");
    let answer = sandbox.handle(request).await.expect("nothing is broken");
    assert!(answer.status().is_success(), "{answer:?}");
}

/// The remote ids, in the order in which the CRM got the contacts.
fn ids(world: &World) -> Vec<String> {
    let id = |contact: serde_json::Value| contact["id"].as_str().expect("a contact has an id").to_owned();
    world.sandbox.contacts().into_iter().map(id).collect()
}

async fn populated(workers: usize, change_settings: impl FnOnce(&mut World)) -> Scene {
    let mut world = world(workers).await;
    change_settings(&mut world);
    let mut scene = Scene::begin(world).await;
    for worker in 0..workers {
        scene.ready(worker).await;
    }
    scene.world.publish((0..CONTACTS).map(|number| change(&format!("s{number}"), 1, "Ann")).collect()).await;
    scene.settled().await;
    scene
}

#[test]
fn what_was_changed_by_hand_is_found_and_mended_and_what_only_looks_otherwise_is_neither() {
    play(async {
        let mut scene = populated(1, |_| ()).await;
        let mut placed = person("s8", "Ann");
        placed["addresses"] = json!([{ "locality": "Bern", "geo": { "longitude": 7.4, "latitude": 46.9 } }]);
        scene.world.publish(vec![event("/shop", "s8", "s8-1", "contact.updated", 1, Some(placed))]).await;
        scene.settled().await;
        let ids = ids(&scene.world);
        let all = CONTACTS + 1;
        assert_eq!(ids.len(), all);
        let (found, counts) = verified(&scene.world, 0, Whom::All).await;
        assert_eq!((found, counts.equal, counts.looked_at), (BTreeMap::new(), all as u64, all as u64));
        assert!(counts.is_clean());

        by_hand(&scene.world.sandbox, "POST", &ids[0], "email=other%40example.com&meta%5Bsource%5D=").await;
        by_hand(&scene.world.sandbox, "DELETE", &ids[1], "").await;
        // None of these is a difference: another way to write it, a place, and fields that are not ours.
        by_hand(&scene.world.sandbox, "POST", &ids[2], "phone=%2B41+44+668+18+00&ean=5790000000000").await;
        by_hand(&scene.world.sandbox, "POST", &ids[8], "location%5B%5D=1.5&location%5B%5D=2.5&meta%5Btheirs%5D=x")
            .await;
        let before = scene.world.sandbox.requests().len();
        let (found, counts) = verified(&scene.world, 0, Whom::All).await;
        let expected = BTreeMap::from([
            (ids[0].clone(), Found::Drifted(["email", "meta.source"].map(str::to_owned).into())),
            (ids[1].clone(), Found::Gone),
        ]);
        assert_eq!(found, expected);
        assert_eq!((counts.drifted, counts.gone, counts.equal), (1, 1, all as u64 - 2));
        let requests = scene.world.sandbox.requests().split_off(before);
        assert!(requests.len() == all && requests.iter().all(|request| request.method == "GET"), "it only reads");

        // By the ids that were told, as the command has it mended.
        let lines = told(&scene.world, 0, Whom::All).await;
        let named = lines.iter().filter_map(|line| match line {
            Line::Found(finding) => Some(Asked::About(finding.contact.to_string())),
            _ => None,
        });
        let mend = resync::Order { crm: "previsto".to_owned(), what: What::Contacts(named.collect()) };
        let reply = resync::obey(scene.world.desk(0), &mend, &operator()).await.expect("the worker takes it");
        assert!(matches!(reply, Reply::Contacts { appended, .. } if appended.len() == 2));
        scene.settled().await;
        let (found, counts) = verified(&scene.world, 0, Whom::All).await;
        assert_eq!((found, counts.equal), (BTreeMap::new(), all as u64));
    });
}

#[test]
fn one_worker_compares_what_others_own_too() {
    play(async {
        let scene = populated(2, |_| ()).await;
        // Some of the contacts are of partitions that another worker owns.
        let mut elsewhere = 0;
        for number in 0..CONTACTS {
            let asked = Asked::About(format!("/shop/s{number}"));
            let answer = scene.world.desk(0).explain(&asked).await.expect("it is known");
            elsewhere += usize::from(answer.crms[0].owner.as_ref().is_some_and(|owner| owner.worker != "w0"));
        }
        assert!((1..CONTACTS).contains(&elsewhere), "{elsewhere} are elsewhere");
        let ids = ids(&scene.world);
        for id in &ids {
            by_hand(&scene.world.sandbox, "POST", id, "name=Nobody").await;
        }
        for worker in 0..2 {
            let (found, counts) = verified(&scene.world, worker, Whom::All).await;
            assert_eq!((found.len(), counts.drifted), (CONTACTS, CONTACTS as u64), "worker {worker}");
        }
        let (found, counts) = verified(&scene.world, 0, Whom::Sample(3)).await;
        assert_eq!((found.len(), counts.looked_at), (3, 3));
        assert_eq!(verified(&scene.world, 0, Whom::Sample(SAMPLE_MAX)).await.1.looked_at, CONTACTS as u64);
    });
}

#[test]
fn who_waits_for_a_delivery_is_not_compared_and_a_paused_crm_is_left_alone() {
    play(async {
        let mut scene = populated(1, |_| ()).await;
        let fault = Fault::status(503);
        let away = Window { from: Duration::ZERO, lasts: Duration::from_secs(30), only: Only::default(), fault };
        scene.world.set_faults(FaultPlan { windows: vec![away], ..FaultPlan::default() });
        scene.world.publish((0..CONTACTS).map(|number| change(&format!("s{number}"), 2, "Bea")).collect()).await;
        scene.until("a paused CRM", |world| world.metric(0, r#"crm_paused{crm="previsto"}"#) == 1.0).await;
        let (found, counts) = verified(&scene.world, 0, Whom::All).await;
        assert_eq!((found.len(), counts.unsettled), (0, CONTACTS as u64));
        scene.settled().await;
        assert_eq!(verified(&scene.world, 0, Whom::All).await.1.equal, CONTACTS as u64);
    });
}

#[test]
fn what_the_crm_does_not_give_is_unreadable_and_too_much_of_it_ends_the_run() {
    play(async {
        let scene = populated(1, |world| world.settings.crm[0].delivery.failures_before_pause = 3).await;
        let fault = Fault::status(500);
        let away = Window { from: Duration::ZERO, lasts: Duration::from_secs(100_000), only: Only::default(), fault };
        scene.world.set_faults(FaultPlan { windows: vec![away], ..FaultPlan::default() });
        let lines = told(&scene.world, 0, Whom::All).await;
        let unreadable = lines
            .iter()
            .filter(|line| matches!(line, Line::Found(finding) if matches!(finding.what, Found::Unreadable { .. })));
        assert_eq!(unreadable.count(), 3);
        let Some(Line::Failed { why, counts }) = lines.last() else { panic!("{lines:?}") };
        assert!(why.starts_with("3 contacts in a row") && why.contains("HTTP 500"), "{why}");
        assert_eq!(counts.unreadable, 3);

        let refused = Window {
            from: Duration::ZERO,
            lasts: Duration::from_secs(100_000),
            only: Only::default(),
            fault: Fault::status(401),
        };
        scene.world.set_faults(FaultPlan { windows: vec![refused], ..FaultPlan::default() });
        let lines = told(&scene.world, 0, Whom::All).await;
        let Some(Line::Failed { why, .. }) = lines.last() else { panic!("{lines:?}") };
        assert!(why.contains("the credential was refused"), "{why}");
    });
}

#[test]
fn it_reads_at_its_pace_and_one_at_a_time() {
    play(async {
        let scene = populated(1, |world| {
            world.settings.crm[0].delivery.verify_contacts_per_second = 0.5;
            world.settings.crm[0].delivery.requests_per_second = 100.0;
        })
        .await;
        let begun = Instant::now();
        let mut lines = verify::begin(scene.world.desk(0), &order(Whom::All)).expect("the worker takes it");
        let second = verify::begin(scene.world.desk(0), &order(Whom::All));
        assert!(matches!(second, Err(VerifyError::Running { .. })), "{second:?}");
        while lines.recv().await.is_some() {}
        let took = begun.elapsed();
        let apart = Duration::from_secs(2) * (CONTACTS as u32 - 1);
        assert!((apart..apart + Duration::from_secs(2)).contains(&took), "{took:?}");

        // Whoever goes away ends it.
        drop(verify::begin(scene.world.desk(0), &order(Whom::All)).expect("the one before has ended"));
        let before = scene.world.sandbox.calls();
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(scene.world.sandbox.calls() <= before + 1);
        assert!(verify::begin(scene.world.desk(0), &order(Whom::All)).is_ok());
    });
}

#[test]
fn its_requests_count_among_those_of_the_worker() {
    play(async {
        let scene = populated(1, |world| {
            world.settings.crm[0].delivery.verify_contacts_per_second = 0.0;
            world.settings.crm[0].delivery.requests_per_second = 2.0;
        })
        .await;
        let begun = Instant::now();
        verified(&scene.world, 0, Whom::All).await;
        assert!(begun.elapsed() >= Duration::from_millis(500) * (CONTACTS as u32 - 1), "{:?}", begun.elapsed());
    });
}

#[test]
fn what_cannot_be_compared_is_said() {
    play(async {
        let scene = Scene::with_workers(1).await;
        scene.ready(0).await;
        let begin = |crm: &str, whom| verify::begin(scene.world.desk(0), &Order { crm: crm.to_owned(), whom });
        let error = begin(CRM, Whom::All).unwrap_err();
        assert!(
            matches!(&error, VerifyError::Unreadable { .. })
                && error.to_string().starts_with("contacts of priava cannot be read back")
                && error.to_string().ends_with("has no call that gives one back")
        );
        assert!(matches!(begin("another", Whom::All), Err(VerifyError::UnknownCrm { .. })));
        let scene = populated(1, |_| ()).await;
        for (size, taken) in [(0, false), (1, true), (SAMPLE_MAX, true), (SAMPLE_MAX + 1, false)] {
            let begun = verify::begin(scene.world.desk(0), &order(Whom::Sample(size)));
            assert_eq!(!matches!(begun, Err(VerifyError::Sample)), taken, "{size}");
            // The turn is given back a moment after nobody listens.
            drop(begun);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
}

/// In real time, since a paused clock would jump over every wait on a socket.
#[tokio::test]
async fn the_admin_address_tells_line_by_line_over_a_socket() {
    let mut world = world(1).await;
    world.settings.crm[0].delivery.verify_contacts_per_second = 0.0;
    let mut scene = Scene::begin(world).await;
    scene.ready(0).await;
    scene.world.publish(vec![change("s1", 1, "Ann")]).await;
    scene.settled().await;
    by_hand(&scene.world.sandbox, "POST", &ids(&scene.world)[0], "name=Secret-Canary").await;
    let (registry, readiness, desk) = scene.world.shown(0);
    let admin = Admin::start((Ipv4Addr::LOCALHOST, 0).into(), registry, readiness, desk).await.expect("a port");
    for (question, status, says) in [
        (r#"{"crm":"previsto","whom":"all"}"#, "200", "\"drifted\":[\"name\"]"),
        (r#"{"crm":"previsto","whom":{"sample":1}}"#, "200", "\"ended\""),
        (r#"{"crm":"nobody","whom":"all"}"#, "400", "there are: previsto"),
        (r#"{"crm":"previsto"}"#, "400", "an order is"),
    ] {
        let mut stream = TcpStream::connect(admin.address()).await.expect("it listens");
        let request = format!(
            "POST /verify HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{question}",
            question.len()
        );
        stream.write_all(request.as_bytes()).await.expect("it listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert!(answer.contains(says) && !answer.contains("Canary"), "{answer}");
    }
    admin.stop().await;
    scene.world.kill(0).await;
}
