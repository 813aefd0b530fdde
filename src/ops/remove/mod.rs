//! `remove`: file versions go, by a record that is stored like any other object.
//!
//! *What it is.* [`remove`] and what `prune` and `gc` share with it: the removal object, written and committed before a
//! single shard is deleted, then the deletes, of which those that cannot be made now wait.
//!
//! *What it knows.* Which objects are emptied when versions go, and where their shards are.
//!
//! *What it does not know.* Why the versions go.
//!
//! *Invariants.* Durable removal → catalog → deletes: a backend that comes back, or a lost catalog, brings no removed file
//! back. A removal has at least the parity of everything it removes. An object is named only when every version in it is
//! removed by the same removal or an earlier one.

mod deletes;
mod lost;
mod parts;
mod reprieve;

pub use deletes::WaitingDeletes;
pub(in crate::ops) use deletes::{Deletes, Which, delete_pending, rehearse_pending};
pub use lost::remove_lost;
pub(in crate::ops) use reprieve::{examine_with_waiting, is_endangered, reprieve, verify_with_waiting};

use super::writer::{
    Contents, ObjectOptions, ObjectWriter, StoredObject, WriteFailures, index_allowance, new_object_shape,
};
use super::{Controls, leftovers};
use crate::catalog::{Catalog, VersionRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{FileName, Index, ObjectKind, Removal, RemovedObject, RemovedShard, RemovedVersion};
use crate::id::{Geometry, ObjectId, VersionId};
use crate::store::Store;
use crate::stripe::Seal;
use parts::removal_parts;
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::Instant;

/// How removals are sealed, whatever the seal of what they remove: the names in them are not to be told by removing.
const REMOVAL_SEAL: Seal = Seal::Key;
/// How many files of a folder are asked of the catalog at a time.
const PAGE_FILES: usize = 1000;

/// Which versions of the files go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RemoveVersions {
    /// The newest: the one before it is the newest again.
    #[default]
    Newest,
    /// This one, finished or not.
    One(VersionId),
    /// All.
    All,
}

/// What is removed.
#[derive(Debug, Clone, Default)]
pub struct RemoveOptions {
    /// The files; a name that is no file's is taken for a folder's, and means all files in it.
    pub names: Vec<FileName>,
    /// Folders, each for all files in it, whatever else has its name.
    pub folders: Vec<FileName>,
    /// Which versions of them.
    pub versions: RemoveVersions,
    /// Progress and cancelling.
    pub controls: Controls,
}

/// What was removed, and what stays on backends for now.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RemoveReport {
    /// The versions that are gone.
    pub files: Vec<RemovedFile>,
    /// The removals that say so.
    pub removals: Vec<StoredObject>,
    /// How many objects hold nothing any more.
    pub objects_emptied: u64,
    /// How many of their shards were deleted.
    pub shards_deleted: u64,
    /// The bytes of these.
    pub bytes_freed: u64,
    /// Shards that stay until their backends can be reached.
    pub waiting: Vec<WaitingDeletes>,
    /// Bytes of removed files in objects that hold other files too: they stay until `gc` packs those anew.
    pub bytes_until_repacked: u64,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

/// A version that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RemovedFile {
    /// Its name.
    pub name: FileName,
    /// The version.
    pub version: VersionId,
}

/// A version that is to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::ops) struct Doomed(RemovedVersion);

impl Doomed {
    pub(in crate::ops) fn of(version: &VersionRecord) -> Self {
        let generation = version.whole.as_ref().map_or(0, |whole| whole.generation);
        Self(RemovedVersion { version: version.id, name: version.name.clone(), generation })
    }

    pub(in crate::ops) fn version(&self) -> VersionId {
        self.0.version
    }
}

/// Removes versions of files.
///
/// [`ErrorKind::NotFound`], before anything is changed, when one of the files or versions is not there.
pub async fn remove(store: &Store, options: RemoveOptions) -> Result<RemoveReport> {
    options.controls.check_cancelled()?;
    // Before anything is looked for: what cannot be signed removes nothing.
    store.signer(ObjectKind::Removal)?;
    leftovers::clear(store, &options.controls).await?;
    let mut doomed = Vec::new();
    for name in &options.names {
        let (wanted, versions) = (name.clone(), options.versions);
        let mut found = store.look(move |catalog| find(catalog, &wanted, versions)).await?;
        if found.is_empty() {
            found = find_below(store, name, versions, &options.controls).await?;
        }
        if found.is_empty() {
            return Err(not_found(name, options.versions));
        }
        doomed.extend(found.iter().map(Doomed::of));
    }
    for folder in &options.folders {
        let found = find_below(store, folder, options.versions, &options.controls).await?;
        if found.is_empty() {
            return Err(not_found(folder, options.versions));
        }
        doomed.extend(found.iter().map(Doomed::of));
    }
    remove_versions(store, doomed, &options.controls).await
}

fn find(catalog: &Catalog, name: &FileName, versions: RemoveVersions) -> crate::catalog::Result<Vec<VersionRecord>> {
    match versions {
        RemoveVersions::Newest => Ok(catalog.heads(name)?.into_iter().take(1).collect()),
        RemoveVersions::One(id) => {
            let is_it = |version: &VersionRecord| version.name == *name && !version.removed;
            Ok(catalog.version(id)?.into_iter().filter(is_it).collect())
        }
        RemoveVersions::All => {
            let mut all = catalog.versions(name)?;
            all.retain(|version| version.complete && !version.removed);
            Ok(all)
        }
    }
}

/// Of every file in a folder. A version by its id is of one file, and is not looked for there.
async fn find_below(
    store: &Store,
    folder: &FileName,
    versions: RemoveVersions,
    controls: &Controls,
) -> Result<Vec<VersionRecord>> {
    let prefix = format!("{folder}/");
    let (mut found, mut after) = (Vec::new(), None::<VersionRecord>);
    loop {
        controls.check_cancelled()?;
        let (prefix, last) = (prefix.clone(), after.take());
        let page = store.look(move |catalog| page_below(catalog, &prefix, versions, last.as_ref())).await?;
        after = page.last().cloned();
        found.extend(page);
        if after.is_none() {
            return Ok(found);
        }
    }
}

fn page_below(
    catalog: &Catalog,
    prefix: &str,
    versions: RemoveVersions,
    after: Option<&VersionRecord>,
) -> crate::catalog::Result<Vec<VersionRecord>> {
    match versions {
        RemoveVersions::One(_) => Ok(Vec::new()),
        RemoveVersions::All => catalog.list_versions(prefix, after, PAGE_FILES),
        RemoveVersions::Newest => {
            let page = catalog.list(prefix, after.map(|last| &last.name), PAGE_FILES)?;
            Ok(page.into_iter().map(|listed| listed.newest).collect())
        }
    }
}

fn not_found(name: &FileName, versions: RemoveVersions) -> Error {
    let doing = match versions {
        RemoveVersions::One(version) => format!("there is no version {version} of {name}"),
        _ => format!("there is no file or folder {name}"),
    };
    Error::new(ErrorKind::NotFound, doing).with_hint("`shard list --versions` shows what there is")
}

/// What removing versions takes away.
#[derive(Debug, Default)]
struct Toll {
    objects: Vec<RemovedObject>,
    geometry: Option<Geometry>,
    bytes_until_repacked: u64,
}

/// Removes these versions, and the objects that hold nothing else.
pub(in crate::ops) async fn remove_versions(
    store: &Store,
    mut doomed: Vec<Doomed>,
    controls: &Controls,
) -> Result<RemoveReport> {
    let begun = Instant::now();
    let mut seen = BTreeSet::new();
    doomed.retain(|doomed| seen.insert(doomed.0.version));
    let mut report = RemoveReport::default();
    if doomed.is_empty() {
        return Ok(report);
    }
    let versions: Vec<VersionId> = seen.into_iter().collect();
    let toll = store.look(move |catalog| weigh(catalog, &versions)).await?;
    let geometry = toll.geometry.unwrap_or_else(|| store.config().default_level.geometry());
    let emptied: BTreeSet<ObjectId> = toll.objects.iter().map(|removed| removed.object).collect();
    let removal = Removal { versions: doomed.into_iter().map(|doomed| doomed.0).collect(), objects: toll.objects };
    let named = removal.versions.iter();
    report.files = named.map(|gone| RemovedFile { name: gone.name.clone(), version: gone.version }).collect();
    report.removals = write_removal(store, removal, geometry, controls).await?;
    report.objects_emptied = emptied.len() as u64;
    report.bytes_until_repacked = toll.bytes_until_repacked;
    let deletes = delete_pending(store, Which::Of(emptied), controls).await?;
    report.shards_deleted = deletes.shards;
    report.bytes_freed = deletes.bytes;
    report.waiting = deletes.waiting(store);
    report.elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(report)
}

fn weigh(catalog: &Catalog, versions: &[VersionId]) -> crate::catalog::Result<Toll> {
    let emptied: BTreeSet<ObjectId> = catalog.objects_emptied_by(versions)?.into_iter().collect();
    let mut toll = Toll::default();
    let mut concerned = BTreeSet::new();
    for version in versions {
        concerned.extend(catalog.objects_of_version(*version)?);
        let stays = |object: &ObjectId| !emptied.contains(object);
        let pieces = catalog.pieces(*version)?;
        let staying = pieces.iter().filter(|piece| stays(&piece.object)).map(|piece| piece.bytes);
        toll.bytes_until_repacked += staying.sum::<u64>();
    }
    for object in concerned {
        toll.geometry = most_parity(toll.geometry, catalog.object(object)?.map(|record| record.geometry));
    }
    for object in emptied {
        toll.objects.push(removed_object(catalog, object)?);
    }
    Ok(toll)
}

/// The one that survives the loss of more shards.
pub(in crate::ops) fn most_parity(one: Option<Geometry>, other: Option<Geometry>) -> Option<Geometry> {
    one.into_iter().chain(other).max_by_key(|geometry| geometry.parity_shards())
}

/// An object as a removal names it: with every place where a shard of it may be, those included where a delete waits.
pub(in crate::ops) fn removed_object(catalog: &Catalog, object: ObjectId) -> crate::catalog::Result<RemovedObject> {
    let recorded = catalog.shards(object)?;
    let recorded = recorded.iter().map(|shard| (shard.index, shard.backend));
    let places = recorded.chain(catalog.waiting_places(object)?);
    Ok(RemovedObject { object, shards: places.map(|(index, backend)| RemovedShard { index, backend }).collect() })
}

/// Writes a removal, as several objects where one would be too long; each is durable and in the catalog before the next.
pub(in crate::ops) async fn write_removal(
    store: &Store,
    removal: Removal,
    geometry: Geometry,
    controls: &Controls,
) -> Result<Vec<StoredObject>> {
    let limit = index_allowance(new_object_shape(geometry, REMOVAL_SEAL)?);
    let failures = WriteFailures::default();
    let mut stored = Vec::new();
    for part in removal_parts(removal, limit) {
        let options = ObjectOptions {
            failures: failures.clone(),
            controls: controls.clone(),
            ..ObjectOptions::new(ObjectKind::Removal, geometry, REMOVAL_SEAL)
        };
        let writer = ObjectWriter::begin(store, options).await?;
        let index = Index { removal: Some(part), ..Index::default() };
        stored.push(writer.finish(Contents { index, piece_hashes: Vec::new() }).await?);
    }
    Ok(stored)
}
