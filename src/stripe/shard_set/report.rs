//! What was found in a set of shards, and what was done about it.

use crate::id::{Geometry, ObjectId};
use serde::{Deserialize, Serialize};

/// What is right and wrong in a set of shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntegrityReport {
    /// The object.
    pub object: ObjectId,
    /// Its k and n.
    #[serde(flatten)]
    pub geometry: Geometry,
    /// Every shard is there, and every block of it is right.
    pub valid: bool,
    /// Every stripe has k blocks that are right: the data can be had, and the set repaired.
    pub recoverable: bool,
    /// The shards that are there but have a wrong length or a wrong block, in their order.
    pub damaged: Vec<u8>,
    /// The shards that are not there, in their order.
    pub missing: Vec<u8>,
    /// The blocks that are wrong or cut off in shards that are there.
    pub bad_blocks: u64,
    /// The stripes with fewer than k blocks that are right, in their order.
    pub lost_stripes: Vec<u64>,
    /// How many more shards may be lost, whichever they are, before data is; `None` when some already is.
    pub margin: Option<usize>,
}

/// What a repair made anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairReport {
    /// The object.
    pub object: ObjectId,
    /// The shards that were damaged or missing and are whole again, in their order.
    pub rebuilt: Vec<u8>,
    /// The blocks that were computed for them.
    pub rebuilt_blocks: u64,
    /// Their bytes.
    pub rebuilt_bytes: u64,
}

/// How much there is in a set of shards.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ShardSetStats {
    /// Bytes of data.
    pub data_bytes: u64,
    /// Bytes of each shard, when it is whole.
    pub shard_bytes: u64,
    /// Stripes, and so blocks in each shard.
    pub stripe_count: u64,
    /// Shards that are there.
    pub present_shards: usize,
    /// Their bytes.
    pub stored_bytes: u64,
    /// Bytes stored per byte of data; `None` for empty data.
    pub overhead: Option<f64>,
}
