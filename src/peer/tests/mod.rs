//! Handshakes and streams without a network.

mod channels;
mod handshakes;
mod schedules;

use super::{Channel, GroupSeed, NodeIdentity, SeedRing};

fn node(number: u8) -> NodeIdentity {
    NodeIdentity::from_seed(&[number; 32])
}

fn seed(number: u8) -> GroupSeed {
    GroupSeed::from_bytes([number; 32])
}

fn ring(numbers: &[u8]) -> SeedRing {
    SeedRing::from_seeds(numbers.iter().map(|number| seed(*number)).collect()).expect("a ring")
}

/// What a channel with this number says at the end that is not the peer's.
fn channel_to(peer: &NodeIdentity, number: u8) -> Channel {
    Channel { peer_key: peer.public_key(), exporter: [number; 32] }
}
