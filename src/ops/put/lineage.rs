//! What a new version of a file descends from.

use crate::catalog::Catalog;
use crate::error::{Error, ErrorKind, Result};
use crate::format::FileName;
use crate::format::index::MAX_WRITER_GENERATION;
use crate::id::{VersionId, WriterId};
use crate::store::Store;

/// A version names at most this many that it replaced; older ones are reached through these.
pub(super) const MAX_PARENTS: usize = 64;

/// Where a new version of a name stands among those that are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lineage {
    /// One more than the highest known generation of the name; for a writer, than any that a writer is known to have given.
    pub(super) generation: u64,
    /// The versions that it replaces, newest first.
    pub(super) parents: Vec<VersionId>,
}

/// The lineage of a new version of each of these names.
///
/// [`ErrorKind::Refused`] for a writer that has given all generations there are.
pub(super) async fn lineages(store: &Store, names: Vec<FileName>) -> Result<Vec<Lineage>> {
    let Some(writer) = store.writer() else {
        let ask = move |catalog: &Catalog| names.iter().map(|name| lineage(catalog, name)).collect();
        return store.look(ask).await;
    };
    let ask = move |catalog: &mut Catalog| {
        let generation = catalog.writer_generation()?.saturating_add(1);
        let of_name = |name| Ok(Lineage { generation, parents: parents(catalog, name, Some(writer))? });
        let lineages: Vec<Lineage> = names.iter().map(of_name).collect::<crate::catalog::Result<_>>()?;
        catalog.raise_writer_generation(generation)?;
        Ok((generation, lineages))
    };
    let (generation, lineages) = store.catalog(ask).await?;
    if generation > MAX_WRITER_GENERATION {
        return Err(Error::new(ErrorKind::Refused, "this machine's key has given all the generations that it may")
            .with_hint("`shard key export --write-only` on the owner's machine makes another"));
    }
    Ok(lineages)
}

fn lineage(catalog: &Catalog, name: &FileName) -> crate::catalog::Result<Lineage> {
    let generation = catalog.highest_generation(name)?.saturating_add(1);
    Ok(Lineage { generation, parents: parents(catalog, name, None)? })
}

/// What a new version of a name replaces. A writer replaces what it put itself: whatever it knows besides, of the owner's or
/// another writer's, it may not name, and nobody would believe it.
fn parents(catalog: &Catalog, name: &FileName, writer: Option<WriterId>) -> crate::catalog::Result<Vec<VersionId>> {
    // Heads first: these must be named, whatever else has room.
    let heads = catalog.heads(name)?.into_iter().map(|version| version.id);
    let mut parents: Vec<VersionId> = heads.collect();
    let live = catalog.versions(name)?.into_iter().filter(|version| version.complete && !version.removed);
    let known = parents.clone();
    parents.extend(live.map(|version| version.id).filter(|id| !known.contains(id)));
    parents.retain(|id| writer.is_none_or(|writer| id.writer() == Some(writer)));
    parents.truncate(MAX_PARENTS);
    Ok(parents)
}
