//! A shard file whole: where its sections lie, and the exact bytes around its blocks.

use super::header::{HEADER_BYTES, Header};
use super::manifest::{MAX_PUBLIC_BYTES, MAX_SEALED_BYTES, Manifest, ManifestBytes};
use super::trailer::{SectionLengths, TRAILER_BYTES, Trailer};
use crate::crypto::{KeyShare, SHARE_BYTES};
use crate::id::Digest;
use std::ops::Range;

/// A signature's length.
const SIGNATURE_BYTES: u64 = 64;
/// A key share is at most this many bytes.
const MAX_SHARE_BYTES: u64 = 1024;
/// The most that follows the leaves in any shard file, trailer included.
pub const MAX_MANIFEST_BYTES: u64 =
    MAX_PUBLIC_BYTES + SIGNATURE_BYTES + MAX_SEALED_BYTES + MAX_SHARE_BYTES + TRAILER_BYTES as u64;

/// The derive-key context of the hash by which copies of a manifest are compared.
const MANIFEST_HASH_CONTEXT: &str = "shard v1 2026-11-21 manifest hash";

/// Where the sections of every shard file of one object lie, as its manifest has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardFileLayout {
    blocks_bytes: u64,
    lengths: SectionLengths,
}

impl ShardFileLayout {
    /// The layout that follows from a manifest.
    pub fn of(manifest: &Manifest) -> Self {
        let bytes = manifest.bytes();
        let lengths = SectionLengths {
            leaves: manifest.layout().stripe_count() * Digest::BYTES as u64,
            public: bytes.public.len() as u64,
            signature: bytes.signature.len() as u64,
            sealed: bytes.sealed.len() as u64,
            share: if manifest.share_digests().is_empty() { 0 } else { SHARE_BYTES as u64 },
        };
        Self { blocks_bytes: manifest.layout().shard_blocks_bytes(), lengths }
    }

    /// The length of the whole file.
    pub fn file_bytes(&self) -> u64 {
        self.leaves().end + self.lengths.manifest().unwrap_or(0) + TRAILER_BYTES as u64
    }

    /// Where the blocks are.
    pub fn blocks(&self) -> Range<u64> {
        HEADER_BYTES as u64..HEADER_BYTES as u64 + self.blocks_bytes
    }

    /// Where the leaves are.
    pub fn leaves(&self) -> Range<u64> {
        let start = self.blocks().end;
        start..start + self.lengths.leaves
    }

    /// Where everything after the leaves is: the manifest, the key share, the trailer.
    pub fn end(&self) -> Range<u64> {
        self.leaves().end..self.file_bytes()
    }

    /// Where the key share is; empty where the seal has none.
    pub fn share(&self) -> Range<u64> {
        let end = self.file_bytes() - TRAILER_BYTES as u64;
        end - self.lengths.share..end
    }

    /// Everything after the blocks.
    pub fn tail(&self) -> Range<u64> {
        self.blocks().end..self.file_bytes()
    }
}

/// The header that a shard of this object has.
pub fn header_bytes(manifest: &Manifest, shard_index: u8) -> [u8; HEADER_BYTES] {
    let block_bytes = manifest.layout().shape().block_bytes();
    Header { object: manifest.object(), shard_index, geometry: manifest.geometry(), block_bytes }.to_bytes()
}

/// Everything that follows the blocks of a shard: leaves, manifest, key share, trailer. It is determined by them to the
/// last bit, so that a repaired file is the byte-identical one. There has to be a leaf for each stripe, and the shard's own
/// key share where the seal has them.
pub fn tail_bytes(manifest: &Manifest, shard_index: u8, leaves: &[Digest], share: Option<&KeyShare>) -> Vec<u8> {
    let tail = ShardFileLayout::of(manifest).tail();
    let mut bytes = Vec::with_capacity((tail.end - tail.start) as usize);
    bytes.extend(leaves.iter().flat_map(|leaf| leaf.0));
    append_end(&mut bytes, manifest, shard_index, share.map_or(&[], |share| &share.bytes));
    bytes
}

/// Whether these bytes are what follows the leaves of a shard. The key share in them is the right one when the manifest
/// says so; everything else is determined.
pub fn is_end(manifest: &Manifest, shard_index: u8, end: &[u8]) -> bool {
    let layout = ShardFileLayout::of(manifest);
    let (whole, share) = (layout.end(), layout.share());
    if end.len() as u64 != whole.end - whole.start {
        return false;
    }
    let share = &end[(share.start - whole.start) as usize..(share.end - whole.start) as usize];
    if !share.is_empty() && manifest.key_share(shard_index, share).is_none() {
        return false;
    }
    let mut expected = Vec::with_capacity(end.len());
    append_end(&mut expected, manifest, shard_index, share);
    expected == end
}

fn append_end(bytes: &mut Vec<u8>, manifest: &Manifest, shard_index: u8, share: &[u8]) {
    let layout = ShardFileLayout::of(manifest);
    let ManifestBytes { public, signature, sealed } = manifest.bytes();
    bytes.extend_from_slice(public);
    bytes.extend_from_slice(signature);
    bytes.extend_from_slice(sealed);
    bytes.extend_from_slice(share);
    let shard_root = manifest.shard_roots().get(usize::from(shard_index)).copied().unwrap_or(Digest([0; 32]));
    let manifest_hash = Digest(blake3::derive_key(MANIFEST_HASH_CONTEXT, public));
    bytes.extend_from_slice(&Trailer { lengths: layout.lengths, shard_root, manifest_hash }.to_bytes());
}

/// The leaves in the leaves section of a shard, in the order of the stripes. They are not trusted; bytes at the end that are
/// no whole leaf are left out.
pub fn leaves_of(leaves_section: &[u8]) -> Vec<Digest> {
    leaves_section.chunks_exact(Digest::BYTES).filter_map(Digest::from_slice).collect()
}

/// Why a shard file's end cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TailError {
    /// The trailer names more bytes than the file has, or more than a section may have.
    #[error("the trailer's lengths do not fit a file of {file_bytes} bytes")]
    Lengths {
        /// The file's length.
        file_bytes: u64,
    },
    /// The bytes given are not the file's last ones that hold the whole manifest.
    #[error("the manifest takes {needed} bytes of the file's end, {given} were given")]
    Short {
        /// How many bytes the manifest and trailer take.
        needed: u64,
        /// How many were given.
        given: u64,
    },
    /// The trailer itself is damaged.
    #[error(transparent)]
    Trailer(#[from] super::trailer::TrailerError),
}

/// Reads the manifest's bytes out of the last bytes of a shard file of `file_bytes`. The lengths are checked against
/// the file and the limits before anything is taken.
pub fn manifest_in_tail(end: &[u8], file_bytes: u64) -> Result<ManifestBytes, TailError> {
    let trailer_start = end.len().saturating_sub(TRAILER_BYTES);
    let lengths = Trailer::from_bytes(&end[trailer_start..])?.lengths;
    let outside = || TailError::Lengths { file_bytes };
    let after_leaves = lengths.manifest().ok_or_else(outside)?;
    let limits_hold = lengths.public <= MAX_PUBLIC_BYTES
        && lengths.signature == SIGNATURE_BYTES
        && lengths.sealed <= MAX_SEALED_BYTES
        && lengths.share <= MAX_SHARE_BYTES;
    let whole = lengths.sum().and_then(|sum| sum.checked_add((HEADER_BYTES + TRAILER_BYTES) as u64));
    if !limits_hold || whole.is_none_or(|whole| whole > file_bytes) {
        return Err(outside());
    }
    let needed = after_leaves + TRAILER_BYTES as u64;
    if needed > end.len() as u64 {
        return Err(TailError::Short { needed, given: end.len() as u64 });
    }
    let mut rest = &end[end.len() - needed as usize..];
    let mut section = |bytes: u64| {
        let (taken, left) = rest.split_at(bytes as usize);
        rest = left;
        taken.to_vec()
    };
    Ok(ManifestBytes {
        public: section(lengths.public),
        signature: section(lengths.signature),
        sealed: section(lengths.sealed),
    })
}
