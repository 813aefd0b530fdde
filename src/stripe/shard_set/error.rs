//! Why a set of shards cannot be made, described, read or repaired.

use super::super::{DecodeError, EncodeError, LayoutError};
use crate::id::{Digest, Geometry};

/// What is wrong with a set of shards, or with what was asked of it. Damage within what the geometry survives is none.
#[derive(Debug, thiserror::Error)]
pub enum ShardSetError {
    /// A codec of another geometry.
    #[error("a codec of {codec} cannot work on shards of {set}")]
    Geometry {
        /// The codec's geometry.
        codec: Geometry,
        /// The set's.
        set: Geometry,
    },
    /// Not one place per shard.
    #[error("{found} places for shards were given where the geometry has {expected}")]
    ShardCount {
        /// n.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// A shard that the geometry does not have.
    #[error("there is no shard {index}: there are {total_shards}, counted from 0")]
    NoSuchShard {
        /// The index.
        index: u8,
        /// n.
        total_shards: usize,
    },
    /// Fewer than k blocks of a stripe are right.
    #[error("stripe {stripe_index} is lost: {good_blocks} of its blocks are right, {needed} are needed")]
    Lost {
        /// The first such stripe.
        stripe_index: u64,
        /// How many of its blocks are right.
        good_blocks: usize,
        /// k.
        needed: usize,
    },
    /// A range that is not inside the data.
    #[error("bytes {start} to {end} are not inside data of {data_bytes} bytes")]
    Range {
        /// The first byte asked for.
        start: u64,
        /// Where the range ends, exclusive.
        end: u64,
        /// How many bytes there are.
        data_bytes: u64,
    },
    /// The blocks all match their leaves and yet are not one stripe: whoever described them did not encode them.
    #[error("block {shard_index} of stripe {stripe_index}, computed from the others, does not match its leaf")]
    NotCoded {
        /// Which shard.
        shard_index: u8,
        /// Which stripe.
        stripe_index: u64,
    },
    /// The data is too long, or a description names lengths that nothing has.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A description of something sealed; a set of shards is not.
    #[error("a set of shards has the seal 0, not {found}")]
    Seal {
        /// What the description says.
        found: u8,
    },
    /// A description whose number of stripes is not the one that its lengths give.
    #[error("the description names {found} stripes where its lengths give {expected}")]
    StripeCount {
        /// What follows from the lengths.
        expected: u64,
        /// What the description says.
        found: u64,
    },
    /// A description whose leaves are not one per stripe.
    #[error("shard {shard_index} is described with {found} leaves where the layout has {expected} stripes")]
    LeafCount {
        /// Which shard.
        shard_index: usize,
        /// How many stripes there are.
        expected: u64,
        /// How many leaves there are.
        found: usize,
    },
    /// A description that contradicts its own root.
    #[error("the description leads to the root {found} where it names {expected}")]
    Root {
        /// The root it names.
        expected: Digest,
        /// Where its leaves lead.
        found: Digest,
    },
    /// A stripe was not encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A stripe was not decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}
