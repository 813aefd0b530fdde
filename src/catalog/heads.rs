//! What follows from the pieces and removals: which versions are complete, and which of them are heads.

use super::column::{Count, all, first, run};
use super::error::Fault;
use super::sealed::{Tag, open_extent, open_whole};
use crate::crypto::CatalogKey;
use crate::id::VersionId;
use rusqlite::{Transaction, params};
use std::collections::{BTreeMap, BTreeSet};

/// A version as far as descent goes.
struct Known {
    generation: Option<u64>,
    is_live: bool,
    is_head: bool,
}

/// Works out anew what follows for these versions and their names.
pub(super) fn settle(tx: &Transaction<'_>, key: &CatalogKey, touched: &BTreeSet<VersionId>) -> Result<(), Fault> {
    let mut names = BTreeSet::new();
    for version in touched {
        names.extend(settle_version(tx, key, *version)?);
    }
    names.into_iter().try_for_each(|name| settle_heads(tx, name))
}

/// Sets `removed` and `complete`; gives the tag of the version's name if it is known.
fn settle_version(tx: &Transaction<'_>, key: &CatalogKey, version: VersionId) -> Result<Option<Tag>, Fault> {
    let sql = "UPDATE version SET complete = ?2,
            removed = removed OR EXISTS (SELECT 1 FROM removed_version WHERE version = ?1)
        WHERE id = ?1 RETURNING name_tag";
    let is_complete = is_complete(tx, key, version)?;
    first(tx, sql, params![version, is_complete], |row| row.get(0))
}

/// Whether every piece is in a living object, and together they have the whole's length.
///
/// Where two living objects hold a piece, the lesser id counts, on every machine.
fn is_complete(tx: &Transaction<'_>, key: &CatalogKey, version: VersionId) -> Result<bool, Fault> {
    let sql = "SELECT last_ordinal, generation, name_tag, sealed_whole FROM version
        WHERE id = ?1 AND last_ordinal IS NOT NULL";
    let whole = first(tx, sql, [version], |row| {
        let sealed = row.get_ref(3)?.as_blob()?;
        let whole = open_whole(key, version, (row.get(2)?, row.get(1)?), sealed)?;
        Ok((row.get::<_, u32>(0)?, whole.total_bytes))
    })?;
    let Some((last_ordinal, total_bytes)) = whole else { return Ok(false) };
    let sql = "SELECT p.ordinal, min(p.object), p.sealed_extent FROM piece p JOIN object o ON o.id = p.object
        WHERE p.version = ?1 AND o.dead = 0 AND p.ordinal <= ?2 GROUP BY p.ordinal";
    let pieces = all(tx, sql, params![version, last_ordinal], |row| {
        Ok(open_extent(key, (version, row.get(0)?, row.get(1)?), row.get_ref(2)?.as_blob()?)?.bytes)
    })?;
    let sum = pieces.iter().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
    Ok(pieces.len() as u64 == u64::from(last_ordinal) + 1 && sum == total_bytes)
}

/// A head is a live version that no other live version of the name descends from, through whichever versions.
fn settle_heads(tx: &Transaction<'_>, name: Tag) -> Result<(), Fault> {
    let versions = known_versions(tx, name)?;
    let ancestors = if versions.len() > 1 { ancestors_of_live(tx, name, &versions)? } else { BTreeSet::new() };
    for (id, version) in &versions {
        let is_head = version.is_live && !ancestors.contains(id);
        if is_head != version.is_head {
            run(tx, "UPDATE version SET head = ?2 WHERE id = ?1", params![id, is_head])?;
        }
    }
    Ok(())
}

fn known_versions(tx: &Transaction<'_>, name: Tag) -> Result<BTreeMap<VersionId, Known>, Fault> {
    let sql = "SELECT id, generation, complete = 1 AND removed = 0, head FROM version WHERE name_tag = ?1";
    let rows = all(tx, sql, [name], |row| {
        let generation = row.get::<_, Option<Count>>(1)?.map(|count| count.0);
        Ok((row.get(0)?, Known { generation, is_live: row.get(2)?, is_head: row.get(3)? }))
    })?;
    Ok(rows.into_iter().collect())
}

/// Descent goes to strictly lesser generations, so that no chain of parents can come back to itself.
fn ancestors_of_live(
    tx: &Transaction<'_>,
    name: Tag,
    versions: &BTreeMap<VersionId, Known>,
) -> Result<BTreeSet<VersionId>, Fault> {
    let sql = "SELECT p.version, p.parent FROM version v JOIN parent p ON p.version = v.id WHERE v.name_tag = ?1";
    let mut parents: BTreeMap<VersionId, Vec<VersionId>> = BTreeMap::new();
    for (child, parent) in all(tx, sql, [name], |row| Ok((row.get(0)?, row.get(1)?)))? {
        parents.entry(child).or_default().push(parent);
    }
    let generation = |id: &VersionId| versions.get(id).and_then(|version| version.generation);
    let mut ancestors = BTreeSet::new();
    let mut ahead: Vec<VersionId> = versions.iter().filter(|(_, v)| v.is_live).map(|(id, _)| *id).collect();
    while let Some(child) = ahead.pop() {
        for parent in parents.get(&child).into_iter().flatten() {
            if generation(parent) < generation(&child) && versions.contains_key(parent) && ancestors.insert(*parent) {
                ahead.push(*parent);
            }
        }
    }
    Ok(ancestors)
}
