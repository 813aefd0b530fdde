//! Verified blocks of consecutive stripes: the preferred shards first, others where these fall short.

use super::place::Place;
use super::{ReadError, Shared};
use crate::id::Digest;
use crate::merkle::{BlockPosition, VerifiedBlock};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// One ranged read takes at most this many bytes of a shard, but at least one block.
const CHUNK_SHARD_BYTES: u64 = 512 * 1024;
/// The blocks of one chunk of stripes together are at most this many bytes, but at least one stripe.
const CHUNK_BYTES: u64 = 2 * 1024 * 1024;

/// Which blocks of a stripe are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Any k that verify, data blocks first; fewer are an error.
    Enough,
    /// Every block of every place; however few of them verify, that is no error.
    All,
}

/// What was found where a block should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockState {
    /// It was not read.
    Unread,
    /// It verified.
    Good,
    /// It was read and did not verify, or its place answered and could not give it.
    Bad,
}

/// The blocks of one stripe.
#[derive(Debug, Clone)]
pub struct StripeBlocks {
    /// Which stripe.
    pub stripe_index: u64,
    /// A verified block for each shard index, where there is one.
    pub blocks: Vec<Option<VerifiedBlock>>,
    /// What was found in each place, in the order of the reader's places.
    pub states: Vec<BlockState>,
}

impl StripeBlocks {
    /// How many shards' blocks verified.
    pub fn good_count(&self) -> usize {
        self.blocks.iter().flatten().count()
    }
}

/// How many stripes go into one chunk, when `places` of each are read.
pub(super) fn stripes_per_chunk(block_bytes: u32, places: usize) -> u64 {
    let block_bytes = u64::from(block_bytes);
    let by_shard = CHUNK_SHARD_BYTES / block_bytes;
    by_shard.min(CHUNK_BYTES / (block_bytes * places.max(1) as u64)).max(1)
}

impl Shared {
    /// Blocks of these stripes. Where too few verify, damaged leaves are resolved and the rest is asked again.
    pub(super) async fn read_chunk(
        self: Arc<Self>,
        stripes: Range<u64>,
        wanted: Wanted,
    ) -> Result<Vec<StripeBlocks>, ReadError> {
        let mut chunk: Vec<StripeBlocks> = stripes.map(|stripe_index| self.empty(stripe_index)).collect();
        if wanted == Wanted::All {
            self.resolve_leaves().await?;
        }
        self.fill(&mut chunk, wanted).await?;
        if wanted == Wanted::Enough && self.first_short(&chunk).is_some() {
            self.resolve_leaves().await?;
            self.fill(&mut chunk, wanted).await?;
            if let Some(short) = self.first_short(&chunk) {
                return Err(self.shortage(short));
            }
        }
        Ok(chunk)
    }

    pub(super) fn empty(&self, stripe_index: u64) -> StripeBlocks {
        StripeBlocks {
            stripe_index,
            blocks: vec![None; self.total_shards()],
            states: vec![BlockState::Unread; self.places.len()],
        }
    }

    pub(super) fn first_short<'a>(&self, chunk: &'a [StripeBlocks]) -> Option<&'a StripeBlocks> {
        chunk.iter().find(|stripe| stripe.good_count() < self.data_shards())
    }

    fn shortage(&self, stripe: &StripeBlocks) -> ReadError {
        let silent = |place: &&Place| place.is_unreachable();
        let indexes: BTreeSet<u8> = self.places.iter().filter(silent).map(|place| place.at.index).collect();
        let absent = |index: &&u8| stripe.blocks.get(usize::from(**index)).is_some_and(Option::is_none);
        let unreachable = indexes.iter().filter(absent).count();
        let (object, stripe_index) = (self.manifest.object(), stripe.stripe_index);
        let (good, needed) = (stripe.good_count(), self.data_shards());
        if good + unreachable >= needed {
            ReadError::Unavailable { object, stripe_index, good, needed, unreachable }
        } else {
            ReadError::Lost { object, stripe_index, good, needed }
        }
    }

    /// Whether a place could have verified blocks; one that does not answer is noted as wanted.
    pub(super) fn may_give(&self, place: usize) -> bool {
        let place = &self.places[place];
        if !place.answers() {
            place.note_wanted();
            return false;
        }
        !self.leaves[usize::from(place.at.index)].are_untrusted()
    }

    /// Reads these stripes' blocks from one place and verifies them. Empty when the place's leaves turn out not to.
    pub(super) async fn ask(
        &self,
        place: usize,
        stripes: Vec<u64>,
    ) -> Result<(usize, Vec<(u64, Option<VerifiedBlock>)>), ReadError> {
        let index = self.places[place].at.index;
        let Some(leaves) = self.stored_leaves(index).await? else { return Ok((place, Vec::new())) };
        let mut outcomes = Vec::with_capacity(stripes.len());
        for run in runs(&stripes) {
            let blocks = self.places[place].blocks(&self.layout(), run.clone()).await;
            outcomes.extend(self.verify(index, run.zip(blocks), &leaves));
        }
        if !self.places[place].answers() {
            outcomes.retain(|(_, block)| block.is_some());
        }
        for (stripe_index, _) in outcomes.iter().filter(|(_, block)| block.is_none()) {
            self.places[place].note_bad(*stripe_index);
        }
        Ok((place, outcomes))
    }

    /// Checks blocks against their leaves, here and now: a hand-over to another thread takes about as long.
    fn verify(
        &self,
        shard_index: u8,
        blocks: impl Iterator<Item = (u64, Option<Bytes>)>,
        leaves: &[Digest],
    ) -> Vec<(u64, Option<VerifiedBlock>)> {
        let object = self.manifest.object();
        let check = |(stripe_index, block): (u64, Option<Bytes>)| {
            let position = BlockPosition { object, shard_index, stripe_index };
            let leaf = usize::try_from(stripe_index).ok().and_then(|stripe| leaves.get(stripe));
            let verified = block.zip(leaf).and_then(|(block, leaf)| VerifiedBlock::check(position, block, leaf).ok());
            (stripe_index, verified)
        };
        blocks.map(check).collect()
    }
}

/// Notes an answer.
pub(super) fn merge(chunk: &mut [StripeBlocks], place: usize, (stripe_index, block): (u64, Option<VerifiedBlock>)) {
    let Some(stripe) = chunk.iter_mut().find(|stripe| stripe.stripe_index == stripe_index) else { return };
    stripe.states[place] = if block.is_some() { BlockState::Good } else { BlockState::Bad };
    if let Some(block) = block {
        let index = usize::from(block.position().shard_index);
        stripe.blocks[index].get_or_insert(block);
    }
}

/// The runs of consecutive numbers in an ascending list.
pub(super) fn runs(stripes: &[u64]) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for stripe_index in stripes {
        match runs.last_mut() {
            Some(run) if run.end == *stripe_index => run.end += 1,
            _ => runs.push(*stripe_index..*stripe_index + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Geometry, MAX_TOTAL_SHARDS};

    #[test]
    fn a_chunk_stays_within_its_bytes_at_every_geometry() {
        for total in 2..=MAX_TOTAL_SHARDS {
            for data in 1..total {
                let block_bytes = Geometry::new(data, total).expect("geometry").block_bytes();
                let stripes = stripes_per_chunk(block_bytes, data);
                assert!(stripes >= 1);
                let bytes = stripes * u64::from(block_bytes) * data as u64;
                assert!(stripes == 1 || bytes <= CHUNK_BYTES, "{data}/{total}");
                assert!(stripes * u64::from(block_bytes) <= CHUNK_SHARD_BYTES);
            }
        }
    }

    #[test]
    fn runs_are_consecutive() {
        assert_eq!(runs(&[]), []);
        assert_eq!(runs(&[3, 4, 9]), [3..5, 9..10]);
        assert_eq!(runs(&[0, 1, 2, 5, 7, 8]), [0..3, 5..6, 7..9]);
    }
}
