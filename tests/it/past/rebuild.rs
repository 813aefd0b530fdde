//! The catalog made anew from the backends.

use super::*;
use crate::recover_desk::everything;
use shard::catalog::ObjectState;
use shard::error::ErrorKind;
use shard::ops::recover::recover;
use std::collections::BTreeSet;

/// Files with versions, two that share an object, one that was removed.
async fn fill(store: &Store) -> BTreeMap<String, Vec<u8>> {
    put_bytes(store, "one", bytes(1, 1000)).await;
    put_bytes(store, "one", bytes(2, 300_000)).await;
    put_bytes(store, "two", bytes(3, 2_000_000)).await;
    put_together(store, &[("x", bytes(4, 10)), ("empty", Vec::new())]).await;
    put_bytes(store, "gone", bytes(5, 5000)).await;
    remove_file(store, "gone", RemoveVersions::All).await;
    let mut files = BTreeMap::new();
    for (file, content) in [
        ("one", bytes(2, 300_000)),
        ("two", bytes(3, 2_000_000)),
        ("folder/x", bytes(4, 10)),
        ("folder/empty", Vec::new()),
    ] {
        files.insert(file.to_owned(), content);
    }
    files
}

async fn assert_holds(store: &Store, files: &BTreeMap<String, Vec<u8>>) {
    assert_eq!(names(store).await, files.keys().cloned().collect::<Vec<_>>());
    for (file, content) in files {
        assert!(read_file(store, file).await.as_ref() == Some(content), "{file}");
    }
}

/// All that a catalog says of what is where, without its own order.
async fn dump(store: &Store) -> (Vec<String>, BTreeSet<String>) {
    let listed = list_all(store, ListedVersions::All).await;
    let files = listed.files.iter().map(|file| format!("{file:?}")).collect();
    let shards = store
        .catalog(|catalog| {
            let mut all = BTreeSet::new();
            for object in catalog.objects_after(None, usize::MAX)? {
                all.extend(catalog.shards(object)?.iter().map(|shard| format!("{object} {shard:?}")));
            }
            Ok(all)
        })
        .await
        .expect("the catalog");
    (files, shards)
}

#[tokio::test]
async fn any_backends_with_k_shards_and_the_key_bring_everything_back() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let files = fill(&store).await;
    drop(store);
    for first in 0..5 {
        for second in first + 1..5 {
            world.unmount(first);
            world.unmount(second);
            world.lose_catalog("a");
            let store = world.open("a").await;
            let report = run_rebuild(&store).await;
            assert!(report.unreadable.is_empty() && report.untrusted.is_empty(), "{report:?}");
            assert_eq!(report.backends.iter().filter(|place| place.problem.is_some()).count(), 2);
            assert_holds(&store, &files).await;
            world.mount(first);
            world.mount(second);
        }
    }
}

#[tokio::test]
async fn a_rebuilt_catalog_says_what_the_lost_one_said_in_whatever_order_the_backends_are() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let files = fill(&store).await;
    let before = dump(&store).await;
    run_rebuild(&store).await;
    assert_eq!(dump(&store).await, before, "over the old one");
    drop(store);
    for (machine, order) in [("b", [4, 3, 2, 1, 0]), ("c", [2, 0, 4, 1, 3])] {
        world.add_machine(machine, &order);
        let other = world.open(machine).await;
        let report = run_rebuild(&other).await;
        assert_eq!((report.files, report.versions, report.removals), (4, 5, 1));
        assert_eq!(dump(&other).await, before, "{machine}");
        assert_holds(&other, &files).await;
        assert_eq!(run_refresh(&other).await.objects, 0, "a rebuilt catalog has nothing to learn");
    }
}

#[tokio::test]
async fn a_removed_file_stays_removed_when_the_catalog_is_lost_and_a_backend_comes_back() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_bytes(&store, "kept", bytes(1, 5000)).await;
    put_bytes(&store, "secret", bytes(2, 5000)).await;
    drop(store);
    let before = world.shards(4);
    world.unmount(4);
    let store = world.open("a").await;
    let report = remove_file(&store, "secret", RemoveVersions::All).await;
    assert_eq!((report.shards_deleted, report.objects_emptied), (4, 1));
    assert_eq!(
        report.waiting.iter().map(|waiting| (waiting.backend.as_str(), waiting.shards)).collect::<Vec<_>>(),
        [("b4", 1)]
    );
    let again = run_gc(&store).await;
    assert_eq!((again.removals_finished, again.shards_deleted), (0, 0), "its removal is still needed");
    drop(store);
    world.lose_catalog("a");
    world.mount(4);
    assert_eq!(world.shards(4), before);
    let store = world.open("a").await;
    let report = run_rebuild(&store).await;
    assert_eq!((report.files, report.unreadable.len()), (1, 0), "{report:?}");
    assert_eq!(names(&store).await, ["kept"]);
    run_gc(&store).await;
    assert_eq!(world.shards(4).len(), 1, "of the kept file alone: the removal was written while this place was away");
    assert_eq!(names(&store).await, ["kept"]);
}

#[tokio::test]
async fn what_cannot_be_read_now_is_recorded_without_a_name_and_read_by_a_later_refresh() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let report = put_bytes(&store, "file", bytes(1, 400_000)).await;
    drop(store);
    world.lose_catalog("a");
    for backend in [0, 1, 2] {
        world.unmount(backend);
    }
    let store = world.open("a").await;
    let rebuilt = run_rebuild(&store).await;
    let unreadable: Vec<_> = rebuilt.unreadable.iter().map(|object| (object.id, object.state, object.found)).collect();
    assert_eq!(unreadable, [(report.objects[0].id, ObjectState::Unavailable, 2)]);
    assert_eq!((rebuilt.files, rebuilt.objects), (0, 1));
    assert_eq!(not_recovered(&world, &store).await, [(report.objects[0].id, ErrorKind::Unavailable)]);
    let gc = run_gc(&store).await;
    assert_eq!(gc.left_alone, [report.objects[0].id], "an object whose index is unknown is never emptied");
    drop(store);
    for backend in [0, 1, 2] {
        world.mount(backend);
    }
    let store = world.open("a").await;
    assert_eq!(run_refresh(&store).await.objects, 1);
    assert!(read_file(&store, "file").await == Some(bytes(1, 400_000)));
    assert!(not_recovered(&world, &store).await.is_empty());
    assert_eq!(run_refresh(&store).await.objects, 0);
}

/// What a recovering of everything says that it lacks.
async fn not_recovered(world: &World, store: &Store) -> Vec<(ObjectId, ErrorKind)> {
    let folder = tempfile::tempdir_in(world.dir("out").parent().expect("a folder")).expect("a folder");
    let report = recover(store, everything(folder.path())).await.expect("recovered");
    report.unread.into_iter().map(|unread| (unread.object, unread.kind)).collect()
}

#[tokio::test]
async fn with_too_few_shards_anywhere_an_object_is_lost_and_its_shards_are_left_alone() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_bytes(&store, "file", bytes(1, 1000)).await;
    for backend in [0, 1, 2] {
        for file in world.shards(backend).into_keys() {
            fs::remove_file(world.folder(backend).join(file)).expect("removed");
        }
    }
    let before = world.all_shards();
    let report = run_rebuild(&store).await;
    assert_eq!(report.unreadable[0].state, ObjectState::Lost);
    assert_eq!(not_recovered(&world, &store).await, [(report.unreadable[0].id, ErrorKind::Lost)]);
    run_gc(&store).await;
    assert_eq!(world.all_shards(), before);
}

#[tokio::test]
async fn what_nobody_signed_is_told_and_neither_taken_in_nor_deleted() {
    let world = World::new(3).await;
    let other = World::new(3).await;
    let (store, foreign) = (world.open("a").await, other.open("a").await);
    put_at(&store, "mine", bytes(1, 1000), RedundancyLevel::Minimal).await;
    put_at(&foreign, "theirs", bytes(2, 1000), RedundancyLevel::Minimal).await;
    for (backend, file, content) in (0..3).flat_map(|b| other.shards(b).into_iter().map(move |(f, c)| (b, f, c))) {
        let path = world.folder(backend).join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, content).expect("planted");
    }
    let before = world.all_shards();
    for _ in 0..2 {
        let report = run_rebuild(&store).await;
        assert_eq!((report.untrusted.len(), report.files), (1, 1));
        assert_eq!(names(&store).await, ["mine"]);
        run_gc(&store).await;
    }
    assert_eq!(world.all_shards(), before);
}

#[tokio::test]
async fn places_may_be_named_beside_the_settings_but_not_those_of_another_store() {
    let world = World::new(3).await;
    let store = world.open("a").await;
    put_at(&store, "file", bytes(1, 1000), RedundancyLevel::Minimal).await;
    world.add_machine("b", &[]);
    let empty = world.open("b").await;
    let nothing = rebuild(&empty, RebuildOptions::default()).await.expect_err("nothing to read");
    assert_eq!(nothing.kind, ErrorKind::Unavailable);
    let url = |backend| world.folder(backend).to_str().expect("a path").to_owned();
    let from = vec![url(0), url(2)];
    let report = rebuild(&empty, RebuildOptions { from, ..RebuildOptions::default() }).await.expect("rebuilt");
    assert_eq!((report.files, report.backends.len()), (1, 2));
    let other = World::new(1).await;
    let from = vec![other.folder(0).to_str().expect("a path").to_owned()];
    let refused = rebuild(&empty, RebuildOptions { from, ..RebuildOptions::default() }).await.expect_err("foreign");
    assert_eq!(refused.kind, ErrorKind::WrongKey);
}
