//! What the catalog of a store in use tells whoever copies it, and what it says to a key that is not its own.

use crate::desk::Desk;
use crate::world::{TestWorld, name, read_file};
use shard::catalog::{Catalog, ObjectRecord};
use shard::crypto::CatalogKey;
use shard::ops::list::{ListOptions, list};
use shard::ops::put::{PutOptions, PutSource, put};
use shard::ops::rebuild::{RebuildOptions, rebuild};
use shard::ops::remove::{RemoveOptions, remove};
use shard::store::{CATALOG_NAME, KEY_NAME, Store, load_key};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// Sixteen files in a folder: each name has a marker, and the folder one too.
struct Markers {
    folder: String,
    names: Vec<String>,
}

/// Text that nothing else has.
fn marker(number: usize) -> String {
    blake3::hash(&number.to_le_bytes()).to_hex()[..20].to_owned()
}

/// Longer in each round, so that it is seen to have changed.
fn content(round: usize, text: &str) -> Vec<u8> {
    text.repeat(round).into_bytes()
}

/// When a file says it was changed; its bytes are no others'.
fn time_ns(number: usize) -> u64 {
    1_600_000_000_000_000_000 + 987_654_321_012_345 * (number as u64 + 1)
}

impl Markers {
    fn new() -> Self {
        Self { folder: marker(100), names: (0..16).map(marker).collect() }
    }

    fn write(&self, desk: &Path, round: usize) {
        for (number, text) in self.names.iter().enumerate() {
            let path = desk.join(text).join(text);
            fs::create_dir_all(path.parent().expect("below the desk")).expect("a folder");
            fs::write(&path, content(round, text)).expect("written");
            let time = UNIX_EPOCH + Duration::from_nanos(time_ns(number));
            File::options().append(true).open(&path).expect("opened").set_modified(time).expect("a time");
        }
    }

    fn stored(&self, number: usize) -> String {
        format!("{}/{1}/{1}", self.folder, self.names[number])
    }

    /// As they could stand in a file: names, and times and hashes as bytes and as text.
    fn bytes(&self) -> Vec<Vec<u8>> {
        let mut all: Vec<Vec<u8>> = self.names.iter().chain([&self.folder]).map(|text| text.clone().into()).collect();
        for (number, text) in self.names.iter().enumerate() {
            for round in [1, 2] {
                let hash = blake3::hash(&content(round, text));
                all.extend([hash.as_bytes().to_vec(), hash.to_hex()[..20].into()]);
            }
            all.extend([time_ns(number).to_be_bytes().to_vec(), time_ns(number).to_le_bytes().to_vec()]);
        }
        all
    }
}

async fn put_folder(store: &Store, path: PathBuf, text: &str) {
    let source = PutSource::Folder { path, name: Some(name(text)) };
    put(store, PutOptions { sources: vec![source], ..PutOptions::default() }).await.expect("stored");
}

/// The files of the store but its key and settings, one after another.
fn catalog_bytes(store: &Path) -> Vec<u8> {
    let files = ["", "-wal", "-shm"].map(|ending| store.join(format!("{CATALOG_NAME}{ending}")));
    assert!(files.iter().all(|path| path.exists()), "database, log and index");
    files.iter().flat_map(|path| fs::read(path).expect("read")).collect()
}

fn holds(bytes: &[u8], marker: &[u8]) -> bool {
    bytes.windows(marker.len()).any(|part| part == marker)
}

async fn objects(store: &Store) -> Vec<ObjectRecord> {
    let ask = |catalog: &mut Catalog| {
        let ids = catalog.objects_after(None, 1000)?;
        ids.into_iter().filter_map(|id| catalog.object(id).transpose()).collect()
    };
    store.catalog(ask).await.expect("the catalog")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_catalog_tells_nothing_after_put_overwrite_remove_and_rebuild() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let markers = Markers::new();
    for round in [1, 2] {
        markers.write(&world.desk(), round);
        put_folder(&store, world.desk(), &markers.folder).await;
    }
    let names = vec![name(&markers.stored(0)), name(&markers.stored(1))];
    remove(&store, RemoveOptions { names, ..RemoveOptions::default() }).await.expect("removed");
    let before = objects(&store).await;
    assert!(before.iter().all(|object| object.created_ns.is_some()));
    let told = |bytes: &[u8]| markers.bytes().into_iter().filter(|marker| holds(bytes, marker)).count();
    assert_eq!(told(&catalog_bytes(&world.store_dir())), 0);
    rebuild(&store, RebuildOptions::default()).await.expect("rebuilt");
    assert_eq!(objects(&store).await, before, "and when each was made is known again");
    assert_eq!(told(&catalog_bytes(&world.store_dir())), 0);

    let report = list(&store, ListOptions::default()).await.expect("listed");
    let listed: BTreeSet<String> = report.files.iter().map(|file| file.name.to_string()).collect();
    assert_eq!(listed.len(), 16, "what was removed has the version before");
    assert_eq!(read_file(&store, &markers.stored(5)).await, Some(content(2, &markers.names[5])));
    // The search finds what is there: the listed names, and times and hashes as they would be written.
    let mut plain = serde_json::to_vec(&report).expect("JSON");
    for hash in markers.names.iter().map(|text| blake3::hash(&content(2, text))) {
        plain.extend_from_slice(hash.as_bytes());
        plain.extend_from_slice(hash.to_hex().as_bytes());
    }
    plain.extend((0..16).flat_map(|number| time_ns(number).to_be_bytes()));
    assert_eq!(told(&plain), 17 + 16 + 16 + 16);
}

#[test]
fn a_catalog_that_is_sealed_with_another_key_is_refused_as_the_wrong_key() {
    let desk = Desk::new();
    desk.expect(0, &["init"]);
    let store = load_key(&desk.store().join(KEY_NAME), None).expect("the key").keyring.store_id();
    let path = desk.store().join(CATALOG_NAME);
    for ending in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(desk.store().join(format!("{CATALOG_NAME}{ending}")));
    }
    drop(Catalog::create(&path, Arc::new(CatalogKey::from_secret(store, &[7; 32]))).expect("a catalog"));
    let failure = desk.failure(12, &["list"]);
    assert_eq!(failure["kind"], "wrong-key");
    assert!(failure.to_string().contains("is sealed with another key"), "{failure}");
}
