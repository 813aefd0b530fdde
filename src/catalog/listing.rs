//! Files by name, in pages. The database cannot put sealed names in order: a listing opens the names it is about once, keeps
//! them in order while it goes on, and reads the rest page by page.

use super::Catalog;
use super::column::{Count, all, row_limit, value};
use super::error::{Fault, Result};
use super::file::{COLUMNS, NEWEST_FIRST, versions_by};
use super::record::{ListedFile, VersionRecord};
use super::sealed::{Tag, open_name};
use crate::crypto::CatalogKey;
use crate::format::FileName;
use rusqlite::{Connection, Row, params};

/// Names of a listing that is under way: those of its prefix that had heads when it began.
#[derive(Debug)]
pub(super) struct Walk {
    prefix: String,
    /// In order, each once.
    names: Vec<(FileName, Tag)>,
}

impl Walk {
    fn after(&self, after: Option<&FileName>) -> &[(FileName, Tag)] {
        let begin = after.map_or(0, |after| self.names.partition_point(|(name, _)| name <= after));
        &self.names[begin..]
    }
}

impl Catalog {
    /// The next files after `after`, in the order of their names: the one that is called `prefix` and all in the folder
    /// `prefix`; an empty prefix is everything, and one that ends in a slash is the folder alone.
    ///
    /// Fewer than `limit` are the last. A file that came since the first page may be missing.
    pub fn list(&self, prefix: &str, after: Option<&FileName>, limit: usize) -> Result<Vec<ListedFile>> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        self.read(|tx| {
            let mut files = Vec::new();
            self.walk(tx, prefix, after, &mut |tag| {
                files.extend(listed(tx, &self.key, tag)?);
                Ok(files.len() < limit)
            })?;
            Ok(files)
        })
    }

    /// The next complete versions that were not removed, after `after`, in the order of their names, newest first
    /// within a name; `prefix` as for [`Self::list`].
    pub fn list_versions(
        &self,
        prefix: &str,
        after: Option<&VersionRecord>,
        limit: usize,
    ) -> Result<Vec<VersionRecord>> {
        self.read(|tx| {
            let mut versions = after.map_or(Ok(Vec::new()), |last| older_of_name(tx, &self.key, last, limit))?;
            if versions.len() >= limit {
                return Ok(versions);
            }
            // A name that has a complete version has a head.
            self.walk(tx, prefix, after.map(|last| &last.name), &mut |tag| {
                versions.extend(live_of_name(tx, &self.key, tag, limit - versions.len())?);
                Ok(versions.len() < limit)
            })?;
            Ok(versions)
        })
    }

    /// Visits the names of a prefix after `after`, in order, until the visitor has enough.
    ///
    /// The walk that was begun last is kept for the next page, until its end is reached.
    fn walk(
        &self,
        connection: &Connection,
        prefix: &str,
        after: Option<&FileName>,
        visit: &mut dyn FnMut(Tag) -> Result<bool, Fault>,
    ) -> Result<(), Fault> {
        let kept = self.walk.take().filter(|walk| after.is_some() && walk.prefix == prefix);
        let walk = match kept {
            Some(walk) => walk,
            None => Walk { prefix: prefix.to_owned(), names: names_below(connection, &self.key, prefix)? },
        };
        for (_, tag) in walk.after(after) {
            if !visit(*tag)? {
                self.walk.replace(Some(walk));
                break;
            }
        }
        Ok(())
    }
}

/// The heads in a folder and all folders in it. Crossed, because else every version might be gone through to find these.
pub(super) const BELOW_FOLDER: &str = "WITH RECURSIVE inside (tag) AS (
        VALUES (?1) UNION SELECT f.tag FROM inside i CROSS JOIN folder f ON f.parent = i.tag)
    SELECT v.id, v.name_tag, v.sealed_name FROM inside i CROSS JOIN version v ON v.folder = i.tag WHERE v.head = 1";

/// The names that a prefix stands for, in order.
fn names_below(connection: &Connection, key: &CatalogKey, prefix: &str) -> Result<Vec<(FileName, Tag)>, Fault> {
    let folder = prefix.trim_end_matches('/');
    let read = |row: &Row<'_>| {
        let (version, tag) = (row.get(0)?, row.get(1)?);
        Ok((open_name(key, version, tag, row.get_ref(2)?.as_blob()?)?, tag))
    };
    let mut names = Vec::new();
    if folder.is_empty() {
        names = all(connection, "SELECT id, name_tag, sealed_name FROM version WHERE head = 1", [], read)?;
    } else {
        names.extend(all(connection, BELOW_FOLDER, [Tag::of_folder(key, folder)], read)?);
    }
    if folder.len() == prefix.len()
        && let Ok(name) = FileName::new(folder)
    {
        let sql = "SELECT id, name_tag, sealed_name FROM version WHERE name_tag = ?1 AND head = 1";
        names.extend(all(connection, sql, [Tag::of_name(key, &name)], read)?);
    }
    // Which folder a row is in is not sealed: what its name says is what counts.
    names.retain(|(name, _)| is_below(name.as_str(), prefix));
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// Whether a prefix stands for a name.
fn is_below(name: &str, prefix: &str) -> bool {
    let folder = prefix.trim_end_matches('/');
    match name.strip_prefix(folder) {
        Some("") => folder.len() == prefix.len(),
        Some(rest) => folder.is_empty() || rest.starts_with('/'),
        None => false,
    }
}

fn listed(connection: &Connection, key: &CatalogKey, tag: Tag) -> Result<Option<ListedFile>, Fault> {
    let newest =
        format!("SELECT {COLUMNS} FROM version WHERE name_tag = ?1 AND head = 1 ORDER BY {NEWEST_FIRST} LIMIT 1");
    let heads: Count = value(connection, "SELECT count(*) FROM version WHERE name_tag = ?1 AND head = 1", [tag])?;
    let live = "SELECT count(*) FROM version WHERE name_tag = ?1 AND complete = 1 AND removed = 0";
    let versions: Count = value(connection, live, [tag])?;
    let newest = versions_by(connection, key, &newest, [tag])?.pop();
    Ok(newest.map(|newest| ListedFile { newest, head_count: heads.0, version_count: versions.0 }))
}

fn live_of_name(
    connection: &Connection,
    key: &CatalogKey,
    tag: Tag,
    limit: usize,
) -> Result<Vec<VersionRecord>, Fault> {
    let sql = format!(
        "SELECT {COLUMNS} FROM version WHERE name_tag = ?1 AND complete = 1 AND removed = 0
            ORDER BY {NEWEST_FIRST} LIMIT ?2"
    );
    versions_by(connection, key, &sql, params![tag, row_limit(limit)])
}

fn older_of_name(
    connection: &Connection,
    key: &CatalogKey,
    last: &VersionRecord,
    limit: usize,
) -> Result<Vec<VersionRecord>, Fault> {
    let Some(whole) = &last.whole else {
        return Ok(Vec::new());
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM version WHERE complete = 1 AND removed = 0 AND name_tag = ?1
            AND (id < x'ff', generation, id) < (?3 < x'ff', ?2, ?3) ORDER BY {NEWEST_FIRST} LIMIT ?4"
    );
    let tag = Tag::of_name(key, &last.name);
    versions_by(connection, key, &sql, params![tag, Count(whole.generation), last.id, row_limit(limit)])
}
