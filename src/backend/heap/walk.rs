//! Going through every regular file below a folder, and opening one again; links are never followed.

use super::super::{Error, ErrorKind, MARK_NAME, Result, parse_shard_name};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::ops::{ControlFlow, Range};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const FOLDER_BELOW: OFlags = FOLDER.union(OFlags::NOFOLLOW);
/// Without `NONBLOCK`, opening a pipe that someone put in a file's place would wait for ever.
const FILE_BELOW: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK);
/// Folders deeper than this below the root are not entered: whoever made them did not keep shards in them.
const MAX_DEPTH: usize = 128;

/// An open regular file below a root.
#[derive(Debug)]
pub struct HeapFile {
    file: File,
    bytes: u64,
}

impl HeapFile {
    /// Its length when it was opened.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Exactly these bytes; the caller bounds the range by the length.
    pub fn read(&self, range: Range<u64>) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut bytes, range.start)?;
        Ok(bytes)
    }

    /// Device and inode: whether two names are of one file.
    pub(super) fn identity(&self) -> std::io::Result<(u64, u64)> {
        use std::os::unix::fs::MetadataExt;
        self.file.metadata().map(|file| (file.dev(), file.ino()))
    }
}

/// An open root.
#[derive(Debug)]
pub(super) struct Root {
    handle: OwnedFd,
    path: PathBuf,
}

/// A folder on the way, by its names from the root on.
type Below = Vec<Vec<u8>>;

/// What a walk met.
pub(super) trait Visitor {
    /// A regular file in a folder, which is open.
    fn file(&mut self, folder: &Folder<'_>, name: &CStr) -> Result<ControlFlow<()>>;

    /// Something that could not be looked at.
    fn unreadable(&mut self, error: Error);

    /// A symbolic link, which is not followed.
    fn link(&mut self);
}

/// An open folder of a walk.
pub(super) struct Folder<'a> {
    handle: &'a OwnedFd,
    /// Its names from the root on.
    pub(super) below: &'a [Vec<u8>],
}

impl Folder<'_> {
    /// Opens a file in it; `None` for what is gone or is no regular file.
    pub(super) fn open(&self, name: &CStr) -> Result<Option<HeapFile>, Errno> {
        open_file(self.handle, name.to_bytes())
    }
}

impl Root {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let failed = |errno: Errno| {
            let doing = format!("opening the folder {}", path.display());
            match errno {
                Errno::NOENT => Error::with_source(ErrorKind::Unreachable, doing, errno),
                other => Error::io(doing, other.into()),
            }
        };
        let handle = rustix::fs::open(path, FOLDER, Mode::empty()).map_err(failed)?;
        Ok(Self { handle, path: path.to_owned() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where something is, for people.
    pub(super) fn shown(&self, below: &[impl AsRef<[u8]>]) -> String {
        let mut path = self.path.clone();
        path.extend(below.iter().map(|name| OsStr::from_bytes(name.as_ref())));
        path.display().to_string()
    }

    /// A folder below the root, part by part.
    fn folder(&self, below: &[impl AsRef<[u8]>]) -> Result<OwnedFd, Errno> {
        let mut folder = rustix::fs::openat(&self.handle, ".", FOLDER_BELOW, Mode::empty())?;
        for name in below {
            folder = rustix::fs::openat(&folder, name.as_ref(), FOLDER_BELOW, Mode::empty())?;
        }
        Ok(folder)
    }

    /// A file that a walk met before.
    pub(super) fn file(&self, below: &[&[u8]], name: &[u8]) -> Result<HeapFile> {
        let path: Vec<&[u8]> = below.iter().copied().chain([name]).collect();
        let opened = self.folder(below).and_then(|folder| open_file(&folder, name));
        match opened {
            Ok(Some(file)) => Ok(file),
            Ok(None) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                self.confirm()?;
                Err(Error::new(ErrorKind::NotFound, format!("opening {}", self.shown(&path))))
            }
            Err(errno) => Err(Error::io(format!("opening {}", self.shown(&path)), errno.into())),
        }
    }

    /// The length of a file that a walk met before; `None` when it is gone.
    pub(super) fn length(&self, below: &[&[u8]], name: &[u8]) -> Result<Option<u64>> {
        let stat = self.folder(below).and_then(|folder| rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW));
        match stat {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                Ok(Some(u64::try_from(stat.st_size).unwrap_or(0)))
            }
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => self.confirm().map(|()| None),
            Err(errno) => Err(Error::io(format!("looking at {}", self.shown(&[name])), errno.into())),
        }
    }

    /// That the folder was not deleted: absent is said only of what could be looked at.
    fn confirm(&self) -> Result<()> {
        let doing = || format!("looking at the folder {} again", self.path.display());
        let stat = rustix::fs::fstat(&self.handle).map_err(|errno| Error::io(doing(), errno.into()))?;
        if stat.st_nlink == 0 {
            return Err(Error::with_source(ErrorKind::Unreachable, doing(), "it was deleted"));
        }
        Ok(())
    }

    /// Shows every regular file below to the visitor, folder by folder, until it has seen enough. Only the root itself has
    /// to be readable.
    pub(super) fn walk(&self, visitor: &mut dyn Visitor) -> Result<()> {
        let mut pending: Vec<Below> = vec![Vec::new()];
        while let Some(below) = pending.pop() {
            match self.walk_folder(&below, &mut pending, visitor) {
                Ok(ControlFlow::Break(())) => return Ok(()),
                Ok(ControlFlow::Continue(())) => {}
                Err(WalkError::Visitor(error)) => return Err(error),
                Err(WalkError::Folder(errno)) => {
                    let error = Error::io(format!("looking through {}", self.shown(&below)), errno.into());
                    if below.is_empty() {
                        return Err(error);
                    }
                    visitor.unreadable(error);
                }
            }
        }
        Ok(())
    }

    fn walk_folder(
        &self,
        below: &[Vec<u8>],
        pending: &mut Vec<Below>,
        visitor: &mut dyn Visitor,
    ) -> Result<ControlFlow<()>, WalkError> {
        let handle = self.folder(below)?;
        let folder = Folder { handle: &handle, below };
        for entry in Dir::read_from(&handle)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let flow = match kind(&handle, name, entry.file_type()) {
                Some(FileType::RegularFile) => visitor.file(&folder, name).map_err(WalkError::Visitor)?,
                other => {
                    self.pass(below, (name, other), pending, visitor);
                    ControlFlow::Continue(())
                }
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Notes a folder for later, and what is no regular file.
    fn pass(
        &self,
        below: &[Vec<u8>],
        (name, kind): (&CStr, Option<FileType>),
        pending: &mut Vec<Below>,
        visitor: &mut dyn Visitor,
    ) {
        let path = || -> Below { below.iter().cloned().chain([name.to_bytes().to_vec()]).collect() };
        match kind {
            Some(FileType::Directory) if below.len() < MAX_DEPTH => pending.push(path()),
            Some(FileType::Directory) => {
                let doing = format!("entering {}, {MAX_DEPTH} folders deep", self.shown(&path()));
                visitor.unreadable(Error::new(ErrorKind::Failed, doing));
            }
            Some(FileType::Symlink) => visitor.link(),
            _ => {}
        }
    }
}

/// Why a folder was not gone through to its end.
enum WalkError {
    Folder(Errno),
    Visitor(Error),
}

impl From<Errno> for WalkError {
    fn from(errno: Errno) -> Self {
        Self::Folder(errno)
    }
}

/// What an entry is; some file systems do not say while they list.
fn kind(folder: &OwnedFd, name: &CStr, listed: FileType) -> Option<FileType> {
    if listed != FileType::Unknown {
        return Some(listed);
    }
    let stat = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).ok()?;
    Some(FileType::from_raw_mode(stat.st_mode))
}

fn open_file(folder: &OwnedFd, name: &[u8]) -> Result<Option<HeapFile>, Errno> {
    let file = match rustix::fs::openat(folder, name, FILE_BELOW, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT | Errno::LOOP) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let stat = rustix::fs::fstat(&file)?;
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    Ok(is_file.then(|| HeapFile { file, bytes: u64::try_from(stat.st_size).unwrap_or(0) }))
}

/// Whether nothing lies below a folder but what a backend keeps in its own: a mark, shards under their names, and what is
/// being written.
pub fn holds_only_a_place(path: &Path) -> Result<bool> {
    struct Strays(bool);
    impl Visitor for Strays {
        fn file(&mut self, folder: &Folder<'_>, name: &CStr) -> Result<ControlFlow<()>> {
            let parts: Option<Vec<&str>> = folder.below.iter().map(|part| std::str::from_utf8(part).ok()).collect();
            let is_ours = match (parts.as_deref(), name.to_str()) {
                (Some([]), Ok(name)) => name == MARK_NAME,
                (Some(["tmp"]), Ok(_)) => true,
                (Some(parts), Ok(name)) => parse_shard_name(&format!("{}/{name}", parts.join("/"))).is_some(),
                _ => false,
            };
            self.0 |= !is_ours;
            Ok(if is_ours { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        }

        fn unreadable(&mut self, _error: Error) {}

        fn link(&mut self) {}
    }
    let mut strays = Strays(false);
    Root::open(path)?.walk(&mut strays)?;
    Ok(!strays.0)
}
