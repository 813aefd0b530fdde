//! What happens after files were put: listing, removal, lost catalogs, second machines, packing anew.

mod elsewhere;
mod gc;
mod listing;
mod packing;
mod rebuild;
mod refresh;
mod remove;
mod status;

use futures_util::TryStreamExt;
use shard::backend::BackendSpec;
use shard::catalog::{PieceRecord, VersionRecord};
use shard::format::{FileName, Manifest, ManifestBytes};
use shard::id::{BackendId, ObjectId, RedundancyLevel, VersionId};
use shard::ops::gc::{GcOptions, GcReport, REMOVAL_ROUNDS, gc};
use shard::ops::ingest::Sources;
use shard::ops::list::{ListOptions, ListReport, ListedVersions, list};
use shard::ops::put::{PutOptions, PutReport, PutSource, put};
use shard::ops::reader::ObjectReader;
use shard::ops::rebuild::{RebuildOptions, RebuildReport, rebuild};
use shard::ops::refresh::{RefreshOptions, RefreshReport, refresh};
use shard::ops::remove::{RemoveOptions, RemoveReport, RemoveVersions, remove};
use shard::store::config::Config;
use shard::store::{CATALOG_NAME, CONFIG_NAME, InitOptions, KEY_NAME, MissingCatalog, OpenOptions, Store};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// Folders as backends, and any number of machines that share them and the key.
pub(crate) struct World {
    root: TempDir,
    specs: Vec<BackendSpec>,
}

impl World {
    /// A first machine, `a`, with this many folders, each a zone of its own.
    pub(crate) async fn new(backends: usize) -> Self {
        let root = TempDir::new().expect("a folder");
        let dir = root.path().join("a");
        Store::init(&dir, InitOptions::bare()).await.expect("a store");
        let mut world = Self { root, specs: Vec::new() };
        for number in 0..backends {
            let store = world.open("a").await;
            let url = world.folder(number).to_str().expect("a path").to_owned();
            let mut spec = BackendSpec::new(format!("b{number}"), BackendId(store.random_bytes().expect("bytes")), url);
            spec.zone = Some(format!("z{number}"));
            shard::ops::add_backend(&store, spec).await.expect("a backend");
        }
        world.specs = Config::load(&dir.join(CONFIG_NAME)).expect("settings").backends;
        world
    }

    pub(crate) fn dir(&self, machine: &str) -> PathBuf {
        self.root.path().join(machine)
    }

    pub(crate) fn folder(&self, backend: usize) -> PathBuf {
        self.root.path().join(format!("disk-{backend}"))
    }

    pub(crate) fn id(&self, backend: usize) -> BackendId {
        self.specs[backend].id
    }

    /// Opens a machine's store; a catalog that is not there is made.
    pub(crate) async fn open(&self, machine: &str) -> Store {
        let options = OpenOptions { missing_catalog: MissingCatalog::Create, ..OpenOptions::default() };
        Store::open(&self.dir(machine), options).await.expect("a store")
    }

    /// One more machine: the same key and the given backends in the given order, and nothing else.
    pub(crate) fn add_machine(&self, machine: &str, backends: &[usize]) {
        let dir = self.dir(machine);
        fs::create_dir(&dir).expect("a folder");
        fs::copy(self.dir("a").join(KEY_NAME), dir.join(KEY_NAME)).expect("the key");
        let backends = backends.iter().map(|backend| self.specs[*backend].clone()).collect();
        let config = Config { backends, ..Config::default() };
        Config::create(&dir.join(CONFIG_NAME), &config).expect("settings");
    }

    pub(crate) fn lose_catalog(&self, machine: &str) {
        for suffix in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(self.dir(machine).join(format!("{CATALOG_NAME}{suffix}")));
        }
    }

    /// The disk is away: not empty, not there.
    pub(crate) fn unmount(&self, backend: usize) {
        fs::rename(self.folder(backend), self.root.path().join(format!("away-{backend}"))).expect("unmounted");
    }

    pub(crate) fn mount(&self, backend: usize) {
        fs::rename(self.root.path().join(format!("away-{backend}")), self.folder(backend)).expect("mounted");
    }

    /// Every shard file on a backend, by its path below it.
    pub(crate) fn shards(&self, backend: usize) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        collect(&self.folder(backend), &self.folder(backend).join("objects"), &mut found);
        found
    }

    pub(crate) fn all_shards(&self) -> BTreeMap<(usize, String), Vec<u8>> {
        let backends = 0..self.specs.len();
        backends.flat_map(|number| self.shards(number).into_iter().map(move |(p, b)| ((number, p), b))).collect()
    }

    pub(crate) fn shard_bytes(&self) -> u64 {
        self.all_shards().values().map(|bytes| bytes.len() as u64).sum()
    }
}

fn collect(root: &Path, dir: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(root, &path, found);
        } else {
            let name = path.strip_prefix(root).expect("below").to_str().expect("a name").to_owned();
            found.insert(name, fs::read(&path).expect("a shard"));
        }
    }
}

pub(crate) fn name(text: &str) -> FileName {
    FileName::new(text).expect("a name")
}

/// Bytes that follow from a seed.
pub(crate) fn bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

pub(crate) async fn put_bytes(store: &Store, text: &str, content: Vec<u8>) -> PutReport {
    put_at(store, text, content, RedundancyLevel::Personal).await
}

pub(crate) async fn put_at(store: &Store, text: &str, content: Vec<u8>, level: RedundancyLevel) -> PutReport {
    let source = PutSource::Reader { reader: Box::new(std::io::Cursor::new(content)), name: name(text) };
    let options = PutOptions { sources: vec![source], level: Some(level), ..PutOptions::default() };
    put(store, options).await.expect("stored")
}

/// Puts files in one go, so that they share an object; they are called `folder/NAME`.
pub(crate) async fn put_together(store: &Store, files: &[(&str, Vec<u8>)]) -> PutReport {
    let dir = TempDir::new().expect("a folder");
    for (file, content) in files {
        fs::write(dir.path().join(file), content).expect("written");
    }
    let source = PutSource::Folder { path: dir.path().to_owned(), name: Some(name("folder")) };
    put(store, PutOptions { sources: vec![source], ..PutOptions::default() }).await.expect("stored")
}

pub(crate) async fn list_all(store: &Store, versions: ListedVersions) -> ListReport {
    list(store, ListOptions { versions, ..ListOptions::default() }).await.expect("a list")
}

/// The names of the heads, each as often as there are heads.
pub(crate) async fn names(store: &Store) -> Vec<String> {
    let report = list_all(store, ListedVersions::Heads).await;
    report.files.iter().map(|file| file.name.to_string()).collect()
}

pub(crate) async fn remove_file(store: &Store, text: &str, versions: RemoveVersions) -> RemoveReport {
    let options = RemoveOptions { names: vec![name(text)], versions, ..RemoveOptions::default() };
    remove(store, options).await.expect("removed")
}

pub(crate) async fn run_gc(store: &Store) -> GcReport {
    gc(store, GcOptions::default()).await.expect("gc")
}

/// Gives back space so often that every removal was told long enough.
pub(crate) async fn run_gc_to_the_end(store: &Store) -> GcReport {
    for _ in 0..REMOVAL_ROUNDS {
        run_gc(store).await;
    }
    run_gc(store).await
}

pub(crate) async fn run_refresh(store: &Store) -> RefreshReport {
    refresh(store, RefreshOptions::default()).await.expect("refreshed")
}

pub(crate) async fn run_rebuild(store: &Store) -> RebuildReport {
    rebuild(store, RebuildOptions::default()).await.expect("rebuilt")
}

/// A version's bytes, by way of its pieces.
pub(crate) async fn read_version(store: &Store, version: VersionId) -> Result<Vec<u8>, shard::Error> {
    let pieces = store.catalog(move |catalog| catalog.pieces(version)).await?;
    let mut content = Vec::new();
    for PieceRecord { object, offset, bytes, .. } in pieces {
        let reader = reader(store, object).await;
        let parts: Vec<_> = reader.payload(offset..offset + bytes).try_collect().await?;
        parts.iter().for_each(|part| content.extend_from_slice(part));
    }
    Ok(content)
}

pub(crate) async fn reader(store: &Store, object: ObjectId) -> ObjectReader {
    let (record, shards) = store
        .catalog(move |catalog| Ok((catalog.object(object)?, catalog.shards(object)?)))
        .await
        .expect("the catalog");
    let record = record.expect("an object");
    let bytes = ManifestBytes { public: record.public, signature: record.signature, sealed: record.sealed };
    let manifest = Manifest::open(bytes, &store.id()).expect("a manifest");
    let places = Sources::of(store).places(shards.iter().map(|shard| (shard.index, shard.backend)));
    ObjectReader::with_keys(manifest, places, Arc::clone(store.access()))
}

/// The newest version of a file, and its bytes.
pub(crate) async fn read_file(store: &Store, text: &str) -> Option<Vec<u8>> {
    let head = heads(store, text).await.into_iter().next()?;
    Some(read_version(store, head.id).await.expect("readable"))
}

pub(crate) async fn heads(store: &Store, text: &str) -> Vec<VersionRecord> {
    let wanted = name(text);
    store.catalog(move |catalog| catalog.heads(&wanted)).await.expect("the catalog")
}
