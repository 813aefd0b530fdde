//! Giving back space: what is counted, what is forgotten, and what becomes of objects that cannot be packed anew.

use super::gc::{half_packed, lose_shards, pack_and_die};
use super::*;
use crate::world::TestWorld;
use shard::ErrorKind;
use shard::backend::{self, Effect, Fault, Operation, When};
use shard::ops::gc::GcMode;
use shard::ops::{Controls, ProgressEvent};
use shard::store::config;
use shard::stripe::Seal;
use std::sync::Mutex;

fn dry_run() -> GcOptions {
    GcOptions { mode: GcMode::DryRun, ..GcOptions::default() }
}

async fn dead_objects(store: &Store) -> Vec<ObjectId> {
    store.catalog(|catalog| catalog.dead_objects(None, 10)).await.expect("the catalog")
}

/// These backends of machine `a` are only read from now on, and the others are written to. It counts where it is opened anew.
fn set_read_only(world: &World, backends: std::ops::Range<usize>) {
    let change = |config: &mut Config| {
        (0..).zip(&mut config.backends).for_each(|(number, spec)| spec.read_only = backends.contains(&number));
        Ok::<_, config::Error>(())
    };
    config::edit(&world.dir("a").join(CONFIG_NAME), change).expect("the settings change");
}

/// An object of which this much of `keep` lives, at the beginning of it, and nothing of more than twice as much.
async fn thin_object(store: &Store, keep: &str, live_bytes: usize, seal: Seal) -> ObjectId {
    let dir = TempDir::new().expect("a folder");
    let dropped = format!("{keep}-dropped");
    fs::write(dir.path().join(keep), bytes(1, live_bytes)).expect("written");
    fs::write(dir.path().join(&dropped), bytes(2, 2 * live_bytes + 1)).expect("written");
    let source = PutSource::Folder { path: dir.path().to_owned(), name: Some(name("folder")) };
    let options = PutOptions { sources: vec![source], seal: Some(seal), ..PutOptions::default() };
    let object = put(store, options).await.expect("stored").objects[0].id;
    remove_file(store, &format!("folder/{dropped}"), RemoveVersions::All).await;
    object
}

/// Gives back space, and says what people were warned of.
async fn warned_gc(store: &Store) -> (GcReport, Vec<String>) {
    let warnings: Arc<Mutex<Vec<String>>> = Arc::default();
    let sink = Arc::clone(&warnings);
    let progress = move |event| {
        if let ProgressEvent::Warning(text) = event {
            sink.lock().expect("not poisoned").push(text);
        }
    };
    let controls = Controls { progress: Some(Arc::new(progress)), ..Controls::default() };
    let report = gc(store, GcOptions { controls, ..GcOptions::default() }).await.expect("gc");
    let warnings = warnings.lock().expect("not poisoned").clone();
    (report, warnings)
}

#[tokio::test]
async fn where_there_is_nothing_to_do_nothing_is_read() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_bytes(&store, "one", bytes(1, 100_000)).await;
    put_bytes(&store, "two", bytes(2, 100_000)).await;
    let report = run_gc(&store).await;
    assert!(report.is_nothing() && (report.bytes_read, report.bytes_written) == (0, 0), "{report:?}");
}

#[tokio::test]
async fn what_is_read_to_hear_of_other_machines_counts_as_read() {
    let world = World::new(5).await;
    world.add_machine("b", &[0, 1, 2, 3, 4]);
    let (first, second) = (world.open("a").await, world.open("b").await);
    put_bytes(&second, "file", bytes(1, 100_000)).await;
    let report = run_gc(&first).await;
    assert!(report.is_nothing() && report.bytes_read > 0, "{report:?}");
    assert_eq!(names(&first).await, ["file"]);
}

#[tokio::test]
async fn an_object_of_which_nothing_is_left_is_forgotten_and_one_that_waits_is_not() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let object = put_bytes(&store, "file", bytes(1, 1000)).await.objects[0].id;
    drop(store);
    world.unmount(0);
    let store = world.open("a").await;
    remove_file(&store, "file", RemoveVersions::All).await;
    assert_eq!(run_gc(&store).await.waiting.len(), 1);
    assert_eq!(dead_objects(&store).await, [object], "a shard of it waits");
    drop(store);
    world.mount(0);
    let store = world.open("a").await;
    assert_eq!(run_gc(&store).await.shards_deleted, 1);
    assert_eq!(dead_objects(&store).await, []);
    run_gc_to_the_end(&store).await;
    assert_eq!(dead_objects(&store).await, []);
    assert!(world.all_shards().is_empty());
}

#[tokio::test]
async fn what_waits_of_a_removal_that_is_finished_is_told() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    put_bytes(&store, "file", bytes(1, 1000)).await;
    remove_file(&store, "file", RemoveVersions::All).await;
    for _ in 0..REMOVAL_ROUNDS {
        assert_eq!(run_gc(&store).await.removals_finished, 0);
    }
    let refuse = Effect::Refuse(backend::ErrorKind::Failed);
    world.faulty(1).inject(Fault::new(Operation::Delete, When::Always, refuse));
    let report = run_gc(&store).await;
    let waiting: u64 = report.waiting.iter().map(|waiting| waiting.shards).sum();
    assert_eq!((report.removals_finished, waiting), (1, 1), "{report:?}");
}

#[tokio::test]
async fn a_removal_stays_while_a_place_that_may_hold_what_it_names_cannot_be_asked() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_bytes(&store, "file", bytes(1, 1000)).await;
    remove_file(&store, "file", RemoveVersions::All).await;
    for _ in 0..REMOVAL_ROUNDS {
        assert_eq!(run_gc(&store).await.removals_finished, 0);
    }
    drop(store);
    world.unmount(4);
    let store = world.open("a").await;
    assert_eq!(run_gc(&store).await.removals_finished, 0, "nobody could look there");
    drop(store);
    world.mount(4);
    let store = world.open("a").await;
    assert_eq!(run_gc(&store).await.removals_finished, 1);
    assert!(world.all_shards().is_empty());
}

#[tokio::test]
async fn a_dry_run_names_a_copy_too_many_and_both_count_what_they_read() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_bytes(&store, "file", bytes(1, 600_000)).await;
    run_gc(&store).await;
    let (file, content) = world.shards(0).into_iter().next().expect("a shard");
    let copy = world.folder(1).join(&file);
    fs::create_dir_all(copy.parent().expect("a folder")).expect("a folder");
    fs::write(&copy, &content).expect("written");
    run_refresh(&store).await;
    let planned = gc(&store, dry_run()).await.expect("a plan");
    assert_eq!((planned.surplus.len(), planned.shards_deleted), (1, 1), "{planned:?}");
    assert!(copy.exists() && !planned.is_nothing());
    let report = run_gc(&store).await;
    assert_eq!((&report.surplus, report.shards_deleted), (&planned.surplus, 1));
    let of_six = 6 * content.len() as u64..7 * content.len() as u64;
    assert!(of_six.contains(&planned.bytes_read) && of_six.contains(&report.bytes_read), "{planned:?} {report:?}");
}

#[tokio::test]
async fn what_was_read_of_a_whole_copy_is_counted() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let (old, copy) = half_packed(&store).await;
    let copy_bytes: u64 = {
        let shards = world.all_shards();
        shards.iter().filter(|((_, path), _)| path.contains(&copy.to_string())).map(|(_, b)| b.len() as u64).sum()
    };
    let old_reader = reader(&store, old).await;
    old_reader.index().await.expect("an index");
    let planned = gc(&store, dry_run()).await.expect("a plan");
    assert_eq!((planned.emptied.as_slice(), planned.repacked.len()), (&[old][..], 0));
    let report = run_gc(&store).await;
    assert_eq!(report.emptied, [old]);
    let of_copy = copy_bytes / 2..2 * copy_bytes;
    for read in [planned.bytes_read, report.bytes_read] {
        let beyond = read.checked_sub(old_reader.bytes_read()).expect("the index of the old one was read");
        assert!(of_copy.contains(&beyond), "{beyond} of {copy_bytes}");
    }
}

#[tokio::test]
async fn an_object_that_proves_as_full_as_it_was_because_the_copy_is_not_whole_stays_as_it_is() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let old = put_together(&store, &[("keep", bytes(1, 50_000)), ("big", bytes(2, 50_000))]).await.objects[0].id;
    remove_file(&store, "folder/big", RemoveVersions::All).await;
    let copy = pack_and_die(&store, old, "folder/keep").await;
    lose_shards(&world, copy, 0..3);
    let report = run_gc(&store).await;
    assert!(report.emptied.is_empty() && report.repacked.is_empty() && report.left_alone.is_empty(), "{report:?}");
    assert!(read_file(&store, "folder/keep").await == Some(bytes(1, 50_000)));
}

#[tokio::test]
async fn an_object_that_may_not_be_where_there_is_room_is_left_alone_and_the_others_are_packed() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let dispersed = thin_object(&store, "dispersed", 1000, Seal::Dispersed).await;
    let sealed = thin_object(&store, "sealed", 1000, Seal::Key).await;
    drop(store);
    // One zone takes shards, which then could read what is dispersed.
    set_read_only(&world, 1..5);
    let store = world.open("a").await;
    let (report, warnings) = warned_gc(&store).await;
    assert_eq!(report.left_alone, [dispersed]);
    assert_eq!(report.repacked.iter().map(|packed| &packed.from).collect::<Vec<_>>(), [&[sealed]]);
    assert!(warnings.iter().any(|text| text.contains(&dispersed.to_string())), "{warnings:?}");
    for file in ["folder/dispersed", "folder/sealed"] {
        assert!(read_file(&store, file).await == Some(bytes(1, 1000)), "{file}");
    }
}

#[tokio::test]
async fn where_no_place_takes_a_new_object_gc_says_so_and_gives_nothing_up() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let thin = thin_object(&store, "keep", 1000, Seal::Key).await;
    drop(store);
    set_read_only(&world, 0..5);
    let store = world.open("a").await;
    assert_eq!(gc(&store, GcOptions::default()).await.expect_err("no place").kind, ErrorKind::BelowQuorum);
    drop(store);
    set_read_only(&world, 0..0);
    let store = world.open("a").await;
    assert_eq!(run_gc(&store).await.repacked[0].from, [thin]);
    assert!(read_file(&store, "folder/keep").await == Some(bytes(1, 1000)));
}

#[tokio::test]
async fn an_object_that_cannot_be_read_to_its_end_is_left_alone_and_the_others_are_packed() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let bad = thin_object(&store, "bad", 900_000, Seal::Key).await;
    let good = thin_object(&store, "good", 1000, Seal::Key).await;
    for (number, path) in world.all_shards().into_keys().filter(|(_, path)| path.contains(&bad.to_string())).take(3) {
        let path = world.folder(number).join(path);
        let mut content = fs::read(&path).expect("a shard");
        content[100] ^= 1;
        fs::write(&path, content).expect("damaged");
    }
    let (report, warnings) = warned_gc(&store).await;
    assert_eq!(report.left_alone, [bad]);
    assert_eq!(report.repacked.iter().map(|packed| &packed.from).collect::<Vec<_>>(), [&[good]]);
    assert!(warnings.iter().any(|text| text.contains(&bad.to_string())), "{warnings:?}");
    assert!(store.catalog(|catalog| catalog.journals()).await.expect("the catalog").is_empty());
    assert!(read_file(&store, "folder/good").await == Some(bytes(1, 1000)));
}

#[tokio::test]
async fn a_place_that_fails_while_an_object_is_packed_is_told_and_all_that_fail_end_it() {
    for failing in [1, 3] {
        let world = TestWorld::new(5).await;
        let store = world.open().await;
        let thin = thin_object(&store, "keep", 6_000_000, Seal::Key).await;
        let before = world.files_on_backends();
        let refuse = Effect::Refuse(backend::ErrorKind::Failed);
        // The first to write there is what packs; the removal that follows finds the one place well again.
        let when = if failing == 1 { When::Nth(world.faulty(1).calls(Operation::Write) + 1) } else { When::Always };
        for number in 1..=failing {
            world.faulty(number).inject(Fault::new(Operation::Write, when, refuse));
        }
        if failing == 1 {
            let (report, warnings) = warned_gc(&store).await;
            assert_eq!(report.repacked[0].from, [thin]);
            assert!(warnings.iter().any(|text| text.contains("backend b1 failed")), "{warnings:?}");
        } else {
            let failed = gc(&store, GcOptions::default()).await.expect_err("too few places");
            assert_eq!(failed.kind, ErrorKind::BelowQuorum, "{failed}");
            assert_eq!(world.files_on_backends(), before, "nothing half-written stays");
            assert!(store.catalog(|catalog| catalog.journals()).await.expect("the catalog").is_empty());
        }
        assert!(read_file(&store, "folder/keep").await == Some(bytes(1, 6_000_000)));
    }
}
