//! Records of a backup that wait in the file of a new catalog until their objects are found, sealed as all names are.

use super::Catalog;
use super::column::{Count, all, first, row_limit, run, value};
use super::error::{Error, Fault, Result};
use crate::id::ObjectId;
use rusqlite::params;
use std::sync::Arc;

/// Not in the schema: only a file that is being filled has it, and nobody copies it.
const TABLE: &str = "CREATE TABLE IF NOT EXISTS staged (
    object BLOB NOT NULL PRIMARY KEY CHECK (length(object) = 16),
    sealed BLOB,
    verified_ns INTEGER,
    found INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID";

/// A record of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StagedRecord {
    /// The object.
    pub object: ObjectId,
    /// When it was last read in full, in nanoseconds since 1970.
    pub verified_ns: Option<i64>,
    /// The record itself, where it says what the object is.
    pub json: Option<Vec<u8>>,
}

impl Catalog {
    /// Makes a file quick to fill that is of no use until its content is copied out of it: nothing waits for the disk.
    pub fn fill_without_waiting(&mut self) -> Result<()> {
        let relax = self.connection.pragma_update(None, "synchronous", "OFF");
        relax.map_err(|source| Fault::from(source).at(&self.path))?;
        self.write(|tx| Ok(tx.execute_batch(TABLE)?))
    }

    /// Lets records wait, each with its JSON. In whatever order they come: contents are the same in all of one object, and of
    /// times the latest counts.
    pub fn stage(&mut self, records: &[StagedRecord]) -> Result<()> {
        let key = Arc::clone(&self.key);
        self.write(|tx| {
            for record in records {
                let sealed = record.json.as_ref().map(|json| key.seal(&place(record.object), json));
                let sql = "INSERT INTO staged (object, sealed, verified_ns) VALUES (?1, ?2, ?3)
                    ON CONFLICT DO UPDATE SET sealed = ifnull(sealed, excluded.sealed),
                        verified_ns = nullif(max(ifnull(verified_ns, ?4), ifnull(excluded.verified_ns, ?4)), ?4)";
                run(tx, sql, params![record.object, sealed, record.verified_ns, i64::MIN])?;
            }
            Ok(())
        })
    }

    /// What waits of an object: its record's JSON, and when it was last read in full.
    pub fn staged(&self, object: ObjectId) -> Result<Option<(Vec<u8>, Option<i64>)>> {
        let sql = "SELECT sealed, verified_ns FROM staged WHERE object = ?1 AND sealed IS NOT NULL";
        let found = self.read(|tx| first(tx, sql, [object], |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get(1)?))))?;
        found.map(|(sealed, verified_ns)| Ok((self.open_staged(object, &sealed)?, verified_ns))).transpose()
    }

    /// Takes note that an object of a waiting record is there.
    pub fn found_staged(&mut self, object: ObjectId) -> Result<()> {
        self.write(|tx| run(tx, "UPDATE staged SET found = 1 WHERE object = ?1", [object]).map(drop))
    }

    /// How many objects of waiting records were not found and are named by no removal, and the first of them.
    pub fn staged_not_found(&self, limit: usize) -> Result<(u64, Vec<ObjectId>)> {
        let from = "FROM staged s WHERE s.found = 0 AND s.sealed IS NOT NULL
            AND NOT EXISTS (SELECT 1 FROM removed_object r WHERE r.object = s.object)
            AND NOT EXISTS (SELECT 1 FROM object o WHERE o.id = s.object)";
        self.read(|tx| {
            let count = value::<Count, _>(tx, &format!("SELECT count(*) {from}"), [])?;
            let sql = format!("SELECT s.object {from} ORDER BY s.object LIMIT ?1");
            Ok((count.0, all(tx, &sql, [row_limit(limit)], |row| row.get(0))?))
        })
    }

    fn open_staged(&self, object: ObjectId, sealed: &[u8]) -> Result<Vec<u8>> {
        let damaged = |_| Error::Damaged {
            path: self.path.clone(),
            what: format!("the record of object {object} does not open"),
        };
        Ok(self.key.open(&place(object), sealed).map_err(damaged)?.to_vec())
    }
}

fn place(object: ObjectId) -> Vec<u8> {
    [b"staged record\n".as_slice(), object.as_bytes()].concat()
}
