//! The first 64 bytes of a shard file.

use crate::id::{Geometry, ObjectId};

/// The header's length.
pub const HEADER_BYTES: usize = 64;
/// The first and the last eight bytes of a shard file. The high bit finds transfers that strip it, the line end those
/// that rewrite it.
pub const MAGIC: [u8; 8] = [0x89, b'S', b'H', b'A', b'R', b'D', 0x0D, 0x0A];
/// The version of the format.
pub const FORMAT_VERSION: u16 = 1;

/// What a header says. It is not trusted: it only helps to find things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The object.
    pub object: ObjectId,
    /// Which shard of it.
    pub shard_index: u8,
    /// k and n.
    pub geometry: Geometry,
    /// The length of a block in every stripe but the last.
    pub block_bytes: u32,
}

/// Why bytes are not a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Fewer or more bytes than a header has.
    #[error("a header has {HEADER_BYTES} bytes, not {found}")]
    Length {
        /// How many there are.
        found: usize,
    },
    /// Not a shard file.
    #[error("the first bytes are not those of a shard file")]
    Magic,
    /// The checksum is another.
    #[error("the header's checksum does not match")]
    Checksum,
    /// A version this program does not know.
    #[error("format version {found} is not known here")]
    Version {
        /// The version.
        found: u16,
    },
    /// Numbers that no shard has.
    #[error("the header's geometry, index or reserve makes no sense")]
    Content,
}

/// CRC-32C (Castagnoli), as in RFC 3720 appendix B.4.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

impl Header {
    /// The stored bytes.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes[10] = self.shard_index;
        bytes[11] = self.geometry.data_shards() as u8;
        bytes[12] = self.geometry.total_shards() as u8;
        bytes[16..32].copy_from_slice(self.object.as_bytes());
        bytes[32..36].copy_from_slice(&self.block_bytes.to_le_bytes());
        let checksum = crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads stored bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; HEADER_BYTES] = bytes.try_into().map_err(|_| HeaderError::Length { found: bytes.len() })?;
        if bytes[..8] != MAGIC {
            return Err(HeaderError::Magic);
        }
        if crc32c(&bytes[..60]).to_le_bytes() != bytes[60..] {
            return Err(HeaderError::Checksum);
        }
        let found = u16::from_le_bytes([bytes[8], bytes[9]]);
        if found != FORMAT_VERSION {
            return Err(HeaderError::Version { found });
        }
        let geometry = Geometry::new(bytes[11].into(), bytes[12].into()).map_err(|_| HeaderError::Content)?;
        let reserve_is_zero = bytes[13..16].iter().chain(&bytes[36..60]).all(|byte| *byte == 0);
        if usize::from(bytes[10]) >= geometry.total_shards() || !reserve_is_zero {
            return Err(HeaderError::Content);
        }
        let object = ObjectId::from_slice(&bytes[16..32]).ok_or(HeaderError::Content)?;
        let block_bytes = u32::from_le_bytes([bytes[32], bytes[33], bytes[34], bytes[35]]);
        Ok(Self { object, shard_index: bytes[10], geometry, block_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720 appendix B.4: the CRC-32C of 32 zero bytes is 8a9136aa (AA 36 91 8A on the wire).
    #[test]
    fn the_checksum_is_castagnolis() {
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn a_header_is_read_back_and_no_flipped_bit_is_accepted() {
        let geometry = Geometry::new(3, 5).expect("geometry");
        let header = Header { object: ObjectId([3; 16]), shard_index: 4, geometry, block_bytes: 1024 };
        let bytes = header.to_bytes();
        assert_eq!(Header::from_bytes(&bytes), Ok(header));
        for bit in 0..HEADER_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::from_bytes(&flipped).is_err(), "bit {bit}");
        }
        assert!(Header::from_bytes(&bytes[..63]).is_err());
    }
}
