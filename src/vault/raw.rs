//! Bytes under bytes in the order of the keys, inside one transaction: what vault and chamber both stand on.

use super::error::{Error, Result};
use rusqlite::{CachedStatement, Connection, Row, params};
use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::time::Duration;

/// One transaction's view of the entries, or of the bodies beside them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'c> {
    connection: &'c Connection,
    path: &'c Path,
    now_ms: i64,
    table: Table,
    check: [u8; 32],
}

/// Which of the file's trees is asked: what a page of one of them hides, the other shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    /// Every database has it.
    Entry,
    /// Those have it whose form says so.
    Body,
}

/// A statement about the table that is asked.
macro_rules! about {
    ($raw:expr, $before:literal, $after:literal) => {
        match $raw.table {
            Table::Entry => concat!($before, "entry", $after),
            Table::Body => concat!($before, "body", $after),
        }
    };
}

/// An entry as it lies in the file, not yet checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawEntry<'r> {
    pub(crate) key: &'r [u8],
    pub(crate) value: &'r [u8],
    /// When it expires, in milliseconds since 1970.
    pub(crate) expires: Option<i64>,
    /// What the writer kept to check it by.
    pub(crate) digest: Option<i64>,
}

/// Keys from one on, up to another, which is not among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRange {
    pub(crate) from: Vec<u8>,
    pub(crate) to: Option<Vec<u8>>,
}

impl KeyRange {
    pub(crate) fn all() -> Self {
        Self { from: Vec::new(), to: None }
    }

    pub(crate) fn new(from: Bound<Vec<u8>>, to: Bound<Vec<u8>>) -> Self {
        let after = |mut key: Vec<u8>| {
            key.push(0);
            key
        };
        let from = match from {
            Bound::Unbounded => Vec::new(),
            Bound::Included(key) => key,
            Bound::Excluded(key) => after(key),
        };
        let to = match to {
            Bound::Unbounded => None,
            Bound::Included(key) => Some(after(key)),
            Bound::Excluded(key) => Some(key),
        };
        Self { from, to }
    }

    /// The keys that begin so.
    pub(crate) fn beginning_with(prefix: Vec<u8>) -> Self {
        let mut to = prefix.clone();
        while to.last() == Some(&u8::MAX) {
            to.pop();
        }
        if let Some(last) = to.last_mut() {
            *last += 1;
        }
        Self { from: prefix, to: (!to.is_empty()).then_some(to) }
    }
}

impl<'c> Raw<'c> {
    pub(crate) fn new(connection: &'c Connection, path: &'c Path, now_ms: i64) -> Self {
        Self { connection, path, now_ms, table: Table::Entry, check: [0; 32] }
    }

    /// The same, of a state that says under which key it is sealed.
    pub(super) fn sealed_under(self, check: [u8; 32]) -> Self {
        Self { check, ..self }
    }

    /// Tells under which key this state of the file is sealed; zero where nothing is.
    pub(crate) fn check(&self) -> [u8; 32] {
        self.check
    }

    /// The other table's rows, in the same transaction.
    pub(crate) fn bodies(&self) -> Self {
        Self { table: Table::Body, ..*self }
    }

    /// The time when the transaction began, in milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Whether something that expires then has expired.
    pub(crate) fn has_expired(&self, expires: Option<i64>) -> bool {
        expires.is_some_and(|expires| expires <= self.now_ms)
    }

    /// When something expires that is put now; what would never come in the life of this world comes at its end.
    pub(crate) fn after(&self, ttl: Duration) -> i64 {
        self.now_ms.saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX))
    }

    pub(super) fn connection(&self) -> &'c Connection {
        self.connection
    }

    pub(crate) fn damaged(&self, what: impl Into<String>) -> Error {
        Error::Damaged { path: self.path.to_owned(), what: what.into() }
    }

    /// Gives the entry under a key to `work`, without copying it first.
    pub(crate) fn get<T, E: From<Error>>(
        &self,
        key: &[u8],
        work: impl FnOnce(RawEntry<'_>) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        let mut statement =
            self.prepare(about!(self, "SELECT key, value, expires, digest FROM ", " WHERE key = ?1"))?;
        let mut rows = self.sql(statement.query([key]))?;
        match self.sql(rows.next())? {
            None => Ok(None),
            Some(row) => work(self.sql(entry(row))?).map(Some),
        }
    }

    pub(crate) fn contains(&self, key: &[u8]) -> Result<bool> {
        let mut statement = self.prepare(about!(self, "SELECT 1 FROM ", " WHERE key = ?1"))?;
        self.sql(statement.exists([key]))
    }

    pub(crate) fn put(&self, entry: RawEntry<'_>) -> Result<()> {
        let mut statement = self.prepare(about!(
            self,
            "INSERT INTO ",
            " VALUES (?1, ?2, ?3, ?4) ON CONFLICT (key) DO UPDATE SET value = excluded.value, \
             expires = excluded.expires, digest = excluded.digest"
        ))?;
        let done = statement.execute(params![entry.key, entry.value, entry.expires, entry.digest]);
        self.sql(done).map(drop)
    }

    /// Says whether there was one.
    pub(crate) fn delete(&self, key: &[u8]) -> Result<bool> {
        let mut statement = self.prepare(about!(self, "DELETE FROM ", " WHERE key = ?1"))?;
        self.sql(statement.execute([key])).map(|count| count > 0)
    }

    /// Deletes the entries of a range, and says how many there were.
    pub(crate) fn delete_range(&self, range: &KeyRange) -> Result<u64> {
        let done = match &range.to {
            None => self.prepare(about!(self, "DELETE FROM ", " WHERE key >= ?1"))?.execute([&range.from]),
            Some(to) => {
                let mut statement = self.prepare(about!(self, "DELETE FROM ", " WHERE key >= ?1 AND key < ?2"))?;
                statement.execute([&range.from, to])
            }
        };
        self.sql(done).map(|count| count as u64)
    }

    /// Gives each entry of a range, in the order of the keys, to `visit` until it has enough.
    pub(crate) fn scan<E: From<Error>>(
        &self,
        range: &KeyRange,
        mut visit: impl FnMut(RawEntry<'_>) -> Result<ControlFlow<()>, E>,
    ) -> Result<(), E> {
        let mut statement = self.prepare(match range.to {
            None => about!(self, "SELECT key, value, expires, digest FROM ", " WHERE key >= ?1 ORDER BY key"),
            Some(_) => {
                about!(self, "SELECT key, value, expires, digest FROM ", " WHERE key >= ?1 AND key < ?2 ORDER BY key")
            }
        })?;
        let queried = match &range.to {
            None => statement.query([&range.from]),
            Some(to) => statement.query([&range.from, to]),
        };
        let mut rows = self.sql(queried)?;
        while let Some(row) = self.sql(rows.next())? {
            if visit(self.sql(entry(row))?)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// How many entries of a range there are, expired ones too.
    pub(crate) fn count(&self, range: &KeyRange) -> Result<u64> {
        let first = |row: &Row<'_>| row.get::<_, i64>(0);
        let counted = match &range.to {
            None => {
                self.prepare(about!(self, "SELECT count(*) FROM ", " WHERE key >= ?1"))?.query_row([&range.from], first)
            }
            Some(to) => {
                let mut statement =
                    self.prepare(about!(self, "SELECT count(*) FROM ", " WHERE key >= ?1 AND key < ?2"))?;
                statement.query_row([&range.from, to], first)
            }
        };
        self.sql(counted).map(i64::unsigned_abs)
    }

    /// How many entries have not expired.
    pub(crate) fn count_living(&self) -> Result<u64> {
        let mut statement = self.prepare(
            "SELECT (SELECT count(*) FROM entry) - (SELECT count(*) FROM entry WHERE expires IS NOT NULL AND expires <= ?1)",
        )?;
        let counted = statement.query_row([self.now_ms], |row| row.get::<_, i64>(0));
        self.sql(counted).map(i64::unsigned_abs)
    }

    /// The keys of the entries that have expired, at most so many, the oldest first.
    pub(crate) fn expired(&self, most: usize) -> Result<Vec<Vec<u8>>> {
        let sql = "SELECT key FROM entry WHERE expires IS NOT NULL AND expires <= ?1 ORDER BY expires LIMIT ?2";
        let mut statement = self.prepare(sql)?;
        let rows = self.sql(statement.query_map(params![self.now_ms, most as i64], |row| row.get(0)))?;
        rows.map(|key| self.sql(key)).collect()
    }

    /// Takes the first byte away from every key, which must be the same in all of them.
    pub(crate) fn drop_first_byte(&self) -> Result<()> {
        self.sql(self.prepare(about!(self, "UPDATE ", " SET key = substr(key, 2)"))?.execute([])).map(drop)
    }

    fn prepare(&self, sql: &str) -> Result<CachedStatement<'c>> {
        self.sql(self.connection.prepare_cached(sql))
    }

    fn sql<T>(&self, outcome: rusqlite::Result<T>) -> Result<T> {
        outcome.map_err(|error| Error::of_database(error, self.path))
    }
}

fn entry<'r>(row: &'r Row<'_>) -> rusqlite::Result<RawEntry<'r>> {
    let blob = |column: usize| row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from);
    Ok(RawEntry { key: blob(0)?, value: blob(1)?, expires: row.get(2)?, digest: row.get(3)? })
}
