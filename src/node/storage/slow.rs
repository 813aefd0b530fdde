//! A peer that takes what it reads so slowly that the shard may long be deleted.

use super::*;
use crate::id::ObjectId;
use crate::node::ServiceStream;
use crate::peer::storage::{StorageAnswer, StorageRequest};
use crate::peer::transport::memory::Pair;
use crate::peer::{FrameReader, GroupSeed, MAX_MESSAGE_BYTES, NodeIdentity, SeedRing, StreamPurpose};
use bytes::Bytes;
use std::time::Duration;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

/// Much more than is on its way before anything of it is taken.
const SHARD_BYTES: usize = 16 * 1024 * 1024;
const LINK_BYTES: usize = 64 * 1024;

/// How much of a shard a peer gets that takes a piece and then waits so long.
async fn taken(pause: Duration) -> usize {
    let folder = tempfile::tempdir().expect("a folder");
    let service = StorageService::open(folder.path(), StorageOptions::default()).expect("a folder");
    let [store, node] = [1, 2].map(|number| NodeIdentity::from_seed(&[number; 32]));
    let pair = Pair::of([&store, &node], || SeedRing::new(GroupSeed::from_bytes([7; 32])));
    let (sessions, shard) = (TaskTracker::new(), ShardId { object: ObjectId([1; 16]), index: 0 });
    let owner = service.owners.find_or_make(store.id()).await.expect("a folder");
    let mut write = owner.begin(shard, owner::Purpose::Create).await.expect("begun");
    write.write(Bytes::from(vec![7; SHARD_BYTES])).await.expect("written");
    write.finish().await.expect("there");
    let [near, far] = pair.connect(tokio::io::duplex(LINK_BYTES).into(), &sessions);
    let serving = tokio::spawn(async move {
        let (purpose, stream) = far.accept().await.expect("a stream");
        assert_eq!(purpose, StreamPurpose::Service(PURPOSE));
        service.serve(ServiceStream { session: far.clone(), service: PURPOSE, stream }).await;
    });
    let mut stream = near.open(StreamPurpose::Service(PURPOSE)).await.expect("a stream");
    let request = StorageRequest::Read { shard, range: 0..SHARD_BYTES as u64 };
    stream.send.send_frame(&request.to_bytes()).await.expect("sent");
    let (mut reader, mut taken) = (FrameReader::new(MAX_MESSAGE_BYTES), 0);
    let promised = stream.receive.next_frame(&mut reader).await.expect("an answer").expect("an answer");
    assert_eq!(StorageAnswer::parse(&promised), Ok(StorageAnswer::Number(SHARD_BYTES as u64)));
    while let Ok(Some(piece)) = stream.receive.next_frame(&mut reader).await {
        taken += piece.len();
        sleep(pause).await;
    }
    near.close();
    serving.await.expect("it does not panic");
    taken
}

#[tokio::test(start_paused = true)]
async fn a_read_comes_to_its_end_however_slowly_it_is_taken() {
    assert_eq!(taken(Duration::from_secs(2)).await, SHARD_BYTES);
    // Each piece for itself is taken in time.
    assert!(taken(Duration::from_secs(100)).await < SHARD_BYTES);
}
