//! Shards that are there and wrong.

use super::{Specimen, noise, payload, places, read_with_nothing_else, shape, store};
use crate::backend::MemoryBackend;
use crate::catalog::ShardState;
use crate::id::{BackendId, Digest, ShardId};
use crate::ops::reader::{BlockState, ObjectReader, ReadError, ShardPlace, Wanted};
use futures_util::TryStreamExt;
use std::sync::Arc;

fn specimen() -> Specimen {
    Specimen::of_payload(shape(3, 5, 16), 1, noise(9, 16 * 3 * 12 - 5))
}

fn flip(file: &mut Option<Vec<u8>>, byte: usize) {
    file.as_mut().expect("a file")[byte] ^= 0x10;
}

#[tokio::test]
async fn every_shard_damaged_in_another_stripe_costs_nothing() {
    let specimen = specimen();
    let mut shards = specimen.all();
    for (stripe, shard) in (2..).zip(&mut shards) {
        flip(shard, specimen.block(stripe).start + 3);
    }
    let reader = specimen.reader(&shards).await;
    assert_eq!(payload(&reader).await.expect("reads"), specimen.payload);
    let bad: Vec<_> = reader.damage().iter().map(|d| (d.index, d.state, d.bad_blocks)).collect();
    assert_eq!(bad[..3], [0, 1, 2].map(|index| (index, ShardState::Corrupt, 1)));
}

#[tokio::test]
async fn reading_all_blocks_names_each_that_is_bad() {
    let specimen = specimen();
    let mut shards = specimen.all();
    for (stripe, shard) in (2..).zip(&mut shards) {
        flip(shard, specimen.block(stripe).end - 1);
    }
    let reader = specimen.reader(&shards).await;
    let stripes: Vec<_> = reader.stripes(0..12, Wanted::All).try_collect().await.expect("reads");
    assert_eq!(stripes.len(), 12);
    for stripe in stripes {
        for (place, state) in (0u64..).zip(&stripe.states) {
            let is_bad = stripe.stripe_index == place + 2;
            assert_eq!(*state, if is_bad { BlockState::Bad } else { BlockState::Good });
        }
    }
    assert_eq!(reader.damage().len(), 5);
}

#[tokio::test]
async fn too_much_damage_in_one_stripe_is_lost_and_hands_out_only_what_is_before() {
    let specimen = specimen();
    let mut shards = specimen.all();
    shards[1..4].iter_mut().for_each(|shard| flip(shard, specimen.block(7).start));
    let reader = specimen.reader(&shards).await;
    let mut parts = reader.payload(0..specimen.payload.len() as u64);
    let mut got = Vec::new();
    let error = loop {
        match parts.try_next().await {
            Ok(part) => got.extend_from_slice(&part.expect("an error before the end")),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ReadError::Lost { stripe_index: 7, good: 2, needed: 3, .. }), "{error}");
    assert!(specimen.payload.starts_with(&got));
}

#[tokio::test]
async fn leaves_damaged_in_all_shards_are_found_out_again() {
    let specimen = specimen();
    let mut shards = specimen.all();
    let leaves = specimen.layout().leaves();
    for (index, shard) in shards.iter_mut().enumerate() {
        flip(shard, leaves.start as usize + 32 * index + 1);
    }
    let reader = specimen.reader(&shards).await;
    assert_eq!(payload(&reader).await.expect("reads"), specimen.payload);
    assert!(reader.damage().iter().all(|damage| damage.state == ShardState::Corrupt && damage.bad_blocks == 0));
}

#[tokio::test]
async fn leaves_wiped_in_all_shards_are_found_out_again() {
    let specimen = specimen();
    let mut shards = specimen.all();
    let leaves = specimen.layout().leaves();
    for shard in shards.iter_mut().flatten() {
        shard[leaves.start as usize..leaves.end as usize].fill(0);
    }
    let reader = specimen.reader(&shards).await;
    assert_eq!(payload(&reader).await.expect("reads"), specimen.payload);
    for index in 0..5 {
        assert!(reader.trusted_leaves(index).await.expect("reads").is_some());
    }
}

#[tokio::test]
async fn a_damaged_leaf_and_a_damaged_block_in_every_shard_are_told_apart() {
    let specimen = specimen();
    let mut shards = specimen.all();
    let leaves = specimen.layout().leaves();
    for (index, shard) in shards.iter_mut().enumerate() {
        flip(shard, leaves.start as usize + 32 * (11 - index));
        flip(shard, specimen.block(index as u64).start);
    }
    let reader = specimen.reader(&shards).await;
    assert_eq!(payload(&reader).await.expect("reads"), specimen.payload);
    let stripes: Vec<_> = reader.stripes(0..12, Wanted::All).try_collect().await.expect("reads");
    assert!(stripes.iter().all(|stripe| stripe.good_count() == if stripe.stripe_index < 5 { 4 } else { 5 }));
}

#[tokio::test]
async fn a_shard_with_leaf_and_block_of_one_stripe_damaged_is_settled_by_the_others() {
    let specimen = specimen();
    let mut shards = specimen.all();
    let leaves = specimen.layout().leaves();
    flip(&mut shards[0], leaves.start as usize + 32 * 4);
    flip(&mut shards[0], specimen.block(4).start);
    // Two others are needed for stripe 4, and one of them is gone: so each of the rest is.
    shards[1] = None;
    let reader = specimen.reader(&shards).await;
    let stripes: Vec<_> = reader.stripes(0..12, Wanted::All).try_collect().await.expect("reads");
    for stripe in &stripes {
        assert_eq!(stripe.good_count(), if stripe.stripe_index == 4 { 3 } else { 4 });
    }
    assert_eq!(payload(&reader).await.expect("reads"), specimen.payload);
}

#[tokio::test]
async fn shards_swapped_with_each_other_give_no_byte() {
    let specimen = specimen();
    let mut shards = specimen.all();
    shards.swap(0, 4);
    let reader = specimen.reader(&shards).await;
    assert_eq!(payload(&reader).await.expect("reads"), specimen.payload);
    assert!(reader.damage().iter().any(|damage| damage.index == 0 && damage.state == ShardState::Corrupt));
    shards.swap(1, 3);
    let reader = specimen.reader(&shards).await;
    assert!(matches!(payload(&reader).await, Err(ReadError::Lost { good: 1, .. })));
}

#[tokio::test]
async fn shards_of_another_object_give_no_byte() {
    let specimen = specimen();
    let other = Specimen::of_payload(shape(3, 5, 16), 2, noise(10, 16 * 3 * 12 - 5));
    let mut shards = specimen.all();
    for (index, foreign) in other.all().into_iter().enumerate().take(2) {
        shards[index] = foreign;
        assert_eq!(payload(&specimen.reader(&shards).await).await.expect("reads"), specimen.payload);
    }
    shards[2] = other.all().swap_remove(2);
    assert!(matches!(payload(&specimen.reader(&shards).await).await, Err(ReadError::Lost { good: 2, .. })));
}

#[tokio::test]
async fn a_second_copy_stands_in_for_the_bad_blocks_of_the_first() {
    let specimen = specimen();
    let object = specimen.manifest.object();
    let mut shards = specimen.all();
    shards[3..].fill(None);
    flip(&mut shards[0], specimen.block(3).start);
    let mut places = places(object, &shards).await;
    let mut copy = specimen.shards[0].clone();
    copy[specimen.block(5).start] ^= 1;
    let backend = MemoryBackend::new();
    store(&backend, ShardId { object, index: 0 }, &copy).await;
    places.push(ShardPlace { index: 0, backend: BackendId([77; 16]), source: Some(Arc::new(backend)) });
    let reader = ObjectReader::new(specimen.manifest.clone(), places);
    assert_eq!(payload(&reader).await.expect("reads"), specimen.payload);
}

/// Every bit would be 16 times as many; what a bit of a byte breaks, another does.
const BITS: [u8; 2] = [0x01, 0x80];

#[tokio::test]
async fn a_flipped_bit_anywhere_in_one_shard_is_never_handed_out() {
    let content = noise(3, 100);
    let specimen = Specimen::of_file(shape(2, 3, 32), 1, content);
    for index in 0..3usize {
        // The first shard bit by bit, the others byte by byte.
        let bits: Vec<u8> = if index == 0 { (0..8).map(|bit| 1 << bit).collect() } else { BITS.to_vec() };
        for byte in 0..specimen.shards[index].len() {
            for bit in &bits {
                let mut shards = specimen.all();
                shards[index].as_mut().expect("a file")[byte] ^= bit;
                let read = read_with_nothing_else(specimen.manifest.object(), &shards).await;
                assert!(read.expect("two whole shards are enough") == specimen.payload, "{index} {byte} {bit:x}");
            }
        }
    }
}

#[tokio::test]
async fn a_flipped_bit_in_the_same_byte_of_all_shards_gives_the_right_bytes_or_an_error() {
    let specimen = Specimen::of_file(shape(2, 3, 32), 1, noise(3, 100));
    let mut refused = 0;
    for byte in 0..specimen.shards[0].len() {
        let mut shards = specimen.all();
        shards.iter_mut().for_each(|shard| flip(shard, byte));
        match read_with_nothing_else(specimen.manifest.object(), &shards).await {
            Ok(bytes) => assert!(bytes == specimen.payload, "byte {byte}"),
            Err(_) => refused += 1,
        }
    }
    // Blocks and manifest are refused; header, leaves and trailer are found out again.
    let manifest = specimen.manifest.bytes();
    let needed = manifest.public.len() + manifest.signature.len() + manifest.sealed.len();
    let blocks = specimen.manifest.layout().shard_blocks_bytes() as usize;
    assert_eq!(refused, needed + blocks);
}

#[tokio::test]
async fn a_truncation_anywhere_gives_the_right_bytes_or_an_error() {
    let specimen = Specimen::of_file(shape(2, 3, 32), 1, noise(3, 100));
    let object = specimen.manifest.object();
    let trailer = specimen.shards[0].len() - 128;
    for length in 0..specimen.shards[0].len() {
        let cut = |file: Option<Vec<u8>>| file.map(|file| file[..length].to_vec());
        let mut shards = specimen.all();
        shards[1] = cut(shards[1].take());
        let read = read_with_nothing_else(object, &shards).await;
        assert!(read.expect("two whole shards are enough") == specimen.payload, "{length}");
        let shards: Vec<_> = specimen.all().into_iter().map(cut).collect();
        match read_with_nothing_else(object, &shards).await {
            Ok(bytes) => assert!(bytes == specimen.payload, "{length}"),
            Err(_) => assert!(length < trailer, "only the trailer was cut, at {length}"),
        }
    }
}

#[tokio::test]
async fn what_a_truncated_shard_still_has_is_used() {
    let specimen = specimen();
    let mut shards = specimen.all();
    shards[3..].fill(None);
    // Shard 0 ends within its leaves: all its blocks are there.
    let cut = specimen.layout().leaves().start as usize + 40;
    shards[0].as_mut().expect("a file").truncate(cut);
    let reader = specimen.reader(&shards).await;
    assert_eq!(payload(&reader).await.expect("reads"), specimen.payload);
    let damage = reader.damage();
    assert_eq!((damage[0].index, damage[0].state), (0, ShardState::Corrupt));
}

#[test]
fn the_specimens_are_what_the_manifest_says() {
    let specimen = specimen();
    let lengths: Vec<u64> = specimen.shards.iter().map(|file| file.len() as u64).collect();
    assert_eq!(lengths, [specimen.layout().file_bytes(); 5]);
    assert_ne!(specimen.manifest.object_root(), Digest([0; 32]));
}
