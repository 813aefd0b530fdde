//! Folders that files are recovered into: opened once, never left through a link, files appearing in them whole.

use crate::error::{Error, ErrorKind, Result};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::{File, FileTimes, Permissions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const NEW_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Until it is whole, a file is its owner's alone.
const UNFINISHED_MODE: Mode = Mode::RUSR.union(Mode::WUSR);
/// What a file gets that is only a part of one, less what the process withholds.
const PART_MODE: Mode = Mode::from_raw_mode(0o666);
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

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    handle: OwnedFd,
    path: PathBuf,
}

/// What a recovered file gets beside its bytes; a part of a file gets nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attributes {
    pub(super) mode: u32,
    pub(super) mtime_ns: i64,
}

impl Folder {
    /// Opens a folder that a person named, making it first if there is none, and says what it made. Links in this path are
    /// theirs to follow.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<PathBuf>)> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::NotADirectory => no_folder(path),
            _ => Error::local(format!("cannot write into {}", path.display()), error),
        };
        let is_absent = |path: &&Path| !path.as_os_str().is_empty() && path.symlink_metadata().is_err();
        let mut made: Vec<PathBuf> = path.ancestors().take_while(is_absent).map(Path::to_owned).collect();
        made.reverse();
        std::fs::create_dir_all(path).map_err(failed)?;
        let handle = rustix::fs::openat(CWD, path, FOLDER, Mode::empty()).map_err(|errno| failed(errno.into()))?;
        Ok((Self { handle, path: path.to_owned() }, made))
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
                    open()
                }
                Err(Errno::EXIST) => open(),
                Err(errno) => Err(errno),
            },
            outcome => outcome,
        };
        match opened {
            Ok(handle) => Ok(Self { handle, path }),
            // Linux says NOTDIR of a link that is not followed, others LOOP.
            Err(Errno::LOOP | Errno::NOTDIR) if self.is_link(part) => Self::follow(&path, base),
            Err(Errno::NOTDIR) => Err(no_folder(&path)),
            Err(errno) => Err(failed(errno)),
        }
    }

    fn is_link(&self, part: &OsStr) -> bool {
        let stat = rustix::fs::statat(&self.handle, part, AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
    }

    /// Through a link, if it ends inside the base.
    fn follow(path: &Path, base: &Path) -> Result<Self> {
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
        Ok(Self { handle, path: path.to_owned() })
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

    fn exists(&self, name: &OsStr) -> Error {
        let doing = format!("{} is there already", self.path_of(name).display());
        Error::new(ErrorKind::Refused, doing).with_hint("--force replaces it")
    }

    /// Makes the names in it survive a loss of power.
    pub(super) fn sync(&self) -> Result<()> {
        let failed =
            |errno: Errno| Error::local(format!("cannot sync the folder {}", self.path.display()), errno.into());
        rustix::fs::fsync(&self.handle).map_err(failed)
    }
}

/// A file on its way, under a name of its own; dropped before it is named, it is gone.
#[derive(Debug)]
pub(super) struct NewFile {
    folder: Arc<Folder>,
    name: OsString,
    temporary: Option<String>,
    file: File,
    existing: Existing,
}

impl NewFile {
    /// Begins the file that will have this name.
    pub(super) fn create(
        folder: Arc<Folder>,
        name: &OsStr,
        existing: Existing,
        attributes: Option<&Attributes>,
    ) -> Result<Self> {
        folder.refuse_existing(name, existing)?;
        let failed = |error| Error::local(format!("cannot create {}", folder.path_of(name).display()), error);
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| failed(std::io::Error::other(error)))?;
        let temporary = format!(".shard-{}.tmp", hex::encode(random));
        let mode = if attributes.is_some() { UNFINISHED_MODE } else { PART_MODE };
        let handle = rustix::fs::openat(&folder.handle, temporary.as_str(), NEW_FILE, mode);
        let file = File::from(handle.map_err(|errno| failed(errno.into()))?);
        Ok(Self { folder, name: name.to_owned(), temporary: Some(temporary), file, existing })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|error| self.failed(error))
    }

    fn failed(&self, error: std::io::Error) -> Error {
        Error::local(format!("cannot write {}", self.folder.path_of(&self.name).display()), error)
    }

    /// Gives the whole file its attributes and its name, once its bytes are on the disk. The folder is left to sync.
    pub(super) fn finish(mut self, attributes: Option<&Attributes>) -> Result<()> {
        if let Some(attributes) = attributes {
            let permissions = Permissions::from_mode(attributes.mode & 0o7777);
            self.file.set_permissions(permissions).map_err(|error| self.failed(error))?;
            let times = FileTimes::new().set_modified(time(attributes.mtime_ns));
            self.file.set_times(times).map_err(|error| self.failed(error))?;
        }
        self.file.sync_all().map_err(|error| self.failed(error))?;
        let Some(temporary) = self.temporary.as_deref() else { return Ok(()) };
        let handle = &self.folder.handle;
        let named = match self.existing {
            Existing::Replace => rustix::fs::renameat(handle, temporary, handle, &self.name),
            Existing::Keep => rename_to_new(handle, temporary, &self.name),
        };
        match named {
            Ok(()) => {
                self.temporary = None;
                Ok(())
            }
            Err(Errno::EXIST) => Err(self.folder.exists(&self.name)),
            Err(errno) => Err(self.failed(errno.into())),
        }
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // Should this fail too, a file that says by its name what it is stays behind.
            let _ = rustix::fs::unlinkat(&self.folder.handle, temporary.as_str(), AtFlags::empty());
        }
    }
}

fn time(mtime_ns: i64) -> SystemTime {
    let distance = Duration::from_nanos(mtime_ns.unsigned_abs());
    let moved = if mtime_ns < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(distance)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(distance)
    };
    moved.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Gives a file its name unless something has that name.
fn rename_to_new(folder: &OwnedFd, from: &str, to: &OsStr) -> Result<(), Errno> {
    #[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
    match rustix::fs::renameat_with(folder, from, folder, to, rustix::fs::RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
        outcome => return outcome,
    }
    match rustix::fs::linkat(folder, from, folder, to, AtFlags::empty()) {
        Ok(()) => rustix::fs::unlinkat(folder, from, AtFlags::empty()).or(Ok(())),
        // Where there are no hard links either (FAT), looking first has to do.
        Err(Errno::PERM | Errno::NOSYS | Errno::NOTSUP) => {
            match rustix::fs::statat(folder, to, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(_) => Err(Errno::EXIST),
                Err(Errno::NOENT) => rustix::fs::renameat(folder, from, folder, to),
                Err(errno) => Err(errno),
            }
        }
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    const WHOLE: Attributes = Attributes { mode: 0o640, mtime_ns: 1_500_000_000_123_456_789 };

    fn base() -> (tempfile::TempDir, Arc<Folder>) {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = Arc::new(Folder::open(dir.path()).expect("opens").0);
        (dir, folder)
    }

    fn write(folder: &Arc<Folder>, name: &str, existing: Existing) -> Result<()> {
        let mut file = NewFile::create(Arc::clone(folder), OsStr::new(name), existing, Some(&WHOLE))?;
        file.write(b"new")?;
        file.finish(Some(&WHOLE))
    }

    #[test]
    fn a_file_appears_with_mode_and_time_and_nothing_beside_it() {
        let (dir, folder) = base();
        write(&folder, "a", Existing::Keep).expect("writes");
        let metadata = dir.path().join("a").metadata().expect("there");
        assert_eq!(metadata.permissions().mode() & 0o7777, 0o640);
        let modified = metadata.modified().expect("a time").duration_since(SystemTime::UNIX_EPOCH).expect("after");
        assert_eq!(modified.as_nanos(), 1_500_000_000_123_456_789);
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 1);
        folder.sync().expect("syncs");
    }

    #[test]
    fn an_existing_file_stays_unless_it_is_to_be_replaced() {
        let (dir, folder) = base();
        std::fs::write(dir.path().join("a"), "old").expect("writes");
        assert_eq!(write(&folder, "a", Existing::Keep).expect_err("refused").kind, ErrorKind::Refused);
        assert_eq!(std::fs::read(dir.path().join("a")).expect("reads"), b"old");
        write(&folder, "a", Existing::Replace).expect("replaces");
        assert_eq!(std::fs::read(dir.path().join("a")).expect("reads"), b"new");
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 1);
    }

    #[test]
    fn a_file_that_appears_in_the_meantime_stays() {
        let (dir, folder) = base();
        let mut file = NewFile::create(Arc::clone(&folder), OsStr::new("a"), Existing::Keep, None).expect("begins");
        file.write(b"new").expect("writes");
        std::fs::write(dir.path().join("a"), "theirs").expect("writes");
        assert_eq!(file.finish(None).expect_err("refused").kind, ErrorKind::Refused);
        assert_eq!(std::fs::read(dir.path().join("a")).expect("reads"), b"theirs");
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 1);
    }

    #[test]
    fn a_file_that_is_given_up_leaves_nothing() {
        let (dir, folder) = base();
        let mut file = NewFile::create(folder, OsStr::new("a"), Existing::Keep, Some(&WHOLE)).expect("begins");
        file.write(b"half").expect("writes");
        drop(file);
        assert_eq!(std::fs::read_dir(dir.path()).expect("lists").count(), 0);
    }

    #[test]
    fn a_link_that_leads_out_is_not_followed_and_one_that_stays_is() {
        let (dir, folder) = base();
        let outside = tempfile::tempdir().expect("a folder");
        symlink(outside.path(), dir.path().join("out")).expect("links");
        std::fs::create_dir_all(dir.path().join("in/deep")).expect("makes");
        symlink("in/deep", dir.path().join("short")).expect("links");
        for path in ["out", "out/x", "in/deep/../../out"] {
            assert_eq!(
                folder.below(Path::new(path), &mut Vec::new()).expect_err("refused").kind,
                ErrorKind::Refused,
                "{path}"
            );
        }
        write(&folder.below(Path::new("short/er"), &mut Vec::new()).expect("stays inside"), "a", Existing::Keep)
            .expect("writes");
        assert!(dir.path().join("in/deep/er/a").exists());
        assert_eq!(std::fs::read_dir(outside.path()).expect("lists").count(), 0);
    }

    #[test]
    fn a_folder_or_a_link_in_a_files_place_is_never_written_through() {
        let (dir, folder) = base();
        let outside = tempfile::tempdir().expect("a folder");
        let target = outside.path().join("target");
        std::fs::write(&target, "theirs").expect("writes");
        symlink(&target, dir.path().join("link")).expect("links");
        std::fs::create_dir(dir.path().join("folder")).expect("makes");
        assert_eq!(write(&folder, "link", Existing::Keep).expect_err("refused").kind, ErrorKind::Refused);
        assert_eq!(write(&folder, "folder", Existing::Replace).expect_err("refused").kind, ErrorKind::Refused);
        write(&folder, "link", Existing::Replace).expect("replaces the link");
        assert_eq!(std::fs::read(&target).expect("reads"), b"theirs");
    }
}
