//! The backend contract as tests, for the author of any backend.
//!
//! *What it is.* One function per numbered clause of the [contract](super#the-contract), and [`all`]. A clause that does
//! not hold panics with its number: call it from a test.
//!
//! *What it knows.* The trait.
//!
//! *What it does not know.* Which backend it is given, and what lies under it: power failures (clause 2) and whether a
//! place that does not answer is told from an empty one (clause 12) need a test that can cause them.
//!
//! *Invariants.* Each clause is given a backend of its own, which must be empty. It needs room for 32 MiB; a quota is
//! put to the test where `stats` shows one of at most [`MAX_TESTED_QUOTA_BYTES`].
//!
//! ```
//! use shard::backend::{Backend, MemoryBackend, contract};
//! use std::sync::Arc;
//!
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # runtime.block_on(async {
//! contract::all(async || Arc::new(MemoryBackend::new()) as Arc<dyn Backend>).await;
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```

mod bounds;
mod challenge;
mod concurrency;
mod listing;
mod shards;

pub use bounds::{clause_10_a_quota_holds, clause_11_the_mark_is_what_was_written_last};
pub use challenge::clause_15_a_challenge_shows_blocks_with_their_paths;
pub use concurrency::{clause_13_everything_may_run_at_once, clause_14_clearing_spares_what_is_finished};
pub use listing::{
    clause_08_list_shows_every_shard_once, clause_09_stats_count, clause_12_absent_is_said_of_what_is_absent,
};
pub use shards::{
    clause_01_a_shard_appears_whole_or_not_at_all, clause_02_a_finished_shard_is_there,
    clause_03_create_never_replaces, clause_04_replace_is_atomic, clause_05_read_returns_exactly_the_range,
    clause_06_head_is_the_length, clause_07_delete_of_an_absent_shard_is_ok,
};

use super::{Backend, Error, ErrorKind, LIST_PAGE_SHARDS, Result, ShardWriter};
use crate::id::{ObjectId, ShardId};
use bytes::Bytes;
use std::sync::Arc;

/// A larger quota is not filled to see whether it holds.
pub const MAX_TESTED_QUOTA_BYTES: u64 = 64 * 1024 * 1024;
/// As the callers write: one block at a time.
const WRITE_BYTES: usize = 256 * 1024;

/// How much the clauses do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContractOptions {
    /// How many shards the listing of clause 8 has; [`Self::default`] crosses a page's end.
    pub listed_shards: usize,
}

impl Default for ContractOptions {
    fn default() -> Self {
        Self { listed_shards: LIST_PAGE_SHARDS + 2 }
    }
}

/// Every clause, each on a new and empty backend.
///
/// # Panics
///
/// When a clause does not hold; the message names it.
pub async fn all(make: impl AsyncFn() -> Arc<dyn Backend>) {
    all_with(make, ContractOptions::default()).await;
}

/// Every clause, for a place where the whole count of [`all`] takes too long.
///
/// # Panics
///
/// When a clause does not hold; the message names it.
pub async fn all_with(make: impl AsyncFn() -> Arc<dyn Backend>, options: ContractOptions) {
    clause_01_a_shard_appears_whole_or_not_at_all(&make().await).await;
    clause_02_a_finished_shard_is_there(&make().await).await;
    clause_03_create_never_replaces(&make().await).await;
    clause_04_replace_is_atomic(&make().await).await;
    clause_05_read_returns_exactly_the_range(&make().await).await;
    clause_06_head_is_the_length(&make().await).await;
    clause_07_delete_of_an_absent_shard_is_ok(&make().await).await;
    clause_08_list_shows_every_shard_once(&make().await, options).await;
    clause_09_stats_count(&make().await).await;
    clause_10_a_quota_holds(&make().await).await;
    clause_11_the_mark_is_what_was_written_last(&make().await).await;
    clause_12_absent_is_said_of_what_is_absent(&make().await).await;
    clause_13_everything_may_run_at_once(&make().await).await;
    clause_14_clearing_spares_what_is_finished(&make().await).await;
    clause_15_a_challenge_shows_blocks_with_their_paths(&make().await).await;
}

/// Shard 0 of the object with this number; neighbouring numbers are in different folders.
fn shard(number: u32) -> ShardId {
    shard_of(number, 0)
}

fn shard_of(number: u32, index: u8) -> ShardId {
    let mut object = [0; ObjectId::BYTES];
    object[..4].copy_from_slice(&number.wrapping_mul(0x9E37_79B1).to_be_bytes());
    object[12..].copy_from_slice(&number.to_be_bytes());
    ShardId { object: ObjectId(object), index }
}

/// Bytes in which no two places look alike, and no two seeds.
fn pattern(seed: u8, length: usize) -> Bytes {
    (0..length).map(|at| (at as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(9) as u8 ^ seed).collect()
}

async fn write_all(writer: &mut dyn ShardWriter, bytes: &Bytes) -> Result<()> {
    for start in (0..bytes.len()).step_by(WRITE_BYTES) {
        writer.write(bytes.slice(start..bytes.len().min(start + WRITE_BYTES))).await?;
    }
    Ok(())
}

async fn put(backend: &dyn Backend, shard: ShardId, bytes: &Bytes) -> Result<u64> {
    let mut writer = backend.create(shard).await?;
    write_all(&mut *writer, bytes).await?;
    writer.finish().await
}

async fn put_over(backend: &dyn Backend, shard: ShardId, bytes: &Bytes) -> Result<u64> {
    let mut writer = backend.replace(shard).await?;
    write_all(&mut *writer, bytes).await?;
    writer.finish().await
}

async fn read_whole(backend: &dyn Backend, shard: ShardId) -> Result<Bytes> {
    let length = backend.head(shard).await?;
    backend.read(shard, 0..length).await
}

async fn listed(backend: &dyn Backend) -> Result<Vec<ShardId>> {
    let mut shards = Vec::new();
    let mut after = None;
    loop {
        let page = backend.list(after).await?;
        shards.extend(page.shards.iter().map(|shard| shard.id));
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(shards),
        }
    }
}

#[track_caller]
fn expect_kind<T>(outcome: Result<T>, kind: ErrorKind, clause: &str) {
    let found = outcome.err().map(|error: Error| error.kind);
    assert_eq!(found, Some(kind), "{clause}");
}
