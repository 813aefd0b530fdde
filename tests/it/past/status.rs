//! How the store stands.

use super::*;
use shard::catalog::{ChallengeOutcome, CheckRecord, ObjectState, ShardState};
use shard::ops::repair::{RepairOptions, repair};
use shard::ops::status::{StatusCheck, StatusOptions, StatusReport, status};
use shard::ops::verify::{VerifyMode, VerifyOptions, verify};

async fn take(store: &Store) -> StatusReport {
    status(store, StatusOptions::default()).await.expect("a status")
}

/// Records that all of an object was read, this many days ago.
async fn verified(store: &Store, object: ObjectId, days: i64) {
    let when_ns = store.now_ns() - days * 24 * 3600 * 1_000_000_000;
    store
        .catalog(move |catalog| {
            let shards = catalog.shards(object)?;
            let (margin, backend_margin) = (Some(2), Some(2));
            let state = ObjectState::Healthy;
            let check = CheckRecord { object, state, margin, backend_margin, shards, when_ns, full: true };
            catalog.record_check(&check)
        })
        .await
        .expect("recorded");
}

#[tokio::test]
async fn an_empty_store_is_healthy_and_not_overdue() {
    let world = World::new(5).await;
    let report = take(&world.open("a").await).await;
    assert_eq!((report.state, report.overdue, report.objects.total), (ObjectState::Healthy, false, 0));
    assert!(report.may_be_lost.is_empty() && report.verification.is_empty());
    assert_eq!(report.backends.len(), 5);
}

#[tokio::test]
async fn what_may_be_lost_is_said_for_zones_and_for_backends() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_bytes(&store, "file", bytes(1, 1000)).await;
    let report = take(&store).await;
    assert_eq!((report.margin, report.backend_margin), (Some(2), Some(2)));
    assert_eq!(report.may_be_lost, ["any 2 zones"]);
    put_at(&store, "weaker", bytes(1, 1000), RedundancyLevel::Minimal).await;
    assert_eq!(take(&store).await.may_be_lost, ["any 1 zone"]);
    // All on one disk.
    let dir = world.dir("one-disk");
    Store::init(&dir, InitOptions::default()).await.expect("a store");
    let store = world.open("one-disk").await;
    put_bytes(&store, "file", bytes(1, 1000)).await;
    let report = take(&store).await;
    assert_eq!((report.margin, report.backend_margin), (Some(0), Some(2)));
    let zone = &report.backends[0].zone;
    assert_eq!(report.may_be_lost, [format!("not zone `{zone}`"), "any 2 backends".to_owned()]);
}

#[tokio::test]
async fn a_verification_that_is_too_old_for_its_level_is_overdue() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let personal = put_bytes(&store, "personal", bytes(1, 1000)).await.objects[0].id;
    let paranoid = put_at(&store, "paranoid", bytes(2, 1000), RedundancyLevel::Paranoid).await.objects[0].id;
    let report = take(&store).await;
    assert!(!report.overdue, "what was put just now need not be verified yet");
    assert_eq!(report.objects.never_verified, 2);
    assert!(report.verification.iter().all(|age| age.age_s.is_some_and(|age| age < 600)));
    for (personal_days, paranoid_days, overdue) in [(1, 80, false), (8, 80, true), (1, 91, true), (6, 89, false)] {
        verified(&store, personal, personal_days).await;
        verified(&store, paranoid, paranoid_days).await;
        assert_eq!(take(&store).await.overdue, overdue, "{personal_days} {paranoid_days}");
    }
    put_bytes(&store, "new", bytes(3, 1000)).await;
    assert!(!take(&store).await.overdue);
}

#[tokio::test]
async fn the_worst_object_is_the_state_of_the_store() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_bytes(&store, "fine", bytes(1, 1000)).await;
    let object = put_bytes(&store, "broken", bytes(2, 1000)).await.objects[0].id;
    store
        .catalog(move |catalog| {
            let mut shards = catalog.shards(object)?;
            shards.iter_mut().take(3).for_each(|shard| shard.state = ShardState::Missing);
            let (margin, backend_margin, when_ns) = (None, None, 1);
            let state = ObjectState::Lost;
            catalog.record_check(&CheckRecord { object, state, margin, backend_margin, shards, when_ns, full: false })
        })
        .await
        .expect("recorded");
    let report = take(&store).await;
    assert_eq!((report.state, report.objects.lost, report.objects.healthy), (ObjectState::Lost, 1, 1));
    assert_eq!((report.margin, report.may_be_lost.len()), (None, 2));
    assert!(report.may_be_lost[0].contains("1 object cannot be recovered"));
    let json = serde_json::to_value(&report).expect("json");
    assert_eq!(json["state"], "lost");
}

#[tokio::test]
async fn deletes_that_wait_are_counted_where_they_wait() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_bytes(&store, "file", bytes(1, 1000)).await;
    drop(store);
    world.unmount(3);
    let store = world.open("a").await;
    remove_file(&store, "file", RemoveVersions::All).await;
    let report = take(&store).await;
    let waiting: Vec<_> = report.backends.iter().map(|backend| (backend.state, backend.pending_deletes)).collect();
    assert_eq!(waiting, [("ready", 0), ("ready", 0), ("ready", 0), ("unreachable", 1), ("ready", 0)]);
    assert_eq!((report.space.pending_deletes, report.objects.removals), (1, 1));
    // A catalog that is made anew asks what of it is done.
    drop(store);
    world.lose_catalog("a");
    let store = world.open("a").await;
    run_rebuild(&store).await;
    let report = take(&store).await;
    let waiting: Vec<_> = report.backends.iter().map(|backend| backend.pending_deletes).collect();
    assert_eq!(waiting, [0, 0, 0, 1, 0]);
    drop(store);
    world.mount(3);
    let store = world.open("a").await;
    run_rebuild(&store).await;
    assert_eq!((take(&store).await.space.pending_deletes, world.shards(3).len()), (1, 1), "a rebuild deletes nothing");
    gc(&store, GcOptions::default()).await.expect("collected");
    assert_eq!((take(&store).await.space.pending_deletes, world.shards(3).len()), (0, 0));
}

#[tokio::test]
async fn what_each_backend_answered_or_failed_is_its_history() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    let object = put_bytes(&store, "file", bytes(1, 100_000)).await.objects[0].id;
    let of = |report: &StatusReport| -> Vec<[u64; 4]> {
        let histories = report.backends.iter().map(|backend| &backend.history);
        histories.map(|history| [history.answered, history.wrong, history.missing, history.silent]).collect()
    };
    assert_eq!(of(&take(&store).await), [[0; 4]; 5], "a put asks for nothing");
    for mode in [VerifyMode::Full, VerifyMode::Sample { percent: 100.0 }, VerifyMode::Quick] {
        verify(&store, VerifyOptions { mode, ..VerifyOptions::default() }).await.expect("verified");
    }
    assert_eq!(of(&take(&store).await), [[3, 0, 0, 0]; 5]);
    drop(store);
    // One gives something else, one has lost it, one does not answer.
    let file = |backend: usize| world.folder(backend).join(world.shards(backend).into_keys().next().expect("a shard"));
    let mut damaged = fs::read(file(0)).expect("a shard");
    damaged[100] ^= 1;
    fs::write(file(0), damaged).expect("damaged");
    fs::remove_file(file(1)).expect("removed");
    world.unmount(2);
    let store = world.open("a").await;
    verify(&store, VerifyOptions::default()).await.expect("verified");
    let expected = [[3, 1, 0, 0], [3, 0, 1, 0], [3, 0, 0, 1], [4, 0, 0, 0], [4, 0, 0, 0]];
    let report = take(&store).await;
    assert_eq!(of(&report), expected);
    let wrong = report.backends[0].history.failures[0];
    assert_eq!((wrong.object, wrong.outcome, wrong.bad_blocks), (object, ChallengeOutcome::Wrong, 1));
    assert_eq!(report.backends[0].history.last_failed, Some(wrong.when));
    assert!(report.backends[3].history.failures.is_empty());
    // What a look does not ask for cannot be wrong, and what was known before is no new failure.
    verify(&store, VerifyOptions { mode: VerifyMode::Quick, ..VerifyOptions::default() }).await.expect("verified");
    assert_eq!(of(&take(&store).await)[0], [4, 1, 0, 0]);
    drop(store);
    let store = world.open("a").await;
    assert_eq!(of(&take(&store).await)[2], [3, 0, 0, 2], "it outlives the process");
    world.mount(2);
    drop(store);
    // Repairing asks too; another machine asked nothing.
    let store = world.open("a").await;
    repair(&store, RepairOptions::default()).await.expect("repaired");
    verify(&store, VerifyOptions::default()).await.expect("verified");
    let after = of(&take(&store).await);
    assert!(after.iter().zip(expected).all(|(after, before)| after[0] > before[0]), "{after:?}");
    world.add_machine("b", &[0, 1, 2, 3, 4]);
    let other = world.open("b").await;
    rebuild(&other, RebuildOptions::default()).await.expect("rebuilt");
    assert_eq!(of(&take(&other).await), [[0; 4]; 5]);
}

#[tokio::test]
async fn asking_the_backends_finds_what_the_catalog_does_not_know() {
    let world = World::new(5).await;
    let store = world.open("a").await;
    put_bytes(&store, "file", bytes(1, 1000)).await;
    for backend in [0, 1] {
        let file = world.shards(backend).into_keys().next().expect("a shard");
        fs::remove_file(world.folder(backend).join(file)).expect("removed");
    }
    assert_eq!(take(&store).await.state, ObjectState::Healthy);
    let options = StatusOptions { check: StatusCheck::AskBackends, ..StatusOptions::default() };
    let report = status(&store, options).await.expect("a status");
    assert_eq!((report.state, report.margin), (ObjectState::Degraded, Some(0)));
    assert_eq!(report.objects.never_verified, 1, "a quick look is no verification");
}

#[tokio::test]
async fn what_is_on_backends_that_the_settings_lost_is_not_healthy() {
    for (lost, expected) in
        [(0..0, ObjectState::Healthy), (0..1, ObjectState::Degraded), (0..3, ObjectState::Unavailable)]
    {
        let world = World::new(5).await;
        let store = world.open("a").await;
        put_bytes(&store, "file", bytes(1, 1000)).await;
        drop(store);
        let drop_some = |config: &mut Config| {
            config.backends.drain(lost.clone());
            Ok::<_, shard::store::config::Error>(())
        };
        shard::store::config::edit(&world.dir("a").join(CONFIG_NAME), drop_some).expect("the settings change");
        let store = world.open("a").await;
        assert_eq!(status(&store, StatusOptions::default()).await.expect("a status").state, expected, "{lost:?}");
    }
}
