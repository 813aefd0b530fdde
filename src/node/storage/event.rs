//! What the service tells whoever serves it, to be kept.

use crate::id::{BackendId, NodeId, ShardId};
use crate::peer::storage::ScrubPage;

/// How a challenge for one shard was met here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredChallenge {
    /// Who asked.
    pub asked_by: NodeId,
    /// Whose shard it is.
    pub owner: NodeId,
    /// What the owner calls this place, where it marked it.
    pub backend: Option<BackendId>,
    /// Which shard.
    pub shard: ShardId,
    /// Each block that was asked for.
    pub blocks: Vec<(u64, BlockAnswer)>,
}

/// What became of one block that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockAnswer {
    /// It was shown, and is what its leaf was made of.
    Shown,
    /// It was shown as it is, which is not what its leaf was made of, or the disk could not give it back.
    Damaged,
    /// There is no such shard, or it could not be read.
    Missing,
    /// The disk was busy or not there: nothing is known.
    Silent,
}

/// What a scrub found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredScrub {
    /// Who asked.
    pub asked_by: NodeId,
    /// Whose shards they are.
    pub owner: NodeId,
    /// What the owner calls this place, where it marked it.
    pub backend: Option<BackendId>,
    /// After which shard it began; with the first where there is none.
    pub after: Option<ShardId>,
    /// What was found.
    pub page: ScrubPage,
}

/// A shard that the disk could not give back when it was to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRead {
    /// Who asked.
    pub asked_by: NodeId,
    /// Whose shard it is.
    pub owner: NodeId,
    /// What the owner calls this place, where it marked it.
    pub backend: Option<BackendId>,
    /// Which shard.
    pub shard: ShardId,
}

/// What a store found here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToldDamage {
    /// Who told it.
    pub told_by: NodeId,
    /// Whose shards they are.
    pub owner: NodeId,
    /// How many shards it found damaged or missing.
    pub shard_count: u64,
    /// The first of them.
    pub shards: Vec<ShardId>,
}

/// What happened that is worth keeping: mostly an answer that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StorageEvent {
    /// An answer to a challenge.
    Challenge(AnsweredChallenge),
    /// An answer to a scrub.
    Scrub(AnsweredScrub),
    /// A read that failed on the disk.
    Unread(FailedRead),
    /// Nothing was asked: something was told.
    Told(ToldDamage),
    /// Bytes that are new took the place of a shard's.
    Replaced {
        /// Whose shard it is.
        owner: NodeId,
        /// Which.
        shard: ShardId,
    },
}
