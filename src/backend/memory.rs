//! A backend in memory: for tests, for embedding, and for trying things out. It is gone when its last handle is.

use super::ledger::{Ledger, Reservation};
use super::{
    Backend, BackendStats, Error, ErrorKind, LIST_PAGE_SHARDS, ListPage, ListedShard, Mark, Result, ShardWriter,
    shard_name,
};
use crate::id::ShardId;
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use std::collections::BTreeMap;
use std::ops::{Bound, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Shards in memory. Clones share the same shards.
#[derive(Debug, Clone)]
pub struct MemoryBackend {
    contents: Arc<Mutex<Contents>>,
    ledger: Arc<Ledger>,
}

#[derive(Default)]
struct Contents {
    /// By [`shard_name`], so that the map's order is the listing's.
    shards: BTreeMap<String, (ShardId, Bytes)>,
    mark: Option<Mark>,
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents").field("shard_count", &self.shards.len()).field("mark", &self.mark).finish()
    }
}

impl Default for MemoryBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryBackend {
    /// Empty, without a quota.
    pub fn new() -> Self {
        Self { contents: Arc::default(), ledger: Ledger::new(None, 0) }
    }

    /// Empty, taking at most this many bytes of shards.
    pub fn with_quota(quota_bytes: u64) -> Self {
        Self { contents: Arc::default(), ledger: Ledger::new(Some(quota_bytes), 0) }
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self, shard: ShardId, replaces: bool) -> Result<Box<dyn ShardWriter>> {
        let old_bytes = match self.contents().shards.get(&shard_name(shard)) {
            Some(_) if !replaces => return Err(Error::new(ErrorKind::AlreadyExists, doing("creating", shard))),
            Some((_, old)) => old.len() as u64,
            None => 0,
        };
        let reservation = self.ledger.begin(old_bytes);
        Ok(Box::new(MemoryWriter {
            place: self.clone(),
            shard,
            replaces,
            bytes: BytesMut::new(),
            reservation,
            broken: false,
        }))
    }
}

#[async_trait]
impl Backend for MemoryBackend {
    async fn create(&self, shard: ShardId) -> Result<Box<dyn ShardWriter>> {
        self.writer(shard, false)
    }

    async fn replace(&self, shard: ShardId) -> Result<Box<dyn ShardWriter>> {
        self.writer(shard, true)
    }

    async fn read(&self, shard: ShardId, range: Range<u64>) -> Result<Bytes> {
        let contents = self.contents();
        let (_, bytes) = contents
            .shards
            .get(&shard_name(shard))
            .ok_or_else(|| Error::new(ErrorKind::NotFound, doing("reading", shard)))?;
        if range.start > range.end || range.end > bytes.len() as u64 {
            let doing = format!("{}, bytes {range:?} of {}", doing("reading", shard), bytes.len());
            return Err(Error::new(ErrorKind::OutOfRange, doing));
        }
        Ok(bytes.slice(range.start as usize..range.end as usize))
    }

    async fn head(&self, shard: ShardId) -> Result<u64> {
        match self.contents().shards.get(&shard_name(shard)) {
            Some((_, bytes)) => Ok(bytes.len() as u64),
            None => Err(Error::new(ErrorKind::NotFound, doing("looking for", shard))),
        }
    }

    async fn delete(&self, shard: ShardId) -> Result<()> {
        let mut contents = self.contents();
        if let Some((_, bytes)) = contents.shards.remove(&shard_name(shard)) {
            self.ledger.remove(bytes.len() as u64);
        }
        Ok(())
    }

    async fn list(&self, after: Option<ShardId>) -> Result<ListPage> {
        let contents = self.contents();
        let from = after.map_or(Bound::Unbounded, |shard| Bound::Excluded(shard_name(shard)));
        let mut rest = contents.shards.range((from, Bound::Unbounded)).map(|(_, entry)| entry);
        let page = rest.by_ref().take(LIST_PAGE_SHARDS);
        let shards: Vec<_> = page.map(|(id, bytes)| ListedShard { id: *id, bytes: bytes.len() as u64 }).collect();
        let next = rest.next().and_then(|_| shards.last().map(|shard| shard.id));
        Ok(ListPage { shards, next })
    }

    async fn stats(&self) -> Result<BackendStats> {
        let contents = self.contents();
        Ok(BackendStats {
            shard_count: contents.shards.len() as u64,
            used_bytes: contents.shards.values().map(|(_, bytes)| bytes.len() as u64).sum(),
            free_bytes: None,
            quota_bytes: self.ledger.quota_bytes(),
        })
    }

    async fn read_mark(&self) -> Result<Option<Mark>> {
        Ok(self.contents().mark)
    }

    async fn write_mark(&self, mark: &Mark) -> Result<()> {
        self.contents().mark = Some(*mark);
        Ok(())
    }

    async fn clear_unfinished(&self, _shard: ShardId) -> Result<u64> {
        // What is being written lives in its writer alone, so nothing can be left behind.
        Ok(0)
    }
}

struct MemoryWriter {
    place: MemoryBackend,
    shard: ShardId,
    replaces: bool,
    bytes: BytesMut,
    reservation: Reservation,
    /// A write failed: what is here is not the whole shard.
    broken: bool,
}

#[async_trait]
impl ShardWriter for MemoryWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if let Err(reached) = self.reservation.grow(bytes.len() as u64) {
            self.broken = true;
            return Err(reached.while_doing(doing("writing", self.shard)));
        }
        self.bytes.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<u64> {
        let Self { place, shard, replaces, bytes, reservation, broken } = *self;
        if broken {
            return Err(Error::new(ErrorKind::Failed, doing("finishing after a failed write of", shard)));
        }
        let mut contents = place.contents();
        let old_bytes = match contents.shards.get(&shard_name(shard)) {
            Some(_) if !replaces => return Err(Error::new(ErrorKind::AlreadyExists, doing("creating", shard))),
            Some((_, old)) => old.len() as u64,
            None => 0,
        };
        reservation.check(old_bytes).map_err(|reached| reached.while_doing(doing("finishing", shard)))?;
        let length = bytes.len() as u64;
        contents.shards.insert(shard_name(shard), (shard, bytes.freeze()));
        reservation.settle(old_bytes);
        Ok(length)
    }

    async fn abort(self: Box<Self>) {}
}

fn doing(verb: &str, shard: ShardId) -> String {
    format!("{verb} {} in memory", shard_name(shard))
}

#[cfg(test)]
mod tests {
    use super::super::contract;
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn memory_keeps_the_contract() {
        contract::all(async || Arc::new(MemoryBackend::new()) as Arc<dyn Backend>).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn memory_with_a_quota_keeps_the_contract() {
        contract::all(async || Arc::new(MemoryBackend::with_quota(33 * 1024 * 1024)) as Arc<dyn Backend>).await;
    }
}
