//! Recovering with no store: what the places hold is gathered into a catalog that is thrown away afterwards.

use super::report::{PlaceSeen, UnreadObject};
use super::session::Session;
use super::{Origin, RecoverOptions, RecoverReport, cancelled};
use crate::backend::Backend;
use crate::catalog::{self, Catalog, ObjectRecord, ShardRecord};
use crate::crypto::{AccessKeys, CatalogKey};
use crate::error::{Error, ErrorKind, Result, with_causes};
use crate::id::BackendId;
use crate::ops::Controls;
use crate::ops::ingest::{
    FoundObject, Ingested, Inventory, NewestObject, ReadObject, Recency, Sources, Taken, read_object,
};
use crate::ops::reader::{ReadError, ShardPlace, compute};
use crate::ops::rebuild::UntrustedObject;
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
    /// What people call places that were named and cannot be looked at: what is not found may be there.
    pub left_out: Vec<String>,
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
        let (mut session, output) = Session::new(Origin::Found(Box::new(found)), options)?;
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
    unread: Vec<UnreadObject>,
    untrusted: Vec<UntrustedObject>,
    /// How many of the untrusted ones name a key that nobody here knows.
    unknown_keys: usize,
    recency: Recency<String>,
    /// How many shards each place lists.
    listed: Vec<(String, u64)>,
    /// What people call places that could not be looked at.
    left_out: Vec<String>,
    _file: ScratchFile,
}

/// A catalog's file, gone when this is.
#[derive(Debug)]
struct ScratchFile(PathBuf);

impl ScratchFile {
    fn new(folder: &Path) -> Result<Self> {
        Ok(Self(folder.join(format!(".shard-{}.db", hex::encode(random_bytes::<8>()?)))))
    }
}

fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    let failed = |error| Error::new(ErrorKind::Local, "the system gives no random bytes").with_source(error);
    let mut random = [0; N];
    getrandom::fill(&mut random).map_err(failed)?;
    Ok(random)
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
        let FoundPlaces { backends, keys, left_out, scratch } = places;
        let numbered =
            |(number, (_, backend)): (usize, &(String, Arc<dyn Backend>))| (place_id(number), Arc::clone(backend));
        let sources: Sources = backends.iter().enumerate().map(numbered).collect();
        let names = backends.into_iter().map(|(name, _)| name).collect();
        let file = ScratchFile::new(&scratch)?;
        // What is left of the file when it cannot be removed is closed for good: nobody keeps its key.
        let (path, key) = (file.0.clone(), CatalogKey::from_secret(keys.store_id(), &random_bytes()?));
        let catalog = compute(move || Catalog::create(&path, Arc::new(key))).await??;
        let catalog = Arc::new(Mutex::new(catalog));
        let mut found = Self {
            catalog,
            sources,
            names,
            keys,
            unread: Vec::new(),
            untrusted: Vec::new(),
            unknown_keys: 0,
            recency: Recency::default(),
            listed: Vec::new(),
            left_out,
            _file: file,
        };
        controls.begin("looking at what there is", None, None);
        let bytes_read = found.read_objects(controls).await?;
        controls.end();
        found.refuse_nothing(controls).await?;
        Ok((found, bytes_read))
    }

    /// An error where no file is known and there are reasons for it that have nothing to do with what was asked for.
    async fn refuse_nothing(&self, controls: &Controls) -> Result<()> {
        let has_files = self.catalog(|catalog| catalog.stats()).await?.files > 0;
        let locked = self.unread.iter().filter(|unread| unread.kind == ErrorKind::WrongKey).count() + self.unknown_keys;
        if locked > 0 {
            let sealed = format!("{locked} of the objects found open only with a key that was not given");
            if !has_files {
                return Err(Error::new(ErrorKind::WrongKey, sealed).with_hint(GIVE_THE_KEY));
            }
            controls.warn(format!("{sealed}: {GIVE_THE_KEY}"));
        }
        if !has_files && self.unread.is_empty() && !self.left_out.is_empty() {
            let doing = format!("no file was found; {} could not be looked at", self.left_out.join(", "));
            return Err(Error::new(ErrorKind::Unavailable, doing).with_hint("is the disk mounted, and the network up?"));
        }
        Ok(())
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
                bytes_read += self.take_in(found, outcome, controls).await?;
            }
        }
        for place in inventory.into_places() {
            let Some(name) = self.backend_name(place.backend) else { continue };
            // A place with several copies of its shards is several to whoever reads it.
            match self.listed.iter_mut().find(|(listed, _)| *listed == name) {
                Some((_, shards)) => *shards += place.shards,
                None => self.listed.push((name.clone(), place.shards)),
            }
            if let Some(error) = place.failure {
                controls.warn(format!("{name} could not be listed: {error}"));
                self.left_out.push(name);
            }
        }
        Ok(bytes_read)
    }

    async fn take_in(
        &mut self,
        found: &FoundObject,
        outcome: Result<ReadObject, ReadError>,
        controls: &Controls,
    ) -> Result<u64> {
        controls.items(1);
        let (read, total_shards) = match outcome {
            Ok(read) => {
                let total_shards = read.manifest.geometry().total_shards();
                (read, total_shards)
            }
            Err(error) if error.is_distrust() => {
                self.unknown_keys += usize::from(error.kind() == ErrorKind::WrongKey);
                self.leave_alone(UntrustedObject::new(found, &error), controls);
                return Ok(0);
            }
            Err(error) => {
                controls.warn(format!("object {} is passed over: {}", found.object, with_causes(&error)));
                // How many shards it has is not known: there may always be more.
                self.unread.push(UnreadObject::new(found, &error, usize::MAX));
                return Ok(0);
            }
        };
        let taken = Taken::new(read, found, 0);
        let names = &self.names;
        taken.note(&mut self.recency, |place| name_of(names, place).unwrap_or_default());
        if let Ingested::Unreadable(error) = &taken.outcome {
            self.unread.push(UnreadObject::new(found, error, total_shards));
            if error.kind() != ErrorKind::WrongKey {
                let why = with_causes(error);
                controls.warn(format!("what is in object {} cannot be read: {why}", found.object));
            }
        }
        let (record, bytes_read) = (taken.record, taken.bytes_read);
        if let Some(refusal) = self.catalog(move |catalog| record.offer(catalog)).await? {
            self.leave_alone(UntrustedObject::new(found, &refusal), controls);
        }
        Ok(bytes_read)
    }

    fn leave_alone(&mut self, object: UntrustedObject, controls: &Controls) {
        controls.warn(format!("object {} is left alone: {}", object.id, object.problem));
        self.untrusted.push(object);
    }

    pub(super) async fn catalog<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Catalog) -> catalog::Result<T> + Send + 'static,
    {
        let catalog = Arc::clone(&self.catalog);
        Ok(compute(move || work(&mut catalog.lock().unwrap_or_else(PoisonError::into_inner))).await??)
    }

    /// The objects of which it cannot be said which files they hold.
    pub(super) fn unread(&self) -> &[UnreadObject] {
        &self.unread
    }

    /// The objects that cannot be trusted.
    pub(super) fn untrusted(&self) -> &[UntrustedObject] {
        &self.untrusted
    }

    /// What is said of a name that is in nothing that could be read.
    pub(super) fn not_found(&self, name: &str) -> Error {
        let hint = "it may be in places that were not named: give each with --from";
        let kinds = self.unread.iter().map(|unread| unread.kind);
        let unknown = (self.unknown_keys > 0).then_some(ErrorKind::WrongKey);
        let away = (!self.left_out.is_empty()).then_some(ErrorKind::Unavailable);
        // Of several reasons the one that leaves most hope.
        let order = [ErrorKind::Unavailable, ErrorKind::WrongKey];
        let kinds: Vec<ErrorKind> = kinds.chain(unknown).chain(away).collect();
        let kind = order.into_iter().find(|kind| kinds.contains(kind)).or(kinds.first().copied());
        let Some(kind) = kind else {
            return Error::new(ErrorKind::NotFound, format!("there is no file called {name:?}")).with_hint(hint);
        };
        let mut reasons = Vec::new();
        let unread = self.unread.len() + self.unknown_keys;
        if unread > 0 {
            reasons.push(format!("{unread} of the objects found cannot be read"));
        }
        if !self.left_out.is_empty() {
            reasons.push(format!("{} could not be looked at", self.left_out.join(", ")));
        }
        let doing = format!("no file called {name:?} was found, but {}", reasons.join(", and "));
        Error::new(kind, doing).with_hint(if kind == ErrorKind::WrongKey { GIVE_THE_KEY } else { hint })
    }

    pub(super) fn keys(&self) -> &Arc<AccessKeys> {
        &self.keys
    }

    pub(super) fn backend_name(&self, backend: BackendId) -> Option<String> {
        name_of(&self.names, backend)
    }

    /// What each place holds, and the newest object on any.
    pub(super) fn seen(&self) -> (Vec<PlaceSeen>, Option<NewestObject>) {
        let place = |(name, shards): &(String, u64)| {
            let (newest, lacks) = self.recency.of(name);
            PlaceSeen { name: name.clone(), shards: *shards, newest, lacks }
        };
        (self.listed.iter().map(place).collect(), self.recency.newest())
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

fn name_of(names: &[String], backend: BackendId) -> Option<String> {
    (0..).zip(names).find(|(number, _)| place_id(*number) == backend).map(|(_, name)| name.clone())
}

fn place_id(number: usize) -> BackendId {
    let mut id = [0; BackendId::BYTES];
    id[..8].copy_from_slice(&(number as u64).to_be_bytes());
    BackendId(id)
}
