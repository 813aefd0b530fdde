//! Makes shards of a known object again, from what is left of it.
//!
//! *What it is.* [`rebuild_shards`] gives shards from k verified others, [`copy_shards`] from copies of themselves; either
//! way each new shard is proved against its signed root and is byte-identical to the one that was.
//!
//! *What it knows.* A reader of verified blocks, and places to write to.
//!
//! *What it does not know.* The catalog, the journal, why a shard is made again, where it should go.
//!
//! *Invariants.* Only verified blocks are used. A shard is finished only after its root was found to be the signed one. A
//! target that fails does not stop the others. A few stripes are in memory beside those of the reader.
//!
//! ```text
//! reader ─▶ k verified blocks of a stripe ─▶ rebuild what is wanted ─▶ one writer for each target
//!                                                    └─▶ leaves ─▶ root = the signed one? ─▶ tail, finish
//! ```

mod deliver;
#[cfg(test)]
pub(in crate::ops) mod sample;
#[cfg(test)]
mod tests;
mod wanted;

use super::Controls;
use super::reader::{ObjectReader, ReadError, ShardPlace};
use crate::backend::{self, Backend};
use crate::crypto::KeyShare;
use crate::error::{Error, ErrorKind, Result};
use crate::format::Manifest;
use crate::id::{BackendId, ObjectId};
use crate::stripe::DecodeError;
use deliver::Delivery;
use futures_util::{Stream, StreamExt, pin_mut};
use std::sync::Arc;
use wanted::WantedBlocks;

/// A shard to be made.
#[derive(Debug, Clone)]
pub struct Target {
    /// Which shard.
    pub index: u8,
    /// Where it shall be.
    pub place: BackendId,
    /// What writes it.
    pub backend: Arc<dyn Backend>,
    /// Over what.
    pub mode: WriteMode,
}

/// What a new shard is written over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteMode {
    /// Nothing: it fails if the shard is there.
    Create,
    /// A copy that was read twice and was bad both times.
    Replace,
}

/// What became of the targets.
#[derive(Debug)]
pub struct Rebuilt {
    /// For each target, in the order given: the length of the finished shard file, or why there is none.
    pub outcomes: Vec<Result<u64, MendError>>,
    /// How many bytes of shards were read for it.
    pub bytes_read: u64,
    /// How many bytes of shards were finished.
    pub bytes_written: u64,
}

/// Why a shard was not made again.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    /// Some stripe could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Blocks that verify do not decode.
    #[error("the verified blocks of object {object} do not decode")]
    Decode {
        /// The object.
        object: ObjectId,
        /// Why.
        source: DecodeError,
    },
    /// The rebuilt shard does not have the signed root.
    #[error("shard {index} of object {object} came out wrong: this machine's memory is at fault")]
    Root {
        /// The object.
        object: ObjectId,
        /// Which shard.
        index: u8,
    },
    /// The key share that was made for the shard does not have the signed digest.
    #[error("the key share of shard {index} of object {object} came out wrong: this machine's memory is at fault")]
    Share {
        /// The object.
        object: ObjectId,
        /// Which shard.
        index: u8,
    },
    /// The place did not take the shard.
    #[error("shard {index} of object {object} could not be written")]
    Write {
        /// The object.
        object: ObjectId,
        /// Which shard.
        index: u8,
        /// What the place said.
        source: backend::Error,
    },
    /// The object has no such shard.
    #[error("object {object} has no shard {index}")]
    NoSuchShard {
        /// The object.
        object: ObjectId,
        /// Which shard.
        index: u8,
    },
    /// The runtime is shutting down.
    #[error("the work was stopped before it was done")]
    Stopped,
}

impl From<MendError> for Error {
    fn from(error: MendError) -> Self {
        let kind = match error {
            MendError::Read(error) => return error.into(),
            MendError::Root { .. } | MendError::Share { .. } | MendError::Decode { .. } => ErrorKind::Memory,
            MendError::Write { source: backend::Error { kind: backend::ErrorKind::NoSpace, .. }, .. } => {
                ErrorKind::Space
            }
            MendError::Write { .. } => ErrorKind::Backend,
            MendError::NoSuchShard { .. } => ErrorKind::Invalid,
            MendError::Stopped => ErrorKind::Cancelled,
        };
        Self::new(kind, "shards could not be made again").with_source(error)
    }
}

/// Makes the target shards from any k verified blocks of each stripe.
///
/// Fails as a whole, with nothing finished, when some stripe has too few good blocks or when cancelled. A place that does
/// not take its shard is an outcome.
pub async fn rebuild_shards(reader: &ObjectReader, targets: Vec<Target>, controls: &Controls) -> Result<Rebuilt> {
    let (wanted, before) = (WantedBlocks::new(reader, &targets)?, reader.bytes_read());
    let shares = shares_of(reader, &targets).await?;
    let mut rebuilt = deliver(reader.manifest(), wanted.rebuilt(), (targets, shares), controls).await?;
    rebuilt.bytes_read = reader.bytes_read() - before;
    Ok(rebuilt)
}

/// Makes the target shards from copies of the same shards, in the order of the targets; only where a block of a copy is
/// bad, the reader's other places are asked. So a shard moves by being read alone.
///
/// Fails as [`rebuild_shards`] does.
pub async fn copy_shards(
    reader: &ObjectReader,
    copies: Vec<ShardPlace>,
    targets: Vec<Target>,
    controls: &Controls,
) -> Result<Rebuilt> {
    let (wanted, before) = (WantedBlocks::new(reader, &targets)?, reader.bytes_read());
    let copies = ObjectReader::new(reader.manifest().clone(), copies);
    let shares = match shares_of(&copies, &targets).await {
        Ok(shares) if shares.iter().all(Result::is_ok) => shares,
        _ => shares_of(reader, &targets).await?,
    };
    let mut rebuilt = deliver(reader.manifest(), wanted.copied(&copies), (targets, shares), controls).await?;
    rebuilt.bytes_read = reader.bytes_read() - before + copies.bytes_read();
    Ok(rebuilt)
}

/// The key share of a target with its signed digest, none where the seal has none, or why that shard cannot be made.
type Share = Result<Option<KeyShare>, MendError>;

/// The key share of each target, in their order.
async fn shares_of(reader: &ObjectReader, targets: &[Target]) -> Result<Vec<Share>, MendError> {
    let manifest = reader.manifest();
    let mut shares = Vec::with_capacity(targets.len());
    for target in targets {
        let share = reader.key_share(target.index).await?;
        let is_signed = |share: &KeyShare| manifest.key_share(target.index, &share.bytes).is_some();
        shares.push(match share.as_ref().is_none_or(is_signed) {
            true => Ok(share),
            // The other shards can be made all the same.
            false => Err(MendError::Share { object: manifest.object(), index: target.index }),
        });
    }
    Ok(shares)
}

/// Passes every stripe's wanted blocks to the targets.
async fn deliver(
    manifest: &Manifest,
    stripes: impl Stream<Item = Result<wanted::Stripe, MendError>>,
    (targets, shares): (Vec<Target>, Vec<Share>),
    controls: &Controls,
) -> Result<Rebuilt> {
    let mut delivery = Delivery::open(manifest, targets, shares).await;
    if let Err(error) = pass(stripes, &mut delivery, controls).await {
        delivery.abort().await;
        return Err(error);
    }
    let outcomes = delivery.finish(manifest).await;
    let bytes_written = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).sum();
    Ok(Rebuilt { outcomes, bytes_read: 0, bytes_written })
}

async fn pass(
    stripes: impl Stream<Item = Result<wanted::Stripe, MendError>>,
    delivery: &mut Delivery,
    controls: &Controls,
) -> Result<()> {
    pin_mut!(stripes);
    while delivery.is_wanted() {
        let next = tokio::select! {
            biased;
            () = controls.cancel.cancelled() => return controls.check_cancelled(),
            next = stripes.next() => next,
        };
        let Some(stripe) = next else { break };
        let stripe = stripe?;
        controls.bytes(stripe.iter().map(|(block, _)| block.len() as u64).sum());
        delivery.write(stripe).await;
    }
    Ok(())
}
