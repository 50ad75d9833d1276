//! The address of operators on real sockets, against whoever should not be answered there: a page that goes under a name of its
//! own, somebody who sends far too much, who looks for files, or who guesses the token.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use contact_replicator::{
    admin::{
        Access, Admin, Readiness,
        permit::{WRONG_TOKENS_IN_TOTAL, WRONG_TOKENS_PER_PEER},
    },
    config::{AdminSettings, Settings},
    explain::Desk,
    metrics::{Metrics, Registry},
    privacy::Secret,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};

use crate::lines::Lines;

const RIGHT: &str = "Right-Canary-0123456789abcdef0123";
const WRONG: &str = "Wrong-Canary-0123456789abcdef0123";
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const OTHER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// Far longer than an answer takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Nobody is at the desk: it is as far as a question comes that is let in.
const LET_IN: u16 = 503;

async fn started(change: impl FnOnce(&mut AdminSettings)) -> Admin {
    let mut settings = Settings::reference().admin;
    change(&mut settings);
    let registry = Registry::new();
    Metrics::new(&registry, &[]).expect("a new registry takes each metric once");
    let (readiness, desk) = (Readiness::default(), Desk::default());
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    Admin::start_for(&settings, Access::new(&settings), address, registry, readiness, desk).await.expect("a port")
}

fn with_token(settings: &mut AdminSettings) {
    settings.token_env = Some("UNUSED".to_owned());
    settings.token = Some(Secret::new(RIGHT));
    settings.token_on_loopback = true;
}

/// Sends `head` and so many bytes from `from`; the status, the head and the body of the answer.
async fn exchange(to: SocketAddr, from: IpAddr, head: &str, bytes: usize) -> (u16, String) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((from, 0).into()).expect("this machine has all of 127.0.0.0/8");
    let (mut reader, mut writer) = socket.connect(to).await.expect("it listens").into_split();
    let request = format!("{head}\r\n\r\n");
    let sending = async {
        let chunk = vec![b'x'; 64 * 1024];
        writer.write_all(request.as_bytes()).await?;
        for sent in (0..bytes).step_by(chunk.len()) {
            writer.write_all(&chunk[..chunk.len().min(bytes - sent)]).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    let reading = async {
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            match reader.read(&mut chunk).await {
                Ok(0) => break,
                Ok(read) => answer.extend_from_slice(&chunk[..read]),
                // Who is not read to the end is cut off, once the answer is there.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
                Err(error) => panic!("{error}"),
            }
        }
        answer
    };
    let (_cut_off, answer) = timeout(PATIENCE, async { tokio::join!(sending, reading) }).await.expect("it answers");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
    (status, answer)
}

fn question(headers: &str) -> String {
    let length = if headers.contains("content-length") { "" } else { "\r\ncontent-length: 0" };
    format!("POST /explain HTTP/1.1\r\n{headers}\r\ncontent-type: application/json\r\nconnection: close{length}")
}

#[tokio::test]
async fn beyond_the_bound_whoever_connects_waits_and_a_connection_that_says_nothing_is_closed() {
    const LIVE: &str = "GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close";
    /// A good deal longer than an answer takes, and shorter than silence is borne.
    const A_WHILE: Duration = Duration::from_millis(500);
    let admin = started(|settings| settings.connections_max = 2).await;
    let mut silent = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(admin.address()).await.expect("it listens");
        stream.write_all(b"GET /live").await.expect("it is open");
        silent.push(stream);
    }
    let mut third = tokio::spawn(exchange(admin.address(), HERE, LIVE, 0));
    assert!(timeout(A_WHILE, &mut third).await.is_err(), "there is no place for it");
    silent.pop();
    assert_eq!(third.await.expect("it ends").0, 200);
    admin.stop().await;

    let admin = started(|settings| settings.header_timeout = Duration::from_millis(100)).await;
    for said in ["", "GET /live", "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"] {
        let mut stream = TcpStream::connect(admin.address()).await.expect("it listens");
        stream.write_all(said.as_bytes()).await.expect("it is open");
        let mut heard = Vec::new();
        let closed = timeout(PATIENCE, stream.read_to_end(&mut heard)).await;
        assert!(closed.is_ok(), "still open after {said:?}");
    }
    admin.stop().await;
}

#[tokio::test]
async fn whoever_should_not_be_answered_is_not_and_learns_nothing() {
    let (lines, _listening) = Lines::begin();
    let open = started(|_| {}).await;
    let guarded = started(with_token).await;
    let (at_open, at_guarded) = (open.address(), guarded.address());
    let right = format!("host: localhost\r\nauthorization: Bearer {RIGHT}");
    let wrong = format!("host: localhost\r\nauthorization: Bearer {WRONG}");

    // A forged Host, and a web page.
    for (at, headers, expected) in [
        (at_open, "host: localhost".to_owned(), 400),
        (at_open, "host: evil.example.com".to_owned(), 403),
        (at_open, "host: localhost\r\norigin: http://localhost".to_owned(), 403),
        (at_guarded, right.clone(), 400),
        (at_guarded, right.replace("localhost", "evil.example.com"), 403),
        (at_guarded, format!("{right}\r\norigin: null"), 403),
        (at_guarded, "host: localhost".to_owned(), 401),
    ] {
        assert_eq!(exchange(at, HERE, &question(&headers), 0).await.0, expected, "{headers}");
    }

    // Ten megabytes, announced or not.
    const MUCH: usize = 10 * 1024 * 1024;
    for (at, headers) in [(at_open, "host: localhost"), (at_guarded, &right)] {
        let announced = question(&format!("{headers}\r\ncontent-length: {MUCH}"));
        assert_eq!(exchange(at, HERE, &announced, MUCH).await.0, 413);
    }
    let unannounced = question("host: localhost\r\ntransfer-encoding: chunked").replace("\r\ncontent-length: 0", "");
    let chunks = format!("{unannounced}\r\n\r\n{MUCH:x}");
    assert_eq!(exchange(at_open, HERE, &chunks, MUCH).await.0, 413);

    // Files.
    for path in [
        "/../../../../etc/passwd",
        "/explain/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/links/..%2f..%2fetc%2fpasswd",
        "/metrics/../explain",
        "/..\\..\\etc\\passwd",
        "//etc/passwd",
    ] {
        for method in ["GET", "POST"] {
            let head = format!("{method} {path} HTTP/1.1\r\n{right}\r\nconnection: close\r\ncontent-length: 0");
            let (status, answer) = exchange(at_guarded, HERE, &head, 0).await;
            assert!([400, 404].contains(&status), "{path}: {answer}");
            assert!(!answer.contains("root:") && !answer.contains("passwd"), "{path}: {answer}");
        }
    }

    // A thousand wrong tokens.
    let mut statuses = std::collections::BTreeMap::<u16, u32>::new();
    for _ in 0..1_000 {
        let (status, answer) = exchange(at_guarded, HERE, &question(&wrong), 0).await;
        *statuses.entry(status).or_default() += 1;
        assert_eq!(answer.to_lowercase().contains("\r\nretry-after: "), status == 429, "{answer}");
        assert!(!answer.contains("Canary"), "{answer}");
    }
    const { assert!(WRONG_TOKENS_PER_PEER < WRONG_TOKENS_IN_TOTAL, "one peer cannot close the door for all") };
    // A second window may begin while they are counted.
    assert!(statuses[&401] <= 2 * WRONG_TOKENS_PER_PEER && statuses.len() == 2, "{statuses:?}");
    assert_eq!(exchange(at_guarded, HERE, &question(&right), 0).await.0, 429, "or guessing would go on");
    assert_eq!(exchange(at_guarded, OTHER, &question(&right), 0).await.0, 400, "others are heard");

    // What is for everybody still is, and holds nothing of what was shown.
    for path in ["/livez", "/readyz", "/metrics"] {
        let head = format!("GET {path} HTTP/1.1\r\nhost: evil.example.com\r\nconnection: close");
        let (status, answer) = exchange(at_guarded, HERE, &head, 0).await;
        // Nothing is ready without a worker.
        assert_eq!(status, if path == "/readyz" { 503 } else { 200 }, "{answer}");
        assert!(!answer.contains("Canary"), "{answer}");
    }
    open.stop().await;
    guarded.stop().await;
    let lines = lines.take();
    assert!(lines.iter().any(|line| line.contains("wrong tokens were shown")), "{lines:?}");
    assert!(lines.len() < 20, "guessing does not fill the log: {} lines", lines.len());
    assert!(!lines.iter().any(|line| line.contains("Canary") || line.contains("evil")), "{lines:?}");
}

#[tokio::test]
async fn the_right_token_is_let_in_where_it_is_asked_for() {
    let guarded = started(with_token).await;
    let ask = async |token: &str| {
        let body = r#"{"about":"/shop/1"}"#;
        let head = format!(
            "POST /explain HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: bearer {token}\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        exchange(guarded.address(), HERE, &head, 0).await.0
    };
    assert_eq!((ask(WRONG).await, ask(RIGHT).await), (401, LET_IN));
    guarded.stop().await;
}
