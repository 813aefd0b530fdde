//! Recovering from folders in which shards lie under any name, in any number of copies, some of them damaged.

use crate::desk::{Desk, has_keys};
use crate::recover_desk::{everything, files_below, new_folder};
use crate::soak::Dice;
use crate::world::{TestWorld, geometry, put_bytes, random_bytes};
use shard::backend::Environment;
use shard::crypto::AccessKeys;
use shard::ops::Controls;
use shard::ops::recover::{FoundPlace, FoundPlaces, HeapReport, RecoverReport, look_at, recover_from};
use shard::store::Store;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Long enough for two stripes of 3/5.
const TWO_STRIPES: usize = 1_200_000;

/// A folder into which shards are thrown.
pub(crate) struct Thrown {
    pub(crate) folder: PathBuf,
    count: usize,
}

impl Thrown {
    pub(crate) fn new(folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).expect("a folder");
        Self { folder, count: 0 }
    }

    /// Throws a file in, under a name that says nothing, in one of some nested folders.
    pub(crate) fn throw(&mut self, bytes: &[u8], dice: &mut Dice) -> PathBuf {
        self.count += 1;
        let folder = ["", "a", "a/b", "c c/ü"][dice.below(4)];
        let suffix = ["", ".bin", ".jpg", ".shard"][dice.below(4)];
        let path = self.folder.join(folder).join(format!("{:08x}-{}{suffix}", dice.next() as u32, self.count));
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, bytes).expect("written");
        path
    }
}

/// What is there, as one heap.
pub(crate) async fn heap_places(folder: &Path, keys: &Arc<AccessKeys>, scratch: PathBuf) -> (FoundPlaces, HeapReport) {
    let url = folder.display().to_string();
    let found = look_at(&url, &Environment::default(), Path::new("/"), &Controls::default()).await.expect("a folder");
    let FoundPlace::Heap(heap) = found else { unreachable!("{url} is taken for a backend") };
    let (backends, report) = heap.of_store(keys.store_id(), &url).await.expect("looked through");
    let backends = backends.into_iter().map(|backend| (url.clone(), backend)).collect();
    (FoundPlaces { backends, keys: Arc::clone(keys), left_out: Vec::new(), scratch }, report)
}

async fn recover_heap(world: &TestWorld, heap: &Path, store: &Store) -> (RecoverReport, BTreeMap<PathBuf, Vec<u8>>) {
    let (places, _) = heap_places(heap, store.access(), world.desk()).await;
    let folder = new_folder(world, "out");
    let report = recover_from(places, everything(&folder)).await.expect("recovered");
    let files = files_below(&folder);
    let _ = fs::remove_dir_all(folder);
    (report, files)
}

/// The shard files on one backend, in no order that matters.
fn shards_on(world: &TestWorld, number: usize) -> Vec<PathBuf> {
    let folder = world.backend_dir(number);
    world.files_on_backends().into_iter().filter(|path| path.starts_with(&folder)).collect()
}

async fn put_some(store: &Store) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for (number, length) in [0, 1, 70_000, TWO_STRIPES].into_iter().enumerate() {
        let (text, bytes) = (format!("folder/{number}"), random_bytes(number as u64, length));
        put_bytes(store, &text, &bytes, geometry(3, 5)).await;
        files.insert(PathBuf::from(text), bytes);
    }
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_of_three_places_thrown_together_give_everything_back() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let files = put_some(&store).await;
    let mut dice = Dice::new(1);
    let mut thrown = Thrown::new(world.desk().join("heap"));
    for number in [1, 3, 4] {
        for path in shards_on(&world, number) {
            thrown.throw(&fs::read(path).expect("a shard"), &mut dice);
        }
    }
    for length in [0, 1, 63, 64, 127, 128, 9000] {
        thrown.throw(&dice.bytes(length), &mut dice);
    }
    fs::write(thrown.folder.join("readme"), "{\"format\":1,\"store\":7}").expect("written");
    let (report, recovered) = recover_heap(&world, &thrown.folder, &store).await;
    assert!(recovered == files && report.failed.is_empty() && report.unread.is_empty());
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    let (_, met) = heap_places(&thrown.folder, store.access(), world.desk()).await;
    assert_eq!((met.files, met.passed_over, met.unreadable), (4 * 3 + 8, 8, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_damage_to_a_header_or_a_trailer_costs_a_shard_and_a_wrong_header_neither() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let bytes = random_bytes(5, TWO_STRIPES);
    put_bytes(&store, "file", &bytes, geometry(3, 5)).await;
    put_bytes(&store, "other", b"another object", geometry(3, 5)).await;
    let shard = |number: usize| shards_on(&world, number).into_iter().map(|path| fs::read(path).expect("a shard"));
    let [mut one, mut two, mut three] = [1, 2, 4].map(|number| shard(number).max_by_key(Vec::len).expect("a shard"));
    let other = shard(2).min_by_key(Vec::len).expect("a shard");
    one[..64].fill(0);
    let end = two.len();
    two[end - 128..].fill(0xff);
    three[..64].copy_from_slice(&other[..64]);
    let (mut dice, mut thrown) = (Dice::new(2), Thrown::new(world.desk().join("heap")));
    let mut whole = thrown.folder.clone();
    for shard in [&one, &two, &three] {
        whole = thrown.throw(shard, &mut dice);
    }
    let (_, recovered) = recover_heap(&world, &thrown.folder, &store).await;
    assert!(recovered.get(Path::new("file")) == Some(&bytes), "{:?}", recovered.keys());
    // Neither header nor trailer, and the first leaf is wrong too: any of the five, and the blocks say which.
    let public = two.windows(12).position(|window| window == b"{\"format\":1,").expect("a manifest");
    two[..64].fill(0);
    two[public - 1] ^= 1;
    for path in files_below(&thrown.folder).into_keys() {
        fs::remove_file(thrown.folder.join(path)).expect("removed");
    }
    assert!(!whole.exists());
    for shard in [&one, &two, &three] {
        thrown.throw(shard, &mut dice);
    }
    let (_, recovered) = recover_heap(&world, &thrown.folder, &store).await;
    assert!(recovered.get(Path::new("file")) == Some(&bytes), "{:?}", recovered.keys());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_copies_that_are_damaged_in_different_places_the_good_blocks_are_enough() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let bytes = random_bytes(6, TWO_STRIPES);
    put_bytes(&store, "file", &bytes, geometry(3, 5)).await;
    let (mut dice, mut thrown) = (Dice::new(3), Thrown::new(world.desk().join("heap")));
    for number in [2, 3, 5] {
        let shard = fs::read(&shards_on(&world, number)[0]).expect("a shard");
        for bad in [64 + 100, 64 + 256 * 1024 + 100] {
            let mut copy = shard.clone();
            copy[bad] ^= 1;
            thrown.throw(&copy, &mut dice);
        }
        // One that was cut short says which shard it is, and has the first block.
        thrown.throw(&shard[..shard.len() / 2], &mut dice);
    }
    let (report, recovered) = recover_heap(&world, &thrown.folder, &store).await;
    assert!(recovered.get(Path::new("file")) == Some(&bytes), "{report:?}");
}

#[tokio::test]
async fn another_stores_shards_in_the_same_folder_are_passed_over() {
    let (world, other) = (TestWorld::new(3).await, TestWorld::new(3).await);
    let (store, strange) = (world.open().await, other.open().await);
    put_bytes(&store, "mine", b"mine", geometry(2, 3)).await;
    put_bytes(&strange, "theirs", b"theirs", geometry(2, 3)).await;
    let (mut dice, mut thrown) = (Dice::new(4), Thrown::new(world.desk().join("heap")));
    for path in world.files_on_backends().into_iter().chain(other.files_on_backends()) {
        thrown.throw(&fs::read(path).expect("a shard"), &mut dice);
    }
    let (report, recovered) = recover_heap(&world, &thrown.folder, &store).await;
    assert_eq!(recovered.into_keys().collect::<Vec<_>>(), [PathBuf::from("mine")]);
    assert!(report.unread.is_empty(), "{:?}", report.unread);
    assert_eq!(heap_places(&thrown.folder, store.access(), world.desk()).await.1.passed_over, 3);
}

/// A desk with a file, its default places, and a kit.
fn stored() -> Desk {
    let desk = Desk::new();
    desk.file("thesis", b"every word of it");
    desk.run(&["put", "thesis"]);
    desk.run(&["key", "export", "-o", "kit"]);
    desk
}

/// Throws all default places into one folder of the desk, with a photograph.
fn throw_all(desk: &Desk) {
    let (mut dice, mut thrown) = (Dice::new(5), Thrown::new(desk.path("heap")));
    for path in desk.shard_files() {
        thrown.throw(&fs::read(path).expect("a shard"), &mut dice);
    }
    thrown.throw(b"a photograph", &mut dice);
}

#[test]
fn the_command_recovers_from_a_heap_and_says_what_it_passed_over() {
    let desk = stored();
    throw_all(&desk);
    fs::remove_dir_all(desk.store()).expect("the store is lost");
    let report = desk.json(0, &["recover", "--all", "-o", "out", "--from", "heap", "--key", "kit"]);
    assert_eq!(fs::read(desk.path("out/thesis")).expect("a file"), b"every word of it");
    has_keys(&report, &["files", "damage", "places", "newest", "heaps"]);
    has_keys(&report["newest"], &["created", "id"]);
    has_keys(&report["places"][0], &["name", "shards", "newest", "lacks"]);
    has_keys(&report["heaps"][0], &["place", "files", "passed_over", "unreadable", "links", "left", "problem"]);
    assert_eq!((&report["heaps"][0]["files"], &report["heaps"][0]["passed_over"]), (&6.into(), &1.into()));
    assert_eq!((&report["places"][0]["name"], &report["places"][0]["shards"]), (&"heap".into(), &5.into()));
    let said = desk.expect(0, &["recover", "--all", "-o", "again", "--from", "heap", "--key", "kit"]).stderr;
    assert!(said.contains("6 files looked at, 1 passed over"), "{said}");
    // The store is known from the manifests; what is sealed stays sealed.
    assert_eq!(desk.failure(12, &["recover", "--all", "-o", "none", "--from", "heap"])["kind"], "wrong-key");
}

#[test]
fn the_key_of_another_store_exits_12_on_places_and_on_heaps() {
    let desk = stored();
    throw_all(&desk);
    let stranger = stored();
    fs::copy(stranger.path("kit"), desk.path("wrong")).expect("copied");
    let place = desk.backend(1).display().to_string();
    for from in [&place, "heap"] {
        let mut quickest = Duration::MAX;
        for _ in 0..3 {
            let begun = Instant::now();
            let failure = desk.failure(12, &["recover", "--all", "-o", "out", "--from", from, "--key", "wrong"]);
            quickest = quickest.min(begun.elapsed());
            assert_eq!(failure["kind"], "wrong-key");
        }
        assert!(quickest < Duration::from_secs(2), "{quickest:?} with {from}");
        let failure = desk.failure(12, &["recover", "--all", "-o", "out", "--from", from, "--key", "wrong"]);
        assert!(failure["hint"].as_str().is_some_and(|hint| hint.contains("--key")), "{failure}");
        assert!(!desk.path("out").exists());
    }
}

#[test]
fn a_wrong_passphrase_exits_12_before_any_place_is_looked_at() {
    let mut desk = stored();
    throw_all(&desk);
    desk.set("SHARD_NEW_PASSPHRASE", "the right one of all");
    desk.expect(0, &["key", "passphrase"]);
    fs::copy(desk.store().join("master.key"), desk.path("key")).expect("copied");
    let words = ["recover", "--all", "-o", "out", "--from", "heap", "--key", "key"];
    desk.set("SHARD_PASSPHRASE", "another one of them");
    assert_eq!(desk.failure(12, &words)["kind"], "wrong-key");
    assert!(!desk.expect(12, &words).stderr.contains("looked at"));
    desk.set("SHARD_PASSPHRASE", "the right one of all");
    desk.expect(0, &words);
    assert!(desk.path("out/thesis").exists());
}

#[test]
fn a_place_that_is_a_file_or_empty_or_missing_is_refused_with_a_reason() {
    let desk = stored();
    desk.file("note", b"no place");
    fs::create_dir(desk.path("empty")).expect("a folder");
    let refused = |code: i32, from: &str| {
        let failure = desk.failure(code, &["recover", "--all", "-o", "out", "--from", from, "--key", "kit"]);
        assert!(failure["hint"].is_string(), "{failure}");
        assert!(!desk.path("out").exists());
        failure
    };
    let file = refused(1, "note");
    assert!(file["message"].as_str().is_some_and(|text| text.contains("note is a file")), "{file}");
    assert_eq!(refused(13, "empty")["message"], "no file in empty is a shard");
    let missing = refused(5, "away");
    assert!(missing["message"].as_str().is_some_and(|text| text.contains("away")), "{missing}");
    // Beside places that are well, one that is empty or missing is no reason to stop.
    let [one, two, three] = [1, 2, 3].map(|number| desk.backend(number).display().to_string());
    let all = ["--from", &one, "--from", &two, "--from", &three, "--from", "empty", "--from", "away"];
    let outcome = desk.expect(0, &[&["recover", "--all", "-o", "out", "--key", "kit"], &all[..]].concat());
    assert!(outcome.stderr.contains("away is left out"), "{}", outcome.stderr);
}

#[test]
fn a_folder_that_cannot_be_written_is_read() {
    use std::os::unix::fs::PermissionsExt;
    let desk = stored();
    throw_all(&desk);
    let set = |mode: u32| {
        for folder in ["heap", "heap/a", "heap/a/b"].map(|name| desk.path(name)) {
            if folder.exists() {
                fs::set_permissions(folder, fs::Permissions::from_mode(mode)).expect("a mode");
            }
        }
    };
    set(0o555);
    let outcome = desk.run(&["recover", "--all", "-o", "out", "--from", "heap", "--key", "kit"]);
    set(0o755);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
}

#[test]
fn a_heap_is_no_place_to_rebuild_a_catalog_from_and_the_hint_says_what_is() {
    let desk = stored();
    throw_all(&desk);
    let failure = desk.failure(5, &["catalog", "rebuild", "--from", "heap"]);
    let hint = failure["hint"].as_str().expect("a hint");
    assert!(hint.contains("recover --all --from") && hint.contains("backend add"), "{hint}");
    assert_eq!(desk.listed(), ["thesis"], "the catalog stays");
}
