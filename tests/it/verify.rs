//! `verify` finds what is wrong, says how sure it is, remembers it, keeps to its budget, and changes nothing.

use crate::heal_damage::{Kept, known_states, shard_states, verify_all};
use crate::world::{TestWorld, geometry, name, put_bytes, random_bytes};
use shard::ErrorKind;
use shard::catalog::ObjectState;
use shard::catalog::ShardState::{Corrupt, Missing, Ok as Fine, Unreachable};
use shard::ops::Controls;
use shard::ops::verify::{Budget, VerifyMode, VerifyOptions, verify};
use std::fs;
use std::time::Duration;

#[tokio::test]
async fn a_healthy_store_is_healthy_at_every_depth_and_nothing_on_it_changes() {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 3_000_000, (3, 5)).await;
    for mode in [VerifyMode::Quick, VerifyMode::Sample { percent: 10.0 }, VerifyMode::Full] {
        let report = verify_all(&store, mode).await;
        assert_eq!((report.worst(), report.summary.healthy), (ObjectState::Healthy, 1), "{mode:?}");
        assert_eq!((report.objects[0].margin, report.objects[0].backend_margin), (Some(2), Some(2)));
        assert_eq!(report.objects[0].names, [name("a")]);
        assert!(kept.is_as_it_was());
    }
    let full = verify_all(&store, VerifyMode::Full).await;
    let stored: u64 = kept.files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert!(full.summary.bytes_read >= stored, "every byte is read");
    assert_eq!(full.summary.confidence, Some(1.0));
    assert_eq!(known_states(&store).await.into_iter().collect::<Vec<_>>(), [(ObjectState::Healthy, 1)]);
}

#[tokio::test]
async fn what_is_missing_corrupt_or_unreachable_is_told_apart_and_remembered() {
    let world = TestWorld::new(5).await;
    let kept = Kept::new(&world, &world.open().await, "a", 3_000_000, (2, 5)).await;
    kept.lose(0);
    kept.flip(1, 100, 3);
    world.unmount(3);
    let store = world.open().await;
    let report = verify_all(&store, VerifyMode::Full).await;
    let three = store.registry().by_name("b3").expect("registered").id;
    let shards = store
        .catalog({
            let object = kept.object;
            move |catalog| catalog.shards(object)
        })
        .await
        .expect("shards");
    let silent = shards.iter().find(|shard| shard.backend == three).expect("it has a shard").index;
    let expected: Vec<_> = (0..5_u8)
        .map(|index| match index {
            index if index == silent => Unreachable,
            0 => Missing,
            1 => Corrupt,
            _ => Fine,
        })
        .collect();
    assert_eq!(shard_states(&report), expected);
    assert_eq!(shards.iter().map(|shard| shard.state).collect::<Vec<_>>(), expected, "the catalog remembers");
    assert_eq!(report.worst(), ObjectState::Degraded);
    assert_eq!(verify_all(&store, VerifyMode::Quick).await.worst(), ObjectState::Degraded, "also after a quick look");

    world.mount(3);
    let back = verify_all(&world.open().await, VerifyMode::Full).await;
    assert!(back.objects[0].shards.iter().all(|shard| shard.state != Unreachable));
}

#[tokio::test]
async fn objects_of_which_too_little_is_left_are_lost_or_unavailable() {
    let world = TestWorld::new(3).await;
    let kept = Kept::new(&world, &world.open().await, "a", 1000, (2, 3)).await;
    kept.lose(0);
    world.unmount(1);
    world.unmount(2);
    world.unmount(3);
    let report = verify_all(&world.open().await, VerifyMode::Full).await;
    assert_eq!((report.worst(), report.objects[0].margin), (ObjectState::Unavailable, None));
    for number in 1..=3 {
        world.mount(number);
    }
    kept.lose(1);
    let report = verify_all(&world.open().await, VerifyMode::Full).await;
    assert_eq!((report.worst(), report.summary.lost), (ObjectState::Lost, 1));
}

#[tokio::test]
async fn a_shard_found_on_another_backend_is_in_the_catalog_afterwards() {
    let world = TestWorld::new(4).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 1000, (2, 3)).await;
    let free = (1..=4).find(|number| !kept.files.iter().any(|(path, _)| path.starts_with(world.backend_dir(*number))));
    let there = world.shard_path(free.expect("one of four"), shard::id::ShardId { object: kept.object, index: 1 });
    fs::create_dir_all(there.parent().expect("a folder")).expect("made");
    fs::rename(&kept.files[1].0, &there).expect("moved by hand");
    let report = verify_all(&store, VerifyMode::Full).await;
    assert_eq!(report.worst(), ObjectState::Healthy);
    assert_eq!(Kept::of(&world, &store, kept.object).await.files[1].0, there);
}

#[tokio::test]
async fn only_what_is_named_is_looked_at_and_a_name_that_there_is_not_is_an_error() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    for file in ["x/a", "x/b", "y"] {
        put_bytes(&store, file, &random_bytes(1, 100), geometry(2, 3)).await;
    }
    let named = |names: &[&str]| VerifyOptions {
        names: names.iter().map(|text| name(text)).collect(),
        ..VerifyOptions::default()
    };
    assert_eq!(verify(&store, named(&["x"])).await.expect("a folder").objects.len(), 2);
    assert_eq!(verify(&store, named(&["y"])).await.expect("a file").objects[0].names, [name("y")]);
    let error = verify(&store, named(&["y", "z"])).await.expect_err("there is no z");
    assert_eq!(error.kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn with_a_budget_the_longest_unverified_come_first_and_the_rest_is_left() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    for file in 0..24_u64 {
        put_bytes(&store, &format!("f{file}"), &random_bytes(file, 400_000), geometry(2, 3)).await;
    }
    let one = |budget| VerifyOptions { budget: Some(budget), ..VerifyOptions::default() };
    let mut seen = std::collections::BTreeSet::new();
    let mut left = 24;
    while left > 0 {
        let report = verify(&store, one(Budget::Bytes(1))).await.expect("verified");
        assert!((1..=8).contains(&report.objects.len()), "what was begun at once is finished");
        assert_eq!(report.summary.objects + report.summary.remaining, 24);
        let new = report.objects.iter().filter(|object| seen.insert(object.id)).count();
        // Eight are begun at once, and which of them are done before the budget is used up is chance.
        assert!(
            new == report.objects.len() || left < 8,
            "what was verified comes last: {new} are new, {left} were left"
        );
        left -= new;
    }
    let nothing = verify(&store, one(Budget::Time(Duration::ZERO))).await.expect("verified");
    assert_eq!((nothing.summary.objects, nothing.summary.remaining), (0, 24));
}

#[tokio::test]
async fn samples_within_a_budget_come_to_every_object_in_the_end() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    for file in 0..24_u64 {
        put_bytes(&store, &format!("f{file}"), &random_bytes(file, 40_000), geometry(2, 3)).await;
    }
    let mode = VerifyMode::Sample { percent: 50.0 };
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let budget = Some(Budget::Bytes(1));
        let options = VerifyOptions { mode, budget, ..VerifyOptions::default() };
        seen.extend(verify(&store, options).await.expect("verified").objects.iter().map(|object| object.id));
        if seen.len() == 24 {
            break;
        }
    }
    assert_eq!(seen.len(), 24);
}

#[tokio::test]
async fn with_a_maximal_age_only_what_is_due_is_looked_at() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    put_bytes(&store, "a", b"a", geometry(2, 3)).await;
    let aged = |age| VerifyOptions { max_age: Some(Duration::from_secs(age)), ..VerifyOptions::default() };
    assert_eq!(verify(&store, aged(3600)).await.expect("verified").objects.len(), 1, "never verified is due");
    assert_eq!(verify(&store, aged(3600)).await.expect("verified").objects.len(), 0);
    assert_eq!(verify(&store, aged(0)).await.expect("verified").objects.len(), 1);
    put_bytes(&store, "b", b"b", geometry(2, 3)).await;
    assert_eq!(verify(&store, aged(3600)).await.expect("verified").objects[0].names, [name("b")]);
}

#[tokio::test]
async fn a_sample_finds_damage_at_least_as_often_as_it_says() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    let kept = Kept::new(&world, &store, "a", 20_000_000, (2, 3)).await;
    for stripe in 0..4 {
        kept.flip(0, 64 + stripe * 262_144, 1);
    }
    let (mut found, runs) = (0_u32, 40);
    let mut stated = 0.0;
    for _ in 0..runs {
        let report = verify_all(&store, VerifyMode::Sample { percent: 20.0 }).await;
        let sample = report.summary.sample.as_ref().expect("it was a sample");
        assert_eq!(sample.blocks, 39 * 3);
        assert_eq!(sample.blocks_checked, 24, "20 % of 117, rounded up");
        stated = shard::ops::verify::detection_bound(0.2, 4);
        found += u32::from(report.worst() == ObjectState::Degraded);
        // What one run found must not be what the next one remembers.
        forget(&store, &kept).await;
    }
    let deviation = 3.5 * (f64::from(runs) * stated * (1.0 - stated)).sqrt();
    assert!(f64::from(found) >= f64::from(runs) * stated - deviation, "found {found} of {runs}, stated {stated}");
    let nonsense = VerifyOptions { mode: VerifyMode::Sample { percent: 0.0 }, ..VerifyOptions::default() };
    assert_eq!(verify(&store, nonsense).await.expect_err("no share").kind, ErrorKind::Invalid);
}

/// Records the shards as they were after the put.
async fn forget(store: &shard::store::Store, kept: &Kept) {
    let object = kept.object;
    let reset = move |catalog: &mut shard::catalog::Catalog| {
        for mut shard in catalog.shards(object)? {
            shard.state = Fine;
            shard.bad_blocks = 0;
            catalog.put_shard(object, &shard)?;
        }
        Ok(())
    };
    store.catalog(reset).await.expect("reset");
}

#[tokio::test]
async fn a_cancelled_verification_stops() {
    let world = TestWorld::new(3).await;
    let store = world.open().await;
    put_bytes(&store, "a", b"a", geometry(2, 3)).await;
    let controls = Controls::default();
    controls.cancel.cancel();
    let cancelled = verify(&store, VerifyOptions { controls, ..VerifyOptions::default() }).await;
    assert_eq!(cancelled.expect_err("cancelled").kind, ErrorKind::Cancelled);
}
