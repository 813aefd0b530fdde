//! What verifying says: one verdict for each object, and what they amount to.

use super::{SetBack, VerifyMode};
use crate::backend::BackendRegistry;
use crate::catalog::{ObjectState, ShardState};
use crate::format::{FileName, ObjectKind};
use crate::id::ObjectId;
use crate::ops::examine::{CopyFinding, Examination};
use serde::Serialize;
use std::time::Duration;

/// The damage whose detection a report tells of, as shares of all blocks.
const TOLD_SHARES: [f64; 3] = [0.001, 0.01, 0.1];
/// The share of damaged blocks that the summary's one number is about.
const SUMMARY_SHARE: f64 = 0.01;

/// What verifying gave.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerifyReport {
    /// `full`, `sample` or `quick`.
    pub mode: &'static str,
    /// The objects, in the order in which they were looked at.
    pub objects: Vec<ObjectVerdict>,
    /// Backends that went back to an earlier state, as far as what was looked at tells.
    pub set_back: Vec<SetBack>,
    /// What they amount to.
    pub summary: VerifySummary,
    #[serde(skip)]
    share: Option<f64>,
}

/// How one object is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ObjectVerdict {
    /// The object.
    pub id: ObjectId,
    /// What it is for.
    pub kind: ObjectKind,
    /// Files that have bytes in it, in order; of a pack of many the first hundred.
    pub names: Vec<FileName>,
    /// Whether there are more names than are shown.
    pub more_names: bool,
    /// k.
    pub data_shards: usize,
    /// n.
    pub total_shards: usize,
    /// The state of its worst stripe.
    pub state: ObjectState,
    /// How many more zones may be lost before it is.
    pub margin: Option<usize>,
    /// How many more backends may be lost before it is.
    pub backend_margin: Option<usize>,
    /// Its shards, copy by copy.
    pub shards: Vec<ShardVerdict>,
    /// How many of its blocks were read and checked.
    pub blocks_checked: u64,
    /// How many bytes were read.
    pub bytes_read: u64,
    #[serde(skip)]
    block_count: u64,
}

/// How one copy of a shard is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShardVerdict {
    /// Which shard.
    pub index: u8,
    /// The name of its backend, or its id where it is not registered any more; `None` for a shard that has no place.
    pub backend: Option<String>,
    /// What fails together with it.
    pub zone: Option<String>,
    /// How it is.
    pub state: ShardState,
    /// How many of the blocks that were read are wrong.
    pub bad_blocks: u64,
    /// What exactly is wrong, in words.
    pub reason: Option<String>,
}

/// What the verdicts amount to.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct VerifySummary {
    /// How many were looked at.
    pub objects: u64,
    /// Of these, how many are healthy.
    pub healthy: u64,
    /// How many are degraded.
    pub degraded: u64,
    /// How many are unavailable.
    pub unavailable: u64,
    /// How many are lost.
    pub lost: u64,
    /// How many were due and are left for another time, because the budget was used up.
    pub remaining: u64,
    /// How many bytes were read.
    pub bytes_read: u64,
    /// How long it took.
    pub elapsed_ms: u64,
    /// The probability with which damage to one block in a hundred of what was looked at would have been found; `None`
    /// where no block was read.
    pub confidence: Option<f64>,
    /// What a sample could have found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<SampleReport>,
}

/// What a sample could have found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SampleReport {
    /// The share of the blocks that was asked for, in percent.
    pub percent: f64,
    /// How many blocks were read and checked.
    pub blocks_checked: u64,
    /// Of how many.
    pub blocks: u64,
    /// Which damage would have been found with which probability.
    pub detects: Vec<Detection>,
}

/// Damage and the probability with which a sample finds it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Detection {
    /// So many damaged blocks, anywhere.
    pub bad_blocks: u64,
    /// At least one of them is found with at least this probability, 0 to 1.
    pub confidence: f64,
}

/// The worst of some states.
pub fn worst_state(states: impl IntoIterator<Item = ObjectState>) -> ObjectState {
    states.into_iter().max().unwrap_or(ObjectState::Healthy)
}

/// At least how probable it is that a sample of this share finds one of `bad_blocks` damaged blocks: 1 − (1 − share)^bad.
///
/// Each object is sampled on its own and without replacement, rounded up: from N blocks of which d are bad, s ≥ share · N
/// are drawn and all bad ones missed with C(N−d, s) / C(N, s) = ∏ (N−s−i) / (N−i) ≤ (1 − share)^d, and so for all objects
/// together, however the damage lies.
pub fn detection_bound(share: f64, bad_blocks: u64) -> f64 {
    -f64::exp_m1(bad_blocks as f64 * (-share).ln_1p())
}

impl ObjectVerdict {
    /// What an examination means to a person.
    pub(super) fn new(registry: &BackendRegistry, seen: &Examination, names: (Vec<FileName>, bool)) -> Self {
        let geometry = seen.geometry();
        Self {
            id: seen.object(),
            kind: seen.manifest.kind(),
            names: names.0,
            more_names: names.1,
            data_shards: geometry.data_shards(),
            total_shards: geometry.total_shards(),
            state: seen.state,
            margin: seen.margin,
            backend_margin: seen.backend_margin,
            shards: seen.copies.iter().map(|copy| ShardVerdict::new(registry, copy)).collect(),
            blocks_checked: seen.blocks_checked,
            bytes_read: seen.bytes_read,
            block_count: seen.manifest.layout().stripe_count() * geometry.total_shards() as u64,
        }
    }
}

impl ShardVerdict {
    fn new(registry: &BackendRegistry, copy: &CopyFinding) -> Self {
        let place = copy.backend.and_then(|backend| registry.get(backend));
        let unknown = || copy.backend.map(|backend| backend.to_string());
        Self {
            index: copy.index,
            backend: place.map(|place| place.name.clone()).or_else(unknown),
            zone: place.map(|place| place.zone.to_string()),
            state: copy.state,
            bad_blocks: copy.bad_blocks,
            reason: copy.defect.as_ref().map(ToString::to_string),
        }
    }
}

impl VerifyReport {
    pub(super) fn new(mode: VerifyMode) -> Self {
        let share = match mode {
            VerifyMode::Quick => None,
            VerifyMode::Sample { percent } => Some(percent / 100.0),
            VerifyMode::Full => Some(1.0),
        };
        let (objects, set_back) = (Vec::new(), Vec::new());
        Self { mode: mode.name(), objects, set_back, summary: VerifySummary::default(), share }
    }

    pub(super) fn add(&mut self, verdict: ObjectVerdict) {
        let summary = &mut self.summary;
        summary.objects += 1;
        summary.bytes_read += verdict.bytes_read;
        *match verdict.state {
            ObjectState::Healthy => &mut summary.healthy,
            ObjectState::Degraded => &mut summary.degraded,
            ObjectState::Unavailable => &mut summary.unavailable,
            ObjectState::Lost => &mut summary.lost,
        } += 1;
        self.objects.push(verdict);
    }

    pub(super) fn conclude(&mut self, elapsed: Duration) {
        self.summary.elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let blocks: u64 = self.objects.iter().map(|verdict| verdict.block_count).sum();
        let Some(share) = self.share else { return };
        let bad_blocks = |of: f64| ((blocks as f64 * of).ceil() as u64).max(1);
        self.summary.confidence = Some(detection_bound(share, bad_blocks(SUMMARY_SHARE)));
        if share < 1.0 {
            let mut bad: Vec<u64> = TOLD_SHARES.into_iter().map(bad_blocks).chain([1]).collect();
            bad.sort_unstable();
            bad.dedup();
            let detects = |bad_blocks| Detection { bad_blocks, confidence: detection_bound(share, bad_blocks) };
            self.summary.sample = Some(SampleReport {
                percent: share * 100.0,
                blocks_checked: self.objects.iter().map(|verdict| verdict.blocks_checked).sum(),
                blocks,
                detects: bad.into_iter().map(detects).collect(),
            });
        }
    }

    /// A report of one healthy object, for tests of what is made from reports.
    #[cfg(test)]
    pub(in crate::ops) fn sample_for_tests() -> Self {
        let mut report = Self::new(VerifyMode::Full);
        report.add(ObjectVerdict {
            id: ObjectId([1; 16]),
            kind: ObjectKind::Data,
            names: Vec::new(),
            more_names: false,
            data_shards: 2,
            total_shards: 3,
            state: ObjectState::Healthy,
            margin: Some(1),
            backend_margin: Some(1),
            shards: Vec::new(),
            blocks_checked: 3,
            bytes_read: 100,
            block_count: 3,
        });
        report.conclude(Duration::from_millis(1500));
        report
    }

    /// The worst state of any object that was looked at.
    pub fn worst(&self) -> ObjectState {
        worst_state(self.objects.iter().map(|verdict| verdict.state))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::detection_confidence;

    #[test]
    fn the_stated_confidence_is_never_more_than_the_true_one() {
        for blocks in [1_u64, 2, 10, 120, 5000] {
            for share in [0.001, 0.01, 0.05, 0.3, 1.0] {
                let sampled = (blocks as f64 * share).ceil() as u64;
                for bad in [1, 2, 5, 50, blocks / 2 + 1] {
                    let truth = detection_confidence(sampled, blocks, bad.min(blocks));
                    assert!(detection_bound(share, bad.min(blocks)) <= truth + 1e-9, "{blocks}, {share}, {bad}");
                }
            }
        }
        assert!((detection_bound(0.05, 59) - 0.951_505).abs() < 1e-6);
    }

    #[test]
    fn a_full_look_is_sure_and_a_quick_one_says_nothing() {
        let mut full = VerifyReport::new(VerifyMode::Full);
        full.conclude(Duration::from_millis(3));
        assert_eq!((full.summary.confidence, full.summary.sample), (Some(1.0), None));
        let mut quick = VerifyReport::new(VerifyMode::Quick);
        quick.conclude(Duration::from_millis(3));
        assert_eq!((quick.summary.confidence, quick.summary.sample), (None, None));
    }
}
