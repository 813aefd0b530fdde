//! Why blocks cannot be coded.

/// What is wrong with the blocks that were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The blocks have no bytes.
    #[error("blocks of 0 bytes cannot be coded")]
    Empty,
    /// A contiguous stripe does not divide into blocks.
    #[error("a stripe of {stripe_bytes} bytes does not divide into {total_shards} equal blocks")]
    StripeLength {
        /// Its length.
        stripe_bytes: usize,
        /// n.
        total_shards: usize,
    },
    /// Not one place per shard.
    #[error("{found} blocks were given where the geometry has {expected}")]
    BlockCount {
        /// n.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// Blocks of different lengths.
    #[error("block {index} has {bytes} bytes where the blocks before it have {expected_bytes}")]
    BlockLength {
        /// Which block.
        index: usize,
        /// Its length.
        bytes: usize,
        /// The length of the first block there is.
        expected_bytes: usize,
    },
    /// Fewer than k blocks are present.
    #[error("too few blocks: {present} are present, {needed} are needed")]
    TooFew {
        /// How many are present.
        present: usize,
        /// k.
        needed: usize,
    },
    /// A wanted index that the geometry does not have.
    #[error("block {index} is wanted, but there are only {total_shards}, counted from 0")]
    NoSuchBlock {
        /// The index.
        index: u8,
        /// n.
        total_shards: usize,
    },
    /// A wanted block that is not absent.
    #[error("block {index} is wanted, but it is present")]
    Present {
        /// Which block.
        index: u8,
    },
    /// A block that is wanted more than once.
    #[error("block {index} is wanted twice")]
    WantedTwice {
        /// Which block.
        index: u8,
    },
    /// Not one place per wanted block.
    #[error("{found} places were given for {expected} wanted blocks")]
    PlaceCount {
        /// How many blocks are wanted.
        expected: usize,
        /// How many places were given.
        found: usize,
    },
}
