//! The yardstick: a consumer and a client that post each event to the CRM as it stands, in order for each contact, commit
//! what they have read now and then, and promise nothing.
//!
//! The events are in the CRM's own words already. What the loop reaches on a machine is what the broker, the client
//! libraries and the simulated CRM allow there.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rdkafka::{
    ClientConfig, Message,
    consumer::{BaseConsumer, Consumer},
};
use reqwest::{Client, StatusCode};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use crate::processes::TOKEN;

/// Events that may wait for an earlier one of their contact, as many as the worker may hold unanswered.
const WAITING_MAX: usize = 6_000;
/// Events read ahead.
const AHEAD_MAX: usize = 1_000;
const DEADLINE: Duration = Duration::from_secs(10);

type Event = (Bytes, Bytes);

/// Posts the first `events` of `topic` and returns the time from the first answer to the last.
pub(crate) async fn run(servers: &str, topic: &str, url: String, events: usize, in_flight_max: usize) -> Duration {
    let mut incoming = consume(servers, topic);
    let client = client();
    let mut waiting: HashMap<Bytes, VecDeque<Bytes>> = HashMap::new();
    let (mut waits, mut answered, mut first) = (0, 0, None);
    let mut in_flight = JoinSet::new();
    while answered < events {
        tokio::select! {
            Some((contact, body)) = incoming.recv(), if in_flight.len() < in_flight_max && waits < WAITING_MAX => {
                if let Some(behind) = waiting.get_mut(&contact) {
                    behind.push_back(body);
                    waits += 1;
                } else {
                    waiting.insert(contact.clone(), VecDeque::new());
                    in_flight.spawn(post(client.clone(), url.clone(), contact, body));
                }
            }
            Some(ended) = in_flight.join_next() => {
                let contact = ended.expect("a request does not panic");
                answered += 1;
                first.get_or_insert_with(Instant::now);
                match waiting.get_mut(&contact).and_then(VecDeque::pop_front) {
                    Some(body) => {
                        waits -= 1;
                        in_flight.spawn(post(client.clone(), url.clone(), contact, body));
                    }
                    None => {
                        waiting.remove(&contact);
                    }
                }
            }
        }
    }
    first.expect("there are events").elapsed()
}

/// Stops being read with the receiver.
fn consume(servers: &str, topic: &str) -> mpsc::Receiver<Event> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", servers)
        .set("group.id", format!("{topic}-loop"))
        .set("enable.auto.commit", "true")
        .set("auto.commit.interval.ms", "1000")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let (events, incoming) = mpsc::channel(AHEAD_MAX);
    let stopped = Arc::new(AtomicBool::new(false));
    tokio::spawn({
        let (events, stopped) = (events.clone(), stopped.clone());
        async move {
            events.closed().await;
            stopped.store(true, Ordering::Release);
        }
    });
    std::thread::spawn(move || {
        while !stopped.load(Ordering::Acquire) {
            let Some(message) = consumer.poll(Duration::from_millis(100)) else { continue };
            let message = message.expect("a topic of the benchmark can be read");
            let part = |bytes: Option<&[u8]>| Bytes::copy_from_slice(bytes.expect("an event has a key and a value"));
            if events.blocking_send((part(message.key()), part(message.payload()))).is_err() {
                return;
            }
        }
    });
    incoming
}

fn client() -> Client {
    // Another part of this process may have been first; one is as good as the other.
    let _there = rustls::crypto::ring::default_provider().install_default().is_err();
    Client::builder().no_proxy().timeout(DEADLINE).tls_certs_only(std::iter::empty()).build().unwrap()
}

async fn post(client: Client, url: String, contact: Bytes, body: Bytes) -> Bytes {
    let request = client.post(url).header("content-type", "application/json").header("apitoken", TOKEN).body(body);
    let answer = request.send().await.expect("the simulated CRM answers");
    assert_eq!(answer.status(), StatusCode::OK, "the simulated CRM takes what the loop sends");
    answer.bytes().await.expect("an answer has a body");
    contact
}
