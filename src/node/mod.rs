//! The peer runtime: one node with its sessions.
//!
//! *What it is.* [`Node`]: started with a [`NodeConfig`], it takes calls and makes them, sends messages to its sessions,
//! gives out what comes, counts, and stops without leaving anything behind.
//!
//! *What it knows.* Sessions, messages, streams with numbers.
//!
//! *What it does not know.* What messages and streams carry, files, shards: only the service in [`storage`] does. The
//! catalog.
//!
//! *Invariants.* Whatever comes waits in bounded places: a peer that sends faster than it is read waits, and the others do
//! not. After [`Node::stop`] no task of the node runs and no socket of it is open.
//!
//! ```
//! use shard::node::{Node, NodeConfig};
//! use shard::peer::{GroupSeed, NodeIdentity, SeedRing};
//! use std::time::Duration;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let seeds = || SeedRing::new(GroupSeed::from_bytes([7; 32]));
//! let mut config = NodeConfig::new(NodeIdentity::from_seed(&[1; 32]), seeds());
//! config.listen = Some("127.0.0.1:0".parse()?);
//! let server = Node::start(config).await?;
//! let mut inbox = server.receive().expect("it is taken once");
//!
//! let client = Node::start(NodeConfig::new(NodeIdentity::from_seed(&[2; 32]), seeds())).await?;
//! let address = format!("node://{}", server.local_addr().expect("it listens"));
//! let session = client.connect(&address.parse()?).await?;
//! assert_eq!(session.peer(), server.id());
//!
//! client.send_to_all(5, b"the disk is nearly full").await;
//! let message = inbox.next().await.expect("a message");
//! assert_eq!((message.stream, message.data.as_ref()), (5, &b"the disk is nearly full"[..]));
//!
//! client.stop(Duration::from_secs(5)).await;
//! server.stop(Duration::from_secs(5)).await;
//! # Ok(())
//! # }
//! ```

mod config;
mod error;
pub mod home;
mod incoming;
mod outgoing;
mod stats;
mod stop;
pub mod storage;

pub use config::NodeConfig;
pub use error::NodeError;
pub use incoming::{Incoming, Received, ServiceStream, SessionEvent};
pub use outgoing::MAX_MESSAGE_STREAMS;
pub use stats::NodeStats;
pub use stop::StopReport;

use crate::id::NodeId;
use crate::peer::transport::{LocalNode, Session, SessionId, Traffic, Transport};
use crate::peer::{Backoff, BackoffTimes, MAX_MESSAGE_BYTES, PeerAddress, TransportKind, WireError};
use futures_util::future::join_all;
use incoming::Channel;
use outgoing::Outgoing;
use stats::Counters;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Sessions that were begun and are not in the table yet.
const MAX_ARRIVING: usize = 64;

/// A node. Clones are the same node.
#[derive(Debug, Clone)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    transport: Arc<Transport>,
    table: Mutex<Table>,
    messages: Channel<Received>,
    services: Channel<ServiceStream>,
    events: Channel<SessionEvent>,
    is_open: Arc<AtomicBool>,
    stopping: CancellationToken,
    tracker: TaskTracker,
    counters: Counters,
    address: Option<SocketAddr>,
    websocket_address: Option<SocketAddr>,
    send_deadline: Duration,
    backoff: BackoffTimes,
    started: Instant,
}

/// The sessions there are, and what went over those that are over.
#[derive(Debug, Default)]
struct Table {
    sessions: BTreeMap<SessionId, Arc<Outgoing>>,
    past: Traffic,
}

/// What became of a message that went to several sessions.
#[derive(Debug, Default)]
pub struct SendReport {
    /// The sessions that have it, as far as the transport took it.
    pub sent: Vec<SessionId>,
    /// Those that do not, and why.
    pub failed: Vec<(SessionId, NodeError)>,
}

impl Inner {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Node {
    /// Starts a node; it takes calls, if it is to listen, from the moment this returns.
    pub async fn start(config: NodeConfig) -> Result<Self, NodeError> {
        let local = LocalNode::new(&config.identity, config.seeds, config.heartbeat, config.handshake_deadline)?;
        let transport = Transport::new(Arc::new(local), config.pins, config.limits);
        let (is_open, stopping) = (Arc::new(AtomicBool::new(true)), CancellationToken::new());
        let tracker = TaskTracker::new();
        let (admitted, arriving) = mpsc::channel(MAX_ARRIVING);
        let mut addresses = [None, None];
        let kinds = [(TransportKind::Quic, config.listen), (TransportKind::WebSocket, config.websocket_listen)];
        let mut listeners = Vec::new();
        for ((kind, address), bound) in kinds.into_iter().zip(&mut addresses) {
            if let Some(address) = address {
                let listener = transport.listen(kind, address).await?;
                *bound = Some(listener.local_addr());
                listeners.push(listener);
            }
        }
        for listener in listeners {
            tracker.spawn(listener.run(Arc::clone(&is_open), admitted.clone(), stopping.clone()));
        }
        let [address, websocket_address] = addresses;
        let inner = Inner {
            transport,
            table: Mutex::default(),
            messages: Channel::default(),
            services: Channel::default(),
            events: Channel::default(),
            is_open,
            stopping,
            tracker,
            counters: Counters::default(),
            address,
            websocket_address,
            send_deadline: config.send_deadline,
            backoff: config.backoff,
            started: Instant::now(),
        };
        let node = Self { inner: Arc::new(inner) };
        node.inner.tracker.spawn(node.clone().arrive(arriving));
        Ok(node)
    }

    /// Its id.
    pub fn id(&self) -> NodeId {
        self.inner.transport.local().id()
    }

    /// Where it listens over UDP.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.inner.address
    }

    /// Where it listens over WebSocket.
    pub fn websocket_addr(&self) -> Option<SocketAddr> {
        self.inner.websocket_address
    }

    /// Takes calls again.
    pub fn enable_accept(&self) {
        self.inner.is_open.store(true, Ordering::Relaxed);
    }

    /// Takes no calls; the sessions there are go on.
    pub fn disable_accept(&self) {
        self.inner.is_open.store(false, Ordering::Relaxed);
    }

    /// Calls a node.
    pub async fn connect(&self, address: &PeerAddress) -> Result<Session, NodeError> {
        let called = tokio::select! {
            called = self.inner.transport.dial(address) => called,
            () = self.inner.stopping.cancelled() => return Err(NodeError::Stopped),
        };
        let session = called.inspect_err(|_| Counters::count(&self.inner.counters.errors))?;
        if self.take_in(&session) { Ok(session) } else { Err(NodeError::Stopped) }
    }

    /// Calls a node, and calls it again whenever the session is over, each time waiting longer while it fails. It ends when
    /// the node is stopped.
    pub fn keep_connected(&self, address: PeerAddress) {
        let node = self.clone();
        self.inner.tracker.spawn(async move {
            let keeping = async {
                let mut backoff = Backoff::new(node.inner.backoff);
                loop {
                    match node.connect(&address).await {
                        Ok(session) => {
                            backoff.succeeded();
                            session.closed().await;
                        }
                        Err(error) => tracing::debug!(%address, "calling a node: {error}"),
                    }
                    // Without randomness the wait is one that is allowed all the same.
                    let random = getrandom::u64().unwrap_or_default();
                    sleep(Duration::from_millis(backoff.failed(random))).await;
                }
            };
            tokio::select! {
                () = keeping => {}
                () = node.inner.stopping.cancelled() => {}
            }
        });
    }

    /// The sessions there are, oldest first.
    pub fn sessions(&self) -> Vec<Session> {
        self.inner.table().sessions.values().map(|outgoing| outgoing.session.clone()).collect()
    }

    /// Sends a message on the stream with this number to every session.
    pub async fn send_to_all(&self, stream: u64, bytes: &[u8]) -> SendReport {
        let sessions: Vec<SessionId> = self.inner.table().sessions.keys().copied().collect();
        self.send_to_sessions(&sessions, stream, bytes).await
    }

    /// Sends a message of at most [`MAX_MESSAGE_BYTES`] on the stream with this number to these sessions, at once: a slow one
    /// holds up none but itself.
    pub async fn send_to_sessions(&self, sessions: &[SessionId], stream: u64, bytes: &[u8]) -> SendReport {
        let sends = sessions.iter().map(async |id| (*id, self.send(*id, stream, bytes).await));
        let mut report = SendReport::default();
        for (id, outcome) in join_all(sends).await {
            match outcome {
                Ok(()) => report.sent.push(id),
                Err(error) => report.failed.push((id, error)),
            }
        }
        report
    }

    async fn send(&self, id: SessionId, stream: u64, bytes: &[u8]) -> Result<(), NodeError> {
        let counters = &self.inner.counters;
        let sent = async {
            if bytes.len() > MAX_MESSAGE_BYTES {
                let length = bytes.len() as u64;
                let long = WireError::Long { what: "a message", length, limit: MAX_MESSAGE_BYTES };
                return Err(crate::peer::transport::PeerError::from(long).into());
            }
            if self.inner.stopping.is_cancelled() {
                return Err(NodeError::Stopped);
            }
            let outgoing = self.inner.table().sessions.get(&id).cloned().ok_or(NodeError::NoSession(id))?;
            outgoing.send(stream, bytes, self.inner.send_deadline).await
        };
        let outcome = sent.await;
        Counters::count(if outcome.is_ok() { &counters.messages_sent } else { &counters.errors });
        outcome
    }

    /// The messages that come, from all sessions; `None` when they were taken already. Who does not read them makes the
    /// peers wait.
    pub fn receive(&self) -> Option<Incoming<Received>> {
        self.inner.messages.take()
    }

    /// The streams that peers open for services; `None` when they were taken already. Before they are taken, such streams are
    /// refused.
    pub fn services(&self) -> Option<Incoming<ServiceStream>> {
        self.inner.services.take()
    }

    /// Which sessions begin and end; `None` when they were taken already. It ends when the node is stopped, after the end of
    /// the last session. Who takes them reads them all.
    pub fn session_events(&self) -> Option<Incoming<SessionEvent>> {
        self.inner.events.take()
    }

    async fn arrive(self, mut arriving: mpsc::Receiver<Session>) {
        loop {
            let session = tokio::select! {
                session = arriving.recv() => session,
                () = self.inner.stopping.cancelled() => None,
            };
            let Some(session) = session else { break };
            self.take_in(&session);
        }
        // What arrived in the meantime is not taken in.
        arriving.close();
        while let Some(session) = arriving.recv().await {
            session.close();
        }
    }

    /// Puts a session into the table; a node that stops closes it.
    fn take_in(&self, session: &Session) -> bool {
        {
            let mut table = self.inner.table();
            if self.inner.stopping.is_cancelled() {
                drop(table);
                session.close();
                return false;
            }
            table.sessions.insert(session.id(), Arc::new(Outgoing::new(session.clone())));
        }
        self.inner.tracker.spawn(self.clone().serve(session.clone()));
        true
    }

    fn forget(&self, session: &Session) {
        let mut table = self.inner.table();
        if table.sessions.remove(&session.id()).is_some() {
            table.past += session.traffic();
        }
    }
}
