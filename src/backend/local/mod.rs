//! A folder that keeps shards.
//!
//! *What it is.* [`LocalBackend`]: below its root, finished shards under `objects/`, what is being written under `tmp/`,
//! and the mark.
//!
//! *What it knows.* Directory handles, fsync, rename, free space.
//!
//! *What it does not know.* Whether it is the right place for anyone: it reads the mark and lets others judge.
//!
//! *Invariants.* Every path below the root is opened from a directory handle, part by part, never through a symbolic
//! link. A shard is renamed into place only after its bytes are on the disk and the mark was seen again through the
//! same handle; the folder is synced before anyone is told. An fsync that failed is never tried again. What is absent
//! is reported as absent only after the mark was seen. While a call hangs, no other is begun. The root itself is never
//! created: a folder that is not there is a disk that is not mounted.
//!
//! ```text
//! root/shard.mark                                     store id and backend id
//! root/objects/ab/ab01….3.shard                       finished shards
//! root/tmp/ab01….3.5f0c2a9e6d1b7c34.part              one being written, or left by a crash
//! ```

pub(super) mod calls;
mod listing;
mod place;
mod root;
#[cfg(test)]
mod tests;
mod writer;

use super::{Backend, BackendStats, ListPage, Mark, Result, ShardWriter};
use crate::id::ShardId;
use async_trait::async_trait;
use bytes::Bytes;
use calls::Calls;
pub use place::ShardVersion;
use place::{OpenShard, Place};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use writer::{LocalWriter, Purpose};

/// Settings of a [`LocalBackend`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LocalOptions {
    /// The most bytes of shards it takes; no limit but the disk's when `None`.
    ///
    /// Counted once by walking the folder and kept from then on: several processes writing to one folder at the same
    /// time each see what was there when they began, and their own.
    pub quota_bytes: Option<u64>,
}

/// Shards in a folder. Clones share the same directory handle and the same quota.
#[derive(Debug, Clone)]
pub struct LocalBackend {
    place: Arc<Place>,
    calls: Arc<Calls>,
}

impl LocalBackend {
    /// A backend over a folder, which is looked at only when it is first used.
    pub fn open(root: PathBuf, options: LocalOptions) -> Self {
        Self { calls: Arc::new(Calls::on(&root)), place: Arc::new(Place::new(root, options)) }
    }

    /// Makes the folder of a new backend, parents included, durably; `Ok` when it is there already.
    ///
    /// Nothing else creates a root, so that the empty mount point of an absent disk is never taken for a place.
    pub fn create_root(root: &Path) -> Result<()> {
        root::create_root(root)
    }

    /// Removes what a trial left in a folder that did not become a place: its own folders, where they are empty.
    pub fn remove_empty_folders(root: &Path) {
        root::remove_empty_folders(root);
    }

    /// Opens a finished shard, to read it in parts that belong together.
    pub async fn open_shard(&self, shard: ShardId) -> Result<LocalShard> {
        let opened = self.blocking(move |place| place.open(shard)).await?;
        Ok(LocalShard { opened: Arc::new(opened), calls: Arc::clone(&self.calls) })
    }

    async fn blocking<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Arc<Place>) -> Result<T> + Send + 'static,
    {
        let place = Arc::clone(&self.place);
        self.calls.run(move || work(&place)).await
    }

    async fn begin(&self, shard: ShardId, purpose: Purpose) -> Result<Box<dyn ShardWriter>> {
        let unfinished = self.blocking(move |place| place.begin(shard, purpose)).await?;
        Ok(Box::new(LocalWriter::new(unfinished, Arc::clone(&self.calls))))
    }
}

/// A finished shard that is open: its bytes stay what they are, also when it is replaced or deleted meanwhile.
#[derive(Debug)]
pub struct LocalShard {
    opened: Arc<OpenShard>,
    calls: Arc<Calls>,
}

impl LocalShard {
    /// Its length in bytes.
    pub fn bytes(&self) -> u64 {
        self.opened.length()
    }

    /// Which file it is, and when that was changed last.
    pub async fn version(&self) -> Result<ShardVersion> {
        let opened = Arc::clone(&self.opened);
        self.calls.run(move || opened.version()).await
    }

    /// Bytes `range.start..range.end`; [`ErrorKind::OutOfRange`](super::ErrorKind::OutOfRange) beyond its end.
    pub async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let opened = Arc::clone(&self.opened);
        self.calls.run(move || opened.read(range)).await
    }
}

#[async_trait]
impl Backend for LocalBackend {
    async fn create(&self, shard: ShardId) -> Result<Box<dyn ShardWriter>> {
        self.begin(shard, Purpose::Create).await
    }

    async fn replace(&self, shard: ShardId) -> Result<Box<dyn ShardWriter>> {
        self.begin(shard, Purpose::Replace).await
    }

    async fn read(&self, shard: ShardId, range: Range<u64>) -> Result<Bytes> {
        self.blocking(move |place| place.read(shard, range)).await
    }

    async fn head(&self, shard: ShardId) -> Result<u64> {
        self.blocking(move |place| place.head(shard)).await
    }

    async fn delete(&self, shard: ShardId) -> Result<()> {
        self.blocking(move |place| place.delete(shard)).await
    }

    async fn list(&self, after: Option<ShardId>) -> Result<ListPage> {
        self.blocking(move |place| place.list(after)).await
    }

    async fn stats(&self) -> Result<BackendStats> {
        self.blocking(|place| place.stats()).await
    }

    async fn room(&self) -> Result<Option<u64>> {
        self.blocking(|place| place.room()).await
    }

    async fn read_mark(&self) -> Result<Option<Mark>> {
        self.blocking(|place| place.read_mark()).await
    }

    async fn write_mark(&self, mark: &Mark) -> Result<()> {
        let mark = *mark;
        self.blocking(move |place| place.write_mark(mark)).await
    }

    async fn clear_unfinished(&self, shard: ShardId) -> Result<u64> {
        self.blocking(move |place| place.clear_unfinished(shard)).await
    }
}
