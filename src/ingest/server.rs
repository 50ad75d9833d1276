//! The sockets: bounded in number and in patience, and closed in order.
//!
//! Beyond the bound nothing is accepted; whoever connects waits in the kernel's queue, which has a bound of its own. A
//! connection without a request is closed after the same time that headers may take, so that idle ones free their place.

use std::{convert::Infallible, future::Future, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tower_service::Service;
use tracing::{debug, error, warn};

/// How long a listener that cannot accept (no file descriptors left) waits before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) connections_max: usize,
    pub(super) header_timeout: Duration,
}

/// Serves until `stop` ends, then lets requests under way end within `grace`. Whether all did.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: impl Future<Output = ()>,
    grace: Duration,
) -> bool {
    let places = Arc::new(Semaphore::new(limits.connections_max));
    let stopping = watch::Sender::new(false);
    // Owned here: when this is dropped, so are all connections.
    let mut connections = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let accepted = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
            (listener.accept().await, place)
        };
        tokio::select! {
            () = &mut stop => break,
            Some(ended) = connections.join_next() => told(ended),
            (accepted, place) = accepted => match accepted {
                Ok((socket, _)) => {
                    let connection = connection(socket, router.clone(), limits, stopping.subscribe(), place);
                    connections.spawn(connection);
                }
                Err(error) => {
                    warn!(%error, "the ingest could not accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    // Whoever connects now is refused, and tries another worker.
    drop(listener);
    stopping.send_replace(true);
    let all_ended = async {
        while let Some(ended) = connections.join_next().await {
            told(ended);
        }
    };
    timeout(grace, all_ended).await.is_ok()
}

fn told(ended: Result<(), tokio::task::JoinError>) {
    // Not the error itself: its text has the message of the panic.
    if ended.is_err_and(|error| error.is_panic()) {
        error!("a connection of the ingest panicked");
    }
}

async fn connection(
    socket: TcpStream,
    router: Router,
    limits: Limits,
    mut stopping: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
) {
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%error, "the ingest could not set an option of a connection");
    }
    let service = service_fn(move |request: http::Request<Incoming>| {
        let mut router = router.clone();
        // A router is always ready, so it need not be asked.
        async move { Ok::<_, Infallible>(infallible(router.call(request.map(Body::new)).await)) }
    });
    let mut server = hyper::server::conn::http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout);
    let mut connection = pin!(server.serve_connection(TokioIo::new(socket), service));
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = asked(&mut stopping) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection to the ingest ended early");
    }
}

async fn asked(stopping: &mut watch::Receiver<bool>) {
    // An error says that the server is gone, and with it the reason to go on.
    let _gone = stopping.wait_for(|stopping| *stopping).await.is_err();
}

fn infallible<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}
