//! Where files and shards are looked up: in a store, or in what was found on places without one.

use super::found::Found;
use super::report::{PlaceSeen, UnreadObject};
use super::unread::{not_found, unread_in};
use crate::backend::{Backend, ErrorKind as BackendErrorKind};
use crate::catalog::{self, Catalog, ObjectRecord, ShardRecord};
use crate::crypto::AccessKeys;
use crate::error::{Error, Result};
use crate::id::{BackendId, ObjectId, ShardId};
use crate::ops::ingest::{NewestObject, Sources};
use crate::ops::reader::{ObjectReader, ShardPlace, gather_manifest};
use crate::ops::rebuild::UntrustedObject;
use crate::store::Store;
use futures_util::future;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Where files and shards are looked up.
#[derive(Debug)]
pub(super) enum Origin<'a> {
    Store(&'a Store),
    Found(Box<Found>),
}

impl Origin<'_> {
    /// Asks the catalog, off the reactor, all of one state of it.
    pub(super) async fn look<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Catalog) -> catalog::Result<T> + Send + 'static,
    {
        match self {
            Self::Store(store) => store.look(work).await,
            Self::Found(found) => found.catalog(|catalog| work(catalog)).await,
        }
    }

    /// What is said when a name is no file.
    pub(super) async fn not_found(&self, name: &str) -> Result<Error> {
        match self {
            Self::Store(store) => Ok(not_found(name, &unread_in(store).await?)),
            Self::Found(found) => Ok(found.not_found(name)),
        }
    }

    /// The objects of which it cannot be said which files they hold.
    pub(super) async fn unread(&self) -> Result<Vec<UnreadObject>> {
        match self {
            Self::Store(store) => unread_in(store).await,
            Self::Found(found) => Ok(found.unread().to_vec()),
        }
    }

    /// The objects that were found and cannot be trusted.
    pub(super) fn untrusted(&self) -> Vec<UntrustedObject> {
        match self {
            Self::Store(_) => Vec::new(),
            Self::Found(found) => found.untrusted().to_vec(),
        }
    }

    /// What the places that were named hold, and the newest object on any.
    pub(super) fn seen(&self) -> (Vec<PlaceSeen>, Option<NewestObject>) {
        match self {
            Self::Store(_) => (Vec::new(), None),
            Self::Found(found) => found.seen(),
        }
    }

    fn keys(&self) -> &Arc<AccessKeys> {
        match self {
            Self::Store(store) => store.access(),
            Self::Found(found) => found.keys(),
        }
    }

    /// What people call a backend; `None` for a place that nobody named.
    pub(super) fn backend_name(&self, backend: BackendId) -> Option<String> {
        match self {
            Self::Store(store) => {
                let name = store.registry().get(backend).map(|registered| registered.name.clone());
                Some(name.unwrap_or_else(|| backend.to_string()))
            }
            Self::Found(found) => found.backend_name(backend),
        }
    }

    /// A reader of an object's shards in the places where they are recorded.
    pub(super) async fn open(&self, object: ObjectId) -> Result<ObjectReader> {
        let look = move |catalog: &Catalog| Ok((catalog.object(object)?, catalog.shards(object)?));
        let (record, shards) = self.look(look).await?;
        let places = self.recorded(&shards, record.as_ref());
        // Where the catalog's is damaged, the shards' are asked.
        let known = record.and_then(|record| record.manifest(&self.keys().store_id()).ok());
        let manifest = match known {
            Some(manifest) => manifest,
            None => gather_manifest(&places, object, &self.keys().store_id()).await?,
        };
        Ok(ObjectReader::with_keys(manifest, places, Arc::clone(self.keys())))
    }

    fn recorded(&self, shards: &[ShardRecord], record: Option<&ObjectRecord>) -> Vec<ShardPlace> {
        match self {
            Self::Store(store) => {
                let place = |shard: &ShardRecord| ShardPlace::registered(store.registry(), shard.index, shard.backend);
                shards.iter().map(place).collect()
            }
            Self::Found(found) => found.places(shards, record),
        }
    }

    /// A reader of the same object that also has every other place where one of its shards is. `None` when there is none.
    pub(super) async fn open_wider(&self, narrow: &ObjectReader) -> Option<ObjectReader> {
        let Self::Store(store) = self else { return None };
        let manifest = narrow.manifest().clone();
        let mut places: Vec<ShardPlace> = narrow.places().cloned().collect();
        let known = |index: u8, backend: BackendId| places.iter().any(|p| p.index == index && p.backend == backend);
        let mut candidates = Vec::new();
        for (backend, source) in Sources::of(store).iter() {
            for index in manifest.geometry().shard_indexes().filter(|index| !known(*index, backend)) {
                candidates.push(ShardPlace { index, backend, source: Some(Arc::clone(&source)) });
            }
        }
        let object = manifest.object();
        let found = future::join_all(candidates.into_iter().map(|place| look_for(object, place))).await;
        let recorded = places.len();
        let (found, silent): (Vec<_>, Vec<_>) = found.into_iter().flatten().partition(|place| place.source.is_some());
        let damaged: BTreeSet<u8> = narrow.damage().iter().map(|damage| damage.index).collect();
        places.extend(found);
        // A place that does not answer counts for what nobody else has: such a shard is not lost.
        let missing: BTreeMap<u8, ShardPlace> = silent.into_iter().map(|place| (place.index, place)).collect();
        let is_elsewhere = |index: u8| {
            let known = places.iter().skip(recorded).any(|place| place.index == index);
            known || !damaged.contains(&index) && places.iter().any(|place| place.index == index)
        };
        let missing: Vec<ShardPlace> = missing.into_values().filter(|place| !is_elsewhere(place.index)).collect();
        places.extend(missing);
        (places.len() > recorded).then(|| ObjectReader::with_keys(manifest, places, Arc::clone(self.keys())))
    }
}

/// A place that does not answer may have the shard: nothing can be read there, and it is not lost.
async fn look_for(object: ObjectId, place: ShardPlace) -> Option<ShardPlace> {
    let source: &Arc<dyn Backend> = place.source.as_ref()?;
    match source.head(ShardId { object, index: place.index }).await {
        Ok(_) => Some(place),
        Err(error) if error.kind == BackendErrorKind::NotFound => None,
        Err(_) => Some(ShardPlace { source: None, ..place }),
    }
}
