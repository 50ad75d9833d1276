//! What is known of a run beside the demo's evidence: read after it, or kept while it went on.

use std::{collections::BTreeMap, io, net::SocketAddr, time::Duration};

use contact_replicator::{
    cli::demo::{
        checks::{self, EventName, Sending},
        generator::Generated,
    },
    clock::Clock,
    event::Outcome,
    log::{Header, NewRecord, Partition, Record, TopicPartition},
};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    message::Headers,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

use crate::{
    aftermath,
    judge::{Counted, Known},
    world::{PATIENCE, World},
};

/// How often it is looked whether a worker has ended its work.
const LOOK: Duration = Duration::from_millis(5);
/// The metric that counts outcomes, with the name of each label before its value.
const COUNTS: &str = "contact_replicator_outcomes_total{";

/// All of it, once the workers have stopped. `sent` is what the broker acknowledged.
pub(crate) async fn gather(world: &World, sent: &[Generated], digests: [String; 2]) -> Known {
    let topics = world.topics();
    let mut decided = Vec::new();
    for topic in [&topics.records, &topics.versions, &topics.keys] {
        decided.extend(aftermath::records(world, topic).await);
    }
    let state = aftermath::records(world, &topics.resolver).await;
    let (servers, topic, partitions) = (world.brokers.servers(), topics.outcomes.to_string(), world.shape.partitions);
    let uncommitted = tokio::task::spawn_blocking(move || uncommitted(&servers, &topic, partitions)).await.unwrap();
    let processes = world.ended.lock().clone();
    Known {
        sent: names(sent),
        decided,
        state,
        uncommitted,
        processes,
        counted: world.counted.lock().clone(),
        digests: Some(digests),
        ..Known::default()
    }
}

/// How often each event was sent. The producer knows of each that it was taken.
fn names(sent: &[Generated]) -> BTreeMap<EventName, Sending> {
    let mut names: BTreeMap<EventName, Sending> = BTreeMap::new();
    for event in sent {
        let NewRecord { to, key, value, headers } = event.record.clone();
        let record = Record { at: to, offset: 0, timestamp: Clock::System.now(), key, value, headers };
        let sending = names.entry(checks::name_of(&record).unwrap_or_default()).or_default();
        sending.times_sent += 1;
        sending.times_accepted += 1;
    }
    names
}

/// A question for the figures of a worker that is about to end, asked to its first half. It is answered after all else has
/// ended, since a worker waits for the questions that it has been asked.
pub(crate) struct LastQuestion {
    admin: SocketAddr,
    stream: TcpStream,
}

impl LastQuestion {
    pub(crate) async fn begin(admin: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect(admin).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\n").await?;
        Ok(Self { admin, stream })
    }

    /// What the worker committed in its life, once it takes no more questions; `None` if it does not answer.
    pub(crate) async fn end(mut self) -> Option<Counted> {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.admin).await.is_ok() {
            if Instant::now() >= deadline {
                return None;
            }
            tokio::time::sleep(LOOK).await;
        }
        self.stream.write_all(b"host: worker\r\nconnection: close\r\n\r\n").await.ok()?;
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).await.ok()?;
        let (head, metrics) = answer.split_once("\r\n\r\n")?;
        if head.starts_with("HTTP/1.1 200") { counted(metrics) } else { None }
    }
}

/// How many outcomes of each kind the metrics name.
fn counted(metrics: &str) -> Option<Counted> {
    let mut counted = Counted::new();
    for line in metrics.lines().filter_map(|line| line.strip_prefix(COUNTS)) {
        let (labels, value) = line.rsplit_once("} ")?;
        let label = |name: &str| {
            let value = labels.split(',').find_map(|label| label.strip_prefix(name)?.strip_prefix('='))?;
            Some(value.trim_matches('"').to_owned())
        };
        let kind = (label("crm")?, label("outcome")?, label("code")?);
        *counted.entry(kind).or_default() += value.parse::<f64>().ok()? as u64;
    }
    Some(counted)
}

/// The ids of all outcomes in the topic, those of aborted transactions too: a reader of another kind than all of ours.
fn uncommitted(servers: &str, topic: &str, partitions: u32) -> Vec<String> {
    let reader: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", "reader-of-uncommitted-data")
        .set("isolation.level", "read_uncommitted")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let (mut list, mut ends) = (TopicPartitionList::new(), BTreeMap::new());
    for partition in 0..i32::try_from(partitions).unwrap() {
        let (low, high) = reader.fetch_watermarks(topic, partition, PATIENCE).unwrap();
        list.add_partition_offset(topic, partition, Offset::Offset(low)).unwrap();
        if low < high {
            ends.insert(partition, high);
        }
    }
    reader.assign(&list).unwrap();
    let (mut ids, deadline) = (Vec::new(), Instant::now() + PATIENCE);
    while !ends.is_empty() {
        assert!(Instant::now() < deadline, "{topic} was not read to its end: {ends:?}");
        match reader.poll(Duration::from_millis(100)) {
            Some(message) => ids.extend(id_of(&message.unwrap())),
            // What is left of a partition may be nothing but the markers of transactions, which only a position tells.
            None => {
                let positions = reader.position().unwrap();
                ends.retain(|partition, high| {
                    let position = positions.find_partition(topic, *partition).map(|found| found.offset());
                    !matches!(position, Some(Offset::Offset(offset)) if offset >= *high)
                });
            }
        }
    }
    ids
}

/// Of an outcome; the birth of the topic is none.
fn id_of(message: &impl Message) -> Option<String> {
    let headers = message.headers().map(|headers| {
        let header = |at: usize| {
            let header = headers.get(at);
            Header::new(header.key, header.value.unwrap_or_default().to_vec())
        };
        (0..headers.count()).map(header).collect()
    });
    let record = Record {
        at: TopicPartition::new(message.topic(), Partition::try_from(message.partition()).ok()?),
        offset: 0,
        timestamp: Clock::System.now(),
        key: message.key().map(|key| key.to_vec().into()),
        value: message.payload().map(|value| value.to_vec().into()),
        headers: headers.unwrap_or_default(),
    };
    Outcome::decode(&record).ok().map(|outcome| outcome.id())
}
