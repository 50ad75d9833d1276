//! A worker that takes events over HTTP. A real socket, so in real time: a paused clock would jump over every wait on it.

use std::{io, net::SocketAddr, time::Duration};

use contact_replicator::worker::WorkerError;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

use crate::world::World;

const DEADLINE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

async fn post(address: SocketAddr, subject: &str) -> io::Result<String> {
    let body = format!(
        "{{\"specversion\":\"1.0\",\"id\":\"{subject}\",\"source\":\"/shop\",\"type\":\"contact.created\",\"subject\":\"{subject}\",\
         \"data\":{{\"name\":{{\"givenName\":\"Ann\",\"familyName\":\"Example\"}},\"emails\":[{{\"value\":\"{subject}@example.com\"}}],\
         \"phoneNumbers\":[{{\"value\":\"+4930123456\",\"type\":\"work\"}}]}}}}"
    );
    let head = format!(
        "POST /events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/cloudevents+json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            sleep(LOOK).await;
        }
    };
    assert!(timeout(DEADLINE, waiting).await.is_ok(), "{what}");
}

#[tokio::test]
async fn an_event_over_http_reaches_the_crm_and_makes_room_for_the_next() {
    let mut world = World::new(1, 1).await;
    // Free a moment ago; nobody else is asked for it meanwhile.
    let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    world.settings.ingest.listen = address.to_string();
    // Room for one: the next is taken only when the worker knows that the one before was decided.
    world.settings.ingest.backlog_max = 1;
    world.settings.ingest.batch_events_max = 1;
    world.start(0);
    for (index, subject) in ["one", "two", "three"].iter().enumerate() {
        // Before the first, the worker has yet to look at its log and listen.
        until("the event is taken", async || {
            post(address, subject).await.is_ok_and(|answer| answer.starts_with("HTTP/1.1 202 "))
        })
        .await;
        until("the contact is in the CRM", async || world.sandbox.contacts().len() == index + 1).await;
    }
    assert_eq!(world.metric(0, "ingest_events_total"), 3.0);
    assert!(world.stop(0).await, "nothing is left undone");
    assert!(TcpStream::connect(address).await.is_err(), "the address is free again");
}

#[tokio::test]
async fn a_worker_whose_address_is_taken_says_which() {
    let mut world = World::new(1, 1).await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    world.settings.ingest.listen = taken.local_addr().unwrap().to_string();
    world.start(0);
    let error = timeout(DEADLINE, world.failed(0)).await.expect("it gives up");
    assert!(matches!(error, WorkerError::Ingest { address, .. } if address == taken.local_addr().unwrap()), "{error}");
    assert!(error.to_string().contains("ingest.listen"), "{error}");
}
