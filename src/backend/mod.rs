//! Places that keep shards.
//!
//! *What it is.* One trait, [`Backend`], with its contract below; what implements it (a folder, memory, an object
//! store, a node); wrappers that add patience or faults; the registry of the backends a store uses; and the one pure function
//! that says which shard goes where.
//!
//! *What it knows.* Names of shards and streams of bytes, zones, quotas, marks.
//!
//! *What it does not know.* What is inside a shard: no format, no coding, no keys, no catalog.
//!
//! *Invariants.* The contract below. What implements the trait knows nothing of the registry, and placement knows
//! neither: it sees zones and loads.
//!
//! # The contract
//!
//! The module [`contract`] holds one test for each clause, for the author of any backend to run.
//!
//! 1. **A shard appears whole or not at all.** Until [`ShardWriter::finish`] returns, `head`, `read` and `list` do not
//!    show what is being written. A writer dropped or aborted leaves nothing visible; one whose `write` failed cannot
//!    finish.
//! 2. **`finish` means durable.** When it returns `Ok`, the shard survives loss of power, as far as the place can promise.
//!    When it fails, or is given up while it runs, the shard may be there or not, but not a part of it.
//! 3. **`create` never replaces.** If the shard is there, `create` or its `finish` fails with [`ErrorKind::AlreadyExists`]
//!    and the old bytes stay. (A place that cannot refuse atomically checks first; names are never used twice.)
//! 4. **`replace` is atomic.** A reader sees the old bytes or the new, never a mixture, never nothing. It also creates.
//! 5. **`read` returns exactly the range asked for**, or fails: [`ErrorKind::NotFound`] when the shard is absent,
//!    [`ErrorKind::OutOfRange`] when the range ends after the shard does or before it begins. An empty range inside the
//!    shard is empty bytes.
//! 6. **`head` is the shard's length in bytes**, or `NotFound`.
//! 7. **`delete` of an absent shard is `Ok`.** After it, `head` says `NotFound`.
//! 8. **`list` shows every finished shard once**, in the order of [`shard_name`] (index 10 before 2), in pages; things
//!    that are not named like shards are passed over. A page may be short: only `next` says which is the last.
//! 9. **`stats` counts** the finished shards and their bytes; free space and quota where the place knows them.
//! 10. **A quota holds**, for writers at the same time too: a write that would exceed it, or `finish` at the latest, fails with
//!     [`ErrorKind::NoSpace`] and leaves nothing. Bytes that `replace` frees are counted for it.
//! 11. **The mark** is what `write_mark` wrote last; `None` where there never was one; where one was seen and is gone,
//!     the place is [`ErrorKind::Unreachable`]. It is not a shard: `list` and `stats` do not show it.
//! 12. **Absent is never said of what could not be looked at**: `NotFound` only when the place answered.
//! 13. **Everything may run at once**, from many tasks, on one backend and on one shard.
//! 14. **`clear_unfinished`** removes what an interrupted write of that shard left out of sight, and never a finished
//!     shard, nor what is being written of another. (Whoever calls it knows that no one is writing this one.)
//! 15. **`challenge` shows the blocks asked for, in their order**, each with the path that the leaves stored behind them give,
//!     and fails as `read` does; a place that has no shorter way than `read` shows nothing: `None`. Nothing of it is trusted.

mod challenge;
pub mod cloud;
pub mod contract;
mod dice;
mod distribute;
mod error;
pub mod faulty;
pub mod heap;
mod ledger;
mod local;
mod memory;
pub mod node;
pub mod placement;
mod probe;
mod registry;
pub mod retry;
mod spec;
mod zone;

pub use challenge::{ShardChallenge, ShownBlock};
pub use distribute::{Distribution, Placement};
pub use error::{Error, ErrorKind};
pub use faulty::{Effect, Fault, FaultyBackend, Operation, When};
pub use local::{LocalBackend, LocalOptions, LocalShard, ShardVersion};
pub use memory::MemoryBackend;
pub use node::{NodeAccess, NodeBackend};
pub use probe::{ProbeError, ProbeReport, ProbeStep, clear_probes, left_probes, probe};
pub use registry::{BackendRegistry, Health, Reach, RegisteredBackend};
pub use retry::{RetryBackend, RetryOptions};
pub use spec::{BackendSpec, BackendUrl, Environment, open, zone_of};
pub use zone::{MAX_ZONE_BYTES, Zone, ZoneError};

pub use crate::peer::storage::ScrubPage;

use crate::id::{BackendId, ShardId, StoreId};
use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;

/// What a backend operation gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A listing's page holds at most this many shards, so that no listing needs memory for all of them.
pub const LIST_PAGE_SHARDS: usize = 1000;

/// The name of the mark in a backend's root.
pub const MARK_NAME: &str = "shard.mark";

/// A place that keeps shards, without understanding them. The module documentation is its contract, clause by clause.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync {
    /// Begins a new shard.
    async fn create(&self, shard: ShardId) -> Result<Box<dyn ShardWriter>>;

    /// Begins bytes that take the place of the shard's old ones, if there are any, when finished.
    async fn replace(&self, shard: ShardId) -> Result<Box<dyn ShardWriter>>;

    /// Bytes `range.start..range.end` of a shard.
    async fn read(&self, shard: ShardId, range: Range<u64>) -> Result<Bytes>;

    /// A shard's length in bytes.
    async fn head(&self, shard: ShardId) -> Result<u64>;

    /// Removes a shard; one that is absent already is removed.
    async fn delete(&self, shard: ShardId) -> Result<()>;

    /// The next page of shards whose names come after `after`, at most [`LIST_PAGE_SHARDS`].
    async fn list(&self, after: Option<ShardId>) -> Result<ListPage>;

    /// How much is here and how much more fits.
    async fn stats(&self) -> Result<BackendStats>;

    /// The mark that says whose place this is.
    async fn read_mark(&self) -> Result<Option<Mark>>;

    /// Writes the mark, replacing an older one.
    async fn write_mark(&self, mark: &Mark) -> Result<()>;

    /// Removes what an interrupted `create` or `replace` of this shard left behind, and says how many bytes that were, as
    /// far as the place can tell.
    async fn clear_unfinished(&self, shard: ShardId) -> Result<u64>;

    /// How many bytes more it would take now; `None` where it has no bound, or none that it knows of. What it holds is counted
    /// for this only where a quota makes it necessary.
    async fn room(&self) -> Result<Option<u64>> {
        Ok(self.stats().await?.room())
    }

    /// Shows blocks with their paths, where the place can do so by sending less than all leaves; `None` where it is better to
    /// read leaves and blocks.
    async fn challenge(&self, _: ShardId, _: &ShardChallenge) -> Result<Option<Vec<ShownBlock>>> {
        Ok(None)
    }

    /// Lets the place read the next of its shards and say which are damaged, where it can check itself. It is the place's word.
    async fn scrub(&self, _: Option<ShardId>) -> Result<Option<ScrubPage>> {
        Ok(None)
    }

    /// Tells whoever looks after the place that so many shards were found damaged or missing, of which these are the first, where
    /// there is somebody.
    async fn tell_damage(&self, _: u64, _: &[ShardId]) -> Result<()> {
        Ok(())
    }
}

/// A shard on its way to a backend.
#[async_trait]
pub trait ShardWriter: Send {
    /// Takes the next bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<()>;

    /// Makes the shard durable and visible, and gives its length in bytes.
    async fn finish(self: Box<Self>) -> Result<u64>;

    /// Gives up: nothing of it stays.
    async fn abort(self: Box<Self>);
}

/// A page of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPage {
    /// The shards, in the order of [`shard_name`].
    pub shards: Vec<ListedShard>,
    /// What to pass as `after` for the next page; `None` when this was the last.
    pub next: Option<ShardId>,
}

/// A shard as a listing shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedShard {
    /// Which shard.
    pub id: ShardId,
    /// Its length in bytes.
    pub bytes: u64,
}

/// How much is on a backend and how much more fits, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct BackendStats {
    /// Finished shards.
    pub shard_count: u64,
    /// Their bytes.
    pub used_bytes: u64,
    /// Free bytes on the device, where the place can tell.
    pub free_bytes: Option<u64>,
    /// The most bytes it may hold, where one was set.
    pub quota_bytes: Option<u64>,
}

impl BackendStats {
    /// How many bytes more fit; `None` where nothing bounds them.
    pub fn room(&self) -> Option<u64> {
        let within_quota = self.quota_bytes.map(|quota| quota.saturating_sub(self.used_bytes));
        within_quota.into_iter().chain(self.free_bytes).min()
    }
}

/// What a place says about itself: which store it belongs to and which backend of it this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// The store.
    pub store: StoreId,
    /// The backend.
    pub backend: BackendId,
}

/// Where a shard lies below a backend's root: `objects/<first two hex digits>/<object id>.<index>.shard`.
pub fn shard_name(shard: ShardId) -> String {
    let object = shard.object.to_string();
    format!("objects/{}/{object}.{}.shard", &object[..2], shard.index)
}

/// The shard that has this name; `None` for anything [`shard_name`] does not write.
pub fn parse_shard_name(name: &str) -> Option<ShardId> {
    let file_name = name.rsplit('/').next()?;
    let shard = file_name.strip_suffix(".shard")?.parse().ok()?;
    (shard_name(shard) == name).then_some(shard)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_name_is_read_back_and_nothing_else_is() {
        let shard: ShardId = "a0b102030405060708090a0b0c0d0e0f.12".parse().expect("a shard");
        assert_eq!(shard_name(shard), "objects/a0/a0b102030405060708090a0b0c0d0e0f.12.shard");
        assert_eq!(parse_shard_name(&shard_name(shard)), Some(shard));
        for wrong in [
            "objects/a1/a0b102030405060708090a0b0c0d0e0f.12.shard",
            "a0b102030405060708090a0b0c0d0e0f.12.shard",
            "",
            "objects/a0/x.shard",
        ] {
            assert_eq!(parse_shard_name(wrong), None, "{wrong}");
        }
    }
}
