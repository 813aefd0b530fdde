//! Machines: a store's folder each, and one process after another that opens it, does one thing, and ends or dies.

use super::place::{Crash, World};
use crate::soak::Dice;
use crate::world::backend_name;
use shard::backend::{Backend, BackendSpec, Mark, RetryBackend, RetryOptions};
use shard::id::{BackendId, Geometry, RedundancyLevel};
use shard::store::config::Config;
use shard::store::{
    CATALOG_NAME, CONFIG_NAME, InitOptions, KEY_NAME, MissingCatalog, OpenOptions, Randomness, Store, WallClock,
};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use tempfile::TempDir;

/// The key of every simulated store: with one of its own, no run could be had again to the last byte.
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/golden/master.key");
/// What a catalog consists of.
const CATALOG_SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

/// How a process ended.
#[derive(Debug)]
pub(super) enum Ended<T> {
    ByItself(shard::Result<T>),
    Died,
}

/// A store that nothing was done with, to be copied.
#[derive(Debug, Clone)]
pub(super) struct Blank {
    dir: Arc<TempDir>,
    pub(super) marks: Vec<Mark>,
}

/// Blank stores, by k, n and how many places they have.
type Blanks = BTreeMap<(usize, usize, usize), Blank>;

/// Where folders are made: in memory, where this machine has such a place.
pub(super) fn scratch() -> TempDir {
    let shared = Path::new("/dev/shm");
    let made = if shared.is_dir() { tempfile::tempdir_in(shared) } else { tempfile::tempdir() };
    made.or_else(|_| tempfile::tempdir()).expect("a folder")
}

impl Blank {
    /// A store of so many places; made once, for each number of them and each geometry.
    pub(super) fn of(geometry: Geometry, places: usize) -> Self {
        static MADE: OnceLock<Mutex<Blanks>> = OnceLock::new();
        let key = (geometry.data_shards(), geometry.total_shards(), places);
        let mut made = MADE.get_or_init(Mutex::default).lock().expect("not poisoned");
        made.entry(key).or_insert_with(|| Self::make(geometry, places)).clone()
    }

    fn make(geometry: Geometry, places: usize) -> Self {
        let dir = scratch();
        let key = dir.path().join(KEY_NAME);
        fs::write(&key, fs::read(KEY).expect("the fixture")).expect("a key");
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("a mode");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let id = runtime.block_on(async {
            Store::init(dir.path(), InitOptions::bare()).await.expect("a store");
            Store::open(dir.path(), OpenOptions::default()).await.expect("it opens").id()
        });
        let specs = (1..=places).map(|number| BackendSpec {
            zone: Some(format!("zone-{number}")),
            ..BackendSpec::new(backend_name(number), BackendId([number as u8; 16]), format!("/simulated/{number}"))
        });
        let default_level = RedundancyLevel::of(geometry);
        let config = Config { default_level, backends: specs.collect(), ..Config::default() };
        fs::remove_file(dir.path().join(CONFIG_NAME)).expect("the settings");
        Config::create(&dir.path().join(CONFIG_NAME), &config).expect("settings");
        let marks = config.backends.iter().map(|spec| Mark { store: id, backend: spec.id }).collect();
        Self { dir: Arc::new(dir), marks }
    }
}

/// One machine.
pub(super) struct Machine {
    dir: PathBuf,
    clock: Arc<Mutex<i64>>,
    randomness: Arc<Mutex<Dice>>,
}

impl Machine {
    /// One with a copy of a blank store.
    pub(super) fn new(dir: PathBuf, blank: &Blank, seed: u64) -> Self {
        fs::create_dir_all(&dir).expect("a folder");
        for name in [KEY_NAME, CONFIG_NAME, CATALOG_NAME] {
            fs::copy(blank.dir.path().join(name), dir.join(name)).expect("copied");
        }
        Self { dir, clock: Arc::default(), randomness: Arc::new(Mutex::new(Dice::new(seed))) }
    }

    /// Its clock says something else from now on.
    pub(super) fn set_clock(&self, now_ns: i64) {
        *self.clock.lock().expect("not poisoned") = now_ns;
    }

    /// Nothing is left of its catalog.
    pub(super) fn lose_catalog(&self) {
        for suffix in CATALOG_SUFFIXES {
            let _ = fs::remove_file(self.catalog(suffix));
        }
    }

    fn catalog(&self, suffix: &str) -> PathBuf {
        self.dir.join(format!("{CATALOG_NAME}{suffix}"))
    }

    fn options(&self, world: &World, process: u64, missing_catalog: MissingCatalog) -> OpenOptions {
        let (clock, randomness, world) = (Arc::clone(&self.clock), Arc::clone(&self.randomness), world.clone());
        let wrapper = move |spec: &BackendSpec, _: Arc<dyn Backend>| -> Arc<dyn Backend> {
            let place = world.backend(usize::from(spec.id.0[0]) - 1, process);
            Arc::new(RetryBackend::new(place, spec.name.clone(), RetryOptions::default()).drawing_from(|| 0))
        };
        let fill = move |bytes: &mut [u8]| {
            let drawn = randomness.lock().expect("not poisoned").bytes(bytes.len());
            bytes.copy_from_slice(&drawn);
            Ok(())
        };
        OpenOptions {
            wrapper: Some(Arc::new(wrapper)),
            missing_catalog,
            clock: WallClock::new(move || *clock.lock().expect("not poisoned")),
            randomness: Randomness::new(fill),
            ..OpenOptions::default()
        }
    }

    /// A process that opens the store, does something with it, and ends; or dies on the way. Its catalog is then as it was
    /// at that moment, and all that it held stays held by somebody who is no more.
    pub(super) fn run<T>(
        &self,
        world: &World,
        (crash, missing): (Option<Crash>, MissingCatalog),
        work: impl AsyncFnOnce(&mut Store) -> shard::Result<T>,
    ) -> Ended<T> {
        let (process, died) = world.begin_process(crash);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .max_blocking_threads(1)
            .build()
            .expect("a runtime");
        let options = self.options(world, process, missing);
        let ended = runtime.block_on(async {
            let whole = async {
                let mut store = Store::open(&self.dir, options).await?;
                work(&mut store).await
            };
            tokio::pin!(whole);
            tokio::select! {
                biased;
                () = died.notified() => Err(self.copy_catalog().await),
                outcome = &mut whole => Ok(outcome),
            }
        });
        world.end_process();
        drop(runtime);
        match ended {
            Ok(outcome) => Ended::ByItself(outcome),
            Err(files) => {
                self.lose_catalog();
                files.into_iter().for_each(|(suffix, bytes)| fs::write(self.catalog(suffix), bytes).expect("written"));
                Ended::Died
            }
        }
    }

    /// The one thread that changes the catalog makes the copy: nothing changes it meanwhile.
    async fn copy_catalog(&self) -> Vec<(&'static str, Vec<u8>)> {
        let paths: Vec<_> = ["", "-wal"].into_iter().map(|suffix| (suffix, self.catalog(suffix))).collect();
        let read = move || {
            let file = |(suffix, path): (&'static str, PathBuf)| Some((suffix, fs::read(path).ok()?));
            paths.into_iter().filter_map(file).collect()
        };
        tokio::task::spawn_blocking(read).await.expect("it ends")
    }
}
