//! Clause 15: blocks that are shown with their paths.

use super::super::{Backend, ErrorKind, ShardChallenge, ShownBlock};
use super::{expect_kind, pattern, put, put_over, shard};
use crate::merkle::{BlockPosition, BlockSpans, VerifiedBlock, leaf, shard_root};
use bytes::Bytes;
use std::sync::Arc;

/// Of the blocks, the last of which is shorter.
const BLOCK_BYTES: usize = 10_000;
const LAST_BLOCK_BYTES: usize = 77;
const BLOCKS: usize = 70;
/// What stands before the first.
const START: usize = 64;

/// Clause 15: each block with its path, as stored; what is damaged leads to another root.
pub async fn clause_15_a_challenge_shows_blocks_with_their_paths(backend: &Arc<dyn Backend>) {
    let shard = shard(15);
    let position = |stripe_index: usize| BlockPosition {
        object: shard.object,
        shard_index: shard.index,
        stripe_index: stripe_index as u64,
    };
    let blocks = pattern(15, START + (BLOCKS - 1) * BLOCK_BYTES + LAST_BLOCK_BYTES);
    let chunks: Vec<&[u8]> = blocks[START..].chunks(BLOCK_BYTES).collect();
    let leaves: Vec<_> = chunks.iter().enumerate().map(|(stripe, block)| leaf(position(stripe), block)).collect();
    let root = shard_root(shard.object, shard.index, &leaves);
    let mut whole = blocks.to_vec();
    whole.extend(leaves.iter().flat_map(|leaf| leaf.0));
    let spans = BlockSpans::new(START as u64, BLOCK_BYTES as u32, LAST_BLOCK_BYTES as u32, BLOCKS as u64);
    let stripes: Vec<u64> = vec![0, 1, 33, BLOCKS as u64 - 1];
    let challenge = ShardChallenge { spans: spans.expect("within the limits"), stripes: stripes.clone() };
    let ask = async || backend.challenge(shard, &challenge).await;
    let absent = ask().await;
    if matches!(absent, Ok(None)) {
        // Where it shows nothing at all, there is nothing to hold.
        return;
    }
    expect_kind(absent, ErrorKind::NotFound, "clause 15: a shard that is not there");
    put(&**backend, shard, &Bytes::from(whole.clone())).await.expect("clause 15: put");
    let rights = async || {
        let shown = ask().await.expect("clause 15: challenge").expect("clause 15: it showed something before");
        assert_eq!(shown.len(), stripes.len(), "clause 15: as many as were asked for");
        let is_right = |(stripe, shown): (&u64, ShownBlock)| {
            let (at, count) = (position(*stripe as usize), BLOCKS as u64);
            VerifiedBlock::check_path(at, shown.block, &shown.path, (count, &root)).is_ok()
        };
        stripes.iter().zip(shown).map(is_right).collect::<Vec<_>>()
    };
    assert_eq!(rights().await, [true; 4], "clause 15");
    // A block that was not asked for makes no difference, one that was is seen, and so is any leaf on the way of a path.
    for (at, expected) in [
        (START + 5 * BLOCK_BYTES, [true; 4]),
        (START + 33 * BLOCK_BYTES, [true, true, false, true]),
        (blocks.len() + 40 * 32, [false; 4]),
    ] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        put_over(&**backend, shard, &damaged.into()).await.expect("clause 15: put over");
        assert_eq!(rights().await, expected, "clause 15: damage at {at}");
    }
    let short = Bytes::from(whole[..whole.len() - 1].to_vec());
    put_over(&**backend, shard, &short).await.expect("clause 15: put over");
    expect_kind(ask().await, ErrorKind::OutOfRange, "clause 15: leaves that go on after the end");
}
