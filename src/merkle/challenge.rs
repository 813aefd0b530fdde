//! Challenge and response: a verifier picks blocks at random, the holder answers with them and their proofs.

use super::block::BlockPosition;
use super::error::{Error, ProofError};
use super::hash;
use super::proof::MerkleProof;
use super::root::ObjectBinding;
use crate::id::{Digest, ObjectId};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// A challenge picks at most this many blocks, so that it takes a few MiB of memory; it is as many as the shard with
/// the most blocks has, which is one of an object of 1 GiB in blocks of 16 KiB.
pub const MAX_CHALLENGE_BLOCKS: u64 = 65_536;

/// Blocks that a holder has to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    positions: Vec<BlockPosition>,
}

/// What a holder answers: at most one answer for each position.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response {
    /// The answers, in any order.
    pub answers: Vec<Answer>,
}

/// One block and the proof that it is the one asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The block's bytes.
    pub block: Bytes,
    /// The proof of that block, which says its position.
    pub proof: MerkleProof,
}

/// What became of a challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChallengeReport {
    /// Every position that was asked for, in ascending order, and how it was answered.
    pub outcomes: Vec<(BlockPosition, AnswerOutcome)>,
    /// How many answers were about nothing that was asked for.
    pub unasked_count: usize,
}

/// How one position was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnswerOutcome {
    /// With the right block and a proof that holds.
    Right,
    /// With something else.
    Wrong(ProofError),
    /// Not at all.
    Unanswered,
}

impl Challenge {
    /// Picks `count` different blocks of an object, every set of them as likely as any other when the seed is random.
    /// The same arguments pick the same blocks; a holder must not know the seed beforehand.
    ///
    /// An error if `count` is 0, more than there are, or over [`MAX_CHALLENGE_BLOCKS`].
    pub fn new(binding: &ObjectBinding, count: u64, seed: [u8; 32]) -> Result<Self, Error> {
        let (total_shards, stripe_count) = (binding.geometry.total_shards(), binding.stripe_count);
        let available =
            stripe_count.checked_mul(total_shards as u64).ok_or(Error::Uncountable { total_shards, stripe_count })?;
        let mut draws = Draws::new(seed, binding.object, &[]);
        let picked = draws.distinct(count, available)?.into_iter();
        // The quotient is below n, which fits in a byte.
        let position = |block: u64| ((block / stripe_count) as u8, block % stripe_count);
        Ok(Self::at(binding.object, picked.map(position)))
    }

    /// [`Self::new`] among the blocks of one shard, for a holder of no other.
    pub fn for_shard(binding: &ObjectBinding, shard_index: u8, count: u64, seed: [u8; 32]) -> Result<Self, Error> {
        let total_shards = binding.geometry.total_shards();
        if usize::from(shard_index) >= total_shards {
            return Err(Error::NoSuchShard { shard_index, total_shards });
        }
        let mut draws = Draws::new(seed, binding.object, &[shard_index]);
        let picked = draws.distinct(count, binding.stripe_count)?.into_iter();
        Ok(Self::at(binding.object, picked.map(|stripe_index| (shard_index, stripe_index))))
    }

    /// The blocks to show, in ascending order, each once.
    pub fn positions(&self) -> &[BlockPosition] {
        &self.positions
    }

    /// Checks every answer against the object root.
    pub fn check(&self, response: &Response, root: &Digest) -> ChallengeReport {
        let mut answers: BTreeMap<BlockPosition, Vec<&Answer>> = BTreeMap::new();
        let mut unasked_count = 0;
        for answer in &response.answers {
            match answer.proof.position().filter(|position| self.positions.binary_search(position).is_ok()) {
                Some(position) => answers.entry(position).or_default().push(answer),
                None => unasked_count += 1,
            }
        }
        let outcome = |position: &BlockPosition| match answers.get(position).map(Vec::as_slice) {
            None | Some([]) => AnswerOutcome::Unanswered,
            Some([answer]) => match answer.proof.verify_block(root, &answer.block) {
                Ok(()) => AnswerOutcome::Right,
                Err(error) => AnswerOutcome::Wrong(error),
            },
            Some(_) => AnswerOutcome::Wrong(ProofError::AnsweredTwice { position: *position }),
        };
        let outcomes = self.positions.iter().map(|position| (*position, outcome(position))).collect();
        ChallengeReport { outcomes, unasked_count }
    }

    fn at(object: ObjectId, picked: impl Iterator<Item = (u8, u64)>) -> Self {
        let position = |(shard_index, stripe_index)| BlockPosition { object, shard_index, stripe_index };
        Self { positions: picked.map(position).collect() }
    }
}

impl ChallengeReport {
    /// How many positions were answered rightly.
    pub fn right_count(&self) -> usize {
        self.outcomes.iter().filter(|(_, outcome)| *outcome == AnswerOutcome::Right).count()
    }

    /// Whether every position was answered rightly, and nothing else was.
    pub fn all_right(&self) -> bool {
        self.right_count() == self.outcomes.len() && self.unasked_count == 0
    }
}

/// The probability that a sample of `sampled` of `total` blocks, drawn without replacement, has at least one of the
/// `damaged` ones in it: 1 − C(total − damaged, sampled) / C(total, sampled), from the hypergeometric distribution.
///
/// Counts over `total` are taken as `total`. Takes time of the order of the smaller of `sampled` and `damaged`, and of
/// no more than 40 · `total` over the larger.
pub fn detection_confidence(sampled: u64, total: u64, damaged: u64) -> f64 {
    /// Below e to this power, a probability makes no difference to 1.
    const NEGLIGIBLE_LN: f64 = -40.0;

    let (sampled, damaged) = (sampled.min(total), damaged.min(total));
    // The formula is symmetric in the two, so the product runs over the fewer factors: ∏ (1 − larger / (total − i)).
    let (fewer, larger) = (sampled.min(damaged), sampled.max(damaged));
    if fewer > total - larger {
        return 1.0;
    }
    let mut missed_ln = 0.0;
    for drawn in 0..fewer {
        missed_ln += (-(larger as f64) / ((total - drawn) as f64)).ln_1p();
        if missed_ln < NEGLIGIBLE_LN {
            return 1.0;
        }
    }
    -f64::exp_m1(missed_ln)
}

/// Numbers that follow from a seed and look random.
struct Draws {
    stream: blake3::OutputReader,
}

impl Draws {
    fn new(seed: [u8; 32], object: ObjectId, scope: &[u8]) -> Self {
        Self { stream: hash::CHALLENGE.stream(&[&seed, object.as_bytes(), scope]) }
    }

    /// `count` different numbers below `available` by Floyd's method (Bentley and Floyd, "A sample of brilliance",
    /// Communications of the ACM 30/9, 1987), which makes every set equally likely with `count` draws.
    fn distinct(&mut self, count: u64, available: u64) -> Result<BTreeSet<u64>, Error> {
        if count == 0 || count > available.min(MAX_CHALLENGE_BLOCKS) {
            return Err(Error::ChallengeSize { count, available });
        }
        let mut picked = BTreeSet::new();
        for last in available - count..available {
            let drawn = self.up_to(last);
            if !picked.insert(drawn) {
                picked.insert(last);
            }
        }
        Ok(picked)
    }

    /// A number from 0 to `last`, each as likely: draws that would favour the small ones are drawn again.
    fn up_to(&mut self, last: u64) -> u64 {
        let Some(bound) = last.checked_add(1) else { return self.next() };
        let biased = (u64::MAX % bound + 1) % bound;
        loop {
            let drawn = self.next();
            if drawn <= u64::MAX - biased {
                return drawn % bound;
            }
        }
    }

    fn next(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.stream.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }
}

#[cfg(test)]
mod tests;
