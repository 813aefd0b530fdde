//! Clears up after processes that died: what they left half-written goes, what they had finished is taken in.
//!
//! *What it is.* [`clear`], run at the start of whatever writes: for each journal entry of a dead process, the places that
//! it names are looked at, and the entry is ended.
//!
//! *What it knows.* Journals, places, and which objects are whole.
//!
//! *What it does not know.* What the dead process was asked to do.
//!
//! *Invariants.* The entry of a living process is never touched. A shard that the catalog records is never deleted, nor
//! one of an object that the catalog does not know. A new object is deleted only where too few of its shards are found
//! anywhere to read it; while unreachable places could make up the difference, its entry waits. What is whole is taken
//! in, shown or not: a piece without an end stays invisible until its put goes on.
//!
//! An entry is believed only if its process died on this machine, and nobody has cleared up after it since: then the file
//! that it locked is still there ([`Store::process_died_here`]), for it goes with the last entry that names the process.
//! Otherwise the catalog is an older copy, or another machine's, and the process may have finished long ago or be at work
//! elsewhere: nothing is deleted for such an entry. What is whole is taken in, the rest is left to `catalog refresh`, which
//! tells of it.

mod copy;
mod look;

use super::Controls;
use super::ingest::{FoundObject, FoundShard, Sources, ingest, ingest_with, read_object};
use super::mend::{MendError, Target, WriteMode, rebuild_shards};
use super::reader::{ObjectReader, ReadError};
use super::writer::{clear_begun, clear_place};
use crate::catalog::{JournalEntry, Purpose};
use crate::error::{ErrorKind, Result};
use crate::format::Manifest;
use crate::id::{Digest, ObjectId, ShardId, VersionId};
use crate::store::Store;
use futures_util::{TryStreamExt, future};
use look::{Look, Seen, distinct, found_object, look_at, look_elsewhere, whole_shards};
use std::collections::BTreeMap;
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
    /// Objects that are left as they are: what the journal says of them may be long over.
    pub left: Vec<ObjectId>,
}

/// How far an entry is to be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Belief {
    /// Its process died here, and nobody has cleared up after it.
    Certain,
    /// The catalog may have been brought here, or back: nothing is deleted for it.
    Doubtful,
}

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
        let belief = if store.process_died_here(entry.process) { Belief::Certain } else { Belief::Doubtful };
        let end = match entry.purpose {
            Purpose::Put => end_put(store, entry, belief).await?,
            Purpose::Repair | Purpose::Move => copy::end_copy(store, entry, belief).await?,
        };
        match end {
            End::TakenIn => report.taken_in.push(object),
            End::TakenBack { bytes } => {
                report.taken_back.push(object);
                report.bytes_freed += bytes;
            }
            End::Waiting => report.waiting.push(object),
            End::Left => report.left.push(object),
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
    Left,
}

async fn stale_entries(store: &Store) -> Result<Vec<JournalEntry>> {
    let entries = store.look(|catalog| catalog.journals()).await?;
    Ok(entries.into_iter().filter(|entry| !store.process_is_alive(entry.process)).collect())
}

/// A new object: taken in if enough of it is whole, taken back if too little of it can be.
async fn end_put(store: &Store, entry: JournalEntry, belief: Belief) -> Result<End> {
    let object = entry.object;
    let seen = look_at(store, &entry).await;
    if store.look(move |catalog| catalog.object_is_live(object)).await? {
        return end_known(store, object, &seen, belief).await;
    }
    let silent = distinct(&seen, |look| look == Look::Silent);
    let mut found = found_object(object, &seen);
    let planned = distinct(&seen, |_| true);
    let mut judgement = judge(store, &found, planned).await;
    if !judgement.is_durable() && (silent > 0 || !found.shards.is_empty()) {
        // An older copy of the catalog does not know where shards were moved since.
        let more = look_elsewhere(store, &entry).await;
        if !more.is_empty() {
            found.shards.extend(more);
            found.shards.sort_unstable();
            judgement = judge(store, &found, planned).await;
        }
    }
    match (judgement, belief) {
        (Judgement::Readable { manifest, .. }, Belief::Certain) => take_in(store, *manifest, found, &seen).await,
        (judgement, Belief::Doubtful) => {
            if judgement.is_durable() {
                ingest(store, &found).await?;
            }
            end_entry(store, object, if judgement.is_durable() { End::TakenIn } else { End::Left }).await
        }
        (Judgement::Unclear, _) => Ok(End::Waiting),
        (Judgement::Short { whole, needed }, _) if silent > 0 && whole + silent >= needed => Ok(End::Waiting),
        (Judgement::Nothing, _) if silent > 0 && silent >= least_quorum(planned) => Ok(End::Waiting),
        (Judgement::Short { .. } | Judgement::Nothing, _) => {
            Ok(End::TakenBack { bytes: take_back(store, object, seen).await? })
        }
    }
}

/// What is to be thought of a new object by what was found of it.
enum Judgement {
    /// So much of it is whole that it can be read.
    Readable { manifest: Box<Manifest>, whole: usize },
    /// It might be, but that cannot be told now.
    Unclear,
    /// Too little of it is whole.
    Short { whole: usize, needed: usize },
    /// There is no shard of it, or only such as say nothing, and too few to have counted.
    Nothing,
}

impl Judgement {
    fn is_durable(&self) -> bool {
        matches!(self, Self::Readable { manifest, whole } if *whole >= manifest.geometry().write_quorum())
    }
}

async fn judge(store: &Store, found: &FoundObject, planned: usize) -> Judgement {
    if found.shards.is_empty() {
        return Judgement::Nothing;
    }
    let read = match read_object(&Sources::of(store), store.access(), found).await {
        Ok(read) => read,
        // What is finished has a manifest: where there could be enough and none opens, nobody can say what it is.
        Err(error) if is_passing(&error) || found.index_count() >= least_quorum(planned) => return Judgement::Unclear,
        Err(_) => return Judgement::Nothing,
    };
    let (whole, needed) = (whole_shards(store, &read.manifest, found), read.manifest.geometry().data_shards());
    match &read.index {
        _ if whole < needed => Judgement::Short { whole, needed },
        Err(error) if is_passing(error) => Judgement::Unclear,
        _ => Judgement::Readable { manifest: Box::new(read.manifest), whole },
    }
}

/// Whether trying again another time may give another answer.
fn is_passing(error: &ReadError) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Backend)
}

async fn end_entry(store: &Store, object: ObjectId, end: End) -> Result<End> {
    store.catalog(move |catalog| catalog.end_journal(object)).await?;
    Ok(end)
}

/// Someone took it in meanwhile; a refresh does.
async fn end_known(store: &Store, object: ObjectId, seen: &[Seen], belief: Belief) -> Result<End> {
    match belief {
        Belief::Certain => {
            clear_unfinished(store, object, seen).await;
            leave_silent(store, object, seen).await?;
            Ok(End::TakenIn)
        }
        Belief::Doubtful => end_entry(store, object, End::TakenIn).await,
    }
}

/// Commits a new object, after what was not finished of it is made again in the places that were meant for it: the old
/// entry names them still. One that stays below its quorum waits.
async fn take_in(store: &Store, manifest: Manifest, mut found: FoundObject, seen: &[Seen]) -> Result<End> {
    let object = found.object;
    clear_unfinished(store, object, seen).await;
    let finished = finish_shards(store, manifest.clone(), &found, seen).await;
    found.shards.extend(finished);
    found.shards.sort_unstable();
    if whole_shards(store, &manifest, &found) < manifest.geometry().write_quorum() {
        return Ok(End::Waiting);
    }
    let hashes = hash_unended(store, &manifest, &found).await;
    ingest_with(store, &found, hashes).await?;
    leave_silent(store, object, seen).await?;
    Ok(End::TakenIn)
}

/// Hashes the pieces without an end: their put goes on after them only where it can compare. One that cannot be read now
/// has no hash, and its put begins anew.
async fn hash_unended(store: &Store, manifest: &Manifest, found: &FoundObject) -> Vec<(VersionId, u32, Digest)> {
    let places = Sources::of(store).places(found.shards.iter().map(|shard| (shard.index, shard.backend)));
    let reader = ObjectReader::with_keys(manifest.clone(), places, Arc::clone(store.access()));
    let Ok(index) = reader.index().await else { return Vec::new() };
    let mut hashes = Vec::new();
    for piece in index.pieces.iter().filter(|piece| piece.last.is_none()) {
        let mut hasher = blake3::Hasher::new();
        let hashed = reader.payload(piece.offset..piece.offset + piece.bytes).try_for_each(|part| {
            hasher.update(&part);
            future::ready(Ok(()))
        });
        if hashed.await.is_ok() {
            hashes.push((piece.version, piece.ordinal, Digest(hasher.finalize().into())));
        }
    }
    hashes
}

/// Ends the entry. What is in places that do not answer counted for nothing: it is to be deleted.
async fn leave_silent(store: &Store, object: ObjectId, seen: &[Seen]) -> Result<()> {
    let silent = seen.iter().filter(|(_, _, look)| *look == Look::Silent);
    let left: Vec<_> = silent.map(|(index, place, _)| (*index, *place)).collect();
    store.catalog(move |catalog| catalog.end_journal_leaving(object, &left)).await
}

/// Makes the shards that are nowhere, where they were meant to be; one that cannot be made is left to a repair.
async fn finish_shards(store: &Store, manifest: Manifest, found: &FoundObject, seen: &[Seen]) -> Vec<FoundShard> {
    let is_found = |index: u8| found.shards.iter().any(|shard| shard.index == index);
    let absent = seen.iter().filter(|(index, _, look)| *look == Look::Absent && !is_found(*index));
    let target = |(index, place, _): &Seen| {
        let registered = store.registry().get(*place).filter(|registered| registered.is_eligible())?;
        let backend = Arc::clone(&registered.backend);
        Some((*index, Target { index: *index, place: *place, backend, mode: WriteMode::Create }))
    };
    // A shard that was to be made again elsewhere has two places in the journal; one is enough.
    let targets: BTreeMap<u8, Target> = absent.filter_map(target).collect();
    let targets: Vec<Target> = targets.into_values().collect();
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

/// The lowest quorum that an object of this many shards can have: that of 1 of n.
fn least_quorum(total_shards: usize) -> usize {
    1 + total_shards.saturating_sub(1).div_ceil(2)
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
        let Some(registered) = store.registry().get(place) else { return Ok(0) };
        let cleared = match Some(registered).filter(|_| look != Look::Silent) {
            // What appears there from now on is another machine's.
            Some(registered) if look == Look::Absent => {
                clear_begun(registered.backend.as_ref(), ShardId { object, index }).await.ok()
            }
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
