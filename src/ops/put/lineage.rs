//! What a new version of a file descends from.

use crate::catalog::Catalog;
use crate::error::Result;
use crate::format::FileName;
use crate::id::VersionId;
use crate::store::Store;

/// A version names at most this many that it replaced; older ones are reached through these.
pub(super) const MAX_PARENTS: usize = 64;

/// Where a new version of a name stands among those that are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lineage {
    /// One more than the highest known generation.
    pub(super) generation: u64,
    /// The versions that it replaces, newest first.
    pub(super) parents: Vec<VersionId>,
}

/// The lineage of a new version of each of these names.
pub(super) async fn lineages(store: &Store, names: Vec<FileName>) -> Result<Vec<Lineage>> {
    let ask = move |catalog: &mut Catalog| names.iter().map(|name| lineage(catalog, name)).collect();
    store.catalog(ask).await
}

fn lineage(catalog: &Catalog, name: &FileName) -> crate::catalog::Result<Lineage> {
    // Heads first: these must be named, whatever else has room.
    let heads = catalog.heads(name)?.into_iter().map(|version| version.id);
    let mut parents: Vec<VersionId> = heads.collect();
    let live = catalog.versions(name)?.into_iter().filter(|version| version.complete && !version.removed);
    let known = parents.clone();
    parents.extend(live.map(|version| version.id).filter(|id| !known.contains(id)));
    parents.truncate(MAX_PARENTS);
    Ok(Lineage { generation: catalog.highest_generation(name)?.saturating_add(1), parents })
}
