//! The open directory handle of a root, and what is done relative to it.

use super::super::ledger::{Ledger, Reservation};
use super::super::{Error, ErrorKind, MARK_NAME, Mark, Result, shard_name};
use super::listing;
use crate::id::ShardId;
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The folder of finished shards.
pub(super) const OBJECTS: &str = "objects";
/// The folder of what is being written.
pub(super) const TEMPORARY: &str = "tmp";
/// A mark is two ids; a longer file is none.
const MAX_MARK_BYTES: u64 = 4096;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const FOLDER_BELOW: OFlags = FOLDER.union(OFlags::NOFOLLOW);
/// Without `NONBLOCK`, opening a pipe that someone put in a shard's place would wait for ever.
const FILE_BELOW: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK);
/// Shards may be readable (seal `none`), so they are their owner's alone.
const FOLDER_MODE: Mode = Mode::RWXU;
pub(super) const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A root as it was when it was opened.
#[derive(Debug)]
pub(super) struct Root {
    handle: OwnedFd,
    path: PathBuf,
    mark: Option<Mark>,
    /// Device and inode: whether two handles are of one folder.
    identity: (u64, u64),
    books: Arc<Books>,
    /// Folders whose own entry is known to be on the disk, so that only the first shard in each pays for that.
    durable_folders: Mutex<BTreeSet<String>>,
}

/// The quota of a folder, and the lock under which lengths of finished shards change.
#[derive(Debug)]
struct Books {
    quota_bytes: Option<u64>,
    ledger: Mutex<Option<Arc<Ledger>>>,
}

/// Holds off every other change of a finished shard's length while one is made.
pub(super) struct Commit<'a> {
    ledger: MutexGuard<'a, Option<Arc<Ledger>>>,
}

impl Commit<'_> {
    /// A finished shard of this length was removed.
    pub(super) fn removed(&self, bytes: u64) {
        if let Some(ledger) = self.ledger.as_ref() {
            ledger.remove(bytes);
        }
    }
}

impl Root {
    /// Opens a root and reads its mark.
    pub(super) fn open(path: &Path, quota_bytes: Option<u64>) -> Result<Self> {
        let doing = || format!("opening the folder {}", path.display());
        let failed = |errno: Errno| match errno {
            Errno::NOENT | Errno::NOTDIR => Error::with_source(ErrorKind::Unreachable, doing(), errno),
            other => Error::io(doing(), other.into()),
        };
        let handle = rustix::fs::open(path, FOLDER, Mode::empty()).map_err(failed)?;
        let stat = rustix::fs::fstat(&handle).map_err(failed)?;
        let books = Arc::new(Books { quota_bytes, ledger: Mutex::new(None) });
        // The widths of these differ between systems.
        #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
        let identity = (stat.st_dev as u64, stat.st_ino as u64);
        let mut root =
            Self { handle, path: path.to_owned(), mark: None, identity, books, durable_folders: Mutex::default() };
        root.mark = root.mark_now()?;
        Ok(root)
    }

    /// Goes on with what an earlier handle of the same folder had counted and promised.
    pub(super) fn inherit(&mut self, earlier: &Self) {
        if self.identity == earlier.identity {
            self.books = Arc::clone(&earlier.books);
        }
    }

    /// The mark it had when it was opened.
    pub(super) fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// `reading objects/ab/….3.shard in /mnt/nas`.
    pub(super) fn doing(&self, verb: &str, name: &str) -> String {
        format!("{verb} {name} in {}", self.path.display())
    }

    pub(super) fn failed(&self, verb: &str, name: &str) -> impl Fn(Errno) -> Error + use<> {
        let doing = self.doing(verb, name);
        move |errno| Error::io(doing.clone(), errno.into())
    }

    /// The mark as it is now, through the handle.
    fn mark_now(&self) -> Result<Option<Mark>> {
        let failed = self.failed("reading", MARK_NAME);
        let file = match rustix::fs::openat(&self.handle, MARK_NAME, FILE_BELOW, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(errno)),
        };
        let length = regular_length(&file).map_err(&failed)?;
        if length > MAX_MARK_BYTES {
            let doing = self.doing("reading", MARK_NAME);
            let why = format!("a mark has at most {MAX_MARK_BYTES} bytes, this file has {length}");
            return Err(Error::with_source(ErrorKind::Failed, doing, why));
        }
        let mut text = vec![0; length as usize];
        file.read_exact_at(&mut text, 0).map_err(|source| Error::io(self.doing("reading", MARK_NAME), source))?;
        let mark = serde_json::from_slice(&text)
            .map_err(|source| Error::with_source(ErrorKind::Failed, self.doing("understanding", MARK_NAME), source))?;
        Ok(Some(mark))
    }

    /// Whether this is still the place that was opened: its folder exists and has the mark it had.
    pub(super) fn confirm(&self) -> Result<()> {
        let gone = |why: &str| {
            let doing = format!("looking at the folder {} again", self.path.display());
            Err(Error::with_source(ErrorKind::Unreachable, doing, why))
        };
        let Some(mark) = self.mark else {
            let stat = rustix::fs::fstat(&self.handle).map_err(self.failed("looking at", "the folder"))?;
            return if stat.st_nlink == 0 { gone("it was deleted") } else { Ok(()) };
        };
        match self.mark_now()? {
            Some(now) if now == mark => Ok(()),
            Some(_) => gone("its mark is another one now"),
            None => gone("its mark is gone"),
        }
    }

    /// An error about a shard, unless the place itself is what is missing: absent is never said of what could not be
    /// looked at.
    pub(super) fn unless_gone(&self, error: Error) -> Error {
        match error.kind {
            ErrorKind::NotFound => self.confirm().err().unwrap_or(error),
            _ => error,
        }
    }

    /// A folder below the root, part by part.
    pub(super) fn folder(&self, parts: &[&str]) -> Result<OwnedFd, Errno> {
        let (first, rest) = parts.split_first().ok_or(Errno::INVAL)?;
        let mut folder = rustix::fs::openat(&self.handle, *first, FOLDER_BELOW, Mode::empty())?;
        for part in rest {
            folder = rustix::fs::openat(&folder, *part, FOLDER_BELOW, Mode::empty())?;
        }
        Ok(folder)
    }

    /// A folder below the root, made where it is missing; its own entry, and its parents', are on the disk afterwards.
    pub(super) fn make_folder(&self, parts: &[&str]) -> Result<OwnedFd> {
        let name = parts.join("/");
        let failed = self.failed("making the folder", &name);
        let known = self.durable_folders().contains(&name);
        if known && let Ok(folder) = self.folder(parts) {
            return Ok(folder);
        }
        let mut parent = self.handle.try_clone().map_err(|source| Error::io(self.doing("opening", "it"), source))?;
        for part in parts {
            match rustix::fs::mkdirat(&parent, *part, FOLDER_MODE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(failed(errno)),
            }
            let folder = rustix::fs::openat(&parent, *part, FOLDER_BELOW, Mode::empty()).map_err(&failed)?;
            // Also when it was there: whoever made it may not have come this far.
            self.sync(&File::from(parent), &name)?;
            parent = folder;
        }
        self.durable_folders().insert(name);
        Ok(parent)
    }

    /// Puts a file or a folder's entries on the disk. A failure is final: the system may have dropped what it could not
    /// write, so that a second fsync would say `Ok` of bytes that are gone.
    pub(super) fn sync(&self, file: &File, name: &str) -> Result<()> {
        file.sync_all().map_err(|source| {
            let mut error = Error::io(self.doing("syncing", name), source);
            if error.kind == ErrorKind::Transient {
                error.kind = ErrorKind::Failed;
            }
            error
        })
    }

    /// Puts the root's own entries on the disk.
    pub(super) fn sync_root(&self) -> Result<()> {
        let handle = self.handle.try_clone().map_err(|source| Error::io(self.doing("opening", "it"), source))?;
        self.sync(&File::from(handle), "the folder")
    }

    /// The root's directory handle.
    pub(super) fn handle(&self) -> &OwnedFd {
        &self.handle
    }

    /// A finished shard, opened for reading, and its length.
    pub(super) fn open_shard(&self, shard: ShardId) -> Result<(File, u64)> {
        let name = shard_name(shard);
        let open = || {
            let folder = self.folder(&[OBJECTS, folder_of(&name)])?;
            let file = File::from(rustix::fs::openat(&folder, file_of(&name), FILE_BELOW, Mode::empty())?);
            let length = regular_length(&file)?;
            Ok((file, length))
        };
        open().map_err(|errno| self.unless_gone(self.failed("opening", &name)(errno)))
    }

    /// A finished shard's length; `None` when it is absent.
    pub(super) fn shard_length(&self, folder: &OwnedFd, name: &str) -> Result<Option<u64>> {
        match rustix::fs::statat(folder, file_of(name), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(u64::try_from(stat.st_size).unwrap_or(0))),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(self.failed("looking at", name)(errno)),
        }
    }

    /// A writer's reservation in the quota, which is counted now if it was not.
    pub(super) fn reserve(&self, replaced_bytes: u64) -> Result<Reservation> {
        let mut ledger = self.books.ledger.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ledger) = ledger.as_ref() {
            return Ok(ledger.begin(replaced_bytes));
        }
        let used_bytes = match self.books.quota_bytes {
            Some(_) => listing::count(self)?.used_bytes,
            None => 0,
        };
        let counted = ledger.insert(Ledger::new(self.books.quota_bytes, used_bytes));
        Ok(counted.begin(replaced_bytes))
    }

    /// Holds off other changes of finished shards' lengths, where there is a quota that depends on them.
    pub(super) fn commit(&self) -> Option<Commit<'_>> {
        self.books.quota_bytes?;
        Some(Commit { ledger: self.books.ledger.lock().unwrap_or_else(PoisonError::into_inner) })
    }

    fn durable_folders(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.durable_folders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The folder below `objects/` that a shard name says: its first two digits.
pub(super) fn folder_of(name: &str) -> &str {
    name.split('/').nth(1).unwrap_or_default()
}

/// The last part of a shard name.
pub(super) fn file_of(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or_default()
}

/// The length of an open regular file; `INVAL` for anything else.
fn regular_length(file: &File) -> Result<u64, Errno> {
    let stat = rustix::fs::fstat(file)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => u64::try_from(stat.st_size).map_err(|_| Errno::INVAL),
        FileType::Directory => Err(Errno::ISDIR),
        _ => Err(Errno::INVAL),
    }
}

/// Removes the folders below a root in which nothing is.
pub(super) fn remove_empty_folders(root: &Path) {
    let objects = root.join(OBJECTS);
    let below = std::fs::read_dir(&objects).into_iter().flatten().flatten().map(|entry| entry.path());
    for folder in below.chain([objects.clone(), root.join(TEMPORARY)]) {
        // One that is not empty, or not there, stays as it is.
        let _ = std::fs::remove_dir(folder);
    }
}

/// Makes a root and its parents, and puts each new entry on the disk.
pub(super) fn create_root(root: &Path) -> Result<()> {
    let doing = || format!("making the folder {}", root.display());
    let root = std::path::absolute(root).map_err(|source| Error::io(doing(), source))?;
    let missing: Vec<&Path> = root.ancestors().take_while(|path| !path.is_dir()).collect();
    for path in missing.into_iter().rev() {
        match std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).create(path) {
            Err(source) if source.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::io(doing(), source));
            }
            _ => {}
        }
        let parent = path.parent().unwrap_or(Path::new("/"));
        File::open(parent)
            .and_then(|folder| folder.sync_all())
            .map_err(|source| Error::io(format!("syncing the folder {}", parent.display()), source))?;
    }
    Ok(())
}
