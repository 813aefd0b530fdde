//! Asks places that show blocks with their paths for the drawn ones, so that nothing else moves from where all is well.

use super::read::{BLOCKS_AT_ONCE, Present, Reading};
use crate::backend::{self, ErrorKind, ShardChallenge, ShownBlock};
use crate::error::{self, Error, Result};
use crate::format::{HEADER_BYTES, Manifest, ShardFileLayout};
use crate::id::{Digest, MAX_BLOCK_BYTES, ShardId};
use crate::merkle::{BlockPosition, BlockSpans, VerifiedBlock};
use futures_util::{StreamExt, stream};
use std::collections::BTreeMap;

/// How many challenges are under way at once.
const CHALLENGES_AT_ONCE: usize = 2;
/// About how many bytes one asks for: as many blocks of the usual size as are read at once otherwise.
const CHALLENGE_BYTES: u64 = BLOCKS_AT_ONCE as u64 * MAX_BLOCK_BYTES as u64 / CHALLENGES_AT_ONCE as u64;
/// The most blocks that one asks for.
const MOST_BLOCKS: u64 = 64;
/// What all that are under way hold.
pub(super) const HELD_BYTES: u64 = CHALLENGE_BYTES * CHALLENGES_AT_ONCE as u64;

/// What came of asking for the drawn blocks of one copy.
enum Shown {
    /// The place shows nothing.
    Nothing,
    /// All of them are right: so many bytes.
    All(u64),
    /// Not all of them; so many bytes came. Leaves and blocks say what is wrong.
    Doubtful(u64),
    /// It stopped answering.
    Gone(backend::Error),
}

/// Asks every copy for its drawn blocks, notes those of which all are right, and gives the numbers of these copies, each with
/// how many blocks were. About the leaves nothing more is to be known from two blocks on: with another leaf on its way, no path
/// leads to the signed root, and a block's own leaf is on the way of the other.
pub(super) async fn ask(
    manifest: &Manifest,
    present: &[Present<'_>],
    reading: &mut Reading,
    positions: &[BlockPosition],
) -> Result<BTreeMap<usize, usize>> {
    let expected_bytes = ShardFileLayout::of(manifest).file_bytes();
    let Some(spans) = spans(manifest) else { return Ok(BTreeMap::new()) };
    let whole: Vec<&Present<'_>> = present.iter().filter(|copy| copy.file_bytes == expected_bytes).collect();
    let asked = whole.into_iter().map(|copy| async move {
        let of_it = positions.iter().filter(|position| position.shard_index == copy.copy.index);
        let stripes: Vec<u64> = of_it.map(|position| position.stripe_index).collect();
        let shown = challenge(copy, (manifest, spans), &stripes).await;
        shown.map(|shown| (copy.number, stripes, shown))
    });
    let mut answers = stream::iter(asked.collect::<Vec<_>>()).buffer_unordered(CHALLENGES_AT_ONCE);
    let mut right = BTreeMap::new();
    while let Some(answer) = answers.next().await {
        let (number, stripes, shown) = answer?;
        match shown {
            Shown::Nothing => {}
            Shown::All(bytes) => {
                reading.bytes_read += bytes;
                reading.blocks_checked += stripes.len() as u64;
                stripes.iter().for_each(|stripe| reading.copies[number].note(*stripe, true));
                right.insert(number, stripes.len());
            }
            Shown::Doubtful(bytes) => reading.bytes_read += bytes,
            Shown::Gone(error) => reading.note_gone(number, &error),
        }
    }
    Ok(right)
}

/// `None` where the shards of an object are beyond what can be challenged.
fn spans(manifest: &Manifest) -> Option<BlockSpans> {
    let layout = manifest.layout();
    let last = layout.stripe_count().checked_sub(1)?;
    let (block_bytes, last_bytes) = (layout.shape().block_bytes(), layout.block_bytes(last));
    BlockSpans::new(HEADER_BYTES as u64, block_bytes, last_bytes, layout.stripe_count())
}

async fn challenge(copy: &Present<'_>, (manifest, spans): (&Manifest, BlockSpans), stripes: &[u64]) -> Result<Shown> {
    let shard = ShardId { object: manifest.object(), index: copy.copy.index };
    let root = manifest.shard_roots()[usize::from(shard.index)];
    let at_once = (CHALLENGE_BYTES / u64::from(spans.block_bytes())).clamp(1, MOST_BLOCKS) as usize;
    // A copy of which no block was drawn has shown nothing that proves its leaves.
    if stripes.is_empty() {
        return Ok(Shown::Nothing);
    }
    let mut bytes = 0;
    for stripes in stripes.chunks(at_once) {
        let shown = match copy.backend.challenge(shard, &ShardChallenge { spans, stripes: stripes.to_vec() }).await {
            Ok(Some(shown)) => shown,
            Ok(None) if bytes == 0 => return Ok(Shown::Nothing),
            Ok(None) => return Ok(Shown::Doubtful(bytes)),
            Err(error) if matches!(error.kind, ErrorKind::OutOfRange | ErrorKind::Failed) => {
                return Ok(Shown::Doubtful(bytes));
            }
            Err(error) => return Ok(Shown::Gone(error)),
        };
        bytes += shown.iter().map(|shown| (shown.block.len() + shown.path.len() * Digest::BYTES) as u64).sum::<u64>();
        if !are_right(shard, stripes.to_vec(), shown, (spans, root)).await? {
            return Ok(Shown::Doubtful(bytes));
        }
    }
    Ok(Shown::All(bytes))
}

async fn are_right(
    shard: ShardId,
    stripes: Vec<u64>,
    shown: Vec<ShownBlock>,
    (spans, root): (BlockSpans, Digest),
) -> Result<bool> {
    let check = move || {
        let is_right = |(stripe_index, shown): (u64, ShownBlock)| {
            let position = BlockPosition { object: shard.object, shard_index: shard.index, stripe_index };
            let checked = VerifiedBlock::check_path(position, shown.block, &shown.path, (spans.stripe_count(), &root));
            checked.is_ok()
        };
        stripes.len() == shown.len() && stripes.into_iter().zip(shown).all(is_right)
    };
    let stopped = |error| Error::new(error::ErrorKind::Cancelled, "hashing was stopped").with_source(error);
    tokio::task::spawn_blocking(check).await.map_err(stopped)
}
