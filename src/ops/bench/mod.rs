//! What this machine does: coding, hashing, sealing, and putting and recovering, all from memory to memory.
//!
//! *What it is.* [`bench`]: a short measurement of each part that costs time, and of the whole.
//!
//! *What it knows.* What a stripe goes through, and how a store is made that keeps its shards in memory.
//!
//! *What it does not know.* Disks and networks: what they take comes on top. The store that a person uses.
//!
//! *Invariants.* Nothing is written but a catalog in the folder that it makes and removes. What is measured is what `put`
//! and `recover` do, by the same code.

mod pipeline;
mod stages;

use super::Controls;
use crate::codec::{Engine, ErasureCodec};
use crate::error::{Error, ErrorKind, Result};
use crate::id::RedundancyLevel;
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long each figure is measured where nothing else is asked for: long enough to be steady, short enough that all of it
/// takes seconds.
pub const MEASURE_FOR: Duration = Duration::from_millis(80);

/// How it is measured.
#[derive(Debug)]
pub struct BenchOptions {
    /// How long each figure is measured; each is measured once at least.
    pub measure_for: Duration,
    /// A folder that is not there yet, for the catalog of a store that keeps its shards in memory. It is removed at the end.
    pub scratch: PathBuf,
    /// Where progress is told, and how it is cancelled.
    pub controls: Controls,
}

/// What one engine of the erasure code does, on one thread. Rates are bytes of original data a second.
#[derive(Debug, Clone, Serialize)]
pub struct EngineBench {
    /// What it is called.
    pub engine: String,
    /// Parity from data.
    pub encode_bytes_per_s: f64,
    /// As many data blocks as may be lost, from the others.
    pub reconstruct_bytes_per_s: f64,
    /// Parity computed again and compared, as every put does.
    pub check_bytes_per_s: f64,
}

/// What this machine does at one level. Rates are bytes of original data a second, on one thread but for the last two.
#[derive(Debug, Clone, Serialize)]
pub struct LevelBench {
    /// The level.
    pub level: String,
    /// k.
    pub data_shards: usize,
    /// n.
    pub total_shards: usize,
    /// The block size that was used.
    pub block_bytes: u32,
    /// Parity from data, by the engine in use.
    pub encode_bytes_per_s: f64,
    /// As many data blocks as may be lost, from the others, by the engine in use.
    pub reconstruct_bytes_per_s: f64,
    /// Parity computed again and compared, by the engine in use.
    pub check_bytes_per_s: f64,
    /// The leaves of all n blocks.
    pub hash_bytes_per_s: f64,
    /// A stripe sealed.
    pub seal_bytes_per_s: f64,
    /// A stripe opened.
    pub open_bytes_per_s: f64,
    /// A file put, from memory to shards in memory, sealed: all threads, with what the catalog takes.
    pub put_bytes_per_s: f64,
    /// The same file recovered: all threads.
    pub recover_bytes_per_s: f64,
    /// Every engine that this processor can run, usually the fastest first.
    pub engines: Vec<EngineBench>,
}

/// What this machine does.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// The engine in use.
    pub engine: String,
    /// How long each figure was measured, in milliseconds.
    pub measure_ms: u64,
    /// How many threads there are for putting and recovering.
    pub threads: usize,
    /// One entry a level.
    pub levels: Vec<LevelBench>,
}

/// Measures all four levels.
pub async fn bench(options: BenchOptions) -> Result<BenchReport> {
    let BenchOptions { measure_for, scratch, controls } = options;
    controls.begin("bench", None, Some(RedundancyLevel::NAMED.len() as u64));
    let scratch = pipeline::Scratch::make(scratch)?;
    let mut levels = Vec::new();
    for level in RedundancyLevel::NAMED {
        controls.check_cancelled()?;
        levels.push(measure(level, measure_for, &scratch, &controls).await?);
        controls.items(1);
    }
    controls.end();
    Ok(BenchReport {
        engine: Engine::by_default().name().to_owned(),
        measure_ms: u64::try_from(measure_for.as_millis()).unwrap_or(u64::MAX),
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        levels,
    })
}

async fn measure(
    level: RedundancyLevel,
    measure_for: Duration,
    scratch: &pipeline::Scratch,
    controls: &Controls,
) -> Result<LevelBench> {
    let mut engines = Vec::new();
    for engine in Engine::available() {
        controls.check_cancelled()?;
        engines.push(off_reactor(move || stages::engine(level, engine, measure_for)).await?);
    }
    let hash = off_reactor(move || stages::hash(level, measure_for)).await?;
    let (seal, open) = off_reactor(move || stages::seal_and_open(level, measure_for)).await?;
    let whole = pipeline::measure(level, measure_for, scratch, controls).await?;
    let geometry = level.geometry();
    let in_use = ErasureCodec::new(geometry).engine_name();
    let in_use = engines.iter().find(|engine| engine.engine == in_use).cloned();
    let in_use = in_use.ok_or_else(|| Error::new(ErrorKind::Invalid, "the engine in use was not measured"))?;
    Ok(LevelBench {
        level: level.to_string(),
        data_shards: geometry.data_shards(),
        total_shards: geometry.total_shards(),
        block_bytes: geometry.block_bytes(),
        encode_bytes_per_s: in_use.encode_bytes_per_s,
        reconstruct_bytes_per_s: in_use.reconstruct_bytes_per_s,
        check_bytes_per_s: in_use.check_bytes_per_s,
        hash_bytes_per_s: hash,
        seal_bytes_per_s: seal,
        open_bytes_per_s: open,
        put_bytes_per_s: whole.put_bytes_per_s,
        recover_bytes_per_s: whole.recover_bytes_per_s,
        engines,
    })
}

async fn off_reactor<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let stopped = |error| Error::new(ErrorKind::Memory, "the measurement stopped").with_source(error);
    tokio::task::spawn_blocking(work).await.map_err(stopped)?
}

/// Adds up rounds until there are enough.
struct Stopwatch {
    measure_for: Duration,
    elapsed: Duration,
    bytes: f64,
}

impl Stopwatch {
    fn new(measure_for: Duration) -> Self {
        Self { measure_for, elapsed: Duration::ZERO, bytes: 0.0 }
    }

    fn is_running(&self) -> bool {
        self.bytes == 0.0 || self.elapsed < self.measure_for
    }

    fn add(&mut self, begun: Instant, bytes: u64) {
        self.elapsed += begun.elapsed();
        self.bytes += bytes as f64;
    }

    /// A clock that stood still gives no infinity: no JSON has one.
    fn bytes_per_s(&self) -> f64 {
        self.bytes / self.elapsed.max(Duration::from_nanos(1)).as_secs_f64()
    }
}
