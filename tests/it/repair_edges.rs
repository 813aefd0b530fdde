//! What stands in a repair's way, what it leaves alone there, and what it says of it.

use crate::heal_damage::{Kept, verify_all};
use crate::world::{TestWorld, backend_name, geometry, name, putting, random_bytes, read_file, stream_of};
use shard::backend::{self, Effect, Fault, Operation, When};
use shard::catalog::{
    Catalog, JournalEntry, ObjectState, PendingDelete, ProcessLock, Purpose, ShardRecord, ShardState,
};
use shard::id::{BackendId, ProcessId, ShardId};
use shard::ops::put::{PutOptions, put};
use shard::ops::repair::{RepairOptions, RepairReport, RepairedObject, repair};
use shard::ops::verify::VerifyMode;
use shard::ops::writer::failed_writers;
use shard::store::{CONFIG_NAME, Store, config};
use shard::stripe::Seal;
use std::fs;

const REFUSED: Effect = Effect::Refuse(backend::ErrorKind::Failed);

async fn repaired(store: &Store) -> RepairReport {
    repair(store, RepairOptions::default()).await.expect("repaired")
}

fn only(report: &RepairReport) -> &RepairedObject {
    assert_eq!(report.objects.len(), 1);
    &report.objects[0]
}

/// On which place a shard is.
fn place_of(world: &TestWorld, kept: &Kept, index: usize) -> usize {
    let path = &kept.files[index].0;
    (1..=20).find(|number| path.starts_with(world.backend_dir(*number))).expect("a backend's folder")
}

/// A place that has none of the shards.
fn free_place(world: &TestWorld, kept: &Kept) -> usize {
    let taken: Vec<usize> = (0..kept.files.len()).map(|index| place_of(world, kept, index)).collect();
    (1..=20).find(|number| !taken.contains(number)).expect("one is free")
}

/// A place is only read from now on, or written to again. It counts where the store is opened anew.
fn set_read_only(world: &TestWorld, number: usize, read_only: bool) {
    let change = |config: &mut config::Config| {
        config.backends.iter_mut().filter(|spec| spec.name == backend_name(number)).for_each(|spec| {
            spec.read_only = read_only;
        });
        Ok::<_, config::Error>(())
    };
    config::edit(&world.store_dir().join(CONFIG_NAME), change).expect("the settings change");
}

async fn pending(store: &Store) -> Vec<PendingDelete> {
    store.catalog(|catalog| catalog.pending_deletes(None, 10)).await.expect("deletes")
}

/// The place of this shard does not show it to the quick and to the close look.
fn hide_twice(world: &TestWorld, kept: &Kept, index: usize) -> u64 {
    let faulty = world.faulty(place_of(world, kept, index));
    let (heads, shard) = (faulty.calls(Operation::Head), ShardId { object: kept.object, index: index as u8 });
    for call in 1..=2 {
        faulty.inject(Fault::new(Operation::Head, When::Nth(heads + call), Effect::Lose).of_shard(shard));
    }
    heads + 2
}

#[tokio::test]
async fn a_whole_copy_that_stands_where_a_shard_was_to_be_made_is_taken_as_it_is() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 500_000, (2, 3)).await;
    hide_twice(&world, &kept, 1);
    let report = repaired(&store).await;
    let (object, file_bytes) = (only(&report), kept.files[1].1.len() as u64);
    assert_eq!((object.before, object.after), (ObjectState::Degraded, ObjectState::Healthy), "{report:?}");
    assert_eq!((object.rebuilt.len(), object.left.len(), report.bytes_written), (1, 0, 0));
    // Two shards to find out, and the one that stood there.
    assert!((3 * file_bytes..6 * file_bytes).contains(&report.bytes_read), "{} of {file_bytes}", report.bytes_read);
    assert!(kept.is_as_it_was());
}

#[tokio::test]
async fn a_bad_copy_that_stands_where_a_shard_was_to_be_made_is_replaced() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 500_000, (2, 3)).await;
    kept.flip(1, 100, 3);
    hide_twice(&world, &kept, 1);
    let report = repaired(&store).await;
    assert_eq!((only(&report).after, only(&report).left.len()), (ObjectState::Healthy, 0), "{report:?}");
    assert_eq!(report.bytes_written, kept.files[1].1.len() as u64);
    assert!(kept.is_as_it_was());
}

#[tokio::test]
async fn a_copy_that_stands_where_a_shard_was_to_be_made_and_cannot_be_read_twice_is_left_alone() {
    for looks in [0, 1] {
        let world = TestWorld::new(3).await;
        let store = world.open().await;
        let kept = Kept::new(&world, &store, "a", 1000, (2, 3)).await;
        kept.flip(1, 100, 3);
        let seen = hide_twice(&world, &kept, 1);
        let silent = Effect::Refuse(backend::ErrorKind::Unreachable);
        world.faulty(place_of(&world, &kept, 1)).inject(Fault::new(
            Operation::Head,
            When::From(seen + 1 + looks),
            silent,
        ));
        let before = fs::read(&kept.files[1].0).expect("a shard");
        let report = repaired(&store).await;
        let left = &only(&report).left[0];
        assert_eq!(only(&report).left.len(), 1, "{report:?}");
        assert_eq!((left.index, left.reason.as_str()), (1, "a copy is there and cannot be read now"), "{looks}");
        assert_eq!((left.state, report.bytes_written), (ShardState::Unreachable, 0));
        assert_eq!(fs::read(&kept.files[1].0).expect("a shard"), before);
    }
}

#[tokio::test]
async fn nothing_is_deleted_in_a_place_that_is_only_read() {
    let world = TestWorld::new(6).await;
    let kept = Kept::new(&world, &world.open().await, "a", 1000, (3, 5)).await;
    let number = place_of(&world, &kept, 0);
    set_read_only(&world, number, true);
    let store = world.open().await;
    let options = RepairOptions { assume_lost: vec![backend_name(number)], ..RepairOptions::default() };
    let report = repair(&store, options).await.expect("repaired");
    assert_eq!((only(&report).rebuilt.len(), only(&report).after), (1, ObjectState::Healthy));
    assert!(kept.files[0].0.exists());
    let waits = PendingDelete { object: kept.object, index: 0, backend: BackendId([number as u8; 16]) };
    assert_eq!(pending(&store).await, [waits]);
}

#[tokio::test]
async fn a_place_that_failed_and_is_only_read_now_is_not_tried_until_it_may_be_written_to() {
    let world = TestWorld::new(6).await;
    let (store, number) = (world.open().await, 2);
    world.faulty(number).inject(Fault::new(Operation::Write, When::Always, REFUSED));
    Kept::new(&world, &store, "a", 1000, (3, 5)).await;
    let failed = [BackendId([number as u8; 16])];
    assert_eq!(failed_writers(&store).await.expect("notes"), failed);
    set_read_only(&world, number, true);
    let store = world.open().await;
    repaired(&store).await;
    assert_eq!(world.faulty(number).calls(Operation::Create), 0);
    assert_eq!(failed_writers(&store).await.expect("notes"), failed);
    set_read_only(&world, number, false);
    let store = world.open().await;
    repaired(&store).await;
    assert!(failed_writers(&store).await.expect("notes").is_empty());
}

#[tokio::test]
async fn only_the_files_that_are_named_are_repaired() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let named = Kept::new(&world, &store, "named", 1000, (2, 3)).await;
    let other = Kept::new(&world, &store, "other", 1001, (2, 3)).await;
    named.lose(0);
    other.lose(0);
    let names = vec![name("named")];
    let report = repair(&store, RepairOptions { names, ..RepairOptions::default() }).await.expect("repaired");
    assert_eq!(only(&report).id, named.object);
    assert!(named.is_as_it_was() && !other.files[0].0.exists());
}

#[tokio::test]
async fn a_replacement_that_fails_leaves_what_was_there() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 1000, (2, 3)).await;
    kept.flip(1, 100, 3);
    let bad = fs::read(&kept.files[1].0).expect("a shard");
    (1..=3).for_each(|number| world.faulty(number).inject(Fault::new(Operation::Write, When::Always, REFUSED)));
    let report = repaired(&store).await;
    assert_eq!((only(&report).after, report.bytes_written), (ObjectState::Degraded, 0));
    assert_eq!((only(&report).left.len(), only(&report).left[0].state), (1, ShardState::Corrupt), "{report:?}");
    assert_eq!(fs::read(&kept.files[1].0).expect("a shard"), bad);
    assert!(pending(&store).await.is_empty());
    assert_eq!(read_file(&store, "a").await, Some(random_bytes(1000, 1000)));
}

#[tokio::test]
async fn what_a_write_that_failed_may_have_left_is_cleared_at_once_or_once_it_is_seen_not_to_be_there() {
    for takes_deletes in [true, false] {
        let world = TestWorld::new(4).await;
        let store = world.open().await;
        let kept = Kept::new(&world, &store, "a", 1000, (2, 3)).await;
        let free = free_place(&world, &kept);
        kept.lose(1);
        for other in (1..=4).filter(|other| *other != free) {
            world.faulty(other).inject(Fault::new(Operation::Create, When::Always, REFUSED));
        }
        world.faulty(free).inject(Fault::new(Operation::Finish, When::Always, REFUSED));
        if !takes_deletes {
            world.faulty(free).inject(Fault::new(Operation::Delete, When::Always, REFUSED));
        }
        let report = repaired(&store).await;
        assert_eq!((only(&report).after, report.bytes_written), (ObjectState::Degraded, 0));
        assert_eq!(only(&report).left.len(), 1, "each shard is named once: {report:?}");
        assert_eq!(pending(&store).await, vec![]);
        assert_eq!(world.files_on_backends().len(), 2, "nothing half-written stays");
    }
}

#[tokio::test]
async fn a_read_that_failed_once_moves_nothing_to_another_place() {
    let world = TestWorld::new(6).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 1000, (3, 5)).await;
    let faulty = world.faulty(place_of(&world, &kept, 0));
    // The quick look reads once; the closer one meets the fault.
    let reads = faulty.calls(Operation::Read);
    faulty.inject(Fault::new(Operation::Read, When::Nth(reads + 3), Effect::FlipBit));
    let report = repaired(&store).await;
    assert!(faulty.calls(Operation::Read) >= reads + 3, "the fault was met");
    assert_eq!((report.bytes_written, only(&report).rebuilt.len()), (0, 0), "{report:?}");
    assert!(kept.is_as_it_was());
}

#[tokio::test]
async fn a_bad_shard_whose_place_takes_no_other_in_its_stead_goes_elsewhere() {
    let world = TestWorld::new(6).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 1000, (3, 5)).await;
    let number = place_of(&world, &kept, 0);
    kept.flip(0, 100, 3);
    world.faulty(number).inject(Fault::new(Operation::Write, When::Always, REFUSED));
    let report = repaired(&store).await;
    let object = only(&report);
    assert_eq!((object.after, object.rebuilt.len(), object.left.len()), (ObjectState::Healthy, 1, 0), "{report:?}");
    assert_eq!(object.rebuilt[0].to, backend_name(free_place(&world, &kept)));
    assert!(!kept.files[0].0.exists());
}

#[tokio::test]
async fn a_repair_of_damage_reads_what_is_bad_once_more_and_what_it_proved_never_again() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 3_000_000, (3, 5)).await;
    let file_bytes = kept.files[0].1.len() as u64;
    kept.flip(1, 100, 3);
    let report = repaired(&store).await;
    assert!(only(&report).after == ObjectState::Healthy && kept.is_as_it_was());
    // Five shards, the bad one again, and the blocks of three to make another.
    let read = report.bytes_read;
    assert!((9 * (file_bytes - 4096)..10 * file_bytes).contains(&read), "{read} bytes, shards of {file_bytes}");
}

#[tokio::test]
async fn a_bad_copy_that_no_catalog_knows_is_not_taken_for_the_shard_that_is_lost() {
    let world = TestWorld::new(6).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 1000, (3, 5)).await;
    kept.flip(0, 100, 3);
    let stray = world.shard_path(free_place(&world, &kept), ShardId { object: kept.object, index: 0 });
    fs::create_dir_all(stray.parent().expect("a folder")).expect("made");
    fs::rename(&kept.files[0].0, &stray).expect("moved");
    (1..=6).for_each(|number| world.faulty(number).inject(Fault::new(Operation::Write, When::Always, REFUSED)));
    let report = repaired(&store).await;
    assert_eq!((only(&report).before, only(&report).after), (ObjectState::Degraded, ObjectState::Degraded));
    let ask = move |catalog: &mut Catalog| catalog.shards(kept.object);
    let known = store.catalog(ask).await.expect("shards");
    assert!(known.iter().all(|shard| shard.index != 0 || shard.state == ShardState::Missing), "{known:?}");
}

#[tokio::test]
async fn what_is_lost_is_made_before_what_is_well_is_moved() {
    let world = TestWorld::new(5).await;
    world.unmount(2);
    let kept = Kept::new(&world, &world.open().await, "a", 1000, (3, 5)).await;
    world.mount(2);
    let place = |index: usize| place_of(&world, &kept, index);
    let alone = (0..5).rfind(|index| (0..5).all(|other| other == *index || place(other) != place(*index)));
    let lost = alone.expect("three are alone on their places");
    kept.lose(lost);
    let store = world.open().await;
    let report = repaired(&store).await;
    let made: Vec<bool> = only(&report).rebuilt.iter().map(|shard| usize::from(shard.index) == lost).collect();
    assert_eq!((made, only(&report).after), (vec![true, false], ObjectState::Healthy), "{report:?}");
    assert_eq!(verify_all(&store, VerifyMode::Full).await.objects[0].margin, Some(2));
}

#[tokio::test]
async fn where_places_stop_answering_in_the_middle_the_report_says_so() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 500_000, (2, 3)).await;
    kept.lose(1);
    // A rehearsal looks as the repair does: what is read after that is read to make the shard.
    let faulty = world.faulty(place_of(&world, &kept, 0));
    let before = faulty.calls(Operation::Read);
    let rehearsed = RepairOptions { dry_run: true, ..RepairOptions::default() };
    let rehearsed = repair(&store, rehearsed).await.expect("rehearsed");
    assert!(only(&rehearsed).rebuilt.len() == 1 && only(&rehearsed).left.is_empty(), "{rehearsed:?}");
    let looks = faulty.calls(Operation::Read) - before;
    let silent = Effect::Refuse(backend::ErrorKind::Unreachable);
    faulty.inject(Fault::new(Operation::Read, When::From(before + 2 * looks + 1), silent));
    let report = repaired(&store).await;
    assert_eq!((report.bytes_written, only(&report).rebuilt.len()), (0, 0), "{report:?}");
    assert!(only(&report).left.iter().any(|left| left.index == 1 && !left.reason.is_empty()), "{report:?}");
    faulty.heal();
    assert_eq!(only(&repaired(&store).await).after, ObjectState::Healthy);
    assert!(kept.is_as_it_was());
}

#[tokio::test]
async fn an_object_that_another_process_is_writing_is_left_to_it() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 1000, (2, 3)).await;
    kept.lose(1);
    let process = ProcessId([7; 16]);
    let shards = vec![(1, BackendId([place_of(&world, &kept, 1) as u8; 16]))];
    let object = kept.object;
    let entry = JournalEntry { object, process, purpose: Purpose::Repair, name: None, version: None, shards };
    let lock = ProcessLock::acquire(&store.dir().join("run"), process).expect("a lock");
    store.catalog(move |catalog| catalog.begin(&entry)).await.expect("journaled");
    let report = repaired(&store).await;
    assert_eq!((report.bytes_written, only(&report).left.len()), (0, 1), "{report:?}");
    let why = format!("process {process} is writing shards of the object");
    assert_eq!(only(&report).left[0].reason, why);
    drop(lock);
    assert_eq!(only(&repaired(&store).await).after, ObjectState::Healthy);
    assert!(kept.is_as_it_was());
}

#[tokio::test]
async fn what_is_dispersed_and_no_place_takes_is_not_said_to_lack_a_zone() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let options = PutOptions { seal: Some(Seal::Dispersed), ..putting(vec![stream_of("a", b"abc")], geometry(2, 3)) };
    let object = put(&store, options).await.expect("stored").objects[0].id;
    Kept::of(&world, &store, object).await.lose(1);
    (1..=3).for_each(|number| set_read_only(&world, number, true));
    let report = repaired(&world.open().await).await;
    let left = &only(&report).left;
    assert_eq!((left.len(), left[0].reason.as_str()), (1, "no other backend takes it"), "{report:?}");
}

#[tokio::test]
async fn a_write_that_fails_takes_nothing_away_from_a_place_that_did_not_answer_for_its_copy() {
    let world = TestWorld::new(4).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 50_000, (2, 3)).await;
    let (from, to) = (place_of(&world, &kept, 0), free_place(&world, &kept));
    let shard = ShardId { object: kept.object, index: 0 };
    let copy = world.shard_path(to, shard);
    fs::create_dir_all(copy.parent().expect("a folder")).expect("a folder");
    fs::copy(&kept.files[0].0, &copy).expect("copied");
    let (place, bytes) = (BackendId([to as u8; 16]), kept.files[0].1.len() as u64);
    let record =
        ShardRecord { index: 0, backend: place, bytes, state: ShardState::Ok, bad_blocks: 0, verified_ns: None };
    store.catalog(move |catalog| catalog.put_shard(shard.object, &record)).await.expect("recorded");
    let silent = Effect::Refuse(backend::ErrorKind::Unreachable);
    world.faulty(to).inject(Fault::new(Operation::Head, When::Always, silent).of_shard(shard));
    for operation in [Operation::Create, Operation::Replace] {
        world.faulty(to).inject(Fault::new(operation, When::Always, REFUSED));
    }
    let assume_lost = vec![backend_name(from)];
    repair(&store, RepairOptions { assume_lost, ..RepairOptions::default() }).await.expect("repaired");
    let calls = [Operation::Create, Operation::Replace].map(|operation| world.faulty(to).calls(operation));
    assert!(calls[0] + calls[1] > 0, "a write was tried");
    assert!(copy.exists(), "{calls:?}");
}

#[tokio::test]
async fn after_a_round_that_failed_no_copy_is_given_up_for_one_that_only_seems_good() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 50_000, (2, 3)).await;
    let (from, other) = (place_of(&world, &kept, 0), free_place(&world, &kept));
    let shard = ShardId { object: kept.object, index: 0 };
    let copy = world.shard_path(other, shard);
    fs::create_dir_all(copy.parent().expect("a folder")).expect("a folder");
    let mut bytes = kept.files[0].1.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&copy, &bytes).expect("written");
    let (place, bytes) = (BackendId([other as u8; 16]), bytes.len() as u64);
    let record =
        ShardRecord { index: 0, backend: place, bytes, state: ShardState::Ok, bad_blocks: 0, verified_ns: None };
    store.catalog(move |catalog| catalog.put_shard(shard.object, &record)).await.expect("recorded");
    set_read_only(&world, other, true);
    let store = world.open().await;
    // It answers for that copy only after the first looks, and no other place takes a shard.
    let silent = Effect::Refuse(backend::ErrorKind::Unreachable);
    let heads = world.faulty(other).calls(Operation::Head);
    for call in 1..=2 {
        world.faulty(other).inject(Fault::new(Operation::Head, When::Nth(heads + call), silent).of_shard(shard));
    }
    for number in (1..=5).filter(|number| *number != other) {
        world.faulty(number).inject(Fault::new(Operation::Create, When::Always, REFUSED));
    }
    let assume_lost = vec![backend_name(from)];
    let report = repair(&store, RepairOptions { assume_lost, ..RepairOptions::default() }).await.expect("repaired");
    let tried: u64 = (1..=5).map(|number| world.faulty(number).calls(Operation::Create)).sum();
    assert!(tried > 0, "a write was tried: {report:?}");
    assert!(kept.files[0].0.exists(), "{report:?}");
}
