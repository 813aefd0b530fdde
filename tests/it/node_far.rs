//! Nodes that are far away: what is said to them is late, and some of it is lost.

use super::cloud_contract::{pattern, put, shard, whole};
use super::node_desk::{address, caller, impatient, listener, start, stop, within};
use super::node_storage_desk::{Keeper, SEED, access, backend, seed_file};
use super::soak::{self, Dice};
use bytes::Bytes;
use shard::backend::{Backend, NodeBackend};
use shard::node::storage::StorageOptions;
use shard::peer::storage::StorageAnswer;
use shard::peer::transport::CloseReason;
use shard::peer::{FrameReader, MAX_MESSAGE_BYTES, TransportKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// One way.
const DELAY: Duration = Duration::from_millis(25);
const LOST_PERCENT: usize = 2;
const DATAGRAM_BYTES: usize = 65536;

/// Passes datagrams on between one caller and a node, late, and loses some of them.
struct Distance {
    address: SocketAddr,
    passing: JoinHandle<()>,
}

impl Distance {
    async fn to(node: SocketAddr, seed: u64) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        let far = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
        far.connect(node).await.expect("connected");
        let (address, near, far) = (near.local_addr().expect("bound"), Arc::new(near), Arc::new(far));
        let passing = tokio::spawn(async move {
            let (mut dice, mut caller) = (Dice::new(seed), None);
            let (mut there, mut back) = (vec![0; DATAGRAM_BYTES], vec![0; DATAGRAM_BYTES]);
            loop {
                let (bytes, to_node) = tokio::select! {
                    came = near.recv_from(&mut there) => {
                        let (length, from) = came.expect("a datagram");
                        caller = Some(from);
                        (there[..length].to_vec(), true)
                    }
                    came = far.recv(&mut back) => {
                        // Nobody may listen there any more.
                        let Ok(length) = came else { continue };
                        (back[..length].to_vec(), false)
                    }
                };
                if dice.below(100) < LOST_PERCENT {
                    continue;
                }
                let (near, far) = (Arc::clone(&near), Arc::clone(&far));
                tokio::spawn(async move {
                    tokio::time::sleep(DELAY).await;
                    match (to_node, caller) {
                        (true, _) => drop(far.send(&bytes).await),
                        (false, Some(caller)) => drop(near.send_to(&bytes, caller).await),
                        (false, None) => {}
                    }
                });
            }
        });
        Self { address, passing }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_is_kept_and_read_over_a_link_that_is_slow_and_loses() {
    let dir = tempfile::tempdir().expect("a folder");
    let seed = seed_file(dir.path(), SEED);
    let keeper = Keeper::start(1, &dir.path().join("shards"), StorageOptions::default()).await;
    let distance = Distance::to(keeper.node.local_addr().expect("it listens"), soak::seed()).await;
    let access = access(1, &seed, None);
    let place = backend(format!("node://{}", distance.address).parse().expect("an address"), &access);
    let bytes = pattern(1_500_000);
    for index in 0..2 {
        assert_eq!(within(put(&place, shard(1, index), &bytes)).await, Ok(1_500_000));
    }
    for index in 0..2 {
        assert_eq!(within(whole(&place, shard(1, index))).await.expect("there"), bytes);
    }
    assert_eq!(within(place.list(None)).await.expect("a page").shards.len(), 2);
    within(access.close()).await;
    distance.passing.abort();
    within(keeper.node.stop(Duration::ZERO)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_over_udp_whose_peer_falls_silent_is_given_up_on_both_sides() {
    let mut config = listener(1, &[SEED]);
    config.heartbeat = impatient();
    let node = start(config).await;
    let distance = Distance::to(node.local_addr().expect("it listens"), soak::seed()).await;
    let mut config = caller(2, &[SEED]);
    config.heartbeat = impatient();
    let client = start(config).await;
    let address = format!("node://{}", distance.address).parse().expect("an address");
    let session = within(client.connect(&address)).await.expect("a session");
    within(session.next_round_trip()).await.expect("a heartbeat");
    assert!(session.round_trip().expect("measured") >= 2 * DELAY);
    let seen_by_node = node.sessions().pop().expect("a session");
    distance.passing.abort();
    for session in [session, seen_by_node] {
        // QUIC has the same limit, and may be the first to notice.
        let reason = within(session.closed()).await;
        assert!(matches!(reason, CloseReason::Silent | CloseReason::Ended), "{reason:?}");
    }
    stop(&client).await;
    stop(&node).await;
}

/// How many pieces a writer sends before it waits for the node to have taken the first.
const WINDOW_PIECES: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_has_several_pieces_on_their_way_and_no_more_than_its_window() {
    let dir = tempfile::tempdir().expect("a folder");
    let seed = seed_file(dir.path(), SEED);
    let node = start(listener(1, &[SEED])).await;
    let mut services = node.services().expect("taken once");
    let serving = tokio::spawn(async move {
        let mut asked = services.next().await.expect("a stream");
        let mut reader = FrameReader::new(MAX_MESSAGE_BYTES);
        asked.stream.receive.next_frame(&mut reader).await.expect("read").expect("a request");
        let ready = StorageAnswer::Ready.to_bytes();
        asked.stream.send.send_frame(&ready).await.expect("sent");
        let mut kept_bytes = 0;
        for round in 0..3 {
            // Nothing is said before all of a window has come.
            for _ in 0..WINDOW_PIECES {
                let piece = asked.stream.receive.next_frame(&mut reader).await.expect("read").expect("a piece");
                kept_bytes += piece.len() as u64;
            }
            // After the last window comes the end, which waits for nothing.
            if round < 2 {
                let more = asked.stream.receive.next_frame(&mut reader);
                assert!(tokio::time::timeout(Duration::from_millis(200), more).await.is_err(), "more than a window");
            }
            for _ in 0..WINDOW_PIECES {
                asked.stream.send.send_frame(&ready).await.expect("sent");
            }
        }
        let end = asked.stream.receive.next_frame(&mut reader).await.expect("read").expect("an end");
        assert!(end.is_empty());
        asked.stream.send.send_frame(&StorageAnswer::Number(kept_bytes).to_bytes()).await.expect("sent");
        asked.stream.send.finish().await.ok();
    });
    let access = access(1, &seed, None);
    let place = NodeBackend::open(address(&node, TransportKind::Quic), access.clone(), None);
    let mut writer = within(place.create(shard(1, 0))).await.expect("begun");
    let piece = Bytes::from(vec![7; MAX_MESSAGE_BYTES]);
    for _ in 0..3 * WINDOW_PIECES {
        within(writer.write(piece.clone())).await.expect("on its way");
    }
    let kept = within(writer.finish()).await.expect("kept");
    assert_eq!(kept, (3 * WINDOW_PIECES * MAX_MESSAGE_BYTES) as u64);
    within(serving).await.expect("it did not panic");
    within(access.close()).await;
    within(node.stop(Duration::from_secs(20))).await;
}
