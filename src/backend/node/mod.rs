//! A node of the group that keeps shards.
//!
//! *What it is.* [`NodeBackend`]: each operation is one request on a stream of its own, within the one session that a store
//! has with the node. [`NodeAccess`] is what the store brings: the group's seeds, who it is, and the keys that it pinned.
//!
//! *What it knows.* Addresses of nodes, requests and answers, deadlines, files with seeds and pins.
//!
//! *What it does not know.* Who may come in, which is the business of sessions; where and how the node keeps shards.
//!
//! *Invariants.* What a node has to tell is asked for when a session with it begins, kept in the store's folder, and told once.
//! Nothing is called before it is asked something. While a node does not answer it is called again only after
//! a while that grows, and whoever asks meanwhile is told at once. What a node says is believed within its contract
//! only: a page in the wrong order, or more bytes than were asked for, is a failure.

mod access;
mod ears;
mod exchange;
mod heard;
mod line;
mod pins;
mod refusal;
mod seeds;
#[cfg(test)]
mod tests;
mod turn;
mod writer;

pub use access::NodeAccess;
pub use ears::NodeSaid;
pub use heard::{HeardNotice, NOTICES_NAME, heard};
pub use pins::PINS_NAME;
pub use seeds::SEEDS_NAME;

use super::ledger::Ledger;
use super::retry::{ATTEMPT_TIMEOUT, STATS_TIMEOUT};
use super::{
    Backend, BackendStats, ErrorKind, ListPage, ListedShard, Mark, Result, ScrubPage, ShardChallenge, ShardWriter,
    ShownBlock, shard_name,
};
use crate::id::ShardId;
use crate::peer::PeerAddress;
use crate::peer::storage::{
    MAX_CHALLENGED_BLOCKS, MAX_TOLD_SHARDS, StorageAnswer, StorageCall, StorageMark, StoragePage, StorageRequest,
    StorageStats,
};
use async_trait::async_trait;
use bytes::Bytes;
use exchange::{Exchange, broken, within};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;
use writer::NodeWriter;

/// Shards at a node. Clones share the session and the quota.
#[derive(Debug, Clone)]
pub struct NodeBackend {
    address: PeerAddress,
    access: NodeAccess,
    quota_bytes: Option<u64>,
    /// Counted when it is first needed.
    ledger: Arc<OnceCell<Arc<Ledger>>>,
}

impl NodeBackend {
    /// The store's shards at a node, of at most so many bytes; the node may have a quota of its own. Nothing is called yet.
    pub fn open(address: PeerAddress, access: NodeAccess, quota_bytes: Option<u64>) -> Self {
        Self { address, access, quota_bytes, ledger: Arc::default() }
    }

    fn doing(&self, what: &str) -> String {
        format!("{what} at {}", self.address)
    }

    async fn begin(&self, request: StorageRequest, doing: &str) -> Result<Exchange> {
        let session = self.access.session(&self.address, doing).await?;
        let call = StorageCall { grant: self.access.grant().cloned(), request };
        Exchange::begin(&session, &call, doing).await
    }

    /// One request and its one answer.
    async fn ask(&self, request: StorageRequest, what: &str, deadline: Duration) -> Result<StorageAnswer> {
        let doing = self.doing(what);
        within(deadline, &doing, async { self.begin(request, &doing).await?.answer().await }).await
    }

    async fn on_shard(&self, request: StorageRequest, verb: &str, shard: ShardId) -> Result<StorageAnswer> {
        self.ask(request, &format!("{verb} {}", shard_name(shard)), ATTEMPT_TIMEOUT).await
    }

    fn unexpected<T>(&self, what: &str) -> Result<T> {
        Err(broken(&self.doing(what), "it answered something else than was asked"))
    }

    async fn write(&self, request: StorageRequest, verb: &str, shard: ShardId) -> Result<Box<dyn ShardWriter>> {
        let doing = self.doing(&format!("{verb} {}", shard_name(shard)));
        let beginning = async {
            let is_replacing = matches!(request, StorageRequest::Replace(_));
            let (ledger, mut replaced_bytes) = (self.ledger().await?, 0);
            if ledger.is_some() && is_replacing {
                replaced_bytes = self.length(shard).await?.unwrap_or(0);
            }
            let mut exchange = self.begin(request, &doing).await?;
            exchange.ready().await?;
            let reservation = ledger.map(|ledger| (ledger.begin(replaced_bytes), replaced_bytes));
            Ok(Box::new(NodeWriter::new(exchange, reservation)) as Box<dyn ShardWriter>)
        };
        within(ATTEMPT_TIMEOUT, &doing, beginning).await
    }

    /// The account of this side's quota, where there is one.
    async fn ledger(&self) -> Result<Option<Arc<Ledger>>> {
        let Some(quota_bytes) = self.quota_bytes else { return Ok(None) };
        let count = async || Ok(Ledger::new(Some(quota_bytes), self.node_stats().await?.used_bytes));
        self.ledger.get_or_try_init(count).await.cloned().map(Some)
    }

    async fn length(&self, shard: ShardId) -> Result<Option<u64>> {
        match self.head(shard).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn node_stats(&self) -> Result<StorageStats> {
        match self.ask(StorageRequest::Stats, "counting", STATS_TIMEOUT).await? {
            StorageAnswer::Stats(stats) => Ok(stats),
            _ => self.unexpected("counting"),
        }
    }
}

#[async_trait]
impl Backend for NodeBackend {
    async fn create(&self, shard: ShardId) -> Result<Box<dyn ShardWriter>> {
        self.write(StorageRequest::Create(shard), "creating", shard).await
    }

    async fn replace(&self, shard: ShardId) -> Result<Box<dyn ShardWriter>> {
        self.write(StorageRequest::Replace(shard), "replacing", shard).await
    }

    async fn read(&self, shard: ShardId, range: Range<u64>) -> Result<Bytes> {
        let doing = self.doing(&format!("reading {}, bytes {range:?},", shard_name(shard)));
        let wanted_bytes = range.end.saturating_sub(range.start);
        let reading = async {
            let mut exchange = self.begin(StorageRequest::Read { shard, range }, &doing).await?;
            match exchange.answer().await? {
                StorageAnswer::Number(bytes) if bytes == wanted_bytes => exchange.pieces(bytes).await,
                _ => self.unexpected("reading"),
            }
        };
        within(ATTEMPT_TIMEOUT, &doing, reading).await
    }

    async fn head(&self, shard: ShardId) -> Result<u64> {
        match self.on_shard(StorageRequest::Head(shard), "looking for", shard).await? {
            StorageAnswer::Number(bytes) => Ok(bytes),
            _ => self.unexpected("looking for a shard"),
        }
    }

    async fn delete(&self, shard: ShardId) -> Result<()> {
        let ledger = self.ledger().await?;
        let old_bytes = if ledger.is_some() { self.length(shard).await? } else { None };
        match self.on_shard(StorageRequest::Delete(shard), "deleting", shard).await? {
            StorageAnswer::Ready => {}
            _ => return self.unexpected("deleting a shard"),
        }
        if let (Some(ledger), Some(old_bytes)) = (ledger, old_bytes) {
            ledger.remove(old_bytes);
        }
        Ok(())
    }

    async fn list(&self, after: Option<ShardId>) -> Result<ListPage> {
        match self.ask(StorageRequest::List { after }, "listing", ATTEMPT_TIMEOUT).await? {
            StorageAnswer::Page(page) => checked(page, after).ok_or_else(|| {
                broken(&self.doing("listing"), "a page is not in order, so that a listing may never end")
            }),
            _ => self.unexpected("listing"),
        }
    }

    async fn stats(&self) -> Result<BackendStats> {
        let stats = self.node_stats().await?;
        Ok(BackendStats {
            shard_count: stats.shard_count,
            used_bytes: stats.used_bytes,
            free_bytes: stats.free_bytes,
            quota_bytes: self.quota_bytes.into_iter().chain(stats.quota_bytes).min(),
        })
    }

    async fn read_mark(&self) -> Result<Option<Mark>> {
        match self.ask(StorageRequest::ReadMark, "reading the mark", ATTEMPT_TIMEOUT).await? {
            StorageAnswer::Mark(mark) => Ok(mark.map(|StorageMark { store, backend }| Mark { store, backend })),
            _ => self.unexpected("reading the mark"),
        }
    }

    async fn write_mark(&self, mark: &Mark) -> Result<()> {
        let Mark { store, backend } = *mark;
        let request = StorageRequest::WriteMark(StorageMark { store, backend });
        match self.ask(request, "writing the mark", ATTEMPT_TIMEOUT).await? {
            StorageAnswer::Ready => Ok(()),
            _ => self.unexpected("writing the mark"),
        }
    }

    async fn clear_unfinished(&self, shard: ShardId) -> Result<u64> {
        match self.on_shard(StorageRequest::ClearUnfinished(shard), "clearing", shard).await? {
            StorageAnswer::Number(bytes) => Ok(bytes),
            _ => self.unexpected("clearing what is unfinished"),
        }
    }

    async fn challenge(&self, shard: ShardId, challenge: &ShardChallenge) -> Result<Option<Vec<ShownBlock>>> {
        let ShardChallenge { spans, stripes } = challenge;
        match stripes.len() {
            0 => return Ok(Some(Vec::new())),
            // More than one request can ask for is read as anywhere else.
            count if count > MAX_CHALLENGED_BLOCKS => return Ok(None),
            _ => {}
        }
        let doing = self.doing(&format!("challenging {}", shard_name(shard)));
        let asking = async {
            let request = StorageRequest::Challenge { shard, spans: *spans, stripes: stripes.clone() };
            let mut exchange = self.begin(request, &doing).await?;
            let mut shown = Vec::with_capacity(stripes.len());
            for stripe in stripes {
                let span = spans.block(*stripe).ok_or_else(|| broken(&doing, "there is no such block"))?;
                let StorageAnswer::Path(path) = exchange.answer().await? else { return self.unexpected("challenging") };
                shown.push(ShownBlock { block: exchange.pieces(span.end - span.start).await?, path });
            }
            Ok(Some(shown))
        };
        within(ATTEMPT_TIMEOUT, &doing, asking).await
    }

    async fn scrub(&self, after: Option<ShardId>) -> Result<Option<ScrubPage>> {
        let StorageAnswer::Scrubbed(page) =
            self.ask(StorageRequest::Scrub { after }, "scrubbing", STATS_TIMEOUT).await?
        else {
            return self.unexpected("scrubbing");
        };
        let goes_on = page.next.is_none_or(|next| after.is_none_or(|after| shard_name(after) < shard_name(next)));
        // As many as there are shards: a node that says less would never come to an end.
        if !goes_on || (page.next.is_some() && page.checked_shards == 0) {
            return Err(broken(&self.doing("scrubbing"), "a page is not in order, so that a scrub may never end"));
        }
        Ok(Some(page))
    }

    async fn tell_damage(&self, shard_count: u64, shards: &[ShardId]) -> Result<()> {
        let shards: Vec<ShardId> = shards.iter().copied().take(MAX_TOLD_SHARDS).collect();
        if shards.is_empty() {
            return Ok(());
        }
        let request = StorageRequest::TellDamage { shard_count, shards };
        match self.ask(request, "telling of damage", ATTEMPT_TIMEOUT).await? {
            StorageAnswer::Ready => Ok(()),
            _ => self.unexpected("telling of damage"),
        }
    }
}

/// A page whose shards follow one another and what was asked, and that goes on behind its last; `None` for any other.
fn checked(page: StoragePage, after: Option<ShardId>) -> Option<ListPage> {
    let names: Vec<String> = after.into_iter().chain(page.shards.iter().map(|(id, _)| *id)).map(shard_name).collect();
    let is_in_order = names.windows(2).all(|pair| pair[0] < pair[1]);
    let goes_on = page.next.is_none_or(|next| page.shards.last().is_some_and(|(last, _)| *last == next));
    let shards = page.shards.into_iter().map(|(id, bytes)| ListedShard { id, bytes }).collect();
    (is_in_order && goes_on).then_some(ListPage { shards, next: page.next })
}
