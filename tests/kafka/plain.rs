//! A service that knows nothing of us: the client library as its manual shows it.
//!
//! It shares no code with the program, so that both could not be wrong together about what is committed, or about where a
//! record with a key belongs.

use std::{collections::BTreeSet, time::Duration};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{Header, Headers, OwnedHeaders, OwnedMessage},
    producer::{BaseProducer, BaseRecord, Producer},
};
use serde_json::Value;
use tokio::{task::spawn_blocking, time::Instant};

use crate::{bootstrap_servers, installation::PATIENCE};

/// How long one question may take.
const QUESTION: Duration = Duration::from_secs(20);

/// Every committed record of a topic up to what is its end now, partition by partition.
pub(crate) async fn read_committed(topic: &str) -> Vec<OwnedMessage> {
    let topic = topic.to_owned();
    spawn_blocking(move || read(&topic)).await.unwrap()
}

fn consumer(isolation: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap_servers())
        .set("group.id", "plain-reader")
        .set("isolation.level", isolation)
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .create()
        .unwrap()
}

fn read(topic: &str) -> Vec<OwnedMessage> {
    let reader = consumer("read_committed");
    // The other kind of reader knows the true end; this one would be told the last stable offset.
    let surveyor = consumer("read_uncommitted");
    let metadata = surveyor.fetch_metadata(Some(topic), QUESTION).unwrap();
    let partitions: Vec<i32> = metadata.topics()[0].partitions().iter().map(|partition| partition.id()).collect();
    assert!(!partitions.is_empty(), "there is no topic {topic}");
    let (mut list, mut open) = (TopicPartitionList::new(), Vec::new());
    for partition in partitions {
        let (low, high) = surveyor.fetch_watermarks(topic, partition, QUESTION).unwrap();
        if low < high {
            list.add_partition_offset(topic, partition, Offset::Offset(low)).unwrap();
            open.push((partition, high));
        }
    }
    reader.assign(&list).unwrap();
    let (deadline, mut read) = (Instant::now() + PATIENCE, Vec::new());
    while !open.is_empty() {
        assert!(Instant::now() < deadline, "{topic} was not read to its end: {open:?} are missing");
        match reader.poll(Duration::from_millis(100)) {
            Some(Ok(message)) => {
                read.push(message.detach());
                continue;
            }
            Some(Err(KafkaError::PartitionEOF(_))) | None => {}
            Some(Err(error)) => panic!("{topic} cannot be read: {error}"),
        }
        // What is left of a partition may be nothing but the markers of transactions, which only a position tells.
        let positions = reader.position().unwrap();
        open.retain(|(partition, high)| {
            let position = positions.find_partition(topic, *partition).map(|found| found.offset());
            !matches!(position, Some(Offset::Offset(offset)) if offset >= *high)
        });
    }
    read.sort_by_key(|message| (message.partition(), message.offset()));
    read
}

/// An event as a service would have it.
#[derive(Debug, Clone)]
pub(crate) struct PlainEvent {
    pub(crate) key: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) value: Vec<u8>,
}

/// Sends events; the partitioner is that of all clients but librdkafka's default.
pub(crate) async fn produce(topic: &str, events: Vec<PlainEvent>) {
    let topic = topic.to_owned();
    let sending = move || {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap_servers())
            .set("partitioner", "murmur2_random")
            .create()
            .unwrap();
        for PlainEvent { key, headers, value } in &events {
            let headers = headers.iter().fold(OwnedHeaders::new(), |headers, (name, value)| {
                headers.insert(Header { key: name, value: Some(value) })
            });
            producer.send(BaseRecord::to(&topic).key(key).payload(value).headers(headers)).unwrap();
        }
        producer.flush(QUESTION).unwrap();
    };
    spawn_blocking(sending).await.unwrap();
}

/// What a record is to a reader. The order of headers means nothing.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Told {
    partition: i32,
    key: Option<Vec<u8>>,
    headers: BTreeSet<(String, Option<Vec<u8>>)>,
    value: Option<Vec<u8>>,
}

impl Told {
    pub(crate) fn by(message: &OwnedMessage) -> Self {
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        Self {
            partition: message.partition(),
            key: message.key().map(<[u8]>::to_vec),
            headers: headers.map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect(),
            value: message.payload().map(<[u8]>::to_vec),
        }
    }
}

/// A header as text.
pub(crate) fn header<'a>(message: &'a OwnedMessage, name: &str) -> Option<&'a str> {
    let found = message.headers()?.iter().find(|header| header.key == name)?;
    std::str::from_utf8(found.value?).ok()
}

/// The JSON of each record, without records that are about the topic itself.
pub(crate) fn documents(messages: &[OwnedMessage]) -> Vec<Value> {
    let about_the_topic = |message: &&OwnedMessage| message.key().is_some_and(|key| key.starts_with(b"#"));
    let told = messages.iter().filter(|message| !about_the_topic(message));
    told.map(|message| serde_json::from_slice(message.payload().unwrap()).unwrap()).collect()
}
