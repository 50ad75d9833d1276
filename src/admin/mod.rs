//! Health and metrics over HTTP, and what operators ask about contacts and for them: `/livez`, `/readyz`, `/metrics`,
//! `/explain`, `/status`, `/resync`, `/pause`, `/retry`, `/skip`, `/dead-letters`, `/links`, `/verify`.
//!
//! *Live* means that this process still answers; a process manager restarts what is not. *Ready* means that every part of
//! the worker does its work, with sentences about those that do not. A CRM that is down makes nobody unready: it delays
//! only itself, and restarting us would not mend it.
//!
//! These three ask nobody who they are and show no contact data: reasons are sentences about parts, metrics are counts. What is
//! told of single contacts ([`explain`], [`links`], [`verify`]) and of how the work stands ([`status`]), and what is asked for
//! ([`resync`], [`pause`], [`stuck`], [`letters`]), goes through one door ([`permit`]).

mod explain;
mod letters;
mod lines;
mod links;
mod pause;
pub mod permit;
mod readiness;
mod resync;
mod status;
mod stuck;
mod verify;

use std::{io, net::SocketAddr, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    middleware::from_fn_with_state,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tracing::{debug, error, info};

use self::permit::Door;
pub use self::{
    permit::Access,
    readiness::{Part, Readiness},
};
use crate::{
    config::{AdminSettings, Settings},
    explain::Desk,
    metrics::{self, Registry},
    sockets,
};

/// How long a stop waits for answers under way; a client that keeps its connection open is not worth more.
const STOP_DEADLINE: Duration = Duration::from_secs(1);

/// The running server. Dropping it stops it at once; [`Admin::stop`] lets answers under way end.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    /// Whether all answers under way ended.
    task: JoinHandle<bool>,
}

impl Admin {
    /// Listens on `address` and answers from then on, with the limits of the reference settings; operators on a loopback
    /// address alone.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn start(address: SocketAddr, registry: Registry, readiness: Readiness, desk: Desk) -> io::Result<Self> {
        Self::start_for(&Settings::reference().admin, Access::default(), address, registry, readiness, desk).await
    }

    /// Likewise, with the limits of `settings`, and answers operators as `access` wants it, which several addresses may
    /// share.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub async fn start_for(
        settings: &AdminSettings,
        access: Access,
        address: SocketAddr,
        registry: Registry,
        readiness: Readiness,
        desk: Desk,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<()>();
        // A dropped sender counts as a stop, too.
        let stopped = async move { stopped.await.unwrap_or(()) };
        let limits = sockets::Limits {
            server: "admin",
            connections_max: settings.connections_max,
            header_timeout: settings.header_timeout,
        };
        let router = router(registry, readiness, desk, access.at(address));
        let task = tokio::spawn(sockets::serve(listener, router, limits, stopped, STOP_DEADLINE));
        info!(%address, "health and metrics are served");
        Ok(Self { address, stop, task })
    }

    /// Where it listens: the port is the one chosen, if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, and ends when those open have their answers, or soon after.
    pub async fn stop(self) {
        let Self { stop, task, .. } = self;
        drop(stop);
        match task.await {
            Ok(true) => {}
            Ok(false) => debug!("answers of health, metrics or an operator were broken off"),
            // Not the error itself: its text has the message of a panic.
            Err(_panicked) => error!("health and metrics ended unexpectedly"),
        }
    }
}

fn router(registry: Registry, readiness: Readiness, desk: Desk, door: Door) -> Router {
    Router::new()
        .route("/livez", get(async || "live\n"))
        .route("/readyz", get(ready).with_state(readiness.clone()))
        .route("/metrics", get(exposition).with_state(registry))
        .merge(operators(desk, readiness, door))
}

/// What operators ask for; all of it behind the door.
fn operators(desk: Desk, readiness: Readiness, door: Door) -> Router {
    Router::new()
        .route("/status", get(status::status).with_state((desk.clone(), readiness)))
        .route("/explain", post(explain::explain))
        .route("/resync", post(resync::resync))
        .route("/pause", post(pause::pause))
        .route("/retry", post(stuck::retry))
        .route("/retry/all", post(stuck::retry_all))
        .route("/skip", post(stuck::skip))
        .route("/dead-letters", post(letters::letters))
        .route("/links", post(links::links))
        .route("/links/export", post(links::export))
        .route("/verify", post(verify::verify))
        .route_layer(from_fn_with_state(door, permit::permit))
        .with_state(desk)
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    let missing = readiness.missing();
    if missing.is_empty() {
        return (StatusCode::OK, "ready\n").into_response();
    }
    let lines: String = missing.iter().map(|(part, reason)| format!("{part}: {reason}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, lines).into_response()
}

async fn exposition(State(registry): State<Registry>) -> Response {
    match metrics::render(&registry) {
        Ok(text) => ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(error) => {
            error!(%error, "metrics cannot be shown");
            (StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be shown\n").into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::metrics::Metrics;

    async fn started(readiness: Readiness) -> (Admin, Metrics) {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry, &[]).unwrap();
        let admin = Admin::start((Ipv4Addr::LOCALHOST, 0).into(), registry, readiness, Desk::default()).await.unwrap();
        (admin, metrics)
    }

    /// Status line and body.
    async fn get(admin: &Admin, path: &str) -> (String, String) {
        let mut stream = TcpStream::connect(admin.address()).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), body.to_owned())
    }

    #[tokio::test]
    async fn readiness_names_each_part_that_is_not_ready_and_why() {
        let readiness = Readiness::default();
        let (view, resolver) = (readiness.part("view"), readiness.part("resolver"));
        let (admin, _metrics) = started(readiness).await;
        view.not_ready("1000 records short of the end");
        let (status, body) = get(&admin, "/readyz").await;
        assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
        assert_eq!(body, "resolver: starting\nview: 1000 records short of the end\n");

        view.ready();
        resolver.ready();
        assert_eq!(get(&admin, "/readyz").await, ("HTTP/1.1 200 OK".into(), "ready\n".into()));
        admin.stop().await;
    }

    #[tokio::test]
    async fn what_is_not_ready_is_live_all_the_same() {
        let readiness = Readiness::default();
        let _part = readiness.part("view");
        let (admin, _metrics) = started(readiness).await;
        assert_eq!(get(&admin, "/livez").await.0, "HTTP/1.1 200 OK");
        admin.stop().await;
    }

    #[tokio::test]
    async fn metrics_are_those_of_the_registry() {
        let (admin, metrics) = started(Readiness::default()).await;
        metrics.event_read();
        let (status, body) = get(&admin, "/metrics").await;
        assert_eq!(status, "HTTP/1.1 200 OK");
        assert!(body.contains("\ncontact_replicator_events_read_total 1\n"), "{body}");
        admin.stop().await;
    }

    #[tokio::test]
    async fn a_stop_frees_the_address_although_a_client_holds_its_connection() {
        let (admin, _metrics) = started(Readiness::default()).await;
        let address = admin.address();
        let _idle = TcpStream::connect(address).await.unwrap();
        admin.stop().await;
        let (admin, _metrics) = {
            let registry = Registry::new();
            let metrics = Metrics::new(&registry, &[]).unwrap();
            (Admin::start(address, registry, Readiness::default(), Desk::default()).await.unwrap(), metrics)
        };
        admin.stop().await;
    }
}
