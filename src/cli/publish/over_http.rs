//! Publishing to a worker's ingest: batches over HTTP, for whoever does not reach the log.
//!
//! A server that refuses a batch because of one event has taken nothing of it and names the event: it is left out, told
//! by its line, and the others are sent again. One that is full says when to come back, and is believed. What got no
//! answer is not sent again here: whoever starts the command again does no harm, since events are known by their ids.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Deserialize;
use tokio::time::{Instant, sleep};
use url::Url;

use super::{Batch, Sent, Target, checked};
use crate::{
    cli::{
        CommandError, UsageError,
        client::{Answer, Client},
    },
    clock::Clock,
    crm::classify::retry_after,
    privacy::Secret,
};

/// What a server takes by default; one that takes fewer says so, and gets smaller ones.
const EVENTS_MAX: usize = 100;
/// Pause where the server does not say how long.
const PAUSE: Duration = Duration::from_secs(5);
/// Longest pause that is believed.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// How long one batch is tried.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Longest code or pointer that is repeated from an answer.
const REASON_LENGTH_MAX: usize = 200;

pub(super) struct OverHttp {
    client: Client,
    url: Url,
    headers: HeaderMap,
    /// Events in one request; smaller once the server has refused as many.
    events_max: usize,
}

/// An event, and the line it stood on.
type Event = (u64, Bytes);

/// What became of one request.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Taken,
    /// Nothing was taken, because of this event.
    LeaveOut {
        index: usize,
        reason: String,
    },
    /// Nothing was taken; fewer at once may be.
    Halve,
    Wait(Duration),
    Fail(String),
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Problem {
    code: String,
    pointer: Option<String>,
    index: Option<usize>,
}

impl OverHttp {
    pub(super) fn new(url: Url, token: Option<&Secret>) -> Result<Self, CommandError> {
        let client = Client::new(&url)?;
        let mut headers = HeaderMap::new();
        let content_type = HeaderValue::from_static("application/cloudevents-batch+json; charset=UTF-8");
        headers.insert(header::CONTENT_TYPE, content_type);
        if let Some(token) = token {
            let bearer = HeaderValue::try_from(format!("Bearer {}", token.expose()));
            let mut bearer =
                bearer.map_err(|_malformed| UsageError("a header cannot carry the token found there".into()))?;
            bearer.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, bearer);
        }
        Ok(Self { client, url, headers, events_max: EVENTS_MAX })
    }

    /// Sends events until each is taken or left out.
    async fn send_all(&mut self, mut events: Vec<Event>) -> Result<Sent, CommandError> {
        let mut sent = Sent::default();
        let mut give_up_at = Instant::now() + PATIENCE;
        while !events.is_empty() {
            let count = self.events_max.min(events.len());
            let part = events.get(..count).unwrap_or_default();
            let answer = self.client.post(&self.url, self.headers.clone(), batch(part)).await?;
            match next(&answer, count, Clock::System.now()) {
                Next::Taken => {
                    sent.published += count as u64;
                    events.drain(..count);
                    give_up_at = Instant::now() + PATIENCE;
                }
                Next::LeaveOut { index, reason } => {
                    let (line, _) = events.remove(index);
                    sent.refused.push((line, reason));
                }
                Next::Halve => self.events_max = count / 2,
                Next::Wait(pause) if Instant::now() + pause < give_up_at => sleep(pause).await,
                Next::Wait(_) => return Err(CommandError::Refused("it has no room for more".into())),
                Next::Fail(reason) => return Err(CommandError::Refused(reason)),
            }
        }
        Ok(sent)
    }
}

impl Target for OverHttp {
    type Item = Bytes;

    fn name(&self) -> &str {
        self.url.as_str()
    }

    fn item(&self, line: &[u8]) -> Result<Bytes, String> {
        checked(line)?;
        Ok(Bytes::copy_from_slice(line.trim_ascii()))
    }

    async fn send(&mut self, batch: Batch<Bytes>) -> Result<Sent, CommandError> {
        self.send_all(batch).await
    }
}

/// The events as a JSON array, each as it was written.
fn batch(events: &[Event]) -> Bytes {
    let mut body = vec![b'['];
    for (index, (_, event)) in events.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(event);
    }
    body.push(b']');
    body.into()
}

fn next(answer: &Answer, count: usize, now: jiff::Timestamp) -> Next {
    // Something else than our server may answer; what its answer lacks is not there.
    let problem: Problem = serde_json::from_slice(&answer.body).unwrap_or_default();
    // Alone in its request, an event is at fault also if no index says so.
    let index = problem.index.or((count == 1).then_some(0)).filter(|index| *index < count);
    match (answer.status, index) {
        (StatusCode::ACCEPTED, _) => Next::Taken,
        (StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE, Some(index)) => {
            Next::LeaveOut { index, reason: reason(&problem) }
        }
        (StatusCode::PAYLOAD_TOO_LARGE, None) => Next::Halve,
        (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, _) => {
            let pause = retry_after(&answer.headers).map_or(PAUSE, |told| told.delay(now));
            Next::Wait(pause.clamp(Duration::from_millis(100), PAUSE_MAX))
        }
        (StatusCode::UNAUTHORIZED, _) => Next::Fail("it refuses the token, or there is none: see --token-env".into()),
        (StatusCode::NOT_FOUND, _) => Next::Fail("it takes no events at this address".into()),
        (status, _) => Next::Fail(format!("it answered {status}")),
    }
}

/// Code and pointer, which are names; whatever an answer has that cannot be one is not repeated.
fn reason(problem: &Problem) -> String {
    let is_name = |text: &&str| {
        (1..=REASON_LENGTH_MAX).contains(&text.len()) && text.chars().all(|letter| letter.is_ascii_graphic())
    };
    let code = Some(problem.code.as_str()).filter(is_name).unwrap_or("refused");
    match problem.pointer.as_deref().filter(is_name) {
        Some(pointer) => format!("{code} at {pointer}"),
        None => code.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Arc};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, BufReader},
        net::TcpListener,
    };

    use super::*;
    use crate::{
        cli::{Exit, publish::publish},
        config::{IngestSettings, Settings},
        event::change::Rules,
        ingest::{Ingest, Parts},
        log::{
            Cleanup, Log, TopicPartition, TopicSpec,
            local::{self, LocalLog},
        },
        metrics::Metrics,
    };

    fn line(id: &str, language: &str) -> String {
        format!(
            "{{\"specversion\":\"1.0\",\"id\":\"{id}\",\"source\":\"/shop\",\"type\":\"contact.updated\",\"subject\":\"{id}\",\
             \"data\":{{\"preferredLanguage\":\"{language}\"}}}}\n"
        )
    }

    async fn published(lines: &str, url: &str, token: Option<&str>) -> (Result<Exit, CommandError>, String) {
        let target = OverHttp::new(url.parse().unwrap(), token.map(Secret::new).as_ref()).unwrap();
        let mut output = Vec::new();
        let ended = publish(BufReader::new(lines.as_bytes()), target, &mut output).await;
        (ended, String::from_utf8(output).unwrap())
    }

    #[tokio::test]
    async fn a_worker_takes_all_lines_but_the_bad_ones_whatever_its_batches_hold() {
        const TOKEN: &str = "0123456789abcdef";
        let reference = Settings::reference();
        let log = Arc::new(LocalLog::new(local::Settings::default(), Clock::System));
        let spec = TopicSpec {
            name: "contact-changes".into(),
            partitions: 1,
            cleanup: Cleanup::Delete { after: Duration::from_secs(3600) },
            message_bytes_max: 1 << 20,
        };
        log.ensure_topics(&[spec]).await.unwrap();
        let parts = Parts {
            settings: IngestSettings { token: Some(Secret::new(TOKEN)), batch_events_max: 3, ..reference.ingest },
            topics: vec!["contact-changes".into()],
            event_bytes_max: reference.input.event_bytes_max,
            rules: Arc::new(Rules::new(&reference.input, &[])),
            log: log.clone(),
            decided: Arc::new(|_| Ok(None)),
            clock: Clock::System,
            metrics: Metrics::noop(),
            traces: crate::telemetry::traces::Traces::default(),
        };
        let ingest = Ingest::bind((Ipv4Addr::LOCALHOST, 0).into(), parts).await.unwrap();
        let url = format!("http://{}/events", ingest.address());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = tokio::spawn(ingest.run(async { stopped.await.unwrap_or(()) }, Duration::from_secs(5)));

        let mut lines: String = (0..20).map(|id| line(&id.to_string(), "de")).collect();
        lines.push_str(&line("20", "no language"));
        lines.push_str("{\n");
        lines.push_str(&line("22", "de"));
        let (ended, output) = published(&lines, &url, Some(TOKEN)).await;
        assert_eq!(ended.unwrap(), Exit::CheckFailed);
        assert!(output.contains("line 21 was left out: bad_value at /preferredLanguage\n"), "{output}");
        assert!(output.contains("line 22 was left out: it is not JSON"), "{output}");
        assert!(output.ends_with(&format!("published 21 events to {url}; lines left out: 2\n")), "{output}");
        let end = log.watermarks(&TopicPartition::new("contact-changes", 0)).await.unwrap().high;
        assert_eq!(end, 21);

        let (ended, _) = published(&line("1", "de"), &url, None).await;
        assert!(matches!(&ended, Err(CommandError::Refused(reason)) if reason.contains("--token-env")), "{ended:?}");
        drop(stop);
        assert!(running.await.unwrap());
    }

    #[tokio::test]
    async fn a_server_that_is_full_is_asked_again_when_it_says() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://{}/events", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let mut bodies = Vec::new();
            for head in
                ["429 Too Many Requests\r\nretry-after: 0", "503 Service Unavailable\r\nretry-after: 0", "202 Accepted"]
            {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut text = Vec::new();
                while !text.ends_with(b"]") {
                    assert!(stream.read_buf(&mut text).await.unwrap() > 0, "the request ended early");
                }
                let answer = format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                let text = String::from_utf8(text).unwrap();
                bodies.push(text.split_once("\r\n\r\n").unwrap().1.to_owned());
            }
            bodies
        });
        let lines = line("1", "de") + &line("2", "de");
        let (ended, output) = published(&lines, &url, None).await;
        assert_eq!((ended.unwrap(), output), (Exit::Done, format!("published 2 events to {url}; lines left out: 0\n")));
        let expected = format!("[{},{}]", line("1", "de").trim(), line("2", "de").trim());
        assert_eq!(server.await.unwrap(), [expected.clone(), expected.clone(), expected]);
    }

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, value.parse().unwrap());
        }
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: map,
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    #[test]
    fn each_answer_says_what_to_do_next() {
        let now: jiff::Timestamp = "2026-03-02T12:00:00Z".parse().unwrap();
        let leave_out = |index, reason: &str| Next::LeaveOut { index, reason: reason.into() };
        let wait = |seconds| Next::Wait(Duration::from_secs(seconds));
        for (status, headers, body, count, expected) in [
            (202, &[][..], r#"{"accepted":2}"#, 2, Next::Taken),
            (
                400,
                &[],
                r#"{"code":"bad_value","pointer":"/gender","index":1}"#,
                2,
                leave_out(1, "bad_value at /gender"),
            ),
            (400, &[], r#"{"code":"not_json"}"#, 1, leave_out(0, "not_json")),
            (400, &[], "what did Ann say", 1, leave_out(0, "refused")),
            (400, &[], r#"{"code":"what did Ann say","pointer":"Ann\n"}"#, 1, leave_out(0, "refused")),
            (400, &[], r#"{"index":2}"#, 2, Next::Fail("it answered 400 Bad Request".into())),
            (413, &[], r#"{"code":"too_many_events"}"#, 2, Next::Halve),
            (413, &[], r#"{"code":"too_large","index":0}"#, 2, leave_out(0, "too_large")),
            (413, &[], r#"{"code":"too_large"}"#, 1, leave_out(0, "too_large")),
            (429, &[("retry-after", "7")], "", 2, wait(7)),
            (429, &[("retry-after", "Mon, 02 Mar 2026 12:00:09 GMT")], "", 2, wait(9)),
            (503, &[("retry-after", "86400")], "", 2, wait(60)),
            (503, &[], "", 2, wait(5)),
            (500, &[], "", 2, Next::Fail("it answered 500 Internal Server Error".into())),
        ] {
            assert_eq!(next(&answer(status, headers, body), count, now), expected, "{status} {body}");
        }
    }
}
