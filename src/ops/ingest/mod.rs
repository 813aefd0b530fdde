//! Taking objects into the catalog that are found on backends.
//!
//! *What it is.* [`ingest`]: shards that were found become a committed object, from the signed manifest and the index that
//! they carry. Used wherever the backends know more than the catalog: rebuild, refresh, leftovers of a dead process.
//!
//! *What it knows.* Manifests, indexes, and what the catalog takes.
//!
//! *What it does not know.* Why the shards were looked for, and whether enough of them are durable: callers decide.
//!
//! *Invariants.* Only what a manifest signed by this store says is taken in. Nothing on a backend is changed. An object
//! whose index cannot be read now is recorded without names and noted, so that a later look reads it. On a machine without
//! a master key what is sealed with one is recorded by its shards alone, and removals are heard of: what their public part
//! names is forgotten, and its shards are left to the owner.

mod inventory;
mod recency;

pub(in crate::ops) use inventory::{Inventory, ListedPlace};
pub use recency::NewestObject;
pub(in crate::ops) use recency::Recency;

use super::reader::{ObjectReader, ReadError, ShardPlace, gather_manifest};
use super::timestamp::Timestamp;
use super::writer::object_record;
use crate::backend::{Backend, RegisteredBackend};
use crate::catalog::{self, Catalog, CheckRecord, Commit, ObjectState, ShardRecord, ShardState, Snapshot};
use crate::crypto::AccessKeys;
use crate::error::{ErrorKind, Result};
use crate::format::{Index, Manifest, ObjectKind, ShardFileLayout};
use crate::id::{BackendId, Digest, ObjectId, VersionId};
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// An object of which shards were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundObject {
    /// The object, as the shards' names say.
    pub object: ObjectId,
    /// Its shards, by index, then backend.
    pub shards: Vec<FoundShard>,
}

/// A shard that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundShard {
    /// Which shard.
    pub index: u8,
    /// Where.
    pub backend: BackendId,
    /// Its length in bytes.
    pub bytes: u64,
}

impl FoundObject {
    /// How many different shards were found.
    pub fn index_count(&self) -> usize {
        self.shards.iter().map(|shard| shard.index).collect::<BTreeSet<_>>().len()
    }
}

/// The places that answer and may be read from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    backends: BTreeMap<BackendId, Arc<dyn Backend>>,
}

impl Sources {
    /// Those of a store that answer and are the right place.
    pub fn of(store: &Store) -> Self {
        let ready = store.registry().iter().filter(|backend| backend.is_ready());
        ready.map(|backend: &RegisteredBackend| (backend.id, Arc::clone(&backend.backend))).collect()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    /// This one, if it answers.
    pub fn get(&self, backend: BackendId) -> Option<&Arc<dyn Backend>> {
        self.backends.get(&backend)
    }

    /// Whether this one answers.
    pub fn contains(&self, backend: BackendId) -> bool {
        self.backends.contains_key(&backend)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (BackendId, Arc<dyn Backend>)> + '_ {
        self.backends.iter().map(|(id, backend)| (*id, Arc::clone(backend)))
    }

    /// Where to read shards from; a place that does not answer is one that a reader knows to be unreachable.
    pub fn places(&self, shards: impl IntoIterator<Item = (u8, BackendId)>) -> Vec<ShardPlace> {
        let place = |(index, backend)| ShardPlace { index, backend, source: self.backends.get(&backend).cloned() };
        shards.into_iter().map(place).collect()
    }
}

impl FromIterator<(BackendId, Arc<dyn Backend>)> for Sources {
    fn from_iter<I: IntoIterator<Item = (BackendId, Arc<dyn Backend>)>>(backends: I) -> Self {
        Self { backends: backends.into_iter().collect() }
    }
}

/// An object that was read from its shards.
#[derive(Debug)]
pub struct ReadObject {
    /// Its manifest.
    pub manifest: Manifest,
    /// When it was made, in nanoseconds since 1970, where that can be opened.
    pub created_ns: Option<i64>,
    /// What it holds, or why that cannot be read now.
    pub index: Result<Index, ReadError>,
    /// How many bytes of shards were read for it.
    pub bytes_read: u64,
    /// Whether this machine has a master key. Without one, what opens only with such a key is not for it.
    pub has_keys: bool,
}

impl ReadObject {
    /// Whether it is not for this machine to open.
    pub fn is_closed(&self) -> bool {
        !self.has_keys && self.index.as_ref().is_err_and(|error| error.kind() == ErrorKind::WrongKey)
    }
}

/// Reads the manifest and the index of an object from the shards that were found.
///
/// An error when no copy of the manifest can be trusted, or a writer signed what cannot be.
pub async fn read_object(
    sources: &Sources,
    keys: &Arc<AccessKeys>,
    found: &FoundObject,
) -> Result<ReadObject, ReadError> {
    let places = sources.places(found.shards.iter().map(|shard| (shard.index, shard.backend)));
    let manifest = gather_manifest(&places, found.object, &keys.store_id()).await?;
    let reader = ObjectReader::with_keys(manifest, places, Arc::clone(keys));
    let mut index = reader.index().await;
    // A machine without master keys has none to know.
    let opens = |error: &ReadError| keys.keyring().is_some() || error.kind() != ErrorKind::WrongKey;
    if let Some(writer) = reader.manifest().writer() {
        let signed = (found.object, writer);
        index = index.map_err(|error| if opens(&error) { error.distrusting(signed) } else { error });
    }
    let index = match index {
        Err(error) if error.is_distrust() => return Err(error),
        index => index,
    };
    // What could not be opened for the index is not asked for again.
    let created_ns = match index {
        Ok(_) => reader.sealed_part().await.ok().map(|part| part.created_ns),
        Err(_) => None,
    };
    let (manifest, has_keys) = (reader.manifest().clone(), keys.keyring().is_some());
    Ok(ReadObject { manifest, created_ns, index, bytes_read: reader.bytes_read(), has_keys })
}

/// What the catalog keeps of the shards that were found. A file of another length than the manifest says is corrupt; a
/// second copy of one index is surplus; an index that the object does not have is passed over.
pub fn shard_records(manifest: &Manifest, found: &FoundObject) -> Vec<ShardRecord> {
    let file_bytes = ShardFileLayout::of(manifest).file_bytes();
    let mut whole = BTreeSet::new();
    let exists = |shard: &&FoundShard| usize::from(shard.index) < manifest.geometry().total_shards();
    let record = |shard: &FoundShard| ShardRecord {
        index: shard.index,
        backend: shard.backend,
        bytes: shard.bytes,
        state: match shard.bytes == file_bytes {
            false => ShardState::Corrupt,
            true if whole.insert(shard.index) => ShardState::Ok,
            true => ShardState::Surplus,
        },
        bad_blocks: 0,
        verified_ns: None,
    };
    found.shards.iter().filter(exists).map(record).collect()
}

/// How taking in an object ended.
#[derive(Debug)]
pub enum Ingested {
    /// All of it is in the catalog.
    Whole,
    /// It is in the catalog without names: its index cannot be read now.
    Unreadable(ReadError),
}

/// Reads an object from the shards that were found and takes it into the store's catalog. Doing so again adds what was
/// not known and changes nothing else; an object that a removal names stays dead.
///
/// An error when no copy of its manifest can be trusted; nothing is recorded then.
pub async fn ingest(store: &Store, found: &FoundObject) -> Result<Ingested> {
    ingest_with(store, found, Vec::new()).await
}

/// The same, with the hashes of pieces, as the put that stored them would have given them: it can be gone on with.
pub(in crate::ops) async fn ingest_with(
    store: &Store,
    found: &FoundObject,
    piece_hashes: Vec<(VersionId, u32, Digest)>,
) -> Result<Ingested> {
    let read = read_object(&Sources::of(store), store.access(), found).await?;
    let taken = Taken::new(read, found, store.now_ns());
    let mut record = taken.record.clone();
    record.commit.piece_hashes = piece_hashes;
    store.catalog(move |catalog| record.write(catalog)).await?;
    Ok(taken.outcome)
}

/// An object that was read, ready for a catalog.
#[derive(Debug)]
pub(in crate::ops) struct Taken {
    pub(in crate::ops) record: TakenRecord,
    pub(in crate::ops) outcome: Ingested,
    pub(in crate::ops) bytes_read: u64,
    /// It is not for this machine to open: its shards may all be well.
    pub(in crate::ops) is_closed: bool,
    /// When it was last read in full, where a backup says.
    pub(in crate::ops) verified_ns: Option<i64>,
    /// When the object was made, where that could be opened.
    created: Option<NewestObject>,
}

/// What is written of it.
#[derive(Debug, Clone)]
pub(in crate::ops) struct TakenRecord {
    commit: Commit,
    /// What is known of an object of which too little can be read.
    check: Option<CheckRecord>,
    /// The greatest generation in it of a version that a writer put.
    writer_generation: u64,
    /// What is heard of removals, on a machine without a master key.
    hearing: Option<Hearing>,
}

/// What a machine that cannot open removals hears of them.
#[derive(Debug, Clone)]
enum Hearing {
    /// The object is no removal, or one that anyone can open.
    Nothing,
    /// It removes these objects.
    Removed(Vec<ObjectId>),
}

impl Taken {
    pub(in crate::ops) fn new(read: ReadObject, found: &FoundObject, now_ns: i64) -> Self {
        let is_closed = read.is_closed();
        let hearing = (!read.has_keys).then(|| Hearing::of(&read));
        let ReadObject { manifest, created_ns, index, bytes_read, .. } = read;
        let shards = shard_records(&manifest, found);
        let (index, check, outcome) = match index {
            Ok(index) => (index, None, Ingested::Whole),
            // What its shards say of it holds.
            Err(error) if is_closed => (Index::default(), None, Ingested::Unreadable(error)),
            Err(error) => {
                let check = CheckRecord {
                    object: found.object,
                    state: state_of(&error),
                    margin: None,
                    backend_margin: None,
                    shards: shards.clone(),
                    when_ns: now_ns,
                    full: false,
                };
                (Index::default(), Some(check), Ingested::Unreadable(error))
            }
        };
        let writer_generation = manifest.writer_generation();
        let object = object_record(&manifest, created_ns.unwrap_or(now_ns));
        let commit = Commit { object, shards, index, piece_hashes: Vec::new() };
        let created = created_ns.map(|created_ns| NewestObject { created: Timestamp(created_ns), id: found.object });
        Self {
            record: TakenRecord { commit, check, writer_generation, hearing },
            outcome,
            bytes_read,
            is_closed,
            verified_ns: None,
            created,
        }
    }

    /// Notes on which places the object was seen.
    pub(in crate::ops) fn note<P: Ord>(&self, recency: &mut Recency<P>, place: impl Fn(BackendId) -> P) {
        let shards = &self.record.commit.shards;
        let indexes: BTreeSet<u8> = shards.iter().map(|shard| shard.index).collect();
        let is_complete = indexes.len() >= self.record.commit.object.geometry.total_shards();
        if let Some(created) = self.created {
            recency.note(created, is_complete, shards.iter().map(|shard| place(shard.backend)));
        }
    }
}

impl Hearing {
    fn of(read: &ReadObject) -> Self {
        match read.is_closed() && read.manifest.kind() == ObjectKind::Removal {
            true => Self::Removed(read.manifest.removes().to_vec()),
            false => Self::Nothing,
        }
    }
}

impl TakenRecord {
    /// Which object.
    pub(in crate::ops) fn object(&self) -> ObjectId {
        self.commit.object.id
    }

    /// Whether its index is still to be read.
    pub(in crate::ops) fn is_unread(&self) -> bool {
        self.check.is_some()
    }

    /// What was not found may be on these backends, which could not be listed: it is recorded there, unreachable. An
    /// object of which too little can be read is not lost then.
    pub(in crate::ops) fn rest_may_be_on(&mut self, silent: &[BackendId]) {
        let geometry = self.commit.object.geometry;
        let found: BTreeSet<u8> = self.commit.shards.iter().map(|shard| shard.index).collect();
        let absent = geometry.shard_indexes().filter(|index| !found.contains(index));
        let places = absent.flat_map(|index| silent.iter().map(move |backend| (index, *backend)));
        let (state, bad_blocks, verified_ns) = (ShardState::Unreachable, 0, None);
        // Where nobody looked no space is taken as far as is known.
        let expected =
            places.map(|(index, backend)| ShardRecord { index, backend, bytes: 0, state, bad_blocks, verified_ns });
        self.commit.shards.extend(expected);
        if let Some(check) = self.check.as_mut().filter(|_| !silent.is_empty()) {
            check.state = ObjectState::Unavailable;
            check.shards.clone_from(&self.commit.shards);
        }
    }

    /// What is known of it, where its index cannot be read.
    pub(in crate::ops) fn state(&self) -> ObjectState {
        self.check.as_ref().map_or(ObjectState::Healthy, |check| check.state)
    }

    /// Takes it into a catalog, or says why its content cannot be: nothing changed then, and others can be taken in.
    pub(in crate::ops) fn offer(&self, catalog: &mut Catalog) -> catalog::Result<Option<catalog::Error>> {
        match self.write(catalog) {
            Ok(()) => Ok(None),
            Err(error) if error.is_about_content() => Ok(Some(error)),
            Err(error) => Err(error),
        }
    }

    /// Takes it into a catalog. What was heard to be removed is not taken in: it is for the owner to delete.
    pub(in crate::ops) fn write(&self, catalog: &mut Catalog) -> catalog::Result<()> {
        match &self.hearing {
            Some(_) if catalog.is_removed(self.object())? => return Ok(()),
            Some(Hearing::Removed(removes)) => catalog.commit_heard(&self.commit, removes)?,
            Some(Hearing::Nothing) | None => catalog.commit(&self.commit)?,
        }
        if let Some(check) = &self.check {
            catalog.record_check(check)?;
        }
        catalog.raise_writer_generation(self.writer_generation)?;
        match self.is_unread() {
            true => note_unread(catalog, self.object()),
            false => catalog.clear_note(&unread_key(self.object())),
        }
    }
}

/// By what was found alone.
fn state_of(error: &ReadError) -> ObjectState {
    match error.kind() {
        ErrorKind::Lost | ErrorKind::Damaged => ObjectState::Lost,
        _ => ObjectState::Unavailable,
    }
}

/// Whether the object's index is still to be read.
pub(in crate::ops) fn is_unread(catalog: &Catalog, object: ObjectId) -> catalog::Result<bool> {
    Ok(catalog.note(&unread_key(object))?.is_some())
}

/// The same, in one state of the catalog.
pub(in crate::ops) fn is_unread_note(snapshot: &Snapshot, object: ObjectId) -> catalog::Result<bool> {
    Ok(snapshot.note(&unread_key(object))?.is_some())
}

/// Notes that the object's index is still to be read: its pieces and removals are not in the catalog.
pub(in crate::ops) fn note_unread(catalog: &mut Catalog, object: ObjectId) -> catalog::Result<()> {
    catalog.set_note(&unread_key(object), "its index could not be read when it was found")
}

/// Every object of which that is noted, living or not, in the order of their ids.
pub(in crate::ops) fn unread_objects(catalog: &Catalog) -> catalog::Result<Vec<ObjectId>> {
    let keys = catalog.noted_below(UNREAD)?;
    Ok(keys.iter().filter_map(|key| key.strip_prefix(UNREAD)?.parse().ok()).collect())
}

/// What the note of an object begins with whose index is still to be read.
const UNREAD: &str = "unread-index/";

fn unread_key(object: ObjectId) -> String {
    format!("{UNREAD}{object}")
}
