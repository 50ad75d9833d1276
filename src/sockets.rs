//! The sockets of whoever listens: bounded in number and in patience, and closed in order.
//!
//! Beyond the bound nothing is accepted; whoever connects waits in the kernel's queue, which has a bound of its own. A
//! connection without a request is closed after the same time that headers may take, so that idle ones free their place.

use std::{convert::Infallible, future::Future, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
    time::timeout,
};
use tower_service::Service;
use tracing::{debug, error, warn};

/// How long a listener that cannot accept (no file descriptors left) waits before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Who listens, in log lines.
    pub(crate) server: &'static str,
    pub(crate) connections_max: usize,
    pub(crate) header_timeout: Duration,
}

/// Serves until `stop` ends, then lets requests under way end within `grace`. Whether all did. Each request has the
/// [`ConnectInfo`] of its connection.
pub(crate) async fn serve(
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
            Some(ended) = connections.join_next() => told(limits, ended),
            (accepted, place) = accepted => match accepted {
                Ok((socket, peer)) => {
                    let connection = connection(socket, peer, router.clone(), limits, stopping.subscribe());
                    connections.spawn(async move {
                        connection.await;
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!(%error, server = limits.server, "a connection could not be accepted");
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
            told(limits, ended);
        }
    };
    timeout(grace, all_ended).await.is_ok()
}

fn told(limits: Limits, ended: Result<(), tokio::task::JoinError>) {
    // Not the error itself: its text has the message of the panic.
    if ended.is_err_and(|error| error.is_panic()) {
        error!(server = limits.server, "a connection panicked");
    }
}

async fn connection(
    socket: TcpStream,
    peer: SocketAddr,
    router: Router,
    limits: Limits,
    mut stopping: watch::Receiver<bool>,
) {
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%error, server = limits.server, "an option of a connection could not be set");
    }
    let service = service_fn(move |request: http::Request<Incoming>| {
        let mut router = router.clone();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ConnectInfo(peer));
        // A router is always ready, so it need not be asked.
        async move { Ok::<_, Infallible>(infallible(router.call(request).await)) }
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
        debug!(%error, server = limits.server, "a connection ended early");
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
