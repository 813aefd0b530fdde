//! `repair` brings back the byte-identical files, in the right places, and touches nothing else.

use crate::heal_damage::{Kept, known_states, shard_states, verify_all};
use crate::world::{TestWorld, geometry, put_bytes, putting, random_bytes, read_file, stream_of};
use shard::ErrorKind;
use shard::backend::{self, Effect, Fault, Operation, When};
use shard::catalog::{ObjectState, ShardState};
use shard::id::ShardId;
use shard::ops::put::{PutOptions, put};
use shard::ops::repair::{RepairOptions, RepairReport, repair};
use shard::ops::verify::VerifyMode;
use shard::store::Store;
use shard::stripe::Seal;
use std::fs;
use std::path::Path;

async fn repaired(store: &Store) -> RepairReport {
    repair(store, RepairOptions::default()).await.expect("repaired")
}

async fn assuming_lost(store: &Store, backend: &str) -> RepairReport {
    let options = RepairOptions { assume_lost: vec![backend.to_owned()], ..RepairOptions::default() };
    repair(store, options).await.expect("repaired")
}

fn number_of(world: &TestWorld, path: &Path) -> usize {
    (1..=20).find(|number| path.starts_with(world.backend_dir(*number))).expect("a backend's folder")
}

#[tokio::test]
async fn on_a_healthy_store_repair_writes_nothing() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 2_000_000, (3, 5)).await;
    for number in 1..=5 {
        for write in [Operation::Create, Operation::Replace, Operation::Delete] {
            world.faulty(number).inject(Fault::new(write, When::Always, Effect::Refuse(backend::ErrorKind::Failed)));
        }
    }
    let report = repaired(&store).await;
    assert_eq!((report.bytes_written, report.objects[0].after), (0, ObjectState::Healthy));
    assert!(report.objects[0].rebuilt.is_empty() && report.objects[0].left.is_empty());
    assert!(kept.is_as_it_was());
}

#[tokio::test]
async fn every_set_of_shards_that_may_be_lost_comes_back_byte_for_byte_where_it_was() {
    for (data, total) in [(2, 3), (3, 5)] {
        let world = TestWorld::new(total).await;
        let store = world.open().await;
        let kept = Kept::new(&world, &store, "a", 900_001, (data, total)).await;
        for lost in 1_u32..1 << total {
            let count = lost.count_ones() as usize;
            if count > total - data {
                continue;
            }
            (0..total).filter(|index| lost >> index & 1 == 1).for_each(|index| kept.lose(index));
            let report = repaired(&store).await;
            assert_eq!(
                (report.objects[0].before, report.objects[0].after),
                (ObjectState::Degraded, ObjectState::Healthy)
            );
            assert_eq!(report.objects[0].rebuilt.len(), count);
            assert!(report.objects[0].rebuilt.iter().all(|shard| shard.from.as_ref() == Some(&shard.to)));
            assert!(kept.is_as_it_was(), "{data}/{total}, lost {lost:b}");
        }
    }
}

/// A small step, so that every part of the file is hit; the whole count runs where every bit is tried at the level below.
const STEP: usize = 7;

#[tokio::test]
async fn flipped_bits_anywhere_are_found_by_verify_and_undone_by_repair() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 100, (2, 3)).await;
    for byte in (0..kept.files[1].1.len()).step_by(STEP) {
        kept.flip(1, byte, (byte % 8) as u8);
        let seen = verify_all(&store, VerifyMode::Full).await;
        assert_eq!(shard_states(&seen), [ShardState::Ok, ShardState::Corrupt, ShardState::Ok], "byte {byte}");
        assert_eq!(repaired(&store).await.objects[0].after, ObjectState::Healthy, "byte {byte}");
        assert!(kept.is_as_it_was(), "byte {byte}");
    }
    assert_eq!(read_file(&store, "a").await, Some(random_bytes(100, 100)));
}

#[tokio::test]
async fn truncations_and_swaps_are_undone() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 100, (2, 3)).await;
    let other = Kept::new(&world, &store, "b", 101, (2, 3)).await;
    for bytes in (0..kept.files[0].1.len()).step_by(61) {
        kept.overwrite(0, &kept.files[0].1[..bytes]);
        repaired(&store).await;
        assert!(kept.is_as_it_was(), "{bytes} bytes");
    }
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        kept.overwrite(a, &kept.files[b].1);
        other.overwrite(b, &kept.files[b].1);
        repaired(&store).await;
        assert!(kept.is_as_it_was() && other.is_as_it_was(), "{a} and {b}");
    }
    // Two swapped shards of 2 of 3 leave one good one: that is lost, and nothing is made of it.
    kept.overwrite(0, &kept.files[1].1);
    kept.overwrite(1, &kept.files[0].1);
    let report = repaired(&store).await;
    let lost = report.objects.iter().find(|object| object.id == kept.object).expect("it is in the report");
    assert_eq!((lost.after, report.bytes_written), (ObjectState::Lost, 0));
    assert_eq!(fs::read(&kept.files[0].0).expect("still there"), kept.files[1].1, "it is left as it is");
}

#[tokio::test]
async fn an_object_whose_every_shard_is_damaged_in_another_stripe_is_repaired_whole() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 5_000_000, (3, 5)).await;
    for index in 0..5 {
        kept.flip(index, 64 + index * 262_144 + 17, 5);
    }
    let report = verify_all(&store, VerifyMode::Full).await;
    assert_eq!((shard_states(&report), report.worst()), (vec![ShardState::Corrupt; 5], ObjectState::Degraded));
    assert!(report.objects[0].shards.iter().all(|shard| shard.bad_blocks == 1));
    let report = repaired(&store).await;
    assert_eq!((report.objects[0].rebuilt.len(), report.objects[0].after), (5, ObjectState::Healthy));
    assert!(kept.is_as_it_was());
}

#[tokio::test]
async fn a_read_that_failed_once_replaces_nothing() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 1000, (2, 3)).await;
    let number = number_of(&world, &kept.files[0].0);
    // The quick look reads once; the closer one meets the fault.
    world.faulty(number).inject(Fault::new(Operation::Read, When::Nth(3), Effect::FlipBit));
    let report = repaired(&store).await;
    assert_eq!(report.bytes_written, 0, "{report:?}");
    assert!(kept.is_as_it_was());
}

#[tokio::test]
async fn what_is_unreachable_is_left_alone_unless_its_backend_is_assumed_lost() {
    let world = TestWorld::new(6).await;
    let kept = Kept::new(&world, &world.open().await, "a", 500_000, (3, 5)).await;
    let number = number_of(&world, &kept.files[2].0);
    world.unmount(number);
    let store = world.open().await;
    let report = repaired(&store).await;
    assert_eq!((report.bytes_written, report.objects[0].after), (0, ObjectState::Degraded));
    assert_eq!(report.objects[0].left[0].state, ShardState::Unreachable);

    let report = assuming_lost(&store, &format!("b{number}")).await;
    assert_eq!(report.objects[0].after, ObjectState::Healthy, "{report:?}");
    let made = &report.objects[0].rebuilt;
    assert_eq!((made.len(), made[0].from.clone()), (1, Some(format!("b{number}"))));
    assert_ne!(made[0].to, format!("b{number}"));
    let now = Kept::of(&world, &store, kept.object).await;
    assert_eq!(now.files[2].1, kept.files[2].1);

    world.mount(number);
    let store = world.open().await;
    let report = verify_all(&store, VerifyMode::Full).await;
    assert_eq!(
        (report.worst(), report.objects[0].shards.len()),
        (ObjectState::Healthy, 5),
        "the old copy waits for deletion"
    );
    let unknown = RepairOptions { assume_lost: vec!["b77".to_owned()], ..RepairOptions::default() };
    assert_eq!(repair(&store, unknown).await.expect_err("there is no b77").kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn a_shard_goes_elsewhere_when_its_backend_fails_to_write_and_back_to_nowhere_when_none_does() {
    let world = TestWorld::new(6).await;
    let kept = Kept::new(&world, &world.open().await, "a", 500_000, (3, 5)).await;
    let number = number_of(&world, &kept.files[4].0);
    kept.lose(4);
    let store = world.open().await;
    let refuse = Effect::Refuse(backend::ErrorKind::NoSpace);
    world.faulty(number).inject(Fault::new(Operation::Write, When::Always, refuse));
    let report = repaired(&store).await;
    let object = &report.objects[0];
    assert_eq!((object.after, object.rebuilt.len()), (ObjectState::Healthy, 1), "{report:?}");
    assert_ne!(object.rebuilt[0].to, format!("b{number}"));
    let now = Kept::of(&world, &store, kept.object).await;
    assert_eq!(now.files[4].1, kept.files[4].1);

    now.lose(3);
    for number in 1..=6 {
        world.faulty(number).inject(Fault::new(Operation::Write, When::Always, refuse));
    }
    let report = repaired(&store).await;
    assert_eq!((report.objects[0].after, report.bytes_written), (ObjectState::Degraded, 0));
    let left = &report.objects[0].left[0];
    assert!(left.index == 3 && left.reason.contains("no space left"), "{left:?}");
    assert_eq!(world.files_on_backends().len(), 4, "nothing half-written stays");
    let report = repaired(&store).await;
    let left = &report.objects[0].left[0];
    assert_eq!(
        (left.index, left.reason.as_str()),
        (3, "no other backend takes it"),
        "none that has just failed is tried"
    );
    (1..=6).for_each(|number| world.faulty(number).heal());
    assert_eq!(repaired(&store).await.objects[0].after, ObjectState::Healthy, "what takes writes again is forgiven");
}

#[tokio::test]
async fn misplaced_shards_move_when_there_is_a_better_place_and_only_then() {
    let world = TestWorld::new(5).await;
    for number in 3..=5 {
        world.unmount(number);
    }
    let store = world.open().await;
    let put = put_bytes(&store, "a", &random_bytes(1, 300_000), geometry(3, 5)).await;
    let object = put.objects[0].id;
    assert_eq!(repaired(&store).await.bytes_written, 0, "there is no better place yet");
    for number in 3..=5 {
        world.mount(number);
    }
    let store = world.open().await;
    let before = Kept::of(&world, &store, object).await;
    let seen = verify_all(&store, VerifyMode::Full).await;
    let misplaced = shard_states(&seen).iter().filter(|state| **state == ShardState::Misplaced).count();
    assert_eq!((misplaced, seen.worst()), (3, ObjectState::Degraded));
    let rehearsed = repair(&store, RepairOptions { dry_run: true, ..RepairOptions::default() }).await.expect("planned");
    assert_eq!(rehearsed.objects[0].rebuilt.len(), 3);
    let plan = rehearsed.plan.expect("it was a dry run");
    let file_bytes = before.files[0].1.len() as u64;
    let read: u64 = plan.iter().map(|backend| backend.bytes_read).sum();
    assert!((3 * (file_bytes - 4096)..3 * file_bytes).contains(&read), "each is read once to be moved: {read}");
    assert_eq!(plan.iter().map(|backend| (backend.bytes_written, backend.shards)).max(), Some((file_bytes, 1)));
    let report = repaired(&store).await;
    assert_eq!((report.objects[0].rebuilt.len(), report.objects[0].after), (3, ObjectState::Healthy));
    let after = Kept::of(&world, &store, object).await;
    assert!(before.files.iter().zip(&after.files).all(|(before, after)| before.1 == after.1));
    assert_eq!(world.files_on_backends().len(), 5, "the old copies are gone");
    assert_eq!(verify_all(&store, VerifyMode::Full).await.objects[0].margin, Some(2));
}

#[tokio::test]
async fn a_second_good_copy_is_surplus_and_left_alone_and_a_bad_one_is_given_up() {
    let world = TestWorld::new(6).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 1000, (3, 5)).await;
    let free =
        (1..=6).find(|number| kept.files.iter().all(|(path, _)| number_of(&world, path) != *number)).expect("one");
    let shard = ShardId { object: kept.object, index: 0 };
    let there = world.shard_path(free, shard);
    fs::create_dir_all(there.parent().expect("a folder")).expect("made");
    fs::write(&there, &kept.files[0].1).expect("copied");
    let copy = store.registry().at(free - 1).expect("registered").id;
    let record = move |catalog: &mut shard::catalog::Catalog| {
        let mut shard = catalog.shards(kept.object)?[0];
        shard.backend = copy;
        catalog.put_shard(kept.object, &shard)
    };
    store.catalog(record).await.expect("recorded");
    let states = shard_states(&verify_all(&store, VerifyMode::Full).await);
    assert_eq!(states.iter().filter(|state| **state == ShardState::Surplus).count(), 1);
    let report = repaired(&store).await;
    assert_eq!((report.bytes_written, report.objects[0].after), (0, ObjectState::Healthy));
    assert!(there.exists(), "clearing it is for gc");

    fs::write(&there, b"rubbish").expect("damaged");
    kept.lose(1);
    assert_eq!(repaired(&store).await.objects[0].after, ObjectState::Healthy);
    assert!(!there.exists(), "a bad copy beside a good one is of no use, whatever else there is to do");
    assert!(kept.is_as_it_was());
}

#[tokio::test]
async fn the_most_endangered_object_comes_first() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let healthy = Kept::new(&world, &store, "healthy", 1000, (3, 5)).await;
    let worst = Kept::new(&world, &store, "worst", 1001, (3, 5)).await;
    let worse = Kept::new(&world, &store, "worse", 1002, (3, 5)).await;
    worse.lose(0);
    worst.lose(0);
    worst.lose(1);
    let report = repaired(&store).await;
    let order: Vec<_> = report.objects.iter().map(|object| object.id).collect();
    assert_eq!(order, [worst.object, worse.object, healthy.object]);
    assert_eq!(known_states(&store).await.get(&ObjectState::Healthy), Some(&3));
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_read_and_written_and_does_nothing() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 500_000, (3, 5)).await;
    kept.lose(1);
    kept.flip(2, 70, 0);
    let options = RepairOptions { dry_run: true, ..RepairOptions::default() };
    let report = repair(&store, options).await.expect("rehearsed");
    let object = &report.objects[0];
    assert_eq!((object.rebuilt.len(), object.after, report.bytes_written), (2, ObjectState::Degraded, 0));
    assert!(object.left.is_empty(), "what would be made is not left: {report:?}");
    assert!(!kept.files[1].0.exists());
    let plan = report.plan.expect("it was a dry run");
    let written: u64 = plan.iter().map(|backend| backend.bytes_written).sum();
    assert_eq!(written, (kept.files[1].1.len() + kept.files[2].1.len()) as u64);
    assert_eq!(plan.iter().map(|backend| backend.shards).sum::<u64>(), 2);
    let read: Vec<u64> = plan.iter().map(|backend| backend.bytes_read).filter(|bytes| *bytes > 0).collect();
    let file_bytes = kept.files[0].1.len() as u64;
    assert_eq!(read.len(), 3);
    assert!(
        read.iter().all(|bytes| (file_bytes - 4096..file_bytes).contains(bytes)),
        "the blocks of k shards: {read:?}"
    );
    let real = repaired(&store).await;
    assert_eq!(real.bytes_written, written, "and that is what it does");
    assert!(real.plan.is_none() && kept.is_as_it_was());
}

#[tokio::test]
async fn one_repair_at_a_time() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    put_bytes(&store, "a", b"a", geometry(2, 3)).await;
    let _lease = store.lease("maintenance").await.expect("free");
    assert_eq!(repair(&store, RepairOptions::default()).await.expect_err("taken").kind, ErrorKind::Busy);
}

#[tokio::test]
async fn a_misplaced_shard_moves_even_where_a_copy_too_many_lies_beside_it() {
    let world = TestWorld::new(5).await;
    world.unmount(2);
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 1000, (3, 5)).await;
    let place = |index: usize| number_of(&world, &kept.files[index].0);
    // Four places took five shards: the second one on its place is the one that has a better place later.
    let second = (1..5).find(|index| (0..*index).any(|other| place(other) == place(*index))).expect("two on one");
    let beside = (1..=5).find(|number| *number != 2 && *number != place(second)).expect("another place");
    let there = world.shard_path(beside, ShardId { object: kept.object, index: second as u8 });
    fs::create_dir_all(there.parent().expect("a folder")).expect("made");
    fs::write(&there, &kept.files[second].1).expect("copied");
    let copy = store.registry().at(beside - 1).expect("registered").id;
    let record = move |catalog: &mut shard::catalog::Catalog| {
        let mut shard = catalog.shards(kept.object)?[second];
        shard.backend = copy;
        catalog.put_shard(kept.object, &shard)
    };
    store.catalog(record).await.expect("recorded");
    world.mount(2);
    let store = world.open().await;
    let report = repaired(&store).await;
    assert_eq!((report.objects[0].rebuilt.len(), report.objects[0].after), (1, ObjectState::Healthy));
    assert_eq!(verify_all(&store, VerifyMode::Full).await.objects[0].margin, Some(2));
    assert_eq!(repaired(&store).await.bytes_written, 0);
}

#[tokio::test]
async fn a_repair_says_what_it_read_and_wrote() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 3_000_000, (3, 5)).await;
    let file_bytes = kept.files[0].1.len() as u64;
    kept.lose(1);
    let report = repaired(&store).await;
    assert_eq!(report.bytes_written, file_bytes);
    // Four shards are read to find out, and the blocks of three again to make the one that is lost.
    let read = report.bytes_read;
    assert!((7 * (file_bytes - 4096)..8 * file_bytes).contains(&read), "{read} bytes, shards of {file_bytes}");
    let again = repaired(&store).await;
    assert_eq!(again.bytes_written, 0);
    assert!((5 * file_bytes..6 * file_bytes).contains(&again.bytes_read), "{} bytes", again.bytes_read);
}

#[tokio::test]
async fn what_no_zone_may_have_is_left_and_it_is_said_why() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let options = PutOptions { seal: Some(Seal::Dispersed), ..putting(vec![stream_of("a", b"abc")], geometry(2, 3)) };
    let object = put(&store, options).await.expect("stored").objects[0].id;
    let kept = Kept::of(&world, &store, object).await;
    let number = number_of(&world, &kept.files[0].0);
    world.unmount(number);
    let store = world.open().await;
    let report = assuming_lost(&store, &format!("b{number}")).await;
    let left = &report.objects[0].left[0];
    let why = "no other zone takes it without having more of the shards than the seal allows";
    assert_eq!((left.index, left.reason.as_str(), report.bytes_written), (0, why, 0));
    world.mount(number);
    let store = world.open().await;
    assert_eq!(verify_all(&store, VerifyMode::Full).await.worst(), ObjectState::Healthy, "nothing was given up");
}
