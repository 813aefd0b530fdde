//! One owner's shards: a folder, what is in it, and what may still come.

use super::StorageOptions;
use super::acting::denied;
use super::check::check;
use super::refusal::Refusal;
use super::replacing::{Replacing, Turn};
use super::scrub::MAX_SCRUBS;
use crate::backend::{Backend, Error, ErrorKind, LocalBackend, LocalOptions, ShardVersion, ShardWriter};
use crate::id::{ShardId, StoreId};
use crate::peer::storage::{RefusalKind, StorageStats};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;

/// Changes of so many shards go on at once without one waiting for another's disk.
const LOCKS: usize = 32;

/// What is there and what is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    pub(super) shards: u64,
    pub(super) bytes: u64,
    /// Shards that are being written and were not there before.
    pub(super) promised: u64,
}

/// One owner.
#[derive(Debug)]
pub(super) struct Owner {
    place: LocalBackend,
    folder: PathBuf,
    options: StorageOptions,
    tally: Mutex<Tally>,
    /// Whether a shard was there and that it is changed are one step, for each shard.
    changing: [tokio::sync::Mutex<()>; LOCKS],
    replacing: Replacing,
    /// The same of whoever may replace nothing whole, which keeps nobody else from the owner's shards.
    mending: Replacing,
    /// Held while a scrub reads.
    scrubbing: tokio::sync::Mutex<()>,
    /// Places of scrubs that peers asked for.
    scrub_places: Semaphore,
    /// Held while a shard is read that is to be replaced only if it is damaged.
    sparing: tokio::sync::Mutex<()>,
    /// The same of all owners together.
    checks: Arc<Semaphore>,
}

/// Whether a write may replace what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Create,
    Replace,
    /// Only what is absent or damaged, when it is begun and when it is finished.
    ReplaceDamaged,
}

/// What was found damaged, so that it may be replaced; `None` where nothing was there or anything may be.
type FoundDamaged = Option<ShardVersion>;

impl Purpose {
    /// For whoever may not delete: else to replace would be to delete.
    pub(super) fn sparing_what_is_whole(self) -> Self {
        if self == Self::Replace { Self::ReplaceDamaged } else { self }
    }
}

/// A shard that is being written.
pub(super) struct OwnedWrite {
    owner: Arc<Owner>,
    shard: ShardId,
    purpose: Purpose,
    found: FoundDamaged,
    writer: Box<dyn ShardWriter>,
    promise: Option<Promise>,
    /// Of what may replace something.
    turn: Option<Turn>,
}

/// One shard more than there are; given back when dropped.
struct Promise {
    owner: Arc<Owner>,
    is_open: bool,
}

impl Promise {
    /// The shard is there: it is counted as such from now on.
    fn keep(mut self, tally: &mut Tally) {
        tally.promised = tally.promised.saturating_sub(1);
        tally.shards += 1;
        self.is_open = false;
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.is_open {
            return;
        }
        let mut tally = self.owner.tally();
        tally.promised = tally.promised.saturating_sub(1);
    }
}

impl Owner {
    /// Over a folder that is there; what is in it is counted.
    pub(super) async fn open(folder: PathBuf, options: StorageOptions, checks: Arc<Semaphore>) -> Result<Self, Error> {
        let place = LocalBackend::open(folder.clone(), LocalOptions { quota_bytes: options.quota_bytes });
        let stats = place.stats().await?;
        let tally = Tally { shards: stats.shard_count, bytes: stats.used_bytes, promised: 0 };
        let changing = std::array::from_fn(|_| tokio::sync::Mutex::default());
        Ok(Self {
            place,
            folder,
            options,
            tally: Mutex::new(tally),
            changing,
            replacing: Replacing::default(),
            mending: Replacing::default(),
            scrubbing: tokio::sync::Mutex::default(),
            scrub_places: Semaphore::new(MAX_SCRUBS),
            sparing: tokio::sync::Mutex::default(),
            checks,
        })
    }

    /// The folder as a backend, for what changes no shard.
    pub(super) fn place(&self) -> &LocalBackend {
        &self.place
    }

    /// Held for a page of the one scrub that reads at a time; who waits comes in its order.
    pub(super) fn scrubbing(&self) -> &tokio::sync::Mutex<()> {
        &self.scrubbing
    }

    /// Taken by each scrub that a peer asks for, while it waits and while it reads.
    pub(super) fn scrub_places(&self) -> &Semaphore {
        &self.scrub_places
    }

    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a shard.
    pub(super) async fn begin(self: &Arc<Self>, shard: ShardId, purpose: Purpose) -> Result<OwnedWrite, Refusal> {
        let found = self.spare_whole(shard, purpose, None).await?;
        let turn = match purpose {
            Purpose::Create => None,
            Purpose::Replace => Some(self.replacing.turn(shard).await?),
            Purpose::ReplaceDamaged => Some(self.mending.turn(shard).await?),
        };
        let writer = match purpose {
            Purpose::Create => self.place.create(shard).await?,
            Purpose::Replace | Purpose::ReplaceDamaged => self.place.replace(shard).await?,
        };
        let is_there = purpose != Purpose::Create && self.length(shard).await?.is_some();
        let promise = if is_there { None } else { Some(self.promise()?) };
        Ok(OwnedWrite { owner: Arc::clone(self), shard, purpose, found, writer, promise, turn })
    }

    /// Refuses to take the place of a whole shard for that purpose. What was found damaged already, and is still as it was
    /// then, is not read again.
    async fn spare_whole(
        &self,
        shard: ShardId,
        purpose: Purpose,
        found: FoundDamaged,
    ) -> Result<FoundDamaged, Refusal> {
        if purpose != Purpose::ReplaceDamaged {
            return Ok(None);
        }
        let opened = match self.place.open_shard(shard).await {
            Ok(opened) => opened,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let version = opened.version().await?;
        if found == Some(version) {
            return Ok(found);
        }
        // All of it is read: one after another here, and a few of all owners.
        let _one = self.sparing.lock().await;
        let _few = self.checks.acquire().await;
        match check(shard, &opened, self.marked_store().await).await? {
            Some(_) => Ok(Some(version)),
            None => Err(denied("the shard is whole, and the grant does not allow to delete what is")),
        }
    }

    /// The store that marked the folder, if it can be known.
    pub(super) async fn marked_store(&self) -> Option<StoreId> {
        self.place.read_mark().await.ok().flatten().map(|mark| mark.store)
    }

    /// Removes a shard.
    pub(super) async fn delete(&self, shard: ShardId) -> Result<(), Refusal> {
        let _changing = self.lock(shard).await;
        let old_bytes = self.length(shard).await?;
        self.place.delete(shard).await?;
        if let Some(old_bytes) = old_bytes {
            let mut tally = self.tally();
            tally.shards = tally.shards.saturating_sub(1);
            tally.bytes = tally.bytes.saturating_sub(old_bytes);
        }
        Ok(())
    }

    /// How much is there, counted on the disk, and how much more fits.
    pub(super) async fn stats(&self) -> Result<StorageStats, Refusal> {
        let stats = self.place.stats().await?;
        Ok(StorageStats {
            shard_count: stats.shard_count,
            used_bytes: stats.used_bytes,
            free_bytes: stats.free_bytes.map(|free| free.saturating_sub(self.options.reserve_bytes)),
            quota_bytes: stats.quota_bytes,
        })
    }

    async fn lock(&self, shard: ShardId) -> tokio::sync::MutexGuard<'_, ()> {
        let spread =
            shard.object.as_bytes().iter().fold(shard.index, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte));
        self.changing[usize::from(spread) % LOCKS].lock().await
    }

    /// `None` where the shard is absent.
    async fn length(&self, shard: ShardId) -> Result<Option<u64>, Error> {
        match self.place.head(shard).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn promise(self: &Arc<Self>) -> Result<Promise, Refusal> {
        let mut tally = self.tally();
        if let Some(quota) = self.options.quota_shards
            && tally.shards.saturating_add(tally.promised) >= quota
        {
            let reason = format!("the quota is {quota} shards, and all of them are taken");
            return Err(Refusal::new(RefusalKind::NoSpace, reason));
        }
        tally.promised += 1;
        drop(tally);
        Ok(Promise { owner: Arc::clone(self), is_open: true })
    }

    /// Refuses what would leave less of the disk free than is to stay free.
    async fn keep_floor(&self, more_bytes: u64) -> Result<(), Refusal> {
        let reserve_bytes = self.options.reserve_bytes;
        if reserve_bytes == 0 {
            return Ok(());
        }
        let folder = self.folder.clone();
        let free = tokio::task::spawn_blocking(move || free_bytes(&folder)).await;
        let failed = |error| Refusal::new(RefusalKind::Failed, format!("the node cannot ask its disk: {error}"));
        let free_bytes = free.map_err(failed)??;
        if free_bytes.saturating_sub(more_bytes) >= reserve_bytes {
            return Ok(());
        }
        let reason = format!("the node keeps {reserve_bytes} bytes of its disk free, and no more than that are left");
        Err(Refusal::new(RefusalKind::NoSpace, reason))
    }
}

/// Free bytes of the disk that a folder is on.
fn free_bytes(folder: &Path) -> Result<u64, Error> {
    let asking = |errno: rustix::io::Errno| {
        Error::io(format!("asking for the free space at {}", folder.display()), errno.into())
    };
    let disk = rustix::fs::statvfs(folder).map_err(asking)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

impl OwnedWrite {
    /// Takes the next piece.
    pub(super) async fn write(&mut self, piece: Bytes) -> Result<(), Refusal> {
        self.owner.keep_floor(piece.len() as u64).await?;
        Ok(self.writer.write(piece).await?)
    }

    /// Makes the shard durable and visible, and gives its length.
    pub(super) async fn finish(self) -> Result<u64, Refusal> {
        let Self { owner, shard, purpose, found, writer, promise, turn: _turn } = self;
        let _changing = owner.lock(shard).await;
        // It may have been mended meanwhile by whoever may.
        owner.spare_whole(shard, purpose, found).await?;
        let old_bytes = owner.length(shard).await?;
        // What was to be replaced may have been deleted meanwhile: then it is one shard more.
        let promise = match promise {
            None if old_bytes.is_none() => Some(owner.promise()?),
            promise => promise,
        };
        let bytes = writer.finish().await?;
        let mut tally = owner.tally();
        tally.bytes = tally.bytes.saturating_sub(old_bytes.unwrap_or(0)).saturating_add(bytes);
        match promise {
            Some(promise) if old_bytes.is_none() => promise.keep(&mut tally),
            // Another writer of the same shard was quicker: this one is none more.
            promise => {
                drop(tally);
                drop(promise);
            }
        }
        Ok(bytes)
    }

    /// Gives up: nothing of it stays.
    pub(super) async fn abort(self) {
        self.writer.abort().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ObjectId;
    use std::time::Duration;
    use tokio::time::timeout;

    #[tokio::test]
    async fn what_is_replaced_if_damaged_is_read_in_turn_and_not_again_while_it_is_as_it_was() {
        let dir = tempfile::tempdir().expect("a folder");
        let checks = Arc::new(Semaphore::new(1));
        let owner = Owner::open(dir.path().to_owned(), StorageOptions::default(), Arc::clone(&checks)).await;
        let owner = Arc::new(owner.expect("a folder"));
        let shard = ShardId { object: ObjectId([1; 16]), index: 0 };
        let mut first = owner.begin(shard, Purpose::Create).await.expect("begun");
        first.write(Bytes::from_static(b"garbage")).await.expect("written");
        first.finish().await.expect("there");
        let waits = async || {
            let begun = owner.begin(shard, Purpose::ReplaceDamaged);
            timeout(Duration::from_millis(100), begun).await.is_err()
        };
        let another = owner.sparing.lock().await;
        assert!(waits().await);
        drop(another);
        let others = Arc::clone(&checks).acquire_owned().await.expect("a turn");
        assert!(waits().await);
        drop(others);
        let quick = owner.begin(shard, Purpose::ReplaceDamaged).await.expect("damaged");
        let held = checks.acquire().await.expect("a turn");
        let replaced = timeout(Duration::from_secs(20), quick.finish()).await;
        assert_eq!(replaced.expect("it is not read again"), Ok(0));
        drop(held);
        let slow = owner.begin(shard, Purpose::ReplaceDamaged).await.expect("damaged");
        owner.delete(shard).await.expect("deleted");
        let mut other = owner.begin(shard, Purpose::Create).await.expect("begun");
        other.write(Bytes::from_static(b"rubbish")).await.expect("written");
        other.finish().await.expect("there");
        let _held = checks.acquire().await.expect("a turn");
        assert!(timeout(Duration::from_millis(100), slow.finish()).await.is_err(), "another file is");
    }

    #[tokio::test]
    async fn one_shard_has_one_replacement_at_a_time_and_the_next_comes_when_it_ends() {
        let dir = tempfile::tempdir().expect("a folder");
        let options = StorageOptions { quota_bytes: Some(10), ..StorageOptions::default() };
        let owner = Owner::open(dir.path().to_owned(), options, Arc::new(Semaphore::new(1))).await;
        let owner = Arc::new(owner.expect("a folder"));
        let shard = |index| ShardId { object: ObjectId([1; 16]), index };
        let ten = || Bytes::from_static(&[7; 10]);
        let mut first = owner.begin(shard(0), Purpose::Create).await.expect("begun");
        first.write(ten()).await.expect("all that there is room for");
        assert_eq!(first.finish().await, Ok(10));
        for ends in ["finished", "aborted", "dropped"] {
            let mut open = owner.begin(shard(0), Purpose::Replace).await.expect("begun");
            open.write(ten()).await.expect("the room of the one that goes");
            let second = timeout(Duration::from_millis(100), owner.begin(shard(0), Purpose::Replace)).await;
            assert!(second.is_err(), "it waits for its turn");
            drop(owner.begin(shard(0), Purpose::ReplaceDamaged).await.expect("of whoever may not delete"));
            drop(owner.begin(shard(1), Purpose::Replace).await.expect("another shard"));
            let next = tokio::spawn({
                let owner = Arc::clone(&owner);
                async move { owner.begin(shard(0), Purpose::Replace).await.map(drop) }
            });
            match ends {
                "finished" => assert_eq!(open.finish().await, Ok(10)),
                "aborted" => open.abort().await,
                _ => drop(open),
            }
            assert_eq!(next.await.expect("it does not panic"), Ok(()), "{ends}");
        }
        tokio::time::pause();
        let open = owner.begin(shard(0), Purpose::Replace).await.expect("begun");
        let refused = owner.begin(shard(0), Purpose::Replace).await.map(drop).expect_err("no turn came");
        assert_eq!(refused.kind, RefusalKind::Transient);
        drop(open);
        assert_eq!(owner.tally().promised, 0);
    }
}
