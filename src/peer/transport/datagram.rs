//! How long a datagram may be on the way to a peer, as far as the system knows.

use quinn::MtuDiscoveryConfig;
use std::net::SocketAddr;

/// What the headers below UDP's content take at most: those of IPv6.
const HEADER_BYTES: u32 = 48;
/// What Ethernet carries, where the system does not say.
const ETHERNET_BYTES: u32 = 1500;
/// Ten datagrams of this length, as many as are handed over at once, are the most that the system takes at once.
pub(super) const MAX_DATAGRAM_BYTES: u16 = 6550;
/// What every way must carry (RFC 9000, section 14).
const MIN_DATAGRAM_BYTES: u16 = 1200;

/// How the longest that comes through is looked for.
pub(super) fn discovery_to(peer: SocketAddr) -> MtuDiscoveryConfig {
    let (mut discovery, longest) = (MtuDiscoveryConfig::default(), longest_to(peer));
    discovery.upper_bound(longest);
    if peer.ip().to_canonical().is_loopback() {
        // There is no further step that carries less: the longest is tried at once, and nothing between.
        discovery.minimum_change((longest - MIN_DATAGRAM_BYTES).max(1));
    }
    discovery
}

/// The longest that is worth trying: loopback and networks with long frames carry more than Ethernet, and tunnels less. What a
/// way really carries is found out by trying.
fn longest_to(peer: SocketAddr) -> u16 {
    let bytes = frame_bytes(peer).unwrap_or(ETHERNET_BYTES).saturating_sub(HEADER_BYTES);
    u16::try_from(bytes).unwrap_or(u16::MAX).clamp(MIN_DATAGRAM_BYTES, MAX_DATAGRAM_BYTES)
}

/// What the system's first step on the way to the peer carries; nothing is sent.
#[cfg(target_os = "linux")]
fn frame_bytes(peer: SocketAddr) -> Option<u32> {
    use rustix::net::sockopt::{ip_mtu, ipv6_mtu};
    use std::net::{Ipv4Addr, Ipv6Addr, UdpSocket};
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let unspecified = match peer {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(unspecified, 0)).ok()?;
    socket.connect(peer).ok()?;
    let frame_bytes = if peer.is_ipv4() { ip_mtu(&socket) } else { ipv6_mtu(&socket) };
    frame_bytes.ok()
}

/// Other systems are not asked.
#[cfg(not(target_os = "linux"))]
fn frame_bytes(_peer: SocketAddr) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_carries_more_than_ethernet_and_nothing_is_shorter_than_every_way_must_carry() {
        let longest = |text: &str| longest_to(text.parse().expect("an address"));
        assert_eq!(longest("127.0.0.1:9"), if cfg!(target_os = "linux") { MAX_DATAGRAM_BYTES } else { 1452 });
        assert_eq!(longest("[::ffff:127.0.0.1]:9"), longest("127.0.0.1:9"));
        // Whether there is a way or none.
        assert!((MIN_DATAGRAM_BYTES..=MAX_DATAGRAM_BYTES).contains(&longest("192.0.2.1:9")));
        assert!((MIN_DATAGRAM_BYTES..=MAX_DATAGRAM_BYTES).contains(&longest("[2001:db8::1]:9")));
    }

    #[test]
    fn as_many_datagrams_as_are_handed_over_at_once_are_no_more_than_the_system_takes() {
        const HANDED_OVER: u32 = 10;
        const MOST_AT_ONCE: u32 = 65_535 - 20 - 8;
        assert!(HANDED_OVER * u32::from(MAX_DATAGRAM_BYTES) <= MOST_AT_ONCE);
    }
}
