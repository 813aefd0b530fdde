//! Nodes on loopback, for the tests of sessions.

use shard::node::{Node, NodeConfig};
use shard::peer::{GroupSeed, HeartbeatTimes, NodeIdentity, PeerAddress, SeedRing, TransportKind};
use std::future::Future;
use std::time::Duration;

pub(crate) const BOTH: [TransportKind; 2] = [TransportKind::Quic, TransportKind::WebSocket];
/// Whatever waits longer than this is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn identity(number: u8) -> NodeIdentity {
    NodeIdentity::from_seed(&[number; 32])
}

pub(crate) fn ring(numbers: &[u8]) -> SeedRing {
    let seeds = numbers.iter().map(|number| GroupSeed::from_bytes([*number; 32])).collect();
    SeedRing::from_seeds(seeds).expect("a ring")
}

/// A node that only calls others.
pub(crate) fn caller(number: u8, seeds: &[u8]) -> NodeConfig {
    let mut config = NodeConfig::new(identity(number), ring(seeds));
    // The machine may be busy with other tests.
    config.handshake_deadline = Duration::from_secs(30);
    config
}

/// A node that listens over both transports.
pub(crate) fn listener(number: u8, seeds: &[u8]) -> NodeConfig {
    let mut config = caller(number, seeds);
    config.listen = Some("127.0.0.1:0".parse().expect("an address"));
    config.websocket_listen = config.listen;
    config
}

pub(crate) async fn start(config: NodeConfig) -> Node {
    Node::start(config).await.expect("a node")
}

pub(crate) fn address(node: &Node, transport: TransportKind) -> PeerAddress {
    let text = match transport {
        TransportKind::Quic => format!("node://{}", node.local_addr().expect("it listens")),
        TransportKind::WebSocket => format!("node+ws://{}", node.websocket_addr().expect("it listens")),
    };
    text.parse().expect("an address")
}

/// Waits, and fails when it takes too long.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it is stuck")
}

/// Stops a node whose peers are there: all of them have read what was sent.
pub(crate) async fn stop(node: &Node) {
    let report = within(node.stop(Duration::from_secs(20))).await;
    assert_eq!(report.cut, 0, "{report:?}");
}

/// A peer that says nothing for this long is gone.
pub(crate) fn impatient() -> HeartbeatTimes {
    HeartbeatTimes { interval_ms: 500, idle_ms: 4000 }
}
