//! A proxy between clients and brokers: lines that are cut, slow, or break in the middle of a commit.
//!
//! A broker of `deploy/kafka` has a listener that announces a port of its own, where this proxy waits. Every client
//! that was given that listener comes through here, also to the brokers it learns of. Clients are told apart by the
//! `client.id` that begins each of their requests, and what happens to one happens on its lines to all brokers.
//!
//! Requests are passed on whole, since each tells by its first bytes what it asks for (KIP-482 and the protocol guide of
//! Kafka: length, key of the kind, version, correlation, client id). So a line can be cut exactly when a transaction is
//! being ended over it: before the broker learns of it, or after, when the answer is on its way and the client will never
//! know.

use std::{
    collections::HashMap,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::{AbortHandle, JoinSet},
    time::Instant,
};

/// Length, key of the kind, version, correlation, and the length of the client id.
const HEADER_BYTES: usize = 14;
/// No request of ours is larger, so a longer one is no request.
const REQUEST_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Pieces that are on their way over a slow line.
const PIECES_MAX: usize = 256;
/// Bytes of a piece of an answer.
const PIECE_BYTES: usize = 64 * 1024;
/// The request that brings records.
const PRODUCE: i16 = 0;
/// The request that commits or aborts a transaction.
const END_TXN: i16 = 26;
/// The request that adds a group's offsets to a transaction.
const TXN_OFFSET_COMMIT: i16 = 28;

/// Where in a transaction a line breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The broker does not learn that the transaction is to end.
    BeforeTheEnd,
    /// The broker ended the transaction, and the client does not hear of it.
    AfterTheEnd,
    /// The broker took the offsets, and the client does not hear of it.
    AfterTheOffsets,
    /// The broker took records, and the client does not hear of it.
    AfterTheRecords,
}

impl Moment {
    fn request(self) -> i16 {
        match self {
            Self::BeforeTheEnd | Self::AfterTheEnd => END_TXN,
            Self::AfterTheOffsets => TXN_OFFSET_COMMIT,
            Self::AfterTheRecords => PRODUCE,
        }
    }
}

/// All lines to the brokers of one cluster.
pub(crate) struct Proxy {
    /// One for each broker.
    addresses: Vec<SocketAddr>,
    clients: Clients,
}

type Clients = Arc<Mutex<HashMap<String, Client>>>;

/// What holds for the lines of one client.
#[derive(Default)]
struct Client {
    /// Connections under way.
    open: Vec<AbortHandle>,
    cut: bool,
    delay: Duration,
    /// Where the next commit breaks, and whom to tell that it did.
    breaks: Option<(Moment, oneshot::Sender<()>)>,
}

impl Client {
    fn cut(&mut self) {
        self.cut = true;
        for line in self.open.drain(..) {
            line.abort();
        }
    }
}

impl Proxy {
    /// The proxy in front of the brokers at these ports. It runs on a thread of its own, for whoever starts it may have a
    /// runtime that ends before the proxy is needed no more.
    pub(crate) async fn start(ports: &[u16]) -> Self {
        let at = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let ways: Vec<_> = ports.iter().map(|port| (at(port + 3), at(port + 2))).collect();
        let addresses = ways.iter().map(|(address, _)| *address).collect();
        let clients = Clients::default();
        let (listening, started) = oneshot::channel();
        let shared = Arc::clone(&clients);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let mut listeners = JoinSet::new();
                for (address, upstream) in ways {
                    let listener = TcpListener::bind(address).await;
                    let listener =
                        listener.unwrap_or_else(|error| panic!("the proxy cannot listen on {address}: {error}"));
                    listeners.spawn(listen(Arc::clone(&shared), listener, upstream));
                }
                listening.send(()).expect("somebody waits for the proxy");
                while listeners.join_next().await.is_some() {}
            });
        });
        started.await.expect("the proxy starts");
        Self { addresses, clients }
    }

    /// Where its clients find it, as their settings write it.
    pub(crate) fn servers(&self) -> String {
        self.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }

    fn client<T>(&self, client_id: &str, change: impl FnOnce(&mut Client) -> T) -> T {
        change(self.clients.lock().entry(client_id.to_owned()).or_default())
    }

    /// Ends all connections of a client, and refuses it from now on.
    pub(crate) fn cut(&self, client_id: &str) {
        self.client(client_id, Client::cut);
    }

    /// Lets a client through again, at full speed.
    pub(crate) fn mend(&self, client_id: &str) {
        self.client(client_id, |client| {
            (client.cut, client.delay, client.breaks) = (false, Duration::ZERO, None);
        });
    }

    /// From now on whatever passes, in either direction, takes this much longer.
    pub(crate) fn delay(&self, client_id: &str, by: Duration) {
        self.client(client_id, |client| client.delay = by);
    }

    /// Cuts the client's lines at this moment of its next transaction. The answer comes when that was done, and never if the
    /// line is mended before.
    pub(crate) fn cut_at(&self, client_id: &str, moment: Moment) -> oneshot::Receiver<()> {
        let (tell, told) = oneshot::channel();
        self.client(client_id, |client| client.breaks = Some((moment, tell)));
        told
    }
}

async fn listen(clients: Clients, listener: TcpListener, upstream: SocketAddr) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        tokio::spawn(serve(Arc::clone(&clients), client, upstream));
    }
}

async fn serve(clients: Clients, mut socket: TcpStream, upstream: SocketAddr) {
    let Ok(first) = request(&mut socket).await else {
        return;
    };
    let Some(client_id) = client_id(&first) else {
        return;
    };
    let line = Line { clients: Arc::clone(&clients), client_id: client_id.clone(), swallows: AtomicBool::new(false) };
    let carrying = tokio::spawn(async move {
        // However it ends, both sides are closed.
        let _ended = line.carry(socket, upstream, first).await;
    });
    let mut clients = clients.lock();
    let client = clients.entry(client_id).or_default();
    client.open.retain(|line| !line.is_finished());
    client.open.push(carrying.abort_handle());
    if client.cut {
        client.cut();
    }
}

/// One request, with its length before it.
async fn request(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut request = vec![0; 4];
    from.read_exact(&mut request).await?;
    let length = u32::from_be_bytes([request[0], request[1], request[2], request[3]]) as usize;
    if !(HEADER_BYTES - 4..=REQUEST_BYTES_MAX).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    request.resize(4 + length, 0);
    from.read_exact(&mut request[4..]).await?;
    Ok(request)
}

fn kind(request: &[u8]) -> i16 {
    i16::from_be_bytes([request[4], request[5]])
}

fn client_id(request: &[u8]) -> Option<String> {
    let length = usize::from(u16::from_be_bytes([request[12], request[13]]));
    let text = request.get(HEADER_BYTES..HEADER_BYTES + length)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

/// A connection of a client.
struct Line {
    clients: Clients,
    client_id: String,
    /// Whether the next answer is the one that the client must not hear.
    swallows: AtomicBool,
}

impl Line {
    async fn carry(&self, client: TcpStream, upstream: SocketAddr, first: Vec<u8>) -> io::Result<()> {
        let broker = TcpStream::connect(upstream).await?;
        client.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        let (mut from_client, to_client) = client.into_split();
        let (mut from_broker, to_broker) = broker.into_split();
        let (asked, asks) = mpsc::channel(PIECES_MAX);
        let (told, tells) = mpsc::channel(PIECES_MAX);
        let questions = async {
            let mut next = first;
            loop {
                if self.breaks_at(&next) {
                    return Ok(());
                }
                self.pass(&asked, next).await?;
                next = request(&mut from_client).await?;
            }
        };
        let answers = async {
            loop {
                let mut piece = vec![0; PIECE_BYTES];
                let length = from_broker.read(&mut piece).await?;
                if length == 0 || self.swallows.load(Ordering::SeqCst) {
                    self.broken();
                    return io::Result::Ok(());
                }
                piece.truncate(length);
                self.pass(&told, piece).await?;
            }
        };
        tokio::select! {
            ended = questions => ended,
            ended = answers => ended,
            ended = write(to_broker, asks) => ended,
            ended = write(to_client, tells) => ended,
        }
    }

    /// Puts a piece on its way, to arrive after the delay that holds now.
    async fn pass(&self, way: &mpsc::Sender<(Instant, Vec<u8>)>, piece: Vec<u8>) -> io::Result<()> {
        let delay = self.clients.lock().get(&self.client_id).map_or(Duration::ZERO, |client| client.delay);
        way.send((Instant::now() + delay, piece)).await.map_err(|_closed| io::ErrorKind::BrokenPipe.into())
    }

    /// Whether the line is to be cut instead of passing this request on.
    fn breaks_at(&self, request: &[u8]) -> bool {
        let mut clients = self.clients.lock();
        let client = clients.entry(self.client_id.clone()).or_default();
        let Some((moment, _)) = &client.breaks else { return false };
        if moment.request() != kind(request) {
            return false;
        }
        match moment {
            Moment::AfterTheEnd | Moment::AfterTheOffsets | Moment::AfterTheRecords => {
                self.swallows.store(true, Ordering::SeqCst);
                false
            }
            Moment::BeforeTheEnd => {
                drop(clients);
                self.swallows.store(true, Ordering::SeqCst);
                self.broken();
                true
            }
        }
    }

    /// Cuts all lines of the client, this one too, if this is the moment that was waited for.
    fn broken(&self) {
        if !self.swallows.load(Ordering::SeqCst) {
            return;
        }
        let mut clients = self.clients.lock();
        let client = clients.entry(self.client_id.clone()).or_default();
        client.cut();
        if let Some((_, tell)) = client.breaks.take() {
            // Whoever asked may have given up waiting.
            let _gone = tell.send(()).is_err();
        }
    }
}

/// Writes each piece when it is due.
async fn write(mut to: impl AsyncWrite + Unpin, mut pieces: mpsc::Receiver<(Instant, Vec<u8>)>) -> io::Result<()> {
    while let Some((due, piece)) = pieces.recv().await {
        tokio::time::sleep_until(due).await;
        to.write_all(&piece).await?;
    }
    Ok(())
}
