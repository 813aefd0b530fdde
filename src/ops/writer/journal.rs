//! Where an object's shards go, written down before anything is created there, and cleared when it comes to nothing.

use super::{ObjectOptions, ReadableZone, WriteFailures};
use crate::backend::placement::{PlacementRules, place};
use crate::backend::{self, Backend};
use crate::catalog::{JournalEntry, Purpose};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{BackendId, ObjectId, ShardId};
use crate::store::Store;
use futures_util::future;
use std::time::Duration;

/// How long a place is waited for when something is to be cleared there; after that the delete waits instead.
const CLEAR_TIMEOUT: Duration = Duration::from_secs(20);

/// The places of one object's shards.
#[derive(Debug)]
pub(super) struct Places {
    object: ObjectId,
    data_shards: usize,
    rotation: usize,
    zone_limit: Option<usize>,
    /// By shard index.
    of: Vec<Option<BackendId>>,
    /// Everything the journal names: in each of these places something may be.
    journaled: Vec<(u8, BackendId)>,
}

impl Places {
    /// The best places there are now. [`ErrorKind::BelowQuorum`] when they could not hold the quorum.
    pub(super) async fn choose(store: &Store, object: ObjectId, options: &ObjectOptions) -> Result<Self> {
        let rotation = store.catalog(|catalog| catalog.next_rotation()).await?;
        let nowhere = vec![None; options.geometry.total_shards()];
        let rotation = usize::try_from(rotation % (1 << 31)).unwrap_or(0);
        let data_shards = options.geometry.data_shards();
        let zone_limit = zone_limit(options)?;
        let mut places = Self { object, data_shards, rotation, zone_limit, of: nowhere, journaled: Vec::new() };
        places.journaled = places.fill(store, &options.failures);
        let lasting = places.of.iter().flatten().filter(|place| is_lasting(store, **place)).count();
        if lasting < options.geometry.write_quorum() && zone_limit.is_some() {
            let mut unlimited =
                Self { zone_limit: None, of: vec![None; places.of.len()], journaled: Vec::new(), ..places };
            unlimited.fill(store, &options.failures);
            if unlimited.planned().filter(|(_, place)| is_lasting(store, *place)).count() > lasting {
                return Err(readable_zone(options));
            }
        }
        if lasting < options.geometry.write_quorum() {
            return Err(options.failures.explain(too_few_places(store, options, lasting)));
        }
        Ok(places)
    }

    /// Writes the places down.
    pub(super) async fn journal(&self, store: &Store, options: &ObjectOptions) -> Result<()> {
        let (name, version) = options.file.clone().unzip();
        let entry = JournalEntry {
            object: self.object,
            process: store.lasting_process().await?,
            purpose: Purpose::Put,
            name,
            version,
            shards: self.journaled.clone(),
        };
        store.catalog(move |catalog| catalog.begin(&entry)).await
    }

    /// Shards and their places.
    pub(super) fn planned(&self) -> impl Iterator<Item = (u8, BackendId)> + '_ {
        (0..=u8::MAX).zip(&self.of).filter_map(|(index, place)| Some((index, (*place)?)))
    }

    /// The place of a shard.
    pub(super) fn of(&self, index: u8) -> Option<BackendId> {
        self.of.get(usize::from(index)).copied().flatten()
    }

    /// Finds other places for these shards, none of them on a backend that failed, and writes them down. A shard for which
    /// there is no other place has none any more.
    pub(super) async fn choose_others(
        &mut self,
        store: &Store,
        lost: &[u8],
        failures: &WriteFailures,
    ) -> Result<Vec<(u8, BackendId)>> {
        for index in lost {
            self.of[usize::from(*index)] = None;
        }
        let found = self.fill(store, failures);
        let (object, entries) = (self.object, found.clone());
        let journal = move |catalog: &mut crate::catalog::Catalog| {
            entries.iter().try_for_each(|(index, backend)| catalog.journal_shard(object, *index, *backend))
        };
        store.catalog(journal).await?;
        self.journaled.extend(&found);
        Ok(found)
    }

    /// Clears every place that is not in `kept`, and says where that failed: everywhere, if the journal's entry is there no
    /// more, or nobody can say. Then another process took this one for dead, and what is there may be its.
    pub(super) async fn clear_all_but(&self, store: &Store, kept: &[(u8, BackendId)]) -> Vec<(u8, BackendId)> {
        let doubtful = self.journaled.iter().filter(|place| !kept.contains(place));
        let object = self.object;
        if !store.look(move |catalog| catalog.is_journaled(object)).await.unwrap_or(false) {
            return doubtful.copied().collect();
        }
        let clearing = doubtful.map(async |(index, place)| {
            let shard = ShardId { object: self.object, index: *index };
            let cleared = match store.registry().get(*place) {
                Some(registered) => clear_place(registered.backend.as_ref(), shard).await.is_ok(),
                None => false,
            };
            (!cleared).then_some((*index, *place))
        });
        future::join_all(clearing).await.into_iter().flatten().collect()
    }

    /// Removes whatever was written; deletes wait where that is not possible now.
    pub(super) async fn take_back(&self, store: &Store) -> Result<()> {
        let left = self.clear_all_but(store, &[]).await;
        let object = self.object;
        store.catalog(move |catalog| catalog.take_back(object, &left)).await
    }

    /// Gives every shard without a place the best there is; says which were given.
    fn fill(&mut self, store: &Store, failures: &WriteFailures) -> Vec<(u8, BackendId)> {
        let registry = store.registry();
        let placed: Vec<Option<usize>> =
            self.of.iter().map(|place| place.and_then(|place| registry.position(place))).collect();
        let rules =
            PlacementRules { data_shards: self.data_shards, rotation: self.rotation, zone_limit: self.zone_limit };
        let places = place(&registry.candidates(&failures.backends()), &placed, rules);
        let mut given = Vec::new();
        for (index, (slot, position)) in (0..=u8::MAX).zip(self.of.iter_mut().zip(places)) {
            if slot.is_none() {
                *slot = position.and_then(|position| registry.at(position)).map(|registered| registered.id);
                given.extend(slot.map(|place| (index, place)));
            }
        }
        given
    }
}

/// Whether what a backend holds outlives this process.
pub(super) fn is_lasting(store: &Store, place: BackendId) -> bool {
    store.registry().get(place).is_some_and(|registered| !registered.volatile)
}

/// Removes a shard from a place, finished or not, and says how many bytes of it were unfinished. Only for shards that
/// no catalog records and no one is writing.
pub async fn clear_place(backend: &dyn Backend, shard: ShardId) -> backend::Result<u64> {
    let clear = async {
        backend.delete(shard).await?;
        backend.clear_unfinished(shard).await
    };
    in_time(shard, clear).await
}

/// Removes what was begun of a shard in a place and not finished, and says how many bytes that were.
pub async fn clear_begun(backend: &dyn Backend, shard: ShardId) -> backend::Result<u64> {
    in_time(shard, backend.clear_unfinished(shard)).await
}

/// Removes what was begun of a shard in a place and not finished, and says whether it is there all the same: another machine
/// may have put it there meanwhile.
pub async fn clear_begun_and_look(backend: &dyn Backend, shard: ShardId) -> backend::Result<bool> {
    let look = async {
        backend.clear_unfinished(shard).await?;
        match backend.head(shard).await {
            Ok(_) => Ok(true),
            Err(error) if error.kind == backend::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    };
    in_time(shard, look).await
}

async fn in_time<T>(shard: ShardId, clear: impl Future<Output = backend::Result<T>>) -> backend::Result<T> {
    let too_slow = |_| {
        let doing = format!("clearing shard {shard} away");
        Err(backend::Error::with_source(backend::ErrorKind::Unreachable, doing, "no answer in time"))
    };
    tokio::time::timeout(CLEAR_TIMEOUT, clear).await.unwrap_or_else(too_slow)
}

/// How many shards a zone may have. Of an object that one shard alone opens, none can be kept from reading it.
fn zone_limit(options: &ObjectOptions) -> Result<Option<usize>> {
    match (options.seal.zone_limit(options.geometry), options.readable_zone) {
        (Some(0), _) => {
            let (geometry, seal) = (options.geometry, options.seal);
            let doing = format!("at {geometry} each shard alone opens what is sealed with {seal}");
            Err(Error::new(ErrorKind::Refused, doing)
                .with_hint("choose a level with two data shards or more, or another seal"))
        }
        (_, ReadableZone::Allow) => Ok(None),
        (limit, ReadableZone::Refuse) => Ok(limit),
    }
}

fn readable_zone(options: &ObjectOptions) -> Error {
    let (geometry, limit) = (options.geometry, options.seal.zone_limit(options.geometry).unwrap_or(0));
    let doing = format!(
        "what is sealed with {} opens to whoever has {} shards, and with no more than {limit} in a zone too few find a place",
        options.seal,
        geometry.data_shards()
    );
    Error::new(ErrorKind::Refused, doing)
        .with_hint("add places in other zones, choose another seal, or accept it with --allow-readable-zone")
}

fn too_few_places(store: &Store, options: &ObjectOptions, lasting: usize) -> Error {
    let geometry = options.geometry;
    if store.registry().is_empty() {
        let doing = "this store has no backends";
        return Error::new(ErrorKind::BelowQuorum, doing).with_hint("add one with `shard backend add NAME URL`");
    }
    let quorum = geometry.write_quorum();
    let doing = if lasting == 0 {
        format!("no backend takes new shards, and {quorum} of {} must be durable", geometry.total_shards())
    } else {
        format!("the backends that take new shards now hold {lasting} of the {quorum} shards that must be durable")
    };
    Error::new(ErrorKind::BelowQuorum, doing).with_hint("`shard backend check` says why backends take none")
}
