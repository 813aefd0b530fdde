//! How fast the four levels encode, reconstruct and check, in bytes of original data.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shard::codec::ErasureCodec;
use shard::id::{Geometry, RedundancyLevel};
use std::hint::black_box;

/// One stripe of the size that objects are made of, its data neither zero nor regular.
fn stripe(geometry: Geometry) -> Vec<u8> {
    let mut stripe = vec![0; geometry.total_shards() * geometry.block_bytes() as usize];
    blake3::Hasher::new().finalize_xof().fill(&mut stripe);
    stripe
}

fn data_bytes(geometry: Geometry) -> Throughput {
    Throughput::Bytes(geometry.data_shards() as u64 * u64::from(geometry.block_bytes()))
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for level in RedundancyLevel::NAMED {
        let codec = ErasureCodec::new(level);
        let mut stripe = stripe(level.geometry());
        group.throughput(data_bytes(level.geometry()));
        group.bench_function(BenchmarkId::from_parameter(level), |bencher| {
            bencher.iter(|| codec.encode_in_place(black_box(&mut stripe)));
        });
    }
    group.finish();
}

/// As many data blocks lost as may be: the dearest loss there is.
fn reconstruct(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reconstruct");
    for level in RedundancyLevel::NAMED {
        let geometry = level.geometry();
        let codec = ErasureCodec::new(level);
        let mut stripe = stripe(geometry);
        codec.encode_in_place(&mut stripe).expect("n equal blocks");
        let lost_count = geometry.parity_shards().min(geometry.data_shards());
        let blocks = stripe.chunks(geometry.block_bytes() as usize).enumerate();
        let blocks: Vec<_> = blocks.map(|(index, block)| (index >= lost_count).then_some(block)).collect();
        let wanted: Vec<u8> = geometry.shard_indexes().take(lost_count).collect();
        group.throughput(data_bytes(geometry));
        group.bench_function(BenchmarkId::from_parameter(level), |bencher| {
            bencher.iter(|| codec.reconstruct(black_box(&blocks), &wanted));
        });
    }
    group.finish();
}

fn check(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("check");
    for level in RedundancyLevel::NAMED {
        let codec = ErasureCodec::new(level);
        let mut stripe = stripe(level.geometry());
        codec.encode_in_place(&mut stripe).expect("n equal blocks");
        group.throughput(data_bytes(level.geometry()));
        group.bench_function(BenchmarkId::from_parameter(level), |bencher| {
            bencher.iter(|| codec.check_parity_in_place(black_box(&stripe)));
        });
    }
    group.finish();
}

criterion_group!(benches, encode, reconstruct, check);
criterion_main!(benches);
