//! Backups of the catalog: what a rebuild would otherwise read from every object's shards, said again in few objects.
//!
//! *What it is.* [`backup`]: one state of the catalog, as records, becomes objects of the store itself, or a sealed file;
//! `load`, with which a rebuild begins.
//!
//! *What it knows.* Which records are in the chain of backups that this machine makes, and which objects no backup that is
//! kept needs any more.
//!
//! *What it does not know.* What is on the backends: a record says what an object is, never that it is there.
//!
//! *Invariants.* What an object is never changes, so that no record is ever wrong, however old: a backup that was set back to
//! an earlier state brings nothing back. The last part of a backup is written when all others are durable. Backups are
//! removed by a record like everything else, and never one that a kept backup consists of. No clock decides any of this; it
//! only says when the next backup by itself is due.
//!
//! ```text
//! catalog ─ snapshot ─▶ records ─┬▶ objects of the kind `catalog`:  full ◀─ delta ◀─ delta …   each names all before it
//!                                └▶ a file: sealed pieces, written whole or not at all
//! ```

mod chain;
mod file;
mod load;
mod objects;
mod records;

pub(in crate::ops) use chain::forget_chain;
pub(in crate::ops) use load::load;
pub use load::{LoadFrom, LoadedBackup};

use super::writer::StoredObject;
use super::{Controls, leftovers};
use crate::error::{ErrorKind, Result, with_causes};
use crate::format::ObjectKind;
use crate::store::{Held, Store};
use chain::Chain;
use records::Extent;
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// So many backups are kept, the newest; what they consist of is kept with them.
pub const BACKUPS_KEPT: usize = 8;
/// A backup by itself is made no sooner than this after the one before it.
pub const BACKUP_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Nor for fewer new objects than this: a rebuild reads so few in no time.
pub const BACKUP_WORTH_OBJECTS: usize = 32;
/// The lease that one who makes backups has.
const LEASE: &str = "catalog backup";

/// Where a backup goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum BackupTo {
    /// Into the store, as objects like any other.
    #[default]
    Store,
    /// Into a file, sealed for this store.
    File {
        /// Where.
        path: PathBuf,
        /// What happens to one that is there.
        existing: super::recover::Existing,
    },
}

/// How much is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BackupExtent {
    /// What the backup before does not have; all where there is none, or so much is new that all is as well.
    #[default]
    New,
    /// Everything.
    All,
}

/// How the catalog is backed up.
#[derive(Debug, Clone, Default)]
pub struct BackupOptions {
    /// Where it goes.
    pub to: BackupTo,
    /// How much is written; a file always has everything.
    pub extent: BackupExtent,
    /// Progress and cancelling.
    pub controls: Controls,
}

/// What kind of backup was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BackupKind {
    /// Nothing is new since the one before: that one still says all.
    #[default]
    None,
    /// What the one before does not have.
    Incremental,
    /// Everything.
    Full,
}

/// What was backed up.
#[derive(Debug, Clone, Default, Serialize)]
pub struct BackupReport {
    /// Which kind of backup it is.
    pub kind: BackupKind,
    /// Its generation, in the store: the newest has the greatest.
    pub generation: Option<u64>,
    /// The file that it is in, where it is in one.
    pub file: Option<String>,
    /// How many records the whole of it has: one an object, and more where something about an object was said again.
    pub records: u64,
    /// How many of them were written now.
    pub added: u64,
    /// How many objects have no record, because their index is not known here: a rebuild reads them.
    pub left_out: u64,
    /// The objects that were written.
    pub objects: Vec<StoredObject>,
    /// How many backups there are in the store.
    pub kept: u64,
    /// How many objects of backups that are no longer kept were removed.
    pub removed: u64,
    /// Why those were not removed; the next backup tries again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_removed: Option<String>,
    /// Bytes of shards, or of the file, that were written.
    pub bytes_written: u64,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

impl BackupReport {
    /// Whether some shard found no place that outlives this process, or would be better elsewhere.
    pub fn is_degraded(&self) -> bool {
        !self.objects.iter().all(|object| object.is_whole() && object.in_best_places)
    }
}

/// Backs up the catalog.
///
/// Into the store only with a key that may sign for its owner, else [`crate::ErrorKind::WrongKey`]: what a writer says of
/// objects is not believed. Into a file with any; it holds what this machine can know, and opens on this machine's key.
pub async fn backup(store: &Store, options: BackupOptions) -> Result<BackupReport> {
    let begun = Instant::now();
    options.controls.check_cancelled()?;
    let mut report = match options.to {
        BackupTo::Store => into_store(store, options.extent, &options.controls).await?,
        BackupTo::File { path, existing } => file::write(store, path, existing, &options.controls).await?,
    };
    report.elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(report)
}

/// Whether a backup by itself is due: where the settings want one, the one before is old enough, and enough is new.
pub async fn is_due(store: &Store) -> Result<bool> {
    if store.held() != Held::Owner || !store.config().catalog_backup {
        return Ok(false);
    }
    let (chain, now_ns) = (Chain::load(store).await?, store.now_ns());
    let since = chain.as_ref().map(|chain| now_ns.saturating_sub(chain.made_ns));
    // A time that is still to come is the mistake of a clock.
    if since.is_some_and(|since| (0..BACKUP_INTERVAL.as_nanos() as i64).contains(&since)) {
        return Ok(false);
    }
    let arrival = chain.map_or(0, |chain| chain.arrival);
    let news = store.look(move |catalog| catalog.count_arrivals_after(arrival, BACKUP_WORTH_OBJECTS)).await?;
    Ok(news >= BACKUP_WORTH_OBJECTS as u64)
}

async fn into_store(store: &Store, extent: BackupExtent, controls: &Controls) -> Result<BackupReport> {
    // Before anything is read: what cannot be signed is no backup.
    store.signer(ObjectKind::Catalog)?;
    leftovers::clear(store, controls).await?;
    let _lease = store.lease(LEASE).await?;
    let before = match extent {
        BackupExtent::New => Chain::to_go_on_with(store).await?,
        BackupExtent::All => None,
    };
    if let Some(chain) = &before
        && chain.says_all(store).await?
    {
        return chain::nothing_new(store, chain.clone()).await;
    }
    let from = before.as_ref().map_or(Extent::everything(), Chain::extent);
    let records = records::Records::begin(store, from).await?;
    controls.begin("backing up the catalog", None, None);
    let written = objects::write(store, records, before, controls).await?;
    controls.end();
    let objects::Written { chain, mut report } = written;
    chain.save(store).await?;
    match chain::prune(store, controls).await {
        Ok(pruned) => (report.kept, report.removed) = pruned,
        Err(error) if error.kind == ErrorKind::Cancelled => return Err(error),
        // The backup is there, and that there are too many does no harm.
        Err(error) => {
            report.kept = chain::count(store).await?;
            report.not_removed = Some(with_causes(&error));
        }
    }
    Ok(report)
}
