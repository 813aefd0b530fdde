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
//! *Invariants.* Any k blocks decode, at every geometry. Blocks that are given are never copied or changed, unless they
//! are shorter than a register. What is computed does not depend on the [`Engine`] that computes it. Memory beyond the
//! results is bounded by the remembered decoding rows. All unsafe code is in `kernel/`.
//!
//! ```text
//!  ErasureCodec ──► matrix    which rows: parity, or what undoes a loss
//!       │           decode_cache    those rows, remembered by loss
//!       ▼
//!  kernel::PreparedRows   rows as one engine takes them; lengths are checked here
//!       ▼
//!  column::sweep          the one loop, over a register and a way to multiply it
//!       ▼
//!  x86, neon, portable
//! ```

mod decode_cache;
mod engine;
mod error;
mod kernel;
mod matrix;
mod stats;
#[cfg(test)]
mod tests;

pub use engine::{Engine, EngineError};
pub use error::Error;
pub use stats::CodecStats;

use crate::id::Geometry;
use decode_cache::DecodeCache;
use kernel::PreparedRows;
use matrix::Matrix;
use std::fmt;
use std::sync::Arc;

/// What coding gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Codes stripes of one geometry; a clone is another handle to the same matrix. Every method may be called from many
/// threads at once.
#[derive(Clone)]
pub struct ErasureCodec {
    code: Arc<Code>,
}

struct Code {
    geometry: Geometry,
    engine: Engine,
    generator: Matrix,
    parity: PreparedRows,
    decode_cache: DecodeCache,
}

impl ErasureCodec {
    /// The code of a geometry or a redundancy level, by the engine that is the default ([`Engine::by_default`]). Takes
    /// time of the order n·k², so make one and clone it.
    pub fn new(geometry: impl Into<Geometry>) -> Self {
        Self::made_for(geometry.into(), Engine::by_default())
    }

    /// [`Self::new`] with an engine of one's own choice, of those that are [available](Engine::available).
    pub fn with_engine(geometry: impl Into<Geometry>, engine: Engine) -> Result<Self, EngineError> {
        Ok(Self::made_for(geometry.into(), engine.checked()?))
    }

    fn made_for(geometry: Geometry, engine: Engine) -> Self {
        let generator = Matrix::generator(geometry);
        let parity = PreparedRows::new(engine, generator.parity_rows());
        // No loss takes more rows than there are parity blocks.
        let decode_cache = DecodeCache::new(parity.bytes());
        Self { code: Arc::new(Code { geometry, engine, generator, parity, decode_cache }) }
    }

    /// Its k and n.
    pub fn geometry(&self) -> Geometry {
        self.code.geometry
    }

    /// What it costs and what it survives.
    pub fn stats(&self) -> CodecStats {
        self.code.geometry.into()
    }

    /// What it computes with.
    pub fn engine(&self) -> Engine {
        self.code.engine
    }

    /// What it computes with, as a name for measurements.
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
        self.code.parity.write(&data, &mut parity);
        Ok(())
    }

    /// The wanted blocks, data or parity, in the order of `wanted`, from any k blocks that are present.
    ///
    /// `blocks` has n places, `None` where a block is absent or not to be trusted. Only absent blocks can be wanted:
    /// a present one is an error, not a copy. With k blocks or more present, nothing else than wrong arguments fails.
    pub fn reconstruct(&self, blocks: &[Option<&[u8]>], wanted: &[u8]) -> Result<Vec<(u8, Vec<u8>)>> {
        let (rows, inputs) = self.decoding(blocks, wanted)?;
        Ok(wanted.iter().copied().zip(rows.blocks(&inputs)).collect())
    }

    /// [`Self::reconstruct`] into the caller's memory: a place for each wanted block, in the order of `wanted` and of a
    /// block's length. What was there is overwritten; after an error it is as it was.
    pub fn reconstruct_into(&self, blocks: &[Option<&[u8]>], wanted: &[u8], places: &mut [&mut [u8]]) -> Result<()> {
        let (rows, inputs) = self.decoding(blocks, wanted)?;
        if places.len() != wanted.len() {
            return Err(Error::PlaceCount { expected: wanted.len(), found: places.len() });
        }
        let expected_bytes = inputs[0].len();
        for (index, place) in wanted.iter().zip(&*places) {
            if place.len() != expected_bytes {
                return Err(Error::BlockLength { index: (*index).into(), bytes: place.len(), expected_bytes });
            }
        }
        rows.write(&inputs, places);
        Ok(())
    }

    /// Whether the parity blocks, the last n−k of `blocks`, are those of the data blocks before them.
    pub fn check_parity(&self, blocks: &[&[u8]]) -> Result<bool> {
        self.check_blocks(blocks.len(), blocks.iter().copied().enumerate())?;
        let (data, parity) = blocks.split_at(self.data_shards());
        Ok(self.code.parity.compare(data, parity))
    }

    /// [`Self::check_parity`] of a contiguous stripe, as [`Self::encode_in_place`] leaves it. The parity is computed
    /// again and compared on the way, without memory for a second stripe.
    pub fn check_parity_in_place(&self, stripe: &[u8]) -> Result<bool> {
        let block_bytes = self.block_bytes(stripe.len())?;
        self.check_parity(&stripe.chunks(block_bytes).collect::<Vec<_>>())
    }

    fn data_shards(&self) -> usize {
        self.code.geometry.data_shards()
    }

    /// The rows that give the wanted blocks, and the blocks to apply them to.
    fn decoding<'a>(&self, blocks: &[Option<&'a [u8]>], wanted: &[u8]) -> Result<(Arc<PreparedRows>, Vec<&'a [u8]>)> {
        self.check_blocks(blocks.len(), present(blocks))?;
        self.check_wanted(blocks, wanted)?;
        let count = present(blocks).count();
        if count < self.data_shards() {
            return Err(Error::TooFew { present: count, needed: self.data_shards() });
        }
        // The first k: data blocks come first, and their rows of the matrix are the cheap ones.
        let (used, inputs): (Vec<u8>, Vec<&[u8]>) =
            present(blocks).take(self.data_shards()).map(|(index, block)| (index as u8, block)).unzip();
        let compute = || PreparedRows::new(self.code.engine, self.code.generator.decode_rows(&used, wanted));
        Ok((self.code.decode_cache.rows(&used, wanted, compute), inputs))
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
