//! How the objects stand altogether: classes of those that are alike, counted as they change.
//!
//! Triggers note each object that a transaction changes, with the class it was in; the end of the transaction counts them
//! anew. So the counts are right in every state of the file that anyone sees.

use super::Catalog;
use super::column::{Count, all, value};
use super::error::{Fault, Result};
use super::record::{ObjectHealth, ObjectKind, ObjectState, ShardRecord, ShardState};
use crate::id::{BackendId, Geometry, ObjectId};
use rusqlite::Connection;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, Type, ValueRef};
use std::collections::BTreeMap;

/// Living objects that are alike in all that says how they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectClass {
    /// What they are.
    pub kind: ObjectKind,
    /// How they were split.
    pub geometry: Geometry,
    /// What was last found of them; no object in particular, and of times only whether there was one.
    pub health: ObjectHealth,
    /// Where the shards of each are, and in which state; how many bytes they have is not known here.
    pub shards: Vec<ShardRecord>,
    /// How many objects these are.
    pub objects: u64,
    /// Their payloads, in bytes.
    pub payload_bytes: u64,
    /// How many of them were never verified in full.
    pub never_verified: u64,
}

/// What the key of a class says: kind, k, n, state, margins, whether ever checked, and each shard's index, backend and
/// state. Numbers are as in the columns.
type Key = (i64, u8, u8, i64, Option<u32>, Option<u32>, u8, Vec<(u8, String, i64)>);

impl Catalog {
    /// The classes that there are. As many as there are kinds of placement and damage, not as there are objects.
    pub fn classes(&self) -> Result<Vec<ObjectClass>> {
        self.read(classes)
    }

    /// Shards that are to be deleted, by backend.
    pub fn pending_by_backend(&self) -> Result<BTreeMap<BackendId, u64>> {
        let sql = "SELECT backend, count(*) FROM pending_delete GROUP BY backend";
        let read = |tx: &Connection| all(tx, sql, [], |row| Ok((row.get(0)?, row.get::<_, Count>(1)?.0)));
        Ok(self.read(read)?.into_iter().collect())
    }
}

pub(super) fn classes(connection: &Connection) -> Result<Vec<ObjectClass>, Fault> {
    all(connection, "SELECT key, objects, payload_bytes, unverified FROM class ORDER BY key", [], |row| {
        let class = class_of(row.get_ref(0)?.as_str()?)
            .map_err(|error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error)))?;
        let [objects, payload_bytes, never_verified] =
            [row.get::<_, Count>(1)?.0, row.get::<_, Count>(2)?.0, row.get::<_, Count>(3)?.0];
        Ok(ObjectClass { objects, payload_bytes, never_verified, ..class })
    })
}

fn class_of(key: &str) -> FromSqlResult<ObjectClass> {
    let other = |error: Box<dyn std::error::Error + Send + Sync>| FromSqlError::Other(error);
    let key: Key = serde_json::from_str(key).map_err(|error| other(Box::new(error)))?;
    let (kind, data_shards, total_shards, state, margin, backend_margin, was_checked, places) = key;
    let geometry = Geometry::new(usize::from(data_shards), usize::from(total_shards));
    let health = ObjectHealth {
        object: ObjectId([0; ObjectId::BYTES]),
        state: ObjectState::column_result(ValueRef::Integer(state))?,
        margin,
        backend_margin,
        checked_ns: (was_checked != 0).then_some(0),
        verified_ns: None,
    };
    let shard = |(index, backend, state): (u8, String, i64)| {
        let backend = backend.parse().map_err(|error| FromSqlError::Other(Box::new(error)))?;
        let state = ShardState::column_result(ValueRef::Integer(state))?;
        Ok(ShardRecord { index, backend, bytes: 0, state, bad_blocks: 0, verified_ns: None })
    };
    Ok(ObjectClass {
        kind: ObjectKind::column_result(ValueRef::Integer(kind))?,
        geometry: geometry.map_err(|error| other(Box::new(error)))?,
        health,
        shards: places.into_iter().map(shard).collect::<FromSqlResult<_>>()?,
        objects: 0,
        payload_bytes: 0,
        never_verified: 0,
    })
}

/// Counts the objects anew that the transaction has changed: at its end.
pub(super) fn count(connection: &Connection) -> Result<(), Fault> {
    if !value::<bool, _>(connection, "SELECT EXISTS (SELECT 1 FROM changed)", [])? {
        return Ok(());
    }
    for sql in [FROM_CLASS, TO_CLASS, "DELETE FROM class WHERE objects = 0", "DELETE FROM changed"] {
        connection.prepare_cached(sql)?.execute([])?;
    }
    Ok(())
}

const FROM_CLASS: &str = "
    INSERT INTO class SELECT key, -count(*), -sum(payload_bytes), -sum(unverified) FROM changed
        WHERE key IS NOT NULL GROUP BY key
    ON CONFLICT DO UPDATE SET objects = objects + excluded.objects,
        payload_bytes = payload_bytes + excluded.payload_bytes, unverified = unverified + excluded.unverified";

const TO_CLASS: &str = "
    INSERT INTO class SELECT s.key, count(*), sum(s.payload_bytes), sum(s.unverified)
        FROM changed c CROSS JOIN standing s ON s.object = c.object WHERE true GROUP BY s.key
    ON CONFLICT DO UPDATE SET objects = objects + excluded.objects,
        payload_bytes = payload_bytes + excluded.payload_bytes, unverified = unverified + excluded.unverified";

/// What is wrong with the counts; found by adding everything up.
pub(super) fn contradiction(connection: &Connection) -> Result<Option<&'static str>, Fault> {
    let checks = [
        ("objects were changed and not counted", "SELECT EXISTS (SELECT 1 FROM changed)"),
        (
            "the counts of objects do not add up",
            "WITH counted AS (SELECT key, count(*), sum(payload_bytes), sum(unverified) FROM standing GROUP BY key)
            SELECT EXISTS (SELECT * FROM counted EXCEPT SELECT * FROM class)
                OR EXISTS (SELECT * FROM class EXCEPT SELECT * FROM counted)",
        ),
        (
            "the counts of files and versions do not add up",
            "SELECT (files, versions) IS NOT (SELECT count(DISTINCT iif(head = 1, name_tag, NULL)),
                ifnull(sum(complete = 1 AND removed = 0), 0) FROM version) FROM tally",
        ),
        (
            "the counts of shards on backends do not add up",
            "WITH counted AS (SELECT backend, count(*), sum(bytes) FROM shard WHERE state <> 1 GROUP BY backend)
            SELECT EXISTS (SELECT * FROM counted EXCEPT SELECT * FROM backend_use)
                OR EXISTS (SELECT * FROM backend_use WHERE shards <> 0 EXCEPT SELECT * FROM counted)",
        ),
    ];
    for (what, sql) in checks {
        if value::<bool, _>(connection, sql, [])? {
            return Ok(Some(what));
        }
    }
    Ok(None)
}
