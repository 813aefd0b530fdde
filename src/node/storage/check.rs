//! Reads a shard whole and says whether it is what its own manifest says, one block in memory at a time.

use crate::backend::{Error, ErrorKind, LocalShard};
use crate::format::{
    HEADER_BYTES, MAX_MANIFEST_BYTES, Manifest, ManifestBytes, ShardFileLayout, header_bytes, is_end, leaves_of,
    manifest_in_tail,
};
use crate::id::{ShardId, StoreId};
use crate::merkle::{BlockPosition, BlockSpans, leaf, shard_root};
use serde::Deserialize;
use std::ops::Range;

/// What is wrong with a shard, in words.
pub(super) type Damage = &'static str;

/// What is wrong with it, or nothing. With a store, the manifest has to be signed for that; without one, for the store that it
/// names: a whole shard of anybody's is whole.
pub(super) async fn check(
    shard: ShardId,
    opened: &LocalShard,
    store: Option<StoreId>,
) -> Result<Option<Damage>, Error> {
    match find(shard, opened, store).await {
        Ok(()) => Ok(None),
        Err(Found::Damage(damage)) => Ok(Some(damage)),
        // What the disk cannot give back is lost there, whatever it once was.
        Err(Found::Error(error)) if error.kind == ErrorKind::Failed => Ok(Some("it cannot be read")),
        Err(Found::Error(error)) => Err(error),
    }
}

/// Where the blocks of a shard lie by its own manifest; `None` where that cannot be read any more.
pub(super) async fn spans(opened: &LocalShard) -> Result<Option<BlockSpans>, Error> {
    let manifest = match manifest(opened, None).await {
        Ok(manifest) => manifest,
        Err(Found::Damage(_)) => return Ok(None),
        Err(Found::Error(error)) if error.kind == ErrorKind::Failed => return Ok(None),
        Err(Found::Error(error)) => return Err(error),
    };
    let layout = manifest.layout();
    let Some(last) = layout.stripe_count().checked_sub(1) else { return Ok(None) };
    let (block_bytes, last_bytes) = (layout.shape().block_bytes(), layout.block_bytes(last));
    Ok(BlockSpans::new(HEADER_BYTES as u64, block_bytes, last_bytes, layout.stripe_count()))
}

enum Found {
    Damage(Damage),
    Error(Error),
}

impl From<Error> for Found {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

async fn find(shard: ShardId, opened: &LocalShard, store: Option<StoreId>) -> Result<(), Found> {
    let manifest = manifest(opened, store).await?;
    let file = ShardFileLayout::of(&manifest);
    let is_its = manifest.object() == shard.object && usize::from(shard.index) < manifest.geometry().total_shards();
    hold(is_its && file.file_bytes() == opened.bytes(), "its manifest is of another shard or length")?;
    let header = opened.read(0..HEADER_BYTES as u64).await?;
    hold(header == header_bytes(&manifest, shard.index)[..], "its header is damaged")?;
    let end = opened.read(file.end()).await?;
    hold(is_end(&manifest, shard.index, &end), "its manifest, key share or trailer is damaged")?;
    let section = opened.read(file.leaves()).await?;
    let hash = move || {
        let leaves = leaves_of(&section);
        (shard_root(shard.object, shard.index, &leaves), leaves)
    };
    let (root, leaves) = hashed(hash).await?;
    hold(manifest.shard_roots()[usize::from(shard.index)] == root, "its Merkle leaves are damaged")?;
    let layout = manifest.layout();
    for (stripe_index, expected) in (0..).zip(leaves) {
        let start = HEADER_BYTES as u64 + layout.block_offset(stripe_index);
        let block = opened.read(start..start + u64::from(layout.block_bytes(stripe_index))).await?;
        let position = BlockPosition { object: shard.object, shard_index: shard.index, stripe_index };
        hold(hashed(move || leaf(position, &block)).await? == expected, "a block is damaged")?;
    }
    Ok(())
}

/// Off the threads that serve all streams.
async fn hashed<T: Send + 'static>(hash: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    let stopped = |error| Error::with_source(ErrorKind::Transient, "hashing a shard", error);
    tokio::task::spawn_blocking(hash).await.map_err(stopped)
}

fn hold(holds: bool, damage: Damage) -> Result<(), Found> {
    if holds { Ok(()) } else { Err(Found::Damage(damage)) }
}

async fn manifest(opened: &LocalShard, store: Option<StoreId>) -> Result<Manifest, Found> {
    let range: Range<u64> = opened.bytes().saturating_sub(MAX_MANIFEST_BYTES)..opened.bytes();
    let end = opened.read(range).await?;
    let bytes = manifest_in_tail(&end, opened.bytes()).map_err(|_| Found::Damage("its trailer is damaged"))?;
    let unsigned = Found::Damage("its manifest is not signed as it should be");
    let Some(store) = store.or_else(|| named_store(&bytes)) else { return Err(unsigned) };
    Manifest::open(bytes, &store).map_err(|_| unsigned)
}

fn named_store(bytes: &ManifestBytes) -> Option<StoreId> {
    #[derive(Deserialize)]
    struct Named {
        store: StoreId,
    }
    serde_json::from_slice::<Named>(&bytes.public).ok().map(|named| named.store)
}
