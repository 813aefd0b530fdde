//! What is in the catalog altogether, by aggregates.

use super::Catalog;
use super::column::{Count, all, first, value};
use super::error::{Fault, Result};
use super::record::{ObjectHealth, ObjectKind, ObjectState, ShardState};
use super::standing::{ObjectClass, classes};
use crate::id::{BackendId, Geometry};
use rusqlite::{Connection, params};
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
    /// When the oldest of those was put that were never checked in full; long ago where one does not say when.
    pub oldest_unverified_put_ns: Option<i64>,
    /// The least zone margin.
    pub smallest_margin: Option<u32>,
    /// The least backend margin.
    pub smallest_backend_margin: Option<u32>,
}

impl Catalog {
    /// The catalog in numbers; from what is counted as it changes, so that it takes no longer with more objects.
    pub fn stats(&self) -> Result<CatalogStats> {
        self.read(|tx| {
            let (files, versions) = first(tx, "SELECT files, versions FROM tally", [], |row| {
                Ok((row.get::<_, Count>(0)?.0, row.get::<_, Count>(1)?.0))
            })?
            .unwrap_or_default();
            let count = |sql: &str| Ok::<_, Fault>(value::<Count, _>(tx, sql, [])?.0);
            let mut stats = CatalogStats {
                files,
                versions,
                backends: used(tx)?,
                pending_deletes: count("SELECT count(*) FROM pending_delete")?,
                unfinished: count(
                    "SELECT count(*) FROM version WHERE complete = 0 AND removed = 0 AND EXISTS (SELECT 1 FROM piece p
                        JOIN object o ON o.id = p.object WHERE p.version = version.id AND o.dead = 0)",
                )?,
                ..CatalogStats::default()
            };
            classes(tx)?.iter().for_each(|class| stats.add(class));
            for (geometry, of) in &mut stats.geometries {
                of.note_ages(tx, *geometry)?;
            }
            Ok(stats)
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

impl CatalogStats {
    fn add(&mut self, class: &ObjectClass) {
        let objects = match class.kind {
            ObjectKind::Data => &mut self.data_objects,
            ObjectKind::Removal => &mut self.removal_objects,
            ObjectKind::Catalog => &mut self.catalog_objects,
        };
        // A file that was tampered with may say anything.
        let more = |count: &mut u64, by: u64| *count = count.saturating_add(by);
        more(objects, class.objects);
        more(self.objects.entry(class.health.state).or_default(), class.objects);
        for shard in &class.shards {
            more(self.shards.entry(shard.state).or_default(), class.objects);
        }
        more(&mut self.payload_bytes, class.payload_bytes);
        more(&mut self.never_verified, class.never_verified);
        let least = |one: Option<u32>, other: Option<u32>| [one, other].into_iter().flatten().min();
        let ObjectHealth { margin, backend_margin, .. } = class.health;
        self.smallest_margin = least(self.smallest_margin, margin);
        self.smallest_backend_margin = least(self.smallest_backend_margin, backend_margin);
        let of = self.geometries.entry(class.geometry).or_default();
        more(&mut of.objects, class.objects);
        more(&mut of.never_verified, class.never_verified);
        of.smallest_margin = least(of.smallest_margin, margin);
        of.smallest_backend_margin = least(of.smallest_backend_margin, backend_margin);
    }
}

impl GeometryStats {
    fn note_ages(&mut self, connection: &Connection, geometry: Geometry) -> Result<(), Fault> {
        let [data, total] = [geometry.data_shards(), geometry.total_shards()].map(|shards| Count(shards as u64));
        let sql = "SELECT verified_ns FROM object WHERE dead = 0 AND data_shards = ?1 AND total_shards = ?2
            AND verified_ns IS NOT NULL ORDER BY verified_ns LIMIT 1";
        self.oldest_verified_ns = first(connection, sql, params![data, total], |row| row.get(0))?;
        // What cannot say when it was put comes first.
        let sql = "SELECT ifnull(created_ns, ?3) FROM object WHERE dead = 0 AND data_shards = ?1 AND total_shards = ?2
            AND verified_ns IS NULL ORDER BY created_ns LIMIT 1";
        self.oldest_unverified_put_ns = first(connection, sql, params![data, total, i64::MIN], |row| row.get(0))?;
        Ok(())
    }
}
