//! Objects that keep little for their size: what lives in them moves to a new object, and they go.
//!
//! The new object's id is less than the ids of those it replaces. Where two living objects hold a piece, every machine gives
//! the greater one up and never the lesser, so that two machines that pack anew at once cannot both give up their copy. And
//! no copy is given up because of another one that this run has neither written nor read in full: what was last seen of an
//! object may be long ago.

use super::GcReport;
use crate::catalog::{Catalog, ObjectState, SparseObject};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{Index, Manifest, ObjectKind, Piece, Removal};
use crate::id::{Geometry, ObjectId};
use crate::ops::Controls;
use crate::ops::examine::Depth;
use crate::ops::ingest::{Sources, is_unread};
use crate::ops::reader::ObjectReader;
use crate::ops::remove::{most_parity, removed_object, write_removal};
use crate::ops::verify::verify_object;
use crate::ops::writer::{Contents, ObjectOptions, ObjectWriter, StoredObject, index_allowance, new_object_shape};
use crate::store::Store;
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
/// So many bits of an id say which of two copies is given up, and go down by one with each packing; the others are random.
/// Of a million objects the least still has hundreds of millions of packings before it.
const ORDER_BITS: u32 = 48;

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

/// A piece that lives, and where else it is said to be.
struct Claim {
    piece: Piece,
    /// Objects with lesser ids that have it too and were healthy when they were last seen.
    holders: Vec<ObjectId>,
}

/// One run over the thin objects.
struct Packing<'a> {
    store: &'a Store,
    sources: &'a Sources,
    report: &'a mut GcReport,
    controls: &'a Controls,
    /// What this run knows by having written or read all of it.
    whole: BTreeMap<ObjectId, bool>,
}

/// Thin objects of one geometry that become one.
#[derive(Default)]
struct Batch {
    thin: Vec<Thin>,
}

/// Packs anew what is worth it, and gives up objects that hold nothing.
pub(super) async fn run(store: &Store, sources: &Sources, report: &mut GcReport, controls: &Controls) -> Result<()> {
    let mut packing = Packing { store, sources, report, controls, whole: BTreeMap::new() };
    let mut emptied = Vec::new();
    let mut batches: BTreeMap<(Geometry, Seal), Batch> = BTreeMap::new();
    for sparse in sparse_objects(store).await? {
        let Some(thin) = packing.read(sparse).await? else { continue };
        if thin.live.is_empty() {
            emptied.push(sparse.object);
            continue;
        }
        let (geometry, seal) = (thin.reader.manifest().geometry(), seal_anew(thin.reader.manifest()));
        let batch = batches.entry((geometry, seal)).or_default();
        if !batch.load().takes(thin.load(), index_allowance(new_object_shape(geometry, seal)?)) {
            packing.pack(std::mem::take(batch)).await?;
        }
        batches.entry((geometry, seal)).or_default().thin.push(thin);
    }
    for batch in batches.into_values() {
        packing.pack(batch).await?;
    }
    give_up(store, emptied.clone(), controls).await?;
    report.emptied = emptied;
    Ok(())
}

/// Says what would be packed anew.
pub(super) async fn plan(store: &Store, sources: &Sources, report: &mut GcReport, controls: &Controls) -> Result<()> {
    let mut packing = Packing { store, sources, report, controls, whole: BTreeMap::new() };
    for sparse in sparse_objects(store).await? {
        match packing.read(sparse).await? {
            None => {}
            Some(thin) if thin.live.is_empty() => packing.report.emptied.push(sparse.object),
            Some(thin) => packing.report.repacked.push(describe(&[&thin], None)),
        }
    }
    Ok(())
}

async fn sparse_objects(store: &Store) -> Result<Vec<SparseObject>> {
    store.look(|catalog| catalog.sparse_objects(SPARSE_BELOW)).await
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

impl Packing<'_> {
    /// Reads a sparse object's own index, and finds out what of it lives. `None` when that cannot be said for sure, or is
    /// more than it seemed.
    async fn read(&mut self, sparse: SparseObject) -> Result<Option<Thin>> {
        self.controls.check_cancelled()?;
        let Some((reader, pieces)) = self.open(sparse.object).await? else {
            self.report.left_alone.push(sparse.object);
            return Ok(None);
        };
        self.report.bytes_read += reader.bytes_read();
        let id = sparse.object;
        let Some(claims) = self.store.look(move |catalog| claims(catalog, id, pieces)).await? else {
            self.report.left_alone.push(id);
            return Ok(None);
        };
        let mut live = Vec::new();
        for claim in claims {
            if !self.is_held(&claim.holders).await? {
                live.push(claim.piece);
            }
        }
        live.sort_by_key(|piece| piece.offset);
        let json_bytes = |piece: &Piece| serde_json::to_vec(piece).map_or(0, |json| json.len() as u64);
        let thin = Thin { sparse, reader, index_bytes: live.iter().map(json_bytes).sum(), live };
        Ok(thin.is_worth_packing().then_some(thin))
    }

    async fn open(&self, id: ObjectId) -> Result<Option<(ObjectReader, Vec<Piece>)>> {
        let trusted = self.store.id();
        let found = self
            .store
            .look(move |catalog| {
                if is_unread(catalog, id)? {
                    return Ok(None);
                }
                Ok(catalog.object(id)?.zip(Some(catalog.shards(id)?)))
            })
            .await?;
        let Some((record, shards)) = found else { return Ok(None) };
        let Ok(manifest) = record.manifest(&trusted) else { return Ok(None) };
        let places = self.sources.places(shards.iter().map(|shard| (shard.index, shard.backend)));
        let reader = ObjectReader::with_keys(manifest, places, Arc::clone(self.store.access()));
        match reader.index().await {
            Ok(index) => Ok(Some((reader, index.pieces))),
            Err(error) => {
                self.controls.warn(format!("object {id} is left alone: {error}"));
                Ok(None)
            }
        }
    }

    async fn is_held(&mut self, holders: &[ObjectId]) -> Result<bool> {
        for holder in holders {
            if self.is_whole(*holder).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether an object is whole, by every byte of it: what this run wrote was checked then.
    async fn is_whole(&mut self, object: ObjectId) -> Result<bool> {
        if let Some(is_whole) = self.whole.get(&object) {
            return Ok(*is_whole);
        }
        let examination = verify_object(self.store, object, Depth::Full, self.controls).await?;
        let is_whole = examination.as_ref().is_some_and(|seen| seen.state == ObjectState::Healthy);
        self.report.bytes_read += examination.map_or(0, |seen| seen.bytes_read);
        self.whole.insert(object, is_whole);
        Ok(is_whole)
    }

    /// Writes the new object, and gives up the old ones once it is whole.
    async fn pack(&mut self, mut batch: Batch) -> Result<()> {
        while !batch.thin.is_empty() {
            match batch.write(self.store, self.controls).await? {
                Written::Stored(stored) => {
                    let described = describe(&batch.thin.iter().collect::<Vec<_>>(), Some(&stored));
                    self.report.bytes_written += stored.bytes_written();
                    self.whole.insert(stored.id, described.replaced);
                    if described.replaced {
                        give_up(self.store, described.from.clone(), self.controls).await?;
                    }
                    self.report.repacked.push(described);
                    return Ok(());
                }
                Written::LeftOut(position, error) => {
                    let thin = batch.thin.remove(position);
                    self.controls.warn(format!("object {} is left alone: {error}", thin.sparse.object));
                    self.report.left_alone.push(thin.sparse.object);
                }
            }
        }
        Ok(())
    }
}

impl Thin {
    fn live_bytes(&self) -> u64 {
        self.live.iter().map(|piece| piece.bytes).sum()
    }

    fn load(&self) -> Load {
        Load { bytes: self.live_bytes(), pieces: self.live.len(), index_bytes: self.index_bytes }
    }

    /// A copy elsewhere that was thought to be whole and is not makes an object as full as it ever was.
    fn is_worth_packing(&self) -> bool {
        self.live.is_empty() || (self.live_bytes() as f64) < SPARSE_BELOW * self.sparse.file_bytes as f64
    }
}

/// The pieces of versions that are not removed; `None` when the catalog does not know a version, or one is not complete.
fn claims(catalog: &Catalog, object: ObjectId, pieces: Vec<Piece>) -> crate::catalog::Result<Option<Vec<Claim>>> {
    let mut claims = Vec::new();
    for piece in pieces {
        let Some(version) = catalog.version(piece.version)? else { return Ok(None) };
        if version.removed {
            continue;
        }
        if !version.complete {
            return Ok(None);
        }
        let mut holders = Vec::new();
        for copy in catalog.piece_copies(piece.version)? {
            let is_lesser = copy.ordinal == piece.ordinal && copy.object < object;
            if is_lesser && catalog.health(copy.object)?.is_some_and(|health| health.state == ObjectState::Healthy) {
                holders.push(copy.object);
            }
        }
        claims.push(Claim { piece, holders });
    }
    Ok(Some(claims))
}

/// What a new object would hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Load {
    bytes: u64,
    pieces: usize,
    index_bytes: u64,
}

impl Load {
    fn and(self, more: Self) -> Self {
        Self {
            bytes: self.bytes + more.bytes,
            pieces: self.pieces + more.pieces,
            index_bytes: self.index_bytes + more.index_bytes,
        }
    }

    /// Whether more goes into the same object. Where there is nothing yet it does: it came out of one.
    fn takes(self, more: Self, index_limit: u64) -> bool {
        self == Self::default() || self.and(more).fits(index_limit)
    }

    /// Whether that goes into one object whose index may have so many bytes: half of them are kept free, as offsets may take
    /// more digits there.
    fn fits(self, index_limit: u64) -> bool {
        self.bytes <= PACK_BYTES && self.pieces <= PACK_PIECES && self.index_bytes <= index_limit / 2
    }
}

impl Batch {
    fn load(&self) -> Load {
        self.thin.iter().map(Thin::load).fold(Load::default(), Load::and)
    }

    async fn write(&self, store: &Store, controls: &Controls) -> Result<Written> {
        let ids = (0..).zip(&self.thin).map(|(position, thin)| (thin.sparse.object, position));
        let (least, position) = ids.min().unwrap_or((ObjectId([0xff; 16]), 0));
        let Some(id) = id_before(least, store.random_bytes()?) else {
            let doing = "its id leaves none for the object that would replace it";
            return Ok(Written::LeftOut(position, Error::new(ErrorKind::Refused, doing)));
        };
        let manifest = self.thin.first().map(|thin| thin.reader.manifest());
        let geometry = manifest.map_or_else(|| store.config().default_level.geometry(), Manifest::geometry);
        let seal = manifest.map_or(store.config().seal, seal_anew);
        let options =
            ObjectOptions { controls: controls.clone(), ..ObjectOptions::new(ObjectKind::Data, geometry, seal) };
        let mut writer = match ObjectWriter::begin_as(store, options, id).await {
            Err(error) if error.kind == ErrorKind::Refused => return Ok(Written::LeftOut(0, error)),
            begun => begun?,
        };
        let mut pieces = Vec::new();
        for (position, thin) in self.thin.iter().enumerate() {
            match copy(thin, &mut writer).await {
                Ok(copied) => pieces.extend(copied),
                Err(error) if matches!(error.kind, ErrorKind::Lost | ErrorKind::Unavailable | ErrorKind::Damaged) => {
                    writer.abandon().await?;
                    return Ok(Written::LeftOut(position, error));
                }
                Err(error) => return Err(writer.abandon_for(error).await),
            }
        }
        let index = Index { pieces, ..Index::default() };
        writer.finish(Contents { index, piece_hashes: Vec::new() }).await.map(Written::Stored)
    }
}

enum Written {
    Stored(StoredObject),
    /// One of the old objects cannot be packed: it could not be read to its end, for one.
    LeftOut(usize, Error),
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

/// The id of an object that takes the place of this one: next before it in the order, and random in it. `None` when it is
/// the first.
fn id_before(replaced: ObjectId, random: [u8; ObjectId::BYTES]) -> Option<ObjectId> {
    let random_bits = u128::BITS - ORDER_BITS;
    // Before all that writers give: what packs anew signs for the owner.
    let replaced = replaced.min(ObjectId::FIRST_OF_WRITERS);
    let order = (u128::from_be_bytes(replaced.0) >> random_bits).checked_sub(1)?;
    let tail = u128::from_be_bytes(random) & ((1 << random_bits) - 1);
    Some(ObjectId((order << random_bits | tail).to_be_bytes()).or_no_probe())
}

/// Removes objects that hold nothing any more; their shards wait for deletion then.
async fn give_up(store: &Store, objects: Vec<ObjectId>, controls: &Controls) -> Result<()> {
    if objects.is_empty() {
        return Ok(());
    }
    let (removal, geometry) = store
        .look(move |catalog| {
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
    use crate::format::FileName;
    use crate::id::VersionId;
    use crate::ops::mend::sample::SampleObject;

    #[test]
    fn ids_go_down_for_as_long_as_anyone_packs_and_no_two_are_alike() {
        let mut ids = vec![ObjectId([0, 0, 0, 1, 0, 0, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7])];
        for generation in 0..10_000_u32 {
            let random = *blake3::hash(&generation.to_le_bytes()).as_bytes().first_chunk().expect("16 of 32");
            let (last, twin) = (ids[ids.len() - 1], [!random[0]; 16]);
            let next = id_before(last, random).expect("an id");
            assert!(next < last, "{generation}");
            assert_ne!(Some(next), id_before(last, twin), "two machines that pack at once draw two ids");
            ids.push(next);
        }
        assert_eq!(id_before(ObjectId([0, 0, 0, 0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9]), [1; 16]), None);
    }

    #[test]
    fn what_goes_into_one_new_object_is_bounded_in_bytes_pieces_and_index() {
        let most = Load { bytes: PACK_BYTES, pieces: PACK_PIECES, index_bytes: 500 };
        assert!(most.fits(1000) && most.fits(1001));
        assert!(!most.fits(999), "half of the index is kept free");
        assert!(!Load { bytes: PACK_BYTES + 1, ..most }.fits(1000));
        assert!(!Load { pieces: PACK_PIECES + 1, ..most }.fits(1000));
        assert!(!Load { index_bytes: 501, ..most }.fits(1000));
        assert_eq!(PACK_BYTES, 268_435_456, "256 MiB");
        let one = Load { bytes: 1, pieces: 1, index_bytes: 1 };
        let (half, rest) = (Load { pieces: 1, ..most }, Load { bytes: 0, pieces: PACK_PIECES - 1, index_bytes: 0 });
        assert!(half.takes(rest, 1000) && rest.takes(half, 1000) && Load::default().takes(most, 0));
        for more in [Load { bytes: 1, ..rest }, Load { pieces: PACK_PIECES, ..rest }, Load { index_bytes: 1, ..rest }] {
            assert!(!half.takes(more, 1000), "{more:?}");
        }
        assert_eq!(one.and(one), Load { bytes: 2, pieces: 2, index_bytes: 2 });
    }

    #[test]
    fn a_batch_holds_what_its_objects_hold() {
        let thin = |lengths: &[u64]| {
            let manifest = SampleObject::new(2, 3, 1).manifest;
            let (version, name) = (VersionId([1; 16]), FileName::new("name").expect("a name"));
            let piece = |bytes| Piece { version, name: name.clone(), ordinal: 0, offset: 0, bytes, last: None };
            let live: Vec<Piece> = lengths.iter().copied().map(piece).collect();
            let object = manifest.object();
            let sparse = SparseObject { object, file_bytes: 100, live_bytes: 1, live_pieces: 1 };
            Thin { sparse, reader: ObjectReader::new(manifest, Vec::new()), live, index_bytes: 100 }
        };
        assert_eq!(Batch::default().load(), Load::default());
        let batch = Batch { thin: vec![thin(&[3, 4]), thin(&[5])] };
        assert_eq!(batch.load(), Load { bytes: 12, pieces: 3, index_bytes: 200 });
    }
}
