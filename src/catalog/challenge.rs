//! How backends met what was asked of them: the record of each challenge, and what all of them come to.

use super::Catalog;
use super::column::{Count, all, first, row_limit, run};
use super::error::{Fault, Result};
use crate::id::{BackendId, ObjectId};
use rusqlite::{Connection, Row, ToSql, params};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Of each backend so many of the newest challenges are kept, about 2 MB of the file; what they come to is kept for all.
pub const CHALLENGES_KEPT: u64 = 10_000;

/// How a backend met a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChallengeOutcome {
    /// All that was asked for is what was put there.
    Answered,
    /// It gave something else.
    Wrong,
    /// It says that it does not have the shard.
    Missing,
    /// It did not answer, or refused.
    Silent,
}

/// One look at one copy of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChallengeRecord {
    /// Which object was asked for.
    pub object: ObjectId,
    /// Which of its shards.
    pub index: u8,
    /// Who was asked.
    pub backend: BackendId,
    /// How it was met.
    pub outcome: ChallengeOutcome,
    /// How many of its blocks were read; with none, only whether it is there, its length and its ends.
    pub blocks: u64,
    /// How many of these were wrong.
    pub bad_blocks: u64,
    /// When, in nanoseconds since 1970.
    pub when_ns: i64,
}

/// What all challenges of a backend come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackendHistory {
    /// How many it met.
    pub answered: u64,
    /// How often it gave something else.
    pub wrong: u64,
    /// How often it did not have the shard.
    pub missing: u64,
    /// How often it did not answer.
    pub silent: u64,
    /// When the first was, in nanoseconds since 1970.
    pub first_ns: i64,
    /// When the last was.
    pub last_ns: i64,
    /// When the last one was that it failed.
    pub last_failed_ns: Option<i64>,
}

/// Whose challenges are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChallengesOf {
    /// All of a backend that are kept.
    Backend(BackendId),
    /// Those of them that it failed.
    Failed(BackendId),
    /// All for an object, of whatever backend.
    Object(ObjectId),
}

impl Catalog {
    /// Challenges that are kept, the newest first, each with its number: before the one of a number, where that is given.
    pub fn challenges(
        &self,
        of: ChallengesOf,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, ChallengeRecord)>> {
        let (rule, whose): (_, &dyn ToSql) = match &of {
            ChallengesOf::Backend(backend) => ("backend = ?1", backend),
            ChallengesOf::Failed(backend) => ("backend = ?1 AND outcome <> 0", backend),
            ChallengesOf::Object(object) => ("object = ?1", object),
        };
        let before = before.and_then(|before| i64::try_from(before).ok()).unwrap_or(i64::MAX);
        let sql = format!(
            "SELECT number, object, shard_index, backend, outcome, blocks, bad_blocks, when_ns FROM challenge
                WHERE {rule} AND number < ?2 ORDER BY number DESC LIMIT ?3"
        );
        self.read(|tx| all(tx, &sql, params![whose, before, row_limit(limit)], read_challenge))
    }

    /// Keeps challenges that no look at an object goes with.
    pub fn record_challenges(&mut self, challenges: &[ChallengeRecord]) -> Result<()> {
        self.write(|tx| add(tx, challenges))
    }

    /// What the challenges of each backend come to; nothing for one that never had any.
    pub fn histories(&self) -> Result<BTreeMap<BackendId, BackendHistory>> {
        let sql = "SELECT backend, answered, wrong, missing, silent, first_ns, last_ns, last_failed_ns
            FROM backend_history";
        let histories = self.read(|tx| all(tx, sql, [], |row| Ok((row.get(0)?, read_history(row)?))))?;
        Ok(histories.into_iter().collect())
    }
}

/// Writes challenges down, and forgets the oldest of backends that have too many.
pub(super) fn add(connection: &Connection, challenges: &[ChallengeRecord]) -> Result<(), Fault> {
    for challenge in challenges {
        let ChallengeRecord { object, index, backend, outcome, blocks, bad_blocks, when_ns } = challenge;
        run(
            connection,
            "INSERT INTO challenge (backend, object, shard_index, outcome, blocks, bad_blocks, when_ns)
                VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![backend, object, index, outcome, Count(*blocks), Count(*bad_blocks), when_ns],
        )?;
    }
    let asked: BTreeSet<BackendId> = challenges.iter().map(|challenge| challenge.backend).collect();
    asked.into_iter().try_for_each(|backend| forget_oldest(connection, backend, CHALLENGES_KEPT))
}

/// Keeps so many of a backend.
pub(super) fn forget_oldest(connection: &Connection, backend: BackendId, most: u64) -> Result<(), Fault> {
    let kept = first(connection, "SELECT kept FROM backend_history WHERE backend = ?1", [backend], |row| row.get(0))?;
    let too_many = kept.map_or(0, |Count(kept)| kept.saturating_sub(most));
    if too_many > 0 {
        let sql = "DELETE FROM challenge WHERE number IN
            (SELECT number FROM challenge WHERE backend = ?1 ORDER BY number LIMIT ?2)";
        run(connection, sql, params![backend, Count(too_many)])?;
    }
    Ok(())
}

fn read_challenge(row: &Row<'_>) -> rusqlite::Result<(u64, ChallengeRecord)> {
    let Count(number) = row.get(0)?;
    let challenge = ChallengeRecord {
        object: row.get(1)?,
        index: row.get(2)?,
        backend: row.get(3)?,
        outcome: row.get(4)?,
        blocks: row.get::<_, Count>(5)?.0,
        bad_blocks: row.get::<_, Count>(6)?.0,
        when_ns: row.get(7)?,
    };
    Ok((number, challenge))
}

fn read_history(row: &Row<'_>) -> rusqlite::Result<BackendHistory> {
    let count = |column: usize| row.get::<_, Count>(column).map(|Count(number)| number);
    Ok(BackendHistory {
        answered: count(1)?,
        wrong: count(2)?,
        missing: count(3)?,
        silent: count(4)?,
        first_ns: row.get(5)?,
        last_ns: row.get(6)?,
        last_failed_ns: row.get(7)?,
    })
}
