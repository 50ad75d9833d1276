//! A service that publishes, and one that reads the outcomes: the client library as its manual shows it.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, Headers, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
};
use tokio::{task::spawn_blocking, time::Instant};

use contact_replicator::log::NewRecord;

/// How long the broker may take for the last records.
const FLUSH: Duration = Duration::from_secs(60);
/// How long a client waits for something before it looks around.
const LOOK: Duration = Duration::from_millis(20);

/// When records are sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    AtOnce,
    PerSecond(u32),
}

impl Pace {
    /// When record number `number` is due, since the first.
    fn due(self, number: usize) -> Duration {
        match self {
            Self::AtOnce => Duration::ZERO,
            Self::PerSecond(rate) => Duration::from_secs_f64(number as f64 / f64::from(rate)),
        }
    }
}

/// Sends `records` to their partitions of `topic`, whatever topic they name, and returns when the broker has them all.
pub(crate) async fn publish(
    servers: String,
    topic: String,
    records: impl Iterator<Item = NewRecord> + Send + 'static,
    pace: Pace,
) {
    let publishing = move || {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .create()
            .unwrap();
        let begun = Instant::now();
        for (number, record) in records.enumerate() {
            let due = begun + pace.due(number);
            while let Some(wait) = due.checked_duration_since(Instant::now()).filter(|wait| !wait.is_zero()) {
                producer.poll(wait.min(LOOK));
            }
            send(&producer, &topic, &record);
        }
        producer.flush(FLUSH).unwrap();
        assert_eq!(producer.in_flight_count(), 0, "the broker takes all that is published");
    };
    spawn_blocking(publishing).await.unwrap();
}

fn send(producer: &BaseProducer, topic: &str, record: &NewRecord) {
    let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, header| {
        headers.insert(Header { key: &header.name, value: Some(&header.value[..]) })
    });
    let none = Bytes::new();
    let mut record = BaseRecord::to(topic)
        .partition(record.to.partition.try_into().unwrap())
        .key(&record.key.as_ref().unwrap_or(&none)[..])
        .payload(&record.value.as_ref().unwrap_or(&none)[..])
        .headers(headers);
    loop {
        match producer.send(record) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                producer.poll(LOOK);
                record = again;
            }
            Err((error, _)) => panic!("the broker does not take an event: {error}"),
        }
    }
}

/// What was read of the outcomes so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// Outcomes by their types.
    pub(crate) types: BTreeMap<String, usize>,
    /// Events that have one.
    pub(crate) settled: usize,
    /// When the first and the last of them were published, in milliseconds of the wall clock.
    pub(crate) first_ms: i64,
    pub(crate) last_ms: i64,
}

/// Reads committed outcomes from their beginning, in a thread of its own.
pub(crate) struct Outcomes {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Outcomes {
    /// The topic must be there.
    pub(crate) fn follow(servers: &str, topic: &str, partitions: u32) -> Self {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("group.id", "outcomes")
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition.try_into().unwrap(), Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let (seen, stop) = (Arc::new(Mutex::new(Seen::default())), Arc::new(AtomicBool::new(false)));
        let reading = {
            let (seen, stop) = (seen.clone(), stop.clone());
            move || {
                let mut answered = HashSet::new();
                while !stop.load(Ordering::Acquire) {
                    match consumer.poll(LOOK) {
                        None => {}
                        Some(Ok(message)) => note(&mut seen.lock(), &mut answered, &message),
                        Some(Err(error)) => panic!("the outcomes cannot be read: {error}"),
                    }
                }
            }
        };
        Self { seen, stop, thread: Some(std::thread::spawn(reading)) }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    pub(crate) fn settled(&self) -> usize {
        self.seen.lock().settled
    }
}

impl Drop for Outcomes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let ended = self.thread.take().map(JoinHandle::join);
        if let Some(Err(_panicked)) = ended {
            eprintln!("the reader of outcomes panicked");
        }
    }
}

fn note(seen: &mut Seen, answered: &mut HashSet<String>, message: &impl Message) {
    let headers = message.headers().expect("an outcome has attributes");
    let attribute = |name: &str| {
        let header = headers.iter().find(|header| header.key == name);
        let value = header.and_then(|header| header.value).expect("an outcome says what it is");
        String::from_utf8(value.to_vec()).unwrap()
    };
    let id = attribute("ce_id");
    assert!(answered.insert(id.clone()), "{id} is published twice");
    let at = message.timestamp().to_millis().expect("the broker keeps the time of a record");
    seen.first_ms = if seen.settled == 0 { at } else { seen.first_ms.min(at) };
    seen.last_ms = seen.last_ms.max(at);
    seen.settled += 1;
    *seen.types.entry(attribute("ce_type")).or_default() += 1;
}
