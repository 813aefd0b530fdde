//! Folders that files are recovered into: opened once, never left through a link.

use super::finished::Finished;
use crate::error::{Error, ErrorKind, Result};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
/// What new folders get, less what the process withholds.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o777);

/// What happens to a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// It stays, and recovering to its name fails.
    #[default]
    Keep,
    /// It is replaced when the recovered file is whole.
    Replace,
}

/// What helps where a file and a folder have one name, as a store may have `c` and `c/d`.
const RECOVER_ALONE: &str = "a name can be recovered alone, to another place: shard recover NAME -o PATH";

fn no_folder(path: &Path) -> Error {
    let doing = format!("{} is in the way: a file is there, and a folder is needed", path.display());
    Error::new(ErrorKind::Refused, doing).with_hint(RECOVER_ALONE)
}

/// Makes the name of a folder durable.
fn sync_above(folder: &Path) -> std::io::Result<()> {
    let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(above)?.sync_all()
}

/// An open folder.
#[derive(Debug)]
pub(in crate::ops) struct Folder {
    handle: OwnedFd,
    path: PathBuf,
    /// Shared with every folder below.
    finished: Arc<Mutex<Finished>>,
}

impl Folder {
    /// Opens a folder that a person named, making it first if there is none, and says what it made. Links in this path are
    /// theirs to follow.
    pub(in crate::ops) fn open(path: &Path) -> Result<(Self, Vec<PathBuf>)> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::NotADirectory => no_folder(path),
            _ => Error::local(format!("cannot write into {}", path.display()), error),
        };
        let is_absent = |path: &&Path| !path.as_os_str().is_empty() && path.symlink_metadata().is_err();
        let mut made: Vec<PathBuf> = path.ancestors().take_while(is_absent).map(Path::to_owned).collect();
        made.reverse();
        std::fs::create_dir_all(path).map_err(failed)?;
        made.iter().try_for_each(|folder| sync_above(folder)).map_err(failed)?;
        let handle = rustix::fs::openat(CWD, path, FOLDER, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        Ok((Self { handle, path: path.to_owned(), finished: Arc::default() }, made))
    }

    /// Opens a folder below this one, making what is not there and noting what was made.
    ///
    /// [`ErrorKind::Refused`] when a link on the way leads out of this folder: what is recovered stays in it.
    pub(super) fn below(self: &Arc<Self>, relative: &Path, made: &mut Vec<PathBuf>) -> Result<Arc<Self>> {
        let mut folder = Arc::clone(self);
        for component in relative.components() {
            let Component::Normal(part) = component else {
                let doing = format!("{} does not stay below {}", relative.display(), self.path.display());
                return Err(Error::new(ErrorKind::Refused, doing));
            };
            folder = Arc::new(folder.step(part, &self.path, made)?);
        }
        Ok(folder)
    }

    fn step(&self, part: &OsStr, base: &Path, made: &mut Vec<PathBuf>) -> Result<Self> {
        let path = self.path.join(part);
        let failed = |errno: Errno| Error::local(format!("cannot write into {}", path.display()), errno.into());
        let open = || rustix::fs::openat(&self.handle, part, FOLDER.union(OFlags::NOFOLLOW), Mode::empty());
        let opened = match open() {
            Err(Errno::NOENT) => match rustix::fs::mkdirat(&self.handle, part, FOLDER_MODE) {
                Ok(()) => {
                    made.push(path.clone());
                    // Files in it are told as recovered, and this folder may never get one of its own.
                    rustix::fs::fsync(&self.handle).and_then(|()| open())
                }
                Err(Errno::EXIST) => open(),
                Err(errno) => Err(errno),
            },
            outcome => outcome,
        };
        match opened {
            Ok(handle) => Ok(Self { handle, path, finished: Arc::clone(&self.finished) }),
            // Linux says NOTDIR of a link that is not followed, others LOOP.
            Err(Errno::LOOP | Errno::NOTDIR) if self.is_link(part) => self.follow(&path, base),
            Err(Errno::NOTDIR) => Err(no_folder(&path)),
            Err(errno) => Err(failed(errno)),
        }
    }

    fn is_link(&self, part: &OsStr) -> bool {
        let stat = rustix::fs::statat(&self.handle, part, AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
    }

    /// Through a link, if it ends inside the base.
    fn follow(&self, path: &Path, base: &Path) -> Result<Self> {
        let failed = |error| Error::local(format!("cannot follow the link {}", path.display()), error);
        let (real, base) = (path.canonicalize().map_err(failed)?, base.canonicalize().map_err(failed)?);
        if !real.starts_with(&base) {
            let doing =
                format!("the link {} leads out of {}; nothing is recovered through it", path.display(), base.display());
            return Err(
                Error::new(ErrorKind::Refused, doing).with_hint("remove the link, or recover into an empty folder")
            );
        }
        let handle = rustix::fs::openat(CWD, &real, FOLDER.union(OFlags::NOFOLLOW), Mode::empty());
        let handle = handle.map_err(|errno| failed(errno.into()))?;
        Ok(Self { handle, path: path.to_owned(), finished: Arc::clone(&self.finished) })
    }

    /// The open folder itself.
    pub(super) fn handle(&self) -> &OwnedFd {
        &self.handle
    }

    /// What was put into it and the folders below so far; nothing is replaced there while this is held.
    pub(super) fn finished(&self) -> MutexGuard<'_, Finished> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a file of this name is.
    pub(super) fn path_of(&self, name: &OsStr) -> PathBuf {
        self.path.join(name)
    }

    /// [`ErrorKind::Refused`] if there is something of that name and it is to be kept.
    pub(super) fn refuse_existing(&self, name: &OsStr, existing: Existing) -> Result<()> {
        let found = rustix::fs::statat(&self.handle, name, AtFlags::SYMLINK_NOFOLLOW);
        match found {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                let doing = format!("{} is a folder", self.path_of(name).display());
                Err(Error::new(ErrorKind::Refused, doing).with_hint(RECOVER_ALONE))
            }
            Ok(_) if existing == Existing::Keep => Err(self.exists(name)),
            Ok(_) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Error::local(format!("cannot look at {}", self.path_of(name).display()), errno.into())),
        }
    }

    /// That something of that name is there.
    pub(super) fn exists(&self, name: &OsStr) -> Error {
        let doing = format!("{} is there already", self.path_of(name).display());
        Error::new(ErrorKind::Refused, doing).with_hint("--force replaces it")
    }

    /// That a file of that name was put there just now, under this path.
    pub(super) fn meets(&self, name: &OsStr, other: &Path) -> Error {
        let doing = format!(
            "{} is {} by another name, which was just recovered",
            self.path_of(name).display(),
            other.display()
        );
        Error::new(ErrorKind::Refused, doing).with_hint("recover them one by one, to different folders")
    }

    /// Makes the names in it survive a loss of power.
    pub(in crate::ops) fn sync(&self) -> Result<()> {
        let failed =
            |errno: Errno| Error::local(format!("cannot sync the folder {}", self.path.display()), errno.into());
        rustix::fs::fsync(&self.handle).map_err(failed)
    }
}
