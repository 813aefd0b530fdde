//! Copies of shards that a repair or a drain was making.

use super::look::{Look, Seen, look_at};
use super::{Belief, End, clear_unfinished, end_entry, take_back};
use crate::backend::Backend;
use crate::catalog::{Catalog, JournalEntry, ObjectRecord, ShardRecord, ShardState};
use crate::error::Result;
use crate::format::{HEADER_BYTES, Manifest, ShardFileLayout, header_bytes, is_end, leaves_of};
use crate::id::{BackendId, ShardId};
use crate::ops::examine::open_manifest;
use crate::ops::reader::{BlockState, ObjectReader, ShardPlace, Wanted};
use crate::store::Store;
use futures_util::StreamExt;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What the catalog says of the object.
struct Known {
    /// `None` of an object that it does not know.
    record: Option<ObjectRecord>,
    is_live: bool,
    shards: Vec<ShardRecord>,
    /// Copies that waited for deletion before: they are no leftovers, and may be the last.
    waiting: BTreeSet<(u8, BackendId)>,
}

/// A copy of a shard: recorded if it is whole, else taken back. Of an object that the catalog does not know nothing is:
/// it may be all that there is.
pub(super) async fn end_copy(store: &Store, entry: JournalEntry, belief: Belief) -> Result<End> {
    let object = entry.object;
    let ask = move |catalog: &Catalog| {
        let (record, is_live) = (catalog.object(object)?, catalog.object_is_live(object)?);
        let waiting = catalog.waiting_places(object)?.into_iter().collect();
        Ok(Known { record, is_live, shards: catalog.shards(object)?, waiting })
    };
    let known = store.look(ask).await?;
    let seen = look_at(store, &entry).await;
    let manifest = match &known.record {
        None if seen.iter().all(|(_, _, look)| *look == Look::Absent) => None,
        None if belief == Belief::Certain => return Ok(End::Waiting),
        None => return end_entry(store, object, End::Left).await,
        Some(_) if !known.is_live => None,
        Some(record) => match open_manifest(store, record, &known.shards).await {
            Ok(manifest) => Some(manifest),
            Err(_) => return Ok(End::Waiting),
        },
    };
    let (mut doubtful, mut is_unclear) = (Vec::new(), false);
    for (index, place, look) in seen {
        let is_recorded = known.shards.iter().any(|shard| shard.index == index && shard.backend == place);
        if is_recorded {
            if belief == Belief::Certain {
                clear_unfinished(store, object, &[(index, place, Look::Absent)]).await;
            }
            continue;
        }
        match verdict(store, manifest.as_ref(), (index, place, look)).await {
            Verdict::Whole(manifest, bytes) => keep_copy(store, manifest, &known, (index, place, bytes)).await?,
            Verdict::Useless | Verdict::Unseen(_) if known.is_live && known.waiting.contains(&(index, place)) => {
                if belief == Belief::Certain {
                    clear_unfinished(store, object, &[(index, place, Look::Absent)]).await;
                }
            }
            Verdict::Useless => doubtful.push((index, place, look)),
            Verdict::Unseen(manifest) => match is_elsewhere(&known, index) {
                true => doubtful.push((index, place, look)),
                false => expect_copy(store, manifest, (index, place)).await?,
            },
            Verdict::Unclear => is_unclear = true,
        }
    }
    if is_unclear {
        return Ok(End::Waiting);
    }
    if belief == Belief::Doubtful {
        return end_entry(store, object, if doubtful.is_empty() { End::TakenIn } else { End::Left }).await;
    }
    Ok(End::TakenBack { bytes: take_back(store, object, doubtful).await? })
}

/// What is to be thought of a copy that no catalog records.
enum Verdict<'a> {
    Whole(&'a Manifest, u64),
    Useless,
    /// Its place is one of the store's, and does not answer.
    Unseen(&'a Manifest),
    /// It cannot be read now.
    Unclear,
}

async fn verdict<'a>(store: &Store, manifest: Option<&'a Manifest>, (index, place, look): Seen) -> Verdict<'a> {
    let (Some(manifest), Some(registered)) = (manifest, store.registry().get(place)) else {
        return Verdict::Useless;
    };
    let bytes = match look {
        Look::There(bytes) => bytes,
        Look::Absent => return Verdict::Useless,
        Look::Silent => return Verdict::Unseen(manifest),
    };
    match is_whole_shard(manifest, (index, place), &registered.backend).await {
        Some(true) => Verdict::Whole(manifest, bytes),
        Some(false) => Verdict::Useless,
        None => Verdict::Unclear,
    }
}

fn is_elsewhere(known: &Known, index: u8) -> bool {
    known.shards.iter().any(|shard| shard.index == index && shard.state == ShardState::Ok)
}

/// Records a copy that is whole: in its place if its shard is nowhere else, else as one too many.
async fn keep_copy(
    store: &Store,
    manifest: &Manifest,
    known: &Known,
    (index, place, bytes): (u8, BackendId, u64),
) -> Result<()> {
    let state = if is_elsewhere(known, index) { ShardState::Surplus } else { ShardState::Ok };
    let verified_ns = Some(store.now_ns());
    let record = ShardRecord { index, backend: place, bytes, state, bad_blocks: 0, verified_ns };
    let object = manifest.object();
    store.catalog(move |catalog| catalog.put_shard(object, &record)).await
}

/// Records that a shard which is nowhere else may be in a place that does not answer.
async fn expect_copy(store: &Store, manifest: &Manifest, (index, place): (u8, BackendId)) -> Result<()> {
    let (object, bytes) = (manifest.object(), ShardFileLayout::of(manifest).file_bytes());
    let state = ShardState::Unreachable;
    let record = ShardRecord { index, backend: place, bytes, state, bad_blocks: 0, verified_ns: None };
    store.catalog(move |catalog| catalog.put_shard(object, &record)).await
}

/// Whether every byte of a shard file is what the manifest and its blocks determine; `None` where it cannot be read now.
async fn is_whole_shard(
    manifest: &Manifest,
    (index, place): (u8, BackendId),
    backend: &Arc<dyn Backend>,
) -> Option<bool> {
    let shard = ShardId { object: manifest.object(), index };
    let layout = ShardFileLayout::of(manifest);
    let bytes = backend.head(shard).await.ok()?;
    if bytes != layout.file_bytes() {
        return Some(false);
    }
    let at = ShardPlace { index, backend: place, source: Some(Arc::clone(backend)) };
    let reader = ObjectReader::new(manifest.clone(), vec![at]);
    let Some(leaves) = reader.trusted_leaves(index).await.ok()? else { return Some(false) };
    let mut stripes = reader.stripes(0..manifest.layout().stripe_count(), Wanted::All);
    while let Some(stripe) = stripes.next().await {
        match stripe.ok()?.states.first() {
            Some(BlockState::Good) => {}
            Some(BlockState::Bad) => return Some(false),
            _ => return None,
        }
    }
    let header = backend.read(shard, 0..HEADER_BYTES as u64).await.ok()?;
    let stored = leaves_of(&backend.read(shard, layout.leaves()).await.ok()?);
    let end = backend.read(shard, layout.end()).await.ok()?;
    Some(header == header_bytes(manifest, index)[..] && stored == *leaves && is_end(manifest, index, &end))
}
