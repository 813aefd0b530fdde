//! What a stripe goes through beside coding, stage by stage, and a whole put and recovery on places in memory.
//!
//! All figures are of original data, k blocks of each stripe. `benches/README.md` says how to run and compare.

use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use shard::backend::{Backend, BackendSpec, Mark, MemoryBackend};
use shard::crypto::{DataKey, StripeCipher, TAG_BYTES};
use shard::format::{FileName, seal_context};
use shard::id::{BackendId, Digest, Geometry, ObjectId, RedundancyLevel, StoreId};
use shard::merkle::{BlockPosition, VerifiedBlock, leaf, shard_root};
use shard::ops::put::{PutOptions, PutSource, put};
use shard::ops::recover::{RecoverOptions, RecoverOutput, RecoverWhat, recover};
use shard::store::{CONFIG_NAME, InitOptions, OpenOptions, Store, config};
use shard::stripe::{
    BufferPool, Check, EncodedStripe, FilledStripe, Layout, Seal, StripeDecoder, StripeEncoder, StripeShape,
};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Cursor;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

const OBJECT: ObjectId = ObjectId([3; 16]);
const STORE: StoreId = StoreId([4; 32]);
/// The file that is put and recovered.
const FILE_BYTES: usize = 64 * 1024 * 1024;

fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise
}

fn shape(geometry: Geometry) -> StripeShape {
    StripeShape::new(geometry, geometry.block_bytes(), TAG_BYTES as u32).expect("a level's shape")
}

fn cipher(geometry: Geometry) -> StripeCipher {
    let context = seal_context(STORE, OBJECT, &shape(geometry), Seal::Key);
    StripeCipher::new(&DataKey::from_bytes([5; 32]), &context)
}

/// Runs `measure` for each level, the throughput being that of one stripe's payload.
fn for_levels(
    criterion: &mut Criterion,
    name: &str,
    measure: impl Fn(&mut BenchmarkGroup<'_, WallTime>, BenchmarkId, Geometry),
) {
    let mut group = criterion.benchmark_group(name);
    for level in RedundancyLevel::NAMED {
        let geometry = level.geometry();
        group.throughput(Throughput::Bytes(shape(geometry).capacity()));
        measure(&mut group, BenchmarkId::from_parameter(geometry), geometry);
    }
    group.finish();
}

fn merkle(criterion: &mut Criterion) {
    for_levels(criterion, "leaves of a stripe", |group, id, geometry| {
        let block_bytes = geometry.block_bytes() as usize;
        let stripe = noise(block_bytes * geometry.total_shards());
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                for (shard_index, block) in geometry.shard_indexes().zip(stripe.chunks(block_bytes)) {
                    black_box(leaf(BlockPosition { object: OBJECT, shard_index, stripe_index: 0 }, block));
                }
            });
        });
    });
    let mut group = criterion.benchmark_group("tree of a shard");
    for leaf_count in [1u64, 1_366, 65_536] {
        let leaves: Vec<Digest> =
            (0..leaf_count).map(|number| Digest(*blake3::hash(&number.to_le_bytes()).as_bytes())).collect();
        group.throughput(Throughput::Elements(leaf_count));
        group.bench_function(BenchmarkId::from_parameter(leaf_count), |bencher| {
            bencher.iter(|| shard_root(OBJECT, 0, black_box(&leaves)));
        });
    }
    group.finish();
}

fn seal(criterion: &mut Criterion) {
    for_levels(criterion, "seal a stripe", |group, id, geometry| {
        let (cipher, mut stripe) = (cipher(geometry), noise(shape(geometry).capacity() as usize + TAG_BYTES));
        group.bench_function(id, |bencher| bencher.iter(|| cipher.seal_in_place(0, true, black_box(&mut stripe))));
    });
    for_levels(criterion, "open a stripe", |group, id, geometry| {
        let (cipher, mut stripe) = (cipher(geometry), noise(shape(geometry).capacity() as usize + TAG_BYTES));
        cipher.seal_in_place(0, true, &mut stripe);
        let mut opened = vec![0; stripe.len()];
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                opened.copy_from_slice(&stripe);
                cipher.open_in_place(0, true, &mut opened).expect("it opens");
            });
        });
    });
}

/// Seal, parity, leaves, check: a stripe as `put` makes it. Filling the buffer is part of it.
fn encode(encoder: &StripeEncoder, pool: &BufferPool, payload: &[u8], check: Check) -> EncodedStripe {
    let mut buffer = pool.take();
    buffer.as_mut_slice()[..payload.len()].copy_from_slice(payload);
    let payload_bytes = payload.len() as u64;
    let mut stripe = FilledStripe { stripe_index: 0, buffer, payload_bytes, is_last: true, digest: None };
    if check == Check::Full {
        stripe.note_digest();
    }
    encoder.encode(stripe).expect("it encodes")
}

fn stripes(criterion: &mut Criterion) {
    for (name, check) in [("encode whole", Check::Parity), ("encode whole, --check full", Check::Full)] {
        for_levels(criterion, name, |group, id, geometry| {
            let shape = shape(geometry);
            let encoder = StripeEncoder::new(shape, OBJECT, check).sealing_with(cipher(geometry));
            let (pool, payload) =
                (BufferPool::new(StripeEncoder::buffer_bytes(shape)), noise(shape.capacity() as usize));
            group.bench_function(id, |bencher| bencher.iter(|| encode(&encoder, &pool, &payload, check)));
        });
    }
    for (name, is_lossy) in [("decode whole", false), ("decode whole, data blocks lost", true)] {
        for_levels(criterion, name, |group, id, geometry| {
            let shape = shape(geometry);
            let encoder = StripeEncoder::new(shape, OBJECT, Check::Parity).sealing_with(cipher(geometry));
            let (pool, payload) =
                (BufferPool::new(StripeEncoder::buffer_bytes(shape)), noise(shape.capacity() as usize));
            let encoded = encode(&encoder, &pool, &payload, Check::Parity);
            let layout = Layout::new(shape, shape.capacity()).expect("one stripe");
            let (decoder, cipher) = (StripeDecoder::new(layout), cipher(geometry));
            let lost = if is_lossy { geometry.parity_shards().min(geometry.data_shards()) } else { 0 };
            // As recover does: the first k that are left, each verified.
            let wanted = lost..lost + geometry.data_shards();
            group.bench_function(id, |bencher| {
                bencher.iter(|| {
                    let verified = geometry.shard_indexes().map(|shard_index| {
                        let position = BlockPosition { object: OBJECT, shard_index, stripe_index: 0 };
                        let expected = &encoded.leaves()[usize::from(shard_index)];
                        wanted.contains(&usize::from(shard_index)).then(|| {
                            VerifiedBlock::check(position, encoded.block(shard_index), expected).expect("right")
                        })
                    });
                    decoder.open(0, &verified.collect::<Vec<_>>(), Some(&cipher)).expect("it opens")
                });
            });
        });
    }
}

/// A store whose places are in memory; their settings name folders that are never made.
async fn store(dir: &std::path::Path, geometry: Geometry) -> Store {
    Store::init(dir, InitOptions::bare()).await.expect("a store");
    let id = Store::open(dir, OpenOptions::default()).await.expect("it opens").id();
    let (mut specs, mut memories) = (Vec::new(), BTreeMap::new());
    for index in geometry.shard_indexes() {
        let (backend, name, memory) = (BackendId([index + 1; 16]), format!("memory-{index}"), MemoryBackend::new());
        memory.write_mark(&Mark { store: id, backend }).await.expect("a mark");
        let url = dir.join(&name).display().to_string();
        specs.push(BackendSpec { zone: Some(name.clone()), ..BackendSpec::new(name.clone(), backend, url) });
        memories.insert(name, memory);
    }
    let add = |config: &mut config::Config| {
        config.backends.extend(specs);
        Ok::<_, config::Error>(())
    };
    config::edit(&dir.join(CONFIG_NAME), add).expect("settings");
    let wrapper =
        move |spec: &BackendSpec, _: Arc<dyn Backend>| -> Arc<dyn Backend> { Arc::new(memories[&spec.name].clone()) };
    let options = OpenOptions { wrapper: Some(Arc::new(wrapper)), ..OpenOptions::default() };
    Store::open(dir, options).await.expect("it opens")
}

async fn put_once(store: &Store, level: RedundancyLevel, content: &bytes::Bytes, check: Check) {
    let reader = Box::new(Cursor::new(content.clone()));
    let sources = vec![PutSource::Reader { reader, name: FileName::new("file").expect("a name") }];
    let options = PutOptions { sources, level: Some(level), check: Some(check), ..PutOptions::default() };
    put(store, options).await.expect("put");
}

async fn recover_once(store: &Store) {
    let what = RecoverWhat::Names(vec![FileName::new("file").expect("a name")]);
    let output = RecoverOutput::Writer(Box::new(tokio::io::sink()));
    recover(store, RecoverOptions::new(what, output)).await.expect("recovered");
}

fn whole(criterion: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let content = bytes::Bytes::from(noise(FILE_BYTES));
    let mut group = criterion.benchmark_group("whole");
    group.throughput(Throughput::Bytes(FILE_BYTES as u64)).sample_size(10).measurement_time(Duration::from_secs(3));
    for level in RedundancyLevel::NAMED {
        let geometry = level.geometry();
        for (name, check) in [("put", Check::Parity), ("put --check full", Check::Full)] {
            // A store for each round, so that memory holds the shards of one.
            let set_up = || {
                let dir = tempfile::tempdir().expect("a folder");
                let store = runtime.block_on(store(&dir.path().join("store"), geometry));
                (dir, store)
            };
            group.bench_function(BenchmarkId::new(name, geometry), |bencher| {
                bencher.iter_batched(
                    set_up,
                    |(dir, store)| {
                        runtime.block_on(put_once(&store, level, &content, check));
                        (dir, store)
                    },
                    criterion::BatchSize::PerIteration,
                );
            });
        }
        let dir = tempfile::tempdir().expect("a folder");
        let store = runtime.block_on(store(&dir.path().join("store"), geometry));
        runtime.block_on(put_once(&store, level, &content, Check::Parity));
        group.bench_function(BenchmarkId::new("recover", geometry), |bencher| {
            bencher.iter(|| runtime.block_on(recover_once(&store)));
        });
    }
    group.finish();
}

criterion_group!(benches, merkle, seal, stripes, whole);
criterion_main!(benches);
