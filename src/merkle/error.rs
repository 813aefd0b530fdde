//! Why something does not hash to what it should.

use super::block::BlockPosition;
use super::challenge::MAX_CHALLENGE_BLOCKS;
use super::proof::{MAX_PROOF_BYTES, SCHEMA};
use crate::id::Digest;

/// Why blocks or roots do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A block that is not the one its leaf was made of.
    #[error("{position} does not match its leaf: it hashes to {found} instead of {expected}")]
    Block {
        /// Where the block should be from.
        position: BlockPosition,
        /// The leaf.
        expected: Digest,
        /// The hash of the block at this position.
        found: Digest,
    },
    /// Not one root per shard.
    #[error("{found} shard roots were given where the geometry has {expected} shards")]
    ShardRootCount {
        /// n.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// A shard that the geometry does not have.
    #[error("there is no shard {shard_index}: the object has {total_shards}, counted from 0")]
    NoSuchShard {
        /// The index.
        shard_index: u8,
        /// n.
        total_shards: usize,
    },
    /// A stripe that the object does not have.
    #[error("there is no stripe {stripe_index}: the object has {stripe_count}, counted from 0")]
    NoSuchStripe {
        /// The index.
        stripe_index: u64,
        /// How many there are.
        stripe_count: u64,
    },
    /// A shard tree that does not have one leaf per stripe.
    #[error("the tree of shard {shard_index} has {leaf_count} leaves where the object has {stripe_count} stripes")]
    LeafCount {
        /// Which shard.
        shard_index: u8,
        /// The leaves of the tree.
        leaf_count: u64,
        /// The stripes of the object.
        stripe_count: u64,
    },
    /// A shard tree that is not the one in the object tree.
    #[error("the tree of shard {shard_index} has the root {found} where the object has {expected}")]
    OtherTree {
        /// Which shard.
        shard_index: u8,
        /// Its root in the object.
        expected: Digest,
        /// The root of the tree that was given.
        found: Digest,
    },
    /// A path that cannot be one from the block.
    #[error("{position} came with a path that leads nowhere")]
    Path {
        /// Where the block should be from.
        position: BlockPosition,
        /// What is wrong with the path.
        source: PathError,
    },
    /// A challenge of no blocks, of more than there are, or over the limit.
    #[error("a challenge picks 1 to {available} blocks here, and at most {MAX_CHALLENGE_BLOCKS}, not {count}")]
    ChallengeSize {
        /// How many were asked for.
        count: u64,
        /// How many there are.
        available: u64,
    },
    /// More blocks than can be counted.
    #[error("{total_shards} shards of {stripe_count} blocks are more than can be counted")]
    Uncountable {
        /// n.
        total_shards: usize,
        /// The blocks of a shard.
        stripe_count: u64,
    },
}

/// Why a path cannot lead from a leaf to a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A leaf past the end.
    #[error("there is no leaf {index}: there are {count}, counted from 0")]
    Index {
        /// The index.
        index: u64,
        /// How many leaves there are.
        count: u64,
    },
    /// Not exactly the nodes that lead from this leaf to the root.
    #[error("the path has {found} nodes where leaf {index} of {count} takes {expected}")]
    Length {
        /// The index of the leaf.
        index: u64,
        /// How many leaves there are.
        count: u64,
        /// The length that leads to the root.
        expected: usize,
        /// The length of the path.
        found: usize,
    },
}

/// Why a proof proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Over [`MAX_PROOF_BYTES`].
    #[error("a proof has at most {MAX_PROOF_BYTES} bytes, this one {bytes}")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// Not the JSON of a proof.
    #[error("not a proof of the schema {SCHEMA}: {reason}")]
    Json {
        /// What is wrong, and where.
        reason: String,
    },
    /// The path through the object tree.
    #[error("in the object tree: {0}")]
    ObjectPath(PathError),
    /// The path through the shard tree.
    #[error("in the shard tree: {0}")]
    ShardPath(PathError),
    /// It leads to another root.
    #[error("the proof leads to the root {found} instead of {expected}")]
    Root {
        /// The root it was checked against.
        expected: Digest,
        /// Where it leads.
        found: Digest,
    },
    /// The block is not the one the proof is about.
    #[error(transparent)]
    Block(Error),
    /// A block was to be checked by a proof about a whole shard.
    #[error("the proof is about the whole of shard {shard_index}, not about a block")]
    NotABlock {
        /// Which shard.
        shard_index: u8,
    },
    /// A challenge was answered more than once at this position.
    #[error("{position} was answered more than once")]
    AnsweredTwice {
        /// Where.
        position: BlockPosition,
    },
}
