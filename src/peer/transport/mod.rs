//! Sockets below sessions: QUIC over UDP, and TLS with WebSocket over TCP.
//!
//! *What it is.* A [`Transport`] calls nodes ([`Transport::dial`]) and takes calls ([`Transport::listen`]); either gives a
//! [`Session`] with a peer that is known, and that opens and takes [`PeerStream`]s.
//!
//! *What it knows.* Sockets, the clock, tasks.
//!
//! *What it does not know.* What the streams carry; what becomes of a session.
//!
//! *Invariants.* Nobody who has not shown to be at an address is answered with more than was asked, over UDP. Before a
//! peer is known it has [`HANDSHAKE_DEADLINE`], a kibibyte and a place that is counted ([`GateLimits`]) and may have to make room
//! for a newer one. A frame that has begun is whole within [`FRAME_DEADLINE`]. There is no
//! session before both proofs were right, none with oneself, and, where the peer was called, none before its key was
//! compared with the pinned one. Nothing is sent early and nothing is resumed.

mod congestion;
mod datagram;
mod error;
mod gate;
mod link;
mod local;
#[cfg(test)]
pub(crate) mod memory;
mod metered;
mod mux;
mod quic;
mod session;
mod stream;
mod websocket;

pub use error::{CallFailure, CloseReason, PeerError};
pub use gate::{Gate, GateLimits, GateStats, Pass};
pub use link::Traffic;
pub use local::{HANDSHAKE_DEADLINE, LocalNode};
pub use session::{Session, SessionId, SessionSide};
pub use stream::{FRAME_DEADLINE, PeerStream, ReceiveHalf, SendHalf};

use super::{PeerAddress, Pins, TransportKind};
use link::Established;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Addresses of one host that are tried, one after another.
const MAX_ADDRESSES: usize = 4;
/// How long finding a host may take.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);
/// After an error of accept, such as too many open files, which would come again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the last goodbyes may take.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// Calls nodes, and takes calls.
#[derive(Debug)]
pub struct Transport {
    local: Arc<LocalNode>,
    pins: Arc<dyn Pins>,
    gate: Arc<Gate>,
    tracker: TaskTracker,
    sessions: AtomicU64,
    /// What drives QUIC: it ends when the sockets are closed.
    drivers: TaskTracker,
    /// The sockets from which nodes are called, over IPv4 and IPv6.
    callers: Mutex<[Option<quinn::Endpoint>; 2]>,
}

/// A socket that takes calls.
#[derive(Debug)]
pub struct Listener {
    transport: Arc<Transport>,
    socket: ListenerSocket,
    address: SocketAddr,
}

#[derive(Debug)]
enum ListenerSocket {
    Quic(quinn::Endpoint),
    WebSocket(TcpListener),
}

impl Transport {
    /// For one node. Nothing is bound yet.
    pub fn new(local: Arc<LocalNode>, pins: Arc<dyn Pins>, limits: GateLimits) -> Arc<Self> {
        Arc::new(Self {
            local,
            pins,
            gate: Gate::new(limits),
            tracker: TaskTracker::new(),
            sessions: AtomicU64::new(0),
            drivers: TaskTracker::new(),
            callers: Mutex::default(),
        })
    }

    /// This node.
    pub fn local(&self) -> &LocalNode {
        &self.local
    }

    /// Who is let in.
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// How many sessions there have been.
    pub fn session_count(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// How many tasks run for it.
    pub fn task_count(&self) -> usize {
        self.tracker.len() + self.drivers.len()
    }

    /// Calls a node, and compares its key with the one that is pinned for the address.
    pub async fn dial(&self, address: &PeerAddress) -> Result<Session, PeerError> {
        let found = timeout(RESOLVE_DEADLINE, lookup_host((address.host(), address.port()))).await;
        let found = found.map_err(|_| PeerError::TimedOut)?;
        let unknown = |source| PeerError::Resolve { address: address.clone(), source };
        let mut failure = unknown(std::io::ErrorKind::NotFound.into());
        for socket_address in found.map_err(unknown)?.take(MAX_ADDRESSES) {
            match self.call(address.transport(), socket_address).await {
                Ok(established) => {
                    let session = |this: &Self| this.begin(SessionSide::Initiator, established);
                    return self.compare(address, session);
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn compare(&self, address: &PeerAddress, begin: impl FnOnce(&Self) -> Session) -> Result<Session, PeerError> {
        let session = begin(self);
        if let Err(error) = self.pins.check(address, &session.peer_key()) {
            session.close();
            tracing::warn!("{error}");
            return Err(error.into());
        }
        Ok(session)
    }

    async fn call(&self, transport: TransportKind, address: SocketAddr) -> Result<Established, PeerError> {
        match transport {
            TransportKind::WebSocket => websocket::connect(address, &self.local, &self.tracker).await,
            TransportKind::Quic => {
                let endpoint = self.caller(address)?;
                quic::connect(&endpoint, address, &self.local).await
            }
        }
    }

    /// The socket from which addresses of this kind are called.
    fn caller(&self, address: SocketAddr) -> Result<quinn::Endpoint, PeerError> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let [over_ipv4, over_ipv6] = &mut *callers;
        let (caller, unspecified) = match address {
            SocketAddr::V4(_) => (over_ipv4, Ipv4Addr::UNSPECIFIED.into()),
            SocketAddr::V6(_) => (over_ipv6, Ipv6Addr::UNSPECIFIED.into()),
        };
        if let Some(endpoint) = caller {
            return Ok(endpoint.clone());
        }
        let endpoint = quic::bind(SocketAddr::new(unspecified, 0), &self.local, false, &self.drivers)?;
        Ok(caller.insert(endpoint).clone())
    }

    fn begin(&self, side: SessionSide, established: Established) -> Session {
        let id = SessionId(self.sessions.fetch_add(1, Ordering::Relaxed) + 1);
        Session::start(id, side, established, Arc::clone(&self.local), &self.tracker)
    }

    /// Binds a socket; port 0 is any that is free.
    pub async fn listen(self: &Arc<Self>, kind: TransportKind, address: SocketAddr) -> Result<Listener, PeerError> {
        let failed = |error| PeerError::socket(format!("listening at {address}"), error);
        let (socket, address) = match kind {
            TransportKind::Quic => {
                let endpoint = quic::bind(address, &self.local, true, &self.drivers)?;
                let bound = endpoint.local_addr().map_err(failed)?;
                (ListenerSocket::Quic(endpoint), bound)
            }
            TransportKind::WebSocket => {
                let listener = TcpListener::bind(address).await.map_err(failed)?;
                let bound = listener.local_addr().map_err(failed)?;
                (ListenerSocket::WebSocket(listener), bound)
            }
        };
        Ok(Listener { transport: Arc::clone(self), socket, address })
    }

    /// Waits until every task of every session ended, the goodbyes are out and the sockets are closed. The sessions must be
    /// closed, the listeners stopped, and nobody may call any more.
    pub async fn close(&self) {
        self.tracker.close();
        self.tracker.wait().await;
        let callers = std::mem::take(&mut *self.callers.lock().unwrap_or_else(PoisonError::into_inner));
        for endpoint in callers.into_iter().flatten() {
            endpoint.close(quinn::VarInt::from_u32(0), b"");
            timeout(CLOSE_DEADLINE, endpoint.wait_idle()).await.ok();
        }
        self.drivers.close();
        self.drivers.wait().await;
    }
}

impl Listener {
    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Takes calls while `is_open`, until it is stopped; each session goes into the channel.
    pub async fn run(self, is_open: Arc<AtomicBool>, admitted: mpsc::Sender<Session>, stop: CancellationToken) {
        let transport = &self.transport;
        loop {
            let knock = tokio::select! {
                knock = self.next() => knock,
                () = stop.cancelled() => break,
            };
            match knock {
                Some(knock) if is_open.load(Ordering::Relaxed) => {
                    transport.answer(knock, &admitted, &stop);
                }
                Some(knock) => knock.refuse(),
                None => {}
            }
        }
        if let ListenerSocket::Quic(endpoint) = &self.socket {
            endpoint.set_server_config(None);
            // Sessions that were taken here live in this socket: they end first.
            endpoint.wait_idle().await;
        }
    }

    async fn next(&self) -> Option<Knock> {
        match &self.socket {
            ListenerSocket::Quic(endpoint) => match endpoint.accept().await {
                Some(incoming) => Some(Knock::Quic(Box::new(incoming))),
                None => std::future::pending().await,
            },
            ListenerSocket::WebSocket(listener) => match listener.accept().await {
                Ok((stream, remote)) => Some(Knock::WebSocket(stream, remote)),
                Err(_) => {
                    sleep(ACCEPT_PAUSE).await;
                    None
                }
            },
        }
    }
}

/// One that calls.
enum Knock {
    Quic(Box<quinn::Incoming>),
    WebSocket(TcpStream, SocketAddr),
}

impl Knock {
    fn refuse(self) {
        match self {
            Self::Quic(incoming) => incoming.refuse(),
            Self::WebSocket(stream, _) => drop(stream),
        }
    }
}

impl Transport {
    /// Hears one that calls, in a task of its own, if there is room.
    fn answer(self: &Arc<Self>, knock: Knock, admitted: &mpsc::Sender<Session>, stop: &CancellationToken) {
        let remote = match &knock {
            Knock::WebSocket(_, remote) => *remote,
            Knock::Quic(incoming) => incoming.remote_address(),
        };
        let knock = match knock {
            // Whoever asks from an address must first answer from it: until then nothing is kept.
            Knock::Quic(incoming) if !incoming.remote_address_validated() => {
                // It cannot have been asked before, since it is not validated.
                incoming.retry().ok();
                return;
            }
            // A connection that was given up lives on in QUIC for a moment: however many come, there are not more of these.
            Knock::Quic(incoming) if self.drivers.len() > self.gate.most_connections() => {
                self.gate.count_refused();
                return incoming.refuse();
            }
            knock => knock,
        };
        let Some(pass) = self.gate.enter(remote.ip()) else { return knock.refuse() };
        let (this, admitted, stop) = (Arc::clone(self), admitted.clone(), stop.clone());
        self.tracker.spawn(async move {
            let displaced = pass.displaced();
            let pass = (pass, &this.gate.unknown);
            let heard = async {
                match knock {
                    Knock::Quic(incoming) => quic::welcome(*incoming, &this.local, pass).await,
                    Knock::WebSocket(stream, _) => {
                        websocket::welcome(stream, remote, &this.local, pass, &this.tracker).await
                    }
                }
            };
            let outcome = tokio::select! {
                outcome = heard => outcome,
                () = displaced.cancelled() => Err(PeerError::Displaced),
                () = stop.cancelled() => return,
            };
            match outcome {
                Ok(established) => {
                    let session = this.begin(SessionSide::Responder, established);
                    if admitted.send(session.clone()).await.is_err() {
                        session.close();
                    }
                }
                Err(error) => {
                    if matches!(error, PeerError::TimedOut) {
                        this.gate.count_late();
                    }
                    tracing::debug!(%remote, "a caller is not admitted: {error}");
                }
            }
        });
    }
}
