//! Shows blocks of a shard, each with the path that the stored leaves give.

use super::refusal::Refusal;
use crate::backend::LocalShard;
use crate::id::{Digest, ShardId};
use crate::merkle::{BlockPosition, BlockSpans, leaf, leaf_paths};
use crate::peer::storage::RefusalKind;
use bytes::Bytes;

/// What is to be shown of one shard, before any block of it was read.
#[derive(Debug)]
pub(super) struct Showing {
    shard: ShardId,
    opened: LocalShard,
    /// Of each block: which it is, its leaf as stored, and the path from there.
    blocks: Vec<(u64, Digest, Vec<Digest>)>,
    spans: BlockSpans,
}

impl Showing {
    /// Reads the leaves, which take at most 2 MiB, and keeps the paths alone.
    pub(super) async fn begin(
        (shard, opened): (ShardId, LocalShard),
        spans: BlockSpans,
        stripes: Vec<u64>,
    ) -> Result<Self, Refusal> {
        let section = spans.leaves();
        if section.end > opened.bytes() {
            let reason = format!("the shard has {} bytes", opened.bytes());
            return Err(Refusal::new(RefusalKind::OutOfRange, reason));
        }
        let section = opened.read(section).await?;
        let find = move || {
            let leaves: Vec<Digest> = section.chunks_exact(Digest::BYTES).filter_map(Digest::from_slice).collect();
            let paths = leaf_paths(&leaves, &stripes)?;
            let leaf_of = |stripe: &u64| leaves.get(usize::try_from(*stripe).ok()?).copied();
            let stored: Vec<Digest> = stripes.iter().map(leaf_of).collect::<Option<_>>()?;
            Some(
                stripes.into_iter().zip(stored).zip(paths).map(|((stripe, leaf), path)| (stripe, leaf, path)).collect(),
            )
        };
        let found = tokio::task::spawn_blocking(find).await.ok().flatten();
        let blocks = found.ok_or_else(|| Refusal::new(RefusalKind::OutOfRange, "the shard has no such block"))?;
        Ok(Self { shard, opened, blocks, spans })
    }

    /// The number of blocks.
    pub(super) fn count(&self) -> usize {
        self.blocks.len()
    }

    /// Which block it is.
    pub(super) fn stripe(&self, number: usize) -> Option<u64> {
        self.blocks.get(number).map(|(stripe, ..)| *stripe)
    }

    /// Reads a block of them: which it is, its path, its bytes, and whether these are those that its leaf was made of.
    pub(super) async fn block(&self, number: usize) -> Result<(u64, &[Digest], Bytes, bool), Refusal> {
        let missing = || Refusal::new(RefusalKind::OutOfRange, "the shard has no such block");
        let (stripe_index, stored, path) = self.blocks.get(number).ok_or_else(missing)?;
        let block = self.opened.read(self.spans.block(*stripe_index).ok_or_else(missing)?).await?;
        let position =
            BlockPosition { object: self.shard.object, shard_index: self.shard.index, stripe_index: *stripe_index };
        let is_right = leaf(position, &block) == *stored;
        Ok((*stripe_index, path, block, is_right))
    }
}
