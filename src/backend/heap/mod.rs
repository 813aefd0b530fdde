//! A folder in which shards lie, whatever they are called and whatever lies beside them.
//!
//! *What it is.* [`Heap`]: every regular file below a folder was looked at, and what it may be is noted in an index that
//! stays small; [`HeapBackend`]: its files as backends that are only read.
//!
//! *What it knows.* Folders and files below a root; that one shard may lie there many times.
//!
//! *What it does not know.* What makes a file a shard: whoever walks it says so, and whoever reads verifies.
//!
//! *Invariants.* No symbolic link is followed, at any step, and nothing is ever written. A file that may be several shards
//! is each of them. Every copy of a shard is within reach: the first of each in the first backend, the second in the next,
//! and so on; a file that has several names counts once. Memory is some 32 bytes and its name for each shard.
//!
//! ```text
//! root/anything/at all.bin ──▶ header, trailer ──▶ ShardId ─▶ folder, name
//!                                                     │
//!                              copy 1 of each ◀───────┼───────▶ copy 2 of each … : backends of their own
//! ```

mod index;
#[cfg(test)]
mod tests;
mod walk;

pub use index::{Claim, Heap, HeapCounts, Look, MAX_COPIES};
pub use walk::{HeapFile, holds_only_a_place};

use super::local::calls::Calls;
use super::{
    Backend, BackendStats, Error, ErrorKind, LIST_PAGE_SHARDS, ListPage, ListedShard, Mark, Result, ShardWriter,
    shard_name,
};
use crate::id::ShardId;
use async_trait::async_trait;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// One copy of each shard of a heap, as a backend that is only read.
#[derive(Debug, Clone)]
pub struct HeapBackend {
    heap: Arc<Heap>,
    copy: usize,
    calls: Arc<Calls>,
}

impl Heap {
    /// As many backends as there are copies of the shard that lies here most often, one at least; and what the walk met.
    pub fn into_backends(mut self) -> (Vec<HeapBackend>, HeapCounts) {
        self.number_copies();
        let counts = self.counts();
        let (calls, heap) = (Arc::new(Calls::on(self.path())), Arc::new(self));
        let backend = |copy| HeapBackend { heap: Arc::clone(&heap), copy, calls: Arc::clone(&calls) };
        ((0..heap.copy_count()).map(backend).collect(), counts)
    }
}

impl HeapBackend {
    async fn blocking<T, F>(&self, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Heap, usize) -> Result<T> + Send + 'static,
    {
        let (heap, copy) = (Arc::clone(&self.heap), self.copy);
        self.calls.run(move || work(&heap, copy)).await
    }

    fn refused(&self, verb: &str, what: &str) -> Error {
        let doing = format!("{verb} {what} in {}: its files are only read", self.heap.path().display());
        Error::new(ErrorKind::ReadOnly, doing)
    }
}

#[async_trait]
impl Backend for HeapBackend {
    async fn create(&self, shard: ShardId) -> Result<Box<dyn ShardWriter>> {
        Err(self.refused("creating", &shard_name(shard)))
    }

    async fn replace(&self, shard: ShardId) -> Result<Box<dyn ShardWriter>> {
        Err(self.refused("replacing", &shard_name(shard)))
    }

    async fn read(&self, shard: ShardId, range: Range<u64>) -> Result<Bytes> {
        self.blocking(move |heap, copy| read(heap, (shard, copy), range)).await
    }

    async fn head(&self, shard: ShardId) -> Result<u64> {
        self.blocking(move |heap, copy| heap.open((shard, copy)).map(|file| file.bytes())).await
    }

    async fn delete(&self, shard: ShardId) -> Result<()> {
        Err(self.refused("deleting", &shard_name(shard)))
    }

    async fn list(&self, after: Option<ShardId>) -> Result<ListPage> {
        self.blocking(move |heap, copy| page(heap, copy, after)).await
    }

    async fn stats(&self) -> Result<BackendStats> {
        self.blocking(|heap, copy| {
            let mut stats = BackendStats::default();
            for shard in heap.shards_after(copy, None) {
                if let Some(bytes) = heap.length((shard, copy))? {
                    stats.shard_count += 1;
                    stats.used_bytes += bytes;
                }
            }
            Ok(stats)
        })
        .await
    }

    async fn read_mark(&self) -> Result<Option<Mark>> {
        Ok(None)
    }

    async fn write_mark(&self, _mark: &Mark) -> Result<()> {
        Err(self.refused("writing", "a mark"))
    }

    async fn clear_unfinished(&self, shard: ShardId) -> Result<u64> {
        Err(self.refused("clearing what is left of", &shard_name(shard)))
    }
}

fn read(heap: &Heap, (shard, copy): (ShardId, usize), range: Range<u64>) -> Result<Bytes> {
    let file = heap.open((shard, copy))?;
    let doing = || format!("{}, bytes {range:?} of {}", heap.doing("reading", (shard, copy)), file.bytes());
    if range.start > range.end || range.end > file.bytes() {
        return Err(Error::new(ErrorKind::OutOfRange, doing()));
    }
    match file.read(range.clone()) {
        Ok(bytes) => Ok(bytes.into()),
        // It was cut short after its length was looked at.
        Err(source) if source.kind() == std::io::ErrorKind::UnexpectedEof => {
            Err(Error::with_source(ErrorKind::OutOfRange, doing(), source))
        }
        Err(source) => Err(Error::io(doing(), source)),
    }
}

fn page(heap: &Heap, copy: usize, after: Option<ShardId>) -> Result<ListPage> {
    let mut shards = Vec::new();
    for shard in heap.shards_after(copy, after) {
        let Some(bytes) = heap.length((shard, copy))? else { continue };
        if shards.len() == LIST_PAGE_SHARDS {
            let next = shards.last().map(|last: &ListedShard| last.id);
            return Ok(ListPage { shards, next });
        }
        shards.push(ListedShard { id: shard, bytes });
    }
    Ok(ListPage { shards, next: None })
}
