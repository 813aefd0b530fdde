//! Makes shards of a known object again, from what is left of it.
//!
//! *What it is.* [`rebuild_shards`]: reads stripes from k verified copies, rebuilds the wanted blocks, proves each new
//! shard against its signed root and finishes it, byte-identical to the one that was.
//!
//! *What it knows.* A signed manifest, copies to read from with the leaves that prove them, and places to write to.
//!
//! *What it does not know.* The catalog, the journal, why a shard is to be made again, where it should go.
//!
//! *Invariants.* Only blocks that match a leaf under a signed root are used. A shard is finished only after its root was
//! found to be the signed one. A target that fails does not stop the others. A few chunks of stripes are in memory,
//! whatever the object's size.

pub(in crate::ops) mod blocks;
mod deliver;
mod gather;
#[cfg(test)]
pub(in crate::ops) mod sample;
#[cfg(test)]
mod tests;

use super::Controls;
use crate::backend::{self, Backend};
use crate::error::{Error, ErrorKind, Result};
use crate::format::Manifest;
use crate::id::{BackendId, Digest, ObjectId};
use crate::stripe::DecodeError;
use deliver::Delivery;
use gather::Gatherer;
use std::sync::Arc;

/// A copy of a shard that may be read; any of its bytes may be bad.
#[derive(Debug, Clone)]
pub struct Source {
    /// Which shard.
    pub index: u8,
    /// Where it is.
    pub place: BackendId,
    /// What reads it.
    pub backend: Arc<dyn Backend>,
    /// The leaves of the shard. They need not come from this copy, and are used only if they lead to the signed root.
    pub leaves: Arc<[Digest]>,
}

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
    /// How many bytes were read from the sources.
    pub bytes_read: u64,
    /// How many bytes of shards were finished.
    pub bytes_written: u64,
}

/// Why a shard was not made again.
#[derive(Debug, thiserror::Error)]
pub enum MendError {
    /// A stripe has too few blocks that verify.
    #[error("stripe {stripe_index} of object {object} has {verified} good blocks within reach, {needed} are needed")]
    TooFew {
        /// The object.
        object: ObjectId,
        /// Which stripe.
        stripe_index: u64,
        /// How many blocks verify.
        verified: usize,
        /// k.
        needed: usize,
    },
    /// A copy could not be read because its place did not answer; with it there might have been enough.
    #[error("too few blocks of stripe {stripe_index} of object {object} are good, and a place stopped answering")]
    SourceGone {
        /// The object.
        object: ObjectId,
        /// Which stripe.
        stripe_index: u64,
        /// What the place said.
        source: Arc<backend::Error>,
    },
    /// Blocks that verify do not decode.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The rebuilt shard does not have the signed root: memory or processor are at fault.
    #[error("shard {index} of object {object} came out wrong: this machine's memory is at fault")]
    Root {
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
    /// A task of this process ended before its work.
    #[error("a task of this process stopped before its work was done")]
    Stopped,
}

impl From<MendError> for Error {
    fn from(error: MendError) -> Self {
        let kind = match &error {
            MendError::TooFew { .. } => ErrorKind::Lost,
            MendError::SourceGone { .. } => ErrorKind::Unavailable,
            MendError::Root { .. } | MendError::Decode(_) => ErrorKind::Memory,
            MendError::Write { source, .. } if source.kind == backend::ErrorKind::NoSpace => ErrorKind::Space,
            MendError::Write { .. } => ErrorKind::Backend,
            MendError::NoSuchShard { .. } => ErrorKind::Invalid,
            MendError::Stopped => ErrorKind::Cancelled,
        };
        Self::new(kind, "shards could not be made again").with_source(error)
    }
}

/// Makes the target shards from the sources. A source whose own index is a target's gives its good blocks as they are,
/// so that a copy is moved by reading it alone; anything else is rebuilt from k others.
///
/// Fails as a whole when some stripe has too few good blocks, when blocks do not decode, or when cancelled; nothing is
/// finished then. A place that does not take its shard is an outcome.
pub async fn rebuild_shards(
    manifest: &Manifest,
    sources: Vec<Source>,
    targets: Vec<Target>,
    controls: &Controls,
) -> Result<Rebuilt> {
    let total_shards = manifest.geometry().total_shards();
    if let Some(target) = targets.iter().find(|target| usize::from(target.index) >= total_shards) {
        return Err(MendError::NoSuchShard { object: manifest.object(), index: target.index }.into());
    }
    let wanted: Vec<u8> = targets.iter().map(|target| target.index).collect();
    let gatherer = Arc::new(Gatherer::new(manifest, sources, &wanted));
    let mut delivery = Delivery::open(manifest, targets).await;
    match stream(&gatherer, &mut delivery, controls).await {
        Ok(()) => {}
        Err(error) => {
            delivery.abort().await;
            return Err(error);
        }
    }
    let outcomes = delivery.finish(manifest).await;
    let bytes_written = outcomes.iter().filter_map(|outcome| outcome.as_ref().ok()).sum();
    Ok(Rebuilt { outcomes, bytes_read: gatherer.bytes_read(), bytes_written })
}

/// Passes every chunk from the sources to the targets, reading ahead while they write.
async fn stream(gatherer: &Arc<Gatherer>, delivery: &mut Delivery, controls: &Controls) -> Result<()> {
    let mut chunks = gather::read_ahead(gatherer);
    while delivery.is_wanted() {
        let next = tokio::select! {
            biased;
            () = controls.cancel.cancelled() => return controls.check_cancelled(),
            next = chunks.recv() => next,
        };
        let Some(chunk) = next else { break };
        let chunk = chunk?;
        controls.bytes(chunk.bytes());
        delivery.write(chunk).await;
    }
    Ok(())
}
