//! TLS between two nodes in memory: whose certificate opens a channel, and what both ends then know of it.

use super::super::certificate::Credentials;
use super::super::seed::SeedRing;
use super::super::tls::{EXPORTER_LABEL, Tls, TransportKind, channel, peer_name};
use super::super::{Channel, NodeIdentity};
use super::{node, ring};
use rustls::{ClientConnection, HandshakeKind, ProtocolVersion, ServerConnection};
use std::sync::Arc;

/// Carries bytes between the two until neither has more to say; an error is the first that either end finds.
fn join(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), rustls::Error> {
    while client.wants_write() || server.wants_write() {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("a vector takes it");
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).expect("memory");
            server.process_new_packets()?;
        }
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).expect("a vector takes it");
        }
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("memory");
            client.process_new_packets()?;
        }
    }
    Ok(())
}

fn tls(node: &NodeIdentity, seeds: &SeedRing) -> Tls {
    Tls::new(node, seeds, TransportKind::WebSocket).expect("TLS")
}

fn connections(client: &Tls, server: &Tls) -> (ClientConnection, ServerConnection) {
    let client = ClientConnection::new(Arc::clone(&client.client), peer_name()).expect("a client");
    let server = ServerConnection::new(Arc::clone(&server.server)).expect("a server");
    (client, server)
}

/// What both ends know of a channel between nodes with these seeds.
fn channels(clients: &SeedRing, servers: &SeedRing) -> Result<(Channel, Channel), rustls::Error> {
    let (mut client, mut server) = connections(&tls(&node(1), clients), &tls(&node(2), servers));
    join(&mut client, &mut server)?;
    assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let group = client.negotiated_key_exchange_group().expect("a group").name();
    assert_eq!(group, rustls::NamedGroup::X25519MLKEM768);
    let exported = |outcome: Result<[u8; 32], rustls::Error>| outcome.expect("a channel that is open");
    let of_client = exported(client.export_keying_material([0; 32], EXPORTER_LABEL, None));
    let of_server = exported(server.export_keying_material([0; 32], EXPORTER_LABEL, None));
    let seen_by_client = channel(client.peer_certificates().expect("certificates"), of_client);
    let seen_by_server = channel(server.peer_certificates().expect("certificates"), of_server);
    Ok((seen_by_client.expect("a key"), seen_by_server.expect("a key")))
}

#[test]
fn both_ends_of_a_channel_know_each_others_key_and_one_secret_that_no_other_channel_has() {
    let seeds = ring(&[7]);
    let (client, server) = channels(&seeds, &seeds).expect("a channel");
    assert_eq!((client.peer_key, server.peer_key), (node(2).public_key(), node(1).public_key()));
    assert_eq!(client.exporter, server.exporter);
    let (again, _) = channels(&seeds, &seeds).expect("a channel");
    assert_ne!(again.exporter, client.exporter);
}

#[test]
fn a_certificate_of_another_seed_opens_no_channel() {
    for (one, other) in [(&[1][..], &[2][..]), (&[1, 2], &[3]), (&[3], &[1, 2])] {
        assert!(channels(&ring(one), &ring(other)).is_err(), "{one:?} {other:?}");
    }
}

#[test]
fn one_seed_in_common_opens_a_channel_in_either_order() {
    for (one, other) in
        [(&[1, 2][..], &[2][..]), (&[2], &[1, 2]), (&[1, 2], &[2, 1]), (&[1, 2], &[1]), (&[1, 2], &[3, 2])]
    {
        assert!(channels(&ring(one), &ring(other)).is_ok(), "{one:?} {other:?}");
    }
}

#[test]
fn a_client_without_a_certificate_is_refused_by_the_server_though_it_may_not_know_yet() {
    let seeds = ring(&[7]);
    let (own, other) = (tls(&node(1), &seeds), tls(&node(2), &seeds));
    let mut bare = (*own.client).clone();
    bare.client_auth_cert_resolver = Arc::new(NoCertificate);
    let (mut client, mut server) =
        connections(&Tls { client: Arc::new(bare), server: Arc::clone(&own.server) }, &other);
    assert!(join(&mut client, &mut server).is_err());
    assert!(server.is_handshaking());
    assert!(!client.is_handshaking(), "this is why nobody is known before the first message of the server");
}

#[test]
fn nothing_is_resumed_and_nothing_is_sent_early() {
    let seeds = ring(&[7]);
    let (own, other) = (tls(&node(1), &seeds), tls(&node(2), &seeds));
    for _ in 0..3 {
        let (mut client, mut server) = connections(&own, &other);
        assert!(client.early_data().is_none());
        join(&mut client, &mut server).expect("a channel");
        assert_eq!(server.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[test]
fn transports_do_not_take_each_others_sessions() {
    let seeds = ring(&[7]);
    let quic = Tls::new(&node(1), &seeds, TransportKind::Quic).expect("TLS");
    let (mut client, mut server) = connections(&quic, &tls(&node(2), &seeds));
    assert!(join(&mut client, &mut server).is_err());
}

#[test]
fn certificates_are_always_the_same_and_small() {
    let chain = |seeds| Credentials::new(&node(1), &ring(seeds)).expect("certificates").chain;
    assert_eq!(chain(&[7]), chain(&[7]));
    assert_eq!((chain(&[7]).len(), chain(&[7, 8]).len()), (1, 2));
    let bytes: usize = chain(&[7, 8]).iter().map(|certificate| certificate.len()).sum();
    assert!(bytes <= 1024, "{bytes} bytes");
}

#[derive(Debug)]
struct NoCertificate;

impl rustls::client::ResolvesClientCert for NoCertificate {
    fn resolve(
        &self,
        _hints: &[&[u8]],
        _schemes: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}
