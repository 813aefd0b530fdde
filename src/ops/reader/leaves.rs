//! Which leaves can be trusted: those that hash to the signed shard root, as stored or found out again.
//!
//! Leaves may be damaged as blocks may. Where the stored ones do not give the signed root, a stripe's leaf is what is
//! stored, or what its block hashes to, or what the block rebuilt from others hashes to; the root says which choice is
//! right, and nothing else does.

use super::off_reactor::compute;
use super::stripes::{StripeBlocks, Wanted, runs, stripes_per_chunk};
use super::{ReadError, Shared};
use crate::format::leaves_of;
use crate::id::Digest;
use crate::merkle::{self, BlockPosition};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use tokio::sync::OnceCell;

/// At most two to this power choices are tried against a root.
const MAX_GUESSES_LOG2: usize = 10;

/// What is known of the leaves of one shard index.
#[derive(Debug, Default)]
pub(super) struct IndexLeaves {
    stored: OnceCell<Option<Arc<[Digest]>>>,
    resolved: OnceLock<Arc<[Digest]>>,
}

impl IndexLeaves {
    fn trusted(&self) -> Option<Arc<[Digest]>> {
        self.resolved.get().or_else(|| self.stored.get().and_then(Option::as_ref)).cloned()
    }

    /// Whether they were looked at and do not give the signed root.
    pub(super) fn are_untrusted(&self) -> bool {
        self.stored.initialized() && self.trusted().is_none()
    }
}

/// Where a leaf differs between what is stored and what its block hashes to, at most two are possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Candidates {
    first: Option<Digest>,
    second: Option<Digest>,
}

/// What one place says about the leaves of its shard.
#[derive(Debug)]
struct Evidence {
    index: u8,
    candidates: Vec<Candidates>,
}

impl Candidates {
    fn new(stored: Option<Digest>, computed: Option<Digest>) -> Self {
        match stored {
            None => Self { first: computed, second: None },
            Some(_) => Self { first: stored, second: computed.filter(|_| computed != stored) },
        }
    }

    fn is_settled(&self) -> bool {
        self.first.is_some() && self.second.is_none()
    }
}

impl Shared {
    /// The trusted leaves of a shard index, if those that are stored are, or were resolved before.
    pub(super) async fn stored_leaves(&self, index: u8) -> Result<Option<Arc<[Digest]>>, ReadError> {
        let leaves = &self.leaves[usize::from(index)];
        if leaves.trusted().is_none() {
            leaves.stored.get_or_try_init(|| self.load_leaves(index)).await?;
        }
        Ok(leaves.trusted())
    }

    async fn load_leaves(&self, index: u8) -> Result<Option<Arc<[Digest]>>, ReadError> {
        for place in self.places_of(index) {
            let leaves: Arc<[Digest]> = leaves_of(&self.places[place].leaves_section(&self.file_layout).await).into();
            let (hashed, object, root) = (Arc::clone(&leaves), self.manifest.object(), self.shard_root(index));
            let is_whole = leaves.len() as u64 == self.layout().stripe_count();
            if is_whole && compute(move || merkle::shard_root(object, index, &hashed) == root).await? {
                return Ok(Some(leaves));
            }
            if self.places[place].answers() {
                self.places[place].note_flaw();
            }
        }
        Ok(None)
    }

    /// The places of a shard that answer.
    fn places_of(&self, index: u8) -> Vec<usize> {
        let is_its = |place: &usize| self.places[*place].at.index == index && self.places[*place].answers();
        (0..self.places.len()).filter(is_its).collect()
    }

    fn shard_root(&self, index: u8) -> Digest {
        self.manifest.shard_roots()[usize::from(index)]
    }

    /// Finds out, once, all leaves that can be found out. Reads whole shards where leaves are damaged.
    pub(super) async fn resolve_leaves(&self) -> Result<(), ReadError> {
        self.resolution.get_or_try_init(|| self.resolve_all()).await.copied()
    }

    async fn resolve_all(&self) -> Result<(), ReadError> {
        let mut unsettled = Vec::new();
        for index in self.manifest.geometry().shard_indexes() {
            if self.stored_leaves(index).await?.is_some() {
                continue;
            }
            for place in self.places_of(index) {
                let evidence = self.evidence(place).await?;
                if !self.settle(index, evidence.candidates.clone()).await? {
                    unsettled.push(evidence);
                }
            }
        }
        loop {
            unsettled.retain(|evidence| self.leaves[usize::from(evidence.index)].are_untrusted());
            let mut progress = false;
            for evidence in &unsettled {
                progress |= self.settle_by_others(evidence).await?;
            }
            if !progress {
                return Ok(());
            }
        }
    }

    /// What is stored, and what the blocks hash to.
    async fn evidence(&self, place: usize) -> Result<Evidence, ReadError> {
        let (layout, object, index) = (self.layout(), self.manifest.object(), self.places[place].at.index);
        let stored = leaves_of(&self.places[place].leaves_section(&self.file_layout).await);
        let mut candidates = Vec::new();
        let step = stripes_per_chunk(layout.shape().block_bytes(), 1);
        for start in (0..layout.stripe_count()).step_by(step as usize) {
            let stripes = start..(start + step).min(layout.stripe_count());
            let blocks = self.places[place].blocks(&layout, stripes.clone()).await;
            let position = move |stripe_index| BlockPosition { object, shard_index: index, stripe_index };
            let hash = move || -> Vec<Option<Digest>> {
                let hash = |(stripe, block): (u64, Option<Bytes>)| Some(merkle::leaf(position(stripe), &block?));
                stripes.zip(blocks).map(hash).collect()
            };
            for computed in compute(hash).await? {
                candidates.push(Candidates::new(stored.get(candidates.len()).copied(), computed));
            }
        }
        Ok(Evidence { index, candidates })
    }

    /// Tries the candidates against the root; `true` when they now are trusted.
    async fn settle(&self, index: u8, candidates: Vec<Candidates>) -> Result<bool, ReadError> {
        let (object, root) = (self.manifest.object(), self.shard_root(index));
        let found =
            compute(move || choose(&candidates, |leaves| merkle::shard_root(object, index, leaves) == root)).await?;
        let Some(leaves) = found else { return Ok(false) };
        // Whoever was first has set the same: only one list of leaves has that root.
        let _ = self.leaves[usize::from(index)].resolved.set(leaves.into());
        Ok(true)
    }

    /// Where the candidates differ, takes the leaf of the block that others give.
    async fn settle_by_others(&self, evidence: &Evidence) -> Result<bool, ReadError> {
        let mut candidates = evidence.candidates.clone();
        let open: Vec<u64> = (0u64..).zip(&candidates).filter(|(_, c)| !c.is_settled()).map(|(i, _)| i).collect();
        let step = stripes_per_chunk(self.layout().shape().block_bytes(), self.data_shards());
        for run in runs(&open) {
            for start in run.clone().step_by(step as usize) {
                let rebuilt = self.rebuilt_leaves(evidence.index, start..(start + step).min(run.end)).await?;
                for (stripe_index, leaf) in rebuilt {
                    candidates[stripe_index as usize] = Candidates { first: Some(leaf), second: None };
                }
            }
        }
        self.settle(evidence.index, candidates).await
    }

    /// The leaves of one shard's blocks as verified blocks of others give them, where these are enough.
    async fn rebuilt_leaves(&self, shard_index: u8, stripes: Range<u64>) -> Result<BTreeMap<u64, Digest>, ReadError> {
        let mut chunk: Vec<StripeBlocks> = stripes.map(|stripe_index| self.empty(stripe_index)).collect();
        self.fill(&mut chunk, Wanted::Enough).await?;
        let (object, decoder, needed) = (self.manifest.object(), self.decoder.clone(), self.data_shards());
        let rebuild = move |stripe: &StripeBlocks| {
            let stripe_index = stripe.stripe_index;
            let rebuilt = decoder.rebuild(stripe_index, &stripe.blocks, &[shard_index]).ok()?;
            let (_, block) = rebuilt.first()?;
            Some((stripe_index, merkle::leaf(BlockPosition { object, shard_index, stripe_index }, block)))
        };
        chunk.retain(|stripe| stripe.good_count() >= needed);
        compute(move || chunk.iter().filter_map(rebuild).collect()).await
    }
}

/// The leaves among the candidates that are right, if the choices are few enough to be tried.
fn choose(candidates: &[Candidates], is_right: impl Fn(&[Digest]) -> bool) -> Option<Vec<Digest>> {
    let mut leaves: Vec<Digest> = candidates.iter().map(|candidate| candidate.first).collect::<Option<_>>()?;
    let open: Vec<u64> = (0u64..).zip(candidates).filter(|(_, c)| c.second.is_some()).map(|(i, _)| i).collect();
    let groups = if open.len() <= MAX_GUESSES_LOG2 { open.iter().map(|i| *i..*i + 1).collect() } else { runs(&open) };
    if groups.len() > MAX_GUESSES_LOG2 {
        return None;
    }
    for choice in 0u32..1 << groups.len() {
        for (bit, group) in groups.iter().enumerate() {
            for stripe in group.clone() {
                let candidate = candidates[stripe as usize];
                let chosen = if choice >> bit & 1 == 0 { candidate.first } else { candidate.second };
                leaves[stripe as usize] = chosen?;
            }
        }
        if is_right(&leaves) {
            return Some(leaves);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(pairs: &[(Option<u8>, Option<u8>)]) -> Vec<Candidates> {
        let digest = |byte: Option<u8>| byte.map(|byte| Digest([byte; 32]));
        pairs.iter().map(|(stored, computed)| Candidates::new(digest(*stored), digest(*computed))).collect()
    }

    fn is(expected: &[u8]) -> impl Fn(&[Digest]) -> bool {
        let expected: Vec<Digest> = expected.iter().map(|byte| Digest([*byte; 32])).collect();
        move |leaves| leaves == expected
    }

    #[test]
    fn a_damaged_leaf_and_a_damaged_block_in_one_shard_are_told_apart_by_the_root() {
        let shard = candidates(&[(Some(1), Some(1)), (Some(9), Some(2)), (Some(3), Some(9)), (None, Some(4))]);
        assert!(choose(&shard, is(&[1, 2, 3, 4])).is_some());
        assert!(choose(&shard, is(&[1, 2, 9, 9])).is_none());
    }

    #[test]
    fn a_whole_damaged_section_is_one_choice() {
        let mut pairs = vec![(Some(9), Some(1)); 500];
        pairs[0] = (Some(1), Some(1));
        pairs.push((Some(1), Some(1)));
        pairs.push((Some(1), Some(8)));
        assert!(choose(&candidates(&pairs), is(&[1; 502])).is_some());
    }

    #[test]
    fn too_many_choices_are_not_tried() {
        let pairs: Vec<_> = (0..64).map(|i| if i % 2 == 0 { (Some(1), Some(2)) } else { (Some(3), Some(3)) }).collect();
        assert!(choose(&candidates(&pairs), |_| true).is_none());
    }

    #[test]
    fn a_stripe_of_which_nothing_is_known_leaves_no_choice() {
        assert!(choose(&candidates(&[(None, None), (Some(1), Some(1))]), |_| true).is_none());
    }
}
