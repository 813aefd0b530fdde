//! The backends a store uses, in the order in which they were registered, and how each is doing.

use super::placement::Candidate;
use super::{Backend, BackendStats, Error, ErrorKind, Mark, Result, Zone};
use crate::id::{BackendId, StoreId};
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Reading one mark takes no longer, so that one dead server does not hold up a whole command.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// A health check of one backend takes no longer, counting included.
pub const HEALTH_TIMEOUT: Duration = Duration::from_secs(60);

/// A backend and what the store knows of it.
#[derive(Debug, Clone)]
pub struct RegisteredBackend {
    /// What its mark, the catalog and removal records call it.
    pub id: BackendId,
    /// What a person calls it.
    pub name: String,
    /// What fails together with it.
    pub zone: Zone,
    /// The place itself.
    pub backend: Arc<dyn Backend>,
    /// It takes no new shards.
    pub read_only: bool,
    /// It takes no new shards, and those it has are to be moved away.
    pub draining: bool,
    /// What it holds is gone when the process ends: it counts for no margin.
    pub volatile: bool,
    /// The most bytes of shards it takes.
    pub quota: Option<u64>,
}

impl RegisteredBackend {
    /// A backend of its own zone (named after it) that takes shards and keeps them.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`] when the name is not one a zone can have.
    pub fn new(id: BackendId, name: impl Into<String>, backend: Arc<dyn Backend>) -> Result<Self> {
        let name = name.into();
        let zone = Zone::new(name.clone())
            .map_err(|source| Error::with_source(ErrorKind::Settings, format!("naming a backend {name:?}"), source))?;
        Ok(Self { id, name, zone, backend, read_only: false, draining: false, volatile: false, quota: None })
    }
}

/// What the last [`BackendRegistry::connect`] found.
#[derive(Debug, Clone)]
pub enum BackendState {
    /// It was not asked yet: it is taken at its word.
    Unasked,
    /// It answers and is the right place.
    Ready,
    /// It does not answer, or has no mark: an unmounted disk is not an empty one.
    Unreachable(Arc<Error>),
    /// It is the place of another backend or another store.
    WrongPlace(Mark),
    /// It failed a write in this run: full, read-only, broken. What it has may still be read.
    Refusing(Arc<Error>),
}

impl BackendState {
    /// Whether it may be read from and asked what it has.
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Ready | Self::Unasked | Self::Refusing(_))
    }

    /// Whether new shards may be tried on it.
    pub fn takes_shards(&self) -> bool {
        matches!(self, Self::Ready | Self::Unasked)
    }
}

/// How a backend is, asked just now.
#[derive(Debug, Clone)]
pub struct Health {
    /// Which backend.
    pub id: BackendId,
    /// What a person calls it.
    pub name: String,
    /// Its zone.
    pub zone: Zone,
    /// Whether it answers and is the right place.
    pub state: BackendState,
    /// How long it took to read the mark; `None` when it did not answer.
    pub latency: Option<Duration>,
    /// How much is there and how much more fits; `None` when it could not say.
    pub stats: Option<BackendStats>,
}

/// The backends of a store, in order.
#[derive(Debug, Clone, Default)]
pub struct BackendRegistry {
    backends: Vec<RegisteredBackend>,
    states: Vec<BackendState>,
    store: Option<StoreId>,
}

impl BackendRegistry {
    /// Without any.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one behind the others.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`] when its id or its name is taken.
    pub fn register(&mut self, backend: RegisteredBackend) -> Result<()> {
        if let Some(taken) = self.backends.iter().find(|other| other.id == backend.id || other.name == backend.name) {
            let doing = format!("registering backend {:?} ({})", backend.name, backend.id);
            let why = format!("the name or the id is that of {:?} ({})", taken.name, taken.id);
            return Err(Error::with_source(ErrorKind::Settings, doing, why));
        }
        self.backends.push(backend);
        self.states.push(BackendState::Unasked);
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.backends.len()
    }

    /// Whether there are none.
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

    /// The one at this place in the order, as placement numbers them.
    pub fn at(&self, index: usize) -> Option<&RegisteredBackend> {
        self.backends.get(index)
    }

    /// Where in the order the one with this id is.
    pub fn index_of(&self, id: BackendId) -> Option<usize> {
        self.backends.iter().position(|backend| backend.id == id)
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &RegisteredBackend> {
        self.backends.iter()
    }

    /// What the last [`Self::connect`] or [`Self::note_failed_write`] found of one.
    pub fn state(&self, id: BackendId) -> Option<&BackendState> {
        self.index_of(id).and_then(|index| self.states.get(index))
    }

    /// Those that can be read from and asked what they have.
    pub fn usable(&self) -> impl Iterator<Item = &RegisteredBackend> {
        self.backends.iter().zip(&self.states).filter(|(_, state)| state.is_usable()).map(|(backend, _)| backend)
    }

    /// Reads every mark, all at once, and remembers who answers and is the right place.
    ///
    /// A volatile backend without a mark is at its beginning, and ready.
    pub async fn connect(&mut self, store: StoreId) {
        self.store = Some(store);
        let asked = self.backends.iter().map(|backend| ask(backend, self.store));
        self.states = join_all(asked).await;
    }

    /// Remembers that a backend failed a write, so that nothing more is placed on it before the next [`Self::connect`]:
    /// unless the failure is about one shard alone. One that does not answer is not read from either.
    pub fn note_failed_write(&mut self, id: BackendId, error: Arc<Error>) {
        let state = match error.kind {
            ErrorKind::NotFound | ErrorKind::AlreadyExists | ErrorKind::OutOfRange => return,
            ErrorKind::Unreachable | ErrorKind::Transient => BackendState::Unreachable(error),
            ErrorKind::NoSpace | ErrorKind::ReadOnly | ErrorKind::Denied | ErrorKind::Failed | ErrorKind::Settings => {
                BackendState::Refusing(error)
            }
        };
        if let Some(known) = self.index_of(id).and_then(|index| self.states.get_mut(index)) {
            *known = state;
        }
    }

    /// Asks every backend how it is, all at once, each within [`HEALTH_TIMEOUT`]. What [`Self::connect`] remembers stays.
    pub async fn health_check_all(&self) -> Vec<Health> {
        join_all(self.backends.iter().map(|backend| check(backend, self.store))).await
    }

    /// Those that take new shards: ready, not read-only, not draining.
    pub fn eligible(&self) -> impl Iterator<Item = &RegisteredBackend> {
        self.backends
            .iter()
            .zip(&self.states)
            .filter(|(backend, state)| is_eligible(backend, state))
            .map(|(backend, _)| backend)
    }

    /// All as placement sees them, in order.
    pub fn candidates(&self) -> Vec<Candidate> {
        let candidate = |(backend, state): (&RegisteredBackend, &BackendState)| Candidate {
            zone: backend.zone.clone(),
            eligible: is_eligible(backend, state),
        };
        self.backends.iter().zip(&self.states).map(candidate).collect()
    }
}

fn is_eligible(backend: &RegisteredBackend, state: &BackendState) -> bool {
    state.takes_shards() && !backend.read_only && !backend.draining
}

async fn ask(backend: &RegisteredBackend, store: Option<StoreId>) -> BackendState {
    let unreachable = |error| BackendState::Unreachable(Arc::new(error));
    let doing = || format!("reading the mark of backend {:?}", backend.name);
    let found = match tokio::time::timeout(CONNECT_TIMEOUT, backend.backend.read_mark()).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return unreachable(error),
        Err(_) => {
            let why = format!("no answer within {CONNECT_TIMEOUT:?}");
            return unreachable(Error::with_source(ErrorKind::Unreachable, doing(), why));
        }
    };
    let Some(store) = store else { return BackendState::Ready };
    match found {
        Some(mark) if mark == (Mark { store, backend: backend.id }) => BackendState::Ready,
        Some(mark) => BackendState::WrongPlace(mark),
        None if backend.volatile => BackendState::Ready,
        None => {
            let why = "there is none: is the disk mounted, the bucket the right one?";
            unreachable(Error::with_source(ErrorKind::Unreachable, doing(), why))
        }
    }
}

async fn check(backend: &RegisteredBackend, store: Option<StoreId>) -> Health {
    let begun = Instant::now();
    let state = ask(backend, store).await;
    let answered = matches!(state, BackendState::Ready | BackendState::WrongPlace(_));
    let latency = answered.then(|| begun.elapsed());
    let stats = match state {
        BackendState::Ready => {
            let left = HEALTH_TIMEOUT.saturating_sub(begun.elapsed());
            let counted = tokio::time::timeout(left, backend.backend.stats()).await;
            counted.ok().and_then(Result::ok)
        }
        _ => None,
    };
    Health { id: backend.id, name: backend.name.clone(), zone: backend.zone.clone(), state, latency, stats }
}

#[cfg(test)]
mod tests {
    use super::super::{FaultyBackend, MemoryBackend, Operation};
    use super::*;

    const STORE: StoreId = StoreId([7; StoreId::BYTES]);

    fn id(byte: u8) -> BackendId {
        BackendId([byte; BackendId::BYTES])
    }

    fn registered(byte: u8, backend: Arc<dyn Backend>) -> RegisteredBackend {
        RegisteredBackend::new(id(byte), format!("backend-{byte}"), backend).expect("a backend")
    }

    async fn marked(byte: u8, mark: Mark) -> RegisteredBackend {
        let memory = MemoryBackend::new();
        memory.write_mark(&mark).await.expect("mark");
        registered(byte, Arc::new(memory))
    }

    async fn five_in_five_states() -> BackendRegistry {
        let dead = FaultyBackend::new(Arc::new(MemoryBackend::new()), 1);
        dead.go_dead();
        let mut registry = BackendRegistry::new();
        let volatile = RegisteredBackend { volatile: true, ..registered(5, Arc::new(MemoryBackend::new())) };
        for backend in [
            marked(1, Mark { store: STORE, backend: id(1) }).await,
            marked(2, Mark { store: STORE, backend: id(9) }).await,
            registered(3, Arc::new(MemoryBackend::new())),
            registered(4, Arc::new(dead)),
            volatile,
        ] {
            registry.register(backend).expect("registered");
        }
        registry
    }

    fn tell(state: &BackendState) -> &'static str {
        match state {
            BackendState::Unasked => "unasked",
            BackendState::Ready => "ready",
            BackendState::Unreachable(_) => "unreachable",
            BackendState::WrongPlace(_) => "wrong place",
            BackendState::Refusing(_) => "refusing",
        }
    }

    #[tokio::test]
    async fn connecting_tells_the_right_place_from_the_wrong_the_unmarked_and_the_dead() {
        let mut registry = five_in_five_states().await;
        assert_eq!(registry.eligible().count(), 5, "before it was asked");
        registry.connect(STORE).await;
        let states: Vec<_> = (1..6).map(|byte| tell(registry.state(id(byte)).expect("a state"))).collect();
        assert_eq!(states, ["ready", "wrong place", "unreachable", "unreachable", "ready"]);
        let eligible: Vec<_> = registry.eligible().map(|backend| backend.name.as_str()).collect();
        assert_eq!(eligible, ["backend-1", "backend-5"]);
        let candidates: Vec<_> = registry.candidates().iter().map(|candidate| candidate.eligible).collect();
        assert_eq!(candidates, [true, false, false, false, true]);
        let health = registry.health_check_all().await;
        let checked: Vec<_> = health.iter().map(|health| tell(&health.state)).collect();
        assert_eq!(checked, states);
        assert!(health.iter().all(|health| health.stats.is_some() == (tell(&health.state) == "ready")));
        assert!(health[1].latency.is_some() && health[3].latency.is_none());
    }

    #[tokio::test]
    async fn without_a_store_every_backend_that_answers_is_healthy() {
        let health = five_in_five_states().await.health_check_all().await;
        let states: Vec<_> = health.iter().map(|health| tell(&health.state)).collect();
        assert_eq!(states, ["ready", "ready", "ready", "unreachable", "ready"]);
    }

    #[tokio::test]
    async fn read_only_and_draining_backends_take_nothing_and_can_be_read() {
        let mut registry = BackendRegistry::new();
        let memory = || Arc::new(MemoryBackend::new());
        registry.register(RegisteredBackend { read_only: true, ..registered(1, memory()) }).expect("registered");
        registry.register(RegisteredBackend { draining: true, ..registered(2, memory()) }).expect("registered");
        assert_eq!((registry.eligible().count(), registry.usable().count()), (0, 2));
    }

    #[tokio::test]
    async fn what_failed_a_write_is_given_nothing_more_and_read_if_it_answers() {
        let cases = [
            (ErrorKind::NoSpace, "refusing"),
            (ErrorKind::Failed, "refusing"),
            (ErrorKind::Unreachable, "unreachable"),
            (ErrorKind::AlreadyExists, "unasked"),
        ];
        for (kind, state) in cases {
            let mut registry = BackendRegistry::new();
            registry.register(registered(1, Arc::new(MemoryBackend::new()))).expect("registered");
            registry.note_failed_write(id(1), Arc::new(Error::new(kind, "writing")));
            assert_eq!(tell(registry.state(id(1)).expect("a state")), state);
            assert_eq!(registry.eligible().count() == 1, state == "unasked");
            assert_eq!(registry.usable().count() == 1, state != "unreachable");
        }
    }

    #[tokio::test]
    async fn names_and_ids_are_taken_once() {
        let mut registry = BackendRegistry::new();
        registry.register(registered(1, Arc::new(MemoryBackend::new()))).expect("registered");
        let same_id = RegisteredBackend { name: "other".into(), ..registered(1, Arc::new(MemoryBackend::new())) };
        let same_name = RegisteredBackend { id: id(2), ..registered(1, Arc::new(MemoryBackend::new())) };
        for taken in [same_id, same_name] {
            assert_eq!(registry.register(taken).expect_err("taken").kind, ErrorKind::Settings);
        }
        assert_eq!(registry.len(), 1);
        assert_eq!(registry.by_name("backend-1").map(|backend| backend.id), Some(id(1)));
        assert_eq!(registry.index_of(id(1)), Some(0));
    }

    #[tokio::test]
    async fn marks_are_read_at_the_same_time() {
        let mut registry = BackendRegistry::new();
        let barrier = Arc::new(tokio::sync::Barrier::new(3));
        for byte in 1..4 {
            let backend = FaultyBackend::new(Arc::new(MemoryBackend::new()), 1);
            backend.wait_at(Operation::ReadMark, Arc::clone(&barrier));
            registry.register(registered(byte, Arc::new(backend))).expect("registered");
        }
        // One after another, the first would wait for ever for the others.
        let health = registry.health_check_all().await;
        assert!(health.iter().all(|health| health.latency.is_some()));
    }
}
