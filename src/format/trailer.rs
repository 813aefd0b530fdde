//! The last 128 bytes of a shard file: the lengths of what stands before them.

use super::header::{MAGIC, crc32c};
use crate::id::Digest;

/// The trailer's length.
pub const TRAILER_BYTES: usize = 128;

/// What a trailer says. It is not trusted: it only helps to find things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// How long each section is.
    pub lengths: SectionLengths,
    /// The shard's Merkle root.
    pub shard_root: Digest,
    /// BLAKE3 of the public part, to compare copies by.
    pub manifest_hash: Digest,
}

/// How long each section between the blocks and the trailer is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionLengths {
    /// The leaves, 32 bytes for each stripe.
    pub leaves: u64,
    /// The manifest's public part.
    pub public: u64,
    /// The signature.
    pub signature: u64,
    /// The manifest's sealed part.
    pub sealed: u64,
    /// The key share.
    pub share: u64,
}

/// Why bytes are not a trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrailerError {
    /// Fewer or more bytes than a trailer has.
    #[error("a trailer has {TRAILER_BYTES} bytes, not {found}")]
    Length {
        /// How many there are.
        found: usize,
    },
    /// The file does not end as a shard file does.
    #[error("the last bytes are not those of a shard file")]
    Magic,
    /// The checksum is another.
    #[error("the trailer's checksum does not match")]
    Checksum,
    /// A reserved byte is not zero.
    #[error("the trailer's reserve is not zero")]
    Reserve,
}

impl SectionLengths {
    fn as_array(&self) -> [u64; 5] {
        [self.leaves, self.public, self.signature, self.sealed, self.share]
    }

    /// All sections together; `None` where the sum is more than 64 bits hold.
    pub fn sum(&self) -> Option<u64> {
        self.as_array().iter().try_fold(0u64, |sum, length| sum.checked_add(*length))
    }

    /// The sections after the leaves together: all copies of a manifest have the same.
    pub fn manifest(&self) -> Option<u64> {
        self.sum()?.checked_sub(self.leaves)
    }
}

impl Trailer {
    /// The stored bytes.
    pub fn to_bytes(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        for (slot, length) in bytes.chunks_exact_mut(8).zip(self.lengths.as_array()) {
            slot.copy_from_slice(&length.to_le_bytes());
        }
        bytes[40..72].copy_from_slice(self.shard_root.as_bytes());
        bytes[72..104].copy_from_slice(self.manifest_hash.as_bytes());
        let checksum = crc32c(&bytes[..116]);
        bytes[116..120].copy_from_slice(&checksum.to_le_bytes());
        bytes[120..].copy_from_slice(&MAGIC);
        bytes
    }

    /// Reads stored bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TrailerError> {
        let bytes: &[u8; TRAILER_BYTES] = bytes.try_into().map_err(|_| TrailerError::Length { found: bytes.len() })?;
        if bytes[120..] != MAGIC {
            return Err(TrailerError::Magic);
        }
        if crc32c(&bytes[..116]).to_le_bytes() != bytes[116..120] {
            return Err(TrailerError::Checksum);
        }
        if bytes[104..116].iter().any(|byte| *byte != 0) {
            return Err(TrailerError::Reserve);
        }
        let mut lengths = [0u64; 5];
        for (length, slot) in lengths.iter_mut().zip(bytes.chunks_exact(8)) {
            *length = u64::from_le_bytes(slot.try_into().map_err(|_| TrailerError::Length { found: slot.len() })?);
        }
        let [leaves, public, signature, sealed, share] = lengths;
        let digest = |from: usize| Digest::from_slice(&bytes[from..from + 32]).expect("32 bytes are a digest");
        Ok(Self {
            lengths: SectionLengths { leaves, public, signature, sealed, share },
            shard_root: digest(40),
            manifest_hash: digest(72),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trailer_is_read_back_and_no_flipped_bit_is_accepted() {
        let lengths = SectionLengths { leaves: 32, public: 700, signature: 64, sealed: 90, share: 0 };
        let trailer = Trailer { lengths, shard_root: Digest([1; 32]), manifest_hash: Digest([2; 32]) };
        let bytes = trailer.to_bytes();
        assert_eq!(Trailer::from_bytes(&bytes), Ok(trailer));
        for bit in 0..TRAILER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Trailer::from_bytes(&flipped).is_err(), "bit {bit}");
        }
        assert!(Trailer::from_bytes(&bytes[1..]).is_err());
    }

    #[test]
    fn lengths_that_overflow_have_no_sum() {
        let lengths = SectionLengths { leaves: u64::MAX, public: 1, signature: 0, sealed: 0, share: 0 };
        assert_eq!(lengths.sum(), None);
    }
}
