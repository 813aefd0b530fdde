//! Small facts of this machine: notes by key, and the counter that turns from object to object.

use super::Catalog;
use super::column::{all, first, run};
use super::error::Result;
use rusqlite::params;

/// The note of the greatest generation that a writer is known to have given, to whatever name.
const WRITER_GENERATION: &str = "writer generation";
/// A generation over this is not counted on from: nobody gave so many, and whoever says so wants to leave no room.
const MAX_HEEDED_GENERATION: u64 = 1 << 31;

/// The note of a catalog that was made in the place of another, until it has what that one had.
pub(super) const UNFILLED: &str = "made anew and not filled";

/// The note of a catalog that was made anew while not every backend could be listed.
const REBUILT_IN_PART: &str = "made anew without every backend";

impl Catalog {
    /// Notes whether it was made anew while not every backend could be listed: what was whole once may be unknown then.
    pub fn note_rebuilt_in_part(&mut self, in_part: bool) -> Result<()> {
        if in_part { self.set_note(REBUILT_IN_PART, "") } else { self.clear_note(REBUILT_IN_PART) }
    }

    /// Whether it was made anew while not every backend could be listed, and not every one was since.
    pub fn is_rebuilt_in_part(&self) -> Result<bool> {
        Ok(self.note(REBUILT_IN_PART)?.is_some())
    }

    /// Notes that it was filled.
    pub fn note_filled(&mut self) -> Result<()> {
        self.clear_note(UNFILLED)
    }

    /// Whether it is still to be filled.
    pub fn is_unfilled(&self) -> Result<bool> {
        Ok(self.note(UNFILLED)?.is_some())
    }

    /// The greatest generation that a writer is known to have given. A writer forgets names with its catalog, and never knew
    /// what others put: what it puts next is newer all the same.
    pub fn writer_generation(&self) -> Result<u64> {
        Ok(self.note(WRITER_GENERATION)?.and_then(|given| given.parse().ok()).unwrap_or(0))
    }

    /// Notes that a writer gave this generation; nothing where a greater one is known, or where it is more than anyone
    /// gives.
    pub fn raise_writer_generation(&mut self, generation: u64) -> Result<()> {
        if generation == 0 || generation > MAX_HEEDED_GENERATION {
            return Ok(());
        }
        let sql = "INSERT INTO note (key, value) VALUES (?1, ?2)
            ON CONFLICT DO UPDATE SET value = excluded.value WHERE CAST(value AS INTEGER) < CAST(excluded.value AS INTEGER)";
        self.write(|tx| run(tx, sql, params![WRITER_GENERATION, generation.to_string()]).map(drop))
    }

    /// What was noted under a key.
    pub fn note(&self, key: &str) -> Result<Option<String>> {
        self.read(|tx| first(tx, "SELECT value FROM note WHERE key = ?1", [key], |row| row.get(0)))
    }

    /// The keys that begin with a prefix and under which something was noted, in their order.
    pub fn noted_below(&self, prefix: &str) -> Result<Vec<String>> {
        let sql = "SELECT key FROM note WHERE substr(key, 1, length(?1)) = ?1 ORDER BY key";
        self.read(|tx| all(tx, sql, [prefix], |row| row.get(0)))
    }

    /// Notes something under a key, in place of what was there.
    pub fn set_note(&mut self, key: &str, value: &str) -> Result<()> {
        let sql = "INSERT INTO note (key, value) VALUES (?1, ?2) ON CONFLICT DO UPDATE SET value = excluded.value";
        self.write(|tx| run(tx, sql, params![key, value]).map(drop))
    }

    /// Removes what was noted under a key.
    pub fn clear_note(&mut self, key: &str) -> Result<()> {
        self.write(|tx| run(tx, "DELETE FROM note WHERE key = ?1", [key]).map(drop))
    }

    /// A number that is one greater each time, from 0: where the placement of the next object begins.
    pub fn next_rotation(&mut self) -> Result<u64> {
        // It begins anew at the end of the numbers, so that no turn ever fails.
        let sql = "UPDATE rotation SET next = iif(next = 9223372036854775807, 0, next + 1) RETURNING max(next - 1, 0)";
        self.write(|tx| Ok(first(tx, sql, [], |row| row.get::<_, i64>(0))?.map_or(0, i64::unsigned_abs)))
    }
}
