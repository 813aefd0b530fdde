//! The places themselves: add one, look at them, give one up.

use crate::backend::{self, Backend, BackendSpec, BackendUrl, Health, LocalBackend, Mark, Reach};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{BackendId, ObjectId, ShardId};
use crate::store::config::{self, Config};
use crate::store::{Held, Store};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A backend's name is at most this many characters.
const MAX_NAME_CHARS: usize = 64;
/// So many shards that the catalog knows there are looked for, at most, before a lost mark is written again.
const KNOWN_SHARDS_FOR_MARK: usize = 64;

/// What adding a backend did.
#[derive(Debug, Clone, Serialize)]
pub struct AddedBackend {
    /// Its name.
    pub name: String,
    /// What its mark says.
    pub id: BackendId,
    /// What fails together with it.
    pub zone: String,
    /// It was this store's already (a new laptop): its shards are there.
    pub adopted: bool,
    /// It forgets everything when the process ends.
    pub volatile: bool,
}

/// Adds a backend: looks whose place it is, probes what it really does, marks it, and only then writes the settings.
///
/// [`ErrorKind::Refused`] for a name or place that is in use, for a place of another store, and for one that is only to be
/// read and is not this store's; [`ErrorKind::Invalid`] for settings that make no sense.
pub async fn add_backend(store: &Store, mut spec: BackendSpec) -> Result<AddedBackend> {
    check_name(&spec.name)?;
    if store.config().backends.iter().any(|other| other.name == spec.name) {
        return Err(Error::new(ErrorKind::Refused, format!("there is a backend {} already", spec.name)));
    }
    let address = BackendUrl::parse(&spec.url, store.dir()).map_err(|error| unusable(&spec, error))?;
    let mut made = None;
    if let BackendUrl::Folder(path) = &address {
        let folder = Folder::make(path, &spec)?;
        spec.url = folder.url()?;
        made = Some(folder);
    }
    // Written down, because an unmounted disk would be looked for on the one that its mount point is on.
    let zone = backend::zone_of(&spec, store.dir()).map_err(|error| unusable(&spec, error))?.to_string();
    spec.zone = Some(zone.clone());
    let adopted = match win(store, &mut spec).await {
        Ok(adopted) => adopted,
        Err(error) => {
            made.iter().for_each(Folder::leave_as_it_was);
            return Err(error);
        }
    };
    let added =
        AddedBackend { name: spec.name.clone(), id: spec.id, zone, adopted, volatile: address == BackendUrl::Memory };
    config::edit(&store.config_path(), |config: &mut Config| {
        config.backends.push(spec);
        Ok::<_, config::Error>(())
    })?;
    Ok(added)
}

/// Makes sure that a place is, or becomes, this store's; says whether it was already.
async fn win(store: &Store, spec: &mut BackendSpec) -> Result<bool> {
    let place = backend::open(spec, store.environment(), store.dir()).map_err(|error| unusable(spec, error))?;
    let found = place.read_mark().await.map_err(|error| unusable(spec, error))?;
    match found {
        Some(mark) if mark.store != store.id() => return Err(foreign(spec, &mark)),
        Some(mark) => spec.id = mark.backend,
        None if spec.read_only => {
            let doing = format!("{} has no mark of this store, and one that is only read gets none", spec.url);
            return Err(Error::new(ErrorKind::Refused, doing).with_hint("add it without --read-only"));
        }
        None => {}
    }
    if let Some(twin) = store.config().backends.iter().find(|other| other.id == spec.id) {
        return Err(Error::new(ErrorKind::Refused, format!("this place is in use already, as backend {}", twin.name)));
    }
    if !spec.read_only {
        probe(store, &spec.name, &place).await?;
        if found.is_none() {
            let mark = Mark { store: store.id(), backend: spec.id };
            place.write_mark(&mark).await.map_err(|error| unusable(spec, error))?;
        }
    }
    Ok(found.is_some())
}

/// The folder of a new backend.
struct Folder {
    path: PathBuf,
    was_there: bool,
}

impl Folder {
    fn make(path: &Path, spec: &BackendSpec) -> Result<Self> {
        let unusable_path = |error| Error::local(format!("cannot use {}", path.display()), error);
        let path = std::path::absolute(path).map_err(unusable_path)?;
        let was_there = path.symlink_metadata().is_ok();
        LocalBackend::create_root(&path).map_err(|error| unusable(spec, error))?;
        Ok(Self { path, was_there })
    }

    fn url(&self) -> Result<String> {
        let not_text = || Error::new(ErrorKind::Invalid, format!("the path {} is not UTF-8", self.path.display()));
        self.path.to_str().map(str::to_owned).ok_or_else(not_text)
    }

    /// Takes away what making and trying it left.
    fn leave_as_it_was(&self) {
        LocalBackend::remove_empty_folders(&self.path);
        if !self.was_there {
            // What is not empty stays.
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

fn check_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || !name.chars().all(fits) {
        let doing = format!("{name:?} is no name for a backend: letters, digits, - _ . and at most {MAX_NAME_CHARS}");
        return Err(Error::new(ErrorKind::Invalid, doing));
    }
    Ok(())
}

/// Which place failed, and what a person can look at.
fn unusable(spec: &BackendSpec, error: backend::Error) -> Error {
    let is_node = spec.url.starts_with("node://") || spec.url.starts_with("node+ws://");
    let hint = match error.kind {
        backend::ErrorKind::Settings if is_node => {
            "write node://HOST:PORT or node+ws://HOST:PORT: a node has no folders below its address"
        }
        backend::ErrorKind::Denied if is_node => "`shard node ping` says more of a node",
        backend::ErrorKind::Unreachable if is_node => "start `shard node serve` there, and let its port through",
        backend::ErrorKind::Denied => "check the credentials, and what they may do there",
        backend::ErrorKind::Settings => {
            "check the address, the bucket, the endpoint and the credentials: `shard backend add --help`"
        }
        backend::ErrorKind::Unreachable => "check that the place is there, and the endpoint",
        _ => "`shard backend add --help` says what a place needs",
    };
    let doing = format!("cannot add backend {}", spec.name);
    Error::new(error.kind.into(), doing).with_source(error).with_hint(hint)
}

fn foreign(spec: &BackendSpec, mark: &Mark) -> Error {
    let doing = format!("{} belongs to another store ({})", spec.url, mark.store);
    Error::new(ErrorKind::Refused, doing).with_hint("give this store a folder or prefix of its own there")
}

async fn probe(store: &Store, name: &str, place: &Arc<dyn Backend>) -> Result<()> {
    // What a killed process left; where that cannot be told or deleted, the probe says what is wrong with the place.
    let _ = backend::clear_probes(place.as_ref()).await;
    let shard = ShardId { object: ObjectId::of_probe(store.random_bytes()?), index: 0 };
    let report = backend::probe(place.as_ref(), shard).await;
    report.map(drop).map_err(|error| {
        Error::new(error.source.kind.into(), format!("backend {name} does not do what a backend must"))
            .with_source(error)
    })
}

/// How one backend is, as `check` found it.
#[derive(Debug, Clone, Serialize)]
pub struct BackendCheck {
    /// Its name.
    pub name: String,
    /// Its address.
    pub url: String,
    /// What fails together with it.
    pub zone: String,
    /// `ready`, `unreachable` or `wrong-place`.
    pub state: &'static str,
    /// Whether a probe could write, read, list, replace and delete there; `None` where that was not tried.
    pub writable: Option<bool>,
    /// How long its mark took, in milliseconds.
    pub latency_ms: u64,
    /// Bytes of the shards there.
    pub used: Option<u64>,
    /// How many shards are there.
    pub shards: Option<u64>,
    /// Bytes that are free there.
    pub free: Option<u64>,
    /// The most bytes it may hold, by the settings or by the place itself.
    pub quota: Option<u64>,
    /// A lost mark was written again.
    pub marked: bool,
    /// How many shards that the catalog knows there were looked for before that; `None` where nothing was to be marked.
    pub known_looked_for: Option<u64>,
    /// How many of them were found.
    pub known_found: Option<u64>,
    /// Why it is not ready or not writable.
    pub problem: Option<String>,
}

/// Whether a lost mark is written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marking {
    /// It is only reported.
    Report,
    /// It is, once known shards are found there.
    Restore,
}

/// Looks at the named backends, or at all.
pub async fn check_backends(store: &Store, names: &[String], marking: Marking) -> Result<Vec<BackendCheck>> {
    if let Some(unknown) = names.iter().find(|name| store.registry().by_name(name).is_none()) {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no backend {unknown}")));
    }
    let mut checks = Vec::new();
    for mut health in store.registry().health_check_all(store.id()).await {
        if !names.is_empty() && !names.contains(&health.name) {
            continue;
        }
        let restored = match marking {
            Marking::Restore => restore_mark(store, &health).await?,
            Marking::Report => None,
        };
        if restored.is_some_and(|restored| restored.marked) {
            let again = store.registry().health_check_all(store.id()).await;
            health = again.into_iter().find(|other| other.id == health.id).unwrap_or(health);
        }
        checks.push(describe(store, health, restored).await?);
    }
    Ok(checks)
}

async fn describe(store: &Store, health: Health, restored: Option<Restored>) -> Result<BackendCheck> {
    let missing = || Error::new(ErrorKind::NotFound, format!("there is no backend {}", health.name));
    let registered = store.registry().get(health.id).ok_or_else(missing)?;
    let (state, mut problem) = match &health.reach {
        Reach::Ready => ("ready", None),
        Reach::WrongPlace(mark) => {
            ("wrong-place", Some(format!("it has the mark of backend {} of store {}", mark.backend, mark.store)))
        }
        Reach::Unreachable(error) => ("unreachable", Some(causes(error.as_ref()))),
        Reach::Unknown => ("unreachable", None),
    };
    let mut writable = None;
    // A verify-only key may not delete at a node what a probe leaves there.
    let is_node = matches!(BackendUrl::parse(&registered.url, store.dir()), Ok(BackendUrl::Node(_)));
    let may_clear = !is_node || store.held() == Held::Owner;
    if state == "ready" && !registered.read_only && may_clear {
        let probed = probe(store, &registered.name, &registered.backend).await;
        writable = Some(probed.is_ok());
        problem = probed.err().map(|error| causes(&error));
    }
    Ok(BackendCheck {
        name: health.name,
        url: registered.url.clone(),
        zone: registered.zone.to_string(),
        state,
        writable,
        latency_ms: u64::try_from(health.latency.as_millis()).unwrap_or(u64::MAX),
        used: health.stats.map(|stats| stats.used_bytes),
        shards: health.stats.map(|stats| stats.shard_count),
        free: health.stats.and_then(|stats| stats.free_bytes),
        // A node has a quota of its own, beside that of the settings: the lower one counts.
        quota: health.stats.map_or(registered.quota_bytes, |stats| stats.quota_bytes),
        marked: restored.is_some_and(|restored| restored.marked),
        known_looked_for: restored.map(|restored| restored.looked_for),
        known_found: restored.map(|restored| restored.found),
        problem,
    })
}

fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What looking for known shards on an unmarked place gave.
#[derive(Debug, Clone, Copy, Default)]
struct Restored {
    marked: bool,
    looked_for: u64,
    found: u64,
}

/// Writes the mark of a place that has none, once shards that the catalog records there are found there and none
/// contradicts it. That some are gone is what repair is for.
async fn restore_mark(store: &Store, health: &Health) -> Result<Option<Restored>> {
    let Some(registered) = store.registry().get(health.id) else { return Ok(None) };
    if !matches!(registered.backend.read_mark().await, Ok(None)) {
        return Ok(None);
    }
    let id = health.id;
    let known = store.look(move |catalog| catalog.shards_on(id, None, KNOWN_SHARDS_FOR_MARK)).await?;
    let (mut restored, mut contradicted) = (Restored::default(), false);
    for (object, shard) in &known {
        restored.looked_for += 1;
        if let Ok(bytes) = registered.backend.head(ShardId { object: *object, index: shard.index }).await {
            restored.found += u64::from(bytes == shard.bytes);
            contradicted |= bytes != shard.bytes;
        }
    }
    if restored.found > 0 && !contradicted {
        registered.backend.write_mark(&Mark { store: store.id(), backend: id }).await?;
        restored.marked = true;
    }
    Ok(Some(restored))
}

/// A backend as the settings and the catalog have it.
#[derive(Debug, Clone, Serialize)]
pub struct ListedBackend {
    /// Its name.
    pub name: String,
    /// Its address.
    pub url: String,
    /// What fails together with it.
    pub zone: String,
    /// The most bytes it may hold.
    pub quota: Option<u64>,
    /// Bytes of the shards that the catalog records there.
    pub used: u64,
    /// How many shards the catalog records there.
    pub shards: u64,
    /// Where its credentials come from; never what they are.
    pub credentials: Option<String>,
    /// `active`, `draining` or `read-only`.
    pub state: &'static str,
}

/// The backends as the settings and the catalog have them; none is contacted.
pub async fn list_backends(store: &Store) -> Result<Vec<ListedBackend>> {
    let used = store.look(|catalog| catalog.used_by_backend()).await?;
    let listed = store.config().backends.iter().zip(store.registry().iter()).map(|(spec, registered)| {
        let (shards, bytes) = used.get(&spec.id).copied().unwrap_or_default();
        ListedBackend {
            name: spec.name.clone(),
            url: spec.url.clone(),
            zone: registered.zone.to_string(),
            quota: spec.quota,
            used: bytes,
            shards,
            credentials: credentials(spec),
            state: match (registered.draining, spec.read_only) {
                (true, _) => "draining",
                (_, true) => "read-only",
                _ => "active",
            },
        }
    });
    Ok(listed.collect())
}

fn credentials(spec: &BackendSpec) -> Option<String> {
    let from_profile = spec.profile.as_ref().map(|profile| format!("profile {profile}"));
    let from_file = spec.credentials_file.as_ref().map(|path| format!("file {}", path.display()));
    let by_default = match spec.url.split_once("://").map(|(scheme, _)| scheme) {
        None | Some("file") => None,
        Some("node" | "node+ws") => Some("seed of the group"),
        Some(_) => Some("environment"),
    };
    from_profile.or(from_file).or_else(|| by_default.map(str::to_owned))
}

/// Whether a backend is given up although shards are recorded there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removing {
    /// Only an empty one.
    Empty,
    /// Whatever is there: its shards count as missing from now on, and `repair` makes them anew elsewhere.
    Forced,
}

/// Takes a backend out of the settings. Nothing on it is touched.
///
/// What the catalog still has of a backend that is not in the settings any more is given up by its id: a removal or an
/// older catalog may name such a one.
pub async fn remove_backend(store: &Store, name: &str, removing: Removing) -> Result<()> {
    let unknown = || Error::new(ErrorKind::NotFound, format!("there is no backend {name}"));
    let registered = store.registry().by_name(name);
    let id = match registered {
        Some(registered) => registered.id,
        None => name.parse().ok().filter(|id| store.registry().get(*id).is_none()).ok_or_else(unknown)?,
    };
    let known = store.look(move |catalog| Ok((catalog.used_by_backend()?, catalog.pending_deletes_on(id)?)));
    let (used, waiting) = known.await?;
    let shards = used.get(&id).map_or(0, |(shards, _)| *shards);
    if registered.is_none() && (shards, waiting) == (0, 0) {
        return Err(unknown());
    }
    if removing == Removing::Empty && (shards, waiting) != (0, 0) {
        let doing = match (shards, waiting) {
            (0, 1) => format!("1 shard on backend {name} waits to be deleted"),
            (0, many) => format!("{many} shards on backend {name} wait to be deleted"),
            (1, _) => format!("backend {name} still holds 1 shard"),
            (many, _) => format!("backend {name} still holds {many} shards"),
        };
        let hint = match registered {
            Some(_) => format!("shard backend drain {name}"),
            None => format!("it is not in the settings: `shard backend remove --force {name}` gives up what is there"),
        };
        return Err(Error::new(ErrorKind::Refused, doing).with_hint(hint));
    }
    if registered.is_some() {
        config::edit(&store.config_path(), |config: &mut Config| {
            config.backends.retain(|backend| backend.name != name);
            Ok::<_, config::Error>(())
        })?;
    }
    // Nobody will delete there any more: what waits is ticked off, so that removals come to their end.
    store.catalog(move |catalog| catalog.give_up_deletes_on(id)).await?;
    forget_shards(store, id).await
}

async fn forget_shards(store: &Store, id: BackendId) -> Result<()> {
    loop {
        let page = store.look(move |catalog| catalog.shards_on(id, None, backend::LIST_PAGE_SHARDS)).await?;
        if page.is_empty() {
            return Ok(());
        }
        store
            .catalog(move |catalog| {
                page.iter().try_for_each(|(object, shard)| catalog.drop_shard(*object, shard.index, id))
            })
            .await?;
    }
}
