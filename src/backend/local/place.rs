//! The blocking side of [`LocalBackend`](super::LocalBackend): each operation in plain file calls.

use super::super::{BackendStats, Error, ErrorKind, ListPage, MARK_NAME, Mark, Result, shard_name};
use super::LocalOptions;
use super::listing;
use super::root::{FILE_MODE, OBJECTS, Root, TEMPORARY, file_of, folder_of};
use super::writer::{Purpose, Unfinished};
use crate::id::ShardId;
use crate::stripe::BufferPool;
use bytes::Bytes;
use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// What an unfinished file's name ends with.
pub(super) const UNFINISHED_SUFFIX: &str = ".part";

/// The lengths of buffers for reads: a block, and the two that a reader asks for at once.
const READ_SIZES: [usize; 2] = [256 * 1024, 512 * 1024];
/// So many idle ones of each length are kept, for all folders together.
const IDLE_READ_BUFFERS: usize = 16;
static READ_BUFFERS: LazyLock<[BufferPool; 2]> =
    LazyLock::new(|| READ_SIZES.map(|bytes| BufferPool::keeping(bytes, IDLE_READ_BUFFERS)));

/// A folder, and the handle through which it is used.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    options: LocalOptions,
    current: Mutex<Option<Arc<Root>>>,
}

impl Place {
    pub(super) fn new(path: PathBuf, options: LocalOptions) -> Self {
        Self { path, options, current: Mutex::new(None) }
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<Root>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handle of the last reading or writing of the mark, or one opened now.
    fn root(&self) -> Result<Arc<Root>> {
        let mut current = self.current();
        if let Some(root) = current.as_ref() {
            return Ok(Arc::clone(root));
        }
        let root = Arc::new(Root::open(&self.path, self.options.quota_bytes)?);
        Ok(Arc::clone(current.insert(root)))
    }

    pub(super) fn read_mark(&self) -> Result<Option<Mark>> {
        let mut opened = Root::open(&self.path, self.options.quota_bytes)?;
        let mut current = self.current();
        if let Some(earlier) = current.as_ref() {
            if earlier.mark().is_some() && opened.mark().is_none() {
                let doing = format!("reading {MARK_NAME} in {}", self.path.display());
                let why = "the mark that was there is gone: is the disk mounted?";
                return Err(Error::with_source(ErrorKind::Unreachable, doing, why));
            }
            opened.inherit(earlier);
        }
        let mark = opened.mark();
        *current = Some(Arc::new(opened));
        Ok(mark)
    }

    pub(super) fn write_mark(&self, mark: Mark) -> Result<()> {
        let root = Root::open(&self.path, self.options.quota_bytes)?;
        let temporary = root.make_folder(&[TEMPORARY])?;
        let (mut file, name) = new_file(&root, &temporary, MARK_NAME)?;
        let written = (|| {
            let mut text = serde_json::to_vec(&mark)
                .map_err(|source| Error::with_source(ErrorKind::Failed, root.doing("writing", MARK_NAME), source))?;
            text.push(b'\n');
            file.write_all(&text).map_err(|source| Error::io(root.doing("writing", MARK_NAME), source))?;
            root.sync(&file, MARK_NAME)?;
            rustix::fs::renameat(&temporary, name.as_str(), root.handle(), MARK_NAME)
                .map_err(root.failed("writing", MARK_NAME))?;
            root.sync_root()
        })();
        if let Err(error) = written {
            // It may be in place already; then there is nothing to remove.
            let _ = rustix::fs::unlinkat(&temporary, name.as_str(), AtFlags::empty());
            return Err(error);
        }
        clear_marks(&root, &temporary);
        let mut opened = Root::open(&self.path, self.options.quota_bytes)?;
        let mut current = self.current();
        if let Some(earlier) = current.as_ref() {
            opened.inherit(earlier);
        }
        *current = Some(Arc::new(opened));
        Ok(())
    }

    pub(super) fn begin(&self, shard: ShardId, purpose: Purpose) -> Result<Unfinished> {
        let root = self.root()?;
        let name = shard_name(shard);
        let old_bytes = match root.folder(&[OBJECTS, folder_of(&name)]) {
            Ok(folder) => root.shard_length(&folder, &name)?,
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(root.failed("looking at", &name)(errno)),
        };
        if old_bytes.is_some() && purpose == Purpose::Create {
            return Err(Error::new(ErrorKind::AlreadyExists, root.doing("creating", &name)));
        }
        root.confirm()?;
        let reservation = root.reserve(old_bytes.unwrap_or(0))?;
        let temporary = root.make_folder(&[TEMPORARY])?;
        let (file, temporary_name) = new_file(&root, &temporary, &shard.to_string())?;
        Ok(Unfinished::new(root, name, purpose, file).in_folder(temporary, temporary_name).within(reservation))
    }

    pub(super) fn read(&self, shard: ShardId, range: Range<u64>) -> Result<Bytes> {
        self.open(shard)?.read(range)
    }

    pub(super) fn open(&self, shard: ShardId) -> Result<OpenShard> {
        let root = self.root()?;
        let (file, length) = root.open_shard(shard)?;
        Ok(OpenShard { file, length, doing: root.doing("reading", &shard_name(shard)) })
    }

    pub(super) fn head(&self, shard: ShardId) -> Result<u64> {
        self.root()?.open_shard(shard).map(|(_, length)| length)
    }

    pub(super) fn delete(&self, shard: ShardId) -> Result<()> {
        let root = self.root()?;
        let name = shard_name(shard);
        let failed = root.failed("deleting", &name);
        let folder = match root.folder(&[OBJECTS, folder_of(&name)]) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return root.confirm(),
            Err(errno) => return Err(failed(errno)),
        };
        let commit = root.commit();
        let old_bytes = root.shard_length(&folder, &name)?;
        match rustix::fs::unlinkat(&folder, file_of(&name), AtFlags::empty()) {
            Ok(()) => {}
            // An earlier delete may have failed to make its end durable: this one's word counts as that one's would.
            Err(Errno::NOENT) => {
                root.sync(&File::from(folder), &name)?;
                return root.confirm();
            }
            Err(errno) => return Err(failed(errno)),
        }
        if let Some(commit) = commit {
            commit.removed(old_bytes.unwrap_or(0));
        }
        root.sync(&File::from(folder), &name)
    }

    pub(super) fn list(&self, after: Option<ShardId>) -> Result<ListPage> {
        listing::page(&*self.root()?, after)
    }

    pub(super) fn stats(&self) -> Result<BackendStats> {
        let root = self.root()?;
        let counted = listing::count(&root)?;
        let free_bytes = Some(free_bytes(&root)?);
        Ok(BackendStats { free_bytes, quota_bytes: self.options.quota_bytes, ..counted })
    }

    pub(super) fn room(&self) -> Result<Option<u64>> {
        match self.options.quota_bytes {
            Some(_) => Ok(self.stats()?.room()),
            None => free_bytes(self.root()?.as_ref()).map(Some),
        }
    }

    pub(super) fn clear_unfinished(&self, shard: ShardId) -> Result<u64> {
        let root = self.root()?;
        let folder = match root.folder(&[TEMPORARY]) {
            Ok(folder) => folder,
            Err(Errno::NOENT) => return root.confirm().map(|()| 0),
            Err(errno) => return Err(root.failed("listing", TEMPORARY)(errno)),
        };
        let mut bytes = 0;
        // With the dot, so that shard 1 is not also shard 10.
        let prefix = format!("{shard}.");
        for name in listing::entries(&root, &folder, TEMPORARY)? {
            if !name.starts_with(&prefix) || !name.ends_with(UNFINISHED_SUFFIX) {
                continue;
            }
            let length = rustix::fs::statat(&folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW).map(|stat| stat.st_size);
            match rustix::fs::unlinkat(&folder, name.as_str(), AtFlags::empty()) {
                Ok(()) => bytes += length.ok().and_then(|length| u64::try_from(length).ok()).unwrap_or(0),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(root.failed("deleting the unfinished", &name)(errno)),
            }
        }
        Ok(bytes)
    }
}

/// Which file a shard is and when that was changed last: where it is the same as before, so are the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardVersion {
    file: (u64, u64),
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// A finished shard that was opened for reading.
#[derive(Debug)]
pub(super) struct OpenShard {
    file: File,
    length: u64,
    doing: String,
}

impl OpenShard {
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn version(&self) -> Result<ShardVersion> {
        let metadata = self.file.metadata().map_err(|error| Error::io(self.doing.clone(), error))?;
        Ok(ShardVersion {
            file: (metadata.dev(), metadata.ino()),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    pub(super) fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let doing = || format!("{}, bytes {range:?} of {}", self.doing, self.length);
        if range.start > range.end || range.end > self.length {
            return Err(Error::new(ErrorKind::OutOfRange, doing()));
        }
        match read_range(&self.file, range.clone()) {
            Ok(bytes) => Ok(bytes),
            // It was cut short after its length was looked at.
            Err(source) if source.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(Error::with_source(ErrorKind::OutOfRange, doing(), source))
            }
            Err(source) => Err(Error::io(doing(), source)),
        }
    }
}

/// Removes marks that were begun and never finished, once there is one: no other is to take its place.
fn clear_marks(root: &Root, temporary: &OwnedFd) {
    let names = listing::entries(root, temporary, TEMPORARY).unwrap_or_default();
    let is_mark = |name: &&String| name.starts_with(MARK_NAME) && name.ends_with(UNFINISHED_SUFFIX);
    for name in names.iter().filter(is_mark) {
        // A few bytes stay behind where it fails.
        let _ = rustix::fs::unlinkat(temporary, name.as_str(), AtFlags::empty());
    }
}

/// Exactly these bytes of a file. They are read into memory that nobody wrote zeros to first.
/// Reads a range of a file; a long one into memory that was read into before, because pages that are new to a process cost
/// about as much as what is done with their bytes.
fn read_range(file: &File, range: Range<u64>) -> std::io::Result<Bytes> {
    let wanted_bytes = (range.end - range.start) as usize;
    let Some(pool) = pool_for(wanted_bytes) else {
        let mut bytes = Vec::with_capacity(wanted_bytes);
        while bytes.len() < wanted_bytes {
            let offset = range.start + bytes.len() as u64;
            counted(rustix::io::pread(file, spare_capacity(&mut bytes), offset))?;
        }
        // The memory may be longer than was asked for.
        bytes.truncate(wanted_bytes);
        return Ok(bytes.into());
    };
    let mut buffer = pool.take();
    let mut read_bytes = 0;
    while let Some(rest) = buffer.as_mut_slice().get_mut(read_bytes..wanted_bytes).filter(|rest| !rest.is_empty()) {
        read_bytes += counted(rustix::io::pread(file, rest, range.start + read_bytes as u64))?;
    }
    Ok(buffer.freeze(wanted_bytes))
}

/// The buffers for reads of this length; none where more than half of one would lie idle.
fn pool_for(bytes: usize) -> Option<&'static BufferPool> {
    let fits = |size: &usize| (size / 2 + 1..=*size).contains(&bytes);
    READ_SIZES.iter().position(fits).map(|class| &READ_BUFFERS[class])
}

/// How many bytes a read gave; none is the file's end, where there should have been more.
fn counted(outcome: rustix::io::Result<usize>) -> std::io::Result<usize> {
    match outcome {
        Ok(0) => Err(std::io::ErrorKind::UnexpectedEof.into()),
        Ok(count) => Ok(count),
        Err(Errno::INTR) => Ok(0),
        Err(errno) => Err(errno.into()),
    }
}

/// A new file in the folder of what is being written, named after what it will be.
fn new_file(root: &Root, temporary: &OwnedFd, stem: &str) -> Result<(File, String)> {
    let random = getrandom::u64().map_err(|source| {
        Error::with_source(ErrorKind::Failed, root.doing("naming a temporary file for", stem), source)
    })?;
    let name = format!("{stem}.{random:016x}{UNFINISHED_SUFFIX}");
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(temporary, name.as_str(), flags, FILE_MODE)
        .map_err(root.failed("creating", &format!("{TEMPORARY}/{name}")))?;
    Ok((File::from(file), name))
}
/// Free bytes on the disk that a place is on.
fn free_bytes(root: &Root) -> Result<u64> {
    let disk = rustix::fs::fstatvfs(root.handle()).map_err(root.failed("asking for the free space of", "the disk"))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
