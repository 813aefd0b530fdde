//! Shards are made again byte for byte, from whatever suffices, or not at all.

use super::sample::{SampleObject, overwrite, place, whole};
use super::*;
use crate::backend::MemoryBackend;

fn sources(object: &SampleObject, backends: &[Arc<dyn Backend>]) -> Vec<Source> {
    let source = |(index, backend): (usize, &Arc<dyn Backend>)| Source {
        index: index as u8,
        place: place(index),
        backend: Arc::clone(backend),
        leaves: object.leaves[index].clone().into(),
    };
    backends.iter().enumerate().map(source).collect()
}

fn target(index: u8, backend: &Arc<dyn Backend>, mode: WriteMode) -> Target {
    Target { index, place: place(usize::from(index) + 50), backend: Arc::clone(backend), mode }
}

fn empty() -> Arc<dyn Backend> {
    Arc::new(MemoryBackend::new())
}

async fn rebuild(object: &SampleObject, sources: Vec<Source>, targets: Vec<Target>) -> Result<Rebuilt> {
    rebuild_shards(&object.manifest, sources, targets, &Controls::default()).await
}

#[tokio::test]
async fn every_set_of_lost_shards_that_leaves_k_comes_back_byte_for_byte() {
    for (data, total) in [(1, 2), (2, 3), (3, 5)] {
        let object = SampleObject::new(data, total, 4);
        let backends = object.spread().await;
        for lost in 1_u32..1 << total {
            let is_lost = |index: usize| lost >> index & 1 == 1;
            let kept: Vec<Source> =
                sources(&object, &backends).into_iter().filter(|source| !is_lost(source.index.into())).collect();
            let places: Vec<(u8, Arc<dyn Backend>)> =
                (0..total).filter(|index| is_lost(*index)).map(|index| (index as u8, empty())).collect();
            let targets = places.iter().map(|(index, backend)| target(*index, backend, WriteMode::Create)).collect();
            let count = kept.len();
            let outcome = rebuild(&object, kept, targets).await;
            if count < data {
                assert_eq!(outcome.expect_err("too few").kind, ErrorKind::Lost);
                for (index, backend) in &places {
                    assert!(backend.head(object.shard(*index)).await.is_err(), "nothing was finished");
                }
                continue;
            }
            let rebuilt = outcome.expect("enough");
            assert!(rebuilt.outcomes.iter().all(std::result::Result::is_ok));
            for (index, backend) in &places {
                assert_eq!(whole(backend.as_ref(), object.shard(*index)).await, object.files[usize::from(*index)]);
            }
        }
    }
}

#[tokio::test]
async fn an_object_whose_every_shard_is_damaged_in_another_stripe_is_made_whole_in_place() {
    let object = SampleObject::new(3, 5, 5);
    let backends = object.spread().await;
    for (index, backend) in backends.iter().enumerate() {
        let mut file = object.files[index].clone();
        file[64 + 32 * index] ^= 1;
        overwrite(backend.as_ref(), object.shard(index as u8), &file).await;
    }
    let targets = (0..).zip(&backends).map(|(index, backend)| target(index, backend, WriteMode::Replace)).collect();
    rebuild(&object, sources(&object, &backends), targets).await.expect("every stripe has four good blocks");
    for (index, backend) in backends.iter().enumerate() {
        assert_eq!(whole(backend.as_ref(), object.shard(index as u8)).await, object.files[index]);
    }
}

#[tokio::test]
async fn a_copy_is_moved_by_reading_it_alone_and_a_truncated_one_as_far_as_it_goes() {
    let object = SampleObject::new(3, 5, 5);
    let backends = object.spread().await;
    let (new, copy) = (empty(), 2);
    let blocks_bytes = object.manifest.layout().shard_blocks_bytes();
    let moved = rebuild(&object, sources(&object, &backends), vec![target(copy, &new, WriteMode::Create)]).await;
    assert_eq!(moved.expect("moved").bytes_read, blocks_bytes);
    assert_eq!(whole(new.as_ref(), object.shard(copy)).await, object.files[2]);

    overwrite(backends[2].as_ref(), object.shard(copy), &object.files[2][..64 + 32 * 3 + 7]).await;
    let new = empty();
    let moved = rebuild(&object, sources(&object, &backends), vec![target(copy, &new, WriteMode::Create)]).await;
    assert!(moved.expect("moved").bytes_read < blocks_bytes * 3);
    assert_eq!(whole(new.as_ref(), object.shard(copy)).await, object.files[2]);
}

#[tokio::test]
async fn leaves_that_are_not_the_signed_ones_make_no_source() {
    let object = SampleObject::new(2, 3, 3);
    let backends = object.spread().await;
    let mut forged = sources(&object, &backends);
    let mut leaves = object.leaves[0].clone();
    leaves[0] = Digest([0; 32]);
    forged[0].leaves = leaves.into();
    let new = empty();
    forged.remove(1);
    let outcome = rebuild(&object, forged, vec![target(1, &new, WriteMode::Create)]).await;
    assert_eq!(outcome.expect_err("one source is left").kind, ErrorKind::Lost);
    assert!(new.head(object.shard(1)).await.is_err());
}

#[tokio::test]
async fn a_target_that_fails_does_not_stop_the_others() {
    let object = SampleObject::new(3, 5, 3);
    let backends = object.spread().await;
    let full: Arc<dyn Backend> = Arc::new(MemoryBackend::with_quota(70));
    let new = empty();
    let taken = Arc::clone(&backends[2]);
    let kept = sources(&object, &backends).into_iter().take(3).collect();
    let targets = vec![
        target(3, &full, WriteMode::Create),
        target(4, &new, WriteMode::Create),
        target(2, &taken, WriteMode::Create),
    ];
    let rebuilt = rebuild(&object, kept, targets).await.expect("one has its place");
    assert!(
        matches!(&rebuilt.outcomes[0], Err(MendError::Write { source, .. }) if source.kind == backend::ErrorKind::NoSpace)
    );
    assert_eq!(rebuilt.outcomes[1].as_ref().ok(), Some(&(object.files[4].len() as u64)));
    assert!(
        matches!(&rebuilt.outcomes[2], Err(MendError::Write { source, .. }) if source.kind == backend::ErrorKind::AlreadyExists)
    );
    assert_eq!(whole(new.as_ref(), object.shard(4)).await, object.files[4]);
    assert_eq!(rebuilt.bytes_written, object.files[4].len() as u64);
}

#[tokio::test]
async fn nothing_is_finished_when_it_is_cancelled() {
    let object = SampleObject::new(3, 5, 3);
    let backends = object.spread().await;
    let (new, controls) = (empty(), Controls::default());
    controls.cancel.cancel();
    let targets = vec![target(4, &new, WriteMode::Create)];
    let outcome = rebuild_shards(&object.manifest, sources(&object, &backends)[..4].to_vec(), targets, &controls).await;
    assert_eq!(outcome.expect_err("cancelled").kind, ErrorKind::Cancelled);
    assert!(new.head(object.shard(4)).await.is_err());
}

#[tokio::test]
async fn a_shard_that_the_object_does_not_have_is_refused() {
    let object = SampleObject::new(2, 3, 1);
    let backends = object.spread().await;
    let outcome = rebuild(&object, sources(&object, &backends), vec![target(3, &empty(), WriteMode::Create)]).await;
    assert_eq!(outcome.expect_err("there are three").kind, ErrorKind::Invalid);
}
