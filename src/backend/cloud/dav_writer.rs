//! A shard on its way to a WebDAV server.

use super::Remote;
use super::fault::Cause;
use super::quota::Reservation;
use super::webdav::{Dav, DavUpload, Overwrite};
use super::writer::Mode;
use crate::backend::{Error, ErrorKind, Result, ShardWriter};
use crate::id::ShardId;
use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use std::sync::Arc;
use tokio::runtime::Handle;

/// Streams one shard to a temporary name and moves it into place when it is whole.
pub(super) struct DavWriter {
    remote: Arc<Remote>,
    mode: Mode,
    path: Path,
    doing: String,
    upload: Option<DavUpload>,
    written_bytes: u64,
    /// Set while a write is under way, so that one that failed or was dropped half-way is never finished.
    broken: bool,
    reservation: Option<Reservation>,
}

impl DavWriter {
    /// Makes the folder and begins the request.
    pub(super) async fn begin(
        (remote, dav): (Arc<Remote>, &Dav),
        shard: ShardId,
        mode: Mode,
        reservation: Option<Reservation>,
    ) -> Result<Self> {
        let path = remote.place.shard_path(shard);
        let doing = remote.place.doing("writing", shard);
        dav.make_folder_of(&path).await?;
        let upload = Some(dav.begin(&path, &doing)?);
        Ok(Self { remote, mode, path, doing, upload, written_bytes: 0, broken: false, reservation })
    }

    async fn take(&mut self, bytes: Bytes) -> Result<()> {
        if let Some(reservation) = &mut self.reservation {
            reservation.grow(bytes.len() as u64, &self.doing)?;
        }
        self.written_bytes += bytes.len() as u64;
        match &mut self.upload {
            Some(upload) => upload.send(bytes, &self.doing).await,
            None => Err(Cause::Broken.doing(&self.doing)),
        }
    }

    async fn place(&mut self) -> Result<()> {
        let Some(upload) = &mut self.upload else { return Err(Cause::Broken.doing(&self.doing)) };
        let temporary = upload.sent(&self.doing).await?;
        let head = self.remote.store.head(temporary).await;
        let stored = head.map_err(|error| Cause::of(&error).doing(&self.doing))?.size;
        if stored != self.written_bytes {
            return Err(Cause::WrongStored { written: self.written_bytes, stored }.doing(&self.doing));
        }
        let overwrite = if self.mode == Mode::Create { Overwrite::Refuse } else { Overwrite::Allow };
        // Some servers move over what is there whatever they are told.
        if self.mode == Mode::Create && self.remote.store.head(&self.path).await.is_ok() {
            return Err(Error::new(ErrorKind::AlreadyExists, &self.doing));
        }
        upload.place(&self.path, overwrite, &self.doing).await
    }

    async fn give_up(&mut self) {
        self.broken = true;
        if let Some(mut upload) = self.upload.take() {
            // What a delete that fails leaves behind, `clear_unfinished` finds.
            let _best_effort = self.remote.store.delete(upload.cancel().await).await;
        }
    }
}

#[async_trait]
impl ShardWriter for DavWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        if std::mem::replace(&mut self.broken, true) {
            return Err(Cause::Broken.doing(&self.doing));
        }
        self.take(bytes).await?;
        self.broken = false;
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<u64> {
        let placed = if self.broken { Err(Cause::Broken.doing(&self.doing)) } else { self.place().await };
        if let Err(error) = placed {
            self.give_up().await;
            return Err(error);
        }
        self.upload = None;
        let replaced_bytes = if let Mode::Replace(bytes) = self.mode { bytes } else { 0 };
        if let Some(reservation) = self.reservation.take() {
            reservation.keep(replaced_bytes);
        }
        Ok(self.written_bytes)
    }

    async fn abort(mut self: Box<Self>) {
        self.give_up().await;
    }
}

impl Drop for DavWriter {
    fn drop(&mut self) {
        let Some(mut upload) = self.upload.take() else { return };
        let store: Arc<dyn ObjectStore> = Arc::clone(&self.remote.store);
        // Without a runtime the temporary file stays until `clear_unfinished`.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                let _best_effort = store.delete(upload.cancel().await).await;
            });
        }
    }
}
