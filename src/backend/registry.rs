//! The backends that a store uses, in the order in which they were added, and what is known of each.

use super::placement::Candidate;
use super::{Backend, BackendSpec, BackendStats, Error, ErrorKind, Mark, Result, Zone, zone_of};
use crate::id::{BackendId, StoreId};
use futures_util::future::join_all;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Mutex;

/// How long a backend is waited for when it is asked for its mark or its health.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// What a backend said of its room is believed for so long: to find out, some places count all that they hold.
const ROOM_AGE: Duration = Duration::from_secs(60);

/// When a backend was asked for its room, and how many bytes it said; not knowing is an answer too.
type KnownRoom = Option<(Instant, Option<u64>)>;

/// Whether a backend can be used.
#[derive(Debug, Clone, Default)]
pub enum Reach {
    /// Nobody has looked.
    #[default]
    Unknown,
    /// It answered, and its mark is the right one.
    Ready,
    /// It did not answer, or has no mark where it should have one: an unmounted disk, a server that is down.
    Unreachable(Arc<Error>),
    /// It answered with the mark of another store or backend: a swapped disk.
    WrongPlace(Mark),
}

/// A backend with what the settings say of it.
#[derive(Debug, Clone)]
pub struct RegisteredBackend {
    /// What mark and catalog call it.
    pub id: BackendId,
    /// What people call it.
    pub name: String,
    /// Where it is, as the settings say; holds no secret.
    pub url: String,
    /// What fails together with it.
    pub zone: Zone,
    /// The place itself.
    pub backend: Arc<dyn Backend>,
    /// It is never written to.
    pub read_only: bool,
    /// It is being emptied and takes no new shards.
    pub draining: bool,
    /// It forgets everything when the process ends: it is given no shards, and what it holds counts for no quorum and no
    /// margin.
    pub volatile: bool,
    /// The most bytes it may hold.
    pub quota_bytes: Option<u64>,
    /// Whether it can be used.
    pub reach: Reach,
    /// How many bytes it said that it would take.
    pub(crate) room: Arc<Mutex<KnownRoom>>,
}

impl RegisteredBackend {
    /// A backend of one's own: writable, lasting, in the zone given.
    pub fn new(id: BackendId, name: impl Into<String>, zone: Zone, backend: Arc<dyn Backend>) -> Self {
        let name = name.into();
        Self {
            id,
            url: name.clone(),
            name,
            zone,
            backend,
            read_only: false,
            draining: false,
            volatile: false,
            quota_bytes: None,
            reach: Reach::Unknown,
            room: Arc::default(),
        }
    }

    /// What the settings describe, over the place that was opened for it.
    pub fn from_spec(spec: &BackendSpec, backend: Arc<dyn Backend>, base_dir: &Path) -> Result<Self> {
        // The zone of a folder that cannot be looked at now (an unmounted disk) matters to no placement.
        let zone = match zone_of(spec, base_dir) {
            Err(error) if error.kind != ErrorKind::Settings => Zone::of_host("unknown"),
            found => found?,
        };
        Ok(Self {
            url: spec.url.clone(),
            read_only: spec.read_only,
            draining: spec.draining,
            volatile: spec.url == "memory:",
            quota_bytes: spec.quota,
            ..Self::new(spec.id, spec.name.clone(), zone, backend)
        })
    }

    /// Whether it answered and is the right place.
    pub fn is_ready(&self) -> bool {
        matches!(self.reach, Reach::Ready)
    }

    /// Whether it may be given new shards; memory that goes with the process never is.
    pub fn is_eligible(&self) -> bool {
        self.is_ready() && self.is_meant_for_shards()
    }

    /// Whether it would be given new shards if it could be used now.
    pub fn is_meant_for_shards(&self) -> bool {
        !self.read_only && !self.draining && !self.volatile
    }

    /// Whether so many bytes more fit, as far as it can tell; one that does not say has room.
    pub async fn has_room_for(&self, bytes: u64) -> bool {
        let mut room = self.room.lock().await;
        let known = room.filter(|(when, _)| when.elapsed() < ROOM_AGE).map(|(_, free_bytes)| free_bytes);
        let free_bytes = match known {
            Some(free_bytes) => free_bytes,
            None => {
                let free_bytes = answer_of(&self.backend, |place| async move { place.room().await }).await.flatten();
                room.insert((Instant::now(), free_bytes)).1
            }
        };
        free_bytes.is_none_or(|free_bytes| bytes <= free_bytes)
    }

    async fn ask(&self, store: StoreId) -> Reach {
        let mark = Mark { store, backend: self.id };
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.backend.read_mark()).await;
        match answer.unwrap_or_else(|_| Err(self.unreachable("it did not answer in time"))) {
            Ok(Some(found)) if found == mark => Reach::Ready,
            Ok(Some(found)) => Reach::WrongPlace(found),
            Ok(None) if self.volatile => self.mark_memory(&mark).await,
            Ok(None) => Reach::Unreachable(Arc::new(self.unreachable("its mark is missing: it may not be mounted"))),
            Err(error) => Reach::Unreachable(Arc::new(error)),
        }
    }

    /// Memory is empty and unmarked whenever a process begins.
    async fn mark_memory(&self, mark: &Mark) -> Reach {
        match self.backend.write_mark(mark).await {
            Ok(()) => Reach::Ready,
            Err(error) => Reach::Unreachable(Arc::new(error)),
        }
    }

    fn unreachable(&self, why: &str) -> Error {
        Error::with_source(ErrorKind::Unreachable, format!("reading the mark of {} ({})", self.name, self.url), why)
    }
}

/// How a backend is.
#[derive(Debug, Clone)]
pub struct Health {
    /// Which backend.
    pub id: BackendId,
    /// Its name.
    pub name: String,
    /// Whether it can be used.
    pub reach: Reach,
    /// How long it took to say so.
    pub latency: Duration,
    /// How much is there, where it could be counted.
    pub stats: Option<BackendStats>,
}

/// The backends of a store, in the order in which they were added.
#[derive(Debug, Clone, Default)]
pub struct BackendRegistry {
    backends: Vec<RegisteredBackend>,
}

impl BackendRegistry {
    /// Adds a backend at the end; an error when its name or id is taken.
    pub fn register(&mut self, backend: RegisteredBackend) -> Result<()> {
        if self.backends.iter().any(|other| other.name == backend.name || other.id == backend.id) {
            let doing = format!("registering backend {}: its name or id is taken", backend.name);
            return Err(Error::new(ErrorKind::Settings, doing));
        }
        self.backends.push(backend);
        Ok(())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &RegisteredBackend> {
        self.backends.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.backends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.backends.is_empty()
    }

    /// The one with this id.
    pub fn get(&self, id: BackendId) -> Option<&RegisteredBackend> {
        self.backends.iter().find(|backend| backend.id == id)
    }

    /// The one with this name.
    pub fn by_name(&self, name: &str) -> Option<&RegisteredBackend> {
        self.backends.iter().find(|backend| backend.name == name)
    }

    /// Its position in registration order: what placement calls it.
    pub fn position(&self, id: BackendId) -> Option<usize> {
        self.backends.iter().position(|backend| backend.id == id)
    }

    /// The one at a position that placement named.
    pub fn at(&self, position: usize) -> Option<&RegisteredBackend> {
        self.backends.get(position)
    }

    /// All of them as placement sees them; those in `failed` are not eligible.
    pub fn candidates(&self, failed: &[BackendId]) -> Vec<Candidate> {
        let candidate = |backend: &RegisteredBackend| Candidate {
            zone: backend.zone.clone(),
            eligible: backend.is_eligible() && !failed.contains(&backend.id),
            lasting: !backend.volatile,
        };
        self.backends.iter().map(candidate).collect()
    }

    /// Marks one as draining or not.
    pub(crate) fn set_draining(&mut self, name: &str, draining: bool) {
        if let Some(backend) = self.backends.iter_mut().find(|backend| backend.name == name) {
            backend.draining = draining;
        }
    }

    /// Reads every mark at once; after that each backend is known to be ready or not.
    pub async fn connect(&mut self, store: StoreId) {
        let reaches = join_all(self.backends.iter().map(|backend| backend.ask(store))).await;
        self.backends.iter_mut().zip(reaches).for_each(|(backend, reach)| backend.reach = reach);
    }

    /// Takes every backend as the right one, without looking at marks: for programs that register places of their own.
    pub fn trust_all(&mut self) {
        self.backends.iter_mut().for_each(|backend| backend.reach = Reach::Ready);
    }

    /// Asks every backend, all at once, how it is.
    pub async fn health_check_all(&self, store: StoreId) -> Vec<Health> {
        join_all(self.backends.iter().map(|backend| health(backend, store))).await
    }
}

/// What a place answers in time to a question that may take it long.
///
/// It is asked by a task of its own, which goes on when nobody waits any more: a folder takes a call that is given up for
/// one that hangs, and then answers nothing else either.
async fn answer_of<T, F>(backend: &Arc<dyn Backend>, ask: impl FnOnce(Arc<dyn Backend>) -> F) -> Option<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let asked = tokio::spawn(ask(Arc::clone(backend)));
    tokio::time::timeout(ANSWER_TIMEOUT, asked).await.ok()?.ok()?.ok()
}

async fn health(backend: &RegisteredBackend, store: StoreId) -> Health {
    let begun = Instant::now();
    let reach = backend.ask(store).await;
    let latency = begun.elapsed();
    let stats = match &reach {
        Reach::Ready => answer_of(&backend.backend, |place| async move { place.stats().await }).await,
        _ => None,
    };
    Health { id: backend.id, name: backend.name.clone(), reach, latency, stats }
}
