//! What is in the catalog altogether, by aggregates.

use super::Catalog;
use super::column::{Count, all, geometry, value};
use super::error::{Fault, Result};
use super::record::{ObjectState, ShardState};
use crate::id::{BackendId, Geometry};
use rusqlite::Connection;
use rusqlite::types::FromSql;
use std::collections::BTreeMap;

/// The catalog in numbers. Dead objects and their shards are in none of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CatalogStats {
    /// Names that have a complete version that was not removed.
    pub files: u64,
    /// Complete versions that were not removed.
    pub versions: u64,
    /// Objects with pieces of files.
    pub data_objects: u64,
    /// Removals that are still needed.
    pub removal_objects: u64,
    /// Objects that back up the catalog.
    pub catalog_objects: u64,
    /// Objects by state; a state that no object has is absent.
    pub objects: BTreeMap<ObjectState, u64>,
    /// Places of shards by state.
    pub shards: BTreeMap<ShardState, u64>,
    /// The payloads of all objects, in bytes.
    pub payload_bytes: u64,
    /// The shards on each backend that are not missing: how many, and their bytes.
    pub backends: BTreeMap<BackendId, (u64, u64)>,
    /// Shards that are to be deleted.
    pub pending_deletes: u64,
    /// Versions that were begun and are not complete.
    pub unfinished: u64,
    /// How well each geometry's objects were looked after.
    pub geometries: BTreeMap<Geometry, GeometryStats>,
    /// Objects that were never checked in full.
    pub never_verified: u64,
    /// The least number of zones that may be lost before some object is; `None` where no check could say.
    pub smallest_margin: Option<u32>,
    /// The same for backends.
    pub smallest_backend_margin: Option<u32>,
}

/// The objects of one geometry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GeometryStats {
    /// How many there are.
    pub objects: u64,
    /// How many were never checked in full.
    pub never_verified: u64,
    /// When the one that was checked longest ago was, in nanoseconds since 1970; of those that ever were.
    pub oldest_verified_ns: Option<i64>,
    /// The least zone margin.
    pub smallest_margin: Option<u32>,
    /// The least backend margin.
    pub smallest_backend_margin: Option<u32>,
}

impl Catalog {
    /// The catalog in numbers; reads every object's and shard's row.
    pub fn stats(&self) -> Result<CatalogStats> {
        self.read(|tx| {
            let geometries = by_geometry(tx)?;
            let count = |sql: &str| Ok::<_, Fault>(value::<Count, _>(tx, sql, [])?.0);
            Ok(CatalogStats {
                files: count("SELECT count(DISTINCT name_tag) FROM version WHERE head = 1")?,
                versions: count("SELECT count(*) FROM version WHERE complete = 1 AND removed = 0")?,
                data_objects: count("SELECT count(*) FROM object WHERE dead = 0 AND kind = 0")?,
                removal_objects: count("SELECT count(*) FROM object WHERE dead = 0 AND kind = 1")?,
                catalog_objects: count("SELECT count(*) FROM object WHERE dead = 0 AND kind = 2")?,
                objects: counts_by(tx, "SELECT state, count(*) FROM object WHERE dead = 0 GROUP BY state")?,
                shards: counts_by(tx, "SELECT state, count(*) FROM shard GROUP BY state")?,
                payload_bytes: count("SELECT ifnull(sum(payload_bytes), 0) FROM object WHERE dead = 0")?,
                backends: used(tx)?,
                pending_deletes: count("SELECT count(*) FROM pending_delete")?,
                unfinished: count(
                    "SELECT count(*) FROM version WHERE complete = 0 AND removed = 0 AND EXISTS (SELECT 1 FROM piece p
                        JOIN object o ON o.id = p.object WHERE p.version = version.id AND o.dead = 0)",
                )?,
                never_verified: geometries.values().map(|stats| stats.never_verified).sum(),
                smallest_margin: geometries.values().filter_map(|stats| stats.smallest_margin).min(),
                smallest_backend_margin: geometries.values().filter_map(|stats| stats.smallest_backend_margin).min(),
                geometries,
            })
        })
    }

    /// What lies on each backend as far as is known: how many shards that are not missing, and their bytes. Kept up to
    /// date with every change, not added up.
    pub fn used_by_backend(&self) -> Result<BTreeMap<BackendId, (u64, u64)>> {
        self.read(used)
    }
}

fn used(connection: &Connection) -> Result<BTreeMap<BackendId, (u64, u64)>, Fault> {
    let rows = all(connection, "SELECT backend, shards, bytes FROM backend_use WHERE shards > 0", [], |row| {
        Ok((row.get(0)?, (row.get::<_, Count>(1)?.0, row.get::<_, Count>(2)?.0)))
    })?;
    Ok(rows.into_iter().collect())
}

fn counts_by<K: FromSql + Ord>(connection: &Connection, sql: &str) -> Result<BTreeMap<K, u64>, Fault> {
    let rows = all(connection, sql, [], |row| Ok((row.get(0)?, row.get::<_, Count>(1)?.0)))?;
    Ok(rows.into_iter().collect())
}

fn by_geometry(connection: &Connection) -> Result<BTreeMap<Geometry, GeometryStats>, Fault> {
    let sql =
        "SELECT data_shards, total_shards, count(*), count(*) - count(verified_ns), min(verified_ns), min(margin),
        min(backend_margin) FROM object WHERE dead = 0 GROUP BY data_shards, total_shards";
    let rows = all(connection, sql, [], |row| {
        let stats = GeometryStats {
            objects: row.get::<_, Count>(2)?.0,
            never_verified: row.get::<_, Count>(3)?.0,
            oldest_verified_ns: row.get(4)?,
            smallest_margin: row.get(5)?,
            smallest_backend_margin: row.get(6)?,
        };
        Ok((geometry(row, 0, 1)?, stats))
    })?;
    Ok(rows.into_iter().collect())
}
