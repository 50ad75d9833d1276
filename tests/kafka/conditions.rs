//! What can become of a cluster beside the program: topics made anew, cut short or grown, records of a newer program,
//! messages too large, groups forgotten, a broker that is not there.
//!
//! Each test shows a worker process what an operator, a retention or an accident did, and holds it to two things: it says a
//! sentence that names the place and what to do, and it never skips or overwrites anything in silence.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use contact_replicator::{
    cli::demo::generator,
    log::{Cleanup, Header, Isolation, Log, NewRecord, Offset, Record, TopicPartition, TopicSpec, kafka::KafkaLog},
};
use rdkafka::{
    ClientConfig, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewPartitions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer},
};
use serde_json::{Value, json};

use crate::{
    bootstrap_servers,
    conformance::read_all,
    identity::change,
    installation::{CRMS, Installation, PATIENCE, VENUES, Worker, eventually, settings_of_log},
};

const SHOP: (&str, &str) = generator::SOURCES[0];
const REQUEST_DEADLINE: Duration = Duration::from_secs(2);

/// What an operator does with Kafka's own tools.
struct Operator(AdminClient<DefaultClientContext>);

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)))
}

impl Operator {
    fn new() -> Self {
        Self(ClientConfig::new().set("bootstrap.servers", bootstrap_servers()).create().unwrap())
    }

    /// Deletes a topic, and waits until nobody knows it.
    async fn delete(&self, installation: &Installation, topic: &str) {
        let deleted = self.0.delete_topics(&[topic], &options()).await.unwrap();
        deleted.into_iter().next().unwrap().unwrap();
        eventually("the topic is gone", PATIENCE, async || {
            installation.log.partitions(topic).await.unwrap().is_none().then_some(())
        })
        .await;
    }

    /// Deletes what stands below the end of each partition.
    async fn truncate(&self, installation: &Installation, topic: &str) {
        let partitions = installation.log.partitions(topic).await.unwrap().unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition.try_into().unwrap(), rdkafka::Offset::End).unwrap();
        }
        let deleted = self.0.delete_records(&list, &options()).await.unwrap();
        for element in deleted.elements() {
            element.error().unwrap();
        }
    }

    async fn grow(&self, topic: &str, partitions: usize) {
        let grown = self.0.create_partitions(&[NewPartitions::new(topic, partitions)], &options()).await.unwrap();
        grown.into_iter().next().unwrap().unwrap();
    }

    async fn forget_group(&self, group: &str) {
        // A member with a static name says no farewell: its group is empty when its session is over.
        eventually("the group is deleted", PATIENCE, async || {
            let deleted = self.0.delete_groups(&[group], &options()).await.unwrap();
            deleted.into_iter().next().unwrap().ok()
        })
        .await;
    }
}

fn input(installation: &Installation) -> Arc<str> {
    installation.input(generator::TOPICS[0].0)
}

/// A person, of whom the family name tells what was said last.
fn person(number: usize, last: &str) -> Value {
    json!({"name": {"givenName": "Ann", "familyName": format!("Roth {last}")},
        "emails": [{"value": format!("person-{number}@example.com")}],
        "phoneNumbers": [{"value": format!("+447700{:06}", 900_000 + number), "type": "mobile"}]})
}

/// What is said last of the people of these numbers.
fn news(installation: &Installation, numbers: std::ops::Range<usize>, last: &str) -> Vec<NewRecord> {
    let partitions = usize::try_from(generator::TOPICS[0].1).unwrap();
    let told = |number: usize| {
        let at = TopicPartition::new(input(installation), (number % partitions).try_into().unwrap());
        let mut record = change(at, SHOP, &format!("shop-{number}"), "updated", &person(number, last));
        let id = record.headers.iter_mut().find(|header| header.name == "ce_id").unwrap();
        id.value = format!("{number}-{last}").into();
        record
    };
    numbers.map(told).collect()
}

async fn publish(installation: &Installation, numbers: std::ops::Range<usize>, verb: &str) {
    installation.log.append(news(installation, numbers, verb)).await.unwrap();
}

/// An installation whose worker has made `people` known to every CRM.
async fn settled(people: usize) -> (Installation, Worker) {
    let installation = Installation::new(REQUEST_DEADLINE).await;
    let worker = installation.start("worker-1").await;
    {
        let mut observer = installation.observe().await;
        publish(&installation, 0..people, "created").await;
        observer.settled(people).await;
    }
    (installation, worker)
}

/// Waits until each CRM stores so many contacts of whom `last` was said last.
async fn told(installation: &Installation, people: usize, last: &str) {
    for crm in CRMS {
        eventually(&format!("{} was told {last}", crm.name), PATIENCE, async || {
            let stored = installation.sandbox.contacts(crm).await;
            let of_now = stored.iter().filter(|contact| contact.to_string().contains(&format!("Roth {last}"))).count();
            (of_now == people).then_some(())
        })
        .await;
    }
}

// ---------------------------------------------------------------- topics made anew or cut short

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_of_ours_that_is_deleted_under_a_worker_ends_it_with_a_sentence() {
    let (installation, worker) = settled(6).await;
    let topic = installation.topics().keys;
    Operator::new().delete(&installation, &topic).await;
    let said = worker.end().await;
    let sentence = format!("topic {topic} is not the one that this worker followed");
    assert!(said.contains(&sentence) && said.contains(&format!("--accept-topic {topic}")), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_topic_of_ours_that_was_made_anew_or_cut_short_is_refused_at_the_next_start_until_it_is_accepted() {
    const PEOPLE: usize = 6;
    let operator = Operator::new();
    let (installation, worker) = settled(PEOPLE).await;
    worker.stop().await;
    let names = installation.topics();
    let followed = [names.records.clone(), names.keys.clone(), names.resolver.clone(), names.links(VENUES.name)];
    for topic in &followed {
        operator.delete(&installation, topic).await;
        refused(&installation, topic).await;
        // What was made by the refused worker is still another topic.
        refused(&installation, topic).await;
        let worker = installation.launch_with("worker-1", &["--accept-topic", topic]).await;
        eventually("the worker is ready", PATIENCE, async || worker.is_ready().await).await;
        worker.stop().await;
    }
    // Once accepted, it is the one.
    let worker = installation.start("worker-1").await;
    worker.stop().await;
    // Of a compacted topic a broker deletes nothing, unless somebody changes the policy.
    let topic = names.links(VENUES.name);
    alter(&topic, "cleanup.policy", "delete");
    operator.truncate(&installation, &topic).await;
    alter(&topic, "cleanup.policy", "compact");
    refused(&installation, &topic).await;
    let worker = installation.launch_with("worker-1", &["--accept-topic", &topic]).await;
    eventually("the worker is ready", PATIENCE, async || worker.is_ready().await).await;
    worker.stop().await;
}

async fn refused(installation: &Installation, topic: &str) {
    let said = installation.launch("worker-1").await.end().await;
    let sentence = format!("topic {topic} is not the one that this worker followed");
    assert!(said.contains(&sentence) && said.contains(&format!("--accept-topic {topic}")), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn input_that_is_gone_is_counted_and_reading_goes_on() {
    const PEOPLE: usize = 12;
    let operator = Operator::new();
    let (installation, mut worker) = settled(PEOPLE).await;
    // Made anew, and with less in it, under a worker that reads it.
    operator.delete(&installation, &input(&installation)).await;
    worker.says(&["ERROR", "an input topic is gone", &input(&installation)]).await;
    make_input(&installation).await;
    publish(&installation, 0..PEOPLE / 2, "updated").await;
    told(&installation, PEOPLE / 2, "updated").await;
    worker.says(&["ERROR", "input was deleted before it was read", &input(&installation)]).await;
    assert!(worker.metric("input_lost_total").await >= 1.0);
    worker.stop().await;

    // Cut short below what was not read, while no worker runs.
    publish(&installation, 0..PEOPLE, "changed").await;
    operator.truncate(&installation, &input(&installation)).await;
    let mut worker = installation.start("worker-1").await;
    worker.says(&["ERROR", "input was deleted before it was read", "lost=2"]).await;
    let lost = PEOPLE as f64;
    eventually("all of it is counted", PATIENCE, async || {
        (worker.metric("input_lost_total").await == lost).then_some(())
    })
    .await;
    publish(&installation, 0..PEOPLE, "extended").await;
    told(&installation, PEOPLE, "extended").await;
    worker.stop().await;
    // The positions are those of the topic as it is: nothing is said a second time.
    let worker = installation.start("worker-1").await;
    assert!(!worker.lines().iter().any(|line| line.contains("input was deleted")), "{}", worker.lines().join("\n"));
    worker.stop().await;
}

async fn make_input(installation: &Installation) {
    let spec = TopicSpec {
        name: input(installation),
        partitions: generator::TOPICS[0].1,
        cleanup: Cleanup::Delete { after: Duration::from_secs(24 * 60 * 60) },
        message_bytes_max: 1024 * 1024,
    };
    installation.log.ensure_topics(&[spec]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_of_the_work_list_that_are_gone_are_counted_and_the_rest_is_done() {
    const PEOPLE: usize = 12;
    let operator = Operator::new();
    let (installation, worker) = settled(PEOPLE).await;
    let outage = json!({ "windows": [{ "from": "0s", "lasts": "1h", "fault": { "instead": { "kind": "status", "status": 503 } } }] });
    installation.sandbox.misbehave(&outage).await;
    let mut observer = installation.observe().await;
    publish(&installation, 0..PEOPLE, "updated").await;
    observer.decided(2 * PEOPLE).await;
    worker.stop().await;
    operator.truncate(&installation, &installation.topics().versions).await;
    installation.sandbox.misbehave(&json!({})).await;

    let mut worker = installation.start("worker-1").await;
    worker.says(&["ERROR", "entries of the work list were deleted", "resync the CRM"]).await;
    assert!(worker.metric("entries_lost_total").await >= 1.0);
    publish(&installation, 0..PEOPLE, "changed").await;
    told(&installation, PEOPLE, "changed").await;
    worker.stop().await;

    // It ends before what was committed, as after a broker that lost the end of it.
    commit_beyond(&installation.group(VENUES), &installation.versions(0)).await;
    let mut worker = installation.start("worker-1").await;
    worker.says(&["ERROR", "entries of the work list were deleted", "resync the CRM"]).await;
    publish(&installation, 0..PEOPLE, "extended").await;
    told(&installation, PEOPLE, "extended").await;
    worker.stop().await;
}

/// Commits an offset where nothing is.
async fn commit_beyond(group: &str, at: &TopicPartition) {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", bootstrap_servers()).set("group.id", group).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&at.topic, at.partition.try_into().unwrap(), rdkafka::Offset::Offset(1_000)).unwrap();
    // As long as the group has a member, a stranger's offsets are refused.
    eventually("the offset is committed", PATIENCE, async || consumer.commit(&list, CommitMode::Sync).ok()).await;
}

// ---------------------------------------------------------------- a broker that is away, groups forgotten, partitions added

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_down_at_the_start_is_waited_for_in_few_words() {
    let (installation, proxy) = Installation::with_lines_to_cut(REQUEST_DEADLINE).await;
    proxy.cut(&installation.client_id("worker-1"));
    let mut worker = installation.launch("worker-1").await;
    worker
        .says(&["WARN", "the worker waits for the log: start the broker, or correct log.kafka.bootstrap_servers"])
        .await;
    assert!(worker.is_ready().await.is_none());
    // A while in which it waits, not one in which something must happen.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let lines = worker.lines();
    assert!(lines.len() < 15, "{}", lines.join("\n"));
    proxy.mend(&installation.client_id("worker-1"));
    eventually("the worker is ready", PATIENCE, async || worker.is_ready().await).await;
    publish(&installation, 0..3, "created").await;
    told(&installation, 3, "created").await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_whose_offsets_expired_begin_anew_and_repeat_nothing() {
    const PEOPLE: usize = 12;
    let operator = Operator::new();
    let (installation, worker) = settled(PEOPLE).await;
    worker.stop().await;
    let calls = installation.sandbox.calls().await;
    operator.forget_group(&installation.group_of_resolver()).await;
    for crm in CRMS {
        operator.forget_group(&installation.group(crm)).await;
    }
    let worker = installation.start("worker-1").await;
    let mut observer = installation.observe().await;
    publish(&installation, PEOPLE..PEOPLE + 1, "created").await;
    observer.settled(PEOPLE + 1).await;
    for (now, before) in installation.sandbox.calls().await.into_iter().zip(calls) {
        // Whatever it takes to make one contact, and that alone.
        assert_eq!(now.1 - before.1, 1, "{now:?} after {before:?}");
    }
    worker.stop().await;
    crate::installation::assert_promises(&observer.conclude(0).await, &[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_added_to_an_input_topic_are_read_from_their_beginning() {
    let (installation, worker) = settled(1).await;
    let grown = generator::TOPICS[0].1 + 2;
    Operator::new().grow(&input(&installation), grown.try_into().unwrap()).await;
    let at = TopicPartition::new(input(&installation), grown - 1);
    // Written before anybody can have noticed the partition.
    let data = person(0, "from afar");
    eventually("the partition takes records", PATIENCE, async || {
        // A client that knew the topic before takes a while to hear of it.
        let log = KafkaLog::new(settings_of_log("grown")).unwrap();
        log.append(vec![change(at.clone(), SHOP, "far", "created", &data)]).await.ok()
    })
    .await;
    told(&installation, 1, "from afar").await;
    worker.stop().await;
}

// ---------------------------------------------------------------- too large

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_to_read_or_to_bury_is_told_and_holds_up_nobody() {
    let (installation, mut worker) = settled(1).await;
    // A producer of another team's, with limits of its own, and a topic that takes more than ours do.
    let directory = installation.input(generator::TOPICS[1].0);
    alter(&directory, "max.message.bytes", "8388608");
    let at = TopicPartition::new(directory, 0);
    let incompressible = |bytes: usize| -> Vec<u8> { (0..bytes).map(|_| rand::random()).collect() };
    let mut huge = change(at.clone(), SHOP, "huge", "created", &Value::Null);
    huge.value = Some(incompressible(6 << 20).into());
    let mut large = change(at.clone(), SHOP, "large", "created", &Value::Null);
    large.value = Some(incompressible(300 << 10).into());
    append_at_large(vec![huge, large]).await;
    let mut observer = installation.observe().await;
    publish(&installation, 1..2, "created").await;
    observer.settled(4).await;
    worker.says(&["ERROR", "too large even for the dead letters", "quarantined there without its body"]).await;
    let letters: BTreeMap<Offset, (String, usize)> = observer
        .evidence()
        .dead_letters
        .iter()
        .map(|letter| (letter.offset, (letter.code.to_string(), letter.value.as_ref().map_or(0, |value| value.len()))))
        .collect();
    assert_eq!(
        letters.into_values().collect::<Vec<_>>(),
        [("too_large".to_owned(), 0), ("too_large".to_owned(), 300 << 10)]
    );
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_whose_messages_were_made_smaller_is_named_with_the_setting() {
    let (installation, worker) = settled(1).await;
    let topic = installation.topics().links(VENUES.name);
    alter(&topic, "max.message.bytes", "200");
    publish(&installation, 1..2, "created").await;
    let said = worker.end().await;
    assert!(said.contains(&format!("raise max.message.bytes of {topic}")), "{said}");
    let said = installation.launch("worker-1").await.end().await;
    assert!(said.contains(&format!("topic {topic}: max.message.bytes is 200")), "{said}");
    alter(&topic, "max.message.bytes", "4194304");
    let worker = installation.start("worker-1").await;
    told(&installation, 2, "created").await;
    worker.stop().await;
}

/// Changes one setting of a topic and keeps the others, which the client library cannot.
fn alter(topic: &str, setting: &str, value: &str) {
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kafka/kafka.sh");
    let mut command = std::process::Command::new(script);
    command.args(["configs", "--alter", "--entity-type", "topics", "--entity-name", topic]);
    command.arg("--add-config").arg(format!("{setting}={value}"));
    command.env("KAFKA_PORT", crate::port().to_string());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Appends as a producer that takes larger messages than ours.
async fn append_at_large(records: Vec<NewRecord>) {
    use rdkafka::{
        message::{Header as NativeHeader, OwnedHeaders},
        producer::{BaseProducer, BaseRecord, Producer},
    };
    let sending = move || {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap_servers())
            .set("message.max.bytes", "8000000")
            .create()
            .unwrap();
        for NewRecord { to, key, value, headers } in &records {
            let headers = headers.iter().fold(OwnedHeaders::new(), |headers, Header { name, value }| {
                headers.insert(NativeHeader { key: name, value: Some(value.as_ref()) })
            });
            let record = BaseRecord::to(&to.topic)
                .partition(to.partition.try_into().unwrap())
                .key(key.as_deref().unwrap())
                .payload(value.as_deref().unwrap())
                .headers(headers);
            producer.send(record).unwrap();
        }
        producer.flush(PATIENCE).unwrap();
    };
    tokio::task::spawn_blocking(sending).await.unwrap();
}

// ---------------------------------------------------------------- a newer program

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_a_newer_program_is_refused_in_each_topic_and_left_as_it_is() {
    let (installation, worker) = settled(1).await;
    worker.stop().await;
    let names = installation.topics();
    for (number, topic) in
        [names.links(VENUES.name), names.records, names.keys, names.resolver, names.versions].into_iter().enumerate()
    {
        let last = last_of(&installation, &topic).await;
        let known = String::from_utf8(last.value.as_ref().unwrap().to_vec()).unwrap();
        let newer = known.replace(r#""format":1"#, r#""format":2"#);
        assert_ne!(newer, known, "{topic}");
        rewrite(&installation, &last, &newer).await;
        publish(&installation, 0..1, &format!("updated-{number}")).await;
        let said = installation.launch("worker-1").await.end().await;
        assert!(
            said.contains("layout 2") && said.contains("update it") || said.contains("use the newer program"),
            "{topic}: {said}"
        );
        let of_key = async || {
            let read = read_all(&installation.log, &last.at).await.into_iter();
            read.filter(|record| record.key == last.key).collect::<Vec<_>>()
        };
        if topic == installation.topics().versions {
            // Others come behind it; nobody goes past it.
            let is_newer = |record: &Record| record.value.as_deref() == Some(newer.as_bytes());
            let offset = of_key().await.into_iter().find(is_newer).unwrap().offset;
            for crm in CRMS {
                let group = installation.group(crm);
                let committed = installation.log.committed(&group, &last.at, Isolation::ReadCommitted).await.unwrap();
                assert!(committed.is_none_or(|committed| committed.offset <= offset), "{group} went on");
            }
            return;
        }
        let kept = of_key().await.pop().and_then(|record| record.value);
        assert!(kept.as_deref() == Some(newer.as_bytes()), "{topic} was overwritten");
        rewrite(&installation, &last, &known).await;
    }
}

/// The newest record of a topic that is not about the topic.
async fn last_of(installation: &Installation, topic: &Arc<str>) -> Record {
    let partitions = installation.log.partitions(topic).await.unwrap().unwrap();
    let mut newest: Option<Record> = None;
    for partition in 0..partitions {
        let read = read_all(&installation.log, &TopicPartition::new(topic.clone(), partition)).await;
        let ours =
            |record: &Record| record.value.is_some() && !record.key.as_deref().unwrap_or_default().starts_with(b"#");
        let last = read.into_iter().rfind(ours);
        if last.as_ref().map(|last| last.timestamp) > newest.as_ref().map(|newest| newest.timestamp) {
            newest = last;
        }
    }
    newest.unwrap_or_else(|| panic!("nothing is in {topic}"))
}

async fn rewrite(installation: &Installation, record: &Record, value: &str) {
    let record = NewRecord {
        to: record.at.clone(),
        key: record.key.clone(),
        value: Some(value.to_owned().into()),
        headers: record.headers.clone(),
    };
    installation.log.append(vec![record]).await.unwrap();
}

// ---------------------------------------------------------------- a rebalance among commits

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebalance_among_commits_costs_few_of_them_and_repeats_no_call() {
    const PEOPLE: usize = 600;
    /// For each of two rebalances, a few for each of the three loops that commit.
    const REFUSED_MAX: f64 = 30.0;
    let installation = Installation::new(REQUEST_DEADLINE).await;
    let first = installation.start("worker-1").await;
    let mut observer = installation.observe().await;
    publish(&installation, 0..PEOPLE / 2, "created").await;
    observer.outcomes(PEOPLE / 4).await;
    let second = installation.launch("worker-2").await;
    publish(&installation, PEOPLE / 2..PEOPLE, "created").await;
    eventually("the other worker is ready", PATIENCE, async || second.is_ready().await).await;
    publish(&installation, 0..PEOPLE, "updated").await;
    observer.outcomes(PEOPLE * 2 + PEOPLE / 4).await;
    let failed = first.metric("transactions_failed_total").await + second.metric("transactions_failed_total").await;
    second.stop().await;
    observer.settled(2 * PEOPLE).await;
    let all = failed + first.metric("transactions_failed_total").await;
    eprintln!("  {failed} transactions failed with both, {all} counted until the other had left");
    assert!(all <= REFUSED_MAX, "{all} transactions failed");
    first.stop().await;
    crate::installation::assert_promises(&observer.conclude(0).await, &[]);
}
