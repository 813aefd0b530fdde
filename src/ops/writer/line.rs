//! The tasks that bring the shards to their places: one for each, fed through a bounded channel.

use super::journal::Places;
use crate::backend::{self, Backend, ShardWriter};
use crate::error::{Error, ErrorKind, Result};
use crate::format::{HEADER_BYTES, Header};
use crate::id::{BackendId, Geometry, ObjectId, ShardId};
use crate::store::Store;
use crate::stripe::{EncodedStripe, StripeShape};
use bytes::Bytes;
use futures_util::future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// At most this many stripes wait for a place: enough to bridge an fsync or a slow part.
const MAX_WAITING_STRIPES: u64 = 4;
/// At most this many bytes wait, as far as two stripes allow: every place lags behind by itself, and what the slowest has
/// not taken is in memory.
const MAX_WAITING_BYTES: u64 = 8 * 1024 * 1024;
/// How long a task is waited for that was told to give up; after that it is stopped where it is.
const GIVE_UP_TIMEOUT: Duration = Duration::from_secs(10);

/// What is sent to a shard's task.
#[derive(Debug)]
enum Parcel {
    Block(Bytes),
    /// The shard's last bytes: it may be finished.
    Tail(Bytes),
}

/// A shard's task.
#[derive(Debug)]
struct Line {
    index: u8,
    sender: Option<mpsc::Sender<Parcel>>,
    task: JoinHandle<backend::Result<Option<u64>>>,
}

/// What became of a shard: its length, or what its place said; `None` where it was given up or never had a place.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) index: u8,
    pub(super) outcome: backend::Result<Option<u64>>,
}

/// All shards' tasks.
#[derive(Debug)]
pub(super) struct Lines {
    lines: Vec<Line>,
}

impl Lines {
    /// Begins every shard that has a place.
    pub(super) fn open(store: &Store, object: ObjectId, shape: StripeShape, places: &Places) -> Self {
        let open = |(index, place): (u8, BackendId)| {
            let registered = store.registry().get(place)?;
            let header =
                Header { object, shard_index: index, geometry: shape.geometry(), block_bytes: shape.block_bytes() };
            let (sender, parcels) = mpsc::channel(waiting_stripes(shape));
            let backend = Arc::clone(&registered.backend);
            let task = tokio::spawn(deliver(backend, ShardId { object, index }, header.to_bytes(), parcels));
            Some(Line { index, sender: Some(sender), task })
        };
        Self { lines: places.planned().filter_map(open).collect() }
    }

    /// Gives every living task its block. An error when so few live that nothing could be made whole from them.
    pub(super) async fn send(&mut self, stripe: &EncodedStripe, geometry: Geometry) -> Result<()> {
        for line in &mut self.lines {
            line.pass(Parcel::Block(stripe.block(line.index))).await;
        }
        let living = self.lines.iter().filter(|line| line.sender.is_some()).count();
        if living < geometry.data_shards() {
            let doing = format!("only {living} backends still take shards; {} are needed", geometry.write_quorum());
            return Err(Error::new(ErrorKind::BelowQuorum, doing));
        }
        Ok(())
    }

    /// Sends every task its tail, all at once, and waits until each has finished or failed.
    pub(super) async fn finish(self, tails: impl Fn(u8) -> Bytes) -> Vec<Delivered> {
        let finishing = self.lines.into_iter().map(|mut line| {
            let tail = tails(line.index);
            async move {
                line.pass(Parcel::Tail(tail)).await;
                line.end().await
            }
        });
        future::join_all(finishing).await
    }

    /// Gives every shard up and waits until each is.
    pub(super) async fn give_up(self) -> Vec<Delivered> {
        future::join_all(self.lines.into_iter().map(Line::give_up)).await
    }
}

impl Line {
    /// A task that ended before its time takes nothing any more; why is its outcome.
    async fn pass(&mut self, parcel: Parcel) {
        if let Some(sender) = &self.sender
            && sender.send(parcel).await.is_err()
        {
            self.sender = None;
        }
    }

    /// Without its tail a shard never becomes visible, so that its task may be stopped anywhere.
    async fn give_up(mut self) -> Delivered {
        self.sender = None;
        let (index, stop) = (self.index, self.task.abort_handle());
        tokio::time::timeout(GIVE_UP_TIMEOUT, self.end()).await.unwrap_or_else(|_| {
            stop.abort();
            Delivered { index, outcome: Ok(None) }
        })
    }

    async fn end(self) -> Delivered {
        drop(self.sender);
        let stopped = |error| {
            backend::Error::with_source(
                backend::ErrorKind::Failed,
                "a task of this process stopped in the middle",
                error,
            )
        };
        let outcome = self.task.await.unwrap_or_else(|error| Err(stopped(error)));
        Delivered { index: self.index, outcome }
    }
}

fn waiting_stripes(shape: StripeShape) -> usize {
    let stripe_bytes = u64::from(shape.block_bytes()) * shape.geometry().total_shards() as u64;
    (MAX_WAITING_BYTES / stripe_bytes).clamp(2, MAX_WAITING_STRIPES) as usize
}

/// One shard, front to back. Gives up when the sender goes away before the tail came.
async fn deliver(
    backend: Arc<dyn Backend>,
    shard: ShardId,
    header: [u8; HEADER_BYTES],
    mut parcels: mpsc::Receiver<Parcel>,
) -> backend::Result<Option<u64>> {
    let mut writer = backend.create(shard).await?;
    match feed(writer.as_mut(), header, &mut parcels).await {
        Ok(true) => writer.finish().await.map(Some),
        Ok(false) => {
            writer.abort().await;
            Ok(None)
        }
        Err(error) => {
            writer.abort().await;
            Err(error)
        }
    }
}

/// Whether the shard is whole.
async fn feed(
    writer: &mut dyn ShardWriter,
    header: [u8; HEADER_BYTES],
    parcels: &mut mpsc::Receiver<Parcel>,
) -> backend::Result<bool> {
    writer.write(Bytes::copy_from_slice(&header)).await?;
    while let Some(parcel) = parcels.recv().await {
        match parcel {
            Parcel::Block(block) => writer.write(block).await?,
            Parcel::Tail(tail) => {
                writer.write(tail).await?;
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RedundancyLevel;

    #[test]
    fn few_bytes_wait_at_every_geometry() {
        let waiting = |geometry: Geometry| {
            let shape = StripeShape::new(geometry, geometry.block_bytes(), 0).expect("shape");
            waiting_stripes(shape)
        };
        assert_eq!(RedundancyLevel::NAMED.map(|level| waiting(level.geometry())), [4, 4, 3, 2]);
        assert_eq!(waiting(Geometry::new(1, 255).expect("geometry")), 2);
    }
}
