//! The worst that can happen to a create: its answer is lost, the contact's address is another one by the time that it could
//! be searched for, and the worker that would have searched is dead.

use std::{collections::BTreeSet, time::Duration};

use contact_replicator::{
    cli::demo::generator,
    log::{Log, NewRecord, TopicPartition},
    sandbox::{Action, Kind},
};
use serde_json::json;
use tokio::time::Instant;

use crate::{
    end_to_end::assert_readable,
    identity::change,
    installation::{CRMS, Crm, IN_HANDS_MAX, Installation, PATIENCE, Worker, assert_promises, eventually},
};

const CONTACTS: usize = 300;
/// Contacts that may be known to the workers and not yet to a CRM: what a kill meets.
const AHEAD: usize = 40;
/// Every third create of those that are made loses its answer.
const LOST_EVERY: usize = 3;
/// Half of the losses among the contacts whose address changes at a CRM's own turn.
const LOST_MIN: usize = CONTACTS / CRMS.len() / LOST_EVERY / 2;

/// What a source says: first one address and telephone number, then another of each.
fn said(topic: &str, number: usize, verb: &str) -> NewRecord {
    let (mailbox, digit) = if verb == "created" { (old_mailbox(number), 1) } else { (new_mailbox(number), 2) };
    let partition = number % generator::TOPICS[0].1 as usize;
    let data = json!({"name": {"givenName": "Ilka", "familyName": "Roth"}, "emails": [{"value": mailbox}],
        "phoneNumbers": [{"value": format!("+44770{digit}{number:06}"), "type": "mobile"}]});
    let at = TopicPartition::new(topic, partition.try_into().unwrap());
    change(at, generator::SOURCES[0], &format!("shop-{number}"), verb, &data)
}

fn old_mailbox(number: usize) -> String {
    format!("old.{number}@example.com")
}

fn new_mailbox(number: usize) -> String {
    format!("new.{number}@example.com")
}

/// What a text begins with, as far as these are digits: what follows is written in the way of each CRM.
fn digits(text: &str) -> &str {
    text.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or_default()
}

/// What makes a contact in a CRM of this kind.
fn making(crm: Crm) -> Action {
    match crm.kind {
        Kind::Priava | Kind::NextinteractSam => Action::Upsert,
        Kind::Previsto | Kind::CrmCom | Kind::Logisense => Action::Create,
    }
}

/// The requests that would make somebody under the old address, as a CRM gets them.
struct Watch {
    crm: Crm,
    /// Up to which number they were looked at.
    seen: u64,
    /// How many of those that made somebody had no answer.
    lost: usize,
}

impl Watch {
    /// The numbers of the people whom the CRM was asked to make since the last look.
    async fn look(&mut self, installation: &Installation) -> Vec<usize> {
        let mut numbers = Vec::new();
        let making = serde_json::to_value(making(self.crm)).unwrap();
        for request in installation.sandbox.requests_after(self.crm, self.seen).await {
            self.seen = request["sequence"].as_u64().unwrap();
            let body = request["body"].as_str().unwrap_or_default();
            let number = body.split_once("old.").and_then(|(_, rest)| digits(rest).parse().ok());
            if request["action"] == making
                && let Some(number) = number
            {
                numbers.push(number);
                self.lost += usize::from(request["faulty"] == true);
            }
        }
        numbers
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn creates_whose_answers_are_lost_while_addresses_change_and_workers_die_make_nobody_twice() {
    lose_creates("", &[1, 1, 2, 1, 1]).await;
}

/// Nothing of ours can be searched for: only what the contact was when it was made leads to it, and that is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_do_they_where_only_the_old_address_can_be_searched_for() {
    let by_address_alone = "[crm.previsto]\nplant_number = false\nsearch_by = [\"email\"]";
    lose_creates(by_address_alone, &[1, 2, 1]).await;
}

/// `dying` says how many workers are killed at once, time after time.
async fn lose_creates(settings_of_jobs: &'static str, dying: &[usize]) {
    let installation = Installation::with_settings_of_jobs(Duration::from_secs(1), settings_of_jobs).await;
    for crm in CRMS {
        let fault = json!({ "instead": { "kind": "reset_after" } });
        let script =
            json!({ "call": LOST_EVERY, "every": LOST_EVERY, "only": { "action": making(crm) }, "fault": fault });
        installation.sandbox.misbehave_in(crm, &json!({ "script": [script] })).await;
    }
    let mut workers = vec![installation.start("worker-1").await, installation.start("worker-2").await];
    let mut observer = installation.observe().await;
    let topic = installation.input(generator::TOPICS[0].0);
    let mut watches = CRMS.map(|crm| Watch { crm, seen: 0, lost: 0 });
    let mut kills = dying.iter();
    let (mut created, mut changed) = (0, BTreeSet::new());
    // A kill comes when so many creates were lost since the last one: at the very look that finds it, so that nobody has
    // asked for the contact again, which is not done before the request's deadline.
    let between = LOST_MIN / dying.len();
    let mut lost_next = None;
    let (begun, mut moved) = (Instant::now(), Instant::now());
    while changed.len() < CONTACTS {
        while created < CONTACTS && created < changed.len() + AHEAD {
            installation.log.append(vec![said(&topic, created, "created")]).await.unwrap();
            created += 1;
        }
        // Whoever a CRM is asked to make has, when it is its turn, another address in the very next event.
        let mut next = Vec::new();
        for (turn, watch) in watches.iter_mut().enumerate() {
            for number in watch.look(&installation).await {
                // Each CRM's turn for its share of them: so many does it make under the old address however fast the others are.
                if number % CRMS.len() == turn && changed.insert(number) {
                    next.push(said(&topic, number, "updated"));
                }
            }
        }
        if !next.is_empty() {
            moved = Instant::now();
            installation.log.append(next).await.unwrap();
        }
        let [_, jobs] = &watches;
        if jobs.lost >= *lost_next.get_or_insert(jobs.lost + between)
            && let Some(dying) = kills.next().copied()
        {
            lost_next = None;
            let dead: Vec<Worker> = workers.drain(..dying).collect();
            let names: Vec<String> = dead.iter().map(|worker| worker.name().to_owned()).collect();
            dead.into_iter().for_each(Worker::kill);
            for name in names {
                workers.push(installation.launch(&name).await);
            }
        }
        assert!(moved.elapsed() < PATIENCE, "{} of {created} were ever sent to a CRM", changed.len());
    }
    assert_eq!(kills.next(), None, "workers died as often as they were to");
    observer.settled(2 * CONTACTS).await;
    let lost = watches.map(|watch| watch.lost);
    eprintln!("  {CONTACTS} contacts, {lost:?} creates lost, in {:?}", begun.elapsed());
    assert!(lost.iter().all(|lost| *lost >= LOST_MIN), "{lost:?} creates were lost");

    for crm in CRMS {
        let stored = installation.sandbox.contacts(crm).await;
        let references: BTreeSet<&str> = stored.iter().map(|contact| contact["reference"].as_str().unwrap()).collect();
        assert_eq!((stored.len(), references.len()), (CONTACTS, CONTACTS), "contacts of {}", crm.name);
        let mailboxes: BTreeSet<&str> =
            stored.iter().map(|contact| contact["fields"]["email"].as_str().unwrap()).collect();
        let expected: BTreeSet<String> = (0..CONTACTS).map(new_mailbox).collect();
        assert!(mailboxes.iter().copied().eq(expected.iter().map(String::as_str)), "each has its new address");
    }
    assert_readable(&workers);
    for worker in workers {
        eventually("a worker is ready", PATIENCE, async || worker.is_ready().await).await;
        worker.stop().await;
    }
    let killed: usize = dying.iter().sum();
    assert_promises(&observer.conclude(killed * IN_HANDS_MAX).await, &[]);
}
