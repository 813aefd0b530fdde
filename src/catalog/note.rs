//! Small facts of this machine: notes by key, and the counter that turns from object to object.

use super::Catalog;
use super::column::{first, run};
use super::error::Result;
use rusqlite::params;

impl Catalog {
    /// What was noted under a key.
    pub fn note(&self, key: &str) -> Result<Option<String>> {
        self.read(|tx| first(tx, "SELECT value FROM note WHERE key = ?1", [key], |row| row.get(0)))
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
