//! How fast each kernel encodes, reconstructs and checks at the four levels, in bytes of original data, and what reading
//! and writing those bytes alone costs. `benches/README.md` says how to run and read it.
//!
//! All engines take turns, a sample each, so that what else the machine does hits all of them; samples are shorter than
//! the time slices of a scheduler, and their median is what counts.

use reed_solomon_erasure::galois_8::ReedSolomon;
use shard::codec::{Engine, ErasureCodec};
use shard::id::{Geometry, RedundancyLevel};
use std::error::Error;
use std::hint::black_box;
use std::io::{self, Write};
use std::iter::repeat_n;
use std::time::{Duration, Instant};

/// How much data is gone through before a stripe is met again where caches must not help, in bytes.
const COLD_BYTES: usize = 64 * 1024 * 1024;
/// The first block begins at a page.
const PAGE_BYTES: usize = 4096;
const KIB: usize = 1024;
const SAMPLE_TIME: Duration = Duration::from_micros(500);
const SAMPLE_COUNT: usize = 81;
/// What stands in the place of an engine where bytes are only read and written.
const BOUND: &str = "memory";
/// The same work by `reed-solomon-erasure` itself, as it is without SIMD.
const PEER: &str = "rs-erasure";

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

#[derive(Clone, Copy)]
enum Operation {
    Check,
    Reconstruct,
    Encode,
}

impl Operation {
    /// Checks come first: the others, and the bound, leave stripes that are none.
    const ALL: [(&'static str, Self); 3] =
        [("check", Self::Check), ("reconstruct", Self::Reconstruct), ("encode", Self::Encode)];

    fn run(self, codec: &ErasureCodec, stripe: &mut [u8]) {
        match self {
            Self::Check => assert!(codec.check_parity_in_place(stripe).expect("n equal blocks"), "parity is right"),
            Self::Encode => codec.encode_in_place(stripe).expect("n equal blocks"),
            Self::Reconstruct => {
                let (kept, mut lost) = self.read_and_written(codec.geometry(), stripe);
                let blocks: Vec<Option<&[u8]>> = repeat_n(None, lost.len()).chain(kept.into_iter().map(Some)).collect();
                let wanted: Vec<u8> = codec.geometry().shard_indexes().take(lost.len()).collect();
                let absent = repeat_n(None, codec.geometry().total_shards() - blocks.len());
                let blocks: Vec<_> = blocks.into_iter().chain(absent).collect();
                codec.reconstruct_into(&blocks, &wanted, &mut lost).expect("k blocks are left");
            }
        }
    }

    /// As `run`, by the library whose code this is.
    fn run_peer(self, code: &ReedSolomon, stripe: &mut [u8]) {
        let data = code.data_shard_count();
        let block_bytes = stripe.len() / code.total_shard_count();
        let mut blocks: Vec<&mut [u8]> = stripe.chunks_mut(block_bytes).collect();
        match self {
            Self::Check => assert!(code.verify(&blocks).expect("n equal blocks"), "parity is right"),
            Self::Encode => {
                let (data, parity) = blocks.split_at_mut(data);
                code.encode_sep(data, parity).expect("n equal blocks");
            }
            Self::Reconstruct => {
                let lost = data.min(code.parity_shard_count());
                let mut blocks: Vec<_> =
                    blocks.into_iter().enumerate().map(|(index, block)| (block, index >= lost)).collect();
                code.reconstruct_data(&mut blocks).expect("k blocks are left");
            }
        }
    }

    /// What is read of a stripe, k blocks of it, and what is written. As many data blocks are lost as may be, the first
    /// ones: the dearest loss there is. They are written where they were.
    fn read_and_written(self, geometry: Geometry, stripe: &mut [u8]) -> (Vec<&[u8]>, Vec<&mut [u8]>) {
        let (data, total) = (geometry.data_shards(), geometry.total_shards());
        let block_bytes = stripe.len() / total;
        match self {
            Self::Check => (stripe.chunks(block_bytes).collect(), Vec::new()),
            Self::Encode => {
                let (data, parity) = stripe.split_at_mut(data * block_bytes);
                (data.chunks(block_bytes).collect(), parity.chunks_mut(block_bytes).collect())
            }
            Self::Reconstruct => {
                let lost_count = data.min(total - data);
                let (lost, kept) = stripe.split_at_mut(lost_count * block_bytes);
                (kept.chunks(block_bytes).take(data).collect(), lost.chunks_mut(block_bytes).collect())
            }
        }
    }

    /// Reads and writes the same bytes and computes nothing: copies what it can.
    fn bound(self, geometry: Geometry, stripe: &mut [u8]) {
        let (read, written) = self.read_and_written(geometry, stripe);
        let mut read = read.into_iter();
        for written in written {
            match read.next() {
                Some(read) => written.copy_from_slice(read),
                None => written.fill(1),
            }
        }
        for read in read {
            let (words, _) = read.as_chunks();
            black_box(words.iter().fold(0, |sum, word| sum ^ u64::from_ne_bytes(*word)));
        }
    }
}

/// Stripes of one geometry, one behind the other, the next of which is worked on in turn.
struct Stripes {
    stripe_bytes: usize,
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
        Self { stripe_bytes, memory, begin, count, next: 0 }
    }

    fn next(&mut self) -> &mut [u8] {
        self.next = (self.next + 1) % self.count;
        &mut self.memory[self.begin + self.next * self.stripe_bytes..][..self.stripe_bytes]
    }
}

/// What is done with a stripe.
type Work<'a> = Box<dyn Fn(&mut [u8]) + 'a>;

/// One that takes part in a measurement.
struct Runner<'a> {
    name: &'static str,
    work: Work<'a>,
    /// How many stripes make a sample.
    stripes: usize,
    /// Seconds a stripe, by sample.
    samples: Vec<f64>,
}

impl<'a> Runner<'a> {
    fn new(name: &'static str, work: impl Fn(&mut [u8]) + 'a) -> Self {
        Self { name, work: Box::new(work), stripes: 1, samples: Vec::new() }
    }

    /// Seconds a stripe, of so many.
    fn sample(&self, stripes: &mut Stripes) -> f64 {
        let begun = Instant::now();
        for _ in 0..self.stripes {
            (self.work)(black_box(stripes.next()));
        }
        begun.elapsed().as_secs_f64() / self.stripes as f64
    }

    /// Finds how many stripes a sample takes.
    fn warm_up(&mut self, stripes: &mut Stripes) {
        while self.sample(stripes) * (self.stripes as f64) < SAMPLE_TIME.as_secs_f64() {
            self.stripes *= 2;
        }
    }

    fn median(&mut self) -> f64 {
        self.samples.sort_by(f64::total_cmp);
        self.samples[self.samples.len() / 2]
    }
}

/// Each engine, the peer and the bound, with what they need: seconds a stripe.
fn measure(operation: Operation, level: RedundancyLevel, stripes: &mut Stripes) -> Vec<(&'static str, f64)> {
    let geometry = level.geometry();
    let code = ReedSolomon::new(geometry.data_shards(), geometry.parity_shards()).expect("a level's geometry");
    let mut runners: Vec<Runner<'_>> = Vec::new();
    for engine in Engine::available() {
        let codec = ErasureCodec::with_engine(level, engine).expect("available");
        let stripe = stripes.next();
        let before = stripe.to_vec();
        operation.run(&codec, stripe);
        assert!(*stripe == before, "{engine} does not give back what was there");
        runners.push(Runner::new(engine.name(), move |stripe| operation.run(&codec, stripe)));
    }
    let stripe = stripes.next();
    let before = stripe.to_vec();
    operation.run_peer(&code, stripe);
    assert!(*stripe == before, "{PEER} does not give back what was there");
    runners.push(Runner::new(PEER, |stripe| operation.run_peer(&code, stripe)));
    runners.push(Runner::new(BOUND, |stripe| operation.bound(geometry, stripe)));
    runners.iter_mut().for_each(|runner| runner.warm_up(stripes));
    for _ in 0..SAMPLE_COUNT {
        for runner in &mut runners {
            let seconds = runner.sample(stripes);
            runner.samples.push(seconds);
        }
    }
    runners.iter_mut().map(|runner| (runner.name, runner.median())).collect()
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

/// Measures what has all of the words in its name; a table, or a line of JSON a figure.
fn measure_all(words: &[&str], out: &mut dyn Write) -> io::Result<()> {
    let (flags, words): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| word.starts_with("--"));
    let json = flags.contains(&"--json");
    for walk in WALKS {
        for level in RedundancyLevel::NAMED {
            let name = |operation: &str| format!("{}/{operation}/{}", walk.name, level.geometry());
            let asked = |operation: &str| words.iter().all(|word| name(operation).contains(word));
            let data_bytes = level.geometry().data_shards() * walk.block_bytes;
            for (operation_name, operation) in Operation::ALL.into_iter().filter(|(name, _)| asked(name)) {
                let figures = measure(operation, level, &mut Stripes::new(level.geometry(), walk));
                let id = name(operation_name);
                if json {
                    for (engine, seconds) in figures {
                        writeln!(
                            out,
                            r#"{{"id":"{id}","engine":"{engine}","seconds":{seconds:.9},"bytes":{data_bytes}}}"#
                        )?;
                    }
                    continue;
                }
                let rate = |seconds: f64| data_bytes as f64 / seconds / 1e9;
                let figures = figures.into_iter().map(|(engine, seconds)| format!("{engine} {:.2}", rate(seconds)));
                writeln!(out, "{id:28} GB/s: {}", figures.collect::<Vec<_>>().join("  "))?;
            }
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["--encode-only", engine, level, times] = words[..] {
        return encode_only(engine, level, times);
    }
    Ok(measure_all(&words, &mut io::stdout().lock())?)
}
