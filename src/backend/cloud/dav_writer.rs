//! A shard on its way to a WebDAV server.

use super::Remote;
use super::fault::Cause;
use super::webdav::{Dav, DavUpload, Overwrite};
use super::writer::Mode;
use crate::backend::ledger::Reservation;
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
            reservation.grow(bytes.len() as u64).map_err(|full| full.while_doing(&self.doing))?;
        }
        self.written_bytes += bytes.len() as u64;
        match &mut self.upload {
            Some(upload) => upload.send(bytes, &self.doing).await,
            None => Err(Cause::Broken.doing(&self.doing)),
        }
    }

    async fn place(&mut self) -> Result<()> {
        let Some(upload) = &mut self.upload else { return Err(Cause::Broken.doing(&self.doing)) };
        let temporary = upload.sent(&self.doing).await?.clone();
        self.check_stored(&temporary).await?;
        let overwrite = if self.mode == Mode::Create { Overwrite::Refuse } else { Overwrite::Allow };
        if self.mode == Mode::Create {
            self.refuse_present().await?;
        }
        let Some(upload) = &self.upload else { return Err(Cause::Broken.doing(&self.doing)) };
        match upload.place(&self.path, overwrite, &self.doing).await {
            // A success may have failures inside (207), or be a promise (202): what is stored decides.
            Ok(()) => {
                self.check_moved(&temporary).await?;
                self.check_stored(&self.path).await
            }
            // The answer may have been lost after the work was done. Nothing but this shard has this name, so the whole
            // length there is it; when replacing, it could be the old one.
            Err(error) if self.mode == Mode::Create && error.kind != ErrorKind::AlreadyExists => {
                self.check_stored(&self.path).await.map_err(|_| error)
            }
            Err(error) => Err(error),
        }
    }

    /// A shard that was to be replaced may have been as long as this one: nothing may have the temporary name any more.
    async fn check_moved(&self, temporary: &Path) -> Result<()> {
        match self.remote.store.head(temporary).await {
            Err(error) if Cause::of(&error).kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(Cause::of(&error).doing(&self.doing)),
            Ok(_) => {
                let why = "the server says that it moved what was sent, and did not";
                Err(Error::with_source(ErrorKind::Failed, &self.doing, why))
            }
        }
    }

    /// Some servers move over what is there whatever they are told.
    async fn refuse_present(&self) -> Result<()> {
        match self.remote.store.head(&self.path).await {
            Ok(_) => Err(Error::new(ErrorKind::AlreadyExists, &self.doing)),
            Err(error) => match Cause::of(&error) {
                cause if cause.kind() == ErrorKind::NotFound => Ok(()),
                cause => Err(cause.doing(&self.doing)),
            },
        }
    }

    /// What the server has under a name must be as long as what was sent.
    async fn check_stored(&self, path: &Path) -> Result<()> {
        let head = self.remote.store.head(path).await.map_err(|error| {
            // Not to be taken for "there is no such shard": it was just written.
            let cause = Cause::of(&error);
            let kind = if cause.kind() == ErrorKind::NotFound { ErrorKind::Transient } else { cause.kind() };
            Error::with_source(kind, &self.doing, cause)
        })?;
        match head.size == self.written_bytes {
            true => Ok(()),
            false => Err(Cause::WrongStored { written: self.written_bytes, stored: head.size }.doing(&self.doing)),
        }
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
        if let Some(reservation) = self.reservation.take() {
            reservation.settle(self.mode.replaced_bytes());
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
