//! Removing and pruning.

use super::*;
use shard::error::ErrorKind;
use shard::ops::prune::{KeepRule, PruneOptions, prune};
use std::num::NonZeroU32;

#[tokio::test]
async fn removing_the_newest_shows_the_one_before_it() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    for version in 1..=3 {
        put_bytes(&store, "file", bytes(version, 1000)).await;
    }
    for version in [2, 1] {
        let report = remove_file(&store, "file", RemoveVersions::Newest).await;
        assert_eq!((report.files.len(), report.shards_deleted, report.waiting.len()), (1, 5, 0));
        assert!(read_file(&store, "file").await == Some(bytes(version, 1000)));
    }
    remove_file(&store, "file", RemoveVersions::Newest).await;
    assert!(names(&store).await.is_empty());
    let options = RemoveOptions { names: vec![name("file")], ..RemoveOptions::default() };
    assert_eq!(remove(&store, options).await.expect_err("nothing left").kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn one_version_goes_and_the_others_stay() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let mut versions = Vec::new();
    for version in 1..=3 {
        versions.push(put_bytes(&store, "file", bytes(version, 1000)).await.files[0].version);
    }
    remove_file(&store, "file", RemoveVersions::One(versions[1])).await;
    let left: Vec<VersionId> =
        list_all(&store, ListedVersions::All).await.files.iter().map(|file| file.version).collect();
    assert_eq!(left, [versions[2], versions[0]]);
    for gone in [versions[1], VersionId([7; 16])] {
        let options = RemoveOptions {
            names: vec![name("file")],
            versions: RemoveVersions::One(gone),
            ..RemoveOptions::default()
        };
        assert_eq!(remove(&store, options).await.expect_err("gone").kind, ErrorKind::NotFound);
    }
}

#[tokio::test]
async fn when_one_of_several_names_is_not_there_nothing_is_removed() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_bytes(&store, "here", bytes(1, 10)).await;
    let names_given = vec![name("here"), name("not-here")];
    let error = remove(&store, RemoveOptions { names: names_given, ..RemoveOptions::default() }).await;
    assert_eq!(error.expect_err("one is missing").kind, ErrorKind::NotFound);
    assert_eq!(names(&store).await, ["here"]);
}

#[tokio::test]
async fn a_removal_is_at_least_as_redundant_as_what_it_removes() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_at(&store, "file", bytes(1, 1000), RedundancyLevel::Minimal).await;
    put_at(&store, "file", bytes(2, 1000), RedundancyLevel::Paranoid).await;
    let report = remove_file(&store, "file", RemoveVersions::All).await;
    assert_eq!((report.removals[0].data_shards, report.removals[0].total_shards), (7, 15));
}

#[tokio::test]
async fn a_file_that_shares_its_object_leaves_its_bytes_until_it_is_packed_anew() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_together(&store, &[("small", bytes(1, 1000)), ("large", bytes(2, 100_000))]).await;
    let report = remove_file(&store, "folder/small", RemoveVersions::All).await;
    assert_eq!((report.bytes_until_repacked, report.shards_deleted, report.objects_emptied), (1000, 0, 0));
    assert!(read_file(&store, "folder/large").await == Some(bytes(2, 100_000)));
    let report = remove_file(&store, "folder/large", RemoveVersions::All).await;
    assert_eq!((report.bytes_until_repacked, report.shards_deleted, report.objects_emptied), (0, 5, 1));
}

#[tokio::test]
async fn deletes_that_cannot_be_made_wait_for_their_backend() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_bytes(&store, "file", bytes(1, 1000)).await;
    drop(store);
    world.unmount(2);
    let store = world.open("a").await;
    let report = remove_file(&store, "file", RemoveVersions::All).await;
    assert_eq!((report.shards_deleted, report.waiting.len()), (4, 1));
    drop(store);
    world.mount(2);
    assert_eq!(world.shards(2).len(), 1);
    let store = world.open("a").await;
    assert_eq!(run_gc(&store).await.waiting.len(), 0);
    assert_eq!(world.all_shards().len(), 5, "of the removal: other machines are to hear of it");
    assert_eq!(run_gc_to_the_end(&store).await.removals_finished, 0);
    assert!(world.all_shards().is_empty(), "nothing is left of the file, nor of its removal");
    assert!(run_gc(&store).await.is_nothing());
}

#[tokio::test]
async fn pruning_keeps_the_newest_of_every_file_below_the_prefix() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    for version in 1..=4 {
        for file in ["in/one", "in/two", "out"] {
            put_bytes(&store, file, bytes(version, 100)).await;
        }
    }
    let keep = KeepRule { last: NonZeroU32::new(2), within: None };
    let report = prune(&store, PruneOptions { prefix: "in".into(), keep, ..PruneOptions::default() }).await;
    let report = report.expect("pruned");
    assert_eq!((report.files.len(), report.removals.len()), (4, 1), "one removal for all");
    let listed = list_all(&store, ListedVersions::All).await;
    let count = |file: &str| listed.files.iter().filter(|listed| listed.name == name(file)).count();
    assert_eq!((count("in/one"), count("in/two"), count("out")), (2, 2, 4));
    assert!(read_file(&store, "in/one").await == Some(bytes(4, 100)));
    let again = prune(&store, PruneOptions { prefix: "in".into(), keep, ..PruneOptions::default() }).await;
    assert!(again.expect("pruned").removals.is_empty(), "nothing to prune writes nothing");
    let nothing = prune(&store, PruneOptions::default()).await;
    assert_eq!(nothing.expect_err("no rule").kind, ErrorKind::Invalid);
}
