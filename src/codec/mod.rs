//! The erasure code: k data blocks become n blocks, any k of which give all n back.
//!
//! *What it is.* [`ErasureCodec`]: Reed–Solomon over GF(2^8) with the polynomial 0x11D and a systematic Vandermonde
//! matrix (V, whose row r is r^0, r^1, …, times the inverse of its own top k × k square). It is the code of
//! `reed-solomon-erasure`, klauspost/reedsolomon and Backblaze, byte for byte.
//!
//! *What it knows.* Blocks as slices of bytes, and which arithmetic is the fastest on this machine.
//!
//! *What it does not know.* What the bytes mean, where blocks come from, whether a block is damaged: it detects
//! nothing, so a block that is not right must be left out. No hashing, no files, no threads of its own.
//!
//! *Invariants.* Any k blocks decode, at every geometry. Blocks that are given are never copied or changed. What is
//! computed does not depend on the engine that computes it. Memory beyond the results is bounded by
//! [`CHECK_COLUMN_BYTES`] per parity block and the remembered decoding rows.

mod decode_cache;
mod engine;
mod error;
mod matrix;
mod portable;
mod stats;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use stats::CodecStats;

use crate::id::Geometry;
use decode_cache::DecodeCache;
use engine::Engine;
use matrix::Matrix;
use std::fmt;
use std::sync::Arc;

/// What coding gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How many bytes of each parity block are computed again at a time by a parity check.
pub const CHECK_COLUMN_BYTES: usize = 4096;

/// Codes stripes of one geometry; a clone is another handle to the same matrix. Every method may be called from many
/// threads at once.
#[derive(Clone)]
pub struct ErasureCodec {
    code: Arc<Code>,
}

struct Code {
    geometry: Geometry,
    generator: Matrix,
    decode_cache: DecodeCache,
    engine: &'static dyn Engine,
}

impl ErasureCodec {
    /// The code of a geometry or a redundancy level. Takes time of the order n·k², so make one and clone it.
    pub fn new(geometry: impl Into<Geometry>) -> Self {
        let geometry = geometry.into();
        let generator = Matrix::generator(geometry);
        let code = Code { geometry, generator, decode_cache: DecodeCache::default(), engine: engine::selected() };
        Self { code: Arc::new(code) }
    }

    /// Its k and n.
    pub fn geometry(&self) -> Geometry {
        self.code.geometry
    }

    /// What it costs and what it survives.
    pub fn stats(&self) -> CodecStats {
        self.code.geometry.into()
    }

    /// Which arithmetic it uses on this machine, as a name for measurements.
    pub fn engine_name(&self) -> &'static str {
        self.code.engine.name()
    }

    /// Fills in the parity of a contiguous stripe: n blocks of equal length, of which the first k are data and stay as
    /// they are. An error if the stripe is empty or does not divide into n blocks.
    pub fn encode_in_place(&self, stripe: &mut [u8]) -> Result<()> {
        let block_bytes = self.block_bytes(stripe.len())?;
        let (data, parity) = stripe.split_at_mut(self.data_shards() * block_bytes);
        let data: Vec<_> = data.chunks(block_bytes).collect();
        let mut parity: Vec<_> = parity.chunks_mut(block_bytes).collect();
        self.code.engine.multiply(&self.parity_rows(), &data, &mut parity);
        Ok(())
    }

    /// The wanted blocks, data or parity, in the order of `wanted`, from any k blocks that are present.
    ///
    /// `blocks` has n places, `None` where a block is absent or not to be trusted. Only absent blocks can be wanted:
    /// a present one is an error, not a copy. With k blocks or more present, nothing else than wrong arguments fails.
    pub fn reconstruct(&self, blocks: &[Option<&[u8]>], wanted: &[u8]) -> Result<Vec<(u8, Vec<u8>)>> {
        let block_bytes = self.check_blocks(blocks.len(), present(blocks))?;
        self.check_wanted(blocks, wanted)?;
        let count = present(blocks).count();
        if count < self.data_shards() {
            return Err(Error::TooFew { present: count, needed: self.data_shards() });
        }
        // The first k: data blocks come first, and their rows of the matrix are the cheap ones.
        let (used, inputs): (Vec<u8>, Vec<&[u8]>) =
            present(blocks).take(self.data_shards()).map(|(index, block)| (index as u8, block)).unzip();
        let rows = self.code.decode_cache.rows(&self.code.generator, &used, wanted);
        let rows: Vec<&[u8]> = rows.rows().collect();
        let mut rebuilt: Vec<_> = wanted.iter().map(|index| (*index, vec![0; block_bytes])).collect();
        let mut outputs: Vec<&mut [u8]> = rebuilt.iter_mut().map(|(_, block)| block.as_mut_slice()).collect();
        self.code.engine.multiply(&rows, &inputs, &mut outputs);
        Ok(rebuilt)
    }

    /// Whether the parity blocks, the last n−k of `blocks`, are those of the data blocks before them.
    pub fn check_parity(&self, blocks: &[&[u8]]) -> Result<bool> {
        let block_bytes = self.check_blocks(blocks.len(), blocks.iter().copied().enumerate())?;
        let (data, parity) = blocks.split_at(self.data_shards());
        let rows = self.parity_rows();
        let column_bytes = CHECK_COLUMN_BYTES.min(block_bytes);
        let mut scratch = vec![0; column_bytes * parity.len()];
        for start in (0..block_bytes).step_by(column_bytes) {
            let column = start..block_bytes.min(start + column_bytes);
            let inputs: Vec<&[u8]> = data.iter().map(|block| &block[column.clone()]).collect();
            let mut expected: Vec<&mut [u8]> = scratch.chunks_mut(column_bytes).collect();
            expected.iter_mut().for_each(|block| *block = &mut std::mem::take(block)[..column.len()]);
            self.code.engine.multiply(&rows, &inputs, &mut expected);
            if expected.iter().zip(parity).any(|(expected, block)| **expected != block[column.clone()]) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// [`Self::check_parity`] of a contiguous stripe, as [`Self::encode_in_place`] leaves it. The parity is computed
    /// again, a column at a time, without memory for a second stripe.
    pub fn check_parity_in_place(&self, stripe: &[u8]) -> Result<bool> {
        let block_bytes = self.block_bytes(stripe.len())?;
        self.check_parity(&stripe.chunks(block_bytes).collect::<Vec<_>>())
    }

    fn data_shards(&self) -> usize {
        self.code.geometry.data_shards()
    }

    fn parity_rows(&self) -> Vec<&[u8]> {
        self.code.generator.rows().skip(self.data_shards()).collect()
    }

    /// The length of a block in a contiguous stripe.
    fn block_bytes(&self, stripe_bytes: usize) -> Result<usize> {
        let total_shards = self.code.geometry.total_shards();
        match stripe_bytes {
            0 => Err(Error::Empty),
            _ if !stripe_bytes.is_multiple_of(total_shards) => Err(Error::StripeLength { stripe_bytes, total_shards }),
            _ => Ok(stripe_bytes / total_shards),
        }
    }

    /// That there is a place per shard and the blocks in them have one length, which it gives; 0 when there are none.
    fn check_blocks<'a>(&self, found: usize, blocks: impl Iterator<Item = (usize, &'a [u8])>) -> Result<usize> {
        let expected = self.code.geometry.total_shards();
        if found != expected {
            return Err(Error::BlockCount { expected, found });
        }
        let mut lengths = blocks.map(|(index, block)| (index, block.len()));
        let Some((_, expected_bytes)) = lengths.next() else { return Ok(0) };
        if expected_bytes == 0 {
            return Err(Error::Empty);
        }
        match lengths.find(|(_, bytes)| *bytes != expected_bytes) {
            Some((index, bytes)) => Err(Error::BlockLength { index, bytes, expected_bytes }),
            None => Ok(expected_bytes),
        }
    }

    fn check_wanted(&self, blocks: &[Option<&[u8]>], wanted: &[u8]) -> Result<()> {
        for (position, index) in wanted.iter().copied().enumerate() {
            match blocks.get(usize::from(index)) {
                None => return Err(Error::NoSuchBlock { index, total_shards: blocks.len() }),
                Some(Some(_)) => return Err(Error::Present { index }),
                Some(None) if wanted[..position].contains(&index) => return Err(Error::WantedTwice { index }),
                Some(None) => {}
            }
        }
        Ok(())
    }
}

impl fmt::Debug for ErasureCodec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ErasureCodec({}, {})", self.code.geometry, self.engine_name())
    }
}

fn present<'a>(blocks: &[Option<&'a [u8]>]) -> impl Iterator<Item = (usize, &'a [u8])> {
    blocks.iter().enumerate().filter_map(|(index, block)| block.map(|block| (index, block)))
}
