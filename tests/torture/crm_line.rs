//! The line between one worker and one CRM: a port that passes on what comes, refuses it, or lets it seep away.
//!
//! Whatever passes comes out at an address that is written down, so that the CRM's books tell whose request it was.

use std::{io, net::SocketAddr, sync::Arc};

use contact_replicator::clock::Clock;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use crate::{history::Line, record::Recorder};

/// Bytes passed on at a time.
const PIECE_BYTES: usize = 16 * 1024;

/// What becomes of what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Condition {
    #[default]
    Open,
    /// Nobody listens, and connections are broken.
    Refused,
    /// Connections are taken, and nothing passes.
    Silent,
}

pub(crate) struct CrmLine {
    pub(crate) address: SocketAddr,
    condition: watch::Sender<Condition>,
}

impl CrmLine {
    /// Listens at once. It ends with its value.
    pub(crate) async fn start(
        address: SocketAddr,
        upstream: SocketAddr,
        worker: Arc<str>,
        recorder: Recorder,
    ) -> io::Result<Self> {
        let (condition, changes) = watch::channel(Condition::Open);
        let listener = TcpListener::bind(address).await?;
        tokio::spawn(listen(listener, Passage { upstream, worker, recorder, condition: changes }));
        Ok(Self { address, condition })
    }

    pub(crate) fn set(&self, condition: Condition) {
        self.condition.send_replace(condition);
    }
}

#[derive(Clone)]
struct Passage {
    upstream: SocketAddr,
    worker: Arc<str>,
    recorder: Recorder,
    condition: watch::Receiver<Condition>,
}

async fn listen(listener: TcpListener, mut passage: Passage) {
    let address = listener.local_addr().expect("it is bound");
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        let condition = *passage.condition.borrow_and_update();
        if condition == Condition::Refused {
            listener = None;
            connections.abort_all();
        } else if listener.is_none() {
            let bound = TcpListener::bind(address).await;
            listener = Some(bound.unwrap_or_else(|error| panic!("the line cannot listen on {address} again: {error}")));
        }
        while connections.try_join_next().is_some() {}
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = passage.condition.changed() => if changed.is_err() { return },
            accepted = accepted => if let Ok((client, _)) = accepted {
                let passage = passage.clone();
                // However it ends, both sides are closed.
                connections.spawn(async move { passage.carry(client).await.is_ok() });
            },
        }
    }
}

impl Passage {
    async fn carry(self, mut client: TcpStream) -> io::Result<()> {
        self.may_pass().await?;
        let mut crm = TcpStream::connect(self.upstream).await?;
        client.set_nodelay(true)?;
        crm.set_nodelay(true)?;
        let from = Clock::System.now();
        self.recorder.line(Line { from, peer: crm.local_addr()?, worker: Arc::clone(&self.worker) });
        let (mut from_client, mut to_client) = client.split();
        let (mut from_crm, mut to_crm) = crm.split();
        tokio::select! {
            ended = self.pump(&mut from_client, &mut to_crm) => ended,
            ended = self.pump(&mut from_crm, &mut to_client) => ended,
        }
    }

    async fn pump(
        &self,
        from: &mut (impl AsyncReadExt + Unpin),
        to: &mut (impl AsyncWriteExt + Unpin),
    ) -> io::Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let length = from.read(&mut piece).await?;
            if length == 0 {
                return Ok(());
            }
            self.may_pass().await?;
            to.write_all(&piece[..length]).await?;
        }
    }

    async fn may_pass(&self) -> io::Result<()> {
        let mut condition = self.condition.clone();
        let open = condition.wait_for(|condition| *condition == Condition::Open).await;
        open.map(drop).map_err(|_ended| io::ErrorKind::ConnectionAborted.into())
    }
}
