//! What a place is asked to show of a shard, and what it shows.

use crate::id::Digest;
use crate::merkle::BlockSpans;
use bytes::Bytes;

/// Blocks of a shard that are to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardChallenge {
    /// Where blocks and leaves are in the shard.
    pub spans: BlockSpans,
    /// Which blocks, in ascending order.
    pub stripes: Vec<u64>,
}

/// A block as the place has it. It is the right one if [`VerifiedBlock::check_path`](crate::merkle::VerifiedBlock::check_path)
/// says so, with what the signed manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownBlock {
    /// Its bytes.
    pub block: Bytes,
    /// The siblings from its leaf up to the root of the shard's tree.
    pub path: Vec<Digest>,
}
