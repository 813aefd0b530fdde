//! Two machines with the same key and the same backends.

use super::*;
use shard::catalog::ObjectState;
use shard::ops::verify::{VerifyOptions, verify};

async fn two_machines() -> (World, Store, Store) {
    let world = World::new(5).await;
    world.add_machine("b", &[4, 2, 0, 1, 3]);
    let (one, two) = (world.open("a").await, world.open("b").await);
    (world, one, two)
}

async fn contents(store: &Store, text: &str) -> Vec<Vec<u8>> {
    let mut contents = Vec::new();
    for head in heads(store, text).await {
        contents.push(read_version(store, head.id).await.expect("readable"));
    }
    contents.sort();
    contents
}

#[tokio::test]
async fn what_one_machine_put_the_other_sees_after_a_refresh() {
    let (_world, one, two) = two_machines().await;
    put_bytes(&one, "file", bytes(1, 100_000)).await;
    assert!(names(&two).await.is_empty());
    let report = run_refresh(&two).await;
    assert_eq!((report.objects, report.files, report.versions_gained), (1, 1, 1));
    assert!(read_file(&two, "file").await == Some(bytes(1, 100_000)));
    let again = run_refresh(&two).await;
    assert_eq!((again.objects, again.versions_gained, again.shards_found), (0, 0, 0));
}

#[tokio::test]
async fn two_machines_that_put_one_name_at_once_lose_nothing_and_both_show_both() {
    let (_world, one, two) = two_machines().await;
    put_bytes(&one, "file", bytes(0, 50)).await;
    run_refresh(&two).await;
    put_bytes(&one, "file", bytes(1, 1000)).await;
    put_bytes(&two, "file", bytes(2, 2000)).await;
    run_refresh(&one).await;
    run_refresh(&two).await;
    let mut both = vec![bytes(1, 1000), bytes(2, 2000)];
    both.sort();
    assert_eq!(contents(&one, "file").await, both);
    assert_eq!(contents(&two, "file").await, both);
    let listed = list_all(&one, ListedVersions::Heads).await;
    assert_eq!(listed.files.iter().map(|file| file.heads).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(listed.files, list_all(&two, ListedVersions::Heads).await.files);
    put_bytes(&one, "file", bytes(3, 3000)).await;
    run_refresh(&two).await;
    assert_eq!(contents(&two, "file").await, [bytes(3, 3000)], "a put that knew both replaces both");
    assert_eq!(list_all(&two, ListedVersions::All).await.files.len(), 4);
}

#[tokio::test]
async fn a_removal_on_one_machine_spares_what_the_other_put_meanwhile() {
    let (_world, one, two) = two_machines().await;
    put_bytes(&one, "file", bytes(1, 1000)).await;
    put_bytes(&one, "other", bytes(9, 10)).await;
    run_refresh(&two).await;
    remove_file(&one, "file", RemoveVersions::All).await;
    put_bytes(&two, "file", bytes(2, 2000)).await;
    remove_file(&two, "other", RemoveVersions::Newest).await;
    for _ in 0..2 {
        run_refresh(&one).await;
        run_refresh(&two).await;
    }
    for store in [&one, &two] {
        assert_eq!(names(store).await, ["file"]);
        assert_eq!(contents(store, "file").await, [bytes(2, 2000)]);
    }
    for store in [&one, &two, &one, &two] {
        run_gc(store).await;
        assert_eq!(contents(store, "file").await, [bytes(2, 2000)]);
    }
}

#[tokio::test]
async fn two_machines_that_remove_and_pack_anew_in_turn_lose_nothing() {
    let (_world, one, two) = two_machines().await;
    let files: Vec<(String, Vec<u8>)> = (0..8).map(|n| (format!("f{n}"), bytes(n, 40_000))).collect();
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|(file, content)| (file.as_str(), content.clone())).collect();
    let old = put_together(&one, &files).await.objects[0].id;
    run_refresh(&two).await;
    for file in 0..3 {
        remove_file(&one, &format!("folder/f{file}"), RemoveVersions::All).await;
    }
    for file in 2..6 {
        let wanted = format!("folder/f{file}");
        if !heads(&two, &wanted).await.is_empty() {
            remove_file(&two, &wanted, RemoveVersions::All).await;
        }
    }
    // Neither knows what the other removed when it packs anew.
    for store in [&one, &two, &one, &two] {
        run_gc(store).await;
        for file in [6, 7] {
            let wanted = format!("folder/f{file}");
            assert!(read_file(store, &wanted).await == Some(bytes(file, 40_000)), "{wanted}");
        }
    }
    run_refresh(&one).await;
    assert_eq!(names(&one).await, ["folder/f6", "folder/f7"]);
    let report = run_refresh(&two).await;
    assert!(report.vanished.is_empty(), "the removals are told still: {:?}", report.vanished);
    assert_eq!(names(&two).await, ["folder/f6", "folder/f7"]);
    assert!(two.catalog(move |catalog| catalog.object_is_live(old)).await.is_ok_and(|is_live| !is_live));
}

#[tokio::test]
async fn a_machine_that_comes_after_a_removal_is_gone_is_told_that_its_files_are_lost() {
    let (_world, one, two) = two_machines().await;
    let object = put_bytes(&one, "file", bytes(1, 1000)).await.objects[0].id;
    put_bytes(&one, "kept", bytes(2, 1000)).await;
    run_refresh(&two).await;
    remove_file(&one, "file", RemoveVersions::All).await;
    run_gc_to_the_end(&one).await;
    assert_eq!(run_refresh(&two).await.lost, [object], "nothing is decided by absence");
    assert_eq!(names(&two).await, ["file", "kept"]);
    remove_file(&two, "file", RemoveVersions::All).await;
    assert_eq!(names(&two).await, ["kept"]);
}

#[tokio::test]
async fn a_machine_that_looks_before_a_removal_is_finished_hears_of_it() {
    let (world, one, two) = two_machines().await;
    put_bytes(&one, "file", bytes(1, 1000)).await;
    put_bytes(&one, "kept", bytes(2, 1000)).await;
    run_refresh(&two).await;
    remove_file(&one, "file", RemoveVersions::All).await;
    run_refresh(&two).await;
    run_gc_to_the_end(&one).await;
    let report = run_refresh(&two).await;
    assert_eq!(names(&two).await, ["kept"]);
    assert_eq!(world.all_shards().len(), 5);
    assert!(report.lost.is_empty(), "{:?}", report.lost);
    assert!(report.vanished.is_empty(), "the removal is over, and nothing is lost: {:?}", report.vanished);
    assert!(one_look(&two).await.iter().all(|state| *state == ObjectState::Healthy));
    run_gc(&two).await;
    assert!(run_refresh(&two).await.vanished.is_empty());
    let known = two.catalog(|catalog| Ok((catalog.pending_deletes(None, 9)?, catalog.dead_objects(None, 9)?)));
    assert_eq!(known.await.expect("the catalog"), (Vec::new(), Vec::new()), "nothing of it is left here either");
}

/// How a look finds each object.
async fn one_look(store: &Store) -> Vec<ObjectState> {
    let report = verify(store, VerifyOptions::default()).await.expect("verified");
    report.objects.iter().map(|object| object.state).collect()
}

#[tokio::test]
async fn a_removal_whose_shards_are_gone_before_those_it_names_is_lost_and_not_over() {
    let (world, one, two) = two_machines().await;
    put_bytes(&one, "file", bytes(1, 1000)).await;
    let kept = world.all_shards();
    remove_file(&one, "file", RemoveVersions::All).await;
    run_refresh(&two).await;
    for (backend, file) in world.all_shards().into_keys() {
        fs::remove_file(world.folder(backend).join(file)).expect("removed");
    }
    for ((backend, file), content) in kept {
        fs::write(world.folder(backend).join(file), content).expect("written");
    }
    let report = run_refresh(&two).await;
    assert_eq!((report.vanished.len(), report.removed_shards_found), (1, 5));
    assert_eq!(one_look(&two).await, [ObjectState::Lost]);
    assert!(names(&two).await.is_empty());
    run_gc(&two).await;
    assert_eq!(world.all_shards().len(), 0);
    assert!(run_refresh(&two).await.vanished.is_empty(), "what it named is gone");
    assert!(one_look(&two).await.is_empty());
}

#[tokio::test]
async fn an_object_with_fewer_shards_than_the_quorum_is_left_until_it_is_whole() {
    let (world, one, two) = two_machines().await;
    let object = put_bytes(&one, "file", bytes(1, 1000)).await.objects[0].id;
    let aside: Vec<_> = (0..2).flat_map(|b| world.shards(b).into_iter().map(move |(f, c)| (b, f, c))).collect();
    for (backend, file, _) in &aside {
        fs::remove_file(world.folder(*backend).join(file)).expect("removed");
    }
    let report = run_refresh(&two).await;
    let incomplete: Vec<_> = report.incomplete.iter().map(|object| (object.id, object.found, object.needed)).collect();
    assert_eq!(incomplete, [(object, 3, 4)]);
    assert!(names(&two).await.is_empty());
    for (backend, file, content) in &aside {
        fs::write(world.folder(*backend).join(file), content).expect("written");
    }
    assert_eq!(run_refresh(&two).await.objects, 1);
    assert_eq!(names(&two).await, ["file"]);
}

#[tokio::test]
async fn a_shard_that_was_moved_by_another_machine_is_recorded_where_it_is() {
    let (world, one, _two) = two_machines().await;
    let object = put_bytes(&one, "file", bytes(1, 1000)).await.objects[0].id;
    let (file, content) = world.shards(0).into_iter().next().expect("a shard");
    let to = world.folder(3).join(&file);
    fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
    fs::write(to, content).expect("written");
    fs::remove_file(world.folder(0).join(&file)).expect("removed");
    assert_eq!(run_refresh(&one).await.shards_found, 1);
    let shards = one.catalog(move |catalog| catalog.shards(object)).await.expect("the catalog");
    assert_eq!(shards.len(), 5);
    assert!(shards.iter().all(|shard| shard.backend != world.id(0)));
    assert_eq!(shards.iter().filter(|shard| shard.backend == world.id(3)).count(), 2);
}

#[tokio::test]
async fn shards_of_a_removed_object_that_turn_up_again_are_deleted() {
    let (world, one, two) = two_machines().await;
    put_bytes(&one, "file", bytes(1, 1000)).await;
    run_refresh(&two).await;
    drop(two);
    let kept = world.shards(0);
    // A place that is away when the file is removed keeps the removal alive.
    drop(one);
    world.unmount(1);
    let one = world.open("a").await;
    remove_file(&one, "file", RemoveVersions::All).await;
    run_gc(&one).await;
    for (file, content) in &kept {
        fs::write(world.folder(0).join(file), content).expect("written");
    }
    assert_eq!(run_refresh(&one).await.removed_shards_found, 1);
    assert!(names(&one).await.is_empty());
    run_gc(&one).await;
    assert!(kept.keys().all(|file| !world.folder(0).join(file).exists()));
    world.mount(1);
}
