//! A shard on its way to an object store: one request where it fits one part, a multipart upload where it does not.

use super::Remote;
use super::fault::Cause;
use crate::backend::ledger::Reservation;
use crate::backend::{Error, ErrorKind, Result, ShardWriter};
use crate::id::ShardId;
use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;

/// The size of a part, in bytes: the least S3 takes for any part but the last.
pub const PART_BYTES: usize = 5 * 1024 * 1024;
/// All uploads under way in this process together hold at most this many bytes.
pub const UPLOAD_BUDGET_BYTES: usize = 128 * 1024 * 1024;

/// The budget. It is taken only by a request that is about to be sent and given back when that request ends, and a
/// request that is sent waits for the network alone, for a bounded time: so whoever waits here is let in, and there is
/// no circle. The part a writer is still filling takes nothing, because it may wait for its sister shards, whose
/// writers may be waiting here.
static UPLOAD_BUDGET: Semaphore = Semaphore::const_new(UPLOAD_BUDGET_BYTES);

/// Whether the old bytes, if there are any, may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Create,
    /// In place of this many bytes.
    Replace(u64),
}

impl Mode {
    /// How many bytes come free when it is done.
    pub(super) fn replaced_bytes(self) -> u64 {
        if let Self::Replace(bytes) = self { bytes } else { 0 }
    }
}

/// Streams one shard. Bytes are kept as they came, never copied.
pub(super) struct ObjectWriter {
    remote: Arc<Remote>,
    mode: Mode,
    path: Path,
    doing: String,
    /// The part that is filling.
    chunks: Vec<Bytes>,
    filled_bytes: usize,
    written_bytes: u64,
    upload: Option<Box<dyn MultipartUpload>>,
    /// At most one part.
    in_flight: JoinSet<object_store::Result<()>>,
    /// Set while a write is under way, so that one that failed or was dropped half-way is never finished.
    broken: bool,
    reservation: Option<Reservation>,
}

impl ObjectWriter {
    pub(super) fn new(remote: Arc<Remote>, shard: ShardId, mode: Mode, reservation: Option<Reservation>) -> Self {
        Self {
            path: remote.place.shard_path(shard),
            doing: remote.place.doing("writing", shard),
            remote,
            mode,
            chunks: Vec::new(),
            filled_bytes: 0,
            written_bytes: 0,
            upload: None,
            in_flight: JoinSet::new(),
            broken: false,
            reservation,
        }
    }

    fn fault(&self, error: &object_store::Error) -> Error {
        Cause::of(error).doing(&self.doing)
    }

    /// Takes the bytes; sends a part whenever more than one has come together, so that the last is never empty.
    async fn take(&mut self, mut bytes: Bytes) -> Result<()> {
        if let Some(reservation) = &mut self.reservation {
            reservation.grow(bytes.len() as u64).map_err(|full| full.while_doing(&self.doing))?;
        }
        self.written_bytes += bytes.len() as u64;
        while self.filled_bytes + bytes.len() > PART_BYTES {
            let piece = bytes.split_to(PART_BYTES - self.filled_bytes);
            self.fill(piece);
            self.send_part().await?;
        }
        self.fill(bytes);
        Ok(())
    }

    fn fill(&mut self, bytes: Bytes) {
        self.filled_bytes += bytes.len();
        if !bytes.is_empty() {
            self.chunks.push(bytes);
        }
    }

    fn payload(&mut self) -> PutPayload {
        self.filled_bytes = 0;
        std::mem::take(&mut self.chunks).into_iter().collect()
    }

    /// Begins to send what has come together, once the part before it has arrived.
    async fn send_part(&mut self) -> Result<()> {
        self.part_arrived().await?;
        let permit = upload_permit(self.filled_bytes).await;
        if self.upload.is_none() {
            let begun = self.remote.uploads.put_multipart(&self.path).await;
            self.upload = Some(begun.map_err(|error| self.fault(&error))?);
        }
        let payload = self.payload();
        if let Some(upload) = &mut self.upload {
            let part = upload.put_part(payload);
            self.in_flight.spawn(async move {
                let _held = permit;
                part.await
            });
        }
        Ok(())
    }

    async fn part_arrived(&mut self) -> Result<()> {
        while let Some(ended) = self.in_flight.join_next().await {
            let lost = |_| Cause::Other { text: "the upload was cancelled".to_owned() }.doing(&self.doing);
            ended.map_err(lost)?.map_err(|error| self.fault(&error))?;
        }
        Ok(())
    }

    async fn finish_parts(&mut self) -> Result<()> {
        self.send_part().await?;
        self.part_arrived().await?;
        if self.mode == Mode::Create {
            self.refuse_present().await?;
        }
        let Some(upload) = &mut self.upload else { return Ok(()) };
        let completed = upload.complete().await;
        match completed {
            // An answer of 200 may hold an error or a lie: what is stored decides.
            Ok(_) => self.check_stored().await?,
            // The answer may have been lost after the work was done. Nothing but this upload makes this name, so the
            // whole length there is this shard; when replacing, it could be the old one.
            Err(error) if self.mode == Mode::Create => {
                self.check_stored().await.map_err(|_| self.fault(&error))?;
            }
            Err(error) => return Err(self.fault(&error)),
        }
        self.upload = None;
        self.clear_begun_twice().await;
        Ok(())
    }

    /// A beginning whose answer is lost is sent again: then the server has two uploads, of which this one knows the second.
    /// So it is with a replacement that failed before this one, and could not be taken back.
    async fn clear_begun_twice(&mut self) {
        if let Some(unfinished) = &self.remote.unfinished {
            let _best_effort = unfinished.clear(&self.path).await;
        }
    }

    async fn finish_whole(&mut self) -> Result<()> {
        let _permit = upload_permit(self.filled_bytes).await;
        let payload = self.payload();
        let mode = if self.mode == Mode::Create { PutMode::Create } else { PutMode::Overwrite };
        let put = self.remote.uploads.put_opts(&self.path, payload.clone(), PutOptions::from(mode)).await;
        match put {
            Ok(_) => self.check_stored().await,
            Err(error) => {
                let fault = self.fault(&error);
                // A request that was sent again finds its own bytes there.
                let ours = fault.kind == ErrorKind::AlreadyExists && self.holds(&payload).await;
                if ours { Ok(()) } else { Err(fault) }
            }
        }
    }

    /// Whether the object there is these very bytes.
    async fn holds(&mut self, payload: &PutPayload) -> bool {
        let Ok(found) = self.remote.store.get(&self.path).await else { return false };
        if found.meta.size != payload.content_length() as u64 {
            return false;
        }
        let Ok(found) = found.bytes().await else { return false };
        let mut rest = &found[..];
        payload.iter().all(|chunk| {
            let same = rest.starts_with(chunk);
            rest = rest.get(chunk.len()..).unwrap_or_default();
            same
        })
    }

    async fn refuse_present(&mut self) -> Result<()> {
        match self.remote.store.head(&self.path).await {
            Ok(_) => Err(Error::new(ErrorKind::AlreadyExists, &self.doing)),
            Err(error) => match self.fault(&error) {
                fault if fault.kind == ErrorKind::NotFound => Ok(()),
                fault => Err(fault),
            },
        }
    }

    /// What the server says it stored must be as long as what was sent.
    async fn check_stored(&mut self) -> Result<()> {
        let head = self.remote.store.head(&self.path).await.map_err(|error| {
            // Not to be taken for "there is no such shard": it was just written.
            let cause = Cause::of(&error);
            let kind = if cause.kind() == ErrorKind::NotFound { ErrorKind::Transient } else { cause.kind() };
            Error::with_source(kind, &self.doing, cause)
        })?;
        if head.size == self.written_bytes {
            return Ok(());
        }
        if self.mode == Mode::Create {
            let _best_effort = self.remote.store.delete(&self.path).await;
        }
        Err(Cause::WrongStored { written: self.written_bytes, stored: head.size }.doing(&self.doing))
    }

    async fn give_up(&mut self) {
        self.broken = true;
        self.in_flight.shutdown().await;
        self.chunks.clear();
        if let Some(mut upload) = self.upload.take() {
            // What an abort that fails leaves behind, `clear_unfinished` finds.
            let _best_effort = upload.abort().await;
        }
    }
}

#[async_trait]
impl ShardWriter for ObjectWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if std::mem::replace(&mut self.broken, true) {
            return Err(Cause::Broken.doing(&self.doing));
        }
        self.take(bytes).await?;
        self.broken = false;
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<u64> {
        if self.broken {
            self.give_up().await;
            return Err(Cause::Broken.doing(&self.doing));
        }
        let finished = if self.upload.is_some() { self.finish_parts().await } else { self.finish_whole().await };
        if let Err(error) = finished {
            self.give_up().await;
            return Err(error);
        }
        if let Some(reservation) = self.reservation.take() {
            reservation.settle(self.mode.replaced_bytes());
        }
        Ok(self.written_bytes)
    }

    async fn abort(mut self: Box<Self>) {
        self.give_up().await;
    }
}

impl Drop for ObjectWriter {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else { return };
        let mut in_flight = std::mem::take(&mut self.in_flight);
        // Without a runtime the parts stay until `clear_unfinished`.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                in_flight.shutdown().await;
                let _best_effort = upload.abort().await;
            });
        }
    }
}

/// Waits for room in the budget; what is larger than the budget takes all of it.
async fn upload_permit(bytes: usize) -> SemaphorePermit<'static> {
    let bytes = u32::try_from(bytes.min(UPLOAD_BUDGET_BYTES)).unwrap_or(u32::MAX);
    UPLOAD_BUDGET.acquire_many(bytes).await.expect("the budget is never closed")
}
