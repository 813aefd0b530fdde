//! The wanted blocks of each stripe, as they are where they verify, and rebuilt where they do not.

use super::{MendError, Target};
use crate::id::{Digest, ObjectId};
use crate::merkle::{self, BlockPosition};
use crate::ops::reader::{ObjectReader, ReadError, StripeBlocks, Wanted};
use crate::stripe::StripeDecoder;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use std::collections::BTreeSet;
use std::sync::Arc;

/// How many stripes are decoded at once.
const STRIPES_AT_ONCE: usize = 2;

/// The wanted blocks of a stripe and their leaves, in the order of the targets.
pub(super) type Stripe = Vec<(Bytes, Digest)>;

/// What is wanted of every stripe, and what gives it.
#[derive(Debug, Clone)]
pub(super) struct WantedBlocks {
    reader: ObjectReader,
    decoder: StripeDecoder,
    indexes: Arc<[u8]>,
}

impl WantedBlocks {
    /// The blocks of these targets; an error if the object does not have such shards.
    pub(super) fn new(reader: &ObjectReader, targets: &[Target]) -> Result<Self, MendError> {
        let manifest = reader.manifest();
        let (object, total_shards) = (manifest.object(), manifest.geometry().total_shards());
        if let Some(target) = targets.iter().find(|target| usize::from(target.index) >= total_shards) {
            return Err(MendError::NoSuchShard { object, index: target.index });
        }
        let indexes = targets.iter().map(|target| target.index).collect();
        Ok(Self { reader: reader.clone(), decoder: StripeDecoder::new(manifest.layout()), indexes })
    }

    /// Every stripe's, from any k blocks.
    pub(super) fn rebuilt(self) -> impl Stream<Item = Result<Stripe, MendError>> + Send {
        let count = self.reader.manifest().layout().stripe_count();
        let stripes = self.reader.stripes(0..count, Wanted::Enough);
        stripes.map(move |stripe| self.clone().rebuild(stripe)).buffered(STRIPES_AT_ONCE)
    }

    /// Every stripe's, from copies of the same shards as long as these are good.
    pub(super) fn copied(self, copies: &ObjectReader) -> impl Stream<Item = Result<Stripe, MendError>> + Send + use<> {
        let count = self.reader.manifest().layout().stripe_count();
        let stripes = copies.stripes(0..count, Wanted::All);
        stripes.map(move |stripe| self.clone().take(stripe)).buffered(STRIPES_AT_ONCE)
    }

    async fn take(self, stripe: Result<StripeBlocks, ReadError>) -> Result<Stripe, MendError> {
        let stripe = stripe?;
        let has = |index: &u8| stripe.blocks[usize::from(*index)].is_some();
        if self.indexes.iter().all(has) {
            return self.rebuild(Ok(stripe)).await;
        }
        let stripe_index = stripe.stripe_index;
        let mut others = self.reader.stripes(stripe_index..stripe_index + 1, Wanted::Enough);
        let others = others.next().await.unwrap_or(Err(ReadError::Stopped));
        self.rebuild(others).await
    }

    async fn rebuild(self, stripe: Result<StripeBlocks, ReadError>) -> Result<Stripe, MendError> {
        let stripe = stripe?;
        tokio::task::spawn_blocking(move || self.rebuild_now(&stripe)).await.map_err(|_| MendError::Stopped)?
    }

    fn rebuild_now(&self, stripe: &StripeBlocks) -> Result<Stripe, MendError> {
        let object = self.reader.manifest().object();
        let there = |index: u8| stripe.blocks[usize::from(index)].as_ref().map(|block| block.bytes().clone());
        let absent: BTreeSet<u8> = self.indexes.iter().copied().filter(|index| there(*index).is_none()).collect();
        let absent: Vec<u8> = absent.into_iter().collect();
        let made = self.decoder.rebuild(stripe.stripe_index, &stripe.blocks, &absent);
        let made = made.map_err(|source| MendError::Decode { object, source })?;
        let made = |index: u8| made.iter().find(|(of, _)| *of == index).map(|(_, block)| block.clone());
        let blocks = self.indexes.iter().filter_map(|index| Some((*index, there(*index).or_else(|| made(*index))?)));
        Ok(blocks.map(|(index, block)| with_leaf(object, index, stripe.stripe_index, block)).collect())
    }
}

fn with_leaf(object: ObjectId, shard_index: u8, stripe_index: u64, block: Bytes) -> (Bytes, Digest) {
    let leaf = merkle::leaf(BlockPosition { object, shard_index, stripe_index }, &block);
    (block, leaf)
}
