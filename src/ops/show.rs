//! `show`: one file in full: its versions, its objects' geometry, roots, places and health, and what may still fail.

use super::list::{ListOptions, ListedFileVersion, list};
use super::status::{Outlook, Standing, Zones};
use super::{Controls, Timestamp};
use crate::catalog::{self, Catalog, ObjectRecord, ObjectState, PieceRecord, ShardRecord, ShardState, VersionRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::format::FileName;
use crate::id::{BackendId, Digest, ObjectId, RedundancyLevel, VersionId, WriterId};
use crate::store::Store;
use serde::Serialize;

/// What is shown.
#[derive(Debug, Clone)]
pub struct ShowOptions {
    /// The file.
    pub name: FileName,
    /// A version of it; `None` for the newest.
    pub version: Option<VersionId>,
    /// Progress and cancelling.
    pub controls: Controls,
}

/// One file.
#[derive(Debug, Clone, Serialize)]
pub struct ShowReport {
    /// Its name.
    pub name: FileName,
    /// The version that is shown.
    pub version: VersionId,
    /// The writer that put it; `None` where the owner did.
    pub writer: Option<WriterId>,
    /// Its length in bytes.
    pub size: u64,
    /// When it was last changed.
    pub modified: Timestamp,
    /// The permission bits of its mode.
    pub mode: u32,
    /// The BLAKE3 hash of its bytes.
    pub blake3: Digest,
    /// The level of the least redundant of its objects.
    pub level: String,
    /// The state of the worst of its objects.
    pub state: ObjectState,
    /// How many more zones may be lost before it is; `None` when it cannot be recovered now.
    pub margin: Option<u32>,
    /// The same for backends.
    pub backend_margin: Option<u32>,
    /// What may be lost, and what not, in words.
    pub may_be_lost: Vec<String>,
    /// The objects that hold it, in the order of its bytes.
    pub objects: Vec<ShownObject>,
    /// All its versions that were not removed, newest first.
    pub versions: Vec<ShownVersion>,
}

/// An object of the file.
#[derive(Debug, Clone, Serialize)]
pub struct ShownObject {
    /// The object.
    pub id: ObjectId,
    /// The object root.
    pub root: Digest,
    /// k.
    pub data_shards: usize,
    /// n.
    pub total_shards: usize,
    /// The length of a block in every stripe but the last, in bytes.
    pub block_bytes: u32,
    /// How many stripes there are.
    pub stripes: u64,
    /// The length of the payload, in bytes.
    pub payload_bytes: u64,
    /// How many bytes of this file it holds.
    pub file_bytes: u64,
    /// What was last found of it.
    pub state: ObjectState,
    /// How many more zones may be lost before it is.
    pub margin: Option<u32>,
    /// The same for backends.
    pub backend_margin: Option<u32>,
    /// When every block of it was last read and checked.
    pub verified: Option<Timestamp>,
    /// Where its shards are.
    pub shards: Vec<ShownShard>,
}

/// A shard in its place.
#[derive(Debug, Clone, Serialize)]
pub struct ShownShard {
    /// Which shard.
    pub index: u8,
    /// The backend's name; its id where the settings do not have it.
    pub backend: String,
    /// What fails together with it; `None` where the settings do not have the backend.
    pub zone: Option<String>,
    /// The length of the shard, in bytes.
    pub bytes: u64,
    /// What was last found of it.
    pub state: ShardState,
    /// How many of its blocks were wrong then.
    pub bad_blocks: u64,
    /// When all of it was last read and checked.
    pub verified: Option<Timestamp>,
}

/// A version of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ShownVersion {
    /// The version.
    pub version: VersionId,
    /// The writer that put it; `None` where the owner did.
    pub writer: Option<WriterId>,
    /// Its length in bytes.
    pub size: u64,
    /// When it was last changed.
    pub modified: Timestamp,
    /// 1 + the highest generation that was known when it was put.
    pub generation: u64,
    /// Whether no other version descends from it; several do not where machines did not know each other.
    pub head: bool,
}

/// The files of a folder.
#[derive(Debug, Clone, Serialize)]
pub struct ShowFolderReport {
    /// The folder's name.
    pub name: FileName,
    /// How many bytes its files have together.
    pub size: u64,
    /// The state of the worst of their objects.
    pub state: ObjectState,
    /// The files in it and in the folders below it, each in its newest version.
    pub files: Vec<ListedFileVersion>,
}

/// What the catalog says of one object.
struct Found {
    object: ObjectRecord,
    file_bytes: u64,
    standing: Standing,
    verified_ns: Option<i64>,
    shards: Vec<ShardRecord>,
}

/// Shows one file; reads the catalog only. [`ErrorKind::NotFound`] when there is no such file or version.
pub async fn show(store: &Store, options: ShowOptions) -> Result<ShowReport> {
    options.controls.check_cancelled()?;
    let (name, wanted, zones) = (options.name.clone(), options.version, Zones::of(store.registry()));
    let (versions, shown) = store
        .look(move |catalog| {
            let versions = read_versions(catalog, &name)?;
            let shown = match wanted {
                Some(wanted) => versions.iter().find(|(version, _)| version.id == wanted),
                None => versions.first(),
            };
            let objects = shown.map(|(version, _)| read_objects(catalog, version, &zones)).transpose()?;
            Ok((versions.clone(), shown.cloned().zip(objects)))
        })
        .await?;
    let Some(((version, _), found)) = shown else { return Err(not_found(&options)) };
    let whole = version.whole.clone().ok_or_else(|| not_found(&options))?;
    let (mut outlook, mut worst) = (Outlook::default(), ObjectState::Healthy);
    for object in &found {
        outlook.add(&object.standing, 1);
        worst = worst.max(object.standing.state);
    }
    let weakest = found.iter().map(|found| found.object.geometry).min_by_key(|geometry| geometry.parity_shards());
    Ok(ShowReport {
        name: version.name,
        version: version.id,
        writer: version.id.writer(),
        size: whole.total_bytes,
        modified: Timestamp(whole.mtime_ns),
        mode: whole.mode,
        blake3: whole.blake3,
        level: weakest.map(|geometry| RedundancyLevel::of(geometry).to_string()).unwrap_or_default(),
        state: worst,
        margin: outlook.margin(),
        backend_margin: outlook.backend_margin(),
        may_be_lost: outlook.may_be_lost(),
        objects: found.into_iter().map(|found| describe(store, found)).collect(),
        versions: versions.iter().filter_map(|(version, is_head)| describe_version(version, *is_head)).collect(),
    })
}

/// Shows all files of a folder; reads the catalog only. [`ErrorKind::NotFound`] when there is none.
pub async fn show_folder(store: &Store, name: FileName, controls: Controls) -> Result<ShowFolderReport> {
    let files =
        list(store, ListOptions { prefix: format!("{name}/"), controls, ..ListOptions::default() }).await?.files;
    if files.is_empty() {
        return Err(Error::new(ErrorKind::NotFound, format!("there is no file or folder {name}"))
            .with_hint("`shard list` shows what there is"));
    }
    let size = files.iter().map(|file| file.size).fold(0, u64::saturating_add);
    let state = files.iter().map(|file| file.state).max().unwrap_or(ObjectState::Healthy);
    Ok(ShowFolderReport { name, size, state, files })
}

fn not_found(options: &ShowOptions) -> Error {
    let doing = match options.version {
        Some(version) => format!("there is no version {version} of {}", options.name),
        None => format!("there is no file {}", options.name),
    };
    Error::new(ErrorKind::NotFound, doing).with_hint("`shard list --versions` shows what there is")
}

/// The complete versions that were not removed, newest head first, then newest first; and whether each is a head.
fn read_versions(catalog: &Catalog, name: &FileName) -> catalog::Result<Vec<(VersionRecord, bool)>> {
    let heads = catalog.heads(name)?;
    let mut versions = catalog.versions(name)?;
    versions.retain(|version| version.complete && !version.removed);
    let is_head = |version: &VersionRecord| heads.iter().any(|head| head.id == version.id);
    Ok(versions.into_iter().map(|version| (version.clone(), is_head(&version))).collect())
}

fn read_objects(catalog: &Catalog, version: &VersionRecord, zones: &Zones) -> catalog::Result<Vec<Found>> {
    let mut found: Vec<Found> = Vec::new();
    for PieceRecord { object: id, bytes, .. } in catalog.pieces(version.id)? {
        if let Some(known) = found.iter_mut().find(|found| found.object.id == id) {
            known.file_bytes += bytes;
            continue;
        }
        let (Some(object), Some(health)) = (catalog.object(id)?, catalog.health(id)?) else { continue };
        let shards = catalog.shards(id)?;
        let standing = Standing::of(object.geometry, &shards, &health, zones);
        found.push(Found { object, file_bytes: bytes, standing, verified_ns: health.verified_ns, shards });
    }
    Ok(found)
}

fn describe(store: &Store, found: Found) -> ShownObject {
    let Found { object, file_bytes, standing, verified_ns, shards } = found;
    ShownObject {
        id: object.id,
        root: object.root,
        data_shards: object.geometry.data_shards(),
        total_shards: object.geometry.total_shards(),
        block_bytes: object.block_bytes,
        stripes: object.stripe_count,
        payload_bytes: object.payload_bytes,
        file_bytes,
        state: standing.state,
        margin: standing.margin,
        backend_margin: standing.backend_margin,
        verified: verified_ns.map(Timestamp),
        shards: shards.iter().map(|shard| describe_shard(store, shard)).collect(),
    }
}

fn describe_shard(store: &Store, shard: &ShardRecord) -> ShownShard {
    ShownShard {
        index: shard.index,
        backend: backend_name(store, shard.backend),
        zone: store.registry().get(shard.backend).map(|backend| backend.zone.to_string()),
        bytes: shard.bytes,
        state: shard.state,
        bad_blocks: shard.bad_blocks,
        verified: shard.verified_ns.map(Timestamp),
    }
}

fn describe_version(version: &VersionRecord, is_head: bool) -> Option<ShownVersion> {
    let whole = version.whole.as_ref()?;
    Some(ShownVersion {
        version: version.id,
        writer: version.id.writer(),
        size: whole.total_bytes,
        modified: Timestamp(whole.mtime_ns),
        generation: whole.generation,
        head: is_head,
    })
}

/// What a person calls a backend; its id where the settings do not have it.
pub(in crate::ops) fn backend_name(store: &Store, backend: BackendId) -> String {
    store.registry().get(backend).map_or_else(|| backend.to_string(), |known| known.name.clone())
}
