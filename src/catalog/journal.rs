//! What processes said they were about to write, so that what they left can be found.

use super::column::{all, first, run};
use super::error::{Error, Fault, Result};
use super::record::{JournalEntry, Purpose};
use super::sealed::{open_journal_name, seal_journal_name};
use super::{Catalog, place};
use crate::crypto::CatalogKey;
use crate::id::{BackendId, ObjectId};
use rusqlite::{Connection, Row, Transaction, params};

impl Catalog {
    /// Records what is about to be written, before it is; durable when it returns.
    ///
    /// [`Error::Journaled`] if there is an entry for the object.
    pub fn begin(&mut self, entry: &JournalEntry) -> Result<()> {
        let sealed_name = entry.name.as_ref().map(|name| seal_journal_name(&self.key, entry.object, name));
        self.write(|tx| {
            let sql = "SELECT process FROM journal WHERE object = ?1";
            if let Some(process) = first(tx, sql, [entry.object], |row| row.get(0))? {
                return Err(Error::Journaled { object: entry.object, process }.into());
            }
            run(
                tx,
                "INSERT INTO journal (object, process, purpose, sealed_name, version) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![entry.object, entry.process, entry.purpose, sealed_name, entry.version],
            )?;
            entry.shards.iter().try_for_each(|(index, backend)| insert_place(tx, entry.object, *index, *backend))
        })
    }

    /// Records one more place that is about to be written to; [`Error::NotJournaled`] without an entry.
    pub fn journal_shard(&mut self, object: ObjectId, index: u8, backend: BackendId) -> Result<()> {
        self.write(|tx| {
            if first(tx, "SELECT 1 FROM journal WHERE object = ?1", [object], |_| Ok(()))?.is_none() {
                return Err(Error::NotJournaled { object }.into());
            }
            insert_place(tx, object, index, backend)
        })
    }

    /// Every entry, in the order of the objects' ids.
    pub fn journals(&self) -> Result<Vec<JournalEntry>> {
        self.read(|tx| {
            let sql = "SELECT object, process, purpose, sealed_name, version FROM journal ORDER BY object";
            let mut entries = all(tx, sql, [], |row| read_entry(&self.key, row))?;
            for entry in &mut entries {
                let sql = "SELECT shard_index, backend FROM journal_shard WHERE object = ?1
                    ORDER BY shard_index, backend";
                entry.shards = all(tx, sql, [entry.object], |row| Ok((row.get(0)?, row.get(1)?)))?;
            }
            Ok(entries)
        })
    }

    /// Ends the entry of a put whose object is given up, and from which something may be left in these places: deletes wait for
    /// them. Where the entry is there no more, another process cleared up after this one: what that took in stays.
    pub fn take_back(&mut self, object: ObjectId, left: &[(u8, BackendId)]) -> Result<()> {
        self.write(|tx| {
            let is_known = first(tx, "SELECT 1 FROM object WHERE id = ?1", [object], |_| Ok(()))?.is_some();
            if !is_known || is_journaled(tx, object)? {
                leave(tx, object, left)?;
            }
            run(tx, "DELETE FROM journal WHERE object = ?1", [object]).map(drop)
        })
    }

    /// Whether there is an entry of the put that makes the object.
    pub fn is_journaled(&self, object: ObjectId) -> Result<bool> {
        self.read(|tx| is_journaled(tx, object))
    }

    /// Ends an entry of which something may be left in these places: deletes wait for them from now on.
    ///
    /// A place that the catalog records as one of the object's shards is passed over.
    pub fn end_journal_leaving(&mut self, object: ObjectId, left: &[(u8, BackendId)]) -> Result<()> {
        self.write(|tx| {
            leave(tx, object, left)?;
            run(tx, "DELETE FROM journal WHERE object = ?1", [object]).map(drop)
        })
    }

    /// Ends an entry; one that is not there is ended.
    pub fn end_journal(&mut self, object: ObjectId) -> Result<()> {
        self.write(|tx| run(tx, "DELETE FROM journal WHERE object = ?1", [object]).map(drop))
    }
}

pub(super) fn is_journaled(connection: &Connection, object: ObjectId) -> Result<bool, Fault> {
    let sql = "SELECT 1 FROM journal WHERE object = ?1 AND purpose = ?2";
    Ok(first(connection, sql, params![object, Purpose::Put], |_| Ok(()))?.is_some())
}

/// Deletes wait for what may be in these places, but for those that the catalog records.
pub(super) fn leave(tx: &Transaction<'_>, object: ObjectId, left: &[(u8, BackendId)]) -> Result<(), Fault> {
    for (index, backend) in left {
        let sql = "SELECT 1 FROM shard WHERE object = ?1 AND shard_index = ?2 AND backend = ?3";
        if first(tx, sql, params![object, index, backend], |_| Ok(()))?.is_none() {
            place::pend(tx, object, *index, *backend)?;
        }
    }
    Ok(())
}

fn insert_place(connection: &Connection, object: ObjectId, index: u8, backend: BackendId) -> Result<(), Fault> {
    let sql = "INSERT INTO journal_shard (object, shard_index, backend) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    run(connection, sql, params![object, index, backend]).map(drop)
}

fn read_entry(key: &CatalogKey, row: &Row<'_>) -> rusqlite::Result<JournalEntry> {
    let object = row.get(0)?;
    let sealed_name = row.get_ref(3)?.as_blob_or_null()?;
    Ok(JournalEntry {
        object,
        process: row.get(1)?,
        purpose: row.get(2)?,
        name: sealed_name.map(|sealed| open_journal_name(key, object, sealed)).transpose()?,
        version: row.get(4)?,
        shards: Vec::new(),
    })
}
