//! What one stripe costs, stage by stage, on one thread.

use super::{EngineBench, Stopwatch};
use crate::codec::{Engine, ErasureCodec};
use crate::crypto::{DataKey, StripeCipher, TAG_BYTES};
use crate::error::{Error, ErrorKind, Result};
use crate::format::seal_context;
use crate::id::{ObjectId, RedundancyLevel, StoreId};
use crate::merkle::{self, BlockPosition};
use crate::ops::writer::new_object_shape;
use crate::stripe::Seal;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Whose stripes they would be, were they any object's.
const OBJECT: ObjectId = ObjectId([0; 16]);

/// What one engine does at a level.
pub(super) fn engine(level: RedundancyLevel, engine: Engine, measure_for: Duration) -> Result<EngineBench> {
    let geometry = level.geometry();
    let failed = |error| Error::new(ErrorKind::Memory, "the codec refused its own stripe").with_source(error);
    let unavailable = |error| Error::new(ErrorKind::Invalid, "an engine cannot be measured").with_source(error);
    let codec = ErasureCodec::with_engine(geometry, engine).map_err(unavailable)?;
    let block_bytes = geometry.block_bytes() as usize;
    let mut stripe = noise(block_bytes * geometry.total_shards());
    let data_bytes = block_bytes * geometry.data_shards();
    let encode = rate(data_bytes, measure_for, || codec.encode_in_place(&mut stripe)).map_err(failed)?;
    let mut is_right = true;
    let check = rate(data_bytes, measure_for, || codec.check_parity_in_place(&stripe).map(|right| is_right &= right));
    let lost_count = geometry.parity_shards().min(geometry.data_shards());
    let wanted: Vec<u8> = geometry.shard_indexes().take(lost_count).collect();
    let blocks: Vec<Option<&[u8]>> =
        stripe.chunks(block_bytes).enumerate().map(|(index, block)| (index >= lost_count).then_some(block)).collect();
    let mut rebuilt = vec![0; block_bytes * lost_count];
    let mut places: Vec<&mut [u8]> = rebuilt.chunks_mut(block_bytes).collect();
    let reconstruct = rate(data_bytes, measure_for, || codec.reconstruct_into(&blocks, &wanted, &mut places));
    let (check, reconstruct) = (check.map_err(failed)?, reconstruct.map_err(failed)?);
    // A figure for wrong bytes would be worth nothing.
    if !is_right || rebuilt != stripe[..rebuilt.len()] {
        let doing = format!("the engine {engine} does not give back what was there");
        return Err(Error::new(ErrorKind::Memory, doing).with_hint("set SHARD_CODEC=portable, and test the memory"));
    }
    Ok(EngineBench {
        engine: engine.name().to_owned(),
        encode_bytes_per_s: encode,
        reconstruct_bytes_per_s: reconstruct,
        check_bytes_per_s: check,
    })
}

/// The leaves of all n blocks.
pub(super) fn hash(level: RedundancyLevel, measure_for: Duration) -> Result<f64> {
    let geometry = level.geometry();
    let block_bytes = geometry.block_bytes() as usize;
    let stripe = noise(block_bytes * geometry.total_shards());
    rate(block_bytes * geometry.data_shards(), measure_for, || {
        for (shard_index, block) in geometry.shard_indexes().zip(stripe.chunks(block_bytes)) {
            black_box(merkle::leaf(BlockPosition { object: OBJECT, shard_index, stripe_index: 0 }, block));
        }
        Ok(())
    })
}

/// A stripe sealed, and opened.
pub(super) fn seal_and_open(level: RedundancyLevel, measure_for: Duration) -> Result<(f64, f64)> {
    let shape = new_object_shape(level.geometry(), Seal::Key)?;
    let context = seal_context(StoreId([0; 32]), OBJECT, &shape, Seal::Key);
    let cipher = StripeCipher::new(&DataKey::from_bytes([7; 32]), &context);
    let mut stripe = noise(shape.capacity() as usize + TAG_BYTES);
    // Nothing that is sealed here is ever kept: the one nonce gives nothing away.
    let seal = rate(stripe.len(), measure_for, || {
        cipher.seal_in_place(0, true, black_box(&mut stripe));
        Ok::<_, Error>(())
    })?;
    let mut opened = vec![0; stripe.len()];
    let failed = |error| Error::new(ErrorKind::Memory, "a stripe did not open again").with_source(error);
    // Into memory of its own, as a reader does: what is sealed may be wanted again.
    let open = rate(stripe.len(), measure_for, || {
        opened.copy_from_slice(&stripe);
        cipher.open_in_place(0, true, &mut opened)
    });
    Ok((seal, open.map_err(failed)?))
}

/// Bytes that no processor can guess.
pub(super) fn noise(bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise
}

/// Bytes a second: `work` on `bytes` is done again and again, after once to warm up.
fn rate<E>(bytes: usize, measure_for: Duration, mut work: impl FnMut() -> Result<(), E>) -> Result<f64, E> {
    work()?;
    let mut stopwatch = Stopwatch::new(measure_for);
    while stopwatch.is_running() {
        let begun = Instant::now();
        work()?;
        stopwatch.add(begun, bytes as u64);
    }
    Ok(stopwatch.bytes_per_s())
}
