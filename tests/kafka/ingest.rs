//! Events over HTTP, on a real broker: nobody who reads the topic can tell them from a producer's.

use std::{collections::BTreeSet, time::Duration};

use contact_replicator::cli::demo::generator;
use rdkafka::Message;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    end_to_end::assert_readable,
    installation::{Answer, CRMS, Installation, PATIENCE, Worker, assert_promises, eventually},
    plain::{self, PlainEvent, Told},
};

const SOURCE: &str = generator::SOURCES[0].1;
/// Subjects, some of which are not plain ASCII.
const SUBJECTS: [&str; 6] = ["shop-1", "shop 2", "größe-3", "4", "a/b?c=5", "shop-6"];

fn data(number: usize) -> Value {
    json!({"name": {"givenName": "Ilka", "familyName": "Sørensen"}, "emails": [{"value": format!("a{number}@example.com")}],
        "phoneNumbers": [{"value": format!("+447700900{number:03}"), "type": "mobile"}]})
}

fn attributes(number: usize, subject: &str) -> [(&'static str, String); 5] {
    [
        ("specversion", "1.0".to_owned()),
        ("id", format!("e-{number}")),
        ("source", SOURCE.to_owned()),
        ("type", "com.example.contact.created.v1".to_owned()),
        ("subject", subject.to_owned()),
    ]
}

fn structured(number: usize, subject: &str) -> String {
    let mut event: serde_json::Map<String, Value> =
        attributes(number, subject).into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    event.insert("data".to_owned(), data(number));
    Value::Object(event).to_string()
}

/// What a producer sends in each mode.
fn as_produced(binary: bool, number: usize, subject: &str) -> PlainEvent {
    let key = subject.to_owned();
    if !binary {
        let headers = vec![("content-type".to_owned(), "application/cloudevents+json".to_owned())];
        return PlainEvent { key, headers, value: structured(number, subject).into_bytes() };
    }
    let mut headers: Vec<(String, String)> =
        attributes(number, subject).into_iter().map(|(name, value)| (format!("ce_{name}"), value)).collect();
    headers.push(("content-type".to_owned(), "application/json".to_owned()));
    PlainEvent { key, headers, value: data(number).to_string().into_bytes() }
}

/// The same over HTTP.
async fn post(worker: &Worker, binary: bool, number: usize, subject: &str) -> Answer {
    if !binary {
        let headers = "content-type: application/cloudevents+json\r\n";
        return worker.post("/events", headers, structured(number, subject).as_bytes()).await;
    }
    let mut headers = "content-type: application/json\r\n".to_owned();
    for (name, value) in attributes(number, subject) {
        // As the HTTP binding has it: what is not printable ASCII, and what would end a value, is percent-encoded.
        let value: String = value
            .bytes()
            .map(|byte| match byte {
                b'!' | b'#'..=b'$' | b'&'..=b'~' => char::from(byte).to_string(),
                other => format!("%{other:02X}"),
            })
            .collect();
        headers.push_str(&format!("ce-{name}: {value}\r\n"));
    }
    worker.post("/events", &headers, data(number).to_string().as_bytes()).await
}

/// The code with which something was refused.
fn code(answer: &Answer) -> Option<String> {
    let problem: Value = serde_json::from_slice(&answer.body).ok()?;
    problem["code"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_over_http_is_on_the_topic_as_a_producer_would_have_written_it() {
    let installation = Installation::new(Duration::from_secs(2)).await;
    let worker = installation.start("worker-1").await;
    let mut observer = installation.observe().await;
    let topic = installation.input(generator::TOPICS[0].0);
    let modes = [true, false];
    for (number, subject) in SUBJECTS.iter().enumerate() {
        for binary in modes {
            let answer = post(&worker, binary, number, subject).await;
            assert_eq!(answer.status, 202, "{}", answer.text());
            assert_eq!(answer.text(), r#"{"accepted":1}"#);
        }
    }
    let posted = plain::read_committed(&topic).await;
    let events = SUBJECTS.iter().enumerate();
    let events = events.flat_map(|(number, subject)| modes.map(|binary| as_produced(binary, number, subject)));
    plain::produce(&topic, events.collect()).await;
    let all = plain::read_committed(&topic).await;
    let places: BTreeSet<_> = posted.iter().map(|message| (message.partition(), message.offset())).collect();
    let (came_first, produced): (Vec<_>, Vec<_>) =
        all.iter().partition(|message| places.contains(&(message.partition(), message.offset())));
    assert_eq!((came_first.len(), produced.len()), (2 * SUBJECTS.len(), 2 * SUBJECTS.len()));
    let posted: BTreeSet<Told> = came_first.into_iter().map(Told::by).collect();
    assert_eq!(posted, produced.into_iter().map(Told::by).collect());

    // What could not be read is said at the door, and nothing of it is written.
    let batch = json!([{"specversion": "1.0", "id": "b", "source": SOURCE, "type": "contact.created", "subject": "b",
        "data": {"notes": "late"}},
        {"specversion": "1.0"}]);
    let headers = "content-type: application/cloudevents-batch+json\r\n";
    let answer = worker.post("/events", headers, batch.to_string().as_bytes()).await;
    assert_eq!((answer.status, code(&answer)), (400, Some("missing_attribute".to_owned())), "{}", answer.text());
    assert_eq!(plain::read_committed(&topic).await.len(), all.len());

    // Three of the four that say the same of one subject are duplicates.
    observer.settled(all.len()).await;
    assert_readable([&worker]);
    worker.stop().await;
    for crm in CRMS {
        assert_eq!(installation.sandbox.contacts(crm).await.len(), SUBJECTS.len(), "contacts of {}", crm.name);
    }
    assert_promises(&observer.conclude(0).await, &[]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_broker_is_away_senders_are_told_to_come_back_and_nothing_is_taken_twice() {
    let (installation, proxy) = Installation::with_lines_to_cut(Duration::from_secs(2)).await;
    let worker = installation.start("worker-1").await;
    let mut observer = installation.observe().await;
    let topic = installation.input(generator::TOPICS[0].0);
    let first = post(&worker, true, 0, SUBJECTS[0]).await;
    assert_eq!(first.status, 202, "{}", first.text());

    proxy.cut(&installation.client_id("worker-1"));
    let cut = Instant::now();
    for binary in [true, false] {
        let refused = post(&worker, binary, 1, SUBJECTS[1]).await;
        assert_eq!((refused.status, code(&refused)), (503, Some("log_unavailable".to_owned())), "{}", refused.text());
        let patience: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&patience), "{patience}");
    }
    eprintln!("  refused twice within {:?}", cut.elapsed());
    proxy.mend(&installation.client_id("worker-1"));
    eventually("the event is taken", PATIENCE, async || {
        let answer = post(&worker, true, 1, SUBJECTS[1]).await;
        assert!(matches!(answer.status, 202 | 503), "{}", answer.text());
        (answer.status == 202).then_some(())
    })
    .await;
    // What was refused may be there as well: the sender could not know, and need not care.
    let taken = plain::read_committed(&topic).await.len();
    eprintln!("  {taken} records, taken again {:?} after the cut", cut.elapsed());
    observer.settled(taken).await;
    eventually("the worker is ready again", PATIENCE, async || worker.is_ready().await).await;
    assert_readable([&worker]);
    worker.stop().await;
    for crm in CRMS {
        assert_eq!(installation.sandbox.contacts(crm).await.len(), 2, "contacts of {}", crm.name);
    }
    assert_promises(&observer.conclude(0).await, &[]);
}
