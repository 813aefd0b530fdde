//! Nodes that come back, nodes that are others, and peers that do not keep to the protocol.

use super::cloud_contract::{pattern, put, shard, whole};
use super::node_desk::{BOTH, address, caller, identity, listener, within};
use super::node_storage_desk::{Keeper, SEED, access, backend, seed_file};
use shard::backend::{Backend, ErrorKind, NodeBackend};
use shard::id::{ObjectId, ShardId};
use shard::node::Node;
use shard::node::storage::{PURPOSE, StorageOptions};
use shard::peer::storage::{MAX_PIECE_BYTES, RefusalKind, StorageAnswer, StoragePage, StorageRequest};
use shard::peer::transport::{PeerStream, Session};
use shard::peer::{FrameReader, MAX_MESSAGE_BYTES, StreamPurpose, TransportKind};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_starts_again_keeps_its_shards_and_another_in_its_place_is_refused() {
    for transport in BOTH {
        let dir = tempfile::tempdir().expect("a folder");
        let (seed, folder) = (seed_file(dir.path(), SEED), dir.path().join("shards"));
        let keeper = Keeper::start(1, &folder, StorageOptions::default()).await;
        let access = access(1, &seed, Some(dir.path()));
        let (address, bytes) = (keeper.address(transport), pattern(400_000));
        let place = backend(address.clone(), &access);
        assert_eq!(put(&place, shard(1, 0), &bytes).await, Ok(400_000));
        // What was begun when it ended is not there afterwards.
        let mut unfinished = place.create(shard(1, 1)).await.expect("begun");
        unfinished.write(pattern(1000)).await.expect("written");
        let successor = keeper.successor(1);
        keeper.kill().await;
        // What is written may still be on its way when its end is not noticed yet: it is not kept.
        let kept = async {
            unfinished.write(pattern(1000)).await?;
            unfinished.finish().await
        };
        assert!(kept.await.is_err(), "{transport:?}");
        let keeper = Keeper::start_with(successor, &folder, StorageOptions::default()).await;
        assert_eq!(whole(&place, shard(1, 0)).await.expect("there"), bytes);
        assert_eq!(place.list(None).await.expect("a page").shards.len(), 1);
        let successor = keeper.successor(2);
        keeper.stop().await;
        let stranger = Keeper::start_with(successor, &folder, StorageOptions::default()).await;
        let error = place.head(shard(1, 0)).await.expect_err("another node");
        assert_eq!(error.kind, ErrorKind::Denied, "{error:?}");
        assert!(error.source.expect("a reason").to_string().contains("HAS CHANGED"));
        access.close().await;
        stranger.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_cannot_call_a_node_is_told_why() {
    let dir = tempfile::tempdir().expect("a folder");
    let keeper = Keeper::start(1, &dir.path().join("shards"), StorageOptions::default()).await;
    let other_seed = seed_file(dir.path(), 8);
    for transport in BOTH {
        let stranger = backend(keeper.address(transport), &access(1, &other_seed, None));
        let error = stranger.read_mark().await.expect_err("another seed");
        assert_eq!(error.kind, ErrorKind::Denied, "{transport:?}: {error:?}");
        assert!(error.source.expect("a reason").to_string().contains("SHARD_SEED_FILE"));
    }
    let seed = seed_file(dir.path(), SEED);
    let addresses = BOTH.map(|transport| keeper.address(transport));
    keeper.stop().await;
    for address in addresses {
        let place = backend(address, &access(1, &seed, None));
        // The second time it is not called again, and the reason is the same.
        for _ in 0..2 {
            let error = within(place.read_mark()).await.expect_err("nobody there");
            assert_eq!(error.kind, ErrorKind::Unreachable, "{error:?}");
            assert!(error.source.expect("a reason").to_string().contains("shard node serve"));
        }
    }
}

async fn open(session: &Session) -> PeerStream {
    within(session.open(StreamPurpose::Service(PURPOSE))).await.expect("a stream")
}

/// The next answer; `None` when the stream ended or was given up.
async fn answer(stream: &mut PeerStream) -> Option<StorageAnswer> {
    let mut reader = FrameReader::new(MAX_MESSAGE_BYTES);
    let frame = within(stream.receive.next_frame(&mut reader)).await.ok().flatten()?;
    Some(StorageAnswer::parse(&frame).expect("an answer"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_breaks_the_protocol_ends_its_stream_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let keeper = Keeper::start(1, &dir.path().join("shards"), StorageOptions::default()).await;
    let peer = super::node_desk::start(caller(2, &[SEED])).await;
    for transport in BOTH {
        let session = within(peer.connect(&keeper.address(transport))).await.expect("admitted");
        assert_eq!(session.peer(), identity(1).id());
        // A request that is none.
        for wrong in [&[][..], &[1], &[1, 99], &[2, 7], &[1, 7, 0], &[0xff; 64]] {
            let mut stream = open(&session).await;
            stream.send.send_frame(wrong).await.expect("sent");
            let refused = answer(&mut stream).await;
            assert!(matches!(refused, Some(StorageAnswer::Refused { .. })), "{wrong:?}: {refused:?}");
            assert_eq!(answer(&mut stream).await, None);
        }
        // A frame that is longer than any request, and one that never comes to its end.
        let mut stream = open(&session).await;
        stream.send.write_all(&u32::MAX.to_le_bytes()).await.expect("sent");
        assert_eq!(answer(&mut stream).await, None);
        let mut stream = open(&session).await;
        stream.send.write_all(&[10, 0, 0, 0, 1]).await.expect("sent");
        stream.send.shutdown().await.expect("ended");
        assert_eq!(answer(&mut stream).await, None);
        // A shard whose writer goes away in the middle of a piece.
        let mut stream = open(&session).await;
        stream.send.send_frame(&StorageRequest::Create(shard(1, 0)).to_bytes()).await.expect("sent");
        assert_eq!(answer(&mut stream).await, Some(StorageAnswer::Ready));
        stream.send.send_frame(&[7; 1000]).await.expect("sent");
        assert_eq!(answer(&mut stream).await, Some(StorageAnswer::Ready));
        stream.send.write_all(&(MAX_PIECE_BYTES as u32).to_le_bytes()).await.expect("sent");
        stream.send.write_all(&[7; 1000]).await.expect("sent");
        stream.send.shutdown().await.expect("ended");
        assert_eq!(answer(&mut stream).await, None);
        // The session goes on, and nothing of all that is there.
        let mut stream = open(&session).await;
        stream.send.send_frame(&StorageRequest::Head(shard(1, 0)).to_bytes()).await.expect("sent");
        assert!(matches!(answer(&mut stream).await, Some(StorageAnswer::Refused { .. })));
        assert_eq!(session.reason(), None);
    }
    // A stream for a service that nobody has.
    let session = peer.sessions().pop().expect("a session");
    let mut stream = within(session.open(StreamPurpose::Service(PURPOSE + 1))).await.expect("a stream");
    assert_eq!(answer(&mut stream).await, None);
    let usage = keeper.service.usage().await.expect("counted");
    assert!(usage.iter().all(|usage| (usage.shards, usage.bytes) == (0, 0)), "{usage:?}");
    within(peer.stop(Duration::from_secs(20))).await;
    keeper.stop().await;
}

type Frames = Vec<Vec<u8>>;

/// A node that answers the streams it is asked on with what it is given, one after another, whatever it was asked.
struct Liar {
    node: Node,
    lies: mpsc::UnboundedSender<Frames>,
}

impl Liar {
    async fn start() -> Self {
        let node = super::node_desk::start(listener(1, &[SEED])).await;
        let (mut services, (lies, mut told)) =
            (node.services().expect("taken once"), mpsc::unbounded_channel::<Frames>());
        tokio::spawn(async move {
            while let Some(mut asked) = services.next().await {
                let mut reader = FrameReader::new(MAX_MESSAGE_BYTES);
                asked.stream.receive.next_frame(&mut reader).await.expect("a request");
                for frame in told.recv().await.expect("a lie") {
                    asked.stream.send.send_frame(&frame).await.ok();
                }
                asked.stream.send.shutdown().await.ok();
                // What is sent meanwhile is taken, and told nothing.
                while matches!(asked.stream.receive.next_frame(&mut reader).await, Ok(Some(_))) {}
            }
        });
        Self { node, lies }
    }

    fn says(&self, answers: &[StorageAnswer], pieces: &[usize]) {
        self.says_with(answers, pieces, &[]);
    }

    fn says_with(&self, answers: &[StorageAnswer], pieces: &[usize], last: &[StorageAnswer]) {
        let pieces = pieces.iter().map(|bytes| vec![7; *bytes]);
        let frames = answers.iter().map(StorageAnswer::to_bytes).chain(pieces);
        self.lies.send(frames.chain(last.iter().map(StorageAnswer::to_bytes)).collect()).expect("it listens");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_says_what_makes_no_sense_is_not_believed() {
    use StorageAnswer::{Number, Ready};
    let dir = tempfile::tempdir().expect("a folder");
    let (seed, liar) = (seed_file(dir.path(), SEED), Liar::start().await);
    let failed = StorageAnswer::refused(RefusalKind::Failed, "the disk failed");
    let gone = StorageAnswer::refused(RefusalKind::NotFound, "not here");
    let page = |numbers: [u8; 2], next| {
        let shards = numbers.map(|number| (ShardId { object: ObjectId([number; 16]), index: 0 }, 1)).to_vec();
        StorageAnswer::Page(StoragePage { shards, next })
    };
    for transport in BOTH {
        let place = NodeBackend::open(address(&liar.node, transport), access(1, &seed, None), None);
        let read = async || place.read(shard(1, 0), 0..300_000).await.map_err(|error| error.kind);
        liar.says(&[Number(300_000)], &[262_144, 37_856]);
        assert_eq!(read().await.expect("all of it").len(), 300_000);
        for (answers, pieces, last, expected) in [
            (vec![], vec![], vec![], ErrorKind::Transient),
            (vec![Number(300_000)], vec![262_144], vec![], ErrorKind::Transient),
            (vec![], vec![64], vec![], ErrorKind::Failed),
            (vec![], vec![100_000], vec![], ErrorKind::Failed),
            (vec![Ready], vec![], vec![], ErrorKind::Failed),
            (vec![Number(299_999)], vec![262_144, 37_855], vec![], ErrorKind::Failed),
            (vec![Number(300_000)], vec![262_144, 37_857], vec![], ErrorKind::Failed),
            (vec![Number(300_000)], vec![262_144, 0], vec![failed.clone()], ErrorKind::Failed),
            (vec![Number(300_000)], vec![262_144, 0], vec![gone.clone()], ErrorKind::NotFound),
            (vec![Number(300_000)], vec![262_144, 0], vec![Ready], ErrorKind::Failed),
            (vec![gone.clone()], vec![], vec![], ErrorKind::NotFound),
        ] {
            liar.says_with(&answers, &pieces, &last);
            assert_eq!(within(read()).await, Err(expected), "{transport:?}: {answers:?} {pieces:?} {last:?}");
        }
        liar.says(&[page([2, 1], None)], &[]);
        assert_eq!(place.list(None).await.err().map(|error| error.kind), Some(ErrorKind::Failed));
        liar.says(&[Ready], &[]);
        assert_eq!(place.head(shard(1, 0)).await.err().map(|error| error.kind), Some(ErrorKind::Failed));
        liar.says(&[Ready, Ready, Number(9)], &[]);
        let mut writer = place.create(shard(1, 0)).await.expect("ready");
        writer.write(pattern(10)).await.expect("ready");
        assert_eq!(writer.finish().await.err().map(|error| error.kind), Some(ErrorKind::Failed));
    }
    within(liar.node.stop(Duration::ZERO)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_room_gives_streams_up_and_takes_them_again_later() {
    let dir = tempfile::tempdir().expect("a folder");
    let seed = seed_file(dir.path(), SEED);
    let keeper = Keeper::start(1, &dir.path().join("shards"), StorageOptions::default()).await;
    let access = access(1, &seed, None);
    let [place, other_way] = BOTH.map(|transport| NodeBackend::open(keeper.address(transport), access.clone(), None));
    let mut writers = Vec::new();
    let refused = loop {
        // One session has fewer streams than one owner may.
        let place = if writers.len() % 2 == 0 { &place } else { &other_way };
        match within(place.create(shard(writers.len() as u32, 0))).await {
            Ok(writer) => writers.push(writer),
            Err(error) => break error,
        }
    };
    assert_eq!(refused.kind, ErrorKind::Transient);
    assert_eq!(writers.len(), shard::node::storage::MAX_STREAMS_PER_OWNER);
    // Another owner is not in anybody's way.
    let other = backend(keeper.address(TransportKind::Quic), &super::node_storage_desk::access(2, &seed, None));
    assert_eq!(put(&other, shard(1, 0), &pattern(100)).await, Ok(100));
    let last = writers.pop().expect("one");
    last.abort().await;
    let patient = backend(keeper.address(TransportKind::Quic), &access);
    assert_eq!(within(patient.head(shard(1, 0))).await.expect_err("nothing").kind, ErrorKind::NotFound);
    drop(writers);
    access.close().await;
    keeper.stop().await;
}
