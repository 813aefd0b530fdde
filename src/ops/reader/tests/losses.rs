//! Shards that are gone: every subset where that is feasible, samples where it is not, at every boundary size.

use super::{Specimen, noise, payload, shape};
use crate::ops::reader::ReadError;
use crate::stripe::StripeShape;
use std::collections::BTreeSet;

/// Payload lengths at which something could be off by one, for blocks of `block` bytes.
fn boundary_sizes(shape: StripeShape) -> BTreeSet<usize> {
    let (k, block) = (shape.geometry().data_shards(), shape.block_bytes() as usize);
    let capacity = shape.capacity() as usize;
    let around = |size: usize| [size.saturating_sub(1).max(1), size, size + 1];
    [1, k, block, capacity, 2 * capacity, 5 * capacity, 9 * capacity + block].into_iter().flat_map(around).collect()
}

/// Loses the shards whose bits are set: as many as k must be left, else the answer is that it is lost.
async fn lose(specimen: &Specimen, lost: u32) {
    let shards: Vec<_> = (0..).zip(specimen.all()).map(|(i, file)| file.filter(|_| lost >> i & 1 == 0)).collect();
    let left = shards.iter().flatten().count();
    let reader = specimen.reader(&shards).await;
    let geometry = specimen.manifest.geometry();
    match payload(&reader).await {
        Ok(bytes) => {
            assert!(left >= geometry.data_shards());
            assert!(bytes == specimen.payload, "{geometry}, {} bytes, lost {lost:b}", specimen.payload.len());
        }
        Err(ReadError::Lost { good, needed, .. }) => {
            assert_eq!((good, needed), (left, geometry.data_shards()), "{geometry}, lost {lost:b}");
            assert!(left < needed);
        }
        Err(error) => unreachable!("{error}"),
    }
}

#[tokio::test]
async fn every_subset_of_lost_shards_at_every_boundary_size_gives_the_payload_or_says_lost() {
    for shape in [shape(2, 3, 64), shape(3, 5, 64)] {
        for size in boundary_sizes(shape) {
            let specimen = Specimen::of_payload(shape, 1, noise(size as u64, size));
            for lost in 0..1 << shape.geometry().total_shards() {
                lose(&specimen, lost).await;
            }
        }
    }
}

#[tokio::test]
async fn samples_of_lost_shards_at_the_wide_geometries_give_the_payload_or_say_lost() {
    for shape in [shape(5, 9, 16), shape(7, 15, 16), shape(1, 2, 16), shape(30, 31, 16)] {
        for size in boundary_sizes(shape) {
            let specimen = Specimen::of_payload(shape, 1, noise(size as u64, size));
            let seed = noise(size as u64, 4 * 12);
            for lost in seed.chunks_exact(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]])) {
                lose(&specimen, lost).await;
                lose(&specimen, lost & lost.rotate_left(7)).await;
            }
        }
    }
}

#[tokio::test]
async fn any_range_is_cut_out_exactly_with_or_without_losses() {
    let specimen = Specimen::of_payload(shape(3, 5, 16), 1, noise(5, 200));
    let mut shards = specimen.all();
    for lose in [None, Some(1)] {
        if let Some(index) = lose {
            shards[index] = None;
        }
        let reader = specimen.reader(&shards).await;
        for start in 0..=200usize {
            for end in [start, start + 1, start + 47, start + 48, start + 49, 200] {
                let end = end.clamp(start, 200);
                let mut got = Vec::new();
                let mut parts = reader.payload(start as u64..end as u64);
                while let Some(part) = futures_util::TryStreamExt::try_next(&mut parts).await.expect("reads") {
                    got.extend_from_slice(&part);
                }
                assert_eq!(got, &specimen.payload[start..end], "{start}..{end}");
            }
        }
    }
}

#[tokio::test]
async fn a_range_reads_only_the_stripes_that_it_touches() {
    let specimen = Specimen::of_payload(shape(3, 5, 64), 1, noise(5, 64 * 3 * 500));
    let reader = specimen.reader(&specimen.all()).await;
    let mut parts = reader.payload(192 * 7..192 * 8);
    while futures_util::TryStreamExt::try_next(&mut parts).await.expect("reads").is_some() {}
    assert_eq!(reader.bytes_read(), 3 * (64 + 500 * 32));
}

#[tokio::test]
async fn a_range_outside_the_payload_is_an_error_with_the_numbers() {
    let specimen = Specimen::of_payload(shape(3, 5, 16), 1, noise(5, 200));
    let reader = specimen.reader(&specimen.all()).await;
    for range in [0..201, 201..201, u64::MAX - 1..u64::MAX] {
        let outcome = futures_util::TryStreamExt::try_next(&mut reader.payload(range)).await;
        assert!(matches!(outcome, Err(ReadError::Range { payload_bytes: 200, .. })));
    }
}
