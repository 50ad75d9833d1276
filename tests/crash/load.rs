//! Three sources that tell of the same people, by HTTP, each as a careful sender: a batch is sent until it is accepted,
//! and only then the next.
//!
//! A batch speaks of each subject once, and a source's batches never overtake each other. So when a batch is sent again
//! because an answer was lost, each event in it is still the last that its source said of its subject, and a repeat can
//! be told by everybody for what it is.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use contact_replicator::cli::demo::checks::{EventName, Sending};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::processes::{Answer, exchange};

/// Names and `source` attributes of those who speak.
pub(crate) const SOURCES: [(&str, &str); 3] = [
    ("shop", "https://shop.example.com"),
    ("billing", "https://billing.example.com"),
    ("desk", "https://desk.example.com"),
];
/// People whom all sources may come to know, under the same e-mail address.
const PEOPLE: usize = 400;
/// The header of a batch of events.
pub(crate) const HEADER: &str = "content-type: application/cloudevents-batch+json\r\n";
const BATCH_MAX: usize = 12;
const PAUSE: Duration = Duration::from_millis(90);
/// How long a sender waits before it tries again.
const AGAIN: Duration = Duration::from_millis(30);
const FAMILY_NAMES: [&str; 6] = ["Abel", "Costa", "Eriksen", "García", "Novak", "Sundström"];

/// Where events are taken at present; `None` while nobody knows.
pub(crate) type Ingest = Arc<Mutex<Option<SocketAddr>>>;

/// What the senders know of their events.
pub(crate) type Sent = BTreeMap<EventName, Sending>;

pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    senders: Vec<JoinHandle<Sent>>,
}

impl Load {
    pub(crate) fn start(seed: u64, ingest: Ingest) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let sender = |index| Sender {
            source: index,
            random: StdRng::seed_from_u64(seed * 100 + index as u64),
            known: BTreeMap::new(),
            events: 0,
            ingest: Arc::clone(&ingest),
        };
        let senders = (0..SOURCES.len()).map(|index| tokio::spawn(sender(index).run(Arc::clone(&stop)))).collect();
        Self { stop, senders }
    }

    /// Returns once every batch that was begun is accepted.
    pub(crate) async fn stop(self) -> Sent {
        self.stop.store(true, Ordering::Relaxed);
        let mut sent = Sent::new();
        for sender in self.senders {
            sent.extend(sender.await.unwrap());
        }
        sent
    }
}

/// What a source knows of one of its subjects.
#[derive(Debug, Default)]
struct Known {
    live: bool,
    sequence: u64,
}

struct Sender {
    source: usize,
    random: StdRng,
    known: BTreeMap<usize, Known>,
    events: usize,
    ingest: Ingest,
}

impl Sender {
    async fn run(mut self, stop: Arc<AtomicBool>) -> Sent {
        let mut sent = Sent::new();
        loop {
            let batch = self.batch();
            let body = Value::Array(batch.clone()).to_string();
            let mut tries = 0;
            while !self.try_send(&body, &mut tries).await {
                tokio::time::sleep(AGAIN).await;
            }
            for event in batch {
                let text = |name: &str| event[name].as_str().unwrap().to_owned();
                sent.insert((text("source"), text("id")), Sending { times_sent: tries, times_accepted: 1 });
            }
            if stop.load(Ordering::Relaxed) {
                return sent;
            }
            // A pace, so that a minute is a load and not a flood.
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether the batch was accepted. Whatever is no answer may have arrived all the same.
    async fn try_send(&self, body: &str, tries: &mut usize) -> bool {
        let address = *self.ingest.lock();
        let Some(address) = address else {
            return false;
        };
        *tries += 1;
        match exchange(address, "POST", "/events", HEADER, body.as_bytes()).await {
            Ok(Answer { status: 202, .. }) => true,
            Ok(Answer { status: 429 | 503, .. }) | Err(_) => false,
            Ok(answer) => panic!("refused for good with {}: {}", answer.status, answer.text()),
        }
    }

    fn batch(&mut self) -> Vec<Value> {
        let size = self.random.random_range(1..=BATCH_MAX);
        let mut batch: BTreeMap<usize, Value> = BTreeMap::new();
        while batch.len() < size {
            // Some are talked of much more than others.
            let share: f64 = self.random.random();
            let person = (share * share * PEOPLE as f64) as usize;
            batch.entry(person).or_insert_with(|| self.event(person));
        }
        batch.into_values().collect()
    }

    fn event(&mut self, person: usize) -> Value {
        let (name, uri) = SOURCES[self.source];
        let was_live = self.known.get(&person).is_some_and(|known| known.live);
        let (verb, data) = match self.random.random_range(0..100) {
            _ if !was_live => ("created", Some(self.document(person))),
            0..50 => ("updated", Some(self.document(person))),
            50..88 => ("patched", Some(self.patch())),
            _ => ("deleted", None),
        };
        let known = self.known.entry(person).or_default();
        (known.live, known.sequence) = (verb != "deleted", known.sequence + 1);
        self.events += 1;
        let mut event = json!({
            "specversion": "1.0", "id": format!("{name}-{}", self.events), "source": uri,
            "type": format!("com.example.contact.{verb}.v1"), "subject": format!("{name}-{person}"),
            "sequence": known.sequence.to_string(),
        });
        if let Some(data) = data {
            event["data"] = data;
        }
        event
    }

    /// Complete enough for every CRM.
    fn document(&mut self, person: usize) -> Value {
        let mut document = json!({
            "name": { "givenName": "Ada", "familyName": self.family_name() },
            "emails": [{ "value": format!("person{person}@example.com"), "primary": true }],
            "phoneNumbers": self.telephones(),
        });
        if self.random.random_bool(0.3) {
            document["organization"] = json!({ "name": "Old Mill", "title": "Buyer" });
        }
        document
    }

    fn family_name(&mut self) -> &'static str {
        FAMILY_NAMES[self.random.random_range(0..FAMILY_NAMES.len())]
    }

    fn telephones(&mut self) -> Value {
        // A range that is kept free for fiction.
        json!([{ "value": format!("+447700900{:03}", self.random.random_range(0..1_000)), "type": "mobile" }])
    }

    fn patch(&mut self) -> Value {
        match self.random.random_range(0..6) {
            0 => json!({ "name": { "familyName": self.family_name() } }),
            1 => json!({ "phoneNumbers": self.telephones() }),
            2 => json!({ "organization": null }),
            3 => json!({ "consent": { "marketing": self.random.random_bool(0.5) } }),
            4 => json!({ "notes": format!("note {}", self.random.random_range(0..1_000)) }),
            _ => json!({ "attributes": { "debtor_number": format!("D{}", self.random.random_range(0..1_000)) } }),
        }
    }
}
