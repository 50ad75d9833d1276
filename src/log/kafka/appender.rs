//! Appends outside any transaction.
//!
//! One idempotent producer for the process, with a thread that serves it. A call returns when the broker has every
//! record of it, or with the first error.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DeliveryResult, ProducerContext, ThreadedProducer},
};
use tokio::{sync::oneshot, time::Instant};

use super::client::{Connection, Context, Offloaded, Task, WRITE, creation_error, log_error, partition_id};
use crate::log::{LogError, NewRecord};

const TASK: Task = Task::new("appending", WRITE);
/// Longer than the producer's own time-out of a message, so that its answer is the one that is heard.
const DEADLINE: Duration = Duration::from_secs(15);

/// A producer shared by all who append.
pub(super) struct Appender(Offloaded<ThreadedProducer<Deliveries>>);

struct Deliveries(Context);

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

type Delivered = oneshot::Sender<Result<(), KafkaError>>;

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<Delivered>;

    fn delivery(&self, result: &DeliveryResult<'_>, delivered: Box<Delivered>) {
        let result = result.as_ref().map(|_| ()).map_err(|(error, _)| error.clone());
        // An asker that gave up has dropped its end; the record was appended all the same.
        let _gone = delivered.send(result);
    }
}

impl Appender {
    pub(super) fn new(connection: &Connection) -> Result<Self, LogError> {
        let producer = connection.producer().create_with_context(Deliveries(Context::new("append")));
        Ok(Self(Offloaded::new(producer.map_err(|error| creation_error(&error))?)))
    }

    pub(super) async fn append(&self, records: &[NewRecord]) -> Result<(), LogError> {
        let deadline = Instant::now() + DEADLINE;
        let mut deliveries = Vec::with_capacity(records.len());
        for record in records {
            deliveries.push((Arc::clone(&record.to.topic), self.send(record, deadline).await?));
        }
        for (topic, delivery) in deliveries {
            let subject = format!("topic {topic}");
            match tokio::time::timeout_at(deadline, delivery).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => return Err(log_error(TASK, &subject, &error)),
                Ok(Err(_producer_dropped)) => {
                    return Err(log_error(TASK, &subject, &KafkaError::Canceled));
                }
                Err(_too_late) => {
                    return Err(log_error(
                        TASK,
                        &subject,
                        &KafkaError::MessageProduction(RDKafkaErrorCode::MessageTimedOut),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Hands one record to the producer, waiting while its queue is full.
    async fn send(
        &self,
        record: &NewRecord,
        deadline: Instant,
    ) -> Result<oneshot::Receiver<Result<(), KafkaError>>, LogError> {
        loop {
            let (delivered, delivery) = oneshot::channel();
            match self.0.send(native(record, Box::new(delivered))).map_err(|(error, _)| error) {
                Ok(()) => return Ok(delivery),
                Err(KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                Err(error) => {
                    return Err(log_error(TASK, &format!("topic {}", record.to.topic), &error));
                }
            }
        }
    }
}

/// A record in rdkafka's form.
pub(super) fn native<D: rdkafka::util::IntoOpaque>(record: &NewRecord, opaque: D) -> BaseRecord<'_, [u8], [u8], D> {
    let headers = (!record.headers.is_empty()).then(|| {
        record.headers.iter().fold(OwnedHeaders::new_with_capacity(record.headers.len()), |headers, header| {
            headers.insert(Header { key: &header.name, value: Some(header.value.as_ref()) })
        })
    });
    BaseRecord {
        topic: &record.to.topic,
        partition: Some(partition_id(&record.to)),
        payload: record.value.as_deref(),
        key: record.key.as_deref(),
        timestamp: None,
        headers,
        delivery_opaque: opaque,
    }
}
