//! Bytes in memory as shards: encode them, find out what is damaged, get them back, make them whole again.
//!
//! *What it is.* [`ShardSet`], n places for shards and a [`ShardSetDescription`] of what belongs there, and the methods
//! of [`ErasureCodec`] that take one: `encode`, `verify`, `decode`, `repair`.
//!
//! *What it knows.* Stripes, leaves, roots and proofs of one object without a seal.
//!
//! *What it does not know.* Files, manifests, signatures, indexes, backends. A shard here is its blocks alone, without the
//! header and the manifest that a shard file has.
//!
//! *Invariants.* A description that exists agrees with its own root. Nothing is decoded from a block that does not match
//! its leaf. Every stripe is judged by itself: it is recoverable while any k of its blocks are right, in whichever shards.
//! A repair that fails changes nothing.
//!
//! # Empty data
//!
//! A payload has at least one byte. Empty data is therefore one zero byte in blocks of one byte: no other data is encoded
//! with such blocks, and the object root binds their length, so that empty data is never taken for anything else. Its description alone gives it back.

mod coding;
mod description;
mod error;
mod report;
#[cfg(test)]
mod tests;

pub use description::{SHARD_SET_SCHEMA, ShardSetDescription};
pub use error::ShardSetError;
pub use report::{IntegrityReport, RepairReport, ShardSetStats};

use super::layout::Layout;
use crate::codec::ErasureCodec;
use crate::id::{Digest, Geometry, ObjectId};
use crate::merkle::{self, MerkleProof, ShardTree};
use bytes::Bytes;

/// The shards of one object, as far as they are there, and what they should be.
///
/// Shards are untrusted: any of them may be absent, damaged or of a wrong length. The description is trusted; who got it
/// from elsewhere compares its [`root`](ShardSetDescription::root) with one that was kept.
///
/// ```
/// use shard::{ErasureCodec, RedundancyLevel, ShardSet};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let codec = ErasureCodec::new(RedundancyLevel::Personal);
/// let set = codec.encode(b"what must not be lost")?;
///
/// // The description goes where it is safe, the shards go anywhere.
/// let description = serde_json::to_string(set.description())?;
/// let mut shards = set.into_shards();
/// shards[0] = None;
/// shards[4] = None;
///
/// let found = ShardSet::from_parts(serde_json::from_str(&description)?, shards)?;
/// assert_eq!(codec.decode(&found)?, b"what must not be lost");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardSet {
    description: ShardSetDescription,
    shards: Vec<Option<Bytes>>,
}

impl ShardSet {
    /// Puts shards beside their description: n places, `None` where a shard is absent. What is in the shards is not
    /// looked at; an error unless there are n places.
    pub fn from_parts(description: ShardSetDescription, shards: Vec<Option<Bytes>>) -> Result<Self, ShardSetError> {
        let (expected, found) = (description.geometry().total_shards(), shards.len());
        if found != expected {
            return Err(ShardSetError::ShardCount { expected, found });
        }
        Ok(Self { description, shards })
    }

    /// Everything but the shards: enough, with any k of them, to get the data back.
    pub fn description(&self) -> &ShardSetDescription {
        &self.description
    }

    /// The object that the shards are of.
    pub fn object(&self) -> ObjectId {
        self.description.object()
    }

    /// The object's Merkle root, which binds every shard and the shape of them.
    pub fn root(&self) -> Digest {
        self.description.root()
    }

    /// k and n.
    pub fn geometry(&self) -> Geometry {
        self.description.geometry()
    }

    /// Where the data lies in stripes and blocks.
    pub fn layout(&self) -> Layout {
        self.description.layout()
    }

    /// The n places, in the order of the shards.
    pub fn shards(&self) -> &[Option<Bytes>] {
        &self.shards
    }

    /// The n places, to keep.
    pub fn into_shards(self) -> Vec<Option<Bytes>> {
        self.shards
    }

    /// The shard of this index, if it is there.
    pub fn shard(&self, index: u8) -> Option<&Bytes> {
        self.shards.get(usize::from(index))?.as_ref()
    }

    /// The block of a stripe in a shard, if the shard is there and long enough. Shares the shard's memory; it is not
    /// verified.
    pub fn block(&self, index: u8, stripe_index: u64) -> Option<Bytes> {
        let layout = self.layout();
        if stripe_index >= layout.stripe_count() {
            return None;
        }
        let shard = self.shard(index)?;
        let start = usize::try_from(layout.block_offset(stripe_index)).ok()?;
        let end = start.checked_add(layout.block_bytes(stripe_index) as usize)?;
        (end <= shard.len()).then(|| shard.slice(start..end))
    }

    /// Takes the shard of this index out, if it is there.
    pub fn remove(&mut self, index: u8) -> Option<Bytes> {
        self.shards.get_mut(usize::from(index))?.take()
    }

    /// Puts a shard in its place, whatever it holds, and gives what was there; an error where the geometry has no such
    /// shard.
    pub fn insert(&mut self, index: u8, shard: impl Into<Bytes>) -> Result<Option<Bytes>, ShardSetError> {
        let total_shards = self.shards.len();
        let place = self.shards.get_mut(usize::from(index));
        let place = place.ok_or(ShardSetError::NoSuchShard { index, total_shards })?;
        Ok(place.replace(shard.into()))
    }

    /// Proves, to whoever knows the object root, which root the shard of this index has. The shard need not be there.
    pub fn proof(&self, index: u8) -> merkle::Result<MerkleProof> {
        MerkleProof::of_shard(self.description.binding(), index, self.description.shard_roots())
    }

    /// Proves, to whoever knows the object root, which leaf the block of a stripe has, and so what its bytes are.
    ///
    /// ```
    /// # use shard::{ErasureCodec, MerkleProof, RedundancyLevel};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let set = ErasureCodec::new(RedundancyLevel::Minimal).encode(b"bytes that someone else keeps")?;
    /// let (root, block) = (set.root(), set.block(2, 0).expect("there is such a block"));
    ///
    /// let json = set.block_proof(2, 0)?.to_json();
    /// MerkleProof::from_json(json.as_bytes())?.verify_block(&root, &block)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn block_proof(&self, index: u8, stripe_index: u64) -> merkle::Result<MerkleProof> {
        let total_shards = self.shards.len();
        let leaves = self.description.leaves(index);
        let leaves = leaves.ok_or(merkle::Error::NoSuchShard { shard_index: index, total_shards })?;
        let tree = ShardTree::new(self.object(), index, leaves.to_vec());
        MerkleProof::of_block(self.description.binding(), self.description.shard_roots(), &tree, stripe_index)
    }

    /// How much there is of it.
    pub fn stats(&self) -> ShardSetStats {
        let (layout, data_bytes) = (self.layout(), self.description.data_bytes());
        let stored_bytes = self.shards.iter().flatten().map(|shard| shard.len() as u64).sum();
        ShardSetStats {
            data_bytes,
            shard_bytes: layout.shard_blocks_bytes(),
            stripe_count: layout.stripe_count(),
            present_shards: self.shards.iter().flatten().count(),
            stored_bytes,
            overhead: (data_bytes > 0).then(|| stored_bytes as f64 / data_bytes as f64),
        }
    }

    fn check_geometry(&self, codec: &ErasureCodec) -> Result<(), ShardSetError> {
        let (codec, set) = (codec.geometry(), self.geometry());
        if codec == set { Ok(()) } else { Err(ShardSetError::Geometry { codec, set }) }
    }
}
