//! A place for the shards of peers.
//!
//! *What it is.* [`StorageService`] keeps shards in a folder, one folder below it for each owner, and answers the streams that
//! peers open for it; [`run`] takes these streams from a node.
//!
//! *What it knows.* Owners, which are peers by their ids; how many bytes and shards each may have; how much of the disk
//! stays free.
//!
//! *What it does not know.* What is sealed in a shard; how bytes become durable, which is the business of
//! [`LocalBackend`](crate::backend::LocalBackend).
//!
//! *Invariants.* An owner, and whoever shows its grant for what that allows, sees, reads, lists and deletes what the owner
//! stored, and nothing else. Without the right to delete, nothing that is whole is replaced. What would exceed a quota or the
//! floor of the disk is refused before it is written. A peer that only asks leaves no trace on the disk. A stream holds
//! at most two pieces in memory, and there are at most [`MAX_STREAMS`] at once.
//!
//! ```text
//! folder/<id of the owner, in hex>/   as a local backend has it: objects/, tmp/, shard.mark
//! ```

mod acting;
mod challenge;
mod check;
mod event;
mod owner;
mod owners;
mod refusal;
mod replacing;
mod run;
#[cfg(test)]
mod schedules;
mod scrub;
mod serve;
#[cfg(test)]
mod slow;
mod tell;

pub use event::{AnsweredChallenge, AnsweredScrub, BlockAnswer, FailedRead, StorageEvent, ToldDamage};
pub use owners::OwnerUsage;
pub use run::{MAX_STREAMS, MAX_STREAMS_PER_OWNER, run};
pub use tell::{KeepsNotices, NotKept};

/// The number by which streams for this service are known.
pub const PURPOSE: u64 = crate::peer::storage::STORAGE_SERVICE;

use super::{NodeError, ServiceStream};
use crate::id::{NodeId, ShardId};
use crate::peer::storage::ScrubPage;
use owners::Owners;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc};

/// What peers may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StorageOptions {
    /// The most bytes of shards that one peer may have; no limit but the disk's when `None`.
    pub quota_bytes: Option<u64>,
    /// The most shards that one peer may have.
    pub quota_shards: Option<u64>,
    /// So many bytes of the disk stay free, whoever asks.
    pub reserve_bytes: u64,
}

/// Keeps shards for peers. Clones are the same service.
#[derive(Clone)]
pub struct StorageService {
    owners: Arc<Owners>,
    when_full: Option<WhenFull>,
    events: Option<mpsc::Sender<StorageEvent>>,
    notices: Option<Arc<dyn KeepsNotices>>,
    /// How many of them nobody was told.
    dropped: Arc<AtomicU64>,
    /// Leaves of a large shard and the tree over them take some MiB: a few are at work at once, others wait.
    trees: Arc<Semaphore>,
    /// The same of shards that are read whole since a peer asks for it.
    scrubs: Arc<Semaphore>,
}

/// So many shards' leaves are in memory at once.
const TREES_AT_ONCE: usize = 4;
/// So many shards of all owners are read whole at once for peers that ask for it.
const SCRUBS_AT_ONCE: usize = 4;

/// Told whom something was refused for want of room.
type WhenFull = Arc<dyn Fn(NodeId) + Send + Sync>;

impl StorageService {
    /// Over a folder, which is made if it is not there. Blocks on the file system.
    pub fn open(folder: &Path, options: StorageOptions) -> Result<Self, NodeError> {
        let owners = Arc::new(Owners::open(folder, options)?);
        let [trees, scrubs] = [TREES_AT_ONCE, SCRUBS_AT_ONCE].map(|places| Arc::new(Semaphore::new(places)));
        Ok(Self { owners, when_full: None, events: None, notices: None, dropped: Arc::default(), trees, scrubs })
    }

    /// Tells this, which does not wait, whose shard was refused since the quota is reached or the disk is full.
    #[must_use]
    pub fn when_full(self, told: impl Fn(NodeId) + Send + Sync + 'static) -> Self {
        Self { when_full: Some(Arc::new(told)), ..self }
    }

    /// Tells each answer to a challenge or a scrub, and what stores found. What comes while there is no room for another is
    /// counted and dropped: no stream waits for whoever keeps them.
    #[must_use]
    pub fn telling(self, events: mpsc::Sender<StorageEvent>) -> Self {
        Self { events: Some(events), ..self }
    }

    /// Gives owners that ask what is kept here to be told to them; without this there is nothing.
    #[must_use]
    pub fn with_notices(self, notices: Arc<dyn KeepsNotices>) -> Self {
        Self { notices: Some(notices), ..self }
    }

    /// Answers one stream to its end. Whatever goes wrong ends that stream and nothing else.
    pub async fn serve(&self, stream: ServiceStream) {
        if let (Some(owner), Some(told)) = (serve::serve(self, stream).await, &self.when_full) {
            told(owner);
        }
    }

    /// Whether this peer keeps something here.
    pub async fn is_owner(&self, peer: NodeId) -> bool {
        matches!(self.owners.find(peer).await, Ok(Some(_)))
    }

    /// Reads the next of an owner's shards, as when the owner asks for it: what is damaged is told. `None` where the owner has
    /// nothing here.
    pub async fn scrub(
        &self,
        asked_by: NodeId,
        owner: NodeId,
        after: Option<ShardId>,
    ) -> Result<Option<ScrubPage>, NodeError> {
        let Some(found) = self.owners.find(owner).await? else { return Ok(None) };
        let page = serve::scrub_own(self, (asked_by, owner), &found, after).await;
        page.map(Some).map_err(|refusal| NodeError::Unscrubbed { owner, why: refusal.reason })
    }

    /// Waits for a place among what is to be noted. Whoever is told may be gone: then nobody keeps it.
    async fn tell_surely(&self, event: StorageEvent) {
        if let Some(events) = &self.events {
            let _ = events.send(event).await;
        }
    }

    /// The same without waiting: what finds no place is dropped. What peers say, which costs them nothing, leaves half of the places
    /// to what was read from a disk.
    fn tell(&self, event: StorageEvent) {
        let Some(events) = &self.events else { return };
        let leaves_half = matches!(event, StorageEvent::Told(_)) && events.capacity() <= events.max_capacity() / 2;
        let refused = leaves_half || matches!(events.try_send(event), Err(TrySendError::Full(_)));
        if refused && !events.is_closed() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::warn!(dropped, "answers come quicker than they can be noted");
            }
        }
    }

    /// What every owner has, in the order of their ids. Owners that were not heard of since the start are counted first.
    pub async fn usage(&self) -> Result<Vec<OwnerUsage>, NodeError> {
        Ok(self.owners.usage().await?)
    }
}

impl fmt::Debug for StorageService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorageService").field("owners", &self.owners).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_waits_for_whoever_keeps_the_answers_and_what_is_dropped_is_counted() {
        let dir = tempfile::tempdir().expect("a folder");
        let (told, mut events) = mpsc::channel(4);
        let service = StorageService::open(dir.path(), StorageOptions::default()).expect("a folder").telling(told);
        let told = |number: u8| {
            let (told_by, owner) = (NodeId([number; 32]), NodeId([1; 32]));
            StorageEvent::Told(ToldDamage { told_by, owner, shard_count: 1, shards: Vec::new() })
        };
        let read = |number: u8| {
            let (asked_by, owner, backend) = (NodeId([number; 32]), NodeId([1; 32]), None);
            StorageEvent::Scrub(AnsweredScrub { asked_by, owner, backend, after: None, page: ScrubPage::default() })
        };
        let dropped = || service.dropped.load(Ordering::Relaxed);
        (0..4).for_each(|number| service.tell(told(number)));
        assert_eq!(dropped(), 2, "half of the places are for what was read from a disk");
        (0..3).for_each(|number| service.tell(read(number)));
        assert_eq!(dropped(), 3);
        assert_eq!(events.try_recv(), Ok(told(0)));
        service.tell(read(9));
        let all: Vec<_> = std::iter::from_fn(|| events.try_recv().ok()).collect();
        assert_eq!(all, [told(1), read(0), read(1), read(9)]);
        drop(events);
        service.tell(told(1));
        assert_eq!(dropped(), 3, "nobody keeps them");
    }
}
