//! Callers that mean no good: they come from any address of 127/8, say a little, and then no more.

use super::node_desk::{identity, ring};
use bytes::BytesMut;
use quinn::crypto::rustls::QuicClientConfig;
use quinn_proto::{ClientConfig, Connection, DatagramEvent, Endpoint, EndpointConfig};
use shard::peer::{Tls, TransportKind};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

/// The beginning of a record of TLS, of which the rest does not come.
pub(crate) const BEGUN_RECORD: [u8; 6] = [22, 3, 1, 0x20, 0, 1];
/// How long a server may take to answer a datagram.
const ANSWER: Duration = Duration::from_secs(5);
/// No datagram here is longer.
const DATAGRAM_BYTES: usize = 2048;

/// An address of loopback for each number, none of them 127.0.0.1.
pub(crate) fn address_of(number: usize) -> Ipv4Addr {
    let bytes = (number as u32 + 2).to_be_bytes();
    Ipv4Addr::new(127, 1 + bytes[1], bytes[2], bytes[3])
}

/// Calls over TCP, from an address of its own.
pub(crate) async fn call(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    socket.connect(to).await
}

/// A client of QUIC that has the certificate of a group, be it the right one or another.
pub(crate) fn quic_client(seed: u8) -> ClientConfig {
    let tls = Tls::new(&identity(99), &ring(&[seed]), TransportKind::Quic).expect("TLS");
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls.client).expect("a client")))
}

/// A call over UDP that showed that it is at its address, asked for a handshake, and says no more.
pub(crate) struct HalfOpen {
    /// Kept, so that what the server says has somewhere to go.
    pub(crate) socket: UdpSocket,
    /// What it sent before it had shown that it is at its address, and what came for it.
    pub(crate) asked_bytes: usize,
    pub(crate) answered_bytes: usize,
}

impl HalfOpen {
    pub(crate) async fn call(from: Ipv4Addr, to: SocketAddr, config: ClientConfig) -> io::Result<Self> {
        let socket = UdpSocket::bind((from, 0)).await?;
        socket.connect(to).await?;
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::default()), None, true, None);
        let (_, mut connection) =
            endpoint.connect(Instant::now(), config, to, "peer.shard.invalid").map_err(io::Error::other)?;
        let asked_bytes = say(&mut connection, &socket).await?;
        let mut room = vec![0; DATAGRAM_BYTES];
        let answered_bytes = timeout(ANSWER, socket.recv(&mut room)).await??;
        let (data, mut reply) = (BytesMut::from(&room[..answered_bytes]), Vec::new());
        if let Some(DatagramEvent::ConnectionEvent(_, event)) =
            endpoint.handle(Instant::now(), to, None, None, data, &mut reply)
        {
            connection.handle_event(event);
        }
        say(&mut connection, &socket).await?;
        Ok(Self { socket, asked_bytes, answered_bytes })
    }
}

/// Sends what a connection has to say, and says how many bytes that was.
async fn say(connection: &mut Connection, socket: &UdpSocket) -> io::Result<usize> {
    let (mut datagram, mut bytes) = (Vec::new(), 0);
    while let Some(transmit) = connection.poll_transmit(Instant::now(), 1, &mut datagram) {
        socket.send(&datagram[..transmit.size]).await?;
        bytes += transmit.size;
        datagram.clear();
    }
    Ok(bytes)
}
