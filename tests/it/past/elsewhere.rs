//! What a catalog says that was made anew: after crashes, beside others at work, and with backends away.

use super::*;
use crate::desk::Desk;
use shard::catalog::{Catalog, Commit, JournalEntry, ObjectRecord, ObjectState, ProcessLock, Purpose, ShardState};
use shard::error::ErrorKind;
use shard::format::Index;
use shard::id::ProcessId;
use shard::ops::Controls;
use shard::ops::examine::{Depth, examine};
use shard::ops::repair::{RepairOptions, repair};
use shard::ops::{Removing, remove_backend};

/// A process that died.
const DEAD: ProcessId = ProcessId([0xDE; 16]);

async fn state(store: &Store, object: ObjectId) -> ObjectState {
    let health = store.catalog(move |catalog| catalog.health(object)).await.expect("the catalog");
    health.expect("an object").state
}

async fn look(store: &Store, object: ObjectId) -> ObjectState {
    let seen = examine(store, object, Depth::Quick, &Controls::default()).await.expect("a look");
    let record = seen.expect("an object").check_record(store.now_ns());
    let state = record.state;
    store.catalog(move |catalog| catalog.record_check(&record)).await.expect("recorded");
    state
}

#[tokio::test]
async fn a_rebuild_after_a_repair_or_a_drain_that_died_keeps_what_they_were_at() {
    for purpose in [Purpose::Repair, Purpose::Move, Purpose::Put] {
        let world = World::new(5).await;
        let store = world.open("a").await;
        let object = put_bytes(&store, "file", bytes(1, 100_000)).await.objects[0].id;
        let shards = store.catalog(move |catalog| catalog.shards(object)).await.expect("shards");
        let shards = shards.iter().map(|shard| (shard.index, shard.backend)).collect();
        drop(ProcessLock::acquire(&store.dir().join("run"), DEAD).expect("a lock"));
        let entry = JournalEntry { object, process: DEAD, purpose, name: None, version: None, shards };
        store.catalog(move |catalog| catalog.begin(&entry)).await.expect("journaled");
        let report = run_rebuild(&store).await;
        assert_eq!((report.files, report.in_progress), (1, 0), "{purpose:?}");
        put_bytes(&store, "other", bytes(2, 1000)).await;
        assert_eq!(world.all_shards().len(), 10);
        assert!(read_file(&store, "file").await == Some(bytes(1, 100_000)));
    }
}

#[tokio::test]
async fn an_older_copy_of_the_catalog_deletes_nothing_of_what_was_finished_since() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let object = put_bytes(&store, "file", bytes(1, 100_000)).await.objects[0].id;
    let shards = store.catalog(move |catalog| catalog.shards(object)).await.expect("shards");
    let shards = shards.iter().map(|shard| (shard.index, shard.backend)).collect();
    // As it was while the file was being put, and the shards as they are after two disks failed.
    let entry = JournalEntry { object, process: DEAD, purpose: Purpose::Put, name: None, version: None, shards };
    let older = move |catalog: &mut Catalog| {
        catalog.forget_object(object)?;
        catalog.begin(&entry)
    };
    store.catalog(older).await.expect("an older copy");
    for backend in [0, 1] {
        for file in world.shards(backend).into_keys() {
            fs::remove_file(world.folder(backend).join(file)).expect("removed");
        }
    }
    put_bytes(&store, "other", bytes(2, 1000)).await;
    assert_eq!(world.all_shards().len(), 3 + 5);
    run_rebuild(&store).await;
    assert!(read_file(&store, "file").await == Some(bytes(1, 100_000)));
}

#[tokio::test]
async fn what_is_put_and_removed_beside_a_rebuild_is_there_at_every_moment() {
    let world = World::new(3).await;
    let (one, two) = (world.open("a").await, world.open("a").await);
    for number in 0..40 {
        put_at(&one, &format!("old-{number}"), bytes(number, 100), RedundancyLevel::Minimal).await;
    }
    let beside = async {
        for number in 0..20 {
            put_at(&two, "file", bytes(number, 1000), RedundancyLevel::Minimal).await;
            remove_file(&two, &format!("old-{number}"), RemoveVersions::All).await;
            let seen = heads(&two, "file").await;
            assert_eq!(seen.len(), 1, "after {number}: no version is beside another");
            assert!(heads(&two, &format!("old-{number}")).await.is_empty(), "{number} stays removed");
            put_at(&two, "brief", bytes(number, 10), RedundancyLevel::Minimal).await;
            remove_file(&two, "brief", RemoveVersions::All).await;
        }
    };
    let rebuilding = async {
        for _ in 0..3 {
            run_rebuild(&one).await;
        }
    };
    tokio::join!(beside, rebuilding);
    assert_eq!(names(&one).await.len(), 21);
    assert_eq!(heads(&one, "file").await.len(), 1);
    assert!(read_file(&one, "file").await == Some(bytes(19, 1000)));
}

#[tokio::test]
async fn what_a_rebuild_could_not_see_is_expected_where_nobody_answered() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let object = put_bytes(&store, "file", bytes(1, 100_000)).await.objects[0].id;
    drop(store);
    world.lose_catalog("a");
    world.unmount(4);
    let store = world.open("a").await;
    run_rebuild(&store).await;
    assert_eq!(state(&store, object).await, ObjectState::Degraded);
    assert_eq!(look(&store, object).await, ObjectState::Degraded);
    let repaired = repair(&store, RepairOptions::default()).await.expect("repaired");
    assert_eq!(repaired.bytes_written, 0, "the shard is where nobody could look");
    drop(store);
    world.mount(4);
    let store = world.open("a").await;
    run_refresh(&store).await;
    assert_eq!(state(&store, object).await, ObjectState::Healthy);
    assert_eq!(look(&store, object).await, ObjectState::Healthy);
}

#[tokio::test]
async fn what_cannot_be_read_after_a_rebuild_is_unavailable_and_lost_only_once_nothing_is_away() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let report = put_bytes(&store, "file", bytes(1, 100_000)).await;
    let (object, version) = (report.objects[0].id, heads(&store, "file").await[0].id);
    drop(store);
    world.lose_catalog("a");
    world.unmount(3);
    world.unmount(4);
    let store = world.open("a").await;
    run_rebuild(&store).await;
    drop(store);
    world.unmount(2);
    let store = world.open("a").await;
    assert_eq!(look(&store, object).await, ObjectState::Unavailable);
    let error = read_version(&store, version).await.expect_err("too few");
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    drop(store);
    for backend in [2, 3, 4] {
        world.mount(backend);
    }
    let store = world.open("a").await;
    assert_eq!(run_refresh(&store).await.shards_found, 3);
    assert_eq!(state(&store, object).await, ObjectState::Healthy);
    let shards = store.catalog(move |catalog| catalog.shards(object)).await.expect("shards");
    let good = shards.iter().filter(|shard| shard.state == ShardState::Ok).count();
    assert_eq!((good, shards.len()), (5, 5), "what was expected in two places is in one: {shards:?}");
}

#[tokio::test]
async fn an_object_that_is_unavailable_is_not_so_any_more_once_a_refresh_sees_its_shards() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let object = put_bytes(&store, "file", bytes(1, 100_000)).await.objects[0].id;
    drop(store);
    world.lose_catalog("a");
    (0..3).for_each(|backend| world.unmount(backend));
    let store = world.open("a").await;
    run_rebuild(&store).await;
    assert_eq!(state(&store, object).await, ObjectState::Unavailable);
    drop(store);
    (0..3).for_each(|backend| world.mount(backend));
    let store = world.open("a").await;
    run_refresh(&store).await;
    assert_eq!(state(&store, object).await, ObjectState::Healthy);
}

#[tokio::test]
async fn a_backend_that_is_given_up_shows_in_what_is_known_of_its_objects() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let object = put_bytes(&store, "file", bytes(1, 1000)).await.objects[0].id;
    assert_eq!(look(&store, object).await, ObjectState::Healthy);
    remove_backend(&store, "b0", Removing::Forced).await.expect("removed");
    assert_eq!(state(&store, object).await, ObjectState::Degraded);
    let status = shard::ops::status::status(&store, Default::default()).await.expect("a status");
    assert_eq!(status.state, ObjectState::Degraded);
}

#[tokio::test]
async fn what_waits_on_a_backend_that_no_settings_have_is_given_up_by_its_id() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let object = put_bytes(&store, "file", bytes(1, 1000)).await.objects[0].id;
    remove_file(&store, "file", RemoveVersions::All).await;
    let gone = BackendId([0xAB; 16]);
    assert!(remove_backend(&store, &gone.to_string(), Removing::Forced).await.is_err(), "nothing is known of it");
    store.catalog(move |catalog| catalog.pend_removed(object, 0, gone)).await.expect("it waits");
    let waiting = run_gc(&store).await.waiting;
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    assert_eq!((waiting[0].backend.as_str(), waiting[0].unknown), (gone.to_string().as_str(), true));
    let refused = remove_backend(&store, &gone.to_string(), Removing::Empty).await.expect_err("something waits there");
    assert_eq!(refused.kind, ErrorKind::Refused);
    // What a process was writing to is given up as well.
    let (purpose, shards) = (Purpose::Repair, vec![(0, gone)]);
    let entry = JournalEntry { object, process: DEAD, purpose, name: None, version: None, shards };
    store.catalog(move |catalog| catalog.begin(&entry)).await.expect("begun");
    remove_backend(&store, &gone.to_string(), Removing::Forced).await.expect("given up");
    let known = store.catalog(move |catalog| catalog.pending_deletes_on(gone)).await.expect("the catalog");
    assert_eq!((known, run_gc(&store).await.waiting.len()), (0, 0));
}

#[tokio::test]
async fn an_object_whose_manifest_is_damaged_in_the_catalog_is_looked_at_by_that_of_its_shards() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let object = put_bytes(&store, "file", bytes(1, 1000)).await.objects[0].id;
    put_bytes(&store, "other", bytes(2, 1000)).await;
    let damage = move |catalog: &mut Catalog| {
        let (record, shards) = (catalog.object(object)?.expect("an object"), catalog.shards(object)?);
        catalog.forget_object(object)?;
        let mut signature = record.signature.clone();
        signature[0] ^= 1;
        let (object, index) = (ObjectRecord { signature, ..record }, Index::default());
        catalog.commit(&Commit { object, shards, index, piece_hashes: Vec::new() })
    };
    store.catalog(damage).await.expect("damaged");
    assert_eq!(look(&store, object).await, ObjectState::Healthy);
    let (place, lost) =
        world.all_shards().into_keys().find(|(_, file)| file.contains(&object.to_string())).expect("one");
    fs::remove_file(world.folder(place).join(&lost)).expect("removed");
    repair(&store, RepairOptions::default()).await.expect("repaired");
    assert!(world.folder(place).join(&lost).exists(), "it is made again");
    assert_eq!(look(&store, object).await, ObjectState::Healthy);
}

#[tokio::test]
async fn files_that_vanished_are_lost_and_put_stores_them_again() {
    let world = World::new(3).await;
    let store = world.open("a").await;
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("x"), bytes(1, 1000)).expect("written");
    let put_folder = async || {
        let source = PutSource::Folder { path: folder.path().to_owned(), name: Some(name("folder")) };
        let level = Some(RedundancyLevel::Minimal);
        put(&store, PutOptions { sources: vec![source], level, ..PutOptions::default() }).await.expect("stored")
    };
    let object = put_folder().await.objects[0].id;
    assert!(put_folder().await.files[0].skipped);
    let gone = (0..3).flat_map(|backend| world.shards(backend).into_keys().map(move |file| (backend, file)));
    gone.for_each(|(backend, file)| fs::remove_file(world.folder(backend).join(file)).expect("removed"));
    assert_eq!(run_refresh(&store).await.lost, [object]);
    assert_eq!(state(&store, object).await, ObjectState::Lost);
    assert!(!put_folder().await.files[0].skipped);
    assert!(read_file(&store, "folder/x").await == Some(bytes(1, 1000)));
}

#[tokio::test]
async fn a_rebuild_with_another_key_says_so_and_works_once_the_key_is_right() {
    let world = World::new(3).await;
    let store = world.open("a").await;
    put_at(&store, "file", bytes(1, 1000), RedundancyLevel::Minimal).await;
    drop(store);
    let other = World::new(1).await;
    let key = world.dir("a").join(KEY_NAME);
    let right = fs::read(&key).expect("the key");
    fs::copy(other.dir("a").join(KEY_NAME), &key).expect("another key");
    world.lose_catalog("a");
    let store = world.open("a").await;
    let refused = rebuild(&store, RebuildOptions::default()).await.expect_err("another key");
    assert_eq!(refused.kind, ErrorKind::WrongKey, "{refused}");
    drop(store);
    fs::write(&key, right).expect("the key");
    let store = world.open("a").await;
    assert_eq!(run_rebuild(&store).await.files, 1);
}

#[tokio::test]
async fn a_damaged_catalog_is_kept_under_another_name_and_made_anew() {
    let world = World::new(3).await;
    let store = world.open("a").await;
    put_at(&store, "file", bytes(1, 1000), RedundancyLevel::Minimal).await;
    drop(store);
    let catalog = world.dir("a").join(CATALOG_NAME);
    let whole = fs::read(&catalog).expect("the catalog");
    let middle = whole.len() / 2;
    let mut torn = whole.clone();
    torn[middle..].fill(0xA5);
    for (number, damage) in [bytes(9, 10_000), torn, whole[..middle].to_vec()].into_iter().enumerate() {
        world.lose_catalog("a");
        fs::write(&catalog, &damage).expect("damaged");
        let store = world.open("a").await;
        let kept = world.dir("a").join(format!("{CATALOG_NAME}.damaged-{}", number + 1));
        assert_eq!(store.set_aside(), Some(kept.as_path()));
        assert!(fs::read(&kept).expect("it is kept") == damage);
        assert_eq!(run_rebuild(&store).await.files, 1);
    }
    world.lose_catalog("a");
    fs::write(&catalog, b"").expect("emptied");
    let store = world.open("a").await;
    assert_eq!((store.set_aside(), run_rebuild(&store).await.files), (None, 1));
}

#[test]
fn what_is_lost_or_made_anew_shows_in_the_exit_codes() {
    let desk = Desk::new();
    desk.file("folder/x", b"some bytes");
    desk.expect(0, &["put", "folder"]);
    for number in 1..=5 {
        fs::remove_dir_all(desk.backend(number).join("objects")).expect("removed");
        fs::create_dir(desk.backend(number).join("objects")).expect("a folder");
    }
    let refreshed = desk.expect(4, &["catalog", "refresh"]);
    assert!(refreshed.stderr.contains("recorded as lost"), "{}", refreshed.stderr);
    desk.expect(4, &["status", "--check"]);
    desk.expect(0, &["put", "folder"]);
    assert_eq!(desk.expect(0, &["recover", "folder/x", "-o", "-"]).stdout, b"some bytes");
    fs::write(desk.store().join(CATALOG_NAME), b"no catalog").expect("damaged");
    assert_eq!(desk.failure(1, &["list"])["kind"], "damaged");
    let rebuilt = desk.expect(0, &["catalog", "rebuild"]);
    assert!(rebuilt.stderr.contains("catalog.db.damaged-1"), "{}", rebuilt.stderr);
    assert_eq!(desk.expect(0, &["recover", "folder/x", "-o", "-"]).stdout, b"some bytes");
    let other = Desk::new();
    other.expect(0, &["init"]);
    fs::copy(other.store().join(KEY_NAME), desk.store().join(KEY_NAME)).expect("another key");
    fs::remove_file(desk.store().join(CATALOG_NAME)).expect("gone");
    assert_eq!(desk.failure(12, &["catalog", "rebuild"])["kind"], "wrong-key");
}
