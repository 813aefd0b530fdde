//! Sessions over any connection of bytes, for tests of what stands above sessions: no sockets, no TLS, no handshake.

use super::super::handshake::Admitted;
use super::super::{HeartbeatTimes, NodeIdentity, SeedRing};
use super::link::{Established, Link};
use super::metered::Metered;
use super::mux::Mux;
use super::{HANDSHAKE_DEADLINE, LocalNode, Session, SessionId, SessionSide};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::TaskTracker;

/// Silence ends no session here: the clock of a test is not that of the heartbeat.
const TIMES: HeartbeatTimes = HeartbeatTimes { interval_ms: 1_000_000_000, idle_ms: 2_000_000_000 };

/// Two nodes that know each other: the first calls.
pub(crate) struct Pair {
    nodes: [(Admitted, Arc<LocalNode>); 2],
}

impl Pair {
    pub(crate) fn of(nodes: [&NodeIdentity; 2], seeds: impl Fn() -> SeedRing) -> Self {
        let local = |node: &NodeIdentity| {
            let local = LocalNode::new(node, seeds(), TIMES, HANDSHAKE_DEADLINE).expect("a node");
            (Admitted { peer: node.id(), peer_key: node.public_key(), version: 1 }, Arc::new(local))
        };
        Self { nodes: nodes.map(local) }
    }

    /// The one that calls.
    pub(crate) fn caller(&self) -> &Arc<LocalNode> {
        &self.nodes[0].1
    }

    /// Both ends of a session between them; their tasks are the tracker's.
    pub(crate) fn connect<S>(&self, [near, far]: [S; 2], tracker: &TaskTracker) -> [Session; 2]
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let [caller, called] = &self.nodes;
        let begin = |stream: S, own: &Arc<LocalNode>, other: &Admitted, side| {
            let (mode, number) = match side {
                SessionSide::Initiator => (yamux::Mode::Client, 1),
                SessionSide::Responder => (yamux::Mode::Server, 2),
            };
            let (stream, meter) = Metered::new(stream, u64::MAX, &Arc::default());
            let established = Established {
                link: Link::WebSocket(Mux::start(stream, mode, meter, tracker)),
                admitted: *other,
                remote: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 1),
                pass: None,
            };
            Session::start(SessionId(number), side, established, Arc::clone(own), tracker)
        };
        [
            begin(near, &caller.1, &called.0, SessionSide::Initiator),
            begin(far, &called.1, &caller.0, SessionSide::Responder),
        ]
    }
}
