//! Recovering folders, everything, and from places alone.

use crate::recover_desk::{
    Collected, MadeUp, everything, files_below, new_folder, wanting, write_object, write_removal, write_whole,
};
use crate::world::{TestWorld, geometry, name, put_bytes, putting, random_bytes};
use shard::ErrorKind;
use shard::backend::{Backend, BackendSpec, Environment, MemoryBackend, open};
use shard::catalog::ShardState;
use shard::format::Index;
use shard::id::BackendId;
use shard::ops::put::{PutSource, put};
use shard::ops::recover::{
    Existing, FoundPlaces, Naming, RecoverOptions, RecoverOutput, RecoverReport, recover, recover_from,
};
use shard::store::Store;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A folder of many files, stored: what is in it, by name.
async fn stored_folder(world: &TestWorld, store: &Store) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for number in 0..400usize {
        let length = [0, 1, 100, 5_000, 70_000][number % 5];
        let path = format!("tree/{}/{number}.bin", number % 7);
        let bytes = random_bytes(number as u64, length);
        world.source(&path, &bytes);
        files.insert(PathBuf::from(path), bytes);
    }
    let large = random_bytes(1000, 3_000_000);
    world.source("tree/large", &large);
    files.insert("tree/large".into(), large);
    let folder = PutSource::Folder { path: world.desk().join("tree"), name: None };
    put(store, putting(vec![folder], geometry(3, 5))).await.expect("stored");
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_comes_back_and_what_small_files_share_is_read_once() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let files = stored_folder(&world, &store).await;
    let folder = new_folder(&world, "out");
    let report = recover(&store, everything(&folder)).await.expect("recovered");
    assert!(files_below(&folder) == files);
    assert_eq!((report.files.len(), report.failed.len(), report.damage.len()), (files.len(), 0, 0));
    let bytes: u64 = files.values().map(|bytes| bytes.len() as u64).sum();
    assert_eq!(report.bytes_written, bytes);
    assert!(report.bytes_read < bytes + 2 * 786_432, "{} of {bytes}", report.bytes_read);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_there_already_are_listed_and_the_others_recovered() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let files = stored_folder(&world, &store).await;
    let folder = new_folder(&world, "out");
    recover(&store, everything(&folder)).await.expect("recovered");
    fs::write(folder.join("tree/0/0.bin"), "mine").expect("written");
    fs::remove_file(folder.join("tree/1/1.bin")).expect("removed");
    let report = recover(&store, everything(&folder)).await.expect("recovered");
    assert_eq!((report.files.len(), report.failed.len()), (1, files.len() - 1));
    assert!(report.failed.iter().all(|failed| failed.kind == ErrorKind::Refused));
    assert_eq!(fs::read(folder.join("tree/0/0.bin")).expect("a file"), b"mine");
    let options = RecoverOptions { existing: Existing::Replace, ..everything(&folder) };
    recover(&store, options).await.expect("recovered");
    assert!(files_below(&folder) == files);
}

#[tokio::test]
async fn a_folders_name_means_all_files_in_it_and_they_land_where_a_copy_would() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    for text in ["top/a/x", "top/a/b/y", "top/ab/z", "else"] {
        put_bytes(&store, text, text.as_bytes(), geometry(2, 3)).await;
    }
    let below = |folder: &Path| files_below(folder).into_keys().map(|p| p.display().to_string()).collect::<Vec<_>>();
    let out = new_folder(&world, "new");
    recover(&store, wanting(&["top/a"], RecoverOutput::Path(out.clone()))).await.expect("recovered");
    assert_eq!(below(&out), ["b/y", "x"]);
    let out = new_folder(&world, "existing");
    fs::create_dir(&out).expect("a folder");
    recover(&store, wanting(&["top/a"], RecoverOutput::Path(out.clone()))).await.expect("recovered");
    assert_eq!(below(&out), ["a/b/y", "a/x"]);
    let out = new_folder(&world, "whole");
    let output = RecoverOutput::Folder { path: out.clone(), naming: Naming::Whole };
    recover(&store, wanting(&["top/a", "else"], output)).await.expect("recovered");
    assert_eq!(below(&out), ["else", "top/a/b/y", "top/a/x"]);
    assert_eq!(fs::read(out.join("top/a/b/y")).expect("a file"), b"top/a/b/y");
    let collected = Collected::default();
    let refused = recover(&store, wanting(&["top/a"], RecoverOutput::Writer(Box::new(collected)))).await;
    assert_eq!(refused.expect_err("several").kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn of_several_names_those_that_are_there_are_recovered_and_the_rest_is_listed() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    put_bytes(&store, "d/a", b"a", geometry(2, 3)).await;
    put_bytes(&store, "e/a", b"other a", geometry(2, 3)).await;
    let output = |naming| RecoverOutput::Folder { path: new_folder(&world, "out"), naming };
    let report = recover(&store, wanting(&["d/a", "nothing"], output(Naming::LastPart))).await.expect("recovered");
    assert_eq!((report.files.len(), report.failed[0].kind), (1, ErrorKind::NotFound));
    assert_eq!(report.failed[0].name, name("nothing"));
    let refused = recover(&store, wanting(&["d/a", "e/a"], output(Naming::LastPart))).await;
    assert_eq!(refused.expect_err("one place for two").kind, ErrorKind::Invalid);
    recover(&store, wanting(&["d/a", "e/a"], output(Naming::Whole))).await.expect("recovered");
}

#[tokio::test]
async fn folders_that_end_alike_never_overwrite_each_others_files() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    for text in ["a/docs/x", "a/docs/y", "b/docs/x", "b/docs/z"] {
        put_bytes(&store, text, text.as_bytes(), geometry(2, 3)).await;
    }
    let out = new_folder(&world, "out");
    let output = RecoverOutput::Folder { path: out.clone(), naming: Naming::LastPart };
    let options = RecoverOptions { existing: Existing::Replace, ..wanting(&["a/docs", "b/docs"], output) };
    let report = recover(&store, options).await.expect("recovered");
    let failed: Vec<_> = report.failed.iter().map(|failed| (failed.name.as_str(), failed.kind)).collect();
    assert_eq!(failed, [("b/docs/x", ErrorKind::Invalid)]);
    assert_eq!(files_below(&out).into_values().collect::<Vec<_>>(), [&b"a/docs/x"[..], b"a/docs/y", b"b/docs/z"]);
}

#[tokio::test]
async fn nothing_is_recovered_through_a_link_that_leads_out() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    put_bytes(&store, "in/a", b"a", geometry(2, 3)).await;
    put_bytes(&store, "out/b", b"b", geometry(2, 3)).await;
    let (folder, outside) = (new_folder(&world, "target"), new_folder(&world, "outside"));
    fs::create_dir(&folder).expect("a folder");
    fs::create_dir(&outside).expect("a folder");
    symlink(&outside, folder.join("out")).expect("a link");
    let report = recover(&store, everything(&folder)).await.expect("the other is recovered");
    assert_eq!((report.files.len(), report.failed.len()), (1, 1));
    assert_eq!((report.failed[0].name.as_str(), report.failed[0].kind), ("out/b", ErrorKind::Refused));
    assert_eq!(files_below(&outside).len(), 0);
}

#[tokio::test]
async fn one_lost_object_costs_its_own_files_alone() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    put_bytes(&store, "a", b"a", geometry(3, 5)).await;
    let lost = MadeUp::new("b", 1, random_bytes(1, 100_000));
    let object = write_whole(&store, geometry(3, 5), &lost).await;
    put_bytes(&store, "c", b"c", geometry(3, 5)).await;
    let prefix = object.to_string();
    for path in world.files_on_backends() {
        let file = path.file_name().expect("a name").to_string_lossy().into_owned();
        if file.starts_with(&prefix) {
            fs::remove_file(path).expect("removed");
        }
    }
    let report = recover(&store, everything(&new_folder(&world, "out"))).await.expect("the others are recovered");
    assert_eq!((report.files.len(), report.failed.len()), (2, 1));
    assert_eq!((report.failed[0].name.as_str(), report.failed[0].kind), ("b", ErrorKind::Lost));
    assert!(report.damage.iter().all(|damage| damage.state == ShardState::Missing));
    assert_eq!(report.damage.len(), 5);
}

/// The backends of a world with these numbers, named by their folders, and nothing of its store but the keys.
fn places(world: &TestWorld, numbers: &[usize], store: &Store) -> FoundPlaces {
    let backend = |number: &usize| {
        let url = world.backend_dir(*number).display().to_string();
        let spec = BackendSpec::new(format!("b{number}"), BackendId([0; 16]), url.clone());
        (url, open(&spec, &Environment::default(), Path::new("/")).expect("a backend"))
    };
    FoundPlaces {
        backends: numbers.iter().map(backend).collect(),
        keys: Arc::clone(store.access()),
        left_out: Vec::new(),
        scratch: world.desk(),
    }
}

async fn from(places: FoundPlaces, options: RecoverOptions) -> shard::Result<RecoverReport> {
    recover_from(places, options).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_three_of_five_places_and_the_stores_id_bring_everything_back() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let files = stored_folder(&world, &store).await;
    fs::remove_dir_all(world.store_dir()).expect("the store is lost");
    for (number, chosen) in [[1, 2, 3], [3, 4, 5], [5, 1, 4]].iter().enumerate() {
        let folder = new_folder(&world, &format!("out{number}"));
        let report = from(places(&world, chosen, &store), everything(&folder)).await.expect("recovered");
        assert!(files_below(&folder) == files);
        assert!(report.failed.is_empty() && report.damage.is_empty(), "{:?}", report.damage);
    }
    assert!(
        fs::read_dir(world.desk())
            .expect("a folder")
            .all(|entry| { !entry.expect("an entry").file_name().to_string_lossy().starts_with(".shard-") })
    );
}

#[tokio::test]
async fn too_few_places_are_unavailable_and_say_how_to_name_more() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    write_whole(&store, geometry(1, 5), &MadeUp::new("index", 1, vec![1; 10])).await;
    put_bytes(&store, "a", &random_bytes(1, 5_000_000), geometry(3, 5)).await;
    let output = || RecoverOutput::Path(world.desk().join("a"));
    let error = from(places(&world, &[1, 2], &store), wanting(&["a"], output())).await.expect_err("two places");
    // Without three places not even the index can be read: nobody can say that there is no such file.
    assert_eq!(error.kind, ErrorKind::Unavailable);
    assert!(error.hint.expect("a hint").contains("--from"));
    let report = from(places(&world, &[1, 2], &store), wanting(&["index"], output())).await.expect("one is enough");
    assert_eq!(report.files.len(), 1);
}

#[tokio::test]
async fn what_was_removed_is_not_brought_back_by_its_places() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let (gone, stays) = (MadeUp::new("gone", 1, vec![1; 10]), MadeUp::new("stays", 2, vec![2; 10]));
    write_whole(&store, geometry(3, 5), &gone).await;
    write_whole(&store, geometry(3, 5), &stays).await;
    write_removal(&store, geometry(3, 5), &gone).await;
    let folder = new_folder(&world, "out");
    from(places(&world, &[2, 3, 5], &store), everything(&folder)).await.expect("recovered");
    assert_eq!(files_below(&folder).into_keys().collect::<Vec<_>>(), [PathBuf::from("stays")]);
}

#[tokio::test]
async fn the_newest_complete_version_is_taken_and_an_unfinished_one_is_not() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    put_bytes(&store, "a", b"first", geometry(3, 5)).await;
    put_bytes(&store, "a", b"second", geometry(3, 5)).await;
    let unfinished = MadeUp::new("a", 9, vec![9; 10]);
    let piece = unfinished.piece(0, (0, 10), None);
    write_object(&store, geometry(3, 5), (&unfinished.content, Index { pieces: vec![piece], ..Index::default() }))
        .await;
    let path = world.desk().join("a");
    let options = wanting(&["a"], RecoverOutput::Path(path.clone()));
    from(places(&world, &[1, 2, 3, 4, 5], &store), options).await.expect("recovered");
    assert_eq!(fs::read(path).expect("a file"), b"second");
}

#[tokio::test]
async fn another_stores_shards_and_forged_ones_are_passed_over() {
    let world = TestWorld::new(5).await;
    let other = TestWorld::new(5).await;
    let (store, strange) = (world.open().await, other.open().await);
    put_bytes(&store, "mine", b"mine", geometry(3, 5)).await;
    put_bytes(&strange, "theirs", b"theirs", geometry(3, 5)).await;
    let mut both = places(&world, &[1, 2, 3], &store);
    both.backends.extend(places(&other, &[1, 2, 3], &store).backends);
    let folder = new_folder(&world, "out");
    from(both, everything(&folder)).await.expect("recovered");
    assert_eq!(files_below(&folder).into_keys().collect::<Vec<_>>(), [PathBuf::from("mine")]);
}

#[tokio::test]
async fn a_place_that_does_not_answer_is_told_and_the_others_are_enough() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    put_bytes(&store, "a", b"content", geometry(3, 5)).await;
    let mut some = places(&world, &[1, 2, 3], &store);
    let dead = shard::backend::FaultyBackend::new(Arc::new(MemoryBackend::new()), 1);
    dead.go_dead();
    some.backends.push(("dead".to_owned(), Arc::new(dead) as Arc<dyn Backend>));
    let warnings = Arc::new(std::sync::Mutex::new(Vec::new()));
    let heard = Arc::clone(&warnings);
    let mut options = wanting(&["a"], RecoverOutput::Path(world.desk().join("a")));
    options.controls.progress = Some(Arc::new(move |event| {
        if let shard::ops::ProgressEvent::Warning(text) = event {
            heard.lock().expect("not poisoned").push(text);
        }
    }));
    from(some, options).await.expect("recovered");
    let warnings = warnings.lock().expect("not poisoned");
    assert!(warnings.len() == 1 && warnings[0].contains("dead"), "{warnings:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_store_what_cannot_be_read_is_a_failure_and_no_empty_success() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    put_bytes(&store, "wide", b"needs three", geometry(3, 5)).await;
    let report = from(places(&world, &[1, 2], &store), everything(&new_folder(&world, "out"))).await.expect("a report");
    assert_eq!((report.files.len(), report.unread.len()), (0, 1));
    assert_eq!(report.unread[0].kind, ErrorKind::Unavailable, "the others may have the rest");
    let out = |number: u8| RecoverOutput::Path(new_folder(&world, &format!("one{number}")));
    let refused = from(places(&world, &[1, 2], &store), wanting(&["wide"], out(0))).await;
    assert_eq!(refused.expect_err("it may be in there").kind, ErrorKind::Unavailable);
    let mut absent = places(&world, &[1, 2, 3], &store);
    let missing = from(absent.clone(), wanting(&["nothing"], out(1))).await;
    assert_eq!(missing.expect_err("all was read").kind, ErrorKind::NotFound);
    absent.left_out.push("/mnt/away".to_owned());
    let missing = from(absent, wanting(&["nothing"], out(2))).await.expect_err("it may be there");
    assert_eq!(missing.kind, ErrorKind::Unavailable);
    assert!(missing.to_string().contains("/mnt/away"), "{missing}");
    for path in world.files_on_backends() {
        if path.extension().is_some_and(|extension| extension == "shard") {
            let mut bytes = fs::read(&path).expect("a shard");
            bytes[64] ^= 1;
            fs::write(&path, bytes).expect("damaged");
        }
    }
    let all = places(&world, &[1, 2, 3, 4, 5], &store);
    let report = from(all, everything(&new_folder(&world, "lost"))).await.expect("a report");
    assert_eq!(report.unread[0].kind, ErrorKind::Lost, "every shard is here, and every one is bad");
}

/// How many folders below this one this process holds open.
#[cfg(target_os = "linux")]
fn open_below(folder: &Path) -> usize {
    let handles = fs::read_dir("/proc/self/fd").expect("lists");
    let leads = |entry: std::io::Result<fs::DirEntry>| entry.ok().and_then(|entry| fs::read_link(entry.path()).ok());
    handles.filter_map(leads).filter(|path| path.starts_with(folder) && path.is_dir()).count()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn files_of_several_pieces_in_many_folders_hold_few_of_them_open() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let made_up = |number: usize| {
        let name = Box::leak(format!("{number}/file").into_boxed_str());
        MadeUp::new(name, number as u8, random_bytes(number as u64, 20))
    };
    let files: Vec<MadeUp> = (0..200).map(made_up).collect();
    // The first halves of all of them in one object, the second halves in another.
    for (ordinal, half) in [(0, 0..10), (1, 10..20)] {
        let bytes: Vec<u8> = files.iter().flat_map(|file| file.content[half.clone()].to_vec()).collect();
        let last = |file: &MadeUp| (ordinal == 1).then(|| file.whole());
        let piece = |(at, file): (u64, &MadeUp)| file.piece(ordinal, (at * 10, 10), last(file));
        let pieces = (0..).zip(&files).map(piece).collect();
        write_object(&store, geometry(3, 5), (&bytes, Index { pieces, ..Index::default() })).await;
    }
    let folder = new_folder(&world, "out");
    let most = Arc::new(AtomicUsize::new(0));
    let (seen, below) = (Arc::clone(&most), fs::canonicalize(world.desk()).expect("there").join("out"));
    let mut options = everything(&folder);
    options.controls.progress = Some(Arc::new(move |_| {
        seen.fetch_max(open_below(&below), Ordering::Relaxed);
    }));
    let report = recover(&store, options).await.expect("recovered");
    assert_eq!((report.files.len(), report.failed.len()), (200, 0));
    assert!(files.iter().all(|file| fs::read(folder.join(file.name)).is_ok_and(|bytes| bytes == file.content)));
    let most = most.load(Ordering::Relaxed);
    assert!((2..=80).contains(&most), "{most}");
}

#[tokio::test]
async fn of_two_names_that_are_one_place_the_first_stays_even_where_files_are_replaced() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    for (name, bytes) in [("a/x", b"of a"), ("b/x", b"of b"), ("b/y", b"more")] {
        put_bytes(&store, name, bytes, geometry(3, 5)).await;
    }
    let folder = new_folder(&world, "out");
    fs::create_dir_all(folder.join("a")).expect("made");
    symlink("a", folder.join("b")).expect("linked");
    fs::write(folder.join("a/x"), b"old").expect("written");
    let options = || RecoverOptions { existing: Existing::Replace, ..everything(&folder) };
    for _ in 0..2 {
        let report = recover(&store, options()).await.expect("recovered");
        assert_eq!((report.files.len(), report.failed.len()), (2, 1), "{report:?}");
        assert_eq!(report.failed[0].kind, ErrorKind::Refused);
        let expected = if report.failed[0].name == name("b/x") { b"of a" } else { b"of b" };
        let expected = [("a/x".into(), expected.to_vec()), ("b/x".into(), expected.to_vec())];
        let more = ["a/y", "b/y"].map(|path| (PathBuf::from(path), b"more".to_vec()));
        assert_eq!(files_below(&folder), expected.into_iter().chain(more).collect());
    }
}

#[tokio::test]
async fn a_file_that_was_asked_for_twice_is_replaced_by_itself() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    put_bytes(&store, "a/x", b"bytes", geometry(3, 5)).await;
    let folder = new_folder(&world, "out");
    let output = RecoverOutput::Folder { path: folder.clone(), naming: Naming::Whole };
    let options = RecoverOptions { existing: Existing::Replace, ..wanting(&["a/x", "a"], output) };
    let report = recover(&store, options).await.expect("recovered");
    assert_eq!((report.files.len(), report.failed.len()), (2, 0), "{report:?}");
    assert_eq!(files_below(&folder).len(), 1);
}
