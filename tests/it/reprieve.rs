//! Copies that wait for deletion while their object lives: they go once another copy is proved, and never before.

use crate::heal_damage::{Kept, verify_all};
use crate::past::run_rebuild;
use crate::world::{TestWorld, backend_name, name, read_file};
use shard::backend::{self, Effect, Fault, Operation, When};
use shard::catalog::{Catalog, JournalEntry, ObjectState, ProcessLock, Purpose, ShardRecord, ShardState};
use shard::id::{BackendId, ProcessId, ShardId};
use shard::ops::drain::{DrainOptions, drain};
use shard::ops::gc::{GcMode, GcOptions, GcReport, gc};
use shard::ops::leftovers::clear;
use shard::ops::remove::{RemoveOptions, remove, remove_lost};
use shard::ops::repair::{RepairOptions, RepairReport, repair};
use shard::ops::verify::VerifyMode;
use shard::ops::{Controls, Removing, remove_backend};
use shard::store::{Draining, Store};
use std::fs;
use std::path::{Path, PathBuf};

const BYTES: usize = 300_000;

/// An object at 2/3 whose first shard was moved from a place that took no delete then, and takes them again.
struct Moved {
    world: TestWorld,
    store: Store,
    kept: Kept,
    bytes: Vec<u8>,
    /// The place that it was moved from.
    left: usize,
    /// The copy there.
    waiting: PathBuf,
    /// The copy that the catalog records.
    recorded: PathBuf,
    /// Where that is.
    place: usize,
}

impl Moved {
    async fn new() -> Self {
        Self::among(4).await
    }

    async fn among(places: usize) -> Self {
        let world = TestWorld::new(places).await;
        let mut store = world.open().await;
        let kept = Kept::new(&world, &store, "a", BYTES, (2, 3)).await;
        let bytes = read_file(&store, "a").await.expect("it was put");
        let waiting = kept.files[0].0.clone();
        let left = place_of(&world, &waiting);
        let refuse = Effect::Refuse(backend::ErrorKind::Failed);
        world.faulty(left).inject(Fault::new(Operation::Delete, When::Always, refuse));
        let report = drain(&mut store, DrainOptions { backend: backend_name(left), ..DrainOptions::default() }).await;
        assert!(report.is_ok_and(|report| report.moved.len() == 1 && !report.empty));
        store.set_draining(&backend_name(left), Draining::No).expect("it takes shards again");
        world.faulty(left).heal();
        let shard = ShardId { object: kept.object, index: 0 };
        let is_it = |number: &usize| *number != left && world.shard_path(*number, shard).exists();
        let place = (1..=places).find(is_it).expect("it was moved");
        let recorded = world.shard_path(place, shard);
        assert!(waiting.exists());
        Self { world, store, kept, bytes, left, waiting, recorded, place }
    }

    fn shard(&self) -> ShardId {
        ShardId { object: self.kept.object, index: 0 }
    }

    async fn pending(&self) -> usize {
        self.store.catalog(|catalog| catalog.pending_deletes(None, 10)).await.expect("deletes").len()
    }

    async fn gc(&self) -> GcReport {
        gc(&self.store, GcOptions::default()).await.expect("collected")
    }

    async fn rehearsed_gc(&self) -> GcReport {
        let options = GcOptions { mode: GcMode::DryRun, ..GcOptions::default() };
        gc(&self.store, options).await.expect("rehearsed")
    }

    async fn repair(&self) -> RepairReport {
        repair(&self.store, RepairOptions::default()).await.expect("repaired")
    }

    /// Flips a bit in the middle of the recorded copy.
    fn rot(&self) {
        let mut bytes = fs::read(&self.recorded).expect("a shard");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&self.recorded, bytes).expect("written");
    }

    async fn state(&self) -> ObjectState {
        verify_all(&self.store, VerifyMode::Full).await.worst()
    }

    async fn comes_back(&self) -> bool {
        let came = read_file(&self.store, "a").await;
        came.is_some_and(|bytes| bytes == self.bytes)
    }
}

fn place_of(world: &TestWorld, path: &Path) -> usize {
    (1..=9).find(|number| path.starts_with(world.backend_dir(*number))).expect("a backend's folder")
}

#[tokio::test]
async fn a_copy_that_waits_for_deletion_goes_once_the_recorded_one_was_read_whole() {
    let moved = Moved::new().await;
    let rehearsed = moved.rehearsed_gc().await;
    assert_eq!((rehearsed.shards_deleted, rehearsed.recorded_again), (1, 0), "{rehearsed:?}");
    assert!(moved.waiting.exists() && moved.pending().await == 1);
    let report = moved.gc().await;
    let shard_bytes = moved.kept.files[0].1.len() as u64;
    assert_eq!((report.shards_deleted, report.bytes_freed, report.waiting.len()), (1, shard_bytes, 0), "{report:?}");
    assert!(report.bytes_read >= shard_bytes, "{} bytes read", report.bytes_read);
    assert!(!moved.waiting.exists() && moved.recorded.exists());
    assert_eq!((moved.pending().await, moved.state().await), (0, ObjectState::Healthy));
}

#[tokio::test]
async fn the_last_copy_of_a_shard_is_recorded_again_and_not_deleted() {
    for rots in [true, false] {
        let moved = Moved::new().await;
        match rots {
            true => moved.rot(),
            false => fs::remove_file(&moved.recorded).expect("removed"),
        }
        let rehearsed = moved.rehearsed_gc().await;
        assert_eq!((rehearsed.shards_deleted, rehearsed.recorded_again), (0, 1), "{rehearsed:?}");
        assert!(moved.waiting.exists() && moved.pending().await == 1);
        let report = moved.gc().await;
        assert_eq!((report.shards_deleted, report.waiting.len()), (0, 0), "{report:?}");
        assert!(report.recorded_again == 1 && !report.is_nothing(), "{report:?}");
        assert!(moved.waiting.exists() && moved.pending().await == 0);
        let object = moved.kept.object;
        let records = moved.store.look(move |catalog| catalog.shards(object)).await.expect("shards");
        assert_eq!(records.len(), if rots { 4 } else { 3 }, "what is gone is forgotten: {records:?}");
        // One more shard is lost, so that the file hangs on that copy.
        moved.kept.lose(1);
        assert_eq!(moved.state().await, ObjectState::Degraded);
        assert!(moved.comes_back().await);
        moved.repair().await;
        assert_eq!(moved.state().await, ObjectState::Healthy);
    }
}

#[tokio::test]
async fn a_repair_takes_the_last_copy_of_a_shard_back_and_makes_the_others_of_it() {
    for rots in [true, false] {
        let moved = Moved::new().await;
        match rots {
            true => moved.rot(),
            false => fs::remove_file(&moved.recorded).expect("removed"),
        }
        moved.kept.lose(1);
        let options = RepairOptions { dry_run: true, ..RepairOptions::default() };
        let rehearsed = repair(&moved.store, options).await.expect("rehearsed");
        assert!(moved.waiting.exists() && moved.pending().await == 1);
        let report = moved.repair().await;
        assert_eq!((report.objects.len(), report.objects[0].after), (1, ObjectState::Healthy), "{report:?}");
        assert_eq!(
            (rehearsed.objects[0].before, report.objects[0].before),
            (ObjectState::Degraded, ObjectState::Degraded)
        );
        assert_eq!(rehearsed.objects[0].rebuilt, report.objects[0].rebuilt);
        assert!(moved.comes_back().await);
        assert_eq!(moved.repair().await.bytes_written, 0);
        assert_eq!(moved.state().await, ObjectState::Healthy);
        moved.gc().await;
        assert_eq!((moved.state().await, moved.world.files_on_backends().len()), (ObjectState::Healthy, 3));
    }
}

#[tokio::test]
async fn a_verify_does_not_call_lost_what_a_copy_that_waits_for_deletion_saves() {
    for mode in [VerifyMode::Quick, VerifyMode::Full] {
        let moved = Moved::new().await;
        fs::remove_file(&moved.recorded).expect("removed");
        moved.kept.lose(1);
        assert_eq!(verify_all(&moved.store, mode).await.worst(), ObjectState::Degraded, "{mode:?}");
        assert!(moved.waiting.exists() && moved.pending().await == 0);
    }
}

#[tokio::test]
async fn a_verify_leaves_it_to_a_process_that_may_be_deleting() {
    let moved = Moved::new().await;
    fs::remove_file(&moved.recorded).expect("removed");
    moved.kept.lose(1);
    let other = moved.world.open().await;
    let lease = other.lease("maintenance").await.expect("a lease");
    assert_eq!(moved.state().await, ObjectState::Unavailable);
    assert_eq!(moved.pending().await, 1);
    drop(lease);
    assert_eq!(moved.state().await, ObjectState::Degraded);
}

#[tokio::test]
async fn while_the_recorded_copy_cannot_be_asked_for_the_other_waits() {
    let mut moved = Moved::new().await;
    moved.world.unmount(moved.place);
    moved.store = moved.world.open().await;
    let report = moved.gc().await;
    assert_eq!((report.shards_deleted, report.waiting.len()), (0, 1), "{report:?}");
    assert_eq!((report.waiting[0].backend.as_str(), report.waiting[0].unproved), (&*backend_name(moved.left), 1));
    assert!(moved.waiting.exists());
    moved.world.mount(moved.place);
    moved.store = moved.world.open().await;
    assert_eq!(moved.gc().await.shards_deleted, 1);
    assert_eq!((moved.pending().await, moved.state().await), (0, ObjectState::Healthy));
}

#[tokio::test]
async fn where_the_recorded_copy_will_not_come_back_the_waiting_one_is_the_shard() {
    let mut moved = Moved::new().await;
    moved.world.unmount(moved.place);
    moved.store = moved.world.open().await;
    moved.kept.lose(1);
    let assume_lost = vec![backend_name(moved.place)];
    let report = repair(&moved.store, RepairOptions { assume_lost, ..RepairOptions::default() }).await;
    let report = report.expect("repaired");
    assert_eq!(report.objects[0].after, ObjectState::Healthy, "{report:?}");
    assert!(moved.waiting.exists() && moved.comes_back().await);
}

#[tokio::test]
async fn a_bad_copy_waits_until_there_is_a_good_one() {
    let moved = Moved::new().await;
    let mut bytes = fs::read(&moved.waiting).expect("a shard");
    bytes.truncate(1000);
    fs::write(&moved.waiting, bytes).expect("written");
    fs::remove_file(&moved.recorded).expect("removed");
    let report = moved.gc().await;
    assert_eq!((report.shards_deleted, report.waiting.len()), (0, 1), "{report:?}");
    assert!(moved.waiting.exists());
    assert_eq!(moved.repair().await.objects[0].after, ObjectState::Healthy);
    moved.gc().await;
    assert_eq!((moved.pending().await, moved.state().await), (0, ObjectState::Healthy));
    assert_eq!(moved.world.files_on_backends().len(), 3);
}

#[tokio::test]
async fn a_copy_that_is_not_there_any_more_waits_for_nothing() {
    let moved = Moved::new().await;
    fs::remove_file(&moved.waiting).expect("removed");
    let rehearsed = moved.rehearsed_gc().await;
    assert_eq!((rehearsed.shards_deleted, rehearsed.bytes_read), (0, 0), "{rehearsed:?}");
    fs::remove_file(&moved.recorded).expect("removed");
    assert_eq!(moved.gc().await.waiting.len(), 0);
    assert_eq!(moved.pending().await, 0);
}

#[tokio::test]
async fn a_copy_that_cannot_be_read_keeps_no_other_delete_on_its_place_from_being_made() {
    let moved = Moved::new().await;
    fs::remove_file(&moved.recorded).expect("removed");
    let refuse = Effect::Refuse(backend::ErrorKind::Denied);
    moved.world.faulty(moved.left).inject(Fault::new(Operation::Read, When::Always, refuse).of_shard(moved.shard()));
    let other = Kept::new(&moved.world, &moved.store, "b", 1000, (2, 4)).await;
    let keep = Effect::Refuse(backend::ErrorKind::Failed);
    let place = moved.world.faulty(moved.left);
    place.inject(Fault::new(Operation::Delete, When::Nth(place.calls(Operation::Delete) + 1), keep));
    let names = vec![name("b")];
    remove(&moved.store, RemoveOptions { names, ..RemoveOptions::default() }).await.expect("removed");
    assert_eq!(moved.pending().await, 2, "{:?}", other.object);
    let report = moved.gc().await;
    assert_eq!((report.waiting[0].shards, report.waiting[0].unproved), (1, 1), "{report:?}");
}

#[tokio::test]
async fn a_copy_waits_for_its_place_where_that_falls_silent() {
    let moved = Moved::new().await;
    let refuse = Effect::Refuse(backend::ErrorKind::Unreachable);
    moved.world.faulty(moved.left).inject(Fault::new(Operation::Head, When::Always, refuse));
    let report = moved.gc().await;
    assert_eq!((report.waiting[0].shards, report.waiting[0].unproved), (1, 0), "{report:?}");
}

#[tokio::test]
async fn a_drain_that_is_done_again_deletes_only_what_is_proved_elsewhere() {
    let mut moved = Moved::new().await;
    moved.rot();
    let options = || DrainOptions { backend: backend_name(moved.left), ..DrainOptions::default() };
    // The waiting copy is the last, is recorded again and then moved like any other.
    let report = drain(&mut moved.store, options()).await.expect("drained");
    assert_eq!((report.moved.len(), report.empty), (1, true), "{report:?}");
    assert!(!moved.waiting.exists() && report.left.is_empty(), "{report:?}");
    moved.repair().await;
    assert_eq!(moved.state().await, ObjectState::Healthy);
}

#[tokio::test]
async fn a_write_that_fails_where_the_last_copy_is_takes_nothing_of_it_away() {
    let mut moved = Moved::new().await;
    moved.rot();
    // The copy that was moved is to leave its place again, and the only other one is where the waiting copy is.
    let refuse = Effect::Refuse(backend::ErrorKind::Failed);
    moved.world.faulty(moved.left).inject(Fault::new(Operation::Create, When::Always, refuse));
    let options = DrainOptions { backend: backend_name(moved.place), ..DrainOptions::default() };
    let report = drain(&mut moved.store, options).await.expect("drained");
    assert!(moved.world.faulty(moved.left).calls(Operation::Create) > 0, "a write was tried");
    assert!(report.empty && moved.waiting.exists(), "{report:?}");
    moved.world.faulty(moved.left).heal();
    moved.kept.lose(1);
    moved.repair().await;
    assert_eq!(moved.state().await, ObjectState::Healthy);
    assert!(moved.comes_back().await);
}

#[tokio::test]
async fn a_write_that_fails_where_a_bad_copy_waits_leaves_that() {
    let mut moved = Moved::new().await;
    let mut bytes = fs::read(&moved.waiting).expect("a shard");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&moved.waiting, &bytes).expect("written");
    moved.rot();
    let refuse = Effect::Refuse(backend::ErrorKind::Failed);
    moved.world.faulty(moved.left).inject(Fault::new(Operation::Create, When::Always, refuse));
    let options = DrainOptions { backend: backend_name(moved.place), ..DrainOptions::default() };
    drain(&mut moved.store, options).await.expect("drained");
    assert!(moved.world.faulty(moved.left).calls(Operation::Create) > 0, "a write was tried");
    assert!(fs::read(&moved.waiting).is_ok_and(|left| left == bytes), "it is as it was");
    moved.world.faulty(moved.left).heal();
    moved.repair().await;
    moved.gc().await;
    assert_eq!((moved.pending().await, moved.state().await), (0, ObjectState::Healthy));
}

#[tokio::test]
async fn where_the_settings_have_the_recorded_place_no_more_the_waiting_copy_is_the_shard() {
    let mut moved = Moved::new().await;
    let object = moved.kept.object;
    let recorded = moved.store.look(move |catalog| catalog.shards(object)).await.expect("shards");
    let recorded = *recorded.iter().find(|record| record.index == 0).expect("it is recorded");
    // Removed as it should be, a place takes its records along; taken out of the file by hand, it does not.
    remove_backend(&moved.store, &backend_name(moved.place), Removing::Forced).await.expect("removed");
    moved.store.catalog(move |catalog| catalog.put_shard(object, &recorded)).await.expect("recorded");
    moved.store = moved.world.open().await;
    moved.kept.lose(1);
    let report = moved.gc().await;
    assert_eq!((report.shards_deleted, report.recorded_again, report.waiting.len()), (0, 1, 0), "{report:?}");
    assert!(moved.waiting.exists() && moved.comes_back().await);
}

#[tokio::test]
async fn an_object_that_a_waiting_copy_saves_is_not_removed_as_lost() {
    let moved = Moved::new().await;
    fs::remove_file(&moved.recorded).expect("removed");
    moved.kept.lose(1);
    let error = remove_lost(&moved.store, moved.kept.object, &Controls::default()).await.expect_err("it is not lost");
    assert_eq!(error.kind, shard::ErrorKind::Refused, "{error}");
    assert!(moved.waiting.exists() && moved.comes_back().await);
}

#[tokio::test]
async fn while_a_waiting_copy_may_save_it_and_cannot_be_asked_for_an_object_is_not_lost() {
    let mut moved = Moved::new().await;
    fs::remove_file(&moved.recorded).expect("removed");
    moved.kept.lose(1);
    moved.world.unmount(moved.left);
    moved.store = moved.world.open().await;
    assert_eq!(moved.state().await, ObjectState::Unavailable);
    let error = remove_lost(&moved.store, moved.kept.object, &Controls::default()).await.expect_err("it is not lost");
    assert_eq!(error.kind, shard::ErrorKind::Unavailable, "{error}");
    let report = moved.gc().await;
    assert_eq!((report.waiting[0].shards, report.waiting[0].unproved), (1, 0), "{report:?}");
    moved.world.mount(moved.left);
    moved.store = moved.world.open().await;
    assert_eq!(moved.state().await, ObjectState::Degraded);
    assert!(moved.comes_back().await);
    // Where none of them is left anywhere, it is.
    moved.kept.lose(2);
    fs::remove_file(&moved.waiting).expect("removed");
    assert_eq!(moved.state().await, ObjectState::Lost);
    remove_lost(&moved.store, moved.kept.object, &Controls::default()).await.expect_err("its name is known");
}

#[tokio::test]
async fn a_rebuild_that_does_not_find_an_object_leaves_its_waiting_copy_to_be_found() {
    let mut moved = Moved::among(5).await;
    let of_object = |number: &usize| {
        let at = |index| moved.world.shard_path(*number, ShardId { object: moved.kept.object, index });
        (0..3).any(|index| at(index).exists())
    };
    let places: Vec<usize> = (1..=5).filter(of_object).collect();
    assert_eq!(places.len(), 4);
    moved.rot();
    places.iter().for_each(|place| moved.world.unmount(*place));
    moved.store = moved.world.open().await;
    run_rebuild(&moved.store).await;
    places.iter().for_each(|place| moved.world.mount(*place));
    moved.store = moved.world.open().await;
    moved.gc().await;
    assert!(moved.waiting.exists(), "it is the last");
    moved.kept.lose(1);
    assert!(moved.comes_back().await);
    moved.repair().await;
    assert_eq!(moved.state().await, ObjectState::Healthy);
}

#[tokio::test]
async fn what_a_killed_write_was_to_replace_stays_when_its_process_is_cleared_up_after() {
    let moved = Moved::new().await;
    let mut bytes = fs::read(&moved.waiting).expect("a shard");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&moved.waiting, &bytes).expect("written");
    moved.rot();
    let dead = ProcessId([9; 16]);
    drop(ProcessLock::acquire(&moved.store.dir().join("run"), dead).expect("a lock"));
    let shards = vec![(0, BackendId([moved.left as u8; 16]))];
    let (object, purpose) = (moved.kept.object, Purpose::Repair);
    let entry = JournalEntry { object, process: dead, purpose, name: None, version: None, shards };
    moved.store.catalog(move |catalog| catalog.begin(&entry)).await.expect("journaled");
    clear(&moved.store, &Controls::default()).await.expect("cleared");
    assert!(moved.store.look(|catalog| catalog.journals()).await.expect("journals").is_empty());
    assert!(fs::read(&moved.waiting).is_ok_and(|left| left == bytes), "it is as it was");
    assert_eq!(moved.pending().await, 1);
    moved.repair().await;
    moved.gc().await;
    assert_eq!((moved.pending().await, moved.state().await), (0, ObjectState::Healthy));
}

#[tokio::test]
async fn of_two_copies_that_wait_and_are_the_last_one_stays() {
    let moved = Moved::new().await;
    let third = (1..=4).find(|number| !moved.world.shard_path(*number, moved.shard()).exists()).expect("a place");
    let object = moved.kept.object;
    let record = ShardRecord {
        index: 0,
        backend: BackendId([third as u8; 16]),
        bytes: moved.kept.files[0].1.len() as u64,
        state: ShardState::Surplus,
        bad_blocks: 0,
        verified_ns: None,
    };
    let pend = move |catalog: &mut Catalog| {
        catalog.put_shard(object, &record)?;
        catalog.discard_shard(object, 0, record.backend)
    };
    moved.store.catalog(pend).await.expect("it waits");
    let copy = moved.world.shard_path(third, moved.shard());
    fs::create_dir_all(copy.parent().expect("a folder")).expect("a folder");
    fs::copy(&moved.waiting, &copy).expect("copied");
    fs::remove_file(&moved.recorded).expect("removed");
    assert_eq!(moved.pending().await, 2);
    for _ in 0..2 {
        moved.gc().await;
        assert!(moved.waiting.exists() || copy.exists());
    }
    moved.repair().await;
    moved.gc().await;
    assert_eq!((moved.pending().await, moved.state().await), (0, ObjectState::Healthy));
    assert_eq!(moved.world.files_on_backends().len(), 3, "and no more than one");
}

#[tokio::test]
async fn what_is_removed_goes_whatever_is_left_of_it() {
    let moved = Moved::new().await;
    fs::remove_file(&moved.recorded).expect("removed");
    let names = vec![name("a")];
    remove(&moved.store, RemoveOptions { names, ..RemoveOptions::default() }).await.expect("removed");
    assert!(!moved.waiting.exists());
    moved.gc().await;
    assert_eq!(moved.pending().await, 0);
    assert!(read_file(&moved.store, "a").await.is_none());
}

#[tokio::test]
async fn several_files_are_taken_back_by_one_verify() {
    let world = TestWorld::new(4).await;
    let mut store = world.open().await;
    let mut files = Vec::new();
    for number in 0..6 {
        files.push(Kept::new(&world, &store, &format!("file {number}"), 1000 + number, (2, 3)).await);
    }
    let refuse = Effect::Refuse(backend::ErrorKind::Failed);
    world.faulty(1).inject(Fault::new(Operation::Delete, When::Always, refuse));
    let options = DrainOptions { backend: backend_name(1), ..DrainOptions::default() };
    let report = drain(&mut store, options).await.expect("drained");
    assert!(report.moved.len() > 2, "{report:?}");
    world.faulty(1).heal();
    for moved in &report.moved {
        let number = (2..=4).find(|number| backend_name(*number) == moved.to).expect("a backend");
        let shard = ShardId { object: moved.object, index: moved.index };
        fs::remove_file(world.shard_path(number, shard)).expect("removed");
    }
    assert!(verify_all(&store, VerifyMode::Full).await.worst() <= ObjectState::Degraded);
    let pending = store.catalog(|catalog| catalog.pending_deletes(None, 10)).await.expect("deletes");
    assert!(pending.is_empty(), "{pending:?}");
    repair(&store, RepairOptions::default()).await.expect("repaired");
    assert_eq!(verify_all(&store, VerifyMode::Full).await.worst(), ObjectState::Healthy);
}
