//! Changes at a steady pace, from outside and through everything.
//!
//! The producer is an ordinary one of the client library, idempotent and without an end to its patience, so that each
//! record arrives once and in order however often the broker goes away. What the broker acknowledged counts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use contact_replicator::cli::demo::generator::Generated;
use rdkafka::{
    ClientConfig, ClientContext,
    message::{DeliveryResult, Header, OwnedHeaders},
    producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer},
};
use tokio::{task::JoinHandle, time::Instant};

use crate::settings::Written;

/// How often what is due by then is sent.
const BEAT: Duration = Duration::from_millis(20);
/// How long the last records may take once the broker is back.
const FLUSH: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Counts {
    acknowledged: AtomicUsize,
    failed: AtomicUsize,
}

struct Deliveries(Arc<Counts>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let count = if result.is_ok() { &self.0.acknowledged } else { &self.0.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    sending: JoinHandle<(usize, ThreadedProducer<Deliveries>)>,
}

impl Load {
    /// Sends `stream` at so many events a second.
    pub(crate) fn start(servers: &str, instance: &str, stream: Arc<[Generated]>, per_second: u32) -> Self {
        let counts = Arc::<Counts>::default();
        let producer: ThreadedProducer<Deliveries> = ClientConfig::new()
            .set("bootstrap.servers", servers)
            .set("client.id", "load")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", "0")
            // With several under way while a partition changes its leader, a later batch may come first. The producer then
            // begins a new sequence, and sends again what the old leader may have taken.
            .set("max.in.flight", "1")
            .set("linger.ms", "0")
            .set("reconnect.backoff.max.ms", "200")
            .set_log_level(rdkafka::config::RDKafkaLogLevel::Emerg)
            .create_with_context(Deliveries(Arc::clone(&counts)))
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (instance, told) = (instance.to_owned(), Arc::clone(&stop));
        let sending = tokio::spawn(async move {
            let begun = Instant::now();
            let mut sent = 0;
            while sent < stream.len() && !told.load(Ordering::Relaxed) {
                let due = (begun.elapsed().as_secs_f64() * f64::from(per_second)) as usize;
                for event in &stream[sent..due.clamp(sent, stream.len())] {
                    send(&producer, &instance, event);
                    sent += 1;
                }
                tokio::time::sleep(BEAT).await;
            }
            (sent, producer)
        });
        Self { stop, counts, sending }
    }

    /// Stops, and returns how many the broker took once it has taken them all.
    pub(crate) async fn stop(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let (sent, producer) = self.sending.await.unwrap();
        tokio::task::spawn_blocking(move || producer.flush(FLUSH)).await.unwrap().unwrap();
        assert_eq!(self.counts.failed.load(Ordering::Relaxed), 0, "the broker refused events");
        let acknowledged = self.counts.acknowledged.load(Ordering::Relaxed);
        assert_eq!(acknowledged, sent, "each event is acknowledged");
        acknowledged
    }
}

/// Its queue has room for more than a run sends.
fn send(producer: &ThreadedProducer<Deliveries>, instance: &str, event: &Generated) {
    let record = &event.record;
    let topic = Written::input(instance, &record.to.topic);
    let mut headers = OwnedHeaders::new();
    for header in &record.headers {
        headers = headers.insert(Header { key: &header.name, value: Some(header.value.as_ref()) });
    }
    let mut sent = BaseRecord::to(&topic).partition(record.to.partition.try_into().unwrap()).headers(headers);
    (sent.key, sent.payload) = (record.key.as_deref(), record.value.as_deref());
    producer.send(sent).map_err(|(error, _)| error).unwrap();
}
