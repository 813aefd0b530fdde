//! A store with backends in a temporary folder, which tests break in every way.

use crate::scratch;
use futures_util::TryStreamExt;
use shard::backend::{self, Backend, BackendSpec, Environment, FaultyBackend, Mark, MemoryBackend, shard_name};
use shard::catalog::{ObjectRecord, ShardRecord, VersionRecord};
use shard::format::{FileName, Manifest, ManifestBytes};
use shard::id::{BackendId, Geometry, ObjectId, ShardId};
use shard::ops::put::{PutOptions, PutReport, PutSource, put};
use shard::ops::reader::{ObjectReader, ShardPlace};
use shard::store::{CONFIG_NAME, InitOptions, OpenOptions, Store, config};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// Where a world keeps its shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// In folders, as a person would.
    InFolders,
    /// In memory that outlives an open store: for tests of much data.
    InMemory,
}

/// A store and its backends, numbered from 1, each in a zone of its own. Everything goes when it is dropped.
pub(crate) struct TestWorld {
    folder: TempDir,
    kept: Kept,
    backend_count: usize,
    memories: Arc<Mutex<BTreeMap<String, MemoryBackend>>>,
    faulty: Arc<Mutex<BTreeMap<String, FaultyBackend>>>,
}

impl TestWorld {
    /// A store with this many local backends.
    pub(crate) async fn new(backend_count: usize) -> Self {
        Self::with(backend_count, Kept::InFolders).await
    }

    /// A store with this many backends.
    pub(crate) async fn with(backend_count: usize, kept: Kept) -> Self {
        let folder = scratch::folder();
        let world = Self { folder, kept, backend_count, memories: Arc::default(), faulty: Arc::default() };
        Store::init(&world.store_dir(), InitOptions::bare()).await.expect("a store");
        let probe = Store::open(&world.store_dir(), OpenOptions::default()).await.expect("the store opens");
        for number in 1..=backend_count {
            fs::create_dir_all(world.backend_dir(number)).expect("a folder");
            world.add_backend(number, &probe).await;
        }
        world
    }

    async fn add_backend(&self, number: usize, store: &Store) {
        let id = BackendId([number as u8; 16]);
        let url = self.backend_dir(number).display().to_string();
        let spec =
            BackendSpec { zone: Some(format!("zone-{number}")), ..BackendSpec::new(backend_name(number), id, url) };
        let mark = Mark { store: store.id(), backend: id };
        let place: Arc<dyn Backend> = match self.kept {
            Kept::InFolders => backend::open(&spec, &Environment::default(), &self.store_dir()).expect("a backend"),
            Kept::InMemory => Arc::new(self.memory(&spec.name)),
        };
        place.write_mark(&mark).await.expect("a mark");
        let add = |config: &mut config::Config| {
            config.backends.push(spec);
            Ok::<_, config::Error>(())
        };
        config::edit(&self.store_dir().join(CONFIG_NAME), add).expect("the settings change");
    }

    fn memory(&self, name: &str) -> MemoryBackend {
        self.memories.lock().expect("not poisoned").entry(name.to_owned()).or_default().clone()
    }

    /// The store's folder.
    pub(crate) fn store_dir(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    /// A folder for whatever a test needs.
    pub(crate) fn desk(&self) -> PathBuf {
        let desk = self.folder.path().join("desk");
        fs::create_dir_all(&desk).expect("a folder");
        desk
    }

    /// The folder of a backend.
    pub(crate) fn backend_dir(&self, number: usize) -> PathBuf {
        self.folder.path().join("places").join(number.to_string())
    }

    /// Opens the store, as a new process would. Each backend can be made to fail through [`Self::faulty`].
    pub(crate) async fn open(&self) -> Store {
        let (faulty, memories, kept) = (Arc::clone(&self.faulty), Arc::clone(&self.memories), self.kept);
        let wrapper = move |spec: &BackendSpec, plain: Arc<dyn Backend>| -> Arc<dyn Backend> {
            let inner: Arc<dyn Backend> = match kept {
                Kept::InFolders => plain,
                Kept::InMemory => Arc::new(memories.lock().expect("not poisoned")[&spec.name].clone()),
            };
            let wrapped = FaultyBackend::new(inner, 7);
            faulty.lock().expect("not poisoned").insert(spec.name.clone(), wrapped.clone());
            Arc::new(wrapped)
        };
        let options = OpenOptions { wrapper: Some(Arc::new(wrapper)), ..OpenOptions::default() };
        Store::open(&self.store_dir(), options).await.expect("the store opens")
    }

    /// The faults of a backend, as the store that was opened last sees it.
    pub(crate) fn faulty(&self, number: usize) -> FaultyBackend {
        self.faulty.lock().expect("not poisoned")[&backend_name(number)].clone()
    }

    /// Takes a backend's folder away, as if its disk were not mounted.
    pub(crate) fn unmount(&self, number: usize) {
        fs::rename(self.backend_dir(number), self.unmounted_dir(number)).expect("moved away");
    }

    /// Puts it back.
    pub(crate) fn mount(&self, number: usize) {
        fs::rename(self.unmounted_dir(number), self.backend_dir(number)).expect("moved back");
    }

    fn unmounted_dir(&self, number: usize) -> PathBuf {
        self.folder.path().join("places").join(format!("{number}.unmounted"))
    }

    /// The file of a shard on a backend.
    pub(crate) fn shard_path(&self, number: usize, shard: ShardId) -> PathBuf {
        self.backend_dir(number).join(shard_name(shard))
    }

    /// Every file on every mounted backend but the marks: shards and what is left out of sight, in the order of their paths.
    pub(crate) fn files_on_backends(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        for number in 1..=self.backend_count {
            collect_files(&self.backend_dir(number), &mut files);
        }
        files.retain(|path| path.file_name().is_some_and(|name| name != backend::MARK_NAME));
        files.sort();
        files
    }

    /// Writes a file to the desk.
    pub(crate) fn source(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.desk().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, bytes).expect("a file");
        path
    }
}

/// The name of a backend.
pub(crate) fn backend_name(number: usize) -> String {
    format!("b{number}")
}

/// A name.
pub(crate) fn name(text: &str) -> FileName {
    FileName::new(text).expect("a name")
}

/// A geometry.
pub(crate) fn geometry(data_shards: usize, total_shards: usize) -> Geometry {
    Geometry::new(data_shards, total_shards).expect("a geometry")
}

/// Bytes that look random and follow from the seed alone.
pub(crate) fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// Options for storing these sources.
pub(crate) fn putting(sources: Vec<PutSource>, geometry: Geometry) -> PutOptions {
    let level = Some(shard::id::RedundancyLevel::of(geometry));
    PutOptions { sources, level, ..PutOptions::default() }
}

/// Stores bytes under a name, in an object of its own.
pub(crate) async fn put_bytes(store: &Store, text: &str, bytes: &[u8], geometry: Geometry) -> PutReport {
    put(store, putting(vec![stream_of(text, bytes)], geometry)).await.expect("stored")
}

/// A stream of these bytes.
pub(crate) fn stream_of(text: &str, bytes: &[u8]) -> PutSource {
    PutSource::Reader { reader: Box::new(std::io::Cursor::new(bytes.to_vec())), name: name(text) }
}

/// The newest version of a file.
pub(crate) async fn newest(store: &Store, text: &str) -> Option<VersionRecord> {
    let name = name(text);
    store.catalog(move |catalog| catalog.heads(&name)).await.expect("heads").into_iter().next()
}

/// The bytes of the newest version of a file.
pub(crate) async fn read_file(store: &Store, text: &str) -> Option<Vec<u8>> {
    let version = newest(store, text).await?;
    Some(read_version(store, &version).await)
}

/// The bytes of a version.
pub(crate) async fn read_version(store: &Store, version: &VersionRecord) -> Vec<u8> {
    let id = version.id;
    let pieces = store.catalog(move |catalog| catalog.pieces(id)).await.expect("pieces");
    let mut bytes = Vec::new();
    for piece in pieces {
        let reader = reader_of(store, piece.object).await;
        let mut parts = reader.payload(piece.offset..piece.offset + piece.bytes);
        while let Some(part) = parts.try_next().await.expect("it can be read") {
            bytes.extend_from_slice(&part);
        }
    }
    bytes
}

/// A reader of an object, from the places that the catalog knows.
pub(crate) async fn reader_of(store: &Store, object: ObjectId) -> ObjectReader {
    let ask = move |catalog: &mut shard::catalog::Catalog| Ok((catalog.object(object)?, catalog.shards(object)?));
    let (record, shards) = store.catalog(ask).await.expect("the object");
    let ObjectRecord { public, signature, sealed, .. } = record.expect("it is known");
    let manifest = Manifest::open(ManifestBytes { public, signature, sealed }, &store.id()).expect("a manifest");
    let place = |shard: ShardRecord| ShardPlace::registered(store.registry(), shard.index, shard.backend);
    ObjectReader::with_keys(manifest, shards.into_iter().map(place).collect(), Arc::clone(store.access()))
}

fn collect_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() { collect_files(&path, files) } else { files.push(path) }
    }
}
