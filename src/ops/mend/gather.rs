//! Finds k verified blocks of each stripe, or the wanted ones themselves, and gives the wanted blocks.

use super::{MendError, Source, blocks};
use crate::backend::{self, ErrorKind};
use crate::format::Manifest;
use crate::id::{Digest, ObjectId, ShardId};
use crate::merkle::{self, BlockPosition, VerifiedBlock};
use crate::stripe::{Layout, StripeDecoder};
use bytes::Bytes;
use futures_util::{StreamExt, future, stream};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// How many chunks are gathered at once: one is read while another is decoded.
const CHUNKS_AT_ONCE: usize = 2;

/// The verified blocks of one stripe, n places.
type Stripe = Vec<Option<VerifiedBlock>>;

/// The wanted blocks of consecutive stripes.
#[derive(Debug)]
pub(super) struct Chunk {
    /// For each stripe, the wanted blocks and their leaves, in the order of the wanted indexes.
    pub(super) stripes: Vec<Vec<(Bytes, Digest)>>,
}

impl Chunk {
    /// How many bytes the wanted blocks have.
    pub(super) fn bytes(&self) -> u64 {
        self.stripes.iter().flatten().map(|(block, _)| block.len() as u64).sum()
    }
}

/// Reads from the sources whatever the wanted blocks take.
pub(super) struct Gatherer {
    object: ObjectId,
    layout: Layout,
    decoder: StripeDecoder,
    sources: Vec<Source>,
    /// Sources that stopped answering are asked last.
    silent: Vec<AtomicBool>,
    last_silence: Mutex<Option<Arc<backend::Error>>>,
    wanted: Vec<u8>,
    bytes_read: AtomicU64,
}

/// Gathers every chunk in order, in a task of its own that ends when the receiver is dropped.
pub(super) fn read_ahead(gatherer: &Arc<Gatherer>) -> mpsc::Receiver<Result<Chunk, MendError>> {
    let (sender, receiver) = mpsc::channel(1);
    let gatherer = Arc::clone(gatherer);
    tokio::spawn(async move {
        let chunks = blocks::chunks(gatherer.layout).map(|stripes| Arc::clone(&gatherer).gather(stripes));
        let mut chunks = stream::iter(chunks).buffered(CHUNKS_AT_ONCE);
        while let Some(chunk) = chunks.next().await {
            let over = chunk.is_err();
            if sender.send(chunk).await.is_err() || over {
                return;
            }
        }
    });
    receiver
}

impl Gatherer {
    /// Keeps the sources whose leaves lead to the signed root, those of wanted shards first, then in the order given.
    pub(super) fn new(manifest: &Manifest, sources: Vec<Source>, wanted: &[u8]) -> Self {
        let object = manifest.object();
        let proven = |source: &Source| {
            let root = manifest.shard_roots().get(usize::from(source.index));
            root == Some(&merkle::shard_root(object, source.index, &source.leaves))
        };
        let mut sources: Vec<Source> = sources.into_iter().filter(proven).collect();
        sources.sort_by_key(|source| !wanted.contains(&source.index));
        Self {
            object,
            layout: manifest.layout(),
            decoder: StripeDecoder::new(manifest.layout()),
            silent: sources.iter().map(|_| AtomicBool::new(false)).collect(),
            last_silence: Mutex::default(),
            sources,
            wanted: wanted.to_vec(),
            bytes_read: AtomicU64::new(0),
        }
    }

    /// How many bytes were read so far.
    pub(super) fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    async fn gather(self: Arc<Self>, stripes: Range<u64>) -> Result<Chunk, MendError> {
        let mut found: Vec<Stripe> =
            stripes.clone().map(|_| vec![None; self.layout.geometry().total_shards()]).collect();
        let mut untried = self.order();
        loop {
            let lacking: Vec<u64> =
                stripes.clone().zip(&found).filter(|(_, stripe)| !self.suffices(stripe)).map(|(i, _)| i).collect();
            let (Some(first), Some(last)) = (lacking.first(), lacking.last()) else { break };
            let range = *first..last + 1;
            let asked = self.choose(&mut untried, &found);
            if asked.is_empty() {
                return Err(self.too_few(*first, &found[(first - stripes.start) as usize]));
            }
            let reads = asked.into_iter().map(|source| self.verified_blocks(source, range.clone()));
            for (index, verified) in future::join_all(reads).await {
                let offset = (range.start - stripes.start) as usize;
                for (stripe, block) in found[offset..].iter_mut().zip(verified?) {
                    let place = &mut stripe[usize::from(index)];
                    *place = place.take().or(block);
                }
            }
        }
        tokio::task::spawn_blocking(move || self.rebuild(stripes, found)).await.map_err(|_| MendError::Stopped)?
    }

    /// The sources in the order in which they are asked.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.sources.len()).collect();
        order.sort_by_key(|source| self.silent[*source].load(Ordering::Relaxed));
        order
    }

    fn suffices(&self, stripe: &Stripe) -> bool {
        let data_shards = self.layout.geometry().data_shards();
        stripe.iter().flatten().count() >= data_shards
            || self.wanted.iter().all(|index| stripe[usize::from(*index)].is_some())
    }

    /// Takes the sources to ask next out of those that were not asked: the copies of the wanted shards if there is one of
    /// each, otherwise as many as the worst stripe lacks, each of another shard while possible.
    fn choose(&self, untried: &mut Vec<usize>, found: &[Stripe]) -> Vec<usize> {
        let wanted: BTreeSet<u8> = self.wanted.iter().copied().collect();
        let available: BTreeSet<u8> = untried.iter().map(|source| self.sources[*source].index).collect();
        let fewest = found.iter().map(|stripe| stripe.iter().flatten().count()).min().unwrap_or(0);
        let lacking = self.layout.geometry().data_shards().saturating_sub(fewest).max(1);
        let first_round = found.iter().all(|stripe| stripe.iter().all(Option::is_none));
        let count = if first_round && wanted.is_subset(&available) { wanted.len() } else { lacking };
        let mut chosen = Vec::new();
        let mut indexes = BTreeSet::new();
        for distinct in [true, false] {
            untried.retain(|source| {
                let take = chosen.len() < count && (indexes.insert(self.sources[*source].index) || !distinct);
                if take {
                    chosen.push(*source);
                }
                !take
            });
        }
        chosen
    }

    /// The blocks of a source that match their leaves.
    async fn verified_blocks(
        &self,
        source: usize,
        stripes: Range<u64>,
    ) -> (u8, Result<Vec<Option<VerifiedBlock>>, MendError>) {
        let Source { index, backend, leaves, .. } = &self.sources[source];
        let shard = ShardId { object: self.object, index: *index };
        let blocks = match blocks::read_blocks(backend.as_ref(), shard, self.layout, stripes.clone()).await {
            Ok(blocks) => blocks,
            Err(error) => {
                self.note_silence(source, error);
                return (*index, Ok(Vec::new()));
            }
        };
        self.bytes_read.fetch_add(blocks.iter().flatten().map(|block| block.len() as u64).sum(), Ordering::Relaxed);
        let leaves = Arc::clone(leaves);
        let verify = move || {
            let check = |(stripe_index, block): (u64, Option<Bytes>)| {
                let position = BlockPosition { object: shard.object, shard_index: shard.index, stripe_index };
                VerifiedBlock::check(position, block?, leaves.get(stripe_index as usize)?).ok()
            };
            stripes.zip(blocks).map(check).collect()
        };
        (*index, tokio::task::spawn_blocking(verify).await.map_err(|_| MendError::Stopped))
    }

    fn note_silence(&self, source: usize, error: backend::Error) {
        self.silent[source].store(true, Ordering::Relaxed);
        if error.kind != ErrorKind::NotFound {
            *self.last_silence.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(error));
        }
    }

    fn too_few(&self, stripe_index: u64, stripe: &Stripe) -> MendError {
        let silence = self.last_silence.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match silence {
            Some(source) => MendError::SourceGone { object: self.object, stripe_index, source },
            None => MendError::TooFew {
                object: self.object,
                stripe_index,
                verified: stripe.iter().flatten().count(),
                needed: self.layout.geometry().data_shards(),
            },
        }
    }

    /// The wanted blocks: those that are there as they are, the others from k that are.
    fn rebuild(&self, stripes: Range<u64>, found: Vec<Stripe>) -> Result<Chunk, MendError> {
        let mut rebuilt = Vec::with_capacity(found.len());
        for (stripe_index, stripe) in stripes.zip(found) {
            let absent: BTreeSet<u8> =
                self.wanted.iter().copied().filter(|index| stripe[usize::from(*index)].is_none()).collect();
            let absent: Vec<u8> = absent.into_iter().collect();
            let made = self.decoder.rebuild(stripe_index, &stripe, &absent)?;
            let block = |index: &u8| {
                let there = stripe[usize::from(*index)].as_ref().map(|block| block.bytes().clone());
                let block =
                    there.or_else(|| made.iter().find(|(made, _)| made == index).map(|(_, block)| block.clone()))?;
                let position = BlockPosition { object: self.object, shard_index: *index, stripe_index };
                let leaf = merkle::leaf(position, &block);
                Some((block, leaf))
            };
            rebuilt.push(self.wanted.iter().filter_map(block).collect());
        }
        Ok(Chunk { stripes: rebuilt })
    }
}
