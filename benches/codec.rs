//! How fast each kernel encodes, reconstructs and checks at the four levels, in bytes of original data, and what reading
//! and writing those bytes alone costs. `benches/README.md` says how to read it.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use shard::codec::{Engine, ErasureCodec};
use shard::id::{Geometry, RedundancyLevel};
use std::error::Error;
use std::hint::black_box;
use std::time::Duration;

/// How much data is gone through before a stripe is met again where caches must not help, in bytes.
const COLD_BYTES: usize = 64 * 1024 * 1024;
/// The blocks of a stripe begin at the same offset in a page, as they do in an object.
const PAGE_BYTES: usize = 4096;
const KIB: usize = 1024;

/// How the memory is gone through.
#[derive(Clone, Copy)]
struct Walk {
    name: &'static str,
    block_bytes: usize,
    data_bytes: usize,
}

const WALKS: [Walk; 4] = [
    Walk { name: "hot-64KiB", block_bytes: 64 * KIB, data_bytes: 0 },
    Walk { name: "cold-64KiB", block_bytes: 64 * KIB, data_bytes: COLD_BYTES },
    Walk { name: "cold-256KiB", block_bytes: 256 * KIB, data_bytes: COLD_BYTES },
    Walk { name: "cold-1MiB", block_bytes: 1024 * KIB, data_bytes: COLD_BYTES },
];

/// Stripes of one geometry, one behind the other, the next of which is worked on in turn.
struct Stripes {
    geometry: Geometry,
    block_bytes: usize,
    memory: Vec<u8>,
    begin: usize,
    count: usize,
    next: usize,
}

impl Stripes {
    /// Encoded stripes, their data neither zero nor regular.
    fn new(geometry: Geometry, walk: Walk) -> Self {
        let stripe_bytes = geometry.total_shards() * walk.block_bytes;
        let count = walk.data_bytes.div_ceil(geometry.data_shards() * walk.block_bytes).max(1);
        let mut memory = vec![0; count * stripe_bytes + PAGE_BYTES];
        blake3::Hasher::new().finalize_xof().fill(&mut memory);
        let begin = memory.as_ptr().align_offset(PAGE_BYTES);
        let codec = ErasureCodec::new(geometry);
        for stripe in memory[begin..].chunks_exact_mut(stripe_bytes) {
            codec.encode_in_place(stripe).expect("n equal blocks");
        }
        Self { geometry, block_bytes: walk.block_bytes, memory, begin, count, next: 0 }
    }

    fn data_bytes(&self) -> Throughput {
        Throughput::Bytes((self.geometry.data_shards() * self.block_bytes) as u64)
    }

    fn next(&mut self) -> &mut [u8] {
        self.next = (self.next + 1) % self.count;
        let stripe_bytes = self.geometry.total_shards() * self.block_bytes;
        &mut self.memory[self.begin + self.next * stripe_bytes..][..stripe_bytes]
    }
}

/// As many data blocks as may be are lost: the dearest loss there is. They are written where they were.
fn reconstruct(codec: &ErasureCodec, stripe: &mut [u8], block_bytes: usize) {
    let geometry = codec.geometry();
    let lost_count = geometry.parity_shards().min(geometry.data_shards());
    let wanted: Vec<u8> = geometry.shard_indexes().take(lost_count).collect();
    let (lost, kept) = stripe.split_at_mut(lost_count * block_bytes);
    let mut places: Vec<&mut [u8]> = lost.chunks_mut(block_bytes).collect();
    let absent = std::iter::repeat_n(None, lost_count);
    let blocks: Vec<Option<&[u8]>> = absent.chain(kept.chunks(block_bytes).map(Some)).collect();
    codec.reconstruct_into(&blocks, &wanted, &mut places).expect("k blocks are left");
}

/// Reads the data blocks and writes as many bytes as there are of parity: copies what it can.
fn read_and_write(geometry: Geometry, stripe: &mut [u8], block_bytes: usize) {
    let (data, parity) = stripe.split_at_mut(geometry.data_shards() * block_bytes);
    let mut data = data.chunks(block_bytes);
    for parity in parity.chunks_mut(block_bytes) {
        match data.next() {
            Some(data) => parity.copy_from_slice(data),
            None => parity.fill(1),
        }
    }
    for data in data {
        let (words, _) = data.as_chunks();
        black_box(words.iter().fold(0, |sum, word| sum ^ u64::from_ne_bytes(*word)));
    }
}

fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    stripes: &mut Stripes,
    mut work: impl FnMut(&mut [u8]),
) {
    let id = BenchmarkId::new(stripes.geometry.to_string(), name);
    group.bench_function(id, |bencher| bencher.iter(|| work(black_box(stripes.next()))));
}

fn measure_walk(criterion: &mut Criterion, walk: Walk) {
    for level in RedundancyLevel::NAMED {
        let mut stripes = Stripes::new(level.geometry(), walk);
        let block_bytes = walk.block_bytes;
        for operation in ["bound", "encode", "reconstruct", "check"] {
            let mut group = criterion.benchmark_group(format!("{}/{operation}", walk.name));
            group.throughput(stripes.data_bytes());
            if operation == "bound" {
                measure(&mut group, "memory", &mut stripes, |stripe| {
                    read_and_write(level.geometry(), stripe, block_bytes)
                });
                // The stripes have lost their parity to it.
                stripes = Stripes::new(level.geometry(), walk);
                continue;
            }
            for engine in Engine::available() {
                let codec = ErasureCodec::with_engine(level, engine).expect("available");
                measure(&mut group, engine.name(), &mut stripes, |stripe| match operation {
                    "encode" => codec.encode_in_place(stripe).expect("n equal blocks"),
                    "reconstruct" => reconstruct(&codec, stripe, block_bytes),
                    _ => assert!(codec.check_parity_in_place(stripe).expect("n equal blocks"), "parity is right"),
                });
            }
            group.finish();
        }
    }
}

/// Encodes one hot stripe so many times and ends: for a program that counts instructions.
fn encode_only(engine: &str, level: &str, times: &str) -> Result<(), Box<dyn Error>> {
    let level: RedundancyLevel = level.parse()?;
    let codec = ErasureCodec::with_engine(level, engine.parse()?)?;
    let mut stripes = Stripes::new(level.geometry(), WALKS[0]);
    for _ in 0..times.parse()? {
        codec.encode_in_place(black_box(stripes.next()))?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["--encode-only", engine, level, times] = words[..] {
        return encode_only(engine, level, times);
    }
    let times = (Duration::from_millis(100), Duration::from_millis(300));
    let criterion = Criterion::default().warm_up_time(times.0).measurement_time(times.1).sample_size(20);
    let mut criterion = criterion.configure_from_args();
    WALKS.into_iter().for_each(|walk| measure_walk(&mut criterion, walk));
    criterion.final_summary();
    Ok(())
}
