//! Recovering with no store: what the places hold is gathered into a catalog that is thrown away afterwards.

use super::session::Session;
use super::{Origin, RecoverOptions, RecoverReport, cancelled};
use crate::backend::Backend;
use crate::catalog::{self, Catalog, ObjectRecord, ShardRecord};
use crate::crypto::AccessKeys;
use crate::error::{Error, ErrorKind, Result};
use crate::id::BackendId;
use crate::ops::Controls;
use crate::ops::ingest::{FoundObject, Ingested, Inventory, ReadObject, Sources, Taken, read_object};
use crate::ops::reader::{ReadError, ShardPlace, compute};
use futures_util::future;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// So many objects are looked at at once.
const OBJECTS_IN_FLIGHT: usize = 4;
/// What helps where objects are sealed with a key that is not here.
const GIVE_THE_KEY: &str = "name the store's key file, or a kit made since its newest key, with --key";
/// Where a shard may be that is in none of the places that were named.
const UNNAMED: BackendId = BackendId([0xff; BackendId::BYTES]);

/// Places with shards, and whose they are.
#[derive(Debug, Clone)]
pub struct FoundPlaces {
    /// The places, each with what people call it.
    pub backends: Vec<(String, Arc<dyn Backend>)>,
    /// The keys of the store: whose signature is trusted, and what opens what is sealed.
    pub keys: Arc<AccessKeys>,
    /// A folder for a file that is needed on the way, of some hundred bytes for each file that is found.
    pub scratch: PathBuf,
}

/// Recovers files from places alone.
///
/// What was removed stays removed, as far as the removals are on these places too. Otherwise like [`super::recover`].
pub async fn recover_from(places: FoundPlaces, options: RecoverOptions) -> Result<RecoverReport> {
    let cancel = options.controls.cancel.clone();
    let controls = options.controls.clone();
    let work = async {
        let (found, bytes_read) = Found::gather(places, &controls).await?;
        let (mut session, output) = Session::new(Origin::Found(found), options)?;
        session.add_bytes_read(bytes_read);
        session.run(output).await
    };
    cancel.run_until_cancelled(work).await.unwrap_or_else(|| Err(cancelled(&controls)))
}

/// What was found on places.
#[derive(Debug)]
pub(super) struct Found {
    // Before the file, so that it is closed when the file goes.
    catalog: Arc<Mutex<Catalog>>,
    sources: Sources,
    names: Vec<String>,
    keys: Arc<AccessKeys>,
    /// How many objects are sealed with a key that is not here.
    locked: u64,
    _file: ScratchFile,
}

/// A catalog's file, gone when this is.
#[derive(Debug)]
struct ScratchFile(PathBuf);

impl ScratchFile {
    fn new(folder: &Path) -> Result<Self> {
        let failed = |error| Error::new(ErrorKind::Local, "the system gives no random bytes").with_source(error);
        let mut random = [0u8; 8];
        getrandom::fill(&mut random).map_err(failed)?;
        Ok(Self(folder.join(format!(".shard-{}.db", hex::encode(random)))))
    }
}

impl Drop for ScratchFile {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm"] {
            let mut path = self.0.clone().into_os_string();
            path.push(suffix);
            // What cannot be removed says by its name what it is.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Found {
    /// Lists the places and reads every object's index; also gives how many bytes of shards that took.
    async fn gather(places: FoundPlaces, controls: &Controls) -> Result<(Self, u64)> {
        let FoundPlaces { backends, keys, scratch } = places;
        let numbered =
            |(number, (_, backend)): (usize, &(String, Arc<dyn Backend>))| (place_id(number), Arc::clone(backend));
        let sources: Sources = backends.iter().enumerate().map(numbered).collect();
        let names = backends.into_iter().map(|(name, _)| name).collect();
        let file = ScratchFile::new(&scratch)?;
        let (path, store) = (file.0.clone(), keys.store_id());
        let catalog = compute(move || Catalog::create(&path, store)).await??;
        let mut found = Self { catalog: Arc::new(Mutex::new(catalog)), sources, names, keys, locked: 0, _file: file };
        controls.begin("looking at what there is", None, None);
        let bytes_read = found.read_objects(controls).await?;
        controls.end();
        if found.locked > 0 {
            let sealed = format!("{} of the objects found open only with a key that was not given", found.locked);
            if found.catalog(|catalog| catalog.stats()).await?.files == 0 {
                return Err(Error::new(ErrorKind::WrongKey, sealed).with_hint(GIVE_THE_KEY));
            }
            controls.warn(format!("{sealed}: {GIVE_THE_KEY}"));
        }
        Ok((found, bytes_read))
    }

    async fn read_objects(&mut self, controls: &Controls) -> Result<u64> {
        let mut inventory = Inventory::new(&self.sources);
        let mut bytes_read = 0;
        loop {
            let mut found = Vec::with_capacity(OBJECTS_IN_FLIGHT);
            while found.len() < OBJECTS_IN_FLIGHT {
                let Some(next) = inventory.next_object().await else { break };
                found.push(next);
            }
            if found.is_empty() {
                break;
            }
            let read = found.iter().map(|found| read_object(&self.sources, &self.keys, found));
            let read = future::join_all(read).await;
            for (found, outcome) in found.iter().zip(read) {
                bytes_read += self.take(found, outcome, controls).await?;
            }
        }
        for place in inventory.into_places() {
            if let (Some(error), Some(name)) = (place.failure, self.backend_name(place.backend)) {
                controls.warn(format!("{name} could not be listed: {error}"));
            }
        }
        Ok(bytes_read)
    }

    async fn take(
        &mut self,
        found: &FoundObject,
        outcome: Result<ReadObject, ReadError>,
        controls: &Controls,
    ) -> Result<u64> {
        controls.items(1);
        let taken = match outcome {
            Ok(read) => Taken::new(read, found, 0),
            Err(error) => {
                controls.warn(format!("object {} is passed over: {error}", found.object));
                return Ok(0);
            }
        };
        if let Ingested::Unreadable(error) = &taken.outcome
            && error.kind() == ErrorKind::WrongKey
        {
            self.locked += 1;
        } else if let Ingested::Unreadable(error) = &taken.outcome {
            let object = taken.record.object();
            controls.warn(format!("what is in object {object} cannot be read: {error}"));
        }
        self.catalog(move |catalog| taken.record.write(catalog)).await?;
        Ok(taken.bytes_read)
    }

    pub(super) async fn catalog<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Catalog) -> catalog::Result<T> + Send + 'static,
    {
        let catalog = Arc::clone(&self.catalog);
        Ok(compute(move || work(&mut catalog.lock().unwrap_or_else(PoisonError::into_inner))).await??)
    }

    pub(super) fn keys(&self) -> &Arc<AccessKeys> {
        &self.keys
    }

    pub(super) fn backend_name(&self, backend: BackendId) -> Option<String> {
        (0..).zip(&self.names).find(|(number, _)| place_id(*number) == backend).map(|(_, name)| name.clone())
    }

    /// Where shards were found; any other may be in a place that was not named.
    pub(super) fn places(&self, shards: &[ShardRecord], record: Option<&ObjectRecord>) -> Vec<ShardPlace> {
        let mut places = self.sources.places(shards.iter().map(|shard| (shard.index, shard.backend)));
        let found: BTreeSet<u8> = shards.iter().map(|shard| shard.index).collect();
        let indexes = record.into_iter().flat_map(|record| record.geometry.shard_indexes());
        let absent = indexes.filter(|index| !found.contains(index));
        places.extend(absent.map(|index| ShardPlace { index, backend: UNNAMED, source: None }));
        places
    }
}

fn place_id(number: usize) -> BackendId {
    let mut id = [0; BackendId::BYTES];
    id[..8].copy_from_slice(&(number as u64).to_be_bytes());
    BackendId(id)
}
