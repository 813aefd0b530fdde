//! Shards are made again byte for byte, from whatever suffices, or not at all.

use super::sample::{SampleObject, overwrite, place, whole};
use super::*;
use crate::backend::MemoryBackend;

fn places(backends: &[Arc<dyn Backend>]) -> Vec<ShardPlace> {
    let at = |(index, backend): (usize, &Arc<dyn Backend>)| ShardPlace {
        index: index as u8,
        backend: place(index),
        source: Some(Arc::clone(backend)),
    };
    backends.iter().enumerate().map(at).collect()
}

fn target(index: u8, backend: &Arc<dyn Backend>, mode: WriteMode) -> Target {
    Target { index, place: place(usize::from(index) + 50), backend: Arc::clone(backend), mode }
}

fn empty() -> Arc<dyn Backend> {
    Arc::new(MemoryBackend::new())
}

fn reader(object: &SampleObject, places: Vec<ShardPlace>) -> ObjectReader {
    ObjectReader::new(object.manifest.clone(), places)
}

async fn rebuild(object: &SampleObject, places: Vec<ShardPlace>, targets: Vec<Target>) -> Result<Rebuilt> {
    rebuild_shards(&reader(object, places), targets, &Controls::default()).await
}

#[tokio::test]
async fn every_set_of_lost_shards_that_leaves_k_comes_back_byte_for_byte() {
    for (data, total) in [(1, 2), (2, 3), (3, 5)] {
        let object = SampleObject::new(data, total, 4);
        let backends = object.spread().await;
        for lost in 1_u32..1 << total {
            let is_lost = |index: usize| lost >> index & 1 == 1;
            let kept: Vec<ShardPlace> =
                places(&backends).into_iter().filter(|place| !is_lost(place.index.into())).collect();
            let new: Vec<(u8, Arc<dyn Backend>)> =
                (0..total).filter(|index| is_lost(*index)).map(|index| (index as u8, empty())).collect();
            let targets = new.iter().map(|(index, backend)| target(*index, backend, WriteMode::Create)).collect();
            let count = kept.len();
            let outcome = rebuild(&object, kept, targets).await;
            if count < data {
                assert_eq!(outcome.expect_err("too few").kind, ErrorKind::Lost);
                for (index, backend) in &new {
                    assert!(backend.head(object.shard(*index)).await.is_err(), "nothing was finished");
                }
                continue;
            }
            let rebuilt = outcome.expect("enough");
            assert!(rebuilt.outcomes.iter().all(std::result::Result::is_ok));
            for (index, backend) in &new {
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
    rebuild(&object, places(&backends), targets).await.expect("every stripe has four good blocks");
    for (index, backend) in backends.iter().enumerate() {
        assert_eq!(whole(backend.as_ref(), object.shard(index as u8)).await, object.files[index]);
    }
}

async fn move_copy(object: &SampleObject, backends: &[Arc<dyn Backend>], index: u8) -> (Vec<u8>, u64) {
    let all = reader(object, places(backends));
    let (new, copy) = (empty(), places(backends).remove(index.into()));
    let targets = vec![target(index, &new, WriteMode::Create)];
    let moved = copy_shards(&all, vec![copy], targets, &Controls::default()).await.expect("moved");
    assert_eq!(moved.bytes_written, object.files[usize::from(index)].len() as u64);
    (whole(new.as_ref(), object.shard(index)).await, all.bytes_read())
}

#[tokio::test]
async fn a_copy_is_moved_by_reading_it_alone_and_others_only_for_what_is_bad_in_it() {
    let object = SampleObject::new(3, 5, 5);
    let backends = object.spread().await;
    assert_eq!(move_copy(&object, &backends, 2).await, (object.files[2].clone(), 0));

    let layout = object.manifest.layout();
    let truncated = &object.files[2][..64 + 32 * 3 + 7];
    let mut flipped = object.files[2].clone();
    flipped[64 + 40] ^= 4;
    for damaged in [truncated, &flipped, b""] {
        overwrite(backends[2].as_ref(), object.shard(2), damaged).await;
        let (moved, others_read) = move_copy(&object, &backends, 2).await;
        assert_eq!(moved, object.files[2]);
        let one_shard = layout.shard_blocks_bytes() + layout.stripe_count() * 32;
        assert!(others_read > 0 && others_read <= 3 * one_shard, "{others_read}");
    }
    backends[2].delete(object.shard(2)).await.expect("deleted");
    assert_eq!(move_copy(&object, &backends, 2).await.0, object.files[2]);
}

#[tokio::test]
async fn a_shard_under_another_ones_name_gives_nothing() {
    let object = SampleObject::new(2, 3, 3);
    let backends = object.spread().await;
    overwrite(backends[0].as_ref(), object.shard(0), &object.files[2]).await;
    let new = empty();
    let kept = places(&backends[..1]).into_iter().chain(places(&backends).drain(2..)).collect();
    let outcome = rebuild(&object, kept, vec![target(1, &new, WriteMode::Create)]).await;
    assert_eq!(outcome.expect_err("only shard 2 is left").kind, ErrorKind::Lost);
    assert!(new.head(object.shard(1)).await.is_err());
}

#[tokio::test]
async fn a_target_that_fails_does_not_stop_the_others() {
    let object = SampleObject::new(3, 5, 3);
    let backends = object.spread().await;
    let full: Arc<dyn Backend> = Arc::new(MemoryBackend::with_quota(70));
    let new = empty();
    let taken = Arc::clone(&backends[2]);
    let kept = places(&backends).into_iter().take(3).collect();
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
    let outcome = rebuild_shards(&reader(&object, places(&backends[..4])), targets, &controls).await;
    assert_eq!(outcome.expect_err("cancelled").kind, ErrorKind::Cancelled);
    assert!(new.head(object.shard(4)).await.is_err());
}

#[tokio::test]
async fn a_shard_that_the_object_does_not_have_is_refused() {
    let object = SampleObject::new(2, 3, 1);
    let backends = object.spread().await;
    let outcome = rebuild(&object, places(&backends), vec![target(3, &empty(), WriteMode::Create)]).await;
    assert_eq!(outcome.expect_err("there are three").kind, ErrorKind::Invalid);
}

#[tokio::test]
async fn a_dispersed_shard_comes_back_with_its_key_share() {
    let object = SampleObject::dispersed(3, 5, None);
    let backends = object.spread().await;
    let new = empty();
    let targets = vec![target(1, &new, WriteMode::Create)];
    let kept = places(&backends).into_iter().filter(|place| place.index != 1).collect();
    rebuild(&object, kept, targets).await.expect("four are left");
    assert_eq!(whole(new.as_ref(), object.shard(1)).await, object.files[1]);
}

#[tokio::test]
async fn a_key_share_that_is_not_the_signed_one_is_never_written() {
    let object = SampleObject::dispersed(3, 5, Some(1));
    let backends = object.spread().await;
    let new = empty();
    let targets = || vec![target(1, &new, WriteMode::Create)];
    let is_refused = |rebuilt: &Rebuilt| matches!(rebuilt.outcomes[0], Err(MendError::Share { index: 1, .. }));
    assert!(is_refused(&rebuild(&object, places(&backends), targets()).await.expect("an outcome")));
    let all = reader(&object, places(&backends));
    let copies = vec![places(&backends).remove(1)];
    assert!(is_refused(&copy_shards(&all, copies, targets(), &Controls::default()).await.expect("an outcome")));
    // The others are made all the same.
    let other = empty();
    let both = vec![target(1, &new, WriteMode::Create), target(2, &other, WriteMode::Create)];
    assert!(is_refused(&rebuild(&object, places(&backends), both).await.expect("its share is right")));
    assert_eq!(whole(other.as_ref(), object.shard(2)).await, object.files[2]);
    assert!(new.head(object.shard(1)).await.is_err(), "nothing was finished");
}
