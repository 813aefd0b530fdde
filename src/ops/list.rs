//! `list`: the files there are, by name, from the catalog alone.

use super::{Controls, Timestamp};
use crate::catalog::{self, Catalog, ObjectState, VersionRecord};
use crate::error::Result;
use crate::format::FileName;
use crate::id::{Geometry, ObjectId, RedundancyLevel, VersionId, WriterId};
use crate::store::Store;
use serde::Serialize;
use std::collections::HashMap;

/// How many names are asked of the catalog at a time, so that others get their turn.
const PAGE_FILES: usize = 1000;

/// Which versions are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListedVersions {
    /// The heads of each name: one, or several where machines did not know each other.
    #[default]
    Heads,
    /// Every complete version that was not removed, newest first.
    All,
}

/// What is listed.
#[derive(Debug, Clone, Default)]
pub struct ListOptions {
    /// The file of this name and all files in the folder of this name; empty for everything.
    pub prefix: String,
    /// Which versions.
    pub versions: ListedVersions,
    /// Where the last report ended.
    pub after: Option<ListCursor>,
    /// At most about this many files in one report, so that a long listing can be had in parts; `None` for all.
    pub limit: Option<usize>,
    /// Progress and cancelling.
    pub controls: Controls,
}

/// Where a listing ended.
#[derive(Debug, Clone)]
pub struct ListCursor(VersionRecord);

/// The files, in the order of their names.
#[derive(Debug, Clone, Serialize)]
pub struct ListReport {
    /// A file version each.
    pub files: Vec<ListedFileVersion>,
    /// Where to go on; `None` when that was all.
    #[serde(skip)]
    pub next: Option<ListCursor>,
}

/// A file version in a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedFileVersion {
    /// The file's name.
    pub name: FileName,
    /// The version.
    pub version: VersionId,
    /// The writer that put it; `None` where the owner did.
    pub writer: Option<WriterId>,
    /// Its length in bytes.
    pub size: u64,
    /// When the file was last changed.
    pub modified: Timestamp,
    /// The objects that hold it, in the order of its bytes.
    pub objects: Vec<ObjectId>,
    /// The level of the least redundant of them.
    pub level: String,
    /// The state of the worst of them.
    pub state: ObjectState,
    /// How many heads the name has: more than one where machines did not know each other.
    pub heads: u64,
}

/// Lists files; reads the catalog only.
pub async fn list(store: &Store, options: ListOptions) -> Result<ListReport> {
    let limit = options.limit.unwrap_or(usize::MAX).max(1);
    let mut files = Vec::new();
    let mut cursor = options.after.clone();
    while files.len() < limit {
        options.controls.check_cancelled()?;
        let (prefix, versions, after) = (options.prefix.clone(), options.versions, cursor.clone());
        let wanted = PAGE_FILES.min(limit - files.len());
        let page = store.look(move |catalog| read_page(catalog, (&prefix, versions), after.as_ref(), wanted)).await?;
        files.extend(page.files);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    Ok(ListReport { files, next: cursor })
}

fn read_page(
    catalog: &Catalog,
    (prefix, versions): (&str, ListedVersions),
    after: Option<&ListCursor>,
    limit: usize,
) -> catalog::Result<ListReport> {
    let last = after.map(|cursor| &cursor.0);
    let mut found = Vec::new();
    let mut known = HashMap::new();
    let last_record = match versions {
        ListedVersions::Heads => {
            let names = catalog.list(prefix, last.map(|last| &last.name), limit)?;
            for listed in &names {
                let heads = if listed.head_count > 1 {
                    catalog.heads(&listed.newest.name)?
                } else {
                    vec![listed.newest.clone()]
                };
                found.extend(heads.into_iter().map(|head| (head, listed.head_count)));
            }
            (names.len() == limit).then(|| names.into_iter().next_back().map(|listed| listed.newest)).flatten()
        }
        ListedVersions::All => {
            let page = catalog.list_versions(prefix, last, limit)?;
            let next = (page.len() == limit).then(|| page.last().cloned()).flatten();
            for version in page {
                let heads = catalog.heads(&version.name)?.len() as u64;
                found.push((version, heads));
            }
            next
        }
    };
    let mut files = Vec::with_capacity(found.len());
    for (version, heads) in found {
        files.extend(describe(catalog, &version, heads, &mut known)?);
    }
    Ok(ListReport { files, next: last_record.map(ListCursor) })
}

fn describe(
    catalog: &Catalog,
    version: &VersionRecord,
    heads: u64,
    known: &mut HashMap<ObjectId, (Geometry, ObjectState)>,
) -> catalog::Result<Option<ListedFileVersion>> {
    let Some(whole) = &version.whole else { return Ok(None) };
    let mut objects: Vec<ObjectId> = Vec::new();
    let (mut weakest, mut worst) = (None::<Geometry>, ObjectState::Healthy);
    for piece in catalog.pieces(version.id)? {
        if objects.last() == Some(&piece.object) {
            continue;
        }
        objects.push(piece.object);
        let Some((geometry, state)) = look_up(catalog, piece.object, known)? else { continue };
        worst = worst.max(state);
        let weaker = weakest.is_none_or(|weakest| geometry.parity_shards() < weakest.parity_shards());
        weakest = if weaker { Some(geometry) } else { weakest };
    }
    Ok(Some(ListedFileVersion {
        name: version.name.clone(),
        version: version.id,
        writer: version.id.writer(),
        size: whole.total_bytes,
        modified: Timestamp(whole.mtime_ns),
        objects,
        level: weakest.map(|geometry| RedundancyLevel::of(geometry).to_string()).unwrap_or_default(),
        state: worst,
        heads,
    }))
}

/// Many small files share an object: each is asked for once a page.
fn look_up(
    catalog: &Catalog,
    object: ObjectId,
    known: &mut HashMap<ObjectId, (Geometry, ObjectState)>,
) -> catalog::Result<Option<(Geometry, ObjectState)>> {
    if let Some(found) = known.get(&object) {
        return Ok(Some(*found));
    }
    let (Some(record), Some(health)) = (catalog.object(object)?, catalog.health(object)?) else { return Ok(None) };
    known.insert(object, (record.geometry, health.state));
    Ok(Some((record.geometry, health.state)))
}
