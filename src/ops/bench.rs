//! What this machine does: coding and hashing, from memory to memory, one thread.

use super::Controls;
use crate::codec::ErasureCodec;
use crate::error::{Error, ErrorKind, Result};
use crate::id::{ObjectId, RedundancyLevel};
use crate::merkle::{self, BlockPosition};
use serde::Serialize;
use std::time::{Duration, Instant};

/// How long each figure is measured: long enough to be steady, short enough that all of it takes seconds.
const MEASURE_FOR: Duration = Duration::from_millis(300);

/// What this machine does at one level. Rates are bytes of original data a second, one thread.
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
    /// Parity from data.
    pub encode_bytes_per_s: f64,
    /// As many data blocks as may be lost, from the others.
    pub reconstruct_bytes_per_s: f64,
    /// Parity computed again and compared, as every put does.
    pub check_bytes_per_s: f64,
    /// The leaves of all n blocks.
    pub hash_bytes_per_s: f64,
}

/// What this machine does.
#[derive(Debug, Clone, Serialize)]
pub struct BenchReport {
    /// The engine of the erasure code.
    pub engine: String,
    /// One entry a level.
    pub levels: Vec<LevelBench>,
}

/// Measures all four levels; a few seconds.
pub async fn bench(controls: Controls) -> Result<BenchReport> {
    controls.begin("bench", None, Some(RedundancyLevel::NAMED.len() as u64));
    let mut levels = Vec::new();
    for level in RedundancyLevel::NAMED {
        controls.check_cancelled()?;
        let measured = tokio::task::spawn_blocking(move || measure(level)).await;
        let failed = |error| Error::new(ErrorKind::Memory, "the measurement stopped").with_source(error);
        levels.push(measured.map_err(failed)??);
        controls.items(1);
    }
    controls.end();
    let engine = ErasureCodec::new(RedundancyLevel::Personal).engine_name().to_owned();
    Ok(BenchReport { engine, levels })
}

fn measure(level: RedundancyLevel) -> Result<LevelBench> {
    let geometry = level.geometry();
    let codec = ErasureCodec::new(geometry);
    let block_bytes = geometry.block_bytes() as usize;
    let mut stripe: Vec<u8> = (0..block_bytes * geometry.total_shards()).map(|i| (i % 251) as u8).collect();
    let data_bytes = (block_bytes * geometry.data_shards()) as f64;
    let failed = |error| Error::new(ErrorKind::Memory, "the codec refused its own stripe").with_source(error);
    let encode = rate(data_bytes, || codec.encode_in_place(&mut stripe)).map_err(failed)?;
    let check = rate(data_bytes, || codec.check_parity_in_place(&stripe).map(drop)).map_err(failed)?;
    let lost = geometry.parity_shards().min(geometry.data_shards());
    let wanted: Vec<u8> = (0..lost as u8).collect();
    let blocks: Vec<Option<&[u8]>> =
        stripe.chunks(block_bytes).enumerate().map(|(index, block)| (index >= lost).then_some(block)).collect();
    let reconstruct = rate(data_bytes, || codec.reconstruct(&blocks, &wanted).map(drop)).map_err(failed)?;
    let hash = rate(data_bytes, || {
        for (index, block) in stripe.chunks(block_bytes).enumerate() {
            let position = BlockPosition { object: ObjectId([0; 16]), shard_index: index as u8, stripe_index: 0 };
            std::hint::black_box(merkle::leaf(position, block));
        }
        Ok::<_, crate::codec::Error>(())
    });
    Ok(LevelBench {
        level: level.to_string(),
        data_shards: geometry.data_shards(),
        total_shards: geometry.total_shards(),
        block_bytes: geometry.block_bytes(),
        encode_bytes_per_s: encode,
        reconstruct_bytes_per_s: reconstruct,
        check_bytes_per_s: check,
        hash_bytes_per_s: hash.map_err(failed)?,
    })
}

/// Bytes a second: `work` on `bytes` is done again and again for [`MEASURE_FOR`], after once to warm up.
fn rate<E>(bytes: f64, mut work: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    work()?;
    let begun = Instant::now();
    let mut rounds = 0.0;
    while begun.elapsed() < MEASURE_FOR {
        work()?;
        rounds += 1.0;
    }
    Ok(bytes * rounds / begun.elapsed().as_secs_f64())
}
