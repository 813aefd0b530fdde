//! The newest backup, read so that a rebuild need not read the objects that it has records of.

use super::super::ingest::{FoundObject, Inventory, Sources, read_object};
use super::super::reader::{ObjectReader, gather_manifest};
use super::file;
use crate::catalog::{Catalog, StagedRecord};
use crate::error::{Error, ErrorKind, Result, with_causes};
use crate::format::BackupPart;
use crate::format::backup::{BackupRecord, RecordReader};
use crate::id::ObjectId;
use crate::ops::Controls;
use crate::store::Store;
use futures_util::TryStreamExt;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// So many records wait for one transaction, or fewer of as many bytes as this together.
const STAGED_RECORDS: usize = 500;
const STAGED_BYTES: usize = 1024 * 1024;

/// Which backup a rebuild begins with.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LoadFrom {
    /// The newest that is found in the store, if there is one.
    #[default]
    Newest,
    /// The newest that is found in the store: without one it is an error.
    Required,
    /// The one in this file, of which every byte has to be right.
    File(PathBuf),
    /// None.
    Nothing,
}

/// The backup that a rebuild began with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct LoadedBackup {
    /// Its generation, where it is in the store.
    pub generation: Option<u64>,
    /// The file that it is in, where it is in one.
    pub file: Option<String>,
    /// How many records could be read.
    pub records: u64,
    /// How many objects were taken from it, and not read themselves.
    pub used: u64,
    /// Parts of it that could not be read: their objects were.
    pub problems: Vec<String>,
    /// How many objects it has records of that no place shows and no removal names: they are lost, or were removed by a
    /// removal that is over, or are on places that do not answer.
    pub not_found: u64,
    /// The first of them.
    pub not_found_first: Vec<ObjectId>,
    /// How many bytes of shards were read for it.
    #[serde(skip)]
    pub bytes_read: u64,
}

/// Lets the records of a backup wait in a new catalog; `None` where there is no backup.
pub(in crate::ops) async fn load(
    store: &Store,
    sources: &Sources,
    (from, into): (&LoadFrom, Arc<Mutex<Catalog>>),
    controls: &Controls,
) -> Result<Option<LoadedBackup>> {
    match from {
        LoadFrom::Nothing => Ok(None),
        LoadFrom::File(path) => {
            controls.begin("reading the backup", None, None);
            let records = file::read(path, store.id(), into, controls).await?;
            controls.end();
            Ok(Some(LoadedBackup { file: Some(path.display().to_string()), records, ..LoadedBackup::default() }))
        }
        LoadFrom::Newest | LoadFrom::Required => {
            let loaded = newest(store, sources, &into, controls).await?;
            if loaded.is_none() && *from == LoadFrom::Required {
                let doing = "no backup of the catalog that can be read was found; nothing was changed";
                return Err(Error::new(ErrorKind::NotFound, doing)
                    .with_hint("`shard catalog rebuild` reads every object instead"));
            }
            Ok(loaded)
        }
    }
}

/// Reads the newest backup of which the last part can be read.
async fn newest(
    store: &Store,
    sources: &Sources,
    into: &Arc<Mutex<Catalog>>,
    controls: &Controls,
) -> Result<Option<LoadedBackup>> {
    // What this machine may not open says nothing to it.
    if store.access().keyring().is_none() {
        return Ok(None);
    }
    let (found, mut loaded) = find(store, sources, controls).await?;
    let whole = found.iter().filter_map(|(id, (_, part))| Some((part.generation, *id, part.whole.as_ref()?)));
    let Some((generation, last, whole)) = whole.max_by_key(|(generation, id, _)| (*generation, *id)) else {
        return Ok(None);
    };
    loaded.generation = Some(generation);
    controls.begin("reading the backup", None, None);
    for id in std::iter::once(&last).chain(whole.parts.iter().rev()) {
        controls.check_cancelled()?;
        let read = match found.get(id) {
            Some((object, _)) => read_part(store, sources, object, into, controls).await,
            None => Err(Error::new(ErrorKind::Lost, "it was not found, or what it says of itself cannot be read")),
        };
        match read {
            Ok((records, bytes)) => {
                loaded.records += records;
                loaded.bytes_read += bytes;
            }
            Err(error) if matches!(error.kind, ErrorKind::Cancelled | ErrorKind::Space) => return Err(error),
            Err(error) => loaded.problems.push(format!("object {id}: {}", with_causes(&error))),
        }
    }
    controls.end();
    Ok(Some(loaded))
}

type Found = BTreeMap<ObjectId, (FoundObject, BackupPart)>;

/// All objects of backups that can be read: their names say what they are.
async fn find(store: &Store, sources: &Sources, controls: &Controls) -> Result<(Found, LoadedBackup)> {
    let (mut found, mut loaded) = (BTreeMap::new(), LoadedBackup::default());
    let mut inventory = Inventory::after(sources, ObjectId::before_backups());
    while let Some(object) = inventory.next_object().await.filter(|object| object.object.is_backup()) {
        controls.check_cancelled()?;
        // What cannot be read is no backup.
        let Ok(read) = read_object(sources, store.access(), &object).await else { continue };
        loaded.bytes_read += read.bytes_read;
        if let Some(part) = read.index.ok().and_then(|index| index.catalog) {
            found.insert(object.object, (object, part));
        }
    }
    Ok((found, loaded))
}

/// Reads the records of one object; says how many there were, and how many bytes of shards were read for them.
async fn read_part(
    store: &Store,
    sources: &Sources,
    found: &FoundObject,
    into: &Arc<Mutex<Catalog>>,
    controls: &Controls,
) -> Result<(u64, u64)> {
    let places = sources.places(found.shards.iter().map(|shard| (shard.index, shard.backend)));
    let manifest = gather_manifest(&places, found.object, &store.id()).await?;
    let reader = ObjectReader::with_keys(manifest, places, Arc::clone(store.access()));
    let end = reader.sealed_part().await?.index_offset;
    let mut stager = Stager::new(Arc::clone(into));
    let mut parts = reader.payload(0..end);
    while let Some(bytes) = parts.try_next().await? {
        controls.check_cancelled()?;
        controls.bytes(bytes.len() as u64);
        stager = off_reactor(move || stager.take(&bytes).map(|()| stager)).await?;
    }
    let records = off_reactor(move || stager.finish()).await?;
    Ok((records, reader.bytes_read()))
}

/// Records on their way into a catalog. Blocking.
pub(super) struct Stager {
    into: Arc<Mutex<Catalog>>,
    reader: RecordReader,
    waiting: Vec<StagedRecord>,
    waiting_bytes: usize,
    records: u64,
}

impl Stager {
    pub(super) fn new(into: Arc<Mutex<Catalog>>) -> Self {
        Self { into, reader: RecordReader::default(), waiting: Vec::new(), waiting_bytes: 0, records: 0 }
    }

    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.reader.push(bytes);
        while let Some(json) = self.reader.next_json().map_err(|error| damaged(&error))? {
            let BackupRecord { object, contents, verified_ns } =
                BackupRecord::from_json(json).map_err(|error| damaged(&error))?;
            self.records += 1;
            self.waiting_bytes += json.len();
            let json = contents.is_some().then(|| json.to_vec());
            self.waiting.push(StagedRecord { object, verified_ns, json });
            if self.waiting.len() >= STAGED_RECORDS || self.waiting_bytes >= STAGED_BYTES {
                stage(&self.into, &mut self.waiting)?;
                self.waiting_bytes = 0;
            }
        }
        Ok(())
    }

    /// Says how many records there were; an error where the last one is not whole.
    pub(super) fn finish(mut self) -> Result<u64> {
        self.reader.finish().map_err(|error| damaged(&error))?;
        stage(&self.into, &mut self.waiting)?;
        Ok(self.records)
    }
}

fn stage(into: &Mutex<Catalog>, waiting: &mut Vec<StagedRecord>) -> Result<()> {
    into.lock().unwrap_or_else(PoisonError::into_inner).stage(waiting)?;
    waiting.clear();
    Ok(())
}

fn damaged(error: &crate::format::backup::BackupError) -> Error {
    Error::new(ErrorKind::Damaged, format!("the backup is damaged: {}", with_causes(error)))
}

async fn off_reactor<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let stopped = |error| Error::new(ErrorKind::Memory, "reading the backup stopped in the middle").with_source(error);
    tokio::task::spawn_blocking(work).await.map_err(stopped)?
}
