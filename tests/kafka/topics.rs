//! Our topics on a real cluster: made once by whoever comes, births included, and judged as they are.

use std::{collections::BTreeMap, process::Command, sync::Arc, time::Duration};

use contact_replicator::{
    config::{LogKind, Settings},
    log::{Cleanup, Log, LogError, NewRecord, Record, TopicPartition, Transaction, kafka::KafkaLog},
    worker::{Created, create_topics, topic_specs},
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};
use tokio::time::Instant;

use crate::{
    bootstrap_servers,
    conformance::{self, fresh},
    settings as settings_of_log,
};

const BIRTH: &[u8] = b"#birth";
const PARTITIONS: u32 = 3;
const STARTERS: usize = 6;

/// An installation of its own on the shared broker.
fn settings() -> Settings {
    let name = fresh("topics").replace("conformance-", "");
    let mut settings = Settings::reference();
    settings.log.kind = LogKind::Kafka;
    settings.log.kafka = settings_of_log(bootstrap_servers(), &name);
    settings.topics.prefix = format!("{name}.");
    settings.topics.partitions = PARTITIONS;
    settings.instance = name.as_str().into();
    settings
}

fn log(settings: &Settings) -> Arc<KafkaLog> {
    Arc::new(KafkaLog::new(settings.log.kafka.clone()).unwrap())
}

fn compacted(settings: &Settings) -> Vec<TopicPartition> {
    let specs = topic_specs(settings).into_iter().filter(|spec| matches!(spec.cleanup, Cleanup::Compact { .. }));
    specs
        .flat_map(|spec| (0..spec.partitions).map(move |partition| TopicPartition::new(spec.name.clone(), partition)))
        .collect()
}

/// All committed records of the compacted topics.
async fn committed(log: &dyn Log, settings: &Settings) -> BTreeMap<TopicPartition, Vec<Record>> {
    let mut follower = log.follower().await.unwrap();
    let mut unread = BTreeMap::new();
    let mut read: BTreeMap<TopicPartition, Vec<Record>> = BTreeMap::new();
    for at in compacted(settings) {
        follower.assign(at.clone(), 0).await.unwrap();
        let high = log.watermarks(&at).await.unwrap().high;
        read.insert(at.clone(), Vec::new());
        if high > 0 {
            unread.insert(at, high);
        }
    }
    let deadline = Instant::now() + conformance::DEADLINE;
    while !unread.is_empty() {
        assert!(Instant::now() < deadline, "never read to the end: {unread:?}");
        let progress = follower.poll(1_000, Duration::from_millis(100)).await.unwrap();
        for record in progress.records {
            read.get_mut(&record.at).unwrap().push(record);
        }
        for (at, position) in progress.positions {
            unread.retain(|unread, high| *unread != at || position < *high);
        }
    }
    read
}

/// Exactly one record in each partition, which is its birth.
async fn assert_born_once(log: &dyn Log, settings: &Settings) {
    for (at, records) in committed(log, settings).await {
        let keys: Vec<_> = records.iter().map(|record| record.key.clone().unwrap_or_default()).collect();
        assert_eq!(keys, [BIRTH], "{at}");
    }
}

/// Starts several at once, each with clients of its own, and returns what each made.
async fn start_several(settings: &Settings) -> Vec<Created> {
    let starters = (0..STARTERS).map(|_| {
        let (log, settings) = (log(settings), settings.clone());
        tokio::spawn(async move { create_topics(&*log, &settings, &|_unknown| false).await.unwrap() })
    });
    let starters: Vec<_> = starters.collect();
    let mut created = Vec::new();
    for starter in starters {
        created.push(starter.await.unwrap());
    }
    created
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_starters_at_once_each_topic_and_each_birth_is_made_by_one() {
    for _ in 0..3 {
        let settings = settings();
        let created = start_several(&settings).await;
        let mut topics: Vec<_> = created.iter().flat_map(|created| created.topics.clone()).collect();
        topics.sort();
        let mut needed: Vec<_> = topic_specs(&settings).into_iter().map(|spec| spec.name).collect();
        needed.sort();
        assert_eq!(topics, needed);
        let log = log(&settings);
        assert_born_once(&*log, &settings).await;
        let again = create_topics(&*log, &settings, &|_unknown| false).await.unwrap();
        assert_eq!(again, Created::default(), "nothing is missing any more");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_whose_creator_died_before_it_wrote_their_births_get_them_once() {
    for has_begun in [false, true] {
        let settings = settings();
        let log = log(&settings);
        log.ensure_topics(&topic_specs(&settings)).await.unwrap();
        // The creator that died in the middle of its transaction leaves it open.
        let mut dead = log.writer(&format!("{}-topics", settings.instance)).await.unwrap();
        if has_begun {
            let birth = |to| NewRecord { to, key: Some(BIRTH.into()), value: Some("lost".into()), headers: Vec::new() };
            let records = compacted(&settings).into_iter().map(birth).collect();
            dead.prepare(Transaction { records, offsets: None }).await.unwrap();
        }
        let created = start_several(&settings).await;
        let births = created.iter().map(|created| created.births.len()).sum::<usize>();
        assert_eq!(births, compacted(&settings).len(), "begun: {has_begun}");
        assert_born_once(&*log, &settings).await;
        assert!(dead.commit().await.is_err(), "the dead creator is fenced");
        assert_born_once(&*log, &settings).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_was_written_to_gets_no_birth_later() {
    let settings = settings();
    let log = log(&settings);
    log.ensure_topics(&topic_specs(&settings)).await.unwrap();
    let written = compacted(&settings)[0].clone();
    let record = NewRecord { to: written.clone(), key: Some("k".into()), value: Some("v".into()), headers: Vec::new() };
    log.append(vec![record]).await.unwrap();
    let created = create_topics(&*log, &settings, &|_unknown| false).await.unwrap();
    assert!(!created.births.contains(&written));
    assert_eq!(created.births.len(), compacted(&settings).len() - 1);
}

/// Makes a topic as a careless operator might.
async fn make(name: &str, partitions: i32, set: &[(&str, &str)]) {
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", bootstrap_servers()).create().unwrap();
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let topic = set.iter().fold(topic, |topic, (key, value)| topic.set(key, value));
    let options = AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)));
    admin.create_topics([&topic], &options).await.unwrap().into_iter().next().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_tells_all_that_is_wrong_with_our_topics_at_once() {
    let settings = settings();
    let specs = topic_specs(&settings);
    let (records, versions) = (&specs[0].name, &specs[2].name);
    make(records, 5, &[("cleanup.policy", "compact,delete"), ("delete.retention.ms", "1000")]).await;
    make(versions, 3, &[("cleanup.policy", "compact"), ("retention.ms", "60000"), ("max.message.bytes", "1000")]).await;
    let log = log(&settings);
    let error = create_topics(&*log, &settings, &|_unknown| false).await.unwrap_err();
    let LogError::Topics(differences) = error else { panic!("{error}") };
    let told: Vec<_> =
        differences.0.iter().map(|difference| (difference.topic.clone(), difference.key, &*difference.found)).collect();
    let default_bytes = "1048588";
    let expected = [
        (records.clone(), "partitions", "5"),
        (records.clone(), "cleanup.policy", "compact,delete"),
        (records.clone(), "delete.retention.ms", "1000"),
        (records.clone(), "max.message.bytes", default_bytes),
        (versions.clone(), "cleanup.policy", "compact"),
        (versions.clone(), "retention.ms", "60000"),
        (versions.clone(), "max.message.bytes", "1000"),
    ];
    assert_eq!(told, expected);
    for difference in &differences.0[1..] {
        let arguments = format!("--entity-name {} --add-config {}=", difference.topic, difference.key);
        assert!(difference.remedy.contains(&arguments), "{difference}");
    }
    let written = committed(&*log, &settings).await;
    assert!(written.values().all(Vec::is_empty), "nothing is written before all is as needed");
}

/// What the command prints as JSON, and its exit code.
fn topics_command(config: &std::path::Path, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_contact-replicator"))
        .args(["topics", "--config"])
        .arg(config)
        .args(arguments)
        .env("CONTACT_REPLICATOR_SECRET", "0123456789abcdef0123456789abcdef")
        .env("PRIAVA_API_TOKEN", "unused")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_tells_creates_and_checks() {
    let settings = settings();
    let prefix = settings.topics.prefix.clone();
    let input = format!("{prefix}input");
    make(&input, 2, &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("settings.toml");
    let text = format!(
        r#"
        instance = "{instance}"
        [worker]
        data = "{data}"
        [log.kafka]
        bootstrap_servers = "{servers}"
        [topics]
        prefix = "{prefix}"
        partitions = 3
        [[input.topics]]
        name = "{input}"
        [[crm]]
        name = "priava"
        kind = "priava"
        base_url = "http://127.0.0.1:1"
        "#,
        instance = settings.instance,
        data = folder.path().display(),
        servers = bootstrap_servers(),
    );
    std::fs::write(&config, text).unwrap();

    let (code, told) = topics_command(&config, &[]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("MISSING: who our contacts are") && told.contains(&input), "{told}");
    let (code, told) = topics_command(&config, &["--check"]);
    assert!(code == 1 && told.contains("it is missing; create it with contact-replicator topics --create"), "{told}");
    let (code, told) = topics_command(&config, &["--create"]);
    assert!(code == 0 && told.contains(&format!("created topic {prefix}contact-links.priava")), "{told}");
    assert!(told.contains("wrote the birth records of 10 partitions"), "{told}");
    let (code, told) = topics_command(&config, &["--create"]);
    assert_eq!((code, &*told), (0, "nothing was missing\n"));
    let (code, told) = topics_command(&config, &["--check"]);
    assert_eq!(code, 0, "{told}");
    let (code, told) = topics_command(&config, &["--check", "--json"]);
    assert_eq!(code, 0, "{told}");
    let json: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert!(json["topics"].as_array().unwrap().iter().all(|topic| topic["found"]["replicas"] == 1), "{told}");
}
