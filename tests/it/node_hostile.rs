//! Callers that are not known, over real sockets: what is held of them, how long, and how many of them there may be.

use super::node_desk::{BOTH, address, caller, identity, listener, ring, start, stop, within};
use super::node_hostile_desk::{BEGUN_RECORD, HalfOpen, address_of, call, quic_client};
use super::soak::{self, Dice};
use rustls::pki_types::ServerName;
use shard::node::{Node, NodeConfig};
use shard::peer::transport::{GateLimits, HANDSHAKE_DEADLINE};
use shard::peer::{HeartbeatTimes, Tls, TransportKind};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// What a caller that is not known may have held for it, above TLS and below it.
const UNKNOWN_BYTES: u64 = 1024;
const UNKNOWN_WIRE_BYTES: u64 = 8 * 1024;

/// Waits until a node has no handshake under way.
async fn quiet(node: &Node) {
    within(async {
        while node.stats().gate.handshakes > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_has_five_seconds_however_it_is_drawn_out() {
    let mut config = listener(1, &[7]);
    config.handshake_deadline = NodeConfig::new(identity(1), ring(&[7])).handshake_deadline;
    assert_eq!((config.handshake_deadline, HANDSHAKE_DEADLINE), (Duration::from_secs(5), Duration::from_secs(5)));
    assert_eq!(HeartbeatTimes::default(), HeartbeatTimes { interval_ms: 30_000, idle_ms: 60_000 });
    let server = start(config).await;
    let [tcp, udp] = [server.websocket_addr(), server.local_addr()].map(|address| address.expect("it listens"));
    let begun = Instant::now();
    let silent = futures_util::future::join_all((0..6).map(async |number| {
        let mut stream = call(address_of(number), tcp).await.expect("a connection");
        let mut room = [0; 16];
        if number % 2 == 0 {
            return within(stream.read(&mut room)).await.unwrap_or(0);
        }
        // A byte now and then, of a record that would be long.
        stream.write_all(&BEGUN_RECORD).await.expect("sent");
        loop {
            if let Ok(read) = timeout(Duration::from_millis(100), stream.read(&mut room)).await {
                return read.unwrap_or(0);
            }
            stream.write_all(&[0]).await.ok();
        }
    }));
    let half_open =
        futures_util::future::join_all((0..4).map(|number| HalfOpen::call(address_of(number), udp, quic_client(7))));
    let (silent, half_open) = tokio::join!(silent, half_open);
    assert!(silent.iter().all(|read| *read == 0), "nothing is said to them: {silent:?}");
    assert!(half_open.iter().all(Result::is_ok));
    quiet(&server).await;
    assert!(begun.elapsed() >= HANDSHAKE_DEADLINE - Duration::from_millis(100), "{:?}", begun.elapsed());
    let gate = server.stats().gate;
    assert_eq!((gate.late, gate.refused, gate.displaced, gate.most_handshakes), (10, 0, 0, 10));
    assert_eq!((gate.unknown_bytes, gate.most_unknown_bytes), (0, 0), "none of it came above TLS");
    assert!(gate.most_unknown_wire_bytes_each <= UNKNOWN_WIRE_BYTES, "{gate:?}");
    drop(half_open);
    stop(&server).await;
    assert_eq!(server.stats().sessions_total, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_member_that_did_not_prove_itself_no_more_than_a_kibibyte_is_taken_above_tls() {
    let mut config = listener(1, &[7]);
    config.handshake_deadline = Duration::from_secs(3);
    let server = start(config).await;
    // Over TCP: an upgrade to WebSocket with a head that does not end.
    let tls = Tls::new(&identity(2), &ring(&[7]), TransportKind::WebSocket).expect("TLS");
    let connector = TlsConnector::from(Arc::clone(&tls.client));
    let stream = TcpStream::connect(server.websocket_addr().expect("it listens")).await.expect("a connection");
    let name = ServerName::try_from("peer.shard.invalid").expect("a name");
    let mut stream = within(connector.connect(name, stream)).await.expect("this side of TLS is through");
    let head = [b"GET /shard/1 HTTP/1.1\r\nX: ".as_slice(), &[b'x'; 64 * 1024]].concat();
    // In small records of TLS: a long one is cut off below it already.
    for part in head.chunks(200) {
        if stream.write_all(part).await.is_err() || stream.flush().await.is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await.ok();
    let gate = server.stats().gate;
    assert_eq!(gate.most_unknown_bytes_each, UNKNOWN_BYTES, "{gate:?}");
    // A frame of WebSocket that would be long: no room is made for it, and nothing waited for.
    let stream = TcpStream::connect(server.websocket_addr().expect("it listens")).await.expect("a connection");
    let name = ServerName::try_from("peer.shard.invalid").expect("a name");
    let stream = within(connector.connect(name, stream)).await.expect("this side of TLS is through");
    let upgraded = within(tokio_tungstenite::client_async("ws://peer.shard.invalid/shard/1", stream)).await;
    let (mut websocket, _) = upgraded.expect("an upgrade");
    let stream = websocket.get_mut();
    stream.write_all(&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 2, 3, 4]).await.expect("sent");
    within(stream.read_to_end(&mut Vec::new())).await.ok();
    assert_eq!(server.stats().gate.late, 0, "it was cut off before its time was over");
    // Over UDP: a frame whose content does not end, and that is as long as a frame may be.
    let client = quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("a socket");
    let to = server.local_addr().expect("it listens");
    let connecting = client.connect_with(quic_client(7), to, "peer.shard.invalid").expect("a call");
    let connection = within(connecting).await.expect("this side of TLS is through");
    let (mut send, _receive) = within(connection.open_bi()).await.expect("a stream");
    let flood = async {
        send.write_all(&1024_u32.to_le_bytes()).await?;
        send.write_all(&[0; 64 * 1024]).await
    };
    assert!(within(flood).await.is_err(), "64 KiB were taken");
    quiet(&server).await;
    let gate = server.stats().gate;
    assert_eq!((gate.most_unknown_bytes_each, gate.unknown_bytes), (UNKNOWN_BYTES, 0), "{gate:?}");
    assert!(gate.most_unknown_wire_bytes_each <= UNKNOWN_WIRE_BYTES, "{gate:?}");
    client.close(quinn::VarInt::from_u32(0), b"");
    stop(&server).await;
    assert_eq!(server.stats().sessions_total, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_from_many_addresses_that_say_nothing_keep_nobody_out() {
    let limits = GateLimits { handshakes: 12, handshakes_per_address: 4, ..GateLimits::default() };
    let mut config = listener(1, &[7]);
    config.limits = limits;
    let server = start(config).await;
    let [tcp, udp] = [server.websocket_addr(), server.local_addr()].map(|address| address.expect("it listens"));
    let friend = start(caller(3, &[7])).await;
    let (mut silent, mut half_open) = (Vec::new(), Vec::new());
    for number in 0..60 {
        silent.push(call(address_of(number / 2), tcp).await.expect("a connection"));
        if number % 4 == 0 {
            half_open.push(HalfOpen::call(address_of(number), udp, quic_client(8)).await.expect("half open"));
        }
        if number % 20 == 19 {
            for transport in BOTH {
                within(friend.connect(&address(&server, transport))).await.expect("admitted");
            }
        }
    }
    let gate = server.stats().gate;
    assert!(gate.displaced > 0 && gate.refused == 0, "{gate:?}");
    assert!(gate.most_handshakes <= limits.handshakes && gate.most_handshakes_per_address <= 4, "{gate:?}");
    stop(&friend).await;
    assert_eq!(server.stats().sessions_total, 6);
    drop((silent, half_open));
    stop(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_of_one_address_is_not_made_by_those_of_others() {
    let mut config = listener(1, &[7]);
    config.limits = GateLimits { handshakes: 100, handshakes_per_address: 3, ..GateLimits::default() };
    let server = start(config).await;
    let tcp = server.websocket_addr().expect("it listens");
    let mut held = Vec::new();
    for number in 0..10 {
        let mut stream = call(address_of(5), tcp).await.expect("a connection");
        if number >= 3 {
            // Those beyond the limit are cut off at once.
            assert_eq!(within(stream.read(&mut [0; 8])).await.unwrap_or(0), 0);
        }
        held.push(stream);
    }
    let gate = server.stats().gate;
    assert_eq!((gate.refused, gate.most_handshakes_per_address, gate.displaced), (7, 3, 0), "{gate:?}");
    stop(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_comes_over_udp_is_answered_with_no_more_bytes_than_it_has() {
    let server = start(listener(1, &[7])).await;
    let to = server.local_addr().expect("it listens");
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    socket.connect(to).await.expect("connected");
    let (mut dice, mut sent, mut answered, mut room) = (Dice::new(soak::seed()), 0, 0, vec![0; 65536]);
    for number in 0..2000 {
        let mut datagram = {
            let length = 1 + dice.below(1400);
            dice.bytes(length)
        };
        match number % 4 {
            // Headers of every kind: of a version that nobody has, of the one that is spoken, and short ones.
            0 => datagram[0] = 0xc0 | (datagram[0] & 0x3f),
            1 => {
                datagram[0] = 0xc0 | (datagram[0] & 0x3f);
                datagram.resize(1200, 7);
                datagram[1..5].copy_from_slice(&[0, 0, 0, 1]);
            }
            2 => datagram[0] = 0x40 | (datagram[0] & 0x3f),
            _ => {}
        }
        sent += socket.send(&datagram).await.unwrap_or(0);
        while let Ok(bytes) = socket.try_recv(&mut room) {
            answered += bytes;
        }
    }
    // What is still to come comes within a second: the first timer of QUIC is shorter.
    while let Ok(more) = timeout(Duration::from_secs(1), socket.recv(&mut room)).await {
        answered += more.expect("a datagram");
    }
    assert!(answered <= sent, "{answered} bytes for {sent}");
    // So is a call in order, before it showed that it is at its address; and it is asked for no more than that.
    let half_open = HalfOpen::call(address_of(1), to, quic_client(7)).await.expect("half open");
    assert!(half_open.answered_bytes <= half_open.asked_bytes, "{}", half_open.answered_bytes);
    let gate = server.stats().gate;
    assert!(gate.most_handshakes <= 1, "{gate:?}");
    drop(half_open.socket);
    stop(&server).await;
    assert_eq!(server.stats().sessions_total, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_udp_nothing_can_be_sent_before_the_handshake_is_through() {
    let server = start(listener(1, &[7])).await;
    let to = server.local_addr().expect("it listens");
    let (client, config) = (quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address")), quic_client(7));
    let client = client.expect("a socket");
    for round in 0..3 {
        let connecting = client.connect_with(config.clone(), to, "peer.shard.invalid").expect("a call");
        // The client would say what it may send early, if the last session had left it anything to do so with.
        let Err(connecting) = connecting.into_0rtt() else { unreachable!("early data in round {round}") };
        let connection = within(connecting).await.expect("this side of TLS is through");
        connection.close(quinn::VarInt::from_u32(0), b"");
    }
    client.close(quinn::VarInt::from_u32(0), b"");
    stop(&server).await;
}
