//! Cuts the line between single clients and the broker, as a killed process or a pulled cable would.
//!
//! The broker of `deploy/kafka` has a listener that announces a port of its own, where this proxy waits. Every client
//! that was given that listener comes through here, also to the brokers it learns of. Clients are told apart by the
//! `client.id` that begins each of their requests.

use std::{
    collections::{HashMap, HashSet},
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::AbortHandle,
};

/// One for all tests of a process: the port is one.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    lines: Arc<Lines>,
}

#[derive(Default)]
struct Lines {
    /// Connections under way, by client.
    open: Mutex<HashMap<String, Vec<AbortHandle>>>,
    cut: Mutex<HashSet<String>>,
}

impl Proxy {
    /// The proxy of this process, in front of the broker at `port`.
    pub(crate) async fn shared(port: u16) -> &'static Self {
        static PROXY: OnceLock<Proxy> = OnceLock::new();
        static STARTING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _one_starts_it = STARTING.lock().await;
        if PROXY.get().is_none() {
            let started = Self::start(port).await;
            assert!(PROXY.set(started).is_ok(), "one starts it");
        }
        PROXY.get().expect("it was set just above")
    }

    /// Runs on a thread of its own, for each test has a runtime that ends with it.
    async fn start(port: u16) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port + 3));
        let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, port + 2));
        let lines = Arc::new(Lines::default());
        let (listening, started) = oneshot::channel();
        let shared = Arc::clone(&lines);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::bind(address).await;
                let listener = listener.unwrap_or_else(|error| panic!("the proxy cannot listen on {address}: {error}"));
                listening.send(()).expect("somebody waits for the proxy");
                loop {
                    let Ok((client, _)) = listener.accept().await else {
                        continue;
                    };
                    tokio::spawn(serve(Arc::clone(&shared), client, upstream));
                }
            });
        });
        started.await.expect("the proxy starts");
        Self { address, lines }
    }

    /// Ends all connections of a client, and refuses it from now on.
    pub(crate) fn cut(&self, client_id: &str) {
        self.lines.cut.lock().insert(client_id.to_owned());
        for line in self.lines.open.lock().remove(client_id).unwrap_or_default() {
            line.abort();
        }
    }

    /// Lets a client through again.
    pub(crate) fn mend(&self, client_id: &str) {
        self.lines.cut.lock().remove(client_id);
    }
}

async fn serve(lines: Arc<Lines>, mut client: TcpStream, upstream: SocketAddr) {
    let Ok((client_id, begun)) = first_bytes(&mut client).await else {
        return;
    };
    let line = tokio::spawn(async move {
        let mut broker = TcpStream::connect(upstream).await?;
        broker.write_all(&begun).await?;
        copy_bidirectional(&mut client, &mut broker).await
    });
    lines.open.lock().entry(client_id.clone()).or_default().push(line.abort_handle());
    // Looked at after the line was listed, so that a cut meets it in one of the two places.
    if lines.cut.lock().contains(&client_id) {
        line.abort();
    }
}

/// The client id of the first request, and all bytes read up to it: size, kind, version and correlation go before.
async fn first_bytes(client: &mut TcpStream) -> std::io::Result<(String, Vec<u8>)> {
    let mut begun = vec![0; 14];
    client.read_exact(&mut begun).await?;
    let length = usize::from(u16::from_be_bytes([begun[12], begun[13]]));
    let mut client_id = vec![0; length];
    client.read_exact(&mut client_id).await?;
    begun.extend(&client_id);
    Ok((String::from_utf8_lossy(&client_id).into_owned(), begun))
}
