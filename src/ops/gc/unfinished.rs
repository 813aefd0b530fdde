//! Large files that were begun and not ended.

use super::GcReport;
use crate::backend::RegisteredBackend;
use crate::catalog::{Catalog, VersionRecord};
use crate::error::{ErrorKind, Result};
use crate::format::FileName;
use crate::id::{ProcessId, VersionId};
use crate::ops::Controls;
use crate::ops::ingest::unread_objects;
use crate::ops::put::{take_back, version_lease};
use crate::ops::refresh::RefreshReport;
use crate::ops::remove::{Doomed, RemovedFile, remove_versions};
use crate::store::{Held, Store};
use serde::Serialize;

/// A file that was begun, not ended, and stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptUnfinished {
    /// Its name.
    pub name: FileName,
    /// The version.
    pub version: VersionId,
    /// Why it stays.
    pub why: &'static str,
}

/// Whose it is.
struct Begun {
    version: VersionRecord,
    /// Hashes of its pieces are known only where they were put, and so is the lease of a process that died over it.
    is_own: bool,
    holder: Option<ProcessId>,
}

/// Whether everything was read that may be the end of a file. A catalog that was set back, or made anew without a place,
/// may not know of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    AllKnown,
    OutOfReach,
}

impl Ends {
    /// After a refresh that brought in what it could.
    pub(super) async fn after(store: &Store, refreshed: &RefreshReport) -> Result<Self> {
        // A machine that cannot read ends files of its own alone.
        let reads = store.access().keyring().is_some();
        let in_part = store
            .look(move |catalog| Ok(catalog.is_rebuilt_in_part()? || reads && !unread_objects(catalog)?.is_empty()))
            .await?;
        let closed = reads && !(refreshed.locked.is_empty() && refreshed.unreadable.is_empty());
        let is_all_read =
            refreshed.unlisted.is_empty() && refreshed.incomplete.is_empty() && refreshed.untrusted.is_empty();
        Ok(if in_part || closed || !is_all_read { Self::OutOfReach } else { Self::AllKnown })
    }

    /// As far as it is known before a refresh.
    async fn before(store: &Store) -> Result<Self> {
        let in_part = store.look(|catalog| catalog.is_rebuilt_in_part()).await?;
        let are_all_there = store.registry().iter().all(RegisteredBackend::is_ready);
        Ok(if in_part || !are_all_there { Self::OutOfReach } else { Self::AllKnown })
    }
}

/// Removes those that this machine began and no living process goes on with.
pub(super) async fn clear(store: &Store, ends: Ends, report: &mut GcReport, controls: &Controls) -> Result<()> {
    let (going, kept) = sort(store, ends).await?;
    report.unfinished_kept = kept;
    for version in going {
        // Held while it is removed, so that no put goes on with it now.
        let _lease = match store.lease(&version_lease(version.id)).await {
            Err(error) if error.kind == ErrorKind::Busy => {
                report.unfinished_kept.push(keep(&version, "a process is putting it"));
                continue;
            }
            lease => lease?,
        };
        let name = version.name.clone();
        let is_still = store.look(move |catalog| catalog.unfinished_of(&name)).await?;
        if !is_still.iter().any(|other| other.id == version.id) {
            continue;
        }
        if store.held() == Held::WriteOnly {
            // It signs no removal; nobody else knows of a file without an end, or is told that it is lost.
            report.bytes_freed += take_back_version(store, version.id).await?;
            report.unfinished.push(RemovedFile { name: version.name, version: version.id });
            continue;
        }
        let removed = remove_versions(store, vec![Doomed::of(&version)], controls).await?;
        report.unfinished.extend(removed.files);
        report.shards_deleted += removed.shards_deleted;
        report.bytes_freed += removed.bytes_freed;
    }
    Ok(())
}

/// Deletes the objects of a version that is not whole, without a removal; says how many bytes that should free.
async fn take_back_version(store: &Store, version: VersionId) -> Result<u64> {
    let (objects, bytes) = store
        .look(move |catalog| {
            let objects = catalog.objects_of_version(version)?;
            let mut bytes = 0;
            for object in &objects {
                bytes += catalog.shards(*object)?.iter().map(|shard| shard.bytes).sum::<u64>();
            }
            Ok((objects, bytes))
        })
        .await?;
    take_back(store, &objects).await?;
    Ok(bytes)
}

/// Says which would go.
pub(super) async fn plan(store: &Store, report: &mut GcReport) -> Result<()> {
    let (going, kept) = sort(store, Ends::before(store).await?).await?;
    report.unfinished = going.into_iter().map(|v| RemovedFile { name: v.name, version: v.id }).collect();
    report.unfinished_kept = kept;
    Ok(())
}

async fn sort(store: &Store, ends: Ends) -> Result<(Vec<VersionRecord>, Vec<KeptUnfinished>)> {
    let begun = store.look(read).await?;
    let (mut going, mut kept) = (Vec::new(), Vec::new());
    for Begun { version, is_own, holder } in begun {
        if holder.is_some_and(|holder| store.process_is_alive(holder)) {
            kept.push(keep(&version, "a process is putting it"));
        } else if !is_own {
            kept.push(keep(
                &version,
                "another machine began it, or the catalog was rebuilt: if nobody is putting it, `shard remove --version` ends it",
            ));
        } else if ends == Ends::OutOfReach {
            kept.push(keep(&version, "its end may be where nothing can be read now"));
        } else {
            going.push(version);
        }
    }
    Ok((going, kept))
}

fn keep(version: &VersionRecord, why: &'static str) -> KeptUnfinished {
    KeptUnfinished { name: version.name.clone(), version: version.id, why }
}

fn read(catalog: &Catalog) -> crate::catalog::Result<Vec<Begun>> {
    let mut begun = Vec::new();
    for version in catalog.unfinished()? {
        let holder = catalog.lease_holder(&version_lease(version.id))?;
        let is_own = holder.is_some() || catalog.pieces(version.id)?.iter().any(|piece| piece.blake3.is_some());
        begun.push(Begun { version, is_own, holder });
    }
    Ok(begun)
}
