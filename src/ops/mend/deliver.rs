//! Writes new shards to their places, all at once, and finishes those whose root is the signed one.

use super::wanted::Stripe;
use super::{MendError, Share, Target, WriteMode};
use crate::backend::{self, ShardWriter};
use crate::crypto::KeyShare;
use crate::format::{Manifest, header_bytes, tail_bytes};
use crate::id::{Digest, ObjectId, ShardId};
use crate::merkle;
use bytes::Bytes;
use futures_util::future;

/// New shards on their way.
pub(super) struct Delivery {
    parcels: Vec<Parcel>,
}

/// One new shard on its way.
struct Parcel {
    object: ObjectId,
    index: u8,
    leaves: Vec<Digest>,
    share: Option<KeyShare>,
    writer: Result<Box<dyn ShardWriter>, MendError>,
}

impl Delivery {
    /// Opens every target, whose key shares stand in the same order; one that does not open, or has none that is right, is an
    /// outcome.
    pub(super) async fn open(manifest: &Manifest, targets: Vec<Target>, shares: Vec<Share>) -> Self {
        let open = targets.into_iter().zip(shares).map(|(target, share)| Parcel::open(manifest, target, share));
        Self { parcels: future::join_all(open).await }
    }

    /// Whether any target still takes blocks.
    pub(super) fn is_wanted(&self) -> bool {
        self.parcels.iter().any(|parcel| parcel.writer.is_ok())
    }

    /// Passes each target its block of the next stripe.
    pub(super) async fn write(&mut self, stripe: Stripe) {
        let parcels = self.parcels.iter_mut().zip(stripe);
        future::join_all(parcels.map(|(parcel, (block, leaf))| parcel.write(block, leaf))).await;
    }

    /// Gives up: nothing stays.
    pub(super) async fn abort(self) {
        let writers = self.parcels.into_iter().filter_map(|parcel| parcel.writer.ok());
        future::join_all(writers.map(ShardWriter::abort)).await;
    }

    /// Proves and finishes every shard.
    pub(super) async fn finish(self, manifest: &Manifest) -> Vec<Result<u64, MendError>> {
        future::join_all(self.parcels.into_iter().map(|parcel| parcel.finish(manifest))).await
    }
}

impl Parcel {
    async fn open(manifest: &Manifest, target: Target, share: Share) -> Self {
        let (object, index) = (manifest.object(), target.index);
        let shard = ShardId { object, index };
        let share = match share {
            Ok(share) => share,
            Err(error) => return Self { object, index, leaves: Vec::new(), share: None, writer: Err(error) },
        };
        let opened = match target.mode {
            WriteMode::Create => target.backend.create(shard).await,
            WriteMode::Replace => target.backend.replace(shard).await,
        };
        let mut parcel = Self { object, index, leaves: Vec::new(), share, writer: Err(MendError::Stopped) };
        match opened {
            Ok(writer) => parcel.writer = Ok(writer),
            Err(error) => parcel.writer = Err(parcel.failed(error)),
        }
        parcel.send(Bytes::copy_from_slice(&header_bytes(manifest, index))).await;
        parcel
    }

    async fn write(&mut self, block: Bytes, leaf: Digest) {
        self.leaves.push(leaf);
        self.send(block).await;
    }

    async fn send(&mut self, bytes: Bytes) {
        let Ok(writer) = &mut self.writer else { return };
        if let Err(error) = writer.write(bytes).await {
            let error = self.failed(error);
            if let Ok(writer) = std::mem::replace(&mut self.writer, Err(error)) {
                writer.abort().await;
            }
        }
    }

    async fn finish(mut self, manifest: &Manifest) -> Result<u64, MendError> {
        let (object, index) = (self.object, self.index);
        let root = merkle::shard_root(object, index, &self.leaves);
        if self.writer.is_ok() && manifest.shard_roots().get(usize::from(index)) != Some(&root) {
            if let Ok(writer) = self.writer {
                writer.abort().await;
            }
            return Err(MendError::Root { object, index });
        }
        self.send(Bytes::from(tail_bytes(manifest, index, &self.leaves, self.share.as_ref()))).await;
        self.writer?.finish().await.map_err(|source| MendError::Write { object, index, source })
    }

    fn failed(&self, source: backend::Error) -> MendError {
        MendError::Write { object: self.object, index: self.index, source }
    }
}
