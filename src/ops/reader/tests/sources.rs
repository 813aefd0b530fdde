//! Backends that do not answer, fail now and then, or are slow to be taken from.

use super::{Specimen, noise, payload, places, shape};
use crate::backend::{Effect, ErrorKind, Fault, FaultyBackend, Operation, When};
use crate::catalog::ShardState;
use crate::id::{Geometry, RedundancyLevel};
use crate::ops::reader::{ObjectReader, ReadError, ShardPlace, Wanted};
use crate::stripe::StripeShape;
use futures_util::TryStreamExt;
use std::sync::Arc;
use std::time::Duration;

fn specimen() -> Specimen {
    Specimen::of_payload(shape(3, 5, 16), 1, noise(9, 16 * 3 * 12 - 5))
}

/// The specimen's shards, each behind a backend that can be made to fail.
async fn faulty(specimen: &Specimen) -> (Vec<ShardPlace>, Vec<Arc<FaultyBackend>>) {
    let mut places = places(specimen.manifest.object(), &specimen.all()).await;
    let wrap = |place: &ShardPlace| Arc::new(FaultyBackend::new(place.source.clone().expect("a backend"), 1));
    let backends: Vec<_> = places.iter().map(wrap).collect();
    for (place, backend) in places.iter_mut().zip(&backends) {
        place.source = Some(Arc::clone(backend) as _);
    }
    (places, backends)
}

#[tokio::test]
async fn places_that_do_not_answer_make_an_object_unavailable_not_lost() {
    let specimen = specimen();
    let mut silent = places(specimen.manifest.object(), &specimen.all()).await;
    silent[0..2].iter_mut().for_each(|place| place.source = None);
    let reader = ObjectReader::new(specimen.manifest.clone(), silent.clone());
    assert_eq!(payload(&reader).await.expect("three answer"), specimen.payload);
    assert!(reader.damage().iter().all(|damage| damage.state == ShardState::Unreachable));
    assert_eq!(reader.damage().len(), 2);

    silent[4].source = None;
    let reader = ObjectReader::new(specimen.manifest.clone(), silent);
    let error = payload(&reader).await.expect_err("two answer");
    assert!(matches!(error, ReadError::Unavailable { good: 2, needed: 3, unreachable: 3, .. }), "{error}");
}

#[tokio::test]
async fn unreachable_places_that_could_not_make_up_for_the_damage_leave_it_lost() {
    let specimen = specimen();
    let mut shards = specimen.all();
    shards[1..].fill(None);
    let mut places = places(specimen.manifest.object(), &shards).await;
    places[4].source = None;
    let error = payload(&ObjectReader::new(specimen.manifest.clone(), places)).await.expect_err("two at best");
    assert!(matches!(error, ReadError::Lost { good: 1, needed: 3, .. }), "{error}");
}

#[tokio::test]
async fn a_backend_that_goes_away_in_the_middle_is_replaced_and_asked_once() {
    let specimen = Specimen::of_payload(shape(3, 5, 16 * 1024), 1, noise(9, 16 * 1024 * 3 * 600));
    let (places, backends) = faulty(&specimen).await;
    backends[1].inject(Fault::new(Operation::Read, When::From(3), Effect::Refuse(ErrorKind::Unreachable)));
    let reader = ObjectReader::new(specimen.manifest.clone(), places);
    assert_eq!(payload(&reader).await.expect("reads"), specimen.payload);
    let damage = reader.damage();
    assert_eq!(damage.len(), 1);
    assert_eq!((damage[0].index, damage[0].state), (1, ShardState::Unreachable));
    // Chunks already under way may each have asked once more.
    assert!(backends[1].calls(Operation::Read) <= 3 + 3, "{}", backends[1].calls(Operation::Read));
}

#[tokio::test]
async fn places_that_never_answer_hold_nobody_up_while_others_could_give_as_much() {
    let specimen = Specimen::of_payload(shape(3, 5, 16 * 1024), 1, noise(9, 16 * 1024 * 3 * 600));
    let (places, backends) = faulty(&specimen).await;
    for silent in [0, 2] {
        backends[silent].inject(Fault::new(Operation::Read, When::Always, Effect::Hang));
    }
    let reader = ObjectReader::new(specimen.manifest.clone(), places);
    assert_eq!(payload(&reader).await.expect("reads"), specimen.payload);
    assert_eq!(reader.damage(), [], "to be late is no damage");
    // Those that were read ahead at the start; the others ask it last.
    assert!(backends[0].calls(Operation::Read) <= 3, "{}", backends[0].calls(Operation::Read));
}

#[tokio::test]
async fn a_late_place_is_waited_for_where_no_other_could_give_as_much() {
    let specimen = specimen();
    let (mut places, backends) = faulty(&specimen).await;
    backends[1].inject(Fault::new(Operation::Read, When::Always, Effect::Delay(Duration::from_millis(150))));
    places[3..].iter_mut().for_each(|place| place.source = None);
    let reader = ObjectReader::new(specimen.manifest.clone(), places);
    assert_eq!(payload(&reader).await.expect("reads"), specimen.payload);
    assert!(reader.damage().iter().all(|damage| damage.state == ShardState::Unreachable && damage.index >= 3));
}

#[tokio::test]
async fn a_read_that_fails_for_good_is_tried_block_by_block() {
    let specimen = specimen();
    let (places, backends) = faulty(&specimen).await;
    // The second read, the first of blocks, and the third, its first block alone.
    backends[0].inject(Fault::new(Operation::Read, When::Nth(2), Effect::Refuse(ErrorKind::Failed)));
    backends[0].inject(Fault::new(Operation::Read, When::Nth(3), Effect::Refuse(ErrorKind::Failed)));
    let reader = ObjectReader::new(specimen.manifest.clone(), places);
    assert_eq!(payload(&reader).await.expect("reads"), specimen.payload);
    let damage = reader.damage();
    assert_eq!((damage[0].index, damage[0].state, damage[0].bad_blocks), (0, ShardState::Corrupt, 1));
    assert_eq!(damage.len(), 1);
}

#[tokio::test]
async fn bits_that_flip_while_they_are_read_are_never_handed_out() {
    let specimen = specimen();
    let (places, backends) = faulty(&specimen).await;
    for backend in &backends[..2] {
        backend.inject(Fault::new(Operation::Read, When::From(1), Effect::FlipBit));
    }
    let reader = ObjectReader::new(specimen.manifest.clone(), places);
    assert_eq!(payload(&reader).await.expect("reads"), specimen.payload);
}

#[tokio::test]
async fn what_is_read_ahead_is_bounded_at_every_level() {
    for level in RedundancyLevel::NAMED {
        let geometry: Geometry = level.geometry();
        let shape = StripeShape::new(geometry, geometry.block_bytes(), 0).expect("a shape");
        let specimen = Specimen::of_payload(shape, 1, noise(1, 40 * 1024 * 1024));
        let reader = specimen.reader(&specimen.all()).await;
        let stripe_count = specimen.manifest.layout().stripe_count();
        for wanted in [Wanted::Enough, Wanted::All] {
            let before = reader.bytes_read();
            let mut taken = 0;
            let mut stripes = reader.stripes(0..stripe_count, wanted);
            while let Some(stripe) = stripes.try_next().await.expect("reads") {
                taken += stripe.blocks.iter().flatten().map(|block| block.bytes().len() as u64).sum::<u64>();
                let ahead = (reader.bytes_read() - before).saturating_sub(taken);
                assert!(ahead <= 24 * 1024 * 1024, "{level}: {ahead} bytes");
            }
        }
    }
}
