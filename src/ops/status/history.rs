//! How each backend met what it was asked for, as far as this machine asked.

use super::super::Timestamp;
use crate::catalog::{self, BackendHistory, Catalog, ChallengeOutcome, ChallengeRecord, ChallengesOf};
use crate::id::{BackendId, ObjectId};
use serde::Serialize;
use std::collections::BTreeMap;

/// So many of the newest failures of a backend are told one by one.
const FAILURES_TOLD: usize = 5;

/// What all looks at a backend's shards come to: each look at a copy is a challenge.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ChallengeHistory {
    /// How often it had what was asked for, every byte of it that was.
    pub answered: u64,
    /// How often it gave something else.
    pub wrong: u64,
    /// How often it did not have the shard.
    pub missing: u64,
    /// How often it did not answer.
    pub silent: u64,
    /// When it was asked first.
    pub first: Option<Timestamp>,
    /// When it was asked last.
    pub last: Option<Timestamp>,
    /// When it failed last.
    pub last_failed: Option<Timestamp>,
    /// What it failed last, the newest first.
    pub failures: Vec<FailedChallenge>,
}

/// One challenge that a backend failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct FailedChallenge {
    /// Which object was asked for.
    pub object: ObjectId,
    /// Which of its shards.
    pub shard: u8,
    /// How it failed.
    pub outcome: ChallengeOutcome,
    /// How many of the shard's blocks were read.
    pub blocks: u64,
    /// How many of these were wrong.
    pub bad_blocks: u64,
    /// When.
    pub when: Timestamp,
}

impl ChallengeHistory {
    /// How often it was asked.
    pub fn asked(&self) -> u64 {
        self.answered.saturating_add(self.failed())
    }

    /// How often it failed.
    pub fn failed(&self) -> u64 {
        self.wrong.saturating_add(self.missing).saturating_add(self.silent)
    }

    fn new(history: &BackendHistory, failures: Vec<FailedChallenge>) -> Self {
        Self {
            answered: history.answered,
            wrong: history.wrong,
            missing: history.missing,
            silent: history.silent,
            first: Some(Timestamp(history.first_ns)),
            last: Some(Timestamp(history.last_ns)),
            last_failed: history.last_failed_ns.map(Timestamp),
            failures,
        }
    }
}

/// The histories of all backends that were ever asked.
pub(super) fn read(catalog: &Catalog) -> catalog::Result<BTreeMap<BackendId, ChallengeHistory>> {
    let failure = |(_, challenge): (u64, ChallengeRecord)| {
        let ChallengeRecord { object, index: shard, outcome, blocks, bad_blocks, when_ns, .. } = challenge;
        FailedChallenge { object, shard, outcome, blocks, bad_blocks, when: Timestamp(when_ns) }
    };
    let mut histories = BTreeMap::new();
    for (backend, history) in catalog.histories()? {
        let failures = catalog.challenges(ChallengesOf::Failed(backend), None, FAILURES_TOLD)?;
        let failures = failures.into_iter().map(failure).collect();
        histories.insert(backend, ChallengeHistory::new(&history, failures));
    }
    Ok(histories)
}
