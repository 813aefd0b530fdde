//! `gc`: gives back space that nothing needs.
//!
//! *What it is.* Leftovers of dead processes, deletes that wait, objects of large files that were begun and not ended,
//! copies too many, objects that keep little for their size, removals of which everything is gone.
//!
//! *What it knows.* What the catalog says is needed, and what the backends say when they are asked again.
//!
//! *What it does not know.* How a shard is rebuilt: an object that is not well is left to `repair`.
//!
//! *Invariants.* Copy → commit → removal → delete: what lives is durable in its new object before the old one is named in a
//! removal. Nothing goes because it seems unknown or absent: an object is emptied only by what its own index says, read
//! again. A version that a living process is putting, or another machine began, stays. A finished removal stays for
//! [`REMOVAL_ROUNDS`] more, so that there are never more of them than these rounds finished. A machine without a master key
//! clears up what it wrote itself, and copies too many; the rest is the owner's.

mod repack;
mod surplus;
mod unfinished;

pub use repack::RepackedObject;
pub use surplus::SurplusCopy;
use unfinished::Ends;
pub use unfinished::KeptUnfinished;

use super::Controls;
use super::ingest::Sources;
use super::leftovers;
use super::rebuild::MAINTENANCE;
use super::refresh::refresh_known;
use super::remove::{Deletes, RemovedFile, WaitingDeletes, Which, delete_pending, rehearse_pending};
use crate::backend::{self, Backend, ListedShard};
use crate::catalog::Catalog;
use crate::error::Result;
use crate::id::{ObjectId, VersionId};
use crate::store::Store;
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::Instant;

/// How many dead objects are asked of the catalog at a time.
const PAGE_OBJECTS: usize = 1000;

/// In how many rounds a removal of which everything is gone stays, so that machines which were not there hear of it: to one
/// that knew its files and never sees it, they are lost. Rounds are counted, for no clock decides what is deleted.
pub const REMOVAL_ROUNDS: u32 = 16;

/// Whether anything is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GcMode {
    /// It is.
    #[default]
    Run,
    /// It is only said what would be.
    DryRun,
}

/// How space is given back.
#[derive(Debug, Clone, Default)]
pub struct GcOptions {
    /// Whether anything is done.
    pub mode: GcMode,
    /// Progress and cancelling.
    pub controls: Controls,
}

/// What was given back, or would be.
#[derive(Debug, Clone, Default, Serialize)]
pub struct GcReport {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// Objects and copies of shards that dead processes left half-written, and what they tried places with, and are gone. In a dry run: all that they left,
    /// some of which may turn out to be whole and stay.
    pub leftovers: u64,
    /// Large files that were begun and not ended, and are gone.
    pub unfinished: Vec<RemovedFile>,
    /// Such files that stay, and why.
    pub unfinished_kept: Vec<KeptUnfinished>,
    /// Copies of shards that were one too many.
    pub surplus: Vec<SurplusCopy>,
    /// What lived in objects that kept little, packed anew.
    pub repacked: Vec<RepackedObject>,
    /// Copies that waited to be deleted and stay: no other of their shard is good.
    pub recorded_again: u64,
    /// Objects that held nothing any more.
    pub emptied: Vec<ObjectId>,
    /// Objects that were left alone because they cannot be read now.
    pub left_alone: Vec<ObjectId>,
    /// Removals of which everything is gone, and so are they.
    pub removals_finished: u64,
    /// How many shards were deleted. In a dry run: how many are to be, as the catalog has it; those of removals whose end it would be, not counted.
    pub shards_deleted: u64,
    /// The bytes of these, and of what was half-written. In a dry run, as far as the catalog has their lengths.
    pub bytes_freed: u64,
    /// Shards that stay until their backends can be reached.
    pub waiting: Vec<WaitingDeletes>,
    /// How many bytes of shards were read to pack anew and to check.
    pub bytes_read: u64,
    /// How many bytes of shards were written.
    pub bytes_written: u64,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

impl GcReport {
    /// Whether there was nothing to do.
    pub fn is_nothing(&self) -> bool {
        let lists_are_empty =
            self.leftovers == 0 && self.unfinished.is_empty() && self.surplus.is_empty() && self.repacked.is_empty();
        let counts = [self.recorded_again, self.removals_finished, self.shards_deleted];
        lists_are_empty && self.emptied.is_empty() && counts == [0; 3]
    }
}

/// Gives back space.
pub async fn gc(store: &Store, options: GcOptions) -> Result<GcReport> {
    let begun = Instant::now();
    options.controls.check_cancelled()?;
    let mut report = match options.mode {
        GcMode::Run => run(store, &options.controls).await?,
        GcMode::DryRun => plan(store, &options.controls).await?,
    };
    report.elapsed_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(report)
}

async fn run(store: &Store, controls: &Controls) -> Result<GcReport> {
    let cleared = leftovers::clear(store, controls).await?;
    let probes = clear_probes(store).await;
    let _lease = store.lease(MAINTENANCE).await?;
    // What another machine removed, or packed anew, is not to be done against.
    let sources = Sources::of(store);
    let refreshed = refresh_known(store, &sources, controls).await?;
    let mut report = GcReport {
        leftovers: cleared.taken_back.len() as u64 + probes.len() as u64,
        bytes_freed: cleared.bytes_freed + probes.iter().map(|probe| probe.bytes).sum::<u64>(),
        bytes_read: refreshed.bytes_read,
        ..GcReport::default()
    };
    let mut deletes = delete_pending(store, Which::All, controls).await?;
    let ends = Ends::after(store, &refreshed).await?;
    unfinished::clear(store, ends, &mut report, controls).await?;
    deletes.add(surplus::clear(store, &mut report, controls).await?);
    // To pack anew takes a master key, and to end a removal, to have read all of what it names.
    if store.access().keyring().is_none() {
        deletes.add_last(delete_pending(store, Which::All, controls).await?);
        return Ok(conclude(store, report, &deletes));
    }
    repack::run(store, &sources, &mut report, controls).await?;
    deletes.add_last(delete_pending(store, Which::All, controls).await?);
    // An object that holds a removed version may be where nobody could look, or be closed to this machine: then the removal
    // stays.
    if refreshed.unlisted.is_empty() && refreshed.locked.is_empty() {
        deletes.add(drop_finished(store, &mut report, controls).await?);
    }
    forget_gone(store).await?;
    Ok(conclude(store, report, &deletes))
}

fn conclude(store: &Store, mut report: GcReport, deletes: &Deletes) -> GcReport {
    report.shards_deleted += deletes.shards;
    report.bytes_freed += deletes.bytes;
    report.recorded_again += deletes.called_off;
    report.bytes_read += deletes.bytes_read;
    report.waiting = deletes.waiting(store);
    report
}

/// Takes away what killed probes left. Where that fails it stays: nothing reads it, and the next run comes by again.
async fn clear_probes(store: &Store) -> Vec<ListedShard> {
    let mut cleared = Vec::new();
    for backend in writable(store) {
        cleared.extend(backend::clear_probes(backend).await.unwrap_or_default());
    }
    cleared
}

fn writable(store: &Store) -> impl Iterator<Item = &dyn Backend> {
    let places = store.registry().iter().filter(|place| place.is_ready() && !place.read_only);
    places.map(|place| place.backend.as_ref())
}

/// Nothing is asked of a backend but what an examination reads, and what probes left there.
async fn plan(store: &Store, controls: &Controls) -> Result<GcReport> {
    let mut report = GcReport { dry_run: true, ..GcReport::default() };
    let pending = rehearse_pending(store, controls).await?;
    report.shards_deleted = pending.shards;
    report.recorded_again = pending.called_off;
    report.bytes_read = pending.bytes_read;
    unfinished::plan(store, &mut report).await?;
    if store.access().keyring().is_some() {
        repack::plan(store, &Sources::of(store), &mut report, controls).await?;
        report.removals_finished = store.look(|catalog| catalog.finished_for(REMOVAL_ROUNDS)).await?.len() as u64;
    }
    surplus::plan(store, &mut report, controls).await?;
    report.leftovers = leftovers::count(store).await?;
    for backend in writable(store) {
        report.leftovers += backend::left_probes(backend).await.map_or(0, |left| left.len() as u64);
    }
    let doomed = report.emptied.iter().chain(report.repacked.iter().flat_map(|packed| &packed.from));
    let (mut doomed, surplus): (Vec<ObjectId>, _) = (doomed.copied().collect(), report.surplus.clone());
    let versions: Vec<VersionId> = report.unfinished.iter().map(|file| file.version).collect();
    let (shards, bytes) = store
        .look(move |catalog| {
            doomed.extend(catalog.objects_emptied_by(&versions)?);
            let (mut shards, mut bytes) = (surplus.len() as u64, 0);
            for object in doomed.into_iter().collect::<BTreeSet<_>>() {
                let of_object = catalog.shards(object)?;
                shards += of_object.len() as u64;
                bytes += of_object.iter().map(|shard| shard.bytes).sum::<u64>();
            }
            Ok((shards, bytes))
        })
        .await?;
    report.shards_deleted += shards;
    report.bytes_freed = bytes;
    Ok(report)
}

/// Removals that have nothing left to say, and said it long enough for other machines to hear.
async fn drop_finished(store: &Store, report: &mut GcReport, controls: &Controls) -> Result<Deletes> {
    let finished = store
        .catalog(|catalog| {
            let finished = catalog.finished_for(REMOVAL_ROUNDS)?;
            finished.iter().try_for_each(|removal| catalog.remove_finished(*removal))?;
            catalog.count_finished_round()?;
            Ok(finished)
        })
        .await?;
    report.removals_finished = finished.len() as u64;
    delete_pending(store, Which::Of(finished.into_iter().collect()), controls).await
}

/// Dead objects of which nothing is left anywhere need not be known.
async fn forget_gone(store: &Store) -> Result<()> {
    let mut after = None;
    loop {
        let from = after;
        let page = store.catalog(move |catalog| forget_page(catalog, from)).await?;
        match page {
            Some(last) => after = Some(last),
            None => return Ok(()),
        }
    }
}

fn forget_page(catalog: &mut Catalog, after: Option<ObjectId>) -> crate::catalog::Result<Option<ObjectId>> {
    let busy: BTreeSet<ObjectId> = catalog.journals()?.iter().map(|entry| entry.object).collect();
    let page = catalog.dead_objects(after, PAGE_OBJECTS)?;
    for object in page.iter().filter(|object| !busy.contains(object)) {
        if catalog.pending_deletes_of(*object)? == 0 {
            catalog.forget_object(*object)?;
        }
    }
    Ok(page.last().copied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FileName;

    #[test]
    fn a_report_is_of_nothing_where_nothing_was_done_and_only_there() {
        let (object, version) = (ObjectId([1; 16]), VersionId([2; 16]));
        let name = FileName::new("name").expect("a name");
        let packed =
            RepackedObject { from: vec![object], to: None, pieces: 1, live_bytes: 1, file_bytes: 3, replaced: true };
        let copy = SurplusCopy { object, index: 0, backend: "b1".to_owned() };
        let nothing = GcReport::default;
        assert!(nothing().is_nothing());
        assert!(GcReport { left_alone: vec![object], bytes_read: 1, elapsed_ms: 1, ..nothing() }.is_nothing());
        for something in [
            GcReport { leftovers: 1, ..nothing() },
            GcReport { unfinished: vec![RemovedFile { name, version }], ..nothing() },
            GcReport { surplus: vec![copy], ..nothing() },
            GcReport { repacked: vec![packed], ..nothing() },
            GcReport { emptied: vec![object], ..nothing() },
            GcReport { recorded_again: 1, ..nothing() },
            GcReport { removals_finished: 1, ..nothing() },
            GcReport { shards_deleted: 1, ..nothing() },
        ] {
            assert!(!something.is_nothing(), "{something:?}");
        }
    }
}
