//! Questions about one file: its versions, its heads, its pieces.

use super::Catalog;
use super::column::{Count, all, first, value};
use super::error::{Fault, Result};
use super::object::{only, prefix_range};
use super::record::{PieceRecord, VersionRecord};
use crate::format::FileName;
use crate::format::index::Whole;
use crate::id::VersionId;
use rusqlite::{Connection, Params, Row, params};

/// The columns that [`read_version`] takes, from the first on.
pub(super) const COLUMNS: &str =
    "id, name, complete, removed, total_bytes, blake3, mtime_ns, mode, generation, last_ordinal";

impl Catalog {
    /// The heads of a name, newest first: complete, not removed, and no other such version descends from them. None
    /// where there is no file; several where two machines did not know each other.
    pub fn heads(&self, name: &FileName) -> Result<Vec<VersionRecord>> {
        let sql =
            format!("SELECT {COLUMNS} FROM version WHERE name = ?1 AND head = 1 ORDER BY generation DESC, id DESC");
        self.read(|tx| versions_by(tx, &sql, [name]))
    }

    /// Every version of a name that is known, newest first: incomplete and removed ones too.
    pub fn versions(&self, name: &FileName) -> Result<Vec<VersionRecord>> {
        let sql = format!("SELECT {COLUMNS} FROM version WHERE name = ?1 ORDER BY generation DESC, id DESC");
        self.read(|tx| versions_by(tx, &sql, [name]))
    }

    /// A version, in whatever state.
    pub fn version(&self, id: VersionId) -> Result<Option<VersionRecord>> {
        self.read(|tx| load(tx, id))
    }

    /// The version, not removed, whose id begins with these hexadecimal digits; [`super::Error::Ambiguous`] if there are
    /// several.
    pub fn find_version(&self, text: &str) -> Result<Option<VersionRecord>> {
        self.read(|tx| {
            let (low, high) = prefix_range(text)?;
            let sql = "SELECT id FROM version WHERE id BETWEEN ?1 AND ?2 AND removed = 0 LIMIT 2";
            let ids = all(tx, sql, params![low, high], |row| row.get(0))?;
            only(text, &ids)?.map_or(Ok(None), |id| load(tx, id))
        })
    }

    /// The highest generation known for a name, removed versions included; 0 where there is none.
    pub fn highest_generation(&self, name: &FileName) -> Result<u64> {
        let sql = "SELECT ifnull(max(generation), 0) FROM version WHERE name = ?1";
        self.read(|tx| Ok(value::<Count, _>(tx, sql, [name])?.0))
    }

    /// The pieces of a version that are in living objects, by ordinal, each once: where there are copies, the one in
    /// the object that is best off by what was last seen of it.
    pub fn pieces(&self, version: VersionId) -> Result<Vec<PieceRecord>> {
        let mut pieces = self.piece_copies(version)?;
        pieces.dedup_by_key(|piece| piece.ordinal);
        Ok(pieces)
    }

    /// The same with every copy: by ordinal, and of one ordinal the one in the object that is best off first.
    pub fn piece_copies(&self, version: VersionId) -> Result<Vec<PieceRecord>> {
        let sql = "SELECT p.ordinal, p.object, p.payload_offset, p.bytes, p.blake3
            FROM piece p JOIN object o ON o.id = p.object WHERE p.version = ?1 AND o.dead = 0
            ORDER BY p.ordinal, o.state, p.object";
        let read = |row: &Row<'_>| {
            Ok(PieceRecord {
                version,
                ordinal: row.get(0)?,
                object: row.get(1)?,
                offset: row.get::<_, Count>(2)?.0,
                bytes: row.get::<_, Count>(3)?.0,
                blake3: row.get(4)?,
            })
        };
        self.read(|tx| all(tx, sql, [version], read))
    }

    /// Versions that are not complete, not removed, and have a piece in a living object, by name.
    pub fn unfinished(&self) -> Result<Vec<VersionRecord>> {
        let sql = format!("{} ORDER BY name, id", unfinished_sql(""));
        self.read(|tx| versions_by(tx, &sql, []))
    }

    /// The same, of one name.
    pub fn unfinished_of(&self, name: &FileName) -> Result<Vec<VersionRecord>> {
        let sql = format!("{} ORDER BY id", unfinished_sql("name = ?1 AND"));
        self.read(|tx| versions_by(tx, &sql, [name]))
    }
}

fn unfinished_sql(condition: &str) -> String {
    format!(
        "SELECT {COLUMNS} FROM version WHERE {condition} complete = 0 AND removed = 0 AND EXISTS (
            SELECT 1 FROM piece p JOIN object o ON o.id = p.object WHERE p.version = version.id AND o.dead = 0)"
    )
}

fn load(connection: &Connection, id: VersionId) -> Result<Option<VersionRecord>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM version WHERE id = ?1");
    first(connection, &sql, [id], read_version)?.map(|version| with_parents(connection, version)).transpose()
}

/// The versions that a query over [`COLUMNS`] gives, parents included.
pub(super) fn versions_by<P: Params>(
    connection: &Connection,
    sql: &str,
    params: P,
) -> Result<Vec<VersionRecord>, Fault> {
    let versions = all(connection, sql, params, read_version)?;
    versions.into_iter().map(|version| with_parents(connection, version)).collect()
}

fn read_version(row: &Row<'_>) -> rusqlite::Result<VersionRecord> {
    let is_whole = row.get::<_, Option<u32>>(9)?.is_some();
    let whole = if is_whole { Some(read_whole(row)?) } else { None };
    Ok(VersionRecord { id: row.get(0)?, name: row.get(1)?, whole, complete: row.get(2)?, removed: row.get(3)? })
}

fn read_whole(row: &Row<'_>) -> rusqlite::Result<Whole> {
    Ok(Whole {
        total_bytes: row.get::<_, Count>(4)?.0,
        blake3: row.get(5)?,
        mtime_ns: row.get(6)?,
        mode: row.get(7)?,
        generation: row.get::<_, Count>(8)?.0,
        parents: Vec::new(),
    })
}

fn with_parents(connection: &Connection, mut version: VersionRecord) -> Result<VersionRecord, Fault> {
    if let Some(whole) = &mut version.whole {
        let sql = "SELECT parent FROM parent WHERE version = ?1 ORDER BY position";
        whole.parents = all(connection, sql, [version.id], |row| row.get(0))?;
    }
    Ok(version)
}
