//! The sandbox on a TCP port: HTTP/1.1 with connections that are kept, broken or slowed as the sandbox says.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures::StreamExt;
use http::StatusCode;
use http_body_util::{BodyExt, LengthLimitError, Limited, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::{JoinHandle, JoinSet},
};

use super::{Reset, Sandbox, SlowBody};

/// How long a listener that cannot accept (no file descriptors left) waits before it tries again.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);

/// A running server. Dropping it closes the port and every connection.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Server {
    /// Binds the address of the sandbox's settings and serves until stopped.
    pub async fn start(sandbox: Sandbox) -> io::Result<Self> {
        let listener = TcpListener::bind(sandbox.settings().listen).await?;
        let address = listener.local_addr()?;
        Ok(Self { address, task: tokio::spawn(accept(listener, sandbox)) })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL of the simulated system.
    pub fn base_url(&self, sandbox: &Sandbox) -> String {
        format!("http://{}{}", self.address, sandbox.settings().base_path)
    }

    /// Closes the port and every connection, and returns when that is done.
    pub async fn stop(mut self) {
        self.task.abort();
        if let Err(error) = (&mut self.task).await
            && error.is_panic()
        {
            tracing::error!("the sandbox's listener panicked");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, sandbox: Sandbox) {
    let permits = Arc::new(Semaphore::new(sandbox.settings().connections_max));
    // Owned here: when this task is aborted, so are all connections.
    let mut connections = JoinSet::new();
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((socket, _)) => {
                connections.spawn(serve(socket, sandbox.clone(), permit));
            }
            Err(error) => {
                tracing::warn!(%error, "the sandbox could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(socket: TcpStream, sandbox: Sandbox, _permit: OwnedSemaphorePermit) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "the sandbox could not set an option of a connection");
    }
    let service = service_fn(|request| answer(&sandbox, request));
    let mut server = hyper::server::conn::http1::Builder::new();
    if let Err(error) = server.timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), service).await {
        // A reset that was asked for ends here too: the connection closes without an answer.
        tracing::debug!(%error, "a connection to the sandbox ended early");
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn answer(sandbox: &Sandbox, request: http::Request<Incoming>) -> Result<http::Response<Body>, Reset> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, sandbox.settings().request_bytes_max).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let mut response = http::Response::new(http_body_util::Empty::new().boxed_unsync());
            *response.status_mut() = StatusCode::PAYLOAD_TOO_LARGE;
            return Ok(response);
        }
        Err(_broken) => return Err(Reset::Closed),
    };
    let mut response = sandbox.handle(http::Request::from_parts(head, body)).await?;
    let slow = response.extensions_mut().remove::<SlowBody>();
    Ok(response.map(|body| match slow {
        None => http_body_util::Full::new(body).boxed_unsync(),
        Some(SlowBody(pause)) => {
            let late = futures::stream::once(tokio::time::sleep(pause));
            StreamBody::new(late.map(move |()| Ok(Frame::data(body.clone())))).boxed_unsync()
        }
    }))
}
