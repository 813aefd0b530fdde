//! Where the blocks of a shard lie one after another, with their leaves right behind; and the paths that these leaves give.

use super::challenge::MAX_CHALLENGE_BLOCKS;
use super::hash::ShardNodes;
use crate::id::{Digest, MAX_BLOCK_BYTES};
use rs_merkle::Hasher;
use std::ops::Range;

/// Where blocks and leaves of one shard are; one that exists is within the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSpans {
    start: u64,
    block_bytes: u32,
    last_block_bytes: u32,
    stripe_count: u64,
}

impl BlockSpans {
    /// Blocks of `block_bytes` from `start` on, the last of them with `last_block_bytes`, and then as many leaves. `None`
    /// beyond what a shard can have: [`MAX_CHALLENGE_BLOCKS`] blocks of [`MAX_BLOCK_BYTES`].
    pub fn new(start: u64, block_bytes: u32, last_block_bytes: u32, stripe_count: u64) -> Option<Self> {
        let is_sound = (1..=MAX_BLOCK_BYTES).contains(&block_bytes)
            && (1..=block_bytes).contains(&last_block_bytes)
            && (1..=MAX_CHALLENGE_BLOCKS).contains(&stripe_count)
            // All of it together is 16 GiB at most.
            && start <= u64::from(u32::MAX);
        is_sound.then_some(Self { start, block_bytes, last_block_bytes, stripe_count })
    }

    /// Where the first block begins.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The length of every block but the last.
    pub fn block_bytes(&self) -> u32 {
        self.block_bytes
    }

    /// The length of the last block.
    pub fn last_block_bytes(&self) -> u32 {
        self.last_block_bytes
    }

    /// How many blocks there are, and how many leaves.
    pub fn stripe_count(&self) -> u64 {
        self.stripe_count
    }

    /// Where a block is; `None` if there is no such stripe.
    pub fn block(&self, stripe_index: u64) -> Option<Range<u64>> {
        let is_last = stripe_index.checked_add(1)? == self.stripe_count;
        let bytes = if is_last { self.last_block_bytes } else { self.block_bytes };
        let start = self.start + stripe_index.min(self.stripe_count) * u64::from(self.block_bytes);
        (stripe_index < self.stripe_count).then(|| start..start + u64::from(bytes))
    }

    /// Where the leaves are.
    pub fn leaves(&self) -> Range<u64> {
        let last = self.stripe_count - 1;
        let start = self.start + last * u64::from(self.block_bytes) + u64::from(self.last_block_bytes);
        start..start + self.stripe_count * Digest::BYTES as u64
    }
}

/// The siblings from each of these leaves up to the root of the tree over all of them, in their order; `None` if there is no
/// such leaf. Holds one layer of the tree at a time, and not the tree.
pub fn leaf_paths(leaves: &[Digest], stripes: &[u64]) -> Option<Vec<Vec<Digest>>> {
    let at = |stripe: &u64| usize::try_from(*stripe).ok().filter(|at| *at < leaves.len());
    let mut positions: Vec<usize> = stripes.iter().map(at).collect::<Option<_>>()?;
    let mut paths = vec![Vec::new(); stripes.len()];
    let mut layer = leaves.to_vec();
    while layer.len() > 1 {
        for (position, path) in positions.iter_mut().zip(&mut paths) {
            path.extend(layer.get(*position ^ 1));
            *position /= 2;
        }
        let join = |pair: &[Digest]| match pair {
            [left, right] => Digest(ShardNodes::concat_and_hash(&left.0, Some(&right.0))),
            lone => lone[0],
        };
        layer = layer.chunks(2).map(join).collect();
    }
    Some(paths)
}

#[cfg(test)]
mod tests {
    use super::super::proof::tests::SampleObject;
    use super::super::{BlockPosition, VerifiedBlock};
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    #[test]
    fn spans_lie_one_after_another_and_beyond_the_limits_there_are_none() {
        let spans = BlockSpans::new(64, 100, 7, 3).expect("sound");
        assert_eq!([0, 1, 2].map(|stripe| spans.block(stripe)), [Some(64..164), Some(164..264), Some(264..271)]);
        assert_eq!(
            (spans.start(), spans.block_bytes(), spans.last_block_bytes(), spans.stripe_count()),
            (64, 100, 7, 3)
        );
        assert_eq!((spans.block(3), spans.block(u64::MAX), spans.leaves()), (None, None, 271..271 + 96));
        for (start, block, last, count) in [
            (0, 0, 0, 1),
            (0, MAX_BLOCK_BYTES + 1, 1, 1),
            (0, 10, 0, 1),
            (0, 10, 11, 1),
            (0, 10, 10, 0),
            (0, 10, 10, MAX_CHALLENGE_BLOCKS + 1),
            (u64::MAX, 10, 10, 1),
            (u64::from(u32::MAX) + 1, 10, 10, 1),
        ] {
            assert_eq!(BlockSpans::new(start, block, last, count), None, "{start} {block} {last} {count}");
        }
        let largest = BlockSpans::new(u64::from(u32::MAX), MAX_BLOCK_BYTES, MAX_BLOCK_BYTES, MAX_CHALLENGE_BLOCKS);
        assert!(largest.expect("sound").leaves().end < u64::from(u32::MAX) * 6);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_path_leads_from_its_block_to_the_shards_root_and_from_no_other(
            stripe_count in 1_u64..40, changed in any::<u64>(), bit in 0_u8..8,
        ) {
            let object = SampleObject::new(3, stripe_count);
            let (tree, root) = (&object.trees[1], object.shard_roots[1]);
            let stripes: Vec<u64> = (0..stripe_count).rev().collect();
            let paths = leaf_paths(tree.leaves(), &stripes).expect("they are there");
            prop_assert_eq!(leaf_paths(tree.leaves(), &[0, stripe_count]), None);
            for (stripe_index, path) in stripes.into_iter().zip(&paths) {
                prop_assert_eq!(tree.path(stripe_index).map(|(_, path)| path), Some(path.clone()));
                let position = BlockPosition { object: object.binding.object, shard_index: 1, stripe_index };
                let block = Bytes::from(SampleObject::block(1, stripe_index));
                let check = |position, block, path: &[Digest], count| {
                    VerifiedBlock::check_path(position, block, path, (count, &root)).is_ok()
                };
                prop_assert!(check(position, block.clone(), path, stripe_count));
                prop_assert!(!check(position, block.clone(), path, stripe_count + 1));
                let elsewhere = BlockPosition { shard_index: 0, ..position };
                prop_assert!(!check(elsewhere, block.clone(), path, stripe_count));
                let mut other = block.to_vec();
                other[changed as usize % block.len()] ^= 1 << bit;
                prop_assert!(!check(position, other.into(), path, stripe_count));
                let mut longer = path.clone();
                longer.push(root);
                prop_assert!(!check(position, block.clone(), &longer, stripe_count));
                if !path.is_empty() {
                    let mut wrong = path.clone();
                    wrong[changed as usize % path.len()].0[changed as usize % 32] ^= 1 << bit;
                    prop_assert!(!check(position, block.clone(), &wrong, stripe_count));
                    prop_assert!(!check(position, block, &path[1..], stripe_count));
                }
            }
        }
    }
}
