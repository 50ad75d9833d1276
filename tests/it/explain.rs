//! Where a contact is, who it is, and why: asked of workers at work.

use std::{net::Ipv4Addr, time::Duration};

use contact_replicator::{
    admin::Admin,
    config::{CrmKind, TopicNames},
    contact::record::Status,
    event::OutcomeKind,
    explain::{AbsentBecause, Answer, Asked, AskedMember, ExplainError, Kind, Paused, Way, words},
    identity::{judgement::Refusal, keys::KeyType, membership::DropCode},
    log::{Log, NewRecord, TopicPartition, Transaction},
    sandbox::{Fault, FaultPlan, Only, Window},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep},
};

use crate::{
    history::event,
    scene::{Scene, change, play},
    world::{CRM, Setup, Tenant, World},
};

const DEADLINE: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(50);

fn about(text: impl Into<String>) -> Asked {
    Asked::About(text.into())
}

/// Asks until the answer is as it should become.
#[track_caller]
fn until<'a>(
    world: &'a World,
    worker: usize,
    asked: &'a Asked,
    mut holds: impl FnMut(&Answer) -> bool + 'a,
) -> impl Future<Output = Answer> + 'a {
    let caller = std::panic::Location::caller();
    async move {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let answer = world.desk(worker).explain(asked).await;
            match answer {
                Ok(answer) if holds(&answer) => return answer,
                Ok(_) | Err(ExplainError::Closed) if Instant::now() < deadline => sleep(LOOK).await,
                other => panic!("{caller}: {other:?}"),
            }
        }
    }
}

/// Everything was read to its end, and nothing waits.
fn is_settled(answer: &Answer) -> bool {
    let is_read = answer.readings.iter().chain(answer.crms.iter().map(|crm| &crm.reading));
    is_read.into_iter().all(|reading| reading.unseen() == Some(0))
        && answer.crms.iter().all(|crm| crm.waiting.is_none() && crm.link.is_some())
}

fn says(source: &str, subject: &str, sequence: u64, given_name: &str, email: &str) -> NewRecord {
    let person = json!({
        "name": {"givenName": given_name, "familyName": "Roth"},
        "emails": [{"value": email, "type": "work", "primary": true}],
        "phoneNumbers": [{"value": "+41446681800", "type": "mobile"}],
    });
    event(source, subject, &format!("{subject}-{sequence}"), "contact.updated", sequence, Some(person))
}

#[test]
fn a_contact_is_found_by_its_id_by_its_members_and_by_its_address() {
    play(async {
        let mut scene = Scene::with_workers(1).await;
        scene.world.publish(vec![says("/shop", "1", 1, "Ann", "ann@x.ch")]).await;
        scene.settled().await;
        let joins = says("/erp", "9", 1, "Ann", "ANN@x.ch");
        scene.world.publish(vec![joins]).await;
        scene.settled().await;
        let by_member = about("/shop/1");
        let answer = until(&scene.world, 0, &by_member, is_settled).await;
        let person = answer.contact.clone().expect("it is known");
        assert_eq!((answer.asked, person.status), (Kind::Member, Status::Live));
        let members: Vec<_> =
            person.members.iter().map(|member| (&*member.source, &*member.subject, member.live, &member.by)).collect();
        assert_eq!(members, [("/shop", "1", true, &None), ("/erp", "9", true, &Some(KeyType::Email))]);
        let crm = &answer.crms[0];
        assert_eq!((&*crm.crm, crm.reading.way, crm.paused), (CRM, Way::View, None));
        assert_eq!(crm.owner.as_ref().map(|owner| (owner.worker.as_str(), owner.released)), Some(("w0", false)));
        let link = crm.link.as_ref().expect("it was delivered");
        let settled = link.settled.as_ref().expect("it has an outcome");
        assert_eq!(settled.version, person.version);
        assert!(matches!(settled.outcome, OutcomeKind::Delivered | OutcomeKind::Unchanged));
        assert!(!link.remote_ids.is_empty() && link.fields_sent > 0);

        let apart = Asked::Member(AskedMember { source: "/erp".into(), subject: "9".into() });
        for (asked, kind) in [
            (about(person.contact_id.to_string()), Kind::Contact),
            (about("Ann <Ann@X.ch>"), Kind::Email),
            (apart, Kind::Member),
        ] {
            let same = until(&scene.world, 0, &asked, is_settled).await;
            assert_eq!((same.asked, same.contact.as_ref()), (kind, Some(&person)));
            assert_eq!(same.crms, answer.crms);
            let told = format!("{}{}", words::told(&same), serde_json::to_string(&same).expect("JSON"));
            for secret in ["Ann", "Roth", "x.ch", "44668"] {
                assert!(!told.to_lowercase().contains(&secret.to_lowercase()), "{secret} in {told}");
            }
        }
    });
}

#[test]
fn what_is_parked_a_create_under_way_and_a_pause_are_told() {
    play(async {
        const TWO: &[Tenant] =
            &[Tenant { name: CRM, kind: CrmKind::Priava }, Tenant { name: "previsto", kind: CrmKind::Previsto }];
        let mut world = World::of(Setup { crms: TWO, ..Setup::default() }).await;
        for crm in &mut world.settings.crm {
            // Then a create leaves with nothing but its intent behind it.
            crm.find_before_create = false;
        }
        let scene = Scene::begin(world).await;
        let away = Window {
            from: Duration::ZERO,
            lasts: Duration::from_secs(100_000),
            only: Only::default(),
            fault: Fault::status(503),
        };
        scene.world.set_faults(FaultPlan { windows: vec![away], ..FaultPlan::default() });
        scene.world.publish(vec![change("s1", 1, "Ann")]).await;

        let asked = about("/shop/s1");
        let all_parked = |answer: &Answer| {
            let open = |crm: &contact_replicator::explain::CrmState| crm.link.as_ref()?.open.clone();
            answer.contact.is_some() && answer.crms.iter().all(|crm| open(crm).is_some())
        };
        let answer = until(&scene.world, 0, &asked, all_parked).await;
        for crm in &answer.crms {
            let link = crm.link.as_ref().expect("it is parked");
            let open = link.open.as_ref().expect("it is parked");
            assert!(open.attempts >= 3 && open.version == 1, "{open:?}");
            assert!(open.next_attempt > answer.asked_at);
            assert_eq!(open.event.as_ref().and_then(|event| event.id.as_deref()), Some("s1-1"));
            assert_eq!((crm.waiting, &link.settled), (None, &None));
            assert_eq!(link.intent.is_some(), &*crm.crm == "previsto", "{}", crm.crm);
        }
        let page = words::told(&answer);
        assert!(page.contains("version 1 is parked since attempt") && page.contains("a create is under way"), "{page}");

        // A newer version takes the place of the parked one.
        let paused = |answer: &Answer| answer.crms.iter().all(|crm| crm.paused == Some(Paused::Failing));
        until(&scene.world, 0, &asked, paused).await;
        scene.world.publish(vec![change("s1", 2, "Bea")]).await;
        let newer = |answer: &Answer| {
            answer.contact.as_ref().is_some_and(|person| person.version == 2)
                && answer.crms.iter().all(|crm| {
                    let open = crm.link.as_ref().and_then(|link| link.open.as_ref()).map(|open| open.version);
                    open == Some(2) || crm.waiting.is_some_and(|waiting| waiting.to == 2)
                })
        };
        let answer = until(&scene.world, 0, &asked, newer).await;
        assert!(words::told(&answer).contains("THE CRM IS PAUSED"), "{}", words::told(&answer));
    });
}

/// The worker that follows the links of the contact, and the other one.
async fn owner_and_other(scene: &Scene, asked: &Asked) -> (usize, usize) {
    let here = |answer: &Answer| answer.contact.is_some() && answer.crms[0].reading.way == Way::View;
    let deadline = Instant::now() + DEADLINE;
    loop {
        let mut owners = Vec::new();
        for worker in 0..2 {
            let answer = scene.world.desk(worker).explain(asked).await;
            if answer.is_ok_and(|answer| here(&answer)) {
                owners.push(worker);
            }
        }
        if let [owner] = owners[..] {
            return (owner, 1 - owner);
        }
        assert!(Instant::now() < deadline, "one of two workers owns a partition, not {owners:?}");
        sleep(LOOK).await;
    }
}

#[test]
fn a_contact_of_another_workers_partition_is_read_from_the_log() {
    play(async {
        let mut scene = Scene::with_workers(2).await;
        scene.ready(0).await;
        scene.ready(1).await;
        scene.world.publish((0..20).map(|number| change(&format!("s{number}"), 1, "Ann")).collect()).await;
        scene.settled().await;
        let mut seen_by = [0, 0];
        for number in 0..20 {
            let asked = about(format!("/shop/s{number}"));
            let (owner, other) = owner_and_other(&scene, &asked).await;
            let (owned, read) = (
                until(&scene.world, owner, &asked, is_settled).await,
                until(&scene.world, other, &asked, is_settled).await,
            );
            assert_eq!((owned.crms[0].reading.way, read.crms[0].reading.way), (Way::View, Way::Log));
            assert_eq!(read.contact, owned.contact);
            assert_eq!(read.crms[0].link, owned.crms[0].link);
            let name = format!("w{owner}");
            for answer in [&owned, &read] {
                assert_eq!(answer.crms[0].owner.as_ref().map(|owner| &owner.worker), Some(&name));
            }
            seen_by[owner] += 1;
        }
        assert!(seen_by.iter().all(|seen| *seen > 0), "both workers own something: {seen_by:?}");

        // An open transaction holds whoever reads: two questions wait, a third is asked to come back.
        let asked = about("/shop/s0");
        let (_, other) = owner_and_other(&scene, &asked).await;
        let desk = scene.world.desk(other);
        let contact = desk.explain(&asked).await.expect("it was").contact.expect("it is known");
        let to = TopicPartition::new(TopicNames::new("").links(CRM), contact.partition);
        let mut writer = scene.world.log.writer("somebody").await.expect("the log is there");
        let record = NewRecord { to, key: Some("#held".into()), value: None, headers: Vec::new() };
        let held = Transaction { records: vec![record], offsets: None };
        writer.prepare(held).await.expect("the log takes it");
        let (one, two, three) = tokio::join!(desk.explain(&asked), desk.explain(&asked), desk.explain(&asked));
        assert!(matches!(three, Err(ExplainError::Busy)), "{three:?}");
        for answer in [one, two] {
            assert!(answer.expect("it waited").crms[0].link.is_some());
        }
    });
}

#[test]
fn an_address_of_two_leads_to_its_owner_and_names_the_other() {
    play(async {
        let mut scene = Scene::with_workers(1).await;
        scene.world.publish(vec![says("/shop", "1", 1, "Ann", "fam@x.ch")]).await;
        scene.settled().await;
        scene.world.publish(vec![says("/shop", "2", 1, "Bob", "fam@x.ch")]).await;
        scene.settled().await;
        let (ann, bob, family) = (about("/shop/1"), about("/shop/2"), about("fam@x.ch"));
        let ann = until(&scene.world, 0, &ann, is_settled).await.contact.expect("she is known");
        let bob = until(&scene.world, 0, &bob, is_settled).await.contact.expect("he is known");
        let answer = until(&scene.world, 0, &family, is_settled).await;
        assert_eq!(answer.contact.as_ref(), Some(&ann));
        assert_eq!(answer.claimants, [bob.contact_id]);
        let refused = &bob.members[0].refusals[0];
        assert_eq!((refused.contact, refused.code), (ann.contact_id, Refusal::SameSource));
    });
}

#[test]
fn who_was_deleted_is_still_found_and_who_never_was_is_not() {
    play(async {
        let mut scene = Scene::with_workers(1).await;
        scene.world.publish(vec![change("s1", 1, "Ann")]).await;
        scene.settled().await;
        scene.world.publish(vec![event("/shop", "s1", "s1-2", "contact.deleted", 2, None)]).await;
        scene.settled().await;
        let asked = about("/shop/s1");
        let deleted = |answer: &Answer| {
            is_settled(answer) && answer.contact.as_ref().is_some_and(|person| person.status == Status::Deleted)
        };
        let answer = until(&scene.world, 0, &asked, deleted).await;
        assert!(answer.contact.expect("just seen").members.iter().all(|member| !member.live));

        for (text, because) in [
            ("/shop/s2", AbsentBecause::Unknown),
            ("00000000-0000-8000-8000-000000000007", AbsentBecause::Unknown),
            ("s1@example.com", AbsentBecause::Unknown),
            ("office@example.com", AbsentBecause::NoKey(DropCode::Role)),
        ] {
            let answer = scene.world.desk(0).explain(&about(text)).await.expect("the worker answers");
            let absence = answer.absence.clone().expect("nobody was found");
            assert_eq!((answer.contact.clone(), absence.because), (None, because), "{text}");
            assert_eq!(absence.undecided, Some(0), "{text}");
            let page = words::told(&answer);
            assert!(!page.contains("example.com") && !page.contains("s2"), "{page}");
        }
        let nonsense = scene.world.desk(0).explain(&about("Ann")).await;
        assert!(matches!(nonsense, Err(ExplainError::Question(_))), "{nonsense:?}");

        assert!(scene.world.stop(0).await);
        let closed = scene.world.desk(0).explain(&asked).await;
        assert!(matches!(closed, Err(ExplainError::Closed)), "{closed:?}");
    });
}

/// In real time, since a paused clock would jump over every wait on a socket.
#[tokio::test]
async fn the_admin_address_explains_over_a_socket() {
    let mut world = World::new(1, 1).await;
    world.start(0);
    let (registry, readiness, desk) = world.shown(0);
    let admin = Admin::start((Ipv4Addr::LOCALHOST, 0).into(), registry, readiness, desk).await.expect("a port");
    let asked = about("/shop/s1");
    until(&world, 0, &asked, |_| true).await;
    world.publish(vec![change("s1", 1, "Ann")]).await;
    until(&world, 0, &asked, |answer| answer.contact.is_some() && is_settled(answer)).await;
    for (question, status) in [(r#"{"about":"/shop/s1"}"#, "200"), (r#"{"about":"/shop/s2"}"#, "404")] {
        let mut stream = TcpStream::connect(admin.address()).await.expect("it listens");
        let request = format!(
            "POST /explain HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n{question}",
            question.len()
        );
        stream.write_all(request.as_bytes()).await.expect("it listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an answer has a body");
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        let answer: Answer = serde_json::from_str(body).expect("the body is an answer");
        assert_eq!(answer.contact.is_some(), status == "200");
    }
    admin.stop().await;
    world.kill(0).await;
}
