//! Files by name, in pages.

use super::Catalog;
use super::column::{Count, all, row_limit, value};
use super::error::{Fault, Result};
use super::file::{COLUMNS, versions_by};
use super::record::{ListedFile, VersionRecord};
use crate::format::FileName;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ToSql, params};

impl Catalog {
    /// The next files after `after`, in the order of their names: the one that is called `prefix` and all in the folder
    /// `prefix`; an empty prefix is everything, and one that ends in a slash is the folder alone.
    pub fn list(&self, prefix: &str, after: Option<&FileName>, limit: usize) -> Result<Vec<ListedFile>> {
        let sql = "SELECT DISTINCT name FROM version
            WHERE head = 1 AND name >= ?1 AND name < ?2 ORDER BY name LIMIT ?3";
        self.read(|tx| {
            let mut files = Vec::new();
            for range in ranges(prefix, after) {
                let rest = row_limit(limit.saturating_sub(files.len()));
                let names: Vec<FileName> = all(tx, sql, params![range.low, range.high, rest], |row| row.get(0))?;
                for name in names {
                    files.extend(listed(tx, &name)?);
                }
            }
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
        let sql = format!(
            "SELECT {COLUMNS} FROM version WHERE complete = 1 AND removed = 0 AND name >= ?1 AND name < ?2
                ORDER BY name, generation DESC, id DESC LIMIT ?3"
        );
        self.read(|tx| {
            let mut versions = after.map_or(Ok(Vec::new()), |last| older_of_name(tx, last, limit))?;
            for range in ranges(prefix, after.map(|last| &last.name)) {
                let rest = row_limit(limit.saturating_sub(versions.len()));
                versions.extend(versions_by(tx, &sql, params![range.low, range.high, rest])?);
            }
            Ok(versions)
        })
    }
}

fn listed(connection: &Connection, name: &FileName) -> Result<Option<ListedFile>, Fault> {
    let newest =
        format!("SELECT {COLUMNS} FROM version WHERE name = ?1 AND head = 1 ORDER BY generation DESC, id DESC LIMIT 1");
    let heads: Count = value(connection, "SELECT count(*) FROM version WHERE name = ?1 AND head = 1", [name])?;
    let live = "SELECT count(*) FROM version WHERE name = ?1 AND complete = 1 AND removed = 0";
    let versions: Count = value(connection, live, [name])?;
    let newest = versions_by(connection, &newest, [name])?.pop();
    Ok(newest.map(|newest| ListedFile { newest, head_count: heads.0, version_count: versions.0 }))
}

fn older_of_name(connection: &Connection, last: &VersionRecord, limit: usize) -> Result<Vec<VersionRecord>, Fault> {
    let Some(whole) = &last.whole else {
        return Ok(Vec::new());
    };
    let sql = format!(
        "SELECT {COLUMNS} FROM version WHERE complete = 1 AND removed = 0 AND name = ?1 AND (generation, id) < (?2, ?3)
            ORDER BY generation DESC, id DESC LIMIT ?4"
    );
    versions_by(connection, &sql, params![last.name, Count(whole.generation), last.id, row_limit(limit)])
}

/// Names from `low` on and before `high`.
#[derive(Debug, PartialEq)]
struct NameRange {
    low: String,
    high: Bound,
}

/// Where a range of names ends.
#[derive(Debug, PartialEq)]
enum Bound {
    Before(String),
    /// To the database every blob comes after every text.
    End,
}

impl ToSql for Bound {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Before(text) => ValueRef::Text(text.as_bytes()),
            Self::End => ValueRef::Blob(&[]),
        }))
    }
}

/// What a prefix stands for, in the order of names, without what is not after `after`.
///
/// No name has a NUL in it, so that `name\0` is where the names after it begin.
fn ranges(prefix: &str, after: Option<&FileName>) -> Vec<NameRange> {
    let folder = prefix.trim_end_matches('/');
    let inside = NameRange { low: format!("{folder}/"), high: Bound::Before(format!("{folder}0")) };
    let mut ranges = match (folder, folder.len() == prefix.len()) {
        ("", _) => vec![NameRange { low: String::new(), high: Bound::End }],
        (name, true) => vec![NameRange { low: name.to_owned(), high: Bound::Before(format!("{name}\0")) }, inside],
        (_, false) => vec![inside],
    };
    if let Some(after) = after {
        let next = format!("{after}\0");
        ranges.iter_mut().filter(|range| range.low < next).for_each(|range| range.low.clone_from(&next));
    }
    ranges
}
