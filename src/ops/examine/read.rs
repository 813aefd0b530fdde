//! Reads as much of each copy as was asked for, and says block by block what is good.

use super::challenge;
use super::edges::{self, Edges};
use super::locate::{Copy, Presence, with_cause};
use super::{Defect, Depth};
use crate::backend::{self, Backend, ErrorKind};
use crate::catalog::ShardState;
use crate::error::{self, Error, Result};
use crate::format::{HEADER_BYTES, Manifest, ShardFileLayout};
use crate::id::ShardId;
use crate::merkle::{BlockPosition, Challenge, MAX_CHALLENGE_BLOCKS, VerifiedBlock};
use crate::ops::Controls;
use crate::ops::reader::{BlockState, ObjectReader, ShardPlace, StripeBlocks, Wanted};
use crate::stripe::Layout;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt, TryStreamExt, stream};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How many small reads are under way at once.
const READS_AT_ONCE: usize = 16;
/// How many drawn blocks are read at once.
pub(super) const BLOCKS_AT_ONCE: usize = 8;

/// Which share of the blocks is read, drawn from a seed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// From 0, exclusive, to 1.
    pub share: f64,
    /// What the draw follows from; it must not be known beforehand.
    pub seed: [u8; 32],
}

impl Sample {
    /// How many of this many blocks are drawn: at least the share of them, and at least one.
    pub fn count_of(&self, blocks: u64) -> u64 {
        ((blocks as f64 * self.share).ceil() as u64).clamp(1.min(blocks), blocks)
    }

    /// The blocks of an object that are read.
    pub fn positions(&self, manifest: &Manifest) -> Result<Vec<BlockPosition>> {
        let (binding, geometry) = (manifest.binding(), manifest.geometry());
        let all = binding.stripe_count * geometry.total_shards() as u64;
        let impossible = |error| Error::new(error::ErrorKind::Invalid, "no sample can be drawn").with_source(error);
        if self.count_of(all) <= MAX_CHALLENGE_BLOCKS {
            let challenge = Challenge::new(&binding, self.count_of(all), self.seed).map_err(impossible)?;
            return Ok(challenge.positions().to_vec());
        }
        let mut positions = Vec::new();
        for index in geometry.shard_indexes() {
            let count = self.count_of(binding.stripe_count);
            let challenge = Challenge::for_shard(&binding, index, count, self.seed).map_err(impossible)?;
            positions.extend_from_slice(challenge.positions());
        }
        Ok(positions)
    }
}

/// How much memory a sample takes for blocks, in bytes: as much again as it holds, because each thread that reads keeps what
/// it freed for the next block.
pub(in crate::ops) fn sample_bytes(layout: &Layout) -> u64 {
    let held = (BLOCKS_AT_ONCE as u64 * u64::from(layout.shape().block_bytes())).max(challenge::HELD_BYTES);
    2 * held.min(layout.shard_blocks_bytes() * layout.geometry().total_shards() as u64)
}

/// What was read.
#[derive(Debug)]
pub(super) struct Reading {
    /// In the order of the copies.
    pub(super) copies: Vec<CopyReading>,
    /// Each set of copies that are good in the same stripes, once; in the order of the copies. Key shares count as a stripe:
    /// an object opens with as many of them as a stripe needs blocks.
    pub(super) patterns: BTreeSet<Vec<bool>>,
    pub(super) bytes_read: u64,
    pub(super) blocks_checked: u64,
}

/// What was read of one copy.
#[derive(Debug, Clone, Default)]
pub(super) struct CopyReading {
    pub(super) read_blocks: u64,
    pub(super) bad_blocks: u64,
    pub(super) first_bad: Option<u64>,
    /// What is wrong beside the blocks.
    pub(super) edge: Option<Defect>,
    /// It stopped answering on the way.
    pub(super) gone: Option<Presence>,
}

impl CopyReading {
    pub(super) fn note(&mut self, stripe_index: u64, good: bool) {
        self.read_blocks += 1;
        if !good {
            self.bad_blocks += 1;
            self.first_bad.get_or_insert(stripe_index);
        }
    }
}

/// A copy that is there, and its number among all copies.
pub(super) struct Present<'a> {
    pub(super) number: usize,
    pub(super) copy: &'a Copy,
    pub(super) file_bytes: u64,
    pub(super) backend: Arc<dyn Backend>,
}

/// Reads the copies that are there.
pub(super) async fn read(reader: &ObjectReader, copies: &[Copy], depth: Depth, controls: &Controls) -> Result<Reading> {
    let mut places = reader.places();
    let mut present = Vec::new();
    for (number, copy) in copies.iter().enumerate() {
        let Presence::There(file_bytes) = copy.presence else { continue };
        let Some(ShardPlace { source: Some(backend), .. }) = places.next() else { continue };
        present.push(Present { number, copy, file_bytes, backend: Arc::clone(backend) });
    }
    let mut reading = Reading {
        copies: vec![CopyReading::default(); copies.len()],
        patterns: BTreeSet::new(),
        bytes_read: 0,
        blocks_checked: 0,
    };
    if depth == Depth::Full {
        read_blocks(reader, &present, &mut reading, controls).await?;
    } else {
        reading.assume_blocks(&present, ShardFileLayout::of(reader.manifest()).file_bytes());
    }
    controls.check_cancelled()?;
    if let Depth::Sample(sample) = depth {
        let positions = sample.positions(reader.manifest())?;
        let shown = challenge::ask(reader.manifest(), &present, &mut reading, &positions).await?;
        let proved = shown.iter().filter(|(_, blocks)| **blocks > 1).map(|(number, _)| *number).collect();
        read_edges(reader, &present, &mut reading, (depth, &proved)).await?;
        let others = present.iter().filter(|copy| !shown.contains_key(&copy.number)).collect();
        read_sample(reader, others, &mut reading, positions).await?;
    } else {
        read_edges(reader, &present, &mut reading, (depth, &BTreeSet::new())).await?;
    }
    read_shares(reader, &present, &mut reading).await?;
    reading.bytes_read += reader.bytes_read();
    reading.settle_gone();
    Ok(reading)
}

impl Reading {
    /// Before any block is read, those of a file of the right length count as good.
    fn assume_blocks(&mut self, present: &[Present<'_>], expected_bytes: u64) {
        let mut pattern = vec![false; self.copies.len()];
        for copy in present {
            pattern[copy.number] = copy.file_bytes == expected_bytes;
        }
        self.patterns.insert(pattern);
    }

    fn note_stripe(&mut self, present: &[Present<'_>], stripe: &StripeBlocks) {
        let mut pattern = vec![false; self.copies.len()];
        for (copy, state) in present.iter().zip(&stripe.states) {
            let good = *state == BlockState::Good;
            pattern[copy.number] = good;
            self.copies[copy.number].note(stripe.stripe_index, good);
            self.blocks_checked += 1;
        }
        if !self.patterns.contains(&pattern) {
            self.patterns.insert(pattern);
        }
    }

    pub(super) fn note_gone(&mut self, number: usize, error: &backend::Error) {
        let gone = match error.kind {
            ErrorKind::NotFound => Presence::Absent,
            _ => Presence::Unknown(Defect::Unreachable { said: with_cause(error) }),
        };
        self.copies[number].gone.get_or_insert(gone);
    }

    /// What stopped answering has no good blocks, whatever was read before.
    fn settle_gone(&mut self) {
        let patterns = std::mem::take(&mut self.patterns);
        self.patterns = patterns
            .into_iter()
            .map(|mut pattern| {
                pattern.iter_mut().zip(&self.copies).for_each(|(good, copy)| *good &= copy.gone.is_none());
                pattern
            })
            .collect();
    }
}

async fn read_blocks(
    reader: &ObjectReader,
    present: &[Present<'_>],
    reading: &mut Reading,
    controls: &Controls,
) -> Result<()> {
    let layout = reader.manifest().layout();
    let mut stripes = reader.stripes(0..layout.stripe_count(), Wanted::All);
    while let Some(stripe) = stripes.next().await {
        controls.check_cancelled()?;
        let stripe = stripe?;
        controls.bytes(u64::from(layout.block_bytes(stripe.stripe_index)) * present.len() as u64);
        reading.note_stripe(present, &stripe);
    }
    for damage in reader.damage() {
        let is_it = |copy: &&Present<'_>| (copy.copy.index, copy.copy.backend) == (damage.index, damage.backend);
        let Some(copy) = present.iter().find(is_it) else { continue };
        let gone = match damage.state {
            ShardState::Missing => Presence::Absent,
            ShardState::Unreachable => {
                Presence::Unknown(Defect::Unreachable { said: "it stopped answering while it was read".to_owned() })
            }
            _ => continue,
        };
        reading.copies[copy.number].gone = Some(gone);
    }
    Ok(())
}

/// What stands around the blocks of each copy; leaves that are proved already are not read.
async fn read_edges(
    reader: &ObjectReader,
    present: &[Present<'_>],
    reading: &mut Reading,
    (depth, proved): (Depth, &BTreeSet<usize>),
) -> Result<()> {
    let ask = |copy: usize| async move {
        let Present { number, copy, file_bytes, backend } = &present[copy];
        let leaves = match depth {
            Depth::Quick => edges::Leaves::Unasked,
            _ if proved.contains(number) => edges::Leaves::Unasked,
            _ => edges::Leaves::Expected(reader.trusted_leaves(copy.index).await?),
        };
        let edges = Edges { manifest: reader.manifest(), index: copy.index, file_bytes: *file_bytes, leaves };
        Ok::<_, Error>((*number, edges::check(backend.as_ref(), &edges, depth).await))
    };
    let still_there: Vec<usize> =
        (0..present.len()).filter(|copy| reading.copies[present[*copy].number].gone.is_none()).collect();
    let mut answers = stream::iter(still_there).map(ask).buffer_unordered(READS_AT_ONCE);
    while let Some((number, answer)) = answers.try_next().await? {
        match answer {
            Ok((edge, bytes_read)) => {
                reading.copies[number].edge = edge;
                reading.bytes_read += bytes_read;
            }
            Err(error) => reading.note_gone(number, &error),
        }
    }
    Ok(())
}

/// Reads the key share of every copy, where the seal has them.
async fn read_shares(reader: &ObjectReader, present: &[Present<'_>], reading: &mut Reading) -> Result<()> {
    let manifest = reader.manifest();
    if manifest.share_digests().is_empty() {
        return Ok(());
    }
    let section = ShardFileLayout::of(manifest).share();
    let ask = |copy: &Present<'_>| {
        let (number, index, backend) = (copy.number, copy.copy.index, Arc::clone(&copy.backend));
        let (shard, section) = (ShardId { object: manifest.object(), index }, section.clone());
        async move { (number, index, backend.read(shard, section).await) }
    };
    let still_there = |copy: &&Present<'_>| reading.copies[copy.number].gone.is_none();
    let asked: Vec<_> = present.iter().filter(still_there).map(ask).collect();
    let mut answers = stream::iter(asked).buffer_unordered(READS_AT_ONCE);
    let mut pattern = vec![false; reading.copies.len()];
    while let Some((number, index, answer)) = answers.next().await {
        match answer {
            Ok(bytes) => {
                reading.bytes_read += bytes.len() as u64;
                pattern[number] = manifest.key_share(index, &bytes).is_some();
            }
            Err(error) if matches!(error.kind, ErrorKind::OutOfRange | ErrorKind::Failed) => {}
            Err(error) => reading.note_gone(number, &error),
        }
    }
    reading.patterns.insert(pattern);
    Ok(())
}

/// The number of a copy, a block of it, and where to ask for that.
type Question = (usize, BlockPosition, Arc<dyn Backend>);

/// Every drawn block in every copy that is there.
struct Questions {
    positions: Vec<BlockPosition>,
    /// How many pairs of a position and a copy were gone through.
    asked: usize,
}

impl Questions {
    fn next(&mut self, present: &[&Present<'_>]) -> Option<Question> {
        while let Some(position) = self.positions.get(self.asked.checked_div(present.len())?) {
            let copy = present[self.asked % present.len()];
            self.asked += 1;
            if copy.copy.index == position.shard_index {
                return Some((copy.number, *position, Arc::clone(&copy.backend)));
            }
        }
        None
    }
}

/// Reads the drawn blocks from these copies of their shards.
async fn read_sample(
    reader: &ObjectReader,
    present: Vec<&Present<'_>>,
    reading: &mut Reading,
    positions: Vec<BlockPosition>,
) -> Result<()> {
    let base = reading.patterns.first().cloned().unwrap_or_default();
    let ask = |(number, position, backend): Question| {
        let reader = reader.clone();
        async move { Ok::<_, Error>((number, position, read_block(&reader, backend.as_ref(), position).await?)) }
    };
    // Asked one by one as others are answered: of a large object there are many thousands.
    let mut questions = Questions { positions, asked: 0 };
    let mut answers = FuturesUnordered::new();
    while answers.len() < BLOCKS_AT_ONCE
        && let Some(question) = questions.next(&present)
    {
        answers.push(ask(question));
    }
    let mut bad: Vec<(u64, usize)> = Vec::new();
    while let Some((number, position, answer)) = answers.try_next().await? {
        answers.extend(questions.next(&present).map(ask));
        let good = match answer {
            Ok(bytes) => bytes.is_some_and(|bytes| {
                reading.bytes_read += bytes;
                true
            }),
            Err(error) => {
                reading.note_gone(number, &error);
                continue;
            }
        };
        reading.blocks_checked += 1;
        reading.copies[number].note(position.stripe_index, good);
        if !good {
            bad.push((position.stripe_index, number));
        }
    }
    bad.sort_unstable();
    for stripe in bad.chunk_by(|a, b| a.0 == b.0) {
        let mut pattern = base.clone();
        stripe.iter().for_each(|(_, number)| pattern[*number] = false);
        reading.patterns.insert(pattern);
    }
    Ok(())
}

/// How many bytes a block has that verifies; `None` when it does not, or cannot be read.
async fn read_block(
    reader: &ObjectReader,
    backend: &dyn Backend,
    position: BlockPosition,
) -> Result<backend::Result<Option<u64>>> {
    let layout = reader.manifest().layout();
    let shard = ShardId { object: position.object, index: position.shard_index };
    let start = HEADER_BYTES as u64 + layout.block_offset(position.stripe_index);
    let bytes = u64::from(layout.block_bytes(position.stripe_index));
    let block = match backend.read(shard, start..start + bytes).await {
        Ok(block) => block,
        Err(error) if matches!(error.kind, ErrorKind::OutOfRange | ErrorKind::Failed) => return Ok(Ok(None)),
        Err(error) => return Ok(Err(error)),
    };
    let Some(leaves) = reader.trusted_leaves(position.shard_index).await? else { return Ok(Ok(None)) };
    let check = move || {
        let leaf = usize::try_from(position.stripe_index).ok().and_then(|stripe| leaves.get(stripe))?;
        VerifiedBlock::check(position, block, leaf).ok().map(|_| bytes)
    };
    let stopped = |error| Error::new(error::ErrorKind::Cancelled, "hashing was stopped").with_source(error);
    tokio::task::spawn_blocking(check).await.map(Ok).map_err(stopped)
}
