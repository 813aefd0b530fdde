//! Clears up after processes that died: what they left half-written goes, what they had finished is taken in.
//!
//! *What it is.* [`clear`], run at the start of whatever writes: for each journal entry of a dead process, the places that
//! it names are looked at, and the entry is ended.
//!
//! *What it knows.* Journals, places, and which objects are whole.
//!
//! *What it does not know.* What the dead process was asked to do.
//!
//! *Invariants.* The entry of a living process is never touched. A shard that the catalog records is never deleted. A new
//! object is deleted only where too few of its shards can exist to have counted; while unreachable places could make up
//! the difference, its entry waits.

use super::Controls;
use super::ingest::{FoundObject, FoundShard, ReadObject, Sources, ingest, read_object};
use super::mend::{MendError, Target, WriteMode, rebuild_shards};
use super::reader::{BlockState, ObjectReader, ReadError, ShardPlace, Wanted};
use super::writer::clear_place;
use crate::backend::{Backend, ErrorKind as BackendErrorKind};
use crate::catalog::{Catalog, JournalEntry, ObjectRecord, Purpose, ShardRecord, ShardState};
use crate::error::{ErrorKind, Result};
use crate::format::{HEADER_BYTES, Index, Manifest, ManifestBytes, ShardFileLayout, header_bytes, is_end, leaves_of};
use crate::id::{BackendId, ObjectId, ShardId};
use crate::store::Store;
use futures_util::{StreamExt, future};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One process at a time clears up.
const LEASE: &str = "leftovers";

/// What was found and done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftoversReport {
    /// Objects that were whole and are in the catalog now.
    pub taken_in: Vec<ObjectId>,
    /// Objects and copies of shards that were not whole and are gone, or wait for deletion.
    pub taken_back: Vec<ObjectId>,
    /// Objects of which unreachable backends may hold enough: they are looked at again another time.
    pub waiting: Vec<ObjectId>,
    /// How many bytes were taken back, finished shards and unfinished ones, as far as their places can tell.
    pub bytes_freed: u64,
}

/// What is in a place that a journal names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    There(u64),
    Absent,
    /// The place does not answer, or is not known here any more.
    Silent,
}

/// A place that a journal names, and what is there.
type Seen = (u8, BackendId, Look);

/// Ends the journal entries of dead processes. Where another process is at it already, there is nothing to do.
pub async fn clear(store: &Store, controls: &Controls) -> Result<LeftoversReport> {
    let mut report = LeftoversReport::default();
    if stale_entries(store).await?.is_empty() {
        return Ok(report);
    }
    let _lease = match store.lease(LEASE).await {
        Ok(lease) => lease,
        Err(error) if error.kind == ErrorKind::Busy => return Ok(report),
        Err(error) => return Err(error),
    };
    // What another process ended meanwhile must not be judged by what was read before.
    let stale = stale_entries(store).await?;
    controls.begin("clearing up after an interrupted run", None, Some(stale.len() as u64));
    for entry in stale {
        controls.check_cancelled()?;
        let object = entry.object;
        let end = match entry.purpose {
            Purpose::Put => end_put(store, entry).await?,
            Purpose::Repair | Purpose::Move => end_copy(store, entry).await?,
        };
        match end {
            End::TakenIn => report.taken_in.push(object),
            End::TakenBack { bytes } => {
                report.taken_back.push(object);
                report.bytes_freed += bytes;
            }
            End::Waiting => report.waiting.push(object),
        }
        controls.items(1);
    }
    controls.end();
    Ok(report)
}

/// How many objects wait to be cleared up after: what [`clear`] would look at.
pub async fn count(store: &Store) -> Result<u64> {
    Ok(stale_entries(store).await?.len() as u64)
}

enum End {
    TakenIn,
    TakenBack { bytes: u64 },
    Waiting,
}

async fn stale_entries(store: &Store) -> Result<Vec<JournalEntry>> {
    let entries = store.catalog(|catalog| catalog.journals()).await?;
    Ok(entries.into_iter().filter(|entry| !store.process_is_alive(entry.process)).collect())
}

/// A new object: taken in if it counts, taken back if it cannot.
async fn end_put(store: &Store, entry: JournalEntry) -> Result<End> {
    let object = entry.object;
    let seen = look_at(store, &entry).await;
    let silent = distinct(&seen, |look| look == Look::Silent);
    let found = found_object(object, &seen);
    let planned = distinct(&seen, |_| true);
    let (whole, quorum) = if found.shards.is_empty() {
        (0, least_quorum(planned))
    } else {
        match read_object(&Sources::of(store), store.access(), &found).await {
            Ok(read) => match judge(store, &read, &found) {
                Judgement::Counts => return take_in(store, read.manifest, found, &seen).await,
                Judgement::Unclear => return Ok(End::Waiting),
                Judgement::Has { whole } => (whole, read.manifest.geometry().write_quorum()),
            },
            Err(error) if is_passing(&error) => return Ok(End::Waiting),
            Err(_) => (found.index_count(), least_quorum(planned)),
        }
    };
    if silent > 0 && whole + silent >= quorum {
        return Ok(End::Waiting);
    }
    if store.catalog(move |catalog| catalog.object_is_live(object)).await? {
        store.catalog(move |catalog| catalog.end_journal(object)).await?;
        return Ok(End::TakenIn);
    }
    Ok(End::TakenBack { bytes: take_back(store, object, seen).await? })
}

/// What is to be thought of a new object by what was read of it.
enum Judgement {
    /// It is durable, and says something that people may see.
    Counts,
    /// It might be, but cannot be read now.
    Unclear,
    /// It does not count by what is here.
    Has { whole: usize },
}

fn judge(store: &Store, read: &ReadObject, found: &FoundObject) -> Judgement {
    let whole = whole_shards(store, &read.manifest, found);
    let is_durable = whole >= read.manifest.geometry().write_quorum();
    match &read.index {
        // A piece without an end was never shown to anyone: its put begins it again.
        Ok(index) if !is_visible(index) => Judgement::Has { whole: 0 },
        Ok(_) if is_durable => Judgement::Counts,
        Err(error) if is_durable && is_passing(error) => Judgement::Unclear,
        _ => Judgement::Has { whole },
    }
}

/// Whether trying again another time may give another answer.
fn is_passing(error: &ReadError) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Backend)
}

/// Commits a new object, after what was not finished of it is made again in the places that were meant for it: the old
/// entry names them still.
async fn take_in(store: &Store, manifest: Manifest, mut found: FoundObject, seen: &[Seen]) -> Result<End> {
    let object = found.object;
    clear_unfinished(store, object, seen).await;
    let finished = finish_shards(store, manifest, &found, seen).await;
    found.shards.extend(finished);
    found.shards.sort_unstable();
    ingest(store, &found).await?;
    store.catalog(move |catalog| catalog.end_journal(object)).await?;
    Ok(End::TakenIn)
}

/// Makes the shards that are nowhere, where they were meant to be; one that cannot be made is left to a repair.
async fn finish_shards(store: &Store, manifest: Manifest, found: &FoundObject, seen: &[Seen]) -> Vec<FoundShard> {
    let is_found = |index: u8| found.shards.iter().any(|shard| shard.index == index);
    let absent = seen.iter().filter(|(index, _, look)| *look == Look::Absent && !is_found(*index));
    // A shard that was to be made again elsewhere has two places in the journal; one is enough.
    let places: BTreeMap<u8, BackendId> = absent.map(|(index, place, _)| (*index, *place)).collect();
    let target = |(index, place): (u8, BackendId)| {
        let registered = store.registry().get(place).filter(|registered| registered.is_eligible())?;
        Some(Target { index, place, backend: Arc::clone(&registered.backend), mode: WriteMode::Create })
    };
    let targets: Vec<Target> = places.into_iter().filter_map(target).collect();
    if targets.is_empty() {
        return Vec::new();
    }
    let sources = Sources::of(store).places(found.shards.iter().map(|shard| (shard.index, shard.backend)));
    let reader = ObjectReader::new(manifest, sources);
    let Ok(rebuilt) = rebuild_shards(&reader, targets.clone(), &Controls::default()).await else { return Vec::new() };
    let finished = |(target, outcome): (&Target, Result<u64, MendError>)| {
        let bytes = outcome.ok()?;
        Some(FoundShard { index: target.index, backend: target.place, bytes })
    };
    targets.iter().zip(rebuilt.outcomes).filter_map(finished).collect()
}

/// A copy of a shard of an object that is known: recorded if it is whole, else taken back.
async fn end_copy(store: &Store, entry: JournalEntry) -> Result<End> {
    let object = entry.object;
    let ask = move |catalog: &mut Catalog| {
        let is_live = catalog.object_is_live(object)?;
        Ok((catalog.object(object)?.filter(|_| is_live), catalog.shards(object)?))
    };
    let (record, recorded) = store.catalog(ask).await?;
    let seen = look_at(store, &entry).await;
    let manifest = record.and_then(|record| stored_manifest(store, record));
    let (mut doubtful, mut is_unclear) = (Vec::new(), false);
    for (index, place, look) in seen {
        let is_recorded = recorded.iter().any(|shard| shard.index == index && shard.backend == place);
        if is_recorded {
            clear_unfinished(store, object, &[(index, place, Look::Absent)]).await;
            continue;
        }
        match verdict(store, manifest.as_ref(), (index, place, look)).await {
            Verdict::Whole(manifest, bytes) => keep_copy(store, manifest, &recorded, (index, place, bytes)).await?,
            Verdict::Useless => doubtful.push((index, place, look)),
            Verdict::Unclear => is_unclear = true,
        }
    }
    if is_unclear {
        return Ok(End::Waiting);
    }
    Ok(End::TakenBack { bytes: take_back(store, object, doubtful).await? })
}

/// What is to be thought of a copy that no catalog records.
enum Verdict<'a> {
    Whole(&'a Manifest, u64),
    Useless,
    /// It cannot be read now.
    Unclear,
}

async fn verdict<'a>(store: &Store, manifest: Option<&'a Manifest>, (index, place, look): Seen) -> Verdict<'a> {
    let registered = store.registry().get(place);
    let (Some(manifest), Look::There(bytes), Some(registered)) = (manifest, look, registered) else {
        return Verdict::Useless;
    };
    match is_whole_shard(manifest, (index, place), &registered.backend).await {
        Some(true) => Verdict::Whole(manifest, bytes),
        Some(false) => Verdict::Useless,
        None => Verdict::Unclear,
    }
}

/// Records a copy that is whole: in its place if its shard is nowhere else, else as one too many.
async fn keep_copy(
    store: &Store,
    manifest: &Manifest,
    recorded: &[ShardRecord],
    (index, place, bytes): (u8, BackendId, u64),
) -> Result<()> {
    let is_elsewhere = recorded.iter().any(|shard| shard.index == index && shard.state == ShardState::Ok);
    let state = if is_elsewhere { ShardState::Surplus } else { ShardState::Ok };
    let verified_ns = Some(store.now_ns());
    let record = ShardRecord { index, backend: place, bytes, state, bad_blocks: 0, verified_ns };
    let object = manifest.object();
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

fn stored_manifest(store: &Store, record: ObjectRecord) -> Option<Manifest> {
    let ObjectRecord { public, signature, sealed, .. } = record;
    Manifest::open(ManifestBytes { public, signature, sealed }, &store.id()).ok()
}

/// Asks every place that the journal names, all at once.
async fn look_at(store: &Store, entry: &JournalEntry) -> Vec<Seen> {
    let looks = entry.shards.iter().map(async |(index, place)| {
        let shard = ShardId { object: entry.object, index: *index };
        let look = match store.registry().get(*place).filter(|registered| registered.is_ready()) {
            None => Look::Silent,
            Some(registered) => match registered.backend.head(shard).await {
                Ok(bytes) => Look::There(bytes),
                Err(error) if error.kind == BackendErrorKind::NotFound => Look::Absent,
                Err(_) => Look::Silent,
            },
        };
        (*index, *place, look)
    });
    future::join_all(looks).await
}

fn found_object(object: ObjectId, seen: &[Seen]) -> FoundObject {
    let found = |(index, backend, look): &Seen| match look {
        Look::There(bytes) => Some(FoundShard { index: *index, backend: *backend, bytes: *bytes }),
        _ => None,
    };
    FoundObject { object, shards: seen.iter().filter_map(found).collect() }
}

/// How many different shards have a place of which this is so.
fn distinct(seen: &[Seen], is_so: impl Fn(Look) -> bool) -> usize {
    seen.iter().filter(|(_, _, look)| is_so(*look)).map(|(index, ..)| *index).collect::<BTreeSet<_>>().len()
}

/// The lowest quorum that an object of this many shards can have: that of 1 of n.
fn least_quorum(total_shards: usize) -> usize {
    1 + total_shards.saturating_sub(1).div_ceil(2)
}

/// How many different shards have the right length on a backend that lasts.
fn whole_shards(store: &Store, manifest: &Manifest, found: &FoundObject) -> usize {
    let file_bytes = ShardFileLayout::of(manifest).file_bytes();
    let lasts = |shard: &&FoundShard| store.registry().get(shard.backend).is_some_and(|backend| !backend.volatile);
    let whole = found.shards.iter().filter(lasts).filter(|shard| shard.bytes == file_bytes);
    whole.map(|shard| shard.index).collect::<BTreeSet<_>>().len()
}

/// Whether an object makes anything visible: whole file versions, or a removal.
fn is_visible(index: &Index) -> bool {
    index.removal.is_some() || index.pieces.iter().any(|piece| piece.last.is_some())
}

/// Clears what an interrupted write left out of sight; what cannot be cleared is in nobody's way.
async fn clear_unfinished(store: &Store, object: ObjectId, seen: &[Seen]) {
    for (index, place, _) in seen.iter().filter(|(_, _, look)| *look == Look::Absent) {
        if let Some(registered) = store.registry().get(*place) {
            let _ = registered.backend.clear_unfinished(ShardId { object, index: *index }).await;
        }
    }
}

/// Deletes what is in these places and says how many bytes that were; where it is not possible now, a delete waits.
async fn take_back(store: &Store, object: ObjectId, seen: Vec<Seen>) -> Result<u64> {
    let clearing = seen.into_iter().map(async |(index, place, look)| {
        let registered = store.registry().get(place).filter(|_| look != Look::Silent);
        let cleared = match registered {
            Some(registered) => clear_place(registered.backend.as_ref(), ShardId { object, index }).await.ok(),
            None => None,
        };
        let finished = if let Look::There(bytes) = look { bytes } else { 0 };
        cleared.map(|unfinished| unfinished + finished).ok_or((index, place))
    });
    let (mut bytes, mut left) = (0, Vec::new());
    for outcome in future::join_all(clearing).await {
        match outcome {
            Ok(cleared) => bytes += cleared,
            Err(place) => left.push(place),
        }
    }
    store.catalog(move |catalog| catalog.end_journal_leaving(object, &left)).await?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Geometry;

    #[test]
    fn no_quorum_is_lower_than_the_least() {
        for total in 2..=255 {
            for data in 1..total {
                let geometry = Geometry::new(data, total).expect("geometry");
                assert!(geometry.write_quorum() >= least_quorum(total), "{geometry}");
            }
        }
    }
}
