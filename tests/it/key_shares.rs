//! Key shares under the seal `dispersed`: with fewer than k good ones nothing opens, whatever the blocks are like.

use crate::recover_desk::wanting;
use crate::world::{TestWorld, geometry, random_bytes, read_file, stream_of};
use shard::ErrorKind;
use shard::catalog::{ObjectState, ShardState};
use shard::id::RedundancyLevel;
use shard::ops::put::{PutOptions, put};
use shard::ops::recover::{RecoverOutput, recover};
use shard::ops::repair::{RepairOptions, repair};
use shard::ops::verify::{ObjectVerdict, VerifyMode, VerifyOptions, verify};
use shard::store::Store;
use shard::stripe::Seal;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

/// Before the trailer of 128 bytes stand the 32 of the share.
const SHARE_FROM_END: usize = 128 + 17;

/// A world of five zones with one dispersed object of 3/5, and its shard files.
async fn world() -> (TestWorld, Vec<u8>, BTreeMap<PathBuf, Vec<u8>>) {
    let world = TestWorld::new(5).await;
    let store = world.open().await;
    let bytes = random_bytes(4, 700_000);
    let (level, seal) = (Some(RedundancyLevel::of(geometry(3, 5))), Some(Seal::Dispersed));
    let sources = vec![stream_of("a", &bytes)];
    put(&store, PutOptions { sources, level, seal, ..PutOptions::default() }).await.expect("stored");
    let files = world.files_on_backends();
    assert_eq!(files.len(), 5);
    let whole = files.into_iter().map(|path| (path.clone(), fs::read(path).expect("a file"))).collect();
    (world, bytes, whole)
}

/// Spoils the shares of these backends' shards, from 1.
fn spoil(world: &TestWorld, numbers: &[usize]) {
    for path in world.files_on_backends() {
        if numbers.iter().any(|number| path.starts_with(world.backend_dir(*number))) {
            let mut file = fs::read(&path).expect("a file");
            let at = file.len() - SHARE_FROM_END;
            file[at] ^= 0x20;
            fs::write(&path, file).expect("written");
        }
    }
}

async fn look(store: &Store, mode: VerifyMode) -> ObjectVerdict {
    let report = verify(store, VerifyOptions { mode, ..VerifyOptions::default() }).await.expect("verified");
    report.objects.into_iter().next().expect("an object")
}

fn count(verdict: &ObjectVerdict, state: ShardState) -> usize {
    verdict.shards.iter().filter(|shard| shard.state == state).count()
}

const MODES: [VerifyMode; 3] = [VerifyMode::Quick, VerifyMode::Sample { percent: 100.0 }, VerifyMode::Full];

#[tokio::test]
async fn each_bad_share_takes_from_the_margin_and_is_made_again_bit_for_bit() {
    let (world, bytes, whole) = world().await;
    for (spoiled, margin) in [(&[2][..], 1), (&[1, 4], 0)] {
        spoil(&world, spoiled);
        let store = world.open().await;
        for mode in MODES {
            let verdict = look(&store, mode).await;
            assert_eq!((verdict.state, verdict.margin), (ObjectState::Degraded, Some(margin)), "{mode:?}");
            assert_eq!((verdict.backend_margin, count(&verdict, ShardState::Corrupt)), (Some(margin), spoiled.len()));
            assert!(verdict.shards.iter().all(|shard| shard.bad_blocks == 0), "{mode:?}: every block is good");
        }
        let report = repair(&store, RepairOptions::default()).await.expect("repaired");
        assert_eq!(report.objects[0].after, ObjectState::Healthy);
        whole.iter().for_each(|(path, file)| assert!(fs::read(path).expect("a file") == *file));
        assert!(read_file(&store, "a").await == Some(bytes.clone()));
    }
}

#[tokio::test]
async fn an_object_with_every_block_and_too_few_shares_is_lost() {
    let (world, _, _) = world().await;
    spoil(&world, &[1, 3, 5]);
    let spoiled: Vec<Vec<u8>> = world.files_on_backends().iter().map(|path| fs::read(path).expect("a file")).collect();
    let store = world.open().await;
    for mode in MODES {
        let verdict = look(&store, mode).await;
        assert_eq!(
            (verdict.state, verdict.margin, verdict.backend_margin),
            (ObjectState::Lost, None, None),
            "{mode:?}"
        );
        assert_eq!(count(&verdict, ShardState::Corrupt), 3);
    }
    let report = repair(&store, RepairOptions::default()).await.expect("looked at");
    assert_eq!((report.objects[0].after, report.bytes_written), (ObjectState::Lost, 0));
    let left: Vec<Vec<u8>> = world.files_on_backends().iter().map(|path| fs::read(path).expect("a file")).collect();
    assert!(left == spoiled, "what cannot be made again is left alone");
    let refused = recover(&store, wanting(&["a"], RecoverOutput::Path(world.desk().join("out")))).await;
    assert_eq!(refused.expect_err("nothing opens").kind, ErrorKind::Lost);
}

#[tokio::test]
async fn shares_on_places_that_do_not_answer_may_bring_an_object_back() {
    let (world, bytes, _) = world().await;
    spoil(&world, &[1, 3]);
    world.unmount(2);
    let store = world.open().await;
    for mode in MODES {
        let verdict = look(&store, mode).await;
        assert_eq!((verdict.state, verdict.margin), (ObjectState::Unavailable, None), "{mode:?}");
        assert_eq!((count(&verdict, ShardState::Corrupt), count(&verdict, ShardState::Unreachable)), (2, 1));
    }
    // One more that is bad, and what may come back is not enough.
    spoil(&world, &[4]);
    assert_eq!(look(&store, VerifyMode::Full).await.state, ObjectState::Lost);
    spoil(&world, &[4]);
    drop(store);
    world.mount(2);
    let store = world.open().await;
    let verdict = look(&store, VerifyMode::Full).await;
    assert_eq!((verdict.state, verdict.margin), (ObjectState::Degraded, Some(0)));
    repair(&store, RepairOptions::default()).await.expect("repaired");
    assert_eq!(look(&store, VerifyMode::Full).await.state, ObjectState::Healthy);
    assert!(read_file(&store, "a").await == Some(bytes));
}
