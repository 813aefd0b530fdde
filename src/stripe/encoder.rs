//! Forward: payload bytes are sealed and become the n blocks of a stripe, with their leaves, checked.

use super::buffer::{Buffer, BufferPool};
use super::layout::StripeShape;
use crate::codec::{self, ErasureCodec};
use crate::crypto::{StripeCipher, TAG_BYTES};
use crate::id::{Digest, ObjectId};
use crate::merkle::{self, BlockPosition};
use bytes::Bytes;
use std::sync::Arc;

/// How thoroughly a stripe is checked before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Its parity is computed again and compared.
    Parity,
    /// Also, it is opened again, and its payload compared with the hash taken when it was read.
    Full,
}

/// Why a stripe was not encoded.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The payload is empty or over what stripe and buffer hold.
    #[error("stripe {stripe_index} was given {payload_bytes} bytes; it takes 1 to {capacity}")]
    PayloadBytes {
        /// Which stripe.
        stripe_index: u64,
        /// What was given.
        payload_bytes: u64,
        /// What fits.
        capacity: u64,
    },
    /// Computed again, the parity is another: memory or processor are at fault.
    #[error("the parity of stripe {stripe_index} does not come out the same twice: this machine's memory is at fault")]
    Parity {
        /// Which stripe.
        stripe_index: u64,
    },
    /// The payload is no longer what was read: memory is at fault.
    #[error("stripe {stripe_index} changed in memory after it was read: this machine's memory is at fault")]
    Changed {
        /// Which stripe.
        stripe_index: u64,
    },
    /// Stripes of this shape are sealed and there is no key for it, or the other way round.
    #[error("stripe {stripe_index} cannot be sealed as its shape has it")]
    Key {
        /// Which stripe.
        stripe_index: u64,
    },
    /// The codec refused.
    #[error(transparent)]
    Codec(#[from] codec::Error),
}

/// A buffer with the payload of one stripe at its beginning.
#[derive(Debug)]
pub struct FilledStripe {
    /// Which stripe.
    pub stripe_index: u64,
    /// At least n·block bytes; the payload first.
    pub buffer: Buffer,
    /// How much of it is payload.
    pub payload_bytes: u64,
    /// Whether no stripe comes after it.
    pub is_last: bool,
    /// BLAKE3 of the payload, taken when it was read, where [`Check::Full`] is asked for.
    pub digest: Option<Digest>,
}

impl FilledStripe {
    /// Takes the hash that [`Check::Full`] compares with; to be called as soon as the payload is in the buffer.
    pub fn note_digest(&mut self) {
        let buffer = self.buffer.as_ref();
        let payload_bytes = usize::try_from(self.payload_bytes).unwrap_or(usize::MAX).min(buffer.len());
        self.digest = Some(Digest(blake3::hash(&buffer[..payload_bytes]).into()));
    }
}

/// The n blocks of a stripe, in one piece of memory, with their leaves.
#[derive(Debug, Clone)]
pub struct EncodedStripe {
    blocks: Bytes,
    block_bytes: usize,
    leaves: Vec<Digest>,
}

impl EncodedStripe {
    /// This shard's block, sharing the stripe's memory.
    pub fn block(&self, shard_index: u8) -> Bytes {
        let start = usize::from(shard_index) * self.block_bytes;
        self.blocks.slice(start..start + self.block_bytes)
    }

    /// The leaf of each block, in the order of the shards.
    pub fn leaves(&self) -> &[Digest] {
        &self.leaves
    }
}

/// Encodes the stripes of one object.
#[derive(Debug, Clone)]
pub struct StripeEncoder {
    codec: ErasureCodec,
    shape: StripeShape,
    object: ObjectId,
    check: Check,
    cipher: Option<Arc<StripeCipher>>,
    /// Where sealed stripes are opened again: memory of their own for each would add up over many threads.
    opened: BufferPool,
}

impl StripeEncoder {
    /// For one object's stripes.
    pub fn new(shape: StripeShape, object: ObjectId, check: Check) -> Self {
        Self::with_codec(ErasureCodec::new(shape.geometry()), shape, object, check)
    }

    /// With a codec that was made already, of the same geometry.
    pub(super) fn with_codec(codec: ErasureCodec, shape: StripeShape, object: ObjectId, check: Check) -> Self {
        let opened = BufferPool::new(shape.block_bytes() as usize * shape.geometry().data_shards());
        Self { codec, shape, object, check, cipher: None, opened }
    }

    /// Seals each stripe first. The shape's overhead has to be that of a sealed stripe.
    pub fn sealing_with(self, cipher: StripeCipher) -> Self {
        Self { cipher: Some(Arc::new(cipher)), ..self }
    }

    /// What tells the key that stripes are sealed with from any other; `None` where they are not sealed.
    pub fn key_fingerprint(&self) -> Option<[u8; TAG_BYTES]> {
        self.cipher.as_ref().map(|cipher| cipher.fingerprint())
    }

    /// How long a buffer must be: n blocks.
    pub fn buffer_bytes(shape: StripeShape) -> usize {
        shape.block_bytes() as usize * shape.geometry().total_shards()
    }

    /// Seals and encodes one stripe in its own buffer.
    pub fn encode(&self, mut stripe: FilledStripe) -> Result<EncodedStripe, EncodeError> {
        let (stripe_index, payload_bytes) = (stripe.stripe_index, stripe.payload_bytes);
        let capacity = self.shape.capacity_in(stripe.buffer.as_ref().len());
        if payload_bytes == 0 || payload_bytes > capacity {
            return Err(EncodeError::PayloadBytes { stripe_index, payload_bytes, capacity });
        }
        if self.tag_bytes() != self.shape.overhead_bytes() as usize {
            return Err(EncodeError::Key { stripe_index });
        }
        let geometry = self.shape.geometry();
        let block_bytes = self.shape.block_bytes_for(payload_bytes) as usize;
        let sealed_bytes = payload_bytes as usize + self.tag_bytes();
        let all = &mut stripe.buffer.as_mut_slice()[..block_bytes * geometry.total_shards()];
        if let Some(cipher) = &self.cipher {
            cipher.seal_in_place(stripe_index, stripe.is_last, &mut all[..sealed_bytes]);
        }
        all[sealed_bytes..block_bytes * geometry.data_shards()].fill(0);
        self.codec.encode_in_place(all)?;
        let leaves = self.leaves(stripe_index, all, block_bytes);
        // After hashing, so that a bit that flipped in between is seen too.
        if !self.codec.check_parity_in_place(all)? {
            return Err(EncodeError::Parity { stripe_index });
        }
        if self.check == Check::Full && !self.is_what_was_read(&stripe, sealed_bytes) {
            return Err(EncodeError::Changed { stripe_index });
        }
        let blocks = stripe.buffer.freeze(block_bytes * geometry.total_shards());
        Ok(EncodedStripe { blocks, block_bytes, leaves })
    }

    fn tag_bytes(&self) -> usize {
        if self.cipher.is_some() { TAG_BYTES } else { 0 }
    }

    /// Whether the stripe still gives the payload that was read, opened again where it is sealed.
    fn is_what_was_read(&self, stripe: &FilledStripe, sealed_bytes: usize) -> bool {
        let sealed = &stripe.buffer.as_ref()[..sealed_bytes];
        let Some(cipher) = &self.cipher else {
            return stripe.digest.is_none_or(|read| read.0 == *blake3::hash(sealed).as_bytes());
        };
        let mut buffer = self.opened.take();
        let opened = &mut buffer.as_mut_slice()[..sealed_bytes];
        opened.copy_from_slice(sealed);
        let opens = cipher.open_in_place(stripe.stripe_index, stripe.is_last, opened).is_ok();
        let payload = &opened[..sealed_bytes - TAG_BYTES];
        opens && stripe.digest.is_none_or(|read| read.0 == *blake3::hash(payload).as_bytes())
    }

    fn leaves(&self, stripe_index: u64, all: &[u8], block_bytes: usize) -> Vec<Digest> {
        let position = |shard_index| BlockPosition { object: self.object, shard_index, stripe_index };
        let indexes = self.shape.geometry().shard_indexes();
        indexes.zip(all.chunks(block_bytes)).map(|(index, block)| merkle::leaf(position(index), block)).collect()
    }
}
