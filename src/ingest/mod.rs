//! Takes events over HTTP: for services without a Kafka client, and for whoever runs without Kafka.
//!
//! `POST /events` speaks the CloudEvents HTTP binding and writes to the first input topic, `POST /events/<topic>` to
//! another one that is configured. What is written is what a Kafka producer would have written, so that nobody who reads
//! the topic can tell the difference: this part decides nothing about contacts, and no part of the worker knows of it.
//!
//! What it promises: 202 says that the log has every event of the request, any other answer that the sender must send it
//! again or mend it. An event that would surely become a dead letter is refused at the door with the same code, since
//! its sender is still there to hear it. It cannot promise that an event is taken once: an answer may be lost, and a log
//! may have taken part of a batch when it failed. Sending again is harmless, because an event is known by its source and
//! id.
//!
//! What it bounds: connections, requests that hold a body, bytes, events of a batch, the time a sender takes, and the
//! events that wait for a decision. At the last bound senders are told to come back: a resolver that cannot keep up must
//! not fill the log.
//!
//! - `binding`: a request as messages.
//! - `intake`: what a request goes through.
//! - `backlog`: how many events wait.
//! - `problem`: what is answered otherwise.
//! - `server`: sockets.

mod backlog;
mod binding;
mod intake;
mod problem;
#[cfg(test)]
mod tests;

use std::{fmt, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, routing::post};
use tokio::net::TcpListener;
use tracing::info;

pub use self::backlog::Decided;
use self::intake::Intake;
use crate::{
    clock::Clock, config::IngestSettings, event::change::Rules, log::Log, metrics::Metrics, sockets,
    telemetry::traces::Traces,
};

/// What the intake is made of.
pub struct Parts {
    pub settings: IngestSettings,
    /// The input topics; the first is where events go that name none.
    pub topics: Vec<Arc<str>>,
    /// As `input.event_bytes_max`.
    pub event_bytes_max: usize,
    pub rules: Arc<Rules>,
    pub log: Arc<dyn Log>,
    pub decided: Decided,
    pub clock: Clock,
    pub metrics: Metrics,
    pub traces: Traces,
}

impl fmt::Debug for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "parts of the ingest at {}", self.settings.listen)
    }
}

/// A bound address, before anybody is served.
#[derive(Debug)]
pub struct Ingest {
    listener: TcpListener,
    address: SocketAddr,
    limits: sockets::Limits,
    router: Router,
}

impl Ingest {
    /// Listens on `address`. Connections wait until it runs.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn bind(address: SocketAddr, parts: Parts) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let limits = sockets::Limits {
            server: "ingest",
            connections_max: parts.settings.connections_max,
            header_timeout: parts.settings.read_timeout,
        };
        let intake = Arc::new(Intake::new(parts));
        let router = Router::new()
            .route("/events", post(intake::to_first_topic).fallback(intake::wrong_method))
            .route("/events/{topic}", post(intake::to_named_topic).fallback(intake::wrong_method))
            .fallback(intake::not_found)
            .with_state(intake);
        Ok(Self { listener, address, limits, router })
    }

    /// Where it listens: the port is the one chosen, if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` ends; then takes no more and gives requests under way `grace` to end. Whether all did.
    pub async fn run(self, stop: impl Future<Output = ()>, grace: Duration) -> bool {
        info!(address = %self.address, "events are taken over HTTP");
        sockets::serve(self.listener, self.router, self.limits, stop, grace).await
    }
}
