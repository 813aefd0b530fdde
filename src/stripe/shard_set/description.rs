//! Everything about a set of shards but the shards.

use super::super::Seal;
use super::super::layout::{Layout, StripeShape};
use super::ShardSetError;
use crate::id::{Digest, Geometry, ObjectId};
use crate::merkle::{self, ObjectBinding};
use serde::{Deserialize, Serialize};

/// Says what the JSON is.
pub const SHARD_SET_SCHEMA: &str = "shard.set/1";

/// What the shards of an object should be. One that exists agrees with its own root; as JSON it is checked when read.
///
/// It has a leaf of 32 bytes for each block, so that each block is checked by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct ShardSetDescription {
    object: ObjectId,
    layout: Layout,
    leaves: Vec<Vec<Digest>>,
    shard_roots: Vec<Digest>,
    root: Digest,
}

/// The JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    schema: Schema,
    binding: ObjectBinding,
    root: Digest,
    leaves: Vec<Vec<Digest>>,
}

#[derive(Serialize, Deserialize)]
enum Schema {
    #[serde(rename = "shard.set/1")]
    V1,
}

impl ShardSetDescription {
    /// From the leaves of each shard: one of each stripe.
    pub(super) fn new(object: ObjectId, layout: Layout, leaves: Vec<Vec<Digest>>) -> Result<Self, ShardSetError> {
        let expected = layout.geometry().total_shards();
        if leaves.len() != expected {
            return Err(ShardSetError::ShardCount { expected, found: leaves.len() });
        }
        let wrong = leaves.iter().position(|leaves| leaves.len() as u64 != layout.stripe_count());
        if let Some(shard_index) = wrong {
            let (expected, found) = (layout.stripe_count(), leaves[shard_index].len());
            return Err(ShardSetError::LeafCount { shard_index, expected, found });
        }
        let shard_roots: Vec<Digest> =
            (0..).zip(&leaves).map(|(index, leaves)| merkle::shard_root(object, index, leaves)).collect();
        let root = merkle::object_root(&binding(object, layout), &shard_roots).expect("there is a root for each shard");
        Ok(Self { object, layout, leaves, shard_roots, root })
    }

    /// The object.
    pub fn object(&self) -> ObjectId {
        self.object
    }

    /// The object's Merkle root.
    pub fn root(&self) -> Digest {
        self.root
    }

    /// The Merkle root of each shard, in their order.
    pub fn shard_roots(&self) -> &[Digest] {
        &self.shard_roots
    }

    /// The leaves of a shard, one for each stripe; `None` where the geometry has no such shard.
    pub fn leaves(&self, index: u8) -> Option<&[Digest]> {
        self.leaves.get(usize::from(index)).map(Vec::as_slice)
    }

    /// k and n.
    pub fn geometry(&self) -> Geometry {
        self.layout.geometry()
    }

    /// Where the data lies in stripes and blocks.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// What the root binds beside the shard roots.
    pub fn binding(&self) -> ObjectBinding {
        binding(self.object, self.layout)
    }

    /// How many bytes of data there are: the payload's, but none where it is the mark of empty data.
    pub fn data_bytes(&self) -> u64 {
        let is_empty = (self.layout.shape().block_bytes(), self.layout.payload_bytes()) == (EMPTY_BLOCK_BYTES, 1);
        if is_empty { 0 } else { self.layout.payload_bytes() }
    }
}

/// The block size that only empty data is encoded with.
const EMPTY_BLOCK_BYTES: u32 = 1;

/// The layout of this many bytes of data, in blocks of `block_bytes` unless there are none.
pub(super) fn layout_for(geometry: Geometry, block_bytes: u32, data_bytes: u64) -> Result<Layout, ShardSetError> {
    let block_bytes = if data_bytes == 0 { EMPTY_BLOCK_BYTES } else { block_bytes };
    let shape = StripeShape::new(geometry, block_bytes, Seal::None.overhead_bytes())?;
    Ok(Layout::new(shape, data_bytes.max(1))?)
}

fn binding(object: ObjectId, layout: Layout) -> ObjectBinding {
    ObjectBinding {
        object,
        geometry: layout.geometry(),
        block_bytes: layout.shape().block_bytes(),
        seal: Seal::None.code(),
        stripe_count: layout.stripe_count(),
        payload_bytes: layout.payload_bytes(),
    }
}

impl From<ShardSetDescription> for Stored {
    fn from(description: ShardSetDescription) -> Self {
        let binding = description.binding();
        Self { schema: Schema::V1, binding, root: description.root, leaves: description.leaves }
    }
}

impl TryFrom<Stored> for ShardSetDescription {
    type Error = ShardSetError;

    fn try_from(stored: Stored) -> Result<Self, ShardSetError> {
        let Stored { schema: Schema::V1, binding, root: expected, leaves } = stored;
        if binding.seal != Seal::None.code() {
            return Err(ShardSetError::Seal { found: binding.seal });
        }
        let shape = StripeShape::new(binding.geometry, binding.block_bytes, Seal::None.overhead_bytes())?;
        let layout = Layout::new(shape, binding.payload_bytes)?;
        if layout.stripe_count() != binding.stripe_count {
            return Err(ShardSetError::StripeCount { expected: layout.stripe_count(), found: binding.stripe_count });
        }
        let description = Self::new(binding.object, layout, leaves)?;
        let found = description.root;
        if found == expected { Ok(description) } else { Err(ShardSetError::Root { expected, found }) }
    }
}
