//! Going on with a large file whose put was interrupted, and taking back pieces that will never be a file.

use super::large::version_lease;
use super::reading::Reading;
use super::session::Session;
use crate::catalog::{self, Catalog, ObjectRecord, ObjectState, PieceRecord};
use crate::error::{ErrorKind, Result};
use crate::format::FileName;
use crate::id::{Digest, Geometry, ObjectId, ProcessId, ShardId, StoreId, VersionId};
use crate::ops::writer::clear_place;
use crate::store::{Lease, Store};
use crate::stripe::Seal;

/// A version of which the first pieces are stored, and the source was found to begin with them.
pub(super) struct Progress {
    pub(super) version: VersionId,
    pub(super) objects: Vec<ObjectId>,
    /// Nobody else goes on with it.
    pub(super) lease: Lease,
}

/// What is put now: what is gone on with is of the same kind.
#[derive(Clone)]
struct Asked {
    name: FileName,
    geometry: Geometry,
    seal: Seal,
    recipient: Option<Digest>,
    store: StoreId,
}

impl Asked {
    fn is_like(&self, object: &ObjectRecord) -> bool {
        let opens_for = |key_id| object.manifest(&self.store).is_ok_and(|manifest| manifest.key_id() == key_id);
        object.geometry == self.geometry && object.seal == self.seal.code() && self.recipient.is_none_or(opens_for)
    }
}

/// Pieces that were stored by a put that did not come to its end.
struct Unfinished {
    version: VersionId,
    pieces: Vec<PieceRecord>,
    holder: Option<ProcessId>,
}

/// Reads and hashes the beginning of a file against the pieces of an earlier put, and goes on behind them if all are the
/// same; else the file is at its beginning again.
pub(super) async fn go_on(session: &Session<'_>, name: &FileName, reading: &mut Reading) -> Result<Option<Progress>> {
    let Some(seen) = reading.seen() else { return Ok(None) };
    let store = session.store;
    let asked = Asked {
        name: name.clone(),
        geometry: session.shape.geometry(),
        seal: session.seal,
        recipient: session.recipient.as_ref().map(|recipient| recipient.key_id()),
        store: store.id(),
    };
    let again = asked.clone();
    let found = store.look(move |catalog| unfinished(catalog, &asked)).await?;
    for candidate in found {
        let stored: u64 = candidate.pieces.iter().map(|piece| piece.bytes).sum();
        let is_taken = candidate.holder.is_some_and(|process| store.process_is_alive(process));
        if is_taken || stored > seen.bytes {
            continue;
        }
        let lease = match store.lease(&version_lease(candidate.version)).await {
            Ok(lease) => lease,
            // Someone else was quicker.
            Err(error) if error.kind == ErrorKind::Busy => continue,
            Err(error) => return Err(error),
        };
        // Whoever had the lease before may have removed it, or gone on with it.
        let asked = again.clone();
        let still = store.look(move |catalog| unfinished(catalog, &asked)).await?;
        if !still.iter().any(|still| still.version == candidate.version && still.pieces == candidate.pieces) {
            continue;
        }
        session.controls.begin("reading what is stored already", Some(stored), None);
        let same = begins_with(session, reading, &candidate.pieces).await;
        session.controls.end();
        if same? {
            let objects = candidate.pieces.iter().map(|piece| piece.object).collect();
            return Ok(Some(Progress { version: candidate.version, objects, lease }));
        }
        reading.rewind().await?;
    }
    Ok(None)
}

/// The versions of a name that can be gone on with: their first pieces are all there and their hashes known.
fn unfinished(catalog: &Catalog, asked: &Asked) -> catalog::Result<Vec<Unfinished>> {
    let mut found = Vec::new();
    for version in catalog.unfinished_of(&asked.name)? {
        let pieces = catalog.pieces(version.id)?;
        let in_order = (0..).zip(&pieces).all(|(ordinal, piece)| piece.ordinal == ordinal && piece.blake3.is_some());
        let usable = version.whole.is_none() && in_order && !pieces.is_empty();
        if usable && are_as_asked(catalog, &pieces, asked)? {
            let holder = catalog.lease_holder(&version_lease(version.id))?;
            found.push(Unfinished { version: version.id, pieces, holder });
        }
    }
    found.sort_by_key(|version| std::cmp::Reverse(version.pieces.len()));
    Ok(found)
}

fn are_as_asked(catalog: &Catalog, pieces: &[PieceRecord], asked: &Asked) -> catalog::Result<bool> {
    for piece in pieces {
        let is_sound = catalog.health(piece.object)?.is_some_and(|health| health.state <= ObjectState::Degraded);
        let is_like_it = catalog.object(piece.object)?.is_some_and(|object| asked.is_like(&object));
        if !is_sound || !is_like_it {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn begins_with(session: &Session<'_>, reading: &mut Reading, pieces: &[PieceRecord]) -> Result<bool> {
    for piece in pieces {
        reading.begin_piece();
        let mut left = piece.bytes;
        while left > 0 {
            session.controls.check_cancelled()?;
            let passed = reading.pass_over(left).await?;
            session.controls.bytes(passed);
            if passed == 0 {
                return Ok(false);
            }
            left -= passed;
        }
        if reading.piece_hash() != piece.blake3 {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes objects that hold pieces of a version that will never be whole. What cannot be deleted now waits.
pub(in crate::ops) async fn take_back(store: &Store, objects: &[ObjectId]) -> Result<()> {
    for object in objects.iter().copied() {
        let discard = move |catalog: &mut Catalog| {
            let shards = catalog.shards(object)?;
            shards.iter().try_for_each(|shard| catalog.discard_shard(object, shard.index, shard.backend))?;
            Ok(shards)
        };
        for shard in store.catalog(discard).await? {
            let (index, place) = (shard.index, shard.backend);
            let Some(registered) = store.registry().get(place) else { continue };
            if clear_place(registered.backend.as_ref(), ShardId { object, index }).await.is_ok() {
                store.catalog(move |catalog| catalog.confirm_deleted(object, index, place)).await?;
            }
        }
        store.catalog(move |catalog| catalog.forget_object(object)).await?;
    }
    Ok(())
}
