//! What a new version of a file descends from.

use crate::catalog::Catalog;
use crate::error::Result;
use crate::format::FileName;
use crate::id::VersionId;
use crate::store::Store;

/// A version names at most this many that it replaced; older ones are reached through these.
pub(super) const MAX_PARENTS: usize = 64;

/// The note of the highest generation that a writer has given to any name. What it put may be packed anew by the owner, and
/// is then nothing that it knows of; what it puts afterwards is newer all the same.
const WRITER_GENERATION: &str = "writer generation";

/// Where a new version of a name stands among those that are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lineage {
    /// One more than the highest known generation of the name; for a writer, than any that it has given.
    pub(super) generation: u64,
    /// The versions that it replaces, newest first.
    pub(super) parents: Vec<VersionId>,
}

/// The lineage of a new version of each of these names.
pub(super) async fn lineages(store: &Store, names: Vec<FileName>) -> Result<Vec<Lineage>> {
    let is_writer = store.writer().is_some();
    let ask = move |catalog: &mut Catalog| {
        let given = if is_writer { catalog.note(WRITER_GENERATION)? } else { None };
        let given = given.and_then(|given| given.parse().ok()).unwrap_or(0);
        let lineages: Vec<Lineage> =
            names.iter().map(|name| lineage(catalog, name, given)).collect::<crate::catalog::Result<_>>()?;
        if let Some(highest) = lineages.iter().map(|lineage| lineage.generation).max().filter(|_| is_writer) {
            catalog.set_note(WRITER_GENERATION, &highest.to_string())?;
        }
        Ok(lineages)
    };
    store.catalog(ask).await
}

fn lineage(catalog: &Catalog, name: &FileName, given: u64) -> crate::catalog::Result<Lineage> {
    // Heads first: these must be named, whatever else has room.
    let heads = catalog.heads(name)?.into_iter().map(|version| version.id);
    let mut parents: Vec<VersionId> = heads.collect();
    let live = catalog.versions(name)?.into_iter().filter(|version| version.complete && !version.removed);
    let known = parents.clone();
    parents.extend(live.map(|version| version.id).filter(|id| !known.contains(id)));
    parents.truncate(MAX_PARENTS);
    let generation = catalog.highest_generation(name)?.max(given).saturating_add(1);
    Ok(Lineage { generation, parents })
}
