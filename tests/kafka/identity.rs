//! Who is who, when sources speak at the same moment: one contact, whoever was first and whoever died.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use contact_replicator::{
    cli::demo::generator,
    log::{Header, Log, NewRecord, TopicPartition, kafka::KafkaLog},
};
use serde_json::{Value, json};
use tokio::{
    sync::{Barrier, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    end_to_end::assert_readable,
    installation::{
        CRMS, IN_HANDS_MAX, Installation, JOBS, Observer, PATIENCE, VENUES, Worker, assert_promises, eventually,
        settings_of_log,
    },
    plain,
};

const SHOP: (&str, &str) = generator::SOURCES[0];
const ACCOUNTING: (&str, &str) = generator::SOURCES[1];

/// A change as a service sends it, for a partition of its choice.
pub(crate) fn change(to: TopicPartition, (_, uri): (&str, &str), subject: &str, verb: &str, data: &Value) -> NewRecord {
    let header = |name: &str, value: String| Header::new(name, value.into_bytes());
    let headers = vec![
        header("ce_specversion", "1.0".to_owned()),
        header("ce_id", format!("{subject}-{verb}")),
        header("ce_source", uri.to_owned()),
        header("ce_type", format!("contact.{verb}")),
        header("ce_subject", subject.to_owned()),
        header("content-type", "application/json".to_owned()),
    ];
    let value = if data.is_null() { Vec::new() } else { data.to_string().into_bytes() };
    NewRecord { to, key: Some(subject.to_owned().into()), value: Some(value.into()), headers }
}

/// How often the two of a pair speak.
const PAIRS: usize = 500;
const INPUT_PARTITIONS: usize = generator::TOPICS[0].1 as usize;

/// What two sources say of the person with this number: the same mailbox, which the second writes in its own way, and
/// something that the other does not know, so that whoever is second changes the contact.
fn pair(topic: &Arc<str>, number: usize) -> [NewRecord; 2] {
    let mailbox = format!("pair-{number}@example.com");
    let phone = json!([{"value": format!("+447700{number:06}"), "type": "mobile"}]);
    let name = json!({"givenName": "Ilka", "familyName": "Roth"});
    let of_shop = json!({"name": name, "phoneNumbers": phone, "emails": [{"value": mailbox}],
        "consent": {"marketing": true}});
    let of_accounting = json!({"name": name, "phoneNumbers": phone, "emails": [{"value": mailbox.to_uppercase()}],
        "organization": {"name": "Old Mill", "title": "Buyer"}});
    // Never the same, and each combination in turn.
    let first = number % INPUT_PARTITIONS;
    let second = (first + 1 + number / INPUT_PARTITIONS % (INPUT_PARTITIONS - 1)) % INPUT_PARTITIONS;
    let at = |partition: usize| TopicPartition::new(Arc::clone(topic), partition.try_into().unwrap());
    [
        change(at(first), SHOP, &format!("shop-{number}"), "created", &of_shop),
        change(at(second), ACCOUNTING, &format!("accounting-{number}"), "created", &of_accounting),
    ]
}

/// Two producers, each with a line of its own, that send the two of a pair at the same moment.
struct Producers {
    sent: [Arc<AtomicUsize>; 2],
    go_on: watch::Sender<bool>,
    tasks: [JoinHandle<()>; 2],
}

impl Producers {
    /// They send up to this number, and wait there until they are told to go on.
    fn start(topic: &Arc<str>, up_to: usize) -> Self {
        let together = Arc::new(Barrier::new(2));
        let go_on = watch::Sender::new(false);
        let sent: [Arc<AtomicUsize>; 2] = [Arc::default(), Arc::default()];
        let tasks = [0, 1].map(|side| {
            let (topic, together, sent) = (Arc::clone(topic), Arc::clone(&together), Arc::clone(&sent[side]));
            let mut told = go_on.subscribe();
            tokio::spawn(async move {
                let log = KafkaLog::new(settings_of_log(&format!("producer-{side}"))).unwrap();
                for number in 0..PAIRS {
                    if number == up_to {
                        told.wait_for(|told| *told).await.unwrap();
                    }
                    let record = pair(&topic, number)[side].clone();
                    together.wait().await;
                    log.append(vec![record]).await.unwrap();
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        Self { sent, go_on, tasks }
    }

    /// Waits until so many pairs were sent.
    async fn reach(&self, pairs: usize) {
        eventually(&format!("{pairs} pairs are sent"), PATIENCE, async || {
            self.sent.iter().all(|sent| sent.load(Ordering::Relaxed) >= pairs).then_some(())
        })
        .await;
    }

    async fn finish(self) {
        self.go_on.send_replace(true);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

/// The worker that decides, and the other one.
async fn by_rank([one, other]: [Worker; 2]) -> [Worker; 2] {
    let first_decides = eventually("one of two decides", PATIENCE, async || {
        let of = [one.metric("resolver_active").await, other.metric("resolver_active").await];
        (of.iter().sum::<f64>() == 1.0).then_some(of[0] == 1.0)
    })
    .await;
    if first_decides { [one, other] } else { [other, one] }
}

/// By a reader that is not ours, and from the books of the CRMs: each pair is one contact, everywhere.
async fn assert_each_pair_is_one_contact(installation: &Installation) {
    let records = plain::documents(&plain::read_committed(&installation.topics().records).await);
    let mut newest: BTreeMap<&str, &Value> = BTreeMap::new();
    for record in &records {
        newest.insert(record["contact_id"].as_str().unwrap(), record);
    }
    let live: Vec<&&Value> = newest.values().filter(|record| record["status"] == "live").collect();
    assert_eq!((newest.len(), live.len()), (PAIRS, PAIRS), "contacts, and those that live");
    let mut pairs = BTreeSet::new();
    for record in live {
        let members = record["members"].as_array().unwrap();
        let numbers: BTreeSet<(&str, &str)> =
            members.iter().map(|member| member["subject"].as_str().unwrap().split_once('-').unwrap()).collect();
        let sides: Vec<&str> = numbers.iter().map(|(side, _)| *side).collect();
        assert_eq!((members.len(), sides), (2, vec![ACCOUNTING.0, SHOP.0]), "one of each source");
        let of: BTreeSet<&str> = numbers.iter().map(|(_, number)| *number).collect();
        assert_eq!(of.len(), 1, "a pair, and not two strangers");
        pairs.extend(of);
    }
    assert_eq!(pairs.len(), PAIRS);

    let outcomes = plain::documents(&plain::read_committed(&installation.topics().outcomes).await);
    let mut ends: BTreeMap<(String, String), usize> = BTreeMap::new();
    for outcome in &outcomes {
        let event = format!("{}/{}", outcome["event"]["partition"], outcome["event"]["offset"]);
        *ends.entry((event, outcome["crm"].as_str().unwrap().to_owned())).or_default() += 1;
    }
    let times: BTreeSet<usize> = ends.values().copied().collect();
    assert_eq!(times, BTreeSet::from([1]), "times that a CRM answers for an event");
    for crm in CRMS {
        let answered = ends.keys().filter(|(_, of)| of == crm.name).count();
        assert_eq!(answered, 2 * PAIRS, "each event changed its contact, and {} answered for it", crm.name);
        let stored = installation.sandbox.contacts(crm).await;
        let references: BTreeSet<&str> = stored.iter().map(|contact| contact["reference"].as_str().unwrap()).collect();
        assert_eq!((stored.len(), references.len()), (PAIRS, PAIRS), "contacts of {}", crm.name);
        assert!(references.iter().all(|reference| newest.contains_key(reference)), "all are ours");
    }
}

/// How near the two of a pair were decided to each other: of a race there is more than one winner.
fn report_winners(observer: &Observer<'_>) {
    let firsts = observer.evidence().entries.iter().filter(|entry| entry.version == 1);
    let of_shop = firsts.filter(|entry| {
        let subject = entry.event.as_ref().and_then(|event| event.subject.as_deref());
        subject.is_some_and(|subject| subject.starts_with(SHOP.0))
    });
    let first = of_shop.count();
    eprintln!("  {} was first {first} times of {PAIRS}", SHOP.0);
    assert!((1..PAIRS).contains(&first), "it was a race");
}

async fn race(killing: bool) {
    let installation = Installation::new(Duration::from_secs(2)).await;
    let workers = [installation.start("worker-1").await, installation.start("worker-2").await];
    let mut observer = installation.observe().await;
    let begun = Instant::now();
    let topic = installation.input(generator::TOPICS[0].0);
    let (workers, repeats, producers) = if killing {
        let producers = Producers::start(&topic, PAIRS * 4 / 5);
        producers.reach(PAIRS / 5).await;
        let [decider, other] = by_rank(workers).await;
        // Some of them are decided by now, and others are yet to come.
        observer.outcomes(PAIRS / 10).await;
        let name = decider.name().to_owned();
        decider.kill();
        let killed = Instant::now();
        producers.go_on.send_replace(true);
        let again = installation.start(&name).await;
        eprintln!("  {name} decided; ready again {:?} after SIGKILL", killed.elapsed());
        ([other, again], IN_HANDS_MAX, producers)
    } else {
        (workers, 0, Producers::start(&topic, PAIRS))
    };
    producers.finish().await;
    observer.settled(2 * PAIRS).await;
    eprintln!("  {PAIRS} pairs in {:?}", begun.elapsed());
    assert_readable(&workers);
    for worker in workers {
        worker.stop().await;
    }
    report_winners(&observer);
    assert_each_pair_is_one_contact(&installation).await;
    assert_promises(&observer.conclude(repeats).await, &[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_sources_that_tell_of_one_address_at_the_same_moment_make_one_contact() {
    race(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_make_one_contact_also_if_the_worker_that_decides_is_killed_meanwhile() {
    race(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_is_told_and_who_is_erased_is_blank_or_gone_in_each_crm() {
    let installation = Installation::new(Duration::from_secs(2)).await;
    let worker = installation.start("worker-1").await;
    let mut observer = installation.observe().await;
    let topic = installation.input(generator::TOPICS[0].0);
    let at = TopicPartition::new(topic, 3);
    let person = |given: &str| {
        json!({"name": {"givenName": given, "familyName": "Roth"}, "emails": [{"value": "family@example.com"}],
            "phoneNumbers": [{"value": "+447700900123", "type": "mobile"}]})
    };
    // One source knows whom it knows: two of its people are two, whatever they share.
    let two = vec![
        change(at.clone(), SHOP, "shop-1", "created", &person("Ann")),
        change(at.clone(), SHOP, "shop-2", "created", &person("Bob")),
    ];
    installation.log.append(two).await.unwrap();
    observer.settled(2).await;
    let told = plain::read_committed(&installation.topics().identity_events).await;
    let [conflict] = told.as_slice() else { panic!("{} identity events", told.len()) };
    assert_eq!(plain::header(conflict, "ce_type"), Some("contact.identity.conflict"));
    let said = plain::documents(&told).remove(0);
    let contact_of = |observer: &Observer<'_>, subject: &str| {
        let of = |record: &&contact_replicator::contact::ContactRecord| {
            record.members.iter().any(|member| &*member.subject == subject)
        };
        observer.evidence().records.iter().find(of).unwrap().contact_id
    };
    let (ann, bob) = (contact_of(&observer, "shop-1").key(), contact_of(&observer, "shop-2").key());
    assert_ne!(ann, bob);
    assert_eq!(plain::header(conflict, "ce_subject"), Some(bob.as_str()));
    let expected = [("contact_id", bob.as_str()), ("other_contact_id", &ann), ("key_type", "email")];
    for (member, value) in expected {
        assert_eq!(said[member], value, "{member}");
    }
    assert_eq!(said["reason"], "same_source");
    assert!(!said.to_string().contains("@example.com"), "what they share is nobody's business");

    installation.log.append(vec![change(at, SHOP, "shop-1", "erased", &Value::Null)]).await.unwrap();
    observer.settled(3).await;
    assert_readable([&worker]);
    worker.stop().await;
    let outcomes = plain::documents(&plain::read_committed(&installation.topics().outcomes).await);
    let operation = |name: &str| {
        let found = outcomes
            .iter()
            .find(|outcome| outcome["crm"] == name && outcome["contact_id"] == ann.as_str() && outcome["version"] == 2);
        let found = found.unwrap_or_else(|| panic!("{name} did not answer for the erasure"));
        (found["outcome"].as_str().unwrap().to_owned(), found["operation"].as_str().unwrap().to_owned())
    };
    assert_eq!(operation(VENUES.name), ("delivered".to_owned(), "blank".to_owned()));
    assert_eq!(operation(JOBS.name), ("delivered".to_owned(), "erase".to_owned()));
    for crm in CRMS {
        let stored = installation.sandbox.contacts(crm).await;
        let of = |reference: &str| stored.iter().find(|contact| contact["reference"] == reference).cloned();
        let of_bob = of(&bob).unwrap().to_string();
        assert!(of_bob.contains("family@example.com") && of_bob.contains("Bob"), "the other one stays");
        let trace = of(&ann).map(|contact| contact.to_string());
        assert_eq!(trace.is_some(), crm.name == VENUES.name, "{} can delete, or cannot", crm.name);
        for value in ["Ann", "family@", "7700900123"] {
            assert!(!trace.as_ref().is_some_and(|trace| trace.contains(value)), "a value is left in {}", crm.name);
        }
    }
    let records = plain::documents(&plain::read_committed(&installation.topics().records).await);
    let stub = records.iter().rfind(|record| record["contact_id"] == ann.as_str()).unwrap();
    assert_eq!((&stub["status"], &stub["contact"]), (&json!("erased"), &Value::Null));
    assert_promises(&observer.conclude(0).await, &[]);
}
