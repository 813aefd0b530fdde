//! A shard on its way into a folder.

use super::super::ledger::Reservation;
use super::super::{Error, ErrorKind, Result, ShardWriter};
use super::calls::Calls;
use super::root::{OBJECTS, Root, file_of, folder_of};
use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::AtFlags;
use rustix::io::Errno;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// So many bytes are written before they are synced: what is left to the end is done in the time that one call has, however
/// slow the disk, and the disk paces who writes.
const SYNC_EVERY_BYTES: usize = 32 * 1024 * 1024;

/// What a writer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A new shard: one that is there stays.
    Create,
    /// Bytes that take the place of the old ones.
    Replace,
}

/// A file that is not a shard yet. Dropped before it is published, it is removed.
pub(super) struct Unfinished {
    root: Arc<Root>,
    name: String,
    purpose: Purpose,
    file: File,
    temporary: Option<(OwnedFd, String)>,
    reservation: Option<Reservation>,
    unsynced_bytes: usize,
}

impl Unfinished {
    pub(super) fn new(root: Arc<Root>, name: String, purpose: Purpose, file: File) -> Self {
        Self { root, name, purpose, file, temporary: None, reservation: None, unsynced_bytes: 0 }
    }

    /// The folder it is in and its name there.
    pub(super) fn in_folder(mut self, temporary: OwnedFd, temporary_name: String) -> Self {
        self.temporary = Some((temporary, temporary_name));
        self
    }

    /// Its part of the quota.
    pub(super) fn within(mut self, reservation: Reservation) -> Self {
        self.reservation = Some(reservation);
        self
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(reservation) = self.reservation.as_mut() {
            reservation
                .grow(bytes.len() as u64)
                .map_err(|reached| reached.while_doing(self.root.doing("writing", &self.name)))?;
        }
        self.file.write_all(bytes).map_err(|source| Error::io(self.root.doing("writing", &self.name), source))?;
        self.unsynced_bytes += bytes.len();
        if self.unsynced_bytes >= SYNC_EVERY_BYTES {
            self.root.sync(&self.file, &self.name)?;
            self.unsynced_bytes = 0;
        }
        Ok(())
    }

    /// File on the disk, place confirmed, name given, folder on the disk: in this order.
    fn finish(mut self) -> Result<u64> {
        self.root.sync(&self.file, &self.name)?;
        self.root.confirm()?;
        let folder = self.root.make_folder(&[OBJECTS, folder_of(&self.name)])?;
        let bytes = self.publish(&folder)?;
        self.root.sync(&File::from(folder), &self.name)?;
        Ok(bytes)
    }

    fn publish(&mut self, folder: &OwnedFd) -> Result<u64> {
        let root = Arc::clone(&self.root);
        let doing = || root.doing("finishing", &self.name);
        let (Some((temporary, temporary_name)), Some(reservation)) = (self.temporary.as_ref(), self.reservation.take())
        else {
            return Err(Error::new(ErrorKind::Failed, doing()));
        };
        let bytes = reservation.written_bytes();
        let commit = root.commit();
        let old_bytes = root.shard_length(folder, &self.name)?.unwrap_or(0);
        if commit.is_some() {
            reservation.check(old_bytes).map_err(|reached| reached.while_doing(doing()))?;
        }
        let moved = match self.purpose {
            Purpose::Create => rename_to_new(temporary, temporary_name, folder, file_of(&self.name)),
            Purpose::Replace => rustix::fs::renameat(temporary, temporary_name, folder, file_of(&self.name)),
        };
        moved.map_err(|errno| match errno {
            // The file was cleared away under us; the shard's absence is not what failed.
            Errno::NOENT => Error::with_source(ErrorKind::Failed, doing(), errno),
            other => Error::io(doing(), other.into()),
        })?;
        self.temporary = None;
        reservation.settle(old_bytes);
        Ok(bytes)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some((temporary, name)) = &self.temporary {
            // What cannot be removed now is removed by `clear_unfinished`.
            let _ = rustix::fs::unlinkat(temporary, name.as_str(), AtFlags::empty());
        }
    }
}

/// Gives a file its name unless something has that name.
fn rename_to_new(from: &OwnedFd, from_name: &str, to: &OwnedFd, to_name: &str) -> Result<(), Errno> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    match rustix::fs::renameat_with(from, from_name, to, to_name, rustix::fs::RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        outcome => return outcome,
    }
    link_to_new(from, from_name, to, to_name)
}

/// The same where rename cannot refuse: a hard link can. Where there are none either (FAT), looking first has to do.
fn link_to_new(from: &OwnedFd, from_name: &str, to: &OwnedFd, to_name: &str) -> Result<(), Errno> {
    match rustix::fs::linkat(from, from_name, to, to_name, AtFlags::empty()) {
        // Should this fail, the shard is there all the same, and the other name is cleared with the unfinished.
        Ok(()) => rustix::fs::unlinkat(from, from_name, AtFlags::empty()).or(Ok(())),
        Err(Errno::PERM | Errno::NOSYS | Errno::NOTSUP | Errno::MLINK) => {
            match rustix::fs::statat(to, to_name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => rustix::fs::renameat(from, from_name, to, to_name),
                Err(errno) => Err(errno),
            }
        }
        Err(errno) => Err(errno),
    }
}

/// The writer callers hold. The file is away while a call works on it, and stays away once one failed or was cancelled.
pub(super) struct LocalWriter {
    unfinished: Option<Unfinished>,
    calls: Arc<Calls>,
    doing: String,
}

impl LocalWriter {
    pub(super) fn new(unfinished: Unfinished, calls: Arc<Calls>) -> Self {
        let doing = unfinished.root.doing("going on after a failed write of", &unfinished.name);
        Self { unfinished: Some(unfinished), calls, doing }
    }

    fn take(&mut self) -> Result<Unfinished> {
        self.unfinished.take().ok_or_else(|| Error::new(ErrorKind::Failed, self.doing.as_str()))
    }
}

#[async_trait]
impl ShardWriter for LocalWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let mut unfinished = self.take()?;
        let unfinished = self.calls.run(move || unfinished.write(&bytes).map(|()| unfinished)).await?;
        self.unfinished = Some(unfinished);
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<u64> {
        let unfinished = self.take()?;
        self.calls.run(move || unfinished.finish()).await
    }

    async fn abort(mut self: Box<Self>) {
        if let Ok(unfinished) = self.take() {
            // Removing a large file takes a while; there is nothing to report.
            let removing = self.calls.run(move || {
                drop(unfinished);
                Ok(())
            });
            let _ = removing.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hard_link_refuses_a_taken_name_as_well() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("new"), "new").expect("write");
        std::fs::write(folder.path().join("taken"), "old").expect("write");
        let handle = OwnedFd::from(File::open(folder.path()).expect("open"));
        assert_eq!(link_to_new(&handle, "new", &handle, "taken"), Err(Errno::EXIST));
        assert_eq!(std::fs::read(folder.path().join("taken")).expect("read"), b"old");
        assert_eq!(link_to_new(&handle, "new", &handle, "free"), Ok(()));
        assert_eq!(std::fs::read(folder.path().join("free")).expect("read"), b"new");
        assert!(!folder.path().join("new").exists());
    }
}
