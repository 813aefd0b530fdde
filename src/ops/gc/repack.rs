//! Objects that keep little for their size: what lives in them moves to a new object, and they go.
//!
//! The new object's id is less than the ids of those it replaces. Where two living objects hold a piece, every machine gives
//! the greater one up and never the lesser, so that two machines that pack anew at once cannot both give up their copy.

use super::GcReport;
use crate::catalog::{Catalog, ObjectState, SparseObject};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Index, Manifest, ManifestBytes, ObjectKind, Piece, Removal};
use crate::id::{Geometry, ObjectId};
use crate::ops::Controls;
use crate::ops::ingest::{Sources, is_unread};
use crate::ops::reader::ObjectReader;
use crate::ops::remove::{most_parity, removed_object, write_removal};
use crate::ops::writer::{
    Contents, ObjectOptions, ObjectWriter, StoredObject, WriteFailures, index_allowance, new_object_shape,
};
use crate::store::Store;
use crate::stripe::Check;
use crate::stripe::Seal;
use futures_util::TryStreamExt;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An object of which less than this share of the file bytes lives is packed anew.
const SPARSE_BELOW: f64 = 0.5;
/// What lives in several objects goes into one new object up to about this many bytes, as for small files that are put.
const PACK_BYTES: u64 = 256 * 1024 * 1024;
/// A new object takes at most this many pieces.
const PACK_PIECES: usize = 16_384;

/// What lived in objects that kept little.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepackedObject {
    /// The objects that it was in.
    pub from: Vec<ObjectId>,
    /// The object that it is in now; none in a dry run.
    pub to: Option<ObjectId>,
    /// How many pieces of files live.
    pub pieces: u64,
    /// Their bytes.
    pub live_bytes: u64,
    /// How many file bytes the objects had.
    pub file_bytes: u64,
    /// Whether the old objects are given up: not while the new one lacks a shard.
    pub replaced: bool,
}

/// A sparse object, and what of it lives.
struct Thin {
    sparse: SparseObject,
    reader: ObjectReader,
    live: Vec<Piece>,
    index_bytes: u64,
}

/// Thin objects of one geometry that become one.
#[derive(Default)]
struct Batch {
    thin: Vec<Thin>,
}

/// Packs anew what is worth it, and gives up objects that hold nothing.
pub(super) async fn run(store: &Store, sources: &Sources, report: &mut GcReport, controls: &Controls) -> Result<()> {
    let mut emptied = Vec::new();
    let mut batches: BTreeMap<(Geometry, Seal), Batch> = BTreeMap::new();
    for sparse in sparse_objects(store).await? {
        controls.check_cancelled()?;
        let Some(thin) = Thin::read(store, sources, sparse, controls).await? else {
            report.left_alone.push(sparse.object);
            continue;
        };
        report.bytes_read += thin.reader.bytes_read();
        if thin.live.is_empty() {
            emptied.push(sparse.object);
            continue;
        }
        let (geometry, seal) = (thin.reader.manifest().geometry(), seal_anew(thin.reader.manifest()));
        let batch = batches.entry((geometry, seal)).or_default();
        if !batch.takes(&thin, index_allowance(new_object_shape(geometry, seal)?)) {
            std::mem::take(batch).pack(store, report, controls).await?;
        }
        batches.entry((geometry, seal)).or_default().thin.push(thin);
    }
    for batch in batches.into_values() {
        batch.pack(store, report, controls).await?;
    }
    give_up(store, emptied.clone(), controls).await?;
    report.emptied = emptied;
    Ok(())
}

/// Says what would be packed anew.
pub(super) async fn plan(store: &Store, sources: &Sources, report: &mut GcReport, controls: &Controls) -> Result<()> {
    for sparse in sparse_objects(store).await? {
        controls.check_cancelled()?;
        match Thin::read(store, sources, sparse, controls).await? {
            None => report.left_alone.push(sparse.object),
            Some(thin) if thin.live.is_empty() => report.emptied.push(sparse.object),
            Some(thin) => report.repacked.push(describe(&[&thin], None)),
        }
    }
    Ok(())
}

async fn sparse_objects(store: &Store) -> Result<Vec<SparseObject>> {
    store.catalog(|catalog| catalog.sparse_objects(SPARSE_BELOW)).await
}

fn describe(thin: &[&Thin], to: Option<&StoredObject>) -> RepackedObject {
    RepackedObject {
        from: thin.iter().map(|thin| thin.sparse.object).collect(),
        to: to.map(|to| to.id),
        pieces: thin.iter().map(|thin| thin.live.len() as u64).sum(),
        live_bytes: thin.iter().flat_map(|thin| &thin.live).map(|piece| piece.bytes).sum(),
        file_bytes: thin.iter().map(|thin| thin.sparse.file_bytes).sum(),
        replaced: to.is_none_or(StoredObject::is_whole),
    }
}

impl Thin {
    /// Reads the object's own index and asks the catalog what of it lives. `None` when either cannot be said for sure.
    async fn read(store: &Store, sources: &Sources, sparse: SparseObject, controls: &Controls) -> Result<Option<Self>> {
        let (id, trusted) = (sparse.object, store.id());
        let found = store
            .catalog(move |catalog| {
                if is_unread(catalog, id)? {
                    return Ok(None);
                }
                Ok(catalog.object(id)?.zip(Some(catalog.shards(id)?)))
            })
            .await?;
        let Some((record, shards)) = found else { return Ok(None) };
        let bytes = ManifestBytes { public: record.public, signature: record.signature, sealed: record.sealed };
        let Ok(manifest) = Manifest::open(bytes, &trusted) else { return Ok(None) };
        let places = sources.places(shards.iter().map(|shard| (shard.index, shard.backend)));
        let reader = ObjectReader::with_keys(manifest, places, Arc::clone(store.access()));
        let index = match reader.index().await {
            Ok(index) => index,
            Err(error) => {
                controls.warn(format!("object {id} is left alone: {error}"));
                return Ok(None);
            }
        };
        let live = store.catalog(move |catalog| live_pieces(catalog, id, index.pieces)).await?;
        let json_bytes = |piece: &Piece| serde_json::to_vec(piece).map_or(0, |json| json.len() as u64 + 1);
        Ok(live.map(|live| Self { sparse, reader, index_bytes: live.iter().map(json_bytes).sum(), live }))
    }

    fn live_bytes(&self) -> u64 {
        self.live.iter().map(|piece| piece.bytes).sum()
    }
}

/// The pieces that are needed where they are; `None` when the catalog does not know a version, or one is not complete.
fn live_pieces(catalog: &Catalog, object: ObjectId, pieces: Vec<Piece>) -> crate::catalog::Result<Option<Vec<Piece>>> {
    let mut live = Vec::new();
    for piece in pieces {
        let Some(version) = catalog.version(piece.version)? else { return Ok(None) };
        if version.removed {
            continue;
        }
        if !version.complete {
            return Ok(None);
        }
        if !is_held_by_lesser(catalog, object, &piece)? {
            live.push(piece);
        }
    }
    live.sort_by_key(|piece| piece.offset);
    Ok(Some(live))
}

/// Whether a healthy object with a lesser id has the piece too: then this copy is the one that is given up.
fn is_held_by_lesser(catalog: &Catalog, object: ObjectId, piece: &Piece) -> crate::catalog::Result<bool> {
    let chosen = catalog.pieces(piece.version)?.into_iter().find(|other| other.ordinal == piece.ordinal);
    let Some(chosen) = chosen.filter(|chosen| chosen.object < object) else { return Ok(false) };
    Ok(catalog.health(chosen.object)?.is_some_and(|health| health.state == ObjectState::Healthy))
}

impl Batch {
    fn takes(&self, thin: &Thin, index_limit: u64) -> bool {
        let all = || self.thin.iter().chain([thin]);
        let bytes: u64 = all().map(Thin::live_bytes).sum();
        let pieces: usize = all().map(|thin| thin.live.len()).sum();
        let index_bytes: u64 = all().map(|thin| thin.index_bytes).sum();
        self.thin.is_empty() || (bytes <= PACK_BYTES && pieces <= PACK_PIECES && index_bytes <= index_limit / 2)
    }

    /// Writes the new object, and gives up the old ones once it is whole.
    async fn pack(mut self, store: &Store, report: &mut GcReport, controls: &Controls) -> Result<()> {
        while !self.thin.is_empty() {
            match self.write(store, controls).await? {
                Written::Stored(stored) => {
                    let described = describe(&self.thin.iter().collect::<Vec<_>>(), Some(&stored));
                    report.bytes_written += stored.bytes_written();
                    if described.replaced {
                        give_up(store, described.from.clone(), controls).await?;
                    }
                    report.repacked.push(described);
                    return Ok(());
                }
                Written::Unreadable(position, error) => {
                    let thin = self.thin.remove(position);
                    controls.warn(format!("object {} is left alone: {error}", thin.sparse.object));
                    report.left_alone.push(thin.sparse.object);
                }
            }
        }
        Ok(())
    }

    async fn write(&self, store: &Store, controls: &Controls) -> Result<Written> {
        let ids = self.thin.iter().map(|thin| thin.sparse.object);
        let id = id_below(ids.min().unwrap_or(ObjectId([0xff; 16])), store.random_bytes()?)?;
        let manifest = self.thin.first().map(|thin| thin.reader.manifest());
        let options = ObjectOptions {
            kind: ObjectKind::Data,
            geometry: manifest.map_or_else(|| store.config().default_level.geometry(), Manifest::geometry),
            seal: manifest.map_or(store.config().seal, seal_anew),
            recipient: None,
            check: Check::Parity,
            file: None,
            failures: WriteFailures::default(),
            controls: controls.clone(),
        };
        let mut writer = ObjectWriter::begin_as(store, options, id).await?;
        let mut pieces = Vec::new();
        for (position, thin) in self.thin.iter().enumerate() {
            match copy(thin, &mut writer).await {
                Ok(copied) => pieces.extend(copied),
                Err(error) if matches!(error.kind, ErrorKind::Lost | ErrorKind::Unavailable | ErrorKind::Damaged) => {
                    writer.abandon().await?;
                    return Ok(Written::Unreadable(position, error));
                }
                Err(error) => return Err(writer.abandon_for(error).await),
            }
        }
        let index = Index { pieces, removal: None };
        writer.finish(Contents { index, piece_hashes: Vec::new() }).await.map(Written::Stored)
    }
}

enum Written {
    Stored(StoredObject),
    /// One of the old objects could not be read to its end.
    Unreadable(usize, Error),
}

/// Copies what lives, verified block by block; gives the pieces as they are in the new object.
async fn copy(thin: &Thin, writer: &mut ObjectWriter<'_>) -> Result<Vec<Piece>> {
    let mut copied = Vec::with_capacity(thin.live.len());
    for piece in &thin.live {
        let offset = writer.payload_bytes();
        let mut bytes = thin.reader.payload(piece.offset..piece.offset + piece.bytes);
        while let Some(part) = bytes.try_next().await? {
            writer.append(&part).await?;
        }
        copied.push(Piece { offset, ..piece.clone() });
    }
    Ok(copied)
}

/// A random id that is less than `bound`.
fn id_below(bound: ObjectId, random: [u8; 16]) -> Result<ObjectId> {
    let bound_number = u128::from_be_bytes(bound.0);
    match u128::from_be_bytes(random).checked_rem(bound_number) {
        Some(number) => Ok(ObjectId(number.to_be_bytes())),
        None => Err(Error::new(ErrorKind::Damaged, format!("object {bound} has the least id there is"))),
    }
}

/// Removes objects that hold nothing any more; their shards wait for deletion then.
async fn give_up(store: &Store, objects: Vec<ObjectId>, controls: &Controls) -> Result<()> {
    if objects.is_empty() {
        return Ok(());
    }
    let (removal, geometry) = store
        .catalog(move |catalog| {
            let (mut removal, mut geometry) = (Removal::default(), None);
            for object in objects {
                geometry = most_parity(geometry, catalog.object(object)?.map(|record| record.geometry));
                removal.objects.push(removed_object(catalog, object)?);
            }
            Ok((removal, geometry))
        })
        .await?;
    let geometry = geometry.unwrap_or_else(|| store.config().default_level.geometry());
    write_removal(store, removal, geometry, controls).await.map(drop)
}

/// How what was packed is sealed: as it was, but what was sealed to the public half of the key now under the key itself,
/// which whoever packs it has.
fn seal_anew(manifest: &Manifest) -> Seal {
    match manifest.seal() {
        Seal::Recipient => Seal::Key,
        seal => seal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_id_is_always_less_than_the_ones_it_replaces() {
        for bound in [1_u128, 2, 1 << 64, u128::MAX] {
            for random in [0, 1, 7 << 90, u128::MAX] {
                let bound = ObjectId(bound.to_be_bytes());
                assert!(id_below(bound, random.to_be_bytes()).expect("an id") < bound);
            }
        }
        assert!(id_below(ObjectId([0; 16]), [1; 16]).is_err());
    }
}
