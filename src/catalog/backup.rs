//! What backups of the catalog there are, and one state of it to make one from, while others go on writing.

use super::column::{Count, all, first, row_limit, run, value};
use super::error::{Error, Fault, Result};
use super::place::is_dead;
use super::record::{ObjectKind, ObjectRecord};
use super::sealed::{Extent, open_extent, open_name, open_whole};
use super::{Catalog, object, schema};
use crate::crypto::CatalogKey;
use crate::format::index::{Index, Piece};
use crate::format::{BackupPart, Removal, RemovedObject, RemovedShard, RemovedVersion, WholeBackup};
use crate::id::{ObjectId, VersionId};
use rusqlite::{Connection, Row, Transaction, params};
use std::path::PathBuf;
use std::sync::Arc;

/// A living object that backs up a catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupObject {
    /// The object.
    pub object: ObjectId,
    /// Which part of which backup it is.
    pub part: BackupPart,
}

/// One state of the catalog, read through a connection of its own: others write meanwhile, and nothing of that is seen.
#[derive(Debug)]
pub struct Snapshot {
    connection: Connection,
    path: PathBuf,
    key: Arc<CatalogKey>,
}

impl Catalog {
    /// The catalog as it is now.
    pub fn snapshot(&self) -> Result<Snapshot> {
        let connection = schema::open(&self.path, &self.key)?;
        let begin = || {
            connection.execute_batch("BEGIN")?;
            // The state is chosen by the first question.
            value::<Count, _>(&connection, "SELECT count(*) FROM store", [])
        };
        begin().map_err(|fault: Fault| fault.at(&self.path))?;
        Ok(Snapshot { connection, path: self.path.clone(), key: Arc::clone(&self.key) })
    }

    /// The living objects that back up a catalog, those of the newest backup first.
    pub fn backup_objects(&self) -> Result<Vec<BackupObject>> {
        let sql =
            "SELECT b.object, b.generation, b.records, b.whole FROM backup_part b JOIN object o ON o.id = b.object
            WHERE o.dead = 0 ORDER BY b.generation DESC, b.object DESC";
        let found = self.read(|tx| {
            all(tx, sql, [], |row| {
                let (generation, records) = (row.get::<_, Count>(1)?.0, row.get::<_, Count>(2)?.0);
                Ok((row.get(0)?, generation, records, row.get::<_, Option<String>>(3)?))
            })
        })?;
        let part = |(object, generation, records, whole): (ObjectId, u64, u64, Option<String>)| {
            let whole = whole.map(|json| serde_json::from_str::<WholeBackup>(&json)).transpose();
            let damaged =
                |error: serde_json::Error| Error::Damaged { path: self.path.clone(), what: error.to_string() };
            Ok(BackupObject { object, part: BackupPart { generation, records, whole: whole.map_err(damaged)? } })
        };
        found.into_iter().map(part).collect()
    }

    /// The greatest generation of a backup that is known, 0 without any.
    pub fn backup_generation(&self) -> Result<u64> {
        let sql = "SELECT ifnull(max(generation), 0) FROM backup_part";
        self.read(|tx| Ok(value::<Count, _>(tx, sql, [])?.0))
    }

    /// The number that the object which came last was given, 0 where there never was one.
    pub fn last_arrival(&self) -> Result<u64> {
        self.read(last_arrival)
    }

    /// How many objects that no backup is made of came after this number; counts to `limit`.
    pub fn count_arrivals_after(&self, number: u64, limit: usize) -> Result<u64> {
        let sql = "SELECT count(*) FROM (SELECT 1 FROM arrival a JOIN object o ON o.id = a.object
            WHERE a.number > ?1 AND o.kind <> ?2 LIMIT ?3)";
        self.read(|tx| Ok(value::<Count, _>(tx, sql, params![Count(number), ObjectKind::Catalog, row_limit(limit)])?.0))
    }

    /// Takes note of when an object was last read in full, as a backup says; nothing where a later time is known.
    pub fn recall_verified(&mut self, object: ObjectId, verified_ns: i64) -> Result<()> {
        self.write(|tx| match is_dead(tx, object) {
            Ok(false) => {
                let sql = "UPDATE object SET verified_ns = ?2 WHERE id = ?1 AND ifnull(verified_ns, ?3) < ?2";
                run(tx, sql, params![object, verified_ns, i64::MIN]).map(drop)
            }
            Ok(true) | Err(Fault::Known(Error::UnknownObject { .. })) => Ok(()),
            Err(fault) => Err(fault),
        })
    }
}

/// Remembers which part of a backup an object is.
pub(super) fn insert_part(tx: &Transaction<'_>, object: ObjectId, part: &BackupPart) -> Result<(), Fault> {
    let whole = part.whole.as_ref().map(serde_json::to_string).transpose();
    let whole = whole.map_err(|error| Fault::Sqlite(rusqlite::Error::ToSqlConversionFailure(Box::new(error))))?;
    let sql = "INSERT INTO backup_part (object, generation, records, whole) VALUES (?1, ?2, ?3, ?4)
        ON CONFLICT DO NOTHING";
    run(tx, sql, params![object, Count(part.generation), Count(part.records), whole]).map(drop)
}

fn last_arrival(connection: &Connection) -> Result<u64, Fault> {
    let sql = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'arrival'";
    Ok(value::<Count, _>(connection, sql, [])?.0)
}

impl Snapshot {
    /// The number that the object which came last was given.
    pub fn last_arrival(&self) -> Result<u64> {
        self.ask(last_arrival)
    }

    /// The next objects that came after this number, in the order in which they did, dead ones too; no backups.
    pub fn arrivals_after(&self, number: u64, limit: usize) -> Result<Vec<(u64, ObjectId)>> {
        let sql = "SELECT a.number, a.object FROM arrival a JOIN object o ON o.id = a.object
            WHERE a.number > ?1 AND o.kind <> ?2 ORDER BY a.number LIMIT ?3";
        let read = |row: &Row<'_>| Ok((row.get::<_, Count>(0)?.0, row.get(1)?));
        self.ask(|tx| all(tx, sql, params![Count(number), ObjectKind::Catalog, row_limit(limit)], read))
    }

    /// The next living objects that were read in full later than this, and came no later than `number`: by time, then id.
    pub fn verified_after(
        &self,
        (after_ns, after): (i64, Option<ObjectId>),
        number: u64,
        limit: usize,
    ) -> Result<Vec<(i64, ObjectId)>> {
        let sql = "SELECT o.verified_ns, o.id FROM object o JOIN arrival a ON a.object = o.id
            WHERE o.dead = 0 AND (o.verified_ns, o.id) > (?1, ifnull(?2, x'')) AND a.number <= ?3 AND o.kind <> ?4
            ORDER BY o.verified_ns, o.id LIMIT ?5";
        let params = params![after_ns, after, Count(number), ObjectKind::Catalog, row_limit(limit)];
        self.ask(|tx| all(tx, sql, params, |row| Ok((row.get(0)?, row.get(1)?))))
    }

    /// The latest time at which an object was read in full.
    pub fn last_verified_ns(&self) -> Result<Option<i64>> {
        self.ask(|tx| value(tx, "SELECT max(verified_ns) FROM object WHERE dead = 0", []))
    }

    /// When an object was last read in full.
    pub fn verified_ns(&self, object: ObjectId) -> Result<Option<i64>> {
        let sql = "SELECT verified_ns FROM object WHERE id = ?1";
        self.ask(|tx| Ok(first(tx, sql, [object], |row| row.get(0))?.flatten()))
    }

    /// What was noted under a key.
    pub fn note(&self, key: &str) -> Result<Option<String>> {
        self.ask(|tx| first(tx, "SELECT value FROM note WHERE key = ?1", [key], |row| row.get(0)))
    }

    /// An object, and the index that it has as far as was taken in of it.
    pub fn object(&self, id: ObjectId) -> Result<Option<(ObjectRecord, Index)>> {
        self.ask(|tx| {
            let Some(record) = object::load(tx, id)? else { return Ok(None) };
            let index = match record.kind {
                ObjectKind::Data => Index { pieces: pieces_of(tx, &self.key, id)?, ..Index::default() },
                ObjectKind::Removal => Index { removal: Some(removal_of(tx, &self.key, &record)?), ..Index::default() },
                ObjectKind::Catalog => Index::default(),
            };
            Ok(Some((record, index)))
        })
    }

    fn ask<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T> {
        work(&self.connection).map_err(|fault| fault.at(&self.path))
    }
}

/// The pieces in an object, in the order of their offsets.
fn pieces_of(connection: &Connection, key: &CatalogKey, object: ObjectId) -> Result<Vec<Piece>, Fault> {
    let sql = "SELECT p.version, p.ordinal, p.sealed_extent, v.name_tag, v.sealed_name, v.last_ordinal, v.generation,
            v.sealed_whole FROM piece p JOIN version v ON v.id = p.version WHERE p.object = ?1";
    let read = |row: &Row<'_>| {
        let (version, ordinal, tag) = (row.get(0)?, row.get(1)?, row.get(3)?);
        let place = (version, ordinal, object);
        let Extent { offset, bytes } = open_extent(key, place, row.get_ref(2)?.as_blob()?)?;
        let is_last = row.get::<_, Option<u32>>(5)? == Some(ordinal);
        let last = match is_last {
            true => Some(open_whole(key, version, (tag, row.get(6)?), row.get_ref(7)?.as_blob()?)?),
            false => None,
        };
        Ok(Piece {
            version,
            name: open_name(key, version, tag, row.get_ref(4)?.as_blob()?)?,
            ordinal,
            offset,
            bytes,
            last,
        })
    };
    let mut pieces = all(connection, sql, [object], read)?;
    for piece in &mut pieces {
        if let Some(whole) = &mut piece.last {
            let sql = "SELECT parent FROM parent WHERE version = ?1 ORDER BY position";
            whole.parents = all(connection, sql, [piece.version], |row| row.get(0))?;
        }
    }
    pieces.sort_by_key(|piece| (piece.offset, piece.bytes, piece.version, piece.ordinal));
    Ok(pieces)
}

/// What a removal removes: its objects in the order in which its manifest names them.
fn removal_of(connection: &Connection, key: &CatalogKey, record: &ObjectRecord) -> Result<Removal, Fault> {
    let sql = "SELECT v.id, v.name_tag, v.sealed_name, ifnull(v.generation, 0)
        FROM removed_version r JOIN version v ON v.id = r.version WHERE r.removal = ?1 ORDER BY v.id";
    let read = |row: &Row<'_>| {
        let version: VersionId = row.get(0)?;
        let name = open_name(key, version, row.get(1)?, row.get_ref(2)?.as_blob()?)?;
        Ok(RemovedVersion { version, name, generation: row.get::<_, Count>(3)?.0 })
    };
    let versions = all(connection, sql, [record.id], read)?;
    let removes = record.manifest(&key.store_id()).map(|manifest| manifest.removes().to_vec()).unwrap_or_default();
    let sql = "SELECT shard_index, backend FROM removed_shard WHERE object = ?1 AND removal = ?2
        ORDER BY shard_index, backend";
    let mut objects = Vec::new();
    for object in removes {
        let read = |row: &Row<'_>| Ok(RemovedShard { index: row.get(0)?, backend: row.get(1)? });
        objects.push(RemovedObject { object, shards: all(connection, sql, params![object, record.id], read)? });
    }
    Ok(Removal { versions, objects })
}
