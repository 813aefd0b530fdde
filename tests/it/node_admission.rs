//! Over real sockets: who gets a session, and who does not.

use super::node_desk::{BOTH, address, caller, identity, listener, ring, start, stop, within};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use shard::node::NodeError;
use shard::peer::transport::{GateLimits, PeerError};
use shard::peer::{HandshakeError, PinError, Tls, TransportKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_without_the_seed_gets_a_session_over_either_transport() {
    let server = start(listener(1, &[7])).await;
    let mut inbox = server.receive().expect("taken once");
    let strangers = start(caller(2, &[8])).await;
    for transport in BOTH {
        let refused = within(strangers.connect(&address(&server, transport))).await;
        assert!(refused.is_err(), "{transport:?}");
    }
    assert_eq!(strangers.stats().errors, 2);
    // Whoever has the seed is heard, and is the first whom the server knows.
    let friend = start(caller(3, &[7])).await;
    for transport in BOTH {
        let session = within(friend.connect(&address(&server, transport))).await.expect("admitted");
        assert_eq!((session.peer(), session.transport()), (identity(1).id(), transport));
    }
    assert_eq!(friend.send_to_all(1, b"here").await.sent.len(), 2);
    for _ in 0..2 {
        within(inbox.next()).await.expect("a message");
    }
    assert!(server.sessions().iter().all(|session| session.peer() == identity(3).id()));
    assert_eq!(server.stats().sessions_total, 2);
    for node in [&strangers, &friend, &server] {
        stop(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_calls_itself_is_refused() {
    let node = start(listener(1, &[7])).await;
    for transport in BOTH {
        let refused = within(node.connect(&address(&node, transport))).await;
        let is_own_id = matches!(refused, Err(NodeError::Peer(PeerError::Handshake(HandshakeError::OwnId))));
        assert!(is_own_id, "{transport:?}: {refused:?}");
    }
    assert_eq!(node.stats().sessions_total, 0);
    stop(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_changes_its_seed_without_losing_a_session() {
    // Each step of the change: first all accept the new seed, then all give up the old one.
    for (one, other) in [(&[1][..], &[1, 2][..]), (&[1, 2], &[1, 2]), (&[1, 2], &[2, 1]), (&[2, 1], &[2])] {
        let server = start(listener(1, one)).await;
        let client = start(caller(2, other)).await;
        for transport in BOTH {
            within(client.connect(&address(&server, transport))).await.expect("admitted");
        }
        stop(&client).await;
        stop(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_node_at_a_known_address_is_refused_loudly() {
    let client = start(caller(9, &[7])).await;
    for transport in BOTH {
        let server = start(listener(1, &[7])).await;
        let known = address(&server, transport);
        within(client.connect(&known)).await.expect("first met");
        within(client.connect(&known)).await.expect("the same again");
        let port: SocketAddr = format!("127.0.0.1:{}", known.port()).parse().expect("an address");
        stop(&server).await;
        let mut config = listener(2, &[7]);
        match transport {
            TransportKind::Quic => config.listen = Some(port),
            TransportKind::WebSocket => config.websocket_listen = Some(port),
        }
        let other = start(config).await;
        let refused = within(client.connect(&known)).await;
        let Err(NodeError::Peer(PeerError::Pin(PinError::Changed { pinned, found, .. }))) = refused else {
            unreachable!("{transport:?}: {refused:?}");
        };
        assert_eq!((pinned, found), (identity(1).id(), identity(2).id()));
        assert!(client.sessions().iter().all(|session| session.peer() != identity(2).id()));
        stop(&other).await;
    }
    stop(&client).await;
}

/// Takes every certificate, to come as far as the server lets it.
#[derive(Debug)]
struct Anyone;

impl rustls::client::danger::ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_without_a_certificate_believes_in_a_channel_and_has_none() {
    let server = start(listener(1, &[7])).await;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone))
        .with_no_client_auth();
    let right = Tls::new(&identity(2), &ring(&[7]), TransportKind::WebSocket).expect("TLS");
    config.alpn_protocols = right.client.alpn_protocols.clone();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(server.websocket_addr().expect("it listens")).await.expect("a connection");
    let name = ServerName::try_from("peer.shard.invalid").expect("a name");
    let mut stream = within(connector.connect(name, stream)).await.expect("this side of TLS is through");
    // The server's refusal comes as the first thing that is read.
    let mut answer = [0; 1];
    assert!(within(stream.read(&mut answer)).await.is_err());
    stop(&server).await;
    assert_eq!(server.stats().sessions_total, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_say_nothing_are_counted_cut_off_and_in_nobodys_way() {
    let mut config = listener(1, &[7]);
    config.limits = GateLimits { handshakes: 40, handshakes_per_address: 8, ..GateLimits::default() };
    config.handshake_deadline = Duration::from_secs(8);
    let server = start(config).await;
    let to = server.websocket_addr().expect("it listens");
    let mut silent = Vec::new();
    for number in 0..60_u8 {
        let socket = TcpSocket::new_v4().expect("a socket");
        // Four addresses: each has more callers than one may have.
        socket.bind(format!("127.0.0.{}:0", 2 + number % 4).parse().expect("an address")).expect("bound");
        let mut stream = within(socket.connect(to)).await.expect("a connection");
        // Some say a little, and then no more.
        if number % 2 == 0 {
            stream.write_all(&[22, 3, 1]).await.ok();
        }
        silent.push(stream);
    }
    // An honest caller from an address of its own.
    let friend = start(caller(3, &[7])).await;
    for transport in BOTH {
        within(friend.connect(&address(&server, transport))).await.expect("admitted");
    }
    // All of them are cut off: those beyond the limits at once, the others at the deadline.
    for mut stream in silent {
        let mut rest = Vec::new();
        within(stream.read_to_end(&mut rest)).await.ok();
    }
    assert_eq!(server.stats().refused, 60 - 4 * 8);
    stop(&friend).await;
    stop(&server).await;
    assert_eq!(server.stats().sessions_total, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_sends_without_end_before_it_is_known_is_cut_off() {
    let server = start(listener(1, &[7])).await;
    let mut stream = TcpStream::connect(server.websocket_addr().expect("it listens")).await.expect("a connection");
    // The beginning of a handshake message of 16 MiB, in records of the largest size.
    let mut record = vec![22, 3, 1, 0x40, 0];
    record.extend([1, 0xff, 0xff, 0xff]);
    record.resize(5 + 0x4000, 0);
    let mut sent = 0;
    let ended = within(async {
        loop {
            match stream.write_all(&record).await {
                Ok(()) if sent < 64 << 20 => sent += record.len(),
                Ok(()) => return false,
                Err(_) => return true,
            }
        }
    });
    assert!(ended.await, "64 MiB were taken");
    stop(&server).await;
    assert_eq!(server.stats().sessions_total, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_has_not_answered_is_sent_less_than_came_from_it() {
    let server = start(listener(1, &[7])).await;
    let client = start(caller(2, &[7])).await;
    // It passes on the first datagram alone, as one who writes another's address as the sender would.
    let middle = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let forged = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let address = format!("node://{}", middle.local_addr().expect("bound")).parse().expect("an address");
    let calling = tokio::spawn(async move {
        let refused = client.connect(&address).await;
        (client, refused.is_err())
    });
    let mut room = vec![0; 65536];
    let asked = within(middle.recv(&mut room)).await.expect("a datagram");
    forged.send_to(&room[..asked], server.local_addr().expect("it listens")).await.expect("sent");
    let mut answered = within(forged.recv(&mut room)).await.expect("an answer");
    // Whatever else it sends, it sends within a second: the first timer of QUIC is shorter.
    while let Ok(more) = tokio::time::timeout(Duration::from_secs(1), forged.recv(&mut room)).await {
        answered += more.expect("a datagram");
    }
    assert!(answered < asked, "{answered} bytes for {asked}");
    calling.abort();
    stop(&server).await;
    assert_eq!(server.stats().sessions_total, 0);
}
