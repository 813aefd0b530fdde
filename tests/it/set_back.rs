//! Places that went back to an earlier state, and what is said of them: with real folders, copied and copied back.

use crate::desk::Desk;
use crate::past::{World, bytes, names, put_bytes, remove_file, run_gc, run_rebuild};
use shard::ops::Controls;
use shard::ops::remove::RemoveVersions;
use shard::ops::verify::{VerifyMode, VerifyOptions, VerifyReport, verify};
use shard::store::Store;
use std::fs;
use std::path::Path;

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}

/// Puts a folder back as it was when it was copied.
fn set_back(folder: &Path, snapshot: &Path) {
    fs::remove_dir_all(folder).expect("removed");
    copy(snapshot, folder);
}

async fn put_numbered(store: &Store, numbers: std::ops::Range<u64>) {
    for number in numbers {
        put_bytes(store, &format!("file {number}"), bytes(number, 2_000)).await;
    }
}

async fn look(store: &Store, mode: VerifyMode) -> VerifyReport {
    let options = VerifyOptions { mode, controls: Controls::default(), ..VerifyOptions::default() };
    verify(store, options).await.expect("verified")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn verify_names_the_backend_that_went_back_and_no_other() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_numbered(&store, 0..3).await;
    let snapshot = world.dir("snapshot");
    copy(&world.folder(2), &snapshot);
    put_numbered(&store, 3..7).await;
    set_back(&world.folder(2), &snapshot);
    drop(store);
    let store = world.open("a").await;
    for mode in [VerifyMode::Quick, VerifyMode::Full] {
        let report = look(&store, mode).await;
        assert_eq!(report.set_back.len(), 1, "{:?}", report.set_back);
        let place = &report.set_back[0];
        assert_eq!((place.backend.as_str(), place.missing), ("b2", 4));
        assert!(place.newest_there < place.oldest_missing);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_guessed_where_an_older_shard_is_missing_too_or_only_one_is() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_numbered(&store, 0..3).await;
    let first = world.shards(2).into_keys().next().expect("a shard");
    let snapshot = world.dir("snapshot");
    copy(&world.folder(2), &snapshot);
    put_numbered(&store, 3..4).await;
    set_back(&world.folder(2), &snapshot);
    assert!(look(&store, VerifyMode::Quick).await.set_back.is_empty(), "one missing object is no pattern");
    put_numbered(&store, 4..6).await;
    fs::remove_file(world.folder(2).join(first)).expect("removed");
    assert!(look(&store, VerifyMode::Quick).await.set_back.is_empty());
    fs::remove_dir_all(world.folder(3).join("objects")).expect("removed");
    assert!(look(&store, VerifyMode::Quick).await.set_back.is_empty(), "a place that has nothing went back to nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rebuild_says_which_place_lacks_what_the_others_have() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_numbered(&store, 0..3).await;
    let snapshot = world.dir("snapshot");
    copy(&world.folder(1), &snapshot);
    put_numbered(&store, 3..7).await;
    set_back(&world.folder(1), &snapshot);
    drop(store);
    world.lose_catalog("a");
    let store = world.open("a").await;
    let report = run_rebuild(&store).await;
    assert_eq!(report.files, 7);
    for place in &report.backends {
        let is_back = place.name == "b1";
        assert_eq!(place.lacks, if is_back { 4 } else { 0 }, "{place:?}");
        assert_eq!(place.newest == report.newest, !is_back, "{place:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn removed_shards_that_a_copied_back_place_brings_stay_removed_and_go_again() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_numbered(&store, 0..2).await;
    let snapshot = world.dir("snapshot");
    copy(&world.folder(4), &snapshot);
    let before = world.shards(4).len();
    remove_file(&store, "file 0", RemoveVersions::All).await;
    run_gc(&store).await;
    assert_eq!(world.shards(4).len(), before, "the removal took the place of what it removed");
    drop(store);
    set_back(&world.folder(4), &snapshot);
    let store = world.open("a").await;
    assert_eq!(names(&store).await, ["file 1"]);
    run_gc(&store).await;
    assert_eq!(names(&store).await, ["file 1"]);
    assert_eq!(world.shards(4).len(), before - 1, "what was removed is gone again");
    drop(store);
    world.lose_catalog("a");
    let store = world.open("a").await;
    run_rebuild(&store).await;
    assert_eq!(names(&store).await, ["file 1"]);
}

#[test]
fn recover_and_verify_say_it_to_people_and_to_scripts() {
    let desk = Desk::new();
    for number in 0..5 {
        desk.file(&format!("{number}"), &[number; 100]);
    }
    desk.run(&["put", "0"]);
    desk.run(&["put", "1"]);
    desk.run(&["key", "export", "-o", "kit"]);
    copy(&desk.backend(3), &desk.path("snapshot"));
    for number in 2..5 {
        desk.run(&["put", &number.to_string()]);
    }
    set_back(&desk.backend(3), &desk.path("snapshot"));
    let said = desk.expect(3, &["verify", "--quick"]);
    assert!(said.text().contains("went back to an earlier state: it lacks 3 objects"), "{}", said.text());
    let report = desk.json(3, &["verify", "--quick"]);
    assert_eq!(report["set_back"][0]["missing"], 3);
    let places: Vec<String> = (1..=5).map(|number| desk.backend(number).display().to_string()).collect();
    let from: Vec<&str> = places.iter().flat_map(|place| ["--from", place.as_str()]).collect();
    let words = [&["recover", "--all", "-o", "out", "--key", "kit"], &from[..]].concat();
    let outcome = desk.run(&words);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let behind = format!("{} has nothing made after", places[2]);
    assert_eq!(outcome.stderr.matches(&behind).count(), 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("lacks 3 objects"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("the newest object found was made"), "{}", outcome.stderr);
    for number in 0..5 {
        fs::remove_file(desk.path(&format!("out/{number}"))).expect("it came back");
    }
    let report = desk.json(0, &words);
    let lacks: Vec<u64> =
        report["places"].as_array().expect("places").iter().filter_map(|p| p["lacks"].as_u64()).collect();
    assert_eq!(lacks, [0, 0, 3, 0, 0]);
}
