//! The file that a new catalog is filled in, and what a backup has ready for it.

use super::super::backup::forget_chain;
use super::super::ingest::{FoundObject, ReadObject, Taken, note_unread};
use crate::catalog::{self, Catalog};
use crate::error::{Error, ErrorKind, Result};
use crate::format::ShardFileLayout;
use crate::format::backup::BackupRecord;
use crate::id::{ObjectId, StoreId};
use crate::store::Store;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The new catalog's file name, until it takes the old one's place.
const NEW_CATALOG_NAME: &str = "catalog.rebuild.db";
/// So many objects that a backup knows and no place shows are named; of more only the number is said.
const NOT_FOUND_NAMED: usize = 10;

/// The new catalog, in a file of its own; gone when dropped.
pub(super) struct NewCatalog {
    path: PathBuf,
    catalog: Arc<Mutex<Catalog>>,
}

impl NewCatalog {
    pub(super) async fn create(store: &Store) -> Result<Self> {
        let path = store.dir().join(NEW_CATALOG_NAME);
        let key = store.look(|catalog| Ok(Arc::clone(catalog.key()))).await?;
        remove_database(&path);
        let at = path.clone();
        let make = move || {
            let mut made = Catalog::create(&at, key)?;
            made.fill_without_waiting()?;
            Ok(made)
        };
        let made = off_reactor(make).await?;
        Ok(Self { path, catalog: Arc::new(Mutex::new(made)) })
    }

    /// The catalog itself.
    pub(super) fn catalog(&self) -> Arc<Mutex<Catalog>> {
        Arc::clone(&self.catalog)
    }

    /// Takes an object in, or says why its content cannot be.
    pub(super) async fn offer(&self, taken: &Taken) -> Result<Option<catalog::Error>> {
        let (catalog, record, verified_ns) = (self.catalog(), taken.record.clone(), taken.verified_ns);
        let offer = move || {
            let mut catalog = lock(&catalog);
            let refusal = record.offer(&mut catalog)?;
            catalog.found_staged(record.object())?;
            if let (None, Some(verified_ns)) = (&refusal, verified_ns) {
                catalog.recall_verified(record.object(), verified_ns)?;
            }
            Ok(refusal)
        };
        off_reactor(offer).await
    }

    /// What a backup says of an object of which enough shards are there to be read, and nothing where that cannot be trusted.
    pub(super) async fn recorded(&self, store: &Store, found: &FoundObject) -> Result<Option<Taken>> {
        let (catalog, object) = (self.catalog(), found.object);
        let staged = move || Ok(lock(&catalog).staged(object)?);
        let Some((json, verified_ns)) = off_reactor(staged).await? else { return Ok(None) };
        let (store_id, has_keys) = (store.id(), store.access().keyring().is_some());
        let Some(read) = read_of(&json, (object, &store_id), has_keys) else { return Ok(None) };
        let file_bytes = ShardFileLayout::of(&read.manifest).file_bytes();
        let whole = found.shards.iter().filter(|shard| shard.bytes == file_bytes).map(|shard| shard.index);
        let geometry = read.manifest.geometry();
        let is_there = |index: &u8| usize::from(*index) < geometry.total_shards();
        if whole.filter(is_there).collect::<BTreeSet<_>>().len() < geometry.data_shards() {
            return Ok(None);
        }
        let mut taken = Taken::new(read, found, store.now_ns());
        taken.verified_ns = verified_ns;
        Ok(Some(taken))
    }

    /// Objects that the backup knows and no place shows: how many, and the first of them.
    pub(super) async fn not_found(&self) -> Result<(u64, Vec<ObjectId>)> {
        let catalog = self.catalog();
        off_reactor(move || Ok(lock(&catalog).staged_not_found(NOT_FOUND_NAMED)?)).await
    }

    /// The new content takes the place of the old; what is local stays, and what is still to be read is noted, and
    /// whether a backend was missing. Where objects were committed meanwhile that are to be taken in first, these are the answer.
    pub(super) async fn take_place(
        &self,
        store: &Store,
        (unread, in_part): (BTreeSet<ObjectId>, bool),
    ) -> Result<Vec<ObjectId>> {
        let path = self.path.clone();
        let found = Arc::clone(&self.catalog);
        store
            .catalog(move |catalog| {
                // Notes outlast the replacement. One that is there too early makes a refresh read an object once more; one
                // that is missing after a crash would let an object without names pass for one that was read.
                let given = lock(&found).writer_generation()?;
                catalog.raise_writer_generation(given)?;
                unread.iter().try_for_each(|object| note_unread(catalog, *object))?;
                if in_part {
                    catalog.note_rebuilt_in_part(in_part)?;
                }
                let overtaking = catalog.rebuild_into(&path)?;
                if overtaking.is_empty() {
                    forget_chain(catalog)?;
                    catalog.note_rebuilt_in_part(in_part)?;
                    catalog.note_filled()?;
                }
                Ok(overtaking)
            })
            .await
    }
}

impl Drop for NewCatalog {
    fn drop(&mut self) {
        remove_database(&self.path);
    }
}

/// A database is its file and two beside it. What cannot be removed is in the way of nothing but the next rebuild.
fn remove_database(path: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        let _ = std::fs::remove_file(name);
    }
}

async fn off_reactor<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let stopped = |error| Error::new(ErrorKind::Cancelled, "the rebuild was stopped").with_source(error);
    tokio::task::spawn_blocking(work).await.map_err(stopped)?
}

fn lock(catalog: &Mutex<Catalog>) -> MutexGuard<'_, Catalog> {
    catalog.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a record says, as if its object had been read; nothing where it cannot be trusted: then the object is read.
fn read_of(json: &[u8], (object, store): (ObjectId, &StoreId), has_keys: bool) -> Option<ReadObject> {
    let record = BackupRecord::from_json(json).ok().filter(|record| record.object == object)?;
    let contents = record.contents?;
    let manifest = contents.manifest(object, store).ok()?;
    Some(ReadObject {
        manifest,
        created_ns: Some(contents.created_ns),
        index: Ok(contents.index),
        bytes_read: 0,
        has_keys,
    })
}
