//! Which folder is in which, by tags: so that the files of one folder are found without opening every name.

use super::column::{first, run, value};
use super::error::Fault;
use super::sealed::Tag;
use crate::crypto::CatalogKey;
use crate::format::FileName;
use crate::id::VersionId;
use rusqlite::{Connection, Transaction, params};
use std::collections::BTreeSet;

/// The folder of a name; what is in no folder is in the empty one.
pub(super) fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Makes the folder of a name known, and those that it is in; gives its tag.
pub(super) fn enter(tx: &Transaction<'_>, key: &CatalogKey, name: &FileName) -> Result<Tag, Fault> {
    let folder = folder_of(name.as_str());
    let tag = Tag::of_folder(key, folder);
    let (mut inner, mut inner_tag) = (folder, tag);
    // A folder that is known is in folders that are.
    while !inner.is_empty() && first(tx, "SELECT 1 FROM folder WHERE tag = ?1", [inner_tag], |_| Ok(()))?.is_none() {
        let outer = folder_of(inner);
        let outer_tag = Tag::of_folder(key, outer);
        run(tx, "INSERT INTO folder (tag, parent) VALUES (?1, ?2)", params![inner_tag, outer_tag])?;
        (inner, inner_tag) = (outer, outer_tag);
    }
    Ok(tag)
}

/// The folders of these versions.
pub(super) fn of_versions(connection: &Connection, versions: &BTreeSet<VersionId>) -> Result<BTreeSet<Tag>, Fault> {
    let mut folders = BTreeSet::new();
    for version in versions {
        let sql = "SELECT folder FROM version WHERE id = ?1";
        folders.extend(first(connection, sql, [version], |row| row.get::<_, Tag>(0))?);
    }
    Ok(folders)
}

/// Forgets a folder in which nothing is, and those that it was alone in.
pub(super) fn forget_if_empty(tx: &Transaction<'_>, folder: Tag) -> Result<(), Fault> {
    let mut next = Some(folder);
    while let Some(folder) = next {
        let sql = "SELECT EXISTS (SELECT 1 FROM version WHERE folder = ?1)
            OR EXISTS (SELECT 1 FROM folder WHERE parent = ?1)";
        if value(tx, sql, [folder])? {
            return Ok(());
        }
        next = first(tx, "DELETE FROM folder WHERE tag = ?1 RETURNING parent", [folder], |row| row.get(0))?;
    }
    Ok(())
}
