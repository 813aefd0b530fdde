//! A store: what one machine needs to use its backends.
//!
//! *What it is.* [`Store`] holds the settings, the master keys (or a key that can do less), the catalog and the registry of backends, and a lock that
//! says this process is alive. Making one ([`Store::init`]) and opening one ([`Store::open`]) are here; operations are not.
//!
//! *What it knows.* Which files a store has and in which order they are made.
//!
//! *What it does not know.* What is done with it: no operation, no flags, no printing.
//!
//! *Invariants.* A store exists from the moment its settings do; they are written last. The key is readable by its owner
//! alone or it is not used. Everything in a store but the key can be made again from the key and the backends.
//!
//! ```text
//! config.toml   settings, for people        master.key   all keys, mode 0600, under a passphrase where wanted
//! catalog.db    what is where               run/         one locked file for each live process
//! vaults/       dictionaries, sealed or not       seeds, pins  how nodes are called, and their keys
//! notices.json  what nodes said
//! backends/     the five default folders of a store that was not told where to put things
//! ```

mod catalog_file;
pub mod config;
mod held;
mod init;
mod key;
pub mod keys;
mod lease;
mod outside;
mod recipient;
mod staged;
pub mod vaults;

pub use held::Held;
pub use init::{DEFAULT_BACKEND_COUNT, FirstBackends, InitOptions};
pub use key::{BroughtKey, BroughtKeys, PASSPHRASE_HINT, PassphraseSource, load as load_key};
pub use lease::Lease;
pub use outside::{Randomness, WallClock};
pub use recipient::load_recipient;

use crate::backend::{self, Backend, BackendRegistry, BackendSpec, Environment, RegisteredBackend};
use crate::catalog::{self, Catalog, JournalEntry, ProcessLock};
use crate::crypto::{AccessKeys, Keyring, LimitedKey, MasterKey, RecipientKey, Signer};
use crate::error::{Error, ErrorKind, Result};
use crate::format::ObjectKind;
use crate::id::{Digest, ObjectId, ProcessId, StoreId, VersionId, WriterId};
use config::Config;
use key::{HeldKey, OpenedKey};
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The settings' file name.
pub const CONFIG_NAME: &str = "config.toml";
/// The key's file name.
pub const KEY_NAME: &str = "master.key";
/// The catalog's file name.
pub const CATALOG_NAME: &str = "catalog.db";
/// The folder of the processes' locks.
const RUN_NAME: &str = "run";

/// So many puts of one open store are under way at once; others wait. Each holds a few stripes of at most 4 MiB, so that a
/// thousand that are begun at once take no more memory than these.
pub const PUTS_AT_ONCE: usize = 8;

/// Stands in for, or wraps, the backend that a setting describes.
pub type BackendWrapper = Arc<dyn Fn(&BackendSpec, Arc<dyn Backend>) -> Arc<dyn Backend> + Send + Sync>;

/// Whether the backends are looked at when a store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Contact {
    /// Every mark is read; after that each backend is known to be reachable or not.
    #[default]
    Backends,
    /// Nothing leaves this machine: enough for whatever reads the catalog only.
    Nobody,
}

/// What happens when there are settings and a key but no catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MissingCatalog {
    /// Opening fails, and says how to make it again.
    #[default]
    Refuse,
    /// An empty one is made, also in the place of one that is damaged, which is kept under another name; whoever asks
    /// for this fills it from the backends.
    Create,
}

/// How a store is opened.
#[derive(Clone, Default)]
pub struct OpenOptions {
    /// Variables and home folder that credentials are looked up in.
    pub environment: Environment,
    /// Whether the backends are looked at.
    pub contact: Contact,
    /// What happens when there is no catalog.
    pub missing_catalog: MissingCatalog,
    /// What is asked for the passphrase, where the key is under one; without it such a store does not open.
    pub passphrase: Option<PassphraseSource>,
    /// Wraps each backend; for tests, and for programs that bring their own.
    pub wrapper: Option<BackendWrapper>,
    /// What time it is.
    pub clock: WallClock,
    /// Where random bytes come from.
    pub randomness: Randomness,
}

impl fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenOptions").field("contact", &self.contact).finish_non_exhaustive()
    }
}

/// A store that is open. Cheap to share behind an `Arc`; every operation takes `&Store`.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    id: StoreId,
    key_has_passphrase: bool,
    held: Held,
    access: Arc<AccessKeys>,
    signer: Option<Signer>,
    recipient: Option<Arc<RecipientKey>>,
    config: Config,
    environment: Environment,
    registry: BackendRegistry,
    catalog: Arc<Mutex<Catalog>>,
    process: Arc<ProcessLock>,
    set_aside: Option<PathBuf>,
    own_leases: lease::OwnLeases,
    clock: WallClock,
    randomness: Randomness,
    put_slots: Semaphore,
}

impl Store {
    /// Opens the store in a folder.
    ///
    /// [`ErrorKind::NoStore`] when there is none, [`ErrorKind::WrongKey`] when key and catalog are not of one store or the
    /// passphrase does not open the key, [`ErrorKind::Damaged`] when one of its files is damaged or missing.
    pub async fn open(dir: &Path, mut options: OpenOptions) -> Result<Self> {
        let config = load_config(dir)?;
        // Whoever made it may have been stopped after its settings and before its end: it would never be missed again.
        init::made(dir);
        let held = open_key(dir, options.passphrase.clone()).await?;
        options.environment.nodes = held.nodes(&options.environment.nodes, dir)?;
        let catalog_key = Arc::new(held.catalog_key());
        let (catalog, set_aside) = match options.missing_catalog {
            MissingCatalog::Refuse => (catalog_file::open(dir, catalog_key)?, None),
            MissingCatalog::Create => catalog_file::open_or_make(dir, &catalog_key)?,
        };
        let registry = open_registry(dir, &config, &options)?;
        let process = ProcessId(options.randomness.bytes()?);
        let run_dir = dir.join(RUN_NAME);
        let process = ProcessLock::acquire(&run_dir, process)
            .map_err(|error| Error::local(format!("cannot lock a file in {}", run_dir.display()), error))?;
        let journals = catalog.journals()?;
        let named: BTreeSet<ProcessId> = journals.iter().map(|entry| entry.process).collect();
        // What cannot be cleared now is in nobody's way.
        let _ = catalog::clear_dead(&run_dir, &named);
        let mut store = Self::assemble(dir, held, config, (catalog, process));
        store.set_aside = set_aside;
        store.registry = registry;
        store.environment = options.environment;
        (store.clock, store.randomness) = (options.clock, options.randomness);
        if options.contact == Contact::Backends {
            store.registry.connect(store.id).await;
        }
        Ok(store)
    }

    fn assemble(dir: &Path, held: HeldKey, config: Config, (catalog, process): (Catalog, ProcessLock)) -> Self {
        let held_by = match &held {
            HeldKey::Owner(_) => Held::Owner,
            HeldKey::Limited(key) => Held::by(key),
        };
        let (mut signer, mut recipient, mut key_has_passphrase) = (None, None, false);
        let access = match held {
            HeldKey::Owner(OpenedKey { keyring, passphrase }) => {
                signer = Some(keyring.signer());
                recipient = Some(Arc::new(keyring.current().recipient(keyring.store_id())));
                key_has_passphrase = passphrase.is_some();
                AccessKeys::to_open(keyring)
            }
            HeldKey::Limited(LimitedKey::Write(key)) => {
                signer = Some(key.signer());
                recipient = Some(Arc::new(key.recipient().clone()));
                AccessKeys::to_check(key.store_id())
            }
            HeldKey::Limited(LimitedKey::Verify(key)) => AccessKeys::to_check(key.store_id()),
        };
        Self {
            dir: dir.to_owned(),
            id: access.store_id(),
            held: held_by,
            signer,
            recipient,
            key_has_passphrase,
            access: Arc::new(access),
            config,
            environment: Environment::default(),
            registry: BackendRegistry::default(),
            catalog: Arc::new(Mutex::new(catalog)),
            process: Arc::new(process),
            set_aside: None,
            own_leases: lease::OwnLeases::default(),
            clock: WallClock::default(),
            randomness: Randomness::default(),
            put_slots: Semaphore::new(PUTS_AT_ONCE),
        }
    }

    /// The folder it is in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Which store it is.
    pub fn id(&self) -> StoreId {
        self.id
    }

    /// Whose signatures are trusted, and what opens what is sealed.
    pub fn access(&self) -> &Arc<AccessKeys> {
        &self.access
    }

    /// What this machine has of the store's keys.
    pub fn held(&self) -> Held {
        self.held
    }

    /// Whether the key file is under a passphrase.
    pub fn key_has_passphrase(&self) -> bool {
        self.key_has_passphrase
    }

    /// The master key that seals what is new; [`ErrorKind::WrongKey`] on a machine that has none.
    pub fn sealing_key(&self) -> Result<&MasterKey> {
        self.access.keyring().map(Keyring::current).ok_or_else(|| self.held.refusal())
    }

    /// The public half of the master key in use; [`ErrorKind::WrongKey`] on a machine that stores nothing.
    pub fn recipient(&self) -> Result<&Arc<RecipientKey>> {
        self.recipient.as_ref().ok_or_else(|| self.held.refusal())
    }

    /// Which master key is in use, as far as this machine knows.
    pub fn key_id(&self) -> Option<Digest> {
        self.recipient.as_ref().map(|recipient| recipient.key_id())
    }

    /// What signs objects of this kind; [`ErrorKind::WrongKey`] on a machine that may not make such objects.
    pub fn signer(&self, kind: ObjectKind) -> Result<&Signer> {
        let may = self.held == Held::Owner || kind == ObjectKind::Data;
        self.signer.as_ref().filter(|_| may).ok_or_else(|| self.held.refusal())
    }

    /// What this machine is called in the ids that it gives; `None` where it gives them for the owner.
    pub fn writer(&self) -> Option<WriterId> {
        let signer = self.signer.as_ref().filter(|_| self.held == Held::WriteOnly);
        signer.map(|signer| signer.public_key().writer_id())
    }

    /// An id that no object ever had.
    pub fn new_object_id(&self) -> Result<ObjectId> {
        Ok(ObjectId::given_by(self.writer(), self.randomness.bytes()?))
    }

    /// An id that no version ever had.
    pub fn new_version_id(&self) -> Result<VersionId> {
        Ok(VersionId::given_by(self.writer(), self.randomness.bytes()?))
    }

    /// Its settings as they were when it was opened.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Where its settings are.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join(CONFIG_NAME)
    }

    /// Variables and home folder that credentials are looked up in.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Where the catalog is kept that was damaged when the store was opened, and made anew.
    pub fn set_aside(&self) -> Option<&Path> {
        self.set_aside.as_deref()
    }

    /// Its backends.
    pub fn registry(&self) -> &BackendRegistry {
        &self.registry
    }

    /// This process, as journal and leases name it.
    pub fn process(&self) -> ProcessId {
        self.process.id()
    }

    /// This process, for a journal to name: from here on its lock file is on the disk, so that whoever comes after a power
    /// loss knows that it died here, and clears up after it.
    pub async fn lasting_process(&self) -> Result<ProcessId> {
        let process = Arc::clone(&self.process);
        let failed = |error| Error::local("cannot put this process's lock file on the disk", error);
        let lasting = tokio::task::spawn_blocking(move || process.make_lasting()).await;
        lasting.map_err(io::Error::other).flatten().map_err(failed)?;
        Ok(self.process())
    }

    /// Whether another process that a journal or lease names is at work still.
    pub fn process_is_alive(&self, process: ProcessId) -> bool {
        process == self.process() || catalog::is_alive(&self.dir.join(RUN_NAME), process)
    }

    /// Whether a process that a journal names ran here and is no more. Where this cannot be proved, the journal may be
    /// in a catalog that was brought here, or back, from elsewhere: what it says may be long over.
    pub fn process_died_here(&self, process: ProcessId) -> bool {
        process != self.process() && catalog::died_here(&self.dir.join(RUN_NAME), process)
    }

    /// Changes the catalog, off the reactor. Each of its methods is a transaction of its own: between two of them other
    /// processes may change what the first one saw ([`Store::look`] is for who only asks).
    pub async fn catalog<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&mut Catalog) -> catalog::Result<T> + Send + 'static,
    {
        let catalog = Arc::clone(&self.catalog);
        let run = move || work(&mut catalog.lock().unwrap_or_else(PoisonError::into_inner));
        match tokio::task::spawn_blocking(run).await {
            Ok(outcome) => outcome.map_err(Error::from),
            Err(error) => Err(Error::new(ErrorKind::Damaged, "the catalog stopped in the middle").with_source(error)),
        }
    }

    /// Asks the catalog, off the reactor: all that is asked in one go is of one state of it, whatever other processes
    /// change meanwhile.
    pub async fn look<T, F>(&self, questions: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Catalog) -> catalog::Result<T> + Send + 'static,
    {
        self.catalog(move |catalog| catalog.consistently(questions)).await
    }

    /// Takes a lease on something that must not be done twice at once; waits for it a while, then says busy.
    pub async fn lease(&self, resource: &str) -> Result<Lease> {
        let run_dir = self.dir.join(RUN_NAME);
        Lease::take(Arc::clone(&self.catalog), &self.own_leases, resource, (self.process(), run_dir)).await
    }

    /// The turn of a put: waits until fewer than [`PUTS_AT_ONCE`] are under way.
    pub async fn put_slot(&self) -> SemaphorePermit<'_> {
        self.put_slots.acquire().await.expect("it is never closed")
    }

    /// Fills a secret from the random source, in place: no copy is made.
    pub fn fill_secret(&self, secret: &mut [u8]) -> Result<()> {
        self.randomness.fill(secret)
    }

    /// Bytes from the random source, for what is no secret: an id.
    pub fn random_bytes<const N: usize>(&self) -> Result<[u8; N]> {
        self.randomness.bytes()
    }

    /// Now, in nanoseconds since 1970-01-01T00:00:00Z. For people; nothing is decided by it.
    pub fn now_ns(&self) -> i64 {
        self.clock.now_ns()
    }

    /// Marks a backend as one that takes no new shards, or takes the mark away; `false` when there is no such backend.
    pub fn set_draining(&mut self, name: &str, draining: Draining) -> Result<bool> {
        let drains = draining == Draining::Yes;
        let found = config::edit(&self.config_path(), |config: &mut Config| {
            let backend = config.backends.iter_mut().find(|backend| backend.name == name);
            Ok::<_, config::Error>(backend.map(|backend| backend.draining = drains).is_some())
        })?;
        self.registry.set_draining(name, drains);
        Ok(found)
    }
}

impl Drop for Store {
    /// The process's lock file goes unless the journal names it still: then whoever clears up needs it.
    fn drop(&mut self) {
        let catalog = self.catalog.lock().unwrap_or_else(PoisonError::into_inner);
        let is_named = |entry: &JournalEntry| entry.process == self.process.id();
        if catalog.journals().is_ok_and(|journals| !journals.iter().any(is_named)) {
            self.process.retire();
        }
    }
}

/// Whether a backend is being emptied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draining {
    /// It takes no new shards.
    Yes,
    /// It is a backend like any other.
    No,
}

impl From<config::Error> for Error {
    fn from(error: config::Error) -> Self {
        let kind = match &error {
            config::Error::Missing { .. } => ErrorKind::NoStore,
            config::Error::Busy { .. } => ErrorKind::Busy,
            config::Error::Content { .. } => ErrorKind::Invalid,
            _ => ErrorKind::Local,
        };
        Self::new(kind, "the settings could not be used").with_source(error)
    }
}

/// From the system's source, where no store is open yet.
fn random_bytes<const N: usize>() -> Result<[u8; N]> {
    Randomness::default().bytes()
}

fn fill_random(bytes: &mut [u8]) -> Result<()> {
    Randomness::default().fill(bytes)
}

/// Opens the key off the reactor: a person may be asked, and a passphrase takes its time.
async fn open_key(dir: &Path, passphrase: Option<PassphraseSource>) -> Result<HeldKey> {
    let path = dir.join(KEY_NAME);
    let open = move || {
        key::clear_unfinished(&path);
        key::open_held(&path, passphrase.as_ref())
    };
    let opened = tokio::task::spawn_blocking(open).await;
    opened.map_err(|error| Error::new(ErrorKind::Local, "the key was not opened").with_source(error))?
}

fn load_config(dir: &Path) -> Result<Config> {
    match Config::load(&dir.join(CONFIG_NAME)) {
        Ok(config) => Ok(config),
        Err(config::Error::Missing { .. }) if init::is_beheaded(dir) => {
            Err(Error::new(ErrorKind::Damaged, format!("the store in {} has lost its {CONFIG_NAME}", dir.display()))
                .with_hint(init::RESTORE_HINT))
        }
        Err(config::Error::Missing { .. }) => {
            Err(Error::new(ErrorKind::NoStore, format!("there is no store in {}", dir.display()))
                .with_hint("make one with `shard init`, or name another with --store"))
        }
        Err(error) => Err(error.into()),
    }
}

fn open_registry(dir: &Path, config: &Config, options: &OpenOptions) -> Result<BackendRegistry> {
    let mut registry = BackendRegistry::default();
    for spec in &config.backends {
        let plain = backend::open(spec, &options.environment, dir)?;
        let backend = match &options.wrapper {
            Some(wrap) => wrap(spec, plain),
            None => plain,
        };
        registry.register(RegisteredBackend::from_spec(spec, backend, dir)?)?;
    }
    Ok(registry)
}
