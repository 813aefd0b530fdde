//! Questions about one file: its versions, its heads, its pieces.

use super::Catalog;
use super::column::{Count, all, first, value};
use super::error::{Fault, Result};
use super::object::{only, prefix_range};
use super::record::{PieceRecord, VersionRecord};
use super::sealed::{Extent, Tag, open_extent, open_hash, open_name, open_whole};
use crate::crypto::CatalogKey;
use crate::format::FileName;
use crate::id::VersionId;
use rusqlite::{Connection, Params, Row, params};

/// The columns that [`read_version`] takes, from the first on.
pub(super) const COLUMNS: &str = "id, name_tag, complete, removed, sealed_name, sealed_whole, generation, last_ordinal";

/// The order of the versions of a name: what the owner put comes before what a writer did, whatever a writer says of it.
pub(super) const NEWEST_FIRST: &str = "id < x'ff' DESC, generation DESC, id DESC";

impl Catalog {
    /// The heads of a name, newest first: complete, not removed, and no other such version descends from them. None
    /// where there is no file; several where two machines did not know each other.
    pub fn heads(&self, name: &FileName) -> Result<Vec<VersionRecord>> {
        let sql = format!("SELECT {COLUMNS} FROM version WHERE name_tag = ?1 AND head = 1 ORDER BY {NEWEST_FIRST}");
        self.read(|tx| versions_by(tx, &self.key, &sql, [self.tag(name)]))
    }

    /// Every version of a name that is known, newest first: incomplete and removed ones too.
    pub fn versions(&self, name: &FileName) -> Result<Vec<VersionRecord>> {
        let sql = format!("SELECT {COLUMNS} FROM version WHERE name_tag = ?1 ORDER BY {NEWEST_FIRST}");
        self.read(|tx| versions_by(tx, &self.key, &sql, [self.tag(name)]))
    }

    /// A version, in whatever state.
    pub fn version(&self, id: VersionId) -> Result<Option<VersionRecord>> {
        self.read(|tx| load(tx, &self.key, id))
    }

    /// The version, not removed, whose id begins with these hexadecimal digits; [`super::Error::Ambiguous`] if there are
    /// several.
    pub fn find_version(&self, text: &str) -> Result<Option<VersionRecord>> {
        self.read(|tx| {
            let (low, high) = prefix_range(text)?;
            let sql = "SELECT id FROM version WHERE id BETWEEN ?1 AND ?2 AND removed = 0 LIMIT 2";
            let ids = all(tx, sql, params![low, high], |row| row.get(0))?;
            only(text, &ids)?.map_or(Ok(None), |id| load(tx, &self.key, id))
        })
    }

    /// The highest generation known for a name, removed versions included; 0 where there is none.
    pub fn highest_generation(&self, name: &FileName) -> Result<u64> {
        let sql = "SELECT ifnull(max(generation), 0) FROM version WHERE name_tag = ?1";
        self.read(|tx| Ok(value::<Count, _>(tx, sql, [self.tag(name)])?.0))
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
        let sql = "SELECT p.ordinal, p.object, p.sealed_extent, p.sealed_hash
            FROM piece p JOIN object o ON o.id = p.object JOIN version v ON v.id = p.version
            WHERE p.version = ?1 AND o.dead = 0 AND (v.last_ordinal IS NULL OR p.ordinal <= v.last_ordinal)
            ORDER BY p.ordinal, o.state, p.object";
        let read = |row: &Row<'_>| {
            let (ordinal, object) = (row.get(0)?, row.get(1)?);
            let place = (version, ordinal, object);
            let Extent { offset, bytes } = open_extent(&self.key, place, row.get_ref(2)?.as_blob()?)?;
            let sealed_hash = row.get_ref(3)?.as_blob_or_null()?;
            let blake3 = sealed_hash.map(|sealed| open_hash(&self.key, place, sealed)).transpose()?;
            Ok(PieceRecord { version, ordinal, object, offset, bytes, blake3 })
        };
        self.read(|tx| all(tx, sql, [version], read))
    }

    /// Versions that are not complete, not removed, and have a piece in a living object, by name.
    pub fn unfinished(&self) -> Result<Vec<VersionRecord>> {
        let mut versions = self.read(|tx| versions_by(tx, &self.key, &unfinished_sql(""), []))?;
        versions.sort_by(|one, other| (&one.name, one.id).cmp(&(&other.name, other.id)));
        Ok(versions)
    }

    /// The same, of one name.
    pub fn unfinished_of(&self, name: &FileName) -> Result<Vec<VersionRecord>> {
        let sql = format!("{} ORDER BY id", unfinished_sql("name_tag = ?1 AND"));
        self.read(|tx| versions_by(tx, &self.key, &sql, [self.tag(name)]))
    }

    fn tag(&self, name: &FileName) -> Tag {
        Tag::of_name(&self.key, name)
    }
}

fn unfinished_sql(condition: &str) -> String {
    format!(
        "SELECT {COLUMNS} FROM version WHERE {condition} complete = 0 AND removed = 0 AND EXISTS (
            SELECT 1 FROM piece p JOIN object o ON o.id = p.object WHERE p.version = version.id AND o.dead = 0)"
    )
}

fn load(connection: &Connection, key: &CatalogKey, id: VersionId) -> Result<Option<VersionRecord>, Fault> {
    let sql = format!("SELECT {COLUMNS} FROM version WHERE id = ?1");
    first(connection, &sql, [id], |row| read_version(key, row))?
        .map(|version| with_parents(connection, version))
        .transpose()
}

/// The versions that a query over [`COLUMNS`] gives, parents included.
pub(super) fn versions_by<P: Params>(
    connection: &Connection,
    key: &CatalogKey,
    sql: &str,
    params: P,
) -> Result<Vec<VersionRecord>, Fault> {
    let versions = all(connection, sql, params, |row| read_version(key, row))?;
    versions.into_iter().map(|version| with_parents(connection, version)).collect()
}

fn read_version(key: &CatalogKey, row: &Row<'_>) -> rusqlite::Result<VersionRecord> {
    let (id, tag) = (row.get(0)?, row.get(1)?);
    let name = open_name(key, id, tag, row.get_ref(4)?.as_blob()?)?;
    let is_whole = row.get::<_, Option<u32>>(7)?.is_some();
    let whole = match is_whole {
        true => Some(open_whole(key, id, (tag, row.get(6)?), row.get_ref(5)?.as_blob()?)?),
        false => None,
    };
    Ok(VersionRecord { id, name, whole, complete: row.get(2)?, removed: row.get(3)? })
}

fn with_parents(connection: &Connection, mut version: VersionRecord) -> Result<VersionRecord, Fault> {
    if let Some(whole) = &mut version.whole {
        let sql = "SELECT parent FROM parent WHERE version = ?1 ORDER BY position";
        whole.parents = all(connection, sql, [version.id], |row| row.get(0))?;
    }
    Ok(version)
}
