//! `catalog rebuild`: the catalog made anew from the backends alone.
//!
//! A new catalog file is filled beside the old one and takes its place in one transaction: interrupted, nothing has
//! changed. What is found counts, in whatever order it is found: removals are applied, chains of pieces that are not
//! complete stay invisible, and what cannot be read now is recorded without names and never deleted. A shard that was not
//! found may be on a backend that could not be listed: that is recorded as its place, unreachable. What waits to be deleted
//! goes on waiting: a put that was taken back does not come again.
//!
//! A backup of the catalog, where there is one, says what an object is without the object being read; that the object is there,
//! and where, is said by the listings alone. So the catalog is the same with a backup and without one, however old that is.
//!
//! Others go on putting and removing meanwhile. What they commit is taken into the new file too before it takes the old
//! one's place, so that at no moment the catalog is without it.

mod new_catalog;

use super::backup::{LoadFrom, LoadedBackup, load};
use super::ingest::{
    FoundObject, FoundShard, Ingested, Inventory, ListedPlace, NewestObject, Recency, Sources, Taken, read_object,
};
use super::refresh::{being_put, refresh_known, silent_places};
use super::remove::{Which, delete_pending};
use super::show::backend_name;
use super::{Controls, leftovers};
use crate::backend::{self, Backend, BackendSpec, Mark, Reach};
use crate::catalog::{Catalog, CatalogStats, ObjectState, ShardState};
use crate::crypto::AccessKeys;
use crate::error::{Error, ErrorKind, Result, with_causes};
use crate::id::{BackendId, ObjectId};
use crate::store::{Held, Store};
use futures_util::stream::{FuturesUnordered, StreamExt};
use new_catalog::NewCatalog;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

/// How many objects are read at once: their indexes are at most 16 MiB each, and most are far less.
const OBJECTS_IN_FLIGHT: usize = 4;
/// How often what was committed meanwhile is taken in before the catalog counts as too busy.
const CATCH_UPS: usize = 64;
/// The lease that keeps everything away that would change what is where.
pub(in crate::ops) const MAINTENANCE: &str = "maintenance";
/// What to think of a place that was made with another key.
const WRONG_KEY_HINT: &str = "the key in this store is not the one it was made with";
/// What to do with places that cannot be recorded.
const NO_PLACE_HINT: &str = "`shard backend add` makes a folder of this store's shards a place again; of shards under other \
     names, `shard recover --all --from` brings the files back";

/// How the catalog is rebuilt.
#[derive(Debug, Clone, Default)]
pub struct RebuildOptions {
    /// Places to read beside the store's own backends.
    pub from: Vec<String>,
    /// The backup that it begins with: objects that this has a record of are not read.
    pub backup: LoadFrom,
    /// Progress and cancelling.
    pub controls: Controls,
}

/// What the rebuilt catalog holds.
#[derive(Debug, Clone, Serialize)]
pub struct RebuildReport {
    /// The places that were read.
    pub backends: Vec<RebuiltPlace>,
    /// Objects that are in the catalog now, removals among them.
    pub objects: u64,
    /// Removals among them.
    pub removals: u64,
    /// Names that have a version.
    pub files: u64,
    /// Complete versions that were not removed.
    pub versions: u64,
    /// Large files of which the last piece was not found: they stay invisible.
    pub unfinished: u64,
    /// Objects that are recorded without names, because too little of them can be read now.
    pub unreadable: Vec<UnreadableObject>,
    /// Objects that cannot be trusted, for their manifest or for what they say: they are left alone.
    pub untrusted: Vec<UntrustedObject>,
    /// The newest object of all.
    pub newest: Option<NewestObject>,
    /// Objects that a process is writing.
    pub in_progress: u64,
    /// The backup that it began with, where there is one.
    pub backup: Option<LoadedBackup>,
    /// How many bytes of shards were read.
    pub bytes_read: u64,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

/// One place that was read.
#[derive(Debug, Clone, Serialize)]
pub struct RebuiltPlace {
    /// Its name; its id where the settings do not have it.
    pub name: String,
    /// How many shards it lists.
    pub shards: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The newest object of which it has a shard, among those that could be read.
    pub newest: Option<NewestObject>,
    /// How many newer objects others have, of which a shard is nowhere: with any, it may have been set back to an earlier
    /// state.
    pub lacks: u64,
    /// Why it could not be read, or not to its end.
    pub problem: Option<String>,
}

/// An object that cannot be read now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnreadableObject {
    /// The object.
    pub id: ObjectId,
    /// Lost, or unavailable where a backend that does not answer may hold the rest.
    pub state: ObjectState,
    /// How many of its shards were found.
    pub found: usize,
    /// It opens only with a key that this machine lacks: its shards may all be well.
    pub locked: bool,
    /// Why.
    pub problem: String,
}

/// An object that cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UntrustedObject {
    /// The object, as its shards' names say.
    pub id: ObjectId,
    /// How many of its shards were found.
    pub found: usize,
    /// Why.
    pub problem: String,
}

impl UntrustedObject {
    pub(in crate::ops) fn new(found: &FoundObject, why: &(dyn std::error::Error + 'static)) -> Self {
        Self { id: found.object, found: found.index_count(), problem: with_causes(why) }
    }
}

/// Makes the catalog anew from the backends.
///
/// [`ErrorKind::Unavailable`] when not one backend can be read: an empty catalog would be no truth.
/// [`ErrorKind::WrongKey`] when those that answer belong to another store.
pub async fn rebuild(store: &Store, options: RebuildOptions) -> Result<RebuildReport> {
    let begun = Instant::now();
    options.controls.check_cancelled()?;
    let sources = all_sources(store, &options.from).await?;
    if sources.is_empty() {
        if let Some(other) = other_store(store) {
            return Err(other);
        }
        let doing = "no backend can be read: there is nothing to make the catalog from";
        return Err(Error::new(ErrorKind::Unavailable, doing).with_hint("`shard backend check` says why"));
    }
    leftovers::clear(store, &options.controls).await?;
    let _lease = store.lease(MAINTENANCE).await?;
    let file = NewCatalog::create(store).await?;
    store.catalog(|catalog| catalog.begin_rebuild()).await?;
    let backup = load(store, &sources, (&options.backup, file.catalog()), &options.controls).await?;
    let mut scan = Scan::run(store, &sources, (&file, backup), &options.controls).await?;
    scan.take_place(store, &sources, file).await?;
    // What other machines put while the backends were read.
    scan.distrust(refresh_known(store, &sources, &options.controls).await?.untrusted);
    // A removal tells what was to be deleted, and not what is deleted already. Nothing is deleted here: `gc` does that, once
    // whoever lost a catalog has seen what there is.
    if store.held() == Held::Owner {
        delete_pending(store, Which::Done, &options.controls).await?;
    }
    let (stats, dead) = count(store, &scan).await?;
    Ok(scan.report(store, (stats, dead), begun))
}

/// The store's backends that answer, and the places named beside them.
async fn all_sources(store: &Store, from: &[String]) -> Result<Sources> {
    let mut all: Vec<(BackendId, Arc<dyn Backend>)> = Sources::of(store).iter().collect();
    for url in from {
        let (id, place) = open_place(store, url).await?;
        if all.iter().all(|(known, _)| *known != id) {
            all.push((id, place));
        }
    }
    Ok(all.into_iter().collect())
}

/// What is wrong where a backend answers, and its mark names another store.
fn other_store(store: &Store) -> Option<Error> {
    let foreign = store.registry().iter().find_map(|backend| match &backend.reach {
        Reach::WrongPlace(mark) if mark.store != store.id() => Some((&backend.name, mark.store)),
        _ => None,
    });
    let (name, owner) = foreign?;
    let doing = format!("backend {name} belongs to another store ({owner})");
    Some(Error::new(ErrorKind::WrongKey, doing).with_hint(WRONG_KEY_HINT))
}

/// A place that a person names, which has to have this store's mark.
pub(in crate::ops) async fn open_place(store: &Store, url: &str) -> Result<(BackendId, Arc<dyn Backend>)> {
    let spec = BackendSpec::new("from", BackendId([0; BackendId::BYTES]), url);
    let place = backend::open(&spec, store.environment(), store.dir())?;
    match place.read_mark().await? {
        Some(Mark { store: owner, backend }) if owner == store.id() => Ok((backend, place)),
        Some(Mark { store: owner, .. }) => {
            let doing = format!("{url} belongs to another store ({owner})");
            Err(Error::new(ErrorKind::WrongKey, doing).with_hint(WRONG_KEY_HINT))
        }
        None => {
            let doing = format!("{url} has no mark: it is not mounted, or not a place of a store");
            Err(Error::new(ErrorKind::Unavailable, doing).with_hint(NO_PLACE_HINT))
        }
    }
}

/// What reading all backends came to.
#[derive(Debug, Default)]
struct Scan {
    places: Vec<ListedPlace>,
    unreachable: Vec<(BackendId, String)>,
    /// Places that could not be listed: what was not found may be there.
    silent: Vec<BackendId>,
    unread: BTreeSet<ObjectId>,
    unreadable: Vec<UnreadableObject>,
    untrusted: Vec<UntrustedObject>,
    recency: Recency<BackendId>,
    in_progress: u64,
    backup: Option<LoadedBackup>,
    bytes_read: u64,
}

type Read = (FoundObject, std::result::Result<Taken, super::reader::ReadError>);

impl Scan {
    async fn run(
        store: &Store,
        sources: &Sources,
        (file, backup): (&NewCatalog, Option<LoadedBackup>),
        controls: &Controls,
    ) -> Result<Self> {
        let mut scan = Self { unreachable: unreachable(store, sources), backup, ..Self::default() };
        controls.begin("reading what is on the backends", None, None);
        let mut inventory = Inventory::new(sources);
        let mut reading = FuturesUnordered::new();
        let (keys, now_ns) = (store.access(), store.now_ns());
        while let Some(found) = inventory.next_object().await {
            controls.check_cancelled()?;
            // Asked once it was found: an object is journaled before anything of it is written.
            if is_being_put(store, found.object).await? {
                scan.in_progress += 1;
                continue;
            }
            if is_given_up(store, &found).await? {
                continue;
            }
            if reading.len() >= OBJECTS_IN_FLIGHT
                && let Some(read) = reading.next().await
            {
                scan.take(read, file, controls).await?;
            }
            scan.silent = silent_places(store, &inventory.listed());
            if let Some(recorded) = scan.recorded(store, &found, file).await? {
                scan.take((found, Ok(recorded)), file, controls).await?;
                continue;
            }
            reading.push(read(sources, keys, found, now_ns));
        }
        while let Some(read) = reading.next().await {
            controls.check_cancelled()?;
            scan.take(read, file, controls).await?;
        }
        controls.end();
        scan.silent = silent_places(store, &inventory.listed());
        scan.places = inventory.into_places();
        scan.unreadable.sort_by_key(|object| object.id);
        scan.untrusted.sort_by_key(|object| object.id);
        if let Some(backup) = &mut scan.backup {
            scan.bytes_read += backup.bytes_read;
            (backup.not_found, backup.not_found_first) = file.not_found().await?;
        }
        Ok(scan)
    }

    /// What the backup says of an object, where it says anything and enough of its shards are there.
    async fn recorded(&mut self, store: &Store, found: &FoundObject, file: &NewCatalog) -> Result<Option<Taken>> {
        let Some(backup) = &mut self.backup else { return Ok(None) };
        let taken = file.recorded(store, found).await?;
        backup.used += u64::from(taken.is_some());
        Ok(taken)
    }

    async fn take(&mut self, (found, read): Read, file: &NewCatalog, controls: &Controls) -> Result<()> {
        controls.items(1);
        match read {
            Ok(mut taken) => {
                self.bytes_read += taken.bytes_read;
                taken.note(&mut self.recency, |backend| backend);
                controls.bytes(taken.bytes_read);
                taken.record.rest_may_be_on(&self.silent);
                if let Some(refusal) = file.offer(&taken).await? {
                    self.untrusted.push(UntrustedObject::new(&found, &refusal));
                    return Ok(());
                }
                if let Ingested::Unreadable(error) = &taken.outcome
                    && !taken.is_closed
                {
                    let locked = error.kind() == ErrorKind::WrongKey;
                    let problem = match locked {
                        true => "it opens only with a key that this machine lacks".to_owned(),
                        false => with_causes(error),
                    };
                    let state = taken.record.state();
                    self.unread.insert(found.object);
                    let (id, found) = (found.object, found.index_count());
                    self.unreadable.push(UnreadableObject { id, state, found, locked, problem });
                }
            }
            Err(error) => self.untrusted.push(UntrustedObject::new(&found, &error)),
        }
        Ok(())
    }

    /// Takes in what was committed meanwhile, until nothing is, and then lets the new catalog take the old one's place.
    async fn take_place(&mut self, store: &Store, sources: &Sources, file: NewCatalog) -> Result<()> {
        for _ in 0..CATCH_UPS {
            let overtaking = file.take_place(store, (self.unread.clone(), !self.silent.is_empty())).await?;
            if overtaking.is_empty() {
                return Ok(());
            }
            for object in overtaking {
                self.catch_up(store, sources, (object, &file)).await?;
            }
        }
        let doing = "others put and remove files faster than the catalog can be made anew";
        Err(Error::new(ErrorKind::Busy, doing).with_hint("try again when they are done: nothing was changed"))
    }

    /// Takes in an object that was committed meanwhile, from where the commit says its shards are.
    async fn catch_up(
        &mut self,
        store: &Store,
        sources: &Sources,
        (object, file): (ObjectId, &NewCatalog),
    ) -> Result<()> {
        let look = move |catalog: &Catalog| Ok((catalog.object_is_live(object)?, catalog.shards(object)?));
        let (is_live, shards) = store.look(look).await?;
        let there = shards.iter().filter(|shard| !matches!(shard.state, ShardState::Missing | ShardState::Unreachable));
        let found = there.map(|shard| FoundShard { index: shard.index, backend: shard.backend, bytes: shard.bytes });
        let found = FoundObject { object, shards: found.collect() };
        let mut taken = match read_object(sources, store.access(), &found).await {
            Ok(read) => Taken::new(read, &found, store.now_ns()),
            // It was removed in the meantime, and its removal is among what comes next.
            Err(_) if !is_live || !store.look(move |catalog| catalog.object_is_live(object)).await? => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.bytes_read += taken.bytes_read;
        taken.record.rest_may_be_on(&self.silent);
        match file.offer(&taken).await? {
            Some(refusal) => self.distrust([UntrustedObject::new(&found, &refusal)]),
            None if taken.record.is_unread() => drop(self.unread.insert(object)),
            None => {}
        }
        Ok(())
    }

    /// Adds those that are not told of yet.
    fn distrust(&mut self, more: impl IntoIterator<Item = UntrustedObject>) {
        for object in more {
            if self.untrusted.iter().all(|known| known.id != object.id) {
                self.untrusted.push(object);
            }
        }
        self.untrusted.sort_by_key(|object| object.id);
    }

    fn report(self, store: &Store, (stats, dead): (CatalogStats, BTreeSet<ObjectId>), begun: Instant) -> RebuildReport {
        let newest = self.recency.newest();
        let listed = self.places.into_iter().map(|place| {
            let (newest, lacks) = self.recency.of(&place.backend);
            let problem = place.failure.map(|error| error.to_string());
            let name = backend_name(store, place.backend);
            RebuiltPlace { name, shards: place.shards, bytes: place.bytes, newest, lacks, problem }
        });
        let silent = self.unreachable.into_iter().map(|(id, problem)| RebuiltPlace {
            name: backend_name(store, id),
            shards: 0,
            bytes: 0,
            newest: None,
            lacks: 0,
            problem: Some(problem),
        });
        RebuildReport {
            backends: listed.chain(silent).collect(),
            objects: stats.data_objects + stats.removal_objects + stats.catalog_objects,
            removals: stats.removal_objects,
            files: stats.files,
            versions: stats.versions,
            unfinished: stats.unfinished,
            // What a removal names need not be read.
            unreadable: self.unreadable.into_iter().filter(|object| !dead.contains(&object.id)).collect(),
            untrusted: self.untrusted,
            newest,
            in_progress: self.in_progress,
            backup: self.backup,
            bytes_read: self.bytes_read,
            elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

async fn read(sources: &Sources, keys: &Arc<AccessKeys>, found: FoundObject, now_ns: i64) -> Read {
    let read = read_object(sources, keys, &found).await;
    let taken = read.map(|read| Taken::new(read, &found, now_ns));
    (found, taken)
}

async fn is_being_put(store: &Store, object: ObjectId) -> Result<bool> {
    let journals = store.look(|catalog| catalog.journals()).await?;
    Ok(being_put(store, &journals).contains(&object))
}

/// Whether every shard that was found of an object waits here to be deleted, as of a put that was taken back: its file was
/// never there, and the deletes go on waiting.
async fn is_given_up(store: &Store, found: &FoundObject) -> Result<bool> {
    let object = found.object;
    let look = move |catalog: &Catalog| Ok((catalog.object_is_live(object)?, catalog.waiting_places(object)?));
    let (is_live, waiting) = store.look(look).await?;
    Ok(!is_live && found.shards.iter().all(|shard| waiting.contains(&(shard.index, shard.backend))))
}

/// The store's backends that do not answer.
fn unreachable(store: &Store, sources: &Sources) -> Vec<(BackendId, String)> {
    let silent = store.registry().iter().filter(|backend| !sources.contains(backend.id));
    silent.map(|backend| (backend.id, format!("backend {} does not answer", backend.name))).collect()
}

async fn count(store: &Store, scan: &Scan) -> Result<(CatalogStats, BTreeSet<ObjectId>)> {
    let unread = scan.unread.clone();
    store
        .look(move |catalog| {
            let mut dead = BTreeSet::new();
            for object in unread {
                if !catalog.object_is_live(object)? {
                    dead.insert(object);
                }
            }
            Ok((catalog.stats()?, dead))
        })
        .await
}
