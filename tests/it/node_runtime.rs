//! A node at work over real sockets: messages, streams, stopping.

use super::node_desk::{BOTH, address, caller, impatient, listener, start, stop, within};
use shard::node::{MAX_MESSAGE_STREAMS, Node, NodeError};
use shard::peer::transport::{CloseReason, PeerStream, SessionSide};
use shard::peer::{BackoffTimes, FrameReader, MAX_MESSAGE_BYTES, StreamPurpose, TransportKind};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Bytes in which no two messages look alike.
fn message(number: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(31) ^ number.wrapping_mul(0x9E37)) as u8).collect()
}

const LENGTHS: [usize; 7] = [0, 1, 1000, 16 * 1024, 64 * 1024 + 1, 0, MAX_MESSAGE_BYTES];

/// Sends on three streams at once, and expects every stream's messages at the other node in their order.
async fn exchange(from: &Node, inbox: &mut shard::node::Incoming<shard::node::Received>) {
    let sender = from.clone();
    let sends = tokio::spawn(async move {
        for (number, length) in LENGTHS.into_iter().enumerate() {
            for stream in 0..3 {
                let report = sender.send_to_all(stream, &message(number, length)).await;
                assert!(report.failed.is_empty(), "{:?}", report.failed);
            }
        }
    });
    let mut found: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    for _ in 0..3 * LENGTHS.len() {
        let received = within(inbox.next()).await.expect("a message");
        found.entry(received.stream).or_default().push(received.data.to_vec());
    }
    within(sends).await.expect("all was sent");
    let expected: Vec<Vec<u8>> =
        LENGTHS.into_iter().enumerate().map(|(number, length)| message(number, length)).collect();
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [0, 1, 2]);
    assert!(found.values().all(|messages| *messages == expected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_every_length_come_both_ways_in_the_order_of_their_stream() {
    for transport in BOTH {
        let server = start(listener(1, &[7])).await;
        let client = start(caller(2, &[7])).await;
        let session = within(client.connect(&address(&server, transport))).await.expect("a session");
        let (mut to_server, mut to_client) = (server.receive().expect("once"), client.receive().expect("once"));
        assert!(server.receive().is_none());
        exchange(&client, &mut to_server).await;
        exchange(&server, &mut to_client).await;
        assert_eq!(session.side(), SessionSide::Initiator);
        assert_eq!(server.sessions()[0].side(), SessionSide::Responder);
        let (stats, bytes) = (client.stats(), 3 * LENGTHS.iter().sum::<usize>() as u64);
        assert_eq!((stats.messages_sent, stats.messages_received), (21, 21));
        assert_eq!((stats.sessions_active, stats.sessions_total, stats.errors), (1, 1, 0));
        assert_eq!(stats.websocket_sessions, u64::from(transport == TransportKind::WebSocket));
        assert!(stats.traffic.sent_bytes >= bytes && stats.traffic.received_bytes >= bytes, "{stats:?}");
        assert!(stats.traffic.sent_packets > 0 && stats.traffic.received_packets > 0 && !stats.uptime.is_zero());
        stop(&client).await;
        stop(&server).await;
        assert!(client.stats().traffic.sent_bytes >= bytes, "what went over sessions that are over is counted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_goes_to_the_sessions_that_are_named_and_to_no_other() {
    let server = start(listener(1, &[7])).await;
    let clients = [start(caller(2, &[7])).await, start(caller(3, &[7])).await];
    let mut inboxes = Vec::new();
    for (client, transport) in clients.iter().zip(BOTH) {
        within(client.connect(&address(&server, transport))).await.expect("a session");
        inboxes.push(client.receive().expect("once"));
        client.send_to_all(0, b"here").await;
    }
    let mut inbox = server.receive().expect("once");
    for _ in &clients {
        within(inbox.next()).await.expect("a message");
    }
    let named = server.sessions().into_iter().find(|session| session.peer() == clients[1].id()).expect("a session");
    let unknown = shard::peer::transport::SessionId(99);
    let report = server.send_to_sessions(&[named.id(), unknown], 4, b"to one").await;
    assert_eq!(report.sent, [named.id()]);
    assert!(matches!(report.failed[..], [(id, NodeError::NoSession(_))] if id == unknown));
    assert_eq!(server.send_to_all(4, b"to all").await.sent.len(), 2);
    let first = within(inboxes[0].next()).await.expect("a message");
    assert_eq!(first.data.as_ref(), b"to all");
    let firsts = [within(inboxes[1].next()).await.expect("one"), within(inboxes[1].next()).await.expect("two")];
    assert_eq!(firsts.map(|message| message.data.to_vec()), [b"to one".to_vec(), b"to all".to_vec()]);
    for node in clients.iter().chain([&server]) {
        stop(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_beyond_the_bounds_is_refused_by_the_sender() {
    let server = start(listener(1, &[7])).await;
    let client = start(caller(2, &[7])).await;
    within(client.connect(&address(&server, TransportKind::Quic))).await.expect("a session");
    let long = client.send_to_all(0, &vec![0; MAX_MESSAGE_BYTES + 1]).await;
    assert!(matches!(long.failed[..], [(_, NodeError::Peer(_))]));
    for stream in 0..MAX_MESSAGE_STREAMS as u64 {
        assert_eq!(client.send_to_all(stream, b"x").await.sent.len(), 1, "{stream}");
    }
    let one_more = client.send_to_all(u64::MAX, b"x").await;
    assert!(matches!(one_more.failed[..], [(_, NodeError::TooManyStreams { .. })]));
    stop(&client).await;
    stop(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_opened_at_will_and_many_at_once() {
    for transport in BOTH {
        let server = start(listener(1, &[7])).await;
        let mut services = server.services().expect("once");
        let client = start(caller(2, &[7])).await;
        let session = within(client.connect(&address(&server, transport))).await.expect("a session");
        tokio::spawn(async move {
            while let Some(mut incoming) = services.next().await {
                tokio::spawn(async move {
                    let mut reader = FrameReader::new(MAX_MESSAGE_BYTES);
                    while let Ok(Some(content)) = incoming.stream.receive.next_frame(&mut reader).await {
                        let answer = [&incoming.service.to_le_bytes()[..], &content].concat();
                        incoming.stream.send.send_frame(&answer).await.expect("sent");
                    }
                    incoming.stream.send.finish().await.ok();
                });
            }
        });
        let calls = (0..100_u64).map(|service| {
            let session = session.clone();
            tokio::spawn(async move {
                let opened = session.open(StreamPurpose::Service(service)).await.expect("a stream");
                let PeerStream { mut send, mut receive } = opened;
                let mut reader = FrameReader::new(MAX_MESSAGE_BYTES);
                for number in 0..3 {
                    let asked = message(number, 5000);
                    send.send_frame(&asked).await.expect("sent");
                    let answer = receive.next_frame(&mut reader).await.expect("read").expect("an answer");
                    assert_eq!(answer.as_ref(), [&service.to_le_bytes()[..], &asked].concat());
                }
                send.finish().await.expect("ended");
                assert!(receive.next_frame(&mut reader).await.expect("read").is_none());
            })
        });
        for call in calls.collect::<Vec<_>>() {
            within(call).await.expect("a call");
        }
        stop(&client).await;
        stop(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_for_a_service_that_nobody_offers_ends_at_once() {
    for transport in BOTH {
        let server = start(listener(1, &[7])).await;
        let client = start(caller(2, &[7])).await;
        let session = within(client.connect(&address(&server, transport))).await.expect("a session");
        let mut stream = session.open(StreamPurpose::Service(1)).await.expect("a stream");
        let answer = within(stream.receive.next_frame(&mut FrameReader::new(16))).await;
        assert!(!matches!(answer, Ok(Some(_))));
        stop(&client).await;
        stop(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_takes_no_calls_keeps_its_sessions_and_can_take_calls_again() {
    let server = start(listener(1, &[7])).await;
    let mut inbox = server.receive().expect("once");
    let client = start(caller(2, &[7])).await;
    for transport in BOTH {
        server.enable_accept();
        let session = within(client.connect(&address(&server, transport))).await.expect("a session");
        server.disable_accept();
        assert!(within(client.connect(&address(&server, transport))).await.is_err(), "{transport:?}");
        assert_eq!(client.send_to_sessions(&[session.id()], 1, b"still here").await.sent, [session.id()]);
        assert_eq!(within(inbox.next()).await.expect("a message").data.as_ref(), b"still here");
    }
    stop(&client).await;
    stop(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_has_delivered_what_was_sent_and_leaves_nothing() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for transport in BOTH {
        let server = start(listener(1, &[7])).await;
        let mut inbox = server.receive().expect("once");
        let client = start(caller(2, &[7])).await;
        within(client.connect(&address(&server, transport))).await.expect("a session");
        let reading = async {
            let mut count = 0;
            while let Some(received) = inbox.next().await {
                assert_eq!(received.data.as_ref(), message(count, 20_000));
                count += 1;
                if count == 150 {
                    break;
                }
            }
            count
        };
        let stopping = async {
            for number in 0..150 {
                assert_eq!(client.send_to_all(3, &message(number, 20_000)).await.sent.len(), 1);
            }
            client.stop(Duration::from_secs(30)).await
        };
        let (count, report) = within(async { tokio::join!(reading, stopping) }).await;
        assert_eq!((count, report.drained, report.cut), (150, 1, 0), "{transport:?}");
        assert!(matches!(client.connect(&address(&server, transport)).await, Err(NodeError::Stopped)));
        let addresses = [server.local_addr(), server.websocket_addr()];
        stop(&server).await;
        assert!(within(inbox.next()).await.is_none(), "the inbox ends");
        // The sockets are free again.
        std::net::UdpSocket::bind(addresses[0].expect("one")).expect("free");
        std::net::TcpListener::bind(addresses[1].expect("one")).expect("free");
    }
    // The runtimes of the libraries end their last tasks when they are next polled.
    for _ in 0..1000 {
        if tasks() == before {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(tasks(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_called_again_after_it_was_away() {
    let mut config = caller(2, &[7]);
    config.backoff = BackoffTimes { first_ms: 20, most_ms: 100 };
    let client = start(config).await;
    let mut known = None;
    for _ in 0..3 {
        let mut config = listener(1, &[7]);
        config.websocket_listen = None;
        config.listen = known.or(config.listen);
        let server = start(config).await;
        let mut inbox = server.receive().expect("once");
        if known.is_none() {
            client.keep_connected(address(&server, TransportKind::Quic));
        }
        known = server.local_addr();
        let message = within(async {
            while client.send_to_all(1, b"back").await.sent.is_empty() {
                tokio::task::yield_now().await;
            }
            inbox.next().await
        });
        assert_eq!(message.await.expect("a message").data.as_ref(), b"back");
        stop(&server).await;
    }
    stop(&client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heartbeats_measure_the_round_trip_and_a_peer_that_falls_silent_is_given_up() {
    let mut config = listener(1, &[7]);
    config.heartbeat = impatient();
    let server = start(config).await;
    // Between the two, something that one day forwards nothing more and says nothing of it.
    let middle = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let between = middle.local_addr().expect("an address");
    let to = server.websocket_addr().expect("it listens");
    let (cut, is_cut) = tokio::sync::oneshot::channel::<()>();
    let forwarding = tokio::spawn(async move {
        let (mut near, _) = middle.accept().await.expect("a connection");
        let mut far = TcpStream::connect(to).await.expect("a connection");
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            _ = is_cut => {}
        }
        (near, far)
    });
    let mut config = caller(2, &[7]);
    config.heartbeat = impatient();
    let client = start(config).await;
    let address = format!("node+ws://{between}").parse().expect("an address");
    let session = within(client.connect(&address)).await.expect("a session");
    within(async {
        while client.stats().round_trip.is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // It is among those of the server once somebody there was given it, which may be after it answered the first heartbeat.
    let seen_by_server = within(async {
        loop {
            match server.sessions().pop() {
                Some(session) => break session,
                None => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    cut.send(()).expect("it forwards");
    assert_eq!(within(session.closed()).await, CloseReason::Silent);
    assert_eq!(within(seen_by_server.closed()).await, CloseReason::Silent);
    let (mut near, _far) = forwarding.await.expect("it ends");
    near.shutdown().await.ok();
    drop(near.read_u8().await);
    stop(&client).await;
    stop(&server).await;
}
