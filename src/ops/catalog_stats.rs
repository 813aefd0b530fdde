//! `catalog stats`: the catalog in numbers.

use super::Controls;
use super::show::backend_name;
use crate::error::Result;
use crate::id::RedundancyLevel;
use crate::store::Store;
use serde::Serialize;
use std::collections::BTreeMap;

/// How the catalog is counted.
#[derive(Debug, Clone, Default)]
pub struct CatalogStatsOptions {
    /// Progress and cancelling.
    pub controls: Controls,
}

/// The catalog in numbers.
#[derive(Debug, Clone, Serialize)]
pub struct CatalogStatsReport {
    /// Names that have a version.
    pub files: u64,
    /// Complete versions that were not removed.
    pub versions: u64,
    /// Versions that were begun and are not complete.
    pub unfinished: u64,
    /// Objects that hold pieces of files.
    pub data_objects: u64,
    /// Removals that are still needed.
    pub removal_objects: u64,
    /// Objects that back up the catalog.
    pub catalog_objects: u64,
    /// Objects by state.
    pub objects_by_state: BTreeMap<String, u64>,
    /// Objects by level.
    pub objects_by_level: BTreeMap<String, u64>,
    /// Places of shards by state.
    pub shards_by_state: BTreeMap<String, u64>,
    /// The shards on each backend.
    pub backends: BTreeMap<String, BackendUse>,
    /// The payloads of all objects, in bytes.
    pub payload_bytes: u64,
    /// All shards, in bytes.
    pub shard_bytes: u64,
    /// Shards that wait to be deleted.
    pub pending_deletes: u64,
    /// The catalog file itself, in bytes.
    pub file_bytes: u64,
}

/// What lies on one backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BackendUse {
    /// How many shards.
    pub shards: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Counts what is in the catalog.
pub async fn catalog_stats(store: &Store, options: CatalogStatsOptions) -> Result<CatalogStatsReport> {
    options.controls.check_cancelled()?;
    let (stats, file_bytes) = store
        .look(|catalog| {
            let file_bytes = catalog.path().metadata().map_or(0, |metadata| metadata.len());
            Ok((catalog.stats()?, file_bytes))
        })
        .await?;
    let by_name = |(id, (shards, bytes)): (_, (u64, u64))| (backend_name(store, id), BackendUse { shards, bytes });
    Ok(CatalogStatsReport {
        files: stats.files,
        versions: stats.versions,
        unfinished: stats.unfinished,
        data_objects: stats.data_objects,
        removal_objects: stats.removal_objects,
        catalog_objects: stats.catalog_objects,
        objects_by_state: stats.objects.iter().map(|(state, count)| (state.to_string(), *count)).collect(),
        objects_by_level: stats
            .geometries
            .iter()
            .map(|(geometry, stats)| (RedundancyLevel::of(*geometry).to_string(), stats.objects))
            .collect(),
        shards_by_state: stats.shards.iter().map(|(state, count)| (state.to_string(), *count)).collect(),
        shard_bytes: stats.backends.values().map(|(_, bytes)| bytes).sum(),
        backends: stats.backends.into_iter().map(by_name).collect(),
        payload_bytes: stats.payload_bytes,
        pending_deletes: stats.pending_deletes,
        file_bytes,
    })
}
