//! Backward: any k verified blocks of a stripe give its payload, opened, and any block that is missing.

use super::buffer::BufferPool;
use super::layout::Layout;
use crate::codec::{self, ErasureCodec};
use crate::crypto::{OpenError, StripeCipher};
use crate::merkle::{BlockPosition, VerifiedBlock};
use bytes::Bytes;

/// Why a stripe was not decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Bytes after the payload are not zero: the writer broke the format.
    #[error("the padding of stripe {stripe_index} is not zero")]
    Padding {
        /// Which stripe.
        stripe_index: u64,
    },
    /// The stripe is not what was sealed: the key is another, or the writer broke the format.
    #[error("stripe {stripe_index} does not open")]
    Sealed {
        /// Which stripe.
        stripe_index: u64,
        /// Why.
        source: OpenError,
    },
    /// The stripe is sealed, and there is no key to open it; or it is not, and there is one.
    #[error("stripe {stripe_index} takes another key than was given")]
    Key {
        /// Which stripe.
        stripe_index: u64,
    },
    /// A block does not have the length this stripe's blocks have.
    #[error("block {shard_index} of stripe {stripe_index} has {found} bytes, not {expected}")]
    BlockBytes {
        /// Which stripe.
        stripe_index: u64,
        /// Which block.
        shard_index: usize,
        /// Its length.
        found: usize,
        /// What it should be.
        expected: u32,
    },
    /// A block of another shard or stripe stands in its place.
    #[error("{position} was given as block {shard_index} of stripe {stripe_index}")]
    Misplaced {
        /// Which stripe was asked for.
        stripe_index: u64,
        /// Whose place it stands in.
        shard_index: usize,
        /// Where it is from.
        position: BlockPosition,
    },
    /// Too few blocks, or not as many places for them as there are shards.
    #[error(transparent)]
    Codec(#[from] codec::Error),
}

/// The payload of one stripe: slices that follow one another.
#[derive(Debug, Clone)]
pub struct StripePayload {
    parts: Vec<Bytes>,
}

impl StripePayload {
    /// The slices, none of them empty.
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// Only the bytes from `start` to `end`, counted from the stripe's first.
    pub fn cut(self, start: u64, end: u64) -> Self {
        let mut offset = 0;
        let mut parts = Vec::new();
        for part in self.parts {
            let (from, to) =
                (start.clamp(offset, offset + part.len() as u64), end.clamp(offset, offset + part.len() as u64));
            if from < to {
                parts.push(part.slice((from - offset) as usize..(to - offset) as usize));
            }
            offset += part.len() as u64;
        }
        Self { parts }
    }
}

/// Decodes the stripes of one object.
#[derive(Debug, Clone)]
pub struct StripeDecoder {
    codec: ErasureCodec,
    layout: Layout,
    pool: BufferPool,
}

impl StripeDecoder {
    /// For one object's stripes.
    pub fn new(layout: Layout) -> Self {
        Self::with_codec(ErasureCodec::new(layout.geometry()), layout)
    }

    /// With a codec that was made already, of the same geometry.
    pub(super) fn with_codec(codec: ErasureCodec, layout: Layout) -> Self {
        let shape = layout.shape();
        let pool = BufferPool::new(shape.block_bytes() as usize * shape.geometry().data_shards());
        Self { codec, layout, pool }
    }

    /// The payload of a stripe, given n places of which at least k hold a block, and what opens it where it is sealed.
    pub fn open(
        &self,
        stripe_index: u64,
        blocks: &[Option<VerifiedBlock>],
        cipher: Option<&StripeCipher>,
    ) -> Result<StripePayload, DecodeError> {
        if cipher.is_some() != (self.layout.shape().overhead_bytes() > 0) {
            return Err(DecodeError::Key { stripe_index });
        }
        self.check_blocks(stripe_index, blocks)?;
        let data_shards = self.layout.geometry().data_shards();
        let absent: Vec<u8> =
            (0..data_shards).filter(|i| blocks.get(*i).is_none_or(Option::is_none)).map(|i| i as u8).collect();
        let mut rebuilt = self.rebuild(stripe_index, blocks, &absent)?.into_iter();
        let data = blocks.iter().take(data_shards).filter_map(|block| match block {
            Some(block) => Some(block.bytes().clone()),
            None => rebuilt.next().map(|(_, bytes)| bytes),
        });
        let sealed = self.strip_padding(stripe_index, data)?;
        match cipher {
            Some(cipher) => self.unseal(stripe_index, &sealed, cipher),
            None => Ok(sealed),
        }
    }

    /// Opens what lies in several slices: they are copied into one buffer, which has to be written to anyway.
    fn unseal(
        &self,
        stripe_index: u64,
        sealed: &StripePayload,
        cipher: &StripeCipher,
    ) -> Result<StripePayload, DecodeError> {
        let mut buffer = self.pool.take();
        let mut filled = 0;
        for part in sealed.parts() {
            buffer.as_mut_slice()[filled..filled + part.len()].copy_from_slice(part);
            filled += part.len();
        }
        let is_last = stripe_index + 1 == self.layout.stripe_count();
        cipher
            .open_in_place(stripe_index, is_last, &mut buffer.as_mut_slice()[..filled])
            .map_err(|source| DecodeError::Sealed { stripe_index, source })?;
        let payload_bytes = self.layout.stripe_payload_bytes(stripe_index) as usize;
        Ok(StripePayload { parts: vec![buffer.freeze(payload_bytes)] })
    }

    /// The wanted blocks of a stripe, in the order they are asked for, given at least k others.
    pub fn rebuild(
        &self,
        stripe_index: u64,
        blocks: &[Option<VerifiedBlock>],
        wanted: &[u8],
    ) -> Result<Vec<(u8, Bytes)>, DecodeError> {
        self.check_blocks(stripe_index, blocks)?;
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let present: Vec<Option<&[u8]>> =
            blocks.iter().map(|block| block.as_ref().map(|block| block.bytes().as_ref())).collect();
        let rebuilt = self.codec.reconstruct(&present, wanted)?;
        Ok(rebuilt.into_iter().map(|(index, block)| (index, Bytes::from(block))).collect())
    }

    /// That each block is from where it stands, and as long as this stripe's blocks are.
    fn check_blocks(&self, stripe_index: u64, blocks: &[Option<VerifiedBlock>]) -> Result<(), DecodeError> {
        let expected = self.layout.block_bytes(stripe_index);
        for (shard_index, block) in blocks.iter().enumerate() {
            let Some(block) = block else { continue };
            let (position, found) = (block.position(), block.bytes().len());
            if usize::from(position.shard_index) != shard_index || position.stripe_index != stripe_index {
                return Err(DecodeError::Misplaced { stripe_index, shard_index, position });
            }
            if found != expected as usize {
                return Err(DecodeError::BlockBytes { stripe_index, shard_index, found, expected });
            }
        }
        Ok(())
    }

    fn strip_padding(
        &self,
        stripe_index: u64,
        data: impl Iterator<Item = Bytes>,
    ) -> Result<StripePayload, DecodeError> {
        let overhead_bytes = u64::from(self.layout.shape().overhead_bytes());
        let mut left = self.layout.stripe_payload_bytes(stripe_index) + overhead_bytes;
        let mut parts = Vec::with_capacity(self.layout.geometry().data_shards());
        for mut block in data {
            let padding = block.split_off(block.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
            if padding.iter().any(|byte| *byte != 0) {
                return Err(DecodeError::Padding { stripe_index });
            }
            left -= block.len() as u64;
            if !block.is_empty() {
                parts.push(block);
            }
        }
        Ok(StripePayload { parts })
    }
}
