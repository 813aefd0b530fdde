//! Removing and pruning.

use super::*;
use shard::error::ErrorKind;
use shard::ops::Controls;
use shard::ops::prune::{KeepRule, PruneOptions, prune};
use shard::ops::remove::remove_lost;
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

fn lose_shards(world: &World, backends: std::ops::Range<usize>) {
    for backend in backends {
        let shards = world.shards(backend).into_keys();
        shards.for_each(|file| fs::remove_file(world.folder(backend).join(file)).expect("lost"));
    }
}

#[tokio::test]
async fn a_lost_object_without_a_readable_index_goes_when_its_id_is_given_and_not_before_it_is_lost() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let object = put_bytes(&store, "file", bytes(1, 1000)).await.objects[0].id;
    let refused = remove_lost(&store, object, &Controls::default()).await.expect_err("it is whole");
    assert_eq!(refused.kind, ErrorKind::Refused);
    lose_shards(&world, 0..3);
    let refused = remove_lost(&store, object, &Controls::default()).await.expect_err("a file is known to be in it");
    assert!(refused.kind == ErrorKind::Refused && refused.hint.is_some_and(|hint| hint.contains("remove file")));
    drop(store);
    world.lose_catalog("a");
    world.unmount(4);
    let store = world.open("a").await;
    run_rebuild(&store).await;
    drop(store);
    world.mount(4);
    let store = world.open("a").await;
    run_refresh(&store).await;
    assert!(names(&store).await.is_empty(), "nobody knows what was in it");
    let removed = remove_lost(&store, object, &Controls::default()).await.expect("removed");
    assert_eq!((removed.files.len(), removed.objects_emptied, removed.shards_deleted), (0, 1, 2));
    run_gc_to_the_end(&store).await;
    assert!(world.all_shards().is_empty());
    let gone = remove_lost(&store, object, &Controls::default()).await.expect_err("it is gone");
    assert_eq!(gone.kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn an_object_that_is_out_of_reach_is_not_taken_for_lost() {
    let world = World::new(5).await;
    let object = put_bytes(&world.open("a").await, "file", bytes(1, 1000)).await.objects[0].id;
    (0..3).for_each(|backend| world.unmount(backend));
    let store = world.open("a").await;
    let refused = remove_lost(&store, object, &Controls::default()).await.expect_err("it may come back");
    assert_eq!(refused.kind, ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_folder_goes_with_all_files_in_it_and_no_other() {
    let world = World::new(3).await;
    let store = world.open("a").await;
    for text in ["top/a", "top/b", "top", "topping"] {
        for round in 0..2 {
            put_at(&store, text, bytes(round, 1000), RedundancyLevel::Minimal).await;
        }
    }
    let folder = |versions| RemoveOptions { folders: vec![name("top")], versions, ..RemoveOptions::default() };
    assert_eq!(remove(&store, folder(RemoveVersions::Newest)).await.expect("removed").files.len(), 2);
    assert_eq!(names(&store).await, ["top", "top/a", "top/b", "topping"], "the older ones are the newest again");
    assert_eq!(remove(&store, folder(RemoveVersions::All)).await.expect("removed").files.len(), 2);
    assert_eq!(names(&store).await, ["top", "topping"]);
    let refused = remove(&store, folder(RemoveVersions::All)).await.expect_err("it is empty");
    assert_eq!(refused.kind, ErrorKind::NotFound);
    remove_file(&store, "top", RemoveVersions::All).await;
    put_at(&store, "top/c", bytes(1, 10), RedundancyLevel::Minimal).await;
    remove_file(&store, "top", RemoveVersions::Newest).await;
    assert_eq!(names(&store).await, ["topping"], "a name that is no file's is a folder's");
}
