//! `backend drain` empties a backend, can be interrupted, and takes nothing away before it is somewhere else.

use crate::heal_damage::{Kept, shard_states, verify_all};
use crate::world::{TestWorld, geometry, put_bytes, random_bytes, read_file};
use shard::ErrorKind;
use shard::backend::{self, Effect, Fault, Operation, When};
use shard::catalog::{ObjectState, ShardState};
use shard::ops::Controls;
use shard::ops::drain::{DrainOptions, DrainReport, drain};
use shard::ops::verify::VerifyMode;
use std::path::PathBuf;

async fn drained(world: &TestWorld, number: usize) -> DrainReport {
    let options = DrainOptions { backend: format!("b{number}"), controls: Controls::default() };
    drain(&mut world.open().await, options).await.expect("drained")
}

fn files_on(world: &TestWorld, number: usize) -> Vec<PathBuf> {
    let folder = world.backend_dir(number);
    world.files_on_backends().into_iter().filter(|path| path.starts_with(&folder)).collect()
}

async fn three_files(world: &TestWorld) -> Vec<(&'static str, Vec<u8>)> {
    let store = world.open().await;
    let mut files = Vec::new();
    for (seed, name) in ["one", "two", "three"].into_iter().enumerate() {
        let bytes = random_bytes(seed as u64, 700_000 + seed);
        put_bytes(&store, name, &bytes, geometry(3, 5)).await;
        files.push((name, bytes));
    }
    files
}

#[tokio::test]
async fn a_drained_backend_is_empty_and_takes_no_new_shards_and_every_object_is_healthy() {
    let world = TestWorld::new(6).await;
    let files = three_files(&world).await;
    let before = files_on(&world, 2).len();
    assert!(before > 0);
    let report = drained(&world, 2).await;
    assert!(report.empty && report.left.is_empty(), "{report:?}");
    assert_eq!(report.moved.len(), before);
    assert!(report.moved.iter().all(|moved| moved.to != "b2"));
    assert_eq!(files_on(&world, 2), Vec::<PathBuf>::new());
    let store = world.open().await;
    assert_eq!(verify_all(&store, VerifyMode::Full).await.worst(), ObjectState::Healthy);
    for (name, bytes) in files {
        assert_eq!(read_file(&store, name).await, Some(bytes));
    }
    put_bytes(&store, "four", b"four", geometry(3, 5)).await;
    assert_eq!(files_on(&world, 2), Vec::<PathBuf>::new());
    assert!(drained(&world, 2).await.moved.is_empty(), "the second time there is nothing to do");
}

#[tokio::test]
async fn a_shard_moves_by_being_read_alone() {
    let world = TestWorld::new(6).await;
    let kept = Kept::new(&world, &world.open().await, "a", 3_000_000, (3, 5)).await;
    let number = (1..=6).find(|number| !files_on(&world, *number).is_empty()).expect("one has a shard");
    let report = drained(&world, number).await;
    let file_bytes = kept.files[0].1.len() as u64;
    assert_eq!((report.moved.len(), report.bytes_written), (1, file_bytes));
    assert!(report.bytes_read < file_bytes + 64 * 1024, "{} bytes read", report.bytes_read);
}

#[tokio::test]
async fn an_interrupted_drain_goes_on_where_it_was_wherever_it_was_interrupted() {
    for calls in 1..14 {
        let world = TestWorld::new(6).await;
        let files = three_files(&world).await;
        let mut store = world.open().await;
        let controls = Controls::default();
        let refuse = Effect::Refuse(backend::ErrorKind::Unreachable);
        for number in 1..=6 {
            world.faulty(number).inject(Fault::new(Operation::Finish, When::From(1 + calls / 7), refuse));
            world.faulty(number).inject(Fault::new(Operation::Delete, When::Nth(1 + calls % 3), refuse));
            world.faulty(number).inject(Fault::new(Operation::Write, When::Nth(calls), refuse));
        }
        let _ = drain(&mut store, DrainOptions { backend: "b1".to_owned(), controls }).await;
        drop(store);
        assert_eq!(verify_all(&world.open().await, VerifyMode::Full).await.summary.lost, 0);
        for _ in 0..2 {
            drained(&world, 1).await;
        }
        assert_eq!(files_on(&world, 1), Vec::<PathBuf>::new(), "after call {calls}");
        let store = world.open().await;
        for (name, bytes) in files {
            assert_eq!(read_file(&store, name).await, Some(bytes));
        }
        let report = verify_all(&store, VerifyMode::Full).await;
        assert_eq!(report.worst(), ObjectState::Healthy, "after call {calls}: {report:?}");
        assert_eq!(world.files_on_backends().len(), 15, "nothing was left lying about");
    }
}

#[tokio::test]
async fn what_is_damaged_or_missing_on_the_backend_is_rebuilt_on_another() {
    let world = TestWorld::new(6).await;
    let kept = Kept::new(&world, &world.open().await, "a", 3_000_000, (3, 5)).await;
    let on = |path: &PathBuf| (1..=6).find(|number| path.starts_with(world.backend_dir(*number))).expect("a backend");
    let bad = on(&kept.files[0].0);
    kept.flip(0, 5000, 0);
    let report = drained(&world, bad).await;
    assert!(report.empty, "{report:?}");
    let gone = on(&kept.files[1].0);
    kept.lose(1);
    // One more place is needed, since two take nothing any more.
    let report = drained(&world, gone).await;
    assert!(report.empty, "{report:?}");
    let store = world.open().await;
    assert_eq!(shard_states(&verify_all(&store, VerifyMode::Full).await), [ShardState::Ok; 5]);
    let now = Kept::of(&world, &store, kept.object).await;
    assert!(now.files.iter().zip(&kept.files).all(|(now, then)| now.1 == then.1), "byte for byte");
}

#[tokio::test]
async fn an_unreachable_backend_is_drained_by_rebuilding_and_its_shards_go_when_it_is_back() {
    let world = TestWorld::new(6).await;
    three_files(&world).await;
    let there = files_on(&world, 1).len();
    world.unmount(1);
    let report = drained(&world, 1).await;
    assert!(!report.empty, "what is there waits for deletion");
    assert_eq!((report.moved.len(), report.left.len()), (there, 0));
    let store = world.open().await;
    assert_eq!(verify_all(&store, VerifyMode::Full).await.worst(), ObjectState::Healthy);
    world.mount(1);
    assert!(drained(&world, 1).await.empty);
    assert_eq!(files_on(&world, 1), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn where_no_other_backend_takes_a_shard_it_stays_and_the_report_says_so() {
    let world = TestWorld::new(1).await;
    let kept = Kept::new(&world, &world.open().await, "a", 1000, (2, 3)).await;
    let report = drained(&world, 1).await;
    assert_eq!((report.empty, report.moved.len(), report.left.len()), (false, 0, 3));
    assert!(kept.is_as_it_was());
    let mut store = world.open().await;
    let options = DrainOptions { backend: "b9".to_owned(), ..DrainOptions::default() };
    assert_eq!(drain(&mut store, options).await.expect_err("there is no b9").kind, ErrorKind::NotFound);
}
