//! The log of requests, for assertions: what arrived when, whether it took effect, and whether the caller was told.
//!
//! Effects are numbered in their own order, which is not that of arrival: a delayed write may land after a later one.

use std::{collections::VecDeque, fmt, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::header;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::system::{Action, Reply};
use crate::privacy::hex;

/// One request and what became of it.
#[derive(Clone, PartialEq, Serialize)]
pub struct LoggedRequest {
    /// In order of arrival, from 1.
    pub sequence: u64,
    /// Arrival since the sandbox began, on tokio's clock.
    #[serde(rename = "since_start_ms", serialize_with = "milliseconds")]
    pub since_start: Duration,
    pub arrived_at: Timestamp,
    /// The other end of the connection that it came over; absent without a connection.
    pub peer: Option<SocketAddr>,
    pub method: String,
    pub path: String,
    /// What follows the path, if the settings want it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// What it would have done.
    pub action: Action,
    /// The reference of the contact that it was about, as its sender knows it, where that can be told.
    pub contact: Option<String>,
    /// The id of that contact, as the system knows it, where that can be told.
    pub remote_id: Option<String>,
    /// Equal for equal bodies.
    pub body_hash: String,
    /// The body itself, if the settings want it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub body: Option<Bytes>,
    /// Whether a fault struck it.
    pub faulty: bool,
    /// Number of its effect in order of effects, from 1; absent if it stored nothing.
    pub effect: Option<u64>,
    /// Whether all has been done that will be done.
    pub ended: bool,
    /// When that was, on the clock of `since_start`.
    #[serde(rename = "ended_since_start_ms", serialize_with = "milliseconds_if_any")]
    pub ended_since_start: Option<Duration>,
    /// The status that was answered; absent if the connection broke.
    pub status: Option<u16>,
    /// `Retry-After` of the answer, where it is in seconds.
    pub retry_after: Option<u64>,
    /// The body that was answered, if the settings want it.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "text")]
    pub answer: Option<Bytes>,
    /// The fields of the contact as the request left it, where the request itself does not say them all, if the settings want
    /// bodies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<Value>,
    /// Whether the caller was still there for the answer.
    pub answered: bool,
}

impl fmt::Debug for LoggedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoggedRequest")
            .field("sequence", &self.sequence)
            .field("since_start", &self.since_start)
            .field("action", &self.action)
            .field("contact", &self.contact)
            .field("body_hash", &self.body_hash)
            .field("faulty", &self.faulty)
            .field("effect", &self.effect)
            .field("ended", &self.ended)
            .field("status", &self.status)
            .field("answered", &self.answered)
            .finish_non_exhaustive()
    }
}

fn milliseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u128(duration.as_millis())
}

fn milliseconds_if_any<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(|duration| duration.as_millis()).serialize(serializer)
}

fn text<S: Serializer>(body: &Option<Bytes>, serializer: S) -> Result<S::Ok, S::Error> {
    body.as_ref().map(|body| String::from_utf8_lossy(body)).serialize(serializer)
}

/// A short hash of a body.
pub(super) fn hash(body: &[u8]) -> String {
    let digest = Sha256::digest(body);
    hex(digest.first_chunk::<8>().expect("SHA-256 has more than 8 bytes"))
}

/// The newest requests, up to a bound.
#[derive(Debug)]
pub(super) struct Log {
    entries: VecDeque<LoggedRequest>,
    entries_max: usize,
    arrived: u64,
    effects: u64,
}

impl Log {
    pub(super) fn new(entries_max: usize) -> Self {
        Self { entries: VecDeque::new(), entries_max, arrived: 0, effects: 0 }
    }

    /// Logs a request that has arrived, and gives it its number.
    pub(super) fn arrived(&mut self, mut entry: LoggedRequest) -> u64 {
        self.arrived += 1;
        entry.sequence = self.arrived;
        self.entries.push_back(entry);
        while self.entries.len() > self.entries_max {
            self.entries.pop_front();
        }
        self.arrived
    }

    /// Notes that the system has carried out a request, whether or not it had an effect.
    pub(super) fn carried_out(&mut self, sequence: u64, reply: &mut Reply) {
        self.effects += u64::from(reply.effect);
        let number = reply.effect.then_some(self.effects);
        if let Some(entry) = self.entry(sequence) {
            entry.effect = number;
            if let Some(remote_id) = &reply.remote_id {
                entry.remote_id = Some(remote_id.clone());
            }
            entry.left = reply.left.take().filter(|_| entry.body.is_some());
        }
    }

    /// Notes the end of a request `since_start`, with its answer unless the connection broke.
    pub(super) fn ended(
        &mut self,
        sequence: u64,
        since_start: Duration,
        answer: Option<&http::Response<Bytes>>,
        answered: bool,
    ) {
        if let Some(entry) = self.entry(sequence) {
            entry.ended = true;
            entry.ended_since_start = Some(since_start);
            entry.status = answer.map(|answer| answer.status().as_u16());
            let retry_after = answer.and_then(|answer| answer.headers().get(header::RETRY_AFTER));
            entry.retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
            // Whoever wants the body of the question wants that of the answer.
            entry.answer = answer.filter(|_| entry.body.is_some()).map(|answer| answer.body().clone());
            entry.answered = answered;
        }
    }

    /// Notes that nobody was there for the answer.
    pub(super) fn given_up(&mut self, sequence: u64) {
        if let Some(entry) = self.entry(sequence) {
            entry.answered = false;
        }
    }

    /// The entries with a higher number, oldest first.
    pub(super) fn after(&self, sequence: u64) -> Vec<LoggedRequest> {
        self.entries.iter().filter(|entry| entry.sequence > sequence).cloned().collect()
    }

    /// How many requests arrived, kept or not.
    pub(super) fn arrivals(&self) -> u64 {
        self.arrived
    }

    /// How many entries the bound has cost.
    pub(super) fn dropped(&self) -> u64 {
        self.arrived - self.entries.len() as u64
    }

    fn entry(&mut self, sequence: u64) -> Option<&mut LoggedRequest> {
        let first = self.entries.front()?.sequence;
        let index = usize::try_from(sequence.checked_sub(first)?).ok()?;
        self.entries.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_keeps_the_newest_and_counts_what_it_dropped() {
        let mut log = Log::new(2);
        let entry = |log: &mut Log| {
            log.arrived(LoggedRequest {
                sequence: 0,
                since_start: Duration::ZERO,
                arrived_at: Timestamp::UNIX_EPOCH,
                peer: None,
                method: "POST".to_owned(),
                path: "/".to_owned(),
                query: None,
                action: Action::Other,
                contact: None,
                remote_id: None,
                body_hash: hash(b""),
                body: None,
                faulty: false,
                effect: None,
                ended: false,
                ended_since_start: None,
                status: None,
                retry_after: None,
                answer: None,
                left: None,
                answered: false,
            })
        };
        for expected in 1..=4 {
            assert_eq!(entry(&mut log), expected);
        }
        let written = || Reply::empty(http::StatusCode::OK).with_effect();
        log.carried_out(4, &mut written().about("con_4").leaving("nobody wants bodies".into()));
        log.carried_out(1, &mut written().about("con_1"));
        log.carried_out(3, &mut written());
        let answer = http::Response::builder().header(header::RETRY_AFTER, "7").body(Bytes::new()).unwrap();
        log.ended(4, Duration::from_secs(9), Some(&answer), true);
        let kept = log.after(0);
        assert_eq!(
            kept.iter().map(|entry| (entry.sequence, entry.effect)).collect::<Vec<_>>(),
            [(3, Some(3)), (4, Some(1))]
        );
        assert_eq!(
            (kept[1].ended_since_start, kept[1].retry_after, kept[0].ended_since_start),
            (Some(Duration::from_secs(9)), Some(7), None)
        );
        assert_eq!((kept[0].remote_id.as_deref(), kept[1].remote_id.as_deref()), (None, Some("con_4")));
        assert_eq!(kept[1].left, None);
        assert_eq!(log.arrivals(), 4);
        assert_eq!((kept[1].status, kept[1].answered, kept[0].ended), (Some(200), true, false));
        assert_eq!(log.dropped(), 2);
        assert_eq!(log.after(3).len(), 1);
    }
}
