//! Who has shards here, and where.

use super::StorageOptions;
use super::owner::Owner;
use super::refusal::Refusal;
use crate::backend::{Error, ErrorKind, LocalBackend};
use crate::id::NodeId;
use crate::peer::storage::RefusalKind;
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OnceCell, Semaphore};

/// So many owners' shards are read whole at once to see whether they may be replaced: beside a block, each takes the leaves of
/// a shard, which are some MiB. Challenges do not wait for these, which may take minutes.
const CHECKS_AT_ONCE: usize = 2;

/// Where a local backend has what is being written, and what that is called.
const TEMPORARY: &str = "tmp";
const UNFINISHED_SUFFIX: &[u8] = b".part";

/// What one owner has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerUsage {
    /// Who.
    pub owner: NodeId,
    /// The bytes of its shards.
    pub bytes: u64,
    /// How many they are.
    pub shards: u64,
}

/// The folder, and the owners that were heard of.
#[derive(Debug)]
pub(super) struct Owners {
    folder: PathBuf,
    /// Device and inode: a disk that is not mounted any more is not an empty one.
    identity: (u64, u64),
    options: StorageOptions,
    /// Of shards that are read whole before they are replaced.
    checks: Arc<Semaphore>,
    known: Mutex<HashMap<NodeId, Arc<OnceCell<Arc<Owner>>>>>,
}

impl Owners {
    pub(super) fn open(folder: &Path, options: StorageOptions) -> Result<Self, Error> {
        let opening = |error| Error::io(format!("opening the folder {}", folder.display()), error);
        let folder = std::path::absolute(folder).map_err(opening)?;
        LocalBackend::create_root(&folder)?;
        let identity = identity(&folder)?;
        clear_unfinished(&folder);
        let checks = Arc::new(Semaphore::new(CHECKS_AT_ONCE));
        Ok(Self { folder, identity, options, checks, known: Mutex::default() })
    }

    pub(super) fn options(&self) -> &StorageOptions {
        &self.options
    }

    /// The owner, where it has something here.
    pub(super) async fn find(&self, id: NodeId) -> Result<Option<Arc<Owner>>, Error> {
        let known = self.known().get(&id).and_then(|cell| cell.get().cloned());
        if known.is_some() {
            return Ok(known);
        }
        let (folder, above, identity_then) = (self.folder_of(id), self.folder.clone(), self.identity);
        let is_there = blocking(move || {
            if is_there(&folder)? {
                return Ok(true);
            }
            if identity(&above)? == identity_then {
                return Ok(false);
            }
            let doing = format!("looking at the folder {}", above.display());
            Err(Error::with_source(ErrorKind::Unreachable, doing, "another one is in its place: is the disk mounted?"))
        });
        if is_there.await? { self.open_owner(id).await.map(Some) } else { Ok(None) }
    }

    /// The owner, with a folder that is made if there is none.
    pub(super) async fn find_or_make(&self, id: NodeId) -> Result<Arc<Owner>, Error> {
        if let Some(owner) = self.find(id).await? {
            return Ok(owner);
        }
        let folder = self.folder_of(id);
        blocking(move || LocalBackend::create_root(&folder)).await?;
        self.open_owner(id).await
    }

    /// What every owner has.
    pub(super) async fn usage(&self) -> Result<Vec<OwnerUsage>, Error> {
        let folder = self.folder.clone();
        let mut ids = blocking(move || ids_below(&folder)).await?;
        ids.sort_unstable();
        let mut usage = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(owner) = self.find(id).await? else { continue };
            let tally = *owner.tally();
            usage.push(OwnerUsage { owner: id, bytes: tally.bytes, shards: tally.shards });
        }
        Ok(usage)
    }

    async fn open_owner(&self, id: NodeId) -> Result<Arc<Owner>, Error> {
        let cell = Arc::clone(self.known().entry(id).or_default());
        let folder = self.folder_of(id);
        let open = async || Owner::open(folder, self.options, Arc::clone(&self.checks)).await.map(Arc::new);
        cell.get_or_try_init(open).await.cloned()
    }

    fn folder_of(&self, id: NodeId) -> PathBuf {
        self.folder.join(id.to_string())
    }

    fn known(&self) -> std::sync::MutexGuard<'_, HashMap<NodeId, Arc<OnceCell<Arc<Owner>>>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ids_below(folder: &Path) -> Result<Vec<NodeId>, Error> {
    let failed = |error| Error::io(format!("listing {}", folder.display()), error);
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let names = entries.map(|entry| Ok(entry.map_err(failed)?.file_name()));
    let names = names.collect::<Result<Vec<_>, Error>>()?;
    // What is called otherwise is nothing of the service's.
    Ok(names.iter().filter_map(|name| name.to_str()?.parse::<NodeId>().ok()).collect())
}

/// Removes what a process that was killed had not finished, of every owner: some never ask for it. Before anybody writes.
fn clear_unfinished(folder: &Path) {
    let owners = ids_below(folder).unwrap_or_default();
    for temporary in owners.iter().map(|owner| folder.join(owner.to_string()).join(TEMPORARY)) {
        // It takes room, and is no reason not to serve.
        if let Err(error) = clear(&temporary) {
            tracing::warn!("what was left unfinished in {} cannot be cleared: {error}", temporary.display());
        }
    }
}

fn clear(temporary: &Path) -> io::Result<()> {
    // What a link leads to is not the service's.
    match temporary.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => {}
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => return Ok(()),
    }
    for entry in std::fs::read_dir(temporary)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().ends_with(UNFINISHED_SUFFIX) {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Absent is never said of what could not be looked at.
fn is_there(folder: &Path) -> Result<bool, Error> {
    let doing = || format!("looking at the folder {}", folder.display());
    match std::fs::metadata(folder) {
        Ok(metadata) if metadata.is_dir() => Ok(true),
        Ok(_) => Err(Error::with_source(ErrorKind::Failed, doing(), "it is no folder")),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(doing(), error)),
        // What a link leads to may be on a disk that is not mounted.
        Err(error) => match folder.is_symlink() {
            true => Err(Error::with_source(ErrorKind::Unreachable, doing(), error)),
            false => Ok(false),
        },
    }
}

fn identity(folder: &Path) -> Result<(u64, u64), Error> {
    match std::fs::metadata(folder) {
        Ok(metadata) => Ok((metadata.dev(), metadata.ino())),
        Err(error) => {
            Err(Error::with_source(ErrorKind::Unreachable, format!("opening the folder {}", folder.display()), error))
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    let stopped = |error| Error::with_source(ErrorKind::Failed, "looking at the folder of a peer's shards", error);
    tokio::task::spawn_blocking(work).await.map_err(stopped)?
}

/// What an owner without anything here is told of its shards.
pub(super) fn nothing_there() -> Refusal {
    Refusal::new(RefusalKind::NotFound, "the node has no such shard")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_looked_at_is_not_absent() {
        let dir = tempfile::tempdir().expect("a folder");
        let owners = Owners::open(dir.path(), StorageOptions::default()).expect("a folder");
        let path = |number: u8| dir.path().join(NodeId([number; 32]).to_string());
        std::os::unix::fs::symlink(path(1), path(1)).expect("a loop");
        std::os::unix::fs::symlink(dir.path().join("not mounted"), path(2)).expect("a link");
        std::fs::write(path(3), b"").expect("a file");
        for number in 1..=3 {
            assert!(owners.find(NodeId([number; 32])).await.is_err(), "{number}");
            assert!(owners.find_or_make(NodeId([number; 32])).await.is_err(), "{number}");
        }
        assert!(owners.find(NodeId([4; 32])).await.expect("looked at").is_none());
    }
}
