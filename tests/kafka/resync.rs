//! A resync of all contacts while the worker that carries it on is killed: each contact is driven, none is answered twice, and
//! the job ends.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    time::Duration,
};

use contact_replicator::{cli::demo::generator, event::OutcomeKind, log::Log, log::TopicPartition};
use serde_json::json;

use crate::{
    end_to_end::assert_readable,
    identity::change,
    installation::{CRMS, IN_HANDS_MAX, Installation, PATIENCE, Worker, assert_promises, eventually},
    processes,
};

const CONTACTS: usize = 400;
/// So slow that a kill comes in the midst of it.
const SETTINGS: &str = "resync_contacts_per_second = 40.0";

fn resync(worker: &Worker, more: &[&str]) -> Command {
    let mut command = processes::program();
    let [_, jobs] = CRMS;
    command.arg("resync").arg("--crm").arg(jobs.name).arg("--admin").arg(worker.admin_url()).args(more);
    command
}

/// How a person names whom a source calls so.
fn named(subject: &str) -> String {
    let (source, _) = generator::SOURCES[0];
    format!("{source}/{subject}")
}

/// Runs the command to its end, and returns its code and what it said.
async fn run(mut command: Command) -> (Option<i32>, String) {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (output.status.code(), said)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resync_of_all_contacts_outlives_the_worker_that_carries_it_on() {
    let installation = Installation::with_settings_of_jobs(Duration::from_secs(1), SETTINGS).await;
    let mut workers = vec![installation.start("worker-1").await, installation.start("worker-2").await];
    let mut observer = installation.observe().await;
    let topic = installation.input(generator::TOPICS[0].0);
    let said = (0..CONTACTS).map(|number| {
        let data = json!({"name": {"givenName": "Ilka", "familyName": format!("Roth{number}")},
            "emails": [{"value": format!("ilka.{number}@example.com")}],
            "phoneNumbers": [{"value": format!("+447700{number:06}"), "type": "mobile"}]});
        let partition = (number % generator::TOPICS[0].1 as usize).try_into().unwrap();
        let at = TopicPartition::new(topic.clone(), partition);
        change(at, generator::SOURCES[0], &format!("shop-{number}"), "created", &data)
    });
    installation.log.append(said.collect()).await.unwrap();
    observer.settled(CONTACTS).await;

    let (code, said) = run(resync(&workers[0], &["--status"])).await;
    assert_eq!((code, said.contains("was ever asked for")), (Some(0), true), "{said}");
    // Whoever does not decide is asked, and watched: it will live.
    let is_active = async |worker: &Worker| worker.metric("resolver_active").await == 1.0;
    let dying = usize::from(is_active(&workers[1]).await);
    assert!(is_active(&workers[dying]).await);
    let dying = workers.swap_remove(dying);
    let watching = tokio::spawn(run(resync(&workers[0], &[])));
    eventually("a third of it", 2 * PATIENCE, async || {
        let remaining = dying.metric("resync_remaining_contacts").await;
        (remaining > 0.0 && remaining < CONTACTS as f64 * 2.0 / 3.0).then_some(())
    })
    .await;
    let (code, said) = run(resync(&workers[0], &[])).await;
    assert_eq!((code, said.contains("is under way")), (Some(3), true), "{said}");
    dying.kill();
    let (code, said) = watching.await.unwrap();
    assert_eq!((code, said.contains("finished at")), (Some(0), true), "{said}");
    let (code, said) = run(resync(&workers[0], &[&named("shop-1"), &named("nobody")])).await;
    assert_eq!((code, said.contains("unknown: ") && said.contains("nobody")), (Some(1), true), "{said}");

    observer.outcomes(CRMS.len() * CONTACTS + CONTACTS + 1).await;
    assert_readable(&workers);
    workers.pop().unwrap().stop().await;
    let evidence = observer.conclude(IN_HANDS_MAX).await;
    let mut driven = BTreeMap::new();
    for outcome in evidence.outcomes.iter().filter(|outcome| outcome.is_asked()) {
        assert_eq!(outcome.outcome, OutcomeKind::Delivered, "{outcome:?}");
        let cause = outcome.cause.clone().unwrap().id;
        let contacts: &mut BTreeSet<_> = driven.entry(cause).or_default();
        assert!(contacts.insert(outcome.contact_id), "answered twice: {outcome:?}");
    }
    let mut numbers: Vec<usize> = driven.values().map(BTreeSet::len).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [1, CONTACTS]);
    assert_promises(&evidence, &[]);
}
