//! Clauses 8, 9 and 12: what a backend says that it has.

use super::super::{Backend, BackendStats, ErrorKind, LIST_PAGE_SHARDS, shard_name};
use super::{ContractOptions, expect_kind, listed, pattern, put, shard, shard_of};
use crate::id::ShardId;
use futures_util::stream::{self, StreamExt};
use std::sync::Arc;

/// How many shards are written at once to have enough for a page.
const WRITES_AT_ONCE: usize = 16;

/// Clause 8: in pages, in order, each once, from anywhere.
pub async fn clause_08_list_shows_every_shard_once(backend: &Arc<dyn Backend>, options: ContractOptions) {
    let empty = backend.list(None).await.expect("clause 8: list of an empty place");
    assert_eq!((empty.shards.len(), empty.next), (0, None), "clause 8: an empty place");
    let shards = some_shards(options.listed_shards);
    stream::iter(&shards)
        .for_each_concurrent(WRITES_AT_ONCE, async |shard| {
            put(&**backend, *shard, &pattern(8, usize::from(shard.index))).await.expect("clause 8: put");
        })
        .await;
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = backend.list(after).await.expect("clause 8: list");
        assert!(page.shards.len() <= LIST_PAGE_SHARDS, "clause 8: a page of {}", page.shards.len());
        for listed in &page.shards {
            assert_eq!(listed.bytes, u64::from(listed.id.index), "clause 8: the length in the listing");
        }
        found.extend(page.shards.iter().map(|listed| listed.id));
        if page.next.is_none() {
            break;
        }
        assert_ne!(page.next, after, "clause 8: a listing that stands still");
        after = page.next;
        assert!(found.len() <= shards.len(), "clause 8: more than was written");
    }
    assert!(found == shards, "clause 8: {} shards found of {}, or out of order", found.len(), shards.len());
    let half = shards.len() / 2;
    let page = backend.list(Some(shards[half])).await.expect("clause 8: list from the middle");
    assert_eq!(page.shards.first().map(|listed| listed.id), shards.get(half + 1).copied(), "clause 8: from the middle");
    backend.delete(shards[half]).await.expect("clause 8: delete");
    let page = backend.list(Some(shards[half])).await.expect("clause 8: list after what is absent");
    assert_eq!(
        page.shards.first().map(|listed| listed.id),
        shards.get(half + 1).copied(),
        "clause 8: after an absent one"
    );
}

/// At least thirteen shards, in the order of their names: one object with indexes of one and two digits among many.
fn some_shards(count: usize) -> Vec<ShardId> {
    let mut shards: Vec<_> = (0..13).map(|index| shard_of(0, index)).collect();
    shards.extend((1..).map(shard).take(count.saturating_sub(shards.len())));
    shards.sort_by_key(|shard| shard_name(*shard));
    shards
}

/// Clause 9: how many and how much, after each change.
pub async fn clause_09_stats_count(backend: &Arc<dyn Backend>) {
    let expect = async |shard_count, used_bytes| {
        let stats: BackendStats = backend.stats().await.expect("clause 9: stats");
        assert_eq!((stats.shard_count, stats.used_bytes), (shard_count, used_bytes), "clause 9");
    };
    expect(0, 0).await;
    for number in 0..4 {
        put(&**backend, shard(number), &pattern(9, 1000)).await.expect("clause 9: put");
    }
    expect(4, 4000).await;
    let mut writer = backend.create(shard(9)).await.expect("clause 9: create");
    writer.write(pattern(9, 10)).await.expect("clause 9: write");
    expect(4, 4000).await;
    writer.abort().await;
    super::put_over(&**backend, shard(0), &pattern(9, 1)).await.expect("clause 9: replace");
    expect(4, 3001).await;
    backend.delete(shard(1)).await.expect("clause 9: delete");
    expect(3, 2001).await;
}

/// Clause 12, as far as a place that answers can show it: `NotFound` is what it says of what is absent, whatever of the
/// same object is there.
pub async fn clause_12_absent_is_said_of_what_is_absent(backend: &Arc<dyn Backend>) {
    put(&**backend, shard_of(0, 1), &pattern(12, 10)).await.expect("clause 12: put");
    for absent in [shard_of(0, 0), shard_of(0, 10), shard_of(0, 11), shard_of(1, 1)] {
        expect_kind(backend.head(absent).await, ErrorKind::NotFound, "clause 12: head");
        expect_kind(backend.read(absent, 0..10).await, ErrorKind::NotFound, "clause 12: read");
    }
    assert_eq!(listed(&**backend).await.expect("clause 12: list"), [shard_of(0, 1)], "clause 12: list");
}
