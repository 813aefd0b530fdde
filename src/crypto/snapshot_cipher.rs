//! Seals a snapshot of a node's records, part by part, so that none can be changed, moved, left out or taken from another.

use super::aead::{TAG_BYTES, aes_256_gcm, nonce};
use super::{ChamberKey, OpenError};
use aws_lc_rs::aead::{Aad, LessSafeKey};
use std::fmt;

/// What the associated data of a part begins with.
const PURPOSE: &[u8] = b"shard v1 chamber snapshot\n";

/// Seals and opens the parts of one snapshot.
pub struct SnapshotCipher {
    key: LessSafeKey,
    associated_data: Vec<u8>,
}

impl SnapshotCipher {
    /// How many bytes sealing adds to a part.
    pub const OVERHEAD_BYTES: usize = TAG_BYTES;

    /// For the snapshot that begins with this header, of which 16 bytes or more are random: no two have the same, and so no
    /// two the same key.
    pub fn new(key: &ChamberKey, header: &[u8]) -> Self {
        let associated_data = [PURPOSE, header].concat();
        Self { key: aes_256_gcm(&key.snapshot_key(header)), associated_data }
    }

    /// Seals a part under its number, once, and appends the tag.
    pub fn seal_in_place(&self, number: u64, is_last: bool, part: &mut Vec<u8>) {
        self.key
            .seal_in_place_append_tag(nonce(number, is_last), Aad::from(self.associated_data.as_slice()), part)
            .expect("a part is far shorter than what AES-GCM can seal");
    }

    /// Opens a part again, and takes the tag away. What is in it is of no use after an error.
    pub fn open_in_place(&self, number: u64, is_last: bool, part: &mut Vec<u8>) -> Result<(), OpenError> {
        let associated_data = Aad::from(self.associated_data.as_slice());
        let opened = self.key.open_in_place(nonce(number, is_last), associated_data, part);
        let text_bytes = opened.map_err(|_| OpenError)?.len();
        part.truncate(text_bytes);
        Ok(())
    }
}

impl fmt::Debug for SnapshotCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotCipher(secret)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    fn cipher(node: u8, secret: u8, header: &[u8]) -> SnapshotCipher {
        SnapshotCipher::new(&ChamberKey::from_secret(NodeId([node; 32]), &[secret; 32]), header)
    }

    #[test]
    fn a_part_opens_in_its_place_of_its_snapshot_alone_and_no_flipped_bit_of_it_does() {
        let mut sealed = b"records".to_vec();
        cipher(1, 1, b"header").seal_in_place(4, false, &mut sealed);
        assert_eq!(sealed.len(), 7 + SnapshotCipher::OVERHEAD_BYTES);
        let opened = |cipher: &SnapshotCipher, number, is_last, sealed: &[u8]| {
            let mut part = sealed.to_vec();
            cipher.open_in_place(number, is_last, &mut part).map(|()| part)
        };
        let own = cipher(1, 1, b"header");
        assert_eq!(opened(&own, 4, false, &sealed).as_deref(), Ok(&b"records"[..]));
        assert_eq!(opened(&own, 5, false, &sealed), Err(OpenError));
        assert_eq!(opened(&own, 4, true, &sealed), Err(OpenError));
        for other in [cipher(2, 1, b"header"), cipher(1, 2, b"header"), cipher(1, 1, b"headed")] {
            assert_eq!(opened(&other, 4, false, &sealed), Err(OpenError));
        }
        for bit in 0..sealed.len() * 8 {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(opened(&own, 4, false, &flipped), Err(OpenError), "bit {bit}");
        }
        assert_eq!(opened(&own, 4, false, &sealed[..10]), Err(OpenError));
        assert_eq!(format!("{own:?}"), "SnapshotCipher(secret)");
    }
}
