//! The catalog backed up as objects of the store, and made anew from such backups: the same as from everything, at less cost.

mod many;

use crate::past::{
    World, bytes, names, put_at, put_bytes, put_together, remove_file, run_gc, run_gc_to_the_end, run_rebuild,
    run_refresh,
};
use crate::soak::{self, Dice};
use shard::catalog::{BackupObject, Catalog};
use shard::error::ErrorKind;
use shard::id::{ObjectId, RedundancyLevel};
use shard::ops::backup::{
    BACKUP_WORTH_OBJECTS, BACKUPS_KEPT, BackupExtent, BackupKind, BackupOptions, BackupReport, BackupTo, LoadFrom,
    backup, is_due,
};
use shard::ops::list::{ListOptions, ListedVersions, list};
use shard::ops::rebuild::{RebuildOptions, RebuildReport, rebuild};
use shard::ops::recover::Existing;
use shard::ops::remove::RemoveVersions;
use shard::ops::repair::{RepairOptions, repair};
use shard::ops::verify::{VerifyOptions, verify};
use shard::ops::{Controls, ProgressEvent};
use shard::store::Store;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

async fn back_up(store: &Store) -> BackupReport {
    backup(store, BackupOptions::default()).await.expect("backed up")
}

async fn back_up_all(store: &Store) -> BackupReport {
    let options = BackupOptions { extent: BackupExtent::All, ..BackupOptions::default() };
    backup(store, options).await.expect("backed up")
}

async fn back_up_to(store: &Store, path: PathBuf) -> BackupReport {
    let to = BackupTo::File { path, existing: Existing::Keep };
    backup(store, BackupOptions { to, ..BackupOptions::default() }).await.expect("backed up")
}

async fn rebuild_from(store: &Store, backup: LoadFrom) -> Result<RebuildReport, shard::Error> {
    rebuild(store, RebuildOptions { backup, ..RebuildOptions::default() }).await
}

async fn backups(store: &Store) -> Vec<BackupObject> {
    store.catalog(|catalog| catalog.backup_objects()).await.expect("the catalog")
}

/// All that a catalog says of what is where, but for when something was looked at.
async fn dump(store: &Store) -> BTreeSet<String> {
    let options = ListOptions { versions: ListedVersions::All, ..ListOptions::default() };
    let listed = list(store, options).await.expect("a list");
    let mut all: BTreeSet<String> = listed.files.iter().map(|file| format!("{file:?}")).collect();
    let more = store
        .catalog(|catalog| {
            let mut more = BTreeSet::new();
            for object in catalog.objects_after(None, usize::MAX)? {
                more.insert(format!("{:?}", catalog.object(object)?));
                more.extend(catalog.shards(object)?.iter().map(|shard| format!("{object} {shard:?}")));
                let health = catalog.health(object)?.expect("it lives");
                more.insert(format!("{object} {:?}", (health.state, health.margin, health.backend_margin)));
                more.extend(catalog.names_of_object(object, 1000)?.iter().map(|name| format!("{object} {name:?}")));
                more.insert(format!("{object} {}", catalog.live_bytes(object)?));
            }
            for dead in catalog.dead_objects(None, usize::MAX)? {
                more.insert(format!("dead {:?}", catalog.object(dead)?));
            }
            more.extend(catalog.pending_deletes(None, usize::MAX)?.iter().map(|delete| format!("{delete:?}")));
            more.extend(catalog.finished_removals()?.iter().map(|removal| format!("finished {removal}")));
            more.extend(catalog.unfinished()?.iter().map(|version| format!("unfinished {version:?}")));
            more.extend(catalog.backup_objects()?.iter().map(|backup| format!("{backup:?}")));
            Ok(more)
        })
        .await
        .expect("the catalog");
    all.extend(more);
    all
}

/// A machine that has nothing but the key makes its catalog from this.
async fn fresh(world: &World, machine: &str, backup: LoadFrom) -> (Store, RebuildReport) {
    world.add_machine(machine, &[0, 1, 2, 3, 4]);
    let store = world.open(machine).await;
    let report = rebuild_from(&store, backup).await.expect("rebuilt");
    assert!(report.unreadable.is_empty() && report.untrusted.is_empty(), "{report:?}");
    (store, report)
}

/// Both ways give one catalog; says how many objects the backup saved reading.
async fn assert_same_with_and_without(world: &World, round: usize) -> u64 {
    let (without, _) = fresh(world, &format!("without-{round}"), LoadFrom::Nothing).await;
    let (with, report) = fresh(world, &format!("with-{round}"), LoadFrom::Required).await;
    let (without, with) = (dump(&without).await, dump(&with).await);
    let differ: Vec<_> = without.symmetric_difference(&with).collect();
    assert!(differ.is_empty(), "round {round}: {differ:#?}");
    let loaded = report.backup.expect("a backup");
    assert_eq!(loaded.problems, Vec::<String>::new(), "round {round}");
    loaded.used
}

#[tokio::test]
async fn a_rebuild_with_a_backup_says_what_one_without_says_after_any_history() {
    let seed = soak::seed();
    let mut dice = Dice::new(seed);
    let rounds = if soak::is_asked_for() { 40 } else { 4 };
    for round in 0..rounds {
        let world = World::new(5).await;
        world.add_machine("b", &[4, 2, 0, 1, 3]);
        let mut used = 0;
        let (mut store, other) = (world.open("a").await, world.open("b").await);
        for step in 0..14 {
            let file = format!("file-{}", dice.below(4));
            let content = bytes(dice.below(1 << 30) as u64, dice.below(5000));
            match dice.below(9) {
                0..=2 => drop(put_bytes(&store, &file, content).await),
                3 => drop(put_together(&store, &[("x", content), ("y", bytes(step, 9))]).await),
                4 if !names(&store).await.contains(&file) => {}
                4 => drop(remove_file(&store, &file, RemoveVersions::All).await),
                5 => drop(run_gc(&store).await),
                6 => {
                    run_refresh(&other).await;
                    drop(put_bytes(&other, &file, content).await);
                    run_refresh(&store).await;
                }
                7 => {
                    let lost = dice.below(5);
                    let _ = fs::remove_dir_all(world.folder(lost).join("objects"));
                    drop(store);
                    store = world.open("a").await;
                    repair(&store, RepairOptions::default()).await.expect("repaired");
                }
                _ => drop(verify(&store, VerifyOptions::default()).await.expect("verified")),
            }
            if step % 5 == 2 {
                back_up(&store).await;
            }
        }
        used += assert_same_with_and_without(&world, round).await;
        assert!(used > 0, "seed {seed}, round {round}: the backup was of no use");
    }
}

#[tokio::test]
async fn what_is_new_is_added_to_the_backup_before_and_nothing_new_writes_nothing() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    for number in 0..8 {
        put_bytes(&store, &format!("file-{number}"), bytes(number, 100)).await;
    }
    let full = back_up(&store).await;
    assert_eq!((full.kind, full.added, full.records, full.generation), (BackupKind::Full, 8, 8, Some(1)));
    let shards = world.all_shards().len();
    let none = back_up(&store).await;
    assert_eq!((none.kind, none.added, none.objects.len(), none.kept), (BackupKind::None, 0, 0, 1));
    assert_eq!(world.all_shards().len(), shards);
    put_bytes(&store, "one more", bytes(9, 100)).await;
    let delta = back_up(&store).await;
    assert_eq!((delta.kind, delta.added, delta.records, delta.kept), (BackupKind::Incremental, 1, 9, 2));
    // What was read in full is said again without what it is.
    verify(&store, VerifyOptions::default()).await.expect("verified");
    let times = back_up(&store).await;
    assert_eq!((times.kind, times.added), (BackupKind::Incremental, 9));
    assert!(times.bytes_written < full.bytes_written, "{} and {}", times.bytes_written, full.bytes_written);
    // More was added than half of what there was at first.
    put_bytes(&store, "two more", bytes(10, 100)).await;
    assert_eq!(back_up(&store).await.kind, BackupKind::Full);
    assert_eq!(assert_same_with_and_without(&world, 0).await, 10);
}

#[tokio::test]
async fn when_objects_were_read_in_full_comes_back_with_the_backup() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let object = put_bytes(&store, "file", bytes(1, 100)).await.objects[0].id;
    back_up(&store).await;
    verify(&store, VerifyOptions::default()).await.expect("verified");
    back_up(&store).await;
    let health = |store: Store| async move {
        store.catalog(move |catalog| catalog.health(object)).await.expect("the catalog").expect("it lives").verified_ns
    };
    let verified = health(store).await;
    assert!(verified.is_some());
    assert_eq!(health(fresh(&world, "b", LoadFrom::Newest).await.0).await, verified);
    assert_eq!(health(fresh(&world, "c", LoadFrom::Nothing).await.0).await, None);
}

#[tokio::test]
async fn the_last_backups_are_kept_and_of_older_ones_nothing_that_these_consist_of_goes() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_bytes(&store, "file", bytes(1, 100)).await;
    for round in 0..BACKUPS_KEPT as u64 + 4 {
        let report = back_up_all(&store).await;
        assert_eq!(report.kept, (round + 1).min(BACKUPS_KEPT as u64));
        assert_eq!(report.removed, u64::from(round >= BACKUPS_KEPT as u64), "{round}");
    }
    assert_eq!(backups(&store).await.len(), BACKUPS_KEPT);
    run_gc_to_the_end(&store).await;
    let on_places: BTreeSet<ObjectId> = backups(&store).await.iter().map(|backup| backup.object).collect();
    let shards = world.all_shards();
    let of_backups = shards.keys().filter(|(_, path)| path.starts_with("objects/62/6261636b7570")).count();
    assert_eq!(of_backups, on_places.len() * 5, "what was removed is gone from the places");
    assert_eq!(names(&store).await, ["file"]);
    assert_same_with_and_without(&world, 0).await;
}

#[tokio::test]
async fn a_backup_is_made_though_older_ones_cannot_be_removed_and_the_next_one_removes_them() {
    let world = Arc::new(World::new(5).await);
    let store = world.open("a").await;
    put_bytes(&store, "file", bytes(1, 100)).await;
    for _ in 0..BACKUPS_KEPT {
        back_up_all(&store).await;
    }
    // As soon as the backup is written, a file is in the way of whatever else would be.
    let disks = Arc::clone(&world);
    let objects = |world: &World, disk: usize| (world.folder(disk).join("objects"), world.folder(disk).join("aside"));
    let put_aside = move |disk: usize| {
        let (objects, aside) = objects(&disks, disk);
        fs::rename(&objects, aside).expect("put aside");
        fs::write(objects, b"in the way").expect("written");
    };
    let is_writing = AtomicBool::new(false);
    let hinder = move |event| match event {
        ProgressEvent::Begin { phase: "backing up the catalog", .. } => is_writing.store(true, Ordering::SeqCst),
        ProgressEvent::End if is_writing.swap(false, Ordering::SeqCst) => (0..5).for_each(&put_aside),
        _ => {}
    };
    let controls = Controls { progress: Some(Arc::new(hinder)), ..Controls::default() };
    let report =
        backup(&store, BackupOptions { extent: BackupExtent::All, controls, ..BackupOptions::default() }).await;
    let report = report.expect("it is made");
    assert_eq!((report.kind, report.kept, report.removed), (BackupKind::Full, BACKUPS_KEPT as u64 + 1, 0));
    assert!(report.not_removed.is_some_and(|why| !why.is_empty()));
    for disk in 0..5 {
        let (objects, aside) = objects(&world, disk);
        fs::remove_file(&objects).expect("removed");
        fs::rename(aside, objects).expect("put back");
    }
    let next = back_up_all(&world.open("a").await).await;
    assert_eq!((next.kept, next.removed, next.not_removed), (BACKUPS_KEPT as u64, 2, None));
    fresh(&world, "b", LoadFrom::Required).await;
}

#[tokio::test]
async fn an_old_backup_brings_nothing_back_that_was_removed_since() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_bytes(&store, "kept", bytes(1, 5000)).await;
    put_bytes(&store, "secret", bytes(2, 5000)).await;
    back_up(&store).await;
    let (old, file) = (world.all_shards(), world.dir("a").join("old.backup"));
    back_up_to(&store, file.clone()).await;
    remove_file(&store, "secret", RemoveVersions::All).await;
    // The removal itself is over, and no one knows of it any more.
    run_gc_to_the_end(&store).await;
    put_bytes(&store, "new", bytes(3, 100)).await;
    back_up(&store).await;
    drop(store);
    // The places show the old backup and not the new one.
    for (backend, path) in world.all_shards().into_keys().filter(|(_, path)| path.contains("/6261636b7570")) {
        if !old.contains_key(&(backend, path.clone())) {
            fs::remove_file(world.folder(backend).join(path)).expect("set back");
        }
    }
    for (round, from) in [LoadFrom::Required, LoadFrom::File(file), LoadFrom::Nothing].into_iter().enumerate() {
        let (store, report) = fresh(&world, &format!("fresh-{round}"), from.clone()).await;
        assert_eq!(names(&store).await, ["kept", "new"], "{from:?}");
        if let Some(backup) = report.backup {
            assert_eq!((backup.used, backup.not_found), (1, 1), "{from:?}");
        }
    }
}

#[tokio::test]
async fn a_damaged_backup_costs_the_reading_and_never_a_right_value() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    for number in 0..3 {
        put_bytes(&store, &format!("file-{number}"), bytes(number, 300)).await;
    }
    let backup = back_up(&store).await.objects[0].id.to_string();
    drop(store);
    let (plain, _) = fresh(&world, "plain", LoadFrom::Nothing).await;
    let expected = dump(&plain).await;
    drop(plain);
    let of_backup: Vec<_> = world.all_shards().into_iter().filter(|((_, path), _)| path.contains(&backup)).collect();
    assert_eq!(of_backup.len(), 5);
    let mut dice = Dice::new(soak::seed());
    let flips = if soak::is_asked_for() { 2000 } else { 40 };
    let (store, _) = fresh(&world, "flipped", LoadFrom::Nothing).await;
    for round in 0..flips {
        // Of three of its five shards a bit each is wrong, of all at the same place, or in places of their own.
        let mut places: Vec<usize> = (0..5).collect();
        let at = dice.below(of_backup[0].1.len() * 8);
        for _ in 0..3 {
            let ((backend, path), whole) = &of_backup[places.swap_remove(dice.below(places.len()))];
            let mut flipped = whole.clone();
            let bit = if round % 2 == 1 { at } else { dice.below(flipped.len() * 8) };
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(world.folder(*backend).join(path), flipped).expect("written");
        }
        let report = rebuild_from(&store, LoadFrom::Newest).await.expect("rebuilt");
        let found = dump(&store).await;
        let about_backup = |line: &&String| !line.contains(&backup) && !line.starts_with("BackupObject");
        let differ: Vec<_> = expected.symmetric_difference(&found).filter(about_backup).collect();
        assert!(differ.is_empty(), "round {round}: {differ:#?}\n{report:?}");
        for ((backend, path), whole) in &of_backup {
            fs::write(world.folder(*backend).join(path), whole).expect("written");
        }
    }
}

#[tokio::test]
async fn a_damaged_backup_file_is_refused_and_the_catalog_stays_what_it_was() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_bytes(&store, "file", bytes(1, 300)).await;
    let path = world.dir("a").join("catalog.backup");
    let report = back_up_to(&store, path.clone()).await;
    assert_eq!(
        (report.kind, report.records, report.bytes_written),
        (BackupKind::Full, 1, fs::metadata(&path).expect("a file").len())
    );
    put_bytes(&store, "newer", bytes(2, 300)).await;
    let (before, whole) = (dump(&store).await, fs::read(&path).expect("a file"));
    let text = String::from_utf8_lossy(&whole);
    assert!(!text.contains("file") && !text.contains("public"), "it is sealed");
    let mut dice = Dice::new(soak::seed());
    for round in 0..60 {
        let mut damaged = whole.clone();
        match round % 3 {
            0 => damaged.truncate(dice.below(whole.len())),
            1 => damaged.push(0),
            _ => {
                let bit = dice.below(whole.len() * 8);
                damaged[bit / 8] ^= 1 << (bit % 8);
            }
        }
        fs::write(&path, damaged).expect("written");
        let error = rebuild_from(&store, LoadFrom::File(path.clone())).await.expect_err("it is damaged");
        assert!(matches!(error.kind, ErrorKind::Damaged | ErrorKind::Invalid | ErrorKind::WrongKey), "{error:?}");
        assert!(error.hint.is_some(), "{error:?}");
        assert_eq!(dump(&store).await, before);
    }
    fs::write(&path, &whole).expect("written");
    rebuild_from(&store, LoadFrom::File(path)).await.expect("restored");
    assert_eq!(dump(&store).await, before, "what is newer than the backup was read");
    assert!(!world.dir("a").join("catalog.rebuild.db").exists());
}

#[tokio::test]
async fn nothing_is_added_to_a_backup_of_which_a_part_is_lost() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    for number in 0..4 {
        put_bytes(&store, &format!("file-{number}"), bytes(number, 300)).await;
    }
    let lost = back_up(&store).await.objects[0].id;
    for (backend, path) in world.all_shards().into_keys().filter(|(_, path)| path.contains(&lost.to_string())) {
        fs::remove_file(world.folder(backend).join(path)).expect("removed");
    }
    put_bytes(&store, "one more", bytes(9, 100)).await;
    verify(&store, VerifyOptions::default()).await.expect("verified");
    let full = back_up(&store).await;
    assert_eq!((full.kind, full.added), (BackupKind::Full, 5));
    let (fresh, report) = fresh(&world, "fresh", LoadFrom::Required).await;
    assert_eq!((names(&fresh).await.len(), report.backup.expect("a backup").used), (5, 5));
}

#[tokio::test]
async fn a_backup_of_another_store_is_refused() {
    let (world, other) = (World::new(5).await, World::new(5).await);
    let (store, elsewhere) = (world.open("a").await, other.open("a").await);
    put_bytes(&store, "file", bytes(1, 300)).await;
    let path = world.dir("a").join("catalog.backup");
    back_up_to(&store, path.clone()).await;
    let error = rebuild_from(&elsewhere, LoadFrom::File(path)).await.expect_err("it is not its own");
    assert_eq!(error.kind, ErrorKind::WrongKey);
    let error = rebuild_from(&elsewhere, LoadFrom::Required).await.expect_err("there is none");
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn backups_are_repaired_and_packed_like_any_object_and_shown_as_no_file() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_at(&store, "file", bytes(1, 300), RedundancyLevel::Personal).await;
    let id = back_up(&store).await.objects[0].id;
    assert_eq!(names(&store).await, ["file"]);
    drop(store);
    fs::remove_dir_all(world.folder(2).join("objects")).expect("emptied");
    let store = world.open("a").await;
    let report = repair(&store, RepairOptions::default()).await.expect("repaired");
    assert!(report.objects.iter().any(|object| object.id == id), "{report:?}");
    for _ in 0..2 {
        assert!(run_gc(&store).await.emptied.is_empty());
    }
    assert_eq!(backups(&store).await.len(), 1);
    run_rebuild(&store).await;
    assert_eq!(backups(&store).await.len(), 1);
    assert_same_with_and_without(&world, 0).await;
}

#[tokio::test]
async fn a_backup_by_itself_is_due_when_enough_is_new_and_not_within_an_hour_of_the_last() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    for number in 0..BACKUP_WORTH_OBJECTS as u64 {
        assert!(!is_due(&store).await.expect("an answer"), "{number}");
        put_bytes(&store, &format!("file-{number}"), bytes(number, 10)).await;
    }
    assert!(is_due(&store).await.expect("an answer"));
    back_up(&store).await;
    for number in 0..BACKUP_WORTH_OBJECTS as u64 {
        put_bytes(&store, &format!("file-{number}"), bytes(number + 50, 10)).await;
    }
    assert!(!is_due(&store).await.expect("an answer"), "the last was made a moment ago");
    let age = |catalog: &mut Catalog| {
        let chain = catalog.note("catalog backup chain")?.expect("a chain");
        let mut chain: serde_json::Value = serde_json::from_str(&chain).expect("JSON");
        let made_ns = chain["made_ns"].as_i64().expect("a time") - 3_600_000_000_001;
        chain["made_ns"] = made_ns.into();
        catalog.set_note("catalog backup chain", &chain.to_string())
    };
    store.catalog(age).await.expect("noted");
    assert!(is_due(&store).await.expect("an answer"));
}
