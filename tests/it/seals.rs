//! What sealing promises: who holds shards reads nothing, repair needs no key, and any k shards give everything back.

use crate::recover_desk::{everything, files_below, new_folder};
use crate::soak::{self, Dice};
use crate::world::{TestWorld, geometry, name, random_bytes, read_file, stream_of};
use shard::ErrorKind;
use shard::backend::{Backend, BackendSpec, Environment, open};
use shard::catalog::{ObjectState, ShardState};
use shard::crypto::AccessKeys;
use shard::id::{BackendId, Geometry, RedundancyLevel};
use shard::ops::put::{PutOptions, put};
use shard::ops::recover::{FoundPlaces, recover_from};
use shard::ops::remove::{RemoveOptions, remove};
use shard::ops::repair::{RepairOptions, repair};
use shard::ops::verify::{VerifyMode, VerifyOptions, verify};
use shard::store::Store;
use shard::stripe::Seal;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longer than a stripe of 3/5 and no multiple of anything.
const LENGTH: usize = 1_700_001;

async fn put_sealed(store: &Store, text: &str, bytes: &[u8], (geometry, seal): (Geometry, Seal)) {
    let level = Some(RedundancyLevel::of(geometry));
    let recipient = || Arc::new(store.sealing_key().expect("the key").recipient(store.id()));
    let (seal, recipient) = match seal {
        Seal::Recipient => (None, Some(recipient())),
        seal => (Some(seal), None),
    };
    let sources = vec![stream_of(text, bytes)];
    put(store, PutOptions { sources, level, seal, recipient, ..PutOptions::default() }).await.expect("stored");
}

fn contents(files: &[PathBuf]) -> BTreeMap<PathBuf, Vec<u8>> {
    files.iter().map(|path| (path.clone(), fs::read(path).expect("a file"))).collect()
}

fn places(world: &TestWorld, numbers: &[usize], keys: AccessKeys) -> FoundPlaces {
    let backend = |number: &usize| -> (String, Arc<dyn Backend>) {
        let url = world.backend_dir(*number).display().to_string();
        let spec = BackendSpec::new(format!("b{number}"), BackendId([0; 16]), url.clone());
        (url, open(&spec, &Environment::default(), Path::new("/")).expect("a backend"))
    };
    FoundPlaces {
        backends: numbers.iter().map(backend).collect(),
        keys: Arc::new(keys),
        scratch: world.desk(),
        left_out: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_every_seal_lost_shards_come_back_byte_for_byte() {
    for seal in Seal::ALL {
        let world = TestWorld::new(5).await;
        let store = world.open().await;
        let bytes = random_bytes(1, LENGTH);
        put_sealed(&store, "a", &bytes, (geometry(3, 5), seal)).await;
        let whole = contents(&world.files_on_backends());
        assert_eq!(whole.len(), 5);
        for lost in [[0, 1], [1, 4], [3, 4]] {
            let paths: Vec<&PathBuf> = whole.keys().collect();
            lost.iter().for_each(|index: &usize| fs::remove_file(paths[*index]).expect("removed"));
            assert_eq!(read_file(&store, "a").await.as_deref(), Some(bytes.as_slice()), "{seal}");
            repair(&store, RepairOptions::default()).await.expect("repaired");
            assert_eq!(contents(&world.files_on_backends()), whole, "{seal}");
        }
    }
}

#[tokio::test]
async fn a_key_share_that_is_flipped_is_named_by_verify_and_made_again_by_repair() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let bytes = random_bytes(2, 40_000);
    put_sealed(&store, "a", &bytes, (geometry(3, 5), Seal::Dispersed)).await;
    let whole = contents(&world.files_on_backends());
    for (path, file) in &whole {
        let mut flipped = file.clone();
        // The share stands before the trailer of 128 bytes.
        let at = flipped.len() - 128 - 17;
        flipped[at] ^= 4;
        fs::write(path, flipped).expect("written");
    }
    let two: Vec<&PathBuf> = whole.keys().take(3).collect();
    two.iter().for_each(|path| fs::write(path, &whole[*path]).expect("written"));
    assert_eq!(read_file(&store, "a").await.as_deref(), Some(bytes.as_slice()));
    let report = verify(&store, VerifyOptions { mode: VerifyMode::Full, ..VerifyOptions::default() }).await;
    let report = report.expect("verified");
    let states: Vec<ShardState> = report.objects[0].shards.iter().map(|shard| shard.state).collect();
    assert_eq!(states.iter().filter(|state| **state == ShardState::Corrupt).count(), 2);
    assert_eq!(report.objects[0].state, ObjectState::Degraded);
    repair(&store, RepairOptions::default()).await.expect("repaired");
    assert_eq!(contents(&world.files_on_backends()), whole);
}

#[tokio::test]
async fn what_is_dispersed_needs_no_key_and_what_is_sealed_with_one_does() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    put_sealed(&store, "open to all", b"dispersed", (geometry(3, 5), Seal::Dispersed)).await;
    put_sealed(&store, "locked", b"under the key", (geometry(3, 5), Seal::Key)).await;
    let id = store.id();
    fs::remove_dir_all(world.store_dir()).expect("the store is lost, and its key");
    let folder = new_folder(&world, "out");
    let report = recover_from(places(&world, &[2, 4, 5], AccessKeys::to_check(id)), everything(&folder)).await;
    assert_eq!(report.expect("what needs no key").files.len(), 1);
    assert_eq!(files_below(&folder)[Path::new("open to all")], b"dispersed");
}

#[tokio::test]
async fn without_the_key_nothing_sealed_with_it_comes_out() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    put_sealed(&store, "locked", b"under the key", (geometry(3, 5), Seal::Key)).await;
    let access = AccessKeys::to_check(store.id());
    let folder = new_folder(&world, "out");
    let refused = recover_from(places(&world, &[1, 2, 3, 4, 5], access), everything(&folder)).await;
    assert_eq!(refused.expect_err("no key").kind, ErrorKind::WrongKey);
    assert!(files_below(&folder).is_empty());
}

/// Whether the bytes of a file have one of the markers in them.
fn marked(path: &Path, markers: &[Vec<u8>]) -> usize {
    let bytes = fs::read(path).expect("a file");
    markers.iter().filter(|marker| bytes.windows(marker.len()).any(|window| window == marker.as_slice())).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_planted_marker_is_found_on_any_backend_unless_nothing_is_sealed() {
    let mut dice = Dice::new(soak::seed());
    // As they would stand in a name, so that names and contents can carry the same ones.
    let markers: Vec<Vec<u8>> = (0..32).map(|_| hex::encode(dice.bytes(10)).into_bytes()).collect();
    for seal in Seal::ALL {
        let world = TestWorld::new(5).await;
        let store = world.open().await;
        for (number, marker) in markers.iter().enumerate() {
            let text = String::from_utf8(marker.clone()).expect("hex digits");
            let (file, content) = match number % 2 {
                0 => (format!("folder/{text}"), b"nothing".to_vec()),
                _ => (format!("file {number}"), [&random_bytes(number as u64, 5_000)[..], marker].concat()),
            };
            put_sealed(&store, &file, &content, (geometry(2, 3), seal)).await;
        }
        // Removals carry names too.
        let gone = String::from_utf8(markers[0].clone()).expect("hex digits");
        let names = vec![name(&format!("folder/{gone}"))];
        remove(&store, RemoveOptions { names, ..RemoveOptions::default() }).await.expect("removed");
        let found: usize = world.files_on_backends().iter().map(|path| marked(path, &markers)).sum();
        match seal {
            // A removal is sealed as the settings say, whatever the file was sealed with.
            Seal::None => assert!(found >= 31, "{found}"),
            Seal::Key | Seal::Dispersed | Seal::Recipient => assert_eq!(found, 0, "{seal}"),
        }
    }
}

/// Stores with random files under random seals and geometries lose everything but k backends and the key. By hand, a
/// thousand of them: `just soak`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_stores_come_back_from_random_k_backends_and_the_key() {
    let mut dice = Dice::new(soak::seed());
    let stores = if soak::is_asked_for() { 1_000 } else { 25 };
    for number in 0..stores {
        let (data, total) = [(2, 3), (3, 5), (2, 5), (1, 3)][dice.below(4)];
        let world = TestWorld::new(total).await;
        let store = world.open().await;
        let mut files = BTreeMap::new();
        for file in 0..1 + dice.below(4) {
            let seals = [Seal::None, Seal::Key, Seal::Recipient, Seal::Dispersed];
            let seal = seals[dice.below(if data > 1 { 4 } else { 3 })];
            let length = [0, 1, 999, 100_000, 900_000][dice.below(5)];
            let (text, bytes) = (format!("d{}/{file}", dice.below(2)), dice.bytes(length));
            put_sealed(&store, &text, &bytes, (geometry(data, total), seal)).await;
            files.insert(PathBuf::from(text), bytes);
        }
        if files.len() > 1 && dice.below(2) == 0 {
            let gone = files.keys().next().expect("a file").clone();
            let names = vec![name(gone.to_str().expect("text"))];
            remove(&store, RemoveOptions { names, ..RemoveOptions::default() }).await.expect("removed");
            files.remove(&gone);
        }
        let keys = shard::store::load_key(&world.store_dir().join("master.key"), None).expect("the key").keyring;
        fs::remove_dir_all(world.store_dir()).expect("the store is lost");
        let mut left: Vec<usize> = (1..=total).collect();
        while left.len() > data {
            left.remove(dice.below(left.len()));
        }
        let folder = new_folder(&world, "out");
        let report = recover_from(places(&world, &left, AccessKeys::to_open(keys)), everything(&folder)).await;
        assert!(report.expect("recovered").failed.is_empty(), "store {number}");
        assert!(files_below(&folder) == files, "store {number}");
    }
}

#[tokio::test]
async fn what_is_dispersed_is_refused_where_one_zone_could_read_it_unless_told() {
    let desk = crate::desk::Desk::new();
    desk.file("a", b"for nobody alone");
    // The five default places are on one disk: one zone.
    let refused = desk.failure(1, &["put", "a", "--seal", "dispersed"]);
    assert_eq!(refused["kind"], "refused");
    assert!(refused["hint"].as_str().is_some_and(|hint| hint.contains("--allow-readable-zone")));
    desk.run(&["put", "a", "--seal", "dispersed", "--allow-readable-zone"]);
    desk.expect(0, &["recover", "a", "-o", "back"]);
    assert_eq!(fs::read(desk.path("back")).expect("a file"), b"for nobody alone");
    desk.run(&["remove", "a"]);
    // Where one shard opens it, no place can be kept from reading.
    assert_eq!(desk.failure(1, &["put", "a", "--seal", "dispersed", "--shards", "1/3"])["kind"], "refused");
}

#[tokio::test]
async fn a_zone_never_gets_k_shards_of_what_is_dispersed() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    put_sealed(&store, "a", &random_bytes(3, 30_000), (geometry(2, 5), Seal::Dispersed)).await;
    // One shard for each zone is all that 2/5 allows: a lost backend's shard has nowhere to go.
    fs::remove_dir_all(world.backend_dir(5)).expect("gone");
    let store = world.open().await;
    let assume_lost = vec!["b5".to_owned()];
    repair(&store, RepairOptions { assume_lost, ..RepairOptions::default() }).await.expect("looked at");
    assert_eq!(world.files_on_backends().len(), 4);
    assert_eq!(read_file(&store, "a").await.as_deref(), Some(random_bytes(3, 30_000).as_slice()));
}
