//! Sandboxes on a TCP port: HTTP/1.1 with connections that are kept, broken or slowed as the sandboxes say.
//!
//! Each is below a path of its own, its name: `/priava/…`. Its control addresses are there as well. A sandbox does not
//! know of that path: it is taken away from a request before the sandbox sees it.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use bytes::Bytes;
use futures::StreamExt;
use http::{StatusCode, Uri, uri::PathAndQuery};
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

use super::{Peer, Reset, Sandbox, SlowBody};

/// How long a listener that cannot accept (no file descriptors left) waits before it tries again.
const ACCEPT_PAUSE: std::time::Duration = std::time::Duration::from_millis(50);
/// Connections at once; more have to wait.
const CONNECTIONS_MAX: usize = 1024;

/// The sandboxes of a server, by the names that their paths begin with.
type Hosted = Arc<[(String, Sandbox)]>;

/// A running server. Dropping it closes the port and every connection.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    hosted: Hosted,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves one sandbox, by the name of its kind, on a free port of the loopback interface.
    pub async fn start(sandbox: Sandbox) -> io::Result<Self> {
        let name = sandbox.kind().name().to_owned();
        Self::host((Ipv4Addr::LOCALHOST, 0).into(), vec![(name, sandbox)]).await
    }

    /// Binds the address, with port 0 any free one, and serves the sandboxes by their names until stopped.
    ///
    /// A name is one segment of a path. Of several with the same name, the first is served.
    pub async fn host(listen: SocketAddr, sandboxes: Vec<(String, Sandbox)>) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let hosted = Hosted::from(sandboxes);
        Ok(Self { address, task: tokio::spawn(accept(listener, hosted.clone())), hosted })
    }

    /// The sandboxes with their names and base URLs.
    pub fn hosted(&self) -> impl Iterator<Item = (&Sandbox, &str, String)> {
        self.hosted.iter().map(|(name, sandbox)| (sandbox, name.as_str(), self.below(name, sandbox)))
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL of a simulated system that is served here.
    ///
    /// # Panics
    /// If it is not.
    pub fn base_url(&self, sandbox: &Sandbox) -> String {
        let hosted = self.hosted.iter().find(|(_, hosted)| hosted.is(sandbox));
        let (name, sandbox) = hosted.expect("a sandbox that is served here");
        self.below(name, sandbox)
    }

    fn below(&self, name: &str, sandbox: &Sandbox) -> String {
        format!("http://{}/{name}{}", self.address, sandbox.kind().base_path())
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

async fn accept(listener: TcpListener, hosted: Hosted) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Owned here: when this task is aborted, so are all connections.
    let mut connections = JoinSet::new();
    loop {
        let permit = Arc::clone(&permits).acquire_owned().await.expect("the semaphore is never closed");
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((socket, peer)) => {
                connections.spawn(serve(socket, Peer(peer), hosted.clone(), permit));
            }
            Err(error) => {
                tracing::warn!(%error, "the sandbox could not accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(socket: TcpStream, peer: Peer, hosted: Hosted, _permit: OwnedSemaphorePermit) {
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "the sandbox could not set an option of a connection");
    }
    let service = service_fn(|request| answer(&hosted, peer, request));
    let mut server = hyper::server::conn::http1::Builder::new();
    if let Err(error) = server.timer(TokioTimer::new()).serve_connection(TokioIo::new(socket), service).await {
        // A reset that was asked for ends here too: the connection closes without an answer.
        tracing::debug!(%error, "a connection to the sandbox ended early");
    }
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn answer(hosted: &Hosted, peer: Peer, request: http::Request<Incoming>) -> Result<http::Response<Body>, Reset> {
    let (mut head, body) = request.into_parts();
    let Some((sandbox, below)) = find(hosted, &head.uri) else {
        return Ok(refusal(StatusCode::NOT_FOUND));
    };
    head.uri = below;
    head.extensions.insert(peer);
    let body = match Limited::new(body, sandbox.settings().request_bytes_max).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => return Ok(refusal(StatusCode::PAYLOAD_TOO_LARGE)),
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

fn refusal(status: StatusCode) -> http::Response<Body> {
    let mut response = http::Response::new(http_body_util::Empty::new().boxed_unsync());
    *response.status_mut() = status;
    response
}

/// The sandbox that an address belongs to, and the address as the sandbox knows it.
fn find<'a>(hosted: &'a Hosted, address: &Uri) -> Option<(&'a Sandbox, Uri)> {
    let (name, below) = address.path().strip_prefix('/')?.split_once('/')?;
    let (_, sandbox) = hosted.iter().find(|(hosted, _)| hosted == name)?;
    let below = match address.query() {
        None => format!("/{below}"),
        Some(query) => format!("/{below}?{query}"),
    };
    Some((sandbox, Uri::from(PathAndQuery::try_from(below).ok()?)))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::sandbox::{Kind, SandboxSettings};

    /// One exchange: status and body.
    async fn ask(server: &Server, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(server.address()).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
             apitoken: sandbox-token\r\nauthorization: Basic c2FuZGJveC10b2tlbjo=\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    async fn host(request_bytes_max: usize) -> (Server, Vec<Sandbox>) {
        let settings = |kind| SandboxSettings { request_bytes_max, ..SandboxSettings::of(kind) };
        let kinds = [Kind::Priava, Kind::Previsto, Kind::CrmCom];
        let sandboxes: Vec<_> = kinds.map(|kind| Sandbox::new(settings(kind)).unwrap()).into();
        let named = sandboxes.iter().map(|sandbox| (sandbox.kind().name().to_owned(), sandbox.clone())).collect();
        (Server::host((Ipv4Addr::LOCALHOST, 0).into(), named).await.unwrap(), sandboxes)
    }

    #[tokio::test]
    async fn each_system_and_its_control_addresses_are_below_its_name() {
        let (server, sandboxes) = host(1024).await;
        let person = r#"{ "firstName": "A", "lastName": "B", "email": "c@example.com", "mobile": "1" }"#;
        assert_eq!(ask(&server, "POST", "/priava/api/rest/v1/crm/contacts", person).await.0, 200);
        for name in ["One", "Two"] {
            let body = json!({ "name": name }).to_string();
            assert_eq!(ask(&server, "POST", "/previsto/contacts", &body).await.0, 200);
        }
        let (status, found) = ask(&server, "GET", "/previsto/contacts?search=two", "").await;
        assert_eq!((status, found.as_array().unwrap().len()), (200, 1), "a query goes along");

        for (name, sandbox, count) in [("priava", &sandboxes[0], 1), ("previsto", &sandboxes[1], 2)] {
            let (_, books) = ask(&server, "GET", &format!("/{name}/_sandbox/contacts"), "").await;
            assert_eq!(books["contacts"].as_array().unwrap().len(), count);
            assert_eq!(sandbox.contacts().len(), count);
        }
        let plan = r#"{ "script": [{ "call": 1, "fault": { "instead": { "kind": "status", "status": 418 } } }] }"#;
        assert_eq!(ask(&server, "POST", "/previsto/_sandbox/faults", plan).await.0, 200);
        assert_eq!(ask(&server, "POST", "/priava/api/rest/v1/crm/contacts", person).await.0, 200, "not this one's");
        assert_eq!(ask(&server, "GET", "/previsto/contacts", "").await.0, 418);
        assert_eq!(ask(&server, "POST", "/previsto/_sandbox/tokens", r#"["other"]"#).await.0, 200);
        assert_eq!(ask(&server, "GET", "/previsto/contacts", "").await.0, 401);
        let (_, log) = ask(&server, "GET", "/previsto/_sandbox/requests?after=3", "").await;
        assert_eq!(log["requests"][0]["path"], "/contacts", "as the system knows it");
        let peer: SocketAddr = log["requests"][0]["peer"].as_str().unwrap().parse().unwrap();
        assert!(peer.ip().is_loopback() && peer != server.address(), "who asked, not who was asked");

        for nowhere in ["/", "/priava", "/_sandbox/contacts", "/other/contacts", "/contacts"] {
            assert_eq!(ask(&server, "GET", nowhere, "").await.0, 404, "{nowhere}");
        }
        let login = r#"{ "username": "contact-replicator", "password": "sandbox-token", "organisation": "example" }"#;
        let (_, token) = ask(&server, "POST", "/crm_com/crmapi/rest/v2/authentication/token", login).await;
        assert_eq!(token["status"]["code"], "OK");
        assert_eq!(sandboxes.iter().map(Sandbox::calls).collect::<Vec<_>>(), [2, 5, 1]);
        server.stop().await;
    }

    #[tokio::test]
    async fn base_urls_are_told_for_each() {
        let (server, sandboxes) = host(1024).await;
        let address = server.address();
        let paths = ["priava/api/rest", "previsto", "crm_com/crmapi/rest/v2"];
        let expected = paths.map(|path| format!("http://{address}/{path}"));
        assert_eq!([0, 1, 2].map(|index| server.base_url(&sandboxes[index])), expected);
        let told: Vec<_> = server.hosted().map(|(_, name, base_url)| (name, base_url)).collect();
        assert_eq!(told, ["priava", "previsto", "crm_com"].into_iter().zip(expected).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_body_that_is_too_long_does_not_arrive() {
        let (server, sandboxes) = host(20).await;
        assert_eq!(ask(&server, "POST", "/previsto/contacts", r#"{ "name": "1234567" }"#).await.0, 413);
        assert_eq!(sandboxes[1].calls(), 0);
        assert_eq!(ask(&server, "POST", "/previsto/contacts", r#"{ "name": "123456" }"#).await.0, 200);
    }
}
