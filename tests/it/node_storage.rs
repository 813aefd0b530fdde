//! The backend contract at a node, over both transports on real sockets; whose shards are whose, and how many.

use super::cloud_contract::{pattern, put, shard, whole};
use super::node_desk::{BOTH, within};
use super::node_storage_desk::{Keeper, SEED, access, backend, seed_file};
use shard::backend::contract::{self, ContractOptions};
use shard::backend::{Backend, ErrorKind, Mark, NodeBackend, RetryBackend, RetryOptions};
use shard::id::{BackendId, StoreId};
use shard::node::storage::StorageOptions;
use shard::peer::TransportKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// A quota that the contract fills, and that has room for all of it.
const QUOTA_BYTES: u64 = 33 * 1024 * 1024;

/// Each clause is given a store of its own, which has nothing there yet.
async fn keeps_the_contract(
    transport: TransportKind,
    options: StorageOptions,
    wrap: impl Fn(NodeBackend) -> Arc<dyn Backend>,
) {
    let dir = tempfile::tempdir().expect("a folder");
    let seed = seed_file(dir.path(), SEED);
    let keeper = Keeper::start(1, &dir.path().join("shards"), options).await;
    let next = AtomicU8::new(1);
    let accesses = std::sync::Mutex::new(Vec::new());
    let make = async || {
        let access = access(next.fetch_add(1, Ordering::Relaxed), &seed, None);
        accesses.lock().expect("nobody panicked").push(access.clone());
        wrap(NodeBackend::open(keeper.address(transport), access, None))
    };
    contract::all_with(make, ContractOptions::default()).await;
    let used = keeper.service.usage().await.expect("counted");
    // Every clause but that of the quota stores something, and each was an owner of its own.
    let is_limited = options.quota_bytes.is_some();
    assert_eq!(used.len() + usize::from(!is_limited), usize::from(next.load(Ordering::Relaxed)) - 1);
    let accesses = accesses.into_inner().expect("nobody panicked");
    for access in accesses {
        access.close().await;
    }
    keeper.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_keeps_the_contract_over_quic() {
    keeps_the_contract(TransportKind::Quic, StorageOptions::default(), |place| Arc::new(place)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_keeps_the_contract_over_websocket() {
    keeps_the_contract(TransportKind::WebSocket, StorageOptions::default(), |place| Arc::new(place)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_quotas_and_a_floor_keeps_the_contract_behind_patience() {
    let options =
        StorageOptions { quota_bytes: Some(QUOTA_BYTES), quota_shards: Some(2000), reserve_bytes: 1024 * 1024 };
    let patient =
        |place| -> Arc<dyn Backend> { Arc::new(RetryBackend::new(Arc::new(place), "friend", RetryOptions::default())) };
    keeps_the_contract(TransportKind::Quic, options, patient).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_of_the_stores_own_holds_at_a_node_that_has_none() {
    let dir = tempfile::tempdir().expect("a folder");
    let seed = seed_file(dir.path(), SEED);
    let keeper = Keeper::start(1, &dir.path().join("shards"), StorageOptions::default()).await;
    for (store, transport) in (1..).zip(BOTH) {
        let place = NodeBackend::open(keeper.address(transport), access(store, &seed, None), Some(QUOTA_BYTES));
        contract::clause_10_a_quota_holds(&(Arc::new(place) as Arc<dyn Backend>)).await;
    }
    keeper.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_sees_reads_and_deletes_what_it_stored_and_nothing_else() {
    let dir = tempfile::tempdir().expect("a folder");
    let (seed, folder) = (seed_file(dir.path(), SEED), dir.path().join("shards"));
    let keeper = Keeper::start(1, &folder, StorageOptions::default()).await;
    let place = |store, transport| backend(keeper.address(transport), &access(store, &seed, None));
    let (own, other) = (place(1, TransportKind::Quic), place(2, TransportKind::WebSocket));
    let mark = Mark { store: StoreId([1; 32]), backend: BackendId([1; 16]) };
    let bytes = pattern(300_000);
    // Whoever only asks leaves nothing behind.
    assert_eq!(other.head(shard(1, 0)).await.expect_err("nothing").kind, ErrorKind::NotFound);
    assert_eq!(other.stats().await.expect("stats").shard_count, 0);
    assert_eq!(std::fs::read_dir(&folder).expect("a folder").count(), 0);
    assert_eq!(put(&own, shard(1, 0), &bytes).await, Ok(300_000));
    own.write_mark(&mark).await.expect("marked");
    for kind in [
        other.head(shard(1, 0)).await.err().map(|error| error.kind),
        other.read(shard(1, 0), 0..1).await.err().map(|error| error.kind),
    ] {
        assert_eq!(kind, Some(ErrorKind::NotFound));
    }
    assert_eq!(other.list(None).await.expect("a page").shards, []);
    assert_eq!(other.read_mark().await.expect("no mark"), None);
    other.delete(shard(1, 0)).await.expect("nothing to delete");
    assert_eq!(other.clear_unfinished(shard(1, 0)).await.expect("nothing to clear"), 0);
    // The same name, another owner: another shard.
    assert_eq!(put(&other, shard(1, 0), &pattern(10)).await, Ok(10));
    other.delete(shard(1, 0)).await.expect("deleted");
    assert_eq!(whole(&own, shard(1, 0)).await.expect("there"), bytes);
    assert_eq!(own.read_mark().await.expect("a mark"), Some(mark));
    // The same store, by the other way and with a session of its own.
    let again = place(1, TransportKind::WebSocket);
    assert_eq!(whole(&again, shard(1, 0)).await.expect("there"), bytes);
    let usage = keeper.service.usage().await.expect("counted");
    let mut counted: Vec<_> = usage.iter().map(|usage| (usage.shards, usage.bytes)).collect();
    counted.sort_unstable();
    assert_eq!(counted, [(0, 0), (1, 300_000)]);
    keeper.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_of_shards_holds_for_writers_at_once_and_counts_what_is_there_after_a_start() {
    let dir = tempfile::tempdir().expect("a folder");
    let (seed, folder) = (seed_file(dir.path(), SEED), dir.path().join("shards"));
    let options = StorageOptions { quota_shards: Some(5), ..StorageOptions::default() };
    let keeper = Keeper::start(1, &folder, options).await;
    let place = backend(keeper.address(TransportKind::Quic), &access(1, &seed, None));
    let bytes = pattern(1000);
    let outcomes = futures_util::future::join_all((0..12).map(|index| put(&place, shard(1, index), &bytes))).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 5);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Ok(1000) | Err(ErrorKind::NoSpace))), "{outcomes:?}");
    let there = place.list(None).await.expect("a page").shards[0].id;
    // What is there can be replaced, and what was deleted makes room for one.
    let mut replacing = place.replace(there).await.expect("no shard more");
    replacing.write(bytes.clone()).await.expect("written");
    assert_eq!(replacing.finish().await.expect("replaced"), 1000);
    assert_eq!(place.replace(shard(2, 0)).await.err().map(|error| error.kind), Some(ErrorKind::NoSpace));
    let successor = keeper.successor(1);
    keeper.stop().await;
    let keeper = Keeper::start_with(successor, &folder, options).await;
    assert_eq!(put(&place, shard(2, 0), &bytes).await, Err(ErrorKind::NoSpace));
    place.delete(there).await.expect("deleted");
    place.delete(there).await.expect("deleted again");
    assert_eq!(put(&place, shard(2, 0), &bytes).await, Ok(1000));
    assert_eq!(put(&place, shard(2, 1), &bytes).await, Err(ErrorKind::NoSpace));
    // Another owner has a quota of its own.
    let other = backend(keeper.address(TransportKind::Quic), &access(2, &seed, None));
    assert_eq!(put(&other, shard(2, 1), &bytes).await, Ok(1000));
    keeper.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_to_stay_free_takes_nothing_and_still_gives_back_and_deletes() {
    let dir = tempfile::tempdir().expect("a folder");
    let (seed, folder) = (seed_file(dir.path(), SEED), dir.path().join("shards"));
    let keeper = Keeper::start(1, &folder, StorageOptions::default()).await;
    let place = backend(keeper.address(TransportKind::WebSocket), &access(1, &seed, None));
    assert_eq!(put(&place, shard(1, 0), &pattern(100)).await, Ok(100));
    let successor = keeper.successor(1);
    keeper.stop().await;
    let options = StorageOptions { reserve_bytes: u64::MAX, ..StorageOptions::default() };
    let keeper = Keeper::start_with(successor, &folder, options).await;
    let mut refused = place.create(shard(1, 1)).await.expect("begun");
    // A piece is on its way while the next is written: the refusal is known at the end at the latest.
    refused.write(pattern(1)).await.expect("on its way");
    let error = refused.finish().await.expect_err("no space");
    assert_eq!(error.kind, ErrorKind::NoSpace);
    assert!(error.source.as_ref().expect("a reason").to_string().contains("keeps"), "{error:?}");
    assert_eq!(place.stats().await.expect("stats").free_bytes, Some(0));
    assert_eq!(whole(&place, shard(1, 0)).await.expect("there"), pattern(100));
    place.delete(shard(1, 0)).await.expect("deleted");
    assert_eq!(place.list(None).await.expect("a page").shards, []);
    assert_eq!(within(keeper.service.usage()).await.expect("counted")[0].shards, 0);
    keeper.stop().await;
}
