//! What is where: files, versions, objects, shards, removals, and the journal of what is being written.
//!
//! *What it is.* One SQLite file and the questions that are asked of it. Its content is a cache: the backends hold the
//! truth, and the content can be made anew from them ([`Catalog::rebuild_into`]). Journal, leases, notes and the history of
//! how backends met what was asked of them are this machine's own.
//!
//! *What it knows.* Records: manifests as bytes, names, pieces, places, states, what was removed and what is still to
//! be deleted. Which process is alive, by locks of the operating system ([`ProcessLock`]).
//!
//! *What it does not know.* Backends, shards' bytes, master keys, coding, zones, and the time: every time is an argument.
//!
//! # Invariants
//!
//! - **An object becomes true at once.** [`Catalog::commit`] is one transaction: object, places, pieces, versions,
//!   what it removes, and the end of its journal entry.
//! - **The order of commits does not matter.** Objects and removals may arrive in any order and any number of times;
//!   what a removal names is dead, seen before or after.
//! - **A place is either kept or to be deleted**, never both: a shard row and a pending delete of one place exclude
//!   each other.
//! - **A removal is finished** only when every shard that it names is confirmed gone, nothing of the objects that it
//!   names waits for deletion, and every version that it names was seen here and is in no object that lives.
//! - **A copy of the file tells nothing without its key.** Names, and what is told of single files and their pieces
//!   (sizes, times, hashes), are in sealed parts of their rows; a name is looked up by a keyed tag. What stays to be seen
//!   is what every backend sees of objects, and how many versions, pieces and folders there are and which belong together.
//! - **No question about one thing walks everything**: each has its index. What is about everything goes by pages or
//!   is an aggregate.
//!
//! ```text
//! version ──< piece >── object ──< shard ──> backend
//!    │                    ├──< backup_part        kind = catalog
//!    │                    │ kind = removal
//!    └ parent             └──< removed_version, removed_object, removed_shard ──> pending_delete
//! ```

mod backup;
mod challenge;
mod change_time;
mod check;
mod column;
mod commit;
mod error;
mod file;
mod folder;
mod heads;
mod journal;
mod lease;
mod listing;
mod note;
mod object;
mod place;
mod process;
mod rebuild;
mod record;
mod removal;
mod schema;
mod sealed;
mod stage;
mod standing;
mod statistics;
#[cfg(test)]
mod tests;

pub use backup::{BackupObject, Snapshot};
pub use challenge::{BackendHistory, CHALLENGES_KEPT, ChallengeOutcome, ChallengeRecord, ChallengesOf};
pub use error::{Error, Result};
pub use process::{ProcessLock, clear_dead, died_here, is_alive};
pub use record::{
    CheckRecord, Commit, JournalEntry, ListedFile, ObjectAge, ObjectHealth, ObjectKind, ObjectRecord, ObjectState,
    PendingDelete, PieceRecord, Purpose, ShardRecord, ShardState, SparseObject, VersionRecord,
};
pub use schema::is_blank;
pub use stage::StagedRecord;
pub use standing::ObjectClass;
pub use statistics::{CatalogStats, GeometryStats};

use crate::crypto::CatalogKey;
use crate::id::StoreId;
use error::Fault;
use listing::Walk;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The catalog of one store, through one connection.
///
/// Blocking: callers keep it off the reactor. Several connections, in one process or many, may be open at once; a
/// writer waits up to ten seconds for another.
#[derive(Debug)]
pub struct Catalog {
    connection: Connection,
    path: PathBuf,
    key: Arc<CatalogKey>,
    /// The listing that was begun last, while it goes on.
    walk: RefCell<Option<Walk>>,
}

impl Catalog {
    /// Makes an empty catalog for the key's store, sealed with it; [`Error::Exists`] if there is one.
    ///
    /// Atomic: an interrupted creation leaves a file that `open` refuses and `create` takes.
    pub fn create(path: &Path, key: Arc<CatalogKey>) -> Result<Self> {
        let path = schema::absolute(path)?;
        let connection = schema::create(&path, &key, None)?;
        Ok(Self { connection, path, key, walk: RefCell::default() })
    }

    /// The same in the place of one that is missing or damaged: until it has what that one had, it says so
    /// ([`Catalog::is_unfilled`]).
    pub fn create_unfilled(path: &Path, key: Arc<CatalogKey>) -> Result<Self> {
        let path = schema::absolute(path)?;
        let connection = schema::create(&path, &key, Some(note::UNFILLED))?;
        Ok(Self { connection, path, key, walk: RefCell::default() })
    }

    /// Opens the catalog of a store.
    ///
    /// [`Error::Absent`], [`Error::Foreign`], [`Error::Newer`], [`Error::OtherStore`], [`Error::OtherKey`] and
    /// [`Error::Damaged`] say why not.
    pub fn open(path: &Path, key: Arc<CatalogKey>) -> Result<Self> {
        let path = schema::absolute(path)?;
        let connection = schema::open(&path, &key)?;
        Ok(Self { connection, path, key, walk: RefCell::default() })
    }

    /// Whose catalog it is.
    pub fn store_id(&self) -> StoreId {
        self.key.store_id()
    }

    /// What it is sealed with.
    pub fn key(&self) -> &Arc<CatalogKey> {
        &self.key
    }

    /// Where its file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the whole file and says [`Error::Damaged`] if it contradicts itself. Takes as long as reading it takes.
    pub fn check(&self) -> Result<()> {
        self.read(|tx| {
            let word: String = tx.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
            let what = if word == "ok" { standing::contradiction(tx)?.map(str::to_owned) } else { Some(word) };
            match what {
                None => Ok(()),
                Some(what) => Err(Error::Damaged { path: self.path.clone(), what }.into()),
            }
        })
    }

    /// Asks many questions of one state of the file: all see the same, and only the first pays for finding out which.
    /// Within another such question they are part of that.
    pub fn consistently<T>(&self, work: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        if !self.connection.is_autocommit() {
            return work(self);
        }
        let begun = self.connection.unchecked_transaction().map_err(|error| Fault::from(error).at(&self.path))?;
        let answer = work(self)?;
        begun.commit().map_err(|error| Fault::from(error).at(&self.path))?;
        Ok(answer)
    }

    /// Runs questions over one state of the file.
    fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T, Fault>) -> Result<T> {
        let run = || {
            if !self.connection.is_autocommit() {
                return work(&self.connection);
            }
            let tx = self.connection.unchecked_transaction()?;
            let answer = work(&tx)?;
            tx.commit()?;
            Ok(answer)
        };
        run().map_err(|fault: Fault| fault.at(&self.path))
    }

    /// Runs changes: all of them become durable, or none.
    fn write<T>(&mut self, work: impl FnOnce(&Transaction<'_>) -> Result<T, Fault>) -> Result<T> {
        let Self { connection, path, .. } = self;
        let run = || {
            let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let answer = work(&tx)?;
            standing::count(&tx)?;
            tx.commit()?;
            Ok(answer)
        };
        run().map_err(|fault: Fault| fault.at(path))
    }
}
