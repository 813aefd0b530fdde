//! Storing folders: what is packed, what is skipped, what is passed over, what is listed as failed.

use crate::world::{Kept, TestWorld, geometry, newest, putting, random_bytes, read_file};
use shard::ops::put::{PutOptions, PutReport, PutSource, put};
use shard::ops::{Controls, ProgressEvent};
use shard::store::Store;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

fn options(path: PathBuf) -> PutOptions {
    let mut options = putting(vec![PutSource::Folder { path, name: None }], geometry(2, 3));
    options.level = None;
    options
}

async fn put_folder(store: &Store, path: PathBuf) -> PutReport {
    put(store, options(path)).await.expect("stored")
}

fn stored_names(report: &PutReport) -> Vec<&str> {
    report.files.iter().filter(|file| !file.skipped).map(|file| file.name.as_str()).collect()
}

#[tokio::test]
async fn small_files_share_an_object_and_what_is_unchanged_is_skipped() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    for (number, text) in ["a", "sub/b", "sub/c", "sub/sub/d", "empty"].iter().enumerate() {
        let length = if *text == "empty" { 0 } else { 1000 * number + 7 };
        world.source(&format!("folder/{text}"), &random_bytes(number as u64, length));
    }
    let folder = world.desk().join("folder");
    let first = put_folder(&store, folder.clone()).await;
    assert_eq!(stored_names(&first), ["folder/a", "folder/empty", "folder/sub/b", "folder/sub/c", "folder/sub/sub/d"]);
    assert_eq!((first.objects.len(), first.failed.len()), (1, 0));
    assert_eq!(world.files_on_backends().len(), 5);
    for (number, text) in ["a", "sub/b", "sub/c", "sub/sub/d"].iter().enumerate() {
        let bytes = read_file(&store, &format!("folder/{text}")).await.expect("listed");
        assert!(bytes == random_bytes(number as u64, 1000 * number + 7), "{text}");
    }

    let again = put_folder(&store, folder.clone()).await;
    assert_eq!((stored_names(&again).len(), again.files.len(), again.bytes_written), (0, 5, 0));
    assert_eq!(again.files[0].version, first.files[0].version);

    world.source("folder/sub/b", &random_bytes(77, 1007));
    fs::set_permissions(folder.join("a"), fs::Permissions::from_mode(0o600)).expect("a mode");
    let third = put_folder(&store, folder).await;
    assert_eq!(stored_names(&third), ["folder/a", "folder/sub/b"]);
    assert!(read_file(&store, "folder/sub/b").await.expect("listed") == random_bytes(77, 1007));
}

#[tokio::test]
async fn another_level_than_before_stores_again_and_a_lost_object_too() {
    let world = TestWorld::with(5, Kept::InMemory).await;
    let store = world.open().await;
    world.source("folder/a", b"some bytes");
    let folder = world.desk().join("folder");
    let first = put_folder(&store, folder.clone()).await;
    let minimal = PutOptions { level: Some(shard::id::RedundancyLevel::Minimal), ..options(folder.clone()) };
    let second = put(&store, minimal).await.expect("stored");
    assert_eq!(stored_names(&second), ["folder/a"]);
    assert_eq!(stored_names(&put_folder(&store, folder.clone()).await).len(), 0);

    let object = second.objects[0].id;
    assert_ne!(object, first.objects[0].id);
    let lose = move |catalog: &mut shard::catalog::Catalog| {
        let check = shard::catalog::CheckRecord {
            object,
            state: shard::catalog::ObjectState::Lost,
            margin: None,
            backend_margin: None,
            shards: Vec::new(),
            when_ns: 0,
            full: true,
        };
        catalog.record_check(&check)
    };
    assert!(store.catalog(lose).await.expect("recorded"));
    assert_eq!(stored_names(&put_folder(&store, folder).await), ["folder/a"]);
}

#[tokio::test]
async fn links_and_special_files_are_passed_over_and_strange_names_are_listed() {
    let world = TestWorld::with(3, Kept::InMemory).await;
    let store = world.open().await;
    let good = world.source("folder/good\nline", b"good");
    let folder = world.desk().join("folder");
    symlink(&good, folder.join("link")).expect("a link");
    symlink("/", folder.join("link-to-folder")).expect("a link");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        folder.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o600),
        0,
    )
    .expect("a pipe");
    fs::write(folder.join(OsStr::from_bytes(b"not\xffutf8")), "bytes").expect("a file");
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&warnings);
    let sink = move |event| {
        if let ProgressEvent::Warning(text) = event {
            heard.lock().expect("not poisoned").push(text);
        }
    };
    let controls = Controls { progress: Some(Arc::new(sink)), cancel: CancellationToken::new() };
    let minimal = Some(shard::id::RedundancyLevel::Minimal);
    let report = put(&store, PutOptions { controls, level: minimal, ..options(folder) }).await.expect("stored");
    assert_eq!(stored_names(&report), ["folder/good\nline"]);
    assert_eq!(report.failed.len(), 1);
    assert!(report.failed[0].error.contains("UTF-8"), "{:?}", report.failed);
    let warnings = warnings.lock().expect("not poisoned").clone();
    for passed in ["link is a symbolic link", "link-to-folder is a symbolic link", "pipe is no regular file"] {
        assert!(warnings.iter().any(|warning| warning.contains(passed)), "{passed}: {warnings:?}");
    }
}

#[tokio::test]
async fn a_file_that_changes_in_a_folder_is_listed_and_the_rest_is_stored() {
    let world = TestWorld::with(5, Kept::InMemory).await;
    let store = world.open().await;
    let changing = world.source("folder/a", &random_bytes(1, 3_000_000));
    world.source("folder/b", &random_bytes(2, 2_000_000));
    let done = AtomicBool::new(false);
    let sink = move |event| {
        if matches!(event, ProgressEvent::Bytes(_)) && !done.swap(true, Ordering::SeqCst) {
            File::options().write(true).open(&changing).expect("open").set_len(10).expect("a length");
        }
    };
    let controls = Controls { progress: Some(Arc::new(sink)), cancel: CancellationToken::new() };
    let folder = world.desk().join("folder");
    let report = put(&store, PutOptions { controls, ..options(folder) }).await.expect("stored");
    assert_eq!(stored_names(&report), ["folder/b"]);
    assert_eq!(report.failed.len(), 1);
    assert!(report.failed[0].path.ends_with("folder/a") && report.failed[0].error.contains("changed"));
    assert!(newest(&store, "folder/a").await.is_none());
    assert!(read_file(&store, "folder/b").await.expect("listed") == random_bytes(2, 2_000_000));
}

#[tokio::test]
async fn a_folder_of_which_nothing_can_be_stored_leaves_no_object() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let folder = world.desk().join("folder");
    fs::create_dir_all(folder.join("empty")).expect("a folder");
    let report = put_folder(&store, folder).await;
    assert_eq!((report.files.len(), report.objects.len()), (0, 0));
    assert_eq!(world.files_on_backends(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn the_store_does_not_store_itself() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    world.source("note", b"beside the store");
    let everything = world.desk().parent().expect("a folder").to_owned();
    let minimal = Some(shard::id::RedundancyLevel::Minimal);
    let name = Some(crate::world::name("all"));
    let sources = vec![PutSource::Folder { path: everything, name }];
    let report = put(&store, PutOptions { sources, level: minimal, ..PutOptions::default() }).await.expect("stored");
    assert_eq!(stored_names(&report), ["all/desk/note"]);
}

#[tokio::test]
async fn files_of_several_sources_share_a_pack_and_one_name_twice_gives_two_versions() {
    let world = TestWorld::with(3, Kept::InMemory).await;
    let store = world.open().await;
    let file = |path| PutSource::File { path, name: None };
    let (one, other) = (world.source("x/a", b"first"), world.source("y/a", b"second"));
    let third = world.source("b", b"third");
    let sources = vec![file(one), file(third), file(other), file(world.desk().join("absent"))];
    let report = put(&store, putting(sources, geometry(2, 3))).await.expect("stored");
    assert_eq!((stored_names(&report), report.objects.len()), (vec!["a", "b", "a"], 2));
    assert_eq!(report.failed.len(), 1);
    let heads = store.catalog(|catalog| catalog.heads(&crate::world::name("a"))).await.expect("heads");
    assert_eq!(heads.len(), 1);
    assert_eq!(read_file(&store, "a").await.expect("listed"), b"second");
}

#[tokio::test]
async fn thousands_of_small_files_make_few_shard_files() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    for number in 0..2000 {
        world.source(&format!("folder/{}/{number}", number % 40), format!("file {number}").repeat(20).as_bytes());
    }
    let folder = world.desk().join("folder");
    let report = put_folder(&store, folder.clone()).await;
    assert_eq!((report.files.len(), report.objects.len()), (2000, 1));
    assert_eq!(world.files_on_backends().len(), 5);
    assert_eq!(read_file(&store, "folder/7/1967").await.expect("listed"), "file 1967".repeat(20).as_bytes());
    assert_eq!(put_folder(&store, folder).await.bytes_written, 0);
}

/// As on a disk that counts whole seconds: written again at once, a file has the times and the length that it had.
#[tokio::test]
async fn a_file_that_was_too_young_for_its_times_to_say_anything_is_compared_by_its_bytes() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    world.source("folder/a", &random_bytes(1, 100_000));
    world.source("folder/b", &random_bytes(2, 2_000_000));
    let folder = world.desk().join("folder");
    let first = put_folder(&store, folder.clone()).await;
    let versions: Vec<_> = first.files.iter().map(|file| (file.version, i64::MIN)).collect();
    let forget = versions.clone();
    store.catalog(move |catalog| catalog.set_change_times(&forget)).await.expect("too young");
    let b = File::options().write(true).open(folder.join("b")).expect("b");
    let modified = b.metadata().and_then(|found| found.modified()).expect("a time");
    std::os::unix::fs::FileExt::write_all_at(&b, &random_bytes(3, 2_000_000), 0).expect("written");
    b.set_modified(modified).expect("its time");
    // Old enough by now to be known by its time.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let second = put_folder(&store, folder.clone()).await;
    assert_eq!((stored_names(&second), second.files.len()), (vec!["folder/b"], 2));
    assert!(read_file(&store, "folder/b").await.expect("listed") == random_bytes(3, 2_000_000));
    let a = versions[0].0;
    let known = store.catalog(move |catalog| catalog.change_time(a)).await.expect("the catalog");
    assert!(known.is_some_and(|known| known != i64::MIN), "its time is known from now on");
    let third = put_folder(&store, folder).await;
    assert_eq!((stored_names(&third).len(), third.bytes_read, third.bytes_written), (0, 0, 0));
}
