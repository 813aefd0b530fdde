//! What a node is started with.

use crate::peer::transport::{GateLimits, HANDSHAKE_DEADLINE};
use crate::peer::{BackoffTimes, HeartbeatTimes, MemoryPins, NodeIdentity, Pins, SeedRing};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a peer may take to make room for one message.
const SEND_DEADLINE: Duration = Duration::from_secs(30);

/// What a node is started with. Without an address to listen at it only calls others.
#[derive(Debug)]
pub struct NodeConfig {
    /// Who it is.
    pub identity: NodeIdentity,
    /// The seeds that admit.
    pub seeds: SeedRing,
    /// Where it listens over UDP; port 0 is any that is free.
    pub listen: Option<SocketAddr>,
    /// Where it listens over WebSocket.
    pub websocket_listen: Option<SocketAddr>,
    /// Where the keys of the nodes that it calls are pinned.
    pub pins: Arc<dyn Pins>,
    /// When peers are asked for a sign of life, and when they are given up.
    pub heartbeat: HeartbeatTimes,
    /// How many may call.
    pub limits: GateLimits,
    /// How long a handshake may take.
    pub handshake_deadline: Duration,
    /// How long a peer may take to make room for one message.
    pub send_deadline: Duration,
    /// How long to wait before a peer is called again.
    pub backoff: BackoffTimes,
}

impl NodeConfig {
    /// One that only calls others, and pins their keys for as long as the process lives.
    pub fn new(identity: NodeIdentity, seeds: SeedRing) -> Self {
        Self {
            identity,
            seeds,
            listen: None,
            websocket_listen: None,
            pins: Arc::new(MemoryPins::default()),
            heartbeat: HeartbeatTimes::default(),
            limits: GateLimits::default(),
            handshake_deadline: HANDSHAKE_DEADLINE,
            send_deadline: SEND_DEADLINE,
            backoff: BackoffTimes::default(),
        }
    }
}
