//! Sessions over UDP.

use super::super::handshake::Admitted;
use super::super::tls::{EXPORTER_LABEL, PEER_SERVER_NAME, channel};
use super::super::{Channel, Tls, TransportKind};
use super::congestion::PatientCubicConfig;
use super::datagram::{MAX_DATAGRAM_BYTES, discovery_to};
use super::gate::Pass;
use super::link::{Established, Link};
use super::metered::{Metered, UNKNOWN_BYTES, UnknownBytes};
use super::{LocalNode, PeerError};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{
    AsyncTimer, AsyncUdpSocket, ClientConfig, Connection, Endpoint, EndpointConfig, Incoming, MtuDiscoveryConfig,
    Runtime, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use rustls::pki_types::CertificateDer;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

/// Without more than the system's own buffers, one datagram in twenty is lost on loopback already.
const UDP_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// What a peer that is not known may have on the way.
const UNKNOWN_WINDOW_BYTES: u32 = UNKNOWN_BYTES as u32;
/// What a peer that is known may.
const WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// What it may on one stream.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Streams that a known peer may have open at once.
pub(super) const MAX_STREAMS: u32 = 128;
/// What is held of TLS messages that came in the wrong order; a whole handshake has less.
const CRYPTO_BUFFER_BYTES: usize = 8 * 1024;
/// What a round trip is taken for before one was measured: what is lost then is sent again after three of them.
const INITIAL_ROUND_TRIP: Duration = Duration::from_millis(100);
/// Connections that wait to be looked at, and what is held of all of them.
const MAX_INCOMING: usize = 256;
const INCOMING_BYTES: u64 = 4 * 1024;
const INCOMING_TOTAL_BYTES: u64 = 1024 * 1024;

/// A socket for sessions over UDP; with a server's side, it also takes them.
/// What drives it runs in tasks that the tracker knows.
pub(super) fn bind(
    address: SocketAddr,
    local: &LocalNode,
    is_server: bool,
    drivers: &TaskTracker,
) -> Result<Endpoint, PeerError> {
    let bound = || -> io::Result<std::net::UdpSocket> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        // The system gives what it allows: less is slower, and no error.
        socket.set_recv_buffer_size(UDP_BUFFER_BYTES).ok();
        socket.set_send_buffer_size(UDP_BUFFER_BYTES).ok();
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        Ok(socket.into())
    };
    let failed = |error| PeerError::socket(format!("listening at UDP {address}"), error);
    let socket = bound().map_err(failed)?;
    let server = is_server.then(|| server_config(local, MtuDiscoveryConfig::default())).transpose()?;
    let runtime = Arc::new(TrackedRuntime { drivers: drivers.clone() });
    let mut config = EndpointConfig::default();
    config.max_udp_payload_size(MAX_DATAGRAM_BYTES).map_err(PeerError::quic)?;
    Endpoint::new(config, server, socket, runtime).map_err(failed)
}

/// Tokio, with every task known: a node that stops waits for them.
#[derive(Debug)]
struct TrackedRuntime {
    drivers: TaskTracker,
}

impl Runtime for TrackedRuntime {
    fn new_timer(&self, moment: std::time::Instant) -> Pin<Box<dyn AsyncTimer>> {
        TokioRuntime.new_timer(moment)
    }

    fn spawn(&self, driver: Pin<Box<dyn Future<Output = ()> + Send>>) {
        self.drivers.spawn(driver);
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        TokioRuntime.wrap_udp_socket(socket)
    }

    fn now(&self) -> std::time::Instant {
        TokioRuntime.now()
    }
}

/// Calls a node.
pub(super) async fn connect(
    endpoint: &Endpoint,
    address: SocketAddr,
    local: &LocalNode,
) -> Result<Established, PeerError> {
    let called = async {
        let connecting = endpoint.connect_with(client_config(local, discovery_to(address))?, address, PEER_SERVER_NAME);
        let mut connecting = connecting.map_err(PeerError::quic)?;
        let answered = timeout(local.first_answer_deadline(), connecting.handshake_data()).await;
        answered.map_err(|_| PeerError::TimedOut)?.map_err(PeerError::quic)?;
        let connection = connecting.await.map_err(PeerError::quic)?;
        let (send, receive) = connection.open_bi().await.map_err(PeerError::quic)?;
        let mut stream = tokio::io::join(receive, send);
        let admitted =
            local.introduce(&mut stream, channel_of(&connection)?).await.map_err(|e| cause(&connection, e))?;
        Ok(established(connection, admitted, None))
    };
    timeout(local.handshake_deadline, called).await.map_err(|_| PeerError::TimedOut)?
}

/// Hears one that calls, and that has shown that it is at its address.
pub(super) async fn welcome(
    incoming: Incoming,
    local: &LocalNode,
    (mut pass, unknown): (Pass, &UnknownBytes),
) -> Result<Established, PeerError> {
    let heard = async {
        let config = server_config(local, discovery_to(incoming.remote_address()))?;
        let accepted = incoming.accept_with(Arc::new(config));
        let connection = accepted.map_err(PeerError::quic)?.await.map_err(PeerError::quic)?;
        let (send, receive) = connection.accept_bi().await.map_err(PeerError::quic)?;
        let (mut stream, _meter) = Metered::new(tokio::io::join(receive, send), UNKNOWN_BYTES, &unknown.plain);
        let admitted = local.welcome(&mut stream, channel_of(&connection)?).await?;
        if !pass.admit() {
            return Err(PeerError::Displaced);
        }
        Ok(established(connection, admitted, Some(pass)))
    };
    timeout(local.handshake_deadline, heard).await.map_err(|_| PeerError::TimedOut)?
}

fn established(connection: Connection, admitted: Admitted, pass: Option<Pass>) -> Established {
    connection.set_receive_window(VarInt::from_u32(WINDOW_BYTES));
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(MAX_STREAMS));
    let remote = connection.remote_address();
    Established { link: Link::Quic(connection), admitted, remote, pass }
}

/// What ended the connection says more than that a stream of it ended.
fn cause(connection: &Connection, error: PeerError) -> PeerError {
    match connection.close_reason() {
        Some(reason) if matches!(error, PeerError::Socket { .. } | PeerError::Cut) => PeerError::quic(reason),
        _ => error,
    }
}

fn channel_of(connection: &Connection) -> Result<Channel, PeerError> {
    let mut exporter = [0; 32];
    connection.export_keying_material(&mut exporter, EXPORTER_LABEL, &[]).map_err(|_| PeerError::NoKey)?;
    let identity = connection.peer_identity().ok_or(PeerError::NoKey)?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().map_err(|_| PeerError::NoKey)?;
    channel(&chain, exporter).ok_or(PeerError::NoKey)
}

fn client_config(local: &LocalNode, discovery: MtuDiscoveryConfig) -> Result<ClientConfig, PeerError> {
    let Tls { client, .. } = local.tls(TransportKind::Quic);
    let crypto = QuicClientConfig::try_from(Arc::clone(client)).map_err(PeerError::quic)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport_config(local, discovery)?));
    Ok(config)
}

fn server_config(local: &LocalNode, discovery: MtuDiscoveryConfig) -> Result<ServerConfig, PeerError> {
    let Tls { server, .. } = local.tls(TransportKind::Quic);
    let crypto = QuicServerConfig::try_from(Arc::clone(server)).map_err(PeerError::quic)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport_config(local, discovery)?));
    config.max_incoming(MAX_INCOMING);
    config.incoming_buffer_size(INCOMING_BYTES);
    config.incoming_buffer_size_total(INCOMING_TOTAL_BYTES);
    // A session stays where it was begun: its address is what the limits count.
    config.migration(false);
    Ok(config)
}

/// For a way on which the longest datagram is found like this.
fn transport_config(local: &LocalNode, discovery: MtuDiscoveryConfig) -> Result<TransportConfig, PeerError> {
    let mut config = TransportConfig::default();
    let idle = Duration::from_millis(local.times.idle_ms);
    config.max_idle_timeout(Some(idle.try_into().map_err(PeerError::quic)?));
    config.initial_rtt(INITIAL_ROUND_TRIP);
    config.receive_window(VarInt::from_u32(UNKNOWN_WINDOW_BYTES));
    config.stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES));
    config.send_window(u64::from(WINDOW_BYTES));
    config.max_concurrent_bidi_streams(VarInt::from_u32(1));
    config.max_concurrent_uni_streams(VarInt::from_u32(0));
    config.datagram_receive_buffer_size(None);
    config.crypto_buffer_size(CRYPTO_BUFFER_BYTES);
    config.congestion_controller_factory(Arc::new(PatientCubicConfig::default()));
    config.mtu_discovery_config(Some(discovery));
    Ok(config)
}
