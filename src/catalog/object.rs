//! Questions about objects: what they are, what they hold, how much of that is still needed.

use super::Catalog;
use super::column::{Count, all, first, geometry, row_limit, value};
use super::error::{Error, Fault, Result};
use super::record::{ObjectRecord, SparseObject};
use super::sealed::{open_extent, open_name};
use crate::crypto::CatalogKey;
use crate::format::FileName;
use crate::id::{ObjectId, VersionId};
use rusqlite::{Connection, Row, params};
use std::collections::BTreeSet;

/// 1 where a piece `p` of a version `v` is needed where it is: its version is complete and not removed, and no healthy
/// living object with a lesser id has the piece too. The greatest claim is on the least id, so that two machines that
/// know different copies never give up all of them.
const IS_NEEDED: &str = "(v.complete AND NOT v.removed AND NOT EXISTS (
    SELECT 1 FROM piece e JOIN object d ON d.id = e.object
        WHERE e.version = p.version AND e.ordinal = p.ordinal AND e.object < p.object AND d.dead = 0 AND d.state = 0))";

impl Catalog {
    /// An object, dead or alive.
    pub fn object(&self, id: ObjectId) -> Result<Option<ObjectRecord>> {
        self.read(|tx| load(tx, id))
    }

    /// The living object whose id begins with these hexadecimal digits; [`Error::Ambiguous`] if there are several.
    pub fn object_by_prefix(&self, text: &str) -> Result<Option<ObjectRecord>> {
        self.read(|tx| {
            let (low, high) = prefix_range(text)?;
            let sql = "SELECT id FROM object WHERE id BETWEEN ?1 AND ?2 AND dead = 0 LIMIT 2";
            let ids = all(tx, sql, params![low, high], |row| row.get(0))?;
            only(text, &ids)?.map_or(Ok(None), |id| load(tx, id))
        })
    }

    /// Whether the object is known and not dead.
    pub fn object_is_live(&self, object: ObjectId) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM object WHERE id = ?1 AND dead = 0)";
        self.read(|tx| value(tx, sql, [object]))
    }

    /// The next living objects after `after`, removals too, in the order of their ids.
    pub fn objects_after(&self, after: Option<ObjectId>, limit: usize) -> Result<Vec<ObjectId>> {
        let sql = "SELECT id FROM object WHERE dead = 0 AND id > ifnull(?1, x'') ORDER BY id LIMIT ?2";
        self.read(|tx| all(tx, sql, params![after, row_limit(limit)], |row| row.get(0)))
    }

    /// The living objects that have pieces of a version, in the order of the pieces; every copy of a piece counts.
    pub fn objects_of_version(&self, version: VersionId) -> Result<Vec<ObjectId>> {
        self.read(|tx| live_objects_of(tx, version))
    }

    /// Names of versions that were not removed and have pieces in the object, in order, at most `limit`.
    pub fn names_of_object(&self, object: ObjectId, limit: usize) -> Result<Vec<FileName>> {
        let sql = "SELECT v.id, v.name_tag, v.sealed_name FROM piece p JOIN version v ON v.id = p.version
            WHERE p.object = ?1 AND v.removed = 0";
        let read = |row: &Row<'_>| open_name(&self.key, row.get(0)?, row.get(1)?, row.get_ref(2)?.as_blob()?);
        self.read(|tx| {
            // An object may have very many names: of those in order only the first are kept.
            let mut names = BTreeSet::new();
            let mut statement = tx.prepare_cached(sql)?;
            let mut rows = statement.query([object])?;
            while let Some(row) = rows.next()? {
                names.insert(read(row)?);
                if names.len() > limit {
                    names.pop_last();
                }
            }
            Ok(names.into_iter().collect())
        })
    }

    /// How many file bytes of the object belong to complete versions that were not removed; a piece that an earlier
    /// healthy object has too does not count.
    pub fn live_bytes(&self, object: ObjectId) -> Result<u64> {
        let sql = format!(
            "SELECT p.version, p.ordinal, p.object, p.sealed_extent FROM piece p JOIN version v ON v.id = p.version
                WHERE p.object = ?1 AND {IS_NEEDED}"
        );
        self.read(|tx| {
            let pieces = all(tx, &sql, [object], |row| read_bytes(&self.key, row))?;
            Ok(pieces.into_iter().fold(0, u64::saturating_add))
        })
    }

    /// Living data objects of which less than `threshold` (0 to 1) of the file bytes are live, and those of which no
    /// piece is; none that has a piece of an unfinished version. Reads all pieces: for `gc` alone.
    pub fn sparse_objects(&self, threshold: f64) -> Result<Vec<SparseObject>> {
        let sql = "SELECT id FROM object WHERE dead = 0 AND kind = 0 AND id > ?1 ORDER BY id LIMIT 1";
        self.read(|tx| {
            let (mut sparse, mut last) = (Vec::new(), Vec::new());
            while let Some(object) = first(tx, sql, [&last], |row| row.get::<_, ObjectId>(0))? {
                last = object.as_bytes().to_vec();
                let is_sparse = |found: &SparseObject| {
                    found.live_pieces == 0 || (found.live_bytes as f64) < threshold * found.file_bytes as f64
                };
                sparse.extend(contents(tx, &self.key, object)?.filter(is_sparse));
            }
            Ok(sparse)
        })
    }

    /// The living objects of these versions that would hold nothing if the versions were removed: what a removal of
    /// them names as objects.
    pub fn objects_emptied_by(&self, versions: &[VersionId]) -> Result<Vec<ObjectId>> {
        let going: BTreeSet<VersionId> = versions.iter().copied().collect();
        self.read(|tx| {
            let mut candidates = BTreeSet::new();
            for version in &going {
                candidates.extend(live_objects_of(tx, *version)?);
            }
            let mut emptied = Vec::new();
            for object in candidates {
                if !holds_other_than(tx, object, &going)? {
                    emptied.push(object);
                }
            }
            Ok(emptied)
        })
    }
}

/// What an object holds and how much of it is live; `None` if it has a piece of an unfinished version.
fn contents(connection: &Connection, key: &CatalogKey, object: ObjectId) -> Result<Option<SparseObject>, Fault> {
    let sql = format!(
        "SELECT p.version, p.ordinal, p.object, p.sealed_extent, {IS_NEEDED}, v.complete = 0 AND v.removed = 0
            FROM piece p JOIN version v ON v.id = p.version WHERE p.object = ?1"
    );
    let mut found = SparseObject { object, file_bytes: 0, live_bytes: 0, live_pieces: 0 };
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query([object])?;
    while let Some(row) = rows.next()? {
        if row.get(5)? {
            return Ok(None);
        }
        let bytes = read_bytes(key, row)?;
        found.file_bytes = found.file_bytes.saturating_add(bytes);
        if row.get(4)? {
            found.live_bytes = found.live_bytes.saturating_add(bytes);
            found.live_pieces += 1;
        }
    }
    Ok(Some(found))
}

/// The length of a piece: version, ordinal, object and what is sealed are the first columns.
fn read_bytes(key: &CatalogKey, row: &Row<'_>) -> rusqlite::Result<u64> {
    let place = (row.get(0)?, row.get(1)?, row.get(2)?);
    Ok(open_extent(key, place, row.get_ref(3)?.as_blob()?)?.bytes)
}

/// Whether the object has a piece of a version that was not removed and is not among these; stops at the first.
fn holds_other_than(connection: &Connection, object: ObjectId, going: &BTreeSet<VersionId>) -> Result<bool, Fault> {
    let sql = "SELECT p.version FROM piece p JOIN version v ON v.id = p.version WHERE p.object = ?1 AND v.removed = 0";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([object])?;
    while let Some(row) = rows.next()? {
        if !going.contains(&row.get(0)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn live_objects_of(connection: &Connection, version: VersionId) -> Result<Vec<ObjectId>, Fault> {
    let sql = "SELECT p.object FROM piece p JOIN object o ON o.id = p.object
        WHERE p.version = ?1 AND o.dead = 0 GROUP BY p.object ORDER BY min(p.ordinal), p.object";
    all(connection, sql, [version], |row| row.get(0))
}

pub(super) fn load(connection: &Connection, id: ObjectId) -> Result<Option<ObjectRecord>, Fault> {
    let sql = "SELECT kind, data_shards, total_shards, block_bytes, stripe_count, payload_bytes, seal, root, public,
        signature, sealed, created_ns FROM object JOIN manifest ON object = id WHERE id = ?1";
    first(connection, sql, [id], |row| {
        Ok(ObjectRecord {
            id,
            kind: row.get(0)?,
            geometry: geometry(row, 1, 2)?,
            block_bytes: row.get(3)?,
            stripe_count: row.get::<_, Count>(4)?.0,
            payload_bytes: row.get::<_, Count>(5)?.0,
            seal: row.get(6)?,
            root: row.get(7)?,
            public: row.get(8)?,
            signature: row.get(9)?,
            sealed: row.get(10)?,
            created_ns: row.get(11)?,
        })
    })
}

/// The least and the greatest 16-byte id that begin with these hexadecimal digits.
pub(super) fn prefix_range(text: &str) -> Result<(Vec<u8>, Vec<u8>), Fault> {
    let wrong = || Error::NotPrefix { text: text.to_owned() };
    let digits = ObjectId::BYTES * 2;
    if text.is_empty() || text.len() > digits {
        return Err(wrong().into());
    }
    let end = |fill: &str| hex::decode(format!("{text}{}", fill.repeat(digits - text.len()))).map_err(|_| wrong());
    Ok((end("0")?, end("f")?))
}

/// The one id of at most one; two are ambiguous.
pub(super) fn only<T: Copy>(text: &str, ids: &[T]) -> Result<Option<T>, Fault> {
    match ids {
        [] => Ok(None),
        [id] => Ok(Some(*id)),
        _ => Err(Error::Ambiguous { text: text.to_owned() }.into()),
    }
}
